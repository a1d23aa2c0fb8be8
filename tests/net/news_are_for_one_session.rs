//! What is news to one session costs the others nothing: the loop looks at those alone for whom a
//! bell rang, and misses none.

use crate::testkit::{caller, common, keys::Unasked};

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::PublicKey;
use anonchat::keys::Keyring;
use anonchat::net::hub::{Bell, Hub, WAKE};
use anonchat::net::listen::{
    Answering, Caller, End, Heard, Host, Limits, Listener, Notice, Origin, Stage,
};
use anonchat::net::receiver::{Hired, Progress, Receiver, Route};
use anonchat::proto::stream::meta::Meta;
use anonchat::proto::stream::record::Kind;
use anonchat::sched::limits::Bounds;
use anonchat::sched::mux::{Ending, Sink, Ticket};
use anonchat::sched::party::Source;
use common::{DEADLINE, Home};
use mio::Events;

/// Sessions that have said something once, and then say nothing.
const IDLE: usize = 6;
/// What another says meanwhile.
const MESSAGES: u64 = 40;

/// Takes messages in a thread of its own, as an inbox does, and counts how often it is asked.
struct Counting {
    bell: Bell,
    rings: bool,
    done: Arc<AtomicUsize>,
    answered: usize,
    asked: Rc<Cell<u64>>,
}

impl Receiver for Counting {
    fn begin(&mut self, _: &Meta, _: u64) {}
    fn data(&mut self, _: &[u8]) {}
    fn abort(&mut self) {}

    fn end(&mut self) {
        let (bell, done) = (self.bell.clone(), Arc::clone(&self.done));
        thread::spawn(move || {
            done.fetch_add(1, Ordering::SeqCst);
            bell.ring();
        });
    }

    fn has_room(&self) -> bool {
        true
    }

    fn rings(&self) -> bool {
        self.rings
    }

    fn progress(&mut self) -> Option<Progress> {
        self.asked.update(|asked| asked + 1);
        let news = self.done.load(Ordering::SeqCst) > self.answered;
        self.answered += usize::from(news);
        news.then_some(Progress::Delivered)
    }
}

/// Everybody is heard, and everything goes to a [`Counting`].
struct House {
    bell: Bell,
    /// Whether each rings its session's own bell.
    own_bells: bool,
    asked: Rc<RefCell<BTreeMap<Source, Rc<Cell<u64>>>>>,
    over: Arc<AtomicBool>,
}

impl Host for House {
    fn admit(&mut self, caller: &PublicKey, _: usize, _: bool) -> Option<Caller> {
        Some(Caller { name: "alice".into(), origin: Origin::Key(*caller), known: true })
    }

    fn unproven(&mut self, _: SocketAddr) -> Caller {
        unreachable!("nobody is heard without encryption")
    }

    fn notice(&mut self, _: Notice<'_>) {}

    fn route(&mut self, _: Source, _: &Caller, _: &Meta) -> Route {
        Route::Receiver(1)
    }

    fn hire(&mut self, _: usize, session: Source, _: &Caller) -> io::Result<Hired> {
        let asked = Rc::default();
        self.asked.borrow_mut().insert(session, Rc::clone(&asked));
        let rings = self.own_bells;
        let bell = if rings { self.bell.of(session) } else { self.bell.clone() };
        let receiver = Counting { bell, rings, done: Arc::default(), answered: 0, asked };
        Ok(Hired { receiver: Box::new(receiver), feed: None })
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// An output to which nothing goes.
struct Nowhere;

impl Sink<Heard> for Nowhere {
    fn has_room(&self) -> bool {
        true
    }
    fn begin(&mut self, _: &Heard) {}
    fn data(&mut self, _: &Heard, _: &[u8]) {}
    fn end(&mut self, _: &Heard, _: Ending) {}
    fn mark(&mut self) -> Ticket {
        Ticket(0)
    }
}

impl Stage for Nowhere {
    fn settle(&mut self) {}
    fn flushed(&self) -> Ticket {
        Ticket(0)
    }
    fn take_error(&mut self) -> Option<io::Error> {
        None
    }
    fn watched(&self) -> Option<RawFd> {
        None
    }
}

/// [`IDLE`] sessions say one message each, then another says [`MESSAGES`] of them, one after the
/// other. How often whoever takes those of each was asked, the busiest last.
fn asked(own_bells: bool) -> Vec<u64> {
    let (me, them) = (Home::with_identity(), Home::with_identity());
    let key = Keyring::at(them.path()).identity(&mut Unasked).unwrap();
    let keys = [Answering { access: *key.access.as_bytes(), pair: key.pair }];
    let mut hub = Hub::unarmed().unwrap();
    let bell = hub.bell();
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Rc::default());
    let mut house =
        House { bell: bell.clone(), own_bells, asked: Rc::clone(&asked), over: Arc::clone(&over) };
    let socket = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let callers = thread::spawn(move || {
        let mut idle: Vec<_> = (0..IDLE).map(|_| caller::Caller::call(&me, &them, port)).collect();
        idle.iter_mut().for_each(|caller| say(caller, 1));
        let mut busy = caller::Caller::call(&me, &them, port);
        say(&mut busy, MESSAGES as usize);
        over.store(true, Ordering::SeqCst);
        bell.ring();
    });
    let silence = Duration::from_secs(60);
    let limits = Limits {
        silence,
        idle: Some(DEADLINE),
        count: None,
        trace: false,
        bounds: Bounds::new(silence),
    };
    let mut nowhere = Nowhere;
    let mut listener = Listener::new(&mut hub, &keys, limits, &mut house, &mut nowhere);
    listener.hear_tcp(socket).unwrap();
    assert!(matches!(listener.run(), Ok(End::Done)));
    callers.join().unwrap();
    let mut asked: Vec<u64> = asked.borrow().values().map(|asked| asked.get()).collect();
    asked.sort_unstable();
    asked
}

fn say(caller: &mut caller::Caller, messages: usize) {
    for _ in 0..messages {
        let before = caller.acks();
        caller.message(b"hi");
        let more = |heard: &[(Kind, Vec<u8>)]| {
            heard.iter().filter(|(kind, _)| *kind == Kind::Ack).count() > before
        };
        caller.wait("an acknowledgement", more);
    }
}

#[test]
fn sessions_without_news_are_not_looked_at() {
    let asked_of = asked(true);
    let (idle, busy) = (asked_of[IDLE - 1], asked_of[IDLE]);
    assert!(busy >= MESSAGES, "whoever says much is asked about it: {busy}");
    assert!(idle < MESSAGES / 2, "an idle session was looked at {idle} times");
    // Whoever says nothing of bells is asked whenever one rings.
    let careful = asked(false)[0];
    assert!(careful >= MESSAGES / 2, "it was asked {careful} times only");
}

#[test]
fn no_ring_is_lost_and_each_is_for_its_session() {
    const SESSIONS: u64 = 5;
    const ROUNDS: u64 = 200;
    let mut hub = Hub::unarmed().unwrap();
    let (heard, hears) = mpsc::channel();
    let bell = hub.bell();
    // A session rings again only after it was told that its last ring was heard.
    let ringers: Vec<_> = (0..SESSIONS)
        .map(|session| {
            let (tell, told) = mpsc::channel();
            let (bell, heard) =
                (bell.of(Source::Connection(1024 + session as usize)), heard.clone());
            thread::spawn(move || {
                for _ in 0..ROUNDS {
                    bell.ring();
                    told.recv_timeout(DEADLINE).unwrap();
                }
                heard.send(session).unwrap();
            });
            tell
        })
        .collect();
    let mut events = Events::with_capacity(8);
    let end = Instant::now() + DEADLINE;
    let mut done = 0;
    while done < SESSIONS {
        assert!(Instant::now() < end, "a ring was lost");
        let until = hub.clock.now().mono + Duration::from_millis(20);
        hub.wait(&mut events, Some(until)).unwrap();
        for session in hub.rung() {
            // Who has ended needs to hear nothing.
            let _ = ringers[session - 1024].send(());
        }
        done += hears.try_iter().count() as u64;
    }
}

#[test]
fn a_ring_for_nobody_wakes_and_names_nobody() {
    let mut hub = Hub::unarmed().unwrap();
    let mut events = Events::with_capacity(8);
    hub.bell().ring();
    hub.wait(&mut events, Some(hub.clock.now().mono + DEADLINE)).unwrap();
    assert!(events.iter().any(|event| event.token() == WAKE));
    assert_eq!(hub.rung().count(), 0);
}

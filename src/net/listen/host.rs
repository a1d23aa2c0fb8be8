//! What a listener needs of the program around it, and what it tells it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::crypto::sodium::{KeyPair, PublicKey};
use crate::net::dial::DialError;
use crate::net::feed::Feed;
use crate::net::receiver::{Hired, Route};
use crate::net::send::Cut;
use crate::net::sockets::Transport;
use crate::net::via::Place;
use crate::proto::stream::link::Crossing;
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::stream::record::RefuseCode;
use crate::proto::time::Now;
use crate::sched::limits::{Bounds, Limit};
use crate::sched::mux::{Sink, Ticket};
use crate::sched::party::{Network, Party, Source};

/// A key that answers here.
pub struct Answering {
    /// The key pair.
    pub pair: KeyPair,
    /// Its `access`, 32 bytes.
    pub access: [u8; 32],
}

/// What a caller has shown of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// That it holds this key.
    Key(PublicKey),
    /// Nothing: no encryption. Where the bytes came from, as far as anybody can tell.
    Plain(SocketAddr),
}

/// Who is heard, as far as their key tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Petname, or what stands for one; safe to show.
    pub name: String,
    /// What they have shown.
    pub origin: Origin,
    /// Whether it is a contact.
    pub known: bool,
}

impl Caller {
    /// With whom it shares what a listener has for one. `from` is where it calls from, as far as
    /// that means anything.
    pub fn party(&self, from: Option<SocketAddr>) -> Party {
        match (self.origin, from) {
            (Origin::Key(key), _) if self.known => Party::Contact(key),
            (Origin::Plain(address), _) | (_, Some(address)) => {
                Party::Address(Network::of(address.ip()))
            }
            _ => Party::Unknown,
        }
    }
}

/// What is known of a message when it begins.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Names it.
    pub id: [u8; 16],
    /// Whose it is.
    pub caller: Caller,
    /// The sender's clock, Unix ms; ours if it is not known.
    pub sent_ms: u64,
    /// Ours, Unix ms.
    pub arrived_ms: u64,
    /// A [`crate::proto::stream::meta::MessageKind`], or a number that this version does not know.
    pub kind: u8,
    /// How it came.
    pub transport: Transport,
}

impl Heard {
    /// What `meta` says of a message of `caller` that comes by `transport` now.
    pub fn new(meta: &Meta, caller: &Caller, transport: Transport, now: Now) -> Self {
        Self {
            id: meta.id,
            caller: caller.clone(),
            sent_ms: meta.time_ms,
            arrived_ms: now.unix_ms,
            kind: meta.kind,
            transport,
        }
    }
}

/// A call that the program around the loop wants made; its session then joins the others.
pub struct Outgoing {
    /// Names it in [`Notice::Reached`] and [`Notice::NotReached`].
    pub number: u64,
    /// Which of our keys calls, by its place among those that answer.
    pub key: usize,
    /// The key that is called.
    pub peer: PublicKey,
    /// Its `access`, 32 bytes.
    pub access: [u8; 32],
    /// How its messages are shown.
    pub name: String,
    /// Whether it is a contact.
    pub known: bool,
    /// Where to try, in turn.
    pub targets: Vec<Place>,
    /// What is said.
    pub feed: Box<dyn Feed>,
    /// Whether the session ends once that was said and answered.
    pub once: bool,
}

/// How a session ended.
#[derive(Debug)]
pub enum Parting {
    /// Everything that either side began was answered; in a chat this alone would not do.
    InOrder,
    /// They said that they leave.
    Left,
    /// Something was under way.
    Cut(Cut),
    /// We could not go on saying what we had to say.
    Unread(io::Error),
}

/// Something to tell the user beside the messages.
#[derive(Debug)]
pub enum Notice<'a> {
    /// The key proved itself, and is nobody whom we hear.
    TurnedAway(&'a PublicKey),
    /// A session begins: somebody called.
    Connected(&'a Caller, SocketAddr),
    /// A session begins: the call of this number was answered, and we were let in.
    Reached(u64, Source, SocketAddr),
    /// The call of this number reached nobody.
    NotReached(u64, &'a DialError),
    /// A session is over.
    Disconnected(Source, &'a Caller, &'a Parting),
    /// A message is acknowledged, or written if nothing was encrypted: this many bytes.
    Delivered(&'a Heard, u64),
    /// A message ended before it was whole.
    Cut(&'a Heard, &'static str),
    /// Something crossed the wire.
    Crossed(&'a Crossing),
    /// Somebody who is let in has come to a limit, and waits.
    Kept(Limit, &'a Caller),
    /// The same before anybody has shown who they are.
    KeptOut(Limit, Network),
    /// What became of listening at the relay of this name.
    Relay(&'a str, RelayNews<'a>),
}

/// What there is to say of a relay.
#[derive(Debug, Clone, Copy)]
pub enum RelayNews<'a> {
    /// All that is to be read there is read: from the first time on, or again.
    Listening,
    /// Of some mailboxes it says that it cannot let us read them; that is tried again.
    Refused,
    /// It was not reached; that is tried again.
    Unreached(&'a DialError),
    /// The link to it was lost; that is tried again.
    Lost(&'static str),
}

/// What the loop asks of the program around it.
pub trait Host {
    /// Whether the holder of `caller` is heard when it calls key number `key`. `proven` says that
    /// the caller's key is certain even to other holders of that key.
    fn admit(&mut self, caller: &PublicKey, key: usize, proven: bool) -> Option<Caller>;
    /// Who is heard from `address` without encryption.
    fn unproven(&mut self, address: SocketAddr) -> Caller;
    /// Tells the user.
    fn notice(&mut self, notice: Notice<'_>);

    /// Where a message of `caller` goes.
    fn route(&mut self, session: Source, caller: &Caller, meta: &Meta) -> Route {
        let _ = (session, caller);
        shown(meta)
    }

    /// Somebody for those messages of one session that [`Host::route`] sends to receiver `number`.
    ///
    /// # Errors
    /// When the system has no threads or descriptors left; the message is refused.
    fn hire(&mut self, number: usize, session: Source, caller: &Caller) -> io::Result<Hired> {
        let _ = (number, session, caller);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What is said to `caller`, whose session begins.
    fn feed(&mut self, session: Source, caller: &Caller) -> Option<Box<dyn Feed>> {
        let _ = (session, caller);
        None
    }

    /// `caller` is in a chat and takes lines in return: what is said to it, if there is a chat here.
    fn greeted(&mut self, session: Source, caller: &Caller) -> Option<Box<dyn Feed>> {
        let _ = (session, caller);
        None
    }

    /// The contacts who are heard: whose mailboxes at relays are read.
    fn correspondents(&mut self) -> Vec<PublicKey> {
        Vec::new()
    }

    /// When [`Host::next_call`] or [`Host::is_over`] may say something else without news, by the
    /// hub's clock.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// The next call to make. Asked for once a turn; the bell tells when there is a new one.
    fn next_call(&mut self) -> Option<Outgoing> {
        None
    }

    /// Whether the program has done what it was started for.
    fn is_over(&self) -> bool {
        false
    }
}

/// Messages and lines of chat are shown, nothing else is wanted.
pub fn shown(meta: &Meta) -> Route {
    match [MessageKind::Message as u8, MessageKind::ChatLine as u8].contains(&meta.kind) {
        true => Route::Output,
        false => Route::Refused(RefuseCode::NotWanted, String::new()),
    }
}

/// The form that messages take, and the output that they go to.
pub trait Stage: Sink<Heard> {
    /// Nothing more comes for now: sends on what was gathered.
    fn settle(&mut self);
    /// The last ticket whose bytes were all written.
    fn flushed(&self) -> Ticket;
    /// The output's first error, once.
    fn take_error(&mut self) -> Option<io::Error>;
    /// The descriptor to watch for a reader that goes away.
    fn watched(&self) -> Option<RawFd>;
}

/// How long, how many, how openly.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A session may be silent this long.
    pub silence: Duration,
    /// The listener ends after hearing nothing for so long.
    pub idle: Option<Duration>,
    /// The listener ends after so many messages.
    pub count: Option<u64>,
    /// Note what crosses the wire.
    pub trace: bool,
    /// What one caller may have, and all of them together.
    pub bounds: Bounds,
}

/// Why a listener ended without an error of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It heard as many messages as it was asked to.
    Enough,
    /// Nobody said anything for as long as was allowed, after so many messages.
    Silence(u64),
    /// The program around it has done what it was started for.
    Done,
}

/// Why it ended otherwise.
#[derive(Debug)]
pub enum ListenError {
    /// The output failed: nothing was acknowledged that was not written.
    Output(io::Error),
    /// The system failed us.
    Local(io::Error),
    /// A signal arrived; the peers have been told.
    Signal(i32),
    /// There is nothing to listen at: the relay of this name, like all others, was not reached.
    Unreached(String, DialError),
}

//! The pure core of streams, driven by seed: many senders, a listener, an output that is slow; bytes
//! split and sides interleaved at random, clocks that jump, senders that pause, give up and die.
//!
//! `AC_TEST_SEEDS` says how many worlds are played, `AC_TEST_SEED` plays one again.

use crate::testkit::random::{Dice, seeds};

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anonchat::crypto::sodium::KeyPair;
use anonchat::proto::stream::gate::{Answer, Gate, Passage};
use anonchat::proto::stream::handshake::{Initiator, REPLY_LEN, Responding};
use anonchat::proto::stream::inbound::{Inbound, Step};
use anonchat::proto::stream::link::Link;
use anonchat::proto::stream::meta::{Meta, Welcome};
use anonchat::proto::stream::record::{
    AbortCode, Kind, MAX_BODY, RefuseCode, parse_abort, parse_refuse, parse_total, refuse_body,
};
use anonchat::proto::stream::replay::ReplayGuard;
use anonchat::proto::stream::session::{PlainBuffer, plain_buffer};
use anonchat::proto::time::Now;
use anonchat::sched::mux::{Ending, HELD_BYTES, Mux, Sink, Ticket, Written};
use anonchat::sched::party::Source;

const ACCESS: [u8; 32] = [3; 32];
/// An owner may be silent this long while others wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a connection is read at once, as in the real listener: waiting, and owning the output.
const READ: usize = 64 * 1024;
const OWNER_READ: usize = 256 * 1024;
/// What an owner may have waiting, and all together: `Mux`, "limits".
const OWNER_HELD: usize = 256 * 1024;
const ALL_HELD: usize = 8 * 1024 * 1024;
/// Bytes on their way in one direction, as in a socket's buffers.
const WIRE: usize = 100_000;

/// Which message: sender and number.
type Id = (usize, usize);

/// The bytes of message `id` from `at` on.
fn content(id: Id, at: usize, len: usize) -> impl Iterator<Item = u8> {
    (at..at + len).map(move |n| (n % 251 + 7 * id.0 + 31 * id.1) as u8)
}

/// An output that checks what it is given.
#[derive(Default)]
struct Paper {
    open: Option<Id>,
    /// Bytes written of each message.
    written: BTreeMap<Id, usize>,
    ended: BTreeMap<Id, Ending>,
    /// Messages in the order in which they began.
    order: Vec<Id>,
    /// What stood there when each ticket was drawn: the message that ended last.
    tickets: Vec<Option<Id>>,
    last_ended: Option<Id>,
    flushed: u64,
    /// How many more bytes it takes before it is full.
    room: usize,
}

impl Sink<Id> for Paper {
    fn has_room(&self) -> bool {
        self.room > 0
    }

    fn begin(&mut self, id: &Id) {
        assert_eq!(self.open.replace(*id), None, "two messages at once");
        assert_eq!(self.written.insert(*id, 0), None, "{id:?} began twice");
        self.order.push(*id);
    }

    fn data(&mut self, id: &Id, bytes: &[u8]) {
        assert_eq!(self.open, Some(*id), "bytes of another message");
        let at = self.written.get_mut(id).unwrap();
        assert!(content(*id, *at, bytes.len()).eq(bytes.iter().copied()), "{id:?} after {at}");
        *at += bytes.len();
        self.room = self.room.saturating_sub(bytes.len());
    }

    fn end(&mut self, id: &Id, ending: Ending) {
        assert_eq!(self.open.take(), Some(*id), "the end of another message");
        self.ended.insert(*id, ending);
        self.last_ended = Some(*id);
    }

    fn mark(&mut self) -> Ticket {
        self.tickets.push(self.last_ended);
        Ticket(self.tickets.len() as u64)
    }
}

/// Bytes on their way, and whether more will come.
#[derive(Default)]
struct Wire {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Wire {
    /// Takes up to `most` of what the link has for it.
    fn carry(&mut self, link: &mut Link, most: usize) {
        let take = link.pending().len().min(most).min(WIRE.saturating_sub(self.bytes.len()));
        if !self.closed {
            self.bytes.extend(&link.pending()[..take]);
        }
        link.consumed(take);
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let take = most.min(self.bytes.len());
        self.bytes.drain(..take).collect()
    }
}

/// What one sender does, and how far it is.
struct Sender {
    number: usize,
    initiator: Option<Initiator>,
    reply: Vec<u8>,
    hello: Vec<u8>,
    link: Option<Link>,
    /// Lengths of its messages.
    lengths: Vec<usize>,
    /// The message that it sends, and how much of it is sealed.
    current: usize,
    sealed: usize,
    begun: bool,
    paused_until: Duration,
    /// It gives up the message with this number after so many bytes.
    gives_up: Option<(usize, usize)>,
    /// Message numbers that were acknowledged.
    acknowledged: Vec<usize>,
    welcomed: bool,
    refused: Option<u8>,
    /// The message that the listener refused. A sender of one message knows; one of several would
    /// have to tell it from the ACKs that come before and after.
    refused_message: Option<usize>,
    dead: bool,
}

impl Sender {
    fn new(number: usize, dice: &mut Dice, bob: &KeyPair, now: Now) -> Self {
        let me = KeyPair::generate();
        let (initiator, hello) = Initiator::start(&me, bob.public(), &ACCESS, now.unix_ms).unwrap();
        let lengths: Vec<_> = (0..dice.within(1..4))
            .map(|_| match dice.below(4) {
                0 => dice.below(3),
                1 => dice.below(500),
                2 => dice.below(70_000),
                _ => dice.below(400_000),
            })
            .collect();
        let gives_up = dice.one_in(5).then(|| {
            let which = dice.below(lengths.len());
            (which, dice.below(lengths[which] + 1))
        });
        Self {
            number,
            initiator: Some(initiator),
            reply: Vec::new(),
            hello: hello.to_vec(),
            link: None,
            lengths,
            current: 0,
            sealed: 0,
            begun: false,
            paused_until: Duration::ZERO,
            gives_up,
            acknowledged: Vec::new(),
            welcomed: false,
            refused: None,
            refused_message: None,
            dead: false,
        }
    }

    /// Seals a little more, or is quiet for a while.
    fn act(&mut self, dice: &mut Dice, now: Now, may_pause: bool) {
        let Some(link) = &mut self.link else { return };
        link.keep_alive(now);
        let done = self.current == self.lengths.len() || self.refused.is_some();
        if done || now.mono < self.paused_until || link.pending().len() > WIRE {
            return;
        }
        if may_pause && dice.one_in(40) {
            self.paused_until = now.mono + Duration::from_millis(dice.below(90_000) as u64);
            return;
        }
        let len = self.lengths[self.current];
        if !self.begun {
            self.begun = true;
            let mut id = [0; 16];
            (id[0], id[1]) = (self.number as u8, self.current as u8);
            link.send(Kind::Meta, &Meta::message(id, now.unix_ms).encode(), now);
        } else if self.gives_up.is_some_and(|(m, at)| m == self.current && self.sealed >= at) {
            link.send(Kind::Abort, &[AbortCode::CannotRead as u8], now);
            self.next();
        } else if self.sealed < len {
            let most = if dice.one_in(2) { MAX_BODY } else { 300 };
            let size = dice.within(1..most + 1).min(len - self.sealed);
            let bytes = content((self.number, self.current), self.sealed, size);
            link.data_space().iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
            link.send_data(size, now);
            self.sealed += size;
        } else {
            link.send(Kind::End, &(len as u64).to_be_bytes(), now);
            self.next();
        }
    }

    fn next(&mut self) {
        self.current += 1;
        self.sealed = 0;
        self.begun = false;
    }

    /// Whether message `number` is one that it gave up, or that was refused.
    fn gave_up(&self, number: usize) -> bool {
        self.refused_message == Some(number)
            || self.gives_up.is_some_and(|(given_up, _)| given_up == number)
    }

    fn hear(&mut self, mut bytes: &[u8], now: Now, plain: &mut PlainBuffer) {
        if self.link.is_none() {
            let take = (REPLY_LEN - self.reply.len()).min(bytes.len());
            self.reply.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            let Ok(reply) = <[u8; REPLY_LEN]>::try_from(self.reply.as_slice()) else { return };
            let (session, confirm) = self.initiator.take().unwrap().confirm(&reply).unwrap();
            let mut link = Link::new(session, now, false);
            link.send_raw(&confirm);
            self.link = Some(link);
        }
        let (mut acks, mut refused, mut welcomed) = (Vec::new(), None, self.welcomed);
        let link = self.link.as_mut().unwrap();
        link.feed(bytes, now, plain, |kind, body| {
            match kind {
                Kind::Welcome => {
                    assert!(!std::mem::replace(&mut welcomed, true), "welcomed twice");
                    Welcome::decode(body)?;
                }
                _ if !welcomed => panic!("{kind:?} before WELCOME"),
                Kind::Ack => acks.push(parse_total(body)?),
                Kind::Refuse => refused = Some(parse_refuse(body)?.0),
                Kind::Abort => drop(parse_abort(body)?),
                Kind::Pad => {}
                _ => panic!("{kind:?} from a listener"),
            }
            Ok(())
        })
        .unwrap();
        self.welcomed = welcomed;
        for total in acks {
            // ACKs come in the order of the messages; those that it gave up have none.
            let from = self.acknowledged.last().map_or(0, |last| last + 1);
            let number = (from..self.lengths.len()).find(|n| !self.gave_up(*n)).unwrap();
            assert_eq!(total, self.lengths[number] as u64, "ACK of another length");
            self.acknowledged.push(number);
        }
        if let Some(code) = refused {
            self.refused.get_or_insert(code);
            if self.begun {
                self.link.as_mut().unwrap().send(Kind::Abort, &[AbortCode::Refused as u8], now);
            }
        }
    }
}

/// The listener's side of one connection.
enum Conn {
    Gate(Gate, Vec<u8>),
    Open(Box<Open>),
    Gone,
}

struct Open {
    link: Link,
    inbound: Inbound,
    current: Option<Id>,
    whole: VecDeque<Id>,
}

struct World {
    dice: Dice,
    now: Now,
    bob: KeyPair,
    senders: Vec<Sender>,
    conns: Vec<Conn>,
    /// To the listener and from it, by sender.
    up: Vec<Wire>,
    down: Vec<Wire>,
    replays: ReplayGuard,
    mux: Mux<Id>,
    paper: Paper,
    written: VecDeque<Written>,
    plain: PlainBuffer,
    count: Option<u64>,
    /// Bytes handed to the mux of each message that has not ended on paper and was not cut.
    given: BTreeMap<Id, usize>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let now = Now { mono: Duration::ZERO, unix_ms: 1_800_000_000_000 };
        let bob = KeyPair::generate();
        let number = dice.within(1..9);
        let senders: Vec<_> = (0..number).map(|n| Sender::new(n, &mut dice, &bob, now)).collect();
        let conns =
            senders.iter().map(|_| Conn::Gate(Gate::new(now, &mut dice.0), Vec::new())).collect();
        let count = dice.one_in(3).then(|| dice.within(1..6) as u64);
        Self {
            up: senders.iter().map(|_| Wire::default()).collect(),
            down: senders.iter().map(|_| Wire::default()).collect(),
            mux: Mux::new(count, PATIENCE),
            paper: Paper::default(),
            written: VecDeque::new(),
            plain: plain_buffer(),
            replays: ReplayGuard::default(),
            given: BTreeMap::new(),
            dice,
            now,
            bob,
            senders,
            conns,
            count,
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.unix_ms += time.as_millis() as u64;
    }

    /// Somebody does something.
    fn step(&mut self) {
        let who = self.dice.below(self.senders.len());
        let size = self.dice.below(OWNER_READ);
        match self.dice.below(12) {
            0..4 => self.send(who, true),
            4..8 => self.listen_to(who, size),
            8 => self.tell(who, size),
            9 => {
                self.paper.room = size;
                self.flush(false);
            }
            10 => self.advance_a_little(),
            _ if self.dice.one_in(400) => self.die(who),
            _ => {}
        }
        self.serve();
    }

    fn advance_a_little(&mut self) {
        let ms = match self.dice.below(60) {
            0 => 40_000,
            1..6 => self.dice.below(2000),
            _ => self.dice.below(30),
        };
        self.advance(Duration::from_millis(ms as u64));
        self.advance(Duration::from_nanos(1));
    }

    fn send(&mut self, who: usize, may_pause: bool) {
        let (sender, wire) = (&mut self.senders[who], &mut self.up[who]);
        if sender.dead {
            return;
        }
        let hello = sender.hello.len().min(1 + self.dice.below(2000));
        wire.bytes.extend(sender.hello.drain(..hello));
        sender.act(&mut self.dice, self.now, may_pause);
        if let Some(link) = &mut sender.link {
            wire.carry(link, 1 + self.dice.below(2 * WIRE));
        }
    }

    fn die(&mut self, who: usize) {
        self.senders[who].dead = true;
        self.up[who].closed = true;
        let lost = self.dice.below(self.up[who].bytes.len() + 1);
        let kept = self.up[who].bytes.len() - lost;
        self.up[who].bytes.truncate(kept);
    }

    /// The listener reads from one connection, if its message has room.
    fn listen_to(&mut self, who: usize, most: usize) {
        let source = Source::Connection(who);
        if !self.mux.has_room(source) {
            return;
        }
        if self.dice.one_in(4) {
            // The output makes room at any moment, not only between two turns of the listener.
            self.paper.room = if self.dice.one_in(2) { 0 } else { self.dice.below(OWNER_READ) };
        }
        let limit = if self.mux.owns(source) { OWNER_READ } else { READ };
        let bytes = self.up[who].take(most.min(limit));
        if bytes.is_empty() && self.up[who].closed && self.up[who].bytes.is_empty() {
            return self.leave(who);
        }
        self.take(who, &bytes);
    }

    fn leave(&mut self, who: usize) {
        if let Conn::Open(open) = &mut self.conns[who]
            && let Some(id) = open.current.take()
        {
            self.mux.cut(Source::Connection(who));
            self.given.remove(&id);
        }
        self.conns[who] = Conn::Gone;
    }

    fn take(&mut self, who: usize, bytes: &[u8]) {
        let now = self.now;
        match &mut self.conns[who] {
            Conn::Gone => {}
            Conn::Gate(gate, reply) => {
                let keys = [Responding { pair: &self.bob, access: &ACCESS }];
                match gate.feed(bytes, now) {
                    Passage::Nothing => {
                        let answer = gate.answer(now, &keys, &mut self.replays);
                        if let Answer::Reply(message) = answer {
                            reply.extend_from_slice(&message[..]);
                        }
                    }
                    Passage::Proved { session, consumed, .. } => {
                        assert!(reply.is_empty(), "message 3 before message 2");
                        let mut link = Link::new(*session, now, false);
                        link.send(Kind::Welcome, &Welcome::default().encode(), now);
                        let (inbound, whole) = (Inbound::default(), VecDeque::new());
                        let open = Open { link, inbound, current: None, whole };
                        self.conns[who] = Conn::Open(Box::new(open));
                        self.take(who, &bytes[consumed..]);
                    }
                }
            }
            Conn::Open(open) => {
                let source = Source::Connection(who);
                let Open { link, inbound, current, whole } = &mut **open;
                let (mux, paper, given) = (&mut self.mux, &mut self.paper, &mut self.given);
                link.feed(bytes, now, &mut self.plain, |kind, body| {
                    match inbound.step(kind, body)? {
                        Step::Begin(meta) => {
                            let id = (usize::from(meta.id[0]), usize::from(meta.id[1]));
                            mux.begin(source, id, now.mono);
                            given.insert(id, 0);
                            *current = Some(id);
                        }
                        Step::Data(data) => {
                            mux.data(source, data, now.mono, paper);
                            *given.get_mut(&current.unwrap()).unwrap() += data.len();
                        }
                        Step::End => {
                            mux.end(source);
                            whole.extend(current.take());
                        }
                        Step::Aborted(_) => {
                            mux.cut(source);
                            given.remove(&current.take().unwrap());
                        }
                        Step::StartAt(_) | Step::Nothing => {}
                    }
                    Ok(())
                })
                .unwrap();
            }
        }
    }

    /// The listener's words travel to one sender.
    fn tell(&mut self, who: usize, most: usize) {
        let wire = &mut self.down[who];
        match &mut self.conns[who] {
            Conn::Gone => {}
            Conn::Gate(_, reply) => {
                let take = most.min(reply.len());
                wire.bytes.extend(reply.drain(..take));
            }
            Conn::Open(open) => {
                open.link.keep_alive(self.now);
                wire.carry(&mut open.link, most);
            }
        }
        let bytes = wire.take(most);
        if !self.senders[who].dead && !bytes.is_empty() {
            self.senders[who].hear(&bytes, self.now, &mut self.plain);
        }
    }

    /// What a listener does in each turn.
    fn serve(&mut self) {
        if let Some(source) = self.mux.overdue(self.now.mono) {
            self.cut_slow(source);
        }
        let was_sated = self.mux.is_sated();
        let began = self.paper.order.len();
        let mut written = Vec::new();
        self.mux.pump(self.now.mono, &mut self.paper, &mut written);
        assert!(!was_sated || self.paper.order.len() == began, "a message after the last one");
        self.written.extend(written);
        self.pump_again_changes_nothing();
        self.flush(false);
        self.check_memory();
    }

    fn cut_slow(&mut self, slow: Source) {
        let slow = slow.connection().unwrap();
        let Conn::Open(open) = &mut self.conns[slow] else { panic!("an owner without a session") };
        let id = open.current.take().expect("an owner that is whole is not slow");
        assert_eq!(self.paper.open, Some(id), "not the owner");
        let others = self.given.keys().filter(|(who, _)| *who != slow).count();
        assert!(others > 0, "cut for nobody");
        open.link.send(Kind::Refuse, &refuse_body(RefuseCode::TooSlow, ""), self.now);
        open.inbound.refuse();
        self.senders[slow].refused_message = Some(id.1);
        self.mux.cut(Source::Connection(slow));
        self.given.remove(&id);
    }

    /// Until the deadline that it names, and without news, a mux has nothing to do.
    fn pump_again_changes_nothing(&mut self) {
        let next = self.mux.next_deadline();
        if next.is_some_and(|at| at <= self.now.mono) {
            return;
        }
        let before = (self.paper.order.len(), self.paper.tickets.len(), self.paper.open);
        let just_before = next
            .map_or(self.now.mono + Duration::from_secs(3600), |at| at - Duration::from_nanos(1));
        let mut written = Vec::new();
        self.mux.pump(just_before, &mut self.paper, &mut written);
        assert_eq!(self.mux.overdue(just_before), None, "overdue before the deadline");
        let after = (self.paper.order.len(), self.paper.tickets.len(), self.paper.open);
        assert_eq!((before, 0), (after, written.len()), "something to do before the deadline");
    }

    /// The output writes some of what it has, and ACKs go out.
    fn flush(&mut self, all: bool) {
        let drawn = self.paper.tickets.len() as u64;
        let more = drawn - self.paper.flushed;
        let some = if all { more } else { self.dice.below(more as usize + 1) as u64 };
        self.paper.flushed += some;
        while self.written.front().is_some_and(|w| w.ticket.0 <= self.paper.flushed) {
            let done = self.written.pop_front().unwrap();
            self.acknowledge(done);
        }
    }

    fn acknowledge(&mut self, done: Written) {
        let who = done.source.connection().unwrap();
        let total = done.total.expect("nobody asked for parts");
        let id = self.paper.tickets[done.ticket.0 as usize - 1].unwrap();
        assert_eq!(id.0, who, "the ticket of another's message");
        assert_eq!(self.paper.ended.get(&id), Some(&Ending::Whole));
        assert_eq!(self.paper.written[&id] as u64, total, "acknowledged before it was written");
        self.given.remove(&id);
        if let Conn::Open(open) = &mut self.conns[who] {
            assert_eq!(open.whole.pop_front(), Some(id), "acknowledged out of order");
            open.link.send(Kind::Ack, &total.to_be_bytes(), self.now);
        }
    }

    /// What is held is bounded, whoever sends whatever: one read beyond the limit, with the record
    /// that it completes.
    fn check_memory(&self) {
        let mut held = BTreeMap::<usize, usize>::new();
        for (id, given) in &self.given {
            let written = self.paper.written.get(id).copied().unwrap_or_default();
            *held.entry(id.0).or_default() += given - written;
        }
        for (who, held) in held {
            let source = Source::Connection(who);
            let once = self.mux.owns(source) || self.paper.order.iter().any(|id| id.0 == who);
            let limit = if once { OWNER_HELD + OWNER_READ } else { HELD_BYTES + READ };
            assert!(held <= limit + MAX_BODY, "{held} bytes of sender {who}");
        }
    }

    /// Nobody pauses or dies any more: everything comes to its end.
    fn settle(&mut self) {
        let rounds = 20_000;
        for _ in 0..rounds {
            self.paper.room = 1 << 20;
            for who in 0..self.senders.len() {
                self.send(who, false);
                self.listen_to(who, OWNER_READ);
                self.tell(who, OWNER_READ);
            }
            self.serve();
            self.flush(true);
            self.advance(Duration::from_millis(100));
            if self.is_over() {
                return self.check_the_end();
            }
        }
        let stuck: Vec<_> =
            self.senders.iter().map(|s| (s.current, s.lengths.len(), s.refused, s.dead)).collect();
        panic!("no end: {stuck:?}, open {:?}, sated {}", self.paper.open, self.mux.is_sated());
    }

    fn is_over(&self) -> bool {
        let sated = self.mux.is_sated() && self.written.is_empty();
        let over = |s: &Sender| {
            let own = (0..s.lengths.len()).filter(|n| !s.gave_up(*n)).count();
            s.dead || s.refused.is_some() || s.acknowledged.len() == own
        };
        let read = |(wire, conn): (&Wire, &Conn)| !wire.closed || matches!(conn, Conn::Gone);
        let all_read = self.up.iter().zip(&self.conns).all(read);
        sated || (self.senders.iter().all(over) && all_read && self.paper.open.is_none())
    }

    fn check_the_end(&self) {
        let paper = &self.paper;
        let whole = paper.ended.values().filter(|e| **e == Ending::Whole).count() as u64;
        assert!(self.count.is_none_or(|count| whole <= count), "more than were asked for");
        for (id, ending) in &paper.ended {
            let length = self.senders[id.0].lengths[id.1];
            match ending {
                Ending::Whole => assert_eq!(paper.written[id], length, "{id:?}"),
                Ending::Cut => assert!(paper.written[id] <= length),
            }
        }
        for sender in &self.senders {
            let own: Vec<_> = paper.order.iter().filter(|id| id.0 == sender.number).collect();
            assert!(own.is_sorted(), "out of order: {own:?}");
            for number in &sender.acknowledged {
                let ending = paper.ended.get(&(sender.number, *number));
                assert_eq!(ending, Some(&Ending::Whole), "acknowledged and not there");
            }
        }
    }
}

/// Says which seed it was when a world falls apart.
struct Playing(u64);

impl Drop for Playing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("play it again with AC_TEST_SEED={seed}\n").as_bytes(),
            );
        }
    }
}

#[test]
fn messages_are_whole_contiguous_in_order_and_acknowledged_only_when_written() {
    let (mut whole, mut cut, mut refused, mut sated) = (0, 0, 0, 0);
    for seed in seeds(40) {
        let _playing = Playing(seed);
        let mut world = World::new(seed);
        for _ in 0..world.dice.within(500..6000) {
            world.step();
        }
        world.settle();
        let endings = || world.paper.ended.values();
        whole += endings().filter(|e| **e == Ending::Whole).count();
        cut += endings().filter(|e| **e == Ending::Cut).count();
        refused += world.senders.iter().filter(|s| s.refused.is_some()).count();
        sated += usize::from(world.mux.is_sated());
    }
    // The worlds are worth playing: everything that is to be survived happens in them.
    if seeds(40).count() >= 40 {
        assert!(
            whole > 40 && cut > 3 && refused > 3 && sated > 3,
            "{whole} {cut} {refused} {sated}"
        );
    }
}

#[test]
fn a_thousand_senders_who_wait_are_held_in_bounded_memory_and_all_have_their_turn() {
    let now = Duration::from_secs(1);
    let mut mux = Mux::new(None, PATIENCE);
    let mut paper = Paper::default();
    let mut sent = vec![0; 1000];
    for (who, sent) in sent.iter_mut().enumerate() {
        let source = Source::Connection(who);
        mux.begin(source, (who, 0), now);
        while mux.has_room(source) {
            let record: Vec<_> = content((who, 0), *sent, MAX_BODY).collect();
            mux.data(source, &record, now, &mut paper);
            *sent += MAX_BODY;
        }
    }
    let held: usize = sent.iter().sum();
    assert!((ALL_HELD..ALL_HELD + MAX_BODY).contains(&held), "{held} bytes");

    for who in 0..1000 {
        mux.end(Source::Connection(who));
    }
    paper.room = usize::MAX;
    let mut written = Vec::new();
    mux.pump(now, &mut paper, &mut written);
    assert_eq!(written.len(), 1000);
    mux.begin(Source::Connection(1000), (1000, 0), now);
    assert!(mux.has_room(Source::Connection(1000)), "what was written still counts");
}

#[test]
fn an_owner_may_be_silent_for_as_long_as_it_likes_while_nobody_waits() {
    let mut mux = Mux::new(None, PATIENCE);
    let mut paper = Paper { room: 1 << 20, ..Paper::default() };
    let mut now = Duration::ZERO;
    mux.begin(Source::Connection(0), (0, 0), now);
    mux.data(Source::Connection(0), &content((0, 0), 0, 2).collect::<Vec<_>>(), now, &mut paper);
    now += Duration::from_millis(200);
    mux.pump(now, &mut paper, &mut Vec::new());
    assert!(mux.owns(Source::Connection(0)));
    now += 100 * PATIENCE;
    assert_eq!((mux.overdue(now), mux.next_deadline()), (None, None));

    mux.begin(Source::Connection(1), (1, 0), now);
    mux.end(Source::Connection(1));
    mux.pump(now, &mut paper, &mut Vec::new());
    let cut_at = mux.next_deadline().expect("somebody waits now");
    assert_eq!(mux.overdue(cut_at), Some(Source::Connection(0)));
}

#[test]
fn a_message_is_held_until_it_ends_or_is_large_or_has_waited() {
    for (bytes, wait_ms, ended, flows) in [
        (10, 199, false, false),
        (10, 200, false, true),
        (10, 0, true, true),
        (HELD_BYTES - 1, 0, false, false),
        (HELD_BYTES, 0, false, true),
    ] {
        let mut mux = Mux::new(None, PATIENCE);
        let mut paper = Paper { room: 1 << 20, ..Paper::default() };
        mux.begin(Source::Connection(0), (0, 0), Duration::ZERO);
        let message: Vec<_> = content((0, 0), 0, bytes).collect();
        mux.data(Source::Connection(0), &message, Duration::ZERO, &mut paper);
        if ended {
            mux.end(Source::Connection(0));
        }
        mux.pump(Duration::from_millis(wait_ms), &mut paper, &mut Vec::new());
        assert_eq!(paper.order.len() == 1, flows, "{bytes} bytes, {wait_ms} ms, ended: {ended}");
    }
}

//! One relay: the link to it, whenever there is one, and how far everything is that is read there.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use mio::Token;
use mio::event::Event;

use crate::crypto::sodium::random;
use crate::net::dial::{CONNECT_TIME, Calling, DialError};
use crate::net::hub::Hub;
use crate::net::listen::{Answering, Host, Notice, RelayNews};
use crate::net::via::Relay;
use crate::net::via::backoff::Backoff;
use crate::net::via::link::{LinkCall, Linked, SILENCE, noop_after};
use crate::net::wire::{Left, Read, Wire};
use crate::proto::datagram::packet::PACKET_LEN;
use crate::proto::relay::cell::{Address, Cell, Command, Log};
use crate::proto::relay::link::CellLink;
use crate::proto::relay::mailbox::Reader;
use crate::proto::relay::reading::{Order, Reading};
use crate::proto::stream::record::Violation;
use crate::proto::time::Now;

/// The longest first pause before a lost relay is called again, and the longest of all.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What is read from a link at once, in bytes: about 50 cells.
const READ: usize = 64 * 1024;
/// While so many bytes wait to be written, no more mailboxes are asked for.
const MANY_UNWRITTEN: usize = 256 * 1024;
/// While so many bytes wait to be written, nothing is read: it would be answered.
const MOST_UNWRITTEN: usize = 1024 * 1024;
/// Posts that the relay has not confirmed, at most; beyond, the oldest is not said again.
const MAX_POSTS: usize = 1024;
/// The user reads no more than this often that a relay is lost.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// A cell for which there was no room is shown again after this, if not before.
const SHOW_AGAIN: Duration = Duration::from_secs(1);

/// A packet that came, or LIVE.
pub struct Incoming {
    /// [`Cell::flags`].
    flags: u8,
    id: u64,
    log: Log,
    address: Address,
    /// Without one it is LIVE.
    packet: Option<Box<[u8; PACKET_LEN]>>,
}

impl Incoming {
    fn of(cell: &Cell<'_>) -> Self {
        let Cell { flags, id, log, address, .. } = *cell;
        Self { flags, id, log, address, packet: cell.packet().map(|packet| Box::new(*packet)) }
    }

    /// The packet, if it is one.
    pub fn packet(&self) -> Option<&[u8; PACKET_LEN]> {
        self.packet.as_deref()
    }

    /// The cell that it came in.
    pub fn cell(&self) -> Cell<'_> {
        let body = self.packet.as_ref().map_or(&[][..], |packet| &packet[..]);
        let Self { flags, id, log, address, .. } = *self;
        Cell { flags, id, log, address, body, ..Cell::new(Command::Cell) }
    }
}

struct Open {
    wire: Wire,
    link: CellLink,
    /// What proves our right to read, for each key.
    readers: Vec<Option<Reader>>,
    ttl: Duration,
    /// NOOP is due after this.
    noop: Duration,
    /// Cells that were opened and wait for their turn.
    inbox: VecDeque<Incoming>,
    /// It was not read until then for want of room; that is no silence.
    excused: Duration,
}

enum State {
    /// There is no link until then.
    Resting(Duration),
    Calling(Box<Calling<LinkCall>>),
    Open(Box<Open>),
}

/// One relay.
pub struct Uplink {
    relay: Rc<Relay>,
    token: Token,
    state: State,
    /// How far it is read.
    pub reading: Reading,
    posts: BTreeMap<u64, (Address, Box<[u8; PACKET_LEN]>)>,
    next_post: u64,
    backoff: Backoff,
    /// Why there was no link at all so far.
    pub unreached: Option<DialError>,
    /// It was live once.
    pub was_live: bool,
    /// It does not let us read all there is.
    refuses: bool,
    /// What the user knows of it: that it is live, or that it is lost.
    known: Option<bool>,
    told: Option<Duration>,
    /// When the first cell of the inbox, for which there was no room, is shown again.
    retry: Option<Duration>,
    /// Cells were left so that others have their turn.
    pub has_more: bool,
}

impl Uplink {
    /// A relay that is to be called now; its connections register as `token`.
    pub fn new(relay: Rc<Relay>, token: Token) -> Self {
        Self {
            relay,
            token,
            state: State::Resting(Duration::ZERO),
            reading: Reading::default(),
            posts: BTreeMap::new(),
            next_post: 1,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            unreached: None,
            was_live: false,
            refuses: false,
            known: None,
            told: None,
            retry: None,
            has_more: false,
        }
    }

    /// Which relay it is.
    pub fn relay(&self) -> &Rc<Relay> {
        &self.relay
    }

    /// For how long it holds cells, in milliseconds.
    pub fn ttl_ms(&self) -> u64 {
        match &self.state {
            State::Open(open) => open.ttl.as_millis() as u64,
            _ => 0,
        }
    }

    /// Takes note of an event for its token.
    pub fn on_event(&mut self, event: &Event) {
        match &mut self.state {
            State::Resting(_) => {}
            State::Calling(calling) => calling.on_event(event),
            State::Open(open) => open.wire.on_event(event),
        }
    }

    /// Goes on with a call, or makes one when it is time.
    pub fn advance(&mut self, hub: &Hub, keys: &[Answering], host: &mut dyn Host) {
        let now = hub.clock.now();
        if let State::Resting(until) = self.state
            && until <= now.mono
        {
            let call = LinkCall { relay: Rc::clone(&self.relay), patience: CONNECT_TIME };
            let calling = Calling::new(call, &self.relay.places(), self.token);
            self.state = State::Calling(Box::new(calling));
        }
        if let State::Calling(calling) = &mut self.state {
            match calling.advance(hub) {
                Ok(None) => {}
                Ok(Some(dialed)) => {
                    let wire = Wire::new(dialed.socket, dialed.address);
                    self.open(wire, dialed.link, keys, now);
                }
                Err(error) => {
                    self.rest(now);
                    self.tell(RelayNews::Unreached(&error), now, host);
                    self.unreached = Some(error);
                }
            }
        }
        self.reading.refresh(now);
        self.keep_alive(now, host);
    }

    fn open(&mut self, wire: Wire, linked: Linked, keys: &[Answering], now: Now) {
        let Linked { mut link, challenge, ttl } = linked;
        // Without it small records wait for acknowledgements; slower, not wrong.
        let _ = wire.socket().set_nodelay(true);
        for (id, (address, packet)) in &self.posts {
            link.send(&Cell::post(*id, *address, packet), now);
        }
        let readers = keys.iter().map(|key| Reader::new(&key.pair, &challenge)).collect();
        let noop = noop_after();
        let (inbox, excused) = (VecDeque::new(), now.mono);
        self.reading.linked(ttl, now);
        self.refuses = false;
        self.retry = None;
        self.state = State::Open(Box::new(Open { wire, link, readers, ttl, noop, inbox, excused }));
    }

    fn rest(&mut self, now: Now) {
        self.reading.lost();
        self.has_more = false;
        self.retry = None;
        self.state = State::Resting(now.mono + self.backoff.next(u64::from_be_bytes(random())));
    }

    fn keep_alive(&mut self, now: Now, host: &mut dyn Host) {
        let State::Open(open) = &mut self.state else { return };
        if !open.inbox.is_empty() {
            open.excused = now.mono;
        }
        if now.mono >= open.link.sent() + open.noop {
            open.link.send(&Cell::new(Command::Noop), now);
            open.noop = noop_after();
        }
        if now.mono >= open.link.heard().max(open.excused) + SILENCE {
            self.lose("it fell silent", now, host);
        }
    }

    fn lose(&mut self, why: &'static str, now: Now, host: &mut dyn Host) {
        self.rest(now);
        self.tell(RelayNews::Lost(why), now, host);
    }

    fn tell(&mut self, news: RelayNews<'_>, now: Now, host: &mut dyn Host) {
        let rests = self.told.is_some_and(|told| now.mono < told + TELL_EVERY);
        if self.known != Some(false) && !rests {
            self.known = Some(false);
            self.told = Some(now.mono);
            host.notice(Notice::Relay(&self.relay.name, news));
        }
    }

    /// Says it when everything is read that is to be.
    fn tell_live(&mut self, host: &mut dyn Host) {
        if !self.reading.is_live() {
            return;
        }
        self.backoff.reset();
        self.was_live = true;
        self.unreached = None;
        if self.known.replace(true) != Some(true) {
            host.notice(Notice::Relay(&self.relay.name, RelayNews::Listening));
            if std::mem::take(&mut self.refuses) {
                host.notice(Notice::Relay(&self.relay.name, RelayNews::Refused));
            }
        }
    }

    /// The next packet, or LIVE, that came; reads more of them if need be.
    pub fn take(&mut self, now: Now, space: &mut [u8], host: &mut dyn Host) -> Option<Incoming> {
        if self.retry.is_some_and(|at| now.mono < at) {
            return None;
        }
        self.retry = None;
        loop {
            let State::Open(open) = &mut self.state else { return None };
            if let Some(first) = open.inbox.pop_front() {
                return Some(first);
            }
            if open.link.pending().len() >= MOST_UNWRITTEN {
                return None;
            }
            let why = match open.wire.read(&mut space[..READ]) {
                Read::Later => return None,
                Read::Closed | Read::Broken => "the connection ended",
                Read::Bytes(len) => match self.sort(&space[..len], now) {
                    Ok(()) => continue,
                    Err(_) => "it broke the protocol",
                },
            };
            self.lose(why, now, host);
            return None;
        }
    }

    /// What packets are, and LIVE, wait for their turn; all else is dealt with at once.
    fn sort(&mut self, bytes: &[u8], now: Now) -> Result<(), Violation> {
        let Self { state, posts, reading, refuses, .. } = self;
        let State::Open(open) = state else { return Ok(()) };
        let Open { link, inbox, .. } = &mut **open;
        link.feed(bytes, now, |cell| {
            match cell.command {
                Command::Cell | Command::Live => inbox.push_back(Incoming::of(cell)),
                Command::Ack => drop(posts.remove(&cell.id)),
                Command::Error if cell.id == 0 => {
                    *refuses |= reading.refused(&cell.address, now);
                }
                Command::Error => drop(posts.remove(&cell.id)),
                Command::Noop => {}
                Command::Post
                | Command::Subscribe
                | Command::Connect
                | Command::Joined
                | Command::Leave => return Err(Violation::OutOfOrder),
            }
            Ok(())
        })
    }

    /// There was no room for this one: it comes again.
    pub fn put_back(&mut self, incoming: Incoming, now: Now) {
        if let State::Open(open) = &mut self.state {
            open.inbox.push_front(incoming);
            self.retry = Some(now.mono + SHOW_AGAIN);
        }
    }

    /// There may be room now.
    pub fn retry(&mut self) {
        self.retry = self.retry.map(|_| Duration::ZERO);
    }

    /// Whether something was read for which there is no room.
    pub fn is_stuck(&self) -> bool {
        self.retry.is_some()
    }

    /// LIVE came.
    pub fn live(&mut self, incoming: &Incoming) {
        self.reading.live(&incoming.address, incoming.log, incoming.id);
    }

    /// Posts a packet. One that is not volatile is posted again after the link was cut, until the
    /// relay has it.
    pub fn post(&mut self, address: Address, packet: &[u8; PACKET_LEN], volatile: bool, now: Now) {
        let id = self.next_post;
        self.next_post += 1;
        if !volatile {
            if self.posts.len() >= MAX_POSTS {
                self.posts.pop_first();
            }
            self.posts.insert(id, (address, Box::new(*packet)));
        }
        let State::Open(open) = &mut self.state else { return };
        let cell = Cell::post(id, address, packet);
        match volatile {
            true if open.link.pending().len() >= MOST_UNWRITTEN => {}
            true => open.link.send(&cell.volatile(), now),
            false => open.link.send(&cell, now),
        }
    }

    /// Asks for mailboxes, acknowledges, and writes what the socket takes.
    pub fn say(&mut self, now: Now, host: &mut dyn Host) {
        let State::Open(open) = &mut self.state else { return };
        while open.link.pending().len() < MANY_UNWRITTEN {
            let Some(order) = self.reading.order() else { break };
            open.order(order, &self.reading, now);
        }
        if open.pour().is_err() {
            // What the relay said before is still to be read: that says when it is over.
            open.wire.look_again();
        }
        self.tell_live(host);
    }

    /// When it has something to do without news.
    pub fn deadline(&self, now: Now) -> Option<Duration> {
        match &self.state {
            State::Resting(until) => Some(*until),
            State::Calling(calling) => Some(calling.deadline()),
            State::Open(open) => {
                let noop = open.link.sent() + open.noop;
                let silence = open.link.heard().max(open.excused) + SILENCE;
                let own = [Some(noop.min(silence)), self.retry, self.reading.next_timeout(now)];
                own.into_iter().flatten().min()
            }
        }
    }

    /// We end: nothing more is asked for. What was said is written, and then that there is no more.
    pub fn leave(&mut self) {
        match &mut self.state {
            State::Open(open) => {
                if open.pour().is_ok() && open.link.pending().is_empty() {
                    open.wire.end_writing();
                }
            }
            _ => self.state = State::Resting(Duration::MAX),
        }
    }

    /// Whether the relay has closed its end, or there is none. A socket that is closed with bytes
    /// unread sends a reset, which can overtake an acknowledgement.
    pub fn has_left(&mut self) -> bool {
        self.leave();
        match &mut self.state {
            State::Open(open) => open.wire.drain() == Left::Closed,
            _ => true,
        }
    }
}

impl Open {
    fn order(&mut self, order: Order, reading: &Reading, now: Now) {
        let mut cell;
        let proof;
        match order {
            Order::Subscribe { address, log, from } => {
                let Some((mailbox, local)) = reading.mailbox(&address) else { return };
                let reader = self.readers.get(local).and_then(Option::as_ref);
                let made = reader.and_then(|r| r.prove(mailbox, self.link.handshake_hash()));
                let Some(made) = made else { return };
                proof = made;
                cell = Cell { id: from, log, address, ..Cell::new(Command::Subscribe) };
                cell.body = &proof;
            }
            Order::Ack { address, log, upto } => {
                cell = Cell { id: upto, log, address, ..Cell::new(Command::Ack) };
            }
            Order::Leave(address) => cell = Cell { address, ..Cell::new(Command::Leave) },
        }
        self.link.send(&cell, now);
    }

    fn pour(&mut self) -> io::Result<()> {
        if !self.link.pending().is_empty() {
            let written = self.wire.write(self.link.pending())?;
            self.link.consumed(written);
        }
        Ok(())
    }
}

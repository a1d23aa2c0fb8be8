//! A listener: many senders at once on one loop, one output.
//!
//! `host` is what it needs of the program around it. [`conn`] is one connection, `session` what is
//! said on it both ways once somebody is let in, of which `hearing` is the half that comes in;
//! `calls` are those that we make ourselves, which then are sessions like the others; [`plain`] what comes where nothing is encrypted,
//! [`datagrams`] all that comes by UDP and `plain_datagrams` the same without encryption, [`relays`]
//! what comes by relays; `policy` says
//! who is let in and served, `finish` is how it all ends. This file is the loop
//! that gives them their turns.

mod calls;
pub mod conn;
pub mod datagrams;
mod ear;
mod finish;
mod hearing;
mod host;
pub mod plain;
mod plain_datagrams;
mod policy;
pub mod relays;
mod runs;
mod session;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::unix::SourceFd;
use mio::{Events, Interest};

use self::calls::Calls;
use self::conn::{Conn, Shared};
use self::datagrams::Datagrams;
pub use self::host::{
    Answering, Caller, End, Heard, Host, Limits, ListenError, Notice, Origin, Outgoing, Parting,
    RelayNews, Stage, shown,
};
use self::plain_datagrams::PlainDatagrams;
use self::policy::{Room, seat};
pub use self::policy::{has_too_few_descriptors, most_clients};
use self::relays::{AtRelays, Relays};
use super::buffers;
use super::descriptors;
use super::ears::Ears;
use super::hub::{Hub, WAKE, rung_for};
use super::state_file::StateFile;
use super::timers::Timers;
use super::tokens::Topic;
use super::wire::Wire;
use crate::crypto::sodium::OsRandom;
use crate::proto::stream::link::MAX_RECORD;
use crate::proto::stream::record::RefuseCode;
use crate::proto::stream::replay::ReplayGuard;
use crate::proto::stream::session::plain_buffer_for;
use crate::sched::limits::{Door, Seats};
use crate::sched::mux::{Mux, Written};
use crate::sched::party::Source;

/// Relays that are listened at, at most: to each there is a link, and more are of no use.
pub const MAX_RELAYS: usize = 128;
/// One read from a connection brings up to so many full records.
const READ_RECORDS: usize = 8;
/// The same in bytes.
const READ_SPACE: usize = READ_RECORDS * MAX_RECORD;
/// Connections that are accepted before others have their turn.
const ACCEPTS_A_TURN: usize = 1024;
/// What waits to be opened is opened for so long before others have their turn: some ten
/// handshakes.
const OPENING_A_TURN: Duration = Duration::from_millis(3);
/// Connections whose handshake is not over, at most; or a quarter of the descriptors. Each takes some
/// 3 kB, and what the system keeps for its socket.
const MAX_WAITING: usize = 8192;

/// The loop and all that it serves.
pub struct Listener<'a> {
    hub: &'a mut Hub,
    limits: Limits,
    ears: Ears,
    /// For each of them: whoever calls there is heard without encryption.
    plain_ears: Vec<bool>,
    conns: BTreeMap<usize, Conn>,
    /// The number of the next connection.
    next_token: usize,
    /// Connections whose handshake is not over.
    door: Door,
    room: Room,
    /// Connections to be driven in this turn.
    runnable: Vec<usize>,
    /// Connections that are not read because their messages, or they themselves, wait for others.
    stalled: BTreeSet<usize>,
    /// Connections that are not read because who takes their messages is busy: a bell tells them.
    pausing: BTreeSet<usize>,
    /// Connections that may have news for which any bell rings.
    all_ears: BTreeSet<usize>,
    /// Connections of which a message was on its way or unacknowledged when they were driven last.
    busy: BTreeSet<usize>,
    calls: Calls<'a>,
    timers: Timers,
    datagrams: Datagrams,
    plain_datagrams: PlainDatagrams,
    relays: Relays<'a>,
    shared: Shared<'a>,
    stage: &'a mut dyn Stage,
    written: VecDeque<Written>,
    delivered: u64,
    last_heard: Duration,
}

impl<'a> Listener<'a> {
    /// A listener that answers for `keys` and hears nobody yet.
    pub fn new(
        hub: &'a mut Hub,
        keys: &'a [Answering],
        limits: Limits,
        host: &'a mut dyn Host,
        stage: &'a mut dyn Stage,
    ) -> Self {
        let room = Room::of(descriptors::most(), descriptors::spare());
        let mut bounds = limits.bounds;
        bounds.clients = bounds.clients.min(room.clients());
        let last_heard = hub.clock.now().mono;
        let bell = hub.bell();
        Self {
            hub,
            ears: Ears::default(),
            plain_ears: Vec::new(),
            conns: BTreeMap::new(),
            next_token: 1,
            door: Door::new(bounds),
            room,
            runnable: Vec::new(),
            stalled: BTreeSet::new(),
            pausing: BTreeSet::new(),
            all_ears: BTreeSet::new(),
            busy: BTreeSet::new(),
            calls: Calls::default(),
            timers: Timers::default(),
            datagrams: Datagrams::new(keys),
            plain_datagrams: PlainDatagrams::default(),
            relays: Relays::none(keys),
            shared: Shared {
                keys,
                host,
                bell,
                replays: ReplayGuard::default(),
                mux: Mux::new(limits.count, limits.silence),
                plain: Some(plain_buffer_for(READ_RECORDS)),
                seats: Seats::new(bounds),
                refusing: None,
                open_runs: 0,
                runs_delivered: 0,
                silence: limits.silence,
                idle: limits.idle,
                trace: limits.trace,
                state: None,
                unremembered: None,
            },
            limits,
            stage,
            written: VecDeque::new(),
            delivered: 0,
            last_heard,
        }
    }

    /// Remembers what is delivered in `state`, and delivers nothing that it has.
    pub fn remember_in(&mut self, state: StateFile) {
        self.shared.state = Some(state);
    }

    /// Adds a listening socket.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn hear_tcp(&mut self, socket: TcpListener) -> io::Result<()> {
        self.add_ear(socket, false)
    }

    /// Adds a listening socket without encryption: anybody is heard. They are fewer at a time, and
    /// those that have said nothing for longest make room for others.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn hear_plain_tcp(&mut self, socket: TcpListener) -> io::Result<()> {
        self.room = self.room.at_most(plain::MAX_CONNS);
        self.add_ear(socket, true)
    }

    fn add_ear(&mut self, socket: TcpListener, plain: bool) -> io::Result<()> {
        let token = Topic::Ear(self.plain_ears.len()).token();
        self.plain_ears.push(plain);
        self.ears.add(socket, self.hub.registry(), token)
    }

    /// Adds a UDP socket.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn hear_udp(&mut self, mut socket: UdpSocket) -> io::Result<()> {
        let token = Topic::Datagrams(self.datagrams.count()).token();
        self.hub.registry().register(&mut socket, token, Interest::READABLE)?;
        self.datagrams.add(socket)
    }

    /// Adds a UDP socket without encryption: anybody is heard.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn hear_plain_udp(&mut self, mut socket: UdpSocket) -> io::Result<()> {
        let token = Topic::PlainDatagrams(self.plain_datagrams.count()).token();
        self.hub.registry().register(&mut socket, token, Interest::READABLE)?;
        self.plain_datagrams.add(socket)
    }

    /// Listens at relays, too, [`MAX_RELAYS`] at most.
    pub fn hear_relays(&mut self, at: AtRelays) {
        let now = self.hub.clock.now().mono;
        self.relays = Relays::new(self.shared.keys, at, now);
    }

    /// Listens until it has heard enough.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn run(&mut self) -> Result<End, ListenError> {
        let mut events = Events::with_capacity(1024);
        let mut space = vec![0; READ_SPACE];
        self.watch_output()?;
        loop {
            let end = self.turn(&mut space);
            let unremembered = self.shared.unremembered.take();
            if let Some(error) = self.stage.take_error().or(unremembered) {
                self.finish(RefuseCode::CannotWrite, &mut space);
                return Err(ListenError::Output(error));
            }
            if let Some(end) = end {
                self.finish(RefuseCode::Enough, &mut space);
                return Ok(end);
            }
            if let Some(hopeless) = self.hopeless() {
                return Err(hopeless);
            }
            let until = self.deadline();
            self.hub.wait(&mut events, until).map_err(ListenError::Local)?;
            self.runnable.extend(self.hub.rung());
            if events.iter().any(|event| self.on_event(event)) {
                self.finish(RefuseCode::CannotWrite, &mut space);
                return Err(ListenError::Output(io::ErrorKind::BrokenPipe.into()));
            }
            if let Some(signal) = self.hub.signals.arrived() {
                self.say_stopped();
                return Err(ListenError::Signal(signal));
            }
        }
    }

    /// A pipe's writing end is never readable; registered for that it reports only that its reader
    /// is gone, even while nothing is written.
    fn watch_output(&mut self) -> Result<(), ListenError> {
        if let Some(fd) = self.stage.watched() {
            // What epoll does not take has no reader that could go away.
            let token = Topic::Output.token();
            let _ = self.hub.registry().register(&mut SourceFd(&fd), token, Interest::READABLE);
        }
        Ok(())
    }

    /// Takes note of an event; whether it says that the output's reader is gone.
    fn on_event(&mut self, event: &Event) -> bool {
        if event.token() == WAKE {
            self.runnable.extend(&self.all_ears);
            return false;
        }
        match Topic::of(event.token()) {
            Some(Topic::Output) => return event.is_error() || event.is_write_closed(),
            Some(Topic::Connection(number)) => self.on_event_of(number, event),
            Some(Topic::Relay(number)) => self.relays.on_event(number, event),
            Some(Topic::PlainDatagrams(number)) => self.plain_datagrams.on_event(number),
            Some(Topic::Datagrams(number)) => self.datagrams.on_event(number),
            Some(Topic::Ear(number)) => self.ears.on_event(number),
            // A relay, a sender or a search waits for these.
            Some(
                Topic::Metrics(_)
                | Topic::Peer(_)
                | Topic::Member { .. }
                | Topic::Discovery(_)
                | Topic::LinkChanges,
            ) => {}
            None => self.runnable.extend(rung_for(event.token())),
        }
        false
    }

    fn on_event_of(&mut self, number: usize, event: &Event) {
        if self.calls.on_event(number, event) || self.relays.meetings().on_event(number, event) {
        } else if let Some(conn) = self.conns.get_mut(&number) {
            conn.on_event(event);
            self.runnable.push(number);
        }
    }

    /// One turn for everybody who has something to do.
    fn turn(&mut self, space: &mut [u8]) -> Option<End> {
        let now = self.hub.clock.now().mono;
        self.accept(now);
        self.let_in(now);
        self.call();
        self.timers.expired(now, &mut self.runnable);
        self.drive_runnable(space);
        self.tell_obstacle(now);
        self.drive_datagrams(space);
        self.drive_relays(space);
        self.deliver(now);
        self.unstall();
        self.enough(now)
    }

    fn accept(&mut self, now: Duration) {
        self.ears.begin_turn(now, ACCEPTS_A_TURN);
        while self.ears.are_called() && self.has_room(now) {
            let Some((socket, address, ear)) = self.ears.accept(now) else { return };
            self.make_room();
            self.receive(socket, address, self.plain_ears[ear]);
        }
    }

    /// Makes the calls that are wanted, and goes on with those under way.
    fn call(&mut self) {
        while let Some(wanted) = self.shared.host.next_call() {
            let token = self.next_token;
            self.next_token += 1;
            self.calls.begin(token, wanted, self.shared.keys, &self.shared);
        }
        for (token, conn) in self.calls.advance(self.hub, &mut self.shared) {
            if let Some(party) = conn.party() {
                self.shared.mux.introduce(Source::Connection(token), party);
            }
            self.conns.insert(token, conn);
            self.runnable.push(token);
        }
    }

    fn receive(&mut self, mut socket: TcpStream, address: SocketAddr, plain: bool) {
        let token = self.next_token;
        self.next_token += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        let topic = Topic::Connection(token).token();
        if self.hub.registry().register(&mut socket, topic, both).is_err() {
            return;
        }
        // A peer that does not read has little of the kernel's memory.
        buffers::bound_unsent(&socket);
        let now = self.hub.clock.now();
        let (wire, id) = (Wire::new(socket, address), Source::Connection(token));
        let conn = if plain {
            Conn::plain(wire, id, now, &mut self.shared)
        } else {
            Conn::new(wire, id, now, &mut OsRandom)
        };
        self.door.arrive(token, address.ip(), now.mono);
        if plain {
            self.door.knock(token, now.mono);
        }
        if let Some(at) = conn.deadline(Source::Connection(token), &self.shared) {
            self.timers.set(token, at);
        }
        self.conns.insert(token, conn);
    }

    fn drive_runnable(&mut self, space: &mut [u8]) {
        let mut turn = std::mem::take(&mut self.runnable);
        turn.sort_unstable();
        turn.dedup();
        for token in turn.drain(..) {
            self.drive(token, space);
        }
        // What became runnable meanwhile has its turn after the next look at the sockets.
        turn.append(&mut self.runnable);
        self.runnable = turn;
    }

    fn drive_datagrams(&mut self, space: &mut [u8]) {
        let now = self.hub.clock.now();
        self.datagrams.drive(now, space, &mut self.shared, self.stage);
        self.plain_datagrams.drive(now, space, &mut self.shared, self.stage);
        if self.datagrams.heard_message() | self.plain_datagrams.heard_message() {
            self.last_heard = now.mono;
        }
    }

    fn drive_relays(&mut self, space: &mut [u8]) {
        self.relays.drive(self.hub, space, &mut self.shared, self.stage);
        let now = self.hub.clock.now();
        if self.relays.heard_message() {
            self.last_heard = now.mono;
        }
        if self.relays.meetings().are_awaited() && self.has_room(now.mono) {
            let most = self.room.connections.saturating_sub(self.conns.len()).max(1);
            let next_token = &mut self.next_token;
            self.relays.meetings().begin(most, now, || {
                *next_token += 1;
                *next_token - 1
            });
        }
        for (token, dialed) in self.relays.meetings().advance(self.hub) {
            if self.has_room(now.mono) {
                self.make_room();
                let (wire, id) =
                    (Wire::new(dialed.socket, dialed.address), Source::Connection(token));
                self.conns.insert(token, Conn::by_relay(wire, id, now, &mut OsRandom));
                self.runnable.push(token);
            }
        }
    }

    /// Relays are all that there is to listen at, and none of them was ever reached.
    fn hopeless(&mut self) -> Option<ListenError> {
        let others = self.ears.len() + self.datagrams.count() + self.plain_datagrams.count();
        let now = self.hub.clock.now().mono;
        let hopeless = if others == 0 { self.relays.hopeless(now) } else { None };
        hopeless.map(|(name, why)| ListenError::Unreached(name, why))
    }

    fn drive(&mut self, token: usize, space: &mut [u8]) {
        let now = self.hub.clock.now();
        let Some(conn) = self.conns.get_mut(&token) else { return };
        let source = Source::Connection(token);
        if conn.waits_unread() && self.door.keeps(token) {
            return self.keep(token, now.mono);
        }
        conn.hold(self.shared.seats.keeps_waiting(source, now.mono).is_some());
        if self.pausing.remove(&token) && !conn.is_stalled(source, &self.shared.mux) {
            conn.excuse_silence(now);
        }
        let done = conn.drive(source, now, space, &mut self.shared, self.stage);
        if conn.heard_message() {
            self.last_heard = now.mono;
            self.shared.seats.heard(source, now.mono);
        }
        if done {
            self.remove(token, now.mono);
            return;
        }
        if conn.knocks() && !self.door.knock(token, now.mono) {
            // It came by a relay, and stands at no door.
            self.open(token, now);
            return;
        }
        if conn.is_open() {
            self.door.leave(token, now.mono);
            seat(conn, source, now.mono, &mut self.shared);
        }
        if conn.hears_all_bells() {
            self.all_ears.insert(token);
        }
        if conn.is_busy() {
            self.busy.insert(token);
        } else {
            self.busy.remove(&token);
        }
        if conn.waits_for_others(source, &self.shared.mux) {
            self.stalled.insert(token);
        } else if conn.is_stalled(source, &self.shared.mux) {
            self.pausing.insert(token);
        } else if conn.has_more() {
            self.runnable.push(token);
        }
        match conn.deadline(source, &self.shared) {
            Some(at) => self.timers.set(token, at),
            None => self.timers.clear(token),
        }
    }

    fn remove(&mut self, token: usize, now: Duration) {
        self.door.leave(token, now);
        self.stalled.remove(&token);
        self.pausing.remove(&token);
        self.all_ears.remove(&token);
        self.busy.remove(&token);
        self.timers.clear(token);
        if let Some(mut conn) = self.conns.remove(&token) {
            let source = Source::Connection(token);
            conn.leave(source, &mut self.shared);
            self.shared.seats.leave(source, now);
            self.shared.mux.forget(source);
            // Closing deregisters it, too.
        }
    }

    /// Moves messages on to the output, and acknowledges what it has flushed.
    fn deliver(&mut self, now: Duration) {
        if let Some(slow) = self.shared.mux.overdue(now) {
            self.refuse_slow(slow, now);
        }
        if self.shared.state.is_some() {
            self.deliver_singly(now);
        } else {
            let mut written = Vec::new();
            self.shared.mux.pump(now, self.stage, &mut written);
            self.written.extend(written);
            self.stage.settle();
            self.acknowledge_flushed();
        }
        let now = self.hub.clock.now();
        self.relays.settle(now, &mut self.shared);
    }

    /// Where deliveries are remembered, nothing is written before the message ahead of it is
    /// flushed and remembered: so a kill leaves one in doubt, and not all that one write had.
    fn deliver_singly(&mut self, now: Duration) {
        loop {
            self.acknowledge_flushed();
            if !self.written.is_empty() || self.shared.unremembered.is_some() {
                return;
            }
            let written = self.shared.mux.pump_one(now, self.stage);
            self.stage.settle();
            let Some(written) = written else { return };
            self.written.push_back(written);
        }
    }

    fn acknowledge_flushed(&mut self) {
        let flushed = self.stage.flushed();
        while self.written.front().is_some_and(|w| w.ticket <= flushed) {
            if let Some(done) = self.written.pop_front() {
                self.acknowledge(done);
            }
        }
    }

    fn refuse_slow(&mut self, source: Source, now: Duration) {
        match source {
            // It is the output that is slow.
            Source::Run(_) if self.datagrams.is_held(source) => self.shared.mux.alive(source, now),
            // What comes in cells, or in one datagram, is whole.
            Source::Cells(_) | Source::PlainDatagram(_) => self.shared.mux.alive(source, now),
            Source::Run(_) => {
                let now = self.hub.clock.now();
                self.datagrams.refuse(source, RefuseCode::TooSlow.why(), now, &mut self.shared);
            }
            Source::Connection(number) => {
                let Some(conn) = self.conns.get_mut(&number) else { return };
                let now = self.hub.clock.now();
                conn.refuse(RefuseCode::TooSlow, source, now, &mut self.shared);
                self.runnable.push(number);
            }
        }
    }

    fn acknowledge(&mut self, done: Written) {
        let now = self.hub.clock.now();
        self.last_heard = now.mono;
        self.delivered += u64::from(done.total.is_some());
        if done.total.is_some() {
            self.shared.seats.spoke(done.source, now.mono);
        }
        let (source, shared) = (done.source, &mut self.shared);
        match source {
            Source::Run(_) => self.datagrams.flushed(source, now, shared),
            Source::PlainDatagram(_) => {
                self.plain_datagrams.flushed(source, done.total.unwrap_or(0), shared);
            }
            Source::Cells(_) => self.relays.flushed(source, now, shared),
            Source::Connection(number) => {
                let conn = self.conns.get_mut(&number);
                if let (Some(total), Some(conn)) = (done.total, conn) {
                    conn.acknowledge(total, now, shared);
                    self.runnable.push(number);
                }
            }
        }
    }

    /// Those whose messages waited may be read again.
    fn unstall(&mut self) {
        let now = self.hub.clock.now();
        if self.shared.seats.next_deadline().is_some_and(|at| at <= now.mono) {
            self.shared.seats.assign(now.mono);
        }
        let (conns, mux, seats) = (&mut self.conns, &self.shared.mux, &self.shared.seats);
        let runnable = &mut self.runnable;
        self.stalled.retain(|token| {
            let Some(conn) = conns.get_mut(token) else { return false };
            let source = Source::Connection(*token);
            conn.hold(seats.keeps_waiting(source, now.mono).is_some());
            let stalled = conn.is_stalled(source, mux);
            if !stalled {
                conn.excuse_silence(now);
                runnable.push(*token);
            }
            stalled
        });
    }

    fn enough(&mut self, now: Duration) -> Option<End> {
        let delivered = self.delivered + self.shared.runs_delivered;
        if self.limits.count.is_some_and(|count| delivered >= count) {
            return Some(End::Enough);
        }
        if self.shared.host.is_over() {
            return Some(End::Done);
        }
        let idle = self.limits.idle.is_some_and(|idle| now >= self.last_heard + idle);
        (idle && !self.is_busy()).then_some(End::Silence(delivered))
    }

    /// Whether a message is on its way in or unacknowledged.
    fn is_busy(&self) -> bool {
        let datagrams = self.datagrams.is_busy() || self.plain_datagrams.is_busy();
        datagrams || self.relays.is_busy() || !self.busy.is_empty()
    }

    fn deadline(&self) -> Option<Duration> {
        let datagrams = self.datagrams.has_more() || self.plain_datagrams.has_more(&self.shared);
        if !self.runnable.is_empty() || datagrams || self.relays.has_more() {
            return Some(Duration::ZERO);
        }
        let mono = self.hub.clock.now().mono;
        let place = || if self.has_room(mono) { mono } else { self.next_place(mono) };
        let place = self.ears.are_called().then(place);
        let retries = self.ears.deadline().into_iter().chain(place);
        let idle = self.limits.idle.map(|idle| self.last_heard + idle);
        // A busy connection keeps an idle listener going; its own deadline ends that.
        let idle = idle.filter(|_| !self.is_busy());
        let mux = self.shared.mux.next_deadline().into_iter().chain(self.calls.deadline());
        let datagrams = self.datagrams.deadline(self.limits.silence);
        let door = self.door.next_turn();
        let seats = self.shared.seats.next_deadline().into_iter().chain(self.rests());
        let host = self.shared.host.deadline();
        let relays = self.relays.deadline(self.hub.clock.now(), &self.shared.seats);
        let own = retries.chain(relays).chain(idle).chain(mux).chain(door).chain(seats).chain(host);
        own.chain(datagrams).chain(self.timers.next()).min()
    }
}

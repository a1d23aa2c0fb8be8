//! One connection to a listener: a gate, then a link; or, where nothing is encrypted, one message.

use std::io;
use std::time::Duration;

use mio::event::Event;
use socket2::{SockRef, TcpKeepalive};

use super::host::Parting;
use super::plain::Plain;
use super::session::{Called, Session};
use super::{Answering, Caller, Heard, Host, Notice, Stage};
use crate::crypto::sodium::Random;
use crate::net::dial::Dialed;
use crate::net::hub::Bell;
use crate::net::send::Cut;
use crate::net::sockets::Transport;
use crate::net::state_file::StateFile;
use crate::net::wire::{Left, Read, Wire, Wrote};
use crate::proto::datagram::packet::Mac1;
use crate::proto::datagram::past::{Extent, Ran};
use crate::proto::stream::gate::{Answer, Gate, Passage};
use crate::proto::stream::handshake::{CONFIRM_LEN, HELLO_LEN, Responding};
use crate::proto::stream::link::{Crossing, Link};
use crate::proto::stream::record::RefuseCode;
use crate::proto::stream::replay::ReplayGuard;
use crate::proto::stream::session::PlainBuffer;
use crate::proto::time::Now;
use crate::sched::limits::Seats;
use crate::sched::mux::Mux;
use crate::sched::party::{Party, Source};

/// What is read at once before the handshake is over, in bytes: little more than its messages are.
const GATE_READ: usize = 4 * 1024;

/// What a connection that waits for its turn reads at once, in bytes.
const SMALL_READ: usize = 64 * 1024;

/// A peer may take this long to take what we say last.
pub const LINGER: Duration = Duration::from_secs(2);

/// How a silent peer without a session is asked whether it is still there.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));

/// What all connections of a listener use.
pub struct Shared<'a> {
    /// The keys that answer here.
    pub keys: &'a [Answering],
    /// Who is heard, and who is told.
    pub host: &'a mut dyn Host,
    /// What wakes the loop.
    pub bell: Bell,
    /// First messages answered before.
    pub replays: ReplayGuard,
    /// The messages on their way to the output.
    pub mux: Mux<Heard>,
    /// Who is served, and who waits for that.
    pub seats: Seats,
    /// Room for one opened record, unless somebody has it.
    pub plain: Option<PlainBuffer>,
    /// Every message that begins is refused with this: we are about to end.
    pub refusing: Option<RefuseCode>,
    /// Runs of messages to receivers that are under way.
    pub open_runs: u64,
    /// Of those that are over: how many delivered something.
    pub runs_delivered: u64,
    /// A session may be silent this long.
    pub silence: Duration,
    /// A connection without encryption may be silent this long, if there is a limit.
    pub idle: Option<Duration>,
    /// Note what crosses the wire.
    pub trace: bool,
    /// What was delivered before this listener began, if that is remembered.
    pub state: Option<StateFile>,
    /// Why something could not be remembered: the listener ends.
    pub unremembered: Option<io::Error>,
}

impl Shared<'_> {
    /// A message is out and flushed: remembers it ([`StateFile::remember`]) if that is asked for.
    /// Whether it may be acknowledged; if not, the listener is about to end.
    pub fn remember(
        &mut self,
        ran: &Ran<'_>,
        extent: Extent,
        contact: bool,
        packets: &[Mac1],
    ) -> bool {
        let Some(state) = &mut self.state else { return true };
        if let Err(error) = state.remember(ran, extent, contact, packets) {
            self.unremembered = Some(error);
        }
        self.unremembered.is_none()
    }

    /// A packet is answered: remembers it ([`StateFile::remember_packet`]), likewise.
    pub fn remember_packet(&mut self, ran: &Ran<'_>, contact: bool, packet: Mac1) {
        if let Some(state) = &mut self.state
            && let Err(error) = state.remember_packet(ran, contact, packet)
        {
            self.unremembered = Some(error);
        }
    }

    /// A run of messages to a receiver begins, unless as many as are wanted are under way.
    pub fn run_begins(&mut self) -> bool {
        let wanted = self.mux.left().is_none_or(|left| self.open_runs < left);
        self.open_runs += u64::from(wanted);
        wanted
    }

    /// It is answered whole, or its session is over.
    pub fn run_ended(&mut self, delivered: bool) {
        self.open_runs -= 1;
        if delivered {
            self.runs_delivered += 1;
            self.mux.spend();
        }
    }
}

/// A socket and what it has come to.
pub struct Conn {
    wire: Wire,
    id: Source,
    stage: State,
    news: bool,
    /// We have said everything, and wait until then for the peer to close.
    leaving: Option<Duration>,
    /// Others are served first.
    held: bool,
    /// It is a call of ours.
    ours: bool,
    transport: Transport,
}

enum State {
    /// The handshake, and message 2 on its way out.
    Gate { gate: Gate, reply: Vec<u8>, crossed: Vec<Crossing> },
    /// The session.
    Open(Box<Session>),
    /// No encryption at all.
    Plain(Box<Plain>),
}

impl Conn {
    /// A connection that was just accepted.
    pub fn new(wire: Wire, id: Source, now: Now, random: &mut dyn Random) -> Self {
        let gate = Gate::new(now, random);
        let stage = State::Gate { gate, reply: Vec::new(), crossed: Vec::new() };
        Self::at(stage, wire, id)
    }

    /// The same, which came about by a relay.
    pub fn by_relay(wire: Wire, id: Source, now: Now, random: &mut dyn Random) -> Self {
        Self { transport: Transport::Relay, ..Self::new(wire, id, now, random) }
    }

    /// A connection that was just accepted by a socket that hears without encryption.
    pub fn plain(wire: Wire, id: Source, now: Now, shared: &mut Shared<'_>) -> Self {
        // A peer that is gone without a word shall not keep its place; a system that cannot ask
        // has it wait for longer.
        let _ = SockRef::from(wire.socket()).set_tcp_keepalive(&KEEPALIVE);
        let caller = shared.host.unproven(wire.address);
        shared.host.notice(Notice::Connected(&caller, wire.address));
        Self::at(State::Plain(Box::new(Plain::new(caller, now))), wire, id)
    }

    /// A call of ours that was answered by `callee`, who is to let us in.
    pub fn called(
        dialed: Dialed,
        callee: Caller,
        id: Source,
        called: Called,
        shared: &Shared<'_>,
    ) -> Self {
        let wire = Wire::new(dialed.socket, dialed.address);
        let session = Session::called(dialed.link, dialed.address, callee, id, called, shared);
        Self { ours: true, ..Self::at(State::Open(Box::new(session)), wire, id) }
    }

    fn at(stage: State, wire: Wire, id: Source) -> Self {
        let transport = Transport::Tcp;
        Self { wire, id, stage, news: false, leaving: None, held: false, ours: false, transport }
    }

    /// Takes note of an event.
    pub fn on_event(&mut self, event: &Event) {
        self.wire.on_event(event);
    }

    /// Whether the handshake is over; without one, whether its message is on its way.
    pub fn is_open(&self) -> bool {
        match &self.stage {
            State::Gate { .. } => false,
            State::Open(_) => true,
            State::Plain(plain) => plain.is_busy(),
        }
    }

    /// Whether a message is on its way or unacknowledged.
    pub fn is_busy(&self) -> bool {
        match &self.stage {
            State::Gate { .. } => false,
            State::Open(session) => session.is_busy(),
            State::Plain(plain) => plain.is_busy(),
        }
    }

    /// Whether it may have news for which any bell rings.
    pub fn hears_all_bells(&self) -> bool {
        matches!(&self.stage, State::Open(session) if session.hears_all_bells())
    }

    /// Whether bytes of a message came since the last call.
    pub fn heard_message(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// With whom it is, once that is known.
    pub fn peer(&self) -> Option<&Caller> {
        match &self.stage {
            State::Gate { .. } => None,
            State::Open(session) => Some(session.peer()),
            State::Plain(plain) => Some(plain.caller()),
        }
    }

    /// Whose part of what there is it uses, once that is known.
    pub fn party(&self) -> Option<Party> {
        self.peer().map(|peer| peer.party(Some(self.wire.address)))
    }

    /// Whether it needs a seat while a message comes in: calls of ours need none.
    pub fn needs_seat(&self) -> bool {
        !self.ours
    }

    /// Whether a message comes in.
    pub fn is_receiving(&self) -> bool {
        match &self.stage {
            State::Gate { .. } => false,
            State::Open(session) => session.is_receiving(),
            State::Plain(plain) => plain.is_busy(),
        }
    }

    /// Whether it is to wait until others were served. Who owns the output never does: all wait
    /// for it.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether it is not read because it, or its message, has to wait.
    pub fn is_stalled(&self, source: Source, mux: &Mux<Heard>) -> bool {
        let pauses = matches!(&self.stage, State::Open(session) if session.pauses());
        pauses || self.waits_for_others(source, mux)
    }

    /// Whether what it waits for is that others are served, or the output: no news of its own tell
    /// when that is over.
    pub fn waits_for_others(&self, source: Source, mux: &Mux<Heard>) -> bool {
        let output = match &self.stage {
            State::Gate { .. } => false,
            State::Open(_) => !mux.has_room(source),
            State::Plain(plain) => plain.is_stalled(source, mux),
        };
        output || (self.held && !mux.owns(source))
    }

    /// Whether it was left only so that others have their turn.
    pub fn has_more(&self) -> bool {
        let wants_write = match &self.stage {
            State::Gate { reply, .. } => !reply.is_empty(),
            State::Open(session) => session.wants_write(),
            State::Plain(_) => false,
        };
        (self.wire.is_readable() && !self.is_choked()) || (self.wire.is_writable() && wants_write)
    }

    /// Whether it is not read because it does not read. This excuses no silence.
    fn is_choked(&self) -> bool {
        matches!(&self.stage, State::Open(session) if session.is_choked())
    }

    /// Silence does not count while we do not read.
    pub fn excuse_silence(&mut self, now: Now) {
        match &mut self.stage {
            State::Gate { .. } => {}
            State::Open(session) => session.link.excuse_silence(now),
            State::Plain(plain) => plain.excuse_silence(now),
        }
    }

    /// Whether it is not read before its turn at the door: without encryption a message could begin
    /// with the first byte.
    pub fn waits_unread(&self) -> bool {
        matches!(self.stage, State::Plain(_))
    }

    /// Whether message 1 is there, and waits for its turn.
    pub fn knocks(&self) -> bool {
        matches!(&self.stage, State::Gate { gate, .. } if gate.knocks())
    }

    /// Its turn at the door has come: opens message 1. Whether it was good, and is remembered.
    pub fn answer(&mut self, now: Now, shared: &mut Shared<'_>) -> bool {
        let State::Gate { gate, reply, crossed } = &mut self.stage else { return false };
        let keys: Vec<_> =
            shared.keys.iter().map(|k| Responding { pair: &k.pair, access: &k.access }).collect();
        let message = match gate.answer(now, &keys, &mut shared.replays) {
            Answer::Nothing => return false,
            Answer::Remembered => return true,
            Answer::Reply(message) => message,
        };
        // Without it small records wait for acknowledgements; slower, not wrong.
        let _ = self.wire.socket().set_nodelay(true);
        reply.extend_from_slice(&message[..]);
        if shared.trace {
            let meaning = "handshake 2: I hold the key";
            crossed.push(Crossing::handshake(true, message.len(), &message[..], meaning));
        }
        true
    }

    /// When it wants to be driven without news.
    pub fn deadline(&self, source: Source, shared: &Shared<'_>) -> Option<Duration> {
        if self.leaving.is_some() {
            return self.leaving;
        }
        let stalled = self.is_stalled(source, &shared.mux);
        let own = match &self.stage {
            State::Gate { gate, .. } => Some(gate.deadline()),
            State::Open(session) => Some(session.deadline(stalled, shared.silence)),
            State::Plain(plain) => plain.deadline(shared).filter(|_| !stalled),
        };
        let gathered = self.wire.deadline().filter(|_| !stalled);
        own.into_iter().chain(gathered).min()
    }

    /// One turn: writes, reads once, writes. Whether the connection is over.
    pub fn drive(
        &mut self,
        source: Source,
        now: Now,
        space: &mut [u8],
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) -> bool {
        if let Some(until) = self.leaving {
            return self.wire.drain() == Left::Closed || now.mono >= until;
        }
        let over = self.drive_both(source, now, space, shared, stage);
        self.show_crossings(shared);
        if !over && matches!(&self.stage, State::Open(session) if session.is_done()) {
            // A socket that is closed with bytes unread sends a reset, which can overtake what we
            // said last.
            self.wire.end_writing();
            self.leaving = Some(now.mono + LINGER);
        }
        over
    }

    fn drive_both(
        &mut self,
        source: Source,
        now: Now,
        space: &mut [u8],
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) -> bool {
        self.wire.end_gathering(now.mono);
        if self.is_overdue(source, now, shared) {
            if !self.is_open() {
                return true;
            }
            // Who was stopped for a while has not looked yet whether the peer spoke meanwhile.
            self.wire.look_again();
        }
        if let State::Open(session) = &mut self.stage {
            session.link.keep_alive(now);
        }
        let gone = self.write(now, shared);
        if gone || self.read(source, now, space, shared, stage) {
            return true;
        }
        let gone = self.write(now, shared);
        if !self.is_overdue(source, now, shared) {
            return gone;
        }
        if let State::Open(session) = &mut self.stage {
            session.part(Parting::Cut(Cut::Silence(shared.silence)));
        }
        true
    }

    fn is_overdue(&self, source: Source, now: Now, shared: &Shared<'_>) -> bool {
        match &self.stage {
            State::Gate { gate, .. } => now.mono >= gate.deadline(),
            State::Open(session) => {
                session.is_overdue(now, shared.silence) && !self.is_stalled(source, &shared.mux)
            }
            State::Plain(plain) => {
                let silent = plain.deadline(shared).is_some_and(|at| now.mono >= at);
                plain.is_over() || (silent && !self.is_stalled(source, &shared.mux))
            }
        }
    }

    /// Writes what waits; whether the peer is gone.
    fn write(&mut self, now: Now, shared: &mut Shared<'_>) -> bool {
        match &mut self.stage {
            State::Gate { reply, .. } => match self.wire.write(reply) {
                Ok(n) => {
                    reply.drain(..n);
                    false
                }
                Err(_) => true,
            },
            State::Open(session) => session.speak(&mut self.wire, now, shared) == Wrote::Gone,
            State::Plain(_) => false,
        }
    }

    /// Reads once, if its message has room; whether the connection is over.
    fn read(
        &mut self,
        source: Source,
        now: Now,
        space: &mut [u8],
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) -> bool {
        if self.is_choked() || self.is_stalled(source, &shared.mux) {
            return false;
        }
        let read = match &self.stage {
            State::Gate { .. } => self.wire.read(&mut space[..GATE_READ]),
            _ if !self.flows(source, shared) => self.wire.read(&mut space[..SMALL_READ]),
            // A read that fills the space ends where a full record does.
            State::Open(session) => {
                let len = space.len() - session.link.begun();
                self.wire.read_stream(&mut space[..len], now.mono)
            }
            State::Plain(_) => self.wire.read_stream(space, now.mono),
        };
        match read {
            Read::Bytes(n) => self.take(&space[..n], source, now, shared, stage),
            Read::Later => false,
            Read::Broken => true,
            Read::Closed => match &mut self.stage {
                State::Plain(plain) => plain.end(source, shared),
                _ => true,
            },
        }
    }

    /// Whether what it says goes out as it comes.
    fn flows(&self, source: Source, shared: &Shared<'_>) -> bool {
        let received = matches!(&self.stage, State::Open(session) if session.has_receivers());
        shared.mux.owns(source) || received
    }

    fn take(
        &mut self,
        bytes: &[u8],
        source: Source,
        now: Now,
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) -> bool {
        match &mut self.stage {
            State::Gate { .. } => {
                let rest = self.knock(bytes, now, shared);
                if let Some(party) = self.party() {
                    shared.mux.introduce(source, party);
                }
                rest > 0 && self.take(&bytes[bytes.len() - rest..], source, now, shared, stage)
            }
            State::Open(session) => {
                let fed = session.take(bytes, source, now, shared, stage);
                self.news |= fed.unwrap_or(false);
                fed.is_err()
            }
            State::Plain(plain) => {
                plain.take(bytes, source, now, shared, stage);
                self.news = true;
                false
            }
        }
    }

    /// Bytes of a handshake; how many of them are records already.
    fn knock(&mut self, bytes: &[u8], now: Now, shared: &mut Shared<'_>) -> usize {
        let State::Gate { gate, crossed, .. } = &mut self.stage else { return 0 };
        if shared.trace && crossed.is_empty() {
            let meaning = "handshake 1: I hold your public key file";
            crossed.push(Crossing::handshake(false, HELLO_LEN, bytes, meaning));
        }
        match gate.feed(bytes, now) {
            Passage::Nothing => 0,
            Passage::Proved { session, caller, key, consumed } => {
                let Some(admitted) = shared.host.admit(&caller, key, true) else {
                    shared.host.notice(Notice::TurnedAway(&caller));
                    return 0;
                };
                let address = self.wire.address;
                shared.host.notice(Notice::Connected(&admitted, address));
                let mut link = Link::new(*session, now, shared.trace);
                // What began in an earlier read has no beginning here to show.
                let begin = consumed.checked_sub(CONFIRM_LEN);
                let head = begin.map_or(&[][..], |begin| &bytes[begin..consumed]);
                let meaning = "handshake 3: this is who I am";
                crossed.push(Crossing::handshake(false, CONFIRM_LEN, head, meaning));
                link.note(crossed.drain(..));
                let session = Session::welcome(link, address, admitted, self.id, now, shared);
                self.stage = State::Open(Box::new(session.by(self.transport)));
                bytes.len() - consumed
            }
        }
    }

    /// The session, if the handshake is over.
    fn session(&mut self) -> Option<&mut Session> {
        match &mut self.stage {
            State::Open(session) => Some(session),
            _ => None,
        }
    }

    /// The oldest whole message was flushed.
    pub fn acknowledge(&mut self, total: u64, now: Now, shared: &mut Shared<'_>) {
        match &mut self.stage {
            State::Gate { .. } => {}
            State::Open(session) => session.acknowledge(total, now, shared),
            State::Plain(plain) => plain.flushed(total, shared),
        }
    }

    /// Refuses the message that comes in, and says why.
    pub fn refuse(&mut self, code: RefuseCode, source: Source, now: Now, shared: &mut Shared<'_>) {
        match self.session() {
            Some(session) => session.refuse(code, source, now, shared),
            None => self.reset("refused", source, shared),
        }
    }

    /// Refuses all that is not acknowledged: it never will be.
    pub fn refuse_all(
        &mut self,
        code: RefuseCode,
        source: Source,
        now: Now,
        shared: &mut Shared<'_>,
    ) {
        match self.session() {
            Some(session) => session.refuse_all(code, source, now, shared),
            None => self.reset("refused", source, shared),
        }
    }

    /// Whoever sends without encryption can be told nothing but that the connection ended badly: it
    /// will be closed by a reset.
    fn reset(&mut self, why: &'static str, source: Source, shared: &mut Shared<'_>) {
        if let State::Plain(plain) = &mut self.stage
            && plain.cut(why, source, shared)
        {
            // Without it the sender may take the end for an orderly one.
            let _ = SockRef::from(self.wire.socket()).set_linger(Some(Duration::ZERO));
        }
    }

    /// Whether it may still begin a message, which then wants an answer: it is let in and has said
    /// nothing, or it knows our key, or (at `first`) it may yet show that it does.
    pub fn may_begin(&self, first: bool) -> bool {
        match &self.stage {
            State::Gate { gate, .. } => gate.is_answered() || (first && !gate.is_silent()),
            State::Open(session) => session.is_new(),
            State::Plain(_) => false,
        }
    }

    /// Says that we stop, and writes what the socket takes at once.
    pub fn stop(&mut self, source: Source, now: Now, shared: &mut Shared<'_>) {
        match self.session() {
            Some(session) => session.stop(now),
            None => self.reset("stopped", source, shared),
        }
        self.flush();
    }

    /// Writes what the socket takes at once of what was said; whether that is all.
    pub fn flush(&mut self) -> bool {
        match &mut self.stage {
            State::Gate { .. } | State::Plain(_) => true,
            State::Open(session) => self.wire.pour(&mut session.link) != Wrote::Some,
        }
    }

    /// Says that we leave, to whom that is to be said.
    pub fn take_leave(&mut self, now: Now) {
        if let Some(session) = self.session() {
            session.take_leave(now);
        }
    }

    /// Nothing more will be written.
    pub fn end_writing(&self) {
        self.wire.end_writing();
    }

    /// Reads and drops what has come.
    pub fn drain(&mut self) -> Left {
        self.wire.drain()
    }

    /// The connection is over: what was not whole never will be.
    pub fn leave(&mut self, source: Source, shared: &mut Shared<'_>) {
        match &mut self.stage {
            // A stranger draws no reset.
            State::Gate { .. } => {
                self.wire.drain();
            }
            State::Open(session) => session.leave(source, shared),
            State::Plain(_) => self.reset("the connection ended", source, shared),
        }
    }

    fn show_crossings(&mut self, shared: &mut Shared<'_>) {
        if let State::Open(session) = &mut self.stage {
            for crossing in session.link.take_trace() {
                shared.host.notice(Notice::Crossed(&crossing));
            }
        }
    }
}

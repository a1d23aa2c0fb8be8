//! One connection to a listener: a gate, then a link; or, where nothing is encrypted, one message.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use super::plain::Plain;
use super::session::Session;
use super::{Answering, Heard, Host, Notice, Stage};
use crate::crypto::sodium::Random;
use crate::proto::mux::{Mux, Source};
use crate::proto::stream::gate::{Gate, Passage};
use crate::proto::stream::handshake::{CONFIRM_LEN, HELLO_LEN, Responding};
use crate::proto::stream::link::{Crossing, Link};
use crate::proto::stream::record::RefuseCode;
use crate::proto::stream::replay::ReplayGuard;
use crate::proto::stream::session::PlainBuffer;
use crate::proto::time::Now;

/// What a connection that waits for its turn reads at once, in bytes.
const SMALL_READ: usize = 64 * 1024;

/// What is dropped at once of what a peer still sends, in reads of 16 KiB.
const DRAINED_READS: usize = 64;

/// How a silent peer without a session is asked whether it is still there.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));

/// What is left to read of a connection that is on its way out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing now.
    Nothing,
    /// There may be more.
    More,
    /// The peer has closed it, or it broke.
    Closed,
}

/// What all connections of a listener use.
pub struct Shared<'a> {
    /// The keys that answer here.
    pub keys: &'a [Answering],
    /// Who is heard, and who is told.
    pub host: &'a mut dyn Host,
    /// First messages answered before.
    pub replays: ReplayGuard,
    /// The messages on their way to the output.
    pub mux: Mux<Heard>,
    /// Room for one opened record.
    pub plain: PlainBuffer,
    /// Every message that begins is refused with this: we are about to end.
    pub refusing: Option<RefuseCode>,
    /// A session may be silent this long.
    pub silence: Duration,
    /// A connection without encryption may be silent this long, if there is a limit.
    pub idle: Option<Duration>,
    /// Note what crosses the wire.
    pub trace: bool,
}

/// A socket and what it has come to.
pub struct Conn {
    socket: TcpStream,
    address: SocketAddr,
    readable: bool,
    writable: bool,
    /// The peer closed or the connection broke: reading goes on until it says so.
    ending: bool,
    stage: State,
    news: bool,
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
    pub fn new(socket: TcpStream, address: SocketAddr, now: Now, random: &mut dyn Random) -> Self {
        let gate = Gate::new(now, random);
        let stage = State::Gate { gate, reply: Vec::new(), crossed: Vec::new() };
        Self::at(stage, socket, address)
    }

    /// A connection that was just accepted by a socket that hears without encryption.
    pub fn plain(
        socket: TcpStream,
        address: SocketAddr,
        now: Now,
        shared: &mut Shared<'_>,
    ) -> Self {
        // A peer that is gone without a word shall not keep its place; a system that cannot ask
        // has it wait for longer.
        let _ = SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE);
        let caller = shared.host.unproven(address);
        shared.host.notice(Notice::Connected(&caller, address));
        Self::at(State::Plain(Box::new(Plain::new(caller, now))), socket, address)
    }

    fn at(stage: State, socket: TcpStream, address: SocketAddr) -> Self {
        Self { socket, address, readable: true, writable: true, ending: false, stage, news: false }
    }

    /// Takes note of an event.
    pub fn on_event(&mut self, event: &Event) {
        self.ending |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ending;
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// Whether the handshake is over; without one, whether its message is on its way.
    pub fn is_open(&self) -> bool {
        match &self.stage {
            State::Gate { .. } => false,
            State::Open(_) => true,
            State::Plain(plain) => plain.is_busy(),
        }
    }

    /// Whether a message is on its way in or unacknowledged.
    pub fn is_busy(&self) -> bool {
        match &self.stage {
            State::Gate { .. } => false,
            State::Open(session) => session.is_busy(),
            State::Plain(plain) => plain.is_busy(),
        }
    }

    /// Whether bytes of a message came since the last call.
    pub fn heard_message(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Whether it is not read because its message waits for the output.
    pub fn is_stalled(&self, source: Source, mux: &Mux<Heard>) -> bool {
        match &self.stage {
            State::Gate { .. } => false,
            State::Open(session) => session.is_stalled(source, mux),
            State::Plain(plain) => plain.is_stalled(source, mux),
        }
    }

    /// Whether it was left only so that others have their turn.
    pub fn has_more(&self) -> bool {
        let wants_write = match &self.stage {
            State::Gate { reply, .. } => !reply.is_empty(),
            State::Open(session) => !session.link.pending().is_empty(),
            State::Plain(_) => false,
        };
        (self.readable && !self.is_choked()) || (self.writable && wants_write)
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

    /// When it wants to be driven without news.
    pub fn deadline(&self, source: Source, shared: &Shared<'_>) -> Option<Duration> {
        let stalled = self.is_stalled(source, &shared.mux);
        match &self.stage {
            State::Gate { gate, .. } => Some(gate.deadline()),
            State::Open(session) => {
                let keepalive = session.link.keepalive_at();
                let silence = session.link.heard() + shared.silence;
                Some(if stalled { keepalive } else { keepalive.min(silence) })
            }
            State::Plain(plain) => plain.deadline(shared).filter(|_| !stalled),
        }
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
        let over = self.drive_both(source, now, space, shared, stage);
        self.show_crossings(shared);
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
        if self.is_overdue(source, now, shared) {
            if !self.is_open() {
                return true;
            }
            // Who was stopped for a while has not looked yet whether the peer spoke meanwhile.
            self.readable = true;
        }
        if let State::Open(session) = &mut self.stage {
            session.link.keep_alive(now);
        }
        let gone = self.write();
        let closed = !gone && self.read(source, now, space, shared, stage);
        self.write() || gone || closed || self.is_overdue(source, now, shared)
    }

    fn is_overdue(&self, source: Source, now: Now, shared: &Shared<'_>) -> bool {
        match &self.stage {
            State::Gate { gate, .. } => now.mono >= gate.deadline(),
            State::Open(session) => {
                let silent = now.mono >= session.link.heard() + shared.silence;
                silent && !self.is_stalled(source, &shared.mux)
            }
            State::Plain(plain) => {
                let silent = plain.deadline(shared).is_some_and(|at| now.mono >= at);
                plain.is_over() || (silent && !self.is_stalled(source, &shared.mux))
            }
        }
    }

    /// Writes what waits; whether the peer is gone.
    fn write(&mut self) -> bool {
        while self.writable {
            let pending = match &self.stage {
                State::Gate { reply, .. } => reply.as_slice(),
                State::Open(session) => session.link.pending(),
                State::Plain(_) => &[],
            };
            if pending.is_empty() {
                return false;
            }
            match self.socket.write(pending) {
                Ok(n) => match &mut self.stage {
                    State::Gate { reply, .. } => drop(reply.drain(..n)),
                    State::Open(session) => session.link.consumed(n),
                    State::Plain(_) => {}
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        false
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
        if !self.readable || self.is_choked() || self.is_stalled(source, &shared.mux) {
            return false;
        }
        let len = if shared.mux.owns(source) { space.len() } else { SMALL_READ };
        match self.socket.read(&mut space[..len]) {
            Ok(0) => {
                self.readable = false;
                match &mut self.stage {
                    State::Plain(plain) => plain.end(source, shared),
                    _ => true,
                }
            }
            Ok(n) => {
                // A short read has emptied the socket; more of it will be a new event.
                self.readable = n == len || self.ending;
                self.take(&space[..n], source, now, shared, stage)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                false
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => false,
            Err(_) => true,
        }
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
        let State::Gate { gate, reply, crossed } = &mut self.stage else { return 0 };
        if shared.trace && crossed.is_empty() {
            let meaning = "handshake 1: I hold your public key file";
            crossed.push(Crossing::handshake(false, HELLO_LEN, bytes, meaning));
        }
        let keys: Vec<_> =
            shared.keys.iter().map(|k| Responding { pair: &k.pair, access: &k.access }).collect();
        match gate.feed(bytes, now, &keys, &mut shared.replays) {
            Passage::Nothing => 0,
            Passage::Reply(message) => {
                reply.extend_from_slice(&message[..]);
                if shared.trace {
                    let meaning = "handshake 2: I hold the key";
                    crossed.push(Crossing::handshake(true, message.len(), &message[..], meaning));
                }
                0
            }
            Passage::Proved { session, caller, key, consumed } => {
                let Some(admitted) = shared.host.admit(&caller, key, true) else {
                    shared.host.notice(Notice::TurnedAway(&caller));
                    return 0;
                };
                shared.host.notice(Notice::Connected(&admitted, self.address));
                let mut link = Link::new(*session, now, shared.trace);
                // What began in an earlier read has no beginning here to show.
                let begin = consumed.checked_sub(CONFIRM_LEN);
                let head = begin.map_or(&[][..], |begin| &bytes[begin..consumed]);
                let meaning = "handshake 3: this is who I am";
                crossed.push(Crossing::handshake(false, CONFIRM_LEN, head, meaning));
                link.note(crossed.drain(..));
                let session = Session::welcome(link, admitted, now, shared);
                self.stage = State::Open(Box::new(session));
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
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
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
        self.write();
    }

    /// Writes what the socket takes at once; whether all is written.
    pub fn flush(&mut self) -> bool {
        self.write();
        match &self.stage {
            State::Gate { .. } | State::Plain(_) => true,
            State::Open(session) => session.link.pending().is_empty(),
        }
    }

    /// Nothing more will be written.
    pub fn end_writing(&self) {
        // A peer that is gone already needs no goodbye.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Reads and drops what has come: a socket that is closed with bytes unread sends a reset.
    pub fn drain(&mut self) -> Left {
        let mut space = [0; 16 * 1024];
        for _ in 0..DRAINED_READS {
            match self.socket.read(&mut space) {
                Ok(0) => return Left::Closed,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Left::Nothing,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Left::Closed,
            }
        }
        Left::More
    }

    /// The connection is over: what was not whole never will be.
    pub fn leave(&mut self, source: Source, shared: &mut Shared<'_>) {
        match &mut self.stage {
            // A stranger draws no reset.
            State::Gate { .. } => {
                self.drain();
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

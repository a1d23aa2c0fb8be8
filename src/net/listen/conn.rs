//! One connection to a listener: a gate, then a link.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;

use super::{Answering, Caller, Heard, Host, Notice, Stage};
use crate::crypto::sodium::Random;
use crate::net::sockets::Transport;
use crate::proto::mux::{Mux, Source};
use crate::proto::stream::gate::{Gate, Passage};
use crate::proto::stream::handshake::Responding;
use crate::proto::stream::inbound::{Inbound, Step};
use crate::proto::stream::link::{KEEPALIVE, Link};
use crate::proto::stream::meta::{MessageKind, Meta, Welcome};
use crate::proto::stream::record::{AbortCode, Kind, RefuseCode, Violation, refuse_body};
use crate::proto::stream::replay::ReplayGuard;
use crate::proto::stream::session::PlainBuffer;
use crate::proto::time::Now;

/// What a connection that waits for its turn reads at once, in bytes.
const SMALL_READ: usize = 64 * 1024;
/// Messages of one session that are over and not answered yet; until they are, it is not read.
const MAX_UNANSWERED: usize = 16;
/// A peer that does not take this much of our answers, in bytes, is not read: its next message would
/// only lengthen the queue.
const MAX_UNTAKEN: usize = 64 * 1024;

/// What is dropped at once of what a peer still sends, in reads of 16 KiB.
const DRAINED_READS: usize = 64;

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
    Gate { gate: Gate, reply: Vec<u8> },
    /// The session.
    Open(Box<Open>),
}

struct Open {
    link: Link,
    caller: Caller,
    inbound: Inbound,
    /// The message that comes in.
    current: Option<Heard>,
    /// What is still to be said of messages that are over, in their order: an answer names no
    /// message, its place does.
    answers: VecDeque<Answer>,
    /// Some message was answered.
    answered: bool,
}

enum Answer {
    /// It is whole; ACK once the output has flushed it.
    WhenFlushed(Heard),
    /// REFUSE.
    Refused(RefuseCode),
}

impl Conn {
    /// A connection that was just accepted.
    pub fn new(socket: TcpStream, address: SocketAddr, now: Now, random: &mut dyn Random) -> Self {
        let stage = State::Gate { gate: Gate::new(now, random), reply: Vec::new() };
        Self { socket, address, readable: true, writable: true, ending: false, stage, news: false }
    }

    /// Takes note of an event.
    pub fn on_event(&mut self, event: &Event) {
        self.ending |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ending;
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, State::Open(_))
    }

    /// Whether a message is on its way in or unacknowledged.
    pub fn is_busy(&self) -> bool {
        match &self.stage {
            State::Gate { .. } => false,
            State::Open(open) => open.current.is_some() || !open.answers.is_empty(),
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
            State::Open(open) => !mux.has_room(source) || open.answers.len() >= MAX_UNANSWERED,
        }
    }

    /// Whether it was left only so that others have their turn.
    pub fn has_more(&self) -> bool {
        let wants_write = match &self.stage {
            State::Gate { reply, .. } => !reply.is_empty(),
            State::Open(open) => !open.link.pending().is_empty(),
        };
        (self.readable && !self.is_choked()) || (self.writable && wants_write)
    }

    /// Whether it is not read because it does not read. This excuses no silence.
    fn is_choked(&self) -> bool {
        matches!(&self.stage, State::Open(open) if open.link.pending().len() >= MAX_UNTAKEN)
    }

    /// Silence does not count while we do not read.
    pub fn excuse_silence(&mut self, now: Now) {
        if let State::Open(open) = &mut self.stage {
            open.link.excuse_silence(now);
        }
    }

    /// When it wants to be driven without news.
    pub fn deadline(&self, source: Source, shared: &Shared<'_>) -> Duration {
        match &self.stage {
            State::Gate { gate, .. } => gate.deadline(),
            State::Open(open) => {
                let keepalive = open.link.keepalive_at();
                if self.is_stalled(source, &shared.mux) {
                    keepalive
                } else {
                    keepalive.min(open.link.heard() + shared.silence)
                }
            }
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
            return true;
        }
        if let State::Open(open) = &mut self.stage {
            open.link.keep_alive(now);
        }
        let gone = self.write();
        let closed = !gone && self.read(source, now, space, shared, stage);
        self.write() || gone || closed
    }

    fn is_overdue(&self, source: Source, now: Now, shared: &Shared<'_>) -> bool {
        match &self.stage {
            State::Gate { gate, .. } => now.mono >= gate.deadline(),
            State::Open(open) => {
                let silent = now.mono >= open.link.heard() + shared.silence;
                silent && !self.is_stalled(source, &shared.mux)
            }
        }
    }

    /// Writes what waits; whether the peer is gone.
    fn write(&mut self) -> bool {
        while self.writable {
            let pending = match &self.stage {
                State::Gate { reply, .. } => reply.as_slice(),
                State::Open(open) => open.link.pending(),
            };
            if pending.is_empty() {
                return false;
            }
            match self.socket.write(pending) {
                Ok(n) => match &mut self.stage {
                    State::Gate { reply, .. } => drop(reply.drain(..n)),
                    State::Open(open) => open.link.consumed(n),
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
            Ok(0) => true,
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
            State::Open(open) => {
                let fed = open.take(bytes, source, now, shared, stage);
                self.news |= fed.unwrap_or(false);
                fed.is_err()
            }
        }
    }

    /// Bytes of a handshake; how many of them are records already.
    fn knock(&mut self, bytes: &[u8], now: Now, shared: &mut Shared<'_>) -> usize {
        let State::Gate { gate, reply } = &mut self.stage else { return 0 };
        let keys: Vec<_> =
            shared.keys.iter().map(|k| Responding { pair: &k.pair, access: &k.access }).collect();
        match gate.feed(bytes, now, &keys, &mut shared.replays) {
            Passage::Nothing => 0,
            Passage::Reply(message) => {
                reply.extend_from_slice(&message[..]);
                0
            }
            Passage::Proved { session, caller, key, consumed } => {
                let Some(admitted) = shared.host.admit(&caller, key, true) else {
                    shared.host.notice(Notice::TurnedAway(&caller));
                    return 0;
                };
                shared.host.notice(Notice::Connected(&admitted, self.address));
                let mut link = Link::new(*session, now, shared.trace);
                link.send(Kind::Welcome, &welcome(shared).encode(), now);
                self.stage = State::Open(Box::new(Open {
                    link,
                    caller: admitted,
                    inbound: Inbound::default(),
                    current: None,
                    answers: VecDeque::new(),
                    answered: false,
                }));
                bytes.len() - consumed
            }
        }
    }

    /// The oldest whole message was flushed.
    pub fn acknowledge(&mut self, total: u64, now: Now, shared: &mut Shared<'_>) {
        let State::Open(open) = &mut self.stage else { return };
        if let Some(Answer::WhenFlushed(heard)) = open.answers.pop_front() {
            open.link.send(Kind::Ack, &total.to_be_bytes(), now);
            shared.host.notice(Notice::Delivered(&heard, total));
            open.say_refusals(now);
        }
    }

    /// Refuses the message that comes in, and says why.
    pub fn refuse(&mut self, code: RefuseCode, source: Source, now: Now, shared: &mut Shared<'_>) {
        let State::Open(open) = &mut self.stage else { return };
        let Some(heard) = open.current.take() else { return };
        open.inbound.refuse();
        open.answers.push_back(Answer::Refused(code));
        open.say_refusals(now);
        shared.mux.cut(source);
        shared.host.notice(Notice::Cut(&heard, "refused"));
    }

    /// Refuses all that is not acknowledged: it never will be.
    pub fn refuse_all(
        &mut self,
        code: RefuseCode,
        source: Source,
        now: Now,
        shared: &mut Shared<'_>,
    ) {
        self.refuse(code, source, now, shared);
        let State::Open(open) = &mut self.stage else { return };
        for answer in &mut open.answers {
            *answer = Answer::Refused(code);
        }
        open.say_refusals(now);
    }

    /// Whether it may still begin a message, which then wants an answer: it is let in and has said
    /// nothing, or it knows our key, or (at `first`) it may yet show that it does.
    pub fn may_begin(&self, first: bool) -> bool {
        match &self.stage {
            State::Gate { gate, .. } => gate.is_answered() || (first && !gate.is_silent()),
            State::Open(open) => !open.inbound.within() && !open.answered,
        }
    }

    /// Says that we stop, and writes what the socket takes at once.
    pub fn stop(&mut self, now: Now) {
        if let State::Open(open) = &mut self.stage {
            open.link.send(Kind::Abort, &[AbortCode::Stopped as u8], now);
        }
        self.write();
    }

    /// Writes what the socket takes at once; whether all is written.
    pub fn flush(&mut self) -> bool {
        self.write();
        match &self.stage {
            State::Gate { .. } => true,
            State::Open(open) => open.link.pending().is_empty(),
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
        let State::Open(open) = &mut self.stage else {
            // A stranger draws no reset.
            self.drain();
            return;
        };
        if let Some(heard) = open.current.take() {
            shared.mux.cut(source);
            shared.host.notice(Notice::Cut(&heard, "the connection ended"));
        }
    }

    fn show_crossings(&mut self, shared: &mut Shared<'_>) {
        if let State::Open(open) = &mut self.stage {
            for crossing in open.link.take_trace() {
                shared.host.notice(Notice::Crossed(&crossing));
            }
        }
    }
}

/// What the responder says first. A user with less patience than a keepalive asks for more of them.
fn welcome(shared: &Shared<'_>) -> Welcome {
    let often = shared.silence / 3;
    let keepalive_ms = (often < KEEPALIVE).then_some(often.as_millis() as u64);
    Welcome { largest: None, challenge: None, keepalive_ms }
}

impl Open {
    /// Says what needs no waiting for, up to the first message that does.
    fn say_refusals(&mut self, now: Now) {
        self.answered = true;
        while let Some(Answer::Refused(code)) = self.answers.front() {
            self.link.send(Kind::Refuse, &refuse_body(*code, ""), now);
            self.answers.pop_front();
        }
    }

    /// Bytes of records. Whether any of them belonged to a message; an error ends the connection.
    fn take(
        &mut self,
        bytes: &[u8],
        source: Source,
        now: Now,
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) -> Result<bool, Violation> {
        let Self { link, caller, inbound, current, answers, .. } = self;
        let mut keepalive = None;
        let mut news = false;
        link.feed(bytes, now, &mut shared.plain, |kind, body| {
            match inbound.step(kind, body)? {
                Step::Begin(meta) => {
                    keepalive = meta.keepalive_ms;
                    news = true;
                    if let Some(code) = shared.refusing.or_else(|| unwanted(&meta)) {
                        inbound.refuse();
                        answers.push_back(Answer::Refused(code));
                        return Ok(());
                    }
                    let heard = heard(&meta, caller, now);
                    shared.mux.begin(source, heard.clone(), now.mono);
                    *current = Some(heard);
                }
                Step::Data(data) => {
                    news = true;
                    shared.mux.data(source, data, now.mono, stage);
                }
                Step::End => {
                    shared.mux.end(source);
                    answers.extend(current.take().map(Answer::WhenFlushed));
                }
                Step::Aborted(code) => {
                    shared.mux.cut(source);
                    if let Some(heard) = current.take() {
                        shared.host.notice(Notice::Cut(&heard, abort_reason(code)));
                    }
                }
                Step::Nothing => {}
            }
            Ok(())
        })?;
        if let Some(ms) = keepalive {
            link.ask_keepalive(ms);
        }
        if !self.answers.is_empty() {
            self.say_refusals(now);
        }
        Ok(news)
    }
}

fn unwanted(meta: &Meta) -> Option<RefuseCode> {
    let wanted = [MessageKind::Message as u8, MessageKind::ChatLine as u8].contains(&meta.kind);
    (!wanted).then_some(RefuseCode::NotWanted)
}

fn heard(meta: &Meta, caller: &Caller, now: Now) -> Heard {
    Heard {
        id: meta.id,
        caller: caller.clone(),
        sent_ms: meta.time_ms,
        arrived_ms: now.unix_ms,
        transport: Transport::Tcp,
    }
}

fn abort_reason(code: u8) -> &'static str {
    match code {
        c if c == AbortCode::CannotRead as u8 => "the sender could not read its input",
        c if c == AbortCode::Stopped as u8 => "the sender was stopped",
        _ => "the sender gave up",
    }
}

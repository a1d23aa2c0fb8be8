//! `--plain`: bytes as they are, to a bare `nc`. Nothing here is encrypted, and nobody proves
//! anything; only an explicit wish leads here, never a failure of something else.
//!
//! Over TCP the input is the connection's content and its end the connection's end: FIN, then the
//! peer's FIN. What comes back is read, because a peer that cannot write may not read either, and
//! dropped.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::Events;
use mio::event::Event;
use mio::net::{TcpStream, UdpSocket};

use super::dial::{DialError, NotOpened, Opening};
use super::hub::Hub;
use super::input::{Got, Input};
use super::send::{Cut, Delivered, Limits, PEER, SendError, dial_any};
use super::send_datagrams::{connect, look_up, wait};
use super::via::Place;
use crate::proto::stream::link::Crossing;
use crate::proto::time::Now;

/// What is read of the input at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// Chunks before the peer, or a signal, is heard again.
const CHUNKS_A_TURN: usize = 32;
/// The largest datagram, in bytes: no path on the Internet has to split it.
const DATAGRAM: usize = 1200;
/// What the peer says is dropped.
const READ_SPACE: usize = 16 * 1024;

/// A call to somebody who is to prove nothing.
pub struct Bare {
    /// Connecting may take this long.
    pub patience: Duration,
    /// The peer may take nothing for so long; `None` while its reader pauses.
    pub stall: Option<Duration>,
}

impl Opening for Bare {
    type Underway = ();
    type Opened = ();

    fn patience(&self) -> Duration {
        self.patience
    }

    fn begin(&self, _: &Place, _: Now) -> io::Result<()> {
        Ok(())
    }

    fn advance(&self, (): &mut (), _: &mut TcpStream, _: Now) -> Result<Option<()>, NotOpened> {
        Ok(Some(()))
    }
}

/// What was handed over, and what came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// Where, and how much.
    pub sent: Delivered,
    /// Bytes that came back and were dropped.
    pub dropped: u64,
}

/// Sends all input over TCP, in the clear, and waits until the peer's system has taken every byte
/// and the peer has closed the connection in order: for `limits.silence` at most.
///
/// # Errors
/// [`SendError`]; a reset is [`Cut::Closed`].
pub fn send_plain_stream(
    hub: &mut Hub,
    bare: &Bare,
    targets: &[Place],
    input: Input,
    limits: &mut Limits<'_>,
) -> Result<HandedOver, SendError> {
    let mut events = Events::with_capacity(16);
    let dialed = dial_any(hub, bare, targets, &mut events)?;
    let now = hub.clock.now().mono;
    let stall = bare.stall;
    let source = Source::new(input, CHUNK);
    let (socket, address) = (dialed.socket, dialed.address);
    Stream {
        socket,
        address,
        source,
        stall,
        readable: true,
        writable: true,
        half_closed: false,
        peer_closed: false,
        moved: now,
        dropped: 0,
    }
    .run(hub, &mut events, limits)
}

/// The input, and the part of it that is on its way.
struct Source {
    input: Input,
    chunk: Vec<u8>,
    at: usize,
    filled: usize,
    ended: bool,
    /// Bytes read so far.
    total: u64,
}

impl Source {
    fn new(input: Input, chunk: usize) -> Self {
        Self { input, chunk: vec![0; chunk], at: 0, filled: 0, ended: false, total: 0 }
    }

    fn pending(&self) -> &[u8] {
        &self.chunk[self.at..self.filled]
    }

    /// The next chunk, if the last one is used up; whether there is anything to send.
    fn fill(&mut self) -> Result<bool, SendError> {
        if self.pending().is_empty() && !self.ended {
            (self.at, self.filled) = (0, 0);
            match self.input.read(&mut self.chunk).map_err(SendError::Input)? {
                Got::Bytes(n) => self.filled = n,
                Got::Later => {}
                Got::End => self.ended = true,
            }
            self.total += self.filled as u64;
        }
        Ok(!self.pending().is_empty())
    }

    fn is_over(&self) -> bool {
        self.ended && self.pending().is_empty()
    }
}

/// A connection, and how far it is towards its end.
struct Stream {
    socket: TcpStream,
    address: SocketAddr,
    source: Source,
    stall: Option<Duration>,
    readable: bool,
    writable: bool,
    /// Our FIN is sent.
    half_closed: bool,
    /// The peer's FIN came.
    peer_closed: bool,
    /// When bytes, or an end, last crossed the wire.
    moved: Duration,
    dropped: u64,
}

impl Stream {
    fn run(
        mut self,
        hub: &mut Hub,
        events: &mut Events,
        limits: &mut Limits<'_>,
    ) -> Result<HandedOver, SendError> {
        loop {
            let now = hub.clock.now().mono;
            let more = self.progress(now, limits)?;
            if self.is_closed()? {
                let sent = Delivered { address: Some(self.address), total: self.source.total };
                return Ok(HandedOver { sent, dropped: self.dropped });
            }
            let deadline = self.deadline(limits);
            if let Some((at, silence)) = deadline
                && now >= at
            {
                return Err(SendError::CutOff(self.address, Cut::Silence(silence)));
            }
            let until = if more { Some(now) } else { deadline.map(|(at, _)| at) };
            wait(hub, events, until)?;
            events.iter().filter(|e| e.token() == PEER).for_each(|e| self.on_event(e));
        }
    }

    fn on_event(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// What can be done without waiting, up to a limit; whether there is more.
    fn progress(&mut self, now: Duration, limits: &mut Limits<'_>) -> Result<bool, SendError> {
        self.drain(now)?;
        let mut writes = 0;
        while writes < CHUNKS_A_TURN && self.writable && self.source.fill()? {
            self.write(now, limits)?;
            writes += 1;
        }
        if self.source.is_over() && !self.half_closed {
            self.socket.shutdown(Shutdown::Write).map_err(|_| self.cut())?;
            (self.half_closed, self.moved) = (true, now);
        }
        Ok(writes == CHUNKS_A_TURN || self.readable)
    }

    fn write(&mut self, now: Duration, limits: &mut Limits<'_>) -> Result<(), SendError> {
        match self.socket.write(self.source.pending()) {
            Ok(n) => {
                show(limits, &self.source.pending()[..n]);
                self.source.at += n;
                self.moved = now;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(self.cut()),
        }
        Ok(())
    }

    fn drain(&mut self, now: Duration) -> Result<(), SendError> {
        let mut space = [0; READ_SPACE];
        for _ in 0..CHUNKS_A_TURN {
            if !self.readable || self.peer_closed {
                self.readable = false;
                break;
            }
            match self.socket.read(&mut space) {
                Ok(0) => (self.peer_closed, self.moved) = (true, now),
                Ok(n) => {
                    self.dropped += n as u64;
                    self.moved = now;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.cut()),
            }
        }
        Ok(())
    }

    /// Whether both ends have closed it and every byte of ours, FIN included, is acknowledged by the
    /// peer's system: only then does the socket forget its peer.
    fn is_closed(&self) -> Result<bool, SendError> {
        if !(self.half_closed && self.peer_closed) {
            return Ok(false);
        }
        let forgotten = |e: &io::Error| e.kind() == io::ErrorKind::NotConnected;
        if !self.socket.peer_addr().is_err_and(|e| forgotten(&e)) {
            return Ok(false);
        }
        match self.socket.take_error().map_err(SendError::Local)? {
            Some(_) => Err(self.cut()),
            None => Ok(true),
        }
    }

    /// Until when something must move, and how long that is. Input that pauses has no limit.
    fn deadline(&self, limits: &Limits<'_>) -> Option<(Duration, Duration)> {
        let silence = if self.half_closed { Some(limits.silence) } else { self.stall };
        let waiting = self.half_closed || !self.source.pending().is_empty();
        silence.filter(|_| waiting).map(|silence| (self.moved + silence, silence))
    }

    fn cut(&self) -> SendError {
        SendError::CutOff(self.address, Cut::Closed)
    }
}

/// Sends all input over UDP, in the clear, a datagram for each read of it: whoever writes a line at
/// a time sends a line a datagram. Nobody answers, so nothing is waited for.
///
/// # Errors
/// [`SendError`]; a refusal is seen only if it comes before the last datagram is sent.
pub fn send_plain_datagrams(
    hub: &mut Hub,
    bare: &Bare,
    targets: &[Place],
    input: Input,
    limits: &mut Limits<'_>,
) -> Result<HandedOver, SendError> {
    let mut events = Events::with_capacity(16);
    let addresses = look_up(hub, targets, bare.patience, &mut events)?;
    let (socket, address) = first_reachable(hub, addresses)?;
    let mut source = Source::new(input, DATAGRAM);
    let mut dropped = 0;
    loop {
        let refused = |e| SendError::Dial(DialError::refused(address, e));
        let more = send_some(&socket, &mut source, limits, refused)?;
        dropped += drop_answers(&socket).map_err(refused)?;
        if source.is_over() {
            let sent = Delivered { address: Some(address), total: source.total };
            return Ok(HandedOver { sent, dropped });
        }
        wait(hub, &mut events, more.then_some(Duration::ZERO))?;
    }
}

/// The first address that the system knows a way to.
fn first_reachable(
    hub: &Hub,
    addresses: Vec<SocketAddr>,
) -> Result<(UdpSocket, SocketAddr), SendError> {
    let mut failure = None;
    for address in addresses {
        match connect(hub, address, PEER) {
            Ok(socket) => return Ok((socket, address)),
            Err(e) => failure = Some(DialError::refused(address, e).or_better(failure)),
        }
    }
    let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    Err(SendError::Dial(failure.unwrap_or(DialError::NotFound(none))))
}

/// Sends what can be sent without waiting, up to a limit; whether there is more.
fn send_some(
    socket: &UdpSocket,
    source: &mut Source,
    limits: &mut Limits<'_>,
    refused: impl Fn(io::Error) -> SendError,
) -> Result<bool, SendError> {
    for _ in 0..CHUNKS_A_TURN {
        if !source.fill()? {
            return Ok(false);
        }
        match socket.send(source.pending()) {
            Ok(n) => {
                show(limits, source.pending());
                source.at += n;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(refused(e)),
        }
    }
    Ok(true)
}

/// Reads what came back; how many bytes that was.
fn drop_answers(socket: &UdpSocket) -> io::Result<u64> {
    let mut space = [0; READ_SPACE];
    let mut dropped = 0;
    for _ in 0..CHUNKS_A_TURN {
        match socket.recv(&mut space) {
            Ok(n) => dropped += n as u64,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(dropped)
}

fn show(limits: &mut Limits<'_>, bytes: &[u8]) {
    if let Some(trace) = &mut limits.trace {
        trace(&Crossing::unsealed(true, bytes));
    }
}

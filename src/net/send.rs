//! One message to one peer over a stream: the sender's pump, from its input to the peer's
//! acknowledgement.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Token};

use super::dial::{Call, DialError, Dialed, Dialing, NoProof, Opening};
use super::hub::{Hub, WAKE};
use super::input::{Got, Input};
use super::resolve::HostPort;
use crate::proto::stream::link::Crossing;
use crate::proto::stream::meta::{Meta, Welcome};
use crate::proto::stream::record::{
    AbortCode, Kind, MAX_BODY, Violation, parse_abort, parse_refuse, parse_total,
};
use crate::proto::stream::session::{PlainBuffer, plain_buffer};
use crate::proto::time::Now;

/// The token of the one connection.
pub(super) const PEER: Token = Token(1);
/// Records are sealed ahead of the socket up to this many bytes: four to a write.
const AHEAD: usize = 4 * MAX_BODY;
/// A fast peer must not keep us from hearing it, or a signal.
const WRITES_A_TURN: usize = 32;
/// What may be sent before the responder has let us in, in bytes. PROTOCOL.md, section 3.4.
const BEFORE_WELCOME: u64 = 256 * 1024;
/// What the peer says is short: acknowledgements and signs of life.
const READ_SPACE: usize = 16 * 1024;

/// Why a message was not delivered.
#[derive(Debug)]
pub enum SendError {
    /// Nobody was reached.
    Dial(DialError),
    /// The session ended before everything was acknowledged.
    CutOff(SocketAddr, Cut),
    /// The recipient does not want it; a [`crate::proto::stream::record::RefuseCode`] and its text,
    /// which is not fit for a terminal yet.
    Declined(u8, String),
    /// The input could not be read.
    Input(io::Error),
    /// The sealed file could not be written.
    Output(io::Error),
    /// The system failed us.
    Local(io::Error),
    /// A signal arrived; the peer has been told.
    Signal(i32),
}

/// How a session was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Not a sign of life for so long.
    Silence(Duration),
    /// The connection was closed or reset.
    Closed,
    /// The recipient was stopped.
    Stopped,
    /// The peer broke the protocol.
    Broken(Violation),
}

/// What was delivered, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The address that proved the key, if anybody was asked to.
    pub address: Option<SocketAddr>,
    /// Bytes acknowledged, sent or sealed.
    pub total: u64,
}

/// What is to be sent.
pub enum Task {
    /// Shake hands only: is the peer there?
    Ping,
    /// Everything that the input gives, as one message.
    Message(Meta, Input),
}

/// How long things may take, and who watches.
pub struct Limits<'a> {
    /// The peer may be silent this long.
    pub silence: Duration,
    /// Sees what crosses the wire, if anybody does.
    pub trace: Option<&'a mut dyn FnMut(&Crossing)>,
}

/// Sends one message over TCP, to the first of `targets` that proves the key, and waits until it is delivered.
///
/// # Errors
/// [`SendError`]; whatever it is, nothing was acknowledged that was not delivered.
pub fn send_stream(
    hub: &mut Hub,
    call: &Call<'_>,
    targets: &[HostPort],
    task: Task,
    limits: &mut Limits<'_>,
) -> Result<Delivered, SendError> {
    let mut events = Events::with_capacity(16);
    let dialed = dial_any(hub, call, targets, &mut events)?;
    Pump::new(dialed, task, limits.silence).run(hub, &mut events, limits)
}

/// Each target in turn; of all failures the one that says most.
pub(super) fn dial_any<O: Opening>(
    hub: &mut Hub,
    opening: &O,
    targets: &[HostPort],
    events: &mut Events,
) -> Result<Dialed<O::Opened>, SendError> {
    let mut failure: Option<DialError> = None;
    for target in targets {
        match dial(hub, opening, target, events) {
            Err(SendError::Dial(e)) => failure = Some(e.or_better(failure)),
            other => return other,
        }
    }
    let none = io::Error::new(io::ErrorKind::NotFound, "no address is known");
    Err(SendError::Dial(failure.unwrap_or(DialError::NotFound(none))))
}

fn dial<O: Opening>(
    hub: &mut Hub,
    opening: &O,
    target: &HostPort,
    events: &mut Events,
) -> Result<Dialed<O::Opened>, SendError> {
    let mut dialing = Dialing::start(hub, opening, target, PEER).map_err(SendError::Local)?;
    loop {
        let now = hub.clock.now();
        if let Some(dialed) = dialing.advance(hub.registry(), now).map_err(SendError::Dial)? {
            return Ok(dialed);
        }
        hub.wait(events, Some(dialing.deadline())).map_err(SendError::Local)?;
        events.iter().filter(|e| e.token() == PEER).for_each(|e| dialing.on_event(e));
        if let Some(signal) = hub.signals.arrived() {
            return Err(SendError::Signal(signal));
        }
    }
}

/// An established connection and what goes through it.
struct Pump {
    dialed: Dialed,
    task: Task,
    silence: Duration,
    readable: bool,
    writable: bool,
    /// The peer closed or the connection broke: reading goes on until it says so.
    ending: bool,
    welcomed: bool,
    /// Bytes of the message that were sealed.
    sealed: u64,
    /// END was sent.
    ended: bool,
    outcome: Option<Result<u64, SendError>>,
    plain: PlainBuffer,
}

impl Pump {
    fn new(dialed: Dialed, task: Task, silence: Duration) -> Self {
        Self {
            dialed,
            task,
            silence,
            readable: true,
            writable: true,
            ending: false,
            welcomed: false,
            sealed: 0,
            ended: false,
            outcome: None,
            plain: plain_buffer(),
        }
    }

    fn run(
        mut self,
        hub: &mut Hub,
        events: &mut Events,
        limits: &mut Limits<'_>,
    ) -> Result<Delivered, SendError> {
        let mut space = vec![0; READ_SPACE];
        self.begin(hub.clock.now());
        loop {
            let now = hub.clock.now();
            let busy = self.progress(now, &mut space);
            if let Some(trace) = &mut limits.trace {
                self.dialed.link.take_trace().iter().for_each(trace);
            }
            if let Some(outcome) = self.outcome.take() {
                let address = Some(self.dialed.address);
                return outcome.map(|total| Delivered { address, total });
            }
            let until = if busy { now.mono } else { self.deadline() };
            hub.wait(events, Some(until)).map_err(SendError::Local)?;
            events.iter().filter(|e| e.token() != WAKE).for_each(|e| self.on_event(e));
            if let Some(signal) = hub.signals.arrived() {
                self.give_up(AbortCode::Stopped, hub.clock.now());
                return Err(SendError::Signal(signal));
            }
        }
    }

    fn on_event(&mut self, event: &Event) {
        self.ending |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ending;
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    fn begin(&mut self, now: Now) {
        if let Task::Message(meta, input) = &self.task {
            input.begin(meta.id);
            self.dialed.link.send(Kind::Meta, &meta.encode(), now);
        }
    }

    /// What can be done without waiting, up to a limit; whether there is more.
    fn progress(&mut self, now: Now, space: &mut [u8]) -> bool {
        // Who was stopped for a while has not looked yet whether the peer spoke meanwhile.
        self.readable |= now.mono >= self.deadline();
        self.read(now, space);
        if self.outcome.is_some() {
            return false;
        }
        self.dialed.link.keep_alive(now);
        self.check_silence(now);
        for _ in 0..WRITES_A_TURN {
            let filled = self.fill(now);
            let written = self.write();
            if self.outcome.is_some() || !(filled && written) {
                return false;
            }
        }
        true
    }

    /// Seals input until enough is ahead of the socket; whether it might seal more.
    fn fill(&mut self, now: Now) -> bool {
        while self.wants_input() {
            let Task::Message(_, input) = &mut self.task else { return false };
            match input.read(self.dialed.link.data_space()) {
                Ok(Got::Bytes(n)) => {
                    self.dialed.link.send_data(n, now);
                    self.sealed += n as u64;
                }
                Ok(Got::Later) => return false,
                Ok(Got::End) => {
                    self.ended = true;
                    self.dialed.link.send(Kind::End, &self.sealed.to_be_bytes(), now);
                }
                Err(e) => {
                    self.give_up(AbortCode::CannotRead, now);
                    self.outcome = Some(Err(SendError::Input(e)));
                }
            }
        }
        self.may_send_data()
    }

    fn wants_input(&self) -> bool {
        self.may_send_data() && self.dialed.link.pending().len() < AHEAD && self.outcome.is_none()
    }

    /// Whether there is more to send, and the peer lets us send it.
    fn may_send_data(&self) -> bool {
        let admitted = self.welcomed || self.sealed + (MAX_BODY as u64) <= BEFORE_WELCOME;
        matches!(self.task, Task::Message(..)) && !self.ended && admitted
    }

    /// Writes what is sealed; whether the socket took all of it.
    fn write(&mut self) -> bool {
        let Dialed { socket, link, .. } = &mut self.dialed;
        while self.writable && !link.pending().is_empty() {
            match socket.write(link.pending()) {
                Ok(n) => link.consumed(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // What the peer said before it closed is still to be read.
                Err(_) => {
                    self.writable = false;
                    self.readable = true;
                    return false;
                }
            }
        }
        self.writable
    }

    fn read(&mut self, now: Now, space: &mut [u8]) {
        while self.readable && self.outcome.is_none() {
            match self.dialed.socket.read(space) {
                Ok(0) => self.closed(),
                Ok(n) => {
                    // A short read has emptied the socket; more of it will be a new event.
                    self.readable = n == space.len() || self.ending;
                    self.take(&space[..n], now);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.closed(),
            }
        }
    }

    fn closed(&mut self) {
        let address = self.dialed.address;
        self.outcome = Some(Err(if self.welcomed {
            SendError::CutOff(address, Cut::Closed)
        } else {
            SendError::Dial(DialError::NoProof(address, NoProof::Closed))
        }));
    }

    fn take(&mut self, bytes: &[u8], now: Now) {
        let Dialed { link, address, .. } = &mut self.dialed;
        let mut asked = None;
        let (welcomed, outcome) = (&mut self.welcomed, &mut self.outcome);
        let pinging = matches!(self.task, Task::Ping);
        let expected = self.ended.then_some(self.sealed);
        let fed = link.feed(bytes, now, &mut self.plain, |kind, body| {
            match kind {
                Kind::Welcome if !*welcomed => {
                    asked = Welcome::decode(body)?.keepalive_ms;
                    *welcomed = true;
                    if pinging {
                        *outcome = Some(Ok(0));
                    }
                }
                _ if !*welcomed => return Err(Violation::OutOfOrder),
                Kind::Ack => match parse_total(body)? {
                    total if Some(total) == expected => *outcome = Some(Ok(total)),
                    _ => return Err(Violation::OutOfOrder),
                },
                Kind::Refuse => {
                    let (code, text) = parse_refuse(body)?;
                    outcome.get_or_insert(Err(SendError::Declined(code, text)));
                }
                Kind::Abort => {
                    parse_abort(body)?;
                    outcome.get_or_insert(Err(SendError::CutOff(*address, Cut::Stopped)));
                }
                Kind::Pad => {}
                _ => return Err(Violation::OutOfOrder),
            }
            Ok(())
        });
        if let Some(ms) = asked {
            link.ask_keepalive(ms);
        }
        if let Err(violation) = fed {
            let address = *address;
            self.outcome.get_or_insert(Err(SendError::CutOff(address, Cut::Broken(violation))));
        }
        if matches!(self.outcome, Some(Err(SendError::Declined(..)))) {
            self.give_up(AbortCode::Refused, now);
        }
    }

    /// Tells the peer, as far as the socket takes it at once.
    fn give_up(&mut self, code: AbortCode, now: Now) {
        self.dialed.link.send(Kind::Abort, &[code as u8], now);
        self.write();
    }

    fn deadline(&self) -> Duration {
        let silence = self.dialed.link.heard() + self.silence;
        let let_in = if self.welcomed { silence } else { self.dialed.until };
        let_in.min(silence).min(self.dialed.link.keepalive_at())
    }

    fn check_silence(&mut self, now: Now) {
        let address = self.dialed.address;
        if self.outcome.is_some() {
            return;
        }
        if !self.welcomed && now.mono >= self.dialed.until {
            let refusal = NoProof::NotLetIn(super::dial::CONNECT_TIME.min(self.silence));
            self.outcome = Some(Err(SendError::Dial(DialError::NoProof(address, refusal))));
        } else if self.welcomed && now.mono >= self.dialed.link.heard() + self.silence {
            self.outcome = Some(Err(SendError::CutOff(address, Cut::Silence(self.silence))));
        }
    }
}

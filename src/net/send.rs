//! To one peer over a stream: the sender's pump, from what it says to the peer's acknowledgement.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::{Events, Token};

use super::dial::{Call, Calling, DialError, Dialed, NoProof, Opening};
use super::feed::Feed;
use super::hub::{Hub, WAKE};
use super::resolve::HostPort;
use super::speaker::Speaker;
use super::wire::{Read, Wire, Wrote};
use crate::proto::stream::link::{Crossing, Link};
use crate::proto::stream::meta::Welcome;
use crate::proto::stream::record::{AbortCode, Kind, Violation, parse_abort};
use crate::proto::stream::session::{PlainBuffer, plain_buffer};
use crate::proto::time::Now;

/// The token of the one connection.
pub(super) const PEER: Token = Token(1);
/// A fast peer must not keep us from hearing it, or a signal.
const WRITES_A_TURN: usize = 32;
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
    /// Others were held up by it, so many bytes behind them.
    TooSlow(u64),
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
    /// Everything that the feed gives.
    Say(Box<dyn Feed>),
}

/// How long things may take, and who watches.
pub struct Limits<'a> {
    /// The peer may be silent this long.
    pub silence: Duration,
    /// Sees what crosses the wire, if anybody does.
    pub trace: Option<&'a mut dyn FnMut(&Crossing)>,
}

/// Says it over TCP, to the first of `targets` that proves the key, and waits until it is delivered.
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
pub(super) fn dial_any<O: Opening + Copy>(
    hub: &mut Hub,
    opening: O,
    targets: &[HostPort],
    events: &mut Events,
) -> Result<Dialed<O::Opened>, SendError> {
    let mut calling = Calling::new(opening, targets, PEER);
    loop {
        if let Some(dialed) = calling.advance(hub).map_err(SendError::Dial)? {
            return Ok(dialed);
        }
        hub.wait(events, Some(calling.deadline())).map_err(SendError::Local)?;
        events.iter().filter(|e| e.token() == PEER).for_each(|e| calling.on_event(e));
        if let Some(signal) = hub.signals.arrived() {
            return Err(SendError::Signal(signal));
        }
    }
}

/// An established connection and what goes through it.
struct Pump {
    wire: Wire,
    link: Link,
    /// Until when it may take to let us in.
    until: Duration,
    /// What is said; nothing if the peer is only asked whether it is there.
    speaker: Option<Speaker>,
    silence: Duration,
    welcomed: bool,
    outcome: Option<Result<u64, SendError>>,
    plain: PlainBuffer,
}

impl Pump {
    fn new(dialed: Dialed, task: Task, silence: Duration) -> Self {
        Self {
            wire: Wire::new(dialed.socket, dialed.address),
            link: dialed.link,
            until: dialed.until,
            speaker: match task {
                Task::Ping => None,
                Task::Say(feed) => Some(Speaker::knocking(feed)),
            },
            silence,
            welcomed: false,
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
        loop {
            let now = hub.clock.now();
            let busy = self.progress(now, &mut space);
            if let Some(trace) = &mut limits.trace {
                self.link.take_trace().iter().for_each(trace);
            }
            if let Some(outcome) = self.outcome.take() {
                let address = Some(self.wire.address);
                return outcome.map(|total| Delivered { address, total });
            }
            let until = if busy { now.mono } else { self.deadline() };
            hub.wait(events, Some(until)).map_err(SendError::Local)?;
            events.iter().filter(|e| e.token() != WAKE).for_each(|e| self.wire.on_event(e));
            if let Some(signal) = hub.signals.arrived() {
                self.give_up(AbortCode::Stopped, hub.clock.now());
                return Err(SendError::Signal(signal));
            }
        }
    }

    /// What can be done without waiting, up to a limit; whether there is more.
    fn progress(&mut self, now: Now, space: &mut [u8]) -> bool {
        if now.mono >= self.deadline() {
            self.wire.look_again();
        }
        self.read(now, space);
        if self.outcome.is_some() {
            return false;
        }
        self.link.keep_alive(now);
        self.check_silence(now);
        for _ in 0..WRITES_A_TURN {
            let more = self.fill(now) && self.wire.pour(&mut self.link) == Wrote::All;
            if !more {
                self.wire.pour(&mut self.link);
                self.conclude();
                return false;
            }
        }
        true
    }

    /// Seals until enough is ahead of the socket; whether there may be more to seal.
    fn fill(&mut self, now: Now) -> bool {
        let Some(speaker) = &mut self.speaker else { return false };
        match speaker.fill(&mut self.link, now) {
            Ok(more) => more,
            Err(e) => {
                self.give_up(AbortCode::CannotRead, now);
                self.outcome.get_or_insert(Err(SendError::Input(e)));
                false
            }
        }
    }

    /// Everything is said and answered.
    fn conclude(&mut self) {
        if self.outcome.is_some() || !self.speaker.as_ref().is_some_and(Speaker::is_over) {
            return;
        }
        let Some(summary) = self.speaker.take().map(Speaker::into_summary) else { return };
        self.outcome = Some(match (summary.unread, summary.refused) {
            (Some(e), _) => Err(SendError::Input(e)),
            (None, Some((code, text))) => Err(SendError::Declined(code, text)),
            (None, None) => Ok(summary.delivered),
        });
    }

    fn read(&mut self, now: Now, space: &mut [u8]) {
        while self.outcome.is_none() {
            match self.wire.read(space) {
                Read::Bytes(n) => self.take(&space[..n], now),
                Read::Later => return,
                Read::Closed | Read::Broken => self.ended(Cut::Closed, now),
            }
        }
    }

    /// The peer says no more. That is no fault if it has answered everything.
    fn ended(&mut self, cut: Cut, now: Now) {
        self.fill(now);
        self.conclude();
        let address = self.wire.address;
        self.outcome.get_or_insert(Err(match cut {
            Cut::Closed if !self.welcomed => {
                SendError::Dial(DialError::NoProof(address, NoProof::Closed))
            }
            cut => SendError::CutOff(address, cut),
        }));
    }

    fn take(&mut self, bytes: &[u8], now: Now) {
        let (mut asked, mut stopped) = (None, false);
        let Self { link, speaker, welcomed, outcome, plain, .. } = self;
        let fed = link.feed(bytes, now, plain, |kind, body| {
            match (kind, speaker.as_mut()) {
                (Kind::Welcome, speaker) if !*welcomed => {
                    asked = Welcome::decode(body)?.keepalive_ms;
                    *welcomed = true;
                    match speaker {
                        Some(speaker) => speaker.let_in(),
                        None => *outcome = Some(Ok(0)),
                    }
                }
                _ if !*welcomed => return Err(Violation::OutOfOrder),
                (Kind::Ack | Kind::Refuse | Kind::Resume, Some(speaker)) => {
                    speaker.hear(kind, body)?;
                }
                (Kind::Abort, _) => {
                    parse_abort(body)?;
                    stopped = true;
                }
                (Kind::Pad, _) => {}
                _ => return Err(Violation::OutOfOrder),
            }
            Ok(())
        });
        if let Some(ms) = asked {
            link.ask_keepalive(ms);
        }
        match fed {
            Err(violation) => self.ended(Cut::Broken(violation), now),
            Ok(()) if stopped => self.ended(Cut::Stopped, now),
            Ok(()) => {}
        }
    }

    /// Tells the peer, as far as the socket takes it at once.
    fn give_up(&mut self, code: AbortCode, now: Now) {
        self.link.send(Kind::Abort, &[code as u8], now);
        self.wire.pour(&mut self.link);
    }

    fn deadline(&self) -> Duration {
        let silence = self.link.heard() + self.silence;
        let let_in = if self.welcomed { silence } else { self.until };
        let_in.min(silence).min(self.link.keepalive_at())
    }

    fn check_silence(&mut self, now: Now) {
        let address = self.wire.address;
        if self.outcome.is_some() {
            return;
        }
        if !self.welcomed && now.mono >= self.until {
            let refusal = NoProof::NotLetIn(super::dial::CONNECT_TIME.min(self.silence));
            self.outcome = Some(Err(SendError::Dial(DialError::NoProof(address, refusal))));
        } else if self.welcomed && now.mono >= self.link.heard() + self.silence {
            self.outcome = Some(Err(SendError::CutOff(address, Cut::Silence(self.silence))));
        }
    }
}

//! To one peer over a stream: the sender's pump, from what it says to the peer's acknowledgement.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Token};

use super::call::Call;
use super::dial::{CONNECT_TIME, Calling, DialError, Dialed, NoProof, Opening};
use super::feed::Feed;
use super::hub::Hub;
use super::several::{Peer, Turn};
use super::speaker::Speaker;
use super::tokens::Topic;
use super::via::Place;
use super::wire::{Read, Wire, Wrote};
use crate::proto::stream::link::{Crossing, Link};
use crate::proto::stream::meta::Welcome;
use crate::proto::stream::record::{AbortCode, Kind, Violation, parse_abort};
use crate::proto::stream::session::{PlainBuffer, plain_buffer};
use crate::proto::time::Now;

/// The token of the one recipient.
pub(super) const PEER: Token = Topic::Peer(0).token();
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
    /// A relay holds all of it, and the recipient did not acknowledge it yet.
    Queued(Held),
    /// The input could not be read.
    Input(io::Error),
    /// The sealed file could not be written.
    Output(io::Error),
    /// The system failed us.
    Local(io::Error),
    /// A signal arrived; the peer has been told.
    Signal(i32),
}

/// Where something waits for its recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The relay's name.
    pub relay: String,
    /// For how long it holds what it has; zero if it does not say.
    pub ttl: Duration,
}

/// How a session was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Not a sign of life for so long.
    Silence(Duration),
    /// The peer has not delivered a message for so long, which is too old now.
    Undelivered(Duration),
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

/// A peer that is spoken to over TCP.
pub struct Stream<'a> {
    silence: Duration,
    stage: Stage<'a>,
}

enum Stage<'a> {
    /// It is called, and will be told this.
    Calling(Box<Calling<&'a Call<'a>>>, Option<Task>),
    /// It is told.
    Talking(Box<Pump>),
}

impl<'a> Stream<'a> {
    /// What `call` and `targets` say; its connection registers as `token`.
    pub fn new(
        call: &'a Call<'a>,
        targets: &[Place],
        task: Task,
        silence: Duration,
        token: Token,
    ) -> Self {
        let calling = Box::new(Calling::new(call, targets, token));
        Self { silence, stage: Stage::Calling(calling, Some(task)) }
    }

    /// The peer was reached already.
    pub fn dialed(dialed: Dialed, task: Task, silence: Duration) -> Self {
        Self { silence, stage: Stage::Talking(Box::new(Pump::new(dialed, task, silence))) }
    }

    fn advance(&mut self, hub: &Hub) -> Result<Option<&mut Pump>, DialError> {
        if let Stage::Calling(calling, task) = &mut self.stage {
            let Some(dialed) = calling.advance(hub)? else { return Ok(None) };
            let Some(task) = task.take() else { return Ok(None) };
            self.stage = Stage::Talking(Box::new(Pump::new(dialed, task, self.silence)));
        }
        Ok(match &mut self.stage {
            Stage::Calling(..) => None,
            Stage::Talking(pump) => Some(pump),
        })
    }
}

impl Peer for Stream<'_> {
    fn on_event(&mut self, event: &Event) {
        match &mut self.stage {
            Stage::Calling(calling, _) => calling.on_event(event),
            Stage::Talking(pump) => pump.wire.on_event(event),
        }
    }

    fn turn(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Turn {
        match self.advance(hub) {
            Ok(Some(pump)) => pump.turn(hub.clock.now(), limits),
            Ok(None) => Turn::Wait,
            Err(e) => Turn::Over(Err(SendError::Dial(e))),
        }
    }

    fn deadline(&self, _: &Limits<'_>) -> Duration {
        match &self.stage {
            Stage::Calling(calling, _) => calling.deadline(),
            Stage::Talking(pump) => pump.deadline(),
        }
    }

    fn stop(&mut self, hub: &Hub) {
        if let Stage::Talking(pump) = &mut self.stage {
            pump.give_up(AbortCode::Stopped, hub.clock.now());
        }
    }

    fn too_slow(&mut self, hub: &Hub, behind: u64) -> SendError {
        let now = hub.clock.now();
        match &mut self.stage {
            Stage::Calling(calling, _) => SendError::Dial(calling.give_up(now)),
            Stage::Talking(pump) => {
                pump.give_up(AbortCode::Stopped, now);
                pump.too_slow(now, behind)
            }
        }
    }
}

/// Each target in turn; of all failures the one that says most.
pub(super) fn dial_any<O: Opening + Clone>(
    hub: &mut Hub,
    opening: O,
    targets: &[Place],
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

    fn turn(&mut self, now: Now, limits: &mut Limits<'_>) -> Turn {
        let busy = self.progress(now);
        if let Some(trace) = &mut limits.trace {
            self.link.take_trace().iter().for_each(trace);
        }
        match self.outcome.take() {
            Some(outcome) => {
                let address = Some(self.wire.address);
                Turn::Over(outcome.map(|total| Delivered { address, total }))
            }
            None if busy => Turn::Busy,
            None => Turn::Wait,
        }
    }

    /// What can be done without waiting, up to a limit; whether there is more.
    fn progress(&mut self, now: Now) -> bool {
        if now.mono >= self.deadline() {
            self.wire.look_again();
        }
        self.read(now);
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

    fn read(&mut self, now: Now) {
        let mut space = [0; READ_SPACE];
        while self.outcome.is_none() {
            match self.wire.read(&mut space) {
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
            let refusal = NoProof::NotLetIn(CONNECT_TIME.min(self.silence));
            self.outcome = Some(Err(SendError::Dial(DialError::NoProof(address, refusal))));
        } else if self.welcomed && now.mono >= self.link.heard() + self.silence {
            self.outcome = Some(Err(SendError::CutOff(address, Cut::Silence(self.silence))));
        }
    }

    fn too_slow(&self, now: Now, behind: u64) -> SendError {
        let address = self.wire.address;
        if self.welcomed {
            return SendError::CutOff(address, Cut::TooSlow(behind));
        }
        let left = self.until.saturating_sub(now.mono);
        let waited = CONNECT_TIME.min(self.silence).saturating_sub(left);
        SendError::Dial(DialError::NoProof(address, NoProof::NotLetIn(waited)))
    }
}

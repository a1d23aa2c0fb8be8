//! A link to one of several relays that is made anew when it is cut. PROTOCOL.md, 5.1.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mio::Token;
use mio::event::Event;

use super::backoff::Backoff;
use super::link::{LinkCall, Linked, SILENCE, noop_after};
use super::{Place, Relay};
use crate::crypto::sodium::{PublicKey, random};
use crate::net::dial::{DialError, Dialed, Dialing};
use crate::net::hub::Hub;
use crate::net::send::Limits;
use crate::net::wire::{Read, Wire};
use crate::proto::relay::cell::{Cell, Command, WIRE_LEN};
use crate::proto::relay::link::CellLink;
use crate::proto::stream::link::{Crossing, TRACE_BYTES};
use crate::proto::stream::record::Violation;
use crate::proto::time::Now;

/// The longest first pause before a link is made anew, and the longest of all: somebody waits.
const FIRST_PAUSE: Duration = Duration::from_millis(400);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A relay that floods us must not keep us from a signal.
const READS_A_TURN: usize = 32;
/// More than what is ever on its way to a relay that reads, in bytes.
const CLOGGED: usize = 128 * 1024;
/// Cells are few and short.
const READ_SPACE: usize = 16 * WIRE_LEN;

/// A link, or the attempt to have one.
pub struct Line {
    places: Vec<Place>,
    /// Which of them is tried, or was reached.
    at: usize,
    /// How many were tried in vain since the last pause.
    failed: usize,
    token: Token,
    patience: Duration,
    state: State,
    backoff: Backoff,
    failure: Option<DialError>,
    /// The relay that was reached last, and its address.
    reached: Option<(PublicKey, SocketAddr)>,
    /// For how long it holds cells.
    ttl: Duration,
}

enum State {
    /// To be dialled at this time.
    Down(Duration),
    Dialing(Box<Dialing<LinkCall>>),
    Up(Box<Up>),
}

struct Up {
    wire: Wire,
    link: CellLink,
    noop_after: Duration,
}

/// What became of a line.
pub enum News {
    /// Nothing.
    None,
    /// There is more to be read at once.
    More,
    /// A new link.
    Linked {
        /// What the right to read is proved against.
        challenge: [u8; 32],
        /// Names the link.
        hash: [u8; crate::crypto::noise::HASH_LEN],
        /// It is not the relay that was reached before.
        elsewhere: bool,
    },
    /// The link is gone.
    Cut,
}

impl Line {
    /// To one of `places`, each of which has a relay; a dial may take `patience`.
    pub fn new(places: Vec<Place>, token: Token, patience: Duration) -> Self {
        Self {
            places,
            at: 0,
            failed: 0,
            token,
            patience,
            state: State::Down(Duration::ZERO),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            failure: None,
            reached: None,
            ttl: Duration::ZERO,
        }
    }

    /// The relay that is tried, or was reached last.
    pub fn relay(&self) -> Option<&Rc<Relay>> {
        self.places.get(self.at).and_then(|place| place.via.as_ref()).map(|via| &via.relay)
    }

    /// How messages to the user call it.
    pub fn name(&self) -> String {
        self.relay().map_or_else(String::new, |relay| relay.name.clone())
    }

    /// For how long the relay that was reached last holds cells.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Its address, once one was reached.
    pub fn address(&self) -> Option<SocketAddr> {
        self.reached.map(|(_, address)| address)
    }

    /// No other relay will do any more: this one has what it was given.
    pub fn stay(&mut self) {
        let Some(key) = self.relay().map(|relay| relay.public) else { return };
        let ours = |place: &Place| place.relay().is_some_and(|relay| relay.public == key);
        let before = self.places[..self.at].iter().filter(|place| ours(place)).count();
        self.places.retain(ours);
        self.at = before;
    }

    /// Looks again at what no event has told: who was stopped for a while has not looked yet.
    pub fn look_again(&mut self) {
        if let State::Up(up) = &mut self.state {
            up.wire.look_again();
        }
    }

    /// Takes note of an event for its token.
    pub fn on_event(&mut self, event: &Event) {
        match &mut self.state {
            State::Down(_) => {}
            State::Dialing(dialing) => dialing.on_event(event),
            State::Up(up) => up.wire.on_event(event),
        }
    }

    /// Goes on: dials, and reads what came for `hear`.
    ///
    /// # Errors
    /// When no relay was ever reached.
    pub fn advance(
        &mut self,
        hub: &Hub,
        limits: &mut Limits<'_>,
        hear: impl FnMut(&Cell<'_>) -> Result<(), Violation>,
    ) -> Result<News, DialError> {
        let now = hub.clock.now();
        match &mut self.state {
            State::Up(up) => {
                let news = up.advance(now, limits, hear);
                if matches!(news, News::Cut) {
                    self.state = State::Down(now.mono + self.next_pause());
                }
                Ok(news)
            }
            State::Down(until) if now.mono < *until => Ok(News::None),
            _ => self.dial(hub, now),
        }
    }

    fn dial(&mut self, hub: &Hub, now: Now) -> Result<News, DialError> {
        loop {
            if matches!(self.state, State::Down(_)) {
                self.state = State::Dialing(Box::new(self.start(hub)?));
            }
            let State::Dialing(dialing) = &mut self.state else { return Ok(News::None) };
            let failure = match dialing.advance(hub.registry(), now) {
                Ok(None) => return Ok(News::None),
                Ok(Some(dialed)) => return Ok(self.up(dialed)),
                Err(failure @ DialError::NoProof(..)) => {
                    DialError::Relay(self.name(), Box::new(failure))
                }
                Err(failure) => failure,
            };
            self.failure = Some(failure.or_better(self.failure.take()));
            self.state = State::Down(now.mono);
            self.failed += 1;
            self.at = (self.at + 1) % self.places.len();
            if self.failed < self.places.len() {
                continue;
            }
            self.failed = 0;
            if self.reached.is_none() {
                return Err(self.failure.take().unwrap_or_else(nowhere));
            }
            self.state = State::Down(now.mono + self.next_pause());
            return Ok(News::None);
        }
    }

    fn start(&self, hub: &Hub) -> Result<Dialing<LinkCall>, DialError> {
        let (place, relay) = (self.places.get(self.at), self.relay());
        let (Some(place), Some(relay)) = (place, relay) else { return Err(nowhere()) };
        let call = LinkCall { relay: Rc::clone(relay), patience: self.patience };
        Dialing::start(hub, call, place, self.token).map_err(DialError::Local)
    }

    fn up(&mut self, dialed: Dialed<Linked>) -> News {
        let Linked { link, challenge, ttl } = dialed.link;
        self.ttl = ttl;
        let hash = *link.handshake_hash();
        let key = self.relay().map(|relay| relay.public);
        let former = self.reached.map(|(key, _)| key);
        self.reached = key.map(|key| (key, dialed.address));
        let elsewhere = former.is_some() && former != key;
        self.failed = 0;
        let wire = Wire::new(dialed.socket, dialed.address);
        let noop_after = noop_after();
        self.state = State::Up(Box::new(Up { wire, link, noop_after }));
        News::Linked { challenge, hash, elsewhere }
    }

    fn next_pause(&mut self) -> Duration {
        self.backoff.next(u64::from_be_bytes(random()))
    }

    /// The relay has done what it is for: the next pause is a short one.
    pub fn works(&mut self) {
        self.backoff.reset();
    }

    /// Queues a cell, if there is a link.
    pub fn send(&mut self, cell: &Cell<'_>, now: Now, limits: &mut Limits<'_>) {
        let State::Up(up) = &mut self.state else { return };
        let before = up.link.pending().len();
        up.link.send(cell, now);
        show(limits, true, &up.link.pending()[before..], meaning(cell));
    }

    /// Whether the relay takes so little that nothing more is to be queued.
    pub fn is_clogged(&self) -> bool {
        matches!(&self.state, State::Up(up) if up.link.pending().len() > CLOGGED)
    }

    /// Writes what the socket takes.
    pub fn pour(&mut self) {
        let State::Up(up) = &mut self.state else { return };
        let written = up.wire.write(up.link.pending());
        // What is gone shows when it is read.
        up.link.consumed(written.unwrap_or(0));
    }

    /// Nobody waits for it any longer: why nothing was reached.
    pub fn give_up(&mut self) -> DialError {
        self.failure.take().unwrap_or_else(nowhere)
    }

    /// When [`Line::advance`] has something to do without news.
    pub fn deadline(&self) -> Duration {
        match &self.state {
            State::Down(until) => *until,
            State::Dialing(dialing) => dialing.deadline(),
            State::Up(up) => (up.link.sent() + up.noop_after).min(up.link.heard() + SILENCE),
        }
    }
}

impl Up {
    /// Reads, up to a limit.
    fn advance(
        &mut self,
        now: Now,
        limits: &mut Limits<'_>,
        mut hear: impl FnMut(&Cell<'_>) -> Result<(), Violation>,
    ) -> News {
        if now.mono >= self.link.heard() + SILENCE {
            return News::Cut;
        }
        if now.mono >= self.link.sent() + self.noop_after {
            self.link.send(&Cell::new(Command::Noop), now);
            self.noop_after = noop_after();
        }
        let mut space = [0; READ_SPACE];
        for _ in 0..READS_A_TURN {
            match self.wire.read(&mut space) {
                Read::Bytes(n) => {
                    let fed = self.link.feed(&space[..n], now, |cell| {
                        show(limits, false, &[], meaning(cell));
                        hear(cell)
                    });
                    if fed.is_err() {
                        return News::Cut;
                    }
                }
                Read::Later => return News::None,
                Read::Closed | Read::Broken => return News::Cut,
            }
        }
        News::More
    }
}

/// A cell in words.
fn meaning(cell: &Cell<'_>) -> &'static str {
    match cell.command {
        Command::Noop => "NOOP: a sign of life",
        Command::Post => "POST: a sealed packet into a mailbox",
        Command::Subscribe => "SUBSCRIBE: a mailbox for receipts, with the proof that it is ours",
        Command::Cell => "CELL: a sealed packet out of that mailbox",
        Command::Ack if cell.log == [0; 8] => "ACK: the relay holds a packet",
        Command::Ack => "ACK: read, and may go",
        Command::Error => "ERROR: the relay has no room",
        Command::Live => "LIVE: the mailbox held no more",
        Command::Leave => "LEAVE: no more receipts are wanted",
        Command::Connect | Command::Joined => "about a circuit",
    }
}

fn show(limits: &mut Limits<'_>, outgoing: bool, wire: &[u8], meaning: &str) {
    if let Some(trace) = &mut limits.trace {
        trace(&Crossing {
            outgoing,
            wire_len: wire.len(),
            wire_head: wire[..wire.len().min(TRACE_BYTES)].to_vec(),
            meaning: meaning.to_owned(),
            content: Vec::new(),
        });
    }
}

fn nowhere() -> DialError {
    DialError::NotFound(io::Error::new(io::ErrorKind::NotFound, "no relay is known"))
}

//! From a host's name to a connection that is what its caller wants.
//!
//! `calling` is a call to several places in turn, here is the call to one: its addresses in turn,
//! until one has opened. `attempt` is one address; what it takes beyond TCP is the [`Opening`]'s
//! business: [`super::call`], for a peer. `error` tells which failure says most.

mod attempt;
mod calling;
mod error;
mod opening;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use self::attempt::Attempt;
pub use self::calling::Calling;
pub use self::error::{DialError, NoProof, NotOpened};
pub(super) use self::error::{no_address, silent};
pub use self::opening::Opening;
use super::hub::Hub;
use super::resolve::Lookup;
use super::via::Place;
use crate::proto::stream::link::Link;
use crate::proto::time::Now;

/// Connecting and the handshake may take this long, all addresses together.
pub const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A connection. To a peer that has proved its key: message 3 is queued in the link.
pub struct Dialed<L = Link> {
    /// Registered for both directions.
    pub socket: TcpStream,
    /// The peer's address.
    pub address: SocketAddr,
    /// The session, if the [`Opening`] makes one.
    pub link: L,
    /// Until when it may take to let us in.
    pub until: Duration,
}

/// A call to one place under way.
pub struct Dialing<O: Opening> {
    opening: O,
    token: Token,
    place: Place,
    lookup: Option<Lookup>,
    candidates: VecDeque<SocketAddr>,
    attempt: Option<Attempt<O::Underway>>,
    until: Duration,
    failure: Option<DialError>,
}

impl<O: Opening> Dialing<O> {
    /// Starts calling; the connection registers as `token`.
    ///
    /// # Errors
    /// When the look-up cannot be started.
    pub fn start(hub: &Hub, opening: O, place: &Place, token: Token) -> io::Result<Self> {
        let lookup = Some(Lookup::start(&place.at, hub.bell())?);
        let until = hub.clock.now().mono + opening.patience();
        let candidates = VecDeque::new();
        let place = place.clone();
        Ok(Self { opening, token, place, lookup, candidates, attempt: None, until, failure: None })
    }

    /// When [`Dialing::advance`] has something to do without news.
    pub fn deadline(&self) -> Duration {
        self.attempt.as_ref().map_or(self.until, |attempt| attempt.deadline(&self.opening))
    }

    /// Takes note of an event for its token.
    pub fn on_event(&mut self, event: &Event) {
        if let Some(attempt) = &mut self.attempt {
            attempt.on_event(event);
        }
    }

    /// Goes as far as it can. `None`: wait for events or the deadline.
    ///
    /// # Errors
    /// When every address has failed; the failure that says most.
    pub fn advance(
        &mut self,
        registry: &Registry,
        now: Now,
    ) -> Result<Option<Dialed<O::Opened>>, DialError> {
        if let Some(lookup) = &mut self.lookup {
            match lookup.poll() {
                Ok(Some(addresses)) => self.candidates = addresses.into(),
                Ok(None) if now.mono < self.until => return Ok(None),
                Ok(None) => return Err(self.way(DialError::NotFound(silent()))),
                Err(e) => return Err(self.way(DialError::not_found(e))),
            }
            self.lookup = None;
        }
        loop {
            if self.attempt.is_none() && !self.next_candidate(registry, now) {
                return Err(self.failure.take().unwrap_or_else(no_address));
            }
            let Some(attempt) = &mut self.attempt else { continue };
            match attempt.advance(&self.opening, &self.place, now) {
                Ok(None) => return Ok(None),
                Ok(Some(link)) => {
                    let until = self.until;
                    return Ok(self.attempt.take().map(|Attempt { socket, address, .. }| Dialed {
                        socket,
                        address,
                        link,
                        until,
                    }));
                }
                Err(failure) => {
                    self.attempt = None;
                    self.note(failure);
                }
            }
        }
    }

    fn give_up(mut self, now: Now) -> DialError {
        let waited = self.opening.patience().saturating_sub(self.until.saturating_sub(now.mono));
        match self.attempt.take() {
            Some(attempt) => self.note(attempt.no_answer(&self.opening, &self.place, waited)),
            None => self.note(self.way(DialError::NotFound(silent()))),
        }
        self.failure.unwrap_or_else(no_address)
    }

    /// A failure of TCP on the way to the place: to the relay, if that is what is dialled.
    fn way(&self, failure: DialError) -> DialError {
        self.place.on_the_way(failure)
    }

    fn note(&mut self, failure: DialError) {
        self.failure = Some(failure.or_better(self.failure.take()));
    }

    /// Starts on the next address; `false` when there is none, or no time.
    fn next_candidate(&mut self, registry: &Registry, now: Now) -> bool {
        let share = self.candidates.len() as u32;
        let Some(address) = self.candidates.pop_front() else { return false };
        let left = self.until.saturating_sub(now.mono);
        if left.is_zero() {
            return false;
        }
        match self.connect(registry, address, now, now.mono + left / share) {
            Ok(attempt) => self.attempt = Some(attempt),
            Err(e) => self.note(self.way(DialError::refused(address, e))),
        }
        // Without an attempt the caller's loop comes back for the next address.
        self.attempt.is_some() || self.next_candidate(registry, now)
    }

    fn connect(
        &self,
        registry: &Registry,
        address: SocketAddr,
        now: Now,
        until: Duration,
    ) -> io::Result<Attempt<O::Underway>> {
        let mut socket = TcpStream::connect(address)?;
        registry.register(&mut socket, self.token, Interest::READABLE | Interest::WRITABLE)?;
        let underway = self.opening.begin(&self.place, now)?;
        Ok(Attempt::new(socket, address, until, underway))
    }
}

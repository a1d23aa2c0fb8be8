//! Several places, in turn.

use std::collections::VecDeque;
use std::time::Duration;

use mio::Token;
use mio::event::Event;

use super::error::{DialError, no_address};
use super::opening::Opening;
use super::{Dialed, Dialing};
use crate::net::hub::Hub;
use crate::net::via::Place;
use crate::proto::time::Now;

/// A call to somebody who may be at several places: each in turn.
pub struct Calling<O: Opening + Clone> {
    opening: O,
    token: Token,
    targets: VecDeque<Place>,
    dialing: Option<Dialing<O>>,
    failure: Option<DialError>,
}

impl<O: Opening + Clone> Calling<O> {
    /// A call to `targets` that begins with [`Calling::advance`]; its connection registers as
    /// `token`.
    pub fn new(opening: O, targets: &[Place], token: Token) -> Self {
        let targets = targets.iter().cloned().collect();
        Self { opening, token, targets, dialing: None, failure: None }
    }

    /// When [`Calling::advance`] has something to do without news.
    pub fn deadline(&self) -> Duration {
        self.dialing.as_ref().map_or(Duration::ZERO, Dialing::deadline)
    }

    /// Takes note of an event for its token.
    pub fn on_event(&mut self, event: &Event) {
        if let Some(dialing) = &mut self.dialing {
            dialing.on_event(event);
        }
    }

    /// Goes as far as it can. `None`: wait for events or the deadline.
    ///
    /// # Errors
    /// When every place has failed; of all failures the one that says most.
    pub fn advance(&mut self, hub: &Hub) -> Result<Option<Dialed<O::Opened>>, DialError> {
        loop {
            let Some(dialing) = &mut self.dialing else {
                let Some(target) = self.targets.pop_front() else {
                    return Err(self.failure.take().unwrap_or_else(no_address));
                };
                let dialing = Dialing::start(hub, self.opening.clone(), &target, self.token);
                self.dialing = Some(dialing.map_err(DialError::Local)?);
                continue;
            };
            match dialing.advance(hub.registry(), hub.clock.now()) {
                Err(failure) => {
                    self.failure = Some(failure.or_better(self.failure.take()));
                    self.dialing = None;
                }
                Ok(Some(dialed)) => {
                    // From here on somebody is to be told if a signal ends it.
                    hub.signals.arm().map_err(DialError::Local)?;
                    return Ok(Some(dialed));
                }
                Ok(None) => return Ok(None),
            }
        }
    }

    /// Nobody waits for it any longer, as if its time were over: of all failures the one that says
    /// most.
    pub fn give_up(&mut self, now: Now) -> DialError {
        let failure = self.dialing.take().map(|dialing| dialing.give_up(now));
        failure.map_or_else(no_address, |failure| failure.or_better(self.failure.take()))
    }
}

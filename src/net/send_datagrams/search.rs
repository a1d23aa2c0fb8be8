//! The addresses of a peer that may be at several places.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::Events;

use crate::net::dial::{DialError, no_address, silent};
use crate::net::hub::Hub;
use crate::net::resolve::{HostPort, Lookup};
use crate::net::send::SendError;
use crate::net::via::Place;

/// All addresses of all targets, in order.
pub(super) struct Search {
    targets: VecDeque<HostPort>,
    lookup: Option<Lookup>,
    found: Vec<SocketAddr>,
    failure: Option<io::Error>,
    /// When it is given up.
    pub until: Duration,
}

impl Search {
    /// Begins to look `targets` up.
    pub fn new(hub: &Hub, targets: &[Place], patience: Duration) -> Self {
        let until = hub.clock.now().mono + patience;
        let targets = direct(targets).collect();
        Self { targets, lookup: None, found: Vec::new(), failure: None, until }
    }

    /// Goes as far as it can. `None`: wait for the bell, or `until`.
    pub fn advance(&mut self, hub: &Hub) -> Result<Option<Vec<SocketAddr>>, SendError> {
        loop {
            let Some(lookup) = &mut self.lookup else {
                let Some(target) = self.targets.pop_front() else { break };
                let started = Lookup::start(&target, hub.bell()).map_err(SendError::Local)?;
                self.lookup = Some(started);
                continue;
            };
            match lookup.poll() {
                Ok(Some(addresses)) => self.found.extend(addresses),
                Err(e) => self.failure = Some(e),
                Ok(None) if hub.clock.now().mono < self.until => return Ok(None),
                Ok(None) => self.failure = Some(silent()),
            }
            self.lookup = None;
        }
        if self.found.is_empty() {
            let failure = self.failure.take();
            return Err(SendError::Dial(failure.map_or_else(no_address, DialError::not_found)));
        }
        Ok(Some(std::mem::take(&mut self.found)))
    }
}

/// Datagrams go to addresses, not to relays.
fn direct(places: &[Place]) -> impl Iterator<Item = HostPort> {
    places.iter().filter(|place| place.via.is_none()).map(|place| place.at.clone())
}

/// All addresses of all targets, in order.
pub(in crate::net) fn look_up(
    hub: &mut Hub,
    targets: &[Place],
    patience: Duration,
    events: &mut Events,
) -> Result<Vec<SocketAddr>, SendError> {
    let mut search = Search::new(hub, targets, patience);
    loop {
        if let Some(found) = search.advance(hub)? {
            return Ok(found);
        }
        wait(hub, events, Some(search.until))?;
    }
}

/// Waits for events; a signal is an error.
pub(in crate::net) fn wait(
    hub: &mut Hub,
    events: &mut Events,
    until: Option<Duration>,
) -> Result<(), SendError> {
    hub.wait(events, until).map_err(SendError::Local)?;
    hub.signals.arrived().map_or(Ok(()), |signal| Err(SendError::Signal(signal)))
}

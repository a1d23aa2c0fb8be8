//! A search, wherever it takes place: on the local network, or at a relay.

use std::rc::Rc;
use std::time::Duration;

use mio::Events;

use super::people::People;
use super::show::{self, Row};
use super::{Ended, Options, local};
use crate::cli::failure::Failure;
use crate::cli::send::why::dial_failure;
use crate::cli::via;
use crate::discover::relayed::RelaySearch;
use crate::discover::roster::{Entry, Id, Roster};
use crate::discover::seek::Search;
use crate::discover::seeker::Change;
use crate::keys::Keyring;
use crate::net::dial::CONNECT_TIME;
use crate::net::hub::Hub;
use crate::net::via::Relay;
use crate::proto::datagram::presence::Carrier;

/// One of the two.
pub enum Hunt {
    /// On the local network.
    Lan(Box<Search>),
    /// At the relay that `--via` names.
    Relay(Box<RelaySearch>, Rc<Relay>),
}

impl Hunt {
    /// Begins to seek those of `people`; `endless`, if it goes on.
    ///
    /// # Errors
    /// For a relay that is not known, and what the system says.
    pub fn begin(
        options: &Options,
        people: &mut People,
        hub: &Hub,
        endless: bool,
    ) -> Result<Self, Ended> {
        let sought = std::mem::take(&mut people.sought);
        let me = people.me.duplicate();
        let Some(word) = &options.via else {
            let place = options.place.place();
            let search = Search::new(hub.registry(), hub.clock.now(), me, sought, place, endless);
            let mut search = search.map_err(local)?;
            options.trace().into_iter().for_each(|trace| search.show(trace));
            return Ok(Self::Lan(Box::new(search)));
        };
        let relay = via::relay(word, &Keyring::locate().map_err(Failure::from)?)?;
        let mut search = RelaySearch::new(&relay, me, sought, CONNECT_TIME);
        options.trace().into_iter().for_each(|trace| search.show(trace));
        Ok(Self::Relay(Box::new(search), relay))
    }

    /// What changed since the last turn.
    ///
    /// # Errors
    /// When a relay is not reached, and what the system says.
    pub fn turn(&mut self, hub: &Hub) -> Result<Vec<Change>, Ended> {
        match self {
            Self::Lan(search) => Ok(search.turn(hub.clock.now()).map_err(local)?),
            Self::Relay(search, _) => {
                search.turn(hub).map_err(|why| Ended::Failure(dial_failure(&why)))
            }
        }
    }

    /// Waits until there is something to do, or until the monotonic time `until`.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(
        &mut self,
        hub: &mut Hub,
        events: &mut Events,
        until: Option<Duration>,
    ) -> Result<(), Ended> {
        match self {
            Self::Lan(search) => search.wait(hub, events, until),
            Self::Relay(search, _) => search.wait(hub, events, until),
        }
        .map_err(|e| local(e).into())
    }

    /// Who was found.
    pub fn roster(&self) -> &Roster {
        match self {
            Self::Lan(search) => search.seeker().roster(),
            Self::Relay(search, _) => search.roster(),
        }
    }

    /// Whether there is anything to seek on.
    pub fn has_network(&self) -> bool {
        match self {
            Self::Lan(search) => search.has_network(),
            // One that is not reached ends the program, or is called again.
            Self::Relay(..) => true,
        }
    }

    /// Since when, on the monotonic clock, those who are there can answer; `None`: not yet.
    pub fn since(&self) -> Option<Duration> {
        match self {
            Self::Lan(_) => Some(Duration::ZERO),
            Self::Relay(search, _) => search.since(),
        }
    }

    /// What is shown of somebody who was found.
    pub fn rows(&self, options: &Options, people: &People, id: &Id, entry: &Entry) -> Vec<Row> {
        match self.relay() {
            Some(relay) => vec![show::at_relay(people, relay, id, entry)],
            None => {
                let mut rows = show::rows(people, id, entry);
                rows.retain(|row| !options.udp || row.carrier == Some(Carrier::Udp));
                rows
            }
        }
    }

    /// The relay's name, if that is where we seek.
    pub fn relay(&self) -> Option<&str> {
        match self {
            Self::Lan(_) => None,
            Self::Relay(_, relay) => Some(&relay.name),
        }
    }

    /// The relay that we were linked to is lost, and called again.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Relay(search, _) if search.is_cut())
    }

    /// A relay has no room for all our questions.
    pub fn was_refused(&self) -> bool {
        matches!(self, Self::Relay(search, _) if search.was_refused())
    }
}

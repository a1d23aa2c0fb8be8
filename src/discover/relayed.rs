//! An [`Inquiry`] with its link and its clock.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use mio::{Events, Token};

use super::inquiry::Inquiry;
use super::roster::Roster;
use super::seek::Trace;
use super::seeker::{Change, Sought};
use crate::crypto::sodium::{KeyPair, OsRandom};
use crate::net::dial::DialError;
use crate::net::hub::Hub;
use crate::net::send::Limits;
use crate::net::tokens::Topic;
use crate::net::via::line::{Line, News};
use crate::net::via::{Place, Relay, Through, To};
use crate::proto::stream::link::Crossing;
use crate::proto::stream::record::Violation;
use crate::proto::time::Now;

const LINK: Token = Topic::Relay(0).token();

/// A search by a relay under way.
pub struct RelaySearch {
    inquiry: Inquiry,
    line: Line,
    patience: Duration,
    /// When the first link was there.
    since: Option<Duration>,
    linked: bool,
    trace: Option<Trace>,
}

impl RelaySearch {
    /// The holder of `me` begins to seek `sought` at `relay`, which may take `patience` to answer.
    pub fn new(relay: &Rc<Relay>, me: KeyPair, sought: Vec<Sought>, patience: Duration) -> Self {
        let through = Through { relay: Rc::clone(relay), to: To::Contact, instance: None };
        let place = |place: Place| Place { via: Some(through.clone()), ..place };
        let places = relay.places().into_iter().map(place).collect();
        let line = Line::new(places, LINK, patience);
        Self {
            inquiry: Inquiry::new(me, sought),
            line,
            patience,
            since: None,
            linked: false,
            trace: None,
        }
    }

    /// Shows what crosses the wire from now on.
    pub fn show(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    /// Says and hears what there is; what changed since the last turn.
    ///
    /// # Errors
    /// When the relay was never reached.
    pub fn turn(&mut self, hub: &Hub) -> Result<Vec<Change>, DialError> {
        let mut trace = self.trace;
        let mut watch = |crossing: &Crossing| {
            if let Some(trace) = &mut trace {
                trace(crossing);
            }
        };
        let mut limits = Limits { silence: self.patience, trace: Some(&mut watch) };
        loop {
            let (line, inquiry, now) = (&mut self.line, &mut self.inquiry, hub.clock.now());
            let news = line.advance(hub, &mut limits, |cell| {
                inquiry.hear(cell, now);
                Ok::<_, Violation>(())
            })?;
            match news {
                News::Linked { challenge, hash, .. } => {
                    self.since.get_or_insert(now.mono);
                    self.linked = true;
                    if let Some(at) = line.address() {
                        inquiry.linked(&challenge, hash, at, now);
                    }
                }
                News::Cut => {
                    self.linked = false;
                    inquiry.cut();
                }
                News::More => {}
                News::None => break,
            }
        }
        self.say(hub.clock.now(), &mut limits);
        Ok(self.inquiry.take_changes())
    }

    fn say(&mut self, now: Now, limits: &mut Limits<'_>) {
        let line = &mut self.line;
        self.inquiry.poll(now, &mut OsRandom, &mut |cell| line.send(cell, now, limits));
        line.pour();
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
    ) -> io::Result<()> {
        let next = self.inquiry.next_timeout().into_iter().chain(until);
        hub.wait(events, next.chain([self.line.deadline()]).min())?;
        events.iter().filter(|event| event.token() == LINK).for_each(|e| self.line.on_event(e));
        Ok(())
    }

    /// Since when, on the monotonic clock, those who are there can answer; `None`: not yet.
    pub fn since(&self) -> Option<Duration> {
        self.since
    }

    /// There was a link, and it is lost.
    pub fn is_cut(&self) -> bool {
        self.since.is_some() && !self.linked
    }

    /// Who answered.
    pub fn roster(&self) -> &Roster {
        self.inquiry.roster()
    }

    /// The relay did not let us read all that we wanted: not everybody can answer.
    pub fn was_refused(&self) -> bool {
        self.inquiry.was_refused()
    }
}

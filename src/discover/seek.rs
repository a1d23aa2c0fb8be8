//! A seeker with its sockets and its clock.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::{Events, Token};

use super::seeker::{Change, Seeker, Sought, To};
use crate::crypto::sodium::{KeyPair, OsRandom};
use crate::net::hub::Hub;
use crate::net::lan::changes::LinkChanges;
use crate::net::lan::links::{everybody, links};
use crate::net::lan::socket::{LanSockets, Space};
use crate::proto::time::Now;

const SOCKETS: Token = Token(1 << 20);
const CHANGES: Token = Token((1 << 20) + 1);
/// Packets that are read before something is sent.
const PACKETS_A_TURN: usize = 512;
/// The links are looked at again this often where nobody tells that they changed.
const LOOK: Duration = Duration::from_secs(3);
/// The same where somebody does; for what was lost.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// The clocks are further apart than before by this much: the machine was asleep.
const SLEPT: Duration = Duration::from_secs(5);

/// Where discovery takes place.
#[derive(Debug, Clone)]
pub struct Place {
    /// The UDP port that announcers hear on.
    pub port: u16,
    /// Names of interfaces; empty for all that are up.
    pub interfaces: Vec<String>,
}

/// A search under way.
pub struct Search {
    seeker: Seeker,
    sockets: LanSockets,
    place: Place,
    changes: Option<LinkChanges>,
    /// Where a packet goes that is for everybody, and from which address.
    everybody: Vec<(SocketAddr, Option<IpAddr>)>,
    looked: Option<Duration>,
    readable: bool,
    /// Both clocks when they were last compared.
    compared: Now,
    space: Space,
}

impl Search {
    /// The holder of `me` begins to seek `sought`; with `watch` without an end.
    ///
    /// # Errors
    /// What the system says of the sockets.
    pub fn new(
        hub: &Hub,
        me: KeyPair,
        sought: Vec<Sought>,
        place: Place,
        watch: bool,
    ) -> io::Result<Self> {
        let mut sockets = LanSockets::own()?;
        sockets.register(hub.registry(), SOCKETS)?;
        let now = hub.clock.now();
        Ok(Self {
            seeker: Seeker::new(me, sought, sockets.port(), watch, now, &mut OsRandom),
            sockets,
            place,
            // Where it is refused, as on Android, we look now and then.
            changes: LinkChanges::watch(hub.registry(), CHANGES).ok(),
            everybody: Vec::new(),
            looked: None,
            readable: true,
            compared: now,
            space: Space::new(),
        })
    }

    /// Sends and reads what there is; what changed since the last turn.
    ///
    /// # Errors
    /// When the links cannot be listed.
    pub fn turn(&mut self, hub: &Hub) -> io::Result<Vec<Change>> {
        let now = hub.clock.now();
        self.notice_sleep(now);
        if self.looked.is_none_or(|at| now.mono >= at + self.look_every()) {
            self.look(now)?;
        }
        self.read(now);
        let (sockets, all) = (&self.sockets, &self.everybody);
        self.seeker.poll(now, &mut OsRandom, &mut |to, packet| match to {
            // What cannot be sent on one link is as good as lost; there are others.
            To::Everybody => all.iter().for_each(|(to, source)| {
                let _ = sockets.send(*to, *source, packet);
            }),
            To::One(address) => drop(sockets.send(address, None, packet)),
        });
        Ok(self.seeker.take_changes())
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
        let now = hub.clock.now();
        let look = self.looked.map(|at| at + self.look_every());
        let next = if self.readable { Some(now.mono) } else { self.seeker.next_timeout(now) };
        hub.wait(events, next.into_iter().chain(look).chain(until).min())?;
        for event in events.iter() {
            match event.token() {
                SOCKETS => self.readable = true,
                CHANGES => {
                    self.changes.iter().for_each(LinkChanges::drain);
                    self.looked = None;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Who was found.
    pub fn seeker(&self) -> &Seeker {
        &self.seeker
    }

    /// Whether there is any link to seek on.
    pub fn has_network(&self) -> bool {
        !self.everybody.is_empty()
    }

    fn look_every(&self) -> Duration {
        if self.changes.is_some() { LOOK_ANYWAY } else { LOOK }
    }

    fn look(&mut self, now: Now) -> io::Result<()> {
        self.looked = Some(now.mono);
        let links = links(&self.place.interfaces)?;
        self.everybody = links.iter().flat_map(|link| everybody(link, self.place.port)).collect();
        self.seeker.set_links(links, now);
        Ok(())
    }

    /// The monotonic clock stands still while the machine sleeps, the other does not.
    fn notice_sleep(&mut self, now: Now) {
        let told = now.unix_ms.saturating_sub(self.compared.unix_ms);
        let felt = now.mono.saturating_sub(self.compared.mono);
        if Duration::from_millis(told).saturating_sub(felt) >= SLEPT {
            self.looked = None;
            self.seeker.restart(now);
        }
        self.compared = now;
    }

    fn read(&mut self, now: Now) {
        let (seeker, space) = (&mut self.seeker, &mut self.space);
        if self.readable {
            self.readable = self.sockets.receive(PACKETS_A_TURN, space, |packet, way| {
                seeker.feed(packet, way.from, way.link, now, &mut OsRandom);
            });
        }
    }
}

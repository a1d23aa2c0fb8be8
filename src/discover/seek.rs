//! A seeker with its sockets and its clock.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::{Events, Poll, Registry};

use super::roster::{Entry, Status};
use super::seeker::{Change, Seeker, Sought, To};
use crate::crypto::sodium::{KeyPair, OsRandom};
use crate::net::clock::Clock;
use crate::net::hub::Hub;
use crate::net::lan::changes::LinkChanges;
use crate::net::lan::links::{everybody, links};
use crate::net::lan::socket::{LanSockets, Space};
use crate::net::tokens::Topic;
use crate::proto::datagram::presence::Carrier;
use crate::proto::stream::link::{Crossing, TRACE_BYTES};
use crate::proto::time::Now;

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
    trace: Option<Trace>,
}

/// Who is shown what crosses the wire.
pub type Trace = fn(&Crossing);

impl Search {
    /// The holder of `me` begins to seek `sought`; with `watch` without an end.
    ///
    /// # Errors
    /// What the system says of the sockets.
    pub fn new(
        registry: &Registry,
        now: Now,
        me: KeyPair,
        sought: Vec<Sought>,
        place: Place,
        watch: bool,
    ) -> io::Result<Self> {
        let mut sockets = LanSockets::own()?;
        sockets.register(registry, Topic::Discovery(0).token())?;
        Ok(Self {
            seeker: Seeker::new(me, sought, sockets.port(), watch, now, &mut OsRandom),
            sockets,
            place,
            // Where it is refused, as on Android, we look now and then.
            changes: LinkChanges::watch(registry, Topic::LinkChanges.token()).ok(),
            everybody: Vec::new(),
            looked: None,
            readable: true,
            compared: now,
            space: Space::new(),
            trace: None,
        })
    }

    /// Shows what crosses the wire from now on.
    pub fn show(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    /// Sends and reads what there is; what changed since the last turn.
    ///
    /// # Errors
    /// When the links cannot be listed.
    pub fn turn(&mut self, now: Now) -> io::Result<Vec<Change>> {
        self.notice_sleep(now);
        if self.looked.is_none_or(|at| now.mono >= at + self.look_every()) {
            self.look(now)?;
        }
        self.read(now);
        let (sockets, all, trace) = (&self.sockets, &self.everybody, self.trace);
        self.seeker.poll(now, &mut OsRandom, &mut |to, packet| match to {
            // What cannot be sent on one link is as good as lost; there are others.
            To::Everybody => {
                show(trace, true, packet, || "PROBE, or a dummy, to everybody".into());
                all.iter().for_each(|(to, source)| drop(sockets.send(*to, *source, packet)));
            }
            To::One(address) => {
                show(trace, true, packet, || format!("PROBE to {address}"));
                drop(sockets.send(address, None, packet));
            }
        });
        Ok(self.seeker.take_changes())
    }

    /// When [`Search::turn`] has something to do without news.
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        let look = self.looked.map(|at| at + self.look_every());
        let next = if self.readable { Some(now.mono) } else { self.seeker.next_timeout(now) };
        next.into_iter().chain(look).min()
    }

    /// Takes note of what the poll says.
    pub fn on_events(&mut self, events: &Events) {
        for event in events {
            match Topic::of(event.token()) {
                Some(Topic::Discovery(_)) => self.readable = true,
                Some(Topic::LinkChanges) => {
                    self.changes.iter().for_each(LinkChanges::drain);
                    self.looked = None;
                }
                _ => {}
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
    ) -> io::Result<()> {
        let next = self.next_timeout(hub.clock.now());
        hub.wait(events, next.into_iter().chain(until).min())?;
        self.on_events(events);
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

    /// Somebody who is sought under this number, and listens so.
    fn listening(&self, sought: usize, carrier: Carrier) -> Option<&Entry> {
        let of_it = self.seeker.roster().iter().filter(|(id, _)| id.sought == sought);
        let mut online = of_it.map(|(_, e)| e).filter(|entry| entry.status == Status::Online);
        online.find(|entry| entry.endpoints.iter().any(|at| at.carrier == carrier))
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
        let (seeker, space, trace) = (&mut self.seeker, &mut self.space, self.trace);
        if self.readable {
            self.readable = self.sockets.receive(PACKETS_A_TURN, space, |packet, way| {
                if seeker.feed(packet, way.from, way.link, now, &mut OsRandom) {
                    show(trace, false, packet, || format!("HERE from {}", way.from));
                }
            });
        }
    }
}

/// A whole packet, if anybody wants to see it.
fn show(trace: Option<Trace>, outgoing: bool, packet: &[u8], meaning: impl FnOnce() -> String) {
    if let Some(trace) = trace {
        trace(&crossing(outgoing, packet, meaning()));
    }
}

/// What is shown of a packet.
pub(super) fn crossing(outgoing: bool, packet: &[u8], meaning: String) -> Crossing {
    let wire_head = packet[..packet.len().min(TRACE_BYTES)].to_vec();
    Crossing { outgoing, wire_len: packet.len(), wire_head, meaning, content: Vec::new() }
}

/// Where those that are `sought` listen, in their order, as far as they are found `within` that
/// time. For a program that has no loop yet: signals end it.
///
/// # Errors
/// What the system says.
pub fn find(
    me: KeyPair,
    sought: Vec<Sought>,
    place: Place,
    within: Duration,
    carrier: Carrier,
) -> io::Result<Vec<Option<Entry>>> {
    let (mut poll, clock) = (Poll::new()?, Clock::default());
    let count = sought.len();
    let mut search = Search::new(poll.registry(), clock.now(), me, sought, place, false)?;
    let mut events = Events::with_capacity(64);
    loop {
        search.turn(clock.now())?;
        let found: Vec<_> = (0..count).map(|n| search.listening(n, carrier).cloned()).collect();
        let now = clock.now();
        let alone = !search.has_network();
        if alone || now.mono >= within || found.iter().all(Option::is_some) {
            return Ok(found);
        }
        let next = search.next_timeout(now).map_or(within, |next| next.min(within));
        match poll.poll(&mut events, Some(next.saturating_sub(now.mono))) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        search.on_events(&events);
    }
}

//! Connections before anybody has shown who they are. What a caller says first is taken at any
//! time; it needs a turn to be opened. Turns go by address, to the one that had its last turn
//! longest ago.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::lately::Lately;
use super::places::{Older, Places};
use super::{Bounds, Buckets, HANDSHAKES, Limit, REMEMBERED, SHAKING};
use crate::sched::party::Network;

/// Who of an address has its turn next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// As soon as those have had theirs whose address was served longer ago than this, or as long
    /// ago and whose oldest came earlier.
    Now(u64, Older),
    /// Not before then: its address is over a limit.
    Later(Duration),
}

/// Those at the door from one address.
#[derive(Default)]
struct Line {
    /// They wait for their turn, oldest first.
    waiting: BTreeSet<Older>,
    /// They had it, in the order in which they will count no more.
    shaking: BTreeSet<(Duration, usize)>,
    turn: Option<Turn>,
}

/// The connections of a listener whose handshake is not over. Each has a number while it is here,
/// which another may have later.
pub struct Door {
    bounds: Bounds,
    places: Places,
    lines: BTreeMap<Network, Line>,
    /// Those that had their turn, and when.
    had: BTreeMap<usize, Duration>,
    /// Addresses that have a turn now, and those that have one later.
    now: BTreeSet<(u64, Older, Network)>,
    later: BTreeSet<(Duration, Network)>,
    served: Lately,
    of_address: Option<Buckets<Network>>,
    of_loopback: Option<Buckets<Network>>,
    of_all: Buckets<()>,
}

impl Door {
    /// A door where nobody stands.
    pub fn new(bounds: Bounds) -> Self {
        let buckets = |rate| Buckets::new(rate, REMEMBERED);
        Self {
            bounds,
            places: Places::default(),
            lines: BTreeMap::new(),
            had: BTreeMap::new(),
            now: BTreeSet::new(),
            later: BTreeSet::new(),
            served: Lately::new(REMEMBERED),
            of_address: bounds.address.rate.map(buckets),
            of_loopback: bounds.loopback.rate.map(buckets),
            of_all: Buckets::new(HANDSHAKES, 1),
        }
    }

    /// A connection comes.
    pub fn arrive(&mut self, number: usize, from: IpAddr, now: Duration) {
        self.places.enter(number, Network::of(from), now);
    }

    /// All that it says first is there: it waits for its turn, unless it had one. Whether it is
    /// here.
    pub fn knock(&mut self, number: usize, now: Duration) -> bool {
        let Some((network, older)) = self.places.find(number) else { return false };
        if !self.had.contains_key(&number)
            && self.lines.entry(network).or_default().waiting.insert(older)
        {
            self.places.shield(number, true);
            self.find_turn(network, now);
        }
        true
    }

    /// The next connection whose turn it is. What it said may be opened; [`Door::answered`] is to be
    /// told if that is to be answered.
    pub fn next(&mut self, now: Duration) -> Option<usize> {
        if self.of_all.ready_at(()) > now {
            return None;
        }
        self.wake(now);
        let (_, (order, number), network) = self.now.first().copied()?;
        self.served.note(network);
        if let Some(buckets) = self.buckets(network) {
            buckets.take(network, now);
        }
        let line = self.lines.get_mut(&network)?;
        line.waiting.remove(&(order, number));
        line.shaking.insert((now, number));
        self.had.insert(number, now);
        self.places.shield(number, false);
        self.find_turn(network, now);
        Some(number)
    }

    /// A connection, which need not be one at the door, is answered, or could be and was noted: it is
    /// one of the handshakes of all.
    pub fn answered(&mut self, number: usize, now: Duration) {
        self.of_all.take((), now);
        self.places.shield(number, true);
    }

    /// When [`Door::next`] has somebody again.
    pub fn next_turn(&self) -> Option<Duration> {
        let later = self.later.first().map(|(at, _)| *at);
        let at = if self.now.is_empty() { later? } else { Duration::ZERO };
        Some(at.max(self.of_all.ready_at(())))
    }

    /// Whether this connection waits for its turn.
    pub fn keeps(&self, number: usize) -> bool {
        let found = self.places.find(number);
        let line = found.and_then(|(network, older)| Some((self.lines.get(&network)?, older)));
        line.is_some_and(|(line, older)| line.waiting.contains(&older))
    }

    /// A connection is closed, or its handshake is over.
    pub fn leave(&mut self, number: usize, now: Duration) {
        let Some((network, older)) = self.places.find(number) else { return };
        self.places.leave(number);
        let had = self.had.remove(&number);
        let Some(line) = self.lines.get_mut(&network) else { return };
        line.waiting.remove(&older);
        if let Some(since) = had {
            line.shaking.remove(&(since, number));
        }
        self.find_turn(network, now);
    }

    /// How many connections there are whose handshake is not over.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who gives way when there are too many: of the address that has most, the oldest, if it has been
    /// here for [`GRACE`](super::GRACE), or for [`PATIENCE`](super::PATIENCE) if it waits for its turn
    /// or was answered. `None`: others wait outside.
    pub fn yields(&self, now: Duration) -> Option<usize> {
        self.places.yields(now)
    }

    /// When [`Door::yields`] has somebody, if it has nobody before.
    pub fn next_place(&self) -> Option<Duration> {
        self.places.next_offer()
    }

    /// The rate that connections of `address` keep to.
    fn buckets(&mut self, network: Network) -> Option<&mut Buckets<Network>> {
        match network.is_loopback() {
            true => self.of_loopback.as_mut(),
            false => self.of_address.as_mut(),
        }
    }

    /// Those who were over a limit until now have their turn again.
    fn wake(&mut self, now: Duration) {
        while let Some((_, network)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.find_turn(network, now);
        }
    }

    /// Finds out when an address has its next turn.
    fn find_turn(&mut self, network: Network, now: Duration) {
        let rate = self.buckets(network).map_or(Duration::ZERO, |b| b.ready_at(network));
        let at_once = self.bounds.of(network).at_once.unwrap_or(usize::MAX);
        let Some(line) = self.lines.get_mut(&network) else { return };
        match line.turn.take() {
            Some(Turn::Now(served, older)) => self.now.remove(&(served, older, network)),
            Some(Turn::Later(at)) => self.later.remove(&(at, network)),
            None => false,
        };
        while line.shaking.first().is_some_and(|(since, _)| *since + SHAKING <= now) {
            line.shaking.pop_first();
        }
        let room = match line.shaking.first() {
            Some((since, _)) if line.shaking.len() >= at_once => *since + SHAKING,
            _ => Duration::ZERO,
        };
        let Some(oldest) = line.waiting.first().copied() else {
            if line.shaking.is_empty() {
                self.lines.remove(&network);
            }
            return;
        };
        let turn = match rate.max(room) {
            at if at > now => Turn::Later(at),
            _ => Turn::Now(self.served.served(network), oldest),
        };
        match turn {
            Turn::Now(served, older) => self.now.insert((served, older, network)),
            Turn::Later(at) => self.later.insert((at, network)),
        };
        line.turn = Some(turn);
    }

    /// Which limit keeps the next one waiting, if any does.
    pub fn obstacle(&mut self, now: Duration) -> Option<(Limit, Network)> {
        if let Some((.., network)) = self.now.first() {
            let full = self.of_all.ready_at(()) > now;
            return full.then_some((Limit::Handshakes, *network));
        }
        let (_, network) = self.later.first().copied()?;
        let rate = self.buckets(network).map_or(Duration::ZERO, |b| b.ready_at(network));
        let limit = if rate > now { Limit::Connections } else { Limit::PerAddress };
        Some((limit, network))
    }
}

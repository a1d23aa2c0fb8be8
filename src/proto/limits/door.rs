//! Connections before anybody has shown who they are: each waits for its turn, and only then is it
//! read. Turns go by address: whoever has taken least has the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{Bounds, Buckets, HANDSHAKES, Limit, Network, REMEMBERED, SHAKING};

/// When the next of an address may come in; of several, the one whose connection is oldest.
type Turn = (Duration, usize, Network);

/// What is at the door from one address.
#[derive(Default)]
struct Place {
    /// Those that are not read yet, oldest first.
    waiting: BTreeSet<usize>,
    /// Those whose handshake is under way, and since when.
    inside: BTreeMap<usize, Duration>,
    /// The same for as long as they count, in the order in which they will not any more.
    shaking: BTreeSet<(Duration, usize)>,
    turn: Option<Turn>,
}

/// The connections of a listener whose handshake is not over. They have numbers, which grow.
pub struct Door {
    bounds: Bounds,
    places: BTreeMap<Network, Place>,
    networks: BTreeMap<usize, Network>,
    turns: BTreeSet<Turn>,
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
            places: BTreeMap::new(),
            networks: BTreeMap::new(),
            turns: BTreeSet::new(),
            of_address: bounds.address.rate.map(buckets),
            of_loopback: bounds.loopback.rate.map(buckets),
            of_all: Buckets::new(HANDSHAKES, 1),
        }
    }

    /// A connection comes.
    pub fn arrive(&mut self, number: usize, from: IpAddr, now: Duration) {
        let network = Network::of(from);
        self.networks.insert(number, network);
        self.places.entry(network).or_default().waiting.insert(number);
        self.find_turn(network, now);
    }

    /// The next connection whose turn it is; it has a handshake under way from now on.
    pub fn next(&mut self, now: Duration) -> Option<usize> {
        if self.of_all.ready_at(()) > now {
            return None;
        }
        let (_, number, network) = self.turns.first().copied().filter(|(at, ..)| *at <= now)?;
        if let Some(buckets) = self.buckets(network) {
            buckets.take(network, now);
        }
        self.of_all.take((), now);
        let place = self.places.get_mut(&network)?;
        place.waiting.remove(&number);
        place.inside.insert(number, now);
        place.shaking.insert((now, number));
        self.find_turn(network, now);
        Some(number)
    }

    /// When [`Door::next`] has somebody again.
    pub fn next_turn(&self) -> Option<Duration> {
        self.turns.first().map(|(at, ..)| (*at).max(self.of_all.ready_at(())))
    }

    /// Whether this connection waits for its turn.
    pub fn keeps(&self, number: usize) -> bool {
        let place = self.networks.get(&number).and_then(|network| self.places.get(network));
        place.is_some_and(|place| place.waiting.contains(&number))
    }

    /// A connection is closed, or its handshake is over.
    pub fn leave(&mut self, number: usize, now: Duration) {
        let Some(network) = self.networks.remove(&number) else { return };
        let Some(place) = self.places.get_mut(&network) else { return };
        place.waiting.remove(&number);
        if let Some(since) = place.inside.remove(&number) {
            place.shaking.remove(&(since, number));
        }
        self.find_turn(network, now);
        if self.places.get(&network).is_some_and(|p| p.waiting.is_empty() && p.inside.is_empty()) {
            self.places.remove(&network);
        }
    }

    /// How many connections there are whose handshake is not over.
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Who gives way when there are too many: the oldest connection of the address that has most.
    pub fn yields(&self) -> Option<usize> {
        let most = self.places.values().max_by_key(|p| p.waiting.len() + p.inside.len())?;
        most.inside.keys().chain(&most.waiting).min().copied()
    }

    /// The rate that connections of `address` keep to.
    fn buckets(&mut self, network: Network) -> Option<&mut Buckets<Network>> {
        match network.is_loopback() {
            true => self.of_loopback.as_mut(),
            false => self.of_address.as_mut(),
        }
    }

    fn find_turn(&mut self, network: Network, now: Duration) {
        let rate = self.buckets(network).map_or(Duration::ZERO, |b| b.ready_at(network));
        let at_once = self.bounds.of(network).at_once.unwrap_or(usize::MAX);
        let Some(place) = self.places.get_mut(&network) else { return };
        if let Some(old) = place.turn.take() {
            self.turns.remove(&old);
        }
        let Some(oldest) = place.waiting.first().copied() else { return };
        while place.shaking.first().is_some_and(|(since, _)| *since + SHAKING <= now) {
            place.shaking.pop_first();
        }
        let room = match place.shaking.first() {
            Some((since, _)) if place.shaking.len() >= at_once => *since + SHAKING,
            _ => Duration::ZERO,
        };
        place.turn = Some((rate.max(room), oldest, network));
        self.turns.extend(place.turn);
    }

    /// After [`Door::next`] had nobody: why the next one still waits, if anybody does.
    pub fn obstacle(&mut self, now: Duration) -> Option<(Limit, Network)> {
        let (at, _, network) = self.turns.first().copied()?;
        let rate = self.buckets(network).map_or(Duration::ZERO, |b| b.ready_at(network));
        let limit = match () {
            () if rate > now => Limit::Connections,
            () if at > now => Limit::PerAddress,
            () => Limit::Handshakes,
        };
        Some((limit, network))
    }
}

//! The places before a handshake is over, and who gives one up when they run out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{GRACE, PATIENCE};
use crate::sched::party::Network;

/// A connection by when it came, and its number: of two, the one with the lower is older.
pub type Older = (u64, usize);
/// Who of an address would give up its place: how many the address has, its oldest, and itself.
type Offer = (usize, Reverse<Older>, Network);

struct Member {
    network: Network,
    order: u64,
    since: Duration,
    shielded: bool,
}

/// The connections of one address.
#[derive(Default)]
struct Lot {
    bare: BTreeSet<Older>,
    shielded: BTreeSet<Older>,
    /// What it offers, as it stands among those that are not shielded, and those that are.
    offers: [Option<Offer>; 2],
}

impl Lot {
    fn len(&self) -> usize {
        self.bare.len() + self.shielded.len()
    }
}

/// Those of one kind in the orders in which they are looked for.
struct Rank {
    /// So long one of them keeps its place at least.
    keeps: Duration,
    /// By how many their address has, then the oldest.
    offers: BTreeSet<Offer>,
    by_age: BTreeSet<Older>,
}

impl Rank {
    fn new(keeps: Duration) -> Self {
        Self { keeps, offers: BTreeSet::new(), by_age: BTreeSet::new() }
    }
}

/// Connections by address. Each keeps its place for a while before those who come later: for
/// [`GRACE`], in which it can say something, and for [`PATIENCE`] if it is shielded, because it has.
/// So nobody of a crowd is closed who will soon be served.
pub struct Places {
    members: BTreeMap<usize, Member>,
    lots: BTreeMap<Network, Lot>,
    bare: Rank,
    shielded: Rank,
    arrivals: u64,
}

impl Default for Places {
    fn default() -> Self {
        let (bare, shielded) = (Rank::new(GRACE), Rank::new(PATIENCE));
        Self { members: BTreeMap::new(), lots: BTreeMap::new(), bare, shielded, arrivals: 0 }
    }
}

impl Places {
    /// Connection `number` takes a place, not shielded.
    pub fn enter(&mut self, number: usize, network: Network, now: Duration) {
        let order = self.arrivals;
        self.arrivals += 1;
        self.members.insert(number, Member { network, order, since: now, shielded: false });
        self.bare.by_age.insert((order, number));
        self.lots.entry(network).or_default().bare.insert((order, number));
        self.offer(network);
    }

    /// Whether it is shielded, from now on.
    pub fn shield(&mut self, number: usize, shielded: bool) {
        let Some(member) = self.members.get_mut(&number) else { return };
        let (network, older) = (member.network, (member.order, number));
        if std::mem::replace(&mut member.shielded, shielded) == shielded {
            return;
        }
        let Some(lot) = self.lots.get_mut(&network) else { return };
        let (bare, kept) = (&mut self.bare.by_age, &mut self.shielded.by_age);
        let (from, to) = match shielded {
            true => ([&mut lot.bare, bare], [&mut lot.shielded, kept]),
            false => ([&mut lot.shielded, kept], [&mut lot.bare, bare]),
        };
        from.into_iter().zip(to).for_each(|(from, to)| to.extend(from.take(&older)));
        self.offer(network);
    }

    /// It gives up its place.
    pub fn leave(&mut self, number: usize) {
        let Some(Member { network, order, .. }) = self.members.remove(&number) else { return };
        let Some(lot) = self.lots.get_mut(&network) else { return };
        let (bare, kept) = (&mut self.bare.by_age, &mut self.shielded.by_age);
        for set in [&mut lot.bare, &mut lot.shielded, bare, kept] {
            set.remove(&(order, number));
        }
        self.offer(network);
    }

    /// Where connection `number` comes from, and how old it is.
    pub fn find(&self, number: usize) -> Option<(Network, Older)> {
        self.members.get(&number).map(|member| (member.network, (member.order, number)))
    }

    /// How many places are taken.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Who gives up its place for another, of those that have had it for long enough: the oldest of
    /// the address that has most, or else the oldest of all. Of two that have as many, one that is
    /// not shielded goes first.
    pub fn yields(&self, now: Duration) -> Option<usize> {
        let bare = self.yields_of(&self.bare, now);
        let shielded = self.yields_of(&self.shielded, now);
        let (_, number) = match (bare, shielded) {
            (Some(bare), Some(shielded)) if shielded.0 > bare.0 => shielded,
            (bare, shielded) => bare.or(shielded)?,
        };
        Some(number)
    }

    /// When [`Places::yields`] has somebody, if it has nobody before.
    pub fn next_offer(&self) -> Option<Duration> {
        let ranks = [&self.bare, &self.shielded];
        ranks.into_iter().filter_map(|rank| self.due(rank, *rank.by_age.first()?)).min()
    }

    /// Of those of `rank`: how many its address has, and its number.
    fn yields_of(&self, rank: &Rank, now: Duration) -> Option<(usize, usize)> {
        let is_due = |older| self.due(rank, older).is_some_and(|at| at <= now);
        let richest = rank.offers.last().map(|(len, Reverse(older), _)| (*len, *older));
        let oldest = || rank.by_age.first().map(|older| (0, *older));
        let (len, (_, number)) = richest
            .filter(|(_, older)| is_due(*older))
            .or_else(|| oldest().filter(|(_, older)| is_due(*older)))?;
        Some((len, number))
    }

    fn due(&self, rank: &Rank, (_, number): Older) -> Option<Duration> {
        self.members.get(&number).map(|member| member.since + rank.keeps)
    }

    /// Ranks what an address offers anew.
    fn offer(&mut self, network: Network) {
        let Some(lot) = self.lots.get_mut(&network) else { return };
        let len = lot.len();
        let offer = |set: &BTreeSet<Older>| set.first().map(|o| (len, Reverse(*o), network));
        let offers = [offer(&lot.bare), offer(&lot.shielded)];
        let old = std::mem::replace(&mut lot.offers, offers);
        let ranks = [&mut self.bare.offers, &mut self.shielded.offers];
        for ((ranks, old), new) in ranks.into_iter().zip(old).zip(offers) {
            if old != new {
                old.and_then(|old| ranks.take(&old));
                ranks.extend(new);
            }
        }
        if len == 0 {
            self.lots.remove(&network);
        }
    }
}

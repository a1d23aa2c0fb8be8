//! Who holds how much of something that all share, and who gives way to whom when it is full.
//! PROTOCOL.md, section 5.3.
//!
//! There are two levels: an address, and the links that come from it. So an address that opens many
//! links holds no more than another one, and where many people share an address by nature, one of
//! them does not hold what the address may have.

use std::collections::{BTreeSet, HashMap};
use std::mem::size_of;

/// Of what is free, an address may hold so many times as much: alone, seven eighths of everything.
/// So an eighth is left for those who hold little, and nobody has to give way to them.
const TIMES: u64 = 7;

/// A link, and the address that it comes from. Both are mere numbers, which tell of nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The same for all links of one address.
    pub address: u64,
    /// The link's own.
    pub link: u32,
}

/// What somebody holds.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    held: u64,
    /// Links that are still there and hold something.
    links: u32,
}

impl Share {
    /// Where it stands among the others: in powers of two, so that it seldom moves. Among equals,
    /// who is gone comes last, and is the first to give way.
    fn rank(self) -> u32 {
        self.held.checked_ilog2().map_or(0, |log| 1 + 2 * log + u32::from(self.links == 0))
    }
}

/// The shares of all who hold anything. Each operation takes time in the logarithm of their number.
#[derive(Default)]
pub struct Shares {
    addresses: HashMap<u64, Share>,
    links: HashMap<u32, Share>,
    ranked_addresses: BTreeSet<(u32, u64)>,
    ranked_links: BTreeSet<(u64, u32, u32)>,
}

impl Shares {
    /// What is kept for one who holds something, in bytes: its places in two tables that may be half
    /// empty and in two trees, and those of its address.
    pub const COST: usize = 2 * (size_of::<(u64, Share)>() + size_of::<(u32, Share)>() + 2)
        + 2 * (size_of::<(u32, u64)>() + size_of::<(u64, u32, u32)>());

    /// How many links hold anything.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether nobody holds anything.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// What the address holds, and what the link does.
    fn held(&self, by: Holder) -> (u64, u64) {
        let address = self.addresses.get(&by.address).map_or(0, |share| share.held);
        (address, self.links.get(&by.link).map_or(0, |share| share.held))
    }

    /// Whether `by` may take `more` of what is `free` without anybody giving way: then neither its
    /// address holds more than seven times what is left, nor the link more than seven times what is
    /// left to its address.
    pub fn allows(&self, by: Holder, more: u64, free: u64) -> bool {
        let Some(left) = free.checked_sub(more) else { return false };
        let (of_address, of_link) = self.held(by);
        let rest = left.saturating_mul(TIMES).checked_sub(of_address);
        rest.is_some_and(|rest| of_link <= rest.saturating_mul(TIMES))
    }

    /// Whether the link may take one more of what is `free`: then it holds no more than seven times
    /// what is left, whoever its address is.
    pub fn allows_link(&self, by: Holder, free: u64) -> bool {
        let (_, of_link) = self.held(by);
        free.checked_sub(1).is_some_and(|left| of_link <= left.saturating_mul(TIMES))
    }

    /// Who gives way when `by` is to have `more`, and there is no room: of the address that holds
    /// most, the link that holds most, if it has twice what `by` would have then; else the one that
    /// holds most at the address of `by`. Nobody gives way to who holds as much itself.
    ///
    /// "Most" is to a power of two.
    pub fn gives_way_to(&self, by: Holder, more: u64) -> Option<Holder> {
        let (own, own_link) = self.held(by);
        let is_twice = |held: u64, own: u64| held >= 2 * (own + more);
        let yields = |address: u64| {
            let range = (address, 0, 0)..=(address, u32::MAX, u32::MAX);
            let (_, _, link) = *self.ranked_links.range(range).next_back()?;
            let largest = Holder { address, link };
            let (held, of_link) = self.held(largest);
            let link_yields = held >= own && is_twice(of_link, own_link);
            let address_yields = address != by.address && is_twice(held, own);
            (link_yields || address_yields).then_some(largest)
        };
        let (_, most) = *self.ranked_addresses.last()?;
        yields(most).or_else(|| yields(by.address))
    }

    /// `by`, which is there, holds so much more.
    pub fn add(&mut self, by: Holder, more: u64) {
        let is_new = !self.links.contains_key(&by.link);
        self.change(by, |share| {
            share.held += more;
            share.links += u32::from(is_new);
        });
    }

    /// It holds so much less.
    pub fn take(&mut self, by: Holder, less: u64) {
        let is_there = |share: &Share| share.held == less && share.links > 0;
        let leaves = self.links.get(&by.link).is_some_and(is_there);
        self.change(by, |share| {
            share.held -= less;
            share.links -= u32::from(leaves);
        });
    }

    /// It is gone, and leaves behind what it holds.
    pub fn leave(&mut self, by: Holder) {
        if self.links.get(&by.link).is_some_and(|share| share.links > 0) {
            self.change(by, |share| share.links -= 1);
        }
    }

    /// Changes the share of a link, and that of its address alike.
    fn change(&mut self, by: Holder, change: impl Fn(&mut Share)) {
        let Holder { address, link } = by;
        let share = self.links.entry(link).or_default();
        let before = share.rank();
        change(share);
        let after = share.rank();
        if after == 0 {
            self.links.remove(&link);
        }
        if before != after {
            self.ranked_links.remove(&(address, before, link));
            self.ranked_links.extend((after > 0).then_some((address, after, link)));
        }
        let share = self.addresses.entry(address).or_default();
        let before = share.rank();
        change(share);
        let after = share.rank();
        if after == 0 {
            self.addresses.remove(&address);
        }
        if before != after {
            self.ranked_addresses.remove(&(before, address));
            self.ranked_addresses.extend((after > 0).then_some((after, address)));
        }
    }
}

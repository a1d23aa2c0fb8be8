//! Who was served before whom.

use std::collections::BTreeMap;

use crate::sched::party::Network;

/// The order in which addresses were served last. Those served longest ago are forgotten, and
/// count as served together with the last of them that was: being forgotten gains nobody anything.
pub struct Lately {
    most: usize,
    at: BTreeMap<Network, u64>,
    by_time: BTreeMap<u64, Network>,
    floor: u64,
    next: u64,
}

impl Lately {
    /// Nobody was served. Of those who are, `most` are remembered.
    pub fn new(most: usize) -> Self {
        Self { most, at: BTreeMap::new(), by_time: BTreeMap::new(), floor: 0, next: 1 }
    }

    /// When this address was served last: the lower, the longer ago.
    pub fn served(&self, network: Network) -> u64 {
        self.at.get(&network).copied().unwrap_or(self.floor)
    }

    /// It is served now.
    pub fn note(&mut self, network: Network) {
        if let Some(old) = self.at.insert(network, self.next) {
            self.by_time.remove(&old);
        }
        self.by_time.insert(self.next, network);
        self.next += 1;
        if self.at.len() > self.most
            && let Some((at, forgotten)) = self.by_time.pop_first()
        {
            self.floor = at;
            self.at.remove(&forgotten);
        }
    }
}

//! Box keys of senders heard lately, so that each costs its two X25519 once. What is in here was
//! admitted: strangers cannot push it out.

use crate::crypto::sodium::{BoxKey, PublicKey};

/// Box keys of senders heard lately.
pub struct BoxCache {
    slots: Vec<(usize, PublicKey, BoxKey)>,
    oldest: usize,
}

impl BoxCache {
    /// How many senders are kept; beyond that the one inserted first goes.
    pub const CAPACITY: usize = 64;

    /// An empty one.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), oldest: 0 }
    }

    pub(super) fn get(&self, local: usize, sender: &[u8; 32]) -> Option<(&PublicKey, &BoxKey)> {
        let found = self.slots.iter().find(|slot| slot.0 == local && slot.1.as_bytes() == sender);
        found.map(|slot| (&slot.1, &slot.2))
    }

    /// Keeps the key that local key `local` shares with `sender`.
    pub fn insert(&mut self, local: usize, sender: PublicKey, key: BoxKey) {
        if self.slots.len() < Self::CAPACITY {
            return self.slots.push((local, sender, key));
        }
        self.slots[self.oldest] = (local, sender, key);
        self.oldest = (self.oldest + 1) % Self::CAPACITY;
    }
}

impl Default for BoxCache {
    fn default() -> Self {
        Self::new()
    }
}

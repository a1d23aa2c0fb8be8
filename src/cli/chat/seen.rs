//! Which lines were shown already: one whose acknowledgement was lost with its connection comes
//! again, under the same id.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// So many lines of one sender are remembered: more than may be unacknowledged at once.
const LINES: usize = 2 * super::talk::IN_FLIGHT;
/// So many senders are; then whoever was new the longest ago is forgotten.
const SENDERS: usize = 256;

/// The ids of lines, by the sender's key.
#[derive(Default)]
pub struct Seen {
    senders: BTreeMap<[u8; 32], Ids>,
    order: VecDeque<[u8; 32]>,
}

#[derive(Default)]
struct Ids {
    known: BTreeSet<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
}

impl Seen {
    /// Whether the line was shown.
    pub fn contains(&self, sender: &[u8; 32], id: &[u8; 16]) -> bool {
        self.senders.get(sender).is_some_and(|ids| ids.known.contains(id))
    }

    /// It was shown now.
    pub fn insert(&mut self, sender: [u8; 32], id: [u8; 16]) {
        if !self.senders.contains_key(&sender) {
            self.order.push_back(sender);
            if self.order.len() > SENDERS
                && let Some(oldest) = self.order.pop_front()
            {
                self.senders.remove(&oldest);
            }
        }
        let ids = self.senders.entry(sender).or_default();
        if ids.known.insert(id) {
            ids.order.push_back(id);
            if ids.order.len() > LINES
                && let Some(oldest) = ids.order.pop_front()
            {
                ids.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> [u8; 16] {
        (n as u128).to_be_bytes()
    }

    #[test]
    fn a_line_is_known_again_only_as_its_senders() {
        let mut seen = Seen::default();
        seen.insert([1; 32], id(1));
        assert!(seen.contains(&[1; 32], &id(1)));
        assert!(!seen.contains(&[2; 32], &id(1)));
        assert!(!seen.contains(&[1; 32], &id(2)));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let mut seen = Seen::default();
        for n in 0..10 * LINES {
            seen.insert([1; 32], id(n));
            seen.insert([1; 32], id(n));
        }
        assert_eq!(seen.senders[&[1; 32]].known.len(), LINES);
        assert!((9 * LINES..10 * LINES).all(|n| seen.contains(&[1; 32], &id(n))));
        for n in 0..2 * SENDERS {
            let mut sender = [0; 32];
            sender[..8].copy_from_slice(&(n as u64 + 2).to_be_bytes());
            seen.insert(sender, id(n));
        }
        assert_eq!(seen.senders.len(), SENDERS);
        assert_eq!(seen.order.len(), SENDERS);
    }
}

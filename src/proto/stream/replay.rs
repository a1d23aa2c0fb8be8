//! First messages that were answered before: none is answered twice. PROTOCOL.md, section 3.1.2.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::proto::time::CLOCK_WINDOW_MS;

/// A stamp may be accepted for so long: it can come five minutes ahead, and stay until it is five
/// minutes old.
const ACCEPTED: Duration = Duration::from_millis(2 * CLOCK_WINDOW_MS);
/// One generation: those that came within so much time are forgotten together.
const GENERATION: Duration = Duration::from_secs(60);

/// The ephemeral keys of the first messages of the last ten to eleven minutes.
///
/// There is no bound but time: whoever answers answers [`HANDSHAKES`](crate::sched::limits::HANDSHAKES)
/// a second at most, so that it never has more than 662,000, in 14 MB. What has come is aged by
/// the monotonic clock: wherever the other clock jumps meanwhile, nothing is admitted twice for as
/// long as it is remembered, and nobody is shut out.
#[derive(Default)]
pub struct ReplayGuard {
    /// From the oldest to the newest, each with when it began.
    generations: VecDeque<(Duration, HashSet<u64>)>,
    /// Makes tags: a caller chooses its key, and cannot choose a tag.
    hasher: RandomState,
}

impl ReplayGuard {
    /// Whether a first message with this ephemeral key, which came at the monotonic time `now`, is
    /// new; it is not any more.
    pub fn admit(&mut self, ephemeral: &[u8; 32], now: Duration) -> bool {
        self.age(now);
        let tag = self.hasher.hash_one(ephemeral);
        if self.generations.iter().any(|(_, tags)| tags.contains(&tag)) {
            return false;
        }
        self.generations.back_mut().is_none_or(|(_, newest)| newest.insert(tag))
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.generations.iter().map(|(_, tags)| tags.len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn age(&mut self, now: Duration) {
        let over = |began: Duration| began + GENERATION + ACCEPTED <= now;
        while self.generations.front().is_some_and(|(began, _)| over(*began)) {
            self.generations.pop_front();
        }
        if self.generations.back().is_none_or(|(began, _)| *began + GENERATION <= now) {
            self.generations.push_back((now, HashSet::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn a_first_message_is_admitted_once_for_as_long_as_its_stamp_can_be_accepted() {
        let mut guard = ReplayGuard::default();
        // In the last moment of a generation, which is then the next to be forgotten.
        let now = minutes(7) + GENERATION - Duration::from_millis(1);
        assert!(guard.admit(&[0; 32], minutes(7)) && guard.admit(&[1; 32], now));
        for minute in 0..=10 {
            assert!(!guard.admit(&[1; 32], now + minutes(minute)), "after {minute} minutes");
        }
        assert!(!guard.admit(&[1; 32], now + ACCEPTED));
        assert!(guard.admit(&[2; 32], now + ACCEPTED));
    }

    #[test]
    fn what_is_no_longer_accepted_takes_no_room() {
        let mut guard = ReplayGuard::default();
        for second in 0..3600_u64 {
            for n in 0..10 {
                let mut ephemeral = [n; 32];
                ephemeral[..8].copy_from_slice(&second.to_be_bytes());
                assert!(guard.admit(&ephemeral, Duration::from_secs(second)));
            }
            assert!(guard.len() <= 10 * 660, "{} after {second} s", guard.len());
        }
        assert!(guard.admit(&[0xff; 32], minutes(100)));
        assert_eq!(guard.len(), 1);
    }
}

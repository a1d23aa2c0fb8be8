//! First messages that were answered before: none is answered twice. PROTOCOL.md, section 3.1.

use std::collections::BTreeSet;

use crate::proto::time::CLOCK_WINDOW_MS;

/// How many ephemeral keys are remembered: five minutes of 800 handshakes a second, about 12 MB
/// when full. Beyond that the floor rises, and what is stamped below it is not answered.
const CAPACITY: usize = 1 << 18;

/// The ephemeral keys of the time window, by their stamps.
#[derive(Default)]
pub struct ReplayGuard {
    seen: BTreeSet<(u64, [u8; 16])>,
    /// Stamps at or below this (Unix ms) are no longer told from replays, and so count as such.
    floor: u64,
}

impl ReplayGuard {
    /// Whether the first message with this stamp and ephemeral key is new; it is not any more.
    pub fn admit(&mut self, unix_ms: u64, ephemeral: &[u8; 32], now_ms: u64) -> bool {
        self.forget_before(now_ms.saturating_sub(CLOCK_WINDOW_MS));
        if unix_ms <= self.floor || !self.seen.insert((unix_ms, half(ephemeral))) {
            return false;
        }
        if self.seen.len() > CAPACITY {
            self.raise_floor();
        }
        true
    }

    /// What is older than the window is refused for its stamp alone; the floor keeps it refused
    /// should the clock jump back.
    fn forget_before(&mut self, oldest: u64) {
        while let Some((stamp, _)) = self.seen.first().filter(|(stamp, _)| *stamp < oldest) {
            self.floor = self.floor.max(*stamp);
            self.seen.pop_first();
        }
    }

    fn raise_floor(&mut self) {
        if let Some((stamp, _)) = self.seen.pop_first() {
            self.floor = stamp;
            while self.seen.first().is_some_and(|(s, _)| *s <= stamp) {
                self.seen.pop_first();
            }
        }
    }
}

/// Half of a random key tells it from all others: a collision only costs its owner one attempt.
fn half(ephemeral: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&ephemeral[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_message_is_admitted_once_for_as_long_as_its_stamp_is_accepted() {
        let mut guard = ReplayGuard::default();
        let now = 10_000_000;
        assert!(guard.admit(now, &[1; 32], now));
        assert!(!guard.admit(now, &[1; 32], now + CLOCK_WINDOW_MS));
        assert!(guard.admit(now, &[2; 32], now));
    }

    #[test]
    fn a_clock_that_jumps_ahead_and_back_admits_nothing_twice() {
        let mut guard = ReplayGuard::default();
        let now = 10_000_000;
        assert!(guard.admit(now, &[1; 32], now));
        let ahead = now + 3 * CLOCK_WINDOW_MS;
        assert!(guard.admit(ahead, &[2; 32], ahead));
        assert!(!guard.admit(now, &[1; 32], now));
        assert!(guard.admit(now + 1, &[3; 32], now));
    }

    #[test]
    fn a_flood_raises_the_floor_and_forgets_nothing_that_it_would_answer() {
        let mut guard = ReplayGuard::default();
        let now = 10_000_000;
        for i in 0..(CAPACITY as u64 + 10) {
            let mut e = [0; 32];
            e[..8].copy_from_slice(&i.to_be_bytes());
            guard.admit(now + i / 1000, &e, now);
        }
        assert!(guard.seen.len() <= CAPACITY);
        assert!(!guard.admit(now, &[0; 32], now), "forgotten and below the floor");
        assert!(guard.admit(now + 1000, &[9; 32], now), "above the floor");
    }
}

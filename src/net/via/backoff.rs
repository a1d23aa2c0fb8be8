//! When a relay that was lost is called again.

use std::time::Duration;

/// No pause is shorter.
const LEAST: Duration = Duration::from_millis(50);

/// Pauses that grow: each is drawn evenly from none to a bound that doubles, so that those who lost
/// a relay together do not come back together.
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// The first pause is at most `first`, and none is longer than `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// The next pause; `draw` is random.
    pub fn next(&mut self, draw: u64) -> Duration {
        let bound = (self.first * (1 << self.tries.min(6))).min(self.longest);
        self.tries = self.tries.saturating_add(1);
        LEAST + Duration::from_millis(draw % (bound - LEAST).as_millis() as u64)
    }

    /// The next pause is a first one.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_not_beyond() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut backoff = Backoff::new(first, longest);
        assert!(backoff.next(u64::MAX) <= first);
        let most = (0..100).map(|_| backoff.next(59_949)).max();
        assert!(most > Some(longest / 2) && most <= Some(longest));
        backoff.reset();
        assert!(backoff.next(u64::MAX) <= first);
        assert_eq!(backoff.next(0), LEAST);
    }
}

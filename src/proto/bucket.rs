//! How much may be spent, in the long run and at once.

use std::time::Duration;

/// A token bucket: full at first, refilled steadily.
pub struct Bucket {
    /// Tokens a second.
    rate: f64,
    /// Tokens at most.
    burst: f64,
    tokens: f64,
    filled: Duration,
}

impl Bucket {
    /// A full one of `burst` tokens, which gets `rate` new ones a second.
    pub fn new(rate: u32, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { rate: rate.into(), burst, tokens: burst, filled: Duration::ZERO }
    }

    /// Takes one token at the monotonic time `now`; whether there was one.
    pub fn take(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * self.rate).min(self.burst);
        self.filled = self.filled.max(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(10, 5);
        let at = Duration::from_secs(100);
        assert_eq!((0..20).filter(|_| bucket.take(at)).count(), 5);
        // Ten seconds later it is full, and fuller than that it does not get.
        let later = at + Duration::from_secs(10);
        assert_eq!((0..20).filter(|_| bucket.take(later)).count(), 5);
        let steps = (0..1000).map(|ms| later + Duration::from_millis(ms));
        assert!((9..=10).contains(&steps.filter(|at| bucket.take(*at)).count()));
    }
}

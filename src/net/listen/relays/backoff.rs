//! When a relay that was lost is called again.

use std::time::Duration;

/// The longest first pause.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest pause of all.
const LONGEST: Duration = Duration::from_secs(60);
/// No pause is shorter.
const LEAST: Duration = Duration::from_millis(50);

/// Pauses that grow: each is drawn evenly from none to a bound that doubles, so that those who lost
/// a relay together do not come back together.
#[derive(Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next pause; `draw` is random.
    pub fn next(&mut self, draw: u64) -> Duration {
        let bound = (SHORTEST * (1 << self.tries.min(6))).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        LEAST + Duration::from_millis(draw % (bound - LEAST).as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_not_beyond() {
        let mut backoff = Backoff::default();
        assert!(backoff.next(u64::MAX) <= SHORTEST);
        let longest = (0..100).map(|_| backoff.next(59_949)).max();
        assert!(longest > Some(LONGEST / 2) && longest <= Some(LONGEST));
        assert_eq!(Backoff::default().next(0), LEAST);
    }
}

//! Links that take nothing, though something waits for them. What the kernel holds for them is nowhere
//! else counted, and no sign of life from them gives it back: after a while they are closed.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// A link that takes nothing for so long is closed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// So many links may take nothing for so long. At 370 KB each, what the kernel holds for them and what
/// is sealed for them, that is 370 MB.
pub const MANY: usize = 1000;
/// While they are more, each is closed after so long.
pub const SHORT_PATIENCE: Duration = Duration::from_secs(3);
/// Since when a link takes nothing is known to this.
pub const GRAIN: Duration = Duration::from_secs(1);

/// Those links, by the numbers of their clients.
#[derive(Default)]
pub struct Stuck {
    since: HashMap<usize, Duration>,
    by_time: BTreeSet<(Duration, usize)>,
}

impl Stuck {
    /// What a turn came to: whether the link took something, and whether something still waits.
    pub fn note(&mut self, client: usize, took: bool, waits: bool, now: Duration) {
        let before = self.since.get(&client).copied();
        let moved = took && before.is_some_and(|since| now >= since + GRAIN);
        if waits && before.is_some() && !moved {
            return;
        }
        self.forget(client);
        if waits {
            self.since.insert(client, now);
            self.by_time.insert((now, client));
        }
    }

    /// The client is gone, or what waits for it is not a link's any more.
    pub fn forget(&mut self, client: usize) {
        if let Some(since) = self.since.remove(&client) {
            self.by_time.remove(&(since, client));
        }
    }

    /// Who has taken nothing for longest, if that is too long.
    pub fn due(&self, now: Duration) -> Option<usize> {
        let (since, client) = *self.by_time.first()?;
        (since + self.patience() <= now).then_some(client)
    }

    /// When [`Stuck::due`] has somebody.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.by_time.first().map(|(since, _)| *since + self.patience())
    }

    fn patience(&self) -> Duration {
        if self.since.len() > MANY { SHORT_PATIENCE } else { PATIENCE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn whoever_takes_nothing_is_due_and_whoever_takes_a_little_is_not() {
        let mut stuck = Stuck::default();
        for client in [1, 2, 3] {
            stuck.note(client, true, true, at(0));
        }
        for second in 1..30 {
            stuck.note(1, false, true, at(second));
            stuck.note(2, true, true, at(second));
            assert_eq!(stuck.due(at(second)), None);
        }
        // It has taken everything.
        stuck.note(3, true, false, at(1));
        assert_eq!(stuck.next_deadline(), Some(PATIENCE));
        assert_eq!(stuck.due(PATIENCE), Some(1));
        stuck.forget(1);
        assert_eq!(stuck.next_deadline(), Some(at(29) + PATIENCE));
        stuck.note(2, false, false, at(31));
        assert_eq!(stuck.next_deadline(), None);
    }

    #[test]
    fn who_takes_something_within_a_second_is_late_by_no_more() {
        let mut stuck = Stuck::default();
        stuck.note(1, true, true, at(0));
        stuck.note(1, true, true, GRAIN / 2);
        assert_eq!(stuck.next_deadline(), Some(PATIENCE));
        stuck.note(1, true, true, GRAIN);
        assert_eq!(stuck.next_deadline(), Some(PATIENCE + GRAIN));
    }

    #[test]
    fn a_crowd_that_takes_nothing_is_closed_soon_until_it_is_small() {
        let mut stuck = Stuck::default();
        (0..MANY + 500).for_each(|client| stuck.note(client, true, true, at(0)));
        assert_eq!(stuck.due(SHORT_PATIENCE - GRAIN), None);
        let mut closed = 0;
        while let Some(client) = stuck.due(SHORT_PATIENCE) {
            stuck.forget(client);
            closed += 1;
        }
        assert_eq!(closed, 500);
        assert_eq!(stuck.next_deadline(), Some(PATIENCE));
    }
}

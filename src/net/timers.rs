//! When each connection wants to be looked at without news.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Deadlines by token. Moving one later costs nothing until it fires: most move on with every
/// byte, and few ever fire.
#[derive(Default)]
pub struct Timers {
    by_time: BTreeSet<(Duration, usize)>,
    by_token: BTreeMap<usize, Duration>,
}

impl Timers {
    /// `token` wants to be looked at no later than `at`; it may be looked at earlier.
    pub fn set(&mut self, token: usize, at: Duration) {
        if let Some(old) = self.by_token.get(&token) {
            if *old <= at {
                return;
            }
            self.by_time.remove(&(*old, token));
        }
        self.by_token.insert(token, at);
        self.by_time.insert((at, token));
    }

    /// `token` is gone.
    pub fn clear(&mut self, token: usize) {
        if let Some(at) = self.by_token.remove(&token) {
            self.by_time.remove(&(at, token));
        }
    }

    /// Moves all whose time has come to `out`; each is to be set anew.
    pub fn expired(&mut self, now: Duration, out: &mut Vec<usize>) {
        while let Some((at, token)) = self.by_time.first().copied() {
            if at > now {
                return;
            }
            self.clear(token);
            out.push(token);
        }
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

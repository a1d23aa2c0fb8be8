//! Token buckets. A bucket holds as many tokens as its rate gives in its time, and one number says
//! all of it: when it will be full again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// The most that a rate counts: less than a microsecond apart is no limit.
pub const MAX_COUNT: u32 = 1_000_000;

/// So many in so much time, all of which may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: Duration,
}

impl Rate {
    /// `count` in `per`; `None` unless `count` is from 1 to [`MAX_COUNT`] and `per` at least 1 s.
    pub fn new(count: u32, per: Duration) -> Option<Self> {
        let sane = (1..=MAX_COUNT).contains(&count) && per >= Duration::from_secs(1);
        sane.then_some(Self { count, per })
    }

    /// `count` (from 1 to [`MAX_COUNT`]) in a second.
    pub const fn a_second(count: u32) -> Self {
        assert!(count > 0 && count <= MAX_COUNT);
        Self { count, per: Duration::from_secs(1) }
    }

    /// How long one token takes.
    fn each(self) -> Duration {
        self.per / self.count
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.count)?;
        match self.per.as_secs() {
            1 => f.write_str("a second"),
            60 => f.write_str("a minute"),
            3600 => f.write_str("an hour"),
            n => write!(f, "in {n} s"),
        }
    }
}

/// A bucket for each of many, of whom only those are remembered who have taken something lately.
///
/// When there are too many, the one that has taken least is forgotten, and whoever is not
/// remembered counts as having taken as much as that one: being forgotten gains nobody anything.
pub struct Buckets<K> {
    rate: Rate,
    most: usize,
    full_at: BTreeMap<K, Duration>,
    by_time: BTreeSet<(Duration, K)>,
    floor: Duration,
}

impl<K: Ord + Copy> Buckets<K> {
    /// Full buckets for all, of which `most` are remembered when they are not.
    pub fn new(rate: Rate, most: usize) -> Self {
        let (full_at, by_time) = (BTreeMap::new(), BTreeSet::new());
        Self { rate, most, full_at, by_time, floor: Duration::ZERO }
    }

    /// What each may take.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// From when on `key` may take one.
    pub fn ready_at(&self, key: K) -> Duration {
        (self.full_at(key) + self.rate.each()).saturating_sub(self.rate.per)
    }

    /// `key` takes one, though it be before its time: then the next is so much later.
    pub fn take(&mut self, key: K, now: Duration) {
        let full_at = self.full_at(key).max(now) + self.rate.each();
        if let Some(old) = self.full_at.insert(key, full_at) {
            self.by_time.remove(&(old, key));
        }
        self.by_time.insert((full_at, key));
        while let Some((at, key)) = self.by_time.first().copied() {
            if at > now && self.full_at.len() <= self.most {
                return;
            }
            self.floor = self.floor.max(at);
            self.by_time.remove(&(at, key));
            self.full_at.remove(&key);
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether everybody's bucket is full.
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }

    fn full_at(&self, key: K) -> Duration {
        self.full_at.get(&key).copied().unwrap_or(self.floor)
    }
}

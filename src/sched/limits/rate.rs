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

/// The bucket of one, full at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// From when on one may be taken, at `rate`.
    pub fn ready_at(self, rate: Rate) -> Duration {
        (self.full_at + rate.each()).saturating_sub(rate.per)
    }

    /// One is taken, though it be before its time: then the next is so much later.
    pub fn take(&mut self, rate: Rate, now: Duration) {
        self.full_at = self.full_at.max(now) + rate.each();
    }
}

/// A bucket for each of many, of whom only those are remembered who have taken something lately.
///
/// When there are too many, the one that has taken least is forgotten, and whoever is not
/// remembered counts as having taken as much as that one: being forgotten gains nobody anything.
pub struct Buckets<K> {
    rate: Rate,
    most: usize,
    buckets: BTreeMap<K, Bucket>,
    by_time: BTreeSet<(Duration, K)>,
    /// That of whoever is not remembered.
    floor: Bucket,
}

impl<K: Ord + Copy> Buckets<K> {
    /// Full buckets for all, of which `most` are remembered when they are not.
    pub fn new(rate: Rate, most: usize) -> Self {
        let (buckets, by_time) = (BTreeMap::new(), BTreeSet::new());
        Self { rate, most, buckets, by_time, floor: Bucket::default() }
    }

    /// What each may take.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// From when on `key` may take one.
    pub fn ready_at(&self, key: K) -> Duration {
        self.bucket(key).ready_at(self.rate)
    }

    /// `key` takes one, though it be before its time: then the next is so much later.
    pub fn take(&mut self, key: K, now: Duration) {
        let mut bucket = self.bucket(key);
        bucket.take(self.rate, now);
        if let Some(old) = self.buckets.insert(key, bucket) {
            self.by_time.remove(&(old.full_at, key));
        }
        self.by_time.insert((bucket.full_at, key));
        while let Some((at, key)) = self.by_time.first().copied() {
            if at > now && self.buckets.len() <= self.most {
                return;
            }
            self.floor.full_at = self.floor.full_at.max(at);
            self.by_time.remove(&(at, key));
            self.buckets.remove(&key);
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether everybody's bucket is full.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn bucket(&self, key: K) -> Bucket {
        self.buckets.get(&key).copied().unwrap_or(self.floor)
    }
}

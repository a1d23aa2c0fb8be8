//! Chance that a seed fixes, and bytes to send.

use std::fmt::Debug;
use std::ops::Range;

use anonchat::crypto::sodium::{Random as _, SeededRandom};

use super::common::number;

/// A generator, so that a seed names a whole run.
pub struct Dice(pub SeededRandom);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(SeededRandom::new(seed))
    }

    /// A number below `limit`; zero if there is none.
    pub fn below<N: TryFrom<u64, Error: Debug> + TryInto<u64, Error: Debug>>(
        &mut self,
        limit: N,
    ) -> N {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        N::try_from(u64::from_be_bytes(bytes) % limit.try_into().unwrap().max(1)).unwrap()
    }

    pub fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.len())
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100_u64) < chance
    }
}

/// Each below what is asked for.
pub fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut dice = Dice::new(seed);
    move |limit| dice.below(limit)
}

/// `AC_TEST_SEED` alone, or as many as `AC_TEST_SEEDS` says.
pub fn seeds(default: u64) -> Range<u64> {
    match number("AC_TEST_SEED", u64::MAX) {
        u64::MAX => 0..number("AC_TEST_SEEDS", default),
        seed => seed..seed + 1,
    }
}

/// Random bytes.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    bytes
}

/// Bytes that are the same nowhere.
pub fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

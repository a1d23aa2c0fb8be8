//! Bytes that leave no copy behind.

use crate::crypto::sodium::wipe;

/// A buffer of fixed capacity, wiped on drop. It never grows, so that no reallocation leaves a
/// copy in freed memory; it has neither `Debug` nor `Clone`.
pub struct Wiped(Vec<u8>);

impl Wiped {
    /// Room for `capacity` bytes, none of them used.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Adds `bytes`.
    ///
    /// # Panics
    /// Beyond the capacity: callers bound what they add.
    pub fn push(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.0.capacity() - self.0.len(), "a wiped buffer never grows");
        self.0.extend_from_slice(bytes);
    }

    /// The whole capacity as zero bytes, to be filled; [`Wiped::truncate`] says how far.
    pub fn zeroed(len: usize) -> Self {
        Self(vec![0; len])
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Keeps the first `len` bytes and wipes the rest.
    pub fn truncate(&mut self, len: usize) {
        if let Some(rest) = self.0.get_mut(len..) {
            wipe(rest);
        }
        self.0.truncate(len);
    }
}

impl std::ops::Deref for Wiped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

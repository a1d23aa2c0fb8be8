//! BLAKE3 of the beginning of a file, by which two sides find out that they hold the same.

use std::io::{self, Read};

/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// A BLAKE3 that is given its input in pieces.
#[derive(Default)]
pub struct PrefixHash(blake3::Hasher);

impl PrefixHash {
    /// Adds a piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash, 32 bytes.
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }

    /// The hash of the next `len` bytes of `input`, in constant memory.
    ///
    /// # Errors
    /// What reading says; [`io::ErrorKind::UnexpectedEof`] when there are fewer.
    pub fn of(input: &mut impl Read, len: u64) -> io::Result<[u8; 32]> {
        let mut hash = Self::default();
        let mut piece = vec![0; PIECE];
        let mut left = len;
        while left > 0 {
            let want = left.min(PIECE as u64) as usize;
            input.read_exact(&mut piece[..want])?;
            hash.update(&piece[..want]);
            left -= want as u64;
        }
        Ok(hash.finish())
    }
}

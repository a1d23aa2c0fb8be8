//! Cryptography, composed and never invented: [`sodium`] is the only door to libsodium, [`noise`]
//! runs `snow` on its primitives, [`kem`] is ML-KEM-768, [`prefix_hash`] BLAKE3 for partial files.

pub mod kem;
pub mod noise;
pub mod prefix_hash;
pub mod sodium;

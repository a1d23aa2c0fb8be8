//! Cryptography, composed and never invented: [`sodium`] is the only door to libsodium, [`noise`]
//! runs `snow` on its primitives, [`kem`] is ML-KEM-768.

pub mod kem;
pub mod noise;
pub mod sodium;

//! What people read to each other over the phone. PROTOCOL.md, "Keys".

use crate::crypto::sodium::{PublicKey, keyed_hash};

/// Size of a fingerprint before it is shown, in bytes: 8 groups of 5.
const LEN: usize = 40;

/// `H[40]("AnonChat v1 fingerprint"; pk)` as 8 groups of 5 digits, 132 bits.
pub fn fingerprint(public: &PublicKey) -> String {
    groups(&raw(public))
}

/// One number for a pair of keys, the same from both ends:
/// `H[40]("AnonChat v1 safety"; smaller fingerprint ‖ larger)`, shown like a fingerprint.
pub fn safety_number(a: &PublicKey, b: &PublicKey) -> String {
    let (a, b) = (raw(a), raw(b));
    let (smaller, larger) = if a <= b { (a, b) } else { (b, a) };
    groups(&keyed_hash(b"AnonChat v1 safety", &[&smaller, &larger]))
}

fn raw(public: &PublicKey) -> [u8; LEN] {
    keyed_hash(b"AnonChat v1 fingerprint", &[public.as_bytes()])
}

/// Each 5 bytes, big-endian, modulo 100000.
fn groups(bytes: &[u8; LEN]) -> String {
    let group = |five: &[u8]| {
        let number = five.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        format!("{:05}", number % 100_000)
    };
    bytes.chunks_exact(5).map(group).collect::<Vec<_>>().join(" ")
}

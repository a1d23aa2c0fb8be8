//! What people read to each other over the phone. PROTOCOL.md, 2.2.

use super::Contact;
use crate::crypto::sodium::{PublicKey, keyed_hash};

/// Size of a fingerprint before it is shown, in bytes: 8 groups of 5.
const LEN: usize = 40;

/// The name of a public key: `H[40]("AnonChat v1 fingerprint"; pk)` as 8 groups of 5 digits, 132 bits.
///
/// Whoever proves a key has a fingerprint, whether or not its `access` is known.
pub fn fingerprint(public: &PublicKey) -> String {
    groups(&keyed_hash(b"AnonChat v1 fingerprint", &[public.as_bytes()]))
}

/// The number of a public key together with its `access`, shown like a fingerprint.
pub fn party_number(party: &Contact) -> String {
    groups(&raw(party))
}

/// One number for two parties, the same from both ends, shown like a fingerprint:
/// `H[40]("AnonChat v1 safety"; smaller party number ‖ larger)`. Hints do not count.
pub fn safety_number(a: &Contact, b: &Contact) -> String {
    let (a, b) = (raw(a), raw(b));
    let (smaller, larger) = if a <= b { (a, b) } else { (b, a) };
    groups(&keyed_hash(b"AnonChat v1 safety", &[&smaller, &larger]))
}

/// `H[40]("AnonChat v1 party"; pk ‖ access)`.
fn raw(party: &Contact) -> [u8; LEN] {
    keyed_hash(b"AnonChat v1 party", &[party.public.as_bytes(), party.access.as_bytes()])
}

/// Each 5 bytes, big-endian, modulo 100000.
fn groups(bytes: &[u8; LEN]) -> String {
    let group = |five: &[u8]| {
        let number = five.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        format!("{:05}", number % 100_000)
    };
    bytes.chunks_exact(5).map(group).collect::<Vec<_>>().join(" ")
}

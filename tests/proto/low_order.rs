//! A public key is refused exactly when an X25519 with it would give zero: what the table in
//! `sodium.rs` says is held against libsodium and against the curve's own arithmetic.

use anonchat::crypto::sodium::{BadPublicKey, PublicKey, Secret, random, x25519};

fn multiplies_to_zero(point: &[u8; 32]) -> bool {
    x25519(&Secret::from_slice(&[0x40; 32]).unwrap(), point).is_err()
}

fn from_hex(text: &str) -> [u8; 32] {
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

/// The blocklist of libsodium and of RFC 7748's security considerations, in every encoding.
const POINTS: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[test]
fn every_point_of_low_order_is_refused() {
    for hex in POINTS {
        let point = from_hex(hex);
        assert!(multiplies_to_zero(&point), "{hex}");
        assert_eq!(PublicKey::from_bytes(&point).err(), Some(BadPublicKey::LowOrder), "{hex}");
        let mut top_bit = point;
        top_bit[31] |= 0x80;
        assert_eq!(PublicKey::from_bytes(&top_bit).err(), Some(BadPublicKey::NonCanonical));
    }
}

#[test]
fn everything_from_the_prime_on_is_not_canonical() {
    for low in 0xed..=0xff {
        let mut point = [0xff; 32];
        point[0] = low;
        point[31] = 0x7f;
        assert_eq!(PublicKey::from_bytes(&point).err(), Some(BadPublicKey::NonCanonical));
    }
}

#[test]
fn any_other_point_is_accepted_and_multiplies_to_something() {
    let mut near: Vec<[u8; 32]> = (0..200).map(|_| random()).collect();
    // Neighbours of the low-order points: one bit off.
    for point in POINTS.map(from_hex) {
        near.extend((0..255).map(|bit| {
            let mut point = point;
            point[bit / 8] ^= 1 << (bit % 8);
            point
        }));
    }
    for mut point in near {
        point[31] &= 0x7f;
        match PublicKey::from_bytes(&point) {
            Ok(_) => assert!(!multiplies_to_zero(&point), "{point:?}"),
            Err(BadPublicKey::LowOrder) => assert!(multiplies_to_zero(&point), "{point:?}"),
            Err(BadPublicKey::NonCanonical) => assert_eq!(point[31], 0x7f),
        }
    }
}

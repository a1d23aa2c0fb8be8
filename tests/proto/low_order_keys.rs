//! A key that protects nothing, or that has a second encoding, is refused wherever a foreign key
//! comes in: checked keys, raw X25519, opening boxes, and both sides of a handshake.

use std::sync::atomic::{AtomicUsize, Ordering};

use anonchat::crypto::kem::{self, KemSecret};
use anonchat::crypto::noise::Resolver;
use anonchat::crypto::sodium::{
    self, BadPublicKey, Blake2b, KeyPair, NONCE_LEN, PublicKey, Secret, seal_secret,
};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

/// The five canonical u-coordinates of small order: 0, 1, p - 1 and two of order 8.
const LOW_ORDER: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
];

fn bytes32(hex: &str) -> [u8; 32] {
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}

fn low_order_points() -> Vec<[u8; 32]> {
    LOW_ORDER.into_iter().map(bytes32).collect()
}

/// Every number from 2^255 - 19 to 2^255 - 1, and all of these and the low-order points with the
/// top bit set, which X25519 ignores.
fn second_forms() -> Vec<[u8; 32]> {
    let mut forms: Vec<[u8; 32]> = (0xed..=0xff)
        .map(|lowest| {
            let mut key = [0xff; 32];
            (key[0], key[31]) = (lowest, 0x7f);
            key
        })
        .collect();
    forms.push(*KeyPair::generate().public().as_bytes());
    forms.extend(low_order_points());
    let with_top_bit: Vec<_> = forms.iter().map(|key| set_top_bit(*key)).collect();
    forms.truncate(19);
    forms.extend(with_top_bit);
    forms
}

fn set_top_bit(mut key: [u8; 32]) -> [u8; 32] {
    key[31] |= 0x80;
    key
}

#[test]
fn checked_keys_are_never_of_low_order_and_have_one_form() {
    for key in low_order_points() {
        assert_eq!(PublicKey::from_bytes(&key), Err(BadPublicKey::LowOrder), "{key:x?}");
    }
    for key in second_forms() {
        assert_eq!(PublicKey::from_bytes(&key), Err(BadPublicKey::NonCanonical), "{key:x?}");
    }
    let good = *KeyPair::generate().public().as_bytes();
    assert!(PublicKey::from_bytes(&good).is_ok());
}

#[test]
fn raw_x25519_refuses_them_whatever_the_secret() {
    for secret in [Secret::zeroed(), Secret::from_slice(&[0xff; 32]).unwrap(), Secret::random()] {
        for key in low_order_points() {
            assert_eq!(sodium::x25519(&secret, &key).err(), Some(BadPublicKey::LowOrder));
        }
        for key in second_forms() {
            assert_eq!(sodium::x25519(&secret, &key).err(), Some(BadPublicKey::NonCanonical));
        }
    }
}

/// The key of every `crypto_box` whose X25519 result is zero: HSalsa20 of zeros.
const BOX_KEY_OF_ZERO: &str = "351f86faa3b988468a850122b65b0acece9c4826806aeee63de9c0da2bd7f91e";

/// A sealed box made without knowing anything but the recipient's public key, around `ephemeral`
/// of low order (`ephemeral ‖ secretbox`, nonce = BLAKE2b-192 of both public keys).
fn forged_sealed_box(ephemeral: &[u8; 32], to: &PublicKey) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    let mut hash = Blake2b::new(NONCE_LEN, None);
    hash.update(ephemeral);
    hash.update(to.as_bytes());
    hash.finish(&mut nonce);
    let key = Secret::from_slice(&bytes32(BOX_KEY_OF_ZERO)).unwrap();
    [&ephemeral[..], &seal_secret(&key, &nonce, b"forged")].concat()
}

#[test]
fn a_sealed_box_around_a_low_order_key_does_not_open() {
    let bob = KeyPair::generate();
    for ephemeral in low_order_points() {
        for form in [ephemeral, set_top_bit(ephemeral)] {
            let forged = forged_sealed_box(&form, bob.public());
            assert!(sodium::open_anonymous(&bob, &forged).is_none(), "{form:x?}");
        }
    }
    let honest = sodium::seal_anonymous(bob.public(), b"hi");
    assert_eq!(sodium::open_anonymous(&bob, &honest).unwrap(), b"hi");
    let mut second_form = honest;
    second_form[31] |= 0x80;
    assert!(sodium::open_anonymous(&bob, &second_form).is_none());
}

/// How an attacker's key pair lies about its public half.
#[derive(Clone, Copy)]
enum Lie {
    /// Shows this point of low order; every result with it is zero.
    LowOrder([u8; 32]),
    /// Shows its true key with the top bit set; results stay the same.
    TopBit,
}

struct LyingKey {
    inner: Box<dyn Dh>,
    lie: Lie,
    shown: [u8; 32],
}

impl LyingKey {
    fn show(&mut self) {
        self.shown = match self.lie {
            Lie::LowOrder(point) => point,
            Lie::TopBit => set_top_bit(self.inner.pubkey().try_into().unwrap()),
        };
    }
}

impl Dh for LyingKey {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn pub_len(&self) -> usize {
        self.inner.pub_len()
    }
    fn priv_len(&self) -> usize {
        self.inner.priv_len()
    }
    fn set(&mut self, privkey: &[u8]) {
        self.inner.set(privkey);
        self.show();
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        self.inner.generate(rng)?;
        self.show();
        Ok(())
    }
    fn pubkey(&self) -> &[u8] {
        &self.shown
    }
    fn privkey(&self) -> &[u8] {
        self.inner.privkey()
    }
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        match self.lie {
            Lie::LowOrder(_) => out[..32].fill(0),
            Lie::TopBit => self.inner.dh(pubkey, out)?,
        }
        Ok(())
    }
}

/// Which key of the attacker lies: snow asks for the static one first, then the ephemeral one.
const STATIC: usize = 0;
const EPHEMERAL: usize = 1;

struct LyingResolver {
    lie: Lie,
    at: usize,
    asked: AtomicUsize,
}

impl CryptoResolver for LyingResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Resolver.resolve_rng()
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let inner = Resolver.resolve_dh(choice)?;
        if self.asked.fetch_add(1, Ordering::Relaxed) != self.at {
            return Some(inner);
        }
        Some(Box::new(LyingKey { inner, lie: self.lie, shown: [0; 32] }))
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        Resolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Resolver.resolve_cipher(choice)
    }
}

const PSK: [u8; 32] = [7; 32];

fn builder(resolver: impl CryptoResolver + Send + 'static) -> Builder<'static> {
    let params = "Noise_XKpsk0+psk3_25519_AESGCM_BLAKE2b".parse().unwrap();
    Builder::with_resolver(params, Box::new(resolver)).psk(0, &PSK).unwrap().psk(3, &PSK).unwrap()
}

fn liar(lie: Lie, at: usize) -> Builder<'static> {
    builder(LyingResolver { lie, at, asked: AtomicUsize::new(0) })
}

fn initiator(builder: Builder<'_>, responder: &KeyPair) -> HandshakeState {
    let own = KeyPair::generate();
    builder
        .local_private_key(own.secret().expose())
        .unwrap()
        .remote_public_key(responder.public().as_bytes())
        .unwrap()
        .build_initiator()
        .unwrap()
}

fn responder(builder: Builder<'_>, own: &KeyPair) -> HandshakeState {
    builder.local_private_key(own.secret().expose()).unwrap().build_responder().unwrap()
}

/// Plays the three messages; the number of the first that was refused for its key.
fn refused_message(initiator: &mut HandshakeState, responder: &mut HandshakeState) -> Option<u8> {
    let (mut wire, mut payload) = ([0; 1024], [0; 1024]);
    for number in 1..=3 {
        let (from, to) = if number == 2 {
            (&mut *responder, &mut *initiator)
        } else {
            (&mut *initiator, &mut *responder)
        };
        let len = from.write_message(b"", &mut wire).unwrap();
        match to.read_message(&wire[..len], &mut payload) {
            Ok(_) => {}
            Err(snow::Error::Dh) => return Some(number),
            Err(other) => panic!("message {number} failed for another reason: {other}"),
        }
    }
    None
}

fn lies() -> Vec<Lie> {
    let low = low_order_points().into_iter();
    let mut lies: Vec<Lie> =
        low.flat_map(|key| [Lie::LowOrder(key), Lie::LowOrder(set_top_bit(key))]).collect();
    lies.push(Lie::TopBit);
    lies
}

#[test]
fn a_handshake_refuses_them_in_every_message() {
    let bob = KeyPair::generate();
    for lie in lies() {
        let refused = |first: Builder<'_>, second: Builder<'_>| {
            refused_message(&mut initiator(first, &bob), &mut responder(second, &bob))
        };
        assert_eq!(refused(liar(lie, EPHEMERAL), builder(Resolver)), Some(1));
        assert_eq!(refused(builder(Resolver), liar(lie, EPHEMERAL)), Some(2));
        assert_eq!(refused(liar(lie, STATIC), builder(Resolver)), Some(3));
        assert_eq!(refused(builder(Resolver), builder(Resolver)), None);
    }
}

#[test]
fn kem_keys_of_a_wrong_length_or_out_of_range_are_refused() {
    for len in (0..kem::ENCAPSULATION_KEY_LEN).chain([kem::ENCAPSULATION_KEY_LEN + 1, 65_535]) {
        assert!(kem::encapsulate(&vec![0; len]).is_err(), "{len} bytes");
    }
    assert!(kem::encapsulate(&[0xff; kem::ENCAPSULATION_KEY_LEN]).is_err());
    let (_, good) = KemSecret::generate().unwrap();
    assert!(kem::encapsulate(&good).is_ok());
    // Each pair of 12-bit coefficients takes 3 bytes; one of 3329 or more is outside the field.
    for at in (0..1152).step_by(3) {
        let mut key = good;
        (key[at], key[at + 1]) = (0xff, key[at + 1] | 0x0f);
        assert!(kem::encapsulate(&key).is_err(), "coefficient at byte {at}");
    }
}

#[test]
fn a_garbage_kem_ciphertext_gives_nobodys_secret() {
    let (secret, public) = KemSecret::generate().unwrap();
    for len in (0..kem::CIPHERTEXT_LEN).chain([kem::CIPHERTEXT_LEN + 1, 65_535]) {
        assert!(secret.decapsulate(&vec![0; len]).is_err(), "{len} bytes");
    }
    let (mut ciphertext, sent) = kem::encapsulate(&public).unwrap();
    assert!(secret.decapsulate(&ciphertext).unwrap() == sent);
    for at in (0..ciphertext.len()).step_by(17) {
        ciphertext[at] ^= 1;
        assert!(secret.decapsulate(&ciphertext).unwrap() != sent, "byte {at} changed");
        ciphertext[at] ^= 1;
    }
}

//! The only door to libsodium.
//!
//! `sodiumoxide` 0.2.7 is unmaintained and some of its safe calls fail open: with a low-order
//! public key `precompute`, `seal` and `sealedbox::seal` return a zero key, stale heap or the
//! plaintext, and report nothing. So no foreign public key reaches it unless it went through
//! [`PublicKey::from_bytes`], and no other module names the crate. Its `padding`, `kdf` and serde
//! parts are not used at all. See PROTOCOL.md, "Libraries".

use std::sync::OnceLock;

use sodiumoxide::crypto::scalarmult::curve25519 as scalarmult;
use sodiumoxide::crypto::{box_, generichash, pwhash::argon2id13, sealedbox, secretbox};
use sodiumoxide::{randombytes, utils};

/// What a sealed box adds to its content: a throwaway public key of 32 bytes and a tag of 16.
pub const SEALED_BOX_OVERHEAD: usize = 48;
/// What `crypto_box` adds to its content: a tag of 16 bytes.
pub const BOX_OVERHEAD: usize = 16;
/// What `crypto_secretbox` adds to its content: a tag of 16 bytes.
pub const SECRETBOX_OVERHEAD: usize = 16;
/// Size of the nonce of a box or a secret box, in bytes.
pub const NONCE_LEN: usize = 24;
/// Size of an argon2id salt, in bytes.
pub const SALT_LEN: usize = 16;

/// Chooses the fast code for this processor, once. Without it libsodium runs its reference code at
/// half the speed, so every constructor of this module passes here first.
fn init() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        // Fails only if the system has no source of randomness; nothing can be sealed then.
        assert!(sodiumoxide::init().is_ok(), "libsodium found no source of randomness");
    });
}

/// Fills `out` from the system's random generator.
pub fn random_into(out: &mut [u8]) {
    init();
    randombytes::randombytes_into(out);
}

/// `N` random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    random_into(&mut out);
    out
}

/// A source of randomness that is handed to code without one of its own.
pub trait Random: Send + Sync {
    /// Fills `out` entirely.
    fn fill(&mut self, out: &mut [u8]);
}

/// The system's generator, through libsodium.
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&mut self, out: &mut [u8]) {
        random_into(out);
    }
}

/// A repeatable stream for simulations and test vectors: never for keys that matter.
pub struct SeededRandom {
    seed: [u8; 32],
    drawn: u64,
}

impl SeededRandom {
    /// The stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Self { seed: bytes, drawn: 0 }
    }
}

impl Random for SeededRandom {
    fn fill(&mut self, out: &mut [u8]) {
        self.drawn += 1;
        self.seed[24..].copy_from_slice(&self.drawn.to_be_bytes());
        randombytes::randombytes_buf_deterministic_into(out, &randombytes::Seed(self.seed));
    }
}

/// `N` secret bytes: on the heap so that a move leaves no copy behind, wiped on drop, compared in
/// constant time, without `Debug` or `Clone`.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Zero bytes, to be filled through [`Secret::expose_mut`].
    pub fn zeroed() -> Self {
        Self(Box::new([0; N]))
    }

    /// Random bytes.
    pub fn random() -> Self {
        let mut secret = Self::zeroed();
        random_into(secret.expose_mut());
        secret
    }

    /// Copies `bytes`; `None` if they are not exactly `N`.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::zeroed();
        if bytes.len() != N {
            return None;
        }
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// Copies `bytes`.
    pub fn duplicate_of(bytes: &[u8; N]) -> Self {
        let mut secret = Self::zeroed();
        secret.0.copy_from_slice(bytes);
        secret
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes themselves, to be written.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// A second copy: rare enough to be spelled out.
    pub fn duplicate(&self) -> Self {
        Self::duplicate_of(&self.0)
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        utils::memzero(&mut self.0[..]);
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&self.0[..], &other.0[..])
    }
}
impl<const N: usize> Eq for Secret<N> {}

/// Whether two strings are the same, in time that depends on their lengths only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    utils::memcmp(a, b)
}

/// Overwrites `bytes` with zeros in a way that the compiler does not remove.
pub fn wipe(bytes: &mut [u8]) {
    utils::memzero(bytes);
}

/// Why 32 bytes are no public key that we deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPublicKey {
    /// The top bit is set, or the number is not below 2^255 - 19: the same key has another
    /// encoding, and so would have two fingerprints.
    NonCanonical,
    /// A point of low order: whatever is sealed for it, anybody can open.
    LowOrder,
}

impl std::fmt::Display for BadPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NonCanonical => "the public key is not in canonical form",
            Self::LowOrder => "the public key is a point of low order, which protects nothing",
        })
    }
}

/// An X25519 public key of 32 bytes that is canonical and not of low order (RFC 7748, section 6.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Size in bytes.
    pub const LEN: usize = 32;

    /// Checks a key that came from elsewhere.
    ///
    /// # Errors
    /// [`BadPublicKey`], for every key that libsodium would mishandle or that has a second form.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BadPublicKey> {
        if !is_canonical(bytes) {
            return Err(BadPublicKey::NonCanonical);
        }
        if LOW_ORDER.contains(bytes) {
            return Err(BadPublicKey::LowOrder);
        }
        Ok(Self(*bytes))
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn boxed(&self) -> box_::PublicKey {
        box_::PublicKey(self.0)
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicKey")
    }
}

/// Every point of low order in canonical form, on the curve and on its twist: 0, 1, two of order 8,
/// and -1. A scalarmult tells them too, but takes 40 µs, which a keyring of hundreds would feel;
/// tests/proto/low_order.rs holds the two against each other.
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
];

/// Whether `bytes` are below 2^255 - 19, little-endian.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let above = bytes[31] > 0x7f;
    let largest = bytes[31] == 0x7f && bytes[1..31].iter().all(|b| *b == 0xff) && bytes[0] >= 0xed;
    !(above || largest)
}

/// An X25519 secret key and the public key that belongs to it.
pub struct KeyPair {
    secret: Secret<32>,
    public: PublicKey,
}

impl KeyPair {
    /// A new random key.
    pub fn generate() -> Self {
        Self::from_secret(Secret::random())
    }

    /// The pair of a stored secret.
    pub fn from_secret(secret: Secret<32>) -> Self {
        init();
        let scalar = scalarmult::Scalar(*secret.expose());
        // A multiple of the base point by a clamped scalar is canonical and never of low order.
        let public = PublicKey(scalarmult::scalarmult_base(&scalar).0);
        Self { secret, public }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The secret half, for key files and Noise.
    pub fn secret(&self) -> &Secret<32> {
        &self.secret
    }

    /// A second copy, where two owners must have it.
    pub fn duplicate(&self) -> Self {
        Self { secret: self.secret.duplicate(), public: self.public }
    }

    /// X25519 of this secret and `public`; never all zeros, because `public` was checked.
    ///
    /// # Errors
    /// [`BadPublicKey::LowOrder`], should that invariant ever break.
    pub fn dh(&self, public: &PublicKey) -> Result<Secret<32>, BadPublicKey> {
        x25519(&self.secret, public.as_bytes())
    }

    fn boxed(&self) -> box_::SecretKey {
        box_::SecretKey(*self.secret.expose())
    }
}

/// Raw X25519 (RFC 7748): for [`super::noise`], whose ephemeral keys are raw bytes.
///
/// # Errors
/// [`BadPublicKey::LowOrder`] when the result would be all zeros, and
/// [`BadPublicKey::NonCanonical`], so that a key of a handshake has one encoding as well.
pub fn x25519(secret: &Secret<32>, public: &[u8; 32]) -> Result<Secret<32>, BadPublicKey> {
    init();
    if !is_canonical(public) {
        return Err(BadPublicKey::NonCanonical);
    }
    let scalar = scalarmult::Scalar(*secret.expose());
    let point = scalarmult::scalarmult(&scalar, &scalarmult::GroupElement(*public))
        .map_err(|()| BadPublicKey::LowOrder)?;
    let mut shared = Secret::zeroed();
    shared.expose_mut().copy_from_slice(&point.0);
    Ok(shared)
}

/// `crypto_box_seal`: anonymous to `to`, 48 bytes longer than `plain`.
pub fn seal_anonymous(to: &PublicKey, plain: &[u8]) -> Vec<u8> {
    init();
    sealedbox::seal(plain, &to.boxed())
}

/// Opens what [`seal_anonymous`] made; `None` if it is not for this key or was changed.
pub fn open_anonymous(key: &KeyPair, sealed: &[u8]) -> Option<Vec<u8>> {
    init();
    // Unlike sealing, opening fails closed when the throwaway key in front is of low order.
    sealedbox::open(sealed, &key.public.boxed(), &key.boxed()).ok()
}

/// The key of `crypto_box` between two parties, computed once.
pub struct BoxKey(box_::PrecomputedKey);

impl BoxKey {
    /// The key that `ours` and `theirs` share, the same at both ends.
    pub fn new(ours: &KeyPair, theirs: &PublicKey) -> Self {
        init();
        Self(box_::precompute(&theirs.boxed(), &ours.boxed()))
    }

    /// `crypto_box`: tag and ciphertext, 16 bytes longer than `plain`.
    pub fn seal(&self, nonce: &[u8; NONCE_LEN], plain: &[u8]) -> Vec<u8> {
        box_::seal_precomputed(plain, &box_::Nonce(*nonce), &self.0)
    }

    /// Opens what [`BoxKey::seal`] made; `None` if it was changed or is somebody else's.
    pub fn open(&self, nonce: &[u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
        box_::open_precomputed(sealed, &box_::Nonce(*nonce), &self.0).ok()
    }
}

/// `crypto_secretbox` under `key`: 16 bytes longer than `plain`.
pub fn seal_secret(key: &Secret<32>, nonce: &[u8; NONCE_LEN], plain: &[u8]) -> Vec<u8> {
    init();
    secretbox::seal(plain, &secretbox::Nonce(*nonce), &secretbox::Key(*key.expose()))
}

/// Opens what [`seal_secret`] made; `None` if the key is wrong or it was changed.
pub fn open_secret(key: &Secret<32>, nonce: &[u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
    init();
    secretbox::open(sealed, &secretbox::Nonce(*nonce), &secretbox::Key(*key.expose())).ok()
}

/// `argon2id13(password, salt, ops, mem)`: 32 bytes. `mem_kib` is in KiB.
///
/// # Errors
/// `None` when libsodium cannot get the memory or the bounds are out of its range.
pub fn argon2id(
    password: &[u8],
    salt: &[u8; SALT_LEN],
    ops: u32,
    mem_kib: u32,
) -> Option<Secret<32>> {
    init();
    let mut out = Secret::zeroed();
    argon2id13::derive_key(
        out.expose_mut(),
        password,
        &argon2id13::Salt(*salt),
        argon2id13::OpsLimit(ops as usize),
        argon2id13::MemLimit(mem_kib as usize * 1024),
    )
    .ok()?;
    Some(out)
}

/// BLAKE2b (RFC 7693) over several pieces, keyed when `key` is given (16 to 64 bytes).
///
/// `H[n](k; d)` in PROTOCOL.md is [`keyed_hash`]; this is the incremental form that Noise needs.
pub struct Blake2b(generichash::State);

impl Blake2b {
    /// A new hash of `len` bytes (16 to 64).
    pub fn new(len: usize, key: Option<&[u8]>) -> Self {
        init();
        let state = generichash::State::new(Some(len), key);
        // Lengths are constants of this program, not of a peer.
        Self(state.unwrap_or_else(|()| unreachable!("BLAKE2b: {len} bytes, or the key's length")))
    }

    /// Adds a piece.
    pub fn update(&mut self, piece: &[u8]) {
        // libsodium fails here only for a state that was finished, which `finish` takes away. A hash
        // of less than it was given must not go on, whatever it was for.
        assert!(self.0.update(piece).is_ok(), "BLAKE2b took nothing in");
    }

    /// Writes the digest to `out`, which has the length that was asked for. Should there be none, the
    /// program ends: zeros in its place would pass for one.
    pub fn finish(self, out: &mut [u8]) {
        let digest = self.0.finalize();
        let digest = digest.unwrap_or_else(|()| unreachable!("BLAKE2b gave no digest"));
        out.copy_from_slice(digest.as_ref());
    }
}

/// `H[N](key; piece ‖ piece …)` of PROTOCOL.md: keyed BLAKE2b with `N` bytes out (16 to 64).
pub fn keyed_hash<const N: usize>(key: &[u8], pieces: &[&[u8]]) -> [u8; N] {
    let mut state = Blake2b::new(N, Some(key));
    for piece in pieces {
        state.update(piece);
    }
    let mut out = [0; N];
    state.finish(&mut out);
    out
}

/// [`keyed_hash`] with a secret result.
pub fn keyed_hash_secret<const N: usize>(key: &[u8], pieces: &[&[u8]]) -> Secret<N> {
    let mut state = Blake2b::new(N, Some(key));
    for piece in pieces {
        state.update(piece);
    }
    let mut out = Secret::zeroed();
    state.finish(out.expose_mut());
    out
}

//! Noise (revision 34) through `snow`, on our own primitives: X25519, BLAKE2b and randomness from
//! libsodium, AES-256-GCM from `aws-lc-rs`, which seals 64 KiB at 10 to 20 GB/s.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};

use super::sodium::{self, Blake2b, KeyPair, Secret};

/// What Noise adds to each payload: an AEAD tag, in bytes.
pub const TAG_LEN: usize = 16;
/// The largest Noise message (revision 34, section 3), in bytes.
pub const MAX_MESSAGE: usize = 65_535;
/// The handshake hash, which names a session: BLAKE2b-512, in bytes.
pub const HASH_LEN: usize = 64;

/// False only in programs that were built with `--cfg anonchat_unsealed`, to measure what sealing costs:
/// with them "ciphertext" is the plaintext before a tag of zeros. They protect nothing, say so at each
/// start, and understand nobody else.
pub const SEALS: bool = cfg!(not(anonchat_unsealed));

/// Gives `snow` our primitives, and nothing that it asks for beside them.
pub struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::new(None))),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2b => Some(Box::new(Blake2bHash(new_blake2b()))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::AESGCM => Some(Box::new(Aes256Gcm(None))),
            _ => None,
        }
    }
}

/// [`Resolver`], for handshakes of a key pair whose public half need not be computed for each anew.
pub struct ResolverOf(Arc<KeyPair>);

impl ResolverOf {
    /// For the handshakes of `own`.
    pub fn new(own: &KeyPair) -> Self {
        Self(Arc::new(own.duplicate()))
    }
}

impl CryptoResolver for ResolverOf {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Resolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::new(Some(Arc::clone(&self.0))))),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        Resolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Resolver.resolve_cipher(choice)
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        sodium::random_into(dest);
        Ok(())
    }
}

struct X25519 {
    secret: Secret<32>,
    public: [u8; 32],
    /// A pair that it may be told the secret half of.
    known: Option<Arc<KeyPair>>,
}

impl X25519 {
    fn new(known: Option<Arc<KeyPair>>) -> Self {
        Self { secret: Secret::zeroed(), public: [0; 32], known }
    }

    fn derive_public(&mut self) {
        self.public = match &self.known {
            Some(known) if *known.secret() == self.secret => *known.public().as_bytes(),
            _ => *KeyPair::from_secret(self.secret.duplicate()).public().as_bytes(),
        };
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }
    fn pub_len(&self) -> usize {
        32
    }
    fn priv_len(&self) -> usize {
        32
    }
    fn set(&mut self, privkey: &[u8]) {
        self.secret.expose_mut().copy_from_slice(privkey);
        self.derive_public();
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        rng.try_fill_bytes(self.secret.expose_mut())?;
        self.derive_public();
        Ok(())
    }
    fn pubkey(&self) -> &[u8] {
        &self.public
    }
    fn privkey(&self) -> &[u8] {
        self.secret.expose()
    }
    /// Stricter than Noise section 12.1, which leaves an all-zero result to the application and
    /// takes every encoding of a key.
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // No secret has an all-zero public key: ours was never set.
        if self.public == [0; 32] {
            return Err(snow::Error::Dh);
        }
        let foreign = pubkey.first_chunk::<32>().ok_or(snow::Error::Dh)?;
        let shared = sodium::x25519(&self.secret, foreign).map_err(|_| snow::Error::Dh)?;
        out[..32].copy_from_slice(shared.expose());
        Ok(())
    }
}

/// AES-256-GCM; the nonce is 4 zero bytes and a big-endian counter (Noise section 12.3).
struct Aes256Gcm(Option<LessSafeKey>);

impl Aes256Gcm {
    fn key(&self) -> &LessSafeKey {
        // snow sets a key before it uses one; a cipher without one is a bug, not an input.
        self.0.as_ref().unwrap_or_else(|| unreachable!("AES-GCM used before a key was set"))
    }

    fn nonce(counter: u64) -> Nonce {
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&counter.to_be_bytes());
        Nonce::assume_unique_for_key(bytes)
    }
}

impl Cipher for Aes256Gcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (ciphertext, rest) = out.split_at_mut(plaintext.len());
        if !SEALS {
            ciphertext.copy_from_slice(plaintext);
            rest[..TAG_LEN].fill(0);
            return plaintext.len() + TAG_LEN;
        }
        let sealed = self.key().seal_out_of_place_scatter(
            Self::nonce(nonce),
            Aad::from(authtext),
            plaintext,
            ciphertext,
            &[],
            &mut rest[..TAG_LEN],
        );
        // Fails only for lengths above 64 GiB or a wrong output size, which snow rules out.
        assert!(sealed.is_ok(), "AES-GCM did not seal");
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let len = ciphertext.len().checked_sub(TAG_LEN).ok_or(snow::Error::Decrypt)?;
        let (body, tag) = ciphertext.split_at(len);
        if !SEALS {
            out[..len].copy_from_slice(body);
            return if tag == [0; TAG_LEN] { Ok(len) } else { Err(snow::Error::Decrypt) };
        }
        self.key()
            .open_separate_gather(
                Self::nonce(nonce),
                Aad::from(authtext),
                body,
                tag,
                &mut out[..len],
            )
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(len)
    }
}

struct Blake2bHash(Blake2b);

fn new_blake2b() -> Blake2b {
    Blake2b::new(HASH_LEN, None)
}

impl Hash for Blake2bHash {
    fn name(&self) -> &'static str {
        "BLAKE2b"
    }
    fn block_len(&self) -> usize {
        128
    }
    fn hash_len(&self) -> usize {
        HASH_LEN
    }
    fn reset(&mut self) {
        self.0 = new_blake2b();
    }
    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn result(&mut self, out: &mut [u8]) {
        std::mem::replace(&mut self.0, new_blake2b()).finish(&mut out[..HASH_LEN]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_without_a_secret_of_ours_is_an_error() {
        let Some(mut ours) = Resolver.resolve_dh(&DHChoice::Curve25519) else {
            unreachable!("X25519 is there")
        };
        let theirs = KeyPair::generate();
        let mut shared = [0; 32];
        assert!(ours.dh(theirs.public().as_bytes(), &mut shared).is_err());
        assert!(ours.generate(&mut SystemRandom).is_ok());
        assert!(ours.dh(theirs.public().as_bytes(), &mut shared).is_ok());
        assert_ne!(shared, [0; 32]);
    }
}

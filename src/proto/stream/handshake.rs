//! The three messages of `Noise_XKpsk0+psk3_25519_AESGCM_BLAKE2b`: PROTOCOL.md, section 3.1.
//!
//! The functions stand in the order of the messages. A handshake is consumed by each step, so that
//! a step cannot be taken twice or out of order.

use snow::{Builder, HandshakeState};

use super::session::Session;
use crate::crypto::kem::{self, CIPHERTEXT_LEN, ENCAPSULATION_KEY_LEN, KemSecret};
use crate::crypto::noise::{ResolverOf, TAG_LEN};
use crate::crypto::sodium::{KeyPair, PublicKey};
use crate::proto::time::within_window;

/// Noise's name of the suite; there is one, and no negotiation.
pub const SUITE: &str = "Noise_XKpsk0+psk3_25519_AESGCM_BLAKE2b";
/// Binds the version: another one cannot complete a handshake with this.
pub const PROLOGUE: &[u8] = b"AnonChat/1 stream";
/// Size of message 1, in bytes.
pub const HELLO_LEN: usize = 32 + PAYLOAD_LEN + TAG_LEN;
/// Size of message 2, in bytes.
pub const REPLY_LEN: usize = 32 + PAYLOAD_LEN + TAG_LEN;
/// Size of message 3, in bytes.
pub const CONFIRM_LEN: usize = 32 + TAG_LEN + CONFIRM_PAYLOAD_LEN + TAG_LEN;

const PAYLOAD_LEN: usize = 1200;
const CONFIRM_PAYLOAD_LEN: usize = 16;
const VERSION: u8 = 1;
/// version, flags, 6 reserved bytes.
const HEAD_LEN: usize = 8;
const TIME_END: usize = HEAD_LEN + 8;
const _: () = assert!(TIME_END + ENCAPSULATION_KEY_LEN == PAYLOAD_LEN);

/// Why a handshake ended. Whoever answers says none of this to the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// A message did not open: wrong key, wrong `access`, changed, or garbage.
    NotOpened,
    /// It opened, and a field in it is not as section 3.1 wants it.
    BadPayload,
    /// Its time is more than five minutes off.
    Stale,
    /// The library failed (no randomness, no memory).
    Internal,
}

/// What a responder is: a key pair and the `access` value that callers must know.
pub struct Responding<'a> {
    /// The key that the caller looks for.
    pub pair: &'a KeyPair,
    /// Its `access`, 32 bytes.
    pub access: &'a [u8; 32],
}

/// The caller, between message 1 and message 2.
pub struct Initiator {
    noise: HandshakeState,
    kem: KemSecret,
}

/// The one called, between message 2 and message 3.
pub struct Responder {
    noise: HandshakeState,
}

impl Initiator {
    /// Makes message 1 for the holder of `peer`.
    ///
    /// # Errors
    /// [`HandshakeError::Internal`] only.
    pub fn start(
        me: &KeyPair,
        peer: &PublicKey,
        access: &[u8; 32],
        unix_ms: u64,
    ) -> Result<(Self, [u8; HELLO_LEN]), HandshakeError> {
        let (kem, public) = KemSecret::generate().map_err(|_| HandshakeError::Internal)?;
        let mut noise = builder(me)
            .and_then(|b| b.remote_public_key(peer.as_bytes()))
            .and_then(|b| b.psk(0, access))
            .and_then(Builder::build_initiator)
            .map_err(|_| HandshakeError::Internal)?;
        let mut payload = [0; PAYLOAD_LEN];
        payload[0] = VERSION;
        payload[HEAD_LEN..TIME_END].copy_from_slice(&unix_ms.to_be_bytes());
        payload[TIME_END..].copy_from_slice(&public);
        let mut hello = [0; HELLO_LEN];
        write(&mut noise, &payload, &mut hello)?;
        Ok((Self { noise, kem }, hello))
    }

    /// Reads message 2, which only the holder of the key could make, and gives message 3.
    ///
    /// # Errors
    /// [`HandshakeError::NotOpened`] or [`HandshakeError::BadPayload`]: whoever answered is not the
    /// one that was called.
    pub fn confirm(
        mut self,
        reply: &[u8; REPLY_LEN],
    ) -> Result<(Session, [u8; CONFIRM_LEN]), HandshakeError> {
        let mut payload = [0; PAYLOAD_LEN];
        read(&mut self.noise, reply, &mut payload)?;
        check_head(&payload)?;
        let (ciphertext, zeros) = payload[HEAD_LEN..].split_at(CIPHERTEXT_LEN);
        if zeros.iter().any(|b| *b != 0) {
            return Err(HandshakeError::BadPayload);
        }
        let shared = self.kem.decapsulate(ciphertext).map_err(|_| HandshakeError::BadPayload)?;
        self.noise.set_psk(3, shared.expose()).map_err(|_| HandshakeError::Internal)?;
        let mut confirm = [0; CONFIRM_LEN];
        write(&mut self.noise, &[0; CONFIRM_PAYLOAD_LEN], &mut confirm)?;
        Ok((Session::new(self.noise)?, confirm))
    }
}

/// Message 1, opened and within the time window, but not yet answered: its `e` is still to be
/// checked against those seen before.
pub struct Opened {
    noise: HandshakeState,
    kem_public: [u8; ENCAPSULATION_KEY_LEN],
    /// The caller's clock, Unix ms.
    pub unix_ms: u64,
    /// The caller's ephemeral key: never the same twice from an honest caller.
    pub ephemeral: [u8; 32],
}

impl Opened {
    /// Opens message 1 with one key.
    ///
    /// # Errors
    /// [`HandshakeError::NotOpened`] when it is not for this key; another of ours may open it.
    pub fn open(
        key: &Responding<'_>,
        hello: &[u8; HELLO_LEN],
        unix_ms: u64,
    ) -> Result<Self, HandshakeError> {
        let mut noise = builder(key.pair)
            .and_then(|b| b.psk(0, key.access))
            .and_then(Builder::build_responder)
            .map_err(|_| HandshakeError::Internal)?;
        let mut payload = [0; PAYLOAD_LEN];
        read(&mut noise, hello, &mut payload)?;
        check_head(&payload)?;
        let stamp = u64::from_be_bytes(array(&payload[HEAD_LEN..TIME_END]));
        if !within_window(stamp, unix_ms) {
            return Err(HandshakeError::Stale);
        }
        let kem_public = array(&payload[TIME_END..]);
        Ok(Self { noise, kem_public, unix_ms: stamp, ephemeral: array(&hello[..32]) })
    }

    /// Makes message 2.
    ///
    /// # Errors
    /// [`HandshakeError::BadPayload`] when the caller's ML-KEM key is none (FIPS 203, 7.2).
    pub fn reply(mut self) -> Result<(Responder, [u8; REPLY_LEN]), HandshakeError> {
        let (ciphertext, shared) =
            kem::encapsulate(&self.kem_public).map_err(|_| HandshakeError::BadPayload)?;
        let mut payload = [0; PAYLOAD_LEN];
        payload[0] = VERSION;
        payload[HEAD_LEN..HEAD_LEN + CIPHERTEXT_LEN].copy_from_slice(&ciphertext);
        let mut reply = [0; REPLY_LEN];
        write(&mut self.noise, &payload, &mut reply)?;
        self.noise.set_psk(3, shared.expose()).map_err(|_| HandshakeError::Internal)?;
        Ok((Responder { noise: self.noise }, reply))
    }
}

impl Responder {
    /// Reads message 3: the caller has proved the key that is returned.
    ///
    /// # Errors
    /// [`HandshakeError::NotOpened`] or [`HandshakeError::BadPayload`].
    pub fn finish(
        mut self,
        confirm: &[u8; CONFIRM_LEN],
    ) -> Result<(Session, PublicKey), HandshakeError> {
        let mut payload = [0; CONFIRM_PAYLOAD_LEN];
        read(&mut self.noise, confirm, &mut payload)?;
        if payload != [0; CONFIRM_PAYLOAD_LEN] {
            return Err(HandshakeError::BadPayload);
        }
        let caller = self.noise.get_remote_static().map(array::<32>);
        let caller = caller.ok_or(HandshakeError::Internal)?;
        let caller = PublicKey::from_bytes(&caller).map_err(|_| HandshakeError::BadPayload)?;
        Ok((Session::new(self.noise)?, caller))
    }
}

fn builder(key: &KeyPair) -> Result<Builder<'_>, snow::Error> {
    let suite = SUITE.parse()?;
    Builder::with_resolver(suite, Box::new(ResolverOf::new(key)))
        .prologue(PROLOGUE)?
        .local_private_key(key.secret().expose())
}

fn write(noise: &mut HandshakeState, payload: &[u8], out: &mut [u8]) -> Result<(), HandshakeError> {
    match noise.write_message(payload, out) {
        Ok(len) if len == out.len() => Ok(()),
        _ => Err(HandshakeError::Internal),
    }
}

fn read(noise: &mut HandshakeState, from: &[u8], out: &mut [u8]) -> Result<(), HandshakeError> {
    match noise.read_message(from, out) {
        Ok(len) if len == out.len() => Ok(()),
        _ => Err(HandshakeError::NotOpened),
    }
}

/// Version 1; no flag is defined, and the reserved bytes are zero.
fn check_head(payload: &[u8; PAYLOAD_LEN]) -> Result<(), HandshakeError> {
    if payload[..HEAD_LEN] == [VERSION, 0, 0, 0, 0, 0, 0, 0] {
        Ok(())
    } else {
        Err(HandshakeError::BadPayload)
    }
}

/// A slice whose length the caller has checked.
fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(slice);
    out
}

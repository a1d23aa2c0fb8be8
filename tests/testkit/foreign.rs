//! A peer that shares nothing with ours but Noise.

use anonchat::crypto::kem;
use anonchat::crypto::noise::Resolver;
use anonchat::crypto::sodium::KeyPair;
use anonchat::proto::stream::handshake::{HELLO_LEN, PROLOGUE, REPLY_LEN, SUITE};

/// A responder made of snow alone, as another implementation would be.
pub fn foreign_responder(
    bob: &KeyPair,
    access: &[u8; 32],
    hello: &[u8; HELLO_LEN],
) -> (snow::HandshakeState, [u8; REPLY_LEN]) {
    let mut noise = snow::Builder::with_resolver(SUITE.parse().unwrap(), Box::new(Resolver))
        .prologue(PROLOGUE)
        .unwrap()
        .local_private_key(bob.secret().expose())
        .unwrap()
        .psk(0, access)
        .unwrap()
        .build_responder()
        .unwrap();
    let mut payload = [0; 1200];
    assert_eq!(noise.read_message(hello, &mut payload).unwrap(), 1200);
    let (ciphertext, shared) = kem::encapsulate(&payload[16..]).unwrap();
    let mut payload = [0; 1200];
    payload[0] = 1;
    payload[8..8 + ciphertext.len()].copy_from_slice(&ciphertext);
    let mut reply = [0; REPLY_LEN];
    assert_eq!(noise.write_message(&payload, &mut reply).unwrap(), REPLY_LEN);
    noise.set_psk(3, shared.expose()).unwrap();
    (noise, reply)
}

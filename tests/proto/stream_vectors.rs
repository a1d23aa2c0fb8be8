//! A stream comes out as PROTOCOL.md, section 3, says: a transcript with fixed keys, made by
//! tests/vectors/stream.py, which shares no code with this crate.
//!
//! Our own handshake draws its ephemeral keys itself, so it is held against what it can open; and
//! Noise on our primitives, given the transcript's ephemeral keys, against every byte.

use crate::testkit::vectors::{hex, pair, vectors};

use anonchat::crypto::kem::KemSecret;
use anonchat::crypto::noise::Resolver;
use anonchat::crypto::sodium::{Blake2b, KeyPair};
use anonchat::proto::stream::handshake::{
    CONFIRM_LEN, HELLO_LEN, HandshakeError, Opened, PROLOGUE, REPLY_LEN, Responding, SUITE,
};
use anonchat::proto::stream::meta::{Meta, Welcome};
use anonchat::proto::stream::record::{self, Kind};
use anonchat::proto::time::CLOCK_WINDOW_MS;
use serde_json::Value;
use snow::{Builder, HandshakeState, TransportState};

fn open(v: &Value, key: &KeyPair, access: &[u8], now: u64) -> Result<Opened, HandshakeError> {
    let hello: [u8; HELLO_LEN] = hex(&v["message_1"]).try_into().unwrap();
    let access: [u8; 32] = access.try_into().unwrap();
    Opened::open(&Responding { pair: key, access: &access }, &hello, now)
}

#[test]
fn message_1_opens_for_its_key_and_access_and_for_no_other() {
    let v = vectors("stream");
    let (key, access) = (pair(&v["responder_secret"]), hex(&v["access"]));
    assert_eq!(key.public().as_bytes()[..], hex(&v["responder_public"]));
    let now = v["time_ms"].as_u64().unwrap();
    let opened = open(&v, &key, &access, now).ok().unwrap();
    assert_eq!(opened.unix_ms, now);
    assert_eq!(opened.ephemeral[..], hex(&v["initiator_ephemeral_public"]));
    // Its ML-KEM key is one: message 2 can be made.
    assert!(opened.reply().is_ok());

    let another = KeyPair::generate();
    for (key, access) in [(&another, &access[..]), (&key, &[0; 32])] {
        assert_eq!(open(&v, key, access, now).err(), Some(HandshakeError::NotOpened));
    }
}

#[test]
fn message_1_opens_for_five_minutes_either_way() {
    let v = vectors("stream");
    let (key, access) = (pair(&v["responder_secret"]), hex(&v["access"]));
    let stamp = v["time_ms"].as_u64().unwrap();
    for now in [stamp - CLOCK_WINDOW_MS, stamp + CLOCK_WINDOW_MS] {
        assert!(open(&v, &key, &access, now).is_ok());
    }
    for now in [stamp - CLOCK_WINDOW_MS - 1, stamp + CLOCK_WINDOW_MS + 1] {
        assert_eq!(open(&v, &key, &access, now).err(), Some(HandshakeError::Stale));
    }
}

#[test]
fn the_ml_kem_ciphertext_decapsulates() {
    let v = vectors("stream");
    let secret = KemSecret::from_bytes(&hex(&v["mlkem_dk"])).ok().unwrap();
    let shared = secret.decapsulate(&hex(&v["mlkem_ct"])).ok().unwrap();
    assert_eq!(shared.expose()[..], hex(&v["mlkem_shared"]));
}

/// Noise on our primitives, as one side of the transcript.
fn side(v: &Value, initiator: bool) -> HandshakeState {
    let field = |role: &str, what: &str| hex(&v[format!("{role}_{what}").as_str()]);
    let role = if initiator { "initiator" } else { "responder" };
    let (secret, ephemeral) = (field(role, "secret"), field(role, "ephemeral_secret"));
    let (peer, access) = (field("responder", "public"), hex(&v["access"]));
    let access = access.try_into().unwrap();
    let builder = Builder::with_resolver(SUITE.parse().unwrap(), Box::new(Resolver))
        .prologue(PROLOGUE)
        .and_then(|b| b.local_private_key(&secret))
        .and_then(|b| b.psk(0, &access))
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&ephemeral);
    match initiator {
        true => builder.remote_public_key(&peer).and_then(Builder::build_initiator),
        false => builder.build_responder(),
    }
    .unwrap()
}

/// Sends one handshake message, holds it against the transcript, and gives what it carried.
fn cross(
    from: &mut HandshakeState,
    to: &mut HandshakeState,
    payload: &[u8],
    wire: &Value,
    len: usize,
) -> Vec<u8> {
    let mut message = vec![0; len];
    assert_eq!(from.write_message(payload, &mut message).unwrap(), len);
    assert_eq!(message, hex(wire));
    let mut out = vec![0; len];
    let got = to.read_message(&message, &mut out).unwrap();
    out.truncate(got);
    out
}

/// Both sides after the three messages.
fn shaken(v: &Value) -> (TransportState, TransportState) {
    let (mut alice, mut bob) = (side(v, true), side(v, false));
    let head = [1, 0, 0, 0, 0, 0, 0, 0];
    let time = v["time_ms"].as_u64().unwrap().to_be_bytes();
    let hello = [&head[..], &time, &hex(&v["mlkem_ek"])].concat();
    assert_eq!(cross(&mut alice, &mut bob, &hello, &v["message_1"], HELLO_LEN), hello);
    let reply = [&head[..], &hex(&v["mlkem_ct"]), &[0; 104]].concat();
    assert_eq!(cross(&mut bob, &mut alice, &reply, &v["message_2"], REPLY_LEN), reply);
    for noise in [&mut alice, &mut bob] {
        noise.set_psk(3, &hex(&v["mlkem_shared"])).unwrap();
    }
    let confirm = cross(&mut alice, &mut bob, &[0; 16], &v["message_3"], CONFIRM_LEN);
    assert_eq!(confirm, [0; 16]);
    assert_eq!(bob.get_remote_static().unwrap(), hex(&v["initiator_public"]));
    for noise in [&alice, &bob] {
        assert_eq!(noise.get_handshake_hash(), hex(&v["handshake_hash"]));
    }
    (alice.into_transport_mode().unwrap(), bob.into_transport_mode().unwrap())
}

/// One record as our code lays it out, sealed by `from` and opened by `to`.
fn record(from: &mut TransportState, to: &mut TransportState, kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut plain = record::header(kind, body.len()).to_vec();
    plain.extend_from_slice(body);
    plain.resize(record::padded_len(plain.len()), 0);
    let mut wire = vec![0; 2 + plain.len() + 16];
    let len = from.write_message(&plain, &mut wire[2..]).unwrap();
    wire[..2].copy_from_slice(&(len as u16).to_be_bytes());
    let mut opened = vec![0; plain.len()];
    to.read_message(&wire[2..], &mut opened).unwrap();
    assert_eq!(record::parse(&opened).unwrap(), (kind, body));
    wire
}

#[test]
fn the_three_messages_and_every_record_are_the_transcripts_byte_for_byte() {
    let v = vectors("stream");
    assert_eq!(
        (v["suite"].as_str(), v["prologue"].as_str().map(str::as_bytes)),
        (Some(SUITE), Some(PROLOGUE))
    );
    let (mut alice, mut bob) = shaken(&v);
    for entry in v["records"].as_array().unwrap() {
        let kind = Kind::try_from(entry["kind"].as_u64().unwrap() as u8).unwrap();
        let zeros = vec![0; entry["body_len"].as_u64().unwrap() as usize];
        let body = if entry["body"].is_null() { zeros } else { hex(&entry["body"]) };
        let wire = match entry["from"].as_str().unwrap() {
            "initiator" => record(&mut alice, &mut bob, kind, &body),
            _ => record(&mut bob, &mut alice, kind, &body),
        };
        if entry["record"].is_null() {
            let mut hash = Blake2b::new(32, None);
            hash.update(&wire);
            let mut digest = [0; 32];
            hash.finish(&mut digest);
            assert_eq!(digest[..], hex(&entry["record_blake2b"]), "{entry}");
        } else {
            assert_eq!(wire, hex(&entry["record"]), "{entry}");
        }
    }
    for _ in 0..v["pads_of_initiator_until_rekey"].as_u64().unwrap() {
        record(&mut alice, &mut bob, Kind::Pad, &[]);
    }
    alice.rekey_outgoing();
    bob.rekey_incoming();
    let after = record(&mut alice, &mut bob, Kind::Pad, &[]);
    assert_eq!(after, hex(&v["first_pad_after_rekey"]));
}

#[test]
fn the_bodies_with_fields_are_the_transcripts_byte_for_byte() {
    let v = vectors("stream");
    let body = |kind: Kind| {
        let records = v["records"].as_array().unwrap();
        hex(&records.iter().find(|r| r["kind"] == kind as u8).unwrap()["body"])
    };
    let welcome = Welcome { keepalive_ms: Some(5000), ..Welcome::default() };
    assert_eq!(welcome.encode(), body(Kind::Welcome));
    assert_eq!(Welcome::decode(&body(Kind::Welcome)).unwrap(), welcome);
    let mut meta = Meta::message(std::array::from_fn(|i| i as u8), v["time_ms"].as_u64().unwrap());
    meta.keepalive_ms = Some(3000);
    assert_eq!(meta.encode(), body(Kind::Meta));
    assert_eq!(Meta::decode(&body(Kind::Meta)).unwrap(), meta);
    assert_eq!(record::parse_total(&body(Kind::End)), Ok(1003));
    assert_eq!(record::parse_refuse(&body(Kind::Refuse)), Ok((4, "no files today".to_owned())));
    assert_eq!(record::parse_abort(&body(Kind::Abort)), Ok(1));
}

#[test]
fn lengths_are_padded_as_an_independent_padme_does() {
    for pair in vectors("stream")["padded_lengths"].as_array().unwrap() {
        let [len, padded] = [0, 1].map(|i| pair[i].as_u64().unwrap() as usize);
        assert_eq!(record::padded_len(len), padded, "{len}");
    }
}

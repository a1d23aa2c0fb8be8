//! All published Noise vectors of our suite, 25519 + AESGCM + BLAKE2b, run on our primitives.
//!
//! They are the files that ship with `snow`: cacophony.txt (Haskell) and snow.txt, which has the
//! patterns with several pre-shared keys, ours among them.

use std::path::PathBuf;
use std::process::Command;

use anonchat::crypto::noise::Resolver;
use serde::Deserialize;
use snow::params::{HandshakeModifier, NoiseParams};
use snow::{Builder, HandshakeState};

const SUITE: &str = "_25519_AESGCM_BLAKE2b";

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    protocol_name: String,
    init_prologue: String,
    init_psks: Option<Vec<String>>,
    init_static: Option<String>,
    init_ephemeral: Option<String>,
    init_remote_static: Option<String>,
    resp_prologue: String,
    resp_psks: Option<Vec<String>>,
    resp_static: Option<String>,
    resp_ephemeral: Option<String>,
    resp_remote_static: Option<String>,
    handshake_hash: Option<String>,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    payload: String,
    ciphertext: String,
}

/// What one of the two parties is given.
struct Party<'v> {
    prologue: &'v str,
    psks: &'v Option<Vec<String>>,
    own: &'v Option<String>,
    ephemeral: &'v Option<String>,
    remote: &'v Option<String>,
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let output = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where the registry's copy of `snow` lies, asked of cargo without the network: for this platform
/// only, because what others need was never downloaded.
fn vectors_dir() -> PathBuf {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata =
        cargo(&["metadata", "--offline", "--format-version", "1", "--filter-platform", host]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let snow = packages.iter().find(|package| package["name"] == "snow").unwrap();
    let manifest = PathBuf::from(snow["manifest_path"].as_str().unwrap());
    manifest.parent().unwrap().join("tests/vectors")
}

fn vectors_of_our_suite(file: &str) -> Vec<Vector> {
    let text = std::fs::read_to_string(vectors_dir().join(file)).unwrap();
    let mut file: File = serde_json::from_str(&text).unwrap();
    file.vectors.retain(|vector| vector.protocol_name.ends_with(SUITE));
    file.vectors
}

fn handshake(name: &str, party: &Party, initiator: bool) -> HandshakeState {
    let params: NoiseParams = name.parse().unwrap();
    let places = params.handshake.modifiers.list.iter().filter_map(|modifier| match modifier {
        HandshakeModifier::Psk(place) => Some(*place),
        _ => None,
    });
    let psks = party.psks.iter().flatten().map(|psk| <[u8; 32]>::try_from(hex(psk)).unwrap());
    let psks: Vec<(u8, [u8; 32])> = places.zip(psks).collect();
    assert_eq!(psks.len(), party.psks.as_ref().map_or(0, Vec::len), "{name}");

    let prologue = hex(party.prologue);
    let own = party.own.as_deref().map(hex);
    let ephemeral = party.ephemeral.as_deref().map(hex);
    let remote = party.remote.as_deref().map(hex);
    let mut builder = Builder::with_resolver(params, Box::new(Resolver));
    builder = builder.prologue(&prologue).unwrap();
    for (place, psk) in &psks {
        builder = builder.psk(*place, psk).unwrap();
    }
    if let Some(key) = &own {
        builder = builder.local_private_key(key).unwrap();
    }
    if let Some(key) = &remote {
        builder = builder.remote_public_key(key).unwrap();
    }
    if let Some(key) = &ephemeral {
        builder = builder.fixed_ephemeral_key_for_testing_only(key);
    }
    if initiator { builder.build_initiator() } else { builder.build_responder() }.unwrap()
}

fn parties(vector: &Vector) -> (HandshakeState, HandshakeState) {
    let initiator = Party {
        prologue: &vector.init_prologue,
        psks: &vector.init_psks,
        own: &vector.init_static,
        ephemeral: &vector.init_ephemeral,
        remote: &vector.init_remote_static,
    };
    let responder = Party {
        prologue: &vector.resp_prologue,
        psks: &vector.resp_psks,
        own: &vector.resp_static,
        ephemeral: &vector.resp_ephemeral,
        remote: &vector.resp_remote_static,
    };
    let name = &vector.protocol_name;
    (handshake(name, &initiator, true), handshake(name, &responder, false))
}

/// Runs a vector through handshake and transport, comparing every byte on the way.
fn check(vector: &Vector) {
    let name = &vector.protocol_name;
    let (mut first, mut second) = parties(vector);
    let (mut sent, mut received) = (vec![0; 65_535], vec![0; 65_535]);
    let mut messages = vector.messages.iter();
    let mut initiators_turn = true;
    while !first.is_handshake_finished() {
        let message = messages.next().unwrap();
        let (from, to) =
            if initiators_turn { (&mut first, &mut second) } else { (&mut second, &mut first) };
        let len = from.write_message(&hex(&message.payload), &mut sent).unwrap();
        assert_eq!(sent[..len], hex(&message.ciphertext), "{name}");
        let len = to.read_message(&sent[..len], &mut received).unwrap();
        assert_eq!(received[..len], hex(&message.payload), "{name}");
        initiators_turn = !initiators_turn;
    }
    if let Some(hash) = &vector.handshake_hash {
        assert_eq!(first.get_handshake_hash(), hex(hash), "{name}");
        assert_eq!(second.get_handshake_hash(), hex(hash), "{name}");
    }

    let (mut first, mut second) =
        (first.into_transport_mode().unwrap(), second.into_transport_mode().unwrap());
    let params: NoiseParams = name.parse().unwrap();
    let one_way = params.handshake.pattern.is_oneway();
    assert!(messages.len() > 0, "{name} has no transport message");
    for message in messages {
        let (from, to) = if initiators_turn || one_way {
            (&mut first, &mut second)
        } else {
            (&mut second, &mut first)
        };
        let len = from.write_message(&hex(&message.payload), &mut sent).unwrap();
        assert_eq!(sent[..len], hex(&message.ciphertext), "{name}");
        let len = to.read_message(&sent[..len], &mut received).unwrap();
        assert_eq!(received[..len], hex(&message.payload), "{name}");
        initiators_turn = !initiators_turn;
    }
}

#[test]
fn cacophony_vectors_hold() {
    let vectors = vectors_of_our_suite("cacophony.txt");
    vectors.iter().for_each(check);
    assert_eq!(vectors.len(), 59);
    assert_eq!(vectors.iter().filter(|vector| vector.init_psks.is_some()).count(), 21);
    assert!(vectors.iter().all(|vector| vector.handshake_hash.is_some()));
}

#[test]
fn snow_vectors_hold_our_own_pattern_among_them() {
    let vectors = vectors_of_our_suite("snow.txt");
    vectors.iter().for_each(check);
    assert_eq!(vectors.len(), 51);
    let ours = format!("Noise_XKpsk0+psk3{SUITE}");
    assert!(vectors.iter().any(|vector| vector.protocol_name == ours), "{ours} did not run");
}

#[test]
fn the_extended_set_has_nothing_for_this_suite() {
    assert!(vectors_of_our_suite("snow-extended.txt").is_empty(), "run them");
}

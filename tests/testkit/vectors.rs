//! The published vectors in `tests/vectors/`.

use anonchat::crypto::sodium::{KeyPair, Secret};
use anonchat::proto::datagram::packet::Opened;
use serde_json::Value;

/// What `tests/vectors/NAME.json` says.
pub fn vectors(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The bytes of a string of hexadecimal digits.
pub fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    assert!(text.len().is_multiple_of(2), "odd hex");
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// As many bytes as are wanted.
pub fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

/// The pair of a secret key.
pub fn pair(secret: &Value) -> KeyPair {
    KeyPair::from_secret(Secret::from_slice(&hex(secret)).unwrap())
}

/// Panics unless a packet says what the vector `name` says of it; flags aside.
pub fn assert_fields(opened: &Opened, packet: &Value, name: &str) {
    assert_eq!(opened.kind() as u64, packet["kind"].as_u64().unwrap(), "{name}");
    assert_eq!(opened.id().to_bytes()[..], hex(&packet["id"]), "{name}");
    assert_eq!(opened.time_ms(), packet["time_ms"].as_u64().unwrap(), "{name}");
    assert_eq!(opened.ack_key()[..], hex(&packet["ack_key"]), "{name}");
    assert_eq!(u64::from(opened.fragment()), packet["fragment"].as_u64().unwrap(), "{name}");
    assert_eq!(u64::from(opened.of()), packet["of"].as_u64().unwrap(), "{name}");
    assert_eq!(opened.body(), hex(&packet["body"]), "{name}");
}

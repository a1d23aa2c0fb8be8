//! The published vectors in `tests/vectors/`.

use anonchat::crypto::sodium::{KeyPair, Secret};
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

/// The pair of a secret key.
pub fn pair(secret: &Value) -> KeyPair {
    KeyPair::from_secret(Secret::from_slice(&hex(secret)).unwrap())
}

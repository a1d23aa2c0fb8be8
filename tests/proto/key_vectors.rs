//! Keys, fingerprints, groups and key files come out as PROTOCOL.md says, byte for byte. The
//! expected values are from tests/vectors/keys.py, which shares no code with this crate.

use crate::testkit::vectors::vectors;

use anonchat::crypto::sodium::{KeyPair, PublicKey, Secret};
use anonchat::keys::{
    Access, Contact, Hints, KeyErrorKind, KeyFile, KeyedFile, Passphrase, RelayHint, fingerprint,
    group, line, party_number, safety_number,
};
use serde_json::Value;

fn hex(value: &Value) -> [u8; 32] {
    let text = value.as_str().unwrap();
    let byte = |i: usize| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
    std::array::from_fn(byte)
}

fn keyed(text: &Value) -> KeyedFile {
    match KeyFile::parse(text.as_str().unwrap().as_bytes()).unwrap_or_else(|e| panic!("{e}")) {
        KeyFile::Keyed(keyed) => keyed,
        other => panic!("{}", other.describe()),
    }
}

fn opened(vector: &Value) -> Secret<32> {
    let passphrase = vector["passphrase"].as_str().unwrap();
    let stored = keyed(&vector["text"]).unlock(|| Ok(Passphrase::new(passphrase.as_bytes())?));
    stored.unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn public_keys_and_fingerprints() {
    for vector in vectors("keys")["identities"].as_array().unwrap() {
        let pair = KeyPair::from_secret(Secret::from_slice(&hex(&vector["secret"])).unwrap());
        assert_eq!(pair.public().as_bytes(), &hex(&vector["public"]));
        assert_eq!(fingerprint(pair.public()), vector["fingerprint"]);
    }
}

/// The public key of one of the vectors' identities with the `access` of another.
fn party(key: usize, access: usize) -> Contact {
    let identities = &vectors("keys")["identities"];
    Contact {
        public: PublicKey::from_bytes(&hex(&identities[key]["public"])).unwrap(),
        access: Access::from(Secret::from_slice(&hex(&identities[access]["access"])).unwrap()),
        hints: Hints::default(),
    }
}

#[test]
fn the_safety_number_is_the_same_from_both_ends() {
    let v = vectors("keys");
    let (a, b) = (party(0, 0), party(1, 1));
    assert_eq!(party_number(&a), v["identities"][0]["party"]);
    assert_eq!(safety_number(&a, &b), v["safety_number_of_0_and_1"]);
    assert_eq!(safety_number(&b, &a), v["safety_number_of_0_and_1"]);
    assert_ne!(safety_number(&b, &party(2, 2)), v["safety_number_of_0_and_1"]);
}

#[test]
fn the_safety_number_covers_the_access_of_both_and_no_hints() {
    let v = vectors("keys");
    let (a, b) = (party(0, 0), party(1, 1));
    let changed = safety_number(&a, &party(1, 2));
    assert_eq!(changed, v["safety_number_of_0_and_1_with_the_access_of_2"]);
    assert_ne!(changed, v["safety_number_of_0_and_1"]);
    assert_ne!(safety_number(&party(0, 2), &b), v["safety_number_of_0_and_1"]);
    let mut hinted = b;
    hinted.hints.address.push("10.0.0.5:1234".into());
    hinted.hints.relay = Some(RelayHint::Name("home".into()));
    assert_eq!(safety_number(&a, &hinted), v["safety_number_of_0_and_1"]);
}

#[test]
fn a_groups_key_and_access_come_from_its_32_bytes() {
    let v = &vectors("keys")["group"];
    let key = group::local_key(&Secret::from_slice(&hex(&v["g"])).unwrap(), Hints::default());
    assert_eq!(key.pair.secret().expose(), &hex(&v["secret"]));
    assert_eq!(key.pair.public().as_bytes(), &hex(&v["public"]));
    assert_eq!(key.access.as_bytes(), &hex(&v["access"]));
}

#[test]
fn a_groups_32_bytes_come_from_its_password() {
    let v = &vectors("keys")["group_from_password"];
    let password = Passphrase::new(v["password"].as_str().unwrap().as_bytes()).unwrap();
    let g = group::from_password(v["name"].as_str().unwrap(), &password).unwrap();
    assert_eq!(g.expose(), &hex(&v["g"]));
}

#[test]
fn passphrases_open_protected_files() {
    let v = vectors("keys");
    let secret = opened(&v["files"]["protected_secret"]);
    assert_eq!(secret.expose(), &hex(&v["identities"][0]["secret"]));
    let g = opened(&v["files"]["protected_group"]);
    assert_eq!(g.expose(), &hex(&v["group"]["g"]));
}

#[test]
fn a_passphrase_typed_in_another_normal_form_opens_too() {
    let v = vectors("keys");
    let decomposed = "correct ho\u{308}rse";
    let file = keyed(&v["files"]["protected_secret"]["text"]);
    let secret = file.unlock(|| Ok(Passphrase::new(decomposed.as_bytes())?));
    assert!(secret.is_ok());
}

#[test]
fn the_public_half_of_a_protected_file_is_bound_to_its_secret() {
    let v = vectors("keys");
    let text = v["files"]["protected_secret"]["text"].as_str().unwrap();
    let passphrase = v["files"]["protected_secret"]["passphrase"].as_str().unwrap();
    let other = v["files"]["public_without_hints"]["text"].as_str().unwrap();
    for field in ["public", "access"] {
        let line_of = |text: &str| text.lines().find(|l| l.starts_with(field)).unwrap().to_owned();
        let changed = text.replace(&line_of(text), &line_of(other));
        let result =
            keyed(&Value::from(changed)).unlock(|| Ok(Passphrase::new(passphrase.as_bytes())?));
        assert!(matches!(result, Err(KeyErrorKind::WrongPassphrase)), "{field}");
    }
}

#[test]
fn files_and_lines_are_written_byte_for_byte() {
    let v = vectors("keys");
    for (name, vector) in v["files"].as_object().unwrap() {
        let text = vector["text"].as_str().unwrap();
        let file = KeyFile::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(std::str::from_utf8(&file.to_toml()).unwrap(), text, "{name}");
        assert_eq!(line::encode(&file).as_deref(), vector["line"].as_str(), "{name}");
        if let Some(line) = vector["line"].as_str() {
            let file = KeyFile::parse(line.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(std::str::from_utf8(&file.to_toml()).unwrap(), text, "{name}");
        }
    }
}

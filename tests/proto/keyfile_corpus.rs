//! One malformed key file for every rule of ac-keyfile(5), named for the rule. Each is refused
//! with exactly the kind of error that names the rule, and with exit code 3 by the real program.

use std::process::{Command, Stdio};

use anonchat::crypto::sodium::{BadPublicKey, KeyPair, Secret};
use anonchat::keys::line::BadLine;
use anonchat::keys::names::BadName;
use anonchat::keys::{BadAddress, KeyErrorKind as Kind, KeyFile};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const PUBLIC: &str = "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=";
const OTHER_PUBLIC: &str = "ZLEBsdC+WocEvQePiZUAH8A+jp+VIvGI3RKNmEbUhGY=";
const SECRET: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const ACCESS: &str = "oaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaE=";

fn public() -> String {
    format!(
        "format = \"anonchat-public\"\nversion = 1\npublic = \"{PUBLIC}\"\naccess = \"{ACCESS}\"\n"
    )
}

fn secret() -> String {
    public().replace("-public", "-secret") + &format!("secret = \"{SECRET}\"\n")
}

fn group() -> String {
    format!("format = \"anonchat-group\"\nversion = 1\ngroup = \"{SECRET}\"\n")
}

fn protected() -> String {
    let sealed = STANDARD.encode([7; 48]);
    let salt = STANDARD.encode([1; 16]);
    let nonce = STANDARD.encode([2; 24]);
    secret().replace(SECRET, &sealed)
        + &format!(
            "\n[protection]\nkdf = \"argon2id13\"\nops = 1\nmem_kib = 64\nsalt = \"{salt}\"\n\
             nonce = \"{nonce}\"\n"
        )
}

fn with_public(bytes: [u8; 32]) -> String {
    public().replace(PUBLIC, &STANDARD.encode(bytes))
}

/// A point of order 8 on Curve25519, and 2^255 - 19 + 9, which is the base point once more.
const LOW_ORDER: [u8; 32] = [
    0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
    0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
];

fn not_canonical() -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xf6;
    bytes[31] = 0x7f;
    bytes
}

fn missing(field: &'static str) -> Kind {
    Kind::MissingField(field)
}

fn corpus() -> Vec<(&'static str, String, Kind)> {
    let relay = format!("\n[relay]\npublic = \"{PUBLIC}\"\naccess = \"{ACCESS}\"\n");
    let base64 = Kind::Base64;
    let length = |field| Kind::Length { field, expected: 32 };
    let wrong = |field, expected| Kind::WrongType { field, expected };
    let without = |text: String, field: &str| {
        text.lines().filter(|l| !l.starts_with(field)).map(|l| format!("{l}\n")).collect::<String>()
    };
    let nine = format!("address = [{}]\n", ["\"a:1\""; 9].join(", "));
    vec![
        ("empty", String::new(), missing("format")),
        ("too_large", public() + "#" + &"x".repeat(70 * 1024), Kind::TooLarge),
        ("no_format", without(public(), "format"), missing("format")),
        (
            "unknown_format",
            public().replace("anonchat-public", "pgp"),
            Kind::UnknownFormat("pgp".into()),
        ),
        (
            "format_is_no_string",
            public().replace("\"anonchat-public\"", "1"),
            wrong("format", "a string"),
        ),
        ("no_version", without(public(), "version"), missing("version")),
        ("version_0", public().replace("version = 1", "version = 0"), Kind::UnknownVersion),
        ("version_2", public().replace("version = 1", "version = 2"), Kind::UnknownVersion),
        (
            "version_beyond_u32",
            public().replace("version = 1", "version = 4294967297"),
            Kind::UnknownVersion,
        ),
        ("version_negative", public().replace("version = 1", "version = -1"), Kind::UnknownVersion),
        (
            "version_is_no_number",
            public().replace("version = 1", "version = \"1\""),
            wrong("version", "a number"),
        ),
        ("unknown_field", public() + "colour = \"red\"\n", Kind::UnknownField("colour".into())),
        ("unknown_table", public() + "[colour]\n", Kind::UnknownField("colour".into())),
        (
            "secret_in_a_public_file",
            public() + &format!("secret = \"{SECRET}\"\n"),
            Kind::UnknownField("secret".into()),
        ),
        (
            "protection_in_a_public_file",
            without(protected(), "secret").replace("-secret", "-public"),
            Kind::UnknownField("protection".into()),
        ),
        ("no_public", without(public(), "public"), missing("public")),
        ("no_access", without(public(), "access"), missing("access")),
        (
            "public_is_a_list",
            public().replace(&format!("\"{PUBLIC}\""), "[]"),
            wrong("public", "a string"),
        ),
        (
            "base64_with_a_bad_character",
            public().replace(PUBLIC, &PUBLIC.replace('9', "!")),
            base64("public"),
        ),
        (
            "base64_url_alphabet",
            public().replace(PUBLIC, &PUBLIC.replace('/', "_")),
            base64("public"),
        ),
        (
            "base64_without_padding",
            public().replace(PUBLIC, PUBLIC.trim_end_matches('=')),
            base64("public"),
        ),
        ("base64_with_a_blank", public().replace(ACCESS, &format!(" {ACCESS}")), base64("access")),
        (
            "base64_with_unused_bits",
            public().replace(ACCESS, &ACCESS.replace("E=", "F=")),
            base64("access"),
        ),
        (
            "public_of_31_bytes",
            public().replace(PUBLIC, &STANDARD.encode([9; 31])),
            length("public"),
        ),
        (
            "public_of_33_bytes",
            public().replace(PUBLIC, &STANDARD.encode([9; 33])),
            length("public"),
        ),
        ("public_of_no_bytes", public().replace(PUBLIC, ""), length("public")),
        (
            "access_of_31_bytes",
            public().replace(ACCESS, &STANDARD.encode([9; 31])),
            length("access"),
        ),
        (
            "access_of_33_bytes",
            public().replace(ACCESS, &STANDARD.encode([9; 33])),
            length("access"),
        ),
        ("public_of_low_order", with_public(LOW_ORDER), Kind::PublicKey(BadPublicKey::LowOrder)),
        ("public_zero", with_public([0; 32]), Kind::PublicKey(BadPublicKey::LowOrder)),
        (
            "public_not_below_the_prime",
            with_public(not_canonical()),
            Kind::PublicKey(BadPublicKey::NonCanonical),
        ),
        (
            "public_with_the_top_bit",
            with_public([0xff; 32]),
            Kind::PublicKey(BadPublicKey::NonCanonical),
        ),
        ("name_empty", public() + "name = \"\"\n", Kind::Name(BadName::Empty)),
        (
            "name_of_65_bytes",
            public() + &format!("name = \"{}\"\n", "n".repeat(65)),
            Kind::Name(BadName::TooLong),
        ),
        ("name_with_a_slash", public() + "name = \"../bob\"\n", Kind::Name(BadName::Start)),
        (
            "name_with_an_inner_slash",
            public() + "name = \"a/b\"\n",
            Kind::Name(BadName::Reserved('/')),
        ),
        ("name_with_an_at", public() + "name = \"a@b\"\n", Kind::Name(BadName::Reserved('@'))),
        ("name_with_a_blank", public() + "name = \"a b\"\n", Kind::Name(BadName::Blank)),
        (
            "name_that_looks_like_an_option",
            public() + "name = \"-rf\"\n",
            Kind::Name(BadName::Start),
        ),
        (
            "name_with_an_escape",
            public() + "name = \"a\\u001b[2J\"\n",
            Kind::Name(BadName::Control),
        ),
        (
            "name_that_reads_backwards",
            public() + "name = \"a\\u202eb\"\n",
            Kind::Name(BadName::Control),
        ),
        ("name_is_no_string", public() + "name = 7\n", wrong("name", "a string")),
        (
            "address_is_no_list",
            public() + "address = \"a:1\"\n",
            wrong("address", "a list of strings"),
        ),
        ("address_holds_a_number", public() + "address = [1]\n", wrong("address", "a string")),
        (
            "address_without_port",
            public() + "address = [\"host\"]\n",
            Kind::Address(BadAddress::NoPort),
        ),
        ("address_port_0", public() + "address = [\"host:0\"]\n", Kind::Address(BadAddress::Port)),
        (
            "address_port_65536",
            public() + "address = [\"host:65536\"]\n",
            Kind::Address(BadAddress::Port),
        ),
        (
            "address_port_signed",
            public() + "address = [\"host:+80\"]\n",
            Kind::Address(BadAddress::Port),
        ),
        (
            "address_ipv6_without_brackets",
            public() + "address = [\"2001:db8::1:80\"]\n",
            Kind::Address(BadAddress::Brackets),
        ),
        (
            "address_with_a_blank",
            public() + "address = [\"ho st:80\"]\n",
            Kind::Address(BadAddress::Host),
        ),
        (
            "address_with_an_escape",
            public() + "address = [\"ho\\u001bst:80\"]\n",
            Kind::Address(BadAddress::Host),
        ),
        (
            "address_without_host",
            public() + "address = [\":80\"]\n",
            Kind::Address(BadAddress::Host),
        ),
        (
            "address_of_5_numbers",
            public() + "address = [\"10.0.0.0.5:80\"]\n",
            Kind::Address(BadAddress::Host),
        ),
        (
            "address_too_long",
            public() + &format!("address = [\"{}:80\"]\n", "a.".repeat(130)),
            Kind::Address(BadAddress::Host),
        ),
        ("nine_addresses", public() + &nine, Kind::TooManyAddresses),
        ("relay_is_a_number", public() + "relay = 1\n", wrong("relay", "a string or a table")),
        ("relay_name_with_a_blank", public() + "relay = \"at home\"\n", Kind::Name(BadName::Blank)),
        (
            "relay_without_access",
            without(public() + &relay, "access") + &format!("[x]\naccess = \"{ACCESS}\"\n"),
            missing("access"),
        ),
        (
            "relay_of_low_order",
            public() + &relay.replace(PUBLIC, &STANDARD.encode([0; 32])),
            Kind::PublicKey(BadPublicKey::LowOrder),
        ),
        ("relay_short_access", public() + &relay.replace(ACCESS, "AAAA"), length("relay.access")),
        (
            "relay_with_an_unknown_field",
            public() + &relay + "secret = \"\"\n",
            Kind::UnknownField("secret".into()),
        ),
        ("relay_with_nine_addresses", public() + &relay + &nine, Kind::TooManyAddresses),
        (
            "relay_file_with_a_relay",
            public().replace("-public", "-relay") + "relay = \"home\"\n",
            Kind::UnknownField("relay".into()),
        ),
        ("no_secret", without(secret(), "secret"), missing("secret")),
        (
            "secret_of_31_bytes",
            secret().replace(SECRET, &STANDARD.encode([9; 31])),
            length("secret"),
        ),
        ("secret_of_another_public", secret().replace(PUBLIC, OTHER_PUBLIC), Kind::Mismatch),
        (
            "secret_sealed_but_no_protection",
            secret().replace(SECRET, &STANDARD.encode([9; 48])),
            length("secret"),
        ),
        ("no_group", without(group(), "group"), missing("group")),
        (
            "group_with_a_public",
            group() + &format!("public = \"{PUBLIC}\"\n"),
            Kind::UnknownField("public".into()),
        ),
        ("group_of_33_bytes", group().replace(SECRET, &STANDARD.encode([9; 33])), length("group")),
        (
            "protection_is_a_string",
            secret() + "protection = \"x\"\n",
            wrong("protection", "a table"),
        ),
        ("protection_without_kdf", without(protected(), "kdf"), missing("protection.kdf")),
        ("protection_with_scrypt", protected().replace("argon2id13", "scrypt"), Kind::UnknownKdf),
        ("protection_without_ops", without(protected(), "ops"), missing("protection.ops")),
        ("protection_ops_0", protected().replace("ops = 1", "ops = 0"), Kind::Ops),
        ("protection_ops_11", protected().replace("ops = 1", "ops = 11"), Kind::Ops),
        ("protection_mem_7_kib", protected().replace("mem_kib = 64", "mem_kib = 7"), Kind::Memory),
        (
            "protection_mem_beyond_1_gib",
            protected().replace("mem_kib = 64", "mem_kib = 1048577"),
            Kind::Memory,
        ),
        (
            "protection_salt_of_15_bytes",
            protected().replace(&STANDARD.encode([1; 16]), &STANDARD.encode([1; 15])),
            Kind::Length { field: "protection.salt", expected: 16 },
        ),
        (
            "protection_nonce_of_25_bytes",
            protected().replace(&STANDARD.encode([2; 24]), &STANDARD.encode([2; 25])),
            Kind::Length { field: "protection.nonce", expected: 24 },
        ),
        (
            "protection_with_an_unknown_field",
            protected() + "hint = \"x\"\n",
            Kind::UnknownField("hint".into()),
        ),
        (
            "protected_secret_in_clear",
            protected().replace(&STANDARD.encode([7; 48]), SECRET),
            Kind::Length { field: "secret", expected: 48 },
        ),
        ("line_with_a_typo", line().replacen("aaaa", "aaba", 1), Kind::Line(BadLine::Check)),
        ("line_cut_short", line()[..99].into(), Kind::Line(BadLine::TooShort)),
        (
            "line_without_its_last_character",
            line()[..line().len() - 1].into(),
            Kind::Line(BadLine::Base32),
        ),
        (
            "line_with_a_foreign_character",
            line().replacen("aa", "a1", 2),
            Kind::Line(BadLine::Base32),
        ),
        ("line_of_nothing", "ac1".into(), Kind::Line(BadLine::TooShort)),
        ("line_too_long", "ac1".to_string() + &"a".repeat(9000), Kind::Line(BadLine::TooLong)),
        (
            "line_of_version_2",
            line_of(&[&[2, 0], &key()[..], &[0xa0]]),
            Kind::Line(BadLine::Version),
        ),
        ("line_of_type_2", line_of(&[&[1, 2], &key()[..], &[0xa0]]), Kind::Line(BadLine::Type)),
        (
            "line_of_low_order",
            line_of(&[&[1, 0], &[0; 64], &[0xa0]]),
            Kind::PublicKey(BadPublicKey::LowOrder),
        ),
        (
            "line_with_bytes_after_the_hints",
            line_of(&[&[1, 0], &key()[..], &[0xa0, 0]]),
            Kind::Line(BadLine::Hints),
        ),
        (
            "line_with_an_unknown_hint",
            line_of(&[&[1, 0], &key()[..], &[0xa1, 3, 0x61, b'a']]),
            Kind::Line(BadLine::Hints),
        ),
        (
            "line_with_a_hint_twice",
            line_of(&[&[1, 0], &key()[..], &[0xa2, 0, 0x61, b'a', 0, 0x61, b'a']]),
            Kind::Line(BadLine::Hints),
        ),
        (
            "line_with_a_long_length",
            line_of(&[&[1, 0], &key()[..], &[0xa1, 0, 0x78, 1, b'a']]),
            Kind::Line(BadLine::Hints),
        ),
        (
            "line_with_an_endless_map",
            line_of(&[&[1, 0], &key()[..], &[0xbf, 0xff]]),
            Kind::Line(BadLine::Hints),
        ),
        (
            "line_with_a_huge_map",
            line_of(&[&[1, 0], &key()[..], &[0xbb, 255, 255, 255, 255, 255, 255, 255, 255]]),
            Kind::Line(BadLine::Hints),
        ),
        (
            "line_with_an_empty_address_list",
            line_of(&[&[1, 0], &key()[..], &[0xa1, 1, 0x80]]),
            Kind::Line(BadLine::Hints),
        ),
        (
            "line_with_a_huge_address_list",
            line_of(&[&[1, 0], &key()[..], &[0xa1, 1, 0x9a, 255, 255, 255, 255]]),
            Kind::TooManyAddresses,
        ),
        (
            "line_with_a_bad_name",
            line_of(&[&[1, 0], &key()[..], &[0xa1, 0, 0x61, b'/']]),
            Kind::Name(BadName::Reserved('/')),
        ),
        (
            "line_of_a_relay_with_a_relay",
            line_of(&[&[1, 1], &key()[..], &[0xa1, 2, 0x61, b'a']]),
            Kind::Line(BadLine::Hints),
        ),
    ]
}

fn key() -> [u8; 64] {
    let pair = KeyPair::from_secret(Secret::from_slice(&[5; 32]).unwrap());
    let mut both = [0; 64];
    both[..32].copy_from_slice(pair.public().as_bytes());
    both
}

fn line() -> String {
    line_of(&[&[1, 0], &key()[..], &[0xa0]])
}

/// An `ac1` line with a right check over whatever body, written here a second time.
fn line_of(pieces: &[&[u8]]) -> String {
    let mut body = pieces.concat();
    let check: [u8; 16] = anonchat::crypto::sodium::keyed_hash(b"AnonChat v1 line", &[&body]);
    body.extend_from_slice(&check[..4]);
    let bits: String = body.iter().map(|b| format!("{b:08b}")).collect();
    let letter = |five: &[u8]| {
        let five = format!("{:0<5}", std::str::from_utf8(five).unwrap());
        char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from_str_radix(&five, 2).unwrap()])
    };
    "ac1".to_string() + &bits.as_bytes().chunks(5).map(letter).collect::<String>()
}

#[test]
fn the_files_that_the_corpus_breaks_are_good() {
    for (name, text) in [
        ("public", public()),
        ("secret", secret()),
        ("group", group()),
        ("protected", protected()),
        ("line", line()),
    ] {
        KeyFile::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn every_malformed_file_is_refused_for_its_own_reason() {
    for (name, text, kind) in corpus() {
        match KeyFile::parse(text.as_bytes()) {
            Ok(file) => panic!("{name}: taken for {}", file.describe()),
            Err(found) => assert_eq!(found, kind, "{name}"),
        }
    }
}

#[test]
fn what_is_no_toml_is_a_syntax_error_with_its_line() {
    let cut = &public()[..public().len() - 5];
    for (text, at) in [(cut, "line 4"), ("format = ", "line 1"), ("a = 1\na = 2\n", "line 2")] {
        match KeyFile::parse(text.as_bytes()) {
            Err(Kind::Syntax(why)) => assert!(why.starts_with(at), "{why}"),
            _ => panic!("{text}"),
        }
    }
    assert!(matches!(KeyFile::parse(b"\xff\xfe"), Err(Kind::NotText)));
}

#[test]
fn the_program_refuses_every_malformed_file_with_exit_3_and_one_clean_line() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("bad.pub");
    for (name, text, kind) in corpus() {
        std::fs::write(&path, &text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_ac-keygen"))
            .arg("--import")
            .arg(&path)
            .env("AC_HOME", home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{name}: {stderr}");
        let expected = format!("ac-keygen: {}: {kind}", path.display());
        assert_eq!(stderr.lines().next(), Some(expected.as_str()), "{name}");
        let clean = stderr.chars().all(|c| c == '\n' || !c.is_control());
        assert!(clean && output.stdout.is_empty(), "{name}");
    }
    assert!(!home.path().join("contacts").exists());
}

//! What holds for every key file: writing what was read gives the same bytes, the one-line form
//! loses nothing however it is wrapped, and no bytes at all make a parser panic.

use anonchat::crypto::sodium::{KeyPair, Secret};
use anonchat::keys::protect::{Cost, Protection};
use anonchat::keys::{
    Contact, Hints, KeyFile, KeyedFile, LocalKind, Passphrase, RelayHint, check_address, line,
    names,
};
use proptest::prelude::*;

fn petname() -> impl Strategy<Value = String> {
    "[a-zA-Zčšß世界\"\\\\'#=\\[\\]_][a-zA-Z0-9čšß世界\"\\\\'#=._-]{0,12}"
        .prop_map(|name| names::petname(&name).unwrap())
}

fn address() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-z][a-z0-9-]{0,20}(\\.[a-z]{2,5}){0,3}",
        Just("[::1]".into()),
        Just("[fe80::1%eth0]".into()),
        Just("10.0.0.5".into())
    ];
    (host, 1u16..).prop_map(|(host, port)| format!("{host}:{port}"))
}

/// What a key file is made of: keys have no `Debug`, so properties are stated of their parts.
#[derive(Debug, Clone)]
struct Parts {
    secret: [u8; 32],
    access: [u8; 32],
    name: Option<String>,
    address: Vec<String>,
    relay: Option<RelayParts>,
}

#[derive(Debug, Clone)]
enum RelayParts {
    Name(String),
    Inline([u8; 32], Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Public,
    Relay,
    Secret { protect: bool },
    Group { protect: bool },
}

fn parts() -> impl Strategy<Value = Parts> {
    let addresses = || proptest::collection::vec(address(), 0..=8);
    let relay = prop_oneof![
        petname().prop_map(RelayParts::Name),
        (any::<[u8; 32]>(), addresses()).prop_map(|(key, list)| RelayParts::Inline(key, list)),
    ];
    let (name, relay) = (proptest::option::of(petname()), proptest::option::of(relay));
    (any::<[u8; 32]>(), any::<[u8; 32]>(), name, addresses(), relay).prop_map(
        |(secret, access, name, address, relay)| Parts { secret, access, name, address, relay },
    )
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![
        Just(Form::Public),
        Just(Form::Relay),
        any::<bool>().prop_map(|protect| Form::Secret { protect }),
        any::<bool>().prop_map(|protect| Form::Group { protect }),
    ]
}

impl Parts {
    fn contact(&self) -> Contact {
        let hints = Hints {
            name: self.name.clone(),
            address: self.address.clone(),
            relay: self.relay.clone().map(|relay| match relay {
                RelayParts::Name(name) => RelayHint::Name(name),
                RelayParts::Inline(secret, address) => {
                    let hints = Hints { address, ..Hints::default() };
                    RelayHint::Inline(Box::new(contact(&secret, &[9; 32], hints)))
                }
            }),
        };
        contact(&self.secret, &self.access, hints)
    }

    fn file(&self, form: Form) -> KeyFile {
        let mut contact = self.contact();
        let secret = Secret::from_slice(&self.secret).unwrap();
        let (keyed, protect) = match form {
            Form::Public => return KeyFile::Public(contact),
            Form::Relay => {
                contact.hints.relay = None;
                return KeyFile::Relay(contact);
            }
            Form::Secret { protect } => {
                let pair = KeyPair::from_secret(secret.duplicate());
                (KeyedFile::identity(&pair, contact.access, contact.hints), protect)
            }
            Form::Group { protect } => {
                (KeyedFile::group(secret.duplicate(), contact.hints), protect)
            }
        };
        let passphrase = Passphrase::new(b"open sesame").unwrap();
        let protection = Protection::random(Cost { ops: 1, mem_kib: 8 });
        let sealed = protect.then_some((&passphrase, protection));
        KeyFile::Keyed(keyed.protected(secret, sealed).unwrap_or_else(|e| panic!("{e}")))
    }
}

fn contact(secret: &[u8], access: &[u8], hints: Hints) -> Contact {
    let pair = KeyPair::from_secret(Secret::from_slice(secret).unwrap());
    Contact { public: *pair.public(), access: Secret::from_slice(access).unwrap().into(), hints }
}

fn parsed(bytes: &[u8]) -> KeyFile {
    KeyFile::parse(bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn writing_what_was_read_gives_the_same_bytes(parts in parts(), form in form()) {
        let text = parts.file(form).to_toml();
        prop_assert_eq!(&*parsed(&text).to_toml(), &*text);
    }

    #[test]
    fn dos_line_ends_change_nothing(parts in parts(), form in form()) {
        let text = parts.file(form).to_toml();
        let dos = String::from_utf8(text.to_vec()).unwrap().replace('\n', "\r\n");
        prop_assert_eq!(&*parsed(dos.as_bytes()).to_toml(), &*text);
    }

    #[test]
    fn protected_files_open_to_the_key_that_went_in(parts in parts(), form in form()) {
        let KeyFile::Keyed(keyed) = parsed(&parts.file(form).to_toml()) else { return Ok(()) };
        let ask = || Ok(Passphrase::new(b"open sesame")?);
        let stored = keyed.unlock(ask).unwrap_or_else(|e| panic!("{e}"));
        let key = keyed.local_key(&stored).unwrap_or_else(|e| panic!("{e}"));
        let in_clear = keyed.kind == LocalKind::Identity || !keyed.is_protected();
        prop_assert_eq!(keyed.contact().is_some(), in_clear);
        prop_assert!(keyed.contact().is_none_or(|c| c == key.contact()));
        if keyed.kind == LocalKind::Identity {
            prop_assert!(key.contact() == parts.contact());
        }
    }

    #[test]
    fn the_one_line_form_survives_a_chat_window(parts in parts(), form in form(), width in 1usize..80, upper: bool) {
        let file = parts.file(form);
        let Some(line) = line::encode(&file) else {
            prop_assert!(matches!(file, KeyFile::Keyed(_)));
            return Ok(());
        };
        let line = if upper { line.to_uppercase() } else { line };
        let wrapped: Vec<&str> =
            line.as_bytes().chunks(width).map(|c| std::str::from_utf8(c).unwrap()).collect();
        let wrapped = format!("\u{feff}  {}\r\n", wrapped.join(" \r\n\u{200b}\t"));
        prop_assert_eq!(&*parsed(wrapped.as_bytes()).to_toml(), &*file.to_toml());
    }

    #[test]
    fn one_wrong_character_is_found(parts in parts(), at in any::<prop::sample::Index>(), with in "[a-z2-7]") {
        let line = line::encode(&parts.file(Form::Public)).unwrap();
        let at = 3 + at.index(line.len() - 3);
        prop_assume!(line[at..=at] != with);
        let changed = format!("{}{with}{}", &line[..at], &line[at + 1..]);
        prop_assert!(KeyFile::parse(changed.as_bytes()).is_err());
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = KeyFile::parse(&bytes);
    }

    #[test]
    fn no_line_makes_the_parser_panic(text in "ac1[a-z2-7]{0,300}") {
        let _ = KeyFile::parse(text.as_bytes());
    }

    #[test]
    fn a_changed_file_never_panics_and_reads_as_what_it_then_says(
        parts in parts(), form in form(), at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let mut text = parts.file(form).to_toml().to_vec();
        let at = at.index(text.len());
        text[at] = with;
        if let Ok(file) = KeyFile::parse(&text) {
            prop_assert_eq!(&*parsed(&file.to_toml()).to_toml(), &*file.to_toml());
        }
    }

    #[test]
    fn petnames_are_safe_as_file_names_and_in_destinations(name in "\\PC{0,70}|[ -~]{0,20}") {
        if let Ok(name) = names::petname(&name) {
            prop_assert!(!name.is_empty() && name.len() <= 64);
            prop_assert!(!name.contains(['/', '@', ':', ',', ' ', '\0']));
            prop_assert!(!name.starts_with(['-', '.']));
            prop_assert_eq!(names::petname(&name), Ok(name));
        }
    }

    #[test]
    fn no_string_makes_the_address_check_panic(text in "\\PC{0,40}|[\\[\\]%:.0-9a-f]{0,40}") {
        let _ = check_address(&text);
    }
}

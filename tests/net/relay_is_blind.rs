//! A relay knows nobody: neither its memory nor its log says who its clients are, what they call each
//! other or what they say; and on the wire all cells look the same. How many messages:
//! `AC_TEST_MESSAGES`.

use crate::testkit::{common, keys::contact, proxy, relay_client, relay_reader};

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anonchat::proto::relay::cell::WIRE_LEN;
use anonchat::proto::stream::handshake::{CONFIRM_LEN, HELLO_LEN};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Home, Running, alice_and_bob, assert_code, befriend, number, possible, send};
use proxy::Proxy;
use relay_client::Relay;
use relay_reader::know;

const WORDS: &str = "the treasure lies beneath the old oak";

fn messages() -> usize {
    number("AC_TEST_MESSAGES", 20)
}

/// All that a process can read of itself; `None` if we may not look.
fn memory(pid: u32) -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut dump = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        let from = u64::from_str_radix(from, 16).ok()?;
        let len = u64::from_str_radix(to, 16).ok()? - from;
        memory.seek(SeekFrom::Start(from)).ok()?;
        // What cannot be read, the kernel keeps for itself.
        let _ = (&mut memory).take(len).read_to_end(&mut dump);
    }
    Some(dump)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// What must not be found, and what to call it.
fn secrets(names: &[&str], homes: &[&Home]) -> Vec<(String, Vec<u8>)> {
    let mut secrets = vec![("the text".to_owned(), WORDS.as_bytes().to_vec())];
    for (name, home) in names.iter().zip(homes) {
        let contact = contact(home);
        secrets.push((format!("the petname {name}"), name.as_bytes().to_vec()));
        for (what, bytes) in
            [("key", contact.public.as_bytes()), ("access", contact.access.as_bytes())]
        {
            secrets.push((format!("the {what} of {name}"), bytes.to_vec()));
            let text = STANDARD.encode(bytes).into_bytes();
            secrets.push((format!("the {what} of {name} as text"), text));
        }
        let digits = anonchat::keys::fingerprint(&contact.public);
        secrets.push((format!("the fingerprint of {name}"), digits.into_bytes()));
    }
    secrets
}

#[test]
fn neither_its_memory_nor_its_log_tells_of_anybody() {
    let mut relay = Relay::spawn(&["-v", "127.0.0.1:0"]);
    let (alice, bob) = (Home::with_identity(), Home::with_identity());
    let (name_of_alice, name_of_bob) = ("alice-of-the-woods", "bob-beyond-the-river");
    befriend(&alice, name_of_alice, &bob, name_of_bob);
    know(&alice, &relay, "home", relay.port);
    know(&bob, &relay, "home", relay.port);
    let via = format!("home@127.0.0.1:{}", relay.port);
    let mut listener = Running::start(bob.command("ac-listen", &["--via", &via]));
    listener.wait_stderr("listening");
    for number in 0..messages() {
        // The last is held.
        if number + 1 == messages() {
            listener.kill();
        }
        let text = format!("{WORDS}, number {number}");
        let sent = send(&alice, &["-w", "2s", "--via", &via, name_of_bob], text.as_bytes());
        assert_code(&sent, if number + 1 == messages() { 7 } else { 0 });
    }
    let Some(dump) = memory(relay.pid()) else {
        possible(false, "run it as root, or where a parent may read the memory of its child");
        return;
    };
    let own = relay.contact.public.as_bytes().to_vec();
    assert!(contains(&dump, &own), "the dump holds what it must: the relay's own key");
    relay.signal(rustix::process::Signal::TERM);
    relay.wait_exit(common::DEADLINE);
    let log = relay.stderr();
    for (what, bytes) in secrets(&[name_of_alice, name_of_bob], &[&alice, &bob]) {
        assert!(!contains(&dump, &bytes), "the relay's memory holds {what}");
        assert!(!contains(log.as_bytes(), &bytes), "its log holds {what}");
    }
    let own_address = format!("127.0.0.1:{}", relay.port);
    let others = log.replace(&own_address, "");
    assert!(!others.contains("127.0.0.1:"), "its log holds an address of a client: {log}");
}

#[test]
fn all_cells_have_one_size_on_the_wire() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let proxy = Proxy::to(relay.port);
    let (alice, _bob) = alice_and_bob();
    know(&alice, &relay, "home", relay.port);
    let via = proxy.destination("home");
    let lengths = ["", "x", &"x".repeat(990)].map(|text| {
        let before = proxy.taken();
        let sent = send(&alice, &["-w", "500ms", "--via", &via, "bob"], text.as_bytes());
        assert_code(&sent, 7);
        proxy.taken() - before
    });
    let cells = lengths[0] - HELLO_LEN - CONFIRM_LEN;
    assert_eq!(cells % WIRE_LEN, 0, "{} bytes are no number of cells", cells);
    assert_eq!(lengths, [lengths[0]; 3], "who watches cannot tell how long a message is");
}

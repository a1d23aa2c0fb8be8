//! The first run of a relay makes its key, and no run changes it; each prints what is handed out.

use crate::testkit::{common, relay_client};

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use anonchat::crypto::sodium::keyed_hash;
use anonchat::keys::fingerprint;
use common::{DEADLINE, Home, Running, assert_code, run};
use relay_client::{Client, Relay};
use rustix::process::Signal;

#[test]
fn the_first_run_makes_the_key_and_later_ones_keep_it() {
    let mut first = Relay::spawn(&["127.0.0.1:0"]);
    let path = first.home.path().join("relay.key");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read(&path).unwrap();
    let digits = fingerprint(&first.contact.public);
    first.wait_stderr(&format!("ac-relay: fingerprint: {digits}"));
    first.wait_stderr("ac-relay: wrote ");
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit(DEADLINE).code(), None);
    let second = Running::start(first.home.command("ac-relay", &["127.0.0.1:0"]));
    second.wait_stderr("listening on ");
    assert_eq!(second.stdout(), first.stdout(), "the same file is handed out");
    assert_eq!(std::fs::read(&path).unwrap(), secret);
    assert!(!second.stderr().contains("wrote"));
}

#[test]
fn the_file_says_where_the_relay_is_reached_and_imports_as_a_relay() {
    let relay = Relay::spawn(&["--address", "relay.example:7000", "127.0.0.1:0"]);
    assert_eq!(relay.contact.hints.address, ["relay.example:7000"]);
    let (bob, file) = (Home::new(), relay.home.path().join("home.pub"));
    std::fs::write(&file, relay.stdout()).unwrap();
    assert_code(&bob.keygen(&["--import", file.to_str().unwrap(), "--as", "home"]), 0);
    assert!(bob.path().join("relays/home.pub").is_file());
}

#[test]
fn an_open_relay_lets_in_whoever_knows_its_key() {
    let relay = Relay::spawn(&["--open", "127.0.0.1:0"]);
    let open: [u8; 32] = keyed_hash(relay.contact.public.as_bytes(), &[b"AnonChat v1 open relay"]);
    assert_eq!(relay.contact.access.as_bytes(), &open);
    relay.still_serves();
    // Who has the file of the same relay from when it was not open is let in, too.
    let key = std::fs::read(relay.home.path().join("relay.key")).unwrap();
    let Ok(anonchat::keys::KeyFile::Keyed(keyed)) = anonchat::keys::KeyFile::parse(&key) else {
        panic!("no secret key file")
    };
    Client::call(&keyed.contact().unwrap(), relay.port);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let path = relay.home.path().join("relay.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(relay.home.command("ac-relay", &["127.0.0.1:0"]), b"", DEADLINE);
    assert_code(&refused, 3);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("hint: chmod 600"));
    assert!(refused.stdout.is_empty());
}

#[test]
fn a_result_that_nobody_gets_is_a_failure() {
    let home = Home::new();
    let mut command = home.command("ac-relay", &["127.0.0.1:0"]);
    command.stdout(Stdio::from(std::fs::File::create("/dev/full").unwrap()));
    assert_code(&run(command, b"", DEADLINE), 1);
}

//! `-vv` shows what crosses the wire beside what it means, from the first byte on.

use crate::testkit::common;

use common::{Listener, alice_and_bob, assert_code};

#[test]
fn both_ends_show_the_handshake_with_the_same_bytes() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-1", "-vv", "127.0.0.1:0"]);
    let sent = common::send(&alice, &["-vv", &listener.destination("bob")], b"hi\n");
    assert_code(&sent, 0);
    assert!(listener.wait_exit(common::DEADLINE).success());
    let (sender, listener) = (String::from_utf8(sent.stderr).unwrap(), listener.stderr());
    for (step, bytes) in [("handshake 1", 1248), ("handshake 2", 1248), ("handshake 3", 80)] {
        let (sent, heard) = (wire_before(&sender, step), wire_before(&listener, step));
        assert!(sent.contains(&format!("wire  {bytes} bytes  ")), "{sent}");
        assert_eq!(sent[2..], heard[2..], "{step}");
        assert_ne!(sent[..2], heard[..2], "the arrows of {step}");
    }
}

/// The line that shows the bytes of what a line with `meaning` explains.
fn wire_before<'a>(said: &'a str, meaning: &str) -> &'a str {
    let lines: Vec<_> = said.lines().collect();
    let at = lines.iter().position(|line| line.contains(meaning)).expect(said);
    lines[at - 1]
}

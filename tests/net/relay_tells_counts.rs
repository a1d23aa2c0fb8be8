//! `--metrics` tells numbers to whoever asks by HTTP, and nothing that names anybody; whoever asks
//! slowly or badly holds up no cell.

use crate::testkit::{common, relay_client};

use std::io::{Read, Write};
use std::net::TcpStream;

use anonchat::crypto::sodium::KeyPair;
use anonchat::proto::relay::cell::Command;
use anonchat::proto::relay::mailbox::Channel;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{DEADLINE, assert_code, run};
use relay_client::{Relay, address, packet};

/// A relay, and the port where it tells counts.
fn relay() -> (Relay, u16) {
    let relay = Relay::spawn(&["--metrics", "127.0.0.1:0", "127.0.0.1:0"]);
    let line = relay.wait_stderr("metrics on http://127.0.0.1:");
    let port = line.rsplit_once(':').unwrap().1.strip_suffix("/metrics").unwrap();
    (relay, port.parse().unwrap())
}

fn ask(port: u16, request: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// The value of a metric.
fn value(answer: &str, name: &str) -> u64 {
    let line = answer.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {answer}")).parse().unwrap()
}

#[test]
fn counts_are_told_in_the_form_of_prometheus() {
    let (relay, port) = relay();
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let (mut poster, mut reader) = (relay.client(), relay.client());
    let mailbox = address(&channel, key.public(), 0);
    for id in 0..3 {
        poster.post(id, mailbox, &packet(id));
        assert_eq!(poster.next_cell().command, Command::Ack);
    }
    reader.subscribe(&channel, &key, 0, [0; 8], 0);
    (0..4).for_each(|_| drop(reader.next_cell()));
    let answer = ask(port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", text.len())), "{head}");
    let expected = [
        ("clients", 2),
        ("mailboxes", 1),
        ("subscriptions", 1),
        ("held_cells", 3),
        ("posted_cells_total", 3),
        ("delivered_cells_total", 3),
        ("admitted_total", 2),
        ("circuits", 0),
    ];
    for (name, wanted) in expected {
        assert_eq!(value(text, &format!("anonchat_relay_{name}")), wanted, "{name}");
    }
    for line in text.lines() {
        let metric = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        assert!(metric.unwrap_or(line).starts_with("anonchat_relay_"), "{line}");
    }
}

#[test]
fn nothing_that_is_told_names_anybody() {
    let (relay, port) = relay();
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let mut client = relay.client();
    let mailbox = client.subscribe(&channel, &key, 0, [0; 8], 0);
    client.next_cell();
    let told = ask(port, "GET / HTTP/1.0\r\n\r\n") + &relay.stderr();
    let from = client.socket.local_addr().unwrap().port().to_string();
    for secret in [&mailbox[..], key.public().as_bytes()] {
        let hex: String = secret[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!told.contains(&hex) && !told.contains(&STANDARD.encode(secret)[..8]));
    }
    assert!(!told.contains(&format!(":{from}")), "an address of a client: {told}");
}

#[test]
fn whoever_asks_badly_gets_little_and_holds_up_nobody() {
    let (relay, port) = relay();
    assert!(ask(port, "GET /key HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404 "));
    assert!(ask(port, "POST /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404 "));
    let mut long = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _ = long.write_all(&[b'a'; 20_000]);
    let mut heard = Vec::new();
    let _ = long.read_to_end(&mut heard);
    assert!(heard.is_empty());
    // More than may ask at once, and none of them says anything.
    let mute: Vec<_> = (0..40).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    relay.still_serves();
    drop(mute);
    assert!(ask(port, "GET /metrics HTTP/1.0\r\n\r\n").contains("anonchat_relay_clients "));
}

#[test]
fn a_port_alone_is_not_told_to_everybody_by_mistake() {
    let home = common::Home::new();
    let refused = run(home.command("ac-relay", &["--metrics", "9100", "0"]), b"", DEADLINE);
    assert_code(&refused, 2);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("127.0.0.1:9100"), "{said}");
}

//! A relay shows a stranger nothing: garbage, replays and a wrong `access` draw not one byte and no
//! reset, whatever comes next. PROTOCOL.md, 3.1 and 5.1.

use crate::testkit::{common, relay_client};

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use anonchat::crypto::sodium::{KeyPair, random_into};
use anonchat::keys::Access;
use anonchat::proto::relay::link::open_access;
use anonchat::proto::stream::handshake::{HELLO_LEN, Initiator};
use common::{DEADLINE, unix_ms};
use relay_client::{Relay, shake};

/// Says `bytes` as a stranger: not one comes back, and no reset.
fn draws_nothing(relay: &Relay, bytes: &[u8]) {
    let mut stranger = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
    stranger.write_all(bytes).unwrap();
    // Whatever came before was handled when this client is answered.
    relay.still_serves();
    stranger.set_nonblocking(true).unwrap();
    let heard = stranger.read(&mut [0; 1]).map_err(|e| e.kind());
    assert_eq!(heard, Err(ErrorKind::WouldBlock));
    stranger.set_nonblocking(false).unwrap();
    stranger.shutdown(Shutdown::Write).unwrap();
    stranger.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(stranger.read(&mut [0; 1]).map_err(|e| e.kind()), Ok(0));
}

fn hello(relay: &Relay, access: &[u8; 32], unix_ms: u64) -> [u8; HELLO_LEN] {
    let me = KeyPair::generate();
    Initiator::start(&me, &relay.contact.public, access, unix_ms).unwrap().1
}

#[test]
fn garbage_of_any_length_draws_nothing() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    for len in [0, 1, HELLO_LEN - 1, HELLO_LEN, HELLO_LEN + 1, 10 * HELLO_LEN] {
        let mut garbage = vec![0; len];
        random_into(&mut garbage);
        draws_nothing(&relay, &garbage);
    }
    draws_nothing(&relay, b"GET /metrics HTTP/1.0\r\n\r\n");
}

#[test]
fn the_key_alone_draws_nothing_unless_the_relay_is_open() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let now = unix_ms();
    draws_nothing(&relay, &hello(&relay, Access::random().as_bytes(), now));
    draws_nothing(&relay, &hello(&relay, &open_access(&relay.contact.public), now));
}

#[test]
fn old_and_replayed_handshakes_draw_nothing() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let access = *relay.contact.access.as_bytes();
    draws_nothing(&relay, &hello(&relay, &access, unix_ms() - 301_000));
    draws_nothing(&relay, &hello(&relay, &access, unix_ms() + 301_000));
    let once = hello(&relay, &access, unix_ms());
    let mut first = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
    first.write_all(&once).unwrap();
    first.set_read_timeout(Some(DEADLINE)).unwrap();
    first.read_exact(&mut [0; 1]).unwrap();
    draws_nothing(&relay, &once);
}

#[test]
fn whoever_speaks_before_welcome_is_shut_out() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    // What a client may not know yet when it sends this: bytes right behind message 3.
    let mut socket = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
    let me = KeyPair::generate();
    let access = relay.contact.access.as_bytes();
    let (initiator, hello) =
        Initiator::start(&me, &relay.contact.public, access, unix_ms()).unwrap();
    socket.write_all(&hello).unwrap();
    let mut reply = [0; anonchat::proto::stream::handshake::REPLY_LEN];
    socket.read_exact(&mut reply).unwrap();
    let (_, confirm) = initiator.confirm(&reply).unwrap();
    let mut both = confirm.to_vec();
    both.extend_from_slice(&[0; 100]);
    socket.write_all(&both).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let heard = socket.read_to_end(&mut Vec::new());
    assert!(heard.is_ok() || heard.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    relay.still_serves();
}

#[test]
fn many_strangers_keep_nobody_out() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let mut strangers = Vec::new();
    for nth in 0..1500 {
        let mut stranger = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
        if nth % 2 == 0 {
            let _ = stranger.write_all(&[nth as u8; 100]);
        }
        strangers.push(stranger);
    }
    relay.still_serves();
}

#[test]
fn the_handshake_is_the_same_for_every_client() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let mut socket = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
    let session = shake(&mut socket, &relay.contact);
    let other = relay.client();
    assert_ne!(session.handshake_hash(), other.link.handshake_hash());
    assert_ne!(other.welcome.challenge, relay.client().welcome.challenge, "one for each link");
}

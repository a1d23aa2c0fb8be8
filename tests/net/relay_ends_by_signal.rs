//! A relay that is told to stop hands over what it holds for whoever is there, and dies of the
//! signal; what it held besides is gone with it.

use crate::testkit::{common, relay_client};

use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;

use anonchat::crypto::sodium::KeyPair;
use anonchat::proto::relay::cell::{Cell, Command};
use anonchat::proto::relay::mailbox::Channel;
use common::{DEADLINE, eventually};
use relay_client::{Relay, address, number_of, packet};
use rustix::process::Signal;

#[test]
fn a_reader_that_is_there_gets_everything_that_is_held() {
    let mut relay = Relay::spawn(&["127.0.0.1:0"]);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let mailbox = address(&channel, key.public(), 0);
    let mut poster = relay.client();
    // More than sockets take while nobody reads.
    for round in 0..30 {
        (0..100).for_each(|n| poster.queue(&Cell::post(n, mailbox, &packet(round * 100 + n))));
        poster.flush();
        (0..100).for_each(|_| assert_eq!(poster.next_cell().command, Command::Ack));
    }
    let mut reader = relay.client();
    reader.subscribe(&channel, &key, 0, [0; 8], 0);
    assert_eq!(number_of(&reader.next_cell().body), 0);
    relay.signal(Signal::TERM);
    for number in 1..3000 {
        assert_eq!(number_of(&reader.next_cell().body), number);
    }
    assert_eq!(relay.wait_exit(DEADLINE).signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn nobody_else_is_let_in_and_a_reader_that_does_not_read_is_not_waited_for_long() {
    for signal in [Signal::INT, Signal::HUP] {
        let mut relay = Relay::spawn(&["127.0.0.1:0"]);
        let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
        let mut slow = relay.client();
        let mailbox = slow.subscribe(&channel, &key, 0, [0; 8], 0);
        let mut poster = relay.client();
        for round in 0..40 {
            (0..100).for_each(|n| poster.queue(&Cell::post(n, mailbox, &packet(round * 100 + n))));
            poster.flush();
            (0..100).for_each(|_| assert_eq!(poster.next_cell().command, Command::Ack));
        }
        relay.signal(signal);
        eventually("the port to be closed", DEADLINE, || {
            TcpStream::connect(("127.0.0.1", relay.port)).err()
        });
        assert_eq!(relay.wait_exit(DEADLINE).signal(), Some(signal.as_raw()));
        assert!(relay.stderr().contains("since the start"), "{}", relay.stderr());
    }
}

#[test]
fn a_relay_that_is_started_anew_has_forgotten_everything_but_its_key() {
    let mut relay = Relay::spawn(&["127.0.0.1:0"]);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let mut poster = relay.client();
    poster.post(1, address(&channel, key.public(), 0), &packet(1));
    assert_eq!(poster.next_cell().command, Command::Ack);
    relay.kill();
    let Relay { home, contact, .. } = relay;
    let again = Relay::at(home, &["127.0.0.1:0"]);
    assert!(again.contact == contact);
    let mut reader = again.client();
    reader.subscribe(&channel, &key, 0, [0; 8], 0);
    assert_eq!(reader.next_cell().command, Command::Live);
}

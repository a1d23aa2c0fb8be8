//! A relay makes one connection of two that bring the same rendezvous: whatever one says, the other
//! hears, byte for byte. PROTOCOL.md, 5.6.

use crate::testkit::{common, random::noise, relay_client};

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use anonchat::crypto::sodium::random;
use anonchat::proto::relay::cell::{Cell, Command};
use relay_client::{Relay, packet};

fn joined(relay: &Relay) -> (TcpStream, TcpStream) {
    let rendezvous = random();
    let (mut first, mut second) = (relay.client(), relay.client());
    first.connect(&rendezvous);
    second.connect(&rendezvous);
    (first.joined(), second.joined())
}

#[test]
fn all_bytes_arrive_both_ways_at_once_and_each_direction_ends_by_itself() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let (first, second) = joined(&relay);
    let there = noise(1, 3_000_017);
    let back = noise(2, 2_000_003);
    let say = |mut socket: TcpStream, bytes: Vec<u8>| {
        thread::spawn(move || {
            socket.write_all(&bytes).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        })
    };
    let said = say(first.try_clone().unwrap(), there.clone());
    let mut heard = Vec::new();
    (&second).read_to_end(&mut heard).unwrap();
    assert!(heard == there);
    said.join().unwrap();
    // One direction has ended; the other goes on.
    let said = say(second, back.clone());
    heard.clear();
    (&first).read_to_end(&mut heard).unwrap();
    assert!(heard == back);
    said.join().unwrap();
}

#[test]
fn a_side_that_pauses_holds_up_nobody_else() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let (first, second) = joined(&relay);
    let bytes = noise(3, 20_000_000);
    let said = thread::spawn({
        let bytes = bytes.clone();
        move || (&first).write_all(&bytes).unwrap()
    });
    // More than all buffers take: the relay waits for us, and serves others meanwhile.
    relay.still_serves();
    let (third, mut fourth) = joined(&relay);
    (&third).write_all(b"hi").unwrap();
    let mut two = [0; 2];
    fourth.read_exact(&mut two).unwrap();
    let mut heard = Vec::new();
    (&second).read_to_end(&mut heard).unwrap();
    assert!(heard == bytes);
    said.join().unwrap();
}

#[test]
fn when_one_side_is_gone_the_other_is_told() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let (first, mut second) = joined(&relay);
    drop(first);
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 0);
    // What the other still says goes nowhere, and the circuit ends.
    let gone = common::eventually("the circuit to end", common::DEADLINE, || {
        second.write_all(&[0; 1000]).err()
    });
    drop(gone);
    relay.still_serves();
}

#[test]
fn whoever_speaks_before_it_is_joined_is_shut_out() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let mut hasty = relay.client();
    hasty.queue(&Cell { body: &[1; 32], ..Cell::new(Command::Connect) });
    hasty.queue(&Cell::new(Command::Noop));
    hasty.flush();
    hasty.is_closed();
    // Nobody waits there any more.
    let (mut first, mut second) = (relay.client(), relay.client());
    first.connect(&[1; 32]);
    second.connect(&[1; 32]);
    first.joined();
    second.joined();
}

#[test]
fn a_link_that_waits_reads_no_mailbox() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let (mut waiting, mut alice) = (relay.client(), relay.client());
    let (key, channel) = (
        anonchat::crypto::sodium::KeyPair::generate(),
        anonchat::proto::relay::mailbox::Channel::open(&[3; 32]),
    );
    let mailbox = waiting.subscribe(&channel, &key, 0, [0; 8], 0);
    assert_eq!(waiting.next_cell().command, Command::Live);
    let rendezvous = random();
    waiting.connect(&rendezvous);
    let mut other = relay.client();
    other.connect(&rendezvous);
    alice.post(1, mailbox, &packet(1));
    assert_eq!(alice.next_cell().command, Command::Ack);
    let (mut one, two) = (waiting.joined(), other.joined());
    (&two).write_all(b"x").unwrap();
    let mut byte = [0];
    one.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

//! Who does not hold the public key file draws nothing by datagrams, and no bytes pass for acks.
#![no_main]

use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, SeededRandom};
use anonchat::proto::datagram::boxfile::BoxReader;
use anonchat::proto::datagram::packet::LocalKey;
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::receiver::{Receiver};
use anonchat::proto::datagram::sender::{Reliability, Sender};
use anonchat::proto::time::Now;
use libfuzzer_sys::fuzz_target;

const ACCESS: [u8; 32] = [7; 32];

thread_local! {
    static BOB: KeyPair = KeyPair::generate();
}

fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    let now = Now { mono: Duration::ZERO, unix_ms: 1_800_000_000_000 };
    let mut random = SeededRandom::new(0);
    BOB.with(|bob| {
        let local = || vec![LocalKey::new(bob.duplicate(), &ACCESS)];
        let mut receiver = Receiver::new(local());
        let reliability = Reliability::Acked;
        let mut sender = Sender::new(bob, bob.public(), &ACCESS, reliability, &mut random);
        sender.offer(b"hi", false, now, &mut random).expect("it is the first");
        let mut events = Vec::new();
        for datagram in &datagrams {
            receiver.feed(datagram, 0, now, &mut |_| Admission::Contact, &mut events);
            assert!(!sender.feed_ack(datagram, now));
            assert!(BoxReader::new(local()).open(datagram).is_err());
        }
        assert!(events.is_empty() && receiver.take_acks().is_empty());
        assert_eq!(receiver.load(), (0, 0));
    });
});

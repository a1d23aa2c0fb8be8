//! Whatever somebody seals into a MEET or a RECEIPT, its reader takes it for what it says or for
//! nothing; a MEET that is read is written as one that is read the same.
#![no_main]

use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, SeededRandom};
use anonchat::proto::datagram::ack::{Status, WHOLE, ack};
use anonchat::proto::datagram::meet::Meet;
use anonchat::proto::datagram::packet::{
    FRAGMENT_LEN, Head, Kind, MessageId, Opened, PACKET_LEN, Sealer, Way,
};
use anonchat::proto::datagram::receipt::Awaited;
use anonchat::proto::time::Now;
use libfuzzer_sys::fuzz_target;

const NOW: Now = Now { mono: Duration::ZERO, unix_ms: 1_800_000_000_000 };
const ID: MessageId = MessageId { run: [3; 8], sequence: 0 };
const ACK_KEY: [u8; 32] = [5; 32];

thread_local! {
    static PAIRS: [KeyPair; 2] = [KeyPair::generate(), KeyPair::generate()];
}

fuzz_target!(|bytes: &[u8]| {
    let body = &bytes[..bytes.len().min(FRAGMENT_LEN)];
    PAIRS.with(|[alice, bob]| {
        let sealed = |kind, to: &Sealer| {
            let mut packet = [0; PACKET_LEN];
            let (ack_key, time_ms) = (&[0; 32], NOW.unix_ms);
            let way = Way::Relay;
            let head =
                Head { kind, way, more: false, id: ID, time_ms, ack_key, fragment: 0, of: 1 };
            to.seal(&head, body, &mut SeededRandom::new(1), &mut packet);
            packet
        };
        let to_bob = Sealer::new(alice, bob.public(), &ACK_KEY);
        let read = |packet| {
            let opened = Opened::open(bob, packet, 0, &[]).expect("it opens");
            Meet::read(&opened, NOW)
        };
        if let Some(meet) = read(&sealed(Kind::Meet, &to_bob)) {
            let mut again = [0; PACKET_LEN];
            meet.seal(&to_bob, NOW, &mut SeededRandom::new(2), &mut again);
            assert!(read(&again) == Some(meet));
        }
        let to_alice = Sealer::new(bob, alice.public(), &ACK_KEY);
        let awaited = Awaited::new(alice.public(), ID, &ACK_KEY);
        let said = awaited.read(alice, bob.public(), &sealed(Kind::Receipt, &to_alice));
        let all = [Status::Received, Status::Delivered, Status::Declined];
        let meant = all.into_iter().find(|status| ack(&ACK_KEY, ID, WHOLE, *status)[..] == *body);
        assert!(said == meant);
    });
});

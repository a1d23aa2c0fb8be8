//! Whatever a contact seals, a receiver keeps its bounds and answers with less than it got.
#![no_main]

use std::time::Duration;

use anonchat::crypto::sodium::{BoxKey, KeyPair, seal_anonymous};
use anonchat::proto::datagram::packet::{LocalKey, MAX_MESSAGE, mac1, mac1_key};
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::receiver::{Event, Receiver};
use anonchat::proto::time::Now;
use libfuzzer_sys::fuzz_target;

const ACCESS: [u8; 32] = [7; 32];
const NONCE: [u8; 24] = [0; 24];

thread_local! {
    static PAIRS: [KeyPair; 2] = [KeyPair::generate(), KeyPair::generate()];
}

// Version, kind and flags; the beginning of the payload, zeros after it; whether what comes of it
// is delivered.
fuzz_target!(|packets: Vec<([u8; 4], Vec<u8>, bool)>| {
    let now = Now { mono: Duration::ZERO, unix_ms: 1_000 };
    PAIRS.with(|[alice, bob]| {
        let key = BoxKey::new(alice, bob.public());
        let mut receiver = Receiver::new(vec![LocalKey::new(bob.duplicate(), &ACCESS)]);
        for (head, beginning, deliver) in packets {
            let mut payload = beginning;
            payload.resize(1060, 0);
            let mut inner = head.to_vec();
            inner.extend(alice.public().as_bytes());
            inner.extend(NONCE);
            inner.extend(key.seal(&NONCE, &payload));
            let sealed = seal_anonymous(bob.public(), &inner);
            let mut packet = mac1(&mac1_key(&ACCESS, bob.public()), &sealed).to_vec();
            packet.extend(sealed);

            let mut events = Vec::new();
            receiver.feed(&packet, 0, now, &mut |_| Admission::Contact, &mut events);
            for event in events {
                if let Event::Message(message) = event {
                    assert!(message.body.len() <= MAX_MESSAGE);
                    if deliver {
                        receiver.delivered(&message.run);
                    }
                }
            }
            let answers = receiver.take_acks();
            assert!(answers.iter().map(|answer| answer.bytes.len()).sum::<usize>() <= 64);
            let (runs, bytes) = receiver.load();
            assert!(runs <= 4096 && bytes <= 4 << 20);
        }
    });
});

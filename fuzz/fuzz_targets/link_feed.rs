//! Bytes that no peer sealed never pass a link: it waits for a whole record, then ends.
#![no_main]

use std::time::Duration;

use anonchat::crypto::sodium::KeyPair;
use anonchat::proto::stream::handshake::{Initiator, Opened, Responding};
use anonchat::proto::stream::link::Link;
use anonchat::proto::stream::session::plain_buffer;
use anonchat::proto::time::Now;
use libfuzzer_sys::fuzz_target;

const NOW: Now = Now { mono: Duration::ZERO, unix_ms: 1_800_000_000_000 };

fn link() -> Link {
    let (alice, bob, access) = (KeyPair::generate(), KeyPair::generate(), [7; 32]);
    let started = Initiator::start(&alice, bob.public(), &access, NOW.unix_ms);
    let (initiator, hello) = started.expect("message 1");
    let key = Responding { pair: &bob, access: &access };
    let opened = Opened::open(&key, &hello, NOW.unix_ms).expect("message 1 opens");
    let (_, reply) = opened.reply().expect("message 2");
    Link::new(initiator.confirm(&reply).expect("message 2 opens").0, NOW, true)
}

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let (mut link, mut plain) = (link(), plain_buffer());
    for piece in &pieces {
        if link.feed(piece, NOW, &mut plain, |_, _| panic!("a record out of nothing")).is_err() {
            return;
        }
    }
});

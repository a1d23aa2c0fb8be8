//! Who does not hold the public key file draws nothing from a gate.
#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, SeededRandom};
use anonchat::proto::stream::gate::{Answer, Gate, Passage};
use anonchat::proto::stream::handshake::Responding;
use anonchat::proto::stream::replay::ReplayGuard;
use anonchat::proto::time::Now;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static BOB: KeyPair = KeyPair::generate();
    static REPLAYS: RefCell<ReplayGuard> = RefCell::default();
}

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let now = Now { mono: Duration::ZERO, unix_ms: 1_800_000_000_000 };
    let mut gate = Gate::new(now, &mut SeededRandom::new(0));
    BOB.with(|pair| {
        for piece in &pieces {
            let keys = [Responding { pair, access: &[7; 32] }];
            assert!(matches!(gate.feed(piece, now), Passage::Nothing));
            let answer = REPLAYS.with_borrow_mut(|seen| gate.answer(now, &keys, seen));
            assert!(matches!(answer, Answer::Nothing));
        }
    });
});

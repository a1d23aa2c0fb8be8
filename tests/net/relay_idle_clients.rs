//! Clients that are there and say nothing cost little: memory, and no processor time to speak of.
//! AC_TEST_CLIENTS says how many (full: 10000), and AC_TEST_IDLE_SECONDS how long the processor is
//! watched (full: 60).

use crate::testkit::{
    common::number,
    measure::{alone, processor_time, resident},
    relay_client,
};

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, random};
use anonchat::proto::relay::cell::Command;
use anonchat::proto::relay::mailbox::Channel;
use relay_client::{Client, Relay};

/// What an idle client may cost, in bytes of resident memory.
const MOST: u64 = 8 * 1024;

/// A client that reads a mailbox of its own.
fn subscribed(relay: &Relay) -> Client {
    let mut client = relay.client();
    client.subscribe(&Channel::open(&random()), &KeyPair::generate(), 0, [0; 8], 0);
    assert_eq!(client.next_cell().command, Command::Live);
    client
}

#[test]
fn an_idle_client_costs_at_most_8_kib_and_no_processor_time() {
    let _alone = alone();
    let count = number("AC_TEST_CLIENTS", 400);
    let watched = Duration::from_secs(number("AC_TEST_IDLE_SECONDS", 1));
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    // What the first ones bring into memory, the others use too.
    let mut clients: Vec<_> = (0..50).map(|_| subscribed(&relay)).collect();
    let before = resident(&relay);
    clients.extend((0..count).map(|_| subscribed(&relay)));
    let each = resident(&relay).saturating_sub(before) / count as u64;
    let (used, began) = (processor_time(relay.pid()), Instant::now());
    while began.elapsed() < watched {
        thread::park_timeout(watched.saturating_sub(began.elapsed()));
    }
    let used = processor_time(relay.pid()) - used;
    let share = used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    // Past the capture of the test runner.
    let figures =
        format!("{each} bytes and {:.3} % a client, {share:.1} % in all\n", share / count as f64);
    let _ = std::io::stderr().write_all(figures.as_bytes());
    assert!(each <= MOST, "{each} bytes a client");
    relay.still_serves();
}

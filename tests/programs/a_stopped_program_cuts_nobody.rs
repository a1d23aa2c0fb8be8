//! Silence counts only while one listens: a program that was stopped (Ctrl-Z, a paused machine)
//! hears what its peer said meanwhile before it takes it for silent.

use crate::testkit::common;

use std::io::Write as _;
use std::time::{Duration, Instant};

use common::{DEADLINE, Listener, Running, alice_and_bob, eventually};
use rustix::process::Signal;

/// Longer than the patience of `-w 3`.
const STOPPED: Duration = Duration::from_secs(4);

/// One of the two is stopped in the middle of a message; all of it arrives.
fn survives(listener_args: &[&str], sender_args: &[&str], stop_listener: bool) {
    let (alice, bob) = alice_and_bob();
    let mut listener =
        Listener::spawn(&bob, &[&["-n", "1", "127.0.0.1:0"], listener_args].concat());
    let to = listener.destination("bob");
    let mut sender = Running::start(alice.command("ac-send", &[&[&*to], sender_args].concat()));
    let mut stdin = sender.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    listener.wait_stdout("the beginning", |out| out == b"one\n");
    let stopped = if stop_listener { &mut *listener } else { &mut sender };
    stopped.signal(Signal::STOP);
    let end = Instant::now() + STOPPED;
    eventually("the end of a pause", DEADLINE, || (Instant::now() >= end).then_some(()));
    stopped.signal(Signal::CONT);
    // Whoever wanted to give up has done so by the next sign of life.
    let end = Instant::now() + Duration::from_secs(1);
    eventually("a sign of life", DEADLINE, || (Instant::now() >= end).then_some(()));
    stdin.write_all(b"two\n").unwrap();
    drop(stdin);
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    assert_eq!(listener.stdout(), b"one\ntwo\n");
}

#[test]
fn a_listener_that_was_stopped_goes_on_with_who_is_still_there() {
    survives(&["-w", "3"], &[], true);
}

#[test]
fn a_sender_that_was_stopped_goes_on_with_a_listener_that_is_still_there() {
    survives(&[], &["-w", "3"], false);
}

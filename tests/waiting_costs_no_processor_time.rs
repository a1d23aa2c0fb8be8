//! Who waits for somebody else sleeps: it does not ask again and again whether the wait is over.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::read_to_string;
use std::time::Duration;

use common::{DEADLINE, Home, Listener, Running, eventually};

/// What a program may use in a wait of two seconds, start and handshake included.
const ENOUGH: Duration = Duration::from_secs(1);

/// Processor time that a program has used so far, in the hundredths of a second of proc(5), `stat`.
fn processor_time(program: &Running) -> Duration {
    let stat = read_to_string(format!("/proc/{}/stat", program.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = |n| fields.split(' ').nth(n).unwrap().parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

#[test]
fn a_sender_that_is_not_let_in_sleeps_until_its_patience_ends() {
    let (eve, bob) = (Home::with_identity(), Home::with_identity());
    eve.import(&bob, "bob");
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let to = listener.destination("bob");
    let mut sender = Running::start(eve.command("ac-send", &["-w", "2", &to]));
    // More than may be sent before the listener has let it in.
    sender.feed(vec![b'x'; 1 << 20]);
    let mut used = Duration::ZERO;
    let code = eventually("the end of its patience", DEADLINE, || {
        used = processor_time(&sender);
        sender.poll_exit().map(|status| status.code())
    });
    assert_eq!(code, Some(5), "{}", sender.stderr());
    assert!(used < ENOUGH, "{used:?}");
}

//! Who waits for somebody else sleeps: it does not ask again and again whether the wait is over.

use crate::testkit::{
    common,
    measure::{alone, processor_time},
};

use std::io::Write as _;
use std::time::Duration;

use common::{DEADLINE, Home, Listener, Running, befriend, eventually};

/// What a program may use in a wait of two seconds, start and handshake included.
const ENOUGH: Duration = Duration::from_secs(1);

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
        used = processor_time(sender.pid());
        sender.poll_exit().map(|status| status.code())
    });
    assert_eq!(code, Some(5), "{}", sender.stderr());
    assert!(used < ENOUGH, "{used:?}");
}

#[test]
fn a_sender_whose_destinations_wait_for_a_slow_one_sleeps_too() {
    let _alone = alone();
    let (alice, bob, carol) = (Home::with_identity(), Home::with_identity(), Home::with_identity());
    befriend(&alice, "alice", &bob, "bob");
    befriend(&alice, "alice", &carol, "carol");
    let good = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut command = carol.command("ac-listen", &["127.0.0.1:0"]);
    command.stdout(writer);
    let stuck = Listener::start(command);
    let to = [good.destination("bob"), stuck.destination("carol")];
    let mut sender = Running::start(alice.command("ac-send", &[&to[0], &to[1]]));
    // More than is kept for a slow one, and no end: once it is cut, the input is waited for.
    let mut stdin = sender.stdin.take().unwrap();
    let (wrote, written) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        stdin.write_all(&vec![b'x'; 24 << 20]).unwrap();
        wrote.send(()).unwrap();
        stdin
    });
    // What it does while it works is its own affair: the wait begins when nothing moves any more.
    let mut before = Duration::ZERO;
    let held = eventually("a pause", DEADLINE, || {
        let used = processor_time(sender.pid());
        let pauses = used > Duration::ZERO && used == std::mem::replace(&mut before, used);
        std::thread::park_timeout(Duration::from_millis(200));
        pauses.then_some(used)
    });
    sender.wait_stderr("is too slow, ");
    written.recv_timeout(DEADLINE).unwrap();
    let used = processor_time(sender.pid()) - held;
    assert!(used < ENOUGH, "{used:?}");
}

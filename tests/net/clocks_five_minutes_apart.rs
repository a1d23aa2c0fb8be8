//! Two clocks may be five minutes apart, either way: whoever listens is reached all the same, by
//! every way there is, and so it is around midnight, when mailboxes change. `faketime` shifts the
//! clock of the one who listens, and around midnight those of all.

use crate::testkit::{common, machines, relay_client, relay_people};

use std::process::Command;

use common::{
    DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, befriend, need, program, run,
    send,
};
use machines::Lan;
use relay_client::Relay;
use relay_people::{name_of, relay};

/// Almost five minutes, since a test takes a moment itself.
const OFFSETS: [&str; 2] = ["+290", "-290"];
/// More than fits cells.
const LARGE: usize = 200_000;

/// A program whose clock is shifted by so many seconds, or begins at `@date time`.
fn shifted(home: &Home, by: &str, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new("faketime");
    command.args(["--exclude-monotonic", "-f", by]).arg(program(name)).args(args);
    home.at_home(&mut command);
    command
}

/// Runs `ac-send ARGS` as alice, with that clock, and asserts that it was delivered.
fn assert_sent(alice: &Home, clock: Option<&str>, args: &[&str], stdin: &[u8]) {
    let command = match clock {
        Some(clock) => shifted(alice, clock, "ac-send", args),
        None => alice.command("ac-send", args),
    };
    assert_code(&run(command, stdin, DEADLINE), 0);
}

/// Asserts that alice reaches bob, who listens at the relay, by cells and by circuit, and finds him.
fn assert_reached(alice: &Home, via: &str, listener: &Running, clock: Option<&str>) {
    assert_sent(alice, clock, &["--via", via, "bob"], b"in cells\n");
    assert_sent(alice, clock, &["--via", via, "bob"], &vec![b'x'; LARGE]);
    assert_sent(alice, clock, &["--via", via, "-z", "bob"], b"");
    listener.wait_stdout("both messages", |bytes| bytes.len() == 9 + LARGE);
    let args = ["--via", via, "bob"];
    let found = match clock {
        Some(clock) => run(shifted(alice, clock, "ac-discover", &args), b"", DEADLINE),
        None => run(alice.command("ac-discover", &args), b"", DEADLINE),
    };
    assert_code(&found, 0);
}

fn listen_shifted(bob: &Home, relay: &Relay, clock: &str) -> Running {
    let via = name_of(relay, bob);
    let listener = Running::start(shifted(bob, clock, "ac-listen", &["--via", &via]));
    listener.wait_stderr("listening at relay home");
    listener
}

#[test]
fn at_an_address_a_listener_is_reached() {
    if !need("faketime") {
        return;
    }
    for by in OFFSETS {
        for udp in [&[][..], &["-u"]] {
            let (alice, bob) = alice_and_bob();
            let listen = shifted(&bob, by, "ac-listen", &[udp, &["127.0.0.1:0"]].concat());
            let listener = Listener::start(listen);
            let to = listener.destination("bob");
            assert_code(&send(&alice, &[udp, &[&to]].concat(), b"hi\n"), 0);
            assert_code(&send(&alice, &[udp, &["-z", &to]].concat(), b""), 0);
            listener.wait_stdout("the message", |bytes| bytes == b"hi\n");
        }
    }
}

#[test]
fn by_a_relay_a_listener_is_reached_met_and_found() {
    if !need("faketime") {
        return;
    }
    for by in OFFSETS {
        let (alice, bob) = alice_and_bob();
        let relay = relay();
        let listener = listen_shifted(&bob, &relay, by);
        assert_reached(&alice, &name_of(&relay, &alice), &listener, None);
    }
}

#[test]
fn around_midnight_a_listener_is_reached_whose_day_is_another() {
    if !need("faketime") {
        return;
    }
    for (reader, relays, sender) in [
        ("@2030-01-02 23:57:40", "@2030-01-02 23:59:30", "@2030-01-03 00:01:30"),
        ("@2030-01-03 00:01:30", "@2030-01-02 23:59:30", "@2030-01-02 23:57:40"),
    ] {
        let (alice, bob) = alice_and_bob();
        let home = Home::new();
        let command = shifted(&home, relays, "ac-relay", &["127.0.0.1:0"]);
        let relay = Relay::start(home, command);
        let listener = listen_shifted(&bob, &relay, reader);
        assert_reached(&alice, &name_of(&relay, &alice), &listener, Some(sender));
    }
}

#[test]
fn on_the_local_network_a_listener_is_found() {
    if !need("faketime") {
        return;
    }
    let Some(lan) = Lan::new(3) else { return };
    let [alice, bob, carol] = [(); 3].map(|()| Home::with_identity());
    befriend(&alice, "alice", &bob, "bob");
    befriend(&alice, "alice", &carol, "carol");
    let mut announcers = Vec::new();
    for (home, host, by) in [(&bob, 1, OFFSETS[0]), (&carol, 2, OFFSETS[1])] {
        let line = format!("exec faketime --exclude-monotonic -f {by} ac-discover --announce 1000");
        let announcer = Running::start(lan.hosts[host].shell(home, &line));
        announcer.wait_stderr("announcing ");
        announcers.push(announcer);
    }
    for name in ["bob", "carol"] {
        let found = run(lan.hosts[0].command(&alice, "ac-discover", &[name]), b"", DEADLINE);
        assert_code(&found, 0);
    }
}

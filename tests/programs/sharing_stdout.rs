//! Messages share stdout: in a pipe they are the raw bytes, whole, one at a time; a live one flows
//! and owns the output, the others wait for it and come after.

use crate::testkit::{common, measure::alone};

use std::time::{Duration, Instant};

use anonchat::sched::mux::HELD_TIME;
use common::*;

/// `ac-send` with an open stdin.
fn sender(home: &Home, args: &[&str]) -> Running {
    Running::start(home.command("ac-send", args))
}

/// A sender whose message already flows.
fn live_sender(home: &Home, listener: &Listener, text: &str) -> Running {
    let mut live = sender(home, &[&listener.destination("bob")]);
    say(&mut live, text);
    listener.wait_stdout(text, |out| out.ends_with(text.as_bytes()));
    live
}

/// A sender with a whole message, as soon as the listener has heard of it: with `-v` it says so.
fn waiting_sender(home: &Home, listener: &Listener, text: &str) -> Running {
    let connections = |said: &str| said.matches("connected from").count();
    let before = connections(&listener.stderr());
    let mut waiting = sender(home, &[&listener.destination("bob")]);
    waiting.feed(text.into());
    eventually("the connection of a waiting sender", DEADLINE, || {
        (connections(&listener.stderr()) > before).then_some(())
    });
    waiting
}

fn ends_with_code(sender: &mut Running, code: i32) {
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(code), "{}", sender.stderr());
}

/// `len` bytes that tell whose they are and where they stand.
fn pattern(who: u8, len: usize) -> Vec<u8> {
    let words = (0..).flat_map(|n: u64| (n << 8 | u64::from(who)).to_be_bytes());
    words.take(len).collect()
}

#[test]
fn large_messages_of_several_senders_are_each_whole_and_contiguous() {
    let bytes = number("AC_TEST_SHARING_BYTES", 1 << 20);
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-n", "5", "127.0.0.1:0"]);
    let messages: Vec<_> = (0..5u8).map(|who| pattern(who, bytes + 8 * usize::from(who))).collect();
    let mut senders: Vec<_> = messages
        .iter()
        .map(|message| {
            let mut sender = sender(&alice, &[&listener.destination("bob")]);
            sender.feed(message.clone());
            sender
        })
        .collect();
    senders.iter_mut().for_each(|sender| ends_with_code(sender, 0));
    assert!(listener.wait_exit(DEADLINE).success());
    let out = listener.stdout();
    let mut rest = out.as_slice();
    let mut heard = [false; 5];
    while let Some(first) = rest.first_chunk::<8>() {
        let who = usize::from(first[7]);
        assert!(!std::mem::replace(&mut heard[who], true), "message {who} came twice");
        rest = rest.strip_prefix(messages[who].as_slice()).expect("a message is not contiguous");
    }
    assert_eq!((heard, rest.len()), ([true; 5], 0));
}

#[test]
fn many_short_messages_at_once_are_each_whole() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-n", "16", "127.0.0.1:0"]);
    let mut senders: Vec<_> = (0..16)
        .map(|n| {
            let mut sender = sender(&alice, &[&listener.destination("bob")]);
            sender.feed(format!("message {n}, and its {}\n", "x".repeat(n)).into_bytes());
            sender
        })
        .collect();
    senders.iter_mut().for_each(|sender| ends_with_code(sender, 0));
    assert!(listener.wait_exit(DEADLINE).success());
    let out = String::from_utf8(listener.stdout()).unwrap();
    let mut lines: Vec<_> = out.lines().map(str::to_owned).collect();
    let mut sent: Vec<_> =
        (0..16).map(|n| format!("message {n}, and its {}", "x".repeat(n))).collect();
    lines.sort();
    sent.sort();
    assert_eq!(lines, sent);
}

#[test]
fn every_byte_passes_as_it_is_and_an_empty_message_is_one_too() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-n", "3", "127.0.0.1:0"]);
    let to = listener.destination("bob");
    let all: Vec<u8> = (0..=255).collect();
    assert_code(&send(&alice, &[&to], &all), 0);
    assert_code(&send(&alice, &[&to], b""), 0);
    assert_code(&send(&alice, &[&to], b"no newline"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), [&all[..], b"no newline"].concat());
}

#[test]
fn a_nul_ends_each_message_when_asked_for() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-0", "-n", "3", "127.0.0.1:0"]);
    let to = listener.destination("bob");
    for text in ["one\n", "", "three"] {
        assert_code(&send(&alice, &[&to], text.as_bytes()), 0);
    }
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"one\n\0\0three\0");
}

#[test]
fn a_live_message_flows_while_it_is_open() {
    let _alone = alone();
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["127.0.0.1:0", "-1"]);
    let mut live = live_sender(&alice, &listener, "first\n");
    let mut slowest = Duration::ZERO;
    for line in ["second\n", "third\n", "fourth\n"] {
        let said = Instant::now();
        say(&mut live, line);
        listener.wait_stdout(line, |out| out.ends_with(line.as_bytes()));
        slowest = slowest.max(said.elapsed());
    }
    // 200 ms at most, and what a busy machine adds.
    assert!(slowest < Duration::from_millis(1500), "{slowest:?}");
    assert!(live.poll_exit().is_none() && listener.poll_exit().is_none());
    live.close_stdin();
    ends_with_code(&mut live, 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"first\nsecond\nthird\nfourth\n");
}

#[test]
fn a_live_message_owns_the_output_and_the_others_come_after_it() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-v", "-n", "3", "127.0.0.1:0"]);
    let mut live = live_sender(&alice, &listener, "live one\n");
    let mut short = waiting_sender(&alice, &listener, "short\n");
    // More than a waiting sender may have in the listener's buffers and in those of the system.
    let large = "large\n".repeat(1 << 20);
    let mut large_sender = waiting_sender(&alice, &listener, &large);
    for line in ["live two\n", "live three\n"] {
        say(&mut live, line);
        listener.wait_stdout(line, |out| out.ends_with(line.as_bytes()));
    }
    assert_eq!(listener.stdout(), b"live one\nlive two\nlive three\n");
    assert!(short.poll_exit().is_none() && large_sender.poll_exit().is_none());
    live.close_stdin();
    ends_with_code(&mut live, 0);
    ends_with_code(&mut short, 0);
    ends_with_code(&mut large_sender, 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let expected = ["live one\nlive two\nlive three\nshort\n", large.as_str()].concat();
    assert!(listener.stdout() == expected.as_bytes(), "not in the order in which they came");
}

#[test]
fn an_owner_that_is_silent_while_another_waits_is_cut_and_the_other_is_served() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-w", "1", "127.0.0.1:0"]);
    let mut silent = live_sender(&alice, &listener, "live\n");
    assert_code(&send(&alice, &[&listener.destination("bob")], b"waited\n"), 0);
    ends_with_code(&mut silent, 8);
    assert!(silent.stderr().contains("did not wait"), "{}", silent.stderr());
    listener.wait_stderr("the sender paused while others waited");
    assert!(listener.wait_exit(DEADLINE).success(), "it has heard somebody, then nobody");
    assert_eq!(listener.stdout(), b"live\nwaited\n");
}

/// A sender that is connected, as the listener with `-v` says, and has not said a byte.
fn silent_sender(home: &Home, listener: &Listener) -> Running {
    let connections = |said: &str| said.matches("connected from").count();
    let before = connections(&listener.stderr());
    let silent = sender(home, &[&listener.destination("bob")]);
    eventually("the connection of a silent sender", DEADLINE, || {
        (connections(&listener.stderr()) > before).then_some(())
    });
    // Longer than a message is held: from then on one that speaks has the output.
    let connected = Instant::now();
    eventually("time to pass", DEADLINE, || (connected.elapsed() > 2 * HELD_TIME).then_some(()));
    silent
}

#[test]
fn whoever_has_not_said_a_byte_keeps_nobody_waiting_and_is_heard_later() {
    for form in [&[][..], &["--json"][..]] {
        let (alice, bob) = alice_and_bob();
        let args = [form, &["-v", "-w", "20", "-n", "3", "127.0.0.1:0"]].concat();
        let mut listener = Listener::spawn(&bob, &args);
        let to = listener.destination("bob");
        let mut silent = silent_sender(&alice, &listener);
        let mut empty = silent_sender(&alice, &listener);
        let began = Instant::now();
        assert_code(&send(&alice, &[&to], b"hi\n"), 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        empty.close_stdin();
        ends_with_code(&mut empty, 0);
        assert!(listener.poll_exit().is_none(), "two of three have ended");
        silent.feed(b"at last\n".to_vec());
        ends_with_code(&mut silent, 0);
        assert!(listener.wait_exit(DEADLINE).success());
        let out = String::from_utf8(listener.stdout()).unwrap();
        let (hi, last) = (out.find("hi").unwrap(), out.find("at last").unwrap());
        assert!(hi < last, "{out}");
    }
}

#[test]
fn whoever_has_not_said_a_byte_takes_no_place_of_those_that_are_wanted() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-v", "-1", "127.0.0.1:0"]);
    let mut silent = silent_sender(&alice, &listener);
    assert_code(&send(&alice, &[&listener.destination("bob")], b"hi\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    ends_with_code(&mut silent, 8);
    assert_eq!(listener.stdout(), b"hi\n");
}

#[test]
fn after_one_message_the_next_is_turned_away_unacknowledged() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-v", "-1", "127.0.0.1:0"]);
    let mut first = live_sender(&alice, &listener, "the one\n");
    let mut late = waiting_sender(&alice, &listener, "too late\n");
    first.close_stdin();
    ends_with_code(&mut first, 0);
    ends_with_code(&mut late, 8);
    assert!(late.stderr().contains("as many messages as it wanted"), "{}", late.stderr());
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"the one\n");
}

#[test]
fn after_three_messages_one_more_is_turned_away_unacknowledged() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-v", "-n", "3", "127.0.0.1:0"]);
    let mut first = live_sender(&alice, &listener, "1");
    let others = ["2", "3", "4"].map(|text| (text, waiting_sender(&alice, &listener, text)));
    first.close_stdin();
    ends_with_code(&mut first, 0);
    // They were let in one after another; whose bytes came last only the listener knows.
    let codes = others.map(|(text, mut sender)| (text, sender.wait_exit(DEADLINE).code()));
    assert!(listener.wait_exit(DEADLINE).success());
    let served = |code| codes.iter().filter(move |(_, other)| *other == Some(code));
    assert_eq!((served(0).count(), served(8).count()), (2, 1), "{codes:?}");
    let out = String::from_utf8(listener.stdout()).unwrap();
    assert!(out.starts_with('1') && out.len() == 3, "{out}");
    assert!(served(0).all(|(text, _)| out.contains(text)), "{out}, {codes:?}");
}

#[test]
fn only_those_are_heard_that_from_names() {
    let (alice, bob) = alice_and_bob();
    let carol = Home::with_identity();
    befriend(&carol, "carol", &bob, "bob");
    let mut listener = Listener::spawn(&bob, &["--from", "alice", "-1", "127.0.0.1:0"]);
    let to = listener.destination("bob");
    assert_code(&send(&carol, &["-w", "1", &to], b"carol\n"), 5);
    listener.wait_stderr("turned away carol");
    assert_code(&send(&alice, &[&to], b"alice\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"alice\n");
}

#[test]
fn from_takes_several_names_and_no_unknown_one() {
    let (alice, bob) = alice_and_bob();
    let carol = Home::with_identity();
    befriend(&carol, "carol", &bob, "bob");
    let args = ["--from", "alice", "--from", "carol", "-n", "2", "127.0.0.1:0"];
    let mut listener = Listener::spawn(&bob, &args);
    let to = listener.destination("bob");
    assert_code(&send(&carol, &[&to], b"carol\n"), 0);
    assert_code(&send(&alice, &[&to], b"alice\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"carol\nalice\n");

    let nobody = run(bob.command("ac-listen", &["--from", "dave", "0"]), b"", DEADLINE);
    assert_code(&nobody, 3);
}

#[test]
fn holders_of_the_public_key_file_are_heard_only_when_unknown_ones_are_accepted() {
    let (bob, stranger) = (Home::with_identity(), Home::with_identity());
    stranger.import(&bob, "bob");
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    assert_code(&send(&stranger, &["-w", "1", &listener.destination("bob")], b"x"), 5);
    listener.wait_stderr("somebody who is not among your contacts");
    assert_eq!(listener.stdout(), b"");

    let mut listener = Listener::spawn(&bob, &["--accept-unknown", "-n", "2", "127.0.0.1:0"]);
    let to = listener.destination("bob");
    assert_code(&send(&stranger, &[&to], b"unknown\n"), 0);
    assert_code(&send(&stranger, &["-a", &to], b"anonymous\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"unknown\nanonymous\n");
}

#[test]
fn an_anonymous_sender_is_not_heard_as_the_contact_that_it_is() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    assert_code(&send(&alice, &["-a", "-w", "1", &listener.destination("bob")], b"x"), 5);
    assert_eq!(listener.stdout(), b"");
}

#[test]
fn an_anonymous_sender_needs_no_identity() {
    let (bob, nobody) = (Home::with_identity(), Home::new());
    nobody.import(&bob, "bob");
    let mut listener = Listener::spawn(&bob, &["--accept-unknown", "-1", "127.0.0.1:0"]);
    assert_code(&send(&nobody, &["-a", &listener.destination("bob")], b"hi\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"hi\n");
}

#[test]
fn holding_the_key_of_a_group_is_the_permission_to_be_heard_in_it() {
    let (bob, alice) = (Home::with_identity(), Home::with_identity());
    assert_code(&bob.keygen(&["--group", "team"]), 0);
    let key = bob.path().join("groups/team.key");
    assert_code(&alice.keygen(&["--import", key.to_str().unwrap(), "--as", "team"]), 0);
    let mut listener = Listener::spawn(&bob, &["-k", "team", "-1", "127.0.0.1:0"]);
    assert_code(&send(&alice, &[&listener.destination("team")], b"all of you\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"all of you\n");
    assert!(listener.stderr().contains("of group team"), "{}", listener.stderr());

    // Who holds only the member's own key has no business in the group.
    let stranger = Home::with_identity();
    befriend(&stranger, "stranger", &bob, "bob");
    let listener = Listener::spawn(&bob, &["-k", "team", "127.0.0.1:0"]);
    assert_code(&send(&stranger, &["-w", "1", &listener.destination("bob")], b"x"), 5);
    assert_eq!(listener.stdout(), b"");
}

#[test]
fn a_ping_says_whether_the_peer_is_there_and_delivers_nothing() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-1", "127.0.0.1:0"]);
    let to = listener.destination("bob");
    let there = send(&alice, &["-z", &to], b"this is not sent");
    assert_code(&there, 0);
    assert!(String::from_utf8_lossy(&there.stderr).contains("bob: there"), "{there:?}");
    assert!(listener.poll_exit().is_none(), "a ping is no message");
    assert_code(&send(&alice, &[&to], b"this is\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"this is\n");
    assert_code(&send(&alice, &["-z", &to], b""), 4);
}

#[test]
fn a_shell_loop_waits_for_a_peer() {
    let (alice, bob) = alice_and_bob();
    let port = Listener::spawn(&bob, &["127.0.0.1:0"]).port();
    let script = format!("until '{}' -z \"$1\"; do :; done; echo up", program("ac-send").display());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script, "sh", &format!("bob@127.0.0.1:{port}")]);
    alice.at_home(&mut command);
    let mut waiting = Running::start(command);
    waiting.wait_stderr("connection refused");
    let _listener = Listener::spawn(&bob, &[&format!("127.0.0.1:{port}")]);
    assert!(waiting.wait_exit(DEADLINE).success());
    assert_eq!(waiting.stdout(), b"up\n");
}

#[test]
fn of_many_at_once_as_many_are_heard_as_were_asked_for_and_the_others_are_told() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-n", "3", "127.0.0.1:0"]);
    let mut senders: Vec<_> = (0..12)
        .map(|n| {
            let mut sender = sender(&alice, &[&listener.destination("bob")]);
            sender.feed(format!("{n}\n").into_bytes());
            sender
        })
        .collect();
    let codes: Vec<_> =
        senders.iter_mut().map(|sender| sender.wait_exit(DEADLINE).code()).collect();
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 3, "{codes:?}");
    // Declined, or there was no listener any more; never a doubt about anybody's key.
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 4 | 8))), "{codes:?}");
    let out = String::from_utf8(listener.stdout()).unwrap();
    assert_eq!(out.lines().count(), 3);
    for (n, code) in codes.iter().enumerate() {
        assert_eq!(out.lines().any(|line| line == n.to_string()), *code == Some(0));
    }
}

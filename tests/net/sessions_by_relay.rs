//! What does not fit into cells comes by a circuit, and is then a session like any other: streams,
//! files and folders, chat, duplex, commands. PROTOCOL.md, 5.6.
//!
//! `AC_TEST_CIRCUITS`: senders at once, and files of one sender (12).

use crate::testkit::{common, random::bytes, relay_client, relay_people};

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, OsRandom, random};
use anonchat::proto::datagram::meet::Meet;
use anonchat::proto::datagram::packet::{PACKET_LEN, Sealer};
use anonchat::proto::relay::cell::{Cell, Command};
use anonchat::proto::relay::mailbox::{Channel, epoch};
use anonchat::proto::time::Now;
use anonchat::sched::mux::HELD_TIME;
use common::*;
use relay_client::{Client, Relay, address};
use relay_people::*;

/// bob, alice, a relay, and how alice calls it.
fn scene() -> (Home, Home, Relay, String) {
    let (alice, bob) = alice_and_bob();
    let relay = relay();
    let name = name_of(&relay, &alice);
    (bob, alice, relay, name)
}

#[test]
fn a_long_stream_arrives_whole() {
    let (bob, alice, relay, via) = scene();
    let mut listener = listen(&bob, &relay, &["-1"]);
    let stream = bytes(5_000_000);
    assert_code(&send(&alice, &["--via", &via, "bob"], &stream), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == stream);
}

#[test]
fn several_streams_at_once_arrive_whole() {
    let (bob, alice, relay, via) = scene();
    let mut listener = listen(&bob, &relay, &["-n", "4", "-0"]);
    let stream = |n: u8| [&[b'a' + n][..], &bytes(300_000)].concat().repeat(1 + usize::from(n));
    let mut sending: Vec<_> = (0..4)
        .map(|n| {
            let mut sending = Running::start(alice.command("ac-send", &["--via", &via, "bob"]));
            sending.feed(stream(n).iter().map(|byte| byte.max(&1)).copied().collect());
            sending
        })
        .collect();
    for sending in &mut sending {
        assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
    }
    assert!(listener.wait_exit(DEADLINE).success());
    let heard = listener.stdout();
    let mut heard: Vec<_> = heard.split(|byte| *byte == 0).filter(|m| !m.is_empty()).collect();
    heard.sort_unstable();
    for (n, heard) in (0..).zip(heard) {
        let sent: Vec<u8> = stream(n).iter().map(|byte| byte.max(&1)).copied().collect();
        assert!(heard == sent, "stream {n}");
    }
}

fn circuits() -> usize {
    number("AC_TEST_CIRCUITS", 12)
}

#[test]
fn many_files_of_one_contact_at_once_all_arrive() {
    let (bob, alice, relay, via) = scene();
    let count = circuits();
    let inbox = bob.path().join("inbox");
    fs::create_dir(&inbox).unwrap();
    let args = ["-d", inbox.to_str().unwrap(), "-n", &count.to_string()];
    let mut listener = listen(&bob, &relay, &args);
    let content = |n: usize| [&n.to_be_bytes()[..], &bytes(100_000)].concat();
    let mut sending: Vec<_> = (0..count)
        .map(|n| {
            let file = alice.path().join(format!("{n}.bin"));
            fs::write(&file, content(n)).unwrap();
            let file = file.to_str().unwrap();
            Running::start(alice.command("ac-send", &["--via", &via, "bob", "--", file]))
        })
        .collect();
    let codes: Vec<_> =
        sending.iter_mut().map(|sending| sending.wait_exit(2 * DEADLINE).code()).collect();
    let failed = sending.iter().zip(&codes).filter(|(_, code)| **code != Some(0));
    let failed: Vec<_> = failed.map(|(sending, code)| (code, sending.stderr())).collect();
    assert!(failed.is_empty(), "{} of {count}: {failed:#?}", failed.len());
    assert!(listener.wait_exit(DEADLINE).success());
    let landed: BTreeSet<Vec<u8>> =
        fs::read_dir(&inbox).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(landed == (0..count).map(content).collect());
}

/// So many MEETs of `sender` to which nobody comes, all of which the relay has passed on.
fn empty_meetings(sender: &Sender, to: Box, client: &mut Client, count: u64) {
    let sealer = Sealer::new(&sender.me, &sender.to, &sender.access);
    let now = Now { mono: Duration::ZERO, unix_ms: unix_ms() };
    for id in 0..count {
        let mut packet = [0; PACKET_LEN];
        let meet = Meet { rendezvous: random(), instance: None };
        meet.seal(&sealer, now, &mut OsRandom, &mut packet);
        client.queue(&Cell::post(id, sender.mailbox(to, now.unix_ms), &packet).volatile());
    }
    assert!(client.flush());
    // What is held is confirmed, after all that was said before it.
    let own = address(&Channel::open(&random()), &sender.to, epoch(now.unix_ms));
    client.post(count, own, &relay_client::packet(0));
    while client.next_cell().command != Command::Ack {}
}

#[test]
fn callers_who_are_gone_keep_no_other_circuit_of_a_contact_away() {
    let (bob, alice, relay, via) = scene();
    let listener = listen(&bob, &relay, &[]);
    empty_meetings(&Sender::new(&alice, &bob), Box::Pair, &mut relay.client(), 12);
    assert_code(&send(&alice, &["--via", &via, "bob"], &bytes(100_000)), 0);
    listener.wait_stdout("the file", |out| out == bytes(100_000));
}

#[test]
fn strangers_who_are_gone_keep_no_circuit_of_a_contact_away() {
    let (bob, alice, relay, via) = scene();
    let listener = listen(&bob, &relay, &["--accept-unknown"]);
    let mut client = relay.client();
    for _ in 0..25 {
        let stranger = Sender::with_key(KeyPair::generate(), &bob.public_key_file());
        empty_meetings(&stranger, Box::Public, &mut client, 8);
    }
    assert_code(&send(&alice, &["--via", &via, "bob"], &bytes(100_000)), 0);
    listener.wait_stdout("the file", |out| out == bytes(100_000));
}

#[test]
fn a_list_of_large_files_goes_by_one_circuit() {
    let (bob, alice, relay, via) = scene();
    let inbox = bob.path().join("inbox");
    fs::create_dir(&inbox).unwrap();
    let mut listener = listen(&bob, &relay, &["-d", inbox.to_str().unwrap(), "-1"]);
    let files: Vec<String> = (0..circuits())
        .map(|n| {
            let file = alice.path().join(format!("{n}.bin"));
            fs::write(&file, bytes(100_000)).unwrap();
            file.to_str().unwrap().to_owned()
        })
        .collect();
    let files = files.iter().map(String::as_str);
    let args: Vec<&str> = ["--via", &via, "bob", "--"].into_iter().chain(files).collect();
    assert_code(&send(&alice, &args, b""), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(fs::read_dir(&inbox).unwrap().count(), circuits());
}

#[test]
fn a_session_by_relay_is_called_so_in_reports() {
    let (bob, alice, relay, via) = scene();
    let mut listener = listen(&bob, &relay, &["-n", "2", "--json"]);
    assert_code(&send(&alice, &["--via", &via, "bob"], b"a cell\n"), 0);
    assert_code(&send(&alice, &["--via", &via, "bob"], &bytes(100_000)), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let said = String::from_utf8(listener.stdout()).unwrap();
    let messages: Vec<_> =
        said.lines().filter(|line| line.contains(r#""event":"message""#)).collect();
    assert!(messages.len() >= 2);
    for message in messages {
        assert!(message.contains(r#""transport":"relay""#), "{message}");
    }
}

#[test]
fn a_chat_by_relay_that_is_cut_is_no_farewell() {
    let (bob, alice, relay, via) = scene();
    let mut listener = listen(&bob, &relay, &["-i"]);
    let mut chat = Running::start(alice.command("ac-send", &["-i", "--via", &via, "bob"]));
    chat.wait_stderr("bob is here");
    listener.wait_stderr("alice is here");
    listener.kill();
    chat.wait_stderr("bob: the connection was lost; calling again");
    chat.stdin.as_mut().unwrap().write_all(b"typed meanwhile\n").unwrap();
    let mut listener = listen(&bob, &relay, &["-i"]);
    listener.wait_stdout("what waited", |heard| heard == b"typed meanwhile\n");
    chat.kill();
    listener.wait_stderr("alice: the connection was lost; what you type waits for them");
    listener.stdin.as_mut().unwrap().write_all(b"are you back?\n").unwrap();
    let mut chat = Running::start(alice.command("ac-send", &["-i", "--via", &via, "bob"]));
    chat.wait_stdout("what waited", |heard| heard == b"are you back?\n");
    chat.close_stdin();
    assert!(chat.wait_exit(DEADLINE).success(), "{}", chat.stderr());
    listener.wait_stderr("alice left");
}

#[test]
fn files_and_folders_land_in_the_directory() {
    let (bob, alice, relay, via) = scene();
    let (inbox, tree) = (bob.path().join("inbox"), alice.path().join("tree"));
    std::fs::create_dir_all(&inbox).unwrap();
    std::fs::create_dir_all(tree.join("deep")).unwrap();
    std::fs::write(tree.join("deep/large"), bytes(2_000_000)).unwrap();
    std::fs::write(tree.join("small"), b"small").unwrap();
    let mut listener = listen(&bob, &relay, &["-1", "-d", inbox.to_str().unwrap()]);
    assert_code(&send(&alice, &["--via", &via, "-f", tree.to_str().unwrap(), "bob"], b""), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let landed: Vec<_> = std::fs::read_dir(&inbox).unwrap().map(|e| e.unwrap().path()).collect();
    let [folder] = &landed[..] else { panic!("{landed:?}") };
    assert!(std::fs::read(folder.join("deep/large")).unwrap() == bytes(2_000_000));
    assert_eq!(std::fs::read(folder.join("small")).unwrap(), b"small");
}

#[test]
fn people_chat_by_way_of_a_relay() {
    let (bob, alice, relay, via) = scene();
    let mut listener = listen(&bob, &relay, &["-i"]);
    let mut chat = Running::start(alice.command("ac-send", &["-i", "--via", &via, "bob"]));
    let type_line = |who: &mut Running, line: &[u8]| {
        who.stdin.as_mut().unwrap().write_all(line).unwrap();
    };
    type_line(&mut chat, b"hi bob\n");
    listener.wait_stdout("a line", |bytes| bytes == b"hi bob\n");
    type_line(&mut listener, b"hi alice\n");
    chat.wait_stdout("the answer", |bytes| bytes == b"hi alice\n");
    // A cell goes into the same conversation.
    assert_code(&send(&alice, &["--via", &via, "bob"], b"by cell\n"), 0);
    listener.wait_stdout("both", |bytes| bytes == b"hi bob\nby cell\n");
    chat.close_stdin();
    assert!(chat.wait_exit(DEADLINE).success(), "{}", chat.stderr());
    listener.wait_stderr("alice left");
}

#[test]
fn a_duplex_stream_goes_both_ways() {
    let (bob, alice, relay, via) = scene();
    let mut listener = listen(&bob, &relay, &["-b"]);
    listener.feed(bytes(700_000));
    let sent = send(&alice, &["-b", "--via", &via, "bob"], &bytes(900_000));
    assert_code(&sent, 0);
    assert!(sent.stdout == bytes(700_000));
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == bytes(900_000));
}

#[test]
fn a_command_runs_for_a_cell_and_for_a_circuit() {
    let (bob, alice, relay, via) = scene();
    let listener = listen(&bob, &relay, &["-e", "tr a-z A-Z"]);
    assert_code(&send(&alice, &["--via", &via, "bob"], b"by cell\n"), 0);
    listener.wait_stdout("the first", |bytes| bytes == b"BY CELL\n");
    assert_code(&send(&alice, &["--via", &via, "bob"], &b"x".repeat(100_000)), 0);
    listener.wait_stdout("the second", |bytes| bytes.len() == 8 + 100_000);
    let answer = send(&alice, &["-b", "--via", &via, "bob"], b"both ways\n");
    assert_code(&answer, 0);
    assert_eq!(answer.stdout, b"BOTH WAYS\n");
}

#[test]
fn a_command_that_fails_declines_what_came_in_a_cell() {
    let (bob, alice, relay, via) = scene();
    let _listener = listen(&bob, &relay, &["-e", "false"]);
    assert_code(&send(&alice, &["--via", &via, "bob"], b"by cell\n"), 8);
}

#[test]
fn whoever_has_not_said_a_byte_by_circuit_keeps_no_cell_and_no_circuit_waiting() {
    let (bob, alice, relay, via) = scene();
    let listener = listen(&bob, &relay, &["-v", "-n", "3"]);
    let mut silent = Running::start(alice.command("ac-send", &["--via", &via, "bob"]));
    listener.wait_stderr("connected");
    let connected = Instant::now();
    eventually("time to pass", DEADLINE, || (connected.elapsed() > 2 * HELD_TIME).then_some(()));
    for text in [b"in a cell\n".to_vec(), bytes(100_000)] {
        let began = Instant::now();
        assert_code(&send(&alice, &["--via", &via, "bob"], &text), 0);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    silent.feed(b"at last\n".to_vec());
    assert!(silent.wait_exit(DEADLINE).success(), "{}", silent.stderr());
    listener.wait_stdout("all three", |out| out.ends_with(b"at last\n"));
}

#[test]
fn who_asks_whether_somebody_is_there_hears_it() {
    let (bob, alice, relay, via) = scene();
    assert_code(&send(&alice, &["-z", "-w", "3", "--via", &via, "bob"], b""), 4);
    let _listener = listen(&bob, &relay, &[]);
    assert_code(&send(&alice, &["-z", "--via", &via, "bob"], b""), 0);
}

#[test]
fn a_listener_that_has_heard_enough_turns_a_stream_away_and_leaves_a_cell() {
    let (bob, alice, relay, via) = scene();
    let mut listener = listen(&bob, &relay, &["-1"]);
    let mut first = Running::start(alice.command("ac-send", &["--via", &via, "bob"]));
    first.stdin.as_mut().unwrap().write_all(&bytes(200_000)).unwrap();
    listener.wait_stdout("the first", |bytes| bytes.len() == 200_000);
    let second = send(&alice, &["--via", &via, "bob"], b"too late\n");
    assert_code(&second, 7);
    first.close_stdin();
    assert!(first.wait_exit(DEADLINE).success(), "{}", first.stderr());
    assert!(listener.wait_exit(DEADLINE).success());
    let mut next =
        Running::start(bob.command("ac-listen", &["-1", "--via", &name_of(&relay, &bob)]));
    assert!(next.wait_exit(DEADLINE).success());
    assert_eq!(next.stdout(), b"too late\n");
}

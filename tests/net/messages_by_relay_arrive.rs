//! What is sent by way of a relay is delivered: to who listens, and to who comes later; once, and in
//! the order of its sender. PROTOCOL.md, 5.5.

use crate::testkit::{common, relay_client, relay_people};

use anonchat::crypto::sodium::random;
use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::packet::{Kind, MAX_MESSAGE};
use anonchat::proto::stream::meta::{MessageKind, Meta};
use anonchat::transfer::received::RECEIVED;
use common::*;
use relay_client::Relay;
use relay_people::*;
use rustix::process::Signal;

/// `count` lines, from `first` on.
fn lines(first: usize, count: usize) -> Vec<Vec<u8>> {
    (first..first + count).map(|n| format!("line {n}\n").into_bytes()).collect()
}

#[test]
fn a_message_to_a_listener_is_printed_and_acknowledged() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let mut listener = listen(&bob, &relay, &["-1"]);
    let status = Sender::new(&alice, &bob).send(&mut relay.client(), b"hi\n");
    assert_eq!(status, Status::Delivered);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"hi\n");
}

#[test]
fn the_longest_message_arrives_whole_and_so_does_the_empty_one() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let mut listener = listen(&bob, &relay, &["-n", "2"]);
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    let longest: Vec<u8> = (0..MAX_MESSAGE).map(|n| (n % 251) as u8).collect();
    assert_eq!(sender.send(&mut client, b""), Status::Delivered);
    assert_eq!(sender.send(&mut client, &longest), Status::Delivered);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), longest);
}

#[test]
fn what_was_posted_before_comes_once_and_in_order() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    for line in lines(0, 50) {
        sender.post(&mut client, Box::Pair, &sender.seal(&line));
    }
    let mut listener = listen_to_some(&bob, &relay, 50);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), lines(0, 50).concat());
    // All of it was acknowledged to the relay.
    let again = listen(&bob, &relay, &[]);
    assert_eq!(sender.send(&mut client, b"last\n"), Status::Delivered);
    assert_eq!(again.stdout(), b"last\n");
}

#[test]
fn a_listener_that_ends_after_some_leaves_the_rest_to_the_next() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    for line in lines(0, 7) {
        sender.post(&mut client, Box::Pair, &sender.seal(&line));
    }
    for (first, count) in [(0, 1), (1, 4), (5, 2)] {
        let mut listener = listen_to_some(&bob, &relay, count);
        assert!(listener.wait_exit(DEADLINE).success());
        assert_eq!(listener.stdout(), lines(first, count).concat());
    }
}

/// It may have heard enough before it could say that it is ready.
fn listen_to_some(bob: &Home, relay: &Relay, count: usize) -> Running {
    let (name, count) = (name_of(relay, bob), count.to_string());
    Running::start(bob.command("ac-listen", &["--via", &name, "-n", &count]))
}

#[test]
fn a_listener_that_is_stopped_and_started_again_loses_and_repeats_nothing() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    let mut heard = Vec::new();
    for round in 0..4 {
        let mut listener = listen(&bob, &relay, &[]);
        for line in lines(round * 10, 5) {
            assert_eq!(sender.send(&mut client, &line), Status::Delivered);
        }
        listener.signal(Signal::TERM);
        listener.wait_exit(DEADLINE);
        heard.extend(listener.stdout());
        for line in lines(round * 10 + 5, 5) {
            sender.post(&mut client, Box::Pair, &sender.seal(&line));
        }
    }
    let mut listener = listen_to_some(&bob, &relay, 5);
    assert!(listener.wait_exit(DEADLINE).success());
    heard.extend(listener.stdout());
    assert_eq!(heard, lines(0, 40).concat());
}

#[test]
fn a_relay_that_was_restarted_is_listened_at_again() {
    let ((alice, bob), mut relay) = (alice_and_bob(), relay());
    let listener = listen(&bob, &relay, &["--json"]);
    let sender = Sender::new(&alice, &bob);
    assert_eq!(sender.send(&mut relay.client(), b"before\n"), Status::Delivered);
    relay.kill();
    listener.wait_stderr("relay home: lost: the connection ended; trying again");
    let (home, at) = (relay.home, format!("127.0.0.1:{}", relay.port));
    let relay = Relay::at(home, &[&at]);
    let letter = sender.seal(b"after\n");
    let mut client = relay.client();
    sender.await_receipts(&mut client, &letter);
    sender.post(&mut client, Box::Pair, &letter);
    assert_eq!(sender.outcome(&mut client, &letter), Status::Delivered);
    let said = String::from_utf8(listener.stdout()).unwrap();
    assert_eq!(said.matches("before").count(), 1, "{said}");
    assert_eq!(said.matches("after").count(), 1, "{said}");
    listener.wait_stdout("two times listening", |bytes| {
        let said = String::from_utf8_lossy(bytes).into_owned();
        said.matches(r#""status":"listening""#).count() == 2
    });
}

#[test]
fn what_comes_by_two_relays_is_delivered_once() {
    let ((alice, bob), first, second) = (alice_and_bob(), relay(), relay());
    let names = [name_of(&first, &bob), name_at(&second, &bob, "work", second.port)];
    let mut listener = listen_by(&bob, &[&names[0], &names[1]], &["-n", "3"]);
    let sender = Sender::new(&alice, &bob);
    let (run, time_ms, ack_key) = (random(), unix_ms(), random());
    let mut clients = [first.client(), second.client()];
    for client in &mut clients {
        let letter = sender.seal_as(Kind::Message, b"both\n", run, time_ms, ack_key);
        sender.await_receipts(client, &letter);
        sender.post(client, Box::Pair, &letter);
        assert_eq!(sender.outcome(client, &letter), Status::Delivered);
    }
    for (client, line) in clients.iter_mut().zip([b"one\n", b"two\n"]) {
        assert_eq!(sender.send(client, line), Status::Delivered);
    }
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"both\none\ntwo\n");
}

#[test]
fn who_becomes_a_contact_meanwhile_is_heard() {
    let (bob, alice, relay) = (Home::with_identity(), Home::with_identity(), relay());
    let mut listener = listen(&bob, &relay, &["-1"]);
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    let letter = sender.seal(b"hi\n");
    sender.await_receipts(&mut client, &letter);
    sender.post(&mut client, Box::Pair, &letter);
    bob.import(&alice, "alice");
    assert_eq!(sender.outcome(&mut client, &letter), Status::Delivered);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"hi\n");
}

#[test]
fn who_is_no_contact_is_turned_away_unless_everybody_is_heard() {
    let (bob, eve, relay) = (Home::with_identity(), Home::with_identity(), relay());
    let (sender, mut client) = (Sender::new(&eve, &bob), relay.client());
    let mut listener = listen(&bob, &relay, &[]);
    sender.post(&mut client, Box::Public, &sender.seal(b"psst\n"));
    listener.wait_stderr("turned away somebody who is not among your contacts");
    listener.signal(Signal::TERM);
    listener.wait_exit(DEADLINE);
    let listener = listen(&bob, &relay, &["--accept-unknown"]);
    let letter = sender.seal(b"hello\n");
    sender.await_receipts(&mut client, &letter);
    sender.post(&mut client, Box::Public, &letter);
    assert_eq!(sender.outcome(&mut client, &letter), Status::Delivered);
    assert_eq!(listener.stdout(), b"hello\n");
}

#[test]
fn a_rate_holds_for_what_was_waiting_too_and_keeps_nobody_else_waiting() {
    let ((alice, bob), carol, relay) = (alice_and_bob(), Home::with_identity(), relay());
    bob.import(&carol, "carol");
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    for line in lines(0, 30) {
        sender.post(&mut client, Box::Pair, &sender.seal(&line));
    }
    let mut listener = listen(&bob, &relay, &["--rate", "3/h", "-n", "4"]);
    listener.wait_stdout("as many as may come at once", |bytes| bytes == lines(0, 3).concat());
    listener.wait_stderr("alice: too many messages in a short time: some wait");
    let carol = Sender::new(&carol, &bob);
    assert_eq!(carol.send(&mut client, b"carol\n"), Status::Delivered);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), [lines(0, 3).concat(), b"carol\n".to_vec()].concat());
    // What had to wait was not acknowledged, and comes again.
    let mut next = listen_to_some(&bob, &relay, 27);
    assert!(next.wait_exit(DEADLINE).success());
    assert_eq!(next.stdout(), lines(3, 27).concat());
}

#[test]
fn a_small_file_lands_in_the_directory_and_is_declined_without_one() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    let item = || {
        let meta = Meta {
            kind: MessageKind::File as u8,
            name: Some("note.txt".into()),
            size: Some(5),
            ..Meta::message(random(), unix_ms())
        };
        let meta = meta.encode();
        let body = [&(meta.len() as u16).to_be_bytes()[..], &meta, b"hello"].concat();
        sender.seal_as(Kind::Item, &body, random(), unix_ms(), random())
    };
    for takes_files in [false, true] {
        let inbox = bob.path().join("inbox");
        std::fs::create_dir_all(&inbox).unwrap();
        let args = ["-d", inbox.to_str().unwrap()];
        let _listener = listen(&bob, &relay, if takes_files { &args } else { &[] });
        let letter = item();
        sender.await_receipts(&mut client, &letter);
        sender.post(&mut client, Box::Pair, &letter);
        let outcome = sender.outcome(&mut client, &letter);
        assert_eq!(outcome == Status::Delivered, takes_files);
        let mut files: Vec<_> =
            std::fs::read_dir(&inbox).unwrap().map(|f| f.unwrap().path()).collect();
        files.retain(|path| path.file_name().unwrap() != RECEIVED);
        assert_eq!(files.len(), usize::from(takes_files));
        if let [file] = &files[..] {
            assert!(file.to_str().unwrap().ends_with("_alice_note.txt"), "{file:?}");
            assert_eq!(std::fs::read(file).unwrap(), b"hello");
        }
    }
}

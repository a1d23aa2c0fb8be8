//! Relays come and go. What a listener says of it, what it goes on doing meanwhile, and when it gives
//! up.

use crate::testkit::{common, proxy, relay_client, relay_people};

use std::time::Duration;

use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::packet::Kind;
use common::*;
use proxy::Proxy;
use relay_client::Relay;
use relay_people::*;

#[test]
fn a_relay_that_is_the_only_way_and_was_never_reached_ends_the_listener() {
    let (bob, relay) = (Home::with_identity(), relay());
    let via = name_at(&relay, &bob, "home", free_port());
    let mut listener = Running::start(bob.command("ac-listen", &["--via", &via]));
    listener.wait_stderr("relay home: unreached: 127.0.0.1:");
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(4), "{}", listener.stderr());
    let said = listener.stderr();
    assert!(said.contains("ac-listen: relay home: 127.0.0.1:"), "{said}");
    assert_eq!(said.matches("trying again").count(), 1, "{said}");
}

#[test]
fn whoever_holds_another_key_is_no_relay_of_ours() {
    let (bob, relay, other) = (Home::with_identity(), relay(), relay());
    let via = name_at(&relay, &bob, "home", other.port);
    let mut listener = Running::start(bob.command("ac-listen", &["--via", &via]));
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(5), "{}", listener.stderr());
}

#[test]
fn beside_an_address_a_relay_that_is_not_there_ends_nothing_and_is_heard_once_it_is() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let port = free_port();
    let via = name_at(&relay, &bob, "home", port);
    let listener = Listener::spawn(&bob, &["--via", &via, "127.0.0.1:0"]);
    listener.wait_stderr("relay home: unreached");
    assert_code(&send(&alice, &[&listener.destination("bob")], b"direct\n"), 0);
    let relay = Relay::at(relay.home, &[&format!("127.0.0.1:{port}")]);
    listener.wait_stderr("listening at relay home");
    let sender = Sender::new(&alice, &bob);
    assert_eq!(sender.send(&mut relay.client(), b"by relay\n"), Status::Delivered);
    listener.wait_stdout("both", |bytes| bytes == b"direct\nby relay\n");
}

#[test]
fn one_of_two_relays_is_enough() {
    let ((alice, bob), relay, other) = (alice_and_bob(), relay(), relay());
    let names = [name_at(&other, &bob, "gone", free_port()), name_of(&relay, &bob)];
    let args = ["--via", &names[0], "--via", &names[1], "-w", "12"];
    let mut listener = Running::start(bob.command("ac-listen", &args));
    listener.wait_stderr("listening at relay home");
    let sender = Sender::new(&alice, &bob);
    assert_eq!(sender.send(&mut relay.client(), b"hi\n"), Status::Delivered);
    // Longer than it waits for relays when all of them are gone.
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    assert_eq!(listener.stdout(), b"hi\n");
}

/// Messages that flow while every link is cut again and again: AC_TEST_MESSAGES of them.
#[test]
fn cut_links_lose_double_and_disorder_nothing() {
    let count = number("AC_TEST_MESSAGES", 120);
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let proxy = Proxy::to(relay.port);
    let via = name_at(&relay, &bob, "home", proxy.port());
    let listener = listen_by(&bob, &[&via], &[]);
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    let line = |n: usize| format!("{n} {}\n", "x".repeat((n * 37) % 2500)).into_bytes();
    let mut expected = Vec::new();
    for n in 0..count {
        let letter = sender.seal(&line(n));
        sender.post(&mut client, Box::Pair, &letter);
        expected.extend(line(n));
        if n % 10 == 7 {
            proxy.interrupt();
        }
        if n % 10 == 9 {
            listener.wait_stdout("what was posted", |bytes| bytes.len() >= expected.len());
        }
    }
    listener.wait_stdout("all of it", |bytes| bytes.len() >= expected.len());
    assert!(listener.stdout() == expected);
    // Nothing is left.
    drop(listener);
    let again = listen(&bob, &relay, &[]);
    assert_eq!(sender.send(&mut client, b"last\n"), Status::Delivered);
    assert!(again.stdout().ends_with(b"last\n"));
}

#[test]
fn what_was_flushed_while_the_link_was_cut_is_acknowledged_on_the_next() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let proxy = Proxy::to(relay.port);
    let via = name_at(&relay, &bob, "home", proxy.port());
    let listener = listen_by(&bob, &[&via], &[]);
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    let letter = sender.seal(b"hi\n");
    sender.await_receipts(&mut client, &letter);
    let passed = sender.seal(b"first\n");
    sender.post(&mut client, Box::Pair, &passed);
    listener.wait_stdout("the first", |bytes| bytes == b"first\n");
    // The message comes through, and nothing back.
    proxy.freeze();
    sender.post(&mut client, Box::Pair, &letter);
    proxy.wait_held(1);
    proxy.interrupt();
    assert_eq!(sender.outcome(&mut client, &letter), Status::Delivered);
    assert_eq!(listener.stdout(), b"first\nhi\n");
    // Whoever asks again is told again, and nothing is printed twice.
    let again =
        sender.seal_as(Kind::Message, b"hi\n", letter.id.run, letter.time_ms, letter.ack_key);
    sender.post(&mut client, Box::Pair, &again);
    assert_eq!(sender.outcome(&mut client, &letter), Status::Delivered);
    assert_eq!(listener.stdout(), b"first\nhi\n");
}

#[test]
fn a_reader_that_pauses_stops_neither_the_link_nor_others() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let name = name_of(&relay, &bob);
    // A pipe that nobody reads.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command =
        bob.command("ac-listen", &["--via", &name, "-d", bob.path().to_str().unwrap()]);
    command.stdout(writer);
    let listener = Running::start(command);
    listener.wait_stderr("listening at relay home");
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    let large = vec![b'x'; 60_000];
    let letters: Vec<_> = (0..12).map(|_| sender.seal(&large)).collect();
    for letter in &letters {
        sender.post(&mut client, Box::Pair, letter);
    }
    // A file by circuit lands meanwhile.
    let via = name_of(&relay, &alice);
    let file = alice.path().join("file");
    std::fs::write(&file, vec![b'y'; 200_000]).unwrap();
    assert_code(&send(&alice, &["--via", &via, "-f", file.to_str().unwrap(), "bob"], b""), 0);
    // And who waits is told that it is here.
    let waiting = sender.seal(b"last\n");
    sender.await_receipts(&mut client, &waiting);
    sender.post(&mut client, Box::Pair, &waiting);
    assert_eq!(sender.receipt(&mut client, &waiting), Status::Received);
    let mut bytes = vec![0; 12 * 60_000 + 5];
    std::io::Read::read_exact(&mut reader, &mut bytes).unwrap();
    assert!(bytes.ends_with(b"xlast\n"));
    // With the reader still there.
    assert_eq!(sender.outcome(&mut client, &waiting), Status::Delivered);
    drop(reader);
}

#[test]
fn what_makes_no_sense_with_a_relay_is_refused() {
    let (bob, relay) = (Home::with_identity(), relay());
    let name = name_of(&relay, &bob);
    for (args, code, said) in [
        (&["--via", &name, "-u"][..], 2, "no datagrams come by a relay"),
        (&["--via", &name, "--announce"], 2, "name a port as well"),
        (&["--via", &name, "--plain"], 2, "cannot be used with"),
        (&["--via", &name, "--open", "x"], 2, "cannot be used with"),
        (&["--via", "nobody"], 3, "nobody"),
        (&["--via", "home"], 2, "does not say where it is"),
    ] {
        let output = run(bob.command("ac-listen", args), b"", Duration::from_secs(10));
        assert_code(&output, code);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
}

#[test]
fn a_relay_that_lets_no_more_be_read_is_named() {
    let (bob, relay) = (Home::with_identity(), Relay::spawn(&["--memory", "1k", "127.0.0.1:0"]));
    let listener = listen(&bob, &relay, &["--json"]);
    listener.wait_stderr("relay home: refused: it lets no more mailboxes be read");
    listener.wait_stdout("the event", |bytes| {
        String::from_utf8_lossy(bytes).contains(r#""relay":"home","status":"refused""#)
    });
}

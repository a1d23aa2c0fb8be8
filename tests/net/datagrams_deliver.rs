//! Datagrams arrive whole, once and in order, whatever the way does to them; exit status 0 says so.

use crate::testkit::{common, random::noise, scene::events, udp, udp::listen};

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{Random as _, SeededRandom};
use common::{
    DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, eventually, number, run, send,
};
use udp::{Going, Proxy};

/// One message of 64 fragments holds so much.
const MESSAGE: usize = 63_872;

/// Sends `body` and asserts that it comes out, and nothing else.
#[track_caller]
fn assert_delivers(listener_args: &[&str], sender_args: &[&str], body: &[u8], expected: &[u8]) {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &[&["-1"], listener_args].concat());
    let to = listener.destination("bob");
    let sent = send(&alice, &[&["-u", &to], sender_args].concat(), body);
    assert_code(&sent, 0);
    assert!(sent.stdout.is_empty() && sent.stderr.is_empty());
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == expected, "{} bytes came out", listener.stdout().len());
}

#[test]
fn a_short_message_arrives() {
    assert_delivers(&[], &[], b"hi\n", b"hi\n");
}

#[test]
fn an_empty_message_arrives() {
    assert_delivers(&["-0"], &[], b"", b"\0");
}

#[test]
fn every_length_around_a_fragment_and_a_message_arrives() {
    let (alice, bob) = alice_and_bob();
    let lengths = [1, 997, 998, 999, 1996, 1997, MESSAGE - 1, MESSAGE, MESSAGE + 1, 2 * MESSAGE];
    let mut listener = listen(&bob, &["-n", &lengths.len().to_string()]);
    let mut expected = Vec::new();
    for len in lengths {
        let body = noise(len as u64, len);
        assert_code(&send(&alice, &["-u", &listener.destination("bob")], &body), 0);
        expected.extend(body);
    }
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == expected);
}

#[test]
fn a_long_binary_input_arrives_whole_as_one_message() {
    let body: Vec<u8> = noise(1, 3 << 20).into_iter().map(|b| b.max(1)).collect();
    let mut expected = body.clone();
    expected.push(0);
    assert_delivers(&["-0"], &[], &body, &expected);
}

#[test]
fn an_input_that_pauses_is_one_message_and_flows_as_it_comes() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-1", "-0"]);
    let to = listener.destination("bob");
    let mut sender = Running::start(alice.command("ac-send", &["-u", &to]));
    let mut expected = Vec::new();
    for nth in 0..5 {
        let line = format!("line {nth}\n");
        sender.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        expected.extend(line.bytes());
        listener.wait_stdout("what was written so far", |out| out == expected);
    }
    sender.close_stdin();
    assert!(sender.wait_exit(DEADLINE).success());
    assert!(listener.wait_exit(DEADLINE).success());
    expected.push(0);
    assert_eq!(listener.stdout(), expected);
}

#[test]
fn many_senders_at_once_are_each_heard_whole_and_once() {
    let count = number("AC_TEST_SENDERS", 20);
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-0", "-n", &count.to_string()]);
    let to = listener.destination("bob");
    // Some of one packet, some of one message, some of a run of several.
    let body = |nth: usize| format!("{nth}:").repeat([1, 3000, 20_000][nth % 3]).into_bytes();
    std::thread::scope(|scope| {
        for nth in 0..count {
            let (alice, to) = (&alice, &to);
            scope.spawn(move || {
                let sent = run(alice.command("ac-send", &["-u", to]), &body(nth), 4 * DEADLINE);
                assert_code(&sent, 0);
            });
        }
    });
    assert!(listener.wait_exit(DEADLINE).success());
    let out = listener.stdout();
    let mut came: Vec<_> = out.strip_suffix(b"\0").unwrap().split(|b| *b == 0).collect();
    let expected: Vec<_> = (0..count).map(body).collect();
    let mut expected: Vec<_> = expected.iter().map(Vec::as_slice).collect();
    came.sort_unstable();
    expected.sort_unstable();
    assert!(came == expected);
}

#[test]
fn a_listener_hears_as_many_runs_as_it_was_asked_to_and_nothing_of_the_others() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-0", "-n", "3"]);
    let to = listener.destination("bob");
    let codes: Vec<_> = std::thread::scope(|scope| {
        let (alice, to) = (&alice, &to);
        let send = |nth| move || send(alice, &["-u", "-w", "3s", to], format!("{nth}").as_bytes());
        let senders: Vec<_> = (0..6).map(|nth| scope.spawn(send(nth))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap().status.code().unwrap()).collect()
    });
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 3, "{codes:?}");
    // Declined; or it came when nobody was left.
    assert!(codes.iter().all(|code| [0, 8, 6, 5, 4].contains(code)), "{codes:?}");
    assert_eq!(listener.stdout().len(), 6);
    for (nth, code) in codes.iter().enumerate() {
        let came = listener.stdout().contains(&nth.to_string().as_bytes()[0]);
        assert_eq!(came, *code == 0);
    }
}

#[test]
fn a_run_that_waits_while_the_last_wanted_one_flows_is_declined() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-1"]);
    let to = listener.destination("bob");
    let mut first = Running::start(alice.command("ac-send", &["-u", &to]));
    first.stdin.as_mut().unwrap().write_all(b"first").unwrap();
    listener.wait_stdout("the first message", |out| out == b"first");
    let mut second = Running::start(alice.command("ac-send", &["-u", "-vv", &to]));
    second.feed(b"second".to_vec());
    second.wait_stderr("acknowledgements");
    first.close_stdin();
    assert!(first.wait_exit(DEADLINE).success());
    assert_eq!(second.wait_exit(DEADLINE).code(), Some(8), "{}", second.stderr());
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"first");
}

#[test]
fn json_says_whose_it_is_and_that_it_came_by_udp() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-n", "2", "--json"]);
    let to = listener.destination("bob");
    let sent = send(&alice, &["-u", "--json", &to], "grüß\n".as_bytes());
    assert_code(&sent, 0);
    let result = &events(&sent.stdout, "result")[0];
    assert_eq!((&result["to"], &result["status"]), (&"bob".into(), &"delivered".into()));
    assert_eq!((&result["bytes"], &result["code"]), (&7.into(), &0.into()));
    assert_eq!(result["address"], format!("127.0.0.1:{}", listener.port()));
    assert_code(&send(&alice, &["-u", &to], b"\xff\x00"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let out = listener.stdout();
    let messages = events(&out, "message");
    assert_eq!(messages.len(), 2);
    for message in &messages {
        assert_eq!((&message["v"], &message["from"]), (&1.into(), &"alice".into()));
        assert_eq!((&message["transport"], &message["known"]), (&"udp".into(), &true.into()));
        assert_eq!((&message["seq"], &message["last"]), (&0.into(), &true.into()));
    }
    assert_eq!(messages[0]["text"], "grüß\n");
    assert_eq!(messages[1]["base64"], "/wA=");
    assert_eq!(events(&out, "listening")[0]["transport"], "udp");
    assert_eq!(events(&out, "delivered").len(), 2);
}

#[test]
fn who_is_named_with_from_is_heard() {
    assert_delivers(&["--from", "alice"], &[], b"hi\n", b"hi\n");
}

#[test]
fn anonymous_senders_are_heard_by_who_accepts_unknown_ones() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-n", "2", "--json", "--accept-unknown"]);
    let to = listener.destination("bob");
    assert_code(&send(&alice, &["-u", "-z", "-a", &to], b""), 0);
    assert_code(&send(&alice, &["-u", "-a", &to], b"one"), 0);
    assert_code(&send(&alice, &["-u", "-a", &to], b"two"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let messages = events(&listener.stdout(), "message");
    assert_eq!(messages[0]["known"], false);
    assert!(messages[0]["from"].as_str().unwrap().starts_with('?'));
    assert_ne!(messages[0]["from"], messages[1]["from"]);
}

#[test]
fn in_a_group_the_sender_is_only_a_claim() {
    let (alice, bob) = alice_and_bob();
    assert_code(&bob.keygen(&["--group", "team"]), 0);
    std::fs::create_dir_all(alice.path().join("groups")).unwrap();
    let key = |home: &Home| home.path().join("groups/team.key");
    std::fs::copy(key(&bob), key(&alice)).unwrap();
    let mut listener = listen(&bob, &["-1", "--json", "-k", "team"]);
    assert_code(&send(&alice, &["-u", &listener.destination("team")], b"all"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(events(&listener.stdout(), "message")[0]["from"], "team/alice?");
}

#[test]
fn a_probe_says_that_the_peer_is_there_and_is_no_message() {
    let (alice, bob) = alice_and_bob();
    let listener = listen(&bob, &["-0"]);
    let to = listener.destination("bob");
    let asked = send(&alice, &["-u", "-z", &to], b"");
    assert_code(&asked, 0);
    let said = String::from_utf8(asked.stderr).unwrap();
    assert_eq!(said, format!("ac-send: bob: there, 127.0.0.1:{}\n", listener.port()));
    assert_code(&send(&alice, &["-u", &to], b"hi"), 0);
    listener.wait_stdout("the message", |out| out == b"hi\0");
}

#[test]
fn without_acks_it_is_sent_and_arrives_on_a_good_way() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-1"]);
    let to = listener.destination("bob");
    let body = noise(7, 3 * MESSAGE);
    let sent = send(&alice, &["-u", "--no-ack", "-v", "--json", &to], &body);
    assert_code(&sent, 0);
    let said = String::from_utf8(sent.stderr).unwrap();
    assert_eq!(said, format!("ac-send: bob: {} bytes sent\n", body.len()));
    assert_eq!(events(&sent.stdout, "result")[0]["status"], "sent");
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == body);
}

#[test]
fn without_acks_nobody_need_be_there() {
    let (alice, _bob) = alice_and_bob();
    let black_hole = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("bob@{}", black_hole.local_addr().unwrap());
    assert_code(&send(&alice, &["-u", "--no-ack", &to], b"hi"), 0);
    black_hole.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(black_hole.recv(&mut [0; 2000]).unwrap(), 1200);
}

#[test]
fn a_listener_that_has_heard_enough_still_answers_who_lost_its_last_ack() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-1"]);
    // The first answer says received, the second delivered; both of those that follow are lost too.
    let mut answers = 0;
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let proxy = Proxy::before(listener.port(), move |going, packet| {
        if going == Going::ToListener {
            *count.lock().unwrap() += 1;
            return vec![packet];
        }
        answers += 1;
        if (2..=4).contains(&answers) { vec![] } else { vec![packet] }
    });
    assert_code(&send(&alice, &["-u", &proxy.destination("bob")], b"hi\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"hi\n");
    assert!(*asked.lock().unwrap() >= 4);
}

#[test]
fn a_way_that_doubles_and_reorders_every_packet_delivers_once_and_in_order() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-1", "-0"]);
    let mut held: Vec<(Going, Vec<u8>)> = Vec::new();
    let mut random = SeededRandom::new(3);
    let proxy = Proxy::before(listener.port(), move |going, packet| {
        held.push((going, packet.clone()));
        let mut out = vec![packet];
        let mine: Vec<_> = (0..held.len()).filter(|i| held[*i].0 == going).collect();
        if mine.len() > 5 {
            let mut byte = [0];
            random.fill(&mut byte);
            out.push(held.remove(mine[usize::from(byte[0]) % mine.len()]).1);
        }
        // The newest last: everything comes twice, one of the two late.
        out.reverse();
        out
    });
    let body: Vec<u8> = noise(5, 500_000).into_iter().map(|b| b.max(1)).collect();
    assert_code(&send(&alice, &["-u", &proxy.destination("bob")], &body), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let mut expected = body;
    expected.push(0);
    assert!(listener.stdout() == expected);
}

#[test]
fn a_way_that_loses_a_third_of_all_packets_delivers_once_and_in_order() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-1", "-0"]);
    // Not every third: rounds of three packets would lose the same one each time.
    let mut dice = noise(7, 65_536).into_iter().cycle();
    let proxy = Proxy::before(listener.port(), move |_, packet| match dice.next() {
        Some(0..85) => vec![],
        _ => vec![packet],
    });
    let body: Vec<u8> = noise(6, 300_000).into_iter().map(|b| b.max(1)).collect();
    assert_code(&send(&alice, &["-u", &proxy.destination("bob")], &body), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let mut expected = body;
    expected.push(0);
    assert!(listener.stdout() == expected);
}

#[test]
fn an_address_is_not_given_up_while_the_input_idles_and_nothing_was_asked_of_it() {
    let (alice, bob) = alice_and_bob();
    let listener = listen(&bob, &[]);
    let holes = [(); 3].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let ports = holes.iter().map(|hole| hole.local_addr().unwrap().port());
    let addresses = [listener.port()].into_iter().chain(ports);
    let flags = addresses.flat_map(|port| ["--address".into(), format!("127.0.0.1:{port}")]);
    let args: Vec<String> = ["-y".into()].into_iter().chain(flags).collect();
    let public = bob.keygen(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_code(&public, 0);
    std::fs::write(alice.path().join("contacts/bob.pub"), &public.stdout).unwrap();
    // Four addresses share 2 s; the first sign of life is due after a third of that.
    let mut sender = Running::start(alice.command("ac-send", &["-u", "-w", "2s", "bob"]));
    let until = Instant::now() + Duration::from_millis(2500);
    eventually("the end of a pause", DEADLINE, || (Instant::now() >= until).then_some(()));
    sender.feed(b"late\n".to_vec());
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    listener.wait_stdout("the message", |out| out == b"late\n");
}

#[test]
fn without_acks_an_input_that_pauses_arrives_too() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-1"]);
    let to = listener.destination("bob");
    let mut sender = Running::start(alice.command("ac-send", &["-u", "--no-ack", "-vv", &to]));
    for line in ["one\n", "two\n", "three\n"] {
        sender.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        // Not before it has gone, so that each line is a message of its own.
        eventually("the line's packet", DEADLINE, || {
            sender.stderr().contains(line.trim()).then_some(())
        });
    }
    sender.close_stdin();
    assert!(sender.wait_exit(DEADLINE).success());
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"one\ntwo\nthree\n");
}

#[test]
fn a_listener_on_every_address_answers_from_the_one_that_was_asked() {
    let second = std::net::UdpSocket::bind("127.0.0.2:0").is_ok();
    if !common::possible(second, "give the loopback interface 127.0.0.2") {
        return;
    }
    let (alice, bob) = alice_and_bob();
    for address in ["0", "0.0.0.0:0"] {
        let listener = Listener::spawn(&bob, &["-u", address]);
        let to = format!("bob@127.0.0.2:{}", listener.port());
        assert_code(&send(&alice, &["-u", "-w", "5s", "-z", &to], b""), 0);
        assert_code(&send(&alice, &["-u", "-w", "5s", &to], b"hi\n"), 0);
        listener.wait_stdout("the message", |out| out == b"hi\n");
    }
}

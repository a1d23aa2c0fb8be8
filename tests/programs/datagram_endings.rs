//! How a run of datagrams ends, and what both programs then say: the rows of ac(7)'s table that
//! apply to UDP.
//!
//! Known limit, not tested here: a message is given up 5 minutes after it was made, so a reader
//! that pauses for longer than that ends the run with exit status 6.

use crate::testkit::{common, keys, measure::alone, udp, udp::listen};

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _, pipe};
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{OsRandom, random};
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::packet::{
    FRAGMENT_LEN, Head, Kind, LocalKey, MessageId, PACKET_LEN, Sealer, Way,
};
use anonchat::proto::datagram::receiver::{Arrival, Receiver};
use anonchat::proto::time::Now;
use anonchat::sched::mux::HELD_TIME;
use common::{
    DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, eventually, program, run, send,
};
use rustix::process::Signal;

/// A listener that writes to `stdout`.
fn listen_to(home: &Home, args: &[&str], stdout: impl Into<Stdio>) -> Listener {
    let mut command = home.command("ac-listen", &[&["-u", "127.0.0.1:0"], args].concat());
    command.stdout(stdout);
    Listener::start(command)
}

/// A sender that has said `text`, of which `listener` has written everything, and goes on.
fn in_the_middle(home: &Home, listener: &Listener, args: &[&str], text: &str) -> Running {
    let to = listener.destination("bob");
    let mut sender = Running::start(home.command("ac-send", &[&["-u", &to], args].concat()));
    sender.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    listener.wait_stdout("the beginning", |out| out.ends_with(text.as_bytes()));
    sender
}

/// Lets time pass: for what must not happen meanwhile.
fn pass(time: Duration, mut meanwhile: impl FnMut()) {
    let end = Instant::now() + time;
    eventually("the end of a pause", DEADLINE, || {
        meanwhile();
        (Instant::now() >= end).then_some(())
    });
}

#[test]
fn when_stdin_ends_everything_is_acknowledged_and_the_next_is_heard() {
    let (alice, bob) = alice_and_bob();
    let listener = listen(&bob, &[]);
    let mut sender = in_the_middle(&alice, &listener, &[], "one\n");
    assert!(sender.poll_exit().is_none());
    sender.close_stdin();
    assert!(sender.wait_exit(DEADLINE).success());
    assert_code(&send(&alice, &["-u", &listener.destination("bob")], b"two\n"), 0);
    listener.wait_stdout("both", |out| out == b"one\ntwo\n");
}

#[test]
fn a_full_disk_is_8_for_the_sender_and_1_for_the_listener() {
    let (alice, bob) = alice_and_bob();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut listener = listen_to(&bob, &[], full);
    let sent = send(&alice, &["-u", &listener.destination("bob")], b"hi\n");
    assert_code(&sent, 8);
    assert_eq!(sent.stderr, b"ac-send: bob: declined by the recipient\n");
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
    assert!(listener.stderr().contains("cannot write the output: no space left on device"));
}

#[test]
fn a_reader_that_goes_away_within_a_run_is_8_for_the_sender_and_1_for_the_listener() {
    let (alice, bob) = alice_and_bob();
    let (mut reader, writer) = pipe().unwrap();
    let mut listener = listen_to(&bob, &[], writer);
    let to = listener.destination("bob");
    let mut sender = Running::start(alice.command("ac-send", &["-u", &to]));
    sender.feed(vec![b'x'; 4 << 20]);
    reader.read_exact(&mut [0; 1000]).unwrap();
    drop(reader);
    let code = sender.wait_exit(DEADLINE).code();
    assert!([Some(8), Some(6)].contains(&code), "{code:?}: {}", sender.stderr());
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
}

#[test]
fn an_idle_listener_whose_reader_goes_away_ends_at_once() {
    let _alone = alone();
    let (_alice, bob) = alice_and_bob();
    let (reader, writer) = pipe().unwrap();
    let mut listener = listen_to(&bob, &[], writer);
    let began = Instant::now();
    drop(reader);
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
    // Nobody was heard, so nobody can have lost an ack.
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}

#[test]
fn a_reader_that_pauses_longer_than_anybodys_patience_loses_nothing() {
    let (alice, bob) = alice_and_bob();
    let (mut reader, writer) = pipe().unwrap();
    let mut listener = listen_to(&bob, &["-n", "2", "-w", "1s"], writer);
    let to = listener.destination("bob");
    let mut sender = Running::start(alice.command("ac-send", &["-u", "-w", "1s", &to]));
    sender.feed(vec![b'x'; 1 << 20]);
    // Something of it is there, so what follows comes behind it.
    let mut out = vec![0; 1000];
    reader.read_exact(&mut out).unwrap();
    let mut other = Running::start(alice.command("ac-send", &["-u", "-w", "1s", &to]));
    other.feed(b"behind it\n".to_vec());
    pass(Duration::from_millis(3500), || {
        assert!(sender.poll_exit().is_none(), "{}", sender.stderr());
        assert!(other.poll_exit().is_none(), "{}", other.stderr());
    });
    // Everybody else is served meanwhile.
    assert_code(&send(&alice, &["-u", "-z", &to], b""), 0);
    let rest = std::thread::spawn(move || {
        reader.read_to_end(&mut out).unwrap();
        out
    });
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    assert!(other.wait_exit(DEADLINE).success(), "{}", other.stderr());
    assert!(listener.wait_exit(DEADLINE).success());
    let out = rest.join().unwrap();
    assert!(out[1000..1 << 20].iter().all(|byte| *byte == b'x'));
    assert_eq!(&out[1 << 20..], b"behind it\n");
}

#[test]
fn a_sender_that_is_killed_is_cut_off_within_the_listeners_patience_and_others_are_heard() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-w", "2s", "--status-fd", "2"]);
    let to = listener.destination("bob");
    let mut sender = in_the_middle(&alice, &listener, &[], "half");
    let killed = Instant::now();
    sender.kill();
    // It waits behind the dead one, and is heard when that is cut.
    assert_code(&send(&alice, &["-u", &to], b" whole\n"), 0);
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    listener.wait_stderr("alice: the message was cut off");
    assert_code(&send(&alice, &["-u", &to], b"next\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"half whole\nnext\n");
    assert_eq!(listener.stderr().matches(r#""event":"cut""#).count(), 1);
    assert_eq!(listener.stderr().matches(r#""event":"delivered""#).count(), 2);
}

#[test]
fn an_owner_that_pauses_while_another_waits_is_cut_though_it_is_alive() {
    let (alice, bob) = alice_and_bob();
    let listener = listen(&bob, &["-w", "1500ms"]);
    let to = listener.destination("bob");
    let mut owner = in_the_middle(&alice, &listener, &["-w", "1s"], "owner ");
    assert_code(&send(&alice, &["-u", &to], b"other\n"), 0);
    assert_eq!(owner.wait_exit(DEADLINE).code(), Some(8), "{}", owner.stderr());
    listener.wait_stdout("the one that waited", |out| out == b"owner other\n");
}

#[test]
fn a_sender_that_has_not_said_a_byte_keeps_nobody_waiting_though_it_is_stopped() {
    let (alice, bob) = alice_and_bob();
    let listener = listen(&bob, &["-vv", "-w", "20s"]);
    let to = listener.destination("bob");
    let silent = alice.command("ac-send", &["-u", "-w", "1s", &to]);
    let mut silent = Running::start(silent);
    // A third of its patience passes, and it says that it is there.
    listener.wait_stderr("MESSAGE, 0 bytes");
    pass(2 * HELD_TIME, || ());
    silent.signal(Signal::STOP);
    let began = Instant::now();
    assert_code(&send(&alice, &["-u", &to], b"other\n"), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    silent.signal(Signal::CONT);
    silent.feed(b"at last\n".to_vec());
    assert_eq!(silent.wait_exit(DEADLINE).code(), Some(0), "{}", silent.stderr());
    listener.wait_stdout("both", |out| out == b"other\nat last\n");
}

#[test]
fn a_sender_that_is_stopped_in_mid_run_keeps_others_waiting_for_the_listeners_patience() {
    let (alice, bob) = alice_and_bob();
    let listener = listen(&bob, &["-w", "1500ms"]);
    let to = listener.destination("bob");
    let mut owner = in_the_middle(&alice, &listener, &["-w", "30s"], "owner ");
    owner.signal(Signal::STOP);
    let began = Instant::now();
    assert_code(&send(&alice, &["-u", &to], b"other\n"), 0);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    listener.wait_stdout("the one that waited", |out| out == b"owner other\n");
}

#[test]
fn a_listener_that_is_killed_is_6_for_the_sender_within_its_patience() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &[]);
    let mut sender = in_the_middle(&alice, &listener, &["-w", "1s"], "half");
    listener.kill();
    sender.feed(b"other half".to_vec());
    let began = Instant::now();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6), "{}", sender.stderr());
    assert!(began.elapsed() < Duration::from_secs(8));
    assert!(sender.stderr().contains("cut off") && sender.stderr().contains("1 s"));
}

#[test]
fn a_listener_that_is_restarted_in_the_middle_of_a_message_prints_all_of_it() {
    let (alice, bob) = alice_and_bob();
    // Its reader pauses: a message that is there stays in the middle.
    let (reader, mut writer) = pipe().unwrap();
    writer.write_all(&[b'.'; 1 << 16]).unwrap();
    let mut listener = listen_to(&bob, &["-vv"], writer);
    let body: Vec<u8> = (0..30_000).map(|n| (n % 251) as u8).collect();
    let to = listener.destination("bob");
    let mut sender = Running::start(alice.command("ac-send", &["-u", "-w", "3s", &to]));
    sender.feed(body.clone());
    listener.wait_stderr("MESSAGE, 30000 bytes");
    let port = listener.port();
    listener.kill();
    drop(reader);
    let again = format!("127.0.0.1:{port}");
    let mut listener = Listener::spawn(&bob, &["-u", "-1", &again]);
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(0), "{}", sender.stderr());
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == body);
}

#[test]
fn a_listener_that_is_restarted_in_the_middle_of_a_run_is_6_for_the_sender_and_prints_nothing() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &[]);
    let mut sender = in_the_middle(&alice, &listener, &["-vv", "-w", "1s"], "half");
    // Or it would say that half again, to a listener that has heard nothing of the run: first it is
    // told that its packet came, and then that the message is printed.
    eventually("an acknowledgement of what was printed", DEADLINE, || {
        let said = sender.stderr();
        let acks = said.lines().filter(|line| line.starts_with("<- wire  32 bytes"));
        (acks.collect::<BTreeSet<_>>().len() > 1).then_some(())
    });
    let port = listener.port();
    listener.kill();
    let listener = Listener::spawn(&bob, &["-u", &format!("127.0.0.1:{port}")]);
    sender.feed(b"other half".to_vec());
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6), "{}", sender.stderr());
    assert!(sender.stderr().contains("was silent for 1 s"), "{}", sender.stderr());
    assert_eq!(listener.stdout(), b"");
}

/// Somebody who has `home`'s key, acknowledges the first packet that comes, and is gone.
fn acknowledges_and_goes(home: &Home) -> (u16, std::thread::JoinHandle<()>) {
    let (me, socket) = (keys::identity(home), UdpSocket::bind("127.0.0.1:0").unwrap());
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let key = LocalKey::new(me.pair.duplicate(), me.access.as_bytes());
    let mut receiver = Receiver::new(vec![key]);
    let gone = std::thread::spawn(move || {
        let mut space = [0; PACKET_LEN];
        let (_, from) = socket.recv_from(&mut space).unwrap();
        let now = Now { mono: Duration::ZERO, unix_ms: common::unix_ms() };
        let mut admit = |_: &Arrival<'_>| Admission::Contact;
        receiver.feed(&space, from, now, &mut admit, &mut Vec::new());
        for acks in receiver.take_acks() {
            socket.send_to(&acks.bytes, acks.to).unwrap();
        }
    });
    (port, gone)
}

#[test]
fn a_listener_that_is_killed_after_its_first_ack_is_always_6() {
    let (alice, bob) = alice_and_bob();
    for count in [1, 2, 1, 2, 1, 1] {
        let gone: Vec<_> = (0..count).map(|_| acknowledges_and_goes(&bob)).collect();
        let to: Vec<_> = gone.iter().map(|(port, _)| format!("bob@127.0.0.1:{port}")).collect();
        let to: Vec<_> = to.iter().map(String::as_str).collect();
        let sent = send(&alice, &[&["-u", "-w", "200ms"], &to[..]].concat(), &[b'x'; 60_000]);
        assert_code(&sent, 6);
        gone.into_iter().for_each(|(_, gone)| gone.join().unwrap());
    }
}

#[test]
fn a_listener_that_is_killed_while_the_input_idles_is_6_for_the_sender_too() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &[]);
    let mut sender = in_the_middle(&alice, &listener, &["-w", "1s"], "half");
    listener.kill();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6), "{}", sender.stderr());
}

#[test]
fn where_nobody_listens_is_4_at_once() {
    let (alice, _bob) = alice_and_bob();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let to = format!("bob@127.0.0.1:{port}");
    for args in [["-u", to.as_str()].as_slice(), &["-u", "-z", &to]] {
        let began = Instant::now();
        let sent = send(&alice, args, b"hi\n");
        assert_code(&sent, 4);
        assert!(began.elapsed() < Duration::from_secs(5));
        let said = String::from_utf8(sent.stderr).unwrap();
        let first = format!("ac-send: bob: 127.0.0.1:{port}: connection refused\n");
        assert_eq!(said, format!("{first}hint: nobody listens on that port\n"));
    }
}

#[test]
fn where_nobody_answers_is_5_after_the_patience_that_was_asked_for() {
    let (alice, _bob) = alice_and_bob();
    let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("bob@{}", hole.local_addr().unwrap());
    for args in [["-u", "-w", "1s", &to].as_slice(), &["-u", "-z", "-w", "1s", &to]] {
        let began = Instant::now();
        let sent = send(&alice, args, b"hi\n");
        assert_code(&sent, 5);
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
        let said = String::from_utf8(sent.stderr).unwrap();
        assert!(said.contains("gave no proof of the key within 1 s\nhint: "), "{said}");
    }
}

#[test]
fn where_nobody_answers_is_5_after_10_seconds() {
    let (alice, _bob) = alice_and_bob();
    let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("bob@{}", hole.local_addr().unwrap());
    let began = Instant::now();
    assert_code(&send(&alice, &["-u", &to], b"hi\n"), 5);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn an_input_that_idles_longer_than_the_listeners_patience_is_kept_alive() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-1", "-w", "1500ms"]);
    let mut sender = in_the_middle(&alice, &listener, &["-w", "1s"], "before ");
    pass(Duration::from_secs(4), || {
        assert!(sender.poll_exit().is_none(), "{}", sender.stderr());
        assert!(listener.poll_exit().is_none(), "{}", listener.stderr());
    });
    sender.feed(b"after\n".to_vec());
    assert!(sender.wait_exit(DEADLINE).success());
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    assert_eq!(listener.stdout(), b"before after\n");
}

#[test]
fn a_listener_that_hears_nobody_for_its_patience_is_4() {
    let (_alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-w", "300ms"]);
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(4));
    assert!(listener.stderr().contains("heard nobody for 0.3 s"));
}

#[test]
fn both_die_of_the_signal_that_they_get() {
    let (alice, bob) = alice_and_bob();
    for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
        let mut listener = listen(&bob, &[]);
        let mut sender = in_the_middle(&alice, &listener, &["-w", "1s"], "half");
        sender.signal(signal);
        assert_eq!(sender.wait_exit(DEADLINE).signal(), Some(signal.as_raw()));
        let mut sender = in_the_middle(&alice, &listen(&bob, &[]), &["-w", "1s"], "half");
        listener.signal(signal);
        assert_eq!(listener.wait_exit(DEADLINE).signal(), Some(signal.as_raw()));
        sender.kill();
    }
}

#[test]
fn a_sender_that_waits_for_an_answer_dies_of_a_signal_at_once() {
    let (alice, _bob) = alice_and_bob();
    let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("bob@{}", hole.local_addr().unwrap());
    for args in [["-u", to.as_str()].as_slice(), &["-u", "-z", &to]] {
        let mut sender = Running::start(alice.command("ac-send", args));
        sender.feed(b"hi".to_vec());
        hole.set_read_timeout(Some(DEADLINE)).unwrap();
        hole.recv(&mut [0; 2000]).unwrap();
        sender.signal(Signal::TERM);
        assert_eq!(sender.wait_exit(DEADLINE).signal(), Some(Signal::TERM.as_raw()));
    }
}

#[test]
fn stdin_may_be_a_file_or_dev_null_or_closed() {
    let (alice, bob) = alice_and_bob();
    let mut listener = listen(&bob, &["-0", "-n", "4"]);
    let to = listener.destination("bob");
    let file = alice.path().join("input");
    let body = vec![b'y'; 150_000];
    std::fs::write(&file, &body).unwrap();
    for input in [file.as_path(), "/dev/null".as_ref()] {
        let mut command = alice.command("ac-send", &["-u", &to]);
        command.stdin(File::open(input).unwrap());
        assert_code(&run(command, b"", DEADLINE), 0);
    }
    let mut closed = Command::new("sh");
    closed.args(["-c", "exec \"$0\" -u \"$1\" <&-"]).arg(program("ac-send")).arg(&to);
    alice.at_home(&mut closed);
    assert_code(&run(closed, b"", DEADLINE), 0);
    assert_code(&send(&alice, &["-u", &to], b"end"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == [&body[..], b"\0\0\0end\0"].concat());
}

#[test]
fn an_input_that_cannot_be_read_is_1_and_no_end_of_the_message() {
    let (alice, bob) = alice_and_bob();
    let listener = listen(&bob, &["-0"]);
    let to = listener.destination("bob");
    let mut command = alice.command("ac-send", &["-u", &to]);
    command.stdin(File::open("/").unwrap());
    assert_code(&run(command, b"", DEADLINE), 1);
    assert_code(&send(&alice, &["-u", &to], b"hi"), 0);
    listener.wait_stdout("only what could be read", |out| out == b"hi\0");
}

#[test]
fn a_run_that_lost_something_for_good_frees_the_output_at_once() {
    let (alice, bob) = alice_and_bob();
    let listener = listen(&bob, &[]);
    let (me, to) = (keys::identity(&alice), keys::contact(&bob));
    let sealer = Sealer::new(&me.pair, &to.public, to.access.as_bytes());
    let (run, time_ms, line) = (random(), common::unix_ms(), udp::Stranger::to(listener.port()));
    let say = |sequence, of, body: &[u8]| {
        let (kind, way, id) = (Kind::Message, Way::Network, MessageId { run, sequence });
        let head = Head { kind, way, more: true, id, time_ms, ack_key: &[7; 32], fragment: 0, of };
        let mut packet = [0; PACKET_LEN];
        sealer.seal(&head, body, &mut OsRandom, &mut packet);
        line.send(&packet);
    };
    say(0, 1, b"begun ");
    listener.wait_stdout("the beginning", |out| out == b"begun ");
    eventually("the end of a run with a gap", DEADLINE, || {
        say(1, 2, &[b'x'; FRAGMENT_LEN]);
        say(2, 1, b"lost");
        listener.stderr().contains("alice: the message was cut off").then_some(())
    });
    // Less than the 30 s after which a silent owner of the output makes way.
    let other = ["-u", "-w", "5", &listener.destination("bob")];
    assert_code(&send(&alice, &other, b"next\n"), 0);
    assert_eq!(listener.stdout(), b"begun next\n");
}

//! How a stream ends, over TCP: each row of the table in ac(7).

use crate::testkit::{
    caller::shake,
    common,
    keys::{contact, identity},
    proxy,
    screen::terminal,
};

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::KeyPair;
use anonchat::proto::stream::handshake::{CONFIRM_LEN, HELLO_LEN, Opened, REPLY_LEN, Responding};
use anonchat::proto::stream::meta::Welcome;
use anonchat::proto::stream::outgoing::Outgoing;
use anonchat::proto::stream::record::Kind;
use anonchat::proto::stream::session::Session;
use common::{
    DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, befriend, program, run, send,
    unix_ms,
};
use proxy::Proxy;
use rustix::process::Signal;

/// More than everything between the two programs' pipes can hold, sockets included.
const LONG: usize = 24 << 20;

/// Bob's listener, whose stdout only the test reads.
fn listen_into_pipe(bob: &Home, args: &[&str]) -> (Listener, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = bob.command("ac-listen", &[args, &["127.0.0.1:0"]].concat());
    command.stdout(writer);
    (Listener::start(command), reader)
}

fn start_send(home: &Home, args: &[&str]) -> Running {
    Running::start(home.command("ac-send", args))
}

/// Bytes in which a shift or a swap shows.
fn long() -> Vec<u8> {
    (0..LONG as u32 / 4).flat_map(u32::to_le_bytes).collect()
}

/// Feeds a message that does not end, until the listener has let some of it through.
fn send_without_end(home: &Home, args: &[&str]) -> Running {
    let mut sender = start_send(home, args);
    sender.stdin.as_mut().unwrap().write_all(b"begun ").unwrap();
    sender
}

fn spent(since: Instant) -> Duration {
    since.elapsed()
}

#[test]
fn the_end_of_stdin_ends_the_message_and_the_listener_hears_the_next() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    for text in ["first\n", "", "second\n"] {
        assert_code(&send(&alice, &[&listener.destination("bob")], text.as_bytes()), 0);
    }
    listener.wait_stdout("both messages", |out| out == b"first\nsecond\n");
}

#[test]
fn every_kind_of_stdin_works() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-0", "-n", "6", "127.0.0.1:0"]);
    let to = listener.destination("bob");
    let file = alice.path().join("input");
    std::fs::write(&file, "from a file").unwrap();
    let fifo = alice.path().join("fifo");
    let mode = rustix::fs::Mode::from_bits_truncate(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    for script in [
        "\"$0\" \"$1\" <\"$2/input\"",
        "\"$0\" \"$1\" </dev/null",
        "\"$0\" \"$1\" <&-",
        "echo from a fifo >\"$2/fifo\" & \"$0\" \"$1\" <\"$2/fifo\"",
        "echo from a pipe | \"$0\" \"$1\"",
        // The rest of a file whose beginning was read already.
        "(read -r line; \"$0\" \"$1\") <<END\nread\nfrom a document\nEND\n",
    ] {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(program("ac-send")).arg(&to).arg(alice.path());
        alice.at_home(&mut shell);
        let sent = run(shell, b"", DEADLINE);
        assert!(sent.status.success(), "{script}: {}", String::from_utf8_lossy(&sent.stderr));
    }
    assert!(listener.wait_exit(DEADLINE).success());
    let heard = String::from_utf8(listener.stdout()).unwrap();
    let heard: Vec<_> = heard.split('\0').collect();
    assert_eq!(
        heard,
        ["from a file", "", "", "from a fifo\n", "from a pipe\n", "from a document\n", ""]
    );
}

#[test]
fn a_terminal_is_read_to_its_end_of_file() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let Some((mut keyboard, terminal)) = terminal() else { return };
    let mut command = alice.command("ac-send", &[&listener.destination("bob")]);
    command.stdin(terminal);
    let mut sender = Running::start(command);
    keyboard.write_all(b"typed\n\x04").unwrap();
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    listener.wait_stdout("what was typed", |out| out == b"typed\n");
}

#[test]
fn a_reader_that_goes_away_ends_the_listener_and_is_no_delivery() {
    let (alice, bob) = alice_and_bob();
    let (mut listener, mut reader) = listen_into_pipe(&bob, &[]);
    let mut sender = start_send(&alice, &[&listener.destination("bob")]);
    sender.feed(long());
    let mut first = [0; 1];
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1), "{}", listener.stderr());
    assert!(listener.stderr().contains("ac-listen: cannot write the output: broken pipe"));
    let code = sender.wait_exit(DEADLINE).code();
    assert!(matches!(code, Some(6 | 8)), "{code:?}: {}", sender.stderr());
}

#[test]
fn a_reader_that_goes_away_ends_an_idle_listener_at_once() {
    let (_alice, bob) = alice_and_bob();
    let (mut listener, reader) = listen_into_pipe(&bob, &[]);
    drop(reader);
    let began = Instant::now();
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
    assert!(spent(began) < Duration::from_secs(2));
}

#[test]
fn a_reader_that_goes_away_ends_a_listener_whose_message_pauses() {
    let (alice, bob) = alice_and_bob();
    let (mut listener, mut reader) = listen_into_pipe(&bob, &[]);
    let mut sender = send_without_end(&alice, &[&listener.destination("bob")]);
    reader.read_exact(&mut [0; 6]).unwrap();
    drop(reader);
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(8), "{}", sender.stderr());
}

#[test]
fn a_full_disk_is_no_delivery() {
    let (alice, bob) = alice_and_bob();
    for size in [3, LONG] {
        let mut command = bob.command("ac-listen", &["127.0.0.1:0"]);
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
        let mut listener = Listener::start(command);
        let sent = send(&alice, &[&listener.destination("bob")], &vec![b'x'; size]);
        assert_code(&sent, 8);
        assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
    }
}

#[test]
fn a_reader_that_pauses_stalls_only_what_is_for_it() {
    let (alice, bob) = alice_and_bob();
    let carol = Home::with_identity();
    befriend(&carol, "carol", &bob, "bob");
    let (mut listener, mut reader) = listen_into_pipe(&bob, &["-n", "2", "-w", "1s"]);
    let to = listener.destination("bob");
    let mut long_one = start_send(&alice, &["-w", "1s", &to]);
    long_one.feed(long());
    let mut heard = vec![0; 1];
    reader.read_exact(&mut heard).unwrap();
    let mut waits = start_send(&carol, &["-w", "1s", &to]);
    waits.feed(b"the second message".to_vec());
    let mut stopped = start_send(&carol, &["-w", "1s", &to]);

    // The promise is about time itself: nobody gives up while the reader sleeps for 4 times -w.
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        for running in [&mut long_one, &mut waits, &mut stopped, &mut *listener] {
            assert!(running.poll_exit().is_none(), "{}", running.stderr());
        }
        // Nobody waits in a queue for a handshake either.
        assert_code(&send(&alice, &["-z", &to], b""), 0);
    }
    stopped.signal(Signal::INT);
    assert_eq!(stopped.wait_exit(DEADLINE).signal(), Some(Signal::INT.as_raw()));

    reader.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), LONG + 18, "{}", listener.stderr());
    assert!(heard[..LONG] == long() && heard.ends_with(b"the second message"));
    for running in [&mut long_one, &mut waits, &mut *listener] {
        assert!(running.wait_exit(DEADLINE).success(), "{}", running.stderr());
    }
}

#[test]
fn a_listener_whose_reader_pauses_dies_of_a_signal_at_once() {
    let (alice, bob) = alice_and_bob();
    let (mut listener, mut reader) = listen_into_pipe(&bob, &[]);
    let mut sender = start_send(&alice, &[&listener.destination("bob")]);
    sender.feed(long());
    reader.read_exact(&mut [0; 1]).unwrap();
    listener.signal(Signal::TERM);
    let began = Instant::now();
    assert_eq!(listener.wait_exit(DEADLINE).signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6));
    assert!(spent(began) < Duration::from_secs(3));
}

#[test]
fn a_killed_sender_is_reported_and_others_are_heard() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let to = listener.destination("bob");
    let mut sender = send_without_end(&alice, &[&to]);
    listener.wait_stdout("the beginning", |out| out == b"begun ");
    sender.kill();
    listener.wait_stderr("ac-listen: alice: the message was cut off: ");
    assert_code(&send(&alice, &[&to], b"next\n"), 0);
    listener.wait_stdout("the next", |out| out == b"begun next\n");
}

#[test]
fn a_killed_listener_ends_the_sender_at_once() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let mut idle = send_without_end(&alice, &[&listener.destination("bob")]);
    listener.wait_stdout("the beginning", |out| out == b"begun ");
    listener.kill();
    let began = Instant::now();
    assert_eq!(idle.wait_exit(DEADLINE).code(), Some(6), "{}", idle.stderr());
    assert!(spent(began) < Duration::from_secs(2));
}

#[test]
fn an_interrupted_sender_tells_the_listener() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let to = listener.destination("bob");
    let mut sender = send_without_end(&alice, &[&to]);
    listener.wait_stdout("the beginning", |out| out == b"begun ");
    sender.signal(Signal::INT);
    assert_eq!(sender.wait_exit(DEADLINE).signal(), Some(Signal::INT.as_raw()));
    listener.wait_stderr("alice: the message was cut off: the sender was stopped");
    assert_code(&send(&alice, &[&to], b"next\n"), 0);
}

#[test]
fn a_stopped_listener_tells_the_sender() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let mut sender = send_without_end(&alice, &[&listener.destination("bob")]);
    listener.wait_stdout("the beginning", |out| out == b"begun ");
    listener.signal(Signal::TERM);
    assert_eq!(listener.wait_exit(DEADLINE).signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6));
    sender.wait_stderr("ac-send: bob: cut off: the recipient was stopped");
}

#[test]
fn a_dead_network_ends_the_sender_after_its_patience_and_the_listener_goes_on() {
    let (alice, bob) = alice_and_bob();
    let carol = Home::with_identity();
    befriend(&carol, "carol", &bob, "bob");
    let listener = Listener::spawn(&bob, &["-w", "2s", "127.0.0.1:0"]);
    let proxy = Proxy::to(listener.port());
    let mut sender = send_without_end(&alice, &["-w", "1s", &proxy.destination("bob")]);
    listener.wait_stdout("the beginning", |out| out == b"begun ");
    proxy.freeze();
    let began = Instant::now();
    // Others, who keep the listener from ending for its own silence.
    let to = listener.destination("bob");
    while !listener.stderr().contains("alice: the message was cut off") {
        assert!(spent(began) < Duration::from_secs(10), "{}", listener.stderr());
        assert_code(&send(&carol, &[&to], b"x"), 0);
    }
    assert!(spent(began) < Duration::from_secs(5));
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6));
    sender.wait_stderr("was silent for 1 s");
    assert_code(&send(&carol, &[&to], b"next\n"), 0);
}

#[test]
fn a_dead_network_ends_a_sender_that_pours_too() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let proxy = Proxy::to(listener.port());
    let mut sender = start_send(&alice, &["-w", "1s", &proxy.destination("bob")]);
    sender.feed(vec![b'x'; 4 * LONG]);
    proxy.wait_passed(1 << 20);
    proxy.freeze();
    let began = Instant::now();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6));
    assert!(spent(began) < Duration::from_secs(4));
}

#[test]
fn a_truncated_stream_is_never_a_delivery() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    for passed in [2000, 300_000, 3 << 20] {
        let proxy = Proxy::to(listener.port());
        let mut sender = start_send(&alice, &[&proxy.destination("bob")]);
        sender.feed(vec![b'x'; 4 * LONG]);
        proxy.wait_passed(passed);
        proxy.cut();
        let code = sender.wait_exit(DEADLINE).code();
        // Cut before WELCOME came, it cannot know that it was let in.
        assert!(matches!(code, Some(6)) || (passed == 2000 && code == Some(5)), "{code:?}");
    }
    listener.wait_stderr("cut off");
    assert_code(&send(&alice, &[&listener.destination("bob")], b"next\n"), 0);
}

#[test]
fn a_stream_cut_between_its_end_and_the_acknowledgement_is_6() {
    let (alice, bob) = alice_and_bob();
    // The reader has not read everything when the cut comes, so nothing can be acknowledged.
    let (listener, mut reader) = listen_into_pipe(&bob, &[]);
    let proxy = Proxy::to(listener.port());
    let mut sender = start_send(&alice, &[&proxy.destination("bob")]);
    sender.feed(vec![b'x'; 200_000]);
    proxy.wait_passed(200_000);
    // It knows that it was let in.
    proxy.wait_answered(REPLY_LEN + 1);
    reader.read_exact(&mut [0; 1]).unwrap();
    proxy.cut();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6), "{}", sender.stderr());
}

#[test]
fn a_message_that_pauses_longer_than_the_listeners_patience_is_whole() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-1", "-w", "1s", "127.0.0.1:0"]);
    let mut sender = send_without_end(&alice, &[&listener.destination("bob")]);
    listener.wait_stdout("the beginning", |out| out == b"begun ");
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert!(listener.poll_exit().is_none(), "{}", listener.stderr());
        assert!(sender.poll_exit().is_none(), "{}", sender.stderr());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    sender.feed(b"and ended\n".to_vec());
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    assert_eq!(listener.stdout(), b"begun and ended\n");
}

#[test]
fn a_sender_that_says_nothing_while_others_wait_is_cut_after_the_patience() {
    let (alice, bob) = alice_and_bob();
    let carol = Home::with_identity();
    befriend(&carol, "carol", &bob, "bob");
    let listener = Listener::spawn(&bob, &["-w", "1s", "127.0.0.1:0"]);
    let mut slow = send_without_end(&alice, &[&listener.destination("bob")]);
    listener.wait_stdout("the beginning", |out| out == b"begun ");
    let sent = send(&carol, &[&listener.destination("bob")], b"at last");
    assert_code(&sent, 0);
    assert_eq!(slow.wait_exit(DEADLINE).code(), Some(8), "{}", slow.stderr());
    listener.wait_stdout("the other", |out| out == b"begun at last");
}

#[test]
fn a_peer_that_pours_does_not_hold_a_listener_that_ends() {
    let bob = Home::with_identity();
    let (mut listener, reader) = listen_into_pipe(&bob, &["--accept-unknown"]);
    for _ in 0..2 {
        let mut socket = TcpStream::connect(("127.0.0.1", listener.port())).unwrap();
        shake(&mut socket, &KeyPair::generate(), &contact(&bob));
        // Never looks at what it is told, and sends until nobody takes it any more.
        std::thread::spawn(move || while socket.write_all(&[0; 1 << 20]).is_ok() {});
    }
    drop(reader);
    let began = Instant::now();
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
    assert!(spent(began) < Duration::from_secs(4));
}

#[test]
fn a_peer_that_pours_does_not_hold_a_sender_that_is_stopped() {
    let (alice, bob) = alice_and_bob();
    let ear = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("bob@127.0.0.1:{}", ear.local_addr().unwrap().port());
    let mut sender = start_send(&alice, &[&to]);
    let (mut socket, _) = ear.accept().unwrap();
    let mut session = answer(&bob, &mut socket);
    let (begun, has_begun) = std::sync::mpsc::channel();
    let mut records = Outgoing::default();
    session.seal(Kind::Welcome, &Welcome::default().encode(), &mut records);
    socket.write_all(records.pending()).unwrap();
    // Sealed beforehand, so that they come faster than they can be opened.
    records.clear();
    let sealing = Instant::now();
    while sealing.elapsed() < Duration::from_millis(300) {
        session.seal(Kind::Pad, &[], &mut records);
    }
    let records = records.pending().to_vec();
    let half = records.len() / 2;
    let mut pouring = socket.try_clone().unwrap();
    std::thread::spawn(move || {
        pouring.write_all(&records[..half]).unwrap();
        begun.send(()).unwrap();
        // Somewhere in here the sender ends.
        let _ = pouring.write_all(&records[half..]);
    });
    has_begun.recv().unwrap();
    sender.signal(Signal::INT);
    let began = Instant::now();
    assert_eq!(sender.wait_exit(DEADLINE).signal(), Some(Signal::INT.as_raw()));
    assert!(spent(began) < Duration::from_secs(2));
}

/// A handshake as Bob's listener, with whoever calls.
fn answer(bob: &Home, socket: &mut TcpStream) -> Session {
    let key = identity(bob);
    let responding = Responding { pair: &key.pair, access: key.access.as_bytes() };
    let mut hello = [0; HELLO_LEN];
    socket.read_exact(&mut hello).unwrap();
    let opened = Opened::open(&responding, &hello, unix_ms()).unwrap();
    let (responder, reply) = opened.reply().unwrap();
    socket.write_all(&reply).unwrap();
    let mut confirm = [0; CONFIRM_LEN];
    socket.read_exact(&mut confirm).unwrap();
    responder.finish(&confirm).unwrap().0
}

//! `--plain` talks to a real `nc`, both ways, says everywhere that nothing is encrypted, and is the
//! only way to anything that is not: no key option goes with it and nothing falls back to it.

use crate::testkit::common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use socket2::SockRef;

/// Bytes of the stream that is compared byte for byte.
fn big() -> Vec<u8> {
    let len = number("AC_TEST_PLAIN_BYTES", 8_000_000);
    (0..len).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn nc(args: &[&str]) -> Command {
    let mut command = Command::new("nc");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A listening `nc`, and its port on 127.0.0.1.
fn listening_nc(args: &[&str]) -> (Running, String) {
    let running = Running::start(nc(&[&["-v", "-l"], args, &["127.0.0.1", "0"]].concat()));
    let line = running.wait_stderr(if args.contains(&"-u") { "ound on" } else { "istening on" });
    let port = line.rsplit([' ', ':']).next().unwrap().to_owned();
    (running, port)
}

/// A plain listener of somebody who has no keys.
fn plain_listener(args: &[&str]) -> Listener {
    // Its folder is never looked for, so it need not stay.
    Listener::spawn(&Home::new(), &[&["--plain"], args, &["127.0.0.1:0"]].concat())
}

fn connect(listener: &Listener) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", listener.port())).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn send_plain(args: &[&str], stdin: &[u8]) -> std::process::Output {
    send(&Home::new(), &[&["--plain"], args].concat(), stdin)
}

/// How a connection ended for a sender: in order, or not.
fn ended_in_order(mut stream: TcpStream) -> bool {
    matches!(stream.read(&mut [0; 16]), Ok(0))
}

#[test]
fn nc_hears_every_byte_and_the_sender_knows_that_it_was_taken() {
    if !need("nc") {
        return;
    }
    for message in [big(), b"hi\n".to_vec(), Vec::new()] {
        let (mut nc, port) = listening_nc(&[]);
        let sent = send_plain(&["127.0.0.1", &port], &message);
        assert_code(&sent, 0);
        assert!(nc.wait_exit(DEADLINE).success());
        assert!(nc.stdout() == message, "{} of {} bytes", nc.stdout().len(), message.len());
        let said = String::from_utf8(sent.stderr).unwrap();
        assert!(said.starts_with("ac-send: warning: PLAIN: nothing is encrypted"), "{said}");
        assert!(sent.stdout.is_empty());
    }
}

#[test]
fn a_file_goes_to_nc_as_well_as_a_pipe() {
    if !need("nc") {
        return;
    }
    let home = Home::new();
    std::fs::write(home.path().join("file"), big()).unwrap();
    let (mut nc, port) = listening_nc(&[]);
    let mut command = home.command("ac-send", &["--plain", &format!("127.0.0.1:{port}")]);
    command.stdin(File::open(home.path().join("file")).unwrap());
    assert_code(&run(command, b"", DEADLINE), 0);
    assert!(nc.wait_exit(DEADLINE).success());
    assert!(nc.stdout() == big());
}

#[test]
fn what_nc_says_is_heard_byte_for_byte() {
    if !need("nc") {
        return;
    }
    let mut listener = plain_listener(&["-1"]);
    let port = listener.port().to_string();
    assert_code(&run(nc(&["-N", "127.0.0.1", &port]), &big(), DEADLINE), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == big());
    assert!(listener.stderr().starts_with("ac-listen: warning: PLAIN: nothing is encrypted"));
    assert!(listener.stderr().contains("ac-listen: PLAIN: listening on 127.0.0.1"));
}

#[test]
fn no_option_to_be_quiet_silences_the_warning() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let sent = send_plain(&["-q", &refused], b"hi");
    assert_code(&sent, 4);
    assert!(String::from_utf8(sent.stderr).unwrap().contains("PLAIN: nothing is encrypted"));
    let args = ["-q", "--plain", "-w", "50ms", "127.0.0.1:0"];
    let ended = run(Home::new().command("ac-listen", &args), b"", DEADLINE);
    assert_code(&ended, 4);
    assert!(String::from_utf8(ended.stderr).unwrap().contains("PLAIN: nothing is encrypted"));
}

#[test]
fn datagrams_go_to_nc_and_come_from_it() {
    if !need("nc") {
        return;
    }
    let (nc_listens, port) = listening_nc(&["-u"]);
    assert_code(&send_plain(&["-u", "127.0.0.1", &port], b"to nc\n"), 0);
    nc_listens.wait_stdout("a datagram", |out| out == b"to nc\n");

    let mut listener = plain_listener(&["-u", "-0", "-n", "2"]);
    let port = listener.port().to_string();
    let mut talking = Running::start(nc(&["-u", "127.0.0.1", &port]));
    for (line, heard) in [("one\n", &b"one\n\0"[..]), ("two\n", b"one\n\0two\n\0")] {
        talking.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        listener.wait_stdout("a datagram", |out| out == heard);
    }
    assert!(listener.wait_exit(DEADLINE).success());
}

#[test]
fn each_chunk_of_input_is_a_datagram_that_no_path_has_to_split() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let to = socket.local_addr().unwrap().to_string();
    let mut sender = Running::start(Home::new().command("ac-send", &["--plain", "-u", &to]));
    let mut space = [0; 65536];
    for chunk in [&b"one\n"[..], b"two\n"] {
        sender.stdin.as_mut().unwrap().write_all(chunk).unwrap();
        assert_eq!(socket.recv(&mut space).unwrap(), chunk.len());
    }
    sender.feed(vec![7; 3000]);
    let lengths: Vec<_> = (0..3).map(|_| socket.recv(&mut space).unwrap()).collect();
    assert_eq!(lengths, [1200, 1200, 600]);
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(0));
}

#[test]
fn a_flood_of_datagrams_fills_no_memory_while_nobody_reads() {
    // As long as this end lives, the listener's pipe has a reader, who reads nothing.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = Home::new().command("ac-listen", &["--plain", "-u", "127.0.0.1:0"]);
    command.stdout(writer);
    let mut listener = Listener::start(command);
    let memory = |listener: &Listener| {
        let status = std::fs::read_to_string(format!("/proc/{}/statm", listener.pid())).unwrap();
        status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let before = memory(&listener);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..300_000_u32 {
        socket.send_to(&n.to_be_bytes(), ("127.0.0.1", listener.port())).unwrap();
    }
    let grown = memory(&listener) - before;
    assert!(grown < 16_000_000, "{grown} bytes");
    let mut heard = [0; 4000];
    reader.read_exact(&mut heard).unwrap();
    assert_eq!(heard[..4], [0; 4]);
    assert!(listener.poll_exit().is_none(), "{}", listener.stderr());
}

#[test]
fn no_key_and_no_keyring_has_anything_to_do_with_it() {
    let listener = plain_listener(&["-n", "2"]);
    let to = format!("127.0.0.1:{}", listener.port());
    let mut command = Home::new().command("ac-send", &["--plain", &to]);
    command.env_remove("AC_HOME").env_remove("HOME");
    assert_code(&run(command, b"hi\n", DEADLINE), 0);
    listener.wait_stdout("the message", |out| out == b"hi\n");
}

#[test]
fn every_option_that_has_to_do_with_a_key_is_wrong_usage_with_it() {
    let (alice, bob) = alice_and_bob();
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = trap.local_addr().unwrap().to_string();
    let named = format!("bob@{to}");
    for args in [
        &["-k", "team", &to][..],
        &["-a", &to],
        &["-o", "file", &to],
        &["-z", &to],
        &["-u", "--no-ack", &to],
        &["--passphrase-fd", "0", &to],
        &["--history", "history", &to],
        &["--passphrase-file", "file", &to],
        &[&named],
        &["bob"],
        &["./bob.pub"],
    ] {
        let sent = send(&alice, &[&["--plain"], args].concat(), b"secret");
        assert_code(&sent, 2);
        assert!(String::from_utf8(sent.stderr).unwrap().contains("--plain"), "{args:?}");
    }
    trap.set_nonblocking(true).unwrap();
    assert!(trap.accept().is_err(), "nobody may have called");
    for args in [
        &["-k", "team"][..],
        &["--from", "alice"],
        &["--accept-unknown"],
        &["--passphrase-fd", "0"],
        &["--history", "history"],
        &["--passphrase-file", "file"],
    ] {
        let args = [&["--plain", "127.0.0.1:0"], args].concat();
        assert_code(&run(bob.command("ac-listen", &args), b"", DEADLINE), 2);
    }
    let open = bob.command("ac-listen", &["--plain", "--open", "file"]);
    assert_code(&run(open, b"", DEADLINE), 2);
}

#[test]
fn a_listener_with_a_key_prints_nothing_of_a_plain_sender_and_says_nothing_to_it() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-1", "127.0.0.1:0"]);
    let to = format!("127.0.0.1:{}", listener.port());
    for message in [&b"plain\n"[..], &[b'x'; 5000]] {
        let sent = send_plain(&[&to], message);
        let said = String::from_utf8(sent.stderr).unwrap();
        assert!(!said.contains("came back"), "{said}");
    }
    assert_code(&send(&alice, &[&listener.destination("bob")], b"sealed\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"sealed\n");
    assert!(!listener.stderr().contains("PLAIN"), "{}", listener.stderr());
}

#[test]
fn a_sender_with_a_key_sends_a_plain_listener_nothing_that_it_could_read() {
    let (alice, _bob) = alice_and_bob();
    let listener = plain_listener(&[]);
    let sent = send(&alice, &["-w", "1", &listener.destination("bob")], b"very secret words");
    assert_code(&sent, 5);
    listener.wait_stdout("the handshake", |out| out.len() == 1248);
    assert!(!listener.stdout().windows(6).any(|w| w == b"secret"));
}

#[test]
fn a_reset_and_a_peer_that_never_closes_are_6() {
    for linger in [Some(Duration::ZERO), None] {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = peer.local_addr().unwrap().to_string();
        let sender = std::thread::spawn(move || send_plain(&["-w", "1s", &to], b"hi\n"));
        let (mut socket, _) = peer.accept().unwrap();
        socket.read_exact(&mut [0; 3]).unwrap();
        SockRef::from(&socket).set_linger(linger).unwrap();
        if linger.is_some() {
            drop(socket);
            assert_code(&sender.join().unwrap(), 6);
        } else {
            let sent = sender.join().unwrap();
            assert_code(&sent, 6);
            assert!(String::from_utf8(sent.stderr).unwrap().contains("silent for 1 s"));
        }
    }
}

#[test]
fn a_peer_that_says_nothing_more_still_hears_everything() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = peer.local_addr().unwrap().to_string();
    let mut sender = Running::start(Home::new().command("ac-send", &["--plain", "-v", &to]));
    let (mut socket, _) = peer.accept().unwrap();
    socket.write_all(b"an answer before the question").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    sender.feed(big());
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).unwrap();
    drop(socket);
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(0), "{}", sender.stderr());
    assert!(heard == big());
    assert!(sender.stderr().contains("29 bytes came back and were dropped"), "{}", sender.stderr());
    assert!(sender.stdout().is_empty());
}

#[test]
fn a_peer_that_stopped_reading_is_no_success_though_it_closed_first() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = peer.local_addr().unwrap().to_string();
    let mut sender = Running::start(Home::new().command("ac-send", &["--plain", &to]));
    // Closed in order, both ways, before anything was sent: the bytes will draw a reset.
    drop(peer.accept().unwrap());
    sender.feed(b"into the void".to_vec());
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6), "{}", sender.stderr());
}

#[test]
fn messages_of_several_are_not_mixed_and_each_is_ended() {
    let mut listener = plain_listener(&["-0", "-n", "2"]);
    let (mut first, mut second) = (connect(&listener), connect(&listener));
    first.write_all(b"one").unwrap();
    listener.wait_stdout("live after 200 ms", |out| out == b"one");
    second.write_all(b"two").unwrap();
    second.shutdown(Shutdown::Write).unwrap();
    first.write_all(b" more").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"one more\0two\0");
    assert!(ended_in_order(first) && ended_in_order(second));
}

#[test]
fn a_connection_without_a_byte_is_no_message() {
    let mut listener = plain_listener(&["-1"]);
    let probe = connect(&listener);
    probe.shutdown(Shutdown::Write).unwrap();
    assert!(ended_in_order(probe));
    let mut real = connect(&listener);
    real.write_all(b"hi\n").unwrap();
    real.shutdown(Shutdown::Write).unwrap();
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"hi\n");
}

#[test]
fn who_comes_after_the_last_message_sees_that_it_was_not_heard() {
    let mut listener = plain_listener(&["-1"]);
    let (mut first, mut late) = (connect(&listener), connect(&listener));
    first.write_all(b"first").unwrap();
    listener.wait_stdout("the first", |out| out == b"first");
    late.write_all(b"late").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(ended_in_order(first));
    assert!(!ended_in_order(late), "a reset");
    assert_eq!(listener.stdout(), b"first");
}

#[test]
fn what_could_not_be_written_is_no_success_at_either_end() {
    let mut command = Home::new().command("ac-listen", &["--plain", "127.0.0.1:0"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    let mut listener = Listener::start(command);
    let to = format!("127.0.0.1:{}", listener.port());
    assert_code(&send_plain(&[&to], b"hi\n"), 6);
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
}

#[test]
fn a_listener_that_is_stopped_resets_what_it_has_not_heard() {
    let mut listener = plain_listener(&[]);
    let mut sender = connect(&listener);
    sender.write_all(b"half").unwrap();
    listener.wait_stdout("half a message", |out| out == b"half");
    listener.signal(rustix::process::Signal::TERM);
    assert!(!ended_in_order(sender), "a reset");
    assert!(!listener.wait_exit(DEADLINE).success());
}

#[test]
fn a_sender_that_is_cut_leaves_the_listener_to_others() {
    let mut listener = plain_listener(&["-1"]);
    let mut broken = connect(&listener);
    broken.write_all(b"half").unwrap();
    listener.wait_stdout("half a message", |out| out == b"half");
    SockRef::from(&broken).set_linger(Some(Duration::ZERO)).unwrap();
    drop(broken);
    let line = listener.wait_stderr("cut off");
    assert!(line.contains("PLAIN 127.0.0.1: the message was cut off"), "{line}");
    assert_code(&send_plain(&[&format!("127.0.0.1:{}", listener.port())], b" whole\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"half whole\n");
}

#[test]
fn a_silent_sender_is_cut_after_the_time_that_was_asked_for() {
    let mut listener = plain_listener(&["-w", "1s"]);
    let mut silent = connect(&listener);
    silent.write_all(b"half").unwrap();
    assert!(!ended_in_order(silent), "a reset");
    assert!(listener.wait_exit(DEADLINE).code().is_some());
    assert!(listener.stderr().contains("cut off"), "{}", listener.stderr());
}

#[test]
fn the_silent_make_room_for_those_who_speak() {
    let listener = plain_listener(&[]);
    let silent: Vec<_> = (0..300).map(|_| connect(&listener)).collect();
    assert_code(&send_plain(&[&format!("127.0.0.1:{}", listener.port())], b"hi\n"), 0);
    listener.wait_stdout("the message", |out| out == b"hi\n");
    drop(silent);
}

#[test]
fn what_crosses_is_shown_as_it_is() {
    let mut listener = plain_listener(&["-vv", "-1"]);
    let sent = send_plain(&["-vv", &format!("127.0.0.1:{}", listener.port())], b"open words");
    assert_code(&sent, 0);
    assert!(listener.wait_exit(DEADLINE).success());
    for said in [String::from_utf8(sent.stderr).unwrap(), listener.stderr()] {
        assert!(said.contains("means PLAIN, not encrypted, 10 bytes  \"open words\""), "{said}");
        assert!(said.contains("wire  10 bytes  6f70656e20776f726473"), "{said}");
    }
}

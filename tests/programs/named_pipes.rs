//! A FIFO with a name as stdin or stdout is a pipe like any other, though it can only be waited for,
//! by a thread: everything goes through it, who pauses at its other end stalls nothing else, and who
//! goes away there is noticed. Only one that is opened `<>` has no other end: it never ends, and
//! whoever reads it may be followed by another.
//!
//! `AC_TEST_FIFO_BYTES`: how much goes through (20000000).

use crate::testkit::common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, number, send};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};
use rustix::process::Signal;

/// Longer than whoever is silent is waited for here, which is a second.
const PAUSE: Duration = Duration::from_millis(2500);

/// A FIFO in a folder of its own.
struct Fifo {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fifo {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Self { path, _folder: folder }
    }

    /// `<fifo`, without waiting for a writer.
    fn reader(&self) -> File {
        let flags = OFlags::NONBLOCK.bits().try_into().unwrap();
        let file = File::options().read(true).custom_flags(flags).open(&self.path).unwrap();
        fcntl_setfl(&file, OFlags::empty()).unwrap();
        file
    }

    /// `>fifo`; there is a reader.
    fn writer(&self) -> File {
        File::options().write(true).open(&self.path).unwrap()
    }

    /// `<>fifo`.
    fn both(&self) -> File {
        File::options().read(true).write(true).open(&self.path).unwrap()
    }
}

/// Bytes that repeat nowhere near.
fn long() -> Vec<u8> {
    let len: usize = number("AC_TEST_FIFO_BYTES", 20_000_000);
    (0_u64..).flat_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()).take(len).collect()
}

fn listen(bob: &Home, args: &[&str], stdout: File) -> Listener {
    let mut command = bob.command("ac-listen", &[args, &["-w", "1s", "127.0.0.1:0"]].concat());
    command.stdout(stdout);
    Listener::start(command)
}

fn start_send(alice: &Home, args: &[&str]) -> Running {
    Running::start(alice.command("ac-send", &[&["-w", "1s"], args].concat()))
}

/// `ac-send` whose stdin is `stdin`.
fn send_from(alice: &Home, to: &str, stdin: File) -> Running {
    let mut command = alice.command("ac-send", &["-w", "1s", to]);
    command.stdin(stdin);
    Running::start(command)
}

/// Says all of it, with a pause in the middle.
fn say_with_a_pause(mut writer: File, bytes: Vec<u8>) -> JoinHandle<()> {
    thread::spawn(move || {
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        writer.write_all(first).unwrap();
        thread::park_timeout(PAUSE);
        writer.write_all(rest).unwrap();
    })
}

fn go_on_for(time: Duration, all: &mut [&mut Running]) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for running in all.iter_mut() {
            assert!(running.poll_exit().is_none(), "{}", running.stderr());
        }
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn succeed(all: [&mut Running; 2]) {
    for running in all {
        assert!(running.wait_exit(DEADLINE).success(), "{}", running.stderr());
    }
}

fn same(heard: &[u8], said: &[u8]) {
    assert_eq!(heard.len(), said.len());
    assert!(heard == said, "other bytes");
}

#[test]
fn a_listener_writes_into_a_fifo_whose_reader_pauses() {
    let (alice, bob) = alice_and_bob();
    for open in [Fifo::writer, Fifo::both] {
        let fifo = Fifo::new();
        let mut reader = fifo.reader();
        let mut listener = listen(&bob, &["-1"], open(&fifo));
        let to = listener.destination("bob");
        let mut sender = start_send(&alice, &[&to]);
        sender.feed(long());
        let mut heard = vec![0; 1];
        reader.read_exact(&mut heard).unwrap();
        // The promise is about time itself.
        go_on_for(PAUSE, &mut [&mut sender, &mut *listener]);
        assert_code(&send(&alice, &["-z", &to], b""), 0);
        reader.read_to_end(&mut heard).unwrap();
        same(&heard, &long());
        succeed([&mut sender, &mut *listener]);
    }
}

#[test]
fn short_messages_come_out_of_a_fifo_one_by_one() {
    let (alice, bob) = alice_and_bob();
    for open in [Fifo::writer, Fifo::both] {
        let fifo = Fifo::new();
        let mut reader = fifo.reader();
        let listener = listen(&bob, &[], open(&fifo));
        for said in [&b"one\n"[..], b"two\n", b"three\n"] {
            assert_code(&send(&alice, &[&listener.destination("bob")], said), 0);
            let mut heard = vec![0; said.len()];
            reader.read_exact(&mut heard).unwrap();
            assert_eq!(heard, said);
        }
    }
}

#[test]
fn a_reader_of_a_fifo_who_goes_away_ends_the_listener_and_is_no_delivery() {
    let (alice, bob) = alice_and_bob();
    let fifo = Fifo::new();
    let mut reader = fifo.reader();
    let mut listener = listen(&bob, &[], fifo.writer());
    let mut sender = start_send(&alice, &[&listener.destination("bob")]);
    sender.feed(long());
    reader.read_exact(&mut [0; 1]).unwrap();
    drop(reader);
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
    let code = sender.wait_exit(DEADLINE).code();
    assert!(matches!(code, Some(6 | 8)), "{code:?}: {}", sender.stderr());
}

#[test]
fn a_reader_of_a_fifo_who_goes_away_ends_an_idle_listener_at_once() {
    let (alice, bob) = alice_and_bob();
    for speaks in [false, true] {
        let fifo = Fifo::new();
        let mut reader = fifo.reader();
        let mut listener = listen(&bob, &[], fifo.writer());
        if speaks {
            // The thread has the FIFO from then on.
            assert_code(&send(&alice, &[&listener.destination("bob")], b"hi"), 0);
            reader.read_exact(&mut [0; 2]).unwrap();
        }
        drop(reader);
        let began = Instant::now();
        assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1), "{}", listener.stderr());
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn another_reader_goes_on_with_a_fifo_that_the_listener_holds_itself() {
    let (alice, bob) = alice_and_bob();
    let fifo = Fifo::new();
    let mut first = fifo.reader();
    let mut listener = listen(&bob, &["-1"], fifo.both());
    let mut sender = start_send(&alice, &[&listener.destination("bob")]);
    sender.feed(long());
    let mut heard = vec![0; 1_000_000];
    first.read_exact(&mut heard).unwrap();
    drop(first);
    go_on_for(PAUSE, &mut [&mut sender, &mut *listener]);
    fifo.reader().read_to_end(&mut heard).unwrap();
    same(&heard, &long());
    succeed([&mut sender, &mut *listener]);
}

#[test]
fn a_sender_reads_a_fifo_whose_writer_pauses() {
    let (alice, bob) = alice_and_bob();
    let fifo = Fifo::new();
    let mut listener = Listener::spawn(&bob, &["-1", "-w", "1s", "127.0.0.1:0"]);
    let (stdin, writer) = (fifo.reader(), fifo.writer());
    let mut sender = send_from(&alice, &listener.destination("bob"), stdin);
    say_with_a_pause(writer, long()).join().unwrap();
    succeed([&mut sender, &mut *listener]);
    same(&listener.stdout(), &long());
}

#[test]
fn a_fifo_that_the_sender_holds_itself_never_ends() {
    let (alice, bob) = alice_and_bob();
    let fifo = Fifo::new();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let mut sender = send_from(&alice, &listener.destination("bob"), fifo.both());
    say_with_a_pause(fifo.writer(), long()).join().unwrap();
    let so_far = long().len();
    listener.wait_stdout("all of one writer", |out| out.len() == so_far);
    fifo.writer().write_all(b"and of another").unwrap();
    listener.wait_stdout("all of another", |out| out.len() == so_far + 14);
    assert!(sender.poll_exit().is_none(), "{}", sender.stderr());
    sender.signal(Signal::TERM);
    assert_eq!(sender.wait_exit(DEADLINE).signal(), Some(Signal::TERM.as_raw()));
    listener.wait_stderr("ac-listen: alice: the message was cut off: ");
    same(&listener.stdout(), &[&long()[..], b"and of another"].concat());
}

#[test]
fn a_sender_whose_fifo_is_silent_ends_at_once_when_the_listener_does() {
    let (alice, bob) = alice_and_bob();
    let fifo = Fifo::new();
    let mut listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let (stdin, mut writer) = (fifo.reader(), fifo.writer());
    let mut sender = send_from(&alice, &listener.destination("bob"), stdin);
    writer.write_all(b"begun ").unwrap();
    listener.wait_stdout("the beginning", |out| out == b"begun ");
    listener.kill();
    let began = Instant::now();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6), "{}", sender.stderr());
    assert!(began.elapsed() < Duration::from_secs(2));
    // Nobody reads it any more.
    assert!(writer.write_all(b"x").is_err());
}

#[test]
fn both_ends_of_a_duplex_stream_may_be_fifos() {
    let (alice, bob) = alice_and_bob();
    let (to_say, to_hear) = (Fifo::new(), Fifo::new());
    let listener = Listener::spawn(&bob, &["-e", "cat", "-w", "1s", "127.0.0.1:0"]);
    let mut reader = to_hear.reader();
    let mut command = alice.command("ac-send", &["-b", "-w", "1s", &listener.destination("bob")]);
    let stdin = to_say.reader();
    command.stdin(stdin).stdout(to_hear.writer());
    let writer = to_say.writer();
    let mut sender = Running::start(command);
    let speaking = say_with_a_pause(writer, long());
    let mut heard = Vec::new();
    reader.read_to_end(&mut heard).unwrap();
    speaking.join().unwrap();
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    same(&heard, &long());
}

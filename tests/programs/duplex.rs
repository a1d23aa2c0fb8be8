//! `-b`: bytes both ways, each direction with an end of its own.

use crate::testkit::{common, screen::terminal};

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, eventually, number, run, say,
    send,
};
use rustix::process::Signal;

/// Two people, of whom bob listens with `args`.
struct Pair {
    alice: Home,
    bob: Home,
}

impl Pair {
    fn new() -> Self {
        let (alice, bob) = alice_and_bob();
        Self { alice, bob }
    }

    fn listener(&self, args: &[&str]) -> Listener {
        Listener::spawn(&self.bob, &[args, &["127.0.0.1:0"]].concat())
    }

    fn command(&self, listener: &Listener, args: &[&str]) -> Command {
        let to = listener.destination("bob");
        self.alice.command("ac-send", &[args, &[to.as_str()]].concat())
    }

    fn sender(&self, listener: &Listener) -> Running {
        Running::start(self.command(listener, &["-b"]))
    }
}

fn wait_for(program: &Running, text: &str) {
    program.wait_stdout(text, |bytes| bytes == text.as_bytes());
}

/// Each has heard the other.
fn meet(sender: &mut Running, listener: &mut Running) {
    say(sender, "x");
    wait_for(listener, "x");
    say(listener, "y");
    wait_for(sender, "y");
}

fn code(program: &mut Running) -> Option<i32> {
    program.wait_exit(DEADLINE).code()
}

/// Bytes in which no piece looks like another.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    (0..len.div_ceil(4)).map(next).flat_map(u32::to_le_bytes).take(len).collect()
}

#[test]
fn what_is_said_arrives_at_once_both_ways() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    let mut sender = pair.sender(&listener);
    let (mut to_bob, mut to_alice) = (String::new(), String::new());
    for round in 0..50 {
        let (ping, pong) = (format!("ping {round}\n"), format!("pong {round}\n"));
        say(&mut sender, &ping);
        to_bob.push_str(&ping);
        wait_for(&listener, &to_bob);
        say(&mut listener, &pong);
        to_alice.push_str(&pong);
        wait_for(&sender, &to_alice);
    }
    sender.close_stdin();
    listener.close_stdin();
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
}

#[test]
fn when_the_callers_input_ends_the_other_direction_goes_on() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-1", "-b"]);
    let mut sender = pair.sender(&listener);
    say(&mut sender, "question");
    sender.close_stdin();
    wait_for(&listener, "question");
    for answer in ["first", "second"] {
        say(&mut listener, answer);
    }
    wait_for(&sender, "firstsecond");
    assert!(sender.poll_exit().is_none() && listener.poll_exit().is_none());
    listener.close_stdin();
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
}

#[test]
fn when_the_listeners_input_ends_the_other_direction_goes_on() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    listener.close_stdin();
    let mut sender = pair.sender(&listener);
    for piece in ["first", "second"] {
        say(&mut sender, piece);
    }
    wait_for(&listener, "firstsecond");
    assert!(sender.poll_exit().is_none() && listener.poll_exit().is_none());
    sender.close_stdin();
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
}

#[test]
fn big_streams_cross_without_waiting_for_each_other() {
    let mib = number("AC_TEST_DUPLEX_MIB", 12);
    let (there, back) = (noise(mib << 20, 1), noise((mib << 20) + 12_345, 2));
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    listener.feed(back.clone());
    let mut sender = pair.sender(&listener);
    sender.feed(there.clone());
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
    assert!(sender.stdout() == back && listener.stdout() == there);
}

#[test]
fn a_reader_that_pauses_stalls_only_its_own_direction() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    let mut command = pair.command(&listener, &["-b", "-w", "2"]);
    // Nobody reads alice's stdout for a while.
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let mut sender = Running::start(command);
    let flood = noise(4 << 20, 3);
    listener.feed(flood.clone());
    let began = Instant::now();
    for round in 0..6 {
        say(&mut sender, "tick");
        let so_far = "tick".repeat(round + 1);
        wait_for(&listener, &so_far);
        let until = began + Duration::from_millis(500) * (round as u32 + 1);
        eventually("time to pass", DEADLINE, || (Instant::now() >= until).then_some(()));
    }
    assert!(sender.poll_exit().is_none() && listener.poll_exit().is_none());
    let mut got = vec![0; flood.len()];
    reader.read_exact(&mut got).unwrap();
    assert!(got == flood);
    sender.close_stdin();
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
}

#[test]
fn when_one_side_is_killed_the_other_is_cut_off() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    let mut sender = pair.sender(&listener);
    meet(&mut sender, &mut listener);
    sender.kill();
    assert_eq!(code(&mut listener), Some(6));
    assert!(listener.stderr().contains("ac-listen: alice: cut off"), "{}", listener.stderr());

    let mut listener = pair.listener(&["-b"]);
    let mut sender = pair.sender(&listener);
    meet(&mut sender, &mut listener);
    listener.kill();
    assert_eq!(code(&mut sender), Some(6));
    assert!(sender.stderr().contains("ac-send: bob: cut off"), "{}", sender.stderr());
}

#[test]
fn a_signal_ends_both_sides() {
    let pair = Pair::new();
    for stop_listener in [false, true] {
        let mut listener = pair.listener(&["-b"]);
        let mut sender = pair.sender(&listener);
        meet(&mut sender, &mut listener);
        if stop_listener {
            listener.signal(Signal::TERM);
        } else {
            sender.signal(Signal::TERM);
        }
        let codes = (code(&mut sender), code(&mut listener));
        // Who dies of a signal has no code.
        let expected = if stop_listener { (Some(6), None) } else { (None, Some(6)) };
        assert_eq!(codes, expected, "{}{}", sender.stderr(), listener.stderr());
        let told = if stop_listener { sender.stderr() } else { listener.stderr() };
        assert!(told.contains("was stopped"), "{told}");
    }
}

#[test]
fn a_side_that_falls_silent_is_given_up_after_w() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    let mut sender = Running::start(pair.command(&listener, &["-b", "-w", "1"]));
    meet(&mut sender, &mut listener);
    listener.signal(Signal::STOP);
    assert_eq!(code(&mut sender), Some(6));
    assert!(sender.stderr().contains("was silent for 1 s"), "{}", sender.stderr());
    listener.signal(Signal::CONT);
    assert_eq!(code(&mut listener), Some(6));
}

#[test]
fn an_idle_stream_lasts_longer_than_w() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b", "-w", "1"]);
    let mut sender = Running::start(pair.command(&listener, &["-b", "-w", "1"]));
    meet(&mut sender, &mut listener);
    let until = Instant::now() + Duration::from_millis(2500);
    eventually("time to pass", DEADLINE, || (Instant::now() >= until).then_some(()));
    assert!(sender.poll_exit().is_none() && listener.poll_exit().is_none());
    sender.close_stdin();
    listener.close_stdin();
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
}

#[test]
fn one_session_at_a_time_and_then_it_ends() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    let mut sender = pair.sender(&listener);
    say(&mut sender, "mine");
    wait_for(&listener, "mine");
    let to = listener.destination("bob");
    let second = send(&pair.alice, &["-b", &to], b"not this");
    assert_code(&second, 8);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("it carries a stream already"), "{said}");
    sender.close_stdin();
    listener.close_stdin();
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
    assert_eq!(listener.stdout(), b"mine");
}

#[test]
fn who_does_not_expect_a_stream_declines_it_and_the_other_way_round() {
    let pair = Pair::new();
    let listener = pair.listener(&[]);
    let sent = send(&pair.alice, &["-b", &listener.destination("bob")], b"x");
    assert_code(&sent, 8);
    assert_eq!(listener.stdout(), b"");
    let mut streaming = pair.listener(&["-b"]);
    let sent = send(&pair.alice, &[&streaming.destination("bob")], b"x");
    assert_code(&sent, 8);
    let said = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(said.contains("ac-send -b"), "{said}");
    assert!(streaming.poll_exit().is_none());
}

#[test]
fn output_that_nobody_reads_is_an_error_here_and_a_refusal_there() {
    let pair = Pair::new();
    // The listener's reader is gone.
    let mut command = pair.bob.command("ac-listen", &["-b", "127.0.0.1:0"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let mut listener = Listener::start(command);
    drop(reader);
    let mut sender = pair.sender(&listener);
    say(&mut sender, "x");
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(8), Some(1)));
    assert!(sender.stderr().contains("cannot write its output"), "{}", sender.stderr());

    // The caller's is.
    let mut listener = pair.listener(&["-b"]);
    let mut command = pair.command(&listener, &["-b"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let mut sender = Running::start(command);
    drop(reader);
    say(&mut sender, "hello");
    wait_for(&listener, "hello");
    say(&mut listener, "x");
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(1), Some(8)));
}

#[test]
fn a_reader_may_leave_when_there_is_nothing_more_for_it() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    let mut command = pair.command(&listener, &["-b"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let mut sender = Running::start(command);
    say(&mut sender, "question");
    wait_for(&listener, "question");
    say(&mut listener, "answer");
    let mut answer = [0; 6];
    reader.read_exact(&mut answer).unwrap();
    drop(reader);
    say(&mut sender, "thanks");
    sender.close_stdin();
    wait_for(&listener, "questionthanks");
    listener.close_stdin();
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
}

#[test]
fn input_that_cannot_be_read_is_an_error_here_and_a_cut_there() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    let mut command = pair.command(&listener, &["-b"]);
    // Reading a folder fails.
    command.stdin(Stdio::from(File::open("/").unwrap()));
    let mut sender = Running::start(command);
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(1), Some(6)));
    assert!(sender.stderr().contains("cannot read the input"), "{}", sender.stderr());
}

#[test]
fn any_kind_of_stdin_will_do() {
    let pair = Pair::new();
    let file = pair.alice.path().join("input");
    std::fs::write(&file, b"from a file").unwrap();
    for (stdin, content) in [(file.to_str().unwrap(), &b"from a file"[..]), ("/dev/null", b"")] {
        let mut listener = pair.listener(&["-b"]);
        listener.close_stdin();
        let mut command = pair.command(&listener, &["-b"]);
        command.stdin(Stdio::from(File::open(stdin).unwrap()));
        let mut sender = Running::start(command);
        assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
        assert_eq!(listener.stdout(), content);
    }
}

#[test]
fn nobody_there_is_code_4_and_the_wrong_key_is_code_5() {
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    let gone = listener.destination("bob");
    let stranger = Home::with_identity();
    stranger.import(&pair.bob, "bob");
    let sent = run(stranger.command("ac-send", &["-b", "-w", "1", &gone]), b"x", DEADLINE);
    assert_code(&sent, 5);
    assert!(listener.poll_exit().is_none());
    listener.kill();
    assert_code(&send(&pair.alice, &["-b", &gone], b"x"), 4);
}

#[test]
fn on_a_terminal_what_the_peer_says_is_made_harmless() {
    let Some((mut controller, user)) = terminal() else { return };
    let pair = Pair::new();
    let mut listener = pair.listener(&["-b"]);
    let mut command = pair.command(&listener, &["-b"]);
    command.stdout(user);
    let mut sender = Running::start(command);
    say(&mut listener, "\x1b[2Jwiped\u{202e}\n");
    listener.close_stdin();
    sender.close_stdin();
    assert_eq!((code(&mut sender), code(&mut listener)), (Some(0), Some(0)));
    let mut shown = [0; 256];
    let len = controller.read(&mut shown).unwrap();
    assert_eq!(String::from_utf8_lossy(&shown[..len]), "^[[2Jwiped\\u{202e}\r\n");
}

#[test]
fn what_cannot_be_is_refused_with_what_to_use_instead() {
    let pair = Pair::new();
    let cases: [(&str, &[&str], &str); 6] = [
        ("ac-send", &["-b", "bob@127.0.0.1:1", "bob@127.0.0.1:2"], "name one destination"),
        ("ac-send", &["-b", "bob@127.0.0.1:1", "--", "/dev/null"], "leave out -b"),
        ("ac-send", &["-b", "-u", "bob@127.0.0.1:1"], "leave out -u"),
        ("ac-send", &["-b", "--json", "bob@127.0.0.1:1"], "--status-fd"),
        ("ac-listen", &["-b", "-u", "127.0.0.1:0"], "leave out -u"),
        ("ac-listen", &["-b", "--json", "127.0.0.1:0"], "--status-fd"),
    ];
    for (program, args, hint) in cases {
        let output = run(pair.alice.command(program, args), b"", DEADLINE);
        assert_code(&output, 2);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(hint), "{said}");
    }
}

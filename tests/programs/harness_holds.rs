//! The harness itself: it waits for conditions, misses no output, and leaves nothing running.

use crate::testkit::common;

use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    DEADLINE, Home, Listener, Running, again, assert_passed, eventually, need, port_in_ready_line,
    run,
};
use rustix::process::Signal;

fn shell(home: &Home, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    home.at_home(&mut command);
    command
}

#[test]
fn ports_are_read_from_every_form_of_ready_line() {
    let port = |line| port_in_ready_line(line);
    assert_eq!(port("ac-listen: listening on 10.0.0.5:1234 (tcp)"), Some(1234));
    assert_eq!(port("ac-listen: listening on [::]:40001 (udp)"), Some(40001));
    assert_eq!(port("ac-listen: listening on 0.0.0.0:7 (tcp), 10.0.0.5 [fe80::1]"), Some(7));
    assert_eq!(port("ac-listen: listening on nothing"), None);
    assert_eq!(port("ac-listen: listening on 10.0.0.5:123456 (tcp)"), None);
    assert_eq!(port("ac-listen: 10.0.0.5:1234 (tcp)"), None);
}

#[test]
fn a_listener_is_there_once_it_said_so() {
    let home = Home::new();
    let script = "echo first >&2; echo 'x: listening on [::]:99 (tcp)' >&2; cat; exit 3";
    let mut listener = Listener::start(shell(&home, script));
    assert_eq!(listener.port(), 99);
    assert_eq!(listener.destination("bob"), "bob@127.0.0.1:99");
    listener.feed(b"hi".to_vec());
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(3));
    assert_eq!(listener.stdout(), b"hi");
    assert!(listener.stderr().starts_with("first\n"));
}

#[test]
fn large_output_is_whole_and_blocks_nobody() {
    let home = Home::new();
    let input = vec![b'x'; 3 << 20];
    let output = run(shell(&home, "tee /dev/stderr"), &input, DEADLINE);
    assert_eq!(output.stdout, input);
    assert_eq!(output.stderr, input);
}

#[test]
fn an_early_end_is_noticed_at_once_and_tells_what_was_said() {
    let home = Home::new();
    let began = Instant::now();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        Listener::start(shell(&home, "echo 'x: no such key' >&2; exit 3"))
    }));
    let message = *panic.err().unwrap().downcast::<String>().unwrap();
    assert!(message.contains("x: no such key"), "{message}");
    assert!(began.elapsed() < DEADLINE / 2);
}

/// What a program that the harness starts ignores and blocks.
#[test]
fn a_program_has_its_signals_as_at_a_terminal() {
    let home = Home::new();
    let status = run(shell(&home, "grep -E 'Sig(Ign|Blk)' /proc/self/status"), b"", DEADLINE);
    let status = String::from_utf8(status.stdout).unwrap();
    let masks = status.lines().filter_map(|line| line.split('\t').nth(1));
    let masks: Vec<u64> = masks.map(|mask| u64::from_str_radix(mask, 16).unwrap()).collect();
    assert_eq!(masks.len(), 2, "{status}");
    // The C library keeps those above for itself.
    assert!(masks.iter().all(|mask| mask & 0x7fff_ffff == 0), "{status}");
    let listener = shell(&home, "echo 'x: listening on [::]:99 (tcp)' >&2; exec cat");
    let mut listener = Listener::start(listener);
    listener.signal(Signal::HUP);
    assert_eq!(listener.wait_exit(DEADLINE).signal(), Some(Signal::HUP.as_raw()));
}

#[test]
fn a_program_has_its_signals_even_if_the_tests_ignore_and_block_them() {
    let home = Home::new();
    let ignoring = "trap '' HUP INT QUIT TERM USR1 USR2 CHLD PIPE TSTP; exec \"$@\"";
    let blocking = "import os, signal, sys; \
         signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD]); \
         os.execv(sys.argv[1], sys.argv[1:])";
    let again = again(module_path!(), "a_program_has_its_signals_as_at_a_terminal");
    let mut ways = vec![vec!["sh", "-c", ignoring, "sh"]];
    if need("python3") {
        ways.push(vec!["python3", "-c", blocking]);
    }
    for way in ways {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).arg(again.get_program()).args(again.get_args());
        home.at_home(&mut command);
        assert_passed(&run(command, b"", DEADLINE));
    }
}

#[test]
fn a_missed_deadline_fails_and_kills() {
    let home = Home::new();
    let mut running = Running::start(shell(&home, "cat"));
    let pid = running.pid();
    let late = catch_unwind(AssertUnwindSafe(|| running.wait_exit(Duration::from_millis(20))));
    assert!(late.is_err());
    assert!(!is_alive(pid));
}

#[test]
fn the_end_of_the_scope_kills_the_children_too() {
    let home = Home::new();
    // A shell gives /dev/null to what runs in its background, where cat would end at once.
    let running = Running::start(shell(&home, "exec 3<&0; cat <&3 & echo $!; wait"));
    running.wait_stdout("a child's id", |bytes| bytes.ends_with(b"\n"));
    let child: u32 = String::from_utf8(running.stdout()).unwrap().trim().parse().unwrap();
    assert!(is_alive(child));
    drop(running);
    eventually("the child's end", DEADLINE, || (!is_alive(child)).then_some(()));
}

/// Whether the process exists and is no zombie.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

//! `ac-listen -e`: a command for each session, whose end is the sender's exit code.

use crate::testkit::common;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{
    DEADLINE, Home, Listener, Running, assert_code, befriend, eventually, number, run, said, send,
};
use rustix::process::{Pid, Signal};

/// Two people; bob listens.
struct Pair {
    alice: Home,
    bob: Home,
}

impl Pair {
    fn new() -> Self {
        Self::with_names("alice")
    }

    fn with_names(alice: &str) -> Self {
        let pair = Self { alice: Home::with_identity(), bob: Home::with_identity() };
        befriend(&pair.alice, alice, &pair.bob, "bob");
        pair
    }

    /// A listener that runs a shell script in bob's folder, which is `.` to it.
    fn script(&self, script: &str, args: &[&str]) -> Listener {
        let args = [&["--shell-exec", "-e", script], args, &["127.0.0.1:0"]].concat();
        let mut command = self.bob.command("ac-listen", &args);
        command.current_dir(self.bob.path());
        Listener::start(command)
    }

    fn send(&self, listener: &Listener, args: &[&str], stdin: &[u8]) -> Output {
        let to = listener.destination("bob");
        send(&self.alice, &[args, &[to.as_str()]].concat(), stdin)
    }

    fn start(&self, listener: &Listener, args: &[&str]) -> Running {
        let to = listener.destination("bob");
        Running::start(self.alice.command("ac-send", &[args, &[to.as_str()]].concat()))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.bob.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap()
    }

    fn wait_for_file(&self, name: &str, content: &str) {
        eventually(name, DEADLINE, || {
            (std::fs::read_to_string(self.at(name)).ok()? == content).then_some(())
        });
    }
}

/// Threads and descriptors of a process, and its children.
fn belongings(pid: u32) -> (usize, usize, Vec<u32>) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    (count("task"), count("fd"), children(pid))
}

fn children(pid: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let child: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()?;
        (parent == pid).then_some(child)
    });
    processes.collect()
}

fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

#[test]
fn a_message_is_the_commands_stdin_and_its_stdout_is_ours() {
    let pair = Pair::new();
    let mut listener = Listener::spawn(&pair.bob, &["-1", "-e", "tr 'a-z' \"A-Z\"", "127.0.0.1:0"]);
    assert_code(&pair.send(&listener, &[], b"hello"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"HELLO");
}

#[test]
fn with_a_duplex_sender_the_commands_stdout_goes_back() {
    let pair = Pair::new();
    let mut listener = pair.script("tr a-z A-Z; echo to stderr >&2", &["-n", "2"]);
    let sent = pair.send(&listener, &["-b"], b"hello");
    assert_code(&sent, 0);
    assert_eq!(sent.stdout, b"HELLO");
    assert_code(&pair.send(&listener, &[], b" and to you"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b" AND TO YOU");
    assert!(listener.stderr().contains("to stderr"));
}

#[test]
fn the_exit_status_is_the_senders_code_and_the_text_says_which() {
    let pair = Pair::new();
    let cases = [
        ("exit 3", "exit status 3"),
        ("kill -KILL $$", "killed by signal 9"),
        ("no-such-program-at-all", "exit status 127"),
    ];
    for (script, text) in cases {
        let listener = pair.script(script, &[]);
        for args in [&[][..], &["-b"]] {
            let sent = pair.send(&listener, args, b"x");
            assert_code(&sent, 8);
            assert!(said(&sent).contains(text), "{}", said(&sent));
        }
        listener.wait_stderr(&format!("alice: the command failed: {text}"));
    }
}

#[test]
fn a_duplex_sender_hears_all_before_it_hears_of_the_failure() {
    let pair = Pair::new();
    let listener = pair.script("head -c 3000000 /dev/zero; exit 9", &[]);
    let mut sender = pair.start(&listener, &["-b"]);
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(8));
    assert_eq!(sender.stdout().len(), 3_000_000);
    assert!(sender.stderr().contains("exit status 9"));
}

#[test]
fn a_command_that_does_not_want_all_of_it_and_ends_well_delivers() {
    let pair = Pair::new();
    let listener = Listener::spawn(&pair.bob, &["-e", "head -n 1", "127.0.0.1:0"]);
    let long = [b"first\n".to_vec(), vec![b'x'; 5_000_000]].concat();
    assert_code(&pair.send(&listener, &[], &long), 0);
    assert_eq!(listener.stdout(), b"first\n");
}

#[test]
fn a_command_that_hangs_is_ended_and_the_sender_told() {
    let pair = Pair::new();
    let script = "sleep 1000 & echo $! > child; echo $$ > own; wait";
    let listener = pair.script(script, &["--exec-timeout", "700ms"]);
    let sent = pair.send(&listener, &[], b"x");
    assert_code(&sent, 8);
    assert!(said(&sent).contains("did not end within 0.7 s"), "{}", said(&sent));
    eventually("its end", DEADLINE, || {
        (!lives(&pair.file("own")) && !lives(&pair.file("child"))).then_some(())
    });
}

#[test]
fn the_environment_says_whose_it_is() {
    let pair = Pair::new();
    let script = "cat > /dev/null; printf '%s\\n' \"$AC_FROM\" \"$AC_FROM_KEY\" \"$AC_ID\" \"$AC_KIND\" \"$AC_NAME\" > got";
    let listener = pair.script(script, &[]);
    let key = std::fs::read_to_string(pair.alice.public_key_file()).unwrap();
    for (args, kind) in [(&[][..], "message"), (&["-b"], "duplex")] {
        assert_code(&pair.send(&listener, args, b"x"), 0);
        let got = pair.file("got");
        let lines: Vec<_> = got.split('\n').collect();
        assert_eq!((lines[0], lines[3], lines[4]), ("alice", kind, ""));
        assert!(key.contains(&format!("public = \"{}\"", lines[1])), "{key}");
        assert!(lines[2].len() == 32 && lines[2].bytes().all(|b| b.is_ascii_hexdigit()));
    }
}

#[test]
fn a_file_is_a_message_with_a_name() {
    let pair = Pair::new();
    let mut listener =
        pair.script("echo \"$AC_KIND $AC_NAME\" >> names; cat | wc -c >> sizes", &["-1"]);
    let large = pair.alice.path().join("large");
    std::fs::write(&large, vec![b'x'; 3_000_000]).unwrap();
    let hostile = pair.alice.path().join("$(touch pwned);\x1b[2J\n.txt");
    std::fs::write(&hostile, b"y").unwrap();
    // A list of files is one run of ac-send, and a run of the command for each.
    let files = ["--", large.to_str().unwrap(), hostile.to_str().unwrap()];
    let to = listener.destination("bob");
    assert_code(&send(&pair.alice, &[&[to.as_str()], &files[..]].concat(), b""), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(pair.file("sizes"), "3000000\n1\n");
    assert_eq!(pair.file("names"), "file large\nfile $(touch pwned);[2J.txt\n");
    assert!(!pair.at("pwned").exists());
}

#[test]
fn a_name_in_the_environment_has_nothing_that_deceives_whoever_is_shown_it() {
    let pair = Pair::new();
    let mut listener = pair.script("cat > /dev/null; printf %s \"$AC_NAME\" > got", &["-1"]);
    // Direction, zero width, tags, a soft hyphen, a filler, a line separator, a shorthand control.
    let name = "a\u{202e}b\u{2066}c\u{2069}d\u{200b}e\u{200d}f\u{feff}g\u{e0041}h\u{ad}i\u{3164}j\u{2028}k\u{61c}l\u{1bca0}m\u{85}n.exé";
    let file = pair.alice.path().join(name);
    std::fs::write(&file, b"x").unwrap();
    let to = listener.destination("bob");
    assert_code(&send(&pair.alice, &[&to, "--", file.to_str().unwrap()], b""), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(pair.file("got"), "abcdefghijklmn.exé");
}

#[test]
fn a_folder_is_for_no_command_and_files_go_to_the_directory_if_there_is_one() {
    let pair = Pair::new();
    let folder = pair.alice.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), b"content").unwrap();
    let listener = pair.script("echo ran >> ran", &[]);
    let to = listener.destination("bob");
    let sent = send(&pair.alice, &[&to, "--", folder.to_str().unwrap()], b"");
    assert_code(&sent, 8);
    assert!(said(&sent).contains("send a tar"), "{}", said(&sent));

    let inbox = pair.at("inbox");
    std::fs::create_dir(&inbox).unwrap();
    let listener = pair.script("echo ran >> ran", &["-d", "inbox"]);
    let to = listener.destination("bob");
    assert_code(&send(&pair.alice, &[&to, "--", folder.to_str().unwrap()], b""), 0);
    assert!(!pair.at("ran").exists());
    assert_code(&send(&pair.alice, &[&to], b"x"), 0);
    assert_eq!(pair.file("ran"), "ran\n");
    let landed: Vec<_> = std::fs::read_dir(&inbox).unwrap().collect();
    assert_eq!(landed.len(), 1);
}

#[test]
fn nothing_of_a_peer_becomes_an_argument_or_a_command() {
    let hostile = "$(touch${IFS}pwned);`touch${IFS}pwned`|touch";
    let pair = Pair::with_names(hostile);
    let listener = pair.script("cat > got; echo $# >> got; echo \"$AC_FROM\" >> got", &[]);
    let content = "'; touch pwned; $(touch pwned) `touch pwned` \n touch pwned \n";
    assert_code(&pair.send(&listener, &[], content.as_bytes()), 0);
    assert_eq!(pair.file("got"), format!("{content}0\n{hostile}\n"));
    // Without a shell, what looks like one is words.
    let mut command =
        pair.bob.command("ac-listen", &["-1", "-e", "echo $AC_FROM; touch pwned|", "127.0.0.1:0"]);
    command.current_dir(pair.bob.path());
    let mut plain = Listener::start(command);
    assert_code(&pair.send(&plain, &[], b"x"), 0);
    plain.wait_exit(DEADLINE);
    assert_eq!(plain.stdout(), b"$AC_FROM; touch pwned|\n");
    assert!(!pair.at("pwned").exists());
}

#[test]
fn more_than_may_run_at_once_wait_for_their_turn() {
    let pair = Pair::new();
    let script = "mkdir only || exit 1; cat > /dev/null; sleep 0.05; rmdir only";
    let listener = pair.script(script, &["--max-exec", "1"]);
    let mut senders: Vec<_> = (0..8).map(|_| pair.start(&listener, &[])).collect();
    senders.iter_mut().for_each(|sender| sender.feed(vec![b'x'; 300_000]));
    for sender in &mut senders {
        assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    }
}

#[test]
fn whoever_says_nothing_takes_no_place_of_a_command() {
    let pair = Pair::new();
    let listener = pair.script("cat > part; mv part whole", &["-v", "--max-exec", "1"]);
    let mut silent = pair.start(&listener, &[]);
    listener.wait_stderr("connected from");
    assert_code(&pair.send(&listener, &["-w", "5"], b"hi"), 0);
    assert_eq!(pair.file("whole"), "hi");
    // It has its place as soon as it says something.
    silent.feed(b"at last".to_vec());
    assert!(silent.wait_exit(DEADLINE).success(), "{}", silent.stderr());
    assert_eq!(pair.file("whole"), "at last");
}

#[test]
fn a_session_that_is_cut_ends_its_command_which_sees_no_end_of_input() {
    let pair = Pair::new();
    let listener = pair.script("echo $$ > own; cat > part; echo > whole", &[]);
    for args in [&[][..], &["-b"]] {
        let mut sender = pair.start(&listener, args);
        sender.stdin.as_mut().unwrap().write_all(b"half").unwrap();
        pair.wait_for_file("part", "half");
        let own = pair.file("own");
        sender.kill();
        eventually("its end", DEADLINE, || (!lives(&own)).then_some(()));
        assert!(!pair.at("whole").exists());
        std::fs::remove_file(pair.at("part")).unwrap();
    }
    assert_code(&pair.send(&listener, &[], b"all"), 0);
    assert!(pair.at("whole").exists());
}

#[test]
fn when_the_listener_ends_so_do_its_commands() {
    let pair = Pair::new();
    for signal in [Signal::TERM, Signal::INT] {
        let script = "trap '' TERM INT; sleep 1000 & echo $! > child; echo $$ > own; echo > ready; wait; wait";
        let mut listener = pair.script(script, &[]);
        let mut sender = pair.start(&listener, &["-b"]);
        pair.wait_for_file("ready", "\n");
        listener.signal(signal);
        listener.wait_exit(DEADLINE);
        assert!(!lives(&pair.file("own")));
        // Not the listener's to wait for; its signal was sent.
        let child = pair.file("child");
        eventually("its child's end", DEADLINE, || (!lives(&child)).then_some(()));
        assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6));
        std::fs::remove_file(pair.at("ready")).unwrap();
    }
}

#[test]
fn hundreds_of_runs_leave_nothing_behind() {
    let pair = Pair::new();
    let listener = Listener::spawn(&pair.bob, &["-e", "cat", "127.0.0.1:0"]);
    let to = listener.destination("bob");
    let run_some = |count: usize| {
        for turn in 0..count {
            let args: &[&str] = if turn % 2 == 0 { &[&to] } else { &["-b", &to] };
            assert_code(&send(&pair.alice, args, b"x"), 0);
        }
    };
    run_some(10);
    let before = settled(&listener);
    run_some(number("AC_TEST_EXEC_RUNS", 200));
    eventually("as many threads and descriptors as before", DEADLINE, || {
        let now = settled(&listener);
        (now.0 <= before.0 && now.1 <= before.1).then_some(())
    });
}

#[test]
fn a_command_has_no_descriptor_of_ours_and_signals_as_they_should_be() {
    let pair = Pair::new();
    let look = "cat > /dev/null; ls /proc/$$/fd; grep -E 'Sig(Ign|Blk)' /proc/self/status";
    let listener = pair.script(look, &[]);
    let mut other = pair.start(&listener, &[]);
    other.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    let theirs = pair.send(&listener, &["-b"], b"x");
    assert_code(&theirs, 0);
    // What it would have from us without a listener between.
    let mut shell = Command::new("sh");
    shell.args(["-c", look]);
    pair.bob.at_home(&mut shell);
    let ours = run(shell, b"x", DEADLINE);
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text(&theirs), text(&ours));
}

#[test]
fn a_terminal_of_one_line_after_another_is_served_at_once() {
    let pair = Pair::new();
    let listener = pair.script("while read line; do echo \"got $line\"; done", &[]);
    let mut sender = pair.start(&listener, &["-b"]);
    let mut so_far = String::new();
    for round in 0..20 {
        writeln!(sender.stdin.as_mut().unwrap(), "{round}").unwrap();
        so_far.push_str(&format!("got {round}\n"));
        sender.wait_stdout("its answer", |bytes| bytes == so_far.as_bytes());
    }
    sender.close_stdin();
    assert!(sender.wait_exit(DEADLINE).success());
}

#[test]
fn a_stream_ends_well_when_its_command_does_whatever_more_there_would_be_to_say() {
    let pair = Pair::new();
    let mut listener = pair.script("read line; echo \"got $line\"", &["-1"]);
    let mut sender = pair.start(&listener, &["-b"]);
    sender.stdin.as_mut().unwrap().write_all(b"one line\nand more\n").unwrap();
    // Its stdin stays open.
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(0), "{}", sender.stderr());
    assert_eq!(sender.stdout(), b"got one line\n");
    assert!(listener.wait_exit(DEADLINE).success());
}

#[test]
fn what_cannot_be_is_refused_with_what_to_use_instead() {
    let home = Home::with_identity();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["-e", "cat", "-u"], 2, "leave out -u"),
        (&["-e", "cat", "--json"], 2, "--status-fd"),
        (&["-e", "'open"], 2, "has no other end"),
        (&["-e", ""], 2, "there is no command"),
        (&["-e", "no-such-program | cat"], 1, "--shell-exec"),
        (&["--shell-exec"], 2, "--exec"),
    ];
    for (args, code, hint) in cases {
        let args = [args, &["127.0.0.1:0"]].concat();
        let output = run(home.command("ac-listen", &args), b"", DEADLINE);
        assert_code(&output, code);
        assert!(said(&output).contains(hint), "{}", said(&output));
    }
}

#[test]
fn reports_say_what_was_delivered_and_what_failed() {
    let pair = Pair::new();
    let script = "exec \"$0\" --status-fd 3 -1 --shell-exec \
         -e 'test ! -e /proc/$$/fd/3 && grep -q good' 127.0.0.1:0 3> status";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(common::program("ac-listen"));
    pair.bob.at_home(&mut command);
    command.current_dir(pair.bob.path());
    let mut listener = Listener::start(command);
    assert_code(&pair.send(&listener, &[], b"bad\n"), 8);
    assert_code(&pair.send(&listener, &[], b"good\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let reports = pair.file("status");
    assert!(reports.contains("\"why\":\"the command failed: exit status 1\""), "{reports}");
    assert!(reports.contains("\"event\":\"delivered\""), "{reports}");
}

/// Threads, and descriptors, of a listener whose commands are over; those it left behind run on.
fn settled(listener: &Listener) -> (usize, usize) {
    eventually("no children", DEADLINE, || {
        let (threads, descriptors, children) = belongings(listener.pid());
        children.is_empty().then_some((threads, descriptors))
    })
}

#[test]
fn a_stream_ends_with_its_command_whoever_still_has_its_output() {
    let pair = Pair::new();
    // One place: the second run has it only if the first has given it back.
    let listener = pair.script(
        "echo hi; sleep 1000 & echo $! >> left; exit 3",
        &["--max-exec", "1", "--exec-timeout", "20s"],
    );
    let began = Instant::now();
    for turn in 0..3 {
        let sent = pair.send(&listener, &["-b"], b"x");
        assert_code(&sent, 8);
        assert_eq!(sent.stdout, b"hi\n");
        assert!(said(&sent).contains("exit status 3"), "{turn}: {}", said(&sent));
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    end_those_left(&pair);
}

/// Ends what the commands left behind.
fn end_those_left(pair: &Pair) {
    for pid in pair.file("left").lines() {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        // Who is gone needs no ending.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

#[test]
fn all_that_a_command_said_before_its_end_arrives_whoever_still_has_its_output() {
    let pair = Pair::new();
    for code in [0, 5] {
        let script = format!(
            "sleep 1000 & echo $! >> left; head -c 1048576 /dev/zero; echo end; exit {code}"
        );
        let listener = pair.script(&script, &[]);
        let mut sender = pair.start(&listener, &["-b"]);
        // With its stdin open.
        let expected = if code == 0 { 0 } else { 8 };
        assert_eq!(sender.wait_exit(DEADLINE).code(), Some(expected), "{}", sender.stderr());
        let stdout = sender.stdout();
        assert_eq!((stdout.len(), &stdout[1_048_576..]), (1_048_580, &b"end\n"[..]));
    }
    end_those_left(&pair);
}

#[test]
fn who_is_left_behind_by_a_command_writes_to_nobody() {
    let pair = Pair::new();
    // Never silent, so that reading until nothing is there would take for ever.
    let script = "yes & echo $! >> left; exit 0";
    let listener = pair.script(script, &["--max-exec", "1"]);
    for _ in 0..2 {
        assert_code(&pair.send(&listener, &["-b"], b"x"), 0);
    }
    for pid in pair.file("left").lines() {
        eventually("its end by SIGPIPE", DEADLINE, || (!lives(pid)).then_some(()));
    }
}

#[test]
fn a_stdin_that_nobody_reads_is_given_up_with_the_command() {
    let pair = Pair::new();
    let script = "exec 3<&0; sleep 1000 <&3 >&2 & echo $! >> left; sleep 0.1; exit 4";
    let listener = pair.script(script, &["--max-exec", "1"]);
    let long = vec![b'x'; 2_000_000];
    let send_both = || {
        for args in [&[][..], &["-b"]] {
            let sent = pair.send(&listener, args, &long);
            assert_code(&sent, 8);
            assert!(said(&sent).contains("exit status 4"), "{}", said(&sent));
        }
    };
    send_both();
    let before = settled(&listener);
    (0..3).for_each(|_| send_both());
    eventually("as many threads and descriptors as before", DEADLINE, || {
        let now = settled(&listener);
        (now.0 <= before.0 && now.1 <= before.1).then_some(())
    });
    end_those_left(&pair);
}

#[test]
fn a_command_that_closes_its_output_is_still_waited_for() {
    let pair = Pair::new();
    let script = "echo said; exec >&-; while ! test -e go; do sleep 0.01; done; exit 6";
    let listener = pair.script(script, &[]);
    let mut sender = pair.start(&listener, &["-b"]);
    sender.close_stdin();
    sender.wait_stdout("what it said", |bytes| bytes == b"said\n");
    assert!(sender.poll_exit().is_none());
    std::fs::write(pair.at("go"), b"").unwrap();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(8), "{}", sender.stderr());
    assert!(sender.stderr().contains("exit status 6"));
}

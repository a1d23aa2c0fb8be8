//! Every exit code of the table in ac(7), from a situation that brings it about, and the form of
//! errors: one lower-case line with the program's name, then at most one hint.

use crate::testkit::common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use common::{
    DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, befriend, free_port, program,
    run, send,
};
use rustix::process::Signal;

/// Alice and Bob, who know each other, and Bob's listener.
fn scene(args: &[&str]) -> (Home, Home, Listener) {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &[args, &["127.0.0.1:0"]].concat());
    (alice, bob, listener)
}

/// Alice, with Bob among her contacts.
fn alice() -> Home {
    let alice = Home::with_identity();
    alice.import(&Home::with_identity(), "bob");
    alice
}

/// The code, and the form of what is said: gives the error and the hint.
fn fails(output: &Output, program: &str, code: i32) -> (String, String) {
    assert_code(output, code);
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<_> = said.lines().skip_while(|l| is_ready_line(l)).collect();
    let error = lines.first().and_then(|l| l.strip_prefix(&format!("{program}: ")));
    let error = error.unwrap_or_else(|| panic!("no error in {said:?}"));
    assert!(!error.starts_with(char::is_uppercase) && !error.ends_with('.'), "{said}");
    assert!(!error.contains("os error"), "{said}");
    let hint = match lines[1..] {
        [] => "",
        [hint] => hint.strip_prefix("hint: ").unwrap_or_else(|| panic!("no hint in {said:?}")),
        _ => panic!("more than an error and a hint:\n{said}"),
    };
    (error.to_owned(), hint.to_owned())
}

/// What a listener says before anything can go wrong.
fn is_ready_line(line: &str) -> bool {
    line.contains("listening on ") || line.contains("fingerprint")
}

fn send_fails(home: &Home, args: &[&str], code: i32) -> (String, String) {
    fails(&send(home, args, b"hi\n"), "ac-send", code)
}

fn listen_fails(home: &Home, args: &[&str], code: i32) -> (String, String) {
    fails(&run(home.command("ac-listen", args), b"", DEADLINE), "ac-listen", code)
}

/// Answers one caller on a port of this machine.
fn answerer(answer: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let ear = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = ear.local_addr().unwrap().port();
    std::thread::spawn(move || answer(ear.accept().unwrap().0));
    format!("bob@127.0.0.1:{port}")
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe that nobody reads.
fn broken_pipe() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

#[test]
fn delivered_is_0_and_so_is_the_listener_that_heard_what_it_was_asked_for() {
    let (alice, _bob, mut listener) = scene(&["-1"]);
    let sent = send(&alice, &[&listener.destination("bob")], b"hi\n");
    assert_code(&sent, 0);
    assert_eq!((sent.stdout, sent.stderr), (vec![], vec![]));
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"hi\n");
}

#[test]
fn an_input_that_cannot_be_read_is_1() {
    let (alice, _bob, listener) = scene(&[]);
    let mut command = alice.command("ac-send", &[&listener.destination("bob")]);
    command.stdin(File::open("/").unwrap());
    let (error, _) = fails(&run(command, b"", DEADLINE), "ac-send", 1);
    assert!(error.contains("cannot read the input"), "{error}");
    let told = listener.wait_stderr("cut off");
    assert!(told.contains("could not read"), "{told}");
}

#[test]
fn an_output_that_cannot_be_written_is_1() {
    let (alice, bob, listener) = scene(&[]);
    let destination = listener.destination("bob");
    for stdout in [full, broken_pipe] {
        let mut command = alice.command("ac-send", &["--json", &destination]);
        command.stdout(stdout());
        let (error, _) = fails(&run(command, b"hi\n", DEADLINE), "ac-send", 1);
        assert!(error.contains("cannot write the output"), "{error}");
        for name in ["ac-send", "ac-listen", "ac-keygen"] {
            for option in ["--help", "--version"] {
                let mut command = alice.command(name, &[option]);
                command.stdout(stdout());
                fails(&run(command, b"", DEADLINE), name, 1);
            }
        }
    }
    let mut command = bob.command("ac-listen", &["127.0.0.1:0"]);
    command.stdout(full());
    let mut listener = Listener::start(command);
    let (error, _) = send_fails(&alice, &[&listener.destination("bob")], 8);
    assert!(error.contains("declined: the recipient cannot write its output"), "{error}");
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
    listener.wait_stderr("ac-listen: cannot write the output: no space left on device");
}

#[test]
fn a_lack_of_descriptors_is_1_wherever_it_strikes() {
    let (alice, bob, tcp) = scene(&[]);
    let udp = Listener::spawn(&bob, &["-u", "127.0.0.1:0"]);
    // Nothing of it is a relay: nobody gets that far.
    let relay = alice.path().join("home.pub");
    let relay_home = Home::new();
    let mut command = relay_home.command("ac-relay", &["127.0.0.1:0"]);
    command.stdout(File::create(&relay).unwrap());
    let running = Running::start(command);
    let port = common::port_in_ready_line(&running.wait_stderr("listening on ")).unwrap();
    assert_code(&alice.keygen(&["--import", relay.to_str().unwrap(), "--as", "home"]), 0);
    let (near, far) = (tcp.destination("bob"), format!("bob@localhost:{}", tcp.port()));
    let (by_udp, via) = (udp.destination("bob"), format!("home@127.0.0.1:{port}"));
    let ways: [(&[&str], i32); 7] = [
        (&[&near], 0),
        (&[&far], 0),
        (&[&near, &far], 0),
        (&["-u", &by_udp], 0),
        (&["-u", "-z", &by_udp], 0),
        (&["--queue", "-w", "1s", "--via", &via, "bob"], 0),
        (&["-z", "-w", "1s", "--via", &via, "bob"], 4),
    ];
    for (args, end) in ways {
        for limit in 4.. {
            let command = alice.command_with_descriptors(limit, "ac-send", args);
            let sent = run(command, b"hi\n", DEADLINE);
            let said = String::from_utf8_lossy(&sent.stderr).into_owned();
            let short = said.contains("open files");
            let code = sent.status.code();
            // Too few even to start the program are the loader's affair.
            assert!(code == Some(1) || code == Some(127) || !short, "{args:?}, {limit}: {said}");
            assert!(limit < 32, "{args:?}: {said}");
            if code == Some(end) {
                break;
            }
            assert_ne!(code, Some(4), "{args:?}, {limit}: {said}");
        }
    }
}

#[test]
fn an_address_that_cannot_be_bound_is_1() {
    let (_alice, bob, listener) = scene(&[]);
    let taken = format!("127.0.0.1:{}", listener.port());
    let (error, hint) = listen_fails(&bob, &[&taken], 1);
    assert!(error.contains(&taken) && error.contains("in use"), "{error}");
    assert!(hint.contains("another port"), "{hint}");
    // TEST-NET-1: no machine has it.
    listen_fails(&bob, &["192.0.2.1:0"], 1);
}

#[test]
fn wrong_usage_is_2() {
    let alice = alice();
    let bad_sends: &[&[&str]] = &[
        &[],
        &["--no-such-option", "bob"],
        &["-w", "0", "bob"],
        &["-w", "soon", "bob"],
        &["-w"],
        &["-q", "-v", "bob"],
        &["-a", "-k", "team", "bob"],
        &[""],
        &["bob@10.0.0.5:1234", "bob@10.0.0.5:1234"],
        &["bob", "carol", "dave@"],
        &["bob@"],
        &["@10.0.0.5:1234"],
        &["bob@10.0.0.5"],
        &["10.0.0.5:0"],
        &["10.0.0.5:65536"],
        &["10.0.0.5:x"],
        &["10.0.0.555:1234"],
        &["10.0.0:1234"],
        &["::1:1234"],
        &["[::1:1234"],
        &["[nonsense]:1234"],
        &[":1234"],
        &["ho st:1234"],
        &["h\u{1b}[31mst:1234"],
        &["10.0.0.5", "99999"],
        &["--status-fd", "-1", "bob"],
        &["--passphrase-fd", "x", "bob"],
    ];
    for args in bad_sends {
        let (error, _) = send_fails(&alice, args, 2);
        assert!(!error.contains(char::is_control), "{args:?}: {error:?}");
    }
    let bad_listens: &[&[&str]] = &[
        &[],
        &["x"],
        &["65536"],
        &["-1"],
        &["127.0.0.1"],
        &["::1:1234"],
        &["127.0.0.1:x"],
        &["-n", "0", "0"],
        &["-1", "-n", "2", "0"],
        &["-0", "--json", "0"],
        &["--from", "a/b", "0"],
        &["--from", "bob", "--accept-unknown", "0"],
    ];
    for args in bad_listens {
        listen_fails(&alice, args, 2);
    }
}

#[test]
fn an_address_that_two_contacts_may_have_is_2_and_names_them() {
    let alice = alice();
    alice.import(&Home::with_identity(), "carol");
    let (error, hint) = send_fails(&alice, &["127.0.0.1:1234"], 2);
    assert!(error.contains("127.0.0.1:1234"), "{error}");
    assert!(hint.contains("bob, carol"), "{hint}");
}

#[test]
fn a_descriptor_that_is_not_open_is_2_before_anything_is_sent() {
    let (alice, bob, listener) = scene(&[]);
    send_fails(&alice, &["--status-fd", "77", &listener.destination("bob")], 2);
    assert_eq!(listener.stdout(), b"");
    let (error, _) = listen_fails(&bob, &["--status-fd", "77", "127.0.0.1:0"], 2);
    assert!(error.contains("--status-fd 77"), "{error}");
}

#[test]
fn a_key_that_is_not_there_is_3() {
    let nobody = Home::new();
    for (error, hint) in [
        send_fails(&nobody, &["bob@127.0.0.1:1"], 3),
        send_fails(&nobody, &["127.0.0.1:1"], 3),
        listen_fails(&nobody, &["127.0.0.1:0"], 3),
        send_fails(&alice(), &["carol@127.0.0.1:1"], 3),
        listen_fails(&alice(), &["--from", "carol", "127.0.0.1:0"], 3),
        listen_fails(&alice(), &["-k", "team", "127.0.0.1:0"], 3),
    ] {
        assert!(!hint.is_empty(), "{error}");
    }
    send_fails(&alice(), &["./no/such.pub@127.0.0.1:1"], 3);
    send_fails(&alice(), &["-k", "./no/such.key", "bob@127.0.0.1:1"], 3);
}

#[test]
fn a_key_file_that_is_not_as_it_should_be_is_3() {
    type Spoil = fn(&std::path::Path);
    let spoils: [(&str, Spoil); 6] = [
        ("identity.key", |file| set_mode(file, 0o644)),
        ("identity.key", |file| {
            std::fs::rename(file, file.with_extension("moved")).unwrap();
            symlink("identity.moved", file).unwrap();
        }),
        ("identity.key", |file| {
            std::fs::remove_file(file).unwrap();
            std::fs::create_dir(file).unwrap();
        }),
        ("identity.key", truncate),
        ("contacts/bob.pub", truncate),
        ("contacts/bob.pub", |file| std::fs::write(file, "public = 7\n").unwrap()),
    ];
    for (name, spoil) in spoils {
        let alice = alice();
        let file = alice.path().join(name);
        spoil(&file);
        let (error, _) = send_fails(&alice, &["bob@127.0.0.1:1"], 3);
        assert!(error.contains(name), "{error}");
        if name == "identity.key" {
            listen_fails(&alice, &["127.0.0.1:0"], 3);
        }
    }
}

fn set_mode(file: &std::path::Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn truncate(file: &std::path::Path) {
    let text = std::fs::read(file).unwrap();
    std::fs::write(file, &text[..text.len() / 2]).unwrap();
}

#[test]
fn a_wrong_passphrase_is_3_and_the_right_one_opens_the_key() {
    let (alice, bob) = (Home::new(), Home::with_identity());
    let written = |name: &str, text: &str| {
        let file = alice.path().join(name);
        std::fs::write(&file, text).unwrap();
        set_mode(&file, 0o600);
        file.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (written("right", "correct horse\n"), written("wrong", "battery\n"));
    assert_code(&alice.keygen(&["-p", "--passphrase-file", &right]), 0);
    befriend(&alice, "alice", &bob, "bob");
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let to = listener.destination("bob");
    let (error, _) = send_fails(&alice, &["--passphrase-file", &wrong, &to], 3);
    assert!(error.contains("wrong passphrase"), "{error}");
    assert_code(&send(&alice, &["--passphrase-file", &right, &to], b"hi\n"), 0);
}

#[test]
fn nobody_there_is_4() {
    let alice = alice();
    let nobody = format!("bob@127.0.0.1:{}", free_port());
    let (error, _) = send_fails(&alice, &[&nobody], 4);
    assert!(error.contains("connection refused"), "{error}");
    let (error, _) = send_fails(&alice, &["-w", "3s", "bob@nosuch.invalid:1234"], 4);
    assert!(error.starts_with("bob: the host was not found: nosuch.invalid: "), "{error}");
    assert_eq!(error, error.to_lowercase(), "an error is one lower-case line");
    let (error, hint) = send_fails(&alice, &["bob"], 4);
    assert!(error.contains("no address is known") && hint.contains("bob@HOST:PORT"), "{hint}");
    let (error, _) = listen_fails(&alice, &["-w", "300ms", "127.0.0.1:0"], 4);
    assert!(error.contains("heard nobody"), "{error}");
    listen_fails(&alice, &["-1", "-w", "300ms", "127.0.0.1:0"], 4);
}

#[test]
fn hearing_one_of_two_is_4() {
    let (alice, _bob, mut listener) = scene(&["-n", "2", "-w", "1s"]);
    assert_code(&send(&alice, &[&listener.destination("bob")], b"hi\n"), 0);
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(4), "{}", listener.stderr());
}

#[test]
fn no_proof_is_5_and_the_hint_names_the_five_causes() {
    let alice = alice();
    let (other, carol) = (Home::with_identity(), Home::with_identity());
    let other_key = Listener::spawn(&other, &["127.0.0.1:0"]);
    let unfriendly = Listener::spawn(&carol, &["127.0.0.1:0"]);
    alice.import(&carol, "carol");
    let echo = answerer(|mut stream| {
        let mut writer = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut writer);
    });
    let closing = answerer(drop);
    let resetting = answerer(|stream| {
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    });
    let babbling = answerer(|mut stream| {
        let _ = stream.write_all(&[7; 100_000]);
        let _ = stream.read(&mut [0; 1]);
    });
    let polite = answerer(|mut stream| {
        let _ = stream.read_exact(&mut [0; 1248]);
    });
    let mute = answerer(|mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    for args in [
        &["-w", "1s", &other_key.destination("bob")][..],
        &["-w", "1s", &unfriendly.destination("carol")],
        &["-w", "1s", "-z", &unfriendly.destination("carol")],
        &["-w", "1s", "-a", &unfriendly.destination("carol")],
        &["-w", "1s", &mute],
        &[&echo],
        &[&closing],
        &[&resetting],
        &[&babbling],
        &[&polite],
    ] {
        let (error, hint) = send_fails(&alice, args, 5);
        assert!(error.contains("127.0.0.1:"), "{error}");
        for cause in ["wrong key", "among their contacts", "clocks", "nobody listens", "too busy"] {
            assert!(hint.contains(cause), "{hint}");
        }
        // Who accepts, and then closes or says nothing, may well be.
        let likely = error.contains("gave no proof") || error.contains("closed the connection");
        assert_eq!(hint.starts_with("they are too busy"), likely, "{error}\n{hint}");
    }
}

#[test]
fn an_anonymous_sender_is_heard_with_accept_unknown() {
    let (alice, _bob, listener) = scene(&["--accept-unknown"]);
    assert_code(&send(&alice, &["-a", &listener.destination("bob")], b"hi\n"), 0);
    assert_code(&send(&alice, &["-z", &listener.destination("bob")], b""), 0);
}

#[test]
fn cut_off_is_6() {
    let (alice, _bob, mut listener) = scene(&["-v"]);
    let mut sender = Running::start(alice.command("ac-send", &[&listener.destination("bob")]));
    sender.stdin.as_mut().unwrap().write_all(b"half of ").unwrap();
    listener.wait_stdout("what came so far", |out| out == b"half of ");
    listener.kill();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6));
    let line = sender.wait_stderr("ac-send: bob: cut off: ");
    assert!(line.contains("127.0.0.1:"), "{line}");
}

#[test]
fn declined_is_8() {
    let (alice, _bob, mut listener) = scene(&["-1", "-v"]);
    let to = listener.destination("bob");
    let mut late = Running::start(alice.command("ac-send", &[&to]));
    late.stdin.as_mut().unwrap().write_all(b"not in time").unwrap();
    listener.wait_stderr("alice: connected");
    let mut first = Running::start(alice.command("ac-send", &[&to]));
    first.feed(b"first\n".to_vec());
    let (late, first) = (late.wait_exit(DEADLINE), first.wait_exit(DEADLINE));
    // Whose message owned the output first is a race; the other is turned away.
    let mut codes = [late.code(), first.code()];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(8)]);
    assert!(listener.wait_exit(DEADLINE).success());
}

#[test]
fn a_signal_kills_with_that_signal() {
    for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
        let (alice, bob, mut listener) = scene(&["-v"]);
        let mut sender = Running::start(alice.command("ac-send", &[&listener.destination("bob")]));
        listener.wait_stderr("alice: connected");
        sender.signal(signal);
        assert_eq!(sender.wait_exit(DEADLINE).signal(), Some(signal.as_raw()));
        assert_eq!(sender.stderr(), "");
        let told = listener.wait_stderr("cut off");
        assert!(told.contains("the sender was stopped"), "{told}");
        listener.signal(signal);
        assert_eq!(listener.wait_exit(DEADLINE).signal(), Some(signal.as_raw()));

        // A shell shows it as 128 and the signal's number.
        let mut shell = Command::new("sh");
        let script = "\"$0\" 127.0.0.1:0 & wait $!; echo $?";
        shell.args(["-c", script]).arg(program("ac-listen"));
        bob.at_home(&mut shell);
        if signal != Signal::INT {
            // Background jobs of a shell ignore SIGINT.
            let mut shell = Listener::start(shell);
            let children = format!("/proc/{0}/task/{0}/children", shell.pid());
            let child: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
            let child = rustix::process::Pid::from_raw(child).unwrap();
            rustix::process::kill_process(child, signal).unwrap();
            shell.wait_exit(DEADLINE);
            let code = format!("{}\n", 128 + signal.as_raw());
            assert_eq!(String::from_utf8(shell.stdout()).unwrap(), code);
        }
    }
}

#[test]
fn a_signal_during_connecting_kills_too() {
    let alice = alice();
    let ear = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("bob@127.0.0.1:{}", ear.local_addr().unwrap().port());
    let mut sender = Running::start(alice.command("ac-send", &[&to]));
    // It has connected, and waits for an answer that never comes.
    let (mut accepted, _) = ear.accept().unwrap();
    accepted.read_exact(&mut [0; 1248]).unwrap();
    sender.signal(Signal::TERM);
    assert_eq!(sender.wait_exit(DEADLINE).signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let (alice, bob) = alice_and_bob();
    let mut nohup = Command::new("nohup");
    nohup.arg(program("ac-listen")).args(["-v", "127.0.0.1:0"]);
    bob.at_home(&mut nohup);
    let mut listener = Listener::start(nohup);
    let mut command = Command::new("nohup");
    command.arg(program("ac-send")).arg(listener.destination("bob"));
    alice.at_home(&mut command);
    let mut sender = Running::start(command);
    listener.wait_stderr("alice: connected");
    listener.signal(Signal::HUP);
    sender.signal(Signal::HUP);
    sender.feed(b"still here\n".to_vec());
    assert!(sender.wait_exit(DEADLINE).success());
    listener.wait_stdout("the message", |out| out == b"still here\n");
    listener.signal(Signal::TERM);
    assert_eq!(listener.wait_exit(DEADLINE).signal(), Some(Signal::TERM.as_raw()));
}

fn objects(bytes: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn json_reports_the_result_on_stdout_with_the_same_code() {
    let (alice, _bob, listener) = scene(&[]);
    let to = listener.destination("bob");
    let nobody = format!("bob@127.0.0.1:{}", free_port());
    let closing = answerer(drop);
    for (args, code, event) in [
        (&["--json", &to][..], 0, "result"),
        (&["--json", "-z", &to], 0, "result"),
        (&["--json", &nobody], 4, "result"),
        (&["--json", &closing], 5, "result"),
        (&["--json", "bob"], 4, "error"),
        (&["--json", "carol"], 3, "error"),
        (&["--json", "bob@"], 2, "error"),
    ] {
        let sent = send(&alice, args, b"hi\n");
        assert_code(&sent, code);
        let told = objects(&sent.stdout);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["v"], 1);
        assert_eq!(told[0]["event"], event, "{told:?}");
        assert_eq!(told[0]["code"], code);
        if code == 0 {
            assert_eq!(told[0]["to"], "bob");
            assert!(told[0].get("error").is_none());
        } else {
            let error = told[0]["error"].as_str().unwrap();
            assert!(String::from_utf8_lossy(&sent.stderr).contains(error), "{told:?}");
        }
    }
}

#[test]
fn a_listener_that_fails_says_so_in_json_too() {
    let bob = Home::with_identity();
    let ear = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("127.0.0.1:{}", ear.local_addr().unwrap().port());
    for (home, address, code) in [(&bob, taken.as_str(), 1), (&Home::new(), "127.0.0.1:0", 3)] {
        let output = run(home.command("ac-listen", &["--json", address]), b"", DEADLINE);
        fails(&output, "ac-listen", code);
        let told = objects(&output.stdout);
        let last = told.last().unwrap();
        assert_eq!((&last["event"], &last["code"]), (&"error".into(), &code.into()), "{told:?}");
    }
}

#[test]
fn a_status_descriptor_gets_the_report_and_stdout_nothing() {
    let (alice, _bob, listener) = scene(&[]);
    let nobody = format!("bob@127.0.0.1:{}", free_port());
    for (to, code) in [(listener.destination("bob"), 0), (nobody, 4)] {
        let status = alice.path().join("status");
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" --status-fd 3 \"$1\" 3>\"$2\""]);
        shell.arg(program("ac-send")).arg(&to).arg(&status);
        alice.at_home(&mut shell);
        let sent = run(shell, b"hi\n", DEADLINE);
        assert_code(&sent, code);
        assert_eq!(sent.stdout, b"");
        let told = objects(&std::fs::read(&status).unwrap());
        assert_eq!(told.len(), 1);
        assert_eq!((&told[0]["event"], &told[0]["code"]), (&"result".into(), &code.into()));
    }
    listener.wait_stdout("the message", |out| out == b"hi\n");
}

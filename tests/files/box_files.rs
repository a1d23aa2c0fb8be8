//! Messages sealed into files: they open where they should, as often as they are shown, and nowhere
//! else; what is damaged says so, and a file is complete or not there.

use crate::testkit::{common, random::noise, udp};

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use common::{
    DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, eventually, number, run, send,
};
use rustix::process::Signal;
use serde_json::Value;
use udp::{Going, Proxy, Record, Stranger};

const PACKET: usize = 1200;
/// What one packet carries, and what one message of 64 packets carries.
const FRAGMENT: usize = 998;
const MESSAGE: usize = 64 * FRAGMENT;

/// What `ac-send -o -` makes of `body`.
fn sealed(home: &Home, args: &[&str], body: &[u8]) -> Vec<u8> {
    let output = send(home, &[&["-o", "-"], args].concat(), body);
    assert_code(&output, 0);
    output.stdout
}

/// `ac-listen --open -` on `file`.
fn open(home: &Home, args: &[&str], file: &[u8]) -> Output {
    run(home.command("ac-listen", &[&["--open", "-"], args].concat()), file, DEADLINE)
}

#[track_caller]
fn assert_opens(home: &Home, args: &[&str], file: &[u8], expected: &[u8]) {
    let opened = open(home, args, file);
    assert_code(&opened, 0);
    assert!(opened.stdout == expected, "{} bytes came out", opened.stdout.len());
    assert_eq!(String::from_utf8_lossy(&opened.stderr), "");
}

#[track_caller]
fn assert_fails(opened: &Output, code: i32, said: &str, came: &[u8]) {
    assert_code(opened, code);
    let stderr = String::from_utf8_lossy(&opened.stderr);
    assert!(stderr.contains(said), "{stderr}");
    assert!(opened.stdout == came, "{} bytes came out", opened.stdout.len());
}

fn path(home: &Home, name: &str) -> (PathBuf, String) {
    let path = home.path().join(name);
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_opens_as_often_as_it_is_shown() {
    let (alice, bob) = alice_and_bob();
    let (file, name) = path(&alice, "hi.box");
    let sent = send(&alice, &["-o", &name, "bob"], b"hi\n");
    assert_code(&sent, 0);
    assert!(sent.stdout.is_empty() && sent.stderr.is_empty());
    assert_eq!(fs::metadata(&file).unwrap().len(), 1200);
    for _ in 0..2 {
        let opened = bob.command("ac-listen", &["--open", &name]);
        let opened = run(opened, b"", DEADLINE);
        assert_code(&opened, 0);
        assert_eq!((opened.stdout.as_slice(), opened.stderr.as_slice()), (&b"hi\n"[..], &b""[..]));
    }
}

#[test]
fn every_length_opens_to_the_same_bytes() {
    let (alice, bob) = alice_and_bob();
    let lengths = [0, 1, FRAGMENT - 1, FRAGMENT, FRAGMENT + 1, MESSAGE - 1, MESSAGE, MESSAGE + 1];
    for len in lengths {
        let body = noise(len as u64, len);
        let file = sealed(&alice, &["bob"], &body);
        assert_eq!(file.len(), len.div_ceil(FRAGMENT).max(1) * PACKET);
        assert_opens(&bob, &[], &file, &body);
    }
}

#[test]
fn a_long_binary_message_opens_to_the_same_bytes() {
    let len = number("AC_TEST_BOX_BYTES", 1 << 20);
    let (alice, bob) = alice_and_bob();
    let body = noise(1, len);
    let (_, name) = path(&alice, "long.box");
    let sent = run(alice.command("ac-send", &["-o", &name, "bob"]), &body, 20 * DEADLINE);
    assert_code(&sent, 0);
    let opened = run(bob.command("ac-listen", &["--open", &name]), b"", 20 * DEADLINE);
    assert_code(&opened, 0);
    assert!(opened.stdout == body);
}

#[test]
fn files_can_be_concatenated() {
    let (alice, bob) = alice_and_bob();
    let two_messages = noise(2, MESSAGE + 5);
    let parts = [&b"one"[..], b"", &two_messages, b"last"];
    let file = parts.map(|part| sealed(&alice, &["bob"], part)).concat();
    assert_opens(&bob, &[], &file, &parts.concat());
    let with_nul = [b"one\0", &b"\0"[..], &two_messages, b"\0last\0"].concat();
    assert_opens(&bob, &["-0"], &file, &with_nul);
}

#[test]
fn json_says_whose_it_is_and_that_it_came_in_a_file() {
    let (alice, bob) = alice_and_bob();
    let (_, name) = path(&alice, "hi.box");
    let sent = send(&alice, &["-o", &name, "--json", "-v", "bob"], b"hi\n");
    assert_code(&sent, 0);
    let result: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!((&result["status"], &result["bytes"]), (&"sealed".into(), &3.into()));
    assert_eq!(sent.stderr, b"ac-send: bob: 3 bytes sealed\n");
    let file = [fs::read(&name).unwrap(), sealed(&alice, &["bob"], b"\xff")].concat();
    let opened = open(&bob, &["--json"], &file);
    assert_code(&opened, 0);
    let objects = std::str::from_utf8(&opened.stdout).unwrap().lines();
    let objects: Vec<Value> = objects.map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<_> = objects.iter().filter(|o| o["event"] == "message").collect();
    assert_eq!(messages.len(), 2);
    for message in &messages {
        assert_eq!((&message["from"], &message["transport"]), (&"alice".into(), &"file".into()));
        assert_eq!((&message["known"], &message["last"]), (&true.into(), &true.into()));
    }
    assert_eq!((&messages[0]["text"], &messages[1]["base64"]), (&"hi\n".into(), &"/w==".into()));
}

#[test]
fn a_report_and_a_sealed_box_do_not_share_stdout() {
    let (alice, _bob) = alice_and_bob();
    let sent = send(&alice, &["-o", "-", "--json", "bob"], b"hi\n");
    assert_code(&sent, 2);
    assert!(sent.stdout.is_empty());
    assert!(!sent.stderr.is_empty());
}

#[test]
fn a_closed_stdout_gets_no_sealed_box() {
    let (alice, _bob) = alice_and_bob();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "exec \"$0\" -o - bob >&-"]).arg(common::program("ac-send"));
    alice.at_home(&mut shell);
    assert_code(&run(shell, b"hi", DEADLINE), 1);
}

#[test]
fn a_file_that_ends_too_early_is_cut_off_and_what_was_whole_is_written() {
    let (alice, bob) = alice_and_bob();
    // Two messages that are held until they are whole: together less than 64 KiB.
    let long = noise(3, MESSAGE + FRAGMENT);
    let first = sealed(&alice, &["bob"], b"whole\n");
    let file = [first.clone(), sealed(&alice, &["bob"], &long)].concat();
    let ends = [
        PACKET + 1,
        2 * PACKET - 1,
        2 * PACKET,
        2 * PACKET + 600,
        64 * PACKET,
        // Behind a whole message of the run; within the next.
        65 * PACKET,
        65 * PACKET + 1,
        file.len() - 1,
    ];
    for end in ends {
        let opened = open(&bob, &[], &file[..end]);
        assert_fails(&opened, 6, "-: the file is truncated", b"whole\n");
    }
    for end in [0, 1, 16, PACKET - 1] {
        assert_fails(&open(&bob, &[], &file[..end]), 6, "-: the file is truncated", b"");
    }
    assert_opens(&bob, &[], &file[..PACKET], b"whole\n");
}

#[test]
fn of_a_long_message_that_is_cut_off_the_beginning_is_written() {
    let (alice, bob) = alice_and_bob();
    let long = noise(7, 3 * MESSAGE);
    let file = sealed(&alice, &["bob"], &long);
    let opened = open(&bob, &[], &file[..file.len() - PACKET]);
    assert_code(&opened, 6);
    assert!(opened.stdout.len() >= 64 * 1024 && long.starts_with(&opened.stdout));
    assert!(String::from_utf8(opened.stderr).unwrap().contains("alice: the message was cut off"));
}

#[test]
fn a_flipped_bit_is_no_proof_and_what_was_whole_is_written() {
    let (alice, bob) = alice_and_bob();
    let file = sealed(&alice, &["bob"], b"whole\n");
    let second = sealed(&alice, &["bob"], &noise(4, 3 * FRAGMENT));
    for at in [0, 15, 16, 47, 48, 600, PACKET - 1] {
        let mut changed = file.clone();
        changed[at] ^= 1;
        let opened = open(&bob, &[], &changed);
        assert_fails(&opened, 5, "-: the file is not sealed for this key\nhint: ", b"");
        for packet in 0..3 {
            let mut changed = second.clone();
            changed[packet * PACKET + at] ^= 0x80;
            let both = [file.clone(), changed].concat();
            assert_fails(&open(&bob, &[], &both), 5, "-: the file is corrupted", b"whole\n");
        }
    }
}

#[test]
fn packets_in_another_order_are_no_proof() {
    let (alice, bob) = alice_and_bob();
    let file = sealed(&alice, &["bob"], &noise(5, 3 * FRAGMENT));
    let packets: Vec<_> = file.chunks(PACKET).collect();
    for order in [[1, 0, 2], [0, 2, 1], [0, 0, 1], [2, 1, 0]] {
        let mixed = order.map(|i| packets[i]).concat();
        assert_fails(&open(&bob, &[], &mixed), 5, "-: the file is corrupted", b"");
    }
}

#[test]
fn a_file_for_somebody_else_is_no_proof() {
    let (alice, bob) = alice_and_bob();
    let carol = Home::with_identity();
    alice.import(&carol, "carol");
    let file = sealed(&alice, &["carol"], b"for carol");
    let said = "ac-listen: -: the file is not sealed for this key\nhint: ";
    assert_fails(&open(&bob, &[], &file), 5, said, b"");
    assert_fails(&open(&bob, &[], &[b'x'; 5000]), 5, said, b"");
}

#[test]
fn a_file_of_no_contact_is_no_proof_and_says_how_to_hear_it() {
    let (alice, bob) = alice_and_bob();
    let carol = Home::with_identity();
    carol.import(&bob, "bob");
    let file = sealed(&carol, &["bob"], b"from carol\n");
    let opened = open(&bob, &[], &file);
    assert_fails(&opened, 5, "turned away somebody who is not among your contacts", b"");
    assert_fails(&opened, 5, "\nhint: to let them in, file their public key", b"");
    let mixed = [sealed(&alice, &["bob"], b"from alice\n"), file.clone()].concat();
    assert_fails(&open(&bob, &[], &mixed), 5, "not all of it", b"from alice\n");
    assert_opens(&bob, &["--accept-unknown"], &file, b"from carol\n");
    bob.import(&carol, "carol");
    assert_opens(&bob, &[], &file, b"from carol\n");
    assert_fails(&open(&bob, &["--from", "alice"], &file), 5, "hint: ", b"");
}

#[test]
fn an_anonymous_file_is_heard_by_who_accepts_unknown_senders() {
    let (alice, bob) = alice_and_bob();
    let file = sealed(&alice, &["-a", "bob"], b"from nobody\n");
    assert_fails(&open(&bob, &[], &file), 5, "hint: ", b"");
    assert_opens(&bob, &["--accept-unknown"], &file, b"from nobody\n");
}

#[test]
fn a_file_for_a_group_opens_with_its_key_and_the_sender_is_a_claim() {
    let (alice, bob) = alice_and_bob();
    assert_code(&bob.keygen(&["--group", "team"]), 0);
    fs::create_dir_all(alice.path().join("groups")).unwrap();
    let key = |home: &Home| home.path().join("groups/team.key");
    fs::copy(key(&bob), key(&alice)).unwrap();
    let file = sealed(&alice, &["team"], b"all\n");
    assert_opens(&bob, &["-k", "team"], &file, b"all\n");
    assert_fails(&open(&bob, &[], &file), 5, "name it: -k NAME", b"");
    let opened = open(&bob, &["-k", "team", "--json"], &file);
    assert!(String::from_utf8(opened.stdout).unwrap().contains(r#""from":"team/alice?""#));
}

#[test]
fn what_was_sealed_for_the_network_is_nothing_in_a_file_and_the_other_way_round() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["-u", "-0", "127.0.0.1:0"]);
    let record = Record::default();
    let proxy = Proxy::before(listener.port(), record.policy());
    assert_code(&send(&alice, &["-u", &proxy.destination("bob")], b"network"), 0);
    let network = record.going(Going::ToListener).swap_remove(0);
    assert_fails(&open(&bob, &[], &network), 5, "sealed for the network", b"");

    let stranger = Stranger::to(listener.port());
    stranger.send(&sealed(&alice, &["bob"], b"file"));
    assert_code(&send(&alice, &["-u", &listener.destination("bob")], b"after"), 0);
    stranger.assert_nothing_came();
    listener.wait_stdout("what came by the network", |out| out == b"network\0after\0");
}

#[test]
fn a_file_takes_the_place_of_another_only_once_it_is_complete() {
    let (alice, bob) = alice_and_bob();
    let folder = alice.path().join("stick");
    fs::create_dir(&folder).unwrap();
    let (file, name) = path(&alice, "stick/hi.box");
    fs::write(&file, "the old one").unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut sender = Running::start(alice.command("ac-send", &["-o", &name, "bob"]));
        sender.stdin.as_mut().unwrap().write_all(&noise(6, 3 * MESSAGE)).unwrap();
        // What is written beside it shows that sealing has begun.
        eventually("a file in the making", DEADLINE, || {
            let beside = |name: &&String| *name != "hi.box";
            let beside = names(&folder).iter().find(beside).map(|name| folder.join(name));
            let len = fs::metadata(beside?).ok()?.len();
            (len > 0).then_some(())
        });
        assert_eq!(fs::read(&file).unwrap(), b"the old one");
        sender.signal(signal);
        assert_eq!(sender.wait_exit(DEADLINE).signal(), Some(signal.as_raw()));
        assert_eq!(fs::read(&file).unwrap(), b"the old one");
        assert_eq!(names(&folder), ["hi.box"]);
    }
    assert_code(&send(&alice, &["-o", &name, "bob"], b"new"), 0);
    assert_eq!(names(&folder), ["hi.box"]);
    assert_opens(&bob, &[], &fs::read(&file).unwrap(), b"new");
}

#[test]
fn an_input_that_cannot_be_read_leaves_no_file() {
    let (alice, _bob) = alice_and_bob();
    let folder = alice.path().join("stick");
    fs::create_dir(&folder).unwrap();
    let mut command =
        alice.command("ac-send", &["-o", folder.join("hi.box").to_str().unwrap(), "bob"]);
    command.stdin(fs::File::open("/").unwrap());
    assert_code(&run(command, b"", DEADLINE), 1);
    assert!(names(&folder).is_empty());
}

#[test]
fn a_name_as_long_as_the_system_takes_is_fine() {
    let (alice, bob) = alice_and_bob();
    let (file, name) = path(&alice, &"x".repeat(255));
    assert_code(&send(&alice, &["-o", &name, "bob"], b"hi"), 0);
    assert_opens(&bob, &[], &fs::read(file).unwrap(), b"hi");
}

#[test]
fn a_symbolic_link_stays_one_and_what_it_names_is_replaced() {
    let (alice, bob) = alice_and_bob();
    let (target, _) = path(&alice, "target.box");
    let (link, name) = path(&alice, "link.box");
    fs::write(&target, "the old one").unwrap();
    symlink("target.box", &link).unwrap();
    assert_code(&send(&alice, &["-o", &name, "bob"], b"hi"), 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_opens(&bob, &[], &fs::read(&target).unwrap(), b"hi");
}

#[test]
fn what_cannot_be_written_is_a_local_failure() {
    let (alice, _bob) = alice_and_bob();
    let missing = alice.path().join("none/hi.box");
    let folder = alice.path().to_str().unwrap();
    // In /proc nobody can make a file, not even root.
    for name in [folder, missing.to_str().unwrap(), "/proc/self/hi.box", "/dev/full"] {
        let sent = send(&alice, &["-o", name, "bob"], b"hi");
        assert_code(&sent, 1);
        let said = String::from_utf8(sent.stderr).unwrap();
        assert!(said.starts_with("ac-send: bob: cannot write the sealed file: "), "{said}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_local_failure() {
    let (_alice, bob) = alice_and_bob();
    let missing = bob.path().join("none.box");
    for name in [bob.path().to_str().unwrap(), missing.to_str().unwrap()] {
        let opened = run(bob.command("ac-listen", &["--open", name]), b"", DEADLINE);
        assert_code(&opened, 1);
        assert!(String::from_utf8(opened.stderr).unwrap().starts_with("ac-listen: /"));
    }
}

#[test]
fn an_output_that_is_full_is_a_local_failure() {
    let (alice, bob) = alice_and_bob();
    let mut command = bob.command("ac-listen", &["--open", "-"]);
    command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    assert_code(&run(command, &sealed(&alice, &["bob"], b"hi"), DEADLINE), 1);
}

#[test]
fn a_signal_ends_who_waits_for_an_input_that_is_silent() {
    let (alice, bob) = alice_and_bob();
    let waiting = [("ac-listen", ["--open", "-"].as_slice()), ("ac-send", &["-o", "-", "bob"])];
    for (name, args) in waiting {
        let home = if name == "ac-send" { &alice } else { &bob };
        assert_dies(Running::start(home.command(name, args)));
    }
}

#[test]
fn a_signal_ends_who_waits_for_a_reader_that_pauses() {
    let (alice, bob) = alice_and_bob();
    let file = sealed(&alice, &["bob"], &vec![b'x'; 600_000]);
    let cases = [
        (&bob, "ac-listen", ["--open", "-"].as_slice(), file),
        (&alice, "ac-send", &["-o", "-", "bob"], vec![b'x'; 600_000]),
    ];
    for (home, name, args, input) in cases {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = home.command(name, args);
        command.stdout(Stdio::from(writer));
        let mut running = Running::start(command);
        running.feed(input);
        // The pipe is full: 64 KiB wait in it.
        eventually("a full pipe", DEADLINE, || {
            (rustix::io::ioctl_fionread(&reader).unwrap() >= 60_000).then_some(())
        });
        assert_dies(running);
    }
}

#[test]
fn a_signal_ends_who_waits_for_the_other_end_of_a_named_pipe() {
    let (alice, bob) = alice_and_bob();
    let (fifo, name) = path(&alice, "fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let cases =
        [(&bob, "ac-listen", vec!["--open", &name]), (&alice, "ac-send", vec!["-o", &name, "bob"])];
    for (home, program, args) in cases {
        let mut running = Running::start(home.command(program, &args));
        eventually("waiting for the other end", DEADLINE, || {
            let proc =
                |file| fs::read_to_string(format!("/proc/{}/{file}", running.pid())).unwrap();
            // A system may not tell in which function a program sleeps.
            let at = proc("wchan");
            let asleep = at == "0" && proc("status").contains("State:\tS");
            (at == "wait_for_partner" || asleep).then_some(())
        });
        running.signal(Signal::TERM);
        assert_eq!(running.wait_exit(DEADLINE).signal(), Some(Signal::TERM.as_raw()), "{program}");
    }
}

/// It handles signals, and dies of this one.
#[track_caller]
fn assert_dies(mut running: Running) {
    eventually("its handlers", DEADLINE, || {
        let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let mask = u64::from_str_radix(caught.trim(), 16).unwrap();
        (mask >> (Signal::TERM.as_raw() - 1) & 1 == 1).then_some(())
    });
    running.signal(Signal::TERM);
    assert_eq!(running.wait_exit(DEADLINE).signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn the_help_says_that_0_means_less_than_delivered() {
    let home = Home::new();
    let help = |flag| {
        let output = send(&home, &["--help"], b"");
        let words = String::from_utf8(output.stdout).unwrap();
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, rest) = words.split_once(flag).unwrap();
        rest[..150].to_owned()
    };
    assert!(help("--no-ack").contains("exit status 0 says sent, not delivered"));
    assert!(help("--output <FILE>").contains("exit status 0 says sealed, not delivered"));
}

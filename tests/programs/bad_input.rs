//! What makes no sense gets one clear line, a hint where it helps, and the right exit code; nothing
//! that a terminal would act on comes back out of it.

use crate::testkit::common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output, Stdio};

use common::*;

/// Ends with `code` and says why in one line `PROGRAM: why`, then perhaps in a hint, and in
/// nothing that moves a cursor.
fn fails(output: &Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{feff}';
    assert!(!said.contains(harmful), "{said:?}");
    let lines: Vec<_> = said.lines().collect();
    let about = lines[0].strip_prefix("ac-").and_then(|rest| rest.split_once(": "));
    assert!(
        about.is_some_and(|(program, why)| !program.contains(' ') && !why.is_empty()),
        "{said}"
    );
    assert!(!lines[0].ends_with('.') || lines[0].ends_with("..."), "{said}");
    assert!(lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("hint: ")), "{said}");
    assert!(output.stdout.is_empty(), "{said}");
    said
}

fn alice_who_knows_bob() -> (Home, Home) {
    let (alice, bob) = alice_and_bob();
    (bob, alice)
}

fn listens(home: &Home, args: &[&str]) -> Output {
    run(home.command("ac-listen", args), b"", DEADLINE)
}

/// `program` run by `home` with its first operand in any bytes.
fn with_bytes(home: &Home, program: &str, args: &[&[u8]]) -> Output {
    let mut command = home.command(program, &[]);
    command.args(args.iter().map(|bytes| OsStr::from_bytes(bytes)));
    run(command, b"", DEADLINE)
}

#[test]
fn destinations_that_make_no_sense_are_wrong_usage() {
    let (_bob, alice) = alice_who_knows_bob();
    let long = "x".repeat(300) + ":1";
    for operands in [
        &[""][..],
        &["bob@"],
        &["@127.0.0.1:1"],
        &["bob@127.0.0.1"],
        &["bob@127.0.0.1:0"],
        &["bob@127.0.0.1:65536"],
        &["bob@127.0.0.1:x"],
        &["bob@127.0.0.1:+1"],
        &["bob@127.0.0.1: 1"],
        &["bob@256.1.1.1:1"],
        &["bob@1.2.3:1"],
        &["bob@::1:1"],
        &["bob@[::1]"],
        &["bob@[::1:1"],
        &["bob@[::g]:1"],
        &["bob@[127.0.0.1]:1"],
        &["bob@a..b:1"],
        &["bob@-a:1"],
        &["bob@a b:1"],
        &[":1"],
        &[&long],
        &["127.0.0.1", "99999"],
        &["127.0.0.1", "0"],
        &["bob@127.0.0.1:1", "bob@127.0.0.1:1"],
        &["bob@127.0.0.1:1", "bob@"],
        &[],
    ] {
        let said = fails(&send(&alice, operands, b""), 2);
        assert!(said.contains("hint: "), "{operands:?}: {said}");
    }
}

#[test]
fn names_that_nobody_has_or_can_have_are_no_keys() {
    let (_bob, alice) = alice_who_knows_bob();
    for name in ["carol", ".bob", "b,ob", "bob ", "./bob.pub", "/", "/dev/null", "bob\u{200b}"] {
        fails(&send(&alice, &[name], b""), 3);
    }
    for key in ["team", "./team.key", ""] {
        fails(&send(&alice, &["-k", key, "bob@127.0.0.1:1"], b""), 3);
        fails(&listens(&alice, &["-k", key, "127.0.0.1:0"]), 3);
    }
}

#[test]
fn addresses_to_listen_on_that_make_no_sense_are_wrong_usage() {
    let bob = Home::with_identity();
    for address in [
        "",
        "x",
        "65536",
        "99999999999999999999",
        "1.5",
        "+1",
        " 1",
        ":",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "::1:1",
        "[::1]",
        "[::1:1",
        "[::g]:1",
        "[]:1",
        "256.1.1.1:1",
        "a b:1",
    ] {
        fails(&listens(&bob, &[address]), 2);
    }
    fails(&listens(&bob, &[]), 2);
}

#[test]
fn an_address_that_cannot_be_had_is_a_local_failure() {
    let bob = Home::with_identity();
    let said = fails(&listens(&bob, &["192.0.2.1:0"]), 1);
    assert!(said.contains("192.0.2.1:0"), "{said}");
    let taken = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let said = fails(&listens(&bob, &[&format!("127.0.0.1:{}", taken.port())]), 1);
    assert!(said.contains("hint: another program listens there"), "{said}");
}

#[test]
fn numbers_out_of_range_are_wrong_usage() {
    let (_bob, alice) = alice_who_knows_bob();
    for time in [
        "0",
        "-1",
        "99999999999999999999999999",
        "366d",
        "1e9",
        "inf",
        "nan",
        "1w",
        "",
        "s",
        "1 s",
        "0x10",
        "1.2.3",
        "½",
    ] {
        fails(&listens(&alice, &["-w", time, "127.0.0.1:0"]), 2);
        fails(&send(&alice, &["-w", time, "bob@127.0.0.1:1"], b""), 2);
    }
    for count in ["0", "-1", "18446744073709551616", "1.5", "", "many"] {
        fails(&listens(&alice, &["-n", count, "127.0.0.1:0"]), 2);
    }
    for descriptor in ["-1", "99999999999", "x", "77"] {
        fails(&listens(&alice, &["--status-fd", descriptor, "127.0.0.1:0"]), 2);
        fails(&send(&alice, &["--status-fd", descriptor, "bob@127.0.0.1:1"], b""), 2);
    }
}

#[test]
fn the_largest_numbers_in_range_work() {
    let (bob, alice) = alice_who_knows_bob();
    for args in [["-w", "365d"], ["-n", "18446744073709551615"]] {
        let listener = Listener::spawn(&bob, &[args[0], args[1], "127.0.0.1:0"]);
        assert_code(&send(&alice, &["-w", "365d", &listener.destination("bob")], b"hi"), 0);
        listener.wait_stdout("the message", |out| out == b"hi");
    }
}

#[test]
fn options_that_are_unknown_or_contradict_each_other_are_wrong_usage() {
    let (_bob, alice) = alice_who_knows_bob();
    for args in
        [&["--nonsense", "0"][..], &["-1", "-n", "2", "0"], &["-Q", "0"], &["-q", "-v", "0"]]
    {
        fails(&listens(&alice, args), 2);
    }
    let said = fails(&send(&alice, &["--anonymus", "bob"], b""), 2);
    assert!(said.contains("--anonymous"), "it says what was meant: {said}");
    fails(&send(&alice, &["-a", "-k", "team", "bob@127.0.0.1:1"], b""), 2);
    fails(&alice.keygen(&["--nonsense"]), 2);
}

#[test]
fn what_a_terminal_would_act_on_is_shown_harmlessly() {
    let (_bob, alice) = alice_who_knows_bob();
    let hostile: [&[u8]; 7] = [
        b"\x1b[2J",
        b"\x1b]0;title\x07",
        b"a\nac-send: bob: delivered\n\nb",
        "\u{202e}bob".as_bytes(),
        "\u{9b}31m\u{feff}".as_bytes(),
        b"\xff\xfe\x9b",
        b"\r\x7f\x08",
    ];
    for bytes in hostile {
        let joined = |head: &[u8], tail: &[u8]| [head, bytes, tail].concat();
        for args in [
            &[bytes.to_vec()][..],
            &[joined(b"bob", b"")],
            &[joined(b"bob@", b":1")],
            &[joined(b"bob@h:", b"")],
            &[joined(b"./", b".pub")],
            &[bytes.to_vec(), b"1".to_vec()],
            &[b"-w".to_vec(), bytes.to_vec(), b"bob".to_vec()],
            &[b"-k".to_vec(), bytes.to_vec(), b"bob@127.0.0.1:1".to_vec()],
            &[joined(b"--", b""), b"bob".to_vec()],
        ] {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let sent = with_bytes(&alice, "ac-send", &args);
            let code = sent.status.code().unwrap();
            assert!(matches!(code, 2 | 3), "{args:?}: {code}");
            fails(&sent, code);
        }
        for args in [
            &[bytes.to_vec()][..],
            &[joined(b"", b":1")],
            &[b"--from".to_vec(), bytes.to_vec(), b"127.0.0.1:0".to_vec()],
            &[b"-n".to_vec(), bytes.to_vec(), b"127.0.0.1:0".to_vec()],
        ] {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            fails(&with_bytes(&alice, "ac-listen", &args), 2);
        }
        fails(&with_bytes(&alice, "ac-keygen", &[&joined(b"--", b"")]), 2);
    }
}

#[test]
fn a_contact_s_file_with_a_hostile_name_is_passed_over_and_shown_harmlessly() {
    let (bob, alice) = alice_who_knows_bob();
    let contacts = bob.path().join("contacts");
    for name in [&b"\x1b[2J.pub"[..], b"a b.pub", b"\xff.pub", b"x\ny.pub"] {
        fs::copy(contacts.join("alice.pub"), contacts.join(OsStr::from_bytes(name))).unwrap();
    }
    fs::write(contacts.join("junk.pub"), b"\x1b]0;x\x07 = \x1b").unwrap();
    fs::create_dir(contacts.join("folder.pub")).unwrap();
    let mut listener = Listener::spawn(&bob, &["-1", "127.0.0.1:0"]);
    assert_code(&send(&alice, &[&listener.destination("bob")], b"hi"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let said = listener.stderr();
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    assert_eq!(said.matches("(passed over)").count(), 6, "{said}");
}

/// `program` of `home` with stdin as `redirection` says.
fn redirected(home: &Home, redirection: &str, program_name: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$@\" {redirection}"), "sh"]);
    command.arg(program(program_name)).args(args);
    home.at_home(&mut command);
    command.stdin(Stdio::null());
    command
}

#[test]
fn an_input_that_is_closed_is_empty_and_one_that_cannot_be_read_is_a_failure() {
    let (bob, alice) = alice_who_knows_bob();
    let mut listener =
        Listener::start(redirected(&bob, "<&-", "ac-listen", &["-0", "-n", "2", "127.0.0.1:0"]));
    let to = listener.destination("bob");
    let sent = |redirection| run(redirected(&alice, redirection, "ac-send", &[&to]), b"", DEADLINE);
    assert_code(&sent("<&-"), 0);
    let said = fails(&sent("</"), 1);
    assert!(said.contains("cannot read the input: is a directory"), "{said}");
    assert_code(&sent("2>&- </dev/null"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"\0\0");
}

#[test]
fn help_that_nobody_could_read_is_a_failure() {
    let home = Home::new();
    for program in ["ac-keygen", "ac-listen", "ac-send"] {
        for option in ["--help", "--version"] {
            let output = run(home.command(program, &[option]), b"", DEADLINE);
            assert_code(&output, 0);
            assert!(output.stderr.is_empty() && !output.stdout.is_empty());
            fails(&run(redirected(&home, ">/dev/full", program, &[option]), b"", DEADLINE), 1);
        }
    }
}

/// A command of nobody in particular: no home directory at all.
fn homeless(program_name: &str, args: &[&str]) -> Command {
    let home = Home::new();
    let mut command = home.command(program_name, args);
    command.env_remove("AC_HOME").env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    command
}

#[test]
fn without_a_home_there_are_no_keys_and_the_hint_says_what_to_set() {
    for (program, args) in
        [("ac-send", &["bob@127.0.0.1:1"][..]), ("ac-listen", &["127.0.0.1:0"]), ("ac-keygen", &[])]
    {
        let said = fails(&run(homeless(program, args), b"", DEADLINE), 3);
        assert!(said.contains("AC_HOME"), "{said}");
        let mut empty = homeless(program, args);
        empty.env("AC_HOME", "").env("HOME", "").env("XDG_CONFIG_HOME", "relative");
        fails(&run(empty, b"", DEADLINE), 3);
    }
}

#[test]
fn a_home_that_is_a_file_or_has_no_keys_is_said_to_be_so() {
    let folder = Home::new();
    let file = folder.path().join("file");
    fs::write(&file, b"x").unwrap();
    for at in [file.as_path(), OsStr::new("/nowhere/at/all").as_ref()] {
        for (program, args) in
            [("ac-send", &["bob@127.0.0.1:1"][..]), ("ac-listen", &["127.0.0.1:0"])]
        {
            let mut command = folder.command(program, args);
            command.env("AC_HOME", at);
            fails(&run(command, b"", DEADLINE), 3);
        }
    }
    let mut command = folder.command("ac-keygen", &[]);
    command.env("AC_HOME", &file);
    fails(&run(command, b"", DEADLINE), 1);
}

#[test]
fn a_home_may_be_relative_and_have_any_name() {
    let folder = Home::new();
    let (bob, _) = alice_who_knows_bob();
    let listener = Listener::spawn(&bob, &["--accept-unknown", "127.0.0.1:0"]);
    let to = format!("{}@127.0.0.1:{}", bob.public_key_file().display(), listener.port());
    let names: [&[u8]; 5] =
        [b"relative/deep", b"with blanks\n", "ünïcödé 鍵".as_bytes(), b"\xff\xfe", b"-dash"];
    for name in names {
        let home = OsString::from(OsStr::from_bytes(name));
        let at_home = |program, args: &[&str]| {
            let mut command = folder.command(program, args);
            command.env("AC_HOME", &home).current_dir(folder.path());
            run(command, b"hi", DEADLINE)
        };
        assert_code(&at_home("ac-keygen", &[]), 0);
        assert_code(&at_home("ac-send", &[&to]), 0);
    }
    assert_eq!(listener.stdout(), b"hihihihihi");
}

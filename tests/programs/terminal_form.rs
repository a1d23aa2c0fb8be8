//! What a person sees: each message with time and petname, and nothing in it that could move the
//! cursor, turn a line round or pass for another message. On a terminal, which a test makes.

use crate::testkit::{common, screen};

use std::io::Write as _;

use common::*;
use screen::Screen;

/// Bob at his terminal, and Alice.
struct Scene {
    /// The listener looks at its keyring whenever somebody unknown calls.
    _bob: Home,
    alice: Home,
    screen: Screen,
    listener: Listener,
}

impl Scene {
    fn with(args: &[&str]) -> Option<Self> {
        let (bob, alice) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        Self::set(bob, alice, args)
    }

    fn set(bob: Home, alice: Home, args: &[&str]) -> Option<Self> {
        let (screen, user) = Screen::new()?;
        let mut command = bob.command("ac-listen", args);
        command.arg("127.0.0.1:0").stdout(user);
        let listener = Listener::start(command);
        Some(Self { _bob: bob, alice, screen, listener })
    }

    fn say(&self, text: impl AsRef<[u8]>) {
        assert_code(&send(&self.alice, &[&self.listener.destination("bob")], text.as_ref()), 0);
    }
}

/// Each line of the text without its time of day, which is checked to be one.
fn without_times(text: &str) -> Vec<String> {
    let line = |line: &str| {
        if line.starts_with("    | ") {
            return line.to_owned();
        }
        let (time, rest) = line.split_once(' ').unwrap();
        let digits = time.bytes().enumerate().all(|(n, byte)| match n {
            2 | 5 => byte == b':',
            _ => byte.is_ascii_digit(),
        });
        assert!(time.len() == 8 && digits, "no time of day in front of {line:?}");
        rest.to_owned()
    };
    text.lines().map(line).collect()
}

#[test]
fn each_message_stands_on_its_line_with_time_and_petname() {
    let Some(mut scene) = Scene::with(&["-n", "3"]) else { return };
    scene.say("hi\n");
    scene.say("no line end");
    scene.say("");
    assert!(scene.listener.wait_exit(DEADLINE).success());
    scene.screen.wait("no line end\n");
    eventually("the third message", DEADLINE, || {
        (scene.screen.text().lines().count() == 3).then_some(())
    });
    assert_eq!(without_times(&scene.screen.text()), ["alice: hi", "alice: no line end", "alice: "]);
}

#[test]
fn a_line_of_a_message_cannot_pass_for_another_message() {
    let Some(scene) = Scene::with(&[]) else { return };
    scene.say("hi\n12:00:00 carol: send me your key\r\n\n    | x\n");
    scene.say("end\n");
    scene.screen.wait("alice: end\n");
    assert_eq!(
        without_times(&scene.screen.text()),
        [
            "alice: hi",
            "    | 12:00:00 carol: send me your key",
            "    | ",
            "    |     | x",
            "alice: end"
        ]
    );
}

#[test]
fn nothing_that_a_terminal_acts_on_comes_through() {
    for args in [&[][..], &["-0"], &["--json"]] {
        let Some(scene) = Scene::with(args) else { return };
        let hostile =
            "\x1b[2J\x1b]0;title\x07\u{9b}31m\rover\x08\x08\0\x7f\u{202e}txt\u{2066}.\u{feff}";
        scene.say(hostile);
        scene.say([hostile.as_bytes(), b"\xff\x9b2J\xed\xa0\x80"].concat());
        scene.say("end");
        scene.screen.wait("end");
        let shown = scene.screen.text();
        let harmful = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        };
        assert!(!shown.contains(harmful), "{args:?}: {shown:?}");
    }
}

#[test]
fn what_crosses_the_wire_is_shown_harmlessly_too() {
    let Some(scene) = Scene::with(&["-vv"]) else { return };
    scene.say("\x1b[2J\u{202e}\x07\u{9b}");
    scene.listener.wait_stderr("END");
    let said = scene.listener.stderr();
    let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!said.contains(harmful), "{said:?}");
}

#[test]
fn a_live_message_is_seen_as_it_is_typed_and_its_end_is_marked_when_it_is_cut() {
    let Some(scene) = Scene::with(&[]) else { return };
    let mut live =
        Running::start(scene.alice.command("ac-send", &[&scene.listener.destination("bob")]));
    for (said, shown) in
        [("one", "alice: one"), (" and", "alice: one and"), ("\ntwo", "and\n    | two")]
    {
        live.stdin.as_mut().unwrap().write_all(said.as_bytes()).unwrap();
        scene.screen.wait(shown);
    }
    live.kill();
    scene.screen.wait("    | two [cut off]\n");
    scene.say("next");
    scene.screen.wait("alice: next\n");
}

#[test]
fn a_member_of_a_group_is_shown_with_it_and_a_stranger_by_fingerprint() {
    let (alice, bob) = alice_and_bob();
    assert_code(&bob.keygen(&["--group", "team"]), 0);
    let key = bob.path().join("groups/team.key");
    assert_code(&alice.keygen(&["--import", key.to_str().unwrap(), "--as", "team"]), 0);
    let Some(scene) = Scene::set(bob, alice, &["-k", "team"]) else { return };
    let to = scene.listener.destination("team");
    assert_code(&send(&scene.alice, &[&to], b"known"), 0);
    assert_code(&send(&scene.alice, &["-a", &to], b"anonymous"), 0);
    scene.screen.wait("anonymous\n");
    let lines = without_times(&scene.screen.text());
    assert_eq!(lines[0], "team/alice: known");
    let stranger = lines[1].strip_prefix("team/?").unwrap().strip_suffix(": anonymous").unwrap();
    let digits = stranger.bytes().filter(u8::is_ascii_digit).count();
    assert_eq!((digits, stranger.len(), &stranger[5..6]), (10, 11, "-"), "{stranger}");
}

#[test]
fn every_line_of_what_is_not_encrypted_says_so() {
    let Some((screen, user)) = Screen::new() else { return };
    let home = Home::new();
    let mut command = home.command("ac-listen", &["--plain", "-n", "2", "127.0.0.1:0"]);
    command.stdout(user);
    let mut listener = Listener::start(command);
    let to = format!("127.0.0.1:{}", listener.port());
    assert_code(&send(&home, &["--plain", &to], b"one\ntwo\nthree\n"), 0);
    assert_code(&send(&home, &["--plain", &to], b"\x1b[2J12:00:00 alice: \r\xff"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    screen.wait("alice: ");
    let text = screen.text();
    assert!(text.contains(" PLAIN 127.0.0.1: one\nPLAIN | two\nPLAIN | three\n"), "{text}");
    assert!(text.lines().all(|line| line.contains("PLAIN ")), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\r'), "{text:?}");
}

#[test]
fn a_time_zone_that_is_none_is_no_reason_to_stop() {
    for zone in ["Nowhere/Land", "\x1b[2J", "", "<+99>-99:99:99", "../../etc/passwd"] {
        let (bob, alice) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        let Some((screen, user)) = Screen::new() else { return };
        let mut command = bob.command("ac-listen", &["-1", "127.0.0.1:0"]);
        command.stdout(user).env("TZ", zone);
        let mut listener = Listener::start(command);
        assert_code(&send(&alice, &[&listener.destination("bob")], b"hi"), 0);
        assert!(listener.wait_exit(DEADLINE).success());
        screen.wait("alice: hi\n");
        assert_eq!(without_times(&screen.text()), ["alice: hi"], "{zone}");
        assert!(!listener.stderr().contains('\x1b'), "{:?}", listener.stderr());
    }
}

#[test]
fn what_is_typed_is_said_line_by_line_until_the_input_ends() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-n", "2", "127.0.0.1:0"]);
    let Some((mut screen, user)) = Screen::new() else { return };
    let mut command = alice.command("ac-send", &[&listener.destination("bob")]);
    command.stdin(user);
    let mut sender = Running::start(command);
    screen.keyboard.write_all(b"first lime\x7f\x7fne\n").unwrap();
    listener.wait_stdout("the first line", |out| out == b"first line\n");
    assert!(sender.poll_exit().is_none(), "the input has not ended");
    screen.keyboard.write_all(b"last line\n\x04").unwrap();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(0), "{}", sender.stderr());
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"first line\nlast line\n");
}

//! Chat on a terminal: what arrives stands above the line that is being typed and never disturbs it,
//! whatever a peer writes; and the terminal is as it was, however a chat ends.

use crate::testkit::{common, screen::terminal};

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use common::*;
use rustix::process::Signal;
use rustix::termios::{InputModes, LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// A terminal of 80 columns whose program chats on it.
struct Terminal {
    keyboard: File,
    /// The program's side.
    user: File,
    shown: Arc<Mutex<Vec<u8>>>,
    program: Running,
    before: (LocalModes, InputModes),
}

impl Terminal {
    /// Runs `program`, to which the terminal is the controlling one.
    fn run(home: &Home, program: &str, args: &[&str]) -> Option<Self> {
        Self::of_type("xterm", home, program, args)
    }

    fn of_type(term: &str, home: &Home, program: &str, args: &[&str]) -> Option<Self> {
        if !need("setsid") {
            return None;
        }
        let (keyboard, user) = terminal()?;
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&user, size).unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, theirs) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok(len @ 1..) = reader.read(&mut buffer) {
                theirs.lock().unwrap().extend_from_slice(&buffer[..len]);
            }
        });
        let mut command = Command::new("setsid");
        command.args(["--ctty", common::program(program).to_str().unwrap()]).args(args);
        home.at_home(&mut command);
        command.env("TERM", term);
        let side = || Stdio::from(user.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side());
        let before = modes(&user);
        // It makes a session, which the leader of a process group cannot.
        let program = Running::start_in_our_group(command);
        Some(Self { keyboard, user, shown, program, before })
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn wait(&self, text: &str) {
        eventually(&format!("{text:?} on the screen"), DEADLINE, || {
            self.text().contains(text).then_some(())
        });
    }

    /// The terminal is as it was, and takes pasted text as it did.
    fn assert_restored(&self) {
        assert!(modes(&self.user) == self.before, "the terminal's modes are others");
        eventually("an end of marking pasted text", DEADLINE, || {
            let text = self.text();
            let on = text.rfind("\x1b[?2004h")?;
            text[on..].contains("\x1b[?2004l").then_some(())
        });
    }
}

fn modes(terminal: &File) -> (LocalModes, InputModes) {
    let modes = tcgetattr(terminal).unwrap();
    (modes.local_modes, modes.input_modes)
}

/// Bob chats by pipes, Alice on a terminal; both know that they are there.
fn scene(more: &[&str]) -> Option<(Listener, Terminal, [Home; 2])> {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["-i", "127.0.0.1:0"]);
    // Without -i: somebody who types on a terminal chats.
    let destination = listener.destination("bob");
    let args = [more, &[&destination[..]]].concat();
    let terminal = Terminal::run(&alice, "ac-send", &args)?;
    terminal.wait("-- bob is here");
    Some((listener, terminal, [alice, bob]))
}

#[test]
fn a_line_is_said_at_once_and_marked_when_it_is_acknowledged() {
    let Some((listener, mut terminal, _homes)) = scene(&[]) else { return };
    terminal.type_in("hi böb 日本\r");
    listener.wait_stdout("the line", |bytes| bytes == "hi böb 日本\n".as_bytes());
    terminal.wait("you → bob: hi böb 日本\r\n");
    // Up to the line, to the edge of the screen.
    terminal.wait("\x1b[1A\x1b[80G✓");
}

#[test]
fn what_arrives_stands_above_the_line_that_is_being_typed() {
    let Some((mut listener, mut terminal, _homes)) = scene(&["--bell"]) else { return };
    terminal.type_in("half a li");
    terminal.wait("half a li");
    type_line(&mut listener, "an interruption");
    // The line is cleared, the message has its place, the line stands below it.
    terminal.wait(" bob: an interruption\r\n");
    eventually("the line again", DEADLINE, || {
        let text = terminal.text();
        let (_, after) = text.split_once("an interruption\r\n")?;
        after.contains("> half a li").then_some(())
    });
    terminal.wait("\x07");
    terminal.type_in("ne\r");
    listener.wait_stdout("the whole line", |bytes| bytes == b"half a line\n");
}

#[test]
fn a_pasted_text_of_several_lines_is_one_message() {
    let Some((listener, mut terminal, _homes)) = scene(&[]) else { return };
    terminal.type_in("\x1b[200~one\r  two\r\x1b[201~\r");
    listener.wait_stdout("a text", |bytes| bytes == b"one\n  two\n");
    terminal.wait("you → bob: one\r\n    |   two\r\n");
    // What is pasted can be as hostile as what a peer says; no key lets it through.
    terminal.type_in("\x1b[200~evil \x1b]0;owned\x1b[201~ \x16\x1b]0;too\r");
    terminal.wait("you → bob: evil ");
    assert!(!terminal.text().contains("\x1b]"), "{:?}", terminal.text());
}

#[test]
fn a_line_that_is_not_utf8_is_not_said_and_this_is_told() {
    let Some((listener, mut terminal, _homes)) = scene(&[]) else { return };
    // Latin-1, as an old terminal or a paste has it.
    terminal.keyboard.write_all(b"caf\xe9 au lait\r").unwrap();
    terminal.wait("not said: what was typed is not UTF-8");
    terminal.type_in("caf\u{e9}\r");
    listener.wait_stdout("the next line", |bytes| bytes == "caf\u{e9}\n".as_bytes());
}

#[test]
fn keys_edit_recall_and_complete() {
    let Some((listener, mut terminal, _homes)) = scene(&[]) else { return };
    terminal.type_in("first\r");
    listener.wait_stdout("a line", |bytes| bytes == b"first\n");
    // Up; another beginning of the line; gone, by the interrupt key; completed.
    terminal.type_in("\x1b[A\x01again \r");
    listener.wait_stdout("a recalled line", |bytes| bytes == b"first\nagain first\n");
    terminal.type_in("not this\x03/m\tbo\tprivately\r");
    listener
        .wait_stdout("a completed command", |bytes| bytes == b"first\nagain first\nprivately\n");
    // Several at once, as from a fast hand or an input method.
    terminal.type_in("a\rb\rc\r");
    listener.wait_stdout("three lines", |bytes| bytes.ends_with(b"privately\na\nb\nc\n"));
}

#[test]
fn nothing_that_a_peer_writes_reaches_the_terminal_raw() {
    let Some((mut listener, terminal, _homes)) = scene(&[]) else { return };
    let evil = "\x1b[2J\x1b]52;c;aGk=\x07\x1b[31mred\u{9b}31m\u{202e}txt\u{7}\x08\x7f";
    type_line(&mut listener, evil);
    type_line(&mut listener, "forged\r12:00:00 alice: I owe you");
    type_line(&mut listener, "the end");
    terminal.wait(" bob: the end\r\n");
    let text = terminal.text();
    for raw in ["\x1b[2J", "\x1b]", "\x1b[31m", "\u{9b}", "\u{202e}", "\x07", "\x08"] {
        assert!(!text.contains(raw), "{raw:?} on the screen: {text:?}");
    }
    assert!(text.contains("bob: ^[[2J^[]52;c;aGk=^G^[[31mred"));
    assert!(text.contains("bob: forged^M12:00:00 alice: I owe you\r\n"), "{text:?}");
}

#[test]
fn a_flood_disturbs_nobody_who_types_and_loses_nothing() {
    let lines = number("AC_TEST_FLOOD", 5000);
    let Some((mut listener, mut terminal, _homes)) = scene(&[]) else { return };
    let mut flood: String = (0..lines).map(|n| format!("flood {n}\n")).collect();
    // One line as long as ten screens among them.
    flood.insert_str(0, &format!("{}\n", "x".repeat(20_000)));
    listener.feed(flood.into_bytes());
    terminal.wait("flood 10\r\n");
    terminal.type_in("still here\r");
    listener.wait_stdout("a line amid the flood", |bytes| bytes == b"still here\n");
    terminal.wait(&format!("flood {}\r\n", lines - 1));
    let text = terminal.text();
    let shown: Vec<usize> = text
        .split("bob: flood ")
        .skip(1)
        .map(|rest| rest.split("\r\n").next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(shown, (0..lines).collect::<Vec<_>>());
}

#[test]
fn the_terminal_is_as_it_was_however_a_chat_ends() {
    let by_key: [(&str, Option<i32>, Option<i32>); 4] = [
        ("/exit\r", Some(0), None),
        ("/quit\r", Some(0), None),
        ("\x04", Some(0), None),
        ("\x03", None, Some(2)),
    ];
    for (keys, code, signal) in by_key {
        let Some((_listener, mut terminal, _homes)) = scene(&[]) else { return };
        terminal.type_in(keys);
        let status = terminal.program.wait_exit(DEADLINE);
        assert_eq!((status.code(), status.signal()), (code, signal), "{keys:?}");
        terminal.assert_restored();
    }
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let Some((_listener, mut terminal, _homes)) = scene(&[]) else { return };
        terminal.type_in("half a li");
        terminal.wait("half a li");
        terminal.program.signal(signal);
        let status = terminal.program.wait_exit(DEADLINE);
        assert_eq!(status.signal(), Some(signal.as_raw()), "{signal:?}");
        terminal.assert_restored();
    }
}

#[test]
fn an_error_at_the_beginning_leaves_the_terminal_as_it_was() {
    let (alice, bob) = alice_and_bob();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let Some(mut terminal) = Terminal::run(&bob, "ac-listen", &["-i", &address]) else { return };
    assert_eq!(terminal.program.wait_exit(DEADLINE).code(), Some(1));
    terminal.wait("already in use");
    terminal.assert_restored();
    // Somebody who answers and is not Bob: no reason to try again.
    let carol = Home::with_identity();
    let listener = Listener::spawn(&carol, &["--accept-unknown", "127.0.0.1:0"]);
    let destination = listener.destination("bob");
    let mut terminal = Terminal::run(&alice, "ac-send", &["-w", "1s", &destination]).unwrap();
    assert_eq!(terminal.program.wait_exit(DEADLINE).code(), Some(5));
    terminal.assert_restored();
}

#[test]
fn a_terminal_that_cannot_edit_still_chats() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-i", "127.0.0.1:0"]);
    let args = [&listener.destination("bob")[..]];
    let terminal = Terminal::of_type("dumb", &alice, "ac-send", &args);
    let Some(mut terminal) = terminal else { return };
    terminal.type_in("plain\n");
    listener.wait_stdout("a line", |bytes| bytes == b"plain\n");
    type_line(&mut listener, "and back");
    terminal.wait("and back\r\n");
    assert!(!terminal.text().contains("\x1b"), "{:?}", terminal.text());
    terminal.type_in("\x04");
    assert!(terminal.program.wait_exit(DEADLINE).success());
}

//! Each message is the stdin of a command of its own, whose end is the answer.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::KeyPair;
use anonchat::net::command::{CommandLine, Commands, Tell};
use anonchat::net::feed::{Answer, Feed, Next};
use anonchat::net::hub::Hub;
use anonchat::net::input::Got;
use anonchat::net::listen::{Caller, Origin};
use anonchat::net::receiver::{Hired, Progress, Receiver};
use anonchat::proto::stream::meta::{MessageKind, Meta};
use anonchat::sched::party::Source;
use mio::Events;

const DEADLINE: Duration = Duration::from_secs(20);
const NOW: u64 = 1_795_266_302_000;

/// A loop that does nothing but wait for commands.
struct Loop {
    hub: Hub,
    dir: tempfile::TempDir,
    commands: RefCell<Vec<Rc<Commands>>>,
}

impl Drop for Loop {
    /// A test that fails leaves nothing behind.
    fn drop(&mut self) {
        self.commands.borrow().iter().for_each(|commands| commands.finish(|| true));
    }
}

impl Loop {
    fn new() -> Self {
        let hub = Hub::unarmed().unwrap();
        Self { hub, dir: tempfile::tempdir().unwrap(), commands: RefCell::default() }
    }

    fn commands(&self, script: &str, timeout: Option<Duration>, at_once: usize) -> Rc<Commands> {
        let script = format!("cd {} && {script}", self.dir.path().display());
        let line = CommandLine::shell(&script);
        let commands = Commands::new(line, timeout, at_once, self.hub.bell(), silent());
        self.commands.borrow_mut().push(Rc::clone(&commands));
        commands
    }

    /// Asks after every wake, as the real loop does.
    fn until<T>(&mut self, mut condition: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut events = Events::with_capacity(4);
        loop {
            if let Some(found) = condition() {
                return found;
            }
            let left = end.checked_duration_since(Instant::now()).expect("not within the deadline");
            let until = self.hub.clock.now().mono + left;
            self.hub.wait(&mut events, Some(until)).unwrap();
            self.hub.rung().for_each(drop);
        }
    }

    fn answer(&mut self, receiver: &mut dyn Receiver) -> Progress {
        self.until(|| receiver.progress())
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    fn wait_for_file(&self, name: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            match std::fs::read_to_string(self.dir.path().join(name)) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => assert!(Instant::now() < end, "no {name}"),
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

fn silent() -> Tell {
    Box::new(|_, _, _| {})
}

fn caller() -> Caller {
    let key = *KeyPair::generate().public();
    Caller { name: "alice".into(), origin: Origin::Key(key), known: true }
}

fn meta(kind: MessageKind) -> Meta {
    Meta { kind: kind as u8, ..Meta::message([0xab; 16], NOW) }
}

fn say(receiver: &mut dyn Receiver, meta: &Meta, content: &[u8]) {
    receiver.begin(meta, NOW);
    receiver.data(content);
    receiver.end();
}

fn refusal(progress: Progress) -> String {
    match progress {
        Progress::Refused(_, why) => why,
        other => panic!("{other:?}"),
    }
}

/// Whether a process is there and no zombie.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

/// The process has been killed, or is about to die of it: it is not ours to wait for.
fn is_over(pid: &str) {
    let end = Instant::now() + DEADLINE;
    while lives(pid) {
        assert!(Instant::now() < end, "{pid} lives");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_message_is_stdin_and_exit_status_zero_is_its_delivery() {
    let mut hub = Loop::new();
    let commands = hub.commands("cat > got", None, 4);
    let Hired { mut receiver, feed } =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message);
    assert!(feed.is_none());
    say(&mut *receiver, &meta(MessageKind::Message), b"hello\nworld");
    assert!(matches!(hub.answer(&mut *receiver), Progress::Delivered));
    assert_eq!(hub.file("got"), "hello\nworld");
}

#[test]
fn messages_of_a_session_run_one_after_another() {
    let mut hub = Loop::new();
    let commands = hub.commands("cat >> got; echo >> got", None, 4);
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    for content in ["one", "two", "three"] {
        say(&mut *receiver, &meta(MessageKind::Message), content.as_bytes());
    }
    for _ in 0..3 {
        assert!(matches!(hub.answer(&mut *receiver), Progress::Delivered));
    }
    assert_eq!(hub.file("got"), "one\ntwo\nthree\n");
    assert!(receiver.progress().is_none());
}

#[test]
fn a_failure_is_told_with_its_exit_status_while_the_message_still_comes() {
    let mut hub = Loop::new();
    let commands = hub.commands("exit 3", None, 4);
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    receiver.begin(&meta(MessageKind::Message), NOW);
    receiver.data(b"x");
    assert_eq!(refusal(hub.answer(&mut *receiver)), "exit status 3");
    let commands = hub.commands("kill -9 $$", None, 4);
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    say(&mut *receiver, &meta(MessageKind::Message), b"x");
    assert_eq!(refusal(hub.answer(&mut *receiver)), "killed by signal 9");
}

#[test]
fn a_command_that_does_not_exist_is_a_refusal() {
    let mut hub = Loop::new();
    let line = CommandLine::words("/does/not/exist").unwrap();
    let commands = Commands::new(line, None, 2, hub.hub.bell(), silent());
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    say(&mut *receiver, &meta(MessageKind::Message), b"x");
    assert_eq!(refusal(hub.answer(&mut *receiver)), "cannot be started: no such command");

    let Hired { mut receiver, feed } =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Duplex);
    let mut feed = feed.unwrap();
    say(&mut *receiver, &meta(MessageKind::Duplex), b"x");
    assert!(matches!(feed.next().unwrap(), Next::Message(_)));
    let mut space = [0; 16];
    hub.until(|| (feed.read(&mut space).unwrap() == Got::End).then_some(()));
    feed.answered(&Answer::Delivered(0));
    assert_eq!(refusal(hub.answer(&mut *receiver)), "cannot be started: no such command");
}

#[test]
fn what_a_command_does_not_read_is_dropped_if_it_ends_well() {
    let mut hub = Loop::new();
    let commands = hub.commands("head -n 1 > got", None, 4);
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    receiver.begin(&meta(MessageKind::Message), NOW);
    receiver.data(b"first\n");
    let mut sent = 0;
    while sent < 4 * 1024 * 1024 {
        hub.until(|| {
            assert!(receiver.progress().is_none());
            receiver.has_room().then_some(())
        });
        receiver.data(&[b'x'; 65_536]);
        sent += 65_536;
    }
    receiver.end();
    assert!(matches!(hub.answer(&mut *receiver), Progress::Delivered));
    assert_eq!(hub.file("got"), "first\n");
}

#[test]
fn a_command_that_hangs_is_ended_with_all_its_children() {
    let mut hub = Loop::new();
    let script = "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > own; wait; wait; sleep 99";
    let commands = hub.commands(script, Some(Duration::from_millis(300)), 4);
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    say(&mut *receiver, &meta(MessageKind::Message), b"x");
    assert_eq!(refusal(hub.answer(&mut *receiver)), "did not end within 0.3 s");
    let (child, own) = (hub.wait_for_file("child"), hub.wait_for_file("own"));
    commands.finish(|| false);
    assert!(!lives(&own));
    is_over(&child);
}

#[test]
fn a_message_that_is_cut_is_no_end_of_input_to_its_command() {
    let mut hub = Loop::new();
    let script = "trap 'sleep 0.3; exit 1' TERM; echo $$ > own; cat > part; echo end > whole";
    let commands = hub.commands(script, None, 4);
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    receiver.begin(&meta(MessageKind::Message), NOW);
    receiver.data(b"half");
    let own = hub.wait_for_file("own");
    drop(receiver);
    commands.finish(|| false);
    assert!(!lives(&own));
    assert!(!hub.dir.path().join("whole").exists());
    // An abort is the same.
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    receiver.begin(&meta(MessageKind::Message), NOW);
    receiver.abort();
    commands.finish(|| false);
    assert!(receiver.progress().is_none());
    assert!(!hub.dir.path().join("whole").exists());
    // And the session may go on.
    say(&mut *receiver, &meta(MessageKind::Message), b"whole");
    assert!(matches!(hub.answer(&mut *receiver), Progress::Delivered));
}

#[test]
fn more_commands_than_allowed_wait_for_their_turn() {
    let mut hub = Loop::new();
    let commands = hub.commands("read line; echo $line >> got; read line", None, 2);
    let mut all: Vec<_> = (0..5)
        .map(|n| {
            let mut receiver =
                commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
            receiver.begin(&meta(MessageKind::Message), NOW);
            receiver.data(format!("{n}\n").as_bytes());
            receiver.data(&[b'x'; 70_000]);
            receiver
        })
        .collect();
    let roomy: Vec<_> = all.iter().map(|receiver| receiver.has_room()).collect();
    assert_eq!(roomy, [true, true, false, false, false]);
    for receiver in &mut all {
        receiver.data(b"\n");
        receiver.end();
    }
    let mut answers = 0;
    hub.until(|| {
        answers += all.iter_mut().filter_map(|receiver| receiver.progress()).count();
        (answers == 5).then_some(())
    });
    let mut got: Vec<_> = hub.file("got").lines().map(str::to_owned).collect();
    got.sort();
    assert_eq!(got, ["0", "1", "2", "3", "4"]);
}

#[test]
fn who_leaves_the_queue_holds_nobody_up() {
    let mut hub = Loop::new();
    let commands = hub.commands("cat > /dev/null", None, 1);
    let mut first =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    let mut second =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    let mut third =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Message).receiver;
    first.begin(&meta(MessageKind::Message), NOW);
    second.begin(&meta(MessageKind::Message), NOW);
    say(&mut *third, &meta(MessageKind::Message), b"x");
    drop(second);
    drop(first);
    assert!(matches!(hub.answer(&mut *third), Progress::Delivered));
}

#[test]
fn lines_of_chat_share_one_run() {
    let mut hub = Loop::new();
    let commands = hub.commands("echo $AC_KIND > got; cat >> got; echo end >> got", None, 4);
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::ChatLine).receiver;
    for line in ["hello", "is anybody there?"] {
        say(&mut *receiver, &meta(MessageKind::ChatLine), line.as_bytes());
        assert!(matches!(hub.answer(&mut *receiver), Progress::Delivered));
    }
    drop(receiver);
    // The end of the session is the end of its input, and it may take its time for it.
    commands.finish(|| false);
    assert_eq!(hub.file("got"), "chat\nhello\nis anybody there?\nend\n");
}

#[test]
fn a_line_that_nobody_reads_is_refused() {
    let mut hub = Loop::new();
    let commands = hub.commands("read line; exit 7", None, 4);
    let mut receiver =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::ChatLine).receiver;
    say(&mut *receiver, &meta(MessageKind::ChatLine), b"one");
    assert!(matches!(hub.answer(&mut *receiver), Progress::Delivered));
    let why = hub.until(|| {
        // Lines are taken until its end is known.
        say(&mut *receiver, &meta(MessageKind::ChatLine), b"more");
        std::iter::from_fn(|| receiver.progress()).find_map(|progress| match progress {
            Progress::Refused(_, why) if why.starts_with("exit") => Some(why),
            _ => None,
        })
    });
    assert_eq!(why, "exit status 7");
}

#[test]
fn the_environment_says_whose_message_it_is_and_nothing_in_it_commands_anything() {
    let mut hub = Loop::new();
    let script = "cat >/dev/null; printf '%s|' \"$AC_FROM\" \"$AC_FROM_KEY\" \"$AC_ID\" \"$AC_KIND\" \"$AC_NAME\" > got";
    let commands = hub.commands(script, None, 4);
    let caller = caller();
    let mut receiver = commands.hire(Source::Connection(1024), &caller, MessageKind::File).receiver;
    let name = "a\0b\x1b[2J;$(touch pwned)\n`touch pwned`.txt".to_owned();
    let file = Meta { name: Some(name), size: Some(1), ..meta(MessageKind::File) };
    say(&mut *receiver, &file, b"x");
    assert!(matches!(hub.answer(&mut *receiver), Progress::Delivered));
    let got = hub.file("got");
    let fields: Vec<_> = got.split('|').collect();
    assert_eq!(fields[0], "alice");
    assert_eq!(fields[1].len(), 44);
    assert_eq!(fields[2], "ab".repeat(16));
    assert_eq!(fields[3], "file");
    assert_eq!(fields[4], "ab[2J;$(touch pwned)`touch pwned`.txt");
    assert!(!hub.dir.path().join("pwned").exists());
}

#[test]
fn a_duplex_command_says_what_it_says_at_once_and_then_how_it_ended() {
    let mut hub = Loop::new();
    let script = "while read line; do echo got $line; done; echo done; exit 5";
    let commands = hub.commands(script, None, 4);
    let Hired { mut receiver, feed } =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Duplex);
    let mut feed = feed.unwrap();
    assert!(matches!(feed.next().unwrap(), Next::Later));
    receiver.begin(&meta(MessageKind::Duplex), NOW);
    let Next::Message(said) = feed.next().unwrap() else { panic!() };
    assert_eq!(said.kind, MessageKind::Duplex as u8);
    receiver.data(b"a line\n");
    assert_eq!(read_until(&mut hub, &mut *feed, "\n"), "got a line\n");
    assert!(receiver.progress().is_none());
    receiver.end();
    assert_eq!(read_until(&mut hub, &mut *feed, "\n"), "done\n");
    let mut space = [0; 16];
    hub.until(|| (feed.read(&mut space).unwrap() == Got::End).then_some(()));
    // Its peer shall not go before it has heard all.
    assert!(receiver.progress().is_none());
    feed.answered(&Answer::Delivered(16));
    assert_eq!(refusal(hub.answer(&mut *receiver)), "exit status 5");
    assert!(matches!(feed.next().unwrap(), Next::End));
}

#[test]
fn a_second_stream_in_one_session_is_refused() {
    let mut hub = Loop::new();
    let commands = hub.commands("exec >&-; cat > /dev/null", None, 4);
    let Hired { mut receiver, feed } =
        commands.hire(Source::Connection(1024), &caller(), MessageKind::Duplex);
    let mut feed = feed.unwrap();
    say(&mut *receiver, &meta(MessageKind::Duplex), b"x");
    say(&mut *receiver, &meta(MessageKind::Duplex), b"y");
    assert!(matches!(feed.next().unwrap(), Next::Message(_)));
    let mut space = [0; 16];
    hub.until(|| (feed.read(&mut space).unwrap() == Got::End).then_some(()));
    feed.answered(&Answer::Delivered(0));
    assert!(matches!(hub.answer(&mut *receiver), Progress::Delivered));
    assert_eq!(refusal(hub.answer(&mut *receiver)), "a session carries one stream");
}

fn read_until(hub: &mut Loop, feed: &mut dyn Feed, end: &str) -> String {
    let mut text = String::new();
    let mut space = [0; 1024];
    hub.until(|| {
        while let Got::Bytes(n) = feed.read(&mut space).unwrap() {
            text.push_str(std::str::from_utf8(&space[..n]).unwrap());
        }
        text.ends_with(end).then_some(())
    });
    text
}

#[test]
fn commands_are_split_into_words_as_a_shell_does_it_and_no_further() {
    let words = |text| CommandLine::words(text).map(|line| format!("{line:?}"));
    let line = words(r#"cmd 'two words' "a\"b" c\ d $HOME *"#).unwrap();
    assert!(line.contains(r#"["two words", "a\"b", "c d", "$HOME", "*"]"#), "{line}");
    for wrong in ["", "   ", "'open", "back\\", "''", "a\0b"] {
        assert!(words(wrong).is_err(), "{wrong:?}");
    }
    assert!(CommandLine::words("sh -c true").unwrap().find().is_ok());
    assert!(CommandLine::words("no-such-program-at-all").unwrap().find().is_err());
    assert!(CommandLine::words("/etc/passwd").unwrap().find().is_err());
}

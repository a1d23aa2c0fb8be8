//! A list of files and folders, read by one thread and written by another, arrives as it was,
//! without anybody looking again and again: whoever waits is woken.
//!
//! `AC_TEST_FILES`: how many small files are sent (2000).

use crate::testkit::{common::number, random::bytes, transfer};

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anonchat::net::feed::{Answer, Feed, Next};
use anonchat::net::hub::Bell;
use anonchat::net::input::Got;
use anonchat::net::receiver::{Progress, Receiver};
use anonchat::proto::stream::meta::{Meta, RESUMED};
use anonchat::proto::stream::record::RefuseCode;
use anonchat::transfer::beneath::Resolution;
use anonchat::transfer::feed::{self, FileFeed};
use anonchat::transfer::inbox::{Inbox, Limits};
use anonchat::transfer::intake::{self, Intake};
use mio::{Events, Poll};
use transfer::tree::{describe, plant};
use transfer::{Dir, NOW, STAMP, alice, open};

/// What both ends told.
#[derive(Default)]
struct Told {
    sender: Vec<String>,
    receiver: Vec<String>,
    /// DATA bytes.
    moved: u64,
    resumed: u64,
}

type Telling = Rc<RefCell<Told>>;

/// A session without a network: one loop, as the real ones are.
struct Session {
    poll: Poll,
    feed: FileFeed,
    intake: Intake,
    /// Messages on their way, and whether they are over.
    open: VecDeque<bool>,
    current: Option<(Meta, Phase)>,
    told: Telling,
    metas: Vec<Meta>,
    /// Turns of the loop that are left.
    turns: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Offer,
    Start,
    Data,
}

impl Session {
    fn new(paths: Vec<PathBuf>, inbox: &Inbox) -> Self {
        let poll = Poll::new().unwrap();
        let bell = Bell::new(poll.registry()).unwrap();
        let told = Telling::default();
        let feed = FileFeed::new(paths, None, bell.clone(), tell_sender(&told)).unwrap();
        let intake = Intake::new(alice(inbox), bell, tell_receiver(&told));
        let (open, metas) = (VecDeque::new(), Vec::new());
        Self { poll, feed, intake, open, current: None, told, metas, turns: u64::MAX }
    }

    /// To the end, or until its turns are used up; whether it came to the end.
    fn run(&mut self) -> bool {
        let mut events = Events::with_capacity(8);
        let mut space = vec![0; 65_516];
        loop {
            let mut moved = self.answers();
            while self.intake.has_room() {
                let Some(left) = self.turns.checked_sub(1) else { return false };
                self.turns = left;
                match self.step(&mut space) {
                    Stepped::On => moved = true,
                    Stepped::Waits => break,
                    Stepped::Over if self.open.is_empty() => return true,
                    Stepped::Over => break,
                }
            }
            if !moved {
                let before = Instant::now();
                self.poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
                assert!(before.elapsed() < Duration::from_secs(19), "nobody woke the loop");
            }
        }
    }

    fn answers(&mut self) -> bool {
        let mut any = false;
        while let Some(progress) = self.intake.progress() {
            any = true;
            match progress {
                Progress::Resume { offset, hash } => {
                    self.feed.offered(offset, hash);
                    let (_, phase) = self.current.as_mut().unwrap();
                    assert!(*phase == Phase::Offer);
                    *phase = Phase::Start;
                }
                Progress::Delivered => {
                    assert!(self.open.pop_front().unwrap(), "answered before its end");
                    self.feed.answered(&Answer::Delivered(0));
                }
                Progress::Refused(code, text) => {
                    if !self.open.pop_front().unwrap() {
                        self.current = None;
                    }
                    self.feed.answered(&Answer::Refused(code as u8, text));
                }
                Progress::Sufficed => panic!("of a file all is needed"),
            }
        }
        any
    }

    fn step(&mut self, space: &mut [u8]) -> Stepped {
        let Some((_, phase)) = &mut self.current else {
            return match self.feed.next().unwrap() {
                Next::Message(meta) => {
                    self.intake.begin(&meta, NOW);
                    self.metas.push(meta.clone());
                    let phase = if meta.asks_resume() { Phase::Offer } else { Phase::Data };
                    self.current = Some((meta, phase));
                    self.open.push_back(false);
                    Stepped::On
                }
                Next::Later => Stepped::Waits,
                Next::End => Stepped::Over,
            };
        };
        let got = match phase {
            Phase::Offer => return Stepped::Waits,
            Phase::Start => match self.feed.start() {
                Ok(Some(offset)) => {
                    *phase = Phase::Data;
                    self.intake.start_at(offset);
                    return Stepped::On;
                }
                Ok(None) => return Stepped::Waits,
                Err(error) => Err(error),
            },
            Phase::Data => self.feed.read(space),
        };
        match got {
            Ok(Got::Bytes(len)) => self.intake.data(&space[..len]),
            Ok(Got::Later) => return Stepped::Waits,
            Ok(Got::End) => {
                self.intake.end();
                *self.open.back_mut().unwrap() = true;
                self.current = None;
            }
            Err(error) => {
                self.intake.abort();
                self.open.pop_back();
                assert!(self.open.is_empty(), "the order of answers");
                self.current = None;
                self.feed.answered(&Answer::Unread(error));
            }
        }
        Stepped::On
    }
}

enum Stepped {
    On,
    Waits,
    Over,
}

fn tell_sender(told: &Telling) -> feed::Witness {
    let told = Rc::clone(told);
    Box::new(move |event| {
        use feed::Event;
        let mut told = told.borrow_mut();
        match event {
            Event::Begun(_) => {}
            Event::Resumed(bytes) => told.resumed += bytes,
            Event::Moved(bytes) => told.moved += bytes,
            Event::Delivered { name, bytes, entries, .. } => {
                told.sender.push(format!("{name}: {bytes} {entries:?}"));
            }
            Event::Declined { name, code, text, .. } => {
                told.sender.push(format!("{name}: declined {code} {text}"));
            }
            Event::Unread(name, why) => told.sender.push(format!("{name}: unread {why}")),
            Event::Missing(name, _) => told.sender.push(format!("{name}: missing")),
            Event::Queued { name, .. } => told.sender.push(format!("{name}: queued")),
        }
    })
}

fn tell_receiver(told: &Telling) -> intake::Witness {
    let told = Rc::clone(told);
    Box::new(move |event| {
        use intake::Event;
        let mut told = told.borrow_mut();
        match event {
            Event::Landed { landed, bytes, entries, .. } => {
                told.receiver.push(format!("{landed}: {bytes} {entries:?}"));
            }
            Event::Declined { name, why, .. } => {
                told.receiver.push(format!("{name}: declined {:?}", why.code()));
            }
            Event::Cut { name, .. } => told.receiver.push(format!("{name}: cut")),
            Event::Begun(_) | Event::Resumed(_) | Event::Came(_) => {}
        }
    })
}

fn landed(name: &str) -> String {
    format!("{STAMP}_alice_{name}")
}

#[test]
fn a_list_of_files_and_folders_arrives_as_one_run() {
    let (from, to) = (Dir::in_memory(), Dir::in_memory());
    plant(&from.at("tree"));
    fs::write(from.at("long"), bytes(3_000_000)).unwrap();
    fs::write(from.at("empty"), "").unwrap();
    symlink("long", from.at("link")).unwrap();
    let names = ["long", "tree", "link", "empty"];
    let inbox = to.inbox(Resolution::Kernel);
    let mut session = Session::new(names.iter().map(|name| from.at(name)).collect(), &inbox);
    assert!(session.run());
    assert_eq!(describe(&to.at(&landed("tree"))), describe(&from.at("tree")));
    for name in ["long", "link", "empty"] {
        assert_eq!(fs::read(to.at(&landed(name))).unwrap(), fs::read(from.at(name)).unwrap());
    }
    let (last, others) = session.metas.split_last().unwrap();
    assert!(!last.more && others.iter().all(|meta| meta.more), "one run");
    let told = session.told.borrow();
    // 2,500,000 + 70,000 + 3 + 9 + 1, and two links of 8 and 7 bytes.
    assert_eq!(
        told.sender,
        ["long: 3000000 None", "tree: 2570028 Some(12)", "link: 3000000 None", "empty: 0 None"]
    );
    let receiver = told.sender.iter().map(|line| landed(line));
    assert_eq!(told.receiver, receiver.collect::<Vec<_>>());
    assert_eq!((to.names().len(), told.resumed), (4, 0));
}

#[test]
fn what_is_declined_or_cannot_be_read_does_not_end_the_list() {
    let (from, to) = (Dir::in_memory(), Dir::in_memory());
    for (name, len) in [("a", 10), ("big", 2_000_000), ("large", 200_000), ("z", 10)] {
        fs::write(from.at(name), bytes(len)).unwrap();
    }
    fs::create_dir(from.at("folder")).unwrap();
    fs::write(from.at("folder/x"), bytes(200_000)).unwrap();
    fs::write(from.at("folder/y"), "y").unwrap();
    symlink("/etc/passwd", from.at("folder/out")).unwrap();
    let limits = Limits { max_file: Some(100_000), max_total: None };
    let inbox = open(to.path(), Resolution::Kernel, limits, NOW);
    let names = ["no such", "a", "big", "large", "folder", "/dev/null", "z", "none"];
    let mut session = Session::new(names.iter().map(|name| from.at(name)).collect(), &inbox);
    assert!(session.run());
    assert!(!session.metas.last().unwrap().more, "what cannot be opened is not waited for");
    let too_large = "declined 2 larger than 100000 bytes";
    let told = session.told.borrow();
    let missing = |name: &str| format!("{}: missing", from.at(name).display());
    let mut expected = vec![
        missing("no such"),
        "a: 10 None".to_owned(),
        format!("big: {too_large}"),
        format!("large: {too_large}"),
        "folder/out: missing".to_owned(),
        format!("folder/x: {too_large}"),
        "/dev/null: missing".to_owned(),
        "folder: 1 Some(1)".to_owned(),
        "z: 10 None".to_owned(),
        missing("none"),
    ];
    let mut sender = told.sender.clone();
    sender.sort();
    expected.sort();
    assert_eq!(sender, expected);
    assert_eq!(to.names(), [landed("a"), landed("folder"), landed("z")]);
}

#[test]
fn of_a_folder_that_is_declined_nothing_is_sent() {
    let (from, to) = (Dir::in_memory(), Dir::in_memory());
    plant(&from.at("tree"));
    fs::write(from.at("z"), "z").unwrap();
    let limits = Limits { max_file: None, max_total: Some(1000) };
    let inbox = open(to.path(), Resolution::Kernel, limits, NOW);
    let mut session = Session::new(vec![from.at("tree"), from.at("z")], &inbox);
    assert!(session.run());
    assert_eq!(session.metas.len(), 2);
    assert_eq!(to.names(), [landed("z")]);
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_given_up_and_the_list_goes_on() {
    let (from, to) = (Dir::in_memory(), Dir::in_memory());
    fs::write(from.at("changing"), bytes(8_000_000)).unwrap();
    fs::write(from.at("z"), "z").unwrap();
    let inbox = to.inbox(Resolution::Kernel);
    let mut session = Session::new(vec![from.at("changing"), from.at("z")], &inbox);
    session.turns = 20;
    assert!(!session.run());
    fs::write(from.at("changing"), "other").unwrap();
    session.turns = u64::MAX;
    assert!(session.run());
    let told = session.told.borrow();
    assert_eq!(told.sender, ["changing: unread it changed while it was sent", "z: 1 None"]);
    assert_eq!(told.receiver, ["changing: cut".to_owned(), landed("z: 1 None")]);
    assert_eq!(to.names().len(), 2, "its part stays");
}

#[test]
fn a_session_that_is_cut_anywhere_is_gone_on_with_by_the_next_at_once() {
    let (from, to) = (Dir::in_memory(), Dir::in_memory());
    plant(&from.at("tree"));
    fs::write(from.at("long"), bytes(5_000_000)).unwrap();
    let names = ["tree", "long"];
    let whole = 2_570_013 + 15 + 5_000_000;
    for cut in [3, 20, 50, 75, 95, 110, 130, 140] {
        let inbox = to.inbox(Resolution::Kernel);
        let session = || Session::new(names.iter().map(|name| from.at(name)).collect(), &inbox);
        let mut first = session();
        first.turns = cut;
        assert!(!first.run(), "cut at {cut}");
        let before = first.told.borrow().moved;
        let told_first = Rc::clone(&first.told);
        // The thread still writes what came, and has its part meanwhile.
        drop(first);
        let of_folder = |line: &&String| line.contains("tree") && !line.contains('/');
        let of_folder = told_first.borrow().receiver.iter().filter(of_folder).count();
        let mut second = session();
        assert!(second.run());
        let told = second.told.borrow();
        // All of the folder came, and its acknowledgement did not go out: it comes again.
        let again = to.names().contains(&landed("tree-2"));
        let is_told = of_folder == 1 || (of_folder == 0 && (again || cut == 3));
        assert!(is_told, "cut at {cut}: {:?}", told_first.borrow().receiver);
        let most = whole + RESUMED + if again { whole - 5_000_000 } else { 0 };
        assert!(before + told.moved <= most, "cut at {cut}: {before}, {}", told.moved);
        assert!(told.sender.len() == 2, "{:?}", told.sender);
        drop(told);
        for name in to.names() {
            let origin = name.trim_start_matches(&landed("")).trim_end_matches("-2");
            let origin = from.at(origin);
            assert_eq!(describe(&to.at(&name)), describe(&origin), "cut at {cut}: {name}");
            let path = to.at(&name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
    }
}

/// A `Meta` of a file of `size` bytes.
fn long(size: u64) -> Meta {
    let meta = Meta::message([0; 16], NOW);
    Meta { kind: 1, name: Some("long".into()), size: Some(size), ..meta }
}

#[test]
fn of_a_message_that_was_given_up_nothing_more_is_said() {
    let to = Dir::in_memory();
    let limits = Limits { max_file: Some(3_000_000), max_total: None };
    let inbox = open(to.path(), Resolution::Kernel, limits, NOW);
    for size in [2_000_000, 4_000_000] {
        for waits in [true, false] {
            let mut poll = Poll::new().unwrap();
            let bell = Bell::new(poll.registry()).unwrap();
            let mut intake = Intake::new(alice(&inbox), bell, tell_receiver(&Telling::default()));
            intake.begin(&long(size), NOW);
            let mut events = Events::with_capacity(8);
            if waits {
                // The offer, or why it is declined, is there and was not asked for.
                poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
                assert!(!events.is_empty());
            }
            intake.abort();
            intake.begin(&long(3), NOW);
            intake.data(b"abc");
            intake.end();
            let answer = loop {
                match intake.progress() {
                    Some(answer) => break answer,
                    None => poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap(),
                }
                assert!(!events.is_empty(), "nobody woke the loop");
            };
            assert!(matches!(answer, Progress::Delivered), "{size}: {answer:?}");
        }
    }
}

#[test]
fn a_second_session_with_the_same_file_is_declined_after_a_while() {
    let (from, to) = (Dir::in_memory(), Dir::in_memory());
    fs::write(from.at("long"), bytes(5_000_000)).unwrap();
    let inbox = to.inbox(Resolution::Kernel);
    let mut first = Session::new(vec![from.at("long")], &inbox);
    first.turns = 20;
    assert!(!first.run());
    let mut second = Session::new(vec![from.at("long")], &inbox);
    assert!(second.run());
    let code = RefuseCode::CannotWrite as u8;
    let expected = format!("long: declined {code} it is arriving in another session already");
    assert_eq!(second.told.borrow().sender, [expected]);
    first.turns = u64::MAX;
    assert!(first.run());
    assert_eq!(to.names(), [landed("long")]);
}

#[test]
fn many_files_arrive_whether_in_a_folder_or_not() {
    let count = number("AC_TEST_FILES", 2_000);
    let (from, to) = (Dir::in_memory(), Dir::in_memory());
    fs::create_dir(from.at("tree")).unwrap();
    let names: Vec<_> = (0..count).map(|n| from.at("tree").join(format!("{n}"))).collect();
    for (n, name) in names.iter().enumerate() {
        fs::write(name, format!("{n}")).unwrap();
    }
    let inbox = to.inbox(Resolution::Kernel);
    let mut session = Session::new([vec![from.at("tree")], names].concat(), &inbox);
    assert!(session.run());
    assert_eq!(to.names().len(), count + 1);
    assert_eq!(describe(&to.at(&landed("tree"))), describe(&from.at("tree")));
    for n in 0..count {
        assert_eq!(fs::read_to_string(to.at(&landed(&n.to_string()))).unwrap(), n.to_string());
    }
}

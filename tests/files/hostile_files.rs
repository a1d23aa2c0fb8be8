//! A sender that is let in and then lies: whatever it calls its files, whatever it says of their
//! length and kind, over a real connection nothing comes to be outside the directory and nothing in
//! it is replaced.

use crate::testkit::{common, keys::Unasked, scene, transfer};

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::rc::Rc;

use anonchat::crypto::sodium::random;
use anonchat::keys::Keyring;
use anonchat::net::call::Call;
use anonchat::net::dial::CONNECT_TIME;
use anonchat::net::feed::{Answer, Feed, Next};
use anonchat::net::hub::Hub;
use anonchat::net::input::Got;
use anonchat::net::resolve::HostPort;
use anonchat::net::send::{Limits, Stream, Task};
use anonchat::net::several::send_to_one;
use anonchat::net::tokens::Topic;
use anonchat::proto::stream::meta::{Meta, RESUMED};
use common::{DEADLINE, Listener};
use scene::Scene;
use transfer::tree::describe;

const FILE: u8 = 1;
const ENTRY: u8 = 2;
const REGULAR: u32 = 0o100_644;
const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;

/// One message, true or not.
#[derive(Clone)]
struct Lie {
    meta: Meta,
    content: Vec<u8>,
    /// Where it claims to go on, if it is asked.
    start: u64,
}

impl Lie {
    fn new(kind: u8, name: &str, mode: Option<u32>, content: &[u8]) -> Self {
        let meta = Meta {
            kind,
            name: Some(name.into()),
            size: Some(content.len() as u64),
            mode,
            mtime: Some(0),
            ..Meta::message(random(), 0)
        };
        Self { meta, content: content.to_vec(), start: 0 }
    }

    fn file(name: &str) -> Self {
        Self::new(FILE, name, Some(0o644), b"content")
    }

    fn entry(name: &str) -> Self {
        Self::new(ENTRY, name, Some(REGULAR), b"content")
    }

    fn link(name: &str, target: &str) -> Self {
        Self::new(ENTRY, name, Some(LINK), target.as_bytes())
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Whether each was delivered, in order.
type Answers = Rc<RefCell<Vec<bool>>>;

struct Lies {
    left: VecDeque<Lie>,
    current: Option<Lie>,
    read: usize,
    answers: Answers,
}

impl Feed for Lies {
    fn next(&mut self) -> io::Result<Next> {
        self.current = self.left.pop_front();
        self.read = 0;
        Ok(match &self.current {
            Some(lie) => Next::Message(Meta { more: !self.left.is_empty(), ..lie.meta.clone() }),
            None => Next::End,
        })
    }

    fn start(&mut self) -> io::Result<Option<u64>> {
        Ok(self.current.as_ref().map(|lie| lie.start))
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        let Some(lie) = &self.current else { return Ok(Got::End) };
        let rest = &lie.content[self.read..];
        let len = rest.len().min(space.len());
        space[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(if len == 0 { Got::End } else { Got::Bytes(len) })
    }

    fn answered(&mut self, answer: &Answer) {
        self.answers.borrow_mut().push(matches!(answer, Answer::Delivered(_)));
    }
}

/// Says `lies` to the listener in one session; which of them it took.
fn tell(hub: &mut Hub, scene: &Scene, listener: &Listener, lies: &[Lie]) -> Vec<bool> {
    let keyring = Keyring::at(scene.alice.path());
    let me = keyring.identity(&mut Unasked).unwrap().pair;
    let bob = Keyring::at(scene.bob.path()).identity_contact().unwrap();
    let call = Call {
        me: &me,
        peer: bob.public,
        access: *bob.access.as_bytes(),
        patience: CONNECT_TIME,
        trace: false,
    };
    let answers = Answers::default();
    let theirs = Rc::clone(&answers);
    let feed = Lies { left: lies.to_vec().into(), current: None, read: 0, answers: theirs };
    let target = HostPort { host: "127.0.0.1".into(), port: listener.port() };
    let mut limits = Limits { silence: DEADLINE, trace: None };
    // That something was declined is no news here.
    let task = Task::Say(Box::new(feed));
    let peer = Stream::new(&call, &[target.into()], task, DEADLINE, Topic::Peer(0).token());
    let _ = send_to_one(hub, peer, &mut limits);
    assert_eq!(answers.borrow().len(), lies.len(), "the session went on to its end");
    answers.take()
}

/// Names for a file. Something is made of each.
fn file_names() -> Vec<String> {
    let named = [
        "",
        ".",
        "..",
        "...",
        "/",
        "//",
        " ",
        "../",
        "../..",
        "a/..",
        "/etc/passwd",
        "../victim",
        "../../victim",
        "in/../../victim",
        "..\\..\\victim",
        "C:\\Windows\\x.dll",
        "\\\\host\\share",
        "a\0b",
        "\0",
        "a\nb",
        "\r\n",
        "\x1b[2J",
        "\x1b]0;title\x07",
        "\x7f",
        "\u{9b}31m",
        "photo\u{202e}gpj.exe",
        "\u{200b}",
        "\u{feff}",
        "\u{2028}",
        "-rf",
        "--help",
        "~",
        "~root",
        "$(reboot)",
        "`reboot`",
        "*",
        "?",
        "CON",
        "NUL.txt",
        "aux",
        "x.part",
        ".part",
        "x.part.",
        "name. . ",
        ".bashrc",
        "%2e%2e%2fvictim",
        "..%c0%afvictim",
        "victim",
        "ﬁle",
        "é",
        "e\u{301}",
        "日本語",
        "🙂",
        "a/b/c/",
        "./x",
        "....//victim",
    ];
    let mut names: Vec<String> = named.map(str::to_owned).into();
    names.extend(["x".repeat(300), "é".repeat(2048), "x".repeat(4096), "a/".repeat(2000)]);
    names
}

/// Names for something in the folder `f`. None of these may be made.
const OUTSIDE: [&str; 18] = [
    "f/../victim",
    "f/..",
    "f/.",
    "f/",
    "f//x",
    "f/a/../../victim",
    "f/./x",
    "f/a//b",
    "/f/x",
    "../f/x",
    "g/x",
    "victim/x",
    "f/\0",
    "f/a\0/b",
    "./f/x",
    "F/x",
    "f /x",
    "f/../f/x",
];

#[test]
fn whatever_a_sender_says_nothing_is_made_outside_or_replaced() {
    let scene = Scene::new();
    let sandbox = scene.bob.path();
    fs::write(sandbox.join("victim"), "precious").unwrap();
    fs::write(scene.inbox().join("victim"), "precious").unwrap();
    let listener = scene.listen(&["--max-file", "2M"]);
    let before = describe(sandbox);
    let mut hub = Hub::new().unwrap();

    let names = file_names();
    assert!(names.len() >= 60, "{}", names.len());
    let lies: Vec<_> = names.iter().map(|name| Lie::file(name)).collect();
    let taken = tell(&mut hub, &scene, &listener, &lies);
    assert_eq!(taken, vec![true; lies.len()], "each name becomes a harmless one");
    assert_eq!(scene.landed().len(), 1 + names.len(), "{:?}", scene.landed());

    let folder = |lies: Vec<Lie>| {
        let opening = Lie::new(ENTRY, "f", Some(FOLDER), b"");
        let closing = opening.clone().with(|lie| lie.meta.size = None);
        [vec![opening], lies, vec![closing]].concat()
    };
    let outside: Vec<_> = OUTSIDE.iter().map(|name| Lie::entry(name)).collect();
    let taken = tell(&mut hub, &scene, &listener, &folder(outside));
    let (ends, within) = ([taken[0], taken[taken.len() - 1]], &taken[1..taken.len() - 1]);
    assert_eq!((ends, within), ([true, true], &[false; OUTSIDE.len()][..]));

    let links = [
        ("f/l", "/etc/passwd"),
        ("f/l", ".."),
        ("f/l", "../victim"),
        ("f/l", "a/../../victim"),
        ("f/l", ""),
        ("f/l", "a\0b"),
        ("f/d/l", "../../victim"),
        ("f/../l", "x"),
    ];
    let links: Vec<_> = links.iter().map(|(name, target)| Lie::link(name, target)).collect();
    let taken = tell(&mut hub, &scene, &listener, &folder(links));
    assert!(!taken[1..taken.len() - 1].contains(&true), "{taken:?}");

    // A link that stays inside, and what would go through it or over it.
    let through = vec![
        Lie::entry("f/dir/x"),
        Lie::link("f/self", "."),
        Lie::link("f/to-dir", "dir"),
        Lie::entry("f/self/y"),
        Lie::entry("f/to-dir/y"),
        Lie::entry("f/dir/x"),
        Lie::link("f/dir", "dir"),
        Lie::entry("f/dir/x/y"),
    ];
    let taken = tell(&mut hub, &scene, &listener, &folder(through));
    let expected = [true, true, true, true, false, false, false, false, false, true];
    assert_eq!(taken, expected);

    // Lengths, kinds and offsets that are not so.
    let long = vec![7; RESUMED as usize + 10];
    let odd = vec![
        Lie::file("short").with(|lie| lie.meta.size = Some(100)),
        Lie::file("long").with(|lie| lie.meta.size = Some(2)),
        Lie::file("huge").with(|lie| lie.meta.size = Some(u64::MAX)),
        Lie::file("gap").with(|lie| {
            lie.content.clone_from(&long);
            lie.meta.size = Some(long.len() as u64);
            lie.start = 1000;
        }),
        Lie::new(ENTRY, "f/device", Some(0o020_666), b""),
        Lie::new(ENTRY, "f/pipe", Some(0o010_666), b""),
        Lie::new(ENTRY, "f/nothing", None, b""),
        Lie::new(FILE, "setuid", Some(0o6777), b"x"),
        Lie::new(FILE, "endless", None, &long).with(|lie| lie.meta.size = None),
        Lie::file("none").with(|lie| lie.meta.name = None),
    ];
    let taken = tell(&mut hub, &scene, &listener, &folder(odd));
    let expected = [true, false, false, false, false, false, false, false, true, true, true, true];
    assert_eq!(taken, expected);

    // Entries without a folder, and a folder within a list.
    let stray = [Lie::entry("f/x"), Lie::new(ENTRY, "f", Some(REGULAR), b"x"), Lie::entry("x")];
    assert_eq!(tell(&mut hub, &scene, &listener, &stray), [false; 3]);

    let after = describe(sandbox);
    for (path, state) in &after {
        use std::os::unix::fs::MetadataExt as _;
        let inside = path.starts_with("in/");
        assert!(inside || path == "in" || before.get(path) == Some(state), "{path}: {state}");
        let stat = fs::symlink_metadata(sandbox.join(path)).unwrap();
        let mode = stat.mode();
        assert!(stat.is_symlink() || mode & 0o7002 == 0, "{path}: {mode:o}");
        if let Ok(real) = fs::canonicalize(sandbox.join(path)) {
            assert!(real.starts_with(sandbox.canonicalize().unwrap()), "{path}");
        }
    }
    assert_eq!(before.get("in/victim"), after.get("in/victim"));
    assert!(!listener.stderr().contains(['\x1b', '\u{202e}', '\u{9b}']), "shown as it came");
    assert!(!std::path::Path::new("/victim").exists());
}

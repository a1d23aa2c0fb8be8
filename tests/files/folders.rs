//! A folder arrives as it was, at once and whole; cut off anywhere it goes on where it stopped; and
//! nothing that a peer or a local mischief-maker does puts a byte outside.
//!
//! `AC_TEST_FILES`: how many small files are sent (2000).

use crate::testkit::{
    common::{number, unix_ms},
    transfer,
    transfer::open_folder,
};

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::{Duration, Instant};

use anonchat::proto::stream::meta::{Meta, RESUMED};
use anonchat::transfer::beneath::Resolution;
use anonchat::transfer::declined::Declined;
use anonchat::transfer::delivery::Delivery;
use anonchat::transfer::inbox::Limits;
use anonchat::transfer::outbox::{Folder, Next, Outgoing, PIECE};
use anonchat::transfer::part::KEPT_MS;
use proptest::prelude::*;
use transfer::tree::{describe, plant};
use transfer::{BOTH, BeginPatiently as _, DAY, Dir, NOW, STAMP, alice, open};

const FOLDER: u32 = 0o040_755;
const REGULAR: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

/// Brings steps (META, piece or end) from a folder to a delivery until `steps` are used up.
struct Pump {
    steps: u64,
    /// Bytes that were brought.
    bytes: u64,
}

impl Pump {
    fn new(steps: u64) -> Self {
        Self { steps, bytes: 0 }
    }

    fn step(&mut self) -> Option<()> {
        self.steps = self.steps.checked_sub(1)?;
        Some(())
    }

    fn message(
        &mut self,
        from: &mut Outgoing,
        to: &mut Delivery,
        now: u64,
    ) -> Option<Option<String>> {
        self.step()?;
        if let Some(resume) = to.begin_patiently(&from.meta([0; 16], NOW), now).unwrap() {
            to.start_at(from.resume(&resume).unwrap()).unwrap();
        }
        let mut piece = vec![0; PIECE];
        loop {
            let count = from.read(&mut piece).unwrap();
            self.step()?;
            if count == 0 {
                return Some(to.end().unwrap());
            }
            to.data(&piece[..count]).unwrap();
            self.bytes += count as u64;
        }
    }

    /// The name under which the folder landed, if there were enough steps.
    fn folder(&mut self, from: &mut Folder, to: &mut Delivery, now: u64) -> Option<String> {
        self.step()?;
        let opening = from.opening().unwrap();
        if let Some(resume) = to.begin_patiently(&opening.meta([0; 16], NOW), now).unwrap() {
            self.step()?;
            to.start_at(from.resume(&resume).unwrap()).unwrap();
        }
        assert_eq!(to.end().unwrap(), None);
        loop {
            match from.advance().unwrap() {
                Next::Entry(mut entry) => {
                    if let Some(name) = self.message(&mut entry, to, now)? {
                        return Some(name);
                    }
                }
                Next::Skipped(name, why) => panic!("{name}: {why:?}"),
                Next::Done => panic!("complete, and nothing landed"),
            }
        }
    }
}

fn message(name: &str, mode: u32, size: Option<u64>) -> Meta {
    let meta = Meta::message([0; 16], NOW);
    Meta { kind: 2, name: Some(name.into()), mode: Some(mode), size, mtime: Some(0), ..meta }
}

/// Sends one entry of a folder that was begun.
fn entry(to: &mut Delivery, name: &str, mode: u32, content: &[u8]) -> Result<(), Declined> {
    let size = (mode != FOLDER).then_some(content.len() as u64);
    to.begin_patiently(&message(name, mode, size), NOW)?;
    to.data(content)?;
    to.end().map(|landed| assert_eq!(landed, None))
}

fn begin(to: &mut Delivery) {
    assert!(to.begin_patiently(&message("f", FOLDER, Some(0)), NOW).unwrap().is_some());
    to.start_at(0).unwrap();
    to.end().unwrap();
}

fn finish(to: &mut Delivery) -> String {
    to.begin_patiently(&message("f", FOLDER, None), NOW).unwrap();
    to.end().unwrap().unwrap()
}

#[test]
fn a_folder_arrives_with_its_modes_times_and_links() {
    for way in BOTH {
        let (from, to) = (Dir::new(), Dir::new());
        plant(&from.at("tree"));
        let mut delivery = alice(&to.inbox(way));
        let mut pump = Pump::new(u64::MAX);
        let name = pump.folder(&mut open_folder(&from.at("tree")), &mut delivery, NOW).unwrap();
        assert_eq!(name, format!("{STAMP}_alice_tree"));
        assert_eq!(to.names(), [name.as_str()]);
        assert_eq!(describe(&to.at(&name)), describe(&from.at("tree")));
    }
}

#[test]
fn cut_off_at_any_step_it_goes_on_and_brings_at_most_a_mebibyte_twice() {
    let from = Dir::in_memory();
    plant(&from.at("tree"));
    let mut whole = Pump::new(u64::MAX);
    let landed = whole.folder(
        &mut open_folder(&from.at("tree")),
        &mut alice(&Dir::in_memory().inbox(BOTH[0])),
        NOW,
    );
    assert!(landed.is_some());
    let steps = u64::MAX - whole.steps;
    for cut in 0..steps {
        let to = Dir::in_memory();
        let mut first = Pump::new(cut);
        let mut delivery = alice(&to.inbox(BOTH[0]));
        assert!(first.folder(&mut open_folder(&from.at("tree")), &mut delivery, NOW).is_none());
        drop(delivery);
        let complete = |name: &String| !name.ends_with(".part");
        assert!(!to.names().iter().any(complete), "nothing shows before all is there");

        // Another process, a day later.
        let inbox = open(to.path(), BOTH[1], Limits::default(), NOW + DAY);
        let mut second = Pump::new(u64::MAX);
        // What brought no entry leaves no part, and so no time.
        let begun = to.names().iter().any(|name| name.contains("_tree."));
        assert!(begun || cut < 6, "cut at {cut}");
        let later = NOW + if begun { DAY } else { 0 };
        let name =
            second.folder(&mut open_folder(&from.at("tree")), &mut alice(&inbox), later).unwrap();
        assert!(name.starts_with(STAMP), "the time of the first attempt, cut at {cut}: {name}");
        assert_eq!(to.names(), [name.as_str()], "cut at {cut}");
        assert_eq!(describe(&to.at(&name)), describe(&from.at("tree")), "cut at {cut}");
        let twice = first.bytes + second.bytes - whole.bytes;
        assert!(twice <= RESUMED, "{twice} bytes twice, cut at {cut}");
    }
}

#[test]
fn a_folder_that_changed_meanwhile_is_taken_anew() {
    let (from, to) = (Dir::new(), Dir::new());
    let root = from.at("tree");
    plant(&root);
    let inbox = to.inbox(BOTH[0]);
    assert!(Pump::new(60).folder(&mut open_folder(&root), &mut alice(&inbox), NOW).is_none());
    // As long as before, and the folder's own time too: only the entry itself tells.
    fs::write(root.join("a.txt"), "abc").unwrap();
    let mut pump = Pump::new(u64::MAX);
    let name = pump.folder(&mut open_folder(&root), &mut alice(&inbox), NOW).unwrap();
    assert_eq!(describe(&to.at(&name)), describe(&root));
}

#[test]
fn entries_that_would_leave_or_replace_are_declined_and_the_folder_goes_on() {
    for way in BOTH {
        let sandbox = Dir::new();
        fs::create_dir(sandbox.at("in")).unwrap();
        fs::write(sandbox.at("victim"), "precious").unwrap();
        let inbox = open(&sandbox.at("in"), way, Limits::default(), NOW);
        let mut to = alice(&inbox);
        begin(&mut to);
        for name in
            ["f/../victim", "f//victim", "f/a/../../../victim", "f/./x", "f/\0", "g/x", "/x", "f/"]
        {
            let declined = entry(&mut to, name, REGULAR, b"x").unwrap_err();
            assert!(matches!(declined, Declined::Name(_) | Declined::Kind), "{name:?}: {declined}");
        }
        for target in ["/etc/passwd", "..", "../../victim", "b/..", ""] {
            assert!(matches!(
                entry(&mut to, "f/l", LINK, target.as_bytes()),
                Err(Declined::Name(_))
            ));
        }
        entry(&mut to, "f/x", REGULAR, b"first").unwrap();
        for (mode, content) in [(REGULAR, &b"other"[..]), (LINK, b"y")] {
            assert!(matches!(entry(&mut to, "f/x", mode, content), Err(Declined::Exists)));
        }
        assert!(entry(&mut to, "f/x/y", REGULAR, b"").is_err(), "x is no folder");
        assert!(entry(&mut to, "f/dev", 0o020_644, b"").is_err());
        // Through a link of its own, to itself.
        entry(&mut to, "f/self", LINK, b".").unwrap();
        assert!(entry(&mut to, "f/self/z", REGULAR, b"").is_err());
        let name = finish(&mut to);
        let landed = sandbox.at("in").join(&name);
        assert_eq!(fs::read(landed.join("x")).unwrap(), b"first");
        assert_eq!(fs::read_dir(&landed).unwrap().count(), 2);
        assert_eq!(sandbox.names(), ["in", "victim"]);
        assert_eq!(fs::read(sandbox.at("victim")).unwrap(), b"precious");
    }
}

#[test]
fn a_link_planted_between_any_two_steps_leads_nowhere() {
    for way in BOTH {
        let sandbox = Dir::new();
        fs::create_dir_all(sandbox.at("outside")).unwrap();
        fs::create_dir(sandbox.at("in")).unwrap();
        let inbox = open(&sandbox.at("in"), way, Limits::default(), NOW);
        let mut to = alice(&inbox);
        begin(&mut to);
        entry(&mut to, "f/d/x", REGULAR, b"x").unwrap();
        let part = fs::read_dir(sandbox.at("in")).unwrap().next().unwrap().unwrap().path();
        to.begin_patiently(&message("f/d/y", REGULAR, Some(1)), NOW).unwrap();
        fs::remove_dir_all(part.join("d")).unwrap();
        symlink("../../outside", part.join("d")).unwrap();
        to.data(b"y").unwrap();
        assert!(to.end().is_err());
        for (name, mode) in
            [("f/d/z", REGULAR), ("f/d/l", LINK), ("f/d/e/z", REGULAR), ("f/d", FOLDER)]
        {
            let content: &[u8] = if mode == FOLDER { b"" } else { b"z" };
            assert!(entry(&mut to, name, mode, content).is_err(), "{name}");
        }
        drop(to);
        // A part that has a link in it which leads out is emptied, not followed.
        fs::write(sandbox.at("outside/precious"), "x").unwrap();
        let mut to = alice(&inbox);
        begin(&mut to);
        assert_eq!(fs::read_dir(&part).unwrap().count(), 0);
        drop(to);
        // The part itself is a link.
        let _ = fs::remove_dir(&part);
        symlink("../outside", &part).unwrap();
        assert!(alice(&inbox).begin_patiently(&message("f", FOLDER, Some(0)), NOW).is_err());
        let outside: Vec<_> = fs::read_dir(sandbox.at("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1);
    }
}

#[test]
fn no_special_bit_comes_of_a_folders_mode_and_its_owner_can_look_in() {
    let dir = Dir::new();
    let mut to = alice(&dir.inbox(BOTH[0]));
    begin(&mut to);
    entry(&mut to, "f/suid", 0o106_755, b"").unwrap();
    to.begin_patiently(&message("f/shut", 0o047_000, None), NOW).unwrap();
    to.end().unwrap();
    let landed = dir.at(&finish(&mut to));
    let mode = |name: &str| landed.join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("suid") & !0o755, mode("shut")), (0, 0o500));
}

#[test]
fn limits_hold_for_a_folder() {
    let dir = Dir::new();
    let limits = Limits { max_file: Some(10), max_total: Some(25) };
    let inbox = open(dir.path(), BOTH[0], limits, NOW);
    let mut to = alice(&inbox);
    let declined = to.begin_patiently(&message("f", FOLDER, Some(26)), NOW).unwrap_err();
    assert!(matches!(declined, Declined::TooLarge(25)));
    begin(&mut to);
    assert!(matches!(entry(&mut to, "f/a", REGULAR, &[0; 11]), Err(Declined::TooLarge(10))));
    entry(&mut to, "f/a", REGULAR, &[0; 10]).unwrap();
    entry(&mut to, "f/b", REGULAR, &[0; 10]).unwrap();
    assert!(matches!(entry(&mut to, "f/c", REGULAR, &[0; 6]), Err(Declined::TooLarge(5))));
    let full =
        alice(&inbox).begin_patiently(&message("g", FOLDER, Some(1 << 60)), NOW).unwrap_err();
    assert!(matches!(full, Declined::TooLarge(_)));
    let endless =
        alice(&dir.inbox(BOTH[0])).begin_patiently(&message("g", FOLDER, Some(1 << 60)), NOW);
    assert!(matches!(endless, Err(Declined::NoRoom)));
    assert_eq!(dir.names().len(), 1);
}

#[test]
fn an_abandoned_folder_is_swept_and_links_in_it_are_not_followed() {
    let (dir, outside) = (Dir::new(), Dir::new());
    fs::write(outside.at("precious"), "x").unwrap();
    let mut to = alice(&dir.inbox(BOTH[0]));
    begin(&mut to);
    entry(&mut to, "f/d/x", REGULAR, b"x").unwrap();
    symlink(outside.path(), dir.part().join("out")).unwrap();
    let later = unix_ms() + KEPT_MS + DAY;
    open(dir.path(), BOTH[0], Limits::default(), later);
    assert!(dir.part().exists(), "somebody has it");
    drop(to);
    open(dir.path(), BOTH[0], Limits::default(), later);
    assert!(dir.names().is_empty());
    assert_eq!(outside.names(), ["precious"]);
}

#[test]
fn many_small_files_take_no_time_each() {
    let count = number("AC_TEST_FILES", 2_000);
    let (from, to) = (Dir::in_memory(), Dir::in_memory());
    for n in 0..count {
        let folder = from.at("tree").join((n / 100).to_string());
        if n % 100 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(n.to_string()), n.to_string()).unwrap();
    }
    let start = Instant::now();
    let mut pump = Pump::new(u64::MAX);
    let name = pump.folder(
        &mut open_folder(&from.at("tree")),
        &mut alice(&to.inbox(Resolution::Kernel)),
        NOW,
    );
    let took = start.elapsed();
    assert!(took < Duration::from_millis(count * 2 + 5000), "{took:?} for {count} files");
    assert_eq!(describe(&to.at(&name.unwrap())), describe(&from.at("tree")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sent_nothing_is_made_outside(
        names in prop::collection::vec("(f/)?([./a-c\\\\\0\u{1b}]|\\.\\./){0,12}", 1..12),
        modes in prop::collection::vec(prop::sample::select(vec![FOLDER, REGULAR, LINK]), 12),
        targets in prop::collection::vec("([/a-c]|\\.\\./){0,6}", 12),
    ) {
        for way in BOTH {
            let sandbox = Dir::in_memory();
            fs::create_dir(sandbox.at("in")).unwrap();
            let inbox = open(&sandbox.at("in"), way, Limits::default(), NOW);
            let mut to = alice(&inbox);
            begin(&mut to);
            for ((name, mode), target) in names.iter().zip(&modes).zip(&targets) {
                let content = if *mode == FOLDER { "" } else { target.as_str() };
                let _ = entry(&mut to, name, *mode, content.as_bytes());
            }
            let landed = fs::canonicalize(sandbox.at("in").join(finish(&mut to))).unwrap();
            prop_assert_eq!(sandbox.names(), ["in"]);
            prop_assert_eq!(fs::read_dir(sandbox.at("in")).unwrap().count(), 1);
            // No link in it leads out, by any chain.
            let mut left = vec![landed.clone()];
            while let Some(path) = left.pop() {
                if let Ok(real) = fs::canonicalize(&path) {
                    prop_assert!(real.starts_with(&landed), "{:?} is {:?}", path, real);
                }
                if path.symlink_metadata().unwrap().is_dir() {
                    left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                }
            }
        }
    }
}

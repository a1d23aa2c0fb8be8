//! A file that a relay holds comes again until the relay was told that it is delivered. Whatever
//! kills the listener, and whenever, it lands in its directory exactly once, and whole.
//! `AC_TEST_KILLS` is how often one is killed (200).

use crate::testkit::{
    common,
    random::{Dice, bytes, noise},
    transfer,
};

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anonchat::proto::stream::meta::{MessageKind, Meta, RESUMED};
use anonchat::transfer::declined::Declined;
use anonchat::transfer::delivery::Delivery;
use anonchat::transfer::inbox::{Inbox, Limits, Sender};
use anonchat::transfer::part::KEPT_MS;
use anonchat::transfer::received::{RECEIVED, REMEMBERED_MS};
use common::{again, number};
use transfer::{BOTH, BeginPatiently as _, Dir, NOW, STAMP, alice, file, open};

/// An item of alice's.
fn item(id: u32, len: usize) -> Meta {
    let mut meta = file(&format!("item{id}"), len);
    meta.id[..4].copy_from_slice(&id.to_be_bytes());
    meta
}

/// How long the item is.
fn len(id: u32) -> usize {
    [0, 1, 900, 5000, 63_000][id as usize % 5]
}

/// What brings an item; the name under which it landed, if it did just now.
fn bring(delivery: &mut Delivery, id: u32, now: u64) -> Result<Option<String>, Declined> {
    delivery.begin_once(&item(id, len(id)), now)?;
    for piece in noise(id.into(), len(id)).chunks(1000) {
        delivery.data(piece)?;
    }
    delivery.end()
}

fn landed(dir: &Dir) -> Vec<String> {
    let mut names = dir.names();
    names.retain(|name| name != RECEIVED);
    names
}

#[test]
fn an_item_that_comes_again_has_landed_whoever_is_told() {
    for way in BOTH {
        let dir = Dir::new();
        let inbox = dir.inbox(way);
        for id in 0..10 {
            let name = bring(&mut alice(&inbox), id, NOW).unwrap().unwrap();
            assert_eq!(name, format!("{STAMP}_alice_item{id}"));
            assert_eq!(fs::read(dir.at(&name)).unwrap(), noise(id.into(), len(id)));
        }
        let names = dir.names();
        // The same session, another, and a listener that is started anew.
        for inbox in [inbox, dir.inbox(way)] {
            let mut delivery = alice(&inbox);
            for id in (0..10).chain(0..10) {
                assert_eq!(bring(&mut delivery, id, NOW + 5000).unwrap(), None);
            }
        }
        assert_eq!(dir.names(), names);
        // Nor does it come again when its user has moved it away.
        fs::remove_file(dir.at(&names[1])).unwrap();
        assert_eq!(bring(&mut alice(&dir.inbox(way)), 0, NOW).unwrap(), None);
        assert_eq!(dir.names().len(), names.len() - 1);
    }
}

#[test]
fn an_id_is_its_senders_own() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    bring(&mut alice(&inbox), 1, NOW).unwrap().unwrap();
    let mut mallory = inbox.delivery(Sender { key: [2; 32], name: "mallory".into() });
    assert!(bring(&mut mallory, 1, NOW).unwrap().is_some(), "it is another item");
    assert_eq!(bring(&mut mallory, 1, NOW).unwrap(), None);
    // A session's files are what they were.
    let same = |delivery: &mut Delivery| {
        delivery.begin_patiently(&item(1, 0), NOW).unwrap();
        delivery.end().unwrap().unwrap()
    };
    assert_ne!(same(&mut alice(&inbox)), same(&mut alice(&inbox)));
}

#[test]
fn an_item_whose_part_is_not_whole_is_begun_anew() {
    let dir = Dir::new();
    for kept in [0, 1, 4999, 5000] {
        let inbox = dir.inbox(BOTH[0]);
        let mut delivery = alice(&inbox);
        delivery.begin_once(&item(3, 5000), NOW).unwrap();
        delivery.data(&noise(9, 5000)[..kept]).unwrap();
        std::mem::forget(delivery);
        // A kill closes its descriptors, and leaves what forgetting leaves.
        unlock_everything_of(&dir);
    }
    let name = bring(&mut alice(&dir.inbox(BOTH[0])), 3, NOW).unwrap().unwrap();
    assert_eq!(landed(&dir), [name.as_str()]);
    assert_eq!(fs::read(dir.at(&name)).unwrap(), noise(3, 5000));
}

/// Puts copies in the place of parts that something forgotten has locked.
fn unlock_everything_of(dir: &Dir) {
    for name in dir.names().iter().filter(|name| name.ends_with(".part")) {
        let bytes = fs::read(dir.at(name)).unwrap();
        fs::remove_file(dir.at(name)).unwrap();
        fs::write(dir.at(name), bytes).unwrap();
    }
}

/// Brings item `id` and takes its name from it again, as if a kill had come between remembering and
/// renaming.
fn stop_before_the_name(dir: &Dir, inbox: &Inbox, id: u32) -> String {
    let mut delivery = alice(inbox);
    delivery.begin_once(&item(id, len(id)), NOW).unwrap();
    delivery.data(&noise(id.into(), len(id))).unwrap();
    let part = dir.part();
    let name = delivery.end().unwrap().unwrap();
    fs::rename(dir.at(&name), part).unwrap();
    name
}

#[test]
fn an_item_that_was_remembered_gets_its_name_when_a_listener_begins() {
    for id in 0..5 {
        let dir = Dir::new();
        let name = stop_before_the_name(&dir, &dir.inbox(BOTH[0]), id);
        // However late: it is no abandoned part.
        let inbox = open(dir.path(), BOTH[0], Limits::default(), NOW + KEPT_MS + 60_000);
        assert_eq!(landed(&dir), [name.as_str()]);
        assert_eq!(fs::read(dir.at(&name)).unwrap(), noise(id.into(), len(id)));
        assert_eq!(bring(&mut alice(&inbox), id, NOW).unwrap(), None);
        assert_eq!(landed(&dir), [name.as_str()]);
    }
}

#[test]
fn an_item_that_was_remembered_gets_its_name_when_it_comes_again() {
    for id in 0..5 {
        let dir = Dir::new();
        let (first, second) = (dir.inbox(BOTH[0]), dir.inbox(BOTH[1]));
        let name = stop_before_the_name(&dir, &first, id);
        assert_eq!(bring(&mut alice(&second), id, NOW + 9000).unwrap(), Some(name.clone()));
        assert_eq!(bring(&mut alice(&first), id, NOW + 9000).unwrap(), None);
        assert_eq!(landed(&dir), [name.as_str()]);
        assert_eq!(fs::read(dir.at(&name)).unwrap(), noise(id.into(), len(id)));
    }
}

#[test]
fn what_another_program_had_begun_of_a_landed_item_goes_and_never_lands() {
    let dir = Dir::new();
    let (first, second) = (dir.inbox(BOTH[0]), dir.inbox(BOTH[0]));
    // The two began it at different times, so that each has a part of its own.
    let mut slow = alice(&second);
    slow.begin_once(&item(3, 5000), NOW + 2000).unwrap();
    slow.data(&noise(3, 5000)[..4000]).unwrap();
    let name = bring(&mut alice(&first), 3, NOW).unwrap().unwrap();
    assert_eq!(landed(&dir).len(), 2);
    // It is written to: whoever else begins or brings it leaves it alone.
    dir.inbox(BOTH[0]);
    assert_eq!(bring(&mut alice(&first), 3, NOW).unwrap(), None);
    assert_eq!(landed(&dir).len(), 2);
    slow.data(&noise(3, 5000)[4000..]).unwrap();
    assert_eq!(slow.end().unwrap(), None, "it has landed");
    assert_eq!(landed(&dir), [name.as_str()]);
    // Killed before that, it would have left its part.
    fs::write(dir.at(&format!("{name}2.{:032x}.part", 7)), b"of nobody").unwrap();
    let mut killed = alice(&second);
    assert_eq!(bring(&mut killed, 3, NOW).unwrap(), None);
    assert_eq!(landed(&dir).len(), 2, "the part of another item is none of ours");
}

#[test]
fn a_stray_part_of_a_landed_item_is_removed() {
    let dir = Dir::new();
    let (first, second) = (dir.inbox(BOTH[0]), dir.inbox(BOTH[0]));
    let mut slow = alice(&second);
    slow.begin_once(&item(3, 5000), NOW + 2000).unwrap();
    slow.data(&noise(3, 5000)).unwrap();
    let name = bring(&mut alice(&first), 3, NOW).unwrap().unwrap();
    std::mem::forget(slow);
    unlock_everything_of(&dir);
    dir.inbox(BOTH[0]);
    assert_eq!(landed(&dir), [name.as_str()]);
}

#[test]
fn of_two_programs_that_bring_the_same_items_one_lands_each() {
    let dir = Dir::in_memory();
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let inbox = dir.inbox(BOTH[seed % 2]);
            std::thread::spawn(move || {
                let mut delivery = alice(&inbox);
                let mut landed = 0;
                for n in 0..100_u32 {
                    let id = (n * 37 + seed as u32 * 11) % 100;
                    // Names differ in the second at which each begins.
                    loop {
                        match bring(&mut delivery, id, NOW + seed as u64 * 1000) {
                            Err(Declined::Busy) => std::thread::yield_now(),
                            result => break landed += usize::from(result.unwrap().is_some()),
                        }
                    }
                }
                landed
            })
        })
        .collect();
    let all: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(all, 100);
    assert_each_landed_once(&dir, 100);
}

fn assert_each_landed_once(dir: &Dir, count: u32) {
    let mut found = BTreeMap::new();
    for name in landed(dir) {
        let (_, id) = name.rsplit_once("item").unwrap();
        let id: u32 = id.parse().unwrap_or_else(|_| panic!("{name} is left"));
        assert_eq!(fs::read(dir.at(&name)).unwrap(), noise(id.into(), len(id)), "{name}");
        *found.entry(id).or_insert(0) += 1;
    }
    assert_eq!(found, (0..count).map(|id| (id, 1)).collect());
}

#[test]
fn a_record_with_torn_entries_holds_all_others() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    bring(&mut alice(&inbox), 0, NOW).unwrap();
    bring(&mut alice(&inbox), 1, NOW).unwrap();
    let record = dir.at(RECEIVED);
    let whole = fs::read(&record).unwrap();
    fs::write(&record, &whole[..whole.len() - 13]).unwrap();
    let inbox = dir.inbox(BOTH[0]);
    bring(&mut alice(&inbox), 2, NOW).unwrap().unwrap();
    fs::OpenOptions::new().append(true).open(&record).unwrap().write_all(&[0; 77]).unwrap();
    bring(&mut alice(&inbox), 3, NOW).unwrap().unwrap();
    let inbox = dir.inbox(BOTH[0]);
    for (id, remembered) in [(0, true), (1, false), (2, true), (3, true)] {
        let again = bring(&mut alice(&inbox), id, NOW).unwrap();
        assert_eq!(again.is_none(), remembered, "item {id}");
    }
}

#[test]
fn what_no_relay_holds_any_more_is_forgotten() {
    let dir = Dir::new();
    let first = dir.inbox(BOTH[0]);
    for id in 0..4 {
        bring(&mut alice(&first), id, NOW + u64::from(id)).unwrap().unwrap();
    }
    let long = fs::metadata(dir.at(RECEIVED)).unwrap().len();
    let later = NOW + REMEMBERED_MS + 2;
    let second = open(dir.path(), BOTH[0], Limits::default(), later);
    assert_eq!(fs::metadata(dir.at(RECEIVED)).unwrap().len(), long - 2 * 40);
    // Whoever read the old file sees that there is another.
    for (id, remembered) in [(2, true), (3, true), (0, false), (1, false)] {
        for inbox in [&first, &second] {
            let again = bring(&mut alice(inbox), id, later).unwrap();
            assert_eq!(again.is_none(), remembered || std::ptr::eq(inbox, &second), "item {id}");
        }
    }
}

#[test]
fn what_stands_in_the_place_of_the_record_is_not_written_to_and_nothing_lands_unremembered() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let record = dir.at(RECEIVED);
    let elsewhere = Dir::new();
    let target = elsewhere.at("precious");
    fs::write(&target, b"precious").unwrap();
    let make: [&dyn Fn(); 3] = [
        &|| fs::write(&record, b"dear diary").unwrap(),
        &|| symlink(&target, &record).unwrap(),
        &|| fs::create_dir(&record).unwrap(),
    ];
    for (n, make) in make.iter().enumerate() {
        make();
        assert!(bring(&mut alice(&inbox), 1, NOW).is_err());
        // Files of sessions are not concerned.
        let inbox = dir.inbox(BOTH[0]);
        let mut delivery = alice(&inbox);
        delivery.begin_patiently(&file(&format!("f{n}"), 3), NOW).unwrap();
        delivery.data(&bytes(3)).unwrap();
        assert!(delivery.end().unwrap().is_some());
        if record.is_dir() && !record.is_symlink() {
            fs::remove_dir(&record).unwrap();
        } else {
            fs::remove_file(&record).unwrap();
        }
    }
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert!(landed(&dir).iter().all(|name| !name.contains("item")), "{:?}", dir.names());
    assert!(bring(&mut alice(&inbox), 1, NOW).unwrap().is_some());
}

#[test]
fn only_files_that_come_whole_are_items() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let mut delivery = alice(&inbox);
    let folder = Meta { kind: MessageKind::DirectoryEntry as u8, ..item(1, 0) };
    assert!(matches!(delivery.begin_once(&folder, NOW), Err(Declined::Kind)));
    let long = item(1, RESUMED as usize + 1);
    assert!(matches!(delivery.begin_once(&long, NOW), Err(Declined::Length)));
    let short = item(1, 5);
    delivery.begin_once(&short, NOW).unwrap();
    delivery.data(b"four").unwrap();
    assert!(matches!(delivery.end(), Err(Declined::Length)));
    assert!(!dir.at(RECEIVED).exists(), "nothing landed");
}

/// Items of one round of kills.
const ITEMS: u32 = 40;

/// What is killed: it brings items to `directory` and says of each that it is delivered.
fn deliver_until_killed(directory: &Path, first: u32) {
    let inbox = open(directory, BOTH[0], Limits::default(), NOW);
    let mut delivery = alice(&inbox);
    let mut out = std::io::stdout();
    for n in 0..ITEMS {
        let id = (first + n) % ITEMS;
        bring(&mut delivery, id, NOW + u64::from(first) * 1000).unwrap();
        writeln!(out, "delivered {id}").unwrap();
        out.flush().unwrap();
    }
}

/// Runs this test again in another process, and kills that.
#[test]
fn killed_at_any_instant_each_item_lands_exactly_once() {
    if let Some(path) = std::env::var_os("AC_TEST_ITEMS_IN") {
        let first = std::env::var("AC_TEST_FIRST_ITEM").unwrap().parse().unwrap();
        return deliver_until_killed(path.as_ref(), first);
    }
    let kills = number("AC_TEST_KILLS", 200);
    let mut dice = Dice::new(kills);
    let mut draw = |below: u32| dice.below(below);
    let (mut dir, mut told, mut killed) = (Dir::in_memory(), 0, 0);
    while killed < kills {
        let (mut child, said) = Deliverer::start(dir.path(), draw(ITEMS));
        // Some time after one of its first items, or before any.
        let items = draw(4);
        let delivered = (0..items).map_while(|_| said.recv_timeout(Duration::from_secs(30)).ok());
        told += delivered.count();
        std::thread::park_timeout(Duration::from_micros(draw(1500).into()));
        child.kill();
        killed += 1;
        if killed % 10 == 0 || killed == kills {
            // All come again, and this time their relay hears of it.
            deliver_until_all_landed(&dir);
            assert_each_landed_once(&dir, ITEMS);
            dir = Dir::in_memory();
        }
    }
    assert!(told > 0, "kills came between deliveries");
}

fn deliver_until_all_landed(dir: &Dir) {
    let inbox = dir.inbox(BOTH[0]);
    let mut delivery = alice(&inbox);
    for id in 0..ITEMS {
        bring(&mut delivery, id, NOW).unwrap();
    }
}

/// Another process that brings items.
struct Deliverer(Child);

impl Deliverer {
    fn start(directory: &Path, first: u32) -> (Self, Receiver<String>) {
        let mut command =
            again(module_path!(), "killed_at_any_instant_each_item_lands_exactly_once");
        command.env("AC_TEST_ITEMS_IN", directory).env("AC_TEST_FIRST_ITEM", first.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = lines(child.stdout.take().unwrap());
        (Self(child), said)
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Drop for Deliverer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What is delivered, as it is said.
fn lines(out: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if line.contains("delivered ") && sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

//! A transfer that is killed at either end, at any moment, goes on where it stopped when the same
//! command is typed again; and a source that has changed is sent anew.
//!
//! `AC_TEST_FILE_BYTES`: how long the file is, or all that is in the folder (33554432);
//! `AC_TEST_FILES`: how many small files lie beside it in the folder (200).

use crate::testkit::{common, measure::peak_resident_kib, random::bytes, scene, transfer};

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anonchat::transfer::names::PART_SUFFIX;
use common::{DEADLINE, Listener, Running, assert_code, eventually, number};
use scene::{Scene, bytes_below, events};
use transfer::tree::describe;

/// What may be sent a second time, in bytes.
const TWICE: u64 = 1024 * 1024;
/// Resident memory that either program may ever have had.
const MAX_RESIDENT_KIB: u64 = 24 * 1024;
const KILLS: u64 = 10;

/// `len` bytes that repeat nowhere near.
fn plant_long(path: &Path, len: u64) {
    let block = bytes(1 << 20);
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut left = len;
    while left > 0 {
        let take = left.min(block.len() as u64) as usize;
        file.write_all(&left.to_le_bytes()[..take.min(8)]).unwrap();
        file.write_all(&block[take.min(8)..take]).unwrap();
        left -= take as u64;
    }
    file.into_inner().unwrap().sync_all().unwrap();
}

fn start(scene: &Scene, listener: &Listener, name: &str) -> Running {
    let args = ["--json", &listener.destination("bob"), "--", name];
    let mut command = scene.alice.command("ac-send", &args);
    command.current_dir(scene.alice.path());
    Running::start(command)
}

/// When to kill whom: a part of `total` that is there, and who.
fn plan(nth: u64, total: u64) -> (u64, bool) {
    // Somewhere in the nth part, elsewhere in each run.
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let part = total / (KILLS + 1);
    let jitter = u64::from(now.subsec_nanos()) % part.max(1);
    (nth * part + jitter / 2, nth.is_multiple_of(2))
}

/// How many sockets it has open.
fn sockets(running: &Running) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// Whether it is there under its own name: what is not whole has one that ends so.
fn has_landed(scene: &Scene) -> bool {
    scene.landed().iter().any(|name| !name.ends_with(PART_SUFFIX))
}

/// Sends `name`, and kills one end or the other ten times on the way.
fn killed_ten_times_it_arrives(scene: &Scene, name: &str) {
    let total = bytes_below(&scene.at(name));
    let patience = DEADLINE + Duration::from_secs(total / 20_000_000);
    let mut listener = scene.listen(&["--max-file", "0"]);
    let (mut there, mut kills) = (0, 0);
    for nth in 0..KILLS {
        let idle = sockets(&listener);
        let mut sender = start(scene, &listener, name);
        let (enough, kill_sender) = plan(nth, total);
        let before = bytes_below(&scene.inbox());
        let over = eventually("so many bytes are there", patience, || {
            let over = sender.poll_exit();
            let came = bytes_below(&scene.inbox());
            (over.is_some() || (came >= enough && came > before)).then_some(over)
        });
        if over.is_some() {
            break; // It was faster than we.
        }
        for running in [&sender, &*listener] {
            let resident = peak_resident_kib(running).unwrap_or(0);
            assert!(resident < MAX_RESIDENT_KIB, "{resident} KiB");
        }
        kills += 1;
        if kill_sender {
            sender.kill();
            // What has come whole by then is not cut off, and nothing told.
            eventually("the end is noticed", DEADLINE, || {
                (sockets(&listener) == idle).then_some(())
            });
            // What was on its way by then may have been all the rest.
            if has_landed(scene) {
                break;
            }
        } else {
            listener.kill();
            // The sender notices at once.
            assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6), "{}", sender.stderr());
        }
        // A listener that lives still writes what has come: less than is there in the end.
        there = bytes_below(&scene.inbox());
        listener.kill();
        listener = scene.listen(&["--max-file", "0"]);
    }
    assert!(kills > KILLS / 2, "only {kills} kills: make it longer, AC_TEST_FILE_BYTES");
    if !has_landed(scene) {
        let mut sender = start(scene, &listener, name);
        let exit = sender.wait_exit(patience);
        assert!(exit.success(), "{}", sender.stderr());
        let delivered = events(&sender.stdout(), "file").pop().unwrap();
        let resumed = delivered["resumed"].as_u64().unwrap();
        assert!(resumed + TWICE >= there, "{there} bytes were there, and {resumed} were used");
    }
    assert_eq!(scene.landed().len(), 1, "{:?}", scene.landed());
    assert_eq!(describe(&scene.arrived(name)), describe(&scene.at(name)));
}

#[test]
fn a_file_killed_ten_times_goes_on_where_it_stopped() {
    let scene = Scene::new();
    plant_long(&scene.at("long"), number("AC_TEST_FILE_BYTES", 64 << 20));
    killed_ten_times_it_arrives(&scene, "long");
}

#[test]
fn a_folder_killed_ten_times_goes_on_where_it_stopped() {
    let scene = Scene::new();
    let total = number("AC_TEST_FILE_BYTES", 64 << 20);
    for n in 0..number("AC_TEST_FILES", 200) {
        scene.write(&format!("tree/{}/{n}", n % 10), n.to_string());
    }
    for n in 0..5 {
        plant_long(&scene.at(&format!("tree/{n}/long")), total / 8);
    }
    plant_long(&scene.at("tree/7/longer"), total * 3 / 8);
    killed_ten_times_it_arrives(&scene, "tree");
}

/// Begins to send `name`, and kills the sender once there is some of it.
fn begun(scene: &Scene, listener: &Listener, name: &str, enough: u64) {
    let mut sender = start(scene, listener, name);
    eventually("a part", DEADLINE, || (bytes_below(&scene.inbox()) > enough).then_some(()));
    sender.kill();
    listener.wait_stderr("cut off");
}

#[test]
fn a_source_that_changed_is_sent_anew() {
    let scene = Scene::new();
    plant_long(&scene.at("long"), 32 << 20);
    let modified = fs::metadata(scene.at("long")).unwrap().modified().unwrap();
    let listener = scene.listen(&["--max-file", "0"]);
    begun(&scene, &listener, "long", 2 << 20);
    // As long and as old as before: only its bytes tell.
    let mut content = fs::read(scene.at("long")).unwrap();
    content[100] ^= 1;
    fs::write(scene.at("long"), &content).unwrap();
    File::open(scene.at("long")).unwrap().set_modified(modified).unwrap();
    let sent = scene.send(&listener, &["--json"], &["long"]);
    assert_code(&sent, 0);
    assert_eq!(events(&sent.stdout, "file")[0]["resumed"], 0);
    assert!(fs::read(scene.arrived("long")).unwrap() == content);
    assert_eq!(scene.landed().len(), 1);
}

#[test]
fn what_is_gone_on_with_keeps_the_time_of_its_first_attempt() {
    let scene = Scene::new();
    plant_long(&scene.at("long"), 32 << 20);
    let listener = scene.listen(&["--max-file", "0"]);
    begun(&scene, &listener, "long", 2 << 20);
    let part = scene.landed().remove(0);
    let (name, _) = part.split_once("_long").unwrap();
    let first = name.to_owned() + "_long";
    // The next second has another name.
    let stamp = &first[..15];
    eventually("another second", DEADLINE, || {
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
        (now.strftime("%Y%m%d_%H%M%S").to_string() != stamp).then_some(())
    });
    let sent = scene.send(&listener, &["-v"], &["long"]);
    assert_code(&sent, 0);
    let said = String::from_utf8(sent.stderr).unwrap();
    assert!(said.contains("of it were there"), "{said}");
    assert_eq!(scene.landed(), [first]);
}

//! A file lands whole, under its own name, in its directory and over nothing else; or it is a part
//! that the next attempt goes on with.

use crate::testkit::{common, random::bytes, transfer};

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use anonchat::crypto::prefix_hash::PrefixHash;
use anonchat::proto::stream::meta::RESUMED;
use anonchat::proto::stream::record::RefuseCode;
use anonchat::transfer::declined::Declined;
use anonchat::transfer::delivery::Delivery;
use anonchat::transfer::inbox::{Inbox, Limits, Sender};
use anonchat::transfer::incoming::Resume;
use anonchat::transfer::part::{KEPT_MS, take};
use common::{again, assert_passed, unix_ms};
use transfer::{BOTH, BeginPatiently as _, DAY, Dir, NOW, STAMP, alice, file, open};

fn send(inbox: &Inbox, name: &str, content: &[u8]) -> Result<String, Declined> {
    let mut delivery = alice(inbox);
    delivery.begin_patiently(&file(name, content.len()), NOW)?;
    for piece in content.chunks(1000) {
        delivery.data(piece)?;
    }
    delivery.end().map(Option::unwrap)
}

/// The length of a file that is gone on with.
const LONG: usize = RESUMED as usize + 5000;

fn begin_long(delivery: &mut Delivery, name: &str) {
    assert_eq!(delivery.begin_patiently(&file(name, LONG), NOW).unwrap(), Some(Resume::nothing()));
    delivery.start_at(0).unwrap();
}

fn hash(content: &[u8]) -> [u8; 32] {
    PrefixHash::of(&mut &*content, content.len() as u64).unwrap()
}

#[test]
fn a_file_lands_with_its_bytes_mode_and_time() {
    for way in BOTH {
        let dir = Dir::new();
        let inbox = dir.inbox(way);
        assert_eq!(inbox.resolution(), way);
        let content = bytes(5000);
        let name = send(&inbox, "photo.jpg", &content).unwrap();
        assert_eq!(name, format!("{STAMP}_alice_photo.jpg"));
        assert_eq!(dir.names(), [name.as_str()]);
        let path = dir.at(&name);
        assert_eq!(fs::read(&path).unwrap(), content);
        let stat = path.metadata().unwrap();
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_700_000_000, 123_000_000));
        assert_eq!(stat.mode() & 0o7707, 0o600);
    }
}

#[test]
fn no_file_lands_over_another() {
    for way in BOTH {
        let dir = Dir::new();
        let inbox = dir.inbox(way);
        let content: Vec<_> = (0..4).map(|n| bytes(100 + n)).collect();
        let names: Vec<_> = content.iter().map(|c| send(&inbox, "a.txt", c).unwrap()).collect();
        for (n, name) in names.iter().enumerate() {
            let number = if n == 0 { String::new() } else { format!("-{}", n + 1) };
            assert_eq!(*name, format!("{STAMP}_alice_a{number}.txt"));
            assert_eq!(fs::read(dir.at(name)).unwrap(), content[n]);
        }
    }
}

#[test]
fn hostile_names_land_inside() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let long = "x".repeat(300);
    for name in ["../../x", "/etc/x", "", "..", "a\0b", "\x1b[2J", "x.part", &long] {
        send(&inbox, name, name.as_bytes()).unwrap();
    }
    let names = dir.names();
    assert_eq!(names.len(), 8);
    assert!(names.iter().all(|n| n.starts_with(STAMP) && !n.ends_with(".part")), "{names:?}");
}

#[test]
fn dropped_at_any_step_a_file_is_gone_on_with_and_keeps_its_first_time() {
    let content = bytes(LONG);
    for way in BOTH {
        for cut in [1, 1000, 500_000, LONG - 1, LONG] {
            let dir = Dir::new();
            let mut delivery = alice(&dir.inbox(way));
            let fresh = delivery.begin_patiently(&file("a", LONG), NOW).unwrap();
            assert_eq!(fresh, Some(Resume::nothing()));
            assert!(matches!(delivery.data(b"x"), Err(Declined::Order)));
            delivery.start_at(0).unwrap();
            delivery.data(&content[..cut]).unwrap();
            drop(delivery);
            assert_eq!(fs::read(dir.part()).unwrap(), &content[..cut]);

            // Another process, a day later.
            let mut delivery = alice(&open(dir.path(), way, Limits::default(), NOW + DAY));
            let resume = delivery.begin_patiently(&file("a", LONG), NOW + DAY).unwrap().unwrap();
            assert_eq!((resume.offset, resume.hash), (cut as u64, hash(&content[..cut])));
            assert!(matches!(delivery.data(b"x"), Err(Declined::Order)));
            assert!(matches!(delivery.start_at(cut as u64 + 1), Err(Declined::Order)));
            delivery.start_at(resume.offset).unwrap();
            delivery.data(&content[cut..]).unwrap();
            assert_eq!(delivery.end().unwrap(), Some(format!("{STAMP}_alice_a")));
            assert_eq!(fs::read(dir.at(&dir.names()[0])).unwrap(), content);
            assert_eq!(dir.names().len(), 1);
        }
    }
}

#[test]
fn a_changed_source_is_taken_from_its_beginning() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let mut delivery = alice(&inbox);
    begin_long(&mut delivery, "a");
    delivery.data(&[7; 90]).unwrap();
    delivery.abort();
    assert_eq!(delivery.begin_patiently(&file("a", LONG), NOW).unwrap().unwrap().offset, 90);
    delivery.start_at(0).unwrap();
    delivery.data(&[8; LONG]).unwrap();
    assert_eq!(fs::read(dir.at(&delivery.end().unwrap().unwrap())).unwrap(), [8; LONG]);
}

#[test]
fn a_short_file_is_begun_anew_and_its_sender_is_not_kept_waiting() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let mut delivery = alice(&inbox);
    for content in [&[7; 90][..], &[8; 100]] {
        assert_eq!(delivery.begin_patiently(&file("a", 100), NOW).unwrap(), None);
        delivery.data(content).unwrap();
        if content.len() == 90 {
            delivery.abort();
        }
    }
    assert_eq!(fs::read(dir.at(&delivery.end().unwrap().unwrap())).unwrap(), [8; 100]);
}

#[test]
fn many_files_land_together_and_one_that_is_declined_concerns_no_other() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let mut delivery = alice(&inbox);
    for n in 0..9_usize {
        delivery.begin_patiently(&file("a", n), NOW).unwrap();
        delivery.data(&bytes(n)).unwrap();
        delivery.set_whole().unwrap();
        delivery.begin_patiently(&file("short", 2), NOW).unwrap();
        assert!(matches!(delivery.set_whole(), Err(Declined::Length)));
    }
    assert!(dir.names().iter().all(|name| name.ends_with(".part")));
    let landed: Vec<_> = delivery.land().into_iter().map(|l| l.unwrap().unwrap()).collect();
    assert_eq!(landed.len(), 9);
    for (n, name) in landed.iter().enumerate() {
        assert_eq!(fs::read(dir.at(name)).unwrap(), bytes(n));
    }
    assert!(delivery.land().is_empty());
}

/// Another session of the same sender lands or removes a part just before this one has it.
#[test]
fn what_landed_meanwhile_is_not_written_to() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let mut delivery = alice(&inbox);
    begin_long(&mut delivery, "a");
    delivery.data(&[7; 90]).unwrap();
    drop(delivery);
    let part = File::open(dir.part()).unwrap();
    let name = dir.names().remove(0);
    let directory = File::open(dir.path()).unwrap();
    take(&part, Some((&directory, &name))).unwrap();
    drop(part);
    let part = File::open(dir.part()).unwrap();
    fs::rename(dir.part(), dir.at("landed")).unwrap();
    assert!(matches!(take(&part, Some((&directory, &name))), Err(Declined::Busy)));
    fs::write(dir.at(&name), "another").unwrap();
    assert!(matches!(take(&part, Some((&directory, &name))), Err(Declined::Busy)));
}

#[test]
fn what_is_another_file_is_not_gone_on_with() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let mut delivery = alice(&inbox);
    begin_long(&mut delivery, "a");
    delivery.data(&[7; 90]).unwrap();
    drop(delivery);
    let fresh = Some(Resume::nothing());
    let mut newer = file("a", LONG);
    newer.mtime = newer.mtime.map(|t| t + 1);
    for meta in [file("b", LONG), file("a", LONG + 1), newer] {
        assert_eq!(alice(&inbox).begin_patiently(&meta, NOW).unwrap(), fresh);
    }
    let mut bob = inbox.delivery(Sender { key: [2; 32], name: "alice".into() });
    assert_eq!(bob.begin_patiently(&file("a", LONG), NOW).unwrap(), fresh);
    drop(bob);
    assert_eq!(dir.names().len(), 1, "nothing is left of what brought no byte");
    assert_ne!(alice(&inbox).begin_patiently(&file("a", LONG), NOW).unwrap(), fresh);
}

#[test]
fn two_sessions_do_not_write_one_part() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let mut first = alice(&inbox);
    first.begin_patiently(&file("a", 100), NOW).unwrap();
    first.data(&[1; 50]).unwrap();
    for inbox in [&inbox, &dir.inbox(BOTH[1])] {
        assert!(matches!(alice(inbox).begin(&file("a", 100), NOW), Err(Declined::Busy)));
    }
    first.data(&[1; 50]).unwrap();
    first.end().unwrap();
}

#[test]
fn a_link_or_device_planted_for_a_part_is_never_written_through() {
    for way in BOTH {
        let (dir, outside) = (Dir::new(), Dir::new());
        let victim = outside.at("victim");
        let mut delivery = alice(&dir.inbox(way));
        delivery.begin_patiently(&file("a", 100), NOW).unwrap();
        delivery.data(&[1; 50]).unwrap();
        drop(delivery);
        let part = dir.part();

        let plants: [&dyn Fn(); 4] = [
            &|| symlink(&victim, &part).unwrap(),
            &|| fs::hard_link(&victim, &part).unwrap(),
            &|| fs::create_dir(&part).unwrap(),
            &|| assert!(Command::new("mkfifo").arg(&part).status().unwrap().success()),
        ];
        for plant in plants {
            fs::write(&victim, "precious").unwrap();
            let _ = fs::remove_file(&part);
            let _ = fs::remove_dir(&part);
            plant();
            let declined =
                alice(&dir.inbox(way)).begin_patiently(&file("a", 100), NOW).unwrap_err();
            assert_eq!(declined.code(), RefuseCode::CannotWrite);
            assert_eq!(fs::read(&victim).unwrap(), b"precious");
        }
        assert!(fs::symlink_metadata(&part).unwrap().file_type().is_fifo());
    }
}

#[test]
fn a_link_planted_where_a_file_will_land_stays_and_is_not_followed() {
    for way in BOTH {
        let (dir, outside) = (Dir::new(), Dir::new());
        let victim = outside.at("victim");
        fs::write(&victim, "precious").unwrap();
        let mut delivery = alice(&dir.inbox(way));
        delivery.begin_patiently(&file("a", 10), NOW).unwrap();
        delivery.data(&[1; 10]).unwrap();
        symlink(&victim, dir.at(&format!("{STAMP}_alice_a"))).unwrap();
        symlink("nowhere", dir.at(&format!("{STAMP}_alice_a-2"))).unwrap();
        assert_eq!(delivery.end().unwrap(), Some(format!("{STAMP}_alice_a-3")));
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
}

#[test]
fn a_directory_that_is_moved_and_replaced_is_still_the_one_that_was_opened() {
    let dir = Dir::new();
    fs::create_dir(dir.at("in")).unwrap();
    let inbox = open(&dir.at("in"), BOTH[0], Limits::default(), NOW);
    fs::rename(dir.at("in"), dir.at("moved")).unwrap();
    fs::create_dir(dir.at("in")).unwrap();
    let name = send(&inbox, "a", b"x").unwrap();
    assert!(dir.at("moved").join(name).exists());
}

#[test]
fn no_special_bit_and_nothing_that_others_may_write_comes_of_a_mode() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    for (mode, most) in [(0o7777, 0o775), (0o4755, 0o755), (0o666, 0o664), (u32::MAX, 0o775)] {
        let mut delivery = alice(&inbox);
        let mut meta = file("a", 0);
        meta.mode = Some(mode);
        delivery.begin_patiently(&meta, NOW).unwrap();
        let landed =
            dir.at(&delivery.end().unwrap().unwrap()).metadata().unwrap().permissions().mode();
        assert_eq!(landed & 0o7777 & !most, 0, "{mode:o}");
        assert_eq!(landed & 0o700, most & 0o700, "{mode:o}");
    }
}

#[test]
fn what_is_larger_than_is_taken_is_declined_before_or_as_soon_as_it_is() {
    let dir = Dir::new();
    let limits = Limits { max_file: Some(100), max_total: Some(250) };
    let inbox = open(dir.path(), BOTH[0], limits, NOW);
    let mut delivery = alice(&inbox);
    let declined = delivery.begin_patiently(&file("a", 101), NOW).unwrap_err();
    assert_eq!(declined.code(), RefuseCode::TooLarge);
    assert!(dir.names().is_empty());

    let mut unknown = file("b", 0);
    unknown.size = None;
    delivery.begin_patiently(&unknown, NOW).unwrap();
    delivery.data(&[0; 100]).unwrap();
    assert!(matches!(delivery.data(&[0; 1]), Err(Declined::TooLarge(100))));
    delivery.abort();

    delivery.begin_patiently(&file("c", 100), NOW).unwrap();
    delivery.data(&[0; 100]).unwrap();
    delivery.end().unwrap();
    assert!(matches!(delivery.begin_patiently(&file("d", 51), NOW), Err(Declined::TooLarge(50))));
    delivery.begin_patiently(&file("d", 50), NOW).unwrap();
}

#[test]
fn a_file_of_another_length_than_was_said_does_not_land() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let mut delivery = alice(&inbox);
    delivery.begin_patiently(&file("a", 10), NOW).unwrap();
    assert!(matches!(delivery.data(&[0; 11]), Err(Declined::Length)));
    delivery.data(&[0; 9]).unwrap();
    assert!(matches!(delivery.end(), Err(Declined::Length)));
    assert!(matches!(delivery.data(b"x"), Err(Declined::Order)));
    assert!(dir.part().exists());
}

#[test]
fn a_file_larger_than_the_disk_is_declined_before_a_byte_of_it() {
    let dir = Dir::new();
    let mut meta = file("a", 0);
    meta.size = Some(1 << 60);
    let declined = alice(&dir.inbox(BOTH[0])).begin_patiently(&meta, NOW).unwrap_err();
    assert_eq!(declined.code(), RefuseCode::NoRoom);
    assert!(dir.names().is_empty());
}

#[test]
fn abandoned_parts_are_swept_and_nothing_else_is() {
    let dir = Dir::new();
    let inbox = dir.inbox(BOTH[0]);
    let mut busy = alice(&inbox);
    for name in ["old", "busy"] {
        busy.begin_patiently(&file(name, 9), NOW).unwrap();
        busy.data(b"x").unwrap();
    }
    fs::write(dir.at("mine.part"), "x").unwrap();
    fs::write(dir.at(&format!("mine.{}.part", "0".repeat(31))), "x").unwrap();
    let wall = unix_ms();
    open(dir.path(), BOTH[0], Limits::default(), wall + KEPT_MS - DAY);
    assert_eq!(dir.names().len(), 4);
    open(dir.path(), BOTH[0], Limits::default(), wall + KEPT_MS + DAY);
    let left = dir.names();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.iter().any(|n| n.contains("alice_busy")), "somebody has it: {left:?}");
}

/// Runs itself again where the disk is 2 MiB.
#[test]
fn a_disk_that_fills_up_declines_and_the_part_is_gone_on_with() {
    if let Some(path) = std::env::var_os("AC_TEST_SMALL_DISK") {
        return fill_the_disk(path.as_ref());
    }
    let dir = Dir::new();
    let script = "mount -t tmpfs -o size=2m none \"$AC_TEST_SMALL_DISK\" || exit 99; exec \"$@\"";
    let again = again(module_path!(), "a_disk_that_fills_up_declines_and_the_part_is_gone_on_with");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(again.get_program()).args(again.get_args());
    match command.env("AC_TEST_SMALL_DISK", dir.path()).output() {
        Ok(output) if output.status.success() => assert_passed(&output),
        Ok(output) if output.status.code() == Some(101) => panic!("{output:?}"),
        _ => transfer::loudly("NOT TESTED: a full disk, which needs a mount namespace"),
    }
}

fn fill_the_disk(path: &std::path::Path) {
    let inbox = open(path, BOTH[0], Limits::default(), NOW);
    let mut delivery = alice(&inbox);
    delivery.begin_patiently(&file("a", 1_800_000), NOW).unwrap();
    delivery.start_at(0).unwrap();
    delivery.data(&bytes(100_000)).unwrap();
    // Somebody else takes the room.
    fs::write(path.join("other"), vec![1; 1_000_000]).unwrap();
    let mut declined = None;
    for piece in bytes(1_800_000)[100_000..].chunks(50_000) {
        declined = delivery.data(piece).err();
        if declined.is_some() {
            break;
        }
    }
    assert_eq!(declined.unwrap().code(), RefuseCode::NoRoom);
    delivery.abort();
    let declined = delivery.begin_patiently(&file("b", 1_800_000), NOW).unwrap_err();
    assert_eq!(declined.code(), RefuseCode::NoRoom);
    fs::remove_file(path.join("other")).unwrap();

    let resume = delivery.begin_patiently(&file("a", 1_800_000), NOW).unwrap().unwrap();
    assert!(resume.offset >= 100_000);
    delivery.start_at(resume.offset).unwrap();
    delivery.data(&bytes(1_800_000)[resume.offset as usize..]).unwrap();
    assert_eq!(fs::read(path.join(delivery.end().unwrap().unwrap())).unwrap(), bytes(1_800_000));
}

//! A sender's files and folders go out in an order that does not change, with what they are, and
//! are noticed to change.

use crate::testkit::{random::bytes, transfer, transfer::open_folder};

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anonchat::crypto::prefix_hash::PrefixHash;
use anonchat::transfer::incoming::Resume;
use anonchat::transfer::names::BadPath;
use anonchat::transfer::outbox::{Folder, Next, Outgoing, PIECE, Source};
use anonchat::transfer::walk::{Found, Listing, NodeKind, Skip, Walk};
use transfer::Dir;

fn open_file(path: &Path) -> Outgoing {
    match Source::open(path).unwrap() {
        Source::File(file) => file,
        Source::Folder(_) => panic!("a folder"),
    }
}

fn content(outgoing: &mut Outgoing) -> std::io::Result<Vec<u8>> {
    let (mut all, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        match outgoing.read(&mut piece)? {
            0 => return Ok(all),
            count => all.extend_from_slice(&piece[..count]),
        }
    }
}

/// Names of the entries that are left, and what is skipped.
fn drain(folder: &mut Folder) -> (Vec<String>, Vec<(String, Skip)>) {
    let (mut names, mut skipped) = (Vec::new(), Vec::new());
    loop {
        match folder.advance().unwrap() {
            Next::Entry(entry) => names.push(entry.name),
            Next::Skipped(name, why) => skipped.push((name, why)),
            Next::Done => return (names, skipped),
        }
    }
}

fn tree(dir: &Dir) -> std::path::PathBuf {
    let root = dir.at("photos");
    fs::create_dir_all(root.join("b/inner")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for (name, len) in [("a.txt", 3), ("b/2", 70_000), ("b/1", 0), ("b/inner/x", 5), ("c", 1)] {
        fs::write(root.join(name), bytes(len)).unwrap();
    }
    symlink("../a.txt", root.join("b/link")).unwrap();
    root
}

/// What the first `count` entries of `root` are, in brief.
fn listing(root: &Path, count: u64) -> Resume {
    let mut walk = Walk::new(&File::open(root).unwrap()).unwrap();
    let mut listing = Listing::default();
    while listing.count < count {
        match walk.step().unwrap().unwrap() {
            Found::Node(node) => listing.add(&node),
            Found::Skipped(..) => {}
        }
    }
    Resume { offset: count, hash: listing.finish() }
}

#[test]
fn a_file_goes_out_with_its_last_name_and_what_it_is() {
    let dir = Dir::new();
    let path = dir.at("photo.jpg");
    fs::write(&path, bytes(200_000)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_micros(1_700_000_000_123_456);
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let mut file = open_file(&path);
    let meta = file.meta([7; 16], 42);
    assert_eq!((meta.id, meta.time_ms, meta.kind), ([7; 16], 42, 1));
    assert_eq!(meta.name.as_deref(), Some("photo.jpg"));
    assert_eq!((meta.size, meta.mode), (Some(200_000), Some(0o4751)));
    assert_eq!(meta.mtime, Some(1_700_000_000_123));
    assert_eq!(content(&mut file).unwrap(), bytes(200_000));
}

#[test]
fn an_offer_is_taken_only_if_it_is_the_files_own_beginning() {
    let dir = Dir::new();
    let path = dir.at("a");
    let whole = bytes(150_000);
    fs::write(&path, &whole).unwrap();
    let mut file = open_file(&path);
    for offset in [1, PIECE, 100_000, 150_000] {
        let hash = PrefixHash::of(&mut &whole[..], offset as u64).unwrap();
        let resume = Resume { offset: offset as u64, hash };
        assert_eq!(file.resume(&resume).unwrap(), offset as u64);
        assert_eq!(content(&mut file).unwrap(), &whole[offset..]);

        let other = Resume { hash: [0; 32], ..resume };
        assert_eq!(file.resume(&other).unwrap(), 0);
        assert_eq!(content(&mut file).unwrap(), whole);
    }
    assert_eq!(file.resume(&Resume { offset: u64::MAX, hash: [0; 32] }).unwrap(), 0);
    assert_eq!(content(&mut file).unwrap(), whole);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let dir = Dir::new();
    let path = dir.at("a");
    let changes: [&dyn Fn(&mut File); 4] = [
        &|file| file.set_len(10).unwrap(),
        &|file| file.set_len(0).unwrap(),
        &|file| file.set_len(100_001).unwrap(),
        &|file| file.write_all(b"another beginning").unwrap(),
    ];
    for change in changes {
        fs::write(&path, bytes(100_000)).unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let mut file = open_file(&path);
        assert_eq!(file.read(&mut [0; 1000]).unwrap(), 1000);
        change(&mut File::options().write(true).open(&path).unwrap());
        assert_eq!(content(&mut file).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn a_folder_goes_out_in_order_each_folder_after_what_is_in_it() {
    let dir = Dir::new();
    let root = tree(&dir);
    let mut folder = open_folder(&root);
    let opening = folder.opening().unwrap();
    assert_eq!((opening.name.as_str(), opening.size), ("photos", Some(70_009)));
    let (names, skipped) = drain(&mut folder);
    let order = ["a.txt", "b/1", "b/2", "b/inner/x", "b/inner", "b/link", "b", "c", "empty"];
    let mut order: Vec<_> = order.iter().map(|name| format!("photos/{name}")).collect();
    order.push("photos".into());
    assert_eq!(names, order);
    assert!(skipped.is_empty());
}

#[test]
fn what_entries_are_stands_in_their_meta_and_bytes() {
    let dir = Dir::new();
    let mut folder = open_folder(&tree(&dir));
    let mut seen = 0;
    while let Next::Entry(mut entry) = folder.advance().unwrap() {
        let content = content(&mut entry).unwrap();
        let meta = entry.meta([0; 16], 0);
        assert_eq!(meta.kind, 2);
        let kind = meta.mode.unwrap() & 0o170_000;
        match entry.name.as_str() {
            "photos/b/2" => {
                assert_eq!((kind, meta.size, content.len()), (0o100_000, Some(70_000), 70_000))
            }
            "photos/b/link" => assert_eq!((kind, &content[..]), (0o120_000, &b"../a.txt"[..])),
            "photos/empty" | "photos" => assert_eq!((kind, meta.size), (0o040_000, None)),
            _ => continue,
        }
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn what_cannot_be_sent_is_named_and_skipped() {
    let dir = Dir::new();
    let root = dir.at("odd");
    fs::create_dir(&root).unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../../x", root.join("up")).unwrap();
    let latin = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(root.join(latin), "x").unwrap();
    fs::write(root.join("\x1b".repeat(100)), "x").unwrap();
    fs::write(root.join("esc\x1b[2J"), "x").unwrap();
    let (names, mut skipped) = drain(&mut open_folder(&root));
    assert_eq!(names, ["odd/caf%E9", "odd/esc%1B[2J", "odd"]);
    skipped.retain(|(name, _)| !name.contains('\x1b'));
    let leaves = Skip::Name(BadPath::LinkLeaves);
    let expected =
        [("odd/absolute", leaves.clone()), ("odd/socket", Skip::Special), ("odd/up", leaves)];
    assert_eq!(skipped, expected.map(|(name, why)| (name.to_owned(), why)));

    let error = Source::open(&root.join("socket")).unwrap_err();
    assert!(Source::open(Path::new("/dev/null")).is_err() && error.kind() != ErrorKind::NotFound);
    assert_eq!(Source::open(&dir.at("none")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_folder_is_gone_on_with_behind_what_is_there_unless_that_changed() {
    let dir = Dir::new();
    let root = tree(&dir);
    let (all, _) = drain(&mut open_folder(&root));
    for count in 1..=9 {
        let offer = listing(&root, count);
        let mut folder = open_folder(&root);
        assert_eq!(folder.resume(&offer).unwrap(), count);
        assert_eq!(drain(&mut folder).0, all[count as usize..]);
        let wrong = Resume { hash: [1; 32], ..offer };
        assert_eq!(folder.resume(&wrong).unwrap(), 0);
        assert_eq!(drain(&mut folder).0, all);
    }
    let beyond = Resume { offset: 1 << 60, ..listing(&root, 9) };
    assert_eq!(open_folder(&root).resume(&beyond).unwrap(), 0);

    let offer = listing(&root, 4);
    let changes: [&dyn Fn(); 3] = [
        &|| fs::write(root.join("b/1"), "now longer").unwrap(),
        &|| fs::write(root.join("a0"), "").unwrap(),
        &|| fs::remove_file(root.join("a.txt")).unwrap(),
    ];
    for change in changes {
        change();
        assert_eq!(open_folder(&root).resume(&offer).unwrap(), 0);
    }
}

#[test]
fn a_link_that_takes_a_files_place_is_not_followed() {
    let dir = Dir::new();
    let root = tree(&dir);
    let mut walk = Walk::new(&File::open(&root).unwrap()).unwrap();
    let Some(Found::Node(node)) = walk.step().unwrap() else { panic!("no entry") };
    assert_eq!((node.path.as_str(), node.kind), ("a.txt", NodeKind::File));
    fs::remove_file(root.join("a.txt")).unwrap();
    symlink("/etc/passwd", root.join("a.txt")).unwrap();
    assert!(walk.open_last().is_err());
}

#[test]
fn the_folder_itself_has_a_name_however_it_is_written() {
    let dir = Dir::new();
    let root = tree(&dir);
    for path in ["", "b/..", ".", "b/../b/.."] {
        assert_eq!(open_folder(&root.join(path)).opening().unwrap().name, "photos", "{path}");
    }
}

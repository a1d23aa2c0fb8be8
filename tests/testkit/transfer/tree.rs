//! A folder with everything in it, and all that can be told of one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anonchat::crypto::prefix_hash::PrefixHash;

use crate::testkit::random::bytes;

/// A tree with everything that can be in one.
pub fn plant(root: &Path) {
    fs::create_dir_all(root.join("b/inner/deep")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for (name, len) in [
        ("a.txt", 3),
        ("b/big", 2_500_000),
        ("b/inner/deep/x", 70_000),
        ("c", 0),
        ("-rf", 9),
        (".h", 1),
    ] {
        fs::write(root.join(name), bytes(len)).unwrap();
    }
    symlink("../a.txt", root.join("b/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    for (name, mode) in
        [("a.txt", 0o600), ("c", 0o400), ("b/big", 0o755), ("empty", 0o555), ("b", 0o700)]
    {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (n, name) in
        ["a.txt", "b/big", "c", "empty", "b/inner/deep", "b/inner", "b", ""].iter().enumerate()
    {
        let time = UNIX_EPOCH + Duration::from_millis(1_600_000_000_123 + 86_400_000 * n as u64);
        fs::File::open(root.join(name)).unwrap().set_modified(time).unwrap();
    }
}

/// All that can be told of a tree: modes, times, targets, bytes.
pub fn describe(root: &Path) -> BTreeMap<String, String> {
    let (mut all, mut left) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        let stat = path.symlink_metadata().unwrap();
        let ms = stat.mtime() * 1000 + stat.mtime_nsec() / 1_000_000;
        let content = if stat.is_symlink() {
            format!("{:?}", path.read_link().unwrap())
        } else if stat.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            String::new()
        } else {
            let mut file = fs::File::open(&path).unwrap();
            format!("{} {:?}", stat.len(), PrefixHash::of(&mut file, stat.len()).unwrap())
        };
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        all.insert(name, format!("{:o} {ms} {content}", stat.mode()));
    }
    all
}

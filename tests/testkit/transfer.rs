//! An inbox of its own for each test, and what a sender says.

pub mod tree;

use super::common::{DEADLINE, names};

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anonchat::proto::stream::meta::{MessageKind, Meta};
use anonchat::transfer::beneath::{Beneath, Resolution};
use anonchat::transfer::declined::Declined;
use anonchat::transfer::delivery::Delivery;
use anonchat::transfer::inbox::{Inbox, Limits, Sender};
use anonchat::transfer::incoming::Resume;
use anonchat::transfer::outbox::{Folder, Source};
use jiff::tz::TimeZone;

/// 2026-11-21 13:05:02 UTC, in ms.
pub const NOW: u64 = 1_795_266_302_000;
pub const DAY: u64 = 86_400_000;
pub const STAMP: &str = "20261121_130502";
pub const BOTH: [Resolution; 2] = [Resolution::Kernel, Resolution::Walk];

pub struct Dir(tempfile::TempDir);

impl Dir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// In memory where there is such a place: syncing waits for all that is not on the disk yet,
    /// other programs' included.
    pub fn in_memory() -> Self {
        tempfile::tempdir_in("/dev/shm").map_or_else(|_| Self::new(), Self)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn inbox(&self, resolution: Resolution) -> Inbox {
        open(self.path(), resolution, Limits::default(), NOW)
    }

    /// What is in it, sorted.
    pub fn names(&self) -> Vec<String> {
        names(self.path())
    }

    /// The one thing in it that is not complete.
    pub fn part(&self) -> PathBuf {
        let mut parts = self.names();
        parts.retain(|name| name.ends_with(".part"));
        assert_eq!(parts.len(), 1, "{parts:?}");
        self.at(&parts[0])
    }
}

pub fn open(path: &Path, resolution: Resolution, limits: Limits, now: u64) -> Inbox {
    let directory = Beneath::new(File::open(path).unwrap()).resolved_by(resolution);
    Inbox::beneath(directory, limits, TimeZone::UTC, now).unwrap()
}

pub fn alice(inbox: &Inbox) -> Delivery {
    inbox.delivery(Sender { key: [1; 32], name: "alice".into() })
}

/// How tests begin a message, whatever other tests of the program do.
pub trait BeginPatiently {
    /// [`Delivery::begin`], again while a part is busy: a lock that was dropped here is held on by a
    /// program that another test forks, until that program runs.
    fn begin_patiently(&mut self, meta: &Meta, now_ms: u64) -> Result<Option<Resume>, Declined>;
}

impl BeginPatiently for Delivery {
    fn begin_patiently(&mut self, meta: &Meta, now_ms: u64) -> Result<Option<Resume>, Declined> {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.begin(meta, now_ms) {
                Err(Declined::Busy) if Instant::now() < until => std::thread::yield_now(),
                begun => return begun,
            }
        }
    }
}

pub fn file(name: &str, size: usize) -> Meta {
    let mut meta = Meta::message([0; 16], NOW);
    meta.kind = MessageKind::File as u8;
    meta.name = Some(name.into());
    meta.size = Some(size as u64);
    meta.mode = Some(0o640);
    meta.mtime = Some(1_700_000_000_123);
    meta
}

/// Says on the terminal what could not be tested, captured or not.
pub fn loudly(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// A sender's folder.
pub fn open_folder(path: &Path) -> Folder {
    match Source::open(path).unwrap() {
        Source::Folder(folder) => folder,
        Source::File(_) => panic!("a file"),
    }
}

//! The directory that files and folders land in.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustix::fs::Mode;

use super::beneath::{Beneath, Resolution};
use super::declined::Declined;
use super::delivery::Delivery;
use super::landing;
use super::names::landed_name;
use super::part::{Part, PartKey, Parts};
use super::received::Received;
use super::room::{Reserve, Room};
use crate::proto::stream::meta::Meta;

/// What others may never do with what lands, whatever its sender and our umask say: write to it.
const NEVER: u32 = 0o002;
/// A file whose sender says no mode.
const DEFAULT_MODE: u32 = 0o644;
/// A folder whose sender says no mode.
const DEFAULT_FOLDER_MODE: u32 = 0o755;
/// What the owner can always do with a folder: look into it, if only to remove it.
const LOOK: u32 = 0o500;

/// What an inbox takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// The largest file, in bytes.
    pub max_file: Option<u64>,
    /// All that one session brings, in bytes.
    pub max_total: Option<u64>,
}

/// A directory that files land in.
#[derive(Debug, Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
    room: Arc<Room>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: Beneath,
    pub(super) parts: Arc<Parts>,
    pub(super) received: Received,
    pub(super) limits: Limits,
    zone: TimeZone,
    umask: u32,
}

/// Who sends.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The public key, by which a partial file is found again.
    pub key: [u8; 32],
    /// FROM in the name of what lands.
    pub name: String,
}

impl Inbox {
    /// Opens the directory at `path`, and removes what was begun there and abandoned for
    /// [`super::part::KEPT_MS`]. Names get their time in `zone`. Reads the umask by setting it for
    /// a moment, so no other thread should be making files.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(
        path: &Path,
        limits: Limits,
        zone: TimeZone,
        now_ms: u64,
    ) -> rustix::io::Result<Self> {
        Self::beneath(Beneath::open(path)?, limits, zone, now_ms)
    }

    /// The same in a directory that is open.
    ///
    /// # Errors
    /// What the system says.
    pub fn beneath(
        directory: Beneath,
        limits: Limits,
        zone: TimeZone,
        now_ms: u64,
    ) -> rustix::io::Result<Self> {
        let received = Received::default();
        let parts = landing::begin(&directory, &received, now_ms)?;
        let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::umask(umask);
        let umask = umask.as_raw_mode();
        let shared = Arc::new(Shared { directory, parts, received, limits, zone, umask });
        Ok(Self { shared, room: Arc::new(Room::beside(Reserve::Nothing)) })
    }

    /// The same, keeping `reserve` free on its disk.
    #[must_use]
    pub fn keeping(mut self, reserve: Reserve) -> Self {
        self.room = Arc::new(Room::beside(reserve));
        self
    }

    /// Who resolves paths in it.
    pub fn resolution(&self) -> Resolution {
        self.shared.directory.resolution()
    }

    /// What one session of `sender` brings.
    pub fn delivery(&self, sender: Sender) -> Delivery {
        Delivery::new(Arc::clone(&self.shared), Arc::clone(&self.room), sender)
    }
}

impl Shared {
    fn local(&self, unix_ms: u64) -> DateTime {
        let timestamp = i64::try_from(unix_ms).ok();
        let timestamp = timestamp.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        self.zone.to_datetime(timestamp.unwrap_or_default())
    }

    /// The part of what `sender` describes, begun at `now_ms` if it is new.
    pub(super) fn part(&self, sender: &Sender, meta: &Meta, now_ms: u64) -> Result<Part, Declined> {
        let name = meta.name.as_deref().unwrap_or_default();
        let landed = landed_name(self.local(now_ms), &sender.name, name);
        self.parts.claim(PartKey::new(&sender.key, meta), landed, false)
    }

    /// The same of an item, which may come again.
    pub(super) fn item(&self, sender: &Sender, meta: &Meta, now_ms: u64) -> Result<Part, Declined> {
        let name = meta.name.as_deref().unwrap_or_default();
        let landed = landed_name(self.local(now_ms), &sender.name, name);
        self.parts.claim(PartKey::of_item(&sender.key, &meta.id), landed, true)
    }

    /// No setuid, setgid or sticky bit, and what our umask allows, as `tar x` has it.
    pub(super) fn file_mode(&self, mode: Option<u32>) -> u32 {
        self.allowed(mode.unwrap_or(DEFAULT_MODE))
    }

    /// The same for a folder.
    pub(super) fn folder_mode(&self, mode: Option<u32>) -> u32 {
        self.allowed(mode.unwrap_or(DEFAULT_FOLDER_MODE)) | LOOK
    }

    fn allowed(&self, mode: u32) -> u32 {
        mode & 0o777 & !self.umask & !NEVER
    }
}

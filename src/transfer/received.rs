//! Which items landed in a directory: files that may come again, since a relay holds them until it
//! is told that they were delivered, and a kill can come before that.
//!
//! An item is named by its sender's key and its id. When its part is whole and on the disk, it is
//! *remembered*: with the part's name, in the hidden file [`RECEIVED`] of the directory; then the
//! part gets its own name. So whatever a kill leaves says what is to be done when the item comes
//! again: not remembered, it is begun anew; remembered and its part is there, that is renamed; and
//! else it has landed.
//!
//! Several programs can have the same directory. Whoever looks or remembers holds `flock` on the
//! directory meanwhile, so that of two that bring the same item one remembers it.
//!
//! ```text
//! file:  magic 8 (F5 "ACrcvd" 01) ‖ entry 40 ‖ entry 40 …
//! entry: key 16 ‖ part 8 ‖ time_ms 8 ‖ check 8      key: PartKey; part, check: of BLAKE2b
//! ```
//! What is no entry is passed over byte by byte: a crash tore it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, fdatasync, flock, fstat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::beneath::Beneath;
use super::part::{Part, PartKey};
use crate::crypto::sodium::keyed_hash;

/// The file's name.
pub const RECEIVED: &str = ".ac-received";
/// Its name while it is written anew.
const RENEWED: &str = ".ac-received.new";
/// What it begins with.
const MAGIC: [u8; 8] = *b"\xf5ACrcvd\x01";
/// Size of an entry, in bytes.
const ENTRY_LEN: usize = 40;
/// Size of its check, in bytes.
const CHECK_LEN: usize = 8;
/// How long an item is remembered: 31 days, a day longer than any relay holds it, in ms.
pub const REMEMBERED_MS: u64 = 31 * 24 * 60 * 60 * 1000;
/// Items that are remembered, at most; with twice as many, the oldest are forgotten.
const MAX_ITEMS: usize = 65_536;
/// The most that is read of a file, in bytes: more is none of ours.
const MAX_FILE_LEN: u64 = 16 << 20;

/// What is remembered of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Which part was whole, by its name.
    part: u64,
    time_ms: u64,
}

impl Remembered {
    /// Whether the part of this name was whole.
    pub fn is_of(&self, part_name: &str) -> bool {
        self.part == name_hash(part_name)
    }
}

/// The record of one directory, as far as it was read.
#[derive(Debug, Default)]
pub struct Received(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    /// `None` until there is one.
    file: Option<File>,
    /// So much of it was read.
    read: u64,
    items: HashMap<PartKey, Remembered>,
}

/// The record, up to date, while nobody else looks at the directory's.
pub struct Held<'a> {
    directory: &'a Beneath,
    record: MutexGuard<'a, Record>,
}

impl Received {
    /// Takes hold of the record in `directory`.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidData`] for a file of that name that is no
    /// record, or not mine.
    pub fn hold<'a>(&'a self, directory: &'a Beneath) -> io::Result<Held<'a>> {
        // What a panic leaves was read from the file, or is in it.
        let record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A file system that has no locks is no obstacle.
        let _ = flock(directory.directory(), FlockOperation::LockExclusive);
        let mut held = Held { directory, record };
        held.refresh()?;
        Ok(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = flock(self.directory.directory(), FlockOperation::Unlock);
    }
}

impl Held<'_> {
    /// What is remembered of an item.
    pub fn get(&self, key: PartKey) -> Option<Remembered> {
        self.record.items.get(&key).copied()
    }

    /// Remembers that these parts are whole, at `now_ms` (Unix ms); waits for the disk.
    ///
    /// # Errors
    /// What the system says: then none of them may land.
    pub fn remember<'p>(
        &mut self,
        parts: impl Iterator<Item = &'p Part>,
        now_ms: u64,
    ) -> io::Result<()> {
        let mut entries = Vec::new();
        for part in parts {
            let item = Remembered { part: name_hash(&part.name), time_ms: now_ms };
            entries.extend(encode(part.key(), item));
        }
        if entries.is_empty() {
            return Ok(());
        }
        if self.record.items.len() >= 2 * MAX_ITEMS {
            self.renew(now_ms)?;
        }
        if self.record.file.is_none() {
            self.renew(now_ms)?;
        }
        let Some(file) = &mut self.record.file else { return Ok(()) };
        file.write_all(&entries)?;
        fdatasync(&*file)?;
        self.read_news()
    }

    /// Forgets what no relay holds any more, if that is worth writing the file anew.
    ///
    /// # Errors
    /// What the system says.
    pub fn forget_expired(&mut self, now_ms: u64) -> io::Result<()> {
        let expired = |item: &Remembered| is_expired(item, now_ms);
        if self.record.items.values().any(expired) { self.renew(now_ms) } else { Ok(()) }
    }

    /// Reads what others have added; all of it, if somebody has written it anew.
    fn refresh(&mut self) -> io::Result<()> {
        let directory = self.directory.directory();
        let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        match (statat(directory, RECEIVED, AtFlags::SYMLINK_NOFOLLOW), &self.record.file) {
            (Err(Errno::NOENT), None) => return Ok(()),
            (Ok(there), Some(file)) if same(&there, &fstat(file)?) => {}
            (Err(Errno::NOENT), Some(_)) => *self.record = Record::default(),
            _ => {
                let file = Some(open(self.directory)?);
                *self.record = Record { file, ..Record::default() };
            }
        }
        self.read_news()
    }

    fn read_news(&mut self) -> io::Result<()> {
        let Record { file, read, items } = &mut *self.record;
        let Some(file) = file else { return Ok(()) };
        file.seek(SeekFrom::Start(*read))?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_LEN).read_to_end(&mut bytes)?;
        let mut at = if *read == 0 { MAGIC.len() } else { 0 };
        while let Some(entry) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            at += decode(entry).map_or(1, |(key, item)| {
                items.insert(key, item);
                ENTRY_LEN
            });
        }
        *read += at.min(bytes.len()) as u64;
        Ok(())
    }

    /// Puts a file in its place that has nothing that is expired.
    fn renew(&mut self, now_ms: u64) -> io::Result<()> {
        let mut items: Vec<_> = self.record.items.drain().collect();
        items.retain(|(_, item)| !is_expired(item, now_ms));
        items.sort_unstable_by_key(|(_, item)| std::cmp::Reverse(item.time_ms));
        items.truncate(MAX_ITEMS);
        let directory = self.directory.directory();
        match unlinkat(directory, RENEWED, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
        let mut file = self.directory.file(RENEWED, flags, Mode::RUSR | Mode::WUSR)?;
        let mut bytes = MAGIC.to_vec();
        items.iter().for_each(|(key, item)| bytes.extend(encode(*key, *item)));
        file.write_all(&bytes)?;
        file.sync_all()?;
        renameat(directory, RENEWED, directory, RECEIVED)?;
        let (read, items) = (bytes.len() as u64, items.into_iter().collect());
        *self.record = Record { file: Some(file), read, items };
        Ok(())
    }
}

/// The file, which is mine and was made by us, or nobody's.
fn open(directory: &Beneath) -> io::Result<File> {
    // NONBLOCK: a FIFO that somebody put there must not hang us.
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NONBLOCK;
    let not_ours = || io::Error::new(io::ErrorKind::InvalidData, format!("{RECEIVED} is not ours"));
    let mut file = match directory.file(RECEIVED, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(not_ours()),
        result => result?,
    };
    let stat = fstat(&file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let is_mine = stat.st_uid == rustix::process::geteuid().as_raw();
    let mut magic = [0; MAGIC.len()];
    let begins = is_file && file.read_exact(&mut magic).is_ok() && magic == MAGIC;
    let is_ours = begins && is_mine && stat.st_size as u64 <= MAX_FILE_LEN;
    if is_ours { Ok(file) } else { Err(not_ours()) }
}

fn is_expired(item: &Remembered, now_ms: u64) -> bool {
    now_ms.saturating_sub(item.time_ms) > REMEMBERED_MS
}

fn name_hash(part_name: &str) -> u64 {
    short_hash(&[b"part", part_name.as_bytes()])
}

fn short_hash(pieces: &[&[u8]]) -> u64 {
    (u128::from_be_bytes(keyed_hash(b"AnonChat v1 received", pieces)) >> 64) as u64
}

fn encode(key: PartKey, item: Remembered) -> [u8; ENTRY_LEN] {
    let mut entry = [0; ENTRY_LEN];
    entry[..16].copy_from_slice(&key.to_bytes());
    entry[16..24].copy_from_slice(&item.part.to_be_bytes());
    entry[24..32].copy_from_slice(&item.time_ms.to_be_bytes());
    let check = short_hash(&[b"entry", &entry[..ENTRY_LEN - CHECK_LEN]]);
    entry[32..].copy_from_slice(&check.to_be_bytes());
    entry
}

fn decode(entry: &[u8; ENTRY_LEN]) -> Option<(PartKey, Remembered)> {
    let (said, check) = entry.split_at(ENTRY_LEN - CHECK_LEN);
    if short_hash(&[b"entry", said]).to_be_bytes() != *check {
        return None;
    }
    let number = |at: usize| said[at..at + 8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let key = PartKey::from_bytes(said.first_chunk()?);
    Some((key, Remembered { part: number(16), time_ms: number(24) }))
}

//! What is not complete yet: how it is named, found again and, in the end, swept away.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, flock, fstat, linkat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::beneath::Beneath;
use super::declined::Declined;
use super::names::{PART_SUFFIX, numbered};
use crate::crypto::sodium::keyed_hash;
use crate::proto::stream::meta::Meta;

/// Partial files and folders that nobody went on with for so long are removed: 7 days, in ms.
pub const KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Partial files and folders in one directory; with more, nothing new begins.
pub const MAX_PARTS: usize = 10_000;
/// Names that are tried when one is taken.
const MAX_NUMBER: u32 = 10_000;
/// Hexadecimal digits of a key.
const KEY_DIGITS: usize = 32;

/// Finds a partial file again: of one sender, name, size and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartKey(u128);

impl PartKey {
    /// The key of what `sender` (a public key) describes.
    pub fn new(sender: &[u8; 32], meta: &Meta) -> Self {
        let size = meta.size.map_or([0xff; 9], |size| {
            let mut bytes = [0; 9];
            bytes[1..].copy_from_slice(&size.to_be_bytes());
            bytes
        });
        let mtime = meta.mtime.unwrap_or(i64::MIN).to_be_bytes();
        let name = meta.name.as_deref().unwrap_or_default().as_bytes();
        let pieces: [&[u8]; 5] = [sender, &[meta.kind], &size, &mtime, name];
        Self(u128::from_be_bytes(keyed_hash(b"AnonChat v1 part", &pieces)))
    }

    /// The key of an item, which may come again: of what `sender` calls `id`.
    pub fn of_item(sender: &[u8; 32], id: &[u8; 16]) -> Self {
        Self(u128::from_be_bytes(keyed_hash(b"AnonChat v1 item", &[sender, id])))
    }

    /// Its 16 bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// What [`PartKey::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8; 16]) -> Self {
        Self(u128::from_be_bytes(*bytes))
    }

    /// The name of the part that will be `landed`.
    fn file_name(self, landed: &str) -> String {
        format!("{landed}.{:032x}{PART_SUFFIX}", self.0)
    }
}

/// `(landed name, key)` of the name of a part.
fn parse(name: &str) -> Option<(&str, PartKey)> {
    let rest = name.strip_suffix(PART_SUFFIX)?;
    let (landed, digits) = rest.rsplit_once('.')?;
    let hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    if digits.len() != KEY_DIGITS || !digits.bytes().all(hex) {
        return None;
    }
    Some((landed, PartKey(u128::from_str_radix(digits, 16).ok()?)))
}

/// The parts in a directory, by key: the name under which each will land, with the time of its
/// first attempt.
#[derive(Debug, Default)]
pub struct Parts(Mutex<HashMap<PartKey, String>>);

impl Parts {
    /// Reads which parts are there, and removes those that were abandoned before `now_ms` less
    /// [`KEPT_MS`], unless `is_whole` says that they only want their names.
    ///
    /// # Errors
    /// What the system says.
    pub fn swept(
        directory: &Beneath,
        now_ms: u64,
        is_whole: impl Fn(PartKey, &str) -> bool,
    ) -> rustix::io::Result<Self> {
        let mut found = HashMap::new();
        each_part(directory, |name, landed, key| {
            let stays = is_whole(key, name) || !sweep(directory, name, now_ms);
            if stays && found.len() < MAX_PARTS {
                found.insert(key, landed.to_owned());
            }
        })?;
        Ok(Self(Mutex::new(found)))
    }

    /// The parts that are there for `wanted`, whoever made them: several, if several programs did.
    ///
    /// # Errors
    /// What the system says.
    pub fn on_disk(
        self: &Arc<Self>,
        directory: &Beneath,
        wanted: impl Fn(PartKey) -> bool,
    ) -> rustix::io::Result<Vec<Part>> {
        let mut found = Vec::new();
        each_part(directory, |name, landed, key| {
            if wanted(key) {
                let (parts, name, landed) = (Arc::clone(self), name.to_owned(), landed.to_owned());
                found.push(Part { parts, key, name, landed, is_item: true });
            }
        })?;
        Ok(found)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<PartKey, String>> {
        // What a panic leaves is a map, and no worse than one that another program changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of `key`, to be named `landed` if it is new; whether it is that of an item.
    ///
    /// # Errors
    /// [`Declined::NoRoom`] when there are [`MAX_PARTS`].
    pub fn claim(
        self: &Arc<Self>,
        key: PartKey,
        landed: String,
        is_item: bool,
    ) -> Result<Part, Declined> {
        let mut map = self.map();
        if map.len() >= MAX_PARTS && !map.contains_key(&key) {
            return Err(Declined::NoRoom);
        }
        let landed = map.entry(key).or_insert(landed).clone();
        Ok(Part { parts: Arc::clone(self), key, name: key.file_name(&landed), landed, is_item })
    }
}

/// Calls `found` with the name of each part, what it will be called, and its key.
fn each_part(
    directory: &Beneath,
    mut found: impl FnMut(&str, &str, PartKey),
) -> rustix::io::Result<()> {
    for entry in Dir::read_from(directory.directory())? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if let Some((landed, key)) = parse(name) {
            found(name, landed, key);
        }
    }
    Ok(())
}

/// Removes the part `name` if it is old and nobody has it; whether it did.
fn sweep(directory: &Beneath, name: &str, now_ms: u64) -> bool {
    let fd = directory.directory();
    let Ok(stat) = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    // Not its modification time, which may be its sender's already.
    let age = (now_ms / 1000).saturating_sub(stat.st_ctime.max(0) as u64);
    if age < KEPT_MS / 1000 {
        return false;
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let file = directory.file(name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
            file.is_ok_and(|file| take(&file, None).is_ok())
                && unlinkat(fd, name, AtFlags::empty()).is_ok()
        }
        FileType::Directory => {
            let folder = directory.folder(name).map(Beneath::new);
            folder.is_ok_and(|f| take(f.directory(), None).is_ok() && f.empty().is_ok())
                && unlinkat(fd, name, AtFlags::REMOVEDIR).is_ok()
        }
        _ => false,
    }
}

/// Takes `file` for this session alone. With a directory and a name, it was there before: whoever
/// had it until now may have landed or removed it meanwhile, and what landed is not ours to write.
///
/// # Errors
/// [`Declined::Busy`]. A file system that has no locks is no obstacle.
pub fn take(file: &File, was_there: Option<(&File, &str)>) -> Result<(), Declined> {
    if flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Err(Declined::Busy);
    }
    let Some((directory, name)) = was_there else { return Ok(()) };
    let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if same(&stat, &fstat(file)?) => Ok(()),
        _ => Err(Declined::Busy),
    }
}

/// One part, by name.
#[derive(Debug)]
pub struct Part {
    parts: Arc<Parts>,
    key: PartKey,
    /// Its name while it is one.
    pub name: String,
    /// The name under which it lands.
    pub landed: String,
    /// It may come again, so that it is remembered when it lands ([`super::received`]).
    pub is_item: bool,
}

impl Part {
    /// By which it is found again.
    pub fn key(&self) -> PartKey {
        self.key
    }

    /// Takes it for this session alone; see [`take`].
    ///
    /// # Errors
    /// [`Declined::Busy`]; [`Declined::Disk`] when it is no file any more.
    pub fn taken(&self, directory: &Beneath) -> Result<File, Declined> {
        let file = directory.file(&self.name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
        take(&file, Some((directory.directory(), &self.name)))?;
        Ok(file)
    }

    /// Removes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, directory: &File) -> rustix::io::Result<()> {
        unlinkat(directory, &self.name, AtFlags::empty())?;
        self.forget();
        Ok(())
    }

    /// Gives it its name beneath `directory`, or the next that is free: never over anything.
    /// Returns that name.
    ///
    /// # Errors
    /// [`Declined::Exists`] when all are taken; [`Declined::Disk`].
    pub fn land(&self, directory: &File) -> Result<String, Declined> {
        for number in 1..=MAX_NUMBER {
            let name = match number {
                1 => self.landed.clone(),
                _ => numbered(&self.landed, number),
            };
            match self.rename(directory, directory, &name) {
                Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                result => return Ok(result.map(|()| name)?),
            }
        }
        Err(Declined::Exists)
    }

    /// Moves it from `directory` to `name` in `folder`, unless something is there.
    ///
    /// # Errors
    /// `EEXIST`; what else the system says.
    pub fn rename(&self, directory: &File, folder: &File, name: &str) -> rustix::io::Result<()> {
        rename_new(directory, &self.name, folder, name)?;
        self.forget();
        Ok(())
    }

    /// It is no part any more.
    pub fn forget(&self) {
        self.parts.map().remove(&self.key);
    }
}

/// Renames, and replaces nothing.
fn rename_new(from: &File, old: &str, to: &File, new: &str) -> rustix::io::Result<()> {
    match renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
        result => return result,
    }
    // Some file systems and sandboxes cannot. A second name does not replace either.
    match linkat(from, old, to, new, AtFlags::empty()) {
        Ok(()) => return unlinkat(from, old, AtFlags::empty()),
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        Err(_) => {}
    }
    // No links either: a folder, or FAT. What comes in between is a program that makes the very
    // same name; a folder can then only take the place of an empty one.
    match statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => renameat(from, old, to, new),
        Ok(_) => Err(Errno::EXIST),
        Err(errno) => Err(errno),
    }
}

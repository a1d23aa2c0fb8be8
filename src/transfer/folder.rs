//! A folder on its way in: a part that its entries are put into. A long file comes as a part of its
//! own and is put there when it is whole; a short one is written where it belongs. So what a cut
//! leaves incomplete is the last of the short ones, since they come in the order of a walk.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, Timespec, Timestamps, UTIME_NOW, fchmod, fstat, futimens, mkdirat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::beneath::Beneath;
use super::declined::Declined;
use super::incoming::{IncomingFile, Place, Resume, set_attributes, timestamps, tolerant};
use super::names::{BadPath, MAX_PATH, check_link};
use super::part::{Part, take};
use super::walk::{self, Listing, NodeKind, Walk};
use crate::proto::stream::meta::{Meta, RESUMED};

/// Entries of one folder.
pub const MAX_ENTRIES: u64 = 1_000_000;

/// A folder on its way in. Dropped, it leaves its part.
#[derive(Debug)]
pub struct IncomingFolder {
    /// Its name, as its sender has it.
    pub name: String,
    part: Part,
    tree: Beneath,
    offered: u64,
    /// Bytes in the files that are there.
    pub there: u64,
    /// Entries in it; none counts until it was said where the sender begins.
    entries: Option<u64>,
    /// The short file that came last, which may be incomplete, and is not offered.
    doubtful: Option<String>,
    /// The folder in it that the last entry went to, and its path.
    last: Option<(String, Arc<File>)>,
}

/// An entry on its way in, and its path below the folder.
#[derive(Debug)]
pub enum Entry {
    /// A regular file, which is a part of its own.
    File(IncomingFile, String),
    /// A symbolic link: its target so far, and its time.
    Link(Vec<u8>, Option<i64>, String),
    /// A folder, all of which has come: its mode and time.
    Folder(u32, Option<i64>, String),
}

impl IncomingFolder {
    /// Opens the part, or makes it, and says what is there.
    ///
    /// # Errors
    /// [`Declined::Busy`], [`Declined::Disk`].
    pub fn open(directory: &Beneath, part: Part, name: &str) -> Result<(Self, Resume), Declined> {
        let tree = open_part(directory, &part.name)?;
        touch(tree.directory())?;
        let Found { offer, there, doubtful } = found_in(&tree).unwrap_or_default();
        let (name, offered) = (name.to_owned(), offer.offset);
        let folder = Self { name, part, tree, offered, there, entries: None, doubtful, last: None };
        Ok((folder, offer))
    }

    /// The sender leaves out `count` entries: as many as were offered, or none.
    ///
    /// # Errors
    /// [`Declined::Order`] for any other; [`Declined::Disk`].
    pub fn start_at(&mut self, count: u64) -> Result<(), Declined> {
        if self.entries.is_some() || (count != 0 && count != self.offered) {
            return Err(Declined::Order);
        }
        if count == 0 {
            self.tree.empty()?;
            self.there = 0;
        } else if let Some(path) = &self.doubtful {
            let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
            unlinkat(self.tree.folder(above)?, last, AtFlags::empty())?;
        }
        self.entries = Some(count);
        Ok(())
    }

    /// One more entry is to come.
    ///
    /// # Errors
    /// [`Declined::Order`] before [`Self::start_at`]; [`Declined::NoRoom`] after [`MAX_ENTRIES`].
    pub fn count(&mut self) -> Result<(), Declined> {
        let entries = self.entries.as_mut().ok_or(Declined::Order)?;
        *entries += 1;
        if *entries > MAX_ENTRIES { Err(Declined::NoRoom) } else { Ok(()) }
    }

    /// Whether it was said where the sender begins.
    pub fn started(&self) -> bool {
        self.entries.is_some()
    }

    /// Puts a whole entry in its place; `directory` is where its part lies.
    ///
    /// # Errors
    /// [`Declined::Exists`], [`Declined::Name`], [`Declined::Length`], [`Declined::Disk`].
    pub fn put(&mut self, directory: &Beneath, entry: Entry) -> Result<(), Declined> {
        match entry {
            Entry::File(file, path) => self.put_file(directory, file, &path),
            Entry::Link(target, mtime, path) => self.put_link(&target, mtime, &path),
            Entry::Folder(mode, mtime, path) => {
                Ok(set_attributes(&self.tree.folder_made(&path)?, mode, mtime)?)
            }
        }
    }

    /// Makes the short file that `meta` describes at `path`.
    ///
    /// # Errors
    /// [`Declined::Exists`], [`Declined::Disk`].
    pub fn short_file(
        &mut self,
        path: &str,
        meta: &Meta,
        mode: u32,
        most: u64,
    ) -> Result<IncomingFile, Declined> {
        let (folder, last) = self.place(path)?;
        IncomingFile::within(folder, last, meta, mode, most)
    }

    /// The folder of `path`, made where it is missing, and the last part. Most often it is the one
    /// of the entry before.
    fn place<'p>(&mut self, path: &'p str) -> Result<(Arc<File>, &'p str), Declined> {
        let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
        match &self.last {
            Some((before, folder)) if before == above => Ok((Arc::clone(folder), last)),
            _ => {
                let folder = Arc::new(self.tree.folder_made(above)?);
                self.last = Some((above.to_owned(), Arc::clone(&folder)));
                Ok((folder, last))
            }
        }
    }

    fn put_file(&mut self, from: &Beneath, file: IncomingFile, path: &str) -> Result<(), Declined> {
        let (_file, Place::Part(part)) = file.complete()? else { return Ok(()) };
        let (folder, last) = self.place(path)?;
        match part.rename(from.directory(), &folder, last) {
            Err(Errno::EXIST) => {
                unlinkat(from.directory(), &part.name, AtFlags::empty())?;
                part.forget();
                Err(Declined::Exists)
            }
            result => Ok(result?),
        }
    }

    fn put_link(&mut self, target: &[u8], mtime: Option<i64>, path: &str) -> Result<(), Declined> {
        check_link(path, target)?;
        let (folder, last) = self.place(path)?;
        match symlinkat(target, &folder, last) {
            Err(Errno::EXIST) => return Err(Declined::Exists),
            result => result?,
        }
        if let Some(mtime) = mtime {
            // Few look at the time of a link, and some file systems have none.
            let _ = utimensat(&folder, last, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW);
        }
        Ok(())
    }

    /// All of it has come: gives it its mode, its time and, once the disk has everything, its name
    /// beneath `directory`, which it returns.
    ///
    /// # Errors
    /// [`Declined::Disk`]; [`Declined::Exists`] when every name is taken.
    pub fn land(self, directory: &File, mode: u32, mtime: Option<i64>) -> Result<String, Declined> {
        set_attributes(self.tree.directory(), mode, mtime)?;
        sync_all(self.tree.directory())?;
        self.part.land(directory)
    }

    /// Nothing goes on with it now: the part stays, unless it is empty.
    pub fn set_aside(self, directory: &File) {
        if unlinkat(directory, &self.part.name, AtFlags::REMOVEDIR).is_ok() {
            self.part.forget();
        }
    }
}

impl Entry {
    /// The next bytes of it.
    ///
    /// # Errors
    /// As [`IncomingFile::data`]; a folder has none.
    pub fn data(&mut self, piece: &[u8]) -> Result<(), Declined> {
        match self {
            Self::File(file, _) => file.data(piece),
            Self::Link(target, ..) if target.len() + piece.len() <= MAX_PATH => {
                target.extend_from_slice(piece);
                Ok(())
            }
            Self::Link(..) => Err(BadPath::TooLong.into()),
            Self::Folder(..) if piece.is_empty() => Ok(()),
            Self::Folder(..) => Err(Declined::Length),
        }
    }
}

/// The part, ours alone: a folder of mine that I can write to.
fn open_part(directory: &Beneath, name: &str) -> Result<Beneath, Declined> {
    match mkdirat(directory.directory(), name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let folder = directory.folder(name)?;
    take(&folder, Some((directory.directory(), name)))?;
    let stat = fstat(&folder)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Errno::EXIST.into());
    }
    // Its own mode may be on it already.
    tolerant(fchmod(&folder, Mode::RWXU))?;
    Ok(Beneath::new(folder).resolved_by(directory.resolution()))
}

/// Says that somebody goes on with it.
fn touch(folder: &File) -> rustix::io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    tolerant(futimens(folder, &Timestamps { last_access: now, last_modification: now }))
}

/// What is there of a folder.
struct Found {
    offer: Resume,
    /// Bytes in the files that are offered.
    there: u64,
    doubtful: Option<String>,
}

impl Default for Found {
    fn default() -> Self {
        Self { offer: Resume::nothing(), there: 0, doubtful: None }
    }
}

/// What is there: up to the last entry that is whole for certain. A folder is not, nor is the last
/// short file. Nothing if anything is there that we did not make.
fn found_in(tree: &Beneath) -> Option<Found> {
    let mut walk = Walk::new(tree.directory()).ok()?;
    let mut listing = Listing::default();
    let (mut all, mut before) = (Found::default(), None);
    while let Some(found) = walk.step().ok()? {
        let walk::Found::Node(node) = found else { return None };
        listing.add(&node);
        let is_file = node.kind == NodeKind::File;
        if node.kind == NodeKind::Folder {
            continue;
        }
        let doubtful = is_file && node.size <= RESUMED;
        let offer = Resume { offset: listing.count, hash: listing.finish() };
        let there = all.there + if is_file { node.size } else { 0 };
        before = Some(std::mem::replace(&mut all, Found { offer, there, doubtful: None }));
        if doubtful {
            all.doubtful = Some(node.path);
        }
    }
    match (&all.doubtful, before) {
        (Some(_), Some(before)) => Some(Found { doubtful: all.doubtful, ..before }),
        _ => Some(all),
    }
}

/// Waits until the disk has all that the file system of `folder` was given.
///
/// # Errors
/// What the system says.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn sync_all(folder: &File) -> rustix::io::Result<()> {
    match rustix::fs::syncfs(folder) {
        // Emulators and sandboxes. All file systems are more than is needed.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
            rustix::fs::sync();
            Ok(())
        }
        result => result,
    }
}

/// Waits until the disk has all that it was given.
///
/// # Errors
/// None: as its twin.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[allow(clippy::unnecessary_wraps)]
pub fn sync_all(_: &File) -> rustix::io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// What the type bits of a mode in META say an entry is.
pub fn type_of(mode: Option<u32>) -> FileType {
    FileType::from_raw_mode(mode.unwrap_or_default())
}

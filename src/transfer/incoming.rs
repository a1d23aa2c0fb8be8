//! One file on its way in: a part that grows, then gets its mode, its time and its name; or, if it
//! is short and its folder is a part, a file in that from the beginning.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, fchmod, fstat, ftruncate, futimens,
    openat, unlinkat,
};
use rustix::io::Errno;

use super::beneath::Beneath;
use super::declined::Declined;
use super::part::{Part, take};
use crate::crypto::prefix_hash::PrefixHash;
use crate::proto::stream::meta::Meta;

/// Where a receiver can go on: the offset and hash of RESUME.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Bytes of a file, or entries of a folder, that are there.
    pub offset: u64,
    /// BLAKE3 of those bytes, or of what these entries are.
    pub hash: [u8; 32],
}

impl Resume {
    /// Nothing is there.
    pub fn nothing() -> Self {
        Self { offset: 0, hash: PrefixHash::default().finish() }
    }
}

/// Where a file on its way in lies.
#[derive(Debug)]
pub enum Place {
    /// It is a part of its own.
    Part(Part),
    /// It has its name already, in a folder that is a part.
    Within(Arc<File>, String),
}

/// A file on its way in. Dropped, it leaves its part.
#[derive(Debug)]
pub struct IncomingFile {
    place: Place,
    file: File,
    size: Option<u64>,
    most: u64,
    mode: u32,
    mtime: Option<i64>,
    /// Bytes in the part.
    there: u64,
    /// It was said where the sender begins: before, nothing may come.
    started: bool,
    offered: u64,
}

impl IncomingFile {
    /// Opens the part, or makes it. What it offers, if META asks for that
    /// ([`Meta::asks_resume`]); else it begins anew. `most` is the most bytes it may get.
    ///
    /// # Errors
    /// [`Declined::Busy`], [`Declined::Disk`].
    pub fn open(
        directory: &Beneath,
        part: Part,
        meta: &Meta,
        mode: u32,
        most: u64,
    ) -> Result<(Self, Option<Resume>), Declined> {
        let (file, there) = open_part(directory, &part.name)?;
        let (size, mtime) = (meta.size, meta.mtime);
        let place = Place::Part(part);
        let mut incoming =
            Self { place, file, size, most, mode, mtime, there, started: false, offered: 0 };
        if !meta.asks_resume() {
            incoming.start_at(0)?;
            return Ok((incoming, None));
        }
        if there == 0 || there > most || size.is_none_or(|size| there > size) {
            return Ok((incoming, Some(Resume::nothing())));
        }
        let hash = PrefixHash::of(&mut incoming.file, there)?;
        incoming.offered = there;
        Ok((incoming, Some(Resume { offset: there, hash })))
    }

    /// Makes a file `name` in `folder`, which is beneath a part: it is gone on with by itself in no
    /// case.
    ///
    /// # Errors
    /// [`Declined::Exists`], [`Declined::Disk`].
    pub fn within(
        folder: Arc<File>,
        name: &str,
        meta: &Meta,
        mode: u32,
        most: u64,
    ) -> Result<Self, Declined> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&folder, name, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => return Err(Declined::Exists),
            result => File::from(result?),
        };
        let (size, mtime, place) = (meta.size, meta.mtime, Place::Within(folder, name.to_owned()));
        Ok(Self { place, file, size, most, mode, mtime, there: 0, started: true, offered: 0 })
    }

    /// The sender begins at `offset`: where it was offered to, or at 0.
    ///
    /// # Errors
    /// [`Declined::Order`] for any other, or the second time; [`Declined::Disk`].
    pub fn start_at(&mut self, offset: u64) -> Result<(), Declined> {
        if self.started || (offset != 0 && offset != self.offered) {
            return Err(Declined::Order);
        }
        // Hashing left the file where its part ends.
        if offset != self.there {
            ftruncate(&self.file, offset)?;
            self.file.seek(SeekFrom::Start(offset))?;
        }
        (self.there, self.started) = (offset, true);
        Ok(())
    }

    /// The next bytes.
    ///
    /// # Errors
    /// [`Declined::TooLarge`], [`Declined::Length`], [`Declined::Order`], [`Declined::NoRoom`],
    /// [`Declined::Disk`].
    pub fn data(&mut self, piece: &[u8]) -> Result<(), Declined> {
        if !self.started {
            return Err(Declined::Order);
        }
        let written = self.there + piece.len() as u64;
        if self.size.is_some_and(|size| written > size) {
            return Err(Declined::Length);
        }
        if written > self.most {
            return Err(Declined::TooLarge(self.most));
        }
        self.file.write_all(piece)?;
        self.there = written;
        Ok(())
    }

    /// Nothing goes on with it now: the part stays, unless it is empty.
    pub fn set_aside(self, directory: &Beneath) {
        // If it cannot be removed it is swept one day.
        let _ = match self.place {
            Place::Part(part) if self.there == 0 => {
                part.forget();
                unlinkat(directory.directory(), &part.name, AtFlags::empty())
            }
            Place::Part(_) => Ok(()),
            Place::Within(folder, name) => unlinkat(folder, &name, AtFlags::empty()),
        };
    }

    /// All bytes are there: gives it its mode and time. Returns the open file and where it is.
    ///
    /// # Errors
    /// [`Declined::Length`], [`Declined::Disk`]; a part stays, a file in its folder does not.
    pub fn complete(self) -> Result<(File, Place), Declined> {
        match self.check_whole() {
            Ok(()) => Ok((self.file, self.place)),
            Err(why) => {
                if let Place::Within(folder, name) = self.place {
                    let _ = unlinkat(folder, &name, AtFlags::empty());
                }
                Err(why)
            }
        }
    }

    fn check_whole(&self) -> Result<(), Declined> {
        if !self.started {
            return Err(Declined::Order);
        }
        if self.size.is_some_and(|size| self.there != size) {
            return Err(Declined::Length);
        }
        // Somebody may have removed it, with its folder or without.
        if matches!(self.place, Place::Within(..)) && fstat(&self.file)?.st_nlink == 0 {
            return Err(Errno::NOENT.into());
        }
        Ok(set_attributes(&self.file, self.mode, self.mtime)?)
    }
}

/// The part, ours alone, and its length. It is mine, a regular file and has no other name, or it is
/// declined.
fn open_part(directory: &Beneath, name: &str) -> Result<(File, u64), Declined> {
    let mode = Mode::RUSR | Mode::WUSR;
    // NONBLOCK: a FIFO that somebody put there must not hang us.
    let flags = OFlags::RDWR | OFlags::NONBLOCK;
    let made = || directory.file(name, flags | OFlags::CREATE | OFlags::EXCL, mode);
    let file = match made() {
        Err(Errno::EXIST) => match directory.file(name, flags, Mode::empty()) {
            // Its mode was on it already, and then came a kill.
            Err(Errno::ACCESS) if writable_again(directory, name).is_ok() => {
                directory.file(name, flags, Mode::empty())?
            }
            Err(Errno::ACCESS) => {
                unlinkat(directory.directory(), name, AtFlags::empty())?;
                made()?
            }
            result => result?,
        },
        result => {
            let file = result?;
            take(&file, None)?;
            return Ok((file, 0));
        }
    };
    take(&file, Some((directory.directory(), name)))?;
    let stat = fstat(&file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || stat.st_nlink != 1 || stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Errno::EXIST.into());
    }
    Ok((file, stat.st_size as u64))
}

fn writable_again(directory: &Beneath, name: &str) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    fchmod(directory.file(name, flags, Mode::empty())?, Mode::RUSR | Mode::WUSR)
}

/// Mode and modification time (Unix ms), as far as the file system has such things.
///
/// # Errors
/// What the system says.
pub fn set_attributes(file: &File, mode: u32, mtime: Option<i64>) -> rustix::io::Result<()> {
    tolerant(fchmod(file, Mode::from_raw_mode(mode)))?;
    let Some(mtime) = mtime else { return Ok(()) };
    tolerant(futimens(file, &timestamps(mtime)))
}

/// `mtime` (Unix ms) as access and modification time.
pub fn timestamps(mtime: i64) -> Timestamps {
    let time =
        Timespec { tv_sec: mtime.div_euclid(1000), tv_nsec: mtime.rem_euclid(1000) * 1_000_000 };
    Timestamps { last_access: time, last_modification: time }
}

/// A file system or a sandbox without modes, or a time that it cannot write down, loses nothing of the
/// file.
///
/// # Errors
/// What else `result` says.
pub fn tolerant(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::OVERFLOW | Errno::NOSYS) => {
            Ok(())
        }
        result => result,
    }
}

//! A directory that is opened once, and what lies beneath it: no path, link or race leads out.
//!
//! Linux checks that itself (`openat2`, RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS). Where it is
//! refused, as by the sandbox of Android or an old kernel, each part of a path is opened on its own
//! with `O_NOFOLLOW`: a link is an error there too, and `..` is no name that comes in.

use std::fs::File;
use std::path::Path;

#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::fs::ResolveFlags;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fchmod, mkdirat, openat, unlinkat};
use rustix::io::{Errno, Result};

use super::names::MAX_DEPTH;

/// How a folder on the way to something is opened.
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Folders within each other that are removed; more is nothing that came from here.
const MAX_REMOVED: usize = 2 * MAX_DEPTH;

/// Who makes sure that a path stays beneath the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The kernel.
    Kernel,
    /// We, part by part.
    Walk,
}

/// A directory, and how paths beneath it are resolved. Paths are parts between slashes.
#[derive(Debug)]
pub struct Beneath {
    directory: File,
    resolution: Resolution,
}

impl Beneath {
    /// Opens `directory`, through links if the user says so. The kernel resolves if it can.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::open(directory, flags, Mode::empty())?);
        Ok(Self::new(directory))
    }

    /// What lies beneath a directory that is open.
    pub fn new(directory: File) -> Self {
        let mut beneath = Self { directory, resolution: Resolution::Kernel };
        if let Err(Errno::NOSYS | Errno::PERM) = beneath.by_kernel(".", FOLDER, Mode::empty()) {
            beneath.resolution = Resolution::Walk;
        }
        beneath
    }

    /// The same, resolved as told.
    pub fn resolved_by(mut self, resolution: Resolution) -> Self {
        self.resolution = resolution;
        self
    }

    /// Who resolves.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// The directory itself.
    pub fn directory(&self) -> &File {
        &self.directory
    }

    /// Opens what is at `path`, which is no link and behind none.
    ///
    /// # Errors
    /// What the system says: `ELOOP` or `ENOTDIR` for a link.
    pub fn file(&self, path: &str, flags: OFlags, mode: Mode) -> Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self.resolution {
            Resolution::Kernel => self.by_kernel(path, flags, mode),
            Resolution::Walk => self.by_walking(path, flags, mode),
        }
    }

    /// Opens the folder at `path`; the directory itself if that is empty.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn folder(&self, path: &str) -> Result<File> {
        self.file(if path.is_empty() { "." } else { path }, FOLDER, Mode::empty())
    }

    /// Opens the folder at `path`, and makes it and those above it where they are missing: for me
    /// alone (0700) until their own modes are known.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn folder_made(&self, path: &str) -> Result<File> {
        match self.folder(path) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let mut folder = self.folder("")?;
        for part in path.split('/') {
            match mkdirat(&folder, part, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            folder = File::from(openat(&folder, part, FOLDER, Mode::empty())?);
        }
        Ok(folder)
    }

    /// Removes all that is in the directory, and follows no link.
    ///
    /// # Errors
    /// What the system says.
    pub fn empty(&self) -> Result<()> {
        empty(&self.directory, MAX_REMOVED)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn by_kernel(&self, path: &str, flags: OFlags, mode: Mode) -> Result<File> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.directory, path, flags, mode, resolve).map(File::from)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn by_kernel(&self, _: &str, _: OFlags, _: Mode) -> Result<File> {
        Err(Errno::NOSYS)
    }

    fn by_walking(&self, path: &str, flags: OFlags, mode: Mode) -> Result<File> {
        if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(Errno::XDEV);
        }
        let Some((above, last)) = path.rsplit_once('/') else {
            return openat(&self.directory, path, flags, mode).map(File::from);
        };
        let mut folder = None;
        for part in above.split('/') {
            let next = match &folder {
                None => openat(&self.directory, part, FOLDER, Mode::empty()),
                Some(folder) => openat(folder, part, FOLDER, Mode::empty()),
            };
            folder = Some(next?);
        }
        let folder = folder.ok_or(Errno::NOENT)?;
        openat(folder, last, flags, mode).map(File::from)
    }
}

fn empty(folder: &File, depth: usize) -> Result<()> {
    // Its mode may let nobody change it.
    fchmod(folder, Mode::RWXU)?;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
            result => {
                result?;
                continue;
            }
        }
        empty(&File::from(openat(folder, name, FOLDER, Mode::empty())?), depth - 1)?;
        unlinkat(folder, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

//! Files that programs keep and that nobody else may get at: a history, a state.
//!
//! What is checked is what was opened, so that nobody can swap it in between.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};
use rustix::io::Errno;

/// Mode bits that let anybody but the owner at a file.
const OTHERS: u32 = 0o077;
/// Those that let them change it.
const OTHERS_WRITE: u32 = 0o022;

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPrivate {
    /// It cannot be opened.
    System(Errno),
    /// It is a symbolic link itself: what it leads to is somebody else's choice.
    SymbolicLink,
    /// It is no regular file.
    NotAFile,
    /// Others may read or write it: the lowest nine bits of its mode.
    TooOpen(u32),
    /// It belongs neither to this user nor to root.
    NotMine,
}

impl fmt::Display for NotPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => write!(f, "{}", std::io::Error::from(*errno)),
            Self::SymbolicLink => f.write_str("is a symbolic link"),
            Self::NotAFile => f.write_str("is not a regular file"),
            Self::TooOpen(mode) => write!(f, "mode {mode:04o} lets others at it"),
            Self::NotMine => f.write_str("belongs to somebody else"),
        }
    }
}

impl From<Errno> for NotPrivate {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<NotPrivate> for std::io::Error {
    fn from(why: NotPrivate) -> Self {
        match why {
            NotPrivate::System(errno) => errno.into(),
            NotPrivate::TooOpen(_) => Self::other(format!("{why}: make it 0600")),
            other => Self::other(other.to_string()),
        }
    }
}

/// Opens `path` for appending; `access` says whether it is read as well. A file that is not there is
/// made, for nobody else to read (mode 0600).
///
/// # Errors
/// [`NotPrivate`].
pub fn open_to_append(path: &Path, access: OFlags) -> Result<(OwnedFd, Stat), NotPrivate> {
    let opened = open(path, access | OFlags::APPEND | OFlags::CREATE)?;
    check(&opened.1, OTHERS)?;
    Ok(opened)
}

/// As [`open_to_append`], for reading as well, and for what may also be a device that keeps nothing, such
/// as `/dev/null`: that may be anybody's. `true`: it is a file.
///
/// # Errors
/// [`NotPrivate`].
pub fn open_to_append_or_device(path: &Path) -> Result<(OwnedFd, bool), NotPrivate> {
    let (fd, stat) = open(path, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if device && !rustix::termios::isatty(&fd) {
        return Ok((fd, false));
    }
    check(&stat, OTHERS)?;
    Ok((fd, true))
}

/// Opens the file at `path` for reading: others may read it, as a copy from elsewhere, and not change it.
///
/// # Errors
/// [`NotPrivate`].
pub fn open_to_read(path: &Path) -> Result<OwnedFd, NotPrivate> {
    let (fd, stat) = open(path, OFlags::RDONLY)?;
    check(&stat, OTHERS_WRITE)?;
    Ok(fd)
}

fn open(path: &Path, flags: OFlags) -> Result<(OwnedFd, Stat), NotPrivate> {
    // NONBLOCK: a FIFO must not hang us. NOFOLLOW: whoever can write to the directory would have us
    // write where we may and they may not.
    let always = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags | always, Mode::RUSR | Mode::WUSR);
    let fd = fd.map_err(|errno| match errno {
        Errno::LOOP => NotPrivate::SymbolicLink,
        // A FIFO that nobody reads, a socket.
        Errno::NXIO => NotPrivate::NotAFile,
        other => NotPrivate::System(other),
    })?;
    let stat = fstat(&fd)?;
    Ok((fd, stat))
}

fn check(stat: &Stat, forbidden: u32) -> Result<(), NotPrivate> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(NotPrivate::NotAFile);
    }
    if stat.st_mode & forbidden != 0 {
        return Err(NotPrivate::TooOpen(stat.st_mode & 0o777));
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(NotPrivate::NotMine);
    }
    Ok(())
}

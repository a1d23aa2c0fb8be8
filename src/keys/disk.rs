//! Key files on disk: read without trusting what lies there, written so that a crash or a second
//! program never leaves half a file or takes another's place.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::crypto::sodium::random;

use super::error::{KeyError, KeyErrorKind};
use super::file::KeyFile;
use super::wiped::Wiped;

/// Largest key file, in bytes.
pub const MAX_FILE_LEN: usize = 64 * 1024;
/// Mode bits that let anybody but the owner at a file.
const OTHERS: u32 = 0o077;

/// Reads a key file of any kind, in either form. A secret or group key file must be mine (or
/// root's) and closed to others; whichever it is, it must be a regular file and no symbolic link.
/// What is checked is what was opened, so nobody can swap it in between.
///
/// # Errors
/// [`KeyError`].
pub fn read(path: &Path) -> Result<KeyFile, KeyError> {
    read_checked(path).map_err(|kind| kind.at(path))
}

fn read_checked(path: &Path) -> Result<KeyFile, KeyErrorKind> {
    let (fd, stat) = open_regular(path)?;
    let text = read_bounded(File::from(fd), stat.st_size as usize)?;
    let file = KeyFile::parse(&text)?;
    if let KeyFile::Keyed(_) = file {
        check_private(&stat)?;
    }
    Ok(file)
}

/// Reads a key file from a stream, such as stdin, that has no mode to check.
///
/// # Errors
/// What is wrong with it; [`KeyErrorKind::TooLarge`] after [`MAX_FILE_LEN`] bytes.
pub fn read_stream(stream: impl io::Read) -> Result<KeyFile, KeyErrorKind> {
    KeyFile::parse(&read_bounded(stream, MAX_FILE_LEN)?)
}

fn open_regular(path: &Path) -> Result<(OwnedFd, Stat), KeyErrorKind> {
    // NONBLOCK: a FIFO must not hang us. NOFOLLOW: a link may point to where others can write.
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => KeyErrorKind::Missing,
        Errno::LOOP => KeyErrorKind::SymbolicLink,
        Errno::NXIO => KeyErrorKind::NotAFile("a socket or a device"),
        other => unreadable(other.into()),
    })?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| unreadable(e.into()))?;
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_size as u64 > MAX_FILE_LEN as u64 => {
            return Err(KeyErrorKind::TooLarge);
        }
        FileType::RegularFile => return Ok((fd, stat)),
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        _ => "a device",
    };
    Err(KeyErrorKind::NotAFile(what))
}

fn check_private(stat: &Stat) -> Result<(), KeyErrorKind> {
    if stat.st_mode & OTHERS != 0 {
        return Err(KeyErrorKind::TooOpen(stat.st_mode));
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(KeyErrorKind::NotMine(stat.st_uid));
    }
    Ok(())
}

/// Everything in `stream`, at most [`MAX_FILE_LEN`] bytes; `expected` of them without a second
/// allocation of the whole bound.
fn read_bounded(mut stream: impl io::Read, expected: usize) -> Result<Wiped, KeyErrorKind> {
    // One byte more tells a file that grew, or a stream that goes on.
    let mut text = Wiped::zeroed(expected.min(MAX_FILE_LEN) + 1);
    let mut len = 0;
    while len < text.len() {
        match stream.read(&mut text.as_mut_slice()[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
    if len > expected {
        return Err(KeyErrorKind::TooLarge);
    }
    text.truncate(len);
    Ok(text)
}

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Mode 0600.
    Owner,
    /// Mode 0644, less what the umask takes away.
    Everybody,
}

/// What to do with a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and writing fails.
    Keep,
    /// It is replaced, at once and whole.
    Replace,
}

/// Writes a key file whole or not at all: a temporary file in the same directory, synced, renamed,
/// and the directory synced.
///
/// # Errors
/// [`KeyErrorKind::Exists`], [`KeyErrorKind::CannotWrite`].
pub fn write(
    path: &Path,
    text: &[u8],
    audience: Audience,
    existing: Existing,
) -> Result<(), KeyError> {
    let fail = |e: io::Error| match e.kind() {
        io::ErrorKind::AlreadyExists => KeyErrorKind::Exists.at(path),
        _ => KeyErrorKind::CannotWrite(reason(e)).at(path),
    };
    let Some(name) = path.file_name() else {
        return Err(KeyErrorKind::CannotWrite("it is not a file name".into()).at(path));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{:016x}.tmp", u64::from_be_bytes(random())));
    let temporary = path.with_file_name(hidden);
    let written = write_synced(&temporary, text, audience)
        .and_then(|()| rename(&temporary, path, existing))
        .and_then(|()| sync_directory(path));
    if written.is_err() {
        // After a successful rename there is nothing left under this name.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(fail)
}

fn write_synced(temporary: &Path, text: &[u8], audience: Audience) -> io::Result<()> {
    let mode = match audience {
        Audience::Owner => Mode::RUSR | Mode::WUSR,
        Audience::Everybody => Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH,
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(temporary, flags, mode)?);
    file.write_all(text)?;
    file.sync_all()
}

fn rename(temporary: &Path, path: &Path, existing: Existing) -> io::Result<()> {
    if existing == Existing::Replace {
        return std::fs::rename(temporary, path);
    }
    match rustix::fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        // Some file systems and sandboxes cannot; a second name does not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
            rustix::fs::linkat(CWD, temporary, CWD, path, AtFlags::empty())?;
            std::fs::remove_file(temporary)
        }
        result => Ok(result?),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

/// Makes `directory` and what is missing above it, each for me alone (0700).
///
/// # Errors
/// [`KeyErrorKind::CannotWrite`].
pub fn make_directory(directory: &Path) -> Result<(), KeyError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|e| KeyErrorKind::CannotWrite(reason(e)).at(PathBuf::from(directory)))
}

/// Why something cannot be read: it says nothing of the key if the system is short of something.
pub(super) fn unreadable(error: io::Error) -> KeyErrorKind {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    match short.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        true => KeyErrorKind::NoResources(reason(error)),
        false => KeyErrorKind::CannotRead(reason(error)),
    }
}

/// An error of the system as part of a sentence: lower case, without its number.
pub(super) fn reason(error: io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

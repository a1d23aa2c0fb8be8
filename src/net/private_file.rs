//! Files that grow while a program runs and that nobody else may read: a history, a state.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

/// Mode bits that let anybody but the owner at a file.
const OTHERS: u32 = 0o077;

/// Who else could get at a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposed {
    /// Those whom its mode lets: the lowest nine bits of it.
    Mode(u32),
    /// Its owner.
    Owner,
}

/// Opens `path` for appending; `access` says whether it is read as well. A file that is not there is
/// made, for nobody else to read (mode 0600). What it is, and whose, is still to be looked at.
///
/// # Errors
/// What the system says.
pub fn open(path: &Path, access: OFlags) -> Result<OwnedFd, Errno> {
    // NONBLOCK: a FIFO without a reader must not hang us.
    let flags =
        OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open(path, access | flags, Mode::RUSR | Mode::WUSR)
}

/// Whether nobody but this user, or root, can get at the file.
///
/// # Errors
/// Who else can.
pub fn check(stat: &Stat) -> Result<(), Exposed> {
    if stat.st_mode & OTHERS != 0 {
        return Err(Exposed::Mode(stat.st_mode & 0o777));
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Exposed::Owner);
    }
    Ok(())
}

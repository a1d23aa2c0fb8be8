//! The file that entries are appended to, by several programs at once.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, fstat, ftruncate};
use rustix::io::{Errno, retry_on_intr};

/// Mode bits that let anybody but the owner at a file.
const OTHERS: u32 = 0o077;

/// A history opened for appending. Each write holds the file's lock, and is there as a whole or,
/// after an error, not at all.
pub struct Appending {
    file: File,
    regular: bool,
}

impl Appending {
    /// Opens `path`; a file that is not there is made, for nobody else to read (mode 0600).
    ///
    /// # Errors
    /// What the system says; a file that others may read or write, or that is somebody else's; and
    /// what is neither a file nor a device.
    pub fn open(path: &Path) -> io::Result<Self> {
        // NONBLOCK: a FIFO without a reader must not hang us.
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NONBLOCK
            | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = fstat(&fd)?;
        let regular = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => true,
            FileType::CharacterDevice if !rustix::termios::isatty(&fd) => false,
            _ => return Err(io::Error::other("is not a regular file")),
        };
        if regular && stat.st_mode & OTHERS != 0 {
            let mode = stat.st_mode & 0o777;
            return Err(io::Error::other(format!(
                "mode {mode:04o} lets others at it: make it 0600"
            )));
        }
        if regular && stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("belongs to somebody else"));
        }
        Ok(Self { file: File::from(fd), regular })
    }

    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let before = fstat(&self.file)?.st_size;
        let written = self.file.write_all(entries);
        if written.is_err() && self.regular {
            // If that fails too, a reader passes over what is torn.
            let _ = ftruncate(&self.file, before as u64);
        }
        written
    }
}

impl Write for Appending {
    /// Whole entries, all of them.
    fn write(&mut self, entries: &[u8]) -> io::Result<usize> {
        lock(&self.file, FlockOperation::LockExclusive)?;
        let appended = self.append(entries);
        lock(&self.file, FlockOperation::Unlock)?;
        appended.map(|()| entries.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Locks or unlocks the file; waits for whoever holds the lock.
///
/// # Errors
/// What the system says, interruption by a signal excepted.
pub fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::flock(file, operation))
}

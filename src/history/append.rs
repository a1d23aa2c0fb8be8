//! The file that entries are appended to, by several programs at once.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{FileType, FlockOperation, OFlags, fstat, ftruncate};
use rustix::io::{Errno, retry_on_intr};

use crate::net::private_file::{self, Exposed};

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
        let fd = private_file::open(path, OFlags::WRONLY)?;
        let stat = fstat(&fd)?;
        let regular = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => true,
            FileType::CharacterDevice if !rustix::termios::isatty(&fd) => false,
            _ => return Err(io::Error::other("is not a regular file")),
        };
        if regular {
            private_file::check(&stat).map_err(|exposed| match exposed {
                Exposed::Mode(mode) => {
                    io::Error::other(format!("mode {mode:04o} lets others at it: make it 0600"))
                }
                Exposed::Owner => io::Error::other("belongs to somebody else"),
            })?;
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

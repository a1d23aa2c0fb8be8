//! The file that entries are appended to, by several programs at once.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, fstat, ftruncate};
use rustix::io::{Errno, retry_on_intr};

use super::entry::SYNC;
use crate::net::private_file;

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
    /// What the system says, and what [`private_file`] refuses; a device is nobody's. A file that begins
    /// with anything but an entry: it is something else, and would be spoilt.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (fd, regular) = private_file::open_to_append_or_device(path)?;
        let file = File::from(fd);
        if regular && !begins_with_an_entry(&file)? {
            return Err(io::Error::other(
                "is no history: name one, or a file that is not there yet",
            ));
        }
        Ok(Self { file, regular })
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

/// Whether the file is empty or begins as an entry does, which may be torn.
fn begins_with_an_entry(file: &File) -> io::Result<bool> {
    let mut start = [0; SYNC.len()];
    let mut len = 0;
    while len < start.len() {
        match file.read_at(&mut start[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(start[..len] == SYNC[..len])
}

/// Locks or unlocks the file; waits for whoever holds the lock.
///
/// # Errors
/// What the system says, interruption by a signal excepted.
pub fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::flock(file, operation))
}

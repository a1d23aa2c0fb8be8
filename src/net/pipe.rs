//! A pipe between two sockets: bytes go through it without being copied (`splice`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// How much it takes at once, in bytes, if the system gives so much.
const ROOM: usize = 256 * 1024;

/// Whether the error says that this system has no splice(2), or not for this: some emulators and
/// sandboxes.
pub fn is_no_splice(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    [Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM, Errno::INVAL]
        .iter()
        .any(|errno| raw == Some(errno.raw_os_error()))
}

/// A pipe, and how much is in it.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty one.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // With less room it takes more turns, and nothing else is different.
        let _ = fcntl_setpipe_size(&write, ROOM);
        Ok(Self { read, write, held: 0 })
    }

    /// How much is in it, in bytes.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes what `from` has, `most` bytes at most, if it is empty: then it has room for something.
    ///
    /// # Errors
    /// What the system says.
    pub fn fill(&mut self, from: impl AsFd, most: usize) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let n = splice(from, None, &self.write, None, most.min(ROOM), flags)?;
        self.held += n;
        Ok(n)
    }

    /// Hands what it has to `to`.
    ///
    /// # Errors
    /// What the system says.
    pub fn empty(&mut self, to: impl AsFd) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let n = splice(&self.read, None, to, None, self.held, flags)?;
        self.held -= n;
        Ok(n)
    }
}

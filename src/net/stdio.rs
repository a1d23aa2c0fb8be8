//! What kind of thing an inherited descriptor is, and how to use it without waiting.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

use mio::Interest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat, major};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};
use rustix::pipe::fcntl_setpipe_size;

use super::hub::Bell;

/// The major number of Linux's memory devices: null, zero, full, random.
const MEMORY_DEVICES: u32 = 1;

/// Whether reading and writing it never waits for another process: a regular file, `/dev/null` and
/// its kin. epoll refuses these, too.
pub(super) fn never_waits(file: &File) -> bool {
    let Ok(stat) = fstat(file.as_fd()) else { return false };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => true,
        FileType::CharacterDevice => major(stat.st_rdev) == MEMORY_DEVICES,
        // Reading it fails at once, which is an error to report and not to wait for.
        FileType::Directory => true,
        _ => false,
    }
}

/// Waits until the descriptor is ready `for_what`. Whoever shares a pipe or terminal with us may
/// have made it non-blocking, and that holds for all who have it.
pub(super) fn wait(file: &File, for_what: PollFlags) {
    // What is wrong with it the next read or write says.
    let _ = poll(&mut [PollFd::new(file, for_what)], None);
}

/// What a pipe in bulk is made to hold, in bytes: as much as Linux grants everybody. The fewer times
/// its two ends take turns, the faster it is.
const PIPE_ROOM: usize = 1024 * 1024;
/// A stream in bulk is longer than this, in bytes. What is in a pipe counts as handed over: of
/// messages no more than before should be in doubt when a reader dies.
const BEFORE_GROWTH: u64 = 4 * 1024 * 1024;

/// A pipe or a socket that is read or written in the loop and never waited for, while others who
/// share it may wait: `RWF_NOWAIT` (preadv2(2)) holds for one call, and `O_NONBLOCK` for everybody.
pub(super) struct Prompt {
    file: File,
    bell: Bell,
    /// Bytes until it is made larger, if it still is to be.
    before_growth: Option<u64>,
}

impl Prompt {
    /// `file`, whose news ring `bell`; or `file` back, if it is something else.
    pub fn new(file: File, bell: &Bell, interest: Interest) -> Result<Self, File> {
        let kind = fstat(file.as_fd()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if !matches!(kind, Ok(FileType::Fifo | FileType::Socket))
            || bell.watch(file.as_raw_fd(), interest).is_err()
        {
            return Err(file);
        }
        Ok(Self { file, bell: bell.clone(), before_growth: Some(BEFORE_GROWTH) })
    }

    /// Reads what is there. [`io::ErrorKind::WouldBlock`]: the bell tells when there is something.
    ///
    /// # Errors
    /// What the system says; see [`is_never_prompt`].
    pub fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let n = self.retry(PollFlags::IN, |file| {
            preadv2(file, &mut [IoSliceMut::new(space)], CURRENT, ReadWriteFlags::NOWAIT)
        })?;
        self.passed(n);
        Ok(n)
    }

    /// Writes what it takes. [`io::ErrorKind::WouldBlock`]: the bell tells when it takes something.
    ///
    /// # Errors
    /// What the system says; see [`is_never_prompt`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.retry(PollFlags::OUT, |file| {
            pwritev2(file, &[IoSlice::new(bytes)], CURRENT, ReadWriteFlags::NOWAIT)
        })?;
        self.passed(n);
        Ok(n)
    }

    /// Calls until it is done, or has to wait. Linux says EAGAIN, too, while the other end of a pipe
    /// is at work in it; no edge follows that, since there was no need to wait.
    fn retry<T>(
        &self,
        for_what: PollFlags,
        mut call: impl FnMut(&File) -> Result<T, Errno>,
    ) -> io::Result<T> {
        loop {
            match call(&self.file) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if is_ready(&self.file, for_what, 0) => {}
                other => return Ok(other?),
            }
        }
    }

    fn passed(&mut self, bytes: usize) {
        let Some(left) = self.before_growth else { return };
        self.before_growth = left.checked_sub(bytes as u64);
        if self.before_growth.is_none() {
            // With less room it takes more turns, and nothing else is different.
            let _ = fcntl_setpipe_size(&self.file, PIPE_ROOM);
        }
    }

    /// Waits until it takes something, or for so many milliseconds.
    pub fn wait_for_room(&self, ms: u64) {
        // What is wrong with it the next write says.
        is_ready(&self.file, PollFlags::OUT, ms);
    }

    /// What its news ring.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// The same for a thread that waits for it.
    pub fn to_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.bell.ignore(self.file.as_raw_fd());
    }
}

/// Whether the file is ready `for_what` within so many milliseconds.
fn is_ready(file: &File, for_what: PollFlags, ms: u64) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: (ms * 1_000_000) as _ };
    poll(&mut [PollFd::new(file, for_what)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Where preadv2(2) begins in what has no places.
const CURRENT: u64 = u64::MAX;

/// Whether the error says that this kind of file cannot be used without waiting: a FIFO with a name,
/// or a Linux before 6.4.
pub(super) fn is_never_prompt(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}

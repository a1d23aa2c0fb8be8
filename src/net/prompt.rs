//! A pipe or a socket, used in the loop without ever being waited for, and what it has not taken yet.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use mio::Interest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ReadWriteFlags, ioctl_fionbio, ioctl_fionread, preadv2, pwritev2};
use rustix::pipe::fcntl_setpipe_size;

use super::hub::Bell;
use crate::proto::stream::outgoing::Outgoing;

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
    /// Nobody shares it, and it is `O_NONBLOCK`: so it is read on systems without preadv2(2), too.
    ours: bool,
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
        Ok(Self { file, ours: false, bell: bell.clone(), before_growth: Some(BEFORE_GROWTH) })
    }

    /// The same for the reading end of a pipe that nobody shares.
    pub fn ours(file: File, bell: &Bell) -> Result<Self, File> {
        let mut prompt = Self::new(file, bell, Interest::READABLE)?;
        prompt.ours = ioctl_fionbio(&prompt.file, true).is_ok();
        Ok(prompt)
    }

    /// How much is in the pipe, in bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn len(&self) -> io::Result<usize> {
        Ok(ioctl_fionread(&self.file)? as usize)
    }

    /// Reads what is there. [`io::ErrorKind::WouldBlock`]: the bell tells when there is something.
    ///
    /// # Errors
    /// What the system says; see [`is_never_prompt`].
    pub fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let ours = self.ours;
        let n = self.retry(PollFlags::IN, |mut file| match ours {
            true => file.read(space),
            false => {
                let space = &mut [IoSliceMut::new(space)];
                Ok(preadv2(file, space, CURRENT, ReadWriteFlags::NOWAIT)?)
            }
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
            Ok(pwritev2(file, &[IoSlice::new(bytes)], CURRENT, ReadWriteFlags::NOWAIT)?)
        })?;
        self.passed(n);
        Ok(n)
    }

    /// Calls until it is done, or has to wait. Linux says EAGAIN, too, while the other end of a pipe
    /// is at work in it; no edge follows that, since there was no need to wait.
    fn retry<T>(
        &self,
        for_what: PollFlags,
        mut call: impl FnMut(&File) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match call(&self.file).map_err(|e| (e.kind(), e)) {
                Err((io::ErrorKind::Interrupted, _)) => {}
                Err((io::ErrorKind::WouldBlock, _)) if is_ready(&self.file, for_what, 0) => {}
                other => return other.map_err(|(_, e)| e),
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

/// It takes more while less than this waits for it, in bytes.
pub(super) const WAITING: usize = 256 * 1024;

/// Where preadv2(2) begins in what has no places.
const CURRENT: u64 = u64::MAX;

/// Whether the error says that this file cannot be used without waiting: a FIFO with a name, a Linux
/// before 6.4 (EOPNOTSUPP), an emulator or a sandbox without these calls (ENOSYS; EPERM or EINVAL of
/// some). Who then waits for it in a thread, by calls that every system has, hears of all other faults.
pub(super) fn is_never_prompt(error: &io::Error) -> bool {
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::PERM, Errno::INVAL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A pipe or socket, and what it has not taken yet.
pub(super) struct Pending {
    prompt: Prompt,
    /// The same, to be watched for its other end.
    watched: File,
    waiting: Outgoing,
    /// How many ever came, and how many of them are out.
    came: u64,
    out: u64,
    marks: VecDeque<Mark>,
    /// The last ticket whose bytes are out.
    flushed: u64,
    failed: bool,
    error: Option<io::Error>,
    /// It can only be waited for: nothing is out yet.
    never_prompt: bool,
}

/// What is left for a thread to write.
pub(super) struct GivenUp {
    /// To where.
    pub file: io::Result<File>,
    /// Who wants to know of progress.
    pub bell: Bell,
    /// What.
    pub bytes: Vec<u8>,
    /// What is flushed with it.
    pub tickets: Vec<u64>,
}

/// A ticket, and how many bytes are before it.
struct Mark {
    ticket: u64,
    at: u64,
}

impl Pending {
    /// To `file`, whose news ring `bell`; or `file` back, if it is something else.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new(file: File, bell: &Bell) -> io::Result<Result<Self, File>> {
        let watched = file.try_clone()?;
        Ok(Prompt::new(file, bell, Interest::WRITABLE).map(|prompt| Self {
            prompt,
            watched,
            waiting: Outgoing::default(),
            came: 0,
            out: 0,
            marks: VecDeque::new(),
            flushed: 0,
            failed: false,
            error: None,
            never_prompt: false,
        }))
    }

    /// To be watched for its other end.
    pub fn watched(&self) -> RawFd {
        self.watched.as_raw_fd()
    }

    /// The last ticket whose bytes are out.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Whether it takes nothing any more.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Why, once.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Waits until it takes something, or for so many milliseconds.
    pub fn wait(&self, ms: u64) {
        // What is wrong with it the next write says.
        is_ready(&self.prompt.file, PollFlags::OUT, ms);
    }

    /// If it turned out that it can only be waited for: what is to be written to it, by whom it was
    /// never written to.
    pub fn given_up(&mut self) -> Option<GivenUp> {
        let bell = &self.prompt.bell;
        let taken = || (self.prompt.to_file(), bell.clone());
        let (file, bell) = self.never_prompt.then(taken)?;
        let tickets = self.marks.iter().map(|mark| mark.ticket).collect();
        Some(GivenUp { file, bell, bytes: self.waiting.pending().to_vec(), tickets })
    }

    /// It takes nothing any more.
    pub fn fail(&mut self, error: io::Error) {
        (self.failed, self.error) = (true, Some(error));
    }

    /// Whether it takes more now; if not, the bell tells when.
    pub fn has_room(&self) -> bool {
        self.waiting.pending().len() < WAITING
    }

    /// Writes what waits and then `bytes`; what is not taken waits. Rings if somebody may have waited
    /// for what came of that.
    pub fn write(&mut self, bytes: &[u8]) {
        let (had_room, had_failed) = (self.has_room(), self.failed);
        self.write_on(bytes);
        let news = self.has_room() != had_room || self.failed != had_failed;
        if self.settle() || news {
            self.prompt.bell.ring();
        }
    }

    fn write_on(&mut self, bytes: &[u8]) {
        self.came += bytes.len() as u64;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.consumed(self.put(waiting.pending()));
        let taken = if waiting.pending().is_empty() { self.put(bytes) } else { 0 };
        let rest = &bytes[taken..];
        waiting.room(rest.len()).copy_from_slice(rest);
        self.waiting = waiting;
    }

    /// How many of `bytes` it takes now.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && !self.failed && !self.never_prompt {
            match self.prompt.write(&bytes[taken..]) {
                Ok(n) => taken += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if is_never_prompt(&e) => self.never_prompt = true,
                Err(e) => self.fail(e),
            }
        }
        self.out += taken as u64;
        taken
    }

    /// The ticket is flushed once all bytes so far are out.
    pub fn mark(&mut self, ticket: u64) {
        self.marks.push_back(Mark { ticket, at: self.came });
        self.settle();
    }

    /// Whether tickets are flushed that were not.
    fn settle(&mut self) -> bool {
        let before = self.flushed;
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.at <= self.out) {
            self.flushed = mark.ticket;
        }
        self.flushed > before
    }
}

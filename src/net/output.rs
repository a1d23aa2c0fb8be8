//! Where messages go: stdout, without ever waiting for it in the loop, and with every error kept
//! until it is asked for.
//!
//! Files are written where they stand; a thread waits for everything else, but for a stream that goes
//! to a pipe or a socket: that is written whenever it takes something.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::PollFlags;

use super::hub::Bell;
use super::prompt::{Pending, WAITING};
use super::stdio::{never_waits, wait};
use crate::sched::mux::Ticket;

/// Whoever waits for an output looks this often for a signal, in milliseconds.
const MOMENT: u64 = 50;
/// What is gathered before it goes out on its own, in bytes.
const GATHERED: usize = 64 * 1024;

/// An output of any kind.
pub struct Output {
    way: Way,
    /// Not yet handed on: small writes become one.
    gathered: Vec<u8>,
    tickets: u64,
    written: u64,
}

enum Way {
    /// Written in the loop.
    Direct { file: File, error: Option<io::Error>, flushed: u64 },
    /// Written in the loop when it takes something.
    Prompt(Box<Pending>),
    /// Written by a thread.
    Threaded { shared: Arc<Shared>, watched: Option<File> },
}

impl Output {
    /// stdout.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated or a thread cannot be started.
    pub fn stdout(bell: Bell) -> io::Result<Self> {
        Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?), bell)
    }

    /// stdout, where a stream goes: its user calls [`Output::push`] in every turn of the loop.
    ///
    /// # Errors
    /// As [`Output::stdout`].
    pub fn stream(bell: &Bell) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(match Pending::new(file, bell)? {
            Err(file) => Self::new(file, bell.clone())?,
            Ok(pending) => Self::over(Way::Prompt(Box::new(pending))),
        })
    }

    /// stderr.
    ///
    /// # Errors
    /// As [`Output::stdout`].
    pub fn stderr(bell: Bell) -> io::Result<Self> {
        Self::new(File::from(io::stderr().as_fd().try_clone_to_owned()?), bell)
    }

    /// Any descriptor.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(file: File, bell: Bell) -> io::Result<Self> {
        let way = if never_waits(&file) {
            Way::Direct { file, error: None, flushed: 0 }
        } else {
            let watched = Some(file.try_clone()?);
            Way::Threaded { shared: Shared::start("stdout", Waiting(file), bell)?, watched }
        };
        Ok(Self::over(way))
    }

    /// Whatever takes bytes, written by a thread: what is given to one [`Output::write`] is never
    /// divided between two writes of `writer`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn by_thread(writer: impl Write + Send + 'static, bell: Bell) -> io::Result<Self> {
        let shared = Shared::start("writer", writer, bell)?;
        let way = Way::Threaded { shared, watched: None };
        Ok(Self::over(way))
    }

    fn over(way: Way) -> Self {
        Self { way, gathered: Vec::new(), tickets: 0, written: 0 }
    }

    /// The descriptor to watch for a reader that goes away, if it is of a kind that has readers.
    pub fn watched(&self) -> Option<RawFd> {
        match &self.way {
            Way::Direct { .. } => None,
            Way::Prompt(pending) => Some(pending.watched()),
            Way::Threaded { watched, .. } => watched.as_ref().map(AsRawFd::as_raw_fd),
        }
    }

    /// Whether it takes more now.
    pub fn has_room(&self) -> bool {
        match &self.way {
            Way::Direct { .. } => true,
            Way::Prompt(pending) => pending.has_room(),
            Way::Threaded { shared, .. } => shared.lock().waiting < WAITING,
        }
    }

    /// How many bytes were ever given to [`Output::write`].
    pub fn position(&self) -> u64 {
        self.written
    }

    /// Adds bytes; [`Output::push`] or a full buffer sends them on.
    pub fn write(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        let many = self.gathered.is_empty() && bytes.len() >= GATHERED / 2;
        match &mut self.way {
            Way::Direct { file, error, .. } if many => {
                return write_checked(file, error, bytes);
            }
            Way::Prompt(pending) if many => return pending.write(bytes),
            _ => {}
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED {
            self.push();
        }
    }

    /// Sends on what was gathered.
    pub fn push(&mut self) {
        self.fall_back();
        if let Way::Prompt(pending) = &mut self.way {
            pending.write(&self.gathered);
            self.gathered.clear();
        }
        if self.gathered.is_empty() {
            return;
        }
        match &mut self.way {
            Way::Direct { file, error, .. } => {
                write_checked(file, error, &self.gathered);
                self.gathered.clear();
            }
            Way::Prompt(_) => {}
            Way::Threaded { shared, .. } => shared.push_bytes(&mut self.gathered),
        }
    }

    /// A ticket that counts as flushed once everything so far was written without error.
    pub fn mark(&mut self) -> Ticket {
        self.push();
        self.tickets += 1;
        match &mut self.way {
            Way::Direct { error, flushed, .. } if error.is_none() => *flushed = self.tickets,
            Way::Direct { .. } => {}
            Way::Prompt(pending) => pending.mark(self.tickets),
            Way::Threaded { shared, .. } => shared.push(Item::Mark(self.tickets), 0),
        }
        Ticket(self.tickets)
    }

    /// The last ticket that is flushed.
    pub fn flushed(&self) -> Ticket {
        Ticket(match &self.way {
            Way::Direct { flushed, .. } => *flushed,
            Way::Prompt(pending) => pending.flushed(),
            Way::Threaded { shared, .. } => shared.lock().flushed,
        })
    }

    /// Waits until everything was written, or `give_up` says so.
    ///
    /// # Errors
    /// The first error of the output, unless it was taken before.
    pub fn finish(&mut self, give_up: impl Fn() -> bool) -> io::Result<()> {
        let last = self.mark();
        // What failed is over, even if somebody else has its error already.
        while self.flushed() < last && !self.has_failed() && !give_up() {
            match &mut self.way {
                Way::Direct { .. } => {}
                Way::Prompt(pending) => {
                    pending.wait(MOMENT);
                    self.push();
                }
                Way::Threaded { shared, .. } => shared.wait_a_little(),
            }
        }
        self.take_error().map_or(Ok(()), Err)
    }

    /// A thread takes over what turns out to be of a kind that can only be waited for.
    fn fall_back(&mut self) {
        let Way::Prompt(pending) = &mut self.way else { return };
        let Some(mut rest) = pending.given_up() else { return };
        let watched = rest.file.as_ref().ok().and_then(|file| file.try_clone().ok());
        match rest.file.and_then(|file| Shared::start("stdout", Waiting(file), rest.bell)) {
            Err(error) => pending.fail(error),
            Ok(shared) => {
                shared.push_bytes(&mut rest.bytes);
                rest.tickets.into_iter().for_each(|ticket| shared.push(Item::Mark(ticket), 0));
                self.way = Way::Threaded { shared, watched };
            }
        }
    }

    fn has_failed(&self) -> bool {
        match &self.way {
            Way::Direct { error, .. } => error.is_some(),
            Way::Prompt(pending) => pending.has_failed(),
            Way::Threaded { shared, .. } => shared.lock().failed,
        }
    }

    /// The first error, once.
    pub fn take_error(&mut self) -> Option<io::Error> {
        match &mut self.way {
            Way::Direct { error, .. } => error.take(),
            Way::Prompt(pending) => pending.take_error(),
            Way::Threaded { shared, .. } => shared.lock().error.take(),
        }
    }
}

impl Drop for Output {
    /// What was handed on is still written; then the thread ends and closes what it writes to.
    fn drop(&mut self) {
        if let Way::Threaded { shared, .. } = &self.way {
            shared.close();
        }
    }
}

fn write_checked(file: &mut File, error: &mut Option<io::Error>, bytes: &[u8]) {
    if error.is_none() {
        *error = file.write_all(bytes).err();
    }
}

/// A file whose writes wait, even if the descriptor does not.
struct Waiting(File);

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => wait(&self.0, PollFlags::OUT),
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

enum Item {
    Bytes(Vec<u8>),
    Mark(u64),
}

/// What the loop has handed on and the thread has not written.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
    /// The thread has flushed a ticket or failed.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// Bytes in `items` and in the thread's hands.
    waiting: usize,
    /// Emptied buffers, to be filled again.
    spare: Vec<Vec<u8>>,
    /// Nothing more comes.
    closed: bool,
    flushed: u64,
    /// The thread has ended, with an error.
    failed: bool,
    error: Option<io::Error>,
}

impl Shared {
    /// A thread named `name` writes to `writer`, and wakes the loop.
    fn start(name: &str, writer: impl Write + Send + 'static, bell: Bell) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Self::default());
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || theirs.drain_to(writer, &bell))?;
        Ok(shared)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: Item, bytes: usize) {
        let mut state = self.lock();
        state.waiting += bytes;
        state.items.push_back(item);
        self.news.notify_one();
    }

    /// Hands `gathered` on and leaves an empty buffer in its place.
    fn push_bytes(&self, gathered: &mut Vec<u8>) {
        let spare = self.lock().spare.pop().unwrap_or_default();
        let bytes = std::mem::replace(gathered, spare);
        let len = bytes.len();
        self.push(Item::Bytes(bytes), len);
    }

    fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Until the thread has news, or the caller should look for a signal.
    fn wait_a_little(&self) {
        let state = self.lock();
        let wait = Duration::from_millis(MOMENT);
        drop(self.progress.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner));
    }

    fn drain_to(&self, mut file: impl Write, bell: &Bell) {
        while self.drain_one(&mut file, bell).is_ok() {}
    }

    fn drain_one(&self, file: &mut impl Write, bell: &Bell) -> Result<(), ()> {
        let mut state = self.lock();
        let item = loop {
            match state.items.pop_front() {
                Some(item) => break item,
                None if state.closed => return Err(()),
                None => state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        let (wake, result) = match item {
            Item::Mark(ticket) => {
                self.lock().flushed = ticket;
                (true, Ok(()))
            }
            Item::Bytes(bytes) => self.write_out(file, bytes),
        };
        if wake {
            self.progress.notify_all();
            bell.ring();
        }
        result
    }

    fn write_out(&self, file: &mut impl Write, mut bytes: Vec<u8>) -> (bool, Result<(), ()>) {
        let written = file.write_all(&bytes);
        let mut state = self.lock();
        let was_full = state.waiting >= WAITING;
        state.waiting -= bytes.len();
        bytes.clear();
        if state.spare.len() < WAITING / GATHERED {
            state.spare.push(bytes);
        }
        match written {
            Ok(()) => (was_full && state.waiting < WAITING, Ok(())),
            Err(e) => {
                (state.error, state.failed) = (Some(e), true);
                (true, Err(()))
            }
        }
    }
}

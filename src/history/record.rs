//! What happens, on its way into a history: a program's messages, one at a time.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::append::Appending;
use super::entry::{Head, MAX_CONTENT, State, seal};
use crate::crypto::sodium::PublicKey;
use crate::net::hub::Bell;
use crate::net::input::Copyist;
use crate::net::output::Output;
use crate::net::sockets::Transport;
use crate::sched::mux::Ticket;

/// Content that is less than a full entry is written after this time, if there is news then.
const PENDING_TIME: Duration = Duration::from_secs(1);

/// The history could not be written. It stands inside an [`io::Error`].
#[derive(Debug)]
pub struct CannotRecord {
    /// The history.
    pub path: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

impl fmt::Display for CannotRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for CannotRecord {}

/// Records messages, one at a time. A thread writes them: the program never waits for the disk, nor
/// for the lock that another program holds.
pub struct Recorder {
    path: PathBuf,
    owner: PublicKey,
    output: Output,
    current: Option<Current>,
    failed: bool,
}

/// The message that is being recorded.
struct Current {
    head: Head,
    seq: u64,
    pending: Vec<u8>,
    /// When an entry of it was last written.
    written: Option<Instant>,
}

impl Recorder {
    /// Records to the history at `path`, for the holder of `owner` to read.
    ///
    /// # Errors
    /// [`CannotRecord`].
    pub fn open(path: &Path, owner: PublicKey, bell: Bell) -> io::Result<Self> {
        let output = Appending::open(path).and_then(|file| Output::by_thread(file, bell));
        let output = output.map_err(|e| cannot_record(path, e))?;
        Ok(Self { path: path.to_owned(), owner, output, current: None, failed: false })
    }

    /// Whether it takes more now.
    pub fn has_room(&self) -> bool {
        self.output.has_room()
    }

    /// A message begins.
    pub fn begin(&mut self, head: Head) {
        self.current = Some(Current { head, seq: 0, pending: Vec::new(), written: None });
    }

    /// More of it.
    pub fn content(&mut self, mut bytes: &[u8]) {
        while let Some(current) = &mut self.current
            && !bytes.is_empty()
        {
            let taken = bytes.len().min(MAX_CONTENT - current.pending.len());
            current.pending.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            // More follows, or will: the last entry is one that says how it ended.
            if current.pending.len() == MAX_CONTENT {
                self.entry(State::Open);
            }
        }
    }

    /// Nothing more comes for now.
    pub fn settle(&mut self) {
        let Some(current) = &self.current else { return };
        let due = current.written.is_none_or(|at| at.elapsed() >= PENDING_TIME);
        if due && !current.pending.is_empty() {
            self.entry(State::Open);
            self.output.push();
        }
    }

    /// The message has ended; does nothing if none began.
    pub fn end(&mut self, state: State) {
        self.entry(state);
        self.current = None;
    }

    /// A whole message at once, whatever else is under way.
    pub fn whole(&mut self, head: &Head, content: &[u8], state: State) {
        let mut rest = content;
        let mut seq = 0;
        while rest.len() > MAX_CONTENT {
            let (first, more) = rest.split_at(MAX_CONTENT);
            self.output.write(&seal(&self.owner, head, seq, State::Open, first));
            (rest, seq) = (more, seq + 1);
        }
        self.output.write(&seal(&self.owner, head, seq, state, rest));
        self.output.push();
    }

    /// A ticket that counts as flushed once everything so far is in the file.
    pub fn mark(&mut self) -> Ticket {
        if self.current.as_ref().is_some_and(|current| !current.pending.is_empty()) {
            self.entry(State::Open);
        }
        self.output.mark()
    }

    /// The last ticket that is flushed.
    pub fn flushed(&self) -> Ticket {
        self.output.flushed()
    }

    /// The first error, once: [`CannotRecord`].
    pub fn take_error(&mut self) -> Option<io::Error> {
        let error = self.output.take_error()?;
        self.failed = true;
        Some(cannot_record(&self.path, error))
    }

    /// Waits until everything is in the file, or `give_up` says so.
    ///
    /// # Errors
    /// [`CannotRecord`], unless it was told before.
    pub fn finish(&mut self, give_up: impl Fn() -> bool) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        self.mark();
        self.output.finish(give_up).map_err(|e| cannot_record(&self.path, e))
    }

    /// Writes an entry with what is pending.
    fn entry(&mut self, state: State) {
        let Some(current) = &mut self.current else { return };
        let entry = seal(&self.owner, &current.head, current.seq, state, &current.pending);
        current.seq += 1;
        current.pending.clear();
        current.written = Some(Instant::now());
        self.output.write(&entry);
    }
}

fn cannot_record(path: &Path, error: io::Error) -> io::Error {
    io::Error::other(CannotRecord { path: path.to_owned(), error })
}

/// Records one message that is sent, as it is read.
pub struct SentRecord {
    recorder: Recorder,
    head: Head,
    /// The whole input is recorded once this is flushed.
    last: Option<Ticket>,
}

impl SentRecord {
    /// The record of a message as `head` says, but for its id, which is known once it begins.
    pub fn new(recorder: Recorder, head: Head) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { recorder, head, last: None }))
    }

    /// What came of it; nothing is recorded of a message that never began.
    ///
    /// # Errors
    /// [`CannotRecord`], unless it was told before.
    pub fn finish(&mut self, state: State, give_up: impl Fn() -> bool) -> io::Result<()> {
        self.recorder.end(state);
        self.recorder.finish(give_up)
    }

    fn check(&mut self) -> io::Result<()> {
        self.recorder.take_error().map_or(Ok(()), Err)
    }
}

impl Copyist for SentRecord {
    fn by_relay(&mut self) {
        self.head.transport = Transport::Relay;
    }

    fn begin(&mut self, id: [u8; 16]) {
        self.recorder.begin(Head { id, ..self.head.clone() });
    }

    fn has_room(&mut self) -> io::Result<bool> {
        self.check()?;
        Ok(self.recorder.has_room())
    }

    fn take(&mut self, bytes: &[u8]) {
        self.recorder.content(bytes);
    }

    fn settle(&mut self) {
        self.recorder.settle();
    }

    fn is_kept(&mut self) -> io::Result<bool> {
        self.check()?;
        let last = match self.last {
            Some(ticket) => ticket,
            None => *self.last.insert(self.recorder.mark()),
        };
        Ok(self.recorder.flushed() >= last)
    }
}

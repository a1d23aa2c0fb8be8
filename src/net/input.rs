//! The bytes that are to be sent: stdin, without ever waiting for it in the loop.
//!
//! Files are read where they stand, pipes and sockets whenever they have something; a thread waits for
//! what can only be waited for.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mio::Interest;
use rustix::event::PollFlags;

use super::fan::Reader;
use super::hub::Bell;
use super::prompt::{Prompt, is_never_prompt};
use super::stdio::{never_waits, wait};

/// What the reading thread may be ahead of the loop, in bytes.
const AHEAD: usize = 256 * 1024;
/// One read from a pipe: Linux's pipes hold this much.
const CHUNK: usize = 64 * 1024;

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing yet; the bell tells when.
    Later,
    /// There is no more.
    End,
}

/// Keeps a copy of a message while it is read. The input has not ended before the copy is kept, so
/// that nothing is sent whole of which there is none.
pub trait Copyist {
    /// The message has this id.
    fn begin(&mut self, id: [u8; 16]);
    /// The message goes by a relay.
    fn by_relay(&mut self);
    /// Whether it takes more now; if not, the bell tells when.
    ///
    /// # Errors
    /// What keeping the copy said.
    fn has_room(&mut self) -> io::Result<bool>;
    /// More of the message.
    fn take(&mut self, bytes: &[u8]);
    /// Nothing more comes for now.
    fn settle(&mut self);
    /// Whether all of it is kept; if not, the bell tells when. There is no more.
    ///
    /// # Errors
    /// As for [`Copyist::has_room`].
    fn is_kept(&mut self) -> io::Result<bool>;
}

/// An input of any kind, and who keeps a copy of it.
pub struct Input {
    /// What was read before and is to be read again.
    head: Option<Box<Cursor<Vec<u8>>>>,
    way: Way,
    copyist: Option<Rc<RefCell<dyn Copyist>>>,
}

enum Way {
    /// Read in the loop: it never waits for another process.
    Direct(File),
    /// Read in the loop when it has something.
    Prompt(Box<Prompt>),
    /// Read in a thread.
    Threaded {
        /// What the thread has read.
        shared: Arc<Shared>,
        /// What was taken from it.
        taken: Vec<u8>,
        /// How much of that is used up.
        used: usize,
    },
    /// One of several readers of another input.
    Shared(Reader),
}

impl Input {
    /// stdin; closed, it is empty.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated or a thread cannot be started.
    pub fn stdin(bell: &Bell) -> io::Result<Self> {
        Self::new(File::from(io::stdin().as_fd().try_clone_to_owned()?), bell)
    }

    /// Any descriptor.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(file: File, bell: &Bell) -> io::Result<Self> {
        let way = match never_waits(&file) {
            true => Way::Direct(file),
            false => match Prompt::new(file, bell, Interest::READABLE) {
                Ok(prompt) => Way::Prompt(Box::new(prompt)),
                Err(file) => Way::threaded(file, bell.clone())?,
            },
        };
        Ok(Self { head: None, way, copyist: None })
    }

    /// The reading end of a pipe that nobody shares.
    ///
    /// # Errors
    /// When epoll watches no more.
    pub fn ours(pipe: File, bell: &Bell) -> io::Result<Self> {
        let prompt = Prompt::ours(pipe, bell).map_err(|_| io::ErrorKind::Unsupported)?;
        Ok(Self { head: None, way: Way::Prompt(Box::new(prompt)), copyist: None })
    }

    /// How much is in the pipe of [`Input::ours`], in bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn in_pipe(&self) -> io::Result<usize> {
        match &self.way {
            Way::Prompt(prompt) => prompt.len(),
            Way::Direct(_) | Way::Threaded { .. } | Way::Shared(_) => Ok(0),
        }
    }

    /// What this reader takes of an input that it shares.
    pub(super) fn of(reader: Reader) -> Self {
        Self { head: None, way: Way::Shared(reader), copyist: None }
    }

    /// The same, and `copyist` keeps a copy.
    #[must_use]
    pub fn copied_by(self, copyist: Rc<RefCell<dyn Copyist>>) -> Self {
        Self { copyist: Some(copyist), ..self }
    }

    /// The same, and `head`, which was read from it, comes first once more.
    #[must_use]
    pub fn after(self, head: Vec<u8>) -> Self {
        Self { head: Some(Box::new(Cursor::new(head))), ..self }
    }

    /// What is read is the message with this id. What [`Input::after`] has pushed back began before.
    pub fn begin(&self, id: [u8; 16]) {
        if let (Some(copyist), None) = (&self.copyist, &self.head) {
            copyist.borrow_mut().begin(id);
        }
    }

    /// What is read goes by a relay. To be said before it begins.
    pub fn by_relay(&self) {
        if let Some(copyist) = &self.copyist {
            copyist.borrow_mut().by_relay();
        }
    }

    fn read_head(&mut self, space: &mut [u8]) -> Option<Got> {
        // Reading from memory does not fail.
        let len = self.head.as_mut()?.read(space).unwrap_or(0);
        if len == 0 && !space.is_empty() {
            self.head = None;
        }
        (len > 0).then_some(Got::Bytes(len))
    }

    /// Reads into `space`.
    ///
    /// # Errors
    /// What reading the input, or keeping the copy, said.
    pub fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        if let Some(got) = self.read_head(space) {
            return Ok(got);
        }
        let Some(copyist) = &self.copyist else { return self.way.read(space) };
        let mut copyist = copyist.borrow_mut();
        if !copyist.has_room()? {
            return Ok(Got::Later);
        }
        let got = self.way.read(space)?;
        match got {
            Got::Bytes(n) => copyist.take(&space[..n]),
            Got::Later => copyist.settle(),
            Got::End if !copyist.is_kept()? => return Ok(Got::Later),
            Got::End => {}
        }
        Ok(got)
    }
}

impl Way {
    fn threaded(file: File, bell: Bell) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || theirs.fill_from(file, &bell))?;
        Ok(Self::Threaded { shared, taken: Vec::new(), used: 0 })
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        match self {
            Self::Direct(file) => loop {
                match file.read(space) {
                    Ok(0) => return Ok(Got::End),
                    Ok(n) => return Ok(Got::Bytes(n)),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            },
            Self::Prompt(prompt) => match prompt.read(space) {
                Ok(0) => Ok(Got::End),
                Ok(n) => Ok(Got::Bytes(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Got::Later),
                Err(e) if is_never_prompt(&e) => {
                    *self = Self::threaded(prompt.to_file()?, prompt.bell().clone())?;
                    self.read(space)
                }
                Err(e) => Err(e),
            },
            Self::Threaded { shared, taken, used } => {
                if *used == taken.len() {
                    *used = 0;
                    match shared.take(taken)? {
                        Got::Bytes(_) => {}
                        other => return Ok(other),
                    }
                }
                let n = space.len().min(taken.len() - *used);
                space[..n].copy_from_slice(&taken[*used..*used + n]);
                *used += n;
                Ok(Got::Bytes(n))
            }
            Self::Shared(reader) => reader.read(space),
        }
    }
}

impl Drop for Way {
    /// The thread ends, and closes what it reads from, as soon as it does not wait for that.
    fn drop(&mut self) {
        if let Self::Threaded { shared, .. } = self {
            shared.abandon();
        }
    }
}

/// What the thread has read and the loop has not taken.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
    error: Option<io::Error>,
    /// The loop found nothing and wants to be woken.
    starving: bool,
    /// The loop takes no more.
    abandoned: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn abandon(&self) {
        self.lock().abandoned = true;
        self.room.notify_one();
    }

    fn fill_from(&self, mut file: File, bell: &Bell) {
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file.read(&mut chunk);
            if read.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
                wait(&file, PollFlags::IN);
                continue;
            }
            let mut state = self.lock();
            while state.bytes.len() >= AHEAD && !state.abandoned {
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.abandoned {
                return;
            }
            match read {
                Ok(0) => state.ended = true,
                Ok(n) => state.bytes.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => state.error = Some(e),
            }
            if std::mem::take(&mut state.starving) {
                bell.ring();
            }
            if state.ended || state.error.is_some() {
                return;
            }
        }
    }

    /// Swaps what was read for the emptied `taken`.
    fn take(&self, taken: &mut Vec<u8>) -> io::Result<Got> {
        let mut state = self.lock();
        taken.clear();
        if state.bytes.is_empty() {
            if let Some(e) = state.error.take() {
                return Err(e);
            }
            state.starving = !state.ended;
            return Ok(if state.ended { Got::End } else { Got::Later });
        }
        std::mem::swap(&mut state.bytes, taken);
        self.room.notify_one();
        Ok(Got::Bytes(taken.len()))
    }
}

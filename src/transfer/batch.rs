//! What the reading thread has ready for the loop: METAs and bytes of many messages in one buffer
//! that goes back and forth.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::incoming::Resume;
use super::walk::Skip;
use crate::net::hub::Bell;
use crate::proto::stream::meta::Meta;

/// Bytes in one batch. There are three: one is read, one is ready, one is filled.
const CAPACITY: usize = 512 * 1024;
/// Steps in one batch, each of which may bear a name.
const MAX_STEPS: usize = 1024;
/// The least room that a read gets, in bytes.
const LEAST: usize = 64 * 1024;

/// What comes next.
pub(super) enum Step {
    /// A message begins; in the order of their numbers.
    Begin { meta: Meta, number: u64 },
    /// It begins at this offset (of a folder: behind so many entries); the receiver has so many
    /// bytes.
    Start { offset: u64, there: u64 },
    /// So many of the bytes.
    Data(usize),
    /// It is whole.
    End,
    /// It cannot be read on.
    Unread(io::Error),
    /// Something of this name is not sent at all.
    Missing(String, Missing),
}

/// Why something is not sent.
#[derive(Debug)]
pub enum Missing {
    /// The system says so.
    Unreadable(io::Error),
    /// What it is.
    Skipped(Skip),
}

/// Steps, and the bytes that they speak of.
pub(super) struct Batch {
    pub(super) steps: VecDeque<Step>,
    bytes: Box<[u8]>,
    filled: usize,
    used: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let bytes = vec![0; CAPACITY].into_boxed_slice();
        Self { steps: VecDeque::new(), bytes, filled: 0, used: 0 }
    }

    /// Where the next bytes are read into; empty when the batch is full.
    pub(super) fn space(&mut self) -> &mut [u8] {
        let free = CAPACITY - self.filled;
        let room = if free < LEAST { 0 } else { free };
        &mut self.bytes[self.filled..self.filled + room]
    }

    /// Whether it takes one more step.
    pub(super) fn has_room(&self) -> bool {
        self.steps.len() < MAX_STEPS
    }

    /// Whether it is worth handing over in the middle of a message.
    pub(super) fn is_rich(&self) -> bool {
        self.filled >= LEAST
    }

    /// `len` bytes were read into [`Self::space`].
    pub(super) fn fill(&mut self, len: usize) {
        self.filled += len;
        match self.steps.back_mut() {
            Some(Step::Data(before)) => *before += len,
            _ => self.steps.push_back(Step::Data(len)),
        }
    }

    /// Moves bytes of the first step, which is [`Step::Data`], into `space`. Returns how many.
    pub(super) fn read(&mut self, space: &mut [u8]) -> usize {
        let Some(Step::Data(left)) = self.steps.front_mut() else { return 0 };
        let len = space.len().min(*left);
        *left -= len;
        let empty = *left == 0;
        space[..len].copy_from_slice(&self.bytes[self.used..self.used + len]);
        self.used += len;
        if empty {
            self.steps.pop_front();
        }
        len
    }

    /// Drops the first step, and what it speaks of.
    pub(super) fn skip(&mut self) -> Option<Step> {
        let step = self.steps.pop_front();
        if let Some(Step::Data(len)) = step {
            self.used += len;
        }
        step
    }

    fn reset(&mut self) {
        self.steps.clear();
        (self.filled, self.used) = (0, 0);
    }
}

/// Between the reading thread and the loop.
pub(super) struct Shared {
    state: Mutex<State>,
    /// The thread waits here: for room, for an offer.
    changed: Condvar,
}

struct State {
    ready: Option<Batch>,
    spare: Option<Batch>,
    /// What the receiver has of the message of this number.
    offer: Option<(u64, Resume)>,
    /// Messages up to this number are not wanted any more.
    skipped: u64,
    /// The folder that began with the message of this number is not wanted any more.
    unwanted: u64,
    /// Wakes the loop.
    bell: Bell,
    /// The loop found nothing, and wants to be woken.
    starving: bool,
    /// The thread has read everything.
    over: bool,
    /// The loop wants nothing any more.
    closed: bool,
}

/// The loop wants nothing any more.
pub(super) struct Closed;

/// What the loop gets.
pub(super) enum Taken {
    /// The batch has steps.
    Steps,
    /// Nothing yet.
    Later,
    /// Nothing any more.
    Over,
}

impl Shared {
    pub(super) fn new(bell: Bell) -> Self {
        let state = State {
            ready: None,
            spare: Some(Batch::new()),
            offer: None,
            skipped: 0,
            unwanted: 0,
            bell,
            starving: false,
            over: false,
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// From now on `bell` wakes the loop.
    pub(super) fn rings(&self, bell: Bell) {
        self.lock().bell = bell;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop swaps `batch`, which it has emptied, for one that is ready.
    pub(super) fn take(&self, batch: &mut Batch) -> Taken {
        let mut state = self.lock();
        let Some(ready) = state.ready.take() else {
            state.starving = !state.over;
            return if state.over { Taken::Over } else { Taken::Later };
        };
        batch.reset();
        state.spare = Some(std::mem::replace(batch, ready));
        self.changed.notify_one();
        Taken::Steps
    }

    /// The receiver has so much of the message of this number.
    pub(super) fn offer(&self, number: u64, resume: Resume) {
        self.lock().offer = Some((number, resume));
        self.changed.notify_one();
    }

    /// The messages up to this number are not wanted any more.
    pub(super) fn skip(&self, number: u64) {
        let mut state = self.lock();
        state.skipped = state.skipped.max(number);
        self.changed.notify_one();
    }

    /// The folder that began with the message of this number is not wanted any more.
    pub(super) fn skip_folder(&self, number: u64) {
        let mut state = self.lock();
        state.unwanted = state.unwanted.max(number);
    }

    /// Nothing is wanted any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The thread hands over `batch` if none is ready; waits until it can if it `must`.
    pub(super) fn give(&self, batch: &mut Batch, must: bool) -> Result<(), Closed> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(Closed);
            }
            if state.ready.is_none()
                && let Some(spare) = state.spare.take()
            {
                state.ready = Some(std::mem::replace(batch, spare));
                self.wake_starving(&mut state);
                return Ok(());
            }
            if !must {
                return Ok(());
            }
            state = self.wait(state);
        }
    }

    /// Whether the message of this number is still wanted.
    pub(super) fn wants(&self, number: u64) -> bool {
        self.lock().skipped < number
    }

    /// Whether the folder that began with this number is still wanted.
    pub(super) fn wants_folder(&self, number: u64) -> bool {
        self.lock().unwanted < number
    }

    /// What the receiver has of the message of this number; none if it is not wanted.
    pub(super) fn offered(&self, number: u64) -> Result<Option<Resume>, Closed> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(Closed);
            }
            if state.skipped >= number {
                return Ok(None);
            }
            match state.offer.take() {
                Some((n, resume)) if n == number => return Ok(Some(resume)),
                _ => state = self.wait(state),
            }
        }
    }

    /// The thread has read everything.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        self.wake_starving(&mut state);
    }

    fn wake_starving(&self, state: &mut State) {
        if std::mem::take(&mut state.starving) {
            state.bell.ring();
        }
    }
}

//! Between the loop, which takes what a session brings, and the thread that writes it: what is to be
//! done, in order, and what came of it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::declined::Declined;
use crate::net::hub::Bell;
use crate::proto::stream::meta::Meta;

/// Bytes that wait to be written; with as many, the session is not read. The thread has as many
/// again in hand.
const MAX_BYTES: usize = 1024 * 1024;
/// Steps that wait, each of which may bear a name.
const MAX_STEPS: usize = 1024;

/// What the loop asks of the thread.
pub(super) enum Step {
    Begin {
        meta: Meta,
        now_ms: u64,
        number: u64,
        /// It may come again, and lands once.
        once: bool,
    },
    Start(u64),
    /// So many of the bytes.
    Data(usize),
    End,
    Abort,
}

/// What the thread says of the message of a number.
pub(super) enum Said {
    Offer {
        offset: u64,
        hash: [u8; 32],
    },
    /// So many bytes of it are here already.
    There(u64),
    /// It is part of a folder.
    Put,
    Landed(String),
    /// It had landed before.
    Again,
    Declined(Declined),
}

impl Said {
    /// Whether the sender of a message that is still coming is told.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Offer { .. } | Self::Declined(_))
    }
}

/// Between the loop and the thread.
pub(super) struct Shared {
    state: Mutex<State>,
    work: Condvar,
    bell: Bell,
}

#[derive(Default)]
struct State {
    steps: Vec<Step>,
    bytes: Vec<u8>,
    said: VecDeque<(u64, Said)>,
    /// Messages that their sender gave up, and the thread does not know yet.
    aborted: VecDeque<u64>,
    /// The loop found no room, and wants to be told when there is.
    stalled: bool,
    /// The thread waits.
    idle: bool,
    /// Nothing more comes.
    over: bool,
    /// The thread has ended, and answers no more.
    gone: bool,
}

impl Shared {
    pub(super) fn new(bell: Bell) -> Self {
        Self { state: Mutex::default(), work: Condvar::new(), bell }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread said next; if it is gone, what it would have said of the message of number
    /// `oldest`.
    pub(super) fn next_said(&self, oldest: Option<u64>) -> Option<(u64, Said)> {
        let mut state = self.lock();
        let lost = || io::Error::other("its thread ended");
        let declined = || oldest.map(|number| (number, Said::Declined(Declined::Disk(lost()))));
        let gone = state.gone;
        state.said.pop_front().or_else(|| if gone { declined() } else { None })
    }

    /// Whether the loop should hand over more now; if not, it is woken when it should.
    pub(super) fn has_room(&self) -> bool {
        let mut state = self.lock();
        let room = state.bytes.len() < MAX_BYTES && state.steps.len() < MAX_STEPS;
        state.stalled = !room;
        room
    }

    /// The message of this number was given up. What the loop has not heard of it yet, an offer or
    /// that it is declined, it will not hear.
    pub(super) fn give_up(&self, number: u64) {
        let mut state = self.lock();
        state.said.retain(|(n, said)| *n != number || !said.is_answer());
        state.aborted.push_back(number);
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.lock().over = true;
        self.work.notify_one();
    }

    /// The thread ends.
    pub(super) fn leave(&self) {
        self.lock().gone = true;
        self.bell.ring();
    }

    pub(super) fn ask(&self, step: Step, bytes: &[u8]) {
        let mut state = self.lock();
        if state.gone {
            return;
        }
        state.bytes.extend_from_slice(bytes);
        match (step, state.steps.last_mut()) {
            // The thread writes them in one go.
            (Step::Data(more), Some(Step::Data(len))) => *len += more,
            (step, _) => state.steps.push(step),
        }
        if std::mem::take(&mut state.idle) {
            self.work.notify_one();
        }
    }

    /// Swaps what waits for the emptied `steps` and `bytes`. Whether there was any.
    pub(super) fn fetch(&self, steps: &mut Vec<Step>, bytes: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        std::mem::swap(&mut state.steps, steps);
        std::mem::swap(&mut state.bytes, bytes);
        if std::mem::take(&mut state.stalled) {
            self.bell.ring();
        }
        !steps.is_empty()
    }

    /// Waits until there is something to [`Self::fetch`]; not if there never will be.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.lock();
        while state.steps.is_empty() {
            if state.over {
                return false;
            }
            state.idle = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Hands `news` to the loop; see [`Self::give_up`].
    pub(super) fn tell(&self, news: &mut Vec<(u64, Said)>) {
        if news.is_empty() {
            return;
        }
        let mut state = self.lock();
        let unread = !state.said.is_empty();
        let State { said, aborted, .. } = &mut *state;
        let given_up = |(n, said): &(u64, Said)| said.is_answer() && aborted.contains(n);
        said.extend(news.drain(..).filter(|item| !given_up(item)));
        if !unread {
            self.bell.ring();
        }
    }

    /// The thread knows that the message of this number was given up.
    pub(super) fn know_aborted(&self, number: u64) {
        let mut state = self.lock();
        state.aborted.retain(|aborted| *aborted > number);
    }
}

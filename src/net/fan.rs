//! One input for several readers: it is read once, and what the slowest has not taken yet is kept,
//! up to a bound.
//!
//! At the bound the faster readers are held until the slow ones have caught up to half of it. What
//! that may cost is bounded too. A reader that takes nothing while others are held is given up
//! after [`PATIENCE`]. For one that is slow the time of holding is a debt, which the time in between
//! pays back: who is less than half as fast as the others in the long run is given up in the end.
//! Both count only beyond [`GRACE`], because a fast reader may be one chunk too late at any time,
//! and the buffers of sockets hide which of two fast ones is the faster.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::input::{Got, Input};
use crate::proto::stream::record::MAX_BODY;

/// Bytes that are read at once: what fills a record.
const CHUNK: usize = MAX_BODY;
/// Chunks that are kept at most: 8 MiB, more than what a line of a few MB/s has on its way, so that
/// being held is being slower.
const MAX_CHUNKS: usize = 128;
/// What is kept for the slowest reader at most, in bytes.
pub const BOUND: u64 = (CHUNK * MAX_CHUNKS) as u64;
/// Who is more than this many bytes behind while others are held is one of those they wait for.
/// With all of these judged at once, several dead ones cost no more time than one.
const FAR: u64 = BOUND / 2;
/// The others wait so long for one that takes nothing, or is in debt. A receiver's disk or a lost
/// packet may take some seconds.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Being held so long costs nothing yet.
pub const GRACE: Duration = Duration::from_millis(250);
/// Time that is paid back beyond all debt. Those who share a narrow line take turns for minutes.
pub const CREDIT: Duration = Duration::from_secs(60);
/// The most that is counted at once: a process that was stopped blames nobody for it.
const STEP: Duration = Duration::from_secs(1);

/// The input and its readers, for who watches over them.
pub struct Fan(Rc<RefCell<Shared>>);

/// One of the readers; an [`Input`] is made of it. Dropped, nothing is kept for it any more.
pub struct Reader {
    shared: Rc<RefCell<Shared>>,
    number: usize,
}

/// A reader that the others have waited for long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Laggard {
    /// Its number, from 0.
    pub reader: usize,
    /// How many bytes it is behind the fastest.
    pub behind: u64,
}

struct Shared {
    input: Input,
    /// All full but for the last.
    chunks: VecDeque<Chunk>,
    /// Chunks that were used, for new bytes.
    spare: Vec<Chunk>,
    /// Where the first chunk begins in the input.
    base: u64,
    /// How much was read.
    head: u64,
    ending: Option<Ending>,
    readers: BTreeMap<usize, Place>,
    /// The bound was reached, and the slowest have not caught up yet.
    full: bool,
    /// When [`Fan::tend`] was called last.
    tended: Duration,
    /// Since when somebody is held, as was seen then.
    held: Option<Duration>,
}

struct Chunk {
    bytes: Box<[u8]>,
    filled: usize,
}

enum Ending {
    End,
    Error(Arc<io::Error>),
}

#[derive(Default)]
struct Place {
    /// How much it has taken.
    at: u64,
    /// It asked in vain since [`Fan::take_news`].
    unserved: bool,
    /// It asked for bytes for which there was no room.
    blocked: bool,
    /// How long others were held since it took something.
    idle: Duration,
    /// How long others were held by it.
    debt: Duration,
    /// What it has paid back beyond that.
    credit: Duration,
}

impl Fan {
    /// `count` readers of `input`.
    pub fn split(input: Input, count: usize) -> (Self, Vec<Input>) {
        let shared = Rc::new(RefCell::new(Shared {
            input,
            chunks: VecDeque::new(),
            spare: Vec::new(),
            base: 0,
            head: 0,
            ending: None,
            readers: (0..count).map(|number| (number, Place::default())).collect(),
            full: false,
            tended: Duration::ZERO,
            held: None,
        }));
        let reader = |number| Reader { shared: Rc::clone(&shared), number };
        let inputs = (0..count).map(|number| Input::of(reader(number))).collect();
        (Self(shared), inputs)
    }

    /// Whether a reader that asked in vain could go on now. Said once: who asks again and gets
    /// nothing is noted again.
    pub fn take_news(&self) -> bool {
        let mut shared = self.0.borrow_mut();
        let (head, room) = (shared.head, !shared.is_full());
        let over = shared.ending.is_some();
        let mut news = false;
        for place in shared.readers.values_mut() {
            let could = place.at < head || over || (place.blocked && room);
            news |= std::mem::take(&mut place.unserved) && could;
        }
        news
    }

    /// Counts the time up to `now`, and names those whom nobody waits for any longer. To be called
    /// before each wait, and at [`Fan::deadline`].
    pub fn tend(&self, now: Duration) -> Vec<Laggard> {
        let mut shared = self.0.borrow_mut();
        let passed = now.saturating_sub(shared.tended).min(STEP);
        let counts = shared.held.is_some_and(|since| now >= since + GRACE);
        shared.held = if shared.is_held() { shared.held.or(Some(now)) } else { None };
        shared.tended = now;
        let (head, is_held) = (shared.head, shared.held.is_some());
        let mut laggards = Vec::new();
        for (&reader, place) in &mut shared.readers {
            let behind = head - place.at;
            place.count(passed, counts && behind > FAR);
            if is_held && place.debt.max(place.idle) >= PATIENCE {
                laggards.push(Laggard { reader, behind });
            }
        }
        laggards
    }

    /// When [`Fan::tend`] is due without news.
    pub fn deadline(&self) -> Option<Duration> {
        let shared = self.0.borrow();
        let since = shared.held?;
        let owed = |place: &Place| place.idle.max(place.debt);
        let left = PATIENCE.saturating_sub(shared.readers.values().map(owed).max()?);
        Some((shared.tended + left.min(STEP)).max(since + GRACE))
    }
}

impl Place {
    fn count(&mut self, passed: Duration, is_waited_for: bool) {
        if is_waited_for {
            self.idle += passed;
            let paid = passed.min(self.credit);
            self.credit -= paid;
            self.debt += passed - paid;
        } else {
            let paid = passed.min(self.debt);
            self.debt -= paid;
            self.credit = (self.credit + passed - paid).min(CREDIT);
        }
    }
}

impl Reader {
    /// Reads into `space`, as [`Input::read`] does.
    ///
    /// # Errors
    /// What reading the input said, to each reader when it has taken what was read before.
    pub(super) fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        self.shared.borrow_mut().read(self.number, space)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        shared.readers.remove(&self.number);
        shared.forget();
    }
}

impl Shared {
    fn read(&mut self, number: usize, space: &mut [u8]) -> io::Result<Got> {
        let Some(at) = self.readers.get(&number).map(|place| place.at) else {
            return Ok(Got::End);
        };
        let mut blocked = false;
        if at == self.head && self.ending.is_none() {
            blocked = self.is_full();
            if !blocked {
                self.advance();
            }
        }
        let taken = self.copy(at, space);
        if let Some(place) = self.readers.get_mut(&number) {
            place.at += taken as u64;
            if taken > 0 {
                place.idle = Duration::ZERO;
            }
            place.blocked = blocked;
            place.unserved = taken == 0;
        }
        match &self.ending {
            _ if taken > 0 => {
                self.forget();
                Ok(Got::Bytes(taken))
            }
            Some(Ending::End) => Ok(Got::End),
            Some(Ending::Error(e)) => Err(io::Error::new(e.kind(), Same(Arc::clone(e)))),
            None => Ok(Got::Later),
        }
    }

    /// Whether no more of the input may be read: from the bound until half of it.
    fn is_full(&mut self) -> bool {
        let bound = if self.full { MAX_CHUNKS / 2 + 1 } else { MAX_CHUNKS };
        let unfilled = self.chunks.back().is_some_and(|last| !last.is_full());
        self.full = self.chunks.len() - usize::from(unfilled) >= bound;
        if !self.full {
            self.held = None;
        }
        self.full
    }

    /// Reads the input once.
    fn advance(&mut self) {
        if self.chunks.back().is_none_or(Chunk::is_full) {
            self.chunks.push_back(self.spare.pop().unwrap_or_default());
        }
        let Some(last) = self.chunks.back_mut() else { return };
        let got = self.input.read(&mut last.bytes[last.filled..]);
        if let Ok(Got::Bytes(n)) = got {
            last.filled += n;
            self.head += n as u64;
        }
        match got {
            Ok(Got::End) => self.ending = Some(Ending::End),
            Ok(_) => {}
            Err(e) => self.ending = Some(Ending::Error(Arc::new(e))),
        }
    }

    /// Copies what was read from `at` on, as much as one chunk has of it.
    fn copy(&self, at: u64, space: &mut [u8]) -> usize {
        let skipped = (at - self.base) as usize;
        let Some(chunk) = self.chunks.get(skipped / CHUNK) else { return 0 };
        let bytes = &chunk.bytes[skipped % CHUNK..chunk.filled];
        let n = bytes.len().min(space.len());
        space[..n].copy_from_slice(&bytes[..n]);
        n
    }

    /// Keeps nothing that every reader has taken.
    fn forget(&mut self) {
        let tail = self.readers.values().map(|place| place.at).min().unwrap_or(self.head);
        while let Some(first) = self.chunks.front()
            && first.filled > 0
            && self.base + first.filled as u64 <= tail
        {
            self.base += first.filled as u64;
            if let Some(mut chunk) = self.chunks.pop_front() {
                chunk.filled = 0;
                self.spare.push(chunk);
            }
        }
    }

    /// Whether somebody waits for others.
    fn is_held(&mut self) -> bool {
        let head = self.head;
        self.is_full() && self.readers.values().any(|place| place.blocked && place.at == head)
    }
}

impl Default for Chunk {
    fn default() -> Self {
        Self { bytes: vec![0; CHUNK].into_boxed_slice(), filled: 0 }
    }
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.filled == self.bytes.len()
    }
}

/// One error for all readers.
#[derive(Debug)]
struct Same(Arc<io::Error>);

impl fmt::Display for Same {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Same {}

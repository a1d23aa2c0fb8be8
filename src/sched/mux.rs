//! How messages of many senders share one output: whole, one at a time, and live once they flow.
//!
//! A message is held until it has ended, or until 64 KiB or 200 ms after its first byte, whichever is
//! first; then it waits for its turn, owns the output until it ends, and flows as it comes. A message
//! that has no byte yet waits for nothing and keeps nobody waiting. The others wait, each
//! in a small bounded buffer: a source that is [full](Mux::has_room) is not read, so that a slow
//! output stalls only what is for it. While any waits, an owner that sends nothing is cut.
//!
//! Turns go from party to party, not from source to source, and each party has its own part of the
//! buffers: who opens many sessions gets no more of the output for that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::party::{Party, Source};
use super::turns::{Place, Turns};
use crate::proto::datagram::packet::MAX_MESSAGE;

/// A message is held until this many bytes are there.
pub const HELD_BYTES: usize = 64 * 1024;
/// A message is held no longer than this after its first byte.
pub const HELD_TIME: Duration = Duration::from_millis(200);
/// What the owner may have waiting for a slow output.
const OWNER_BYTES: usize = 256 * 1024;
/// What one party may have waiting: beyond it only the owner is read.
const PARTY_BYTES: usize = 1024 * 1024;
/// What all together may have waiting: beyond it only the owner is read. Half of it is kept for
/// parties that have nothing waiting.
const ALL_BYTES: usize = 8 * 1024 * 1024;

/// Names a point in the output; when it is flushed, so is all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Whole.
    Whole,
    /// Its sender went away or was cut; some of it may stand in the output.
    Cut,
}

/// The output, and the form that messages take in it. `I` says what a message is.
pub trait Sink<I> {
    /// Whether it takes more now.
    fn has_room(&self) -> bool;
    /// A message begins.
    fn begin(&mut self, info: &I);
    /// More of it.
    fn data(&mut self, info: &I, bytes: &[u8]);
    /// It has ended.
    fn end(&mut self, info: &I, ending: Ending);
    /// Asks to be told when everything so far is flushed.
    fn mark(&mut self) -> Ticket;
}

/// Something that will have happened once its ticket is flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Whose message it is.
    pub source: Source,
    /// When the output has flushed this, the bytes are delivered.
    pub ticket: Ticket,
    /// The message has ended with this many bytes; `None` for a part of one.
    pub total: Option<u64>,
}

struct Message<I> {
    info: I,
    held: Vec<u8>,
    total: u64,
    /// When its first byte came; before that, when it was announced.
    began: Duration,
    last: Duration,
    ending: Option<Ending>,
    /// A part is to be confirmed once what is held was written.
    confirm_part: bool,
    /// Its place among those who wait for the output, since it did; who owns it has one, too.
    place: Option<Place>,
}

impl<I> Message<I> {
    /// Whether it takes part: its first byte came, or it has ended without any.
    fn has_spoken(&self) -> bool {
        self.total > 0 || self.ending.is_some()
    }

    /// Whether it is held no longer, however young it is. Who has filled a message of datagrams says
    /// no more until that is confirmed: there is nothing to wait for.
    fn is_due(&self) -> bool {
        let full = if self.confirm_part { MAX_MESSAGE } else { HELD_BYTES };
        self.ending.is_some() || self.held.len() >= full
    }
}

/// The messages that are on their way to one output.
pub struct Mux<I> {
    sources: BTreeMap<Source, VecDeque<Message<I>>>,
    /// Of sources that share what they may have with others.
    parties: BTreeMap<Source, Party>,
    /// Sources of which nothing more comes, though something of them is still to be written.
    leaving: BTreeSet<Source>,
    /// Those whose first message is held, by when it began; what is done in a turn does not depend
    /// on how many they are.
    young: BTreeSet<(Duration, Source)>,
    /// The same, of messages that are held no longer and have no place among the waiting yet.
    due: BTreeSet<(Duration, Source)>,
    /// Those whose first message may have its turn.
    waiting: Turns,
    /// Since when somebody waits: until then the owner kept nobody from anything.
    waited_since: Duration,
    owner: Option<Source>,
    held: usize,
    held_by: BTreeMap<Party, usize>,
    /// How many messages may still end whole; `None` for no limit.
    left: Option<u64>,
    /// An owner may be silent this long while others wait.
    patience: Duration,
}

impl<I> Mux<I> {
    /// A mux that lets `limit` messages through.
    pub fn new(limit: Option<u64>, patience: Duration) -> Self {
        let sources = BTreeMap::new();
        Self {
            sources,
            parties: BTreeMap::new(),
            leaving: BTreeSet::new(),
            young: BTreeSet::new(),
            due: BTreeSet::new(),
            waiting: Turns::default(),
            waited_since: Duration::ZERO,
            owner: None,
            held: 0,
            held_by: BTreeMap::new(),
            left: limit,
            patience,
        }
    }

    /// Says whose `source` is, before its first message. Of others each is a party of its own.
    pub fn introduce(&mut self, source: Source, party: Party) {
        self.parties.insert(source, party);
    }

    /// Nothing more comes of `source`.
    pub fn forget(&mut self, source: Source) {
        if self.sources.contains_key(&source) {
            self.leaving.insert(source);
        } else {
            self.parties.remove(&source);
        }
    }

    fn party(&self, source: Source) -> Party {
        self.parties.get(&source).copied().unwrap_or(Party::Alone(source))
    }

    /// A message begins, behind those of the same source.
    pub fn begin(&mut self, source: Source, info: I, now: Duration) {
        let message = Message {
            info,
            held: Vec::new(),
            total: 0,
            began: now,
            last: now,
            ending: None,
            confirm_part: false,
            place: None,
        };
        self.sources.entry(source).or_default().push_back(message);
    }

    /// The first message of `source` has changed: finds its place among those that are held.
    fn place_first(&mut self, source: Source) {
        let first = self.sources.get(&source).and_then(VecDeque::front);
        let unplaced = |message: &&Message<I>| message.place.is_none() && message.has_spoken();
        let Some(message) = first.filter(unplaced) else { return };
        let place = (message.began, source);
        if message.is_due() {
            self.young.remove(&place);
            self.due.insert(place);
        } else {
            self.young.insert(place);
        }
    }

    /// More of the newest message of `source`. No bytes are nothing said.
    pub fn data(&mut self, source: Source, bytes: &[u8], now: Duration, sink: &mut dyn Sink<I>) {
        if bytes.is_empty() {
            return;
        }
        let Some(queue) = self.sources.get_mut(&source) else { return };
        let alone = queue.len() == 1;
        let Some(message) = queue.back_mut() else { return };
        let first = message.total == 0;
        if first {
            message.began = now;
        }
        message.total += bytes.len() as u64;
        message.last = now;
        // The owner's bytes go straight through: nothing is copied while the output keeps up.
        if self.owner == Some(source) && alone && message.held.is_empty() && sink.has_room() {
            sink.data(&message.info, bytes);
        } else {
            message.held.extend_from_slice(bytes);
            let due = message.is_due();
            self.hold(source, bytes.len());
            if (due || first) && alone {
                self.place_first(source);
            }
        }
    }

    fn hold(&mut self, source: Source, len: usize) {
        self.held += len;
        *self.held_by.entry(self.party(source)).or_default() += len;
    }

    fn release(&mut self, source: Source, len: usize) {
        self.held -= len;
        let party = self.party(source);
        if let Some(held) = self.held_by.get_mut(&party) {
            *held -= len;
            if *held == 0 {
                self.held_by.remove(&party);
            }
        }
    }

    /// Asks for a [`Written`] once all of the newest message so far is written; some of it has come.
    pub fn confirm_part(&mut self, source: Source) {
        if let Some(message) = self.sources.get_mut(&source).and_then(VecDeque::back_mut) {
            message.confirm_part = true;
        }
        self.place_first(source);
    }

    /// The sender is alive, though it has nothing to say.
    pub fn alive(&mut self, source: Source, now: Duration) {
        if let Some(message) = self.sources.get_mut(&source).and_then(VecDeque::back_mut) {
            message.last = now;
        }
    }

    /// The newest message of `source` is whole.
    pub fn end(&mut self, source: Source) {
        if let Some(message) = self.sources.get_mut(&source).and_then(VecDeque::back_mut) {
            message.ending = Some(Ending::Whole);
        }
        self.place_first(source);
    }

    /// The newest message of `source` will never be whole. What it is, if some of it may stand in
    /// the output already; one that never began to flow vanishes.
    pub fn cut(&mut self, source: Source) {
        let owns = self.owner == Some(source);
        let Some(queue) = self.sources.get_mut(&source) else { return };
        let alone = queue.len() == 1;
        let Some(message) = queue.back_mut() else { return };
        if message.ending.is_some() {
            return;
        }
        if owns && alone {
            message.ending = Some(Ending::Cut);
            return;
        }
        let (held, young, place) = (message.held.len(), (message.began, source), message.place);
        queue.pop_back();
        if queue.is_empty() {
            self.sources.remove(&source);
            self.young.remove(&young);
            self.due.remove(&young);
            if let Some(place) = place {
                self.waiting.remove(self.party(source), place);
            }
        }
        self.release(source, held);
    }

    /// Whether more of `source` should be read now.
    pub fn has_room(&self, source: Source) -> bool {
        let queue = self.sources.get(&source);
        // Nothing more is read of one who has a whole message waiting: one at a time.
        if queue.is_some_and(|q| q.front().is_some_and(|m| m.ending.is_some())) {
            return false;
        }
        let held = || queue.map_or(0, |q| q.iter().map(|m| m.held.len()).sum::<usize>());
        if self.held == 0 {
            return true;
        }
        if self.owner == Some(source) {
            return held() < OWNER_BYTES;
        }
        let by_party = self.held_by.get(&self.party(source)).copied().unwrap_or(0);
        let all = if by_party == 0 { ALL_BYTES } else { ALL_BYTES / 2 };
        held() < HELD_BYTES && by_party < PARTY_BYTES && self.held < all
    }

    /// Whether the message of `source` flows now.
    pub fn owns(&self, source: Source) -> bool {
        self.owner == Some(source)
    }

    /// How many messages may still end whole; `None` for no limit.
    pub fn left(&self) -> Option<u64> {
        self.left
    }

    /// How many messages are on their way. Those of which nothing came are not: they may never be.
    pub fn underway(&self) -> u64 {
        let spoken = |queue: &VecDeque<Message<I>>| queue.iter().filter(|m| m.has_spoken()).count();
        self.sources.values().map(|queue| spoken(queue) as u64).sum()
    }

    /// One of them has ended elsewhere.
    pub fn spend(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    /// Whether as many messages as were asked for have ended.
    pub fn is_sated(&self) -> bool {
        self.left == Some(0)
    }

    /// When [`Mux::pump`] or [`Mux::overdue`] has something to do again, without news.
    pub fn next_deadline(&self) -> Option<Duration> {
        let due = (!self.due.is_empty()).then_some(Duration::ZERO);
        let held = due.or_else(|| self.young.first().map(|(began, _)| *began + HELD_TIME));
        held.into_iter().chain(self.patience_ends()).min()
    }

    /// The owner that has sent nothing for too long while others wait.
    pub fn overdue(&self, now: Duration) -> Option<Source> {
        self.patience_ends().filter(|at| *at <= now).and(self.owner)
    }

    fn patience_ends(&self) -> Option<Duration> {
        let owner = self.sources.get(&self.owner?)?.front()?;
        let idle = owner.ending.is_none() && owner.held.is_empty() && !self.waiting.is_empty();
        idle.then(|| owner.last.max(self.waited_since) + self.patience)
    }

    /// Moves on what can move. What was written completely, or in confirmed part, is added to
    /// `written`.
    pub fn pump(&mut self, now: Duration, sink: &mut dyn Sink<I>, written: &mut Vec<Written>) {
        while self.pump_on(now, sink, written) {}
    }

    /// The same, up to the first that was written.
    pub fn pump_one(&mut self, now: Duration, sink: &mut dyn Sink<I>) -> Option<Written> {
        let mut written = Vec::new();
        while written.is_empty() && self.pump_on(now, sink, &mut written) {}
        written.pop()
    }

    /// Gives the owner its turn; whether the next may have one.
    fn pump_on(
        &mut self,
        now: Duration,
        sink: &mut dyn Sink<I>,
        written: &mut Vec<Written>,
    ) -> bool {
        self.queue_up(now);
        if self.owner.is_none() && !self.is_sated() {
            self.owner = self.waiting.pop();
            if let Some(message) = self.owner_message() {
                sink.begin(&message.info);
            }
        }
        self.owner.is_some_and(|source| self.pour(source, now, sink, written))
    }

    fn queue_up(&mut self, now: Duration) {
        while let Some((began, _)) = self.young.first()
            && *began + HELD_TIME <= now
        {
            self.due.extend(self.young.pop_first());
        }
        if self.waiting.is_empty() {
            self.waited_since = now;
        }
        while let Some((_, source)) = self.due.pop_first() {
            if let Some(message) = self.sources.get_mut(&source).and_then(VecDeque::front_mut) {
                let party = self.parties.get(&source).copied().unwrap_or(Party::Alone(source));
                message.place = Some(self.waiting.push(party, source));
            }
        }
    }

    fn owner_message(&mut self) -> Option<&mut Message<I>> {
        self.sources.get_mut(&self.owner?)?.front_mut()
    }

    /// Writes what the owner has; whether its message ended, so that the next may have its turn.
    fn pour(
        &mut self,
        source: Source,
        now: Duration,
        sink: &mut dyn Sink<I>,
        written: &mut Vec<Written>,
    ) -> bool {
        let Some(message) = self.owner_message() else {
            self.owner = None;
            return true;
        };
        if !message.held.is_empty() {
            if !sink.has_room() {
                return false;
            }
            // Until now it waited for us, which is no silence of its own.
            message.last = now;
            let held = std::mem::take(&mut message.held);
            sink.data(&message.info, &held);
            self.release(source, held.len());
        }
        let Some(message) = self.owner_message() else { return true };
        if message.confirm_part && message.ending.is_none() {
            message.confirm_part = false;
            written.push(Written { source, ticket: sink.mark(), total: None });
        }
        let Some(ending) = message.ending else { return false };
        sink.end(&message.info, ending);
        let total = message.total;
        if ending == Ending::Whole {
            written.push(Written { source, ticket: sink.mark(), total: Some(total) });
            self.spend();
        }
        self.leave(source);
        true
    }

    fn leave(&mut self, source: Source) {
        self.owner = None;
        if let Some(queue) = self.sources.get_mut(&source) {
            queue.pop_front();
            if queue.is_empty() {
                self.sources.remove(&source);
                if self.leaving.remove(&source) {
                    self.parties.remove(&source);
                }
            }
        }
        self.place_first(source);
    }
}

//! What a receiver remembers of runs, so that nothing is taken twice. PROTOCOL.md, 4.4.
//!
//! Messages of a run come one after the other, and a sender never needs an answer for one that is
//! past. So what is past needs no list: a run's current sequence says it. Of the current message
//! the mac1 of each packet is kept, because the same packet again is a replay and draws nothing,
//! while a new one for the same fragment is a retransmission and is acked. Of a run that was over
//! long ago only its name is kept: it draws nothing any more.
//!
//! A run whose packets cannot be accepted any more may be forgotten; whenever one is, the *floor* of
//! its window rises to its newest stamp, and a packet of an unknown run at or below the floor is
//! rejected. So what was forgotten stays rejected, whatever the clock does. Forgetting early, for
//! room, is what only a contact's own window does, and never above the present time: nobody moves
//! another's floor, and nobody with a right clock is shut out by one.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::packet::{MAX_MESSAGE, Mac1};
use super::windows::Windows;
use crate::crypto::sodium::PublicKey;
use crate::proto::time::CLOCK_WINDOW_MS;

/// How much a memory remembers, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Runs of a window that are remembered with all that is known of them.
    pub(super) runs: usize,
    /// Runs of a window that may be under way.
    pub(super) live_runs: usize,
    /// Packets that a window remembers, 16 bytes each.
    pub(super) packets: usize,
    /// Bytes of messages of a window that are in the making or not yet delivered.
    pub(super) bytes: usize,
    /// Runs that a window remembers in all, most of them by name: about 60 bytes each.
    pub(super) names: usize,
    /// How old a stamp may be for its packet to be accepted, in milliseconds.
    pub(super) life_ms: u64,
}

/// By the network: at most about 5 MiB a window.
pub(super) const BY_NETWORK: Bounds = Bounds {
    runs: 4096,
    live_runs: 1024,
    packets: 16_384,
    bytes: 4 << 20,
    names: 65_536,
    life_ms: CLOCK_WINDOW_MS,
};

/// Names that all windows of single contacts hold together: about 60 MiB. Beyond that the fullest
/// of them forgets.
const ALL_NAMES: usize = 1 << 20;
/// Packets of one message: 16 times each fragment.
const MAX_PACKETS_PER_MESSAGE: usize = 1024;

/// Names a run: whose it is, which of our keys it came for, and its random 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    pub(super) local: usize,
    pub(super) sender: PublicKey,
    pub(super) run: [u8; 8],
}

impl RunKey {
    /// The index of the local key that it came for.
    pub fn local(&self) -> usize {
        self.local
    }

    /// The sender's key.
    pub fn sender(&self) -> &PublicKey {
        &self.sender
    }

    /// What its sender calls it.
    pub fn run(&self) -> [u8; 8] {
        self.run
    }

    /// A short name for it. Only its sender, who chose `run`, and we can make another with the same.
    fn name(&self) -> Name {
        let (mut name, [_, key @ ..]) = ([0; 16], self.sender.as_bytes());
        name[..8].copy_from_slice(&self.run);
        name[8..14].copy_from_slice(&key[..6]);
        name[14..].copy_from_slice(&(self.local as u16).to_be_bytes());
        name
    }
}

type Name = [u8; 16];

/// Why a run is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// At or below the floor: it may be one that was forgotten.
    TooOld,
    /// Too much is under way; one that is given up makes room.
    Busy,
    /// So much is remembered that nothing more can be, until some of it is too old.
    Full,
}

struct Entry<T> {
    window: usize,
    /// Largest stamp of an accepted packet.
    newest: u64,
    /// The packets of the current message.
    seen: Vec<Mac1>,
    /// Nothing is expected any more: it may be forgotten.
    settled: bool,
    reserved: usize,
    state: T,
}

#[derive(Default)]
struct Window {
    floor: u64,
    runs: usize,
    live: usize,
    packets: usize,
    bytes: usize,
    /// The settled runs of which all is known, in the order in which they were settled.
    settled: VecDeque<RunKey>,
    /// The settled runs of which the name is known, the one with the oldest stamp first.
    names: BTreeSet<(u64, Name)>,
}

/// All windows, with a `T` for each run.
pub(super) struct Memory<T> {
    bounds: Bounds,
    entries: HashMap<RunKey, Entry<T>>,
    names: HashSet<Name>,
    windows: Windows<Window>,
    /// Names in windows of single contacts.
    of_contacts: usize,
}

impl<T> Memory<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let (entries, names) = (HashMap::new(), HashSet::new());
        Self { bounds, entries, names, windows: Windows::new(), of_contacts: 0 }
    }

    /// Packets may be older from now on.
    pub(super) fn prolong(&mut self, life_ms: u64) {
        self.bounds.life_ms = self.bounds.life_ms.max(life_ms);
    }

    pub(super) fn get(&self, key: &RunKey) -> Option<&T> {
        self.entries.get(key).map(|entry| &entry.state)
    }

    pub(super) fn get_mut(&mut self, key: &RunKey) -> Option<&mut T> {
        self.entries.get_mut(key).map(|entry| &mut entry.state)
    }

    /// Whether a run was over so long ago that only its name is known.
    pub(super) fn is_past(&self, key: &RunKey) -> bool {
        !self.names.is_empty() && self.names.contains(&key.name())
    }

    /// The window of a sender.
    pub(super) fn window(&mut self, key: &RunKey, contact: bool) -> usize {
        self.windows.of((key.local, key.sender), contact, |_| Window::default())
    }

    /// Whether only one sender can move the floor of a window.
    pub(super) fn is_ones(&self, window: usize) -> bool {
        self.windows.is_one(window)
    }

    /// Makes sure that a new run stamped `time_ms`, its first message `bytes` long, can be taken in
    /// at `now_ms` (Unix ms), forgetting settled runs where that helps.
    pub(super) fn has_room(
        &mut self,
        window: usize,
        time_ms: u64,
        bytes: usize,
        now_ms: u64,
    ) -> Result<(), Refused> {
        let this = &self.windows[window];
        if this.live >= self.bounds.live_runs || this.bytes + bytes > self.bounds.bytes {
            return Err(Refused::Busy);
        }
        let Bounds { runs, packets, names, .. } = self.bounds;
        while self.windows[window].runs >= runs || self.windows[window].packets >= packets {
            if !self.condense(window) {
                return Err(Refused::Busy);
            }
        }
        while self.windows[window].runs + self.windows[window].names.len() >= names {
            if !self.forget_oldest(window, now_ms) {
                return Err(Refused::Full);
            }
        }
        while self.of_contacts >= ALL_NAMES {
            if !self.fullest().is_some_and(|fullest| self.forget_oldest(fullest, now_ms)) {
                return Err(Refused::Full);
            }
        }
        // Only now: what was forgotten may have lifted the floor over this very packet.
        if time_ms <= self.windows[window].floor { Err(Refused::TooOld) } else { Ok(()) }
    }

    /// Whether a window that had no room has much of it again at `now_ms`.
    pub(super) fn has_eased(&self, window: usize, now_ms: u64) -> bool {
        let (this, bounds) = (&self.windows[window], &self.bounds);
        let is_idle = this.live <= bounds.live_runs / 2 && this.bytes <= bounds.bytes / 2;
        let notes = this.packets < bounds.packets || !this.settled.is_empty();
        let names = this.runs + this.names.len() < bounds.names || self.may_forget(window, now_ms);
        let fits = || self.fullest().is_some_and(|fullest| self.may_forget(fullest, now_ms));
        is_idle && notes && names && (self.of_contacts < ALL_NAMES || fits())
    }

    /// Takes in a run that is not known and that [`Memory::has_room`] for.
    pub(super) fn begin(&mut self, key: RunKey, window: usize, time_ms: u64, state: T) {
        self.windows[window].runs += 1;
        self.windows[window].live += 1;
        let seen = Vec::with_capacity(1);
        let entry = Entry { window, newest: time_ms, seen, settled: false, reserved: 0, state };
        self.entries.insert(key, entry);
    }

    /// The packets of the current message of a run.
    pub(super) fn seen(&self, key: &RunKey) -> &[Mac1] {
        self.entries.get(key).map_or(&[], |entry| &entry.seen)
    }

    /// Whether this very packet was accepted before.
    pub(super) fn has_seen(&self, key: &RunKey, mac1: &Mac1) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.seen.contains(mac1))
    }

    /// Remembers a packet of a known run; `false` if there is no room, and it must be dropped.
    pub(super) fn note(&mut self, key: &RunKey, mac1: Mac1, time_ms: u64) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        if entry.seen.len() >= MAX_PACKETS_PER_MESSAGE {
            return false;
        }
        let window = entry.window;
        while self.windows[window].packets >= self.bounds.packets {
            if !self.condense(window) {
                return false;
            }
        }
        // The run that gave way may have been this one.
        let Some(entry) = self.entries.get_mut(key) else { return false };
        self.windows[window].packets += 1;
        entry.seen.push(mac1);
        entry.newest = entry.newest.max(time_ms);
        true
    }

    /// The run has come to its next message: packets of those before are rejected by sequence.
    pub(super) fn advance(&mut self, key: &RunKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.windows[entry.window].packets -= entry.seen.len();
            entry.seen.clear();
        }
    }

    /// If `done` says so, nothing more is expected of this run and it holds no bytes: it may be
    /// forgotten.
    pub(super) fn settle_if(&mut self, key: &RunKey, done: impl FnOnce(&T) -> bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.settled || !done(&entry.state) {
            return;
        }
        entry.settled = true;
        let window = &mut self.windows[entry.window];
        window.live -= 1;
        window.settled.push_back(*key);
        self.release(key);
    }

    /// Sets room for `bytes` of a message aside; `false` if there is none. One that `goes_on` may
    /// use what no beginning may: else runs that have begun, and wait for the output, could take all
    /// the room that the run needs which has the output, and none would ever go on.
    pub(super) fn reserve(&mut self, key: &RunKey, bytes: usize, goes_on: bool) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let window = &mut self.windows[entry.window];
        let spare = if goes_on { MAX_MESSAGE } else { 0 };
        let fits = window.bytes + bytes <= self.bounds.bytes + spare;
        if fits {
            window.bytes += bytes;
            entry.reserved += bytes;
        }
        fits
    }

    /// Gives the room back that was set aside for a run.
    pub(super) fn release(&mut self, key: &RunKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.windows[entry.window].bytes -= std::mem::take(&mut entry.reserved);
        }
    }

    /// The state of a run that is under way.
    pub(super) fn live_state(&self, key: &RunKey) -> Option<&T> {
        self.entries.get(key).filter(|entry| !entry.settled).map(|entry| &entry.state)
    }

    /// The runs under way, of one window or of all.
    pub(super) fn live(&self, window: Option<usize>) -> impl Iterator<Item = (&RunKey, &T)> {
        let of = move |entry: &Entry<T>| !entry.settled && window.is_none_or(|w| w == entry.window);
        self.entries.iter().filter(move |(_, e)| of(e)).map(|(key, e)| (key, &e.state))
    }

    /// The window that a known run belongs to.
    pub(super) fn window_of(&self, key: &RunKey) -> Option<usize> {
        self.entries.get(key).map(|entry| entry.window)
    }

    /// Forgets settled runs whose stamps are out of the clock window.
    pub(super) fn forget_expired(&mut self, now_ms: u64) {
        let limit = now_ms.saturating_sub(self.bounds.life_ms);
        for number in 0..self.windows.len() {
            while self.windows[number].names.first().is_some_and(|name| name.0 < limit) {
                self.forget_name(number);
            }
            let (window, entries) = (&mut self.windows[number], &mut self.entries);
            let Window { settled, floor, runs, packets, .. } = window;
            settled.retain(|key| {
                let old = entries.get(key).filter(|entry| entry.newest < limit);
                let Some((newest, seen)) = old.map(|old| (old.newest, old.seen.len())) else {
                    return true;
                };
                *floor = newest.max(*floor);
                *runs -= 1;
                *packets -= seen;
                entries.remove(key);
                false
            });
        }
    }

    /// Keeps no more than the name of the run that was settled first; `false` if there is none.
    fn condense(&mut self, window: usize) -> bool {
        let Some(key) = self.windows[window].settled.pop_front() else { return false };
        let Some(entry) = self.entries.remove(&key) else { return false };
        let this = &mut self.windows[window];
        this.runs -= 1;
        this.packets -= entry.seen.len();
        this.names.insert((entry.newest, key.name()));
        self.names.insert(key.name());
        self.of_contacts += usize::from(self.windows.is_one(window));
        true
    }

    /// Whether the oldest name of a window may be forgotten for room: only its own sender's floor
    /// rises, and not above the present.
    fn may_forget(&self, window: usize, now_ms: u64) -> bool {
        let oldest = self.windows[window].names.first();
        self.is_ones(window) && oldest.is_some_and(|(newest, _)| *newest <= now_ms)
    }

    fn forget_oldest(&mut self, window: usize, now_ms: u64) -> bool {
        self.may_forget(window, now_ms) && self.forget_name(window)
    }

    /// Forgets the oldest name of a window and lifts the floor to its stamp.
    fn forget_name(&mut self, window: usize) -> bool {
        let this = &mut self.windows[window];
        let Some((newest, name)) = this.names.pop_first() else { return false };
        this.floor = this.floor.max(newest);
        self.names.remove(&name);
        self.of_contacts -= usize::from(self.windows.is_one(window));
        true
    }

    /// The single contact's window that holds most names.
    fn fullest(&self) -> Option<usize> {
        let singles = (0..self.windows.len()).filter(|window| self.is_ones(*window));
        singles.max_by_key(|window| self.windows[*window].names.len())
    }

    /// Runs of which all is remembered, in all windows.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.names.is_empty()
    }

    /// Bytes of messages in the making or not yet delivered, in all windows.
    pub(super) fn bytes(&self) -> usize {
        self.windows.iter().map(|(_, window)| window.bytes).sum()
    }
}

#[cfg(test)]
mod tests;

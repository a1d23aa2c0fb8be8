//! What a receiver remembers so that nothing is taken twice. PROTOCOL.md, 4.4.
//!
//! Messages of a run come one after the other, and a sender never needs an answer for one that is
//! past. So what is past needs no list: a run's current sequence says it. Of the current message
//! the mac1 of each packet is kept, because the same packet again is a replay and draws nothing,
//! while a new one for the same fragment is a retransmission and is acked.
//!
//! Each contact has a window of its own, all unknowns share one. A run whose packets cannot be
//! accepted any more may be forgotten; whenever one is, the window's *floor* rises to its newest
//! stamp, and a packet of an unknown run at or below the floor is rejected. So what was forgotten
//! stays rejected, whatever the clock does and whoever floods.

use std::collections::{BTreeSet, HashMap};

use super::packet::{MAX_MESSAGE, Mac1};
use crate::crypto::sodium::PublicKey;
use crate::proto::time::CLOCK_WINDOW_MS;

/// How much a memory remembers, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Runs that a window remembers.
    pub(super) runs: usize,
    /// Runs of a window that may be under way.
    pub(super) live_runs: usize,
    /// Packets that a window remembers, 16 bytes each.
    pub(super) packets: usize,
    /// Bytes of messages of a window that are in the making or not yet delivered.
    pub(super) bytes: usize,
    /// How old a stamp may be for its packet to be accepted, in milliseconds.
    pub(super) life_ms: u64,
}

/// By the network: about 1 MiB a window.
pub(super) const BY_NETWORK: Bounds = Bounds {
    runs: 4096,
    live_runs: 1024,
    packets: 16_384,
    bytes: 4 << 20,
    life_ms: CLOCK_WINDOW_MS,
};

/// Packets of one message: 16 times each fragment.
const MAX_PACKETS_PER_MESSAGE: usize = 1024;
/// Windows of contacts. More contacts than that share the window of the unknown.
pub(super) const MAX_WINDOWS: usize = 1024;

/// The window that all unknowns share.
const UNKNOWN: usize = 0;

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
}

/// Why a run is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// At or below the floor: it may be one that was forgotten.
    TooOld,
    /// No room, and nothing that may be forgotten.
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
    packets: usize,
    bytes: usize,
    /// The settled runs, the one with the oldest `newest` first.
    settled: BTreeSet<(u64, RunKey)>,
}

/// All windows, with a `T` for each run.
pub(super) struct Memory<T> {
    bounds: Bounds,
    entries: HashMap<RunKey, Entry<T>>,
    windows: Vec<Window>,
    contacts: HashMap<(usize, PublicKey), usize>,
}

impl<T> Memory<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let windows = vec![Window::default()];
        Self { bounds, entries: HashMap::new(), windows, contacts: HashMap::new() }
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

    /// The window of a sender; a contact's first run makes one.
    pub(super) fn window(&mut self, key: &RunKey, contact: bool) -> usize {
        if !contact {
            return UNKNOWN;
        }
        if let Some(window) = self.contacts.get(&(key.local, key.sender)) {
            return *window;
        }
        if self.windows.len() > MAX_WINDOWS {
            return UNKNOWN;
        }
        // Who is a contact only now may have been forgotten as an unknown.
        let floor = self.windows[UNKNOWN].floor;
        self.windows.push(Window { floor, ..Window::default() });
        let window = self.windows.len() - 1;
        self.contacts.insert((key.local, key.sender), window);
        window
    }

    /// Makes sure that a new run stamped `time_ms`, its first message `bytes` long, can be taken
    /// in, forgetting settled runs where that helps.
    pub(super) fn has_room(
        &mut self,
        window: usize,
        time_ms: u64,
        bytes: usize,
    ) -> Result<(), Refused> {
        let this = &self.windows[window];
        let live = this.runs - this.settled.len();
        if live >= self.bounds.live_runs || this.bytes + bytes > self.bounds.bytes {
            return Err(Refused::Full);
        }
        let Bounds { runs, packets, .. } = self.bounds;
        while self.windows[window].runs >= runs || self.windows[window].packets >= packets {
            if !self.forget_oldest(window) {
                return Err(Refused::Full);
            }
        }
        // Only now: what was forgotten may have lifted the floor over this very packet.
        if time_ms <= self.windows[window].floor { Err(Refused::TooOld) } else { Ok(()) }
    }

    /// Takes in a run that is not known and that [`Memory::has_room`] for.
    pub(super) fn begin(&mut self, key: RunKey, window: usize, time_ms: u64, state: T) {
        self.windows[window].runs += 1;
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
            if !self.forget_oldest(window) {
                return false;
            }
        }
        // The oldest run may have been this one.
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let window = &mut self.windows[window];
        window.packets += 1;
        entry.seen.push(mac1);
        let newest = entry.newest.max(time_ms);
        if entry.settled {
            window.settled.remove(&(entry.newest, *key));
            window.settled.insert((newest, *key));
        }
        entry.newest = newest;
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
        self.windows[entry.window].settled.insert((entry.newest, *key));
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
    pub(super) fn forget_expired(&mut self, unix_ms: u64) {
        let limit = unix_ms.saturating_sub(self.bounds.life_ms);
        for window in 0..self.windows.len() {
            while self.windows[window].settled.first().is_some_and(|run| run.0 < limit) {
                self.forget_oldest(window);
            }
        }
    }

    /// Forgets the settled run with the oldest stamp and lifts the floor to it.
    fn forget_oldest(&mut self, window: usize) -> bool {
        let this = &mut self.windows[window];
        let Some((newest, key)) = this.settled.pop_first() else { return false };
        this.floor = this.floor.max(newest);
        this.runs -= 1;
        if let Some(entry) = self.entries.remove(&key) {
            this.packets -= entry.seen.len();
        }
        true
    }

    /// Runs remembered, in all windows.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of messages in the making or not yet delivered, in all windows.
    pub(super) fn bytes(&self) -> usize {
        self.windows.iter().map(|window| window.bytes).sum()
    }
}

//! What an announcer remembers so that no probe is answered twice. PROTOCOL.md, 6.3.
//!
//! Each contact has a window, all others share one. A window holds the mac1 of what was answered for
//! as long as it would be accepted; when it is full, the oldest is forgotten and the *floor* rises to
//! its stamp, at or below which nothing is accepted. In front of that lies a ring of what opened
//! lately, answered or not, so that a replay costs one hash.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::bucket::Bucket;
use crate::crypto::sodium::PublicKey;
use crate::proto::datagram::packet::Mac1;
use crate::proto::datagram::probe::PROBE_LIFE_MS;

/// Probes that a window remembers.
pub(super) const MAX_SEEN: usize = 2048;
/// Windows of contacts. More contacts than that share the window of the unknown.
const MAX_WINDOWS: usize = 1024;
/// Packets that opened lately: a minute's worth at the rate at which an announcer opens them.
const MAX_RECENT: usize = 16_384;

/// Answers a second to one contact, and at once: a seeker in a hurry under heavy loss.
const CONTACT_RATE: (u32, u32) = (32, 128);
/// The same for all unknowns together.
const UNKNOWN_RATE: (u32, u32) = (16, 64);

struct Window {
    floor: u64,
    seen: BTreeSet<(u64, Mac1)>,
    bucket: Bucket,
}

impl Window {
    fn new((rate, burst): (u32, u32), floor: u64) -> Self {
        Self { floor, seen: BTreeSet::new(), bucket: Bucket::new(rate, burst) }
    }

    /// Whether a packet is new; it is remembered then.
    fn accept(&mut self, time_ms: u64, mac1: Mac1, unix_ms: u64) -> bool {
        let void = unix_ms.saturating_sub(PROBE_LIFE_MS);
        while self.seen.first().is_some_and(|(stamp, _)| *stamp < void) {
            self.forget_oldest();
        }
        if time_ms <= self.floor || self.seen.contains(&(time_ms, mac1)) {
            return false;
        }
        if self.seen.len() >= MAX_SEEN {
            self.forget_oldest();
        }
        // What was forgotten may have lifted the floor over this very packet.
        time_ms > self.floor && self.seen.insert((time_ms, mac1))
    }

    fn forget_oldest(&mut self) {
        if let Some((stamp, _)) = self.seen.pop_first() {
            self.floor = self.floor.max(stamp);
        }
    }
}

/// All windows, and the ring in front of them.
pub(super) struct Memory {
    unknown: Window,
    contacts: HashMap<(usize, PublicKey), Window>,
    recent: HashSet<Mac1>,
    order: VecDeque<Mac1>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            unknown: Window::new(UNKNOWN_RATE, 0),
            contacts: HashMap::new(),
            recent: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether this very packet opened lately.
    pub(super) fn is_recent(&self, mac1: &Mac1) -> bool {
        self.recent.contains(mac1)
    }

    /// A packet opened, whatever comes of it.
    pub(super) fn opened(&mut self, mac1: Mac1) {
        if self.order.len() >= MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        self.order.push_back(mac1);
        self.recent.insert(mac1);
    }

    /// Whether a probe of `sender` to key number `local` may be answered; it is remembered then.
    pub(super) fn accept(
        &mut self,
        (local, sender): (usize, PublicKey),
        contact: bool,
        (time_ms, mac1): (u64, Mac1),
        mono: Duration,
        unix_ms: u64,
    ) -> bool {
        let window = self.window(local, sender, contact);
        window.bucket.take(mono) && window.accept(time_ms, mac1, unix_ms)
    }

    fn window(&mut self, local: usize, sender: PublicKey, contact: bool) -> &mut Window {
        let known = self.contacts.contains_key(&(local, sender));
        if !contact || (!known && self.contacts.len() >= MAX_WINDOWS) {
            return &mut self.unknown;
        }
        // Who is a contact only now may have been forgotten as an unknown.
        let floor = self.unknown.floor;
        let new = || Window::new(CONTACT_RATE, floor);
        self.contacts.entry((local, sender)).or_insert_with(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac1(n: u64) -> Mac1 {
        let mut mac1 = [0; 16];
        mac1[..8].copy_from_slice(&n.to_be_bytes());
        mac1
    }

    #[test]
    fn what_a_full_window_forgot_is_not_accepted_again() {
        let mut window = Window::new(CONTACT_RATE, 0);
        let now = 1_000_000_000;
        let total = MAX_SEEN as u64 + 500;
        for n in 0..total {
            assert!(window.accept(now + n / 4, mac1(n), now), "{n} is new");
        }
        assert!(window.seen.len() <= MAX_SEEN);
        for n in 0..total {
            assert!(!window.accept(now + n / 4, mac1(n), now), "{n} was there before");
        }
    }

    #[test]
    fn what_is_void_makes_room_and_stays_refused() {
        let mut window = Window::new(CONTACT_RATE, 0);
        assert!(window.accept(1_000_000, mac1(1), 1_000_000));
        let later = 1_000_000 + PROBE_LIFE_MS + 1;
        assert!(window.accept(later, mac1(2), later));
        assert_eq!(window.seen.len(), 1);
        assert!(!window.accept(1_000_000, mac1(1), later));
    }
}

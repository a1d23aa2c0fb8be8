//! How a relay takes its leave: whoever is there gets what is held for it.

use mio::Events;

use super::{LINGER, Relay, client};
use crate::net::wire::Left;
use crate::proto::time::Now;

impl Relay<'_> {
    /// Takes leave: nobody else is let in, and cells are handed to whoever is there.
    pub(super) fn finish(&mut self) {
        self.ears.clear();
        let until = self.hub.clock.now().mono + LINGER;
        let mut events = Events::with_capacity(64);
        let mut keys: Vec<_> = self.slots.iter().map(|(key, _)| key).collect();
        loop {
            let now = self.hub.clock.now();
            let mut busy = false;
            keys.retain(|key| match self.hand_over(*key, now) {
                Some(more) => {
                    busy |= more;
                    true
                }
                None => false,
            });
            let wait = if busy { now.mono } else { until };
            let over = keys.is_empty() || now.mono >= until;
            if over || self.hub.wait(&mut events, Some(wait)).is_err() {
                return;
            }
            for event in &events {
                self.on_event(event);
            }
        }
    }

    /// Hands a client a part of what it is to read: whether there may be more at once; `None` when
    /// that was all, or there is nobody.
    pub(super) fn hand_over(&mut self, key: usize, now: Now) -> Option<bool> {
        let gone = self.write_cells(key, now);
        let more = self.table.has_more(key);
        let (wire, open) = client(&mut self.slots, key).filter(|_| !gone)?;
        // A socket that is closed with bytes unread sends a reset, which can overtake cells.
        let is_closed = wire.drain() == Left::Closed;
        if is_closed || (!more && open.link.pending().is_empty()) {
            wire.end_writing();
            return None;
        }
        Some(more && wire.is_writable())
    }
}

//! How a listener takes its leave: whoever was heard gets the last acknowledgement, whoever was not
//! gets a reason.

use std::time::Duration;

use mio::Events;

use super::Listener;
use super::conn::Left;
use crate::proto::mux::Source;
use crate::proto::stream::record::RefuseCode;

/// Peers may take this long to take what we say last.
const LINGER: Duration = Duration::from_secs(2);

impl Listener<'_> {
    /// A signal came.
    pub(super) fn say_stopped(&mut self) {
        let now = self.hub.clock.now();
        for conn in self.conns.values_mut() {
            conn.stop(now);
        }
    }

    /// Refuses what is not acknowledged, for the reason given, and waits until everybody has read
    /// what we said: a socket that is closed with bytes unread sends a reset, which can overtake an
    /// acknowledgement. Senders of datagrams may have lost theirs, and ask again.
    pub(super) fn finish(&mut self, code: RefuseCode, space: &mut [u8]) {
        let now = self.hub.clock.now();
        self.ears.clear();
        self.datagrams.refuse_all(&mut self.shared);
        for (token, conn) in &mut self.conns {
            conn.refuse(code, Source(*token as u64), now, &mut self.shared);
        }
        self.conns.retain(|_, conn| conn.is_open());
        let udp = if self.datagrams.count() > 0 { self.datagrams.linger() } else { Duration::ZERO };
        let (until, udp_until) = (now.mono + LINGER, now.mono + udp);
        let mut events = Events::with_capacity(64);
        let mut half_closed = Vec::new();
        loop {
            let mut wait = until;
            self.conns.retain(|token, conn| {
                if conn.flush() && !half_closed.contains(token) {
                    conn.end_writing();
                    half_closed.push(*token);
                }
                let left = conn.drain();
                if left == Left::More {
                    wait = Duration::ZERO;
                }
                left != Left::Closed
            });
            let now = self.hub.clock.now();
            self.datagrams.drive(now, space, &mut self.shared, self.stage);
            // A run that begins now is too late.
            self.datagrams.refuse_all(&mut self.shared);
            let tcp_over = self.conns.is_empty() || now.mono >= until;
            let over = (tcp_over && now.mono >= udp_until) || self.hub.signals.arrived().is_some();
            let next = match self.datagrams.has_more() {
                true => Duration::ZERO,
                false if tcp_over => udp_until,
                false => wait,
            };
            if over || self.hub.wait(&mut events, Some(next)).is_err() {
                return;
            }
            for event in &events {
                self.on_event(event);
            }
        }
    }
}

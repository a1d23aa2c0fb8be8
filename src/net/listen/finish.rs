//! How a listener takes its leave: whoever was heard gets the last acknowledgement, whoever was not
//! gets a reason.

use std::collections::BTreeSet;
use std::time::Duration;

use mio::Events;

use super::Listener;
use super::conn::LINGER;
use crate::net::wire::Left;
use crate::proto::stream::record::RefuseCode;
use crate::sched::party::Source;

/// Who has connected may take this long to show that it knows our key.
const GRACE: Duration = Duration::from_millis(500);

/// A relay may take this long to read what was acknowledged before a signal came.
const LAST_WORDS: Duration = Duration::from_millis(250);

impl Listener<'_> {
    /// A signal came.
    pub(super) fn say_stopped(&mut self) {
        let now = self.hub.clock.now();
        for (token, conn) in &mut self.conns {
            conn.stop(Source::Connection(*token), now, &mut self.shared);
        }
        self.relays.close(now, &mut self.shared);
        let until = now.mono + LAST_WORDS;
        let mut events = Events::with_capacity(64);
        while !self.relays.have_left() && self.hub.clock.now().mono < until {
            if self.hub.wait(&mut events, Some(until)).is_err() {
                return;
            }
            for event in &events {
                self.on_event(event);
            }
        }
    }

    /// Refuses what is not acknowledged, for the reason given, and what callers at the door still
    /// begin; and waits until everybody has read what we said: a socket that is closed with bytes
    /// unread sends a reset, which can overtake an acknowledgement. Senders of datagrams may have
    /// lost theirs, and ask again.
    pub(super) fn finish(&mut self, code: RefuseCode, space: &mut [u8]) {
        let now = self.hub.clock.now();
        // Who waits to be accepted would draw a reset from a closed socket, and nothing may have
        // told us of them yet.
        self.ears.look_again();
        self.accept(now.mono);
        self.ears.clear();
        self.calls.clear();
        self.shared.refusing = Some(code);
        self.datagrams.refuse_all(now, &mut self.shared);
        self.relays.close(now, &mut self.shared);
        for (token, conn) in &mut self.conns {
            // Who waited for others is told like everybody.
            conn.hold(false);
            conn.refuse_all(code, Source::Connection(*token), now, &mut self.shared);
        }
        let udp = if self.datagrams.count() > 0 { self.datagrams.linger() } else { Duration::ZERO };
        let (until, udp_until) = (now.mono + LINGER, now.mono + udp);
        let grace = now.mono + GRACE;
        let mut events = Events::with_capacity(64);
        let mut half_closed = BTreeSet::new();
        loop {
            let now = self.hub.clock.now();
            let first = now.mono < grace;
            self.conns.retain(|_, conn| conn.is_open() || conn.may_begin(first));
            let busy = self.take_leave(&mut half_closed, space);
            self.datagrams.drive(now, space, &mut self.shared, self.stage);
            // A run that begins now is too late.
            self.datagrams.refuse_all(now, &mut self.shared);
            let relays_left = self.relays.have_left();
            let tcp_over = (self.conns.is_empty() && relays_left) || now.mono >= until;
            let over = (tcp_over && now.mono >= udp_until) || self.hub.signals.arrived().is_some();
            let next = match busy || self.datagrams.has_more() {
                true => Duration::ZERO,
                false if tcp_over => udp_until,
                false if first => grace,
                false => until,
            };
            if over || self.hub.wait(&mut events, Some(next)).is_err() {
                return;
            }
            for event in &events {
                self.on_event(event);
            }
        }
    }

    /// Goes on with each connection, or takes leave of it; whether any could go on at once.
    fn take_leave(&mut self, half_closed: &mut BTreeSet<usize>, space: &mut [u8]) -> bool {
        let mut busy = false;
        let now = self.hub.clock.now();
        let (shared, stage) = (&mut self.shared, &mut *self.stage);
        self.conns.retain(|token, conn| {
            if conn.may_begin(true) {
                let source = Source::Connection(*token);
                let over = conn.drive(source, now, space, shared, stage);
                // Nobody takes turns any more.
                busy |= conn.knocks() && conn.answer(now, shared);
                busy |= conn.has_more() && !conn.is_stalled(source, &shared.mux);
                return !over;
            }
            conn.take_leave(now);
            if conn.flush() && half_closed.insert(*token) {
                conn.end_writing();
            }
            let left = conn.drain();
            busy |= left == Left::More;
            left != Left::Closed
        });
        busy
    }
}

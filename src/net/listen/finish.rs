//! How a listener takes its leave: whoever was heard gets the last acknowledgement, whoever was not
//! gets a reason.

use std::io::Read;
use std::net::Shutdown;
use std::time::Duration;

use mio::Events;

use super::Listener;
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
            self.conns.retain(|token, conn| {
                if conn.flush() && !half_closed.contains(token) {
                    // A peer that is gone already needs no goodbye.
                    let _ = conn.socket().shutdown(Shutdown::Write);
                    half_closed.push(*token);
                }
                !is_closed_by_peer(conn.socket())
            });
            let now = self.hub.clock.now();
            self.datagrams.drive(now, space, &mut self.shared, self.stage);
            // A run that begins now is too late.
            self.datagrams.refuse_all(&mut self.shared);
            let tcp_over = self.conns.is_empty() || now.mono >= until;
            let over = (tcp_over && now.mono >= udp_until) || self.hub.signals.arrived().is_some();
            let next = if tcp_over { udp_until } else { until.max(udp_until) };
            if over || self.hub.wait(&mut events, Some(next)).is_err() {
                return;
            }
            for event in &events {
                self.on_event(event);
            }
        }
    }
}

/// Reads and drops what still comes.
fn is_closed_by_peer(socket: &mut mio::net::TcpStream) -> bool {
    let mut space = [0; 16 * 1024];
    loop {
        match socket.read(&mut space) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

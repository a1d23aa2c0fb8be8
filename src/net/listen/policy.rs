//! Who is let in and who is served, as far as sockets and sessions have to do with it: the rules are
//! in [`crate::proto::limits`].

use std::time::Duration;

use super::conn::{Conn, Shared};
use super::{Listener, Notice};
use crate::net::descriptors::descriptors;
use crate::proto::mux::Source;
use crate::proto::stream::record::RefuseCode;

impl Listener<'_> {
    /// Those at the door whose turn it is are read from now on.
    pub(super) fn let_in(&mut self, now: Duration) {
        while let Some(token) = self.door.next(now) {
            self.runnable.push(token);
        }
        if let Some((limit, network)) = self.door.obstacle(now) {
            self.shared.host.notice(Notice::KeptOut(limit, network));
        }
    }

    /// Whether one more connection can be accepted.
    pub(super) fn has_room(&self) -> bool {
        self.conns.len() < self.max_conns || self.yields().is_some()
    }

    /// The connection that goes if need be: a caller whose handshake is not over, else a session
    /// without a message, else one that would have to wait for long anyway.
    fn yields(&self) -> Option<usize> {
        let is_conn = |Source(n): Source| self.conns.contains_key(&(n as usize));
        let session = || self.shared.seats.yields(is_conn).map(|Source(n)| n as usize);
        self.door.yields().or_else(session)
    }

    /// For a connection that was just accepted.
    pub(super) fn make_room(&mut self) {
        if self.conns.len() < self.max_conns {
            return;
        }
        let now = self.hub.clock.now();
        let Some(token) = self.yields() else { return };
        if let Some(conn) = self.conns.get_mut(&token) {
            conn.refuse(RefuseCode::NoRoom, Source(token as u64), now, &mut self.shared);
            conn.flush();
        }
        self.remove(token, now.mono);
    }

    /// A connection at the door is not read; it may be closed.
    pub(super) fn keep(&mut self, token: usize, now: Duration) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        match conn.deadline(Source(token as u64), &self.shared) {
            Some(at) if at <= now => self.remove(token, now),
            Some(at) => self.timers.set(token, at),
            None => {}
        }
    }

    /// When the first that rests, because it has said much, is read again.
    pub(super) fn rests(&self) -> Option<Duration> {
        self.limits.bounds.messages?;
        let now = self.hub.clock.now().mono;
        let sources = self.stalled.iter().map(|token| Source(*token as u64));
        sources.map(|source| self.shared.seats.rests(source)).filter(|at| *at > now).min()
    }
}

/// Sessions that can be served at once with the descriptors there are: half of them are for
/// connections, and half of these for such as have to wait.
pub fn most_clients() -> usize {
    descriptors() / 4
}

/// Somebody who is let in needs a seat while a message is on its way.
pub(super) fn seat(conn: &mut Conn, source: Source, now: Duration, shared: &mut Shared<'_>) {
    let Some((peer, party)) = conn.peer().zip(conn.party()) else { return };
    if !conn.needs_seat() {
        return;
    }
    shared.seats.enter(source, party, now);
    shared.seats.set_busy(source, conn.is_receiving(), now);
    if let Some(limit) = shared.seats.keeps_waiting(source, now) {
        shared.host.notice(Notice::Kept(limit, peer));
        conn.hold(true);
    }
}

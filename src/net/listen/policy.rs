//! Who is let in and who is served, as far as sockets and sessions have to do with it: the rules are
//! in [`crate::sched::limits`].

use std::time::Duration;

use super::conn::{Conn, Shared};
use super::{Listener, MAX_WAITING, Notice, OPENING_A_TURN};
use crate::net::descriptors;
use crate::proto::stream::record::RefuseCode;
use crate::proto::time::Now;
use crate::sched::party::Source;

/// Descriptors that are left to others than connections, at least: contacts are read one by one.
const OTHER_DESCRIPTORS: usize = 1;
/// How often room is looked for when somebody calls and there is none.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Listener<'_> {
    /// Those at the door whose turn it is have what they said opened, for a while.
    pub(super) fn let_in(&mut self, now: Duration) {
        loop {
            let so_far = self.hub.clock.now();
            if so_far.mono >= now + OPENING_A_TURN {
                return;
            }
            let Some(token) = self.door.next(so_far.mono) else { return };
            self.open(token, so_far);
        }
    }

    /// Tells who is kept waiting at the door.
    pub(super) fn tell_obstacle(&mut self, now: Duration) {
        if let Some((limit, network)) = self.door.obstacle(now) {
            self.shared.host.notice(Notice::KeptOut(limit, network));
        }
    }

    /// Opens what connection `token` said first, and answers it if it is good.
    pub(super) fn open(&mut self, token: usize, now: Now) {
        let conn = self.conns.get_mut(&token);
        if conn.is_some_and(|conn| conn.answer(now, &mut self.shared)) {
            self.door.answered(token, now.mono);
        }
        self.runnable.push(token);
    }

    /// Whether one more connection can be accepted.
    pub(super) fn has_room(&self, now: Duration) -> bool {
        !self.is_full() || self.yields(now).is_some()
    }

    fn is_full(&self) -> bool {
        self.conns.len() >= self.room.connections || self.door.len() >= self.room.waiting
    }

    /// The connection that goes if need be: a caller whose handshake is not over; else, if there are too
    /// many connections in all, a session without a message, or one that would have to wait for long
    /// anyway.
    fn yields(&self, now: Duration) -> Option<usize> {
        let is_conn = |source: Source| {
            source.connection().is_some_and(|number| self.conns.contains_key(&number))
        };
        let crowded = self.conns.len() >= self.room.connections;
        let session = || self.shared.seats.yields(now, is_conn).and_then(Source::connection);
        self.door.yields(now).or_else(|| crowded.then(session).flatten())
    }

    /// When somebody who calls and finds no room may find some, though nothing else happens.
    pub(super) fn next_place(&self, now: Duration) -> Duration {
        let soon = now + LOOK_AGAIN;
        self.door.next_place().map_or(soon, |at| at.min(soon))
    }

    /// For a connection that was just accepted.
    pub(super) fn make_room(&mut self) {
        if !self.is_full() {
            return;
        }
        let now = self.hub.clock.now();
        let Some(token) = self.yields(now.mono) else { return };
        if let Some(conn) = self.conns.get_mut(&token) {
            conn.refuse(RefuseCode::NoRoom, Source::Connection(token), now, &mut self.shared);
            conn.flush();
        }
        self.remove(token, now.mono);
    }

    /// A connection waits at the door and is not read; it may be closed.
    pub(super) fn keep(&mut self, token: usize, now: Duration) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        match conn.deadline(Source::Connection(token), &self.shared) {
            Some(at) if at <= now => self.remove(token, now),
            Some(at) => self.timers.set(token, at),
            None => {}
        }
    }

    /// When the first that rests, because it has said much, is read again.
    pub(super) fn rests(&self) -> Option<Duration> {
        self.limits.bounds.messages?;
        let now = self.hub.clock.now().mono;
        let sources = self.stalled.iter().map(|token| Source::Connection(*token));
        sources.map(|source| self.shared.seats.rests(source)).filter(|at| *at > now).min()
    }
}

/// Sessions that can be served at once with the descriptors that this process may have.
pub fn most_clients() -> usize {
    let most = descriptors::most();
    Room::of(most, most).clients()
}

/// Whether the descriptors that this process may still open are too few to hear anybody by TCP.
pub fn has_too_few_descriptors() -> bool {
    Room::of(descriptors::most(), descriptors::spare()).connections == 0
}

/// How many connections there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// All together.
    pub connections: usize,
    /// Those whose handshake is not over.
    pub waiting: usize,
}

impl Room {
    /// With so many descriptors, of which some are `spare`: half of them are for connections, the others
    /// for files, commands and circuits.
    pub fn of(most: usize, spare: usize) -> Self {
        let connections = (most / 2).min(spare.saturating_sub(OTHER_DESCRIPTORS));
        Self { connections, waiting: MAX_WAITING }.at_most(connections)
    }

    /// The same with `most` connections at most.
    pub fn at_most(self, most: usize) -> Self {
        let connections = self.connections.min(most);
        Self { connections, waiting: self.waiting.min((connections / 2).max(1)) }
    }

    /// Sessions that are served at once: as many can wait.
    pub fn clients(self) -> usize {
        (self.connections / 2).max(1)
    }
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

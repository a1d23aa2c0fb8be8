//! Who comes: strangers, clients that are let in, and whoever asks for counts.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::Interest;
use mio::net::TcpStream;

use super::{Relay, Slot};
use crate::net::buffers;
use crate::net::descriptors;
use crate::net::tokens::Topic;
use crate::net::wire::Wire;
use crate::proto::time::Now;
use crate::relay::client::{Client, Knock};
use crate::relay::metrics::{Asking, MAX_ASKING};
use crate::sched::party::{Network, Party};

/// Connections that are accepted before others have their turn.
const ACCEPTS_A_TURN: usize = 64;
/// What waits to be opened is opened for so long before others have their turn: some three
/// handshakes.
const OPENING_A_TURN: Duration = Duration::from_millis(1);
/// Connections whose handshake is not over, at most; or a quarter of the descriptors. Each takes some
/// 3 kB, and what the system keeps for its socket.
const MAX_WAITING: usize = 8192;
/// Descriptors for everything that is no client, such as who asks for counts, and pipes of circuits;
/// or a quarter of them.
const OTHER_DESCRIPTORS: usize = 64;
/// How often room is looked for when somebody calls and there is none.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How many connections there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Clients at once.
    pub clients: usize,
    /// Connections whose handshake is not over.
    pub waiting: usize,
}

impl Room {
    /// With the descriptors that this process may still open: none for anybody if they are few.
    pub fn now() -> Self {
        let spare = descriptors::spare();
        let usable = spare - OTHER_DESCRIPTORS.min(spare.div_ceil(4));
        let waiting = usable.div_ceil(4);
        Self { clients: usable - waiting, waiting: waiting.min(MAX_WAITING) }
    }
}

/// Callers who have been answered and find no place: they wait, unread, until there is one.
#[derive(Default)]
pub struct Outside(VecDeque<usize>);

impl Relay<'_> {
    pub(super) fn accept(&mut self, now: Now) {
        self.ears.begin_turn(now.mono, ACCEPTS_A_TURN);
        while self.ears.are_called() && self.has_room(now.mono) {
            let Some((socket, address, _)) = self.ears.accept(now.mono) else { return };
            if self.is_full()
                && let Some(gone) = self.door.yields(now.mono)
            {
                self.remove(gone, now);
            }
            self.receive(socket, address, now);
        }
    }

    fn is_full(&self) -> bool {
        let most = self.settings.max_clients + self.max_waiting;
        self.slots.len() >= most || self.door.len() >= self.max_waiting
    }

    /// Whether one more connection can be accepted.
    fn has_room(&self, now: Duration) -> bool {
        !self.is_full() || self.door.yields(now).is_some()
    }

    /// When somebody who calls can be accepted, or may be, though nothing else happens.
    pub(super) fn next_accept(&self, now: Duration) -> Option<Duration> {
        let soon = now + LOOK_AGAIN;
        let place = match self.has_room(now) {
            true => now,
            false => self.door.next_place().map_or(soon, |at| at.min(soon)),
        };
        self.ears.are_called().then_some(place)
    }

    /// Those at the door whose turn it is have what they said opened, for a while.
    pub(super) fn let_in(&mut self, now: Now) {
        loop {
            let so_far = self.hub.clock.now();
            if so_far.mono >= now.mono + OPENING_A_TURN {
                return;
            }
            let Some(key) = self.door.next(so_far.mono) else { return };
            let Some(Slot::Client(client)) = self.slots.get_mut(key) else { continue };
            if client.answer(so_far, &self.doorway, &mut self.replays) {
                self.door.answered(key, so_far.mono);
            }
            self.drive_gate(key, so_far);
        }
    }

    pub(super) fn receive(&mut self, mut socket: TcpStream, address: SocketAddr, now: Now) {
        let key = self.slots.vacant_key();
        if self.watch(&mut socket, key).is_err() {
            return;
        }
        buffers::bound(&socket);
        let party = Party::Address(Network::of(address.ip()));
        let client = Client::new(Wire::new(socket, address), party, now);
        self.timers.set(key, client.deadline());
        self.slots.insert(Slot::Client(Box::new(client)));
        self.door.arrive(key, address.ip(), now.mono);
    }

    pub(super) fn watch(&self, socket: &mut TcpStream, key: usize) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        let topic = Topic::Connection(key + 1);
        self.hub.registry().register(socket, topic.token(), both)
    }

    pub(super) fn drive_gate(&mut self, key: usize, now: Now) {
        let Some(Slot::Client(client)) = self.slots.get_mut(key) else { return };
        let party = client.party;
        let full = self.crowd.len() >= self.settings.max_clients;
        if full && client.has_its_answer() && self.crowd.yields_to(party).is_none() {
            return self.keep_out(key, now);
        }
        match client.knock(now, &mut self.space, &self.doorway) {
            Knock::Wait => {
                self.timers.set(key, client.deadline());
                if client.knocks() {
                    self.door.knock(key, now.mono);
                }
                if client.wire.is_readable() {
                    self.due.push(key);
                }
            }
            Knock::Gone => self.remove(key, now),
            Knock::Admitted(rest) => {
                client.is_outside = false;
                self.door.leave(key, now.mono);
                self.counts.admitted += 1;
                let has_room = self.make_room(party, now);
                self.crowd.enter(party, key);
                self.table.enter(key, self.number_of(party));
                // Nothing is said before WELCOME.
                match has_room && rest == 0 {
                    true => self.drive_client(key, now),
                    false => self.remove(key, now),
                }
            }
        }
    }

    /// There is no place for a caller that was answered: what it says next is not read before there
    /// is one.
    fn keep_out(&mut self, key: usize, now: Now) {
        let Some(Slot::Client(client)) = self.slots.get_mut(key) else { return };
        match client.deadline() {
            at if at <= now.mono => self.remove(key, now),
            at => {
                self.timers.set(key, at);
                if !std::mem::replace(&mut client.is_outside, true) {
                    self.outside.0.push_back(key);
                }
            }
        }
    }

    /// A client is gone: whoever waits longest for a place may have found one.
    pub(super) fn call_in(&mut self) {
        while let Some(key) = self.outside.0.pop_front() {
            if let Some(Slot::Client(client)) = self.slots.get_mut(key)
                && std::mem::take(&mut client.is_outside)
            {
                return self.due.push(key);
            }
        }
    }

    /// Whether there is a place for a newcomer, if need be because somebody gives way.
    pub(super) fn make_room(&mut self, party: Party, now: Now) -> bool {
        if self.crowd.len() < self.settings.max_clients {
            return true;
        }
        let yields = self.crowd.yields_to(party);
        yields.is_some_and(|key| {
            self.remove(key, now);
            true
        })
    }

    pub(super) fn accept_asking(&mut self, now: Now) {
        self.metrics.begin_turn(now.mono, MAX_ASKING);
        while self.asking < MAX_ASKING {
            let Some((mut socket, address, _)) = self.metrics.accept(now.mono) else { return };
            let key = self.slots.vacant_key();
            if self.watch(&mut socket, key).is_ok() {
                let asking = Asking::new(Wire::new(socket, address), now.mono);
                self.timers.set(key, asking.deadline());
                self.slots.insert(Slot::Asking(Box::new(asking)));
                self.asking += 1;
                self.answer(key);
            }
        }
        self.metrics.rest(now.mono);
    }

    /// Goes on with somebody who asks for the counts.
    pub(super) fn answer(&mut self, key: usize) {
        let (now, counts) = (self.hub.clock.now(), self.counts());
        let Some(Slot::Asking(asking)) = self.slots.get_mut(key) else { return };
        match asking.drive(now.mono, &counts) {
            true => self.remove(key, now),
            false => self.timers.set(key, asking.deadline()),
        }
    }
}

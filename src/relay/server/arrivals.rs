//! Who comes: strangers, clients that are let in, and whoever asks for counts.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::{FIRST_CONN, Relay, Slot};
use crate::net::wire::Wire;
use crate::proto::limits::{Network, Party};
use crate::proto::time::Now;
use crate::relay::client::{Client, Knock};
use crate::relay::metrics::{Asking, MAX_ASKING};

/// Connections that are accepted before others have their turn.
const ACCEPTS_A_TURN: usize = 64;

impl Relay<'_> {
    pub(super) fn accept(&mut self, now: Now) {
        self.ears.begin_turn(now.mono, ACCEPTS_A_TURN);
        loop {
            let most = self.settings.max_clients + self.max_waiting;
            if self.slots.len() >= most && self.door.is_empty() {
                return self.ears.rest(now.mono);
            }
            let Some((socket, address, _)) = self.ears.accept(now.mono) else { return };
            if (self.slots.len() >= most || self.door.len() >= self.max_waiting)
                && let Some(oldest) = self.door.yields()
            {
                self.remove(oldest, now);
            }
            self.receive(socket, address, now);
        }
    }

    pub(super) fn receive(&mut self, mut socket: TcpStream, address: SocketAddr, now: Now) {
        let key = self.slots.vacant_key();
        if self.watch(&mut socket, key).is_err() {
            return;
        }
        // Without it small records wait for acknowledgements; slower, not wrong.
        let _ = socket.set_nodelay(true);
        let party = Party::Address(Network::of(address.ip()));
        let client = Client::new(Wire::new(socket, address), party, now);
        self.timers.set(key, client.deadline());
        self.slots.insert(Slot::Client(Box::new(client)));
        self.door.arrive(key, address.ip(), now.mono);
    }

    pub(super) fn watch(&self, socket: &mut TcpStream, key: usize) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.hub.registry().register(socket, Token(FIRST_CONN + key), both)
    }

    pub(super) fn drive_gate(&mut self, key: usize, now: Now) {
        let Some(Slot::Client(client)) = self.slots.get_mut(key) else { return };
        if self.door.keeps(key) {
            match client.deadline() {
                at if at <= now.mono => self.remove(key, now),
                at => self.timers.set(key, at),
            }
            return;
        }
        let (number, party) = (self.counts.admitted as usize, client.party);
        match client.knock(now, &mut self.space, &self.doorway, &mut self.replays, number) {
            Knock::Wait => {
                self.timers.set(key, client.deadline());
                if client.wire.is_readable() {
                    self.queue(key);
                }
            }
            Knock::Gone => self.remove(key, now),
            Knock::Admitted(rest) => {
                self.door.leave(key, now.mono);
                self.counts.admitted += 1;
                let has_room = self.make_room(party, now);
                self.crowd.enter(party, key);
                // Nothing is said before WELCOME.
                match has_room && rest == 0 {
                    true => self.drive_client(key, now),
                    false => self.remove(key, now),
                }
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

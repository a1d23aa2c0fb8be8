//! The relay's loop: who has something to do has a turn, one a party in a circle, and each turn is
//! bounded: whoever floods the relay delays the others by its own turn and no more.
//!
//! `arrivals` is who comes, `cells` what clients ask for and are handed, `circuits` those that are
//! joined, `finish` how it all ends. This file is the loop that gives them their turns.

mod arrivals;
mod cells;
mod circuits;
mod finish;

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::time::Duration;

use mio::Events;
use mio::event::Event;
use mio::net::TcpListener;
use slab::Slab;

use self::arrivals::Outside;
pub use self::arrivals::Room as Places;
use super::circuit::{Circuit, Pipes};
use super::client::{Client, Doorway, Open, Stage};
use super::counts::Counts;
use super::crowd::Crowd;
use super::metrics::Asking;
use super::room::Room;
use super::store::Memory;
use super::stuck::Stuck;
use super::table::{self, News, Table};
use crate::net::ears::Ears;
use crate::net::hub::{Hub, WAKE};
use crate::net::timers::Timers;
use crate::net::tokens::Topic;
use crate::net::wire::Wire;
use crate::proto::stream::outgoing::Outgoing;
use crate::proto::stream::replay::ReplayGuard;
use crate::proto::time::Now;
use crate::sched::limits::{Bounds, Door, Rate};
use crate::sched::party::{Party, Source};
use crate::sched::turns::Turns;

/// What is read at once, in bytes.
const READ_SPACE: usize = 256 * 1024;
/// After so long we look who has come meanwhile.
const LOOK_EVERY: Duration = Duration::from_micros(50);
/// Several parties are served in turn: so it is for so long after one turn was another party's than
/// the turn before. Turns are short then, and nobody waits long for the next.
const CONTENTION: Duration = Duration::from_millis(10);
/// Cells that are freed in one turn because they are too old, about.
const EXPIRE_A_TURN: u64 = 4096;
/// What was said last may take this long to be read.
const LINGER: Duration = Duration::from_secs(2);

/// What one relay does for how many.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What mailboxes may hold.
    pub table: table::Bounds,
    /// Clients at once.
    pub max_clients: usize,
    /// Cells of one client.
    pub rate: Option<Rate>,
    /// How often the counts are told.
    pub tell_every: Duration,
}

/// The program around the loop.
pub trait Host {
    /// Time to tell what there is.
    fn tell(&mut self, counts: &Counts);
}

/// Why the relay ended.
#[derive(Debug)]
pub enum RelayError {
    /// The system refused.
    Local(io::Error),
    /// A signal came.
    Signal(i32),
}

/// A connection.
enum Slot {
    Client(Box<Client>),
    /// One side of a circuit.
    End(usize, usize),
    Asking(Box<Asking>),
}

/// A client that was let in and does not leave, and its socket.
fn client(slots: &mut Slab<Slot>, key: usize) -> Option<(&mut Wire, &mut Open)> {
    match slots.get_mut(key) {
        Some(Slot::Client(client)) => client.open(),
        _ => None,
    }
}

/// The loop and all that it serves.
pub struct Relay<'a> {
    hub: &'a mut Hub,
    host: &'a mut dyn Host,
    settings: Settings,
    doorway: Doorway,
    replays: ReplayGuard,
    ears: Ears,
    metrics: Ears,
    asking: usize,
    door: Door,
    outside: Outside,
    crowd: Crowd,
    max_waiting: usize,
    slots: Slab<Slot>,
    /// Circuits, and of each side its slot and its party.
    circuits: Slab<(Circuit, [(usize, Party); 2])>,
    timers: Timers,
    turns: Turns,
    pipes: Pipes,
    table: Table<Memory>,
    /// By which the table knows addresses, and cannot tell them.
    hasher: RandomState,
    room: Room,
    counts: Counts,
    /// Whose turn was last.
    served: Option<Party>,
    contended_until: Duration,
    /// Sealed bytes that wait for slow readers.
    backlog: usize,
    stuck: Stuck,
    /// Bytes that circuits have yet to hand on.
    carrying: u64,
    tell_at: Duration,
    /// Room for what is read.
    space: Vec<u8>,
    /// Room for what is written, unless somebody has it.
    spare: Outgoing,
    due: Vec<usize>,
    news: News,
}

impl<'a> Relay<'a> {
    /// A relay that hears nobody yet.
    pub fn new(
        hub: &'a mut Hub,
        settings: Settings,
        doorway: Doorway,
        host: &'a mut dyn Host,
    ) -> Self {
        let places = Places::now();
        let max_clients = settings.max_clients.min(places.clients);
        let now = hub.clock.now().mono;
        Self {
            hub,
            host,
            settings: Settings { max_clients, ..settings },
            doorway,
            replays: ReplayGuard::default(),
            ears: Ears::default(),
            metrics: Ears::default(),
            asking: 0,
            door: Door::new(Bounds::new(Duration::MAX)),
            outside: Outside::default(),
            crowd: Crowd::default(),
            max_waiting: places.waiting,
            slots: Slab::new(),
            circuits: Slab::new(),
            timers: Timers::default(),
            turns: Turns::default(),
            pipes: Pipes::default(),
            table: Table::new(settings.table, Memory),
            hasher: RandomState::new(),
            room: Room::default(),
            counts: Counts::default(),
            served: None,
            contended_until: Duration::ZERO,
            backlog: 0,
            stuck: Stuck::default(),
            carrying: 0,
            tell_at: now + settings.tell_every,
            space: vec![0; READ_SPACE],
            spare: Outgoing::default(),
            due: Vec::new(),
            news: News::default(),
        }
    }

    /// Adds a listening socket.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn hear(&mut self, socket: TcpListener) -> io::Result<()> {
        let token = Topic::Ear(self.ears.len()).token();
        self.ears.add(socket, self.hub.registry(), token)
    }

    /// Adds a listening socket for those who want to know the counts.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn hear_metrics(&mut self, socket: TcpListener) -> io::Result<()> {
        let token = Topic::Metrics(self.metrics.len()).token();
        self.metrics.add(socket, self.hub.registry(), token)
    }

    /// Serves until something ends it.
    ///
    /// # Errors
    /// [`RelayError`]: nothing else ends it.
    pub fn run(&mut self) -> Result<std::convert::Infallible, RelayError> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.turn();
            let until = self.deadline();
            self.hub.wait(&mut events, until).map_err(RelayError::Local)?;
            for event in &events {
                self.on_event(event);
            }
            if let Some(signal) = self.hub.signals.arrived() {
                self.finish();
                let counts = self.counts();
                self.host.tell(&counts);
                return Err(RelayError::Signal(signal));
            }
        }
    }

    fn on_event(&mut self, event: &Event) {
        match Topic::of(event.token()) {
            _ if event.token() == WAKE => {}
            Some(Topic::Connection(number)) => self.on_event_of(number - 1, event),
            Some(Topic::Metrics(number)) => self.metrics.on_event(number),
            Some(Topic::Ear(number)) => self.ears.on_event(number),
            _ => {}
        }
    }

    fn on_event_of(&mut self, key: usize, event: &Event) {
        match self.slots.get_mut(key) {
            Some(Slot::Client(client)) => {
                client.on_event(event);
                if !client.is_open() {
                    // What it says is only kept: no turn is waited for.
                    return self.drive_gate(key, self.hub.clock.now());
                }
            }
            Some(Slot::End(circuit, side)) => self.circuits[*circuit].0.on_event(*side, event),
            // Few and short: no turn is waited for.
            Some(Slot::Asking(asking)) => {
                asking.on_event(event);
                return self.answer(key);
            }
            None => return,
        }
        self.queue(key);
    }

    /// `key` is to have a turn.
    fn queue(&mut self, key: usize) {
        let (key, party, is_queued) = match self.slots.get_mut(key) {
            Some(Slot::Client(client)) => (key, client.party, &mut client.is_queued),
            Some(Slot::End(circuit, _)) => {
                let (circuit, [(key, party), _]) = &mut self.circuits[*circuit];
                (*key, *party, &mut circuit.is_queued)
            }
            Some(Slot::Asking(_)) | None => return,
        };
        if !std::mem::replace(is_queued, true) {
            self.turns.push(party, Source::Connection(key));
        }
    }

    /// Turns for those who have something to do, for a short while.
    fn turn(&mut self) {
        let now = self.hub.clock.now();
        self.accept(now);
        self.accept_asking(now);
        self.let_in(now);
        let mut due = std::mem::take(&mut self.due);
        self.timers.expired(now.mono, &mut due);
        due.drain(..).for_each(|key| self.look_at(key));
        // What is due again meanwhile is so in the next turn.
        due.append(&mut self.due);
        self.due = due;
        while let Some(key) = self.room.expired(now.mono) {
            self.nobody_came(key, now);
        }
        self.close_stuck(now);
        self.table.expire(now.mono, EXPIRE_A_TURN);
        if now.mono >= self.tell_at {
            self.tell_at = now.mono + self.settings.tell_every;
            let counts = self.counts();
            self.host.tell(&counts);
        }
        while let Some(Source::Connection(key)) = self.turns.pop() {
            self.drive(key);
            let so_far = self.hub.clock.now().mono;
            if so_far >= now.mono + LOOK_EVERY || so_far < self.contended_until {
                return;
            }
        }
    }

    /// Takes note of whose turn it is.
    fn note_turn(&mut self, party: Party, now: Now) {
        if self.served.replace(party).is_some_and(|last| last != party) {
            self.contended_until = now.mono + CONTENTION;
        }
    }

    /// The number by which the table knows an address: a keyed hash, and the key ends with the relay.
    fn number_of(&self, party: Party) -> u64 {
        match party {
            Party::Address(network) => self.hasher.hash_one(network),
            Party::Contact(_) | Party::Unknown | Party::Alone(_) => 0,
        }
    }

    /// Whether several parties are served in turn.
    fn is_contended(&self, now: Now) -> bool {
        now.mono < self.contended_until
    }

    fn deadline(&self) -> Option<Duration> {
        if !self.turns.is_empty() || !self.due.is_empty() {
            return Some(Duration::ZERO);
        }
        let table = self.table.next_expiry().into_iter().chain(self.room.next_deadline());
        let ears = self.ears.deadline().into_iter().chain(self.metrics.deadline());
        let table = table.chain(self.stuck.next_deadline());
        let accept = self.next_accept(self.hub.clock.now().mono);
        let door = self.door.next_turn().into_iter().chain(accept).chain(ears);
        table.chain(door).chain(self.timers.next()).chain([self.tell_at]).min()
    }

    /// What there is, and was.
    fn counts(&self) -> Counts {
        let mut counts = self.counts;
        self.table.count(&mut counts);
        counts.clients = self.crowd.len() as u64;
        counts.strangers = self.door.len() as u64;
        counts.waiting = self.room.len() as u64;
        counts.circuits = self.circuits.len() as u64;
        counts
    }

    /// Its time has come.
    fn look_at(&mut self, key: usize) {
        match self.slots.get(key) {
            Some(Slot::Asking(_)) => self.answer(key),
            Some(Slot::Client(client)) if !client.is_open() => {
                self.drive_gate(key, self.hub.clock.now());
            }
            _ => self.queue(key),
        }
    }

    fn drive(&mut self, key: usize) {
        let now = self.hub.clock.now();
        match self.slots.get_mut(key) {
            Some(Slot::Asking(_)) | None => {}
            Some(Slot::End(circuit, _)) => {
                let circuit = *circuit;
                self.drive_circuit(circuit, now);
            }
            Some(Slot::Client(client)) => {
                client.is_queued = false;
                match &client.stage {
                    Stage::Gate(..) => {}
                    Stage::Open(open) if open.leaving.is_some() => self.take_leave(key, now),
                    Stage::Open(_) => self.drive_client(key, now),
                }
            }
        }
    }

    /// A connection is over; of a circuit, both.
    fn remove(&mut self, key: usize, now: Now) {
        match self.slots.try_remove(key) {
            None => {}
            Some(Slot::Asking(_)) => {
                self.asking -= 1;
                self.timers.clear(key);
            }
            Some(Slot::Client(mut client)) => {
                self.door.leave(key, now.mono);
                self.timers.clear(key);
                match client.stage {
                    // A stranger draws no reset.
                    Stage::Gate(..) => {
                        client.wire.drain();
                    }
                    Stage::Open(mut open) => {
                        self.backlog -= open.backlog;
                        open.link.give_back(&mut self.spare);
                        self.crowd.leave(client.party, key);
                        self.call_in();
                    }
                }
                self.table.forget(key);
                self.room.leave(key);
                self.stuck.forget(key);
            }
            Some(Slot::End(circuit, _)) => {
                let (gone, sides) = self.circuits.remove(circuit);
                self.carrying -= gone.carrying();
                for (key, party) in sides {
                    self.crowd.leave(party, key);
                    self.slots.try_remove(key);
                    self.timers.clear(key);
                    self.call_in();
                }
            }
        }
    }
}

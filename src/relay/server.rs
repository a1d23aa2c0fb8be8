//! The relay's loop: who has something to do has a turn, one a party in a circle, and each turn is
//! bounded: whoever floods the relay delays the others by its own turn and no more.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Token};
use slab::Slab;

use super::circuit::{Circuit, End, Means, Moved, Pipes};
use super::client::{Client, Doorway, Knock, Open, PROOF_COST, Stage};
use super::counts::Counts;
use super::crowd::Crowd;
use super::metrics::{Asking, MAX_ASKING};
use super::room::Room;
use super::store::Memory;
use super::table::{self, Table};
use crate::crypto::sodium::{OsRandom, PublicKey};
use crate::net::descriptors::descriptors;
use crate::net::ears::Ears;
use crate::net::hub::{Hub, WAKE};
use crate::net::timers::Timers;
use crate::net::wire::{Left, Read, Wire};
use crate::proto::limits::{Bounds, Buckets, Door, Network, Party, Rate};
use crate::proto::mux::Source;
use crate::proto::relay::cell::{CELL_LEN, Cell, Command, ErrorCode, FLAG_VOLATILE};
use crate::proto::stream::record::Violation;
use crate::proto::stream::replay::ReplayGuard;
use crate::proto::time::Now;
use crate::proto::turns::Turns;

/// Listening sockets have the tokens from here on.
const FIRST_EAR: usize = 1;
/// Sockets that hear who asks for counts have the tokens from here on.
const FIRST_METRICS: usize = 512;
/// Connections have the tokens from here on.
const FIRST_CONN: usize = 1024;
/// What is read at once, in bytes.
const READ_SPACE: usize = 256 * 1024;
/// Connections whose handshake is not over, at most; or a quarter of the descriptors.
const MAX_WAITING: usize = 1024;
/// Descriptors for everything that is no connection.
const OTHER_DESCRIPTORS: usize = 64;
/// Connections that are accepted before others have their turn.
const ACCEPTS_A_TURN: usize = 64;
/// After so long we look who has come meanwhile.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// Cells that are freed in one turn because they are too old, about.
const EXPIRE_A_TURN: u64 = 4096;
/// While more than this waits for slow readers, in bytes of all together, each is given little at
/// a time.
const MAX_BACKLOG: usize = 64 << 20;
/// So many cells.
const FEW_CELLS: usize = 2;
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

/// Clients that can be served at once with the descriptors there are.
pub fn most_clients() -> usize {
    descriptors().saturating_sub(OTHER_DESCRIPTORS) / 4 * 3
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

/// Until when a client is not read because it was too fast.
fn paused_until(rates: Option<&Buckets<usize>>, open: &Open, now: Now) -> Option<Duration> {
    rates.map(|rates| rates.ready_at(open.number)).filter(|at| *at > now.mono)
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
    crowd: Crowd,
    max_waiting: usize,
    slots: Slab<Slot>,
    /// Circuits, and of each side its slot and its party.
    circuits: Slab<(Circuit, [(usize, Party); 2])>,
    timers: Timers,
    turns: Turns,
    pipes: Pipes,
    table: Table<Memory>,
    room: Room,
    rates: Option<Buckets<usize>>,
    counts: Counts,
    /// Sealed bytes that wait for slow readers.
    backlog: usize,
    tell_at: Duration,
    /// Room for what is read.
    space: Vec<u8>,
    /// Room for what is written, unless somebody has it.
    spare: Vec<u8>,
    due: Vec<usize>,
    ready: Vec<usize>,
}

impl<'a> Relay<'a> {
    /// A relay that hears nobody yet.
    pub fn new(
        hub: &'a mut Hub,
        settings: Settings,
        doorway: Doorway,
        host: &'a mut dyn Host,
    ) -> Self {
        let max_clients = settings.max_clients.min(most_clients());
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
            crowd: Crowd::default(),
            max_waiting: MAX_WAITING.min(descriptors() / 4),
            slots: Slab::new(),
            circuits: Slab::new(),
            timers: Timers::default(),
            turns: Turns::default(),
            pipes: Pipes::default(),
            table: Table::new(settings.table, Memory),
            room: Room::default(),
            rates: settings.rate.map(|rate| Buckets::new(rate, max_clients)),
            counts: Counts::default(),
            backlog: 0,
            tell_at: now + settings.tell_every,
            space: vec![0; READ_SPACE],
            spare: Vec::new(),
            due: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Adds a listening socket.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn hear(&mut self, socket: TcpListener) -> io::Result<()> {
        let token = Token(FIRST_EAR + self.ears.len());
        self.ears.add(socket, self.hub.registry(), token)
    }

    /// Adds a listening socket for those who want to know the counts.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn hear_metrics(&mut self, socket: TcpListener) -> io::Result<()> {
        let token = Token(FIRST_METRICS + self.metrics.len());
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
        let Token(token) = event.token();
        match token {
            _ if event.token() == WAKE => {}
            FIRST_CONN.. => {
                let key = token - FIRST_CONN;
                match self.slots.get_mut(key) {
                    Some(Slot::Client(client)) => client.on_event(event),
                    Some(Slot::End(circuit, side)) => {
                        self.circuits[*circuit].0.on_event(*side, event);
                    }
                    // Few and short: no turn is waited for.
                    Some(Slot::Asking(asking)) => {
                        asking.on_event(event);
                        return self.answer(key);
                    }
                    None => return,
                }
                self.queue(key);
            }
            FIRST_METRICS.. => self.metrics.on_event(token - FIRST_METRICS),
            _ => self.ears.on_event(token - FIRST_EAR),
        }
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
            self.turns.push(party, Source(key as u64));
        }
    }

    /// Turns for those who have something to do, for a short while.
    fn turn(&mut self) {
        let now = self.hub.clock.now();
        self.accept(now);
        self.accept_asking(now);
        while let Some(key) = self.door.next(now.mono) {
            self.queue(key);
        }
        let mut due = std::mem::take(&mut self.due);
        self.timers.expired(now.mono, &mut due);
        due.drain(..).for_each(|key| self.look_at(key));
        self.due = due;
        while let Some(key) = self.room.expired(now.mono) {
            self.nobody_came(key, now);
        }
        self.table.expire(now.mono, EXPIRE_A_TURN);
        if now.mono >= self.tell_at {
            self.tell_at = now.mono + self.settings.tell_every;
            let counts = self.counts();
            self.host.tell(&counts);
        }
        while let Some(Source(key)) = self.turns.pop() {
            self.drive(key as usize);
            if self.hub.clock.now().mono >= now.mono + LOOK_EVERY {
                return;
            }
        }
    }

    fn deadline(&self) -> Option<Duration> {
        if !self.turns.is_empty() {
            return Some(Duration::ZERO);
        }
        let table = self.table.next_expiry().into_iter().chain(self.room.next_deadline());
        let ears = self.ears.deadline().into_iter().chain(self.metrics.deadline());
        let door = self.door.next_turn().into_iter().chain(ears);
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

    fn accept(&mut self, now: Now) {
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

    /// Its time has come.
    fn look_at(&mut self, key: usize) {
        match self.slots.get(key) {
            Some(Slot::Asking(_)) => self.answer(key),
            _ => self.queue(key),
        }
    }

    fn accept_asking(&mut self, now: Now) {
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
    fn answer(&mut self, key: usize) {
        let (now, counts) = (self.hub.clock.now(), self.counts());
        let Some(Slot::Asking(asking)) = self.slots.get_mut(key) else { return };
        match asking.drive(now.mono, &counts) {
            true => self.remove(key, now),
            false => self.timers.set(key, asking.deadline()),
        }
    }

    fn watch(&self, socket: &mut TcpStream, key: usize) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.hub.registry().register(socket, Token(FIRST_CONN + key), both)
    }

    fn receive(&mut self, mut socket: TcpStream, address: SocketAddr, now: Now) {
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
                    Stage::Gate(..) => self.drive_gate(key, now),
                    Stage::Open(open) if open.leaving.is_some() => self.take_leave(key, now),
                    Stage::Open(_) => self.drive_client(key, now),
                }
            }
        }
    }

    fn drive_gate(&mut self, key: usize, now: Now) {
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
    fn make_room(&mut self, party: Party, now: Now) -> bool {
        if self.crowd.len() < self.settings.max_clients {
            return true;
        }
        let yields = self.crowd.yields_to(party);
        yields.is_some_and(|key| {
            self.remove(key, now);
            true
        })
    }

    fn drive_client(&mut self, key: usize, now: Now) {
        if let Some((wire, open)) = client(&mut self.slots, key)
            && open.is_overdue(now)
        {
            // Who was stopped for a while has not looked yet whether the client spoke meanwhile.
            wire.look_again();
        }
        let over = match self.read_cells(key, now) {
            Ok(over) => over,
            Err(_) => {
                self.counts.violations += 1;
                true
            }
        };
        if over || self.write_cells(key, now) {
            return self.remove(key, now);
        }
        let Some(Slot::Client(client)) = self.slots.get_mut(key) else { return };
        let deadline = client.deadline();
        let Some((wire, open)) = client.open() else { return self.queue(key) };
        let paused = paused_until(self.rates.as_ref(), open, now);
        if open.is_overdue(now) {
            return self.remove(key, now);
        }
        let may_read = open.waits || (open.room() > 0 && paused.is_none());
        let more =
            (wire.is_readable() && may_read) || (wire.is_writable() && self.table.has_more(key));
        self.timers.set(key, paused.map_or(deadline, |at| deadline.min(at)));
        if more {
            self.queue(key);
        }
    }

    /// Cells that a client's buffer takes now.
    fn room(&self, room: usize) -> usize {
        if self.backlog > MAX_BACKLOG { room.min(FEW_CELLS) } else { room }
    }

    /// Reads once and does what is asked for; whether the client is gone.
    fn read_cells(&mut self, key: usize, now: Now) -> Result<bool, Violation> {
        let few = self.room(usize::MAX);
        let Some((wire, open)) = client(&mut self.slots, key) else { return Ok(false) };
        let paused = paused_until(self.rates.as_ref(), open, now).is_some();
        let len = match open.waits {
            true => 1,
            false if paused => 0,
            false => open.appetite(open.room().min(few)),
        };
        if len == 0 {
            return Ok(false);
        }
        let n = match wire.read(&mut self.space[..len]) {
            Read::Bytes(_) if open.waits => return Err(Violation::OutOfOrder),
            Read::Bytes(n) => n,
            Read::Later => return Ok(false),
            Read::Closed | Read::Broken => return Ok(true),
        };
        open.link.lend(&mut self.spare);
        let space = std::mem::take(&mut self.space);
        let served = self.serve_all(key, &space[..n], now);
        self.space = space;
        served.map(|()| false)
    }

    fn serve_all(&mut self, key: usize, mut input: &[u8], now: Now) -> Result<(), Violation> {
        let mut plain = [0; CELL_LEN];
        let mut cost = 0;
        while let Some((_, open)) = client(&mut self.slots, key) {
            if open.waits && !input.is_empty() {
                return Err(Violation::OutOfOrder);
            }
            let Some(cell) = open.link.take(&mut input, now, &mut plain)? else { break };
            if let Some(rates) = &mut self.rates {
                rates.take(open.number, now.mono);
            }
            cost += self.serve(key, &cell, now, input.is_empty())?;
        }
        if let Some((_, open)) = client(&mut self.slots, key) {
            open.had_turn(cost);
        }
        Ok(())
    }

    /// Does what a cell asks for: what that cost, in cells. `last` says that nothing came behind it
    /// yet.
    fn serve(
        &mut self,
        key: usize,
        cell: &Cell<'_>,
        now: Now,
        last: bool,
    ) -> Result<usize, Violation> {
        match cell.command {
            Command::Post => return self.post(key, cell, now),
            Command::Subscribe => return self.subscribe(key, cell, now).map(|()| PROOF_COST),
            Command::Ack => self.table.acknowledge(key, &cell.address, &cell.log, cell.id),
            Command::Leave => self.table.leave(key, &cell.address),
            Command::Connect if !last => return Err(Violation::OutOfOrder),
            Command::Connect => self.connect(key, cell, now)?,
            // The link lets nothing through that a relay says.
            Command::Noop | Command::Cell | Command::Error | Command::Joined | Command::Live => {}
        }
        Ok(1)
    }

    /// Says a cell to a client.
    fn say(&mut self, key: usize, cell: &Cell<'_>, now: Now) {
        if let Some((_, open)) = client(&mut self.slots, key) {
            open.link.send(cell, now);
        }
    }

    fn refuse(&mut self, key: usize, cell: &Cell<'_>, code: ErrorCode, now: Now) {
        self.counts.refused += 1;
        let id = if cell.command == Command::Post { cell.id } else { 0 };
        let (address, body) = (cell.address, &[code as u8]);
        self.say(key, &Cell { id, address, body, ..Cell::new(Command::Error) }, now);
    }

    fn post(&mut self, key: usize, cell: &Cell<'_>, now: Now) -> Result<usize, Violation> {
        PublicKey::from_bytes(&cell.address).map_err(|_| Violation::Malformed)?;
        let packet = cell.packet().ok_or(Violation::Malformed)?;
        if cell.flags & FLAG_VOLATILE != 0 {
            let (slots, ready) = (&mut self.slots, &mut self.ready);
            self.table.show(&cell.address, packet, |reader, cell| {
                if let Some((_, open)) = client(slots, reader)
                    && open.room() > 0
                {
                    open.link.send(cell, now);
                    ready.push(reader);
                }
            });
            return Ok(1 + self.wake_readers());
        }
        let mut woken = 0;
        let (address, ready) = (&cell.address, &mut self.ready);
        match self.table.post(address, packet, now.mono, &mut OsRandom, ready) {
            Ok(()) => {
                woken = self.wake_readers();
                self.say(key, &Cell { id: cell.id, ..Cell::new(Command::Ack) }, now);
            }
            Err(code) => self.refuse(key, cell, code, now),
        }
        // To wake somebody is little work beside a cell.
        Ok(2 + woken / 8)
    }

    /// Those to whom something was handed have a turn: how many.
    fn wake_readers(&mut self) -> usize {
        let count = self.ready.len();
        let mut ready = std::mem::take(&mut self.ready);
        ready.drain(..).for_each(|reader| self.queue(reader));
        self.ready = ready;
        count
    }

    fn subscribe(&mut self, key: usize, cell: &Cell<'_>, now: Now) -> Result<(), Violation> {
        let address = PublicKey::from_bytes(&cell.address).map_err(|_| Violation::Malformed)?;
        let Some((_, open)) = client(&mut self.slots, key) else { return Ok(()) };
        if !open.challenge.admits(&address, open.link.handshake_hash(), cell.body) {
            return Err(Violation::NotOpened);
        }
        let random = &mut OsRandom;
        match self.table.subscribe(key, &cell.address, &cell.log, cell.id, random) {
            Ok(()) => {}
            Err(code) => self.refuse(key, cell, code, now),
        }
        Ok(())
    }

    fn connect(&mut self, key: usize, cell: &Cell<'_>, now: Now) -> Result<(), Violation> {
        let rendezvous = cell.body.try_into().map_err(|_| Violation::Malformed)?;
        // A link that carries a circuit carries nothing else.
        self.table.forget(key);
        if let Some((_, open)) = client(&mut self.slots, key) {
            open.waits = true;
        }
        if let Some(other) = self.room.meet(key, &rendezvous, now.mono) {
            self.join(other, key, now);
        }
        Ok(())
    }

    /// Both are there: makes a circuit of them.
    fn join(&mut self, first: usize, second: usize, now: Now) {
        let circuit = self.circuits.vacant_key();
        let (mut ends, mut sides) = (Vec::new(), Vec::new());
        for (side, key) in [first, second].into_iter().enumerate() {
            self.say(key, &Cell::new(Command::Joined), now);
            let Some(slot) = self.slots.get_mut(key) else { continue };
            let Slot::Client(client) = std::mem::replace(slot, Slot::End(circuit, side)) else {
                continue;
            };
            let Client { wire, party, stage, .. } = *client;
            let Stage::Open(mut open) = stage else { continue };
            sides.push((key, party));
            ends.push(End::new(wire, open.link.pending()));
            open.link.give_back(&mut self.spare);
            self.backlog -= open.backlog;
            self.timers.clear(key);
        }
        let Ok(ends) = <[End; 2]>::try_from(ends) else { return };
        let Ok(sides) = sides.try_into() else { return };
        self.counts.joined += 1;
        self.circuits.insert((Circuit::new(ends, now.mono), sides));
        self.queue(first);
    }

    fn drive_circuit(&mut self, number: usize, now: Now) {
        let (circuit, [(first, _), _]) = &mut self.circuits[number];
        circuit.is_queued = false;
        let first = *first;
        let mut means = Means { pipes: &mut self.pipes, space: &mut self.space };
        match circuit.drive(now.mono, &mut means) {
            Moved::Bytes(bytes, more) => {
                self.counts.carried += bytes;
                self.timers.set(first, circuit.deadline());
                if more {
                    self.queue(first);
                }
            }
            Moved::Over(bytes) => {
                self.counts.carried += bytes;
                self.remove(first, now);
            }
        }
    }

    /// Nobody came to the rendezvous of a client: that ends its link.
    fn nobody_came(&mut self, key: usize, now: Now) {
        let body = &[ErrorCode::Nobody as u8];
        self.say(key, &Cell { body, ..Cell::new(Command::Error) }, now);
        if let Some((_, open)) = client(&mut self.slots, key) {
            open.leaving = Some(now.mono + LINGER);
            self.queue(key);
        }
    }

    /// Hands a client what it is to read, and writes; whether it is gone.
    fn write_cells(&mut self, key: usize, now: Now) -> bool {
        let few = self.room(usize::MAX);
        let Some((wire, open)) = client(&mut self.slots, key) else { return false };
        open.link.lend(&mut self.spare);
        open.keep_alive(now);
        let room = open.room().min(few);
        self.table.pull(key, room, |cell| open.link.send(cell, now));
        let gone = match wire.write(open.link.pending()) {
            Ok(written) => {
                open.link.consumed(written);
                false
            }
            Err(_) => true,
        };
        open.link.give_back(&mut self.spare);
        let waiting = open.link.pending().len();
        self.backlog = self.backlog - open.backlog + waiting;
        open.backlog = waiting;
        gone
    }

    /// Writes what was said last, and waits for the client to close.
    fn take_leave(&mut self, key: usize, now: Now) {
        let Some(Slot::Client(client)) = self.slots.get_mut(key) else { return };
        let until = client.deadline();
        let Stage::Open(open) = &mut client.stage else { return };
        let written = client.wire.write(open.link.pending());
        let gone = written.is_err();
        open.link.consumed(written.unwrap_or(0));
        if open.link.pending().is_empty() {
            client.wire.end_writing();
        }
        if gone || now.mono >= until || client.wire.drain() == Left::Closed {
            return self.remove(key, now);
        }
        self.timers.set(key, until);
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
                    }
                }
                self.table.forget(key);
                self.room.leave(key);
            }
            Some(Slot::End(circuit, _)) => {
                let (_, sides) = self.circuits.remove(circuit);
                for (key, party) in sides {
                    self.crowd.leave(party, key);
                    self.slots.try_remove(key);
                    self.timers.clear(key);
                }
            }
        }
    }

    /// Takes leave: nobody else is let in, and cells are handed to whoever is there.
    fn finish(&mut self) {
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
    fn hand_over(&mut self, key: usize, now: Now) -> Option<bool> {
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

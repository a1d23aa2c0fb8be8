//! One client of a relay: a gate, then a link of cells.

use std::time::Duration;

use mio::event::Event;

use crate::crypto::sodium::{KeyPair, OsRandom, Random};
use crate::net::wire::{Read, Wire};
use crate::proto::relay::cell::{Cell, Command, WIRE_LEN};
use crate::proto::relay::link::CellLink;
use crate::proto::relay::mailbox::Challenge;
use crate::proto::stream::gate::{Answer, Gate, Passage};
use crate::proto::stream::handshake::Responding;
use crate::proto::stream::meta::Welcome;
use crate::proto::stream::replay::ReplayGuard;
use crate::proto::time::Now;
use crate::sched::limits::Bucket;
use crate::sched::party::Party;

/// What is read at once before the handshake is over, in bytes: little more than its messages are.
const GATE_READ: usize = 4 * 1024;
/// Sealed cells that wait for the socket are this many at most.
const OUT_CELLS: usize = 48;
/// Volatile cells that wait for the socket behind these, at most.
pub const VOLATILE_CELLS: usize = 32;
/// Cells that are read in one turn at most.
pub const TURN_CELLS: usize = 32;
/// Cells that are read in the first turn.
const FIRST_CELLS: usize = 4;
/// What one turn may cost, in cells that are opened or sealed: after one that cost more, fewer are
/// read.
const TURN_COST: usize = 128;
/// What a proof costs, in cells: one X25519.
pub const PROOF_COST: usize = 40;
/// The longest time without a word of ours, less a tick.
const NOOP_LATEST: Duration = Duration::from_millis(60_000 - TICK_MS);
/// It may be so much less.
const NOOP_JITTER: Duration = Duration::from_secs(14);
/// Signs of life are due at multiples of this, so that many clients are served at one awakening.
const TICK_MS: u64 = 500;
/// A client that has said nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(150);

/// A socket and what it has come to.
pub struct Client {
    /// The socket.
    pub wire: Wire,
    /// With whom it shares its turns.
    pub party: Party,
    /// What it has come to.
    pub stage: Stage,
    /// It waits for its turn.
    pub is_queued: bool,
    /// It was answered, and waits for a place.
    pub is_outside: bool,
}

/// What a connection has come to.
pub enum Stage {
    /// The handshake, and message 2 on its way out.
    Gate(Gate, Vec<u8>),
    /// It was let in.
    Open(Box<Open>),
}

/// A client that was let in.
pub struct Open {
    /// Its cells.
    pub link: CellLink,
    /// What its proofs are about.
    pub challenge: Challenge,
    /// How fast its cells came.
    pub bucket: Bucket,
    /// It has sent CONNECT, and says nothing more.
    pub waits: bool,
    /// Nothing is read any more; what is on its way out may take until then.
    pub leaving: Option<Duration>,
    /// Bytes that its last turn left on the way out.
    pub backlog: usize,
    /// Our next sign of life comes so long after our last word.
    noop_after: Duration,
    /// Cells that are read in its next turn.
    quantum: usize,
}

impl Open {
    fn new(link: CellLink, challenge: Challenge) -> Self {
        let noop_after = noop_after(&mut OsRandom);
        Self {
            link,
            challenge,
            bucket: Bucket::default(),
            waits: false,
            leaving: None,
            backlog: 0,
            noop_after,
            quantum: FIRST_CELLS,
        }
    }

    /// Cells for which there is room on the way out.
    pub fn room(&self) -> usize {
        OUT_CELLS.saturating_sub(self.waiting())
    }

    /// Whether one more volatile cell may wait for the socket, if up to `most` may wait behind all
    /// that is held.
    pub fn takes_volatile(&self, most: usize) -> bool {
        self.waiting() < OUT_CELLS + most
    }

    /// Cells that wait for the socket.
    fn waiting(&self) -> usize {
        self.link.pending().len().div_ceil(WIRE_LEN)
    }

    /// How much may be read now, in bytes: for each cell there is room for an answer.
    pub fn appetite(&self, room: usize) -> usize {
        match room.min(self.quantum) {
            0 => 0,
            cells => (cells - 1) * WIRE_LEN + self.link.missing(),
        }
    }

    /// A turn is over that cost so many cells.
    pub fn had_turn(&mut self, cost: usize) {
        let affordable = self.quantum * TURN_COST / cost.max(1);
        self.quantum = affordable.min(self.quantum * 2).clamp(1, TURN_CELLS);
    }

    /// Gives a sign of life if it is time.
    pub fn keep_alive(&mut self, now: Now) {
        if now.mono >= self.link.sent() + self.noop_after {
            self.noop_after = noop_after(&mut OsRandom);
            self.link.send(&Cell::new(Command::Noop), now);
        }
    }

    /// Whether it has been silent for too long.
    pub fn is_overdue(&self, now: Now) -> bool {
        now.mono >= self.link.heard() + SILENCE
    }

    fn deadline(&self) -> Duration {
        let noop = (self.link.sent() + self.noop_after).as_millis() as u64;
        let tick = Duration::from_millis((noop / TICK_MS + 1) * TICK_MS);
        tick.min(self.link.heard() + SILENCE)
    }
}

fn noop_after(random: &mut dyn Random) -> Duration {
    let mut draw = [0; 4];
    random.fill(&mut draw);
    let fraction = f64::from(u32::from_be_bytes(draw)) / f64::from(u32::MAX);
    NOOP_LATEST - NOOP_JITTER.mul_f64(fraction)
}

/// What a relay is to those who knock.
pub struct Doorway {
    /// Its key.
    pub pair: KeyPair,
    /// Each of the `access` values that let somebody in.
    pub accesses: Vec<[u8; 32]>,
    /// How long cells are held, in seconds.
    pub ttl_s: u64,
}

/// What a turn at the gate came to.
pub enum Knock {
    /// It goes on.
    Wait,
    /// It was let in; so many bytes of what was read are cells already.
    Admitted(usize),
    /// The connection is over.
    Gone,
}

impl Client {
    /// A connection that was just accepted.
    pub fn new(wire: Wire, party: Party, now: Now) -> Self {
        let stage = Stage::Gate(Gate::new(now, &mut OsRandom), Vec::new());
        Self { wire, party, stage, is_queued: false, is_outside: false }
    }

    /// Takes note of an event.
    pub fn on_event(&mut self, event: &Event) {
        self.wire.on_event(event);
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Gate(..))
    }

    /// The client that was let in and does not leave, and its socket.
    pub fn open(&mut self) -> Option<(&mut Wire, &mut Open)> {
        match &mut self.stage {
            Stage::Open(open) if open.leaving.is_none() => Some((&mut self.wire, open)),
            _ => None,
        }
    }

    /// When it wants to be looked at without news.
    pub fn deadline(&self) -> Duration {
        match &self.stage {
            Stage::Gate(gate, _) => gate.deadline(),
            Stage::Open(open) => open.leaving.unwrap_or_else(|| open.deadline()),
        }
    }

    /// Whether message 1 is there, and waits for its turn.
    pub fn knocks(&self) -> bool {
        matches!(&self.stage, Stage::Gate(gate, _) if gate.knocks())
    }

    /// Whether message 1 was answered, and that is written: what comes next lets it in.
    pub fn has_its_answer(&self) -> bool {
        matches!(&self.stage, Stage::Gate(gate, reply) if gate.is_answered() && reply.is_empty())
    }

    /// Its turn at the door has come: opens message 1. Whether it was good, and is remembered.
    pub fn answer(&mut self, now: Now, doorway: &Doorway, replays: &mut ReplayGuard) -> bool {
        let Stage::Gate(gate, reply) = &mut self.stage else { return false };
        let responding = |access| Responding { pair: &doorway.pair, access };
        let keys: Vec<_> = doorway.accesses.iter().map(responding).collect();
        match gate.answer(now, &keys, replays) {
            Answer::Nothing => return false,
            Answer::Remembered => {}
            Answer::Reply(message) => {
                // Without it small records wait for acknowledgements; slower, not wrong.
                let _ = self.wire.socket().set_nodelay(true);
                reply.extend_from_slice(&message[..]);
            }
        }
        true
    }

    /// Goes on with the handshake, but for what needs a turn: reads once into `space`, and writes.
    pub fn knock(&mut self, now: Now, space: &mut [u8], doorway: &Doorway) -> Knock {
        let Stage::Gate(gate, reply) = &mut self.stage else { return Knock::Wait };
        if now.mono >= gate.deadline() {
            return Knock::Gone;
        }
        let n = match self.wire.read(&mut space[..GATE_READ]) {
            Read::Bytes(n) => n,
            Read::Later => 0,
            Read::Closed | Read::Broken => return Knock::Gone,
        };
        match gate.feed(&space[..n], now) {
            Passage::Nothing => {}
            Passage::Proved { session, consumed, .. } => {
                let challenge = Challenge::generate();
                let welcome = Welcome {
                    challenge: Some(*challenge.public()),
                    ttl_s: Some(doorway.ttl_s),
                    ..Welcome::default()
                };
                let link = CellLink::welcoming(*session, &welcome, now);
                self.stage = Stage::Open(Box::new(Open::new(link, challenge)));
                return Knock::Admitted(n - consumed);
            }
        }
        match self.wire.write(reply) {
            Ok(written) => {
                reply.drain(..written);
                Knock::Wait
            }
            Err(_) => Knock::Gone,
        }
    }
}

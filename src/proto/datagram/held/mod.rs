//! A listener's end of what relays hold for it: packets of cells in, messages out, receipts back.
//! PROTOCOL.md, 5.4 and 5.5.
//!
//! [`super::receiver`] is the same for packets that come by the network. Here a message is a run of
//! its own, may be as old as a relay holds cells, and comes again by every relay that it was posted
//! to, and whenever a link was cut: it is taken once. `S` says which cell a packet came in; a
//! relay may forget a cell once it is *decided*, that is, once nothing can come of it any more.
//!
//! `intake` is what a packet does, `letter` what is known of one message, `receipts` what its sender
//! is told and when. Here is what the caller says of messages, and what time does.

mod intake;
mod letter;
mod receipts;

use std::time::Duration;

use self::letter::{Letter, State};
use self::receipts::{Due, Receipts, TOLD_EVERY};
use super::ack::Status;
use super::answered::Answered;
use super::cache::BoxCache;
use super::packet::{LocalKey, MessageId, PACKET_LEN, Way};
use super::probe::Probe;
use super::receiver::{PROBES, SWEEP};
use super::replay::{Bounds, Memory, RunKey};
use crate::crypto::sodium::{PublicKey, Random};
use crate::proto::relay::cell::{Address, RENDEZVOUS_LEN};
use crate::proto::time::{CLOCK_WINDOW_MS, Now};

pub use self::intake::{Asked, Came, Verdict, Wait};
pub use self::receipts::Posting;

/// A message that is not whole is given up when so long no packet of it came.
pub const LOST: Duration = Duration::from_millis(CLOCK_WINDOW_MS);
/// What a program that tells itself from others under the same key is called.
pub const INSTANCE_LEN: usize = 8;
/// The key of [`INSTANCE_LEN`] bytes in HERE.
const INSTANCE: u8 = 3;

/// A window has the room of a day's messages: about 20 MiB when it is full.
const BY_RELAY: Bounds = Bounds {
    runs: 16_384,
    live_runs: 1024,
    packets: 65_536,
    bytes: 4 << 20,
    names: 262_144,
    life_ms: CLOCK_WINDOW_MS,
};

/// A key that packets may be for.
pub struct Local {
    /// It, and its `access`.
    pub key: LocalKey,
    /// Several people hold it.
    pub is_group: bool,
}

/// A message that is whole.
pub struct Message {
    /// To be named in [`Held::delivered`] or [`Held::declined`].
    pub run: RunKey,
    /// Its name.
    pub id: MessageId,
    /// When the sender made it, Unix milliseconds by its clock.
    pub time_ms: u64,
    /// It begins with a META: ITEM.
    pub is_item: bool,
    /// 0 to 63,872 bytes.
    pub body: Vec<u8>,
}

/// What the caller has to act on.
pub enum Event {
    /// Deliver it.
    Message(Message),
    /// Somebody who holds our public key file is not among those to be heard.
    TurnedAway {
        /// Whose fingerprint to show.
        sender: PublicKey,
        /// Which of the local keys it came for.
        local: usize,
    },
    /// Somebody to be heard asks whether we are there; [`Held::here`] makes the answer.
    Probe(Probe),
    /// Somebody to be heard waits for us at the relay by which this came.
    Meet {
        /// Who.
        sender: PublicKey,
        /// Which of the local keys is meant.
        local: usize,
        /// What to bring.
        rendezvous: [u8; RENDEZVOUS_LEN],
    },
    /// A message that never became whole is given up.
    GivenUp(RunKey),
}

/// The state of one listener, for any number of local keys, senders and relays.
pub struct Held<S> {
    locals: Vec<Local>,
    /// Who we are in groups: what we wrote ourselves draws no receipt there.
    own: Option<PublicKey>,
    /// Names this program.
    instance: [u8; INSTANCE_LEN],
    /// Of contacts, and of others.
    caches: [BoxCache; 2],
    memory: Memory<Letter<S>>,
    answered: Answered,
    /// Why there was no room for the last packet, if that concerns its sender alone.
    wait: Option<Wait>,
    decided: Vec<S>,
    receipts: Receipts<S>,
    swept: Duration,
}

impl<S: Copy + PartialEq> Held<S> {
    /// Nothing is known of earlier times.
    pub fn new(locals: Vec<Local>, own: Option<PublicKey>, instance: [u8; INSTANCE_LEN]) -> Self {
        Self {
            locals,
            own,
            instance,
            caches: [BoxCache::new(), BoxCache::new()],
            memory: Memory::new(BY_RELAY),
            answered: Answered::new(PROBES[0], PROBES[1]),
            wait: None,
            decided: Vec::new(),
            receipts: Receipts::new(),
            swept: Duration::ZERO,
        }
    }

    /// Makes the answer to a probe, and says where it goes: volatile.
    pub fn here(
        &self,
        probe: &Probe,
        now: Now,
        rng: &mut dyn Random,
        out: &mut [u8; PACKET_LEN],
    ) -> Option<Address> {
        let mut body = [0; 3 + INSTANCE_LEN];
        // CBOR: a map of one, its key, a byte string of 8.
        body[..3].copy_from_slice(&[0xa1, INSTANCE, 0x40 | INSTANCE_LEN as u8]);
        body[3..].copy_from_slice(&self.instance);
        let me = self.locals[probe.local()].key.keys();
        probe.answer(me, Way::Relay, &body, now, rng, out);
        probe.mailbox()
    }

    /// `run` is out and flushed.
    pub fn delivered(&mut self, run: &RunKey) {
        self.finish(run, Status::Delivered);
    }

    /// `run` is not wanted, and never will be.
    pub fn declined(&mut self, run: &RunKey) {
        self.finish(run, Status::Declined);
    }

    fn finish(&mut self, run: &RunKey, status: Status) {
        let muted = self.is_muted(run);
        let letter = self.memory.get_mut(run).filter(|letter| letter.is_open());
        let Some(Letter { time_ms, state }) = letter else { return };
        let time_ms = *time_ms;
        let State::Open(open) = std::mem::replace(state, State::Over(status)) else { return };
        self.memory.settle_if(run, |_| true);
        if !muted {
            let (ack_key, answers) = (open.shape.ack_key, open.latest);
            self.receipts.push(Due { key: *run, ack_key, time_ms, status, answers });
        }
        self.decided.extend(open.cells);
    }

    fn give_up(&mut self, run: &RunKey, events: &mut Vec<Event>) {
        let Some(letter) = self.memory.get_mut(run) else { return };
        if let State::Open(open) = std::mem::replace(&mut letter.state, State::Lost) {
            self.decided.extend(open.cells);
            self.memory.settle_if(run, |_| true);
            events.push(Event::GivenUp(*run));
        }
    }

    /// In a group we wrote it ourselves.
    fn is_muted(&self, key: &RunKey) -> bool {
        self.locals[key.local].is_group && self.own == Some(key.sender)
    }

    /// Cells of which nothing comes any more.
    pub fn take_decided(&mut self) -> Vec<S> {
        std::mem::take(&mut self.decided)
    }

    /// Makes the receipts that are due, and hands each to `post`.
    pub fn receipts(&mut self, now: Now, rng: &mut dyn Random, post: impl FnMut(Posting<'_, S>)) {
        while let Some(key) = self.receipts.take_told(now) {
            self.tell(&key, now);
        }
        self.receipts.seal(&self.locals, now, rng, post);
    }

    /// The sender of a message that waits for the caller is told that it is here.
    fn tell(&mut self, key: &RunKey, now: Now) {
        let Some(letter) = self.memory.get(key).filter(|letter| letter.is_held()) else { return };
        let State::Open(open) = &letter.state else { return };
        let (time_ms, answers) = (letter.time_ms, open.latest);
        let ack_key = open.shape.ack_key.duplicate();
        if now.mono + TOLD_EVERY <= open.told_until {
            self.receipts.tell_at(now.mono + TOLD_EVERY, *key);
        }
        self.receipts.push(Due { key: *key, ack_key, time_ms, status: Status::Received, answers });
    }

    /// When [`Held::receipts`] or [`Held::tick`] has something to do, on [`Now::mono`].
    pub fn next_timeout(&self) -> Option<Duration> {
        let sweep = (!self.memory.is_empty()).then(|| self.swept + SWEEP);
        self.receipts.next_timeout().into_iter().chain(sweep).min()
    }

    /// Forgets what would be rejected anyway and gives up what is not whole and silent for
    /// [`LOST`]. While the caller does `not_read` something, that is no silence: what is missing may
    /// be there.
    pub fn tick(&mut self, not_read: bool, now: Now, events: &mut Vec<Event>) {
        if now.mono < self.swept + SWEEP {
            return;
        }
        self.swept = now.mono;
        let partial: Vec<_> = self
            .memory
            .live(None)
            .filter_map(|(key, letter)| letter.partial().map(|open| (*key, open.touched)))
            .collect();
        for (key, touched) in partial {
            if not_read {
                self.touch(&key, now);
            } else if now.mono >= touched + LOST {
                self.give_up(&key, events);
            }
        }
        self.memory.forget_expired(now.unix_ms);
    }

    fn touch(&mut self, key: &RunKey, now: Now) {
        if let Some(State::Open(open)) = self.memory.get_mut(key).map(|letter| &mut letter.state) {
            open.touched = now.mono;
        }
    }

    /// Messages remembered, and bytes of those in the making or not yet delivered.
    pub fn load(&self) -> (usize, usize) {
        (self.memory.len(), self.memory.bytes())
    }
}

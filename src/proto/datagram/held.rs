//! A listener's end of what relays hold for it: packets of cells in, messages out, receipts back.
//! PROTOCOL.md, 5.4 and 5.5.
//!
//! [`super::receiver`] is the same for packets that come by the network. Here a message is a run of
//! its own, may be as old as a relay holds cells, and comes again by every relay that it was posted
//! to, and whenever a link was cut: it is taken once. `S` says which cell a packet came in; a
//! relay may forget a cell once it is *decided*, that is, once nothing can come of it any more.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ack::Status;
use super::admission::Admission;
use super::assembly::{Assembly, Shape};
use super::cache::BoxCache;
use super::meet::Meet;
use super::packet::{Kind, LocalKey, Mac1, MessageId, Opened, PACKET_LEN, Way, mac1_of};
use super::probe::{self, Probe};
use super::receipt::{self, Receipted};
use super::replay::{Bounds, Memory, Refused, RunKey};
use crate::crypto::sodium::{PublicKey, Random, Secret};
use crate::proto::relay::cell::{Address, RENDEZVOUS_LEN};
use crate::proto::relay::mailbox::{Channel, epoch};
use crate::proto::time::{CLOCK_WINDOW_MS, Now};

/// A message that is not whole is given up when so long no packet of it came.
pub const LOST: Duration = Duration::from_millis(CLOCK_WINDOW_MS);
/// A message that was not delivered after so long has its sender told that it is here.
const TOLD_AFTER: Duration = Duration::from_millis(200);
/// How often that is said again.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// For how long: a sender that waits longer has ended by itself.
const TOLD_FOR: Duration = Duration::from_secs(3600);
/// The sender of a message that is older than this, in milliseconds, waits for no receipt.
const AWAITED_MS: u64 = 10 * 60 * 1000;
/// Bytes of messages of all senders that are in the making or not yet delivered.
const ALL_BYTES: usize = 32 << 20;
/// What a program that tells itself from others under the same key is called.
pub const INSTANCE_LEN: usize = 8;
/// The key of [`INSTANCE_LEN`] bytes in HERE.
const INSTANCE: u8 = 3;

/// A window has the room of a day's messages: about 20 MiB when it is full.
const BY_RELAY: Bounds = Bounds {
    runs: 65_536,
    live_runs: 1024,
    packets: 4 * 65_536,
    bytes: 4 << 20,
    life_ms: CLOCK_WINDOW_MS,
};

/// A key that packets may be for.
pub struct Local {
    /// It, and its `access`.
    pub key: LocalKey,
    /// Several people hold it.
    pub is_group: bool,
}

/// How a packet came.
#[derive(Clone, Copy)]
pub struct Came<S> {
    /// In which cell.
    pub cell: S,
    /// After all that the relay held before.
    pub live: bool,
    /// For how long that relay holds cells, in milliseconds.
    pub ttl_ms: u64,
}

/// Whom a packet is from, for the decision whether to hear it.
pub struct Asked<'a> {
    /// The sender's key. In a group it is a claim that any member can forge.
    pub sender: &'a PublicKey,
    /// Which of the local keys it came for.
    pub local: usize,
    /// The sender's name for the message.
    pub run: [u8; 8],
    /// When the message was made, Unix milliseconds by the sender's clock.
    pub time_ms: u64,
    /// Nothing of it is known; otherwise it was admitted before.
    pub begins: bool,
}

/// What becomes of the cell of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing comes of it any more: the relay may forget it.
    Decided,
    /// It is part of a message: [`Held::take_decided`] will name it.
    Awaited,
    /// There is no room for it, or its sender has to wait. Nothing is remembered of it: it is to be
    /// shown again.
    NotNow,
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

/// A packet to be posted.
pub struct Posting<'a, S> {
    /// It answers a packet that came in this cell, and goes by the same relay.
    pub answers: &'a S,
    /// The mailbox.
    pub address: Address,
    /// The packet.
    pub packet: &'a [u8; PACKET_LEN],
    /// It is for who reads the mailbox now.
    pub volatile: bool,
}

/// A message on its way.
struct Open<S> {
    shape: Shape,
    is_item: bool,
    /// `None`: the caller has it.
    assembly: Option<Assembly>,
    cells: Vec<S>,
    live: bool,
    touched: Duration,
    /// Its sender is told until then that it is here.
    told_until: Duration,
}

enum State<S> {
    Open(Box<Open<S>>),
    /// It is answered whenever it comes again.
    Over(Status),
    /// It draws nothing.
    Lost,
    Probed,
    Met,
}

struct Letter<S> {
    time_ms: u64,
    state: State<S>,
}

/// A receipt that is due.
struct Due<S> {
    key: RunKey,
    ack_key: Secret<32>,
    time_ms: u64,
    status: Status,
    answers: S,
}

/// A packet that is to be taken in, with all that is known of it.
struct Arrived<S> {
    packet: Opened,
    mac1: Mac1,
    key: RunKey,
    came: Came<S>,
    now: Now,
    contact: bool,
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
    decided: Vec<S>,
    due: Vec<Due<S>>,
    /// Whole messages whose senders are to be told that they are here, by when.
    to_tell: BTreeSet<(Duration, RunKey)>,
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
            decided: Vec::new(),
            due: Vec::new(),
            to_tell: BTreeSet::new(),
            swept: Duration::ZERO,
        }
    }

    /// Takes a packet in. `admit` is asked for each that opened and is fresh. What is to be done is
    /// appended to `events`.
    pub fn feed(
        &mut self,
        packet: &[u8; PACKET_LEN],
        came: Came<S>,
        now: Now,
        admit: &mut dyn FnMut(&Asked<'_>) -> Admission,
        events: &mut Vec<Event>,
    ) -> Verdict {
        self.memory.prolong(came.ttl_ms.saturating_add(CLOCK_WINDOW_MS));
        let Some((key, mut opened)) = self.open(packet, came.ttl_ms, now) else {
            return Verdict::Decided;
        };
        let (sender, local) = (key.sender, key.local);
        let begins = self.memory.get(&key).is_none();
        let (run, time_ms) = (key.run, opened.time_ms());
        let (contact, before) = match admit(&Asked { sender: &sender, local, run, time_ms, begins })
        {
            Admission::TurnAway => {
                events.push(Event::TurnedAway { sender, local });
                return Verdict::Decided;
            }
            Admission::NotNow => return Verdict::NotNow,
            Admission::Gone => return Verdict::Decided,
            Admission::Contact => (true, false),
            Admission::Unknown => (false, false),
            Admission::DeliveredBefore(contact) => (contact, begins),
        };
        if let Some(fresh) = opened.take_fresh_key() {
            self.caches[usize::from(!contact)].insert(local, sender, fresh);
        }
        let mac1 = mac1_of(packet);
        if self.memory.has_seen(&key, &mac1) {
            return self.again(&key, came.cell);
        }
        let arrived = Arrived { packet: opened, mac1, key, came, now, contact };
        match arrived.packet.kind() {
            Kind::Message | Kind::Item if before => self.repeat(&arrived, events),
            Kind::Message | Kind::Item => return self.letter(arrived, events),
            Kind::Probe => self.probe(arrived, events),
            Kind::Meet => self.meet(arrived, events),
            Kind::Here | Kind::Receipt => {}
        }
        Verdict::Decided
    }

    /// Everything that needs no memory: form, mac1, boxes, way, clock.
    fn open(&self, packet: &[u8; PACKET_LEN], ttl_ms: u64, now: Now) -> Option<(RunKey, Opened)> {
        let local = self.locals.iter().position(|local| local.key.recognises(packet))?;
        let opened = Opened::open(self.locals[local].key.keys(), packet, local, &self.caches)?;
        let (time_ms, now_ms) = (opened.time_ms(), now.unix_ms);
        let fresh = time_ms <= now_ms.saturating_add(CLOCK_WINDOW_MS)
            && now_ms.saturating_sub(time_ms) <= ttl_ms.saturating_add(CLOCK_WINDOW_MS);
        let key = RunKey { local, sender: *opened.sender(), run: opened.id().run };
        (fresh && opened.way() == Way::Relay).then_some((key, opened))
    }

    /// The very same packet, maybe in another cell.
    fn again(&mut self, key: &RunKey, cell: S) -> Verdict {
        match self.memory.get_mut(key).map(|letter| &mut letter.state) {
            Some(State::Open(open)) => {
                if !open.cells.contains(&cell) {
                    open.cells.push(cell);
                }
                Verdict::Awaited
            }
            _ => Verdict::Decided,
        }
    }

    fn letter(&mut self, arrived: Arrived<S>, events: &mut Vec<Event>) -> Verdict {
        let (key, packet) = (arrived.key, &arrived.packet);
        let is_item = packet.kind() == Kind::Item;
        match self.memory.get(&key) {
            None if packet.id().sequence == 0 => {
                let open = Open {
                    shape: Shape::of(packet),
                    is_item,
                    assembly: Some(Assembly::default()),
                    cells: Vec::new(),
                    live: false,
                    touched: arrived.now.mono,
                    told_until: Duration::ZERO,
                };
                let room = open.shape.room();
                match self.begin(&arrived, State::Open(Box::new(open)), room, events) {
                    Ok(()) => self.put(&arrived, events),
                    Err(verdict) => return verdict,
                }
                Verdict::Awaited
            }
            Some(Letter { state: State::Open(open), .. })
                if open.shape.fits(packet) && open.is_item == is_item =>
            {
                if self.note(&arrived) {
                    self.put(&arrived, events);
                    Verdict::Awaited
                } else {
                    Verdict::Decided
                }
            }
            Some(Letter { state: State::Over(status), time_ms })
                if *time_ms == packet.time_ms() =>
            {
                let status = *status;
                if self.note(&arrived) {
                    self.answer(&arrived, status);
                }
                Verdict::Decided
            }
            _ => Verdict::Decided,
        }
    }

    /// Takes a message in as one that was delivered.
    fn repeat(&mut self, arrived: &Arrived<S>, events: &mut Vec<Event>) {
        if self.begin(arrived, State::Over(Status::Delivered), 0, events).is_ok() {
            self.memory.settle_if(&arrived.key, |_| true);
            self.answer(arrived, Status::Delivered);
        }
    }

    /// Takes a run in with its first packet.
    fn begin(
        &mut self,
        arrived: &Arrived<S>,
        state: State<S>,
        room: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), Verdict> {
        let window = self.memory.window(&arrived.key, arrived.contact);
        let (key, time_ms) = (arrived.key, arrived.packet.time_ms());
        if room > 0 && self.memory.bytes() + room > ALL_BYTES && self.has_held(None) {
            return Err(Verdict::NotNow);
        }
        while let Err(why) = self.memory.has_room(window, time_ms, room) {
            if why == Refused::TooOld {
                return Err(Verdict::Decided);
            }
            // What the caller has goes on. What is not whole may never be: cells come in order, so
            // what is missing is either behind this very packet, or lost.
            if self.has_held(Some(window)) || !self.make_room(window, events) {
                return Err(Verdict::NotNow);
            }
        }
        self.memory.begin(key, window, time_ms, Letter { time_ms, state });
        self.memory.reserve(&key, room, false);
        self.note(arrived);
        Ok(())
    }

    /// Whether the caller has messages of a window, or of any.
    fn has_held(&self, window: Option<usize>) -> bool {
        self.memory.live(window).any(|(_, letter)| letter.is_held())
    }

    /// Gives up what is silent longest of what is not whole.
    fn make_room(&mut self, window: usize, events: &mut Vec<Event>) -> bool {
        let partial = self
            .memory
            .live(Some(window))
            .filter_map(|(key, letter)| letter.partial().map(|open| (open.touched, *key)));
        let stalest = partial.min().map(|(_, key)| key);
        stalest.inspect(|key| self.give_up(key, events)).is_some()
    }

    fn note(&mut self, arrived: &Arrived<S>) -> bool {
        self.memory.note(&arrived.key, arrived.mac1, arrived.packet.time_ms())
    }

    /// Takes a packet of a message in.
    fn put(&mut self, arrived: &Arrived<S>, events: &mut Vec<Event>) {
        let (key, packet, now) = (arrived.key, &arrived.packet, arrived.now);
        let muted = self.is_muted(&key);
        let letter = self.memory.get_mut(&key).map(|letter| &mut letter.state);
        let Some(State::Open(open)) = letter else { return };
        open.cells.push(arrived.came.cell);
        open.live |= arrived.came.live;
        open.touched = now.mono;
        let Some(assembly) = &mut open.assembly else {
            // Its sender asks what became of it.
            if !muted {
                self.to_tell.insert((now.mono, key));
            }
            return;
        };
        assembly.put(packet);
        let Some(body) = assembly.finish(open.shape.of) else { return };
        open.assembly = None;
        open.told_until = now.mono + if open.live { TOLD_FOR } else { Duration::ZERO };
        if !muted && (open.live || is_awaited(packet.time_ms(), now)) {
            self.to_tell.insert((now.mono + TOLD_AFTER, key));
        }
        let (id, time_ms, is_item) = (packet.id(), packet.time_ms(), open.is_item);
        events.push(Event::Message(Message { run: key, id, time_ms, is_item, body }));
    }

    fn probe(&mut self, arrived: Arrived<S>, events: &mut Vec<Event>) {
        // Who of a group is there, beside whoever asks?
        if !probe::is_due(&arrived.packet, arrived.now) || self.is_muted(&arrived.key) {
            return;
        }
        let taken = match self.memory.get(&arrived.key).map(|letter| &letter.state) {
            Some(State::Probed) => self.note(&arrived),
            Some(_) => false,
            None => self.begin(&arrived, State::Probed, 0, events).is_ok(),
        };
        self.memory.settle_if(&arrived.key, |letter| matches!(letter.state, State::Probed));
        if taken {
            events.push(Event::Probe(Probe::new(&arrived.packet, arrived.key.local)));
        }
    }

    fn meet(&mut self, arrived: Arrived<S>, events: &mut Vec<Event>) {
        let Some(meet) = Meet::read(&arrived.packet, arrived.now) else { return };
        let is_ours = meet.instance.is_none_or(|instance| instance == self.instance);
        if !is_ours || self.memory.get(&arrived.key).is_some() {
            return;
        }
        if self.begin(&arrived, State::Met, 0, events).is_ok() {
            self.memory.settle_if(&arrived.key, |_| true);
            let RunKey { sender, local, .. } = arrived.key;
            events.push(Event::Meet { sender, local, rendezvous: meet.rendezvous });
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
        if let (false, Some(answers)) = (muted, open.cells.last().copied()) {
            let ack_key = open.shape.ack_key;
            self.due.push(Due { key: *run, ack_key, time_ms, status, answers });
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

    /// What came of `arrived` before is said again, once for all packets of it that come together.
    fn answer(&mut self, arrived: &Arrived<S>, status: Status) {
        let key = arrived.key;
        if self.is_muted(&key) || self.due.iter().any(|due| due.key == key) {
            return;
        }
        let mut ack_key = Secret::zeroed();
        ack_key.expose_mut().copy_from_slice(arrived.packet.ack_key());
        let (time_ms, answers) = (arrived.packet.time_ms(), arrived.came.cell);
        self.due.push(Due { key, ack_key, time_ms, status, answers });
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
    pub fn receipts(
        &mut self,
        now: Now,
        rng: &mut dyn Random,
        mut post: impl FnMut(Posting<'_, S>),
    ) {
        while let Some((at, key)) = self.to_tell.first().copied()
            && at <= now.mono
        {
            self.to_tell.pop_first();
            self.tell(&key, now);
        }
        for due in std::mem::take(&mut self.due) {
            let id = MessageId { run: due.key.run, sequence: 0 };
            let channel = Channel::receipts(due.ack_key.expose(), id);
            let mailbox = channel.at(&due.key.sender, epoch(due.time_ms));
            let Some(address) = mailbox.map(|mailbox| mailbox.address) else { continue };
            let me = self.locals[due.key.local].key.keys();
            let of = Receipted { sender: &due.key.sender, id, ack_key: due.ack_key.expose() };
            let mut packet = [0; PACKET_LEN];
            receipt::seal(me, &of, due.status, now, rng, &mut packet);
            // Who is not there any more needs none: it would lie at the relay until it is too old.
            let volatile = due.status == Status::Received || !is_awaited(due.time_ms, now);
            post(Posting { answers: &due.answers, address, packet: &packet, volatile });
        }
    }

    /// The sender of a message that waits for the caller is told that it is here.
    fn tell(&mut self, key: &RunKey, now: Now) {
        let Some(letter) = self.memory.get(key).filter(|letter| letter.is_held()) else { return };
        let State::Open(open) = &letter.state else { return };
        let Some(answers) = open.cells.last().copied() else { return };
        let (time_ms, ack_key) = (letter.time_ms, open.shape.ack_key.duplicate());
        if now.mono + TOLD_EVERY <= open.told_until {
            self.to_tell.insert((now.mono + TOLD_EVERY, *key));
        }
        self.due.push(Due { key: *key, ack_key, time_ms, status: Status::Received, answers });
    }

    /// When [`Held::receipts`] or [`Held::tick`] has something to do, on [`Now::mono`].
    pub fn next_timeout(&self) -> Option<Duration> {
        let told = self.to_tell.first().map(|(at, _)| *at);
        let due = (!self.due.is_empty()).then_some(Duration::ZERO);
        let sweep = (self.memory.len() > 0).then(|| self.swept + super::receiver::SWEEP);
        [told, due, sweep].into_iter().flatten().min()
    }

    /// Forgets what would be rejected anyway and gives up what is not whole and silent for
    /// [`LOST`]. While the caller does `not_read` something, that is no silence: what is missing may
    /// be there.
    pub fn tick(&mut self, not_read: bool, now: Now, events: &mut Vec<Event>) {
        if now.mono < self.swept + super::receiver::SWEEP {
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

impl<S> Letter<S> {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    fn is_held(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.assembly.is_none())
    }

    fn partial(&self) -> Option<&Open<S>> {
        match &self.state {
            State::Open(open) => Some(&**open).filter(|open| open.assembly.is_some()),
            _ => None,
        }
    }
}

/// Whether the sender of a message may still wait for what comes of it.
fn is_awaited(time_ms: u64, now: Now) -> bool {
    now.unix_ms.saturating_sub(time_ms) <= AWAITED_MS
}

//! A listener's end: packets in, messages out, acks back. PROTOCOL.md, 4.4.
//!
//! Silence is the default: [`Receiver::feed`] does nothing visible until a packet opened, is fresh,
//! and its sender was admitted. A run is taken one message at a time: the next is accepted only
//! after [`Receiver::delivered`], so a slow reader slows its own sender and nobody else.

use std::time::Duration;

use super::ack::{self, AckDatagram, AckQueue, Status};
use super::admission::Admission;
use super::answered::{Answered, Pace};
use super::assembly::{Assembly, Shape};
use super::cache::BoxCache;
use super::packet::{Kind, LocalKey, Mac1, MessageId, Opened, PACKET_LEN, Way, mac1_of, recognise};
use super::probe::{self, EMPTY_MAP, Probe};
use super::replay::{BY_NETWORK, Memory, Refused};
use super::run::{Place, Run, State};
use crate::crypto::sodium::{PublicKey, Random};
use crate::proto::time::{CLOCK_WINDOW_MS, Now, within_window};

pub use super::replay::RunKey;

/// Silence after which a run may be given up if another needs its room: the default of `-w`.
pub const STALE: Duration = Duration::from_secs(30);
/// Silence after which a run is given up: its packets would be too old by then.
pub const LOST: Duration = Duration::from_millis(CLOCK_WINDOW_MS);
/// How often [`Receiver::tick`] looks for what can be forgotten.
pub const SWEEP: Duration = Duration::from_secs(30);
/// PROBEs that are answered: of each contact, and of all others together.
pub(super) const PROBES: [Pace; 2] =
    [Pace { rate: 32, burst: 1024 }, Pace { rate: 16, burst: 256 }];

/// Whom a packet is from, for the decision whether to hear it.
pub struct Arrival<'a> {
    /// The sender's key. In a group it is a claim that any member can forge.
    pub sender: &'a PublicKey,
    /// Which of the local keys it came for.
    pub local: usize,
    /// It begins a run or is a probe; otherwise it is of a run that was admitted before.
    pub begins: bool,
    /// The run goes on after this message.
    pub more: bool,
    /// Its run.
    pub run: [u8; 8],
    /// When its message was made, Unix milliseconds by the sender's clock.
    pub time_ms: u64,
    /// Names this very packet.
    pub mac1: &'a Mac1,
}

/// A whole message, in the order of its run.
pub struct Message {
    /// Its run; to be named in [`Receiver::delivered`] or [`Receiver::declined`].
    pub run: RunKey,
    /// Its name. Sequence 0 is the first of its run.
    pub id: MessageId,
    /// More messages of the run follow; the last has `false`.
    pub more: bool,
    /// When the sender made it, Unix milliseconds by its clock.
    pub time_ms: u64,
    /// 0 to 63,872 bytes. Empty with `more` is a sender that says it is still there.
    pub body: Vec<u8>,
}

/// What the caller has to act on.
pub enum Event {
    /// A run was taken in, and something of it is acknowledged from now on. Its end is a message
    /// without `more`, or [`Event::Abandoned`], or what the caller decides.
    Begun(RunKey),
    /// Deliver it, then say [`Receiver::delivered`].
    Message(Message),
    /// Somebody who holds our public key file is not among those to be heard.
    TurnedAway {
        /// Whose fingerprint to show.
        sender: PublicKey,
        /// Which of the local keys it came for.
        local: usize,
    },
    /// Somebody to be heard asks whether we are there; [`Receiver::here`] makes the answer.
    Probe(Probe),
    /// A run ended without its end: what came of it is all there will be.
    Abandoned(RunKey),
    /// A packet is answered that is no part of a message to come: a probe, or one of a run that was
    /// delivered whole, in a new transmission.
    Answered {
        /// The run.
        run: RunKey,
        /// The time in that packet, Unix ms.
        time_ms: u64,
        /// Names the packet.
        mac1: Mac1,
        /// Whether it is a contact's.
        contact: bool,
    },
}

/// A packet that is to be taken in, with all that is known of it.
struct Arrived<S> {
    packet: Opened,
    mac1: Mac1,
    key: RunKey,
    source: S,
    now: Now,
    contact: bool,
}

impl<S> Arrived<S> {
    fn answered(&self) -> Event {
        let (run, time_ms) = (self.key, self.packet.time_ms());
        Event::Answered { run, time_ms, mac1: self.mac1, contact: self.contact }
    }
}

/// The state of one listener, for any number of local keys and senders. `S` says where a packet
/// came from, and so where its acks go.
pub struct Receiver<S> {
    locals: Vec<LocalKey>,
    /// Of contacts, and of others, so that no flood of these makes those costly.
    caches: [BoxCache; 2],
    memory: Memory<Run<S>>,
    answered: Answered,
    acks: AckQueue<S>,
    swept: Duration,
}

impl<S: Clone + PartialEq> Receiver<S> {
    /// A listener that has `locals`; nothing is known of earlier times.
    pub fn new(locals: Vec<LocalKey>) -> Self {
        let caches = [BoxCache::new(), BoxCache::new()];
        let (memory, acks) = (Memory::new(BY_NETWORK), AckQueue::new());
        let answered = Answered::new(PROBES[0], PROBES[1]);
        Self { locals, caches, memory, answered, acks, swept: Duration::ZERO }
    }

    /// Takes a datagram in. `admit` is asked for each that opened and is fresh. What is to be done
    /// is appended to `events`; acks gather for [`Receiver::take_acks`].
    pub fn feed(
        &mut self,
        datagram: &[u8],
        source: S,
        now: Now,
        admit: &mut dyn FnMut(&Arrival<'_>) -> Admission,
        events: &mut Vec<Event>,
    ) {
        let Some((mac1, key, mut packet)) = self.open(datagram, now) else { return };
        if self.memory.is_past(&key) {
            return;
        }
        let (sender, local) = (key.sender, key.local);
        let begins = self.memory.get(&key).is_none();
        let more = packet.kind() == Kind::Message && packet.more();
        let (run, time_ms) = (key.run, packet.time_ms());
        let arrival = Arrival { sender: &sender, local, begins, more, run, time_ms, mac1: &mac1 };
        let (contact, again) = match admit(&arrival) {
            Admission::TurnAway => return events.push(Event::TurnedAway { sender, local }),
            Admission::NotNow | Admission::NoRoom | Admission::Gone => return,
            Admission::Contact => (true, false),
            Admission::Unknown => (false, false),
            Admission::DeliveredBefore(contact) => (contact, begins),
        };
        if let Some(fresh) = packet.take_fresh_key() {
            self.caches[usize::from(!contact)].insert(local, sender, fresh);
        }
        if self.memory.has_seen(&key, &mac1) {
            return;
        }
        let arrived = Arrived { packet, mac1, key, source, now, contact };
        match arrived.packet.kind() {
            Kind::Message if again => self.repeat(&arrived, events),
            Kind::Message => self.message(arrived, events),
            Kind::Probe => self.probe(arrived, events),
            Kind::Here | Kind::Receipt | Kind::Meet | Kind::Item => {}
        }
    }

    /// Everything that needs no memory: form, mac1, boxes, way, clock.
    fn open(&self, datagram: &[u8], now: Now) -> Option<(Mac1, RunKey, Opened)> {
        let packet: &[u8; PACKET_LEN] = datagram.try_into().ok()?;
        let local = recognise(&self.locals, packet)?;
        let opened = Opened::open(self.locals[local].keys(), packet, local, &self.caches)?;
        let key = RunKey { local, sender: *opened.sender(), run: opened.id().run };
        let fresh = opened.way() == Way::Network && self.is_fresh(&key, opened.time_ms(), now);
        fresh.then(|| (mac1_of(packet), key, opened))
    }

    /// Whether a stamp is within the clock window. A message that was taken in may be asked for as
    /// long as its sender does not give it up, though the sender's clock be behind.
    fn is_fresh(&self, key: &RunKey, time_ms: u64, now: Now) -> bool {
        let goes_on = || self.memory.get(key).is_some() && time_ms <= now.unix_ms;
        within_window(time_ms, now.unix_ms)
            || now.unix_ms.saturating_sub(time_ms) <= 2 * CLOCK_WINDOW_MS && goes_on()
    }

    fn message(&mut self, arrived: Arrived<S>, events: &mut Vec<Event>) {
        let place = match self.memory.get(&arrived.key) {
            Some(run) => run.place(&arrived.packet),
            None if arrived.packet.id().sequence == 0 => {
                let state = State::Partial(Assembly::default());
                if self.begin(&arrived, state, events) {
                    events.push(Event::Begun(arrived.key));
                    self.put(&arrived, events);
                }
                return;
            }
            // The middle of a run whose beginning was never heard.
            None => Place::Nowhere,
        };
        let taken = match place {
            Place::Current => self.note(&arrived),
            Place::Next => self.advance(&arrived, events),
            Place::Gap => {
                self.abandon(&arrived.key, events);
                false
            }
            Place::Nowhere => false,
        };
        if taken {
            self.put(&arrived, events);
        }
    }

    /// Takes the last message of a run in as one that was delivered.
    fn repeat(&mut self, arrived: &Arrived<S>, events: &mut Vec<Event>) {
        if !arrived.packet.more() && self.begin(arrived, State::Delivered, events) {
            self.put(arrived, events);
            self.memory.settle_if(&arrived.key, |_| true);
        }
    }

    /// Takes a run in with its first packet.
    fn begin(&mut self, arrived: &Arrived<S>, state: State, events: &mut Vec<Event>) -> bool {
        let window = self.memory.window(&arrived.key, arrived.contact);
        let (key, time_ms) = (arrived.key, arrived.packet.time_ms());
        let run = Run::new(&arrived.packet, state, arrived.source.clone(), arrived.now);
        let room = run.shape.room();
        while let Err(why) = self.memory.has_room(window, time_ms, room, arrived.now.unix_ms) {
            if why != Refused::Busy || !self.make_room(window, arrived.now, events) {
                return false;
            }
        }
        self.memory.begin(key, window, time_ms, run);
        self.memory.reserve(&key, room, false) && self.note(arrived)
    }

    /// Goes on to the next message of a run.
    fn advance(&mut self, arrived: &Arrived<S>, events: &mut Vec<Event>) -> bool {
        let (key, room) = (arrived.key, Shape::of(&arrived.packet).room());
        let Some(run) = self.memory.get_mut(&key) else { return false };
        run.touched = arrived.now.mono;
        let Some(window) = self.memory.window_of(&key) else { return false };
        // Room for all of it at once, or two half messages could wait for each other's.
        while !self.memory.reserve(&key, room, true) {
            if !self.make_room(window, arrived.now, events) {
                return false;
            }
        }
        self.memory.advance(&key);
        if let Some(run) = self.memory.get_mut(&key) {
            run.advance(&arrived.packet);
        }
        self.note(arrived)
    }

    fn note(&mut self, arrived: &Arrived<S>) -> bool {
        self.memory.note(&arrived.key, arrived.mac1, arrived.packet.time_ms())
    }

    /// Takes a packet of the current message in and answers it with the present status.
    fn put(&mut self, arrived: &Arrived<S>, events: &mut Vec<Event>) {
        let (key, packet) = (arrived.key, &arrived.packet);
        let Some(run) = self.memory.get_mut(&key) else { return };
        run.source = arrived.source.clone();
        run.touched = arrived.now.mono;
        let Some((fragment, status)) = run.status(packet) else { return };
        let ack = ack::ack(packet.ack_key(), packet.id(), fragment, status);
        self.acks.push(&run.source, &ack);
        if status == Status::Delivered && !packet.more() {
            events.push(arrived.answered());
        }
        if let Some(body) = run.put(packet) {
            let (id, more, time_ms) = (packet.id(), packet.more(), packet.time_ms());
            events.push(Event::Message(Message { run: key, id, more, time_ms, body }));
        }
    }

    fn probe(&mut self, arrived: Arrived<S>, events: &mut Vec<Event>) {
        let (Arrived { packet, key, mac1, now, contact, .. }, answered) =
            (&arrived, &mut self.answered);
        let asked = (packet.time_ms(), *mac1);
        if probe::is_due(packet, *now)
            && answered.accept((key.local, key.sender), *contact, asked, *now)
        {
            events.push(arrived.answered());
            events.push(Event::Probe(Probe::new(&arrived.packet, arrived.key.local)));
        }
    }

    /// Makes the answer to a direct probe, which goes to the packet's source.
    pub fn here(&self, probe: &Probe, now: Now, rng: &mut dyn Random, out: &mut [u8; PACKET_LEN]) {
        probe.answer(self.locals[probe.local()].keys(), Way::Network, EMPTY_MAP, now, rng, out);
    }

    /// The current message of `run` is out and flushed: acknowledges it, and the next may come.
    pub fn delivered(&mut self, run: &RunKey) {
        let Some(state) = self.memory.get_mut(run) else { return };
        if !matches!(state.state, State::Held) {
            return;
        }
        state.state = State::Delivered;
        self.acks.push(&state.source, &state.whole(run, Status::Delivered));
        self.memory.release(run);
        self.memory.settle_if(run, |run| !run.shape.more);
    }

    /// `run` is declined: its current message, unless that was delivered, and all later ones.
    pub fn declined(&mut self, run: &RunKey) {
        let Some(state) = self.memory.get_mut(run) else { return };
        let between = matches!(state.state, State::Delivered);
        if !state.decline() {
            return;
        }
        if !between {
            self.acks.push(&state.source, &state.whole(run, Status::Declined));
        }
        self.memory.settle_if(run, |_| true);
    }

    /// Gives `run` up: from now on its packets draw nothing.
    pub fn cut(&mut self, run: &RunKey) {
        if let Some(state) = self.memory.get_mut(run)
            && (state.is_waiting() || matches!(state.state, State::Held))
        {
            state.state = State::Cut;
            self.memory.settle_if(run, |_| true);
        }
    }

    fn abandon(&mut self, key: &RunKey, events: &mut Vec<Event>) {
        events.push(Event::Abandoned(*key));
        self.cut(key);
    }

    /// The packets that were accepted of the current message of `run`.
    pub fn packets(&self, run: &RunKey) -> &[Mac1] {
        self.memory.seen(run)
    }

    /// When a packet of `run` was last accepted, on [`Now::mono`]; `None` once nothing more is
    /// expected of it.
    pub fn last_heard(&self, run: &RunKey) -> Option<Duration> {
        self.memory.live_state(run).map(|run| run.touched)
    }

    /// The acks that gathered, each datagram to be sent once. They are lost without harm.
    pub fn take_acks(&mut self) -> Vec<AckDatagram<S>> {
        self.acks.take()
    }

    /// When [`Receiver::tick`] has something to do, on [`Now::mono`].
    pub fn next_timeout(&self) -> Option<Duration> {
        (!self.memory.is_empty()).then(|| self.swept + SWEEP)
    }

    /// Forgets what would be rejected anyway and gives up runs that are silent for [`LOST`].
    pub fn tick(&mut self, now: Now, events: &mut Vec<Event>) {
        if now.mono < self.swept + SWEEP {
            return;
        }
        self.swept = now.mono;
        for key in self.silent(None, LOST, now) {
            self.abandon(&key, events);
        }
        self.memory.forget_expired(now.unix_ms);
    }

    /// Gives up the run of a window that is silent longest, if it is [`STALE`].
    fn make_room(&mut self, window: usize, now: Now, events: &mut Vec<Event>) -> bool {
        let stalest = self.silent(Some(window), STALE, now).first().copied();
        stalest.inspect(|key| self.abandon(key, events)).is_some()
    }

    /// Waiting runs that are silent for `limit` or more, longest first.
    fn silent(&self, window: Option<usize>, limit: Duration, now: Now) -> Vec<RunKey> {
        let live = self.memory.live(window);
        let silent = live.filter(|(_, run)| run.is_waiting() && run.silence(now) >= limit);
        let mut silent: Vec<_> = silent.map(|(key, run)| (run.touched, *key)).collect();
        silent.sort_unstable();
        silent.into_iter().map(|(_, key)| key).collect()
    }

    /// Runs remembered, and bytes of messages in the making or not yet delivered: what a test of
    /// the bounds, or a report, wants to know.
    pub fn load(&self) -> (usize, usize) {
        (self.memory.len(), self.memory.bytes())
    }
}

//! What a packet does to what is known.

use std::time::Duration;

use super::letter::{Letter, Open, State};
use super::receipts::{Due, TOLD_AFTER, TOLD_FOR, is_awaited};
use super::{Event, Held, Message};
use crate::crypto::sodium::{PublicKey, Secret};
use crate::proto::datagram::ack::Status;
use crate::proto::datagram::admission::Admission;
use crate::proto::datagram::answered;
use crate::proto::datagram::assembly::{Assembly, Shape};
use crate::proto::datagram::meet::Meet;
use crate::proto::datagram::packet::{Kind, Mac1, Opened, PACKET_LEN, Way, mac1_of};
use crate::proto::datagram::probe::{self, Probe};
use crate::proto::datagram::replay::{Refused, RunKey};
use crate::proto::time::{CLOCK_WINDOW_MS, Now};

/// Bytes of messages of all senders that are in the making or not yet delivered.
const ALL_BYTES: usize = 32 << 20;
/// What is refused for what is remembered, and not for what is under way, is shown again after this.
const LONG_WAIT: Duration = Duration::from_secs(60);
/// What is refused for what is under way is shown again after this, if there is room.
const SHORT_WAIT: Duration = Duration::from_millis(250);
/// Cells of one message beyond which a packet that is known is looked for in no more of them: each of
/// its 64 packets in one cell, and three times again.
const MAX_CELLS: usize = 256;

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
    /// It is of a message, and not a question, which is good for minutes only.
    pub is_message: bool,
}

/// What becomes of the cell of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing comes of it any more: the relay may forget it.
    Decided,
    /// It is part of a message: [`Held::take_decided`] will name it.
    Awaited,
    /// There is no room for it, or its sender has to wait. Nothing is remembered of it: it is to be
    /// shown again. [`Held::take_wait`] says whether that concerns nobody else.
    NotNow,
}

/// For what a sender has to wait, or all who share its memory: its mailbox is to be read again when
/// that [is over](Held::is_over), and all others meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    window: Option<usize>,
    /// Not before, on [`Now::mono`].
    pub until: Duration,
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

impl<S: Copy + PartialEq> Held<S> {
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
        self.wait = None;
        if self.memory.is_past(&key) {
            return Verdict::Decided;
        }
        let (sender, local) = (key.sender, key.local);
        let begins = self.memory.get(&key).is_none();
        let is_message = matches!(opened.kind(), Kind::Message | Kind::Item);
        let (run, time_ms) = (key.run, opened.time_ms());
        let asked = Asked { sender: &sender, local, run, time_ms, begins, is_message };
        let (contact, before) = match admit(&asked) {
            Admission::TurnAway => {
                events.push(Event::TurnedAway { sender, local });
                return Verdict::Decided;
            }
            Admission::NotNow => return Verdict::NotNow,
            Admission::NoRoom => return self.wait_for(None, now.mono + LONG_WAIT),
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
            Kind::Probe => self.probe(&arrived, events),
            Kind::Meet => self.meet(&arrived, events),
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

    /// The very same packet, maybe in another cell. Who shows it in ever more of them has its first
    /// ones kept, and so all behind them in the same mailbox.
    fn again(&mut self, key: &RunKey, cell: S) -> Verdict {
        match self.memory.get_mut(key).map(|letter| &mut letter.state) {
            Some(State::Open(open)) if open.cells.contains(&cell) => Verdict::Awaited,
            Some(State::Open(open)) if open.cells.len() < MAX_CELLS => {
                open.cells.push(cell);
                Verdict::Awaited
            }
            _ => Verdict::Decided,
        }
    }

    fn wait_for(&mut self, window: Option<usize>, until: Duration) -> Verdict {
        self.wait = Some(Wait { window, until });
        Verdict::NotNow
    }

    /// Why the last packet was [`Verdict::NotNow`], if that concerns only its sender and those who
    /// share memory with it; otherwise nobody's packets are taken now.
    pub fn take_wait(&mut self) -> Option<Wait> {
        self.wait.take()
    }

    /// Whether what `wait` is for is over.
    pub fn is_over(&self, wait: &Wait, now: Now) -> bool {
        let has_eased = |window| self.memory.has_eased(window, now.unix_ms);
        now.mono >= wait.until && wait.window.is_none_or(has_eased)
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
                    latest: arrived.came.cell,
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
        let Now { mono, unix_ms } = arrived.now;
        while let Err(why) = self.memory.has_room(window, time_ms, room, unix_ms) {
            match why {
                // What its own sender has pushed out may have been delivered. What time has, in a
                // window of many, is left to a clock that is right again.
                Refused::TooOld if self.memory.is_ones(window) => return Err(Verdict::Decided),
                Refused::TooOld => return Err(self.wait_for(Some(window), mono + LONG_WAIT)),
                Refused::Full => return Err(self.wait_for(Some(window), mono + SHORT_WAIT)),
                // What the caller has goes on. What is not whole may never be: cells come in order,
                // so what is missing is either behind this very packet, or lost.
                Refused::Busy if !self.has_held(Some(window)) && self.make_room(window, events) => {
                }
                Refused::Busy => return Err(self.wait_for(Some(window), mono + SHORT_WAIT)),
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
        open.latest = arrived.came.cell;
        open.live |= arrived.came.live;
        open.touched = now.mono;
        let Some(assembly) = &mut open.assembly else {
            // Its sender asks what became of it.
            if !muted {
                self.receipts.tell_at(now.mono, key);
            }
            return;
        };
        assembly.put(packet);
        let Some(body) = assembly.finish(open.shape.of) else { return };
        open.assembly = None;
        open.told_until = now.mono + if open.live { TOLD_FOR } else { Duration::ZERO };
        if !muted && (open.live || is_awaited(packet.time_ms(), now)) {
            self.receipts.tell_at(now.mono + TOLD_AFTER, key);
        }
        let (id, time_ms, is_item) = (packet.id(), packet.time_ms(), open.is_item);
        events.push(Event::Message(Message { run: key, id, time_ms, is_item, body }));
    }

    fn probe(&mut self, arrived: &Arrived<S>, events: &mut Vec<Event>) {
        // Who of a group is there, beside whoever asks?
        if !probe::is_due(&arrived.packet, arrived.now) || self.is_muted(&arrived.key) {
            return;
        }
        if self.is_new(arrived, arrived.mac1) {
            events.push(Event::Probe(Probe::new(&arrived.packet, arrived.key.local)));
        }
    }

    fn meet(&mut self, arrived: &Arrived<S>, events: &mut Vec<Event>) {
        let Some(meet) = Meet::read(&arrived.packet, arrived.now) else { return };
        let is_ours = meet.instance.is_none_or(|instance| instance == self.instance);
        let mut name = [0; 16];
        name.copy_from_slice(&meet.rendezvous[..16]);
        if is_ours && self.is_new(arrived, name) {
            let RunKey { sender, local, .. } = arrived.key;
            events.push(Event::Meet { sender, local, rendezvous: meet.rendezvous });
        }
    }

    /// Whether a question that has this name is new, and may be answered.
    fn is_new(&mut self, arrived: &Arrived<S>, name: answered::Name) -> bool {
        let RunKey { sender, local, .. } = arrived.key;
        let asked = (arrived.packet.time_ms(), name);
        self.answered.accept((local, sender), arrived.contact, asked, arrived.now)
    }

    /// What came of `arrived` before is said again, once for all packets of it that come together.
    fn answer(&mut self, arrived: &Arrived<S>, status: Status) {
        let key = arrived.key;
        if self.is_muted(&key) || self.receipts.is_due(&key) {
            return;
        }
        let mut ack_key = Secret::zeroed();
        ack_key.expose_mut().copy_from_slice(arrived.packet.ack_key());
        let (time_ms, answers) = (arrived.packet.time_ms(), arrived.came.cell);
        self.receipts.push(Due { key, ack_key, time_ms, status, answers });
    }
}

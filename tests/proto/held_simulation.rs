//! A reader and relays that are cut, restarted and doubled, with clocks that jump over midnight:
//! every message is delivered once and in the order of its sender, and a relay is told to forget
//! nothing that was not decided. AC_TEST_SEEDS says how many such worlds are tried.

use crate::testkit::{common::number, random::Dice};

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, SeededRandom, random};
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::held::{Came, Event, Held, Local, Verdict};
use anonchat::proto::datagram::packet::{
    Head, Kind, LocalKey, MessageId, PACKET_LEN, Sealer, Way, fragment_of, fragments,
};
use anonchat::proto::relay::cell::{Address, Cell, Command, FLAG_VOLATILE, Log};
use anonchat::proto::relay::mailbox::{Channel, EPOCH_MS, epoch};
use anonchat::proto::relay::reading::{Order, Position, Reading, Whose};
use anonchat::proto::time::Now;

type Packet = [u8; PACKET_LEN];

const TTL: Duration = Duration::from_secs(86_400);

fn seeds() -> u64 {
    number("AC_TEST_SEEDS", 8)
}

/// What a relay says.
struct Said {
    command: Command,
    flags: u8,
    id: u64,
    log: Log,
    address: Address,
    body: Vec<u8>,
}

impl Said {
    fn cell(&self) -> Cell<'_> {
        let Self { command, flags, id, log, address, .. } = *self;
        Cell { flags, id, log, address, body: &self.body, ..Cell::new(command) }
    }
}

struct Mailbox {
    log: Log,
    first: u64,
    held: VecDeque<Packet>,
    /// What the reader has had, if there is one, and whether LIVE was said.
    cursor: Option<(u64, bool)>,
}

/// A relay and its only reader.
#[derive(Default)]
struct Relay {
    mailboxes: HashMap<Address, Mailbox>,
    /// On their way to the reader.
    out: VecDeque<Said>,
}

impl Relay {
    fn mailbox(&mut self, address: Address) -> &mut Mailbox {
        self.mailboxes.entry(address).or_insert_with(|| Mailbox {
            log: random(),
            first: 0,
            held: VecDeque::new(),
            cursor: None,
        })
    }

    fn post(&mut self, address: Address, packet: &Packet) {
        self.mailbox(address).held.push_back(*packet);
    }

    /// Shows a packet to who reads now.
    fn show(&mut self, address: Address, packet: &Packet) {
        let mailbox = self.mailbox(address);
        if mailbox.cursor.is_some() {
            let (id, log) = (mailbox.first + mailbox.held.len() as u64, mailbox.log);
            let (command, flags) = (Command::Cell, FLAG_VOLATILE);
            self.out.push_back(Said { command, flags, id, log, address, body: packet.to_vec() });
        }
    }

    fn hear(&mut self, order: Order) {
        match order {
            Order::Subscribe { address, log, from } => {
                let mailbox = self.mailbox(address);
                let from = if mailbox.log == log { from } else { 0 };
                mailbox.cursor = Some((from, false));
            }
            Order::Ack { address, log, upto } => {
                let mailbox = self.mailbox(address);
                assert!(mailbox.log == log, "an acknowledgement of another log");
                while mailbox.first <= upto && mailbox.held.pop_front().is_some() {
                    mailbox.first += 1;
                }
            }
            Order::Leave(address) => self.mailbox(address).cursor = None,
        }
    }

    /// Hands out at most `room` cells.
    fn pull(&mut self, room: usize) {
        for (address, mailbox) in &mut self.mailboxes {
            let Some((cursor, live)) = &mut mailbox.cursor else { continue };
            *cursor = (*cursor).max(mailbox.first);
            let (log, address) = (mailbox.log, *address);
            for _ in 0..room {
                let Some(packet) = mailbox.held.get((*cursor - mailbox.first) as usize) else {
                    if !std::mem::replace(live, true) {
                        let (command, id) = (Command::Live, *cursor);
                        let body = Vec::new();
                        self.out.push_back(Said { command, flags: 0, id, log, address, body });
                    }
                    break;
                };
                let (command, id, body) = (Command::Cell, *cursor, packet.to_vec());
                self.out.push_back(Said { command, flags: 0, id, log, address, body });
                *cursor += 1;
            }
        }
    }

    /// The reader's link is cut.
    fn cut(&mut self) {
        self.out.clear();
        self.mailboxes.values_mut().for_each(|mailbox| mailbox.cursor = None);
        self.mailboxes.retain(|_, mailbox| !mailbox.held.is_empty());
    }
}

/// Somebody who posts messages with numbers, from 0 on.
struct Poster {
    me: KeyPair,
    sealer: Sealer,
    channel: Channel,
    posted: u64,
}

impl Poster {
    fn packets(&mut self, now: Now, dice: &mut Dice) -> (u64, Vec<Packet>) {
        let number = self.posted;
        self.posted += 1;
        let mut body = number.to_be_bytes().to_vec();
        body.resize(8 + dice.below(2500) as usize, 0);
        let id = MessageId { run: random(), sequence: 0 };
        let ack_key = random();
        let of = fragments(body.len()) as u16;
        let seal = |fragment: u16| {
            let head = Head {
                kind: Kind::Message,
                way: Way::Relay,
                more: false,
                id,
                time_ms: now.unix_ms,
                ack_key: &ack_key,
                fragment,
                of,
            };
            let mut packet = [0; PACKET_LEN];
            let part = fragment_of(&body, fragment.into());
            self.sealer.seal(&head, part, &mut SeededRandom::new(0), &mut packet);
            packet
        };
        (number, (0..of).map(seal).collect())
    }
}

#[derive(Clone, Copy, PartialEq)]
struct Spot(usize, Position);

struct World {
    dice: Dice,
    now: Now,
    bob: KeyPair,
    relays: Vec<Relay>,
    readings: Vec<Reading>,
    linked: Vec<bool>,
    held: Held<Spot>,
    /// How often, in percent, a sender's memory is said to be full, and the mailboxes left for it.
    crowded: u64,
    paused: Vec<(usize, Address)>,
    posters: Vec<Poster>,
    /// Whole messages that wait for the output.
    waiting: VecDeque<(anonchat::proto::datagram::receiver::RunKey, usize, u64)>,
    /// By poster, the numbers that were delivered.
    delivered: Vec<Vec<u64>>,
    /// Numbers of each poster that a relay lost with its memory.
    at_risk: Vec<BTreeSet<u64>>,
    /// Where each packet belongs, by its position in a mailbox.
    posted: BTreeMap<(usize, Log, u64), (usize, u64)>,
}

const ACCESS: [u8; 32] = [7; 32];
const NOON: u64 = 20_000 * EPOCH_MS - EPOCH_MS / 2;
const FIVE_TO_MIDNIGHT: u64 = 20_000 * EPOCH_MS - 300_000;

impl World {
    fn new(seed: u64, relays: usize, unix_ms: u64) -> Self {
        let bob = KeyPair::generate();
        let local = Local { key: LocalKey::new(bob.duplicate(), &ACCESS), is_group: false };
        let posters: Vec<_> = (0..3)
            .map(|_| {
                let me = KeyPair::generate();
                let sealer = Sealer::new(&me, bob.public(), &ACCESS);
                let channel = Channel::pair(&me, bob.public(), me.public(), bob.public()).unwrap();
                Poster { me, sealer, channel, posted: 0 }
            })
            .collect();
        let mut world = Self {
            dice: Dice::new(seed),
            now: Now { mono: Duration::from_secs(1000), unix_ms },
            bob,
            relays: (0..relays).map(|_| Relay::default()).collect(),
            readings: (0..relays).map(|_| Reading::default()).collect(),
            linked: vec![false; relays],
            held: Held::new(vec![local], None, [0; 8]),
            crowded: 0,
            paused: Vec::new(),
            delivered: vec![Vec::new(); posters.len()],
            at_risk: vec![BTreeSet::new(); posters.len()],
            posters,
            waiting: VecDeque::new(),
            posted: BTreeMap::new(),
        };
        for reading in &mut world.readings {
            for poster in &world.posters {
                let (me, other) = (&world.bob, poster.me.public());
                let channel = Channel::pair(me, other, other, me.public()).unwrap();
                reading.want((0, Whose::Pair(*other)), channel, *me.public());
            }
            reading.want((0, Whose::Public), Channel::open(&ACCESS), *world.bob.public());
        }
        world
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono += Duration::from_millis(ms);
        self.now.unix_ms += ms;
    }

    /// One message to every relay: what comes by two must be taken once.
    fn post(&mut self) {
        let who = self.dice.below(self.posters.len() as u64) as usize;
        let poster = &mut self.posters[who];
        let (number, packets) = poster.packets(self.now, &mut self.dice);
        let mailbox = poster.channel.at(self.bob.public(), epoch(self.now.unix_ms)).unwrap();
        let doubled = self.dice.percent(20);
        for (at, relay) in self.relays.iter_mut().enumerate() {
            for packet in packets.iter().chain(packets.iter().filter(|_| doubled)) {
                let mailbox_then = relay.mailbox(mailbox.address);
                let place =
                    (at, mailbox_then.log, mailbox_then.first + mailbox_then.held.len() as u64);
                self.posted.insert(place, (who, number));
                relay.post(mailbox.address, packet);
            }
        }
    }

    /// Somebody who knows the mailbox shows garbage that is not held.
    fn disturb(&mut self) {
        let who = self.dice.below(self.posters.len() as u64) as usize;
        let at = self.dice.below(self.relays.len() as u64) as usize;
        let mailbox = self.posters[who].channel.at(self.bob.public(), epoch(self.now.unix_ms));
        self.relays[at].show(mailbox.unwrap().address, &[0xa5; PACKET_LEN]);
    }

    fn cut(&mut self, at: usize) {
        self.relays[at].cut();
        self.readings[at].lost();
        self.linked[at] = false;
    }

    /// The relay's memory is gone.
    fn restart(&mut self, at: usize) {
        self.cut(at);
        let alone = self.relays.len() == 1;
        for (address, mailbox) in self.relays[at].mailboxes.drain() {
            let _ = address;
            for sequence in mailbox.first..mailbox.first + mailbox.held.len() as u64 {
                if let Some((who, number)) = self.posted.get(&(at, mailbox.log, sequence))
                    && alone
                {
                    self.at_risk[*who].insert(*number);
                }
            }
        }
    }

    fn link(&mut self, at: usize) {
        if !self.linked[at] {
            self.linked[at] = true;
            self.readings[at].linked(TTL, self.now);
        }
    }

    /// Everybody has a turn; `rooms` is how much the output and the relays may move.
    fn turn(&mut self, room: usize) {
        if self.crowded == 0 || self.dice.percent(30) {
            let readings = &mut self.readings;
            self.paused.retain(|(at, address)| !readings[*at].resume(address));
        }
        for at in 0..self.relays.len() {
            self.readings[at].refresh(self.now);
            while self.linked[at] {
                let Some(order) = self.readings[at].order() else { break };
                if let Order::Ack { address, log, upto } = order {
                    self.may_go(at, address, log, upto);
                }
                self.relays[at].hear(order);
            }
            self.relays[at].pull(room);
            for _ in 0..room {
                let Some(said) = self.relays[at].out.pop_front() else { break };
                self.take(at, &said);
            }
        }
        for _ in 0..room {
            let Some((run, who, number)) = self.waiting.pop_front() else { break };
            self.delivered[who].push(number);
            self.held.delivered(&run);
        }
        for Spot(at, position) in self.held.take_decided() {
            self.readings[at].decided(&position);
        }
        self.held.receipts(self.now, &mut SeededRandom::new(1), |_| {});
    }

    /// A relay is told to forget only what was delivered.
    fn may_go(&mut self, at: usize, address: Address, log: Log, upto: u64) {
        let mailbox = self.relays[at].mailbox(address);
        for sequence in mailbox.first..=upto {
            if let Some((who, number)) = self.posted.get(&(at, log, sequence)) {
                assert!(self.delivered[*who].contains(number), "{number} of {who} is forgotten");
            }
        }
    }

    fn take(&mut self, at: usize, said: &Said) {
        if said.command == Command::Live {
            return self.readings[at].live(&said.address, said.log, said.id);
        }
        let Some((position, live)) = self.readings[at].cell(&said.cell()) else { return };
        if !position.volatile && self.dice.percent(self.crowded) {
            self.readings[at].pause(&position);
            return self.paused.push((at, position.address));
        }
        let came = Came { cell: Spot(at, position), live, ttl_ms: TTL.as_millis() as u64 };
        let mut events = Vec::new();
        let packet: &Packet = said.body.as_slice().try_into().unwrap();
        let verdict =
            self.held.feed(packet, came, self.now, &mut |_| Admission::Contact, &mut events);
        assert_ne!(verdict, Verdict::NotNow);
        self.readings[at].took(&position, verdict == Verdict::Decided);
        for event in events {
            let Event::Message(message) = event else { panic!("no other event is due") };
            let of = |poster: &Poster| poster.me.public() == message.run.sender();
            let who = self.posters.iter().position(of).unwrap();
            let number = u64::from_be_bytes(message.body[..8].try_into().unwrap());
            self.waiting.push_back((message.run, who, number));
        }
    }

    fn settle(&mut self) {
        self.crowded = 0;
        for _ in 0..400 {
            (0..self.relays.len()).for_each(|at| self.link(at));
            self.turn(1000);
        }
    }

    /// Each once, and in order; those that were lost with a relay's memory may be missing.
    fn check(&self, seed: u64) {
        for (who, delivered) in self.delivered.iter().enumerate() {
            assert!(delivered.is_sorted(), "seed {seed}: {who}: {delivered:?}");
            let once: BTreeSet<u64> = delivered.iter().copied().collect();
            assert_eq!(once.len(), delivered.len(), "seed {seed}: {who}: something came twice");
            for number in 0..self.posters[who].posted {
                let excused = self.at_risk[who].contains(&number);
                assert!(once.contains(&number) || excused, "seed {seed}: {who}: {number} is lost");
            }
        }
    }
}

fn live_through(seed: u64, relays: usize, restarts: bool, jumps: bool) -> World {
    // Where two epochs are read at once, the relay says in which order: there is none to hold.
    let world = World::new(seed, relays, if jumps { FIVE_TO_MIDNIGHT } else { NOON });
    live(world, restarts, jumps)
}

fn live(mut world: World, restarts: bool, jumps: bool) -> World {
    let relays = world.relays.len();
    for _ in 0..600 {
        if world.dice.percent(30) {
            world.post();
        }
        if world.dice.percent(10) {
            world.disturb();
        }
        let at = world.dice.below(relays as u64) as usize;
        if world.dice.percent(4) {
            world.cut(at);
        }
        if restarts && world.dice.percent(1) {
            world.restart(at);
        }
        if world.dice.percent(40) {
            world.link(at);
        }
        let ms = world.dice.below(2000);
        world.pass(ms);
        if jumps && world.dice.percent(1) {
            // Into the next day, or back again.
            let day = world.now.unix_ms / EPOCH_MS;
            let back = world.dice.percent(50) && day > 20_000;
            world.now.unix_ms =
                if back { day * EPOCH_MS - 30_000 } else { world.now.unix_ms + 120_000 };
        }
        let room = world.dice.below(6) as usize;
        world.turn(room);
    }
    world.settle();
    world
}

#[test]
fn cuts_lose_double_and_disorder_nothing() {
    for seed in 0..seeds() {
        live_through(seed, 1, false, false).check(seed);
    }
}

#[test]
fn what_comes_by_two_relays_is_taken_once() {
    for seed in 100..100 + seeds() {
        let world = live_through(seed, 2, false, false);
        for delivered in &world.delivered {
            let once: BTreeSet<u64> = delivered.iter().copied().collect();
            assert_eq!(once.len(), delivered.len(), "seed {seed}");
        }
        for (who, poster) in world.posters.iter().enumerate() {
            assert_eq!(world.delivered[who].len() as u64, poster.posted, "seed {seed}");
        }
    }
}

#[test]
fn a_relay_that_is_restarted_loses_what_it_held_and_nothing_else() {
    for seed in 200..200 + seeds() {
        live_through(seed, 1, true, false).check(seed);
    }
}

#[test]
fn a_clock_that_jumps_over_midnight_loses_and_doubles_nothing() {
    for seed in 300..300 + seeds() {
        let world = live_through(seed, 1, false, true);
        for (who, poster) in world.posters.iter().enumerate() {
            let mut delivered = world.delivered[who].clone();
            delivered.sort_unstable();
            let all: Vec<u64> = (0..poster.posted).collect();
            assert_eq!(delivered, all, "seed {seed}: {who}");
        }
    }
}

#[test]
fn everything_that_was_delivered_is_acknowledged_to_the_relay() {
    for seed in 400..400 + seeds() {
        let mut world = live_through(seed, 1, false, false);
        world.settle();
        let left: usize =
            world.relays[0].mailboxes.values().map(|mailbox| mailbox.held.len()).sum();
        assert_eq!(left, 0, "seed {seed}");
        assert_eq!(world.held.load().1, 0, "seed {seed}");
    }
}

#[test]
fn a_mailbox_that_is_left_for_want_of_room_is_read_on_later_without_loss_or_disorder() {
    for seed in 600..600 + 2 * seeds() {
        let mut world = World::new(seed, 1, NOON);
        world.crowded = 1 + seed % 20;
        let mut world = live(world, seed % 2 == 0, false);
        world.check(seed);
        world.settle();
        let left: usize =
            world.relays[0].mailboxes.values().map(|mailbox| mailbox.held.len()).sum();
        assert_eq!(left, 0, "seed {seed}");
    }
}

#[test]
fn what_was_posted_before_midnight_comes_before_what_was_posted_after() {
    for seed in 500..500 + seeds() {
        let mut world = World::new(seed, 1, FIVE_TO_MIDNIGHT);
        world.crowded = [0, 10][seed as usize % 2];
        for _ in 0..60 {
            world.post();
            world.pass(20_000);
        }
        world.link(0);
        for _ in 0..400 {
            world.turn(1);
        }
        world.settle();
        world.check(seed);
    }
}

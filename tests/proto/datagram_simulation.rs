//! Senders and a listener on a network that drops, doubles, reorders and delays, with clocks that
//! jump: every message is delivered once, in order and whole, or its sender knows that it was not.
//! AC_TEST_SEEDS says how many such worlds are tried.

use crate::testkit::{common::number, datagram_forge, random::Dice};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anonchat::crypto::sodium::Random;
use anonchat::proto::datagram::ack::{ACK_LEN, GATHERED};
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::packet::{MAX_MESSAGE, PACKET_LEN};
use anonchat::proto::datagram::receiver::{Event, Receiver, RunKey};
use anonchat::proto::datagram::sender::{Progress, Sender};
use anonchat::proto::time::Now;
use datagram_forge::*;

/// How long a sender waits for proof before it calls the run cut off, as `-w` does.
const PATIENCE_MS: u64 = 60_000;

/// The source of packets that no sender sent.
const ATTACKER: u16 = 999;

fn seeds() -> u64 {
    number("AC_TEST_SEEDS", 12)
}

/// A network and its faults, in percent and milliseconds.
#[derive(Clone, Copy)]
struct Faults {
    loss: u64,
    doubled: u64,
    delay_ms: u64,
    garbage: u64,
    clock_jumps: bool,
    reader_pauses: bool,
}

enum Parcel {
    Packet(u16, Vec<u8>),
    Ack(u16, Vec<u8>),
}

struct Network {
    faults: Faults,
    /// By time of arrival, then in the order in which they were sent.
    under_way: BTreeMap<(u64, u64), Parcel>,
    count: u64,
    /// Packets that an attacker has seen and plays again.
    seen: Vec<Vec<u8>>,
}

impl Network {
    fn send(&mut self, parcel: impl Fn() -> Parcel, ms: u64, dice: &mut Dice) {
        let copies = 1 + u64::from(dice.percent(self.faults.doubled));
        for _ in 0..copies {
            if !dice.percent(self.faults.loss) {
                self.count += 1;
                let arrival = ms + dice.below(self.faults.delay_ms + 1);
                self.under_way.insert((arrival, self.count), parcel());
            }
        }
    }

    fn arrived(&mut self, ms: u64) -> Option<Parcel> {
        let entry = self.under_way.first_entry()?;
        (entry.key().0 <= ms).then(|| entry.remove())
    }

    /// Garbage, bent packets and replays, from nowhere.
    fn hostile(&mut self, dice: &mut Dice) -> Option<Vec<u8>> {
        if !dice.percent(self.faults.garbage) || self.seen.is_empty() {
            return None;
        }
        let index = dice.below(self.seen.len() as u64) as usize;
        let mut packet = self.seen[index].clone();
        match dice.below(3) {
            0 => {}
            1 => packet[dice.below(PACKET_LEN as u64) as usize] ^= 1 << dice.below(8),
            _ => packet.truncate(dice.below(PACKET_LEN as u64) as usize),
        }
        Some(packet)
    }
}

/// One `ac-send`: its messages, and how far it is.
struct Talker {
    sender: Sender,
    messages: Vec<Vec<u8>>,
    offered: usize,
    /// Messages of which it has heard that they were delivered.
    proven: usize,
    since_ms: u64,
    gave_up: bool,
}

impl Talker {
    fn new(name: &str, dice: &mut Dice) -> Self {
        let count = 1 + dice.below(4);
        let messages = (0..count).map(|_| Self::message(dice)).collect();
        let sender = sender(name, &mut dice.0);
        Self { sender, messages, offered: 0, proven: 0, since_ms: 0, gave_up: false }
    }

    fn message(dice: &mut Dice) -> Vec<u8> {
        let bound = [2, 999, 5000, MAX_MESSAGE as u64 + 1][dice.below(4) as usize];
        let mut body = vec![0; dice.below(bound) as usize];
        dice.0.fill(&mut body);
        body
    }

    fn is_done(&self) -> bool {
        self.gave_up || !matches!(self.sender.progress(), Progress::Ready | Progress::InFlight)
    }

    fn offer(&mut self, now: Now, dice: &mut Dice) {
        if self.sender.progress() == Progress::Ready {
            let more = self.offered + 1 < self.messages.len();
            let body = &self.messages[self.offered];
            self.sender.offer(body, more, now, &mut dice.0).unwrap();
            self.offered += 1;
        }
    }

    fn hear(&mut self, datagram: &[u8], now: Now) {
        if self.sender.feed_ack(datagram, now) {
            self.since_ms = now.mono.as_millis() as u64;
        }
        self.proven = match self.sender.progress() {
            Progress::Ready | Progress::Finished => self.offered,
            _ => self.proven,
        };
    }
}

/// The listener's stdout: one message after the other, with pauses.
#[derive(Default)]
struct Output {
    waiting: Vec<(RunKey, u64)>,
    delivered: BTreeMap<RunKey, Vec<Vec<u8>>>,
    begun: BTreeSet<RunKey>,
    abandoned: Vec<RunKey>,
}

impl Output {
    fn take(&mut self, events: &mut Vec<Event>, due_ms: u64) {
        for event in events.drain(..) {
            match event {
                Event::Message(message) => {
                    let run = self.delivered.entry(message.run).or_default();
                    assert_eq!(message.id.sequence, run.len() as u64, "in order, without gaps");
                    run.push(message.body);
                    self.waiting.push((message.run, due_ms));
                }
                Event::Begun(run) => assert!(self.begun.insert(run), "a run begins once"),
                Event::Abandoned(run) => self.abandoned.push(run),
                Event::Answered { run, .. } => {
                    assert!(self.delivered.contains_key(&run), "only what was delivered is");
                }
                Event::TurnedAway { .. } | Event::Probe(_) => panic!("nobody did that"),
            }
        }
    }

    fn flush(&mut self, bob: &mut Receiver<u16>, ms: u64) {
        self.waiting.retain(|(run, due_ms)| {
            let flushed = *due_ms <= ms;
            if flushed {
                bob.delivered(run);
            }
            !flushed
        });
    }
}

struct World {
    dice: Dice,
    network: Network,
    bob: Receiver<u16>,
    talkers: Vec<Talker>,
    output: Output,
    /// Acks that wait for the end of a step.
    answers: BTreeMap<u16, Vec<u8>>,
    /// How far the listener's wall clock is off.
    skew_ms: i64,
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut dice = Dice::new(seed);
        let names = ["alice", "carol", "alice", "dave"];
        let talkers = names.iter().map(|name| Talker::new(name, &mut dice)).collect();
        let under_way = BTreeMap::new();
        let network = Network { faults, under_way, count: 0, seen: Vec::new() };
        let (bob, output, answers) = (listener(), Output::default(), BTreeMap::new());
        Self { dice, network, bob, talkers, output, answers, skew_ms: 0 }
    }

    fn bobs_now(&self, ms: u64) -> Now {
        let unix_ms = at(ms).unix_ms.saturating_add_signed(self.skew_ms);
        Now { mono: Duration::from_millis(ms), unix_ms }
    }

    fn run(&mut self) -> u64 {
        let mut ms = 0;
        while !self.talkers.iter().all(Talker::is_done) {
            assert!(ms < 30 * 60_000, "neither delivered nor given up");
            self.step(ms);
            ms += 1;
        }
        ms
    }

    fn step(&mut self, ms: u64) {
        if self.network.faults.clock_jumps && self.dice.below(3000) == 0 {
            self.skew_ms =
                [0, 0, 200_000, -200_000, 4_000_000, -4_000_000][self.dice.below(6) as usize];
        }
        self.talk(ms);
        while let Some(parcel) = self.network.arrived(ms) {
            match parcel {
                Parcel::Packet(source, packet) => self.listen(&packet, source, ms),
                Parcel::Ack(to, acks) => self.talkers[usize::from(to)].hear(&acks, at(ms)),
            }
        }
        while let Some(packet) = self.network.hostile(&mut self.dice) {
            self.listen(&packet, ATTACKER, ms);
        }
        let now = self.bobs_now(ms);
        let mut events = Vec::new();
        self.bob.tick(now, &mut events);
        self.output.take(&mut events, ms);
        self.output.flush(&mut self.bob, ms);
        self.answer(ms);
        let (runs, bytes) = self.bob.load();
        assert!(runs <= self.talkers.len() && bytes <= self.talkers.len() * MAX_MESSAGE);
    }

    /// Sends the acks of this step, as many to a datagram as the listener itself would.
    fn answer(&mut self, ms: u64) {
        for datagram in self.bob.take_acks() {
            self.answers.entry(datagram.to).or_default().extend(datagram.bytes);
        }
        for (to, acks) in std::mem::take(&mut self.answers) {
            for acks in acks.chunks(GATHERED * ACK_LEN) {
                let parcel = || Parcel::Ack(to, acks.to_vec());
                self.network.send(parcel, ms, &mut self.dice);
            }
        }
    }

    fn listen(&mut self, packet: &[u8], source: u16, ms: u64) {
        let (now, mut events) = (self.bobs_now(ms), Vec::new());
        let before = self.bob.take_acks();
        self.bob.feed(packet, source, now, &mut |_| Admission::Contact, &mut events);
        let answer = self.bob.take_acks();
        if source == ATTACKER {
            assert!(events.is_empty() && answer.is_empty(), "an attacker's packet had an effect");
        } else if !answer.is_empty() && self.network.seen.len() < 500 {
            // What was rejected, or lost, is no replay when an attacker is the first to bring it.
            self.network.seen.push(packet.to_vec());
        }
        for datagram in before.into_iter().chain(answer) {
            self.answers.entry(datagram.to).or_default().extend(datagram.bytes);
        }
        let pauses = self.network.faults.reader_pauses && self.dice.percent(20);
        let pause = if pauses { self.dice.below(8000) } else { 0 };
        self.output.take(&mut events, ms + pause);
    }

    fn talk(&mut self, ms: u64) {
        let mut packet = [0; PACKET_LEN];
        for (index, talker) in self.talkers.iter_mut().enumerate() {
            if talker.is_done() {
                continue;
            }
            talker.offer(at(ms), &mut self.dice);
            while talker.sender.next_timeout().is_some_and(|at| at.as_millis() as u64 <= ms)
                && talker.sender.transmit(at(ms), &mut self.dice.0, &mut packet)
            {
                let parcel = || Parcel::Packet(index as u16, packet.to_vec());
                self.network.send(parcel, ms, &mut self.dice);
            }
            talker.gave_up = ms - talker.since_ms > PATIENCE_MS;
        }
    }

    /// Each run that was heard is the beginning of what exactly one sender said, at least as far as
    /// that sender has proof, and no two are the same sender's.
    fn check(&self) -> (usize, usize) {
        let mut heard: Vec<_> = self.output.delivered.iter().collect();
        let mut finished = 0;
        for talker in &self.talkers {
            let of_talker = |(_, run): &(&RunKey, &Vec<Vec<u8>>)| {
                run.len() >= talker.proven && talker.messages.starts_with(run)
            };
            match heard.iter().position(of_talker) {
                Some(index) => drop(heard.remove(index)),
                None => assert_eq!(talker.proven, 0, "proven and not delivered"),
            }
            if talker.sender.progress() == Progress::Finished {
                assert_eq!(talker.proven, talker.messages.len());
                finished += 1;
            }
        }
        assert!(heard.is_empty(), "something was delivered that nobody said, or twice");
        (finished, self.talkers.len())
    }
}

#[test]
fn on_a_bad_network_every_message_arrives_once_and_in_order() {
    for seed in 0..seeds() {
        let faults = Faults {
            loss: (seed * 7) % 50,
            doubled: (seed * 5) % 30,
            delay_ms: [0, 3, 40, 300][seed as usize % 4],
            garbage: 40,
            clock_jumps: false,
            reader_pauses: seed % 2 == 0,
        };
        let mut world = World::new(seed, faults);
        world.run();
        let (finished, of) = world.check();
        assert_eq!(finished, of, "seed {seed}: all of it can be delivered");
        assert!(world.output.abandoned.is_empty());
    }
}

#[test]
fn with_clocks_that_jump_nothing_comes_twice_and_failures_are_known() {
    let mut finished_at_all = 0;
    for seed in 1000..1000 + seeds() {
        let faults = Faults {
            loss: (seed * 7) % 40,
            doubled: 10,
            delay_ms: 20,
            garbage: 40,
            clock_jumps: true,
            reader_pauses: true,
        };
        let mut world = World::new(seed, faults);
        world.run();
        finished_at_all += world.check().0;
    }
    assert!(finished_at_all > 0, "some of it gets through");
}

#[test]
fn a_mebibyte_crosses_a_network_that_loses_three_of_ten_each_way() {
    let faults = Faults {
        loss: 30,
        doubled: 0,
        delay_ms: 0,
        garbage: 0,
        clock_jumps: false,
        reader_pauses: false,
    };
    for seed in 0..3 {
        let mut world = World::new(seed, faults);
        let mut big = vec![0; 1 << 20];
        world.dice.0.fill(&mut big);
        world.talkers.truncate(1);
        world.talkers[0].messages = big.chunks(MAX_MESSAGE).map(<[u8]>::to_vec).collect();
        let ms = world.run();
        assert_eq!(world.check(), (1, 1));
        assert!(ms < 5000, "seed {seed}: {ms} ms");
    }
}

#[test]
fn a_recipient_that_is_killed_is_noticed() {
    let mut dice = Dice::new(77);
    let mut talker = Talker::new("alice", &mut dice);
    talker.offer(at(0), &mut dice);
    let (mut packet, mut sent) = ([0; PACKET_LEN], 0);
    for ms in 0..=PATIENCE_MS {
        while talker.sender.transmit(at(ms), &mut dice.0, &mut packet) {
            sent += 1;
        }
    }
    assert_eq!(talker.sender.last_proof(), None);
    assert!(sent < 300, "silence slows a sender down: {sent} packets");
}

/// What `sender` has to send at `ms`.
fn transmitted(sender: &mut Sender, ms: u64, dice: &mut Dice) -> Vec<[u8; PACKET_LEN]> {
    let mut packet = [0; PACKET_LEN];
    let mut all = Vec::new();
    while sender.transmit(at(ms), &mut dice.0, &mut packet) {
        all.push(packet);
    }
    all
}

#[test]
fn a_fragment_that_is_lost_again_is_sent_again_before_its_time_is_out() {
    let mut dice = Dice::new(78);
    let (mut sender, mut bob) = (sender("alice", &mut dice.0), listener());
    sender.offer(&[7; 16 * 990], false, at(0), &mut dice.0).unwrap();
    let hear = |packets: &[[u8; PACKET_LEN]], sender: &mut Sender, bob: &mut Receiver<u16>, ms| {
        let mut events = Vec::new();
        for packet in packets {
            bob.feed(packet, 1, at(ms), &mut |_| Admission::Contact, &mut events);
        }
        for acks in bob.take_acks() {
            sender.feed_ack(&acks.bytes, at(ms));
        }
        events
    };
    let first = transmitted(&mut sender, 0, &mut dice);
    assert_eq!(first.len(), 16);
    hear(&first[9..], &mut sender, &mut bob, 1);
    let second = transmitted(&mut sender, 1, &mut dice);
    assert_eq!(second.len(), 9, "those that were overtaken");
    hear(&second[1..], &mut sender, &mut bob, 2);
    let third = transmitted(&mut sender, 2, &mut dice);
    assert_eq!(third.len(), 1, "the one that was overtaken again");
    let events = hear(&third, &mut sender, &mut bob, 3);
    assert!(events.iter().any(|event| matches!(event, Event::Message(_))), "it is whole");
}

/// How a listener is restarted in the middle of a message.
#[derive(Debug, Clone, Copy)]
struct Restart {
    /// When it ends, and for how long there is none.
    at_ms: u64,
    away_ms: u64,
    /// How long the reader of the first pauses.
    pause_ms: u64,
    loss: u64,
}

/// What became of one run of messages to a listener that remembers nothing, after how many ms, and
/// what was delivered after the restart.
fn restarted(
    messages: &[usize],
    restart: Restart,
    seed: u64,
) -> (Progress, u64, Option<Duration>, Vec<usize>) {
    let faults = Faults {
        loss: restart.loss,
        doubled: 0,
        delay_ms: 3,
        garbage: 0,
        clock_jumps: false,
        reader_pauses: false,
    };
    let mut world = World::new(seed, faults);
    world.talkers.truncate(1);
    world.talkers[0].messages = messages.iter().map(|len| vec![7; *len]).collect();
    let mut ms = 0;
    while !world.talkers[0].is_done() {
        assert!(ms < 400_000, "seed {seed}, {restart:?}: it hangs");
        if ms == restart.at_ms {
            world.bob = listener();
            world.output = Output::default();
        }
        let is_away = (restart.at_ms..restart.at_ms + restart.away_ms).contains(&ms);
        world.talk(ms);
        while let Some(parcel) = world.network.arrived(ms) {
            match parcel {
                Parcel::Packet(..) if is_away => {}
                Parcel::Packet(source, packet) => world.listen(&packet, source, ms),
                Parcel::Ack(to, acks) => world.talkers[usize::from(to)].hear(&acks, at(ms)),
            }
        }
        if ms >= restart.at_ms || ms >= restart.pause_ms {
            world.output.flush(&mut world.bob, u64::MAX);
        }
        world.answer(ms);
        ms += 1;
    }
    let talker = &world.talkers[0];
    let delivered = world.output.delivered.values().flatten().map(Vec::len).collect();
    (talker.sender.progress(), ms, talker.sender.last_proof(), delivered)
}

#[test]
fn a_listener_that_is_restarted_in_the_middle_of_a_message_is_given_all_of_it() {
    for seed in 0..seeds() {
        let mut dice = Dice::new(seed);
        let len = [1, 5000, MAX_MESSAGE][dice.below(3) as usize];
        let (held, loss) = (seed % 2 == 0, [0, 0, 30][seed as usize % 3]);
        let at_ms = 1 + dice.below(if held { 10_000 } else { 8 });
        let pause_ms = if held { u64::MAX } else { 0 };
        let restart = Restart { at_ms, away_ms: dice.below(2000), pause_ms, loss };
        let (progress, ms, _, delivered) = restarted(&[len], restart, seed);
        assert_eq!(progress, Progress::Finished, "seed {seed}, {restart:?}");
        assert!(delivered.is_empty() || delivered == [len], "{delivered:?}");
        // As long again as it had waited, and a few pauses; more where packets are lost.
        let by = (2 + loss / 15) * (at_ms + restart.away_ms) + 8000;
        assert!(ms < by, "seed {seed}, {len} bytes, {restart:?}: {ms} ms");
    }
}

#[test]
fn a_listener_that_is_restarted_in_the_middle_of_a_run_is_silent_and_that_is_noticed() {
    for seed in 0..seeds() {
        // The first message is delivered before that.
        let restart = Restart { at_ms: 60 + seed, away_ms: 0, pause_ms: 0, loss: 0 };
        let (progress, ms, proof, delivered) = restarted(&[MAX_MESSAGE; 60], restart, seed);
        assert_eq!(progress, Progress::InFlight, "seed {seed}: {ms} ms");
        let silence = Duration::from_millis(ms) - proof.unwrap();
        assert!(silence.as_millis() as u64 <= PATIENCE_MS + 10, "{silence:?}");
        assert!(delivered.is_empty(), "{delivered:?}");
    }
}

/// A receiver takes 1024 packets of a message at most; beyond, it seems to be gone.
#[test]
fn a_reader_that_pauses_for_minutes_is_not_asked_more_than_its_listener_answers() {
    for (patience_s, loss) in [(30, 0), (30, 30), (3, 0)] {
        let faults = Faults {
            loss,
            doubled: 0,
            delay_ms: 3,
            garbage: 0,
            clock_jumps: false,
            reader_pauses: false,
        };
        let mut world = World::new(5, faults);
        world.talkers.truncate(1);
        let talker = &mut world.talkers[0];
        talker.messages = vec![vec![7; MAX_MESSAGE]];
        talker.sender.ask_at_least_every(Duration::from_secs(patience_s) / 3);
        for ms in 0..290_000 {
            world.talk(ms);
            while let Some(parcel) = world.network.arrived(ms) {
                match parcel {
                    Parcel::Packet(source, packet) => world.listen(&packet, source, ms),
                    Parcel::Ack(to, acks) => world.talkers[usize::from(to)].hear(&acks, at(ms)),
                }
            }
            world.answer(ms);
            assert!(!world.talkers[0].gave_up, "{patience_s} s, {loss} %: silent at {ms} ms");
        }
    }
}

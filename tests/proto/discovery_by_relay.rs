//! Who listens at a relay, without a socket: an inquiry, a relay that is a table in this file, and
//! those who answer. Who is found, who never is, and what the relay sees of it. PROTOCOL.md, 5.7.

use crate::testkit::keys::Person;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, OsRandom, PublicKey, random};
use anonchat::discover::inquiry::Inquiry;
use anonchat::discover::roster::{AWAY, Entry, FORGOTTEN, Id, Status};
use anonchat::discover::seeker::Sought;
use anonchat::proto::datagram::packet::{Kind, LocalKey, Opened, PACKET_LEN, Way};
use anonchat::proto::datagram::probe::Probe;
use anonchat::proto::relay::cell::{Address, Cell, Command, ErrorCode};
use anonchat::proto::relay::mailbox::{Challenge, Channel, EPOCH_MS, epoch};
use anonchat::proto::time::Now;

const START_MS: u64 = 20_000 * EPOCH_MS + 3_600_000;

fn at(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), unix_ms: START_MS + ms }
}

fn relay_at() -> SocketAddr {
    "192.0.2.1:7000".parse().unwrap()
}

/// A program that reads a mailbox and answers, as a listener does.
struct Program<'a> {
    person: &'a Person,
    mailbox: Channel,
    instance: [u8; 8],
    /// Who signs its answers: the person, unless somebody else has learnt of the question.
    signer: &'a KeyPair,
}

impl<'a> Program<'a> {
    fn of(person: &'a Person, seeker: &KeyPair) -> Self {
        let (me, them) = (&person.pair, seeker.public());
        let mailbox = Channel::pair(me, them, them, me.public()).unwrap();
        Self { person, mailbox, instance: random(), signer: &person.pair }
    }

    fn of_group(person: &'a Person) -> Self {
        let mailbox = Channel::open(&person.access);
        Self { person, mailbox, instance: random(), signer: &person.pair }
    }

    /// What it says to a packet out of its mailbox, and where.
    fn answer(&self, packet: &[u8; PACKET_LEN], now: Now) -> Option<(Address, [u8; PACKET_LEN])> {
        let local = LocalKey::new(self.person.pair.duplicate(), &self.person.access);
        assert!(local.recognises(packet));
        let opened = Opened::open(local.keys(), packet, 0, &[]).unwrap();
        assert!(opened.kind() == Kind::Probe && opened.way() == Way::Relay);
        let body = [&[0xa1, 0x03, 0x48], &self.instance[..]].concat();
        let mut here = [0; PACKET_LEN];
        let probe = Probe::new(&opened, 0);
        probe.answer(self.signer, Way::Relay, &body, now, &mut OsRandom, &mut here);
        let back = Channel::receipts(opened.ack_key(), opened.id());
        let back = back.at(opened.sender(), epoch(opened.time_ms())).unwrap();
        Some((back.address, here))
    }
}

/// A relay with one seeker and some programs on it.
struct World<'a> {
    inquiry: Inquiry,
    programs: Vec<Program<'a>>,
    challenge: Challenge,
    name: [u8; 64],
    subscribed: BTreeSet<Address>,
    posted: Vec<Address>,
    /// Every answer, to be shown again.
    heres: Vec<(Address, [u8; PACKET_LEN])>,
    left: usize,
    changes: Vec<(Id, Entry)>,
}

impl<'a> World<'a> {
    fn new(me: &KeyPair, sought: Vec<Sought>, programs: Vec<Program<'a>>, now: Now) -> Self {
        let mut world = Self {
            inquiry: Inquiry::new(me.duplicate(), sought),
            programs,
            challenge: Challenge::generate(),
            name: random(),
            subscribed: BTreeSet::new(),
            posted: Vec::new(),
            heres: Vec::new(),
            left: 0,
            changes: Vec::new(),
        };
        world.link(now);
        world
    }

    fn link(&mut self, now: Now) {
        self.challenge = Challenge::generate();
        self.name = random();
        self.subscribed.clear();
        assert!(self.inquiry.linked(self.challenge.public(), self.name, relay_at(), now));
    }

    fn show(&mut self, address: Address, packet: &[u8; PACKET_LEN], now: Now) -> bool {
        let cell = Cell { address, body: packet, ..Cell::new(Command::Cell) };
        self.inquiry.hear(&cell, now)
    }

    /// One turn: what the inquiry says, and what comes of it.
    fn turn(&mut self, now: Now) {
        let (challenge, name) = (&self.challenge, &self.name);
        let (subscribed, posted) = (&mut self.subscribed, &mut self.posted);
        let mut packets = Vec::new();
        let left = &mut self.left;
        self.inquiry.poll(now, &mut OsRandom, &mut |cell| match cell.command {
            Command::Subscribe => {
                let place = PublicKey::from_bytes(&cell.address).unwrap();
                assert!(challenge.admits(&place, name, cell.body), "a wrong proof");
                assert!(subscribed.insert(cell.address), "read twice");
            }
            Command::Post => {
                assert_eq!(cell.flags, 1, "volatile");
                posted.push(cell.address);
                packets.push((cell.address, *cell.packet().unwrap()));
            }
            Command::Leave => {
                assert!(subscribed.remove(&cell.address));
                *left += 1;
            }
            other => panic!("{other:?}"),
        });
        for (address, packet) in packets {
            for n in 0..self.programs.len() {
                let program = &self.programs[n];
                let reads = program.mailbox.at(program.person.pair.public(), epoch(now.unix_ms));
                if reads.unwrap().address != address {
                    continue;
                }
                let Some((back, here)) = program.answer(&packet, now) else { continue };
                assert!(self.subscribed.contains(&back), "nobody reads the answer");
                self.heres.push((back, here));
                self.show(back, &here, now);
            }
        }
        self.changes.extend(self.inquiry.take_changes());
    }

    fn run(&mut self, from_ms: u64, to_ms: u64) {
        (from_ms..=to_ms).step_by(500).for_each(|ms| self.turn(at(ms)));
    }

    fn online(&self) -> Vec<usize> {
        let all = self.inquiry.roster().iter();
        all.filter(|(_, e)| e.status == Status::Online).map(|(id, _)| id.sought).collect()
    }
}

#[test]
fn who_listens_at_the_relay_is_found_at_once_and_nobody_else() {
    let [me, bob, carol, dave] = [(); 4].map(|()| Person::new());
    let sought = vec![bob.sought(), carol.sought()];
    // Dave listens too, and nobody asks for him.
    let programs = vec![Program::of(&bob, &me.pair), Program::of(&dave, &me.pair)];
    let mut world = World::new(&me.pair, sought, programs, at(0));
    world.turn(at(0));
    assert_eq!(world.online(), [0]);
    let [(id, entry)] = &world.changes[..] else { panic!() };
    assert_eq!((id.sought, id.instance), (0, [0; 8]));
    assert_eq!((entry.status, entry.address), (Status::Online, relay_at()));
    assert_eq!(world.posted.len(), 2);
}

#[test]
fn a_contact_with_several_programs_is_here_once_and_those_of_a_group_are_counted() {
    let [me, bob, team] = [(); 3].map(|()| Person::new());
    let sought = vec![bob.sought(), Sought { is_group: true, ..team.sought() }];
    let programs = vec![
        Program::of(&bob, &me.pair),
        Program::of(&bob, &me.pair),
        Program::of_group(&team),
        Program::of_group(&team),
        Program::of_group(&team),
    ];
    let mut world = World::new(&me.pair, sought, programs, at(0));
    world.run(0, 10_000);
    assert_eq!(world.online(), [0, 1, 1, 1]);
    assert_eq!(world.changes.len(), 4, "nothing is told twice");
}

#[test]
fn an_answer_that_somebody_else_sealed_or_that_is_shown_again_says_nothing() {
    let [me, bob, eve] = [(); 3].map(|()| Person::new());
    // Somebody who can read Bob's mail, and does not have his key to sign with.
    let false_bob = Program { signer: &eve.pair, ..Program::of(&bob, &me.pair) };
    let mut world = World::new(&me.pair, vec![bob.sought()], vec![false_bob], at(0));
    world.turn(at(0));
    assert!(world.online().is_empty() && !world.heres.is_empty());

    let mut world =
        World::new(&me.pair, vec![bob.sought()], vec![Program::of(&bob, &me.pair)], at(0));
    world.turn(at(0));
    assert_eq!(world.online(), [0]);
    world.programs.clear();
    // The relay shows the answer again and again, here and elsewhere.
    for ms in (500..AWAY.as_millis() as u64 + 500).step_by(500) {
        world.turn(at(ms));
        let (back, here) = world.heres[0];
        assert!(!world.show(back, &here, at(ms)));
        assert!(!world.show([9; 32], &here, at(ms)));
    }
    assert!(world.online().is_empty());
}

#[test]
fn who_goes_is_away_after_ten_seconds_and_forgotten_after_a_quarter_of_an_hour() {
    let [me, bob] = [(); 2].map(|()| Person::new());
    let programs = vec![Program::of(&bob, &me.pair)];
    let mut world = World::new(&me.pair, vec![bob.sought()], programs, at(0));
    world.run(0, 60_000);
    assert_eq!(world.changes.len(), 1, "it stays without a word");
    let gone = world.programs.remove(0);
    world.run(60_500, 75_000);
    assert_eq!(world.changes.last().unwrap().1.status, Status::Away);
    world.programs.push(gone);
    world.run(75_500, 80_000);
    assert_eq!(world.changes.last().unwrap().1.status, Status::Online);
    world.programs.clear();
    world.run(80_500, 80_500 + FORGOTTEN.as_millis() as u64);
    assert_eq!(world.changes.last().unwrap().1.status, Status::Forgotten);
    assert_eq!(world.inquiry.roster().iter().count(), 0);
}

#[test]
fn what_is_read_stays_bounded_and_changes_so_that_the_relay_keeps_no_thread() {
    let [me, bob] = [(); 2].map(|()| Person::new());
    let programs = vec![Program::of(&bob, &me.pair)];
    let mut world = World::new(&me.pair, vec![bob.sought()], programs, at(0));
    world.run(0, 300_000);
    assert!(world.subscribed.len() <= 2, "{}", world.subscribed.len());
    assert!((10..=20).contains(&world.left), "{}", world.left);
    let asked = world.posted.len();
    assert!((60..=80).contains(&asked), "once in four seconds: {asked}");
    assert!(world.posted.iter().all(|to| *to == world.posted[0]), "all on one day");
}

#[test]
fn a_new_link_and_a_new_day_ask_anew() {
    let [me, bob] = [(); 2].map(|()| Person::new());
    let programs = vec![Program::of(&bob, &me.pair)];
    let mut world = World::new(&me.pair, vec![bob.sought()], programs, at(0));
    world.turn(at(0));
    world.inquiry.cut();
    world.turn(at(500));
    assert_eq!(world.posted.len(), 1, "nobody is there to be told");
    world.link(at(1000));
    world.turn(at(1000));
    assert_eq!(world.posted.len(), 2);
    assert_eq!(world.posted[0], world.posted[1]);
    // At the first second of the next day the mailboxes of both are others.
    let tomorrow = EPOCH_MS - 3_600_000;
    world.run(tomorrow - 9000, tomorrow + 9000);
    assert_eq!(world.online(), [0]);
    assert_ne!(world.posted.last(), world.posted.first());
}

#[test]
fn a_relay_without_room_for_us_is_told_of() {
    let [me, bob] = [(); 2].map(|()| Person::new());
    let mut world = World::new(&me.pair, vec![bob.sought()], Vec::new(), at(0));
    world.turn(at(0));
    let code = [ErrorCode::TooMany as u8];
    let error = |address| Cell { address, body: &code, ..Cell::new(Command::Error) };
    world.inquiry.hear(&error([9; 32]), at(0));
    assert!(!world.inquiry.was_refused(), "a mailbox of nobody's");
    let ours = *world.subscribed.first().unwrap();
    world.inquiry.hear(&error(ours), at(0));
    assert!(world.inquiry.was_refused());
    assert!(!world.inquiry.linked(&[0; 32], random(), relay_at(), at(0)), "no challenge");
}

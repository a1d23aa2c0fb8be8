//! The table of mailboxes, held by seed against a model that keeps everything and thinks of nothing:
//! each reader gets each cell once and in order, nothing that was taken is lost before its time, and
//! nothing is left behind. PROTOCOL.md, 5.3.
#![allow(clippy::unwrap_used)]

use std::cell::Cell as Shared;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use anonchat::crypto::sodium::{Random, SeededRandom};
use anonchat::proto::datagram::packet::PACKET_LEN;
use anonchat::proto::relay::cell::{Address, Cell, Command, ErrorCode, Log};
use anonchat::relay::counts::Counts;
use anonchat::relay::store::{Memory, Packet, Store};
use anonchat::relay::table::{Bounds, Table};

/// A store that counts what it keeps, and keeps of each packet only which it is.
struct Counting(Rc<Shared<i64>>);

impl Store for Counting {
    type Key = Box<Packet>;
    const COST: usize = PACKET_LEN;

    fn put(&mut self, packet: &Packet) -> Option<Self::Key> {
        self.0.set(self.0.get() + 1);
        Some(Box::new(*packet))
    }

    fn get<'a>(&'a mut self, key: &'a Self::Key) -> Option<&'a Packet> {
        Some(key)
    }

    fn remove(&mut self, _: Self::Key) {
        self.0.set(self.0.get() - 1);
    }
}

fn packet(number: u64) -> Packet {
    let mut packet = [7; PACKET_LEN];
    packet[..8].copy_from_slice(&number.to_be_bytes());
    packet
}

fn number_of(body: &[u8]) -> u64 {
    u64::from_be_bytes(body[..8].try_into().unwrap())
}

fn address(nth: u8) -> Address {
    let mut address = [0; 32];
    address[0] = nth + 9;
    address
}

const BOUNDS: Bounds =
    Bounds { ttl: Duration::from_secs(100), cells: 20, memory: 1 << 30, subscriptions: 3 };

/// What a mailbox should be.
#[derive(Default)]
struct Mailbox {
    log: Option<Log>,
    /// Sequence, packet, and when it goes.
    held: BTreeMap<u64, (u64, Duration)>,
    next: u64,
    /// Clients, each with the sequence it wants next and whether LIVE was said.
    readers: BTreeMap<usize, (u64, bool)>,
}

impl Mailbox {
    fn forget_if_unused(&mut self) {
        if self.held.is_empty() && self.readers.is_empty() {
            *self = Self::default();
        }
    }
}

struct Scene {
    table: Table<Counting>,
    kept: Rc<Shared<i64>>,
    model: BTreeMap<u8, Mailbox>,
    random: SeededRandom,
    dice: SeededRandom,
    now: Duration,
    posted: u64,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let kept = Rc::new(Shared::new(0));
        Self {
            table: Table::new(BOUNDS, Counting(Rc::clone(&kept))),
            kept,
            model: BTreeMap::new(),
            random: SeededRandom::new(seed),
            dice: SeededRandom::new(seed + 1_000_000),
            now: Duration::ZERO,
            posted: 0,
        }
    }

    fn draw(&mut self, below: u32) -> u32 {
        let mut bytes = [0; 4];
        self.dice.fill(&mut bytes);
        u32::from_be_bytes(bytes) % below
    }

    fn step(&mut self) {
        let (client, nth) = (self.draw(4) as usize, self.draw(5) as u8);
        match self.draw(12) {
            0..=3 => self.post(nth),
            4..=6 => self.pull(client),
            7 => self.subscribe(client, nth),
            8 => self.acknowledge(client, nth),
            9 => self.leave(client, nth),
            10 => self.wait(),
            _ if self.draw(5) == 0 => self.forget(client),
            _ => self.show(nth),
        }
        self.agrees();
    }

    fn post(&mut self, nth: u8) {
        self.posted += 1;
        let (number, until) = (self.posted, self.now + BOUNDS.ttl);
        let mut ready = Vec::new();
        let random = &mut self.random;
        let taken = self.table.post(&address(nth), &packet(number), self.now, random, &mut ready);
        let mailbox = self.model.entry(nth).or_default();
        if mailbox.held.len() >= BOUNDS.cells {
            assert_eq!(taken, Err(ErrorCode::MailboxFull));
            return;
        }
        assert_eq!(taken, Ok(()));
        mailbox.held.insert(mailbox.next, (number, until));
        mailbox.next += 1;
        for client in ready {
            assert!(mailbox.readers.contains_key(&client), "somebody else is woken");
        }
        for client in mailbox.readers.keys() {
            assert!(self.table.has_more(*client));
        }
    }

    fn subscribe(&mut self, client: usize, nth: u8) {
        let read = self.model.values().filter(|m| m.readers.contains_key(&client)).count();
        let again = self.model.get(&nth).is_some_and(|m| m.readers.contains_key(&client));
        let known = self.draw(2) == 0;
        let from = u64::from(self.draw(30));
        let log = self.model.get(&nth).and_then(|m| m.log).filter(|_| known);
        let random = &mut self.random;
        let taken =
            self.table.subscribe(client, &address(nth), &log.unwrap_or_default(), from, random);
        if read >= BOUNDS.subscriptions && !again {
            assert_eq!(taken, Err(ErrorCode::TooMany));
            return;
        }
        assert_eq!(taken, Ok(()));
        let mailbox = self.model.entry(nth).or_default();
        mailbox.readers.insert(client, (if log.is_some() { from } else { 0 }, false));
    }

    fn acknowledge(&mut self, client: usize, nth: u8) {
        let upto = u64::from(self.draw(40));
        let Some(mailbox) = self.model.get_mut(&nth) else { return };
        let log = mailbox.log.unwrap_or([1; 8]);
        self.table.acknowledge(client, &address(nth), &log, upto);
        if mailbox.log.is_some() && mailbox.readers.contains_key(&client) {
            mailbox.held.retain(|sequence, _| *sequence > upto);
            mailbox.forget_if_unused();
        }
    }

    fn leave(&mut self, client: usize, nth: u8) {
        self.table.leave(client, &address(nth));
        if let Some(mailbox) = self.model.get_mut(&nth) {
            mailbox.readers.remove(&client);
            mailbox.forget_if_unused();
        }
    }

    fn forget(&mut self, client: usize) {
        self.table.forget(client);
        for mailbox in self.model.values_mut() {
            mailbox.readers.remove(&client);
            mailbox.forget_if_unused();
        }
    }

    fn wait(&mut self) {
        let pause = self.draw(60_000);
        self.now += Duration::from_millis(u64::from(pause));
        self.table.expire(self.now, u64::MAX);
        let now = self.now;
        for mailbox in self.model.values_mut() {
            mailbox.held.retain(|_, (_, until)| *until > now);
            mailbox.forget_if_unused();
        }
    }

    fn show(&mut self, nth: u8) {
        let mut seen = BTreeSet::new();
        let model = self.model.get(&nth);
        self.table.show(&address(nth), &packet(0), |client, cell| {
            assert_eq!((cell.command, cell.id), (Command::Cell, model.unwrap().next));
            assert!(seen.insert(client));
        });
        let readers = model.map(|m| m.readers.keys().copied().collect()).unwrap_or_default();
        assert_eq!(seen, readers);
    }

    fn pull(&mut self, client: usize) {
        let room = self.draw(8) as usize;
        let model = &mut self.model;
        let check = |cell: &Cell<'_>| {
            let mailbox = model.get_mut(&(cell.address[0] - 9)).unwrap();
            assert_eq!(*mailbox.log.get_or_insert(cell.log), cell.log, "one log for one life");
            let (cursor, is_live) = mailbox.readers.get_mut(&client).unwrap();
            let next = mailbox.held.range(*cursor..).next();
            if cell.command == Command::Live {
                assert!(next.is_none() && !*is_live && cell.id == mailbox.next);
                *is_live = true;
                return;
            }
            let (sequence, (number, _)) = next.unwrap();
            assert_eq!((cell.command, cell.id), (Command::Cell, *sequence));
            assert_eq!(number_of(cell.body), *number);
            *cursor = sequence + 1;
        };
        let used = self.table.pull(client, room, check);
        assert!(used <= room);
        // Who has room left has everything.
        if used < room {
            assert!(!self.table.has_more(client));
            for mailbox in self.model.values() {
                if let Some((cursor, is_live)) = mailbox.readers.get(&client) {
                    assert!(is_live & mailbox.held.range(*cursor..).next().is_none());
                }
            }
        }
    }

    /// What the table counts is what there should be.
    fn agrees(&self) {
        let mut counts = Counts::default();
        self.table.count(&mut counts);
        let used = |m: &&Mailbox| !m.held.is_empty() || !m.readers.is_empty();
        let sum = |of: fn(&Mailbox) -> usize| self.model.values().map(of).sum::<usize>() as u64;
        assert_eq!(counts.mailboxes, self.model.values().filter(used).count() as u64);
        assert_eq!(counts.held, sum(|m| m.held.len()));
        assert_eq!(counts.subscriptions, sum(|m| m.readers.len()));
        assert_eq!(self.kept.get() as u64, counts.held, "what went was removed from the store");
        let first = self.model.values().flat_map(|m| m.held.values()).map(|(_, until)| *until);
        let first = first.min();
        assert!(self.table.next_expiry() <= first || first.is_none());
    }
}

#[test]
fn a_table_does_what_the_model_does_whatever_is_asked() {
    for seed in 0..200 {
        let mut scene = Scene::new(seed);
        for _ in 0..1000 {
            scene.step();
        }
        for client in 0..4 {
            scene.forget(client);
        }
        scene.now += BOUNDS.ttl;
        scene.table.expire(scene.now, u64::MAX);
        assert_eq!((scene.kept.get(), scene.table.memory()), (0, 0), "seed {seed}");
        assert_eq!(scene.table.next_expiry(), None);
    }
}

/// One that keeps packets as the program does.
fn table(memory: u64) -> Table<Memory> {
    Table::new(Bounds { memory, cells: usize::MAX, ..BOUNDS }, Memory)
}

fn numbered(nth: u32) -> Address {
    let mut address = [0; 32];
    address[..4].copy_from_slice(&nth.to_be_bytes());
    address
}

#[test]
fn memory_is_a_bound_for_posts_and_for_readers() {
    let random = &mut SeededRandom::new(1);
    let memory = 100 * (Table::<Memory>::CELL_COST + Table::<Memory>::MAILBOX_COST);
    let mut posts = table(memory);
    let post = |table: &mut Table<Memory>, nth, random: &mut SeededRandom| {
        table.post(&numbered(nth), &packet(1), Duration::ZERO, random, &mut Vec::new())
    };
    for nth in 0..100 {
        assert_eq!(post(&mut posts, nth, random), Ok(()));
    }
    assert_eq!(post(&mut posts, 100, random), Err(ErrorCode::RelayFull));
    assert_eq!(post(&mut posts, 0, random), Err(ErrorCode::RelayFull));
    assert!(posts.memory() <= memory);
    posts.expire(BOUNDS.ttl, u64::MAX);
    assert_eq!(post(&mut posts, 100, random), Ok(()), "room that came free is used");
    let mut readers = table(memory);
    let taken = (0..10_000).filter(|nth| {
        let client = *nth as usize;
        readers.subscribe(client, &numbered(*nth), &[0; 8], 0, random).is_ok()
    });
    assert!((10..10_000).contains(&taken.count()));
    assert!(readers.memory() <= memory);
}

#[test]
fn a_client_is_handed_cells_of_each_mailbox_in_turn() {
    let random = &mut SeededRandom::new(1);
    let mut table = table(1 << 30);
    for nth in [0, 1] {
        table.subscribe(5, &numbered(nth), &[0; 8], 0, random).unwrap();
    }
    let mut ready = Vec::new();
    for _ in 0..1000 {
        table.post(&numbered(0), &packet(1), Duration::ZERO, random, &mut ready).unwrap();
    }
    table.post(&numbered(1), &packet(2), Duration::ZERO, random, &mut ready).unwrap();
    let mut heard = Vec::new();
    table.pull(5, 50, |cell| heard.push(cell.address));
    assert!(heard.contains(&numbered(1)), "a mailbox that is flooded holds up no other");
}

#[test]
fn what_is_too_old_goes_a_bounded_part_at_a_time() {
    let random = &mut SeededRandom::new(1);
    let mut table = table(1 << 30);
    for nth in 0..1000 {
        table.post(&numbered(nth), &packet(1), Duration::ZERO, random, &mut Vec::new()).unwrap();
    }
    table.expire(BOUNDS.ttl, 100);
    let mut counts = Counts::default();
    table.count(&mut counts);
    assert_eq!((counts.held, counts.expired), (900, 100));
    assert!(table.next_expiry().is_some_and(|at| at <= BOUNDS.ttl));
}

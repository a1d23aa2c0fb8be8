//! The table of mailboxes, held by seed against a model that keeps everything and thinks of nothing:
//! each reader gets each cell once and in order, nothing that was taken is lost before its time, and
//! nothing is left behind. PROTOCOL.md, 5.3.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use anonchat::crypto::sodium::{Random, SeededRandom};
use anonchat::proto::datagram::packet::PACKET_LEN;
use anonchat::proto::relay::cell::{Address, Cell, Command, ErrorCode, Log};
use anonchat::relay::counts::Counts;
use anonchat::relay::store::{Memory, Packet, Store};
use anonchat::relay::table::{Bounds, News, Table};

/// A store that knows which packets it keeps.
#[derive(Clone, Default)]
struct Knowing(Rc<RefCell<BTreeMap<u64, usize>>>);

impl Knowing {
    fn holds(&self, number: u64) -> bool {
        self.0.borrow().contains_key(&number)
    }

    fn len(&self) -> usize {
        self.0.borrow().values().sum()
    }
}

impl Store for Knowing {
    type Key = Box<Packet>;
    const COST: usize = PACKET_LEN;

    fn put(&mut self, packet: &Packet) -> Option<Self::Key> {
        *self.0.borrow_mut().entry(number_of(packet)).or_default() += 1;
        Some(Box::new(*packet))
    }

    fn get<'a>(&'a mut self, key: &'a Self::Key) -> Option<&'a Packet> {
        Some(key)
    }

    fn remove(&mut self, key: Self::Key) {
        let mut kept = self.0.borrow_mut();
        let number = number_of(&key[..]);
        let count = kept.get_mut(&number).expect("it is kept");
        *count -= 1;
        if *count == 0 {
            kept.remove(&number);
        }
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

/// Clients of the model, each with an address of its own.
const CLIENTS: usize = 4;

/// What a mailbox should be.
#[derive(Default)]
struct Mailbox {
    log: Option<Log>,
    /// Sequence, packet, and when it goes.
    held: BTreeMap<u64, (u64, Duration)>,
    /// The client that posted each of them, and the how manieth of its links.
    posters: BTreeMap<u64, (usize, u64)>,
    next: u64,
    /// Clients, each with the sequence it wants next and whether LIVE was said.
    readers: BTreeMap<usize, (u64, bool)>,
}

impl Mailbox {
    /// Cells of `poster` that are here: of its address, and of its link.
    fn count(&self, (client, life): (usize, u64)) -> (usize, usize) {
        let of_address = self.posters.values().filter(|p| p.0 == client).count();
        (of_address, self.posters.values().filter(|p| **p == (client, life)).count())
    }

    /// Whether there is room for one of `poster` without anybody giving way.
    fn has_room(&self, poster: (usize, u64)) -> bool {
        let left = BOUNDS.cells.checked_sub(self.held.len() + 1);
        let is_scarce = self.held.len() >= BOUNDS.cells - BOUNDS.cells / 64;
        left.is_some_and(|left| !is_scarce || self.count(poster).1 <= 7 * left)
    }

    /// Cells of which one gives way to one of `poster` if there is none: the newest of each link of
    /// another address that has twice what the poster will have, the link or the address.
    fn give_way(&self, poster: (usize, u64)) -> Vec<u64> {
        let (own, own_link) = self.count(poster);
        let yields = |link: (usize, u64)| {
            let (of_address, of_link) = self.count(link);
            let is_link = of_address >= own && of_link >= 2 * (own_link + 1);
            link.0 != poster.0 && (is_link || of_address >= 2 * (own + 1))
        };
        let links: BTreeSet<_> = self.posters.values().copied().filter(|p| yields(*p)).collect();
        let newest = |link| self.posters.iter().rev().find(|(_, poster)| **poster == link);
        links.into_iter().filter_map(newest).map(|(sequence, _)| *sequence).collect()
    }

    fn forget_if_unused(&mut self) {
        self.posters.retain(|sequence, _| self.held.contains_key(sequence));
        if self.held.is_empty() && self.readers.is_empty() {
            *self = Self::default();
        }
    }
}

struct Scene {
    table: Table<Knowing>,
    kept: Knowing,
    model: BTreeMap<u8, Mailbox>,
    random: SeededRandom,
    dice: SeededRandom,
    now: Duration,
    posted: u64,
    /// How often each client has come anew.
    lives: [u64; CLIENTS],
}

impl Scene {
    fn new(seed: u64) -> Self {
        let kept = Knowing::default();
        let mut table = Table::new(BOUNDS, kept.clone());
        (0..CLIENTS).for_each(|client| table.enter(client, client as u64));
        Self {
            table,
            kept,
            model: BTreeMap::new(),
            random: SeededRandom::new(seed),
            dice: SeededRandom::new(seed + 1_000_000),
            now: Duration::ZERO,
            posted: 0,
            lives: [0; CLIENTS],
        }
    }

    fn draw(&mut self, below: u32) -> u32 {
        let mut bytes = [0; 4];
        self.dice.fill(&mut bytes);
        u32::from_be_bytes(bytes) % below
    }

    fn step(&mut self) {
        let (client, nth) = (self.draw(CLIENTS as u32) as usize, self.draw(5) as u8);
        match self.draw(12) {
            0..=3 => self.post(client, nth),
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

    fn post(&mut self, client: usize, nth: u8) {
        self.posted += 1;
        let (number, until) = (self.posted, self.now + BOUNDS.ttl);
        let (random, mut news) = (&mut self.random, News::default());
        let address = &address(nth);
        let taken = self.table.post(client, address, &packet(number), self.now, random, &mut news);
        let mailbox = self.model.entry(nth).or_default();
        if !mailbox.has_room((client, self.lives[client])) {
            let candidates = mailbox.give_way((client, self.lives[client]));
            match taken {
                Ok(()) => assert!(!candidates.is_empty(), "somebody gave way to who has as much"),
                Err(code) => {
                    assert_eq!(code, ErrorCode::MailboxFull);
                    return;
                }
            }
            let gone = candidates.into_iter().find(|s| !self.kept.holds(mailbox.held[s].0));
            mailbox.held.remove(&gone.expect("one of the candidates gave way"));
            mailbox.forget_if_unused();
        }
        assert_eq!(taken, Ok(()));
        mailbox.held.insert(mailbox.next, (number, until));
        mailbox.posters.insert(mailbox.next, (client, self.lives[client]));
        mailbox.next += 1;
        assert!(news.displaced.is_empty(), "there is memory enough");
        let ready = news.ready;
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
        let (random, news) = (&mut self.random, &mut News::default());
        let taken = self.table.subscribe(
            client,
            &address(nth),
            &log.unwrap_or_default(),
            from,
            random,
            news,
        );
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
        self.table.enter(client, client as u64);
        self.lives[client] += 1;
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
        assert_eq!(self.kept.len() as u64, counts.held, "what went was removed from the store");
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
        assert_eq!((scene.kept.len(), scene.table.memory()), (0, 0), "seed {seed}");
        assert_eq!(scene.table.next_expiry(), None);
    }
}

/// One that keeps packets as the program does, and has clients 0 to 9 of one address.
fn table(memory: u64) -> Table<Memory> {
    let bounds = Bounds { memory, cells: usize::MAX, subscriptions: usize::MAX, ..BOUNDS };
    let mut table = Table::new(bounds, Memory);
    (0..10).for_each(|client| table.enter(client, 0));
    table
}

fn numbered(nth: u32) -> Address {
    let mut address = [0; 32];
    address[..4].copy_from_slice(&nth.to_be_bytes());
    address
}

/// `client` posts one packet to a mailbox.
fn post<S: Store>(
    table: &mut Table<S>,
    client: usize,
    nth: u32,
    news: &mut News,
) -> Result<(), ErrorCode> {
    let random = &mut SeededRandom::new(u64::from(nth));
    let packet = &packet(client as u64 * 1_000_000 + u64::from(nth));
    table.post(client, &numbered(nth), packet, Duration::ZERO, random, news)
}

/// `client` reads a mailbox.
fn read<S: Store>(
    table: &mut Table<S>,
    client: usize,
    nth: u32,
    news: &mut News,
) -> Result<(), ErrorCode> {
    let random = &mut SeededRandom::new(u64::from(nth));
    table.subscribe(client, &numbered(nth), &[0; 8], 0, random, news)
}

/// How often `work` succeeds before it is refused: that it is, is certain.
fn until_refused(mut work: impl FnMut(u32) -> Result<(), ErrorCode>) -> u64 {
    (0..).map_while(|nth| work(nth).ok()).count() as u64
}

#[test]
fn memory_is_a_bound_for_posts_and_for_readers() {
    type Costs = Table<Memory>;
    let memory = 1000 * (Costs::CELL_COST + Costs::MAILBOX_COST);
    let (mut posts, news) = (table(memory), &mut News::default());
    let taken = until_refused(|nth| post(&mut posts, 0, nth, news));
    // One that is alone has its part of what its address may have.
    assert!((850..900).contains(&taken), "{taken}");
    assert_eq!(post(&mut posts, 0, 0, news), Err(ErrorCode::RelayFull));
    assert!(posts.memory() <= memory);
    posts.expire(BOUNDS.ttl, u64::MAX);
    assert_eq!(post(&mut posts, 0, 100, news), Ok(()), "room that came free is used");
    let mut readers = table(memory);
    until_refused(|nth| read(&mut readers, 0, nth, news));
    assert!((memory / 10 * 8..memory).contains(&readers.memory()));
    assert!(news.displaced.is_empty(), "nobody gives way to who has as much");
}

#[test]
fn whoever_holds_little_finds_room_whatever_others_do() {
    type Costs = Table<Memory>;
    let memory = 3000 * (Costs::CELL_COST + Costs::MAILBOX_COST);
    // As many addresses, with so many links each.
    for (addresses, links) in [(1, 1), (1, 50), (8, 1), (8, 8), (100, 1)] {
        let (mut table, news) = (table(memory), &mut News::default());
        let flooders: Vec<_> = (100..100 + addresses * links).collect();
        for client in &flooders {
            table.enter(*client, (client % addresses) as u64 + 1);
        }
        // Each posts until it is refused, and again; then half of them leave.
        for round in 0..3 {
            for client in &flooders {
                until_refused(|nth| post(&mut table, *client, round * 10_000 + nth, news));
            }
        }
        flooders.iter().step_by(2).for_each(|client| table.forget(*client));
        let friends: Vec<_> = (1000..1100).collect();
        for friend in &friends {
            // Every other one comes from where a flood came from.
            let address = if friend % 2 == 0 { friend % addresses + 1 } else { *friend };
            table.enter(*friend, address as u64);
        }
        for nth in 0..2 {
            for friend in &friends {
                let what = format!("{addresses} x {links}, {friend}");
                let own = 1000 * *friend as u32 + nth;
                assert_eq!(read(&mut table, *friend, own, news), Ok(()), "{what}");
                assert_eq!(post(&mut table, *friend, own + 500, news), Ok(()), "{what}");
                assert!(table.memory() <= memory, "{what}");
            }
        }
        assert!(news.displaced.iter().all(|client| *client < 1000), "a friend gave way");
        for friend in &friends {
            (0..2).for_each(|nth| {
                let own = 1000 * *friend as u32 + nth + 500;
                table.enter(5000, 5000);
                read(&mut table, 5000, own, news).unwrap();
                let mut held = 0;
                table.pull(5000, 9, |cell| held += u32::from(cell.command == Command::Cell));
                assert_eq!(held, 1, "what a friend posted is there, {addresses} x {links}");
                table.forget(5000);
            });
        }
    }
}

#[test]
fn who_reads_most_gives_way_to_who_reads_little() {
    let (memory, news) = (400_000, &mut News::default());
    let mut table = table(memory);
    until_refused(|nth| read(&mut table, 0, nth, news));
    assert!(table.memory() > memory / 10 * 8);
    for friend in 100..200 {
        table.enter(friend, friend as u64);
        let nth = 1_000_000 + friend as u32;
        assert_eq!(read(&mut table, friend, nth, news), Ok(()));
        assert_eq!(post(&mut table, friend, nth, news), Ok(()));
        assert!(table.memory() <= memory);
    }
    assert_eq!(news.displaced, [0]);
    assert_eq!(read(&mut table, 0, 0, news), Err(ErrorCode::RelayFull), "it is to be closed");
}

#[test]
fn what_a_link_left_behind_counts_for_its_address_until_it_goes() {
    let (memory, news) = (1_000_000, &mut News::default());
    let mut table = table(memory);
    let mut nth = 0;
    let mut taken = 0;
    for client in 100..150 {
        table.enter(client, 1);
        taken += until_refused(|_| {
            nth += 1;
            post(&mut table, client, nth, news)
        });
        table.forget(client);
    }
    // It is one address, however often it comes anew.
    assert!(table.memory() < memory / 10 * 9, "{} of {memory}", table.memory());
    assert!(taken > 0);
    table.expire(BOUNDS.ttl, u64::MAX);
    assert_eq!(table.memory(), 0, "nothing is left of who is gone");
}

#[test]
fn a_client_is_handed_cells_of_each_mailbox_in_turn() {
    let (mut table, news) = (table(1 << 30), &mut News::default());
    for nth in [0, 1] {
        read(&mut table, 5, nth, news).unwrap();
    }
    for _ in 0..1000 {
        post(&mut table, 0, 0, news).unwrap();
    }
    post(&mut table, 0, 1, news).unwrap();
    let mut heard = Vec::new();
    table.pull(5, 50, |cell| heard.push(cell.address));
    assert!(heard.contains(&numbered(1)), "a mailbox that is flooded holds up no other");
}

#[test]
fn what_is_too_old_goes_a_bounded_part_at_a_time() {
    let (mut table, news) = (table(1 << 30), &mut News::default());
    for nth in 0..1000 {
        post(&mut table, 0, nth, news).unwrap();
    }
    table.expire(BOUNDS.ttl, 100);
    let mut counts = Counts::default();
    table.count(&mut counts);
    assert_eq!((counts.held, counts.expired), (900, 100));
    assert!(table.next_expiry().is_some_and(|at| at <= BOUNDS.ttl));
}

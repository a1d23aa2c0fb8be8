//! The mailboxes of a relay: what they hold, and who reads them. PROTOCOL.md, section 5.3.
//!
//! Nothing is copied for a reader: it has a cursor in the mailbox's log, and takes what comes after
//! it as it has room. What is done for a cell depends on how many read its mailbox, and on nothing
//! else but the logarithm of how many mailboxes there are.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::mem::size_of;
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use super::counts::Counts;
use super::store::{Packet, Store};
use crate::crypto::sodium::Random;
use crate::proto::relay::cell::{Address, Cell, Command, ErrorCode, Log};

/// Cells of one mailbox that a reader takes before the next mailbox has its turn.
const CELLS_A_TURN: usize = 16;
/// A mailbox that is empty keeps room for so many cells.
const SPARE_CELLS: usize = 4;

/// How much a table may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// A cell that is so old goes.
    pub ttl: Duration,
    /// Cells in one mailbox.
    pub cells: usize,
    /// What mailboxes, readers and cells may cost together, in bytes.
    pub memory: u64,
    /// Mailboxes that one client reads.
    pub subscriptions: usize,
}

/// All mailboxes and their readers. Clients have numbers, which are their caller's.
pub struct Table<S: Store> {
    bounds: Bounds,
    store: S,
    /// Places of mailboxes, by the hash of their addresses, which stand there and nowhere else: with
    /// a second copy here, each cell would wait for memory once more.
    by_address: HashTable<usize>,
    hasher: RandomState,
    mailboxes: Slab<Mailbox<S::Key>>,
    subscriptions: Slab<Subscription>,
    clients: HashMap<usize, Client>,
    /// When to look at a mailbox for cells that are too old: at or before its oldest one is, for
    /// each that holds any.
    due: BTreeSet<(Duration, usize)>,
    held: u64,
    posted: u64,
    volatile: u64,
    delivered: u64,
    freed: u64,
    expired: u64,
}

struct Mailbox<K> {
    address: Address,
    log: Log,
    /// Sequence of the oldest cell that is held; those after it are held without gaps.
    first: u64,
    held: VecDeque<Held<K>>,
    /// Numbers of subscriptions.
    readers: Vec<usize>,
    due: Option<Duration>,
}

struct Held<K> {
    key: K,
    until: Duration,
}

/// One client reads one mailbox.
struct Subscription {
    client: usize,
    mailbox: usize,
    /// Sequence of the cell that is handed out next.
    cursor: u64,
    /// LIVE was said.
    is_live: bool,
    /// It stands in its client's line.
    is_queued: bool,
    /// Where it stands in its mailbox's `readers`.
    nth_reader: usize,
    /// Where it stands in its client's `subscriptions`.
    nth_own: usize,
}

#[derive(Default)]
struct Client {
    subscriptions: Vec<usize>,
    /// Subscriptions that have something to hand out.
    line: VecDeque<usize>,
}

impl<K> Mailbox<K> {
    /// Sequence of the cell that comes next.
    fn next(&self) -> u64 {
        self.first + self.held.len() as u64
    }
}

impl<S: Store> Table<S> {
    /// What one cell costs, in bytes: its packet, and its place, of which a growing log has twice
    /// as many as it needs.
    pub const CELL_COST: u64 = (S::COST + 2 * size_of::<Held<S::Key>>()) as u64;
    /// What a mailbox costs, in bytes: itself and its place in two tables which may be half empty.
    pub const MAILBOX_COST: u64 = (2 * (size_of::<Mailbox<S::Key>>() + 8 + size_of::<usize>() + 1)
        + 2 * size_of::<(Duration, usize)>()
        + SPARE_CELLS * size_of::<Held<S::Key>>()) as u64;
    /// What a reader costs, in bytes: itself and its place in three tables which may be half empty.
    pub const SUBSCRIPTION_COST: u64 =
        (2 * (size_of::<Subscription>() + 8 + 3 * size_of::<usize>())) as u64;

    /// An empty one.
    pub fn new(bounds: Bounds, store: S) -> Self {
        Self {
            bounds,
            store,
            by_address: HashTable::new(),
            hasher: RandomState::new(),
            mailboxes: Slab::new(),
            subscriptions: Slab::new(),
            clients: HashMap::new(),
            due: BTreeSet::new(),
            held: 0,
            posted: 0,
            volatile: 0,
            delivered: 0,
            freed: 0,
            expired: 0,
        }
    }

    /// What everything costs, in bytes.
    pub fn memory(&self) -> u64 {
        self.held * Self::CELL_COST
            + self.mailboxes.len() as u64 * Self::MAILBOX_COST
            + self.subscriptions.len() as u64 * Self::SUBSCRIPTION_COST
    }

    fn has_room(&self, more: u64) -> bool {
        self.memory() + more <= self.bounds.memory
    }

    /// Writes its part of `counts`.
    pub fn count(&self, counts: &mut Counts) {
        counts.mailboxes = self.mailboxes.len() as u64;
        counts.subscriptions = self.subscriptions.len() as u64;
        counts.held = self.held;
        counts.memory = self.memory();
        counts.posted = self.posted;
        counts.volatile = self.volatile;
        counts.delivered = self.delivered;
        counts.freed = self.freed;
        counts.expired = self.expired;
    }

    /// Holds a packet. The clients to whom [`Table::pull`] has something to hand out now, and had
    /// not before, are added to `ready`.
    ///
    /// # Errors
    /// [`ErrorCode::MailboxFull`] and [`ErrorCode::RelayFull`]: nothing is held.
    pub fn post(
        &mut self,
        address: &Address,
        packet: &Packet,
        now: Duration,
        random: &mut dyn Random,
        ready: &mut Vec<usize>,
    ) -> Result<(), ErrorCode> {
        let known = self.place_of(address);
        if known.is_some_and(|at| self.mailboxes[at].held.len() >= self.bounds.cells) {
            return Err(ErrorCode::MailboxFull);
        }
        let mailbox = if known.is_none() { Self::MAILBOX_COST } else { 0 };
        if !self.has_room(Self::CELL_COST + mailbox) {
            return Err(ErrorCode::RelayFull);
        }
        let key = self.store.put(packet).ok_or(ErrorCode::RelayFull)?;
        let at = known.unwrap_or_else(|| self.open(address, random));
        let until = now + self.bounds.ttl;
        let mailbox = &mut self.mailboxes[at];
        mailbox.held.push_back(Held { key, until });
        if mailbox.due.is_none() {
            mailbox.due = Some(until);
            self.due.insert((until, at));
        }
        self.held += 1;
        self.posted += 1;
        for nth in 0..self.mailboxes[at].readers.len() {
            let subscription = self.mailboxes[at].readers[nth];
            self.queue(subscription, ready);
        }
        Ok(())
    }

    /// Shows a packet that is not held to `each` who reads the mailbox now: the number of the
    /// client, and the cell.
    pub fn show(
        &mut self,
        address: &Address,
        packet: &Packet,
        mut each: impl FnMut(usize, &Cell<'_>),
    ) {
        self.volatile += 1;
        let Some(at) = self.place_of(address) else { return };
        let mailbox = &self.mailboxes[at];
        let cell = handed_out(mailbox, mailbox.next(), packet).volatile();
        for subscription in &mailbox.readers {
            each(self.subscriptions[*subscription].client, &cell);
        }
    }

    /// `client`, which has proved that it may, reads a mailbox from sequence `from` on if `log` is
    /// that of the mailbox, else from the oldest cell that is held. It then has something to pull.
    ///
    /// # Errors
    /// [`ErrorCode::TooMany`] and [`ErrorCode::RelayFull`].
    pub fn subscribe(
        &mut self,
        client: usize,
        address: &Address,
        log: &Log,
        from: u64,
        random: &mut dyn Random,
    ) -> Result<(), ErrorCode> {
        let known = self.place_of(address);
        let own = known.and_then(|at| self.find(client, at));
        let subscription = match own {
            Some(own) => own,
            None => {
                let count = self.clients.get(&client).map_or(0, |c| c.subscriptions.len());
                if count >= self.bounds.subscriptions {
                    return Err(ErrorCode::TooMany);
                }
                let mailbox = if known.is_none() { Self::MAILBOX_COST } else { 0 };
                if !self.has_room(Self::SUBSCRIPTION_COST + mailbox) {
                    return Err(ErrorCode::RelayFull);
                }
                let at = known.unwrap_or_else(|| self.open(address, random));
                self.join(client, at)
            }
        };
        let reader = &mut self.subscriptions[subscription];
        let mailbox = &self.mailboxes[reader.mailbox];
        reader.cursor = if *log == mailbox.log { from } else { mailbox.first };
        reader.is_live = false;
        self.queue(subscription, &mut Vec::new());
        Ok(())
    }

    /// Frees all cells up to sequence `upto`, if `client` reads that mailbox and means this log.
    pub fn acknowledge(&mut self, client: usize, address: &Address, log: &Log, upto: u64) {
        let Some(at) = self.place_of(address) else { return };
        let mailbox = &self.mailboxes[at];
        if mailbox.log != *log || self.find(client, at).is_none() {
            return;
        }
        let count = upto.saturating_add(1).saturating_sub(mailbox.first);
        let count = count.min(mailbox.held.len() as u64);
        self.free(at, count);
        self.freed += count;
    }

    /// `client` reads this mailbox no more.
    pub fn leave(&mut self, client: usize, address: &Address) {
        let Some(at) = self.place_of(address) else { return };
        if let Some(subscription) = self.find(client, at) {
            self.part(subscription);
        }
    }

    /// `client` reads nothing any more.
    pub fn forget(&mut self, client: usize) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.line.clear();
        }
        while let Some(subscription) =
            self.clients.get(&client).and_then(|c| c.subscriptions.last().copied())
        {
            self.part(subscription);
        }
        self.clients.remove(&client);
    }

    /// Whether `client` has something to pull.
    pub fn has_more(&self, client: usize) -> bool {
        self.clients.get(&client).is_some_and(|client| !client.line.is_empty())
    }

    /// Hands what `client` is to read to `each`, `room` cells at most: how many those were.
    pub fn pull(&mut self, client: usize, room: usize, mut each: impl FnMut(&Cell<'_>)) -> usize {
        let mut left = room;
        while left > 0 {
            let Some(line) = self.clients.get_mut(&client).map(|c| &mut c.line) else { break };
            let Some(subscription) = line.pop_front() else { break };
            let turn = left.min(CELLS_A_TURN);
            let used = self.pull_from(subscription, turn, &mut each);
            left -= used;
            if used == turn
                && let Some(client) = self.clients.get_mut(&client)
            {
                client.line.push_back(subscription);
            } else {
                self.subscriptions[subscription].is_queued = false;
            }
        }
        room - left
    }

    fn pull_from(
        &mut self,
        subscription: usize,
        room: usize,
        each: &mut impl FnMut(&Cell<'_>),
    ) -> usize {
        let reader = &mut self.subscriptions[subscription];
        let mailbox = &self.mailboxes[reader.mailbox];
        reader.cursor = reader.cursor.max(mailbox.first);
        let mut used = 0;
        while used < room && reader.cursor < mailbox.next() {
            let held = &mailbox.held[(reader.cursor - mailbox.first) as usize];
            if let Some(packet) = self.store.get(&held.key) {
                each(&handed_out(mailbox, reader.cursor, packet));
                used += 1;
                self.delivered += 1;
            }
            reader.cursor += 1;
        }
        if used < room && !reader.is_live {
            reader.is_live = true;
            let (id, log, address) = (mailbox.next(), mailbox.log, mailbox.address);
            each(&Cell { id, log, address, ..Cell::new(Command::Live) });
            used += 1;
        }
        used
    }

    /// Frees what is too old, until that was `enough` cells: the rest has another turn.
    pub fn expire(&mut self, now: Duration, enough: u64) {
        let end = self.expired.saturating_add(enough);
        while let Some((due, at)) = self.due.first().copied()
            && due <= now
            && self.expired < end
        {
            self.due.remove(&(due, at));
            let mailbox = &mut self.mailboxes[at];
            mailbox.due = None;
            let old = mailbox.held.partition_point(|held| held.until <= now);
            if let Some(next) = mailbox.held.get(old) {
                mailbox.due = Some(next.until);
                self.due.insert((next.until, at));
            }
            self.expired += old as u64;
            self.free(at, old as u64);
        }
    }

    /// When [`Table::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    fn place_of(&self, address: &Address) -> Option<usize> {
        let is_it = |at: &usize| self.mailboxes[*at].address == *address;
        self.by_address.find(self.hasher.hash_one(address), is_it).copied()
    }

    /// A mailbox comes into being.
    fn open(&mut self, address: &Address, random: &mut dyn Random) -> usize {
        let mut log = [0; 8];
        // All zeros is what a reader says that knows none.
        while log == [0; 8] {
            random.fill(&mut log);
        }
        let (held, readers) = (VecDeque::new(), Vec::new());
        let mailbox = Mailbox { address: *address, log, first: 0, held, readers, due: None };
        let at = self.mailboxes.insert(mailbox);
        let (mailboxes, hasher) = (&self.mailboxes, &self.hasher);
        let hash = |at: &usize| hasher.hash_one(mailboxes[*at].address);
        self.by_address.insert_unique(hasher.hash_one(address), at, hash);
        at
    }

    /// Overwrites the oldest `count` cells.
    fn free(&mut self, at: usize, count: u64) {
        let mailbox = &mut self.mailboxes[at];
        for held in mailbox.held.drain(..count as usize) {
            self.store.remove(held.key);
        }
        mailbox.first += count;
        self.held -= count;
        if mailbox.held.is_empty() && mailbox.held.capacity() > SPARE_CELLS {
            mailbox.held = VecDeque::new();
        }
        self.close_if_unused(at);
    }

    /// A mailbox that nobody reads and that holds nothing is gone, and its log with it.
    fn close_if_unused(&mut self, at: usize) {
        let mailbox = &self.mailboxes[at];
        if !mailbox.held.is_empty() || !mailbox.readers.is_empty() {
            return;
        }
        let mailbox = self.mailboxes.remove(at);
        let hash = self.hasher.hash_one(mailbox.address);
        if let Ok(place) = self.by_address.find_entry(hash, |place| *place == at) {
            place.remove();
        }
        if let Some(due) = mailbox.due {
            self.due.remove(&(due, at));
        }
    }

    /// How `client` reads this mailbox, if it does: looked for where fewer are.
    fn find(&self, client: usize, at: usize) -> Option<usize> {
        let readers = &self.mailboxes[at].readers;
        let own = &self.clients.get(&client)?.subscriptions;
        let fewer = if own.len() < readers.len() { own } else { readers };
        let is_it = |subscription: &Subscription| {
            subscription.client == client && subscription.mailbox == at
        };
        fewer.iter().copied().find(|nth| is_it(&self.subscriptions[*nth]))
    }

    fn join(&mut self, client: usize, mailbox: usize) -> usize {
        let readers = &mut self.mailboxes[mailbox].readers;
        let own = &mut self.clients.entry(client).or_default().subscriptions;
        let number = self.subscriptions.insert(Subscription {
            client,
            mailbox,
            cursor: 0,
            is_live: false,
            is_queued: false,
            nth_reader: readers.len(),
            nth_own: own.len(),
        });
        readers.push(number);
        own.push(number);
        number
    }

    fn part(&mut self, number: usize) {
        let gone = self.subscriptions.remove(number);
        let readers = &mut self.mailboxes[gone.mailbox].readers;
        readers.swap_remove(gone.nth_reader);
        if let Some(moved) = readers.get(gone.nth_reader) {
            self.subscriptions[*moved].nth_reader = gone.nth_reader;
        }
        if readers.is_empty() {
            *readers = Vec::new();
        }
        if let Some(client) = self.clients.get_mut(&gone.client) {
            client.subscriptions.swap_remove(gone.nth_own);
            if let Some(moved) = client.subscriptions.get(gone.nth_own) {
                self.subscriptions[*moved].nth_own = gone.nth_own;
            }
            if gone.is_queued {
                client.line.retain(|queued| *queued != number);
            }
        }
        self.close_if_unused(gone.mailbox);
    }

    /// A subscription has something to hand out.
    fn queue(&mut self, number: usize, ready: &mut Vec<usize>) {
        let subscription = &mut self.subscriptions[number];
        if subscription.is_queued {
            return;
        }
        if let Some(client) = self.clients.get_mut(&subscription.client) {
            subscription.is_queued = true;
            if client.line.is_empty() {
                ready.push(subscription.client);
            }
            client.line.push_back(number);
        }
    }
}

fn handed_out<'a, K>(mailbox: &Mailbox<K>, sequence: u64, packet: &'a Packet) -> Cell<'a> {
    let (id, log, address) = (sequence, mailbox.log, mailbox.address);
    Cell { id, log, address, body: packet, ..Cell::new(Command::Cell) }
}

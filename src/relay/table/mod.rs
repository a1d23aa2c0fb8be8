//! The mailboxes of a relay: what they hold, and who reads them. PROTOCOL.md, section 5.3.
//!
//! Nothing is copied for a reader: it has a cursor in the mailbox's log, and takes what comes after
//! it as it has room. What is done for a cell depends on how many read its mailbox, and on nothing
//! else but the logarithm of how much there is; where a cell gives way to another one, 16 bytes are
//! moved for each that its mailbox holds.
//!
//! `mailbox` is the log of one, `held` what comes into it and goes, `readers` who reads it. This file
//! is who the clients are, and what all of it costs.

mod held;
mod mailbox;
mod readers;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::RandomState;
use std::mem::size_of;
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use self::held::Held;
use self::mailbox::{Entry, Mailbox, SPARE_CELLS};
use self::readers::Subscription;
use super::counts::Counts;
use super::shares::{Holder, Shares};
use super::store::Store;
use crate::proto::relay::cell::ErrorCode;

/// No cell.
const NONE: u32 = u32::MAX;

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

/// What clients are to be told of after a request of another one.
#[derive(Debug, Default)]
pub struct News {
    /// Those to whom [`Table::pull`] has something to hand out now, and had not before.
    pub ready: Vec<usize>,
    /// Those whose reading gave way: they read nothing any more, and are to be closed.
    pub displaced: Vec<usize>,
}

/// All mailboxes and their readers. Clients have numbers, which are their caller's.
pub struct Table<S: Store> {
    bounds: Bounds,
    store: S,
    /// Places of mailboxes, by the hash of their addresses, which stand there and nowhere else: with
    /// a second copy here, each cell would wait for memory once more.
    by_address: HashTable<usize>,
    hasher: RandomState,
    mailboxes: Slab<Mailbox>,
    cells: Slab<Held<S::Key>>,
    subscriptions: Slab<Subscription>,
    clients: HashMap<usize, Client>,
    /// The links of clients that are there, and of those that left cells behind.
    links: Slab<Link>,
    /// Links that hold cells.
    posters: u64,
    /// What each of them holds, in bytes.
    shares: Shares,
    /// When to look at a mailbox for cells that are too old: at or before its oldest one is, for
    /// each that holds any.
    due: BTreeSet<(Duration, usize)>,
    posted: u64,
    volatile: u64,
    delivered: u64,
    freed: u64,
    expired: u64,
    displaced: u64,
}

struct Client {
    link: u32,
    subscriptions: Vec<usize>,
    /// Subscriptions that have something to hand out.
    line: VecDeque<usize>,
}

/// What is remembered of a client, or of one that is gone, for as long as it holds something.
struct Link {
    address: u64,
    /// While it is there.
    client: Option<usize>,
    /// Its cell that came last.
    newest: u32,
}

impl<S: Store> Table<S> {
    /// What one cell costs, in bytes: its packet, and its places in two tables that have twice as
    /// many as they need while they grow.
    pub const CELL_COST: u64 =
        (S::COST + 2 * (size_of::<Held<S::Key>>() + size_of::<Entry>())) as u64;
    /// What a mailbox costs, in bytes: itself and its place in two tables which may be half empty.
    pub const MAILBOX_COST: u64 = (2 * (size_of::<Mailbox>() + 8 + size_of::<usize>() + 1)
        + 2 * size_of::<(Duration, usize)>()
        + SPARE_CELLS * size_of::<Entry>()) as u64;
    /// What a reader costs, in bytes: itself and its place in three tables which may be half empty.
    pub const SUBSCRIPTION_COST: u64 =
        (2 * (size_of::<Subscription>() + 8 + 3 * size_of::<usize>())) as u64;
    /// What it costs that a link holds cells, in bytes.
    pub const LINK_COST: u64 = (2 * (size_of::<Link>() + 8) + Shares::COST) as u64;
    /// What a reader counts for: a mailbox stays for as long as somebody reads it.
    const READER_SHARE: u64 = Self::SUBSCRIPTION_COST + Self::MAILBOX_COST;

    /// An empty one.
    pub fn new(bounds: Bounds, store: S) -> Self {
        Self {
            bounds,
            store,
            by_address: HashTable::new(),
            hasher: RandomState::new(),
            mailboxes: Slab::new(),
            cells: Slab::new(),
            subscriptions: Slab::new(),
            clients: HashMap::new(),
            links: Slab::new(),
            posters: 0,
            shares: Shares::default(),
            due: BTreeSet::new(),
            posted: 0,
            volatile: 0,
            delivered: 0,
            freed: 0,
            expired: 0,
            displaced: 0,
        }
    }

    /// What everything costs, in bytes.
    pub fn memory(&self) -> u64 {
        self.cells.len() as u64 * Self::CELL_COST
            + self.mailboxes.len() as u64 * Self::MAILBOX_COST
            + self.subscriptions.len() as u64 * Self::SUBSCRIPTION_COST
            + self.posters * Self::LINK_COST
    }

    fn free(&self) -> u64 {
        self.bounds.memory.saturating_sub(self.memory())
    }

    /// Writes its part of `counts`.
    pub fn count(&self, counts: &mut Counts) {
        counts.mailboxes = self.mailboxes.len() as u64;
        counts.subscriptions = self.subscriptions.len() as u64;
        counts.held = self.cells.len() as u64;
        counts.memory = self.memory();
        counts.posted = self.posted;
        counts.volatile = self.volatile;
        counts.delivered = self.delivered;
        counts.freed = self.freed;
        counts.expired = self.expired;
        counts.displaced = self.displaced;
    }

    /// `client` is there, and comes from the address of that number.
    pub fn enter(&mut self, client: usize, address: u64) {
        let link = Link { address, client: Some(client), newest: NONE };
        let link = self.links.insert(link) as u32;
        let (subscriptions, line) = (Vec::new(), VecDeque::new());
        self.clients.insert(client, Client { link, subscriptions, line });
    }

    /// `client` reads nothing any more, and asks for nothing. What it posted stays.
    pub fn forget(&mut self, client: usize) {
        let Some(gone) = self.clients.get_mut(&client) else { return };
        gone.line.clear();
        while let Some(subscription) =
            self.clients.get(&client).and_then(|c| c.subscriptions.last().copied())
        {
            self.part(subscription);
        }
        let Some(Client { link, .. }) = self.clients.remove(&client) else { return };
        self.shares.leave(self.holder(link));
        self.links[link as usize].client = None;
        self.forget_if_unused(link);
    }

    fn forget_if_unused(&mut self, link: u32) {
        let Link { client, newest, .. } = &self.links[link as usize];
        if client.is_none() && *newest == NONE {
            self.links.remove(link as usize);
        }
    }

    fn holder(&self, link: u32) -> Holder {
        Holder { address: self.links[link as usize].address, link }
    }

    /// The holder that a client is.
    fn holder_of(&self, client: usize) -> Option<Holder> {
        self.clients.get(&client).map(|client| self.holder(client.link))
    }

    /// Room in memory for what costs so much; if need be because somebody gives way who holds more.
    fn make_room(&mut self, by: Holder, cost: u64, news: &mut News) -> Result<(), ErrorCode> {
        if self.shares.allows(by, cost, self.free()) {
            return Ok(());
        }
        loop {
            let gives = self.shares.gives_way_to(by, cost).ok_or(ErrorCode::RelayFull)?;
            self.displace(gives.link, news);
            if self.free() >= cost {
                return Ok(());
            }
        }
    }

    /// A link gives way: its newest cell goes, or, if it has none, its reading.
    fn displace(&mut self, link: u32, news: &mut News) {
        let Link { client, newest, .. } = self.links[link as usize];
        if newest != NONE {
            self.displace_cell(newest);
        } else if let Some(client) = client {
            self.forget(client);
            news.displaced.push(client);
        }
    }
}

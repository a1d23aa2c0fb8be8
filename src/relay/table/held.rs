//! Cells that come to be held, and how they go: freed, too old, or because they gave way.

use std::hash::BuildHasher as _;
use std::time::Duration;

use super::mailbox::{Entry, Mailbox, SPARE_CELLS, handed_out};
use super::{NONE, News, Table};
use crate::crypto::sodium::Random;
use crate::proto::relay::cell::{Address, Cell, ErrorCode};
use crate::relay::shares::{Holder, Shares};
use crate::relay::store::{Packet, Store};

/// Of so many cells of a mailbox one is left to links that have few there.
const RESERVE: usize = 64;

/// A cell that is held.
pub(super) struct Held<K> {
    pub(super) key: K,
    until: Duration,
    sequence: u64,
    mailbox: u32,
    poster: u32,
    /// The cells of the same poster that came before and after it.
    older: u32,
    newer: u32,
    /// The mailbox came into being for it.
    is_opener: bool,
}

impl<S: Store> Table<S> {
    /// Holds a packet of `client`.
    ///
    /// # Errors
    /// [`ErrorCode::MailboxFull`] and [`ErrorCode::RelayFull`]: nothing is held.
    pub fn post(
        &mut self,
        client: usize,
        address: &Address,
        packet: &Packet,
        now: Duration,
        random: &mut dyn Random,
        news: &mut News,
    ) -> Result<(), ErrorCode> {
        let poster = self.holder_of(client).ok_or(ErrorCode::RelayFull)?;
        let is_first = self.links[poster.link as usize].newest == NONE;
        let link = if is_first { Self::LINK_COST } else { 0 };
        let share = Self::share(self.place_of(address).is_none());
        self.make_room(poster, share + link, news)?;
        if let Some(at) = self.place_of(address) {
            self.make_place(at, poster)?;
        }
        let key = self.store.put(packet).ok_or(ErrorCode::RelayFull)?;
        // What gave way may have been the only cell of the same mailbox.
        let known = self.place_of(address);
        let at = known.unwrap_or_else(|| self.open(address, random));
        self.hold(at, key, poster, now + self.bounds.ttl, known.is_none());
        self.posted += 1;
        for nth in 0..self.mailboxes[at].readers.len() {
            let subscription = self.mailboxes[at].readers[nth];
            self.queue(subscription, &mut news.ready);
        }
        Ok(())
    }

    /// What a cell counts for, in bytes.
    fn share(is_opener: bool) -> u64 {
        Self::CELL_COST + if is_opener { Self::MAILBOX_COST } else { 0 }
    }

    fn hold(&mut self, at: usize, key: S::Key, poster: Holder, until: Duration, is_opener: bool) {
        let mailbox = &mut self.mailboxes[at];
        let (sequence, link) = (mailbox.next, &mut self.links[poster.link as usize]);
        let (older, newer) = (link.newest, NONE);
        let cell = self.cells.insert(Held {
            key,
            until,
            sequence,
            mailbox: at as u32,
            poster: poster.link,
            older,
            newer,
            is_opener,
        }) as u32;
        link.newest = cell;
        if older != NONE {
            self.cells[older as usize].newer = cell;
        } else {
            self.posters += 1;
        }
        mailbox.held.push_back(Entry { sequence, cell, poster: poster.link });
        mailbox.next += 1;
        if mailbox.due.is_none() {
            mailbox.due = Some(until);
            self.due.insert((until, at));
        }
        if let Some(shares) = &mut mailbox.shares {
            shares.add(poster, 1);
        }
        self.shares.add(poster, Self::share(is_opener));
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
        let cell = handed_out(mailbox, mailbox.next, packet).volatile();
        for subscription in &mailbox.readers {
            each(self.subscriptions[*subscription].client, &cell);
        }
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
            let until = |entry: &Entry| self.cells[entry.cell as usize].until;
            let old = mailbox.held.partition_point(|entry| until(entry) <= now);
            if let Some(next) = mailbox.held.get(old).map(until) {
                mailbox.due = Some(next);
                self.due.insert((next, at));
            }
            self.expired += old as u64;
            self.free_oldest(at, old);
        }
    }

    /// When [`Table::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(super) fn place_of(&self, address: &Address) -> Option<usize> {
        let is_it = |at: &usize| self.mailboxes[*at].address == *address;
        self.by_address.find(self.hasher.hash_one(address), is_it).copied()
    }

    /// A mailbox comes into being.
    pub(super) fn open(&mut self, address: &Address, random: &mut dyn Random) -> usize {
        let mut log = [0; 8];
        // All zeros is what a reader says that knows none.
        while log == [0; 8] {
            random.fill(&mut log);
        }
        let at = self.mailboxes.insert(Mailbox::new(*address, log));
        let (mailboxes, hasher) = (&self.mailboxes, &self.hasher);
        let hash = |at: &usize| hasher.hash_one(mailboxes[*at].address);
        self.by_address.insert_unique(hasher.hash_one(address), at, hash);
        at
    }

    /// Room for a cell in a mailbox. The last part is for links that have few there; and in a full one,
    /// a cell of another address gives way that has more there.
    fn make_place(&mut self, at: usize, by: Holder) -> Result<(), ErrorCode> {
        let (most, len) = (self.bounds.cells, self.mailboxes[at].held.len());
        if len < most - most / RESERVE {
            return Ok(());
        }
        let links = &self.links;
        let Mailbox { held, shares, .. } = &mut self.mailboxes[at];
        let shares = shares.get_or_insert_with(|| {
            let mut shares = Shares::default();
            for Entry { poster: link, .. } in held.iter().copied() {
                let address = links[link as usize].address;
                shares.add(Holder { address, link }, 1);
            }
            Box::new(shares)
        });
        if shares.allows_link(by, (most - len) as u64) {
            return Ok(());
        }
        // Of the same address it may be the same person, whose earlier message nothing is to end.
        let gives = shares.gives_way_to(by, 1).filter(|gives| gives.address != by.address);
        let gives = gives.ok_or(ErrorCode::MailboxFull)?;
        let newest = held.iter().rev().find(|entry| entry.poster == gives.link);
        let newest = newest.map(|entry| entry.cell).ok_or(ErrorCode::MailboxFull)?;
        self.displace_cell(newest);
        Ok(())
    }

    /// Overwrites a cell, wherever it stands, because it gives way to another one.
    pub(super) fn displace_cell(&mut self, cell: u32) {
        let Held { mailbox, sequence, .. } = &self.cells[cell as usize];
        let (at, sequence) = (*mailbox as usize, *sequence);
        let nth = self.mailboxes[at].before(sequence);
        self.mailboxes[at].held.remove(nth);
        self.overwrite(at, cell);
        self.displaced += 1;
        self.tidy(at);
    }

    /// Overwrites the oldest `count` cells.
    pub(super) fn free_oldest(&mut self, at: usize, count: usize) {
        for _ in 0..count {
            let Some(entry) = self.mailboxes[at].held.pop_front() else { break };
            self.overwrite(at, entry.cell);
        }
        self.tidy(at);
    }

    /// Overwrites a cell that has no place in its mailbox any more.
    fn overwrite(&mut self, at: usize, cell: u32) {
        let gone = self.cells.remove(cell as usize);
        self.store.remove(gone.key);
        match gone.newer {
            NONE => self.links[gone.poster as usize].newest = gone.older,
            newer => self.cells[newer as usize].older = gone.older,
        }
        if gone.older != NONE {
            self.cells[gone.older as usize].newer = gone.newer;
        }
        let poster = self.holder(gone.poster);
        self.shares.take(poster, Self::share(gone.is_opener));
        if let Some(shares) = &mut self.mailboxes[at].shares {
            shares.take(poster, 1);
        }
        if self.links[gone.poster as usize].newest == NONE {
            self.posters -= 1;
            self.forget_if_unused(gone.poster);
        }
    }

    /// After cells went: gives back what the mailbox needs no more.
    fn tidy(&mut self, at: usize) {
        let mailbox = &mut self.mailboxes[at];
        if mailbox.held.len() <= self.bounds.cells / 2 {
            mailbox.shares = None;
        }
        if mailbox.held.is_empty() && mailbox.held.capacity() > SPARE_CELLS {
            mailbox.held = Default::default();
        }
        self.close_if_unused(at);
    }

    /// A mailbox that nobody reads and that holds nothing is gone, and its log with it.
    pub(super) fn close_if_unused(&mut self, at: usize) {
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
}

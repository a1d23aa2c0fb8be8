//! Who reads which mailbox, and what it is handed.

use super::mailbox::handed_out;
use super::{News, Table};
use crate::crypto::sodium::Random;
use crate::proto::relay::cell::{Address, Cell, Command, ErrorCode, Log};
use crate::relay::store::Store;

/// Cells of one mailbox that a reader takes before the next mailbox has its turn.
const CELLS_A_TURN: usize = 16;

/// One client reads one mailbox.
pub(super) struct Subscription {
    pub(super) client: usize,
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

impl<S: Store> Table<S> {
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
        news: &mut News,
    ) -> Result<(), ErrorCode> {
        let own = self.place_of(address).and_then(|at| self.find(client, at));
        let subscription = match own {
            Some(own) => own,
            None => self.begin(client, address, random, news)?,
        };
        let reader = &mut self.subscriptions[subscription];
        let mailbox = &self.mailboxes[reader.mailbox];
        reader.cursor = if *log == mailbox.log { from } else { mailbox.first() };
        reader.is_live = false;
        // It has its turn just now.
        self.queue(subscription, &mut Vec::new());
        Ok(())
    }

    /// `client` is to read a mailbox that it does not read yet.
    fn begin(
        &mut self,
        client: usize,
        address: &Address,
        random: &mut dyn Random,
        news: &mut News,
    ) -> Result<usize, ErrorCode> {
        let reader = self.holder_of(client).ok_or(ErrorCode::RelayFull)?;
        let count = self.clients.get(&client).map_or(0, |c| c.subscriptions.len());
        if count >= self.bounds.subscriptions {
            return Err(ErrorCode::TooMany);
        }
        let known = self.place_of(address).is_some();
        let mailbox = if known { 0 } else { Self::MAILBOX_COST };
        self.make_room(reader, Self::SUBSCRIPTION_COST + mailbox, news)?;
        let at = self.place_of(address).unwrap_or_else(|| self.open(address, random));
        self.shares.add(reader, Self::READER_SHARE);
        Ok(self.join(client, at))
    }

    /// Frees all cells up to sequence `upto`, if `client` reads that mailbox and means this log.
    pub fn acknowledge(&mut self, client: usize, address: &Address, log: &Log, upto: u64) {
        let Some(at) = self.place_of(address) else { return };
        let mailbox = &self.mailboxes[at];
        if mailbox.log != *log || self.find(client, at).is_none() {
            return;
        }
        let count = mailbox.before(upto.saturating_add(1));
        self.free_oldest(at, count);
        self.freed += count as u64;
    }

    /// `client` reads this mailbox no more.
    pub fn leave(&mut self, client: usize, address: &Address) {
        let Some(at) = self.place_of(address) else { return };
        if let Some(subscription) = self.find(client, at) {
            self.part(subscription);
        }
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
        let mut used = 0;
        let first = mailbox.before(reader.cursor);
        for entry in mailbox.held.range(first..) {
            if used == room {
                return used;
            }
            if let Some(packet) = self.store.get(&self.cells[entry.cell as usize].key) {
                each(&handed_out(mailbox, entry.sequence, packet));
                used += 1;
                self.delivered += 1;
            }
            reader.cursor = entry.sequence + 1;
        }
        if used < room && !reader.is_live {
            reader.is_live = true;
            let (id, log, address) = (mailbox.next, mailbox.log, mailbox.address);
            each(&Cell { id, log, address, ..Cell::new(Command::Live) });
            used += 1;
        }
        used
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
        let own = self.clients.get_mut(&client).map(|client| &mut client.subscriptions);
        let number = self.subscriptions.insert(Subscription {
            client,
            mailbox,
            cursor: 0,
            is_live: false,
            is_queued: false,
            nth_reader: readers.len(),
            nth_own: own.as_ref().map_or(0, |own| own.len()),
        });
        readers.push(number);
        if let Some(own) = own {
            own.push(number);
        }
        number
    }

    pub(super) fn part(&mut self, number: usize) {
        let gone = self.subscriptions.remove(number);
        let readers = &mut self.mailboxes[gone.mailbox].readers;
        readers.swap_remove(gone.nth_reader);
        if let Some(moved) = readers.get(gone.nth_reader) {
            self.subscriptions[*moved].nth_reader = gone.nth_reader;
        }
        if readers.is_empty() {
            *readers = Vec::new();
        }
        if let Some(reader) = self.holder_of(gone.client) {
            self.shares.take(reader, Self::READER_SHARE);
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
    pub(super) fn queue(&mut self, number: usize, ready: &mut Vec<usize>) {
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

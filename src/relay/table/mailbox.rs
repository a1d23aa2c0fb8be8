//! One mailbox: its log, and who reads it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::proto::relay::cell::{Address, Cell, Command, Log};
use crate::relay::shares::Shares;
use crate::relay::store::Packet;

/// A mailbox that is empty keeps room for so many cells.
pub(super) const SPARE_CELLS: usize = 4;

pub(super) struct Mailbox {
    pub(super) address: Address,
    pub(super) log: Log,
    /// Sequence of the cell that comes next.
    pub(super) next: u64,
    /// What is held, by sequence.
    pub(super) held: VecDeque<Entry>,
    /// Numbers of subscriptions.
    pub(super) readers: Vec<usize>,
    pub(super) due: Option<Duration>,
    /// How many cells are whose: known once the mailbox was nearly full, until it is half empty.
    pub(super) shares: Option<Box<Shares>>,
}

/// A cell's place in its mailbox.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) cell: u32,
    /// The link that posted it.
    pub(super) poster: u32,
}

impl Mailbox {
    /// An empty one.
    pub(super) fn new(address: Address, log: Log) -> Self {
        let (held, readers) = (VecDeque::new(), Vec::new());
        Self { address, log, next: 0, held, readers, due: None, shares: None }
    }

    /// Sequence of the oldest cell that is held.
    pub(super) fn first(&self) -> u64 {
        self.held.front().map_or(self.next, |entry| entry.sequence)
    }

    /// How many of the cells that are held come before `sequence`.
    pub(super) fn before(&self, sequence: u64) -> usize {
        // Without gaps, the place is the distance to the first.
        let guess = sequence.saturating_sub(self.first()) as usize;
        match self.held.get(guess) {
            Some(entry) if entry.sequence == sequence => guess,
            _ => self.held.partition_point(|entry| entry.sequence < sequence),
        }
    }
}

/// What a reader is handed.
pub(super) fn handed_out<'a>(mailbox: &Mailbox, sequence: u64, packet: &'a Packet) -> Cell<'a> {
    let (id, log, address) = (sequence, mailbox.log, mailbox.address);
    Cell { id, log, address, body: packet, ..Cell::new(Command::Cell) }
}

//! An established link to a relay, at either end: cells over bytes that come in pieces of any size.

use std::time::Duration;

use super::cell::{CELL_LEN, Cell, Side, WIRE_LEN};
use crate::crypto::noise::{HASH_LEN, TAG_LEN};
use crate::crypto::sodium::{PublicKey, keyed_hash};
use crate::proto::stream::record::Violation;
use crate::proto::stream::session::Session;
use crate::proto::time::Now;

/// What stands for `access` at a relay that is open to everybody who knows its key, 32 bytes.
pub fn open_access(relay: &PublicKey) -> [u8; 32] {
    keyed_hash(relay.as_bytes(), &[b"AnonChat v1 open relay"])
}

/// A session, the start of a cell that is not complete yet, and bytes on their way out. While
/// nothing is on its way it holds no buffer.
pub struct CellLink {
    session: Session,
    partial: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    heard: Duration,
    sent: Duration,
}

impl CellLink {
    /// A link that starts now, after WELCOME.
    pub fn new(session: Session, now: Now) -> Self {
        let (partial, out) = (Vec::new(), Vec::new());
        Self { session, partial, out, written: 0, heard: now.mono, sent: now.mono }
    }

    /// Names the link: the same 64 bytes at both ends.
    pub fn handshake_hash(&self) -> &[u8; HASH_LEN] {
        self.session.handshake_hash()
    }

    /// Takes bytes from the peer and hands on each whole cell that the peer's side may say.
    ///
    /// # Errors
    /// The first [`Violation`], the callback's own included: the link is of no more use then.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        now: Now,
        mut each: impl FnMut(&Cell<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if !input.is_empty() {
            self.heard = now.mono;
        }
        if !self.partial.is_empty() {
            let missing = (WIRE_LEN - self.partial.len()).min(input.len());
            let (head, rest) = input.split_at(missing);
            self.partial.extend_from_slice(head);
            input = rest;
            if self.partial.len() < WIRE_LEN {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.partial);
            self.open(&whole, &mut each)?;
        }
        let mut records = input.chunks_exact(WIRE_LEN);
        for record in &mut records {
            self.open(record, &mut each)?;
        }
        self.partial.extend_from_slice(records.remainder());
        Ok(())
    }

    /// How many bytes are missing until the cell that is coming is whole. Who reads no more than
    /// that leaves what follows JOINED to those whose it is.
    pub fn missing(&self) -> usize {
        WIRE_LEN - self.partial.len()
    }

    fn open(
        &mut self,
        record: &[u8],
        each: &mut impl FnMut(&Cell<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let (len, sealed) = record.split_at(2);
        if usize::from(u16::from_be_bytes([len[0], len[1]])) != CELL_LEN + TAG_LEN {
            return Err(Violation::Malformed);
        }
        let mut plain = [0; CELL_LEN];
        self.session.open_whole(sealed, &mut plain)?;
        let cell = Cell::parse(&plain)?;
        let peer = if self.session.is_initiator() { Side::Relay } else { Side::Client };
        if !cell.is_said_by(peer) {
            return Err(Violation::Malformed);
        }
        each(&cell)
    }

    /// Queues one cell.
    pub fn send(&mut self, cell: &Cell<'_>, now: Now) {
        let mut plain = [0; CELL_LEN];
        cell.write(&mut plain);
        self.session.seal_whole(&plain, &mut self.out);
        self.sent = now.mono;
    }

    /// What is to be written to the peer next.
    pub fn pending(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// The first `len` bytes of [`CellLink::pending`] are on their way.
    pub fn consumed(&mut self, len: usize) {
        self.written += len;
        if self.written == self.out.len() {
            (self.out, self.written) = (Vec::new(), 0);
        } else if self.written >= self.out.len() / 2 {
            // Each byte is moved once on average at most.
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    /// When the peer was heard last.
    pub fn heard(&self) -> Duration {
        self.heard
    }

    /// When something was sent last.
    pub fn sent(&self) -> Duration {
        self.sent
    }
}

//! An established link to a relay, at either end: cells over bytes that come in pieces of any size.

use std::time::Duration;

use super::cell::{CELL_LEN, Cell, Side, WIRE_LEN};
use crate::crypto::noise::{HASH_LEN, TAG_LEN};
use crate::crypto::sodium::{PublicKey, keyed_hash};
use crate::proto::stream::meta::Welcome;
use crate::proto::stream::outgoing::Outgoing;
use crate::proto::stream::record::{self, Kind, Violation};
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
    out: Outgoing,
    /// `out` is another one's.
    is_lent: bool,
    heard: Duration,
    sent: Duration,
}

impl CellLink {
    /// A link that starts now, after WELCOME.
    pub fn new(session: Session, now: Now) -> Self {
        let (partial, out) = (Vec::new(), Outgoing::default());
        Self { session, partial, out, is_lent: false, heard: now.mono, sent: now.mono }
    }

    /// The relay's end of a link that starts now: `welcome` is what it says first.
    pub fn welcoming(session: Session, welcome: &Welcome, now: Now) -> Self {
        let body = welcome.encode();
        let mut plain = record::header(Kind::Welcome, body.len()).to_vec();
        plain.extend_from_slice(&body);
        plain.resize(record::padded_len(plain.len()), 0);
        let mut link = Self::new(session, now);
        link.session.seal_whole(&plain, &mut link.out);
        link
    }

    /// Takes over an empty queue, for its buffer, if nothing is on its way.
    pub fn lend(&mut self, spare: &mut Outgoing) {
        if self.pending().is_empty() {
            std::mem::swap(&mut self.out, spare);
            self.is_lent = true;
        }
    }

    /// Gives that queue back, empty. What is still on its way then has as much room as it needs.
    pub fn give_back(&mut self, spare: &mut Outgoing) {
        if std::mem::take(&mut self.is_lent) {
            let mut rest = Outgoing::default();
            rest.room(self.pending().len()).copy_from_slice(self.pending());
            *spare = std::mem::replace(&mut self.out, rest);
            spare.clear();
        }
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
        let mut plain = [0; CELL_LEN];
        while let Some(cell) = self.take(&mut input, now, &mut plain)? {
            each(&cell)?;
        }
        Ok(())
    }

    /// Takes bytes off the front of `input` until a cell is whole, which is opened into `plain`;
    /// without one, all of them.
    ///
    /// # Errors
    /// [`Violation`]: the link is of no more use then.
    pub fn take<'a>(
        &mut self,
        input: &mut &[u8],
        now: Now,
        plain: &'a mut [u8; CELL_LEN],
    ) -> Result<Option<Cell<'a>>, Violation> {
        if !input.is_empty() {
            self.heard = now.mono;
        }
        if let Some((record, rest)) =
            input.split_at_checked(WIRE_LEN).filter(|_| self.partial.is_empty())
        {
            *input = rest;
            return self.open(record, plain).map(Some);
        }
        let (head, rest) = input.split_at(self.missing().min(input.len()));
        *input = rest;
        self.partial.extend_from_slice(head);
        if self.partial.len() < WIRE_LEN {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.partial);
        self.open(&whole, plain).map(Some)
    }

    /// How many bytes are missing until the cell that is coming is whole. Who reads no more than
    /// that leaves what follows JOINED to those whose it is.
    pub fn missing(&self) -> usize {
        WIRE_LEN - self.partial.len()
    }

    fn open<'a>(
        &mut self,
        record: &[u8],
        plain: &'a mut [u8; CELL_LEN],
    ) -> Result<Cell<'a>, Violation> {
        let (len, sealed) = record.split_at(2);
        if usize::from(u16::from_be_bytes([len[0], len[1]])) != CELL_LEN + TAG_LEN {
            return Err(Violation::Malformed);
        }
        self.session.open_whole(sealed, plain)?;
        let cell = Cell::parse(plain)?;
        let peer = if self.session.is_initiator() { Side::Relay } else { Side::Client };
        if !cell.is_said_by(peer) {
            return Err(Violation::Malformed);
        }
        Ok(cell)
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
        self.out.pending()
    }

    /// The first `len` bytes of [`CellLink::pending`] are on their way.
    pub fn consumed(&mut self, len: usize) {
        self.out.consumed(len);
        if self.pending().is_empty() && !self.is_lent {
            self.out = Outgoing::default();
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

//! The same packets in a file: for a USB stick or a mail. PROTOCOL.md, 4.6.
//!
//! A box file is one or more runs one after the other, each packet flagged as sealed for a file and
//! in its place. Nothing is acked and there is no clock window. Files may be concatenated.

use std::fmt;

use super::cache::BoxCache;
use super::packet::{
    Head, Kind, LocalKey, MAX_MESSAGE, MessageId, Opened, PACKET_LEN, Sealer, Way, fragment_of,
    fragments, recognise,
};
use crate::crypto::sodium::{KeyPair, PublicKey, Random, Secret};
use crate::proto::time::Now;

/// Seals a stream of bytes as one run.
pub struct BoxWriter {
    sealer: Sealer,
    next: MessageId,
    /// Not sealed yet, because it may be the last.
    pending: Vec<u8>,
}

impl BoxWriter {
    /// From `me` to `to`, whose public key file says `access`.
    pub fn new(me: &KeyPair, to: &PublicKey, access: &[u8; 32], rng: &mut dyn Random) -> Self {
        let mut run = [0; 8];
        rng.fill(&mut run);
        let next = MessageId { run, sequence: 0 };
        Self { sealer: Sealer::new(me, to, access), next, pending: Vec::new() }
    }

    /// Names the next message; that of the first is the run's.
    pub fn next_id(&self) -> MessageId {
        self.next
    }

    /// Takes bytes of the stream and appends the packets that are ready to `out`: about 1.2 bytes
    /// for each, in steps of 76,800.
    pub fn push(&mut self, mut bytes: &[u8], now: Now, rng: &mut dyn Random, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.pending.len() == MAX_MESSAGE {
                self.seal(true, now, rng, out);
            }
            let taken = bytes.len().min(MAX_MESSAGE - self.pending.len());
            self.pending.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
        }
    }

    /// Appends the last packets; without them the file is truncated.
    pub fn finish(mut self, now: Now, rng: &mut dyn Random, out: &mut Vec<u8>) {
        self.seal(false, now, rng, out);
    }

    fn seal(&mut self, more: bool, now: Now, rng: &mut dyn Random, out: &mut Vec<u8>) {
        let mut ack_key = Secret::<32>::zeroed();
        rng.fill(ack_key.expose_mut());
        let of = fragments(self.pending.len()) as u16;
        for fragment in 0..of {
            let head = Head {
                kind: Kind::Message,
                way: Way::File,
                more,
                id: self.next,
                time_ms: now.unix_ms,
                ack_key: ack_key.expose(),
                fragment,
                of,
            };
            let mut packet = [0; PACKET_LEN];
            let body = fragment_of(&self.pending, fragment.into());
            self.sealer.seal(&head, body, rng, &mut packet);
            out.extend_from_slice(&packet);
        }
        self.pending.clear();
        self.next.sequence += 1;
    }
}

/// What one packet of a file held.
#[derive(Debug)]
pub struct Chunk {
    /// Who sealed it, for the caller to admit. In a group it is a claim.
    pub sender: PublicKey,
    /// Which of the local keys it is for.
    pub local: usize,
    /// Names message and run.
    pub id: MessageId,
    /// When it was sealed, Unix milliseconds by the sender's clock.
    pub time_ms: u64,
    /// It is the first of its run.
    pub first: bool,
    /// It is the last of its run.
    pub last: bool,
    /// At most 998 bytes.
    pub body: Vec<u8>,
}

/// Why a file does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxError {
    /// It ends within a packet, or before the last packet of a run.
    Truncated,
    /// Its first packet is not for any of the local keys, or no sealed box at all.
    NotForUs,
    /// A packet was changed, is missing, or is not in its place.
    Corrupted,
    /// A packet that was sealed for the network: it has no place in a file.
    NotForAFile,
}

impl fmt::Display for BoxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the file is truncated",
            Self::NotForUs => "the file is not sealed for this key",
            Self::Corrupted => "the file is corrupted",
            Self::NotForAFile => "the file holds a packet that was sealed for the network",
        })
    }
}

impl std::error::Error for BoxError {}

/// The packet that must come next within a run.
struct Place {
    local: usize,
    sender: PublicKey,
    id: MessageId,
    /// Fragment, number of fragments and `more`, within a message; none between two.
    within: Option<(u16, u16, bool)>,
}

/// Opens a box file packet by packet, in order.
pub struct BoxReader {
    locals: Vec<LocalKey>,
    cache: [BoxCache; 1],
    place: Option<Place>,
    opened: bool,
}

impl BoxReader {
    /// A reader of files sealed for one of `locals`.
    pub fn new(locals: Vec<LocalKey>) -> Self {
        Self { locals, cache: [BoxCache::new()], place: None, opened: false }
    }

    /// Opens the next packet of the file: 1200 bytes, less only if the file ends there. Nothing of
    /// the file is to be used after an error.
    ///
    /// # Errors
    /// [`BoxError`].
    pub fn open(&mut self, packet: &[u8]) -> Result<Chunk, BoxError> {
        let packet: &[u8; PACKET_LEN] = packet.try_into().map_err(|_| BoxError::Truncated)?;
        let foreign = if self.opened { BoxError::Corrupted } else { BoxError::NotForUs };
        let local = recognise(&self.locals, packet).ok_or(foreign)?;
        let keys = self.locals[local].keys();
        let opened = Opened::open(keys, packet, local, &self.cache);
        let mut opened = opened.ok_or(BoxError::Corrupted)?;
        if opened.way() != Way::File {
            return Err(BoxError::NotForAFile);
        }
        if let Some(key) = opened.take_fresh_key() {
            self.cache[0].insert(local, *opened.sender(), key);
        }
        let first = self.place.is_none();
        self.place = self.follow(local, &opened)?;
        self.opened = true;
        Ok(Chunk {
            sender: *opened.sender(),
            local,
            id: opened.id(),
            time_ms: opened.time_ms(),
            first,
            last: self.place.is_none(),
            body: opened.body().to_vec(),
        })
    }

    /// Holds a packet against its place, and says which place is next; none at the end of a run.
    fn follow(&self, local: usize, packet: &Opened) -> Result<Option<Place>, BoxError> {
        let (id, of, more) = (packet.id(), packet.of(), packet.more());
        let in_place = match &self.place {
            None => id.sequence == 0 && packet.fragment() == 0,
            Some(place) => {
                let same = place.local == local && place.sender == *packet.sender();
                let within = match place.within {
                    Some(expected) => expected == (packet.fragment(), of, more),
                    None => packet.fragment() == 0,
                };
                same && place.id == id && within
            }
        };
        if !in_place {
            return Err(BoxError::Corrupted);
        }
        let (id, within) = match packet.fragment() + 1 {
            next if next < of => (id, Some((next, of, more))),
            _ if !more => return Ok(None),
            _ => {
                let sequence = id.sequence.checked_add(1).ok_or(BoxError::Corrupted)?;
                (MessageId { sequence, ..id }, None)
            }
        };
        Ok(Some(Place { local, sender: *packet.sender(), id, within }))
    }

    /// The file has ended.
    ///
    /// # Errors
    /// [`BoxError::Truncated`] if it was empty or a run was not at its end.
    pub fn finish(&self) -> Result<(), BoxError> {
        let whole = self.opened && self.place.is_none();
        if whole { Ok(()) } else { Err(BoxError::Truncated) }
    }
}

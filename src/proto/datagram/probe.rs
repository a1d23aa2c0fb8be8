//! PROBE and HERE: is the holder of that key there? PROTOCOL.md, 4.5 and 6.
//!
//! A *direct* probe goes to an address that is known: its body is a CBOR map without key 0, and the
//! answer goes to the packet's source. A map with key 0 is discovery's. Neither kind is acked.

use minicbor::Decoder;

use super::cache::BoxCache;
use super::packet::{
    Head, Kind, MAC1_LEN, MessageId, Opened, PACKET_LEN, Sealer, Way, mac1, mac1_key,
};
use crate::crypto::sodium::{KeyPair, PublicKey, Random, Secret, constant_time_eq};
use crate::proto::relay::cell::Address;
use crate::proto::relay::mailbox::{Channel, epoch};
use crate::proto::time::{CLOCK_WINDOW_MS, Now, within_window};

/// Age at which PROBE and MEET are void, in milliseconds: as far as two clocks may be apart, since
/// nothing else tells how old a question is.
pub const PROBE_LIFE_MS: u64 = CLOCK_WINDOW_MS;

/// The most entries that a body's map may have.
const MAX_ENTRIES: u64 = 16;
/// The key under which discovery's addresses stand.
const ADDRESSES: u64 = 0;

/// Whether a PROBE is direct and not void; its clock window is checked already.
pub(super) fn is_due(packet: &Opened, now: Now) -> bool {
    !is_void(packet, now) && is_direct(packet.body())
}

/// Whether a PROBE or MEET is too old to be answered.
pub fn is_void(packet: &Opened, now: Now) -> bool {
    now.unix_ms.saturating_sub(packet.time_ms()) > PROBE_LIFE_MS
}

/// Whether a body is one CBOR map, unknown keys skipped, without addresses.
fn is_direct(body: &[u8]) -> bool {
    let scan = || -> Result<bool, minicbor::decode::Error> {
        let mut decoder = Decoder::new(body);
        let entries = decoder.map()?.unwrap_or(u64::MAX);
        let mut direct = entries <= MAX_ENTRIES;
        for _ in 0..entries.min(MAX_ENTRIES) {
            direct &= decoder.u64()? != ADDRESSES;
            decoder.skip()?;
        }
        Ok(direct && decoder.position() == body.len())
    };
    scan().unwrap_or(false)
}

/// The body of a direct PROBE, and of the HERE that answers it: a map with nothing in it.
pub const EMPTY_MAP: &[u8] = &[0xa0];

/// A probe that was heard.
pub struct Probe {
    sender: PublicKey,
    local: usize,
    id: MessageId,
    ack_key: Secret<32>,
    time_ms: u64,
}

impl Probe {
    /// What of `packet`, which opened for key number `local`, an answer needs.
    pub fn new(packet: &Opened, local: usize) -> Self {
        let mut ack_key = Secret::zeroed();
        ack_key.expose_mut().copy_from_slice(packet.ack_key());
        let (sender, id, time_ms) = (*packet.sender(), packet.id(), packet.time_ms());
        Self { sender, local, id, ack_key, time_ms }
    }

    /// Where at a relay the answer is awaited.
    pub fn mailbox(&self) -> Option<Address> {
        let channel = Channel::receipts(self.ack_key.expose(), self.id);
        channel.at(&self.sender, epoch(self.time_ms)).map(|mailbox| mailbox.address)
    }

    /// Who asks.
    pub fn sender(&self) -> &PublicKey {
        &self.sender
    }

    /// Which of the local keys is sought.
    pub fn local(&self) -> usize {
        self.local
    }

    /// Makes the HERE that answers it: sealed by the sought key `me`, with `body`.
    pub fn answer(
        &self,
        me: &KeyPair,
        way: Way,
        body: &[u8],
        now: Now,
        rng: &mut dyn Random,
        out: &mut [u8; PACKET_LEN],
    ) {
        let sealer = Sealer::new(me, &self.sender, self.ack_key.expose());
        seal(&sealer, (Kind::Here, way), self.id, now, &[0; 32], body, rng, out);
    }
}

#[allow(clippy::too_many_arguments)] // the fields of one packet
fn seal(
    sealer: &Sealer,
    (kind, way): (Kind, Way),
    id: MessageId,
    now: Now,
    ack_key: &[u8; 32],
    body: &[u8],
    rng: &mut dyn Random,
    out: &mut [u8; PACKET_LEN],
) {
    let time_ms = now.unix_ms;
    let head = Head { kind, way, more: false, id, time_ms, ack_key, fragment: 0, of: 1 };
    sealer.seal(&head, body, rng, out);
}

/// One question of a seeker: PROBEs that bear one id, and what recognises their HERE.
pub struct Question {
    id: MessageId,
    ack_key: Secret<32>,
    /// The key of mac1 in the answer: our key, with the ack key for an access.
    answer_key: Secret<32>,
}

impl Question {
    /// A new one of the holder of `me`.
    pub fn new(me: &PublicKey, rng: &mut dyn Random) -> Self {
        let mut run = [0; 8];
        rng.fill(&mut run);
        let mut ack_key = Secret::zeroed();
        rng.fill(ack_key.expose_mut());
        let answer_key = mac1_key(ack_key.expose(), me);
        Self { id: MessageId { run, sequence: 0 }, ack_key, answer_key }
    }

    /// Names it.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// What an answer is authenticated with, 32 bytes.
    pub fn ack_key(&self) -> &[u8; 32] {
        self.ack_key.expose()
    }

    /// Seals a PROBE stamped now, which asks this of whomever `to` seals for.
    pub fn packet(
        &self,
        to: &Sealer,
        way: Way,
        body: &[u8],
        now: Now,
        rng: &mut dyn Random,
        out: &mut [u8; PACKET_LEN],
    ) {
        seal(to, (Kind::Probe, way), self.id, now, self.ack_key.expose(), body, rng, out);
    }

    /// Whether `packet` was made by somebody who opened this question: one hash.
    pub fn recognises(&self, packet: &[u8; PACKET_LEN]) -> bool {
        let (claimed, sealed) = packet.split_at(MAC1_LEN);
        constant_time_eq(claimed, &mac1(&self.answer_key, sealed))
    }

    /// Opens a HERE that came by `way` and that [`Question::recognises`]; `None` unless the holder of `asked` made it for
    /// `me`, in answer to this. Its body is still to be read.
    pub fn open(
        &self,
        way: Way,
        me: &KeyPair,
        asked: &PublicKey,
        packet: &[u8; PACKET_LEN],
        now: Now,
        caches: &[BoxCache],
    ) -> Option<Opened> {
        let here = Opened::open(me, packet, 0, caches)?;
        let is_answer = here.kind() == Kind::Here
            && here.way() == way
            && here.sender() == asked
            && here.id() == self.id
            && *here.ack_key() == [0; 32]
            && within_window(here.time_ms(), now.unix_ms);
        is_answer.then_some(here)
    }
}

/// The one who asks, for `ac-send -z -u`.
pub struct Prober {
    me: KeyPair,
    sealer: Sealer,
    to: PublicKey,
    question: Question,
}

impl Prober {
    /// `me` asks for the holder of `to`, whose public key file says `access`.
    pub fn new(me: &KeyPair, to: &PublicKey, access: &[u8; 32], rng: &mut dyn Random) -> Self {
        let question = Question::new(me.public(), rng);
        Self { me: me.duplicate(), sealer: Sealer::new(me, to, access), to: *to, question }
    }

    /// A PROBE stamped now; to be sent again, about once a second, until the answer comes.
    pub fn packet(&self, now: Now, rng: &mut dyn Random, out: &mut [u8; PACKET_LEN]) {
        self.question.packet(&self.sealer, Way::Network, EMPTY_MAP, now, rng, out);
    }

    /// Whether `datagram` is the HERE that proves the sought key's holder is there.
    pub fn is_answer(&self, datagram: &[u8], now: Now) -> bool {
        let Ok(packet) = <&[u8; PACKET_LEN]>::try_from(datagram) else { return false };
        if !self.question.recognises(packet) {
            return false;
        }
        let cache = [BoxCache::new()];
        let here = self.question.open(Way::Network, &self.me, &self.to, packet, now, &cache);
        here.is_some_and(|here| is_direct(here.body()))
    }
}

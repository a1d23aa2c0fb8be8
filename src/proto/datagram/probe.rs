//! PROBE and HERE: is the holder of that key there? PROTOCOL.md, 4.5 and 6.
//!
//! A *direct* probe goes to an address that is known: its body is a CBOR map without key 0, and the
//! answer goes to the packet's source. A map with key 0 is discovery's. Neither kind is acked.

use minicbor::{Decoder, Encoder};

use super::cache::BoxCache;
use super::packet::{
    FRAGMENT_LEN, Head, Kind, LocalKey, MessageId, Opened, PACKET_LEN, Sealer, Way,
};
use crate::crypto::sodium::{KeyPair, PublicKey, Random, Secret};
use crate::proto::time::{Now, within_window};

/// Age at which a PROBE is void, in milliseconds.
pub const PROBE_LIFE_MS: u64 = 30_000;

/// The most entries that a body's map may have.
const MAX_ENTRIES: u64 = 16;
/// The key under which discovery's addresses stand.
const ADDRESSES: u64 = 0;

/// Whether a PROBE is direct and not void; its clock window is checked already.
pub(super) fn is_due(packet: &Opened, now: Now) -> bool {
    let age = now.unix_ms.saturating_sub(packet.time_ms());
    age <= PROBE_LIFE_MS && is_direct(packet.body())
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
fn empty_map(out: &mut [u8; FRAGMENT_LEN]) -> &[u8] {
    let mut encoder = Encoder::new(minicbor::encode::write::Cursor::new(&mut out[..]));
    // One byte fits.
    let _ = encoder.map(0);
    let len = encoder.into_writer().position();
    &out[..len]
}

/// A direct probe that was heard.
pub struct Probe {
    sender: PublicKey,
    local: usize,
    id: MessageId,
    ack_key: Secret<32>,
}

impl Probe {
    pub(super) fn new(packet: &Opened, local: usize) -> Self {
        let mut ack_key = Secret::zeroed();
        ack_key.expose_mut().copy_from_slice(packet.ack_key());
        Self { sender: *packet.sender(), local, id: packet.id(), ack_key }
    }

    /// Who asks.
    pub fn sender(&self) -> &PublicKey {
        &self.sender
    }

    /// Which of the local keys is sought.
    pub fn local(&self) -> usize {
        self.local
    }

    pub(super) fn answer(
        &self,
        me: &KeyPair,
        now: Now,
        rng: &mut dyn Random,
        out: &mut [u8; PACKET_LEN],
    ) {
        let sealer = Sealer::new(me, &self.sender, self.ack_key.expose());
        seal(&sealer, Kind::Here, self.id, now, &[0; 32], rng, out);
    }
}

fn seal(
    sealer: &Sealer,
    kind: Kind,
    id: MessageId,
    now: Now,
    ack_key: &[u8; 32],
    rng: &mut dyn Random,
    out: &mut [u8; PACKET_LEN],
) {
    let (time_ms, way) = (now.unix_ms, Way::Network);
    let head = Head { kind, way, more: false, id, time_ms, ack_key, fragment: 0, of: 1 };
    sealer.seal(&head, empty_map(&mut [0; FRAGMENT_LEN]), rng, out);
}

/// The one who asks, for `ac-send -z -u`.
pub struct Prober {
    sealer: Sealer,
    to: PublicKey,
    /// Recognises the answer: our key, with the probe's ack key for an access.
    answer: LocalKey,
    id: MessageId,
    ack_key: Secret<32>,
}

impl Prober {
    /// `me` asks for the holder of `to`, whose public key file says `access`.
    pub fn new(me: &KeyPair, to: &PublicKey, access: &[u8; 32], rng: &mut dyn Random) -> Self {
        let mut run = [0; 8];
        rng.fill(&mut run);
        let mut ack_key = Secret::zeroed();
        rng.fill(ack_key.expose_mut());
        let answer = LocalKey::new(me.duplicate(), ack_key.expose());
        let id = MessageId { run, sequence: 0 };
        Self { sealer: Sealer::new(me, to, access), to: *to, answer, id, ack_key }
    }

    /// A PROBE stamped now; to be sent again, about once a second, until the answer comes.
    pub fn packet(&self, now: Now, rng: &mut dyn Random, out: &mut [u8; PACKET_LEN]) {
        seal(&self.sealer, Kind::Probe, self.id, now, self.ack_key.expose(), rng, out);
    }

    /// Whether `datagram` is the HERE that proves the sought key's holder is there.
    pub fn is_answer(&self, datagram: &[u8], now: Now) -> bool {
        let Ok(packet) = <&[u8; PACKET_LEN]>::try_from(datagram) else { return false };
        if !self.answer.recognises(packet) {
            return false;
        }
        let cache = [BoxCache::new()];
        Opened::open(self.answer.keys(), packet, 0, &cache).is_some_and(|here| {
            here.kind() == Kind::Here
                && *here.sender() == self.to
                && here.id() == self.id
                && *here.ack_key() == [0; 32]
                && is_direct(here.body())
                && within_window(here.time_ms(), now.unix_ms)
        })
    }
}

//! The packet: layout, sealing, opening. PROTOCOL.md, 4.1 and 4.2.
//!
//! ```text
//! packet 1200: mac1 16 ‖ crypto_box_seal(R_pk, inner 1136)
//! inner      : version 1, kind 1, flags 2, S_pk 32, nonce 24, crypto_box(payload 1060; S_sk → R_pk)
//! payload    : run 8, sequence 8, time_ms 8, ack_key 32, fragment 2, of 2, len 2, body ≤ 998, zeros
//! ```
//!
//! Opening goes from cheap to costly: length, [`LocalKey::recognises`] (0.5 µs), the sealed box
//! (one X25519, 34 µs), the sender's key (two more, unless [`BoxCache`] knows it).

use super::cache::BoxCache;
use crate::crypto::sodium::{
    BOX_OVERHEAD, BoxKey, KeyPair, NONCE_LEN, PublicKey, Random, SEALED_BOX_OVERHEAD, Secret,
    constant_time_eq, keyed_hash, keyed_hash_secret, open_anonymous, seal_anonymous, wipe,
};

/// Size of every packet, in bytes.
pub const PACKET_LEN: usize = 1200;
/// Size of mac1, in bytes.
pub const MAC1_LEN: usize = 16;
/// Size of what the sealed box holds, in bytes.
pub const INNER_LEN: usize = PACKET_LEN - MAC1_LEN - SEALED_BOX_OVERHEAD;
/// Version, kind, flags, sender's key and nonce, in bytes.
const INNER_HEAD_LEN: usize = 1 + 1 + 2 + PublicKey::LEN + NONCE_LEN;
/// Size of what the inner box holds, in bytes.
pub const PAYLOAD_LEN: usize = INNER_LEN - INNER_HEAD_LEN - BOX_OVERHEAD;
/// Everything of the payload that stands before the body, in bytes.
pub const PAYLOAD_HEAD_LEN: usize = 16 + 8 + 32 + 2 + 2 + 2;
/// The most of a body that one packet holds, in bytes.
pub const FRAGMENT_LEN: usize = PAYLOAD_LEN - PAYLOAD_HEAD_LEN;
/// The most packets that a message has.
pub const MAX_FRAGMENTS: u16 = 64;
/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = FRAGMENT_LEN * MAX_FRAGMENTS as usize;

const _: () = assert!(INNER_LEN == 1136 && PAYLOAD_LEN == 1060 && FRAGMENT_LEN == 998);

const VERSION: u8 = 1;
const FLAG_RELAY: u16 = 1 << 0;
const FLAG_MORE: u16 = 1 << 1;
const FLAG_FILE: u16 = 1 << 2;

/// A packet's mac1: what names one transmission.
pub type Mac1 = [u8; MAC1_LEN];

/// The kinds of packet that are understood here; all others are rejected. PROTOCOL.md, 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A fragment of a message.
    Message = 0,
    /// Is anybody there?
    Probe = 2,
    /// The answer to [`Kind::Probe`].
    Here = 3,
    /// What came of a message that went by a relay.
    Receipt = 4,
    /// Come to a circuit of a relay.
    Meet = 5,
    /// A fragment of a message that begins with a META (PROTOCOL.md, 3.3): a file, by a relay.
    Item = 6,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Message, Self::Probe, Self::Here, Self::Receipt, Self::Meet, Self::Item];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Whether it may have more than one fragment.
    fn is_message(self) -> bool {
        matches!(self, Self::Message | Self::Item)
    }
}

/// By which way a packet may arrive; one that comes by another is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// UDP.
    Network,
    /// A box file.
    File,
    /// The cells of a relay.
    Relay,
}

/// Names a message: 16 bytes, its run and its place in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Random, the same for all messages of one `ac-send`.
    pub run: [u8; 8],
    /// From 0, without gaps.
    pub sequence: u64,
}

impl MessageId {
    /// The 16 bytes on the wire.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.run);
        out[8..].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }
}

/// What a packet says beside its body.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// What it is.
    pub kind: Kind,
    /// The way it is sealed for.
    pub way: Way,
    /// More messages of this run follow.
    pub more: bool,
    /// The message.
    pub id: MessageId,
    /// When the message was made, Unix milliseconds by the sender's clock.
    pub time_ms: u64,
    /// The key of acks for this message, 32 bytes.
    pub ack_key: &'a [u8; 32],
    /// Which fragment, from 0.
    pub fragment: u16,
    /// How many fragments the message has, 1 to [`MAX_FRAGMENTS`].
    pub of: u16,
}

impl Head<'_> {
    fn flags(&self) -> u16 {
        let way = match self.way {
            Way::Network => 0,
            Way::File => FLAG_FILE,
            Way::Relay => FLAG_RELAY,
        };
        way | if self.more { FLAG_MORE } else { 0 }
    }
}

/// How many fragments a body of `len` bytes takes; an empty one takes one.
pub fn fragments(len: usize) -> usize {
    len.div_ceil(FRAGMENT_LEN).max(1)
}

/// The part of `body` that goes into fragment `index`.
pub fn fragment_of(body: &[u8], index: usize) -> &[u8] {
    let start = (index * FRAGMENT_LEN).min(body.len());
    &body[start..(start + FRAGMENT_LEN).min(body.len())]
}

/// The key of mac1 for packets to `to`: `H[32](access; "AnonChat v1 mac1" ‖ R_pk)`.
pub fn mac1_key(access: &[u8; 32], to: &PublicKey) -> Secret<32> {
    keyed_hash_secret(access, &[b"AnonChat v1 mac1", to.as_bytes()])
}

/// mac1 of a sealed box: `H[16](mac1_key; box)`.
pub fn mac1(key: &Secret<32>, sealed: &[u8]) -> Mac1 {
    keyed_hash(key.expose(), &[sealed])
}

/// One direction between two parties, ready to seal: the costly parts are computed once.
pub struct Sealer {
    from: PublicKey,
    to: PublicKey,
    key: BoxKey,
    mac1_key: Secret<32>,
}

impl Sealer {
    /// From `me` to `to`. `access` is the recipient's; in HERE it is the ack key of the PROBE.
    pub fn new(me: &KeyPair, to: &PublicKey, access: &[u8; 32]) -> Self {
        let mac1_key = mac1_key(access, to);
        Self { from: *me.public(), to: *to, key: BoxKey::new(me, to), mac1_key }
    }

    /// Seals one packet into `out`. Two calls never give the same bytes.
    ///
    /// `body` is at most [`FRAGMENT_LEN`] bytes; what is beyond is a mistake of the caller.
    pub fn seal(
        &self,
        head: &Head<'_>,
        body: &[u8],
        rng: &mut dyn Random,
        out: &mut [u8; PACKET_LEN],
    ) {
        let mut payload = [0; PAYLOAD_LEN];
        write_payload(head, body, &mut payload);
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut inner = [0; INNER_LEN];
        inner[0] = VERSION;
        inner[1] = head.kind as u8;
        inner[2..4].copy_from_slice(&head.flags().to_be_bytes());
        inner[4..36].copy_from_slice(self.from.as_bytes());
        inner[36..INNER_HEAD_LEN].copy_from_slice(&nonce);
        inner[INNER_HEAD_LEN..].copy_from_slice(&self.key.seal(&nonce, &payload));
        wipe(&mut payload);
        out[MAC1_LEN..].copy_from_slice(&seal_anonymous(&self.to, &inner));
        let mac1 = mac1(&self.mac1_key, &out[MAC1_LEN..]);
        out[..MAC1_LEN].copy_from_slice(&mac1);
    }
}

fn write_payload(head: &Head<'_>, body: &[u8], payload: &mut [u8; PAYLOAD_LEN]) {
    debug_assert!(body.len() <= FRAGMENT_LEN && head.fragment < head.of);
    payload[..16].copy_from_slice(&head.id.to_bytes());
    payload[16..24].copy_from_slice(&head.time_ms.to_be_bytes());
    payload[24..56].copy_from_slice(head.ack_key);
    payload[56..58].copy_from_slice(&head.fragment.to_be_bytes());
    payload[58..60].copy_from_slice(&head.of.to_be_bytes());
    payload[60..62].copy_from_slice(&(body.len() as u16).to_be_bytes());
    payload[PAYLOAD_HEAD_LEN..PAYLOAD_HEAD_LEN + body.len()].copy_from_slice(body);
}

/// A key that packets may be for, with what recognises them.
pub struct LocalKey {
    keys: KeyPair,
    mac1_key: Secret<32>,
}

impl LocalKey {
    /// `access` is the one that stands in the public key file of `keys`.
    pub fn new(keys: KeyPair, access: &[u8; 32]) -> Self {
        let mac1_key = mac1_key(access, keys.public());
        Self { keys, mac1_key }
    }

    /// The key pair.
    pub fn keys(&self) -> &KeyPair {
        &self.keys
    }

    /// Whether whoever sealed `packet` knew our access: one hash, no X25519.
    pub fn recognises(&self, packet: &[u8; PACKET_LEN]) -> bool {
        let (claimed, sealed) = packet.split_at(MAC1_LEN);
        constant_time_eq(claimed, &mac1(&self.mac1_key, sealed))
    }
}

/// Which of `locals` a packet is for.
pub fn recognise(locals: &[LocalKey], packet: &[u8; PACKET_LEN]) -> Option<usize> {
    locals.iter().position(|local| local.recognises(packet))
}

/// The mac1 that stands in front of a packet.
pub fn mac1_of(packet: &[u8; PACKET_LEN]) -> Mac1 {
    let mut out = [0; MAC1_LEN];
    out.copy_from_slice(&packet[..MAC1_LEN]);
    out
}

/// A packet that opened: every field was checked, every byte is the sender's.
pub struct Opened {
    sender: PublicKey,
    kind: Kind,
    way: Way,
    more: bool,
    payload: Vec<u8>,
    fresh_key: Option<BoxKey>,
}

impl Opened {
    /// Opens what [`LocalKey::recognises`] let through; `None` if any rule of PROTOCOL.md, 4.2, is
    /// broken. `local` is the index under which `caches` file the sender's key.
    pub fn open(
        keys: &KeyPair,
        packet: &[u8; PACKET_LEN],
        local: usize,
        caches: &[BoxCache],
    ) -> Option<Self> {
        let inner = open_anonymous(keys, &packet[MAC1_LEN..])?;
        let (head, sealed) = inner.split_at_checked(INNER_HEAD_LEN)?;
        if head[0] != VERSION {
            return None;
        }
        let kind = Kind::from_byte(head[1])?;
        let (way, more) = read_flags(kind, u16_at(head, 2))?;
        let claimed: &[u8; 32] = head[4..36].try_into().ok()?;
        let nonce: &[u8; NONCE_LEN] = head[36..].try_into().ok()?;
        let (sender, payload, fresh_key) =
            match caches.iter().find_map(|cache| cache.get(local, claimed)) {
                Some((sender, key)) => (*sender, key.open(nonce, sealed)?, None),
                None => {
                    let sender = PublicKey::from_bytes(claimed).ok()?;
                    let key = BoxKey::new(keys, &sender);
                    (sender, key.open(nonce, sealed)?, Some(key))
                }
            };
        let opened = Self { sender, kind, way, more, payload, fresh_key };
        opened.is_well_formed().then_some(opened)
    }

    /// `fragment` and `of` in range, every fragment but the last full, a last one not empty unless
    /// it is the only one, zeros behind the body: so a message has exactly one form.
    fn is_well_formed(&self) -> bool {
        let (fragment, of, len) = (self.fragment(), self.of(), self.len());
        let last = of.checked_sub(1) == Some(fragment);
        self.payload.len() == PAYLOAD_LEN
            && (1..=MAX_FRAGMENTS).contains(&of)
            && fragment < of
            && (len == FRAGMENT_LEN || (last && len < FRAGMENT_LEN))
            && (len > 0 || of == 1)
            && (of == 1 || self.kind.is_message())
            && self.payload[PAYLOAD_HEAD_LEN + len..].iter().all(|byte| *byte == 0)
    }

    fn len(&self) -> usize {
        u16_at(&self.payload, 60).into()
    }

    /// The key of whoever sealed it.
    pub fn sender(&self) -> &PublicKey {
        &self.sender
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The way it was sealed for.
    pub fn way(&self) -> Way {
        self.way
    }

    /// More messages of the run follow.
    pub fn more(&self) -> bool {
        self.more
    }

    /// The message.
    pub fn id(&self) -> MessageId {
        let mut run = [0; 8];
        run.copy_from_slice(&self.payload[..8]);
        MessageId { run, sequence: u64_at(&self.payload, 8) }
    }

    /// When the message was made, Unix milliseconds by the sender's clock.
    pub fn time_ms(&self) -> u64 {
        u64_at(&self.payload, 16)
    }

    /// The key of acks, 32 bytes.
    pub fn ack_key(&self) -> &[u8; 32] {
        let (payload, _) = self.payload[24..].as_chunks();
        &payload[0]
    }

    /// Which fragment, from 0.
    pub fn fragment(&self) -> u16 {
        u16_at(&self.payload, 56)
    }

    /// How many fragments, 1 to [`MAX_FRAGMENTS`].
    pub fn of(&self) -> u16 {
        u16_at(&self.payload, 58)
    }

    /// The fragment's part of the body, at most [`FRAGMENT_LEN`] bytes.
    pub fn body(&self) -> &[u8] {
        &self.payload[PAYLOAD_HEAD_LEN..PAYLOAD_HEAD_LEN + self.len()]
    }

    /// The box key that had to be computed, for [`BoxCache::insert`] once the sender is admitted.
    pub fn take_fresh_key(&mut self) -> Option<BoxKey> {
        self.fresh_key.take()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        wipe(&mut self.payload);
    }
}

/// Way and `more`; `None` for a flag that this kind does not have.
fn read_flags(kind: Kind, flags: u16) -> Option<(Way, bool)> {
    let allowed: &[u16] = match kind {
        Kind::Message => &[0, FLAG_MORE, FLAG_FILE, FLAG_FILE | FLAG_MORE, FLAG_RELAY],
        Kind::Probe | Kind::Here => &[0, FLAG_RELAY],
        Kind::Receipt | Kind::Meet | Kind::Item => &[FLAG_RELAY],
    };
    let way = match flags & (FLAG_FILE | FLAG_RELAY) {
        0 => Way::Network,
        FLAG_FILE => Way::File,
        _ => Way::Relay,
    };
    allowed.contains(&flags).then_some((way, flags & FLAG_MORE != 0))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

//! One entry of a history, to bytes and back. PROTOCOL.md, section 11.
//!
//! A frame that can be found again after any damage, and in it a sealed box to the owner's key. A
//! message of any length is several entries of one *record*, numbered from 0; the last says how it
//! ended.

use crate::crypto::sodium::{
    KeyPair, PublicKey, SEALED_BOX_OVERHEAD, open_anonymous, seal_anonymous,
};
use crate::net::sockets::Transport;

/// What every entry begins with: in a sealed box it occurs by chance once in 2^64 bytes.
pub const SYNC: [u8; 8] = *b"\xf5AChist\x01";
/// The sync, and the length of what follows, in bytes.
pub const FRAME_LEN: usize = SYNC.len() + 4;
/// The most content of one entry, in bytes.
pub const MAX_CONTENT: usize = 64 * 1024;
/// The longest petname, in bytes.
pub const MAX_NAME: usize = 255;
/// The most that one entry takes in the file, in bytes.
pub const MAX_ENTRY: usize = FRAME_LEN + SEALED_BOX_OVERHEAD + HEAD_LEN + MAX_NAME + MAX_CONTENT;

const VERSION: u8 = 1;
/// What stands before the petname, in bytes.
const HEAD_LEN: usize = 96;
/// The flag of a contact.
const KNOWN: u8 = 1;

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// To us.
    Received = 0,
    /// From us.
    Sent = 1,
}

/// Where a record stands with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// More entries follow.
    Open = 0,
    /// The message is whole; one that was sent was acknowledged.
    Whole = 1,
    /// It was cut off; one that was sent was not delivered.
    Cut = 2,
    /// All of it was sent, and no acknowledgement asked for.
    Unacknowledged = 3,
}

/// What all entries of one record say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Drawn by who records: entries with the same belong together. The message's id would not do,
    /// because a peer chooses it and could choose it twice.
    pub record: [u8; 16],
    /// Which way the message went.
    pub direction: Direction,
    /// Names the message at both ends.
    pub id: [u8; 16],
    /// A [`crate::proto::stream::meta::MessageKind`], or a number that this version does not know.
    pub kind: u8,
    /// What carried it.
    pub transport: Transport,
    /// The other end's key.
    pub peer: PublicKey,
    /// The petname that this key had then, or what stood for one; beyond [`MAX_NAME`] bytes it is
    /// cut off.
    pub name: String,
    /// Whether it was a contact.
    pub known: bool,
    /// When it was sent, by the sender's clock, Unix ms.
    pub sent_ms: u64,
    /// When it began to arrive or to be sent, by our clock, Unix ms.
    pub began_ms: u64,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it shares with its record.
    pub head: Head,
    /// Its number in the record, from 0.
    pub seq: u64,
    /// Where the record stands with it.
    pub state: State,
    /// At most [`MAX_CONTENT`] bytes.
    pub content: Vec<u8>,
}

/// The frame of an entry, sealed to `owner`. `content` is at most [`MAX_CONTENT`] bytes.
pub fn seal(owner: &PublicKey, head: &Head, seq: u64, state: State, content: &[u8]) -> Vec<u8> {
    let sealed = seal_anonymous(owner, &encode(head, seq, state, content));
    let mut frame = Vec::with_capacity(FRAME_LEN + sealed.len());
    frame.extend_from_slice(&SYNC);
    frame.extend_from_slice(&(sealed.len() as u32).to_be_bytes());
    frame.extend_from_slice(&sealed);
    frame
}

/// How long the entry is that begins with these bytes, its frame included; `None` if none does.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let sealed = bytes.strip_prefix(&SYNC)?.first_chunk::<4>()?;
    let all = FRAME_LEN + usize::try_from(u32::from_be_bytes(*sealed)).ok()?;
    let shortest = FRAME_LEN + SEALED_BOX_OVERHEAD + HEAD_LEN;
    (shortest..=MAX_ENTRY).contains(&all).then_some(all)
}

/// Opens a whole frame; `None` if it is for another key, was changed, or is none of this version.
pub fn open(key: &KeyPair, frame: &[u8]) -> Option<Entry> {
    let sealed = frame.get(FRAME_LEN..length(frame)?)?;
    decode(&open_anonymous(key, sealed)?)
}

/// What is sealed.
pub fn encode(head: &Head, seq: u64, state: State, content: &[u8]) -> Vec<u8> {
    let name = bounded(&head.name);
    let flags = if head.known { KNOWN } else { 0 };
    let mut plain = Vec::with_capacity(HEAD_LEN + name.len() + content.len());
    plain.extend([VERSION, head.direction as u8, state as u8, transport_code(head.transport)]);
    plain.extend([head.kind, flags, 0, name.len() as u8]);
    plain.extend(head.record);
    plain.extend(seq.to_be_bytes());
    plain.extend(head.id);
    plain.extend(head.peer.as_bytes());
    plain.extend(head.sent_ms.to_be_bytes());
    plain.extend(head.began_ms.to_be_bytes());
    plain.extend_from_slice(name.as_bytes());
    plain.extend_from_slice(content);
    plain
}

/// Reads what was sealed; `None` if it breaks any rule of PROTOCOL.md, section 11.
pub fn decode(plain: &[u8]) -> Option<Entry> {
    let (head, rest) = plain.split_first_chunk::<HEAD_LEN>()?;
    let [VERSION, direction, state, transport, kind, flags @ 0..=KNOWN, 0, name_len] = head[..8]
    else {
        return None;
    };
    let (name, content) = rest.split_at_checked(name_len.into())?;
    if content.len() > MAX_CONTENT {
        return None;
    }
    let head = Head {
        record: array(head, 8),
        direction: [Direction::Received, Direction::Sent].get(usize::from(direction)).copied()?,
        id: array(head, 32),
        kind,
        transport: TRANSPORTS.get(usize::from(transport)).copied()?,
        peer: PublicKey::from_bytes(&array(head, 48)).ok()?,
        name: std::str::from_utf8(name).ok()?.to_owned(),
        known: flags == KNOWN,
        sent_ms: u64::from_be_bytes(array(head, 80)),
        began_ms: u64::from_be_bytes(array(head, 88)),
    };
    let seq = u64::from_be_bytes(array(plain, 24));
    let states = [State::Open, State::Whole, State::Cut, State::Unacknowledged];
    let state = states.get(usize::from(state)).copied()?;
    Some(Entry { head, seq, state, content: content.to_vec() })
}

const TRANSPORTS: [Transport; 4] =
    [Transport::Tcp, Transport::Udp, Transport::File, Transport::Relay];

fn transport_code(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 0,
        Transport::Udp => 1,
        Transport::File => 2,
        Transport::Relay => 3,
    }
}

/// `N` bytes from `at` on, which are within `bytes`.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// As many whole characters of `name` as have room.
fn bounded(name: &str) -> &str {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

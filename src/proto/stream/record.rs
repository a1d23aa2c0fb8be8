//! What a record's plaintext looks like: type, length, body, zeros. PROTOCOL.md, section 3.2.

use crate::crypto::noise::{MAX_MESSAGE, TAG_LEN};

/// type u8 ‖ len u16.
pub const HEADER_LEN: usize = 3;
/// The longest plaintext of a record, in bytes.
pub const MAX_PLAIN: usize = MAX_MESSAGE - TAG_LEN;
/// The longest body of a record, in bytes.
pub const MAX_BODY: usize = MAX_PLAIN - HEADER_LEN;
/// The shortest plaintext that we make; short records all look the same.
const MIN_PADDED: usize = 256;

/// The type byte of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message begins; the body is a CBOR map, see [`super::meta::Meta`].
    Meta = 0,
    /// Bytes of the message.
    Data = 1,
    /// The message is whole; the body is its length in bytes, u64.
    End = 2,
    /// It was delivered whole; the body is its length in bytes, u64.
    Ack = 3,
    /// The receiver does not want it; the body is a code and a text.
    Refuse = 4,
    /// Nothing but a sign of life.
    Pad = 5,
    /// Where a file or folder goes on: from its receiver offset u64, hash 32; from its sender, who
    /// answers that, offset u64.
    Resume = 6,
    /// Whoever sends it gave up; the body is a code.
    Abort = 7,
    /// The responder hears the initiator; the body is a CBOR map, see [`super::meta::Welcome`].
    Welcome = 8,
}

/// What a peer did that ends its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A record did not open: changed, replayed or dropped on the way.
    NotOpened,
    /// A length, a type, a padding byte or a body against section 3.2.
    Malformed,
    /// A record that has no place here: DATA before META, a second META, a false total.
    OutOfOrder,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotOpened => "a record did not open",
            Self::Malformed => "a record is malformed",
            Self::OutOfOrder => "a record is out of order",
        })
    }
}

impl TryFrom<u8> for Kind {
    type Error = Violation;

    fn try_from(byte: u8) -> Result<Self, Violation> {
        Ok(match byte {
            0 => Self::Meta,
            1 => Self::Data,
            2 => Self::End,
            3 => Self::Ack,
            4 => Self::Refuse,
            5 => Self::Pad,
            6 => Self::Resume,
            7 => Self::Abort,
            8 => Self::Welcome,
            _ => return Err(Violation::Malformed),
        })
    }
}

/// The first three bytes of a plaintext.
pub fn header(kind: Kind, body_len: usize) -> [u8; HEADER_LEN] {
    let [high, low] = (body_len as u16).to_be_bytes();
    [kind as u8, high, low]
}

/// `min(max(256, Padmé(len)), 65519)`: lengths tell an eavesdropper O(log log n) bits.
/// Padmé: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", PoPETs 2019.
pub fn padded_len(len: usize) -> usize {
    if len <= MIN_PADDED {
        return MIN_PADDED;
    }
    let exponent = len.ilog2();
    let mantissa_bits = exponent.ilog2() + 1;
    let mask = (1 << (exponent - mantissa_bits)) - 1;
    ((len + mask) & !mask).min(MAX_PLAIN)
}

/// Takes a plaintext apart.
///
/// # Errors
/// [`Violation::Malformed`] for an unknown type, a length beyond the plaintext, or padding that is
/// not zero. How much padding there is, is the sender's business.
pub fn parse(plain: &[u8]) -> Result<(Kind, &[u8]), Violation> {
    let (head, rest) = plain.split_first_chunk::<HEADER_LEN>().ok_or(Violation::Malformed)?;
    let kind = Kind::try_from(head[0])?;
    let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let (body, padding) = rest.split_at_checked(len).ok_or(Violation::Malformed)?;
    if padding.iter().any(|b| *b != 0) {
        return Err(Violation::Malformed);
    }
    Ok((kind, body))
}

/// The body of END and ACK: a length in bytes.
///
/// # Errors
/// [`Violation::Malformed`] if it is not 8 bytes.
pub fn parse_total(body: &[u8]) -> Result<u64, Violation> {
    body.try_into().map(u64::from_be_bytes).map_err(|_| Violation::Malformed)
}

/// The length of a receiver's RESUME, in bytes; a sender's is 8.
pub const OFFER_LEN: usize = 40;

/// A receiver's RESUME: so much is there, and this is its BLAKE3.
pub fn offer_body(offset: u64, hash: &[u8; 32]) -> [u8; OFFER_LEN] {
    let mut body = [0; OFFER_LEN];
    body[..8].copy_from_slice(&offset.to_be_bytes());
    body[8..].copy_from_slice(hash);
    body
}

/// Takes a receiver's RESUME apart.
///
/// # Errors
/// [`Violation::Malformed`] if it is not [`OFFER_LEN`] bytes.
pub fn parse_offer(body: &[u8]) -> Result<(u64, [u8; 32]), Violation> {
    let (offset, hash) = body.split_at_checked(8).ok_or(Violation::Malformed)?;
    let hash = hash.try_into().map_err(|_| Violation::Malformed)?;
    Ok((parse_total(offset)?, hash))
}

/// A sender's RESUME: where it goes on.
///
/// # Errors
/// [`Violation::Malformed`] if it is not 8 bytes.
pub fn parse_start(body: &[u8]) -> Result<u64, Violation> {
    parse_total(body)
}

/// Why a receiver refuses a message: the first byte of REFUSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RefuseCode {
    /// Its output failed: a full disk, a closed pipe.
    CannotWrite = 1,
    /// Longer than it takes.
    TooLarge = 2,
    /// No room to keep it.
    NoRoom = 3,
    /// It does not take messages of this kind.
    NotWanted = 4,
    /// It has heard as many as it was asked to.
    Enough = 5,
    /// The sender paused while others waited.
    TooSlow = 6,
    /// The answer to ABORT of a file or of an entry of a folder.
    GivenUp = 7,
    /// The command that took it failed; the text says how.
    CommandFailed = 8,
    /// The command that took it ended well and needs no more of it. No failure.
    NeedsNoMore = 9,
}

impl RefuseCode {
    /// The reason in words, for the user of the side that refuses.
    pub fn why(self) -> &'static str {
        match self {
            Self::CannotWrite => "the output cannot be written",
            Self::TooLarge => "it is too large",
            Self::NoRoom => "there is no room for it",
            Self::NotWanted => "messages of its kind are not wanted",
            Self::Enough => "enough messages were heard",
            Self::TooSlow => "the sender paused while others waited",
            Self::GivenUp => "the sender gave it up",
            Self::CommandFailed => "the command failed",
            Self::NeedsNoMore => "the command needs no more of it",
        }
    }
}

/// Why a side gave up: the byte of ABORT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AbortCode {
    /// The answer to REFUSE.
    Refused = 1,
    /// It could not read what it was sending.
    CannotRead = 2,
    /// It was stopped by a signal.
    Stopped = 3,
    /// It leaves in good order: the end of a chat.
    Leaves = 4,
}

/// The longest text of a REFUSE that is kept, in bytes.
pub const MAX_REFUSE_TEXT: usize = 200;

/// The body of REFUSE.
pub fn refuse_body(code: RefuseCode, text: &str) -> Vec<u8> {
    let mut body = vec![code as u8];
    body.extend_from_slice(text.as_bytes());
    body.truncate(1 + MAX_REFUSE_TEXT);
    body
}

/// Takes the body of REFUSE apart: the code, and a text that is not fit for a terminal yet.
///
/// # Errors
/// [`Violation::Malformed`] if it is empty. An unknown code is for the reader to show as a number.
pub fn parse_refuse(body: &[u8]) -> Result<(u8, String), Violation> {
    let (code, text) = body.split_first().ok_or(Violation::Malformed)?;
    let text = &text[..text.len().min(MAX_REFUSE_TEXT)];
    Ok((*code, String::from_utf8_lossy(text).into_owned()))
}

/// The body of ABORT.
///
/// # Errors
/// [`Violation::Malformed`] if it is not one byte.
pub fn parse_abort(body: &[u8]) -> Result<u8, Violation> {
    match body {
        [code] => Ok(*code),
        _ => Err(Violation::Malformed),
    }
}

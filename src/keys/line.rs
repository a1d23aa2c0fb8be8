//! The one-line form of a public key file, for chat windows and QR codes. PROTOCOL.md, "Keys".
//!
//! ```text
//! line  = "ac1" base32(body ‖ check)        RFC 4648 base32, lower case, no padding
//! body  = version u8 = 1
//!         type u8                           0 a person's or group's public key, 1 a relay's
//!         public 32
//!         access 32
//!         hints                             one CBOR map (RFC 8949), to the end of the body
//! check = H[16]("AnonChat v1 line"; body), the first 4 bytes
//!
//! hints = { ? 0: name text, ? 1: [ 1*8 address text ], ? 2: relay }
//! relay = text (a petname) / { 0: public bytes 32, 1: access bytes 32, ? 2: [ 1*8 address text ] }
//! ```
//!
//! The CBOR is deterministic (RFC 8949, section 4.2.1); whoever reads it refuses every other
//! encoding, so that one content has one line. Type 1 has no hint 2. A reader ignores white space and
//! zero-width characters anywhere, since chat windows wrap and decorate, and reads upper case
//! too; it refuses more than 8192 characters, a wrong check, and whatever a TOML key file with the
//! same content would be refused for. Secret and group keys have no one-line form: a chat window is no
//! place for them.

use minicbor::{Decoder, Encoder};

use crate::crypto::sodium::{PublicKey, Secret, keyed_hash};

use super::error::KeyErrorKind;
use super::file::KeyFile;
use super::hints::{Hints, MAX_ADDRESSES, RelayHint};
use super::{Contact, base32};

const PREFIX: &str = "ac1";
const VERSION: u8 = 1;
const TYPE_PUBLIC: u8 = 0;
const TYPE_RELAY: u8 = 1;
const CHECK_LEN: usize = 4;
/// Where the hints begin: after version, type, `public` and `access`.
const HINTS_AT: usize = 2 + 32 + 32;
/// Longest line, in characters that are not white space.
const MAX_LINE: usize = 8192;

/// Why a line that begins with `ac1` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLine {
    /// More than 8192 characters.
    TooLong,
    /// A character that base32 does not have, or an impossible length.
    Base32,
    /// Too short to hold what every line holds.
    TooShort,
    /// Mistyped, or not copied whole.
    Check,
    /// A newer version of the form.
    Version,
    /// Neither a public key nor a relay's.
    Type,
    /// The hints are not the one encoding that there is.
    Hints,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the line is longer than 8192 characters",
            Self::Base32 => "the line has a character that does not belong there, or lacks some",
            Self::TooShort => "the line is too short",
            Self::Check => "the line was changed or not copied whole: its check does not match",
            Self::Version => "the line has an unknown version; this program knows version 1",
            Self::Type => "the line is neither a public key nor a relay's",
            Self::Hints => "the hints in the line are malformed",
        })
    }
}

fn is_ignored(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

/// Whether `text` is meant as one line rather than TOML.
pub fn looks_like_one(text: &str) -> bool {
    let mut start = text.chars().filter(|c| !is_ignored(*c)).map(|c| c.to_ascii_lowercase());
    // No field of a key file begins so.
    PREFIX.chars().all(|c| start.next() == Some(c))
}

/// The line of a public key or relay file, without a newline; `None` for a secret or group key.
pub fn encode(file: &KeyFile) -> Option<String> {
    let (kind, contact) = match file {
        KeyFile::Public(contact) => (TYPE_PUBLIC, contact),
        KeyFile::Relay(contact) => (TYPE_RELAY, contact),
        KeyFile::Keyed(_) => return None,
    };
    let mut body = vec![VERSION, kind];
    body.extend_from_slice(contact.public.as_bytes());
    body.extend_from_slice(contact.access.as_bytes());
    body.extend_from_slice(&encode_hints(&contact.hints));
    let check = check(&body);
    body.extend_from_slice(&check);
    Some(format!("{PREFIX}{}", base32::encode(&body)))
}

/// Reads what [`encode`] wrote, however a chat window has wrapped it.
///
/// # Errors
/// [`KeyErrorKind::Line`], and what is wrong with the values themselves.
pub fn parse(text: &str) -> Result<KeyFile, KeyErrorKind> {
    let bare: String = text.chars().filter(|c| !is_ignored(*c)).take(MAX_LINE + 1).collect();
    if bare.chars().count() > MAX_LINE {
        return Err(KeyErrorKind::Line(BadLine::TooLong));
    }
    let body = checked_body(bare.as_bytes()).map_err(KeyErrorKind::Line)?;
    let public = first_32(&body[2..]);
    let public = PublicKey::from_bytes(&public).map_err(KeyErrorKind::PublicKey)?;
    let access = Secret::from_slice(&body[34..HINTS_AT]).ok_or(BadLine::TooShort);
    let access = access.map_err(KeyErrorKind::Line)?.into();
    let hints = decode_hints(&body[HINTS_AT..])?;
    let contact = Contact { public, access, hints };
    match body[1] {
        TYPE_PUBLIC => Ok(KeyFile::Public(contact)),
        TYPE_RELAY if contact.hints.relay.is_none() => Ok(KeyFile::Relay(contact)),
        TYPE_RELAY => Err(KeyErrorKind::Line(BadLine::Hints)),
        _ => Err(KeyErrorKind::Line(BadLine::Type)),
    }
}

/// Prefix, base32, length, check and version, in this order.
fn checked_body(line: &[u8]) -> Result<Vec<u8>, BadLine> {
    let rest = line.get(PREFIX.len()..).ok_or(BadLine::TooShort)?;
    let mut body = base32::decode(rest).ok_or(BadLine::Base32)?;
    if body.len() <= HINTS_AT + CHECK_LEN {
        return Err(BadLine::TooShort);
    }
    let found = body.split_off(body.len() - CHECK_LEN);
    if found != check(&body) {
        return Err(BadLine::Check);
    }
    if body[0] != VERSION {
        return Err(BadLine::Version);
    }
    Ok(body)
}

fn check(body: &[u8]) -> [u8; CHECK_LEN] {
    let [a, b, c, d, ..]: [u8; 16] = keyed_hash(b"AnonChat v1 line", &[body]);
    [a, b, c, d]
}

fn first_32(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(&bytes[..32]);
    out
}

fn encode_hints(hints: &Hints) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    // Writing to a vector cannot fail.
    let _ = write_hints(&mut out, hints);
    out.into_writer()
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn write_hints(out: &mut Encoder<Vec<u8>>, hints: &Hints) -> Written {
    let count = [hints.name.is_some(), !hints.address.is_empty(), hints.relay.is_some()];
    out.map(count.iter().filter(|c| **c).count() as u64)?;
    if let Some(name) = &hints.name {
        out.u8(0)?.str(name)?;
    }
    write_addresses(out, 1, &hints.address)?;
    match &hints.relay {
        None => {}
        Some(RelayHint::Name(name)) => drop(out.u8(2)?.str(name)?),
        Some(RelayHint::Inline(relay)) => {
            let addresses = &relay.hints.address;
            out.u8(2)?.map(if addresses.is_empty() { 2 } else { 3 })?;
            out.u8(0)?.bytes(relay.public.as_bytes())?;
            out.u8(1)?.bytes(relay.access.as_bytes())?;
            write_addresses(out, 2, addresses)?;
        }
    }
    Ok(())
}

fn write_addresses(out: &mut Encoder<Vec<u8>>, key: u8, list: &[String]) -> Written {
    if !list.is_empty() {
        out.u8(key)?.array(list.len() as u64)?;
        for address in list {
            out.str(address)?;
        }
    }
    Ok(())
}

/// Reads the map loosely, then holds its own encoding against the bytes: one rule for order,
/// lengths, duplicates and what follows.
fn decode_hints(bytes: &[u8]) -> Result<Hints, KeyErrorKind> {
    let malformed = KeyErrorKind::Line(BadLine::Hints);
    let hints = read_hints(&mut Decoder::new(bytes)).map_err(|why| match why {
        BadHints::Cbor => malformed.clone(),
        BadHints::Key(why) => why,
    })?;
    let hints = hints.checked()?;
    if encode_hints(&hints) == bytes { Ok(hints) } else { Err(malformed) }
}

enum BadHints {
    Cbor,
    Key(KeyErrorKind),
}

impl From<minicbor::decode::Error> for BadHints {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Cbor
    }
}

fn read_hints(input: &mut Decoder<'_>) -> Result<Hints, BadHints> {
    let mut hints = Hints::default();
    for _ in 0..input.map()?.ok_or(BadHints::Cbor)?.min(3) {
        match input.u8()? {
            0 => hints.name = Some(input.str()?.into()),
            1 => hints.address = read_addresses(input)?,
            2 if input.datatype()? == minicbor::data::Type::String => {
                hints.relay = Some(RelayHint::Name(input.str()?.into()));
            }
            2 => hints.relay = Some(read_relay(input)?),
            _ => return Err(BadHints::Cbor),
        }
    }
    Ok(hints)
}

fn read_relay(input: &mut Decoder<'_>) -> Result<RelayHint, BadHints> {
    let entries = input.map()?.ok_or(BadHints::Cbor)?;
    let public = read_32(input, 0)?;
    let public =
        PublicKey::from_bytes(&public).map_err(|e| BadHints::Key(KeyErrorKind::PublicKey(e)))?;
    let access = Secret::from_slice(&read_32(input, 1)?).ok_or(BadHints::Cbor)?.into();
    let mut hints = Hints::default();
    if entries == 3 && input.u8()? == 2 {
        hints.address = read_addresses(input)?;
    }
    Ok(RelayHint::Inline(Box::new(Contact { public, access, hints })))
}

fn read_32(input: &mut Decoder<'_>, key: u8) -> Result<[u8; 32], BadHints> {
    if input.u8()? != key {
        return Err(BadHints::Cbor);
    }
    input.bytes()?.try_into().map_err(|_| BadHints::Cbor)
}

fn read_addresses(input: &mut Decoder<'_>) -> Result<Vec<String>, BadHints> {
    let count = input.array()?.ok_or(BadHints::Cbor)?;
    if count > MAX_ADDRESSES as u64 {
        return Err(BadHints::Key(KeyErrorKind::TooManyAddresses));
    }
    (0..count).map(|_| Ok(input.str()?.into())).collect()
}

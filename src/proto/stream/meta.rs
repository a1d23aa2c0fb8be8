//! The bodies of META and WELCOME: CBOR maps (RFC 8949) with small integers as keys. Unknown keys
//! are skipped, so that fields can be added. PROTOCOL.md, section 3.3.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::record::Violation;

/// The longest name in META, in bytes.
pub const MAX_NAME: usize = 4096;
/// More keys than this in one map are an attack.
const MAX_KEYS: u64 = 64;

/// What kind of message follows META.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageKind {
    /// What came from a pipe or a terminal.
    Message = 0,
    /// A file.
    File = 1,
    /// A directory entry.
    DirectoryEntry = 2,
    /// A line of chat.
    ChatLine = 3,
    /// Raw bytes both ways.
    Duplex = 4,
    /// In a chat: something waits to be fetched, by a call; on that call: which it is.
    Fetch = 5,
}

/// META: what the message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Key 0: random, names this message.
    pub id: [u8; 16],
    /// Key 1: a [`MessageKind`], or a number that this version does not know.
    pub kind: u8,
    /// Key 2: the sender's clock, Unix ms.
    pub time_ms: u64,
    /// Key 3: the name of a file, as its sender calls it.
    pub name: Option<String>,
    /// Key 4: length in bytes, where it is known beforehand.
    pub size: Option<u64>,
    /// Key 5: permission bits of a file.
    pub mode: Option<u32>,
    /// Key 6: modification time of a file, Unix ms.
    pub mtime: Option<i64>,
    /// Key 7: the sender wants a sign of life at least this often, ms.
    pub keepalive_ms: Option<u64>,
    /// Key 8, present and 1 if so: another message of the same run follows in this session.
    pub more: bool,
}

/// A file longer than this, in bytes, is gone on with where it was interrupted. Below, its sender
/// need not wait to be told that nothing of it is there.
pub const RESUMED: u64 = 1024 * 1024;
/// The type bits of a mode (POSIX, `S_IFMT`).
const TYPE_BITS: u32 = 0o170_000;
/// Those of a folder (`S_IFDIR`).
const FOLDER: u32 = 0o040_000;

impl Meta {
    /// A message without a name.
    pub fn message(id: [u8; 16], time_ms: u64) -> Self {
        Self {
            id,
            kind: MessageKind::Message as u8,
            time_ms,
            name: None,
            size: None,
            mode: None,
            mtime: None,
            keepalive_ms: None,
            more: false,
        }
    }

    /// What a side of a chat says first: it takes lines in return. A line of chat of size 0.
    pub fn greeting(id: [u8; 16], time_ms: u64) -> Self {
        Self { kind: MessageKind::ChatLine as u8, size: Some(0), ..Self::message(id, time_ms) }
    }

    /// Whether it is a [`Meta::greeting`].
    pub fn is_greeting(&self) -> bool {
        self.kind == MessageKind::ChatLine as u8 && self.size == Some(0)
    }

    /// Something waits to be fetched, or is to be.
    pub fn fetch(id: [u8; 16], time_ms: u64) -> Self {
        Self { kind: MessageKind::Fetch as u8, size: Some(0), ..Self::message(id, time_ms) }
    }

    /// Whether it counts as something that was said, for a listener that ends after so many.
    pub fn counts(&self) -> bool {
        self.kind != MessageKind::Fetch as u8
    }

    /// Whether the receiver answers with RESUME, which its sender waits for: a folder begins, or a
    /// file above [`RESUMED`].
    pub fn asks_resume(&self) -> bool {
        let Some(size) = self.size else { return false };
        let is_folder = self.mode.is_some_and(|mode| mode & TYPE_BITS == FOLDER);
        match self.kind {
            k if k == MessageKind::File as u8 => size > RESUMED,
            k if k == MessageKind::DirectoryEntry as u8 => is_folder || size > RESUMED,
            _ => false,
        }
    }

    /// Whether even ABORT of it is answered, with REFUSE 7, so that the sender can go on with
    /// another message in the same session: a file, or an entry of a folder.
    pub fn is_always_answered(&self) -> bool {
        let kinds = [MessageKind::File as u8, MessageKind::DirectoryEntry as u8];
        kinds.contains(&self.kind)
    }

    /// The CBOR map.
    pub fn encode(&self) -> Vec<u8> {
        let optional = [
            self.name.is_some(),
            self.size.is_some(),
            self.mode.is_some(),
            self.mtime.is_some(),
            self.keepalive_ms.is_some(),
            self.more,
        ];
        let present = optional.into_iter().filter(|p| *p).count() as u64;
        let mut e = Encoder::new(Vec::with_capacity(64));
        let written = (|| {
            e.map(3 + present)?.u8(0)?.bytes(&self.id)?.u8(1)?.u8(self.kind)?;
            e.u8(2)?.u64(self.time_ms)?;
            if let Some(name) = &self.name {
                e.u8(3)?.str(name)?;
            }
            if let Some(size) = self.size {
                e.u8(4)?.u64(size)?;
            }
            if let Some(mode) = self.mode {
                e.u8(5)?.u32(mode)?;
            }
            if let Some(mtime) = self.mtime {
                e.u8(6)?.i64(mtime)?;
            }
            if let Some(keepalive) = self.keepalive_ms {
                e.u8(7)?.u64(keepalive)?;
            }
            if self.more {
                e.u8(8)?.u8(1)?;
            }
            Ok::<_, minicbor::encode::Error<std::convert::Infallible>>(())
        })();
        debug_assert!(written.is_ok(), "a Vec takes everything");
        e.into_writer()
    }

    /// Reads the map.
    ///
    /// # Errors
    /// [`Violation::Malformed`] for what is no such map, lacks 0, 1 or 2, or has a wrong type.
    pub fn decode(body: &[u8]) -> Result<Self, Violation> {
        let mut id = None;
        let mut kind = None;
        let mut time_ms = None;
        let mut meta = Self::message([0; 16], 0);
        decode_map(body, |key, d| {
            match key {
                0 => id = Some(d.bytes()?.try_into().map_err(|_| wrong())?),
                1 => kind = Some(d.u8()?),
                2 => time_ms = Some(d.u64()?),
                3 => meta.name = Some(bounded_name(d.str()?)?),
                4 => meta.size = Some(d.u64()?),
                5 => meta.mode = Some(d.u32()?),
                6 => meta.mtime = Some(d.i64()?),
                7 => meta.keepalive_ms = Some(d.u64()?),
                8 => meta.more = d.u64()? != 0,
                _ => d.skip()?,
            }
            Ok(())
        })?;
        meta.id = id.ok_or(Violation::Malformed)?;
        meta.kind = kind.ok_or(Violation::Malformed)?;
        meta.time_ms = time_ms.ok_or(Violation::Malformed)?;
        Ok(meta)
    }
}

/// WELCOME: what the responder takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Welcome {
    /// Key 0: the largest message it takes, in bytes; no limit when absent.
    pub largest: Option<u64>,
    /// Key 1: a relay's mailbox challenge (PROTOCOL.md, section 5).
    pub challenge: Option<[u8; 32]>,
    /// Key 2: the responder wants a sign of life at least this often, ms.
    pub keepalive_ms: Option<u64>,
    /// Key 3: how long a relay holds cells, in seconds (PROTOCOL.md, section 5).
    pub ttl_s: Option<u64>,
}

impl Welcome {
    /// The CBOR map.
    pub fn encode(&self) -> Vec<u8> {
        let optional = [
            self.largest.is_some(),
            self.challenge.is_some(),
            self.keepalive_ms.is_some(),
            self.ttl_s.is_some(),
        ];
        let present = optional.into_iter().filter(|p| *p).count() as u64;
        let mut e = Encoder::new(Vec::new());
        let written = (|| {
            e.map(present)?;
            if let Some(largest) = self.largest {
                e.u8(0)?.u64(largest)?;
            }
            if let Some(challenge) = &self.challenge {
                e.u8(1)?.bytes(challenge)?;
            }
            if let Some(keepalive) = self.keepalive_ms {
                e.u8(2)?.u64(keepalive)?;
            }
            if let Some(ttl) = self.ttl_s {
                e.u8(3)?.u64(ttl)?;
            }
            Ok::<_, minicbor::encode::Error<std::convert::Infallible>>(())
        })();
        debug_assert!(written.is_ok(), "a Vec takes everything");
        e.into_writer()
    }

    /// Reads the map.
    ///
    /// # Errors
    /// [`Violation::Malformed`] for what is no such map.
    pub fn decode(body: &[u8]) -> Result<Self, Violation> {
        let mut welcome = Self::default();
        decode_map(body, |key, d| {
            match key {
                0 => welcome.largest = Some(d.u64()?),
                1 => welcome.challenge = Some(d.bytes()?.try_into().map_err(|_| wrong())?),
                2 => welcome.keepalive_ms = Some(d.u64()?),
                3 => welcome.ttl_s = Some(d.u64()?),
                _ => d.skip()?,
            }
            Ok(())
        })?;
        Ok(welcome)
    }
}

type DecodeError = minicbor::decode::Error;

/// Reads a map of definite length whose keys are ascending integers and which fills `body`.
fn decode_map(
    body: &[u8],
    mut field: impl FnMut(u64, &mut Decoder<'_>) -> Result<(), DecodeError>,
) -> Result<(), Violation> {
    let mut d = Decoder::new(body);
    let mut read = || -> Result<(), DecodeError> {
        let count = d.map()?.filter(|n| *n <= MAX_KEYS).ok_or_else(wrong)?;
        let mut last = None;
        for _ in 0..count {
            let key = match d.datatype()? {
                Type::U8 | Type::U16 | Type::U32 | Type::U64 => d.u64()?,
                _ => return Err(wrong()),
            };
            if last.is_some_and(|last| key <= last) {
                return Err(wrong());
            }
            last = Some(key);
            field(key, &mut d)?;
        }
        if d.position() == body.len() { Ok(()) } else { Err(wrong()) }
    };
    read().map_err(|_| Violation::Malformed)
}

fn bounded_name(name: &str) -> Result<String, DecodeError> {
    if name.len() > MAX_NAME { Err(wrong()) } else { Ok(name.to_owned()) }
}

fn wrong() -> DecodeError {
    DecodeError::message("not as PROTOCOL.md 3.3 wants it")
}

//! What the programs report, as NDJSON: one object a line, `v` 1, `event` says which. Fields may be
//! added within a version, never removed or changed. ac(7), JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::failure::Failure;
use super::sanitize::is_dangerous;
use crate::crypto::sodium::PublicKey;
use crate::relay::counts::Counts;

/// The version of these objects.
const VERSION: u8 = 1;
/// The most content that one object carries, in bytes.
pub const PART: usize = 64 * 1024;

/// One object.
#[derive(Serialize)]
struct Record<'a> {
    v: u8,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// What a key file claims beside its key; nothing proves it.
#[derive(Serialize)]
pub struct Hints<'a> {
    /// The petname that its owner suggests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// `HOST:PORT` each, in the order in which they are tried.
    pub address: &'a [String],
    /// Where messages go when no address works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<HintedRelay<'a>>,
}

/// The relay that a key file names.
#[derive(Serialize)]
#[serde(untagged)]
pub enum HintedRelay<'a> {
    /// One of the reader's own keyring.
    Petname {
        /// Its petname there.
        name: &'a str,
    },
    /// One that the file describes.
    Inline {
        /// `HOST:PORT` each.
        address: &'a [String],
        /// Of its key: 8 groups of 5 digits.
        fingerprint: String,
        /// Of its key and access: 8 groups of 5 digits.
        party: String,
    },
}

/// What happened.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A listener hears, at this address.
    Listening {
        /// `HOST:PORT`.
        address: &'a str,
        /// `tcp` or `udp`.
        transport: &'a str,
        /// Nothing is encrypted, and nobody proves a key.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        plain: bool,
    },
    /// Whether a listener hears what comes by a relay.
    Relay {
        /// The relay's petname, or what stands for one.
        relay: &'a str,
        /// `listening`: from the first time on, or again; `refused`: not all of it; `unreached`: it was not reached so far;
        /// `lost`: the link to it was cut. All that is tried again.
        status: &'a str,
        /// Why not.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    },
    /// An announcer answers for a listener at this address.
    Announcing {
        /// `HOST:PORT`.
        address: &'a str,
        /// `tcp` or `udp`.
        transport: &'a str,
    },
    /// The public key file of a relay, to be handed out.
    RelayKey {
        /// 8 groups of 5 digits.
        fingerprint: &'a str,
        /// The whole file.
        file: &'a str,
    },
    /// A relay tells its counts by HTTP, at this address.
    Metrics {
        /// `HOST:PORT`.
        address: &'a str,
    },
    /// What a relay holds and has done.
    RelayCounts {
        /// The numbers.
        #[serde(flatten)]
        counts: &'a Counts,
    },
    /// Somebody is on the local network or at a relay, or is not any more.
    Presence {
        /// Petname; of a group's member `GROUP/NAME`.
        name: &'a str,
        /// `online`, `away` or `forgotten`.
        status: &'a str,
        /// `HOST:PORT`, checked by a round trip, or `relay NAME`.
        address: &'a str,
        /// `tcp`, `udp` or `relay`.
        transport: &'a str,
        /// The name is what they say.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        unproven: bool,
        /// Of the key that introduced itself under that name.
        #[serde(skip_serializing_if = "Option::is_none")]
        fingerprint: Option<&'a str>,
    },
    /// Somebody chose to be seen by everybody, and says this; nothing of it is proven.
    PublicPresence {
        /// What they say that they are called.
        name: &'a str,
        /// `HOST:PORT`.
        address: &'a str,
        /// `tcp` or `udp`.
        transport: &'a str,
    },
    /// A key: one that a listener answers for, or one of a list.
    Key {
        /// 8 groups of 5 digits.
        fingerprint: &'a str,
        /// In a list: `public`, `secret`, `group` or `relay`.
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<&'a str>,
        /// In a list: its petname or path.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        /// In a list: what the file claims.
        #[serde(skip_serializing_if = "Option::is_none")]
        hints: Option<Hints<'a>>,
    },
    /// A key was filed.
    Imported {
        /// `contact`, `group` or `relay`.
        kind: &'a str,
        /// The petname that it has now.
        name: &'a str,
        /// 8 groups of 5 digits.
        fingerprint: &'a str,
        /// Where it is filed.
        file: &'a str,
        /// What the file claims.
        hints: Hints<'a>,
    },
    /// What two people compare over the phone.
    SafetyNumber {
        /// One of the pair: a petname or path.
        a: &'a str,
        /// The other.
        b: &'a str,
        /// 8 groups of 5 digits, the same at both ends.
        number: &'a str,
        /// What the key file of `a` claims; the number does not cover it.
        a_hints: Hints<'a>,
        /// What the key file of `b` claims.
        b_hints: Hints<'a>,
    },
    /// A message, or a part of one.
    Message {
        /// Names the message, hexadecimal.
        id: &'a str,
        /// Petname, or what stands for one.
        from: &'a str,
        /// The sender's public key, base64.
        key: &'a str,
        /// Whether the sender is a contact.
        known: bool,
        /// `tcp`, `udp` or `file`.
        transport: &'a str,
        /// The sender's clock, Unix ms.
        sent_ms: u64,
        /// When it began to arrive, Unix ms.
        arrived_ms: u64,
        /// Number of this part, from 0.
        seq: u64,
        /// Whether nothing of this message follows.
        last: bool,
        /// It ended before it was whole.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        cut: bool,
        /// The content, when it is UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        /// The content, when it is not.
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    },
    /// A message that was sent, or a part of one: a line of a chat, once it is known what came of
    /// it; or out of a history.
    SentMessage {
        /// Names the message, hexadecimal.
        id: &'a str,
        /// The recipient's petname then, or what stood for one.
        to: &'a str,
        /// The recipient's public key, base64.
        key: &'a str,
        /// Whether the recipient was a contact.
        known: bool,
        /// `tcp`, `udp` or `file`.
        transport: &'a str,
        /// When it began to be sent, Unix ms.
        sent_ms: u64,
        /// Number of this part, from 0.
        seq: u64,
        /// Whether nothing of this message follows.
        last: bool,
        /// With the last part: `delivered`, `sent`, `sealed` or `failed`.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'a str>,
        /// The content, when it is UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        /// The content, when it is not.
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    },
    /// A message without encryption, or a part of one. It is no `message`, so that whoever trusts
    /// those is not deceived.
    PlainMessage {
        /// Names the message, hexadecimal.
        id: &'a str,
        /// Where it came from, `HOST:PORT`: nobody vouches for that.
        address: &'a str,
        /// `tcp` or `udp`.
        transport: &'a str,
        /// When it began to arrive, Unix ms.
        arrived_ms: u64,
        /// Number of this part, from 0.
        seq: u64,
        /// Whether nothing of this message follows.
        last: bool,
        /// It ended before it was whole.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        cut: bool,
        /// The content, when it is UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        /// The content, when it is not.
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    },
    /// A message without encryption was written; its sender is told nothing.
    PlainReceived {
        /// Names the message, hexadecimal.
        id: &'a str,
        /// Where it came from, `HOST:PORT`.
        address: &'a str,
        /// Its length.
        bytes: u64,
    },
    /// A message was acknowledged to its sender.
    Delivered {
        /// Names the message, hexadecimal.
        id: &'a str,
        /// Petname, or what stands for one.
        from: &'a str,
        /// Its length.
        bytes: u64,
    },
    /// A message ended before it was whole.
    Cut {
        /// Names the message, hexadecimal.
        id: &'a str,
        /// Petname, or what stands for one.
        from: &'a str,
        /// Why.
        why: &'a str,
        /// Nothing was encrypted, and nobody proved a key.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        plain: bool,
    },
    /// What came of a file or a folder, or why something in a folder did not arrive.
    File {
        /// Names it, hexadecimal; not there when it was never sent.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        /// At the recipient: its sender's petname, or what stands for one.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<&'a str>,
        /// At the sender: the destination's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<&'a str>,
        /// Its name, as its sender has it.
        name: &'a str,
        /// `landed`, `delivered`, `declined`, `queued`, `failed` or `cut`.
        status: &'a str,
        /// Bytes that arrived, those from before this session included.
        bytes: u64,
        /// At the sender: of these, what was there before this session.
        #[serde(skip_serializing_if = "Option::is_none")]
        resumed: Option<u64>,
        /// Of a folder: entries that arrived in this session.
        #[serde(skip_serializing_if = "Option::is_none")]
        entries: Option<u64>,
        /// Where it landed.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<&'a str>,
        /// Why it did not arrive.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    },
    /// How far a file or a folder is; once a second at most.
    Progress {
        /// At the recipient: its sender's petname, or what stands for one.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<&'a str>,
        /// At the sender: the destination's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<&'a str>,
        /// Its name, as its sender has it.
        name: &'a str,
        /// Bytes that are on their way or there.
        bytes: u64,
        /// Bytes of all of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// A caller proved a key that is not heard.
    TurnedAway {
        /// Of the caller's key.
        fingerprint: &'a str,
    },
    /// Somebody has come to a limit, and waits.
    Limited {
        /// `clients`, `per_contact`, `per_address`, `connections`, `handshakes` or `messages`.
        limit: &'a str,
        /// Who, by petname or what stands for one, if they are let in already.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<&'a str>,
        /// Whose connections, if they are not: an address, or the upper half of one of IPv6.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<&'a str>,
    },
    /// A session begins.
    Connected {
        /// Petname, or what stands for one.
        peer: &'a str,
        /// `HOST:PORT`.
        address: &'a str,
        /// Nothing is encrypted, and nobody proved a key.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        plain: bool,
    },
    /// In a chat: somebody is not there any more.
    Disconnected {
        /// Petname, or what stands for one.
        peer: &'a str,
        /// The connection broke; otherwise they went in order.
        lost: bool,
    },
    /// What came of a destination.
    Result {
        /// The destination's name.
        to: &'a str,
        /// `delivered`, `there`, `sealed`, `sent`, `queued` or `failed`.
        status: &'a str,
        /// The exit code.
        code: u8,
        /// Bytes acknowledged.
        bytes: u64,
        /// Where, when somebody proved the key there.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<&'a str>,
        /// What went wrong.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
        /// What to do about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'a str>,
        /// Nothing was encrypted, and nobody proved a key.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        plain: bool,
    },
    /// The program ends with this.
    Error {
        /// The exit code.
        code: u8,
        /// What went wrong.
        error: &'a str,
        /// What to do about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'a str>,
    },
}

impl<'a> Event<'a> {
    /// A failure.
    pub fn error(failure: &'a Failure) -> Self {
        let hint = failure.hint.as_deref();
        Self::Error { code: failure.code as u8, error: &failure.message, hint }
    }
}

/// The object as one line.
pub fn line(event: &Event<'_>) -> String {
    let record = Record { v: VERSION, event };
    // Strings and numbers only: nothing in it can fail to serialise.
    let mut line = for_terminals(serde_json::to_string(&record).unwrap_or_default());
    line.push('\n');
    line
}

/// Escapes what JSON leaves as it is and a terminal may act on; all of it stands in strings.
fn for_terminals(json: String) -> String {
    if !json.contains(is_dangerous) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if is_dangerous(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// `content` in parts of at most [`PART`] bytes, between characters; one part, if there is nothing.
pub fn parts(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(content);
    std::iter::from_fn(move || {
        let content = rest.take()?;
        let cut =
            if content.len() > PART { whole_characters(&content[..PART]) } else { content.len() };
        let (part, more) = content.split_at(cut);
        rest = (!more.is_empty()).then_some(more);
        Some(part)
    })
}

/// How many of `bytes` to take so that no character of UTF-8 is split at the end.
pub fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        // Incomplete only at the end, and not all of it.
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => e.valid_up_to(),
        Err(e) if e.error_len().is_none() && bytes.len() < 4 => 0,
        _ => bytes.len(),
    }
}

/// Bytes as `text` if they are UTF-8, else as `base64`.
pub fn content(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// A public key in the form of key files.
pub fn key(public: &PublicKey) -> String {
    STANDARD.encode(public.as_bytes())
}

/// An id in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_content_is_divided_between_characters() {
        let long = "日本語".repeat(PART / 4);
        let said: Vec<&[u8]> = parts(long.as_bytes()).collect();
        assert!(said.len() >= 2 && said.iter().all(|part| part.len() <= PART));
        assert!(said.iter().all(|part| std::str::from_utf8(part).is_ok()));
        assert_eq!(said.concat(), long.as_bytes());
        let noise = vec![0x80; 3 * PART];
        assert_eq!(parts(&noise).collect::<Vec<_>>().concat(), noise);
        assert_eq!(parts(b"").collect::<Vec<_>>(), [b""]);
    }
}

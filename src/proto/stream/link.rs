//! An established session over bytes that come and go in pieces of any size.

use std::time::Duration;

use super::outgoing::Outgoing;
use super::record::{HEADER_LEN, Kind, MAX_BODY, Violation};
use super::session::{PlainBuffer, Session};
use crate::crypto::noise::MAX_MESSAGE;
use crate::proto::time::Now;

/// The longest record, its length in front included, in bytes.
pub const MAX_RECORD: usize = 2 + MAX_MESSAGE;
/// A side that has nothing to send shows that it lives at least this often.
pub const KEEPALIVE: Duration = Duration::from_secs(10);
/// The most often that a peer can ask for a sign of life.
const SHORTEST_KEEPALIVE: Duration = Duration::from_millis(100);

/// A session, the start of a record that is not complete yet, and bytes on their way out.
pub struct Link {
    session: Session,
    partial: Vec<u8>,
    out: Outgoing,
    heard: Duration,
    sent: Duration,
    keepalive: Duration,
    trace: Option<Vec<Crossing>>,
}

/// What crossed the wire beside what it meant, for people who want to see the sealing work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// From us to the peer.
    pub outgoing: bool,
    /// How many bytes there were on the wire.
    pub wire_len: usize,
    /// The first of them.
    pub wire_head: Vec<u8>,
    /// What they meant.
    pub meaning: String,
    /// The first bytes of the content, if there was any.
    pub content: Vec<u8>,
}

impl Crossing {
    /// Bytes that nothing seals: the wire is the content.
    pub fn unsealed(outgoing: bool, bytes: &[u8]) -> Self {
        let head = bytes[..bytes.len().min(TRACE_BYTES)].to_vec();
        let meaning = format!("PLAIN, not encrypted, {} bytes", bytes.len());
        Self { outgoing, wire_len: bytes.len(), wire_head: head.clone(), meaning, content: head }
    }
}

/// How many bytes of wire and content a [`Crossing`] shows.
pub const TRACE_BYTES: usize = 24;

impl Crossing {
    /// A handshake message of `wire_len` bytes, of which `head` are the first.
    pub fn handshake(outgoing: bool, wire_len: usize, head: &[u8], meaning: &str) -> Self {
        Self {
            outgoing,
            wire_len,
            wire_head: head[..head.len().min(TRACE_BYTES)].to_vec(),
            meaning: meaning.to_owned(),
            content: Vec::new(),
        }
    }
}

impl Link {
    /// A link that starts now. With `trace`, everything that crosses it is noted.
    pub fn new(session: Session, now: Now, trace: bool) -> Self {
        Self {
            session,
            partial: Vec::new(),
            out: Outgoing::default(),
            heard: now.mono,
            sent: now.mono,
            keepalive: KEEPALIVE,
            trace: trace.then(Vec::new),
        }
    }

    /// Takes bytes from the peer and hands on each whole record; what DATA says in several is handed on
    /// as one, as far as `plain` has room.
    ///
    /// # Errors
    /// The first [`Violation`], the callback's own included: the link is of no more use then.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        now: Now,
        plain: &mut PlainBuffer,
        mut each: impl FnMut(Kind, &[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if !input.is_empty() {
            self.heard = now.mono;
        }
        let mut data = None;
        if !self.partial.is_empty() {
            let missing = missing(&self.partial);
            let (head, rest) = input.split_at(missing.min(input.len()));
            self.partial.extend_from_slice(head);
            input = rest;
            // With only one byte of the length there, the length itself was what was missing.
            let missing = self::missing(&self.partial);
            let (head, rest) = input.split_at(missing.min(input.len()));
            self.partial.extend_from_slice(head);
            input = rest;
            if self::missing(&self.partial) > 0 {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.partial);
            self.open_one(&whole, plain, &mut data, &mut each)?;
        }
        while missing(input) == 0 {
            let (record, rest) = input.split_at(record_len(input));
            self.open_one(record, plain, &mut data, &mut each)?;
            input = rest;
        }
        self.partial.extend_from_slice(input);
        hand_on(plain, &mut data, &mut each)
    }

    /// How many bytes of a record are here whose rest has not come.
    pub fn begun(&self) -> usize {
        self.partial.len()
    }

    /// Opens a record behind the `data` bytes of DATA that stand in `plain` and are not handed on: 0 is
    /// an empty record, which has its place in the order like any other.
    fn open_one(
        &mut self,
        record: &[u8],
        plain: &mut [u8],
        data: &mut Option<usize>,
        each: &mut impl FnMut(Kind, &[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if plain.len() - data.unwrap_or(0) < record.len() {
            hand_on(plain, data, each)?;
        }
        let before = data.unwrap_or(0);
        let space = &mut plain[before..];
        // The record's header comes to stand where DATA ends.
        let (head, _) = space.split_at(HEADER_LEN);
        let end = [head[0], head[1], head[2]];
        let opened = self.session.open(&record[2..], space);
        if let (Some(trace), Ok((kind, body))) = (&mut self.trace, &opened) {
            trace.push(crossing(false, record, *kind, body));
        }
        let opened = opened.map(|(kind, body)| (kind, body.len()));
        space[..HEADER_LEN].copy_from_slice(&end);
        match opened {
            Ok((Kind::Data, len)) => {
                *data = Some(before + len);
                Ok(())
            }
            Ok((kind, len)) => {
                let begin = before + HEADER_LEN;
                hand_on(plain, data, each)?;
                each(kind, &plain[begin..begin + len])
            }
            Err(violation) => hand_on(plain, data, each).and(Err(violation)),
        }
    }

    /// Queues one record.
    pub fn send(&mut self, kind: Kind, body: &[u8], now: Now) {
        let start = self.out.pending().len();
        self.session.seal(kind, body, &mut self.out);
        self.sent = now.mono;
        if let Some(trace) = &mut self.trace {
            trace.push(crossing(true, &self.out.pending()[start..], kind, body));
        }
    }

    /// Room for bytes of DATA; see [`Link::send_data`].
    pub fn data_space(&mut self) -> &mut [u8] {
        self.session.data_space()
    }

    /// Queues the first `len` bytes of [`Link::data_space`] as DATA.
    pub fn send_data(&mut self, len: usize, now: Now) {
        self.sent = now.mono;
        let Some(trace) = &mut self.trace else {
            return self.session.seal_data(len, &mut self.out);
        };
        // Sealing leaves nothing to show.
        let shown: Vec<_> = self.session.data_space()[..len]
            .chunks(MAX_BODY)
            .map(|body| (body.len(), body[..body.len().min(TRACE_BYTES)].to_vec()))
            .collect();
        let mut start = self.out.pending().len();
        self.session.seal_data(len, &mut self.out);
        for (len, head) in shown {
            let wire = &self.out.pending()[start..];
            let (record, _) = wire.split_at(record_len(wire));
            start += record.len();
            let mut crossed = crossing(true, record, Kind::Data, &head);
            crossed.meaning = meaning(Kind::Data, len);
            trace.push(crossed);
        }
    }

    /// Queues raw bytes that precede the records: the handshake's last message.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.out.room(bytes.len()).copy_from_slice(bytes);
    }

    /// Notes what crossed the wire before there was a link, if anything is noted.
    pub fn note(&mut self, crossings: impl IntoIterator<Item = Crossing>) {
        if let Some(trace) = &mut self.trace {
            trace.extend(crossings);
        }
    }

    /// What is to be written to the peer next.
    pub fn pending(&self) -> &[u8] {
        self.out.pending()
    }

    /// The first `len` bytes of [`Link::pending`] are on their way.
    pub fn consumed(&mut self, len: usize) {
        self.out.consumed(len);
    }

    /// The peer asked for a sign of life at least every `ms` milliseconds.
    pub fn ask_keepalive(&mut self, ms: u64) {
        self.keepalive = Duration::from_millis(ms).clamp(SHORTEST_KEEPALIVE, KEEPALIVE);
    }

    /// When the next sign of life is due.
    pub fn keepalive_at(&self) -> Duration {
        self.sent + self.keepalive
    }

    /// Queues a sign of life if one is due. Bytes that the peer does not take are no sign, and
    /// another would only lengthen the queue.
    pub fn keep_alive(&mut self, now: Now) {
        if now.mono < self.keepalive_at() {
            return;
        }
        if self.pending().is_empty() {
            self.send(Kind::Pad, &[], now);
        } else {
            self.sent = now.mono;
        }
    }

    /// When the peer was heard last. While we do not read, the caller moves it on.
    pub fn heard(&self) -> Duration {
        self.heard
    }

    /// We did not listen until now, so that the peer's silence starts now.
    pub fn excuse_silence(&mut self, now: Now) {
        self.heard = now.mono;
    }

    /// What crossed since the last call, if it is noted.
    pub fn take_trace(&mut self) -> Vec<Crossing> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Hands on the `data` bytes of DATA that stand in `plain`.
fn hand_on(
    plain: &[u8],
    data: &mut Option<usize>,
    each: &mut impl FnMut(Kind, &[u8]) -> Result<(), Violation>,
) -> Result<(), Violation> {
    match data.take() {
        None => Ok(()),
        Some(len) => each(Kind::Data, &plain[HEADER_LEN..HEADER_LEN + len]),
    }
}

/// The length of the record at the start of `bytes`, its own two length bytes included.
fn record_len(bytes: &[u8]) -> usize {
    2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// How many bytes are missing until `bytes` hold a whole record, or its length.
fn missing(bytes: &[u8]) -> usize {
    match bytes.len() {
        have @ 0..2 => 2 - have,
        have => record_len(bytes).saturating_sub(have),
    }
}

fn crossing(outgoing: bool, wire: &[u8], kind: Kind, body: &[u8]) -> Crossing {
    Crossing {
        outgoing,
        wire_len: wire.len(),
        wire_head: wire[..wire.len().min(TRACE_BYTES)].to_vec(),
        meaning: meaning(kind, body.len()),
        content: if kind == Kind::Data {
            body[..body.len().min(TRACE_BYTES)].to_vec()
        } else {
            Vec::new()
        },
    }
}

fn meaning(kind: Kind, body_len: usize) -> String {
    let name = match kind {
        Kind::Meta => "META",
        Kind::Data => "DATA",
        Kind::End => "END",
        Kind::Ack => "ACK",
        Kind::Refuse => "REFUSE",
        Kind::Pad => "PAD",
        Kind::Resume => "RESUME",
        Kind::Abort => "ABORT",
        Kind::Welcome => "WELCOME",
    };
    format!("{name}, {body_len} bytes")
}

//! A session after its handshake: records sealed one way and opened the other. PROTOCOL.md, 3.2.

use snow::{HandshakeState, TransportState};

use super::handshake::HandshakeError;
use super::outgoing::Outgoing;
use super::record::{self, HEADER_LEN, Kind, MAX_BODY, MAX_PLAIN, Violation};
use crate::crypto::noise::{HASH_LEN, TAG_LEN};

/// Each direction rekeys (Noise, section 11.3) after this many records.
pub const REKEY_AFTER: u32 = 1 << 14;

/// Records of DATA that are filled at once and sealed one after another, at most.
const RUN: usize = 4;
/// The most that fits into [`Session::data_space`], in bytes.
pub const MAX_RUN: usize = RUN * MAX_BODY;

/// Room for opened records, one of any length at least; one buffer can serve many sessions.
pub type PlainBuffer = Box<[u8]>;

/// A [`PlainBuffer`] for one record.
pub fn plain_buffer() -> PlainBuffer {
    plain_buffer_for(1)
}

/// A [`PlainBuffer`] for several: what DATA says in so many is handed on as one.
pub fn plain_buffer_for(records: usize) -> PlainBuffer {
    vec![0; records.max(1) * MAX_PLAIN].into()
}

/// Two cipher states, their record counts, and a buffer for what is being sealed, which is wiped in the
/// end.
pub struct Session {
    noise: TransportState,
    hash: [u8; HASH_LEN],
    sent: u32,
    received: u32,
    plain: Vec<u8>,
}

impl Session {
    pub(super) fn new(finished: HandshakeState) -> Result<Self, HandshakeError> {
        let mut hash = [0; HASH_LEN];
        hash.copy_from_slice(finished.get_handshake_hash());
        let noise = finished.into_transport_mode().map_err(|_| HandshakeError::Internal)?;
        Ok(Self { noise, hash, sent: 0, received: 0, plain: Vec::new() })
    }

    /// Noise's handshake hash: the same 64 bytes at both ends, and at no other session.
    pub fn handshake_hash(&self) -> &[u8; HASH_LEN] {
        &self.hash
    }

    /// Whether this end made the call.
    pub fn is_initiator(&self) -> bool {
        self.noise.is_initiator()
    }

    /// Appends one record, its length in front, to `out`. `body` is at most [`MAX_BODY`] bytes.
    pub fn seal(&mut self, kind: Kind, body: &[u8], out: &mut Outgoing) {
        debug_assert!(body.len() <= MAX_BODY);
        let longest = record::padded_len(HEADER_LEN + body.len());
        if self.plain.len() < longest {
            self.plain.resize(longest, 0);
        }
        self.plain[HEADER_LEN..HEADER_LEN + body.len()].copy_from_slice(body);
        self.seal_at(0, kind, body.len(), out);
    }

    /// Room for [`MAX_RUN`] bytes of DATA, to be filled in place and sealed by [`Session::seal_data`]:
    /// a bulk sender copies nothing.
    pub fn data_space(&mut self) -> &mut [u8] {
        if self.plain.len() < HEADER_LEN + MAX_RUN {
            crate::crypto::sodium::wipe(&mut self.plain);
            // New memory is zero already, and what is never used of it is never touched.
            self.plain = vec![0; HEADER_LEN + MAX_RUN];
        }
        &mut self.plain[HEADER_LEN..]
    }

    /// Seals the first `len` bytes of [`Session::data_space`] as DATA, in as many records as it takes.
    pub fn seal_data(&mut self, len: usize, out: &mut Outgoing) {
        debug_assert!(len <= MAX_RUN);
        for start in (0..len.max(1)).step_by(MAX_BODY) {
            self.seal_at(start, Kind::Data, MAX_BODY.min(len - start), out);
        }
    }

    /// Seals the body that stands [`HEADER_LEN`] bytes behind `start` in the buffer. Its header
    /// overwrites the end of a body that was sealed before, its padding what comes after the last one.
    fn seal_at(&mut self, start: usize, kind: Kind, body_len: usize, out: &mut Outgoing) {
        let len = HEADER_LEN + body_len;
        let padded_len = record::padded_len(len);
        let mut plain = std::mem::take(&mut self.plain);
        let record = &mut plain[start..start + padded_len];
        record[..HEADER_LEN].copy_from_slice(&record::header(kind, body_len));
        record[len..].fill(0);
        self.seal_into(record, out.room(2 + padded_len + TAG_LEN));
        self.plain = plain;
    }

    /// Appends one record whose plaintext is `plain` as it stands: a relay's cell.
    pub fn seal_whole(&mut self, plain: &[u8], out: &mut Outgoing) {
        self.seal_into(plain, out.room(2 + plain.len() + TAG_LEN));
    }

    /// Makes one record of `plain`; `record` is as long as that needs.
    fn seal_into(&mut self, plain: &[u8], record: &mut [u8]) {
        let (length, sealed) = record.split_at_mut(2);
        length.copy_from_slice(&(sealed.len() as u16).to_be_bytes());
        // Fails only after 2^64 records: no plaintext of ours is longer than Noise takes.
        let written = self.noise.write_message(plain, sealed);
        assert!(matches!(written, Ok(len) if len == sealed.len()), "a record did not seal");
        self.count_sent();
    }

    /// Opens one record (without its length) whose plaintext is exactly `plain`.
    ///
    /// # Errors
    /// [`Violation`]: the session is of no more use.
    pub fn open_whole(&mut self, sealed: &[u8], plain: &mut [u8]) -> Result<(), Violation> {
        if sealed.len() != plain.len() + TAG_LEN {
            return Err(Violation::Malformed);
        }
        self.noise.read_message(sealed, plain).map_err(|_| Violation::NotOpened)?;
        self.count_received();
        Ok(())
    }

    fn count_sent(&mut self) {
        self.sent += 1;
        if self.sent == REKEY_AFTER {
            self.noise.rekey_outgoing();
            self.sent = 0;
        }
    }

    fn count_received(&mut self) {
        self.received += 1;
        if self.received == REKEY_AFTER {
            self.noise.rekey_incoming();
            self.received = 0;
        }
    }

    /// Opens one record (without its length) into `plain`, which has room for it.
    ///
    /// # Errors
    /// [`Violation`]: the session is of no more use.
    pub fn open<'a>(
        &mut self,
        sealed: &[u8],
        plain: &'a mut [u8],
    ) -> Result<(Kind, &'a [u8]), Violation> {
        let len = self.noise.read_message(sealed, plain).map_err(|_| Violation::NotOpened)?;
        self.count_received();
        record::parse(&plain[..len])
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        crate::crypto::sodium::wipe(&mut self.plain);
    }
}

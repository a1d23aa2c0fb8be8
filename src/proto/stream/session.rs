//! A session after its handshake: records sealed one way and opened the other. PROTOCOL.md, 3.2.

use snow::{HandshakeState, TransportState};

use super::handshake::HandshakeError;
use super::record::{self, HEADER_LEN, Kind, MAX_BODY, MAX_PLAIN, Violation};
use crate::crypto::noise::{HASH_LEN, TAG_LEN};

/// Each direction rekeys (Noise, section 11.3) after this many records.
pub const REKEY_AFTER: u32 = 1 << 14;

/// Room for one opened record; one can serve many sessions.
pub type PlainBuffer = Box<[u8; MAX_PLAIN]>;

/// A [`PlainBuffer`] of zeros.
pub fn plain_buffer() -> PlainBuffer {
    Box::new([0; MAX_PLAIN])
}

/// Two cipher states, their record counts, and a buffer for what is being sealed.
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
    pub fn seal(&mut self, kind: Kind, body: &[u8], out: &mut Vec<u8>) {
        debug_assert!(body.len() <= MAX_BODY);
        self.plain.clear();
        self.plain.extend_from_slice(&[0; HEADER_LEN]);
        self.plain.extend_from_slice(body);
        self.seal_plain(kind, body.len(), out);
    }

    /// Room for the body of a DATA record, to be filled in place and sealed by
    /// [`Session::seal_data`]: a bulk sender copies nothing.
    pub fn data_space(&mut self) -> &mut [u8] {
        self.plain.resize(MAX_PLAIN, 0);
        &mut self.plain[HEADER_LEN..HEADER_LEN + MAX_BODY]
    }

    /// Seals the first `len` bytes of [`Session::data_space`] as one DATA record.
    pub fn seal_data(&mut self, len: usize, out: &mut Vec<u8>) {
        self.plain.truncate(HEADER_LEN + len);
        self.seal_plain(Kind::Data, len, out);
    }

    fn seal_plain(&mut self, kind: Kind, body_len: usize, out: &mut Vec<u8>) {
        self.plain[..HEADER_LEN].copy_from_slice(&record::header(kind, body_len));
        self.plain.resize(record::padded_len(HEADER_LEN + body_len), 0);
        let plain = std::mem::take(&mut self.plain);
        self.seal_whole(&plain, out);
        self.plain = plain;
    }

    /// Appends one record whose plaintext is `plain` as it stands: a relay's cell.
    pub fn seal_whole(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let sealed_len = plain.len() + TAG_LEN;
        out.extend_from_slice(&(sealed_len as u16).to_be_bytes());
        out.resize(start + 2 + sealed_len, 0);
        // Fails only after 2^64 records: no plaintext of ours is longer than Noise takes.
        let sealed = self.noise.write_message(plain, &mut out[start + 2..]);
        assert!(matches!(sealed, Ok(len) if len == sealed_len), "a record did not seal");
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

    /// Opens one record (without its length) into `plain`.
    ///
    /// # Errors
    /// [`Violation`]: the session is of no more use.
    pub fn open<'a>(
        &mut self,
        sealed: &[u8],
        plain: &'a mut PlainBuffer,
    ) -> Result<(Kind, &'a [u8]), Violation> {
        let len =
            self.noise.read_message(sealed, &mut plain[..]).map_err(|_| Violation::NotOpened)?;
        self.count_received();
        record::parse(&plain[..len])
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        crate::crypto::sodium::wipe(&mut self.plain);
    }
}

//! Acknowledgements: they open nothing, cannot be forged without having opened the packet, and
//! work for anonymous senders. PROTOCOL.md, 4.3.

use super::packet::MessageId;
use crate::crypto::sodium::keyed_hash;

/// Size of one ack, in bytes.
pub const ACK_LEN: usize = 32;
/// The most acks that a datagram may have: 1184 bytes, less than any packet that they answer.
pub const MAX_ACKS: usize = 37;
/// Acks that are gathered in one datagram, so that its loss does not cost a whole window.
pub const GATHERED: usize = 4;
/// Stands for the whole message where the number of a fragment would.
pub const WHOLE: u16 = 0xffff;

/// One ack.
pub type Ack = [u8; ACK_LEN];

/// What an ack says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// This fragment was received.
    Received = 0,
    /// The whole message was delivered and flushed.
    Delivered = 1,
    /// The whole message, and with it its run, was declined.
    Declined = 2,
}

/// `H[32](ack_key; "AnonChat v1 ack" ‖ message id ‖ fragment ‖ status)`.
pub fn ack(key: &[u8; 32], id: MessageId, fragment: u16, status: Status) -> Ack {
    let (fragment, status) = (fragment.to_be_bytes(), [status as u8]);
    keyed_hash(key, &[b"AnonChat v1 ack", &id.to_bytes(), &fragment, &status])
}

/// The acks in a datagram; `None` if it has not the form of one.
pub fn parse(datagram: &[u8]) -> Option<&[Ack]> {
    let (acks, rest) = datagram.as_chunks();
    (rest.is_empty() && (1..=MAX_ACKS).contains(&acks.len())).then_some(acks)
}

/// Acks on their way out, gathered by destination.
pub(super) struct AckQueue<S> {
    datagrams: Vec<AckDatagram<S>>,
}

/// A datagram of acks, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckDatagram<S> {
    /// Where the packets came from that it answers.
    pub to: S,
    /// One to [`GATHERED`] acks of [`ACK_LEN`] bytes.
    pub bytes: Vec<u8>,
}

impl<S: Clone + PartialEq> AckQueue<S> {
    /// Datagrams that wait at most. Acks beyond are dropped: the sender asks again.
    const CAPACITY: usize = 1024;

    pub(super) fn new() -> Self {
        Self { datagrams: Vec::new() }
    }

    pub(super) fn push(&mut self, to: &S, ack: &Ack) {
        let room = |d: &&mut AckDatagram<S>| d.to == *to && d.bytes.len() < GATHERED * ACK_LEN;
        if let Some(datagram) = self.datagrams.iter_mut().rev().find(room) {
            datagram.bytes.extend_from_slice(ack);
        } else if self.datagrams.len() < Self::CAPACITY {
            self.datagrams.push(AckDatagram { to: to.clone(), bytes: ack.to_vec() });
        }
    }

    pub(super) fn take(&mut self) -> Vec<AckDatagram<S>> {
        std::mem::take(&mut self.datagrams)
    }
}

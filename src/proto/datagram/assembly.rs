//! One message in the making: fragments in any order, each once. PROTOCOL.md, 4.2 and 4.4.

use super::packet::{FRAGMENT_LEN, Opened};
use crate::crypto::sodium::{Secret, constant_time_eq};

/// What all packets of a message have in common; one that differs is not of that message.
pub(super) struct Shape {
    pub(super) ack_key: Secret<32>,
    pub(super) time_ms: u64,
    pub(super) of: u16,
    pub(super) more: bool,
}

impl Shape {
    pub(super) fn of(packet: &Opened) -> Self {
        let mut ack_key = Secret::zeroed();
        ack_key.expose_mut().copy_from_slice(packet.ack_key());
        Self { ack_key, time_ms: packet.time_ms(), of: packet.of(), more: packet.more() }
    }

    pub(super) fn fits(&self, packet: &Opened) -> bool {
        self.time_ms == packet.time_ms()
            && self.of == packet.of()
            && self.more == packet.more()
            && constant_time_eq(self.ack_key.expose(), packet.ack_key())
    }

    /// The most bytes that a message of this shape holds.
    pub(super) fn room(&self) -> usize {
        usize::from(self.of) * FRAGMENT_LEN
    }
}

/// The fragments that came so far.
#[derive(Default)]
pub(super) struct Assembly {
    body: Vec<u8>,
    /// One bit a fragment.
    have: u64,
    /// Length of the last fragment, once it is there.
    tail: usize,
}

impl Assembly {
    /// Takes a fragment in, if it is not there yet; `packet` fits the message's shape.
    pub(super) fn put(&mut self, packet: &Opened) {
        let bit = 1 << packet.fragment();
        if self.have & bit != 0 {
            return;
        }
        self.have |= bit;
        let start = usize::from(packet.fragment()) * FRAGMENT_LEN;
        let end = start + packet.body().len();
        if self.body.len() < end {
            self.body.resize(end, 0);
        }
        self.body[start..end].copy_from_slice(packet.body());
        if packet.fragment() + 1 == packet.of() {
            self.tail = end;
        }
    }

    /// The whole body, if all `of` fragments are there.
    pub(super) fn finish(&mut self, of: u16) -> Option<Vec<u8>> {
        if self.have.count_ones() != u32::from(of) {
            return None;
        }
        self.body.truncate(self.tail);
        Some(std::mem::take(&mut self.body))
    }
}

//! One run as its receiver sees it. PROTOCOL.md, 4.4.

use std::time::Duration;

use super::ack::{Ack, Status, WHOLE, ack};
use super::assembly::{Assembly, Shape};
use super::packet::{MessageId, Opened};
use super::replay::RunKey;
use crate::proto::time::Now;

/// How far the current message of a run is.
pub(super) enum State {
    /// Fragments are missing.
    Partial(Assembly),
    /// The caller has it.
    Held,
    /// Flushed; with [`Shape::more`] the next is awaited.
    Delivered,
    /// Declined from this sequence on.
    Declined(u64),
    /// Given up: silence.
    Cut,
}

/// What a packet is to a run.
pub(super) enum Place {
    /// Of the current message, or of one that is declined whatever it says.
    Current,
    /// The first packet of the next message.
    Next,
    /// Of a later message, although this one is not complete: something was lost for good, since
    /// only a sender that asks for no acks goes on without one.
    Gap,
    /// Past, inconsistent, or too early: silence.
    Nowhere,
}

/// A run, its current message and its sender's present address.
pub(super) struct Run<S> {
    pub(super) sequence: u64,
    pub(super) shape: Shape,
    pub(super) state: State,
    pub(super) source: S,
    pub(super) touched: Duration,
}

impl<S> Run<S> {
    pub(super) fn new(packet: &Opened, state: State, source: S, now: Now) -> Self {
        let (sequence, shape) = (packet.id().sequence, Shape::of(packet));
        Self { sequence, shape, state, source, touched: now.mono }
    }

    /// Whether silence alone may end it. What the caller holds waits for the caller.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Partial(_)) || self.awaits_next()
    }

    fn awaits_next(&self) -> bool {
        matches!(self.state, State::Delivered) && self.shape.more
    }

    pub(super) fn silence(&self, now: Now) -> Duration {
        now.mono.saturating_sub(self.touched)
    }

    pub(super) fn place(&self, packet: &Opened) -> Place {
        let sequence = packet.id().sequence;
        if matches!(self.state, State::Declined(from) if sequence >= from) {
            return Place::Current;
        }
        if sequence == self.sequence && self.shape.fits(packet) {
            return Place::Current;
        }
        if self.awaits_next() && Some(sequence) == self.sequence.checked_add(1) {
            return Place::Next;
        }
        if sequence > self.sequence && self.is_waiting() && self.shape.more {
            return Place::Gap;
        }
        Place::Nowhere
    }

    /// What to answer to a packet that has [`Place::Current`].
    pub(super) fn status(&self, packet: &Opened) -> Option<(u16, Status)> {
        match self.state {
            State::Partial(_) | State::Held => Some((packet.fragment(), Status::Received)),
            State::Declined(from) if packet.id().sequence >= from => {
                Some((WHOLE, Status::Declined))
            }
            State::Delivered | State::Declined(_) => Some((WHOLE, Status::Delivered)),
            State::Cut => None,
        }
    }

    /// Goes on to the next message.
    pub(super) fn advance(&mut self, packet: &Opened) {
        self.sequence = packet.id().sequence;
        self.shape = Shape::of(packet);
        self.state = State::Partial(Assembly::default());
    }

    /// Takes a fragment of the current message in; the body, if that completes it.
    pub(super) fn put(&mut self, packet: &Opened) -> Option<Vec<u8>> {
        let State::Partial(assembly) = &mut self.state else { return None };
        assembly.put(packet);
        let body = assembly.finish(self.shape.of)?;
        self.state = State::Held;
        Some(body)
    }

    /// The ack of the current message as a whole.
    pub(super) fn whole(&self, key: &RunKey, status: Status) -> Ack {
        let id = MessageId { run: key.run, sequence: self.sequence };
        ack(self.shape.ack_key.expose(), id, WHOLE, status)
    }

    /// Declines what is not delivered yet; `false` if nothing of that kind is left.
    pub(super) fn decline(&mut self) -> bool {
        let from = match self.state {
            State::Partial(_) | State::Held => self.sequence,
            State::Delivered if self.shape.more => self.sequence.saturating_add(1),
            _ => return false,
        };
        self.state = State::Declined(from);
        true
    }
}

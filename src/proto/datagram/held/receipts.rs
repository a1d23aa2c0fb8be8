//! What senders are told of their messages, and when. PROTOCOL.md, 5.5.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Local;
use crate::crypto::sodium::{Random, Secret};
use crate::proto::datagram::ack::Status;
use crate::proto::datagram::packet::{MessageId, PACKET_LEN};
use crate::proto::datagram::receipt::{self, Receipted};
use crate::proto::datagram::replay::RunKey;
use crate::proto::relay::cell::Address;
use crate::proto::relay::mailbox::{Channel, epoch};
use crate::proto::time::{CLOCK_WINDOW_MS, Now};

/// A message that was not delivered after so long has its sender told that it is here.
pub(super) const TOLD_AFTER: Duration = Duration::from_millis(200);
/// How often that is said again.
pub(super) const TOLD_EVERY: Duration = Duration::from_secs(10);
/// For how long: a sender that waits longer has ended by itself.
pub(super) const TOLD_FOR: Duration = Duration::from_secs(3600);
/// The sender of a message that is older than this, in milliseconds, waits for no receipt: ten
/// minutes, by a clock that may be behind ours.
const AWAITED_MS: u64 = 10 * 60 * 1000 + CLOCK_WINDOW_MS;

/// A packet to be posted.
pub struct Posting<'a, S> {
    /// It answers a packet that came in this cell, and goes by the same relay.
    pub answers: &'a S,
    /// The mailbox.
    pub address: Address,
    /// The packet.
    pub packet: &'a [u8; PACKET_LEN],
    /// It is for who reads the mailbox now.
    pub volatile: bool,
}

/// A receipt that is due.
pub(super) struct Due<S> {
    pub key: RunKey,
    pub ack_key: Secret<32>,
    pub time_ms: u64,
    pub status: Status,
    pub answers: S,
}

/// Receipts that are due, or will be.
pub(super) struct Receipts<S> {
    due: Vec<Due<S>>,
    /// Whole messages whose senders are to be told that they are here, by when.
    to_tell: BTreeSet<(Duration, RunKey)>,
    /// When that is, of each: once, however often it asks.
    told_at: BTreeMap<RunKey, Duration>,
}

impl<S> Receipts<S> {
    /// None.
    pub fn new() -> Self {
        Self { due: Vec::new(), to_tell: BTreeSet::new(), told_at: BTreeMap::new() }
    }

    /// One more.
    pub fn push(&mut self, due: Due<S>) {
        self.due.push(due);
    }

    /// Whether one for `key` is due.
    pub fn is_due(&self, key: &RunKey) -> bool {
        self.due.iter().any(|due| due.key == *key)
    }

    /// The sender of `key` is to be told at `at`, or before, that it is here.
    pub fn tell_at(&mut self, at: Duration, key: RunKey) {
        let before = self.told_at.get(&key).copied();
        if before.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(before) = before {
            self.to_tell.remove(&(before, key));
        }
        self.told_at.insert(key, at);
        self.to_tell.insert((at, key));
    }

    /// Whose sender is to be told now, if it is still true.
    pub fn take_told(&mut self, now: Now) -> Option<RunKey> {
        self.to_tell.first().filter(|(at, _)| *at <= now.mono)?;
        let (_, key) = self.to_tell.pop_first()?;
        self.told_at.remove(&key);
        Some(key)
    }

    /// Seals those that are due, and hands each to `post`.
    pub fn seal(
        &mut self,
        locals: &[Local],
        now: Now,
        rng: &mut dyn Random,
        mut post: impl FnMut(Posting<'_, S>),
    ) {
        for due in std::mem::take(&mut self.due) {
            let id = MessageId { run: due.key.run, sequence: 0 };
            let channel = Channel::receipts(due.ack_key.expose(), id);
            let mailbox = channel.at(&due.key.sender, epoch(due.time_ms));
            let Some(address) = mailbox.map(|mailbox| mailbox.address) else { continue };
            let me = locals[due.key.local].key.keys();
            let of = Receipted { sender: &due.key.sender, id, ack_key: due.ack_key.expose() };
            let mut packet = [0; PACKET_LEN];
            receipt::seal(me, &of, due.status, now, rng, &mut packet);
            // Who is not there any more needs none: it would lie at the relay until it is too old.
            let volatile = due.status == Status::Received || !is_awaited(due.time_ms, now);
            post(Posting { answers: &due.answers, address, packet: &packet, volatile });
        }
    }

    /// When there is something to do, on [`Now::mono`].
    pub fn next_timeout(&self) -> Option<Duration> {
        let due = (!self.due.is_empty()).then_some(Duration::ZERO);
        due.or_else(|| self.to_tell.first().map(|(at, _)| *at))
    }
}

/// Whether the sender of a message may still wait for what comes of it.
pub(super) fn is_awaited(time_ms: u64, now: Now) -> bool {
    now.unix_ms.saturating_sub(time_ms) <= AWAITED_MS
}

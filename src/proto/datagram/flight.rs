//! The message that a sender has in flight: which fragments are out, acked, lost. PROTOCOL.md, 4.4.

use std::collections::HashMap;
use std::time::Duration;

use super::ack::{Ack, Status, WHOLE, ack};
use super::packet::{MessageId, fragments};
use super::path::Path;
use crate::crypto::sodium::{Random, Secret};
use crate::proto::time::Now;

/// A transmission counts as lost when one made this much later was acked.
const REORDERING: u64 = 4;

/// The longest pause between two questions for the status of a message that is received.
pub(super) const MAX_ASK_PAUSE: Duration = Duration::from_secs(5);
/// A message that waits for its status for so long is shown again whole: its recipient may have been
/// restarted, has then only what it was shown since, and cannot say so.
const SHOW_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// After silence it is shown again at once, no more often than this.
const DOUBT_PAUSE: Duration = Duration::from_secs(10);

/// Without acks: packets sent back to back, and the pause after them, so that a receiver's socket
/// buffer (about 90 packets on Linux) does not overflow.
const BURST: usize = 16;
const BURST_PAUSE: Duration = Duration::from_millis(4);
/// Without acks: the pause after a message that another follows. A recipient holds the beginning of
/// a run for 200 ms before it flows, and rejects the next message until this one is delivered.
const MESSAGE_PAUSE: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Default)]
struct Fragment {
    /// The last transmission, and the one before.
    sent_at: Duration,
    sent_before: Duration,
    number: u64,
    transmissions: u32,
    acked: bool,
    lost: bool,
}

impl Fragment {
    fn is_out(&self) -> bool {
        self.transmissions > 0 && !self.acked && !self.lost
    }

    fn is_due(&self) -> bool {
        !self.acked && (self.transmissions == 0 || self.lost)
    }
}

/// One message on its way.
pub(super) struct Flight {
    pub(super) id: MessageId,
    pub(super) more: bool,
    pub(super) time_ms: u64,
    pub(super) ack_key: Secret<32>,
    pub(super) body: Vec<u8>,
    pub(super) started: Duration,
    fragments: Vec<Fragment>,
    /// Every ack that may come, computed once.
    acks: HashMap<Ack, (u16, Status)>,
    transmissions: u64,
    /// The latest transmission that was acked.
    newest_acked: u64,
    /// When all fragments were acked for the first time.
    received: Option<Duration>,
    /// When a fragment is sent again to ask for the status of the whole, and the pause after that.
    ask_at: Duration,
    ask_pause: Duration,
    /// Which fragment is sent again next.
    again: usize,
    /// When all that was acked was doubted last.
    doubted: Option<Duration>,
    /// At most [`MAX_ASK_PAUSE`].
    pub(super) longest_ask: Duration,
    /// Something came back since it was last asked.
    answered: bool,
}

impl Flight {
    pub(super) fn new(
        id: MessageId,
        body: &[u8],
        more: bool,
        now: Now,
        rng: &mut dyn Random,
    ) -> Self {
        let mut ack_key = Secret::zeroed();
        rng.fill(ack_key.expose_mut());
        Self {
            id,
            more,
            time_ms: now.unix_ms,
            ack_key,
            body: body.to_vec(),
            started: now.mono,
            fragments: vec![Fragment::default(); fragments(body.len())],
            acks: HashMap::new(),
            transmissions: 0,
            newest_acked: 0,
            received: None,
            ask_at: Duration::ZERO,
            ask_pause: Duration::ZERO,
            again: 0,
            doubted: None,
            longest_ask: MAX_ASK_PAUSE,
            answered: true,
        }
    }

    /// Computes the acks that may come; without this none is recognised.
    pub(super) fn expect_acks(&mut self) {
        let received = (0..self.of()).map(|fragment| (fragment, Status::Received));
        let whole = [(WHOLE, Status::Delivered), (WHOLE, Status::Declined)];
        let key = self.ack_key.expose();
        let tag = |(fragment, status)| (ack(key, self.id, fragment, status), (fragment, status));
        self.acks = received.chain(whole).map(tag).collect();
    }

    pub(super) fn of(&self) -> u16 {
        self.fragments.len() as u16
    }

    /// What an ack says, if it is one for this message.
    pub(super) fn recognise(&self, ack: &Ack) -> Option<(u16, Status)> {
        self.acks.get(ack).copied()
    }

    fn all_received(&self) -> bool {
        self.fragments.iter().all(|fragment| fragment.acked)
    }

    /// The recipient has `index`.
    pub(super) fn on_received(&mut self, index: u16, now: Duration, path: &mut Path) {
        self.answered = true;
        if path.is_silent() {
            self.doubt_all(now);
        }
        let fragment = &mut self.fragments[usize::from(index)];
        let fresh = !std::mem::replace(&mut fragment.acked, true);
        let after = now.saturating_sub(fragment.sent_at);
        let is_early = fragment.transmissions > 1 && path.is_early(after);
        // As RFC 8985, 6.2, has it: what is acked so soon was acked for an earlier transmission.
        if fresh && !is_early {
            self.newest_acked = self.newest_acked.max(fragment.number);
        }
        let sample = match fragment.transmissions {
            1 if fresh => Some(after),
            2 if fresh && is_early => Some(now.saturating_sub(fragment.sent_before)),
            _ => None,
        };
        path.on_ack(now, fresh, sample);
        if fresh && self.all_received() {
            if self.received.is_none() {
                self.received = Some(now);
                self.answered = false;
                self.ask_pause = path.rto();
            }
            self.ask_at = now + self.ask_pause;
        }
    }

    /// Whoever answers after so long a silence may have been restarted, and have nothing of it.
    fn doubt_all(&mut self, now: Duration) {
        if self.doubted.is_some_and(|doubted| now < doubted + DOUBT_PAUSE) {
            return;
        }
        for fragment in self.fragments.iter_mut().filter(|fragment| fragment.acked) {
            *fragment = Fragment::default();
            self.doubted = Some(now);
        }
    }

    /// The fragment to send now, if one is due. It counts as sent.
    pub(super) fn next(&mut self, now: Duration, path: &mut Path) -> Option<u16> {
        if self.all_received() {
            return self.ask(now, path);
        }
        self.mark_lost(now, path);
        let out = self.fragments.iter().filter(|fragment| fragment.is_out()).count();
        if out >= path.window() {
            return None;
        }
        self.send_first_due(now)
    }

    /// A fragment again, each in its turn, until the status of the whole comes; and later on others
    /// with it.
    fn ask(&mut self, now: Duration, path: &mut Path) -> Option<u16> {
        if now < self.ask_at {
            return None;
        }
        // Who answers is there and not ready: it need not be asked so often.
        if std::mem::take(&mut self.answered) {
            self.ask_pause = (self.ask_pause * 2).min(self.longest_ask);
        } else {
            path.on_timeout(1, now);
            self.ask_pause = path.rto();
        }
        self.ask_at = now + self.ask_pause;
        let asking = self.turn();
        for _ in 1..self.to_show(now) {
            let doubted = self.turn();
            self.fragments[doubted] = Fragment::default();
        }
        Some(asking as u16)
    }

    fn turn(&mut self) -> usize {
        let turn = self.again;
        self.again = (turn + 1) % self.fragments.len();
        turn
    }

    /// How many fragments an ask sends again: so many that all have their turn before the time that
    /// the status is waited for has doubled.
    fn to_show(&self, now: Duration) -> usize {
        let of = self.fragments.len();
        let waited = now.saturating_sub(self.received.unwrap_or(now));
        if waited < SHOW_AGAIN_AFTER {
            return 1;
        }
        let share = of as f64 * self.ask_pause.as_secs_f64() / waited.as_secs_f64();
        (share.ceil() as usize).clamp(1, of)
    }

    fn mark_lost(&mut self, now: Duration, path: &mut Path) {
        let (rto, newest) = (path.rto(), self.newest_acked);
        let (mut late, mut lost) = (false, 0);
        for fragment in self.fragments.iter_mut().filter(|fragment| fragment.is_out()) {
            let is_late = fragment.sent_at + rto <= now;
            fragment.lost = is_late || fragment.number + REORDERING <= newest;
            late |= is_late;
            lost += usize::from(fragment.lost);
        }
        if late {
            path.on_timeout(lost, now);
        } else if lost > 0 {
            path.on_loss(lost, now);
        }
    }

    fn send_first_due(&mut self, now: Duration) -> Option<u16> {
        let index = self.fragments.iter().position(Fragment::is_due)?;
        self.transmissions += 1;
        let fragment = &mut self.fragments[index];
        fragment.sent_before = std::mem::replace(&mut fragment.sent_at, now);
        fragment.number = self.transmissions;
        fragment.transmissions += 1;
        fragment.lost = false;
        Some(index as u16)
    }

    /// When [`Flight::next`] may have something; zero: at once.
    pub(super) fn next_at(&self, path: &Path) -> Duration {
        if self.all_received() {
            return self.ask_at;
        }
        let out = self.fragments.iter().filter(|fragment| fragment.is_out());
        let (count, first) = (out.clone().count(), out.map(|fragment| fragment.sent_at).min());
        let due = self.fragments.iter().any(Fragment::is_due);
        let overtaken = |f: &Fragment| f.is_out() && f.number + REORDERING <= self.newest_acked;
        match first {
            _ if due && count < path.window() => Duration::ZERO,
            _ if self.fragments.iter().any(overtaken) => Duration::ZERO,
            Some(first) => first + path.rto(),
            None => Duration::ZERO,
        }
    }

    /// Without acks: the next fragment in order, each once, in spaced bursts.
    pub(super) fn next_once(&mut self, now: Duration) -> Option<u16> {
        if now < self.next_once_at() { None } else { self.send_first_due(now) }
    }

    /// When [`Flight::next_once`] has something; with everything sent, when the message is over.
    pub(super) fn next_once_at(&self) -> Duration {
        let sent = self.transmissions as usize;
        let pause = match self.is_all_sent() {
            true if self.more => MESSAGE_PAUSE,
            false if sent.is_multiple_of(BURST) => BURST_PAUSE,
            _ => Duration::ZERO,
        };
        let last = sent.checked_sub(1).map(|last| self.fragments[last].sent_at);
        last.map_or(Duration::ZERO, |last| last + pause)
    }

    /// Without acks: whether everything went out, and the next message would not crowd it.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.is_all_sent() && now >= self.next_once_at()
    }

    fn is_all_sent(&self) -> bool {
        !self.fragments.iter().any(Fragment::is_due)
    }
}

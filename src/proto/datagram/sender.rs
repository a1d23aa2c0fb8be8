//! A sender's end of one run: bodies in, packets out, acks in. PROTOCOL.md, 4.4.
//!
//! The caller offers one message at a time. [`Sender::transmit`] says what to put on the wire, and
//! [`Sender::progress`] how it went. Whether silence has lasted too long is the caller's decision,
//! by [`Sender::last_proof`]; a run whose input is idle says so every 3 s with an empty message
//! that has `more`.

use std::time::Duration;

use super::ack::{self, Status};
use super::flight::{Flight, MAX_ASK_PAUSE};
use super::packet::{Head, Kind, MAX_MESSAGE, MessageId, PACKET_LEN, Sealer, Way, fragment_of};
use super::path::Path;
use crate::crypto::sodium::{KeyPair, PublicKey, Random};
use crate::proto::time::{CLOCK_WINDOW_MS, Now};

/// Age at which a message is given up: its packets would be rejected.
pub const MESSAGE_LIFE: Duration = Duration::from_millis(CLOCK_WINDOW_MS);

/// Whether acks are awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reliability {
    /// Until delivered, declined or given up.
    Acked,
    /// `--no-ack`: each packet is sent once and nothing is heard.
    FireAndForget,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The next message may be offered.
    Ready,
    /// A message is on its way.
    InFlight,
    /// The last message was delivered and flushed; without acks: sent.
    Finished,
    /// The recipient declined.
    Declined,
    /// A message was on its way for [`MESSAGE_LIFE`].
    Expired,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferError {
    /// One is in flight.
    Busy,
    /// Longer than [`MAX_MESSAGE`].
    TooLong,
    /// The run is over.
    Ended,
}

/// The state of one run at its sender.
pub struct Sender {
    sealer: Sealer,
    reliability: Reliability,
    next: MessageId,
    path: Path,
    flight: Option<Flight>,
    progress: Progress,
    last_proof: Option<Duration>,
    longest_ask: Duration,
}

impl Sender {
    /// A new run from `me` to `to`, whose public key file says `access`.
    pub fn new(
        me: &KeyPair,
        to: &PublicKey,
        access: &[u8; 32],
        reliability: Reliability,
        rng: &mut dyn Random,
    ) -> Self {
        let mut run = [0; 8];
        rng.fill(&mut run);
        Self {
            sealer: Sealer::new(me, to, access),
            reliability,
            next: MessageId { run, sequence: 0 },
            path: Path::new(Duration::ZERO),
            flight: None,
            progress: Progress::Ready,
            last_proof: None,
            longest_ask: MAX_ASK_PAUSE,
        }
    }

    /// Names the next message; that of the first is the run's.
    pub fn next_id(&self) -> MessageId {
        self.next
    }

    /// Asks at least this often whether a message that is received was delivered, so that a caller
    /// with little patience has an answer in time.
    pub fn ask_at_least_every(&mut self, pause: Duration) {
        self.longest_ask = pause.min(MAX_ASK_PAUSE);
    }

    /// Takes the next message of the run, 0 to [`MAX_MESSAGE`] bytes. Without `more` it is the
    /// last. Empty with `more` keeps the run alive.
    ///
    /// # Errors
    /// [`OfferError`]; nothing was taken then.
    pub fn offer(
        &mut self,
        body: &[u8],
        more: bool,
        now: Now,
        rng: &mut dyn Random,
    ) -> Result<(), OfferError> {
        match self.progress {
            Progress::Ready if body.len() > MAX_MESSAGE => return Err(OfferError::TooLong),
            Progress::Ready => {}
            Progress::InFlight => return Err(OfferError::Busy),
            _ => return Err(OfferError::Ended),
        }
        let mut flight = Flight::new(self.next, body, more, now, rng);
        flight.longest_ask = self.longest_ask;
        if self.reliability == Reliability::Acked {
            flight.expect_acks();
        }
        self.next.sequence += 1;
        self.path.restart(now.mono);
        self.flight = Some(flight);
        self.progress = Progress::InFlight;
        Ok(())
    }

    /// Seals the packet that is due into `out`; `false` if none is. To be called until then, after
    /// each [`Sender::offer`], each [`Sender::feed_ack`] and at [`Sender::next_timeout`].
    pub fn transmit(&mut self, now: Now, rng: &mut dyn Random, out: &mut [u8; PACKET_LEN]) -> bool {
        let Some(flight) = &mut self.flight else { return false };
        if now.mono.saturating_sub(flight.started) >= MESSAGE_LIFE {
            self.end(Progress::Expired);
            return false;
        }
        let next = match self.reliability {
            Reliability::Acked => flight.next(now.mono, &mut self.path),
            Reliability::FireAndForget => flight.next_once(now.mono),
        };
        if let Some(fragment) = next {
            seal(&self.sealer, flight, fragment, rng, out);
        }
        if self.reliability == Reliability::FireAndForget && flight.is_over(now.mono) {
            self.message_done();
        }
        next.is_some()
    }

    /// Takes a datagram that came back; `true` if it held an ack for the message in flight, which
    /// only who opened a packet of it can make. Anything else changes nothing.
    pub fn feed_ack(&mut self, datagram: &[u8], now: Now) -> bool {
        let Some(acks) = ack::parse(datagram) else { return false };
        let mut proof = false;
        for ack in acks {
            let Some(flight) = &mut self.flight else { break };
            let Some((fragment, status)) = flight.recognise(ack) else { continue };
            proof = true;
            match status {
                Status::Received => flight.on_received(fragment, now.mono, &mut self.path),
                Status::Delivered => self.message_done(),
                Status::Declined => self.end(Progress::Declined),
            }
        }
        if proof {
            self.last_proof = Some(now.mono);
        }
        proof
    }

    fn message_done(&mut self) {
        let more = self.flight.as_ref().is_some_and(|flight| flight.more);
        self.end(if more { Progress::Ready } else { Progress::Finished });
    }

    fn end(&mut self, progress: Progress) {
        self.flight = None;
        self.progress = progress;
    }

    /// How far the run is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// When the last ack for this run came, on [`Now::mono`]. A recipient that holds a message for
    /// a paused reader goes on proving that it is there.
    pub fn last_proof(&self) -> Option<Duration> {
        self.last_proof
    }

    /// When to call [`Sender::transmit`] next, on [`Now::mono`]; a moment in the past means now.
    pub fn next_timeout(&self) -> Option<Duration> {
        let flight = self.flight.as_ref()?;
        let next = match self.reliability {
            Reliability::Acked => flight.next_at(&self.path),
            Reliability::FireAndForget => flight.next_once_at(),
        };
        Some(next.min(flight.started + MESSAGE_LIFE))
    }
}

fn seal(
    sealer: &Sealer,
    flight: &Flight,
    fragment: u16,
    rng: &mut dyn Random,
    out: &mut [u8; PACKET_LEN],
) {
    let head = Head {
        kind: Kind::Message,
        way: Way::Network,
        more: flight.more,
        id: flight.id,
        time_ms: flight.time_ms,
        ack_key: flight.ack_key.expose(),
        fragment,
        of: flight.of(),
    };
    sealer.seal(&head, fragment_of(&flight.body, fragment.into()), rng, out);
}

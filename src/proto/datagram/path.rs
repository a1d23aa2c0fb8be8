//! What a sender knows of the way to the recipient: round trip, window, back-off.
//!
//! RFC 6298 for the time-out, with a floor that suits a local network; additive growth and halving
//! for the window. It is kept for a whole run and learns from every message.

use std::time::Duration;

/// Packets in flight at first.
const INITIAL_WINDOW: f64 = 16.0;
/// Packets that may be in flight however much is lost: random loss is not congestion.
const MIN_WINDOW: f64 = 8.0;
/// A message has no more.
const MAX_WINDOW: f64 = 64.0;
/// Time-out before anything was measured.
const INITIAL_RTO: Duration = Duration::from_millis(200);
/// Least time-out, longer than a busy receiver takes for a full window.
const MIN_RTO: Duration = Duration::from_millis(20);
/// The longest time-out that a slow way can bring about.
const MAX_RTO: Duration = Duration::from_secs(5);
/// The longest pause that back-off brings about. Even with 30 % lost each way half of all attempts
/// go unanswered, so there must be many of them before somebody's patience ends.
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// Silent time-outs that are put down to chance; only then does back-off begin.
const PATIENCE: u32 = 3;
/// Packets in flight once it has: there may be nobody.
const SILENT_WINDOW: usize = 2;
/// Doublings from [`MIN_RTO`] past [`MAX_BACKOFF`].
const MAX_DOUBLINGS: u32 = 6;

/// Round trip, window and back-off.
pub(super) struct Path {
    smoothed: Option<Duration>,
    variation: Duration,
    window: f64,
    /// Time-outs since something came back.
    silent: u32,
    last_sign: Duration,
    last_halving: Duration,
}

impl Path {
    pub(super) fn new(now: Duration) -> Self {
        let (smoothed, variation) = (None, Duration::ZERO);
        let window = INITIAL_WINDOW;
        Self { smoothed, variation, window, silent: 0, last_sign: now, last_halving: now }
    }

    /// A message begins: silence counts from here.
    pub(super) fn restart(&mut self, now: Duration) {
        self.last_sign = now;
    }

    /// Packets that may be in flight.
    pub(super) fn window(&self) -> usize {
        if self.doublings() > 0 { SILENT_WINDOW } else { self.window as usize }
    }

    /// How long after its transmission a packet counts as lost.
    pub(super) fn rto(&self) -> Duration {
        let base = self.smoothed.map_or(INITIAL_RTO, |mean| mean + 4 * self.variation);
        let base = base.clamp(MIN_RTO, MAX_RTO);
        (base * (1 << self.doublings())).min(MAX_BACKOFF).max(base)
    }

    /// Something came back. `sample` is a round trip that is no guess: of a packet sent once.
    pub(super) fn on_ack(&mut self, now: Duration, fresh: bool, sample: Option<Duration>) {
        self.last_sign = now;
        self.silent = 0;
        if fresh {
            self.window = (self.window + 1.0 / self.window).min(MAX_WINDOW);
        }
        let Some(sample) = sample else { return };
        let (mean, variation) = match self.smoothed {
            None => (sample, sample / 2),
            Some(mean) => {
                let error = mean.abs_diff(sample);
                ((7 * mean + sample) / 8, (3 * self.variation + error) / 4)
            }
        };
        self.smoothed = Some(mean);
        self.variation = variation;
    }

    /// A packet was lost: halves the window, once in a time-out.
    pub(super) fn on_loss(&mut self, now: Duration) {
        let rto = self.rto();
        if now.saturating_sub(self.last_halving) >= rto {
            self.window = (self.window / 2.0).max(MIN_WINDOW);
            self.last_halving = now;
        }
    }

    /// A packet timed out: a loss, and if all was silent for as long, a reason to go slower.
    pub(super) fn on_timeout(&mut self, now: Duration) {
        self.on_loss(now);
        if now.saturating_sub(self.last_sign) >= self.rto() {
            self.last_sign = now;
            self.silent = (self.silent + 1).min(PATIENCE + MAX_DOUBLINGS);
        }
    }

    fn doublings(&self) -> u32 {
        self.silent.saturating_sub(PATIENCE)
    }

    /// Whether an ack that came `after` the second transmission must be for the first: then the
    /// way is slower than we think, and its round trip is no guess either.
    pub(super) fn is_early(&self, after: Duration) -> bool {
        self.smoothed.is_some_and(|mean| after < mean / 2)
    }
}

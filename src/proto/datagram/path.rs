//! What a sender knows of the way to the recipient: round trip, window, back-off.
//!
//! RFC 6298 for the time-out, with a margin that suits a local network. The window doubles in a round
//! trip until something is lost (slow start, RFC 5681), and then grows by one packet; a loss takes
//! three tenths of it (RFC 9438). It is kept for a whole run and learns from every message.

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
/// A time-out is longer than the round trip by this at least: however steady the way was, one answer
/// that is a little late is no loss.
const MARGIN: Duration = Duration::from_millis(10);
/// Packets lost in one round trip that are put down to chance, and not to a way that is full.
const CHANCE: usize = 1;
/// What a loss leaves of the window.
const AFTER_LOSS: f64 = 0.7;
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
    /// Below it the window grows fast.
    threshold: f64,
    /// Time-outs since something came back.
    silent: u32,
    last_sign: Duration,
    last_shrunk: Duration,
    /// A round trip, for counting what is lost in it.
    round: Duration,
    lost_in_round: usize,
}

impl Path {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            smoothed: None,
            variation: Duration::ZERO,
            window: INITIAL_WINDOW,
            threshold: MAX_WINDOW,
            silent: 0,
            last_sign: now,
            last_shrunk: now,
            round: now,
            lost_in_round: 0,
        }
    }

    /// A message begins: silence counts from here.
    pub(super) fn restart(&mut self, now: Duration) {
        self.last_sign = now;
    }

    /// Whether more time-outs in a row went by in silence than chance explains.
    pub(super) fn is_silent(&self) -> bool {
        self.doublings() > 0
    }

    /// Packets that may be in flight.
    pub(super) fn window(&self) -> usize {
        if self.is_silent() { SILENT_WINDOW } else { self.window as usize }
    }

    /// How long after its transmission a packet counts as lost.
    pub(super) fn rto(&self) -> Duration {
        let after = |mean| mean + (4 * self.variation).max(MARGIN);
        let base = self.smoothed.map_or(INITIAL_RTO, after).clamp(MIN_RTO, MAX_RTO);
        (base * (1 << self.doublings())).min(MAX_BACKOFF).max(base)
    }

    /// Something came back. `sample` is a round trip that is no guess: of a packet sent once.
    pub(super) fn on_ack(&mut self, now: Duration, fresh: bool, sample: Option<Duration>) {
        self.last_sign = now;
        self.silent = 0;
        if fresh {
            let growth = if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
            self.window = (self.window + growth).min(MAX_WINDOW);
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

    /// So many packets more were lost: beyond chance the window shrinks, once in a time-out.
    pub(super) fn on_loss(&mut self, lost: usize, now: Duration) {
        if now.saturating_sub(self.round) >= self.smoothed.unwrap_or(INITIAL_RTO) {
            (self.round, self.lost_in_round) = (now, 0);
        }
        self.lost_in_round += lost;
        if self.lost_in_round > CHANCE && now.saturating_sub(self.last_shrunk) >= self.rto() {
            self.window = (self.window * AFTER_LOSS).max(MIN_WINDOW);
            self.threshold = self.window;
            self.last_shrunk = now;
        }
    }

    /// So many packets timed out: losses, and if all was silent for as long, a reason to go slower.
    pub(super) fn on_timeout(&mut self, lost: usize, now: Duration) {
        self.on_loss(lost, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(100);

    /// A way whose round trip was `ROUND` for a whole window.
    fn steady() -> Path {
        let mut path = Path::new(Duration::ZERO);
        (0..16).for_each(|_| path.on_ack(ROUND, true, Some(ROUND)));
        path
    }

    #[test]
    fn the_window_doubles_in_a_round_trip_while_nothing_is_lost() {
        let mut path = steady();
        assert_eq!(path.window(), 32);
        (0..32).for_each(|_| path.on_ack(2 * ROUND, true, Some(ROUND)));
        assert_eq!(path.window(), 64);
    }

    #[test]
    fn one_packet_lost_in_a_round_trip_is_chance() {
        let mut path = steady();
        (1..10).for_each(|round| path.on_loss(1, 10 * ROUND + round * ROUND));
        assert_eq!(path.window(), 32);
    }

    #[test]
    fn more_than_one_shrink_the_window_once() {
        let mut path = steady();
        path.on_loss(1, 10 * ROUND);
        path.on_loss(1, 10 * ROUND);
        assert_eq!(path.window(), 22);
        path.on_loss(8, 10 * ROUND);
        assert_eq!(path.window(), 22);
        (2..20).for_each(|time| path.on_loss(8, time * 10 * ROUND));
        assert_eq!(path.window(), MIN_WINDOW as usize);
    }

    #[test]
    fn after_a_loss_it_grows_by_a_packet_in_a_round_trip() {
        let mut path = steady();
        path.on_loss(2, 10 * ROUND);
        (0..23).for_each(|_| path.on_ack(11 * ROUND, true, Some(ROUND)));
        assert_eq!(path.window(), 23);
    }

    #[test]
    fn a_steady_way_leaves_a_late_answer_a_margin() {
        let mut path = steady();
        (0..100).for_each(|_| path.on_ack(ROUND, true, Some(ROUND)));
        assert_eq!(path.rto(), ROUND + MARGIN);
    }
}

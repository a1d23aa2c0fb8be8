//! When a seeker asks, and how much at a time. PROTOCOL.md, 6.2.
//!
//! What is asked does not depend on what was answered, and its amount is a power of two: who watches
//! the link learns neither how many are sought nor, from the rounds, who was found.

use std::time::Duration;

/// The most packets of a round.
pub(super) const ROUND: usize = 64;
/// The least packets that are sent, so that one who is sought looks like four.
const LEAST: usize = 4;
/// The most that can be sought at a time: 64 rounds.
pub const MOST: usize = 4096;
/// Within this all rounds are sent, and as often as fits.
const HURRY: Duration = Duration::from_millis(1600);
/// Rounds come no more often than this while a seeker is in a hurry.
const SLOT: Duration = Duration::from_millis(160);
/// A round's packets are no closer together than this.
const GAP: Duration = Duration::from_millis(2);
/// Once the hurry is over: how long a sweep lasts for each of its packets, so that its traffic is
/// bounded whatever the number,
const PACE: Duration = Duration::from_millis(60);
/// and its bounds.
const SWEEP: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(250));

/// How many packets a sweep has for `sought` contacts.
pub(super) fn padded(sought: usize) -> usize {
    sought.max(LEAST).next_power_of_two()
}

/// The plan of one seeker.
pub(super) struct Schedule {
    /// Packets of a sweep.
    packets: usize,
    slot: Duration,
    began: Duration,
    /// Whether it goes on after the hurry.
    watch: bool,
    /// The round that comes next, counted from the beginning of the hurry.
    next: usize,
}

impl Schedule {
    /// A hurry that begins now; sweeps follow if it is to `watch`.
    pub(super) fn new(sought: usize, watch: bool, now: Duration) -> Self {
        let packets = padded(sought);
        let slot = SLOT.min(HURRY / packets.div_ceil(ROUND) as u32);
        Self { packets, slot, began: now, watch, next: 0 }
    }

    /// Begins again: the network has changed.
    pub(super) fn restart(&mut self, now: Duration) {
        (self.began, self.next) = (now, 0);
    }

    fn rounds(&self) -> usize {
        self.packets.div_ceil(ROUND)
    }

    /// Rounds of the hurry: all of them, as often as fits.
    fn hurried(&self) -> usize {
        let slots = (HURRY.as_micros() / self.slot.as_micros()) as usize;
        slots - slots % self.rounds()
    }

    /// When the next round begins.
    pub(super) fn next(&self) -> Option<Duration> {
        let slots = |n: usize| self.slot * n as u32;
        let Some(after) = self.next.checked_sub(self.hurried()) else {
            return Some(self.began + slots(self.next));
        };
        let (sweep, round) = (after / self.rounds(), after % self.rounds());
        let pace = (PACE * self.packets as u32).clamp(SWEEP.0, SWEEP.1);
        let began = self.began + SWEEP.0 + pace * sweep as u32;
        self.watch.then_some(began + slots(round))
    }

    /// The round that is due, from 0, if one is; a sweep begins with round 0.
    pub(super) fn due(&mut self, now: Duration) -> Option<usize> {
        self.next().filter(|at| *at <= now)?;
        let round = self.next % self.rounds();
        self.next += 1;
        // After a pause, of the process or the machine, what was missed is not made up for.
        if self.next().is_some_and(|next| next + HURRY < now) {
            self.restart(now);
        }
        Some(round)
    }

    /// The pause between two packets of a round.
    pub(super) fn gap(&self) -> Duration {
        GAP.min(self.slot * 4 / 5 / ROUND as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginnings of all rounds up to `until`.
    fn plan(sought: usize, watch: bool, until: Duration) -> Vec<(Duration, usize)> {
        let mut schedule = Schedule::new(sought, watch, Duration::ZERO);
        let mut plan = Vec::new();
        while let Some(at) = schedule.next().filter(|at| *at < until) {
            let early = at.checked_sub(Duration::from_nanos(1));
            assert_eq!(early.and_then(|early| schedule.due(early)), None);
            plan.extend(schedule.due(at).map(|round| (at, round)));
        }
        plan
    }

    #[test]
    fn every_round_is_sent_within_two_seconds_however_many_are_sought() {
        for sought in [1, 3, 4, 5, 64, 65, 200, 1000, MOST] {
            let plan = plan(sought, false, Duration::from_secs(100));
            let rounds = padded(sought).div_ceil(ROUND);
            assert!((0..rounds).all(|round| plan.iter().any(|(_, r)| *r == round)), "{sought}");
            let schedule = Schedule::new(sought, false, Duration::ZERO);
            let end = plan[plan.len() - 1].0 + schedule.gap() * ROUND as u32;
            assert!(end < Duration::from_secs(2), "{sought}: {end:?}");
        }
        assert_eq!(plan(200, false, Duration::from_secs(9)).len(), 8);
    }

    #[test]
    fn three_and_four_have_the_same_plan_and_five_another() {
        let all = |sought| (padded(sought), plan(sought, true, Duration::from_secs(60)));
        assert_eq!(all(3), all(4));
        assert_eq!(all(1), all(4));
        assert_ne!(all(4), all(5));
    }

    #[test]
    fn watching_sends_a_bounded_number_of_packets() {
        for sought in [1, 4, 30, 64, 200, 1000, MOST] {
            let minute = plan(sought, true, Duration::from_secs(3660)).into_iter();
            let later = minute.filter(|(at, _)| at.as_secs() >= 60).count();
            let packets = later * padded(sought).min(ROUND);
            // An hour of them, at one for 60 ms, and the last sweep.
            assert!(packets <= 3600 * 17 + MOST, "{sought}: {packets}");
            assert!(later >= 14, "{sought}: {later}");
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut schedule = Schedule::new(4, true, Duration::ZERO);
        assert_eq!(schedule.due(Duration::ZERO), Some(0));
        let late = Duration::from_secs(3600);
        assert_eq!(schedule.due(late), Some(0));
        assert!(schedule.next().is_some_and(|next| next <= late + SLOT));
    }
}

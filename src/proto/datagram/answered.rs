//! Which questions were answered, so that none is answered twice. PROTOCOL.md, 4.5 and 6.3.
//!
//! PROBE and MEET are good for the clock window only, so they have a memory of their own: whoever
//! asks much takes no room from messages, which are remembered for days. A window lets in no more
//! than its [`Pace`], and holds all that this can be while it would be accepted. So nothing is
//! forgotten early, and a window's *floor* rises to nothing that is not too old anyway.

use std::collections::BTreeSet;

use super::windows::Windows;
use crate::crypto::sodium::PublicKey;
use crate::proto::bucket::Bucket;
use crate::proto::time::{CLOCK_WINDOW_MS, Now};

/// Names a question: a PROBE by its mac1, a MEET by the beginning of its rendezvous.
pub type Name = [u8; 16];

/// Questions that windows of contacts hold in all, about 40 bytes each, before those that hold more
/// than [`FAIR_SHARE`] take no more.
const MANY: usize = 1 << 18;
/// Questions that a contact's window takes whatever the others hold.
const FAIR_SHARE: usize = 256;

/// How many questions a window takes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A second.
    pub rate: u32,
    /// At once.
    pub burst: u32,
}

impl Pace {
    /// All that comes at this pace while the first of it would be accepted: its stamp may be ahead
    /// by the clock window, and then age by as much.
    const fn most(self) -> usize {
        (self.burst as u64 + self.rate as u64 * 2 * CLOCK_WINDOW_MS / 1000) as usize
    }
}

struct Window {
    floor: u64,
    seen: BTreeSet<(u64, Name)>,
    bucket: Bucket,
    most: usize,
}

impl Window {
    fn new(pace: Pace) -> Self {
        let bucket = Bucket::new(pace.rate, pace.burst);
        Self { floor: 0, seen: BTreeSet::new(), bucket, most: pace.most() }
    }

    /// Forgets what would be rejected for its age; how many that were.
    fn forget_void(&mut self, now_ms: u64) -> usize {
        let void = now_ms.saturating_sub(CLOCK_WINDOW_MS);
        let before = self.seen.len();
        while let Some((stamp, _)) = self.seen.first().filter(|(stamp, _)| *stamp < void) {
            self.floor = self.floor.max(*stamp);
            self.seen.pop_first();
        }
        before - self.seen.len()
    }

    fn is_new(&self, time_ms: u64, name: Name) -> bool {
        time_ms > self.floor && !self.seen.contains(&(time_ms, name))
    }
}

/// What was answered to whom.
pub struct Answered {
    windows: Windows<Window>,
    contact: Pace,
    unknown: Pace,
    /// Questions in windows of contacts.
    of_contacts: usize,
}

impl Answered {
    /// Nothing yet. Each contact may ask at one pace, all others together at the other.
    pub fn new(contact: Pace, unknown: Pace) -> Self {
        Self { windows: Windows::new(), contact, unknown, of_contacts: 0 }
    }

    /// Whether a question of `who` (the number of the local key, and the sender) is new and may be
    /// answered; it is remembered then. Its stamp, Unix ms, is within the clock window.
    pub fn accept(
        &mut self,
        who: (usize, PublicKey),
        contact: bool,
        (time_ms, name): (u64, Name),
        now: Now,
    ) -> bool {
        let pace = if contact { self.contact } else { self.unknown };
        let number = self.windows.of(who, contact, |_| Window::new(pace));
        let window = &mut self.windows[number];
        let forgotten = window.forget_void(now.unix_ms);
        if contact {
            self.of_contacts -= forgotten;
        }
        let crowded = contact && self.of_contacts >= MANY && window.seen.len() >= FAIR_SHARE;
        let has_room = window.seen.len() < window.most && !crowded;
        // A replay costs its sender nothing: the bucket comes last.
        let taken = has_room && window.is_new(time_ms, name) && window.bucket.take(now.mono);
        if taken {
            window.seen.insert((time_ms, name));
            self.of_contacts += usize::from(contact);
        }
        taken
    }

    /// A question that was accepted got no answer: a copy of it is as good as new.
    pub fn forget(&mut self, who: (usize, PublicKey), contact: bool, question: (u64, Name)) {
        let pace = if contact { self.contact } else { self.unknown };
        let number = self.windows.of(who, contact, |_| Window::new(pace));
        if self.windows[number].seen.remove(&question) && contact {
            self.of_contacts -= 1;
        }
    }

    /// Questions remembered.
    pub fn len(&self) -> usize {
        self.windows.iter().map(|(_, window)| window.seen.len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::crypto::sodium::{KeyPair, Random as _, SeededRandom};

    const CONTACT: Pace = Pace { rate: 32, burst: 128 };
    const UNKNOWN: Pace = Pace { rate: 16, burst: 64 };
    const START_MS: u64 = 1_000_000_000;

    fn at(ms: u64) -> Now {
        Now { mono: Duration::from_millis(ms), unix_ms: START_MS + ms }
    }

    fn name(n: u64) -> Name {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&n.to_be_bytes());
        name
    }

    #[test]
    fn whatever_strangers_ask_a_contact_is_answered() {
        let mut answered = Answered::new(CONTACT, UNKNOWN);
        let (contact, stranger) = (*KeyPair::generate().public(), *KeyPair::generate().public());
        let mut answers = 0;
        for n in 0..200_000 {
            let now = at(n / 20);
            let ahead = now.unix_ms + 298_000;
            answers += usize::from(answered.accept((0, stranger), false, (ahead, name(n)), now));
        }
        assert!((64 + 155..=64 + 161).contains(&answers), "{answers} in 10 s");
        let behind = (START_MS - 280_000, name(1));
        assert!(answered.accept((0, contact), true, behind, at(10_000)));
        assert!(!answered.accept((0, contact), true, behind, at(10_001)), "once");
    }

    #[test]
    fn a_contact_asks_at_its_pace_for_ever_however_far_its_clock_is_off() {
        for skew in [-299_000i64, 0, 299_000] {
            let mut answered = Answered::new(CONTACT, UNKNOWN);
            let contact = *KeyPair::generate().public();
            for n in 0..60_000 {
                let now = at(n * 1000 / 31);
                let stamp = now.unix_ms.saturating_add_signed(skew);
                let taken = answered.accept((0, contact), true, (stamp, name(n)), now);
                assert!(taken, "{n} with a clock off by {skew}");
            }
            assert!(answered.len() <= CONTACT.most());
        }
    }

    #[test]
    fn what_got_no_answer_is_answered_when_it_comes_again_and_then_no_more() {
        let mut answered = Answered::new(CONTACT, UNKNOWN);
        let someone = (0, *KeyPair::generate().public());
        for contact in [true, false] {
            let question = (START_MS, name(u64::from(contact)));
            assert!(answered.accept(someone, contact, question, at(0)));
            answered.forget(someone, contact, question);
            answered.forget(someone, contact, question);
            assert!(answered.is_empty() && answered.of_contacts == 0);
            assert!(answered.accept(someone, contact, question, at(1)));
            assert!(!answered.accept(someone, contact, question, at(2)));
            answered.forget(someone, contact, question);
        }
    }

    #[test]
    fn nothing_is_answered_twice_while_it_would_be_accepted() {
        for seed in 0..20 {
            let mut rng = SeededRandom::new(seed);
            let mut below = |bound: u64| {
                let mut bytes = [0; 8];
                rng.fill(&mut bytes);
                u64::from_be_bytes(bytes) % bound
            };
            let mut answered = Answered::new(CONTACT, UNKNOWN);
            let people: Vec<_> = (0..4).map(|_| *KeyPair::generate().public()).collect();
            let mut asked: Vec<(usize, u64, Name)> = Vec::new();
            let mut now_ms = 0;
            for n in 0..4000u64 {
                now_ms += below(400);
                let now = at(now_ms);
                let (who, stamp, name) = match asked.len() as u64 {
                    len if len > 0 && below(2) == 0 => asked[below(len) as usize],
                    _ => {
                        let stamp = now.unix_ms + below(600_000) - 300_000;
                        (below(4) as usize, stamp, name(n))
                    }
                };
                if stamp.abs_diff(now.unix_ms) > CLOCK_WINDOW_MS {
                    continue;
                }
                let again = asked.contains(&(who, stamp, name));
                let taken = answered.accept((0, people[who]), who < 2, (stamp, name), now);
                assert!(!(again && taken), "answered twice");
                assert!(again || taken || who >= 2, "a contact is refused");
                if taken {
                    asked.push((who, stamp, name));
                }
            }
        }
    }
}

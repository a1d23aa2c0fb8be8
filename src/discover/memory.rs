//! What an announcer remembers so that no probe is answered twice, and what it spends on opening.
//! PROTOCOL.md, 6.3.
//!
//! In front of what was answered lies a ring of what opened lately, answered or not, so that a replay
//! costs one hash. What is new is opened before anybody knows whose it is; so openings are shared by
//! the addresses that packets come from, and addresses of contacts have a share of their own, which
//! no crowd of others can use up.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::crypto::sodium::PublicKey;
use crate::proto::bucket::Bucket;
use crate::proto::datagram::answered::{Answered, Pace};
use crate::proto::datagram::packet::Mac1;
use crate::sched::limits::{Buckets, Rate};

/// Packets that opened lately: what an announcer opens in 16 s.
const MAX_RECENT: usize = 16_384;

/// Answers a second to one contact, and at once: a seeker in a hurry under heavy loss.
const TO_CONTACT: Pace = Pace { rate: 32, burst: 128 };
/// The same for all unknowns together.
const TO_UNKNOWN: Pace = Pace { rate: 16, burst: 64 };

/// Packets that are opened, a second and at once: an opening costs 100 µs. Only who holds our public
/// key file, or recorded somebody who does, can have us open anything.
const OPENED: (u32, u32) = (1024, 1024);
/// Of those, a second, from one address.
const FROM_ONE: Rate = Rate::a_second(256);
/// Addresses that are counted apart.
const MAX_ADDRESSES: usize = 4096;
/// Packets that are opened beside, a second and at once, from an address from which a contact asked.
const FROM_CONTACT: (u32, u32) = (64, 128);
/// Addresses of contacts that are remembered; the one that was new first goes.
const MAX_CONTACTS: usize = 256;

/// What may be opened.
struct Openings {
    all: Bucket,
    by_address: Buckets<IpAddr>,
    of_contacts: VecDeque<(IpAddr, Bucket)>,
}

impl Openings {
    fn new() -> Self {
        let by_address = Buckets::new(FROM_ONE, MAX_ADDRESSES);
        Self { all: Bucket::new(OPENED.0, OPENED.1), by_address, of_contacts: VecDeque::new() }
    }

    fn take(&mut self, from: IpAddr, now: Duration) -> bool {
        let known = self.of_contacts.iter_mut().find(|(address, _)| *address == from);
        if known.is_some_and(|(_, bucket)| bucket.take(now)) {
            return true;
        }
        let taken = self.by_address.ready_at(from) <= now && self.all.take(now);
        if taken {
            self.by_address.take(from, now);
        }
        taken
    }

    fn contact_at(&mut self, from: IpAddr) {
        if self.of_contacts.iter().any(|(address, _)| *address == from) {
            return;
        }
        if self.of_contacts.len() >= MAX_CONTACTS {
            self.of_contacts.pop_front();
        }
        self.of_contacts.push_back((from, Bucket::new(FROM_CONTACT.0, FROM_CONTACT.1)));
    }
}

/// A probe that is answered.
pub(super) struct Question {
    /// The number of the key that it asks for, and who asks.
    pub who: (usize, PublicKey),
    /// Whether that is a contact.
    pub contact: bool,
    /// Its stamp, Unix ms, and its mac1.
    pub asked: (u64, Mac1),
}

/// What was answered, what opened lately, and what may be opened.
pub(super) struct Memory {
    pub(super) answered: Answered,
    openings: Openings,
    recent: HashSet<Mac1>,
    order: VecDeque<Mac1>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            answered: Answered::new(TO_CONTACT, TO_UNKNOWN),
            openings: Openings::new(),
            recent: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether this packet, which came from `from`, may be opened at the monotonic time `now`: it
    /// did not open lately, and there is something left to spend.
    pub(super) fn may_open(&mut self, mac1: &Mac1, from: IpAddr, now: Duration) -> bool {
        !self.recent.contains(mac1) && self.openings.take(from, now)
    }

    /// A packet opened, whatever comes of it.
    pub(super) fn opened(&mut self, mac1: Mac1) {
        if self.order.len() >= MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        self.order.push_back(mac1);
        self.recent.insert(mac1);
    }

    /// The answer to `question` was not sent: a copy of it is as good as new.
    pub(super) fn forget(&mut self, question: &Question) {
        let Question { who, contact, asked } = *question;
        self.answered.forget(who, contact, asked);
        if self.recent.remove(&asked.1) {
            self.order.retain(|recent| *recent != asked.1);
        }
    }

    /// A contact asks from there.
    pub(super) fn contact_at(&mut self, from: IpAddr) {
        self.openings.contact_at(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn a_flood_from_one_address_or_from_many_leaves_a_contacts_address_its_openings() {
        for addresses in [1, 60_000] {
            let mut openings = Openings::new();
            let (contact, newcomer) = (address(100_000), address(100_001));
            openings.contact_at(contact);
            let (mut spent, mut heard, mut asked) = (0u32, 0u32, 0u32);
            for n in 0..60_000 {
                let now = Duration::from_micros(u64::from(n) * 100);
                spent += u32::from(openings.take(address(n % addresses), now));
                if n % 200 == 0 {
                    asked += 1;
                    heard += u32::from(openings.take(contact, now));
                }
                if addresses == 1 && n % 1000 == 0 {
                    assert!(openings.take(newcomer, now), "another address has a share too");
                }
            }
            assert_eq!(heard, asked, "of {addresses} addresses");
            assert!(spent <= 7 * OPENED.0, "{spent} in 6 s");
        }
    }
}

//! What one caller may take is bounded, whatever it and others do, in bounded memory; and whoever
//! keeps within it never waits for those who do not. `AC_TEST_SEEDS`: how many random cases.

use crate::testkit::{common::number, random::Dice};

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anonchat::proto::stream::replay::ReplayGuard;
use anonchat::sched::limits::{
    AddressBounds, Bounds, Buckets, Door, GRACE, HANDSHAKES, Limit, PATIENCE, Rate, SETTLING,
    SHAKING, Seats,
};
use anonchat::sched::party::{Network, Party, Source};

const SILENCE: Duration = Duration::from_secs(30);

fn seeds() -> impl Iterator<Item = (u64, Dice)> {
    let count = number("AC_TEST_SEEDS", 30);
    (0..count).map(|seed| (seed, Dice::new(seed)))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn v4(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

fn bounds() -> Bounds {
    Bounds::new(SILENCE)
}

/// A connection comes, and says what is to be opened.
fn knocks(door: &mut Door, number: usize, from: IpAddr, now: Duration) {
    door.arrive(number, from, now);
    assert!(door.knock(number, now));
}

#[test]
fn an_address_is_itself_over_ipv4_and_its_upper_half_over_ipv6() {
    let network = |text: &str| Network::of(text.parse().unwrap());
    assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::2"));
    assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    assert!(network("::1").is_loopback() && network("::ffff:127.0.0.9").is_loopback());
    assert!(!network("::2").is_loopback() && !network("::").is_loopback());
    assert_eq!(network("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    assert_eq!(network("::ffff:10.0.0.1").to_string(), "10.0.0.1");
}

#[test]
fn a_bucket_gives_its_count_at_once_and_then_one_in_each_part_of_its_time() {
    let rate = Rate::new(5, Duration::from_secs(1)).unwrap();
    let mut buckets = Buckets::new(rate, 10);
    let mut given = Vec::new();
    let mut now = Duration::from_secs(100);
    while given.len() < 8 {
        if buckets.ready_at("a") <= now {
            buckets.take("a", now);
            given.push(now.as_millis() - 100_000);
        } else {
            now = buckets.ready_at("a");
        }
    }
    assert_eq!(given, [0, 0, 0, 0, 0, 200, 400, 600]);
    assert!(buckets.ready_at("b") <= now, "another is not concerned");
    assert!(Rate::new(0, SILENCE).is_none() && Rate::new(1_000_001, SILENCE).is_none());
    assert!(Rate::new(1, Duration::ZERO).is_none());
}

/// The rule itself, with no bound on memory: in no span of time more than count + span / each.
#[test]
fn no_table_is_so_small_that_somebody_gains_by_being_forgotten() {
    for (seed, mut dice) in seeds() {
        let count = 1 + dice.below(10) as u32;
        let rate = Rate::new(count, Duration::from_secs(1)).unwrap();
        let most = 1 + dice.below(6);
        let mut small = Buckets::new(rate, most);
        let mut exact = Buckets::new(rate, usize::MAX);
        let mut now = Duration::from_secs(10);
        for _ in 0..2000 {
            // One address attacks, and has many others to push it out of the table.
            let key = if dice.below(3) == 0 { 0 } else { 1 + dice.below(50) };
            if small.ready_at(key) <= now {
                assert!(exact.ready_at(key) <= now, "seed {seed}: {key} gained by eviction");
                small.take(key, now);
                exact.take(key, now);
            }
            assert!(small.len() <= most, "seed {seed}: {} remembered", small.len());
            now += ms(dice.below(30) as u64);
        }
        // Whoever is patient is served, whatever the others did.
        assert!(small.ready_at(999) <= now + Duration::from_secs(60));
    }
}

#[test]
fn an_address_that_calls_seldom_is_served_before_one_that_floods() {
    let mut door = Door::new(bounds());
    let mut now = Duration::from_secs(10);
    // Twelve addresses open more connections than all together are given.
    let mut number = 0;
    let mut served = 0;
    for tick in 0..200 {
        for n in 0..12 {
            for _ in 0..2 {
                knocks(&mut door, number, v4(n), now);
                number += 1;
            }
        }
        let friend = number;
        if tick % 50 == 40 {
            knocks(&mut door, friend, v4(200), now);
            number += 1;
        }
        let mut turns = Vec::new();
        while let Some(next) = door.next(now) {
            turns.push(next);
            door.answered(next, now);
            door.leave(next, now);
        }
        if tick % 50 == 40 {
            assert!(turns.contains(&friend), "tick {tick}: waits behind a flood");
        }
        served += turns.len();
        now += ms(10);
    }
    // A burst of 1000, then 1000 a second, for two seconds.
    assert!((2900..=3010).contains(&served), "{served}");
    let obstacle = door.obstacle(now - ms(10));
    assert!(matches!(obstacle, Some((Limit::Connections | Limit::Handshakes, _))));
}

#[test]
fn connections_of_one_address_are_delayed_to_its_rate_and_all_come_in() {
    let mut door = Door::new(bounds());
    let mut now = Duration::from_secs(10);
    (0..300).for_each(|n| knocks(&mut door, n, v4(1), now));
    let mut served = Vec::new();
    while let Some(at) = door.next_turn() {
        now = now.max(at);
        let Some(next) = door.next(now) else { continue };
        assert!(!door.keeps(next));
        served.push((next, now));
        // Its handshake takes 20 ms; nobody is in anybody's way.
        door.leave(next, now);
    }
    assert_eq!(served.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
    let took = now - Duration::from_secs(10);
    assert!((ms(1990)..=ms(2010)).contains(&took), "{took:?}");
    assert!(door.is_empty());
}

#[test]
fn those_who_go_no_further_keep_others_of_their_address_out_for_two_seconds_only() {
    let address = AddressBounds { at_once: Some(4), rate: None };
    let mut door = Door::new(Bounds { address, ..bounds() });
    let now = Duration::from_secs(10);
    (0..5).for_each(|n| knocks(&mut door, n, v4(1), now));
    knocks(&mut door, 5, v4(2), now);
    // Those who say nothing keep nobody out.
    (10..99).for_each(|n| door.arrive(n, v4(1), now));
    let mut served = Vec::new();
    while let Some(next) = door.next(now) {
        served.push(next);
    }
    assert_eq!(served, [0, 5, 1, 2, 3]);
    assert_eq!(door.obstacle(now), Some((Limit::PerAddress, Network::of(v4(1)))));
    assert_eq!(door.next_turn(), Some(now + SHAKING));
    assert_eq!(door.next(now + SHAKING), Some(4));
    // One that ends its handshake makes room at once.
    let mut door = Door::new(Bounds { address, ..bounds() });
    (0..5).for_each(|n| knocks(&mut door, n, v4(1), now));
    while door.next(now).is_some() {}
    door.leave(2, now);
    assert_eq!(door.next(now), Some(4));
}

#[test]
fn when_there_are_too_many_the_oldest_of_the_address_with_most_goes() {
    let mut door = Door::new(bounds());
    let now = Duration::from_secs(10);
    door.arrive(0, v4(1), now);
    (1..11).for_each(|n| door.arrive(n, v4(2), now));
    // One network of IPv6, though every connection has another address.
    (11..41).for_each(|n| {
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, n as u16, 0, 0, 1);
        door.arrive(n, IpAddr::V6(v6), now);
    });
    assert_eq!(door.yields(now), None, "each has a moment to say something");
    let now = now + GRACE;
    for gone in 11..31 {
        assert_eq!(door.yields(now), Some(gone));
        door.leave(gone, now);
    }
    assert_eq!(door.len(), 21);
}

#[test]
fn whoever_holds_most_pushes_out_nobody_who_holds_less_wherever_their_addresses_are() {
    for friend in [v4(1), v4(250)] {
        let mut door = Door::new(bounds());
        let now = Duration::from_secs(10);
        (0..100).for_each(|n| door.arrive(n, v4(100), now));
        door.arrive(1000, friend, now);
        for n in 100..500 {
            door.arrive(n, v4(100), now);
            let later = now + GRACE;
            assert_eq!(door.yields(later), Some(n - 100), "the oldest of the flood");
            door.leave(n - 100, now);
        }
        // Among equals it is the oldest, and not who has the highest address.
        let mut door = Door::new(bounds());
        (0..100).for_each(|n| door.arrive(n, v4(n as u8 + 100), now));
        door.arrive(1000, friend, now);
        for n in 0..100 {
            assert_eq!(door.yields(now + GRACE), Some(n));
            door.leave(n, now);
        }
    }
}

/// An address with ever new connections is the one that has most, and those are too young.
#[test]
fn connections_that_are_too_young_to_go_keep_no_old_one_in_its_place() {
    let mut door = Door::new(bounds());
    let now = Duration::from_secs(10);
    (0..10).for_each(|n| door.arrive(n, v4(n as u8), now));
    let later = now + GRACE;
    (10..20).for_each(|n| door.arrive(n, v4(100), later));
    assert_eq!(door.next_place(), Some(later));
    assert_eq!(door.yields(later), Some(0));
    assert_eq!(door.yields(later + GRACE), Some(10));
}

#[test]
fn a_crowd_that_will_be_served_waits_outside_and_is_not_closed() {
    let mut door = Door::new(bounds());
    let now = Duration::from_secs(10);
    (0..10).for_each(|n| knocks(&mut door, n, v4(1), now));
    (10..15).for_each(|n| knocks(&mut door, n, v4(2), now));
    assert_eq!(door.yields(now), None);
    assert_eq!(door.next_place(), Some(now + PATIENCE));
    // Who has shown nothing gives way soon, and so does who had a turn and drew nothing.
    let soon = now + GRACE;
    door.arrive(20, v4(3), now);
    assert_eq!(door.yields(soon), Some(20));
    door.leave(20, now);
    assert_eq!(door.next(soon), Some(0));
    assert_eq!(door.yields(soon), Some(0));
    door.answered(0, soon);
    assert_eq!(door.yields(soon), None);
    assert_eq!(door.yields(now + PATIENCE), Some(0), "unlucky, and one of many");
}

#[test]
fn numbers_that_others_had_before_change_nothing() {
    let mut door = Door::new(bounds());
    let now = Duration::from_secs(10);
    (0..100).for_each(|n| door.arrive(n, v4(1), now));
    for n in (0..100).rev() {
        door.leave(n, now);
        door.arrive(n, v4(1), now);
    }
    // The oldest is now the one with the highest number.
    assert_eq!(door.yields(now + GRACE), Some(99));
    (0..100).for_each(|n| assert!(door.knock(n, now)));
    assert_eq!(door.next(now), Some(99));
}

/// Whoever holds the public key file opens handshakes as fast as it can; a friend comes now and then.
/// What was answered is remembered for as long as it could be answered again, and takes no more room
/// than is said. `AC_TEST_FLOOD_SECONDS`: for how long (full: 1320).
#[test]
fn two_thousand_handshakes_a_second_from_a_thousand_addresses_keep_no_friend_waiting() {
    let seconds = number("AC_TEST_FLOOD_SECONDS", 5);
    let (mut door, mut replays) = (Door::new(bounds()), ReplayGuard::default());
    let (mut number, mut answered, mut now) = (0, VecDeque::new(), Duration::from_secs(10));
    let mut friend = None;
    for tick in 0..seconds * 1000 {
        if tick % 2000 == 999 {
            assert_eq!(friend, None, "tick {tick}: not served since the one before");
            friend = Some((number + 2, now));
        }
        let is_friend = |nth| friend.is_some_and(|(number, _)| number == nth);
        let coming = number..number + 2 + usize::from(is_friend(number + 2));
        number = coming.end;
        for nth in coming {
            let from = if is_friend(nth) { 0x0a00_0009 } else { 0x0a01_0000 + nth % 1000 };
            knocks(&mut door, nth, IpAddr::V4(Ipv4Addr::from_bits(from as u32)), now);
        }
        while door.len() > 2000 {
            let gone = door.yields(now).unwrap();
            assert!(!is_friend(gone), "tick {tick}");
            door.leave(gone, now);
        }
        while let Some(next) = door.next(now) {
            if let Some((_, since)) = friend.take_if(|(number, _)| *number == next) {
                assert!(now - since < ms(500), "tick {tick}: waited for {:?}", now - since);
            }
            let mut ephemeral = [0; 32];
            ephemeral[..8].copy_from_slice(&next.to_be_bytes());
            assert!(replays.admit(&ephemeral, now), "nobody is taken for another");
            door.answered(next, now);
            door.leave(next, now);
            answered.push_back((now, ephemeral));
        }
        while answered.front().is_some_and(|(at, _)| *at + ms(600_000) < now) {
            answered.pop_front();
        }
        if let Some((_, oldest)) = answered.front().filter(|_| tick % 1000 == 0) {
            assert!(!replays.admit(oldest, now), "a replay");
        }
        assert!(replays.len() <= 662_000);
        now += ms(1);
    }
    assert!(
        answered.len() >= 1000 * seconds.min(600) as usize,
        "{HANDSHAKES} make {}",
        answered.len()
    );
}

/// Garbage costs its senders their turns, and nobody else anything.
#[test]
fn what_is_not_answered_does_not_count_among_the_handshakes_of_all() {
    let mut door = Door::new(bounds());
    let now = Duration::from_secs(10);
    for n in 0..20_000 {
        let from = IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + n as u32 % 10_000));
        knocks(&mut door, n, from, now);
        assert_eq!(door.next(now), Some(n));
    }
}

#[test]
fn a_door_never_forgets_anybody_and_never_serves_one_twice() {
    for (seed, mut dice) in seeds() {
        let address = AddressBounds {
            at_once: (dice.below(3) > 0).then(|| 1 + dice.below(4)),
            rate: (dice.below(3) > 0)
                .then(|| Rate::new(1 + dice.below(20) as u32, ms(1000)).unwrap()),
        };
        let mut door = Door::new(Bounds { address, ..bounds() });
        let mut now = Duration::from_secs(10);
        let mut there: BTreeMap<usize, bool> = BTreeMap::new();
        let mut number = 0;
        for _ in 0..1000 {
            match dice.below(4) {
                0 | 1 => {
                    knocks(&mut door, number, v4(dice.below(5) as u8), now);
                    there.insert(number, false);
                    number += 1;
                }
                2 if !there.is_empty() => {
                    let gone = *there.keys().nth(dice.below(there.len())).unwrap();
                    door.leave(gone, now);
                    there.remove(&gone);
                }
                _ => now += ms(dice.below(300) as u64),
            }
            while let Some(next) = door.next(now) {
                let served = there.get_mut(&next).unwrap();
                assert!(!std::mem::replace(served, true), "seed {seed}: {next} twice");
                if dice.below(2) == 0 {
                    door.answered(next, now);
                }
            }
            assert_eq!(door.len(), there.len(), "seed {seed}");
            let all_kept = there.iter().all(|(n, served)| door.keeps(*n) != *served);
            assert!(all_kept, "seed {seed}: {there:?}");
            let waiting = there.values().any(|served| !served);
            assert_eq!(door.next_turn().is_some(), waiting, "seed {seed}");
            assert!(door.next_turn().is_none_or(|at| at > now), "seed {seed}: missed a turn");
        }
        while let Some(at) = door.next_turn() {
            now = now.max(at);
            assert!(door.next(now).is_some(), "seed {seed}: nobody at the time that was named");
        }
    }
}

fn contact(n: u8) -> Party {
    Party::Address(Network::of(v4(n)))
}

fn seats(clients: usize, each: usize) -> Seats {
    let address = AddressBounds { at_once: Some(each), rate: None };
    Seats::new(Bounds { clients, address, ..bounds() })
}

#[test]
fn a_caller_with_all_seats_gives_one_to_whoever_has_none() {
    let now = Duration::from_secs(10);
    let mut seats = seats(4, 10);
    let busy = |seats: &mut Seats, n: u64, who: u8| {
        seats.enter(Source::Run(n), contact(who), now);
        seats.set_busy(Source::Run(n), true, now);
    };
    (0..6).for_each(|n| busy(&mut seats, n, 1));
    assert_eq!(seats.load(), (4, 2));
    busy(&mut seats, 10, 2);
    assert_eq!(seats.keeps_waiting(Source::Run(10), now), None);
    busy(&mut seats, 11, 2);
    assert_eq!(seats.keeps_waiting(Source::Run(11), now), None);
    busy(&mut seats, 12, 2);
    assert_eq!(seats.keeps_waiting(Source::Run(12), now), Some(Limit::Clients), "both have two");
    // Idle sessions take none, and what becomes free goes to who has fewer.
    seats.set_busy(Source::Run(0), false, now);
    assert_eq!(seats.load(), (4, 4));
    assert_eq!(seats.keeps_waiting(Source::Run(0), now), None);
}

#[test]
fn one_that_keeps_its_seat_and_says_nothing_loses_it_to_one_that_waits() {
    let start = Duration::from_secs(10);
    let mut seats = seats(1, 10);
    for n in 0..2 {
        seats.enter(Source::Run(n), contact(n as u8), start);
        seats.set_busy(Source::Run(n), true, start);
    }
    assert_eq!(seats.keeps_waiting(Source::Run(1), start), Some(Limit::Clients));
    seats.heard(Source::Run(0), start + ms(5000));
    let due = start + ms(5000) + SILENCE;
    assert_eq!(seats.next_deadline(), Some(due));
    seats.assign(due - ms(1));
    assert!(seats.keeps_waiting(Source::Run(1), due).is_some());
    seats.assign(due);
    assert_eq!(seats.keeps_waiting(Source::Run(1), due), None);
    assert_eq!(seats.keeps_waiting(Source::Run(0), due), Some(Limit::Clients));
}

#[test]
fn a_caller_rests_after_more_messages_than_its_rate() {
    let rate = Rate::new(2, Duration::from_secs(1)).unwrap();
    let mut seats = Seats::new(Bounds { messages: Some(rate), ..bounds() });
    let now = Duration::from_secs(10);
    seats.enter(Source::Run(0), contact(1), now);
    seats.enter(Source::Run(1), contact(2), now);
    seats.spoke(Source::Run(0), now);
    assert_eq!(seats.keeps_waiting(Source::Run(0), now), None);
    seats.spoke(Source::Run(0), now);
    assert_eq!(seats.keeps_waiting(Source::Run(0), now), Some(Limit::Messages));
    assert_eq!(seats.forbids(contact(1), false, now), Some(Limit::Messages));
    assert_eq!(seats.keeps_waiting(Source::Run(1), now), None);
    assert_eq!(seats.rests(Source::Run(0)), now + ms(500));
    assert_eq!(seats.keeps_waiting(Source::Run(0), now + ms(500)), None);
}

#[test]
fn seats_are_never_more_than_allowed_and_never_empty_while_somebody_may_sit() {
    for (seed, mut dice) in seeds() {
        let (clients, each) = (1 + dice.below(8), 1 + dice.below(5));
        let mut seats = seats(clients, each);
        let mut now = Duration::from_secs(10);
        let mut there: BTreeMap<u64, (u8, bool)> = BTreeMap::new();
        let mut next = 0;
        for _ in 0..1000 {
            let some =
                (!there.is_empty()).then(|| *there.keys().nth(dice.below(there.len())).unwrap());
            match (dice.below(5), some) {
                (0, _) => {
                    let who = dice.below(6_u8).saturating_sub(2);
                    seats.enter(Source::Run(next), contact(who), now);
                    there.insert(next, (who, false));
                    next += 1;
                }
                (1 | 2, Some(n)) => {
                    let busy = dice.below(4) > 0;
                    seats.set_busy(Source::Run(n), busy, now);
                    there.get_mut(&n).unwrap().1 = busy;
                }
                (3, Some(n)) if dice.below(3) == 0 => {
                    seats.leave(Source::Run(n), now);
                    there.remove(&n);
                }
                (3, Some(n)) => seats.heard(Source::Run(n), now),
                _ => {
                    now += ms(dice.below(9000) as u64);
                    seats.assign(now);
                }
            }
            let busy = there.iter().filter(|(_, (_, busy))| *busy);
            let mut seated = BTreeMap::<u8, usize>::new();
            let mut waiting = BTreeMap::<u8, usize>::new();
            for (n, (who, _)) in busy {
                let waits = seats.keeps_waiting(Source::Run(*n), now).is_some();
                *if waits { &mut waiting } else { &mut seated }.entry(*who).or_default() += 1;
            }
            let total: usize = seated.values().sum();
            assert_eq!(seats.load(), (total, waiting.values().sum()), "seed {seed}");
            assert!(total <= clients && seated.values().all(|n| *n <= each), "seed {seed}");
            let most = seated.values().max().copied().unwrap_or(0);
            for who in waiting.keys() {
                let has = seated.get(who).copied().unwrap_or(0);
                let fair = has == each || (total == clients && most <= has + 1);
                assert!(fair, "seed {seed}: {who} waits with {has}, {seated:?} of {clients}");
            }
            let idle = there
                .iter()
                .all(|(n, (_, busy))| *busy || seats.keeps_waiting(Source::Run(*n), now).is_none());
            assert!(idle, "seed {seed}: somebody without a message waits");
            assert_eq!(
                seats.yields(now + SETTLING, |_| true).is_some(),
                total < there.len(),
                "seed {seed}"
            );
        }
    }
}

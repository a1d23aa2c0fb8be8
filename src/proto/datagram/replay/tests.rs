//! Contacts, strangers and clocks that disagree, in simulated time: nothing is taken twice while its
//! packet would be accepted, and nobody is refused for what another did.

use std::collections::HashMap;

use super::*;
use crate::crypto::sodium::{KeyPair, Random as _, SeededRandom};

const START_MS: u64 = 1_800_000_000_000;
const SMALL: Bounds = Bounds {
    runs: 64,
    live_runs: 16,
    packets: 256,
    bytes: 4 << 20,
    names: 1024,
    life_ms: CLOCK_WINDOW_MS,
};

fn people(count: usize) -> Vec<PublicKey> {
    (0..count).map(|_| *KeyPair::generate().public()).collect()
}

fn key(sender: PublicKey, run: u64) -> RunKey {
    RunKey { local: 0, sender, run: run.to_be_bytes() }
}

/// Takes a whole message in, as a receiver does; `None`: it was seen before.
fn take(
    memory: &mut Memory<()>,
    key: RunKey,
    contact: bool,
    time_ms: u64,
    now_ms: u64,
) -> Option<Result<(), Refused>> {
    if memory.is_past(&key) || memory.get(&key).is_some() {
        return None;
    }
    let window = memory.window(&key, contact);
    let taken = memory.has_room(window, time_ms, 100, now_ms);
    if taken.is_ok() {
        memory.begin(key, window, time_ms, ());
        assert!(memory.reserve(&key, 100, false));
        assert!(memory.note(&key, [0; 16], time_ms));
        memory.settle_if(&key, |_| true);
    }
    Some(taken)
}

fn dice(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut rng = SeededRandom::new(seed);
    move |bound| {
        let mut bytes = [0; 8];
        rng.fill(&mut bytes);
        u64::from_be_bytes(bytes) % bound
    }
}

#[test]
fn nothing_is_taken_twice_and_no_contact_is_refused_for_what_others_did() {
    for seed in 0..30 {
        let (mut memory, mut below) = (Memory::new(SMALL), dice(seed));
        let people = people(8);
        let mut taken: HashMap<RunKey, (usize, u64)> = HashMap::new();
        let mut now_ms = START_MS;
        let mut jumped = false;
        for n in 0..6000u64 {
            now_ms += below(200);
            if seed % 3 == 0 && below(1000) == 0 {
                // Somebody sets the clock, by up to an hour, and later back.
                now_ms = if jumped { now_ms - 3_600_000 } else { now_ms + 3_600_000 };
                jumped = !jumped;
            }
            if below(100) == 0 {
                memory.forget_expired(now_ms);
            }
            let who = below(8) as usize;
            let is_contact = who < 3;
            // Most that is said is said by strangers, and stamped ahead.
            let (key, time_ms) = match below(4) {
                0 if !taken.is_empty() => {
                    let nth = below(taken.len() as u64) as usize;
                    let (key, (_, time_ms)) = taken.iter().nth(nth).expect("there is one");
                    (*key, *time_ms)
                }
                1 if is_contact => (key(people[who], n), now_ms + below(500_000) - 250_000),
                1..4 => (key(people[3 + who % 5], n), now_ms + 299_000 - below(1000)),
                _ => continue,
            };
            if time_ms.abs_diff(now_ms) > CLOCK_WINDOW_MS {
                continue;
            }
            let contact = people[..3].contains(&key.sender);
            match take(&mut memory, key, contact, time_ms, now_ms) {
                None => assert!(taken.contains_key(&key), "it was never taken"),
                Some(Ok(())) => {
                    let before = taken.insert(key, (who, time_ms));
                    assert!(before.is_none(), "seed {seed}: taken twice");
                }
                Some(Err(why)) => {
                    let again = taken.contains_key(&key);
                    // A clock that is set back finds floors of the time that it was in.
                    let excused = again || !contact || seed % 3 == 0;
                    assert!(excused, "seed {seed}: a contact is refused: {why:?}");
                }
            }
            assert!(memory.len() <= 9 * SMALL.runs);
        }
    }
}

#[test]
fn a_full_window_of_strangers_refuses_newcomers_and_touches_no_contact() {
    let mut memory = Memory::new(BY_NETWORK);
    let [stranger, known, new] = people(3)[..] else { unreachable!() };
    assert_eq!(take(&mut memory, key(known, 0), true, START_MS, START_MS), Some(Ok(())));
    let mut full = 0;
    for n in 0..BY_NETWORK.names as u64 + 10_000 {
        match take(&mut memory, key(stranger, n), false, START_MS + 298_000, START_MS) {
            Some(Ok(())) => {}
            other => {
                assert_eq!(other, Some(Err(Refused::Full)));
                full += 1;
            }
        }
    }
    assert_eq!(full, 10_000);
    assert!(memory.len() <= BY_NETWORK.runs + 1, "most are known by name only");
    for (n, contact) in [known, new, stranger].into_iter().enumerate() {
        // However far behind its clock is: also of who was a stranger a moment ago.
        let behind = START_MS - 299_000;
        let run = key(contact, u64::MAX - n as u64);
        assert_eq!(take(&mut memory, run, true, behind, START_MS), Some(Ok(())));
        assert_eq!(take(&mut memory, run, true, behind, START_MS), None);
    }
    assert_eq!(take(&mut memory, key(stranger, 5), true, START_MS + 298_000, START_MS), None);
    // What they said is too old one day, and then others of them are heard.
    let later = START_MS + 298_000 + CLOCK_WINDOW_MS + 1;
    memory.forget_expired(later);
    assert_eq!(take(&mut memory, key(stranger, u64::MAX), false, later, later), Some(Ok(())));
    assert_eq!(take(&mut memory, key(new, 1), true, later - 299_000, later), Some(Ok(())));
}

#[test]
fn a_contact_whose_clock_is_ahead_says_thousands_of_messages_in_minutes() {
    let mut memory = Memory::new(BY_NETWORK);
    let contact = people(1)[0];
    for n in 0..80_000u64 {
        // 200 a second, by a clock that is 200 s ahead.
        let now_ms = START_MS + 5 * n;
        if n % 6000 == 0 {
            memory.forget_expired(now_ms);
        }
        let run = key(contact, n);
        let time_ms = now_ms + 200_000;
        assert_eq!(take(&mut memory, run, true, time_ms, now_ms), Some(Ok(())), "number {n}");
        let earlier = n / 2;
        let again = key(contact, earlier);
        let stamp = START_MS + 5 * earlier + 200_000;
        assert!(!matches!(take(&mut memory, again, true, stamp, now_ms), Some(Ok(()))));
    }
    // Its other machine, whose clock is right, is heard as well.
    let now_ms = START_MS + 400_000;
    assert_eq!(take(&mut memory, key(contact, u64::MAX), true, now_ms, now_ms), Some(Ok(())));
}

#[test]
fn a_contact_fills_its_own_window_and_its_floor_is_never_above_now() {
    let mut memory = Memory::new(SMALL);
    let contact = people(1)[0];
    let mut refused = 0;
    for n in 0..5000u64 {
        let taken = take(&mut memory, key(contact, n), true, START_MS + 200_000, START_MS);
        refused += u64::from(taken == Some(Err(Refused::Full)));
    }
    assert_eq!(refused, 5000 - SMALL.names as u64);
    // It waits until what it said is of the past, and not for the whole of its clock's error.
    let later = START_MS + 200_001;
    let run = |n: u64| key(contact, 10_000 + n);
    assert_eq!(take(&mut memory, run(1), true, later, later), Some(Ok(())));
    let floor = take(&mut memory, run(2), true, START_MS + 200_000, later);
    assert_eq!(floor, Some(Err(Refused::TooOld)), "it may be one that was forgotten");
}

//! What a state file promises, whatever was remembered: PROTOCOL.md, section 12. Nothing that may
//! come again is forgotten without being rejected, entries say nothing without the key, and no
//! changed byte passes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use anonchat::crypto::sodium::{KeyPair, PublicKey, Secret};
use anonchat::proto::datagram::packet::Way;
use anonchat::proto::datagram::past::{
    BadEntry, ENTRY_LEN, Entry, Extent, MAX_ENTRIES, PLAIN_LEN, Past, PastKey, RELAY_LIFE_MS, Ran,
    Recall,
};
use proptest::prelude::*;

/// 2026, in Unix ms.
const NOW: u64 = 1_800_000_000_000;

fn secret(byte: u8) -> Secret<32> {
    Secret::from_slice(&[byte; 32]).unwrap()
}

fn person(byte: u8) -> PublicKey {
    *KeyPair::from_secret(secret(byte)).public()
}

/// What a listener that has `file` knows.
fn read(secret: &Secret<32>, header: &[u8; ENTRY_LEN], entries: &[u8]) -> Past {
    let mut past = Past::new(PastKey::open(secret, header).unwrap());
    for entry in entries.as_chunks().0 {
        past.learn(entry).unwrap();
    }
    past
}

#[derive(Debug, Clone)]
struct Said {
    relay: bool,
    sender: u8,
    run: u8,
    time_ms: u64,
    whole: bool,
    contact: bool,
}

fn said() -> impl Strategy<Value = Said> {
    (any::<bool>(), 1..4u8, any::<u8>(), 0..1000u64, any::<bool>(), any::<bool>()).prop_map(
        |(relay, sender, run, ms, whole, contact)| Said {
            relay,
            sender,
            run,
            time_ms: NOW + ms,
            whole,
            contact,
        },
    )
}

fn ran<'a>(said: &Said, local: &'a PublicKey, sender: &'a PublicKey) -> Ran<'a> {
    let way = if said.relay { Way::Relay } else { Way::Network };
    Ran { way, local, sender, run: [said.run; 8], time_ms: said.time_ms }
}

proptest! {
    #[test]
    fn whoever_reads_the_file_again_knows_what_was_remembered(all in prop::collection::vec(said(), 0..60)) {
        let (me, local, people) = (secret(9), person(9), [1, 2, 3].map(person));
        let (key, header) = PastKey::fresh(&me);
        let (mut past, mut file) = (Past::new(key), Vec::new());
        let mut last = BTreeMap::new();
        for said in &all {
            let sender = &people[usize::from(said.sender - 1)];
            let extent = if said.whole { Extent::Whole } else { Extent::Begun };
            past.remember(&ran(said, &local, sender), extent, said.contact, &mut file);
            last.insert((said.relay, said.sender, said.run), said.clone());
        }
        let again = read(&me, &header, &file);
        let rewritten: Vec<u8> = again.entries().flatten().collect();
        let compacted = read(&me, &header, &rewritten);
        for past in [&past, &again, &compacted] {
            for said in last.values() {
                let sender = &people[usize::from(said.sender - 1)];
                let expected = if said.whole { Recall::Delivered } else { Recall::Gone };
                prop_assert_eq!(past.recall(&ran(said, &local, sender)), expected);
                let other_time = Ran { time_ms: said.time_ms + 1, ..ran(said, &local, sender) };
                prop_assert_eq!(past.recall(&other_time), Recall::Gone);
                let other_key = Ran { local: sender, ..ran(said, &local, sender) };
                prop_assert_eq!(past.recall(&other_key), Recall::New);
                let by_name = (!said.relay, said.sender, said.run);
                if !last.contains_key(&by_name) {
                    let other_way = Said { relay: !said.relay, ..said.clone() };
                    prop_assert_eq!(past.recall(&ran(&other_way, &local, sender)), Recall::New);
                }
            }
        }
        prop_assert_eq!(compacted.len(), again.len());
    }

    #[test]
    fn an_entry_that_is_read_could_not_have_been_written_otherwise(
        said in said(), at in 0..ENTRY_LEN, flip in 1..=255u8,
    ) {
        let (key, _) = PastKey::fresh(&secret(9));
        let (key_again, sender, local) = (&key, person(said.sender), person(9));
        let mut file = Vec::new();
        let mut past = Past::new(PastKey::fresh(&secret(9)).0);
        past.remember(&ran(&said, &local, &sender), Extent::Whole, true, &mut file);
        // Under the key of another file it is nothing.
        let sealed: [u8; ENTRY_LEN] = file.as_slice().try_into().unwrap();
        prop_assert_eq!(Entry::open(key_again, &sealed), Err(BadEntry::Damaged));
        let mut changed = sealed;
        changed[at] ^= flip;
        prop_assert_eq!(past.learn(&changed), Err(BadEntry::Damaged));
        prop_assert_eq!(past.learn(&sealed), Ok(()));
    }

    #[test]
    fn what_is_hidden_has_one_form(
        kind in 0..6u8, way in 0..3u8, rest in prop::collection::vec(any::<u8>(), 30), zeros in any::<bool>(),
    ) {
        let mut plain: [u8; PLAIN_LEN] = [&[kind, way][..], &rest].concat().try_into().unwrap();
        if zeros {
            plain[16..].fill(0);
        }
        let sound = matches!((kind, way), (1..=3, 0..=1)) || (kind, way < 2, zeros) == (4, true, true);
        let entry = Entry::decode(&plain);
        prop_assert_eq!(entry.is_some(), sound);
        if let Some(entry) = entry {
            prop_assert_eq!(entry.encode(), plain);
        }
    }
}

#[test]
fn a_header_opens_under_its_own_key_only() {
    let (_, header) = PastKey::fresh(&secret(9));
    assert!(PastKey::open(&secret(9), &header).is_ok());
    assert_eq!(PastKey::open(&secret(8), &header).err(), Some(BadEntry::Foreign));
    for at in 0..ENTRY_LEN {
        let mut changed = header;
        changed[at] ^= 1;
        let expected = if at < 8 { BadEntry::NotState } else { BadEntry::Foreign };
        assert_eq!(PastKey::open(&secret(9), &changed).err(), Some(expected));
    }
}

#[test]
fn entries_of_one_sender_have_nothing_in_common_that_shows() {
    let (local, sender) = (person(9), person(1));
    let (mut past, mut file) = (Past::new(PastKey::fresh(&secret(9)).0), Vec::new());
    for run in 0..200u8 {
        let ran =
            Ran { way: Way::Relay, local: &local, sender: &sender, run: [run; 8], time_ms: NOW };
        past.remember(&ran, Extent::Whole, true, &mut file);
    }
    let (entries, _) = file.as_chunks::<ENTRY_LEN>();
    for at in 0..ENTRY_LEN {
        let values: std::collections::BTreeSet<u8> = entries.iter().map(|e| e[at]).collect();
        // 200 draws of a byte are about 139 values; equal or counted ones would be few or all.
        assert!((100..180).contains(&values.len()), "byte {at} has {} values", values.len());
    }
}

#[test]
fn what_a_flood_pushes_out_stays_rejected_and_is_nobody_elses() {
    let (local, [flooder, friend]) = (person(9), [1, 2].map(person));
    let (key, header) = PastKey::fresh(&secret(9));
    let (mut past, mut file) = (Past::new(key), Vec::new());
    let ran = |sender, run: u64, time_ms| Ran {
        way: Way::Relay,
        local: &local,
        sender,
        run: run.to_be_bytes(),
        time_ms,
    };
    past.remember(&ran(&friend, 7, NOW - 50), Extent::Whole, true, &mut file);
    let flood = MAX_ENTRIES as u64 + 10;
    for run in 0..flood {
        past.remember(&ran(&flooder, run, NOW + run), Extent::Whole, true, &mut file);
        file.clear();
    }
    assert_eq!(past.recall(&ran(&friend, 7, NOW - 50)), Recall::Delivered);
    assert_eq!(past.recall(&ran(&friend, 8, NOW - 60)), Recall::New);
    assert_eq!(past.recall(&ran(&flooder, 9, NOW + 9)), Recall::Gone);
    assert_eq!(past.recall(&ran(&flooder, flood + 1, NOW + 9)), Recall::Gone);
    assert_eq!(past.recall(&ran(&flooder, 10, NOW + 10)), Recall::Delivered);
    // The floor, too, outlives a rewriting.
    let rewritten: Vec<u8> = past.entries().flatten().collect();
    let again = read(&secret(9), &header, &rewritten);
    assert_eq!(again.recall(&ran(&flooder, flood + 1, NOW + 9)), Recall::Gone);
    assert_eq!(again.recall(&ran(&flooder, flood + 1, NOW + 10)), Recall::New);
    assert_eq!(again.recall(&ran(&friend, 8, NOW - 60)), Recall::New);
}

#[test]
fn what_came_by_a_relay_is_remembered_for_31_days() {
    let (local, sender) = (person(9), person(1));
    let (mut past, mut file) = (Past::new(PastKey::fresh(&secret(9)).0), Vec::new());
    let ran = Ran { way: Way::Relay, local: &local, sender: &sender, run: [1; 8], time_ms: NOW };
    past.remember(&ran, Extent::Whole, true, &mut file);
    past.forget_expired(NOW + RELAY_LIFE_MS);
    assert_eq!(past.recall(&ran), Recall::Delivered);
    past.forget_expired(NOW + RELAY_LIFE_MS + 1);
    assert!(past.is_empty(), "an entry that is older than any relay holds a cell goes");
}

#[test]
fn who_becomes_a_contact_is_not_shown_again_what_was_forgotten_of_a_stranger() {
    let (local, sender) = (person(9), person(1));
    let (mut past, mut file) = (Past::new(PastKey::fresh(&secret(9)).0), Vec::new());
    let ran = |run: u64, time_ms| Ran {
        way: Way::Relay,
        local: &local,
        sender: &sender,
        run: run.to_be_bytes(),
        time_ms,
    };
    for run in 0..=MAX_ENTRIES as u64 {
        past.remember(&ran(run, NOW + run), Extent::Whole, false, &mut file);
    }
    assert_eq!(past.recall(&ran(0, NOW)), Recall::Gone);
    past.remember(&ran(u64::MAX, NOW + 1_000_000), Extent::Whole, true, &mut file);
    assert_eq!(past.recall(&ran(0, NOW)), Recall::Gone);
}

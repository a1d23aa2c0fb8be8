//! What a state file promises, whatever was remembered: PROTOCOL.md, section 12. Nothing that may
//! come again is forgotten without being rejected, entries say nothing without the key, and no
//! changed byte passes.

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
        let mut again = read(&me, &header, &file);
        let rewritten: Vec<u8> = again.entries().flatten().collect();
        let mut compacted = read(&me, &header, &rewritten);
        for past in [&mut past, &mut again, &mut compacted] {
            for said in last.values() {
                let sender = &people[usize::from(said.sender - 1)];
                let expected = if said.whole { Recall::Delivered } else { Recall::Gone };
                prop_assert_eq!(past.recall(&ran(said, &local, sender), said.contact, NOW), expected);
                let other_time = Ran { time_ms: said.time_ms + 1, ..ran(said, &local, sender) };
                prop_assert_eq!(past.recall(&other_time, said.contact, NOW), Recall::Gone);
                let other_key = Ran { local: sender, ..ran(said, &local, sender) };
                prop_assert_eq!(past.recall(&other_key, said.contact, NOW), Recall::New);
                let by_name = (!said.relay, said.sender, said.run);
                if !last.contains_key(&by_name) {
                    let other_way = Said { relay: !said.relay, ..said.clone() };
                    let recall = past.recall(&ran(&other_way, &local, sender), said.contact, NOW);
                    prop_assert_eq!(recall, Recall::New);
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

/// Runs of one way and key, with numbers for names.
fn numbered<'a>(local: &'a PublicKey) -> impl Fn(&'a PublicKey, u64, u64) -> Ran<'a> + use<'a> {
    move |sender, run, time_ms| Ran {
        way: Way::Relay,
        local,
        sender,
        run: run.to_be_bytes(),
        time_ms,
    }
}

#[test]
fn what_a_contact_pushes_out_stays_rejected_and_is_nobody_elses() {
    let (local, [flooder, friend]) = (person(9), [1, 2].map(person));
    let (key, header) = PastKey::fresh(&secret(9));
    let (mut past, mut file) = (Past::new(key), Vec::new());
    let ran = numbered(&local);
    past.remember(&ran(&friend, 7, NOW - 50), Extent::Whole, true, &mut file);
    let flood = MAX_ENTRIES as u64 + 10;
    for run in 0..flood {
        let ran = ran(&flooder, run, NOW + run);
        assert_eq!(past.recall(&ran, true, NOW + flood), Recall::New);
        past.remember(&ran, Extent::Whole, true, &mut file);
        file.clear();
    }
    let check = |past: &mut Past| {
        let mut recall =
            |who, run, at| past.recall(&ran(who, run, NOW + at - 60), true, NOW + flood);
        assert_eq!(recall(&friend, 7, 10), Recall::Delivered);
        assert_eq!(recall(&friend, 8, 0), Recall::New);
        assert_eq!(recall(&flooder, 9, 69), Recall::Gone);
        assert_eq!(recall(&flooder, flood + 1, 69), Recall::Gone);
        assert_eq!(recall(&flooder, flood, flood + 60), Recall::New);
    };
    check(&mut past);
    // The floor, too, outlives a rewriting.
    let rewritten: Vec<u8> = past.entries().flatten().collect();
    check(&mut read(&secret(9), &header, &rewritten));
}

#[test]
fn a_contacts_full_window_waits_rather_than_forget_what_is_of_a_time_to_come() {
    let (local, ahead) = (person(9), person(1));
    let (mut past, mut file) = (Past::new(PastKey::fresh(&secret(9)).0), Vec::new());
    let ran = numbered(&local);
    for run in 0..MAX_ENTRIES as u64 {
        past.remember(&ran(&ahead, run, NOW + 200_000 + run), Extent::Whole, true, &mut file);
        file.clear();
    }
    let next = ran(&ahead, u64::MAX, NOW + 290_000);
    assert_eq!(past.recall(&next, true, NOW), Recall::Full);
    // Another machine with the same key, whose clock is right, is not rejected by that.
    assert_eq!(past.recall(&ran(&ahead, 1 << 40, NOW), true, NOW), Recall::Full);
    assert_eq!(past.recall(&next, true, NOW + 200_000), Recall::New);
    let old = past.recall(&ran(&ahead, 0, NOW + 200_000), true, NOW + 200_000);
    assert_eq!(old, Recall::Gone, "forgotten, and not taken again");
}

#[test]
fn whatever_strangers_have_a_listener_remember_a_contact_is_heard() {
    let (local, people) = (person(9), [1, 2, 3].map(person));
    let [stranger, friend, other] = &people;
    let (key, header) = PastKey::fresh(&secret(9));
    let (mut past, mut file) = (Past::new(key), Vec::new());
    let ran = numbered(&local);
    let mut taken = 0;
    past.remember(&ran(friend, 1, NOW - 9), Extent::Whole, true, &mut file);
    for run in 0..MAX_ENTRIES as u64 + 1000 {
        let ran = ran(stranger, run, NOW + 298_000);
        if past.recall(&ran, false, NOW) == Recall::New {
            past.remember(&ran, Extent::Whole, false, &mut file);
            past.remember_packets(&ran, &[[7; 16]], false, &mut file);
            taken += 1;
        }
    }
    assert_eq!(taken, MAX_ENTRIES - 1, "what has no room is not taken");
    let check = |past: &mut Past, now: u64| {
        assert_eq!(past.recall(&ran(friend, 1, NOW - 9), true, now), Recall::Delivered);
        assert_eq!(past.recall(&ran(friend, 2, NOW - 9), true, now), Recall::New);
        // Also one of whom nothing was heard so far, and a stranger that is a contact by now.
        assert_eq!(past.recall(&ran(other, 1, NOW - 9), true, now), Recall::New);
        assert_eq!(past.recall(&ran(stranger, u64::MAX, NOW - 9), true, now), Recall::New);
        let again = past.recall(&ran(stranger, 0, NOW + 298_000), true, now);
        assert_eq!(again, Recall::Delivered, "what is remembered of it stays so");
    };
    check(&mut past, NOW);
    let mut again = read(&secret(9), &header, &file);
    check(&mut again, NOW);
    // They forget what is too old, and nobody else is touched by that either.
    again.forget_expired(NOW + 298_000 + RELAY_LIFE_MS + 1);
    assert_eq!(again.recall(&ran(other, 1, NOW - 9), true, NOW), Recall::New);
    assert!(again.is_empty(), "what is too old is kept");
}

#[test]
fn what_came_by_a_relay_is_remembered_for_31_days() {
    let (local, sender) = (person(9), person(1));
    let (mut past, mut file) = (Past::new(PastKey::fresh(&secret(9)).0), Vec::new());
    let ran = Ran { way: Way::Relay, local: &local, sender: &sender, run: [1; 8], time_ms: NOW };
    past.remember(&ran, Extent::Whole, true, &mut file);
    past.forget_expired(NOW + RELAY_LIFE_MS);
    assert_eq!(past.recall(&ran, true, NOW), Recall::Delivered);
    past.forget_expired(NOW + RELAY_LIFE_MS + 1);
    assert!(past.is_empty(), "an entry that is older than any relay holds a cell goes");
}

//! What draws an answer from a datagram listener, and what draws nothing. PROTOCOL.md, 4.

use crate::testkit::datagram_forge;

use anonchat::crypto::sodium::{KeyPair, OsRandom, Secret, SeededRandom, random, seal_secret};
use anonchat::proto::datagram::ack::{ACK_LEN, Status, WHOLE, ack, parse};
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::cache::BoxCache;
use anonchat::proto::datagram::packet::{
    FRAGMENT_LEN, Head, Kind, LocalKey, MAX_MESSAGE, MessageId, Opened, PACKET_LEN, Sealer, Way,
    fragment_of, fragments,
};
use anonchat::proto::datagram::probe::Prober;
use anonchat::proto::datagram::receiver::{Arrival, Event, Receiver, RunKey};
use anonchat::proto::datagram::sender::{OfferError, Progress, Reliability};
use anonchat::proto::time::{CLOCK_WINDOW_MS, Now};
use datagram_forge::*;
use proptest::prelude::*;

/// Nothing happened, and nothing is remembered.
fn assert_silent(packet: &[u8], why: &str) {
    let mut bob = listener();
    let events = feed(&mut bob, packet, at(0), Admission::Contact);
    assert!(events.is_empty() && bob.take_acks().is_empty(), "{why}");
    assert_eq!(bob.load(), (0, 0), "{why}");
}

fn acks(bob: &mut Receiver<u16>) -> Vec<u8> {
    bob.take_acks().into_iter().flat_map(|datagram| datagram.bytes).collect()
}

fn expected(forge: &Forge, fragment: u16, status: Status) -> Vec<u8> {
    let id = MessageId { run: forge.run, sequence: forge.sequence };
    ack(&forge.ack_key, id, fragment, status).to_vec()
}

fn run_of(events: &[Event]) -> RunKey {
    match events {
        [Event::Message(message)] => message.run,
        _ => panic!("not one message"),
    }
}

#[test]
fn a_sound_packet_is_delivered_and_acked() {
    let (mut bob, forge) = (listener(), Forge::default());
    let events = feed(&mut bob, &forge.seal(), at(0), Admission::Contact);
    let [Event::Message(message)] = events.as_slice() else { panic!("not one message") };
    assert_eq!((message.body.as_slice(), message.more), (&b"hi\n"[..], false));
    assert_eq!(acks(&mut bob), expected(&forge, 0, Status::Received));
    bob.delivered(&message.run);
    assert_eq!(acks(&mut bob), expected(&forge, WHOLE, Status::Delivered));
}

#[test]
fn every_length_draws_silence() {
    let mut bob = listener();
    let sound = Forge::default().seal();
    for len in (0..=2000).filter(|len| *len != PACKET_LEN) {
        let mut garbage = vec![0; len];
        anonchat::crypto::sodium::random_into(&mut garbage);
        let mut cut = sound.to_vec();
        cut.resize(len, 0);
        for packet in [garbage, cut] {
            assert!(feed(&mut bob, &packet, at(0), Admission::Contact).is_empty(), "{len}");
        }
    }
    assert!(bob.take_acks().is_empty());
    assert_eq!(bob.load(), (0, 0));
    assert_silent(&random::<PACKET_LEN>(), "garbage of the right length");
}

#[test]
fn every_flipped_byte_draws_silence_even_when_mac1_is_made_anew() {
    let local = LocalKey::new(pair("bob"), &ACCESS);
    let sound = Forge::default().seal();
    for at_byte in 0..PACKET_LEN {
        let mut packet = sound;
        packet[at_byte] ^= 1 << (at_byte % 8);
        assert!(!local.recognises(&packet), "{at_byte}");
        // Someone who knows our access can make mac1, and gets no further.
        if at_byte >= 16 {
            assert!(Opened::open(local.keys(), &packet, 0, &[]).is_none(), "{at_byte}");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_inner_box_draws_silence() {
    let (me, to) = (pair("alice"), *pair("bob").public());
    let nonce = [3; 24];
    let key = anonchat::crypto::sodium::BoxKey::new(&me, &to);
    let boxed = key.seal(&nonce, &Forge::default().payload());
    for flip in [0, 15, 16, 500, 1075] {
        let mut inner = vec![1, 0, 0, 0];
        inner.extend(me.public().as_bytes());
        inner.extend(nonce);
        inner.extend(&boxed);
        inner[60 + flip] ^= 1;
        assert_silent(&seal_inner(&to, &ACCESS, &inner), "inner box");
    }
}

#[test]
fn a_wrong_access_draws_silence() {
    assert_silent(&Forge { access: [8; 32], ..Forge::default() }.seal(), "access");
}

#[test]
fn a_sender_that_claims_another_key_draws_silence() {
    let claimed = Some(*pair("carol").public().as_bytes());
    assert_silent(&Forge { claimed, ..Forge::default() }.seal(), "another's key");
}

#[test]
fn a_low_order_or_second_form_sender_key_draws_silence() {
    let mut order_8 = [0; 32];
    order_8[..16].copy_from_slice(&[
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a,
    ]);
    order_8[16..].copy_from_slice(&[
        0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8,
        0x00,
    ]);
    let mut one = [0; 32];
    one[0] = 1;
    let mut top_bit = *pair("alice").public().as_bytes();
    top_bit[31] |= 0x80;
    for claimed in [[0; 32], one, order_8, [0xff; 32], top_bit] {
        assert_silent(&Forge { claimed: Some(claimed), ..Forge::default() }.seal(), "S_pk");
    }
    // libsodium's precomputation leaves a key of zeros for a low-order S_pk, and anybody can seal
    // under that.
    let to = *pair("bob").public();
    for claimed in [[0; 32], one, order_8] {
        let nonce = [1; 24];
        let mut inner = vec![1, 0, 0, 0];
        inner.extend(claimed);
        inner.extend(nonce);
        inner.extend(seal_secret(&Secret::zeroed(), &nonce, &Forge::default().payload()));
        assert_silent(&seal_inner(&to, &ACCESS, &inner), "a box under a key of zeros");
    }
}

#[test]
fn every_undefined_version_kind_and_flag_draws_silence() {
    let sound = Forge::default;
    for version in [0, 2, 255] {
        assert_silent(&Forge { version, ..sound() }.seal(), "version");
    }
    for kind in [1, 3, 4, 5, 6, 255] {
        assert_silent(&Forge { kind, ..sound() }.seal(), "kind");
    }
    for bit in [0, 2, 3, 7, 8, 15] {
        assert_silent(&Forge { flags: 1 << bit, ..sound() }.seal(), "flag");
    }
    for flags in [1, 2, 4] {
        let probe = Forge { kind: 2, flags, body: vec![0xa0], ..sound() };
        assert_silent(&probe.seal(), "flag of a probe");
    }
}

#[test]
fn a_message_has_one_form_only() {
    let full = vec![1; FRAGMENT_LEN];
    let sound = Forge::default;
    for (fragment, of) in [(0, 0), (1, 1), (2, 1), (0, 65), (64, 64), (0, 0xffff), (0xffff, 1)] {
        assert_silent(&Forge { fragment, of, body: full.clone(), ..sound() }.seal(), "range");
    }
    assert_silent(&Forge { of: 2, ..sound() }.seal(), "not the last and not full");
    let empty = Forge { fragment: 1, of: 2, body: vec![], ..sound() };
    assert_silent(&empty.seal(), "an empty last fragment");
    for len in [FRAGMENT_LEN as u16 + 1, 0xffff] {
        assert_silent(&Forge { len: Some(len), ..sound() }.seal(), "length");
    }
    assert_silent(&Forge { len: Some(2), ..sound() }.seal(), "padding after a shorter length");
    assert_silent(&Forge { padding: 1, ..sound() }.seal(), "padding");
    assert_silent(&Forge { sequence: 1, ..sound() }.seal(), "the middle of an unknown run");
}

#[test]
fn the_clock_window_is_five_minutes_either_way() {
    for (time_ms, heard) in [
        (EPOCH_MS - CLOCK_WINDOW_MS, true),
        (EPOCH_MS - CLOCK_WINDOW_MS - 1, false),
        (EPOCH_MS + CLOCK_WINDOW_MS, true),
        (EPOCH_MS + CLOCK_WINDOW_MS + 1, false),
        (0, false),
        (u64::MAX, false),
    ] {
        let packet = Forge { time_ms, ..Forge::default() }.seal();
        let events = feed(&mut listener(), &packet, at(0), Admission::Contact);
        assert_eq!(events.len(), usize::from(heard), "{time_ms}");
    }
}

#[test]
fn the_same_packet_again_draws_nothing_and_a_new_one_for_it_is_acked_not_delivered() {
    let (mut bob, forge) = (listener(), Forge::default());
    let first = forge.seal();
    let run = run_of(&feed(&mut bob, &first, at(0), Admission::Contact));
    let mut sent = vec![first];
    for status in [Status::Received, Status::Delivered, Status::Delivered] {
        if status == Status::Delivered {
            bob.delivered(&run);
        }
        acks(&mut bob);
        for packet in &sent {
            assert!(feed(&mut bob, packet, at(1), Admission::Contact).is_empty());
            assert!(acks(&mut bob).is_empty(), "a replay");
        }
        let again = forge.seal();
        assert!(feed(&mut bob, &again, at(1), Admission::Contact).is_empty());
        let fragment = if status == Status::Received { 0 } else { WHOLE };
        assert_eq!(acks(&mut bob), expected(&forge, fragment, status));
        sent.push(again);
    }
}

#[test]
fn what_was_delivered_before_is_acked_again_and_not_delivered() {
    let forge = Forge::default();
    for contact in [true, false] {
        let (mut bob, before) = (listener(), Admission::DeliveredBefore(contact));
        let packets = [forge.seal(), forge.seal()];
        for packet in &packets {
            let mut events = Vec::new();
            bob.feed(packet, 1, at(0), &mut |_| before, &mut events);
            let [Event::Answered { run, time_ms, mac1, contact: whose }] = events.as_slice() else {
                panic!("it is answered, and that is all")
            };
            assert_eq!((run.run(), *time_ms, *whose), (forge.run, forge.time_ms, contact));
            assert!(packet.starts_with(mac1));
            assert_eq!(acks(&mut bob), expected(&forge, WHOLE, Status::Delivered));
            bob.feed(packet, 1, at(0), &mut |_| before, &mut events);
            assert!(acks(&mut bob).is_empty(), "a replay");
        }
        let run = run_of_forge(&mut bob, &forge);
        assert!(
            bob.packets(&run).starts_with(&packets.map(|packet| *packet.first_chunk().unwrap()))
        );
        acks(&mut bob);
        // Of a run that goes on, its sender gets no answer.
        let begun = Forge { flags: 2, run: [8; 8], ..Forge::default() };
        assert!(feed(&mut bob, &begun.seal(), at(0), before).is_empty());
        assert!(acks(&mut bob).is_empty());
    }
}

/// The run of a forge, as the receiver calls it.
fn run_of_forge(bob: &mut Receiver<u16>, forge: &Forge) -> RunKey {
    let mut events = Vec::new();
    bob.feed(&forge.seal(), 1, at(0), &mut |_| Admission::Contact, &mut events);
    match events.as_slice() {
        [Event::Answered { run, .. }] => *run,
        _ => panic!("it is known"),
    }
}

#[test]
fn a_replay_draws_nothing_however_the_clock_jumps() {
    let (mut bob, mut events) = (listener(), Vec::new());
    let packet = Forge::default().seal();
    let run = run_of(&feed(&mut bob, &packet, at(0), Admission::Contact));
    bob.delivered(&run);
    acks(&mut bob);
    let hour = 3_600_000;
    for (mono_s, unix_ms) in
        [(31, EPOCH_MS + hour), (62, EPOCH_MS), (93, EPOCH_MS - hour), (124, EPOCH_MS)]
    {
        let now = Now { mono: std::time::Duration::from_secs(mono_s), unix_ms };
        bob.tick(now, &mut events);
        assert!(feed(&mut bob, &packet, now, Admission::Contact).is_empty());
        assert!(feed(&mut bob, &packet, at(0), Admission::Contact).is_empty());
        assert!(acks(&mut bob).is_empty());
    }
    assert_eq!(bob.load().0, 0, "it was forgotten, and the floor rejects it");
    // A run made later is heard.
    let later = Forge { run: *b"later...", time_ms: EPOCH_MS + 1, ..Forge::default() }.seal();
    assert_eq!(feed(&mut bob, &later, at(1), Admission::Contact).len(), 1);
}

#[test]
fn who_is_turned_away_draws_nothing_and_is_reported_only_with_a_sound_packet() {
    let mut bob = listener();
    let events = feed(&mut bob, &Forge::default().seal(), at(0), Admission::TurnAway);
    let [Event::TurnedAway { sender, local: 0 }] = events.as_slice() else { panic!("no notice") };
    assert_eq!(sender, pair("alice").public());
    assert!(acks(&mut bob).is_empty());
    assert_eq!(bob.load(), (0, 0), "nothing is remembered");
    let stale = Forge { time_ms: EPOCH_MS - CLOCK_WINDOW_MS - 1, ..Forge::default() };
    assert!(feed(&mut bob, &stale.seal(), at(0), Admission::TurnAway).is_empty());
}

#[test]
fn fragments_come_in_any_order_and_those_that_differ_from_the_first_are_dropped() {
    let mut bob = listener();
    let body: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
    let part = |i: u16| Forge {
        fragment: i,
        of: 3,
        body: fragment_of(&body, i.into()).to_vec(),
        ..Forge::default()
    };
    assert!(feed(&mut bob, &part(2).seal(), at(0), Admission::Contact).is_empty());
    acks(&mut bob);
    for wrong in [
        Forge { of: 4, ..part(1) },
        Forge { flags: 2, ..part(1) },
        Forge { time_ms: EPOCH_MS + 1, ..part(1) },
        Forge { ack_key: [1; 32], ..part(1) },
        Forge { sequence: 1, ..part(1) },
    ] {
        assert!(feed(&mut bob, &wrong.seal(), at(0), Admission::Contact).is_empty());
        assert!(acks(&mut bob).is_empty());
    }
    assert!(feed(&mut bob, &part(0).seal(), at(0), Admission::Contact).is_empty());
    let events = feed(&mut bob, &part(1).seal(), at(0), Admission::Contact);
    let [Event::Message(message)] = events.as_slice() else { panic!("not whole") };
    assert_eq!(message.body, body);
}

#[test]
fn the_next_message_waits_for_the_delivery_of_the_one_before() {
    let mut bob = listener();
    let first = Forge { flags: 2, ..Forge::default() };
    let next = Forge { sequence: 1, ..Forge::default() };
    let run = run_of(&feed(&mut bob, &first.seal(), at(0), Admission::Contact));
    acks(&mut bob);
    assert!(feed(&mut bob, &next.seal(), at(0), Admission::Contact).is_empty());
    assert!(acks(&mut bob).is_empty());
    bob.delivered(&run);
    acks(&mut bob);
    assert_eq!(run_of(&feed(&mut bob, &next.seal(), at(0), Admission::Contact)), run);
    acks(&mut bob);
    // What is past draws nothing, not even under a new mac1: its sender needs no answer.
    assert!(feed(&mut bob, &first.seal(), at(0), Admission::Contact).is_empty());
    assert!(acks(&mut bob).is_empty());
}

#[test]
fn a_declined_run_is_declined_again_and_a_cut_one_draws_silence() {
    for cut in [false, true] {
        let (mut bob, forge) = (listener(), Forge { flags: 2, ..Forge::default() });
        let run = run_of(&feed(&mut bob, &forge.seal(), at(0), Admission::Contact));
        acks(&mut bob);
        if cut {
            bob.cut(&run)
        } else {
            bob.declined(&run)
        }
        let answer = if cut { vec![] } else { expected(&forge, WHOLE, Status::Declined) };
        assert_eq!(acks(&mut bob), answer);
        bob.delivered(&run);
        assert!(acks(&mut bob).is_empty(), "too late");
        assert!(feed(&mut bob, &forge.seal(), at(0), Admission::Contact).is_empty());
        assert_eq!(acks(&mut bob), answer);
        assert_eq!(bob.load().1, 0, "no bytes are held");
    }
}

#[test]
fn declining_between_two_messages_answers_the_next_one() {
    let (mut bob, forge) = (listener(), Forge { flags: 2, ..Forge::default() });
    let run = run_of(&feed(&mut bob, &forge.seal(), at(0), Admission::Contact));
    bob.delivered(&run);
    bob.declined(&run);
    acks(&mut bob);
    assert!(feed(&mut bob, &forge.seal(), at(0), Admission::Contact).is_empty());
    assert_eq!(acks(&mut bob), expected(&forge, WHOLE, Status::Delivered));
    let next = Forge { sequence: 1, ..forge };
    assert!(feed(&mut bob, &next.seal(), at(0), Admission::Contact).is_empty());
    assert_eq!(acks(&mut bob), expected(&next, WHOLE, Status::Declined));
}

#[test]
fn what_was_lost_without_acks_ends_the_run() {
    let mut bob = listener();
    let first = Forge { flags: 2, ..Forge::default() };
    let run = run_of(&feed(&mut bob, &first.seal(), at(0), Admission::Contact));
    bob.delivered(&run);
    let gap = Forge { sequence: 2, ..Forge::default() };
    let events = feed(&mut bob, &gap.seal(), at(0), Admission::Contact);
    assert!(matches!(events.as_slice(), [Event::Abandoned(key)] if *key == run));
    acks(&mut bob);
    let next = Forge { sequence: 1, ..Forge::default() };
    assert!(feed(&mut bob, &next.seal(), at(0), Admission::Contact).is_empty());
    assert!(acks(&mut bob).is_empty());
}

#[test]
fn a_run_begins_once_before_anything_of_it_is_acked_and_can_be_turned_away_until_then() {
    let (mut bob, mut events, mut begins) = (listener(), Vec::new(), Vec::new());
    let forge = |run| Forge { run, of: 2, body: vec![1; FRAGMENT_LEN], ..Forge::default() };
    for (run, admission) in [
        (*b"heard...", Admission::Contact),
        (*b"heard...", Admission::Contact),
        (*b"too late", Admission::TurnAway),
    ] {
        let mut admit = |arrival: &Arrival<'_>| {
            begins.push(arrival.begins);
            admission
        };
        bob.feed(&forge(run).seal(), 1, at(0), &mut admit, &mut events);
    }
    assert_eq!(begins, [true, false, true]);
    assert!(matches!(events.as_slice(), [Event::Begun(_), Event::TurnedAway { .. }]));
    assert_eq!(acks(&mut bob).len(), 2 * ACK_LEN);
}

#[test]
fn a_run_that_falls_silent_is_given_up() {
    let (mut bob, mut events) = (listener(), Vec::new());
    let forge = Forge { flags: 2, ..Forge::default() };
    let run = run_of(&feed(&mut bob, &forge.seal(), at(0), Admission::Contact));
    bob.tick(at(400_000), &mut events);
    assert!(events.is_empty(), "what the caller holds waits for the caller");
    bob.delivered(&run);
    bob.tick(at(500_000), &mut events);
    assert!(matches!(events.as_slice(), [Event::Abandoned(key)] if *key == run));
    assert!(bob.last_heard(&run).is_none());
}

/// What comes of a flood of strangers, each packet as `forge` says, stamped far ahead.
fn flood(bob: &mut Receiver<u16>, count: u64, forge: &Forge) -> usize {
    let mut heard = 0;
    for i in 0..count {
        let (run, time_ms) = (i.to_be_bytes(), EPOCH_MS + 290_000 + i % 8000);
        let packet = Forge { from: "mallory", run, time_ms, ..forge.clone() }.seal();
        for event in feed(bob, &packet, at(i / 20), Admission::Unknown) {
            heard += 1;
            if let Event::Message(message) = event {
                bob.delivered(&message.run);
            }
        }
        bob.take_acks();
    }
    heard
}

#[test]
fn whatever_strangers_send_a_contact_is_heard_whether_it_was_before_or_not() {
    let probe = Forge { kind: 2, body: vec![0xa0], ..Forge::default() };
    for (forge, most) in [(Forge::default(), 5000), (probe, 400)] {
        let mut bob = listener();
        let contact = Forge::default();
        let run = run_of(&feed(&mut bob, &contact.seal(), at(0), Admission::Contact));
        bob.delivered(&run);
        acks(&mut bob);
        let heard = flood(&mut bob, 5000, &forge);
        assert!(heard <= most && heard >= 256, "{heard}");
        assert!(bob.load().0 <= 4097, "the unknown share one quota");
        // A run that is known is; and so is what is new, from one heard before and one that is not.
        assert!(feed(&mut bob, &contact.seal(), at(0), Admission::Contact).is_empty());
        assert_eq!(acks(&mut bob), expected(&contact, WHOLE, Status::Delivered));
        for from in ["alice", "carol", "mallory"] {
            let behind =
                Forge { from, run: *b"new-run.", time_ms: EPOCH_MS - 280_000, ..contact.clone() };
            let events = feed(&mut bob, &behind.seal(), at(251), Admission::Contact);
            assert_eq!(events.len(), 1, "{from}");
            let asks = Forge { from, kind: 2, body: vec![0xa0], ..behind };
            assert_eq!(feed(&mut bob, &asks.seal(), at(251), Admission::Contact).len(), 1);
        }
    }
}

#[test]
fn who_becomes_a_contact_brings_nothing_back_that_it_said_before() {
    let mut bob = listener();
    let mut replay = None;
    for i in 0..4200u64 {
        let run = i.to_be_bytes();
        let packet = Forge { run, time_ms: EPOCH_MS + i, ..Forge::default() }.seal();
        replay.get_or_insert(packet);
        let run = run_of(&feed(&mut bob, &packet, at(0), Admission::Unknown));
        bob.delivered(&run);
    }
    assert!(feed(&mut bob, &replay.unwrap(), at(0), Admission::Contact).is_empty());
}

#[test]
fn a_sender_whose_clock_is_behind_is_answered_for_as_long_as_it_asks() {
    let mut bob = listener();
    let forge = Forge { time_ms: EPOCH_MS - 290_000, ..Forge::default() };
    let run = run_of(&feed(&mut bob, &forge.seal(), at(0), Admission::Contact));
    acks(&mut bob);
    // The reader pauses: no new run could be as old as this one is by now.
    assert!(feed(&mut bob, &forge.seal(), at(20_000), Admission::Contact).is_empty());
    assert_eq!(acks(&mut bob), expected(&forge, 0, Status::Received));
    let other = Forge { run: *b"another.", ..forge.clone() };
    assert!(feed(&mut bob, &other.seal(), at(20_000), Admission::Contact).is_empty());
    bob.delivered(&run);
    acks(&mut bob);
    assert!(feed(&mut bob, &forge.seal(), at(40_000), Admission::Contact).is_empty());
    assert_eq!(acks(&mut bob), expected(&forge, WHOLE, Status::Delivered));
}

#[test]
fn a_run_that_was_begun_goes_on_though_others_have_taken_all_room() {
    let mut bob = listener();
    let owner = Forge { flags: 1 << 1, ..Forge::default() };
    let owns = run_of(&feed(&mut bob, &owner.seal(), at(0), Admission::Contact));
    bob.delivered(&owns);
    // Each waits for the output that the owner has.
    for i in 0..500u64 {
        let body = vec![1; FRAGMENT_LEN];
        let half = Forge { run: i.to_be_bytes(), of: 64, body, ..Forge::default() };
        feed(&mut bob, &half.seal(), at(0), Admission::Contact);
    }
    acks(&mut bob);
    let next = Forge { sequence: 1, of: 64, body: vec![1; FRAGMENT_LEN], ..Forge::default() };
    feed(&mut bob, &next.seal(), at(0), Admission::Contact);
    assert_eq!(acks(&mut bob), expected(&next, 0, Status::Received));
    assert!(bob.load().1 <= (4 << 20) + MAX_MESSAGE);
}

#[test]
fn half_messages_have_a_bound_and_an_idle_one_gives_way() {
    let mut bob = listener();
    let half = |i: u64| Forge {
        run: i.to_be_bytes(),
        of: 64,
        body: vec![1; FRAGMENT_LEN],
        ..Forge::default()
    };
    for i in 0..500 {
        feed(&mut bob, &half(i).seal(), at(0), Admission::Contact);
    }
    let (runs, bytes) = bob.load();
    assert!(bytes <= 4 << 20 && runs == bytes / MAX_MESSAGE, "{runs} {bytes}");
    // Another contact has room of its own.
    let carol = Forge { from: "carol", ..Forge::default() };
    assert_eq!(feed(&mut bob, &carol.seal(), at(0), Admission::Contact).len(), 1);
    // What stopped half a minute ago gives way to what comes now.
    acks(&mut bob);
    feed(&mut bob, &half(1000).seal(), at(29_000), Admission::Contact);
    assert!(acks(&mut bob).is_empty());
    feed(&mut bob, &half(1000).seal(), at(30_000), Admission::Contact);
    assert_eq!(acks(&mut bob).len(), ACK_LEN);
}

#[test]
fn one_message_cannot_fill_the_memory_with_its_packets() {
    let (mut bob, forge) = (listener(), Forge::default());
    let mut answered = 0;
    for _ in 0..1100 {
        feed(&mut bob, &forge.seal(), at(0), Admission::Contact);
        answered += acks(&mut bob).len() / ACK_LEN;
    }
    assert_eq!(answered, 1024);
}

#[test]
fn an_ack_datagram_is_never_larger_than_what_it_answers() {
    let (mut bob, mut rng) = (listener(), SeededRandom::new(1));
    let mut alice = sender("alice", &mut rng);
    let mut packet = [0; PACKET_LEN];
    alice.offer(&[5; MAX_MESSAGE], false, at(0), &mut rng).unwrap();
    let (mut fed, mut drained, mut events) = (0, 0, Vec::new());
    for ms in 0..100 {
        while alice.transmit(at(ms), &mut rng, &mut packet) {
            let source = (fed % 2) as u16;
            bob.feed(&packet, source, at(ms), &mut |_| Admission::Contact, &mut events);
            fed += 1;
        }
        let before = fed;
        for datagram in bob.take_acks() {
            assert!(parse(&datagram.bytes).is_some() && datagram.bytes.len() <= PACKET_LEN);
            assert!(datagram.bytes.len() <= before * PACKET_LEN);
            drained += datagram.bytes.len();
            alice.feed_ack(&datagram.bytes, at(ms));
        }
    }
    assert_eq!(drained, fed * ACK_LEN, "an ack for each packet");
    assert!(fed >= 64);
    assert!(matches!(events.as_slice(), [Event::Begun(_), Event::Message(_)]));
}

#[test]
fn foreign_and_malformed_acks_are_ignored() {
    let mut rng = SeededRandom::new(2);
    let (mut bob, mut alice) = (listener(), sender("alice", &mut rng));
    let mut packet = [0; PACKET_LEN];
    alice.offer(b"hi", false, at(0), &mut rng).unwrap();
    assert!(alice.transmit(at(0), &mut rng, &mut packet));
    for len in 0..=1300 {
        assert!(!alice.feed_ack(&vec![1; len], at(1)), "{len}");
        let sound = len % ACK_LEN == 0 && (1..=37).contains(&(len / ACK_LEN));
        assert_eq!(parse(&vec![1; len]).is_some(), sound, "{len}");
    }
    let other = Forge::default();
    for status in [Status::Received, Status::Delivered, Status::Declined] {
        assert!(!alice.feed_ack(&expected(&other, WHOLE, status), at(1)));
    }
    assert_eq!((alice.progress(), alice.last_proof()), (Progress::InFlight, None));
    let run = run_of(&feed(&mut bob, &packet, at(1), Admission::Contact));
    let received = acks(&mut bob);
    assert!(!alice.feed_ack(&[&received[..], &[0]].concat(), at(2)), "not a multiple of 32");
    assert!(alice.feed_ack(&received, at(2)));
    assert_eq!(alice.progress(), Progress::InFlight, "received is not delivered");
    bob.delivered(&run);
    assert!(alice.feed_ack(&acks(&mut bob), at(3)));
    assert_eq!(alice.progress(), Progress::Finished);
    assert_eq!(alice.last_proof(), Some(at(3).mono));
}

#[test]
fn a_sender_takes_one_message_at_a_time_and_gives_up_after_five_minutes() {
    let mut rng = SeededRandom::new(3);
    let mut alice = sender("alice", &mut rng);
    let mut packet = [0; PACKET_LEN];
    let offer = alice.offer(&[0; MAX_MESSAGE + 1], false, at(0), &mut rng);
    assert_eq!(offer, Err(OfferError::TooLong));
    alice.offer(b"hi", true, at(0), &mut rng).unwrap();
    assert_eq!(alice.offer(b"ho", true, at(0), &mut rng), Err(OfferError::Busy));
    let (mut ms, mut sent) = (0, 0);
    while let Some(next) = alice.next_timeout() {
        ms = ms.max(next.as_millis() as u64 + 1);
        while alice.transmit(at(ms), &mut rng, &mut packet) {
            sent += 1;
        }
    }
    assert_eq!(alice.progress(), Progress::Expired);
    assert!((300_000..300_010).contains(&ms), "{ms}");
    assert!((290..320).contains(&sent), "backed off to 1 s: {sent}");
    assert_eq!(alice.offer(b"ho", false, at(ms), &mut rng), Err(OfferError::Ended));
}

#[test]
fn without_acks_each_packet_is_sent_once() {
    let (mut bob, mut rng) = (listener(), SeededRandom::new(4));
    let (me, to) = (pair("alice"), *pair("bob").public());
    let mut alice = anonchat::proto::datagram::sender::Sender::new(
        &me,
        &to,
        &ACCESS,
        Reliability::FireAndForget,
        &mut rng,
    );
    let (mut packet, mut events, mut sent, mut ms) = ([0; PACKET_LEN], Vec::new(), 0, 0);
    for more in [true, false] {
        alice.offer(&[6; MAX_MESSAGE], more, at(ms), &mut rng).unwrap();
        while alice.progress() == Progress::InFlight {
            while alice.transmit(at(ms), &mut rng, &mut packet) {
                sent += 1;
                let before = events.len();
                bob.feed(&packet, 1, at(ms), &mut |_| Admission::Contact, &mut events);
                for event in &events[before..] {
                    if let Event::Message(message) = event {
                        bob.delivered(&message.run);
                    }
                }
            }
            ms += 1;
        }
    }
    assert_eq!((sent, events.len(), alice.progress()), (128, 3, Progress::Finished));
    assert!(ms >= 7 * 4, "in spaced bursts: {ms}");
}

#[test]
fn a_direct_probe_is_answered_and_the_answer_proves_the_key() {
    let (mut bob, mut rng) = (listener(), OsRandom);
    let (alice, carol) = (pair("alice"), pair("carol"));
    let prober = Prober::new(&alice, pair("bob").public(), &ACCESS, &mut rng);
    let (mut packet, mut here) = ([0; PACKET_LEN], [0; PACKET_LEN]);
    prober.packet(at(0), &mut rng, &mut packet);
    let events = feed(&mut bob, &packet, at(0), Admission::Contact);
    let [Event::Probe(probe)] = events.as_slice() else { panic!("no probe") };
    assert_eq!((probe.sender(), probe.local()), (alice.public(), 0));
    bob.here(probe, at(1), &mut rng, &mut here);
    assert!(prober.is_answer(&here, at(2)));
    assert!(!prober.is_answer(&packet, at(2)), "its own probe");
    assert!(!prober.is_answer(&here[1..], at(2)));
    let mut bent = here;
    bent[700] ^= 1;
    assert!(!prober.is_answer(&bent, at(2)));
    assert!(acks(&mut bob).is_empty(), "a probe is never acked");
    // Another prober cannot take it for an answer to its own.
    for other in [
        Prober::new(&alice, pair("bob").public(), &ACCESS, &mut rng),
        Prober::new(&carol, pair("bob").public(), &ACCESS, &mut rng),
    ] {
        assert!(!other.is_answer(&here, at(2)));
    }
    assert!(feed(&mut bob, &packet, at(3), Admission::Contact).is_empty(), "a replay");
    prober.packet(at(4), &mut rng, &mut packet);
    assert_eq!(feed(&mut bob, &packet, at(4), Admission::Contact).len(), 1, "asked again");
    assert!(feed(&mut bob, &here, at(4), Admission::Contact).is_empty());
}

#[test]
fn a_here_from_another_key_or_probe_proves_nothing() {
    let mut rng = OsRandom;
    let (alice, carol) = (pair("alice"), pair("carol"));
    let prober = Prober::new(&alice, pair("bob").public(), &ACCESS, &mut rng);
    let mut packet = [0; PACKET_LEN];
    prober.packet(at(0), &mut rng, &mut packet);
    let bob = LocalKey::new(pair("bob"), &ACCESS);
    let probe = Opened::open(bob.keys(), &packet, 0, &[]).unwrap();
    let (id, zeros) = (probe.id(), [0; 32]);
    let other = MessageId { run: *b"another.", sequence: 0 };
    let make = |from: &KeyPair, kind, id, ack_key: &[u8; 32], body: &[u8]| {
        let (way, time_ms) = (Way::Network, EPOCH_MS);
        let head = Head { kind, way, more: false, id, time_ms, ack_key, fragment: 0, of: 1 };
        let mut out = [0; PACKET_LEN];
        let sealer = Sealer::new(from, alice.public(), probe.ack_key());
        sealer.seal(&head, body, &mut OsRandom, &mut out);
        out
    };
    let right = pair("bob");
    assert!(prober.is_answer(&make(&right, Kind::Here, id, &zeros, &[0xa0]), at(0)));
    for wrong in [
        make(&carol, Kind::Here, id, &zeros, &[0xa0]),
        make(&right, Kind::Message, id, &zeros, &[0xa0]),
        make(&right, Kind::Here, other, &zeros, &[0xa0]),
        make(&right, Kind::Here, id, &[1; 32], &[0xa0]),
        make(&right, Kind::Here, id, &zeros, &[]),
        make(&right, Kind::Here, id, &zeros, &[0xa0, 0xa0]),
    ] {
        assert!(!prober.is_answer(&wrong, at(0)));
    }
}

#[test]
fn probes_that_are_void_malformed_or_discoverys_draw_nothing() {
    let probe = |body: &[u8]| Forge { kind: 2, body: body.to_vec(), ..Forge::default() };
    let heard = |forge: &Forge, ms| {
        let mut bob = listener();
        let events = feed(&mut bob, &forge.seal(), at(ms), Admission::Contact);
        assert!(bob.take_acks().is_empty());
        events.len()
    };
    assert_eq!(heard(&probe(&[0xa0]), 299_000), 1);
    assert_eq!(heard(&probe(&[0xa0]), 300_001), 0);
    let ahead = Forge { time_ms: EPOCH_MS + 299_000, ..probe(&[0xa0]) };
    assert_eq!(heard(&ahead, 0), 1);
    assert_eq!(heard(&probe(&[0xa1, 9, 0x82, 1, 2]), 0), 1, "unknown keys are skipped");
    for body in [
        &[][..],
        &[0xa1, 0, 0x80],
        &[0xa1],
        &[0xa1, 9],
        &[0xa0, 0],
        &[0xbf, 0xff],
        &[0x80],
        &[0xb1],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xa1, 9, 0x9f],
        &[0x9f; 998],
    ] {
        assert_eq!(heard(&probe(body), 0), 0, "{body:x?}");
    }
}

#[test]
fn several_local_keys_are_told_apart() {
    let team = KeyPair::from_secret(Secret::random());
    let to = *team.public();
    let locals = vec![LocalKey::new(pair("bob"), &ACCESS), LocalKey::new(team, &[1; 32])];
    let mut bob: Receiver<u16> = Receiver::new(locals);
    let mut rng = OsRandom;
    let (me, mut packet) = (pair("alice"), [0; PACKET_LEN]);
    for (to, access, local) in [(to, [1; 32], 1), (*pair("bob").public(), ACCESS, 0)] {
        use anonchat::proto::datagram::sender::Sender;
        let mut alice = Sender::new(&me, &to, &access, Reliability::Acked, &mut rng);
        alice.offer(b"hi", false, at(0), &mut rng).unwrap();
        alice.transmit(at(0), &mut rng, &mut packet);
        let run = run_of(&feed(&mut bob, &packet, at(0), Admission::Contact));
        assert_eq!(run.local(), local);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens_to_the_same(
        run: [u8; 8], sequence: u64, time_ms: u64, ack_key: [u8; 32], more: bool, file: bool,
        body in proptest::collection::vec(any::<u8>(), 0..=FRAGMENT_LEN),
    ) {
        let (me, bob) = (pair("alice"), LocalKey::new(pair("bob"), &ACCESS));
        let (kind, way) = (Kind::Message, if file { Way::File } else { Way::Network });
        let id = MessageId { run, sequence };
        let ack_key = &ack_key;
        let head = Head { kind, way, more, id, time_ms, ack_key, fragment: 0, of: 1 };
        let mut packet = [0; PACKET_LEN];
        let sealer = Sealer::new(&me, bob.keys().public(), &ACCESS);
        sealer.seal(&head, &body, &mut OsRandom, &mut packet);
        prop_assert!(bob.recognises(&packet));
        let opened = Opened::open(bob.keys(), &packet, 0, &[BoxCache::new()]).unwrap();
        prop_assert_eq!(opened.sender(), me.public());
        prop_assert_eq!((opened.kind(), opened.way(), opened.more()), (kind, way, more));
        prop_assert_eq!((opened.id(), opened.time_ms(), opened.ack_key()), (id, time_ms, ack_key));
        prop_assert_eq!((opened.fragment(), opened.of(), opened.body()), (0, 1, &body[..]));
    }

    #[test]
    fn fragments_make_up_the_body(len in 0..=MAX_MESSAGE) {
        let body: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let parts: Vec<_> = (0..fragments(len)).map(|i| fragment_of(&body, i)).collect();
        prop_assert!((1..=64).contains(&parts.len()));
        prop_assert!(parts[..parts.len() - 1].iter().all(|part| part.len() == FRAGMENT_LEN));
        prop_assert_eq!(parts.concat(), body);
    }

    #[test]
    fn no_bytes_upset_the_parser_of_acks(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
        let acks = parse(&bytes);
        let sound = !bytes.is_empty() && bytes.len() % ACK_LEN == 0 && bytes.len() <= 1184;
        prop_assert_eq!(acks.is_some(), sound);
        prop_assert!(acks.is_none_or(|acks| acks.as_flattened() == bytes));
    }
}

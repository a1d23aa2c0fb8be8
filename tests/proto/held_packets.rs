//! What a receiver of cells makes of each packet: what it takes, what it answers, what it remembers,
//! and when the relay may forget a cell. PROTOCOL.md, 5.4 and 5.5.
//!
//! `AC_TEST_SHOWN`: how often a relay shows one packet again (10,000; full: 200,000).

use crate::testkit::common::number;

use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, OsRandom, random};
use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::held::{Came, Event, Held, LOST, Local, Verdict};
use anonchat::proto::datagram::packet::{
    FRAGMENT_LEN, Head, Kind, LocalKey, MAX_MESSAGE, MessageId, PACKET_LEN, Sealer, Way,
    fragment_of, fragments,
};
use anonchat::proto::datagram::receipt::Awaited;
use anonchat::proto::relay::cell::Address;
use anonchat::proto::relay::mailbox::{Channel, epoch};
use anonchat::proto::time::Now;

type Packet = [u8; PACKET_LEN];

const ACCESS: [u8; 32] = [7; 32];
const START_MS: u64 = 1_700_000_000_000;
const TTL_MS: u64 = 86_400_000;
const CLOCK_WINDOW_MS: u64 = 300_000;

fn at(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), unix_ms: START_MS + ms }
}

/// One message of somebody.
#[derive(Clone)]
struct Letter {
    kind: Kind,
    run: [u8; 8],
    time_ms: u64,
    ack_key: [u8; 32],
    body: Vec<u8>,
}

/// Bob, who reads, and alice, who writes.
struct Pair {
    bob: KeyPair,
    alice: KeyPair,
    held: Held<u64>,
    admission: Admission,
    live: bool,
    next_cell: u64,
}

impl Pair {
    fn new() -> Self {
        Self::with(false, false)
    }

    fn with(is_group: bool, own: bool) -> Self {
        let (bob, alice) = (KeyPair::generate(), KeyPair::generate());
        let local = Local { key: LocalKey::new(bob.duplicate(), &ACCESS), is_group };
        let held = Held::new(vec![local], own.then_some(*alice.public()), [8; 8]);
        Self { bob, alice, held, admission: Admission::Contact, live: true, next_cell: 0 }
    }

    fn letter(&self, body: &[u8]) -> Letter {
        let (run, ack_key) = (random(), random());
        Letter { kind: Kind::Message, run, time_ms: START_MS, ack_key, body: body.to_vec() }
    }

    /// Seals all packets of a letter, anew each time.
    fn seal(&self, letter: &Letter) -> Vec<Packet> {
        let sealer = Sealer::new(&self.alice, self.bob.public(), &ACCESS);
        let of = fragments(letter.body.len()) as u16;
        let one = |fragment: u16| {
            let head = Head {
                kind: letter.kind,
                way: Way::Relay,
                more: false,
                id: MessageId { run: letter.run, sequence: 0 },
                time_ms: letter.time_ms,
                ack_key: &letter.ack_key,
                fragment,
                of,
            };
            let mut packet = [0; PACKET_LEN];
            let part = fragment_of(&letter.body, fragment.into());
            sealer.seal(&head, part, &mut OsRandom, &mut packet);
            packet
        };
        (0..of).map(one).collect()
    }

    /// A packet comes in a cell of its own, whose number is given back.
    fn feed(&mut self, packet: &Packet, now: Now) -> (u64, Verdict, Vec<Event>) {
        let cell = self.next_cell;
        self.next_cell += 1;
        let came = Came { cell, live: self.live, ttl_ms: TTL_MS };
        let (admission, mut events) = (self.admission, Vec::new());
        let verdict = self.held.feed(packet, came, now, &mut |_| admission, &mut events);
        (cell, verdict, events)
    }

    /// All packets of a letter; the message, if it became whole.
    fn post(
        &mut self,
        letter: &Letter,
        now: Now,
    ) -> Option<anonchat::proto::datagram::held::Message> {
        let packets = self.seal(letter);
        let mut whole = None;
        for packet in &packets {
            for event in self.feed(packet, now).2 {
                if let Event::Message(message) = event {
                    assert!(whole.replace(message).is_none(), "whole two times");
                }
            }
        }
        whole
    }

    /// The receipts that are due: for which letter of `letters`, what they say, whether they are
    /// volatile. Each goes where its sender awaits it.
    fn receipts(&mut self, letters: &[&Letter], now: Now) -> Vec<(usize, Status, bool)> {
        let mut posted: Vec<(Address, Packet, bool)> = Vec::new();
        self.held.receipts(now, &mut OsRandom, |posting| {
            posted.push((posting.address, *posting.packet, posting.volatile));
        });
        let read = |(address, packet, volatile): &(Address, Packet, bool)| {
            letters.iter().enumerate().find_map(|(nth, letter)| {
                let id = MessageId { run: letter.run, sequence: 0 };
                let awaited = Awaited::new(self.alice.public(), id, &letter.ack_key);
                let status = awaited.read(&self.alice, self.bob.public(), packet)?;
                let channel = Channel::receipts(&letter.ack_key, id);
                let mailbox = channel.at(self.alice.public(), epoch(letter.time_ms)).unwrap();
                assert!(mailbox.address == *address, "it goes to another mailbox");
                Some((nth, status, *volatile))
            })
        };
        posted.iter().map(|one| read(one).expect("a receipt of one of these")).collect()
    }
}

#[test]
fn a_message_is_whole_with_its_last_packet_and_its_cells_are_decided_when_it_is_delivered() {
    let mut pair = Pair::new();
    let letter = pair.letter(&[b'x'; 2 * FRAGMENT_LEN + 1]);
    let packets = pair.seal(&letter);
    for packet in [&packets[2], &packets[0]] {
        let (_, verdict, events) = pair.feed(packet, at(0));
        assert!(verdict == Verdict::Awaited && events.is_empty());
    }
    let (_, verdict, events) = pair.feed(&packets[1], at(0));
    let [Event::Message(message)] = &events[..] else { panic!("no message") };
    assert!(verdict == Verdict::Awaited && message.body == letter.body && !message.is_item);
    assert!(pair.held.take_decided().is_empty());
    pair.held.delivered(&message.run);
    assert_eq!(pair.held.take_decided(), [0, 1, 2]);
    assert_eq!(pair.receipts(&[&letter], at(0)), [(0, Status::Delivered, false)]);
    assert_eq!(pair.held.load(), (1, 0));
}

#[test]
fn what_comes_again_is_answered_again_and_what_is_replayed_is_not() {
    let mut pair = Pair::new();
    let letter = pair.letter(b"hi");
    let first = pair.seal(&letter)[0];
    let (_, _, events) = pair.feed(&first, at(0));
    let [Event::Message(message)] = &events[..] else { panic!("no message") };
    // By another relay, before it is delivered: both cells are decided with it.
    assert_eq!(pair.feed(&first, at(0)).1, Verdict::Awaited);
    pair.held.delivered(&message.run);
    assert_eq!(pair.held.take_decided(), [0, 1]);
    assert_eq!(pair.receipts(&[&letter], at(1)).len(), 1);
    assert_eq!(pair.feed(&first, at(2)).1, Verdict::Decided);
    assert!(pair.receipts(&[&letter], at(2)).is_empty());
    for _ in 0..5 {
        assert!(pair.post(&letter, at(3)).is_none());
    }
    // Once for all that came together.
    assert_eq!(pair.receipts(&[&letter], at(3)), [(0, Status::Delivered, false)]);
}

#[test]
fn whoever_waits_is_told_every_ten_seconds_for_an_hour_that_the_message_is_here() {
    let mut pair = Pair::new();
    let letter = pair.letter(b"hi");
    let message = pair.post(&letter, at(0)).unwrap();
    assert!(pair.receipts(&[&letter], at(100)).is_empty(), "it may be delivered any moment");
    let mut told = 0;
    for second in 1..2 * 3600 {
        for receipt in pair.receipts(&[&letter], at(second * 1000)) {
            assert_eq!(receipt, (0, Status::Received, true));
            told += 1;
        }
    }
    assert!((300..=361).contains(&told), "{told} times");
    pair.held.declined(&message.run);
    // After two hours nobody waits for it.
    assert_eq!(pair.receipts(&[&letter], at(7_200_000)), [(0, Status::Declined, true)]);
}

#[test]
fn of_what_a_relay_held_only_the_outcome_is_told() {
    let mut pair = Pair::new();
    pair.live = false;
    let mut letter = pair.letter(b"hi");
    letter.time_ms -= 3_600_000;
    let message = pair.post(&letter, at(0)).unwrap();
    for second in 1..100 {
        assert!(pair.receipts(&[&letter], at(second * 1000)).is_empty());
    }
    pair.held.delivered(&message.run);
    assert_eq!(pair.receipts(&[&letter], at(100_000)), [(0, Status::Delivered, true)]);
}

#[test]
fn a_message_may_be_as_old_as_a_relay_holds_it_and_no_older() {
    let oldest = START_MS - TTL_MS - CLOCK_WINDOW_MS;
    let newest = START_MS + CLOCK_WINDOW_MS;
    for (time_ms, taken) in
        [(oldest, true), (oldest - 1, false), (newest, true), (newest + 1, false)]
    {
        let mut pair = Pair::new();
        let mut letter = pair.letter(b"hi");
        letter.time_ms = time_ms;
        assert_eq!(pair.post(&letter, at(0)).is_some(), taken, "{time_ms}");
    }
}

#[test]
fn a_message_that_never_becomes_whole_is_given_up_and_its_cells_are_decided() {
    let mut pair = Pair::new();
    let letter = pair.letter(&[b'x'; 3000]);
    let packets = pair.seal(&letter);
    pair.feed(&packets[0], at(0));
    pair.feed(&packets[1], at(60_000));
    let late = LOST.as_millis() as u64;
    let mut events = Vec::new();
    pair.held.tick(false, at(late), &mut events);
    assert!(events.is_empty() && pair.held.take_decided().is_empty());
    // While the rest of it may wait unread, time does not count.
    pair.held.tick(true, at(late + 90_000), &mut events);
    pair.held.tick(false, at(late + 120_000), &mut events);
    assert!(events.is_empty());
    pair.held.tick(false, at(2 * late + 120_000), &mut events);
    assert!(matches!(events[..], [Event::GivenUp(_)]));
    assert_eq!(pair.held.take_decided(), [0, 1]);
    assert_eq!(pair.feed(&packets[2], at(2 * late + 120_000)).1, Verdict::Decided);
    assert!(pair.receipts(&[&letter], at(2 * late + 120_000)).is_empty());
}

#[test]
fn what_has_no_room_is_remembered_by_nobody_and_has_room_later() {
    let mut pair = Pair::new();
    let mut taken = Vec::new();
    let refused = loop {
        let letter = pair.letter(&vec![b'x'; MAX_MESSAGE]);
        let first = pair.seal(&letter)[0];
        match pair.feed(&first, at(0)).1 {
            Verdict::NotNow => break letter,
            _ => taken.push((pair.post(&letter, at(0)).unwrap(), letter)),
        }
    };
    // About 4 MiB of them.
    assert_eq!(taken.len(), (4 << 20) / MAX_MESSAGE);
    let (_, bytes) = pair.held.load();
    assert!(bytes <= 4 << 20);
    pair.held.delivered(&taken[0].0.run);
    let message = pair.post(&refused, at(1)).unwrap();
    assert!(message.body == refused.body);
}

#[test]
fn beginnings_of_messages_cannot_keep_a_sender_from_being_heard() {
    let mut pair = Pair::new();
    for _ in 0..200 {
        let letter = pair.letter(&vec![b'x'; MAX_MESSAGE]);
        let first = pair.seal(&letter)[0];
        assert_eq!(pair.feed(&first, at(0)).1, Verdict::Awaited);
        assert!(pair.held.load().1 <= 4 << 20);
    }
    // Those that gave way are decided.
    assert!(pair.held.take_decided().len() >= 130);
    let letter = pair.letter(b"hi");
    assert!(pair.post(&letter, at(1)).is_some());
}

#[test]
fn packets_that_contradict_the_first_of_their_message_change_nothing() {
    let mut pair = Pair::new();
    let letter = pair.letter(&[b'x'; 1500]);
    pair.feed(&pair.seal(&letter)[0].clone(), at(0));
    let others = [
        Letter { time_ms: START_MS + 1, ..letter.clone() },
        Letter { ack_key: random(), ..letter.clone() },
        Letter { body: vec![b'y'; 2500], ..letter.clone() },
        Letter { kind: Kind::Item, ..letter.clone() },
    ];
    for other in &others {
        assert!(pair.post(other, at(0)).is_none());
    }
    let message = pair.post(&letter, at(1)).unwrap();
    assert!(message.body == letter.body);
}

#[test]
fn in_a_group_what_we_wrote_ourselves_is_taken_and_draws_no_receipt() {
    for (is_group, own, answered) in [(true, true, false), (true, false, true), (false, true, true)]
    {
        let mut pair = Pair::with(is_group, own);
        let letter = pair.letter(b"hi");
        let message = pair.post(&letter, at(0)).unwrap();
        let mut told = pair.receipts(&[&letter], at(5000)).len();
        pair.held.delivered(&message.run);
        pair.post(&letter, at(6000));
        told += pair.receipts(&[&letter], at(6000)).len();
        assert_eq!(told > 0, answered, "{is_group} {own}");
    }
}

#[test]
fn what_was_delivered_in_an_earlier_life_is_acknowledged_and_not_taken() {
    let mut pair = Pair::new();
    let (letter, old) = (pair.letter(b"hi"), pair.letter(b"older"));
    pair.admission = Admission::DeliveredBefore(true);
    assert!(pair.post(&letter, at(0)).is_none());
    assert_eq!(pair.receipts(&[&letter], at(0)), [(0, Status::Delivered, false)]);
    pair.admission = Admission::Gone;
    assert!(pair.post(&old, at(0)).is_none());
    assert!(pair.receipts(&[&letter, &old], at(1)).is_empty());
}

#[test]
fn who_is_turned_away_is_named_and_nothing_of_it_remembered() {
    let mut pair = Pair::new();
    pair.admission = Admission::TurnAway;
    let letter = pair.letter(b"psst");
    let packet = pair.seal(&letter)[0];
    let (_, verdict, events) = pair.feed(&packet, at(0));
    assert!(matches!(events[..], [Event::TurnedAway { local: 0, .. }]));
    assert_eq!((verdict, pair.held.load()), (Verdict::Decided, (0, 0)));
    pair.admission = Admission::NotNow;
    assert_eq!(pair.feed(&packet, at(0)).1, Verdict::NotNow);
    assert_eq!(pair.held.load(), (0, 0));
}

/// A stranger's message of one packet, stamped `ahead` ms ahead of the test's beginning.
fn strangers(pair: &Pair, run: u64, ahead: u64) -> Packet {
    let mut letter = pair.letter(b"spam");
    (letter.run, letter.time_ms) = (run.to_be_bytes(), START_MS + ahead);
    pair.seal(&letter)[0]
}

#[test]
fn a_relay_that_shows_a_packet_again_and_again_has_nothing_kept_of_it() {
    let mut pair = Pair::new();
    let letter = pair.letter(&[b'x'; 3 * FRAGMENT_LEN]);
    let packets = pair.seal(&letter);
    let (first, _, _) = pair.feed(&packets[0], at(0));
    pair.feed(&packets[1], at(0));
    // In ever new cells, by turns; of these some are kept in mind, and the others may go.
    let shown = number("AC_TEST_SHOWN", 10_000);
    let mut awaited = 0;
    for n in 0..shown {
        let (_, verdict, events) = pair.feed(&packets[n % 2], at(1));
        assert!(events.is_empty());
        awaited += usize::from(verdict == Verdict::Awaited);
    }
    assert!(awaited <= 1024, "{awaited} cells are kept in mind");
    assert_eq!(pair.held.load().0, 1);
    // In the cell that it came in first it is awaited as ever.
    pair.next_cell = first;
    assert_eq!(pair.feed(&packets[0], at(1)).1, Verdict::Awaited);
    pair.next_cell = 1 << 32;
    let (last, _, events) = pair.feed(&packets[2], at(2));
    let Some(Event::Message(message)) = events.into_iter().next() else { panic!("it is whole") };
    assert!(message.body == letter.body);
    pair.held.delivered(&message.run);
    let decided = pair.held.take_decided();
    assert!([first, first + 1, last].iter().all(|cell| decided.contains(cell)));
    assert_eq!(decided.len(), awaited + 3);
}

#[test]
fn however_often_a_sender_asks_it_is_told_every_ten_seconds_and_no_more() {
    let mut pair = Pair::new();
    let letter = pair.letter(b"hi");
    pair.post(&letter, at(0)).unwrap();
    let mut told = 0;
    for ms in 0..1000 {
        pair.post(&letter, at(ms));
        told += pair.receipts(&[&letter], at(ms)).len();
    }
    assert!(told <= 1001);
    // Each question has had its answer; what is said of itself stays one every ten seconds.
    let later: usize = (1..=60).map(|s| pair.receipts(&[&letter], at(1000 * s)).len()).sum();
    assert!((5..=7).contains(&later), "{later} in a minute");
}

#[test]
fn strangers_questions_take_no_room_from_anybody_and_a_contact_is_met() {
    let mut pair = Pair::new();
    pair.admission = Admission::Unknown;
    let mut answered = 0;
    for n in 0..3000 {
        let mut letter = pair.letter(&[0xa0]);
        (letter.kind, letter.time_ms) = (Kind::Probe, START_MS + 299_000);
        let packet = pair.seal(&letter)[0];
        let (_, verdict, events) = pair.feed(&packet, at(n));
        assert_eq!(verdict, Verdict::Decided, "nothing more comes of it");
        answered += events.len();
    }
    assert!((256..=256 + 50).contains(&answered), "{answered} in 3 s");
    assert_eq!(pair.held.load(), (0, 0));
    // What the clock is behind by, and that it was a stranger a moment ago, is no matter.
    pair.admission = Admission::Contact;
    for skew in [-299_000i64, 299_000] {
        let time_ms = (START_MS + 3000).saturating_add_signed(skew);
        let mut letter = Letter { time_ms, ..pair.letter(b"hi") };
        assert!(pair.post(&letter, at(3000)).is_some());
        let meet = [&[0xa1, 0, 0x58, 32][..], &random::<32>()].concat();
        for (kind, body) in [(Kind::Probe, vec![0xa0]), (Kind::Meet, meet)] {
            letter = Letter { time_ms, kind, ..pair.letter(&body) };
            if kind == Kind::Meet {
                letter.ack_key = [0; 32];
                letter.run.copy_from_slice(&body[4..12]);
            }
            let packet = pair.seal(&letter)[0];
            assert_eq!(pair.feed(&packet, at(3000)).2.len(), 1, "{kind:?} {skew}");
            assert!(pair.feed(&packet, at(3000)).2.is_empty(), "once");
        }
    }
}

#[test]
fn what_strangers_have_no_room_for_stays_where_it_is_and_holds_up_nobody_else() {
    let mut pair = Pair::new();
    pair.admission = Admission::Unknown;
    // All the bytes that are theirs wait for the output.
    let mut first = None;
    let refused = loop {
        let letter = pair.letter(&vec![b'x'; MAX_MESSAGE]);
        if pair.feed(&pair.seal(&letter)[0].clone(), at(0)).1 == Verdict::NotNow {
            break letter;
        }
        first.get_or_insert(pair.post(&letter, at(0)).unwrap().run);
    };
    let wait = pair.held.take_wait().expect("it is for them to wait");
    assert!(!pair.held.is_over(&wait, at(60_000)));
    let friend = pair.letter(b"hi");
    pair.admission = Admission::Contact;
    assert!(pair.post(&friend, at(1)).is_some());
    assert!(pair.held.take_wait().is_none());
    // Where nothing more is taken at all, all wait.
    pair.admission = Admission::NotNow;
    assert_eq!(pair.feed(&pair.seal(&refused)[0].clone(), at(1)).1, Verdict::NotNow);
    assert!(pair.held.take_wait().is_none());
    // Where nothing more can be remembered, its sender does.
    pair.admission = Admission::NoRoom;
    assert_eq!(pair.feed(&pair.seal(&refused)[0].clone(), at(1)).1, Verdict::NotNow);
    let wait = pair.held.take_wait().expect("it is for its sender to wait");
    assert!(!pair.held.is_over(&wait, at(2)) && pair.held.is_over(&wait, at(61_000)));
}

#[test]
fn a_message_is_decided_unread_for_its_own_senders_floor_only() {
    let mut pair = Pair::new();
    // What strangers said, by a clock that was set ahead, is forgotten and lifts their floor.
    pair.admission = Admission::Unknown;
    let ahead = 5 * 86_400_000;
    let said = strangers(&pair, 1, ahead);
    let now = Now { unix_ms: START_MS + ahead, ..at(0) };
    let (_, _, events) = pair.feed(&said, now);
    let Some(Event::Message(message)) = events.into_iter().next() else { panic!("it is whole") };
    pair.held.delivered(&message.run);
    let later = Now { unix_ms: now.unix_ms + 31 * 86_400_000, ..at(3_000_000) };
    pair.held.tick(false, later, &mut Vec::new());
    assert_eq!(pair.held.load().0, 0);
    // By the right clock what they say now may be forgotten, as far as anybody knows: it stays.
    let now = at(3_100_000);
    let packet = strangers(&pair, 2, 0);
    assert_eq!(pair.feed(&packet, now).1, Verdict::NotNow);
    assert!(pair.held.take_wait().is_some());
    // A contact is not touched by that.
    pair.admission = Admission::Contact;
    assert_eq!(pair.feed(&packet, now).1, Verdict::Awaited);
}

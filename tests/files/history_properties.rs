//! What holds for every history: an entry that is written reads the same, nothing that is read
//! could be written otherwise, and whatever lies between entries costs none of them.

use std::io::Write as _;

use anonchat::crypto::sodium::{KeyPair, PublicKey, Secret};
use anonchat::history::entry::{
    Direction, Entry, Head, MAX_CONTENT, MAX_ENTRY, MAX_NAME, SYNC, State, decode, encode, length,
    open, seal,
};
use anonchat::history::replay::{Part, Replay};
use anonchat::net::sockets::Transport;
use proptest::prelude::*;

fn key(seed: u8) -> KeyPair {
    KeyPair::from_secret(Secret::from_slice(&[seed; 32]).unwrap())
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Open),
        Just(State::Whole),
        Just(State::Cut),
        Just(State::Unacknowledged)
    ]
}

fn head() -> impl Strategy<Value = Head> {
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp), Just(Transport::File)];
    let numbers = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u8>(), any::<u64>(), any::<u64>());
    (numbers, any::<bool>(), any::<bool>(), transport, 1u8.., "\\PC{0,60}").prop_map(
        |((record, id, kind, sent_ms, began_ms), sent, known, transport, peer, name)| Head {
            record,
            direction: if sent { Direction::Sent } else { Direction::Received },
            id,
            kind,
            transport,
            peer: *key(peer).public(),
            name,
            known,
            sent_ms,
            began_ms,
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let content = proptest::collection::vec(any::<u8>(), 0..300);
    (head(), any::<u64>(), state(), content).prop_map(|(head, seq, state, content)| Entry {
        head,
        seq,
        state,
        content,
    })
}

/// One thing that can lie in a file.
#[derive(Debug, Clone)]
enum Piece {
    /// A message in so many entries.
    Message(Head, Vec<Vec<u8>>),
    /// Bytes of no entry.
    Garbage(Vec<u8>),
    /// The beginning of an entry.
    Torn(Entry, prop::sample::Index),
    /// An entry for somebody else.
    Foreign(Entry),
}

fn piece() -> impl Strategy<Value = Piece> {
    let contents = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..4);
    let garbage = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..200),
        proptest::collection::vec(prop::sample::select(SYNC.to_vec()), 1..40),
        Just(SYNC.to_vec()),
        Just([&SYNC[..], &[0, 0, 1, 0]].concat()),
    ];
    prop_oneof![
        3 => (head(), contents).prop_map(|(head, contents)| Piece::Message(head, contents)),
        1 => garbage.prop_map(Piece::Garbage),
        1 => (entry(), any::<prop::sample::Index>()).prop_map(|(e, at)| Piece::Torn(e, at)),
        1 => entry().prop_map(Piece::Foreign),
    ]
}

fn seal_entry(owner: &PublicKey, entry: &Entry) -> Vec<u8> {
    seal(owner, &entry.head, entry.seq, entry.state, &entry.content)
}

/// A record's message, and how it ended.
type Found = (Head, Vec<u8>, State);

fn replay(owner: &KeyPair, bytes: &[u8]) -> Vec<Found> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let mut history = Replay::new(file, vec![owner]).unwrap();
    let mut found = Vec::new();
    while let Some(mut record) = history.next_record().unwrap() {
        let mut content = Vec::new();
        let state = loop {
            match history.next_part(&mut record).unwrap() {
                Part::Content(bytes) => content.extend(bytes),
                Part::End(state) => break state,
            }
        };
        found.push((record.head().clone(), content, state));
    }
    found
}

proptest! {
    #[test]
    fn an_entry_reads_as_it_was_written(entry in entry()) {
        let plain = encode(&entry.head, entry.seq, entry.state, &entry.content);
        prop_assert_eq!(decode(&plain), Some(entry.clone()));
        let me = key(1);
        let sealed = seal_entry(me.public(), &entry);
        prop_assert_eq!(length(&sealed), Some(sealed.len()));
        prop_assert!(sealed.len() <= MAX_ENTRY);
        prop_assert_eq!(open(&me, &sealed), Some(entry));
        prop_assert_eq!(open(&key(2), &sealed), None);
    }

    #[test]
    fn what_reads_could_not_be_written_otherwise(
        entry in entry(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut plain = encode(&entry.head, entry.seq, entry.state, &entry.content);
        let at = at.index(plain.len());
        plain[at] ^= 1 << bit;
        plain.truncate(1 + cut.index(plain.len()));
        if let Some(e) = decode(&plain) {
            prop_assert_eq!(encode(&e.head, e.seq, e.state, &e.content), plain);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = (decode(&bytes), length(&bytes), open(&key(1), &bytes));
        prop_assert!(replay(&key(1), &bytes).is_empty());
        let synced = [&SYNC[..], &bytes].concat();
        prop_assert!(replay(&key(1), &synced).is_empty());
    }

    #[test]
    fn a_changed_byte_of_a_sealed_entry_opens_nothing(
        entry in entry(),
        at in any::<prop::sample::Index>(),
        by in 1u8..,
    ) {
        let me = key(1);
        let mut sealed = seal_entry(me.public(), &entry);
        let at = at.index(sealed.len());
        sealed[at] ^= by;
        prop_assert_eq!(open(&me, &sealed), None);
    }

    #[test]
    fn whatever_lies_between_them_every_message_is_found(
        pieces in proptest::collection::vec(piece(), 0..12),
    ) {
        let (me, other) = (key(1), key(2));
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (n, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Message(head, contents) => {
                    // Two with the same record would be one.
                    let mut head = head.clone();
                    head.record[..8].copy_from_slice(&(n as u64).to_be_bytes());
                    for (seq, content) in contents.iter().enumerate() {
                        let last = seq + 1 == contents.len();
                        let state = if last { State::Whole } else { State::Open };
                        bytes.extend(seal(me.public(), &head, seq as u64, state, content));
                    }
                    expected.push((head, contents.concat(), State::Whole));
                }
                Piece::Garbage(garbage) => bytes.extend(garbage),
                Piece::Torn(entry, at) => {
                    let sealed = seal_entry(me.public(), entry);
                    bytes.extend(&sealed[..at.index(sealed.len())]);
                }
                Piece::Foreign(entry) => bytes.extend(seal_entry(other.public(), entry)),
            }
        }
        prop_assert_eq!(replay(&me, &bytes), expected);
    }

    #[test]
    fn messages_come_out_in_the_order_in_which_they_began_however_their_entries_are_dealt(
        lengths in proptest::collection::vec(1u64..6, 1..5),
        turns in proptest::collection::vec(any::<prop::sample::Index>(), 32),
        ended in proptest::collection::vec(any::<bool>(), 5),
        head in head(),
    ) {
        let me = key(1);
        let mut dealt = vec![0; lengths.len()];
        let (mut bytes, mut order) = (Vec::new(), Vec::new());
        let mut turns = turns.iter().cycle();
        let head_of = |n: usize| Head { record: [n as u8; 16], ..head.clone() };
        while dealt.iter().zip(&lengths).any(|(done, all)| done < all) {
            let open: Vec<_> = (0..lengths.len()).filter(|n| dealt[*n] < lengths[*n]).collect();
            let n = open[turns.next().unwrap().index(open.len())];
            let last = dealt[n] + 1 == lengths[n] && ended[n];
            let state = if last { State::Unacknowledged } else { State::Open };
            bytes.extend(seal(me.public(), &head_of(n), dealt[n], state, &[n as u8, dealt[n] as u8]));
            if dealt[n] == 0 {
                order.push(n);
            }
            dealt[n] += 1;
        }
        let expected: Vec<Found> = order
            .iter()
            .map(|n| {
                let content = (0..lengths[*n]).flat_map(|seq| [*n as u8, seq as u8]).collect();
                let state = if ended[*n] { State::Unacknowledged } else { State::Cut };
                (head_of(*n), content, state)
            })
            .collect();
        prop_assert_eq!(replay(&me, &bytes), expected);
    }
}

#[test]
fn limits_are_kept_and_a_long_name_is_cut_between_characters() {
    let head = Head {
        record: [1; 16],
        direction: Direction::Sent,
        id: [2; 16],
        kind: 0,
        transport: Transport::Tcp,
        peer: *key(3).public(),
        name: "é".repeat(200),
        known: true,
        sent_ms: 0,
        began_ms: u64::MAX,
    };
    let content = vec![7; MAX_CONTENT];
    let plain = encode(&head, 0, State::Whole, &content);
    let read = decode(&plain).unwrap();
    assert_eq!(read.head.name, "é".repeat(MAX_NAME / 2));
    assert_eq!(read.content, content);
    assert_eq!(decode(&[&plain[..], b"x"].concat()), None, "one byte more than an entry holds");
}

#[test]
fn each_reject_rule_has_an_entry_that_breaks_it_alone() {
    let head = Head {
        record: [1; 16],
        direction: Direction::Received,
        id: [2; 16],
        kind: 0,
        transport: Transport::Udp,
        peer: *key(3).public(),
        name: "bob".into(),
        known: false,
        sent_ms: 1,
        began_ms: 2,
    };
    let good = encode(&head, 5, State::Open, b"");
    assert!(decode(&good).is_some());
    let broken = |at: usize, value: u8| {
        let mut plain = good.clone();
        plain[at] = value;
        decode(&plain)
    };
    for (at, value) in [
        (0, 2),     // version
        (1, 2),     // direction
        (2, 4),     // state
        (3, 4),     // transport
        (5, 2),     // flags
        (6, 1),     // zero
        (7, 4),     // the name goes beyond the end
        (96, 0xff), // the name is not UTF-8
        (79, 0xff), // the peer's key is not canonical
    ] {
        assert_eq!(broken(at, value), None, "byte {at} is {value}");
    }
    let mut low_order = good.clone();
    low_order[48..80].fill(0);
    assert_eq!(decode(&low_order), None);
    assert_eq!(decode(&good[..95]), None);
    // A kind that this version does not know is none of these.
    assert!(broken(4, 200).is_some());
}

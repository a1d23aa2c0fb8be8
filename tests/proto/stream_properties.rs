//! What the parsers and the sealing of the stream protocol promise for every input: PROTOCOL.md,
//! sections 3.2 to 3.4.

use crate::testkit::{common::number, foreign::foreign_responder};

use std::time::Duration;

use anonchat::crypto::sodium::KeyPair;
use anonchat::proto::stream::handshake::{Initiator, Opened, Responding};
use anonchat::proto::stream::inbound::Inbound;
use anonchat::proto::stream::link::Link;
use anonchat::proto::stream::meta::{MAX_NAME, Meta, Welcome};
use anonchat::proto::stream::outgoing::Outgoing;
use anonchat::proto::stream::record::{
    HEADER_LEN, Kind, MAX_BODY, MAX_PLAIN, Violation, header, padded_len, parse,
};
use anonchat::proto::stream::session::{REKEY_AFTER, Session, plain_buffer};
use anonchat::proto::time::Now;
use minicbor::Encoder;
use proptest::prelude::*;

const UNIX_MS: u64 = 1_800_000_000_000;
const NOW: Now = Now { mono: Duration::ZERO, unix_ms: UNIX_MS };
const KINDS: [Kind; 9] = [
    Kind::Meta,
    Kind::Data,
    Kind::End,
    Kind::Ack,
    Kind::Refuse,
    Kind::Pad,
    Kind::Resume,
    Kind::Abort,
    Kind::Welcome,
];

/// Both ends of one session.
fn sessions() -> (Session, Session) {
    let (alice, bob) = (KeyPair::generate(), KeyPair::generate());
    let access = [7; 32];
    let (initiator, hello) = Initiator::start(&alice, bob.public(), &access, UNIX_MS).unwrap();
    let key = Responding { pair: &bob, access: &access };
    let (responder, reply) = Opened::open(&key, &hello, UNIX_MS).unwrap().reply().unwrap();
    let (ours, confirm) = initiator.confirm(&reply).unwrap();
    let (theirs, caller) = responder.finish(&confirm).unwrap();
    assert!(caller == *alice.public());
    (ours, theirs)
}

/// What a link makes of `bytes`, fed in pieces of `piece` bytes.
fn fed(link: &mut Link, bytes: &[u8], piece: usize) -> (Vec<(Kind, Vec<u8>)>, Option<Violation>) {
    let (mut heard, mut plain) = (Vec::new(), plain_buffer());
    for part in bytes.chunks(piece.max(1)) {
        let fed = link.feed(part, NOW, &mut plain, |kind, body| {
            heard.push((kind, body.to_vec()));
            Ok(())
        });
        if let Err(violation) = fed {
            return (heard, Some(violation));
        }
    }
    (heard, None)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(KINDS.to_vec())
}

/// Empty ones and short ones often: they are what is easily forgotten, and what fits a piece together.
fn record() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    let bytes = |len| prop::collection::vec(any::<u8>(), len);
    (kind(), prop_oneof![bytes(0..2), bytes(0..250), bytes(0..600)])
}

/// What is to be heard: a link may hand on neighbouring DATA as one.
fn joined(records: &[(Kind, Vec<u8>)]) -> Vec<(Kind, Vec<u8>)> {
    let mut joined: Vec<(Kind, Vec<u8>)> = Vec::new();
    for (kind, body) in records {
        match joined.last_mut() {
            Some((Kind::Data, data)) if *kind == Kind::Data => data.extend_from_slice(body),
            _ => joined.push((*kind, body.clone())),
        }
    }
    joined
}

fn meta() -> impl Strategy<Value = Meta> {
    let head = (any::<[u8; 16]>(), any::<u8>(), any::<u64>());
    let name = prop::option::of("\\PC{0,40}");
    let rest = (any::<Option<u64>>(), any::<Option<u32>>(), any::<Option<i64>>());
    (head, name, rest, any::<Option<u64>>(), any::<bool>()).prop_map(
        |((id, kind, time_ms), name, (size, mode, mtime), keepalive_ms, more)| Meta {
            id,
            kind,
            time_ms,
            name,
            size,
            mode,
            mtime,
            keepalive_ms,
            more,
        },
    )
}

#[test]
fn padded_lengths_are_those_of_padme_between_256_and_the_longest_plaintext() {
    for (len, padded) in [
        (0, 256),
        (3, 256),
        (256, 256),
        (257, 272),
        (272, 272),
        (273, 288),
        (511, 512),
        (513, 544),
        (1000, 1024),
        (10_000, 10_240),
        (65_000, 65_519),
        (MAX_PLAIN, MAX_PLAIN),
    ] {
        assert_eq!(padded_len(len), padded, "{len}");
    }
}

#[test]
fn padding_grows_with_the_length_and_costs_at_most_an_eighth() {
    for len in 0..MAX_PLAIN {
        let padded = padded_len(len);
        assert!(padded >= len && padded <= padded_len(len + 1), "{len}");
        assert!(len < 256 || padded - len <= len / 8, "{len}");
        assert_eq!(padded_len(padded), padded, "{len}");
    }
}

/// The start of a META with `count` keys, the three that must be there written.
fn begun_meta(count: u64) -> Encoder<Vec<u8>> {
    let mut e = Encoder::new(Vec::new());
    e.map(count).unwrap().u8(0).unwrap().bytes(&[9; 16]).unwrap();
    e.u8(1).unwrap().u8(0).unwrap().u8(2).unwrap().u64(5).unwrap();
    e
}

#[test]
fn unknown_keys_are_skipped_whatever_they_hold() {
    let mut e = begun_meta(8);
    e.u8(4).unwrap().u64(77).unwrap();
    e.u8(19).unwrap().str("later").unwrap();
    e.u8(20).unwrap().array(2).unwrap().map(1).unwrap().u8(0).unwrap().bool(true).unwrap();
    e.begin_array().unwrap().null().unwrap().end().unwrap();
    e.u16(1000).unwrap().begin_bytes().unwrap().bytes(b"x").unwrap().end().unwrap();
    e.u64(u64::MAX).unwrap().f64(0.5).unwrap();
    let expected = Meta { size: Some(77), ..Meta::message([9; 16], 5) };
    let bytes = e.into_writer();
    assert_eq!(Meta::decode(&bytes), Ok(expected));
}

#[test]
fn keys_that_do_not_ascend_are_refused() {
    for keys in [[4, 4], [6, 5], [9, 9], [9, 4], [4, 0], [4, 2]] {
        let mut e = begun_meta(5);
        for key in keys {
            e.u8(key).unwrap();
            if key == 0 {
                e.bytes(&[9; 16]).unwrap()
            } else {
                e.u8(1).unwrap()
            };
        }
        assert_eq!(Meta::decode(&e.into_writer()), Err(Violation::Malformed), "{keys:?}");
    }
}

#[test]
fn keys_that_are_no_integers_and_maps_without_a_length_are_refused() {
    let mut e = begun_meta(4);
    e.str("4").unwrap().u8(1).unwrap();
    assert_eq!(Meta::decode(&e.into_writer()), Err(Violation::Malformed));
    let mut e = begun_meta(4);
    e.i8(-1).unwrap().u8(1).unwrap();
    assert_eq!(Meta::decode(&e.into_writer()), Err(Violation::Malformed));
    let mut endless = begun_meta(3).into_writer();
    endless[0] = 0xbf;
    endless.push(0xff);
    assert_eq!(Meta::decode(&endless), Err(Violation::Malformed));
    assert_eq!(Welcome::decode(&[0xbf, 0xff]), Err(Violation::Malformed));
}

#[test]
fn more_keys_than_anybody_needs_are_refused() {
    let with = |count: u64| {
        let mut e = begun_meta(count);
        for key in 10..7 + count {
            e.u64(key).unwrap().u8(0).unwrap();
        }
        Meta::decode(&e.into_writer())
    };
    assert!(with(64).is_ok());
    assert_eq!(with(65), Err(Violation::Malformed));
}

#[test]
fn a_meta_without_one_of_its_first_three_keys_is_refused() {
    for left_out in 0..3 {
        let mut e = Encoder::new(Vec::new());
        e.map(2).unwrap();
        for key in (0..3).filter(|key| *key != left_out) {
            e.u8(key).unwrap();
            if key == 0 {
                e.bytes(&[9; 16]).unwrap()
            } else {
                e.u8(1).unwrap()
            };
        }
        assert_eq!(Meta::decode(&e.into_writer()), Err(Violation::Malformed), "{left_out}");
    }
}

#[test]
fn a_name_may_be_so_long_and_no_longer() {
    let named = |len| Meta { name: Some("n".repeat(len)), ..Meta::message([1; 16], 2) };
    assert_eq!(Meta::decode(&named(MAX_NAME).encode()), Ok(named(MAX_NAME)));
    assert_eq!(Meta::decode(&named(MAX_NAME + 1).encode()), Err(Violation::Malformed));
}

#[test]
fn deep_nesting_and_false_lengths_neither_crash_nor_pass() {
    for hostile in [&[0x81][..], &[0x9f], &[0xa1, 0x00], &[0xbf, 0x00], &[0xc0], &[0x5f]] {
        let mut bytes = begun_meta(4).into_writer();
        bytes.push(8);
        while bytes.len() + hostile.len() < MAX_BODY {
            bytes.extend_from_slice(hostile);
        }
        assert_eq!(Meta::decode(&bytes), Err(Violation::Malformed), "{hostile:x?}");
    }
    for head in [0x5b, 0x7b, 0x9b, 0xbb] {
        let mut bytes = begun_meta(4).into_writer();
        bytes.extend_from_slice(&[8, head, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(Meta::decode(&bytes), Err(Violation::Malformed), "{head:x}");
    }
}

#[test]
fn an_empty_data_record_is_handed_on_and_has_its_place_in_the_order() {
    let told = |records: &[(Kind, &[u8])]| {
        let (ours, theirs) = sessions();
        let mut ours = Link::new(ours, NOW, false);
        records.iter().for_each(|(kind, body)| ours.send(*kind, body, NOW));
        fed(&mut Link::new(theirs, NOW, false), ours.pending(), usize::MAX).0
    };
    let [empty, a, b] = ["", "a", "b"].map(|body| (Kind::Data, body.as_bytes()));
    let pad = (Kind::Pad, &[][..]);
    let heard = |records: &[(Kind, &[u8])]| -> Vec<_> {
        records.iter().map(|(kind, body)| (*kind, body.to_vec())).collect()
    };
    assert_eq!(told(&[empty]), heard(&[empty]));
    assert_eq!(told(&[empty, pad, empty, empty, pad]), heard(&[empty, pad, empty, pad]));
    assert_eq!(told(&[a, empty, pad, empty, b]), heard(&[a, pad, b]));
}

#[test]
fn an_empty_data_record_before_meta_ends_the_session() {
    let (ours, theirs) = sessions();
    let (mut ours, mut theirs) = (Link::new(ours, NOW, false), Link::new(theirs, NOW, false));
    ours.send(Kind::Data, &[], NOW);
    ours.send(Kind::Meta, &Meta::message([9; 16], 5).encode(), NOW);
    let mut inbound = Inbound::default();
    let fed = theirs.feed(ours.pending(), NOW, &mut plain_buffer(), |kind, body| {
        inbound.step(kind, body).map(|_| ())
    });
    assert_eq!(fed, Err(Violation::OutOfOrder));
}

#[test]
fn every_bit_of_a_record_counts() {
    let len = 2 + 256 + 16;
    // A session opens a record once, so each bit has a session of its own; all bits of the length
    // and of the tag, and every eleventh of the rest.
    let bits = (0..16).chain((16..8 * len).step_by(11)).chain(8 * (len - 16)..8 * len);
    for bit in bits {
        let (mut ours, theirs) = sessions();
        let mut out = Outgoing::default();
        ours.seal(Kind::Data, b"attack at dawn", &mut out);
        assert_eq!(out.pending().len(), len);
        // What follows, so that a length that was made larger finds its bytes.
        for _ in 0..2 {
            ours.data_space().fill(0);
            ours.seal_data(MAX_BODY, &mut out);
        }
        let mut sealed = out.pending().to_vec();
        sealed[bit / 8] ^= 1 << (bit % 8);
        let (heard, violation) = fed(&mut Link::new(theirs, NOW, false), &sealed, usize::MAX);
        assert_eq!((heard.len(), violation), (0, Some(Violation::NotOpened)), "bit {bit}");
    }
}

#[test]
fn each_direction_rekeys_after_its_16384th_record_of_whatever_type() {
    let (alice, bob) = (KeyPair::generate(), KeyPair::generate());
    let access = [7; 32];
    let (initiator, hello) = Initiator::start(&alice, bob.public(), &access, UNIX_MS).unwrap();
    let (mut noise, reply) = foreign_responder(&bob, &access, &hello);
    let (mut ours, confirm) = initiator.confirm(&reply).unwrap();
    noise.read_message(&confirm, &mut [0; 64]).unwrap();
    let mut theirs = noise.into_transport_mode().unwrap();

    let (mut out, mut opened, mut plain) =
        (Outgoing::default(), vec![0; MAX_PLAIN], plain_buffer());
    assert_eq!(REKEY_AFTER, 16_384);
    for n in 0..2 * REKEY_AFTER as usize + 2 {
        let kind = KINDS[n % KINDS.len()];
        out.clear();
        ours.seal(kind, &[], &mut out);
        let mut sealed = out.pending().to_vec();
        if n > 0 && n % REKEY_AFTER as usize == 0 {
            let opened = theirs.read_message(&sealed[2..], &mut opened);
            assert!(opened.is_err(), "record {n} was sealed with the old key");
            theirs.rekey_incoming();
            theirs.rekey_outgoing();
        }
        let len = theirs.read_message(&sealed[2..], &mut opened).unwrap();
        assert_eq!(parse(&opened[..len]), Ok((kind, &[][..])));
        let len = theirs.write_message(&opened[..len], &mut sealed[2..]).unwrap();
        assert_eq!(ours.open(&sealed[2..2 + len], &mut plain), Ok((kind, &[][..])), "{n}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        number("AC_TEST_CASES", 64)
    ))]

    #[test]
    fn a_record_is_parsed_as_it_was_made((kind, body) in record(), padding in 0_usize..600) {
        let mut plain = header(kind, body.len()).to_vec();
        plain.extend_from_slice(&body);
        plain.resize(plain.len() + padding, 0);
        prop_assert_eq!(parse(&plain), Ok((kind, body.as_slice())));
    }

    #[test]
    fn padding_that_is_not_zero_is_refused(
        (kind, body) in record(), padding in 1_usize..600, at in any::<prop::sample::Index>(),
        byte in 1_u8..,
    ) {
        let mut plain = header(kind, body.len()).to_vec();
        plain.extend_from_slice(&body);
        plain.resize(plain.len() + padding, 0);
        plain[HEADER_LEN + body.len() + at.index(padding)] = byte;
        prop_assert_eq!(parse(&plain), Err(Violation::Malformed));
    }

    #[test]
    fn what_is_parsed_as_a_record_is_one(plain in prop::collection::vec(0_u8..12, 0..400)) {
        if let Ok((kind, body)) = parse(&plain) {
            let mut again = header(kind, body.len()).to_vec();
            again.extend_from_slice(body);
            again.resize(plain.len(), 0);
            prop_assert_eq!(again, plain);
        }
    }

    #[test]
    fn a_meta_comes_back_as_it_went(meta in meta()) {
        let bytes = meta.encode();
        let decoded = Meta::decode(&bytes);
        prop_assert_eq!(decoded.as_ref(), Ok(&meta));
        prop_assert_eq!(decoded.unwrap().encode(), bytes);
    }

    #[test]
    fn a_welcome_comes_back_as_it_went(
        largest in any::<Option<u64>>(), challenge in any::<Option<[u8; 32]>>(),
        keepalive_ms in any::<Option<u64>>(), ttl_s in any::<Option<u64>>(),
    ) {
        let welcome = Welcome { largest, challenge, keepalive_ms, ttl_s };
        let bytes = welcome.encode();
        let decoded = Welcome::decode(&bytes);
        prop_assert_eq!(decoded.as_ref(), Ok(&welcome));
        prop_assert_eq!(decoded.unwrap().encode(), bytes);
    }

    #[test]
    fn a_meta_that_is_cut_short_or_goes_on_is_refused(
        meta in meta(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = meta.encode();
        let short = &bytes[..at.index(bytes.len())];
        prop_assert_eq!(Meta::decode(short), Err(Violation::Malformed));
        bytes.push(byte);
        prop_assert_eq!(Meta::decode(&bytes), Err(Violation::Malformed));
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Welcome::decode(&bytes);
        if let Ok(meta) = Meta::decode(&bytes) {
            prop_assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
        }
    }

    #[test]
    fn a_changed_meta_never_makes_the_decoder_panic(
        meta in meta(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = meta.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(meta) = Meta::decode(&bytes) {
            prop_assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
        }
    }

    #[test]
    fn records_pass_a_link_in_pieces_of_any_size(
        records in prop::collection::vec(record(), 1..8), piece in 1_usize..700,
    ) {
        let (ours, theirs) = sessions();
        let mut ours = Link::new(ours, NOW, false);
        records.iter().for_each(|(kind, body)| ours.send(*kind, body, NOW));
        let mut theirs = Link::new(theirs, NOW, false);
        let (heard, violation) = fed(&mut theirs, ours.pending(), piece);
        prop_assert_eq!((joined(&heard), violation), (joined(&records), None));
    }

    #[test]
    fn a_stranger_s_bytes_wait_for_a_whole_record_and_then_end_the_link(
        bytes in prop::collection::vec(any::<u8>(), 0..70_000), piece in 1_usize..9000,
    ) {
        let (_, theirs) = sessions();
        let (heard, violation) = fed(&mut Link::new(theirs, NOW, false), &bytes, piece);
        prop_assert!(heard.is_empty());
        let whole = bytes.first_chunk::<2>()
            .is_some_and(|len| bytes.len() >= 2 + usize::from(u16::from_be_bytes(*len)));
        prop_assert_eq!(violation, whole.then_some(Violation::NotOpened));
    }

    #[test]
    fn a_record_that_is_dropped_repeated_or_overtaken_ends_the_link(
        records in prop::collection::vec(record(), 2..8), at in any::<prop::sample::Index>(),
        fault in 0..3, piece in 1_usize..2000,
    ) {
        let (mut ours, theirs) = sessions();
        let mut sealed: Vec<_> = records
            .iter()
            .map(|(kind, body)| {
                let mut out = Outgoing::default();
                ours.seal(*kind, body, &mut out);
                out.pending().to_vec()
            })
            .collect();
        let at = at.index(records.len() - 1);
        let intact = match fault {
            0 => {
                sealed.remove(at);
                at
            }
            1 => {
                sealed.insert(at, sealed[at].clone());
                at + 1
            }
            _ => {
                sealed.swap(at, at + 1);
                at
            }
        };
        let (heard, violation) =
            fed(&mut Link::new(theirs, NOW, false), &sealed.concat(), piece);
        prop_assert_eq!(violation, Some(Violation::NotOpened));
        prop_assert_eq!(joined(&heard), joined(&records[..intact]));
    }
}

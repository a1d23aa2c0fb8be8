//! Each direction of a session changes its key after every 2^14th record, all types counted, and
//! nobody who carries records notices. The peer here is Noise itself (snow), which rekeys only where
//! this test says so. PROTOCOL.md, section 3.2.

use crate::testkit::foreign::foreign_responder;

use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, random};
use anonchat::proto::stream::handshake::{HELLO_LEN, Initiator, Opened, Responding};
use anonchat::proto::stream::link::Link;
use anonchat::proto::stream::outgoing::Outgoing;
use anonchat::proto::stream::record::{Kind, Violation};
use anonchat::proto::stream::session::{REKEY_AFTER, Session, plain_buffer};
use anonchat::proto::time::Now;
use snow::TransportState;

const NOW: Now = Now { mono: Duration::from_secs(1), unix_ms: 1_000_000_000 };
/// A record of the smallest size: type, length and body, padded to 256, and a tag.
const SEALED: usize = 256 + 16;

/// Our two ends of one session.
fn both_ends() -> (Session, Session) {
    let (me, peer, access) = (KeyPair::generate(), KeyPair::generate(), random());
    let (initiator, hello) = Initiator::start(&me, peer.public(), &access, NOW.unix_ms).unwrap();
    let responding = Responding { pair: &peer, access: &access };
    let opened = Opened::open(&responding, &hello, NOW.unix_ms).unwrap();
    let (responder, reply) = opened.reply().unwrap();
    let (session, confirm) = initiator.confirm(&reply).unwrap();
    (session, responder.finish(&confirm).unwrap().0)
}

/// Our initiator, and a responder made of nothing but Noise.
fn against_snow() -> (Session, TransportState) {
    let (me, peer, access) = (KeyPair::generate(), KeyPair::generate(), random());
    let (initiator, hello) = Initiator::start(&me, peer.public(), &access, NOW.unix_ms).unwrap();
    let (mut noise, reply) = foreign_responder(&peer, &access, &hello);
    let (session, confirm) = initiator.confirm(&reply).unwrap();
    assert_eq!(noise.read_message(&confirm, &mut [0; HELLO_LEN]).unwrap(), 16);
    (session, noise.into_transport_mode().unwrap())
}

#[test]
fn what_we_seal_is_rekeyed_after_every_16384th_record_and_never_else() {
    let (mut ours, mut theirs) = against_snow();
    let (mut out, mut plain) = (Outgoing::default(), vec![0; SEALED]);
    for nth in 1..=2 * REKEY_AFTER + 1 {
        out.clear();
        // All types count, signs of life too.
        let kind = if nth % 3 == 0 { Kind::Pad } else { Kind::Data };
        ours.seal(kind, b"x", &mut out);
        let sealed = out.pending();
        assert_eq!(sealed.len(), 2 + SEALED);
        theirs.read_message(&sealed[2..], &mut plain).unwrap_or_else(|e| panic!("{nth}: {e}"));
        if nth % REKEY_AFTER == 0 {
            theirs.rekey_incoming();
        }
    }
}

#[test]
fn what_we_open_is_rekeyed_after_every_16384th_record_and_never_else() {
    let (mut ours, mut theirs) = against_snow();
    let (mut sealed, mut plain) = (vec![0; SEALED], plain_buffer());
    let mut pad = [0; 256];
    pad[0] = Kind::Pad as u8;
    for nth in 1..=2 * REKEY_AFTER + 1 {
        theirs.write_message(&pad, &mut sealed).unwrap();
        assert!(ours.open(&sealed, &mut plain).is_ok(), "record {nth}");
        if nth % REKEY_AFTER == 0 {
            theirs.rekey_outgoing();
        }
    }
}

#[test]
fn a_record_under_the_old_key_does_not_open() {
    let (mut ours, mut theirs) = against_snow();
    let (mut sealed, mut plain) = (vec![0; SEALED], plain_buffer());
    let mut pad = [0; 256];
    pad[0] = Kind::Pad as u8;
    for nth in 1..=REKEY_AFTER + 1 {
        theirs.write_message(&pad, &mut sealed).unwrap();
        let opened = ours.open(&sealed, &mut plain).map(|_| ());
        let expected = if nth <= REKEY_AFTER { Ok(()) } else { Err(Violation::NotOpened) };
        assert_eq!(opened, expected, "record {nth}");
    }
}

#[test]
fn links_carry_more_records_than_one_key_in_pieces_of_any_size_and_unevenly() {
    let (one, other) = both_ends();
    let (mut one, mut other) = (Link::new(one, NOW, false), Link::new(other, NOW, false));
    let mut plain = plain_buffer();
    let total = 2 * REKEY_AFTER + 100;
    let (mut sent, mut heard, mut echoed) = (0, 0, 0);
    while heard < total {
        // Bursts of a size that does not divide 2^14.
        for _ in 0..97.min(total - sent) {
            one.send(Kind::Data, &u32::to_be_bytes(sent), NOW);
            sent += 1;
        }
        while !one.pending().is_empty() {
            let len = one.pending().len().min(1009);
            let mut numbers = Vec::new();
            let fed = other.feed(&one.pending()[..len], NOW, &mut plain, |kind, body| {
                assert_eq!(kind, Kind::Data);
                // What several records say comes as one.
                let (each, rest) = body.as_chunks::<4>();
                assert!(rest.is_empty());
                numbers.extend(each.iter().map(|number| u32::from_be_bytes(*number)));
                Ok(())
            });
            fed.unwrap();
            one.consumed(len);
            for number in numbers {
                assert_eq!(number, heard);
                heard += 1;
                // The other direction counts for itself: it rekeys at another time.
                if number % 2 == 0 {
                    other.send(Kind::Pad, &[], NOW);
                }
            }
        }
        let back = other.pending().to_vec();
        other.consumed(back.len());
        one.feed(&back, NOW, &mut plain, |_, _| {
            echoed += 1;
            Ok(())
        })
        .unwrap();
    }
    assert_eq!((heard, echoed), (total, total / 2));
}

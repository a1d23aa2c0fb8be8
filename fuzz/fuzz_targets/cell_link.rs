//! A link to a relay waits for whole cells, ends at bytes that no relay sealed, and hands on only
//! what a relay may say of what one did seal.
#![no_main]

use std::time::Duration;

use anonchat::crypto::sodium::KeyPair;
use anonchat::proto::relay::cell::{Cell, Side, WIRE_LEN};
use anonchat::proto::relay::link::CellLink;
use anonchat::proto::stream::handshake::{Initiator, Opened, Responding};
use anonchat::proto::stream::outgoing::Outgoing;
use anonchat::proto::stream::session::Session;
use anonchat::proto::time::Now;
use libfuzzer_sys::fuzz_target;

const NOW: Now = Now { mono: Duration::ZERO, unix_ms: 1_800_000_000_000 };

fn sessions() -> (Session, Session) {
    let (client, relay, access) = (KeyPair::generate(), KeyPair::generate(), [7; 32]);
    let started = Initiator::start(&client, relay.public(), &access, NOW.unix_ms);
    let (initiator, hello) = started.expect("message 1");
    let key = Responding { pair: &relay, access: &access };
    let opened = Opened::open(&key, &hello, NOW.unix_ms).expect("message 1 opens");
    let (responder, reply) = opened.reply().expect("message 2");
    let (ours, confirm) = initiator.confirm(&reply).expect("message 2 opens");
    (ours, responder.finish(&confirm).expect("message 3 opens").0)
}

// Pieces of what comes, each sealed as a record of its own or as it stands.
fuzz_target!(|pieces: Vec<(bool, Vec<u8>)>| {
    let (ours, mut relay) = sessions();
    let mut link = CellLink::new(ours, NOW);
    let mut honest = true;
    let mut sealed = Outgoing::default();
    for (seal, mut piece) in pieces {
        sealed.clear();
        let wire = if seal {
            piece.truncate(2000);
            relay.seal_whole(&piece, &mut sealed);
            sealed.pending()
        } else {
            honest &= piece.is_empty();
            &piece
        };
        let each = |cell: &Cell<'_>| {
            assert!(honest, "a cell out of nothing");
            assert!(cell.is_said_by(Side::Relay));
            Ok(())
        };
        if link.feed(wire, NOW, each).is_err() {
            return;
        }
        assert!((1..=WIRE_LEN).contains(&link.missing()));
    }
});

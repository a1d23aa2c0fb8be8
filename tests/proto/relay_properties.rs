//! What cells, links and mailboxes promise for every input. PROTOCOL.md, 5.1 to 5.3.

use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, PublicKey, random};
use anonchat::proto::datagram::packet::{MessageId, PACKET_LEN};
use anonchat::proto::relay::cell::{CELL_LEN, Cell, Command, PROOF_LEN, RENDEZVOUS_LEN, WIRE_LEN};
use anonchat::proto::relay::link::CellLink;
use anonchat::proto::relay::mailbox::{Challenge, Channel, Mailbox, Reader};
use anonchat::proto::stream::handshake::{Initiator, Opened, Responding};
use anonchat::proto::stream::record::Violation;
use anonchat::proto::stream::session::REKEY_AFTER;
use anonchat::proto::time::Now;
use proptest::prelude::*;

const NOW: Now = Now { mono: Duration::ZERO, unix_ms: 1_800_000_000_000 };

/// A client's link to a relay, at both ends.
fn links() -> (CellLink, CellLink) {
    let (client, relay, access) = (KeyPair::generate(), KeyPair::generate(), [7; 32]);
    let started = Initiator::start(&client, relay.public(), &access, NOW.unix_ms);
    let (initiator, hello) = started.unwrap();
    let key = Responding { pair: &relay, access: &access };
    let (responder, reply) =
        Opened::open(&key, &hello, NOW.unix_ms).ok().unwrap().reply().ok().unwrap();
    let (ours, confirm) = initiator.confirm(&reply).ok().unwrap();
    let (theirs, _) = responder.finish(&confirm).ok().unwrap();
    (CellLink::new(ours, NOW), CellLink::new(theirs, NOW))
}

/// Any cell that a client may say; `noise` fills what the command uses.
fn client_cell(choice: usize, noise: &[u8; PACKET_LEN]) -> Cell<'_> {
    let (log, address) = (noise[..8].try_into().unwrap(), noise[8..40].try_into().unwrap());
    let id = u64::from_be_bytes(noise[40..48].try_into().unwrap());
    match choice {
        0 => Cell::new(Command::Noop),
        1 => Cell::post(id, address, noise),
        2 => Cell::post(id, address, noise).volatile(),
        3 => Cell { id, log, address, body: &noise[..PROOF_LEN], ..Cell::new(Command::Subscribe) },
        4 => Cell { id, log, address, ..Cell::new(Command::Ack) },
        5 => Cell { body: &noise[..RENDEZVOUS_LEN], ..Cell::new(Command::Connect) },
        _ => Cell { address, ..Cell::new(Command::Leave) },
    }
}

/// Any cell that a relay may say.
fn relay_cell(choice: usize, noise: &[u8; PACKET_LEN]) -> Cell<'_> {
    let (log, address) = (noise[..8].try_into().unwrap(), noise[8..40].try_into().unwrap());
    let id = u64::from_be_bytes(noise[40..48].try_into().unwrap());
    match choice {
        0 => Cell::new(Command::Noop),
        1 => Cell { id, log, address, body: noise, ..Cell::new(Command::Cell) },
        2 => Cell { id, ..Cell::new(Command::Ack) },
        3 => Cell { id, address, body: &noise[..1], ..Cell::new(Command::Error) },
        4 => Cell::new(Command::Joined),
        5 => Cell { id, log, address, body: noise, ..Cell::new(Command::Cell) }.volatile(),
        _ => Cell { id, log, address, ..Cell::new(Command::Live) },
    }
}

fn written(cell: &Cell<'_>) -> [u8; CELL_LEN] {
    let mut bytes = [0xaa; CELL_LEN];
    cell.write(&mut bytes);
    bytes
}

fn noise() -> impl Strategy<Value = [u8; PACKET_LEN]> {
    proptest::collection::vec(any::<u8>(), PACKET_LEN).prop_map(|v| v.try_into().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_the_same(choice in 0..14usize, noise in noise()) {
        let cell = if choice < 7 { client_cell(choice, &noise) } else { relay_cell(choice - 7, &noise) };
        let bytes = written(&cell);
        prop_assert!(Cell::parse(&bytes).is_ok_and(|read| read == cell));
    }

    /// A cell has one form: whatever is read is written with the same bytes, so every changed bit
    /// is either rejected or seen.
    #[test]
    fn every_changed_bit_is_rejected_or_seen(choice in 0..14usize, noise in noise()) {
        let cell = if choice < 7 { client_cell(choice, &noise) } else { relay_cell(choice - 7, &noise) };
        let bytes = written(&cell);
        for bit in 0..CELL_LEN * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = Cell::parse(&changed) {
                prop_assert!(read != cell, "bit {bit}");
                prop_assert!(written(&read) == changed, "bit {bit}");
            }
        }
    }

    #[test]
    fn any_bytes_that_are_read_are_written_the_same(
        start in proptest::collection::vec(any::<u8>(), 0..60),
        command in 0..10u8,
        len in prop_oneof![Just(0u16), Just(1), Just(16), Just(32), Just(1200), any::<u16>()],
    ) {
        let mut bytes = [0; CELL_LEN];
        bytes[..start.len()].copy_from_slice(&start);
        (bytes[0], bytes[1]) = (command, 0);
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        if let Ok(cell) = Cell::parse(&bytes) {
            prop_assert!(written(&cell) == bytes);
        }
    }

    #[test]
    fn a_link_hands_on_every_cell_however_its_bytes_come(
        choices in proptest::collection::vec(0..7usize, 1..8),
        noise in noise(),
        cuts in proptest::collection::vec(1..3000usize, 1..6),
    ) {
        let (mut client, mut relay) = links();
        for choice in &choices {
            client.send(&client_cell(*choice, &noise), NOW);
        }
        let wire = client.pending().to_vec();
        prop_assert_eq!(wire.len(), choices.len() * WIRE_LEN);
        let (mut got, mut rest) = (Vec::new(), &wire[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, behind) = rest.split_at(rest.len().min(*cut));
            let fed = relay.feed(piece, NOW, |cell| { got.push(written(cell)); Ok(()) });
            prop_assert!(fed.is_ok());
            rest = behind;
            prop_assert!((1..=WIRE_LEN).contains(&relay.missing()));
        }
        let sent: Vec<_> = choices.iter().map(|c| written(&client_cell(*c, &noise))).collect();
        prop_assert!(got == sent);
        prop_assert_eq!(relay.missing(), WIRE_LEN);
    }

    #[test]
    fn a_link_ends_at_a_changed_bit(bit in 0..WIRE_LEN * 8, noise in noise()) {
        let (mut client, mut relay) = links();
        client.send(&client_cell(1, &noise), NOW);
        let mut wire = client.pending().to_vec();
        wire[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(relay.feed(&wire, NOW, |_| Ok(())).is_err());
    }

    #[test]
    fn both_ends_find_the_same_mailbox_and_the_reader_alone_proves_it(at in any::<u64>()) {
        let (alice, bob, eve) = (KeyPair::generate(), KeyPair::generate(), KeyPair::generate());
        let (challenge, hash) = (Challenge::generate(), random::<64>());
        let posted = to(&alice, &bob, at);
        let read = Channel::pair(&bob, alice.public(), alice.public(), bob.public()).unwrap();
        let read = read.at(bob.public(), at).unwrap();
        prop_assert_eq!(posted.address, read.address);
        let place = PublicKey::from_bytes(&read.address).unwrap();
        let prove = |who: &KeyPair, mailbox: &Mailbox, hash: &[u8; 64]| {
            Reader::new(who, challenge.public()).unwrap().prove(mailbox, hash).unwrap()
        };
        let proof = prove(&bob, &read, &hash);
        prop_assert!(challenge.admits(&place, &hash, &proof));
        // Who may post has not thereby the right to read.
        prop_assert!(!challenge.admits(&place, &hash, &prove(&alice, &posted, &hash)));
        prop_assert!(!challenge.admits(&place, &hash, &prove(&eve, &read, &hash)));
        // A proof is good on one link, at one address, whole and unchanged.
        prop_assert!(!challenge.admits(&place, &random(), &proof));
        prop_assert!(!Challenge::generate().admits(&place, &hash, &proof));
        let elsewhere = to(&alice, &bob, at.wrapping_add(1));
        let elsewhere = PublicKey::from_bytes(&elsewhere.address).unwrap();
        prop_assert!(!challenge.admits(&elsewhere, &hash, &proof));
        prop_assert!(!challenge.admits(&place, &hash, &proof[..15]));
        prop_assert!(!challenge.admits(&place, &hash, &[]));
        for bit in 0..PROOF_LEN * 8 {
            let mut changed = proof;
            changed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!challenge.admits(&place, &hash, &changed), "bit {}", bit);
        }
    }

    #[test]
    fn mailboxes_of_other_epochs_contacts_and_directions_share_nothing(at in 0..u64::MAX) {
        let [alice, bob, carol] = [(); 3].map(|()| KeyPair::generate());
        let (access, ack_key) = (random(), random());
        let id = MessageId { run: random(), sequence: 0 };
        let next = MessageId { sequence: 1, ..id };
        let of = |channel: Channel, who: &KeyPair, at| channel.at(who.public(), at).unwrap().address;
        let all = [
            to(&alice, &bob, at).address, to(&alice, &bob, at + 1).address,
            to(&carol, &bob, at).address, to(&bob, &alice, at).address,
            of(Channel::open(&access), &bob, at), of(Channel::open(&access), &carol, at),
            of(Channel::open(&access), &bob, at + 1),
            of(Channel::receipts(&ack_key, id), &alice, at),
            of(Channel::receipts(&ack_key, next), &alice, at),
            of(Channel::receipts(&ack_key, id), &alice, at + 1),
        ];
        for (n, one) in all.iter().enumerate() {
            for other in &all[n + 1..] {
                // Of random bytes more than five in a row never agree in as few trials.
                let run = (0..32).map(|i| one[i] == other[i]).collect::<Vec<_>>();
                prop_assert!(!run.windows(6).any(|six| six.iter().all(|same| *same)));
            }
        }
    }
}

fn to(from: &KeyPair, reader: &KeyPair, at: u64) -> Mailbox {
    let channel = Channel::pair(from, reader.public(), from.public(), reader.public());
    channel.unwrap().at(reader.public(), at).unwrap()
}

#[test]
fn a_link_ends_at_a_cell_of_the_wrong_side() {
    let noise = [9; PACKET_LEN];
    for choice in 1..7 {
        let (mut client, mut relay) = links();
        relay.send(&client_cell(choice, &noise), NOW);
        let wire = relay.pending().to_vec();
        let fed = client.feed(&wire, NOW, |_| Ok(()));
        assert_eq!(fed, Err(Violation::Malformed), "{choice}");
    }
    for choice in [1, 3, 4, 5, 6] {
        let (mut client, mut relay) = links();
        client.send(&relay_cell(choice, &noise), NOW);
        let wire = client.pending().to_vec();
        assert_eq!(relay.feed(&wire, NOW, |_| Ok(())), Err(Violation::Malformed), "{choice}");
    }
}

#[test]
fn both_ends_of_a_link_rekey_at_the_same_cell() {
    let (mut client, mut relay) = links();
    let mut count = 0;
    for _ in 0..REKEY_AFTER + 10 {
        client.send(&Cell::new(Command::Noop), NOW);
        let wire = client.pending().to_vec();
        client.consumed(wire.len());
        let each = |_: &Cell<'_>| {
            count += 1;
            Ok(())
        };
        assert_eq!(relay.feed(&wire, NOW, each), Ok(()));
    }
    assert_eq!(count, REKEY_AFTER + 10);
}

#[test]
fn a_challenge_that_is_no_key_gets_no_proof() {
    for bad in [[0; 32], [0xff; 32]] {
        assert!(Reader::new(&KeyPair::generate(), &bad).is_none());
    }
}

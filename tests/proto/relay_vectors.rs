//! What clients and relays say comes out as PROTOCOL.md, section 5, says: addresses, proofs, cells
//! and packets made by tests/vectors/relay.py, which shares no code with this crate.

use crate::testkit::vectors::{array, assert_fields, hex, pair, vectors};

use anonchat::crypto::sodium::{KeyPair, OsRandom, PublicKey};
use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::meet::Meet;
use anonchat::proto::datagram::packet::{
    Head, Kind, LocalKey, MessageId, Opened, PACKET_LEN, Sealer, Way, mac1, mac1_key,
};
use anonchat::proto::datagram::probe::PROBE_LIFE_MS;
use anonchat::proto::datagram::receipt::Awaited;
use anonchat::proto::relay::cell::{CELL_LEN, Cell, Side};
use anonchat::proto::relay::link::open_access;
use anonchat::proto::relay::mailbox::{Channel, Mailbox, Reader, epoch};
use anonchat::proto::stream::meta::Welcome;
use anonchat::proto::time::Now;
use serde_json::Value;

fn id(value: &Value) -> MessageId {
    let bytes: [u8; 16] = array(value);
    let sequence = u64::from_be_bytes(bytes[8..].try_into().unwrap());
    MessageId { run: bytes[..8].try_into().unwrap(), sequence }
}

/// The channel of this name as the poster makes it and as the reader does, and who reads it.
fn channel<'a>(
    v: &Value,
    name: &str,
    reader: &'a KeyPair,
    poster: &'a KeyPair,
) -> ([Channel; 2], &'a KeyPair) {
    let pair = |from: &KeyPair, to: &KeyPair| {
        let made = |me: &KeyPair, other: &KeyPair| {
            Channel::pair(me, other.public(), from.public(), to.public()).unwrap()
        };
        [made(from, to), made(to, from)]
    };
    let access = array(&v["access"]);
    let receipts = || Channel::receipts(&array(&v["ack_key"]), id(&v["message_id"]));
    match name {
        "pair" => (pair(poster, reader), reader),
        "pair, the other way" => (pair(reader, poster), poster),
        "public" | "group" => ([Channel::open(&access), Channel::open(&access)], reader),
        "receipts" => ([receipts(), receipts()], poster),
        other => panic!("channel {other}"),
    }
}

#[test]
fn mailboxes_of_every_channel_are_where_the_vectors_say() {
    let v = vectors("relay");
    let (reader, poster) = (pair(&v["reader_secret"]), pair(&v["poster_secret"]));
    assert_eq!(reader.public().as_bytes()[..], hex(&v["reader_public"]));
    let hash = array(&v["link_hash"]);
    let challenge = array(&v["challenge"]);
    let mut seen = 0;
    for entry in v["mailboxes"].as_array().unwrap() {
        let (channels, reads) = channel(&v, entry["channel"].as_str().unwrap(), &reader, &poster);
        let at = entry["epoch"].as_u64().unwrap();
        let [posted, read]: [Mailbox; 2] = channels.map(|c| c.at(reads.public(), at).unwrap());
        assert_eq!(posted.address[..], hex(&entry["address"]), "{entry}");
        assert_eq!(read.address, posted.address, "{entry}");
        let proof = Reader::new(reads, &challenge).unwrap().prove(&read, &hash).unwrap();
        assert_eq!(proof[..], hex(&entry["proof"]), "{entry}");
        seen += 1;
    }
    assert_eq!(seen, 20);
}

#[test]
fn a_blind_times_the_readers_key_is_the_address() {
    let v = vectors("relay");
    for entry in v["mailboxes"].as_array().unwrap() {
        let back = matches!(entry["channel"].as_str(), Some("pair, the other way" | "receipts"));
        let reader = pair(&v[if back { "poster_secret" } else { "reader_secret" }]);
        let blind = pair(&entry["blind"]);
        assert_eq!(blind.dh(reader.public()).unwrap().expose()[..], hex(&entry["address"]));
    }
}

#[test]
fn an_open_relays_access_epochs_and_welcome_are_as_the_vectors_say() {
    let v = vectors("relay");
    let relay = PublicKey::from_bytes(&array(&v["reader_public"])).unwrap();
    assert_eq!(open_access(&relay)[..], hex(&v["open_access_of_reader_public"]));
    for entry in v["epochs"].as_array().unwrap() {
        assert_eq!(epoch(entry[0].as_u64().unwrap()), entry[1].as_u64().unwrap());
    }
    let welcome = Welcome {
        challenge: Some(array(&v["challenge"])),
        ttl_s: v["welcome"]["ttl_s"].as_u64(),
        ..Welcome::default()
    };
    assert_eq!(welcome.encode(), hex(&v["welcome"]["body"]));
    assert_eq!(Welcome::decode(&welcome.encode()).unwrap(), welcome);
}

fn whole(value: &Value) -> [u8; CELL_LEN] {
    let mut bytes = hex(value);
    bytes.resize(CELL_LEN, 0);
    bytes.try_into().unwrap()
}

fn sides(entry: &Value) -> &'static [Side] {
    match entry["from"].as_str().unwrap() {
        "client" => &[Side::Client],
        "relay" => &[Side::Relay],
        "both" => &[Side::Client, Side::Relay],
        other => panic!("side {other}"),
    }
}

#[test]
fn every_command_is_read_and_written_byte_for_byte() {
    let v = vectors("relay");
    let mut commands = std::collections::BTreeSet::new();
    for entry in v["cells"].as_array().unwrap() {
        let bytes = whole(&entry["cell"]);
        let cell = Cell::parse(&bytes).ok().unwrap();
        let number = |name: &str| entry[name].as_u64().unwrap_or_default();
        let text = |name: &str, len: usize| match &entry[name] {
            Value::Null => vec![0; len],
            given => hex(given),
        };
        assert_eq!(cell.command as u64, number("command"), "{entry}");
        assert_eq!(u64::from(cell.flags), number("flags"), "{entry}");
        assert_eq!(cell.id, number("id"), "{entry}");
        assert_eq!(cell.log[..], text("log", 8), "{entry}");
        assert_eq!(cell.address[..], text("address", 32), "{entry}");
        assert_eq!(cell.body, text("body", 0), "{entry}");
        assert!(sides(entry).iter().all(|side| cell.is_said_by(*side)), "{entry}");
        let mut again = [0xff; CELL_LEN];
        cell.write(&mut again);
        assert!(again == bytes, "{entry}");
        commands.insert(cell.command as u8);
    }
    assert_eq!(commands.into_iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

#[test]
fn every_malformed_cell_is_rejected() {
    let v = vectors("relay");
    let good = v["cells"].as_array().unwrap();
    let mut seen = 0;
    for entry in v["malformed"].as_array().unwrap() {
        let made_of = good.iter().find(|cell| cell["name"] == entry["made_of"]).unwrap();
        let mut bytes = whole(&made_of["cell"]);
        for (at, byte) in entry["changes"].as_object().unwrap() {
            [bytes[at.parse::<usize>().unwrap()]] = array(byte);
        }
        for side in sides(entry) {
            let taken = Cell::parse(&bytes).is_ok_and(|cell| cell.is_said_by(*side));
            assert!(!taken, "{side:?} {}", entry["name"]);
        }
        seen += 1;
    }
    assert!(seen > 100);
}

/// A packet of the vectors, opened by whom it is for.
fn opened(p: &Value, name: &str) -> Opened {
    let packet = &p["packets"][name];
    let is_answer = name.starts_with("receipt") || name == "here";
    let (keys, access) = match is_answer {
        true => (&p["sender_secret"], &p["ack_key"]),
        false => (&p["recipient_secret"], &p["access"]),
    };
    let local = LocalKey::new(pair(keys), &array(access));
    let wire: [u8; PACKET_LEN] = array(&packet["packet"]);
    assert!(local.recognises(&wire), "{name}");
    let opened = Opened::open(local.keys(), &wire, 0, &[]).unwrap();
    let from = pair(&p[if is_answer { "recipient_secret" } else { "sender_secret" }]);
    assert_eq!(opened.sender(), from.public(), "{name}");
    opened
}

#[test]
fn every_packet_opens_to_its_fields() {
    let v = vectors("relay");
    let p = &v["packets"];
    let mut kinds = std::collections::BTreeSet::new();
    for (name, packet) in p["packets"].as_object().unwrap() {
        let opened = opened(p, name);
        assert!(opened.way() == Way::Relay && !opened.more(), "{name}");
        assert_fields(&opened, packet, name);
        kinds.insert(opened.kind() as u8);
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6]);
}

#[test]
fn receipts_say_what_they_say_to_the_sender_of_their_message_alone() {
    let v = vectors("relay");
    let p = &v["packets"];
    let (sender, recipient) = (pair(&p["sender_secret"]), pair(&p["recipient_secret"]));
    let (message, ack_key) = (id(&p["message_id"]), array(&p["ack_key"]));
    let awaited = Awaited::new(sender.public(), message, &ack_key);
    let other = MessageId { sequence: 1, ..message };
    let another = Awaited::new(sender.public(), other, &ack_key);
    let stranger = KeyPair::generate();
    let statuses = [Status::Received, Status::Delivered, Status::Declined];
    for (n, status) in statuses.into_iter().enumerate() {
        let wire = array(&p["packets"][format!("receipt {n}")]["packet"]);
        assert_eq!(awaited.read(&sender, recipient.public(), &wire), Some(status));
        assert_eq!(awaited.read(&sender, stranger.public(), &wire), None);
        assert_eq!(another.read(&sender, recipient.public(), &wire), None);
        let mut changed = wire;
        changed[1000] ^= 1;
        assert_eq!(awaited.read(&sender, recipient.public(), &changed), None);
    }
    let here = array(&p["packets"]["here"]["packet"]);
    assert_eq!(awaited.read(&sender, recipient.public(), &here), None);
}

fn at(unix_ms: u64) -> Now {
    Now { mono: std::time::Duration::ZERO, unix_ms }
}

#[test]
fn meets_name_their_rendezvous_for_thirty_seconds() {
    let v = vectors("relay");
    let p = &v["packets"];
    let time = p["time_ms"].as_u64().unwrap();
    let rendezvous = array(&p["rendezvous"]);
    let expected = [
        ("meet", Meet { rendezvous, instance: None }),
        ("meet, of one instance", Meet { rendezvous, instance: Some(array(&p["instance"])) }),
        ("meet, with a key of later", Meet { rendezvous, instance: None }),
    ];
    for (name, meet) in expected {
        let packet = opened(p, name);
        assert!(Meet::read(&packet, at(time)) == Some(meet.clone()), "{name}");
        assert!(Meet::read(&packet, at(time + PROBE_LIFE_MS)).is_some(), "{name}");
        assert!(Meet::read(&packet, at(time + PROBE_LIFE_MS + 1)).is_none(), "{name}");
    }
    assert!(Meet::read(&opened(p, "probe"), at(time)).is_none());
}

#[test]
fn a_meet_that_is_made_here_has_the_vectors_body_and_id() {
    let v = vectors("relay");
    let p = &v["packets"];
    let (sender, recipient) = (pair(&p["sender_secret"]), pair(&p["recipient_secret"]));
    let sealer = Sealer::new(&sender, recipient.public(), &array(&p["access"]));
    let time = p["time_ms"].as_u64().unwrap();
    for (name, instance) in [("meet", None), ("meet, of one instance", Some(array(&p["instance"])))]
    {
        let meet = Meet { rendezvous: array(&p["rendezvous"]), instance };
        let mut packet = [0; PACKET_LEN];
        meet.seal(&sealer, at(time), &mut OsRandom, &mut packet);
        let made = Opened::open(&recipient, &packet, 0, &[]).unwrap();
        assert_eq!(made.body(), hex(&p["packets"][name]["body"]), "{name}");
        assert_eq!(made.id().to_bytes()[..], hex(&p["packets"][name]["id"]), "{name}");
        assert_eq!(made.ack_key()[..], hex(&p["packets"][name]["ack_key"]), "{name}");
        let key = mac1_key(&array(&p["access"]), recipient.public());
        assert_eq!(mac1(&key, &packet[16..]), packet[..16]);
    }
}

#[test]
fn bodies_that_are_no_meet_are_rejected() {
    let v = vectors("relay");
    let p = &v["packets"];
    let (sender, recipient) = (pair(&p["sender_secret"]), pair(&p["recipient_secret"]));
    let sealer = Sealer::new(&sender, recipient.public(), &array(&p["access"]));
    let time_ms = p["time_ms"].as_u64().unwrap();
    for (name, body) in p["not_meet"].as_object().unwrap() {
        let head = Head {
            kind: Kind::Meet,
            way: Way::Relay,
            more: false,
            id: id(&p["message_id"]),
            time_ms,
            ack_key: &[0; 32],
            fragment: 0,
            of: 1,
        };
        let mut packet = [0; PACKET_LEN];
        sealer.seal(&head, &hex(body), &mut OsRandom, &mut packet);
        let opened = Opened::open(&recipient, &packet, 0, &[]).unwrap();
        assert!(Meet::read(&opened, at(time_ms)).is_none(), "{name}");
    }
}

//! The published datagram vectors, made by an independent implementation (tests/vectors/datagram.py),
//! open here byte for byte. PROTOCOL.md, 4.7.

use crate::testkit::vectors::{array, assert_fields, hex, pair, vectors};

use anonchat::crypto::sodium::{BoxKey, PublicKey};
use anonchat::proto::datagram::ack::{Status, ack};
use anonchat::proto::datagram::boxfile::BoxReader;
use anonchat::proto::datagram::cache::BoxCache;
use anonchat::proto::datagram::packet::{
    LocalKey, MessageId, Opened, PACKET_LEN, Way, mac1, mac1_key,
};

#[test]
fn the_key_of_mac1_and_mac1_itself_match() {
    let v = vectors("datagram");
    let to = PublicKey::from_bytes(&array(&v["recipient_public"])).unwrap();
    let key = mac1_key(&array(&v["access"]), &to);
    assert_eq!(key.expose()[..], hex(&v["mac1_key"]));
    let one = &v["packets"]["one fragment"];
    assert_eq!(mac1(&key, &hex(&one["packet"])[16..])[..], hex(&one["mac1"]));
}

#[test]
fn every_packet_opens_to_its_fields() {
    let v = vectors("datagram");
    let mut count = 0;
    for (name, packet) in v["packets"].as_object().unwrap() {
        let (keys, access, sender) = match name.as_str() {
            "here" => (&v["sender_secret"], &v["packets"]["probe"]["ack_key"], "recipient_public"),
            _ => (&v["recipient_secret"], &v["access"], "sender_public"),
        };
        let local = LocalKey::new(pair(keys), &array(access));
        let wire: [u8; PACKET_LEN] = array(&packet["packet"]);
        assert!(local.recognises(&wire), "{name}");
        let opened = Opened::open(local.keys(), &wire, 0, &[BoxCache::new()]).unwrap();
        assert_eq!(opened.sender().as_bytes()[..], hex(&v[sender]), "{name}");
        assert_fields(&opened, packet, name);
        let flags = packet["flags"].as_u64().unwrap();
        assert_eq!(opened.more(), flags & 2 != 0, "{name}");
        assert_eq!(opened.way() == Way::File, flags & 4 != 0, "{name}");
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn the_inner_box_has_the_same_bytes_when_it_is_made_here() {
    let v = vectors("datagram");
    let one = &v["packets"]["one fragment"];
    let to = PublicKey::from_bytes(&array(&v["recipient_public"])).unwrap();
    let mut payload = hex(&one["id"]);
    payload.extend(one["time_ms"].as_u64().unwrap().to_be_bytes());
    payload.extend(hex(&one["ack_key"]));
    payload.extend([0, 0, 0, 1, 0, 3]);
    payload.extend(b"hi\n");
    payload.resize(1060, 0);
    let key = BoxKey::new(&pair(&v["sender_secret"]), &to);
    assert_eq!(key.seal(&array(&one["nonce"]), &payload), hex(&one["inner"])[60..]);
}

#[test]
fn acks_match() {
    let v = vectors("datagram");
    let one = &v["packets"]["one fragment"];
    let id: [u8; 16] = array(&one["id"]);
    let sequence = u64::from_be_bytes(id[8..].try_into().unwrap());
    let id = MessageId { run: id[..8].try_into().unwrap(), sequence };
    for (expected, status) in v["acks"].as_array().unwrap().iter().zip([
        Status::Received,
        Status::Delivered,
        Status::Declined,
    ]) {
        assert_eq!(expected["status"].as_u64().unwrap(), status as u64);
        let fragment = expected["fragment"].as_u64().unwrap() as u16;
        let made = ack(&array(&one["ack_key"]), id, fragment, status);
        assert_eq!(made[..], hex(&expected["ack"]));
    }
}

#[test]
fn the_packet_for_a_file_is_a_whole_box_file() {
    let v = vectors("datagram");
    let local = LocalKey::new(pair(&v["recipient_secret"]), &array(&v["access"]));
    let mut reader = BoxReader::new(vec![local]);
    let chunk = reader.open(&hex(&v["packets"]["for a file"]["packet"])).unwrap();
    assert_eq!(
        (chunk.body.as_slice(), chunk.first, chunk.last),
        (&b"from a stick\n"[..], true, true)
    );
    reader.finish().unwrap();
}

//! Bodies and proofs of discovery, byte for byte as tests/vectors/discovery.py made them without this
//! crate. PROTOCOL.md, 6.2, 6.3 and 6.5.

use crate::testkit::vectors::{hex, pair, vectors};

use std::net::IpAddr;

use anonchat::crypto::sodium::PublicKey;
use anonchat::discover::introduction::{introduce, is_proven};
use anonchat::proto::datagram::packet::MessageId;
use anonchat::proto::datagram::presence::{Carrier, Endpoint, HereBody, ProbeBody};

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn bodies_of_probes_are_written_and_read_as_the_vectors_say() {
    let vectors = vectors("discovery");
    let e = *pair(&vectors["throwaway_secret"]).public();
    let whole =
        ProbeBody { addresses: ips(&["10.0.0.1", "fd00::1"]), port: 40_000, introduce: Some(e) };
    let plain = ProbeBody { addresses: ips(&["192.168.1.7"]), port: 23, introduce: None };
    for (field, body) in [("probe", whole), ("plain_probe", plain)] {
        let wire = hex(&vectors[field]);
        assert_eq!(body.encode().as_bytes(), wire, "{field}");
        assert_eq!(ProbeBody::decode(&wire), Some(body), "{field}");
    }
}

#[test]
fn bodies_of_answers_and_introductions_are_as_the_vectors_say() {
    let vectors = vectors("discovery");
    let (member, seeker) = (pair(&vectors["member_secret"]), pair(&vectors["throwaway_secret"]));
    let group: [u8; 32] = hex(&vectors["group"]).try_into().unwrap();
    let group = PublicKey::from_bytes(&group).unwrap();
    let run = hex(&vectors["message_id"])[..8].try_into().unwrap();
    let id = MessageId { run, sequence: 0 };
    let access = hex(&vectors["access"]).try_into().unwrap();
    let name = vectors["name"].as_str();
    let made = introduce(&member, &access, name, &group, id, seeker.public()).unwrap();
    assert_eq!(made.proof.to_vec(), hex(&vectors["proof"]));
    assert!(is_proven(&made, &group, id, &seeker));
    let at = |carrier, port| Endpoint { carrier, port };
    let instance = hex(&vectors["instance"]).try_into().unwrap();
    let whole = HereBody {
        addresses: ips(&["10.0.0.5", "fe80::5"]),
        endpoints: vec![at(Carrier::Tcp, 1234), at(Carrier::Udp, 70)],
        instance,
        introduction: Some(made),
    };
    let plain = HereBody {
        addresses: ips(&["10.0.0.5"]),
        endpoints: vec![at(Carrier::Tcp, 65_535)],
        instance,
        introduction: None,
    };
    for (field, body) in [("here", whole), ("plain_here", plain)] {
        let wire = hex(&vectors[field]);
        assert_eq!(body.encode().as_bytes(), wire, "{field}");
        assert!(HereBody::decode(&wire) == Some(body), "{field}");
    }
}

//! The pure announcer, rule by rule: what it answers, and everything else that draws nothing.
//! PROTOCOL.md, 6.3.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, OsRandom, PublicKey, SeededRandom};
use anonchat::discover::announcer::{Announcer, Outcome, Presence};
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::cache::BoxCache;
use anonchat::proto::datagram::packet::{LocalKey, MessageId, PACKET_LEN, Sealer, Way};
use anonchat::proto::datagram::presence::{Carrier, Endpoint, HereBody, ProbeBody};
use anonchat::proto::datagram::probe::{PROBE_LIFE_MS, Prober, Question};
use anonchat::proto::time::{CLOCK_WINDOW_MS, Now};
use proptest::prelude::*;

const UNIX_MS: u64 = 1_800_000_000_000;
const ACCESS: [u8; 32] = [7; 32];
const PORT: u16 = 40_000;

fn ip() -> IpAddr {
    Ipv4Addr::new(10, 0, 0, 1).into()
}

fn from() -> SocketAddr {
    SocketAddr::new(ip(), PORT)
}

fn at(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), unix_ms: UNIX_MS + ms }
}

/// Lets everybody or nobody in.
struct Desk(Admission);

impl Presence for Desk {
    fn admit(&mut self, _sender: &PublicKey, _local: usize) -> Admission {
        self.0
    }

    fn here(&mut self, _: &ProbeBody, _: MessageId, _: usize, _: u32) -> Option<HereBody> {
        let endpoints = vec![Endpoint { carrier: Carrier::Tcp, port: 1234 }];
        let addresses = vec![Ipv4Addr::new(10, 0, 0, 5).into()];
        Some(HereBody { addresses, endpoints, instance: [1; 8], introduction: None })
    }
}

struct Scene {
    announcer: Announcer,
    desk: Desk,
    me: KeyPair,
    bob: PublicKey,
    question: Question,
    answer: [u8; PACKET_LEN],
}

impl Scene {
    fn new() -> Self {
        let (bob, me) = (KeyPair::generate(), KeyPair::generate());
        let public = *bob.public();
        let announcer = Announcer::new(vec![LocalKey::new(bob, &ACCESS)]);
        let question = Question::new(me.public(), &mut OsRandom);
        let desk = Desk(Admission::Contact);
        Self { announcer, desk, me, bob: public, question, answer: [0; PACKET_LEN] }
    }

    fn sealed(&self, body: &[u8], now: Now) -> [u8; PACKET_LEN] {
        let mut packet = [0; PACKET_LEN];
        let sealer = Sealer::new(&self.me, &self.bob, &ACCESS);
        self.question.packet(&sealer, Way::Network, body, now, &mut OsRandom, &mut packet);
        packet
    }

    fn probe(&self, now: Now) -> [u8; PACKET_LEN] {
        self.sealed(body(&[ip()], PORT).as_slice(), now)
    }

    fn feed(&mut self, packet: &[u8], from: SocketAddr, now: Now) -> Outcome {
        let Self { announcer, desk, answer, .. } = self;
        announcer.feed(packet, from, 1, now, desk, &mut OsRandom, answer)
    }

    fn is_silent(&mut self, packet: &[u8], from: SocketAddr, now: Now) -> bool {
        self.feed(packet, from, now) == Outcome::Silence
    }
}

fn body(addresses: &[IpAddr], port: u16) -> Vec<u8> {
    let body = ProbeBody { addresses: addresses.to_vec(), port, introduce: None };
    body.encode().as_bytes().to_vec()
}

#[test]
fn a_probe_is_answered_once_with_as_many_bytes_and_by_the_sought_key() {
    let mut scene = Scene::new();
    let probe = scene.probe(at(0));
    assert_eq!(scene.feed(&probe, from(), at(1)), Outcome::Answer);
    let (answer, caches) = (scene.answer, [BoxCache::new()]);
    assert!(scene.question.recognises(&answer));
    let here =
        scene.question.open(Way::Network, &scene.me, &scene.bob, &answer, at(2), &caches).unwrap();
    assert_eq!(HereBody::decode(here.body()).unwrap().endpoints[0].port, 1234);
    let stranger = *KeyPair::generate().public();
    assert!(
        scene.question.open(Way::Network, &scene.me, &stranger, &answer, at(2), &caches).is_none()
    );
    for ms in [1, 2, 1000, 29_000] {
        assert!(scene.is_silent(&probe, from(), at(ms)), "the same packet after {ms} ms");
    }
    // A retransmission is another packet.
    let again = scene.probe(at(5));
    assert_eq!(scene.feed(&again, from(), at(6)), Outcome::Answer);
}

#[test]
fn what_comes_from_elsewhere_than_the_probe_says_draws_nothing() {
    let mut scene = Scene::new();
    let other: IpAddr = Ipv4Addr::new(10, 0, 0, 9).into();
    for from in [SocketAddr::new(other, PORT), SocketAddr::new(ip(), PORT + 1)] {
        let probe = scene.probe(at(0));
        assert!(scene.is_silent(&probe, from, at(1)), "{from}");
    }
}

#[test]
fn a_probe_is_void_outside_the_clock_window() {
    let mut scene = Scene::new();
    let late = scene.probe(at(0));
    assert!(scene.is_silent(&late, from(), at(PROBE_LIFE_MS + 1)));
    let just = scene.probe(at(0));
    assert_eq!(scene.feed(&just, from(), at(PROBE_LIFE_MS)), Outcome::Answer);
    let ahead = scene.probe(at(CLOCK_WINDOW_MS + 1));
    assert!(scene.is_silent(&ahead, from(), at(0)));
}

#[test]
fn who_is_not_heard_draws_nothing_and_is_not_remembered() {
    let mut scene = Scene::new();
    scene.desk.0 = Admission::TurnAway;
    let probe = scene.probe(at(0));
    let sender = *scene.me.public();
    assert_eq!(scene.feed(&probe, from(), at(1)), Outcome::TurnedAway(sender));
    assert_eq!(scene.answer, [0; PACKET_LEN]);
    scene.desk.0 = Admission::Contact;
    let next = scene.probe(at(2));
    assert_eq!(scene.feed(&next, from(), at(3)), Outcome::Answer);
}

#[test]
fn a_direct_probe_and_every_body_that_breaks_a_rule_draw_nothing() {
    let mut scene = Scene::new();
    let prober = Prober::new(&scene.me, &scene.bob, &ACCESS, &mut OsRandom);
    let mut direct = [0; PACKET_LEN];
    prober.packet(at(0), &mut OsRandom, &mut direct);
    assert!(scene.is_silent(&direct, from(), at(1)));
    let ours = [10, 0, 0, 1];
    let whole = [&[0xa2, 0, 0x81, 0x44][..], &ours, &[1, 0x19, 0x9c, 0x40]].concat();
    let good = scene.sealed(&whole, at(0));
    assert_eq!(scene.feed(&good, from(), at(1)), Outcome::Answer);
    let port: &[u8] = &[1, 0x19, 0x9c, 0x40];
    let list: &[u8] = &[0, 0x81, 0x44, 10, 0, 0, 1];
    let bad: [Vec<u8>; 14] = [
        vec![],
        vec![0xa0],
        [&[0xa1][..], list].concat(),
        [&[0xa1][..], port].concat(),
        // Twice, behind the end, and of no definite length.
        [&[0xa3][..], list, port, port].concat(),
        [&[0xa3][..], list, list, port].concat(),
        [&[0xa2][..], list, port, &[0]].concat(),
        [&[0xbf][..], list, port, &[0xff]].concat(),
        // No address, one of three bytes, and 17 of them.
        [&[0xa2, 0, 0x80][..], port].concat(),
        [&[0xa2, 0, 0x82, 0x43, 1, 2, 3, 0x44, 10, 0, 0, 1][..], port].concat(),
        [&[0xa2, 0, 0x91][..], &[0x44, 10, 0, 0, 1].repeat(17), port].concat(),
        // 255.255.255.255, and port 0.
        [&[0xa2, 0, 0x82, 0x44, 10, 0, 0, 1, 0x44, 255, 255, 255, 255][..], port].concat(),
        [&[0xa2][..], list, &[1, 0]].concat(),
        // A throwaway key of low order.
        [&[0xa3][..], list, port, &[2, 0x58, 32], &[0; 32]].concat(),
    ];
    for body in bad {
        let packet = scene.sealed(&body, at(2));
        assert!(scene.is_silent(&packet, from(), at(3)), "{body:02x?}");
    }
    // Unknown keys are skipped.
    let more = [&[0xa3][..], list, port, &[0x18, 99, 0x61, b'x']].concat();
    let packet = scene.sealed(&more, at(2));
    assert_eq!(scene.feed(&packet, from(), at(3)), Outcome::Answer);
}

#[test]
fn nobody_has_more_answers_than_the_rate_allows() {
    for (admission, burst, rate) in [(Admission::Contact, 128, 32), (Admission::Unknown, 64, 16)] {
        let mut scene = Scene::new();
        scene.desk.0 = admission;
        let mut answers = |from_ms: u64, count: u64, step: u64| {
            let ask = |n: u64| {
                let now = at(from_ms + n * step);
                let probe = scene.probe(now);
                scene.feed(&probe, from(), now) == Outcome::Answer
            };
            (0..count).map(ask).filter(|answered| *answered).count()
        };
        assert_eq!(answers(0, burst + 20, 0), burst as usize);
        let later = answers(1, 200, 10);
        assert!((2 * rate - 2..=2 * rate + 1).contains(&later), "{later} in two seconds");
    }
}

#[test]
fn whatever_strangers_ask_a_contact_is_answered() {
    let mut scene = Scene::new();
    scene.desk.0 = Admission::Unknown;
    let mut answers = 0;
    // As many PROBEs as are answered, and each stamped far ahead.
    for n in 0..2200 {
        let now = at(n * 62);
        let ahead = Now { unix_ms: now.unix_ms + 298_000, ..now };
        let probe = scene.probe(ahead);
        answers += usize::from(scene.feed(&probe, from(), now) == Outcome::Answer);
    }
    assert_eq!(answers, 2200);
    scene.desk.0 = Admission::Contact;
    for skew in [-299_000i64, 0, 299_000] {
        let now = at(150_000);
        let unix_ms = now.unix_ms.saturating_add_signed(skew);
        let probe = scene.probe(Now { unix_ms, ..now });
        assert_eq!(scene.feed(&probe, from(), now), Outcome::Answer, "a clock off by {skew}");
        assert!(scene.is_silent(&probe, from(), now), "once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, changed or made up: no answer, no panic.
    #[test]
    fn no_garbage_is_answered(seed in any::<u64>(), flip in 0usize..PACKET_LEN, bit in 0u8..8,
                              garbage in prop::collection::vec(any::<u8>(), 0..1400)) {
        use anonchat::crypto::sodium::Random as _;
        let mut scene = Scene::new();
        let mut changed = scene.probe(at(0));
        changed[flip] ^= 1 << bit;
        prop_assert!(scene.is_silent(&changed, from(), at(1)));
        prop_assert!(scene.is_silent(&garbage, from(), at(1)));
        let mut random = [0; PACKET_LEN];
        SeededRandom::new(seed).fill(&mut random);
        prop_assert!(scene.is_silent(&random, from(), at(1)));
    }

    /// A body of a contact, whatever it says, is read or refused.
    #[test]
    fn no_body_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..998)) {
        let _ = (ProbeBody::decode(&bytes), HereBody::decode(&bytes));
    }

    /// What is written is read as it was.
    #[test]
    fn bodies_come_back(v4 in prop::collection::vec(1u32..0xe000_0000, 1..17), port in 1u16..,
                        ports in prop::collection::vec((any::<bool>(), 1u16..), 1..9)) {
        let addresses: Vec<IpAddr> =
            v4.iter().map(|bits| Ipv4Addr::from_bits(*bits).into()).collect();
        let probe = ProbeBody { addresses: addresses.clone(), port, introduce: None };
        prop_assert_eq!(ProbeBody::decode(probe.encode().as_bytes()), Some(probe));
        let carrier = |udp| if udp { Carrier::Udp } else { Carrier::Tcp };
        let endpoints: Vec<_> =
            ports.iter().map(|(udp, port)| Endpoint { carrier: carrier(*udp), port: *port }).collect();
        let here = HereBody { addresses, endpoints, instance: [3; 8], introduction: None };
        prop_assert!(HereBody::decode(here.encode().as_bytes()) == Some(here));
    }
}

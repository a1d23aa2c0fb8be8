//! Discovery by simulation, without a socket: a seeker, a link that delays and loses packets by a
//! seed, and announcers. Who is found, who never is, how soon, and at what price.
//!
//! `AC_TEST_DISCOVERY_SEEDS`: how many seeds each lossy test runs (5).
#![allow(clippy::print_stderr)]

use crate::testkit::{common::number, keys::Person};

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{PublicKey, Random, SeededRandom};
use anonchat::discover::announcer::{Announcer, Outcome, Presence};
use anonchat::discover::seeker::{Seeker, Sought, Status, To};
use anonchat::net::lan::links::{Address, Link};
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::packet::{LocalKey, MessageId, PACKET_LEN};
use anonchat::proto::datagram::presence::{Carrier, Endpoint, HereBody, ProbeBody};
use anonchat::proto::time::Now;

const START_MS: u64 = 1_800_000_000_000;
const SEEKER_PORT: u16 = 40_000;
const ANSWER_PORT: u16 = 50_000;

fn seeker_ip() -> IpAddr {
    Ipv4Addr::new(10, 1, 0, 1).into()
}

/// The addresses of announcer number `n`.
fn ip(n: usize) -> IpAddr {
    Ipv4Addr::new(10, 1, 1 + (n / 250) as u8, 1 + (n % 250) as u8).into()
}

fn link(ips: &[IpAddr]) -> Link {
    let address = |ip: &IpAddr| Address { ip: *ip, prefix: 16, broadcast: None };
    Link { name: "sim".into(), index: 1, addresses: ips.iter().map(address).collect() }
}

/// One announcer, and what it decides with.
struct Host {
    announcer: Announcer,
    desk: Desk,
    /// The address that packets go to.
    ip: IpAddr,
    sent: usize,
    received: usize,
}

struct Desk {
    heard: Vec<PublicKey>,
    claims: Vec<IpAddr>,
    instance: [u8; 8],
}

impl Presence for Desk {
    fn admit(&mut self, sender: &PublicKey, _local: usize) -> Admission {
        if self.heard.contains(sender) { Admission::Contact } else { Admission::TurnAway }
    }

    fn here(
        &mut self,
        _probe: &ProbeBody,
        _id: MessageId,
        _local: usize,
        _link: u32,
    ) -> Option<HereBody> {
        let endpoints = vec![Endpoint { carrier: Carrier::Tcp, port: 1234 }];
        let (addresses, instance) = (self.claims.clone(), self.instance);
        Some(HereBody { addresses, endpoints, instance, introduction: None })
    }
}

/// The link, with what is under way on it.
struct Lan {
    seeker: Seeker,
    hosts: Vec<Host>,
    rng: SeededRandom,
    now: Duration,
    lost: u32,
    under_way: BTreeMap<(Duration, u64), Packet>,
    count: u64,
    /// Packets that the seeker sent to everybody, and to one.
    asked: (usize, usize),
    found_at: BTreeMap<usize, Duration>,
}

struct Packet {
    from: SocketAddr,
    /// `None` is the seeker.
    to: Option<usize>,
    bytes: Box<[u8; PACKET_LEN]>,
}

impl Lan {
    fn new(me: &Person, sought: Vec<Sought>, watch: bool, lost: u32, seed: u64) -> Self {
        let mut rng = SeededRandom::new(seed);
        let now = Now { mono: Duration::ZERO, unix_ms: START_MS };
        let me = me.pair.duplicate();
        let mut seeker = Seeker::new(me, sought, SEEKER_PORT, watch, now, &mut rng);
        seeker.set_links(vec![link(&[seeker_ip()])], now);
        Self {
            seeker,
            hosts: Vec::new(),
            rng,
            now: Duration::ZERO,
            lost,
            under_way: BTreeMap::new(),
            count: 0,
            asked: (0, 0),
            found_at: BTreeMap::new(),
        }
    }

    /// A machine that answers for `person` to `heard`, and claims to have `claims`.
    fn add(&mut self, person: &Person, heard: &[&Person], claims: Vec<IpAddr>) {
        let n = self.hosts.len();
        let local = LocalKey::new(person.pair.duplicate(), &person.access);
        let heard = heard.iter().map(|p| *p.pair.public()).collect();
        let instance = [n as u8; 8];
        let desk = Desk { heard, claims, instance };
        let announcer = Announcer::new(vec![local]);
        self.hosts.push(Host { announcer, desk, ip: ip(n), sent: 0, received: 0 });
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, unix_ms: START_MS + self.now.as_millis() as u64 }
    }

    fn post(&mut self, from: SocketAddr, to: Option<usize>, bytes: &[u8; PACKET_LEN]) {
        let mut dice = [0; 8];
        self.rng.fill(&mut dice);
        let dice = u64::from_be_bytes(dice);
        if dice % 100 < self.lost.into() {
            return;
        }
        self.count += 1;
        let delay = Duration::from_micros(200 + (dice >> 32) % 3000);
        let bytes = Box::new(*bytes);
        self.under_way.insert((self.now + delay, self.count), Packet { from, to, bytes });
    }

    /// Runs until `end`, from event to event.
    fn run(&mut self, end: Duration) {
        let mut timer = self.seeker.next_timeout(self.clock());
        loop {
            let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = arrival.into_iter().chain(timer).min().filter(|at| *at <= end) else {
                break;
            };
            assert!(next >= self.now || timer == Some(next), "time runs backwards");
            self.now = self.now.max(next);
            let mut polled = timer.is_some_and(|at| at <= self.now);
            while let Some(first) = self.under_way.first_entry().filter(|e| e.key().0 <= self.now) {
                let packet = first.remove();
                polled |= packet.to.is_none();
                self.arrive(packet);
            }
            if polled {
                self.poll();
                timer = self.seeker.next_timeout(self.clock());
            }
        }
        self.now = end;
    }

    fn poll(&mut self) {
        let now = self.clock();
        let mut out = Vec::new();
        self.seeker.poll(now, &mut self.rng, &mut |to, packet| out.push((to, *packet)));
        let from = SocketAddr::new(seeker_ip(), SEEKER_PORT);
        for (to, packet) in out {
            match to {
                To::Everybody => {
                    self.asked.0 += 1;
                    // As on a real link: by multicast and by broadcast.
                    for n in 0..self.hosts.len() {
                        self.post(from, Some(n), &packet);
                        self.post(from, Some(n), &packet);
                    }
                }
                To::One(address) => {
                    self.asked.1 += 1;
                    assert_eq!(address.port(), ANSWER_PORT);
                    if let Some(n) = self.hosts.iter().position(|h| h.ip == address.ip()) {
                        self.post(from, Some(n), &packet);
                    }
                }
            }
        }
        for (id, entry) in self.seeker.take_changes() {
            if entry.status == Status::Online {
                self.found_at.entry(id.sought).or_insert(self.now);
            }
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let now = self.clock();
        let Some(n) = packet.to else {
            self.seeker.feed(&packet.bytes[..], packet.from, 1, now, &mut self.rng);
            return;
        };
        let Some(host) = self.hosts.get_mut(n) else { return };
        host.received += 1;
        let mut answer = [0; PACKET_LEN];
        let Host { announcer, desk, .. } = host;
        let rng = &mut self.rng;
        let outcome =
            announcer.feed(&packet.bytes[..], packet.from, 1, now, desk, rng, &mut answer);
        if outcome == Outcome::Answer {
            host.sent += 1;
            let from = SocketAddr::new(host.ip, ANSWER_PORT);
            self.post(from, None, &answer);
        }
    }

    fn is_online(&self, sought: usize) -> bool {
        self.seeker.roster().iter().any(|(id, e)| id.sought == sought && e.status == Status::Online)
    }
}

fn seeds() -> u64 {
    number("AC_TEST_DISCOVERY_SEEDS", 5)
}

fn people(count: usize) -> Vec<Person> {
    (0..count).map(|_| Person::new()).collect()
}

#[test]
fn contacts_are_found_and_those_who_do_not_know_us_never() {
    let (me, them) = (Person::new(), people(5));
    let mut lan = Lan::new(&me, them.iter().map(Person::sought).collect(), false, 0, 1);
    for (n, person) in them.iter().enumerate() {
        let heard = if n < 3 { vec![&me] } else { vec![] };
        lan.add(person, &heard, vec![ip(n)]);
    }
    lan.run(Duration::from_secs(2));
    assert_eq!(lan.found_at.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(lan.found_at.values().all(|at| *at < Duration::from_millis(100)), "{:?}", lan.found_at);
    assert_eq!((lan.hosts[3].sent, lan.hosts[4].sent), (0, 0));
    assert!(lan.hosts.iter().all(|host| host.sent <= host.received));
    for (id, entry) in lan.seeker.roster().iter() {
        assert_eq!(entry.address, SocketAddr::new(ip(id.sought), ANSWER_PORT));
        assert_eq!(entry.endpoints, [Endpoint { carrier: Carrier::Tcp, port: 1234 }]);
    }
}

#[test]
fn three_in_ten_packets_lost_all_are_found_within_two_seconds() {
    for seed in 0..seeds() {
        let (me, them) = (Person::new(), people(3));
        let mut lan = Lan::new(&me, them.iter().map(Person::sought).collect(), false, 30, seed);
        for (n, person) in them.iter().enumerate() {
            lan.add(person, &[&me], vec![ip(n)]);
        }
        lan.run(Duration::from_secs(2));
        assert_eq!(lan.found_at.len(), 3, "seed {seed}: {:?}", lan.found_at);
    }
}

#[test]
fn two_hundred_contacts_are_found_within_two_seconds_at_a_bounded_price() {
    let (me, them) = (Person::new(), people(200));
    let mut lan = Lan::new(&me, them.iter().map(Person::sought).collect(), false, 0, 7);
    for (n, person) in them.iter().enumerate() {
        lan.add(person, &[&me], vec![ip(n)]);
    }
    let began = Instant::now();
    lan.run(Duration::from_secs(2));
    let worked = began.elapsed();
    assert_eq!(lan.found_at.len(), 200);
    let slowest = lan.found_at.values().max().unwrap();
    let answers: usize = lan.hosts.iter().map(|host| host.sent).sum();
    // 256 a sweep, dummies included, two sweeps; each address is checked once.
    assert_eq!(lan.asked, (512, 200));
    assert!(lan.hosts.iter().all(|host| host.sent <= 3 && host.sent <= host.received));
    eprintln!(
        "200 contacts: found within {slowest:?}; {} packets to everybody, {} to one, {answers} \
         answers; {worked:?} of one core for the seeker and 200 announcers",
        lan.asked.0, lan.asked.1
    );
}

#[test]
fn an_address_is_listed_only_if_a_round_trip_checked_it() {
    let (me, bob) = (Person::new(), Person::new());
    let mut lan = Lan::new(&me, vec![bob.sought()], false, 0, 3);
    // It claims the address of another machine, one where nobody is, one elsewhere, and its own.
    let nobody = Ipv4Addr::new(10, 1, 9, 9).into();
    let elsewhere = Ipv4Addr::new(192, 0, 2, 1).into();
    lan.add(&bob, &[&me], vec![ip(1), nobody, elsewhere, ip(0)]);
    lan.add(&Person::new(), &[&me], vec![ip(1)]);
    lan.run(Duration::from_secs(2));
    let found: Vec<_> = lan.seeker.roster().iter().map(|(_, entry)| entry.address.ip()).collect();
    assert_eq!(found, [ip(0)]);
    // Claims cost tries, and a bounded number of them; nothing leaves the link.
    assert!(lan.asked.1 <= 60, "{:?}", lan.asked);
}

#[test]
fn a_recorded_answer_from_another_address_is_not_believed() {
    let (me, bob) = (Person::new(), Person::new());
    let mut lan = Lan::new(&me, vec![bob.sought()], false, 0, 3);
    // Bob claims where the thief is; whatever he answers comes from there.
    lan.add(&bob, &[&me], vec![ip(7)]);
    lan.run(Duration::from_millis(50));
    let stolen: Vec<_> = lan.under_way.values().map(|p| p.bytes.clone()).collect();
    for bytes in stolen {
        lan.post(SocketAddr::new(ip(7), ANSWER_PORT), None, &bytes);
    }
    lan.run(Duration::from_secs(2));
    assert_eq!(lan.seeker.roster().iter().count(), 0);
}

#[test]
fn who_falls_silent_is_away_after_ten_seconds_and_comes_back() {
    let (me, bob) = (Person::new(), Person::new());
    let mut lan = Lan::new(&me, vec![bob.sought()], true, 0, 5);
    lan.add(&bob, &[&me], vec![ip(0)]);
    lan.run(Duration::from_secs(20));
    assert!(lan.is_online(0));
    let gone = lan.hosts.pop().unwrap();
    // The last answer came up to three seconds earlier.
    lan.run(Duration::from_secs(26));
    assert!(lan.is_online(0), "ten seconds are not over");
    lan.run(Duration::from_secs(31));
    assert!(!lan.is_online(0) && lan.seeker.roster().iter().count() == 1, "away");
    lan.hosts.push(gone);
    lan.run(Duration::from_secs(34));
    assert!(lan.is_online(0), "back");
    lan.hosts.clear();
    lan.run(Duration::from_secs(34 + 15 * 60 + 5));
    assert_eq!(lan.seeker.roster().iter().count(), 0, "forgotten");
}

#[test]
fn who_moves_to_another_address_is_listed_there() {
    let (me, bob) = (Person::new(), Person::new());
    let mut lan = Lan::new(&me, vec![bob.sought()], true, 0, 5);
    lan.add(&bob, &[&me], vec![ip(0)]);
    lan.run(Duration::from_secs(5));
    lan.hosts[0].ip = ip(42);
    lan.hosts[0].desk.claims = vec![ip(42)];
    lan.run(Duration::from_secs(15));
    let found: Vec<_> = lan.seeker.roster().iter().map(|(_, entry)| entry.address.ip()).collect();
    assert_eq!(found, [ip(42)]);
    assert!(lan.is_online(0));
}

#[test]
fn watching_two_hundred_for_an_hour_costs_a_bounded_number_of_packets() {
    let (me, them) = (Person::new(), people(200));
    let mut lan = Lan::new(&me, them.iter().map(Person::sought).collect(), true, 0, 9);
    // Twenty of them are there.
    for (n, person) in them.iter().take(20).enumerate() {
        lan.add(person, &[&me], vec![ip(n)]);
    }
    lan.run(Duration::from_secs(10));
    let before = lan.asked;
    lan.run(Duration::from_secs(70));
    let (everybody, one) = (lan.asked.0 - before.0, lan.asked.1 - before.1);
    // 256 in 15.4 s; each address in use once in 3 s.
    assert!(everybody <= 5 * 256, "{everybody}");
    assert!(one <= 20 * 21, "{one}");
    assert!((0..20).all(|n| lan.is_online(n)));
}

//! Whoever floods a listener or a relay keeps out nobody else: not by connections, not by handshakes
//! that lead nowhere. And a crowd is no flood: all of it is served.
//!
//! AC_TEST_RATE: connections a second (full: 5000). AC_TEST_SECONDS: for how long of each kind (full:
//! 60). AC_TEST_ADDRESSES: from how many addresses (full: 10000). AC_TEST_HANDSHAKES: handshakes a second of a
//! holder of the public key file (full: 2000), AC_TEST_HANDSHAKE_SECONDS: for how long (full: 660).
//! AC_TEST_SENDERS: how many come at once (full: 2000). They need 20,000 descriptors.
#![allow(clippy::print_stderr)]

use crate::testkit::{
    caller, common,
    measure::{alone, resident},
    relay_client, relay_people,
};

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, random_into};
use anonchat::keys::{Contact, Keyring};
use anonchat::proto::stream::handshake::{HELLO_LEN, Initiator};
use caller::Caller;
use common::*;
use relay_client::Relay;
use socket2::{Domain, Socket, Type};

/// A friend is served within so much time.
const SOON: Duration = Duration::from_secs(1);
/// How often a friend comes.
const OFTEN: Duration = Duration::from_millis(200);
/// Connections that a flood holds.
const HELD: usize = 6000;

/// What the connections of a flood do.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Idle,
    Half,
    Garbage,
    /// More than opens a handshake.
    Much,
    Close,
}

const KINDS: [Kind; 5] = [Kind::Idle, Kind::Half, Kind::Garbage, Kind::Much, Kind::Close];

impl Kind {
    fn words(self) -> Vec<u8> {
        let len = match self {
            Self::Idle | Self::Close => 0,
            Self::Half => HELLO_LEN / 2,
            Self::Garbage => HELLO_LEN,
            Self::Much => 3 * HELLO_LEN,
        };
        let mut words = vec![0; len];
        random_into(&mut words);
        words
    }
}

/// One connection, which need not be there yet; what it says goes with its first packets.
fn open(from: Ipv4Addr, port: u16) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    // Closed by a reset it leaves no port behind that waits for a minute.
    socket.set_linger(Some(Duration::ZERO)).ok()?;
    socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
    socket.set_nonblocking(true).ok()?;
    let _ = socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
    Some(socket)
}

/// Does `one` at `rate` a second until `over`; how often it did.
fn pace(rate: usize, over: &AtomicBool, mut one: impl FnMut(usize)) -> usize {
    let (began, mut done) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as usize;
        (done..due).for_each(&mut one);
        done = due.max(done);
        thread::sleep(Duration::from_millis(1));
    }
    done
}

fn flood(kind: Kind, from: &[Ipv4Addr], port: u16, over: &AtomicBool) -> usize {
    let mut held = VecDeque::new();
    let words = kind.words();
    let rate = number("AC_TEST_RATE", 500);
    pace(rate, over, |n| {
        let Some(socket) = open(from[n % from.len()], port) else { return };
        let mut stream = TcpStream::from(socket);
        let _ = stream.write_all(&words);
        match kind {
            Kind::Close => {}
            _ => held.push_back(stream),
        }
        if held.len() > HELD {
            held.pop_front();
        }
    })
}

/// While a flood of each kind comes `from` there, `friend` comes again and again.
fn friends_are_served(from: &[Ipv4Addr], port: u16, mut friend: impl FnMut()) {
    let time = Duration::from_millis(number("AC_TEST_SECONDS", 0).max(1) as u64 * 1000);
    for kind in KINDS {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let flood = scope.spawn(|| flood(kind, from, port, &over));
            let (began, mut slowest, mut times) = (Instant::now(), Duration::ZERO, 0);
            while began.elapsed() < time {
                let called = Instant::now();
                friend();
                slowest = slowest.max(called.elapsed());
                times += 1;
                thread::sleep(OFTEN.saturating_sub(called.elapsed()));
            }
            let took = began.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            let connections = flood.join().unwrap() as f64 / took;
            eprintln!("{kind:?}: {connections:.0}/s, {times} friends, the slowest {slowest:?}");
            assert!(slowest < SOON, "{kind:?}: {slowest:?}");
        });
    }
}

/// One address, which is below or above the friend's; or many on both sides of it.
fn attackers() -> [Vec<Ipv4Addr>; 3] {
    let many = number("AC_TEST_ADDRESSES", 300) as u32;
    let many = (0..many).map(|n| Ipv4Addr::from_bits(0x7f01_0001 + n * 251));
    [vec![Ipv4Addr::new(127, 0, 0, 2)], vec![Ipv4Addr::new(127, 250, 0, 2)], many.collect()]
}

const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

fn at_a_listener(from: &[Ipv4Addr]) {
    let _alone = alone();
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let port = listener.port();
    friends_are_served(from, port, || drop(Caller::call_from(FRIEND, &alice, &bob, port)));
}

fn at_a_relay(from: &[Ipv4Addr]) {
    let _alone = alone();
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    friends_are_served(from, relay.port, || drop(relay.client_from(FRIEND)));
}

#[test]
fn a_flood_of_connections_from_a_lower_address_keeps_no_friend_from_a_listener() {
    at_a_listener(&attackers()[0]);
}

#[test]
fn a_flood_of_connections_from_a_higher_address_keeps_no_friend_from_a_listener() {
    at_a_listener(&attackers()[1]);
}

#[test]
fn a_flood_of_connections_from_many_addresses_keeps_no_friend_from_a_listener() {
    at_a_listener(&attackers()[2]);
}

#[test]
fn a_flood_of_connections_from_a_lower_address_keeps_no_friend_from_a_relay() {
    at_a_relay(&attackers()[0]);
}

#[test]
fn a_flood_of_connections_from_a_higher_address_keeps_no_friend_from_a_relay() {
    at_a_relay(&attackers()[1]);
}

#[test]
fn a_flood_of_connections_from_many_addresses_keeps_no_friend_from_a_relay() {
    at_a_relay(&attackers()[2]);
}

/// Message 1 after message 1 as a holder of `contact` makes it, from a thousand addresses, stamped
/// nearly five minutes ahead; nothing is said after it.
fn handshakes(contact: &Contact, port: u16, over: &AtomicBool, made: &AtomicU64) {
    let me = KeyPair::generate();
    let mut held = VecDeque::new();
    pace(number("AC_TEST_HANDSHAKES", 200) / 2, over, |n| {
        let from = Ipv4Addr::from_bits(0x7f02_0001 + (n % 1000) as u32);
        let stamp = unix_ms() + 298_000 - (n as u64 % 2) * 590_000;
        let started = Initiator::start(&me, &contact.public, contact.access.as_bytes(), stamp);
        let Some(socket) = open(from, port) else { return };
        let mut stream = TcpStream::from(socket);
        let _ = stream.write_all(&started.unwrap().1);
        made.fetch_add(1, Ordering::Relaxed);
        held.push_back(stream);
        if held.len() > 1500 {
            held.pop_front();
        }
    });
}

/// `friend` comes again and again meanwhile.
fn is_served_beside_handshakes(contact: &Contact, port: u16, mut friend: impl FnMut()) {
    let time = Duration::from_secs(number("AC_TEST_HANDSHAKE_SECONDS", 2) as u64);
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| handshakes(contact, port, &over, &made));
        }
        let (began, mut slowest, mut times) = (Instant::now(), Duration::ZERO, 0);
        while began.elapsed() < time {
            let called = Instant::now();
            friend();
            slowest = slowest.max(called.elapsed());
            times += 1;
            thread::sleep(2 * OFTEN);
        }
        over.store(true, Ordering::Relaxed);
        let rate = made.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        eprintln!("{rate:.0} handshakes/s, {times} friends, the slowest {slowest:?}");
        assert!(slowest < 2 * SOON, "{slowest:?}");
    });
}

#[test]
fn handshakes_of_a_holder_of_the_public_key_file_keep_no_contact_from_a_listener() {
    let _alone = alone();
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let contact = Keyring::at(bob.path()).identity_contact().unwrap();
    is_served_beside_handshakes(&contact, listener.port(), || {
        assert_code(&send(&alice, &[&listener.destination("bob")], b"hi\n"), 0);
    });
    eprintln!("the listener has {} MB", resident(&listener) / 1_000_000);
}

#[test]
fn handshakes_of_a_holder_of_the_public_key_file_keep_no_client_from_a_relay() {
    let _alone = alone();
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    is_served_beside_handshakes(&relay.contact, relay.port, || drop(relay.client_from(FRIEND)));
    eprintln!("the relay has {} MB", resident(&relay) / 1_000_000);
}

/// All of them at once.
fn all_arrive(count: usize, sender: impl Fn() -> Command) {
    let start = |_| {
        let mut sender = Running::start(sender());
        sender.feed(b"x".to_vec());
        sender
    };
    let mut senders: Vec<_> = (0..count).map(start).collect();
    for sender in &mut senders {
        let status = sender.wait_exit(Duration::from_secs(120));
        assert_eq!(status.code(), Some(0), "{}", sender.stderr());
    }
}

#[test]
fn a_crowd_at_a_listener_with_few_descriptors_waits_and_arrives() {
    let _alone = alone();
    let (alice, bob) = alice_and_bob();
    for count in [16, 24, 64] {
        let listener =
            Listener::start(bob.command_with_descriptors(count, "ac-listen", &["127.0.0.1:0"]));
        let to = listener.destination("bob");
        all_arrive(30, || alice.command("ac-send", &[&to]));
        listener.wait_stdout("all", |out| out.len() == 30);
    }
}

#[test]
fn a_crowd_from_one_address_by_a_relay_arrives() {
    let _alone = alone();
    let count = number("AC_TEST_SENDERS", 40);
    let (alice, bob) = alice_and_bob();
    let relay = relay_people::relay();
    let name = relay_people::name_of(&relay, &alice);
    all_arrive(count, || alice.command("ac-send", &["--queue", "--via", &name, "bob"]));
    let listener = relay_people::listen(&bob, &relay, &[]);
    listener.wait_stdout("all", |out| out.len() == count);
}

#[test]
fn programs_with_few_descriptors_serve_or_say_that_they_cannot() {
    let (_alice, _bob) = alice_and_bob();
    for count in [6, 8, 9, 10, 12, 13, 14, 15, 16, 20, 32, 64] {
        for name in ["ac-listen", "ac-relay"] {
            let home = if name == "ac-relay" { Home::new() } else { Home::with_identity() };
            let command = home.command_with_descriptors(count, name, &["127.0.0.1:0"]);
            let mut running = Running::start(command);
            let ready = eventually("a word", DEADLINE, || {
                let said = running.stderr();
                let ready = said.contains("listening on ");
                (ready || running.poll_exit().is_some()).then_some(ready)
            });
            let said = running.stderr();
            if !ready {
                let code = running.wait_exit(DEADLINE).code();
                assert_eq!(code, Some(1), "{name} with {count}: {said}");
                assert!(said.contains("descriptors"), "{name} with {count}: {said}");
                assert!(count < 16, "{name} with {count}: {said}");
            } else if name == "ac-relay" {
                let port = port_in_ready_line(&said).unwrap_or_else(|| panic!("{count}: {said}"));
                let contact = relay_client::public_key_file(&running.stdout());
                drop(relay_client::Client::call(&contact, port));
            }
        }
    }
}

#[test]
fn a_relay_that_could_hold_nothing_says_so_and_one_with_very_little_serves() {
    let (alice, _bob) = alice_and_bob();
    for memory in ["0", "1", "1000", "63k"] {
        let relay = Relay::spawn(&["--memory", memory, "127.0.0.1:0"]);
        assert!(relay.stderr().contains("too little for any message"), "{}", relay.stderr());
    }
    for args in [
        &["--memory", "64k"][..],
        &["--memory", "9999999999G"],
        &["--mailbox-cells", "1"],
        &["--mailbox-cells", "4294967295"],
        &["--max-clients", "1"],
    ] {
        let relay = Relay::spawn(&[args, &["127.0.0.1:0"]].concat());
        let name = relay_people::name_of(&relay, &alice);
        let sent = send(&alice, &["--queue", "-w", "1s", "--via", &name, "bob"], b"hi\n");
        assert_code(&sent, 0);
    }
}

#[test]
fn hundreds_of_sockets_of_one_kind_all_hear() {
    let _alone = alone();
    let (alice, bob) = alice_and_bob();
    for kind in [&["-u"][..], &[]] {
        let mut args = kind.to_vec();
        args.extend(["127.0.0.1:0"; 600]);
        let listener = Listener::spawn(&bob, &args);
        listener.wait_stderr("fingerprint");
        let said = listener.stderr();
        let ports: Vec<_> = said.lines().filter_map(port_in_ready_line).collect();
        assert_eq!(ports.len(), 600);
        for nth in [0, 254, 255, 256, 257, 509, 510, 511, 512, 599] {
            let to = format!("bob@127.0.0.1:{}", ports[nth]);
            let args: Vec<_> = kind.iter().copied().chain([&to[..]]).collect();
            assert_code(&send(&alice, &args, b"hi\n"), 0);
        }
    }
}

#[test]
fn a_relay_hears_at_hundreds_of_addresses_and_tells_its_counts_at_as_many() {
    let mut args = vec!["127.0.0.1:0"; 520];
    (0..520).for_each(|_| args.extend(["--metrics", "127.0.0.1:0"]));
    let relay = Relay::spawn(&args);
    let said = eventually("all of them", DEADLINE, || {
        let said = relay.stderr();
        (said.lines().filter(|line| line.contains("127.0.0.1:")).count() == 1040).then_some(said)
    });
    let port = |line: &str| {
        let digits = line.split("127.0.0.1:").nth(1)?.split(|c: char| !c.is_ascii_digit()).next();
        digits?.parse::<u16>().ok()
    };
    let (metrics, ears): (Vec<_>, Vec<_>) =
        said.lines().filter(|line| port(line).is_some()).partition(|l| !l.contains("listening"));
    for nth in [0, 510, 511, 512, 519] {
        drop(relay_client::Client::call(&relay.contact, port(ears[nth]).unwrap()));
        let mut asking = TcpStream::connect(("127.0.0.1", port(metrics[nth]).unwrap())).unwrap();
        asking.set_read_timeout(Some(DEADLINE)).unwrap();
        asking.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut told = String::new();
        std::io::Read::read_to_string(&mut asking, &mut told).unwrap();
        assert!(told.contains("200 OK"), "{told}");
    }
}

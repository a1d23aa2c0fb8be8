//! Whatever a client does who was let in, the others are served, and memory stays within bounds.
//! PROTOCOL.md, 5. AC_TEST_CLIENTS says how many flood at once (full: 10000).
#![allow(clippy::unwrap_used)]

mod common;
mod relay_client;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, random, random_into};
use anonchat::proto::datagram::packet::PACKET_LEN;
use anonchat::proto::relay::cell::{Address, CELL_LEN, Cell, Command, ErrorCode, WIRE_LEN};
use anonchat::proto::relay::mailbox::Channel;
use common::{DEADLINE, Home, Running, assert_code, befriend, eventually, send};
use relay_client::{Client, Relay, address, number_of, packet};

fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Memory that a program has resident now, in bytes.
fn resident(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

fn some_mailbox() -> Address {
    address(&Channel::open(&random()), KeyPair::generate().public(), 0)
}

#[test]
fn a_wrong_proof_ends_the_link() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let (address, proof) = relay.client().proof(&channel, &key, 0);
    let subscribe = |address, proof: &[u8]| {
        let mut client = relay.client();
        client.say(&Cell { address, body: proof, ..Cell::new(Command::Subscribe) });
        client.is_closed();
    };
    // That of another link, and no proof at all.
    subscribe(address, &proof);
    subscribe(address, &[0; 16]);
    let mut client = relay.client();
    let (_, own) = client.proof(&channel, &key, 0);
    // The right one for another mailbox.
    let (other, _) = client.proof(&channel, &key, 1);
    client.say(&Cell { address: other, body: &own, ..Cell::new(Command::Subscribe) });
    client.is_closed();
    relay.still_serves();
}

#[test]
fn what_breaks_a_rule_ends_the_link() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let body = &[0; PACKET_LEN];
    let mut high = [0xff; 32];
    high[31] = 0x7f;
    let mailbox = some_mailbox();
    let broken = [
        Cell::post(1, [0; 32], body),
        Cell::post(1, high, body),
        Cell::post(1, high, body).volatile(),
        Cell { address: [0; 32], body: &[0; 16], ..Cell::new(Command::Subscribe) },
        Cell { address: mailbox, body, ..Cell::new(Command::Cell) },
        Cell { address: mailbox, body: &[1], ..Cell::new(Command::Error) },
        Cell::new(Command::Joined),
        Cell { address: mailbox, ..Cell::new(Command::Live) },
        Cell { id: 1, ..Cell::new(Command::Noop) },
        Cell { flags: 2, ..Cell::post(1, mailbox, body) },
        Cell { body: &[1; 31], ..Cell::new(Command::Connect) },
    ];
    for cell in broken {
        let mut client = relay.client();
        client.say(&cell);
        client.is_closed();
    }
    relay.still_serves();
}

#[test]
fn garbage_inside_a_good_link_ends_it_and_no_other() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    for len in [WIRE_LEN, WIRE_LEN * 3, WIRE_LEN + 1] {
        let mut client = relay.client();
        let mut garbage = vec![0; len];
        random_into(&mut garbage);
        let _ = client.socket.write_all(&garbage);
        client.is_closed();
    }
    // The right length, and nothing that opens.
    let mut client = relay.client();
    let mut record = vec![0x55; WIRE_LEN];
    record[..2].copy_from_slice(&((CELL_LEN + 16) as u16).to_be_bytes());
    client.socket.write_all(&record).unwrap();
    client.is_closed();
    relay.still_serves();
}

#[test]
fn half_a_cell_and_a_client_that_vanishes_cost_nobody_anything() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let halves: Vec<_> = (0..50)
        .map(|_| {
            let mut client = relay.client();
            client.queue(&Cell::post(1, some_mailbox(), &packet(1)));
            let sealed = client.link.pending().to_vec();
            client.socket.write_all(&sealed[..WIRE_LEN / 2]).unwrap();
            client
        })
        .collect();
    relay.still_serves();
    drop(halves);
    relay.still_serves();
}

#[test]
fn whoever_subscribes_without_end_finds_the_relay_full_and_nobody_else_is_hurt() {
    let relay = Relay::spawn(&["--memory", "1M", "127.0.0.1:0"]);
    let (key, mut flooder) = (KeyPair::generate(), relay.client());
    let (mut live, mut full) = (0, 0);
    for nth in 0..3000_u64 {
        flooder.subscribe(&Channel::open(&[7; 32]), &key, nth, [0; 8], 0);
        let answer = flooder.next_cell();
        match answer.command {
            Command::Live => live += 1,
            _ => {
                assert_eq!(answer.body, [ErrorCode::RelayFull as u8], "{answer:?}");
                full += 1;
            }
        }
    }
    assert!(live > 100 && full > 100, "{live} {full}");
    let mut other = relay.client();
    other.post(1, some_mailbox(), &packet(1));
    assert_eq!(other.next_cell().body, [ErrorCode::RelayFull as u8]);
    drop(flooder);
    eventually("room that came free", DEADLINE, || {
        other.post(2, some_mailbox(), &packet(1));
        (other.next_cell().command == Command::Ack).then_some(())
    });
    relay.still_serves();
}

#[test]
fn whoever_fills_the_memory_is_refused_and_it_stays_within_its_bound() {
    let relay = Relay::spawn(&["--memory", "8M", "127.0.0.1:0"]);
    let before = resident(&relay);
    let mut flooder = relay.client();
    let (mut taken, mut full) = (0, 0);
    for nth in 0..100_u64 {
        for _ in 0..100 {
            flooder.queue(&Cell::post(nth, some_mailbox(), &packet(1)));
        }
        flooder.flush();
        for _ in 0..100 {
            match flooder.next_cell().command {
                Command::Ack => taken += 1,
                _ => full += 1,
            }
        }
    }
    assert!(taken > 3000 && full > 1000, "{taken} {full}");
    let grown = resident(&relay) - before;
    assert!(grown < 16 << 20, "{grown} bytes more");
}

/// Readers of one mailbox that take nothing of what they asked for.
fn slow_readers(relay: &Relay, channel: &Channel, key: &KeyPair, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let mut client = relay.client();
            client.subscribe(channel, key, 0, [0; 8], 0);
            assert_eq!(client.next_cell().command, Command::Live);
            client
        })
        .collect()
}

#[test]
fn readers_that_do_not_read_hold_up_nobody() {
    let count = size("AC_TEST_CLIENTS", 20).min(2000);
    let relay = Relay::spawn(&["--mailbox-cells", "20000", "127.0.0.1:0"]);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let slow = slow_readers(&relay, &channel, &key, count);
    let mut quick = slow_readers(&relay, &channel, &key, 1).remove(0);
    let mailbox = address(&channel, key.public(), 0);
    let before = resident(&relay);
    let poster = thread::spawn({
        let mut poster = relay.client();
        move || {
            for round in 0..100 {
                (0..100)
                    .for_each(|n| poster.queue(&Cell::post(n, mailbox, &packet(round * 100 + n))));
                poster.flush();
                (0..100).for_each(|_| assert_eq!(poster.next_cell().command, Command::Ack));
            }
        }
    });
    for number in 0..10_000 {
        assert_eq!(number_of(&quick.next_cell().body), number);
    }
    poster.join().unwrap();
    relay.still_serves();
    // What is held is there once; a slow reader has one turn's worth of its own at most, and much
    // less when they are many.
    let grown = resident(&relay) - before;
    let count = count as u64;
    let most = 10_000 * 1300 + (count * 64 * 1024).min((64 << 20) + count * 8 * 1024) + (8 << 20);
    assert!(grown < most, "{grown} bytes more for {count} readers");
    drop(slow);
}

#[test]
fn a_poster_that_reads_no_answer_is_not_read_either() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let mut poster = relay.client();
    let mailbox = some_mailbox();
    let before = resident(&relay);
    let said = thread::spawn(move || {
        poster.socket.set_write_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        for _ in 0..100_000 {
            (0..100).for_each(|n| poster.queue(&Cell::post(n, mailbox, &packet(n))));
            if !poster.flush() {
                return true;
            }
        }
        false
    });
    relay.still_serves();
    assert!(said.join().unwrap(), "it was read without end");
    assert!(resident(&relay) - before < 16 << 20);
    relay.still_serves();
}

#[test]
fn a_flood_from_one_address_leaves_others_their_turns() {
    let count = size("AC_TEST_CLIENTS", 50);
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let flooders: Vec<_> = (0..count)
        .map(|_| {
            let mut client = relay.client_from(Ipv4Addr::new(127, 0, 0, 2));
            // Sealed before anybody is served, so that the flood is the relay's work and not ours.
            let (key, mailbox) = (KeyPair::generate(), some_mailbox());
            let rounds = (20_000 / count).clamp(1, 100);
            for nth in 0..rounds as u64 {
                let (address, proof) = client.proof(&Channel::open(&[7; 32]), &key, nth);
                client.queue(&Cell { address, body: &proof, ..Cell::new(Command::Subscribe) });
                client.queue(&Cell::post(nth, mailbox, &packet(nth)));
            }
            client
        })
        .collect();
    let sockets: Vec<TcpStream> =
        flooders.iter().map(|client| client.socket.try_clone().unwrap()).collect();
    let writer = thread::spawn(move || {
        let mut flooders = flooders;
        for client in &mut flooders {
            client.socket.set_nonblocking(true).unwrap();
            let _ = client.socket.write(client.link.pending());
        }
        flooders
    });
    let (key, channel) = (KeyPair::generate(), Channel::open(&[8; 32]));
    let mut reader = relay.client();
    let mailbox = reader.subscribe(&channel, &key, 0, [0; 8], 0);
    assert_eq!(reader.next_cell().command, Command::Live);
    let mut poster = relay.client();
    for number in 0..200 {
        poster.post(number, mailbox, &packet(number));
        assert_eq!(number_of(&reader.next_cell().body), number);
        assert_eq!(poster.next_cell().command, Command::Ack);
    }
    drop((sockets, writer.join().unwrap()));
    relay.still_serves();
}

#[test]
fn a_client_over_its_rate_waits_and_loses_nothing() {
    let relay = Relay::spawn(&["--rate", "100/s", "127.0.0.1:0"]);
    let mut poster = relay.client();
    let mailbox = some_mailbox();
    let began = std::time::Instant::now();
    for number in 0..250 {
        poster.queue(&Cell::post(number, mailbox, &packet(number)));
    }
    poster.flush();
    relay.still_serves();
    for number in 0..250 {
        assert_eq!(poster.next_cell().id, number);
    }
    // A hundred at once, and the others as they become due.
    assert!(began.elapsed() >= std::time::Duration::from_millis(1000));
}

#[test]
fn more_clients_than_that_wait_to_be_let_in() {
    let relay = Relay::spawn(&["--max-clients", "3", "127.0.0.1:0"]);
    let mut clients: Vec<_> = (0..3).map(|_| relay.client()).collect();
    let mut waiting: Vec<_> = (0..3)
        .map(|_| {
            let mut next = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
            relay_client::shake(&mut next, &relay.contact);
            next.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let heard = next.read(&mut [0; 1]).map_err(|e| e.kind());
            assert_eq!(heard, Err(ErrorKind::WouldBlock), "nobody is welcomed beyond that");
            next
        })
        .collect();
    // A sender is told so in words.
    let (alice, bob) = (Home::with_identity(), Home::with_identity());
    befriend(&alice, "alice", &bob, "bob");
    std::fs::write(alice.path().join("r.pub"), relay.stdout()).unwrap();
    let path = alice.path().join("r.pub");
    alice.keygen(&["--import", path.to_str().unwrap(), "--as", "home"]);
    let via = format!("home@127.0.0.1:{}", relay.port);
    for args in [&["--via", &via, "-w", "1s", "bob"][..], &["-z", "--via", &via, "-w", "1s", "bob"]]
    {
        let output = send(&alice, args, b"hi");
        assert_code(&output, 5);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("did not let you in") && said.contains("it is too busy"), "{said}");
    }
    // Whoever waits longest has each place that becomes free.
    for next in &mut waiting {
        clients.remove(0);
        next.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(next.read(&mut [0; 1]).unwrap(), 1);
    }
}

#[test]
fn an_address_that_has_every_place_gives_one_to_another() {
    let relay = Relay::spawn(&["--max-clients", "4", "127.0.0.1:0"]);
    let mut crowd: Vec<_> =
        (0..4).map(|_| relay.client_from(Ipv4Addr::new(127, 0, 0, 2))).collect();
    let mut other = relay.client();
    other.heard_nothing();
    crowd.pop().unwrap().is_closed();
    crowd.iter_mut().for_each(Client::heard_nothing);
}

#[test]
fn a_flood_that_many_are_shown_leaves_others_their_turns() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let _readers = slow_readers(&relay, &channel, &key, size("AC_TEST_CLIENTS", 50).min(2000));
    let mailbox = address(&channel, key.public(), 0);
    let mut flooder = relay.client_from(Ipv4Addr::new(127, 0, 0, 2));
    (0..2000).for_each(|n| flooder.queue(&Cell::post(n, mailbox, &packet(n)).volatile()));
    let flood = thread::spawn(move || flooder.flush());
    (0..10).for_each(|_| relay.still_serves());
    assert!(flood.join().unwrap());
}

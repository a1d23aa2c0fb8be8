//! How much a relay passes: cells from one to one and from one to many, and bytes through a circuit.
//! Each test counts that all of it arrives, and says on stderr how long that took. Sizes come from
//! AC_TEST_CELLS (full: 1000000), AC_TEST_CLIENTS (full: 1000) and AC_TEST_STREAM_BYTES
//! (full: 4294967296).
#![allow(clippy::unwrap_used)]

mod common;
mod relay_client;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anonchat::crypto::sodium::{KeyPair, random};
use anonchat::proto::relay::cell::{Cell, Command as Say, WIRE_LEN};
use anonchat::proto::relay::mailbox::Channel;
use common::{DEADLINE, Running, eventually, need};
use relay_client::{Client, Relay, address, packet};

/// A reader acknowledges as often as this.
const ACK_EVERY: u64 = 256;

fn size(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn say(what: &str) {
    // Past the capture of the test runner.
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Reads so many cells without opening them, calling `each` with how many there are.
fn count(socket: &mut TcpStream, cells: u64, mut each: impl FnMut(u64)) {
    let mut space = vec![0; 256 * WIRE_LEN];
    let (mut bytes, mut told) = (0, 0);
    while bytes < cells * WIRE_LEN as u64 {
        let n = socket.read(&mut space).unwrap();
        assert!(n > 0, "the relay closed the link");
        bytes += n as u64;
        let there = bytes / WIRE_LEN as u64;
        if there > told {
            told = there;
            each(there);
        }
    }
    assert_eq!(bytes, cells * WIRE_LEN as u64);
}

/// Posts so many packets, sealed beforehand, and waits until all are confirmed.
fn publish(mut poster: Client, mailbox: [u8; 32], cells: u64) -> thread::JoinHandle<()> {
    for number in 0..cells {
        poster.queue(&Cell::post(number, mailbox, &packet(number)));
    }
    thread::spawn(move || {
        let mut socket = poster.socket.try_clone().unwrap();
        let confirmed = thread::spawn(move || count(&mut socket, cells, |_| ()));
        assert!(poster.flush());
        confirmed.join().unwrap();
    })
}

const ROOM: [&str; 5] = ["--mailbox-cells", "2000000", "--memory", "4G", "127.0.0.1:0"];

#[test]
fn cells_pass_from_one_to_one() {
    let cells = size("AC_TEST_CELLS", 5000);
    let relay = Relay::spawn(&ROOM);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let mut reader = relay.client();
    let mailbox = reader.subscribe(&channel, &key, 0, [0; 8], 0);
    let log = reader.next_cell().log;
    let poster = relay.client();
    let publisher = publish(poster, mailbox, cells);
    let began = Instant::now();
    let mut socket = reader.socket.try_clone().unwrap();
    let mut acknowledged = 0;
    count(&mut socket, cells, |there| {
        if there >= acknowledged + ACK_EVERY {
            acknowledged = there;
            reader.acknowledge(mailbox, log, there - 1);
        }
    });
    let took = began.elapsed();
    publisher.join().unwrap();
    say(&format!("1 to 1: {:.0} cells/s", cells as f64 / took.as_secs_f64()));
}

#[test]
fn cells_pass_from_one_to_many() {
    let members = size("AC_TEST_CLIENTS", 20);
    let cells = size("AC_TEST_CELLS", 5000) / members.max(1);
    let relay = Relay::spawn(&ROOM);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let members: Vec<_> = (0..members)
        .map(|_| {
            let mut member = relay.client();
            member.subscribe(&channel, &key, 0, [0; 8], 0);
            assert_eq!(member.next_cell().command, Say::Live);
            member
        })
        .collect();
    let publisher = publish(relay.client(), address(&channel, key.public(), 0), cells);
    let began = Instant::now();
    let total = cells * members.len() as u64;
    hear_all(members, cells);
    let took = began.elapsed();
    publisher.join().unwrap();
    say(&format!("1 to many: {:.0} cells/s out", total as f64 / took.as_secs_f64()));
}

/// Every member gets so many cells: read by few threads, so that they do not fight for processors.
fn hear_all(mut members: Vec<Client>, cells: u64) {
    let mut left: Vec<u64> = members.iter().map(|_| cells * WIRE_LEN as u64).collect();
    for member in &members {
        member.socket.set_nonblocking(true).unwrap();
    }
    let mut space = vec![0; 64 * WIRE_LEN];
    eventually("all cells", DEADLINE + DEADLINE, || {
        for (member, left) in members.iter_mut().zip(&mut left) {
            if let Ok(n) = member.socket.read(&mut space) {
                assert!(n > 0, "the relay closed the link");
                *left -= n as u64;
            }
        }
        left.iter().all(|left| *left == 0).then_some(())
    });
}

/// Writes to one and reads from the other, `bytes` in all: how many MB/s.
fn rate(mut from: TcpStream, mut to: TcpStream, bytes: u64) -> f64 {
    let began = Instant::now();
    let writer = thread::spawn(move || {
        let block = vec![0x5a; 1 << 20];
        let mut left = bytes;
        while left > 0 {
            let len = left.min(block.len() as u64) as usize;
            from.write_all(&block[..len]).unwrap();
            left -= len as u64;
        }
        from
    });
    let (mut space, expected) = (vec![0; 1 << 20], vec![0x5a; 1 << 20]);
    let mut got = 0;
    while got < bytes {
        let n = to.read(&mut space).unwrap();
        assert!(n > 0, "closed after {got} bytes");
        assert!(space[..n] == expected[..n]);
        got += n as u64;
    }
    let took = began.elapsed();
    writer.join().unwrap();
    bytes as f64 / 1e6 / took.as_secs_f64()
}

#[test]
fn bytes_pass_through_a_circuit_about_as_fast_as_through_socat() {
    let bytes = size("AC_TEST_STREAM_BYTES", 64 << 20);
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let rendezvous = random();
    let (mut first, mut second) = (relay.client(), relay.client());
    first.connect(&rendezvous);
    second.connect(&rendezvous);
    let circuit = rate(first.joined(), second.joined(), bytes);
    say(&format!("circuit: {circuit:.0} MB/s, {:.2} s of processor", processor_time(&relay)));
    if need("socat") {
        say(&format!("socat: {:.0} MB/s", through_socat(bytes)));
    }
}

/// Seconds of processor time that a program has used.
fn processor_time(running: &Running) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn through_socat(bytes: u64) -> f64 {
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = target.local_addr().unwrap().port();
    // A port that was free a moment ago; nobody else on this machine takes it meanwhile.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut command = Command::new("socat");
    command.arg(format!("TCP-LISTEN:{free},bind=127.0.0.1,fork,reuseaddr"));
    command.arg(format!("TCP:127.0.0.1:{port}"));
    let _running = Running::start(command);
    let from = eventually("socat to listen", DEADLINE, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, free)).ok()
    });
    let (to, _) = target.accept().unwrap();
    rate(from, to, bytes)
}

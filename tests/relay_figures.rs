//! How much a relay passes: cells from one to one and from one to many, and bytes through a circuit.
//! Each test counts that all of it arrives, and says on stderr how long that took. Sizes come from
//! AC_TEST_CELLS (full: 1000000), AC_TEST_CLIENTS (full: 1000) and AC_TEST_STREAM_BYTES
//! (full: 4294967296).
#![allow(clippy::unwrap_used)]

mod common;
mod mosquitto;
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
use relay_client::{Client, Relay, address, number_of, packet};

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

/// How long a cell takes from one to one, in microseconds: the median of many, and the slowest of a
/// hundred.
fn latency(relay: &Relay) -> (f64, f64) {
    let (key, channel) = (KeyPair::generate(), Channel::open(&[9; 32]));
    let (mut reader, mut poster) = (relay.client(), relay.client());
    let mailbox = reader.subscribe(&channel, &key, 0, [0; 8], 0);
    let log = reader.next_cell().log;
    let mut took: Vec<_> = (0..1000)
        .map(|number| {
            let began = Instant::now();
            poster.post(number, mailbox, &packet(number));
            assert_eq!(number_of(&reader.next_cell().body), number);
            let took = began.elapsed().as_secs_f64() * 1e6;
            assert_eq!(poster.next_cell().command, Say::Ack);
            reader.acknowledge(mailbox, log, number);
            took
        })
        .collect();
    took.sort_unstable_by(f64::total_cmp);
    (took[500], took[990])
}

#[test]
fn a_flood_from_one_address_delays_others_little() {
    let cells = size("AC_TEST_CELLS", 5000);
    let relay = Relay::spawn(&ROOM);
    let (alone, alone_late) = latency(&relay);
    // Sealed beforehand, so that little but the relay's work is in the way.
    let mut flooders: Vec<_> =
        (0..8).map(|_| relay.client_from(Ipv4Addr::new(127, 0, 0, 2))).collect();
    for flooder in &mut flooders {
        let mailbox = address(&Channel::open(&random()), KeyPair::generate().public(), 0);
        for number in 0..cells / 8 {
            flooder.queue(&Cell::post(number, mailbox, &packet(number)));
        }
    }
    let floods: Vec<_> = flooders
        .into_iter()
        .map(|mut flooder| {
            let mut socket = flooder.socket.try_clone().unwrap();
            let reader = thread::spawn(move || count(&mut socket, cells / 8, |_| ()));
            let writer = thread::spawn(move || assert!(flooder.flush()));
            (reader, writer)
        })
        .collect();
    let (flooded, flooded_late) = latency(&relay);
    let went_on = floods.iter().filter(|(_, writer)| !writer.is_finished()).count();
    for (reader, writer) in floods {
        writer.join().unwrap();
        reader.join().unwrap();
    }
    say(&format!(
        "a cell takes {alone:.0} µs ({alone_late:.0} at worst of 100); beside a flood {flooded:.0} \
         ({flooded_late:.0}), {went_on} of 8 flooders went on till the end"
    ));
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
    if need("mosquitto") {
        say(&format!("1 to 1 by mosquitto: {:.0} messages/s", mosquitto::rate(cells, 1)));
    }
}

#[test]
fn cells_pass_from_one_to_many() {
    let readers = size("AC_TEST_CLIENTS", 20);
    let cells = size("AC_TEST_CELLS", 5000) / readers.max(1);
    let relay = Relay::spawn(&ROOM);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let members: Vec<_> = (0..readers)
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
    if need("mosquitto") {
        let rate = mosquitto::rate(cells, readers);
        say(&format!("1 to many by mosquitto: {rate:.0} messages/s out"));
    }
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

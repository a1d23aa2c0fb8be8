//! What of discovery can be seen on the network: an announcer sends nothing unasked, and never more
//! than came in; garbage and replays draw nothing, and cost little; a search for three looks like one
//! for four.
//!
//! `AC_TEST_GARBAGE`: packets that an announcer is flooded with (20,000).
#![allow(clippy::print_stderr)]

use crate::testkit::{
    common, machines,
    measure::{alone, processor_time},
};

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use common::{DEADLINE, Home, Running, assert_code, befriend, eventually, need, number, run};
use machines::{Lan, Machine};

/// Prints each UDP packet on the cable: direction, source, destination, payload.
const CAPTURE: &str = r#"
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.ntohs(3))
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
print("ready", flush=True)
while True:
    d, (link, proto, kind, _, _) = s.recvfrom(65535)
    if link != "cable":
        continue
    if proto == 0x0800 and d[9] == 17:
        at, source, to = (d[0] & 15) * 4, d[12:16], d[16:20]
        family = socket.AF_INET
    elif proto == 0x86dd and d[6] == 17:
        at, source, to = 40, d[8:24], d[24:40]
        family = socket.AF_INET6
    else:
        continue
    port = lambda i: int.from_bytes(d[at + i:at + i + 2], "big")
    name = lambda ip, i: "%s,%d" % (socket.inet_ntop(family, ip), port(i))
    end = at + port(4)
    print("out" if kind == 4 else "in", name(source, 0), name(to, 2), d[at + 8:end].hex(), flush=True)
"#;

/// Sends what stdin says, a packet a line, over and over, changed and beside garbage.
const FLOOD: &str = r#"
import os, socket, sys, time
to, count, rate = (sys.argv[1], 6000), int(sys.argv[2]), int(sys.argv[3])
known = [bytes.fromhex(line) for line in sys.stdin]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
began = time.monotonic()
for n in range(count):
    old = known[n % len(known)]
    flip = 16 + n % 1184
    packet = [old, os.urandom(1200), old[:flip] + bytes([old[flip] ^ 1]) + old[flip + 1:],
              os.urandom(1 + n % 1300)][n % 4]
    s.sendto(packet, to)
    wait = began + n / rate - time.monotonic()
    if wait > 0:
        time.sleep(wait)
print(time.monotonic() - began)
"#;

/// One packet that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    out: bool,
    from: String,
    to: String,
    payload: String,
}

fn capture(machine: &Machine) -> Running {
    let running = Running::start(machine.python(CAPTURE, &[]));
    running.wait_stdout("the capture begins", |bytes| bytes.starts_with(b"ready\n"));
    running
}

fn seen(capture: &Running) -> Vec<Seen> {
    let text = String::from_utf8(capture.stdout()).unwrap();
    // A last line may be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let packet = |line: &str| {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let [way, from, to, payload] = <[String; 4]>::try_from(words).unwrap();
        Seen { out: way == "out", from, to, payload }
    };
    whole.lines().skip(1).map(packet).collect()
}

/// Waits until a packet that is sent now was seen, and so all before it.
fn settled(capture: &Running, from: &Machine, to: &str) -> Vec<Seen> {
    let script = "import socket,sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\
                  .sendto(b'mark', (sys.argv[1], 9))";
    assert_code(&run(from.python(script, &[to]), b"", DEADLINE), 0);
    eventually("the mark is seen", DEADLINE, || {
        let seen = seen(capture);
        seen.iter().any(|packet| packet.to == format!("{to},9")).then_some(seen)
    })
}

fn announce(machine: &Machine, home: &Home) -> Running {
    let running = Running::start(machine.command(home, "ac-discover", &["--announce", "1234"]));
    running.wait_stderr("announcing ");
    running
}

fn lan(count: usize) -> Option<Lan> {
    if need("python3") { Lan::new(count) } else { None }
}

#[test]
fn an_announcer_sends_nothing_unasked_and_never_more_than_came_in() {
    let Some(lan) = lan(3) else { return };
    let homes: Vec<_> = (0..3).map(|_| Home::with_identity()).collect();
    befriend(&homes[0], "alice", &homes[1], "bob");
    // Erin's public key file is known, and she does not know who asks.
    homes[0].import(&homes[2], "erin");
    let (bobs, erins) = (capture(&lan.hosts[1]), capture(&lan.hosts[2]));
    let _announcers = [announce(&lan.hosts[1], &homes[1]), announce(&lan.hosts[2], &homes[2])];
    let before = settled(&bobs, &lan.hosts[0], "10.0.0.2");
    assert!(before.iter().all(|packet| !packet.out), "sent before anybody asked");
    let found = run(lan.hosts[0].command(&homes[0], "ac-discover", &[]), b"", DEADLINE);
    assert_code(&found, 0);
    let erin_saw = settled(&erins, &lan.hosts[0], "10.0.0.3");
    assert!(erin_saw.iter().filter(|packet| packet.to.ends_with(",6000")).count() >= 8);
    assert!(erin_saw.iter().all(|packet| !packet.out), "an answer to nobody's contact");
    let bob_saw = {
        let marked = |seen: &[Seen]| seen.iter().filter(|p| p.to == "10.0.0.2,9").count();
        let _ = settled(&bobs, &lan.hosts[0], "10.0.0.2");
        eventually("the second mark", DEADLINE, || Some(seen(&bobs)).filter(|s| marked(s) >= 2))
    };
    let mut asked: Vec<&Seen> = Vec::new();
    let mut answers = 0;
    for packet in &bob_saw {
        if !packet.out {
            asked.push(packet);
            continue;
        }
        answers += 1;
        assert_eq!(packet.payload.len(), 2 * 1200);
        let question = asked.iter().position(|q| q.from == packet.to);
        let question = asked.remove(question.expect("an answer without a question"));
        assert!(packet.payload.len() <= question.payload.len());
    }
    assert!(answers >= 2, "a sweep and a check were answered: {answers}");
}

#[test]
fn garbage_and_replays_draw_no_answer_and_cost_less_than_a_tenth_of_a_core() {
    let _alone = alone();
    let count: u32 = number("AC_TEST_GARBAGE", 20_000);
    let Some(lan) = lan(2) else { return };
    let homes: Vec<_> = (0..2).map(|_| Home::with_identity()).collect();
    befriend(&homes[0], "alice", &homes[1], "bob");
    let announcer = announce(&lan.hosts[1], &homes[1]);
    let recorder = capture(&lan.hosts[1]);
    let seek = || run(lan.hosts[0].command(&homes[0], "ac-discover", &["bob"]), b"", DEADLINE);
    assert_code(&seek(), 0);
    let recorded = settled(&recorder, &lan.hosts[0], "10.0.0.2");
    let probes = recorded.iter().filter(|p| !p.out && p.payload.len() == 2 * 1200);
    let probes: BTreeSet<&str> = probes.map(|p| p.payload.as_str()).collect();
    assert!(probes.len() >= 2);
    drop(recorder);

    let watcher = Running::start(lan.hosts[1].python(
        // Only what goes out, so that the watcher takes no part in the work.
        &CAPTURE.replace("if link != \"cable\":", "if link != \"cable\" or kind != 4:"),
        &[],
    ));
    watcher.wait_stdout("the capture begins", |bytes| bytes.starts_with(b"ready\n"));
    let before = processor_time(announcer.pid());
    let mut flood =
        Running::start(lan.hosts[0].python(FLOOD, &["10.0.0.2", &count.to_string(), "10000"]));
    let mut input = flood.stdin.take().unwrap();
    for probe in &probes {
        writeln!(input, "{probe}").unwrap();
    }
    drop(input);
    assert!(flood.wait_exit(DEADLINE.max(Duration::from_millis(u64::from(count)))).success());
    let spent = processor_time(announcer.pid()) - before;
    assert!(seen(&watcher).is_empty(), "{:?}", seen(&watcher));
    let share = spent.as_secs_f64() / (f64::from(count) / 10_000.0);
    eprintln!("at 10,000 packets a second: {:.1} % of a core", share * 100.0);
    assert!(share < 0.1, "{share}");
    assert_code(&seek(), 0);
}

#[test]
fn a_search_for_three_looks_like_one_for_four() {
    let Some(lan) = lan(2) else { return };
    let alice = Home::with_identity();
    let sought: Vec<_> = (0..4).map(|_| Home::with_identity()).collect();
    let mut pictures = Vec::new();
    for (n, home) in sought.iter().enumerate() {
        alice.import(home, &format!("contact{n}"));
        if n < 2 {
            continue;
        }
        let watcher = capture(&lan.hosts[1]);
        let nobody = run(lan.hosts[0].command(&alice, "ac-discover", &[]), b"", DEADLINE);
        assert_code(&nobody, 4);
        let seen = settled(&watcher, &lan.hosts[0], "10.0.0.2");
        let probes: Vec<_> = seen.into_iter().filter(|p| p.to.ends_with(",6000")).collect();
        let picture: Vec<_> = probes.iter().map(|p| (p.to.clone(), p.payload.len())).collect();
        pictures.push(picture);
        let different: BTreeSet<&str> = probes.iter().map(|p| p.payload.as_str()).collect();
        // Each goes to three addresses and never comes again.
        assert_eq!(different.len() * 3, probes.len());
        let keys = sought.iter().chain([&alice]).map(public_key);
        for key in keys {
            assert!(different.iter().all(|packet| !packet.contains(&key)), "a key in the clear");
        }
        let heads: BTreeSet<&str> = different.iter().map(|packet| &packet[..32]).collect();
        assert_eq!(heads.len(), different.len(), "a mac1 came twice");
    }
    assert!(pictures[0].len() >= 4 * 3 * 5);
    assert_eq!(pictures[0], pictures[1]);
}

/// In hexadecimal, as it would stand in a packet.
fn public_key(home: &Home) -> String {
    use base64::Engine as _;
    let text = std::fs::read_to_string(home.public_key_file()).unwrap();
    let line = text.lines().find(|line| line.starts_with("public")).unwrap();
    let field = line.split('"').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(field).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

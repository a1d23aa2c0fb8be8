//! Whatever a client does who was let in, the others are served, and memory stays within bounds.
//! PROTOCOL.md, 5. AC_TEST_CLIENTS says how many flood at once (full: 10000), AC_TEST_SECONDS how long
//! the memory is flooded (full: 600, with as much memory as the program takes by default), and
//! AC_TEST_FRIENDS who passes beside it (full: 100).

use crate::testkit::{
    common,
    measure::{alone, resident},
    relay_client,
};

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, random, random_into};
use anonchat::proto::datagram::packet::PACKET_LEN;
use anonchat::proto::relay::cell::{Address, CELL_LEN, Cell, Command, ErrorCode, WIRE_LEN};
use anonchat::proto::relay::mailbox::Channel;
use common::{DEADLINE, alice_and_bob, assert_code, eventually, number, send};
use relay_client::{Client, Relay, address, number_of, packet};

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
    assert_eq!(other.next_cell().command, Command::Ack, "there is a reserve");
    relay.still_serves();
    drop(flooder);
    relay.still_serves();
}

/// Ends a flood, also when what goes on beside it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Posts as fast as it can until `over`, to one mailbox or to a new one each time; whenever its link
/// ends it makes another.
fn flood(relay: &Relay, from: Ipv4Addr, mailbox: Option<Address>, over: &AtomicBool) {
    let (mut number, base) = (0_u64, mailbox.unwrap_or_else(some_mailbox));
    while !over.load(Ordering::Relaxed) {
        let mut client = relay.client_from(from);
        let mut answers = client.socket.try_clone().unwrap();
        answers.set_read_timeout(None).unwrap();
        let reader = thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
        client.socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        loop {
            for _ in 0..64 {
                number += 1;
                let mut address = base;
                if mailbox.is_none() {
                    address[8..16].copy_from_slice(&number.to_be_bytes());
                }
                client.queue(&Cell::post(number, address, &packet(number)));
            }
            if !wrote(&mut client, over) {
                break;
            }
        }
        let _ = client.socket.shutdown(Shutdown::Both);
        let _ = reader.join();
    }
}

/// Writes what is queued, unless the link ends or the flood is over.
fn wrote(client: &mut Client, over: &AtomicBool) -> bool {
    while !client.link.pending().is_empty() && !over.load(Ordering::Relaxed) {
        match client.socket.write(client.link.pending()) {
            Ok(n) => client.link.consumed(n),
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => {}
            Err(_) => return false,
        }
    }
    !over.load(Ordering::Relaxed)
}

/// All that two friends do at a relay, each on a link of its own: they subscribe, probe, post, free
/// and are joined. One more message is left in `waiting`. How long that took, without the
/// handshakes.
fn friends_pass(relay: &Relay, from: Ipv4Addr, waiting: Address) -> Duration {
    let (mut bob, mut alice) = (relay.client_from(from), relay.client_from(from));
    let began = Instant::now();
    let key = KeyPair::generate();
    let mailbox = bob.subscribe(&Channel::open(&random()), &key, 0, [0; 8], 0);
    assert_eq!(bob.next_cell().command, Command::Live);
    alice.subscribe(&Channel::open(&random()), &key, 0, [0; 8], 0);
    assert_eq!(alice.next_cell().command, Command::Live);
    alice.say(&Cell::post(1, mailbox, &packet(1)).volatile());
    assert_eq!(number_of(&bob.next_cell().body), 1);
    alice.post(2, mailbox, &packet(2));
    let cell = bob.next_cell();
    assert_eq!(number_of(&cell.body), 2);
    assert_eq!(alice.next_cell().command, Command::Ack);
    bob.acknowledge(mailbox, cell.log, cell.id);
    alice.post(3, waiting, &packet(3));
    assert_eq!(alice.next_cell().command, Command::Ack, "what waits for somebody is taken");
    let rendezvous = random();
    alice.connect(&rendezvous);
    bob.connect(&rendezvous);
    let (mut alice, mut bob) = (alice.joined(), bob.joined());
    alice.write_all(b"hi").unwrap();
    let mut heard = [0; 2];
    bob.read_exact(&mut heard).unwrap();
    began.elapsed()
}

/// Where friends come from: half of them from where the first flooder is.
fn home_of(friend: usize) -> Ipv4Addr {
    match friend % 2 {
        0 => FLOODER,
        _ => Ipv4Addr::new(127, 0, 1, (friend % 250) as u8),
    }
}

const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Friends do all that they do once in so much time: without a pause it would be they who fill the
/// memory, with what they leave.
const ROUND: Duration = Duration::from_secs(5);

/// Beside so many flooders, each at an address of its own, all friends pass: while the flood lasts,
/// right after it, and once more; and what they left is there.
fn friends_pass_beside(flooders: u8) {
    let _alone = alone();
    let seconds = number("AC_TEST_SECONDS", 0);
    let memory = if seconds > 0 { "256M" } else { "2M" };
    // Full size is for release: there, the promise is a second.
    let most = if seconds > 0 { Duration::from_secs(1) } else { DEADLINE };
    let friends = number("AC_TEST_FRIENDS", 10);
    let args = ["--memory", memory, "--metrics", "127.0.0.1:0", "127.0.0.1:0"];
    let relay = Relay::spawn(&args);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[9; 32]));
    let epochs = std::cell::Cell::new(0);
    let mut worst = Vec::new();
    let mut all_pass = || {
        let took = (0..friends).map(|friend| {
            epochs.set(epochs.get() + 1);
            friends_pass(&relay, home_of(friend), address(&channel, key.public(), epochs.get()))
        });
        worst.push(took.max().unwrap_or_default());
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = Over(&over);
        for nth in 0..flooders {
            let (relay, over) = (&relay, &over);
            let from = Ipv4Addr::new(127, 0, 0, 2 + nth);
            scope.spawn(move || flood(relay, from, None, over));
        }
        let end = Instant::now() + Duration::from_secs(seconds as u64);
        eventually("a full relay", DEADLINE + Duration::from_secs(seconds as u64), || {
            (relay.count("refused_total") > 100).then_some(())
        });
        all_pass();
        while Instant::now() < end {
            let next = end.min(Instant::now() + ROUND);
            all_pass();
            eventually("the next round", DEADLINE, || (Instant::now() >= next).then_some(()));
        }
    });
    all_pass();
    all_pass();
    let said = format!("beside {flooders} flooders, the worst of each {friends}: {worst:?}\n");
    std::io::stdout().write_all(said.as_bytes()).unwrap();
    assert!(worst.iter().all(|took| *took < most), "{worst:?}");
    let mut reader = relay.client();
    for epoch in 1..=epochs.get() {
        reader.subscribe(&channel, &key, epoch, [0; 8], 0);
        let cell = reader.next_cell();
        assert_eq!(cell.command, Command::Cell, "what a friend left is lost");
        assert_eq!(reader.next_cell().command, Command::Live);
        reader.say(&Cell { address: cell.address, ..Cell::new(Command::Leave) });
    }
}

#[test]
fn friends_pass_beside_one_who_fills_the_memory_and_leaves() {
    friends_pass_beside(1);
}

#[test]
fn friends_pass_beside_several_who_fill_the_memory() {
    friends_pass_beside(8);
}

/// Posts `count` cells at once: how many were taken. The others found the mailbox full.
fn post_many(client: &mut Client, mailbox: Address, count: u64) -> u64 {
    (0..count).for_each(|n| client.queue(&Cell::post(n, mailbox, &packet(n))));
    client.flush();
    let answers = (0..count).map(|_| client.next_cell());
    answers
        .filter(|answer| match answer.command {
            Command::Ack => true,
            _ => {
                assert_eq!(answer.body, [ErrorCode::MailboxFull as u8]);
                false
            }
        })
        .count() as u64
}

#[test]
fn whoever_fills_a_mailbox_shuts_nobody_else_out_of_it() {
    let relay = Relay::spawn(&["--mailbox-cells", "128", "127.0.0.1:0"]);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let mailbox = address(&channel, key.public(), 0);
    let friend = |from, number| {
        let mut poster = relay.client_from(from);
        poster.post(1, mailbox, &packet(number));
        assert_eq!(poster.next_cell().command, Command::Ack, "{number}");
    };
    let taken = post_many(&mut relay.client_from(FLOODER), mailbox, 150);
    assert_eq!(taken, 126, "a part is left for those who have few there");
    friend(FLOODER, 1000);
    // It comes anew until nothing is left.
    while post_many(&mut relay.client_from(FLOODER), mailbox, 150) > 0 {}
    (1001..1005).for_each(|number| friend(Ipv4Addr::LOCALHOST, number));
    assert_eq!(post_many(&mut relay.client_from(FLOODER), mailbox, 150), 0);
    let mut reader = relay.client();
    reader.subscribe(&channel, &key, 0, [0; 8], 0);
    let heard: Vec<_> = (0..128).map(|_| number_of(&reader.next_cell().body)).collect();
    assert_eq!(heard[..122], (0..122).collect::<Vec<_>>(), "what came first stays");
    (1000..1005).for_each(|number| assert!(heard.contains(&number), "{number}"));
}

#[test]
fn whoever_fills_the_memory_is_refused_and_it_stays_within_its_bound() {
    let _alone = alone();
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
    let _alone = alone();
    let count = number("AC_TEST_CLIENTS", 20).min(2000);
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

/// Posts to a mailbox until it is nearly full.
fn fill(relay: &Relay, mailbox: Address) {
    let mut poster = relay.client();
    (0..40).for_each(|_| assert_eq!(post_many(&mut poster, mailbox, 100), 100));
}

/// What the kernel holds for the relay's connections because nobody took it, in bytes.
fn unsent(relay: &Relay) -> u64 {
    let port = format!(":{:04X}", relay.port);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = rows.filter(|row| row[1].ends_with(&port));
    own.map(|row| u64::from_str_radix(row[4].split_once(':').unwrap().0, 16).unwrap()).sum()
}

#[test]
fn links_that_never_read_pin_little_of_the_kernels_memory() {
    let _alone = alone();
    let count = number("AC_TEST_CLIENTS", 20).min(2000);
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let mailbox = address(&channel, key.public(), 0);
    fill(&relay, mailbox);
    let mute: Vec<_> = (0..count)
        .map(|_| {
            let mut client = relay.client();
            client.subscribe(&channel, &key, 0, [0; 8], 0);
            client
        })
        .collect();
    for _ in 0..20 {
        relay.still_serves();
        let unsent = unsent(&relay);
        assert!(unsent < count as u64 * (320 << 10), "{unsent} bytes for {count} links");
    }
    drop(mute);
}

#[test]
fn a_circuit_that_is_not_read_pins_little_of_the_kernels_memory() {
    let _alone = alone();
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let ends: Vec<_> = (0..10_u8)
        .map(|nth| {
            let (mut pours, mut mute) = (relay.client(), relay.client());
            pours.connect(&[nth; 32]);
            mute.connect(&[nth; 32]);
            (pours.joined(), mute.joined())
        })
        .collect();
    for (pours, _) in &ends {
        pours.set_nonblocking(true).unwrap();
    }
    let piece = vec![0; 256 << 10];
    for _ in 0..20 {
        for (pours, _) in &ends {
            while (&*pours).write(&piece).is_ok() {}
        }
        relay.still_serves();
        let unsent = unsent(&relay);
        assert!(unsent < 10 * (1600 << 10), "{unsent} bytes for 10 circuits");
    }
}

/// Waits for it at full size alone: the rule has tests in simulated time (`relay::stuck`).
#[test]
fn a_link_that_takes_nothing_is_closed_whatever_it_says() {
    let seconds = number("AC_TEST_SECONDS", 0);
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let mailbox = address(&channel, key.public(), 0);
    fill(&relay, mailbox);
    let mut mute = relay.client();
    mute.subscribe(&channel, &key, 0, [0; 8], 0);
    // What it says is read, and does not help it.
    let mut is_open = || {
        mute.queue(&Cell::new(Command::Noop));
        mute.flush()
    };
    assert!(is_open());
    relay.still_serves();
    if seconds < 45 {
        return;
    }
    let began = Instant::now();
    eventually("its end", Duration::from_secs(45), || (!is_open()).then_some(()));
    assert!(began.elapsed() > Duration::from_secs(25), "it was closed too soon");
    relay.still_serves();
}

#[test]
fn a_poster_that_reads_no_answer_is_not_read_either() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let mut poster = relay.client();
    let mailbox = some_mailbox();
    let before = resident(&relay);
    let said = thread::spawn(move || {
        poster.socket.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
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
    let _alone = alone();
    let count = number("AC_TEST_CLIENTS", 50);
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
    let began = Instant::now();
    for number in 0..250 {
        poster.queue(&Cell::post(number, mailbox, &packet(number)));
    }
    poster.flush();
    relay.still_serves();
    for number in 0..250 {
        assert_eq!(poster.next_cell().id, number);
    }
    // A hundred at once, and the others as they become due.
    assert!(began.elapsed() >= Duration::from_millis(1000));
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
    let (alice, _bob) = alice_and_bob();
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
    let _alone = alone();
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let (key, channel) = (KeyPair::generate(), Channel::open(&[7; 32]));
    let _readers = slow_readers(&relay, &channel, &key, number("AC_TEST_CLIENTS", 50).min(2000));
    let mailbox = address(&channel, key.public(), 0);
    let mut flooder = relay.client_from(Ipv4Addr::new(127, 0, 0, 2));
    (0..2000).for_each(|n| flooder.queue(&Cell::post(n, mailbox, &packet(n)).volatile()));
    let flood = thread::spawn(move || flooder.flush());
    (0..10).for_each(|_| relay.still_serves());
    assert!(flood.join().unwrap());
}

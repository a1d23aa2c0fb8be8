//! Long streams in constant memory, byte for byte the same, and many senders at once. The sizes come
//! from AC_TEST_STREAM_BYTES (full: 4294967296) and AC_TEST_SENDERS (full: 200).

use crate::testkit::{
    common,
    measure::{alone, peak_resident_kib},
    proxy,
};

use std::io::{PipeReader, Read, Write};
use std::time::Duration;

use common::{DEADLINE, Home, Listener, Running, alice_and_bob, eventually, number};
use proxy::Proxy;

/// Resident memory that either program may ever have had.
const MAX_RESIDENT_KIB: u64 = 24 * 1024;
/// The stream repeats after this many bytes but for a count in front, so that it is made and
/// checked faster than the programs carry it.
const BLOCK: usize = 1 << 20;

/// A person's listener and somebody who is heard there.
fn scene() -> (Home, Home) {
    let (alice, bob) = alice_and_bob();
    (alice, bob)
}

/// The `nth` part of the stream, made in place.
struct Block(Vec<u8>);

impl Block {
    fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self(words.take(BLOCK / 8).flatten().collect())
    }

    fn nth(&mut self, nth: u64) -> &[u8] {
        self.0[..8].copy_from_slice(&nth.to_le_bytes());
        &self.0
    }
}

/// The stream's length in each block, in order.
fn blocks(total: u64) -> impl Iterator<Item = (u64, usize)> {
    let block = BLOCK as u64;
    (0..total.div_ceil(block)).map(move |nth| (nth, (total - nth * block).min(block) as usize))
}

fn assert_same(mut from: PipeReader, total: u64) -> PipeReader {
    let (mut expected, mut got) = (Block::new(), vec![0; BLOCK]);
    for (nth, len) in blocks(total) {
        from.read_exact(&mut got[..len]).unwrap();
        assert!(got[..len] == expected.nth(nth)[..len], "other bytes in block {nth}");
    }
    from
}

#[test]
fn a_long_stream_arrives_byte_for_byte_in_constant_memory() {
    let _alone = alone();
    // Odd, so that the end falls on no boundary.
    let total = number("AC_TEST_STREAM_BYTES", 64 << 20) - 1;
    let patience = Duration::from_secs(30 + total / 20_000_000);
    let (alice, bob) = scene();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = bob.command("ac-listen", &["-1", "127.0.0.1:0"]);
    command.stdout(writer);
    let mut listener = Listener::start(command);
    let mut sender = Running::start(alice.command("ac-send", &[&listener.destination("bob")]));

    let mut stdin = sender.stdin.take().unwrap();
    let writing = std::thread::spawn(move || {
        let mut block = Block::new();
        for (nth, len) in blocks(total) {
            stdin.write_all(&block.nth(nth)[..len]).unwrap();
        }
        stdin
    });
    let reading = std::thread::spawn(move || assert_same(reader, total));
    eventually("the whole stream", patience, || reading.is_finished().then_some(()));
    let mut reader = reading.join().unwrap();

    // All has arrived, and the message is not ended: both still have what they ever had.
    let stdin = writing.join().unwrap();
    let peaks = [&sender, &*listener].map(|r| peak_resident_kib(r).unwrap());
    drop(stdin);
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "more than was sent");
    let [sender, listener] = peaks;
    let shown = format!("peak resident: sender {sender} KiB, listener {listener} KiB");
    assert!(peaks.iter().all(|kib| *kib <= MAX_RESIDENT_KIB), "{shown}");
    writeln!(std::io::stderr(), "{total} bytes; {shown}").unwrap();
}

#[test]
fn a_slow_network_takes_no_more_memory() {
    let _alone = alone();
    let total = number("AC_TEST_STREAM_BYTES", 64 << 20).min(256 << 20);
    let (alice, bob) = scene();
    let mut command = bob.command("ac-listen", &["127.0.0.1:0"]);
    command.stdout(std::fs::File::create("/dev/null").unwrap());
    let listener = Listener::start(command);
    let proxy = Proxy::narrow(listener.port());
    let mut sender = Running::start(alice.command("ac-send", &[&proxy.destination("bob")]));
    let mut stdin = sender.stdin.take().unwrap();
    let writing = std::thread::spawn(move || {
        let mut block = Block::new();
        for (nth, len) in blocks(total) {
            stdin.write_all(&block.nth(nth)[..len]).unwrap();
        }
        stdin
    });
    proxy.wait_passed_within(total as usize, DEADLINE + Duration::from_secs(total / 2_000_000));
    let stdin = writing.join().unwrap();
    let peak = peak_resident_kib(&sender).unwrap();
    assert!(peak <= MAX_RESIDENT_KIB, "sender {peak} KiB");
    drop(stdin);
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
}

#[test]
fn a_long_stream_from_a_file_takes_no_more_memory() {
    let _alone = alone();
    let total = number("AC_TEST_STREAM_BYTES", 64 << 20);
    let patience = Duration::from_secs(30 + total / 20_000_000);
    let (alice, bob) = scene();
    let input = alice.path().join("input");
    // Sparse: it takes no room on the disk.
    std::fs::File::create(&input).unwrap().set_len(total).unwrap();
    let mut command = bob.command("ac-listen", &["-0", "127.0.0.1:0"]);
    command.stdout(std::fs::File::create("/dev/null").unwrap());
    let listener = Listener::start(command);
    let mut command = alice.command("ac-send", &["-v", &listener.destination("bob")]);
    command.stdin(std::fs::File::open(&input).unwrap());
    let mut sender = Running::start(command);
    let mut peak = 0;
    eventually("its end", patience, || {
        // One that has ended and was not waited for has no memory any more.
        peak = peak_resident_kib(&sender).unwrap_or(peak);
        sender.poll_exit()
    });
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    assert!(sender.stderr().contains(&format!("{total} bytes delivered")), "{}", sender.stderr());
    assert!((1..=MAX_RESIDENT_KIB).contains(&peak), "sender {peak} KiB");
    let peak = peak_resident_kib(&listener).unwrap();
    assert!(peak <= MAX_RESIDENT_KIB, "listener {peak} KiB");
}

#[test]
fn many_senders_at_once_are_all_heard_whole() {
    let _alone = alone();
    let count = number("AC_TEST_SENDERS", 50) as usize;
    let patience = Duration::from_secs(30 + count as u64 / 2);
    let (alice, bob) = scene();
    let mut listener = Listener::spawn(&bob, &["-0", "-n", &count.to_string(), "127.0.0.1:0"]);
    let to = listener.destination("bob");
    let message = |nth: usize| {
        // From a line to more than is held back before a message flows.
        let line = format!("{nth} says this\n");
        line.repeat(1 + nth % 10 * 1_000).into_bytes()
    };
    let mut senders: Vec<_> = (0..count)
        .map(|nth| {
            let mut sender = Running::start(alice.command("ac-send", &[&to]));
            sender.feed(message(nth));
            sender
        })
        .collect();
    for (nth, sender) in senders.iter_mut().enumerate() {
        let status = sender.wait_exit(patience);
        assert!(status.success(), "{nth}: {status}: {}", sender.stderr());
    }
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    let heard = listener.stdout();
    let mut heard: Vec<_> = heard.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    assert_eq!(heard.pop(), Some(vec![]), "no end behind the last message");
    let mut expected: Vec<_> = (0..count).map(message).collect();
    heard.sort_unstable();
    expected.sort_unstable();
    assert!(heard == expected, "{} of {count} messages, not all whole", heard.len());
}

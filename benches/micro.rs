//! What one record, one cell, one datagram, one mailbox and one handshake cost: `cargo bench --bench micro`.
//!
//! With `AC_BENCH_JSON` it prints what a datagram costs either end, in microseconds, and nothing else: the
//! limit that `bench/compare.py` holds datagrams against.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, OsRandom};
use anonchat::proto::datagram::cache::BoxCache;
use anonchat::proto::datagram::packet::{
    FRAGMENT_LEN, Head, Kind, LocalKey, MessageId, Opened, PACKET_LEN, Sealer, Way,
};
use anonchat::proto::relay::cell::{CELL_LEN, Cell};
use anonchat::proto::relay::mailbox::{Challenge, Channel, Reader};
use anonchat::proto::stream::handshake::{
    CONFIRM_LEN, HELLO_LEN, Initiator, Opened as Hello, REPLY_LEN, Responding,
};
use anonchat::proto::stream::outgoing::Outgoing;
use anonchat::proto::stream::record::Kind as Record;
use anonchat::proto::stream::session::{Session, plain_buffer};
use anonchat::relay::store::Memory;
use anonchat::relay::table::{Bounds, News, Table};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn main() {
    match std::env::var_os("AC_BENCH_JSON") {
        Some(_) => tell_datagram(),
        None => divan::main(),
    }
}

const ACCESS: [u8; 32] = [7; 32];
const NOW: u64 = 1_800_000_000_000;

fn shake(me: &KeyPair, peer: &KeyPair) -> Option<(Session, Session)> {
    let (initiator, hello): (_, [u8; HELLO_LEN]) =
        Initiator::start(me, peer.public(), &ACCESS, NOW).ok()?;
    let responding = Responding { pair: peer, access: &ACCESS };
    let (responder, reply): (_, [u8; REPLY_LEN]) =
        Hello::open(&responding, &hello, NOW).ok()?.reply().ok()?;
    let (ours, confirm): (_, [u8; CONFIRM_LEN]) = initiator.confirm(&reply).ok()?;
    let (theirs, _) = responder.finish(&confirm).ok()?;
    Some((ours, theirs))
}

fn sessions() -> (Session, Session) {
    shake(&KeyPair::generate(), &KeyPair::generate()).unwrap_or_else(|| unreachable!("a handshake"))
}

/// All three messages, both ends.
#[divan::bench]
fn handshake(bencher: Bencher<'_, '_>) {
    let (me, peer) = (KeyPair::generate(), KeyPair::generate());
    bencher.bench_local(|| shake(black_box(&me), black_box(&peer)).is_some());
}

#[divan::bench(args = [1000, 65_000])]
fn record_sealed(bencher: Bencher<'_, '_>, len: usize) {
    let (mut session, _) = sessions();
    let mut out = Outgoing::default();
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        out.clear();
        session.data_space()[..len].fill(1);
        session.seal_data(len, &mut out);
    });
}

#[divan::bench(args = [1000, 65_000])]
fn record_sealed_and_opened(bencher: Bencher<'_, '_>, len: usize) {
    let (mut from, mut to) = sessions();
    let (mut out, mut plain, body) = (Outgoing::default(), plain_buffer(), vec![1; len]);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        out.clear();
        from.seal(Record::Data, &body, &mut out);
        to.open(&out.pending()[2..], &mut plain).is_ok()
    });
}

#[divan::bench]
fn cell_sealed_and_opened(bencher: Bencher<'_, '_>) {
    let (mut from, mut to) = sessions();
    let packet = [1; PACKET_LEN];
    let (mut plain, mut out) = ([0; CELL_LEN], Outgoing::default());
    let mut opened = [0; CELL_LEN];
    bencher.bench_local(|| {
        out.clear();
        Cell::post(1, [9; 32], &packet).write(&mut plain);
        from.seal_whole(&plain, &mut out);
        to.open_whole(&out.pending()[2..], &mut opened).is_ok() && Cell::parse(&opened).is_ok()
    });
}

fn head(id: MessageId) -> Head<'static> {
    Head {
        kind: Kind::Message,
        way: Way::Network,
        more: false,
        id,
        time_ms: NOW,
        ack_key: &[3; 32],
        fragment: 0,
        of: 1,
    }
}

/// A full datagram, sealed anew each time.
fn sealing() -> impl FnMut() {
    let (me, peer) = (KeyPair::generate(), KeyPair::generate());
    let sealer = Sealer::new(&me, peer.public(), &ACCESS);
    let head = head(MessageId { run: [1; 8], sequence: 0 });
    let mut packet = [0; PACKET_LEN];
    move || sealer.seal(&head, &[1; FRAGMENT_LEN], &mut OsRandom, &mut packet)
}

/// By a receiver that knows the sender: what is left is one X25519, for the outer box.
fn opening() -> impl FnMut() -> bool {
    let (me, peer) = (KeyPair::generate(), KeyPair::generate());
    let head = head(MessageId { run: [1; 8], sequence: 0 });
    let mut packet = [0; PACKET_LEN];
    let sealer = Sealer::new(&me, peer.public(), &ACCESS);
    sealer.seal(&head, &[1; FRAGMENT_LEN], &mut OsRandom, &mut packet);
    let local = LocalKey::new(peer, &ACCESS);
    let mut cache = BoxCache::new();
    if let Some(mut first) = Opened::open(local.keys(), &packet, 0, &[])
        && let Some(key) = first.take_fresh_key()
    {
        cache.insert(0, *me.public(), key);
    }
    let caches = [cache];
    move || local.recognises(&packet) && Opened::open(local.keys(), &packet, 0, &caches).is_some()
}

#[divan::bench]
fn datagram_sealed(bencher: Bencher<'_, '_>) {
    bencher.bench_local(sealing());
}

#[divan::bench]
fn datagram_opened(bencher: Bencher<'_, '_>) {
    bencher.bench_local(opening());
}

/// A line of JSON with the mean of each, after as many to get warm.
fn tell_datagram() {
    const TIMES: u32 = 2000;
    fn mean<T>(mut work: impl FnMut() -> T) -> f64 {
        (0..TIMES).for_each(|_| drop(black_box(work())));
        let began = Instant::now();
        (0..TIMES).for_each(|_| drop(black_box(work())));
        began.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)
    }
    let (seal, open) = (mean(sealing()), mean(opening()));
    let told = writeln!(std::io::stdout(), "{{\"seal\": {seal}, \"open\": {open}}}");
    assert!(told.is_ok(), "stdout is closed");
}

fn address(nth: usize) -> [u8; 32] {
    let mut address = [9; 32];
    address[..8].copy_from_slice(&nth.to_be_bytes());
    address
}

/// A relay's table that has so many mailboxes, all of them read by client 0.
fn table(mailboxes: usize) -> Table<Memory> {
    let bounds = Bounds {
        ttl: Duration::from_secs(100),
        cells: 10,
        memory: 1 << 32,
        subscriptions: mailboxes,
    };
    let mut table = Table::new(bounds, Memory);
    table.enter(0, 0);
    table.enter(1, 1);
    for nth in 0..mailboxes {
        let news = &mut News::default();
        let read = table.subscribe(0, &address(nth), &[0; 8], 0, &mut OsRandom, news);
        assert!(read.is_ok(), "the table is large enough");
    }
    table.pull(0, 2 * mailboxes, |_| {});
    table
}

/// One cell from POST to the reader's ACK, in each mailbox in turn: without links, without sealing.
#[divan::bench(args = [100, 100_000])]
fn mailbox_posted_pulled_and_freed(bencher: Bencher<'_, '_>, mailboxes: usize) {
    let mut table = table(mailboxes);
    let (mut nth, mut news, packet) = (0, News::default(), [1; PACKET_LEN]);
    bencher.bench_local(|| {
        nth = (nth + 1) % mailboxes;
        news.ready.clear();
        let (address, now) = (address(nth), Duration::ZERO);
        let posted = table.post(1, &address, &packet, now, &mut OsRandom, &mut news);
        let mut came = None;
        table.pull(0, 1, |cell| came = Some((cell.address, cell.log, cell.id)));
        let Some((address, log, id)) = came else { unreachable!("what was posted: {posted:?}") };
        table.acknowledge(0, &address, &log, id);
    });
}

/// What a relay pays for a SUBSCRIBE.
#[divan::bench]
fn mailbox_proof_checked(bencher: Bencher<'_, '_>) {
    let (key, challenge) = (KeyPair::generate(), Challenge::generate());
    let mailbox = Channel::open(&ACCESS).at(key.public(), 20_000);
    let proved = mailbox.and_then(|mailbox| {
        let proof = Reader::new(&key, challenge.public())?.prove(&mailbox, &[5; 64])?;
        let address = anonchat::crypto::sodium::PublicKey::from_bytes(&mailbox.address).ok()?;
        Some((address, proof))
    });
    let Some((address, proof)) = proved else { unreachable!("a mailbox of a fresh key") };
    bencher.bench_local(|| challenge.admits(black_box(&address), &[5; 64], &proof));
}

/// What its client pays for one: the address, and the proof.
#[divan::bench]
fn mailbox_proved(bencher: Bencher<'_, '_>) {
    let (key, challenge) = (KeyPair::generate(), Challenge::generate());
    let reader = Reader::new(&key, challenge.public());
    let channel = Channel::open(&ACCESS);
    bencher.bench_local(|| {
        let mailbox = channel.at(key.public(), black_box(20_000))?;
        reader.as_ref()?.prove(&mailbox, &[5; 64])
    });
}

#[divan::bench]
fn key_made(bencher: Bencher<'_, '_>) {
    bencher.bench_local(KeyPair::generate);
}

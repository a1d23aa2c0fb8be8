//! A message that is posted into a relay's mailboxes (PROTOCOL.md, 5.5), against a model of a relay
//! and of a recipient, by seed: links are cut with cells and confirmations on them, mailboxes are
//! full for a while, clocks jump, the recipient comes late, never, or is none that knows the sender.
//!
//! `AC_TEST_SEEDS` says how many seeds.

use crate::testkit::{common::number, random::numbers};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anonchat::crypto::sodium::{KeyPair, Random, SeededRandom};
use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::packet::{
    FRAGMENT_LEN, Kind, LocalKey, MAX_MESSAGE, MessageId, Opened, PACKET_LEN, Way,
};
use anonchat::proto::datagram::receipt::{self, Receipted};
use anonchat::proto::relay::cell::{Address, Cell, Command, ErrorCode, Log};
use anonchat::proto::relay::mailbox::{Channel, EPOCH_MS, epoch};
use anonchat::proto::relay::posting::{
    IDS, LEAST_SILENCE, Letter, Outcome, PUBLIC_AFTER, Parties, Patience, Posting,
};
use anonchat::proto::time::Now;

const ANSWER: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(30);
/// More than any run needs, and short of one that spins.
const TURNS: usize = 20_000;
/// Posts that may be on their way at once.
const WINDOW: usize = 32;

fn seeds() -> u64 {
    number("AC_TEST_SEEDS", 30)
}

/// A cell with its own body.
#[derive(Clone)]
struct Owned {
    command: Command,
    id: u64,
    log: Log,
    address: Address,
    body: Vec<u8>,
}

impl Owned {
    fn of(cell: &Cell<'_>) -> Self {
        let Cell { command, id, log, address, body, .. } = *cell;
        Self { command, id, log, address, body: body.to_vec() }
    }

    fn cell(&self) -> Cell<'_> {
        let Self { command, id, log, address, ref body } = *self;
        Cell { command, id, log, address, body, flags: 0 }
    }
}

/// What may go wrong.
#[derive(Clone, Default)]
struct World {
    /// The link is cut when so many cells more have crossed; then the next number, for ever after
    /// none.
    cuts: Vec<usize>,
    /// A link is up again after this.
    away: Duration,
    /// Mailboxes have no room until then.
    full_until: Duration,
    /// When the recipient begins to read.
    reads_at: Option<Duration>,
    /// It reads its public mailbox only.
    is_no_contact: bool,
    /// What it says in the end; without, it dies when it has said once that it holds it.
    verdict: Option<Status>,
    /// For so long it holds what it has before that.
    holds: Duration,
    /// The sender's clock jumps by so many ms, at this time.
    jump: (Duration, i64),
    body: usize,
}

struct Model {
    world: World,
    /// The sender's patience.
    silence: Duration,
    now: Duration,
    rng: SeededRandom,
    me: KeyPair,
    peer: KeyPair,
    access: [u8; 32],
    /// Packets by mailbox, with their times of arrival.
    mailboxes: BTreeMap<Address, Vec<[u8; PACKET_LEN]>>,
    /// Cells on their way to the relay, and back.
    up: Vec<(Duration, Owned)>,
    down: Vec<(Duration, Owned)>,
    linked: bool,
    link_at: Duration,
    crossed: usize,
    /// Mailboxes that the sender reads, and how far.
    subscribed: BTreeMap<Address, usize>,
    /// How far the recipient has read its mailboxes.
    seen: BTreeMap<Address, usize>,
    /// What its message says of itself.
    head: Option<(MessageId, [u8; 32], u16, u64)>,
    /// What the recipient has of the message.
    fragments: BTreeMap<u16, Vec<u8>>,
    whole_at: Option<Duration>,
    held_at: Duration,
    answered: bool,
    posts: BTreeSet<u64>,
    /// The mailboxes that were posted to, by leg.
    legs: BTreeMap<u64, BTreeSet<Address>>,
    freed: usize,
}

impl Model {
    fn new(seed: u64, world: World) -> Self {
        Self {
            now: Duration::ZERO,
            rng: SeededRandom::new(seed),
            me: KeyPair::generate(),
            peer: KeyPair::generate(),
            access: [3; 32],
            mailboxes: BTreeMap::new(),
            up: Vec::new(),
            down: Vec::new(),
            linked: false,
            link_at: Duration::ZERO,
            crossed: 0,
            subscribed: BTreeMap::new(),
            seen: BTreeMap::new(),
            head: None,
            fragments: BTreeMap::new(),
            whole_at: None,
            held_at: Duration::ZERO,
            answered: false,
            posts: BTreeSet::new(),
            legs: BTreeMap::new(),
            freed: 0,
            silence: SILENCE,
            world,
        }
    }

    fn now(&self) -> Now {
        let (at, by) = self.world.jump;
        let base = 20_000 * EPOCH_MS - 1500 + self.now.as_millis() as u64;
        let unix_ms = if self.now >= at { base.saturating_add_signed(by) } else { base };
        Now { mono: self.now, unix_ms }
    }

    fn delay(&mut self) -> Duration {
        let mut byte = [0];
        self.rng.fill(&mut byte);
        self.now + Duration::from_millis(1 + u64::from(byte[0]) % 40)
    }

    fn pair(&self) -> Channel {
        Channel::pair(&self.me, self.peer.public(), self.me.public(), self.peer.public()).unwrap()
    }

    fn letter(&self) -> Letter {
        let body = (0..self.world.body).map(|i| (i * 7 % 251) as u8).collect();
        Letter { kind: Kind::Message, id: MessageId { run: [7; 8], sequence: 0 }, body }
    }

    /// Runs until something comes of it.
    fn run(&mut self) -> Outcome {
        let (peer, access) = (*self.peer.public(), self.access);
        let channels = (self.pair(), Some(Channel::open(&access)));
        let parties = Parties { me: &self.me, peer: &peer, access: &access, channels };
        let patience = Patience { answer: ANSWER, silence: self.silence };
        let mut rng = SeededRandom::new(9);
        let now = self.now();
        let mut posting = Posting::new(parties, self.letter(), 1, patience, now, &mut rng).unwrap();
        for _ in 0..TURNS {
            self.link(&mut posting);
            self.relay();
            self.recipient();
            // It hands out at once what was posted.
            self.relay();
            self.deliver(&mut posting);
            let now = self.now();
            let mut sent = Vec::new();
            posting.fill(now, &mut rng, &mut |cell| sent.push(Owned::of(cell)));
            assert!(self.linked || sent.is_empty(), "a cell without a link");
            sent.into_iter().for_each(|cell| self.send(cell));
            if let Some(outcome) = posting.outcome(now) {
                return outcome;
            }
            self.wait(posting.deadline());
        }
        panic!("nothing came of it");
    }

    fn link(&mut self, posting: &mut Posting) {
        if !self.linked && self.now >= self.link_at {
            self.linked = true;
            self.posts.clear();
            posting.linked(KeyPair::generate().public().as_bytes(), &[5; 64], self.now()).unwrap();
        }
    }

    fn send(&mut self, cell: Owned) {
        if cell.command == Command::Post {
            self.posts.insert(cell.id);
            assert!(self.posts.len() <= WINDOW, "more than the window on its way");
            assert!((1..=IDS).contains(&cell.id));
            self.legs.entry((cell.id - 1) / 64).or_default().insert(cell.address);
        }
        // One link keeps the order.
        let at = self.delay().max(self.up.last().map_or(Duration::ZERO, |(at, _)| *at));
        self.up.push((at, cell));
    }

    fn cut(&mut self, posting: &mut Posting) {
        self.up.clear();
        self.down.clear();
        self.subscribed.clear();
        self.linked = false;
        self.crossed = 0;
        self.link_at = self.now + self.world.away;
        posting.unlinked();
    }

    fn answer(&mut self, cell: &Cell<'_>) {
        let at = self.delay().max(self.down.last().map_or(Duration::ZERO, |(at, _)| *at));
        self.down.push((at, Owned::of(cell)));
    }

    /// What the relay does with what has arrived, and with what it has for its reader.
    fn relay(&mut self) {
        let (now, full) = (self.now, self.now < self.world.full_until);
        let arrived: Vec<_> = self.up.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, cell) in arrived {
            match cell.command {
                Command::Post if full => {
                    let body = [ErrorCode::MailboxFull as u8];
                    let Owned { id, address, .. } = cell;
                    self.answer(&Cell { id, address, body: &body, ..Cell::new(Command::Error) });
                }
                Command::Post => {
                    let packet = cell.body[..].try_into().unwrap();
                    self.mailboxes.entry(cell.address).or_default().push(packet);
                    self.answer(&Cell { id: cell.id, ..Cell::new(Command::Ack) });
                }
                Command::Subscribe => {
                    self.subscribed.insert(cell.address, 0);
                }
                Command::Ack => self.freed += 1,
                Command::Leave => {
                    self.subscribed.remove(&cell.address);
                }
                other => panic!("{other:?} from a sender"),
            }
        }
        for (address, from) in self.subscribed.clone() {
            let held = self.mailboxes.get(&address).cloned().unwrap_or_default();
            for (id, packet) in held.iter().enumerate().skip(from) {
                let (id, log) = (id as u64, [1; 8]);
                self.answer(&Cell { id, log, address, body: packet, ..Cell::new(Command::Cell) });
            }
            self.subscribed.insert(address, held.len());
        }
    }

    /// Reads what it may read, and answers.
    fn recipient(&mut self) {
        if self.answered || self.world.reads_at.is_none_or(|at| self.now < at) {
            return;
        }
        let channel =
            if self.world.is_no_contact { Channel::open(&self.access) } else { self.pair() };
        // Epochs on either side of what a clock may say.
        let first = epoch(self.now().unix_ms).saturating_sub(3);
        let local = LocalKey::new(self.peer.duplicate(), &self.access);
        for e in first..first + 6 {
            let address = channel.at(self.peer.public(), e).unwrap().address;
            let held = self.mailboxes.get(&address).map_or(&[][..], Vec::as_slice);
            let seen = self.seen.entry(address).or_default();
            for packet in &held[*seen..] {
                assert!(local.recognises(packet));
                let opened = Opened::open(&self.peer, packet, 0, &[]).unwrap();
                assert!(opened.way() == Way::Relay && opened.kind() == Kind::Message);
                self.fragments.insert(opened.fragment(), opened.body().to_vec());
                self.head = Some((opened.id(), *opened.ack_key(), opened.of(), opened.time_ms()));
            }
            *seen = held.len();
        }
        let Some((id, ack_key, of, time_ms)) = self.head else { return };
        if self.fragments.len() < usize::from(of) {
            return;
        }
        let whole_at = *self.whole_at.get_or_insert(self.now);
        let due = self.now >= whole_at + self.world.holds;
        let status = match self.world.verdict {
            Some(verdict) if due => {
                self.answered = true;
                verdict
            }
            None if self.held_at > Duration::ZERO => return,
            _ if self.now >= self.held_at => Status::Received,
            _ => return,
        };
        self.held_at = self.now + Duration::from_secs(10);
        let of = Receipted { sender: self.me.public(), id, ack_key: &ack_key };
        let mut packet = [0; PACKET_LEN];
        let now = Now { mono: self.now, unix_ms: time_ms };
        receipt::seal(&self.peer, &of, status, now, &mut self.rng, &mut packet);
        let receipts = Channel::receipts(&ack_key, id).at(self.me.public(), epoch(time_ms));
        self.mailboxes.entry(receipts.unwrap().address).or_default().push(packet);
    }

    fn deliver(&mut self, posting: &mut Posting) {
        let now = self.now;
        let arrived: Vec<_> = self.down.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, cell) in arrived {
            if matches!(cell.command, Command::Ack | Command::Error) {
                self.posts.remove(&cell.id);
            }
            posting.hear(&cell.cell(), self.now()).unwrap();
            self.crossed += 1;
            if self.world.cuts.first().is_some_and(|after| self.crossed >= *after) {
                self.world.cuts.remove(0);
                return self.cut(posting);
            }
        }
    }

    /// To the next moment at which something happens.
    fn wait(&mut self, deadline: Option<Duration>) {
        let cells = self.up.iter().chain(&self.down).map(|(at, _)| *at);
        let world = [
            self.world.reads_at.filter(|_| self.fragments.is_empty()),
            self.whole_at.map(|at| at + self.world.holds),
            self.whole_at.map(|_| self.held_at),
        ];
        let world = world.into_iter().flatten().filter(|at| *at > self.now);
        let link = (!self.linked).then_some(self.link_at);
        let next =
            cells.chain(world).chain(link).chain(deadline).min().expect("it waits for nothing");
        self.now = next.max(self.now);
    }

    fn held(&self, channel: &Channel) -> usize {
        let first = epoch(self.now().unix_ms).saturating_sub(3);
        let fragments = (first..first + 6).flat_map(|e| {
            let address = channel.at(self.peer.public(), e).unwrap().address;
            self.mailboxes.get(&address).cloned().unwrap_or_default()
        });
        let number = |p: [u8; PACKET_LEN]| Opened::open(&self.peer, &p, 0, &[]).unwrap().fragment();
        fragments.map(number).collect::<BTreeSet<_>>().len()
    }

    fn of(&self) -> usize {
        self.world.body.div_ceil(FRAGMENT_LEN).max(1)
    }

    fn arrived(&self) -> Vec<u8> {
        self.fragments.values().flatten().copied().collect()
    }
}

fn any_world(seed: u64) -> World {
    let mut number = numbers(seed);
    let cuts = (0..number(6)).map(|_| 1 + number(40) as usize).collect();
    World {
        cuts,
        away: Duration::from_millis(number(2500)),
        full_until: Duration::from_millis([0, 0, number(20_000)][number(3) as usize]),
        reads_at: (number(3) > 0).then(|| Duration::from_millis(number(4000))),
        is_no_contact: number(4) == 0,
        verdict: [Some(Status::Delivered), Some(Status::Declined), None][number(3) as usize],
        holds: Duration::from_millis([0, number(60_000)][number(2) as usize]),
        jump: (
            Duration::from_millis(number(6000)),
            [0, 86_400_000, -3_600_000][number(3) as usize],
        ),
        body: {
            let most = [900, 20_000, MAX_MESSAGE as u64 + 1][number(3) as usize];
            number(most) as usize
        },
    }
}

#[test]
fn whatever_happens_the_sender_never_claims_more_than_there_is() {
    for seed in 0..seeds() {
        let world = any_world(seed);
        let mut model = Model::new(seed, world.clone());
        let outcome = model.run();
        let context = format!("seed {seed}: {outcome:?}");
        match outcome {
            Outcome::Delivered | Outcome::Declined => {
                assert!(model.answered, "{context}");
                assert_eq!(model.arrived(), model.letter().body, "{context}");
                let verdict = world.verdict.unwrap();
                assert_eq!(outcome == Outcome::Delivered, verdict == Status::Delivered);
            }
            Outcome::Queued => {
                assert_eq!(model.held(&model.pair()), model.of(), "{context}");
            }
            Outcome::NotTaken(code) => {
                assert_eq!(code, ErrorCode::MailboxFull, "{context}");
                assert!(world.full_until > model.now, "{context}");
            }
            Outcome::Unconfirmed => panic!("{context}: links came back in time"),
        }
        let one_each = model.legs.values().all(|addresses| addresses.len() == 1);
        assert!(one_each, "{context}: a message is split over epochs");
    }
}

#[test]
fn who_is_there_gets_it_through_any_number_of_cuts() {
    for seed in 0..seeds() {
        let mut number = numbers(seed);
        let world = World {
            cuts: (0..20).map(|_| 1 + number(8) as usize).collect(),
            away: Duration::from_millis(number(20)),
            reads_at: Some(Duration::ZERO),
            verdict: Some(Status::Delivered),
            body: number(20_000) as usize,
            ..World::default()
        };
        let mut model = Model::new(seed, world);
        assert_eq!(model.run(), Outcome::Delivered, "seed {seed}");
        assert_eq!(model.arrived(), model.letter().body, "seed {seed}");
    }
}

#[test]
fn who_knows_nothing_of_the_sender_gets_it_out_of_the_public_mailbox() {
    let world = World {
        reads_at: Some(Duration::ZERO),
        is_no_contact: true,
        verdict: Some(Status::Delivered),
        body: 5000,
        ..World::default()
    };
    let mut model = Model::new(1, world);
    assert_eq!(model.run(), Outcome::Delivered);
    assert!(model.now >= PUBLIC_AFTER, "not before a contact had its time");
    assert_eq!(model.legs.len(), 2);
}

#[test]
fn a_contact_that_is_there_is_not_written_to_in_public() {
    let world = World {
        reads_at: Some(Duration::ZERO),
        verdict: Some(Status::Delivered),
        holds: Duration::from_secs(20),
        body: 20,
        ..World::default()
    };
    let mut model = Model::new(1, world);
    assert_eq!(model.run(), Outcome::Delivered);
    assert_eq!(model.legs.keys().collect::<Vec<_>>(), [&0]);
    assert!(model.now >= Duration::from_secs(20), "RECEIPT 0 keeps the sender waiting");
}

#[test]
fn without_an_answer_it_is_queued_after_the_time_for_one() {
    let mut model = Model::new(1, World { body: MAX_MESSAGE, ..World::default() });
    assert_eq!(model.run(), Outcome::Queued);
    assert!(model.now >= ANSWER && model.now < ANSWER * 2, "{:?}", model.now);
    assert_eq!(model.held(&Channel::open(&model.access)), 64, "a stranger would find it too");
}

#[test]
fn a_recipient_that_falls_silent_while_it_holds_the_message_leaves_it_queued() {
    let world = World { reads_at: Some(Duration::ZERO), body: 9, ..World::default() };
    let mut model = Model::new(1, world);
    assert_eq!(model.run(), Outcome::Queued);
    assert!(model.now >= SILENCE && model.now < SILENCE * 2, "{:?}", model.now);
    assert_eq!(model.freed, 1, "the receipt that was read may go");
}

#[test]
fn a_recipient_that_holds_the_message_is_waited_for_by_an_impatient_sender_too() {
    for patience_ms in [100, 2000, 9000] {
        let (reads_at, verdict) = (Some(Duration::ZERO), Some(Status::Delivered));
        let holds = Duration::from_secs(55);
        let world = World { reads_at, verdict, holds, body: 9, ..World::default() };
        let mut model = Model::new(1, world);
        model.silence = Duration::from_millis(patience_ms);
        assert_eq!(model.run(), Outcome::Delivered, "{patience_ms} ms");
        assert!(model.now >= holds);

        let mut dies = Model::new(1, World { reads_at, body: 9, ..World::default() });
        dies.silence = model.silence;
        assert_eq!(dies.run(), Outcome::Queued, "{patience_ms} ms");
        assert!(dies.now < LEAST_SILENCE + Duration::from_secs(2), "{:?}", dies.now);
    }
}

#[test]
fn a_full_mailbox_is_asked_again_until_patience_is_over() {
    let full = |until| World {
        full_until: Duration::from_secs(until),
        reads_at: Some(Duration::ZERO),
        verdict: Some(Status::Delivered),
        body: 3000,
        ..World::default()
    };
    let mut drains = Model::new(1, full(20));
    assert_eq!(drains.run(), Outcome::Delivered);
    let mut never = Model::new(1, full(3600));
    assert_eq!(never.run(), Outcome::NotTaken(ErrorCode::MailboxFull));
    assert!(never.now >= SILENCE && never.now < SILENCE + Duration::from_secs(5));
}

#[test]
fn a_relay_that_confirms_nothing_is_given_up() {
    let world = World { cuts: vec![1; 10_000], away: Duration::from_secs(1), ..World::default() };
    let mut model = Model::new(1, World { full_until: Duration::from_secs(3600), ..world });
    // Every link is cut with the first answer on it.
    assert!(matches!(model.run(), Outcome::NotTaken(_) | Outcome::Unconfirmed));
}

#[test]
fn a_relay_alone_can_neither_claim_a_delivery_nor_keep_the_sender_for_ever() {
    let mut model = Model::new(1, World { body: 5000, ..World::default() });
    let (peer, access) = (*model.peer.public(), model.access);
    let ack_key_of = |packet: &[u8; PACKET_LEN]| {
        let opened = Opened::open(&model.peer, packet, 0, &[]).unwrap();
        (*opened.ack_key(), opened.id(), opened.time_ms())
    };
    let channels = (model.pair(), None);
    let parties = Parties { me: &model.me, peer: &peer, access: &access, channels };
    let patience = Patience { answer: ANSWER, silence: SILENCE };
    let mut rng = SeededRandom::new(3);
    let start = Now { mono: Duration::ZERO, unix_ms: 20_000 * EPOCH_MS };
    let mut posting = Posting::new(parties, model.letter(), 1, patience, start, &mut rng).unwrap();
    posting.linked(KeyPair::generate().public().as_bytes(), &[5; 64], start).unwrap();
    let mut said = Vec::new();
    posting.fill(start, &mut rng, &mut |cell| said.push(Owned::of(cell)));
    let subscribed = said.iter().find(|cell| cell.command == Command::Subscribe).unwrap().address;
    let posts: Vec<_> = said.iter().filter(|cell| cell.command == Command::Post).collect();
    for post in &posts {
        posting.hear(&Cell { id: post.id, ..Cell::new(Command::Ack) }, start).unwrap();
    }
    let (ack_key, id, time_ms) = ack_key_of(posts[0].body[..].try_into().unwrap());
    // One receipt that is real, and says that the recipient holds it.
    let of = Receipted { sender: model.me.public(), id, ack_key: &ack_key };
    let mut real = [0; PACKET_LEN];
    let now = Now { mono: Duration::ZERO, unix_ms: time_ms };
    receipt::seal(&model.peer, &of, Status::Received, now, &mut model.rng, &mut real);
    let mut number = numbers(4);
    for second in 0..SILENCE.as_secs() + 2 {
        let now = Now { mono: Duration::from_secs(second), ..start };
        for turn in 0..20 {
            // What it has seen, what it makes up, what it was shown before.
            let mut body = [real, [number(256) as u8; PACKET_LEN]][turn % 2];
            if turn > 10 {
                body[number(PACKET_LEN as u64) as usize] ^= 1 << number(8);
            }
            let (id, log) = (number(1000), [1; 8]);
            let cells = [
                Cell { id, log, address: subscribed, body: &body, ..Cell::new(Command::Cell) },
                Cell { id, ..Cell::new(Command::Ack) },
                Cell { id, address: subscribed, body: &[9], ..Cell::new(Command::Error) },
                Cell { id, log, address: subscribed, ..Cell::new(Command::Live) },
            ];
            cells.iter().for_each(|cell| posting.hear(cell, now).unwrap());
            let mut sent = 0;
            posting.fill(now, &mut rng, &mut |_| sent += 1);
            assert!(sent <= WINDOW + 2, "{sent} cells at once");
        }
        if let Some(outcome) = posting.outcome(now) {
            assert_eq!(outcome, Outcome::Queued);
            assert!(second >= SILENCE.as_secs());
            return;
        }
    }
    panic!("it waits for ever");
}

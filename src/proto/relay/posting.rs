//! One message on its way into mailboxes of a relay, at its sender. PROTOCOL.md, 5.5.
//!
//! It outlives links: what was not confirmed on one is posted again on the next. When the relay has
//! confirmed all of it, the recipient has some time to say so itself.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cell::{Address, Cell, Command, ErrorCode, FLAG_VOLATILE, Log, PROOF_LEN};
use super::mailbox::{Channel, Mailbox, Reader, epoch};
use crate::crypto::noise::HASH_LEN;
use crate::crypto::sodium::{KeyPair, PublicKey, Random, Secret};
use crate::proto::datagram::ack::Status;
use crate::proto::datagram::packet::{
    Head, Kind, MAX_FRAGMENTS, Mac1, MessageId, PACKET_LEN, Sealer, Way, fragment_of, fragments,
    mac1_of,
};
use crate::proto::datagram::receipt::Awaited;
use crate::proto::stream::record::Violation;
use crate::proto::time::Now;

/// A recipient that is there says so within this; after it, it may be one that hears us only in its
/// public mailbox.
pub const PUBLIC_AFTER: Duration = Duration::from_millis(1500);
/// How long a recipient has for its first RECEIPT, unless the user says otherwise.
pub const ANSWER_TIME: Duration = Duration::from_secs(5);
/// RECEIPTs that count: ten times what a recipient says in the hour in which it says something.
const MAX_COUNTED: usize = 4096;
/// A recipient that holds the message says so every 10 s, however impatient we are: less silence
/// does not mean that it has gone.
pub const LEAST_SILENCE: Duration = Duration::from_secs(15);
/// Posts that are on their way at once: 42 KB.
const WINDOW: usize = 32;
/// The first pause after the relay had no room, and the longest: it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// Numbers of POST that one message uses up: two mailboxes, and none is 0.
pub const IDS: u64 = 2 * MAX_FRAGMENTS as u64;

/// What is posted: one message.
pub struct Letter {
    /// [`Kind::Message`] or [`Kind::Item`].
    pub kind: Kind,
    /// Names it; the sequence is 0.
    pub id: MessageId,
    /// At most [`crate::proto::datagram::packet::MAX_MESSAGE`] bytes.
    pub body: Vec<u8>,
}

/// Who writes to whom.
pub struct Parties<'a> {
    /// The sender's key.
    pub me: &'a KeyPair,
    /// The recipient's.
    pub peer: &'a PublicKey,
    /// The recipient's `access`, 32 bytes.
    pub access: &'a [u8; 32],
    /// The mailbox, and the one for when nobody answers there.
    pub channels: (Channel, Option<Channel>),
}

/// How long what may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From when all is confirmed to the first RECEIPT.
    pub answer: Duration,
    /// From RECEIPT to RECEIPT, though not less than [`LEAST_SILENCE`]; and for the relay from one
    /// sign of progress to the next.
    pub silence: Duration,
}

/// What came of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The recipient has it, and flushed its output.
    Delivered,
    /// The recipient does not take it.
    Declined,
    /// The relay confirmed all of it, and the recipient did not in time.
    Queued,
    /// The relay did not take all of it, and said why.
    NotTaken(ErrorCode),
    /// The relay did not confirm all of it.
    Unconfirmed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packet {
    Due,
    Out,
    Confirmed,
}

/// The message in one mailbox.
struct Leg {
    channel: Channel,
    /// Where: of the epoch in which the first packet was posted. The others follow it, since a
    /// reader goes from one epoch to the next.
    address: Option<Address>,
    packets: Vec<Packet>,
    /// When all of it was confirmed.
    whole: Option<Duration>,
}

impl Leg {
    fn new(channel: Channel, of: usize) -> Self {
        Self { channel, address: None, packets: vec![Packet::Due; of], whole: None }
    }

    fn next_due(&self) -> Option<usize> {
        self.packets.iter().position(|packet| *packet == Packet::Due)
    }

    fn out(&self) -> usize {
        self.packets.iter().filter(|packet| **packet == Packet::Out).count()
    }

    /// What is not confirmed goes out again; with `all` what is confirmed, too.
    fn again(&mut self, all: bool) {
        for packet in self.packets.iter_mut().filter(|p| all || **p == Packet::Out) {
            *packet = Packet::Due;
        }
        if all {
            (self.whole, self.address) = (None, None);
        }
    }
}

/// The state of one message until its [`Outcome`].
pub struct Posting {
    me: KeyPair,
    peer: PublicKey,
    sealer: Sealer,
    letter: Letter,
    time_ms: u64,
    ack_key: Secret<32>,
    awaited: Awaited,
    receipts: Mailbox,
    first_id: u64,
    patience: Patience,
    /// The mailbox, and the other one.
    legs: Vec<Leg>,
    /// The proof for the mailbox of receipts on the present link.
    proof: Option<[u8; PROOF_LEN]>,
    /// The relay has been asked for the receipts.
    subscribed: bool,
    /// Receipts up to this one were read and may go.
    read: Option<(u64, Log)>,
    /// Those that counted: a relay that shows one again proves nothing.
    counted: BTreeSet<Mac1>,
    /// When the last RECEIPT came.
    heard: Option<Duration>,
    /// When the relay last confirmed something; first, when it was reached.
    moved: Option<Duration>,
    /// Why the relay took something not, since it last took something.
    full: Option<ErrorCode>,
    /// Nothing is asked of a full relay before this.
    retry: Duration,
    pause: Duration,
    settled: Option<Outcome>,
}

impl Posting {
    /// `letter`, stamped now. Its POSTs have the [`IDS`] numbers from `first_id` on, which is not 0.
    /// `None` for a key that no mailbox can be made of.
    pub fn new(
        parties: Parties<'_>,
        letter: Letter,
        first_id: u64,
        patience: Patience,
        now: Now,
        rng: &mut dyn Random,
    ) -> Option<Self> {
        let Parties { me, peer, access, channels } = parties;
        let mut ack_key = Secret::zeroed();
        rng.fill(ack_key.expose_mut());
        let time_ms = now.unix_ms;
        let receipts = Channel::receipts(ack_key.expose(), letter.id);
        let of = fragments(letter.body.len());
        let legs = std::iter::once(channels.0).chain(channels.1);
        Some(Self {
            me: me.duplicate(),
            peer: *peer,
            sealer: Sealer::new(me, peer, access),
            time_ms,
            awaited: Awaited::new(me.public(), letter.id, ack_key.expose()),
            receipts: receipts.at(me.public(), epoch(time_ms))?,
            ack_key,
            letter,
            first_id,
            patience,
            legs: legs.map(|channel| Leg::new(channel, of)).collect(),
            proof: None,
            subscribed: false,
            read: None,
            counted: BTreeSet::new(),
            heard: None,
            moved: None,
            full: None,
            retry: Duration::ZERO,
            pause: FIRST_PAUSE,
            settled: None,
        })
    }

    /// How long the message is, in bytes.
    pub fn len(&self) -> usize {
        self.letter.body.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.letter.body.is_empty()
    }

    /// A new link: to the relay whose `challenge` it is, with the handshake hash `hash`.
    ///
    /// # Errors
    /// [`Violation::Malformed`] for a challenge that is no key.
    pub fn linked(
        &mut self,
        challenge: &[u8; 32],
        hash: &[u8; HASH_LEN],
        now: Now,
    ) -> Result<(), Violation> {
        let reader = Reader::new(&self.me, challenge).ok_or(Violation::Malformed)?;
        self.proof = reader.prove(&self.receipts, hash);
        self.subscribed = false;
        self.legs.iter_mut().for_each(|leg| leg.again(false));
        self.moved.get_or_insert(now.mono);
        Ok(())
    }

    /// The next link is to another relay, which has nothing of it.
    pub fn start_over(&mut self) {
        self.legs.iter_mut().for_each(|leg| leg.again(true));
        self.read = None;
    }

    /// Whether the relay holds the message.
    pub fn is_confirmed(&self) -> bool {
        self.legs[0].whole.is_some()
    }

    /// Gives `send` all cells that are due on the present link. To be called after each
    /// [`Posting::linked`] and [`Posting::hear`], and at [`Posting::deadline`].
    pub fn fill(&mut self, now: Now, rng: &mut dyn Random, send: &mut dyn FnMut(&Cell<'_>)) {
        let Some(proof) = self.proof else { return };
        self.thank(send);
        if now.mono < self.retry || self.settled.is_some() {
            return;
        }
        if !std::mem::replace(&mut self.subscribed, true) {
            let address = self.receipts.address;
            send(&Cell { address, body: &proof, ..Cell::new(Command::Subscribe) });
        }
        let window = if self.full.is_some() { 1 } else { WINDOW };
        while self.legs.iter().map(Leg::out).sum::<usize>() < window {
            let Some((leg, fragment)) = self.next_due(now) else { break };
            self.post(leg, fragment, now, rng, send);
        }
    }

    /// Nothing more is wanted on this link for this message.
    pub fn leave(&mut self, send: &mut dyn FnMut(&Cell<'_>)) {
        self.thank(send);
        if std::mem::take(&mut self.subscribed) && self.proof.take().is_some() {
            send(&Cell { address: self.receipts.address, ..Cell::new(Command::Leave) });
        }
    }

    fn thank(&mut self, send: &mut dyn FnMut(&Cell<'_>)) {
        if let Some((id, log)) = self.read.take() {
            let address = self.receipts.address;
            send(&Cell { id, log, address, ..Cell::new(Command::Ack) });
        }
    }

    fn next_due(&self, now: Now) -> Option<(usize, usize)> {
        let due = |leg: usize| Some((leg, self.legs.get(leg)?.next_due()?));
        due(0).or_else(|| self.wants_public(now).then(|| due(1)).flatten())
    }

    /// Whether the other mailbox is to have it too.
    fn wants_public(&self, now: Now) -> bool {
        self.heard.is_none() && self.public_at().is_some_and(|at| now.mono >= at)
    }

    fn public_at(&self) -> Option<Duration> {
        self.legs[0].whole.map(|whole| whole + PUBLIC_AFTER.min(self.patience.answer / 2))
    }

    fn post(
        &mut self,
        leg: usize,
        fragment: usize,
        now: Now,
        rng: &mut dyn Random,
        send: &mut dyn FnMut(&Cell<'_>),
    ) {
        let place = &mut self.legs[leg];
        place.packets[fragment] = Packet::Out;
        let present = || place.channel.at(&self.peer, epoch(now.unix_ms)).map(|m| m.address);
        let Some(address) = place.address.or_else(present) else { return };
        place.address = Some(address);
        let head = Head {
            kind: self.letter.kind,
            way: Way::Relay,
            more: false,
            id: self.letter.id,
            time_ms: self.time_ms,
            ack_key: self.ack_key.expose(),
            fragment: fragment as u16,
            of: place.packets.len() as u16,
        };
        let mut packet = [0; PACKET_LEN];
        self.sealer.seal(&head, fragment_of(&self.letter.body, fragment), rng, &mut packet);
        let id = self.first_id + (leg * usize::from(MAX_FRAGMENTS) + fragment) as u64;
        send(&Cell::post(id, address, &packet));
    }

    /// Takes a cell of the relay. What is about something else changes nothing.
    ///
    /// # Errors
    /// [`Violation::OutOfOrder`] for what a relay does not send.
    pub fn hear(&mut self, cell: &Cell<'_>, now: Now) -> Result<(), Violation> {
        match cell.command {
            Command::Ack => self.confirmed(cell.id, now),
            Command::Error => self.refused(cell, now),
            Command::Cell if cell.address == self.receipts.address => self.receipt(cell, now),
            Command::Cell | Command::Live | Command::Noop => {}
            _ => return Err(Violation::OutOfOrder),
        }
        Ok(())
    }

    fn packet(&mut self, id: u64) -> Option<(&mut Leg, usize)> {
        let number = id.checked_sub(self.first_id).filter(|number| *number < IDS)? as usize;
        let fragment = number % usize::from(MAX_FRAGMENTS);
        let leg = self.legs.get_mut(number / usize::from(MAX_FRAGMENTS))?;
        (leg.packets.get(fragment) == Some(&Packet::Out)).then_some((leg, fragment))
    }

    fn confirmed(&mut self, id: u64, now: Now) {
        let Some((leg, fragment)) = self.packet(id) else { return };
        leg.packets[fragment] = Packet::Confirmed;
        if leg.packets.iter().all(|packet| *packet == Packet::Confirmed) {
            leg.whole = Some(now.mono);
        }
        self.moved = Some(now.mono);
        (self.full, self.pause) = (None, FIRST_PAUSE);
    }

    fn refused(&mut self, cell: &Cell<'_>, now: Now) {
        let code = cell.body.first().copied().and_then(ErrorCode::from_byte);
        if let Some((leg, fragment)) = self.packet(cell.id) {
            leg.packets[fragment] = Packet::Due;
        } else if cell.id == 0 && cell.address == self.receipts.address {
            self.subscribed = false;
        } else {
            return;
        }
        self.full = Some(code.unwrap_or(ErrorCode::RelayFull));
        if now.mono >= self.retry {
            self.retry = now.mono + self.pause;
            self.pause = (self.pause * 2).min(MAX_PAUSE);
        }
    }

    fn receipt(&mut self, cell: &Cell<'_>, now: Now) {
        // Whatever it is, nobody else wants it.
        if cell.flags & FLAG_VOLATILE == 0 {
            self.read = Some((cell.id, cell.log));
        }
        let Some(packet) = cell.packet() else { return };
        let Some(status) = self.awaited.read(&self.me, &self.peer, packet) else { return };
        if self.counted.len() >= MAX_COUNTED || !self.counted.insert(mac1_of(packet)) {
            return;
        }
        self.heard = Some(now.mono);
        let settled = match status {
            Status::Received => return,
            Status::Delivered => Outcome::Delivered,
            Status::Declined => Outcome::Declined,
        };
        self.settled.get_or_insert(settled);
    }

    /// What came of it, once that is known.
    pub fn outcome(&mut self, now: Now) -> Option<Outcome> {
        if self.settled.is_none() && self.gives_up_at().is_some_and(|at| now.mono >= at) {
            self.settled = Some(match self.full {
                _ if self.is_confirmed() => Outcome::Queued,
                Some(code) => Outcome::NotTaken(code),
                None => Outcome::Unconfirmed,
            });
        }
        self.settled
    }

    /// When nothing more is waited for.
    fn gives_up_at(&self) -> Option<Duration> {
        let stuck = self.moved? + self.patience.silence;
        let Some(whole) = self.legs[0].whole else { return Some(stuck) };
        let answer = match self.heard {
            Some(heard) => return Some(heard + self.patience.silence.max(LEAST_SILENCE)),
            None => whole + self.patience.answer,
        };
        // Who hears us only in the other mailbox has a moment for what is there.
        Some(match self.legs.get(1) {
            Some(Leg { whole: Some(whole), .. }) => answer.max(*whole + self.grace()),
            Some(_) if self.full.is_none() => answer.max(stuck),
            _ => answer,
        })
    }

    /// What is left of the time for an answer when the other mailbox is written to.
    fn grace(&self) -> Duration {
        self.patience.answer - PUBLIC_AFTER.min(self.patience.answer / 2)
    }

    /// When to call [`Posting::fill`] and [`Posting::outcome`] next, on [`Now::mono`].
    pub fn deadline(&self) -> Option<Duration> {
        // With posts on their way it is what comes back that moves the window, and not time.
        let idle = self.proof.is_some() && self.legs.iter().all(|leg| leg.out() == 0);
        let due = |leg: usize| self.legs.get(leg).is_some_and(|leg| leg.next_due().is_some());
        let retry = (idle && (!self.subscribed || due(0))).then_some(self.retry);
        let public = if idle && self.heard.is_none() && due(1) { self.public_at() } else { None };
        let public = public.map(|at| at.max(self.retry));
        [retry, public, self.gives_up_at()].into_iter().flatten().min()
    }

    /// The link is gone.
    pub fn unlinked(&mut self) {
        self.proof = None;
    }
}

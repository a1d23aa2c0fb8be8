//! Asks by a relay who of those that are sought listens there now. PROTOCOL.md, 5.4 and 5.7.
//!
//! Each who is sought is asked by PROBEs into the mailbox that they read, and answers into the
//! receipts mailbox of the question, which is read here. A question is good for several PROBEs, so
//! that who is asked for long has little to remember, and for a short time, so that an answer that a
//! relay shows again soon says nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::roster::{Entry, Id, Roster, Status};
use super::seeker::{Change, Sought};
use crate::crypto::noise::HASH_LEN;
use crate::crypto::sodium::{KeyPair, PublicKey, Random};
use crate::proto::datagram::packet::{PACKET_LEN, Sealer, Way};
use crate::proto::datagram::presence::instance;
use crate::proto::datagram::probe::{EMPTY_MAP, Question};
use crate::proto::relay::cell::{Address, Cell, Command};
use crate::proto::relay::mailbox::{Channel, Reader, epoch};
use crate::proto::time::Now;

/// Everybody is asked again after this, or this much for each who is sought, if that is more.
const AGAIN: Duration = Duration::from_secs(4);
const AGAIN_EACH: Duration = Duration::from_millis(10);
/// A question is asked for this long; answers to it count for as long again.
const RENEW: Duration = Duration::from_secs(20);
/// Programs of one group that are listed.
const MOST_OF_GROUP: usize = 1024;

/// Names a link: its handshake hash.
type LinkName = [u8; HASH_LEN];

struct Target {
    public: PublicKey,
    is_group: bool,
    sealer: Sealer,
    channel: Option<Channel>,
    /// The present question, and the one before it.
    questions: VecDeque<Asked>,
}

struct Asked {
    question: Question,
    /// The epoch of its PROBEs, and so of the mailbox of its answers.
    epoch: u64,
    mailbox: Address,
    since: Duration,
}

/// Where we are linked to.
struct Link {
    reader: Reader,
    name: LinkName,
    at: SocketAddr,
}

/// The questions, and who answered.
pub struct Inquiry {
    me: KeyPair,
    targets: Vec<Target>,
    /// Whose answer a mailbox of receipts takes.
    by_mailbox: BTreeMap<Address, usize>,
    link: Option<Link>,
    next: Duration,
    posted: u64,
    roster: Roster,
    /// When the last answer of each was made, Unix ms: none counts twice, whatever a relay shows.
    answered: BTreeMap<Id, u64>,
    changes: Vec<Change>,
    refused: bool,
}

impl Inquiry {
    /// The holder of `me` asks for `sought`, once there is a link.
    pub fn new(me: KeyPair, sought: Vec<Sought>) -> Self {
        let target = |to: Sought| Target {
            public: to.public,
            is_group: to.is_group,
            sealer: Sealer::new(&me, &to.public, &to.access),
            channel: match to.is_group {
                true => Some(Channel::open(&to.access)),
                false => Channel::pair(&me, &to.public, me.public(), &to.public),
            },
            questions: VecDeque::new(),
        };
        let targets = sought.into_iter().map(target).collect();
        Self {
            me,
            targets,
            by_mailbox: BTreeMap::new(),
            link: None,
            next: Duration::ZERO,
            posted: 0,
            roster: Roster::default(),
            answered: BTreeMap::new(),
            changes: Vec::new(),
            refused: false,
        }
    }

    /// There is a new link, with this `challenge`, to the relay at `at`: all are asked at once.
    /// Whether the challenge is one.
    pub fn linked(
        &mut self,
        challenge: &[u8; 32],
        name: LinkName,
        at: SocketAddr,
        now: Now,
    ) -> bool {
        self.cut();
        self.next = now.mono;
        self.link = Reader::new(&self.me, challenge).map(|reader| Link { reader, name, at });
        self.link.is_some()
    }

    /// The link is gone, and with it whatever was asked there.
    pub fn cut(&mut self) {
        self.link = None;
        self.by_mailbox.clear();
        self.targets.iter_mut().for_each(|target| target.questions.clear());
    }

    /// Takes what the relay says. Whether it was an answer.
    pub fn hear(&mut self, cell: &Cell<'_>, now: Now) -> bool {
        match cell.command {
            Command::Cell => self.answered(cell, now).is_some(),
            // A mailbox of ours that the relay does not let us read, or one that holds no PROBE.
            Command::Error => {
                self.refused |= self.by_mailbox.contains_key(&cell.address);
                false
            }
            _ => false,
        }
    }

    fn answered(&mut self, cell: &Cell<'_>, now: Now) -> Option<()> {
        let (at, packet) = (self.link.as_ref()?.at, cell.packet()?);
        let sought = *self.by_mailbox.get(&cell.address)?;
        let target = &self.targets[sought];
        let asked = target.questions.iter().find(|asked| asked.mailbox == cell.address)?;
        if !asked.question.recognises(packet) {
            return None;
        }
        let here = asked.question.open(Way::Relay, &self.me, &target.public, packet, now, &[])?;
        let answering = instance(here.body())?;
        // Of a contact it is enough that somebody is there; those of a group are counted.
        let instance = if target.is_group { answering } else { [0; 8] };
        let id = Id { sought, member: None, instance };
        if self.answered.get(&id).is_some_and(|last| here.time_ms() <= *last) {
            return None;
        }
        let known = self.roster.iter().filter(|(other, _)| other.sought == sought).count();
        if self.roster.get(&id).is_none() && known >= MOST_OF_GROUP {
            return None;
        }
        self.answered.insert(id, here.time_ms());
        let entry = Entry {
            status: Status::Online,
            address: at,
            endpoints: Vec::new(),
            claim: None,
            heard: now.mono,
        };
        if self.roster.heard(id, entry.clone()) {
            self.changes.push((id, entry));
        }
        Some(())
    }

    /// Says what there is to say now, and notices who is away.
    pub fn poll(&mut self, now: Now, rng: &mut dyn Random, say: &mut dyn FnMut(&Cell<'_>)) {
        for (id, entry) in self.roster.tick(now.mono) {
            if entry.status == Status::Forgotten {
                self.answered.remove(&id);
            }
            self.changes.push((id, entry));
        }
        if self.link.is_none() || now.mono < self.next {
            return;
        }
        self.next = now.mono + AGAIN.max(AGAIN_EACH * self.targets.len() as u32);
        for sought in 0..self.targets.len() {
            self.ask(sought, now, rng, say);
        }
    }

    fn ask(
        &mut self,
        sought: usize,
        now: Now,
        rng: &mut dyn Random,
        say: &mut dyn FnMut(&Cell<'_>),
    ) {
        let today = epoch(now.unix_ms);
        let current = self.targets[sought].questions.back();
        let is_good =
            current.is_some_and(|q| q.epoch == today && now.mono < q.since.saturating_add(RENEW));
        if !is_good && self.renew(sought, today, now, rng, say).is_none() {
            return;
        }
        let target = &self.targets[sought];
        let mailbox = target.channel.as_ref().and_then(|to| to.at(&target.public, today));
        let (Some(asked), Some(mailbox)) = (target.questions.back(), mailbox) else { return };
        let mut packet = [0; PACKET_LEN];
        asked.question.packet(&target.sealer, Way::Relay, EMPTY_MAP, now, rng, &mut packet);
        self.posted += 1;
        say(&Cell::post(self.posted, mailbox.address, &packet).volatile());
    }

    /// Begins a new question, whose answers are read from now on; the last but one is forgotten.
    fn renew(
        &mut self,
        sought: usize,
        today: u64,
        now: Now,
        rng: &mut dyn Random,
        say: &mut dyn FnMut(&Cell<'_>),
    ) -> Option<()> {
        let link = self.link.as_ref()?;
        let question = Question::new(self.me.public(), rng);
        let receipts = Channel::receipts(question.ack_key(), question.id());
        let mailbox = receipts.at(self.me.public(), today)?;
        let proof = link.reader.prove(&mailbox, &link.name)?;
        let address = mailbox.address;
        say(&Cell { address, body: &proof, ..Cell::new(Command::Subscribe) });
        let target = &mut self.targets[sought];
        let asked = Asked { question, epoch: today, mailbox: address, since: now.mono };
        target.questions.push_back(asked);
        self.by_mailbox.insert(address, sought);
        if target.questions.len() > 2
            && let Some(old) = target.questions.pop_front()
        {
            self.by_mailbox.remove(&old.mailbox);
            say(&Cell { address: old.mailbox, ..Cell::new(Command::Leave) });
        }
        Some(())
    }

    /// When [`Inquiry::poll`] has something to do without news.
    pub fn next_timeout(&self) -> Option<Duration> {
        let ask = self.link.as_ref().map(|_| self.next);
        ask.into_iter().chain(self.roster.next_timeout()).min()
    }

    /// Who came, went away, or was forgotten since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Who answered.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The relay did not let us read all that we wanted: not everybody can answer.
    pub fn was_refused(&self) -> bool {
        self.refused
    }
}

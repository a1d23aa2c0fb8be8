//! Asks the network who of those that are sought is on it. PROTOCOL.md, 6.2 and 6.4.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::introduction::is_proven;
use super::pursuit::Pursuit;
use super::roster::Roster;
pub use super::roster::{Entry, Id, Status};
pub use super::schedule::MOST;
use super::schedule::{ROUND, Schedule, padded};
use crate::crypto::sodium::{KeyPair, PublicKey, Random};
use crate::net::lan::links::{Link, scoped};
use crate::proto::bucket::Bucket;
use crate::proto::datagram::cache::BoxCache;
use crate::proto::datagram::packet::{MessageId, Opened, PACKET_LEN, Sealer, Way};
use crate::proto::datagram::presence::{Body, HereBody, MAX_ADDRESSES, ProbeBody};
use crate::proto::datagram::probe::Question;
use crate::proto::time::Now;

/// A question to everybody is asked anew after this; the one before it still counts.
const RENEW: Duration = Duration::from_secs(2);
/// Answers that are looked at, a second and at once: each costs a hash for every open question.
const INTAKE: (u32, u32) = (500, 2000);
/// Announcers of one contact.
const MOST_OF_ONE: usize = 8;
/// Announcers of one group.
const MOST_OF_GROUP: usize = 64;
/// Announcers in all.
const MOST_IN_ALL: usize = 1024;
/// Addresses in use are asked again no more often than one in this time.
const RECHECK_PACE: Duration = Duration::from_millis(10);

/// Who is sought.
pub struct Sought {
    /// The key that must answer.
    pub public: PublicKey,
    /// Its `access`, 32 bytes.
    pub access: [u8; 32],
    /// Several people hold it, and are to introduce themselves.
    pub is_group: bool,
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To every host of every link.
    Everybody,
    /// To one.
    One(SocketAddr),
}

/// Somebody came, moved, went away, or was forgotten.
pub type Change = (Id, Entry);

struct Target {
    public: PublicKey,
    is_group: bool,
    sealer: Sealer,
    /// The newest first, with when it was made.
    questions: VecDeque<(Question, Duration)>,
}

impl Target {
    fn renew(&mut self, me: &PublicKey, now: Duration, rng: &mut dyn Random) {
        if self.questions.front().is_none_or(|(_, made)| now >= *made + RENEW) {
            self.questions.push_front((Question::new(me, rng), now));
            self.questions.truncate(2);
        }
    }
}

/// What an answer was to.
#[derive(Clone, Copy)]
enum Asked {
    Everybody(usize),
    At(Id, SocketAddr),
}

/// The state of one seeker.
pub struct Seeker {
    me: KeyPair,
    /// For introductions: forgotten with the seeker.
    throwaway: KeyPair,
    targets: Vec<Target>,
    dummies: Vec<Sealer>,
    schedule: Schedule,
    /// Targets and, behind them, dummies, in the order of this sweep.
    order: Vec<usize>,
    /// Sealed packets of the round, with their times.
    queue: VecDeque<(Duration, Box<[u8; PACKET_LEN]>)>,
    links: Vec<Link>,
    port: u16,
    pursuits: BTreeMap<Id, Pursuit>,
    roster: Roster,
    intake: Bucket,
    caches: [BoxCache; 1],
    changes: Vec<Change>,
}

impl Seeker {
    /// The holder of `me` seeks `sought`, of whom there are at most [`MOST`], from UDP port `port`;
    /// with `watch` it goes on after the first two seconds.
    pub fn new(
        me: KeyPair,
        sought: Vec<Sought>,
        port: u16,
        watch: bool,
        now: Now,
        rng: &mut dyn Random,
    ) -> Self {
        let target = |sought: Sought| Target {
            sealer: Sealer::new(&me, &sought.public, &sought.access),
            public: sought.public,
            is_group: sought.is_group,
            questions: VecDeque::new(),
        };
        let targets: Vec<_> = sought.into_iter().take(MOST).map(target).collect();
        let missing = padded(targets.len()) - targets.len();
        let dummies = (0..missing).map(|_| dummy(&me, rng)).collect();
        let (rate, burst) = INTAKE;
        Self {
            schedule: Schedule::new(targets.len(), watch, now.mono),
            order: (0..padded(targets.len())).collect(),
            throwaway: KeyPair::generate(),
            me,
            targets,
            dummies,
            queue: VecDeque::new(),
            links: Vec::new(),
            port,
            pursuits: BTreeMap::new(),
            roster: Roster::default(),
            intake: Bucket::new(rate, burst),
            caches: [BoxCache::new()],
            changes: Vec::new(),
        }
    }

    /// The links that are up, with our addresses. If they are others than before, everybody is
    /// asked again at once.
    pub fn set_links(&mut self, links: Vec<Link>, now: Now) {
        if self.links != links {
            self.restart(now);
            self.links = links;
        }
    }

    /// Asks everybody again at once: the machine was asleep, perhaps elsewhere.
    pub fn restart(&mut self, now: Now) {
        self.queue.clear();
        self.schedule.restart(now.mono);
    }

    /// Sends what is due.
    pub fn poll(
        &mut self,
        now: Now,
        rng: &mut dyn Random,
        send: &mut dyn FnMut(To, &[u8; PACKET_LEN]),
    ) {
        if let Some(round) = self.schedule.due(now.mono) {
            self.seal_round(round, now, rng);
        }
        let due = self.queue.partition_point(|(at, _)| *at <= now.mono);
        self.queue.drain(..due).for_each(|(_, packet)| send(To::Everybody, &packet));
        self.check_addresses(now, rng, send);
        for (id, entry) in self.roster.tick(now.mono) {
            if let Some(pursuit) = self.pursuits.get_mut(&id) {
                pursuit.give_up();
            }
            self.changes.push((id, entry));
        }
        self.publish(now);
        let roster = &self.roster;
        self.pursuits.retain(|id, p| roster.get(id).is_some() || !p.is_hopeless());
    }

    /// Seals a whole round before the first packet of it is sent, so that no pause between two of
    /// them tells anything.
    fn seal_round(&mut self, round: usize, now: Now, rng: &mut dyn Random) {
        if round == 0 {
            shuffle(&mut self.order, rng);
        }
        let me = self.me.public();
        let gap = self.schedule.gap();
        let (port, dummies) = (self.port, &self.dummies);
        let addresses = own_addresses(&self.links);
        if addresses.is_empty() {
            return;
        }
        let body = |introduce| ProbeBody { addresses: addresses.clone(), port, introduce }.encode();
        let (plain, introduce) = (body(None), body(Some(*self.throwaway.public())));
        for (nth, which) in self.order.iter().skip(round * ROUND).take(ROUND).enumerate() {
            let mut packet = Box::new([0; PACKET_LEN]);
            match self.targets.get_mut(*which) {
                Some(target) => {
                    target.renew(me, now.mono, rng);
                    let body = if target.is_group { &introduce } else { &plain };
                    if let Some((question, _)) = target.questions.front() {
                        ask(question, &target.sealer, body, now, rng, &mut packet);
                    }
                }
                None => {
                    let to = &dummies[*which - self.targets.len()];
                    ask(&Question::new(me, rng), to, &plain, now, rng, &mut packet);
                }
            }
            self.queue.push_back((now.mono + gap * nth as u32, packet));
        }
    }

    fn check_addresses(
        &mut self,
        now: Now,
        rng: &mut dyn Random,
        send: &mut dyn FnMut(To, &[u8; PACKET_LEN]),
    ) {
        let pace = RECHECK_PACE * self.pursuits.len() as u32;
        let (me, port) = (self.me.public(), self.port);
        let addresses = own_addresses(&self.links);
        let mut packet = [0; PACKET_LEN];
        for (id, pursuit) in &mut self.pursuits {
            let target = &self.targets[id.sought];
            pursuit.recheck(me, pace, now.mono, rng);
            for (to, question) in pursuit.due(now.mono) {
                let introduce = target.is_group.then(|| *self.throwaway.public());
                let body = ProbeBody { addresses: addresses.clone(), port, introduce }.encode();
                ask(question, &target.sealer, &body, now, rng, &mut packet);
                send(To::One(to), &packet);
            }
        }
    }

    /// Takes a datagram that came from `from` by the link of number `link`. Whether it is an answer.
    pub fn feed(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        link: u32,
        now: Now,
        rng: &mut dyn Random,
    ) -> bool {
        let Ok(packet) = <&[u8; PACKET_LEN]>::try_from(datagram) else { return false };
        if !self.intake.take(now.mono) {
            return false;
        }
        let Some((asked, here, body)) = self.open(packet, now) else { return false };
        match asked {
            Asked::Everybody(sought) => {
                let id = id_of(sought, &body);
                self.consider(id, &body, link, from, now, rng);
            }
            // Only from where it was asked.
            Asked::At(id, at) if at == from && id == id_of(id.sought, &body) => {
                self.verified(id, at, body, now);
            }
            Asked::At(..) => return false,
        }
        self.keep_key(here);
        self.publish(now);
        true
    }

    fn open(&self, packet: &[u8; PACKET_LEN], now: Now) -> Option<(Asked, Opened, HereBody)> {
        let (asked, question) = self.questions().find(|(_, q)| q.recognises(packet))?;
        let sought = match asked {
            Asked::Everybody(sought) => sought,
            Asked::At(id, _) => id.sought,
        };
        let target = &self.targets[sought];
        let here =
            question.open(Way::Network, &self.me, &target.public, packet, now, &self.caches)?;
        let body = HereBody::decode(here.body())?;
        self.may_introduce(target, &body, question.id()).then_some((asked, here, body))
    }

    /// Members introduce themselves if they were asked to, and prove that they are who they are.
    fn may_introduce(&self, target: &Target, body: &HereBody, id: MessageId) -> bool {
        body.introduction.as_ref().is_none_or(|introduction| {
            target.is_group && is_proven(introduction, &target.public, id, &self.throwaway)
        })
    }

    fn questions(&self) -> impl Iterator<Item = (Asked, &Question)> {
        let everybody = self.targets.iter().enumerate().flat_map(|(sought, target)| {
            target.questions.iter().map(move |(q, _)| (Asked::Everybody(sought), q))
        });
        let addresses = self
            .pursuits
            .iter()
            .flat_map(|(id, pursuit)| pursuit.asked().map(move |(at, q)| (Asked::At(*id, at), q)));
        addresses.chain(everybody)
    }

    fn keep_key(&mut self, mut here: Opened) {
        if let Some(fresh) = here.take_fresh_key() {
            self.caches[0].insert(0, *here.sender(), fresh);
        }
    }

    /// Somebody says where it is: that is to be checked, as far as it is on this network.
    fn consider(
        &mut self,
        id: Id,
        body: &HereBody,
        link: u32,
        from: SocketAddr,
        now: Now,
        rng: &mut dyn Random,
    ) {
        if !self.pursuits.contains_key(&id) && !self.has_room(id.sought) {
            return;
        }
        let near = |ip| ip == from.ip() || self.links.iter().any(|l| is(l, link) && l.reaches(ip));
        let near = body.addresses.iter().copied().filter(|ip| near(*ip));
        let addresses: Vec<_> = near.map(|ip| scoped(ip, from.port(), link)).collect();
        let pursuit = self.pursuits.entry(id).or_insert_with(Pursuit::new);
        pursuit.propose(addresses, self.me.public(), now.mono, rng);
    }

    fn has_room(&self, sought: usize) -> bool {
        let most = if self.targets[sought].is_group { MOST_OF_GROUP } else { MOST_OF_ONE };
        let of_it = self.pursuits.keys().filter(|id| id.sought == sought).count();
        of_it < most && self.pursuits.len() < MOST_IN_ALL
    }

    fn verified(&mut self, id: Id, at: SocketAddr, body: HereBody, now: Now) {
        let Some(pursuit) = self.pursuits.get_mut(&id) else { return };
        pursuit.answered(at, now.mono);
        pursuit.latest = Some((body.endpoints, body.introduction.map(|member| member.claim)));
    }

    /// Whoever has an address that is certain enough is in the roster.
    fn publish(&mut self, now: Now) {
        for (id, pursuit) in &mut self.pursuits {
            let Some((address, heard)) = pursuit.choice(now.mono) else { continue };
            let Some((endpoints, claim)) = pursuit.latest.clone() else { continue };
            let status = Status::Online;
            let entry = Entry { status, address, endpoints, claim, heard };
            if self.roster.heard(*id, entry.clone()) {
                self.changes.push((*id, entry));
            }
        }
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Everybody who was found.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// When [`Seeker::poll`] has something to do.
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        let checks = self.pursuits.values().filter_map(|p| p.next_timeout(now.mono));
        let queued = self.queue.front().map(|(at, _)| *at);
        checks.chain(queued).chain(self.schedule.next()).chain(self.roster.next_timeout()).min()
    }
}

fn id_of(sought: usize, body: &HereBody) -> Id {
    let member = body.introduction.as_ref().map(|member| member.claim.public);
    Id { sought, member, instance: body.instance }
}

/// Whether this is the link of that number; 0 is one that the system did not tell.
fn is(link: &Link, number: u32) -> bool {
    number == 0 || link.index == number
}

/// Ours, as many as a body takes.
fn own_addresses(links: &[Link]) -> Vec<std::net::IpAddr> {
    links.iter().flat_map(Link::ips).take(MAX_ADDRESSES).collect()
}

/// Seals a PROBE with `body`, to go out on the local network, for whomever `to` seals for.
fn ask(
    question: &Question,
    to: &Sealer,
    body: &Body,
    now: Now,
    rng: &mut dyn Random,
    packet: &mut [u8; PACKET_LEN],
) {
    question.packet(to, Way::Network, body.as_bytes(), now, rng, packet);
}

/// Seals for a key that nobody holds: nobody can tell that.
fn dummy(me: &KeyPair, rng: &mut dyn Random) -> Sealer {
    let mut access = [0; 32];
    rng.fill(&mut access);
    Sealer::new(me, KeyPair::generate().public(), &access)
}

/// Fisher and Yates.
fn shuffle(order: &mut [usize], rng: &mut dyn Random) {
    for last in (1..order.len()).rev() {
        let mut bytes = [0; 8];
        rng.fill(&mut bytes);
        order.swap(last, (u64::from_be_bytes(bytes) % (last as u64 + 1)) as usize);
    }
}

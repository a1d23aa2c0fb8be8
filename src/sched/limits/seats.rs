//! Sessions with those who are let in. One with a message on its way needs a seat to be read; who
//! has fewest gets the next, and may get one from who has most.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Bounds, Buckets, Limit, REMEMBERED, SETTLING};
use crate::sched::party::{Party, Source};

/// What a session does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No message is on its way.
    Idle,
    /// It is served.
    Seated,
    /// It waits for a seat since it took this place in the order of all.
    Waiting(u64),
}

struct Member {
    party: Party,
    state: State,
    /// When it said something last.
    heard: Duration,
}

#[derive(Default)]
struct Group {
    members: BTreeSet<Source>,
    seated: BTreeSet<Source>,
    waiting: BTreeSet<(u64, Source)>,
}

impl Group {
    /// How it stands among the others, if it may have so many seats.
    fn rank(&self, seats: usize) -> Rank {
        let has = self.seated.len();
        let first = self.waiting.first().filter(|_| has < seats);
        Rank { members: self.members.len(), has, next: first.map(|(at, who)| (has, *at, *who)) }
    }
}

/// Where a group stands in the orders in which groups are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rank {
    members: usize,
    /// Its seats.
    has: usize,
    /// With them, who of it waits longest, if it may have another.
    next: Option<(usize, u64, Source)>,
}

/// The groups in those orders: what is done for a message does not depend on how many there are.
#[derive(Default)]
struct Ranks {
    largest: BTreeSet<(Reverse<usize>, Party)>,
    by_seats: BTreeSet<(usize, Party)>,
    next: BTreeSet<(usize, u64, Source)>,
}

impl Ranks {
    fn change(&mut self, party: Party, from: Rank, to: Rank) {
        if from.members != to.members {
            self.largest.remove(&(Reverse(from.members), party));
            if to.members > 0 {
                self.largest.insert((Reverse(to.members), party));
            }
        }
        if from.has != to.has {
            self.by_seats.remove(&(from.has, party));
            if to.has > 0 {
                self.by_seats.insert((to.has, party));
            }
        }
        if from.next != to.next {
            if let Some(next) = from.next {
                self.next.remove(&next);
            }
            self.next.extend(to.next);
        }
    }
}

/// The sessions of a listener, by who they are with.
pub struct Seats {
    bounds: Bounds,
    members: BTreeMap<Source, Member>,
    groups: BTreeMap<Party, Group>,
    ranks: Ranks,
    /// Those who sit, by when they said something last.
    silent: BTreeSet<(Duration, Source)>,
    seated: usize,
    waiting: usize,
    next_place: u64,
    spoken: Option<Buckets<Party>>,
}

impl Seats {
    /// Nobody is there.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            members: BTreeMap::new(),
            groups: BTreeMap::new(),
            ranks: Ranks::default(),
            silent: BTreeSet::new(),
            seated: 0,
            waiting: 0,
            next_place: 0,
            spoken: bounds.messages.map(|rate| Buckets::new(rate, REMEMBERED)),
        }
    }

    /// A session begins; a second time it changes nothing.
    pub fn enter(&mut self, source: Source, party: Party, now: Duration) {
        let member = Member { party, state: State::Idle, heard: now };
        if let Entry::Vacant(place) = self.members.entry(source) {
            place.insert(member);
            self.change(party, |group| group.members.insert(source));
        }
    }

    /// Whether a message of the session is on its way, as it stands now.
    pub fn set_busy(&mut self, source: Source, busy: bool, now: Duration) {
        let Some(member) = self.members.get(&source) else { return };
        match (member.state, busy) {
            (State::Idle, true) if self.has_seat_for(member.party) => {
                self.heard(source, now);
                return self.move_to(source, State::Seated);
            }
            (State::Idle, true) => {
                self.move_to(source, State::Waiting(self.next_place));
                self.next_place += 1;
            }
            (State::Seated | State::Waiting(_), false) => self.move_to(source, State::Idle),
            _ => return,
        }
        self.assign(now);
    }

    /// Whether nobody waits, and `party` may have one of the seats that are free.
    fn has_seat_for(&self, party: Party) -> bool {
        let of_party = || self.groups.get(&party).map_or(0, |group| group.seated.len());
        let free = self.waiting == 0 && self.seated < self.bounds.clients;
        free && of_party() < self.bounds.seats(party)
    }

    /// Something of a message came.
    pub fn heard(&mut self, source: Source, now: Duration) {
        let Some(member) = self.members.get_mut(&source) else { return };
        let before = std::mem::replace(&mut member.heard, now);
        if member.state == State::Seated && before != now {
            self.silent.remove(&(before, source));
            self.silent.insert((now, source));
        }
    }

    /// A message of the session was printed.
    pub fn spoke(&mut self, source: Source, now: Duration) {
        let party = self.members.get(&source).map(|member| member.party);
        if let (Some(party), Some(spoken)) = (party, &mut self.spoken) {
            spoken.take(party, now);
        }
    }

    /// The session is over.
    pub fn leave(&mut self, source: Source, now: Duration) {
        if !self.members.contains_key(&source) {
            return;
        }
        self.move_to(source, State::Idle);
        if let Some(Member { party, .. }) = self.members.remove(&source) {
            self.change(party, |group| group.members.remove(&source));
            if self.groups.get(&party).is_some_and(|group| group.members.is_empty()) {
                self.groups.remove(&party);
            }
        }
        self.assign(now);
    }

    /// Whether the session is not to be read now, and which limit says so.
    pub fn keeps_waiting(&self, source: Source, now: Duration) -> Option<Limit> {
        let member = self.members.get(&source)?;
        if self.rests_until(member.party) > now {
            return Some(Limit::Messages);
        }
        let State::Waiting(_) = member.state else { return None };
        let of_party = self.groups.get(&member.party).map_or(0, |group| group.seated.len());
        Some(match member.party {
            _ if of_party < self.bounds.seats(member.party) => Limit::Clients,
            Party::Address(_) => Limit::PerAddress,
            _ => Limit::PerContact,
        })
    }

    /// From when on the rate of messages lets the session be read.
    pub fn rests(&self, source: Source) -> Duration {
        self.members.get(&source).map_or(Duration::ZERO, |member| self.rests_until(member.party))
    }

    /// From when on the rate of messages lets `party` say something; `None` if there is no such rate.
    pub fn may_speak_at(&self, party: Party) -> Option<Duration> {
        self.spoken.as_ref().map(|spoken| spoken.ready_at(party))
    }

    fn rests_until(&self, party: Party) -> Duration {
        self.spoken.as_ref().map_or(Duration::ZERO, |spoken| spoken.ready_at(party))
    }

    /// Whether `party` may begin a message that, once begun, cannot be kept waiting: the limit that
    /// says no. One that is not `long` needs no seat.
    pub fn forbids(&self, party: Party, long: bool, now: Duration) -> Option<Limit> {
        let of_party = self.groups.get(&party).map_or(0, |group| group.seated.len());
        match party {
            _ if self.rests_until(party) > now => Some(Limit::Messages),
            _ if !long => None,
            Party::Address(_) if of_party >= self.bounds.seats(party) => Some(Limit::PerAddress),
            _ if of_party >= self.bounds.seats(party) => Some(Limit::PerContact),
            _ if self.seated < self.bounds.clients => None,
            // Somebody with more gives way, as in `assign`.
            _ if self.fattest().is_some_and(|(most, _)| most > of_party + 1) => None,
            _ => Some(Limit::Clients),
        }
    }

    /// When a silent session's seat is due to another.
    pub fn next_deadline(&self) -> Option<Duration> {
        let scarce = self.waiting > 0 && self.seated >= self.bounds.clients;
        let wanted = || self.neediest().is_some();
        (scarce && wanted()).then(|| self.most_silent().map(|(at, _)| at)).flatten()
    }

    /// Gives out what is free, and what is due to others. To be called when [`Seats::next_deadline`]
    /// is over; all else does it by itself.
    pub fn assign(&mut self, now: Duration) {
        while self.waiting > 0 {
            let Some((has, source)) = self.neediest() else { return };
            if self.seated >= self.bounds.clients {
                let rich = self.fattest().filter(|(most, _)| *most > has + 1).map(|(_, s)| s);
                let silent = || self.most_silent().filter(|(at, _)| *at <= now).map(|(_, s)| s);
                let Some(gives) = rich.or_else(silent) else { return };
                self.move_to(gives, State::Waiting(self.next_place));
                self.next_place += 1;
            }
            // What it says from now on counts.
            self.heard(source, now);
            self.move_to(source, State::Seated);
        }
    }

    /// Of those who wait and may have one more: whose party has fewest, then who waits longest.
    fn neediest(&self) -> Option<(usize, Source)> {
        self.ranks.next.first().map(|(has, _, source)| (*has, *source))
    }

    /// The most seats that a party has, and the one that it took last.
    fn fattest(&self) -> Option<(usize, Source)> {
        let (most, party) = self.ranks.by_seats.last()?;
        self.groups.get(party)?.seated.last().map(|source| (*most, *source))
    }

    /// Who sits and has been silent longest, and when that is too long.
    fn most_silent(&self) -> Option<(Duration, Source)> {
        self.silent.first().map(|(heard, source)| (*heard + self.bounds.silence, *source))
    }

    /// Who goes when there are too many connections, of those that `may`: of the party with most
    /// sessions, one that says nothing, else the one that came last and waits; but nobody who has been
    /// so for less than [`SETTLING`].
    pub fn yields(&self, now: Duration, may: impl Fn(Source) -> bool) -> Option<Source> {
        let settled = |source: Source| {
            let member = self.members.get(&source).filter(|member| member.heard + SETTLING <= now);
            member.filter(|_| may(source)).map(|member| member.state)
        };
        let largest = || self.ranks.largest.iter().filter_map(|(_, party)| self.groups.get(party));
        let idle = |group: &Group| {
            group.members.iter().copied().find(|source| settled(*source) == Some(State::Idle))
        };
        let last = |group: &Group| {
            let mut waiting = group.waiting.iter().rev().map(|(_, source)| *source);
            waiting.find(|source| settled(*source).is_some())
        };
        largest().find_map(idle).or_else(|| largest().find_map(last))
    }

    /// Sessions that are served, and sessions that wait.
    pub fn load(&self) -> (usize, usize) {
        (self.seated, self.waiting)
    }

    fn move_to(&mut self, source: Source, to: State) {
        let Some(member) = self.members.get_mut(&source) else { return };
        let from = std::mem::replace(&mut member.state, to);
        let (party, heard) = (member.party, member.heard);
        match from {
            State::Idle => {}
            State::Seated => {
                self.silent.remove(&(heard, source));
                self.seated -= 1;
            }
            State::Waiting(_) => self.waiting -= 1,
        }
        match to {
            State::Idle => {}
            State::Seated => {
                self.silent.insert((heard, source));
                self.seated += 1;
            }
            State::Waiting(_) => self.waiting += 1,
        }
        self.change(party, |group| {
            match from {
                State::Idle => true,
                State::Seated => group.seated.remove(&source),
                State::Waiting(place) => group.waiting.remove(&(place, source)),
            };
            match to {
                State::Idle => true,
                State::Seated => group.seated.insert(source),
                State::Waiting(place) => group.waiting.insert((place, source)),
            }
        });
    }

    /// Changes the group of `party`, and where it stands.
    fn change(&mut self, party: Party, change: impl FnOnce(&mut Group) -> bool) {
        let seats = self.bounds.seats(party);
        let group = self.groups.entry(party).or_default();
        let from = group.rank(seats);
        change(group);
        self.ranks.change(party, from, group.rank(seats));
    }
}

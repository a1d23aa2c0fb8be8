//! Sessions with those who are let in. One with a message on its way needs a seat to be read; who
//! has fewest gets the next, and may get one from who has most.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Bounds, Buckets, Limit, Party, REMEMBERED};
use crate::proto::mux::Source;

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

/// The sessions of a listener, by who they are with.
pub struct Seats {
    bounds: Bounds,
    members: BTreeMap<Source, Member>,
    groups: BTreeMap<Party, Group>,
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
            self.groups.entry(party).or_default().members.insert(source);
        }
    }

    /// Whether a message of the session is on its way, as it stands now.
    pub fn set_busy(&mut self, source: Source, busy: bool, now: Duration) {
        let Some(member) = self.members.get(&source) else { return };
        match (member.state, busy) {
            (State::Idle, true) => {
                self.move_to(source, State::Waiting(self.next_place));
                self.next_place += 1;
            }
            (State::Seated | State::Waiting(_), false) => self.move_to(source, State::Idle),
            _ => return,
        }
        self.assign(now);
    }

    /// Something of a message came.
    pub fn heard(&mut self, source: Source, now: Duration) {
        if let Some(member) = self.members.get_mut(&source) {
            member.heard = now;
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
        if let Some(Member { party, .. }) = self.members.remove(&source)
            && let Some(group) = self.groups.get_mut(&party)
        {
            group.members.remove(&source);
            if group.members.is_empty() {
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
        let may = self.groups.iter().filter(|(party, group)| {
            !group.waiting.is_empty() && group.seated.len() < self.bounds.seats(**party)
        });
        let next = may.filter_map(|(_, group)| {
            group.waiting.first().map(|(place, source)| (group.seated.len(), *place, *source))
        });
        next.min().map(|(has, _, source)| (has, source))
    }

    /// The most seats that a party has, and the one that it took last.
    fn fattest(&self) -> Option<(usize, Source)> {
        let group = self.groups.values().max_by_key(|group| group.seated.len())?;
        group.seated.last().map(|source| (group.seated.len(), *source))
    }

    /// Who sits and has been silent longest, and when that is too long.
    fn most_silent(&self) -> Option<(Duration, Source)> {
        let seated = self.members.iter().filter(|(_, member)| member.state == State::Seated);
        let oldest = seated.map(|(source, member)| (member.heard, *source)).min();
        oldest.map(|(heard, source)| (heard + self.bounds.silence, source))
    }

    /// Who goes when there are too many connections, of those that `may`: of the party with most
    /// sessions, one that says nothing, else the one that came last and waits.
    pub fn yields(&self, may: impl Fn(Source) -> bool) -> Option<Source> {
        let with = |source: &&Source, wanted: fn(&State) -> bool| {
            self.members.get(*source).is_some_and(|member| wanted(&member.state))
        };
        let mut groups: Vec<_> = self.groups.values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.members.len()));
        let idle = |group: &&Group| {
            let mut members = group.members.iter().filter(|source| may(**source));
            members.find(|s| with(s, |state| *state == State::Idle)).copied()
        };
        let last = |group: &&Group| {
            let mut waiting = group.waiting.iter().rev().map(|(_, source)| *source);
            waiting.find(|source| may(*source))
        };
        groups.iter().find_map(idle).or_else(|| groups.iter().find_map(last))
    }

    /// Sessions that are served, and sessions that wait.
    pub fn load(&self) -> (usize, usize) {
        (self.seated, self.waiting)
    }

    fn move_to(&mut self, source: Source, to: State) {
        let Some(member) = self.members.get_mut(&source) else { return };
        let from = std::mem::replace(&mut member.state, to);
        let group = self.groups.entry(member.party).or_default();
        match from {
            State::Idle => {}
            State::Seated => {
                group.seated.remove(&source);
                self.seated -= 1;
            }
            State::Waiting(place) => {
                group.waiting.remove(&(place, source));
                self.waiting -= 1;
            }
        }
        match to {
            State::Idle => {}
            State::Seated => {
                group.seated.insert(source);
                self.seated += 1;
            }
            State::Waiting(place) => {
                group.waiting.insert((place, source));
                self.waiting += 1;
            }
        }
    }
}

//! One announcer's addresses, until a round trip has checked one, and again as long as it stays.
//!
//! An address counts only if the answer to a question that was asked there, and nowhere else, comes
//! from there: whoever shows us a recorded HERE from elsewhere gains nothing.

use std::net::SocketAddr;
use std::time::Duration;

use crate::crypto::sodium::{PublicKey, Random};
use crate::net::lan::links::rank;
use crate::proto::datagram::presence::{Claim, Endpoint};
use crate::proto::datagram::probe::Question;

/// Addresses of one announcer that are tried.
const MOST: usize = 4;
/// How often an address is asked before it is given up.
const TRIES: u32 = 14;
/// The pause after the first try; it grows by half of that,
const FIRST_PAUSE: Duration = Duration::from_millis(60);
/// up to this. With three packets in ten lost one try in two fails, 14 one in 10,000 times.
const LONGEST_PAUSE: Duration = Duration::from_millis(120);
/// How long an address that answered waits for one that is liked better.
const SETTLE: Duration = Duration::from_millis(40);
/// An address that is in use is asked again after this.
const RECHECK: Duration = Duration::from_secs(3);
/// An address that did not answer for this long gives way to another that does.
const STALE: Duration = Duration::from_secs(5);

struct Candidate {
    address: SocketAddr,
    question: Question,
    tries: u32,
    next: Option<Duration>,
    answered: Option<Duration>,
}

impl Candidate {
    fn ask(&mut self, me: &PublicKey, now: Duration, rng: &mut dyn Random) {
        self.question = Question::new(me, rng);
        (self.tries, self.next) = (0, Some(now));
    }

    fn is_fresh(&self, now: Duration) -> bool {
        self.answered.is_some_and(|at| now < at + STALE)
    }
}

/// The addresses of one announcer.
pub(super) struct Pursuit {
    /// The one that is liked best first.
    candidates: Vec<Candidate>,
    /// When the first of them answered.
    since: Option<Duration>,
    /// The one that was chosen, and since when it is due to be asked again.
    current: Option<(SocketAddr, Duration)>,
    /// How long an address in use is left alone.
    pace: Duration,
    /// It answered since somebody last looked at the choice.
    news: bool,
    /// What the newest answer that counted said.
    pub(super) latest: Option<(Vec<Endpoint>, Option<Claim>)>,
}

impl Pursuit {
    pub(super) fn new() -> Self {
        Self {
            candidates: Vec::new(),
            since: None,
            current: None,
            pace: RECHECK,
            news: false,
            latest: None,
        }
    }

    /// The announcer says that it has these addresses. Those that are new or silent are asked.
    pub(super) fn propose(
        &mut self,
        mut addresses: Vec<SocketAddr>,
        me: &PublicKey,
        now: Duration,
        rng: &mut dyn Random,
    ) {
        addresses.sort_by_key(rank);
        addresses.dedup();
        addresses.truncate(MOST);
        let current = self.current.map(|(address, _)| address);
        self.candidates.retain(|c| addresses.contains(&c.address) || Some(c.address) == current);
        for address in addresses {
            match self.candidates.iter_mut().find(|c| c.address == address) {
                Some(known) if known.next.is_none() && !known.is_fresh(now) => {
                    known.ask(me, now, rng);
                }
                Some(_) => {}
                None => {
                    let (question, next) = (Question::new(me, rng), Some(now));
                    let new = Candidate { address, question, tries: 0, next, answered: None };
                    self.candidates.push(new);
                }
            }
        }
        self.candidates.sort_by_key(|c| rank(&c.address));
    }

    /// Questions that are to be asked now, each at its address.
    pub(super) fn due(&mut self, now: Duration) -> impl Iterator<Item = (SocketAddr, &Question)> {
        self.candidates.iter_mut().filter_map(move |candidate| {
            candidate.next.filter(|at| *at <= now)?;
            // The last try had its time to be answered, too.
            let again = candidate.tries < TRIES;
            candidate.tries += 1;
            let pause = (FIRST_PAUSE * (candidate.tries + 1) / 2).min(LONGEST_PAUSE);
            candidate.next = again.then_some(now + pause);
            again.then_some((candidate.address, &candidate.question))
        })
    }

    /// The questions that are open, each with where it was asked.
    pub(super) fn asked(&self) -> impl Iterator<Item = (SocketAddr, &Question)> {
        self.candidates.iter().filter(|c| c.tries > 0).map(|c| (c.address, &c.question))
    }

    /// The question that was asked at `address` was answered from there.
    pub(super) fn answered(&mut self, address: SocketAddr, now: Duration) {
        if let Some(candidate) = self.candidates.iter_mut().find(|c| c.address == address) {
            (candidate.answered, candidate.next) = (Some(now), None);
            self.since.get_or_insert(now);
            self.news = true;
        }
    }

    /// The address to use and when it answered last, once it is certain enough and each time that
    /// there is news of it.
    pub(super) fn choice(&mut self, now: Duration) -> Option<(SocketAddr, Duration)> {
        let unsettled = self.current.is_none() && self.since.is_some();
        if !std::mem::take(&mut self.news) && !unsettled {
            return None;
        }
        let fresh = |c: &&Candidate| c.is_fresh(now);
        let kept = self.current.and_then(|(address, _)| {
            self.candidates.iter().filter(fresh).find(|c| c.address == address)
        });
        let chosen = kept.or_else(|| {
            let best = self.candidates.iter().find(fresh)?;
            let better = self.candidates.iter().take_while(|c| c.address != best.address);
            let settled = self.since.is_some_and(|since| now >= since + SETTLE);
            (settled || better.filter(|c| c.next.is_some()).count() == 0).then_some(best)
        })?;
        let answered = chosen.answered?;
        if self.current.is_none_or(|(address, _)| address != chosen.address) {
            self.current = Some((chosen.address, answered + self.pace));
        }
        Some((chosen.address, answered))
    }

    /// Asks the address in use again if that is due. `pace` spreads many over a longer time.
    pub(super) fn recheck(
        &mut self,
        me: &PublicKey,
        pace: Duration,
        now: Duration,
        rng: &mut dyn Random,
    ) {
        self.pace = RECHECK.max(pace);
        let Some((address, _)) = self.current.filter(|(_, at)| *at <= now) else { return };
        self.current = Some((address, now + self.pace));
        if let Some(c) = self.candidates.iter_mut().find(|c| c.address == address) {
            c.ask(me, now, rng);
        }
    }

    /// The address in use was given up until the announcer is heard of again.
    pub(super) fn give_up(&mut self) {
        self.current = None;
        self.since = None;
    }

    /// When there is something to do without news.
    pub(super) fn next_timeout(&self, now: Duration) -> Option<Duration> {
        let asking = self.candidates.iter().filter_map(|c| c.next);
        let settling = self.since.filter(|_| self.current.is_none()).map(|at| at + SETTLE);
        let settling = settling.filter(|at| *at > now);
        let recheck = self.current.map(|(_, at)| at);
        asking.chain(settling).chain(recheck).min()
    }

    /// Nothing is asked, nothing was answered: the announcer was a ghost.
    pub(super) fn is_hopeless(&self) -> bool {
        self.current.is_none() && self.candidates.iter().all(|c| c.next.is_none())
    }
}

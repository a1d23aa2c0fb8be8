//! Files for somebody who called us and whom we cannot call: they are told, call again, and fetch
//! them. PROTOCOL.md, section 3.3.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::Chatting;
use super::files::Errand;
use crate::cli::failure::{Code, Failure};
use crate::cli::send::why;
use crate::crypto::sodium::{PublicKey, random};
use crate::net::dial::DialError;
use crate::net::feed::{Answer, Feed, Next};
use crate::net::hub::Bell;
use crate::net::input::Got;
use crate::net::listen::{Caller, Origin, Outgoing};
use crate::net::receiver::{Hired, Progress, Receiver, Route};
use crate::proto::stream::meta::Meta;
use crate::proto::stream::record::RefuseCode;
use crate::proto::time::Now;
use crate::sched::party::Source;

/// Receivers of a session have these numbers.
const TOLD: usize = 32;
const FETCHED: usize = 33;
/// Who is told of something may take this long to call for it.
const CALL_TIME: Duration = Duration::from_secs(60);
/// What one peer may have us fetch at a time.
const AT_ONCE: usize = 8;

/// Names what is to be fetched.
type Id = [u8; 16];

/// What waits to be fetched, and what we fetch.
#[derive(Default)]
pub(super) struct Fetching {
    offers: BTreeMap<Id, Offer>,
    /// Of sessions that were begun to fetch something: what.
    claims: BTreeMap<Source, Id>,
    /// What is to be told on sessions.
    pub(super) notes: Rc<RefCell<Notes>>,
    /// Our own calls to fetch something, by their numbers.
    calls: BTreeMap<u64, (PublicKey, String)>,
    /// What we fetch, by session.
    sessions: BTreeMap<Source, PublicKey>,
}

struct Offer {
    to: PublicKey,
    errand: Errand,
    feed: Box<dyn Feed>,
    until: Duration,
}

/// What sessions are to tell of what waits, and what was answered.
#[derive(Default)]
pub struct Notes {
    due: BTreeMap<Source, VecDeque<Meta>>,
    refused: VecDeque<(Id, Failure)>,
}

impl Notes {
    /// The next thing for this session to tell.
    pub fn next(&mut self, session: Source) -> Option<Meta> {
        self.due.get_mut(&session)?.pop_front()
    }

    /// It was answered.
    pub fn answered(&mut self, id: Id, answer: &Answer) {
        if let Answer::Refused(code, text) = answer {
            self.refused.push_back((id, why::declined_file(*code, text)));
        }
    }
}

impl Fetching {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.offers.is_empty() && self.calls.is_empty() && self.sessions.is_empty()
    }

    /// What waits.
    pub(super) fn errands(&self) -> impl Iterator<Item = &Errand> {
        self.offers.values().map(|offer| &offer.errand)
    }

    /// When an offer ends.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.offers.values().map(|offer| offer.until).min()
    }
}

impl Chatting<'_> {
    /// Tells `to`, with whom we have `session`, that something waits.
    pub(super) fn offer(
        &mut self,
        to: PublicKey,
        session: Source,
        errand: Errand,
        feed: Box<dyn Feed>,
    ) {
        let now = self.parts.clock.now();
        let id = random();
        let until = now.mono + CALL_TIME;
        self.fetching.offers.insert(id, Offer { to, errand, feed, until });
        let mut notes = self.fetching.notes.borrow_mut();
        notes.due.entry(session).or_default().push_back(Meta::fetch(id, now.unix_ms));
        self.parts.bell.of(session).ring();
    }

    /// Offers that nobody wants, or that nobody came for.
    pub(super) fn end_offers(&mut self, now: Now) {
        loop {
            let refused = self.fetching.notes.borrow_mut().refused.pop_front();
            let Some((id, failure)) = refused else { break };
            self.end_offer(&id, failure);
        }
        let late = |(id, offer): (&Id, &Offer)| (offer.until <= now.mono).then_some(*id);
        let late: Vec<Id> = self.fetching.offers.iter().filter_map(late).collect();
        for id in late {
            self.end_offer(&id, Failure::new(Code::Unreachable, "they did not call for it"));
        }
    }

    fn end_offer(&mut self, id: &Id, failure: Failure) {
        if let Some(Offer { errand, .. }) = self.fetching.offers.remove(id) {
            self.file_failed(&failure.about(errand.what).about(errand.to));
        }
    }

    /// A session with `key` is over: what waited for it, or came by it, ends.
    pub(super) fn fetching_over(&mut self, session: Source, key: &PublicKey) {
        self.fetching.claims.remove(&session);
        self.fetching.sessions.remove(&session);
        self.fetching.notes.borrow_mut().due.remove(&session);
        if self.talk.borrow().is_here(key) {
            return;
        }
        let theirs = |(id, offer): (&Id, &Offer)| (offer.to == *key).then_some(*id);
        let theirs: Vec<Id> = self.fetching.offers.iter().filter_map(theirs).collect();
        for id in theirs {
            self.end_offer(&id, Failure::new(Code::CutOff, "they are not here any more"));
        }
    }

    /// Where a message goes that tells of something, or claims it.
    pub(super) fn route_fetch(&mut self, session: Source, caller: &Caller, id: Id) -> Route {
        let Origin::Key(key) = caller.origin else { return not_wanted("") };
        if self.fetching.offers.get(&id).is_some_and(|offer| offer.to == key) {
            self.fetching.claims.insert(session, id);
            return Route::Receiver(FETCHED);
        }
        if !self.sessions.contains(&session) {
            return not_wanted("nothing waits");
        }
        if !self.parts.takes_files {
            let note = format!("{} wants to send a file; -d DIR takes files", caller.name);
            self.parts.view.note(&note);
            return Route::Refused(RefuseCode::NotWanted, String::new());
        }
        let under_way = self.fetching.calls.values().filter(|(whose, _)| *whose == key).count()
            + self.fetching.sessions.values().filter(|whose| **whose == key).count();
        match self.callees.get(&key).cloned() {
            Some(_) if under_way >= AT_ONCE => {
                Route::Refused(RefuseCode::NoRoom, "one after another".into())
            }
            Some(callee) => {
                self.calls_made += 1;
                let number = self.calls_made;
                self.fetching.calls.insert(number, (key, callee.name.clone()));
                let claim = Meta {
                    keepalive_ms: self.keepalive_ms(),
                    ..Meta::fetch(id, self.parts.clock.now().unix_ms)
                };
                self.errands.call(Outgoing {
                    number,
                    key: 0,
                    peer: key,
                    access: callee.access,
                    name: callee.name,
                    known: callee.known,
                    targets: callee.targets,
                    feed: Box::new(Claim(Some(claim))),
                    once: true,
                });
                // The loop asks for calls once a turn.
                self.parts.bell.ring();
                Route::Receiver(TOLD)
            }
            None => not_wanted("you called us"),
        }
    }

    /// Whoever takes what [`Chatting::route_fetch`] lets in; `None` if it is not for them.
    pub(super) fn hire_fetch(&mut self, number: usize, session: Source) -> Option<Hired> {
        match number {
            TOLD => Some(Hired { receiver: Box::new(Told::default()), feed: None }),
            FETCHED => {
                let id = self.fetching.claims.remove(&session)?;
                let Offer { errand, feed, .. } = self.fetching.offers.remove(&id)?;
                self.errands.begin(session, errand);
                let over = Rc::new(Cell::new(false));
                let watched = Watched { feed, unanswered: 0, ended: false, over: Rc::clone(&over) };
                let receiver = Fetched { over, whole: false };
                Some(Hired { receiver: Box::new(receiver), feed: Some(Box::new(watched)) })
            }
            _ => None,
        }
    }

    /// Whether the call of this number was to fetch something; it was answered.
    pub(super) fn fetch_reached(&mut self, number: u64, session: Source) -> bool {
        let Some((key, _)) = self.fetching.calls.remove(&number) else { return false };
        self.fetching.sessions.insert(session, key);
        true
    }

    /// Whether the call of this number was to fetch something; it was in vain.
    pub(super) fn fetch_not_reached(&mut self, number: u64, error: &DialError) -> bool {
        let Some((_, name)) = self.fetching.calls.remove(&number) else { return false };
        let why = why::dial_failure(error).message;
        self.parts.view.note(&format!("{name}: a file was not fetched: {why}"));
        true
    }
}

fn not_wanted(text: &str) -> Route {
    Route::Refused(RefuseCode::NotWanted, text.to_owned())
}

/// Says what is to be fetched.
struct Claim(Option<Meta>);

impl Feed for Claim {
    fn rings(&mut self, _: Bell) -> bool {
        true
    }

    fn next(&mut self) -> io::Result<Next> {
        Ok(self.0.take().map_or(Next::End, Next::Message))
    }

    fn read(&mut self, _: &mut [u8]) -> io::Result<Got> {
        Ok(Got::End)
    }
}

/// Hears that something waits: that is answered at once.
#[derive(Default)]
struct Told {
    whole: usize,
}

impl Receiver for Told {
    fn begin(&mut self, _: &Meta, _: u64) {}
    fn data(&mut self, _: &[u8]) {}
    fn abort(&mut self) {}

    fn end(&mut self) {
        self.whole += 1;
    }

    fn has_room(&self) -> bool {
        true
    }

    fn rings(&self) -> bool {
        true
    }

    fn progress(&mut self) -> Option<Progress> {
        self.whole = self.whole.checked_sub(1)?;
        Some(Progress::Delivered)
    }
}

/// Hears what is to be fetched: that is answered once all of it is, so that the caller stays.
struct Fetched {
    over: Rc<Cell<bool>>,
    whole: bool,
}

impl Receiver for Fetched {
    fn begin(&mut self, _: &Meta, _: u64) {}
    fn data(&mut self, _: &[u8]) {}
    fn abort(&mut self) {}

    fn end(&mut self) {
        self.whole = true;
    }

    fn has_room(&self) -> bool {
        true
    }

    fn rings(&self) -> bool {
        true
    }

    fn progress(&mut self) -> Option<Progress> {
        (self.over.get() && std::mem::take(&mut self.whole)).then_some(Progress::Delivered)
    }
}

/// A feed, and whether everything of it was said and answered.
struct Watched {
    feed: Box<dyn Feed>,
    unanswered: usize,
    ended: bool,
    over: Rc<Cell<bool>>,
}

impl Watched {
    fn look(&self) {
        self.over.set(self.ended && self.unanswered == 0);
    }
}

impl Feed for Watched {
    fn rings(&mut self, bell: Bell) -> bool {
        self.feed.rings(bell)
    }

    fn next(&mut self) -> io::Result<Next> {
        let next = self.feed.next()?;
        self.unanswered += usize::from(matches!(next, Next::Message(_)));
        self.ended |= matches!(next, Next::End);
        self.look();
        Ok(next)
    }

    fn offered(&mut self, offset: u64, hash: [u8; 32]) {
        self.feed.offered(offset, hash);
    }

    fn start(&mut self) -> io::Result<Option<u64>> {
        self.feed.start()
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        self.feed.read(space)
    }

    fn answered(&mut self, answer: &Answer) {
        self.feed.answered(answer);
        self.unanswered = self.unanswered.saturating_sub(1);
        self.look();
    }
}

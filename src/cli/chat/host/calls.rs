//! Calls that a chat makes, and sessions that begin and end.

use std::net::SocketAddr;

use super::Chatting;
use crate::cli::chat::talk::Parting;
use crate::cli::destination::Destination;
use crate::cli::send::why;
use crate::crypto::sodium::{PublicKey, random};
use crate::net::dial::DialError;
use crate::net::listen::{Caller, Origin, Parting as Ended};
use crate::net::send::Cut;
use crate::net::via::Place;
use crate::proto::stream::link::KEEPALIVE;
use crate::proto::stream::meta::Meta;
use crate::proto::time::Now;
use crate::sched::party::Source;

/// Somebody whom we call.
#[derive(Clone)]
pub(super) struct Callee {
    pub(super) access: [u8; 32],
    pub(super) targets: Vec<Place>,
    pub(super) name: String,
    pub(super) known: bool,
    /// The program was started to call them.
    pub(super) main: bool,
    pub(super) reached: bool,
    /// Why they were not reached the last time, as it was told.
    pub(super) told: Option<String>,
}

impl Callee {
    /// Who is meant by `destination`; `main`, if the program was started for that.
    pub(super) fn new(destination: Destination, main: bool) -> Self {
        let Destination { name, contact, targets, known, .. } = destination;
        let access = *contact.access.as_bytes();
        Self { access, targets, name, known, main, reached: false, told: None }
    }
}

impl Chatting<'_> {
    /// A call was answered, and we were let in.
    pub(super) fn reached(&mut self, number: u64, session: Source, address: SocketAddr) {
        if self.file_reached(number, session) || self.fetch_reached(number, session) {
            return;
        }
        let Some((key, named)) = self.calls.remove(&number) else { return };
        named.set(Some(session));
        let Some(callee) = self.callees.get_mut(&key) else { return };
        callee.reached = true;
        callee.told = None;
        let name = callee.name.clone();
        self.parts.view.reached(&name, &address.to_string());
        self.open(session, key, &name);
    }

    /// A session begins with somebody who chats; whether there is room for them.
    pub(super) fn open(&mut self, session: Source, key: PublicKey, name: &str) -> bool {
        let opened = self.talk.borrow_mut().opened(session, key, name);
        if opened {
            self.sessions.insert(session);
        }
        self.tell();
        // What was typed before anybody was here is looked at now.
        self.parts.bell.of(session).ring();
        opened
    }

    /// A call was in vain. Whom the program was started for must be there at first, unless somebody
    /// waits who may have patience; what will not be better next time ends it in any case.
    pub(super) fn not_reached(&mut self, number: u64, error: &DialError) {
        if self.file_not_reached(number, error) || self.fetch_not_reached(number, error) {
            return;
        }
        let Some((key, _)) = self.calls.remove(&number) else { return };
        let Some(callee) = self.callees.get_mut(&key) else { return };
        let failure = why::dial_failure(error);
        let hopeless =
            matches!(error, DialError::NotFound(_) | DialError::NoProof(..) | DialError::Local(_));
        let patient = self.parts.keyboard.is_edited() && !hopeless;
        if callee.reached || patient {
            return self.call_again(key, failure.message);
        }
        let (name, main) = (callee.name.clone(), callee.main);
        let failure = failure.about(&name);
        if main && self.callees.len() == 1 {
            self.failure = Some(failure);
            return;
        }
        self.parts.view.answer(&failure.message);
        self.callees.remove(&key);
        self.talk.borrow_mut().give_up(&key, "they could not be reached");
        self.tell();
        if main && !self.parts.keyboard.is_edited() {
            // This says why, and that nothing was delivered to them.
            self.undelivered.retain(|other| *other != name);
            self.other_failure.get_or_insert(failure);
        }
    }

    /// Why they were not reached is told once.
    fn call_again(&mut self, key: PublicKey, why: String) {
        self.talk.borrow_mut().unanswered(&key, self.parts.clock.now().mono);
        let Some(callee) = self.callees.get_mut(&key) else { return };
        if callee.told.as_ref() != Some(&why) {
            self.parts.view.note(&format!("{}: {why}; calling again", callee.name));
            callee.told = Some(why);
        }
    }

    /// A session is over.
    pub(super) fn disconnected(&mut self, session: Source, whose: &Caller, ended: &Ended) {
        let Origin::Key(key) = whose.origin else { return };
        if self.file_session_over(session, ended) {
            return;
        }
        if !self.sessions.remove(&session) {
            self.fetching_over(session, &key);
            return;
        }
        let how = match ended {
            Ended::Left | Ended::Cut(Cut::Stopped) => Parting::Goodbye,
            // Strangers are not waited for: there may be any number of them.
            _ if !self.known.get(&key).copied().unwrap_or(false) => Parting::Gone,
            Ended::InOrder | Ended::Cut(_) | Ended::Unread(_) => Parting::Loss,
        };
        let now = self.parts.clock.now().mono;
        self.talk.borrow_mut().closed(session, how, now);
        self.fetching_over(session, &key);
        self.tell();
        // Another session with them may have something to say now.
        let other = self.talk.borrow().session(&key);
        other.into_iter().for_each(|other| self.parts.bell.of(other).ring());
        self.parts.bell.ring();
    }

    /// How often those whom we call should show that they live, ms, if that is oftener than they do
    /// anyhow: before our patience ends.
    pub(super) fn keepalive_ms(&self) -> Option<u64> {
        let often = self.parts.silence / 3;
        (often < KEEPALIVE).then_some(often.as_millis() as u64)
    }

    /// A greeting for somebody whom we call.
    pub(super) fn greeting(&self, now: Now) -> Meta {
        let keepalive_ms = self.keepalive_ms();
        Meta { keepalive_ms, ..Meta::greeting(random(), now.unix_ms) }
    }
}

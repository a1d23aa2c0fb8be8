//! A chat around the loop of a listener: what is typed goes out, who is lost is called again.
//!
//! `orders` does what is typed, `calls` knows whom we call and whose sessions begin and end, `files`
//! sends files beside it all, and `fetch` has those fetched whom we cannot call; this file is what the
//! loop asks.

mod calls;
pub mod fetch;
mod files;
mod orders;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use self::calls::Callee;
use self::fetch::Fetching;
use self::files::Errands;
use super::keyboard::Keyboard;
use super::screen::several;
use super::talk::{Event, Line, Talk};
use super::view::View;
use super::voice::{Mouth, Voice};
use crate::cli::destination::Destination;
use crate::cli::failure::{Code, Failure};
use crate::cli::listen::inbox::{Desk, is_file};
use crate::cli::outputs::Told;
use crate::cli::via::Ways;
use crate::crypto::sodium::{PublicKey, random};
use crate::history::entry::{Direction, Head, State};
use crate::history::record::Recorder;
use crate::keys::Keyring;
use crate::net::clock::Clock;
use crate::net::feed::Feed;
use crate::net::hub::Bell;
use crate::net::listen::{self, Caller, Host, Notice, Origin, Outgoing};
use crate::net::receiver::{Hired, Route};
use crate::net::sockets::Transport;
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::time::Now;
use crate::sched::party::Source;

/// Who is here may take this long to acknowledge the last lines.
const LEAVING_TIME: Duration = Duration::from_secs(3);

/// What a chat needs.
pub struct Parts<'a> {
    /// Lines.
    pub keyboard: Keyboard,
    /// What is shown.
    pub view: View,
    /// Reports for programs.
    pub told: Told,
    /// Who may call us, if anybody may.
    pub ears: Option<&'a mut dyn Host>,
    /// Contacts, if there are any to be called.
    pub keyring: Option<&'a Keyring>,
    /// By which relays they are reached.
    pub ways: Ways<'a>,
    /// Sent lines are kept here.
    pub recorder: Option<Rc<RefCell<Recorder>>>,
    /// The loop's clock.
    pub clock: Clock,
    /// Wakes the loop.
    pub bell: Bell,
    /// Who takes the files of sessions that we begin, where nobody can call us.
    pub desk: Option<Desk>,
    /// Whether files are taken.
    pub takes_files: bool,
    /// A session may be silent this long; without a person, nobody may be here this long.
    pub silence: Duration,
}

/// Where a session of ours is named, once there is one.
type Named = Cell<Option<Source>>;

/// A chat.
pub struct Chatting<'a> {
    parts: Parts<'a>,
    talk: Rc<RefCell<Talk>>,
    /// Those whom we call.
    callees: BTreeMap<PublicKey, Callee>,
    /// Calls under way, by their numbers, and where their sessions will be named.
    calls: BTreeMap<u64, (PublicKey, Rc<Named>)>,
    calls_made: u64,
    sessions: BTreeSet<Source>,
    /// Those of whom it is known that they are contacts, or not.
    known: BTreeMap<PublicKey, bool>,
    /// Nothing more is typed.
    input_ended: bool,
    /// Since when we want to leave.
    leaving: Option<Duration>,
    /// Since when nobody is here.
    alone: Duration,
    undelivered: Vec<String>,
    errands: Errands,
    fetching: Fetching,
    /// What went wrong first with a file or one of several, for a script.
    other_failure: Option<Failure>,
    /// Whoever leaves was told that files are on their way.
    warned: bool,
    failure: Option<Failure>,
}

impl<'a> Chatting<'a> {
    /// A chat in which nobody takes part.
    pub fn new(parts: Parts<'a>) -> Self {
        let alone = parts.clock.now().mono;
        let mut chat = Self {
            parts,
            talk: Rc::default(),
            callees: BTreeMap::new(),
            calls: BTreeMap::new(),
            calls_made: 0,
            sessions: BTreeSet::new(),
            known: BTreeMap::new(),
            input_ended: false,
            leaving: None,
            alone,
            undelivered: Vec::new(),
            errands: Errands::default(),
            fetching: Fetching::default(),
            other_failure: None,
            warned: false,
            failure: None,
        };
        chat.learn_names();
        chat
    }

    /// Calls somebody for whom the program was started.
    pub fn call(&mut self, destination: Destination) {
        let now = self.parts.clock.now();
        self.invite(destination, true, now);
    }

    /// A greeting to a person who edits.
    pub fn welcome(&mut self, text: &str) {
        if self.parts.keyboard.is_edited() {
            self.parts.view.note(text);
        }
    }

    /// The end: what was not delivered is told and kept as such. The keyboard, which has the
    /// terminal, and what went wrong.
    pub fn finish(mut self) -> (Keyboard, Option<Failure>) {
        self.talk.borrow_mut().end("the chat ended");
        self.parts.view.be_brief();
        self.tell();
        self.tell_files();
        let failure = self.failure.take().or_else(|| self.what_is_lost());
        let failure = failure.or_else(|| self.other_failure.take());
        (self.parts.keyboard, failure)
    }

    fn what_is_lost(&self) -> Option<Failure> {
        let names: BTreeSet<&str> = self.undelivered.iter().map(String::as_str).collect();
        let whom = several(&names.into_iter().collect::<Vec<_>>());
        let what = match self.undelivered.len() {
            0 => {
                let file = self.files_underway().next()?;
                return Some(Failure::new(Code::CutOff, format!("{file} was not delivered")));
            }
            1 => "a line was not delivered".to_owned(),
            n => format!("{n} lines were not delivered"),
        };
        Some(Failure::new(Code::CutOff, what).about(whom))
    }

    /// Shows and keeps what happened in the conversation.
    fn tell(&mut self) {
        loop {
            let Some(event) = self.talk.borrow_mut().event() else { return };
            let known = |key: &PublicKey| self.known.get(key).copied().unwrap_or(false);
            self.parts.view.event(&event, known);
            match &event {
                Event::Delivered { line, key, to, .. } => self.record(line, key, to, State::Whole),
                Event::Undelivered { line, key, to, .. } => {
                    self.undelivered.push(to.clone());
                    self.record(line, key, to, State::Cut);
                }
                Event::Here(_) => self.learn_names(),
                Event::Lost(..) | Event::Left(..) | Event::Gone(_) => {
                    self.alone = self.parts.clock.now().mono
                }
                Event::Mute(_) => {}
            }
        }
    }

    fn record(&self, line: &Line, key: &PublicKey, to: &str, state: State) {
        let Some(recorder) = &self.parts.recorder else { return };
        let head = Head {
            record: random(),
            direction: Direction::Sent,
            id: line.id,
            kind: MessageKind::ChatLine as u8,
            transport: self.transport(key),
            peer: *key,
            name: to.to_owned(),
            known: self.known.get(key).copied().unwrap_or(false),
            sent_ms: line.typed_ms,
            began_ms: line.typed_ms,
        };
        let mut content = line.text.clone();
        content.push(b'\n');
        recorder.borrow_mut().whole(&head, &content, state);
    }

    /// How whom we call is reached.
    fn transport(&self, key: &PublicKey) -> Transport {
        match self.callees.get(key) {
            Some(callee) if callee.targets.iter().all(|at| at.via.is_some()) => Transport::Relay,
            _ => Transport::Tcp,
        }
    }

    /// The tab key knows the contacts, and who is here.
    fn learn_names(&mut self) {
        let Keyboard::Editor(editor) = &self.parts.keyboard else { return };
        let contacts = self.parts.keyring.and_then(|keyring| keyring.contacts().ok());
        let contacts = contacts.map(|(good, _)| good).unwrap_or_default();
        let here = self.talk.borrow().present();
        let names = contacts.into_iter().map(|(name, _)| name);
        let names: BTreeSet<String> = names.chain(here.into_iter().map(|p| p.name)).collect();
        editor.know(names.into_iter().collect());
    }

    /// When those who were here were away for too long, if nobody waits for them at a terminal. A
    /// first call has a patience of its own.
    fn patience_ends(&self) -> Option<Duration> {
        let unattended = !self.parts.keyboard.is_edited() && self.parts.ears.is_none();
        let left = self.all_were_reached() && !self.talk.borrow().has_company();
        (unattended && left).then_some(self.alone + self.parts.silence)
    }

    fn no_files(&self) -> bool {
        self.errands.is_empty() && self.fetching.is_empty()
    }

    /// What every session of the chat speaks from.
    fn mouth(&self) -> Mouth {
        Mouth {
            talk: Rc::clone(&self.talk),
            notes: Rc::clone(&self.fetching.notes),
            bell: self.parts.bell.clone(),
        }
    }

    /// Those who are here look for what they have to say.
    fn ring_all(&self) {
        let talk = self.talk.borrow();
        talk.sessions().for_each(|session| self.parts.bell.of(session).ring());
        self.parts.bell.ring();
    }

    fn all_were_reached(&self) -> bool {
        !self.callees.is_empty() && self.callees.values().all(|callee| callee.reached)
    }

    fn look_at_the_clock(&mut self, now: Now) {
        if self.patience_ends().is_some_and(|at| at <= now.mono) && self.failure.is_none() {
            let names: Vec<&str> = self.callees.values().map(|c| c.name.as_str()).collect();
            let time = crate::cli::units::seconds(self.parts.silence);
            let what = format!("{}: cut off, and not back within {time}", several(&names));
            self.failure = Some(Failure::new(Code::CutOff, what));
        }
    }
}

impl Host for Chatting<'_> {
    fn admit(&mut self, caller: &PublicKey, key: usize, proven: bool) -> Option<Caller> {
        self.parts.ears.as_mut()?.admit(caller, key, proven)
    }

    fn unproven(&mut self, address: SocketAddr) -> Caller {
        match &mut self.parts.ears {
            Some(ears) => ears.unproven(address),
            None => {
                let name = address.ip().to_string();
                Caller { name, origin: Origin::Plain(address), known: false }
            }
        }
    }

    fn notice(&mut self, notice: Notice<'_>) {
        match &notice {
            Notice::Reached(number, session, address) => {
                return self.reached(*number, *session, *address);
            }
            Notice::NotReached(number, error) => return self.not_reached(*number, error),
            Notice::Disconnected(session, whose, ended) => {
                self.disconnected(*session, whose, ended);
            }
            // It comes again, when its sender is back.
            Notice::Cut(heard, _) if heard.kind == MessageKind::ChatLine as u8 => return,
            Notice::Delivered(heard, _) if heard.kind == MessageKind::Fetch as u8 => return,
            _ => {}
        }
        match &mut self.parts.ears {
            Some(ears) => ears.notice(notice),
            None => self.parts.view.notice(&notice),
        }
    }

    fn route(&mut self, session: Source, caller: &Caller, meta: &Meta) -> Route {
        if meta.kind == MessageKind::Fetch as u8 {
            return self.route_fetch(session, caller, meta.id);
        }
        match (&mut self.parts.ears, &mut self.parts.desk) {
            (Some(ears), _) => ears.route(session, caller, meta),
            (None, Some(desk)) if is_file(meta.kind) => desk.route(session, caller, meta),
            (None, _) => listen::shown(meta),
        }
    }

    fn hire(&mut self, number: usize, session: Source, caller: &Caller) -> io::Result<Hired> {
        if let Some(hired) = self.hire_fetch(number, session) {
            return Ok(hired);
        }
        match (&mut self.parts.ears, &mut self.parts.desk) {
            (Some(ears), _) => ears.hire(number, session, caller),
            (None, Some(desk)) => desk.hire(session, caller),
            (None, None) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn correspondents(&mut self) -> Vec<PublicKey> {
        self.parts.ears.as_mut().map_or_else(Vec::new, |ears| ears.correspondents())
    }

    fn feed(&mut self, session: Source, caller: &Caller) -> Option<Box<dyn Feed>> {
        self.parts.ears.as_mut()?.feed(session, caller)
    }

    fn greeted(&mut self, session: Source, caller: &Caller) -> Option<Box<dyn Feed>> {
        let Origin::Key(key) = caller.origin else { return None };
        if !self.sessions.contains(&session) {
            self.known.insert(key, caller.known);
            if !self.open(session, key, &caller.name) {
                return None;
            }
        }
        let voice = Voice::answering(self.mouth(), session);
        Some(Box::new(voice))
    }

    fn deadline(&self) -> Option<Duration> {
        let calls = self.talk.borrow().deadline().into_iter().chain(self.fetching.deadline()).min();
        let leaving = self.leaving.map(|since| since + LEAVING_TIME);
        let ears = self.parts.ears.as_ref().and_then(|ears| ears.deadline());
        [calls, leaving, self.patience_ends(), ears].into_iter().flatten().min()
    }

    fn next_call(&mut self) -> Option<Outgoing> {
        let now = self.parts.clock.now();
        self.take_typed(now);
        self.tell();
        self.tell_files();
        self.end_offers(now);
        self.look_at_the_clock(now);
        if let Some(wanted) = self.parts.ears.as_mut().and_then(|ears| ears.next_call()) {
            return Some(wanted);
        }
        if let Some(wanted) = self.errands.next() {
            return Some(wanted);
        }
        let peer = self.talk.borrow_mut().due(now.mono)?;
        let callee = self.callees.get(&peer)?;
        self.calls_made += 1;
        let session = Rc::new(Cell::new(None));
        self.calls.insert(self.calls_made, (peer, Rc::clone(&session)));
        let voice = Voice::calling(self.mouth(), session, self.greeting(now));
        Some(Outgoing {
            number: self.calls_made,
            key: 0,
            peer,
            access: callee.access,
            name: callee.name.clone(),
            known: callee.known,
            targets: callee.targets.clone(),
            feed: Box::new(voice),
            once: false,
        })
    }

    fn is_over(&self) -> bool {
        let talk = self.talk.borrow();
        let now = self.parts.clock.now().mono;
        let left =
            self.leaving.is_some_and(|since| talk.is_settled_here() || now >= since + LEAVING_TIME);
        // Whoever only listens goes on; a call must at least have been answered.
        let unheard = self.parts.ears.is_some() || !self.all_were_reached();
        let said = self.input_ended && !unheard && talk.is_settled() && self.no_files();
        self.failure.is_some() || left || said
    }
}

//! A chat around the loop of a listener: what is typed goes out, who is lost is called again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mio::Waker;
use rustix::process::{Signal, getpid, kill_process};

use super::command::{COMMANDS, Typed};
use super::editor::Key;
use super::keyboard::{Keyboard, pieces};
use super::screen::several;
use super::talk::{Event, Line, Parting, Said, SessionId, Talk, Unsaid};
use super::view::View;
use super::voice::Voice;
use crate::cli::destination::{Destination, resolve};
use crate::cli::failure::{Code, Failure};
use crate::cli::history;
use crate::cli::sanitize::sanitize_line;
use crate::cli::send::why;
use crate::crypto::sodium::{PublicKey, random};
use crate::history::entry::{Direction, Head, State};
use crate::history::record::Recorder;
use crate::keys::{Keyring, Passphrase, Passphrases};
use crate::net::clock::Clock;
use crate::net::dial::DialError;
use crate::net::feed::Feed;
use crate::net::listen::{self, Caller, Host, Notice, Origin, Outgoing, Parting as Ended};
use crate::net::receiver::{Hired, Route};
use crate::net::resolve::HostPort;
use crate::net::send::Cut;
use crate::net::sockets::Transport;
use crate::proto::stream::link::KEEPALIVE;
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::time::Now;

/// Who is here may take this long to acknowledge the last lines.
const LEAVING_TIME: Duration = Duration::from_secs(3);

/// What a chat needs.
pub struct Parts<'a> {
    /// Lines.
    pub keyboard: Keyboard,
    /// What is shown.
    pub view: View,
    /// Who may call us, if anybody may.
    pub ears: Option<&'a mut dyn Host>,
    /// Contacts, if there are any to be called.
    pub keyring: Option<&'a Keyring>,
    /// Sent lines are kept here.
    pub recorder: Option<Rc<RefCell<Recorder>>>,
    /// The loop's clock.
    pub clock: Clock,
    /// Wakes the loop.
    pub waker: Arc<Waker>,
    /// A session may be silent this long; without a person, nobody may be here this long.
    pub silence: Duration,
}

/// Where a session of ours is named, once there is one.
type Named = Cell<Option<SessionId>>;

/// A chat.
pub struct Chatting<'a> {
    parts: Parts<'a>,
    talk: Rc<RefCell<Talk>>,
    /// Those whom we call.
    callees: BTreeMap<PublicKey, Callee>,
    /// Calls under way, by their numbers, and where their sessions will be named.
    calls: BTreeMap<u64, (PublicKey, Rc<Named>)>,
    calls_made: u64,
    sessions: BTreeSet<SessionId>,
    /// Those of whom it is known that they are contacts, or not.
    known: BTreeMap<PublicKey, bool>,
    /// Nothing more is typed.
    input_ended: bool,
    /// Since when we want to leave.
    leaving: Option<Duration>,
    /// Since when nobody is here.
    alone: Duration,
    undelivered: Vec<String>,
    failure: Option<Failure>,
}

/// Somebody whom we call.
struct Callee {
    access: [u8; 32],
    targets: Vec<HostPort>,
    name: String,
    known: bool,
    /// The program was started to call them.
    main: bool,
    reached: bool,
    /// Why they were not reached the last time, as it was told.
    told: Option<String>,
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
            failure: None,
        };
        chat.learn_names();
        chat
    }

    /// Calls somebody for whom the program was started.
    pub fn call(&mut self, destination: Destination, known: bool) {
        let now = self.parts.clock.now();
        self.invite(destination, known, true, now);
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
        let failure = self.failure.take().or_else(|| self.what_is_lost());
        (self.parts.keyboard, failure)
    }

    fn what_is_lost(&self) -> Option<Failure> {
        let names: BTreeSet<&str> = self.undelivered.iter().map(String::as_str).collect();
        let whom = several(&names.into_iter().collect::<Vec<_>>());
        let what = match self.undelivered.len() {
            0 => return None,
            1 => "a line was not delivered".to_owned(),
            n => format!("{n} lines were not delivered"),
        };
        Some(Failure::new(Code::CutOff, what).about(whom))
    }

    /// What was typed since the last turn.
    fn take_typed(&mut self, now: Now) {
        while self.takes_lines() {
            match self.parts.keyboard.typed() {
                Ok(Some(key)) => self.typed(key, now),
                Ok(None) => return,
                Err(e) => {
                    self.failure = Some(history::cannot("read the input", &e));
                    return;
                }
            }
        }
    }

    /// Whether a line would find somebody, and room. A person is told if it does not.
    fn takes_lines(&self) -> bool {
        let talk = self.talk.borrow();
        let edited = self.parts.keyboard.is_edited();
        let room = talk.has_peers() && talk.has_room(super::keyboard::MAX_LINE);
        !self.input_ended && self.leaving.is_none() && (edited || room)
    }

    fn typed(&mut self, key: Key, now: Now) {
        match key {
            Key::Line(line) => match std::str::from_utf8(&line) {
                Ok(text) => self.command(Typed::parse(text), now),
                Err(_) => self.say(None, &line, now),
            },
            Key::Offer(choice) => self.parts.view.answer(&choice.join("  ")),
            Key::Suspend => self.suspend(),
            Key::End if self.parts.keyboard.is_edited() => self.leave(now),
            Key::End => self.input_ended = true,
            // As the key does where nobody edits: the loop tells the peers, and dies of it.
            Key::Interrupt => {
                if kill_process(getpid(), Signal::INT).is_err() {
                    self.leave(now);
                }
            }
        }
    }

    fn suspend(&mut self) {
        if let Keyboard::Editor(editor) = &self.parts.keyboard
            && editor.suspend().is_ok()
        {
            self.parts.view.redraw();
        }
    }

    fn leave(&mut self, now: Now) {
        self.leaving.get_or_insert(now.mono);
    }

    fn command(&mut self, typed: Typed, now: Now) {
        match typed {
            Typed::Nothing => {}
            Typed::Line(text) => self.say(None, text.as_bytes(), now),
            Typed::Msg { to, text } => self.tell_one(&to, &text, now),
            Typed::Connect(words) => drop(self.connect(&words, now)),
            Typed::List => self.list(),
            Typed::Help => self.help(),
            // A script has everything delivered first, as at the end of its input.
            Typed::Exit if !self.parts.keyboard.is_edited() && self.parts.ears.is_none() => {
                self.input_ended = true;
            }
            Typed::Exit => self.leave(now),
            Typed::Wrong(why) => self.parts.view.answer(&sanitize_line(&why)),
        }
    }

    /// To one, or to all.
    fn say(&mut self, to: Option<&str>, text: &[u8], now: Now) {
        for piece in pieces(text) {
            let line = Line { id: random(), typed_ms: now.unix_ms, text: piece.to_vec() };
            let said = match to {
                Some(name) => self.talk.borrow_mut().tell(name, line.clone()),
                None => self.talk.borrow_mut().say(line.clone()),
            };
            match said {
                Ok(said) => self.said(&line, &said),
                Err(Unsaid::Nobody) => {
                    self.parts.view.answer("nobody is here: not said (/connect calls somebody)");
                }
                Err(Unsaid::Unknown) => {
                    let to = sanitize_line(to.unwrap_or_default());
                    self.parts.view.answer(&format!("{to} is not here: not said"));
                }
            }
        }
        // Sessions look for what they have to say when the loop is woken.
        let _ = self.parts.waker.wake();
    }

    fn said(&mut self, line: &Line, said: &Said) {
        self.parts.view.said(line, said);
        for name in &said.full {
            let why = "too much waits for them already";
            self.parts.view.note(&format!("not said to {name}: {why}"));
            self.undelivered.push(name.clone());
        }
    }

    /// A contact that is not here is called.
    fn tell_one(&mut self, to: &str, text: &str, now: Now) {
        let takes_part = self.talk.borrow().present().iter().any(|present| present.name == to);
        let name = match takes_part {
            true => Some(to.to_owned()),
            false => self.connect(&[to.to_owned()], now),
        };
        if let Some(name) = name {
            self.say(Some(&name), text.as_bytes(), now);
        }
    }

    /// Calls whom the words mean; their name, if that is possible.
    fn connect(&mut self, words: &[String], now: Now) -> Option<String> {
        let keyring = self.parts.keyring?;
        let destination = match resolve(words, keyring, &mut NoPassphrases) {
            Ok(destination) if destination.targets.is_empty() => {
                let name = &destination.name;
                let why = format!("{name}: no address is known (/connect {name}@HOST:PORT)");
                self.parts.view.answer(&why);
                return None;
            }
            Ok(destination) => destination,
            Err(failure) => {
                self.parts.view.answer(&failure.message);
                return None;
            }
        };
        let name = destination.name.clone();
        if self.talk.borrow().is_here(&destination.contact.public) {
            self.parts.view.answer(&format!("{name} is here"));
            return Some(name);
        }
        self.parts.view.note(&format!("calling {name}"));
        let known = !words.iter().any(|word| word.contains('/'));
        self.invite(destination, known, false, now);
        Some(name)
    }

    fn invite(&mut self, to: Destination, known: bool, main: bool, now: Now) {
        let Destination { name, contact, targets } = to;
        let key = contact.public;
        self.talk.borrow_mut().join(key, &name, now.mono);
        self.known.insert(key, known);
        let access = *contact.access.as_bytes();
        let callee = Callee { access, targets, name, known, main, reached: false, told: None };
        self.callees.insert(key, callee);
    }

    fn list(&mut self) {
        let present = self.talk.borrow().present();
        if present.is_empty() {
            return self.parts.view.answer("nobody is here");
        }
        let lines = present.iter().map(|p| {
            let state = match (p.here, p.called) {
                (true, _) => "here",
                (false, true) => "away, being called",
                (false, false) => "away",
            };
            let waiting = match p.waiting {
                0 => String::new(),
                n => format!(", {n} not acknowledged"),
            };
            format!("{}: {state}{waiting}", p.name)
        });
        let lines: Vec<String> = lines.collect();
        self.parts.view.answer(&lines.join("\n"));
    }

    fn help(&mut self) {
        let mut text = String::from("what you type goes to all who are here; // says a / first");
        for (command, takes, does) in COMMANDS {
            text.push_str(&format!("\n{:<21} {does}", format!("{command} {takes}")));
        }
        text.push_str("\nAlt-Enter begins another line of the same message");
        self.parts.view.answer(&text);
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
                Event::Lost(..) | Event::Left(..) => self.alone = self.parts.clock.now().mono,
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
            transport: Transport::Tcp,
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

    fn reached(&mut self, number: u64, session: SessionId, address: SocketAddr) {
        let Some((key, named)) = self.calls.remove(&number) else { return };
        named.set(Some(session));
        let Some(callee) = self.callees.get_mut(&key) else { return };
        callee.reached = true;
        callee.told = None;
        let name = callee.name.clone();
        self.parts.view.reached(&name, &address.to_string());
        self.open(session, key, &name);
    }

    fn open(&mut self, session: SessionId, key: PublicKey, name: &str) -> bool {
        let opened = self.talk.borrow_mut().opened(session, key, name);
        if opened {
            self.sessions.insert(session);
        }
        self.tell();
        // What was typed before anybody was here is looked at now.
        let _ = self.parts.waker.wake();
        opened
    }

    /// A call was in vain. Whom the program was started for must be there at first, unless somebody
    /// waits who may have patience; what will not be better next time ends it in any case.
    fn not_reached(&mut self, number: u64, error: &DialError) {
        let Some((key, _)) = self.calls.remove(&number) else { return };
        let now = self.parts.clock.now().mono;
        let Some(callee) = self.callees.get_mut(&key) else { return };
        let failure = why::dial_failure(error);
        let hopeless =
            matches!(error, DialError::NotFound(_) | DialError::NoProof(..) | DialError::Local(_));
        let patient = self.parts.keyboard.is_edited() && !hopeless;
        if !callee.reached && !patient && callee.main {
            self.failure = Some(failure.about(&callee.name));
        } else if !callee.reached && hopeless {
            let name = &callee.name;
            self.parts.view.answer(&format!("{name}: {}", failure.message));
            self.talk.borrow_mut().give_up(&key, "they could not be called");
            self.tell();
        } else {
            self.talk.borrow_mut().unanswered(&key, now);
            if callee.told.as_ref() != Some(&failure.message) {
                let name = &callee.name;
                self.parts.view.note(&format!("{name}: {}; calling again", failure.message));
                callee.told = Some(failure.message);
            }
        }
    }

    fn disconnected(&mut self, session: SessionId, ended: &Ended) {
        if !self.sessions.remove(&session) {
            return;
        }
        let how = match ended {
            Ended::InOrder | Ended::Cut(Cut::Stopped) => Parting::Goodbye,
            Ended::Cut(_) | Ended::Unread(_) => Parting::Loss,
        };
        let now = self.parts.clock.now().mono;
        self.talk.borrow_mut().closed(session, how, now);
        self.tell();
        // Another session with them may have something to say now.
        let _ = self.parts.waker.wake();
    }

    /// When nobody was here for too long, if nobody waits for them.
    fn patience_ends(&self) -> Option<Duration> {
        let edited = self.parts.keyboard.is_edited();
        let alone = !self.talk.borrow().has_company();
        let lone = !edited && self.parts.ears.is_none() && alone;
        lone.then_some(self.alone + self.parts.silence)
    }

    fn look_at_the_clock(&mut self, now: Now) {
        if self.patience_ends().is_some_and(|at| at <= now.mono) && self.failure.is_none() {
            let names: Vec<&str> = self.callees.values().map(|c| c.name.as_str()).collect();
            let time = crate::cli::units::seconds(self.parts.silence);
            let what = format!("{}: cut off, and not back within {time}", several(&names));
            self.failure = Some(Failure::new(Code::CutOff, what));
        }
    }

    /// A greeting for somebody whom we call. Signs of life must come more often than our patience
    /// ends.
    fn greeting(&self, now: Now) -> Meta {
        let often = self.parts.silence / 3;
        let mut greeting = Meta::greeting(random(), now.unix_ms);
        greeting.keepalive_ms = (often < KEEPALIVE).then_some(often.as_millis() as u64);
        greeting
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
                return self.reached(*number, session.0, *address);
            }
            Notice::NotReached(number, error) => return self.not_reached(*number, error),
            Notice::Disconnected(session, _, ended) => self.disconnected(session.0, ended),
            // It comes again, when its sender is back.
            Notice::Cut(heard, _) if heard.kind == MessageKind::ChatLine as u8 => return,
            _ => {}
        }
        match &mut self.parts.ears {
            Some(ears) => ears.notice(notice),
            None => self.parts.view.notice(&notice),
        }
    }

    fn route(&mut self, session: listen::SessionId, caller: &Caller, meta: &Meta) -> Route {
        match &mut self.parts.ears {
            Some(ears) => ears.route(session, caller, meta),
            None => listen::shown(meta),
        }
    }

    fn hire(
        &mut self,
        number: usize,
        session: listen::SessionId,
        caller: &Caller,
    ) -> io::Result<Hired> {
        match &mut self.parts.ears {
            Some(ears) => ears.hire(number, session, caller),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn feed(&mut self, session: listen::SessionId, caller: &Caller) -> Option<Box<dyn Feed>> {
        self.parts.ears.as_mut()?.feed(session, caller)
    }

    fn greeted(&mut self, session: listen::SessionId, caller: &Caller) -> Option<Box<dyn Feed>> {
        let Origin::Key(key) = caller.origin else { return None };
        if !self.sessions.contains(&session.0) {
            self.known.insert(key, caller.known);
            if !self.open(session.0, key, &caller.name) {
                return None;
            }
        }
        let (talk, waker) = (Rc::clone(&self.talk), Arc::clone(&self.parts.waker));
        Some(Box::new(Voice::answering(talk, waker, session.0)))
    }

    fn deadline(&self) -> Option<Duration> {
        let calls = self.talk.borrow().deadline();
        let leaving = self.leaving.map(|since| since + LEAVING_TIME);
        let ears = self.parts.ears.as_ref().and_then(|ears| ears.deadline());
        [calls, leaving, self.patience_ends(), ears].into_iter().flatten().min()
    }

    fn next_call(&mut self) -> Option<Outgoing> {
        let now = self.parts.clock.now();
        self.take_typed(now);
        self.tell();
        self.look_at_the_clock(now);
        if let Some(wanted) = self.parts.ears.as_mut().and_then(|ears| ears.next_call()) {
            return Some(wanted);
        }
        let peer = self.talk.borrow_mut().due(now.mono)?;
        let callee = self.callees.get(&peer)?;
        self.calls_made += 1;
        let session = Rc::new(Cell::new(None));
        self.calls.insert(self.calls_made, (peer, Rc::clone(&session)));
        let (talk, waker) = (Rc::clone(&self.talk), Arc::clone(&self.parts.waker));
        let voice = Voice::calling(talk, waker, session, self.greeting(now));
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
        let called = !self.callees.is_empty() && self.callees.values().all(|c| c.reached);
        let said = self.input_ended && self.parts.ears.is_none() && called && talk.is_settled();
        self.failure.is_some() || left || said
    }
}

/// A chat has the terminal: nobody can be asked there.
struct NoPassphrases;

impl Passphrases for NoPassphrases {
    fn get(&mut self, _: &Path, _: &str) -> Result<Passphrase, String> {
        Err("a chat cannot ask for one; name a public key".into())
    }
}

//! Files and folders that are sent from a chat: each in a session of its own, so that typing never
//! waits for one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Chatting;
use super::calls::Callee;
use crate::cli::destination::resolve;
use crate::cli::failure::{Code, Failure, system};
use crate::cli::json::{self, Event as Report};
use crate::cli::moving::{Moving, Peer};
use crate::cli::outputs::Told;
use crate::cli::sanitize::sanitize_line;
use crate::cli::send::{files, why};
use crate::cli::units;
use crate::crypto::sodium::PublicKey;
use crate::net::dial::DialError;
use crate::net::listen::{Outgoing, Parting as Ended};
use crate::net::send::Cut;
use crate::sched::party::Source;
use crate::transfer::feed::{Event, FileFeed, Witness};

/// Files on their way, and those that are to go.
#[derive(Default)]
pub(super) struct Errands {
    wanted: VecDeque<Outgoing>,
    /// By the number of the call.
    called: BTreeMap<u64, Errand>,
    underway: BTreeMap<Source, Errand>,
    news: Rc<RefCell<VecDeque<News>>>,
}

/// One run of a feed.
pub(super) struct Errand {
    pub(super) to: String,
    /// What was asked for, safe to show.
    pub(super) what: String,
    /// What became of it was told.
    told: Rc<Cell<bool>>,
}

/// What became of a file or folder.
enum News {
    Delivered(String),
    Failed(Failure),
}

impl Errands {
    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.called.is_empty() && self.underway.is_empty()
    }

    /// A call is to be made.
    pub(super) fn call(&mut self, wanted: Outgoing) {
        self.wanted.push_back(wanted);
    }

    /// Somebody calls to fetch what the errand is about.
    pub(super) fn begin(&mut self, session: Source, errand: Errand) {
        self.underway.insert(session, errand);
    }

    /// The next call to make.
    pub(super) fn next(&mut self) -> Option<Outgoing> {
        self.wanted.pop_front()
    }

    fn all(&self) -> impl Iterator<Item = &Errand> {
        self.called.values().chain(self.underway.values())
    }
}

impl Chatting<'_> {
    /// What is on its way, and to whom.
    pub(super) fn files_underway(&self) -> impl Iterator<Item = String> {
        let all = self.errands.all().chain(self.fetching.errands());
        all.map(|errand| format!("{} to {}", errand.what, errand.to))
    }

    /// To one who is here, or a contact; or to all who are here.
    pub(super) fn send_file(&mut self, to: Option<&str>, path: &Path) {
        let what = sanitize_line(&path.to_string_lossy());
        if let Err(error) = path.symlink_metadata() {
            return self.file_failed(&Failure::new(Code::Local, system(&error)).about(what));
        }
        let present = self.talk.borrow().present();
        let mut whom: Vec<(String, Option<PublicKey>)> = present
            .into_iter()
            .filter(|peer| to.map_or(peer.here, |name| peer.name == name))
            .map(|peer| (peer.name, Some(peer.key)))
            .collect();
        if let (Some(name), true) = (to, whom.is_empty()) {
            whom.push((name.to_owned(), None));
        }
        if whom.is_empty() {
            self.parts.view.answer("nobody is here: nothing is sent");
        }
        for (name, key) in whom {
            let session = key.and_then(|key| Some((key, self.talk.borrow().session(&key)?)));
            match (self.callee(&name, key.as_ref()), session) {
                (Ok((peer, callee)), _) => self.send_to(peer, callee, path.to_owned(), &what),
                (Err(_), Some((key, session))) => {
                    if let Some((errand, feed)) = self.errand(&name, path.to_owned(), &what) {
                        self.offer(key, session, errand, Box::new(feed));
                    }
                }
                (Err(failure), None) => self.file_failed(&failure),
            }
        }
    }

    /// Where somebody can be called.
    fn callee(&self, name: &str, key: Option<&PublicKey>) -> Result<(PublicKey, Callee), Failure> {
        if let Some((key, callee)) = key.and_then(|key| self.callees.get_key_value(key)) {
            return Ok((*key, callee.clone()));
        }
        let unknown = || {
            Failure::new(Code::Unreachable, "no address is known; a file goes to who can be called")
                .about(sanitize_line(name))
        };
        let keyring = self.parts.keyring.ok_or_else(unknown)?;
        let found = resolve(&[name.to_owned()], keyring, &mut super::orders::NoPassphrases)?;
        if found.targets.is_empty() || key.is_some_and(|key| *key != found.contact.public) {
            return Err(unknown());
        }
        Ok((found.contact.public, Callee::new(found, false)))
    }

    /// What is to be said to `to`; what prevents that is told.
    fn errand(&mut self, to: &str, path: PathBuf, what: &str) -> Option<(Errand, FileFeed)> {
        let told = Rc::new(Cell::new(false));
        let witness = self.witness(to, Rc::clone(&told));
        let bell = self.parts.bell.clone();
        match FileFeed::new(vec![path], self.keepalive_ms(), bell, witness) {
            Ok(feed) => {
                self.parts.view.note(&format!("sending {what} to {to}"));
                Some((Errand { to: to.to_owned(), what: what.to_owned(), told }, feed))
            }
            Err(error) => {
                self.file_failed(&Failure::new(Code::Local, system(&error)).about(what));
                None
            }
        }
    }

    fn send_to(&mut self, peer: PublicKey, callee: Callee, path: PathBuf, what: &str) {
        let Some((errand, feed)) = self.errand(&callee.name, path, what) else { return };
        self.calls_made += 1;
        let number = self.calls_made;
        self.errands.called.insert(number, errand);
        self.errands.wanted.push_back(Outgoing {
            number,
            key: 0,
            peer,
            access: callee.access,
            name: callee.name,
            known: callee.known,
            targets: callee.targets,
            feed: Box::new(feed),
            once: true,
        });
        // The loop asks for calls once a turn.
        self.parts.bell.ring();
    }

    /// Hears what becomes of the files for one recipient.
    fn witness(&self, to: &str, told: Rc<Cell<bool>>) -> Witness {
        let mut moving = Moving::new(Peer::To(to.to_owned()), self.parts.told.clone());
        let (to, reports) = (to.to_owned(), self.parts.told.clone());
        let (news, bell) = (Rc::clone(&self.errands.news), self.parts.bell.clone());
        Box::new(move |event| {
            match event {
                Event::Begun(meta) => return moving.begin(meta),
                Event::Resumed(bytes) => return moving.skip(bytes),
                Event::Moved(bytes) => return moving.advance(bytes),
                _ => {}
            }
            // Of a folder's entries the folder's own fate follows.
            if let Event::Delivered { name, .. }
            | Event::Declined { name, .. }
            | Event::Unread(name, _)
            | Event::Missing(name, _) = event
            {
                told.set(told.get() || !name.contains('/'));
            }
            news.borrow_mut().extend(verdict(&event, &to, &reports));
            bell.ring();
        })
    }

    /// Whether the call of this number was for a file; it was answered.
    pub(super) fn file_reached(&mut self, number: u64, session: Source) -> bool {
        let errand = self.errands.called.remove(&number);
        errand.is_some_and(|errand| {
            self.errands.underway.insert(session, errand);
            true
        })
    }

    /// Whether the call of this number was for a file; it was in vain.
    pub(super) fn file_not_reached(&mut self, number: u64, error: &DialError) -> bool {
        let Some(errand) = self.errands.called.remove(&number) else { return false };
        let failure = why::dial_failure(error);
        self.file_failed(&failure.about(errand.what).about(errand.to));
        true
    }

    /// Whether the session was for a file; it is over.
    pub(super) fn file_session_over(&mut self, session: Source, ended: &Ended) -> bool {
        let Some(errand) = self.errands.underway.remove(&session) else { return false };
        self.tell_files();
        if !errand.told.get() {
            let failure = match ended {
                Ended::InOrder | Ended::Left => Failure::new(Code::CutOff, "cut off"),
                Ended::Cut(cut) => Failure::new(Code::CutOff, cut_off(*cut)),
                Ended::Unread(error) => Failure::new(Code::Local, system(error)),
            };
            self.file_failed(&failure.about(errand.what).about(errand.to));
        }
        true
    }

    /// Shows what became of files since the last turn.
    pub(super) fn tell_files(&mut self) {
        loop {
            let news = self.errands.news.borrow_mut().pop_front();
            match news {
                Some(News::Delivered(text)) => self.parts.view.note(&text),
                Some(News::Failed(failure)) => self.file_failed(&failure),
                None => return,
            }
        }
    }

    /// A person reads it; a script has it as its exit status.
    pub(super) fn file_failed(&mut self, failure: &Failure) {
        let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!("\nhint: {hint}"));
        self.parts.view.answer(&format!("{}{hint}", failure.message));
        if !self.parts.keyboard.is_edited() {
            self.other_failure.get_or_insert_with(|| failure.clone());
        }
    }
}

fn cut_off(cut: Cut) -> String {
    let why = match cut {
        Cut::Silence(time) => format!("they were silent for {}", units::seconds(time)),
        Cut::Undelivered(time) => format!("they delivered nothing for {}", units::seconds(time)),
        Cut::Closed => "the connection was closed".to_owned(),
        Cut::Stopped => "they stopped".to_owned(),
        Cut::Broken(violation) => violation.to_string(),
        Cut::TooSlow(_) => "they were too slow".to_owned(),
    };
    format!("cut off: {why}; sent again, it goes on where it was cut")
}

/// What became of one file or folder, if that is known now.
fn verdict(event: &Event<'_>, to: &str, told: &Told) -> Option<News> {
    let (id, name, failure) = match event {
        Event::Delivered { id, name, bytes, resumed, entries } => {
            told.report(&Report::File {
                id: Some(&json::hex(id)),
                from: None,
                to: Some(to),
                name,
                status: "delivered",
                bytes: *bytes,
                resumed: Some(*resumed),
                entries: *entries,
                path: None,
                error: None,
            });
            let (shown, size) = (sanitize_line(name), units::bytes(*bytes));
            return Some(News::Delivered(format!("✓ {to} has {shown}, {size}")));
        }
        Event::Declined { id, name, code, text } => {
            (Some(id), name, why::declined_file(*code, text))
        }
        Event::Unread(name, error) => {
            let why = format!("cannot read it: {}", system(error));
            (None, name, Failure::new(Code::Local, why))
        }
        Event::Missing(name, missing) => (None, name, files::not_sent(missing)),
        // Here files flow: no relay holds them.
        Event::Begun(_) | Event::Resumed(_) | Event::Moved(_) | Event::Queued { .. } => {
            return None;
        }
    };
    let declined = matches!(event, Event::Declined { .. });
    told.report(&Report::File {
        id: id.map(|id| json::hex(id)).as_deref(),
        from: None,
        to: Some(to),
        name,
        status: if declined { "declined" } else { "failed" },
        bytes: 0,
        resumed: None,
        entries: None,
        path: None,
        error: Some(&failure.message),
    });
    Some(News::Failed(failure.about(sanitize_line(name)).about(to)))
}

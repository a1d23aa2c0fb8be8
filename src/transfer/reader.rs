//! The thread that reads what is sent: it opens, walks, hashes and reads ahead of the loop.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::vec::IntoIter;

use super::batch::{Batch, Closed, Missing, Shared, Step};
use super::incoming::Resume;
use super::outbox::{Folder, Next, Outgoing, Source};
use crate::crypto::sodium::random;
use crate::net::clock::Clock;
use crate::proto::stream::meta::Meta;

/// Reads one source after another.
pub(super) struct Reader {
    shared: Arc<Shared>,
    batch: Batch,
    paths: IntoIter<PathBuf>,
    /// The source behind the one that is read. It is open, so that the last message is known.
    next: Option<Source>,
    clock: Clock,
    keepalive_ms: Option<u64>,
    /// Number of the message that began last.
    number: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, paths: Vec<PathBuf>, keepalive_ms: Option<u64>) -> Self {
        Self {
            shared,
            batch: Batch::new(),
            paths: paths.into_iter(),
            next: None,
            clock: Clock::default(),
            keepalive_ms,
            number: 0,
        }
    }

    pub(super) fn run(mut self) {
        // A loop that wants nothing any more needs to hear of nothing.
        let _ = self.read_all();
    }

    fn read_all(&mut self) -> Result<(), Closed> {
        self.open_next()?;
        while let Some(source) = self.next.take() {
            match source {
                Source::File(file) => {
                    self.open_next()?;
                    self.message(file)?;
                }
                Source::Folder(folder) => self.folder(folder)?,
            }
        }
        if self.batch.steps.is_empty() { Ok(()) } else { self.shared.give(&mut self.batch, true) }
    }

    /// Opens the next source that can be opened.
    fn open_next(&mut self) -> Result<(), Closed> {
        while self.next.is_none() {
            let Some(path) = self.paths.next() else { return Ok(()) };
            match Source::open(&path) {
                Ok(source) => self.next = Some(source),
                Err(error) => {
                    let name = path.to_string_lossy().into_owned();
                    self.push(Step::Missing(name, Missing::Unreadable(error)))?;
                }
            }
        }
        Ok(())
    }

    fn folder(&mut self, mut folder: Folder) -> Result<(), Closed> {
        let opening = match folder.opening() {
            Ok(opening) => opening,
            Err(error) => return self.unreadable(&folder, error),
        };
        self.begin(&opening, true)?;
        let opened = self.number;
        if !self.start(|resume| folder.resume(resume).map(|at| (at, folder.there())))? {
            // Without its first message nothing of it is wanted.
            return self.open_next();
        }
        self.push(Step::End)?;
        while self.shared.wants_folder(opened) {
            match folder.advance() {
                Ok(Next::Entry(entry)) => {
                    let last = entry.closes_folder();
                    if last {
                        self.open_next()?;
                    }
                    self.message_with(entry, !last || self.next.is_some())?;
                    if last {
                        return Ok(());
                    }
                }
                Ok(Next::Skipped(name, why)) => {
                    self.push(Step::Missing(name, Missing::Skipped(why)))?;
                }
                Ok(Next::Done) => break,
                Err(error) => return self.unreadable(&folder, error),
            }
        }
        self.open_next()
    }

    fn unreadable(&mut self, folder: &Folder, error: io::Error) -> Result<(), Closed> {
        let name = folder.name().to_owned();
        self.push(Step::Missing(name, Missing::Unreadable(error)))?;
        self.open_next()
    }

    fn message(&mut self, file: Outgoing) -> Result<(), Closed> {
        let more = self.next.is_some();
        self.message_with(file, more)
    }

    fn message_with(&mut self, mut message: Outgoing, more: bool) -> Result<(), Closed> {
        let asks = self.begin(&message, more)?;
        if asks && !self.start(|resume| message.resume(resume).map(|at| (at, at)))? {
            return Ok(());
        }
        while self.shared.wants(self.number) {
            let space = self.batch.space();
            if space.is_empty() {
                self.shared.give(&mut self.batch, true)?;
                continue;
            }
            match message.read(space) {
                Ok(0) => return self.push(Step::End),
                Ok(len) => self.batch.fill(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.push(Step::Unread(error)),
            }
            if self.batch.is_rich() {
                self.shared.give(&mut self.batch, false)?;
            }
        }
        Ok(())
    }

    /// Whether the receiver will say what it has.
    fn begin(&mut self, message: &Outgoing, more: bool) -> Result<bool, Closed> {
        self.number += 1;
        let meta = message.meta(random(), self.clock.now().unix_ms);
        let meta = Meta { more, keepalive_ms: self.keepalive_ms, ..meta };
        let asks = meta.asks_resume();
        self.push(Step::Begin { meta, number: self.number })?;
        Ok(asks)
    }

    /// Waits for what the receiver has, and begins there, or at 0. Not if it wants nothing of it.
    fn start(
        &mut self,
        resume: impl FnOnce(&Resume) -> io::Result<(u64, u64)>,
    ) -> Result<bool, Closed> {
        self.shared.give(&mut self.batch, true)?;
        let Some(offer) = self.shared.offered(self.number)? else { return Ok(false) };
        match resume(&offer) {
            Ok((offset, there)) => self.push(Step::Start { offset, there }).map(|()| true),
            Err(error) => self.push(Step::Unread(error)).map(|()| false),
        }
    }

    fn push(&mut self, step: Step) -> Result<(), Closed> {
        if !self.batch.has_room() {
            self.shared.give(&mut self.batch, true)?;
        }
        // What begins comes with its first bytes.
        let rests = !matches!(step, Step::Begin { .. });
        self.batch.steps.push_back(step);
        if rests { self.shared.give(&mut self.batch, false) } else { Ok(()) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.end();
    }
}

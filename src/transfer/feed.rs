//! Files and folders as what a session says. The loop takes what a thread (`reader`) has
//! read ahead, and hears what came of it.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use super::batch::Missing;
use super::batch::{Batch, Shared, Step, Taken};
use super::incoming::Resume;
use super::reader::Reader;
use crate::net::feed::{Answer, Feed, Next};
use crate::net::hub::Bell;
use crate::net::input::Got;
use crate::net::send::Held;
use crate::proto::stream::meta::{MessageKind, Meta};

/// What becomes of what is sent, for whoever tells the user.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file, a folder or an entry of it begins.
    Begun(&'a Meta),
    /// It is gone on with: the receiver has so many bytes of it.
    Resumed(u64),
    /// So many bytes are on their way.
    Moved(u64),
    /// A file or a folder is delivered.
    Delivered {
        /// Names it.
        id: [u8; 16],
        /// Its name, as META has it.
        name: &'a str,
        /// Bytes in it, without what was not delivered.
        bytes: u64,
        /// Of these, what the receiver had before this session.
        resumed: u64,
        /// Of a folder: the entries that were delivered in this session.
        entries: Option<u64>,
    },
    /// The recipient does not take a file, a folder or an entry of it.
    Declined {
        /// Names it.
        id: [u8; 16],
        /// Its name, as META has it.
        name: &'a str,
        /// A [`crate::proto::stream::record::RefuseCode`].
        code: u8,
        /// Why; not fit for a terminal.
        text: &'a str,
    },
    /// A relay holds a file, and the recipient has not acknowledged it yet.
    Queued {
        /// Names it.
        id: [u8; 16],
        /// Its name, as META has it.
        name: &'a str,
        /// Where.
        held: &'a Held,
    },
    /// It cannot be read, or not to its end.
    Unread(&'a str, &'a io::Error),
    /// It is not sent at all.
    Missing(&'a str, &'a Missing),
}

/// Hears what becomes of it, in the loop's thread.
pub type Witness = Box<dyn FnMut(Event<'_>)>;

/// A list of files and folders, as one run of messages.
pub struct FileFeed {
    shared: Arc<Shared>,
    batch: Batch,
    witness: Witness,
    /// Messages that are not answered yet, the oldest first.
    pending: VecDeque<Pending>,
    /// The message that is read; none between two.
    current: Option<u64>,
    folder: Tally,
}

/// What is known of a message until it is answered.
struct Pending {
    number: u64,
    id: [u8; 16],
    name: String,
    bytes: u64,
    resumed: u64,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    File,
    Opening,
    Entry,
    Closing,
}

/// What was delivered of a folder.
#[derive(Default)]
struct Tally {
    entries: u64,
    bytes: u64,
    resumed: u64,
}

impl FileFeed {
    /// What lies at `paths`, which a thread opens from now on. Each META asks for a sign of life
    /// every `keepalive_ms`. `bell` wakes the loop, until the session has one: [`Feed::rings`].
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(
        paths: Vec<PathBuf>,
        keepalive_ms: Option<u64>,
        bell: Bell,
        witness: Witness,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(bell));
        let reader = Reader::new(Arc::clone(&shared), paths, keepalive_ms);
        std::thread::Builder::new().name("files".into()).spawn(|| reader.run())?;
        Ok(Self {
            shared,
            batch: Batch::new(),
            witness,
            pending: VecDeque::new(),
            current: None,
            folder: Tally::default(),
        })
    }

    /// Makes sure that there is a step.
    fn refill(&mut self) -> Taken {
        if self.batch.steps.is_empty() { self.shared.take(&mut self.batch) } else { Taken::Steps }
    }

    fn begin(&mut self, meta: Meta, number: u64) -> Meta {
        let name = meta.name.clone().unwrap_or_default();
        let role = match meta.kind {
            k if k == MessageKind::File as u8 => Role::File,
            _ if name.contains('/') => Role::Entry,
            _ if meta.size.is_some() => Role::Opening,
            _ => Role::Closing,
        };
        self.pending.push_back(Pending { number, id: meta.id, name, bytes: 0, resumed: 0, role });
        self.current = Some(number);
        (self.witness)(Event::Begun(&meta));
        meta
    }

    /// The former message was given up before its end: the rest of it is not wanted.
    fn leave(&mut self) {
        let Some(number) = self.current.take() else { return };
        self.shared.skip(number);
    }

    fn delivered(&mut self, message: &Pending) {
        let Pending { id, name, bytes, resumed, role, .. } = message;
        let (id, name, mut bytes, mut resumed) = (*id, name.as_str(), *bytes, *resumed);
        let mut entries = None;
        match role {
            Role::Opening => {
                self.folder = Tally { entries: 0, bytes, resumed };
                return;
            }
            Role::Entry => {
                self.folder.entries += 1;
                self.folder.bytes += bytes;
                self.folder.resumed += resumed;
                return;
            }
            Role::Closing => {
                (bytes, resumed) = (self.folder.bytes, self.folder.resumed);
                entries = Some(self.folder.entries);
            }
            Role::File => {}
        }
        (self.witness)(Event::Delivered { id, name, bytes, resumed, entries });
    }
}

impl Feed for FileFeed {
    fn rings(&mut self, bell: Bell) -> bool {
        self.shared.rings(bell);
        true
    }

    fn next(&mut self) -> io::Result<Next> {
        self.leave();
        loop {
            match self.refill() {
                Taken::Steps => {}
                Taken::Later => return Ok(Next::Later),
                Taken::Over => return Ok(Next::End),
            }
            match self.batch.skip() {
                Some(Step::Begin { meta, number }) => {
                    return Ok(Next::Message(self.begin(meta, number)));
                }
                Some(Step::Missing(name, why)) => (self.witness)(Event::Missing(&name, &why)),
                _ => {}
            }
        }
    }

    fn offered(&mut self, offset: u64, hash: [u8; 32]) {
        if let Some(number) = self.current {
            self.shared.offer(number, Resume { offset, hash });
        }
    }

    fn start(&mut self) -> io::Result<Option<u64>> {
        match self.refill() {
            Taken::Steps => {}
            Taken::Later => return Ok(None),
            Taken::Over => return Err(broken()),
        }
        match self.batch.skip() {
            Some(Step::Start { offset, there }) => {
                if let Some(message) = self.pending.back_mut() {
                    (message.bytes, message.resumed) = (there, there);
                }
                (self.witness)(Event::Resumed(there));
                Ok(Some(offset))
            }
            Some(Step::Unread(error)) => Err(error),
            _ => Ok(Some(0)),
        }
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        match self.refill() {
            Taken::Steps => {}
            Taken::Later => return Ok(Got::Later),
            Taken::Over => return Err(broken()),
        }
        if let Some(Step::Data(_)) = self.batch.steps.front() {
            let len = self.batch.read(space);
            if let Some(message) = self.pending.back_mut() {
                message.bytes += len as u64;
            }
            (self.witness)(Event::Moved(len as u64));
            return Ok(Got::Bytes(len));
        }
        match self.batch.skip() {
            Some(Step::Unread(error)) => Err(error),
            _ => {
                self.current = None;
                Ok(Got::End)
            }
        }
    }

    fn answered(&mut self, answer: &Answer) {
        let Some(message) = self.pending.pop_front() else { return };
        let name = message.name.as_str();
        match answer {
            Answer::Delivered(_) => self.delivered(&message),
            Answer::Refused(code, text) => {
                if message.role == Role::Opening {
                    self.shared.skip_folder(message.number);
                }
                (self.witness)(Event::Declined { id: message.id, name, code: *code, text });
            }
            Answer::Unread(error) => (self.witness)(Event::Unread(name, error)),
        }
    }
}

/// The thread ended in the middle of a message.
fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Drop for FileFeed {
    fn drop(&mut self) {
        self.shared.close();
    }
}

//! What one session brings to an inbox, as the loop hands it on: a queue to the thread that writes
//! (`worker`), and the way back. The loop never waits for a disk.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::declined::Declined;
use super::delivery::Delivery;
use super::handover::{Said, Shared, Step};
use super::worker::Worker;
use crate::net::hub::Bell;
use crate::net::receiver::{Progress, Receiver};
use crate::proto::stream::meta::{MessageKind, Meta};

/// What becomes of what comes, for whoever tells the user.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file, a folder or an entry of it begins.
    Begun(&'a Meta),
    /// It is gone on with: so many bytes of it are here.
    Resumed(u64),
    /// So many bytes came.
    Came(u64),
    /// A file or a folder is all there.
    Landed {
        /// Names it.
        id: [u8; 16],
        /// Its name, as its sender has it: not fit for a terminal.
        name: &'a str,
        /// The name under which it landed.
        landed: &'a str,
        /// Bytes in it, without what was declined.
        bytes: u64,
        /// Of a folder: the entries that came in this session.
        entries: Option<u64>,
    },
    /// A file, a folder or an entry of it is not taken.
    Declined {
        /// Names it.
        id: [u8; 16],
        /// Its name, as its sender has it.
        name: &'a str,
        /// Why.
        why: &'a Declined,
    },
    /// It ended before it was whole; what came of it stays, to be gone on with.
    Cut {
        /// Names it.
        id: [u8; 16],
        /// Its name, as its sender has it.
        name: &'a str,
    },
}

/// Hears what becomes of it, in the loop's thread.
pub type Witness = Box<dyn FnMut(Event<'_>)>;

/// A [`Receiver`] whose messages are files and folders.
pub struct Intake {
    shared: Arc<Shared>,
    /// Until the first message: most sessions bring none.
    delivery: Option<Delivery>,
    witness: Witness,
    /// Messages that are not answered yet, the oldest first.
    headings: VecDeque<Heading>,
    /// Number of the message that began last.
    number: u64,
    within: bool,
    /// The folder that began and has not come to its last message: its id and name.
    open: Option<([u8; 16], String)>,
    folder: Tally,
    /// There was no thread to be had, so that nothing is taken.
    crippled: bool,
}

/// What is known of a message until it is answered.
struct Heading {
    number: u64,
    id: [u8; 16],
    name: String,
    bytes: u64,
    /// The first or last of a folder.
    is_folder: bool,
    /// The last.
    closes: bool,
}

/// A folder that is coming.
#[derive(Default)]
struct Tally {
    entries: u64,
    bytes: u64,
}

impl Intake {
    /// Takes what `delivery`'s session brings. `bell` is that of the session.
    pub fn new(delivery: Delivery, bell: Bell, witness: Witness) -> Self {
        Self {
            shared: Arc::new(Shared::new(bell)),
            delivery: Some(delivery),
            witness,
            headings: VecDeque::new(),
            number: 0,
            within: false,
            open: None,
            folder: Tally::default(),
            crippled: false,
        }
    }

    /// Starts the thread, unless it runs.
    fn start_thread(&mut self) {
        let Some(delivery) = self.delivery.take() else { return };
        let worker = Worker::new(delivery, Arc::clone(&self.shared));
        let spawned = std::thread::Builder::new().name("inbox".into()).spawn(|| worker.run());
        self.crippled = spawned.is_err();
    }

    fn ask(&self, step: Step, bytes: &[u8]) {
        match step {
            Step::Begin { number, .. } if self.crippled => {
                let why = Declined::Disk(io::ErrorKind::OutOfMemory.into());
                self.shared.tell(&mut vec![(number, Said::Declined(why))]);
            }
            _ if self.crippled => {}
            step => self.shared.ask(step, bytes),
        }
    }

    /// What `said` means for the oldest messages.
    fn understood(&mut self, number: u64, said: Said) -> Option<Progress> {
        match said {
            Said::Offer { offset, hash } => return Some(Progress::Resume { offset, hash }),
            Said::There(bytes) => {
                if let Some(heading) = self.headings.iter_mut().find(|h| h.number == number) {
                    heading.bytes += bytes;
                }
                (self.witness)(Event::Resumed(bytes));
                return None;
            }
            _ => {}
        }
        let heading = self.headings.pop_front()?;
        debug_assert_eq!(heading.number, number, "answers come in the order of messages");
        Some(match said {
            Said::Declined(why) => {
                let Heading { id, name, closes, .. } = &heading;
                self.open.take_if(|(open, _)| *closes || open == id);
                (self.witness)(Event::Declined { id: *id, name, why: &why });
                Progress::Refused(why.code(), why.to_string())
            }
            Said::Landed(landed) => {
                self.landed(&heading, &landed);
                Progress::Delivered
            }
            // Who was there then has told it.
            Said::Again => Progress::Delivered,
            _ => {
                if heading.is_folder {
                    self.folder = Tally::default();
                } else {
                    self.folder.entries += 1;
                }
                self.folder.bytes += heading.bytes;
                Progress::Delivered
            }
        })
    }

    fn landed(&mut self, heading: &Heading, landed: &str) {
        let (mut bytes, mut entries) = (heading.bytes, None);
        if heading.is_folder {
            bytes = self.folder.bytes;
            entries = Some(self.folder.entries);
        }
        let (id, name) = (heading.id, heading.name.as_str());
        (self.witness)(Event::Landed { id, name, landed, bytes, entries });
    }

    fn cut(&mut self) {
        self.within = false;
        if let Some(Heading { id, name, is_folder, .. }) = self.headings.pop_back() {
            self.open.take_if(|_| is_folder);
            (self.witness)(Event::Cut { id, name: &name });
        }
    }

    /// The folder that is open will not come to its end.
    fn leave_folder(&mut self) {
        if let Some((id, name)) = self.open.take() {
            (self.witness)(Event::Cut { id, name: &name });
        }
    }

    fn begin_as(&mut self, meta: &Meta, now_ms: u64, once: bool) {
        self.number += 1;
        self.within = true;
        let name = meta.name.clone().unwrap_or_default();
        let is_folder = meta.kind == MessageKind::DirectoryEntry as u8 && !name.contains('/');
        let (number, id) = (self.number, meta.id);
        let closes = is_folder && meta.size.is_none();
        if is_folder && !closes {
            self.leave_folder();
            self.open = Some((id, name.clone()));
        }
        self.headings.push_back(Heading { number, id, name, bytes: 0, is_folder, closes });
        (self.witness)(Event::Begun(meta));
        self.start_thread();
        self.ask(Step::Begin { meta: meta.clone(), now_ms, number, once }, &[]);
    }
}

impl Receiver for Intake {
    fn begin(&mut self, meta: &Meta, now_ms: u64) {
        self.begin_as(meta, now_ms, false);
    }

    fn begin_once(&mut self, meta: &Meta, now_ms: u64) {
        self.begin_as(meta, now_ms, true);
    }

    fn start_at(&mut self, offset: u64) {
        self.ask(Step::Start(offset), &[]);
    }

    fn data(&mut self, bytes: &[u8]) {
        if let Some(heading) = self.headings.back_mut().filter(|h| h.number == self.number) {
            heading.bytes += bytes.len() as u64;
        }
        (self.witness)(Event::Came(bytes.len() as u64));
        self.ask(Step::Data(bytes.len()), bytes);
    }

    fn end(&mut self) {
        self.within = false;
        if self.headings.back().is_some_and(|h| h.number == self.number && h.closes) {
            self.open = None;
        }
        self.ask(Step::End, &[]);
    }

    fn abort(&mut self) {
        let number = self.number;
        self.shared.give_up(number);
        self.ask(Step::Abort, &[]);
        if self.headings.back().is_some_and(|heading| heading.number == number) {
            self.cut();
        }
        self.within = false;
    }

    fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    fn rings(&self) -> bool {
        true
    }

    fn progress(&mut self) -> Option<Progress> {
        loop {
            let (number, said) = self.shared.next_said(self.headings.front().map(|h| h.number))?;
            if let Some(progress) = self.understood(number, said) {
                return Some(progress);
            }
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        // What has come is still written.
        self.shared.close();
        if self.within && self.headings.back().is_some_and(|h| h.number == self.number) {
            self.cut();
        }
        // Of an entry's fate that of its folder follows.
        self.leave_folder();
    }
}

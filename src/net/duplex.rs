//! Our own stdin and stdout as the two halves of a duplex stream.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::feed::{Answer, Feed, Next, OneMessage};
use super::input::{Got, Input};
use super::listen::{Heard, Stage};
use super::output::Output;
use super::receiver::{Progress, Receiver};
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::stream::record::RefuseCode;
use crate::sched::mux::{Ending, Sink, Ticket};

/// Makes of bytes what the output may show.
pub type Filter = Box<dyn FnMut(&[u8], &mut Vec<u8>)>;

/// Where both halves stand.
#[derive(Clone, Default)]
pub struct Duplex(Rc<Halves>);

#[derive(Default)]
struct Halves {
    said: RefCell<Said>,
    heard: Cell<Hearing>,
}

/// What became of what we said.
#[derive(Debug, Default)]
pub enum Said {
    /// It is not answered yet.
    #[default]
    Coming,
    /// All of it, so many bytes, was delivered, or as much of it as was needed.
    Delivered(u64),
    /// The peer takes no more: code and text of its REFUSE.
    Refused(u8, String),
    /// Our input could not be read to its end.
    Unread(io::Error),
}

/// Where the stream that comes in stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hearing {
    /// It has not begun.
    #[default]
    Nothing,
    /// It has; it is delivered once the ticket is flushed.
    Within(Option<Ticket>),
    /// All of it is written.
    Whole,
    /// Its sender gave it up.
    Cut,
}

impl Duplex {
    /// The half that is said: `input`, as the stream that `meta` describes.
    #[must_use]
    pub fn talking(&self, meta: Meta, input: Input) -> Box<dyn Feed> {
        let meta = Meta { kind: MessageKind::Duplex as u8, ..meta };
        let message = OneMessage::new(meta, input);
        Box::new(Talking { message, halves: Rc::clone(&self.0), read: 0 })
    }

    /// The half that is heard, and goes to `output` as it comes, through `filter` if there is one.
    /// The output's errors are for the [`Quiet`] stage.
    #[must_use]
    pub fn listening(
        &self,
        output: Rc<RefCell<Output>>,
        filter: Option<Filter>,
    ) -> Box<dyn Receiver> {
        let halves = Rc::clone(&self.0);
        Box::new(Listening { output, filter, filtered: Vec::new(), halves, unwanted: 0 })
    }

    /// Whether nothing more comes of it, as long as the session lasts.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let heard = self.0.heard.get();
        match &*self.0.said.borrow() {
            Said::Coming => false,
            Said::Delivered(_) => matches!(heard, Hearing::Whole | Hearing::Cut),
            Said::Refused(..) => !matches!(heard, Hearing::Within(_)),
            Said::Unread(_) => true,
        }
    }

    /// What became of both halves, once.
    #[must_use]
    pub fn outcome(&self) -> (Said, Hearing) {
        (self.0.said.take(), self.0.heard.get())
    }
}

struct Talking {
    message: OneMessage,
    halves: Rc<Halves>,
    /// Bytes so far.
    read: u64,
}

impl Feed for Talking {
    fn next(&mut self) -> io::Result<Next> {
        self.message.next()
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        let got = self.message.read(space)?;
        if let Got::Bytes(n) = got {
            self.read += n as u64;
        }
        Ok(got)
    }

    fn answered(&mut self, answer: &Answer) {
        self.halves.said.replace(match answer {
            Answer::Delivered(total) => Said::Delivered(*total),
            Answer::Refused(code, _) if *code == RefuseCode::NeedsNoMore as u8 => {
                Said::Delivered(self.read)
            }
            Answer::Refused(code, text) => Said::Refused(*code, text.clone()),
            Answer::Unread(e) => Said::Unread(match e.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::new(e.kind(), e.to_string()),
            }),
        });
    }
}

struct Listening {
    output: Rc<RefCell<Output>>,
    filter: Option<Filter>,
    filtered: Vec<u8>,
    halves: Rc<Halves>,
    /// Messages after the first: not wanted, and not answered yet.
    unwanted: usize,
}

impl Receiver for Listening {
    fn begin(&mut self, _meta: &Meta, _now_ms: u64) {
        match self.halves.heard.get() {
            Hearing::Nothing => self.halves.heard.set(Hearing::Within(None)),
            _ => self.unwanted += 1,
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        if self.halves.heard.get() != Hearing::Within(None) {
            return;
        }
        let mut output = self.output.borrow_mut();
        match &mut self.filter {
            Some(filter) => {
                self.filtered.clear();
                filter(bytes, &mut self.filtered);
                output.write(&self.filtered);
            }
            None => output.write(bytes),
        }
        // Somebody may be waiting for so little.
        output.push();
    }

    fn end(&mut self) {
        if self.halves.heard.get() == Hearing::Within(None) {
            let ticket = self.output.borrow_mut().mark();
            self.halves.heard.set(Hearing::Within(Some(ticket)));
        }
    }

    fn abort(&mut self) {
        match self.halves.heard.get() {
            Hearing::Within(None) => self.halves.heard.set(Hearing::Cut),
            _ => self.unwanted = self.unwanted.saturating_sub(1),
        }
    }

    fn has_room(&self) -> bool {
        self.output.borrow().has_room()
    }

    fn progress(&mut self) -> Option<Progress> {
        match self.halves.heard.get() {
            Hearing::Within(Some(ticket)) if self.output.borrow().flushed() >= ticket => {
                self.halves.heard.set(Hearing::Whole);
                Some(Progress::Delivered)
            }
            Hearing::Whole | Hearing::Cut if self.unwanted > 0 => {
                self.unwanted -= 1;
                let why = "a session carries one stream".into();
                Some(Progress::Refused(RefuseCode::NotWanted, why))
            }
            _ => None,
        }
    }
}

/// The output of a program that shows no messages beside the stream. Its reader may leave when it
/// has read enough: that is an error only to whoever has more for it.
pub struct Quiet(pub Rc<RefCell<Output>>);

impl Sink<Heard> for Quiet {
    fn has_room(&self) -> bool {
        self.0.borrow().has_room()
    }
    fn begin(&mut self, _: &Heard) {}
    fn data(&mut self, _: &Heard, _: &[u8]) {}
    fn end(&mut self, _: &Heard, _: Ending) {}
    fn mark(&mut self) -> Ticket {
        self.0.borrow_mut().mark()
    }
}

impl Stage for Quiet {
    fn settle(&mut self) {
        self.0.borrow_mut().push();
    }
    fn flushed(&self) -> Ticket {
        self.0.borrow().flushed()
    }
    fn take_error(&mut self) -> Option<io::Error> {
        self.0.borrow_mut().take_error()
    }
    fn watched(&self) -> Option<RawFd> {
        None
    }
}

//! Lines of a chat on their way to the output: each whole, and each once.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::keyboard::MAX_LINE;
use super::seen::Seen;
use crate::cli::common::{CommonOptions, stdout_is_terminal};
use crate::cli::outputs::Outputs;
use crate::net::listen::{Heard, Origin, Stage};
use crate::net::output::Output;
use crate::proto::stream::meta::MessageKind;
use crate::sched::mux::{Ending, Sink, Ticket};

/// What a terminal does when it is rung.
const BELL: &[u8] = b"\x07";
/// A line comes with its end, in bytes: that of DOS is the longest.
const LINE_END: usize = 2;

/// A stage before which a line waits until it is whole. One that is cut comes again when its sender
/// is back, and one that was shown is not shown again.
pub struct Once {
    stage: Box<dyn Stage>,
    seen: Seen,
    way: Way,
    /// The terminal that is rung, which this stage prints on.
    bell: Option<Rc<RefCell<Output>>>,
}

enum Way {
    /// Everything that is no line of a chat, or is too long for one.
    Through,
    /// A line, as far as it came.
    Held(Vec<u8>),
}

impl Once {
    /// Before `stage`.
    pub fn new(stage: Box<dyn Stage>) -> Self {
        Self { stage, seen: Seen::default(), way: Way::Through, bell: None }
    }

    /// The same; with a `bell` each message that ended whole is told by it, if messages are for a
    /// person at a terminal.
    #[must_use]
    pub fn ringing(self, bell: bool, outputs: &Outputs, options: &CommonOptions) -> Self {
        let rings = bell && stdout_is_terminal() && !options.json;
        Self { bell: rings.then(|| Rc::clone(&outputs.messages)), ..self }
    }

    /// What was held goes its way.
    fn release(&mut self, heard: &Heard) {
        if let Way::Held(held) = std::mem::replace(&mut self.way, Way::Through) {
            self.stage.begin(heard);
            if !held.is_empty() {
                self.stage.data(heard, &held);
            }
        }
    }

    /// Whether this line is new; it is not, the next time.
    fn is_new(&mut self, heard: &Heard) -> bool {
        let Origin::Key(key) = heard.caller.origin else { return true };
        let new = !self.seen.contains(key.as_bytes(), &heard.id);
        self.seen.insert(*key.as_bytes(), heard.id);
        new
    }
}

impl Sink<Heard> for Once {
    fn has_room(&self) -> bool {
        self.stage.has_room()
    }

    fn begin(&mut self, heard: &Heard) {
        if heard.kind == MessageKind::ChatLine as u8 {
            self.way = Way::Held(Vec::new());
        } else {
            self.way = Way::Through;
            self.stage.begin(heard);
        }
    }

    fn data(&mut self, heard: &Heard, bytes: &[u8]) {
        match &mut self.way {
            Way::Through => self.stage.data(heard, bytes),
            Way::Held(held) => {
                held.extend_from_slice(bytes);
                if held.len() > MAX_LINE + LINE_END {
                    self.release(heard);
                }
            }
        }
    }

    fn end(&mut self, heard: &Heard, ending: Ending) {
        if let Way::Held(_) = self.way {
            if ending == Ending::Cut || !self.is_new(heard) {
                self.way = Way::Through;
                return;
            }
            self.release(heard);
        }
        self.stage.end(heard, ending);
        if let Some(terminal) = self.bell.as_ref().filter(|_| ending == Ending::Whole) {
            terminal.borrow_mut().write(BELL);
        }
    }

    fn mark(&mut self) -> Ticket {
        self.stage.mark()
    }
}

impl Stage for Once {
    fn settle(&mut self) {
        self.stage.settle();
    }

    fn flushed(&self) -> Ticket {
        self.stage.flushed()
    }

    fn take_error(&mut self) -> Option<io::Error> {
        self.stage.take_error()
    }

    fn watched(&self) -> Option<RawFd> {
        self.stage.watched()
    }
}

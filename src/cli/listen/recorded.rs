//! Messages that are recorded while they are shown: neither is acknowledged without the other.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::stage::Printer;
use crate::crypto::sodium::{PublicKey, random};
use crate::history::entry::{Direction, Head, State};
use crate::history::record::Recorder;
use crate::net::listen::{Heard, Origin, Stage};
use crate::sched::mux::{Ending, Sink, Ticket};

/// `printer`, and a copy of what it prints with `recorder`, if there is one.
pub fn recorded(printer: Printer, recorder: Option<&Rc<RefCell<Recorder>>>) -> Box<dyn Stage> {
    match recorder {
        Some(recorder) => Box::new(Recorded { printer, recorder: Rc::clone(recorder) }),
        None => Box::new(printer),
    }
}

/// A printer, and who records what it prints.
struct Recorded {
    printer: Printer,
    /// A chat records what it says, too.
    recorder: Rc<RefCell<Recorder>>,
}

impl Recorded {
    fn sink(&mut self) -> &mut dyn Sink<Heard> {
        &mut self.printer
    }
}

impl Sink<Heard> for Recorded {
    fn has_room(&self) -> bool {
        Sink::<Heard>::has_room(&self.printer) && self.recorder.borrow().has_room()
    }

    fn begin(&mut self, heard: &Heard) {
        self.sink().begin(heard);
        // What was not encrypted is nobody's; --plain takes no --history.
        if let Origin::Key(peer) = heard.caller.origin {
            self.recorder.borrow_mut().begin(head(heard, peer));
        }
    }

    fn data(&mut self, heard: &Heard, bytes: &[u8]) {
        self.sink().data(heard, bytes);
        self.recorder.borrow_mut().content(bytes);
    }

    fn end(&mut self, heard: &Heard, ending: Ending) {
        self.sink().end(heard, ending);
        self.recorder.borrow_mut().end(match ending {
            Ending::Whole => State::Whole,
            Ending::Cut => State::Cut,
        });
    }

    /// Both count the same marks, so that one ticket stands for both.
    fn mark(&mut self) -> Ticket {
        let recorded = self.recorder.borrow_mut().mark();
        let printed = self.sink().mark();
        debug_assert_eq!(printed, recorded, "nobody else marks while messages arrive");
        printed
    }
}

impl Stage for Recorded {
    fn settle(&mut self) {
        self.printer.settle();
        self.recorder.borrow_mut().settle();
    }

    fn flushed(&self) -> Ticket {
        self.printer.flushed().min(self.recorder.borrow().flushed())
    }

    fn take_error(&mut self) -> Option<io::Error> {
        self.printer.take_error().or_else(|| self.recorder.borrow_mut().take_error())
    }

    fn watched(&self) -> Option<RawFd> {
        self.printer.watched()
    }
}

fn head(heard: &Heard, peer: PublicKey) -> Head {
    Head {
        record: random(),
        direction: Direction::Received,
        id: heard.id,
        kind: heard.kind,
        transport: heard.transport,
        peer,
        name: heard.caller.name.clone(),
        known: heard.caller.known,
        sent_ms: heard.sent_ms,
        began_ms: heard.arrived_ms,
    }
}

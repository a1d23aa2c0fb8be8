//! While a reader pauses, the message that owns the output cannot move, so its sender's silence does
//! not count: it begins when the reader has gone on.

use std::time::Duration;

use anonchat::sched::mux::{Ending, HELD_TIME, Mux, Sink, Ticket};
use anonchat::sched::party::Source;

const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Reader {
    pauses: bool,
    read: Vec<u8>,
    tickets: u64,
}

impl Sink<()> for Reader {
    fn has_room(&self) -> bool {
        !self.pauses
    }
    fn begin(&mut self, (): &()) {}
    fn data(&mut self, (): &(), bytes: &[u8]) {
        self.read.extend_from_slice(bytes);
    }
    fn end(&mut self, (): &(), _: Ending) {}
    fn mark(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }
}

#[test]
fn a_sender_is_cut_for_its_own_silence_and_never_for_its_readers() {
    let (mut mux, mut reader) = (Mux::new(None, PATIENCE), Reader::default());
    let (owner, other) = (Source::Run(1), Source::Run(2));
    let mut at = Duration::ZERO;
    mux.begin(owner, (), at);
    mux.data(owner, b"begun ", at, &mut reader);
    at += HELD_TIME;
    mux.pump(at, &mut reader, &mut Vec::new());
    assert_eq!(reader.read, b"begun ");
    mux.begin(other, (), at);
    mux.data(other, b"next", at, &mut reader);
    mux.end(other);
    reader.pauses = true;
    mux.data(owner, b"stalled ", at, &mut reader);
    mux.pump(at, &mut reader, &mut Vec::new());

    at += 4 * PATIENCE;
    assert_eq!(mux.overdue(at), None, "nobody can speak to a reader that pauses");
    reader.pauses = false;
    mux.pump(at, &mut reader, &mut Vec::new());
    assert_eq!(reader.read, b"begun stalled ");
    assert_eq!(mux.overdue(at), None, "it had no time to go on");
    assert_eq!(mux.overdue(at + PATIENCE), Some(owner));
    assert_eq!(mux.next_deadline(), Some(at + PATIENCE));
}

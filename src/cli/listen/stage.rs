//! The forms that messages take on stdout: raw in a pipe, with time and petname on a terminal, and
//! JSON.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::cli::common::stdout_is_terminal;
use crate::cli::json::{self, Event, PART, whole_characters};
use crate::cli::local_time;
use crate::cli::sanitize::Sanitizer;
use crate::net::listen::{Heard, Origin, Stage};
use crate::net::output::Output;
use crate::sched::mux::{Ending, Sink, Ticket};

/// Lines of a message after the first stand behind this, so that none can pass for a message.
const CONTINUED: &str = "    | ";
/// The same for a message that was not encrypted: every line of it says so.
const CONTINUED_PLAIN: &str = "PLAIN | ";

/// How a message looks.
pub enum Form {
    /// The bytes as they came, each message followed by the bytes given (nothing, or a NUL).
    Raw(&'static [u8]),
    /// For a person.
    Terminal(Terminal),
    /// For a program.
    Json(JsonParts),
}

impl Form {
    /// On stdout: raw messages have `terminator` behind them.
    pub fn on_stdout(json: bool, terminator: &'static [u8]) -> Self {
        match json {
            true => Self::Json(JsonParts::default()),
            // Whatever else is asked for: raw bytes of a peer are not for a terminal.
            false if stdout_is_terminal() => Self::Terminal(Terminal::default()),
            false => Self::Raw(terminator),
        }
    }
}

/// A message, and what the forms show of it.
pub trait Shown {
    /// What is known of it.
    fn heard(&self) -> &Heard;

    /// What stands before its content on a terminal.
    fn title(&self) -> String {
        let heard = self.heard();
        format!("{} {}: ", local_time::stamp(heard.arrived_ms, heard.arrived_ms), heard.caller.name)
    }

    /// What stands behind it, if it did not end well.
    fn remark(&self, ending: Ending) -> &'static str {
        match ending {
            Ending::Whole => "",
            Ending::Cut => " [cut off]",
        }
    }

    /// One part of it for a program; `ending` with the last one.
    fn event<'a>(&'a self, part: Part<'a>, ending: Option<Ending>) -> Event<'a> {
        message_event(self.heard(), part, ending)
    }
}

/// A part of a message that arrived, for a program.
pub fn message_event<'a>(heard: &'a Heard, part: Part<'a>, ending: Option<Ending>) -> Event<'a> {
    let (id, transport, arrived_ms) = (part.id, heard.transport.name(), heard.arrived_ms);
    let (seq, text, base64) = (part.seq, part.text, part.base64);
    let (last, cut) = (ending.is_some(), ending == Some(Ending::Cut));
    match heard.caller.origin {
        Origin::Key(_) => Event::Message {
            id,
            from: &heard.caller.name,
            key: part.whose,
            known: heard.caller.known,
            transport,
            sent_ms: heard.sent_ms,
            arrived_ms,
            seq,
            last,
            cut,
            text,
            base64,
        },
        Origin::Plain(_) => Event::PlainMessage {
            id,
            address: part.whose,
            transport,
            arrived_ms,
            seq,
            last,
            cut,
            text,
            base64,
        },
    }
}

/// What all events of messages say of one part.
pub struct Part<'a> {
    /// The message's id, hexadecimal.
    pub id: &'a str,
    /// The other end: its public key, base64, or its address if nothing is encrypted.
    pub whose: &'a str,
    /// Number of this part, from 0.
    pub seq: u64,
    /// The content, when it is UTF-8.
    pub text: Option<&'a str>,
    /// The content, when it is not, base64.
    pub base64: Option<String>,
}

impl Shown for Heard {
    fn heard(&self) -> &Heard {
        self
    }
}

/// Where a message for a person stands.
#[derive(Default)]
pub struct Terminal {
    sanitizer: Sanitizer,
    /// What its lines after the first stand behind.
    continued: &'static str,
    /// A line end was read whose line may be the last.
    line_ended: bool,
    text: String,
}

/// Where a message for a program stands.
#[derive(Default)]
pub struct JsonParts {
    seq: u64,
    pending: Vec<u8>,
    /// Whose the pending bytes are.
    current: Option<Heard>,
}

/// One form on one output, which reports may share.
pub struct Printer {
    form: Form,
    output: Rc<RefCell<Output>>,
}

impl Printer {
    /// Messages in `form` on `output`.
    pub fn new(form: Form, output: Rc<RefCell<Output>>) -> Self {
        Self { form, output }
    }

    fn write(&self, bytes: &[u8]) {
        self.output.borrow_mut().write(bytes);
    }
}

impl<M: Shown> Sink<M> for Printer {
    fn has_room(&self) -> bool {
        self.output.borrow().has_room()
    }

    fn begin(&mut self, message: &M) {
        match &mut self.form {
            Form::Raw(_) => {}
            Form::Terminal(terminal) => {
                let continued = match message.heard().caller.origin {
                    Origin::Key(_) => CONTINUED,
                    Origin::Plain(_) => CONTINUED_PLAIN,
                };
                *terminal = Terminal { continued, ..Terminal::default() };
                self.write(message.title().as_bytes());
            }
            Form::Json(parts) => {
                let current = Some(message.heard().clone());
                *parts = JsonParts { current, ..JsonParts::default() };
            }
        }
    }

    fn data(&mut self, message: &M, bytes: &[u8]) {
        let mut output = self.output.borrow_mut();
        match &mut self.form {
            Form::Raw(_) => output.write(bytes),
            Form::Terminal(terminal) => terminal.show(bytes, &mut output),
            Form::Json(parts) => {
                parts.pending.extend_from_slice(bytes);
                while parts.pending.len() > PART {
                    let cut = whole_characters(&parts.pending[..PART]);
                    parts.emit(message, cut, None, &mut output);
                }
            }
        }
    }

    fn end(&mut self, message: &M, ending: Ending) {
        let mut output = self.output.borrow_mut();
        match &mut self.form {
            // A message that was cut is ended, too: the next one must not run into it.
            Form::Raw(terminator) => output.write(terminator),
            Form::Terminal(terminal) => terminal.end(message.remark(ending), &mut output),
            Form::Json(parts) => {
                let all = parts.pending.len();
                parts.emit(message, all, Some(ending), &mut output);
                parts.current = None;
            }
        }
    }

    fn mark(&mut self) -> Ticket {
        self.output.borrow_mut().mark()
    }
}

impl Stage for Printer {
    fn settle(&mut self) {
        let mut output = self.output.borrow_mut();
        if let Form::Json(parts) = &mut self.form
            && let Some(heard) = parts.current.clone()
        {
            let whole = whole_characters(&parts.pending);
            if whole > 0 {
                parts.emit(&heard, whole, None, &mut output);
            }
        }
        output.push();
    }

    fn flushed(&self) -> Ticket {
        self.output.borrow().flushed()
    }

    fn take_error(&mut self) -> Option<io::Error> {
        self.output.borrow_mut().take_error()
    }

    fn watched(&self) -> Option<RawFd> {
        self.output.borrow().watched()
    }
}

impl Terminal {
    fn show(&mut self, bytes: &[u8], output: &mut Output) {
        let mut clean = String::with_capacity(bytes.len());
        self.sanitizer.push(bytes, &mut clean);
        self.lines(&clean, output);
    }

    /// Writes text, each line after the first behind its mark; the last line's end is kept
    /// back, because every message ends its line anyway.
    fn lines(&mut self, clean: &str, output: &mut Output) {
        self.text.clear();
        for line in clean.split_inclusive('\n') {
            if std::mem::take(&mut self.line_ended) {
                self.text.push('\n');
                self.text.push_str(self.continued);
            }
            self.line_ended = line.ends_with('\n');
            self.text.push_str(line.strip_suffix('\n').unwrap_or(line));
        }
        output.write(self.text.as_bytes());
    }

    fn end(&mut self, remark: &str, output: &mut Output) {
        let mut rest = String::new();
        self.sanitizer.finish(&mut rest);
        self.lines(&rest, output);
        output.write(remark.as_bytes());
        output.write(b"\n");
    }
}

impl JsonParts {
    /// One object with the first `len` bytes that are pending.
    fn emit(
        &mut self,
        message: &impl Shown,
        len: usize,
        ending: Option<Ending>,
        output: &mut Output,
    ) {
        let heard = message.heard();
        let (text, base64) = json::content(&self.pending[..len]);
        let whose = match heard.caller.origin {
            Origin::Key(key) => json::key(&key),
            Origin::Plain(address) => address.to_string(),
        };
        let id = json::hex(&heard.id);
        let part = Part { id: &id, whose: &whose, seq: self.seq, text, base64 };
        let line = json::line(&message.event(part, ending));
        output.write(line.as_bytes());
        self.seq += 1;
        self.pending.drain(..len);
    }
}

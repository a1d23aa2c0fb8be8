//! `ac-listen --replay`: the messages of a history, as if they had just arrived.

use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::keys::answering;
use super::stage::{Part, Printer, Shown, message_event};
use super::{Options, form, local, unknown_contact};
use crate::cli::ended::{Ended, cannot_write, conclude};
use crate::cli::failure::{Code, Failure, system};
use crate::cli::json::Event;
use crate::cli::local_time;
use crate::cli::outputs::Outputs;
use crate::cli::sanitize::sanitize_line;
use crate::crypto::sodium::PublicKey;
use crate::history::entry::{Direction, Head, State};
use crate::history::replay::{self, Record, Replay};
use crate::keys::Keyring;
use crate::net::box_file::{OpenError, flush, wait_for_room};
use crate::net::hub::Hub;
use crate::net::listen::{Caller, Heard, Origin, Stage as _};
use crate::net::sockets::Transport;
use crate::sched::mux::{Ending, Sink};

/// Prints the history at `path`.
///
/// # Errors
/// Everything that is not exit status 0 and no signal.
pub(super) fn run(options: &Options, path: &Path) -> Result<ExitCode, Failure> {
    let shown = sanitize_line(&path.to_string_lossy());
    let named = |e: &std::io::Error| Failure::new(Code::Local, format!("{shown}: {}", system(e)));
    let prepared = options.common.prepare(|| {
        let keyring = Keyring::locate()?;
        let file = Replay::file(path).map_err(|e| named(&e))?;
        let (keys, _) = answering(options, &keyring)?;
        Ok((Filter::new(options, &keyring)?, keys, file))
    });
    let (mut filter, keys, file) = prepared?;
    let pairs = keys.iter().map(|key| &key.pair).collect();
    let mut history = options.common.prepare(|| Replay::new(file, pairs).map_err(|e| named(&e)))?;
    let mut hub = Hub::new().map_err(local)?;
    let outputs = Outputs::open(&options.common, &hub)?;
    let mut printer = Printer::new(form(options), Rc::clone(&outputs.messages));
    let printed = print(&mut history, &mut filter, &mut hub, &mut printer);
    let ended = match printed {
        Ok(()) => settle(&history, &filter, &outputs, &shown).map_err(Ended::from),
        Err(OpenError::Output(e)) => Err(Ended::Failure(cannot_write(e))),
        Err(OpenError::Signal(signal)) => Err(Ended::Signal(signal)),
        Err(OpenError::Input(e)) => Err(Ended::Failure(named(&e))),
        Err(OpenError::Box(why)) => Err(Failure::new(Code::NoProof, why.to_string()).into()),
    };
    conclude(ended, &outputs, &hub)
}

/// Which messages are shown.
struct Filter {
    /// `--from`, and whether anything of each was found.
    from: Vec<(String, bool)>,
    /// The keys that these names have now.
    keys: Vec<(PublicKey, String)>,
    /// `--since`, Unix ms.
    since: u64,
}

impl Filter {
    fn new(options: &Options, keyring: &Keyring) -> Result<Self, Failure> {
        let mut filter =
            Self { from: Vec::new(), keys: Vec::new(), since: options.since.unwrap_or(0) };
        if options.from.is_empty() {
            return Ok(filter);
        }
        for (name, contact) in keyring.contacts()?.0 {
            if options.from.contains(&name) {
                filter.keys.push((contact.public, name));
            }
        }
        let is_contact = |name: &String| filter.keys.iter().any(|(_, known)| known == name);
        filter.from = options.from.iter().map(|name| (name.clone(), is_contact(name))).collect();
        Ok(filter)
    }

    /// A name means who has it now, and who had it then.
    fn wants(&mut self, head: &Head) -> bool {
        let now = self.keys.iter().find(|(key, _)| *key == head.peer).map(|(_, name)| name);
        let mut named = self.from.is_empty();
        for (name, found) in &mut self.from {
            let is_it = *name == head.name || now == Some(name);
            *found |= is_it;
            named |= is_it && head.direction == Direction::Received;
        }
        named && head.began_ms >= self.since
    }
}

fn print(
    history: &mut Replay<'_>,
    filter: &mut Filter,
    hub: &mut Hub,
    printer: &mut Printer,
) -> Result<(), OpenError> {
    let now_ms = hub.clock.now().unix_ms;
    while let Some(record) = history.next_record().map_err(OpenError::Input)? {
        if let Some(signal) = hub.signals.arrived() {
            return Err(OpenError::Signal(signal));
        }
        if filter.wants(record.head()) {
            print_one(history, record, now_ms, hub, printer)?;
        }
    }
    flush(hub, printer)
}

fn print_one(
    history: &mut Replay<'_>,
    mut record: Record,
    now_ms: u64,
    hub: &mut Hub,
    printer: &mut Printer,
) -> Result<(), OpenError> {
    let mut message = Replayed::new(record.head(), now_ms);
    printer.begin(&message);
    loop {
        wait_for_room(hub, printer)?;
        if let Some(signal) = hub.signals.arrived() {
            return Err(OpenError::Signal(signal));
        }
        match history.next_part(&mut record).map_err(OpenError::Input)? {
            replay::Part::Content(bytes) => printer.data(&message, &bytes),
            replay::Part::End(state) => {
                message.state = state;
                let cut = matches!(state, State::Cut | State::Open);
                printer.end(&message, if cut { Ending::Cut } else { Ending::Whole });
                printer.settle();
                return Ok(());
            }
        }
    }
}

/// Says what was passed over, and whether it was a history at all.
fn settle(
    history: &Replay<'_>,
    filter: &Filter,
    outputs: &Outputs,
    shown: &str,
) -> Result<(), Failure> {
    let passed = history.passed_over;
    if !history.opened_any() && passed.sealed > 0 {
        return Err(Failure::new(Code::NoProof, "the history is not sealed for this key")
            .about(shown)
            .hint("if it is sealed for another of yours, name its key file: -k PATH"));
    }
    if !history.opened_any() && passed.torn > 0 && !history.begins_like_one() {
        return Err(Failure::new(Code::Local, "is no history").about(shown));
    }
    let warn = |what: String| {
        outputs.told().say(&format!("ac-listen: {shown}: passed over {what}"));
    };
    if passed.torn > 0 {
        warn(format!("{} bytes of no whole entry, torn when they were written", passed.torn));
    }
    if passed.sealed > 0 {
        warn(format!("{} entries that are for another key, or were changed", passed.sealed));
    }
    match filter.from.iter().find(|(_, found)| !found) {
        Some((stranger, _)) => Err(unknown_contact(stranger)),
        None => Ok(()),
    }
}

/// A message out of a history.
struct Replayed {
    heard: Heard,
    sent: bool,
    now_ms: u64,
    /// How it ended; open until it has.
    state: State,
}

impl Replayed {
    fn new(head: &Head, now_ms: u64) -> Self {
        // Whoever can write the file can put any name there, or none.
        let name = if head.name.is_empty() { "?" } else { &head.name };
        let name = sanitize_line(name);
        let heard = Heard {
            id: head.id,
            caller: Caller { name, origin: Origin::Key(head.peer), known: head.known },
            sent_ms: head.sent_ms,
            arrived_ms: head.began_ms,
            kind: head.kind,
            transport: head.transport,
        };
        let sent = head.direction == Direction::Sent;
        Self { heard, sent, now_ms, state: State::Open }
    }

    fn status(&self) -> &'static str {
        match self.state {
            State::Whole => "delivered",
            State::Unacknowledged if self.heard.transport == Transport::File => "sealed",
            State::Unacknowledged => "sent",
            State::Cut | State::Open => "failed",
        }
    }
}

impl Shown for Replayed {
    fn heard(&self) -> &Heard {
        &self.heard
    }

    fn title(&self) -> String {
        let stamp = local_time::stamp(self.heard.arrived_ms, self.now_ms);
        let to = if self.sent { "to " } else { "" };
        format!("{stamp} {to}{}: ", self.heard.caller.name)
    }

    fn remark(&self, ending: Ending) -> &'static str {
        match (self.sent, ending, self.status()) {
            (true, Ending::Cut, _) => " [not delivered]",
            (true, Ending::Whole, "sent") => " [not acknowledged]",
            (false, Ending::Cut, _) => " [cut off]",
            _ => "",
        }
    }

    fn event<'a>(&'a self, part: Part<'a>, ending: Option<Ending>) -> Event<'a> {
        if !self.sent {
            return message_event(&self.heard, part, ending);
        }
        Event::SentMessage {
            id: part.id,
            to: &self.heard.caller.name,
            key: part.whose,
            known: self.heard.caller.known,
            transport: self.heard.transport.name(),
            sent_ms: self.heard.sent_ms,
            seq: part.seq,
            last: ending.is_some(),
            status: ending.map(|_| self.status()),
            text: part.text,
            base64: part.base64,
        }
    }
}

/// `--since`: a time back from now, or a date or time of the calendar, as Unix ms.
///
/// # Errors
/// What a user should read about it.
pub(super) fn since(text: &str) -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    local_time::since(text, now.as_millis() as u64)
}

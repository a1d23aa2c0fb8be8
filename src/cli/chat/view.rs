//! What a chat shows beside the messages that arrive: to a person, and to a program.

use std::time::{SystemTime, UNIX_EPOCH};

use super::screen::{Screen, excerpt};
use super::talk::{Event, Line, Said};
use crate::cli::json::{self, Event as Report};
use crate::cli::outputs::Told;
use crate::cli::trace;
use crate::crypto::sodium::PublicKey;
use crate::net::listen::Notice;

/// Where it is shown.
pub struct View {
    /// Whose name stands before what goes to stderr.
    program: &'static str,
    told: Told,
    /// The lines above the one that is being typed, if one is.
    screen: Option<Screen>,
    quiet: bool,
    /// Lines that are not delivered will be counted.
    brief: bool,
}

impl View {
    /// On `screen`, else on stderr unless it is to be `quiet`, and to whoever reads reports.
    pub fn new(program: &'static str, told: Told, screen: Option<Screen>, quiet: bool) -> Self {
        Self { program, told, screen, quiet, brief: false }
    }

    /// What somebody asked for, or must know.
    pub fn answer(&mut self, text: &str) {
        match &mut self.screen {
            Some(screen) => screen.note(text, now_ms()),
            None => self.told.say(&format!("{}: {}", self.program, text.replace('\n', "\n    | "))),
        }
    }

    /// Shows the line that is being typed again.
    pub fn redraw(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.redraw();
        }
    }

    /// What happened.
    pub fn note(&mut self, text: &str) {
        if self.screen.is_some() || !self.quiet {
            self.answer(text);
        }
    }

    /// From now on no line that is not delivered is told to a person: somebody counts them.
    pub fn be_brief(&mut self) {
        self.brief = true;
    }

    /// A line was typed, and is on its way.
    pub fn said(&mut self, line: &Line, said: &Said) {
        if let Some(screen) = &mut self.screen {
            screen.own(line, said);
        }
    }

    /// A session began, over which we called.
    pub fn reached(&self, peer: &str, address: &str) {
        self.told.report(&Report::Connected { peer, address, plain: false });
    }

    /// Something of the conversation; `known` says whether the key is a contact's.
    pub fn event(&mut self, event: &Event, known: impl Fn(&PublicKey) -> bool) {
        match event {
            Event::Here(name) => self.note(&format!("{name} is here")),
            Event::Mute(name) => {
                self.note(&format!("{name} hears you, and does not chat: nobody answers there"));
            }
            Event::Lost(name, called) => {
                self.report_gone(name, true);
                let then = match called {
                    true => "calling again",
                    false => "what you type waits for them",
                };
                self.note(&format!("{name}: the connection was lost; {then}"));
            }
            Event::Gone(name) => {
                self.report_gone(name, true);
                self.note(&format!("{name}: the connection was lost"));
            }
            Event::Left(name, called) => {
                self.report_gone(name, false);
                let then = if *called { "; calling until they are back" } else { "" };
                self.note(&format!("{name} left{then}"));
            }
            Event::Delivered { line, key, to, last_of, late } => {
                self.report_line(line, to, key, known(key), "delivered");
                let whom = match last_of {
                    Some(1) => to,
                    Some(_) => "everybody",
                    None if *late => to,
                    None => return,
                };
                if let Some(screen) = &mut self.screen {
                    screen.delivered(line, whom, now_ms());
                }
            }
            Event::Undelivered { line, key, to, why } => {
                self.report_line(line, to, key, known(key), "failed");
                if !self.brief {
                    self.note(&format!("not delivered to {to}: {}: {why}", excerpt(&line.text)));
                }
            }
        }
    }

    /// What the loop tells where nobody listens for callers.
    pub fn notice(&mut self, notice: &Notice<'_>) {
        match notice {
            Notice::Delivered(heard, bytes) => self.told.report(&Report::Delivered {
                id: &json::hex(&heard.id),
                from: &heard.caller.name,
                bytes: *bytes,
            }),
            Notice::Cut(heard, why) => {
                let from = &heard.caller.name;
                let id = &json::hex(&heard.id);
                self.told.report(&Report::Cut { id, from, why, plain: false });
                self.note(&format!("{from}: the message was cut off: {why}"));
            }
            Notice::Crossed(crossing) => self.told.say(&trace::lines(crossing)),
            _ => {}
        }
    }

    fn report_gone(&self, peer: &str, lost: bool) {
        self.told.report(&Report::Disconnected { peer, lost });
    }

    fn report_line(&self, line: &Line, to: &str, key: &PublicKey, known: bool, status: &str) {
        let mut said = line.text.clone();
        said.push(b'\n');
        let parts: Vec<&[u8]> = json::parts(&said).collect();
        for (seq, part) in parts.iter().enumerate() {
            let last = seq + 1 == parts.len();
            let (text, base64) = json::content(part);
            self.told.report(&Report::SentMessage {
                id: &json::hex(&line.id),
                to,
                key: &json::key(key),
                known,
                transport: "tcp",
                sent_ms: line.typed_ms,
                seq: seq as u64,
                last,
                status: last.then_some(status),
                text,
                base64,
            });
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

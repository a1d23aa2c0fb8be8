//! What is typed in a chat, and what is done about it.

use std::path::Path;

use rustix::process::{Signal, getpid, kill_process};

use super::Chatting;
use super::calls::Callee;
use crate::cli::chat::command::{COMMANDS, Typed};
use crate::cli::chat::editor::Key;
use crate::cli::chat::keyboard::{Keyboard, MAX_LINE};
use crate::cli::chat::talk::{Line, Said, Unsaid};
use crate::cli::destination::{Destination, resolve};
use crate::cli::failure::{Code, Failure};
use crate::cli::history;
use crate::cli::sanitize::sanitize_line;
use crate::crypto::sodium::random;
use crate::keys::{Passphrase, Passphrases};
use crate::proto::time::Now;

impl Chatting<'_> {
    /// What was typed since the last turn.
    pub(super) fn take_typed(&mut self, now: Now) {
        while self.takes_lines() {
            match self.parts.keyboard.typed() {
                Ok(Some(key)) => self.typed(key, now),
                Ok(None) => return,
                Err(e) => {
                    self.failure = Some(history::cannot("read the input", &e));
                    return;
                }
            }
        }
    }

    /// Whether a line would find somebody, and room. A person is told if it does not.
    fn takes_lines(&self) -> bool {
        let talk = self.talk.borrow();
        let edited = self.parts.keyboard.is_edited();
        let room = talk.has_peers() && talk.has_room(MAX_LINE);
        !self.input_ended && self.leaving.is_none() && (edited || room)
    }

    fn typed(&mut self, key: Key, now: Now) {
        match key {
            Key::Line(line) => self.line(&line, now),
            Key::TooLong => self.too_long(),
            Key::Garbled => self.parts.view.answer(
                "not said: what was typed is not UTF-8 (a pipe into ac-send -i says any bytes)",
            ),
            Key::Offer(choice) => self.parts.view.answer(&choice.join("  ")),
            Key::Suspend => self.suspend(),
            Key::End if self.parts.keyboard.is_edited() => self.leave(now),
            Key::End => self.input_ended = true,
            // As the key does where nobody edits: the loop tells the peers, and dies of it.
            Key::Interrupt => {
                if kill_process(getpid(), Signal::INT).is_err() {
                    self.leave(now);
                }
            }
        }
    }

    /// A command, or something to say. What comes from a pipe is said as it is.
    fn line(&mut self, line: &[u8], now: Now) {
        let edited = self.parts.keyboard.is_edited();
        match (line, std::str::from_utf8(line)) {
            ([b'/', b'/', ..], _) if !edited => self.say(None, &line[1..], now),
            ([b'/', ..], Err(_)) => {
                self.parts.view.answer("a command that is not UTF-8: not obeyed, and not said");
            }
            (_, Ok(text)) if edited || line.starts_with(b"/") => {
                self.command(Typed::parse(text), now);
            }
            _ => self.say(None, line, now),
        }
    }

    /// A script has it as its exit status.
    fn too_long(&mut self) {
        let failure =
            Failure::new(Code::Local, format!("a line is longer than {MAX_LINE} bytes: not said"));
        self.parts.view.answer(&failure.message);
        if !self.parts.keyboard.is_edited() {
            self.other_failure.get_or_insert(failure);
        }
    }

    fn suspend(&mut self) {
        if let Keyboard::Editor(editor) = &self.parts.keyboard
            && editor.suspend().is_ok()
        {
            self.parts.view.redraw();
        }
    }

    /// Whoever goes while files are on their way is told first, and goes when they say so again.
    fn leave(&mut self, now: Now) {
        let files: Vec<String> = self.files_underway().collect();
        if !files.is_empty() && !std::mem::replace(&mut self.warned, true) {
            let files = files.join(", ");
            self.parts.view.answer(&format!("on its way: {files}; again ends the chat anyway"));
            return;
        }
        self.leaving.get_or_insert(now.mono);
    }

    fn command(&mut self, typed: Typed, now: Now) {
        match typed {
            Typed::Nothing => {}
            Typed::Line(text) => self.say(None, text.as_bytes(), now),
            Typed::Msg { to, text } => self.tell_one(&to, &text, now),
            Typed::Send { to, path } => self.send_file(Some(&to), &path),
            Typed::SendAll(path) => self.send_file(None, &path),
            Typed::Connect(words) => drop(self.connect(&words, now)),
            Typed::List => self.list(),
            Typed::Help => self.help(),
            // A script has everything delivered first, as at the end of its input.
            Typed::Exit if !self.parts.keyboard.is_edited() && self.parts.ears.is_none() => {
                self.input_ended = true;
            }
            Typed::Exit => self.leave(now),
            Typed::Wrong(why) => self.parts.view.answer(&sanitize_line(&why)),
        }
    }

    /// To one, or to all.
    fn say(&mut self, to: Option<&str>, text: &[u8], now: Now) {
        if text.len() > MAX_LINE {
            return self.too_long();
        }
        let line = Line { id: random(), typed_ms: now.unix_ms, text: text.to_vec() };
        let said = match to {
            Some(name) => self.talk.borrow_mut().tell(name, line.clone()),
            None => self.talk.borrow_mut().say(line.clone()),
        };
        match said {
            Ok(said) => self.said(&line, &said),
            Err(Unsaid::Nobody) => {
                self.parts.view.answer("nobody is here: not said (/connect calls somebody)");
            }
            Err(Unsaid::Unknown) => {
                let to = sanitize_line(to.unwrap_or_default());
                self.parts.view.answer(&format!("{to} is not here: not said"));
            }
        }
        self.ring_all();
    }

    fn said(&mut self, line: &Line, said: &Said) {
        self.parts.view.said(line, said);
        for name in &said.full {
            let why = "too much waits for them already";
            self.parts.view.note(&format!("not said to {name}: {why}"));
            self.undelivered.push(name.clone());
        }
    }

    /// A contact that is not here is called.
    fn tell_one(&mut self, to: &str, text: &str, now: Now) {
        let takes_part = self.talk.borrow().present().iter().any(|present| present.name == to);
        let name = match takes_part {
            true => Some(to.to_owned()),
            false => self.connect(&[to.to_owned()], now),
        };
        if let Some(name) = name {
            self.say(Some(&name), text.as_bytes(), now);
        }
    }

    /// Calls whom the words mean; their name, if that is possible.
    fn connect(&mut self, words: &[String], now: Now) -> Option<String> {
        let keyring = self.parts.keyring?;
        let resolved = resolve(words, keyring, &mut NoPassphrases).and_then(|mut destination| {
            self.parts.ways.lead(keyring, &mut destination)?;
            Ok(destination)
        });
        let destination = match resolved {
            Ok(destination) if destination.targets.is_empty() => {
                let name = &destination.name;
                let why = format!("{name}: no address is known (/connect {name}@HOST:PORT)");
                self.parts.view.answer(&why);
                return None;
            }
            Ok(destination) => destination,
            Err(failure) => {
                self.parts.view.answer(&failure.message);
                return None;
            }
        };
        let name = destination.name.clone();
        if self.talk.borrow().is_here(&destination.contact.public) {
            self.parts.view.answer(&format!("{name} is here"));
            return Some(name);
        }
        self.parts.view.note(&format!("calling {name}"));
        self.invite(destination, false, now);
        Some(name)
    }

    /// Somebody takes part whom we call; `main`, if the program was started for that.
    pub(super) fn invite(&mut self, to: Destination, main: bool, now: Now) {
        let key = to.contact.public;
        self.talk.borrow_mut().join(key, &to.name, now.mono);
        self.known.insert(key, to.known);
        self.callees.insert(key, Callee::new(to, main));
    }

    fn list(&mut self) {
        let present = self.talk.borrow().present();
        if present.is_empty() {
            return self.parts.view.answer("nobody is here");
        }
        let lines = present.iter().map(|p| {
            let state = match (p.here, p.called) {
                (true, _) => "here",
                (false, true) => "away, being called",
                (false, false) => "away",
            };
            let waiting = match p.waiting {
                0 => String::new(),
                n => format!(", {n} not acknowledged"),
            };
            format!("{}: {state}{waiting}", p.name)
        });
        let lines: Vec<String> = lines.collect();
        self.parts.view.answer(&lines.join("\n"));
    }

    fn help(&mut self) {
        let mut text = String::from("what you type goes to all who are here; // says a / first");
        for (command, takes, does) in COMMANDS {
            text.push_str(&format!("\n{:<21} {does}", format!("{command} {takes}")));
        }
        text.push_str("\nAlt-Enter begins another line of the same message");
        self.parts.view.answer(&text);
    }
}

/// A chat has the terminal: nobody can be asked there.
pub(super) struct NoPassphrases;

impl Passphrases for NoPassphrases {
    fn get(&mut self, _: &Path, _: &str) -> Result<Passphrase, String> {
        Err("a chat cannot ask for one; name a public key".into())
    }
}

//! Commands: each message of a session is the stdin of a command that runs for it, a duplex stream
//! its stdin and stdout.
//!
//! `run` is one process group and the threads that wait for it and end it, `places` how many run at
//! once, `messages` and `lines` the receivers that feed them, `voice` what a command says back.

mod lines;
mod messages;
mod places;
mod run;
mod voice;

use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustix::fs::{Access, access};

use self::lines::Lines;
use self::messages::Messages;
use self::places::{Place, Places};
use self::run::{Order, Run};
use self::voice::{Talk, Voice};
use super::clock::Clock;
use super::hub::Bell;
use super::input::Input;
use super::listen::{Caller, Origin};
use super::receiver::Hired;
use crate::crypto::sodium::{PublicKey, random};
use crate::keys::names::is_deceptive;
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::stream::record::RefuseCode;
use crate::sched::party::Source;

/// Who runs a command that is not split into words.
const SHELL: &str = "/bin/sh";

/// What the sender of a message is told whose command failed.
const FAILED: RefuseCode = RefuseCode::CommandFailed;

/// What is run: a program and its arguments. Nothing that a peer says ever becomes one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    program: String,
    arguments: Vec<String>,
}

impl CommandLine {
    /// `text` split into words as a shell does it, with quotes and backslashes, and nothing else of
    /// a shell.
    ///
    /// # Errors
    /// What a user should read: an open quote, no word at all, a NUL.
    pub fn words(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            return Err("a NUL can be no part of a command".into());
        }
        let words = shlex::split(text).ok_or("a quote or a backslash has no other end")?;
        let mut words = words.into_iter();
        let program = words.next().filter(|word| !word.is_empty()).ok_or("there is no command")?;
        Ok(Self { program, arguments: words.collect() })
    }

    /// `text` as a shell's script.
    #[must_use]
    pub fn shell(text: &str) -> Self {
        Self { program: SHELL.into(), arguments: vec!["-c".into(), text.into()] }
    }

    /// Where the program is, looked up as it will be when it is run.
    ///
    /// # Errors
    /// When there is none that we may execute.
    pub fn find(&self) -> io::Result<PathBuf> {
        let program = Path::new(&self.program);
        if self.program.contains('/') {
            access(program, Access::EXEC_OK)?;
            return Ok(program.into());
        }
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such command"))
    }

    /// The first word.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }
}

/// Tells the user of a message that was not taken, and why.
pub type Tell = Box<dyn Fn(&Caller, &Meta, &str)>;

/// A command that runs for what is heard.
pub struct Commands {
    line: CommandLine,
    timeout: Option<Duration>,
    places: Places,
    bell: Bell,
    tell: Tell,
}

impl Commands {
    /// Runs `line` up to `at_once` times at a time, each for no longer than `timeout`. Those that
    /// fail are told to `tell`, too.
    pub fn new(
        line: CommandLine,
        timeout: Option<Duration>,
        at_once: usize,
        bell: Bell,
        tell: Tell,
    ) -> Rc<Self> {
        let places = Places::new(at_once);
        Rc::new(Self { line, timeout, places, bell, tell })
    }

    /// Who takes the messages of this kind in `session`, which is one of `caller`'s. Commands that
    /// have no place yet wait for one, in the order in which they came; their messages are not read
    /// meanwhile.
    pub fn hire(self: &Rc<Self>, session: Source, caller: &Caller, kind: MessageKind) -> Hired {
        let (commands, bell) = (Rc::clone(self), self.bell.of(session));
        match kind {
            MessageKind::ChatLine => {
                Hired { receiver: Box::new(Lines::new(commands, caller.clone(), bell)), feed: None }
            }
            MessageKind::Duplex => {
                let talk = Rc::<Talk>::default();
                let voice = Voice::new(Rc::clone(&talk), bell.clone());
                Hired {
                    receiver: Box::new(Messages::new(commands, caller.clone(), bell, Some(talk))),
                    feed: Some(Box::new(voice)),
                }
            }
            _ => Hired {
                receiver: Box::new(Messages::new(commands, caller.clone(), bell, None)),
                feed: None,
            },
        }
    }

    /// Waits for those that have got all of their input, or until `give_up` says so; then ends what
    /// still runs, and waits for that. No command outlives this.
    pub fn finish(&self, give_up: impl Fn() -> bool) {
        self.places.wait(give_up);
        self.places.end();
    }

    /// Starts a command that has a place, and whose news ring `bell`. If it is to `talk`, what it
    /// says goes there.
    fn start(
        &self,
        command: process::Command,
        bell: &Bell,
        talk: Option<&Talk>,
        orders: (Sender<Order>, Receiver<Order>),
        place: Place,
    ) -> io::Result<Run> {
        let speaks = talk.is_some();
        let (run, stdout) = Run::start(command, speaks, self.timeout, orders, place, bell)?;
        if let (Some(talk), Some(stdout)) = (talk, stdout) {
            let kind = MessageKind::Duplex as u8;
            let meta = Meta { kind, ..Meta::message(random(), Clock::default().now().unix_ms) };
            talk.begin(meta, Input::ours(stdout, bell)?, run.ended());
        }
        Ok(run)
    }

    /// A run of the command for the message that `meta` begins.
    fn command(&self, caller: &Caller, meta: &Meta) -> process::Command {
        let mut command = process::Command::new(&self.line.program);
        command.args(&self.line.arguments);
        command.env("AC_FROM", harmless(&caller.name));
        command.env("AC_FROM_KEY", key(caller).map_or_else(String::new, base64));
        command.env("AC_ID", hex(&meta.id));
        command.env("AC_KIND", word(meta.kind));
        command.env("AC_NAME", harmless(meta.name.as_deref().unwrap_or_default()));
        command
    }
}

fn key(caller: &Caller) -> Option<&PublicKey> {
    match &caller.origin {
        Origin::Key(key) => Some(key),
        Origin::Plain(_) => None,
    }
}

fn base64(key: &PublicKey) -> String {
    BASE64_STANDARD.encode(key.as_bytes())
}

fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `AC_KIND`.
fn word(kind: u8) -> &'static str {
    match kind {
        k if k == MessageKind::File as u8 => "file",
        k if k == MessageKind::DirectoryEntry as u8 => "entry",
        k if k == MessageKind::ChatLine as u8 => "chat",
        k if k == MessageKind::Duplex as u8 => "duplex",
        _ => "message",
    }
}

/// A name that a peer chose, without what could not stand in an environment, or would command or deceive
/// whoever is shown it.
fn harmless(name: &str) -> String {
    name.chars().filter(|c| !is_deceptive(*c)).collect()
}

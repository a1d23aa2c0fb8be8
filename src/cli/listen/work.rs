//! `-e` and `-b`: what is heard goes to a command, or is one half of a duplex stream.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;

use super::Options;
use crate::cli::failure::{Code, Failure, system};
use crate::cli::json::{self, Event};
use crate::cli::outputs::{Outputs, Told};
use crate::cli::{duplex, units};
use crate::crypto::sodium::random;
use crate::net::clock::Clock;
use crate::net::command::{CommandLine, Commands, Tell};
use crate::net::duplex::Duplex;
use crate::net::hub::{Bell, Hub};
use crate::net::input::Input;
use crate::net::listen::{Caller, Parting};
use crate::net::output::Output;
use crate::net::receiver::{Hired, Route};
use crate::net::send::Cut;
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::stream::record::RefuseCode;
use crate::sched::party::Source;

/// Receivers of a session have these numbers.
const MESSAGES: usize = 16;
const LINES: usize = 17;
const STREAM: usize = 18;

/// Options for what is not printed.
#[derive(Args, Debug)]
pub struct WorkOptions {
    /// Carry bytes both ways, from stdin and to stdout, for one session with an ac-send -b
    #[arg(short = 'b', long,
          conflicts_with_all = ["exec", "directory", "count", "null", "open", "replay",
                                "history", "plain"])]
    pub duplex: bool,

    /// Run CMD (split into words, no shell) for each session, which is its stdin, and with an
    /// ac-send -b its stdout too
    #[arg(short = 'e', long, value_name = "CMD",
          conflicts_with_all = ["null", "open", "replay", "history", "plain"])]
    pub exec: Option<String>,

    /// With -e: let /bin/sh run CMD
    #[arg(long, requires = "exec")]
    pub shell_exec: bool,

    /// With -e: end a CMD that takes longer than TIME
    #[arg(long, value_name = "TIME", requires = "exec", value_parser = units::duration)]
    pub exec_timeout: Option<Duration>,

    /// With -e: run at most COUNT at once (16); more wait
    #[arg(long, value_name = "COUNT", requires = "exec", default_value_t = 16, hide_default_value = true,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub max_exec: u16,
}

/// What is done with what is heard.
#[derive(Default)]
pub enum Work {
    /// It is printed.
    #[default]
    Print,
    /// A command gets it.
    Commands(Rc<Commands>),
    /// It is one half of a duplex stream.
    Stream(Stream),
}

/// The one session of `-b`.
pub struct Stream {
    duplex: Duplex,
    output: Rc<RefCell<Output>>,
    bell: Bell,
    /// Whose it is, and from where, once it began.
    session: Option<(Source, String)>,
    ended: Option<Option<Cut>>,
}

impl WorkOptions {
    /// Refuses what makes no sense together.
    ///
    /// # Errors
    /// [`Code::Usage`].
    pub fn check(&self, udp: bool, json: bool) -> Result<(), Failure> {
        let usage = |what: &str, hint: &str| Err(Failure::new(Code::Usage, what).hint(hint));
        match (self.duplex, &self.exec) {
            (true, _) if udp => usage(
                "-b: datagrams carry no stream both ways",
                "leave out -u: a duplex stream needs TCP",
            ),
            (_, Some(_)) if udp => usage(
                "-e: a command hears no datagrams",
                "leave out -u; or print them into it: ac-listen -u -1 PORT | CMD",
            ),
            (true, _) => duplex::check(json),
            (_, Some(_)) if json => usage(
                "--json: stdout is for what the command writes",
                "report on another descriptor: --status-fd N",
            ),
            _ => Ok(()),
        }
    }
}

impl Work {
    /// What the options ask for.
    ///
    /// # Errors
    /// [`Code::Usage`] for a command that is none, [`Code::Local`] for one that cannot be run.
    pub fn new(options: &Options, outputs: &Outputs, hub: &Hub) -> Result<Self, Failure> {
        if options.work.duplex {
            return Ok(Self::Stream(Stream {
                duplex: Duplex::default(),
                output: Rc::clone(&outputs.messages),
                bell: hub.bell(),
                session: None,
                ended: None,
            }));
        }
        let Some(command) = &options.work.exec else { return Ok(Self::Print) };
        let line = match options.work.shell_exec {
            true => CommandLine::shell(command),
            false => command_line(command)?,
        };
        let at_once = options.work.max_exec.into();
        let tell = tell_failures(outputs.told(), options.common.quiet);
        let timeout = options.work.exec_timeout;
        Ok(Self::Commands(Commands::new(line, timeout, at_once, hub.bell(), tell)))
    }

    /// Whether files and folders are for [`Work::route`], where an `inbox` may be there for them.
    pub fn takes_files(&self, inbox: bool) -> bool {
        match self {
            Self::Print => false,
            Self::Commands(_) => !inbox,
            Self::Stream(_) => true,
        }
    }

    /// Where a message goes; `None` if it is to be printed like any other.
    pub fn route(&mut self, session: Source, caller: &Caller, meta: &Meta) -> Option<Route> {
        let is = |kind: MessageKind| meta.kind == kind as u8;
        let refused = |why: &str| Some(Route::Refused(RefuseCode::NotWanted, why.to_owned()));
        match self {
            Self::Print if is(MessageKind::Duplex) => refused("it listens without -b and -e"),
            Self::Print => None,
            Self::Commands(_) if is(MessageKind::Message) || is(MessageKind::File) => {
                Some(Route::Receiver(MESSAGES))
            }
            Self::Commands(_) if is(MessageKind::ChatLine) => Some(Route::Receiver(LINES)),
            Self::Commands(_) if is(MessageKind::Duplex) => Some(Route::Receiver(STREAM)),
            Self::Commands(_) => refused("a command takes no folders: send a tar"),
            Self::Stream(_) if !is(MessageKind::Duplex) => {
                refused("it carries a stream: ac-send -b")
            }
            Self::Stream(stream) => Some(stream.route(session, caller)),
        }
    }

    /// Somebody for those messages of a session that go to receiver `number`; `None` if that is
    /// none of ours.
    pub fn hire(
        &mut self,
        number: usize,
        session: Source,
        caller: &Caller,
    ) -> Option<io::Result<Hired>> {
        let kind = match number {
            MESSAGES => MessageKind::Message,
            LINES => MessageKind::ChatLine,
            STREAM => MessageKind::Duplex,
            _ => return None,
        };
        match self {
            Self::Print => None,
            Self::Commands(commands) => Some(Ok(commands.hire(session, caller, kind))),
            Self::Stream(stream) => Some(stream.hire()),
        }
    }

    /// A session is over.
    pub fn parted(&mut self, session: Source, parting: &Parting) {
        if let Self::Stream(stream) = self
            && stream.session.as_ref().is_some_and(|(ours, _)| *ours == session)
        {
            stream.ended = Some(duplex::cut(parting));
        }
    }

    /// Whether what is cut off is told at the end.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Whether the listener has done what it was started for.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Print | Self::Commands(_) => false,
            Self::Stream(stream) => stream.ended.is_some() || stream.duplex.is_over(),
        }
    }

    /// What came of it, after all: commands that have all of their input may end by themselves,
    /// unless a signal `stopped` us or comes.
    ///
    /// # Errors
    /// Why the stream was not whole.
    pub fn finish(self, hub: &Hub, stopped: bool) -> Result<(), Failure> {
        match self {
            Self::Print => Ok(()),
            Self::Commands(commands) => {
                commands.finish(|| stopped || hub.signals.arrived().is_some());
                Ok(())
            }
            Self::Stream(stream) => match stream.session {
                Some((_, name)) if !stopped => {
                    let outcome = duplex::outcome(&stream.duplex, stream.ended.flatten(), None);
                    outcome.map(drop).map_err(|failure| failure.about(name))
                }
                _ => Ok(()),
            },
        }
    }
}

impl Stream {
    fn route(&mut self, session: Source, caller: &Caller) -> Route {
        let (ours, _) = self.session.get_or_insert_with(|| (session, caller.name.clone()));
        match *ours == session {
            true => Route::Receiver(STREAM),
            false => Route::Refused(RefuseCode::Enough, "it carries a stream already".into()),
        }
    }

    fn hire(&self) -> io::Result<Hired> {
        let input = Input::stdin(&self.bell)?;
        let meta = Meta::message(random(), Clock::default().now().unix_ms);
        let feed = Some(self.duplex.talking(meta, input));
        let receiver = self.duplex.listening(Rc::clone(&self.output), duplex::filter());
        Ok(Hired { receiver, feed })
    }
}

fn command_line(text: &str) -> Result<CommandLine, Failure> {
    let line =
        CommandLine::words(text).map_err(|why| Failure::new(Code::Usage, format!("-e: {why}")))?;
    match line.find() {
        Ok(_) => Ok(line),
        Err(e) => Err(Failure::new(Code::Local, format!("-e: {}: {}", line.program(), system(&e)))
            .hint("it is run without a shell; for one: --shell-exec")),
    }
}

fn tell_failures(told: Told, quiet: bool) -> Tell {
    Box::new(move |caller, meta, why| {
        let from = &caller.name;
        let why = format!("the command failed: {why}");
        if !quiet {
            told.say(&format!("ac-listen: {from}: {why}"));
        }
        told.report(&Event::Cut { id: &json::hex(&meta.id), from, why: &why, plain: false });
    })
}

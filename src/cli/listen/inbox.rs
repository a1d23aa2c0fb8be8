//! Files and folders that come: into the directory of `-d`, and what the user is told of each.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::tz::TimeZone;
use rustix::fs::{Access, access};

use crate::cli::config::Config;
use crate::cli::failure::{Code, Failure, system};
use crate::cli::json::{self, Event};
use crate::cli::moving::{Moving, Peer};
use crate::cli::outputs::Told;
use crate::cli::sanitize::sanitize_line;
use crate::cli::units;
use crate::net::clock::Clock;
use crate::net::hub::Bell;
use crate::net::listen::{Caller, Origin};
use crate::net::receiver::{Hired, Route};
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::stream::record::RefuseCode;
use crate::sched::party::Source;
use crate::transfer::inbox::{Inbox, Limits, Sender};
use crate::transfer::intake::{self, Intake};
use crate::transfer::room::Reserve;

/// The number of the receiver that takes files.
pub const RECEIVER: usize = 1;
/// The largest file, unless --max-file says otherwise, in bytes.
const MAX_FILE: u64 = 10 * 1024 * 1024;

/// Where files go, and how large they may be.
#[derive(Args, Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxOptions {
    /// Take files and folders, into DIR, as YYYYMMDD_HHMMSS_FROM_NAME; without it they are declined
    #[arg(short = 'd', long = "directory", value_name = "DIR")]
    pub directory: Option<PathBuf>,

    /// With -d: decline files larger than SIZE (10M; 0: none is too large)
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub max_file: Option<u64>,

    /// With -d: decline what makes a session bring more than SIZE in all (0: nothing is too much)
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub max_total: Option<u64>,

    /// With -d: leave SIZE free on the disk, and decline what has no room beside it (a twentieth of the
    /// disk, 1G at most; 0: nothing)
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub reserve: Option<u64>,
}

impl InboxOptions {
    /// These, and what the configuration says where they say nothing; no directory of its where no
    /// file can come.
    ///
    /// # Errors
    /// [`Code::Usage`] for a limit of what is not taken at all.
    pub fn or(&self, config: &Config, files_come: bool) -> Result<Self, Failure> {
        let default = config.inbox.as_deref().filter(|_| files_come).map(at_home);
        let directory = self.directory.clone().or(default);
        let limited = [self.max_file, self.max_total, self.reserve].iter().any(Option::is_some);
        if directory.is_none() && limited {
            return Err(Failure::new(Code::Usage, "a limit for files, and no files are taken")
                .hint("say where they go: -d DIR"));
        }
        let max_file = self.max_file.or(config.limits.max_file);
        let max_total = self.max_total.or(config.limits.max_total);
        let reserve = self.reserve.or(config.limits.reserve);
        Ok(Self { directory, max_file, max_total, reserve })
    }

    /// Opens the directory, if there is one. Before there are threads: it looks at the umask.
    ///
    /// # Errors
    /// [`Code::Local`] when it is not there or cannot be written to.
    pub fn open(&self) -> Result<Option<Inbox>, Failure> {
        let Some(path) = &self.directory else { return Ok(None) };
        let limit = |size: u64| (size > 0).then_some(size);
        let limits = Limits {
            max_file: limit(self.max_file.unwrap_or(MAX_FILE)),
            max_total: self.max_total.and_then(limit),
        };
        let reserve = match self.reserve {
            None => Reserve::Share,
            Some(0) => Reserve::Nothing,
            Some(bytes) => Reserve::Bytes(bytes),
        };
        let now_ms = Clock::default().now().unix_ms;
        access(path, Access::WRITE_OK | Access::EXEC_OK)
            .and_then(|()| Inbox::open(path, limits, TimeZone::system(), now_ms))
            .map(|inbox| Some(inbox.keeping(reserve)))
            .map_err(|errno| cannot_open(path, &errno.into()))
    }
}

/// `~/` is the user's own directory.
fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(Code::Local, format!("{}: {}", path.display(), system(error)));
    match error.kind() {
        io::ErrorKind::NotFound => failure.hint(format!("make it first: mkdir {}", path.display())),
        _ => failure,
    }
}

/// Who takes the files of all sessions.
pub struct Desk {
    /// Nothing is taken without one.
    inbox: Option<(Inbox, PathBuf)>,
    bell: Bell,
    told: Told,
    quiet: bool,
    /// Stands before what goes to stderr.
    program: &'static str,
    /// The session whose file was declined last because none is taken.
    declined: Option<Source>,
}

/// Whether it is a file or a part of a folder.
pub fn is_file(kind: u8) -> bool {
    [MessageKind::File as u8, MessageKind::DirectoryEntry as u8].contains(&kind)
}

impl Desk {
    /// Takes files into `inbox`, which is at `directory`.
    pub fn new(
        inbox: Option<Inbox>,
        options: &InboxOptions,
        bell: Bell,
        told: Told,
        quiet: bool,
        program: &'static str,
    ) -> Self {
        let inbox = inbox.zip(options.directory.clone());
        Self { inbox, bell, told, quiet, program, declined: None }
    }

    /// Whether files are taken.
    pub fn is_open(&self) -> bool {
        self.inbox.is_some()
    }

    /// Where a file or a part of a folder goes.
    pub fn route(&mut self, session: Source, caller: &Caller, meta: &Meta) -> Route {
        if self.inbox.is_some() {
            return Route::Receiver(RECEIVER);
        }
        let again = self.declined.replace(session) == Some(session);
        if !again && !self.quiet {
            let name = sanitize_line(meta.name.as_deref().unwrap_or_default());
            let from = &caller.name;
            self.told.say(&format!(
                "{}: {from}: {name}: declined: no files are taken\n\
                 hint: say where they go: -d DIR",
                self.program
            ));
        }
        Route::Refused(RefuseCode::NotWanted, String::new())
    }

    /// Somebody for the files of `caller`'s session.
    ///
    /// # Errors
    /// None that [`Desk::route`] does not exclude.
    pub fn hire(&self, session: Source, caller: &Caller) -> io::Result<Hired> {
        let unsupported = io::ErrorKind::Unsupported;
        let (inbox, directory) = self.inbox.as_ref().ok_or(unsupported)?;
        let Origin::Key(key) = caller.origin else { return Err(unsupported.into()) };
        let sender = Sender { key: *key.as_bytes(), name: caller.name.clone() };
        let witness = self.witness(caller, directory.clone());
        let intake = Intake::new(inbox.delivery(sender), self.bell.of(session), witness);
        Ok(Hired { receiver: Box::new(intake), feed: None })
    }

    fn witness(&self, caller: &Caller, directory: PathBuf) -> intake::Witness {
        let from = caller.name.clone();
        let mut moving = Moving::new(Peer::From(from.clone()), self.told.clone());
        let (told, quiet, program) = (self.told.clone(), self.quiet, self.program);
        let teller = Teller { from, directory, told, quiet, program };
        Box::new(move |event| match event {
            intake::Event::Begun(meta) => moving.begin(meta),
            intake::Event::Resumed(bytes) => moving.skip(bytes),
            intake::Event::Came(bytes) => moving.advance(bytes),
            other => {
                if let intake::Event::Declined { name, .. } | intake::Event::Cut { name, .. } =
                    other
                {
                    moving.leave(name);
                }
                teller.tell(&other);
            }
        })
    }
}

/// Says what became of what one session brought.
struct Teller {
    from: String,
    directory: PathBuf,
    told: Told,
    quiet: bool,
    program: &'static str,
}

impl Teller {
    fn tell(&self, event: &intake::Event<'_>) {
        match event {
            intake::Event::Landed { id, name, landed, bytes, entries } => {
                let path = self.directory.join(landed);
                self.landed(id, name, &path.to_string_lossy(), *bytes, *entries);
            }
            intake::Event::Declined { id, name, why } => {
                self.missed(id, name, "declined", &format!("declined: {why}"));
            }
            intake::Event::Cut { id, name } => {
                self.missed(
                    id,
                    name,
                    "cut",
                    "cut off; what came of it is kept, to be gone on with",
                );
            }
            _ => {}
        }
    }

    fn landed(&self, id: &[u8; 16], name: &str, path: &str, bytes: u64, entries: Option<u64>) {
        let from = &self.from;
        if !self.quiet {
            let (name, path, size) =
                (sanitize_line(name), sanitize_line(path), units::bytes(bytes));
            self.told.say(&format!("{}: {from}: {name} ({size}) -> {path}", self.program));
        }
        self.told.report(&Event::File {
            id: Some(&json::hex(id)),
            from: Some(from),
            to: None,
            name,
            status: "landed",
            bytes,
            resumed: None,
            entries,
            path: Some(path),
            error: None,
        });
    }

    fn missed(&self, id: &[u8; 16], name: &str, status: &str, why: &str) {
        let from = &self.from;
        if !self.quiet {
            self.told.say(&format!("{}: {from}: {}: {why}", self.program, sanitize_line(name)));
        }
        self.told.report(&Event::File {
            id: Some(&json::hex(id)),
            from: Some(from),
            to: None,
            name,
            status,
            bytes: 0,
            resumed: None,
            entries: None,
            path: None,
            error: Some(why),
        });
    }
}

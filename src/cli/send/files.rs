//! Files and folders to one destination: what becomes of each, and the exit code of them all.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use super::{Options, PROGRAM, call, conclude, terms, why};
use crate::cli::destination::{self, Destination};
use crate::cli::failure::{Code, Failure, system};
use crate::cli::moving::{Moving, Peer};
use crate::cli::output::note;
use crate::cli::outputs::{Outputs, Told};
use crate::cli::sanitize::sanitize_line;
use crate::cli::units;
use crate::cli::{history, json, trace};
use crate::crypto::sodium::KeyPair;
use crate::net::feed::Feed;
use crate::net::hub::Bell;
use crate::net::hub::Hub;
use crate::net::send::{Held, Limits, SendError};
use crate::net::several::send_to_one;
use crate::net::signals::die_of;
use crate::net::via::cells::{Cargo, Dispatch};
use crate::net::via::post::Letters;
use crate::transfer::feed::{Event, FileFeed, Missing, Witness};
use crate::transfer::items::{self, Items};
use crate::transfer::walk::Skip;

/// Refuses what makes no sense with files, and says what does; or files none of which is there.
///
/// # Errors
/// [`Code::Usage`], [`Code::Local`].
pub fn check(options: &Options) -> Result<(), Failure> {
    let usage = |what: &str, hint: &str| Err(Failure::new(Code::Usage, what).hint(hint));
    if options.files().next().is_none() {
        // A pattern that stood for nothing, perhaps: stdin was not meant.
        return match std::env::args_os().next_back() {
            Some(last) if last == "--" => {
                usage("no file is named after --", "say which: ac-send bob -- FILE...")
            }
            _ => Ok(()),
        };
    }
    check_sense(options)?;
    check_there(options)
}

/// If there is nothing to send nobody is called.
fn check_there(options: &Options) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for path in options.files() {
        match path.symlink_metadata() {
            Ok(_) => return Ok(()),
            Err(error) => missing.push((path, error)),
        }
    }
    let failure = |(path, error): &(&PathBuf, io::Error)| {
        let shown = sanitize_line(&path.to_string_lossy());
        Failure::new(Code::Local, format!("{shown}: not sent: {}", system(error)))
    };
    let Some((last, others)) = missing.split_last() else { return Ok(()) };
    others.iter().for_each(|one| note(&format!("{PROGRAM}: {}", failure(one))));
    Err(failure(last))
}

fn check_sense(options: &Options) -> Result<(), Failure> {
    let usage = |what: &str, hint: &str| Err(Failure::new(Code::Usage, what).hint(hint));
    match options {
        Options { udp: true, .. } => {
            usage("datagrams carry no files", "leave out -u: files go over TCP")
        }
        Options { output: Some(_), .. } => usage(
            "a sealed box holds no files",
            "seal the bytes of one: ac-send -o BOX bob < FILE, or tar c FILES | ac-send -o BOX bob",
        ),
        Options { plain: true, .. } => usage(
            "--plain knows no files",
            "send the bytes of one: ac-send --plain HOST:PORT < FILE, or tar c FILES | ...",
        ),
        Options { duplex: true, .. } => {
            usage("-b: a stream both ways carries no files", "leave out -b, or the files")
        }
        Options { ping: true, .. } => usage("-z sends nothing", "leave out -z, or the files"),
        _ => Ok(()),
    }
}

/// Sends files and folders; each has its own result, and all of them have one.
///
/// # Errors
/// Everything that is not exit status 0 and no signal.
pub fn run(
    options: &Options,
    hub: &mut Hub,
    me: &KeyPair,
    to: &Destination,
) -> Result<ExitCode, Failure> {
    let outputs = Outputs::open(&options.common, hub)?;
    let outputs = outputs.with_bars(&options.common, options.common.json);
    // As long as the list of files.
    let told = Told { keeps_all: true, ..outputs.told() };
    let (cargo, sending) = Sending::start(options, &to.name, told, hub.bell());
    let shown = outputs.told();
    let mut show = |crossing: &_| shown.say(&trace::lines(crossing));
    let trace: Option<&mut dyn FnMut(&_)> =
        if options.common.trace() { Some(&mut show) } else { None };
    let mut limits = Limits { silence: options.silence(), trace };
    let call = call(options, me, to);
    let peer = Dispatch::new(&call, &to.targets, cargo, terms(options, 0));
    let sent = send_to_one(hub, peer, &mut limits);
    if let Err(SendError::Signal(signal)) = sent {
        if let Err(failure) = sending.end(Ok(())) {
            shown.say(&format!("{PROGRAM}: {failure}"));
        }
        outputs.finish_stderr(hub);
        die_of(signal);
        return Ok(ExitCode::from(128 + signal as u8));
    }
    let sent = sending.end(sent);
    outputs.finish(hub).map_err(|e| history::cannot("write the output", &e))?;
    conclude(options, &to.name, sent, false)
}

/// What became of the files for one destination.
pub struct Sending(Rc<RefCell<Verdict>>);

/// What is to be said at the end.
struct Verdict {
    /// The destination's name.
    to: String,
    told: Told,
    /// Delivered files are told, too.
    verbose: bool,
    /// A file that a relay holds is as good as one that is delivered.
    queue: bool,
    /// The failure that occurred last; those before it were told.
    last: Option<Failure>,
    codes: Vec<Code>,
}

impl Sending {
    /// Says how the files of `options` are read for the destination called `to`.
    pub fn start(options: &Options, to: &str, told: Told, bell: Bell) -> (Cargo, Self) {
        let mut moving = Moving::new(Peer::To(to.to_owned()), told.clone());
        if destination::each(&options.destination).len() > 1 {
            moving = moving.among_several();
        }
        let verdict = Verdict {
            to: to.to_owned(),
            told: told.clone(),
            verbose: options.common.verbose > 0,
            queue: options.queue,
            last: None,
            codes: Vec::new(),
        };
        let verdict = Rc::new(RefCell::new(verdict));
        let moving = Rc::new(RefCell::new(moving));
        let paths: Vec<PathBuf> = options.files().cloned().collect();
        // Which of the two it will be is known when the recipient is reached, or is not.
        let small = items::fit(&paths).then(|| {
            let items = Items::new(paths.clone(), witness(&moving, &verdict));
            Box::new(items) as Box<dyn Letters>
        });
        let (theirs, often) = (Rc::clone(&verdict), options.keepalive_ms());
        let feeds = move || {
            let witness = witness(&moving, &theirs);
            let feed = FileFeed::new(paths.clone(), often, bell.clone(), witness)?;
            Ok(Box::new(feed) as Box<dyn Feed>)
        };
        (Cargo::Files(Box::new(feeds), small), Self(verdict))
    }

    /// What all of it came to, from how the session ended.
    ///
    /// # Errors
    /// The last failure that is not told yet, with the code of the worst.
    pub fn end<T>(self, sent: Result<T, SendError>) -> Result<T, Failure> {
        let mut verdict = self.0.borrow_mut();
        let sent = match sent {
            Ok(sent) => Some(sent),
            // Told for each file.
            Err(SendError::Declined(..) | SendError::Queued(_) | SendError::Input(_))
                if verdict.last.is_some() =>
            {
                None
            }
            Err(error) => {
                let to = verdict.to.clone();
                verdict.fail(why::failure(&error).about(to));
                None
            }
        };
        let code = Code::worst(&verdict.codes);
        match (verdict.last.take(), code, sent) {
            (Some(failure), Some(code), _) => Err(Failure { code, ..failure }),
            (_, _, Some(sent)) => Ok(sent),
            (..) => Err(Failure::new(Code::Local, "nothing came of it")),
        }
    }
}

/// Shows how far it is, and keeps what became of it.
fn witness(moving: &Rc<RefCell<Moving>>, verdict: &Rc<RefCell<Verdict>>) -> Witness {
    let (moving, verdict) = (Rc::clone(moving), Rc::clone(verdict));
    Box::new(move |event: Event<'_>| match event {
        Event::Begun(meta) => moving.borrow_mut().begin(meta),
        Event::Resumed(bytes) => moving.borrow_mut().skip(bytes),
        Event::Moved(bytes) => moving.borrow_mut().advance(bytes),
        other => {
            if let Event::Declined { name, .. }
            | Event::Queued { name, .. }
            | Event::Unread(name, _) = other
            {
                moving.borrow_mut().leave(name);
            }
            verdict.borrow_mut().hear(&other);
        }
    })
}

impl Verdict {
    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Delivered { id, name, bytes, resumed, entries } => {
                self.delivered(id, name, *bytes, *resumed, *entries);
            }
            Event::Declined { id, name, code, text } => {
                self.failed(Some(id), name, "declined", why::declined_file(*code, text));
            }
            Event::Queued { id, name, held } => self.queued(id, name, held),
            Event::Unread(name, error) => {
                let why = Failure::new(Code::Local, format!("cannot read it: {}", system(error)));
                self.failed(None, name, "failed", why);
            }
            Event::Missing(name, missing) => self.failed(None, name, "failed", not_sent(missing)),
            Event::Begun(_) | Event::Resumed(_) | Event::Moved(_) => {}
        }
    }

    fn delivered(
        &mut self,
        id: &[u8; 16],
        name: &str,
        bytes: u64,
        resumed: u64,
        entries: Option<u64>,
    ) {
        self.told.report(&json::Event::File {
            id: Some(&json::hex(id)),
            from: None,
            to: Some(&self.to),
            name,
            status: "delivered",
            bytes,
            resumed: Some(resumed),
            entries,
            path: None,
            error: None,
        });
        if self.verbose {
            let (to, shown, size) = (&self.to, sanitize_line(name), units::bytes(bytes));
            let again = match resumed {
                0 => String::new(),
                there => format!(", {} of it were there", units::bytes(there)),
            };
            self.told.say(&format!("{PROGRAM}: {to}: {shown}: {size} delivered{again}"));
        }
    }

    fn queued(&mut self, id: &[u8; 16], name: &str, held: &Held) {
        let why = why::queued(held);
        if !self.queue {
            return self.failed(Some(id), name, "queued", why);
        }
        self.report_failed(Some(id), name, "queued", &why);
        if self.verbose {
            self.told.say(&format!("{PROGRAM}: {}: {}: {why}", self.to, sanitize_line(name)));
        }
    }

    fn failed(&mut self, id: Option<&[u8; 16]>, name: &str, status: &str, why: Failure) {
        self.report_failed(id, name, status, &why);
        self.fail(why.about(sanitize_line(name)).about(self.to.clone()));
    }

    fn report_failed(&self, id: Option<&[u8; 16]>, name: &str, status: &str, why: &Failure) {
        self.told.report(&json::Event::File {
            id: id.map(|id| json::hex(id)).as_deref(),
            from: None,
            to: Some(&self.to),
            name,
            status,
            bytes: 0,
            resumed: None,
            entries: None,
            path: None,
            error: Some(&why.message),
        });
    }

    /// The last failure is said by the program's end.
    fn fail(&mut self, failure: Failure) {
        self.codes.push(failure.code);
        self.codes.dedup();
        let hinted = failure.hint.clone();
        if let Some(Failure { message, hint, .. }) = self.last.replace(failure) {
            // The same hint again helps nobody.
            let hint = hint.filter(|hint| Some(hint) != hinted.as_ref());
            let hint = hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
            self.told.say(&format!("{PROGRAM}: {message}{hint}"));
        }
    }
}

/// Why something is not sent at all.
pub(in crate::cli) fn not_sent(missing: &Missing) -> Failure {
    let why = match missing {
        Missing::Unreadable(error) => system(error),
        Missing::Skipped(Skip::Special) => "neither a file, a folder nor a link".to_owned(),
        Missing::Skipped(Skip::Name(why)) => format!("it would be declined: {why}"),
        Missing::Skipped(Skip::Unreadable(errno)) => system(&io::Error::from(*errno)),
    };
    Failure::new(Code::Local, format!("not sent: {why}"))
}

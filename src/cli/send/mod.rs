//! ac-send: from options to delivered messages, and from how that ended to an exit code.

mod chat;
mod duplex;
pub(in crate::cli) mod files;
mod lan;
mod plain;
mod reach;
mod several;
pub(in crate::cli) mod why;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;

use super::common::CommonOptions;
use super::destination::{self, Destination, resolve};
use super::failure::{self, Code, EXIT_STATUS_HELP, Failure, check_descriptors};
use super::json::{self, Event};
use super::listen::inbox::InboxOptions;
use super::output::{check_stdout, note};
use super::sealed_file::SealedFile;
use super::{history, trace, units};
use crate::crypto::sodium::{KeyPair, OsRandom, PublicKey, random};
use crate::history::entry::{Direction, Head, State};
use crate::history::record::SentRecord;
use crate::keys::{Keyring, Passphrases};
use crate::net::box_file::{self, SealError};
use crate::net::call::Call;
use crate::net::dial::CONNECT_TIME;
use crate::net::hub::Hub;
use crate::net::input::Input;
use crate::net::output::Output;
use crate::net::send::{Delivered, Limits, SendError};
use crate::net::send_datagrams::{Job, send_datagrams};
use crate::net::several::send_to_one;
use crate::net::signals::die_of;
use crate::net::sockets::Transport;
use crate::net::via::cells::{Cargo, Dispatch, Terms};
use crate::proto::datagram::boxfile::BoxWriter;
use crate::proto::datagram::sender::Reliability;
use crate::proto::relay::posting::ANSWER_TIME;
use crate::proto::stream::link::KEEPALIVE;
use crate::proto::stream::meta::{MessageKind, Meta};

/// The name in front of what goes to stderr.
pub const PROGRAM: &str = "ac-send";
/// A session may be silent this long, unless -w says otherwise.
const SILENCE: Duration = Duration::from_secs(30);

/// Seal what comes on stdin, or files and folders, and deliver it
///
/// Exit status 0 says delivered: the recipient proved its key, and acknowledged every byte after
/// its own output was flushed.
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version = crate::cli::program::VERSION, max_term_width = 100, after_help = EXIT_STATUS_HELP)]
#[command(
    override_usage = "ac-send [OPTIONS] DESTINATION... [-- PATH...]\n       ac-send [OPTIONS] HOST PORT [-- PATH...]"
)]
pub struct Options {
    /// NAME, NAME@HOST:PORT, HOST:PORT or HOST PORT; a NAME with a / is the path of a key file.
    /// With several, all get what is read once, and each has a line of result
    #[arg(required = true, num_args = 1.., value_name = "DESTINATION")]
    pub destination: Vec<String>,

    /// Send the file or folder at PATH instead of stdin (repeatable); so is everything after --
    #[arg(short, long = "file", value_name = "PATH")]
    pub file: Vec<PathBuf>,

    #[allow(missing_docs)] // Told with -f.
    #[arg(last = true, value_name = "PATH", hide = true)]
    pub paths: Vec<PathBuf>,

    /// Send datagrams (UDP) instead of a stream (TCP)
    #[arg(short, long)]
    pub udp: bool,

    /// Do not wait for acknowledgements: exit status 0 says sent, not delivered
    #[arg(long, requires = "udp", conflicts_with = "ping")]
    pub no_ack: bool,

    /// Seal into FILE instead of sending (- is stdout): exit status 0 says sealed, not delivered
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["udp", "ping", "wait"])]
    pub output: Option<PathBuf>,

    /// Send anonymously, with a key made for this one message
    #[arg(short, long, conflicts_with = "key")]
    pub anonymous: bool,

    /// Send as KEY instead of the identity: a group's petname, or a path with a /
    #[arg(short, long, value_name = "KEY")]
    pub key: Option<String>,

    /// Give up after a silence of TIME (30s; connecting has 10s of its own, and 5s are for the first
    /// answer by a relay)
    #[arg(short, long, value_name = "TIME", value_parser = units::duration)]
    pub wait: Option<Duration>,

    /// Ask the local network where NAME is, as ac-discover does
    #[arg(long, conflicts_with_all = ["output", "anonymous", "plain"])]
    pub lan: bool,

    /// By way of RELAY: a relay's petname, or a path with a /, either with @HOST:PORT if its key file
    /// does not say where it is (repeatable: each is tried in turn)
    #[arg(long, value_name = "RELAY", conflicts_with_all = ["udp", "output", "plain", "lan"])]
    pub via: Vec<String>,

    /// A message that a relay holds for them counts as sent: exit status 0 says delivered or queued,
    /// and stderr which
    #[arg(long, conflicts_with_all = ["udp", "output", "plain", "ping", "duplex", "chat"])]
    pub queue: bool,

    /// Only shake hands: is the peer there, and does it hear you?
    #[arg(short = 'z', long)]
    pub ping: bool,

    /// Carry bytes both ways: stdin to the peer, and what it says to stdout
    #[arg(short = 'b', long, conflicts_with_all = ["output", "ping", "history", "plain"])]
    pub duplex: bool,

    /// Append what is sent to FILE, sealed to your own key
    #[arg(long, value_name = "FILE", conflicts_with = "ping")]
    pub history: Option<PathBuf>,
    /// Encrypt nothing, for a bare nc at HOST:PORT: exit status 0 says handed over, not delivered
    #[arg(long, conflicts_with_all = ["key", "anonymous", "output", "ping", "no_ack",
          "history", "passphrase_fd", "passphrase_file"])]
    pub plain: bool,

    /// Chat: each line that you type is a message of its own; without it, when stdin is a terminal
    #[arg(short = 'i', long, conflicts_with_all = ["plain", "output", "ping", "file", "paths", "duplex"])]
    pub chat: bool,

    /// In a chat: ring the terminal when a message arrives
    #[arg(long)]
    pub bell: bool,

    /// Options that all programs share.
    #[command(flatten)]
    pub common: CommonOptions,

    /// In a chat: where files that come go, and how large they may be.
    #[command(flatten, next_help_heading = "Files that come in a chat")]
    pub inbox: InboxOptions,
}

impl Options {
    /// What is sent instead of stdin.
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.file.iter().chain(&self.paths)
    }

    /// How long a session may be silent.
    fn silence(&self) -> Duration {
        self.wait.unwrap_or(SILENCE)
    }

    /// How often the recipient should show that it lives, ms, if that is oftener than it does
    /// anyhow: before our patience ends.
    fn keepalive_ms(&self) -> Option<u64> {
        let often = self.silence() / 3;
        (often < KEEPALIVE).then_some(often.as_millis() as u64)
    }

    /// What exit status 0 means here.
    fn success(&self) -> &'static str {
        match self {
            Self { ping: true, .. } => "there",
            Self { no_ack: true, .. } | Self { plain: true, .. } => "sent",
            Self { output: Some(_), .. } => "sealed",
            _ => "delivered",
        }
    }
}

/// What came of it, for the report.
struct Report<'a> {
    to: &'a str,
    status: &'a str,
    bytes: u64,
    address: Option<String>,
    failure: Option<&'a Failure>,
}

/// Sends.
///
/// # Errors
/// Everything that is not exit status 0 and no signal.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    check_descriptors("send anything")?;
    if options.output.as_deref() == Some(Path::new("-")) {
        check_stdout()?;
        if options.common.json {
            return Err(Failure::new(Code::Usage, "--json: stdout is for the sealed box")
                .hint("report on another descriptor: --status-fd N"));
        }
    }
    options.common.prepare(|| files::check(options))?;
    if options.plain {
        return plain::run(options);
    }
    if !options.chats() && options.inbox != InboxOptions::default() {
        return Err(Failure::new(Code::Usage, "files come only to a chat")
            .hint("-d DIR is for ac-send -i; to send files: -f PATH"));
    }
    if options.duplex {
        return duplex::run(options);
    }
    if options.chats() {
        return chat::run(options);
    }
    if options.bell {
        return Err(Failure::new(Code::Usage, "--bell: nothing arrives that it could ring for")
            .hint("to chat, add -i"));
    }
    if let several @ [_, _, ..] = &destination::each(&options.destination)[..] {
        return several::run(options, several);
    }
    let (me, destination, owner) = options.common.prepare(|| prepare(options))?;
    // It may wait for a reader: signals still end the program here, and leave nothing behind.
    let special = options.output.as_deref().map_or(Ok(None), SealedFile::special);
    let mut hub = hub(options).map_err(|e| failure::local(&e))?;
    if options.files().next().is_some() {
        return files::run(options, &mut hub, &me, &destination);
    }
    let open = || history::open(options.history.as_deref(), owner, hub.bell());
    let recorder = options.common.prepare(open)?;
    let record = recorder.map(|recorder| {
        SentRecord::new(recorder, head(options, &destination, hub.clock.now().unix_ms))
    });
    let sent = match &options.output {
        Some(path) => {
            let target = special.and_then(|s| s.map_or_else(|| SealedFile::beside(path), Ok));
            seal(target, &mut hub, &me, &destination, record.as_ref())
        }
        None => send(options, &mut hub, &me, &destination, record.as_ref()),
    };
    let until = hub.clock.now().mono + history::SIGNAL_PATIENCE;
    let kept =
        record.map_or(Ok(()), |record| keep(&mut record.borrow_mut(), options, &sent, &hub, until));
    end(options, &destination.name, sent, kept)
}

/// The loop. What goes nowhere but to the peer leaves nothing behind if a signal ends the program
/// before it has waited for the first time.
fn hub(options: &Options) -> io::Result<Hub> {
    let leaves_files = options.output.is_some() || options.history.is_some();
    match leaves_files || options.files().next().is_some() {
        true => Hub::new(),
        false => Hub::unarmed(),
    }
}

/// From how it ended to an exit code, telling what is to be told.
fn end(
    options: &Options,
    name: &str,
    sent: Result<Delivered, SendError>,
    kept: Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    if let Err(SendError::Signal(signal)) = sent {
        die_of(signal);
        return Ok(ExitCode::from(128 + signal as u8));
    }
    let sent = outcome(options, name, sent, kept);
    conclude(options, name, sent, options.ping)
}

/// Reports what came of the only destination, a success aloud if `aloud` or -v says so.
fn conclude(
    options: &Options,
    name: &str,
    sent: Result<Delivered, Failure>,
    aloud: bool,
) -> Result<ExitCode, Failure> {
    tell(options, name, &sent, aloud || options.common.verbose > 0)?;
    match sent {
        Err(failure) if !is_success(options, &failure) => Err(failure),
        Err(failure) => {
            mention(options, &failure);
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Whether the user counts that as a success: `--queue`.
fn is_success(options: &Options, failure: &Failure) -> bool {
    options.queue && failure.code == Code::Queued
}

/// Says what [`is_success`], and is less than delivered.
fn mention(options: &Options, failure: &Failure) {
    if !options.common.quiet {
        note(&format!("{PROGRAM}: {failure}"));
    }
}

/// What came of a destination, for a person.
fn outcome(
    options: &Options,
    name: &str,
    sent: Result<Delivered, SendError>,
    kept: Result<(), Failure>,
) -> Result<Delivered, Failure> {
    let delivered = sent.map_err(|e| why::failure(&e).about(name))?;
    kept.map_err(|failure| {
        failure.about(format!("{name}: {}, but not recorded", options.success()))
    })?;
    Ok(delivered)
}

/// Who calls and who is called. Signals still end the program here: it may ask for passphrases.
fn prepare(options: &Options) -> Result<(KeyPair, Destination, Option<PublicKey>), Failure> {
    let keyring = Keyring::locate()?;
    let mut passphrases = options.common.passphrases.source();
    let mut destination = resolve(&options.destination, &keyring, &mut passphrases)?;
    let me = caller(options, &keyring, &mut passphrases)?;
    reach::reach(options, &keyring, &me, std::slice::from_mut(&mut destination))?;
    let owner = history::owner(&keyring, options.history.as_deref())?;
    Ok((me, destination, owner))
}

/// The key that calls.
fn caller(
    options: &Options,
    keyring: &Keyring,
    passphrases: &mut dyn Passphrases,
) -> Result<KeyPair, Failure> {
    Ok(match &options.key {
        _ if options.anonymous => KeyPair::generate(),
        Some(key) => keyring.local_key(key, passphrases)?.pair,
        None => keyring.identity(passphrases)?.pair,
    })
}

/// What the history says of the message; its id comes when it begins.
fn head(options: &Options, to: &Destination, now_ms: u64) -> Head {
    Head {
        record: random(),
        direction: Direction::Sent,
        id: [0; 16],
        kind: MessageKind::Message as u8,
        transport: match options {
            Options { output: Some(_), .. } => Transport::File,
            Options { udp: true, .. } => Transport::Udp,
            _ => Transport::Tcp,
        },
        peer: to.contact.public,
        name: to.name.clone(),
        known: to.known,
        sent_ms: now_ms,
        began_ms: now_ms,
    }
}

/// What came of it goes into the history; after a signal, only if that is done at `until`.
fn keep<T>(
    record: &mut SentRecord,
    options: &Options,
    sent: &Result<T, SendError>,
    hub: &Hub,
    until: Duration,
) -> Result<(), Failure> {
    let state = match sent {
        Ok(_) if options.no_ack || options.output.is_some() => State::Unacknowledged,
        Err(SendError::Queued(_)) => State::Unacknowledged,
        Ok(_) => State::Whole,
        Err(_) => State::Cut,
    };
    let stopped = matches!(sent, Err(SendError::Signal(_)));
    let give_up = || match stopped {
        true => hub.clock.now().mono >= until,
        false => hub.signals.arrived().is_some(),
    };
    record.finish(state, give_up).map_err(|e| history::cannot("write the history", &e))
}

/// stdin, and its copy in the history.
fn stdin(hub: &Hub, record: Option<&Rc<RefCell<SentRecord>>>) -> Result<Input, SendError> {
    let input = Input::stdin(&hub.bell()).map_err(SendError::Local)?;
    Ok(match record {
        Some(record) => input.copied_by(record.clone()),
        None => input,
    })
}

/// `-o`: the message goes into a file that is complete or not there.
fn seal(
    target: io::Result<SealedFile>,
    hub: &mut Hub,
    me: &KeyPair,
    to: &Destination,
    record: Option<&Rc<RefCell<SentRecord>>>,
) -> Result<Delivered, SendError> {
    let target = target.map_err(SendError::Output)?;
    let access = to.contact.access.as_bytes();
    let writer = BoxWriter::new(me, &to.contact.public, access, &mut OsRandom);
    let input = stdin(hub, record)?;
    let file = target.writer().map_err(SendError::Output)?;
    let mut out = Output::new(file, hub.bell()).map_err(SendError::Local)?;
    let total = box_file::seal(hub, writer, input, &mut out).map_err(|e| match e {
        SealError::Input(e) => SendError::Input(e),
        SealError::Output(e) => SendError::Output(e),
        SealError::Signal(signal) => SendError::Signal(signal),
    })?;
    target.keep().map_err(SendError::Output)?;
    Ok(Delivered { address: None, total })
}

fn call<'a>(options: &Options, me: &'a KeyPair, destination: &Destination) -> Call<'a> {
    Call {
        me,
        peer: destination.contact.public,
        access: *destination.contact.access.as_bytes(),
        patience: CONNECT_TIME.min(options.silence()),
        trace: options.common.trace(),
    }
}

fn send(
    options: &Options,
    hub: &mut Hub,
    me: &KeyPair,
    destination: &Destination,
    record: Option<&Rc<RefCell<SentRecord>>>,
) -> Result<Delivered, SendError> {
    let call = call(options, me, destination);
    let mut show = |crossing: &_| note(&trace::lines(crossing));
    let trace: Option<&mut dyn FnMut(&_)> =
        if options.common.trace() { Some(&mut show) } else { None };
    let mut limits = Limits { silence: options.silence(), trace };
    let input = if options.ping { None } else { Some(stdin(hub, record)?) };
    let targets = &destination.targets;
    if options.udp {
        return send_datagrams(hub, &call, targets, job(options, input), &mut limits);
    }
    let cargo = cargo(options, input, hub.clock.now().unix_ms);
    let peer = Dispatch::new(&call, targets, cargo, terms(options, 0));
    send_to_one(hub, peer, &mut limits)
}

/// What is sent over UDP: `input`, or the question whether the peer is there.
fn job(options: &Options, input: Option<Input>) -> Job {
    let reliability = if options.no_ack { Reliability::FireAndForget } else { Reliability::Acked };
    input.map_or(Job::Ping, |input| Job::Run(input, reliability))
}

/// The same over TCP or by a relay.
fn cargo(options: &Options, input: Option<Input>, now_ms: u64) -> Cargo {
    let Some(input) = input else { return Cargo::Ping };
    let mut meta = Meta::message(random(), now_ms);
    meta.keepalive_ms = options.keepalive_ms();
    Cargo::Input(input, meta)
}

/// How long recipient number `peer` may take.
fn terms(options: &Options, peer: usize) -> Terms {
    let answer = options.wait.unwrap_or(ANSWER_TIME);
    Terms { silence: options.silence(), answer, peer }
}

/// Reports in every way that was asked for; a success on stderr too, if `aloud`.
fn tell(
    options: &Options,
    name: &str,
    sent: &Result<Delivered, Failure>,
    aloud: bool,
) -> Result<(), Failure> {
    let report = match sent {
        Ok(delivered) => Report {
            to: name,
            status: options.success(),
            bytes: delivered.total,
            address: delivered.address.map(|address| address.to_string()),
            failure: None,
        },
        Err(failure) => {
            let status = if failure.code == Code::Queued { "queued" } else { "failed" };
            Report { to: name, status, bytes: 0, address: None, failure: Some(failure) }
        }
    };
    let common = &options.common;
    if aloud && report.failure.is_none() && !common.quiet {
        let place = report.address.as_ref().map_or(String::new(), |a| format!(", {a}"));
        let status = report.status;
        let bytes = if options.ping { String::new() } else { format!("{} bytes ", report.bytes) };
        note(&format!("{PROGRAM}: {name}: {bytes}{status}{place}"));
    }
    common.publish(&report.line(options))
}

impl Report<'_> {
    fn line(&self, options: &Options) -> String {
        let failure = self.failure.filter(|failure| !is_success(options, failure));
        json::line(&Event::Result {
            to: self.to,
            status: self.status,
            code: failure.map_or(0, |f| f.code as u8),
            bytes: self.bytes,
            address: self.address.as_deref(),
            error: self.failure.map(|f| f.message.as_str()),
            hint: failure.and_then(|f| f.hint.as_deref()),
            plain: options.plain,
        })
    }
}

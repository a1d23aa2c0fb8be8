//! ac-listen: from options to a running listener, and from how it ended to an exit code.

pub(super) mod bind;
pub(in crate::cli) mod front;
pub mod inbox;
mod limits;
mod open;
pub(in crate::cli) mod recorded;
mod replay;
mod settings;
pub(in crate::cli) mod stage;
mod state;
mod work;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;

use self::bind::{BindWord, Sockets, bind};
use self::front::{Front, Policy};
use self::inbox::{Desk, InboxOptions};
use self::limits::LimitOptions;
use self::recorded::Recorded;
use self::settings::Settings;
use self::stage::{Form, JsonParts, Printer, Terminal};
use self::work::{Work, WorkOptions};
use super::chat::host::{Chatting, Parts};
use super::chat::once::Once;
use super::chat::{self, Surface};
use super::common::{CommonOptions, stdout_is_terminal};
use super::discover::PlaceOptions;
use super::discover::beside::{Beside, introduced};
use super::ended::{Ended, conclude, keep};
use super::failure::{Code, EXIT_STATUS_HELP, Failure, system};
use super::output::check_stdout;
use super::outputs::{Outputs, Told};
use super::via::Ways;
use super::{config, history, units, via};
use crate::discover::announce::Member;
use crate::keys::names::petname;
use crate::keys::ring::name_of_file;
use crate::keys::{Keyring, LocalKind};
use crate::net::duplex::Quiet;
use crate::net::hub::Hub;
use crate::net::listen::relays::AtRelays;
use crate::net::listen::{Answering, End, Host, Limits, Listener, MAX_RELAYS, Stage};
use crate::net::sockets::{Transport, canonical};
use crate::net::via::Relay;

/// The name in front of what goes to stderr.
const PROGRAM: &str = "ac-listen";

/// Listen for sealed messages and print them
///
/// Prints what your contacts send, whole and one message at a time, until stopped. Exit status 0
/// says that everything that was acknowledged has been written.
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version = crate::cli::program::VERSION, max_term_width = 100, after_help = after_help())]
pub struct Options {
    /// Where to listen: PORT on every address, ADDRESS:PORT on one; port 0 lets the system choose
    /// [config]
    #[arg(value_name = "[ADDRESS:]PORT", value_parser = bind)]
    pub addresses: Vec<BindWord>,

    /// Listen at RELAY (repeatable), alone or beside addresses: a petname, a path with a /, or
    /// either with @HOST:PORT [config]
    #[arg(long, value_name = "RELAY", conflicts_with_all = ["plain", "open", "replay"])]
    pub via: Vec<String>,

    /// Hear datagrams (UDP) instead of streams (TCP)
    #[arg(short, long)]
    pub udp: bool,

    /// Answer for KEY instead of the identity (repeatable): a group's petname, or a path with a /
    #[arg(short, long, value_name = "KEY")]
    pub key: Vec<String>,

    /// Hear only NAME (repeatable)
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub from: Vec<String>,

    /// Hear holders of your public key file who are no contacts, anonymous ones too
    #[arg(long, conflicts_with = "from")]
    pub accept_unknown: bool,

    /// End after one message
    #[arg(short = '1', long)]
    pub once: bool,

    /// End after COUNT messages
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "once",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after hearing nothing for TIME, and cut a session that is silent so long (30s,
    /// [config])
    #[arg(short = 'w', long, value_name = "TIME", value_parser = units::duration)]
    pub wait: Option<Duration>,

    /// Write a NUL after each message
    #[arg(short = '0', long, conflicts_with = "json")]
    pub null: bool,

    /// Open the sealed boxes in FILE instead of listening (- is stdin)
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["addresses", "udp", "once", "count", "wait", "directory"])]
    pub open: Option<PathBuf>,

    /// Append what is heard to FILE, sealed to your own key
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,

    /// Remember in FILE what was delivered, so that a listener that is started anew delivers nothing
    /// twice; for -u and --via, since nothing of a TCP stream can come again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["open", "replay", "plain"])]
    pub state: Option<PathBuf>,

    /// Print the history in FILE instead of listening
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["addresses", "udp", "once", "count", "wait", "open", "history", "directory",
                                "accept_unknown"])]
    pub replay: Option<PathBuf>,

    /// With --replay: only what is no older than TIME, such as 2h, 2026-11-21, or RFC 3339
    #[arg(long, value_name = "TIME", requires = "replay", value_parser = replay::since)]
    pub since: Option<u64>,
    /// Hear whoever writes without encryption, a bare nc for one, and nobody else
    #[arg(long, conflicts_with_all = ["key", "from", "accept_unknown", "open", "replay", "history",
          "passphrase_fd", "passphrase_file"])]
    pub plain: bool,

    /// Chat: say what you type to all who chat with you, each line a message of its own
    #[arg(short = 'i', long, conflicts_with_all = ["plain", "open", "replay", "duplex", "exec"])]
    pub chat: bool,

    /// With -i: ring the terminal when a message arrives
    #[arg(long, requires = "chat")]
    pub bell: bool,

    /// How much one caller may have, and all of them together.
    #[command(flatten)]
    pub limits: LimitOptions,

    /// Files and folders.
    #[command(flatten)]
    pub inbox: InboxOptions,

    /// A command, or a stream both ways.
    #[command(flatten)]
    pub work: WorkOptions,

    /// Answer contacts who look for you on the local network with ac-discover
    #[arg(long, conflicts_with_all = ["open", "replay", "plain"])]
    pub announce: bool,

    /// With --announce -k GROUP: hand your public key file to members who look for others
    #[arg(long, requires_all = ["announce", "key"])]
    pub introduce: bool,

    /// Where --announce answers.
    #[command(flatten)]
    pub place: PlaceOptions,

    /// Options that all programs share.
    #[command(flatten)]
    pub common: CommonOptions,
}

/// What stands below the options.
fn after_help() -> String {
    format!(
        "Where [config] stands, config.toml in the keyring may set another default: \
         ac-config(5).\n\n{EXIT_STATUS_HELP}"
    )
}

fn name(text: &str) -> Result<String, String> {
    petname(text).map_err(|why| why.to_string())
}

/// Listens.
///
/// # Errors
/// Everything that is not exit status 0 and no signal.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    check_stdout()?;
    options.work.check(options.udp, options.common.json)?;
    if options.chat && options.udp {
        return Err(chat::needs_tcp());
    }
    options.check_relays()?;
    options.place.check(options.announce)?;
    if let Some(path) = &options.replay {
        return replay::run(options, path);
    }
    options.common.prepare(|| options.check_files())?;
    let mut settings = options.common.prepare(|| Settings::new(options))?;
    options.common.prepare(|| options.check_state(&settings))?;
    let (keyring, keys, groups, owner) = options.common.prepare(|| {
        if options.plain {
            // No key has anything to do with it.
            return Ok((None, Vec::new(), Vec::new(), None));
        }
        let keyring = Keyring::locate()?;
        let (keys, groups) = answering(options, &keyring)?;
        let owner = history::owner(&keyring, options.history.as_deref())?;
        Ok((Some(keyring), keys, groups, owner))
    })?;
    settings.relays =
        options.common.prepare(|| at_relays(options, &settings.via, keyring.as_ref(), &groups))?;
    let inbox = options.common.prepare(|| settings.inbox.open())?;
    settings.state = options.common.prepare(|| state::open(options.state.as_deref(), &keys))?;
    settings.announcing = options.common.prepare(|| announcing(options, keyring.as_ref()))?;
    let boxes = options.open.as_deref().map(|path| (path, open::file(path)));
    let mut hub = Hub::new().map_err(local)?;
    let open = || history::open(options.history.as_deref(), owner, hub.waker());
    let recorder = options.common.prepare(open)?.map(|r| Rc::new(RefCell::new(r)));
    let (outputs, typing) = match options.chat {
        true => {
            let surface = Surface::open(PROGRAM, &options.common, &hub)?;
            (surface.outputs, Some((surface.keyboard, surface.view)))
        }
        false => (Outputs::open_stream(&options.common, &hub)?, None),
    };
    // Bars would be in an editor's way.
    let outputs = match &inbox {
        Some(_) if typing.is_none() => outputs.with_bars(&options.common, true),
        _ => outputs,
    };
    let policy = Policy {
        from: options.from.clone(),
        accept_unknown: options.accept_unknown,
        groups: groups.clone(),
    };
    let told = outputs.told();
    let desk =
        Desk::new(inbox, &settings.inbox, hub.waker(), told.clone(), options.common.quiet, PROGRAM);
    let work = options.common.prepare(|| Work::new(options, &outputs, &hub))?;
    let mut front = options.common.prepare(|| {
        let front = Front::new(keyring.as_ref(), policy, &options.common, told, desk)?;
        match front.unknown_names().first() {
            Some(stranger) => Err(unknown_contact(stranger)),
            None => Ok(front.doing(work)),
        }
    })?;
    let mut printer = Printer::new(form(options), Rc::clone(&outputs.messages));
    let mut quiet = Quiet(Rc::clone(&outputs.messages));
    let mut recorded;
    let stage: &mut dyn Stage = match &recorder {
        _ if options.work.duplex => &mut quiet,
        Some(recorder) => {
            let recorder = Rc::clone(recorder);
            recorded = Recorded { printer: &mut printer, recorder };
            &mut recorded
        }
        None => &mut printer,
    };
    let mut once = Once::new(stage);
    if options.bell && stdout_is_terminal() && !options.common.json {
        once = once.ringing(|bell| outputs.messages.borrow_mut().write(bell));
    }
    let ended = match boxes {
        Some((path, file)) => open::open(path, file, &mut hub, &keys, &mut front, &mut once),
        None => announce(options, &mut settings, &keys, &groups, &mut front).and_then(|sockets| {
            let Some((keyboard, view)) = typing else {
                return hear(
                    options,
                    &mut settings,
                    &mut hub,
                    &keys,
                    &mut front,
                    sockets,
                    &mut once,
                );
            };
            let parts = Parts {
                keyboard,
                view,
                told: Told { bars: None, ..outputs.told() },
                ears: Some(&mut front),
                keyring: keyring.as_ref(),
                ways: Ways { via: &options.via, anonymous: false },
                recorder: recorder.clone(),
                clock: hub.clock,
                waker: hub.waker(),
                // The ears have it.
                desk: None,
                takes_files: settings.inbox.directory.is_some(),
                silence: settings.silence,
            };
            let mut chat = Chatting::new(parts);
            let ended =
                hear(options, &mut settings, &mut hub, &keys, &mut chat, sockets, &mut once);
            chat::end(chat, ended, &outputs, &hub)
        }),
    };
    let stopped = matches!(ended, Err(Ended::Signal(_)));
    let worked = front.take_work().finish(&hub, stopped);
    let ended = ended.and_then(|()| worked.map_err(Ended::from));
    let kept = recorder.as_ref().map_or(Ok(()), |r| keep(&mut r.borrow_mut(), &ended, &hub));
    conclude(ended.and(kept.map_err(Ended::from)), &outputs, &hub)
}

fn answering(
    options: &Options,
    keyring: &Keyring,
) -> Result<(Vec<Answering>, Vec<Option<String>>), Failure> {
    let mut passphrases = options.common.passphrases.source();
    let mut keys = Vec::new();
    let mut groups = Vec::new();
    if options.key.is_empty() {
        let me = keyring.identity(&mut passphrases)?;
        keys.push(Answering { access: *me.access.as_bytes(), pair: me.pair });
        groups.push(None);
    }
    for word in &options.key {
        let key = keyring.local_key(word, &mut passphrases)?;
        let shown = name_of_file(Path::new(word));
        let is_group = key.kind == LocalKind::Group;
        groups.push(is_group.then(|| shown.unwrap_or_else(|| "group".into())));
        keys.push(Answering { access: *key.access.as_bytes(), pair: key.pair });
    }
    Ok((keys, groups))
}

/// The relays that are named, each once, and what is read there.
fn at_relays(
    options: &Options,
    words: &[String],
    keyring: Option<&Keyring>,
    groups: &[Option<String>],
) -> Result<AtRelays, Failure> {
    let mut relays: Vec<Rc<Relay>> = Vec::new();
    for (word, keyring) in words.iter().zip(keyring.into_iter().cycle()) {
        let relay = via::relay(word, keyring).map_err(|failure| match options.via.is_empty() {
            true => failure.about(config::FILE_NAME),
            false => failure,
        })?;
        if !relays.iter().any(|known| known.public == relay.public) {
            relays.push(relay);
        }
    }
    let own = keyring.filter(|_| !relays.is_empty()).map(Keyring::identity_contact);
    Ok(AtRelays {
        relays,
        groups: groups.iter().map(Option::is_some).collect(),
        own: own.and_then(Result::ok).map(|contact| contact.public),
        // Whoever is named has a mailbox of their own.
        public: options.from.is_empty(),
    })
}

/// For `--announce`: whose contacts are answered, and who is introduced to members of groups.
fn announcing(
    options: &Options,
    keyring: Option<&Keyring>,
) -> Result<Option<(Keyring, Option<Member>)>, Failure> {
    let Some(keyring) = keyring.filter(|_| options.announce) else { return Ok(None) };
    let introduce = || introduced(keyring, &options.common.passphrases);
    let member = options.introduce.then(introduce).transpose()?;
    Ok(Some((keyring.clone(), member)))
}

/// Binds, and says where and for whom.
fn announce(
    options: &Options,
    settings: &mut Settings,
    keys: &[Answering],
    groups: &[Option<String>],
    front: &mut Front<'_>,
) -> Result<Sockets, Ended> {
    let sockets = Sockets::bind(&settings.addresses, options.transport())?;
    if options.plain {
        front.say_plain();
    }
    let addresses = sockets.addresses().map_err(local)?;
    if let Some((keyring, member)) = settings.announcing.take() {
        let (from, addresses) = (&options.from[..], addresses.clone());
        let (accept_unknown, transport) = (options.accept_unknown, options.transport());
        Beside { keys, groups, from, accept_unknown, addresses, transport, member }
            .start(keyring, &options.place)?;
    }
    for address in addresses {
        front.say_listening(canonical(address), options.transport());
    }
    for (key, group) in keys.iter().zip(groups) {
        front.say_key(key.pair.public(), group.as_deref());
    }
    Ok(sockets)
}

/// Listens until it is enough.
fn hear(
    options: &Options,
    settings: &mut Settings,
    hub: &mut Hub,
    keys: &[Answering],
    host: &mut dyn Host,
    sockets: Sockets,
    stage: &mut dyn Stage,
) -> Result<(), Ended> {
    let limits = Limits {
        silence: settings.silence,
        bounds: settings.bounds,
        idle: options.wait,
        // A duplex stream is over when both its halves are, not when one message was heard.
        count: if options.once && !options.work.duplex { Some(1) } else { options.count },
        trace: options.common.trace(),
    };
    let mut listener = Listener::new(hub, keys, limits, host, stage);
    if let Some(state) = settings.state.take() {
        listener.remember_in(state);
    }
    for socket in sockets.tcp {
        match options.plain {
            true => listener.hear_plain_tcp(socket),
            false => listener.hear_tcp(socket),
        }
        .map_err(local)?;
    }
    for socket in sockets.udp {
        match options.plain {
            true => listener.hear_plain_udp(socket),
            false => listener.hear_udp(socket),
        }
        .map_err(local)?;
    }
    if !settings.relays.relays.is_empty() {
        listener.hear_relays(settings.relays.clone());
    }
    listener.run().map_err(Ended::from).and_then(|end| outcome(end, options))
}

impl Options {
    /// Refuses what needs an address of ours, where there are only relays, and too many of them.
    fn check_relays(&self) -> Result<(), Failure> {
        let usage = |what: &str, hint: &str| Err(Failure::new(Code::Usage, what).hint(hint));
        let only_relays = !self.via.is_empty() && self.addresses.is_empty();
        match self {
            _ if self.via.len() > MAX_RELAYS => {
                usage("--via: too many relays", &format!("name at most {MAX_RELAYS}"))
            }
            Self { udp: true, .. } if only_relays => usage(
                "-u: no datagrams come by a relay",
                "leave out -u; or name a port to hear them on as well: ac-listen -u --via RELAY PORT",
            ),
            Self { announce: true, .. } if only_relays => usage(
                "--announce: nobody can call where only relays are listened at",
                "name a port as well: ac-listen --announce --via RELAY PORT",
            ),
            _ => Ok(()),
        }
    }

    /// Refuses `-d` where no file can come.
    fn check_files(&self) -> Result<(), Failure> {
        let what = match self {
            Self { inbox: InboxOptions { directory: None, .. }, .. } => return Ok(()),
            Self { udp: true, via, .. } if via.is_empty() => "datagrams bring no files",
            Self { plain: true, .. } => "without encryption no files are taken",
            _ => return Ok(()),
        };
        let hint = if self.udp { "leave out -u: files come over TCP" } else { "leave out --plain" };
        Err(Failure::new(Code::Usage, format!("-d: {what}")).hint(hint))
    }

    /// Refuses `--state` where nothing can come twice.
    fn check_state(&self, settings: &Settings) -> Result<(), Failure> {
        if self.state.is_none() || self.udp || !settings.via.is_empty() {
            return Ok(());
        }
        let what = "--state: nothing of a TCP stream can come twice";
        Err(Failure::new(Code::Usage, what).hint("leave it out: it is for -u and --via"))
    }

    fn transport(&self) -> Transport {
        if self.udp { Transport::Udp } else { Transport::Tcp }
    }
}

fn form(options: &Options) -> Form {
    if options.common.json {
        Form::Json(JsonParts::default())
    } else if stdout_is_terminal() {
        // Whatever else is asked for: raw bytes of a peer are not for a terminal.
        Form::Terminal(Terminal::default())
    } else if options.null {
        Form::Raw(b"\0")
    } else {
        Form::Raw(b"")
    }
}

fn outcome(end: End, options: &Options) -> Result<(), Ended> {
    match end {
        End::Enough | End::Done => Ok(()),
        // Without a count, hearing somebody and then nobody is what was asked for.
        End::Silence(heard) if heard > 0 && !options.once && options.count.is_none() => Ok(()),
        End::Silence(heard) => {
            let time = units::seconds(options.wait.unwrap_or_default());
            let what = match heard {
                0 => format!("heard nobody for {time}"),
                n => format!("heard nobody for {time} after {n} messages"),
            };
            Err(Failure::new(Code::Unreachable, what).into())
        }
    }
}

fn unknown_contact(name: &str) -> Failure {
    Failure::new(Code::Key, format!("{name}: no such contact"))
        .hint("file their public key: ac-keygen --import FILE --as NAME")
}

fn local(e: io::Error) -> Failure {
    Failure::new(Code::Local, system(&e))
}

//! What holds for listening: the options, and what the configuration says where they say nothing.

use std::rc::Rc;
use std::time::Duration;

use super::Options;
use super::bind::BindWord;
use super::inbox::InboxOptions;
use super::keys::LocalKeys;
use crate::cli::config::{self, Config};
use crate::cli::discover::beside::introduced;
use crate::cli::failure::{Code, Failure};
use crate::cli::via;
use crate::discover::announce::Member;
use crate::keys::Keyring;
use crate::net::listen::relays::AtRelays;
use crate::net::state_file::StateFile;
use crate::net::via::Relay;
use crate::sched::limits::Bounds;

/// A session may be silent this long, unless the user says otherwise.
const SILENCE: Duration = Duration::from_secs(30);

/// All of it.
pub struct Settings {
    /// Where to listen; empty for a box file.
    pub addresses: Vec<BindWord>,
    /// What one caller may have.
    pub bounds: Bounds,
    /// A session may be silent this long.
    pub silence: Duration,
    /// Where files go.
    pub inbox: InboxOptions,
    /// The relays at which is listened.
    pub relays: AtRelays,
    /// The words that name the relays.
    pub via: Vec<String>,
    /// With `--announce`: whose contacts are answered, and who is introduced to groups.
    pub announcing: Option<(Keyring, Option<Member>)>,
    /// What was delivered by earlier listeners.
    pub state: Option<StateFile>,
}

impl Settings {
    /// Reads the configuration, unless nobody is listened to.
    ///
    /// # Errors
    /// As [`Config::load`]; [`Code::Usage`] for what makes no sense, or if no port is known.
    pub fn new(options: &Options) -> Result<Self, Failure> {
        let config = match Keyring::locate() {
            _ if options.open.is_some() => Config::default(),
            Ok(keyring) => Config::load(&keyring)?,
            // Who needs no key needs no home.
            Err(_) if options.plain => Config::default(),
            Err(e) => return Err(e.into()),
        };
        if options.plain && options.udp {
            options.limits.check_plain_udp()?;
        }
        let silence = options.wait.or(config.limits.silence).unwrap_or(SILENCE);
        let bounds = options.limits.or(&config.limits).bounds(silence)?;
        // Whoever says one place to listen at means no other.
        let unsaid = options.addresses.is_empty() && options.via.is_empty();
        let via = match unsaid && options.open.is_none() && !options.plain && !options.udp {
            true => config.relay.clone(),
            false => options.via.clone(),
        };
        let enough = options.open.is_some() || !(via.is_empty() || options.announce);
        let addresses = match (options.addresses.as_slice(), config.port) {
            ([], Some(port)) if unsaid => vec![BindWord::everywhere(port)],
            ([], _) if !enough => return Err(no_port()),
            (given, _) => given.to_vec(),
        };
        let streams = !options.udp || !via.is_empty();
        let files_come = options.open.is_none() && !options.plain && streams;
        let inbox = options.inbox.or(&config, files_come)?;
        Ok(Self {
            addresses,
            bounds,
            silence,
            inbox,
            relays: AtRelays::default(),
            via,
            announcing: None,
            state: None,
        })
    }
}

/// The relays that are named, each once, and what is read there.
pub(super) fn relays(
    options: &Options,
    words: &[String],
    locals: &LocalKeys,
) -> Result<AtRelays, Failure> {
    let keyring = locals.keyring.as_ref();
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
        groups: locals.groups.iter().map(Option::is_some).collect(),
        own: own.and_then(Result::ok).map(|contact| contact.public),
        // Whoever is named has a mailbox of their own.
        public: options.from.is_empty(),
    })
}

/// For `--announce`: whose contacts are answered, and who is introduced to members of groups.
pub(super) fn announcing(
    options: &Options,
    keyring: Option<&Keyring>,
) -> Result<Option<(Keyring, Option<Member>)>, Failure> {
    let Some(keyring) = keyring.filter(|_| options.announce) else { return Ok(None) };
    let introduce = || introduced(keyring, &options.common.passphrases);
    let member = options.introduce.then(introduce).transpose()?;
    Ok(Some((keyring.clone(), member)))
}

fn no_port() -> Failure {
    Failure::new(Code::Usage, "no port is given to listen on")
        .hint("ac-listen 1234, or --via RELAY, for example; config.toml may set a default")
}

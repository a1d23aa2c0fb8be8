//! What holds for listening: the options, and what the configuration says where they say nothing.

use std::time::Duration;

use super::Options;
use super::bind::BindWord;
use super::inbox::InboxOptions;
use crate::cli::config::Config;
use crate::cli::failure::{Code, Failure};
use crate::discover::announce::Member;
use crate::keys::Keyring;
use crate::net::listen::relays::AtRelays;
use crate::net::state_file::StateFile;
use crate::proto::limits::Bounds;

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

fn no_port() -> Failure {
    Failure::new(Code::Usage, "no port is given to listen on")
        .hint("ac-listen 1234, or --via RELAY, for example; config.toml may set a default")
}

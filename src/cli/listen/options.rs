//! The command line of ac-listen, and what of it makes no sense together.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::bind::{BindWord, bind};
use super::inbox::InboxOptions;
use super::limits::LimitOptions;
use super::settings::Settings;
use super::work::WorkOptions;
use super::{PROGRAM, replay};
use crate::cli::common::CommonOptions;
use crate::cli::discover::PlaceOptions;
use crate::cli::failure::{Code, EXIT_STATUS_HELP, Failure};
use crate::cli::{chat, units};
use crate::keys::names::petname;
use crate::net::listen::MAX_RELAYS;
use crate::net::sockets::Transport;

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

impl Options {
    /// Refuses what makes no sense together, as far as the words alone tell.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.work.check(self.udp, self.common.json)?;
        if self.chat && self.udp {
            return Err(chat::needs_tcp());
        }
        self.check_relays()?;
        self.place.check(self.announce)
    }

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
    pub(super) fn check_files(&self) -> Result<(), Failure> {
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
    pub(super) fn check_state(&self, settings: &Settings) -> Result<(), Failure> {
        if self.state.is_none() || self.udp || !settings.via.is_empty() {
            return Ok(());
        }
        let what = "--state: nothing of a TCP stream can come twice";
        Err(Failure::new(Code::Usage, what).hint("leave it out: it is for -u and --via"))
    }

    /// By what the addresses are called.
    pub(super) fn transport(&self) -> Transport {
        if self.udp { Transport::Udp } else { Transport::Tcp }
    }
}

//! ac-discover: from options to who is here, or to an announcer, and to an exit code.

mod announce;
pub mod beside;
mod door;
mod find;
mod hunt;
mod people;
mod public;
mod save;
mod show;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};

use super::common::CommonOptions;
use super::ended::Ended;
use super::failure::{self, Code, EXIT_STATUS_HELP, Failure, check_descriptors};
use super::json::{self, Event};
use super::listen::bind::{BindWord, bind};
use super::output::{check_stdout, note};
use super::{trace, units};
use crate::discover::PORT;
use crate::discover::seek::{Place, Trace};
use crate::net::signals::die_of;
use crate::proto::stream::link::Crossing;

/// The name in front of what goes to stderr.
const PROGRAM: &str = "ac-discover";
/// Whoever is here answers within this.
const WITHIN: Duration = Duration::from_secs(2);

/// Find your contacts on the local network, or at a relay
///
/// Asks the local network who of your contacts is here, and prints their addresses. Nobody else
/// learns whom you look for, nor that it is you. Only who announces is found: ac-listen --announce,
/// or ac-discover --announce beside another listener. With --via, asks at a relay who listens there.
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version = crate::cli::program::VERSION, max_term_width = 100, after_help = EXIT_STATUS_HELP)]
#[command(override_usage = "ac-discover [OPTIONS] [NAME]...\n       \
          ac-discover [OPTIONS] --wait NAME\n       \
          ac-discover [OPTIONS] --via RELAY [NAME]...\n       \
          ac-discover [OPTIONS] --announce [ADDRESS:]PORT")]
pub struct Options {
    /// Look for NAME and print the address alone (of several: NAME@ADDRESS); a NAME with a / is the
    /// path of a key file
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Keep a list of who is here, until stopped
    #[arg(long)]
    pub watch: bool,

    /// Wait until NAME is here, and print the address
    #[arg(long, value_name = "NAME", conflicts_with_all = ["names", "watch"])]
    pub wait: Option<String>,

    /// Look for TIME (2s; with --wait and --watch without end)
    #[arg(short = 'w', long, value_name = "TIME", value_parser = units::duration)]
    pub within: Option<Duration>,

    /// Ask at RELAY who listens there now, instead of the local network: a relay's petname, or a path
    /// with a /, either with @HOST:PORT; with one NAME, print RELAY for ac-send --via
    #[arg(long, value_name = "RELAY",
          conflicts_with_all = ["udp", "save", "announce", "public", "interface", "port"])]
    pub via: Option<String>,

    /// Look, or answer, for listeners of datagrams (UDP)
    #[arg(short, long)]
    pub udp: bool,

    /// Act as KEY instead of the identity: a group's petname, or a path with a /; a group without a
    /// NAME finds its members that are here, with --announce it is answered for (repeatable)
    #[arg(short, long, value_name = "KEY")]
    pub key: Vec<String>,

    /// With -k GROUP: file the keys of members who introduce themselves, as GROUP.NAME
    #[arg(long, requires = "key", conflicts_with = "announce")]
    pub save: bool,

    /// Answer for a listener at PORT (repeatable)
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = bind,
          conflicts_with_all = ["names", "watch", "wait", "within"])]
    pub announce: Vec<BindWord>,

    /// With --announce: answer holders of your public key file who are no contacts, too
    #[arg(long, requires = "announce")]
    pub accept_unknown: bool,

    /// With --announce -k GROUP: hand your public key file to members who look for others
    #[arg(long, requires_all = ["announce", "key"])]
    pub introduce: bool,

    /// With --announce: show everybody on the network NAME and where the listener is (DNS-SD)
    #[arg(long = "as", value_name = "NAME", requires = "announce",
          value_parser = public::public_name)]
    pub public_name: Option<String>,

    /// List people who choose to be seen by everybody: names that nothing proves
    #[arg(long, conflicts_with_all = ["names", "watch", "wait", "announce", "key"])]
    pub public: bool,

    /// Where to look and to answer.
    #[command(flatten)]
    pub place: PlaceOptions,

    /// Options that all programs share.
    #[command(flatten)]
    pub common: CommonOptions,
}

impl Options {
    /// Who is shown what crosses the wire: whoever reads stderr, with `-vv`.
    fn trace(&self) -> Option<Trace> {
        fn show(crossing: &Crossing) {
            note(&trace::lines(crossing));
        }
        self.common.trace().then_some(show as Trace)
    }
}

/// Where discovery takes place.
#[derive(Args, Debug, Clone)]
pub struct PlaceOptions {
    /// Only on the interface NAME (repeatable)
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,

    /// UDP port of discovery, the same for all who are to find each other
    #[arg(long = "discovery-port", value_name = "PORT", default_value_t = PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
}

impl PlaceOptions {
    /// For a program that does something else unless it is `used`.
    ///
    /// # Errors
    /// [`Code::Usage`] when it is not, and the options say otherwise.
    pub fn check(&self, used: bool) -> Result<(), Failure> {
        let silent = self.interface.is_empty() && self.port == PORT;
        if used || silent {
            return Ok(());
        }
        Err(Failure::new(Code::Usage, "--interface and --discovery-port are about discovery")
            .hint("say --announce too"))
    }

    /// The same without the options' names.
    pub fn place(&self) -> Place {
        Place { port: self.port, interfaces: self.interface.clone() }
    }
}

/// Looks, or answers.
///
/// # Errors
/// Everything that is not exit status 0 and no signal.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    check_stdout()?;
    check_descriptors("ask anybody")?;
    let ended = if !options.announce.is_empty() {
        announce::run(options)
    } else if options.public {
        public::run(options)
    } else if options.watch {
        watch::run(options)
    } else {
        find::run(options)
    };
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Ended::Signal(signal)) => {
            die_of(signal);
            Ok(ExitCode::from(128 + signal as u8))
        }
        Err(Ended::Failure(failure)) => {
            options.common.publish(&json::line(&Event::error(&failure)))?;
            Err(failure)
        }
    }
}

fn local(e: std::io::Error) -> Failure {
    failure::local(&e)
}

/// One line of the program's own.
fn say(options: &Options, line: &str) {
    if !options.common.quiet {
        note(&format!("{PROGRAM}: {line}"));
    }
}

//! ac-relay: from options to a relay, and to an exit code.

mod front;
mod key;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use self::front::Front;
use super::common::CommonOptions;
use super::ended::{Ended, conclude};
use super::failure::{
    self, Code, EXIT_STATUS_HELP, Failure, check_descriptors, too_few_descriptors,
};
use super::listen::bind::{BindWord, Sockets, bind};
use super::output::{check_stdout, note};
use super::outputs::Outputs;
use super::units;
use crate::keys::names::harmless;
use crate::keys::{KeyFile, Keyring, check_own_address};
use crate::net::descriptors;
use crate::net::hub::Hub;
use crate::net::sockets::{Transport, canonical};
use crate::proto::relay::link::open_access;
use crate::relay::client::Doorway;
use crate::relay::server::{Places, Relay, RelayError, Settings};
use crate::relay::table;

/// The name in front of what goes to stderr.
const PROGRAM: &str = "ac-relay";
/// Clients at once, unless the user or the descriptors say less.
const CLIENTS: usize = 16_384;
/// Mailboxes that one client reads: with cells held for 30 days, those of 500 contacts.
const SUBSCRIPTIONS: usize = 16_384;
/// Cells of one client, unless the user says otherwise: a minute's worth, 75 MB, may come at once, and
/// then 1.2 MB a second.
const RATE: &str = "60000/m";
/// The longest time that cells are held. PROTOCOL.md, 5.1.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 86_400);
/// The least memory of any use: with less, a mailbox and its reader leave no room for a message.
const LEAST_MEMORY: u64 = 64 * 1024;
/// How often the counts are told.
const TELL_EVERY: Duration = Duration::from_secs(600);
/// The same with `-v`.
const TELL_OFTEN: Duration = Duration::from_secs(60);

/// Pass sealed messages between people who cannot reach each other
///
/// Holds sealed cells in mailboxes for those who are not there yet, and joins two connections into
/// one. It can read neither, and learns no key, no name and no content. The first run makes its key;
/// every run prints the public key file on stdout: give it to those who may use the relay.
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version = crate::cli::program::VERSION, max_term_width = 100, after_help = EXIT_STATUS_HELP)]
pub struct Options {
    /// Where to listen: a port, or an address of this machine and a port
    #[arg(value_name = "[ADDRESS:]PORT", required = true, value_parser = bind)]
    pub addresses: Vec<BindWord>,

    /// Say in the public key file where the relay is reached (repeatable)
    #[arg(long, value_name = "HOST:PORT", value_parser = reached_at)]
    pub address: Vec<String>,

    /// Let in whoever knows the relay's key, not only holders of its public key file
    #[arg(long)]
    pub open: bool,

    /// Hold cells for TIME (1d; 30d at most)
    #[arg(long, value_name = "TIME", value_parser = ttl, default_value = "1d",
          hide_default_value = true)]
    pub ttl: Duration,

    /// Hold N cells in one mailbox
    #[arg(long, value_name = "N", default_value_t = 4096,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub mailbox_cells: u32,

    /// Use SIZE bytes for cells and mailboxes, all together
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "256M")]
    pub memory: u64,

    /// Serve N clients at once (16384, or what the descriptors allow); more wait
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_clients: Option<u32>,

    /// Take RATE cells of one client, such as 100/s (60000/m; 0, no limit); more wait
    #[arg(long, value_name = "RATE", value_parser = units::rate, default_value = RATE,
          hide_default_value = true)]
    pub rate: units::MaybeRate,

    /// Tell counts to whoever asks there by HTTP, in the form of Prometheus (repeatable)
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = metrics)]
    pub metrics: Vec<BindWord>,

    /// Options that all programs share.
    #[command(flatten)]
    pub common: CommonOptions,
}

fn reached_at(text: &str) -> Result<String, String> {
    check_own_address(text).map(|()| text.into()).map_err(|e| e.to_string())
}

fn metrics(text: &str) -> Result<BindWord, String> {
    match text.contains(':') {
        true => bind(text),
        false => Err(format!("say who can ask: 127.0.0.1:{text}, or *:{text} for everybody")),
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = units::duration(text)?;
    match ttl {
        ttl if ttl > LONGEST_TTL => Err("cells are held for 30d at most".into()),
        ttl if ttl < Duration::from_secs(1) => Err("cells are held for 1s at least".into()),
        ttl => Ok(ttl),
    }
}

impl Options {
    fn settings(&self) -> Result<Settings, Failure> {
        let most = Places::now().clients;
        let max_clients = self.max_clients.map_or(CLIENTS.min(most), |n| n as usize);
        if max_clients > most && most > 0 {
            let what = format!("max-clients {max_clients}: the descriptors are enough for {most}");
            let hint = format!("allow more of them: ulimit -Hn {}", max_clients / 3 * 4 + 100);
            return Err(Failure::new(Code::Usage, what).hint(hint));
        }
        let table = table::Bounds {
            ttl: self.ttl,
            cells: self.mailbox_cells as usize,
            memory: self.memory,
            subscriptions: SUBSCRIPTIONS,
        };
        let tell_every = if self.common.verbose > 0 { TELL_OFTEN } else { TELL_EVERY };
        Ok(Settings { table, max_clients, rate: self.rate.0, tell_every })
    }
}

/// Relays until a signal comes.
///
/// # Errors
/// Everything that is not exit status 0 and no signal.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    check_stdout()?;
    check_descriptors("serve anybody")?;
    descriptors::raise(usize::MAX);
    let mut hub = Hub::new().map_err(local)?;
    let (settings, key, public, sockets, metrics) = options.common.prepare(|| {
        let settings = options.settings()?;
        let keyring = Keyring::locate()?;
        let (key, is_new) = key::open(&keyring, &mut options.common.passphrases.source())?;
        let public = key::public(&key, options.open, &options.address)?;
        let sockets = Sockets::bind(&options.addresses, Transport::Tcp)?;
        let metrics = Sockets::bind(&options.metrics, Transport::Tcp)?;
        if is_new && !options.common.quiet {
            let path = keyring.relay_key_path();
            note(&format!("{PROGRAM}: wrote {}", harmless(&path.to_string_lossy())));
        }
        Ok((settings, key, public, sockets, metrics))
    })?;
    let mut accesses = vec![*key.access.as_bytes()];
    if options.open {
        accesses.push(open_access(key.pair.public()));
    }
    let doorway = Doorway { pair: key.pair, accesses, ttl_s: options.ttl.as_secs() };
    let outputs = Outputs::open(&options.common, &hub)?;
    if Places::now().clients == 0 {
        return Err(too_few_descriptors("serve anybody"));
    }
    let addresses = sockets.addresses().map_err(local)?;
    let mut front = Front::new(outputs.told(), options.common.quiet);
    front.say_key(&public.public, &KeyFile::Relay(public.clone()).to_toml(), options)?;
    if options.memory < LEAST_MEMORY {
        let size = options.memory;
        note(&format!("{PROGRAM}: memory {size}: too little for any message: all are refused"));
        note("hint: a mailbox with a few cells takes 64k");
    }
    for address in addresses {
        front.say_listening(canonical(address));
    }
    for address in metrics.addresses().map_err(local)? {
        front.say_metrics(canonical(address));
    }
    let mut relay = Relay::new(&mut hub, settings, doorway, &mut front);
    for socket in sockets.tcp {
        relay.hear(socket).map_err(local)?;
    }
    for socket in metrics.tcp {
        relay.hear_metrics(socket).map_err(local)?;
    }
    let Err(error) = relay.run();
    let ended = match error {
        RelayError::Local(e) => Ended::Failure(local(e)),
        RelayError::Signal(signal) => Ended::Signal(signal),
    };
    outputs.finish_reports(&hub);
    conclude(Err(ended), &outputs, &hub)
}

fn local(e: std::io::Error) -> Failure {
    failure::local(&e)
}

//! ac-keygen: which of its jobs was asked for.

mod claims;
mod import;
mod make;
mod protect;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Parser};

use super::failure::{Code, EXIT_STATUS_HELP, Failure};
use super::passphrase::{PassphraseOptions, PassphraseSource};
use crate::keys::disk::Existing;
use crate::keys::{Hints, Keyring, RelayHint, check_own_address, names};

/// The name in front of what goes to stderr.
const PROGRAM: &str = "ac-keygen";

/// Make, show, check and file AnonChat keys
///
/// Without options it makes your identity: the secret key goes to the keyring, the public key file
/// to stdout (give it to those who may reach you), its fingerprint to stderr.
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version = crate::cli::program::VERSION, max_term_width = 100, after_help = EXIT_STATUS_HELP)]
#[command(group(ArgGroup::new("job")
    .args(["change_passphrase", "public", "list", "verify", "group", "import"])))]
#[command(group(ArgGroup::new("hints").multiple(true).args(["name", "address", "relay"])
    .conflicts_with_all(["change_passphrase", "list", "verify", "import"])))]
pub struct Options {
    /// Write the key file to FILE instead of the keyring (with -y: instead of stdout)
    #[arg(short, long, value_name = "FILE",
          conflicts_with_all = ["change_passphrase", "list", "verify", "import"])]
    pub output: Option<PathBuf>,

    /// Protect the new secret key with a passphrase
    #[arg(short, long, conflicts_with_all = ["change_passphrase", "public", "list", "verify",
                                             "import"])]
    pub protect: bool,

    /// Change the passphrase of FILE, or of the identity; an empty new one removes it
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub change_passphrase: Option<Option<PathBuf>>,

    /// Print the public key file that belongs to FILE, or to the identity
    #[arg(short = 'y', long, value_name = "FILE", num_args = 0..=1)]
    pub public: Option<Option<PathBuf>>,

    /// Print the public key file as one line, for chat windows
    #[arg(long, conflicts_with_all = ["change_passphrase", "list", "verify", "group", "import"])]
    pub line: bool,

    /// List the fingerprints of FILEs, or of the whole keyring
    #[arg(short, long, value_name = "FILE", num_args = 0..)]
    pub list: Option<Vec<PathBuf>>,

    /// Print the safety number of A and B, or of the identity and A: petnames, or paths with a /
    #[arg(long, value_names = ["A", "B"], num_args = 1..=2)]
    pub verify: Option<Vec<String>>,

    /// Make a group's key, at random, and file it as NAME
    #[arg(long, value_name = "NAME", value_parser = petname)]
    pub group: Option<String>,

    /// Make the group's key from a shared password: the same key on every machine
    #[arg(long, requires = "group")]
    pub from_password: bool,

    /// Suggest NAME as the petname
    #[arg(long, value_name = "NAME", value_parser = petname)]
    pub name: Option<String>,

    /// Say where the holder listens (repeatable)
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub address: Vec<String>,

    /// Say at which relay to meet: a relay of the keyring, or a path with a /
    #[arg(long, value_name = "RELAY")]
    pub relay: Option<String>,

    /// Check FILE (- is stdin), in either form, and file it under contacts, groups or relays
    #[arg(long, value_name = "FILE")]
    pub import: Option<PathBuf>,

    /// File it as NAME
    #[arg(long = "as", value_name = "NAME", requires = "import", value_parser = petname)]
    pub petname: Option<String>,

    /// Replace a key file that exists
    #[arg(long, conflicts_with_all = ["change_passphrase", "list", "verify"])]
    pub force: bool,

    /// Report as one JSON object a line (with -l, --verify and --import)
    #[arg(long, conflicts_with_all = ["change_passphrase", "public", "group", "output", "line"])]
    pub json: bool,

    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseOptions,

    /// Read the passphrase to set from descriptor N, its first line
    #[arg(long, value_name = "N", conflicts_with = "new_passphrase_file",
          value_parser = clap::value_parser!(i32).range(0..))]
    pub new_passphrase_fd: Option<i32>,

    /// Read the passphrase to set from FILE, its first line
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
}

fn petname(text: &str) -> Result<String, String> {
    names::petname(text).map_err(|e| e.to_string())
}

fn address(text: &str) -> Result<String, String> {
    check_own_address(text).map(|()| text.into()).map_err(|e| e.to_string())
}

/// Does the one job that the options ask for.
///
/// # Errors
/// [`Failure`], for the caller to show.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    if options.json
        && options.list.is_none()
        && options.verify.is_none()
        && options.import.is_none()
    {
        return Err(Failure::new(Code::Usage, "--json goes with -l, --verify or --import"));
    }
    let keyring = Keyring::locate()?;
    if let Some(file) = &options.change_passphrase {
        protect::change(options, &keyring, file.as_deref())?;
    } else if let Some(file) = &options.public {
        show::public(options, &keyring, file.as_deref())?;
    } else if let Some(files) = &options.list {
        return show::list(options, &keyring, files);
    } else if let Some(pair) = &options.verify {
        show::verify(options, &keyring, pair)?;
    } else if let Some(file) = &options.import {
        import::import(options, &keyring, file)?;
    } else if let Some(name) = &options.group {
        make::group(options, &keyring, name)?;
    } else {
        make::identity(options, &keyring)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    /// The hints that were given, in place of those of `before`.
    fn hints(&self, keyring: &Keyring, before: Hints) -> Result<Hints, Failure> {
        let relay = match &self.relay {
            None => before.relay,
            // The table, so that whoever gets the file needs nothing more.
            Some(name) => {
                let (_, mut relay) = keyring.relay(name)?;
                relay.hints.name = None;
                Some(RelayHint::Inline(Box::new(relay)))
            }
        };
        let address = if self.address.is_empty() { before.address } else { self.address.clone() };
        let hints = Hints { name: self.name.clone().or(before.name), address, relay };
        hints.checked().map_err(|why| Failure::new(Code::Usage, why.to_string()))
    }

    fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }

    /// Where a passphrase to set comes from: its own options, else the terminal.
    fn new_passphrase(&self) -> PassphraseSource {
        PassphraseSource::new(self.new_passphrase_fd, self.new_passphrase_file.clone())
    }

    fn names_new_passphrase(&self) -> bool {
        self.new_passphrase_fd.is_some() || self.new_passphrase_file.is_some()
    }
}

//! Asking for passphrases: a descriptor, a file, else the terminal. Never argv, never the
//! environment, which other users can read.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::descriptor;
use super::failure::{Code, Failure, system};
use super::terminal;
use crate::keys::{Passphrase, Passphrases, Wiped};

/// Where this program's passphrases come from.
#[derive(Args, Debug, Clone, Default)]
pub struct PassphraseOptions {
    /// Read the passphrase from descriptor N, its first line
    #[arg(long, value_name = "N", conflicts_with = "passphrase_file",
          value_parser = clap::value_parser!(i32).range(0..))]
    pub passphrase_fd: Option<i32>,

    /// Read the passphrase from FILE, its first line
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl PassphraseOptions {
    /// The source that they name; nothing is opened or asked before it is needed.
    pub fn source(&self) -> PassphraseSource {
        PassphraseSource::new(self.passphrase_fd, self.passphrase_file.clone())
    }
}

enum Origin {
    Descriptor(i32),
    File(PathBuf),
    Terminal,
}

/// One source of passphrases. What a descriptor or a file says is read once and serves every key
/// file of the run; the terminal is asked for each.
pub struct PassphraseSource {
    origin: Origin,
    read: Option<Passphrase>,
}

impl PassphraseSource {
    /// Descriptor, else file, else terminal.
    pub fn new(fd: Option<i32>, file: Option<PathBuf>) -> Self {
        let origin = match (fd, file) {
            (Some(fd), _) => Origin::Descriptor(fd),
            (None, Some(file)) => Origin::File(file),
            (None, None) => Origin::Terminal,
        };
        Self { origin, read: None }
    }

    /// Whether a person is asked.
    pub fn is_terminal(&self) -> bool {
        matches!(self.origin, Origin::Terminal)
    }

    /// A passphrase that is to be set: a person types it twice.
    ///
    /// # Errors
    /// [`Code::Key`] when there is none, [`Code::Local`] when the two differ.
    pub fn get_new(&mut self, what: &Path, prompt: &str) -> Result<Passphrase, Failure> {
        let get = |source: &mut Self, prompt: &str| {
            let why = |why| crate::keys::KeyErrorKind::NoPassphrase(why).at(what);
            source.get(what, prompt).map_err(|e| Failure::from(why(e)))
        };
        let first = get(self, prompt)?;
        if self.is_terminal() {
            let second = get(self, &format!("{prompt}, again"))?;
            if first.as_bytes() != second.as_bytes() {
                return Err(Failure::new(Code::Local, "the two were not the same"));
            }
        }
        Ok(first)
    }

    fn read_once(&self) -> Result<Passphrase, String> {
        match &self.origin {
            Origin::Descriptor(number) => {
                let named = |e: io::Error| format!("descriptor {number}: {}", system(&e));
                first_line(File::from(descriptor::duplicate(*number).map_err(named)?))
            }
            Origin::File(path) => {
                let named = |e: io::Error| format!("{}: {}", path.display(), system(&e));
                first_line(File::open(path).map_err(named)?)
            }
            Origin::Terminal => unreachable!("a terminal is asked, not read"),
        }
    }
}

impl Passphrases for PassphraseSource {
    fn get(&mut self, what: &Path, prompt: &str) -> Result<Passphrase, String> {
        if self.is_terminal() {
            let what = crate::keys::names::harmless(&what.to_string_lossy());
            return ask(&format!("{what}: {prompt}: "));
        }
        if self.read.is_none() {
            self.read = Some(self.read_once()?);
        }
        self.read.as_ref().map(Passphrase::duplicate).ok_or_else(|| "nothing was read".into())
    }
}

/// Reads byte by byte up to the newline, so that what follows in a pipe stays there for whom it
/// is meant.
fn first_line(mut input: impl Read) -> Result<Passphrase, String> {
    let mut line = Wiped::with_capacity(Passphrase::MAX + 1);
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if line.len() > Passphrase::MAX => {
                return Err(format!("it is longer than {} bytes", Passphrase::MAX));
            }
            Ok(_) => line.push(&byte),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    let text: &[u8] = &line;
    Passphrase::new(text.strip_suffix(b"\r").unwrap_or(text)).map_err(String::from)
}

/// Asks on the controlling terminal, whatever stdin is.
fn ask(prompt: &str) -> Result<Passphrase, String> {
    let terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| "there is no terminal to ask on".to_string())?;
    let quiet = terminal::Quiet::new(&terminal).map_err(|e| e.to_string())?;
    (&terminal).write_all(prompt.as_bytes()).map_err(|e| e.to_string())?;
    let mut line = Wiped::zeroed(terminal::MAX_LINE);
    let len = (&terminal).read(line.as_mut_slice()).map_err(|e| e.to_string())?;
    let _ = (&terminal).write_all(b"\n");
    let signal = quiet.signal_of(line[..len].last().copied());
    drop(quiet);
    if let Some(signal) = signal {
        line.truncate(0);
        terminal::die_of(signal);
    }
    let text = line[..len].strip_suffix(b"\n").ok_or("nothing was typed")?;
    Passphrase::new(text).map_err(String::from)
}

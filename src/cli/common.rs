//! Options that ac-listen and ac-send share.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};

use clap::Args;

use super::descriptor;
use super::failure::{Code, Failure, system};
use super::json::{self, Event};
use super::output::print;
use super::passphrase::PassphraseOptions;

/// How much is told, in which form, and where passphrases come from.
#[derive(Args, Debug, Clone)]
pub struct CommonOptions {
    /// Report as NDJSON on stdout
    #[arg(long)]
    pub json: bool,

    /// Report as NDJSON on descriptor N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub status_fd: Option<i32>,

    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more; twice: show what crosses the wire beside what it means
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Where passphrases come from.
    #[command(flatten)]
    pub passphrases: PassphraseOptions,
}

impl CommonOptions {
    /// Whether what crosses the wire is shown.
    pub fn trace(&self) -> bool {
        self.verbose >= 2
    }

    /// The descriptor of `--status-fd`.
    ///
    /// # Errors
    /// [`Code::Usage`] when it is not open.
    pub fn status_file(&self) -> Result<Option<File>, Failure> {
        let Some(number) = self.status_fd else { return Ok(None) };
        let copy = descriptor::duplicate(number).map_err(|e| {
            Failure::new(Code::Usage, format!("--status-fd {number}: {}", system(&e)))
        })?;
        Ok(Some(File::from(copy)))
    }

    /// Writes one line of NDJSON wherever it is asked for.
    ///
    /// # Errors
    /// [`Code::Local`] when it cannot be written.
    pub fn publish(&self, line: &str) -> Result<(), Failure> {
        if let Some(mut file) = self.status_file()? {
            file.write_all(line.as_bytes())
                .map_err(|e| Failure::new(Code::Local, format!("--status-fd: {}", system(&e))))?;
        }
        if self.json { print(line.as_bytes()) } else { Ok(()) }
    }

    /// Does what comes before a program's own reports, and publishes its failure.
    ///
    /// # Errors
    /// That failure, or the one to publish it; before anything is done, [`Code::Usage`] when
    /// there is no such descriptor.
    pub fn prepare<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.status_file()?;
        let done = work();
        if let Err(failure) = &done {
            self.publish(&json::line(&Event::error(failure)))?;
        }
        done
    }
}

/// Whether messages are for a person's eyes.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

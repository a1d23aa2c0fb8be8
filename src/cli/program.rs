//! The frame of every program: options in, one call, exit code out.

use std::process::ExitCode;

use clap::Parser;

use super::failure::{Code, Failure, exit_with};
use super::output::{note, print};
use super::sanitize::sanitize_line;
use super::typo;
use crate::crypto::noise::SEALS;

/// What `--version` says behind the name.
pub const VERSION: &str = match SEALS {
    true => env!("CARGO_PKG_VERSION"),
    false => concat!(env!("CARGO_PKG_VERSION"), " UNSEALED, protects nothing, only for measuring"),
};

/// Reads the options of `program`, runs it, and reports its failure.
pub fn main<O: Parser>(
    program: &str,
    run: impl FnOnce(&O) -> Result<ExitCode, Failure>,
) -> ExitCode {
    if !SEALS {
        note(&format!(
            "{program}: warning: UNSEALED: built for measuring only, NOTHING IS ENCRYPTED"
        ));
    }
    let ended = match O::try_parse() {
        Ok(options) => run(&options),
        Err(e) if e.use_stderr() => Err(usage(program, &e)),
        // --help and --version are a result that was asked for.
        Err(e) => print(e.render().to_string().as_bytes()).map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|failure| exit_with(program, &failure))
}

/// What clap says in several paragraphs, as one line and a hint. The options that it quotes are
/// harmless to a terminal then.
fn usage(program: &str, error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let message = one_line(first.strip_prefix("error: ").unwrap_or(first));
    Failure::new(Code::Usage, message).hint(match typo::meant(error) {
        Some(option) => format!("a similar argument exists: '{}'", one_line(option)),
        None => format!("{program} --help shows the options"),
    })
}

/// The dots that stand for "one or more" would be taken for the end of a sentence.
fn one_line(text: &str) -> String {
    let text = text.replace("...", "");
    sanitize_line(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

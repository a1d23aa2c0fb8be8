//! ac-send: seals what comes on stdin and delivers it. ac-send(1).

use std::process::ExitCode;

use anonchat::cli::failure::exit_with;
use anonchat::cli::send::{Options, run};
use clap::Parser as _;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(failure) => exit_with("ac-send", &failure),
    }
}

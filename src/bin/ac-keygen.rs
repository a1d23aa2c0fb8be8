//! ac-keygen: makes, shows, checks and files key files. ac-keygen(1).

use std::process::ExitCode;

use anonchat::cli::failure::exit_with;
use anonchat::cli::keygen::{Options, run};
use clap::Parser as _;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(failure) => exit_with("ac-keygen", &failure),
    }
}

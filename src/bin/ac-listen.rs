//! ac-listen: hears sealed messages and prints them. ac-listen(1).

use std::process::ExitCode;

use anonchat::cli::failure::exit_with;
use anonchat::cli::listen::{Options, run};
use clap::Parser as _;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(failure) => exit_with("ac-listen", &failure),
    }
}

//! ac-discover: who of my contacts is on this network. ac-discover(1).

use std::process::ExitCode;

use anonchat::cli::discover::run;
use anonchat::cli::program;

fn main() -> ExitCode {
    program::main("ac-discover", run)
}

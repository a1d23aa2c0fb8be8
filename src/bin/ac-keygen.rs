//! ac-keygen: makes, shows, checks and files key files. ac-keygen(1).

use std::process::ExitCode;

use anonchat::cli::keygen::run;
use anonchat::cli::program;

fn main() -> ExitCode {
    program::main("ac-keygen", run)
}

//! ac-listen: hears sealed messages and prints them. ac-listen(1).

use std::process::ExitCode;

use anonchat::cli::listen::run;
use anonchat::cli::program;

fn main() -> ExitCode {
    program::main("ac-listen", run)
}

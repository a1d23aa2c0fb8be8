//! ac-send: seals what comes on stdin and delivers it. ac-send(1).

use std::process::ExitCode;

use anonchat::cli::program;
use anonchat::cli::send::run;

fn main() -> ExitCode {
    program::main("ac-send", run)
}

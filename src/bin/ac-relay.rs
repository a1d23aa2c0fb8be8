//! ac-relay: sealed cells between mailboxes. ac-relay(1).

use std::process::ExitCode;

use anonchat::cli::program;
use anonchat::cli::relay::run;

fn main() -> ExitCode {
    program::main("ac-relay", run)
}

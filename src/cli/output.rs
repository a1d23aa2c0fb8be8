//! The one result that was asked for, on stdout.

use std::io::{self, Write as _};

use super::failure::{Code, Failure, system};
use crate::inherited::stdout_was_closed;

/// Writes `text` to stdout and flushes it.
///
/// # Errors
/// [`Code::Local`] on a closed pipe or a full disk: a result that nobody got is no success.
pub fn print(text: &[u8]) -> Result<(), Failure> {
    check_stdout()?;
    let mut out = io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.flush())
        .map_err(|e| Failure::new(Code::Local, format!("cannot write the output: {}", system(&e))))
}

/// stdout is somewhere.
///
/// # Errors
/// [`Code::Local`] when it was closed before the program started.
pub fn check_stdout() -> Result<(), Failure> {
    if stdout_was_closed() {
        return Err(Failure::new(Code::Local, "cannot write the output: stdout is closed"));
    }
    Ok(())
}

/// Writes one line to stderr: what happened, beside the result.
pub fn note(line: &str) {
    // Nowhere is left to say that stderr is gone.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

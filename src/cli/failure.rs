//! How a program fails, decided in one place.
//!
//! An error is one lower-case line without a full stop, `ac-send: bob: no answer from
//! 10.0.0.5:1234 after 10 s`, then, where it helps, one `hint:` line that says what to do. It is
//! reported once, by [`exit_with`]; everything below returns it. The table of codes stands in
//! ac(7) and in every `--help`.

use std::fmt;
use std::process::ExitCode;

use crate::keys::{KeyError, KeyErrorKind};
use crate::net::descriptors;

/// Exit codes other than 0 and those of signals. `ac(7)`, EXIT STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Cannot read the input, write the output, or bind.
    Local = 1,
    /// Wrong usage.
    Usage = 2,
    /// A key file is missing, malformed, too open, or its passphrase is wrong.
    Key = 3,
    /// Nobody could be reached.
    Unreachable = 4,
    /// Whoever answers showed nothing that only the key's holder could.
    NoProof = 5,
    /// The session ended before everything was acknowledged.
    CutOff = 6,
    /// The relay holds it, the recipient has not acknowledged it.
    Queued = 7,
    /// Declined by the recipient.
    Declined = 8,
}

impl Code {
    /// Of what several destinations came to, the code to exit with: the first of these that
    /// occurred.
    const WORST_FIRST: [Self; 8] = [
        Self::Local,
        Self::Usage,
        Self::Key,
        Self::CutOff,
        Self::NoProof,
        Self::Unreachable,
        Self::Declined,
        Self::Queued,
    ];

    /// The code that stands for all of `occurred`. ac(7), EXIT STATUS.
    pub fn worst(occurred: &[Self]) -> Option<Self> {
        Self::WORST_FIRST.into_iter().find(|code| occurred.contains(code))
    }
}

/// One failure: what the user reads, and what the shell reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// One line, lower case, no full stop, without the program's name.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts `subject: ` in front of the message: a petname, a path.
    #[must_use]
    pub fn about(mut self, subject: impl fmt::Display) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Prints a failure as `program: message` and its hint, and gives the exit code.
pub fn exit_with(program: &str, failure: &Failure) -> ExitCode {
    print(program, failure);
    ExitCode::from(failure.code as u8)
}

/// Prints one failure of several as `program: message` and its hint.
pub fn print(program: &str, failure: &Failure) {
    use std::io::Write;
    let mut text = format!("{program}: {}\n", failure.message);
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // Nowhere is left to say that stderr is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The hint for a link-local address without its interface.
pub const NO_ZONE: &str = "say on which interface, for example [fe80::1%eth0]:1234";

/// The table of exit codes that ends every `--help`.
pub const EXIT_STATUS_HELP: &str = "\
Exit status:
  0    delivered, or the result was printed
  1    a local failure: cannot read the input, write the output, or bind
  2    wrong usage
  3    a key file is missing, malformed, too open, or its passphrase is wrong
  4    unreachable: refused, no route, name not found, nobody there or heard within -w
  5    no proof: whoever answers showed nothing that only the key's holder could
  6    cut off: the session ended before everything was acknowledged
  7    queued: the relay holds it, the recipient has not acknowledged it
  8    declined by the recipient
  129, 130, 143   died of SIGHUP, SIGINT, SIGTERM";

impl From<KeyError> for Failure {
    /// Exit code 3, or 1 when a key file cannot be written, or the system is short of something.
    fn from(error: KeyError) -> Self {
        let code = match error.kind {
            KeyErrorKind::Exists | KeyErrorKind::CannotWrite(_) | KeyErrorKind::NoResources(_) => {
                Code::Local
            }
            _ => Code::Key,
        };
        Self { code, message: error.to_string(), hint: error.hint() }
    }
}

/// What the system says, which is the whole of it.
pub fn local(e: &std::io::Error) -> Failure {
    let failure = Failure::new(Code::Local, system(e));
    match e.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) {
        true => failure.hint(MORE_DESCRIPTORS),
        false => failure,
    }
}

/// What to do when descriptors run out.
const MORE_DESCRIPTORS: &str = "allow more descriptors: ulimit -n 1024";

/// The descriptors are too few to do `what`.
pub fn too_few_descriptors(what: &str) -> Failure {
    let why = format!("the descriptors are too few to {what}");
    Failure::new(Code::Local, why).hint(MORE_DESCRIPTORS)
}

/// What every program opens at once: a poll with its bell, a socket, key files and where they are.
const DESCRIPTORS: usize = 8;

/// Refuses to `begin` with fewer descriptors than any program needs: later nobody could tell what
/// went wrong.
///
/// # Errors
/// [`Code::Local`].
pub fn check_descriptors(begin: &str) -> Result<(), Failure> {
    match descriptors::spare() < DESCRIPTORS {
        true => Err(too_few_descriptors(begin)),
        false => Ok(()),
    }
}

/// What the system says, as one of our messages does: lower case, without its number.
pub fn system(e: &std::io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    // Acronyms keep their capitals.
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            let rest = &text[first.len_utf8()..];
            format!("{}{rest}", first.to_lowercase())
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn the_worst_of_several_codes_is_the_first_in_the_table() {
        use Code::{CutOff, Declined, Key, Local, NoProof, Queued, Unreachable};
        let order = [Local, Key, CutOff, NoProof, Unreachable, Declined, Queued];
        assert_eq!(order.map(|code| code as u8), [1, 3, 6, 5, 4, 8, 7]);
        for (i, worse) in order.iter().enumerate() {
            for better in &order[i..] {
                assert_eq!(Code::worst(&[*better, *worse, *better]), Some(*worse));
            }
        }
        assert_eq!(Code::worst(&[]), None);
    }
}

//! `--state`: opening the file, and what is said when it is none.

use std::path::Path;

use crate::cli::failure::{Code, Failure, system};
use crate::cli::sanitize::sanitize_line;
use crate::net::listen::Answering;
use crate::net::private_file::NotPrivate;
use crate::net::state_file::{StateError, StateFile};

/// Opens the state at `path`, if one is asked for, for a listener that answers for `keys`.
///
/// # Errors
/// [`Code::Local`].
pub fn open(path: Option<&Path>, keys: &[Answering]) -> Result<Option<StateFile>, Failure> {
    let Some(path) = path else { return Ok(None) };
    StateFile::open(path, keys).map(Some).map_err(|why| {
        let (what, hint) = told(&why);
        let failure = Failure::new(Code::Local, what);
        let failure = if hint.is_empty() { failure } else { failure.hint(hint) };
        failure.about(sanitize_line(&path.to_string_lossy()))
    })
}

/// What is wrong, and what to do about it.
fn told(why: &StateError) -> (String, &'static str) {
    let (what, hint) = match why {
        StateError::System(e) => return (system(e), ""),
        StateError::NotPrivate(NotPrivate::System(e)) => return (system(&(*e).into()), ""),
        StateError::NotPrivate(why @ NotPrivate::TooOpen(_)) => {
            return (why.to_string(), "make it 0600");
        }
        StateError::NotPrivate(why) => return (why.to_string(), ""),
        StateError::InUse => ("another listener has it", "each needs a state of its own"),
        StateError::TooLarge => ("too long for a state", ""),
        StateError::NotState => ("is no state of ac-listen", "name a file that is not there yet"),
        StateError::Foreign => (
            "the state of a listener with another key",
            "name another file, or say with -k whose key it is",
        ),
        StateError::Damaged(at) => {
            let what = format!("damaged at byte {at}");
            return (what, "removed, it is begun anew; what came before may then come again");
        }
    };
    (what.to_owned(), hint)
}

//! `--history`: recording beside what the programs do, and what they say when they cannot.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::common::CommonOptions;
use super::failure::{Code, Failure, system};
use super::sanitize::sanitize_line;
use crate::crypto::sodium::PublicKey;
use crate::history::record::{CannotRecord, Recorder};
use crate::keys::Keyring;
use crate::net::hub::{Bell, Hub};
use crate::net::state_file::CannotRemember;

/// After a signal the last entries may take this long to be written.
pub const SIGNAL_PATIENCE: Duration = Duration::from_millis(500);

/// Who will be able to read a history, if one is asked for. This opens no secret.
///
/// # Errors
/// What is wrong with the identity's file.
pub fn owner(keyring: &Keyring, path: Option<&Path>) -> Result<Option<PublicKey>, Failure> {
    let Some(_) = path else { return Ok(None) };
    Ok(Some(keyring.identity_contact()?.public))
}

/// Opens the history at `path`, if one is asked for; `owner` will be able to read it.
///
/// # Errors
/// [`Code::Local`].
pub fn open(
    path: Option<&Path>,
    owner: Option<PublicKey>,
    bell: Bell,
) -> Result<Option<Recorder>, Failure> {
    let (Some(path), Some(owner)) = (path, owner) else { return Ok(None) };
    let recorder = Recorder::open(path, owner, bell);
    recorder.map(Some).map_err(|e| cannot("write the history", &e))
}

/// The same, where what is said and what is heard go to one history.
///
/// # Errors
/// [`Code::Local`], which is published as `options` say.
pub fn open_shared(
    options: &CommonOptions,
    path: Option<&Path>,
    owner: Option<PublicKey>,
    hub: &Hub,
) -> Result<Option<Rc<RefCell<Recorder>>>, Failure> {
    let recorder = options.prepare(|| open(path, owner, hub.bell()))?;
    Ok(recorder.map(|recorder| Rc::new(RefCell::new(recorder))))
}

/// That `what` could not be done, or the history or the state not be written, if that is why.
pub fn cannot(what: &str, e: &io::Error) -> Failure {
    let inner = e.get_ref();
    let unrecorded = inner.and_then(|inner| inner.downcast_ref::<CannotRecord>());
    let unremembered = inner.and_then(|inner| inner.downcast_ref::<CannotRemember>());
    let (file, path, error) = match (unrecorded, unremembered) {
        (Some(CannotRecord { path, error }), _) => ("history", path, error),
        (_, Some(CannotRemember { path, error })) => ("state", path, error),
        _ => return Failure::new(Code::Local, format!("cannot {what}: {}", system(e))),
    };
    let path = sanitize_line(&path.to_string_lossy());
    Failure::new(Code::Local, format!("cannot write the {file} {path}: {}", system(error)))
}

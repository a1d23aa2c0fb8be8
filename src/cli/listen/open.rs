//! `ac-listen --open`: the messages of a file, as if they had just arrived.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use crate::cli::ended::{Ended, cannot_write};
use crate::cli::failure::{Code, Failure, system};
use crate::cli::sanitize::sanitize_line;
use crate::net::box_file::{self, OpenError, Opened};
use crate::net::hub::Hub;
use crate::net::input::Input;
use crate::net::listen::{Answering, Host, Stage};
use crate::proto::datagram::boxfile::BoxError;

/// The file at `path`; `-` is stdin. A pipe is waited for until somebody writes it: to be called
/// while signals still end the program.
pub(super) fn file(path: &Path) -> io::Result<File> {
    if path == Path::new("-") {
        return io::stdin().as_fd().try_clone_to_owned().map(File::from);
    }
    File::open(path)
}

/// Opens the boxes in `file`, which is at `path`.
pub(super) fn open(
    path: &Path,
    file: io::Result<File>,
    hub: &mut Hub,
    keys: &[Answering],
    host: &mut dyn Host,
    stage: &mut dyn Stage,
) -> Result<(), Ended> {
    let shown = sanitize_line(&path.to_string_lossy());
    let named = |e: &io::Error| Failure::new(Code::Local, format!("{shown}: {}", system(e)));
    let input = file.and_then(|file| Input::new(file, &hub.bell())).map_err(|e| named(&e))?;
    let opened = box_file::open(hub, keys, input, host, stage);
    let failure = match opened {
        Ok(Opened { turned_away: 0, .. }) => return Ok(()),
        Ok(_) => {
            Failure::new(Code::NoProof, format!("{shown}: not all of it is from your contacts"))
        }
        Err(OpenError::Input(e)) => named(&e),
        Err(OpenError::Output(e)) => cannot_write(e),
        Err(OpenError::Signal(signal)) => return Err(Ended::Signal(signal)),
        Err(OpenError::Box(why)) => box_failure(why).about(shown),
    };
    Err(failure.into())
}

fn box_failure(why: BoxError) -> Failure {
    let code = if why == BoxError::Truncated { Code::CutOff } else { Code::NoProof };
    let failure = Failure::new(code, why.to_string());
    match why {
        BoxError::NotForUs => failure.hint("if it is sealed for a group, name it: -k NAME"),
        _ => failure,
    }
}

//! How a program that goes on until something ends it has ended, and what its exit code is then.

use std::cell::RefCell;
use std::io;
use std::process::ExitCode;

use super::failure::{self, Failure};
use super::history;
use super::json::Event;
use super::outputs::Outputs;
use super::send::why::dial_failure;
use crate::history::entry::State;
use crate::history::record::Recorder;
use crate::net::hub::Hub;
use crate::net::listen::ListenError;
use crate::net::signals::die_of;

/// How it ended, if not well.
pub enum Ended {
    /// With a failure.
    Failure(Failure),
    /// By a signal.
    Signal(i32),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<ListenError> for Ended {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::Output(e) => Self::Failure(cannot_write(e)),
            ListenError::Local(e) => Self::Failure(failure::local(&e)),
            ListenError::Unreached(relay, why) => {
                Self::Failure(dial_failure(&why).about(format!("relay {relay}")))
            }
            ListenError::Signal(signal) => Self::Signal(signal),
        }
    }
}

/// stdout could not be written, or a copy in the history.
pub fn cannot_write(e: io::Error) -> Failure {
    history::cannot("write the output", &e)
}

/// Everything is in the history, if there is one, and written, or a failure says what is not.
///
/// # Errors
/// How it ended, or that the history or the output could not be written.
pub fn keep_and_conclude(
    ended: Result<(), Ended>,
    recorder: Option<&RefCell<Recorder>>,
    outputs: &Outputs,
    hub: &Hub,
) -> Result<ExitCode, Failure> {
    let kept = recorder.map_or(Ok(()), |recorder| keep(&mut recorder.borrow_mut(), &ended, hub));
    conclude(ended.and(kept.map_err(Ended::from)), outputs, hub)
}

/// Everything is in the history, and a message that was not over is cut off there, too.
fn keep(recorder: &mut Recorder, ended: &Result<(), Ended>, hub: &Hub) -> Result<(), Failure> {
    let stopped = matches!(ended, Err(Ended::Signal(_)));
    let until = hub.clock.now().mono + history::SIGNAL_PATIENCE;
    let give_up = || match stopped {
        true => hub.clock.now().mono >= until,
        false => hub.signals.arrived().is_some(),
    };
    recorder.end(State::Cut);
    recorder.finish(give_up).map_err(|e| history::cannot("write the history", &e))
}

/// Everything is written, or a failure says what is not.
///
/// # Errors
/// How it ended, or that the output could not be written.
pub fn conclude(
    ended: Result<(), Ended>,
    outputs: &Outputs,
    hub: &Hub,
) -> Result<ExitCode, Failure> {
    let failure = match ended {
        Ok(()) => None,
        Err(Ended::Signal(signal)) => {
            outputs.finish_stderr(hub);
            die_of(signal);
            return Ok(ExitCode::from(128 + signal as u8));
        }
        Err(Ended::Failure(failure)) => {
            outputs.told().report(&Event::error(&failure));
            Some(failure)
        }
    };
    outputs.finish(hub).map_err(cannot_write)?;
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

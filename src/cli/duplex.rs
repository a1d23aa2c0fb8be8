//! `-b` of both programs: the form that a stream takes on stdout, and what came of both halves.

use std::net::SocketAddr;

use super::common::stdout_is_terminal;
use super::failure::{Code, Failure};
use super::sanitize::Sanitizer;
use super::send::why;
use super::units;
use crate::net::duplex::{Duplex, Filter, Hearing, Said};
use crate::net::listen::Parting;
use crate::net::send::{Cut, SendError};
use crate::proto::stream::record::RefuseCode;

/// Raw bytes of a peer are not for a terminal.
pub fn filter() -> Option<Filter> {
    let mut sanitizer = Sanitizer::new();
    let filter = move |bytes: &[u8], out: &mut Vec<u8>| {
        let mut text = String::with_capacity(bytes.len());
        sanitizer.push(bytes, &mut text);
        out.extend_from_slice(text.as_bytes());
    };
    stdout_is_terminal().then(|| Box::new(filter) as Filter)
}

/// Refuses what stdout cannot be beside the stream.
///
/// # Errors
/// [`Code::Usage`] for `--json`.
pub fn check(json: bool) -> Result<(), Failure> {
    match json {
        true => Err(Failure::new(Code::Usage, "--json: stdout is for the stream")
            .hint("report on another descriptor: --status-fd N")),
        false => Ok(()),
    }
}

/// How a session was cut that ended before both halves were over.
pub fn cut(parting: &Parting) -> Option<Cut> {
    match parting {
        Parting::Cut(cut) => Some(*cut),
        Parting::InOrder | Parting::Left => Some(Cut::Closed),
        Parting::Unread(_) => None,
    }
}

/// Bytes that were delivered, if both halves ended whole.
///
/// # Errors
/// What failed first: our input, the peer that takes no more, the connection.
pub fn outcome(
    duplex: &Duplex,
    cut: Option<Cut>,
    address: Option<SocketAddr>,
) -> Result<u64, Failure> {
    match duplex.outcome() {
        (Said::Unread(e), _) => Err(why::failure(&SendError::Input(e))),
        // Who could not go on has taken leave.
        (Said::Refused(code, _), Hearing::Cut) if code == RefuseCode::Enough as u8 => {
            Err(cut_off(cut.filter(|cut| *cut != Cut::Closed), address))
        }
        (Said::Refused(code, text), _) => Err(why::failure(&SendError::Declined(code, text))),
        (Said::Delivered(total), Hearing::Whole) => Ok(total),
        (Said::Delivered(_) | Said::Coming, _) => Err(cut_off(cut, address)),
    }
}

/// Who listens shows no addresses.
fn cut_off(cut: Option<Cut>, address: Option<SocketAddr>) -> Failure {
    let what = match (cut, address) {
        (Some(cut), Some(address)) => return why::failure(&SendError::CutOff(address, cut)),
        (Some(Cut::Silence(time)), None) => format!("silent for {}", units::seconds(time)),
        (Some(Cut::Undelivered(time)), None) => {
            format!("nothing delivered for {}", units::seconds(time))
        }
        (Some(Cut::Closed), None) => "the connection was closed".into(),
        (Some(Cut::TooSlow(_)), None) => "too slow".into(),
        (Some(Cut::Stopped), None) => "the sender was stopped".into(),
        (Some(Cut::Broken(violation)), None) => violation.to_string(),
        (None, _) => "the other end could not go on with what it said".into(),
    };
    Failure::new(Code::CutOff, format!("cut off: {what}"))
}

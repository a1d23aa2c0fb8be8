//! Why nothing was delivered, for a person and for the shell.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::failure::{self, Code, Failure, NO_ZONE, system};
use crate::cli::history;
use crate::cli::sanitize::sanitize_line;
use crate::cli::units;
use crate::net::dial::{DialError, NoProof};
use crate::net::lan::links::lacks_zone;
use crate::net::resolve::HostPort;
use crate::net::send::{Cut, Held, SendError};
use crate::proto::stream::record::RefuseCode;

/// What a person reads, and what the shell reads.
pub(in crate::cli) fn failure(error: &SendError) -> Failure {
    match error {
        SendError::Dial(e) => dial_failure(e),
        SendError::CutOff(address, cut) => Failure::new(
            Code::CutOff,
            match cut {
                Cut::Silence(time) => {
                    format!("cut off: {address} was silent for {}", units::seconds(*time))
                }
                Cut::Undelivered(time) => return undelivered(*address, *time),
                Cut::Closed => format!("cut off: {address} closed the connection"),
                Cut::Stopped => "cut off: the recipient was stopped".into(),
                Cut::Broken(violation) => format!("cut off: {address}: {violation}"),
                Cut::TooSlow(behind) => return too_slow(*address, *behind),
            },
        ),
        SendError::Declined(code, text) => declined(*code, text),
        SendError::Queued(held) => queued(held),
        SendError::Input(e) => history::cannot("read the input", e),
        SendError::Output(e) => {
            Failure::new(Code::Local, format!("cannot write the sealed file: {}", system(e)))
        }
        SendError::Local(e) => failure::local(e),
        SendError::Signal(n) => Failure::new(Code::Local, format!("stopped by signal {n}")),
    }
}

/// A relay holds it.
pub(in crate::cli) fn queued(held: &Held) -> Failure {
    let Held { relay, ttl } = held;
    let until = match ttl.is_zero() {
        true => String::new(),
        false => format!(" within {}", units::span(*ttl)),
    };
    Failure::new(Code::Queued, format!("queued at relay {relay}: not acknowledged yet"))
        .hint(format!("they get it when they listen there{until}; with --queue this is a success"))
}

/// Messages by UDP have a limit of age.
fn undelivered(address: SocketAddr, time: Duration) -> Failure {
    let time = units::seconds(time);
    let why = format!("cut off: {address} has not delivered a message within {time}");
    Failure::new(Code::CutOff, why).hint("without -u a reader may pause for longer")
}

fn too_slow(address: SocketAddr, behind: u64) -> Failure {
    let mib = behind / (1024 * 1024);
    let why = format!("cut off: {address} is too slow, {mib} MiB behind, and held the others up");
    Failure::new(Code::CutOff, why).hint("send to it by itself")
}

/// Why nobody was reached.
pub(in crate::cli) fn dial_failure(error: &DialError) -> Failure {
    match error {
        // It was not looked for.
        DialError::NotFound(e) if e.kind() == io::ErrorKind::Unsupported => {
            Failure::new(Code::Unreachable, system(e))
        }
        DialError::NotFound(e) => {
            Failure::new(Code::Unreachable, format!("the host was not found: {}", system(e)))
        }
        DialError::Refused(address, e) => {
            let shown = HostPort::from(*address);
            let failure = Failure::new(Code::Unreachable, format!("{shown}: {}", system(e)));
            match e.kind() {
                io::ErrorKind::ConnectionRefused => failure.hint("nobody listens on that port"),
                io::ErrorKind::InvalidInput if lacks_zone(address) => failure.hint(NO_ZONE),
                _ => failure,
            }
        }
        DialError::NoAnswer(address, time) => Failure::new(
            Code::Unreachable,
            format!("no answer from {} after {}", HostPort::from(*address), units::seconds(*time)),
        ),
        DialError::NoProof(address, what) => no_proof(&HostPort::from(*address).to_string(), *what),
        DialError::Relay(name, why) => {
            let failure = dial_failure(why).about(format!("relay {name}"));
            match failure.code {
                Code::NoProof => failure.hint(match &**why {
                    DialError::NoProof(_, NoProof::NotLetIn(_)) => TOO_BUSY,
                    _ => {
                        "it is too busy, or its key file is not the one that it prints when it \
                         starts, or the clocks are over 5 minutes apart, or no relay listens there"
                    }
                }),
                _ => failure,
            }
        }
        DialError::Nobody(name) => {
            Failure::new(Code::Unreachable, format!("nobody is there, at relay {name}")).hint(
                "they have to listen there: ac-listen --via RELAY; and hear you; and your \
                     clocks must not be over 5 minutes apart",
            )
        }
        DialError::RelayFull(name) => {
            Failure::new(Code::Unreachable, format!("relay {name} has no room for more"))
        }
        DialError::MailboxFull(name) => {
            let why = format!("relay {name} holds as much for them as it may");
            Failure::new(Code::Unreachable, why)
                .hint("it has room again when they have listened there, or it has forgotten some")
        }
        DialError::Local(e) => failure::local(e),
    }
}

/// What is wrong with somebody who holds the key that was called and lets nobody in.
const TOO_BUSY: &str = "it is too busy: try again later";

/// Code 5, whose hint names the five causes, the likeliest first.
fn no_proof(address: &str, what: NoProof) -> Failure {
    let message = match what {
        NoProof::Silence(time) => {
            format!("{address} gave no proof of the key within {}", units::seconds(time))
        }
        NoProof::Closed => format!("{address} closed the connection without proof of the key"),
        NoProof::WrongAnswer => format!("{address} answered without proof of the key"),
        NoProof::NotLetIn(time) => {
            format!(
                "{address} holds the key, and did not let you in within {}",
                units::seconds(time)
            )
        }
    };
    Failure::new(Code::NoProof, message).hint(match what {
        // Whoever is too busy accepts, and closes or says nothing; and so does whoever is not theirs.
        NoProof::Silence(_) | NoProof::Closed => {
            "they are too busy, or it is the wrong key, or you are not among their contacts, or the \
             clocks are over 5 minutes apart, or nobody listens there"
        }
        NoProof::WrongAnswer => {
            "it is the wrong key, or you are not among their contacts, or the clocks are over \
             5 minutes apart, or nobody listens there, or they are too busy"
        }
        NoProof::NotLetIn(_) => {
            "you are not among their contacts, or they are too busy, or it is the wrong key, or the \
             clocks are over 5 minutes apart, or nobody listens there"
        }
    })
}

/// Why one file of several was declined. A recipient that takes none gives no reason.
pub(in crate::cli) fn declined_file(code: u8, text: &str) -> Failure {
    if code == RefuseCode::NotWanted as u8 && text.is_empty() {
        return Failure::new(Code::Declined, "declined: the recipient takes no files")
            .hint("they say where files go with ac-listen -d DIR");
    }
    declined(code, text)
}

/// Why a recipient did not take something, safe to show.
pub(in crate::cli) fn declined(code: u8, text: &str) -> Failure {
    let why = [
        (RefuseCode::CannotWrite, "the recipient cannot write its output"),
        (RefuseCode::TooLarge, "it is larger than the recipient takes"),
        (RefuseCode::NoRoom, "the recipient has no room"),
        (RefuseCode::NotWanted, "the recipient does not take this kind of message"),
        (RefuseCode::Enough, "the recipient has heard as many messages as it wanted"),
        (RefuseCode::TooSlow, "the recipient did not wait: others did"),
        (RefuseCode::CommandFailed, "the recipient's command failed"),
        (RefuseCode::NeedsNoMore, "the recipient needs no more of it"),
    ];
    let known = why.iter().find(|(known, _)| *known as u8 == code).map(|(_, why)| *why);
    let mut message = match known {
        Some(why) => format!("declined: {why}"),
        // Datagrams do not say why.
        None if code == 0 => "declined by the recipient".into(),
        None => format!("declined, with code {code}"),
    };
    if !text.is_empty() {
        message.push_str(&format!(" ({})", sanitize_line(text)));
    }
    Failure::new(Code::Declined, message)
}

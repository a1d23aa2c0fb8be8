//! `--public`: people who choose to be seen. Nothing of what they say is proven.

use std::time::Duration;

use super::show::aligned;
use super::{Ended, Options, WITHIN, local, say};
use crate::cli::failure::{Code, Failure};
use crate::cli::json::{self, Event};
use crate::cli::output::print;
use crate::cli::sanitize::sanitize_line;
use crate::cli::units;
use crate::discover::public::{MAX_NAME, MOST, PublicList, Seen};
use crate::keys::names::excerpt;
use crate::net::hub::Hub;
use crate::net::sockets::Transport;

/// How soon a signal is noticed.
const TURN: Duration = Duration::from_millis(50);

/// Reads the name of `--as`.
///
/// # Errors
/// What a user should read about it.
pub fn public_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("a name cannot be empty".into()),
        _ if text.len() > MAX_NAME => Err(format!("a name has at most {MAX_NAME} bytes")),
        _ if sanitize_line(text) != text => {
            Err("a name cannot contain control or invisible characters".into())
        }
        _ => Ok(text.to_owned()),
    }
}

/// Lists whoever is seen until the time is over.
pub fn run(options: &Options) -> Result<(), Ended> {
    let hub = Hub::new().map_err(local)?;
    let list = PublicList::new(&options.place.interface).map_err(local)?;
    let within = options.within.unwrap_or(WITHIN);
    let until = hub.clock.now().mono + within;
    let mut all: Vec<Seen> = Vec::new();
    say(options, "these names are what people say: nothing is proven");
    while hub.clock.now().mono < until && all.len() < MOST {
        if let Some(signal) = hub.signals.arrived() {
            return Err(Ended::Signal(signal));
        }
        let left = until.saturating_sub(hub.clock.now().mono);
        let Some(seen) = list.next(TURN.min(left)) else { continue };
        let wanted = !options.udp || seen.transport == Transport::Udp;
        if wanted && !all.contains(&seen) {
            tell(options, &seen)?;
            all.push(seen);
        }
    }
    match all.is_empty() {
        true => Err(nobody(within).into()),
        false => Ok(()),
    }
}

fn tell(options: &Options, seen: &Seen) -> Result<(), Failure> {
    let name = sanitize_line(&excerpt(&seen.name));
    let (address, transport) = (seen.address.to_string(), seen.transport.name());
    let event = Event::PublicPresence { name: &name, address: &address, transport };
    options.common.publish(&json::line(&event))?;
    if options.common.json {
        return Ok(());
    }
    // No blanks: whoever splits lines into words is not deceived.
    let name = format!("{}?", name.replace(char::is_whitespace, "_"));
    let columns = [name, address, "public".into(), transport.into()].to_vec();
    let line = match std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        true => aligned(&[columns]).concat(),
        false => columns.join("\t"),
    };
    print(format!("{line}\n").as_bytes())
}

fn nobody(within: Duration) -> Failure {
    let time = units::seconds(within);
    Failure::new(Code::Unreachable, format!("nobody chose to be seen within {time}"))
        .hint("contacts are found without --public, by their keys")
}

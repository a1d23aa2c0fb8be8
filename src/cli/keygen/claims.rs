//! What a key file claims beside its key: its owner's name, and where it has packets sent.
//!
//! Neither a fingerprint nor a safety number covers it, so it is shown whenever one of them is.

use super::super::json::{HintedRelay, Hints as Reported};
use super::super::output::note;
use super::PROGRAM;
use crate::keys::{Contact, Hints, Keyring, RelayHint, fingerprint, party_number};

/// Says on stderr what the key file of `whose` claims.
pub fn say(whose: &str, hints: &Hints, keyring: &Keyring) {
    let lines = lines(hints, keyring);
    if lines.is_empty() {
        return note(&format!("{PROGRAM}: {whose}: the file claims no name, address or relay"));
    }
    note(&format!("{PROGRAM}: {whose}: the file claims this, and nothing proves it:"));
    lines.iter().for_each(|line| note(&format!("  {line}")));
}

/// One line for each claim, `what: value`.
fn lines(hints: &Hints, keyring: &Keyring) -> Vec<String> {
    let mut lines: Vec<_> = hints.name.iter().map(|name| format!("name: {name}")).collect();
    lines.extend(hints.address.iter().map(|address| format!("address: {address}")));
    match &hints.relay {
        None => {}
        Some(RelayHint::Inline(relay)) => lines.extend(relay_lines("relay", relay)),
        // A petname leads to whatever the keyring has under it now.
        Some(RelayHint::Name(name)) => match keyring.relay(name) {
            Ok((_, relay)) => lines.extend(relay_lines(&format!("relay {name}"), &relay)),
            Err(_) => lines.push(format!("relay: {name}, which is not in your keyring")),
        },
    }
    lines
}

/// Where a relay is, and which one; `what` says whose relay it is.
fn relay_lines(what: &str, relay: &Contact) -> Vec<String> {
    let mut lines: Vec<_> =
        relay.hints.address.iter().map(|address| format!("{what} address: {address}")).collect();
    if lines.is_empty() {
        lines.push(format!("{what} address: none"));
    }
    lines.push(format!("{what} fingerprint: {}", fingerprint(&relay.public)));
    lines.push(format!("{what} key and access: {}", party_number(relay)));
    lines
}

/// The same for an object of `--json`.
pub fn reported(hints: &Hints) -> Reported<'_> {
    let relay = hints.relay.as_ref().map(|relay| match relay {
        RelayHint::Name(name) => HintedRelay::Petname { name },
        RelayHint::Inline(relay) => HintedRelay::Inline {
            address: &relay.hints.address,
            fingerprint: fingerprint(&relay.public),
            party: party_number(relay),
        },
    });
    Reported { name: hints.name.as_deref(), address: &hints.address, relay }
}

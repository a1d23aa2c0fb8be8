//! Relays as a user names them: a petname, a key file's path, either with `@HOST:PORT`, or what a
//! contact's key file says. ac(7), RELAYS.

use std::rc::Rc;

use super::config::{self, Config};
use super::destination::{Destination, host_port};
use super::failure::{Code, Failure};
use crate::keys::{BadAddress, Contact, Keyring, RelayHint, is_onion};
use crate::net::via::{Place, Relay, Through, To};

/// The relay that `word` names.
///
/// # Errors
/// [`Code::Key`] for a key file that is missing or bad, [`Code::Usage`] for an address that is none,
/// and for a relay of which nobody says where it is; [`Code::Unreachable`] for one that only a proxy
/// reaches.
pub fn relay(word: &str, keyring: &Keyring) -> Result<Rc<Relay>, Failure> {
    let relay = named(word, keyring)?;
    match relay.targets.iter().all(|at| is_onion(&at.host)) {
        true => Err(Failure::new(
            Code::Unreachable,
            format!("relay {}: {}", relay.name, BadAddress::Onion),
        )),
        false => Ok(relay),
    }
}

/// The relay that `word` names, wherever it is.
fn named(word: &str, keyring: &Keyring) -> Result<Rc<Relay>, Failure> {
    // No address has a slash: a path whose folders contain an @ is a path.
    let (name, address) = match word.rsplit_once('@').filter(|(_, a)| !a.contains('/')) {
        Some((name, address)) => (name, Some(host_port(address)?)),
        None => (word, None),
    };
    let (shown, contact) = keyring.relay(name)?;
    let mut relay = from_contact(shown, &contact);
    relay.targets = address.map_or(relay.targets, |address| vec![address]);
    if relay.targets.is_empty() {
        let why = format!("relay {}: its key file does not say where it is", relay.name);
        let hint = format!("say where: --via {}@HOST:PORT", super::sanitize::sanitize_line(name));
        return Err(Failure::new(Code::Usage, why).hint(hint));
    }
    Ok(Rc::new(relay))
}

/// The relay that a key file names; `None` if it is not in the keyring, or nobody says where it is.
fn hinted(hint: &RelayHint, keyring: &Keyring) -> Option<Rc<Relay>> {
    match hint {
        RelayHint::Name(name) => named(name, keyring).ok(),
        RelayHint::Inline(contact) => {
            let name = contact.hints.address.first().cloned().unwrap_or_default();
            Some(Rc::new(from_contact(name, contact))).filter(|relay| !relay.targets.is_empty())
        }
    }
}

fn from_contact(name: String, contact: &Contact) -> Relay {
    let addresses = contact.hints.address.iter();
    Relay {
        name,
        public: contact.public,
        access: *contact.access.as_bytes(),
        targets: addresses.filter_map(|address| host_port(address).ok()).collect(),
    }
}

/// Has all `destinations` reached by the relays that `words` name; without any, by that of its key
/// file behind its addresses, where only a name was given.
///
/// # Errors
/// As for [`relay`].
pub fn reach(
    words: &[String],
    anonymous: bool,
    keyring: &Keyring,
    destinations: &mut [Destination],
) -> Result<(), Failure> {
    let relays = words.iter().map(|word| relay(word, keyring)).collect::<Result<Vec<_>, _>>()?;
    for destination in destinations {
        let to = mailbox(destination, anonymous);
        if !relays.is_empty() {
            destination.targets = relays.iter().flat_map(|relay| places(relay, to)).collect();
        } else if destination.is_name {
            let hint = destination.contact.hints.relay.as_ref();
            let relay = hint.and_then(|hint| hinted(hint, keyring));
            destination.targets.extend(relay.iter().flat_map(|relay| places(relay, to)));
        }
    }
    Ok(())
}

/// Has those who are named, and of whom nothing else says where they are, reached by the relays that
/// the configuration names.
///
/// # Errors
/// As for [`relay`]; as [`Config::load`].
pub fn by_default(
    anonymous: bool,
    keyring: &Keyring,
    destinations: &mut [Destination],
) -> Result<(), Failure> {
    let lost = |to: &&mut Destination| to.is_name && to.targets.is_empty();
    let mut lost: Vec<_> = destinations.iter_mut().filter(lost).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let words = Config::load(keyring)?.relay;
    let relays = words
        .iter()
        .map(|word| relay(word, keyring).map_err(|failure| failure.about(config::FILE_NAME)));
    let relays = relays.collect::<Result<Vec<_>, _>>()?;
    for destination in &mut lost {
        let to = mailbox(destination, anonymous);
        destination.targets = relays.iter().flat_map(|relay| places(relay, to)).collect();
    }
    Ok(())
}

/// How those are reached who are named while a program runs.
#[derive(Clone, Copy)]
pub struct Ways<'a> {
    /// The relays of `--via`.
    pub via: &'a [String],
    /// They do not learn who calls.
    pub anonymous: bool,
}

impl Ways<'_> {
    /// Adds where `destination` is reached by relays: as [`reach`], and [`by_default`].
    ///
    /// # Errors
    /// As these.
    pub fn lead(&self, keyring: &Keyring, destination: &mut Destination) -> Result<(), Failure> {
        // Who says where it is means that place.
        if !destination.is_name {
            return Ok(());
        }
        let destinations = std::slice::from_mut(destination);
        reach(self.via, self.anonymous, keyring, destinations)?;
        by_default(self.anonymous, keyring, destinations)
    }
}

/// Which mailbox of theirs is written to.
fn mailbox(destination: &Destination, anonymous: bool) -> To {
    match destination {
        Destination { is_group: true, .. } => To::Group,
        _ if anonymous => To::Public,
        _ => To::Contact,
    }
}

fn places(relay: &Rc<Relay>, to: To) -> impl Iterator<Item = Place> {
    let through = Through { relay: Rc::clone(relay), to, instance: None };
    relay.targets.iter().map(move |at| Place { at: at.clone(), via: Some(through.clone()) })
}

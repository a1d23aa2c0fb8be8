//! Where a name is on the local network: `--lan`, or `lan = true` in config.toml behind what the key
//! file says.

use std::time::Duration;

use super::Options;
use crate::cli::config::Config;
use crate::cli::destination::Destination;
use crate::cli::failure::{self, Code, Failure};
use crate::crypto::sodium::KeyPair;
use crate::discover::PORT;
use crate::discover::roster::Entry;
use crate::discover::seek::{Place, find};
use crate::discover::seeker::Sought;
use crate::keys::Keyring;
use crate::net::resolve::HostPort;
use crate::proto::datagram::presence::Carrier;

/// Whoever is here answers within this.
const WITHIN: Duration = Duration::from_secs(2);
/// Who has an address in the key file is waited for no longer than this.
const BESIDE_HINTS: Duration = Duration::from_millis(500);

/// Looks on the local network for those who may be there, as the holder of `me`, and adds what is
/// found to their targets.
///
/// # Errors
/// [`Code::Usage`] for a destination that says where it is though `--lan` asks; what is wrong with
/// the configuration; [`Code::Local`] for what the system says.
pub fn look(
    options: &Options,
    keyring: &Keyring,
    me: &KeyPair,
    destinations: &mut [Destination],
) -> Result<(), Failure> {
    if options.lan
        && let Some(said) = destinations.iter().find(|to| !to.is_name)
    {
        return Err(Failure::new(Code::Usage, "--lan finds the address itself")
            .about(&said.name)
            .hint(format!("say the name alone: ac-send --lan {}", said.name)));
    }
    if !(options.lan || is_default(options, keyring, destinations)?) {
        return Ok(());
    }
    let mut wanted: Vec<_> = destinations.iter_mut().filter(|to| to.is_name).collect();
    if options.lan {
        wanted.iter_mut().for_each(|to| to.targets.clear());
    }
    let hinted = wanted.iter().all(|to| !to.targets.is_empty());
    let within = if hinted { BESIDE_HINTS } else { WITHIN };
    let sought = wanted.iter().map(|to| sought(to)).collect();
    let place = Place { port: PORT, interfaces: Vec::new() };
    let carrier = if options.udp { Carrier::Udp } else { Carrier::Tcp };
    let found = find(me.duplicate(), sought, place, within, carrier)
        .map_err(|e| failure::local(&e).about("the local network"))?;
    for (to, entry) in wanted.iter_mut().zip(&found) {
        to.targets.extend(entry.as_ref().and_then(|entry| target(entry, carrier)).map(Into::into));
    }
    Ok(())
}

/// Whether the configuration wants it, where it makes sense: who is anonymous asks for nobody, and a
/// file needs no address.
fn is_default(
    options: &Options,
    keyring: &Keyring,
    destinations: &[Destination],
) -> Result<bool, Failure> {
    let may = options.output.is_none() && !options.anonymous;
    let any = destinations.iter().any(|to| to.is_name);
    Ok(may && any && Config::load(keyring)?.lan)
}

fn sought(to: &Destination) -> Sought {
    let access = *to.contact.access.as_bytes();
    Sought { public: to.contact.public, access, is_group: false }
}

fn target(entry: &Entry, carrier: Carrier) -> Option<HostPort> {
    let at = entry.endpoints.iter().find(|at| at.carrier == carrier)?;
    Some(HostPort { port: at.port, ..entry.address.into() })
}

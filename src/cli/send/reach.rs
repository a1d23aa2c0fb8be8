//! Where destinations are to be reached: what is said, what their key files say, the local network,
//! a relay; in this order.

use super::{Options, lan};
use crate::cli::destination::Destination;
use crate::cli::failure::{Code, Failure};
use crate::cli::via;
use crate::crypto::sodium::KeyPair;
use crate::keys::Keyring;

/// Adds to the targets of all destinations what there is to be found, as the holder of `me`.
///
/// # Errors
/// [`Code::Usage`] for a destination that says where it is though an option asks; what is wrong with
/// the configuration or a relay's key file; [`Code::Local`] for what the system says.
pub fn look(
    options: &Options,
    keyring: &Keyring,
    me: &KeyPair,
    destinations: &mut [Destination],
) -> Result<(), Failure> {
    if !options.via.is_empty()
        && let Some(said) = destinations.iter().find(|to| !to.is_name)
    {
        return Err(Failure::new(Code::Usage, "with --via the relay finds them")
            .about(&said.name)
            .hint("say the name alone, and where the relay is: --via RELAY@HOST:PORT"));
    }
    if options.via.is_empty() {
        lan::look(options, keyring, me, destinations)?;
    }
    if !options.udp && options.output.is_none() {
        via::reach(&options.via, options.anonymous, keyring, destinations)?;
        if !options.lan {
            via::by_default(options.anonymous, keyring, destinations)?;
        }
    }
    Ok(())
}

/// [`look`], for all or nothing: every one of them has a target, unless a file is written.
///
/// # Errors
/// As [`look`]; [`Code::Unreachable`] for the first that leads nowhere.
pub fn reach(
    options: &Options,
    keyring: &Keyring,
    me: &KeyPair,
    destinations: &mut [Destination],
) -> Result<(), Failure> {
    look(options, keyring, me, destinations)?;
    match destinations.iter().find(|to| to.targets.is_empty() && options.output.is_none()) {
        Some(to) => Err(nowhere(options, &to.name)),
        None => Ok(()),
    }
}

/// Why a destination without a target is not reached.
pub fn nowhere(options: &Options, name: &str) -> Failure {
    if options.lan {
        return Failure::new(Code::Unreachable, format!("{name}: not found on the local network"))
            .hint(
                "they are found if they listen with --announce and have you among their contacts",
            );
    }
    Failure::new(Code::Unreachable, format!("{name}: no address is known"))
        .hint(format!("say where: {name}@HOST:PORT, or --via RELAY; or put it into the key file"))
}

//! What one caller may take of a listener, so that the others get theirs. Pure: time in, decisions
//! out, memory bounded whoever calls.
//!
//! [`Door`] stands before the handshake, where a caller is an address; [`Seats`] behind it, where
//! it is a key. Whoever is over a limit waits, and nobody is told anything.

mod door;
mod lately;
mod places;
mod rate;
mod seats;

use std::time::Duration;

pub use door::Door;
pub use rate::{Bucket, Buckets, MAX_COUNT, Rate};
pub use seats::Seats;

use super::party::{Network, Party};

/// Sessions that are served at once, all together, unless the user or the descriptors say less.
pub const CLIENTS: usize = 1024;
/// The same for one contact.
pub const PER_CONTACT: usize = 256;
/// The same for one address, among those who have shown no contact's key.
pub const PER_ADDRESS: usize = 64;
/// New connections of one address.
pub const CONNECTIONS: Rate = Rate::a_second(100);
/// First messages of all together that are answered. At some 0.3 ms each they leave most of a
/// processor to sessions. What is not answered costs a tenth of that, and is not counted.
pub const HANDSHAKES: Rate = Rate::a_second(1000);
/// A handshake that takes longer no longer counts among those of its address: whoever connects and
/// says nothing keeps nobody else behind the same address out.
pub const SHAKING: Duration = Duration::from_secs(2);
/// A connection keeps its place for so long at least, so that it can say something.
pub const GRACE: Duration = Duration::from_millis(250);
/// A connection that has said what opens a handshake, or was answered, keeps its place
/// for so long at least: whoever is not served by then was unlucky.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// A session that has said nothing, or has waited for a seat, for less than this gives way to nobody.
pub const SETTLING: Duration = Duration::from_secs(2);
/// Callers of whom is remembered how fast they were, and when they were served last: some 3 MB.
pub const REMEMBERED: usize = 16_384;

/// Which limit somebody has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Sessions at once, all together.
    Clients,
    /// Sessions of one contact at once.
    PerContact,
    /// Connections of one address at once.
    PerAddress,
    /// New connections of one address, over time.
    Connections,
    /// Handshakes of all, over time.
    Handshakes,
    /// Messages of one caller, over time.
    Messages,
}

/// What one address may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressBounds {
    /// Connections at once; `None` for any number.
    pub at_once: Option<usize>,
    /// New connections over time.
    pub rate: Option<Rate>,
}

/// All limits of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Sessions that are served at once, all together.
    pub clients: usize,
    /// The same for one contact; `None` for any number.
    pub per_contact: Option<usize>,
    /// Of any address but loopback.
    pub address: AddressBounds,
    /// Of a loopback address.
    pub loopback: AddressBounds,
    /// Messages of one caller that are printed.
    pub messages: Option<Rate>,
    /// A session that says nothing for so long gives its seat to one that waits for it.
    pub silence: Duration,
}

impl Bounds {
    /// What holds unless the user says otherwise.
    pub fn new(silence: Duration) -> Self {
        Self {
            clients: CLIENTS,
            per_contact: Some(PER_CONTACT),
            address: AddressBounds { at_once: Some(PER_ADDRESS), rate: Some(CONNECTIONS) },
            loopback: AddressBounds { at_once: None, rate: None },
            messages: None,
            silence,
        }
    }

    fn of(&self, network: Network) -> &AddressBounds {
        if network.is_loopback() { &self.loopback } else { &self.address }
    }

    /// Sessions of `party` that are served at once.
    fn seats(&self, party: Party) -> usize {
        let most = match party {
            Party::Address(network) => self.of(network).at_once,
            Party::Contact(_) | Party::Unknown | Party::Alone(_) => self.per_contact,
        };
        most.unwrap_or(usize::MAX)
    }
}

//! Where a peer is to be reached: at an address, or by a relay. PROTOCOL.md, 5.
//!
//! [`link`] is a connection to a relay that carries cells, [`circuit`] one that carries a stream.
//! A sender's way through them is in [`cells`]: its recipient's own addresses first; then, for what
//! is short, [`post`] over a [`line`] that is made anew when it is cut; else a circuit, or one for
//! each of a group's [`members`], whom a [`muster`] finds.

pub mod backoff;
pub mod cells;
pub mod circuit;
pub mod line;
pub mod link;
pub mod members;
pub mod muster;
pub mod post;

use std::rc::Rc;

use super::dial::DialError;
use super::resolve::HostPort;
use crate::crypto::sodium::{KeyPair, PublicKey};
use crate::proto::relay::mailbox::Channel;

/// A relay, as its clients know it.
pub struct Relay {
    /// Petname, or what stands for one; safe to show.
    pub name: String,
    /// The key that it must prove.
    pub public: PublicKey,
    /// Its `access`, 32 bytes.
    pub access: [u8; 32],
    /// Where it listens, each to be tried in turn.
    pub targets: Vec<HostPort>,
}

impl Relay {
    /// Its addresses, for a [`link::LinkCall`] or anything else that dials it.
    pub fn places(&self) -> Vec<Place> {
        self.targets.iter().cloned().map(Place::from).collect()
    }
}

/// Which mailbox of the peer is written to. PROTOCOL.md, 5.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// That of the two of us; the public one as well if nobody answers, since we may be no contact.
    Contact,
    /// The public one: whoever writes is anonymous.
    Public,
    /// A group's.
    Group,
}

/// By which relay a peer is reached, and how.
#[derive(Clone)]
pub struct Through {
    /// The relay.
    pub relay: Rc<Relay>,
    /// The mailbox.
    pub to: To,
    /// Of several programs under the peer's key the one that is meant (PROTOCOL.md, 5.4).
    pub instance: Option<[u8; 8]>,
}

impl Through {
    /// The channels to the peer, the second for when nobody answers by the first.
    pub fn channels(
        &self,
        me: &KeyPair,
        peer: &PublicKey,
        access: &[u8; 32],
    ) -> (Channel, Option<Channel>) {
        let open = Channel::open(access);
        match self.to {
            To::Public | To::Group => (open, None),
            // A pair of keys that were both checked always has a channel.
            To::Contact => match Channel::pair(me, peer, me.public(), peer) {
                Some(pair) => (pair, Some(open)),
                None => (open, None),
            },
        }
    }
}

/// A place to try: an address, and who is there.
#[derive(Clone)]
pub struct Place {
    /// The address of the peer, or of the relay.
    pub at: HostPort,
    /// The relay at that address, if the peer is behind one.
    pub via: Option<Through>,
}

impl From<HostPort> for Place {
    fn from(at: HostPort) -> Self {
        Self { at, via: None }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        let relay = |place: &Self| place.relay().map(|relay| relay.public);
        self.at == other.at && relay(self) == relay(other)
    }
}

impl Place {
    /// The relay that is dialled, if one is.
    pub fn relay(&self) -> Option<&Relay> {
        self.via.as_ref().map(|through| &*through.relay)
    }

    /// A failure of the connection to [`Place::at`].
    pub(super) fn on_the_way(&self, failure: DialError) -> DialError {
        match self.relay() {
            Some(relay) => DialError::Relay(relay.name.clone(), Box::new(failure)),
            None => failure,
        }
    }
}

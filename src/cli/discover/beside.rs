//! `ac-listen --announce`: an announcer in a thread beside the listener, for as long as it runs.

use std::net::SocketAddr;
use std::time::Duration;

use mio::{Events, Poll};

use super::PlaceOptions;
use super::announce::{cannot_announce, member};
use super::door::{Doorkeeper, Policy};
use crate::cli::failure::{self, Failure};
use crate::cli::passphrase::PassphraseOptions;
use crate::crypto::sodium::PublicKey;
use crate::discover::announce::{Announced, Announcement, GATHER, Listening, Member};
use crate::keys::Keyring;
use crate::net::clock::Clock;
use crate::net::listen::Answering;
use crate::net::sockets::Transport;

/// What of a listener its announcer has to know.
pub struct Beside<'a> {
    /// The keys that answer.
    pub keys: &'a [Answering],
    /// For each of them, the group's name if it is one.
    pub groups: &'a [Option<String>],
    /// Only these petnames, if there are any.
    pub from: &'a [String],
    /// Holders of the public key file who are no contacts.
    pub accept_unknown: bool,
    /// Where the listener listens.
    pub addresses: Vec<SocketAddr>,
    /// By what.
    pub transport: Transport,
    /// Introduces the identity to members of groups.
    pub member: Option<Member>,
}

/// The identity that `--introduce` hands to members of a group.
///
/// # Errors
/// [`Code::Key`].
pub fn introduced(keyring: &Keyring, passphrases: &PassphraseOptions) -> Result<Member, Failure> {
    Ok(member(keyring.identity(&mut passphrases.source())?))
}

impl Beside<'_> {
    /// Begins to answer; it ends with the program.
    ///
    /// # Errors
    /// [`Code::Local`] when the port of discovery cannot be had.
    pub fn start(self, keyring: Keyring, place: &PlaceOptions) -> Result<(), Failure> {
        let local = |e: std::io::Error| failure::local(&e);
        let mut poll = Poll::new().map_err(local)?;
        let (policy, keys) = (self.policy(), self.announced());
        let (transport, member) = (self.transport, self.member);
        let at = |address: &SocketAddr| Listening { address: *address, transport };
        let listening = self.addresses.iter().map(at).collect();
        let place = place.place();
        let announcement = Announcement::new(poll.registry(), &place, keys, listening, member);
        let mut announcement =
            announcement.map_err(|e| cannot_announce(&e, place.port).about("--announce"))?;
        // The listener itself tells who is turned away, and which files are none.
        let (mut door, _) = Doorkeeper::new(keyring, policy, None)?;
        let serve = move || {
            let clock = Clock::default();
            let mut events = Events::with_capacity(64);
            loop {
                announcement.serve(clock.now(), &mut door);
                std::thread::sleep(GATHER);
                let wait = announcement.has_more().then_some(Duration::ZERO);
                // Interrupted, or nothing that waiting again would not show.
                let _ = poll.poll(&mut events, wait);
            }
        };
        std::thread::Builder::new().name("announcer".into()).spawn(serve).map_err(local)?;
        Ok(())
    }

    fn policy(&self) -> Policy {
        let numbered = self.keys.iter().zip(self.groups);
        let group = |(key, name): (&Answering, &Option<String>)| -> Option<PublicKey> {
            name.as_ref().map(|_| *key.pair.public())
        };
        Policy {
            from: self.from.to_vec(),
            accept_unknown: self.accept_unknown,
            groups: numbered.map(group).collect(),
        }
    }

    fn announced(&self) -> Vec<Announced> {
        let numbered = self.keys.iter().zip(self.groups);
        let announced = |(key, group): (&Answering, &Option<String>)| Announced {
            pair: key.pair.duplicate(),
            access: key.access,
            is_group: group.is_some(),
        };
        numbered.map(announced).collect()
    }
}

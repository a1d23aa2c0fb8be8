//! Who is answered: contacts, as the keyring has them at that moment, and whom the user lets in.

use std::time::{Duration, Instant};

use crate::cli::contact_book::ContactBook;
use crate::cli::failure::Failure;
use crate::cli::output::note;
use crate::crypto::sodium::PublicKey;
use crate::discover::announce::Door;
use crate::discover::seek::Trace;
use crate::keys::{KeyError, Keyring, fingerprint};
use crate::proto::datagram::admission::Admission;

/// How often the user reads that somebody was turned away.
const TURNED_AWAY_EVERY: Duration = Duration::from_secs(60);
/// Who is heard.
pub struct Policy {
    /// Only these petnames, if there are any.
    pub from: Vec<String>,
    /// Holders of the public key file who are no contacts.
    pub accept_unknown: bool,
    /// The keys of groups among those that are answered for, by their number.
    pub groups: Vec<Option<PublicKey>>,
}

/// The keyring's word on who is heard.
pub struct Doorkeeper {
    contacts: ContactBook<Keyring>,
    policy: Policy,
    /// The program that tells who is turned away; `None` keeps it to itself.
    tells: Option<&'static str>,
    told: Option<Instant>,
    /// Who is shown what crosses the wire.
    pub trace: Option<Trace>,
}

impl Doorkeeper {
    /// Loads the contacts; what is wrong with files that are none comes with it.
    ///
    /// # Errors
    /// When the keyring cannot be read.
    pub fn new(
        keyring: Keyring,
        policy: Policy,
        tells: Option<&'static str>,
    ) -> Result<(Self, Vec<KeyError>), Failure> {
        let (contacts, broken) = ContactBook::open(Some(keyring))?;
        Ok((Self { contacts, policy, tells, told: None, trace: None }, broken))
    }
}

impl Door for Doorkeeper {
    fn admit(&mut self, sender: &PublicKey, local: usize) -> Admission {
        self.contacts.reload_if_changed();
        let petname = self.contacts.petname(sender);
        if !self.policy.from.is_empty() {
            let named = petname.is_some_and(|name| self.policy.from.contains(name));
            return if named { Admission::Contact } else { Admission::TurnAway };
        }
        match self.policy.groups.get(local).and_then(Option::as_ref) {
            // Who asks in the group's own name holds its key, and is let in by that.
            Some(group) if sender == group => Admission::Contact,
            _ if petname.is_some() => Admission::Contact,
            Some(_) => Admission::Unknown,
            None if self.policy.accept_unknown => Admission::Unknown,
            None => Admission::TurnAway,
        }
    }

    fn trace(&self) -> Option<Trace> {
        self.trace
    }

    fn turned_away(&mut self, sender: &PublicKey) {
        let Some(program) = self.tells else { return };
        if self.told.is_some_and(|last| last.elapsed() < TURNED_AWAY_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        note(&format!(
            "{program}: not answered: somebody who is not among your contacts looks for you \
             (fingerprint {})\nhint: to be found by them, file their public key: ac-keygen \
             --import FILE --as NAME; or use --accept-unknown",
            fingerprint(sender)
        ));
    }
}

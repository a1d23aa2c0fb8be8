//! Who is sought: from options and the keyring to keys and names.

use std::collections::HashMap;
use std::path::Path;

use super::{Options, say};
use crate::cli::failure::{Code, Failure};
use crate::crypto::sodium::{KeyPair, PublicKey};
use crate::discover::seeker::{MOST, Sought};
use crate::keys::ring::Shelf;
use crate::keys::{Contact, Keyring, LocalKind, Passphrase, Passphrases};

/// Who seeks whom.
pub struct People {
    /// Whose key asks.
    pub me: KeyPair,
    /// The names of those that are sought, in order; safe to show.
    pub names: Vec<String>,
    /// Their keys, in the same order.
    pub sought: Vec<Sought>,
    /// Petnames of all contacts, for members of a group that we know.
    pub contacts: HashMap<PublicKey, String>,
    /// My own key, which is no news to me.
    pub own: Option<PublicKey>,
}

/// Nobody is asked for a passphrase that was not expected.
struct Unasked;

impl Passphrases for Unasked {
    fn get(&mut self, _: &Path, _: &str) -> Result<Passphrase, String> {
        Err("it has a passphrase: name it to look for it".to_owned())
    }
}

impl People {
    /// `names` of the keyring, else the group that is acted as, else all contacts; at a relay all
    /// groups too.
    ///
    /// # Errors
    /// [`Code::Key`] for a key that is missing or bad.
    pub fn load(options: &Options, names: &[String]) -> Result<Self, Failure> {
        let keyring = Keyring::locate()?;
        let mut passphrases = options.common.passphrases.source();
        let me = match options.key.as_slice() {
            [] => keyring.identity(&mut passphrases)?,
            [one] => keyring.local_key(one, &mut passphrases)?,
            _ => return Err(Failure::new(Code::Usage, "-k: one key at a time can look")),
        };
        let (contacts, broken) = keyring.contacts()?;
        let mut people = Self {
            contacts: contacts.iter().map(|(name, c)| (c.public, name.clone())).collect(),
            own: keyring.identity_contact().ok().map(|contact| contact.public),
            names: Vec::new(),
            sought: Vec::new(),
            me: me.pair.duplicate(),
        };
        if !names.is_empty() {
            for name in names {
                let (shown, contact, is_group) = keyring.peer(name, &mut passphrases)?;
                people.seek(shown, &contact, is_group);
            }
        } else if me.kind == LocalKind::Group {
            let word = options.key.first().map_or("", String::as_str);
            let (shown, contact, _) = match word.contains('/') {
                true => keyring.peer(word, &mut passphrases)?,
                false => (word.to_owned(), me.contact(), true),
            };
            people.seek(shown, &contact, true);
        } else {
            broken.iter().for_each(|error| say(options, &format!("{error} (passed over)")));
            contacts.iter().for_each(|(name, contact)| people.seek(name.clone(), contact, false));
            if options.via.is_some() {
                people.seek_groups(options, &keyring)?;
            }
        }
        people.checked()
    }

    /// All groups whose keys are to be had without a passphrase.
    fn seek_groups(&mut self, options: &Options, keyring: &Keyring) -> Result<(), Failure> {
        let (files, broken) = keyring.shelf(Shelf::Groups)?;
        broken.iter().for_each(|error| say(options, &format!("{error} (passed over)")));
        for (name, _) in files {
            match keyring.local_key(&name, &mut Unasked) {
                Ok(group) => self.seek(name, &group.contact(), true),
                Err(error) => say(options, &format!("{error} (passed over)")),
            }
        }
        Ok(())
    }

    fn seek(&mut self, name: String, contact: &Contact, is_group: bool) {
        let access = *contact.access.as_bytes();
        self.names.push(name);
        self.sought.push(Sought { public: contact.public, access, is_group });
    }

    fn checked(self) -> Result<Self, Failure> {
        match self.sought.len() {
            0 => Err(Failure::new(Code::Key, "there are no contacts to look for").hint(
                "file the public key that you were given: ac-keygen --import FILE --as NAME",
            )),
            n if n > MOST => Err(Failure::new(Code::Usage, format!("{n} contacts are too many"))
                .hint(format!("name those that you look for: at most {MOST} at a time"))),
            _ => Ok(self),
        }
    }
}

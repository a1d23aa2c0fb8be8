//! The contacts, as the keyring has them while a program runs.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::crypto::sodium::PublicKey;
use crate::keys::{ContactsStamp, KeyError, Keyring};

/// How often the contacts' files are looked at again, one by one.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Petnames by key. One without a keyring is empty.
pub struct ContactBook<K> {
    keyring: Option<K>,
    contacts: HashMap<PublicKey, String>,
    stamp: ContactsStamp,
    looked: Instant,
}

impl<K: Borrow<Keyring>> ContactBook<K> {
    /// Loads the contacts; what is wrong with files that are none comes with them.
    ///
    /// # Errors
    /// When the keyring cannot be read.
    pub fn open(keyring: Option<K>) -> Result<(Self, Vec<KeyError>), Failure> {
        let (contacts, stamp) = (HashMap::new(), ContactsStamp::default());
        let mut book = Self { keyring, contacts, stamp, looked: Instant::now() };
        let broken = book.load()?;
        Ok((book, broken))
    }

    fn load(&mut self) -> Result<Vec<KeyError>, Failure> {
        let Some(keyring) = self.keyring.as_ref().map(Borrow::borrow) else {
            return Ok(Vec::new());
        };
        self.stamp = keyring.contacts_stamp();
        let (contacts, broken) = keyring.contacts()?;
        self.contacts = contacts.into_iter().map(|(name, c)| (c.public, name)).collect();
        Ok(broken)
    }

    /// A contact imported meanwhile is known from now on, and one that was removed is known no more.
    /// Who changes a file in place waits a moment: looking at all of them for every caller would
    /// cost more than the caller.
    pub fn reload_if_changed(&mut self) {
        let Some(keyring) = self.keyring.as_ref().map(Borrow::borrow) else { return };
        let renewed = keyring.contacts_names_changed_since(&self.stamp);
        if !renewed && self.looked.elapsed() < RELOAD_EVERY {
            return;
        }
        self.looked = Instant::now();
        if renewed || keyring.contacts_changed_since(&self.stamp) {
            // If they cannot be read, those that were loaded before stay.
            let _ = self.load();
        }
    }

    /// Whether there is a keyring at all.
    pub fn has_keyring(&self) -> bool {
        self.keyring.is_some()
    }

    /// The petname of a contact.
    pub fn petname(&self, key: &PublicKey) -> Option<&String> {
        self.contacts.get(key)
    }

    /// All contacts, with their petnames.
    pub fn iter(&self) -> impl Iterator<Item = (&PublicKey, &String)> {
        self.contacts.iter()
    }

    /// Whether a contact has this petname.
    pub fn has_name(&self, name: &str) -> bool {
        self.contacts.values().any(|petname| petname == name)
    }
}

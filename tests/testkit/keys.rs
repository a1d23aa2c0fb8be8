//! The keys of people, none of which has a passphrase.

use std::path::Path;

use anonchat::crypto::sodium::{KeyPair, PublicKey, random};
use anonchat::discover::seeker::Sought;
use anonchat::keys::{Contact, Keyring, LocalKey, Passphrase, Passphrases};

use super::common::Home;

/// Whoever would be asked for a passphrase.
pub struct Unasked;

impl Passphrases for Unasked {
    fn get(&mut self, _: &Path, _: &str) -> Result<Passphrase, String> {
        Err("the keys of tests have none".into())
    }
}

/// The identity of `home`.
pub fn identity(home: &Home) -> LocalKey {
    Keyring::at(home.path()).identity(&mut Unasked).unwrap()
}

/// A group's key in `home`.
pub fn group(home: &Home, name: &str) -> LocalKey {
    Keyring::at(home.path()).local_key(name, &mut Unasked).unwrap()
}

/// What the public key file of `home` says.
pub fn contact(home: &Home) -> Contact {
    Keyring::at(home.path()).identity_contact().unwrap()
}

/// The public key of `home`.
pub fn public(home: &Home) -> PublicKey {
    contact(home).public
}

/// A key with its `access`, as a public key file has it.
pub struct Person {
    pub pair: KeyPair,
    pub access: [u8; 32],
}

impl Person {
    pub fn new() -> Self {
        Self { pair: KeyPair::generate(), access: random() }
    }

    pub fn sought(&self) -> Sought {
        Sought { public: *self.pair.public(), access: self.access, is_group: false }
    }
}

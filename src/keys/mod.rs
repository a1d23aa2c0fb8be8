//! Key files, the keyring, fingerprints and groups. ac-keyfile(5); PROTOCOL.md, "Keys".
//!
//! [`mod@file`] is the TOML format and [`mod@line`] its one-line form, both pure; [`disk`] reads and
//! writes them without trusting what it finds; [`ring`] knows where everything lies. A *public*
//! key file holds a [`Contact`], a secret or group key file opens to a [`LocalKey`].

mod base32;
pub mod disk;
mod error;
pub mod file;
mod fingerprint;
pub mod group;
mod hints;
pub mod line;
pub mod names;
mod passphrase;
pub mod password;
pub mod protect;
mod render;
pub mod ring;
mod toml_fields;
mod wiped;

use crate::crypto::sodium::{KeyPair, PublicKey, Secret};

pub use error::{KeyError, KeyErrorKind};
pub use file::{KeyFile, KeyedFile};
pub use fingerprint::{fingerprint, party_number, safety_number};
pub use hints::{
    BadAddress, Hints, MAX_ADDRESSES, RelayHint, check_address, check_own_address, is_onion,
};
pub use passphrase::{Passphrase, Passphrases};
pub use ring::{ContactsStamp, Keyring};
pub use wiped::Wiped;

/// The 32-byte `access` value of a public key file: without it the key's owner cannot even be
/// probed. It is secret towards strangers, so it has no `Debug` and is compared in constant time.
#[derive(PartialEq, Eq)]
pub struct Access(Secret<32>);

impl Access {
    /// Size in bytes.
    pub const LEN: usize = 32;

    /// A new random value.
    pub fn random() -> Self {
        Self(Secret::random())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl From<Secret<32>> for Access {
    fn from(bytes: Secret<32>) -> Self {
        Self(bytes)
    }
}

impl Clone for Access {
    fn clone(&self) -> Self {
        Self(self.0.duplicate())
    }
}

/// What a public key file says: whom to reach, the permission to do so, and where to try.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    /// The key that the other end must prove.
    pub public: PublicKey,
    /// Without it nothing is answered.
    pub access: Access,
    /// What the owner says about themselves; a claim, never proven.
    pub hints: Hints,
}

impl Contact {
    /// Whether both name the same key with the same `access`, whatever their hints.
    pub fn same_key(&self, other: &Self) -> bool {
        self.public == other.public && self.access == other.access
    }
}

/// Whose key a [`LocalKey`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalKind {
    /// One person's, or one relay's.
    Identity,
    /// Held by several people.
    Group,
}

/// A key that I act as.
pub struct LocalKey {
    /// The X25519 pair; that of a group is derived from its 32 bytes.
    pub pair: KeyPair,
    /// What others need to reach me.
    pub access: Access,
    /// What my public key file says about me.
    pub hints: Hints,
    /// Whether several people hold it.
    pub kind: LocalKind,
}

impl LocalKey {
    /// What others need to reach this key.
    pub fn contact(&self) -> Contact {
        Contact {
            public: *self.pair.public(),
            access: self.access.clone(),
            hints: self.hints.clone(),
        }
    }

    /// A second copy, where two owners must have it.
    pub fn duplicate(&self) -> Self {
        Self {
            pair: self.pair.duplicate(),
            access: self.access.clone(),
            hints: self.hints.clone(),
            kind: self.kind,
        }
    }
}

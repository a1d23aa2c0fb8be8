//! Passphrase protection of the one secret field of a key file. PROTOCOL.md, "Keys".
//!
//! `secretbox` under `H[32](argon2id13(passphrase, salt, ops, mem); "AnonChat v1 keyfile" ‖
//! header)`. The header is hashed into the key, so that nobody can change the public half or the
//! cost of a file that will still open.

use crate::crypto::sodium::{
    NONCE_LEN, SALT_LEN, SECRETBOX_OVERHEAD, Secret, argon2id, keyed_hash_secret, open_secret,
    random, seal_secret, wipe,
};

use super::error::KeyErrorKind;
use super::passphrase::Passphrase;

/// Size of the protected secret, in bytes.
pub const SEALED_LEN: usize = 32 + SECRETBOX_OVERHEAD;
/// The only key derivation there is.
pub const KDF: &str = "argon2id13";
/// Most passes that a file may ask for.
pub const MAX_OPS: u32 = 10;
/// Most memory that a file may ask for, in KiB: 1 GiB.
pub const MAX_MEM_KIB: u32 = 1024 * 1024;
/// Least memory that argon2id works with, in KiB.
pub const MIN_MEM_KIB: u32 = 8;

/// What guessing one passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Passes, 1 to [`MAX_OPS`].
    pub ops: u32,
    /// Memory in KiB, [`MIN_MEM_KIB`] to [`MAX_MEM_KIB`].
    pub mem_kib: u32,
}

impl Cost {
    /// libsodium's `MODERATE`: 3 passes over 256 MiB, about a second.
    pub const DEFAULT: Self = Self { ops: 3, mem_kib: 256 * 1024 };
}

/// The `[protection]` table, without its `kdf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// What guessing costs.
    pub cost: Cost,
    /// Of argon2id.
    pub salt: [u8; SALT_LEN],
    /// Of the secretbox.
    pub nonce: [u8; NONCE_LEN],
}

/// What stands in clear before the salt: `format ‖ version u8 ‖ public ‖ access`. The last two
/// are empty in a group key file.
pub struct Header<'a> {
    /// As in the file.
    pub format: &'a str,
    /// As in the file.
    pub version: u8,
    /// 32 bytes, or none.
    pub public: &'a [u8],
    /// 32 bytes, or none.
    pub access: &'a [u8],
}

impl Protection {
    /// A random salt and nonce.
    pub fn random(cost: Cost) -> Self {
        Self { cost, salt: random(), nonce: random() }
    }

    fn key(&self, header: &Header<'_>, passphrase: &Passphrase) -> Option<Secret<32>> {
        let Cost { ops, mem_kib } = self.cost;
        let stretched = argon2id(passphrase.as_bytes(), &self.salt, ops, mem_kib)?;
        Some(keyed_hash_secret(
            stretched.expose(),
            &[
                b"AnonChat v1 keyfile",
                header.format.as_bytes(),
                &[header.version],
                header.public,
                header.access,
                &ops.to_be_bytes(),
                &mem_kib.to_be_bytes(),
                &self.salt,
            ],
        ))
    }

    /// Seals `secret` so that only `passphrase` and the same header open it.
    ///
    /// # Errors
    /// [`KeyErrorKind::OutOfMemory`].
    pub fn seal(
        &self,
        header: &Header<'_>,
        passphrase: &Passphrase,
        secret: &Secret<32>,
    ) -> Result<[u8; SEALED_LEN], KeyErrorKind> {
        let key = self.key(header, passphrase).ok_or(KeyErrorKind::OutOfMemory)?;
        let sealed = seal_secret(&key, &self.nonce, secret.expose());
        sealed.try_into().map_err(|_| KeyErrorKind::OutOfMemory)
    }

    /// Opens what [`Protection::seal`] made.
    ///
    /// # Errors
    /// [`KeyErrorKind::WrongPassphrase`], also for a file that was changed;
    /// [`KeyErrorKind::OutOfMemory`].
    pub fn open(
        &self,
        header: &Header<'_>,
        passphrase: &Passphrase,
        sealed: &[u8; SEALED_LEN],
    ) -> Result<Secret<32>, KeyErrorKind> {
        let key = self.key(header, passphrase).ok_or(KeyErrorKind::OutOfMemory)?;
        let mut plain =
            open_secret(&key, &self.nonce, sealed).ok_or(KeyErrorKind::WrongPassphrase)?;
        let secret = Secret::from_slice(&plain).ok_or(KeyErrorKind::WrongPassphrase);
        wipe(&mut plain);
        secret
    }
}

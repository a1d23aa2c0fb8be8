//! Groups: a key that several people hold, derived from 32 bytes `g`. PROTOCOL.md, "Keys".

use crate::crypto::sodium::{KeyPair, SALT_LEN, Secret, argon2id, keyed_hash, keyed_hash_secret};

use super::passphrase::Passphrase;
use super::{Hints, LocalKey, LocalKind};

/// Passes of argon2id for a shared password.
pub const PASSWORD_OPS: u32 = 4;
/// Memory of argon2id for a shared password, in KiB: 256 MiB.
pub const PASSWORD_MEM_KIB: u32 = 256 * 1024;

/// The key of a group: `sk = H[32](g; "AnonChat v1 group key")` and
/// `access = H[32](g; "AnonChat v1 group access")`.
pub fn local_key(g: &Secret<32>, hints: Hints) -> LocalKey {
    let secret = keyed_hash_secret(g.expose(), &[b"AnonChat v1 group key"]);
    let access: Secret<32> = keyed_hash_secret(g.expose(), &[b"AnonChat v1 group access"]);
    LocalKey {
        pair: KeyPair::from_secret(secret),
        access: access.into(),
        hints,
        kind: LocalKind::Group,
    }
}

/// `g` of the group `name`, the same on every machine that has the same password:
/// argon2id with salt `H[16]("AnonChat v1 group salt"; name)`. `name` is in NFC.
///
/// Returns `None` when 256 MiB cannot be had.
pub fn from_password(name: &str, password: &Passphrase) -> Option<Secret<32>> {
    let salt: [u8; SALT_LEN] = keyed_hash(b"AnonChat v1 group salt", &[name.as_bytes()]);
    argon2id(password.as_bytes(), &salt, PASSWORD_OPS, PASSWORD_MEM_KIB)
}

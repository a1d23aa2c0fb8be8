//! The relay's own key: made on the first run, and what is handed out of it.

use crate::cli::failure::{Code, Failure};
use crate::cli::passphrase::PassphraseSource;
use crate::crypto::sodium::{KeyPair, Secret};
use crate::keys::disk::{self, Audience, Existing};
use crate::keys::{
    Access, Contact, Hints, KeyError, KeyErrorKind, KeyFile, KeyedFile, Keyring, LocalKey,
};
use crate::proto::relay::link::open_access;

/// The relay's key, which is made if there is none, and whether it was.
///
/// # Errors
/// Everything that can be wrong with the file, or with writing it.
pub fn open(
    keyring: &Keyring,
    passphrases: &mut PassphraseSource,
) -> Result<(LocalKey, bool), KeyError> {
    match keyring.relay_key(passphrases) {
        Err(e) if e.kind == KeyErrorKind::Missing => {}
        result => return result.map(|key| (key, false)),
    }
    let path = keyring.relay_key_path();
    let keyed = KeyedFile::identity(&KeyPair::generate(), Access::random(), Hints::default());
    disk::make_directory(keyring.root())?;
    let text = KeyFile::Keyed(keyed).to_toml();
    let is_new = match disk::write(&path, &text, Audience::Owner, Existing::Keep) {
        Ok(()) => true,
        // Another relay of the same keyring was faster.
        Err(e) if e.kind == KeyErrorKind::Exists => false,
        Err(e) => return Err(e),
    };
    keyring.relay_key(passphrases).map(|key| (key, is_new))
}

/// What is handed out: with it, and only with it, a client gets in.
///
/// # Errors
/// A hint that no key file may have.
pub fn public(key: &LocalKey, open: bool, addresses: &[String]) -> Result<Contact, Failure> {
    let access = if open { open_access(key.pair.public()) } else { *key.access.as_bytes() };
    let secret = Secret::duplicate_of(&access);
    let mut hints = Hints { relay: None, ..key.hints.clone() };
    if !addresses.is_empty() {
        hints.address = addresses.to_vec();
    }
    let wrong = |why| Failure::new(Code::Usage, format!("--address: {why}"));
    let hints = hints.checked().map_err(wrong)?;
    Ok(Contact { public: *key.pair.public(), access: Access::from(secret), hints })
}

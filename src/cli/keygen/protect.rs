//! Setting, changing and removing passphrases.

use std::path::Path;

use super::super::failure::{Code, Failure};
use super::super::output::note;
use super::{Options, PROGRAM, show};
use crate::keys::disk::{self, Audience, Existing};
use crate::keys::protect::{Cost, Protection};
use crate::keys::{KeyErrorKind, KeyFile, KeyedFile, Keyring, Passphrase, Passphrases as _};

/// The passphrase for a new key: from `--new-passphrase-…`; else, unless that is the group's
/// password, from `--passphrase-…`; else typed twice.
pub fn ask_for_new(options: &Options, path: &Path) -> Result<Passphrase, Failure> {
    let own = options.names_new_passphrase() || options.from_password;
    let mut source = if own { options.new_passphrase() } else { options.passphrase.source() };
    let passphrase = source.get_new(path, "new passphrase")?;
    if passphrase.is_empty() {
        return Err(
            Failure::new(Code::Key, "an empty passphrase protects nothing").about(show::path(path))
        );
    }
    Ok(passphrase)
}

/// `keyed`, which is in clear, behind `passphrase`.
pub fn under(keyed: KeyedFile, path: &Path, passphrase: &Passphrase) -> Result<KeyedFile, Failure> {
    let never_asked = || Err("it is not protected".into());
    let stored = keyed.unlock(never_asked).map_err(|kind| kind.at(path))?;
    let protection = Protection::random(Cost::DEFAULT);
    let sealed = keyed.protected(stored, Some((passphrase, protection)));
    Ok(sealed.map_err(|kind| kind.at(path))?)
}

/// Opens FILE, or the identity, and writes it back behind another passphrase, or in clear.
pub fn change(options: &Options, keyring: &Keyring, file: Option<&Path>) -> Result<(), Failure> {
    let path = file.map_or_else(|| keyring.identity_path(), Path::to_path_buf);
    let keyed = match show::read(keyring, &path)? {
        KeyFile::Keyed(keyed) => keyed,
        other => {
            let expected = "a secret or group key file";
            return Err(KeyErrorKind::WrongKind { expected, found: other.describe() }
                .at(path)
                .into());
        }
    };
    let mut old = options.passphrase.source();
    let stored =
        keyed.unlock(|| old.get(&path, "old passphrase")).map_err(|kind| kind.at(&path))?;
    // A wrong public half must not be sealed in as if it had been checked.
    keyed.local_key(&stored).map_err(|kind| kind.at(&path))?;
    let new = options.new_passphrase().get_new(&path, "new passphrase, empty for none")?;
    let protection = (!new.is_empty()).then(|| (&new, Protection::random(Cost::DEFAULT)));
    let keyed = keyed.protected(stored, protection).map_err(|kind| kind.at(&path))?;
    let state = if keyed.is_protected() { "changed" } else { "removed" };
    let text = KeyFile::Keyed(keyed).to_toml();
    disk::write(&path, &text, Audience::Owner, Existing::Replace)?;
    note(&format!("{PROGRAM}: {}: passphrase {state}", show::path(&path)));
    Ok(())
}

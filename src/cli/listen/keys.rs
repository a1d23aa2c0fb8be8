//! The keys that ac-listen answers for, and who may read what it records.

use std::path::Path;

use super::Options;
use crate::cli::failure::Failure;
use crate::cli::history;
use crate::crypto::sodium::PublicKey;
use crate::keys::ring::name_of_file;
use crate::keys::{Keyring, LocalKind};
use crate::net::listen::Answering;

/// The keys of a listener.
#[derive(Default)]
pub(super) struct LocalKeys {
    /// Where they are filed, and the contacts; `None` with `--plain`, which has to do with neither.
    pub keyring: Option<Keyring>,
    /// Those that answer.
    pub keys: Vec<Answering>,
    /// For each of them, the group's name if it is one.
    pub groups: Vec<Option<String>>,
    /// Who can read the history, if there is one.
    pub owner: Option<PublicKey>,
}

impl LocalKeys {
    /// Loads those that are asked for, or the identity. It may ask for passphrases.
    ///
    /// # Errors
    /// What is wrong with a key file or the keyring.
    pub fn load(options: &Options) -> Result<Self, Failure> {
        if options.plain {
            return Ok(Self::default());
        }
        let keyring = Keyring::locate()?;
        let (keys, groups) = answering(options, &keyring)?;
        let owner = history::owner(&keyring, options.history.as_deref())?;
        Ok(Self { keyring: Some(keyring), keys, groups, owner })
    }
}

/// The keys that are asked for, or the identity; and for each the group's name if it is one.
pub(super) fn answering(
    options: &Options,
    keyring: &Keyring,
) -> Result<(Vec<Answering>, Vec<Option<String>>), Failure> {
    let mut passphrases = options.common.passphrases.source();
    let mut keys = Vec::new();
    let mut groups = Vec::new();
    if options.key.is_empty() {
        let me = keyring.identity(&mut passphrases)?;
        keys.push(Answering { access: *me.access.as_bytes(), pair: me.pair });
        groups.push(None);
    }
    for word in &options.key {
        let key = keyring.local_key(word, &mut passphrases)?;
        let shown = name_of_file(Path::new(word));
        let is_group = key.kind == LocalKind::Group;
        groups.push(is_group.then(|| shown.unwrap_or_else(|| "group".into())));
        keys.push(Answering { access: *key.access.as_bytes(), pair: key.pair });
    }
    Ok((keys, groups))
}

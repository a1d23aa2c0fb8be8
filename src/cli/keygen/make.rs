//! Making identities and groups.

use std::path::{Path, PathBuf};

use super::super::failure::{Code, Failure};
use super::super::output::{note, print};
use super::{Options, PROGRAM, protect, show};
use crate::crypto::sodium::{KeyPair, Secret};
use crate::keys::disk::{self, Audience, Existing};
use crate::keys::ring::Shelf;
use crate::keys::{
    Access, Contact, Hints, KeyErrorKind, KeyFile, KeyedFile, Keyring, fingerprint, group, password,
};

/// Makes a key and files it as the identity, or writes it to `-o FILE`.
pub fn identity(options: &Options, keyring: &Keyring) -> Result<(), Failure> {
    let path = options.output.clone().unwrap_or_else(|| keyring.identity_path());
    // Before anybody types a passphrase for nothing; writing checks again.
    refuse_existing(&path, options)?;
    let public_path = options.output.is_none().then(|| keyring.identity_public_path());
    public_path.iter().try_for_each(|path| refuse_existing(path, options))?;

    let hints = options.hints(keyring, Hints::default())?;
    let keyed = KeyedFile::identity(&KeyPair::generate(), Access::random(), hints);
    let Some(contact) = keyed.contact() else {
        return Err(KeyErrorKind::Mismatch.at(path).into());
    };
    store(options, &path, keyed)?;
    let public = KeyFile::Public(contact.clone());
    if let Some(path) = public_path {
        disk::write(&path, &public.to_toml(), Audience::Everybody, options.existing())?;
    }
    print(&show::form(&public, options.line))?;
    say_what_it_is(&path, &contact);
    note("hint: give the public key file to those who may reach you; never the secret one");
    Ok(())
}

/// Makes a group's key and files it as `name`, or writes it to `-o FILE`.
pub fn group(options: &Options, keyring: &Keyring, name: &str) -> Result<(), Failure> {
    let filed = keyring.path_of(Shelf::Groups, name);
    let path = options.output.clone().unwrap_or(filed);
    refuse_existing(&path, options)?;
    let suggested = Hints { name: Some(name.into()), ..Hints::default() };
    let hints = options.hints(keyring, suggested)?;
    let g = if options.from_password { shared(options, &path, name)? } else { Secret::random() };
    let keyed = KeyedFile::group(g, hints);
    let Some(contact) = keyed.contact() else {
        return Err(KeyErrorKind::Mismatch.at(path).into());
    };
    store(options, &path, keyed)?;
    say_what_it_is(&path, &contact);
    note(if options.from_password {
        "hint: every member who types the same name and password must see this fingerprint"
    } else {
        "hint: give this file to every member, sealed: whoever has it reads and writes as the group"
    });
    Ok(())
}

/// Asks for the group's password and stretches it.
fn shared(options: &Options, path: &Path, name: &str) -> Result<Secret<32>, Failure> {
    let mut source = options.passphrase.source();
    let password = source.get_new(path, "the group's password")?;
    password::check(&password, name).map_err(|why| {
        Failure::new(Code::Usage, why).about(name).hint("take four or more words at random")
    })?;
    group::from_password(name, &password).ok_or_else(|| KeyErrorKind::OutOfMemory.at(path).into())
}

fn refuse_existing(path: &PathBuf, options: &Options) -> Result<(), Failure> {
    if options.existing() == Existing::Keep && path.symlink_metadata().is_ok() {
        return Err(KeyErrorKind::Exists.at(path).into());
    }
    Ok(())
}

/// Protects the file if `-p` asks for it, and writes it.
fn store(options: &Options, path: &Path, keyed: KeyedFile) -> Result<(), Failure> {
    let keyed = if options.protect {
        let passphrase = protect::ask_for_new(options, path)?;
        protect::under(keyed, path, &passphrase)?
    } else {
        keyed
    };
    if let (None, Some(directory)) = (&options.output, path.parent()) {
        disk::make_directory(directory)?;
    }
    let text = KeyFile::Keyed(keyed).to_toml();
    Ok(disk::write(path, &text, Audience::Owner, options.existing())?)
}

fn say_what_it_is(path: &Path, contact: &Contact) {
    note(&format!("{PROGRAM}: wrote {}", show::path(path)));
    note(&format!("{PROGRAM}: fingerprint {}", fingerprint(&contact.public)));
}

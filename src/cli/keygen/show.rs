//! Showing public keys, fingerprints and safety numbers.

use std::path::Path;
use std::process::ExitCode;

use super::super::failure::{Code, Failure, exit_with};
use super::super::json::{self, Event};
use super::super::output::{note, print};
use super::super::passphrase::PassphraseSource;
use super::{Options, PROGRAM, claims};
use crate::keys::disk::{self, Audience};
use crate::keys::ring::{Shelf, unlock};
use crate::keys::{
    Contact, KeyError, KeyErrorKind, KeyFile, Keyring, fingerprint, line, names, safety_number,
};

/// A path that a terminal can show.
pub fn path(path: &Path) -> String {
    names::harmless(&path.to_string_lossy())
}

/// A public key file as it goes to stdout: TOML, or one line.
pub fn form(file: &KeyFile, as_line: bool) -> Vec<u8> {
    match line::encode(file).filter(|_| as_line) {
        Some(line) => format!("{line}\n").into_bytes(),
        None => file.to_toml().to_vec(),
    }
}

/// Reads a key file; a missing identity says that there is none yet.
pub fn read(keyring: &Keyring, path: &Path) -> Result<KeyFile, KeyError> {
    disk::read(path).map_err(|e| match e.kind {
        KeyErrorKind::Missing if path == keyring.identity_path() => {
            KeyErrorKind::NoIdentity.at(path)
        }
        _ => e,
    })
}

/// `-y`: the public key file of FILE, or of the identity. Of a protected one it is printed only
/// once the passphrase has proven it.
pub fn public(options: &Options, keyring: &Keyring, file: Option<&Path>) -> Result<(), Failure> {
    let path = file.map_or_else(|| keyring.identity_path(), Path::to_path_buf);
    let mut source = options.passphrase.source();
    let with_hints = |mut contact: Contact| -> Result<Contact, Failure> {
        contact.hints = options.hints(keyring, contact.hints)?;
        Ok(contact)
    };
    let file = match read(keyring, &path)? {
        KeyFile::Keyed(keyed) => {
            KeyFile::Public(with_hints(unlock(&path, &keyed, &mut source)?.contact())?)
        }
        KeyFile::Public(contact) => KeyFile::Public(with_hints(contact)?),
        KeyFile::Relay(_) if options.relay.is_some() => {
            return Err(Failure::new(Code::Usage, "a relay does not name another relay"));
        }
        KeyFile::Relay(relay) => KeyFile::Relay(with_hints(relay)?),
    };
    let text = form(&file, options.line);
    match &options.output {
        None => print(&text),
        Some(output) => Ok(disk::write(output, &text, Audience::Everybody, options.existing())?),
    }
}

/// `-l`: a fingerprint a line. A file that is broken is said on stderr, the others still shown.
pub fn list(
    options: &Options,
    keyring: &Keyring,
    files: &[std::path::PathBuf],
) -> Result<ExitCode, Failure> {
    let mut source = options.passphrase.source();
    let mut text = String::new();
    let mut failed = ExitCode::SUCCESS;
    let mut entry = |name: String, listed: Result<(Contact, &'static str), KeyError>| match listed {
        Ok((contact, kind)) => text.push_str(&listing(options, &name, kind, &contact)),
        Err(e) => failed = exit_with(PROGRAM, &e.into()),
    };
    for file in files {
        entry(path(file), public_half(keyring, file, Some(&mut source)));
    }
    if files.is_empty() {
        list_keyring(keyring, &mut entry)?;
    }
    print(text.as_bytes())?;
    Ok(failed)
}

type Listed = Result<(Contact, &'static str), KeyError>;

/// Everything in the keyring, without asking for a passphrase.
fn list_keyring(keyring: &Keyring, entry: &mut dyn FnMut(String, Listed)) -> Result<(), Failure> {
    match public_half(keyring, &keyring.identity_path(), None) {
        Err(e) if e.kind == KeyErrorKind::NoIdentity => {}
        identity => entry("identity".into(), identity),
    }
    for shelf in Shelf::ALL {
        let (files, bad) = keyring.shelf(shelf)?;
        for (name, file) in files {
            let name = format!("{}/{name}", shelf.directory());
            entry(name, public_half(keyring, &file, None));
        }
        bad.into_iter().for_each(|e| entry(String::new(), Err(e)));
    }
    Ok(())
}

/// The public half of any key file, and what it is called in a listing. Without a source a
/// protected group is an error.
fn public_half(keyring: &Keyring, path: &Path, source: Option<&mut PassphraseSource>) -> Listed {
    match read(keyring, path)? {
        KeyFile::Public(contact) => Ok((contact, "public")),
        KeyFile::Relay(contact) => Ok((contact, "relay")),
        KeyFile::Keyed(keyed) => {
            let kind = if keyed.format() == crate::keys::file::GROUP { "group" } else { "secret" };
            match (keyed.contact(), source) {
                (Some(contact), _) => Ok((contact, kind)),
                (None, Some(source)) => Ok((unlock(path, &keyed, source)?.contact(), kind)),
                (None, None) => {
                    let why = "name the file to be asked for it".into();
                    Err(KeyErrorKind::NoPassphrase(why).at(path))
                }
            }
        }
    }
}

fn listing(options: &Options, name: &str, kind: &str, contact: &Contact) -> String {
    let fingerprint = fingerprint(&contact.public);
    if !options.json {
        return format!("{fingerprint}  {name}\n");
    }
    let hints = Some(claims::reported(&contact.hints));
    json::line(&Event::Key { fingerprint: &fingerprint, kind: Some(kind), name: Some(name), hints })
}

/// What `--import` reports, as an object.
pub fn imported(name: &str, kind: &str, contact: &Contact, file: &Path) -> String {
    let (fingerprint, file) = (fingerprint(&contact.public), file.to_string_lossy());
    let hints = claims::reported(&contact.hints);
    json::line(&Event::Imported { kind, name, fingerprint: &fingerprint, file: &file, hints })
}

/// `--verify`: one number for two parties, and what their files claim beside it.
pub fn verify(options: &Options, keyring: &Keyring, pair: &[String]) -> Result<(), Failure> {
    let mut source = options.passphrase.source();
    let mut parties: Vec<(String, Contact)> = Vec::new();
    if pair.len() == 1 {
        parties.push(("identity".into(), keyring.identity_contact()?));
    }
    for name in pair {
        parties.push((name.clone(), party(keyring, name, &mut source)?));
    }
    let [(a_name, a), (b_name, b)] = parties.as_slice() else {
        return Err(Failure::new(Code::Usage, "--verify takes one or two names"));
    };
    let number = safety_number(a, b);
    if options.json {
        let (a_hints, b_hints) = (claims::reported(&a.hints), claims::reported(&b.hints));
        let event = Event::SafetyNumber { a: a_name, b: b_name, number: &number, a_hints, b_hints };
        return print(json::line(&event).as_bytes());
    }
    print(format!("{number}\n").as_bytes())?;
    if a.same_key(b) {
        note(&format!("{PROGRAM}: both are the same key"));
    }
    for (name, party) in &parties {
        claims::say(&names::harmless(name), &party.hints, keyring);
    }
    note(
        "hint: read it out over the phone: the other end must see the same number; then ask \
         whether the claims are right, which it does not cover",
    );
    Ok(())
}

/// A path to any key file, else a contact or a group.
fn party(keyring: &Keyring, name: &str, source: &mut PassphraseSource) -> Result<Contact, Failure> {
    if name.contains('/') {
        return Ok(public_half(keyring, Path::new(name), Some(source))?.0);
    }
    Ok(keyring.peer(name, source)?.1)
}

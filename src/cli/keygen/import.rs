//! Checking a key file that somebody sent, and filing it.

use std::io::stdin;
use std::path::Path;

use super::super::failure::{Code, Failure};
use super::super::output::{note, print};
use super::{Options, PROGRAM, claims, show};
use crate::keys::disk::{self, Audience, Existing};
use crate::keys::ring::{Shelf, name_of_file, unlock};
use crate::keys::{
    Contact, Hints, KeyErrorKind, KeyFile, Keyring, LocalKind, fingerprint, party_number,
};

/// `--import FILE`: contacts, groups or relays, by what it is.
pub fn import(options: &Options, keyring: &Keyring, source: &Path) -> Result<(), Failure> {
    let is_stdin = source == Path::new("-");
    let file = if is_stdin {
        disk::read_stream(stdin().lock()).map_err(|kind| kind.at("stdin"))?
    } else {
        disk::read(source)?
    };
    let shelf = shelf_of(&file).ok_or_else(|| a_secret(source))?;
    let contact = public_half(options, source, &file)?;
    let name = petname(options, &contact, (!is_stdin).then_some(source))?;
    let path = keyring.path_of(shelf, &name);
    let news = compare(options, &path, &file, &contact)?;
    if news != News::None {
        if let Some(directory) = path.parent() {
            disk::make_directory(directory)?;
        }
        let existing = match news {
            News::File => options.existing(),
            _ => Existing::Replace,
        };
        let audience = match file {
            KeyFile::Keyed(_) => Audience::Owner,
            _ => Audience::Everybody,
        };
        disk::write(&path, &file.to_toml(), audience, existing)?;
    }
    if options.json {
        let kind = shelf.directory().trim_end_matches('s');
        return print(show::imported(&name, kind, &contact, &path).as_bytes());
    }
    report(keyring, shelf, &name, &contact, &news)
}

fn shelf_of(file: &KeyFile) -> Option<Shelf> {
    match file {
        KeyFile::Public(_) => Some(Shelf::Contacts),
        KeyFile::Relay(_) => Some(Shelf::Relays),
        KeyFile::Keyed(keyed) => (keyed.kind == LocalKind::Group).then_some(Shelf::Groups),
    }
}

fn a_secret(source: &Path) -> Failure {
    let kind = KeyErrorKind::WrongKind {
        expected: "a public, group or relay key file",
        found: "a secret key file",
    };
    Failure::from(kind.at(source)).hint("whoever sent it gave their key away: they need a new one")
}

fn public_half(options: &Options, source: &Path, file: &KeyFile) -> Result<Contact, Failure> {
    match file {
        KeyFile::Public(contact) | KeyFile::Relay(contact) => Ok(contact.clone()),
        // Opened to be checked; filed as it came, behind its passphrase.
        KeyFile::Keyed(keyed) => {
            let mut passphrases = options.passphrase.source();
            Ok(unlock(source, keyed, &mut passphrases)?.contact())
        }
    }
}

/// From `--as`, else what the file suggests, else what the file is called.
fn petname(options: &Options, contact: &Contact, path: Option<&Path>) -> Result<String, Failure> {
    let suggested = || contact.hints.name.clone();
    let called = || path.and_then(name_of_file);
    options.petname.clone().or_else(suggested).or_else(called).ok_or_else(|| {
        Failure::new(Code::Usage, "the key file suggests no name").hint("give one with --as NAME")
    })
}

/// What a file changes in the keyring.
#[derive(PartialEq, Eq)]
enum News {
    /// The name is free, or `--force` was given.
    File,
    /// The same key with other hints; these were there before.
    Hints(Hints),
    /// It is filed just so already.
    None,
}

/// Never over another key, unless forced.
fn compare(
    options: &Options,
    path: &Path,
    file: &KeyFile,
    contact: &Contact,
) -> Result<News, Failure> {
    if options.force || path.symlink_metadata().is_err() {
        return Ok(News::File);
    }
    let before = disk::read(path)?;
    if *before.to_toml() == *file.to_toml() {
        return Ok(News::None);
    }
    let known = match before {
        KeyFile::Public(known) | KeyFile::Relay(known) => Some(known),
        KeyFile::Keyed(keyed) => keyed.contact(),
    };
    let same_public = known.as_ref().is_some_and(|known| known.public == contact.public);
    match known {
        Some(known) if known.same_key(contact) => Ok(News::Hints(known.hints)),
        _ => Err(Failure::from(KeyErrorKind::Exists.at(path)).hint(if same_public {
            "it is the same key with another access: ask them, and replace the old file with --force"
        } else {
            "it is another key: file it with --as NAME, or replace the old one with --force"
        })),
    }
}

fn report(
    keyring: &Keyring,
    shelf: Shelf,
    name: &str,
    contact: &Contact,
    news: &News,
) -> Result<(), Failure> {
    let said = match news {
        News::File => "filed",
        News::Hints(_) => "the same key, hints brought up to date",
        News::None => "the same key was filed already",
    };
    let place = format!("{}/{name}", shelf.directory());
    note(&format!("{PROGRAM}: {place}: {said}"));
    if shelf == Shelf::Contacts {
        let (contacts, _) = keyring.contacts()?;
        for (other, _) in contacts.iter().filter(|(n, c)| n != name && c.public == contact.public) {
            note(&format!("{PROGRAM}: {place}: this key is also filed as {other}"));
        }
    }
    print(format!("{}  {place}\n", fingerprint(&contact.public)).as_bytes())?;
    say_claims(keyring, shelf, &place, contact, news);
    if shelf == Shelf::Contacts && *news == News::File {
        note(&format!("hint: compare by phone that the key is theirs: {PROGRAM} --verify {name}"));
    }
    Ok(())
}

/// What the file claims, after what the one before it claimed.
fn say_claims(keyring: &Keyring, shelf: Shelf, place: &str, contact: &Contact, news: &News) {
    if let News::Hints(before) = news {
        claims::say(&format!("{place} before"), before, keyring);
    }
    claims::say(place, &contact.hints, keyring);
    if shelf == Shelf::Relays {
        note(&format!("{PROGRAM}: {place}: key and access: {}", party_number(contact)));
    }
}

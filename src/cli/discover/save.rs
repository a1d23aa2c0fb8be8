//! `--save`: files the keys of members who introduced themselves.
//!
//! Whoever is in the group may introduce any number of keys under any name, and says so itself. So
//! a key is filed under the group's name and a dot, never as somebody's bare name; what is there
//! stays, whatever it is; a key that is filed already is not filed again; and the user reads the
//! fingerprint to compare, and that the name is a claim.

use super::people::People;
use super::{Options, PROGRAM};
use crate::cli::failure::Failure;
use crate::cli::output::note;
use crate::crypto::sodium::{PublicKey, Secret};
use crate::discover::roster::{Entry, Id};
use crate::keys::disk::{self, Audience, Existing};
use crate::keys::names::petname;
use crate::keys::ring::Shelf;
use crate::keys::{Access, Contact, Hints, KeyErrorKind, KeyFile, Keyring, fingerprint};

/// Files who introduced itself, if that is asked for and it is news.
///
/// # Errors
/// When the file cannot be written.
pub fn file(options: &Options, people: &People, id: &Id, entry: &Entry) -> Result<(), Failure> {
    let Some(member) = entry.claim.as_ref().filter(|_| options.save) else {
        return Ok(());
    };
    let group = people.names.get(id.sought).map_or("", String::as_str);
    let keyring = Keyring::locate()?;
    if people.own == Some(member.public) || is_filed(&keyring, &member.public)? {
        return Ok(());
    }
    let name = name(group, &member.name, &member.public);
    let access = Access::from(Secret::duplicate_of(&member.access));
    let contact = Contact { public: member.public, access, hints: Hints::default() };
    let path = keyring.path_of(Shelf::Contacts, &name);
    if let Some(directory) = path.parent() {
        disk::make_directory(directory)?;
    }
    let text = KeyFile::Public(contact).to_toml();
    let digits = fingerprint(&member.public);
    match disk::write(&path, &text, Audience::Everybody, Existing::Keep) {
        Ok(()) => note(&format!(
            "{PROGRAM}: contacts/{name}: filed, and heard from now on; the name is what they say \
             (fingerprint {digits})\nhint: compare by phone that the key is theirs: ac-keygen \
             --verify {name}"
        )),
        Err(e) if e.kind == KeyErrorKind::Exists => note(&format!(
            "{PROGRAM}: contacts/{name}: not filed: another key has that name; somebody in \
             {group} uses it too (fingerprint {digits})"
        )),
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

fn is_filed(keyring: &Keyring, public: &PublicKey) -> Result<bool, Failure> {
    let (contacts, _) = keyring.contacts()?;
    Ok(contacts.iter().any(|(_, contact)| contact.public == *public))
}

/// `GROUP.NAME` if that is a petname, else two groups of the fingerprint for the name.
fn name(group: &str, claimed: &str, public: &PublicKey) -> String {
    let digits = fingerprint(public);
    let short = digits.split(' ').take(2).collect::<Vec<_>>().join("-");
    let claimed = Some(claimed).filter(|name| !name.is_empty());
    let as_claimed = claimed.and_then(|name| petname(&format!("{group}.{name}")).ok());
    let by_digits = || petname(&format!("{group}.{short}")).ok();
    as_claimed.or_else(by_digits).unwrap_or(short.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sodium::KeyPair;

    #[test]
    fn a_claimed_name_stands_behind_the_group_or_not_at_all() {
        let key = *KeyPair::generate().public();
        let digits = fingerprint(&key).replacen(' ', "-", 1);
        let short = digits.split(' ').next().unwrap_or_default();
        assert_eq!(name("team", "alice", &key), "team.alice");
        for bad in ["", "../../identity", "a/b", "a@b", "a\u{202e}b", "a b", "a:b", &"x".repeat(64)]
        {
            assert_eq!(name("team", bad, &key), format!("team.{short}"), "{bad:?}");
        }
        assert_eq!(name(&"g".repeat(64), "alice", &key), short);
    }
}

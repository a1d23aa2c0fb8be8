//! The keyring: a directory of key files whose names are the petnames. ac-keyfile(5), FILES.
//!
//! It is read file by file as it is asked for: a sender that names one contact opens one file.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::{KeyError, KeyErrorKind};
use super::file::{KeyFile, KeyedFile};
use super::names::{BadName, petname};
use super::passphrase::Passphrases;
use super::{Contact, LocalKey, LocalKind, disk};

/// A part of the keyring where files bear petnames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// `contacts/NAME.pub`
    Contacts,
    /// `groups/NAME.key`
    Groups,
    /// `relays/NAME.pub`
    Relays,
}

impl Shelf {
    /// Every shelf, in the order in which a listing shows them.
    pub const ALL: [Self; 3] = [Self::Contacts, Self::Groups, Self::Relays];

    /// The directory below the keyring.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Contacts => "contacts",
            Self::Groups => "groups",
            Self::Relays => "relays",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Contacts | Self::Relays => "pub",
            Self::Groups => "key",
        }
    }
}

/// A keyring, which need not exist yet.
#[derive(Debug, Clone)]
pub struct Keyring {
    root: PathBuf,
}

/// What `contacts/` looked like at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContactsStamp {
    /// Of the directory: names came or went.
    names: u64,
    /// Of every file in it.
    files: u64,
}

/// What a reading of a whole shelf gives: the good files by petname, and what is wrong with others.
pub type Listing<T> = (Vec<(String, T)>, Vec<KeyError>);

impl Keyring {
    /// `$AC_HOME`, else `$XDG_CONFIG_HOME/anonchat`, else `~/.config/anonchat`. Creates nothing.
    ///
    /// # Errors
    /// [`KeyErrorKind::NoHome`].
    pub fn locate() -> Result<Self, KeyError> {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(root) = variable("AC_HOME") {
            return Ok(Self::at(root));
        }
        // The XDG base directory specification has relative paths ignored.
        if let Some(config) = variable("XDG_CONFIG_HOME").filter(|p| p.is_absolute()) {
            return Ok(Self::at(config.join("anonchat")));
        }
        let home = variable("HOME").ok_or_else(|| KeyErrorKind::NoHome.at("keyring"))?;
        Ok(Self::at(home.join(".config/anonchat")))
    }

    /// The keyring in `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The keyring's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// My secret key file.
    pub fn identity_path(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// The secret key file of a relay that I run.
    pub fn relay_key_path(&self) -> PathBuf {
        self.root.join("relay.key")
    }

    /// What I give to people.
    pub fn identity_public_path(&self) -> PathBuf {
        self.root.join("identity.pub")
    }

    /// The file of `name` on `shelf`. `name` is a checked petname.
    pub fn path_of(&self, shelf: Shelf, name: &str) -> PathBuf {
        self.shelf_path(shelf).join(format!("{name}.{}", shelf.extension()))
    }

    fn shelf_path(&self, shelf: Shelf) -> PathBuf {
        self.root.join(shelf.directory())
    }

    /// My own key.
    ///
    /// # Errors
    /// [`KeyErrorKind::NoIdentity`], and everything that can be wrong with the file.
    pub fn identity(&self, passphrases: &mut dyn Passphrases) -> Result<LocalKey, KeyError> {
        let path = self.identity_path();
        match open_local(&path, passphrases) {
            Err(e) if e.kind == KeyErrorKind::Missing => Err(KeyErrorKind::NoIdentity.at(path)),
            result => result,
        }
    }

    /// The key of a relay that I run.
    ///
    /// # Errors
    /// Everything that can be wrong with the file; [`KeyErrorKind::Missing`] if there is none.
    pub fn relay_key(&self, passphrases: &mut dyn Passphrases) -> Result<LocalKey, KeyError> {
        let path = self.relay_key_path();
        let key = open_local(&path, passphrases)?;
        match key.kind {
            LocalKind::Identity => Ok(key),
            LocalKind::Group => Err(KeyErrorKind::WrongKind {
                expected: "a secret key file",
                found: "a group key file",
            }
            .at(path)),
        }
    }

    /// The public half of my own key, without a passphrase.
    ///
    /// # Errors
    /// As for [`Keyring::identity`].
    pub fn identity_contact(&self) -> Result<Contact, KeyError> {
        let path = self.identity_path();
        match disk::read(&path) {
            Ok(KeyFile::Keyed(keyed)) if keyed.half.is_some() => {
                keyed.contact().ok_or_else(|| KeyErrorKind::Mismatch.at(path))
            }
            Ok(other) => Err(wrong_kind("a secret key file", &other).at(path)),
            Err(e) if e.kind == KeyErrorKind::Missing => Err(KeyErrorKind::NoIdentity.at(path)),
            Err(e) => Err(e),
        }
    }

    /// The key that `-k KEY` names: a path when it has a `/`, else the group of that petname.
    ///
    /// # Errors
    /// [`KeyErrorKind::NoSuchName`], and everything that can be wrong with the file.
    pub fn local_key(
        &self,
        key: &str,
        passphrases: &mut dyn Passphrases,
    ) -> Result<LocalKey, KeyError> {
        if key.contains('/') {
            return open_local(Path::new(key), passphrases);
        }
        let name = checked(key)?;
        match open_local(&self.path_of(Shelf::Groups, &name), passphrases) {
            Err(e) if e.kind == KeyErrorKind::Missing => Err(KeyErrorKind::NoSuchName.at(name)),
            result => result,
        }
    }

    /// Whom a destination's NAME means: the petname to show, the key, and whether it is a group. A
    /// path when it has a `/`, else a contact, else a group.
    ///
    /// # Errors
    /// [`KeyErrorKind::NoSuchName`], and everything that can be wrong with the file.
    pub fn peer(
        &self,
        name: &str,
        passphrases: &mut dyn Passphrases,
    ) -> Result<(String, Contact, bool), KeyError> {
        if name.contains('/') {
            let path = Path::new(name);
            let (contact, is_group) = open_peer(path, passphrases)?;
            let shown = name_of_file(path).or_else(|| contact.hints.name.clone());
            return Ok((shown.unwrap_or_else(|| "peer".into()), contact, is_group));
        }
        let name = checked(name)?;
        for shelf in [Shelf::Contacts, Shelf::Groups] {
            match open_peer(&self.path_of(shelf, &name), passphrases) {
                Ok((contact, is_group)) => return Ok((name, contact, is_group)),
                Err(e) if e.kind == KeyErrorKind::Missing => {}
                Err(e) => return Err(e),
            }
        }
        Err(KeyErrorKind::NoSuchName.at(name))
    }

    /// The relay that `name` means: a path when it has a `/`, else the relay of that petname.
    ///
    /// # Errors
    /// [`KeyErrorKind::NoSuchRelay`], and everything that can be wrong with the file.
    pub fn relay(&self, name: &str) -> Result<(String, Contact), KeyError> {
        let (path, shown) = if name.contains('/') {
            let path = PathBuf::from(name);
            let shown = name_of_file(&path).unwrap_or_else(|| "relay".into());
            (path, shown)
        } else {
            let shown = checked(name)?;
            (self.path_of(Shelf::Relays, &shown), shown)
        };
        match disk::read(&path) {
            Ok(KeyFile::Relay(relay)) => Ok((shown, relay)),
            Ok(other) => Err(wrong_kind("a relay's public key file", &other).at(path)),
            Err(e) if e.kind == KeyErrorKind::Missing && !name.contains('/') => {
                Err(KeyErrorKind::NoSuchRelay.at(shown))
            }
            Err(e) => Err(e),
        }
    }

    /// Every contact by petname, sorted, and what is wrong with the files that are none.
    ///
    /// # Errors
    /// Only when `contacts/` itself cannot be read; that it is not there is no error.
    pub fn contacts(&self) -> Result<Listing<Contact>, KeyError> {
        let mut good = Vec::new();
        let (files, mut bad) = self.shelf(Shelf::Contacts)?;
        for (name, path) in files {
            match disk::read(&path) {
                Ok(KeyFile::Public(contact)) => good.push((name, contact)),
                Ok(other) => bad.push(wrong_kind("a public key file", &other).at(path)),
                // Removed since the directory was read.
                Err(e) if e.kind == KeyErrorKind::Missing => {}
                Err(e) => bad.push(e),
            }
        }
        Ok((good, bad))
    }

    /// The files of a shelf by petname, sorted, unread; and those whose name is no petname.
    /// Hidden files and other extensions are none of ours.
    ///
    /// # Errors
    /// When the directory cannot be read; that it is not there is no error.
    pub fn shelf(&self, shelf: Shelf) -> Result<Listing<PathBuf>, KeyError> {
        let directory = self.shelf_path(shelf);
        let unreadable = |e| disk::unreadable(e).at(&directory);
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(e) => return Err(unreadable(e)),
        };
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
            if hidden || path.extension().is_none_or(|e| e != shelf.extension()) {
                continue;
            }
            match path.file_stem().and_then(|stem| stem.to_str()).map(petname) {
                Some(Ok(name)) => good.push((name, path)),
                Some(Err(why)) => bad.push(KeyErrorKind::Name(why).at(path)),
                None => bad.push(KeyErrorKind::Name(BadName::NotText).at(path)),
            }
        }
        good.sort();
        Ok((good, bad))
    }

    /// What `contacts/` looks like now: take it before reading, compare it later.
    pub fn contacts_stamp(&self) -> ContactsStamp {
        let names = self.contacts_names_stamp();
        let Ok(entries) = std::fs::read_dir(self.shelf_path(Shelf::Contacts)) else {
            return ContactsStamp { names, files: 0 };
        };
        // A sum does not depend on the order in which the directory names its files.
        let files = entries.flatten().fold(1u64, |sum, entry| {
            let mut hash = DefaultHasher::new();
            entry.file_name().hash(&mut hash);
            if let Ok(m) = entry.metadata() {
                hash_state(&m, &mut hash);
            }
            sum.wrapping_add(hash.finish())
        });
        ContactsStamp { names, files }
    }

    fn contacts_names_stamp(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        match std::fs::metadata(self.shelf_path(Shelf::Contacts)) {
            Ok(m) => hash_state(&m, &mut hash),
            Err(_) => return 0,
        }
        hash.finish()
    }

    /// Whether a contact was added, renamed or removed since `stamp`: one `stat`.
    pub fn contacts_names_changed_since(&self, stamp: &ContactsStamp) -> bool {
        self.contacts_names_stamp() != stamp.names
    }

    /// Whether a contact was added, changed, renamed or removed since `stamp`: one directory read
    /// and one `stat` a file, none opened.
    pub fn contacts_changed_since(&self, stamp: &ContactsStamp) -> bool {
        self.contacts_stamp() != *stamp
    }
}

fn hash_state(m: &std::fs::Metadata, hash: &mut DefaultHasher) {
    (m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()).hash(hash);
}

/// The petname that a file's name gives, without its extension.
pub fn name_of_file(path: &Path) -> Option<String> {
    petname(path.file_stem()?.to_str()?).ok()
}

/// Opens a protected or plain secret; asks only if it must.
///
/// # Errors
/// What is wrong with the file or the passphrase.
pub fn unlock(
    path: &Path,
    keyed: &KeyedFile,
    passphrases: &mut dyn Passphrases,
) -> Result<LocalKey, KeyError> {
    let stored = keyed.unlock(|| passphrases.get(path, "passphrase")).map_err(|k| k.at(path))?;
    keyed.local_key(&stored).map_err(|kind| kind.at(path))
}

fn open_local(path: &Path, passphrases: &mut dyn Passphrases) -> Result<LocalKey, KeyError> {
    match disk::read(path)? {
        KeyFile::Keyed(keyed) => unlock(path, &keyed, passphrases),
        other => Err(wrong_kind("a secret or group key file", &other).at(path)),
    }
}

fn open_peer(path: &Path, passphrases: &mut dyn Passphrases) -> Result<(Contact, bool), KeyError> {
    match disk::read(path)? {
        KeyFile::Public(contact) => Ok((contact, false)),
        KeyFile::Keyed(keyed) if keyed.half.is_none() => {
            Ok((unlock(path, &keyed, passphrases)?.contact(), true))
        }
        other => Err(wrong_kind("a public or group key file", &other).at(path)),
    }
}

fn wrong_kind(expected: &'static str, found: &KeyFile) -> KeyErrorKind {
    KeyErrorKind::WrongKind { expected, found: found.describe() }
}

fn checked(name: &str) -> Result<String, KeyError> {
    petname(name).map_err(|why| KeyErrorKind::Name(why).at(name))
}

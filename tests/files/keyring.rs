//! The keyring finds keys by petname or path, survives broken files, and notices changes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anonchat::crypto::sodium::{KeyPair, Secret};
use anonchat::keys::disk::{self, Audience, Existing};
use anonchat::keys::protect::{Cost, Protection};
use anonchat::keys::{
    Access, Contact, Hints, KeyError, KeyErrorKind as Kind, KeyFile, KeyedFile, Keyring, LocalKind,
    Passphrase, Passphrases, group,
};
use tempfile::TempDir;

/// Answers every question the same way, and counts them.
struct Scripted(&'static str, usize);

impl Passphrases for Scripted {
    fn get(&mut self, _: &Path, _: &str) -> Result<Passphrase, String> {
        self.1 += 1;
        Ok(Passphrase::new(self.0.as_bytes())?)
    }
}

fn nobody() -> Scripted {
    Scripted("", 0)
}

fn contact(seed: u8) -> Contact {
    let pair = KeyPair::from_secret(Secret::from_slice(&[seed; 32]).unwrap());
    let access = Access::from(Secret::from_slice(&[!seed; 32]).unwrap());
    Contact { public: *pair.public(), access, hints: Hints::default() }
}

fn group_file(passphrase: Option<&str>) -> KeyFile {
    let g = Secret::from_slice(&[42; 32]).unwrap();
    let file = KeyedFile::group(g.duplicate(), Hints::default());
    let passphrase = passphrase.map(|p| Passphrase::new(p.as_bytes()).unwrap());
    let protection = Protection::random(Cost { ops: 1, mem_kib: 64 });
    let sealed = passphrase.as_ref().map(|p| (p, protection));
    KeyFile::Keyed(file.protected(g, sealed).unwrap_or_else(|e| panic!("{e}")))
}

fn put(home: &TempDir, name: &str, file: &KeyFile) {
    let path = home.path().join(name);
    disk::make_directory(path.parent().unwrap()).unwrap();
    disk::write(&path, &file.to_toml(), Audience::Owner, Existing::Replace).unwrap();
}

fn ring(home: &TempDir) -> Keyring {
    Keyring::at(home.path())
}

fn error<T>(result: Result<T, KeyError>) -> Kind {
    match result {
        Ok(_) => panic!("no error"),
        Err(e) => e.kind,
    }
}

#[test]
fn a_peer_is_a_contact_before_it_is_a_group() {
    let home = tempfile::tempdir().unwrap();
    put(&home, "contacts/bob.pub", &KeyFile::Public(contact(1)));
    put(&home, "groups/bob.key", &group_file(None));
    put(&home, "groups/team.key", &group_file(None));
    let (name, bob, is_group) =
        ring(&home).peer("bob", &mut nobody()).unwrap_or_else(|e| panic!("{e}"));
    assert!(name == "bob" && bob == contact(1) && !is_group);
    let (name, team, is_group) =
        ring(&home).peer("team", &mut nobody()).unwrap_or_else(|e| panic!("{e}"));
    let expected = group::local_key(&Secret::from_slice(&[42; 32]).unwrap(), Hints::default());
    assert!(name == "team" && team == expected.contact() && is_group);
    assert_eq!(error(ring(&home).peer("carol", &mut nobody())), Kind::NoSuchName);
    assert!(matches!(error(ring(&home).peer("a@b", &mut nobody())), Kind::Name(_)));
}

#[test]
fn a_name_with_a_slash_is_a_path() {
    let home = tempfile::tempdir().unwrap();
    put(&home, "mail/bob.pub", &KeyFile::Public(contact(1)));
    let path = home.path().join("mail/bob.pub");
    let (name, bob, _) =
        ring(&home).peer(path.to_str().unwrap(), &mut nobody()).unwrap_or_else(|e| panic!("{e}"));
    assert!(name == "bob" && bob == contact(1));
    let key = ring(&home).local_key(path.to_str().unwrap(), &mut nobody());
    assert!(matches!(error(key), Kind::WrongKind { .. }));
}

#[test]
fn a_protected_group_asks_for_its_passphrase_once() {
    let home = tempfile::tempdir().unwrap();
    put(&home, "groups/team.key", &group_file(Some("open sesame")));
    let mut right = Scripted("open sesame", 0);
    let key = ring(&home).local_key("team", &mut right).unwrap_or_else(|e| panic!("{e}"));
    assert!(key.kind == LocalKind::Group && right.1 == 1);
    let mut wrong = Scripted("open says me", 0);
    assert_eq!(error(ring(&home).local_key("team", &mut wrong)), Kind::WrongPassphrase);
    let (_, team, _) = ring(&home).peer("team", &mut right).unwrap_or_else(|e| panic!("{e}"));
    assert!(team == key.contact());
}

#[test]
fn one_broken_contact_does_not_hide_the_others() {
    let home = tempfile::tempdir().unwrap();
    for (name, seed) in [("zoe", 3), ("bob", 1), ("čeněk", 2)] {
        put(&home, &format!("contacts/{name}.pub"), &KeyFile::Public(contact(seed)));
    }
    put(&home, "contacts/team.pub", &group_file(None));
    fs::write(home.path().join("contacts/cut.pub"), "format = \"anon").unwrap();
    fs::write(home.path().join("contacts/notes.txt"), "not a key").unwrap();
    fs::create_dir(home.path().join("contacts/dir.pub")).unwrap();
    let (good, mut bad) = ring(&home).contacts().unwrap();
    let names: Vec<&str> = good.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["bob", "zoe", "čeněk"]);
    bad.sort_by(|a, b| a.path.cmp(&b.path));
    let bad: Vec<_> = bad.iter().map(|e| e.path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(bad, ["cut.pub", "dir.pub", "team.pub"]);
}

#[test]
fn an_empty_or_missing_keyring_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let ring = Keyring::at(home.path().join("none"));
    let (good, bad) = ring.contacts().unwrap();
    assert!(good.is_empty() && bad.is_empty());
    assert_eq!(error(ring.identity(&mut nobody())), Kind::NoIdentity);
    assert!(!ring.root().exists());
}

#[test]
fn every_change_among_the_contacts_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let ring = ring(&home);
    let changes: [(&str, &dyn Fn()); 6] = [
        ("the first contact", &|| put(&home, "contacts/a.pub", &KeyFile::Public(contact(1)))),
        ("another", &|| put(&home, "contacts/b.pub", &KeyFile::Public(contact(2)))),
        ("replaced", &|| put(&home, "contacts/b.pub", &KeyFile::Public(contact(3)))),
        ("renamed", &|| {
            let path = |name| home.path().join("contacts").join(name);
            fs::rename(path("b.pub"), path("c.pub")).unwrap();
        }),
        ("edited in place", &|| {
            use std::io::Write as _;
            let path = home.path().join("contacts/c.pub");
            let mut file = fs::File::options().append(true).open(path).unwrap();
            file.write_all(b"# a friend\n").unwrap();
        }),
        ("removed", &|| fs::remove_file(home.path().join("contacts/a.pub")).unwrap()),
    ];
    for (what, change) in changes {
        let stamp = ring.contacts_stamp();
        assert!(!ring.contacts_changed_since(&stamp), "before: {what}");
        change();
        assert!(ring.contacts_changed_since(&stamp), "{what}");
    }
}

#[test]
fn the_keyring_is_where_the_environment_says() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let listed = |variables: &[(&str, &Path)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ac-keygen"));
        command.arg("-l").env_clear().envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        text.rsplit("contacts/").next().unwrap().trim_end().to_owned()
    };
    for (root, name) in [("ac", "a"), ("xdg/anonchat", "x"), ("home/.config/anonchat", "h")] {
        put(&home, &format!("{root}/contacts/{name}.pub"), &KeyFile::Public(contact(1)));
    }
    let (ac, xdg, own, empty) = (at("ac"), at("xdg"), at("home"), Path::new(""));
    assert_eq!(listed(&[("AC_HOME", &ac), ("XDG_CONFIG_HOME", &xdg), ("HOME", &own)]), "a");
    assert_eq!(listed(&[("AC_HOME", empty), ("XDG_CONFIG_HOME", &xdg), ("HOME", &own)]), "x");
    assert_eq!(listed(&[("XDG_CONFIG_HOME", Path::new("rel")), ("HOME", &own)]), "h");
    assert_eq!(listed(&[("XDG_CONFIG_HOME", empty), ("HOME", &own)]), "h");
    assert!(listed(&[]).contains("no home directory to keep keys in"));
}

#[test]
fn a_written_key_file_never_takes_anothers_place() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.key");
    disk::write(&path, b"one", Audience::Owner, Existing::Keep).unwrap();
    let second = disk::write(&path, b"two", Audience::Owner, Existing::Keep);
    assert_eq!(error(second), Kind::Exists);
    assert_eq!(fs::read(&path).unwrap(), b"one");
    disk::write(&path, b"three", Audience::Owner, Existing::Replace).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"three");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing temporary is left");
}

#[test]
fn of_many_writers_exactly_one_wins() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.key");
    let write = |n: u8| disk::write(&path, &[n; 100], Audience::Owner, Existing::Keep).is_ok();
    let won = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let write = &write;
                scope.spawn(move || write(n))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
    let text = fs::read(&path).unwrap();
    assert!(text.len() == 100 && text.iter().all(|b| *b == text[0]));
}

//! What can be wrong with a key file, one kind a rule.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::crypto::sodium::BadPublicKey;

use super::disk::MAX_FILE_LEN;
use super::hints::{BadAddress, MAX_ADDRESSES};
use super::line::BadLine;
use super::names::{BadName, excerpt, harmless};
use super::protect::{KDF, MAX_MEM_KIB, MAX_OPS, MIN_MEM_KIB};

/// A key file, or a name that stands for one, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError {
    /// The file, or the name that was asked for.
    pub path: PathBuf,
    /// What is wrong.
    pub kind: KeyErrorKind,
}

/// What is wrong with a key file. Fields are named as in ac-keyfile(5), `relay.public` being
/// `public` in the table `relay`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // Each says itself in Display, below.
pub enum KeyErrorKind {
    NoHome,
    NoIdentity,
    NoSuchName,
    NoSuchRelay,
    Missing,
    CannotRead(String),
    NoResources(String),
    CannotWrite(String),
    Exists,
    SymbolicLink,
    NotAFile(&'static str),
    TooOpen(u32),
    NotMine(u32),
    TooLarge,
    NotText,
    Syntax(String),
    MissingField(&'static str),
    UnknownField(String),
    WrongType { field: &'static str, expected: &'static str },
    UnknownFormat(String),
    UnknownVersion,
    Base64(&'static str),
    Length { field: &'static str, expected: usize },
    PublicKey(BadPublicKey),
    Name(BadName),
    Address(BadAddress),
    TooManyAddresses,
    Mismatch,
    UnknownKdf,
    Ops,
    Memory,
    Line(BadLine),
    NoPassphrase(String),
    WrongPassphrase,
    OutOfMemory,
    WrongKind { expected: &'static str, found: &'static str },
}

impl KeyErrorKind {
    /// Says which file it is about.
    pub fn at(self, path: impl AsRef<Path>) -> KeyError {
        KeyError { path: path.as_ref().into(), kind: self }
    }
}

impl fmt::Display for KeyErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHome => f.write_str("no home directory to keep keys in"),
            Self::NoIdentity => f.write_str("there is no identity yet"),
            Self::NoSuchName => f.write_str("no contact or group of that name"),
            Self::NoSuchRelay => f.write_str("no relay of that name"),
            Self::Missing => f.write_str("no such file"),
            Self::CannotRead(why) | Self::NoResources(why) => write!(f, "cannot read it: {why}"),
            Self::CannotWrite(why) => write!(f, "cannot write it: {why}"),
            Self::Exists => f.write_str("exists already, and is not overwritten"),
            Self::SymbolicLink => f.write_str("is a symbolic link, not a key file"),
            Self::NotAFile(what) => write!(f, "is {what}, not a key file"),
            Self::TooOpen(mode) => {
                write!(f, "mode {:04o} lets others at the secret key", mode & 0o7777)
            }
            Self::NotMine(owner) => write!(f, "belongs to user {owner}, not to you"),
            Self::TooLarge => write!(f, "is larger than {} KiB", MAX_FILE_LEN / 1024),
            Self::NotText => f.write_str("is not UTF-8 text"),
            Self::Syntax(why) => write!(f, "is no key file: {}", excerpt(why)),
            Self::MissingField(field) => write!(f, "field '{field}' is missing"),
            Self::UnknownField(field) => write!(f, "unknown field '{}'", excerpt(field)),
            Self::WrongType { field, expected } => write!(f, "field '{field}' is not {expected}"),
            Self::UnknownFormat(format) => write!(f, "unknown format '{}'", excerpt(format)),
            Self::UnknownVersion => f.write_str("unknown version; this program knows version 1"),
            Self::Base64(field) => write!(f, "field '{field}' is not base64"),
            Self::Length { field, expected } => {
                write!(f, "field '{field}' is not {expected} bytes long")
            }
            Self::PublicKey(why) => why.fmt(f),
            Self::Name(why) => why.fmt(f),
            Self::Address(why) => why.fmt(f),
            Self::TooManyAddresses => write!(f, "more than {MAX_ADDRESSES} addresses"),
            Self::Mismatch => f.write_str("the public key does not belong to the secret key"),
            Self::UnknownKdf => write!(f, "unknown kdf; this program knows {KDF}"),
            Self::Ops => write!(f, "field 'protection.ops' is not from 1 to {MAX_OPS}"),
            Self::Memory => {
                write!(f, "field 'protection.mem_kib' is not from {MIN_MEM_KIB} to {MAX_MEM_KIB}")
            }
            Self::Line(why) => why.fmt(f),
            Self::NoPassphrase(why) => write!(f, "needs a passphrase: {}", harmless(why)),
            Self::WrongPassphrase => f.write_str("wrong passphrase, or the file was changed"),
            Self::OutOfMemory => f.write_str("not enough memory to stretch the passphrase"),
            Self::WrongKind { expected, found } => write!(f, "is {found}, not {expected}"),
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.shown(), self.kind)
    }
}

impl std::error::Error for KeyError {}

impl KeyError {
    fn shown(&self) -> String {
        harmless(&self.path.to_string_lossy())
    }

    /// What the user can do about it, without the word `hint:`.
    pub fn hint(&self) -> Option<String> {
        let path = self.shown();
        match &self.kind {
            KeyErrorKind::NoHome => Some("set AC_HOME to a directory of yours".into()),
            KeyErrorKind::NoIdentity => Some("make one: ac-keygen".into()),
            KeyErrorKind::NoSuchName => {
                Some(format!("file their public key: ac-keygen --import FILE --as {path}"))
            }
            KeyErrorKind::NoSuchRelay => {
                Some(format!("file the relay's key: ac-keygen --import FILE --as {path}"))
            }
            KeyErrorKind::Exists => Some("--force replaces it, -o FILE writes elsewhere".into()),
            KeyErrorKind::SymbolicLink => Some("name the file itself".into()),
            KeyErrorKind::TooOpen(_) => Some(format!("chmod 600 {path}")),
            KeyErrorKind::NoPassphrase(_) => {
                Some("without a terminal, use --passphrase-fd or --passphrase-file".into())
            }
            KeyErrorKind::Line(_) => Some("copy the whole line, from ac1 to its end".into()),
            _ => None,
        }
    }
}

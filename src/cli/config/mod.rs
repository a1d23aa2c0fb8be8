//! `config.toml` in the keyring: defaults for options. ac-config(5).
//!
//! [`Config::parse`] is pure; `disk` reads the file without trusting where it lies; `known` are the
//! keys that mean something, and what a mistyped one was probably meant to be.

mod disk;
mod known;

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::known::{LIMITS, TOP};
use super::failure::{Code, Failure};
use super::units::{self, MaybeRate};
use crate::keys::names::{excerpt, petname};
use crate::keys::{Keyring, check_address};

/// The file's name in the keyring.
pub const FILE_NAME: &str = "config.toml";
/// The most relays that it may name.
pub const MAX_RELAYS: usize = 8;
/// Largest file, in bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// What the user wants by default; an option on the command line wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where ac-listen listens without an operand.
    pub port: Option<u16>,
    /// Relays as `--via` takes them: where ac-listen is reached without an operand, and by which
    /// ac-send looks for a name of which nothing else says where it is.
    pub relay: Vec<String>,
    /// Of `-d`: begins with `/` or `~/`.
    pub inbox: Option<String>,
    /// Whether ac-send looks for names on the local network, too.
    pub lan: bool,
    /// The table `limits`.
    pub limits: LimitDefaults,
}

/// How much one caller may have, and how long a session may be silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitDefaults {
    /// Of `--max-clients`.
    pub max_clients: Option<u32>,
    /// Of `--max-per-contact`.
    pub max_per_contact: Option<u32>,
    /// Of `--max-per-address`.
    pub max_per_address: Option<u32>,
    /// Of `--rate`.
    pub rate: Option<MaybeRate>,
    /// A session may be silent this long. Not all of `-w`: a listener goes on.
    pub silence: Option<Duration>,
    /// Of `--max-file`, in bytes.
    pub max_file: Option<u64>,
    /// Of `--max-total`, in bytes.
    pub max_total: Option<u64>,
    /// Of `--reserve`, in bytes.
    pub reserve: Option<u64>,
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The line, from 1.
    pub line: usize,
    /// One line, lower case.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A table whose keys are still to be taken.
struct Table<'i> {
    text: &'i str,
    /// What stands before its keys in messages.
    prefix: &'static str,
    known: &'static [&'static str],
    fields: DeTable<'i>,
}

impl Config {
    /// The configuration of a keyring; one without a file has no wishes.
    ///
    /// # Errors
    /// [`Code::Usage`] for a file that is not in order, [`Code::Local`] for one that cannot be read.
    pub fn load(keyring: &Keyring) -> Result<Self, Failure> {
        let path = keyring.root().join(FILE_NAME);
        let Some(text) = disk::read(&path)? else { return Ok(Self::default()) };
        Self::parse(&text).map_err(|wrong| {
            let place = format!("{}:{}", disk::shown(&path), wrong.line);
            let failure = Failure::new(Code::Usage, wrong.what).about(place);
            match wrong.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let fields = DeTable::parse(text).map_err(|e| {
            let span = e.span().unwrap_or_default();
            wrong(text, &span, format!("is not TOML: {}", excerpt(e.message())))
        })?;
        let mut top = Table { text, prefix: "", known: TOP, fields: fields.into_inner() };
        let port = top.number("port", 1..=u32::from(u16::MAX))?;
        let port = port.and_then(|port| u16::try_from(port).ok());
        let relay = top.words("relay", MAX_RELAYS, relay)?;
        let inbox = top.word("inbox", directory)?;
        let lan = top.switch("lan")?.unwrap_or(false);
        let limits = match top.table("limits", "limits.", LIMITS)? {
            Some(table) => LimitDefaults::take(table)?,
            None => LimitDefaults::default(),
        };
        top.finish()?;
        Ok(Self { port, relay, inbox, lan, limits })
    }
}

impl LimitDefaults {
    fn take(mut table: Table<'_>) -> Result<Self, Wrong> {
        let limits = Self {
            max_clients: table.number("max-clients", 1..=u32::MAX)?,
            max_per_contact: table.number("max-per-contact", 0..=u32::MAX)?,
            max_per_address: table.number("max-per-address", 0..=u32::MAX)?,
            rate: table.word("rate", units::rate)?,
            silence: table.word("silence", units::duration)?,
            max_file: table.word("max-file", units::size)?,
            max_total: table.word("max-total", units::size)?,
            reserve: table.word("reserve", units::size)?,
        };
        table.finish()?;
        Ok(limits)
    }
}

impl<'i> Table<'i> {
    fn take(&mut self, key: &'static str) -> Option<(Range<usize>, DeValue<'i>)> {
        debug_assert!(self.known.contains(&key));
        let value = self.fields.remove(key)?;
        Some((value.span(), value.into_inner()))
    }

    fn wrong(&self, span: &Range<usize>, key: &str, why: &str) -> Wrong {
        wrong(self.text, span, format!("{}{key}: {why}", self.prefix))
    }

    fn number(
        &mut self,
        key: &'static str,
        allowed: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<u32>, Wrong> {
        let Some((span, value)) = self.take(key) else { return Ok(None) };
        let number = match &value {
            DeValue::Integer(n) => u32::from_str_radix(n.as_str(), n.radix()).ok(),
            _ => return Err(self.wrong(&span, key, "is not a whole number")),
        };
        let (least, most) = (allowed.start(), allowed.end());
        let why = || format!("must be from {least} to {most}");
        let number = number.filter(|n| allowed.contains(n));
        number.map(Some).ok_or_else(|| self.wrong(&span, key, &why()))
    }

    fn switch(&mut self, key: &'static str) -> Result<Option<bool>, Wrong> {
        match self.take(key) {
            None => Ok(None),
            Some((_, DeValue::Boolean(on))) => Ok(Some(on)),
            Some((span, _)) => Err(self.wrong(&span, key, "is neither true nor false")),
        }
    }

    /// A string as the option of that name takes it. A number without a unit needs no quotes.
    fn word<T>(
        &mut self,
        key: &'static str,
        read: fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Wrong> {
        let Some((span, value)) = self.take(key) else { return Ok(None) };
        let read = match &value {
            DeValue::String(text) => read(text),
            DeValue::Integer(n) if n.radix() == 10 => read(n.as_str()),
            _ => Err("is not a string".into()),
        };
        read.map(Some).map_err(|why| self.wrong(&span, key, &excerpt(&why)))
    }

    /// One string or an array of them.
    fn words<T>(
        &mut self,
        key: &'static str,
        most: usize,
        read: fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Wrong> {
        let Some((span, value)) = self.take(key) else { return Ok(Vec::new()) };
        let one = |value: &DeValue<'_>| match value {
            DeValue::String(text) => read(text),
            _ => Err("is neither a string nor an array of strings".into()),
        };
        match &value {
            DeValue::Array(items) if items.len() > most => {
                Err(self.wrong(&span, key, &format!("has more than {most} entries")))
            }
            DeValue::Array(items) => items
                .iter()
                .map(|item| {
                    one(item.get_ref()).map_err(|why| self.wrong(&item.span(), key, &excerpt(&why)))
                })
                .collect(),
            other => match one(other) {
                Ok(word) => Ok(vec![word]),
                Err(why) => Err(self.wrong(&span, key, &excerpt(&why))),
            },
        }
    }

    fn table(
        &mut self,
        key: &'static str,
        prefix: &'static str,
        known: &'static [&'static str],
    ) -> Result<Option<Table<'i>>, Wrong> {
        match self.take(key) {
            None => Ok(None),
            Some((_, DeValue::Table(fields))) => {
                Ok(Some(Table { text: self.text, prefix, known, fields }))
            }
            Some((span, _)) => Err(self.wrong(&span, key, "is not a table")),
        }
    }

    /// Nothing may be left; of several keys the first in the file is named.
    fn finish(self) -> Result<(), Wrong> {
        let keys = self.fields.iter().map(|(key, _)| (key.span(), Spanned::get_ref(key)));
        let Some((span, key)) = keys.min_by_key(|(span, _)| span.start) else { return Ok(()) };
        let what = format!("unknown key '{}{}'", self.prefix, excerpt(key));
        let hint = Some(known::hint(key, self.prefix, self.known));
        Err(Wrong { hint, ..wrong(self.text, &span, what) })
    }
}

/// A directory that is the same wherever a program is started.
fn directory(text: &str) -> Result<String, String> {
    if text.starts_with('/') || text.starts_with("~/") {
        Ok(text.to_owned())
    } else {
        Err("must begin with / or ~/".into())
    }
}

/// A relay that is the same wherever a program is started: its petname, or the whole path of its key
/// file, either with `@HOST:PORT`.
fn relay(text: &str) -> Result<String, String> {
    let (name, address) = match text.rsplit_once('@').filter(|(_, a)| !a.contains('/')) {
        Some((name, address)) => (name, Some(address)),
        None => (text, None),
    };
    if let Some(address) = address {
        check_address(address).map_err(|why| why.to_string())?;
    }
    match name.contains('/') {
        true if name.starts_with('/') => Ok(text.to_owned()),
        true => Err("must be a petname, or a path that begins with /".into()),
        false => petname(name).map(|_| text.to_owned()).map_err(|why| why.to_string()),
    }
}

fn wrong(text: &str, span: &Range<usize>, what: String) -> Wrong {
    let before = text.as_bytes().get(..span.start).unwrap_or_default();
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    Wrong { line, what, hint: None }
}

//! The content of a key file: TOML in, checked values out. ac-keyfile(5).
//!
//! Every rule has its own [`KeyErrorKind`], and tests/proto/keyfile_corpus.rs a file that breaks it.
//! Writing is in `render.rs`; what it writes parses to the same and is written the same again.

use crate::crypto::sodium::{KeyPair, PublicKey, Secret};

use super::disk::MAX_FILE_LEN;
use super::error::KeyErrorKind;
use super::hints::{Hints, MAX_ADDRESSES, RelayHint, check_address};
use super::names::petname;
use super::passphrase::Passphrase;
use super::protect::{
    Cost, Header, KDF, MAX_MEM_KIB, MAX_OPS, MIN_MEM_KIB, Protection, SEALED_LEN,
};
use super::toml_fields::{Fields, TableOrText};
use super::{Access, Contact, LocalKey, LocalKind, group, line};

/// The only version of every format.
pub const VERSION: u8 = 1;
/// `format` of a public key file.
pub const PUBLIC: &str = "anonchat-public";
/// `format` of a relay's public key file.
pub const RELAY: &str = "anonchat-relay";
/// `format` of a secret key file.
pub const SECRET: &str = "anonchat-secret";
/// `format` of a group key file.
pub const GROUP: &str = "anonchat-group";

/// What a key file holds.
pub enum KeyFile {
    /// Somebody to reach.
    Public(Contact),
    /// A relay; its hints have no relay of their own.
    Relay(Contact),
    /// A key to act as, perhaps behind a passphrase.
    Keyed(KeyedFile),
}

/// A secret or group key file, perhaps behind a passphrase.
pub struct KeyedFile {
    /// Says which secret it is: a person's `sk`, or a group's `g`.
    pub kind: LocalKind,
    /// What it says about its holder.
    pub hints: Hints,
    /// The public half that stands beside a person's secret; a group's is derived.
    pub(super) half: Option<(PublicKey, Access)>,
    pub(super) content: Content,
}

/// The secret itself, or sealed.
pub(super) enum Content {
    Plain(Secret<32>),
    Sealed(Protection, [u8; SEALED_LEN]),
}

impl KeyFile {
    /// Reads a key file in either form: TOML, or one `ac1…` line.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyErrorKind> {
        if bytes.len() > MAX_FILE_LEN {
            return Err(KeyErrorKind::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| KeyErrorKind::NotText)?;
        if line::looks_like_one(text) { line::parse(text) } else { parse_toml(text) }
    }

    /// What the file is, with its article.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Public(_) => "a public key file",
            Self::Relay(_) => "a relay's public key file",
            Self::Keyed(KeyedFile { kind: LocalKind::Identity, .. }) => "a secret key file",
            Self::Keyed(KeyedFile { kind: LocalKind::Group, .. }) => "a group key file",
        }
    }
}

fn parse_toml(text: &str) -> Result<KeyFile, KeyErrorKind> {
    let mut fields = Fields::parse(text)?;
    let format = fields.text("format")?;
    if ![PUBLIC, RELAY, SECRET, GROUP].contains(&format.as_str()) {
        return Err(KeyErrorKind::UnknownFormat(format));
    }
    if fields.number("version")? != u32::from(VERSION) {
        return Err(KeyErrorKind::UnknownVersion);
    }
    let file = match format.as_str() {
        SECRET => KeyFile::Keyed(parse_keyed(&mut fields, LocalKind::Identity)?),
        GROUP => KeyFile::Keyed(parse_keyed(&mut fields, LocalKind::Group)?),
        RELAY => KeyFile::Relay(parse_contact(&mut fields, false)?),
        _ => KeyFile::Public(parse_contact(&mut fields, true)?),
    };
    fields.finish()?;
    Ok(file)
}

fn parse_contact(fields: &mut Fields<'_>, has_relay: bool) -> Result<Contact, KeyErrorKind> {
    let public = fields.bytes("public")?;
    let public = PublicKey::from_bytes(&public).map_err(KeyErrorKind::PublicKey)?;
    let access = fields.secret("access")?.into();
    Ok(Contact { public, access, hints: parse_hints(fields, has_relay)? })
}

/// A relay's own file has no `relay`: one relay does not send on to another by itself.
fn parse_hints(fields: &mut Fields<'_>, has_relay: bool) -> Result<Hints, KeyErrorKind> {
    let name = fields.optional_text("name")?;
    let address = fields.texts("address")?;
    let relay = match has_relay.then(|| fields.table_or_text("relay")).transpose()?.flatten() {
        None => None,
        Some(TableOrText::Text(name)) => Some(RelayHint::Name(name)),
        Some(TableOrText::Table(table)) => Some(parse_relay_table(table)?),
    };
    Hints { name, address, relay }.checked()
}

fn parse_relay_table(mut table: Fields<'_>) -> Result<RelayHint, KeyErrorKind> {
    let public = table.bytes("relay.public")?;
    let public = PublicKey::from_bytes(&public).map_err(KeyErrorKind::PublicKey)?;
    let access = table.secret("relay.access")?.into();
    let address = table.texts("relay.address")?;
    table.finish()?;
    let hints = Hints { address, ..Hints::default() };
    Ok(RelayHint::Inline(Box::new(Contact { public, access, hints })))
}

impl Hints {
    /// Checks every bound and rule, of the relay's addresses too; names come out in NFC.
    ///
    /// # Errors
    /// [`KeyErrorKind::Name`], [`KeyErrorKind::Address`], [`KeyErrorKind::TooManyAddresses`].
    pub fn checked(mut self) -> Result<Self, KeyErrorKind> {
        let petname = |name: &str| petname(name).map_err(KeyErrorKind::Name);
        self.name = self.name.as_deref().map(petname).transpose()?;
        check_addresses(&self.address)?;
        match &mut self.relay {
            Some(RelayHint::Name(name)) => *name = petname(name)?,
            Some(RelayHint::Inline(relay)) => check_addresses(&relay.hints.address)?,
            None => {}
        }
        Ok(self)
    }
}

fn check_addresses(list: &[String]) -> Result<(), KeyErrorKind> {
    if list.len() > MAX_ADDRESSES {
        return Err(KeyErrorKind::TooManyAddresses);
    }
    list.iter().try_for_each(|a| check_address(a)).map_err(KeyErrorKind::Address)
}

fn parse_keyed(fields: &mut Fields<'_>, kind: LocalKind) -> Result<KeyedFile, KeyErrorKind> {
    let (half, hints, secret_field) = match kind {
        LocalKind::Identity => {
            let Contact { public, access, hints } = parse_contact(fields, true)?;
            (Some((public, access)), hints, "secret")
        }
        LocalKind::Group => (None, parse_hints(fields, true)?, "group"),
    };
    let content = match parse_protection(fields)? {
        Some(protection) => Content::Sealed(protection, fields.bytes(secret_field)?),
        None => Content::Plain(fields.secret(secret_field)?),
    };
    let file = KeyedFile { kind, hints, half, content };
    if let Content::Plain(secret) = &file.content {
        file.local_key(secret)?;
    }
    Ok(file)
}

fn parse_protection(fields: &mut Fields<'_>) -> Result<Option<Protection>, KeyErrorKind> {
    let mut table = match fields.table_or_text("protection")? {
        None => return Ok(None),
        Some(TableOrText::Table(table)) => table,
        Some(TableOrText::Text(_)) => {
            return Err(KeyErrorKind::WrongType { field: "protection", expected: "a table" });
        }
    };
    if table.text("protection.kdf")? != KDF {
        return Err(KeyErrorKind::UnknownKdf);
    }
    let ops = table.number("protection.ops")?;
    if !(1..=MAX_OPS).contains(&ops) {
        return Err(KeyErrorKind::Ops);
    }
    let mem_kib = table.number("protection.mem_kib")?;
    if !(MIN_MEM_KIB..=MAX_MEM_KIB).contains(&mem_kib) {
        return Err(KeyErrorKind::Memory);
    }
    let salt = table.bytes("protection.salt")?;
    let nonce = table.bytes("protection.nonce")?;
    table.finish()?;
    Ok(Some(Protection { cost: Cost { ops, mem_kib }, salt, nonce }))
}

impl KeyedFile {
    /// The file of a person's or a relay's key, without a passphrase.
    pub fn identity(pair: &KeyPair, access: Access, hints: Hints) -> Self {
        Self {
            kind: LocalKind::Identity,
            hints,
            half: Some((*pair.public(), access)),
            content: Content::Plain(pair.secret().duplicate()),
        }
    }

    /// The file of a group, from its 32 bytes `g`, without a passphrase.
    pub fn group(g: Secret<32>, hints: Hints) -> Self {
        Self { kind: LocalKind::Group, hints, half: None, content: Content::Plain(g) }
    }

    /// Whether a passphrase is needed.
    pub fn is_protected(&self) -> bool {
        matches!(self.content, Content::Sealed(..))
    }

    /// The public half, if it can be told without a passphrase. Of a protected file it is what
    /// stands there in clear, proven only once the file is opened.
    pub fn contact(&self) -> Option<Contact> {
        match (&self.half, &self.content) {
            (Some((public, access)), _) => {
                Some(Contact { public: *public, access: access.clone(), hints: self.hints.clone() })
            }
            (None, Content::Plain(g)) => Some(group::local_key(g, self.hints.clone()).contact()),
            (None, Content::Sealed(..)) => None,
        }
    }

    /// The stored secret: a person's `sk`, or a group's `g`. Calls `ask` only if the file is
    /// protected.
    ///
    /// # Errors
    /// What `ask` says; [`KeyErrorKind::WrongPassphrase`].
    pub fn unlock(
        &self,
        ask: impl FnOnce() -> Result<Passphrase, String>,
    ) -> Result<Secret<32>, KeyErrorKind> {
        match &self.content {
            Content::Plain(secret) => Ok(secret.duplicate()),
            Content::Sealed(protection, sealed) => {
                let passphrase = ask().map_err(KeyErrorKind::NoPassphrase)?;
                protection.open(&self.header(), &passphrase, sealed)
            }
        }
    }

    /// The key to act as, from what [`KeyedFile::unlock`] gave.
    ///
    /// # Errors
    /// [`KeyErrorKind::Mismatch`].
    pub fn local_key(&self, stored: &Secret<32>) -> Result<LocalKey, KeyErrorKind> {
        let Some((public, access)) = &self.half else {
            return Ok(group::local_key(stored, self.hints.clone()));
        };
        let pair = KeyPair::from_secret(stored.duplicate());
        if pair.public() != public {
            return Err(KeyErrorKind::Mismatch);
        }
        let (access, hints) = (access.clone(), self.hints.clone());
        Ok(LocalKey { pair, access, hints, kind: LocalKind::Identity })
    }

    /// The same file with `stored` behind `passphrase`, or in clear without one.
    ///
    /// # Errors
    /// [`KeyErrorKind::OutOfMemory`].
    pub fn protected(
        mut self,
        stored: Secret<32>,
        passphrase: Option<(&Passphrase, Protection)>,
    ) -> Result<Self, KeyErrorKind> {
        self.content = match passphrase {
            None => Content::Plain(stored),
            Some((passphrase, protection)) => {
                let sealed = protection.seal(&self.header(), passphrase, &stored)?;
                Content::Sealed(protection, sealed)
            }
        };
        Ok(self)
    }

    /// `format` of this file.
    pub fn format(&self) -> &'static str {
        match self.kind {
            LocalKind::Identity => SECRET,
            LocalKind::Group => GROUP,
        }
    }

    fn header(&self) -> Header<'_> {
        let (public, access): (&[u8], &[u8]) = match &self.half {
            Some((public, access)) => (public.as_bytes(), access.as_bytes()),
            None => (&[], &[]),
        };
        Header { format: self.format(), version: VERSION, public, access }
    }
}

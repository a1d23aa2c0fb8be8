//! Key files as text, byte for byte the same for the same content.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::sodium::wipe;

use super::disk::MAX_FILE_LEN;
use super::file::{Content, KeyFile, KeyedFile, PUBLIC, RELAY, VERSION};
use super::hints::{Hints, RelayHint};
use super::protect::{KDF, Protection};
use super::wiped::Wiped;
use super::{Contact, LocalKind};

/// Largest field in base64: [`super::protect::SEALED_LEN`] bytes.
const MAX_BASE64: usize = 64;

impl KeyFile {
    /// The file's text. Bounded hints keep it well under [`MAX_FILE_LEN`].
    pub fn to_toml(&self) -> Wiped {
        let mut out = Text(Wiped::with_capacity(MAX_FILE_LEN));
        match self {
            Self::Public(contact) => out.contact(PUBLIC, contact),
            Self::Relay(contact) => out.contact(RELAY, contact),
            Self::Keyed(keyed) => out.keyed(keyed),
        }
        out.0
    }
}

struct Text(Wiped);

impl Text {
    fn raw(&mut self, text: &str) {
        self.0.push(text.as_bytes());
    }

    fn begin(&mut self, format: &str) {
        self.raw(&format!("format = \"{format}\"\nversion = {VERSION}\n"));
    }

    fn contact(&mut self, format: &str, contact: &Contact) {
        self.begin(format);
        self.base64("public", contact.public.as_bytes());
        self.base64("access", contact.access.as_bytes());
        self.hints(&contact.hints);
        self.relay_table(&contact.hints);
    }

    fn keyed(&mut self, keyed: &KeyedFile) {
        self.begin(keyed.format());
        if let Some((public, access)) = &keyed.half {
            self.base64("public", public.as_bytes());
            self.base64("access", access.as_bytes());
        }
        self.hints(&keyed.hints);
        let field = match keyed.kind {
            LocalKind::Identity => "secret",
            LocalKind::Group => "group",
        };
        match &keyed.content {
            Content::Plain(secret) => self.base64(field, secret.expose()),
            Content::Sealed(_, sealed) => self.base64(field, sealed),
        }
        self.relay_table(&keyed.hints);
        if let Content::Sealed(protection, _) = &keyed.content {
            self.protection(protection);
        }
    }

    /// The hints that are plain fields: TOML wants them before any table.
    fn hints(&mut self, hints: &Hints) {
        if let Some(name) = &hints.name {
            self.raw(&format!("name = {}\n", quoted(name)));
        }
        self.addresses(&hints.address);
        if let Some(RelayHint::Name(name)) = &hints.relay {
            self.raw(&format!("relay = {}\n", quoted(name)));
        }
    }

    fn addresses(&mut self, list: &[String]) {
        if !list.is_empty() {
            let quoted: Vec<String> = list.iter().map(|a| quoted(a)).collect();
            self.raw(&format!("address = [{}]\n", quoted.join(", ")));
        }
    }

    fn relay_table(&mut self, hints: &Hints) {
        if let Some(RelayHint::Inline(relay)) = &hints.relay {
            self.raw("\n[relay]\n");
            self.base64("public", relay.public.as_bytes());
            self.base64("access", relay.access.as_bytes());
            self.addresses(&relay.hints.address);
        }
    }

    fn protection(&mut self, protection: &Protection) {
        let cost = protection.cost;
        self.raw(&format!("\n[protection]\nkdf = \"{KDF}\"\n"));
        self.raw(&format!("ops = {}\nmem_kib = {}\n", cost.ops, cost.mem_kib));
        self.base64("salt", &protection.salt);
        self.base64("nonce", &protection.nonce);
    }

    /// Encodes on the stack, so that a secret leaves nothing on the heap.
    fn base64(&mut self, field: &str, bytes: &[u8]) {
        let mut encoded = [0; MAX_BASE64];
        let len = STANDARD
            .encode_slice(bytes, &mut encoded)
            .unwrap_or_else(|_| unreachable!("no field has more than {MAX_BASE64} characters"));
        self.raw(&format!("{field} = \""));
        self.0.push(&encoded[..len]);
        self.raw("\"\n");
        wipe(&mut encoded);
    }
}

/// A TOML basic string. Names and addresses have no control characters, so two escapes do.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

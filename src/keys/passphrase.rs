//! Passphrases and passwords, and how a program is asked for one.

use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use super::wiped::Wiped;

/// A passphrase in Unicode NFC, so that every keyboard gives the same bytes; wiped on drop.
pub struct Passphrase(Wiped);

impl Passphrase {
    /// Largest passphrase, in bytes before and after NFC.
    pub const MAX: usize = 1024;

    /// Takes one line, its newline already gone.
    ///
    /// # Errors
    /// Says, in lower case, why this is no passphrase: not UTF-8, too long, or a control character.
    pub fn new(line: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(line).map_err(|_| "the passphrase is not UTF-8")?;
        if text.len() > Self::MAX {
            return Err("the passphrase is longer than 1024 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("the passphrase contains a control character");
        }
        let mut normal = Wiped::with_capacity(Self::MAX);
        for c in text.nfc() {
            let mut utf8 = [0; 4];
            let piece = c.encode_utf8(&mut utf8).as_bytes();
            if normal.len() + piece.len() > Self::MAX {
                return Err("the passphrase is longer than 1024 bytes");
            }
            normal.push(piece);
        }
        Ok(Self(normal))
    }

    /// UTF-8 in NFC.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second copy, where one line serves several key files.
    pub fn duplicate(&self) -> Self {
        let mut copy = Wiped::with_capacity(Self::MAX);
        copy.push(&self.0);
        Self(copy)
    }
}

/// Where passphrases come from: a terminal, a descriptor, a file, or a test.
pub trait Passphrases {
    /// The passphrase of the file `what`; `prompt` is what to ask on a terminal, without a colon.
    ///
    /// # Errors
    /// One line, lower case, saying why there is none.
    fn get(&mut self, what: &Path, prompt: &str) -> Result<Passphrase, String>;
}

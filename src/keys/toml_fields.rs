//! The fields of one TOML table, taken out one by one; what is left over is an error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toml::de::{DeTable, DeValue};

use crate::crypto::sodium::Secret;

use super::error::KeyErrorKind;

/// A table whose fields are still to be taken. It borrows from the text of the file, so that a
/// secret has no copy here.
pub struct Fields<'i>(DeTable<'i>);

/// The last part of `relay.public`: what the field is called in its own table.
fn local(field: &'static str) -> &'static str {
    field.rsplit('.').next().unwrap_or(field)
}

impl<'i> Fields<'i> {
    /// The whole document.
    ///
    /// # Errors
    /// [`KeyErrorKind::Syntax`], with the line.
    pub fn parse(text: &'i str) -> Result<Self, KeyErrorKind> {
        let syntax = |e: toml::de::Error| {
            let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or_default();
            let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
            KeyErrorKind::Syntax(format!("line {line}: {}", e.message()))
        };
        Ok(Self(DeTable::parse(text).map_err(syntax)?.into_inner()))
    }

    fn take(&mut self, field: &'static str) -> Option<DeValue<'i>> {
        self.0.remove(local(field)).map(toml::Spanned::into_inner)
    }

    fn need(&mut self, field: &'static str) -> Result<DeValue<'i>, KeyErrorKind> {
        self.take(field).ok_or(KeyErrorKind::MissingField(field))
    }

    /// A string that must be there.
    pub fn text(&mut self, field: &'static str) -> Result<String, KeyErrorKind> {
        string(field, self.need(field)?)
    }

    /// A string that may be there.
    pub fn optional_text(&mut self, field: &'static str) -> Result<Option<String>, KeyErrorKind> {
        self.take(field).map(|value| string(field, value)).transpose()
    }

    /// A list of strings that may be there.
    pub fn texts(&mut self, field: &'static str) -> Result<Vec<String>, KeyErrorKind> {
        let wrong = KeyErrorKind::WrongType { field, expected: "a list of strings" };
        match self.take(field) {
            None => Ok(Vec::new()),
            Some(DeValue::Array(list)) => {
                list.into_iter().map(|v| string(field, v.into_inner())).collect()
            }
            Some(_) => Err(wrong),
        }
    }

    /// A whole number that must be there; one that no `u32` holds is `u32::MAX`, which no field
    /// allows.
    pub fn number(&mut self, field: &'static str) -> Result<u32, KeyErrorKind> {
        match self.need(field)? {
            DeValue::Integer(n) => {
                Ok(u32::from_str_radix(n.as_str(), n.radix()).unwrap_or(u32::MAX))
            }
            _ => Err(KeyErrorKind::WrongType { field, expected: "a number" }),
        }
    }

    /// `N` bytes in base64 that must be there.
    pub fn bytes<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], KeyErrorKind> {
        Ok(*self.secret::<N>(field)?.expose())
    }

    /// [`Fields::bytes`] of which no copy stays behind.
    pub fn secret<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<Secret<N>, KeyErrorKind> {
        let DeValue::String(text) = self.need(field)? else {
            return Err(KeyErrorKind::WrongType { field, expected: "a string" });
        };
        // The decoder wants room for the padding's three bytes too.
        let mut room = super::Wiped::zeroed(text.len() / 4 * 3 + 3);
        let len = STANDARD
            .decode_slice(text.as_bytes(), room.as_mut_slice())
            .map_err(|_| KeyErrorKind::Base64(field))?;
        room.truncate(len);
        Secret::from_slice(&room).ok_or(KeyErrorKind::Length { field, expected: N })
    }

    /// A table, or the string that stands for one.
    pub fn table_or_text(
        &mut self,
        field: &'static str,
    ) -> Result<Option<TableOrText<'i>>, KeyErrorKind> {
        match self.take(field) {
            None => Ok(None),
            Some(DeValue::Table(table)) => Ok(Some(TableOrText::Table(Self(table)))),
            Some(DeValue::String(text)) => Ok(Some(TableOrText::Text(text.into_owned()))),
            Some(_) => Err(KeyErrorKind::WrongType { field, expected: "a string or a table" }),
        }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`KeyErrorKind::UnknownField`].
    pub fn finish(self) -> Result<(), KeyErrorKind> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(KeyErrorKind::UnknownField(name.into_inner().into_owned())),
            None => Ok(()),
        }
    }
}

/// What [`Fields::table_or_text`] finds.
pub enum TableOrText<'i> {
    /// `[field]`
    Table(Fields<'i>),
    /// `field = "..."`
    Text(String),
}

fn string(field: &'static str, value: DeValue<'_>) -> Result<String, KeyErrorKind> {
    match value {
        DeValue::String(text) => Ok(text.into_owned()),
        _ => Err(KeyErrorKind::WrongType { field, expected: "a string" }),
    }
}

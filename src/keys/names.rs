//! Petnames: what I call the keys that I hold. They are file names and parts of destinations.

use std::fmt;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Largest petname, in bytes of UTF-8.
pub const MAX_NAME: usize = 64;

/// Why a string is no petname.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadName {
    /// No character at all.
    Empty,
    /// More than [`MAX_NAME`] bytes.
    TooLong,
    /// Begins with `-` (an option) or `.` (a hidden file).
    Start,
    /// Has one of `/ @ : ,`, which mean something in a destination.
    Reserved(char),
    /// Has a blank.
    Blank,
    /// Has a control character, or an invisible one that would make two names look the same.
    Control,
    /// Is not UTF-8.
    NotText,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name cannot be empty"),
            Self::TooLong => write!(f, "a name has at most {MAX_NAME} bytes"),
            Self::Start => f.write_str("a name cannot begin with '-' or '.'"),
            Self::Reserved(c) => write!(f, "a name cannot contain '{c}'"),
            Self::Blank => f.write_str("a name cannot contain blanks"),
            Self::Control => f.write_str("a name cannot contain control or invisible characters"),
            Self::NotText => f.write_str("a name is UTF-8 text"),
        }
    }
}

/// Checks a petname and gives it in NFC, so that one name is one file name.
///
/// # Errors
/// [`BadName`], the first rule that it breaks.
pub fn petname(name: &str) -> Result<String, BadName> {
    // NFC of a longer string cannot come down to the limit by any honest input.
    if name.len() > 3 * MAX_NAME {
        return Err(BadName::TooLong);
    }
    let name: String = if is_nfc(name) { name.into() } else { name.nfc().collect() };
    match name.chars().next() {
        None => return Err(BadName::Empty),
        Some('-' | '.') => return Err(BadName::Start),
        Some(_) if name.len() > MAX_NAME => return Err(BadName::TooLong),
        Some(_) => {}
    }
    for c in name.chars() {
        match c {
            '/' | '@' | ':' | ',' => return Err(BadName::Reserved(c)),
            _ if c.is_control() || is_invisible(c) => return Err(BadName::Control),
            _ if c.is_whitespace() => return Err(BadName::Blank),
            _ => {}
        }
    }
    Ok(name)
}

/// Characters that show nothing or reorder what stands around them: zero-width ones, directional
/// marks, separators, variation selectors, tags, and the byte order mark.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Characters that a terminal acts on or does not show: control characters, [`is_invisible`] ones, and
/// format controls of scripts and notations that no petname needs to be kept from.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || is_invisible(c)
        || matches!(c, '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}')
}

/// `text` with every [`is_deceptive`] character replaced by `?`.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_deceptive(c) { '?' } else { c }).collect()
}

/// [`harmless`] for what a stranger wrote: cut after 100 characters.
pub fn excerpt(text: &str) -> String {
    harmless(text.char_indices().nth(100).map_or(text, |(end, _)| &text[..end]))
}

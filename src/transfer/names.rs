//! Names: what a peer calls a file becomes a name that can do no harm, or is declined. Pure.
//!
//! A file or folder lands under `YYYYMMDD_HHMMSS_FROM_NAME`; whatever NAME was, something can be
//! made of it. What is *in* a folder keeps its name, since a tree refers to itself by name: there a
//! character that a terminal would act on is written as `%1B`, and what could leave the folder is
//! declined.

use std::fmt::{self, Write as _};

use jiff::civil::DateTime;

use crate::keys::names::is_deceptive;

/// The longest name of one file that file systems take, in bytes.
pub const MAX_COMPONENT: usize = 255;
/// The longest name under which something lands, in bytes; a number behind it and the suffix of a
/// partial file find room up to [`MAX_COMPONENT`].
pub const MAX_LANDED: usize = 208;
/// The longest `FROM`, in bytes.
const MAX_FROM: usize = 64;
/// What is kept when a long name is cut, in bytes: `.jpg`, `.tar.gz` not counted as one.
const MAX_EXTENSION: usize = 16;
/// Folders within folders.
pub const MAX_DEPTH: usize = 64;
/// The longest path of an entry below its folder, in bytes, as it lands.
pub const MAX_PATH: usize = 4000;
/// How a name ends that is not complete; nothing of a peer's lands with it.
pub const PART_SUFFIX: &str = ".part";

/// Why a name within a folder is declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    /// A path, or a part of it between slashes, without a character.
    Empty,
    /// Begins with a slash.
    Absolute,
    /// Has a part `.` or `..`.
    Dots,
    /// Has a NUL, which no file system takes.
    Nul,
    /// A part is longer than [`MAX_COMPONENT`], or all of it than [`MAX_PATH`].
    TooLong,
    /// More than [`MAX_DEPTH`] folders within each other.
    TooDeep,
    /// The target of a symbolic link lies outside the folder, or may.
    LinkLeaves,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name in it is empty",
            Self::Absolute => "a name in it begins with '/'",
            Self::Dots => "a name in it has '.' or '..' as a part",
            Self::Nul => "a name in it has a NUL",
            Self::TooLong => "a name in it is too long",
            Self::TooDeep => "its folders lie too deep in each other",
            Self::LinkLeaves => "a symbolic link points out of the folder",
        })
    }
}

/// The name under which what `from` calls `name` lands, at most [`MAX_LANDED`] bytes.
///
/// `at` is the receiver's local time, as the terminal shows it beside a message. Of a path only the
/// last part counts.
pub fn landed_name(at: DateTime, from: &str, name: &str) -> String {
    let from = match cut(&harmless(from), MAX_FROM) {
        "" => "unknown".to_owned(),
        from => from.to_owned(),
    };
    let stamp = at.strftime("%Y%m%d_%H%M%S");
    let mut landed = format!("{stamp}_{from}_");
    let last = name.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
    // Room for the underscore below. Cutting can bring any end to light, so ends are looked at after it.
    let last = shortened(trim_end(&harmless(last)), MAX_LANDED - landed.len() - 1);
    landed.push_str(match trim_end(&last) {
        "" => "unnamed",
        last => last,
    });
    if landed.to_ascii_lowercase().ends_with(PART_SUFFIX) {
        landed.push('_');
    }
    landed
}

/// Blanks and dots at the end are lost on some file systems, so that two names become one.
fn trim_end(name: &str) -> &str {
    name.trim_end_matches(['.', ' '])
}

/// `name-2.jpg` of `name.jpg` for the number 2.
pub fn numbered(name: &str, number: u32) -> String {
    let (stem, extension) = split_extension(name);
    format!("{stem}-{number}{extension}")
}

/// A path below a folder, as it lands: parts between slashes, none of which leads up.
///
/// # Errors
/// [`BadPath`].
pub fn entry_path(path: &str) -> Result<String, BadPath> {
    if path.starts_with('/') {
        return Err(BadPath::Absolute);
    }
    if path.len() > MAX_PATH {
        return Err(BadPath::TooLong);
    }
    let mut safe = String::with_capacity(path.len());
    for (depth, part) in path.split('/').enumerate() {
        if depth == MAX_DEPTH {
            return Err(BadPath::TooDeep);
        }
        if depth > 0 {
            safe.push('/');
        }
        let start = safe.len();
        push_component(&mut safe, part)?;
        if safe.len() - start > MAX_COMPONENT || safe.len() > MAX_PATH {
            return Err(BadPath::TooLong);
        }
    }
    Ok(safe)
}

fn push_component(safe: &mut String, part: &str) -> Result<(), BadPath> {
    match part {
        "" => return Err(BadPath::Empty),
        "." | ".." => return Err(BadPath::Dots),
        _ if part.contains('\0') => return Err(BadPath::Nul),
        _ => {}
    }
    for c in part.chars() {
        if is_deceptive(c) { push_escaped(safe, c) } else { safe.push(c) }
    }
    Ok(())
}

fn push_escaped(safe: &mut String, c: char) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        // A String takes whatever is written.
        let _ = write!(safe, "%{byte:02X}");
    }
}

/// A name as META carries it, which is text: bytes that are no UTF-8 become `%E9`. The file so
/// arrives under another name, which its sender has to be told.
pub fn text_of(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Checks that the symbolic link at `path` (as [`entry_path`] gives it) stays within its folder.
///
/// Only `../` at the beginning leads up, and only through folders that are no links themselves; so
/// no chain of links that each pass can lead out, whatever is made of them.
///
/// # Errors
/// [`BadPath`].
pub fn check_link(path: &str, target: &[u8]) -> Result<(), BadPath> {
    if target.is_empty() {
        return Err(BadPath::Empty);
    }
    if target.contains(&0) {
        return Err(BadPath::Nul);
    }
    if target.len() > MAX_PATH {
        return Err(BadPath::TooLong);
    }
    let depth = path.matches('/').count();
    let mut up = 0;
    let mut down = false;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            // The first part of an absolute target.
            b"" if up == 0 && !down => return Err(BadPath::LinkLeaves),
            b"" | b"." => {}
            b".." if down || up == depth => return Err(BadPath::LinkLeaves),
            b".." => up += 1,
            _ => down = true,
        }
    }
    Ok(())
}

/// `text` with `_` for what is a slash, controls a terminal or shows nothing.
fn harmless(text: &str) -> String {
    let bad = |c: char| matches!(c, '/' | '\\') || is_deceptive(c);
    text.chars().map(|c| if bad(c) { '_' } else { c }).collect()
}

/// At most `max` bytes of `text`, whole characters.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// At most `max` bytes of `name`, with its extension.
fn shortened(name: &str, max: usize) -> String {
    if name.len() <= max {
        return name.to_owned();
    }
    let (stem, extension) = split_extension(name);
    format!("{}{extension}", cut(stem, max - extension.len()))
}

/// `("photo", ".jpg")`; what is longer than [`MAX_EXTENSION`], or all there is, is no extension.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    }
}

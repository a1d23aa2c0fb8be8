//! Makes harmless for a terminal what a peer wrote: no byte of it moves the cursor, changes a
//! colour, turns the direction of a line or hides. What is dangerous is shown instead: control
//! characters as `^[`, others as `\u{202e}`, bytes that are not UTF-8 as U+FFFD.

use std::fmt::Write as _;

use crate::keys::names::is_deceptive;

/// A stream of text on its way to a terminal, in pieces that may split a character.
#[derive(Default)]
pub struct Sanitizer {
    /// The beginning of a character whose other bytes are still to come: at most 3 bytes.
    partial: Vec<u8>,
    /// A carriage return came; what it means depends on the character after it.
    carriage_return: bool,
    /// The character before was one that a joiner may follow.
    joinable: bool,
}

impl Sanitizer {
    /// At the beginning of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the next piece, made harmless, to `out`: line ends as `\n`, a text at most 4
    /// times as long as it came.
    pub fn push(&mut self, piece: &[u8], out: &mut String) {
        let mut rest = self.complete_partial(piece, out);
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => return self.text(text, out),
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    // The split is where the error says that the valid part ends.
                    self.text(std::str::from_utf8(valid).unwrap_or_default(), out);
                    let Some(len) = error.error_len() else {
                        self.partial.extend_from_slice(invalid);
                        return;
                    };
                    self.character(char::REPLACEMENT_CHARACTER, out);
                    rest = &invalid[len..];
                }
            }
        }
    }

    /// Appends what was held back: the text ends here. The next piece begins another.
    pub fn finish(&mut self, out: &mut String) {
        if !self.partial.is_empty() {
            self.character(char::REPLACEMENT_CHARACTER, out);
        }
        if self.carriage_return {
            out.push_str("^M");
        }
        *self = Self::new();
    }

    /// Ends the character that the piece before left open; what follows it.
    fn complete_partial<'p>(&mut self, piece: &'p [u8], out: &mut String) -> &'p [u8] {
        let mut rest = piece;
        while !self.partial.is_empty() {
            let Some((next, after)) = rest.split_first() else { break };
            self.partial.push(*next);
            match std::str::from_utf8(&self.partial) {
                Ok(text) => self.character(text.chars().next().unwrap_or_default(), out),
                Err(error) if error.error_len().is_none() => {
                    rest = after;
                    continue;
                }
                // The byte does not belong to the open character: it begins something itself.
                Err(_) => {
                    self.partial.clear();
                    self.character(char::REPLACEMENT_CHARACTER, out);
                    break;
                }
            }
            self.partial.clear();
            rest = after;
        }
        rest
    }

    fn text(&mut self, text: &str, out: &mut String) {
        let mut rest = text;
        // Runs of printable ASCII, nearly all there is, go in one piece.
        while !rest.is_empty() {
            let plain = rest.bytes().take_while(|byte| matches!(byte, b' '..=b'~')).count();
            if plain > 0 {
                self.flush_carriage_return(out);
                out.push_str(&rest[..plain]);
                self.joinable = false;
                rest = &rest[plain..];
            }
            let mut characters = rest.chars();
            if let Some(next) = characters.next() {
                self.character(next, out);
            }
            rest = characters.as_str();
        }
    }

    fn character(&mut self, next: char, out: &mut String) {
        if next == '\n' {
            self.carriage_return = false;
        }
        self.flush_carriage_return(out);
        let joins = matches!(next, '\u{200c}' | '\u{200d}') && self.joinable;
        self.joinable = !next.is_ascii() && !is_dangerous(next);
        match next {
            '\r' => self.carriage_return = true,
            '\n' | '\t' => out.push(next),
            _ if joins => out.push(next),
            _ if is_dangerous(next) => show(next, out),
            _ => out.push(next),
        }
    }

    fn flush_carriage_return(&mut self, out: &mut String) {
        if std::mem::take(&mut self.carriage_return) {
            out.push_str("^M");
        }
    }
}

/// A name, or anything else that must stay on its line: everything that [`Sanitizer`] shows, and
/// line ends, tabs and all joiners too.
pub fn sanitize_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for next in text.chars() {
        if is_dangerous(next) { show(next, &mut out) } else { out.push(next) }
    }
    out
}

/// Deceptive characters, except the variation selectors U+FE00 to FE0F: a mark behind a character, as in
/// emoji, hides nothing on a terminal.
pub(super) fn is_dangerous(c: char) -> bool {
    is_deceptive(c) && !matches!(c, '\u{fe00}'..='\u{fe0f}')
}

/// `^[` for ASCII, as terminals echo it, `\u{202e}` for others.
fn show(c: char, out: &mut String) {
    match u8::try_from(c) {
        Ok(code) if code.is_ascii() => {
            out.push('^');
            out.push(char::from(code ^ 0x40));
        }
        // A String takes whatever is written.
        _ => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
    }
}

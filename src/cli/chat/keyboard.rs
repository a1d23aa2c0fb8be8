//! Where lines come from: a person at a line editor, or stdin, whatever that is.

use std::io;

use super::editor::{Editor, Key};
use crate::net::hub::Bell;
use crate::net::input::{Got, Input};

/// A longer line is said in pieces, in bytes. Each fits into what a listener holds back of it.
pub const MAX_LINE: usize = 32 * 1024;
/// One read, in bytes.
const CHUNK: usize = 16 * 1024;

/// One source of lines.
pub enum Keyboard {
    /// A person who edits.
    Editor(Editor),
    /// stdin as it comes.
    Stdin(Lines),
}

impl Keyboard {
    /// stdin, line by line.
    ///
    /// # Errors
    /// As [`Input::stdin`].
    pub fn stdin(bell: &Bell) -> io::Result<Self> {
        Ok(Self::Stdin(Lines { input: Input::stdin(bell)?, pending: Vec::new(), ended: false }))
    }

    /// What was typed next; `None`: the bell tells.
    ///
    /// # Errors
    /// What reading stdin said.
    pub fn typed(&mut self) -> io::Result<Option<Key>> {
        match self {
            Self::Editor(editor) => Ok(editor.typed()),
            Self::Stdin(lines) => lines.typed(),
        }
    }

    /// Whether a person edits.
    pub fn is_edited(&self) -> bool {
        matches!(self, Self::Editor(_))
    }
}

/// stdin, in lines.
pub struct Lines {
    input: Input,
    pending: Vec<u8>,
    ended: bool,
}

impl Lines {
    fn typed(&mut self) -> io::Result<Option<Key>> {
        let mut searched = 0;
        loop {
            let end = self.pending[searched..].iter().position(|byte| *byte == b'\n');
            let len = end.map_or(self.pending.len(), |end| searched + end);
            if len > MAX_LINE {
                let cut = whole(&self.pending[..MAX_LINE]);
                return Ok(Some(Key::Line(self.pending.drain(..cut).collect())));
            }
            if end.is_some() {
                let mut line: Vec<u8> = self.pending.drain(..=len).collect();
                line.pop();
                return Ok(Some(Key::Line(line)));
            }
            searched = len;
            if self.ended {
                let rest = std::mem::take(&mut self.pending);
                return Ok(Some(if rest.is_empty() { Key::End } else { Key::Line(rest) }));
            }
            self.pending.resize(searched + CHUNK, 0);
            let got = self.input.read(&mut self.pending[searched..]);
            let new = if let Ok(Got::Bytes(n)) = got { n } else { 0 };
            self.pending.truncate(searched + new);
            match got? {
                Got::Bytes(_) => {}
                Got::Later => return Ok(None),
                Got::End => self.ended = true,
            }
        }
    }
}

/// `line` in pieces of at most [`MAX_LINE`] bytes, between characters.
pub fn pieces(mut line: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let cut = if line.len() > MAX_LINE { whole(&line[..MAX_LINE]) } else { line.len() };
        let (piece, rest) = line.split_at(cut);
        line = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// How many of `bytes` to take so that no character of UTF-8 is split at the end.
fn whole(bytes: &[u8]) -> usize {
    let begins = |byte: &u8| byte & 0b1100_0000 != 0b1000_0000;
    match bytes.iter().rposition(begins) {
        Some(at) if at > 0 && bytes.len() - at < 4 => at,
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_said_in_pieces_between_characters() {
        let long = "日本語".repeat(MAX_LINE / 4);
        let said: Vec<&[u8]> = pieces(long.as_bytes()).collect();
        assert!(said.len() >= 2 && said.iter().all(|piece| piece.len() <= MAX_LINE));
        assert!(said.iter().all(|piece| std::str::from_utf8(piece).is_ok()));
        assert_eq!(said.concat(), long.as_bytes());
        let noise = vec![0x80; 3 * MAX_LINE];
        assert_eq!(pieces(&noise).collect::<Vec<_>>().concat(), noise);
        assert_eq!(pieces(b"").count(), 0);
    }
}

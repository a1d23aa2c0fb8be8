//! Where lines come from: a person at a line editor, or stdin, whatever that is.

use std::io;

use super::editor::{Editor, Key};
use crate::net::hub::Bell;
use crate::net::input::{Got, Input};

/// A longer line is not said, in bytes. PROTOCOL.md, section 3.3.
pub const MAX_LINE: usize = 1024 * 1024;
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
        Ok(Self::Stdin(Lines {
            input: Input::stdin(bell)?,
            pending: Vec::new(),
            searched: 0,
            too_long: false,
            ended: false,
        }))
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
    /// So many bytes of that have no line end among them.
    searched: usize,
    /// What comes up to the next line end belongs to a line that is too long.
    too_long: bool,
    ended: bool,
}

impl Lines {
    fn typed(&mut self) -> io::Result<Option<Key>> {
        loop {
            if let Some(line) = self.line() {
                return Ok(Some(match std::mem::take(&mut self.too_long) {
                    true => Key::TooLong,
                    false => Key::Line(line),
                }));
            }
            if self.searched > MAX_LINE || (self.too_long && self.searched > 0) {
                self.too_long = true;
                self.pending.clear();
                self.searched = 0;
            }
            if self.ended {
                return Ok(Some(self.last()));
            }
            self.pending.resize(self.searched + CHUNK, 0);
            let got = self.input.read(&mut self.pending[self.searched..]);
            let new = if let Ok(Got::Bytes(n)) = got { n } else { 0 };
            self.pending.truncate(self.searched + new);
            match got? {
                Got::Bytes(_) => {}
                Got::Later => return Ok(None),
                Got::End => self.ended = true,
            }
        }
    }

    /// A line that is whole, without its line end.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.pending[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end else {
            self.searched = self.pending.len();
            return None;
        };
        let len = self.searched + end;
        self.too_long |= len > MAX_LINE;
        let mut line: Vec<u8> = self.pending.drain(..=len).collect();
        line.pop();
        self.searched = 0;
        Some(line)
    }

    /// What stands behind the last line end.
    fn last(&mut self) -> Key {
        let rest = std::mem::take(&mut self.pending);
        self.searched = 0;
        match std::mem::take(&mut self.too_long) {
            true => Key::TooLong,
            false if rest.is_empty() => Key::End,
            false => Key::Line(rest),
        }
    }
}

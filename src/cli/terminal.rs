//! A terminal that does not show what is typed.

use std::fs::File;
use std::io;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use signal_hook::consts::{SIGINT, SIGQUIT};

use crate::net::signals;

/// Longest line that a terminal hands over at once, in bytes (Linux n_tty(4)).
pub const MAX_LINE: usize = 4096;

/// No echo while it lives. The keys for interrupt and quit do not raise signals either: they end
/// the line, so that whoever reads it can put the terminal right before dying of the signal,
/// without a handler that other code would have to know of. Erasing works as always.
pub struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    /// Turns echo off, and throws away what was typed before the prompt.
    ///
    /// # Errors
    /// When `terminal` is none.
    pub fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes |= LocalModes::ICANON;
        quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ISIG);
        let keys = &before.special_codes;
        quiet.special_codes[SpecialCodeIndex::VEOL] = keys[SpecialCodeIndex::VINTR];
        quiet.special_codes[SpecialCodeIndex::VEOL2] = keys[SpecialCodeIndex::VQUIT];
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }

    /// The signal that a line's last byte asks for.
    pub fn signal_of(&self, last: Option<u8>) -> Option<i32> {
        let keys = &self.before.special_codes;
        // A key that is turned off is 0.
        match last.filter(|byte| *byte != 0)? {
            byte if byte == keys[SpecialCodeIndex::VINTR] => Some(SIGINT),
            byte if byte == keys[SpecialCodeIndex::VQUIT] => Some(SIGQUIT),
            _ => None,
        }
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to put right.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Dies of `signal` itself, so that a shell's loop stops too.
pub fn die_of(signal: i32) -> ! {
    signals::die_of(signal);
    std::process::exit(128 + signal)
}

//! What stands above the line that is being typed: one's own lines with their marks, and what
//! happens. Messages are printed beside it by the listener's printer, to the same output.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _};
use std::rc::Rc;

use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthStr as _;

use super::editor::NUDGE;
use super::talk::{Line, Said};
use crate::cli::local_time;
use crate::cli::sanitize::{Sanitizer, sanitize_line};
use crate::net::output::Output;

/// Stands at the right edge beside a line that everybody has.
const MARK: &str = "✓";
/// So many columns beside a line are kept free for its mark.
const MARGIN: usize = 3;
/// A line is marked no further up than so many rows: all of them are on the screen.
const NEAR: usize = 5;
/// Lines after the first stand behind this, so that none can pass for another's.
const CONTINUED: &str = "\n    | ";
/// More names than this are counted instead.
const NAMED: usize = 3;
/// So much of a line says which one is meant, in characters.
const EXCERPT: usize = 40;

/// The writer of one's own lines and of what happens.
pub struct Screen {
    output: Rc<RefCell<Output>>,
    /// The lines that a mark can still be put beside: nothing but one's own stands below them.
    near: Vec<Near>,
    /// The output's position behind the last of them.
    position: u64,
}

/// A line close above the one that is being typed.
struct Near {
    id: [u8; 16],
    /// How many rows up its last row is.
    up: usize,
    /// The terminal's width when it was written.
    columns: usize,
}

impl Screen {
    /// On `output`.
    pub fn new(output: Rc<RefCell<Output>>) -> Self {
        Self { output, near: Vec::new(), position: 0 }
    }

    /// What somebody should know, at `now_ms` (Unix ms). It may have several lines.
    pub fn note(&mut self, text: &str, now_ms: u64) {
        let text = text.replace('\n', CONTINUED);
        self.write(&format!("{} -- {text}\n", local_time::stamp(now_ms, now_ms)));
    }

    /// Shows the line that is being typed again, wherever the cursor is now.
    pub fn redraw(&mut self) {
        let mut output = self.output.borrow_mut();
        output.write(NUDGE);
        output.push();
    }

    /// One's own line, on its way to those of `said`.
    pub fn own(&mut self, line: &Line, said: &Said) {
        let stamp = local_time::stamp(line.typed_ms, line.typed_ms);
        let text = harmless(&line.text).replace('\n', CONTINUED);
        let shown = format!("{stamp} you → {}: {text}", whom(said));
        let undisturbed = self.position == self.output.borrow().position();
        self.write(&format!("{shown}\n"));
        self.position = self.output.borrow().position();
        let columns = columns().unwrap_or(0);
        if !undisturbed || !shown.split('\n').all(|row| row.width() + MARGIN <= columns) {
            self.near.clear();
        }
        let rows = shown.split('\n').count();
        self.near.iter_mut().for_each(|near| near.up += rows);
        self.near.retain(|near| near.up <= NEAR && near.columns == columns);
        if has_margin(&shown, columns) {
            self.near.push(Near { id: line.id, up: 1, columns });
        }
    }

    /// Everybody has the line: a mark beside it, if that is possible, else a line that says so.
    pub fn delivered(&mut self, line: &Line, to: &str, now_ms: u64) {
        let at = self.near.iter().position(|near| near.id == line.id);
        let near = at.map(|at| self.near.remove(at));
        let undisturbed = self.position == self.output.borrow().position();
        match near.filter(|near| undisturbed && columns() == Some(near.columns)) {
            Some(Near { up, columns, .. }) => {
                // To the edge of its last row, and back again.
                let down = if up > 1 { format!("\x1b[{}B", up - 1) } else { String::new() };
                self.write(&format!("\x1b[{up}A\x1b[{columns}G{MARK}{down}\n"));
                self.position = self.output.borrow().position();
            }
            None => self.note(&format!("{MARK} {to} has it: {}", excerpt(&line.text)), now_ms),
        }
    }

    fn write(&mut self, text: &str) {
        let mut output = self.output.borrow_mut();
        output.write(text.as_bytes());
        output.push();
    }
}

/// Who gets a line, and who is away.
fn whom(said: &Said) -> String {
    let here = said.here.iter().cloned();
    let names = here.chain(said.away.iter().map(|name| format!("{name} (away)")));
    let names: Vec<String> = names.chain(said.full.iter().map(|n| format!("not {n}"))).collect();
    several(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The terminal's width, if there is one that is large enough for marks.
fn columns() -> Option<usize> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten()?;
    let high = usize::from(size.ws_row) > 2 * NEAR;
    Some(usize::from(size.ws_col)).filter(|columns| high && *columns > 0)
}

/// Whether the last row of `shown` leaves room for a mark. A row may lack a column when a wide
/// character does not fit into it, and what a terminal takes for wide is not always what we do.
fn has_margin(shown: &str, columns: usize) -> bool {
    if columns == 0 {
        return false;
    }
    let last = shown.rsplit('\n').next().unwrap_or_default();
    // How far a tab leads depends on where it stands.
    if last.contains('\t') {
        return false;
    }
    let cells = last.width();
    cells % columns + cells / columns + MARGIN <= columns
}

/// `bob, carol`, or how many they are.
pub fn several(names: &[&str]) -> String {
    match names.len() {
        n if n > NAMED => format!("all {n}"),
        _ => names.join(", "),
    }
}

/// The beginning of a line, as a piece of one.
pub fn excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let short: String = first.chars().take(EXCERPT).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{}{more}", sanitize_line(&short))
}

/// What was typed or pasted may have anything in it, too.
fn harmless(text: &[u8]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut sanitizer = Sanitizer::new();
    sanitizer.push(text, &mut clean);
    sanitizer.finish(&mut clean);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_has_room_only_beside_what_is_short_enough() {
        assert!(has_margin("12345", 10));
        assert!(has_margin("1234567", 10));
        assert!(!has_margin("12345678", 10));
        assert!(has_margin("1234567890123", 10));
        assert!(!has_margin("日本語語", 10));
        assert!(!has_margin("a\tb", 10));
        assert!(has_margin("a long line before it\nshort", 10));
        assert!(!has_margin("", 1));
    }

    #[test]
    fn an_excerpt_is_one_harmless_line() {
        assert_eq!(excerpt(b"hi"), "hi");
        assert_eq!(excerpt(b"\n one\ntwo"), " one…");
        assert_eq!(excerpt("é".repeat(50).as_bytes()), format!("{}…", "é".repeat(40)));
        assert_eq!(excerpt(b"a\x1b[2Jb"), "a^[[2Jb");
    }
}

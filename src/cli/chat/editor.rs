//! The line that is being typed, on a terminal: rustyline in a thread of its own, which hands whole
//! lines to the loop and prints what the loop has to show above the line.
//!
//! The editor never leaves its one call: the enter key hands the line over and empties it, and the
//! loop shows it again above, as said. So the terminal stays in one mode from the beginning to the
//! end, nothing that is typed ahead is echoed or lost, and all that stands above the line is written
//! by one thread in one order.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use rustyline::completion::Completer;
use rustyline::config::Configurer as _;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Context, Event, EventContext, EventHandler,
    ExternalPrinter, Helper, KeyCode, KeyEvent, Modifiers, Movement, RepeatCount,
};

use super::complete::{Offer, complete};
use super::recall::Recall;
use crate::net::hub::Bell;

/// What stands before the line.
const PROMPT: &str = "> ";
/// Lines that the loop has not taken, at most; then the enter key does nothing.
const MAX_WAITING: usize = 4096;
/// An escape key that nothing follows for so long, in ms, is one by itself.
const ESCAPE_TIME: u16 = 50;
/// The editor may take so long to begin.
const BEGIN_TIME: Duration = Duration::from_millis(500);
/// To show its first line the editor may take so long.
const FIRST_LINE_TIME: Duration = Duration::from_millis(10);
/// Prints nothing, and returns once what was printed before has been taken by the editor: up a line
/// and down again.
pub const NUDGE: &[u8] = b"\x1b[A\n";

/// What came from the keyboard.
#[derive(Debug, PartialEq, Eq)]
pub enum Key {
    /// A whole line, which may have line ends in it. One from a pipe may be anything.
    Line(Vec<u8>),
    /// One that is longer than a line may be; it is dropped.
    TooLong,
    /// Something that is not UTF-8 was typed or pasted: the editor has lost the line with it.
    Garbled,
    /// The tab key asks to show these.
    Offer(Vec<String>),
    /// The key for the end of input, on an empty line; or the terminal is gone.
    End,
    /// The key for interrupt, on an empty line.
    Interrupt,
    /// The key that stops a job until its shell goes on with it.
    Suspend,
}

/// Whether the line can be edited here: somebody types and reads on a terminal that can move its
/// cursor.
pub fn is_possible() -> bool {
    let moves = std::env::var_os("TERM")
        .is_none_or(|term| !["", "dumb", "cons25", "emacs"].iter().any(|poor| term == *poor));
    moves && io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The editor that all this is about. It remembers no lines: [`Recall`] does.
type Rustyline = rustyline::Editor<Began, MemHistory>;

/// Notes that the editor shows its line for the first time. It helps with nothing else.
struct Began(Arc<Keys>);

impl Hinter for Began {
    type Hint = String;

    fn hint(&self, _: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.0.began.store(true, Ordering::SeqCst);
        None
    }
}

impl Completer for Began {
    type Candidate = String;
}

impl Highlighter for Began {}

impl Validator for Began {}

impl Helper for Began {}

/// The keyboard's side of a chat. Dropped, it leaves the terminal as it was.
pub struct Editor {
    keys: Arc<Keys>,
    restore: Restore,
}

/// What the keys do, and what the loop has not taken.
struct Keys {
    waiting: Mutex<VecDeque<Key>>,
    recall: Mutex<Recall>,
    names: Mutex<Vec<String>>,
    bell: Bell,
    /// The editor has the terminal in its mode.
    began: AtomicBool,
    /// The editor has left its call, and the terminal as it was.
    ended: AtomicBool,
}

impl Editor {
    /// Begins to edit; the other thing prints above the line.
    ///
    /// # Errors
    /// When there is no terminal, or no thread to be had.
    pub fn start(bell: Bell) -> io::Result<(Self, Above)> {
        let keys = Arc::new(Keys {
            waiting: Mutex::default(),
            recall: Mutex::default(),
            names: Mutex::default(),
            bell,
            began: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let mut editor =
            Rustyline::with_history(Config::default(), MemHistory::new()).map_err(into_io)?;
        editor.set_helper(Some(Began(Arc::clone(&keys))));
        editor.set_keyseq_timeout(Some(ESCAPE_TIME));
        editor.set_color_mode(rustyline::ColorMode::Disabled);
        let printer = editor.create_external_printer().map_err(into_io)?;
        keys.bind(&mut editor);
        let restore = Restore::new(&keys)?;
        let theirs = Arc::clone(&keys);
        thread::Builder::new().name("editor".into()).spawn(move || theirs.edit(editor))?;
        let above = Above { printer: Box::new(printer), within: false };
        Ok((Self { keys, restore }, above))
    }

    /// What came from the keyboard, one at a time.
    pub fn typed(&self) -> Option<Key> {
        lock(&self.keys.waiting).pop_front()
    }

    /// Stops this job, the terminal being as it was meanwhile; afterwards [`NUDGE`] is to be
    /// printed, which shows the line again. From the main thread: from any other, the kernel stops
    /// it only after it went on.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn suspend(&self) -> io::Result<()> {
        let terminal = &self.restore.terminal;
        let raw = tcgetattr(terminal)?;
        io::stdout().write_all(b"\x1b[?2004l\r\n")?;
        io::stdout().flush()?;
        tcsetattr(terminal, OptionalActions::Drain, &self.restore.before)?;
        kill_current_process_group(Signal::TSTP)?;
        tcsetattr(terminal, OptionalActions::Drain, &raw)?;
        io::stdout().write_all(b"\x1b[?2004h")?;
        io::stdout().flush()
    }

    /// The names that the tab key knows.
    pub fn know(&self, names: Vec<String>) {
        *lock(&self.keys.names) = names;
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keys {
    /// Hands `key` to the loop, if it has room for it.
    fn hand_over(&self, key: Key) -> bool {
        let mut waiting = lock(&self.waiting);
        let room = waiting.len() < MAX_WAITING;
        if room {
            waiting.push_back(key);
        }
        drop(waiting);
        self.bell.ring();
        room
    }

    fn edit(&self, mut editor: Rustyline) {
        loop {
            match editor.readline(PROMPT) {
                // A key that somebody has bound otherwise.
                Ok(line) => drop(self.hand_over(Key::Line(line.into()))),
                // Bytes that are no text; the line is lost with them.
                Err(ReadlineError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                    self.hand_over(Key::Garbled);
                }
                Err(ReadlineError::Interrupted) => drop(self.hand_over(Key::Interrupt)),
                Err(_) => break,
            }
        }
        self.ended.store(true, Ordering::SeqCst);
        self.hand_over(Key::End);
        // What is printed now has no line below it; with the editor it would have nowhere to go.
        std::mem::forget(editor);
    }

    fn bind(self: &Arc<Self>, editor: &mut Rustyline) {
        let mut on = |keys: &[KeyEvent], what: What| {
            for key in keys {
                let handler = Handler { keys: Arc::clone(self), what };
                editor.bind_sequence(*key, EventHandler::Conditional(Box::new(handler)));
            }
        };
        let plain = |code| KeyEvent(code, Modifiers::NONE);
        on(&[KeyEvent::ctrl('M'), KeyEvent::ctrl('J'), plain(KeyCode::Enter)], What::Enter);
        on(&[KeyEvent::ctrl('C')], What::Interrupt);
        on(&[KeyEvent::ctrl('D')], What::End);
        on(&[KeyEvent::ctrl('Z')], What::Suspend);
        on(&[plain(KeyCode::Tab), KeyEvent::ctrl('I')], What::Complete);
        on(&[plain(KeyCode::Up), KeyEvent::ctrl('P')], What::Older);
        on(&[plain(KeyCode::Down), KeyEvent::ctrl('N')], What::Newer);
        // The first two search lines that the editor does not have; the others put control characters
        // into the line, which the editor would show as they are.
        for key in ['R', 'S', 'V', 'Q'] {
            editor.bind_sequence(KeyEvent::ctrl(key), Cmd::Noop);
        }
        let newline = KeyEvent(KeyCode::Enter, Modifiers::ALT);
        editor.bind_sequence(newline, Cmd::Insert(1, "\n".into()));
    }
}

/// What a key does.
#[derive(Clone, Copy)]
enum What {
    Enter,
    Interrupt,
    Suspend,
    End,
    Complete,
    Older,
    Newer,
}

struct Handler {
    keys: Arc<Keys>,
    what: What,
}

impl ConditionalEventHandler for Handler {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, at: &EventContext<'_>) -> Option<Cmd> {
        let (line, cursor) = (at.line(), at.pos());
        let emptied = Some(Cmd::Kill(Movement::WholeBuffer));
        match self.what {
            What::Enter if line.trim().is_empty() => emptied,
            What::Enter if !self.keys.hand_over(Key::Line(line.into())) => Some(Cmd::Noop),
            What::Enter => {
                lock(&self.keys.recall).entered(line);
                emptied
            }
            What::Interrupt if !line.is_empty() => emptied,
            What::Interrupt => self.only_tell(Key::Interrupt),
            What::Suspend => self.only_tell(Key::Suspend),
            What::End if line.is_empty() => self.only_tell(Key::End),
            What::End => None,
            What::Complete => Some(self.complete(&line[..cursor])),
            // Within several lines the cursor goes up and down first.
            What::Older if line[..cursor].contains('\n') => None,
            What::Newer if line[cursor..].contains('\n') => None,
            What::Older => show(lock(&self.keys.recall).older(line)),
            What::Newer => show(lock(&self.keys.recall).newer()),
        }
    }
}

impl Handler {
    fn only_tell(&self, key: Key) -> Option<Cmd> {
        self.keys.hand_over(key);
        Some(Cmd::Noop)
    }

    fn complete(&self, before: &str) -> Cmd {
        match complete(before, &lock(&self.keys.names)) {
            Offer::Nothing => Cmd::Noop,
            Offer::Insert(text) => Cmd::Insert(1, text),
            Offer::Choice(choice) => {
                self.keys.hand_over(Key::Offer(choice));
                Cmd::Noop
            }
        }
    }
}

fn show(line: Option<String>) -> Option<Cmd> {
    Some(line.map_or(Cmd::Noop, |line| Cmd::Replace(Movement::WholeBuffer, Some(line))))
}

/// Prints above the line that is being typed. It waits for the terminal; the thread of an
/// [`crate::net::output::Output`] does that.
pub struct Above {
    printer: Box<dyn ExternalPrinter + Send>,
    /// What was printed last had no line end yet, and got one from the editor.
    within: bool,
}

impl Write for Above {
    /// Takes all of it. It must end with a whole character.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = bytes;
        if std::mem::take(&mut self.within)
            && let [b'\n', rest @ ..] = text
        {
            text = rest;
        }
        if !text.is_empty() {
            self.within = !text.ends_with(b"\n");
            let text = String::from_utf8_lossy(text).into_owned();
            self.printer.print(text).map_err(into_io)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn into_io(e: ReadlineError) -> io::Error {
    match e {
        ReadlineError::Io(e) => e,
        ReadlineError::Errno(e) => e.into(),
        other => io::Error::other(other.to_string()),
    }
}

/// Puts the terminal right again, whatever the editor is doing.
struct Restore {
    terminal: File,
    before: Termios,
    keys: Arc<Keys>,
}

impl Restore {
    fn new(keys: &Arc<Keys>) -> io::Result<Self> {
        let terminal = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let before = tcgetattr(&terminal)?;
        Ok(Self { terminal, before, keys: Arc::clone(keys) })
    }

    /// Whether the editor is still to put the terminal into its mode.
    fn is_about_to_begin(&self) -> bool {
        let Keys { began, ended, .. } = &*self.keys;
        !began.load(Ordering::SeqCst) && !ended.load(Ordering::SeqCst)
    }
}

impl Drop for Restore {
    /// If the terminal is gone, or another job has it, there is nothing to put right.
    fn drop(&mut self) {
        let ours = tcgetpgrp(&self.terminal).is_ok_and(|group| group == getpgrp());
        if !ours {
            return;
        }
        // An editor that is only about to begin would take the terminal after us.
        let until = Instant::now() + BEGIN_TIME;
        let early = self.is_about_to_begin();
        while self.is_about_to_begin() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        if early {
            // It is about to write the line.
            thread::sleep(FIRST_LINE_TIME);
        }
        // No bracketed paste, the cursor at the beginning of an empty line.
        let _ = io::stdout().write_all(b"\x1b[?2004l\r\x1b[J");
        let _ = io::stdout().flush();
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

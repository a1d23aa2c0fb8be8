//! Progress bars: what is on its way, how much of it, how fast, and how long it will take. They are
//! drawn on stderr if that is a terminal, through the same output as all that is said there, so that
//! a terminal that is stopped stops nothing else.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use rustix::fs::fstat;
use rustix::termios::{isatty, tcgetwinsize};

use crate::net::output::Output;

/// What takes no longer than this has no bar.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often bars are drawn, in a second.
const RATE: u8 = 8;
/// The longest name in front of a bar, in characters.
const LABEL: usize = 32;
/// A terminal that does not say how wide it is.
const WIDTH: u16 = 80;
/// Columns at the end that are left free: a `^C` there would move the bar to another line.
const FREE: u16 = 3;
/// Rate and time left.
const STYLE: &str = "{msg} [{bar:20}] {decimal_bytes}/{decimal_total_bytes} \
                     {decimal_bytes_per_sec}, {eta} left";

/// Whether bars are shown: stderr is a terminal, and stdout, if it bears anything, is another.
pub fn wanted(stdout_bears_anything: bool) -> bool {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    if !isatty(&stderr) {
        return false;
    }
    let terminal = |fd| fstat(fd).ok().map(|stat| stat.st_rdev);
    !(stdout_bears_anything
        && isatty(&stdout)
        && terminal(stdout.as_fd()) == terminal(stderr.as_fd()))
}

/// The bars of one program.
#[derive(Clone)]
pub struct Bars {
    all: MultiProgress,
    drawn: Arc<Mutex<Vec<u8>>>,
    stderr: Rc<RefCell<Output>>,
}

/// What is on its way in one session.
pub struct Bar {
    bars: Bars,
    begun: Instant,
    label: String,
    total: u64,
    done: u64,
    /// Once it has taken a while.
    shown: Option<ProgressBar>,
}

impl Bars {
    /// None is shown yet.
    pub fn new(stderr: Rc<RefCell<Output>>) -> Self {
        let drawn = Arc::default();
        let (width, behind) = (width(), AtomicBool::new(false));
        let terminal = Box::new(Terminal { drawn: Arc::clone(&drawn), width, behind });
        let target = ProgressDrawTarget::term_like_with_hz(terminal, RATE);
        Self { all: MultiProgress::with_draw_target(target), drawn, stderr }
    }

    /// A bar for what begins now.
    pub fn bar(&self) -> Bar {
        let (begun, label) = (Instant::now(), String::new());
        Bar { bars: self.clone(), begun, label, total: 0, done: 0, shown: None }
    }

    /// Says something on stderr, above the bars.
    pub fn above(&self, say: impl FnOnce()) {
        self.all.suspend(|| {
            self.push();
            say();
        });
        self.push();
    }

    /// What was drawn goes out, if anybody looks.
    fn push(&self) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stderr = self.stderr.borrow_mut();
        if !drawn.is_empty() && stderr.has_room() {
            stderr.write(&drawn);
            stderr.push();
        }
        drawn.clear();
    }
}

impl Bar {
    /// So many bytes more are to come, of what is called this; it is fit for a terminal.
    pub fn expect(&mut self, label: &str, bytes: u64) {
        self.label = shortened(label);
        self.total = self.total.saturating_add(bytes);
        if let Some(bar) = &self.shown {
            bar.set_message(self.label.clone());
            bar.set_length(self.total);
        }
    }

    /// So many bytes will not come.
    pub fn forget(&mut self, bytes: u64) {
        self.total = self.total.saturating_sub(bytes);
        if let Some(bar) = &self.shown {
            bar.set_length(self.total);
        }
    }

    /// So many bytes are there already: they took no time.
    pub fn skip(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        if let Some(bar) = &self.shown {
            bar.set_position(self.done);
            bar.reset_eta();
        }
    }

    /// So many bytes are on their way.
    pub fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        match &self.shown {
            Some(bar) => bar.set_position(self.done),
            None if self.begun.elapsed() < PATIENCE => return,
            None => self.show(),
        }
        self.bars.push();
    }

    fn show(&mut self) {
        let bar = self.bars.all.add(ProgressBar::new(self.total));
        // Only a template that is malformed is no style; this one is shown in a test.
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            bar.set_style(style);
        }
        bar.set_message(self.label.clone());
        bar.set_position(self.done);
        bar.reset_eta();
        self.shown = Some(bar);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
            self.bars.push();
        }
    }
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= LABEL {
        return label.to_owned();
    }
    label.chars().take(LABEL - 1).chain(['…']).collect()
}

fn width() -> u16 {
    let size = tcgetwinsize(io::stderr()).ok();
    let columns = size.map(|size| size.ws_col).filter(|columns| *columns > 0);
    columns.unwrap_or(WIDTH).saturating_sub(FREE).max(1)
}

/// Gathers what is drawn.
#[derive(Debug)]
struct Terminal {
    drawn: Arc<Mutex<Vec<u8>>>,
    width: u16,
    /// What is written next stands on a line of its own.
    behind: AtomicBool,
}

impl Terminal {
    fn draw(&self, text: &str) -> io::Result<()> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn move_by(&self, n: usize, way: char) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.draw(&format!("\x1b[{n}{way}")) }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        self.width
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.draw(&format!("{s}\r\n"))
    }

    /// A line, then as many blanks as fill it, so that the next one wraps. It would not: the last
    /// columns are free.
    fn write_str(&self, s: &str) -> io::Result<()> {
        if s.bytes().all(|b| b == b' ') {
            self.behind.store(true, Ordering::Relaxed);
            return self.draw("\x1b[K");
        }
        if self.behind.swap(false, Ordering::Relaxed) {
            self.draw("\r\n")?;
        }
        self.draw(s)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        self.behind.store(false, Ordering::Relaxed);
        Ok(())
    }
}

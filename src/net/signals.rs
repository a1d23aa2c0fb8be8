//! SIGHUP, SIGINT and SIGTERM: wake the loop, which tells the peer, cleans up, and then dies of the
//! signal itself, so that shell loops stop.
//!
//! `ctrlc` wakes the loop from its own thread; it does not say which signal came, so `signal-hook`
//! notes the number, installed behind it because it calls the handler that was there before. A
//! signal that was ignored when the program started (`nohup`, a script's background job) stays so.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::hub::Bell;

/// A tenth of what the note of a signal's number may take; an ignored signal has none.
const NOTE_TIME: Duration = Duration::from_millis(1);

const HANDLED: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// Larger than `/proc/self/status` is as a rule, in bytes: one read then.
const STATUS_SPACE: usize = 4096;

/// The signal that arrived last, if any did.
pub struct Signals {
    last: Arc<AtomicUsize>,
    bell: Bell,
    armed: Cell<bool>,
}

impl Signals {
    /// A signal rings `bell` once they are armed. Until then it ends the program.
    pub fn new(bell: Bell) -> Self {
        Self { last: Arc::new(AtomicUsize::new(0)), bell, armed: Cell::new(false) }
    }

    /// Installs the handlers, unless they are.
    ///
    /// # Errors
    /// When the system refuses, or another has installed some.
    pub fn arm(&self) -> io::Result<()> {
        if self.armed.replace(true) { Ok(()) } else { self.install() }
    }

    fn install(&self) -> io::Result<()> {
        let (last, bell) = (&self.last, self.bell.clone());
        let ignored = ignored_at_start();
        let any_ignored = HANDLED.into_iter().any(|signal| is_in(ignored, signal));
        let installed = Arc::new(AtomicBool::new(false));
        let (note, is_installed) = (Arc::clone(last), Arc::clone(&installed));
        ctrlc::set_handler(move || {
            let early = !is_installed.load(Ordering::SeqCst);
            // The number is noted right after ctrlc is told, maybe on another processor.
            let is_noted = || note.load(Ordering::SeqCst) != 0;
            (0..10).take_while(|_| !is_noted()).for_each(|_| thread::sleep(NOTE_TIME));
            if !is_noted() && (early || !any_ignored) {
                // It came between the two handlers: which one it was is lost, that it came is not.
                note.store(SIGTERM as usize, Ordering::SeqCst);
            }
            bell.ring();
        })
        .map_err(io::Error::other)?;
        for signal in HANDLED.into_iter().filter(|signal| !is_in(ignored, *signal)) {
            signal_hook::flag::register_usize(signal, Arc::clone(last), signal as usize)?;
        }
        installed.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// The number of the signal that arrived, if one did.
    pub fn arrived(&self) -> Option<i32> {
        match self.last.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal as i32),
        }
    }
}

/// Dies of `signal` as if nothing had ever handled it.
pub fn die_of(signal: i32) {
    // It returns only if the system refuses; the caller then exits with 128 + signal.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

/// Whether a mask of signals has `signal`.
fn is_in(mask: u64, signal: i32) -> bool {
    mask >> (signal - 1) & 1 == 1
}

/// The mask of ignored signals (Linux); nothing where it cannot be read.
fn ignored_at_start() -> u64 {
    let mut status = String::with_capacity(STATUS_SPACE);
    let read = File::open("/proc/self/status").map(|f| f.take(1 << 20).read_to_string(&mut status));
    if !matches!(read, Ok(Ok(_))) {
        return 0;
    }
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

//! A passphrase typed on a terminal is not shown, and the interrupt key leaves the terminal as it
//! was and kills by SIGINT itself.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

const PATIENCE: Duration = Duration::from_secs(20);

/// A program whose controlling terminal is ours to type on.
struct Session {
    keyboard: File,
    terminal: File,
    child: Child,
    shown: String,
    /// The terminal's modes before the program had it.
    before: LocalModes,
}

impl Session {
    /// `setsid --ctty` makes the terminal on stdin the controlling one; it becomes the program, so
    /// that its end is the program's.
    fn new(home: &Path, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        let before = tcgetattr(&terminal).unwrap().local_modes;
        let child = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_ac-keygen")])
            .args(args)
            .env("AC_HOME", home)
            .stdin(terminal.try_clone().unwrap())
            .stdout(Stdio::null())
            .stderr(terminal.try_clone().unwrap())
            .spawn()
            .unwrap();
        Self { keyboard: master.into(), terminal, child, shown: String::new(), before }
    }

    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.try_into().unwrap();
            let mut ready = [PollFd::from_borrowed_fd(self.keyboard.as_fd(), PollFlags::IN)];
            assert_ne!(poll(&mut ready, Some(&left)).unwrap(), 0, "no {text}: {}", self.shown);
            let mut bytes = [0; 512];
            let len = self.keyboard.read(&mut bytes).unwrap();
            self.shown += &String::from_utf8_lossy(&bytes[..len]);
        }
        self.shown = self.shown.split_once(text).unwrap().1.into();
    }

    fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    fn modes(&self) -> LocalModes {
        tcgetattr(&self.terminal).unwrap().local_modes
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running: {}", self.shown);
            std::thread::yield_now();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_typed_passphrase_is_asked_for_twice_and_never_shown() {
    let home = tempfile::tempdir().unwrap();
    let mut session = Session::new(home.path(), &["-p"]);
    session.wait_for("identity.key: new passphrase: ");
    assert!(!session.modes().contains(LocalModes::ECHO));
    // Erasing works: the last two characters are taken back.
    session.type_in("open sesameXX\u{7f}\u{7f}\n");
    session.wait_for("again: ");
    assert!(!session.shown.contains("sesame"));
    session.type_in("open sesame\n");
    session.wait_for("fingerprint ");
    assert!(!session.shown.contains("sesame"));
    assert!(session.end().success());
    assert_eq!(session.modes(), session.before);
    assert!(fs::read_to_string(home.path().join("identity.key")).unwrap().contains("[protection]"));
}

#[test]
fn two_that_differ_make_no_key() {
    let home = tempfile::tempdir().unwrap();
    let mut session = Session::new(home.path(), &["-p"]);
    session.wait_for("new passphrase: ");
    session.type_in("one\n");
    session.wait_for("again: ");
    session.type_in("two\n");
    session.wait_for("the two were not the same");
    assert_eq!(session.end().code(), Some(1));
    assert!(!home.path().join("identity.key").exists());
}

#[test]
fn the_interrupt_key_leaves_the_terminal_sane_and_dies_of_sigint() {
    let home = tempfile::tempdir().unwrap();
    let mut session = Session::new(home.path(), &["-p"]);
    session.wait_for("new passphrase: ");
    session.type_in("half a pass\u{3}");
    assert_eq!(session.end().signal(), Some(2));
    assert_eq!(session.modes(), session.before);
    assert!(!home.path().join("identity.key").exists());
}

#[test]
fn the_end_of_input_is_no_passphrase() {
    let home = tempfile::tempdir().unwrap();
    let mut session = Session::new(home.path(), &["-p"]);
    session.wait_for("new passphrase: ");
    session.type_in("\u{4}");
    session.wait_for("needs a passphrase: nothing was typed");
    assert_eq!(session.end().code(), Some(3));
}

//! A terminal that a test makes for a program.

use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use super::common::{DEADLINE, eventually, possible};

/// The two ends of a terminal: the keyboard and screen, and what a program is given.
pub fn terminal() -> Option<(File, File)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let opened = openpt(flags).and_then(|controller| {
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let user = ioctl_tiocgptpeer(&controller, flags)?;
        Ok((File::from(controller), File::from(user)))
    });
    possible(opened.is_ok(), "mount /dev/pts").then(|| opened.unwrap())
}

/// A terminal, and everything that was written to it.
pub struct Screen {
    /// What is written to it is typed.
    pub keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    /// The screen, and the end of it that a program is given.
    pub fn new() -> Option<(Self, File)> {
        let (controller, user) = terminal()?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, theirs) = (controller.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = reader.read(&mut buffer) {
                theirs.lock().unwrap().extend_from_slice(&buffer[..len]);
            }
        });
        Some((Self { keyboard: controller, shown }, user))
    }

    /// What it shows; the terminal itself turns `\n` into `\r\n`.
    pub fn text(&self) -> String {
        String::from_utf8(self.shown.lock().unwrap().clone()).unwrap().replace("\r\n", "\n")
    }

    /// Waits until it shows `text`.
    pub fn wait(&self, text: &str) {
        eventually(&format!("{text:?} on the screen"), DEADLINE, || {
            self.text().contains(text).then_some(())
        });
    }
}

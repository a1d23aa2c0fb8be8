//! The file of `ac-send -o`: complete, or not there.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use crate::crypto::sodium::random;

/// A file that takes its name once it is complete, or stdout.
pub enum SealedFile {
    /// stdout, or what is there already and is no regular file: a pipe, a device.
    Special(File),
    /// A file beside the one that it will replace.
    Beside {
        /// What is written.
        file: File,
        /// Its name until then.
        temporary: PathBuf,
        /// Its name in the end.
        path: PathBuf,
        /// Whether it took it.
        kept: bool,
    },
}

impl SealedFile {
    /// stdout, or what is at `path` already and is no regular file; `None` if it is to be a file.
    /// A pipe is waited for until somebody reads it.
    ///
    /// # Errors
    /// What the system says; and a terminal is no place for a sealed box.
    pub fn special(path: &Path) -> io::Result<Option<Self>> {
        if path == Path::new("-") {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(io::Error::other("a sealed box is not for a terminal"));
            }
            return Ok(Some(Self::Special(stdout.as_fd().try_clone_to_owned()?.into())));
        }
        if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
            return File::options().write(true).open(path).map(|file| Some(Self::Special(file)));
        }
        Ok(None)
    }

    /// A file that is to be named `path`.
    ///
    /// # Errors
    /// What the system says.
    pub fn beside(path: &Path) -> io::Result<Self> {
        // A symbolic link stays one; what it names is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let beside = format!(".ac-send-{:016x}.part", u64::from_be_bytes(random()));
        let temporary = path.with_file_name(beside);
        let file = File::options().write(true).create_new(true).open(&temporary)?;
        Ok(Self::Beside { file, temporary, path, kept: false })
    }

    /// Where the packets go.
    ///
    /// # Errors
    /// What the system says.
    pub fn writer(&self) -> io::Result<File> {
        match self {
            Self::Special(file) | Self::Beside { file, .. } => file.try_clone(),
        }
    }

    /// It is complete: it takes its name, in place of what had it.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep(mut self) -> io::Result<()> {
        if let Self::Beside { file, temporary, path, kept } = &mut self {
            file.sync_all()?;
            fs::rename(temporary, path)?;
            *kept = true;
        }
        Ok(())
    }
}

impl Drop for SealedFile {
    fn drop(&mut self) {
        if let Self::Beside { temporary, kept: false, .. } = self {
            // It is of no use; nobody is left to tell.
            let _ = fs::remove_file(temporary);
        }
    }
}

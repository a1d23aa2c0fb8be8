//! The file on disk. Whoever can write to it decides what a listener lets happen, so that nobody
//! else may; everybody may read it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};

use super::MAX_LEN;
use crate::cli::failure::{self, Code, Failure};
use crate::keys::names::harmless;

/// Mode bits that let anybody but the owner write.
const OTHERS_WRITE: u32 = 0o022;

/// A path as a message shows it.
pub fn shown(path: &Path) -> String {
    harmless(&path.to_string_lossy())
}

/// The text of the file; `None` if there is none. A symbolic link is followed, as many keep such
/// files elsewhere: what counts is whose the file is.
///
/// # Errors
/// As [`super::Config::load`].
pub fn read(path: &Path) -> Result<Option<String>, Failure> {
    let usage = |what: String| Failure::new(Code::Usage, what).about(shown(path));
    let local = |e: io::Error| failure::local(&e).about(shown(path));
    // NONBLOCK: a FIFO must not hang us.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(e) if missing(e) => return Ok(None),
        other => other.map_err(|e| local(e.into()))?,
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| local(e.into()))?;
    check(&stat).map_err(|(what, hint)| match hint {
        true => usage(what).hint(format!("chmod go-w {}", shown(path))),
        false => usage(what),
    })?;
    let mut text = Vec::new();
    File::from(fd).take(MAX_LEN as u64 + 1).read_to_end(&mut text).map_err(local)?;
    if text.len() > MAX_LEN {
        return Err(usage(format!("is larger than {} KiB", MAX_LEN / 1024)));
    }
    String::from_utf8(text).map(Some).map_err(|_| usage("is not UTF-8 text".into()))
}

/// No such file, or no directory for it; a link that leads nowhere is no file either.
fn missing(errno: rustix::io::Errno) -> bool {
    matches!(errno, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)
}

/// What is wrong with the file, and whether its mode is.
fn check(stat: &Stat) -> Result<(), (String, bool)> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(("is not a file".into(), false));
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err((format!("belongs to user {}, not to you", stat.st_uid), false));
    }
    if stat.st_mode & OTHERS_WRITE != 0 {
        let mode = stat.st_mode & 0o7777;
        return Err((format!("mode {mode:04o} lets others change it"), true));
    }
    Ok(())
}

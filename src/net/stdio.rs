//! What kind of thing an inherited descriptor is.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat, major};

/// The major number of Linux's memory devices: null, zero, full, random.
const MEMORY_DEVICES: u32 = 1;

/// Whether reading and writing it never waits for another process: a regular file, `/dev/null` and
/// its kin. epoll refuses these, too.
pub(super) fn never_waits(file: &File) -> bool {
    let Ok(stat) = fstat(file.as_fd()) else { return false };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => true,
        FileType::CharacterDevice => major(stat.st_rdev) == MEMORY_DEVICES,
        // Reading it fails at once, which is an error to report and not to wait for.
        FileType::Directory => true,
        _ => false,
    }
}

/// Waits until the descriptor is ready `for_what`. Whoever shares a pipe or terminal with us may
/// have made it non-blocking, and that holds for all who have it.
pub(super) fn wait(file: &File, for_what: PollFlags) {
    // What is wrong with it the next read or write says.
    let _ = poll(&mut [PollFd::new(file, for_what)], None);
}

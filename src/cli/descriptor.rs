//! Descriptors that the shell opened for us: `--passphrase-fd 3 3<file`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::inherited::keep_from_children;

/// A copy of descriptor `number`, closed on exec, sharing its position. The number itself stays
/// open, but not in programs that we run, and nothing is assumed about who owns it.
///
/// # Errors
/// When there is no such descriptor.
pub fn duplicate(number: i32) -> io::Result<OwnedFd> {
    keep_from_children(number);
    // A descriptor of our own process, fetched like one of another's (Linux 5.6).
    let fetched = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|me| pidfd_getfd(me, number, PidfdGetfdFlags::empty()));
    match fetched {
        Ok(fd) => Ok(fd),
        Err(rustix::io::Errno::BADF) => Err(rustix::io::Errno::BADF.into()),
        // Older kernels and strict sandboxes. Of a pipe or terminal this is the same object.
        Err(_) => {
            let path = format!("/dev/fd/{number}");
            Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
        }
    }
}

//! Which of the standard descriptors were open when the program was started, and that the others are
//! for us alone.
//!
//! Before `main` Rust's runtime opens `/dev/null` in place of each that is closed, so that
//! `ac-listen >&-` would acknowledge messages that nobody can ever read. A function in `.init_array`
//! runs before the runtime and looks. This is the only module with `unsafe` in it: to be run that
//! early, and to look at a descriptor by its number, cannot be said otherwise.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;

static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether stdout was closed when the program was started. Where this cannot be known (systems
/// other than Linux), it was not.
pub fn stdout_was_closed() -> bool {
    STDOUT_WAS_CLOSED.load(Ordering::Relaxed)
}

/// What the shell opened for us at descriptor `number` is not for the programs that we run. Those of
/// stdin, stdout and stderr stay theirs.
pub fn keep_from_children(number: i32) {
    #![allow(unsafe_code)]
    if number <= rustix::stdio::raw_stderr() {
        return;
    }
    // SAFETY: only a flag of it is changed; if it is closed, that is an error of no interest.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
}

#[cfg(target_os = "linux")]
mod early {
    #![allow(unsafe_code)]

    use std::os::fd::BorrowedFd;
    use std::sync::atomic::Ordering;

    /// SAFETY: the loader calls what stands in this section once, before `main`, with arguments
    /// that a C function may ignore; the function calls nothing that needs Rust's runtime.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static LOOK: extern "C" fn() = look;

    extern "C" fn look() {
        // SAFETY: the number is only asked about. If it is closed, the answer is an error; nothing
        // else runs yet that could open or close it meanwhile.
        let stdout = unsafe { BorrowedFd::borrow_raw(1) };
        let closed = rustix::io::fcntl_getfd(stdout).is_err();
        super::STDOUT_WAS_CLOSED.store(closed, Ordering::Relaxed);
    }
}

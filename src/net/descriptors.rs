//! How many descriptors this process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a system that does not tell (an emulator, a sandbox) grants at least.
const UNKNOWN: usize = 1024;
/// More is no limit.
const MOST: u64 = 1 << 20;

/// Descriptors that this process may have.
pub fn descriptors() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(UNKNOWN, |(now, _)| now.min(MOST) as usize)
}

/// Raises that number as far as the system lets us without asking anybody.
pub fn raise() {
    let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    // Where it is not granted there are fewer clients, and nothing else is different.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
}

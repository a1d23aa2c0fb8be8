//! How many descriptors this process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a system that does not tell (an emulator, a sandbox) grants at least.
const UNKNOWN: usize = 1024;
/// More is no limit.
const MOST: u64 = 1 << 20;

/// Where the system lists those that are open.
const OPEN: &str = "/dev/fd";
/// So many are taken to be open where it lists none.
const SURELY_OPEN: usize = 16;

/// Descriptors that this process may have.
pub fn most() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(UNKNOWN, |(now, _)| now.min(MOST) as usize)
}

/// Descriptors that this process may still open.
pub fn spare() -> usize {
    // One of those that are listed is the list.
    let open = std::fs::read_dir(OPEN).map_or(SURELY_OPEN, |open| open.count().saturating_sub(1));
    most().saturating_sub(open)
}

/// Raises [`most`] as far as the system lets us without asking anybody, and to `wanted` at most.
pub fn raise(wanted: usize) {
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = most.min(wanted as u64);
    if now < wanted {
        // Where it is not granted there are fewer clients, and nothing else is different.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, most);
    }
}

//! How many descriptors this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that this process may have.
pub fn descriptors() -> usize {
    getrlimit(Resource::Nofile).current.map_or(1 << 20, |n| n as usize)
}

/// Raises that number as far as the system lets us without asking anybody.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is not granted there are fewer clients, and nothing else is different.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

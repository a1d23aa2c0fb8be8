//! What a running program costs, and the machine for those that measure or load it.

use std::fs::{File, read_to_string};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::common::Running;

/// A field of proc(5), `status`, in KiB; none once the program has ended.
fn status_kib(running: &Running, field: &str) -> Option<u64> {
    let status = read_to_string(format!("/proc/{}/status", running.pid())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// Memory that a program has resident now, in bytes.
pub fn resident(running: &Running) -> u64 {
    status_kib(running, "VmRSS:").unwrap() * 1024
}

/// The most memory that a running program has ever had resident.
pub fn peak_resident_kib(running: &Running) -> Option<u64> {
    status_kib(running, "VmHWM:")
}

/// Processor time that a process has used so far, of its own and of the kernel's.
pub fn processor_time(pid: u32) -> Duration {
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = |n| fields.split(' ').nth(n).unwrap().parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 1000 / rustix::param::clock_ticks_per_second())
}

/// The machine's turn, until it is dropped: tests that load the machine, and those with tight limits of
/// time, run one at a time, also those of different processes. A test takes it once, before it starts
/// anything. The process may have all the descriptors that the system allows it.
#[must_use]
pub fn alone() -> File {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let turn = File::open(env!("CARGO_TARGET_TMPDIR")).unwrap();
    turn.lock().unwrap();
    turn
}

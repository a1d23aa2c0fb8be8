//! Programs of ours that are measured: each with a keyring of its own, and ended with its handle.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Thousands of connections need thousands of descriptors.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// A keyring of its own.
pub fn home() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("ac-bench").tempdir()
}

/// The lines of a program's stderr, up to the first that says where it listens.
pub fn ready(child: &mut Child) -> io::Result<SocketAddr> {
    let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?;
    let mut lines = BufReader::new(stderr).lines();
    for line in lines.by_ref() {
        let line = line?;
        let at = line.split_once("listening on ").map(|(_, rest)| rest);
        if let Some(at) = at.and_then(|rest| rest.split_whitespace().next()) {
            let at = at.parse().map_err(io::Error::other)?;
            // What it says later must not fill the pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(at);
        }
    }
    Err(io::Error::other("it ended before it was ready"))
}

/// A child that ends with its handle.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.0.id().to_string())
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> io::Result<i64> {
        let status = std::fs::read_to_string(self.proc().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no VmRSS"))
    }

    /// What it has used of processors, all threads together: proc(5), schedstat.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let mut all = Duration::ZERO;
        for task in std::fs::read_dir(self.proc().join("task"))? {
            let told = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let ns = told.split_whitespace().next().and_then(|ns| ns.parse().ok());
            all += Duration::from_nanos(ns.ok_or_else(|| io::Error::other("no schedstat"))?);
        }
        Ok(all)
    }
}

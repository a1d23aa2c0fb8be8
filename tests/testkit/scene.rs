//! Two people, a listener with a directory, and what the programs report.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use super::common::{DEADLINE, Home, Listener, befriend, names, run};

/// Alice sends, Bob listens.
pub struct Scene {
    pub alice: Home,
    pub bob: Home,
}

impl Scene {
    pub fn new() -> Self {
        let (alice, bob) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        std::fs::create_dir(bob.path().join("in")).unwrap();
        Self { alice, bob }
    }

    /// Where files land.
    pub fn inbox(&self) -> PathBuf {
        self.bob.path().join("in")
    }

    /// What Alice has at `name`.
    pub fn at(&self, name: &str) -> PathBuf {
        self.alice.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `ac-listen -d in ARGS` on a port of the system's choice.
    pub fn listen(&self, args: &[&str]) -> Listener {
        let inbox = self.inbox();
        let common = ["-d", inbox.to_str().unwrap(), "127.0.0.1:0"];
        Listener::spawn(&self.bob, &[&common[..], args].concat())
    }

    /// `ac-send ARGS bob -- PATHS`, as typed in Alice's folder.
    pub fn send(&self, to: &Listener, args: &[&str], paths: &[&str]) -> Output {
        self.send_within(DEADLINE, to, args, paths)
    }

    pub fn send_within(
        &self,
        deadline: Duration,
        to: &Listener,
        args: &[&str],
        paths: &[&str],
    ) -> Output {
        let destination = to.destination("bob");
        let all = [args, &[destination.as_str(), "--"], paths].concat();
        let mut command = self.alice.command("ac-send", &all);
        command.current_dir(self.alice.path());
        run(command, b"", deadline)
    }

    /// What is in the inbox, sorted.
    pub fn landed(&self) -> Vec<String> {
        names(&self.inbox())
    }

    /// The one thing in the inbox that was called `name`, whose time does not matter.
    pub fn arrived(&self, name: &str) -> PathBuf {
        let end = format!("_alice_{name}");
        let mut names = self.landed();
        names.retain(|landed| landed.ends_with(&end) && landed.len() == 15 + end.len());
        assert_eq!(names.len(), 1, "{name}: {:?}", self.landed());
        self.inbox().join(&names[0])
    }
}

/// The objects on `lines` of one kind.
pub fn events(lines: &[u8], kind: &str) -> Vec<Value> {
    let text = std::str::from_utf8(lines).unwrap();
    let objects = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    objects.filter(|object| object["event"] == kind).collect()
}

/// Bytes in the files at and below `path`.
pub fn bytes_below(path: &Path) -> u64 {
    let Ok(stat) = path.symlink_metadata() else { return 0 };
    if stat.is_file() {
        return stat.len();
    }
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries.flatten().map(|entry| bytes_below(&entry.path())).sum()
}

//! Whatever entries a peer sends, every one lands below the directory or is declined.
#![no_main]

use std::path::Path;

use anonchat::proto::stream::meta::Meta;
use anonchat::transfer::beneath::{Beneath, Resolution};
use anonchat::transfer::inbox::{Inbox, Limits, Sender};
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;

/// A sandbox that holds nothing but the directory `in`.
struct Sandbox(std::path::PathBuf);

impl Sandbox {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("anonchat-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(path.join("in")).expect("a temporary directory");
        Self(path)
    }

    fn inbox(&self, resolution: Resolution) -> Inbox {
        let directory = Beneath::open(&self.0.join("in")).expect("it was just made");
        let directory = directory.resolved_by(resolution);
        Inbox::beneath(directory, Limits::default(), TimeZone::UTC, 0).expect("it opens")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn count(path: &Path) -> usize {
    std::fs::read_dir(path).expect("it is there").count()
}

// Kind, mode, size, name and bytes of each message; who resolves.
fuzz_target!(|input: (bool, Vec<(u8, u32, Option<u64>, String, Vec<u8>)>)| {
    let (kernel, messages) = input;
    let sandbox = Sandbox::new();
    let inbox = sandbox.inbox(if kernel { Resolution::Kernel } else { Resolution::Walk });
    let mut to = inbox.delivery(Sender { key: [1; 32], name: "fuzz".into() });
    for (kind, mode, size, name, content) in messages {
        let meta =
            Meta { kind, mode: Some(mode), size, name: Some(name), ..Meta::message([0; 16], 0) };
        if let Ok(Some(resume)) = to.begin(&meta, 0) {
            let _ = to.start_at(resume.offset);
        }
        let _ = to.data(&content);
        if let Ok(Some(name)) = to.end() {
            assert!(!name.contains('/') && sandbox.0.join("in").join(name).exists());
        }
        assert_eq!(count(&sandbox.0), 1);
    }
});

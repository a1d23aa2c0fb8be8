//! `--version` is the name and the version, and nothing else: programs that were built to be measured
//! without sealing would say so there and on stderr.

use crate::testkit::common;

use std::process::Command;

#[test]
fn every_program_tells_its_version_and_seals() {
    for name in ["ac-discover", "ac-keygen", "ac-listen", "ac-relay", "ac-send"] {
        let told = Command::new(common::program(name)).arg("--version").output().unwrap();
        let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((String::from_utf8(told.stdout).unwrap(), told.stderr), (version, Vec::new()));
    }
}

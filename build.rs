//! Links the unwinder into the programs, where the compiler has it as an archive. As `libgcc_s.so` the
//! loader would find, map and relocate it at every start: 0.2 of the 3.6 ms that a short message takes.

// That is how cargo is spoken to.
#![allow(clippy::print_stdout)]

use std::env::var;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |what: &str| var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" && has_archive() {
        // Ahead of std, which then asks for nothing that is in the shared one.
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// Whether the linker of this build finds `libgcc_eh.a`: gcc says where, or repeats the name if it is nowhere.
fn has_archive() -> bool {
    let is_cross = var("HOST") != var("TARGET");
    let linker = match var("RUSTC_LINKER") {
        Ok(linker) => linker,
        Err(_) if is_cross => return false,
        Err(_) => "cc".into(),
    };
    let said = Command::new(linker).arg("-print-file-name=libgcc_eh.a").output();
    said.is_ok_and(|said| Path::new(String::from_utf8_lossy(&said.stdout).trim()).is_absolute())
}

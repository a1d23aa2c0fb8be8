//! Only src/crypto/sodium.rs names `sodiumoxide`, whose safe calls fail open: what goes through
//! that one file is checked there, and nothing goes round it.

use crate::testkit::common::files_below;

use std::path::Path;

/// Comments may speak of it.
fn code_names_it(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.into_iter().any(|line| line.contains("sodiumoxide") || line.contains("libsodium_sys"))
}

#[test]
fn one_file_names_the_library() {
    let all = files_below("src");
    let code = all.iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let naming: Vec<_> = code.filter(|path| code_names_it(path)).collect();
    assert_eq!(naming, [&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/crypto/sodium.rs")]);
}

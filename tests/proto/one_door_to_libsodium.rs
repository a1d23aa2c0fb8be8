//! Only src/crypto/sodium.rs names `sodiumoxide`, whose safe calls fail open: what goes through
//! that one file is checked there, and nothing goes round it.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Comments may speak of it.
fn code_names_it(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.into_iter().any(|line| line.contains("sodiumoxide") || line.contains("libsodium_sys"))
}

#[test]
fn one_file_names_the_library() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    sources(&root.join("src"), &mut all);
    let naming: Vec<_> = all.iter().filter(|path| code_names_it(path)).collect();
    assert_eq!(naming, [&root.join("src/crypto/sodium.rs")]);
}

//! Every flag that `--help` shows stands in the program's manual page, every flag in the page is
//! one of the program's, and the pages are clean mdoc.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::process::Command;

const PROGRAMS: &[(&str, &str)] = &[(env!("CARGO_BIN_EXE_ac-keygen"), "ac-keygen.1")];
const SECTIONS: &[&str] =
    &["FILES", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES", "SECURITY CONSIDERATIONS"];

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/man/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn pages() -> Vec<String> {
    let directory = std::fs::read_dir(format!("{}/man", env!("CARGO_MANIFEST_DIR"))).unwrap();
    directory.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// `-p` and `--protect` from the lines `  -p, --protect` of `--help`.
fn flags_of_help(program: &str) -> BTreeSet<String> {
    let help = Command::new(program).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    help.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .flat_map(|line| line.split([',', ' ']).filter(|word| word.starts_with('-')))
        .map(String::from)
        .collect()
}

/// The same from the items `.It Fl p , Fl -protect` of a page.
fn flags_of_page(name: &str) -> BTreeSet<String> {
    let text = page(name);
    let items = text.lines().filter_map(|line| line.strip_prefix(".It Fl "));
    let flag = |piece: &str| piece.split(' ').next().map(|word| format!("-{word}"));
    items.flat_map(|item| item.split(" , Fl ").filter_map(flag).collect::<Vec<_>>()).collect()
}

#[test]
fn help_and_page_name_the_same_flags() {
    for (program, name) in PROGRAMS {
        let flags = flags_of_help(program);
        assert!(flags.contains("--help") && flags.len() > 5, "{name}: {flags:?}");
        assert_eq!(flags, flags_of_page(name), "{name}");
    }
}

#[test]
fn every_page_has_the_sections_that_people_look_for() {
    for name in pages() {
        let text = page(&name);
        for section in SECTIONS {
            assert!(text.contains(&format!("\n.Sh {section}\n")), "{name}: {section}");
        }
    }
}

#[test]
fn every_page_is_clean_mdoc() {
    for name in pages() {
        let path = format!("{}/man/{name}", env!("CARGO_MANIFEST_DIR"));
        let lint = Command::new("mandoc").args(["-Tlint", "-Wstyle", &path]).output().unwrap();
        let said = String::from_utf8(lint.stdout).unwrap();
        // Pages refer to each other, installed or not.
        let bad: Vec<&str> =
            said.lines().filter(|line| !line.contains("referenced manual not found")).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

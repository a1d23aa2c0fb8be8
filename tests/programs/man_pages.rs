//! Every flag that `--help` shows stands in the program's manual page, every flag in the page is
//! one of the program's; pages that are referred to exist; the table of exit statuses is one; and the
//! pages are clean mdoc.

use crate::testkit::common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use common::need;

const PROGRAMS: &[(&str, &str)] = &[
    (env!("CARGO_BIN_EXE_ac-discover"), "ac-discover.1"),
    (env!("CARGO_BIN_EXE_ac-keygen"), "ac-keygen.1"),
    (env!("CARGO_BIN_EXE_ac-listen"), "ac-listen.1"),
    (env!("CARGO_BIN_EXE_ac-relay"), "ac-relay.1"),
    (env!("CARGO_BIN_EXE_ac-send"), "ac-send.1"),
];
const SECTIONS: &[&str] =
    &["FILES", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES", "SECURITY CONSIDERATIONS"];

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/man/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn pages() -> Vec<String> {
    let directory = std::fs::read_dir(format!("{}/man", env!("CARGO_MANIFEST_DIR"))).unwrap();
    directory.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn help(program: &str) -> String {
    let help = Command::new(program).arg("--help").output().unwrap().stdout;
    String::from_utf8(help).unwrap()
}

/// `-p` and `--protect` from the lines `  -p, --protect` of `--help`.
fn flags_of_help(program: &str) -> BTreeSet<String> {
    help(program)
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .flat_map(|line| line.split([',', ' ']).filter(|word| word.starts_with('-')))
        .map(|flag| flag.trim_end_matches('.').to_owned())
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
fn every_page_of_ours_that_is_referred_to_exists() {
    let pages = pages();
    for name in &pages {
        let text = page(name);
        let references = text.lines().filter_map(|line| line.strip_prefix(".Xr "));
        let ours = references.filter(|r| r.starts_with("ac ") || r.starts_with("ac-"));
        let ours: Vec<_> =
            ours.map(|r| r.split(' ').take(2).collect::<Vec<_>>().join(".")).collect();
        assert!(!ours.is_empty(), "{name} refers to no other page");
        for reference in ours {
            assert!(pages.contains(&reference), "{name} refers to {reference}");
        }
    }
}

/// What each code means, from the end of `--help`.
fn exits_of_help(program: &str) -> BTreeMap<String, String> {
    let help = help(program);
    let (_, table) = help.split_once("Exit status:\n").unwrap();
    let row = |line: &str| line.trim().split_once("  ").map(|(c, m)| (c.into(), m.trim().into()));
    table.lines().filter_map(row).collect()
}

/// The same from the items of ac(7).
fn exits_of_page() -> BTreeMap<String, String> {
    let text = page("ac.7");
    let (_, section) = text.split_once(".Sh EXIT STATUS\n").unwrap();
    let (list, _) = section.split_once("\n.El").unwrap();
    let items = list.split("\n.It ").skip(1);
    items.filter_map(|item| item.split_once('\n')).map(|(c, m)| (c.into(), m.into())).collect()
}

#[test]
fn every_help_and_the_page_of_the_suite_have_the_same_table_of_exit_statuses() {
    let page = exits_of_page();
    assert_eq!(page.len(), 10, "{page:?}");
    for (program, name) in PROGRAMS {
        assert_eq!(exits_of_help(program), page, "{name}");
    }
}

#[test]
fn every_page_is_clean_mdoc() {
    if !need("mandoc") {
        return;
    }
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

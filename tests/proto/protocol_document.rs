//! PROTOCOL.md has every section that the code cites, and its rules are numbered without a gap, so
//! that a review can point at them.

use crate::testkit::common::files_below;

use std::collections::BTreeSet;

fn document() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/PROTOCOL.md")).unwrap()
}

/// `4`, `4.2` and `Keys` of the headings `## 4. Datagrams`, `### 4.2 Opening` and `## 2. Keys`.
fn sections() -> BTreeSet<String> {
    let document = document();
    let headings = document.lines().filter(|line| line.starts_with("##"));
    let parts = headings.filter_map(|line| line.trim_start_matches('#').trim().split_once(' '));
    parts.flat_map(|(n, name)| [n.trim_end_matches('.').to_owned(), name.to_owned()]).collect()
}

/// What follows the document's name and a comma: a number, perhaps behind `section`, or a quoted name.
fn cited(text: &str) -> impl Iterator<Item = String> + '_ {
    let places = text.split(concat!("PROTOCOL", ".md, ")).skip(1);
    places.filter_map(|rest| {
        if let Some(name) = rest.strip_prefix('"') {
            return name.split_once('"').map(|(name, _)| name.to_owned());
        }
        let rest = rest.strip_prefix("section ").unwrap_or(rest);
        let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let number = number.trim_end_matches('.');
        (!number.is_empty()).then(|| number.to_owned())
    })
}

#[test]
fn every_section_that_the_code_cites_is_there() {
    let sections = sections();
    let files = ["src", "tests"].into_iter().flat_map(files_below);
    let code = files.filter(|path| path.extension().is_some_and(|e| e == "rs" || e == "py"));
    let code: Vec<_> = code.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let cited: BTreeSet<String> = code.iter().flat_map(|text| cited(text)).collect();
    assert!(cited.len() > 10, "{cited:?}");
    let missing: Vec<_> = cited.difference(&sections).collect();
    assert!(missing.is_empty(), "cited, and not in PROTOCOL.md: {missing:?}");
}

/// The numbers of `* **K3** …`, in order.
fn rules(letter: char) -> Vec<u32> {
    let (document, start) = (document(), format!("* **{letter}"));
    let rules = document.lines().filter_map(|line| line.strip_prefix(&start));
    // Not a word that begins with the letter, such as MEET.
    let rules = rules.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    rules.map(|rest| rest.split_once("**").unwrap().0.parse().unwrap()).collect()
}

/// The numbers of `12. …` in this section, in order.
fn numbered(section: u32) -> Vec<u32> {
    let document = document();
    let (_, rest) = document.split_once(&format!("\n## {section}. ")).unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let numbers = section.lines().filter_map(|line| line.split_once(". ")?.0.parse().ok());
    numbers.collect()
}

#[test]
fn rules_are_numbered_without_a_gap() {
    // Discovery's go on where those of datagrams end.
    let datagrams = [numbered(4), numbered(6)].concat();
    let all = [
        (rules('K'), 16),
        (rules('S'), 18),
        (rules('L'), 5),
        (rules('H'), 8),
        (rules('M'), 6),
        (datagrams, 36),
    ];
    for (rules, last) in all {
        assert_eq!(rules, (1..=last).collect::<Vec<_>>());
    }
}

//! Whatever a peer calls a file, it lands under one harmless name; what would leave a folder is
//! declined.

use anonchat::keys::names::is_invisible;
use anonchat::transfer::names::{
    BadPath, MAX_COMPONENT, MAX_LANDED, check_link, entry_path, landed_name, numbered, text_of,
};
use jiff::civil::{DateTime, date};
use proptest::prelude::*;

const STAMP: &str = "20261121_130502_";

fn at() -> DateTime {
    date(2026, 11, 21).at(13, 5, 2, 987_654_321)
}

fn land(name: &str) -> String {
    landed_name(at(), "bob", name)
}

/// What a peer calls a file, and what is left of it behind `20261121_130502_bob_`.
const LANDED: [(&str, &str); 44] = [
    ("photo.jpg", "photo.jpg"),
    ("", "unnamed"),
    (".", "unnamed"),
    ("..", "unnamed"),
    ("...", "unnamed"),
    ("/", "unnamed"),
    ("//", "unnamed"),
    (" ", "unnamed"),
    (". . .", "unnamed"),
    ("../", "unnamed"),
    ("../..", "unnamed"),
    ("a/..", "unnamed"),
    ("/etc/passwd", "passwd"),
    ("../../../etc/passwd", "passwd"),
    ("..\\..\\boot.ini", "boot.ini"),
    ("C:\\Windows\\x.dll", "x.dll"),
    ("C:", "C:"),
    ("a/b/c/", "c"),
    ("\0", "_"),
    ("a\0b", "a_b"),
    ("a\nb", "a_b"),
    ("a\r\nb", "a__b"),
    ("\x1b[2J", "_[2J"),
    ("\x1b]0;title\x07", "_]0;title_"),
    ("\x7f", "_"),
    ("\u{9b}31m", "_31m"),
    ("photo\u{202e}gpj.exe", "photo_gpj.exe"),
    ("\u{2066}x\u{2069}", "_x_"),
    ("\u{200b}", "_"),
    ("\u{feff}a", "_a"),
    ("a\u{2028}b", "a_b"),
    ("a\u{e0041}", "a_"),
    ("-rf", "-rf"),
    ("--help", "--help"),
    (".bashrc", ".bashrc"),
    ("~", "~"),
    ("$(reboot)", "$(reboot)"),
    ("CON", "CON"),
    ("NUL.txt", "NUL.txt"),
    ("name. . ", "name"),
    ("x.part", "x.part_"),
    ("X.PaRt", "X.PaRt_"),
    ("x.part.", "x.part_"),
    (".part", ".part_"),
];

#[test]
fn every_name_lands_as_one_plain_name() {
    for (name, left) in LANDED {
        assert_eq!(land(name), format!("{STAMP}bob_{left}"), "{name:?}");
    }
}

#[test]
fn names_of_any_length_land_and_keep_their_extension() {
    for name in ["x".repeat(300), "é".repeat(4096), ".".repeat(300) + "a", "a.".repeat(2000)] {
        assert!(land(&name).len() <= MAX_LANDED, "{name}");
    }
    let long = land(&("ü".repeat(300) + ".jpg"));
    assert!(long.len() >= MAX_LANDED - 2 && long.ends_with("ü.jpg"), "{long}");
    let part = land(&("x".repeat(300) + ".part"));
    assert!(part.len() <= MAX_LANDED && part.ends_with("x.part_"), "{part}");
    assert!(land(&("x.".to_owned() + &"y".repeat(300))).ends_with("yyy"));
}

/// A long name is cut, and then it ends elsewhere.
#[test]
fn what_cutting_brings_to_the_end_is_harmless_too() {
    let room = MAX_LANDED - STAMP.len() - "bob_".len();
    for end in [".part", ".PART", ".", " ", ". .", ".part. ."] {
        for before in room - 12..room + 2 {
            let landed = land(&("x".repeat(before) + end + &"y".repeat(40)));
            assert!(landed.len() <= MAX_LANDED, "{landed}");
            assert!(!landed.ends_with(['.', ' ']), "{landed}");
            assert!(!landed.to_lowercase().ends_with(".part"), "{landed}");
        }
    }
}

#[test]
fn senders_names_are_made_harmless_too() {
    for (from, left) in [
        ("team/alice?", "team_alice?"),
        ("../..", ".._.."),
        ("", "unknown"),
        ("\x1b[0m", "_[0m"),
        ("a\0", "a_"),
    ] {
        assert_eq!(landed_name(at(), from, "x"), format!("{STAMP}{left}_x"));
    }
    assert!(landed_name(at(), &"€".repeat(99), &"€".repeat(99)).len() <= MAX_LANDED);
}

#[test]
fn numbers_go_before_the_extension() {
    assert_eq!(numbered("a_photo.jpg", 2), "a_photo-2.jpg");
    assert_eq!(numbered("a_README", 10), "a_README-10");
    assert!(numbered(&"x".repeat(MAX_LANDED), u32::MAX).len() <= MAX_COMPONENT);
}

/// Entries of a folder that are declined.
const DECLINED: [(&str, BadPath); 17] = [
    ("", BadPath::Empty),
    ("/", BadPath::Absolute),
    ("/etc/passwd", BadPath::Absolute),
    ("//x", BadPath::Absolute),
    (".", BadPath::Dots),
    ("..", BadPath::Dots),
    ("../x", BadPath::Dots),
    ("./x", BadPath::Dots),
    ("a/../x", BadPath::Dots),
    ("a/..", BadPath::Dots),
    ("a/.", BadPath::Dots),
    ("a/../../x", BadPath::Dots),
    ("a//x", BadPath::Empty),
    ("a/", BadPath::Empty),
    ("\0", BadPath::Nul),
    ("a/b\0c", BadPath::Nul),
    ("../\0", BadPath::Dots),
];

#[test]
fn entries_that_would_leave_their_folder_are_declined() {
    for (path, why) in DECLINED {
        assert_eq!(entry_path(path), Err(why), "{path:?}");
    }
    assert_eq!(entry_path(&"x".repeat(256)), Err(BadPath::TooLong));
    assert_eq!(entry_path(&format!("a/{}", "x".repeat(300))), Err(BadPath::TooLong));
    assert_eq!(entry_path(&"\x01".repeat(100)), Err(BadPath::TooLong), "as it would land");
    assert_eq!(entry_path(&"xx/".repeat(2000)), Err(BadPath::TooLong));
    assert_eq!(entry_path(&["x"; 65].join("/")), Err(BadPath::TooDeep));
    assert_eq!(entry_path(&["x"; 64].join("/")), Ok(["x"; 64].join("/")));
}

#[test]
fn other_entries_keep_their_names_and_show_what_controls_a_terminal() {
    for name in ["a/b", ".git/config", "-rf", "x.part", "a b ", "x.", "a\\b", "..a", "...", "~"] {
        assert_eq!(entry_path(name).as_deref(), Ok(name));
    }
    assert_eq!(entry_path("a\x1b[2J/b\n").as_deref(), Ok("a%1B[2J/b%0A"));
    assert_eq!(entry_path("x\u{202e}gpj").as_deref(), Ok("x%E2%80%AEgpj"));
}

#[test]
fn names_that_are_no_text_travel_as_text() {
    assert_eq!(text_of(b"caf\xe9.txt"), "caf%E9.txt");
    assert_eq!(text_of(b"\xff\xfe/\xc3"), "%FF%FE/%C3");
    assert_eq!(text_of("caf\u{e9} 100%".as_bytes()), "caf\u{e9} 100%");
}

#[test]
fn links_that_stay_within_the_folder_are_kept() {
    for (path, target) in [
        ("a", "b"),
        ("a", "b/c/d"),
        ("a", "./b"),
        ("a", "."),
        ("d/a", ".."),
        ("d/a", "../b"),
        ("d/e/a", "../../b//c/"),
        ("a", "...b/..c"),
    ] {
        assert_eq!(check_link(path, target.as_bytes()), Ok(()), "{path} -> {target}");
    }
}

#[test]
fn links_that_lead_out_of_the_folder_or_may_are_declined() {
    for (path, target) in [
        ("a", "/etc/passwd"),
        ("a", "/"),
        ("a", ".."),
        ("a", "../folder/b"),
        ("a", "./../b"),
        ("d/a", "../.."),
        ("d/a", "..//../b"),
        ("d/a", "b/../../.."),
        // Harmless alone; with `b` a link to `..` it is not.
        ("d/a", "b/.."),
    ] {
        let checked = check_link(path, target.as_bytes());
        assert_eq!(checked, Err(BadPath::LinkLeaves), "{path} -> {target}");
    }
    assert_eq!(check_link("a", b""), Err(BadPath::Empty));
    assert_eq!(check_link("a", b"b\0c"), Err(BadPath::Nul));
    assert_eq!(check_link("a", &[b'x'; 5000]), Err(BadPath::TooLong));
}

/// Names made of what is likely to do harm.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/",
        "..",
        ".",
        "\\",
        "\0",
        "\n",
        "\x1b[",
        "\u{202e}",
        "a",
        "é",
        "€",
        " ",
        "-",
        ".part",
        "_",
        "%",
        "𝄞",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ]);
    prop_oneof![prop::collection::vec(pieces, 0..24).prop_map(|p| p.concat()), any::<String>()]
}

fn is_plain(name: &str) -> bool {
    let shown = |c: char| c != '/' && !c.is_control() && !is_invisible(c);
    !matches!(name, "" | "." | "..") && name.len() <= MAX_COMPONENT && name.chars().all(shown)
}

proptest! {
    #[test]
    fn a_landed_name_is_always_plain_and_never_looks_partial(from in hostile(), name in hostile()) {
        let landed = landed_name(at(), &from, &name);
        prop_assert!(landed.starts_with(STAMP) && landed.len() <= MAX_LANDED, "{}", landed);
        prop_assert!(is_plain(&landed) && !landed.to_lowercase().ends_with(".part"), "{}", landed);
        prop_assert!(!landed.ends_with(['.', ' ']), "{}", landed);
        prop_assert!(is_plain(&numbered(&landed, u32::MAX)));
    }

    #[test]
    fn an_entry_is_declined_or_stays_and_is_found_again(path in hostile()) {
        if let Ok(safe) = entry_path(&path) {
            prop_assert!(safe.split('/').all(is_plain), "{}", safe);
            prop_assert_eq!(entry_path(&safe), Ok(safe.clone()));
            prop_assert_eq!(safe.matches('/').count(), path.matches('/').count());
        }
    }

    #[test]
    fn any_bytes_become_text_that_lands(name: Vec<u8>) {
        prop_assert!(is_plain(&land(&text_of(&name))));
    }
}

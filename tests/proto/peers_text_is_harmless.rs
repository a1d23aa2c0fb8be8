//! What a peer wrote cannot move the cursor, colour the screen, turn a line round or hide.

use anonchat::cli::sanitize::{Sanitizer, sanitize_line};
use proptest::prelude::*;

fn in_pieces<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> String {
    let (mut sanitizer, mut out) = (Sanitizer::new(), String::new());
    for piece in pieces {
        sanitizer.push(piece, &mut out);
    }
    sanitizer.finish(&mut out);
    out
}

fn whole(text: impl AsRef<[u8]>) -> String {
    in_pieces([text.as_ref()])
}

#[test]
fn control_characters_are_shown_in_caret_notation() {
    assert_eq!(whole("\x1b[31mred\x07\0\x7f"), "^[[31mred^G^@^?");
    assert_eq!(whole("\u{9b}31m"), "\\u{9b}31m");
    for code in (0..0x20).chain(0x7f..0xa0).filter(|code| !matches!(code, 9 | 10 | 13)) {
        let shown = whole(char::from(code).to_string());
        assert!(shown.len() >= 2 && shown.chars().all(|c| c.is_ascii_graphic()), "{code:#x}");
    }
}

#[test]
fn line_ends_and_tabs_stay_and_a_lone_carriage_return_is_shown() {
    assert_eq!(whole("a\tb\nc\r\nd"), "a\tb\nc\nd");
    assert_eq!(whole("harmless\rhidden"), "harmless^Mhidden");
    assert_eq!(whole("a\r\r\nb\r"), "a^M\nb^M");
    assert_eq!(whole(b"a\r\xff\nb"), "a^M\u{fffd}\nb");
}

#[test]
fn direction_controls_and_invisible_characters_are_shown() {
    assert_eq!(whole("exe\u{202e}gpj"), "exe\\u{202e}gpj");
    let hidden = [
        '\u{61c}',
        '\u{200e}',
        '\u{200f}',
        '\u{202a}',
        '\u{202b}',
        '\u{202c}',
        '\u{202d}',
        '\u{2066}',
        '\u{2067}',
        '\u{2068}',
        '\u{2069}',
        '\u{2028}',
        '\u{2029}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{2060}',
        '\u{2064}',
        '\u{feff}',
        '\u{ad}',
        '\u{3164}',
        '\u{115f}',
        '\u{fff9}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e0100}',
        '\u{1d173}',
    ];
    for c in hidden {
        let shown = format!("a\\u{{{:x}}}b", u32::from(c));
        assert_eq!(whole(format!("a{c}b")), shown);
        assert_eq!(sanitize_line(&format!("a{c}b")), shown);
    }
}

#[test]
fn bytes_that_are_not_utf8_become_replacement_characters() {
    assert_eq!(whole(b"a\xffb"), "a\u{fffd}b");
    assert_eq!(whole(b"\xe2\x82"), "\u{fffd}");
    assert_eq!(whole(b"\xe2\x82z"), "\u{fffd}z");
    // A C1 control as a bare byte, an overlong slash, a surrogate.
    assert_eq!(whole(b"\x9b31m"), "\u{fffd}31m");
    assert_eq!(whole(b"\xc0\xaf"), "\u{fffd}\u{fffd}");
    assert_eq!(whole(b"\xed\xa0\x80"), "\u{fffd}\u{fffd}\u{fffd}");
}

#[test]
fn every_language_and_emoji_pass() {
    for text in [
        "naïve Grüße",
        "e\u{301}",
        "שלום",
        "مرحبا",
        "日本語",
        "👩\u{200d}💻",
        "🏳\u{fe0f}\u{200d}🌈",
        "می\u{200c}خواهم",
        "क\u{94d}\u{200d}ष",
        "1\u{fe0f}\u{20e3}",
        "a ~!",
    ] {
        assert_eq!(whole(text), text);
    }
}

#[test]
fn a_joiner_hides_nowhere_else() {
    assert_eq!(whole("pass\u{200d}word"), "pass\\u{200d}word");
    assert_eq!(whole("é\u{200d}\u{200d}é"), "é\u{200d}\\u{200d}é");
    assert_eq!(whole("\u{200d}"), "\\u{200d}");
    assert_eq!(sanitize_line("é\u{200d}é"), "é\\u{200d}é");
}

#[test]
fn a_name_stays_on_its_line() {
    assert_eq!(sanitize_line("bob\nac-listen: all is well\t\r"), "bob^Jac-listen: all is well^I^M");
}

#[test]
fn a_sanitizer_begins_anew_after_the_end_of_a_text() {
    let (mut sanitizer, mut out) = (Sanitizer::new(), String::new());
    sanitizer.push(b"a\r", &mut out);
    sanitizer.finish(&mut out);
    sanitizer.push(b"\nb\xe2", &mut out);
    sanitizer.finish(&mut out);
    sanitizer.push(b"\x82\xac", &mut out);
    assert_eq!(out, "a^M\nb\u{fffd}\u{fffd}\u{fffd}");
}

/// Bytes rich in what matters: escapes, line ends, joiners, halves of characters.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<char>().prop_map(|c| c.to_string().into_bytes()),
        any::<u8>().prop_map(|byte| vec![byte]),
        prop::sample::select(vec![
            "\r", "\n", "\r\n", "\x1b[2J", "é", "\u{200d}", "\u{202e}", "👩"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_control_character_comes_out(bytes in hostile_bytes()) {
        let out = whole(&bytes);
        prop_assert!(out.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()), "{out:?}");
        let turned = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}');
        prop_assert!(!out.contains(turned), "{out:?}");
        prop_assert!(out.len() <= 4 * bytes.len());
    }

    #[test]
    fn no_control_character_stays_in_a_name(text in any::<String>()) {
        prop_assert!(!sanitize_line(&text).contains(char::is_control));
    }

    #[test]
    fn how_it_was_cut_into_pieces_changes_nothing(bytes in hostile_bytes(), size in 1_usize..7) {
        prop_assert_eq!(in_pieces(bytes.chunks(size)), whole(&bytes));
    }

    #[test]
    fn plain_text_passes_unchanged(text in "[ -~\n\täöüßéλжあ漢🙂]{0,200}") {
        prop_assert_eq!(whole(&text), text);
    }

    #[test]
    fn text_without_control_characters_agrees_with_the_lossy_conversion(bytes in any::<Vec<u8>>()) {
        let bytes: Vec<u8> = bytes.into_iter().filter(|b| *b >= 0x20 && *b != 0x7f).collect();
        let lossy = String::from_utf8_lossy(&bytes);
        prop_assume!(sanitize_line(&lossy) == lossy);
        prop_assert_eq!(whole(&bytes), lossy);
    }
}

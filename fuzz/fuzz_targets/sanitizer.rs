//! No control character comes out, however the text was cut into pieces.
#![no_main]

use anonchat::cli::sanitize::Sanitizer;
use libfuzzer_sys::fuzz_target;

fn shown<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> String {
    let (mut sanitizer, mut out) = (Sanitizer::new(), String::new());
    pieces.for_each(|piece| sanitizer.push(piece, &mut out));
    sanitizer.finish(&mut out);
    out
}

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let out = shown(pieces.iter().map(Vec::as_slice));
    assert!(out.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()));
    assert_eq!(out, shown(std::iter::once(pieces.concat().as_slice())));
});

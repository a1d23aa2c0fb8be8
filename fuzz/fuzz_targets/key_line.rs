//! The one-line form of a key that is read is written so that it reads and writes the same.
#![no_main]

use anonchat::keys::line;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(file) = line::parse(text) {
        let written = line::encode(&file).expect("only public keys have one line");
        let again = line::parse(&written).expect("what was written is read");
        assert_eq!(Some(written), line::encode(&again));
    }
});

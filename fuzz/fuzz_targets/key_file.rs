//! A key file that is read is written so that it reads and writes the same.
#![no_main]

use anonchat::keys::KeyFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = KeyFile::parse(bytes) {
        let written = file.to_toml();
        let again = KeyFile::parse(&written).expect("what was written is read");
        assert_eq!(written[..], again.to_toml()[..]);
    }
});

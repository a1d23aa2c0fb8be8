//! An entry of a history that is read could not have been written otherwise; and no bytes of a file
//! are taken for a frame that is longer than any.
#![no_main]

use anonchat::history::entry::{MAX_ENTRY, decode, encode, length};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(entry) = decode(bytes) {
        assert_eq!(encode(&entry.head, entry.seq, entry.state, &entry.content), bytes);
    }
    assert!(length(bytes).is_none_or(|length| length <= MAX_ENTRY));
});

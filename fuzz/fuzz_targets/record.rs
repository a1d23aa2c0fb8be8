//! A plaintext that is taken for a record is exactly that record.
#![no_main]

use anonchat::proto::stream::record::{header, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|plain: &[u8]| {
    if let Ok((kind, body)) = parse(plain) {
        let mut again = [&header(kind, body.len())[..], body].concat();
        again.resize(plain.len(), 0);
        assert_eq!(again, plain);
    }
});

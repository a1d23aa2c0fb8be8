//! A META or WELCOME that is read is written so that it reads the same.
#![no_main]

use anonchat::proto::stream::meta::{Meta, Welcome};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(meta) = Meta::decode(body) {
        assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
    }
    if let Ok(welcome) = Welcome::decode(body) {
        assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
    }
});

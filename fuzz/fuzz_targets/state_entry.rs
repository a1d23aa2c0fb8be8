//! What an entry of a state says could not have been written otherwise, and without the key nobody
//! makes one.
#![no_main]

use anonchat::crypto::sodium::Secret;
use anonchat::proto::datagram::past::{BadEntry, ENTRY_LEN, Entry, PLAIN_LEN, Past, PastKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(secret) = Secret::from_slice(&[7; 32]) else { return };
    let (key, _) = PastKey::fresh(&secret);
    for plain in bytes.as_chunks::<PLAIN_LEN>().0 {
        if let Some(entry) = Entry::decode(plain) {
            assert_eq!(&entry.encode(), plain);
            assert_eq!(Entry::open(&key, &entry.seal(&key)), Ok(entry));
        }
    }
    let mut past = Past::new(key);
    for block in bytes.as_chunks::<ENTRY_LEN>().0 {
        assert!(PastKey::open(&secret, block).is_err());
        assert_eq!(past.learn(block), Err(BadEntry::Damaged));
    }
});

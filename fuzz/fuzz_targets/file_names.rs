//! Whatever a peer calls a file, it lands as one plain name; an entry of a folder stays below it.
#![no_main]

use anonchat::transfer::names::{
    MAX_COMPONENT, MAX_LANDED, check_link, entry_path, landed_name, numbered, text_of,
};
use libfuzzer_sys::fuzz_target;

fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= MAX_COMPONENT && !name.contains(['/', '\0'])
}

fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (from, name, target) = input;
    let name = text_of(name);
    let landed = landed_name(Default::default(), from, &name);
    assert!(landed.len() <= MAX_LANDED && is_plain(&landed) && !landed.ends_with(".part"));
    assert!(is_plain(&numbered(&landed, u32::MAX)));
    if let Ok(path) = entry_path(&name) {
        assert!(path.split('/').all(is_plain) && !path.contains(char::is_control));
        assert_eq!(entry_path(&path).as_ref(), Ok(&path));
        if check_link(&path, target).is_ok() {
            assert!(!target.starts_with(b"/"));
        }
    }
});

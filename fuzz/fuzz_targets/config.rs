//! Any text is a configuration or wrong in one harmless line.
#![no_main]

use anonchat::cli::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(wrong) = Config::parse(text) {
        let said = wrong.what + wrong.hint.as_deref().unwrap_or("");
        assert!(!said.chars().any(char::is_control) && said.chars().count() < 400, "{said:?}");
        assert!(wrong.line <= text.lines().count() + 1);
    }
});

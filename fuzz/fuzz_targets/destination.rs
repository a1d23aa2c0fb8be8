//! An address that is read is shown so that it reads the same.
#![no_main]

use anonchat::cli::destination::host_port;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match host_port(text) {
        Ok(address) => assert_eq!(host_port(&address.to_string()), Ok(address)),
        Err(failure) => assert!(!failure.message.contains(char::is_control)),
    }
});

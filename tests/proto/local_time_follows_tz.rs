//! The time beside a message is that of `$TZ`.

use anonchat::cli::local_time::stamp;

use crate::testkit::common::{again, assert_passed};

/// 2026-03-29 00:30:00 UTC.
const WHEN: u64 = 1_774_744_200_000;

/// The environment of a running test cannot be changed safely, so the test runs itself again.
#[test]
fn the_zone_of_the_environment_is_used() {
    const CHILD: &str = "AC_TEST_EXPECTED_TIME";
    if let Ok(expected) = std::env::var(CHILD) {
        assert_eq!(stamp(WHEN, WHEN), expected);
        return;
    }
    for (zone, expected) in [("UTC", "00:30:00"), ("XXX-5:30", "06:00:00"), ("YYY+8", "16:30:00")] {
        let mut command = again(module_path!(), "the_zone_of_the_environment_is_used");
        assert_passed(&command.env("TZ", zone).env(CHILD, expected).output().unwrap());
    }
}

//! The time beside a message: local, as `$TZ` or the system says.
//!
//! Nothing is read until the first message is shown; then jiff reads one zone and keeps it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What stands for a time that no calendar has; a peer can claim any 64 bits.
const NO_TIME: &str = "--:--:--";

/// `unix_ms` as `HH:MM:SS`, with `YYYY-MM-DD ` before it if that is another day than that of
/// `now_ms`. Both are milliseconds since 1970, UTC.
pub fn stamp(unix_ms: u64, now_ms: u64) -> String {
    stamp_in(&TimeZone::system(), unix_ms, now_ms)
}

fn stamp_in(zone: &TimeZone, unix_ms: u64, now_ms: u64) -> String {
    let local = |ms: u64| {
        let timestamp = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        Some(zone.to_datetime(timestamp))
    };
    let Some(then) = local(unix_ms) else { return NO_TIME.to_owned() };
    let format =
        if local(now_ms).is_some_and(|now| now.date() == then.date()) { "%T" } else { "%F %T" };
    then.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-29 00:30:00 UTC, half an hour before summer time begins in Berlin.
    const BEFORE: u64 = 1_774_744_200_000;
    const HOUR: u64 = 3_600_000;

    #[test]
    fn the_day_stands_there_only_if_it_is_another() {
        let utc = TimeZone::UTC;
        assert_eq!(stamp_in(&utc, BEFORE, BEFORE + HOUR), "00:30:00");
        assert_eq!(stamp_in(&utc, BEFORE, BEFORE + 24 * HOUR), "2026-03-29 00:30:00");
        assert_eq!(stamp_in(&utc, BEFORE - HOUR, BEFORE), "2026-03-28 23:30:00");
        assert_eq!(stamp_in(&utc, BEFORE + 999, BEFORE), "00:30:00");
    }

    #[test]
    fn summer_time_and_the_local_day_are_respected() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap_or(TimeZone::UTC);
        assert_eq!(stamp_in(&berlin, BEFORE, BEFORE), "01:30:00");
        assert_eq!(stamp_in(&berlin, BEFORE + HOUR, BEFORE), "03:30:00");
        assert_eq!(stamp_in(&berlin, BEFORE - HOUR, BEFORE), "00:30:00");
        assert_eq!(stamp_in(&berlin, BEFORE - 2 * HOUR, BEFORE), "2026-03-28 23:30:00");
    }

    #[test]
    fn a_time_that_no_calendar_has_is_no_panic() {
        for ms in [u64::MAX, i64::MAX as u64, 1 << 60] {
            assert_eq!(stamp_in(&TimeZone::UTC, ms, BEFORE), NO_TIME);
        }
        assert_eq!(stamp_in(&TimeZone::UTC, 0, u64::MAX), "1970-01-01 00:00:00");
    }
}

//! The time beside a message: local, as `$TZ` or the system says.
//!
//! And back: a time that a user writes. Nothing is read until the first message is shown; then jiff reads one zone and keeps it.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::units;

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

/// When `text` is, as milliseconds since 1970, UTC: `2h`, so long before `now_ms`; a date, which is
/// the beginning of that day here; a date and a time here; or one with an offset (RFC 3339).
///
/// # Errors
/// What a user should read about it.
pub fn since(text: &str, now_ms: u64) -> Result<u64, String> {
    since_in(&TimeZone::system(), text, now_ms)
}

fn since_in(zone: &TimeZone, text: &str, now_ms: u64) -> Result<u64, String> {
    if let Ok(back) = units::duration(text) {
        return Ok(now_ms.saturating_sub(back.as_millis() as u64));
    }
    let here = |time: DateTime| time.to_zoned(zone.clone()).ok().map(|z: Zoned| z.timestamp());
    let midnight = |date: Date| date.to_datetime(jiff::civil::Time::midnight());
    let time = (text.parse::<Timestamp>().ok())
        .or_else(|| here(text.parse::<DateTime>().ok()?))
        .or_else(|| here(midnight(text.parse::<Date>().ok()?)));
    let time = time.ok_or("use a time back from now (2h, 7d), a date (2026-11-21), or RFC 3339")?;
    Ok(u64::try_from(time.as_millisecond()).unwrap_or(0))
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
    fn a_time_is_written_as_a_span_a_date_or_both() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap_or(TimeZone::UTC);
        let since = |text| since_in(&berlin, text, BEFORE);
        assert_eq!(since("2h"), Ok(BEFORE - 2 * HOUR));
        assert_eq!(since("2026-03-29T00:30:00Z"), Ok(BEFORE));
        assert_eq!(since("2026-03-29T02:30:00+02:00"), Ok(BEFORE));
        assert_eq!(since("2026-03-29 01:30"), Ok(BEFORE));
        assert_eq!(since("2026-03-29"), Ok(BEFORE - 3 * HOUR / 2));
        assert_eq!(since("1960-01-01"), Ok(0));
        for wrong in ["", "yesterday", "2026-13-01", "10:30", "-2h"] {
            assert!(since(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_time_that_no_calendar_has_is_no_panic() {
        for ms in [u64::MAX, i64::MAX as u64, 1 << 60] {
            assert_eq!(stamp_in(&TimeZone::UTC, ms, BEFORE), NO_TIME);
        }
        assert_eq!(stamp_in(&TimeZone::UTC, 0, u64::MAX), "1970-01-01 00:00:00");
    }
}

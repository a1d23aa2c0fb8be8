//! Times and rates as users write them: `90`, `90s`, `1.5m`, `2h`, `1d`; `20/s`, `600/m`.

use std::time::Duration;

use crate::proto::limits::{MAX_COUNT, Rate};

/// A year: longer is a typing mistake.
const LONGEST: f64 = 365.0 * 86_400.0;

/// A time above zero; a bare number counts seconds.
///
/// # Errors
/// What a user should read about it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        other => return Err(format!("{other:?} is no unit of time: use ms, s, m, h or d")),
    };
    let digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value: f64 = number.parse().ok().filter(|_| digits).ok_or("not a number")?;
    let seconds = value * unit;
    if seconds > 0.0 && seconds <= LONGEST {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be more than 0 and at most 365d".into())
    }
}

/// A rate, or 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaybeRate(pub Option<Rate>);

/// A rate: a number and `/s`, `/m` or `/h`. 0 alone is no limit.
///
/// # Errors
/// What a user should read about it.
pub fn rate(text: &str) -> Result<MaybeRate, String> {
    if text == "0" {
        return Ok(MaybeRate(None));
    }
    let form = || "a rate is a number and /s, /m or /h, such as 20/s, or 0 for no limit".to_owned();
    let (number, unit) = text.split_once('/').ok_or_else(form)?;
    let per = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(form()),
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let count = number.parse().ok().filter(|_| digits).ok_or_else(form)?;
    let rate = Rate::new(count, Duration::from_secs(per));
    rate.map(|rate| MaybeRate(Some(rate))).ok_or_else(|| format!("must be from 1 to {MAX_COUNT}"))
}

/// A time as error messages show it: `10 s`, `1.5 s`.
pub fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_number_and_a_time() {
        let a_minute = Rate::new(600, Duration::from_secs(60));
        assert_eq!(rate("600/m"), Ok(MaybeRate(a_minute)));
        assert_eq!(rate("20/s"), Ok(MaybeRate(Some(Rate::a_second(20)))));
        assert_eq!(rate("0"), Ok(MaybeRate(None)));
        for wrong in ["", "20", "/s", "0/s", "-1/s", "1.5/s", "20/d", "20/s ", "+2/s", "9999999/s"]
        {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_take_units() {
        assert!(duration("5x").is_err_and(|why| why.contains("ms, s, m, h or d")));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "s", "-1", "0", "1w", "1 s", "1e3", "9999d", "inf", "."] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}

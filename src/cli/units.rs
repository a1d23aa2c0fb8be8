//! Times, rates and sizes as users write them: `90`, `90s`, `1.5m`, `2h`, `1d`; `20/s`, `600/m`;
//! `1000`, `10M`, `1.5G`.

use std::time::Duration;

use crate::sched::limits::{MAX_COUNT, Rate};

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

/// A time that somebody chose, such as `1 d`: in the largest unit that leaves no fraction.
pub fn span(time: Duration) -> String {
    let whole =
        |unit: &(u64, &str)| time.as_secs() >= unit.0 && time.as_secs().is_multiple_of(unit.0);
    let (unit, name) =
        [(86_400, "d"), (3600, "h"), (60, "m")].into_iter().find(whole).unwrap_or((1, "s"));
    format!("{} {name}", time.as_secs() / unit)
}

/// A size in bytes; k, M, G and T are powers of 1024.
///
/// # Errors
/// What a user should read about it.
pub fn size(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(format!("{:?} is no unit: use k, M, G or T", &text[number.len()..])),
    };
    let unit = 1024_u64.pow(power);
    let too_large = || "that is too large".to_owned();
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).ok_or_else(too_large);
    }
    let digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value: f64 = number.parse().ok().filter(|_| digits).ok_or("not a number")?;
    let bytes = value * unit as f64;
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(too_large()) }
}

/// A size for people: `999 bytes`, `1.2 MB`.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64;
    let mut unit = "";
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 999.95 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    format!("{value:.1} {unit}")
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
    fn sizes_take_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1000"), Ok(1000));
        assert_eq!(size("10M"), Ok(10 << 20));
        assert_eq!(size("1.5k"), Ok(1536));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert!(size("5x").is_err_and(|why| why.contains("k, M, G or T")));
        for wrong in ["", "k", "-1", "1 k", "1e3", "99999999999999999999", "1.2.3", "9999999999T"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_shown_with_one_decimal() {
        let shown = [0, 999, 1000, 1_234_567, 999_999, 4 << 30].map(bytes);
        assert_eq!(shown, ["0 bytes", "999 bytes", "1.0 kB", "1.2 MB", "1.0 MB", "4.3 GB"]);
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

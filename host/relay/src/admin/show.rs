//! Times, sizes and limits as people read them.

use std::time::{Duration, UNIX_EPOCH};

use crate::limits::Limits;

/// The last millisecond of the year 9999: later ones have no RFC 3339 form.
const LAST_MS: u64 = 253_402_300_799_999;

/// A wall time in UTC (RFC 3339), to the second.
pub(crate) fn time(wall_ms: u64) -> String {
    let since = Duration::from_millis(wall_ms.min(LAST_MS));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// The day of a wall time in UTC.
pub(crate) fn date(wall_ms: u64) -> String {
    let mut text = time(wall_ms);
    text.truncate("2026-11-21".len());
    text
}

/// A number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A day in UTC, of days since 1970.
pub(crate) fn day(days: u32) -> String {
    date(u64::from(days).saturating_mul(24 * 3_600_000))
}

/// A wall time in milliseconds, given as such or as a time that has passed until `now_ms`.
pub(crate) fn moment(text: &str, now_ms: u64) -> Result<u64, &'static str> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).ok();
    let moment = match humantime::parse_duration(text) {
        Ok(ago) => ms(ago).map(|ago| now_ms.saturating_sub(ago)),
        Err(_) => humantime::parse_rfc3339_weak(text)
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .and_then(ms),
    };
    moment.ok_or("neither a time (2026-11-21T10:00:00Z) nor a duration (90m, 7d)")
}

/// A duration to the second.
pub(crate) fn duration(ms: u64) -> String {
    humantime::format_duration(Duration::from_secs(ms / 1000)).to_string()
}

/// A size with three digits or so.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths, in integers: exact up to the last digit shown.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Every limit with its name in relay.toml and its value, in the order of the names.
pub(crate) fn limits(limits: &Limits) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(values)) = serde_json::to_value(limits) else {
        return Vec::new();
    };
    let text = |value: &serde_json::Value| match (value.get("burst"), value.get("per_minute")) {
        (Some(_), Some(per_minute)) if per_minute == 0 => "no limit".to_owned(),
        (Some(burst), Some(per_minute)) => format!("{burst} at once, then {per_minute} a minute"),
        _ => value.to_string(),
    };
    let pairs = values
        .iter()
        .map(|(name, value)| (name.clone(), text(value)));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(moment("90m", 6_000_000), Ok(600_000));
        assert_eq!(moment("1970-01-01T00:01:00Z", 5), Ok(60_000));
        assert_eq!(moment("9d", 5), Ok(0));
        assert!(moment("soon", 5).is_err() && moment("", 5).is_err());
        assert_eq!(time(1_790_000_000_000), "2026-09-21T14:13:20Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(
            (day(0), day(20_778)),
            ("1970-01-01".into(), "2026-11-21".into())
        );
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(day(u32::MAX), "9999-12-31");
        assert_eq!(duration(90_061_000), "1day 1h 1m 1s");
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        let mut some = Limits::default();
        some.sends.per_minute = 0;
        let shown = limits(&some);
        let of = |name: &str| shown.iter().find(|(n, _)| n == name).unwrap().1.clone();
        assert_eq!(of("connections"), "4096");
        assert_eq!(of("calls"), "4000 at once, then 60000 a minute");
        assert_eq!(of("sends"), "no limit");
    }
}

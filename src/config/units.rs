// SPDX-License-Identifier: Apache-2.0
//! Sizes (`16M`) and durations (`4d`) as written in settings.

use std::time::Duration;

const SIZE_UNITS: [(&str, u64); 4] = [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)];
const TIME_UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// What `parse_size` accepts, for error messages.
pub const SIZE_FORM: &str = "a number of bytes, or a number with K, M or G, such as 16M";
/// What `parse_duration` accepts, for error messages.
pub const DURATION_FORM: &str = "a number of seconds, or a number with s, m, h, d or w, such as 4d";

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

/// Parses `26214400`, `25M`, `512k` or `1G` to bytes; `None` for anything else and for what does not fit into 64 bits.
pub fn parse_size(text: &str) -> Option<u64> {
    scaled(text, &SIZE_UNITS)
}

/// Parses a duration such as `90`, `90s`, `15m`, `2h`, `4d` or `1w`; a number alone means seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    scaled(text, &TIME_UNITS).map(Duration::from_secs)
}

fn largest_unit(value: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .map_or_else(|| value.to_string(), |(name, factor)| format!("{}{name}", value / factor))
}

/// The shortest form that [`parse_size`] reads back to the same number.
pub fn format_size(bytes: u64) -> String {
    largest_unit(bytes, &SIZE_UNITS)
}

/// The shortest form that [`parse_duration`] reads back to the same whole seconds.
pub fn format_duration(duration: Duration) -> String {
    largest_unit(duration.as_secs(), &TIME_UNITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse_size("16M"), Some(16 << 20));
        assert_eq!(parse_size("512k"), Some(512 << 10));
        assert_eq!(parse_size("7"), Some(7));
        assert_eq!(parse_duration("4d"), Some(Duration::from_secs(345_600)));
        assert_eq!(parse_duration("90"), Some(Duration::from_secs(90)));
        for wrong in ["", "M", "-1", "1.5M", "10X", "99999999999999999999", "99999999999G", "1MM"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
        for wrong in ["", "d", "1y", "-4d", "4 d d"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn form_and_parse_agree(value in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(value)), Some(value));
            let time = Duration::from_secs(value);
            prop_assert_eq!(parse_duration(&format_duration(time)), Some(time));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Dates in the format of mail (RFC 5322 sections 3.3 and 4.3).

use super::tokens::{Token, TokenKind, tokens};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// The names defined in RFC 5322 section 4.3, in addition to the single letters.
const ZONES: [&str; 10] = ["UT", "GMT", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT"];

/// Seconds since 1970 of the earliest and latest date that the format can express: 1900 to 9999.
const RANGE: (i64, i64) = (-2_208_988_800, 253_402_300_799);

/// Maximum length of a date that is corrected, in bytes.
const CORRECTED_LIMIT: usize = 200;
/// Length of every date that [`rfc5322`] writes, in bytes.
pub const LENGTH: usize = 31;

/// Corrects the dates that begin at `places` in `header`: they become `unix`. A place without one of our dates is left
/// alone.
pub fn correct(header: &mut [u8], places: &[u32], unix: i64) {
    let date = rfc5322(unix);
    for place in places {
        let Some(start) = usize::try_from(*place).ok() else { continue };
        let Some(old) = start.checked_add(LENGTH).and_then(|end| header.get_mut(start..end)) else { continue };
        if old.len() == date.len() && is_date(old) {
            old.copy_from_slice(date.as_bytes());
        }
    }
}

/// The date of `unix` (seconds since 1970) in UTC: `Mon, 23 Nov 2026 01:02:03 +0000`. Times beyond the years that the
/// format can express (1900 to 9999) become the nearest date that it can.
pub fn rfc5322(unix: i64) -> String {
    let unix = unix.clamp(RANGE.0, RANGE.1);
    let (days, seconds) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // Years are counted from March, so that the leap day is the last one; an era is 400 years of 146097 days, the
    // first of them begins on 1 March 0000, which is 719468 days before 1970.
    let from_march_0 = days + 719_468;
    let (era, day_of_era) = (from_march_0.div_euclid(146_097), from_march_0.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year_of_era + i64::from(month < 2);
    // Written five times for each message. Not by `format!`, which takes longer for a number with a width.
    let mut date = String::with_capacity(LENGTH);
    date.push_str(name(&DAYS, weekday(days)));
    two_digits(&mut date, ", ", day);
    date.push(' ');
    date.push_str(name(&MONTHS, month));
    two_digits(&mut date, " ", year / 100);
    two_digits(&mut date, "", year % 100);
    two_digits(&mut date, " ", seconds / 3600);
    two_digits(&mut date, ":", seconds / 60 % 60);
    two_digits(&mut date, ":", seconds % 60);
    date.push_str(" +0000");
    date
}

/// Appends `before`, and a number below 100 with two digits.
fn two_digits(text: &mut String, before: &str, number: i64) {
    text.push_str(before);
    for digit in [number / 10, number % 10] {
        text.push(u32::try_from(digit).ok().and_then(|digit| char::from_digit(digit, 10)).unwrap_or('0'));
    }
}

/// Whether `value`, what follows `Date:`, is a date that RFC 5322 allows, including obsolete forms and comments, and
/// one that exists: 30 February does not, nor does a Monday that was a Sunday.
pub fn is_date(value: &[u8]) -> bool {
    year_of(value).is_some()
}

/// The last year that only a clock which was never set can have: they start in 1970, 1980, 1984, 1994, 1999 or 2000.
pub const UNSET_UNTIL: i64 = 2000;

/// The year of `value`, if that [is a date](is_date).
pub fn year_of(value: &[u8]) -> Option<i64> {
    let mut parts = tokens(value).filter(|token| !token.is_filling());
    parse(&mut parts).filter(|_| parts.next().is_none())
}

/// `value` with what is often wrong with dates corrected, if nothing else is: the weekday or the way it is written, a
/// time with single digits, the month in full, the zone missing, incomplete, or not written as in mail. A zone that can
/// be understood in two ways is not guessed.
pub fn corrected(value: &[u8]) -> Option<Vec<u8>> {
    if is_date(value) || value.len() > CORRECTED_LIMIT {
        return None;
    }
    let digit = |token: &Token<'_>| token.text.first().is_some_and(u8::is_ascii_digit);
    let all: Vec<Token<'_>> = tokens(value).collect();
    let (before, after) = all.split_at_checked(all.iter().position(digit)?)?;
    // A date without a weekday gets none.
    let weekday = before.iter().any(|token| !token.is_filling());
    // The time, and where it ends: the colon of `12:30+01:00` belongs to the zone.
    let solid: Vec<(usize, &Token<'_>)> = after.iter().enumerate().filter(|(_, token)| !token.is_filling()).collect();
    let colon = solid.iter().position(|(_, token)| token.is(b':'))?;
    let hour = solid.get(colon.checked_sub(1)?)?.0;
    let seconds = solid.get(colon + 1)?.1.text.iter().all(u8::is_ascii_digit)
        && solid.get(colon + 2).is_some_and(|(_, token)| token.is(b':'));
    let end = solid.get(colon + if seconds { 3 } else { 1 })?.0 + 1;
    let (date, after) = after.split_at_checked(end)?;
    let mut out = Vec::with_capacity(value.len() + 8);
    let mut attached = &[][..];
    for (at, Token { text, kind }) in date.iter().enumerate() {
        match MONTHS.iter().find(|month| begins(text, month.as_bytes())) {
            _ if *kind != TokenKind::Atom => out.extend_from_slice(text),
            _ if at >= hour => {
                let (digits, rest) = text.split_at_checked(digits(text))?;
                if digits.len() == 1 {
                    out.push(b'0');
                }
                out.extend_from_slice(digits);
                if !rest.is_empty() && at + 1 < end {
                    return None;
                }
                attached = rest;
            }
            Some(month) => out.extend_from_slice(month.as_bytes()),
            None => out.extend_from_slice(text),
        }
    }
    let mut solid = after.iter().filter(|token| !token.is_filling());
    let legal = attached.is_empty()
        && solid.next().is_some_and(|token| token.kind == TokenKind::Atom && is_zone(token.text))
        && solid.next().is_none();
    if legal {
        out.extend(after.iter().flat_map(|token| token.text));
    } else {
        let is_comment = |token: &&Token<'_>| token.kind == TokenKind::Comment;
        let zone = after.iter().filter(|token| !is_comment(token)).flat_map(|token| token.text);
        out.extend(offset([attached, &zone.copied().collect::<Vec<_>>()].concat().trim_ascii())?);
        for comment in after.iter().filter(is_comment) {
            out.push(b' ');
            out.extend_from_slice(comment.text);
        }
    }
    if !weekday {
        return Some([b" ", out.as_slice()].concat()).filter(|date| is_date(date));
    }
    DAYS.iter().map(|day| dated(day, &out)).find(|date| is_date(date))
}

/// The zone `text` as RFC 5322 section 3.3 writes it, with a space before it: its name, its offset, or both. A name
/// after the offset becomes a comment.
fn offset(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_empty() {
        // Not knowing the zone (RFC 5322 section 3.3).
        return Some(b" -0000".to_vec());
    }
    let sign = text.iter().position(|byte| matches!(byte, b'+' | b'-')).unwrap_or(text.len());
    let (name, numbers) = text.split_at_checked(sign)?;
    let name = name.trim_ascii();
    let named = minutes_of(name);
    if named.is_none() && !name.is_empty() {
        return None;
    }
    let Some((sign, numbers)) = numbers.split_first() else {
        return Some(written('+', named?).into_bytes());
    };
    let (hours, rest) = numbers.split_at_checked(digits(numbers))?;
    let count = hours.len();
    let (hours, minutes, tail) = match (number(hours, 1..=4)?, rest) {
        (hours, [b':', tail @ ..]) if count < 3 => (hours, number(tail.get(..2)?, 2..=2)?, tail.get(2..)?),
        // `+04`, the name that the time zone database has for zones without one.
        (hours, tail) if count < 3 => (hours, 0, tail),
        (both, tail) => (both / 100, both % 100, tail),
    };
    if hours > 14 || minutes > 59 {
        return None;
    }
    let offset = (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 };
    // `GMT+01:00` is an hour ahead, as everybody writes it. With hours only, `GMT+1` was an hour behind in the time zone
    // database until 2016, and old systems still print that name.
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let from_universal = is("UTC") || is("UT") || is("GMT") && (count > 2 || numbers.contains(&b':'));
    let tail = tail.trim_ascii();
    let agrees = named.is_none_or(|minutes| minutes == offset || from_universal)
        && minutes_of(tail).is_none_or(|minutes| minutes == offset);
    // Anything else after the offset may be part of the date.
    let is_name = tokens(tail).all(|token| token.is_filling() || token.kind == TokenKind::Atom || token.is(b'.'));
    if !agrees || !is_name || tail.iter().any(u8::is_ascii_digit) {
        return None;
    }
    let mut out = written(char::from(*sign), hours * 60 + minutes).into_bytes();
    if !tail.is_empty() {
        out.extend([b" (", tail, b")"].concat());
    }
    Some(out)
}

/// The offset of `minutes`, with a space before it.
fn written(sign: char, minutes: i64) -> String {
    let mut out = format!(" {sign}");
    two_digits(&mut out, "", minutes / 60);
    two_digits(&mut out, "", minutes % 60);
    out
}

/// The offset that the name of a zone means, in minutes. Names of several zones are missing (`IST`, `BST`), also those
/// of North America, which RFC 5322 section 4.3 defines: `+0800 CST` is the time of China.
fn minutes_of(name: &[u8]) -> Option<i64> {
    let hours = match name.to_ascii_uppercase().as_slice() {
        b"UTC" | b"UT" | b"GMT" | b"Z" | b"WET" => 0,
        b"CET" | b"MEZ" | b"WEST" => 1,
        b"CEST" | b"MESZ" | b"EET" => 2,
        b"EEST" => 3,
        _ => return None,
    };
    Some(hours * 60)
}

/// Number of digits at the start of `text`.
fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn dated(day: &str, date: &[u8]) -> Vec<u8> {
    [b" ", day.as_bytes(), b", ", date].concat()
}

fn begins(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
}

/// The year.
fn parse<'a>(parts: &mut impl Iterator<Item = Token<'a>>) -> Option<i64> {
    let mut first = atom(parts)?;
    let mut expected = None;
    if let Some(day_name) = DAYS.iter().position(|name| first.eq_ignore_ascii_case(name.as_bytes())) {
        expected = Some(day_name);
        special(parts, b',')?;
        first = atom(parts)?;
    }
    let day = number(first, 1..=2)?;
    let month_name = atom(parts)?;
    let month = MONTHS.iter().position(|name| month_name.eq_ignore_ascii_case(name.as_bytes()))?;
    let year_text = atom(parts)?;
    // RFC 5322 section 4.3: two digits below 50 belong to this century; three digits count from 1900.
    let year = match (number(year_text, 2..=9)?, year_text.len()) {
        (year @ 0..50, 2) => 2000 + year,
        (year, 2 | 3) => 1900 + year,
        (year, _) => year,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 if leap => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    if year < 1900 || !(1..=length).contains(&day) {
        return None;
    }
    if let Some(expected) = expected
        && weekday(days_from_1970(year, month, day)) != i64::try_from(expected).ok()?
    {
        return None;
    }
    let hour = number(atom(parts)?, 2..=2)?;
    special(parts, b':')?;
    let minute = number(atom(parts)?, 2..=2)?;
    let mut after = parts.next()?;
    if after.is(b':') {
        // 60 is a leap second.
        if number(atom(parts)?, 2..=2)? > 60 {
            return None;
        }
        after = parts.next()?;
    }
    (hour < 24 && minute < 60 && after.kind == TokenKind::Atom && is_zone(after.text)).then_some(year)
}

fn is_zone(text: &[u8]) -> bool {
    match text {
        [b'+' | b'-', digits @ ..] => {
            digits.len() == 4 && number(digits, 4..=4).is_some_and(|offset| offset % 100 < 60)
        }
        [letter] => letter.is_ascii_alphabetic() && !letter.eq_ignore_ascii_case(&b'J'),
        _ => ZONES.iter().any(|zone| text.eq_ignore_ascii_case(zone.as_bytes())),
    }
}

fn atom<'a>(parts: &mut impl Iterator<Item = Token<'a>>) -> Option<&'a [u8]> {
    parts.next().filter(|token| token.kind == TokenKind::Atom).map(|token| token.text)
}

fn special<'a>(parts: &mut impl Iterator<Item = Token<'a>>, byte: u8) -> Option<()> {
    parts.next().filter(|token| token.is(byte)).map(|_| ())
}

/// The number that `text` represents, with as many digits as `digits` allows.
fn number(text: &[u8], digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    if !digits.contains(&text.len()) || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Days from 1970 to a day; `month` counts from 0, `day` from 1.
pub fn days_from_1970(year: i64, month: usize, day: i64) -> i64 {
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    // Leap days lie at the end of February: January and February still belong to the year before.
    let leap_years = if month < 2 { year - 1 } else { year };
    let leap_days = leap_years / 4 - leap_years / 100 + leap_years / 400;
    // 477 leap days before 1970.
    (year - 1970) * 365 + leap_days - 477 + before.get(month).copied().unwrap_or(0) + day - 1
}

/// 0 for Monday; 1970 began with a Thursday.
fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7)
}

fn name(names: &[&'static str], index: i64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_dates_of_ours_are_put_right() {
        let mut header = format!("Received: x;\r\n\t{0}\r\nDate: {0}\r\nSubject: x\r\n", rfc5322(12)).into_bytes();
        let (first, second) = (15, 15 + 31 + 2 + 6);
        correct(&mut header, &[first, second, 3, 4_000_000], 1_795_395_723);
        let right = rfc5322(1_795_395_723);
        assert_eq!(right.len(), LENGTH);
        let expected = format!("Received: x;\r\n\t{right}\r\nDate: {right}\r\nSubject: x\r\n");
        assert_eq!(String::from_utf8(header).unwrap(), expected);
    }

    #[test]
    fn written() {
        for (unix, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (-1, "Wed, 31 Dec 1969 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_795_395_723, "Mon, 23 Nov 2026 01:02:03 +0000"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 +0000"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 +0000"),
            (i64::MIN, "Mon, 01 Jan 1900 00:00:00 +0000"),
        ] {
            assert_eq!(rfc5322(unix), date);
        }
    }

    #[test]
    fn legal_dates() {
        for good in [
            " Mon, 23 Nov 2026 01:02:03 +0000",
            "Mon, 23 Nov 2026 01:02 -0330",
            "23 Nov 2026 01:02:03 +0000",
            "1 jan 2026 23:59:60 +1400",
            " Thu,\r\n 13\r\n  Feb\r\n 1969\r\n 23:32\r\n -0330 (Newfoundland Time)",
            "Fri, 21 Nov 97 09(comment):   55  :  06 -0600",
            "21 Nov 97 09:55:06 GMT",
            "21 Nov 126 09:55:06 Z",
            "29 Feb 2024 00:00 EDT",
            "29 Feb 2000 00:00 EDT",
        ] {
            assert!(is_date(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "now",
            "2026-11-23T01:02:03Z",
            "Mon 23 Nov 2026 01:02:03 +0000",
            "Mon, 23 Nov 2026 01:02:03",
            "Mon, 23 Nov 2026 01:02:03 CET",
            "Mon, 23 Nov 2026 01:02:03 J",
            "Mon, 23 Nov 2026 01:02:03 +0000 x",
            "Mon, 23 Nov 2026 01:02:03 +0060",
            "Mon, 23 Nov 2026 24:00:00 +0000",
            "Mon, 23 Nov 2026 1:02:03 +0000",
            "Tue, 23 Nov 2026 01:02:03 +0000",
            "Mon, 23 November 2026 01:02:03 +0000",
            "31 Jun 2026 01:02:03 +0000",
            "29 Feb 2026 01:02:03 +0000",
            "29 Feb 2100 01:02:03 +0000",
            "0 Jan 2026 01:02:03 +0000",
            "23 Nov 1026 01:02:03 +0000",
            "23/11/2026 01:02:03 +0000",
        ] {
            assert!(!is_date(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn small_faults_are_corrected() {
        let right = " Mon, 23 Nov 2026 01:02:03 +0000";
        for wrong in [
            "Tue, 23 Nov 2026 01:02:03 +0000",
            " tue,23 Nov 2026 01:02:03 +0000",
            "Monday, 23 Nov 2026 01:02:03 +0000",
            "Tues, 23 Nov 2026 01:02:03 +0000",
            "Mo., 23 Nov 2026 01:02:03 +0000",
            "Xyz 23 Nov 2026 01:02:03 +0000",
            ", 23 Nov 2026 01:02:03 +0000",
            "(Tue) Tue, 23 Nov 2026 01:02:03 +0000",
            "Tue (x), 23 Nov 2026 01:02:03 +0000",
            "Mon, 23 Nov 2026 1:02:03 +0000",
            "Mon, 23 Nov 2026 01:02:03 +000",
            "Mon, 23 Nov 2026 01:02:03+0000",
            "Mon, 23 Nov 2026 01:02:03 +00:00",
            "Tue, 23 November 2026 01:02:03 +0000",
            "Mon, 23 Nov 2026 01:02:03 UTC",
            "Mon, 23 Nov 2026 01:02:03 utc",
            "Mon, 23 Nov 2026 01:02:03UTC",
            "Mon, 23 Nov 2026 01:02:03Z",
            "Mon, 23 Nov 2026 01:02:03 UTC+00:00",
            "Mon, 23 Nov 2026 01:02:03 GMT+0000",
            "Mon, 23 Nov 2026 01:02:03 GMT+0",
            "Mon, 23 Nov 2026 01:02:03 +00",
            "Mon, 23 Nov 2026 01:02:03 +0",
            "Mon, 23 Nov 2026 1:2:3 +0000",
            "Mon, 23 Nov 2026 01:02:3 UTC",
        ] {
            assert_eq!(
                corrected(wrong.as_bytes()).map(|date| String::from_utf8(date).unwrap()).as_deref(),
                Some(right),
                "{wrong}"
            );
        }
        for (wrong, right) in [
            (" Tue, 23 Nov 2026 01:02:03 -0330 (NST)", " Mon, 23 Nov 2026 01:02:03 -0330 (NST)"),
            ("Mon, 23 Nov 2026 01:02:03", " Mon, 23 Nov 2026 01:02:03 -0000"),
            ("Mon, 23 Nov 2026 01:02:03 -600", " Mon, 23 Nov 2026 01:02:03 -0600"),
            ("23 Nov 2026 1:02 CET", " 23 Nov 2026 01:02 +0100"),
            ("Mo, 23 Nov 2026 00:01+0000", " Mon, 23 Nov 2026 00:01 +0000"),
            ("Mon, 23 Nov 2026 01:02:03 MESZ", " Mon, 23 Nov 2026 01:02:03 +0200"),
            ("Mon, 23 Nov 2026 01:02:03 EET", " Mon, 23 Nov 2026 01:02:03 +0200"),
            ("Mon, 23 Nov 2026 01:02:03 +0000 UTC", " Mon, 23 Nov 2026 01:02:03 +0000 (UTC)"),
            ("Mon, 23 Nov 2026 01:02:03 +0800 CST", " Mon, 23 Nov 2026 01:02:03 +0800 (CST)"),
            ("Mon, 23 Nov 2026 01:02:03 +01:00 CET", " Mon, 23 Nov 2026 01:02:03 +0100 (CET)"),
            ("Mon, 23 Nov 2026 01:02:03 +0100CET", " Mon, 23 Nov 2026 01:02:03 +0100 (CET)"),
            ("Mon, 23 Nov 2026 01:02:03 CET+0100", " Mon, 23 Nov 2026 01:02:03 +0100"),
            (
                "Mon, 23 Nov 2026 01:02:03 +0100 W. Europe Standard Time",
                " Mon, 23 Nov 2026 01:02:03 +0100 (W. Europe Standard Time)",
            ),
            ("Mon, 23 Nov 2026 01:02:03 GMT+01:00", " Mon, 23 Nov 2026 01:02:03 +0100"),
            ("Mon, 23 Nov 2026 01:02:03 GMT-3:30", " Mon, 23 Nov 2026 01:02:03 -0330"),
            ("Mon, 23 Nov 2026 01:02:03 GMT +0100 (CET)", " Mon, 23 Nov 2026 01:02:03 +0100 (CET)"),
            ("Mon, 23 Nov 2026 01:02:03 UTC+1", " Mon, 23 Nov 2026 01:02:03 +0100"),
            ("Mon, 23 Nov 2026 01:02:03 +1", " Mon, 23 Nov 2026 01:02:03 +0100"),
            ("Mon, 23 Nov 2026 01:02:03 -03", " Mon, 23 Nov 2026 01:02:03 -0300"),
            ("Mon, 23 Nov 2026 01:02:03 +1:00", " Mon, 23 Nov 2026 01:02:03 +0100"),
            ("Mon, 23 Nov 2026 01:02+01:00", " Mon, 23 Nov 2026 01:02 +0100"),
            ("Mon, 23 Nov 2026 1:2", " Mon, 23 Nov 2026 01:02 -0000"),
            ("Mon, 23 Nov 2026 01:02:03 (UTC)", " Mon, 23 Nov 2026 01:02:03 -0000 (UTC)"),
            ("Mon, 23 Nov 2026 01:02:03 UTC (x)", " Mon, 23 Nov 2026 01:02:03 +0000 (x)"),
            ("Tue, 23 Nov 2026 01:02:03 CST", " Mon, 23 Nov 2026 01:02:03 CST"),
            ("Tue, 23 Nov 2026 09(comment):   55  :  06 -0600", " Mon, 23 Nov 2026 09(comment):   55  :  06 -0600"),
        ] {
            assert_eq!(
                corrected(wrong.as_bytes()).map(|date| String::from_utf8(date).unwrap()).as_deref(),
                Some(right),
                "{wrong}"
            );
        }
        for other in [
            right,
            "Tue, 23 Nov 2026",
            "23 Nov 2026 01:02:03 +0000",
            "",
            "Tue",
            "now",
            "Mon, 23 Nov 2026 24:00:00 +0000",
            "Mon, 23 Nov 2026 01:02:03 GMT+1",
            "Mon, 23 Nov 2026 01:02:03 GMT-08",
            "Mon, 23 Nov 2026 01:02:03 CET-1",
            "Mon, 23 Nov 2026 01:02:03 CET-1CEST",
            "Mon, 23 Nov 2026 01:02:03 +0000 CET",
            "Mon, 23 Nov 2026 01:02:03 +0100 UTC",
            "Mon, 23 Nov 2026 01:02:03 BST",
            "Mon, 23 Nov 2026 01:02:03 PM",
            "Mon, 23 Nov 2026 01:02:03PM",
            "Mon, 23 Nov 2026 01:02:03P",
            "Mon, 23 Nov 2026 01:02:03 AM +0000",
            "Mon, 23 Nov 2026 01:02:03 +0000 2026",
            "Mon, 23 Nov 2026 01:02:03 +0000 \"x\"",
            "Mon, 23 Nov 2026 01:02:03 +15",
            "Mon, 23 Nov 2026 01:02:03 +1:0",
            "Mon, 23 Nov 2026 01:02:03 +01000",
            "Mon, 23 Nov 2026 01:02:03 +",
            "Mon, 23 Nov 2026 01:02:03 0100",
            "Mon, 23 Nov 2026 :02:03 +0000",
            "Mon, 23 Nov 2026 01:",
            "Mon, 23 Nov 2026 1x:02:03 +0000",
            "Mon, 31 Nov 2026 01:02:03 +0000",
            "2026-11-23T01:02:03Z",
        ] {
            assert_eq!(corrected(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn clocks_that_were_never_set() {
        for old in ["Thu, 01 Jan 1970 00:00:12 +0000", "1 Jan 80 00:00 GMT", "Sun, 31 Dec 2000 23:59:59 +0000"] {
            assert!(year_of(old.as_bytes()).is_some_and(|year| year <= UNSET_UNTIL), "{old}");
        }
        for other in ["Mon, 01 Jan 2001 00:00:00 +0000", "1 Jan 26 00:00 GMT", "1970", "Thu, 01 Jan 1970 00:00"] {
            assert!(year_of(other.as_bytes()).is_none_or(|year| year > UNSET_UNTIL), "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_we_write_is_a_date(unix: i64) {
            prop_assert!(is_date(rfc5322(unix).as_bytes()));
            let nearby = unix % 300_000_000_000;
            prop_assert!(is_date(rfc5322(nearby).as_bytes()), "{}", rfc5322(nearby));
        }

        #[test]
        fn anything_can_be_asked_about(value: Vec<u8>) {
            is_date(&value);
            corrected(&value);
        }

        #[test]
        fn what_is_corrected_is_a_date(value in "[A-Z]?[a-z]{0,3},? ?[0-9]{1,2} Nov 20[0-9]{2} [0-9]{1,2}:[0-9]{1,2} ?((UTC|GMT|CET|Z|x) ?)?[+-]?[0-9:]{0,5} ?(CET|UTC|x\\.y|\\(z\\))?") {
            prop_assert!(corrected(value.as_bytes()).is_none_or(|date| is_date(&date)));
        }
    }
}

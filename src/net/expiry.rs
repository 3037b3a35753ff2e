// SPDX-License-Identifier: Apache-2.0
//! When a certificate expires, for display only. Nothing here decides on trust: TLS itself has verified the
//! certificate.

use super::x509::{Certificate, any};
use crate::message::date::days_from_1970;

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity, in seconds since 1970. `None` if it cannot be found where it belongs.
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    let validity = Certificate::read(certificate)?.validity;
    let (_, _, behind) = any(validity)?;
    let (tag, end, _) = any(behind)?;
    match tag {
        // Two-digit year: 1950 to 2049 (RFC 5280 section 4.1.2.5.1).
        UTC_TIME => {
            let year = number(end.get(..2)?)?;
            time(if year < 50 { 2000 + year } else { 1900 + year }, end.get(2..)?)
        }
        GENERALIZED_TIME => time(number(end.get(..4)?)?, end.get(4..)?),
        _ => None,
    }
}

/// `MMDDHHMMSSZ` within a year; certificates allow no other form.
fn time(year: i64, rest: &[u8]) -> Option<i64> {
    let [a, b, c, d, e, f, g, h, i, j, b'Z'] = rest else { return None };
    let two = |tens: &u8, ones: &u8| number(&[*tens, *ones]);
    let (month, day) = (two(a, b)?, two(c, d)?);
    let (hour, minute, second) = (two(e, f)?, two(g, h)?, two(i, j)?);
    let exists = month <= 12 && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let month = usize::try_from(month - 1).ok()?;
    exists.then(|| days_from_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// A number of at most four digits.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum: i64, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn made(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["mx.example".to_string()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        assert_eq!(not_after(&made(2010)), Some(1_293_753_600));
        assert_eq!(not_after(&made(2049)), Some(2_524_521_600));
        assert_eq!(not_after(&made(2099)), Some(4_102_358_400));
    }

    #[test]
    fn a_time_that_does_not_exist_is_none() {
        assert_eq!(time(2026, b"1123010203Z"), Some(1_795_395_723));
        for odd in [&b"1323010203Z"[..], b"1123010203", b"112301020aZ", b"1123250203Z", b"0023010203Z", b"11230102+0Z"]
        {
            assert_eq!(time(2026, odd), None, "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_fault(bytes: Vec<u8>, at in 0usize..300, byte: u8, cut in 0usize..600) {
            let _ = not_after(&bytes);
            let mut changed = made(2049);
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            let _ = not_after(&changed);
            changed.truncate(cut);
            prop_assert!(changed.len() > 200 || not_after(&changed).is_none());
        }
    }
}

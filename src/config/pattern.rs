// SPDX-License-Identifier: Apache-2.0
//! Patterns of mail addresses in settings: `ops@example.com`, `*@example.com`, `alarm-*@*.example.com`.

use std::fmt;

use super::reader::Reader;
use crate::message::address::routes;
use crate::message::is_address;

/// What [`Pattern::parse`] accepts, for error messages.
pub const PATTERN_FORM: &str =
    "an address or a pattern such as ops@example.com, *@example.com or * (a star matches anything)";

/// Matches addresses. A star matches any characters, including none. In a local part it does not match
/// `%`, `!`, `:` or a quoted `@`: `x%evil.example@example.com` could go on to `evil.example`, so `*@example.com` does
/// not match it ([`is_routed`](crate::message::address::is_routed)). Only `*` alone matches everything. Matching is
/// case-insensitive: local parts could differ by case (RFC 5321 section 2.4), but at no provider they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Parses a pattern; `None` when no address could ever match it.
    pub fn parse(text: &str) -> Option<Self> {
        // With any letter instead of its stars it must be an address, or a name without a domain such as `root`.
        let sample = text.replace('*', "x");
        let fits = is_address(&sample) || is_local_name(&sample);
        fits.then(|| Self(text.to_string()))
    }

    /// Whether `address` matches.
    ///
    /// Local part and domain are compared separately, both ending at the last `@`: the `@` of a pattern never stands
    /// for one in the quotes of a local part, behind which a star would cover the real domain.
    pub fn matches(&self, address: &str) -> bool {
        let parts = |text| str::rsplit_once(text, '@');
        match (parts(&self.0), parts(address)) {
            _ if self.0 == "*" => true,
            (Some((local, domain)), Some((name, host))) => matches(domain, host, 0) && matches(local, name, name.len()),
            (Some(_), None) => false,
            (None, found) => matches(&self.0, address, found.map_or(address.len(), |(local, _)| local.len())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Warns about the values of `list option` that are read as the name of a local user and look like a domain: such a
/// pattern would match no address, although it stands where one of addresses is expected.
pub(super) fn report_domains<'a>(option: &str, patterns: impl IntoIterator<Item = &'a Pattern>, read: &mut Reader) {
    for Pattern(text) in patterns {
        if text.contains('.') && !text.contains('*') && is_address(&format!("x@{text}")) {
            let text = format!(
                "list {option} '{text}' matches only the name {text}, without a domain: for all addresses of the domain, write *@{text}"
            );
            read.warn(option, text);
        }
    }
}

/// Whether `text` can be the name of a local user, such as `root`: a local part (RFC 5321 section 4.1.2)
/// without quotes and domain.
pub fn is_local_name(text: &str) -> bool {
    is_address(&format!("{text}@x")) && !text.contains('@') && !text.starts_with('"')
}

/// Scans `text` once for each star that has to be extended: at most as many steps as the product of both lengths.
///
/// It is enough to extend the last star: what an earlier one could match instead has the same characters. `local` is
/// the length of the local part at the start of `text`.
fn matches(pattern: &str, text: &str, local: usize) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    // After the last star, and up to where it extends.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(read) {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                at += 1;
                star = Some((at, read));
            }
            (Some(wanted), _) if wanted.eq_ignore_ascii_case(byte) => {
                at += 1;
                read += 1;
            }
            (_, Some((behind, reach))) if reach >= local || !text.get(reach).copied().is_some_and(routes) => {
                at = behind;
                read = reach + 1;
                star = Some((behind, reach + 1));
            }
            _ => return false,
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn which_addresses_are_meant() {
        for (pattern, address, expected) in [
            ("ops@example.com", "OPS@Example.COM", true),
            ("ops@example.com", "ops@example.com.evil.org", false),
            ("*@example.com", "a@example.com", true),
            ("*@example.com", "a@sub.example.com", false),
            ("*@example.com", "a@evil-example.com", false),
            ("*@*.example.com", "a@sub.example.com", true),
            ("*@*.example.com", "a@example.com", false),
            ("alarm-*@*", "alarm-1@x.org", true),
            ("alarm-*@*", "alarm@x.org", false),
            ("*a*b*@x.org", "xxaxxabxx@x.org", true),
            ("*", "root", true),
            ("*", "a@b", true),
            ("root", "root", true),
            ("root", "root@b", false),
            // Local parts with a route in them, which a star does not match.
            ("*@example.com", "x%evil.org@example.com", false),
            ("*@example.com", "evil.org!x@example.com", false),
            ("*@example.com", "\"x@evil.org\"@example.com", false),
            ("*@example.com", "\"@evil.org:x\"@example.com", false),
            ("*@example.com", "\"a b\"@example.com", true),
            ("x*@*", "x%evil.org@example.com", false),
            ("*%*@*", "x%evil.org@example.com", true),
            ("*%*@*", "x%evil.org%other.org@example.com", false),
            ("x%evil.org@example.com", "X%evil.org@example.com", true),
            ("\"*@evil.org\"@example.com", "\"x@evil.org\"@example.com", true),
            ("*", "x%evil.org@example.com", true),
            ("*", "x%evil.org", true),
            // The `@` of a pattern is the one before the domain, whatever its stars could match.
            ("*@*.example.com", "\"x@evil.org\"@a.example.com", false),
            ("*@*example.com", "\"x@evil.org\"@a.example.com", false),
            ("*@e*", "\"x@evil.org\"@example.com", false),
            ("*@*", "\"x@evil.org\"@example.com", false),
            ("*ops@*.example.com", "\"ops@evil.org\"@a.example.com", false),
            ("\"*@*\"@*.example.com", "\"x@evil.org\"@a.example.com", true),
            // Names without a domain are local parts as well.
            ("x*", "x%evil.org", false),
            ("x*", "x1", true),
            // A pattern without a domain.
            ("alarm*", "alarm-1@example.com", true),
            ("*example.com", "a@example.com", true),
            ("*example.com", "\"x@evil.org\"@example.com", false),
            ("a@[IPv6:*]", "a@[IPv6:2001:db8::1]", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(address), expected, "{pattern} {address}");
        }
        for wrong in ["", "a b", "a@", "@b", "a@b@c", "*@example,com", "<a@b>"] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong}");
        }
        assert!(is_local_name("root") && !is_local_name("root@x") && !is_local_name("\"a@b\"") && !is_local_name(""));
    }

    /// The same by trying everything that a star could match; `barred` is what it does not.
    fn simple(pattern: &str, text: &str, barred: &str) -> bool {
        let Some((c, rest)) = pattern.split_at_checked(1) else { return text.is_empty() };
        let reach = text.find(|c| barred.contains(c)).unwrap_or(text.len());
        match c {
            "*" => (0..=reach).any(|n| simple(rest, &text[n..], barred)),
            c => text.strip_prefix(c).is_some_and(|tail| simple(rest, tail, barred)),
        }
    }

    proptest! {
        #[test]
        fn stars_stand_for_anything(local in "[ab%@*]{0,6}", domain in "[ab*]{0,6}", name in "[ab%@]{0,7}", host in "[ab]{0,7}") {
            let expected = simple(&local, &name, "%!@:") && simple(&domain, &host, "");
            let pattern = Pattern(format!("{local}@{domain}"));
            prop_assert_eq!(pattern.matches(&format!("{name}@{host}")), expected);
            prop_assert!(!pattern.matches(&host));
            prop_assert_eq!(Pattern(format!("a{domain}")).matches(&name.replace('@', "%")), simple(&format!("a{domain}"), &name.replace('@', "%"), "%"));
        }

        #[test]
        fn anything_can_be_asked(pattern in "\\PC{0,20}", text in "\\PC{0,20}") {
            if let Some(pattern) = Pattern::parse(&pattern) {
                pattern.matches(&text);
            }
        }
    }
}

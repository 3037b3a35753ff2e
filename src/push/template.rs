// SPDX-License-Identifier: Apache-2.0
//! Templates with placeholders such as `{subject}`. Whatever a value contains, it remains one value: it is escaped for
//! the place where it stands, and a placeholder within a value is not filled in.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::message::base64;

/// The names of all placeholders.
pub const NAMES: [&str; 9] = ["subject", "text", "from", "device", "id", "time", "to", "priority", "token"];
/// Those whose value differs from message to message, apart from the message ID.
const OF_MESSAGE: [&str; 5] = ["subject", "text", "from", "device", "time"];

/// In a form: all but the unreserved characters of RFC 3986 section 2.3.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// In a URL: also those that separate nothing, neither in a path segment nor in a query (RFC 3986 section 3.3).
const URL: &AsciiSet = &FORM.remove(b':').remove(b'@').remove(b'!');

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a string of JSON (RFC 8259 section 7).
    Json,
    /// In a value of a form (`application/x-www-form-urlencoded`).
    Form,
    /// In a segment of the path of a URL, or in its query.
    Url,
    /// In the value of a header field (RFC 9110 section 5.5).
    Header,
    /// In the value of a header field, as an encoded word (RFC 2047 section 2) of any length.
    Word,
    /// As it is: in a form with parts (RFC 7578), whose boundary does not occur in it.
    Part,
}

/// The values of all placeholders, in the order of [`NAMES`].
pub type Values<'a> = [&'a str; NAMES.len()];

impl Place {
    fn push(self, value: &str, out: &mut String) {
        match self {
            Self::Json => {
                let quoted = Zeroizing::new(serde_json::to_string(value).unwrap_or_default());
                out.push_str(quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default());
            }
            Self::Form => out.extend(utf8_percent_encode(value, FORM)),
            Self::Url => out.extend(utf8_percent_encode(value, URL)),
            Self::Header => out.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c })),
            Self::Word => out.extend(["=?utf-8?b?", &base64(value.as_bytes()), "?="]),
            Self::Part => out.push_str(value),
        }
    }
}

/// Splits `template` before and after its first placeholder, whose index in [`NAMES`] stands between the two.
fn split(template: &str) -> Option<(&str, usize, &str)> {
    let mut from = 0;
    loop {
        let at = from + template.get(from..)?.find('{')?;
        let name = template.get(at + 1..)?.split_once('}');
        let known = name.and_then(|(name, after)| Some((NAMES.iter().position(|known| *known == name)?, after)));
        if let Some((index, after)) = known {
            return Some((template.get(..at)?, index, after));
        }
        from = at + 1;
    }
}

/// `template` with its placeholders replaced by their values. Wiped from memory when dropped, since one of them is a
/// secret.
pub fn fill(template: &str, place: Place, values: &Values<'_>) -> Zeroizing<String> {
    // A growing string leaves copies of secrets behind; what is escaped is rarely longer than twice the value.
    let room = values.iter().map(|value| value.len() * 2).sum::<usize>() + template.len();
    let mut out = Zeroizing::new(String::with_capacity(room));
    let mut rest = template;
    while let Some((before, index, after)) = split(rest) {
        out.push_str(before);
        place.push(values.get(index).copied().unwrap_or_default(), &mut out);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether the placeholder called `name` stands in `template`.
pub fn has(template: &str, name: &str) -> bool {
    template.contains(&format!("{{{name}}}"))
}

/// Whether `template` becomes the same for each message, apart from the message ID.
pub fn is_fixed(template: &str) -> bool {
    !OF_MESSAGE.iter().any(|name| has(template, name))
}

/// The first placeholder in `template` that does not exist, such as `{sender}`.
pub fn unknown(template: &str) -> Option<&str> {
    let names = template.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    names.into_iter().find(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !NAMES.contains(name)
    })
}

/// What is wrong with `template` as a JSON body: it has to be JSON whatever the values are, so each placeholder must
/// stand within a string.
pub fn json_fault(template: &str) -> Option<String> {
    let filled = fill(template, Place::Json, &["a\"b"; NAMES.len()]);
    serde_json::from_str::<Value>(&filled).err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values<'a>(subject: &'a str, text: &'a str) -> Values<'a> {
        [subject, text, "plc@example.com", "pump", "x1", "", "ops", "high", "s3cret"]
    }

    #[test]
    fn values_are_escaped_for_their_place() {
        let values = values("a \"b\" & c=d/ü\r\nX: y", "{token}\\");
        for (template, place, expected) in [
            (
                "{\"t\":\"{subject}\",\"m\":\"{text}\"}",
                Place::Json,
                r#"{"t":"a \"b\" & c=d/ü\r\nX: y","m":"{token}\\"}"#,
            ),
            ("t={subject}&u={to}", Place::Form, "t=a%20%22b%22%20%26%20c%3Dd%2F%C3%BC%0D%0AX%3A%20y&u=ops"),
            (
                "/x/{subject}?to={from}",
                Place::Url,
                "/x/a%20%22b%22%20%26%20c%3Dd%2F%C3%BC%0D%0AX:%20y?to=plc@example.com",
            ),
            ("Title: {subject}", Place::Header, "Title: a \"b\" & c=d/ü  X: y"),
            ("Title: {subject}", Place::Word, "Title: =?utf-8?b?YSAiYiIgJiBjPWQvw7wNClg6IHk=?="),
            ("{subject} {to}", Place::Part, "a \"b\" & c=d/ü\r\nX: y ops"),
            ("{{to}} {nobody} {", Place::Form, "{ops} {nobody} {"),
        ] {
            assert_eq!(fill(template, place, &values).as_str(), expected);
        }
    }

    #[test]
    fn faults_of_templates_are_found() {
        assert_eq!(unknown("{\"a\":{\"b\":\"{text}\"}} {sender} {x}"), Some("sender"));
        assert_eq!(unknown("{\"a\":{\"b\":\"{text}\"}}"), None);
        assert_eq!(json_fault("{\"a\":[\"{text}: {subject}\"]}"), None);
        for wrong in ["{\"a\":{text}}", "{\"a\":\"{text}\"", "{text}"] {
            assert!(json_fault(wrong).is_some(), "{wrong}");
        }
        assert!(is_fixed("https://x/{to}/{id}?k={token}") && !is_fixed("https://x/{device}"));
    }

    proptest! {
        #[test]
        fn whatever_a_value_is_it_remains_one_value(subject: String, text in "[ -~\n\r\t\u{0}äß€🔥{}\"\\\\&=%+]{0,60}") {
            let values = values(&subject, &text);
            let json = fill("{\"a\":\"{subject}\",\"b\":\"{text}\",\"c\":\"{to}\"}", Place::Json, &values);
            let read: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&read, &serde_json::json!({ "a": subject, "b": text, "c": "ops" }));

            let form = fill("a={subject}&b={text}&c={to}", Place::Form, &values);
            let read: Vec<_> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
            let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
            prop_assert_eq!(read, [pair("a", &subject), pair("b", &text), pair("c", "ops")]);

            let url = fill("/p/{subject}/q?b={text}&c={to}", Place::Url, &values);
            prop_assert!(url.bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
            let (path, query) = url.split_once('?').unwrap();
            let segments: Vec<_> = path.split('/').collect();
            prop_assert_eq!(segments.len(), 4);
            let decoded = percent_encoding::percent_decode_str(segments[2]).decode_utf8().unwrap();
            prop_assert_eq!(&*decoded, &subject);
            let read: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            prop_assert_eq!(read, [pair("b", &text), pair("c", "ops")]);

            let header = fill("X: {subject}", Place::Header, &values);
            prop_assert!(!header.contains(char::is_control));
        }
    }
}

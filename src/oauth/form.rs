// SPDX-License-Identifier: Apache-2.0
//! Names and values of a form, as used in requests and in URLs (`application/x-www-form-urlencoded`, RFC 6749 appendix
//! B).

use zeroize::Zeroizing;

/// Capacity for a form with a token of some kilobytes, allocated at once: a growing string leaves copies of secrets
/// behind in memory.
const ROOM: usize = 16 << 10;

/// A form that is being filled in. Wiped from memory when dropped.
pub struct Form(Zeroizing<String>);

impl Form {
    /// An empty one.
    pub fn new() -> Self {
        Self(Zeroizing::new(String::with_capacity(ROOM)))
    }

    /// Adds a name and its value; an empty value is left out.
    pub fn add(mut self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                self.0.push(char::from(byte));
            } else {
                self.0.push('%');
                [byte >> 4, byte & 15]
                    .iter()
                    .filter_map(|digit| char::from_digit(u32::from(*digit), 16))
                    .for_each(|digit| self.0.push(digit.to_ascii_uppercase()));
            }
        }
        self
    }

    /// The encoded form.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Default for Form {
    fn default() -> Self {
        Self::new()
    }
}

/// The value of `name` in the query of `address`, or in a query alone. `None` if it is missing, or if it is not UTF-8.
pub fn value_of(address: &str, name: &str) -> Option<Zeroizing<String>> {
    let query = address.split_once('?').map_or(address, |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let value = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))?.1;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6749_appendix_b() {
        let form = Form::new().add("a", " %&+£€").add("empty", "").add("b", "x");
        assert_eq!(form.text(), "a=%20%25%26%2B%C2%A3%E2%82%AC&b=x");
        assert_eq!(value_of("+%25%26%2B%C2%A3%E2%82%AC", "a"), None);
        assert_eq!(value_of("a=+%25%26%2B%C2%A3%E2%82%AC", "a").unwrap().as_str(), " %&+£€");
    }

    #[test]
    fn broken_values_are_none() {
        for address in
            ["", "http://127.0.0.1/", "?code", "?code=%", "?code=%4", "?code=%zz", "?code=%ff", "?xcode=1", "#code=1"]
        {
            assert_eq!(value_of(address, "code"), None, "{address}");
        }
        assert_eq!(value_of("http://127.0.0.1/?state=a&code=4%2F0b#x", "code").unwrap().as_str(), "4/0b");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(name in "[a-z_]{1,9}", value in "\\PC{1,40}", more: String) {
            let form = Form::new().add(&name, &value).add("zz0", &more);
            assert_eq!(value_of(form.text(), &name).as_deref(), Some(&value));
            let _ = value_of(&more, &name);
        }
    }
}

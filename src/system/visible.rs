// SPDX-License-Identifier: Apache-2.0
//! Invisible characters that change how a line is read.

/// Whether `c` changes the writing direction (Unicode 15 section 23.3: U+061C, U+200E, U+200F, U+202A to U+202E, U+2066
/// to U+2069) or ends a line for some programs (U+2028, U+2029). With these, text from a device can look like text from
/// another source.
pub fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with these characters spelled out, such as `<U+202E>`.
pub fn spelled_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_deceptive(c) {
            true => out.push_str(&format!("<U+{:04X}>", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_text_around_can_be_seen() {
        assert_eq!(spelled_out("a\u{202e}b\u{61c}\u{2028}ü €"), "a<U+202E>b<U+061C><U+2028>ü €");
        let all = (0x2000..0x2070).filter_map(char::from_u32).filter(|c| is_deceptive(*c)).count();
        assert_eq!(all, 2 + 7 + 4);
    }
}

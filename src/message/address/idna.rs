// SPDX-License-Identifier: Apache-2.0
//! Internationalized domains as A-labels (`müller.example` as `xn--mller-kva.example`, RFC 5891 section 4.4), for
//! servers that accept only ASCII. Punycode (RFC 3492) with the parts of Unicode that it needs: the tables of a full
//! IDNA library would be larger than all of the gateway's grammar. Capitals of the scripts that have them in domains
//! are converted to lower case. Letters followed by a combining accent, as macOS writes them, are composed (RFC 5891
//! section 5.3) where the result is a common letter; other text that is not composed is refused, since it would name
//! another domain.

use crate::message::tokens::is_odd_blank;

/// Maximum length of a label, in bytes (RFC 1035 section 2.3.4).
const LABEL_LIMIT: usize = 63;

/// `label` in ASCII; `None` if that is not possible.
pub fn label(label: &str) -> Option<String> {
    if label.is_ascii() {
        return Some(label.to_string());
    }
    let mut small: Vec<char> = Vec::new();
    for c in label.chars().map(lowercase) {
        if is_odd_blank(c) || c.is_control() {
            return None;
        }
        match is_combining(c) {
            true => {
                let base = small.pop()?;
                small.push(composed(base, c)?);
            }
            false => small.push(c),
        }
    }
    let encoded = format!("xn--{}", punycode(&small)?);
    (encoded.len() <= LABEL_LIMIT).then_some(encoded)
}

/// `domain` in ASCII, label by label. The ideographic full stops separate labels as well (RFC 3490 section 3.1).
pub fn domain(domain: &str) -> Option<String> {
    let labels: Option<Vec<String>> = domain.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']).map(label).collect();
    labels.map(|labels| labels.join("."))
}

/// The lower-case letter, in Latin, Greek, Cyrillic and Armenian.
fn lowercase(c: char) -> char {
    let code = u32::from(c);
    let small = match code {
        0x41..=0x5a | 0xc0..=0xd6 | 0xd8..=0xde | 0x391..=0x3a1 | 0x3a3..=0x3ab | 0x410..=0x42f => code + 32,
        0x100..=0x12f | 0x132..=0x137 | 0x14a..=0x177 | 0x460..=0x481 | 0x48a..=0x4bf => code | 1,
        0x139..=0x148 | 0x179..=0x17e => code + (code & 1),
        0x178 => 0xff,
        0x386 => 0x3ac,
        0x388..=0x38a => code + 37,
        0x38c => 0x3cc,
        0x38e..=0x38f => code + 63,
        0x400..=0x40f => code + 80,
        0x531..=0x556 => code + 48,
        _ => code,
    };
    char::from_u32(small).unwrap_or(c)
}

/// Whether `c` is a combining accent, which a composed letter already includes.
fn is_combining(c: char) -> bool {
    // U+0130 becomes an i with such an accent.
    matches!(c, '\u{300}'..='\u{36f}' | '\u{130}')
}

/// The letter that `base` becomes with the combining `accent`.
fn composed(base: char, accent: char) -> Option<char> {
    // Each letter is followed by its composed form.
    let pairs = match accent {
        '\u{300}' => "aàeèiìoòuùnǹ",
        '\u{301}' => "aáeéiíoóuúyýcćlĺnńrŕsśzź",
        '\u{302}' => "aâeêiîoôuûcĉgĝhĥjĵsŝwŵyŷ",
        '\u{303}' => "aãiĩnñoõuũ",
        '\u{304}' => "aāeēiīoōuū",
        '\u{306}' => "aăgğий",
        '\u{307}' => "cċeėgġzż",
        '\u{308}' => "aäeëiïoöuüyÿеёії",
        '\u{30a}' => "aåuů",
        '\u{30b}' => "oőuű",
        '\u{30c}' => "cčdďeěnňrřsštťzž",
        '\u{327}' => "cçgģkķlļnņrŗsştţ",
        '\u{328}' => "aąeęiįuų",
        _ => return None,
    };
    let mut letters = pairs.chars();
    while let (Some(plain), Some(whole)) = (letters.next(), letters.next()) {
        if plain == base {
            return Some(whole);
        }
    }
    None
}

/// RFC 3492 section 6.3. `None` on overflow.
fn punycode(text: &[char]) -> Option<String> {
    // Section 5.
    const BASE: u32 = 36;
    const T_MIN: u32 = 1;
    const T_MAX: u32 = 26;
    let mut out: String = text.iter().filter(|c| c.is_ascii()).collect();
    let basic = u32::try_from(out.len()).ok()?;
    let mut handled = basic;
    if basic > 0 {
        out.push('-');
    }
    let (mut next, mut delta, mut bias) = (128u32, 0u32, 72u32);
    while text.len() > usize::try_from(handled).ok()? {
        let smallest = text.iter().map(|c| u32::from(*c)).filter(|code| *code >= next).min()?;
        delta = delta.checked_add((smallest - next).checked_mul(handled.checked_add(1)?)?)?;
        next = smallest;
        for code in text.iter().map(|c| u32::from(*c)) {
            if code < next {
                delta = delta.checked_add(1)?;
            }
            if code != next {
                continue;
            }
            let (mut quotient, mut k) = (delta, BASE);
            loop {
                let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
                if quotient < threshold {
                    break;
                }
                out.push(digit(threshold + (quotient - threshold) % (BASE - threshold)));
                quotient = (quotient - threshold) / (BASE - threshold);
                k += BASE;
            }
            out.push(digit(quotient));
            // Section 6.1.
            delta = if handled == basic { delta / 700 } else { delta / 2 };
            handled += 1;
            delta += delta / handled;
            let mut scaled = 0;
            while delta > ((BASE - T_MIN) * T_MAX) / 2 {
                delta /= BASE - T_MIN;
                scaled += BASE;
            }
            bias = scaled + (BASE - T_MIN + 1) * delta / (delta + 38);
            delta = 0;
        }
        delta = delta.checked_add(1)?;
        next = next.checked_add(1)?;
    }
    Some(out)
}

/// 0 to 25 are letters, 26 to 35 digits.
fn digit(value: u32) -> char {
    let code = if value < 26 { u32::from(b'a') + value } else { u32::from(b'0') + value.saturating_sub(26) };
    char::from_u32(code).unwrap_or('a')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From RFC 3492 section 7.1, in lower case, and domains as registries have them.
    #[test]
    fn labels() {
        for (text, encoded) in [
            ("他们为什么不说中文", "ihqwcrb4cv8a8dqg056pqjye"),
            ("pročprostěnemluvíčesky", "proprostnemluvesky-uyb24dma41a"),
            ("почемужеонинеговорятпорусски", "b1abfaaepdrnnbgefbadotcwatmq2g4l"),
            ("ליהמהפשוטלאמדבריםעברית", "4dbcagdahyfhbzfsgf6e0a7fei0b"),
            ("tạisaohọkhôngthểchỉnóitiếngviệt", "tisaohkhngthchnitingvit-kjcr8268qyxafd2f1b9g"),
            ("3年b組金八先生", "3b-ww4c5e180e575a65lsy2b"),
            ("majiでkoiする5秒前", "majikoi5-783gue6qz075azm5e"),
            ("bücher", "bcher-kva"),
            ("BÜCHER", "bcher-kva"),
            ("straße", "strae-oqa"),
            ("例え", "r8jz45g"),
            ("ПОЧЕМУ", "e1aoedxv"),
        ] {
            assert_eq!(label(text).as_deref(), Some(format!("xn--{encoded}").as_str()), "{text}");
        }
        assert_eq!(domain("Mail.müller.example").as_deref(), Some("Mail.xn--mller-kva.example"));
        assert_eq!(domain("例え。jp").as_deref(), Some("xn--r8jz45g.jp"));
        for (text, whole) in
            [("bu\u{308}cher", "bücher"), ("CAFE\u{301}", "café"), ("s\u{327}e\u{328}", "şę"), ("и\u{306}", "й")]
        {
            assert_eq!(label(text), label(whole), "{text}");
        }
        for not in ["b\u{308}cher", "\u{308}cher", "ü\u{308}", "a\u{323}\u{302}", "İstanbul", &"ü".repeat(80)] {
            assert_eq!(label(not), None, "{not}");
        }
        for not in ["b\u{a0}", "b\u{200b}x", "b\u{85}"] {
            assert_eq!(label(not), None, "{not}");
        }
    }

    proptest! {
        #[test]
        fn capitals_become_small_as_unicode_has_it(c in prop_oneof![proptest::char::range('\u{41}', '\u{17f}'), proptest::char::range('\u{370}', '\u{48f}')]) {
            let all: Vec<char> = c.to_lowercase().collect();
            // Letters that occur in no domain: Coptic ones and mathematical Greek.
            if all.len() == 1 && !('\u{370}'..'\u{386}').contains(&c) && !('\u{3cf}'..'\u{400}').contains(&c) {
                prop_assert_eq!(lowercase(c), all[0]);
            }
        }

        #[test]
        fn any_text_can_be_asked_about(text in "\\PC{0,80}") {
            if let Some(encoded) = domain(&text) {
                prop_assert!(encoded.is_ascii());
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Base64 (RFC 4648 section 4), for encoded words, bodies and logins.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The base64 form of `bytes`, with padding and without line breaks.
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 4];
        for (to, from) in group.iter_mut().skip(1).zip(chunk) {
            *to = *from;
        }
        let number = u32::from_be_bytes(group);
        for place in 0..4u32 {
            let index = (number >> (18 - 6 * place) & 63) as usize;
            let digit = ALPHABET.get(index).copied().unwrap_or(b'=');
            out.push(char::from(if place as usize > chunk.len() { b'=' } else { digit }));
        }
    }
    out
}

/// What a byte of base64 means; `None` for one outside the alphabet.
fn digit(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Whether `byte` belongs to the alphabet.
pub fn is_digit(byte: u8) -> bool {
    digit(byte).is_some()
}

/// Decodes a stream: bits that do not make a whole byte yet wait for the next piece.
#[derive(Debug, Default)]
pub struct Decoder {
    bits: u32,
    count: u32,
}

impl Decoder {
    /// Appends the bytes that `code` completes to `out`. Bytes outside the alphabet are skipped.
    pub fn push(&mut self, code: &[u8], out: &mut Vec<u8>) {
        self.take(code.iter().filter_map(|byte| digit(*byte)), out);
    }

    fn take(&mut self, digits: impl Iterator<Item = u32>, out: &mut Vec<u8>) {
        for digit in digits {
            self.bits = self.bits << 6 | digit;
            self.count += 6;
            if self.count >= 8 {
                self.count -= 8;
                let [.., low] = (self.bits >> self.count).to_be_bytes();
                out.push(low);
            }
        }
    }
}

fn joined(digits: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut out = Vec::with_capacity(digits.size_hint().1.unwrap_or(0) / 4 * 3);
    Decoder::default().take(digits, &mut out);
    out
}

/// The bytes that `code` means. Bytes outside the alphabet are skipped (RFC 2045 section 6.8).
pub fn decoded(code: &[u8]) -> Vec<u8> {
    joined(code.iter().filter_map(|byte| digit(*byte)))
}

/// The bytes up to the first byte outside the alphabet.
pub fn prefix(code: &[u8]) -> Vec<u8> {
    joined(code.iter().map_while(|byte| digit(*byte)))
}

/// The bytes of `code`, which may lack its padding; `None` if there is anything else in it.
pub fn strict(code: &[u8]) -> Option<Vec<u8>> {
    let end = code.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let code = code.get(..end)?;
    code.iter().all(|byte| digit(*byte).is_some()).then(|| prefix(code))
}

#[cfg(test)]
pub(super) mod tests {
    use super::base64;

    /// An independent decoder: digit by digit, nothing unusual allowed.
    pub(in crate::message) fn decoded(text: &str) -> Vec<u8> {
        let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
        let mut padding = 0;
        for line in text.split("\r\n") {
            assert!(line.len() <= 76 && line.len() % 4 == 0, "odd line: {line}");
            for digit in line.bytes() {
                assert!(padding == 0 || digit == b'=', "text behind the padding");
                let value = match digit {
                    b'A'..=b'Z' => digit - b'A',
                    b'a'..=b'z' => digit - b'a' + 26,
                    b'0'..=b'9' => digit - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    b'=' => {
                        padding += 1;
                        continue;
                    }
                    _ => panic!("no digit: {digit}"),
                };
                bits = bits << 6 | u32::from(value);
                count += 6;
                if count >= 8 {
                    count -= 8;
                    out.push((bits >> count & 255) as u8);
                }
            }
        }
        assert!(padding <= 2);
        out
    }

    #[test]
    fn vectors_of_rfc_4648_section_10() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(super::decoded(coded.as_bytes()), plain.as_bytes());
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}

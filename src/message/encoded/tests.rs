// SPDX-License-Identifier: Apache-2.0

use super::parameters::{media_type, parameter, pieces};
use super::*;
use proptest::prelude::*;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn free_text() {
    for (value, expected) in [
        (" plain  text\r\n folded", " plain  text folded"),
        (" Störung in Halle 3", " =?utf-8?Q?St=C3=B6rung?= in Halle 3"),
        (" a Ü and Ö c", " a =?utf-8?Q?=C3=9C_and_=C3=96?= c"),
        (" =?utf-8?Q?a?= ü", " =?utf-8?Q?a?= =?utf-8?B?IMO8?="),
        (" ü =?utf-8?Q?a?=", " =?utf-8?B?w7wg?= =?utf-8?Q?a?="),
        (" 日本", " =?utf-8?B?5pel5pys?="),
    ] {
        assert_eq!(text(unstructured(8, value.as_bytes(), usize::MAX)), expected);
    }
    assert_eq!(text(unstructured(8, b" St\xf6rung", usize::MAX)), " =?utf-8?Q?St=C3=B6rung?=");
}

#[test]
fn long_words_are_broken_on_demand() {
    let value = format!(" {}", "a".repeat(1200));
    let folded = unstructured(8, value.as_bytes(), 900);
    assert!(longest_line(8, &folded) <= 76);
    assert_eq!(decoded(&text(folded)), value);
}

#[test]
fn names_and_comments() {
    for (value, expected) in [
        (" Jürgen <a@b>, c@d", " =?utf-8?Q?J=C3=BCrgen?= <a@b>, c@d"),
        (" \"Pump, Halle Ü\" <a@b>", " =?utf-8?Q?Pump=2C_Halle_=C3=9C?= <a@b>"),
        (" Pump Ü 3 <a@b>", " Pump =?utf-8?B?w5w=?= 3 <a@b>"),
        (" a@b (Jürgen (x))", " a@b (=?utf-8?Q?J=C3=BCrgen_=28x=29?=)"),
        (" Größe: a@b;", " =?utf-8?B?R3LDtsOfZQ==?=: a@b;"),
        (" \"ü\"<a@b>", " =?utf-8?B?w7w=?=<a@b>"),
        (" <a@bü>, c@bü.d", " <a@xn--b-eha>, c@xn--b-eha.d"),
    ] {
        assert_eq!(text(structured(6, value.as_bytes(), usize::MAX).unwrap()), expected);
    }
    for bad in [" jürgen@b", " jürgen@bü", " x <jürgen@b>, c@d", " \"ü\"@b"] {
        assert_eq!(structured(6, bad.as_bytes(), usize::MAX), None, "{bad}");
    }
    assert_eq!(text(phrase(b"Pump, 3")), "\"Pump, 3\"");
    assert_eq!(text(phrase("Pumpe Süd".as_bytes())), "Pumpe =?utf-8?Q?S=C3=BCd?=");
}

#[test]
fn parameters_of_content_fields() {
    assert_eq!(media_type(b" Text/HTML; charset=x"), Some("text/html".into()));
    assert_eq!(media_type(b"application/vnd.ms-excel (sheet)"), Some("application/vnd.ms-excel".into()));
    for bad in ["", "text", "text/", "/plain", "text/plain html", "a/b/c"] {
        assert_eq!(media_type(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(pieces(b"a; b=\"x;y\"; c").len(), 3);
    for (value, expected) in [
        (" text/html charset=utf-8", Some("text/html; charset=utf-8")),
        (" multipart/mixed, boundary=\"b\";x=y", Some("multipart/mixed; boundary=\"b\"; x=y")),
        (" Text/HTML (x)\r\n\tcharset=utf-8", Some("text/html; charset=utf-8")),
        ("\"text/html\"; charset=utf-8", Some("text/html; charset=utf-8")),
        (" \"text/html\"", Some("text/html")),
        ("text/plain; charset = utf-8 ; name=\"a b=c\"", None),
        ("text/plain; name=a b=c", None),
        ("text/plain html", None),
        ("attachment filename=x", None),
        ("mismatch", None),
    ] {
        assert_eq!(parameters::corrected(value.as_bytes()).map(text).as_deref(), expected, "{value}");
    }
    assert_eq!(parameter(b" Charset = \"us-\\ascii\" (plain)"), Some(("charset".into(), b"us-ascii".to_vec())));
    for (value, expected) in [
        (" attachment; filename=Störung Halle.pdf", " attachment;\r\n filename*=utf-8''St%C3%B6rung%20Halle.pdf"),
        (" attachment; size=3; filename=\"ü.pdf\"", " attachment; size=3;\r\n filename*=utf-8''%C3%BC.pdf"),
        (" text/plain (ü); charset=utf-8", " text/plain (=?utf-8?B?w7w=?=); charset=utf-8"),
        (" ü/plain", " ??/plain"),
    ] {
        assert_eq!(text(parameters::encode(20, value.as_bytes(), usize::MAX)), expected);
    }
    let long = format!(" attachment; filename=\"{}.pdf\"", "ü".repeat(20));
    assert_eq!(
        text(parameters::encode(20, long.as_bytes(), usize::MAX)),
        format!(
            " attachment;\r\n filename*0*=utf-8''{};\r\n filename*1*={};\r\n filename*2*={}.pdf",
            "%C3%BC".repeat(8),
            "%C3%BC".repeat(8),
            "%C3%BC".repeat(4)
        )
    );
}

#[test]
fn whole_headers() {
    let header = "From: Jürgen <a@b>\r\nX-Plain:  a\r\n b \r\nSubject: ü\r\n";
    assert_eq!(
        text(downgrade_header(header.as_bytes()).unwrap()),
        "From: =?utf-8?Q?J=C3=BCrgen?= <a@b>\r\nX-Plain:  a\r\n b \r\nSubject: =?utf-8?B?w7w=?=\r\n"
    );
    assert_eq!(downgrade_header("To: jürgen@b\r\n".as_bytes()), None);
}

/// Decodes encoded words as a mail reader does (RFC 2047 section 6.2).
fn decoded(value: &str) -> String {
    let line = value.replace("\r\n", "");
    let mut out = String::new();
    let mut bytes = Vec::new();
    let mut blank = String::new();
    for word in line.split_inclusive(' ') {
        let bare = word.trim_end_matches(' ');
        let code = bare.strip_prefix("=?utf-8?").and_then(|w| w.strip_suffix("?="));
        match code {
            Some(code) => {
                if bytes.is_empty() {
                    out.push_str(&blank);
                }
                bytes.extend(payload(code));
            }
            None if bare.is_empty() => {}
            None => {
                out.push_str(std::str::from_utf8(&bytes).expect("words end between characters"));
                bytes.clear();
                out.push_str(&blank);
                out.push_str(bare);
            }
        }
        match bare.is_empty() {
            true => blank.push_str(word),
            false => blank = word.get(bare.len()..).unwrap_or_default().to_string(),
        }
    }
    out + std::str::from_utf8(&bytes).expect("words end between characters")
}

fn payload(code: &str) -> Vec<u8> {
    let (kind, code) = code.split_at(2);
    if kind == "Q?" {
        let (mut out, mut bytes) = (Vec::new(), code.bytes());
        while let Some(byte) = bytes.next() {
            match byte {
                b'_' => out.push(b' '),
                b'=' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                }
                other => out.push(other),
            }
        }
        return out;
    }
    crate::message::base64::tests::decoded(code)
}

proptest! {
    #[test]
    fn free_text_comes_back(words in proptest::collection::vec("[a-zü日€=?_\u{1f600}]{1,60}", 1..20), column in 2..100usize) {
        let value = format!(" {}", words.join(" "));
        let coded = text(unstructured(column, value.as_bytes(), usize::MAX));
        prop_assert!(coded.is_ascii());
        prop_assert_eq!(decoded(&coded), value);
        for (number, line) in coded.split("\r\n").enumerate() {
            let width = line.len() + if number == 0 { column } else { 0 };
            prop_assert!(width <= 76 || number == 0 && column > 48, "{line}");
            for word in line.split(' ').filter(|w| w.starts_with("=?utf-8?")) {
                prop_assert!(word.len() <= 75, "{word}");
            }
        }
    }

    #[test]
    fn any_bytes_become_seven_bits(value: Vec<u8>, limit in prop_oneof![Just(usize::MAX), 1..20usize]) {
        for name in ["Subject", "To", "Content-Type"] {
            if let Some(value) = field_value(name.as_bytes(), &value, limit) {
                prop_assert!(value.is_ascii());
                prop_assert!(value.split(|b| *b == b'\n').skip(1).all(|line| !line.trim_ascii().is_empty()));
            }
        }
    }

    #[test]
    fn names_stay_correct_lists(name in "[a-zü \"\\\\.,()]{1,80}") {
        let mailbox = super::super::address::Mailbox { name: name.trim().as_bytes().to_vec(), address: "a@b".into() };
        let coded = structured(4, &mailbox.write(), usize::MAX).unwrap();
        prop_assert_eq!(super::super::address::list::check(&coded).map(|list| list.mailboxes), Some(1));
    }
}

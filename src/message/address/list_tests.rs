// SPDX-License-Identifier: Apache-2.0

use super::super::grammar::{List, check};
use super::*;
use proptest::prelude::*;

fn found(value: &str) -> Vec<(String, String)> {
    mailboxes(value.as_bytes())
        .into_iter()
        .map(|m| (String::from_utf8_lossy(&m.name).into_owned(), m.address))
        .collect()
}

#[test]
fn correct_lists() {
    for (value, mailboxes, groups, ascii) in [
        ("a@b", 1, false, true),
        (" a@b (Name)", 1, false, true),
        (" J. Doe <a@b>,\r\n \"x, y\" <c.d@[1.2.3.4]>", 2, false, true),
        ("<a@b>", 1, false, true),
        ("A (c) <@x,@y:a@b>", 1, false, true),
        ("Ops: a@b, C <c@d>;, e@f", 3, true, true),
        ("undisclosed-recipients:;", 0, true, true),
        ("a @ b . c", 1, false, true),
        ("\"a b\"@c", 1, false, true),
        ("=?utf-8?Q?Alarm,_Halle?= <a@b>", 1, false, true),
        ("Jürgen <a@b>", 1, false, true),
        ("jürgen@b", 1, false, false),
        ("<a@bü>", 1, false, false),
    ] {
        assert_eq!(check(value.as_bytes()), Some(List { mailboxes, groups, ascii }), "{value}");
    }
    let long = format!("{}@b", "a".repeat(319));
    for bad in [
        "",
        " ",
        "a",
        "a@",
        "@b",
        "a b@c",
        "a@b c@d",
        "a@b>",
        "<a@b",
        "a@b; c@d",
        "a@b,",
        ",a@b",
        "PLC: p <a@b>",
        "a..b@c",
        "a@b..c",
        "x: y: a@b;;",
        "x: a@b",
        "a@b <c@d>",
        "<a@b> PLC",
        "<>",
        "\"a <b@c>",
        "a@b\0",
        ". <a@b>",
        &long,
    ] {
        assert_eq!(check(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn any_list_is_read() {
    for (value, expected) in [
        ("a@b", vec![("", "a@b")]),
        ("a@b (Pump (three))", vec![("Pump (three)", "a@b")]),
        ("\"P, \\\"3\\\"\" <a@b>", vec![("P, \"3\"", "a@b")]),
        ("PLC: pump 3 <a@b>", vec![("PLC: pump 3", "a@b")]),
        ("Pump 3 a@b", vec![("Pump 3", "a@b")]),
        ("a@b; c@d ;", vec![("", "a@b"), ("", "c@d")]),
        ("a@b c@d", vec![("", "a@b"), ("", "c@d")]),
        ("A <a@b> B <c@d>", vec![("A", "a@b"), ("B", "c@d")]),
        ("A <a@b, C <c@d", vec![("A", "a@b"), ("C", "c@d")]),
        ("<a@b> Pump", vec![("Pump", "a@b")]),
        ("A < a@b >", vec![("A", "a@b")]),
        ("Ops: A <a@b>, c@d; e@f", vec![("A", "a@b"), ("", "c@d"), ("", "e@f")]),
        ("<@x,@y:a@b>", vec![("", "a@b")]),
        ("a @ b", vec![("", "a@b")]),
        ("mailto:a@b", vec![("", "a@b")]),
        ("<mailto:a@b>", vec![("", "a@b")]),
        ("\"a@b\"", vec![("", "a@b")]),
        ("P <\"a@b\">, c@d.", vec![("P", "a@b"), ("", "c@d")]),
        ("\"Pump <a@b>", vec![("\"Pump", "a@b")]),
        ("a@b <>", vec![("", "a@b")]),
        ("J. a..b@c", vec![("J.", "a..b@c")]),
        ("root", vec![]),
        ("undisclosed-recipients:;", vec![]),
        ("", vec![]),
        // Obsolete blanks around the dots of a domain (RFC 5322 appendix A.6), and dots that end a sentence.
        (
            "Mary Smith <mary@x.net>, , jdoe@test   . example",
            vec![("Mary Smith", "mary@x.net"), ("", "jdoe@test.example")],
        ),
        ("a@b . c . d", vec![("", "a@b.c.d")]),
        ("a@b. c@d", vec![("", "a@b"), ("", "c@d")]),
        ("Pump failed. a@b", vec![("Pump failed.", "a@b")]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|(n, a)| (n.to_string(), a.to_string())).collect();
        assert_eq!(found(value), expected, "{value}");
    }
    assert!(read(b"root, a@b").1);
    assert!(!read(b"Pump; a@b").0.is_empty());
    assert!(!read(b"PLC: p <a@b>; c@d (x)").1);
}

#[test]
fn names_are_quoted() {
    assert_eq!(quoted(b"a \"b\" \\"), b"\"a \\\"b\\\" \\\\\"");
    assert_eq!(quoted(b"a =?utf-8?Q?b?= =?utf-8?Q?c?= d"), b"\"a\" =?utf-8?Q?b?= =?utf-8?Q?c?= \"d\"");
}

proptest! {
    #[test]
    fn what_is_written_is_correct(value in "[\"\\\\()<>@.,;: a-c\r\n\t=?Q\u{e9}\\[\\]]{0,60}") {
        let (all, _) = read(value.as_bytes());
        if !all.is_empty() {
            let written = all.iter().map(Mailbox::write).collect::<Vec<_>>().join(&b", "[..]);
            let list = check(&written);
            prop_assert_eq!(list.map(|l| l.mailboxes), Some(all.len()), "{:?}", String::from_utf8_lossy(&written));
            let all: Vec<_> = all.iter().map(|m| Mailbox { name: m.name.clone(), address: for_header(&m.address) }).collect();
            prop_assert_eq!(&mailboxes(&written), &all, "{:?}", String::from_utf8_lossy(&written));
        }
        for mailbox in mailboxes(value.as_bytes()) {
            prop_assert!(is_address(&mailbox.address));
        }
    }

    #[test]
    fn correct_lists_are_read_whole(names in proptest::collection::vec(("[a-c. ]{0,6}", "[a-c]{1,3}(\\.[a-c]{1,2})?@[a-c]{1,3}"), 1..5)) {
        let all: Vec<Mailbox> =
            names.into_iter().map(|(n, address)| Mailbox { name: tidy(n.as_bytes()), address }).collect();
        let written = all.iter().map(Mailbox::write).collect::<Vec<_>>().join(&b",\r\n "[..]);
        prop_assert_eq!(mailboxes(&written), all);
    }

    #[test]
    fn any_bytes_can_be_read(value: Vec<u8>) {
        read(&value);
        check(&value);
    }
}

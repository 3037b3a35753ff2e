// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::message::address::list::check;
use crate::message::date::is_date;
use crate::message::tokens::{TokenKind, is_encoded_word, tokens};
use crate::message::{Encode, Envelope, Offers, Outgoing, header};
use proptest::prelude::*;

fn with_facts<T>(smtputf8: bool, run: impl FnOnce(&Facts<'_>) -> T) -> T {
    let envelope = Envelope { from: "plc@example.com".into(), to: vec!["ops@example.com".into()], smtputf8 };
    run(&Facts { fallback_from: "me@example.com", ..Facts::sample(&envelope) })
}

/// Header without our Received, body, and the rest.
fn repair_with(chunks: &[&[u8]], facts: &Facts<'_>) -> Result<(Vec<u8>, Vec<u8>, Repaired), MessageRefusal> {
    let mut body = Vec::new();
    let mut repair = Repair::new();
    chunks.iter().for_each(|chunk| repair.push(chunk, &mut body));
    let repaired = repair.finish(facts, &mut body)?;
    let own = received::received(facts);
    let header = repaired.header.strip_prefix(own.as_bytes()).expect("Received comes first").to_vec();
    Ok((header, body, repaired))
}

fn repair(chunks: &[&[u8]], smtputf8: bool) -> Result<(Vec<u8>, Vec<u8>, Repaired), MessageRefusal> {
    with_facts(smtputf8, |facts| repair_with(chunks, facts))
}

fn form(text: &str) -> BodyForm {
    repair(&[text.as_bytes()], false).unwrap().2.form
}

#[test]
fn the_received_field_comes_first() {
    let (_, _, repaired) = repair(&[b"Subject: x\r\n\r\ny\r\n"], false).unwrap();
    assert!(
        repaired
            .header
            .starts_with(b"Received: from plc (local)\r\n\tby router.example.com (smtprelay) with SMTP id 4Qx7")
    );
}

#[test]
fn the_places_of_our_dates_are_known_and_no_others() {
    let ours = crate::message::date::rfc5322(1_795_395_723);
    let device = "Date: Mon, 23 Nov 2026 01:02:03 +0000\r\n";
    for (text, count) in [("\r\nx\r\n", 2), ("Date: soon\r\nSubject: x\r\n\r\nx\r\n", 2), (device, 1)] {
        let (_, _, repaired) = repair(&[text.as_bytes()], false).unwrap();
        assert_eq!(repaired.dates.len(), count, "{text:?}");
        for at in repaired.dates {
            let at = usize::try_from(at).unwrap();
            assert_eq!(&repaired.header[at..at + ours.len()], ours.as_bytes(), "{text:?}");
        }
    }
}

#[test]
fn forms_of_bodies() {
    let long = "a".repeat(999);
    for (text, eight_bit, encode) in [
        ("Subject: x\r\n\r\nplain\r\n".to_string(), false, Encode::Verbatim),
        ("Subject: x\r\n\r\nü\r\n".to_string(), true, Encode::Verbatim),
        (format!("Subject: x\r\n\r\n{long}\r\n"), false, Encode::QuotedPrintable),
        (format!("Subject: x\r\nContent-Type: text/html\r\n\r\nü{long}\r\n"), true, Encode::QuotedPrintable),
        (
            format!("Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{long}\r\n"),
            false,
            Encode::Parts,
        ),
        // A multipart without parts is text.
        (
            format!("Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{long}\r\n"),
            false,
            Encode::QuotedPrintable,
        ),
        (format!("Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n{long}\r\n"), false, Encode::Parts),
        (format!("Subject: x\r\n\r\n{}\r\n", "a".repeat(998)), false, Encode::Verbatim),
    ] {
        assert_eq!(form(&text), BodyForm { eight_bit, encode });
    }
}

/// The Content-Type that is sent, and the notes, for a multipart with `boundary` and `body`.
fn multipart(more: &str, boundary: &str, body: &str) -> (String, Vec<&'static str>) {
    let text = format!(
        "From: a@b.c\r\nTo: a@b.c\r\nDate: Mon, 23 Nov 2026 01:02:03 +0000\r\nMessage-ID: <1@b.c>\r\n{more}MIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=\"{boundary}\"; x=y\r\n\r\n{body}"
    );
    let (header, sent, repaired) = repair(&[text.as_bytes()], false).unwrap();
    assert_eq!(String::from_utf8_lossy(&sent), body);
    let kind = header::find(&header, "Content-Type").map(|field| field.unfolded()).unwrap_or_default();
    (String::from_utf8(kind).unwrap(), repaired.repairs)
}

/// Some devices count the hyphens before a delimiter as part of the boundary, or forget them.
#[test]
fn a_boundary_with_other_hyphens_than_in_the_body_is_corrected() {
    let part = "Content-Type: text/plain\r\n\r\nPump 3 stopped\r\n";
    for (declared, body) in [("--abc", "--abc"), ("abc", "----abc"), ("----abc", "----abc"), ("abc", "---abc")] {
        let preambles = [
            "",
            "\r\n",
            "This is a multi-part message in MIME format.\r\n\r\n- x\r\n",
            // Rulers and sentences cannot be delimiters.
            "--------------------\r\nPump house\r\n-----  \r\n",
            "-- \r\n--- Pump house ---\r\n",
        ];
        for preamble in preambles {
            let right = (format!("multipart/mixed; boundary=\"{}\"; x=y", &body[2..]), vec![notes::CONTENT_TYPE]);
            let text = format!("{preamble}{body}\r\n{part}{body}  \r\n{part}{body}--\r\n");
            assert_eq!(multipart("", declared, &text), right, "{text}");
            assert_eq!(multipart("", declared, &format!("{preamble}{body}\r\n\r\nx\r\n")), right);
        }
    }
    // An odd boundary that is the right one.
    let same = "multipart/mixed; boundary=\"--abc\"; x=y".to_string();
    let text = format!("----abc\r\n{part}--abc\r\n----abc--\r\n");
    assert_eq!(multipart("", "--abc", &text), (same.clone(), vec![]));
    // A ruler in the text before the parts.
    for ruler in ["-----abc\r\n", "----abc\r\nx\r\n", "----abc\r\n----abc\r\n", "----abc--\r\n", "----abc\r\n\r\nx\r\n"]
    {
        let text = format!("{ruler}--abc\r\n{part}--abc\r\n----abc\r\n{part}--abc--\r\n");
        let right = "multipart/mixed; boundary=\"abc\"; x=y".to_string();
        assert_eq!(multipart("", "abc", &text), (right, vec![]), "{text}");
    }
    // What is signed stays as it is.
    let text = format!("--abc\r\n{part}--abc--\r\n");
    assert_eq!(multipart("DKIM-Signature: v=1; d=b.c\r\n", "--abc", &text), (same, vec![]));
    for kind in ["signed", "encrypted"] {
        let text = format!("Content-Type: multipart/{kind}; boundary=--abc\r\n\r\n{text}");
        let (header, ..) = repair(&[text.as_bytes()], false).unwrap();
        assert!(String::from_utf8(header).unwrap().contains("boundary=--abc\r\n"), "{kind}");
    }
}

/// The header of an inner multipart is on its way to the disk before its first delimiter comes: the delimiters are made to
/// fit to it.
#[test]
fn delimiters_of_an_inner_multipart_are_corrected() {
    let part = "Content-Type: text/plain\r\n\r\nPump 3 stopped\r\n";
    let message = |kind: &str, declared: &str, preamble: &str, first: &str, inner: &str| {
        format!(
            "--out\r\nContent-Type: multipart/{kind}; boundary=\"{declared}\"\r\n\r\n{preamble}{first}\r\n{part}{inner}  \r\n\
             {part}{inner}--\r\n--out\r\n{part}--out--\r\n"
        )
    };
    let repaired = |more: &str, body: &str| {
        let text = format!(
            "From: a@b.c\r\nTo: a@b.c\r\nDate: Mon, 23 Nov 2026 01:02:03 +0000\r\nMessage-ID: <1@b.c>\r\n{more}\
             MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=out\r\n\r\n{body}"
        );
        let (_, sent, repaired) = repair(&[text.as_bytes()], false).unwrap();
        let (_, again, _) = repair(&text.as_bytes().chunks(1).collect::<Vec<_>>(), false).unwrap();
        assert_eq!(again, sent, "{text}");
        (String::from_utf8(sent).unwrap(), repaired.repairs)
    };
    let preambles = ["", "\r\n", "This is a multi-part message.\r\n\r\n", "--------------------\r\n--- x y ---\r\n"];
    for (declared, inner) in [("--abc", "--abc"), ("abc", "----abc"), ("----abc", "----abc"), ("abc", "---abc")] {
        for preamble in preambles {
            let right = message("alternative", declared, preamble, &format!("--{declared}"), &format!("--{declared}"));
            let wrong = message("alternative", declared, preamble, inner, inner);
            let expected = right.replace(&format!("--{declared}  \r\n"), &format!("--{declared}\r\n"));
            assert_eq!(repaired("", &wrong), (expected, vec![notes::DELIMITERS]), "{wrong}");
            assert_eq!(repaired("", &right), (right.clone(), vec![]), "{right}");
            // What is signed stays as it is.
            assert_eq!(repaired("DKIM-Signature: v=1; d=b.c\r\n", &wrong), (wrong.clone(), vec![]));
            let wrong = message("signed", declared, preamble, inner, inner);
            assert_eq!(repaired("", &wrong), (wrong.clone(), vec![]));
            let inside = format!("--out\r\nContent-Type: message/rfc822\r\n\r\nDKIM-Signature: v=1\r\n{}", &wrong[7..]);
            assert_eq!(repaired("", &inside), (inside.clone(), vec![]));
        }
    }
    // A ruler in the text before the parts, and a line of a part that differs in hyphens.
    for ruler in
        ["----abc\r\n", "----abc\r\nx\r\n", "----abc\r\n----abc\r\n\r\n", "----abc\r\nContent\r\n", "----abc--\r\n"]
    {
        let right = message("mixed", "abc", ruler, "--abc", "----abc\r\nContent-Type: x\r\n--abc");
        assert_eq!(repaired("", &right), (right.clone(), vec![]));
    }
    // Another name, and the delimiter of the outer multipart.
    for other in ["--abd", "--out"] {
        let text = message("mixed", "abc", "", other, other);
        assert_eq!(repaired("", &text), (text.clone(), vec![]));
    }
}

#[test]
fn a_broken_signature_is_noted() {
    let text = |form: &str, names: &str, date: &str, body: &str| {
        format!(
            "DKIM-Signature: v=1; a=rsa-sha256; {form}d=b.c; s=a;\r\n\th=From:{names};\r\n\tbh=YQ==; b=YQ==\r\nFrom: a@b.c\r\n\
             To: a@b.c\r\nDate: {date}\r\nMessage-ID: <1@b.c>\r\nSubject: x\r\n\r\n{body}"
        )
    };
    let repairs = |text: &str| repair(&[text.as_bytes()], false).unwrap().2.repairs;
    let (good, wrong) = ("Mon, 23 Nov 2026 01:02:03 +0000", "Tue, 23 Nov 2026 01:02:03 +0000");
    let dated = [notes::DATE_CORRECTED, notes::SIGNATURE];
    for (form, names, date, body, expected) in [
        ("", "Date", good, "x\r\n", &[][..]),
        ("", "Date", wrong, "x\r\n", &dated),
        ("c=relaxed/relaxed; ", "to:\r\n\tdate", wrong, "x\r\n", &dated),
        // Not signed.
        ("", "Subject", wrong, "x\r\n", &[notes::DATE_CORRECTED]),
        // A field that must not be added is named as well.
        (
            "",
            "Content-Type:MIME-Version",
            good,
            "\u{fc}\r\n",
            &[notes::CHARSET, notes::TRANSFER_ENCODING, notes::MIME_VERSION, notes::SIGNATURE],
        ),
        ("", "Date", good, "a\0b\r\n", &[notes::NUL, notes::SIGNATURE]),
        // It is signed as it would be with CRLF.
        ("", "Date", good, "x\ny\n", &[notes::LINE_ENDS]),
    ] {
        assert_eq!(repairs(&text(form, names, date, body)), expected, "{form} {names} {date} {body:?}");
    }
    assert!(repairs(&text("", "Date", good, &format!("{}\r\n", "a".repeat(999)))).contains(&notes::SIGNATURE));
    // Folded elsewhere, it is the same only if white space does not count.
    let long = format!("Subject: {}x", "word ".repeat(250));
    for (form, broken) in [("", true), ("c=simple; ", true), ("c=relaxed; ", false), ("c=relaxed/simple; ", false)] {
        let text = text(form, "Subject", good, "x\r\n").replace("Subject: x", &long);
        assert_eq!(repairs(&text).contains(&notes::SIGNATURE), broken, "{form}");
    }
}

#[test]
fn a_multipart_without_parts_is_shown_as_text() {
    let aside = (String::new(), vec![notes::CONTENT_FIELD]);
    for text in [
        "Pump 3 stopped\r\n",
        "\r\n--other\r\n\r\nPump 3 stopped\r\n",
        "Pump 3 stopped\r\n--abc--\r\n",
        // Not the header of a part.
        "----abc\r\nPump 3 stopped\r\n----abc--\r\n",
        "----abc\r\nLevel: 80\r\n----abc--\r\n",
        // The first line that may be a delimiter decides: what follows it may be the text that is to be read.
        "--x\r\n\r\n----abc\r\n\r\nPump 3 stopped\r\n",
    ] {
        assert_eq!(multipart("", "abc", text), aside, "{text}");
    }
    assert!(multipart("", "---", "-----\r\n\r\nPump 3 stopped\r\n").1.is_empty());
    assert_eq!(multipart("", "--", "--\r\n\r\nPump 3 stopped\r\n"), aside);
    // Nothing would be seen.
    let same = ("multipart/mixed; boundary=\"abc\"; x=y".to_string(), vec![]);
    for text in ["", "\r\n", " \t\r\n\r\n", "--abc--\r\n", "\r\n--abc--\r\n\r\n"] {
        assert_eq!(multipart("", "abc", text), same, "{text:?}");
    }
}

#[test]
fn loops_are_refused() {
    let hop = "Received: from a by b; Mon, 23 Nov 2026 01:02:03 +0000\r\n";
    let text = |count: usize| format!("{}Subject: x\r\n\r\ny\r\n", hop.repeat(count));
    assert!(repair(&[text(25).as_bytes()], false).is_ok());
    assert_eq!(repair(&[text(26).as_bytes()], false).unwrap_err(), MessageRefusal::Loop { hops: 26 });
    let mut text = b"Subject: x\r\n\r\ny\r\n".to_vec();
    for turn in 0..5 {
        let again = with_facts(false, |facts| {
            let mut body = Vec::new();
            let mut repair = Repair::new();
            repair.push(&text, &mut body);
            repair.finish(facts, &mut body).map(|repaired| [repaired.header, b"\r\n".to_vec(), body].concat())
        });
        match again {
            Ok(next) if turn < 4 => text = next,
            other => assert_eq!((turn, other), (4, Err(MessageRefusal::Loop { hops: 4 }))),
        }
    }
}

#[test]
fn large_headers() {
    let field = format!("X-Long: {}\r\n", "a".repeat(900));
    assert!(repair(&[format!("{}\r\n", field.repeat(70)).as_bytes()], false).is_ok());
    assert_eq!(repair(&[format!("{}\r\n", field.repeat(73)).as_bytes()], false), Err(MessageRefusal::HeaderTooLarge));
    assert_eq!(repair(&["X:\r\n".repeat(16_000).as_bytes()], false).map(|_| ()).err(), None);
    assert_eq!(repair(&["X-:\r\n".repeat(2001).as_bytes()], false), Err(MessageRefusal::HeaderTooLarge));
    // Neither text on one line nor lines that look like fields are a header, however long.
    for text in [vec![b'a'; 200_000], b"Temperature: 80\r\n".repeat(20_000)] {
        let (_, body, repaired) = repair(&[b"Subject: x\r\n", &text, b"\r\n"], false).unwrap();
        assert!(body.starts_with(&text), "{}", body.len());
        assert!(repaired.repairs.contains(&notes::SEPARATOR));
        let (_, body, _) = repair(&[&text, b"\r\n"], false).unwrap();
        assert!(body.starts_with(&text));
    }
    // Around the limit, chunks make no difference either.
    for size in 65_400..65_650 {
        let text = [b"Subject: x\r\nX-Long: ", vec![b'a'; size - 25].as_slice(), b"\r\nTo: a@b\r\n\r\nz\r\n"].concat();
        let chunks: Vec<&[u8]> = text.chunks(7_001).collect();
        let whole = repair(&[&text], false);
        assert_eq!(whole.is_ok(), 12 + (8 + size - 25 + 2) + 7 <= HEADER_LIMIT, "{size}");
        assert_eq!(repair(&chunks, false), whole, "{size}");
    }
    for refusal in [MessageRefusal::HeaderTooLarge, MessageRefusal::Loop { hops: 26 }] {
        assert!(refusal.to_string().len() > 20);
    }
}

#[test]
fn every_byte_alone() {
    let text =
        b"To: ops@example.com\r\nFrom: plc@example.com\r\nSubject: Pump alarm\r\nPump 3 stopped\r\nLevel 80 %\r\n";
    let chunks: Vec<&[u8]> = text.chunks(1).collect();
    let whole = repair(&[text], false);
    assert_eq!(repair(&chunks, false), whole);
    assert_eq!(whole.unwrap().1, b"Pump 3 stopped\r\nLevel 80 %\r\n");
}

/// Fragments that messages are built from, valid and invalid.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => prop::sample::select(vec![
            "From", "To", "Cc", "Bcc", "Subject", "Date", "Message-ID", "Reply-To", "Sender", "MIME-Version",
            "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Received", "References", "X-Mailer",
            "Resent-To", "Return-Path", "DKIM-Signature",
        ]).prop_map(str::to_string),
        1 => "[A-Za-z0-9-]{1,8}",
    ];
    let value = prop_oneof![
        prop::sample::select(vec![
            "a@b",
            "Pump <a@b>",
            "PLC: p <a@b>",
            "a@b; c@d",
            "root",
            "ü <a@b>",
            "ü@b",
            "\"a\" b <a@b>, x",
            "g: a@b;",
            "undisclosed-recipients:;",
            "Mon, 23 Nov 2026 01:02:03 +0000",
            "now",
            "<a@b>",
            "1.0",
            "text/plain",
            "text/plain; charset=us-ascii",
            "text/html; charset=ü; x=\"ü y\"",
            "multipart/mixed; boundary=x",
            "text",
            "8bit",
            "7bit",
            "base64",
            "8-bit",
            "binary",
            "attachment; filename=ü.pdf",
            "",
            "  ",
            "a\r\n \r\n b",
            "a\r\n\tb",
            "=?utf-8?Q?a?= ü",
            "Tue, 23 Nov 2026 01:02:03 +0000",
            "1.0\u{a0}",
            "<ü@b> <a@b>",
            "<a@b>, <ü@b> (ü)",
            "text/plain; charset=koi8-r",
            "text/plain;\u{a0}charset=shift_jis",
            "text/plain; charset=utf-16",
            "application/json",
            "image/png; name*0=\"ü\"; name*1=b",
            "attachment; filename=\"ü\"; filename*=utf-8''%C3%BC",
            "attachment; filename*=utf-8''ü%20a; filename*=x''%",
            "\u{1b}$BI=\u{1b}(B x",
            "multipart/mixed; boundary=\"a:b\"",
            "multipart/mixed; boundary=\"--x\"",
            "multipart/mixed; charset=x; boundary=----x; y=z",
            "multipart/signed; boundary=--x",
            "v=1; c=relaxed/simple; h=from:subject : date; b=YQ==",
            "x-uuencode",
            "=?utf-8?Q?Störung, ü?= x",
            "\"=?utf-8?Q?a?= =?koi8-r?Q?=F7?= ü\" <a@b>",
            "=?utf-8?Q?a?= ü <a@b> (=?utf-8?Q?a?= ü)",
            "[x]=?utf-8?Q?a?= ü=?utf-8?Q?a?=",
            "attachment; filename=\"=?utf-8?Q?a?= ü\"",
            "text/plain; charset=KOI8R",
            "text/plain; charset*=us-ascii''gb2312",
            "text/plain; charset=iso-2022-kr",
            "\u{1b}$)C\u{e}1b\u{f} x",
            "multipart/mixed;\r\nboundary=x",
            "multipart/mixed boundary=x",
            "Tuesday, 23 Nov 2026 1:02:03 CET",
            "Mon, 23 Nov 2026 01:02:03",
            "\"text/html\", charset=koi8-r",
            "multipart/mixed\u{3000};\u{a0}boundary=x\u{85}",
            "text/\u{2003}html\u{2028}; charset=\u{a0}utf-8\u{200b}",
            "base64\u{3000}",
            "\u{a0}a@b\u{a0},\u{2003}P\u{a0}3\u{3000}<c@d\u{a0}>\u{200b}",
            "<a(ü ü ü ü ü ü ü ü ü ü ü ü ü ü ü ü)@b> (ü)",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::sample::select(vec![
            &b"\xf7\xee\xe9 x"[..],
            b"\"\x95\x5c\x8e\xa6\" <a@b>",
            b"<\xfc@b>",
            b"\xfc@b",
            b"1.0\xa0",
            b"multipart/mixed;\xa0boundary=x\xa0",
            b"\xa0a@b\xa0; c@d",
            b"=?utf-8?Q?St\xf6rung?= =?koi8-r?Q?\xf7?=",
            b"\x83\x40 <a@b>"
        ])
        .prop_map(<[u8]>::to_vec),
        prop::sample::select(vec![
            &b"multipart/mixed;\xa0boundary=x"[..],
            b"multipart/mixed;\x01boundary=x",
            b"multipart/mixed;\x0bcharset=utf-16; boundary=x",
            b"text/plain;\xc2\xa0charset=utf-16",
            b"text/html; charset=us-ascii",
            b"text/html; name=x",
            b"text/plain; charset=\"utf-16 \xc3\xbc\"",
        ])
        .prop_map(<[u8]>::to_vec),
        (
            prop::sample::select(vec![
                "=?utf-8?B?w7zD?=",
                "=?koi8-r?Q?=F7?=",
                "=?utf-8?Q?a_?=",
                "=?iso-8859-1?Q?=FC?=",
                "=?cp855?Q?=E6?=",
                "=?iso-2022-jp?B?w?=",
                "=?a?Q?b c?=",
                "<a@b>"
            ]),
            1..400usize
        )
            .prop_map(|(word, count)| word
                .strip_suffix("?=")
                .map_or(word.repeat(count), |start| format!("{start}{}?=", "w7zD".repeat(count)))
                .into_bytes()),
        "[ -~]{0,30}".prop_map(String::into_bytes),
        "[a-z\"()<>@,.;: =?ü\\\\\\[\\]]{0,30}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..12),
        Just([&b"text/"[..], &[b'x'; 800], b"; charset=x"].concat()),
        ("[a-zü,<>@;:\"(\\\\ ]{1,4}", 200..500usize).prop_map(|(text, count)| text.repeat(count).into_bytes()),
    ];
    let end =
        prop_oneof![6 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r\r\n"), 1 => Just("\r"), 1 => Just("\r\n\r\n")];
    let colon = prop_oneof![8 => Just(": "), 1 => Just(":"), 1 => Just(" : ")];
    let field = (name, colon, value, end.clone())
        .prop_map(|(name, colon, value, end)| [name.as_bytes(), colon.as_bytes(), &value, end.as_bytes()].concat());
    let line = prop_oneof![
        "[ -~]{0,20}".prop_map(String::into_bytes),
        Just(b"From plc Mon Nov 23 01:02:03 2026".to_vec()),
        Just("Störung".as_bytes().to_vec()),
        Just(vec![b'a'; 1000]),
        proptest::collection::vec(any::<u8>(), 0..12),
        prop::sample::select(vec![
            "--x",
            "--x--",
            "----x",
            "----x--",
            "--a:b",
            "--a:b--",
            "--------------------",
            "--- x y ---",
            "Content-Type: multipart/mixed; boundary=--y",
            "Content-Type: multipart/signed; boundary=y",
            "--y",
            "----y",
            "----y ",
            "----y--",
            "Mime-Version 1.0",
            "boundary=x",
            "Reply-To: a@b",
            ">From x",
            "Content-Type: image/png",
            "Date: today",
            "Content-Transfer-Encoding: quoted-printable",
            "Content-Type: text/plain; charset=utf-16le",
            "Content-Type: text/plain; charset=utf-8",
            "begin 644 ü",
            "Content-Transfer-Encoding: x-uue",
            "Content-Transfer-Encoding: base64",
            "To: a@b",
            "",
            "a\0b",
            "Subject: y",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::sample::select(vec![
            &b"\xff\xfea\0\n\0"[..],
            b"\xfe\xff\0a\0\n",
            b"\xff",
            b"\x89PNG\r\n\x1a\n\0\0",
            b"<meta charset=koi8-r>\xf7",
            b"<?xml encoding='shift_jis'?>",
            b"Content-Disposition: attachment; filename=a.jpg",
            b"Content-Type: text/plain; name=a.bin",
            b"Content-Type: jpeg",
            b"\0\n\r\0",
            b"Content-Type: image/png;",
            b"name=\"a.png\"",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    let line = (line, end).prop_map(|(line, end)| [&line, end.as_bytes()].concat());
    (
        proptest::collection::vec(line.clone(), 0..2),
        proptest::collection::vec(field, 0..12),
        prop_oneof![Just(&b""[..]), Just(&b"\r\n"[..])],
        proptest::collection::vec(line, 0..8),
    )
        .prop_map(|(lead, fields, blank, lines)| {
            [lead.concat(), fields.concat(), blank.to_vec(), lines.concat()].concat()
        })
}

/// Everything that must be true of what is sent.
fn judge(text: &[u8], smtputf8: bool) -> Result<(), TestCaseError> {
    let Ok((header, body, repaired)) = repair(&[text], smtputf8) else {
        return Ok(());
    };
    for part in [&header, &body] {
        if repaired.form.encode == Encode::Parts && part == &body {
            continue;
        }
        let rest = String::from_utf8_lossy(part).replace("\r\n", "");
        prop_assert!(!rest.contains(['\r', '\n', '\0']));
        prop_assert!(part.is_empty() || part.ends_with(b"\r\n"));
    }
    for line in header.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        prop_assert!(line.len() <= 999, "{}", String::from_utf8_lossy(line));
        prop_assert!(!line.trim_ascii().is_empty());
    }
    prop_assert!(header.is_ascii() || smtputf8 && std::str::from_utf8(&header).is_ok());
    prop_assert!(header::fields(&header).all(|field| !field.name.is_empty()));
    for name in ["From", "Date", "Message-ID"] {
        prop_assert_eq!(header::fields(&header).filter(|field| field.is(name)).count(), 1, "{}", name);
    }
    for name in
        ["To", "Cc", "Subject", "Reply-To", "Sender", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    {
        prop_assert!(header::fields(&header).filter(|field| field.is(name)).count() <= 1, "{}", name);
    }
    for name in ["From", "To", "Cc", "Sender", "Reply-To"] {
        let value = header::find(&header, name).map(|field| field.value);
        prop_assert!(
            value.is_none_or(|value| check(value).is_some()),
            "{}: {:?}",
            name,
            value.map(String::from_utf8_lossy)
        );
    }
    prop_assert!(header::find(&header, "Date").is_some_and(|field| is_date(field.value)));
    prop_assert!(header::find(&header, "Bcc").is_none());
    for name in ["Message-ID", "References", "In-Reply-To", "MIME-Version", "Content-Transfer-Encoding"] {
        // RFC 2047 section 5: only in comments.
        for field in header::fields(&header).filter(|field| field.is(name)) {
            let bare = tokens(field.value).any(|token| token.kind == TokenKind::Atom && is_encoded_word(token.text));
            prop_assert!(
                !bare || memchr::memmem::find(text, b"=?").is_some(),
                "{}",
                String::from_utf8_lossy(field.raw)
            );
        }
    }
    prop_assert_eq!(repaired.form.eight_bit, !body.is_ascii());
    prop_assert!(repaired.repairs.iter().all(|note| notes::ALL.contains(note)));

    let (again, same_body, second) = repair(&[&header, b"\r\n", &body], smtputf8).unwrap();
    prop_assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&header));
    prop_assert_eq!(same_body, body);
    let only_lines = |note: &&&str| ![notes::LONG_BODY_LINES, notes::BINARY, notes::SIGNATURE].contains(*note);
    prop_assert_eq!(second.repairs.iter().find(only_lines), None);
    Ok(())
}

/// Its encoding and type are read and sent as they are meant, without 8BITMIME too.
#[test]
fn no_break_spaces_in_the_header_of_a_part() {
    for blank in ["\u{a0}".as_bytes(), "\u{3000}".as_bytes(), b"\xa0"] {
        let text = [
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type:".as_slice(),
            blank,
            b"image/png;",
            blank,
            b"name=a.png\r\nContent-Transfer-Encoding: base64",
            blank,
            b"\r\n\r\nYWJj\r\n--b\r\n\r\n\xfc\r\n--b--\r\n",
        ];
        let (_, body) = delivered(&text.concat(), false, OFFERS[1]).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains("image/png; name=a.png\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n"), "{body}");
    }
}

/// A charset in numbered segments (RFC 2231 section 3) is one: what the first pass has split gets no second one.
#[test]
fn a_charset_in_segments_is_not_declared_twice() {
    let long = "a".repeat(1000);
    let text = format!(
        "Cc: a@b\rContent-Type: text/plain; charset=utf-16le\r\n{long}\r\nContent-Type: image/png\r\nSt\u{f6}rung\r\n"
    );
    let (header, body, _) = repair(&[text.as_bytes()], false).unwrap();
    let (again, _, second) = repair(&[&header, b"\r\n", &body], false).unwrap();
    assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&header));
    assert!(!second.repairs.contains(&notes::CHARSET));
}

/// A signature that does not fit on a line leaves under another name. It protects nothing: otherwise the message would be
/// changed when it comes a second time.
#[test]
fn a_signature_that_cannot_be_sent_does_not_count() {
    let signature = ":@a".repeat(400);
    let text = format!(
        "Content-Type: multipart/mixed; boundary=x\r\nDKIM-Signature: {signature}\r\n\r\n----x\r\n\r\ntext\r\n"
    );
    let (header, body, _) = repair(&[text.as_bytes()], false).unwrap();
    let (again, _, _) = repair(&[&header, b"\r\n", &body], false).unwrap();
    assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&header));
    assert!(String::from_utf8_lossy(&header).contains("X-Original-DKIM-Signature"));
}

proptest! {
    #[test]
    fn what_was_delivered_is_delivered_unchanged(text in message(), smtputf8: bool, which in 0..2usize) {
        let offers = Offers { smtputf8: smtputf8 && which == 0, ..OFFERS[which] };
        if let Some((header, body)) = delivered(&text, smtputf8, offers) {
            for line in body.split(|byte| *byte == b'\n') {
                prop_assert!(line.len() <= 999);
            }
            let rest = String::from_utf8_lossy(&body).replace("\r\n", "");
            prop_assert!(!rest.contains(['\r', '\n', '\0']));
            let again = delivered(&[&header, &b"\r\n"[..], &body].concat(), smtputf8, offers);
            let (next, same) = again.expect("what was delivered can be delivered again");
            prop_assert_eq!(String::from_utf8_lossy(&next), String::from_utf8_lossy(&header));
            prop_assert_eq!(String::from_utf8_lossy(&same), String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn what_leaves_is_correct_and_stays_as_it_is(text in message(), smtputf8: bool) {
        judge(&text, smtputf8)?;
    }

    #[test]
    fn any_bytes_are_taken(text: Vec<u8>, smtputf8: bool) {
        judge(&text, smtputf8)?;
    }

    #[test]
    fn cuts_do_not_matter(text in message(), cuts in proptest::collection::vec(0..2000usize, 0..6)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut start = 0;
        for cut in cuts {
            chunks.push(&text[start..cut]);
            start = cut;
        }
        chunks.push(&text[start..]);
        prop_assert_eq!(repair(&chunks, false), repair(&[&text], false));
    }
}

/// Where the text of a part is cut does not decide about its charset, nor how much of it is ASCII up to the limit.
#[test]
fn the_charset_of_a_part_does_not_depend_on_cuts() {
    for length in (4096 - 60..4096).chain([0, 9000]) {
        for word in [&b"l\xe4uft"[..], b"l\xe4", "l\u{e4}".as_bytes()] {
            let filler =
                b"x 34567\r\n".repeat(length / 9).into_iter().chain(vec![b'x'; length % 9]).collect::<Vec<u8>>();
            let start = "From: a@b\r\nContent-Transfer-Encoding: 8bit\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n";
            let part = b"Content-Type: text/plain; charset=utf-8\r\n\r\n";
            let text = [start.as_bytes(), part, &filler, word, b"\r\n--x--\r\n"].concat();
            let whole = repair(&[&text], false).unwrap();
            for size in [1, 2, 7, 1000, 4096] {
                assert_eq!(repair(&text.chunks(size).collect::<Vec<_>>(), false).unwrap(), whole, "{length}, {size}");
            }
            let relabelled = String::from_utf8_lossy(&whole.1).contains("charset=windows-1252\r\n");
            let near = part.len() + length + word.len() <= 4096;
            if near || length == 9000 {
                assert_eq!(relabelled, near && !word.ends_with("\u{e4}".as_bytes()), "{length}, {word:?}");
            }
            assert_eq!(whole.2.repairs.contains(&notes::CHARSET), relabelled);
        }
    }
}

/// Header and body as a provider gets them, without our Received.
fn delivered(text: &[u8], smtputf8: bool, offers: Offers) -> Option<(Vec<u8>, Vec<u8>)> {
    let (header, body, repaired) = repair(&[text], smtputf8).ok()?;
    let mut outgoing = Outgoing::new(header, repaired.form, offers).ok()?;
    let mut out = Vec::new();
    body.chunks(100).for_each(|piece| outgoing.push(piece, &mut out));
    outgoing.finish(&mut out).ok()?;
    Some((outgoing.header().to_vec(), out))
}

const OFFERS: [Offers; 2] =
    [Offers { eight_bit_mime: true, smtputf8: true }, Offers { eight_bit_mime: false, smtputf8: false }];

/// Contents of parts that are not text, or have long lines.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![&b"\r\n"[..], b"\r", b"\n", b"\0", b"--x", b"-", b" ", b"\xff", b"\xc3\xbc", b"=", b"ab"])
            .prop_map(<[u8]>::to_vec),
        1 => (1..1200usize).prop_map(|count| vec![b'x'; count]),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn binary_parts_arrive_as_they_were_sent(
        parts in proptest::collection::vec((prop::sample::select(vec![
            "image/png", "application/json", "application/octet-stream; name=x", "text/plain; charset=utf-16le",
        ]), prop::sample::select(vec!["", "Content-Transfer-Encoding: binary\r\n", "Content-Transfer-Encoding: 7bit\r\n"]), contents()), 1..4),
        size in 1..2000usize,
    ) {
        let mut text = b"From: a@b\r\nContent-Type: multipart/mixed; boundary=x-y~0\r\n\r\n".to_vec();
        for (kind, encoding, content) in &parts {
            text.extend_from_slice(format!("--x-y~0\r\nContent-Type: {kind}\r\n{encoding}\r\n").as_bytes());
            text.extend_from_slice(content);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"--x-y~0--\r\n");
        let chunks: Vec<&[u8]> = text.chunks(size).collect();
        prop_assert_eq!(repair(&chunks, false), repair(&[&text], false));
        for offers in OFFERS {
            let (_, body) = delivered(&text, false, offers).unwrap();
            let mut rest = &body[..];
            for (_, _, content) in &parts {
                let part = memchr::memmem::find(rest, b"\r\n\r\n").unwrap();
                let head = String::from_utf8_lossy(&rest[..part]).into_owned();
                let end = memchr::memmem::find(&rest[part + 2..], b"\r\n--x-y~0").unwrap() + part + 2;
                let sent = rest.get(part + 4..end).unwrap_or_default();
                match head.contains("base64") {
                    true => {
                        let sent: String = String::from_utf8(sent.to_vec()).unwrap().replace("\r\n", "");
                        prop_assert_eq!(sent, crate::message::base64(content));
                    }
                    false => prop_assert_eq!(sent, &content[..]),
                }
                rest = &rest[end + 2..];
            }
            let text = String::from_utf8_lossy(&body).replace("\r\n", "");
            prop_assert!(!text.contains(['\r', '\n', '\0']));
        }
    }
}

/// Lines as they may be before the parts of a correct multipart or in one of its parts.
fn lines_within() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "",
        "Pump 3 stopped",
        "-",
        "--------------------",
        "--- Pump house ---",
        "-- ",
        "--x",
        "----in",
        "---in",
        "----out",
        "----in--",
        "Content",
        "Content-Type text/plain",
        "Level: 80",
    ]);
    proptest::collection::vec(line, 0..5).prop_map(|lines| lines.iter().map(|line| format!("{line}\r\n")).collect())
}

proptest! {
    /// A correct message is not changed for rulers, nor for lines that look like a delimiter.
    #[test]
    fn a_correct_multipart_stays_as_it_is(
        outer in lines_within(),
        inner in lines_within(),
        texts in proptest::collection::vec(lines_within(), 3),
        hyphens: bool,
        cut in 1..200usize,
    ) {
        let (out, within) = if hyphens { ("--out", "--in") } else { ("out", "in") };
        // With these hyphens the line is the delimiter.
        let [outer, inner] = [outer, inner].map(|text| if hyphens { text.replace("----", "---") } else { text });
        let texts: Vec<String> = texts.iter().map(|text| if hyphens { text.replace("----", "---") } else { text.clone() }).collect();
        let body = format!(
            "{outer}--{out}\r\nContent-Type: multipart/alternative; boundary=\"{within}\"\r\n\r\n{inner}--{within}\r\n\
             Content-Type: text/plain\r\n\r\n{}--{within}\r\nContent-Type: text/html\r\n\r\n{}--{within}--\r\n--{out}\r\n\
             Content-Type: text/plain\r\n\r\n{}--{out}--\r\n",
            texts[0], texts[1], texts[2]
        );
        let text = format!(
            "From: a@b.c\r\nTo: a@b.c\r\nDate: Mon, 23 Nov 2026 01:02:03 +0000\r\nMessage-ID: <1@b.c>\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/mixed; boundary=\"{out}\"\r\n\r\n{body}"
        );
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
        let (header, sent, repaired) = repair(&chunks, false).unwrap();
        prop_assert_eq!(String::from_utf8_lossy(&sent), body);
        prop_assert!(text.starts_with(&*String::from_utf8_lossy(&header)));
        prop_assert_eq!(repaired.repairs, Vec::<&str>::new());
    }
}

/// Name prefixes and what they mean for the envelope of a case.
fn golden_envelope(name: &str) -> Envelope {
    let mut envelope = Envelope { from: "plc@example.com".into(), to: vec!["ops@example.com".into()], smtputf8: false };
    match name.split_once('-').map_or(name, |(start, _)| start) {
        "smtputf8" => envelope.smtputf8 = true,
        "nosender" => envelope.from.clear(),
        "many" => envelope.to.push("boss@example.com".into()),
        _ => {}
    }
    envelope
}

fn golden_result(name: &str, text: &[u8]) -> (Vec<u8>, Vec<&'static str>, String) {
    let envelope = golden_envelope(name);
    let client = Some(std::net::Ipv4Addr::new(192, 168, 1, 5).into());
    match repair_with(&[text], &Facts { client, ..Facts::sample(&envelope) }) {
        Ok((header, body, repaired)) => {
            let mut log: String = repaired.repairs.iter().map(|note| format!("{note}\n")).collect();
            if repaired.form.encode != Encode::Verbatim {
                log += &format!("body: {:?}\n", repaired.form.encode);
            }
            ([header, b"\r\n".to_vec(), body].concat(), repaired.repairs, log)
        }
        Err(refusal) => (Vec::new(), Vec::new(), format!("{refusal}\n")),
    }
}

/// The cases in `tests/golden`: what is received (`NAME.in`), what is sent (`NAME.out`: the header without our
/// Received, the blank line, the body as stored), and the notes in the log (`NAME.log`).
///
/// To add a case, add an `.in` file and run once with `SMTPRELAY_GOLDEN=write`; then review what it wrote.
#[test]
fn every_golden_case() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let write = std::env::var_os("SMTPRELAY_GOLDEN").is_some_and(|value| value == "write");
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut cases = 0;
    for file in fs::read_dir(&folder).expect("tests/golden is there") {
        let path = file.expect("it can be listed").path();
        if path.extension().is_none_or(|extension| extension != "in") {
            continue;
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a plain name");
        let (out, notes, log) = golden_result(name, &fs::read(&path).expect("a readable case"));
        cases += 1;
        seen.extend(notes.iter().copied());
        if name.contains("correct") && !notes.is_empty() {
            wrong.push(format!("{name}: a correct message was changed: {notes:?}"));
        }
        for (extension, made) in [("out", &out), ("log", &log.into_bytes())] {
            let path = path.with_extension(extension);
            if write {
                fs::write(&path, made).expect("a writable folder");
            }
            let expected = fs::read(&path).unwrap_or_default();
            if expected != *made {
                let (made, expected) = (String::from_utf8_lossy(made), String::from_utf8_lossy(&expected));
                wrong.push(format!("{name}.{extension}:\n--- expected\n{expected}\n--- made\n{made}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 40, "only {cases} cases were found");
    let missing: Vec<_> = notes::ALL.iter().filter(|note| !seen.contains(*note)).collect();
    assert!(missing.is_empty(), "no case for: {missing:?}");
}

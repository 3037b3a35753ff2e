// SPDX-License-Identifier: Apache-2.0
//! What is sent, depending on what is stored and what the provider offers; and messages of many shapes, converted and
//! parsed again: by an independent parser, and by Python's.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::lines::Base64Lines;
use super::lines::tests::{quoted_printable_decoded, texts};
use super::*;
use crate::message::base64::tests::decoded as base64_decoded;
use crate::message::{Envelope, Facts, Repair};

const ALL: Offers = Offers { eight_bit_mime: true, smtputf8: true };
const NONE: Offers = Offers { eight_bit_mime: false, smtputf8: false };
const PLAIN: BodyForm = BodyForm { eight_bit: false, encode: Encode::Verbatim };
const EIGHT: BodyForm = BodyForm { eight_bit: true, encode: Encode::Verbatim };

/// Header and body as sent, the body passed in chunks of `size` bytes.
fn sent(
    header: &[u8],
    body: &[u8],
    form: BodyForm,
    offers: Offers,
    size: usize,
) -> Result<(Vec<u8>, Vec<u8>), CannotConvert> {
    let mut outgoing = Outgoing::new(header.to_vec(), form, offers)?;
    let mut out = Vec::new();
    body.chunks(size).for_each(|piece| outgoing.push(piece, &mut out));
    outgoing.finish(&mut out)?;
    Ok((outgoing.header().to_vec(), out))
}

/// The 7-bit form of an 8-bit message, which must not depend on the chunks.
fn downgraded(header: &str, body: &[u8]) -> Result<(String, String), CannotConvert> {
    let whole = sent(header.as_bytes(), body, EIGHT, NONE, usize::MAX);
    for size in [1, 7] {
        assert_eq!(sent(header.as_bytes(), body, EIGHT, NONE, size), whole);
    }
    let (header, body) = whole?;
    assert!(header.is_ascii() && body.is_ascii());
    Ok((String::from_utf8(header).unwrap(), String::from_utf8(body).unwrap()))
}

#[test]
fn nothing_happens_when_everything_is_offered() {
    let header = "Subject: Tür\r\nContent-Type: multipart/mixed; boundary=b\r\n".as_bytes();
    let body = "--b\r\n\r\nTür\r\n--b--".as_bytes();
    assert_eq!(sent(header, body, EIGHT, ALL, 3), Ok((header.to_vec(), body.to_vec())));
    let outgoing = Outgoing::new(header.to_vec(), EIGHT, ALL).unwrap();
    assert!(outgoing.needs_8bitmime() && outgoing.needs_smtputf8() && !outgoing.changes_size());
}

#[test]
fn nothing_happens_to_7_bit_messages() {
    let header = b"Subject: x\r\nContent-Transfer-Encoding: 8bit\r\n";
    assert_eq!(sent(header, b"a\r\nb", PLAIN, NONE, 1), Ok((header.to_vec(), b"a\r\nb".to_vec())));
    let outgoing = Outgoing::new(b"Subject: x".to_vec(), PLAIN, ALL).unwrap();
    assert!(!outgoing.needs_8bitmime() && !outgoing.needs_smtputf8() && !outgoing.changes_size());
    assert_eq!(outgoing.header(), b"Subject: x\r\n");
}

#[test]
fn stored_forms_are_carried_out() {
    let header = b"Content-Transfer-Encoding: quoted-printable\r\n";
    for offers in [ALL, NONE] {
        let form = BodyForm { eight_bit: true, encode: Encode::QuotedPrintable };
        let outgoing = Outgoing::new(header.to_vec(), form, offers).unwrap();
        assert!(!outgoing.needs_8bitmime() && outgoing.changes_size());
        assert_eq!(
            sent(header, b"T\xc3\xbcr\0\r\n", form, offers, 2),
            Ok((header.to_vec(), b"T=C3=BCr=00\r\n".to_vec()))
        );
        let form = BodyForm { eight_bit: false, encode: Encode::Parts };
        let (head, body) = sent(b"", &[&[b'x'; 1000][..], b"\r\n"].concat(), form, offers, 9).unwrap();
        assert_eq!(head, b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n");
        assert_eq!(String::from_utf8(body).unwrap().replace("=\r\n", ""), format!("{}\r\n", "x".repeat(1000)));
    }
}

#[test]
fn headers_are_encoded_without_smtputf8() {
    let header = "Subject: Tür\r\nFrom: a@b.c\r\n".as_bytes();
    let offers = Offers { eight_bit_mime: true, smtputf8: false };
    let outgoing = Outgoing::new(header.to_vec(), PLAIN, offers).unwrap();
    assert!(outgoing.header().is_ascii() && !outgoing.needs_smtputf8());
    assert!(outgoing.header().ends_with(b"From: a@b.c\r\n"));
    let refused = Outgoing::new("From: tür@b.c\r\n".into(), PLAIN, offers).map(|_| ());
    assert!(refused.unwrap_err().to_string().contains("SMTPUTF8"));
}

#[test]
fn single_parts_become_quoted_printable_or_base64() {
    let (header, body) = downgraded("Subject: x\r\n", "Tür auf\r\n".as_bytes()).unwrap();
    assert!(!Outgoing::new(b"Subject: x\r\n".to_vec(), EIGHT, NONE).unwrap().needs_8bitmime());
    assert_eq!(header, "Subject: x\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n");
    assert_eq!(body, "T=C3=BCr auf\r\n");
    let image = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: binary\r\nContent-Type: image/jpeg\r\n";
    let (header, body) = downgraded(image, b"\xff\xd8\r\n").unwrap();
    assert_eq!(header, image.replace("binary", "base64"));
    assert_eq!(body, "/9gNCg==\r\n");
}

#[test]
fn what_is_encoded_stays_but_for_stray_bytes() {
    let header = "Content-Transfer-Encoding: quoted-printable\r\n";
    assert_eq!(downgraded(header, b"a=3D\xfc\r\n"), Ok((header.to_string(), "a=3D=FC\r\n".to_string())));
    let header = "Content-Transfer-Encoding: base64\r\n";
    assert_eq!(downgraded(header, b"Zm9v\xfc\r\n"), Ok((header.to_string(), "Zm9v?\r\n".to_string())));
}

const PARTS: &str = "\
MIME-Version: 1.0\r\n\
Content-Type: multipart/mixed; boundary=\"outer\"\r\n\
Content-Transfer-Encoding: 8bit\r\n";

#[test]
fn parts_are_rewritten_one_by_one() {
    let body = "pr\u{e9}amble\r\n--outer\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        Tür \r\n--outer-not\r\n\r\n\
        --outer  \r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\nü\r\n--outer\r\n\
        Content-Type: text/plain\r\n\r\nclean = kept\r\n--outer\r\n\
        \r\nlied: ü\r\n--outer\r\n\
        Content-Type: text/x-log\r\nno field ä\r\n--outer\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nZm9v\r\n--outer--\r\nepil\u{f6}gue\r\n";
    let (header, body) = downgraded(PARTS, body.as_bytes()).unwrap();
    assert_eq!(header, PARTS.replace("8bit", "7bit"));
    let expected = "pr??amble\r\n--outer\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        T=C3=BCr=20\r\n=2D-outer-not\r\n\r\n\
        --outer  \r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nw7w=\r\n--outer\r\n\
        Content-Type: text/plain\r\n\r\nclean = kept\r\n--outer\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\nlied: =C3=BC\r\n--outer\r\n\
        Content-Type: text/x-log\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nno field =C3=A4\r\n--outer\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nZm9v\r\n--outer--\r\nepil??gue\r\n";
    assert_eq!(body, expected);
}

#[test]
fn multiparts_and_messages_are_walked_into() {
    let body = "--outer\r\nContent-Type: multipart/digest; boundary=outer2\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        --outer2\r\n\r\nSubject: inner Tür\r\n\r\nTür\r\n--outer2--\r\n\r\n\
        --outer\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        Subject: m\r\nMIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: 8bit\r\n\r\nü\r\n\
        --outer--\r\n";
    let (_, body) = downgraded(PARTS, body.as_bytes()).unwrap();
    assert!(
        body.contains("boundary=outer2\r\nContent-Transfer-Encoding: 7bit\r\n\r\n--outer2\r\n\r\nSubject: inner =?")
    );
    assert!(
        body.contains("Content-Transfer-Encoding: quoted-printable\r\n\r\nT=C3=BCr\r\n--outer2--\r\n\r\n--outer\r\n")
    );
    assert!(body.contains("message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: m\r\n"));
    assert!(body.ends_with("image/x\r\nContent-Transfer-Encoding: base64\r\n\r\nw7w=\r\n--outer--\r\n"));
}

#[test]
fn an_inner_multipart_without_end_ends_with_the_outer_part() {
    let body = "--outer\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\nä\r\n--outer\r\n\r\n--in\r\nü\r\n--outer\r\nX: y\r\n--outer--";
    let (_, body) = downgraded(PARTS, body.as_bytes()).unwrap();
    let quoted = "Content-Transfer-Encoding: quoted-printable\r\n\r\n";
    let expected = format!(
        "boundary=in\r\n\r\n--in\r\n{quoted}=C3=A4\r\n--outer\r\n{quoted}=2D-in\r\n=C3=BC\r\n--outer\r\nX: y\r\n--outer--\r\n"
    );
    assert!(body.ends_with(&expected), "{body}");
}

#[test]
fn a_large_part_that_is_called_7_bit_is_encoded_before_it_is_known() {
    let body = format!("--outer\r\nX: y\r\n\r\n{}\r\nTür\r\n--outer--\r\n", "x\r\n".repeat(7000));
    let (_, body) = downgraded(PARTS, body.as_bytes()).unwrap();
    assert!(body.starts_with("--outer\r\nX: y\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nx\r\n"));
    assert!(body.ends_with("\r\nT=C3=BCr\r\n--outer--\r\n"));
    // It is not held back for longer than that.
    let mut outgoing = Outgoing::new(PARTS.into(), EIGHT, NONE).unwrap();
    let mut out = Vec::new();
    outgoing.push(format!("--outer\r\n\r\n{}", "x\r\n".repeat(7000)).as_bytes(), &mut out);
    assert!(out.len() > 20_000);
}

#[test]
fn long_lines_are_no_boundaries_wherever_they_are_cut() {
    for length in 1000..1060 {
        let text = format!("{}--outer", "ü".repeat(length / 2) + &"x".repeat(length % 2));
        let blanks = " ".repeat(length);
        let body =
            format!("--outer\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n--outer{blanks}\r\n--outer--\r\n");
        let (_, body) = downgraded(PARTS, body.as_bytes()).unwrap();
        let is_boundary = "--outer".len() + length <= 1024;
        // Its blanks would make it too long.
        assert_eq!(body.contains("\r\n--outer\r\n--outer--"), is_boundary);
        assert_eq!(body.contains("=2D-outer "), !is_boundary);
    }
}

#[test]
fn a_boundary_that_is_used_twice_belongs_to_the_inner_multipart() {
    let part = "Content-Transfer-Encoding: quoted-printable\r\n\r\n";
    let inner = "--outer\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\n\r\nä\r\n--outer--\r\n";
    let (_, body) = downgraded(PARTS, format!("{inner}--outer\r\n\r\nü\r\n--outer--\r\n").as_bytes()).unwrap();
    assert!(
        body.ends_with(&format!("{part}=C3=A4\r\n--outer--\r\n--outer\r\n{part}=C3=BC\r\n--outer--\r\n")),
        "{body}"
    );
}

#[test]
fn long_lines_are_wrapped_where_they_stay_7_bit() {
    let long = "x".repeat(2000);
    let body =
        format!("--outer\r\n\r\n{long}\r\n--outer\r\nContent-Transfer-Encoding: 8bit\r\n\r\nü{long}\r\n--outer--\r\n");
    let form = BodyForm { eight_bit: true, encode: Encode::Parts };
    let (_, out) = sent(PARTS.as_bytes(), body.as_bytes(), form, NONE, 5).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.split("\r\n").all(|line| line.len() <= 998));
    assert_eq!(out.replace("=\r\n", "").replace("\r\n", "").matches(&long).count(), 2);
}

#[test]
fn what_is_beyond_the_bounds_is_refused() {
    let deep: String =
        (0..51).map(|n| format!("--b{n}\r\nContent-Type: multipart/x; boundary=b{}\r\n\r\n", n + 1)).collect();
    let cases = [
        ("Content-Type: multipart/x; boundary=b0\r\n", deep, "nested"),
        (PARTS, format!("--outer\r\n{}", "Content-X: y\r\n".repeat(3000)), "header of a part"),
        (PARTS, format!("--outer\r\nX: {}", "y".repeat(20_000)), "header of a part"),
        (PARTS, "--other\r\n\r\nü\r\n--other--\r\n".to_string(), "boundary named in its header"),
        (PARTS, "ü\r\n--outer--\r\n".to_string(), "boundary named in its header"),
        (PARTS, "--outer\r\nContent-Type: multipart/x; boundary=ü\r\n\r\n".to_string(), "Content-Type"),
    ];
    for (header, body, reason) in cases {
        let failure = downgraded(header, body.as_bytes()).unwrap_err().to_string();
        assert!(failure.contains(reason) && failure.contains("8BITMIME"), "{failure}");
    }
    let long = format!("Content-Type: multipart/x; boundary={}\r\n", "b".repeat(600));
    assert!(Outgoing::new(long.into_bytes(), EIGHT, NONE).unwrap_err().0.contains("too long"));
}

#[test]
fn after_a_failure_nothing_more_comes() {
    let mut outgoing = Outgoing::new(PARTS.into(), EIGHT, NONE).unwrap();
    let mut out = Vec::new();
    outgoing.push("--outer\r\nContent-Type: multipart/x; boundary=ü\r\n\r\n".as_bytes(), &mut out);
    let length = out.len();
    outgoing.push(b"more\r\n--outer--\r\n", &mut out);
    assert!(outgoing.finish(&mut out).is_err());
    assert_eq!(out.len(), length);
}

#[test]
fn what_is_encoded_in_an_unknown_way_goes_through_7_bits() {
    let part = "--outer\r\nContent-Type: application/octet-stream\r\n";
    let code = "#86)C\r\n`\r\nend\r\n--outer--\r\n";
    for encoding in ["x-uuencode", "x-uue", "uuencode"] {
        let body = format!("{part}Content-Transfer-Encoding: {encoding}\r\n\r\nbegin 644 Störung.txt\r\n{code}");
        let (_, out) = downgraded(PARTS, body.as_bytes()).unwrap();
        let name = "Content-Disposition: attachment;\r\n filename*=utf-8''St%C3%B6rung.txt\r\n";
        let expected =
            format!("{part}Content-Transfer-Encoding: {encoding}\r\n{name}\r\nbegin 644 St__rung.txt\r\n{code}");
        assert_eq!(out, expected);
    }
    // A name that the header already has is not repeated.
    let named = "Content-Disposition: attachment; filename=x.txt\r\nContent-Transfer-Encoding: x-uue\r\n\r\n";
    let (_, out) = downgraded(PARTS, format!("{part}{named}begin 644 ü\r\n{code}").as_bytes()).unwrap();
    assert_eq!(out, format!("{part}{named}begin 644 __\r\n{code}"));
    // yEnc is 8-bit by nature.
    let body = format!("{part}Content-Transfer-Encoding: x-yenc\r\n\r\n=ybegin\r\n\u{e4}\r\n--outer--\r\n");
    let (_, out) = downgraded(PARTS, body.as_bytes()).unwrap();
    let (head, code) = out.split_once("\r\n\r\n").unwrap();
    let label = "X-Original-Content-Transfer-Encoding: x-yenc\r\nContent-Transfer-Encoding: base64";
    assert_eq!(head, format!("{part}{label}"));
    assert_eq!(base64_decoded(code.split_once("\r\n--").unwrap().0), "=ybegin\r\n\u{e4}".as_bytes());
    let header = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n";
    let (header, out) = downgraded(header, "--x\r\nü\r\n".as_bytes()).unwrap();
    assert!(header.contains("X-Original-Content-Type: multipart/mixed"), "{header}");
    assert_eq!(out, "=2D-x\r\n=C3=BC\r\n");
}

/// What is around the files of uuencode is text that no reader shows; nothing in it is worth a refusal.
#[test]
fn uuencode_goes_through_7_bits_wherever_other_bytes_are() {
    let part = "--outer\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: x-uuencode\r\n";
    let code = "#86)C\r\n`\r\nend\r\n";
    let many = "M86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C\r\n".repeat(400);
    let name = |name: &str| format!("Content-Disposition: attachment;\r\n filename*=utf-8''{name}.txt\r\n");
    for (body, head, expected) in [
        (
            format!("begin 644 a.txt\r\n{code}größer\r\n"),
            String::new(),
            format!("begin 644 a.txt\r\n{code}gr____er\r\n"),
        ),
        (
            format!("begin 644 ü.txt\r\n{code}begin 644 ö.txt\r\n{code}"),
            name("%C3%BC"),
            format!("begin 644 __.txt\r\n{code}begin 644 __.txt\r\n{code}"),
        ),
        (
            format!("begin 644 a.txt\r\n{many}end\r\nbegin 644 ö.txt\r\n{code}"),
            String::new(),
            format!("begin 644 a.txt\r\n{many}end\r\nbegin 644 __.txt\r\n{code}"),
        ),
        (format!("ü\r\nbegin 644 ü.txt\r\n{code}"), String::new(), format!("__\r\nbegin 644 __.txt\r\n{code}")),
    ] {
        let (_, out) = downgraded(PARTS, format!("{part}\r\n{body}--outer--\r\n").as_bytes()).unwrap();
        assert_eq!(out, format!("{part}{head}\r\n{expected}--outer--\r\n"));
    }
    // The header of a whole message leaves before its body is known.
    let header = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: x-uuencode\r\n";
    let (same, out) = downgraded(header, format!("begin 644 ü.txt\r\n{code}").as_bytes()).unwrap();
    assert_eq!((same.as_str(), out), (header, format!("begin 644 __.txt\r\n{code}")));
}

/// The escapes of quoted-printable and what is base64 survive where few parts are, but some programs put them.
#[test]
fn deep_parts_and_large_headers_are_walked_into() {
    let text = "Content-Transfer-Encoding: quoted-printable\r\n\r\n";
    let quoted = "=C3=BC".repeat(300);
    let mut deep = String::new();
    for level in 0..40 {
        deep +=
            &format!("--{0}{level}\r\nContent-Type: multipart/x; boundary={0}{1}\r\n\r\n", "b".repeat(400), level + 1);
    }
    deep += &format!("--{}40\r\n{text}{quoted}\r\n", "b".repeat(400));
    let first = format!("MIME-Version: 1.0\r\nContent-Type: multipart/x; boundary={}0\r\n", "b".repeat(400));
    let many = "Received: from a by b; Mon, 23 Nov 2026 01:02:03 +0000\r\n".repeat(1000);
    let content = "Content-Type: text/x-log\r\nSubject: größer\r\n";
    let large = format!("--outer\r\n{content}{many}{text}{quoted}\r\n--outer--\r\n");
    let form = BodyForm { eight_bit: true, encode: Encode::Parts };
    for (header, body) in [(first.as_str(), &deep), (PARTS, &large)] {
        for offers in [ALL, NONE] {
            let (_, out) = sent(header.as_bytes(), body.as_bytes(), form, offers, 1000).unwrap();
            let out = String::from_utf8(out).unwrap();
            assert!(out.split("\r\n").all(|line| line.len() <= 998));
            assert!(out.replace("=\r\n", "").contains(&format!("{text}{quoted}\r\n")));
            assert!(
                body != &large
                    || out.matches("\r\nReceived: ").count() == 1000 && out.contains("Content-Type: text/x-log\r\n")
            );
        }
    }
    // A name that is too long for a line is none.
    let name = "a".repeat(1100);
    let body = format!("--outer\r\nContent-Type: text/plain\r\n{name}: x\r\n\r\ny\r\n--outer--\r\n");
    let (_, out) = sent(PARTS.as_bytes(), body.as_bytes(), form, ALL, 1000).unwrap();
    assert!(out.split(|byte| *byte == b'\n').all(|line| line.len() <= 999));
}

/// The name of a file is in the charset of the message, whose text names it.
#[test]
fn names_are_in_the_charset_of_an_earlier_part() {
    let name = b"\xee\xc1";
    for (own, label) in [("", "koi8-r"), ("; charset=windows-1251", "windows-1251"), ("; charset=us-ascii", "koi8-r")] {
        let part = format!("--outer\r\nContent-Type: application/x{own}\r\nContent-Disposition: attachment; filename=");
        let body = [
            b"--outer\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nx\r\n",
            &b"--outer\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n\xee\r\n"[..],
            part.as_bytes(),
            name,
            b"\r\n\r\nx\r\n--outer--\r\n",
        ];
        let (_, out) = downgraded(PARTS, &body.concat()).unwrap();
        assert!(out.contains(&format!("filename*={label}''%EE%C1\r\n")), "{out}");
    }
}

/// A body that is too large to be held back keeps its lines, whatever its encoding.
#[test]
fn large_parts_in_an_unknown_encoding_keep_their_lines() {
    let code = "M86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C\r\n".repeat(600);
    let long = format!("--outer\r\nContent-Type: text/csv\r\n\r\n{}\r\n", "1;".repeat(900));
    for encoding in ["x-uuencode", "uuencode", "mac-binhex40", "x-unknown"] {
        let head = format!("--outer\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        let part = format!("{head}begin 644 a.txt\r\n{code}end\r\n--outer--\r\n");
        for (offers, other) in [(ALL, long.as_str()), (NONE, "--outer\r\n\r\nü\r\n")] {
            let body = format!("{other}{part}");
            let form = BodyForm { eight_bit: true, encode: Encode::Parts };
            for size in [1000, usize::MAX] {
                let (_, out) = sent(PARTS.as_bytes(), body.as_bytes(), form, offers, size).unwrap();
                assert!(out.ends_with(part.as_bytes()), "{encoding}: {}", String::from_utf8_lossy(&out));
            }
        }
    }
    let part = format!("--outer\r\nContent-Type: multipart/mixed\r\n\r\n{code}--outer--\r\n");
    let (_, out) = downgraded(PARTS, format!("--outer\r\n\r\nü\r\n{part}").as_bytes()).unwrap();
    assert!(out.ends_with(&part));
}

#[test]
fn what_parts_decode_to_stays_when_lines_are_too_long() {
    let row = (0..400).map(|n| format!("{n};")).collect::<String>();
    let quoted = "=C3=BC".repeat(300);
    let code = "Zm9v".repeat(400);
    let body = format!(
        "--outer\r\nContent-Type: text/csv\r\n\r\n{row}\r\nx\r\n\
         --outer\r\nContent-Type: application/json\r\n\r\n{row}\r\n\
         --outer\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{quoted}\r\n\
         --outer\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n{code}\r\n\
         --outer\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nshort ü\r\n--outer--\r\n"
    );
    let form = BodyForm { eight_bit: true, encode: Encode::Parts };
    let (header, out) = sent(PARTS.as_bytes(), body.as_bytes(), form, ALL, 7).unwrap();
    assert_eq!(header, PARTS.as_bytes());
    let out = String::from_utf8(out).unwrap();
    assert!(out.split("\r\n").all(|line| line.len() <= 998));
    let parts: Vec<&str> = out.split("--outer").map(|part| part.split_once("\r\n\r\n").map_or("", |p| p.1)).collect();
    let soft = |text: &str| text.replace("=\r\n", "");
    assert_eq!(soft(parts[1]), format!("{row}\r\nx\r\n"));
    assert_eq!(base64_decoded(parts[2].trim_end()), row.as_bytes());
    assert_eq!(soft(parts[3]), format!("{quoted}\r\n"));
    assert_eq!(parts[4].replace("\r\n", ""), code);
    assert_eq!(parts[5], "short ü\r\n", "what fits stays");
}

#[test]
fn bytes_that_are_no_text_leave_as_base64() {
    let content = b"\x89PNG\r\n\x1a\n\0\0\rX\n";
    let body = [b"--outer\r\nContent-Type: image/png\r\n\r\n", &content[..], b"\r\n--outer--\r\n"].concat();
    let form = BodyForm { eight_bit: true, encode: Encode::Parts };
    for size in [1, 3, usize::MAX] {
        let (_, out) = sent(PARTS.as_bytes(), &body, form, ALL, size).unwrap();
        let out = String::from_utf8(out).unwrap();
        let code = out.split_once("base64\r\n\r\n").unwrap().1.strip_suffix("\r\n--outer--\r\n").unwrap();
        assert_eq!(base64_decoded(code), content);
    }
}

/// A part or a message.
#[derive(Debug, Clone)]
enum Node {
    Leaf { kind: &'static str, encoding: &'static str, content: Vec<u8> },
    Multipart { encoding: &'static str, preamble: bool, parts: Vec<Node> },
    Message { encoding: &'static str, inner: Box<Node> },
}

fn trees(contents: impl Strategy<Value = Vec<u8>> + 'static) -> impl Strategy<Value = Node> {
    let kinds = prop::sample::select(vec![
        "",
        "text/plain; charset=utf-8",
        "image/png",
        "application/octet-stream",
        "application/pdf; name=\"Störung 1.pdf\"",
        "text/csv; charset=utf-8; name*=utf-8''St%C3%B6rung",
    ]);
    let labels = || prop::sample::select(vec!["", "7bit", "8bit", "binary"]);
    let encodings = prop_oneof![4 => labels(), 1 => Just("base64"), 1 => Just("quoted-printable")];
    let leaf =
        (kinds, encodings, contents).prop_map(|(kind, encoding, content)| Node::Leaf { kind, encoding, content });
    leaf.prop_recursive(4, 16, 4, move |inner| {
        prop_oneof![
            3 => (labels(), any::<bool>(), prop::collection::vec(inner.clone(), 1..4))
                .prop_map(|(encoding, preamble, parts)| Node::Multipart { encoding, preamble, parts }),
            1 => (labels(), inner).prop_map(|(encoding, inner)| Node::Message { encoding, inner: Box::new(inner) }),
        ]
    })
}

/// Header and body of `node`. `count` numbers the boundaries.
fn written(node: &Node, count: &mut u32) -> (String, Vec<u8>) {
    let (kind, encoding, body) = match node {
        Node::Leaf { kind, encoding, content } => {
            let mut body = Vec::new();
            match *encoding {
                "base64" => {
                    let mut coder = Base64Lines::default();
                    coder.push(content, &mut body);
                    coder.finish(&mut body);
                }
                "quoted-printable" => {
                    let mut coder = QuotedPrintable::default();
                    coder.push(content, &mut body);
                    coder.finish(&mut body);
                }
                _ => body.clone_from(content),
            }
            ((*kind).to_string(), encoding, body)
        }
        Node::Multipart { encoding, preamble, parts } => {
            *count += 1;
            let boundary = format!("Qx~{count}");
            let mut body = if *preamble { b"ignored\r\n".to_vec() } else { Vec::new() };
            for part in parts {
                let (header, text) = written(part, count);
                body.extend_from_slice(format!("--{boundary}\r\n{header}\r\n").as_bytes());
                body.extend_from_slice(&text);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
            (format!("multipart/mixed;\r\n boundary=\"{boundary}\""), encoding, body)
        }
        Node::Message { encoding, inner } => {
            let (header, text) = written(inner, count);
            let body = [format!("Subject: inner\r\nMIME-Version: 1.0\r\n{header}\r\n").as_bytes(), &text].concat();
            ("message/rfc822".to_string(), encoding, body)
        }
    };
    let mut header = String::new();
    if !kind.is_empty() {
        header += &format!("Content-Type: {kind}\r\n");
    }
    if !encoding.is_empty() {
        header += &format!("Content-Transfer-Encoding: {encoding}\r\n");
    }
    (header, body)
}

/// The contents of the leaves, in order.
fn leaves(node: &Node, out: &mut Vec<Vec<u8>>) {
    match node {
        Node::Leaf { content, .. } => out.push(content.clone()),
        Node::Multipart { parts, .. } => parts.iter().for_each(|part| leaves(part, out)),
        Node::Message { inner, .. } => leaves(inner, out),
    }
}

/// The same from a text, by plain splitting.
fn read(text: &str, out: &mut Vec<Vec<u8>>) {
    let (header, body) = match text.strip_prefix("\r\n") {
        Some(body) => ("", body),
        None => text.split_once("\r\n\r\n").unwrap(),
    };
    let line = |name: &str| header.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").to_string();
    if let Some((_, tail)) = header.split_once("boundary=\"") {
        assert!(matches!(&*line("Content-Transfer-Encoding: "), "" | "7bit"));
        let boundary = format!("\r\n--{}", tail.split_once('"').unwrap().0);
        let body = format!("\r\n{body}");
        let (parts, epilogue) = body.split_once(&format!("{boundary}--\r\n")).unwrap();
        assert_eq!(epilogue, "");
        parts.split(&format!("{boundary}\r\n")).skip(1).for_each(|part| read(part, out));
    } else if line("Content-Type: ") == "message/rfc822" {
        assert!(matches!(&*line("Content-Transfer-Encoding: "), "" | "7bit"));
        read(body, out);
    } else {
        out.push(match &*line("Content-Transfer-Encoding: ") {
            "quoted-printable" => quoted_printable_decoded(body),
            "base64" => base64_decoded(body.strip_suffix("\r\n").unwrap_or(body)),
            "" | "7bit" => body.as_bytes().to_vec(),
            other => panic!("left as {other}"),
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_part_comes_back(tree in trees(texts()), size in 1usize..40, wrap in any::<bool>()) {
        let (header, body) = written(&tree, &mut 0);
        let header = format!("Subject: outer\r\n{header}");
        // Wrapping must not change a message without long lines.
        let form = BodyForm { encode: if wrap { Encode::Parts } else { Encode::Verbatim }, ..EIGHT };
        let (head, out) = sent(header.as_bytes(), &body, form, NONE, usize::MAX).unwrap();
        prop_assert_eq!(sent(header.as_bytes(), &body, form, NONE, size).unwrap(), (head.clone(), out.clone()));
        let text = String::from_utf8([head, b"\r\n".to_vec(), out].concat()).unwrap();
        prop_assert!(text.is_ascii());
        prop_assert!(text.split("\r\n").all(|line| line.len() <= 998));
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        leaves(&tree, &mut expected);
        read(&text, &mut found);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_input_does_harm(lines in prop::collection::vec(prop::sample::select(vec![
        "--a", "--a--", "--b", "--b--", "--", "", "", "Content-Type: multipart/mixed; boundary=b", "Content-Type: message/rfc822",
        "Content-Type: multipart/digest; boundary=a", "Content-Transfer-Encoding: 8bit", " x", "Tür", "X: y", "Content-Type: image/x",
        "Content-Transfer-Encoding: x-old",
    ]), 0..40), size in 1usize..20) {
        let header = b"Content-Type: multipart/mixed; boundary=a\r\n";
        let body = lines.join("\r\n");
        let whole = sent(header, body.as_bytes(), EIGHT, NONE, usize::MAX);
        prop_assert_eq!(&sent(header, body.as_bytes(), EIGHT, NONE, size), &whole);
        prop_assert!(whole.is_err() || whole.is_ok_and(|(header, body)| header.is_ascii() && body.is_ascii()));
    }
}

/// Reads pairs of messages, as hexadecimal lines, and compares their subjects and addresses, and the types, file names
/// and contents of their parts. Header text that is not encoded is read as the gateway reads it.
const COMPARE: &str = r#"
import email, email.header, email.policy, email.utils, sys
class Raw(type(email.policy.compat32)):
    def header_fetch_parse(self, name, value):
        return value
def text(value):
    raw = value.encode("utf-8", "surrogateescape")
    try:
        value = raw.decode()
    except UnicodeDecodeError:
        value = raw.decode("cp1252", "replace")
    if value.isascii():
        value = str(email.header.make_header(email.header.decode_header(value)))
    return " ".join(value.split())
def parts(data):
    found = []
    for part in email.message_from_bytes(data, policy=Raw()).walk():
        kind, name = part.get_content_type(), part.get_filename()
        content = None if part.is_multipart() else part.get_payload(decode=True)
        if content is not None and kind.startswith(("text/", "multipart/")):
            content = content.replace(b"\r\n", b"\n").rstrip(b"\n")
            # A multipart without parts is repaired as text.
            kind = "text/plain" if not found and content.strip() else kind
        people = [(text(name), address) for field in ("From", "Cc")
            for name, address in email.utils.getaddresses([" ".join(v.split()) for v in part.get_all(field, [])])]
        found.append((kind, text(part.get("Subject", "")), name and text(name), people, content))
    return found
count, wrong = 0, 0
for line in sys.stdin:
    name, before, after = line.split("/")
    before, after = parts(bytes.fromhex(before)), parts(bytes.fromhex(after))
    count += len(before)
    # A sender without an address is replaced.
    hide = [not all("@" in address for name, address in part[3]) or not part[3] for part in before]
    before, after = ([(*part[:3], [], part[4]) if odd else part for part, odd in zip(all, hide)] + all[len(hide):]
        for all in (before, after))
    if before != after:
        wrong += 1
        different = [pair for pair in zip(before, after) if pair[0] != pair[1]]
        print(name, len(before), len(after), str(different)[:1000], file=sys.stderr)
assert wrong == 0, wrong
print(count)
"#;

/// Beginnings of the names of golden files that this parser reads before repair as it does after it.
const GOLDEN: &[&str] = &[
    "binary-type",
    "binary-utf",
    "body-e",
    "body-html-charset-inside-wrong",
    "body-html-without",
    "body-u",
    "body-x",
    "correct-",
    "date-",
    "eight-bit-file",
    "eight-bit-names",
    "eight-bit-subject",
    "file-name-twice",
    "long-",
    "references-",
    "to-",
];

/// `text` as a device sends it, repaired, and as a provider gets it.
fn through(text: &[u8], offers: Offers) -> Option<Vec<u8>> {
    let envelope = Envelope { from: "plc@example.com".into(), to: vec!["ops@example.com".into()], smtputf8: false };
    let (mut repair, mut body) = (Repair::new(), Vec::new());
    text.chunks(1000).for_each(|piece| repair.push(piece, &mut body));
    let repaired = repair.finish(&Facts::sample(&envelope), &mut body).ok()?;
    let (head, out) = sent(&repaired.header, &body, repaired.form, offers, 1000).ok()?;
    assert!(out.split(|byte| *byte == b'\n').all(|line| line.len() <= 999));
    Some([&head[..], b"\r\n", &out].concat())
}

/// Real messages: those of Python's own tests, where they are installed; golden files; and made ones that are large.
fn messages() -> Vec<(String, Vec<u8>)> {
    let find = "import os, test.test_email as t; print(os.path.join(os.path.dirname(t.__file__), 'data'))";
    let python = Command::new("python3").args(["-c", find]).stderr(Stdio::null()).output();
    let folder = python.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_string()).unwrap_or_default();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut all = Vec::new();
    for (folder, extension) in [(folder.as_str(), "txt"), (golden, "in")] {
        for file in std::fs::read_dir(folder).into_iter().flatten() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            let reads = extension == "txt" || GOLDEN.iter().any(|start| name.starts_with(start));
            if reads && path.extension().is_some_and(|one| one == extension) {
                all.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    // More than is held back until it is known whether a part fits.
    let code = "M86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C86)C\r\n".repeat(500);
    let uuencode = |encoding: &str| {
        format!(
            "Content-Type: application/octet-stream; name=a.txt\r\nContent-Transfer-Encoding: {encoding}\r\n\r\nbegin 644 a.txt\r\n{code}`\r\nend\r\n"
        )
    };
    let long = format!("Content-Type: text/csv; name=\"Größe 1.csv\"\r\n\r\n{}\r\n", "1;".repeat(900));
    for encoding in ["x-uuencode", "uuencode", "x-uue", "x-unknown"] {
        let head = "From: Tür <a@b.example>\r\nSubject: größer\r\nMIME-Version: 1.0\r\n";
        let parts = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{long}\r\n--b\r\n{}\r\n--b--\r\n",
            uuencode(encoding)
        );
        all.push((format!("made {encoding}"), format!("{head}{parts}").into_bytes()));
        all.push((format!("made {encoding} whole"), format!("{head}{}", uuencode(encoding)).into_bytes()));
    }
    all
}

#[test]
fn python_finds_the_same_parts() {
    let python = Command::new("python3").args(["-c", COMPARE]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut python = match python {
        Ok(python) => python,
        Err(error) => {
            println!("skipped: no python3 to compare with ({error})");
            return;
        }
    };
    let mut input = python.stdin.take().unwrap();
    // Python treats a lone CR or LF as a line ending, so these messages contain none.
    let contents = prop::collection::vec(
        prop_oneof![
            40 => prop::sample::select(vec!["Tür", "\r\n", " ", "=", ".", "From ", "\u{1}", "--", "ende"])
                .prop_map(str::to_string),
            1 => (900..2000usize).prop_map(|count| "x;".repeat(count)),
        ],
        0..60,
    )
    .prop_map(|words| words.concat().into_bytes());
    let (mut runner, strategy) = (TestRunner::deterministic(), trees(contents));
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut parts = 0;
    for round in 0..200 {
        let offers = if round % 2 == 0 { NONE } else { ALL };
        let tree = strategy.new_tree(&mut runner).unwrap().current();
        let (header, body) = written(&tree, &mut 0);
        let header = format!("Subject: outer\r\nFrom: Tür <a@b.example>\r\nMIME-Version: 1.0\r\n{header}");
        let form = BodyForm { encode: Encode::Parts, ..EIGHT };
        let (head, out) = sent(header.as_bytes(), &body, form, offers, 100).unwrap();
        assert!(out.split(|byte| *byte == b'\n').all(|line| line.len() <= 999));
        let before = hex(&[header.as_bytes(), b"\r\n", &body].concat());
        writeln!(input, "made/{before}/{}", hex(&[&head[..], b"\r\n", &out].concat())).unwrap();
        // The end of the message is the end of a line.
        let end: &[u8] = if body.ends_with(b"\r\n") { b"" } else { b"\r\n" };
        let text = [header.as_bytes(), b"\r\n", &body, end].concat();
        writeln!(input, "made/{}/{}", hex(&text), hex(&through(&text, offers).unwrap())).unwrap();
        let mut found = Vec::new();
        leaves(&tree, &mut found);
        parts += found.len();
    }
    for (name, text) in messages() {
        for offers in [ALL, NONE] {
            if let Some(after) = through(&text, offers) {
                writeln!(input, "{name}/{}/{}", hex(&text), hex(&after)).unwrap();
            }
        }
    }
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "python saw a difference");
    let seen: usize = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(seen > parts && parts > 150, "{seen} parts compared, {parts} leaves sent");
}

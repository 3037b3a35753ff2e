// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;

use super::*;

fn notice<'a>(kind: ReportKind, header: &'a [u8], failures: &'a [FailedRecipient]) -> Notice<'a> {
    Notice {
        kind,
        retry_until: (kind == ReportKind::Delayed).then_some(1_800_345_600),
        goes_on: kind == ReportKind::Delayed,
        id: "ABCDEFGHJK",
        hostname: "gw.example",
        from: "me@example.com",
        to: &[],
        arrived: 1_800_000_000,
        client: "10.0.0.7",
        header,
        subjects: true,
        failures,
    }
}

fn failure(recipient: &str, reason: &str) -> FailedRecipient {
    let said = reason.split("; check").next().unwrap_or_default();
    FailedRecipient { recipient: recipient.into(), reason: reason.into(), said: said.into() }
}

fn text(kind: ReportKind, header: &[u8], failures: &[FailedRecipient]) -> String {
    let text = String::from_utf8(notice(kind, header, failures).text()).unwrap();
    assert!(text.is_ascii(), "{text}");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{text:?}");
    assert!(text.split("\r\n").all(|line| line.len() <= 998));
    text
}

#[test]
fn the_status_is_the_providers_own() {
    for (reason, failed, delayed) in [
        ("mx refused it: 550 5.1.1 no such user", "5.1.1", "4.1.1"),
        ("given up after 4d; last error: mx said: 450 4.2.2 full", "4.2.2", "4.2.2"),
        ("mx said: 451 later", "4.0.0", "4.0.0"),
        ("mx refused it: 550 no user at 5.1.1 street", "5.0.0", "4.0.0"),
        ("the provider takes no such address: 5.6.7", "5.6.7", "4.6.7"),
        ("kept for 4 days", "5.0.0", "4.0.0"),
        ("version 5.x of 5.1.1.1", "5.0.0", "4.0.0"),
        ("no connection at port 465 or 587", "5.0.0", "4.0.0"),
        ("", "5.0.0", "4.0.0"),
    ] {
        assert_eq!(status(reason, ReportKind::Failed), failed, "{reason}");
        assert_eq!(status(reason, ReportKind::Delayed), delayed, "{reason}");
    }
    assert_eq!(diagnostic("mx said: 451 4.3.0 later"), ("smtp", "451 4.3.0 later"));
    assert_eq!(diagnostic("no route"), ("X-smtprelay", "no route"));
}

#[test]
fn a_report_has_its_three_parts() {
    let failures = [failure("x@y.z", "mx refused it: 550 5.1.1 no")];
    let text = text(ReportKind::Failed, b"Subject: alarm\r\n", &failures);
    assert_eq!(text.matches("\r\n--=_ABCDEFGHJK_report").count(), 4);
    assert!(text.contains("Subject: Not delivered: mail from 10.0.0.7\r\nAuto-Submitted: auto-replied\r\n"), "{text}");
    assert!(text.contains(
        "\r\n\r\nFinal-Recipient: rfc822; x@y.z\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no\r\n\r\n--"
    ));
    assert!(text.contains("\r\n\r\nSubject: alarm\r\n\r\n--=_ABCDEFGHJK_report--\r\n"), "{text}");
    assert!(!text.contains("Will-Retry-Until"));
    assert!(text.contains("\r\nIts subject is: alarm\r\n"));
}

#[test]
fn the_subject_is_left_out_where_it_is_not_to_appear() {
    let failures = [failure("x@y.z", "mx refused it: 550 5.1.1 no")];
    let header = b"From: a@b.c\r\nSUBJECT : secret\r\n and\r\n\tsecret\r\nX-Original-Subject: secret\r\nThread-Topic: secret\r\nTo: x@y.z\r\n";
    let shown = notice(ReportKind::Failed, header, &failures);
    assert!(String::from_utf8(shown.text()).unwrap().contains("secret"));
    let text = String::from_utf8(Notice { subjects: false, ..shown }.text()).unwrap();
    assert!(!text.contains("secret") && !text.contains("Its subject"), "{text}");
    assert!(text.contains("\r\n\r\nFrom: a@b.c\r\nTo: x@y.z\r\n\r\n--=_ABCDEFGHJK_report--\r\n"), "{text}");
}

#[test]
fn a_delay_says_that_it_is_still_tried_and_until_when() {
    let failures = [failure("x@y.z", "mx refused the login: 535 5.7.8 no; check the password")];
    let text = text(ReportKind::Delayed, b"Subject: alarm\r\n", &failures);
    for part in [
        "Subject: Delivery delayed: mail from 10.0.0.7\r\n",
        "has not been delivered yet to:",
        "The gateway will keep trying until Tue, 19 Jan 2027 08:00:00 +0000.",
        "\r\nAction: delayed\r\nStatus: 4.7.8\r\nDiagnostic-Code: smtp; 535 5.7.8 no\r\nWill-Retry-Until: Tue, 19 Jan 2027 08:00:00 +0000\r\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let mut unknown = notice(ReportKind::Delayed, b"", &failures);
    (unknown.retry_until, unknown.arrived) = (None, 5);
    let text = String::from_utf8(unknown.text()).unwrap();
    assert!(
        !text.contains("Will-Retry-Until") && !text.contains("1970") && text.contains("will keep trying. No action")
    );
}

#[test]
fn addresses_beyond_ascii_have_their_own_type() {
    let text = text(ReportKind::Failed, b"", &[failure("bü+ro@exämple.com", "Postfach gelöscht")]);
    assert!(text.contains("\r\nFinal-Recipient: utf-8; b\\x{FC}\\x{2B}ro@ex\\x{E4}mple.com\r\n"), "{text}");
    assert!(text.contains("Diagnostic-Code: X-smtprelay; Postfach gel\\x{F6}scht\r\n"));
    assert!(text.contains("  b=C3=BC+ro@ex=C3=A4mple.com\r\n"));
}

#[test]
fn the_original_header_is_cut_at_a_line() {
    let header = "X-Line: 0123456789\r\n".repeat(2000);
    let text = text(ReportKind::Failed, header.as_bytes(), &[]);
    let shown = text.matches("X-Line: 0123456789\r\n").count();
    assert_eq!(shown, HEADER_SHOWN / 20);
    assert_eq!(text.matches("X-Line").count(), shown);
}

#[test]
fn raw_bytes_in_the_header_are_readable() {
    let text = text(ReportKind::Failed, b"Subject: \xf6\r\nFrom: \xc3\xb6\r\n", &[]);
    assert!(text.contains("Subject: =C3=B6\r\nFrom: =C3=B6\r\n"), "{text}");
    assert!(text.contains("Content-Transfer-Encoding: quoted-printable\r\n\r\nSubject: =C3"));
}

#[test]
fn a_header_that_holds_the_boundary_ends_nothing() {
    let text = text(ReportKind::Failed, b"X: 1\r\n--=_ABCDEFGHJK_report--\r\n", &[]);
    assert!(text.contains("boundary=\"=_ABCDEFGHJK_report_\""), "{text}");
}

#[test]
fn very_many_recipients_are_counted() {
    let failures: Vec<_> = (0..1000).map(|n| failure(&format!("{n}@x.y"), &"ü".repeat(5000))).collect();
    let text = text(ReportKind::Failed, b"", &failures);
    assert_eq!(text.matches("Final-Recipient").count(), RECIPIENTS_SHOWN);
    assert!(text.contains("and 800 more recipients") && text.len() < 1 << 20, "{}", text.len());
}

#[test]
fn a_lone_carriage_return_of_the_header_is_not_sent() {
    let text = text(ReportKind::Failed, b"Subject: a\rb\r\n", &[failure("ops@example.com", "no")]);
    assert!(text.contains("\r\nSubject: a b\r\n"), "{text}");
}

proptest! {
    #[test]
    fn any_input_makes_seven_bit_lines_that_are_short_enough(
        header: Vec<u8>,
        recipient in "(?s).{0,400}",
        reason in "(?s).{0,2000}",
        delayed: bool,
    ) {
        let kind = if delayed { ReportKind::Delayed } else { ReportKind::Failed };
        let text = text(kind, &header, &[failure(&recipient, &reason)]);
        prop_assert_eq!(text.matches("\r\n--=_ABCDEFGHJK_report").count(), 4);
        let status = text.split("message/delivery-status\r\n\r\n").nth(1).unwrap().split("\r\n--=_").next().unwrap();
        prop_assert_eq!(status.matches("\r\n\r\n").count(), 1, "{}", status);
    }
}

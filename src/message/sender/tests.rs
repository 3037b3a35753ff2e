// SPDX-License-Identifier: Apache-2.0

use super::*;
use proptest::prelude::*;

const ME: &str = "me@example.com";

fn apply(header: &[u8], envelope_from: &str, policy: FromPolicy, address: &str) -> Rewritten {
    super::apply(header, envelope_from, Senders { policy, address, null: true })
}

/// The header that `apply` makes of one with `From: from` and `more`.
fn header(policy: FromPolicy, from: &str, more: &str) -> String {
    let header = format!("Received: x\r\nFrom: {from}\r\n{more}To: y@z.org\r\n");
    String::from_utf8(apply(header.as_bytes(), "a@b.org", policy, ME).header).unwrap()
}

fn account(from: &str, more: &str) -> String {
    let header = header(FromPolicy::Account, from, more);
    let inner = header.strip_prefix("Received: x\r\n").unwrap();
    inner.replace("To: y@z.org\r\n", "")
}

fn envelope(policy: FromPolicy, from: &str) -> String {
    apply(b"", from, policy, ME).envelope_from
}

#[test]
fn the_device_stays_visible() {
    assert_eq!(account("plc@plant.local", ""), "From: \"plc@plant.local\" <me@example.com>\r\n");
    assert_eq!(account("Pump <plc@plant.local>", ""), "From: \"Pump\" <me@example.com>\r\n");
    assert_eq!(account("\"Pump, 1 \\\"a\\\"\" <p@plant.lan>", ""), "From: \"Pump, 1 \\\"a\\\"\" <me@example.com>\r\n");
    assert_eq!(account("=?utf-8?Q?T=C3=BCr?= <p@plant.lan>", ""), "From: =?utf-8?Q?T=C3=BCr?= <me@example.com>\r\n");
    assert_eq!(account("nonsense", ""), "From: me@example.com\r\n");
}

#[test]
fn names_become_7_bit() {
    for from in ["Tür 1 <p@plant.lan>", "tür@plant.lan"] {
        let out = account(from, "");
        assert!(out.is_ascii() && out.contains("=?") && out.ends_with(" <me@example.com>\r\n"), "{out}");
    }
    let long = account(&format!("{} <p@plant.lan>", "pump ".repeat(300)), "");
    assert!(long.split("\r\n").all(|line| line.len() <= 76), "{long}");
    let word = account(&format!("{} <p@plant.lan>", "x".repeat(3000)), "");
    assert!(word.split("\r\n").all(|line| line.len() <= 998), "{word}");
}

#[test]
fn answers_go_to_addresses_that_mail_can_reach() {
    let expected = "From: \"a@b.org\" <me@example.com>\r\nReply-To: a@b.org\r\n";
    assert_eq!(account("a@b.org", ""), expected);
    assert_eq!(account("a@b.org", "Reply-To:\r\n"), expected);
    let kept = "From: \"a@b.org\" <me@example.com>\r\nReply-To: c@d\r\n";
    assert_eq!(account("a@b.org", "Reply-To: c@d\r\n"), kept);
    assert_eq!(
        account("One <a@b.org>, c@plant.local, me@example.com", ""),
        "From: \"One\" <me@example.com>\r\nReply-To: a@b.org, me@example.com\r\n"
    );
    assert_eq!(account("One <me@example.com>, c@plant.local", ""), "From: \"One\" <me@example.com>\r\n");
    for nowhere in [
        "root@plc",
        "p@x.LAN",
        "p@192.168.1.5",
        "p@[192.168.1.5]",
        "p@[1.2.3.a]",
        "p@[IPv6:fe80::1]",
        "p@home.arpa",
        "ü@b.org",
    ] {
        assert!(!account(nowhere, "").contains("Reply-To"), "{nowhere}");
    }
}

#[test]
fn what_fits_stays_byte_for_byte() {
    for from in ["me@example.com", "  \"x\"\r\n\t<Me@Example.COM> (c)", "Tür <me@example.com>"] {
        for policy in [FromPolicy::Account, FromPolicy::Domain, FromPolicy::Keep] {
            let more = "Sender: me@example.com\r\nreply-to: \r\nResent-From: a@b.c\r\nResent-Sender: a@b.c\r\n";
            assert_eq!(header(policy, from, more), format!("Received: x\r\nFrom: {from}\r\n{more}To: y@z.org\r\n"));
        }
    }
    for from in ["other@EXAMPLE.com", "a@example.com, b@example.com", "root"] {
        assert_eq!(header(FromPolicy::Keep, from, ""), format!("Received: x\r\nFrom: {from}\r\nTo: y@z.org\r\n"));
    }
    for from in ["other@EXAMPLE.com", "a@example.com, b@example.com"] {
        assert_eq!(header(FromPolicy::Domain, from, ""), format!("Received: x\r\nFrom: {from}\r\nTo: y@z.org\r\n"));
    }
}

#[test]
fn other_domains_do_not_fit() {
    let expected =
        "Received: x\r\nFrom: \"a@sub.example.com\" <me@example.com>\r\nTo: y@z.org\r\nReply-To: a@sub.example.com\r\n";
    assert_eq!(header(FromPolicy::Domain, "a@sub.example.com", ""), expected);
    let out = header(FromPolicy::Domain, "a@example.com, Two <b@other.org>", "");
    assert!(out.contains("From: \"a@example.com\" <me@example.com>\r\n"));
    assert!(out.contains("Reply-To: a@example.com, b@other.org\r\n"));
}

#[test]
fn one_from_remains_and_no_foreign_sender() {
    assert_eq!(account("me@example.com", "Sender: a@b.org\r\n"), "From: me@example.com\r\n");
    assert_eq!(account("me@example.com", "Sender: root\r\n"), "From: me@example.com\r\n");
    assert_eq!(account("me@example.com, ME@example.com", ""), "From: me@example.com\r\n");
    let twice = header(FromPolicy::Domain, "a@example.com", "From: b@example.com\r\n");
    assert_eq!(twice.matches("From:").count(), 1);
    let resent = "Resent-From: a@b.org\r\nResent-Sender: a@b.org\r\n";
    assert_eq!(
        account("me@example.com", &format!("From: me@example.com\r\nSender: ME@example.com\r\n{resent}")),
        format!("From: me@example.com\r\nSender: ME@example.com\r\n{resent}")
    );
    let out = apply(b"To: y@z.org\r\n", "", FromPolicy::Account, ME);
    assert_eq!(out.header, b"To: y@z.org\r\nFrom: me@example.com\r\n");
}

#[test]
fn envelopes_follow_the_policy() {
    for (from, account, domain, keep) in [
        ("", "", "", ""),
        ("root", ME, ME, ME),
        ("plc@plant.local", ME, ME, "plc@plant.local"),
        ("plc@Example.com", ME, "plc@Example.com", "plc@Example.com"),
        ("ME@example.com", "ME@example.com", "ME@example.com", "ME@example.com"),
    ] {
        assert_eq!(envelope(FromPolicy::Account, from), account);
        assert_eq!(envelope(FromPolicy::Domain, from), domain);
        assert_eq!(envelope(FromPolicy::Keep, from), keep);
    }
}

#[test]
fn the_null_sender_goes_where_it_is_refused() {
    for policy in [FromPolicy::Account, FromPolicy::Domain, FromPolicy::Keep] {
        let allowed = Senders { policy, address: ME, null: false };
        let header = b"From: me@example.com\r\nAuto-Submitted: auto-replied\r\n";
        let out = super::apply(header, "", allowed);
        assert_eq!((out.envelope_from.as_str(), out.header.as_slice()), (ME, &header[..]));
        assert_eq!(super::apply(header, "", Senders { address: "", ..allowed }).envelope_from, "");
    }
}

#[test]
fn only_what_names_the_account_everywhere_is_its_own() {
    let is_own = |from: &str, head: &str, policy| apply(head.as_bytes(), from, policy, ME).own_header;
    for policy in [FromPolicy::Account, FromPolicy::Domain, FromPolicy::Keep] {
        assert!(is_own("ME@example.com", "From: x <Me@example.com>\r\nSender: me@example.com\r\n", policy));
        assert!(is_own("root", "From: me@example.com\r\n", policy));
        assert!(!is_own("", "From: me@example.com\r\n", policy));
    }
    for head in ["From: plc@b.org\r\n", "From: me@example.com\r\nSender: plc@b.org\r\n"] {
        assert!(is_own(ME, head, FromPolicy::Account));
        let keep = apply(head.as_bytes(), ME, FromPolicy::Keep, ME);
        assert!(keep.own_envelope && !keep.own_header);
    }
    assert!(!is_own(ME, "From: plc@example.com\r\n", FromPolicy::Domain));
}

#[test]
fn without_an_address_of_the_account_nothing_changes() {
    for no_address in ["", "AKIA123"] {
        let header = b"From: plc@plant.local\r\nSender: x@y\r\n";
        let same = Rewritten {
            header: header.to_vec(),
            envelope_from: "root".to_string(),
            own_envelope: false,
            own_header: false,
        };
        assert_eq!(apply(header, "root", FromPolicy::Account, no_address), same);
    }
}

proptest! {
    #[test]
    fn whatever_comes_one_sender_fits_and_twice_is_once(
        from in "[\"\\\\<>@,;:(). a\u{fc}=?]{0,30}",
        more in prop::sample::select(vec!["", "Sender: a@b.c\r\n", "From: c@d.e\r\n", "Reply-To: x@y.z\r\n", " folded@x.y\r\n"]),
    ) {
        let header = format!("Subject: x\r\nFrom: {from}\r\n{more}");
        let once = apply(header.as_bytes(), "a@b.org", FromPolicy::Account, ME);
        let senders: Vec<_> = fields(&once.header).filter(|f| f.is("From")).flat_map(|f| mailboxes(f.value)).collect();
        prop_assert_eq!(senders.len(), 1);
        prop_assert_eq!(&senders[0].address, ME);
        prop_assert!(fields(&once.header).all(|f| !f.name.is_empty()));
        prop_assert_eq!(apply(&once.header, &once.envelope_from, FromPolicy::Account, ME), once);
    }
}

proptest! {
    #[test]
    fn whatever_comes_every_sender_fits_the_policy(
        from in "[\"\\\\<>@,;:(). a\u{fc}=?]{0,30}",
        more in prop::sample::select(vec!["", "Sender: a@b.c\r\n", "Sender: x@example.com\r\n", "From: c@example.com\r\n"]),
        envelope in prop::sample::select(vec!["", "root", "a@b.c", "x@example.com", ME]),
        policy in prop::sample::select(vec![FromPolicy::Account, FromPolicy::Domain, FromPolicy::Keep]),
        null: bool,
    ) {
        let allowed = Senders { policy, address: ME, null };
        let header = format!("Subject: x\r\nFrom: {from}\r\n{more}");
        let out = super::apply(header.as_bytes(), envelope, allowed);
        let fits = |address: &str| is_address(address) && allowed.fits(address);
        prop_assert!(fits(&out.envelope_from) || (null && envelope.is_empty() && out.envelope_from.is_empty()));
        if policy == FromPolicy::Keep {
            prop_assert_eq!(&out.header, header.as_bytes());
        } else {
            let named: Vec<_> = fields(&out.header).filter(|f| f.is("From") || f.is("Sender")).collect();
            prop_assert_eq!(named.iter().filter(|f| f.is("From")).count(), 1);
            prop_assert!(named.iter().all(|field| allowed.field_fits(field)), "{}", String::from_utf8_lossy(&out.header));
        }
        let again = super::apply(&out.header, &out.envelope_from, allowed);
        prop_assert_eq!(again, out);
    }
}

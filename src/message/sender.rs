//! Fits a message to the sender that an account allows.
//!
//! Many providers take only the account's own address as sender. A device has another one, or one that is no address at
//! all. Then the account's address takes its place; the device stays visible as display name, and can still be answered
//! if its address is one that mail can reach.

use super::address::{Mailbox, for_header, is_address, mailboxes};
use super::encoded;
use super::header::{Field, fields};

/// Which senders an account may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromPolicy {
    /// Only the account's address.
    Account,
    /// Any address of the account's domain.
    Domain,
    /// Any.
    Keep,
}

/// A message with a sender that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The header, with CRLF line ends as before.
    pub header: Vec<u8>,
    /// The sender for MAIL FROM; empty for the null sender.
    pub envelope_from: String,
}

/// Addresses of Reply-To, if From had many.
const REPLIES: usize = 10;
/// Bytes of a word in a name that still fits a line; longer ones are encoded, so that they can be broken.
const WORD_LIMIT: usize = 900;
/// Top-level domains that mean nothing outside a site: RFC 2606, RFC 6761, RFC 6762 appendix G, RFC 8375, and
/// `internal`, which ICANN set aside.
const SITE_DOMAINS: [&str; 14] = [
    "local",
    "lan",
    "localdomain",
    "localhost",
    "internal",
    "intranet",
    "invalid",
    "private",
    "home",
    "corp",
    "test",
    "arpa",
    "onion",
    "workgroup",
];

/// Makes the senders of a message fit `policy`; `account` is the account's address. What fits already stays byte for
/// byte, so that signatures remain valid. Resent fields (RFC 5322 section 3.6.6) are not touched.
///
/// The null sender stays the null sender: a notice must not be answered (RFC 5321 section 4.5.5). An envelope sender
/// that is no address becomes the account's even when the policy is to keep. Without an address in `account`, nothing
/// changes.
pub fn apply(header: &[u8], envelope_from: &str, policy: FromPolicy, account: &str) -> Rewritten {
    let rule = Rule { policy, account };
    let keeps =
        envelope_from.is_empty() || !is_address(account) || (is_address(envelope_from) && rule.fits(envelope_from));
    Rewritten {
        header: if is_address(account) { rule.header(header) } else { header.to_vec() },
        envelope_from: if keeps { envelope_from } else { account }.to_string(),
    }
}

struct Rule<'a> {
    policy: FromPolicy,
    account: &'a str,
}

impl Rule<'_> {
    /// Whether the account may send as `address`. Local parts are compared without case: they could differ by it
    /// (RFC 5321 section 2.4), but at no provider they do.
    fn fits(&self, address: &str) -> bool {
        match self.policy {
            FromPolicy::Account => address.eq_ignore_ascii_case(self.account),
            FromPolicy::Domain => domain(address).eq_ignore_ascii_case(domain(self.account)),
            FromPolicy::Keep => true,
        }
    }

    /// Whether all of a field fits.
    fn field_fits(&self, field: &Field<'_>) -> bool {
        let found = mailboxes(field.value);
        !found.is_empty() && found.iter().all(|mailbox| self.fits(&mailbox.address))
    }

    fn header(&self, header: &[u8]) -> Vec<u8> {
        if self.policy == FromPolicy::Keep {
            return header.to_vec();
        }
        let from: Vec<Field<'_>> = fields(header).filter(|field| field.is("From")).collect();
        let senders: Vec<Mailbox> = from.iter().flat_map(|field| mailboxes(field.value)).collect();
        let one = self.policy == FromPolicy::Domain || senders.len() == 1;
        let from_fits = one && from.len() == 1 && from.iter().all(|field| self.field_fits(field));
        let mut from = (!from_fits).then(|| self.from(&senders));
        let answered = fields(header).any(|field| field.is("Reply-To") && !mailboxes(field.value).is_empty());
        let reply = if from_fits || answered { None } else { self.reply_to(&senders) };
        let mut out = Vec::with_capacity(header.len() + 256);
        for field in fields(header) {
            let dropped = (field.is("Sender") && !self.field_fits(&field)) || (field.is("Reply-To") && reply.is_some());
            if field.is("From") && !from_fits {
                out.extend(from.take().unwrap_or_default());
            } else if !dropped {
                out.extend_from_slice(field.raw);
            }
        }
        // Where there was no From.
        out.extend(from.unwrap_or_default());
        out.extend(reply.unwrap_or_default());
        out
    }

    /// The From field that takes the place of one with `senders`.
    fn from(&self, senders: &[Mailbox]) -> Vec<u8> {
        let name = senders.first().map(|first| {
            if first.name.is_empty() && !first.address.eq_ignore_ascii_case(self.account) {
                first.address.clone().into_bytes()
            } else {
                first.name.clone()
            }
        });
        let mailbox = Mailbox { name: name.unwrap_or_default(), address: self.account.to_string() };
        field("From", &mailbox.write())
    }

    /// A Reply-To field for those of `senders` that mail can reach.
    fn reply_to(&self, senders: &[Mailbox]) -> Option<Vec<u8>> {
        let reachable = senders.iter().map(|sender| &sender.address).filter(|address| is_reachable(address));
        let list: Vec<String> = reachable.take(REPLIES).map(|address| for_header(address)).collect();
        let needed = list.iter().any(|address| !address.eq_ignore_ascii_case(self.account));
        needed.then(|| field("Reply-To", list.join(", ").as_bytes()))
    }
}

/// A whole field, in 7 bits if that is possible: it isn't if the account's address itself is beyond them.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let value = [b" ", value].concat();
    let value = encoded::field_value(name.as_bytes(), &value, WORD_LIMIT).unwrap_or(value);
    [name.as_bytes(), b":", &value, b"\r\n"].concat()
}

fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// Whether the world can send mail to `address`: it is in a domain with a dot that is no name of the site.
fn is_reachable(address: &str) -> bool {
    let Some((_, top)) = domain(address).rsplit_once('.') else { return false };
    // The top level is never a number: that is an IP address.
    address.is_ascii()
        && top.bytes().any(|b| b.is_ascii_alphabetic())
        && !top.ends_with(']')
        && !SITE_DOMAINS.iter().any(|site| top.eq_ignore_ascii_case(site))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ME: &str = "me@example.com";

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
        assert_eq!(
            account("\"Pump, 1 \\\"a\\\"\" <p@plant.lan>", ""),
            "From: \"Pump, 1 \\\"a\\\"\" <me@example.com>\r\n"
        );
        assert_eq!(
            account("=?utf-8?Q?T=C3=BCr?= <p@plant.lan>", ""),
            "From: =?utf-8?Q?T=C3=BCr?= <me@example.com>\r\n"
        );
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
        let expected = "Received: x\r\nFrom: \"a@sub.example.com\" <me@example.com>\r\nTo: y@z.org\r\nReply-To: a@sub.example.com\r\n";
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
    fn without_an_address_of_the_account_nothing_changes() {
        for no_address in ["", "AKIA123"] {
            let header = b"From: plc@plant.local\r\nSender: x@y\r\n";
            let same = Rewritten { header: header.to_vec(), envelope_from: "root".to_string() };
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
}

// SPDX-License-Identifier: Apache-2.0
//! The envelope that leaves is the one that was meant: all recipients of a command or an error, nobody more and nobody less.

mod support;

use std::time::Duration;

use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, Section};

const SOON: Duration = Duration::from_secs(60);
const TEXT: &str = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\n\r\nalarm\r\n";

struct Bed {
    provider: Provider,
    relay: Relay,
}

impl Bed {
    async fn start() -> Bed {
        let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
        let account = Section::account("provider", &provider).option("from_policy", "keep");
        let relay = Relay::builder().durability("memory").section(account).start().await;
        Bed { provider, relay }
    }

    /// Sends with this RCPT; gives the reply to it, the one to the message, and who got the mail in the end.
    async fn send(&self, mail: &str, rcpt: &str) -> (u16, u16, Vec<String>) {
        let (mark, before) = (self.relay.mark(), self.provider.messages().len());
        let mut device = Client::greeted(self.relay.addr()).await;
        device.dialogue(&[("EHLO plc", 250)]).await;
        device.command(mail).await;
        let named = device.command(rcpt).await.code;
        device.dialogue(&[("DATA", 354)]).await;
        device.write(format!("{TEXT}.\r\n").as_bytes()).await.unwrap();
        let taken = device.reply().await.code;
        if taken != 250 {
            return (named, taken, Vec::new());
        }
        self.relay.wait_log_from(mark, |line| line.contains("event=removed"), SOON).await;
        let mut got: Vec<String> =
            self.provider.messages()[before..].iter().flat_map(|m| m.recipients.clone()).collect();
        got.sort();
        (named, taken, got)
    }
}

#[tokio::test]
async fn all_recipients_of_a_command_or_none() {
    let bed = Bed::start().await;
    for two in [
        "<a@x.org>,<b@x.org>",
        "<a@x.org>, <b@x.org>",
        "<a@x.org> <b@x.org>",
        "<a@x.org><b@x.org>",
        "<a@x.org>;<b@x.org>",
        "<a@x.org>, b@x.org",
        "<a@x.org>b@x.org",
        "<a@x.org> b@x.org",
        "<a@x.org,b@x.org>",
        "<a@x.org b@x.org>",
        "<a@x.org;b@x.org>",
        "<<a@x.org>,<b@x.org>>",
        "a@x.org,b@x.org",
        "a@x.org, b@x.org",
        "a@x.org b@x.org",
        "a@x.org;b@x.org",
        "a@x.org <b@x.org>, a@x.org",
        "a@x.org,<b@x.org>",
        "A <a@x.org>, B <b@x.org>",
        "\"A, a\" <a@x.org>, \"B\" <b@x.org>",
        "A <a@x.org> B <b@x.org>",
        "<a@x.org> TO:<b@x.org>",
        "<a@x.org>,<b@x.org> NOTIFY=NEVER ORCPT=rfc822;c@x.org",
        "<@r.example,@s.example:a@x.org>,<b@x.org.>",
        "<a@x.org (c)>,<b@x.org>",
        "Ops: a@x.org, b@x.org;",
        "<a@x.org>,<b@x..org>",
        "<a@x.org>,<no body>",
        "<a@x.org> ORCPT=rfc822;a@x.org,<b@x.org>",
        "<a@x.org> ORCPT=<b@x.org>",
        "<a@x.org> AUTH=b@x.org",
    ] {
        let (named, taken, got) = bed.send("MAIL FROM:<plc@example.com>", &format!("RCPT TO:{two}")).await;
        match named {
            250 => assert_eq!((taken, got), (250, vec!["a@x.org".into(), "b@x.org".into()]), "{two}"),
            501 => assert_eq!((taken, got), (501, Vec::new()), "{two}"),
            other => panic!("{two}: {other}"),
        }
    }
    for one in ["<@a.example,@b.example:ops@x.org>", "<ops@x.org.>", "<ops@x.org (c)>", "ops@x.org (c) NOTIFY=NEVER"] {
        let sent = bed.send("MAIL FROM:<plc@example.com>", &format!("RCPT TO:{one}")).await;
        assert_eq!(sent, (250, 250, vec!["ops@x.org".to_string()]), "{one}");
    }
    // One of the two is nobody: neither gets it, and the device is told in the end as well.
    assert_eq!(bed.send("MAIL FROM:<plc@example.com>", "RCPT TO:<a@x.org>,<nobody>").await, (550, 550, Vec::new()));
    // A name behind an address could be another recipient.
    for two in ["a@x.org root", "<a@x.org> root", "<a@x.org> \"root\""] {
        let sent = bed.send("MAIL FROM:<plc@example.com>", &format!("RCPT TO:{two}")).await;
        assert_eq!(sent, (501, 501, Vec::new()), "{two}");
    }
    for many in ["<a@x.org>,<b@x.org>", "a@x.org b@x.org"] {
        let sent = bed.send(&format!("MAIL FROM:{many}"), "RCPT TO:<ops@x.org>").await;
        assert_eq!(sent, (501, 501, Vec::new()), "{many}");
    }
    assert_eq!(bed.provider.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn programs_name_recipients_as_headers_do() {
    let bed = Bed::start().await;
    for (args, input, expected) in [
        (&["\"Ops, Night\" <a@x.org>", "Day <b@x.org>, c@x.org"][..], TEXT, Ok("a@x.org b@x.org c@x.org")),
        (
            &["-t"],
            "To: \"Ops, Night\" <a@x.org>,\n b@x.org (Pump 3)\nCc: Team: c@x.org;\n\nx\n",
            Ok("a@x.org b@x.org c@x.org"),
        ),
        (&["-t"], "To: a@x.org\nCc: the night shift\n\nx\n", Err("Cc: not a mail address: the night shift")),
        (&["a@x.org, b@"], TEXT, Err("not a mail address: b@")),
        (&["-f", "b@x.org, c@x.org", "a@x.org"], TEXT, Err("more than one sender")),
    ] {
        let (mark, before) = (bed.relay.mark(), bed.provider.messages().len());
        let args: Vec<&str> = std::iter::once("send").chain(args.iter().copied()).collect();
        let output = bed.relay.command_with_input(&args, input.as_bytes()).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        match expected {
            Ok(to) => {
                assert!(output.status.success(), "{args:?}: {error}");
                bed.relay.wait_log_from(mark, |line| line.contains("event=removed"), SOON).await;
                let all = bed.provider.messages();
                assert_eq!(all[before..].iter().map(|m| m.recipients.join(" ")).collect::<Vec<_>>(), [to], "{args:?}");
            }
            Err(why) => assert!(!output.status.success() && error.contains(why), "{args:?}: {error}"),
        }
    }
}

/// What the provider got of a message: sender, recipients, and the fields To and From.
async fn through(smtputf8: bool, mail: &str, rcpt: &str, header: &str) -> (String, String, String) {
    let builder = Provider::builder().tls(TlsMode::Implicit).login("u", "p");
    let provider = builder.with(|settings| settings.smtputf8 = smtputf8).start().await;
    let account = Section::account("provider", &provider).option("from_policy", "keep");
    let relay = Relay::builder().durability("memory").section(account).start().await;
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250), (mail, 250), (rcpt, 250), ("DATA", 354)]).await;
    device.write(format!("{header}Subject: x\r\n\r\nalarm\r\n.\r\n").as_bytes()).await.unwrap();
    device.expect(250).await;
    let message = provider.wait_for_messages(1, SOON).await.remove(0);
    assert_eq!(provider.complaints(), Vec::<String>::new());
    let field = |name: &str| message.header(name).unwrap_or_default();
    (message.sender.clone(), message.recipients.join(" "), format!("{} {}", field("From"), field("To")))
}

#[tokio::test]
async fn the_envelope_leaves_in_the_form_that_the_server_takes() {
    let plain = "From: plc@x.org\r\nTo: ops@x.org\r\n";
    let of_domain = "From: plc@m\u{fc}ller.example\r\nTo: ops@m\u{fc}ller.example\r\n";
    let own = support::relay::ACCOUNT_FROM;
    for (smtputf8, from, to, header, expected) in [
        (
            true,
            "ILO.@x.org",
            "a..b@x.org",
            plain,
            ("\"ILO.\"@x.org", "\"a..b\"@x.org", "plc@x.org ops@x.org".to_string()),
        ),
        (
            true,
            "\"a b\"@x.org",
            "\"c d\"@x.org",
            plain,
            ("\"a b\"@x.org", "\"c d\"@x.org", "plc@x.org ops@x.org".into()),
        ),
        (
            false,
            "plc@m\u{fc}ller.example",
            "ops@M\u{dc}LLER.example",
            of_domain,
            (
                "plc@xn--mller-kva.example",
                "ops@xn--mller-kva.example",
                "plc@xn--mller-kva.example ops@xn--mller-kva.example".into(),
            ),
        ),
        (
            true,
            "plc@m\u{fc}ller.example",
            "ops@m\u{fc}ller.example",
            of_domain,
            (
                "plc@m\u{fc}ller.example",
                "ops@m\u{fc}ller.example",
                "plc@m\u{fc}ller.example ops@m\u{fc}ller.example".into(),
            ),
        ),
        // A local part beyond ASCII has no other form: the account's address takes its place.
        (
            false,
            "j\u{fc}rgen@x.org",
            "ops@x.org",
            plain,
            (own, "ops@x.org", format!("\"plc@x.org\" <{own}> ops@x.org")),
        ),
    ] {
        let mail = format!("MAIL FROM:<{from}> SMTPUTF8");
        let got = through(smtputf8, &mail, &format!("RCPT TO:<{to}>"), header).await;
        assert_eq!((got.0.as_str(), got.1.as_str(), got.2), expected, "{smtputf8} {from} {to}");
    }
}

/// A sender that the server does not take concerns its message only, also where the account has no address of its own.
#[tokio::test]
async fn a_sender_that_cannot_be_written_does_not_stop_the_account() {
    let provider = Provider::builder().tls(TlsMode::Implicit).with(|settings| settings.smtputf8 = false).start().await;
    let ca_file = provider.certs().ca_file().display().to_string();
    let account = Section::new("account", "provider").option("provider", "custom").option("host", "127.0.0.1");
    let account = account.option("port", provider.port()).option("tls", "implicit").option("ca_file", &ca_file);
    let account = account.option("from_policy", "keep");
    let relay = Relay::builder().durability("memory").section(account).start().await;
    for (from, to) in [
        ("j\u{fc}rgen@x.org", "a@x.org"),
        ("plc@x.org", "j\u{fc}rgen@x.org"),
        ("plc@x.org", "ops@b\u{323}u\u{308}cher.example"),
    ] {
        let mut device = Client::greeted(relay.addr()).await;
        device.dialogue(&[("EHLO plc", 250)]).await;
        let reply = device.send(from, &[to], TEXT).await;
        let id = reply.text().rsplit(' ').next().unwrap().to_string();
        let line = relay.wait_log(|line| line.contains("event=failed") && line.contains(&id), SOON).await;
        let sender =
            if from.is_ascii() { "does not support international addresses" } else { "does not support the sender" };
        assert!(line.contains(sender), "{line}");
        assert_eq!(line.contains("the domain cannot be written in ASCII"), to.starts_with("ops"), "{line}");
    }
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    // As macOS writes it.
    assert_eq!(device.send("plc@x.org", &["ops@bu\u{308}cher.example"], TEXT).await.code, 250);
    let got = |record: &support::provider::Record| {
        record.attempts.iter().any(|m| m.recipients == ["ops@xn--bcher-kva.example"]).then_some(())
    };
    provider.wait_until("the message", SOON, got).await;
    assert!(!relay.log().iter().any(|line| line.contains("event=paused")), "{:?}", relay.log());
}

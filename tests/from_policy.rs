// SPDX-License-Identifier: Apache-2.0
//! What devices write as sender, and what a provider gets to see: each preset's policy against a Postfix that lets
//! nobody send under another name, and signatures that are still good behind the gateway.

mod support;

use std::time::Duration;

use smtprelay::config::providers;
use smtprelay::message::FromPolicy;
use smtprelay::message::header::fields;
use support::certs::Certs;
use support::client::Client;
use support::log::field;
use support::relay::{Relay, Section};
use support::servers::{PASSWORD, Postfix, USER};

const SOON: Duration = Duration::from_secs(120);
/// The account's address. Postfix calls the login by the same name.
const ME: &str = "relay@provider.example";

/// What a device may write, and what leaves the gateway for an account that may use its own address only, or all of
/// its domain: the envelope sender, and From, Sender and Reply-To. `=`: as it came, byte for byte.
struct Shape {
    name: &'static str,
    envelope: &'static str,
    head: &'static str,
    account: (&'static str, &'static str),
    domain: (&'static str, &'static str),
}

const fn shape(
    name: &'static str,
    envelope: &'static str,
    head: &'static str,
    account: (&'static str, &'static str),
    domain: (&'static str, &'static str),
) -> Shape {
    Shape { name, envelope, head, account, domain }
}

const SHAPES: &[Shape] = &[
    shape("its own", ME, "From: relay@provider.example\r\n", (ME, "="), (ME, "=")),
    shape(
        "its own, with a name, in other letters",
        "Relay@Provider.Example",
        "From: \"PLC 1\"\r\n\t<Relay@PROVIDER.example>\r\nReply-To: <ops@plant.example.org>\r\n",
        ("Relay@Provider.Example", "="),
        ("Relay@Provider.Example", "="),
    ),
    shape(
        "another of the domain",
        "plc@provider.example",
        "From: Pump <plc@provider.example>\r\nSender: gate@provider.example\r\n",
        (ME, "From: \"Pump\" <relay@provider.example> | Reply-To: plc@provider.example"),
        ("plc@provider.example", "="),
    ),
    shape(
        "an address elsewhere",
        "plc@plant.example.org",
        "From: Pump <plc@plant.example.org>\r\n",
        (ME, "From: \"Pump\" <relay@provider.example> | Reply-To: plc@plant.example.org"),
        (ME, "From: \"Pump\" <relay@provider.example> | Reply-To: plc@plant.example.org"),
    ),
    shape(
        "an address of the site",
        "plc@plant.local",
        "From: plc@plant.local\r\n",
        (ME, "From: \"plc@plant.local\" <relay@provider.example>"),
        (ME, "From: \"plc@plant.local\" <relay@provider.example>"),
    ),
    shape(
        "no address",
        "root",
        "From: root (Cron Daemon)\r\n",
        (ME, "From: \"root\" <relay@provider.example>"),
        (ME, "From: \"root\" <relay@provider.example>"),
    ),
    shape(
        "an empty From",
        "plc@plant.local",
        "From:\r\n",
        (ME, "From: \"plc@plant.local\" <relay@provider.example>"),
        (ME, "From: \"plc@plant.local\" <relay@provider.example>"),
    ),
    shape(
        "no From",
        "plc@plant.local",
        "",
        (ME, "From: \"plc@plant.local\" <relay@provider.example>"),
        (ME, "From: \"plc@plant.local\" <relay@provider.example>"),
    ),
    shape(
        "two authors and a Sender",
        "a@provider.example",
        "From: A <a@provider.example>, B <b@plant.example.org>\r\nSender: a@provider.example\r\n",
        (ME, "From: \"A\" <relay@provider.example> | Reply-To: a@provider.example, b@plant.example.org"),
        (
            "a@provider.example",
            "From: \"A\" <relay@provider.example> | Sender: a@provider.example | Reply-To: a@provider.example, b@plant.example.org",
        ),
    ),
    shape(
        "two authors of the domain",
        "a@provider.example",
        "From: A <a@provider.example>, b@provider.example\r\nSender: a@provider.example\r\n",
        (ME, "From: \"A\" <relay@provider.example> | Reply-To: a@provider.example, b@provider.example"),
        ("a@provider.example", "="),
    ),
    shape(
        "a group",
        "plc@plant.local",
        "From: Pumps: a@plant.example.org, b@plant.example.org;\r\n",
        (
            ME,
            "From: \"a@plant.example.org\" <relay@provider.example> | Reply-To: a@plant.example.org, b@plant.example.org",
        ),
        (
            ME,
            "From: \"a@plant.example.org\" <relay@provider.example> | Reply-To: a@plant.example.org, b@plant.example.org",
        ),
    ),
    shape(
        "an encoded name",
        "plc@plant.local",
        "From: =?utf-8?Q?T=C3=BCr?= <plc@plant.local>\r\n",
        (ME, "From: =?utf-8?Q?T=C3=BCr?= <relay@provider.example>"),
        (ME, "From: =?utf-8?Q?T=C3=BCr?= <relay@provider.example>"),
    ),
    shape(
        "a name in 8 bits",
        "plc@plant.local",
        "From: Tür 1 <plc@plant.local>\r\n",
        (ME, "From: =?utf-8?Q?T=C3=BCr?= \"1\" <relay@provider.example>"),
        (ME, "From: =?utf-8?Q?T=C3=BCr?= \"1\" <relay@provider.example>"),
    ),
    shape(
        "a local part in 8 bits",
        "plc@plant.local",
        "From: tür@plant.example.org\r\n",
        (ME, "From: =?utf-8?Q?t=C3=BCr=40plant=2Eexample=2Eorg?= <relay@provider.example>"),
        (ME, "From: =?utf-8?Q?t=C3=BCr=40plant=2Eexample=2Eorg?= <relay@provider.example>"),
    ),
    shape(
        "its own with a Sender elsewhere",
        ME,
        "From: relay@provider.example\r\nSender: plc@plant.example.org\r\n",
        (ME, "From: relay@provider.example"),
        (ME, "From: relay@provider.example"),
    ),
    shape(
        "a Reply-To of its own",
        "plc@plant.example.org",
        "From: plc@plant.example.org\r\nReply-To: Ops <ops@example.net>\r\n",
        (ME, "From: \"plc@plant.example.org\" <relay@provider.example> | Reply-To: Ops <ops@example.net>"),
        (ME, "From: \"plc@plant.example.org\" <relay@provider.example> | Reply-To: Ops <ops@example.net>"),
    ),
    shape(
        "sent on by somebody",
        ME,
        "Resent-From: boss@example.net\r\nResent-Sender: desk@example.net\r\nFrom: relay@provider.example\r\n",
        (ME, "="),
        (ME, "="),
    ),
    shape(
        "two From",
        "plc@plant.example.org",
        "From: plc@plant.example.org\r\nFrom: Pump <pump@provider.example>\r\n",
        (ME, "From: \"plc@plant.example.org\" <relay@provider.example> | Reply-To: plc@plant.example.org"),
        (ME, "From: \"plc@plant.example.org\" <relay@provider.example> | Reply-To: plc@plant.example.org"),
    ),
    shape(
        "a notice",
        "",
        "From: MAILER-DAEMON@plant.local\r\n",
        ("", "From: \"MAILER-DAEMON@plant.local\" <relay@provider.example>"),
        ("", "From: \"MAILER-DAEMON@plant.local\" <relay@provider.example>"),
    ),
];

/// The message of a shape. Nothing is wrong with it but, perhaps, the sender.
fn text(shape: &Shape, number: usize) -> String {
    format!(
        "{}To: ops@example.net\r\nSubject: shape {number}\r\nDate: Mon, 23 Nov 2026 01:02:03 +0000\r\nMessage-ID: <{number}@plc.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n.dot\r\nAlarm\r\n",
        shape.head
    )
}

/// From, Sender and Reply-To of a message, unfolded; `=` if all below the gateway's own fields is `sent`.
fn seen(arrived: &[u8], sent: &str) -> String {
    if arrived.ends_with(format!("\r\n{sent}").as_bytes()) {
        return "=".into();
    }
    let split = arrived.windows(4).position(|four| four == b"\r\n\r\n").map_or(arrived.len(), |at| at + 2);
    let head = arrived.get(..split).unwrap();
    let named = |name: &str| {
        let found = fields(head).filter(|field| field.is(name)).map(|field| {
            let value = String::from_utf8_lossy(&field.unfolded()).trim().to_string();
            format!("{name}: {value}")
        });
        found.collect::<Vec<_>>()
    };
    ["From", "Sender", "Reply-To"].map(named).concat().join(" | ")
}

/// Lines of main.cf: the login owns these senders, and From and Sender must show one of them, too.
fn owner_only(whole_domain: bool, null_sender: bool) -> String {
    let (owned, shown) = if whole_domain { ("", "[a-z]*") } else { ("relay", "relay") };
    let null =
        if null_sender { "" } else { "check_sender_access inline:{ { <> = 553 5.1.7 mail without a sender } }, " };
    format!(
        "smtpd_sender_login_maps = inline:{{ {{ {owned}@provider.example = {ME} }} }}\n\
         smtpd_sender_restrictions = {null}reject_sender_login_mismatch\n\
         header_checks = regexp:{{ {{ /^(From|Sender):(.*[ ,<])?{shown}@provider\\.example>?$$/ DUNNO }}, \
         {{ /^(From|Sender):/ REJECT 5.7.1 Sender address is not allowed }} }}\n"
    )
}

async fn relay_with(certs: &Certs, port: u16, account: Section) -> Relay {
    let account = account
        .option("host", "localhost")
        .option("port", port)
        .option("tls", "starttls")
        .option("ca_file", certs.ca_file().display())
        .option("username", USER)
        .option("password", PASSWORD)
        .option("from", ME);
    Relay::builder().section(account).relay_option("admin", ME).start().await
}

/// Sends a shape, and returns the line in the log that tells how it ended.
async fn send(relay: &Relay, shape: &Shape, number: usize) -> String {
    let mark = relay.mark();
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let reply = device.send(shape.envelope, &["ops@example.net"], &text(shape, number)).await;
    assert_eq!(reply.code, 250, "{}: {reply:?}", shape.name);
    // A notice about it has a line of its own.
    let accepted = relay
        .wait_log_from(mark, |line| line.contains("event=accepted") && line.contains("client=127.0.0.1"), SOON)
        .await;
    let id = field(&accepted, "id").unwrap().to_string();
    let ends = ["event=delivered", "event=failed", "event=deferred"];
    let is_end = |line: &str| ends.iter().any(|end| line.contains(end)) && field(line, "id") == Some(&id);
    relay.wait_log_from(mark, |line| is_end(line) || line.contains("event=paused"), SOON).await
}

/// Sends every shape through an account of this preset; returns what Postfix got: envelope sender and fields.
async fn through_postfix(preset: &str) -> Option<Vec<(String, String)>> {
    let facts = providers::find(preset).unwrap();
    let certs = Certs::new();
    let more = owner_only(facts.from_policy == FromPolicy::Domain, facts.null_sender);
    let postfix = Postfix::start_with(&certs, &more).await?;
    let relay = relay_with(&certs, postfix.port(), Section::new("account", "a").option("provider", preset)).await;
    for (number, shape) in SHAPES.iter().enumerate() {
        let line = send(&relay, shape, number).await;
        assert!(line.contains("event=delivered"), "{preset}, {}: {line}\n{}", shape.name, postfix.log());
    }
    let arrived = postfix.wait_for_deliveries(SHAPES.len(), SOON).await;
    let mut got = Vec::new();
    for (number, shape) in SHAPES.iter().enumerate() {
        let subject = format!("\r\nSubject: shape {number}\r\n");
        let of_shape = |data: &[u8]| String::from_utf8_lossy(data).contains(&subject);
        let mail =
            arrived.iter().find(|mail| of_shape(&mail.data)).unwrap_or_else(|| panic!("{} is missing", shape.name));
        got.push((mail.sender.clone(), seen(&mail.data, &text(shape, number))));
    }
    Some(got)
}

/// What the table says of a shape for a preset: envelope sender and fields.
fn expected(shape: &Shape, preset: &providers::Provider) -> (String, String) {
    let (envelope, fields) = match preset.from_policy {
        FromPolicy::Account => shape.account,
        FromPolicy::Domain => shape.domain,
        FromPolicy::Keep => (shape.envelope, "="),
    };
    let envelope = if envelope.is_empty() && !preset.null_sender { ME } else { envelope };
    (envelope.into(), fields.into())
}

/// A preset for each policy that there is.
const KINDS: [&str; 3] = ["gmail", "ses", "mailgun"];

#[test]
fn every_preset_has_the_policy_of_one_that_is_tried() {
    let kind = |preset: &providers::Provider| (preset.from_policy, preset.null_sender);
    let tried: Vec<_> = KINDS.iter().map(|id| kind(&providers::find(id).unwrap())).collect();
    for preset in providers::all() {
        assert!(tried.contains(&kind(&preset)), "{}: try it with Postfix, too", preset.id);
    }
}

#[tokio::test]
async fn postfix_takes_every_shape_from_every_kind_of_preset() {
    for preset in KINDS {
        let Some(got) = through_postfix(preset).await else { return };
        let facts = providers::find(preset).unwrap();
        let same = |other: &providers::Provider| {
            (other.from_policy, other.null_sender) == (facts.from_policy, facts.null_sender)
        };
        let all: Vec<_> = providers::all().into_iter().filter(same).map(|other| other.id).collect();
        println!("from_policy {:?}, null sender {}: {}", facts.from_policy, facts.null_sender, all.join(" "));
        for (shape, (envelope, fields)) in SHAPES.iter().zip(&got) {
            println!("  {:40} <{envelope}> {fields}", shape.name);
        }
        for (shape, got) in SHAPES.iter().zip(got) {
            assert_eq!(got, expected(shape, &facts), "{preset}, {}", shape.name);
        }
    }
}

#[tokio::test]
async fn a_sender_that_postfix_refuses_is_told_with_the_remedy() {
    let certs = Certs::new();
    let Some(postfix) = Postfix::start_with(&certs, &owner_only(false, true)).await else { return };
    let keep = Section::new("account", "a").option("from_policy", "keep");
    let mut relay = relay_with(&certs, postfix.port(), keep).await;
    let elsewhere = SHAPES.iter().find(|shape| shape.name == "an address elsewhere").unwrap();
    let line = send(&relay, elsewhere, 1).await;
    println!("{line}");
    assert!(line.contains("event=failed") && line.contains("not owned by user relay@provider.example"), "{line}");
    assert!(line.contains("from_policy 'account'"), "{line}");
    // The header alone, as large providers look at it, too.
    let header = SHAPES.iter().find(|shape| shape.name == "its own with a Sender elsewhere").unwrap();
    let line = send(&relay, header, 3).await;
    println!("{line}");
    assert!(line.contains("event=failed") && line.contains("Sender address is not allowed"), "{line}");
    // The notices of both leave by the settings of now.
    postfix.wait_for_deliveries(2, SOON).await;
    // What is wrong with the account's own address is wrong for all mail: it waits.
    relay.configure("account", "a", |section| {
        section.option("from", "other@provider.example").option("from_policy", "account")
    });
    relay.restart().await;
    let line = send(&relay, elsewhere, 2).await;
    println!("{line}");
    assert!(line.contains("event=paused") && line.contains("option from"), "{line}");
    // With the right settings the same mail passes.
    relay.configure("account", "a", |section| section.option("from", ME));
    let mark = relay.mark();
    relay.sighup();
    relay.wait_log_from(mark, |line| line.contains("event=delivered"), SOON).await;
    // Beside the two notices.
    let all = postfix.wait_for_deliveries(3, SOON).await;
    assert!(all.iter().any(|mail| String::from_utf8_lossy(&mail.data).contains("\r\nSubject: shape 2\r\n")));
}

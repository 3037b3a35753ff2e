// SPDX-License-Identifier: Apache-2.0
//! What the owner hears by mail, read by a MIME parser of somebody else (Python's email package); and that reports
//! never loop.

mod support;

use std::time::Duration;

use serde_json::json;
use smtprelay::daemon::boot_mail::BootMail;
use smtprelay::message::{BodyForm, Envelope, Facts, Offers, Outgoing, Repair};
use smtprelay::report::{FailedRecipient, Notice, ReportKind, Summary, SummaryItem};
use support::client::Client;
use support::mime::{parsed, parsed_report};
use support::provider::{Fault, Message, Provider, Step, Times, TlsMode};
use support::relay::{Relay, Section, field};

const SOON: Duration = Duration::from_secs(60);

/// A mail of the gateway's own as it leaves: through the repair, and made fit for the poorest provider.
fn sent(text: &[u8], to: &str) -> Vec<u8> {
    let envelope = Envelope { from: String::new(), to: vec![to.into()], smtputf8: !to.is_ascii() };
    let facts = Facts {
        envelope: &envelope,
        id: "NOTICE0000",
        hostname: "gw.example",
        helo: "gw.example",
        client: None,
        protocol: "local",
        now: 1_800_000_000,
        fallback_from: "me@example.com",
    };
    let (mut repair, mut body) = (Repair::new(), Vec::new());
    repair.push(text, &mut body);
    let repaired = repair.finish(&facts, &mut body).unwrap();
    // What our own mails may leave to the repair, and nothing else.
    for repair in &repaired.repairs {
        assert!(
            repair.contains("Date") || repair.contains("Message-ID"),
            "{repair}: {}",
            String::from_utf8_lossy(text)
        );
    }
    assert_eq!(repaired.form, BodyForm { eight_bit: false, encode: smtprelay::message::Encode::Verbatim });
    let offers = Offers { eight_bit_mime: false, smtputf8: !to.is_ascii() };
    let mut outgoing = Outgoing::new(repaired.header, repaired.form, offers).unwrap();
    let mut out = [outgoing.header(), b"\r\n"].concat();
    outgoing.push(&body, &mut out);
    outgoing.finish(&mut out).unwrap();
    out
}

/// Offers a message as raw bytes and returns the reply to its end.
async fn offer(relay: &Relay, from: &str, to: &str, text: &[u8]) -> support::client::Reply {
    let mut device = Client::greeted(relay.addr()).await;
    let (from, to) = (format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"));
    device.dialogue(&[("EHLO plc", 250), (&from, 250), (&to, 250), ("DATA", 354)]).await;
    device.write(text).await.unwrap();
    device.command("\r\n.").await
}

/// The report about the message `id`.
async fn report_about(provider: &Provider, id: &str) -> Message {
    let is_it = |message: &&Message| message.sender.is_empty() && message.text().contains(&format!("X-Queue-ID: {id}"));
    provider.wait_until("the report", SOON, |record| record.attempts.iter().find(is_it).cloned()).await
}

const HEAD: &str = "From: plc@example.com\r\nTo: x@example.com\r\n";

/// A message that is refused.
struct Case<'a> {
    name: &'a str,
    to: &'a str,
    /// What the provider says.
    refusal: &'a str,
    text: Vec<u8>,
    status: &'a str,
    /// As it is read in the end.
    subject: &'a str,
}

impl<'a> Case<'a> {
    fn new(name: &'a str, to: &'a str, subject: &'a str) -> Case<'a> {
        let text = format!("{HEAD}Subject: {subject}\r\n\r\nx\r\n").into_bytes();
        Case { name, to, refusal: "550 5.1.1 No such user", text, status: "5.1.1", subject }
    }
}

#[tokio::test]
async fn a_failure_is_reported_whatever_the_mail_looked_like() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let relay = Relay::builder()
        .durability("always")
        .section(Section::account("provider", &provider).option("from_policy", "keep"))
        .relay_option("hostname", "gw.example")
        .start()
        .await;
    let long = (0..8).map(|n| format!("550{}5.7.1 {n} {}", if n < 7 { "-" } else { " " }, "längst weg ".repeat(30)));
    let long = long.collect::<Vec<_>>().join("\r\n");
    let word = format!("550 5.7.1 {}", "https://example.com/".repeat(20));
    let raw: &[u8] = b"Subject: St\xf6rung\r\nX-Raw: \xff\xfe\x01\r\n\xe4 no field\r\n\r\n\xfc\r\n";
    let raw = [HEAD.as_bytes(), raw].concat();
    let lines = "X-Line: 0123456789012345678901234567890\r\n".repeat(1000);
    let large = format!("{HEAD}Subject: large\r\n{lines}\r\nx\r\n");
    let cases = [
        Case::new("plain", "gone@example.com", "Pump 1"),
        Case { refusal: "550 go away", status: "5.0.0", ..Case::new("no code", "no@example.com", "Pump 2") },
        Case::new("utf-8 address", "b\u{fc}ro@ex\u{e4}mple.com", "Pump 3"),
        Case::new("utf-8 header", "h@example.com", "St\u{f6}rung \u{20ac}"),
        Case { text: raw, ..Case::new("raw bytes", "raw@example.com", "St\u{f6}rung") },
        Case { refusal: &long, status: "5.7.1", ..Case::new("long reason", "long@example.com", "Pump 4") },
        Case { refusal: &word, status: "5.7.1", ..Case::new("long word", "word@example.com", "Pump 5") },
        Case { text: large.into(), ..Case::new("large header", "large@example.com", "large") },
        Case { text: "just text\r\nof a device\r\n".into(), ..Case::new("no header", "bare@example.com", "") },
        Case { text: "".into(), ..Case::new("nothing", "nothing@example.com", "") },
    ];
    for (number, Case { name, to, refusal, text, status, subject }) in cases.iter().enumerate() {
        // Each from a sender of its own: one who has many failures hears of them in one mail, later.
        let from = format!("plc{number}@example.com");
        provider.set_fault(Step::Rcpt(to.to_string()), Fault::Reply(refusal.to_string()), Times::Always);
        let reply = offer(&relay, &from, to, text).await;
        assert_eq!(reply.code, 250, "{name}: {reply:?}");
        let id = reply.text().rsplit(' ').next().unwrap().to_string();
        let report = report_about(&provider, &id).await;
        assert_eq!(report.recipients, [from], "{name}");
        assert!(report.data.is_ascii(), "{name}");
        let Some(found) = parsed_report(&report.data) else { return };
        let [human, machine, original] = found["parts"].as_array().unwrap().as_slice() else { panic!("{found}") };
        let words = human["text"].as_str().unwrap();
        assert!(
            words.contains(to) && words.contains("could not be delivered to") && words.contains(&id),
            "{name}: {words}"
        );
        let blocks = machine["blocks"].as_array().unwrap();
        assert_eq!(blocks.len(), 2, "{name}: {machine}");
        assert_eq!(blocks[0]["Reporting-MTA"], "dns; gw.example", "{name}");
        assert_eq!((&blocks[1]["Action"], &blocks[1]["Status"]), (&json!("failed"), &json!(status)), "{name}");
        let recipient =
            if to.is_ascii() { format!("rfc822; {to}") } else { "utf-8; b\\x{FC}ro@ex\\x{E4}mple.com".to_string() };
        assert_eq!(blocks[1]["Final-Recipient"], recipient, "{name}");
        let diagnostic = blocks[1]["Diagnostic-Code"].as_str().unwrap();
        assert!(diagnostic.starts_with("smtp; 550 ") && diagnostic.len() < 900, "{name}: {diagnostic}");
        // What the gateway advises is not what the server said.
        let said = refusal.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = diagnostic["smtp; ".len()..].trim_end_matches('…');
        assert!(!said.is_ascii() || said.starts_with(shown) || said.len() > 400, "{name}: {diagnostic}");
        let fields = &original["fields"];
        assert_eq!(fields["Subject"].as_str().unwrap_or_default(), *subject, "{name}: {original}");
        assert!(fields["Received"].as_str().is_some_and(|value| value.contains(&id)), "{name}: {original}");
        if *name == "large header" {
            assert!(original["count"].as_u64().unwrap() > 300 && report.data.len() < 24 << 10, "{original}");
        }
        println!("{name}: {} bytes, {}", report.data.len(), human["encoding"]);
    }
    assert_eq!(provider.complaints(), Vec::<String>::new());
}

fn notice<'a>(kind: ReportKind, to: &'a [String], header: &'a [u8], failures: &'a [FailedRecipient]) -> Notice<'a> {
    Notice {
        kind,
        goes_on: kind == ReportKind::Delayed,
        retry_until: (kind == ReportKind::Delayed).then_some(1_800_345_600),
        id: "ABCDEFGHJK",
        hostname: "gw.example",
        from: "me@example.com",
        to,
        arrived: 1_800_000_000,
        client: "10.0.0.7",
        header,
        subjects: true,
        failures,
    }
}

#[test]
fn a_delay_can_be_read_by_programs_too() {
    let failure = |recipient: &str, reason: &str| FailedRecipient {
        recipient: recipient.into(),
        reason: reason.into(),
        said: reason.into(),
    };
    let failures = [
        failure("a@example.com", "mx.example said: 451 4.3.0 later"),
        failure("b\u{fc}ro@example.com", "no connection to mx.example:465: keine Route zum Zielrechner f\u{fc}r heute"),
        failure("c@example.com", &"\u{1f4a5} \r\nAction: failed\r\n\r\n=?utf-8?Q?x".repeat(500)),
        failure("d\u{7}\r\n.\r\n@example.com", ""),
    ];
    let mut header = b"Subject: =?utf-8?Q?St=C3=B6rung?=\r\nX: \xff\r\n--=_ABCDEFGHJK_report--\r\n".to_vec();
    header.extend(b"Y: ".iter().chain(&[b'y'; 40_000]));
    let to = ["plc@example.com".to_string(), "night@example.com".to_string()];
    let Some(found) = parsed_report(&sent(&notice(ReportKind::Delayed, &to, &header, &failures).text(), &to[0])) else {
        return;
    };
    assert_eq!(found["fields"]["To"], "plc@example.com, night@example.com");
    assert_eq!(found["fields"]["Subject"], "Delivery delayed: mail from 10.0.0.7");
    let words = found["parts"][0]["text"].as_str().unwrap().replace('\n', " ");
    for part in
        ["will keep trying until Tue, 19 Jan 2027 08:00:00 +0000", "keine Route", "Its subject is: St\u{f6}rung"]
    {
        assert!(words.contains(part), "{part}: {words}");
    }
    let blocks = found["parts"][1]["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 5);
    let statuses: Vec<_> = blocks[1..].iter().map(|block| block["Status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["4.3.0", "4.0.0", "4.0.0", "4.0.0"]);
    for block in &blocks[1..] {
        assert_eq!(block["Action"], "delayed");
        assert_eq!(block["Will-Retry-Until"], "Tue, 19 Jan 2027 08:00:00 +0000");
    }
    assert_eq!(blocks[2]["Final-Recipient"], "utf-8; b\\x{FC}ro@example.com");
    assert_eq!(found["parts"][2]["fields"]["Subject"], "St\u{f6}rung");
}

#[test]
fn a_reader_with_an_address_beyond_ascii_gets_a_report_as_well() {
    const SAID: &str = "mx.example said: 550 5.1.1 no";
    let failures = [FailedRecipient { recipient: "a@example.com".into(), reason: SAID.into(), said: SAID.into() }];
    let to = "b\u{fc}ro@example.com";
    let message = sent(&notice(ReportKind::Failed, &[to.to_string()], b"Subject: x\r\n", &failures).text(), to);
    let text = String::from_utf8(message).unwrap();
    // The address is the only thing that has no seven bits (RFC 6532); Python's parser takes no such header.
    let (before, after) = text.split_once(&format!("To: <{to}>\r\n")).unwrap();
    assert!(before.is_ascii() && after.is_ascii(), "{text}");
    parsed_report(format!("{before}To: <reader@example.com>\r\n{after}").as_bytes());
}

#[test]
fn a_summary_and_a_boot_mail_can_be_read() {
    let item = |n: usize, subject: &str, reason: &str| SummaryItem {
        id: format!("ID{n:08}"),
        arrived: 1_800_000_000,
        client: "10.0.0.7".into(),
        subject: subject.into(),
        recipient: format!("b\u{fc}ro{n}@example.com"),
        reason: reason.into(),
    };
    let odd = "\u{1f4a5}\r\n.\r\n--x\r\n".repeat(300);
    let mut items: Vec<_> =
        (0..3000).map(|n| item(n, "=?utf-8?Q?St=C3=B6rung?=", "keine Verbindung, \u{fc}ber Stunden")).collect();
    items.push(item(3000, &odd, &odd));
    for kind in [ReportKind::Failed, ReportKind::Delayed] {
        let summary = Summary {
            hostname: "gw.example",
            from: "me@example.com",
            to: &["admin@example.com".into()],
            kind,
            since: 1_800_000_000,
            until: 1_800_000_060,
            total: 3011,
            subjects: true,
            items: &items,
            left_out: 10,
        };
        let message = sent(&summary.text(), "admin@example.com");
        assert!(message.len() < 64 << 10, "{}", message.len());
        let Some(found) = parsed(&message) else { return };
        let subject =
            if kind == ReportKind::Failed { "3011 messages not delivered" } else { "3011 messages are delayed" };
        assert_eq!(
            (&found["fields"]["Subject"], &found["fields"]["Auto-Submitted"]),
            (&json!(subject), &json!("auto-generated"))
        );
        let text = found["parts"][0]["text"].as_str().unwrap();
        let listed = text.matches("    St\u{f6}rung\n").count();
        assert!(listed > 200 && text.matches("keine Verbindung").count() == 1, "{text}");
        assert!(text.contains(&format!("Not listed here: {} messages", 3011 - listed)), "{text}");
    }
    let boot = BootMail {
        hostname: "gw.example",
        from: "me@example.com",
        to: "admin@example.com",
        version: "1.0",
        booted_at: 1_800_000_000,
        reason: "Stromausfall f\u{fc}r \r\n.\r\n l\u{e4}nger",
        uptime: 60,
        addresses: &[("br-lan".into(), "192.168.1.1".parse().unwrap())],
        waiting: (1, 2000),
        oldest: Some(1_799_000_000),
        last_stop: None,
    };
    let Some(found) = parsed(&sent(&boot.text(), "admin@example.com")) else { return };
    let text = found["parts"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("Reason: Stromausfall f\u{fc}r . l\u{e4}nger\n") && text.contains("  br-lan  192.168.1.1\n"),
        "{text}"
    );
}

/// A device whose mail fails, and who has to hear of it.
struct Told {
    /// Last number of its address.
    client: u8,
    /// What it gives as its own address.
    from: &'static str,
    /// Where its mail goes, which the provider refuses.
    to: &'static str,
    /// The recipient.
    told: &'static [&'static str],
    /// By which account.
    account: &'static str,
}

impl Told {
    const fn row(
        client: u8,
        from: &'static str,
        to: &'static str,
        told: &'static [&'static str],
        account: &'static str,
    ) -> Told {
        Told { client, from, to, told, account }
    }
}

const ADMIN: &[&str] = &["admin@example.com"];

/// What the gateway writes for a device goes where the device itself may send, and by its accounts.
const TOLD: [Told; 12] = [
    // 11 may write to example.com only.
    Told::row(11, "victim@example.org", "gone@example.com", ADMIN, "first"),
    Told::row(11, "plc@example.com", "gone@example.com", &["plc@example.com"], "first"),
    Told::row(11, "x@plant.local", "gone@example.com", &["ops@example.com"], "first"),
    // An alias leads to where it may not write.
    Told::row(11, "boss@example.com", "gone@example.com", ADMIN, "first"),
    // 12 has fixed recipients.
    Told::row(12, "victim@example.org", "whoever@example.com", ADMIN, "first"),
    Told::row(12, "GONE@example.com", "whoever@example.com", &["GONE@example.com"], "first"),
    // 13 has an account of its own.
    Told::row(13, "plc@example.org", "gone@example.com", &["plc@example.org"], "second"),
    Told::row(13, "nobody@plant.lan", "gone@example.com", ADMIN, "second"),
    // 14 has no section; mail of its network takes a route.
    Told::row(14, "plc@example.org", "gone@example.com", &["plc@example.org"], "first"),
    Told::row(14, "root", "gone@example.com", &["a@example.com", "b@example.com"], "first"),
    Told::row(14, "unknown", "gone@example.com", ADMIN, "first"),
    Told::row(15, "plc@example.org", "gone@example.com", &["plc@example.org"], "second"),
];

fn rules(first: &Provider, second: &Provider) -> Vec<Section> {
    let account = |name, provider| Section::account(name, provider).option("from_policy", "keep");
    let device =
        |name: &str, client: u8| Section::new("device", name).list("ip", std::net::Ipv4Addr::new(127, 0, 0, client));
    vec![
        account("first", first),
        account("second", second),
        device("pump", 11).list("allow_recipient", "*@example.com").list("rewrite", "*@plant.local ops@example.com"),
        device("press", 12).list("recipient", "gone@example.com"),
        device("hall", 13).option("account", "second").option("name", "Hall 7"),
        Section::new("route", "net").list("client", "127.0.0.15").list("account", "second"),
        Section::new("alias", "boss").list("name", "boss@example.com").list("to", "private@example.org"),
        Section::new("alias", "root").list("name", "root").list("to", "a@example.com").list("to", "b@example.com"),
    ]
}

/// Sends a mail as the device at 127.0.0.`client` and returns its name.
async fn send_as(relay: &Relay, client: u8, from: &str, to: &str) -> String {
    let ip = std::net::Ipv4Addr::new(127, 0, 0, client).into();
    let mut device = Client::greeted_from(ip, relay.addr()).await;
    device.set_limit(SOON);
    device.dialogue(&[("EHLO plc", 250)]).await;
    let reply = device.send(from, &[to], "Subject: alarm\r\n\r\nx\r\n").await;
    assert_eq!(reply.code, 250, "{from}: {reply:?}");
    reply.text().rsplit(' ').next().expect("a name").to_string()
}

#[tokio::test]
async fn a_notice_has_no_subject_if_that_is_wanted() {
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    provider.set_fault(Step::Rcpt("gone@example.com".into()), Fault::Reply("550 5.1.1 no".into()), Times::Always);
    let builder = Relay::builder().durability("memory").relay_option("log_subject", "0");
    let relay = builder.section(Section::account("provider", &provider)).start().await;
    let id = send_as(&relay, 1, "plc@example.com", "gone@example.com").await;
    let report = report_about(&provider, &id).await.text();
    assert!(report.contains("Message-ID: <") && !report.contains("alarm"), "{report}");
}

#[tokio::test]
async fn a_notice_goes_where_the_device_may_send() {
    let start = async || Provider::builder().tls(TlsMode::None).start().await;
    let (first, second) = (start().await, start().await);
    let start = async || {
        let builder = Relay::builder().durability("memory").relay_option("admin", "admin@example.com");
        let builder = builder.relay_option("hostname", "gw.example");
        let builder = rules(&first, &second).into_iter().fold(builder, |builder, section| builder.section(section));
        builder.start().await
    };
    let mut relay = start().await;
    for provider in [&first, &second] {
        provider.set_fault(Step::Dot, Fault::Reply("550 5.7.1 not this".into()), Times::Always);
    }
    for (number, Told { client, from, to, told, account }) in TOLD.iter().enumerate() {
        // Who has had three notices gets the next ones in a summary, later.
        if number % 5 == 4 {
            relay = start().await;
        }
        let (by, other) = if *account == "first" { (&first, &second) } else { (&second, &first) };
        let others = other.record().attempts.len();
        let id = send_as(&relay, *client, from, to).await;
        let report = report_about(by, &id).await;
        assert_eq!(report.recipients, *told, "{number}: {from}");
        assert_eq!(other.record().attempts.len(), others, "{number}: {from}");
        // It names the gateway, not the device for which it was written; and it comes from here.
        let text = report.text();
        assert!(text.contains("From: \"Mail gateway gw.example\" <"), "{text}");
        let received = text.split("\r\nMessage-ID").next().unwrap_or_default().to_string();
        assert!(!received.contains(&format!("[127.0.0.{client}]")), "{received}");
    }
}

#[tokio::test]
async fn the_rules_hold_for_notices_through_a_start_and_a_change() {
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let account = Section::account("provider", &provider).option("from_policy", "keep");
    let limited = |client: u8| {
        Section::new("device", &format!("d{client}"))
            .list("ip", std::net::Ipv4Addr::new(127, 0, 0, client))
            .list("allow_recipient", "*@example.com")
    };
    let mut relay = Relay::builder()
        .durability("always")
        .relay_option("admin", "admin@example.com")
        .section(account)
        .section(limited(21))
        .section(limited(22))
        .start()
        .await;
    provider.set_fault(Step::Dot, Fault::Reply("550 5.7.1 not this".into()), Times::Always);
    provider.stop().await;
    let mut ids = Vec::new();
    // The first keeps its section, that of the second goes, and the third gets one.
    for client in [21, 22, 23] {
        ids.push(send_as(&relay, client, "victim@example.org", "gone@example.com").await);
    }
    relay.kill9();
    relay.configure("device", "d22", |_| limited(23));
    relay.restart().await;
    provider.restart().await;
    for id in &ids {
        assert_eq!(report_about(&provider, id).await.recipients, ADMIN);
    }
}

/// Names of the files in the queue of a relay.
fn queued(relay: &Relay) -> Vec<String> {
    let files = std::fs::read_dir(relay.safe_spool().join("queue")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

fn count(relay: &Relay, event: &str) -> usize {
    relay.log().iter().filter(|line| field(line, "event") == Some(event)).count()
}

#[tokio::test]
async fn two_gateways_that_point_at_each_other_come_to_an_end() {
    for (one, other) in [("a.example", "b.example"), ("same.example", "same.example")] {
        let account =
            |port: u16| Section::custom_account("other", "127.0.0.1", port, "none").option("from_policy", "keep");
        let start = async |hostname: &str, port| {
            Relay::builder()
                .durability("always")
                .relay_option("hostname", hostname)
                .section(account(port))
                .start()
                .await
        };
        // The second one's port is not known before it runs.
        let mut a = start(one, 9).await;
        let b = start(other, a.addr().port()).await;
        a.configure("account", "other", |_| account(b.addr().port()));
        a.sighup();
        a.wait_log(|line| line.contains("event=reloaded"), SOON).await;
        let text = b"From: plc@example.com\r\nTo: ops@example.com\r\nSubject: round\r\n\r\nx\r\n";
        assert_eq!(offer(&a, "plc@example.com", "ops@example.com", text).await.code, 250);
        // The mail goes round until it is refused; the notice of that does the same; nobody is told of the notice.
        let is_end = |line: &str| field(line, "event") == Some("unreported");
        let (end, at) = tokio::select! {
            line = a.wait_log(is_end, SOON) => (line, &a),
            line = b.wait_log(is_end, SOON) => (line, &b),
        };
        assert!(end.contains("a notification itself"), "{end}");
        let id = field(&end, "id").unwrap().to_string();
        at.wait_log(|line| field(line, "event") == Some("removed") && field(line, "id") == Some(&id), SOON).await;
        let failures: Vec<String> =
            [&a, &b].iter().flat_map(|relay| relay.log()).filter(|line| line.contains("event=failed")).collect();
        assert_eq!(failures.len(), 2, "the mail and its notice: {failures:?}");
        assert!(
            failures.iter().all(|line| line.contains("554 5.4.6") && line.contains("mail loop detected")),
            "{failures:?}"
        );
        assert_eq!(count(&a, "notified") + count(&b, "notified"), 1);
        for relay in [&a, &b] {
            for line in relay.log() {
                if let (Some("accepted" | "notified"), Some(id)) = (field(&line, "event"), field(&line, "id")) {
                    relay.wait_log(|l| field(l, "event") == Some("removed") && field(l, "id") == Some(id), SOON).await;
                }
            }
        }
        // Nothing is left that could go on.
        assert_eq!((queued(&a), queued(&b)), (vec![], vec![]));
        let accepted = count(&a, "accepted") + count(&b, "accepted");
        println!("{one}, {other}: {accepted} messages until the end");
        assert!((2..=16).contains(&accepted), "{accepted} messages");
    }
}

#[tokio::test]
async fn a_mail_that_has_been_everywhere_is_refused() {
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let relay = Relay::builder().durability("always").account("provider", &provider).start().await;
    let hop = "Received: from a by b; Mon, 23 Nov 2026 01:02:03 +0000\r\n";
    for (hops, code) in [(25, 250), (26, 554)] {
        let text = format!("{}From: plc@example.com\r\nSubject: x\r\n\r\nx\r\n", hop.repeat(hops));
        let reply = offer(&relay, "plc@example.com", "ops@example.com", text.as_bytes()).await;
        assert_eq!(reply.code, code, "{hops}: {reply:?}");
        assert!(code == 250 || reply.text().contains("5.4.6"), "{reply:?}");
    }
    provider.wait_for_messages(1, SOON).await;
}

// SPDX-License-Identifier: Apache-2.0
//! What holds for the mail of a device: whom it goes to, how much of it, under which name, by which account.

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use base64::Engine;
use serde_json::json;
use support::ask::{hello, json as asked, queue, queue_until};
use support::client::Client;
use support::provider::{Message, Provider, TlsMode};
use support::relay::{Relay, Section};

const SOON: Duration = Duration::from_secs(60);
const TEXT: &str = "Subject: alarm\r\n\r\nx\r\n";

async fn relay_with(provider: &Provider, sections: Vec<Section>) -> Relay {
    let account = Section::account("provider", provider).option("from_policy", "keep");
    let builder = Relay::builder().durability("memory").relay_option("admin", "admin@example.com").section(account);
    sections.into_iter().fold(builder, |builder, section| builder.section(section)).start().await
}

fn alias(name: &str, to: &[&str]) -> Section {
    let section = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    to.iter().fold(Section::new("alias", &section).list("name", name), |section, to| section.list("to", to))
}

async fn recipients(provider: &Provider, count: usize) -> Vec<String> {
    provider.wait_for_messages(count, SOON).await.pop().expect("a message").recipients
}

#[tokio::test]
async fn aliases_say_who_is_meant() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let relay = relay_with(
        &provider,
        vec![
            alias("root", &["staff"]),
            alias("staff", &["me@example.com", "you@example.com"]),
            alias("*@plant.local", &["plant@example.com"]),
        ],
    )
    .await;
    let mut device = hello(&relay).await;
    let cases: [(&[&str], &[&str]); 4] = [
        (&["root"], &["me@example.com", "you@example.com"]),
        (&["x@plant.local", "me@example.com", "root"], &["plant@example.com", "me@example.com", "you@example.com"]),
        // Nobody explains it, so the admin gets it.
        (&["postmaster"], &["admin@example.com"]),
        (&["ops@example.com"], &["ops@example.com"]),
    ];
    for (number, (named, meant)) in cases.iter().enumerate() {
        assert_eq!(device.send("plc@example.com", named, TEXT).await.code, 250);
        assert_eq!(recipients(&provider, number + 1).await, *meant, "{named:?}");
    }
    // Programs of this host are meant as well.
    let sent = relay.command_with_input(&["send", "root"], b"Subject: cron\n\nx\n").await;
    assert!(sent.status.success());
    assert_eq!(recipients(&provider, cases.len() + 1).await, ["me@example.com", "you@example.com"]);
}

#[tokio::test]
async fn a_device_writes_to_whom_it_may() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let section = Section::new("device", "pump")
        .list("ip", "127.0.0.1")
        .list("allow_recipient", "*@example.com")
        .list("rewrite", "*@plant.local ops@example.com");
    let relay = relay_with(&provider, vec![section]).await;
    let mut device = hello(&relay).await;
    device.dialogue(&[("MAIL FROM:<plc@example.com>", 250), ("RCPT TO:<evil@example.org>", 550)]).await;
    let refused = relay.wait_log(|line| line.contains("event=rejected"), SOON).await;
    assert!(refused.contains("pump is not allowed to send to evil@example.org (list allow_recipient"), "{refused}");
    device.dialogue(&[("RCPT TO:<a@plant.local>", 250), ("RCPT TO:<b@example.com>", 250), ("DATA", 354)]).await;
    device.write(format!("{TEXT}.\r\n").as_bytes()).await.unwrap();
    device.expect(250).await;
    assert_eq!(recipients(&provider, 1).await, ["ops@example.com", "b@example.com"]);
}

#[tokio::test]
async fn a_device_with_fixed_recipients_may_say_what_it_likes() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let fixed = Section::new("device", "default").list("recipient", "ops@example.com").list("recipient", "root");
    let relay = relay_with(&provider, vec![fixed, alias("root", &["me@example.com"])]).await;
    let mut device = hello(&relay).await;
    for (number, named) in ["whoever", "a@b.c"].into_iter().enumerate() {
        assert_eq!(device.send("plc@example.com", &[named], TEXT).await.code, 250);
        assert_eq!(recipients(&provider, number + 1).await, ["ops@example.com", "me@example.com"]);
    }
}

/// One row of the table: who sends three mails to whom, what becomes of each, who gets those that leave, by which account,
/// and what stands in From.
struct Row {
    client: u8,
    to: &'static str,
    outcomes: [&'static str; 3],
    gets: &'static [&'static str],
    account: &'static str,
    from: &'static str,
}

const ROWS: [Row; 8] = [
    Row {
        client: 11,
        to: "alarm@plant.local",
        outcomes: ["sent", "sent", "collected"],
        gets: &["ops@example.com"],
        account: "first",
        from: "\"Pump house\" <plc@example.com>",
    },
    Row { client: 11, to: "evil@example.org", outcomes: ["550"; 3], gets: &[], account: "", from: "" },
    Row {
        client: 12,
        to: "whoever@example.net",
        outcomes: ["sent", "450", "450"],
        gets: &["admin@example.com"],
        account: "second",
        from: "\"press\" <plc@example.com>",
    },
    Row {
        client: 13,
        to: "files@example.net",
        outcomes: ["sent", "waits", "450"],
        gets: &["files@example.net"],
        account: "second",
        from: "\"Scanner, 1st floor\" <plc@example.com>",
    },
    // Two clients without a section: what holds for both is counted for each.
    Row {
        client: 14,
        to: "ops@example.com",
        outcomes: ["sent", "sent", "450"],
        gets: &["ops@example.com"],
        account: "first",
        from: "plc@example.com",
    },
    Row {
        client: 15,
        to: "root",
        outcomes: ["sent", "sent", "450"],
        gets: &["admin@example.com"],
        account: "first",
        from: "plc@example.com",
    },
    // By route: its section names no account.
    Row {
        client: 16,
        to: "ops@example.com",
        outcomes: ["sent"; 3],
        gets: &["ops@example.com"],
        account: "second",
        from: "\"yard\" <plc@example.com>",
    },
    Row {
        client: 16,
        to: "ops@example.net",
        outcomes: ["sent"; 3],
        gets: &["ops@example.net"],
        account: "first",
        from: "\"yard\" <plc@example.com>",
    },
];

fn section_of(name: &str, client: u8, options: &[(&str, &str)]) -> Section {
    let section = Section::new("device", name).list("ip", Ipv4Addr::new(127, 0, 0, client));
    options.iter().fold(section, |section, (name, value)| section.list(name, value))
}

/// Sends one mail as a device that does what it is told, and says what became of it.
async fn outcome(relay: &Relay, client: u8, to: &str, subject: &str) -> String {
    let mut device = Client::greeted_from(Ipv4Addr::new(127, 0, 0, client).into(), relay.addr()).await;
    device.set_limit(SOON);
    device.dialogue(&[("EHLO plc", 250)]).await;
    for line in ["MAIL FROM:<plc@example.com>".to_string(), format!("RCPT TO:<{to}>"), "DATA".into()] {
        let reply = device.command(&line).await;
        if reply.code >= 400 {
            return reply.code.to_string();
        }
    }
    device.write(format!("From: plc@example.com\r\nSubject: {subject}\r\n\r\nx\r\n").as_bytes()).await.unwrap();
    let reply = device.command(".").await;
    if reply.code != 250 {
        return reply.code.to_string();
    }
    let id = reply.text().rsplit(' ').next().expect("a name").to_string();
    let waiting = queue(relay).await.into_iter().find(|message| message["id"] == json!(id));
    let why = waiting.map(|message| message["why"].as_str().unwrap_or_default().to_string()).unwrap_or_default();
    let words = [("collected for", "collected"), ("rate limited, next attempt", "waits")];
    words.iter().find(|(start, _)| why.starts_with(start)).map_or("sent", |(_, word)| word).to_string()
}

#[tokio::test]
async fn device_by_recipient_by_rate_by_account() {
    let start = async || Provider::builder().tls(TlsMode::None).start().await;
    let (first, second) = (start().await, start().await);
    let account = |name, provider| Section::account(name, provider).option("from_policy", "keep");
    let sections = [
        account("first", &first),
        account("second", &second),
        alias("root", &["admin@example.com"]),
        section_of(
            "pump",
            11,
            &[
                ("name", "Pump house"),
                ("allow_recipient", "*@example.com"),
                ("rewrite", "*@plant.local ops@example.com"),
            ],
        )
        .option("account", "first")
        .option("rate", "2/d")
        .option("digest_every", "10s"),
        section_of("press", 12, &[("recipient", "root"), ("account", "second"), ("account", "first")])
            .option("rate", "1/d")
            .option("over_rate", "reject"),
        section_of("scanner", 13, &[("name", "Scanner, 1st floor"), ("account", "second")])
            .option("rate", "1/d")
            .option("over_rate", "defer"),
        section_of("yard", 16, &[]),
        Section::new("device", "default").option("rate", "2/d").option("over_rate", "reject"),
        Section::new("route", "by_device")
            .list("account", "second")
            .list("device", "yard")
            .list("recipient", "*@example.com"),
    ];
    let builder = sections.into_iter().fold(Relay::builder().durability("memory"), |b, section| b.section(section));
    let relay = builder.start().await;
    let (mut expected, mut sent) = ([0, 0], Vec::new());
    for (number, row) in ROWS.iter().enumerate() {
        let mut outcomes = Vec::new();
        for n in 0..3 {
            outcomes.push(outcome(&relay, row.client, row.to, &format!("row {number} mail {n}")).await);
        }
        println!(
            "127.0.0.{:<3} {:22} {:28} {:8} {:?} {}",
            row.client,
            row.to,
            outcomes.join(" "),
            row.account,
            row.gets,
            row.from
        );
        assert_eq!(outcomes, row.outcomes, "row {number}");
        for n in (0..3).filter(|n| row.outcomes[*n] == "sent") {
            expected[usize::from(row.account == "second")] += 1;
            sent.push((row, format!("row {number} mail {n}")));
        }
    }
    // One was collected: the only one needs no digest.
    let at_first = first.wait_for_messages(expected[0] + 1, SOON).await;
    let at_second = second.wait_for_messages(expected[1], SOON).await;
    assert_eq!((at_first.len(), at_second.len()), (expected[0] + 1, expected[1]));
    sent.push((&ROWS[0], "row 0 mail 2".into()));
    for (row, subject) in sent {
        let messages = if row.account == "first" { &at_first } else { &at_second };
        let fits = |message: &&Message| message.header("Subject").as_deref() == Some(subject.as_str());
        let found: Vec<&Message> = messages.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{subject}");
        assert_eq!(found[0].recipients, row.gets, "{subject}");
        assert_eq!(found[0].header("From").as_deref(), Some(row.from), "{subject}");
    }
    let devices = asked(&relay, "devices").await["devices"].take();
    let rate = |client: u8| {
        let ip = format!("127.0.0.{client}");
        devices.as_array().unwrap().iter().find(|device| device["client"] == json!(ip)).expect("a device")["rate"]
            .clone()
    };
    let counts = |limit: &str, digested, deferred, rejected| json!({ "limit": limit, "digested": digested, "deferred": deferred, "rejected": rejected });
    assert_eq!(rate(11), counts("2/d", 1, 0, 0));
    assert_eq!(rate(12), counts("1/d", 0, 0, 2));
    assert_eq!(rate(13), counts("1/d", 0, 1, 1));
    assert_eq!((rate(14), rate(15)), (counts("2/d", 0, 0, 1), counts("2/d", 0, 0, 1)));
    assert_eq!(rate(16), serde_json::Value::Null);
}

#[tokio::test]
async fn the_account_of_a_login_and_routes_by_login() {
    let start = async || Provider::builder().tls(TlsMode::None).start().await;
    let (first, second) = (start().await, start().await);
    let account = |name, provider| Section::account(name, provider).option("from_policy", "keep");
    let user =
        |name: &str| Section::new("user", name).option("username", format!("{name}-login")).option("password", "p");
    let relay = Relay::builder()
        .durability("memory")
        .listener_option("auth", "optional")
        .section(account("first", &first))
        .section(account("second", &second))
        .section(user("camera").option("account", "second"))
        .section(user("plc"))
        .section(user("other"))
        .section(Section::new("route", "by_login").list("account", "second").list("login", "plc"))
        .start()
        .await;
    for (name, by) in [("", &first), ("camera", &second), ("plc", &second), ("other", &first)] {
        let before = by.messages().len();
        let mut device = hello(&relay).await;
        if !name.is_empty() {
            let login = base64::engine::general_purpose::STANDARD.encode(format!("\0{name}-login\0p"));
            device.dialogue(&[(&format!("AUTH PLAIN {login}"), 235)]).await;
        }
        assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
        assert_eq!(by.wait_for_messages(before + 1, SOON).await.len(), before + 1, "{name}");
    }
}

#[tokio::test]
async fn mail_of_a_device_waits_for_its_only_account() {
    let start = async || Provider::builder().tls(TlsMode::None).start().await;
    let (first, second) = (start().await, start().await);
    let account = |name, provider| Section::account(name, provider).option("from_policy", "keep");
    let mut relay = Relay::builder()
        .section(account("first", &first))
        .section(account("second", &second))
        .section(section_of("press", 12, &[]).option("account", "second"))
        .section(section_of("hall", 13, &[("account", "second"), ("account", "first")]))
        .start()
        .await;
    second.stop().await;
    assert_eq!(outcome(&relay, 12, "ops@example.com", "patient").await, "sent");
    assert_eq!(outcome(&relay, 13, "ops@example.com", "by another way").await, "sent");
    let arrived = first.wait_for_messages(1, SOON).await;
    assert_eq!(arrived[0].header("Subject").as_deref(), Some("by another way"));
    // It waits through a start, and for a change of the settings.
    relay.restart().await;
    queue_until(&relay, |all| all.len() == 1).await;
    relay.configure("device", "press", |_| section_of("press", 12, &[("account", "first"), ("name", "Press 7")]));
    relay.sighup();
    let arrived = first.wait_for_messages(2, SOON).await;
    assert_eq!(arrived[1].header("From").as_deref(), Some("\"Press 7\" <plc@example.com>"));
    assert_eq!(second.messages().len(), 0);
}

#[tokio::test]
async fn the_name_of_a_device_stays_when_the_account_takes_the_sender() {
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let relay = Relay::builder()
        .account("provider", &provider)
        .section(section_of("pump", 1, &[("name", "T\u{fc}r")]))
        .start()
        .await;
    let mut device = hello(&relay).await;
    for (number, (from, expected)) in [
        ("plc@example.com", "=?utf-8?Q?T=C3=BCr?= <relay@provider.example>"),
        ("Boiler 3 <plc@example.com>", "\"Boiler 3\" <relay@provider.example>"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("From: {from}\r\n{TEXT}");
        assert_eq!(device.send("plc@example.com", &["ops@example.com"], &text).await.code, 250);
        let message = provider.wait_for_messages(number + 1, SOON).await.pop().expect("a message");
        assert_eq!(message.header("From").as_deref(), Some(expected));
        assert_eq!(message.header("Reply-To").as_deref(), Some("plc@example.com"));
    }
}

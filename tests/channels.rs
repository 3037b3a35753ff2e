// SPDX-License-Identifier: Apache-2.0
//! Channels: a message leaves as an HTTPS request, with the same promises as a mail.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::ask::{Ran, SOON, hello, json, queue, queue_until, run, said, send};
use support::provider::{Gate, Provider};
use support::push_server::{PushServer, Says};
use support::push_services::{Documented, SERVICES, TOKEN, anything, picture};
use support::relay::{Relay, RelayBuilder, Section, field};

const PHONE: &str = "phone@channel.invalid";

/// A channel of this service at its stand-in.
fn section(service: &Documented, server: &PushServer) -> Section {
    let section = Section::new("channel", service.id).option("service", service.id).option("ca_file", server.ca_file());
    service
        .options
        .iter()
        .fold(section, |section, (name, value)| section.option(name, value.replace("{url}", &server.url())))
}

/// A channel called `phone` at this server.
fn phone(server: &PushServer) -> Section {
    Section::new("channel", "phone")
        .option("service", "custom")
        .option("url", format!("{}/alarm", server.url()))
        .option("token", "s3cret-t0ken")
        .list("header", "Authorization: Bearer {token}")
        .option("body", r#"{"title":"{subject}","text":"{text}","id":"{id}"}"#)
        .option("ca_file", server.ca_file())
        .option("timeout", "5s")
}

/// All mail takes the channel.
fn relay_to(server: &PushServer) -> RelayBuilder {
    Relay::builder().durability("always").relay_option("retry_min", "1s").section(phone(server).option("default", "1"))
}

fn titles(server: &PushServer) -> Vec<String> {
    server.asked().iter().map(|asked| asked.json()["title"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn removed(relay: &Relay, count: usize) {
    relay.wait_lines(|line| field(line, "event") == Some("removed"), count, SOON).await;
}

async fn paused(relay: &Relay) -> String {
    let line = relay.wait_log(|line| field(line, "event") == Some("paused"), SOON).await;
    field(&line, "text").unwrap_or_default().to_owned()
}

/// A channel of each service, their servers, and the recipients that reach them.
async fn a_channel_of_each_service() -> (Relay, Vec<PushServer>, Vec<String>) {
    let (mut relay, mut servers) = (Relay::builder().durability("always"), Vec::new());
    for service in &SERVICES {
        let server = PushServer::start(service.usual).await;
        let route = Section::new("route", &format!("to_{}", service.id)).list("account", service.id);
        relay = relay.section(section(service, &server)).section(route.list("recipient", format!("{}@*", service.id)));
        servers.push(server);
    }
    let recipients = SERVICES.iter().map(|service| format!("{}@channel.invalid", service.id)).collect();
    (relay.start().await, servers, recipients)
}

#[tokio::test]
async fn each_service_gets_what_its_documentation_requires() {
    let (relay, servers, recipients) = a_channel_of_each_service().await;
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut device = hello(&relay).await;
    // With what has a meaning in JSON, forms, URLs, header fields, Slack and HTML.
    let text = "From: plc@example.com\r\nSubject: =?utf-8?q?St=C3=B6rung_=22A=26B=22_=3C1=3E?=\r\nMIME-Version: 1.0\r\n\
                Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                <html><head><style>p {}</style></head><p>T=C3=BCr &quot;1&quot; =26amp; \\n {token} @everyone</p>\r\n\
                <p>x=3D1&amp;y=3D2 &lt;b&gt;</p></html>\r\n";
    assert_eq!(device.send("plc@example.com", &recipients, text).await.code, 250);
    let expected = "Störung \"A&B\" <1>\nTür \"1\" & \\n {token} @everyone\nx=1&y=2 <b>";
    for (service, server) in SERVICES.iter().zip(&servers) {
        let asked = server.wait(1).await;
        assert_eq!((service.text)(&asked[0]), expected, "{}: {asked:?}", service.id);
    }
    removed(&relay, 1).await;
    // A message that is longer than any service accepts.
    let long =
        format!("From: plc@example.com\r\nSubject: {}\r\n\r\n{}", "long ".repeat(150), "Zeile ü\r\n".repeat(60_000));
    assert_eq!(device.send("plc@example.com", &recipients, &long).await.code, 250);
    removed(&relay, 2).await;
    for (service, server) in SERVICES.iter().zip(&servers) {
        let asked = server.wait(2).await;
        assert_eq!(asked.len(), 2, "{}", service.id);
        assert!((service.text)(&asked[1]).ends_with("[shortened]"), "{}: {:?}", service.id, asked[1]);
    }
    let delivered = relay.log().into_iter().filter(|line| field(line, "event") == Some("delivered")).count();
    assert_eq!(delivered, 2 * SERVICES.len());
    let log = relay.log().join("\n");
    assert!(!log.contains(TOKEN) && !log.contains("s3cret"), "{log}");
    for command in ["status", "status --json", "show", "history"] {
        let out = run(&relay, command).await.out;
        assert!(!out.contains(TOKEN) && !out.contains("s3cret"), "{command}: {out}");
    }
}

/// Each of these characters is longer in JSON, and some services limit the size of that: ntfy to 8 KB.
#[tokio::test]
async fn a_text_of_special_characters_is_not_refused() {
    let (relay, servers, recipients) = a_channel_of_each_service().await;
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut device = hello(&relay).await;
    let quotes = "\\\"".repeat(120);
    for (number, line) in ["\"\\".repeat(40), "\x1b[1m\x07\x08".repeat(10), "\u{1f525}".repeat(20)].iter().enumerate() {
        let text = format!("Subject: {quotes}{quotes}\r\n\r\n{}", format!("{line}\r\n").repeat(600));
        assert_eq!(device.send("plc@example.com", &recipients, &text).await.code, 250);
        removed(&relay, number + 1).await;
        let delivered = relay.log().into_iter().filter(|line| field(line, "event") == Some("delivered")).count();
        assert_eq!(delivered, (number + 1) * SERVICES.len(), "{}", relay.log().join("\n"));
        for (service, server) in SERVICES.iter().zip(&servers) {
            let text = (service.text)(&server.wait(number + 1).await[number]);
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{}: {text:?}", service.id);
        }
    }
}

#[tokio::test]
async fn a_refused_token_pauses_the_channel_until_it_is_right() {
    let server = PushServer::start(anything).await;
    server.script([Says::Status(401, "", r#"{"error":"unknown token s3cret-t0ken"}"#)]);
    let mut relay = relay_to(&server).start().await;
    send(&relay, &[PHONE], "one").await;
    let reason = paused(&relay).await;
    assert!(
        reason.contains("refused the token: HTTP 401: unknown token ********; check the token of channel 'phone'"),
        "{reason}"
    );
    send(&relay, &[PHONE], "two").await;
    let status = json(&relay, "status").await;
    assert!(status["accounts"][0]["paused"]["remedy"].as_str().unwrap().contains("check the token"), "{status}");
    assert_eq!(
        (&status["accounts"][0]["service"], &status["accounts"][0]["secret"]),
        (&"custom".into(), &"set".into())
    );
    assert_eq!(queue(&relay).await.len(), 2);
    relay.configure("channel", "phone", |section| section.option("token", "n3w-t0ken"));
    relay.sighup();
    removed(&relay, 2).await;
    let asked = server.asked();
    let tokens: Vec<&str> = asked.iter().map(|asked| asked.field("authorization")).collect();
    assert_eq!(tokens, ["Bearer s3cret-t0ken", "Bearer n3w-t0ken", "Bearer n3w-t0ken"]);
}

#[tokio::test]
async fn a_token_may_be_stored_later() {
    let server = PushServer::start(anything).await;
    let secrets = tempfile::tempdir().unwrap();
    support::certs::open_to_all(secrets.path());
    let channel = phone(&server).option("default", "1").option("token", "");
    let relay = Relay::builder().durability("always").relay_option("secrets", secrets.path().join("s").display());
    let relay = relay.section(channel).start().await;
    send(&relay, &[PHONE], "one").await;
    assert!(paused(&relay).await.contains("channel 'phone' has no token; enter it: smtprelay password phone"));
    let checked = run(&relay, "check").await;
    assert!(
        checked.out.contains("channel 'phone' has no token") || checked.err.contains("has no token"),
        "{checked:?}"
    );
    let entered = Ran::of(relay.command_with_input(&["password", "phone"], b"st0red\n").await);
    assert_eq!(entered.code, 0, "{entered:?}");
    removed(&relay, 1).await;
    assert_eq!(server.asked()[0].field("authorization"), "Bearer st0red");
    assert!(!said(&relay, "show").await.contains("st0red"));
}

#[tokio::test]
async fn what_passes_is_waited_for_and_nothing_is_lost() {
    let server = PushServer::start(anything).await;
    let relay = relay_to(&server).start().await;
    for (number, says) in [
        Says::Status(429, "Retry-After: 1\r\n", ""),
        Says::Status(429, "", r#"{"ok":false,"parameters":{"retry_after":1}}"#),
        Says::Status(500, "", "oops"),
        Says::Status(503, "Retry-After: 1\r\n", ""),
        Says::Refuse,
        // It may have arrived: it is sent again, as a mail is.
        Says::Close,
        Says::Hang,
    ]
    .into_iter()
    .enumerate()
    {
        let title = format!("message {number}");
        server.script([says]);
        send(&relay, &[PHONE], &title).await;
        removed(&relay, number + 1).await;
        assert_eq!(titles(&server).last(), Some(&title));
    }
    let reasons = relay.log().join("\n");
    for reason in ["is limiting the rate of this channel: HTTP 429", "HTTP 500: oops", "did not answer within 5 s"] {
        assert!(reasons.contains(reason), "{reason}: {reasons}");
    }
    // A server that is down.
    server.stop().await;
    let mark = relay.mark();
    send(&relay, &[PHONE], "down").await;
    relay.wait_log_from(mark, |line| field(line, "event") == Some("paused"), SOON).await;
    server.resume();
    said(&relay, "wake test").await;
    removed(&relay, 8).await;
    assert_eq!(titles(&server).last().map(String::as_str), Some("down"));
}

/// A proxy in front of a service that is restarted asks for an hour, as it would of a browser: an alarm does not wait so long.
#[tokio::test]
async fn a_service_that_is_down_is_tried_again_soon_whatever_it_asks_for() {
    let server = PushServer::start(anything).await;
    let relay = relay_to(&server).start().await;
    server.script([Says::Status(503, "Retry-After: 3600\r\n", "")]);
    send(&relay, &[PHONE], "alarm").await;
    let paused = relay.wait_log(|line| field(line, "event") == Some("paused"), SOON).await;
    assert_eq!(field(&paused, "next"), Some("20s"), "{paused}");
}

/// As Synapse does: a few requests, then none for the time that it says. No message is the cause, so each refusal pauses
/// the channel, and none is followed by the next message at once.
#[tokio::test]
async fn each_refusal_by_a_limited_rate_is_followed_by_a_pause() {
    let server = PushServer::start(anything).await;
    let relay = relay_to(&server).start().await;
    let limit = || Says::Status(429, "Retry-After: 1\r\n", r#"{"errcode":"M_LIMIT_EXCEEDED"}"#);
    let passed = || Says::Status(200, "", "");
    let gate = Gate::closed();
    server.script([Says::Hold(gate.clone()), limit(), passed(), limit(), passed(), limit(), limit()]);
    for number in 0..5 {
        send(&relay, &[PHONE], &format!("message {number}")).await;
    }
    gate.open();
    removed(&relay, 5).await;
    assert_eq!(server.asked().len(), 5 + 4);
    let log = relay.log().join("\n");
    assert!(!log.contains("event=deferred"), "{log}");
}

#[tokio::test]
async fn a_refused_message_is_reported_by_mail() {
    let server = PushServer::start(anything).await;
    let provider = Provider::builder().start().await;
    let relay = Relay::builder()
        .durability("always")
        .relay_option("admin", "admin@example.com")
        .section(Section::account("mail", &provider))
        .section(phone(&server))
        .section(Section::new("route", "all").list("account", "phone"));
    let relay = relay.start().await;
    server.script([Says::Status(400, "", r#"{"error":"topic is invalid"}"#)]);
    send(&relay, &[PHONE], "alarm").await;
    removed(&relay, 2).await;
    let notices = provider.messages();
    assert_eq!(notices.len(), 1);
    let text = String::from_utf8_lossy(&notices[0].data).replace("=\r\n", "");
    assert!(text.contains("topic is invalid"), "{text}");
    assert_eq!(server.asked().len(), 1, "the notification does not take the channel");
}

#[tokio::test]
async fn without_an_account_for_mail_a_failure_is_only_logged() {
    let server = PushServer::start(anything).await;
    let relay = relay_to(&server).relay_option("admin", "admin@example.com").start().await;
    server.script([Says::Status(422, "", "")]);
    send(&relay, &[PHONE], "alarm").await;
    let line = relay.wait_log(|line| field(line, "event") == Some("unreported"), SOON).await;
    assert!(line.contains("only channels are set up"), "{line}");
    removed(&relay, 1).await;
    assert_eq!((server.asked().len(), queue(&relay).await.len()), (1, 0));
}

#[tokio::test]
async fn a_channel_steps_in_for_an_account_and_beside_it() {
    let (server, provider) = (PushServer::start(anything).await, Provider::builder().start().await);
    let relay = Relay::builder()
        .durability("always")
        .section(Section::account("mail", &provider).option("from_policy", "keep"))
        .section(phone(&server))
        .section(Section::new("alias", "alarms").list("name", "alarms").list("to", "ops@example.com").list("to", PHONE))
        .section(Section::new("route", "push").list("account", "phone").list("recipient", PHONE))
        .section(
            Section::new("route", "urgent")
                .list("account", "mail")
                .list("account", "phone")
                .list("recipient", "duty@*"),
        );
    let relay = relay.start().await;
    // Beside: one message, by mail and to the phone.
    send(&relay, &["alarms"], "both").await;
    removed(&relay, 1).await;
    assert_eq!((titles(&server), provider.messages().len()), (vec!["both".to_string()], 1));
    assert_eq!(provider.messages()[0].recipients, ["ops@example.com"]);
    // Instead, while the provider is down.
    provider.stop().await;
    send(&relay, &["duty@example.com"], "provider down").await;
    removed(&relay, 2).await;
    assert_eq!(titles(&server), ["both", "provider down"]);
}

#[tokio::test]
async fn a_certificate_is_verified_and_redirects_are_not_followed() {
    let (server, other) = (PushServer::start(anything).await, PushServer::start(anything).await);
    let mut relay = relay_to(&server);
    relay = relay.section(phone(&other).named("moved"));
    relay = relay.section(Section::new("route", "to_moved").list("account", "moved").list("recipient", "moved@*"));
    let mut relay = relay.start().await;
    relay.configure("channel", "phone", |section| section.option("ca_file", server.other_ca_file()));
    relay.sighup();
    relay.wait_log(|line| field(line, "event") == Some("reloaded"), SOON).await;
    send(&relay, &[PHONE], "secret alarm").await;
    assert!(paused(&relay).await.contains("signed by an unknown authority"));
    assert_eq!(server.asked().len(), 0, "nothing was sent");
    other.script([Says::Status(302, "Location: https://127.0.0.1:1/\r\n", "")]);
    let mark = relay.mark();
    send(&relay, &["moved@channel.invalid"], "moved").await;
    let line = relay.wait_log_from(mark, |line| field(line, "account") == Some("moved"), SOON).await;
    assert!(line.contains("a redirect, which is not followed: HTTP 302"), "{line}");
}

#[tokio::test]
async fn a_test_message_shows_each_step() {
    let server = PushServer::start(anything).await;
    let relay = relay_to(&server).start().await;
    let ran = run(&relay, "test phone ops@example.com").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("accepted the message: HTTP 200"), "{ran:?}");
    assert!(titles(&server)[0].starts_with("smtprelay test: account phone"), "{:?}", titles(&server));
    server.script([Says::Status(403, "", r#"{"error":"forbidden for s3cret-t0ken"}"#)]);
    let ran = run(&relay, "test phone ops@example.com --verbose").await;
    assert!(
        ran.code != 0 && ran.out.contains("does not permit this channel to send: HTTP 403: forbidden for ********"),
        "{ran:?}"
    );
    assert!(!ran.out.contains("s3cret-t0ken"), "{ran:?}");
    server.script([Says::Close]);
    let ran = run(&relay, "test phone ops@example.com").await;
    assert!(ran.code != 0 && ran.out.contains("without a complete reply"), "{ran:?}");
    assert!(ran.out.contains("- login: skipped, because there was no answer"), "{ran:?}");
    let job: Value = serde_json::from_str(&run(&relay, "test phone ops@example.com --json").await.out).unwrap();
    assert_eq!((&job["state"], &job["steps"][6]["state"]), (&"done".into(), &"ok".into()), "{job}");
}

#[tokio::test]
async fn killed_in_the_middle_nothing_is_lost() {
    let server = PushServer::start(anything).await;
    let mut relay = relay_to(&server).start().await;
    let mut promised = Vec::new();
    const ROUNDS: usize = 6;
    for round in 0..ROUNDS {
        // The service has the request, and its answer is on its way or not.
        let gate = Gate::closed();
        let before = server.asked().len();
        server.script([Says::Hold(gate.clone())]);
        for number in 0..5 {
            let title = format!("{round}-{number}");
            send(&relay, &[PHONE], &title).await;
            promised.push(title);
        }
        if round % 2 == 0 {
            server.wait(before + 1).await;
        } else {
            gate.open();
            server.wait(before + 3).await;
        }
        relay.kill9();
        gate.open();
        relay.restart().await;
    }
    queue_until(&relay, |messages| messages.is_empty()).await;
    let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
    for title in titles(&server) {
        *arrived.entry(title).or_default() += 1;
    }
    let lost: Vec<_> = promised.iter().filter(|title| !arrived.contains_key(*title)).collect();
    let twice: usize = arrived.values().map(|count| count - 1).sum();
    println!("{} promised, {} lost, {twice} came once more", promised.len(), lost.len());
    // One request is on its way at a time.
    assert!(lost.is_empty() && twice <= ROUNDS, "lost: {lost:?}, {twice} twice");
}

#[tokio::test]
async fn a_digest_leaves_through_a_channel() {
    let server = PushServer::start(anything).await;
    let camera = Section::new("device", "camera")
        .list("ip", "127.0.0.1")
        .option("rate", "1/h")
        .option("digest_every", "10s")
        .list("account", "phone");
    let relay = relay_to(&server).section(camera).start().await;
    for number in 0..4 {
        send(&relay, &[PHONE], &format!("motion {number}")).await;
    }
    let asked = server.wait(2).await;
    assert_eq!(asked[0].json()["title"], "motion 0");
    let text = asked[1].json()["text"].as_str().unwrap_or_default().to_owned();
    assert!(["motion 1", "motion 2", "motion 3"].iter().all(|title| text.contains(title)), "{text}");
}

/// The sections that LuCI's wizard writes (tests/luci/channel.test.mjs compares them with the same file), with the steps
/// that it takes: settings, token, test message.
#[tokio::test]
async fn what_the_page_writes_reaches_the_phone_and_the_mailbox() {
    let service = SERVICES.iter().find(|service| service.id == "ntfy").expect("ntfy");
    let (server, provider) = (PushServer::start(service.usual).await, Provider::builder().start().await);
    let secrets = tempfile::tempdir().unwrap();
    support::certs::open_to_all(secrets.path());
    let mut relay = Relay::builder()
        .durability("always")
        .relay_option("secrets", secrets.path().join("s").display())
        .section(Section::account("mail", &provider).option("from_policy", "keep"))
        .start()
        .await;
    let written: Value = serde_json::from_str(include_str!("data/luci/channel.json")).unwrap();
    for (number, section) in written.as_array().unwrap().iter().enumerate() {
        let kind = section[".type"].as_str().unwrap();
        let name = section[".name"].as_str().map_or(format!("cfg{number}"), String::from);
        relay.configure(kind, &name, |mut new| {
            for (option, value) in section.as_object().unwrap().iter().filter(|(option, _)| !option.starts_with('.')) {
                new = match value {
                    Value::String(value) => new.option(option, value),
                    list => {
                        list.as_array().unwrap().iter().fold(new, |new, one| new.list(option, one.as_str().unwrap()))
                    }
                };
            }
            // Not the real service.
            if kind == "channel" { new.option("url", server.url()).option("ca_file", server.ca_file()) } else { new }
        });
    }
    let mut client = smtprelay::control::socket::ControlClient::connect(&relay.spool()).unwrap().expect("a gateway");
    let mut call = |method: &str, params: Value| client.call(method, params).unwrap();
    assert_eq!(run(&relay, "reload").await.code, 0);
    call("set_password", serde_json::json!({ "account": "ntfy", "password": TOKEN }));
    let job = call("test", serde_json::json!({ "account": "ntfy", "to": "ntfy@channel.invalid" }));
    server.wait(1).await;
    loop {
        let job = call("job", serde_json::json!({ "id": job["job"] }));
        assert_ne!(job["state"], "failed", "{job}");
        if job["state"] == "done" {
            break;
        }
    }
    let ntfy = json(&relay, "status").await["accounts"][1].clone();
    assert_eq!((&ntfy["service"], &ntfy["secret"], &ntfy["auth"]), (&"ntfy".into(), &"set".into(), &"token".into()));
    send(&relay, &["alarms@example.com"], "both").await;
    removed(&relay, 1).await;
    assert_eq!(titles(&server)[1..], ["both"]);
    assert_eq!(provider.messages()[0].recipients, ["alarms@example.com"]);
    let file = std::fs::read_to_string(relay.config_path()).unwrap();
    assert!(!file.contains(TOKEN) && !relay.log().join("\n").contains(TOKEN));
}

/// A message from a camera with this picture, lines of its base64 ended as usual.
fn snapshot(subject: &str, content: &[u8]) -> String {
    let code = smtprelay::message::base64(content);
    let lines: Vec<&str> = code.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    with_code(subject, &lines.join("\r\n"))
}

/// The same with this base64, which may be wrong. The picture is nested, and a logo and a text precede it.
fn with_code(subject: &str, code: &str) -> String {
    format!(
        "From: cam@example.com\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"out\"\r\n\r\n--out\r\n\
         Content-Type: multipart/related; boundary=in\r\n\r\n--in\r\n\
         Content-Type: text/html\r\n\r\n<p>Motion at gate</p>\r\n--in\r\n\
         Content-Type: image/gif\r\nContent-ID: <logo>\r\nContent-Transfer-Encoding: base64\r\n\r\nR0lGODlh\r\n\
         --in--\r\n--out\r\nContent-Type: application/octet-stream; name=\"SNAP 1.JPG\"\r\n\
         Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n{code}\r\n--out--\r\n"
    )
}

/// Bytes that look like a picture to nobody, all different.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

fn documented(id: &str) -> &'static Documented {
    SERVICES.iter().find(|service| service.id == id).expect("a service")
}

/// All mail takes a channel of the service `id`.
async fn camera_to(id: &str, options: &[(&str, &str)]) -> (Relay, PushServer) {
    let server = PushServer::start(documented(id).usual).await;
    let channel = section(documented(id), &server).option("default", "1").option("timeout", "5s");
    let channel = options.iter().fold(channel, |channel, (name, value)| channel.option(name, value));
    let relay = Relay::builder().durability("always").relay_option("retry_min", "1s").section(channel);
    (relay.relay_option("spool_limit", "64M").start().await, server)
}

async fn shoot(relay: &Relay, text: &str) {
    assert_eq!(hello(relay).await.send("cam@example.com", &[PHONE], text).await.code, 250);
}

async fn delivered(relay: &Relay, count: usize) -> String {
    removed(relay, count).await;
    let line = relay.log().into_iter().rfind(|line| field(line, "event") == Some("delivered")).expect("a delivery");
    field(&line, "reply").unwrap_or_default().to_owned()
}

#[tokio::test]
async fn each_service_gets_the_picture_as_its_documentation_requires() {
    let (relay, servers, recipients) = a_channel_of_each_service().await;
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let content = noise(300_001);
    let message = snapshot("=?utf-8?q?T=C3=BCr_=22A=26B=22_{token}?=", &content);
    assert_eq!(hello(&relay).await.send("cam@example.com", &recipients, &message).await.code, 250);
    removed(&relay, 1).await;
    let mut with = Vec::new();
    for (service, server) in SERVICES.iter().zip(&servers) {
        let asked = server.asked();
        assert_eq!(asked.len(), 1, "{}: {asked:?}", service.id);
        let expected = "Tür \"A&B\" {token}\nMotion at gate";
        match service.caption {
            Some(caption) => {
                assert_eq!(caption(&asked[0]), expected, "{}", service.id);
                assert!(picture(&asked[0]) == Some(content.clone()), "{}: {:?}", service.id, asked[0]);
                with.push(service.id);
            }
            None => assert_eq!((service.text)(&asked[0]), expected, "{}", service.id),
        }
    }
    assert_eq!(with, ["ntfy", "telegram", "pushover", "discord"]);
    let log = relay.log().join("\n");
    assert!(!log.contains(TOKEN) && !log.contains("s3cret") && !log.contains("picture not sent"), "{log}");
}

#[tokio::test]
async fn a_picture_that_cannot_be_sent_does_not_hold_up_its_message() {
    let telegram = documented("telegram");
    let (relay, server) = camera_to("telegram", &[]).await;
    let small = snapshot("alarm", &noise(5000));
    let large = snapshot("alarm", &noise(6_000_000));
    let mut requests = 0;
    for (number, (text, says, why)) in [
        (&small, Some(Says::Status(400, "", r#"{"description":"Bad Request: IMAGE_PROCESS_FAILED"}"#)), "HTTP 400"),
        (&small, Some(Says::Status(415, "", "")), "HTTP 415"),
        // Before it has read the picture.
        (&large, Some(Says::Early(413)), "HTTP 413"),
        (&large, Some(Says::Cut), "the connection was lost"),
        (&with_code("alarm", "AQID?AQI"), None, "its base64 is not valid"),
        (&snapshot("alarm", &noise(10_000_001)), None, "11 MB"),
    ]
    .into_iter()
    .enumerate()
    {
        requests += 1 + usize::from(says.is_some());
        server.script(says);
        shoot(&relay, text).await;
        let reply = delivered(&relay, number + 1).await;
        assert_eq!(reply, format!("HTTP 200; picture not sent: {why}"));
        let asked = server.asked();
        assert_eq!(asked.len(), requests, "{why}: {asked:?}");
        assert_eq!((telegram.text)(&asked[requests - 1]), format!("alarm\nMotion at gate\n[picture not sent: {why}]"));
    }
    let log = relay.log().join("\n");
    assert!(!log.contains("event=paused"), "{log}");
    // What is not about the picture: the message is sent again, with it.
    for (number, says) in [
        Says::Status(503, "", ""),
        Says::Status(429, "Retry-After: 1\r\n", ""),
        // It may have arrived.
        Says::Close,
        Says::Hang,
    ]
    .into_iter()
    .enumerate()
    {
        server.script([says]);
        shoot(&relay, &small).await;
        assert_eq!(delivered(&relay, number + 7).await, "HTTP 200");
        let asked = server.asked();
        requests += 2;
        assert_eq!(asked.len(), requests, "{asked:?}");
        assert!(asked[requests - 2..].iter().all(|asked| picture(asked).is_some()), "{asked:?}");
    }
}

#[tokio::test]
async fn a_picture_is_not_sent_where_the_settings_say_so() {
    let (relay, server) = camera_to("telegram", &[("picture", "0")]).await;
    shoot(&relay, &snapshot("alarm", &noise(5000))).await;
    assert_eq!(delivered(&relay, 1).await, "HTTP 200");
    assert_eq!((documented("telegram").text)(&server.asked()[0]), "alarm\nMotion at gate");
    assert!(said(&relay, "show").await.contains("option picture '0'"));
}

#[tokio::test]
async fn a_slow_line_takes_as_long_as_it_needs_for_a_picture() {
    let (relay, server) = camera_to("discord", &[]).await;
    // Twice as long as the timeout, and more than the kernel buffers.
    server.script([Says::Slow(500_000)]);
    let content = noise(10_000_000);
    shoot(&relay, &snapshot("alarm", &content)).await;
    assert_eq!(delivered(&relay, 1).await, "HTTP 204");
    let asked = server.asked();
    assert!(asked.len() == 1 && picture(&asked[0]) == Some(content), "{asked:?}");
}

#[tokio::test]
async fn memory_does_not_grow_with_a_picture() {
    let (relay, server) = camera_to("ntfy", &[]).await;
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    shoot(&relay, &snapshot("small", &noise(50_000))).await;
    delivered(&relay, 1).await;
    let before = peak();
    let content = noise(15_000_000);
    let content_size = content.len();
    shoot(&relay, &snapshot("large", &content)).await;
    delivered(&relay, 2).await;
    let asked = server.asked();
    assert!(picture(&asked[1]) == Some(content), "{asked:?}");
    let grown = peak().saturating_sub(before);
    println!("peak memory before: {before} kB; a picture of {content_size} bytes added {grown} kB");
    if std::env::var_os("SMTPRELAY_RUNNER").is_none() {
        assert!(grown < 4096, "a picture of 15 MB took {grown} kB of memory");
    }
}

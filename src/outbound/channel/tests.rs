// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::config::{load, uci};
use crate::message::{BodyForm, Envelope};
use crate::queue::{Marks, Meta};

fn account(options: &str) -> Account {
    let text = format!("config channel 'phone'\n option service '{options}'\n");
    load::settings(&uci::parse(text.as_bytes()).unwrap()).0.accounts.remove(0)
}

fn stored(header: &str, body: &str) -> Stored {
    let envelope = Envelope { from: "plc@example.com".into(), to: vec!["p@channel.invalid".into()], smtputf8: false };
    let form = BodyForm { eight_bit: false, encode: Encode::Verbatim };
    let (client, marks) = ("10.0.0.1".to_string(), Marks::default());
    let meta = Meta { envelope, form, arrived: 1, client, notice: false, undated: None, marks };
    Stored::in_memory(header.into(), body.into(), meta)
}

async fn request(account: &Account, header: &str, body: &str) -> Request {
    let mut stored = stored(header, body);
    let beginning = beginning(&mut stored).await.unwrap();
    let about = About { id: "0123456789", device: "Pump <1>", arrived: 1_795_395_723 };
    Request::new(account, account.channel.as_deref().unwrap(), &stored, &about, beginning)
}

#[tokio::test]
async fn a_message_becomes_a_request() {
    let ntfy = account("ntfy'\n option to 'alarms'\n option token 'tk_1");
    let header = "From: =?utf-8?q?T=C3=BCr?= <plc@example.com>\r\nSubject: =?utf-8?b?U3TDtnJ1bmc=?=\r\n \"1\"\r\nContent-Type: text/html\r\n";
    let made = request(&ntfy, header, "<p>a &amp; b<br>c</p>").await;
    assert_eq!(*made.address, "https://ntfy.sh/");
    assert_eq!(*made.fields, "Authorization: Bearer tk_1\r\nContent-Type: application/json\r\n");
    let body: Value = serde_json::from_str(&made.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "topic": "alarms", "title": "Störung \"1\"", "message": "a & b\nc", "priority": 3 })
    );
    // Without a token, and without subject and text.
    let made = request(&account("ntfy'\n option to 'alarms"), "", " \r\n").await;
    assert_eq!(*made.fields, "Content-Type: application/json\r\n");
    assert!(made.body.contains("(no subject)") && made.body.contains("(no text)"), "{}", *made.body);
    let slack = account("slack'\n option token 'https://hooks.example/T/x");
    let made = request(&slack, "Subject: a<b\r\n", "c & d").await;
    assert_eq!(*made.body, r#"{"mrkdwn":false,"text":"a&lt;b\nc &amp; d"}"#);
    assert_eq!(*made.address, "https://hooks.example/T/x");
    let custom = account(
        "custom'\n option url 'https://x/{device}'\n option method 'GET'\n list header 'X-From: {from}'\n list header 'X-Time: {time}",
    );
    let made = request(&custom, header, "x").await;
    assert_eq!(*made.address, "https://x/Pump%20%3C1%3E");
    assert_eq!(*made.fields, "X-From: Tür <plc@example.com>\r\nX-Time: Mon, 23 Nov 2026 01:02:03 +0000\r\n");
}

#[tokio::test]
async fn however_long_a_message_is_the_request_is_short() {
    let pushover = account("pushover'\n option to 'u'\n option token 't");
    let made = request(&pushover, &format!("Subject: {}\r\n", "s ".repeat(400)), &"line\r\n".repeat(400_000)).await;
    let form: Vec<(String, String)> = form_urlencoded::parse(made.body.as_bytes()).into_owned().collect();
    let value = |name: &str| form.iter().find(|(known, _)| known == name).unwrap().1.clone();
    assert!(value("message").ends_with("\n[shortened]") && value("message").chars().count() <= 1024);
    assert!(value("title").ends_with('…') && value("title").chars().count() == 250);
    assert!(made.body.len() < 8 << 10);
}

#[tokio::test]
async fn what_answers_mean() {
    let phone = account("telegram'\n option to '1'\n option token '123:secret");
    let made = request(&phone, "", "x").await;
    let answer = |status: u16, body: &str, retry: Option<u64>| Answer {
        status,
        body: Zeroizing::new(body.into()),
        retry_after: retry.map(Duration::from_secs),
    };
    let judged = |status, body: &str, retry| {
        let judged = judge(&answer(status, body, retry), &phone, phone.channel.as_deref().unwrap(), &made);
        match judged {
            Judged::Message(verdict) => verdict.text(),
            Judged::Account(trouble) => format!("{:?} {:?} {}", trouble.kind, trouble.after, trouble.why),
        }
    };
    for (status, body, retry, expected) in [
        (200, "{\"ok\":true}", None, "HTTP 200"),
        (204, "", None, "HTTP 204"),
        (
            301,
            "",
            None,
            "Setup None api.telegram.org answers with a redirect, which is not followed: HTTP 301; check option url",
        ),
        (
            400,
            r#"{"ok":false,"description":"Bad Request: chat not found"}"#,
            None,
            "api.telegram.org refused it: HTTP 400: Bad Request: chat not found; check the settings of channel 'phone'",
        ),
        (
            401,
            r#"{"description":"no 123:secret"}"#,
            None,
            "Login None api.telegram.org refused the token: HTTP 401: no ********; check the token of channel 'phone': the token is the one that @BotFather shows, and the chat must have written to the bot",
        ),
        (
            404,
            "/bot123:secret/sendMessage?",
            None,
            "Login None api.telegram.org does not know the address of the channel: HTTP 404: /bot********/sendMessage?; check the settings of channel 'phone': the token is the one that @BotFather shows, and the chat must have written to the bot",
        ),
        (
            413,
            "too\r\nlarge",
            None,
            "api.telegram.org refused it: HTTP 413: too  large; check the settings of channel 'phone'",
        ),
        (
            429,
            r#"{"parameters":{"retry_after":7}}"#,
            None,
            "Quota Some(7s) api.telegram.org is limiting the rate of this channel: HTTP 429",
        ),
        (
            429,
            r#"{"retry_after":0.3}"#,
            None,
            "Quota Some(1s) api.telegram.org is limiting the rate of this channel: HTTP 429",
        ),
        (
            429,
            r#"{"error":"slow","retry_after_ms":2500}"#,
            None,
            "Quota Some(3s) api.telegram.org is limiting the rate of this channel: HTTP 429: slow",
        ),
        (
            429,
            r#"{"retry_after":1e300}"#,
            None,
            "Quota None api.telegram.org is limiting the rate of this channel: HTTP 429",
        ),
        (
            429,
            "slow down",
            Some(40),
            "Quota Some(40s) api.telegram.org is limiting the rate of this channel: HTTP 429: slow down",
        ),
        (
            503,
            r#"{"errors":["maintenance"]}"#,
            Some(5),
            "Busy Some(5s) api.telegram.org accepts no messages now: HTTP 503: maintenance; this is temporary",
        ),
    ] {
        assert_eq!(judged(status, body, retry), expected, "{status} {body}");
    }
    let custom = account("custom'\n option url 'https://x/{device}'\n option method 'GET");
    let verdict = judge(&answer(404, "", None), &custom, custom.channel.as_deref().unwrap(), &made);
    assert!(matches!(verdict, Judged::Message(Verdict::Failed(_))), "the address is that of the message");
}

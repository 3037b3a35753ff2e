// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::config::{load, uci};
use crate::message::{BodyForm, Encode, Envelope};
use crate::queue::{Marks, Meta};
use zeroize::Zeroizing;

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
    dressed(account, header, body, |_| Dress::Text("")).await
}

async fn dressed(
    account: &Account,
    header: &str,
    body: &str,
    dress: for<'a> fn((&'a Channel, &'a Reading)) -> Dress<'a>,
) -> Request {
    let mut stored = stored(header, body);
    let channel = account.channel.as_deref().unwrap();
    let reading = Reading::of(&mut stored, true).await.unwrap();
    let about = About { id: "0123456789", device: "Pump <1>", arrived: 1_795_395_723 };
    let facts = Facts { account, channel, about: &about, reading: &reading };
    Request::new(&facts, &stored, dress((channel, &reading)))
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

fn with_picture<'a>((channel, reading): (&'a Channel, &'a Reading)) -> Dress<'a> {
    Dress::Picture(channel.with_picture.as_ref().unwrap(), reading.picture.as_ref().unwrap())
}

const SNAPSHOT: (&str, &str) = (
    "Subject: =?utf-8?q?T=C3=BCr?=\r\nContent-Type: multipart/mixed; boundary=b\r\n",
    "--b\r\n\r\nmotion\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAQIDBA==\r\n--b--\r\n",
);

#[tokio::test]
async fn a_picture_is_sent_as_the_service_takes_it() {
    let telegram = account("telegram'\n option to '1'\n option priority 'low'\n option token '2:x");
    let made = dressed(&telegram, SNAPSHOT.0, SNAPSHOT.1, with_picture).await;
    assert_eq!(*made.address, "https://api.telegram.org/bot2:x/sendPhoto");
    let boundary = made.fields.strip_prefix("Content-Type: multipart/form-data; boundary=").unwrap().trim();
    assert_eq!((boundary.len(), &made.tail), (20, &format!("\r\n--{boundary}--\r\n")));
    let body = made.body.replace(boundary, "B").replace("Content-Disposition: form-data; name=", "N ");
    assert_eq!(
        body,
        "--B\r\nN \"chat_id\"\r\n\r\n1\r\n--B\r\nN \"caption\"\r\n\r\nTür\n\nmotion\r\n--B\r\nN \"disable_notification\"\r\n\r\n\
         true\r\n--B\r\nN \"photo\"; filename=\"picture.png\"\r\nContent-Type: image/png\r\n\r\n"
    );
    let ntfy = account("ntfy'\n option to 'alarms'\n option token 'tk_1");
    let made = dressed(&ntfy, SNAPSHOT.0, SNAPSHOT.1, with_picture).await;
    assert_eq!((made.address.as_str(), made.body.as_str(), made.tail.as_str()), ("https://ntfy.sh/alarms", "", ""));
    assert_eq!(
        *made.fields,
        "Authorization: Bearer tk_1\r\nTitle: =?utf-8?b?VMO8cg==?=\r\nMessage: =?utf-8?b?bW90aW9u?=\r\n\
         Filename: picture.png\r\nX-Priority: 3\r\nContent-Type: image/png\r\n"
    );
    // ntfy begins a line where a header field has \n.
    let path = SNAPSHOT.1.replace("motion", "C:\\new\\names");
    let made = dressed(&ntfy, SNAPSHOT.0, &path, with_picture).await;
    let word = |text: &str| format!("Message: =?utf-8?b?{}?=\r\n", crate::message::base64(text.as_bytes()));
    assert!(made.fields.contains(&word("C:\\\u{200b}new\\\u{200b}names")), "{}", *made.fields);
    assert!(dressed(&telegram, SNAPSHOT.0, &path, with_picture).await.body.contains("C:\\new\\names"));
    // What is said instead of a picture fits, too.
    let pushover = account("pushover'\n option to 'u'\n option token 't");
    let made = dressed(&pushover, "", &"x".repeat(2000), |_| Dress::Text("picture not sent: 12 MB")).await;
    let form: Vec<(String, String)> = form_urlencoded::parse(made.body.as_bytes()).into_owned().collect();
    let message = &form.iter().find(|(name, _)| name == "message").unwrap().1;
    assert!(message.ends_with("x\n[shortened]\n[picture not sent: 12 MB]") && message.len() <= 1024, "{message}");
}

#[tokio::test]
async fn a_picture_that_is_another_one_now_is_not_completed() {
    let mut stored = stored(SNAPSHOT.0, SNAPSHOT.1);
    let picture = Reading::of(&mut stored, true).await.unwrap().picture.unwrap();
    let mut upload = Upload::new(&mut stored, &picture);
    assert_eq!(upload.size(), 4);
    assert_eq!((upload.next().await.unwrap(), upload.next().await.unwrap()), (vec![1, 2, 3, 4], Vec::new()));
    for other in ["AQIDBAUG", "AQID", ""] {
        let mut changed = self::stored(SNAPSHOT.0, &SNAPSHOT.1.replace("AQIDBA==", other));
        let mut upload = Upload::new(&mut changed, &picture);
        assert!(upload.next().await.is_err() && upload.has_failed(), "{other}");
    }
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
            403,
            r#"{"description":"Forbidden: bot was blocked by the user."}"#,
            None,
            "Login None api.telegram.org does not permit this channel to send: HTTP 403: Forbidden: bot was blocked by the user; check the token and option to of channel 'phone': the token is the one that @BotFather shows, and the chat must have written to the bot",
        ),
        (
            404,
            "/bot123:secret/sendMessage?",
            None,
            "Login None api.telegram.org does not know the address of the channel: HTTP 404: /bot********/sendMessage?; check the settings of channel 'phone': the token is the one that @BotFather shows, and the chat must have written to the bot",
        ),
        (
            405,
            "",
            None,
            "Login None api.telegram.org does not know the address of the channel: HTTP 405; check the settings of channel 'phone': the token is the one that @BotFather shows, and the chat must have written to the bot",
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
            "Rate Some(7s) api.telegram.org is limiting the rate of this channel: HTTP 429",
        ),
        (
            429,
            r#"{"retry_after":0.3}"#,
            None,
            "Rate Some(1s) api.telegram.org is limiting the rate of this channel: HTTP 429",
        ),
        (
            429,
            r#"{"error":"slow","retry_after_ms":2500}"#,
            None,
            "Rate Some(3s) api.telegram.org is limiting the rate of this channel: HTTP 429: slow",
        ),
        (
            429,
            r#"{"retry_after":1e300}"#,
            None,
            "Rate None api.telegram.org is limiting the rate of this channel: HTTP 429",
        ),
        (
            429,
            "slow down",
            Some(40),
            "Rate Some(40s) api.telegram.org is limiting the rate of this channel: HTTP 429: slow down",
        ),
        (
            502,
            "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>",
            None,
            "Busy None api.telegram.org accepts no messages now: HTTP 502: 502 Bad Gateway nginx; this is temporary",
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

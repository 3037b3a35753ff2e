// SPDX-License-Identifier: Apache-2.0
//! What push services document about requests, each with the page of `src/config/services.json`: a request that does
//! not fit gets the documented refusal.

use serde_json::{Value, json};

use super::push_server::{Asked, Part, Usual};

/// The secret that each service here expects.
pub const TOKEN: &str = "t0ken:with/odd+letters";

fn refused(status: u16, why: &str) -> (u16, String) {
    (status, json!({ "error": why, "description": why, "message": why }).to_string())
}

fn fits(body: &Value, known: &[&str]) -> Result<(), String> {
    let object = body.as_object().ok_or("not an object")?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("unknown field {key}")),
        None => Ok(()),
    }
}

fn text<'a>(body: &'a Value, name: &str, limit: usize) -> Result<&'a str, String> {
    let text = body[name].as_str().ok_or(format!("{name} is not a text"))?;
    match (text.is_empty(), text.encode_utf16().count() > limit) {
        (true, _) => Err(format!("{name} is empty")),
        (_, true) => Err(format!("{name} is too long")),
        _ => Ok(text),
    }
}

fn answer(checked: Result<(), String>, status: u16, body: &str) -> (u16, String) {
    match checked {
        Ok(()) => (status, body.into()),
        Err(why) => refused(400, &why),
    }
}

/// The fields of a form with parts, all of them known, and its only file, which is a picture of at most `limit` bytes.
fn with_file(parts: &[Part], known: &[&str], file: &str, limit: usize) -> Result<Value, String> {
    let mut fields = serde_json::Map::new();
    for part in parts {
        let is_file = part.name == file;
        if is_file != part.file.is_some() || is_file && !part.kind.starts_with("image/") {
            return Err(format!("{} is not as it should be", part.name));
        }
        if is_file && (part.content.0.is_empty() || part.content.0.len() > limit) {
            return Err("the picture has a wrong size".into());
        }
        let value = if is_file { "file" } else { part.text() };
        if !is_file && !known.contains(&part.name.as_str()) || fields.insert(part.name.clone(), value.into()).is_some()
        {
            return Err(format!("unknown field {}", part.name));
        }
    }
    fields.contains_key(file).then_some(Value::Object(fields)).ok_or("no picture".into())
}

/// A word of a header field (RFC 2047), as ntfy decodes it.
fn word(value: &str) -> String {
    let code = value.strip_prefix("=?utf-8?b?").and_then(|code| code.strip_suffix("?=")).expect("an encoded word");
    String::from_utf8(smtprelay::message::base64::strict(code.as_bytes()).expect("base64")).expect("UTF-8")
}

/// ntfy, "Attach local file": POST to the topic, the picture as the body, everything else in header fields.
fn ntfy_picture(asked: &Asked) -> (u16, String) {
    let (title, message) = (word(asked.field("title")), word(asked.field("message")));
    let check = || {
        if asked.bytes.0.is_empty() || asked.bytes.0.len() > 15 << 20 || title.is_empty() {
            return Err("attachment or title has a wrong size".into());
        }
        if message.is_empty() || message.len() > 4096 || !asked.field("filename").starts_with("picture.") {
            return Err("message or file name is wrong".into());
        }
        let priority = asked.field("x-priority").parse().unwrap_or(0);
        (1..=5).contains(&priority).then_some(()).ok_or("invalid priority".into())
    };
    answer(check(), 200, r#"{"id":"x","event":"message"}"#)
}

/// ntfy, "Publish as JSON" and "Access tokens": POST to the root, with the topic in the body. As ntfy 2.13.0 does, which
/// differs from its documentation: 4096 bytes are one too many, and become a file, which a server of your own does not
/// take without further settings. JSON of twice that size is too large.
fn ntfy(asked: &Asked) -> (u16, String) {
    if asked.target == "/plant-alarms_1" && asked.field("authorization") == format!("Bearer {TOKEN}") {
        return ntfy_picture(asked);
    }
    if (asked.method.as_str(), asked.target.as_str()) != ("POST", "/") {
        return refused(404, "page not found");
    }
    if asked.field("authorization") != format!("Bearer {TOKEN}") {
        return refused(401, "unauthorized");
    }
    if asked.body.len() >= 2 * 4096 {
        return refused(413, "JSON body too large");
    }
    let body = asked.json();
    let check = || {
        fits(&body, &["topic", "title", "message", "priority"])?;
        let topic = text(&body, "topic", 64)?;
        if !topic.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err("invalid topic".into());
        }
        text(&body, "title", 1000)?;
        if text(&body, "message", 4096)?.len() >= 4096 {
            return Err("invalid request: attachments not allowed".into());
        }
        (1..=5).contains(&body["priority"].as_u64().unwrap_or(0)).then_some(()).ok_or("invalid priority".into())
    };
    answer(check(), 200, r#"{"id":"x","event":"message"}"#)
}

/// Telegram, "Making requests", sendMessage and sendPhoto.
fn telegram(asked: &Asked) -> (u16, String) {
    if asked.method == "POST" && asked.target == "/bott0ken:with%2Fodd%2Bletters/sendPhoto" {
        let parts = asked.parts().expect("a form with parts");
        let check = || {
            let fields = with_file(&parts, &["chat_id", "caption", "disable_notification"], "photo", 10_000_000)?;
            text(&fields, "chat_id", 64)?;
            text(&fields, "caption", 1024).map(|_| ())
        };
        return answer(check(), 200, r#"{"ok":true,"result":{}}"#);
    }
    // A colon may stand in a path segment as it is (RFC 3986 section 3.3), which Telegram's own tokens have.
    if asked.method != "POST" || asked.target != "/bott0ken:with%2Fodd%2Bletters/sendMessage" {
        return (404, r#"{"ok":false,"error_code":404,"description":"Not Found"}"#.into());
    }
    let body = asked.json();
    let check = || {
        fits(&body, &["chat_id", "text", "disable_notification"])?;
        text(&body, "chat_id", 64)?;
        text(&body, "text", 4096).map(|_| ())
    };
    answer(check(), 200, r#"{"ok":true,"result":{}}"#)
}

/// Gotify, createMessage of its API: the token in X-Gotify-Key, a message that is not empty.
fn gotify(asked: &Asked) -> (u16, String) {
    if asked.method != "POST" || asked.target != "/sub/message" {
        return refused(404, "page not found");
    }
    if asked.field("x-gotify-key") != TOKEN {
        return refused(401, "you need to provide a valid access token");
    }
    let body = asked.json();
    let check = || {
        fits(&body, &["title", "message", "priority"])?;
        text(&body, "title", 1000)?;
        text(&body, "message", 100_000)?;
        body["priority"].is_i64().then_some(()).ok_or("priority is not a number".into())
    };
    answer(check(), 200, r#"{"id":1,"appid":1}"#)
}

/// Pushover, "Pushing messages": a form; 1024 and 250 characters; `retry` and `expire` with priority 2.
fn pushover(asked: &Asked) -> (u16, String) {
    if asked.method != "POST" || asked.target != "/1/messages.json" {
        return refused(404, "not found");
    }
    const FIELDS: [&str; 7] = ["token", "user", "title", "message", "priority", "retry", "expire"];
    let parts = asked.parts();
    let form = match &parts {
        Some(parts) => with_file(parts, &FIELDS, "attachment", 5_242_880).map(|fields| {
            let fields = fields.as_object().cloned().unwrap_or_default().into_iter();
            fields.map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned())).collect()
        }),
        None => Ok(asked.form()),
    };
    let form: std::collections::BTreeMap<String, String> = match form {
        Ok(form) => form,
        Err(why) => return refused(400, &why),
    };
    let value = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let check = || {
        if value("token") != TOKEN || value("user").is_empty() {
            return Err("application token is invalid".into());
        }
        if value("message").is_empty()
            || value("message").chars().count() > 1024
            || value("title").chars().count() > 250
        {
            return Err("message or title has a wrong length".into());
        }
        let urgent = value("priority") == "2";
        let number = |name: &str| value(name).parse::<u32>().unwrap_or(0);
        if urgent && (number("retry") < 30 || !(1..=10_800).contains(&number("expire"))) {
            return Err("expire and retry must be supplied with priority=2".into());
        }
        (-2..=2).contains(&value("priority").parse().unwrap_or(9)).then_some(()).ok_or("priority is invalid".into())
    };
    answer(check(), 200, r#"{"status":1,"request":"x"}"#)
}

/// Slack, incoming webhooks: `text`, with `&`, `<` and `>` as entities.
fn slack(asked: &Asked) -> (u16, String) {
    if asked.method != "POST" || asked.target != "/services/T0/B0/s3cret" {
        return (404, "no_service".into());
    }
    let body = asked.json();
    let check = || {
        fits(&body, &["text", "mrkdwn"])?;
        let text = text(&body, "text", 40_000)?;
        let bare = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
        (!bare.contains(['&', '<', '>'])).then_some(()).ok_or("invalid_payload".into())
    };
    answer(check(), 200, "ok")
}

/// Microsoft Teams, a workflow that posts what a webhook receives: a message with an adaptive card, 28 KB at most.
fn teams(asked: &Asked) -> (u16, String) {
    if asked.method != "POST" || asked.target != "/workflows/1/triggers/manual?sig=s3cret" || asked.body.len() > 28_000
    {
        return refused(400, "TriggerInputSchemaMismatch");
    }
    let body = asked.json();
    let card = &body["attachments"][0];
    let check = || {
        fits(&body, &["type", "attachments"])?;
        if body["type"] != "message" || card["contentType"] != "application/vnd.microsoft.card.adaptive" {
            return Err("not an adaptive card".into());
        }
        if card["content"]["type"] != "AdaptiveCard" || card["content"]["version"].as_str().is_none() {
            return Err("not an adaptive card".into());
        }
        for block in card["content"]["body"].as_array().ok_or("no body")? {
            if block["type"] != "TextBlock" {
                return Err("not a text".into());
            }
            text(block, "text", 28_000)?;
        }
        Ok(())
    };
    answer(check(), 202, "")
}

/// Discord, "Execute webhook": `content` of 2000 characters at most; 204 without `wait`.
fn discord(asked: &Asked) -> (u16, String) {
    if asked.method != "POST" || asked.target != "/api/webhooks/1/s3cret" {
        return (404, r#"{"message":"Unknown Webhook","code":10015}"#.into());
    }
    let parts = asked.parts();
    let body = match &parts {
        Some(parts) => match with_file(parts, &["payload_json"], "files[0]", 10 << 20) {
            Ok(fields) => serde_json::from_str(fields["payload_json"].as_str().unwrap_or_default()).unwrap_or_default(),
            Err(why) => return refused(400, &why),
        },
        None => asked.json(),
    };
    let check = || {
        fits(&body, &["content", "allowed_mentions", "flags"])?;
        if body["allowed_mentions"]["parse"] != json!([]) {
            return Err("everybody would be mentioned".into());
        }
        text(&body, "content", 2000).map(|_| ())
    };
    answer(check(), 204, "")
}

/// Matrix, client-server API, sending events: PUT with a transaction ID, the room ID encoded.
fn matrix(asked: &Asked) -> (u16, String) {
    let id = asked.target.strip_prefix("/_matrix/client/v3/rooms/!room:m.example/send/m.room.message/");
    let Some(id) = id.filter(|id| !id.is_empty() && !id.contains('/') && asked.method == "PUT") else {
        return (404, r#"{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}"#.into());
    };
    if asked.field("authorization") != format!("Bearer {TOKEN}") {
        return (401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"Unknown token"}"#.into());
    }
    let body = asked.json();
    let check = || {
        fits(&body, &["msgtype", "body"])?;
        if !["m.text", "m.notice"].contains(&body["msgtype"].as_str().unwrap_or_default()) {
            return Err("unknown msgtype".into());
        }
        text(&body, "body", 60_000).map(|_| ())
    };
    answer(check(), 200, &json!({ "event_id": format!("${id}") }).to_string())
}

/// Home Assistant, webhook trigger: POST with JSON; an unknown webhook gets 200 as well.
fn homeassistant(asked: &Asked) -> (u16, String) {
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/api/webhook/t0ken:with%2Fodd%2Bletters"));
    let body = asked.json();
    assert!(body.as_object().expect("an object").values().all(Value::is_string), "{body}");
    (200, String::new())
}

/// A service that takes whatever it gets.
pub fn anything(_: &Asked) -> (u16, String) {
    (200, String::new())
}

/// A service: its name, what it replies, the options of a channel (`{url}` is its address), and where its text is.
pub struct Documented {
    /// Its name in `option service`.
    pub id: &'static str,
    /// What it replies.
    pub usual: Usual,
    /// The options of a channel.
    pub options: &'static [(&'static str, &'static str)],
    /// The text of a request that it has accepted.
    pub text: fn(&Asked) -> String,
    /// The text of a request with a picture, if it takes one.
    pub caption: Option<fn(&Asked) -> String>,
}

/// The picture of a request, if it has one.
pub fn picture(asked: &Asked) -> Option<Vec<u8>> {
    if asked.field("content-type").starts_with("image/") {
        return Some(asked.bytes.0.clone());
    }
    asked.parts()?.into_iter().find(|part| part.file.is_some()).map(|part| part.content.0)
}

/// A field of a form with parts.
fn field(asked: &Asked, name: &str) -> String {
    let parts = asked.parts().expect("a form with parts");
    parts.iter().find(|part| part.name == name).expect("a field").text().to_owned()
}

/// All services, apart from `custom`.
pub const SERVICES: [Documented; 9] = [
    Documented {
        id: "ntfy",
        usual: ntfy,
        options: &[("url", "{url}"), ("to", "plant-alarms_1"), ("token", TOKEN), ("priority", "urgent")],
        text: |asked| part(asked, "/title") + "\n" + &part(asked, "/message"),
        caption: Some(|asked| word(asked.field("title")) + "\n" + &word(asked.field("message"))),
    },
    Documented {
        id: "telegram",
        usual: telegram,
        options: &[("url", "{url}"), ("to", "-1001"), ("token", TOKEN), ("priority", "low")],
        text: |asked| part(asked, "/text").replacen("\n\n", "\n", 1),
        caption: Some(|asked| field(asked, "caption").replacen("\n\n", "\n", 1)),
    },
    Documented {
        id: "gotify",
        usual: gotify,
        options: &[("url", "{url}/sub/"), ("token", TOKEN)],
        text: |asked| part(asked, "/title") + "\n" + &part(asked, "/message"),
        caption: None,
    },
    Documented {
        id: "pushover",
        usual: pushover,
        options: &[("url", "{url}"), ("to", "uKey"), ("token", TOKEN), ("priority", "urgent")],
        text: |asked| format!("{}\n{}", asked.form()["title"], asked.form()["message"]),
        caption: Some(|asked| field(asked, "title") + "\n" + &field(asked, "message")),
    },
    Documented {
        id: "slack",
        usual: slack,
        options: &[("token", "{url}/services/T0/B0/s3cret")],
        text: |asked| part(asked, "/text").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"),
        caption: None,
    },
    Documented {
        id: "teams",
        usual: teams,
        options: &[("token", "{url}/workflows/1/triggers/manual?sig=s3cret")],
        text: |asked| {
            let at = |n: usize| part(asked, &format!("/attachments/0/content/body/{n}/text"));
            at(0) + "\n" + &at(1)
        },
        caption: None,
    },
    Documented {
        id: "discord",
        usual: discord,
        options: &[("token", "{url}/api/webhooks/1/s3cret"), ("priority", "low")],
        text: |asked| part(asked, "/content"),
        caption: Some(|asked| {
            let body: Value = serde_json::from_str(&field(asked, "payload_json")).expect("JSON");
            body["content"].as_str().unwrap_or_default().to_owned()
        }),
    },
    Documented {
        id: "matrix",
        usual: matrix,
        options: &[("url", "{url}"), ("to", "!room:m.example"), ("token", TOKEN)],
        text: |asked| part(asked, "/body"),
        caption: None,
    },
    Documented {
        id: "homeassistant",
        usual: homeassistant,
        options: &[("url", "{url}"), ("token", TOKEN)],
        text: |asked| part(asked, "/subject") + "\n" + &part(asked, "/text"),
        caption: None,
    },
];

fn part(asked: &Asked, pointer: &str) -> String {
    asked.json().pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

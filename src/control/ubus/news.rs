// SPDX-License-Identifier: Apache-2.0
//! What is sent to clients on ubus: notifications of the object to its subscribers, and events to all listeners.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::object::PATH;
use crate::report::{Event, Field};
use crate::ubus::BROKER;
use crate::ubus::blobmsg;
use crate::ubus::connection::Link;
use crate::ubus::message::{self, Body, attribute, kind};

/// Maximum number of recipients of a message that are listed.
const RECIPIENTS: usize = 16;
/// Maximum size of a notification in bytes.
const LIMIT: usize = 32 << 10;

/// Sends the event, if it is of interest. What ubusd does not accept at once is dropped: mail comes first.
pub fn tell(link: &Link, event: &Event) {
    let Some((name, news)) = news(event) else { return };
    let event = json!({ "id": PATH, "data": news });
    let (Ok(data), Ok(event)) = (blobmsg::encode(&news), blobmsg::encode(&event)) else { return };
    if event.len() > LIMIT {
        return;
    }
    let object = link.object.load(Ordering::Relaxed);
    if object != 0 && link.watched.load(Ordering::Relaxed) {
        let body = Body::default().number(attribute::OBJID, object).text(attribute::METHOD, name);
        let body = body.nested(attribute::DATA, &data).flag(attribute::NO_REPLY);
        link.offer(kind::NOTIFY, object, &body.finish());
    }
    link.offer(kind::INVOKE, BROKER, &message::invoke(BROKER, "send", &event));
}

/// What only the log has of an event.
const LOG_ONLY: [&str; 3] = ["helo", "login", "repaired"];
/// What is published even if it is empty.
const ALWAYS: [&str; 2] = ["account", "client"];

/// The name of an event and the data to publish; `None` for internal events.
fn news(event: &Event) -> Option<(&'static str, Value)> {
    let fields = event.fields();
    let name = match fields.name {
        "accepted" => "queued",
        "delivered" => "sent",
        same @ ("deferred" | "failed" | "paused" | "resumed") => same,
        _ => return None,
    };
    let mut data = Map::new();
    for (key, field) in fields.all {
        if LOG_ONLY.contains(&key) || matches!(field, Field::Optional("")) && !ALWAYS.contains(&key) {
            continue;
        }
        let value = match field {
            Field::Addresses(to) => {
                data.insert("recipients".into(), to.len().into());
                to.iter().take(RECIPIENTS).map(String::as_str).collect()
            }
            Field::Number(number) | Field::Seconds(number) => number.into(),
            field => field.to_string().into(),
        };
        data.insert(if key == "text" { "reason" } else { key }.into(), value);
    }
    data.insert("event".into(), name.into());
    Some((name, Value::Object(data)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn paused() -> Event {
        Event::Paused { account: "gmail".into(), reason: "wrong password".into(), next: Duration::from_secs(60) }
    }

    #[test]
    fn news_name_their_event_and_the_rest_stays_in_the_house() {
        let (name, data) = news(&paused()).unwrap();
        assert_eq!(name, "paused");
        assert_eq!(data, json!({ "event": "paused", "account": "gmail", "reason": "wrong password", "next": 60 }));
        assert_eq!(news(&Event::Reloaded), None);
        assert_eq!(news(&Event::LoginFailed { client: "10.0.0.1".into(), name: "admin".into() }), None);
    }

    #[test]
    fn without_a_listener_only_the_event_goes_out_and_nothing_waits_for_ubusd() {
        let (link, mut out) = Link::new();
        link.object.store(77, Ordering::Relaxed);
        tell(&link, &paused());
        let message = out.try_recv().unwrap();
        assert_eq!(message.get(1), Some(&kind::INVOKE));
        assert!(out.try_recv().is_err());
        link.watched.store(true, Ordering::Relaxed);
        (0..100).for_each(|_| tell(&link, &paused()));
        let kinds: Vec<u8> = std::iter::from_fn(|| out.try_recv().ok()).map(|message| message[1]).collect();
        assert_eq!(kinds.len(), super::super::connection::OUTGOING, "the rest is dropped");
        assert!(kinds.chunks(2).all(|pair| pair == [kind::NOTIFY, kind::INVOKE]));
    }

    #[test]
    fn a_crowd_of_recipients_is_counted() {
        let to: Vec<String> = (0..100).map(|n| format!("{n}@example.com")).collect();
        let event = Event::Accepted {
            id: "ABC".into(),
            client: "10.0.0.1".into(),
            helo: "plc".into(),
            login: None,
            tls: None,
            from: "plc@example.com".into(),
            to,
            size: 7,
            repairs: Vec::new(),
        };
        let (_, data) = news(&event).unwrap();
        assert_eq!(data["to"].as_array().map(Vec::len), Some(RECIPIENTS));
        assert_eq!(data["recipients"], json!(100));
    }
}

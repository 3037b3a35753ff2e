// SPDX-License-Identifier: Apache-2.0
//! OpenWrt's message bus: the methods as the object `smtprelay`, notifications for subscribers, and the networks from
//! netifd.
//!
//! Mail never depends on any of this. Without ubusd nothing happens except a new connection attempt now and then; what
//! ubusd does not accept at once is dropped, unless it is the answer to a call.

use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::{Api, ArgumentType, METHODS, Method, REQUEST_LIMIT};
use crate::report::{Event, Field, observe};
use crate::system::json::{json, put};
use crate::system::{ordered, task};
use crate::ubus::blobmsg::{self, Writer};
use crate::ubus::connection::{self, Link, Message, RequestError};
use crate::ubus::message::{self, Body, MessageFields, MessageHead, attribute, kind, status};
use crate::ubus::{BROKER, connect, daemons};

/// Maximum number of concurrent calls.
const CALLS: usize = 16;
/// Maximum number of events that wait to be sent.
const EVENTS: usize = 64;
/// Timeout for ubusd's greeting and for requests that it handles itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two attempts to connect: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Serves the methods and sends notifications until the order to stop. `early` is a connection that root has opened
/// ([`crate::ubus::connect`]). Reconnects when ubusd has been gone.
pub async fn run(early: Option<StdStream>, api: Arc<Api>, mut stop: watch::Receiver<bool>) {
    let mut events = observe(EVENTS);
    let (mut stream, mut wait) = (early, RETRY.0);
    loop {
        if let Some(stream) = stream.take().or_else(connect) {
            let joined = tokio::select! {
                () = ordered(&mut stop) => return,
                joined = converse(stream, &api, &mut events) => joined,
            };
            crate::system::interfaces::outdated();
            if joined {
                wait = RETRY.0;
            }
        }
        // Old events are not sent.
        tokio::select! {
            () = ordered(&mut stop) => return,
            () = drain(&mut events) => {}
            () = task::pause(wait) => {}
        }
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Discards events. Never ends.
async fn drain(events: &mut mpsc::Receiver<Arc<Event>>) {
    while events.recv().await.is_some() {}
    std::future::pending().await
}

/// One connection to ubusd, until it is gone. True if ubusd has sent its greeting.
async fn converse(stream: StdStream, api: &Arc<Api>, events: &mut mpsc::Receiver<Arc<Event>>) -> bool {
    let Ok(stream) = UnixStream::from_std(stream) else { return false };
    let (mut incoming, to) = stream.into_split();
    // ubusd closes the connection at once if it does not know our user.
    match timeout(PATIENCE, connection::read(&mut incoming)).await {
        Ok(Ok(message)) if message.head.kind == kind::HELLO => {}
        _ => return false,
    }
    let (link, outgoing) = Link::new();
    let (link, heard) = (Arc::new(link), Notify::new());
    tokio::select! {
        () = listen(incoming, &link, &heard, api) => {}
        () = connection::write(to, outgoing) => {}
        () = publish(&link) => {}
        () = daemons::follow(&link, &heard) => {}
        () = tell(&link, events) => {}
    }
    true
}

/// Handles received messages, until the connection is gone.
async fn listen(mut from: OwnedReadHalf, link: &Arc<Link>, heard: &Notify, api: &Arc<Api>) {
    let places = Arc::new(Semaphore::new(CALLS));
    while let Ok(message) = connection::read(&mut from).await {
        match message.head.kind {
            kind::STATUS | kind::DATA => link.answered(&message),
            kind::INVOKE => called(message, link, heard, api, &places).await,
            kind::NOTIFY => {
                let fields = MessageFields::read(message.body.as_deref().unwrap_or_default()).unwrap_or_default();
                if let Some(active) = fields.active {
                    link.watched.store(active, Ordering::Relaxed);
                }
            }
            // An object that we were subscribed to is gone, or the message is something newer than this program.
            _ => heard.notify_one(),
        }
    }
}

/// A call of our object, or a notification for us.
async fn called(message: Message, link: &Arc<Link>, heard: &Notify, api: &Arc<Api>, places: &Arc<Semaphore>) {
    let head = message.head;
    let Some(body) = message.body else {
        // Too large to parse; only one object can have been called.
        let object = link.object.load(Ordering::Relaxed);
        link.reply(head, object, None, status::INVALID_ARGUMENT).await;
        return;
    };
    let Ok(fields) = MessageFields::read(&body) else { return };
    if fields.object.is_some_and(|object| object == link.ear.load(Ordering::Relaxed)) {
        heard.notify_one();
        if let Some(object) = fields.object.filter(|_| !fields.no_reply) {
            link.reply(head, object, None, status::OK).await;
        }
        return;
    }
    if let Some(call) = Call::new(head, &fields) {
        let place = Arc::clone(places).try_acquire_owned().ok();
        if place.is_some() {
            task::spawn(call.serve(Arc::clone(link), Arc::clone(api), place));
        } else {
            // Answered here, which also stops the flood: nothing is read meanwhile.
            call.serve(Arc::clone(link), Arc::clone(api), None).await;
        }
    }
}

/// Publishes the object, and retries until it is allowed.
async fn publish(link: &Link) {
    let (attributes, mut wait, mut said) = (published(), RETRY.0, false);
    loop {
        match link.add_object(&attributes, PATIENCE).await {
            Ok(object) => {
                link.object.store(object, Ordering::Relaxed);
                return std::future::pending().await;
            }
            // The object of a program that has just ended may still be there: only a lasting problem is worth a
            // message.
            Err(RequestError::Refused(status)) if !said && wait >= RETRY.1 => {
                said = true;
                let text = format!(
                    "ubusd does not accept the object smtprelay (status {status}): LuCI and ubus cannot reach this \
                     gateway. Check that /usr/share/acl.d/smtprelay.json exists and that ubusd has read it (killall -HUP ubusd)"
                );
                Event::Advice { text }.log();
            }
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Sends events as they happen.
async fn tell(link: &Link, events: &mut mpsc::Receiver<Arc<Event>>) {
    while let Some(event) = events.recv().await {
        publish_news(link, &event);
    }
    std::future::pending().await
}

/// The object's name.
const PATH: &str = "smtprelay";
/// Size in bytes at which the list in an answer is cut off: uhttpd turns it into JSON, which is larger.
const PAGE: usize = 48 << 10;
/// Maximum size of an answer in bytes.
const ANSWER_LIMIT: usize = 256 << 10;
/// Timeout for a call; by default the `ubus` command waits 30 s, LuCI 20.
const CALL_TIME: Duration = Duration::from_secs(60);

/// The attributes of the request that publishes the object.
fn published() -> Vec<u8> {
    let mut signature = Writer::default();
    for method in METHODS {
        let table = signature.open(blobmsg::kind::TABLE, method.name);
        for (name, argument) in method.arguments {
            signature.member(name, &wire(*argument).into());
        }
        signature.close(table);
    }
    // A table of our own: far below every limit.
    let signature = signature.finish().unwrap_or_default();
    Body::default().text(attribute::OBJPATH, PATH).nested(attribute::SIGNATURE, &signature).finish()
}

/// The type of an argument as ubus names it.
fn wire(argument: ArgumentType) -> u8 {
    match argument {
        ArgumentType::Text => blobmsg::kind::STRING,
        ArgumentType::Number => blobmsg::kind::INT32,
        ArgumentType::Flag => blobmsg::kind::INT8,
    }
}

/// A received call.
struct Call {
    /// The caller.
    head: MessageHead,
    /// The called object, which is ours.
    object: u32,
    /// The name of the method.
    method: String,
    /// The arguments as received; `None` if they are too large.
    data: Option<Vec<u8>>,
}

impl Call {
    /// A call from the attributes of its message; `None` if they are not those of a call.
    fn new(head: MessageHead, fields: &MessageFields<'_>) -> Option<Self> {
        let data = fields.data.unwrap_or_default();
        let data = (data.len() <= REQUEST_LIMIT).then(|| data.to_vec());
        Some(Self { head, object: fields.object?, method: fields.method?.to_string(), data })
    }

    /// Executes the call and answers. `place` is released when the answer has been sent.
    async fn serve(self, link: Arc<Link>, api: Arc<Api>, place: Option<OwnedSemaphorePermit>) {
        let Some(method) = METHODS.iter().find(|method| method.name == self.method) else {
            link.reply(self.head, self.object, None, status::METHOD_NOT_FOUND).await;
            return;
        };
        let Some(Ok(mut arguments)) = self.data.as_deref().map(blobmsg::decode) else {
            link.reply(self.head, self.object, None, status::INVALID_ARGUMENT).await;
            return;
        };
        let failure = |text: &str, kind: &str| json!({ "error": text, "kind": kind });
        let answer = if place.is_some() {
            lenient(method, &mut arguments);
            match tokio::time::timeout(CALL_TIME, api.call(&self.method, &arguments)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(refusal)) => failure(&refusal.to_string(), refusal.kind()),
                Err(_) => failure("this is taking longer than a minute; check again later", "failed"),
            }
        } else {
            failure("too many calls at once; try again", "busy")
        };
        let data = page(&answer).or_else(|| blobmsg::encode(&failure("the answer is too large", "failed")).ok());
        link.reply(self.head, self.object, Some(&data.unwrap_or_default()), status::OK).await;
        drop(place);
    }
}

/// Accepts numbers sent as text or as a boolean, as old Lua programs and the shell do.
fn lenient(method: &Method, arguments: &mut Value) {
    for (name, kind) in method.arguments {
        let Some(value) = arguments.get_mut(*name) else { continue };
        let number = match (&*value, kind) {
            (Value::String(text), ArgumentType::Number) => text.trim().parse::<u64>().ok(),
            (Value::Bool(flag), ArgumentType::Number) => Some(u64::from(*flag)),
            _ => None,
        };
        if let Some(number) = number {
            *value = number.into();
        }
    }
}

/// An answer as bytes. A list in it is cut off where the answer would become too large; its `total` shows that there is
/// more. `None` if it is still too large.
fn page(answer: &Value) -> Option<Vec<u8>> {
    let members = answer.as_object()?;
    let mut out = Writer::default();
    // Lists come last, when the size of the rest is known. The `next` of a complete list would be wrong for one that is
    // cut off.
    let others = members.iter().filter(|(name, value)| !value.is_array() && *name != "next");
    others.for_each(|(name, value)| out.member(name, value));
    for (name, items) in members.iter().filter_map(|(name, value)| Some((name, value.as_array()?))) {
        let list = out.open(blobmsg::kind::ARRAY, name);
        for (n, item) in items.iter().enumerate() {
            let before = out.len();
            out.member("", item);
            // At least one, or a client that requests page after page would never get to the next one.
            if n > 0 && out.len() > PAGE {
                out.truncate(before);
                break;
            }
        }
        out.close(list);
    }
    out.finish().ok().filter(|bytes| bytes.len() <= ANSWER_LIMIT)
}

/// Maximum number of recipients of a message that are listed.
const RECIPIENTS: usize = 16;
/// Maximum size of a notification in bytes.
const NEWS_LIMIT: usize = 32 << 10;

/// Sends the event, if it is of interest. What ubusd does not accept at once is dropped: mail comes first.
fn publish_news(link: &Link, event: &Event) {
    let Some((name, news)) = news(event) else { return };
    let event = json!({ "id": PATH, "data": news });
    let (Ok(data), Ok(event)) = (blobmsg::encode(&news), blobmsg::encode(&event)) else { return };
    if event.len() > NEWS_LIMIT {
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
        same @ ("deferred" | "failed" | "paused" | "resumed" | "escalated" | "step_taken" | "step_failed"
        | "device_silent" | "device_ok") => same,
        _ => return None,
    };
    let mut data = Map::new();
    for (key, field) in fields.all {
        if LOG_ONLY.contains(&key) || matches!(field, Field::Optional("")) && !ALWAYS.contains(&key) {
            continue;
        }
        let value = match field {
            Field::Addresses(to) => {
                put(&mut data, "recipients", &to.len());
                to.iter().take(RECIPIENTS).map(String::as_str).collect()
            }
            Field::Number(number) | Field::Seconds(number) => number.into(),
            Field::Time(at) => at.into(),
            field => field.to_string().into(),
        };
        data.insert(if key == "text" { "reason" } else { key }.into(), value);
    }
    put(&mut data, "event", name);
    Some((name, Value::Object(data)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::report::StepResult;

    #[test]
    fn a_long_list_ends_where_the_answer_gets_too_large_and_the_rest_can_be_asked_for() {
        let all: Vec<Value> = (0..300).map(|n| json!({ "id": n, "text": "x".repeat(1000) })).collect();
        let mut offset = 0;
        while offset < all.len() {
            let bytes = page(&json!({ "messages": all[offset..], "total": 300 })).unwrap();
            assert!(bytes.len() < 64 << 10);
            let answer = blobmsg::decode(&bytes).unwrap();
            assert_eq!(answer["total"], json!(300));
            let got = answer["messages"].as_array().unwrap();
            assert!(!got.is_empty());
            assert_eq!(got[..], all[offset..offset + got.len()]);
            offset += got.len();
        }
    }

    #[test]
    fn what_is_larger_than_a_page_by_itself_goes_alone_and_what_is_larger_than_an_answer_does_not() {
        let item = "x".repeat(PAGE + 1);
        let answer = blobmsg::decode(&page(&json!({ "messages": [item, item] })).unwrap()).unwrap();
        assert_eq!(answer, json!({ "messages": [item] }));
        assert_eq!(page(&json!({ "text": "x".repeat(ANSWER_LIMIT) })), None);
        assert_eq!(page(&json!([])), None);
    }

    #[test]
    fn numbers_may_come_as_text_and_other_arguments_stay() {
        let queue = METHODS.iter().find(|method| method.name == "queue").unwrap();
        let mut arguments = json!({ "offset": "7", "limit": true, "ubus_rpc_session": "0123" });
        lenient(queue, &mut arguments);
        assert_eq!(arguments, json!({ "offset": 7, "limit": 1, "ubus_rpc_session": "0123" }));
        let mut wrong = json!({ "offset": "x", "limit": -1 });
        lenient(queue, &mut wrong);
        assert_eq!(wrong, json!({ "offset": "x", "limit": -1 }));
    }

    #[test]
    fn each_method_is_listed_once_and_explained() {
        let mut names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len());
        assert!(published().len() > 16 * names.len());
        let reference = include_str!("../../docs/reference/ubus.md");
        for Method { name, arguments } in METHODS {
            assert!(reference.contains(&format!("`{name}`")), "docs/reference/ubus.md does not explain {name}");
            assert!(reference.contains(&format!("\t\"{name}\":{{")), "docs/reference/ubus.md does not list {name}");
            for (argument, _) in *arguments {
                assert!(
                    reference.contains(&format!("`{argument}`")),
                    "docs/reference/ubus.md does not explain {argument}"
                );
            }
        }
    }

    fn paused() -> Event {
        Event::Paused { account: "gmail".into(), reason: "wrong password".into(), next: Duration::from_secs(60) }
    }

    #[test]
    fn news_name_their_event_and_the_rest_stays_in_the_house() {
        let (name, data) = news(&paused()).unwrap();
        assert_eq!(name, "paused");
        assert_eq!(data, json!({ "event": "paused", "account": "gmail", "reason": "wrong password", "next": 60 }));
        let (id, account, to, text) = ("ABC".into(), "phone".into(), String::new(), "not delivered after 600 s".into());
        let (name, data) = news(&Event::Step { id, step: 1, account, to, result: StepResult::Begun, text }).unwrap();
        assert_eq!(name, "escalated");
        let fields = json!({ "id": "ABC", "step": 1, "account": "phone", "reason": "not delivered after 600 s" });
        assert!(fields.as_object().unwrap().iter().all(|(key, value)| data[key] == *value), "{data}");
        assert_eq!(news(&Event::Reloaded), None);
        assert_eq!(news(&Event::LoginFailed { client: "10.0.0.1".into(), name: "admin".into() }), None);
    }

    #[test]
    fn without_a_listener_only_the_event_goes_out_and_nothing_waits_for_ubusd() {
        let (link, mut out) = Link::new();
        link.object.store(77, Ordering::Relaxed);
        publish_news(&link, &paused());
        let message = out.try_recv().unwrap();
        assert_eq!(message.get(1), Some(&kind::INVOKE));
        assert!(out.try_recv().is_err());
        link.watched.store(true, Ordering::Relaxed);
        (0..100).for_each(|_| publish_news(&link, &paused()));
        let kinds: Vec<u8> = std::iter::from_fn(|| out.try_recv().ok()).map(|message| message[1]).collect();
        assert_eq!(kinds.len(), crate::ubus::connection::OUTGOING, "the rest is dropped");
        assert!(kinds.chunks(2).all(|pair| pair == [kind::NOTIFY, kind::INVOKE]));
    }

    #[test]
    fn a_crowd_of_recipients_is_counted() {
        let to: Vec<String> = (0..100).map(|n| format!("{n}@example.com")).collect();
        let event = Event::Accepted {
            id: "ABC".into(),
            client: "10.0.0.1".into(),
            helo: "plc".into(),
            device: None,
            title: "Pump house".into(),
            login: None,
            tls: None,
            from: "plc@example.com".into(),
            to,
            size: 7,
            subject: "Störung".into(),
            repairs: Vec::new(),
        };
        let (_, data) = news(&event).unwrap();
        assert_eq!(data["to"].as_array().map(Vec::len), Some(RECIPIENTS));
        assert_eq!(data["recipients"], json!(100));
        assert_eq!((&data["subject"], &data["device"]), (&json!("Störung"), &json!("Pump house")));
    }
}

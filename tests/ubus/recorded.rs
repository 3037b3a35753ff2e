// SPDX-License-Identifier: Apache-2.0
//! Against the stand-in, always.

use std::time::Duration;

use serde_json::{Value, json};
use smtprelay::ubus::blobmsg;
use smtprelay::ubus::message::{Body, attribute, kind};
use tokio::net::{TcpListener, TcpStream};

use super::bus::{Bus, EAR, Peer, network};
use super::gateway;
use super::support::ask::{SOON, hello, send};
use super::support::client::Client;
use super::support::relay::{Relay, Section, field};
use super::wire::{CALLER, OBJECT, call, has, hex, message, numbered, seen};

/// The gateway and its place on the bus, published.
async fn joined() -> (Bus, Relay, Peer) {
    let bus = Bus::start();
    let relay = gateway(&bus.socket()).start().await;
    let mut peer = bus.join().await;
    peer.published().await;
    (bus, relay, peer)
}

async fn ask(peer: &mut Peer, seq: u16, method: &str, arguments: Value) -> (Option<Value>, u32) {
    let arguments = blobmsg::encode(&arguments).expect("a table");
    peer.send(&call(seq, CALLER, OBJECT, method, &arguments)).await;
    peer.answer_to(seq).await
}

#[tokio::test]
async fn the_object_is_published_and_called_as_it_was_recorded() {
    let bus = Bus::start();
    let _relay = gateway(&bus.socket()).start().await;
    let mut peer = bus.join().await;
    let published = peer.published().await;
    assert_eq!((published.head.kind, published.head.peer), (kind::ADD_OBJECT, 0));
    assert_ne!(published.head.seq, 0);
    assert!(published.body.starts_with(&hex(seen::PATH)), "{published:?}");
    assert!(has(&published.body, seen::STATUS_LISTED), "{published:?}");
    let signature = blobmsg::decode(published.attribute(attribute::SIGNATURE).expect("methods")).expect("a table");
    assert_eq!(signature["queue"], json!({ "offset": 5, "limit": 5 }));
    assert_eq!(signature["message"], json!({ "id": 3 }));

    // The call that was recorded, with a method that there never will be, and with one that there is.
    let call = hex(seen::CALL);
    let named = |method: &[u8; 4]| {
        let mut call = call.clone();
        let place = call.windows(4).position(|window| window == b"test").expect("the method");
        call[place..place + 4].copy_from_slice(method);
        call
    };
    peer.send(&named(b"nope")).await;
    let end = peer.until(|message| message.head.kind == kind::STATUS).await;
    let mut wanted = hex(seen::ANSWERED);
    wanted[19] = 3;
    assert_eq!(end.bytes(), wanted, "METHOD_NOT_FOUND");
    peer.send(&named(b"hold")).await;
    let data = peer.until(|message| message.head.kind == kind::DATA).await;
    assert_eq!((data.head.seq, data.head.peer, data.number(attribute::OBJID)), (2, CALLER, Some(OBJECT)));
    assert_eq!(data.data().expect("an answer")["kind"], json!("wrong"));
    let end = peer.until(|message| message.head.kind == kind::STATUS).await;
    assert_eq!(end.bytes(), hex(seen::ANSWERED), "a refusal of ours has status 0");
}

#[tokio::test]
async fn methods_answer_and_unknown_arguments_do_not_matter() {
    let (_bus, relay, mut peer) = joined().await;
    let id = send(&relay, &["ops@example.com"], "alarm").await;
    let session = "0123456789abcdef0123456789abcdef";
    let (status, code) = ask(&mut peer, 7, "status", json!({ "ubus_rpc_session": session })).await;
    let status = status.expect("an answer");
    assert_eq!((code, &status["queue"]["messages"]), (0, &json!(1)), "{status}");
    let (queue, code) = ask(&mut peer, 8, "queue", json!({ "offset": "0", "limit": true })).await;
    assert_eq!((code, &queue.expect("an answer")["messages"][0]["id"]), (0, &json!(id)));
    let (message, _) = ask(&mut peer, 9, "message", json!({ "id": id })).await;
    assert!(message.expect("an answer")["header"].as_str().is_some_and(|text| text.contains("Subject: alarm")));
    let (devices, _) = ask(&mut peer, 10, "devices", json!({})).await;
    let devices = devices.expect("an answer");
    assert_eq!((&devices["total"], &devices["devices"][0]["client"]), (&json!(1), &json!("127.0.0.1")), "{devices}");
    let (devices, _) = ask(&mut peer, 11, "devices", json!({ "offset": 1 })).await;
    assert_eq!(devices, Some(json!({ "total": 1, "devices": [] })));
    let (none, code) = ask(&mut peer, 12, "message", json!({ "id": "0000000000" })).await;
    assert_eq!((code, &none.expect("an answer")["kind"]), (0, &json!("not_found")));
    let (wrong, code) = ask(&mut peer, 13, "queue", json!({ "offset": "x" })).await;
    assert_eq!((code, &wrong.expect("an answer")["kind"]), (0, &json!("wrong")));
    assert_eq!(ask(&mut peer, 14, "delete", json!({ "id": "all" })).await.0.expect("an answer")["count"], json!(1));
}

#[tokio::test]
async fn a_long_queue_comes_in_pages() {
    let (_bus, relay, mut peer) = joined().await;
    let mut device = hello(&relay).await;
    let to: Vec<String> = (0..40).map(|n| format!("somebody-with-a-long-name-{n}@department.example.com")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    for n in 0..60 {
        super::support::ask::send_on(&mut device, &to, &n.to_string()).await;
        // Read as ubusd reads: from a bus that takes nothing for a while the gateway parts.
        peer.until(|message| message.body.windows(6).any(|part| part == b"queued")).await;
    }
    let (mut seen, mut pages) = (Vec::new(), 0);
    while seen.len() < 60 {
        pages += 1;
        peer.send(&call(pages, CALLER, OBJECT, "queue", &blobmsg::encode(&json!({ "offset": seen.len() })).unwrap()))
            .await;
        let page = peer.until(|message| message.head.kind == kind::DATA && message.head.seq == pages).await;
        assert!(page.body.len() < 64 << 10, "{} bytes", page.body.len());
        let page = page.data().expect("an answer");
        assert_eq!(page["total"], json!(60));
        let messages = page["messages"].as_array().expect("a list");
        assert!(!messages.is_empty());
        seen.extend(messages.iter().map(|message| message["id"].clone()));
    }
    assert!(pages > 2, "{pages}");
    seen.sort_by_key(Value::to_string);
    seen.dedup();
    assert_eq!(seen.len(), 60);
}

#[tokio::test]
async fn a_slow_call_holds_up_nobody() {
    // A login server that takes connections and says nothing.
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = server.local_addr().expect("an address").port();
    let url = format!("https://127.0.0.1:{port}/");
    let account = Section::custom_account("slow", "127.0.0.1", 1, "implicit")
        .option("username", "me@example.com")
        .option("auth", "xoauth2")
        .option("oauth", "custom")
        .option("client_id", "client")
        .option("scope", "mail")
        .option("device_url", format!("{url}device"))
        .option("token_url", format!("{url}token"));
    let bus = Bus::start();
    let _relay = gateway(&bus.socket()).section(account).start().await;
    let mut peer = bus.join().await;
    peer.published().await;
    let arguments = blobmsg::encode(&json!({ "account": "slow" })).unwrap();
    peer.send(&call(1, CALLER, OBJECT, "login_start", &arguments)).await;
    let asked = tokio::time::timeout(SOON, server.accept()).await.expect("the login server is asked").expect("it is");
    let (status, code) = ask(&mut peer, 2, "status", json!({})).await;
    assert!(status.is_some_and(|status| status["version"].is_string()) && code == 0);
    drop(asked);
    let (failed, code) = peer.answer_to(1).await;
    assert_eq!((&failed.expect("an answer")["kind"], code), (&json!("failed"), 0));
}

#[tokio::test]
async fn news_go_to_everybody_and_notifications_to_those_who_subscribed() {
    let (_bus, relay, mut peer) = joined().await;
    let first = send(&relay, &["ops@example.com"], "unheard").await;
    let event = |message: &super::wire::Message| {
        message.head.kind == kind::INVOKE && message.data().is_some_and(|data| data["data"]["event"] == json!("queued"))
    };
    let seen_event = peer.until(event).await;
    assert_eq!(seen_event.head.peer, 1);
    assert!(seen_event.body.starts_with(&hex(seen::EVENT)), "{seen_event:?}");
    assert!(has(&seen_event.body, seen::EVENT_ID), "{seen_event:?}");
    let data = &seen_event.data().expect("data")["data"];
    assert_eq!((&data["id"], &data["to"]), (&json!(first), &json!(["ops@example.com"])), "{data}");

    // ubusd tells the owner of an object that it has subscribers.
    let active = Body::default().number(attribute::OBJID, OBJECT).nested(attribute::ACTIVE, &[1]);
    peer.send(&message(kind::NOTIFY, 0, 0, active)).await;
    // In order: when this is answered, that was read.
    ask(&mut peer, 5, "status", json!({})).await;
    let second = send(&relay, &["ops@example.com"], "heard").await;
    let notified = peer
        .until(|message| message.head.kind == kind::NOTIFY && message.text(attribute::METHOD) == Some("queued"))
        .await;
    assert_eq!(notified.number(attribute::OBJID), Some(OBJECT));
    assert_eq!(notified.attribute(attribute::NO_REPLY), Some(&[1][..]));
    let data = notified.data().expect("data");
    assert_eq!((&data["event"], &data["id"]), (&json!("queued"), &json!(second)), "{data}");
    peer.until(event).await;
}

#[tokio::test]
async fn nonsense_is_refused_and_beyond_all_bounds_the_connection_ends_and_begins_anew() {
    let (bus, relay, mut peer) = joined().await;
    // Arguments that are no table, none at all, and too many; no method; no object; somebody else's answers.
    peer.send(&call(1, CALLER, OBJECT, "status", b"\x83\0\0\xff")).await;
    assert_eq!(peer.answer_to(1).await, (None, 2));
    let bare = || Body::default().number(attribute::OBJID, OBJECT);
    peer.send(&message(kind::INVOKE, 2, CALLER, bare().text(attribute::METHOD, "queue"))).await;
    assert_eq!(peer.answer_to(2).await.1, 0);
    for (seq, size) in [(3, 20 << 10), (4, 300 << 10), (5, 1_000_000)] {
        let large = blobmsg::encode(&json!({ "offset": "x".repeat(size) })).unwrap();
        peer.send(&call(seq, CALLER, OBJECT, "queue", &large)).await;
        assert_eq!(peer.answer_to(seq).await, (None, 2), "{size} bytes");
    }
    peer.send(&message(kind::INVOKE, 6, CALLER, bare())).await;
    peer.send(&message(kind::INVOKE, 7, CALLER, Body::default().text(attribute::METHOD, "status"))).await;
    peer.send(&numbered(seen::PUBLISHED[0], 999)).await;
    peer.send(&numbered(seen::NOT_FOUND, 999)).await;
    peer.send(&message(99, 8, CALLER, bare())).await;
    assert_eq!(ask(&mut peer, 9, "status", json!({})).await.1, 0, "the same conversation goes on");
    // Longer than any message may be; no message at all; a message that ends in the middle.
    let mut peer = peer;
    for end in ["00050001 00000001 00200000", "01050001 00000001 00000010", "00050001 00000001 00000003"] {
        peer.send(&hex(end)).await;
        peer.serve().await;
        peer = bus.join().await;
        peer.published().await;
    }
    peer.send(&hex("00050001 00000001 00000100 03000008")).await;
    drop(peer);
    let mut peer = bus.join().await;
    peer.published().await;
    assert_eq!(ask(&mut peer, 1, "status", json!({})).await.1, 0);
    hello(&relay).await;
}

#[tokio::test]
async fn the_gateway_starts_without_a_bus_and_joins_when_one_appears() {
    let mut bus = Bus::absent();
    let relay = gateway(&bus.socket()).start().await;
    send(&relay, &["ops@example.com"], "alarm").await;
    bus.appear();
    let mut peer = bus.join().await;
    peer.published().await;
    assert_eq!(ask(&mut peer, 1, "status", json!({})).await.1, 0);
}

#[tokio::test]
async fn a_bus_that_reads_nothing_stops_no_mail() {
    let (_bus, relay, peer) = joined().await;
    let active = Body::default().number(attribute::OBJID, OBJECT).nested(attribute::ACTIVE, &[1]);
    peer.send(&message(kind::NOTIFY, 0, 0, active)).await;
    let mut device = hello(&relay).await;
    // More news than the socket and all queues hold.
    for n in 0..400 {
        super::support::ask::send_on(&mut device, &["ops@example.com"], &n.to_string()).await;
    }
    let text = super::support::ask::said(&relay, "status").await;
    assert!(text.contains("400 messages"), "{text}");
}

/// A key may be readable for root only, and a jail goes on showing a file that was replaced as it was: procd is asked for a
/// reload.
#[tokio::test]
async fn for_a_certificate_that_can_not_be_used_a_reload_is_asked_for() {
    if !nix::unistd::geteuid().is_root() || std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        return println!("skipped: only who was root asks");
    }
    let bus = Bus::start();
    let relay = gateway(&bus.socket()).relay_option("user", "nobody").listener_option("tls", "starttls");
    let relay = relay.listener_option("certificate", "/no/such/file").listener_option("key", "/no/such/file");
    let mut relay = relay.prepare();
    relay.spawn();
    let serving = tokio::spawn(bus.join().await.serve());
    let mut asking = bus.join().await;
    asking.until(|message| message.text(attribute::OBJPATH) == Some("service")).await;
    serving.abort();
}

#[tokio::test]
async fn a_network_is_where_netifd_says_and_sessions_outlast_its_changes() {
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        return println!("skipped: an emulator does not know the addresses of interfaces");
    }
    // 127.0.0.0/8 is all there on any Linux: addresses to listen on that can change.
    let bus = Bus::start();
    let mut relay = gateway(&bus.socket()).prepare();
    relay.configure("listener", "plant", |section| {
        section.list("interface", "plant").list("allow", "127.0.0.0/8").option("port", 0)
    });
    relay.spawn();
    // The connection that lasts, and the one for the question before the start.
    let (peer, once) = (bus.join().await, bus.join().await);
    let bus = peer.side();
    bus.netifd(network("plant", "no-such", "127.0.0.2")).await;
    once.side().netifd(network("plant", "no-such", "127.0.0.2")).await;
    once.serve().await;
    let serving = tokio::spawn(peer.serve());
    let plant = |line: &str| line.contains("event=listening") && line.contains("listener=plant");
    let line = relay.wait_log(plant, SOON).await;
    assert_eq!(field(&line, "address"), Some("127.0.0.2"), "{line}");
    let port: u16 = field(&line, "port").and_then(|port| port.parse().ok()).expect("a port");
    let mut session = Client::greeted(([127, 0, 0, 2], port).into()).await;
    session.dialogue(&[("EHLO plc", 250)]).await;
    let mark = relay.mark();
    bus.netifd(network("plant", "no-such", "127.0.0.3")).await;
    let told = Body::default().number(attribute::OBJID, EAR).text(attribute::METHOD, "interface.update");
    bus.send(&message(kind::INVOKE, 3, 9, told.nested(attribute::DATA, &[]))).await;
    let line = relay.wait_log_from(mark, plant, SOON).await;
    assert_eq!(field(&line, "address"), Some("127.0.0.3"), "{line}");
    // Nobody new comes in at the old address; who is in stays.
    let closed = async {
        while TcpStream::connect(("127.0.0.2", port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, closed).await.expect("the old address is closed");
    let text = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\n\r\nalarm\r\n";
    assert_eq!(session.send("plc@example.com", &["ops@example.com"], text).await.code, 250);
    serving.abort();
}

// SPDX-License-Identifier: Apache-2.0
//! The private socket through which the gateway is asked: who gets in, and what it stands.

mod support;

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use serde_json::{Value, json};
use support::ask::{SOON, hello, run, said, send_on};
use support::relay::{Relay, Section};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const TO: [&str; 1] = ["ops@example.com"];

async fn relay() -> Relay {
    let nowhere = Section::custom_account("provider", "127.0.0.1", 1, "none");
    Relay::builder().durability("memory").section(nowhere).start().await
}

async fn connect(relay: &Relay) -> BufReader<UnixStream> {
    BufReader::new(UnixStream::connect(relay.spool().join("control.sock")).await.expect("connect to the gateway"))
}

/// Sends a line and returns the answer; `None` when the connection was closed in place of one.
async fn ask(stream: &mut BufReader<UnixStream>, line: &[u8]) -> Option<Value> {
    // It may be closed before all is written.
    let _ = stream.get_mut().write_all(line).await;
    let mut answer = String::new();
    let read = tokio::time::timeout(SOON, stream.read_line(&mut answer)).await.expect("an answer or the end");
    (read.unwrap_or(0) > 0).then(|| serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer:?}")))
}

async fn call(stream: &mut BufReader<UnixStream>, method: &str, params: Value) -> Value {
    let line = format!("{}\n", json!({ "method": method, "params": params }));
    ask(stream, line.as_bytes()).await.expect("an answer")
}

#[tokio::test]
async fn only_the_owner_gets_in() {
    let mut relay = relay().await;
    let path = relay.spool().join("control.sock");
    for _ in 0..2 {
        let file = std::fs::symlink_metadata(&path).expect("the socket");
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o7777, 0o600);
        // A crash leaves it behind; the next start makes it anew.
        relay.kill9();
        assert!(path.exists());
        assert_eq!(run(&relay, "status").await.code, 69, "nobody answers");
        relay.restart().await;
        said(&relay, "status").await;
    }
    relay.sigterm();
    relay.wait_exit().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_no_request_gets_an_error_or_the_end() {
    let relay = relay().await;
    let mut stream = connect(&relay).await;
    let deep = format!("{}\n", "[".repeat(15_000));
    let nonsense: [&[u8]; 9] = [
        b"\n",
        b"GET / HTTP/1.1\r\n",
        b"\xff\xfe\x00\n",
        b"null\n",
        b"[]\n",
        b"{\"method\": 7}\n",
        b"{\"method\": \"dance\"}\n",
        b"{\"method\": \"message\", \"params\": [1, 2]}\n",
        deep.as_bytes(),
    ];
    for line in nonsense {
        let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        let answer = ask(&mut stream, line).await.unwrap_or_else(|| panic!("closed at {shown}"));
        assert_eq!(answer["kind"], json!("wrong"), "{shown}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{shown}: {answer}");
    }
    for params in [json!({ "offset": -1 }), json!({ "offset": "x" }), json!({ "limit": 1.5 }), json!({ "limit": [] })] {
        let answer = call(&mut stream, "queue", params.clone()).await;
        assert_eq!(answer["kind"], json!("wrong"), "{params}: {answer}");
    }
    let answer = call(&mut stream, "queue", json!({ "offset": u32::MAX, "limit": u32::MAX })).await;
    assert_eq!(answer["result"]["messages"], json!([]), "{answer}");
    // The same conversation goes on.
    assert_eq!(call(&mut stream, "queue", json!({})).await["result"]["total"], json!(0));
    // A line without an end, and a connection that says nothing.
    let _silent = connect(&relay).await;
    let mut endless = connect(&relay).await;
    assert_eq!(ask(&mut endless, &vec![b'x'; 1 << 20]).await, None);
    // Half a request and a hurried end.
    let mut half = connect(&relay).await;
    half.get_mut().write_all(b"{\"method\": \"delete\", \"params\": {\"id\": \"all\"}}").await.unwrap();
    half.get_mut().shutdown().await.unwrap();
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
    said(&relay, "status").await;
    hello(&relay).await;
}

#[tokio::test]
async fn pages_have_an_end_and_a_limit() {
    let relay = relay().await;
    let mut device = hello(&relay).await;
    let mut sent = Vec::new();
    for n in 0..210 {
        sent.push(send_on(&mut device, &TO, &n.to_string()).await);
    }
    let mut stream = connect(&relay).await;
    let mut seen = Vec::new();
    for (offset, limit, count) in [(0, 1000, 200), (200, 200, 10), (210, 200, 0), (5, 3, 3), (5, 0, 0)] {
        let answer = call(&mut stream, "queue", json!({ "offset": offset, "limit": limit })).await;
        let page = &answer["result"];
        assert_eq!((&page["total"], &page["offset"]), (&json!(210), &json!(offset)), "{answer}");
        let messages = page["messages"].as_array().expect("a list");
        assert_eq!(messages.len(), count, "{offset}, {limit}");
        if offset % 200 == 0 {
            seen.extend(messages.iter().map(|message| message["id"].as_str().expect("a name").to_owned()));
        }
    }
    seen.sort_unstable();
    sent.sort_unstable();
    assert_eq!(seen, sent);
}

#[tokio::test]
async fn thirty_clients_at_once_are_served() {
    let relay = relay().await;
    send_on(&mut hello(&relay).await, &TO, "alarm").await;
    let clients = (0..30).map(|_| async {
        let mut stream = connect(&relay).await;
        for _ in 0..5 {
            let answer = call(&mut stream, "queue", json!({})).await;
            assert_eq!(answer["result"]["total"], json!(1), "{answer}");
        }
    });
    tokio::time::timeout(SOON, join_all(clients.collect())).await.expect("everybody is served");
    let commands: Vec<_> = (0..30).map(|_| relay.command(&["queue"])).collect();
    for ran in join_all(commands).await {
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert!(String::from_utf8_lossy(&ran.stdout).contains("1 message waiting"));
    }
}

/// Runs all at the same time.
async fn join_all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in waiting.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        match waiting.iter().all(|(_, done)| done.is_some()) {
            true => std::task::Poll::Ready(waiting.iter_mut().filter_map(|(_, done)| done.take()).collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_gateway_whose_directory_was_removed_still_runs() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root sees what others have open");
    }
    let relay = relay().await;
    std::fs::remove_dir_all(relay.spool()).unwrap();
    let output = relay.command(&["status"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{text}");
    let process = relay.pid().to_string();
    assert!(text.contains(&format!("the gateway is running (process {process}), but its directory")), "{text}");
    assert!(text.contains("service smtprelay restart"), "{text}");
    // What is put there now would wait for a restart: whoever sends it is told.
    let sent = relay.command_with_input(&["send", "ops@example.com"], b"Subject: x\n\nx\n").await;
    let text = String::from_utf8(sent.stderr).unwrap();
    assert_eq!(sent.status.code(), Some(75), "{text}");
    assert!(text.contains("was removed or replaced") && !relay.spool().exists(), "{text}");
}

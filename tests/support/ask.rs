// SPDX-License-Identifier: Apache-2.0
//! The owner at the command line, and the shortest way to send a mail.

use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use super::relay::Relay;

/// How long something may take that is under way. Long: the program may run under an emulator on a busy machine.
pub const SOON: Duration = Duration::from_secs(120);

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ran {
    /// What a process that has ended left.
    pub fn of(output: std::process::Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().expect("an exit code, no signal");
        Ran { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs a command of the program, the words with blanks between.
pub async fn run(relay: &Relay, command: &str) -> Ran {
    Ran::of(relay.command(&command.split(' ').collect::<Vec<_>>()).await)
}

/// What a command prints that must succeed. The exit code of `status` also says that nothing is relayed.
pub async fn said(relay: &Relay, command: &str) -> String {
    let ran = run(relay, command).await;
    let code = if command.starts_with("status") { ran.code.min(0) } else { ran.code };
    assert_eq!((code, ran.err.as_str()), (0, ""), "{command}: {ran:?}");
    assert!(ran.code <= 1, "{command}: {ran:?}");
    ran.out
}

/// The JSON that a command prints: one value on one line.
pub async fn json(relay: &Relay, command: &str) -> Value {
    let out = said(relay, &format!("{command} --json")).await;
    assert_eq!(out.matches('\n').count(), 1, "{command}: {out:?}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{command}: {error}: {out}"))
}

/// The messages of the queue.
pub async fn queue(relay: &Relay) -> Vec<Value> {
    json(relay, "queue").await.as_array().expect("a list").clone()
}

/// Asks again and again for the queue until it fits.
pub async fn queue_until(relay: &Relay, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let there = async {
        loop {
            let messages = queue(relay).await;
            if fits(&messages) {
                return messages;
            }
        }
    };
    match tokio::time::timeout(SOON, there).await {
        Ok(messages) => messages,
        Err(_) => panic!("the queue did not become what it should be: {:#?}", queue(relay).await),
    }
}

/// The names of the fields of a JSON object.
pub fn fields(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// A connection on which EHLO was said.
pub async fn hello(relay: &Relay) -> Client {
    let mut device = Client::greeted(relay.addr()).await;
    device.set_limit(SOON);
    device.dialogue(&[("EHLO plc", 250)]).await;
    device
}

/// Sends a mail with this subject from `plc@example.com` and returns its name in the queue.
pub async fn send_on(device: &mut Client, to: &[&str], subject: &str) -> String {
    let text = format!("From: plc@example.com\r\nTo: ops@example.com\r\nSubject: {subject}\r\n\r\nalarm\r\n");
    let reply = device.send("plc@example.com", to, &text).await;
    assert_eq!(reply.code, 250, "{reply:?}");
    reply.text().rsplit(' ').next().expect("a name").to_owned()
}

/// As [`send_on`], on a connection of its own.
pub async fn send(relay: &Relay, to: &[&str], subject: &str) -> String {
    send_on(&mut hello(relay).await, to, subject).await
}

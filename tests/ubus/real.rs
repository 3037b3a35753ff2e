// SPDX-License-Identifier: Apache-2.0
//! Against the real ubusd and the `ubus` command, which `UBUSD` and `UBUS` name.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use smtprelay::control::METHODS;
use smtprelay::ubus::blobmsg::{self, Writer};
use smtprelay::ubus::message::{self, Body, HEAD, MessageHead, attribute, kind};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child as AsyncChild, ChildStdout};

use super::bus::{Bus, network};
use super::gateway;
use super::support::ask::{SOON, send};
use super::support::relay::Relay;
use super::wire::{Message, call, head, message};

/// ubusd, running or not. Killed when dropped.
struct Ubusd {
    program: PathBuf,
    ubus: PathBuf,
    place: Bus,
    child: Option<Child>,
}

impl Drop for Ubusd {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Ubusd {
    async fn start() -> Option<Ubusd> {
        let (Some(program), Some(ubus)) = (std::env::var_os("UBUSD"), std::env::var_os("UBUS")) else {
            println!("skipped: UBUSD and UBUS do not name ubusd and the ubus command");
            return None;
        };
        let mut ubusd = Ubusd { program: program.into(), ubus: ubus.into(), place: Bus::absent(), child: None };
        ubusd.spawn().await;
        Some(ubusd)
    }

    async fn spawn(&mut self) {
        let socket = self.place.socket();
        let _ = std::fs::remove_file(&socket);
        let acl = Path::new(env!("CARGO_MANIFEST_DIR")).join("files/usr/share/acl.d");
        self.child = Some(
            Command::new(&self.program)
                .arg("-A")
                .arg(acl)
                .arg("-s")
                .arg(&socket)
                .spawn()
                .expect("ubusd can be started"),
        );
        let there = async {
            while UnixStream::connect(&socket).is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, there).await.expect("ubusd listens");
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("ubusd can be killed");
            child.wait().expect("ubusd ends");
        }
    }

    /// Runs `ubus` with these arguments: exit code and output.
    async fn ubus(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = tokio::process::Command::new(&self.ubus);
        let output = command.arg("-s").arg(self.place.socket()).args(arguments).output().await.expect("ubus runs");
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).expect("UTF-8"))
    }

    async fn call(&self, method: &str, arguments: Value) -> Value {
        let (code, out) = self.ubus(&["call", "smtprelay", method, &arguments.to_string()]).await;
        assert_eq!(code, 0, "{method} {arguments}: {out}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{method} {arguments}: {error}: {out}"))
    }

    /// Waits for the object.
    async fn joined(&self) {
        let (code, _) = self.ubus(&["-t", "60", "wait_for", "smtprelay"]).await;
        assert_eq!(code, 0, "the object appears");
    }

    /// Starts `ubus` for what comes.
    fn hear(&self, arguments: &[&str]) -> (AsyncChild, Lines<BufReader<ChildStdout>>) {
        let mut command = tokio::process::Command::new(&self.ubus);
        command.arg("-s").arg(self.place.socket()).args(arguments).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("ubus runs");
        let out = child.stdout.take().expect("a pipe");
        (child, BufReader::new(out).lines())
    }
}

async fn joined() -> Option<(Ubusd, Relay)> {
    let ubusd = Ubusd::start().await?;
    let relay = gateway(&ubusd.place.socket()).start().await;
    ubusd.joined().await;
    Some((ubusd, relay))
}

#[tokio::test]
async fn all_methods_are_listed_with_their_arguments_and_answer() {
    let Some((ubusd, relay)) = joined().await else { return };
    let (_, listed) = ubusd.ubus(&["-v", "list", "smtprelay"]).await;
    for method in METHODS {
        assert!(listed.contains(&format!("\t\"{}\":{{", method.name)), "{}: {listed}", method.name);
    }
    assert!(listed.contains("\"queue\":{\"offset\":\"Integer\",\"limit\":\"Integer\"}"), "{listed}");
    let id = send(&relay, &["ops@example.com"], "alarm").await;
    assert_eq!(ubusd.call("status", json!({})).await["queue"]["messages"], json!(1));
    assert_eq!(ubusd.call("queue", json!({ "limit": 5 })).await["messages"][0]["id"], json!(id));
    assert_eq!(ubusd.call("message", json!({ "id": id })).await["from"], json!("plc@example.com"));
    assert_eq!(ubusd.call("hold", json!({ "id": id })).await["count"], json!(1));
    assert_eq!(ubusd.call("release", json!({ "id": id })).await["count"], json!(1));
    ubusd.call("retry", json!({ "id": "all" })).await;
    assert_eq!(ubusd.call("devices", json!({})).await["devices"][0]["client"], json!("127.0.0.1"));
    assert_eq!(ubusd.call("history", json!({})).await["total"], json!(0));
    assert_eq!(ubusd.call("wake", json!({ "reason": "test" })).await, json!({}));
    assert_eq!(ubusd.call("login_start", json!({ "account": "x" })).await["kind"], json!("not_found"));
    assert_eq!(ubusd.call("login_poll", json!({ "job": "x" })).await["kind"], json!("not_found"));
    assert_eq!(ubusd.call("delete", json!({ "id": "all" })).await["failed"], json!(0));
    assert_eq!(ubusd.ubus(&["call", "smtprelay", "dance"]).await.0, 253, "there is no such method");
    println!("{listed}");
}

#[tokio::test]
async fn news_are_heard_by_subscribers_and_listeners() {
    let Some((ubusd, relay)) = joined().await else { return };
    let (_subscriber, mut notifications) = ubusd.hear(&["subscribe", "smtprelay"]);
    let (_listener, mut events) = ubusd.hear(&["listen", "smtprelay"]);
    // Neither says when it is ready: mail is sent until both have heard of one.
    let (mut notified, mut heard) = (None, None);
    let both = async {
        while notified.is_none() || heard.is_none() {
            send(&relay, &["ops@example.com"], "alarm").await;
            let short = Duration::from_millis(300);
            if let Ok(Ok(Some(line))) = tokio::time::timeout(short, notifications.next_line()).await {
                notified = Some(line).filter(|line| line.contains("queued")).or(notified.take());
            }
            if let Ok(Ok(Some(line))) = tokio::time::timeout(short, events.next_line()).await {
                heard = Some(line).filter(|line| line.contains("queued")).or(heard.take());
            }
        }
    };
    tokio::time::timeout(SOON, both).await.expect("both hear");
    let (notified, heard) = (notified.unwrap_or_default(), heard.unwrap_or_default());
    println!("ubus subscribe: {notified}\nubus listen: {heard}");
    let notified: Value = serde_json::from_str(&notified).expect("JSON");
    assert_eq!(notified["queued"]["event"], json!("queued"), "{notified}");
    let heard: Value = serde_json::from_str(&heard).expect("JSON");
    assert_eq!(heard["smtprelay"]["to"], json!(["ops@example.com"]), "{heard}");
}

#[tokio::test]
async fn a_bus_that_was_started_anew_is_joined_again() {
    let Some((mut ubusd, relay)) = joined().await else { return };
    for _ in 0..3 {
        ubusd.stop();
        send(&relay, &["ops@example.com"], "while there is no bus").await;
        ubusd.spawn().await;
        ubusd.joined().await;
        ubusd.call("status", json!({})).await;
    }
    assert_eq!(ubusd.call("status", json!({})).await["queue"]["messages"], json!(3));
}

/// The memory that a process has in use now, in KB. Without code, which is put aside and comes back.
fn resident(relay: &Relay) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).expect("a process that runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Numbers that look random, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("a small number")
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth > 3 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(1 << 20)),
            3 => json!(-1),
            4 => json!("all"),
            5 => json!("x".repeat(self.below(300))),
            6 => (0..self.below(5)).map(|_| self.value(depth + 1)).collect(),
            _ => json!({ "id": self.value(depth + 1), "offset": self.value(depth + 1) }),
        }
    }

    /// A method, existing or not, and arguments, sensible or not.
    fn call(&mut self) -> (&'static str, Vec<u8>) {
        let others = ["", "dance", "status "];
        let method = match self.below(20) {
            0 => others[self.below(others.len())],
            _ => METHODS[self.below(METHODS.len())].name,
        };
        let arguments = ["id", "offset", "limit", "account", "job", "address", "reason", "to", "password"];
        let table = (0..self.below(4)).map(|_| (arguments[self.below(arguments.len())].to_string(), self.value(0)));
        let mut bytes = blobmsg::encode(&Value::Object(table.collect())).expect("a table");
        // A few are damaged on the way.
        if self.below(10) == 0 && !bytes.is_empty() {
            for _ in 0..=self.below(4) {
                let place = self.below(bytes.len());
                bytes[place] = u8::try_from(self.below(256)).expect("a byte");
            }
        }
        (method, bytes)
    }
}

/// One of those who call, on a connection of its own.
struct Caller(UnixStream);

impl Caller {
    fn join(socket: &Path) -> Caller {
        let stream = UnixStream::connect(socket).expect("ubusd");
        stream.set_read_timeout(Some(SOON)).expect("a limit");
        let mut caller = Caller(stream);
        assert_eq!(caller.next().head.kind, kind::HELLO);
        caller
    }

    fn next(&mut self) -> Message {
        let mut first = [0; HEAD];
        self.0.read_exact(&mut first).expect("a message in time");
        let (head, length) = head(&first);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the rest");
        Message { head, body }
    }

    fn status(&mut self, seq: u16) -> (Option<Message>, u32) {
        let mut data = None;
        loop {
            let message = self.next();
            assert_eq!(message.head.seq, seq);
            if message.head.kind == kind::STATUS {
                return (data, message.number(attribute::STATUS).expect("a status"));
            }
            data = Some(message);
        }
    }

    fn object(&mut self) -> u32 {
        let asked =
            message::message(MessageHead { kind: kind::LOOKUP, seq: 1, peer: 0 }, &message::lookup("smtprelay"));
        self.0.write_all(&asked).expect("ubusd reads");
        self.status(1).0.and_then(|data| data.number(attribute::OBJID)).expect("the object")
    }

    /// So many random calls. Every one is answered, whatever it asked.
    fn calls(&mut self, count: usize, seed: u64) -> BTreeSet<u32> {
        let (object, mut random, mut ends) = (self.object(), Random(seed), BTreeSet::new());
        for n in 0..count {
            let (method, arguments) = random.call();
            let seq = u16::try_from(n % 60_000 + 2).expect("a small number");
            self.0.write_all(&call(seq, object, object, method, &arguments)).expect("ubusd reads");
            let (data, status) = self.status(seq);
            assert!(data.is_some() == (status == 0), "{method}: status {status}");
            ends.insert(status);
        }
        ends
    }
}

#[tokio::test]
async fn ten_thousand_random_calls_are_answered_and_memory_stays() {
    const CALLERS: u64 = 4;
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        return println!("skipped: the memory would be that of the emulator");
    }
    let Some((ubusd, relay)) = joined().await else { return };
    for n in 0..20 {
        send(&relay, &["ops@example.com"], &n.to_string()).await;
    }
    let round = |count: usize, seed: u64| {
        let callers = (0..CALLERS).map(|caller| {
            let socket = ubusd.place.socket();
            tokio::task::spawn_blocking(move || Caller::join(&socket).calls(count, seed + caller))
        });
        let callers: Vec<_> = callers.collect();
        async {
            let mut ends = BTreeSet::new();
            for caller in callers {
                ends.append(&mut caller.await.expect("a caller that got all its answers"));
            }
            ends
        }
    };
    // What is needed once is there after the first of them.
    round(250, 1).await;
    let before = resident(&relay);
    let ends = round(2500, 1000).await;
    let after = resident(&relay);
    println!("10,000 calls; memory in use: {before} KB, then {after} KB; ended with {ends:?}");
    assert!(ends.is_subset(&BTreeSet::from([0, 2, 3])), "{ends:?}");
    assert!(ends.len() == 3, "all kinds of ends are reached: {ends:?}");
    assert!(after < before + 1024, "memory grows: {before} KB, then {after} KB");
    ubusd.call("status", json!({})).await;
}

/// In netifd's place on the bus.
struct Netifd(Caller);

impl Netifd {
    fn join(socket: &Path) -> (Netifd, u32) {
        let mut caller = Caller::join(socket);
        let mut signature = Writer::default();
        signature.member("dump", &json!({}));
        let body = Body::default().text(attribute::OBJPATH, "network.interface");
        let body = body.nested(attribute::SIGNATURE, &signature.finish().expect("a table"));
        caller.0.write_all(&message(kind::ADD_OBJECT, 1, 0, body)).expect("ubusd reads");
        let object = caller.status(1).0.and_then(|data| data.number(attribute::OBJID)).expect("an object");
        (Netifd(caller), object)
    }

    /// Answers one call of `dump` with this, after whatever else comes.
    fn dump(&mut self, object: u32, dump: &Value) {
        let call = loop {
            let message = self.0.next();
            if message.head.kind == kind::INVOKE {
                break message;
            }
        };
        assert_eq!(call.text(attribute::METHOD), Some("dump"));
        let own = || Body::default().number(attribute::OBJID, object);
        let data = own().nested(attribute::DATA, &blobmsg::encode(dump).expect("a table"));
        let mut answer = message(kind::DATA, call.head.seq, call.head.peer, data);
        let end = own().number(attribute::STATUS, 0);
        answer.extend(message(kind::STATUS, call.head.seq, call.head.peer, end));
        self.0.0.write_all(&answer).expect("ubusd reads");
    }

    fn notify(&mut self, object: u32) {
        let body = Body::default().number(attribute::OBJID, object).text(attribute::METHOD, "interface.update");
        let body = body.nested(attribute::DATA, &[]).flag(attribute::NO_REPLY);
        self.0.0.write_all(&message(kind::NOTIFY, 7, object, body)).expect("ubusd reads");
    }
}

#[tokio::test]
async fn netifd_is_heard_when_it_comes_when_something_changes_and_when_it_comes_again() {
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        return println!("skipped: an emulator does not know the addresses of interfaces");
    }
    let Some(ubusd) = Ubusd::start().await else { return };
    let mut relay = gateway(&ubusd.place.socket()).prepare();
    relay.configure("listener", "plant", |section| {
        section.list("interface", "plant").list("allow", "127.0.0.0/8").option("port", 0)
    });
    relay.spawn();
    ubusd.joined().await;
    // The next look would be a minute later: what is seen in time was heard.
    for first in ["127.0.0.2", "127.0.0.4"] {
        let mark = relay.mark();
        let (socket, second) = (ubusd.place.socket(), if first == "127.0.0.2" { "127.0.0.3" } else { "127.0.0.5" });
        let (leave, told) = std::sync::mpsc::channel::<()>();
        let netifd = tokio::task::spawn_blocking(move || {
            let (mut netifd, object) = Netifd::join(&socket);
            netifd.dump(object, &network("plant", "no-such", first));
            netifd.notify(object);
            netifd.dump(object, &network("plant", "no-such", second));
            // It stays until the test has seen what it wants.
            let _ = told.recv();
        });
        for address in [first, second] {
            let listens = |line: &str| line.contains("listener=plant") && line.contains(&format!("address={address} "));
            relay.wait_log_from(mark, listens, SOON).await;
        }
        drop(leave);
        netifd.await.expect("netifd was asked twice");
    }
}

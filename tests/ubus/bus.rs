// SPDX-License-Identifier: Apache-2.0
//! A stand-in for ubusd in the test process. What it says is what was recorded of the real one, with the numbers of the
//! requests put in; what the program says is looked at byte for byte where it was recorded too.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use smtprelay::ubus::blobmsg;
use smtprelay::ubus::message::{Body, HEAD, attribute, kind};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::support::ask::SOON;
use super::wire::{Message, has, head, hex, message, numbered, seen};

/// The numbers of other objects; any would do.
pub const EAR: u32 = 0x8ea0_0001;
pub const NETIFD: u32 = 0x0e7f_0001;

/// The bus.
pub struct Bus {
    folder: TempDir,
    listener: Option<UnixListener>,
}

impl Bus {
    /// A place for a bus on which nobody is yet.
    pub fn absent() -> Bus {
        let folder = tempfile::Builder::new().prefix("smtprelay-ubus-").tempdir().expect("a folder");
        super::support::certs::open_to_all(folder.path());
        Bus { folder, listener: None }
    }

    pub fn start() -> Bus {
        let mut bus = Bus::absent();
        bus.appear();
        bus
    }

    pub fn appear(&mut self) {
        self.listener = Some(UnixListener::bind(self.socket()).expect("a socket"));
        std::fs::set_permissions(self.socket(), std::fs::Permissions::from_mode(0o666)).expect("a mode");
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("ubus.sock")
    }

    /// The next program that comes, greeted.
    pub async fn join(&self) -> Peer {
        let listener = self.listener.as_ref().expect("a bus that is there");
        let (stream, _) = timeout(SOON, listener.accept()).await.expect("somebody in time").expect("a connection");
        let (from, to) = stream.into_split();
        let peer = Peer { from, side: Side { to: Arc::new(Mutex::new(to)), netifd: Arc::default() } };
        peer.send(&hex(seen::HELLO)).await;
        peer
    }
}

/// A program on the bus.
pub struct Peer {
    from: OwnedReadHalf,
    side: Side,
}

/// What can be done to a program while somebody else reads what it says.
#[derive(Clone)]
pub struct Side {
    to: Arc<Mutex<OwnedWriteHalf>>,
    netifd: Arc<Mutex<Option<Value>>>,
}

impl Side {
    pub async fn send(&self, bytes: &[u8]) {
        self.to.lock().await.write_all(bytes).await.expect("a program that reads");
    }

    /// What netifd answers to `dump` from now on; it is not there without.
    pub async fn netifd(&self, dump: Value) {
        *self.netifd.lock().await = Some(dump);
    }
}

impl Peer {
    pub async fn send(&self, bytes: &[u8]) {
        self.side.send(bytes).await;
    }

    pub fn side(&self) -> Side {
        self.side.clone()
    }

    /// Answers what is for ubusd until the program has closed the connection.
    pub async fn serve(mut self) {
        while self.next().await.is_some() {}
    }

    /// The next message. What is for ubusd itself is answered. `None` when the program has closed the connection.
    pub async fn next(&mut self) -> Option<Message> {
        let mut first = [0; HEAD];
        timeout(SOON, self.from.read_exact(&mut first)).await.expect("a message in time").ok()?;
        let (head, length) = head(&first);
        let mut body = vec![0; length];
        self.from.read_exact(&mut body).await.expect("the rest of the message");
        let message = Message { head, body };
        self.answer(&message).await;
        Some(message)
    }

    /// The next message that fits.
    pub async fn until(&mut self, fits: impl Fn(&Message) -> bool) -> Message {
        loop {
            let message = self.next().await.expect("the message, not the end");
            if fits(&message) {
                return message;
            }
        }
    }

    /// Waits for the object, and returns the message that publishes it.
    pub async fn published(&mut self) -> Message {
        self.until(|message| message.head.kind == kind::ADD_OBJECT && !message.body.is_empty()).await
    }

    /// The answer to the call `seq`: its data and its status.
    pub async fn answer_to(&mut self, seq: u16) -> (Option<Value>, u32) {
        let answer = |message: &Message| matches!(message.head.kind, kind::DATA | kind::STATUS);
        let mut data = None;
        loop {
            let message = self.until(|message| answer(message) && message.head.seq == seq).await;
            if message.head.kind == kind::STATUS {
                return (data, message.number(attribute::STATUS).expect("a status"));
            }
            data = message.data();
        }
    }

    async fn answer(&self, asked: &Message) {
        let netifd = self.side.netifd.lock().await.clone();
        let seq = asked.head.seq;
        let status = |status: u32| Body::default().number(attribute::STATUS, status);
        let found = |object: u32| {
            let mut answer = message(kind::DATA, seq, 0, Body::default().number(attribute::OBJID, object));
            answer.extend(numbered(seen::PUBLISHED[1], seq));
            answer
        };
        let answer = match asked.head.kind {
            kind::ADD_OBJECT if asked.body.is_empty() => found(EAR),
            kind::ADD_OBJECT => seen::PUBLISHED.iter().flat_map(|recorded| numbered(recorded, seq)).collect(),
            kind::LOOKUP if asked.text(attribute::OBJPATH) == Some("network.interface") && netifd.is_some() => {
                found(NETIFD)
            }
            kind::LOOKUP => numbered(seen::NOT_FOUND, seq),
            kind::SUBSCRIBE => numbered(seen::PUBLISHED[1], seq),
            kind::INVOKE if asked.number(attribute::OBJID) == Some(NETIFD) => {
                let dump = blobmsg::encode(netifd.as_ref().unwrap_or(&json!({}))).expect("a table");
                let data = Body::default().number(attribute::OBJID, NETIFD).nested(attribute::DATA, &dump);
                let mut answer = message(kind::DATA, seq, NETIFD, data);
                answer.extend(message(kind::STATUS, seq, NETIFD, status(0).number(attribute::OBJID, NETIFD)));
                answer
            }
            kind::INVOKE if asked.text(attribute::METHOD) == Some("register") => {
                // As ubusd does: a number of 32 bits, or it is as good as none.
                assert!(has(&asked.body, "85000014 00066f62 6a656374 00000000 8ea00001"), "{asked:?}");
                numbered(seen::EVENT_SENT, seq)
            }
            kind::INVOKE => numbered(seen::EVENT_SENT, seq),
            _ => return,
        };
        // A program that has left in the meantime shows with the next read.
        let _ = self.side.to.lock().await.write_all(&answer).await;
    }
}

/// netifd's word on one network: up on this interface, with this address.
pub fn network(name: &str, device: &str, address: &str) -> Value {
    json!({ "interface": [{
        "interface": name, "up": true, "device": device, "l3_device": device,
        "ipv4-address": [{ "address": address, "mask": 8 }], "ipv6-address": [],
    }] })
}

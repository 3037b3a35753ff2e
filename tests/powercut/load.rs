// SPDX-License-Identifier: Apache-2.0
//! The devices: many sessions at once that send message after message until the power is cut, and remember what they
//! were promised.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::support::client::{Client, Reply};
use super::support::watch::Watched;

/// Sessions at the same time.
pub const SESSIONS: usize = 40;
/// How long a session waits for a reply: an emulated machine with a slow disk and many sessions.
const REPLY_LIMIT: Duration = Duration::from_secs(120);

/// This recipient is refused for the time being while the provider is in that mood.
pub const LATE: &str = "late@example.com";

/// A message that got its 250.
#[derive(Clone, Debug)]
pub struct Promise {
    /// Its subject: unlike that of any other message.
    pub name: String,
    /// Its queue ID.
    pub id: String,
    /// Who has to get it.
    pub recipients: Vec<&'static str>,
    /// When the 250 came.
    pub at: Instant,
}

/// Random numbers that a seed repeats (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// All sessions of one load.
pub struct Load {
    promises: Watched<Vec<Promise>>,
    sessions: JoinSet<()>,
}

impl Load {
    /// Starts the sessions. Each goes on until its connection ends, or until it has sent `each` messages. The messages'
    /// names begin with `name`.
    pub async fn start(addr: SocketAddr, name: &str, each: usize, dice: &mut Dice) -> Load {
        let promises = Watched::new(Vec::new());
        // One behind the other, for qemu's network keeps only one connection waiting.
        let mut clients = Vec::new();
        for _ in 0..SESSIONS {
            let mut client = Client::greeted(addr).await;
            client.set_limit(REPLY_LIMIT);
            clients.push(client);
        }
        let mut sessions = JoinSet::new();
        for (session, client) in clients.into_iter().enumerate() {
            let name = format!("{name}s{session}");
            sessions.spawn(converse(client, name, each, Dice(dice.below(u64::MAX)), promises.clone()));
        }
        Load { promises, sessions }
    }

    /// Waits until so many messages got their 250. On a busy host that may take long, but something has to go on.
    pub async fn wait(&self, count: usize) {
        let mut seen = 0;
        while seen < count {
            let more = |promises: &Vec<Promise>| Some(promises.len()).filter(|now| *now > seen);
            let Some(now) = self.promises.wait(REPLY_LIMIT, more).await else {
                panic!("only {seen} of {count} messages were accepted");
            };
            seen = now;
        }
    }

    /// Waits until all sessions have ended, because the power is cut or because all is sent. Returns the promises.
    pub async fn finish(mut self) -> Vec<Promise> {
        while let Some(ended) = self.sessions.join_next().await {
            ended.expect("a session");
        }
        self.promises.read(Vec::clone)
    }
}

/// The text of a message, with CRLF: whether it arrives whole can be seen.
pub fn text(name: &str, lines: u64) -> String {
    let body: String = (0..lines).map(|line| format!("line {line} of {name}\r\n")).collect();
    format!("From: plc@example.com\r\nSubject: {name}\r\nX-Lines: {lines}\r\n\r\n{body}end of {name}\r\n")
}

/// One session. The end of the connection ends it; anything but the reply that belongs there is a failure.
async fn converse(mut client: Client, name: String, each: usize, mut dice: Dice, promises: Watched<Vec<Promise>>) {
    if !said(&mut client, "EHLO plc", 250).await {
        return;
    }
    for number in 0..each {
        let name = format!("{name}m{number}");
        let recipients = match dice.below(4) {
            0 => vec!["ops@example.com", LATE],
            1 => vec!["ops@example.com", LATE, "night@example.com"],
            _ => vec!["ops@example.com"],
        };
        // Mostly an alarm of a few lines, sometimes a report that needs several writes.
        let lines = if dice.below(8) == 0 { 500 + dice.below(1500) } else { dice.below(40) };
        if !said(&mut client, "MAIL FROM:<plc@example.com>", 250).await {
            return;
        }
        for recipient in &recipients {
            if !said(&mut client, &format!("RCPT TO:<{recipient}>"), 250).await {
                return;
            }
        }
        if !said(&mut client, "DATA", 354).await
            || client.write(format!("{}.\r\n", text(&name, lines)).as_bytes()).await.is_err()
        {
            return;
        }
        let Some(reply) = heard(&mut client).await else { return };
        let text = reply.text();
        let (250, Some((_, id))) = (reply.code, text.split_once("queued as ")) else {
            panic!("reply to the message {name}: {reply:?}");
        };
        let id = id.split_whitespace().next().unwrap_or_default().to_owned();
        let at = Instant::now();
        promises.change(|all| all.push(Promise { name, id, recipients, at }));
    }
    let _ = said(&mut client, "QUIT", 221).await;
}

/// Says a line and hears this reply; false when the connection has ended.
async fn said(client: &mut Client, line: &str, code: u16) -> bool {
    if client.write(format!("{line}\r\n").as_bytes()).await.is_err() {
        return false;
    }
    let reply = heard(client).await;
    assert!(reply.as_ref().is_none_or(|reply| reply.code == code), "reply to {line:?}: {reply:?}");
    reply.is_some()
}

/// The next reply; none when the connection has ended.
async fn heard(client: &mut Client) -> Option<Reply> {
    match client.try_reply().await {
        Ok(reply) => reply,
        Err(error) if error.kind() == ErrorKind::TimedOut => panic!("no reply: {error}"),
        // Cut in the middle of a line.
        Err(_) => None,
    }
}

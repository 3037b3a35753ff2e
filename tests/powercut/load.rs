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

/// How the reply begins to a message that could not be written to the disk.
const UNWRITABLE: &str = "4.3.0 Cannot write";

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
    heard: Watched<Heard>,
    sessions: JoinSet<()>,
}

/// What all sessions of a load were told so far about their messages.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Those that were taken.
    pub promises: Vec<Promise>,
    /// The first words to those that were not, because the queue could not be written: each ends its session.
    pub refusals: Vec<String>,
}

impl Load {
    /// Starts the sessions. Each goes on until its connection ends, or until it has sent `each` messages. The messages'
    /// names begin with `name`.
    pub async fn start(addr: SocketAddr, name: &str, each: usize, dice: &mut Dice) -> Load {
        let heard = Watched::new(Heard::default());
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
            sessions.spawn(converse(client, name, each, Dice(dice.below(u64::MAX)), heard.clone()));
        }
        Load { heard, sessions }
    }

    /// Waits until so many messages got their 250, or one was refused. On a busy host that may take long, but something
    /// has to go on.
    pub async fn wait(&self, count: usize) {
        let mut seen = 0;
        while seen < count {
            let more = |heard: &Heard| match heard.refusals.is_empty() {
                true => Some(heard.promises.len()).filter(|now| *now > seen),
                false => Some(usize::MAX),
            };
            let Some(now) = self.heard.wait(REPLY_LIMIT, more).await else {
                panic!("only {seen} of {count} messages were accepted");
            };
            seen = now;
        }
    }

    /// Waits until all sessions have ended, because the power is cut or because all is sent. Returns the promises. Panics
    /// if a message was refused.
    pub async fn finish(self) -> Vec<Promise> {
        let heard = self.finish_anyhow().await;
        assert_eq!(heard.refusals, [""; 0], "refused");
        heard.promises
    }

    /// The same, for a file system that may have given up.
    pub async fn finish_anyhow(mut self) -> Heard {
        while let Some(ended) = self.sessions.join_next().await {
            ended.expect("a session");
        }
        self.heard.read(Heard::clone)
    }
}

/// The text of a message, with CRLF: whether it arrives whole can be seen.
pub fn text(name: &str, lines: u64) -> String {
    let body: String = (0..lines).map(|line| format!("line {line} of {name}\r\n")).collect();
    format!("From: plc@example.com\r\nSubject: {name}\r\nX-Lines: {lines}\r\n\r\n{body}end of {name}\r\n")
}

/// One session. The end of the connection ends it, and so does a queue that cannot be written; anything else but the reply
/// that belongs there is a failure.
async fn converse(mut client: Client, name: String, each: usize, mut dice: Dice, all: Watched<Heard>) {
    if !said(&mut client, "EHLO plc", 250, &all).await {
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
        if !said(&mut client, "MAIL FROM:<plc@example.com>", 250, &all).await {
            return;
        }
        for recipient in &recipients {
            if !said(&mut client, &format!("RCPT TO:<{recipient}>"), 250, &all).await {
                return;
            }
        }
        if !said(&mut client, "DATA", 354, &all).await
            || client.write(format!("{}.\r\n", text(&name, lines)).as_bytes()).await.is_err()
        {
            return;
        }
        let Some(reply) = heard(&mut client).await else { return };
        if refused(&name, &reply, &all) {
            return;
        }
        let text = reply.text();
        let (250, Some((_, id))) = (reply.code, text.split_once("queued as ")) else {
            panic!("reply to the message {name}: {reply:?}");
        };
        let id = id.split_whitespace().next().unwrap_or_default().to_owned();
        let at = Instant::now();
        all.change(|all| all.promises.push(Promise { name, id, recipients, at }));
    }
    let _ = said(&mut client, "QUIT", 221, &all).await;
}

/// Says a line and hears this reply; false when the session has to end.
async fn said(client: &mut Client, line: &str, code: u16, all: &Watched<Heard>) -> bool {
    if client.write(format!("{line}\r\n").as_bytes()).await.is_err() {
        return false;
    }
    let Some(reply) = heard(client).await else { return false };
    if refused(line, &reply, all) {
        return false;
    }
    assert_eq!(reply.code, code, "reply to {line:?}: {reply:?}");
    true
}

/// Whether this is the reply of a gateway that cannot write its queue; it is remembered.
fn refused(to: &str, reply: &Reply, all: &Watched<Heard>) -> bool {
    let text = reply.text();
    let unwritable = reply.code == 451 && text.starts_with(UNWRITABLE);
    if unwritable {
        all.change(|all| all.refusals.push(format!("{to}: {} {text}", reply.code)));
    }
    unwritable
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

// SPDX-License-Identifier: Apache-2.0
//! Runs one cell of the table: a provider of its own, a relay of its own, one message.

use std::time::Duration;

use super::support::ask::said;
use super::support::certs::Certs;
use super::support::client::Client;
use super::support::provider::{Fault, Message, Provider, Step, Times, TlsMode};
use super::support::relay::{Relay, RelayBuilder, Section, field};

/// Long enough for a slow machine; nothing waits so long.
pub const SOON: Duration = Duration::from_secs(120);
/// Option `timeout` of the account where a server hangs, in seconds.
const PATIENCE: u32 = 6;
const TEXT: &str = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\nDate: Mon, 23 Nov 2026 01:02:03 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nalarm\r\n";

/// How the text leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With BDAT, in one flight with the envelope. A first message by DATA opens the way.
    Bdat,
    /// After the 354, with the envelope in one flight. In a cell the server offers CHUNKING as well, but has not carried a
    /// message yet.
    Flight,
    /// After the 354, each command by itself.
    StepByStep,
}

impl Way {
    pub const ALL: [Way; 3] = [Way::Bdat, Way::Flight, Way::StepByStep];
}

/// What has to come of a message that meets a fault once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The account pauses for so many seconds.
    Paused(u32),
    /// The message waits by itself.
    Waits,
    /// As `Waits`, and it may come twice.
    MayDouble,
    /// The message is given up, and its sender hears of it.
    Failed,
    /// No harm is done.
    Delivered,
    /// The answer to the text can't be told from one too many before it: delivered, or as `MayDouble`.
    Untold,
}

/// One cell.
#[derive(Clone, Debug)]
pub struct Cell {
    pub step: Step,
    /// The fault as the table calls it.
    pub name: String,
    /// None: nothing listens.
    pub fault: Option<Fault>,
    pub way: Way,
    pub expect: Expect,
    /// The sender is the account's own address, not the device's.
    pub own_sender: bool,
}

impl Cell {
    pub fn new(step: Step, name: &str, fault: Option<Fault>, way: Way, expect: Expect) -> Cell {
        Cell { step, name: name.to_owned(), fault, way, expect, own_sender: false }
    }

    pub fn hangs(&self) -> bool {
        matches!(self.fault, Some(Fault::Hang))
    }
}

/// What came of a cell.
pub struct Seen {
    /// The line of the log with the verdict.
    pub line: String,
    /// How often the message arrived.
    pub copies: usize,
}

/// A provider, and the account at it. STARTTLS, because it has the most steps.
pub async fn provider(certs: &Certs, way: Way) -> Provider {
    let builder = Provider::builder().certs(certs).tls(TlsMode::StartTls).login("u", "p");
    builder.with(|s| (s.pipelining, s.chunking) = (way != Way::StepByStep, way == Way::Bdat)).start().await
}

pub async fn relay_to(provider: &Provider, change: impl FnOnce(Section) -> Section) -> Relay {
    let account = Section::account("provider", provider).option("from_policy", "keep");
    Relay::builder().durability("memory").section(change(account)).start().await
}

/// One connection at a time, and what else is set.
pub async fn relay_with(provider: &Provider, change: impl FnOnce(RelayBuilder) -> RelayBuilder) -> Relay {
    let account = Section::account("provider", provider).option("from_policy", "keep").option("connections", 1);
    change(Relay::builder().durability("memory").section(account)).start().await
}

/// Hands a message to the relay; returns its name in the queue.
pub async fn send_to(relay: &Relay, to: &[&str]) -> String {
    send_text(relay, "plc@example.com", to, TEXT).await
}

/// As [`send_to`], from a sender of its own: one who has many failures hears of them in one mail, later.
pub async fn send_from(relay: &Relay, from: &str, to: &[&str]) -> String {
    send_text(relay, from, to, TEXT).await
}

/// As [`send_to`], with `bytes` of text behind the usual one.
pub async fn send_large(relay: &Relay, to: &[&str], bytes: usize) -> String {
    send_text(relay, "plc@example.com", to, &format!("{TEXT}{}", "0123456789abcdef\r\n".repeat(bytes / 18))).await
}

async fn send_text(relay: &Relay, from: &str, to: &[&str], text: &str) -> String {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let reply = device.send(from, to, text).await;
    assert_eq!(reply.code, 250, "{reply:?}");
    reply.text().rsplit(' ').next().expect("a name").to_string()
}

/// Whom the message goes to that opens the way for BDAT.
const OPENING: &str = "opening@example.com";

/// Sends a first message by DATA where the text is to leave with BDAT.
pub async fn open_way(relay: &Relay, way: Way) {
    if way == Way::Bdat {
        let id = send_to(relay, &[OPENING]).await;
        removed(relay, &id).await;
    }
}

/// The first line that says what became of a message or of the account.
pub async fn verdict(relay: &Relay) -> String {
    let verdicts = ["paused", "deferred", "failed", "delivered", "spool_trouble", "set_aside"];
    let is_one = |line: &str| field(line, "event").is_some_and(|event| verdicts.contains(&event));
    relay.wait_log(|line| is_one(line) && !line.contains(OPENING), SOON).await
}

pub async fn removed(relay: &Relay, id: &str) {
    let gone = |line: &str| field(line, "event") == Some("removed") && field(line, "id") == Some(id);
    relay.wait_log(gone, SOON).await;
}

/// What arrived but for the opening, notices too.
fn heard(provider: &Provider) -> Vec<Message> {
    provider.messages().into_iter().filter(|message| message.recipients != [OPENING]).collect()
}

/// What arrived but for the opening, without notices.
pub fn mail(provider: &Provider) -> Vec<Message> {
    heard(provider).into_iter().filter(|message| !message.sender.is_empty()).collect()
}

/// Runs one cell and checks all but the words.
pub async fn run(cell: &Cell, certs: &Certs) -> Seen {
    let what = format!("{:?} {} {:?}", cell.step, cell.name, cell.way);
    let provider = provider(certs, cell.way).await;
    provider.change(|settings| settings.chunking = settings.pipelining);
    let hangs = cell.hangs();
    let relay = relay_to(&provider, |account| match (hangs, cell.own_sender) {
        (true, _) => account.option("timeout", PATIENCE),
        (_, true) => account.option("from_policy", "account"),
        _ => account,
    })
    .await;
    open_way(&relay, cell.way).await;
    if cell.way == Way::Bdat {
        // What a new connection meets is not asked again on another one.
        provider.restart().await;
    }
    // These steps come only after something else has gone wrong.
    match cell.step {
        Step::Rset => provider.set_fault(Step::AnyRcpt, reply("450 4.2.0 Later"), Times::First(1)),
        Step::Quit => provider.set_fault(Step::Mail, reply("451 4.7.1 Later"), Times::First(1)),
        _ => {}
    }
    match &cell.fault {
        Some(fault) => provider.set_fault(cell.step.clone(), fault.clone(), Times::First(1)),
        None => provider.stop().await,
    }
    let id = send_to(&relay, &["ops@example.com"]).await;
    let line = verdict(&relay).await;
    let seen = match (field(&line, "event"), field(&line, "next")) {
        (Some("paused"), Some(next)) => Expect::Paused(next.trim_end_matches('s').parse().expect("seconds")),
        (Some("deferred"), _) if cell.expect == Expect::MayDouble => Expect::MayDouble,
        (Some("deferred" | "delivered"), _) if cell.expect == Expect::Untold => Expect::Untold,
        (Some("deferred"), _) => Expect::Waits,
        (Some("failed"), _) => Expect::Failed,
        (Some("delivered"), _) => Expect::Delivered,
        _ => panic!("{what}: {line}"),
    };
    assert_eq!(seen, cell.expect, "{what}: {line}\n{}", provider.transcript());
    // The reason says what the server said, and that nothing is lost.
    let (Some(Fault::Reply(text) | Fault::CloseAfterReply(text)), false) = (&cell.fault, is_odd(&cell.step)) else {
        return finish(cell, &what, &provider, &relay, &id, line).await;
    };
    // Of two replies it is the second one, or what comes of it.
    assert!(line.contains(text.as_str()) || text.contains("\r\n"), "{what}: {line}");
    finish(cell, &what, &provider, &relay, &id, line).await
}

/// Steps where the reply of the fault is not what the log speaks of.
fn is_odd(step: &Step) -> bool {
    matches!(step, Step::Connect | Step::Handshake | Step::Rset | Step::Quit)
}

async fn finish(cell: &Cell, what: &str, provider: &Provider, relay: &Relay, id: &str, line: String) -> Seen {
    let waits = field(&line, "event") != Some("failed") && field(&line, "event") != Some("delivered");
    assert_eq!(line.contains("waits") || line.contains("will be retried"), waits, "{what}: {line}");
    match cell.fault {
        Some(_) => provider.wait_for_line(&format!("*: at {:?}", cell.step), SOON).await,
        None => provider.restart().await,
    }
    match cell.expect {
        // Comes back by itself; one column is enough to see it.
        Expect::Paused(3) if matches!(cell.fault, None | Some(Fault::Close)) => {}
        _ if !waits => {}
        _ => drop(said(relay, "queue retry all").await),
    }
    removed(relay, id).await;
    let most = match cell.expect {
        Expect::Failed => 0..=0,
        Expect::MayDouble | Expect::Untold => 1..=2,
        _ => 1..=1,
    };
    // With a reply too many the gateway is done before the provider has read the text.
    let opened = usize::from(cell.way == Way::Bdat);
    provider.wait_for_messages(most.start() + opened, SOON).await;
    let copies = mail(provider).len();
    assert!(most.contains(&copies), "{what}: {copies} copies\n{}", provider.transcript());
    let all = if cell.expect == Expect::Failed {
        provider.wait_for_messages(1 + opened, SOON).await;
        let told = heard(provider);
        assert_eq!(told[0].recipients, ["plc@example.com"], "{what}");
        assert!(told[0].text().contains("Action: failed\r\n"), "{what}");
        told.len()
    } else {
        assert!(!relay.log().iter().any(|line| field(line, "event") == Some("failed")), "{what}");
        copies
    };
    assert_eq!(heard(provider).len(), all, "{what}");
    let chunks = provider.connections().iter().any(|connection| connection.verbs.iter().any(|verb| verb == "BDAT"));
    // Where the fault comes before, the server does not get to see it.
    let reached = matches!(cell.step, Step::Text | Step::Dot | Step::Rset | Step::Quit);
    let fits = if cell.way == Way::Bdat { chunks || !reached } else { !chunks };
    assert!(fits, "{what}: BDAT: {chunks}\n{}", provider.transcript());
    let mut complaints = provider.complaints();
    if matches!(&cell.fault, Some(Fault::Reply(text)) if text.contains("\r\n")) {
        // Whoever hears the second reply early sends the next command early.
        complaints.retain(|complaint| !complaint.contains("though PIPELINING is not offered"));
    }
    assert_eq!(complaints, Vec::<String>::new(), "{what}\n{}", provider.transcript());
    Seen { line, copies }
}

fn reply(text: &str) -> Fault {
    Fault::Reply(text.to_owned())
}

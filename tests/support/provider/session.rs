// SPDX-License-Identifier: Apache-2.0
//! One conversation, as a strict server holds it (RFC 5321).

use std::sync::Arc;

use tokio::net::TcpStream;

use super::super::stream::Stream;
use super::record::{Connection, Event, Tls};
use super::script::{Fault, Plan, Step};
use super::transaction::Transaction;
use super::wire::{End, Wire};
use super::{Settings, Shared, TlsMode};

/// One connection and how far it has come.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Settings,
    id: usize,
    pub(super) wire: Wire,
    /// The client said EHLO; with HELO there are no extensions.
    pub(super) extended: bool,
    pub(super) greeted: bool,
    pub(super) tls: Option<Tls>,
    pub(super) user: Option<String>,
    pub(super) transaction: Option<Transaction>,
    /// The last MAIL was refused, and the client may not know it yet.
    pub(super) mail_refused: bool,
    /// MAIL commands that were taken.
    pub(super) taken: usize,
}

impl Session {
    pub fn new(shared: Arc<Shared>, tcp: TcpStream) -> Session {
        let settings = shared.settings();
        let id = shared.record.change(|record| {
            record.connections.push(Connection::default());
            record.connections.len() - 1
        });
        let _ = tcp.set_nodelay(true);
        Session {
            shared,
            settings,
            id,
            wire: Wire::new(Stream::Plain(tcp)),
            extended: false,
            greeted: false,
            tls: None,
            user: None,
            transaction: None,
            mail_refused: false,
            taken: 0,
        }
    }

    /// Talks until the connection is over.
    pub async fn run(mut self) {
        self.note("*: connected");
        let end = match self.converse().await {
            Ok(()) | Err(End::Closed) => "*: closed".to_owned(),
            Err(End::Failed(error)) => format!("*: lost: {error}"),
        };
        self.note(&end);
        if !self.reset_wanted() {
            // With TLS this says goodbye properly before the FIN.
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.wire.stream).await;
        }
    }

    async fn converse(&mut self) -> Result<(), End> {
        let plan = self.plan(Step::Connect, "");
        self.carry_out(plan).await?;
        if self.settings.tls == TlsMode::Implicit {
            self.handshake().await?;
        }
        if self.wire.has_more().await {
            self.complain("spoke before the greeting");
        }
        let plan = self.plan(Step::Greeting, &self.settings.greeting.clone());
        self.carry_out(plan).await?;
        loop {
            let line = self.command_line("a command").await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            self.command(verb.to_ascii_uppercase().as_str(), argument).await?;
        }
    }

    /// Reads a line that is not text of a message, and objects to what RFC 5321 section 2.3.8 forbids.
    pub(super) async fn command_line(&mut self, what: &str) -> Result<Vec<u8>, End> {
        let line = self.wire.line().await?;
        if line.bare_lf {
            self.complain(&format!("{what} ends with a lone LF"));
        }
        if line.bytes.contains(&b'\r') {
            self.complain(&format!("{what} contains a lone CR"));
        }
        if line.bytes.contains(&0) {
            self.complain(&format!("{what} contains NUL"));
        }
        Ok(line.bytes)
    }

    async fn command(&mut self, verb: &str, argument: &str) -> Result<(), End> {
        let shown = if verb == "AUTH" { argument.split(' ').next().unwrap_or_default() } else { argument };
        self.note(format!("C: {verb} {shown}").trim_end());
        self.connection(|connection| connection.verbs.push(verb.to_owned()));
        // RFC 5321 section 4.5.3.1.4, and the room that the extensions in use ask for on top.
        let limit = match verb {
            "AUTH" => 12288,
            "MAIL" | "RCPT" => 1024,
            _ => 512,
        };
        if verb.len() + argument.len() + 3 > limit {
            self.complain(&format!("{verb} is longer than {limit} bytes"));
        }
        if !argument.is_ascii() && verb != "MAIL" && verb != "RCPT" {
            self.complain(&format!("{verb} is not ASCII"));
        }
        self.check_pipelining(verb).await;
        match verb {
            "EHLO" | "HELO" => self.hello(verb, argument).await,
            "STARTTLS" => self.starttls(argument).await,
            "AUTH" => self.auth(argument).await,
            "MAIL" => self.mail(argument).await,
            "RCPT" => self.rcpt(argument).await,
            "DATA" => self.data(argument).await,
            "BDAT" => self.bdat(argument).await,
            "RSET" => {
                let plan = self.plan(Step::Rset, "250 2.0.0 Ok");
                if plan.takes_effect() {
                    self.transaction = None;
                    self.mail_refused = false;
                }
                self.carry_out(plan).await
            }
            "NOOP" => {
                let plan = self.plan(Step::Noop, "250 2.0.0 Ok");
                self.carry_out(plan).await
            }
            "QUIT" => {
                self.connection(|connection| connection.quit = true);
                let plan = self.plan(Step::Quit, "221 2.0.0 Bye");
                self.carry_out(plan).await?;
                Err(End::Closed)
            }
            _ => {
                self.complain(&format!("unknown command {verb}"));
                self.say("500 5.5.1 Unknown command").await
            }
        }
    }

    /// RFC 2920 section 3.1: what may be sent before the reply to the command before it has come.
    async fn check_pipelining(&mut self, verb: &str) {
        // What follows BDAT is its own text (RFC 3030 section 2).
        if verb == "BDAT" || !self.wire.has_more().await {
            return;
        }
        if !(self.extended && self.settings.pipelining) {
            self.complain(&format!("sent more behind {verb} though PIPELINING is not offered"));
        } else if !matches!(verb, "MAIL" | "RCPT" | "RSET") {
            self.complain(&format!("sent more behind {verb}, which must be the last of a group"));
        }
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    /// Looks up what the script has for this step.
    pub(super) fn plan(&self, step: Step, reply: &str) -> Plan {
        let fault = self.shared.take_fault(&step);
        if let Some(fault) = &fault {
            self.note(&format!("*: at {step:?}: {fault:?}"));
        }
        Plan { reply: reply.to_owned(), fault }
    }

    /// Says the reply or does what goes wrong in its place.
    pub(super) async fn carry_out(&mut self, plan: Plan) -> Result<(), End> {
        match plan.fault {
            None => self.say(&plan.reply).await,
            Some(Fault::Reply(text)) => self.say(&text).await,
            Some(Fault::CloseAfterReply(text)) => {
                self.say(&text).await?;
                Err(End::Closed)
            }
            Some(Fault::Close | Fault::AcceptThenClose) => Err(End::Closed),
            Some(Fault::Reset | Fault::AcceptThenReset) => {
                self.wire.stream.reset_on_close();
                Err(End::Closed)
            }
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Hang) => Err(self.wire.drain().await),
            Some(Fault::Garbage) => self.wire.write(GARBAGE).await,
            Some(Fault::Flood) => loop {
                self.wire.write(&[b'x'; 4096]).await?;
            },
            Some(Fault::Loose) => {
                let lines = plan.reply.split("\r\n").map(|line| (&line[..3], line[3..].trim_start_matches([' ', '-'])));
                let loose: String = lines.clone().map(|(code, text)| format!("{code}-{text}\n\r\n")).collect();
                let code = lines.last().map_or("", |(code, _)| code);
                self.wire.write(format!("\r\n{loose}{code}\r\n").as_bytes()).await
            }
            Some(Fault::Hold(gate)) => {
                gate.passed().await;
                self.say(&plan.reply).await
            }
            Some(Fault::FloodOfLines) => loop {
                self.wire.write(&b"250-and more\r\n".repeat(256)).await?;
            },
            Some(Fault::Half) => {
                let half = plan.reply.len() / 2;
                self.wire.write(&plan.reply.as_bytes()[..half]).await?;
                Err(End::Closed)
            }
        }
    }

    pub(super) async fn say(&mut self, reply: &str) -> Result<(), End> {
        if reply.is_empty() {
            return Ok(());
        }
        for line in reply.split("\r\n") {
            self.note(&format!("S: {line}"));
        }
        self.wire.write(format!("{reply}\r\n").as_bytes()).await
    }

    /// Records something that no correct client does.
    pub(super) fn complain(&self, what: &str) {
        let complaint = format!("connection {}: {what}", self.id);
        self.note(&format!("*: complaint: {what}"));
        self.shared.record.change(|record| record.complaints.push(complaint));
    }

    pub(super) fn note(&self, text: &str) {
        let event = Event { at: std::time::Instant::now(), connection: self.id, text: text.to_owned() };
        self.shared.record.change(|record| record.transcript.push(event));
    }

    pub(super) fn connection(&self, change: impl FnOnce(&mut Connection)) {
        self.shared.record.change(|record| record.connections.get_mut(self.id).map(change));
    }

    fn reset_wanted(&self) -> bool {
        self.wire.stream.tcp().is_some_and(|tcp| tcp.linger().is_ok_and(|linger| linger.is_some()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Also when the stand-in is stopped in the middle of the conversation.
        self.connection(|connection| connection.closed = true);
    }
}

/// Neither a reply nor a TLS record.
const GARBAGE: &[u8] = b"\x00\xff\xfe<!DOCTYPE html>\x01garbage 9 99 999\r\n";

//! One conversation with a device: RFC 5321 as far as the device follows it, and patience for the rest.
//!
//! Two rules stand above all forgiveness. A message whose end has arrived is accepted even when not one reply can be
//! written any more. And after DATA everything up to the end of the message is text, whatever was wrong before it: so
//! a client that sends on without waiting can never have its text taken for commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::auth::{self, Prompt, Step};
use super::data::Decoder;
use super::dialect::{self, Command};
use super::talk::{Input, Line, Talk};
use crate::config::{AuthMode, Listener};
use crate::intake::{Desk, Intake, IntakeError, Origin, Taken};
use crate::message::{Envelope, is_address};
use crate::report::Event;
use crate::system::ordered;

/// Commands that were not understood before the session ends: a device that talks something else altogether.
const NONSENSE_LIMIT: u32 = 100;
/// How long one message may take from MAIL to its end: 25 MB at 4 kB/s.
const MESSAGE_TIME: Duration = Duration::from_secs(7200);
/// What holds for all sessions of a listener while its settings stay the same.
pub struct Rules {
    /// The settings of the listener.
    pub listener: Listener,
    /// Our own name.
    pub hostname: String,
    /// Bytes of the largest message that is taken.
    pub size_limit: u64,
    /// Who gets mail for local names such as `root`.
    pub admin: Option<String>,
    /// The sender of messages that name none.
    pub fallback_from: String,
}

/// Between MAIL and the end of the message.
#[derive(Default)]
struct Transaction {
    envelope: Envelope,
    began: Option<Instant>,
}

enum Phase {
    Command,
    Login(Prompt),
    /// Text is coming. `Err` holds the reply that it will get in the end; the text itself goes nowhere.
    Text(Decoder, Box<Result<Intake, String>>),
    /// Bytes of a BDAT that was not announced; they go nowhere.
    Skip(u64),
}

/// A conversation on `stream`.
pub struct Session<S> {
    talk: Talk<S>,
    rules: Arc<Rules>,
    desk: Desk,
    origin: Origin,
    phase: Phase,
    transaction: Option<Transaction>,
    login: Option<String>,
    extended: bool,
    nonsense: u32,
    ending: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// A session with a client that may send.
    pub fn new(stream: S, rules: Arc<Rules>, desk: Desk, origin: Origin) -> Self {
        Self {
            talk: Talk::new(stream),
            rules,
            desk,
            origin,
            phase: Phase::Command,
            transaction: None,
            login: None,
            extended: false,
            nonsense: 0,
            ending: false,
        }
    }

    /// Holds the conversation until one of the two sides ends it, or `stop` does.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        // At once and before anything else: some clients only look whether a byte comes.
        let greeting = format!("220 {} ESMTP smtprelay", self.rules.hostname);
        self.reply(&greeting);
        loop {
            while self.step().await {}
            if self.ending {
                break;
            }
            self.talk.flush().await;
            if let Err(reason) = self.fill(&mut stop).await {
                self.aborted(&reason);
                break;
            }
        }
        self.talk.goodbye().await;
    }

    /// Does one thing with what has arrived; false when more input is needed or the session ends.
    async fn step(&mut self) -> bool {
        if self.ending {
            return false;
        }
        match &mut self.phase {
            Phase::Command | Phase::Login(_) => {
                let line = match self.talk.line() {
                    Line::Whole(line) => line,
                    Line::NotYet => return false,
                    Line::TooLong => {
                        self.reply("500 5.5.2 Line too long");
                        return true;
                    }
                };
                match std::mem::replace(&mut self.phase, Phase::Command) {
                    Phase::Login(prompt) => self.login_step(auth::answer(prompt, &line)),
                    _ => self.command(&line).await,
                }
                true
            }
            Phase::Text(..) => !self.talk.unread().is_empty() && self.text().await,
            Phase::Skip(left) => {
                let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(self.talk.unread().len());
                *left = left.saturating_sub(skipped as u64);
                let done = *left == 0;
                self.talk.used(skipped);
                if done {
                    self.phase = Phase::Command;
                    self.reply("502 5.5.1 BDAT was not offered");
                }
                done
            }
        }
    }

    fn reply(&mut self, text: &str) {
        self.talk.reply(text);
    }

    /// Waits for more input. The error says why there is none, empty when that is as it should be.
    async fn fill(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        if self.transaction.as_ref().and_then(|t| t.began).is_some_and(|began| began.elapsed() > MESSAGE_TIME) {
            self.reply("421 4.4.2 This message took too long");
            return Err(format!("one message took longer than {} s", MESSAGE_TIME.as_secs()));
        }
        let in_text = matches!(self.phase, Phase::Text(..));
        let limit = self.rules.listener.timeout;
        let input = tokio::select! {
            input = self.talk.fill(limit) => input,
            // A message that is on its way in may still arrive; the listener bounds how long.
            () = ordered(stop), if !in_text => {
                self.reply("421 4.3.2 The gateway is being restarted");
                return Err(String::new());
            }
        };
        let lost = "nothing of it was kept";
        match input {
            Input::Some => Ok(()),
            Input::End if in_text => Err(format!("closed the connection before the end of the text; {lost}")),
            Input::Broken(error) if in_text => {
                Err(format!("the connection broke before the end of the text, {lost}: {error}"))
            }
            // A device that resets the connection after its last message is done with us.
            Input::End | Input::Broken(_) => Err(String::new()),
            Input::Silence => {
                self.reply("421 4.4.2 Nothing came for too long");
                let silent = format!("silent for {} s", limit.as_secs());
                Err(if in_text {
                    format!("{silent} within the text, {lost} (the end must be a dot alone between CR LF)")
                } else {
                    silent
                })
            }
        }
    }

    fn aborted(&self, reason: &str) {
        if !reason.is_empty() {
            Event::Aborted { client: self.origin.name(), reason: reason.to_string() }.log();
        }
    }

    async fn command(&mut self, line: &[u8]) {
        match dialect::parse(line) {
            Command::Hello { extended, name } => self.hello(extended, name),
            Command::Mail { from, size, smtputf8 } => self.mail(from, size, smtputf8),
            Command::Rcpt { to } => self.rcpt(to),
            Command::Data => self.data(),
            Command::Auth { mechanism, initial } => {
                let step = match self.rules.listener.auth {
                    AuthMode::Ignore => auth::begin(&mechanism, initial.as_deref()),
                    AuthMode::None => Step::Refuse("503 5.5.1 No login is needed here"),
                };
                self.login_step(step);
            }
            Command::Bdat { size } => {
                self.reset();
                self.phase = Phase::Skip(size);
                if size == 0 {
                    self.phase = Phase::Command;
                    self.reply("502 5.5.1 BDAT was not offered");
                }
            }
            Command::Rset => {
                self.reset();
                self.reply("250 2.0.0 Ok");
            }
            Command::Noop => self.reply("250 2.0.0 Ok"),
            Command::Quit => {
                self.reply("221 2.0.0 Bye");
                self.ending = true;
            }
            // RFC 5321 section 3.5.3: says nothing about who exists.
            Command::Verify => self.reply("252 2.1.5 Send a message and see"),
            Command::Help => self.reply("214 2.0.0 This is smtprelay; send mail with MAIL, RCPT and DATA"),
            Command::StartTls => self.reply("502 5.5.1 TLS is not offered here"),
            Command::BadAddress(why) => {
                self.rejected(&[], &why);
                self.reply(&format!("501 5.1.3 {why}"));
            }
            Command::Empty => self.nonsense("500 5.5.2 Empty line"),
            Command::Unknown => self.nonsense("500 5.5.1 Command not understood"),
        }
    }

    fn nonsense(&mut self, reply: &str) {
        self.nonsense = self.nonsense.saturating_add(1);
        if self.nonsense > NONSENSE_LIMIT {
            self.reply("421 4.7.0 Too many lines that are no commands");
            self.aborted("sent too many lines that are no commands: is it a mail client?");
            self.ending = true;
        } else {
            self.reply(reply);
        }
    }

    fn reset(&mut self) {
        self.transaction = None;
    }

    fn hello(&mut self, extended: bool, name: String) {
        self.reset();
        self.extended = extended;
        self.origin.helo = name;
        let hostname = self.rules.hostname.clone();
        if !extended {
            self.reply(&format!("250 {hostname}"));
            return;
        }
        let login = match self.rules.listener.auth {
            AuthMode::Ignore => "250-AUTH PLAIN LOGIN\r\n",
            AuthMode::None => "",
        };
        let size = self.rules.size_limit;
        self.reply(&format!(
            "250-{hostname}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-SIZE {size}\r\n{login}250 ENHANCEDSTATUSCODES"
        ));
    }

    fn login_step(&mut self, step: Step) {
        match step {
            Step::Ask(reply, prompt) => {
                self.reply(reply);
                self.phase = Phase::Login(prompt);
            }
            Step::Accept(name) => {
                self.reply("235 2.7.0 Login accepted");
                self.login = Some(name);
            }
            Step::Refuse(reply) => self.reply(reply),
        }
    }

    /// MAIL begins a message; one that was begun before is forgotten.
    fn mail(&mut self, from: Result<String, String>, size: u64, smtputf8: bool) {
        self.reset();
        // A device with a sender that can't be used still has something to say.
        let from = from.unwrap_or_else(|why| {
            let client = self.origin.name();
            let text = format!("the sender of {client} can't be used, the account's address takes its place ({why})");
            Event::Advice { text }.log();
            self.rules.fallback_from.clone()
        });
        let limit = self.rules.size_limit;
        let envelope = Envelope { from, to: Vec::new(), smtputf8 };
        let refusal = if size > limit {
            // RFC 1870 section 6.1 (3): what can't fit is refused before it is sent.
            Err(IntakeError::TooLarge(limit))
        } else {
            self.desk.room_for(size)
        };
        match refusal {
            Ok(()) => {
                self.transaction = Some(Transaction { envelope, began: Some(Instant::now()) });
                self.reply("250 2.1.0 Ok");
            }
            Err(error) => {
                let event = Event::Rejected {
                    client: self.origin.name(),
                    from: envelope.from,
                    to: Vec::new(),
                    reply: error.to_string(),
                };
                event.log();
                self.reply(&error.reply());
            }
        }
    }

    fn rcpt(&mut self, to: Vec<String>) {
        let limit = usize::try_from(self.rules.listener.max_recipients).unwrap_or(usize::MAX);
        let admin = self.rules.admin.clone();
        let Some(transaction) = &mut self.transaction else {
            self.reply("503 5.5.1 MAIL comes first");
            return;
        };
        let known = &mut transaction.envelope.to;
        for address in to {
            // Names without a domain (`root`, and `postmaster` by RFC 5321 section 4.5.1) mean whoever runs the gateway.
            let Some(address) = Some(address.clone()).filter(|a| is_address(a)).or(admin.clone()) else {
                let text = format!("'{address}' has no domain, and option admin is not set");
                self.rejected(&[address], &text);
                self.reply(&format!("550 5.1.3 {text}"));
                return;
            };
            if known.contains(&address) {
                continue;
            }
            if known.len() >= limit {
                let text = format!("more than {limit} recipients (option max_recipients)");
                self.rejected(&[address], &text);
                self.reply("452 4.5.3 Too many recipients");
                return;
            }
            known.push(address);
        }
        self.reply("250 2.1.5 Ok");
    }

    /// DATA is always answered with 354: see the head of this file. What is wrong is said at the end.
    fn data(&mut self) {
        let intake = match &self.transaction {
            None => Err("503 5.5.1 MAIL and RCPT come first".to_string()),
            Some(transaction) if transaction.envelope.to.is_empty() => Err("554 5.5.1 No valid recipients".to_string()),
            Some(_) => self.desk.begin(self.rules.size_limit).map_err(|error| {
                self.rejected(&[], &error.to_string());
                error.reply()
            }),
        };
        self.phase = Phase::Text(Decoder::new(self.talk.bare_lf()), Box::new(intake));
        self.reply("354 End with a dot on a line of its own");
    }

    fn rejected(&self, to: &[String], reply: &str) {
        let envelope = self.transaction.as_ref().map(|t| t.envelope.clone()).unwrap_or_default();
        let to = if to.is_empty() { envelope.to } else { to.to_vec() };
        Event::Rejected { client: self.origin.name(), from: envelope.from, to, reply: reply.to_string() }.log();
    }

    /// Takes in text; true when the message has ended and commands may follow.
    async fn text(&mut self) -> bool {
        let Phase::Text(decoder, intake) = &mut self.phase else { return false };
        let unread = self.talk.unread();
        let mut text = Vec::with_capacity(unread.len());
        let end = decoder.push(unread, &mut text);
        if let Ok(open) = intake.as_mut()
            && let Err(error) = open.push(&text).await
        {
            // Swallowed to its end, so that the reply is understood.
            **intake = Err(error.reply());
            self.rejected(&[], &error.to_string());
        }
        match end {
            None => {
                self.talk.used(usize::MAX);
                false
            }
            Some(used) => {
                self.talk.used(used);
                self.end_of_text().await;
                true
            }
        }
    }

    async fn end_of_text(&mut self) {
        let Phase::Text(_, intake) = std::mem::replace(&mut self.phase, Phase::Command) else { return };
        let transaction = self.transaction.take().unwrap_or_default();
        let reply = match *intake {
            Err(reply) => reply,
            Ok(intake) => self.accept(intake, transaction.envelope).await,
        };
        self.reply(&reply);
    }

    async fn accept(&mut self, intake: Intake, envelope: Envelope) -> String {
        let rules = Arc::clone(&self.rules);
        self.origin.protocol = protocol(self.extended, self.login.is_some(), envelope.smtputf8);
        let taken = intake.finish(envelope.clone(), &self.origin, &rules.hostname, &rules.fallback_from).await;
        match taken {
            Ok(Taken { id, size, repairs }) => {
                let event = Event::Accepted {
                    id: id.clone(),
                    client: self.origin.name(),
                    helo: self.origin.helo.clone(),
                    login: self.login.clone(),
                    from: envelope.from,
                    to: envelope.to,
                    size,
                    repairs,
                };
                event.log();
                format!("250 2.0.0 Ok: queued as {id}")
            }
            Err(error) => {
                let client = self.origin.name();
                Event::Rejected { client, from: envelope.from, to: envelope.to, reply: error.to_string() }.log();
                error.reply()
            }
        }
    }
}

/// The `with` of the Received line (RFC 3848, RFC 6531 section 4.3).
fn protocol(extended: bool, login: bool, smtputf8: bool) -> &'static str {
    match (extended, login, smtputf8) {
        (false, ..) => "SMTP",
        (true, false, false) => "ESMTP",
        (true, true, false) => "ESMTPA",
        (true, false, true) => "UTF8SMTP",
        (true, true, true) => "UTF8SMTPA",
    }
}

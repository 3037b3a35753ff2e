//! One conversation with a device: RFC 5321 as far as the device follows it, and patience for the rest.
//!
//! Two rules stand above all forgiveness. A message whose end has arrived is accepted even when not one reply can be
//! written any more. And after DATA everything up to the end of the message is text, whatever was wrong before it: so
//! a client that sends on without waiting can never have its text taken for commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::auth::{self, Prompt, Step};
use super::data::Decoder;
use super::dialect::{self, Command};
use crate::config::{AuthMode, Listener};
use crate::intake::{Desk, Intake, IntakeError, Origin, Taken};
use crate::message::{Envelope, is_address};
use crate::report::Event;
use crate::system::ordered;

/// Bytes read at a time, and most that lies unread in memory.
const READ: usize = 8 << 10;
/// Bytes of a command line: RFC 4954 section 4 asks for 12288 in a login, RFC 5321 section 4.5.3.1.4 for 512.
const LINE_LIMIT: usize = 12_288;
/// Commands that were not understood before the session ends: a device that talks something else altogether.
const NONSENSE_LIMIT: u32 = 100;
/// How long one message may take from MAIL to its end: 25 MB at 4 kB/s.
const MESSAGE_TIME: Duration = Duration::from_secs(7200);
/// How long a reply may wait for a client that does not read.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// How long and how much is read after our goodbye, so that the client sees it before the connection is reset.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 10;

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
    stream: S,
    rules: Arc<Rules>,
    desk: Desk,
    origin: Origin,
    input: Vec<u8>,
    output: Vec<u8>,
    /// False once a reply could not be written: from then on we only listen.
    answering: bool,
    phase: Phase,
    transaction: Option<Transaction>,
    login: Option<String>,
    extended: bool,
    /// Whether every line so far ended with LF alone.
    bare_lf: bool,
    nonsense: u32,
    /// Within a line that is too long.
    overlong: bool,
    ending: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// A session with a client that may send.
    pub fn new(stream: S, rules: Arc<Rules>, desk: Desk, origin: Origin) -> Self {
        Self {
            stream,
            rules,
            desk,
            origin,
            input: Vec::new(),
            output: Vec::new(),
            answering: true,
            phase: Phase::Command,
            transaction: None,
            login: None,
            extended: false,
            bare_lf: true,
            nonsense: 0,
            overlong: false,
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
            self.flush().await;
            if let Err(reason) = self.fill(&mut stop).await {
                self.aborted(&reason);
                break;
            }
        }
        self.goodbye().await;
    }

    /// Does one thing with what has arrived; false when more input is needed or the session ends.
    async fn step(&mut self) -> bool {
        if self.ending {
            return false;
        }
        match &mut self.phase {
            Phase::Command | Phase::Login(_) => {
                let Some(line) = self.take_line() else { return false };
                match std::mem::replace(&mut self.phase, Phase::Command) {
                    Phase::Login(prompt) => self.login_step(auth::answer(prompt, &line)),
                    _ => self.command(&line).await,
                }
                true
            }
            Phase::Text(..) => !self.input.is_empty() && self.text().await,
            Phase::Skip(left) => {
                let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
                *left = left.saturating_sub(skipped as u64);
                let done = *left == 0;
                self.input.drain(..skipped);
                if done {
                    self.phase = Phase::Command;
                    self.reply("502 5.5.1 BDAT was not offered");
                }
                done
            }
        }
    }

    /// Takes the next complete line off the input, without its end.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let Some(lf) = memchr::memchr(b'\n', &self.input) else {
            if self.input.len() > LINE_LIMIT {
                self.input.clear();
                self.overlong = true;
            }
            return None;
        };
        let mut line: Vec<u8> = self.input.drain(..=lf).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
            self.bare_lf = false;
        }
        if std::mem::take(&mut self.overlong) || line.len() > LINE_LIMIT {
            self.reply("500 5.5.2 Line too long");
            return self.take_line();
        }
        Some(line)
    }

    fn reply(&mut self, text: &str) {
        self.output.extend_from_slice(text.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// Sends what was replied, together, as pipelining wants it (RFC 2920 section 3.2).
    async fn flush(&mut self) {
        let output = std::mem::take(&mut self.output);
        if output.is_empty() || !self.answering {
            return;
        }
        let sent = timeout(WRITE_TIME, async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        });
        // A client that is gone or does not read may still have sent a whole message.
        self.answering = matches!(sent.await, Ok(Ok(())));
    }

    /// Waits for more input. The error says why there is none, empty when that is as it should be.
    async fn fill(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        if self.transaction.as_ref().and_then(|t| t.began).is_some_and(|began| began.elapsed() > MESSAGE_TIME) {
            self.reply("421 4.4.2 This message took too long");
            return Err(format!("one message took longer than {} s", MESSAGE_TIME.as_secs()));
        }
        self.input.reserve(READ);
        let in_text = matches!(self.phase, Phase::Text(..));
        let limit = self.rules.listener.timeout;
        let read = async { timeout(limit, self.stream.read_buf(&mut self.input)).await };
        let read = tokio::select! {
            read = read => read,
            // A message that is on its way in may still arrive; the listener bounds how long.
            () = ordered(stop), if !in_text => {
                self.reply("421 4.3.2 The gateway is being restarted");
                return Err(String::new());
            }
        };
        match read {
            Ok(Ok(0)) if in_text => {
                Err("closed the connection before the end of the text; nothing of it was kept".into())
            }
            Ok(Ok(0)) => Err(String::new()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if in_text => {
                Err(format!("the connection broke before the end of the text, nothing of it was kept: {error}"))
            }
            // A device that resets the connection after its last message is done with us.
            Ok(Err(_)) => Err(String::new()),
            Err(_) => {
                self.reply("421 4.4.2 Nothing came for too long");
                Err(if in_text {
                    format!(
                        "silent for {} s within the text, nothing of it was kept (the end must be a dot alone between CR LF)",
                        limit.as_secs()
                    )
                } else {
                    format!("silent for {} s", limit.as_secs())
                })
            }
        }
    }

    fn aborted(&self, reason: &str) {
        if !reason.is_empty() {
            Event::Aborted { client: self.origin.name(), reason: reason.to_string() }.log();
        }
    }

    /// Ends the connection so that the client can still read what was said.
    async fn goodbye(&mut self) {
        self.flush().await;
        if !self.answering || self.stream.shutdown().await.is_err() {
            return;
        }
        let mut left = LINGER_BYTES;
        let mut waste = vec![0; 1024];
        let _ = timeout(LINGER_TIME, async {
            while left > 0 {
                match self.stream.read(&mut waste).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        })
        .await;
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
        self.phase = Phase::Text(Decoder::new(self.bare_lf), Box::new(intake));
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
        let mut text = Vec::with_capacity(self.input.len());
        let end = decoder.push(&self.input, &mut text);
        if let Ok(open) = intake.as_mut()
            && let Err(error) = open.push(&text).await
        {
            // Swallowed to its end, so that the reply is understood.
            **intake = Err(error.reply());
            self.rejected(&[], &error.to_string());
        }
        match end {
            None => {
                self.input.clear();
                false
            }
            Some(used) => {
                self.input.drain(..used.min(self.input.len()));
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

//! One conversation with a device: RFC 5321 as far as the device follows it, and patience for the rest.
//!
//! Two rules stand above all forgiveness. A message whose end has arrived is accepted even when not one reply can be
//! written any more. And after DATA everything up to the end of the message is text, whatever was wrong before it: so
//! a client that sends on without waiting can never have its text taken for commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::auth::{self, Prompt};
use super::connection::{Input, Line, Stream, Talk};
use super::data::Decoder;
use super::dialect::{self, Command};
use super::other_protocol::{self, Protocol};
use super::strict;
use crate::config::{Device, Dialect, Listener, Settings, User};
use crate::intake::{Desk, Intake, Origin};
use crate::message::Envelope;
use crate::policy::Policies;
use crate::queue::Client;
use crate::report::Event;
use crate::system::leases::{Leases, Sources};
use crate::system::ordered;
use pace::{Pace, Slow};
use visit::Visit;

mod hello;
mod login;
mod pace;
mod rate;
mod transaction;
mod visit;

/// Commands that were not understood before the session ends: a device that talks something else altogether.
const NONSENSE_LIMIT: u32 = 100;
/// How long the greeting waits in the dialect `strict`, to see who speaks before it.
const GREETING_PAUSE: Duration = Duration::from_millis(300);

/// What holds for all sessions of a listener while its settings stay the same.
pub struct Rules {
    /// The settings of the listener.
    pub listener: Listener,
    /// Who may log in.
    pub users: Vec<User>,
    /// What TLS needs, where the listener has it.
    pub tls: Option<TlsAcceptor>,
    /// Our own name.
    pub hostname: String,
    /// Bytes of the largest message that is taken.
    pub size_limit: u64,
    /// What holds for single devices, and who is meant by names such as `root`.
    pub policies: Policies,
    /// Which devices have which addresses.
    pub leases: Leases,
    /// The sender of messages that name none.
    pub fallback_from: String,
}

impl Rules {
    /// The rules of `listener`, with what TLS needs if it has it.
    pub fn new(listener: Listener, settings: &Settings, tls: Option<TlsAcceptor>) -> Self {
        Self {
            listener,
            users: settings.users.clone(),
            tls,
            hostname: settings.relay.hostname(),
            size_limit: settings.relay.largest_message(),
            policies: Policies::new(settings),
            leases: Leases::new(Sources::default()),
            fallback_from: settings.accounts.first().map(|a| a.from.clone()).unwrap_or_default(),
        }
    }
}

/// Between MAIL and the end of the message.
#[derive(Default)]
struct Transaction {
    envelope: Envelope,
}

enum Phase {
    Command,
    Login(Prompt),
    /// Text is coming. `Err` holds the reply that it will get in the end; the text itself goes nowhere.
    Text(Decoder, Box<Result<Intake, String>>),
    /// Bytes of a BDAT that was not announced; they go nowhere.
    Skip(u64),
}

/// A conversation.
pub struct Session {
    talk: Talk,
    rules: Arc<Rules>,
    desk: Desk,
    origin: Origin,
    phase: Phase,
    transaction: Option<Transaction>,
    /// The first refusal since MAIL, or the first for now where there is one: see [`Session::refuse`].
    refused: Option<String>,
    /// The section `device` that holds for this client; inside: none does.
    device: Option<Option<Device>>,
    /// Line ends of the text that is coming, where they matter.
    line_ends: Option<strict::LineEnds>,
    /// Name of the login that was accepted, as far as it can be read.
    login: Option<String>,
    /// Whose login that was, where logins are verified.
    user: Option<User>,
    failed_logins: u32,
    /// The reply to the last AUTH, when it said to try again later.
    login_later: Option<&'static str>,
    /// Version of TLS, once it is on.
    tls: Option<String>,
    /// HELO or EHLO was said; and whether it was EHLO.
    greeted: bool,
    extended: bool,
    /// A command was understood: the client speaks SMTP.
    understood: bool,
    nonsense: u32,
    pace: Pace,
    visit: Visit,
    ending: bool,
}

impl Session {
    /// A session with a client that may send. `tls` is the version of TLS, if `stream` is protected.
    pub fn new(stream: Stream, tls: Option<String>, rules: Arc<Rules>, desk: Desk, origin: Origin) -> Self {
        Self {
            talk: Talk::new(stream),
            rules,
            desk,
            origin,
            phase: Phase::Command,
            transaction: None,
            refused: None,
            device: None,
            line_ends: None,
            login: None,
            user: None,
            failed_logins: 0,
            login_later: None,
            tls,
            greeted: false,
            extended: false,
            understood: false,
            nonsense: 0,
            pace: Pace::new(),
            visit: Visit::default(),
            ending: false,
        }
    }

    /// Holds the conversation until one of the two sides ends it, or `stop` does.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        if self.strict() && matches!(self.talk.fill(GREETING_PAUSE).await, Input::Some) {
            self.reply(strict::TOO_EARLY);
            self.aborted("sent before the greeting, which the dialect 'strict' does not allow");
            return self.talk.goodbye().await;
        }
        // At once and before anything else: some clients only look whether a byte comes.
        let greeting = format!("220 {} ESMTP smtprelay", self.rules.hostname);
        self.reply(&greeting);
        loop {
            while self.step().await {
                if self.talk.must_flush() {
                    self.talk.flush().await;
                }
            }
            if self.ending {
                break;
            }
            self.talk.flush().await;
            self.identify().await;
            if let Err(reason) = self.fill(&mut stop).await {
                self.aborted(&reason);
                break;
            }
        }
        self.account_for();
        self.talk.goodbye().await;
    }

    /// Finds out which device this is, once, and not before the greeting is out.
    async fn identify(&mut self) {
        if self.device.is_some() {
            return;
        }
        let rules = &self.rules;
        let device = match self.origin.client {
            // Programs of this host are no device.
            None => None,
            Some(ip) if rules.policies.needs_identity() => {
                let known = rules.leases.identity(ip).await;
                rules.policies.device(ip, known.mac, known.host.as_deref())
            }
            Some(ip) => rules.policies.device(ip, None, None),
        };
        self.device = Some(device.cloned());
    }

    /// The section `device` that holds for this client.
    fn device(&self) -> Option<&Device> {
        self.device.as_ref().and_then(Option::as_ref)
    }

    /// Who its messages count for.
    fn client(&self) -> Client {
        Client::of(self.origin.client, self.device().map(|device| device.name.as_str()))
    }

    /// Does one thing with what has arrived; false when more input is needed or the session ends.
    async fn step(&mut self) -> bool {
        if self.ending {
            return false;
        }
        if !self.understood
            && let Some(protocol) = other_protocol::of_bytes(self.talk.unread())
        {
            self.speaks(protocol);
            return false;
        }
        match &mut self.phase {
            Phase::Command | Phase::Login(_) => {
                let line = self.talk.line();
                if line != Line::NotYet {
                    self.pace.line_ended();
                }
                let line = match line {
                    Line::Whole(line) => line,
                    Line::NotYet => return false,
                    Line::TooLong => {
                        self.reply("500 5.5.2 Line too long");
                        if !self.understood {
                            // Nobody knows what it was, for instance a request of HTTP with a long path.
                            self.aborted("began with a line that is too long for a command: is it a mail client?");
                            self.ending = true;
                        }
                        return !self.ending;
                    }
                };
                if self.strict() && self.talk.ended_bare() {
                    self.reply(strict::BARE_LF);
                    self.aborted("sent a line that ends with LF alone, which the dialect 'strict' does not allow");
                    self.ending = true;
                    return false;
                }
                match std::mem::replace(&mut self.phase, Phase::Command) {
                    Phase::Login(prompt) => self.login_step(auth::answer(prompt, &line)).await,
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
                    self.skipped();
                }
                done
            }
        }
    }

    /// The bytes of a BDAT have gone by.
    fn skipped(&mut self) {
        self.phase = Phase::Command;
        self.pace.text_ended();
        let reply = self.refused.clone().unwrap_or_else(|| "502 5.5.1 BDAT was not offered".into());
        self.refuse(reply);
    }

    fn strict(&self) -> bool {
        self.rules.listener.dialect == Dialect::Strict
    }

    fn reply(&mut self, text: &str) {
        self.talk.reply(text);
    }

    /// Waits for more input. The error says why there is none, empty when that is as it should be.
    async fn fill(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        let in_text = matches!(self.phase, Phase::Text(..));
        let carries = in_text || matches!(self.phase, Phase::Skip(_));
        let (timeout, in_line) = (self.rules.listener.timeout, self.talk.in_line());
        let (left, slow) = if carries { self.pace.text() } else { self.pace.command(in_line, timeout) };
        let limit = timeout.min(left);
        let (began, before) = (Instant::now(), self.talk.unread().len());
        let input = tokio::select! {
            input = self.talk.fill(limit) => input,
            // A message that is on its way in may still arrive; the listener bounds how long.
            () = ordered(stop), if !in_text => {
                self.reply("421 4.3.2 The gateway is being restarted");
                self.visit.told();
                return Err(String::new());
            }
        };
        let waited = began.elapsed();
        match carries {
            true => self.pace.text_came(self.talk.unread().len().saturating_sub(before), waited),
            false => self.pace.command_came(in_line, waited),
        }
        let lost = "nothing of it was kept";
        match input {
            Input::Some => {
                self.visit.heard();
                Ok(())
            }
            Input::End if in_text => Err(format!("closed the connection before the end of the text; {lost}")),
            Input::Broken(error) if in_text => {
                Err(format!("the connection broke before the end of the text, {lost}: {error}"))
            }
            // A device that resets the connection after its last message is done with us.
            Input::End | Input::Broken(_) => Err(String::new()),
            Input::Silence if left < timeout => {
                self.reply(if slow == Slow::Idle {
                    "421 4.4.2 Timeout, no message came"
                } else {
                    "421 4.4.2 Too slow"
                });
                Err(slow.reason())
            }
            Input::Silence => {
                self.reply("421 4.4.2 Nothing came for too long");
                let silent = format!("silent for {} s", timeout.as_secs());
                Err(if in_text {
                    format!("{silent} within the text, {lost} (the end must be a dot alone between CR LF)")
                } else {
                    silent + self.visit.silence()
                })
            }
        }
    }

    fn aborted(&mut self, reason: &str) {
        if !reason.is_empty() {
            self.visit.told();
            Event::Aborted { client: self.origin.name(), reason: reason.to_string() }.log();
        }
    }

    /// The client speaks another protocol: nothing that it sends is looked at any more.
    fn speaks(&mut self, protocol: Protocol) {
        self.reply(&protocol.reply());
        self.aborted(&format!("speaks {}, not SMTP: {}", protocol.name(), protocol.advice()));
        self.ending = true;
    }

    async fn command(&mut self, line: &[u8]) {
        if let Some(protocol) = other_protocol::of_line(line, !self.understood) {
            return self.speaks(protocol);
        }
        if self.strict() {
            let state = strict::State {
                greeted: self.greeted,
                extended: self.extended,
                transaction: self.transaction.is_some(),
                refused: self.refused.is_some(),
                login: self.login.is_some(),
            };
            if let Err(reply) = strict::check(line, state) {
                return self.nonsense(reply);
            }
        }
        let command = dialect::parse(line);
        self.understood |= !matches!(command, Command::Empty | Command::Unknown);
        match command {
            Command::Hello { extended, name } => self.hello(extended, name),
            Command::Mail { from, size, smtputf8 } => self.mail(from, size, smtputf8),
            Command::Rcpt { to } => self.rcpt(to),
            Command::Data => self.data(),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_deref()).await,
            Command::Bdat { size } => {
                self.transaction = None;
                self.pace.text_ended();
                self.phase = Phase::Skip(size);
                if size == 0 {
                    self.skipped();
                }
            }
            Command::Rset => {
                self.reset();
                self.reply("250 2.0.0 Ok");
            }
            Command::Noop => self.reply("250 2.0.0 Ok"),
            Command::Quit => {
                self.visit.quit();
                self.reply("221 2.0.0 Bye");
                self.ending = true;
            }
            // RFC 5321 section 3.5.3: says nothing about who exists.
            Command::Verify => self.reply("252 2.1.5 Send a message and see"),
            Command::Help => self.reply("214 2.0.0 This is smtprelay; send mail with MAIL, RCPT and DATA"),
            Command::StartTls => self.start_tls().await,
            Command::ManySenders(why) => {
                self.reset();
                self.rejected(&[], &why);
                self.visit.told();
                self.refuse(format!("501 5.1.7 {why}"));
            }
            Command::Empty => self.nonsense("500 5.5.2 Empty line"),
            Command::Unknown => self.nonsense("500 5.5.1 Command not understood"),
        }
    }

    /// Refuses MAIL or RCPT. Many clients send on and judge by the last reply alone, so what follows gets the same one: a
    /// queue that is full for now must not end in a `503`, for which mail is given up (RFC 5321 section 4.2.1). A refusal
    /// for now stands before one for good: another attempt can only help.
    fn refuse(&mut self, reply: String) {
        let for_now = |reply: &str| reply.starts_with('4');
        if self.refused.as_deref().is_none_or(|first| !for_now(first) && for_now(&reply)) {
            self.refused = Some(reply.clone());
        }
        self.reply(&reply);
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
        self.refused = None;
    }
}

// SPDX-License-Identifier: Apache-2.0
//! One conversation with a device: RFC 5321 as far as the device follows it, and tolerance beyond that.
//!
//! Two rules take precedence over all tolerance. A message whose end has arrived is accepted even if not a single reply
//! can be written any more. And after DATA, everything up to the end of the message is text, whatever was wrong before
//! it: a client that keeps sending without waiting can never have its text interpreted as commands.
//!
//! This file has the conversation from greeting to QUIT, with HELO, EHLO and STARTTLS; `auth` logs in, `mail` is a
//! transaction, `pace` limits how long each part may take. A session without a message is logged once at its end: a
//! user who sets up a device keeps trying until mail arrives. Activity that is of no consequence to the gateway (a
//! connection test, a login of an unknown kind, a port scan) is then the only sign that the device reaches it at all.

mod auth;
mod mail;
mod pace;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pace::{Pace, Slow};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::connection::{Input, InputLine, Stream, Talk};
use super::data::{Decoder, LineEnds};
use super::dialect::{self, Command, SessionState};
use super::logins::{Prompt, answer};
use super::other_protocol::{self, Protocol};
use super::tls;
use crate::config::{AuthMode, Device, Dialect, Listener, Settings, TlsMode, User};
use crate::intake::{Desk, Intake, Origin};
use crate::message::Envelope;
use crate::policy::Policies;
use crate::queue::Client;
use crate::report::Event;
use crate::system::leases::{Leases, Sources};
use crate::system::ordered;

/// Unrecognized commands before the session is closed: such a device speaks another protocol altogether.
const NONSENSE_LIMIT: u32 = 100;
/// The reply to a message that is not sent with DATA.
const NO_BDAT: &str = "502 5.5.1 BDAT not supported";
/// How long the greeting is delayed in the dialect `strict`, to detect clients that send before it.
const GREETING_PAUSE: Duration = Duration::from_millis(300);

/// What applies to all sessions of a listener while its settings stay the same.
pub struct Rules {
    /// The settings of the listener.
    pub listener: Listener,
    /// The users that may log in.
    pub users: Vec<User>,
    /// The TLS configuration, if the listener has TLS.
    pub tls: Option<TlsAcceptor>,
    /// The gateway's own host name.
    pub hostname: String,
    /// Maximum message size in bytes.
    pub size_limit: u64,
    /// Rules for single devices, and the meaning of names such as `root`.
    pub policies: Policies,
    /// Which devices have which addresses.
    pub leases: Leases,
    /// The sender of messages that do not name one.
    pub fallback_from: String,
}

impl Rules {
    /// The rules of `listener`, with the TLS configuration if it has one.
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

enum Phase {
    Command,
    Login(Prompt),
    /// Message text. `Err` contains the reply it will get at the end; the text itself is discarded.
    Text(Decoder, Result<Box<Intake>, String>),
    /// Bytes of a BDAT that was never offered; they are discarded.
    Skip(u64),
}

/// What has happened in a session so far.
#[derive(Default)]
struct Visit {
    heard: bool,
    quit: bool,
    /// An event about this session has already been logged.
    told: bool,
    /// The reply to a login whose form or mechanism was not understood.
    login: Option<&'static str>,
    /// The first reply that refused a command.
    refused: Option<String>,
}

/// A conversation.
pub struct Session {
    talk: Talk,
    rules: Arc<Rules>,
    desk: Desk,
    origin: Origin,
    phase: Phase,
    /// The mail transaction: from MAIL to the end of the message.
    transaction: Option<Envelope>,
    /// The first refusal since MAIL, or the first temporary one if there is any: see [`Session::refuse`].
    refused: Option<String>,
    /// The `device` section that applies to this client; the inner `None`: no section applies.
    device: Option<Option<Device>>,
    /// Checks the line endings of the message text, where they matter.
    line_ends: Option<LineEnds>,
    /// User name of the accepted login, as far as it is readable.
    login: Option<String>,
    /// The user of that login, where logins are verified.
    user: Option<User>,
    failed_logins: u32,
    /// The reply to the last AUTH, if it was a temporary failure.
    login_later: Option<&'static str>,
    /// TLS version, once TLS is active.
    tls: Option<String>,
    /// Whether HELO or EHLO was received; and whether it was EHLO.
    greeted: bool,
    extended: bool,
    /// A command was recognized: the client speaks SMTP.
    understood: bool,
    nonsense: u32,
    pace: Pace,
    visit: Visit,
    ending: bool,
}

impl Session {
    /// A session with a client that may send. `tls` is the TLS version if `stream` is encrypted.
    pub fn new(stream: Stream, tls: Option<String>, rules: Arc<Rules>, desk: Desk, origin: Origin) -> Box<Self> {
        Box::new(Self {
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
        })
    }

    /// Runs the conversation until either side or `stop` ends it.
    pub async fn run(mut self: Box<Self>, mut stop: watch::Receiver<bool>) {
        if self.strict() && matches!(self.talk.fill(GREETING_PAUSE).await, Input::Some) {
            self.reply(dialect::TOO_EARLY);
            self.aborted("sent data before the greeting, which dialect 'strict' does not allow");
            return self.talk.goodbye().await;
        }
        // At once and before anything else: some clients only check whether a byte arrives.
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

    /// Determines which device this is, once, and not before the greeting has been sent.
    async fn identify(&mut self) {
        if self.device.is_some() {
            return;
        }
        let rules = &self.rules;
        let device = match self.origin.client {
            // Programs on this host are not devices.
            None => None,
            Some(ip) if rules.policies.needs_identity() => {
                let known = rules.leases.identity(ip).await;
                // The kernel was asked for this address alone: that answer does not depend on how many others there are.
                let mac = self.origin.marks.owner.and_then(Client::mac).or(known.mac);
                rules.policies.device(ip, mac, known.host.as_deref())
            }
            Some(ip) => rules.policies.device(ip, None, None),
        };
        self.device = Some(device.cloned());
    }

    /// The `device` section that applies to this client.
    fn device(&self) -> Option<&Device> {
        self.device.as_ref().and_then(Option::as_ref)
    }

    /// The client at the other end.
    fn sender(&self) -> Client {
        self.origin.marks.owner.unwrap_or_else(|| Client::at(self.origin.client))
    }

    /// The client that its messages are attributed to.
    fn client(&self) -> Client {
        self.sender().with(self.device().map(|device| device.name.as_str()))
    }

    /// Performs one step with the input that has arrived; false if more input is needed or the session ends.
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
                if line != InputLine::NotYet {
                    self.pace.line_ended();
                }
                let line = match line {
                    InputLine::Whole(line) => line,
                    InputLine::NotYet => return false,
                    InputLine::TooLong => {
                        self.reply("500 5.5.2 Line too long");
                        if !self.understood {
                            // It is unknown what this was, for instance an HTTP request with a long path.
                            self.aborted("the first line was too long for a command: is it a mail client?");
                            self.ending = true;
                        }
                        return !self.ending;
                    }
                };
                if self.strict() && self.talk.ended_bare() {
                    self.reply(dialect::BARE_LF);
                    self.aborted("sent a line that ends with a bare LF, which dialect 'strict' does not allow");
                    self.ending = true;
                    return false;
                }
                match std::mem::replace(&mut self.phase, Phase::Command) {
                    Phase::Login(prompt) => self.login_step(answer(prompt, &line)).await,
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

    /// The bytes of a BDAT have been skipped.
    fn skipped(&mut self) {
        self.phase = Phase::Command;
        self.pace.text_ended();
        let reply = self.refused.clone().unwrap_or_else(|| NO_BDAT.into());
        self.refuse(reply);
    }

    fn strict(&self) -> bool {
        self.rules.listener.dialect == Dialect::Strict
    }

    fn reply(&mut self, text: &str) {
        if text.starts_with(['4', '5']) && self.visit.refused.is_none() {
            self.visit.refused = Some(text.to_string());
        }
        self.talk.reply(text);
    }

    /// Waits for more input. The error says why there is none; it is empty if that is normal.
    async fn fill(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        let in_text = matches!(self.phase, Phase::Text(..));
        let carries = in_text || matches!(self.phase, Phase::Skip(_));
        let (timeout, in_line) = (self.rules.listener.timeout, self.talk.in_line());
        let (left, slow) = if carries { self.pace.text(timeout) } else { self.pace.command(in_line, timeout) };
        let limit = timeout.min(left);
        let (began, before) = (Instant::now(), self.talk.unread().len());
        let input = tokio::select! {
            input = self.talk.fill(limit) => input,
            // A message that is being received may still arrive; the listener limits how long.
            () = ordered(stop), if !in_text => {
                self.reply("421 4.3.2 Service shutting down, try again later");
                self.visit.told = true;
                return Err(String::new());
            }
        };
        let waited = began.elapsed();
        match carries {
            true => self.pace.text_came(self.talk.unread().len().saturating_sub(before), waited),
            false => self.pace.command_came(in_line, waited),
        }
        let lost = "the message was discarded";
        match input {
            Input::Some => {
                self.visit.heard = true;
                Ok(())
            }
            Input::End if in_text => Err(format!("closed the connection before the end of the message; {lost}")),
            Input::Broken(error) if in_text => {
                Err(format!("the connection failed before the end of the message, {lost}: {error}"))
            }
            // A device that resets the connection after its last message has finished.
            Input::End | Input::Broken(_) => Err(String::new()),
            Input::Silence if left < timeout => {
                self.reply(if slow == Slow::Idle {
                    "421 4.4.2 Timeout, no message received"
                } else {
                    "421 4.4.2 Timeout, client too slow"
                });
                Err(slow.reason())
            }
            Input::Silence => {
                self.reply("421 4.4.2 Timeout waiting for client");
                let silent = format!("sent nothing for {} s", timeout.as_secs());
                const NEVER: &str = " since it connected: most likely it expects another protocol; check the server and port configured in the client";
                Err(match self.visit.heard {
                    _ if in_text => {
                        format!("{silent} during DATA, {lost} (the message must end with <CR><LF>.<CR><LF>)")
                    }
                    true => silent,
                    false => silent + NEVER,
                })
            }
        }
    }

    fn aborted(&mut self, reason: &str) {
        if !reason.is_empty() {
            self.visit.told = true;
            Event::Aborted { client: self.origin.name(), reason: reason.to_string() }.log();
        }
    }

    /// The client speaks another protocol: the rest of its input is ignored.
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
            let state = SessionState {
                greeted: self.greeted,
                extended: self.extended,
                transaction: self.transaction.is_some(),
                refused: self.refused.is_some(),
                login: self.login.is_some(),
            };
            if let Err(reply) = dialect::check(line, state) {
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
                if self.refused.is_none() {
                    // What comes with it is discarded.
                    self.rejected(&[], NO_BDAT);
                    self.visit.told = true;
                }
                self.transaction = None;
                self.pace.text_began(true);
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
                self.visit.quit = true;
                self.reply("221 2.0.0 Bye");
                self.ending = true;
            }
            // RFC 5321 section 3.5.3: does not reveal which addresses exist.
            Command::Verify => self.reply("252 2.5.2 Cannot VRFY user, but will accept message and attempt delivery"),
            Command::Help => self.reply("214 2.0.0 This is smtprelay: send mail with MAIL, RCPT and DATA"),
            Command::StartTls => self.start_tls().await,
            Command::ManySenders(why) => {
                self.reset();
                self.rejected(&[], &why);
                self.visit.told = true;
                self.refuse(format!("501 5.1.7 {why}"));
            }
            Command::Empty => self.nonsense("500 5.5.2 Syntax error, empty command line"),
            Command::Unknown => self.nonsense("500 5.5.1 Command unrecognized"),
        }
    }

    /// Refuses MAIL or RCPT. Many clients keep sending and judge by the last reply alone, so the commands that follow
    /// get the same reply: a queue that is temporarily full must not result in a `503`, which makes the client give up
    /// the message (RFC 5321 section 4.2.1). A temporary refusal takes precedence over a permanent one: another attempt
    /// can only help.
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
            self.reply("421 4.7.0 Too many unrecognized commands");
            self.aborted("sent too many unrecognized commands: is it a mail client?");
            self.ending = true;
        } else {
            self.reply(reply);
        }
    }

    fn reset(&mut self) {
        self.transaction = None;
        self.refused = None;
    }

    fn hello(&mut self, extended: bool, name: String) {
        self.reset();
        self.greeted = true;
        self.extended = extended;
        self.origin.helo = name;
        let hostname = self.rules.hostname.clone();
        if !extended {
            self.reply(&format!("250 {hostname}"));
            return;
        }
        // CRAM-MD5 is always understood, but only offered where logins are verified: otherwise it has no benefit, and
        // devices that prefer it are known to implement it incorrectly.
        let login = match self.rules.listener.auth {
            AuthMode::Ignore => "250-AUTH PLAIN LOGIN\r\n",
            AuthMode::Optional | AuthMode::Required => "250-AUTH PLAIN LOGIN CRAM-MD5\r\n",
            AuthMode::None => "",
        };
        let tls = if self.offers_tls() { "250-STARTTLS\r\n" } else { "" };
        let size = self.rules.size_limit;
        self.reply(&format!(
            "250-{hostname}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-SIZE {size}\r\n{tls}{login}250 ENHANCEDSTATUSCODES"
        ));
    }

    fn offers_tls(&self) -> bool {
        self.tls.is_none() && self.rules.listener.tls == TlsMode::StartTls && self.rules.tls.is_some()
    }

    /// STARTTLS (RFC 3207). The state from before is discarded (section 4.2).
    async fn start_tls(&mut self) {
        let rules = Arc::clone(&self.rules);
        let Some(acceptor) = rules.tls.as_ref().filter(|_| self.offers_tls()) else {
            let reply = if self.tls.is_some() { "503 5.5.1 TLS already active" } else { "502 5.5.1 TLS not available" };
            return self.reply(reply);
        };
        self.reply("220 2.0.0 Ready to start TLS");
        self.reset();
        self.greeted = false;
        self.extended = false;
        self.origin.helo.clear();
        self.login = None;
        self.user = None;
        match self.talk.start_tls(acceptor).await {
            Ok(version) => self.tls = Some(version),
            Err(error) => {
                self.aborted(&tls::explain(&error));
                self.ending = true;
            }
        }
    }

    /// Logs a session in which nothing happened that another event reports. Many monitors connect every minute: the log
    /// suppresses repetitions.
    fn account_for(&mut self) {
        // Programs on this host are not devices that are being set up.
        if self.visit.told || self.origin.client.is_none() {
            return;
        }
        let in_vain = "the client may require authentication or encryption that this listener does not offer";
        let tried = match &self.visit {
            Visit { login: Some(reply), .. } => format!(
                "its login was not understood ({reply}), and no message followed: set the client to PLAIN or LOGIN, or disable authentication"
            ),
            Visit { refused: Some(reply), .. } if self.understood => format!(
                "a command was refused ({reply}), and no message followed: the connection works; check the settings of the client"
            ),
            Visit { quit: true, .. } => {
                "ended the session without sending a message: a connection test or a monitor; the connection works".into()
            }
            _ if self.tls.is_some() && !self.greeted => {
                "closed the connection after the TLS handshake: most likely it does not trust the certificate; disable certificate verification in the client, or set options certificate and key".into()
            }
            Visit { heard: false, .. } => {
                "closed the connection without sending anything: a port scan, a monitor, or a client that expects TLS or another protocol on this port".into()
            }
            _ if !self.understood => {
                "closed the connection without sending an SMTP command: check the server and port configured in the client".into()
            }
            _ => format!("closed the connection without sending a message: {in_vain}"),
        };
        Event::NoMail { client: self.origin.name(), helo: self.origin.helo.clone(), tried }.log();
    }
}

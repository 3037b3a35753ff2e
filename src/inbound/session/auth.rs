// SPDX-License-Identifier: Apache-2.0
//! Logins within a conversation (RFC 4954): when they are allowed, what they result in, and what a failed one costs.

use super::{Phase, Session};
use crate::config::AuthMode;
use crate::inbound::logins::{self, AuthStep, Claim, guesses, may_send_as, shown, user_of};
use crate::report::Event;
use crate::system::clock;

/// Failed logins in one session. The last one closes it.
const FAILURES: u32 = 5;

impl Session {
    /// AUTH. It is handled even if logins were not offered, and even without HELO or EHLO.
    pub(super) async fn auth(&mut self, mechanism: &str, initial: Option<&str>) {
        let verified = matches!(self.rules.listener.auth, AuthMode::Optional | AuthMode::Required);
        // lwIP's client logs in wherever it can, even without name and password: it sends a space after PLAIN, and
        // accepts only 235 as the reply. Where every login is accepted, this one is too.
        let is_empty = self.rules.listener.auth == AuthMode::Ignore && mechanism == "PLAIN";
        let initial = initial.filter(|response| is_empty || !response.is_empty());
        let step = if self.rules.listener.auth == AuthMode::None {
            AuthStep::Refuse("503 5.5.1 Authentication not enabled")
        } else if verified && (self.transaction.is_some() || self.login.is_some()) {
            // Section 4: what a message may do is decided when its transaction begins.
            AuthStep::Refuse("503 5.5.1 AUTH not permitted during a mail transaction or after authentication")
        } else {
            let hostname = self.rules.hostname.as_str();
            logins::begin(mechanism, initial, || challenge(hostname))
        };
        self.login_step(step).await;
    }

    pub(super) async fn login_step(&mut self, step: AuthStep) {
        match step {
            AuthStep::Ask(reply, prompt) => {
                self.reply(&reply);
                self.phase = Phase::Login(prompt);
            }
            AuthStep::Check(claim) => self.check(claim).await,
            AuthStep::Refuse(reply) => {
                self.login_later = reply.starts_with('4').then_some(reply);
                self.visit.login = Some(reply);
                self.reply(reply);
            }
        }
    }

    async fn check(&mut self, claim: Claim) {
        if self.rules.listener.auth != AuthMode::Ignore {
            if !self.may_guess().await {
                return self.failed_login("454 4.7.0 Too many login attempts pending for this client, try again later");
            }
            self.user = user_of(&self.rules.users, &claim).cloned();
            if self.user.is_none() {
                return self.wrong_login(shown(&claim.name));
            }
        }
        if self.transaction.is_none() {
            // What was refused for lack of a login may be tried again.
            self.refused = None;
        }
        self.reply("235 2.7.0 Authentication successful");
        self.login = Some(shown(&claim.name));
    }

    /// Waits out the delay for earlier failed logins of this client. False if too many are waiting already.
    async fn may_guess(&mut self) -> bool {
        let client = self.sender();
        let Some(wait) = guesses(|guesses| guesses.wait(client, clock::since_boot())) else { return false };
        if !wait.is_zero() {
            // Replies from before must not be delayed as well.
            self.talk.flush().await;
            tokio::time::sleep(wait).await;
        }
        true
    }

    fn wrong_login(&mut self, name: String) {
        Event::LoginFailed { client: self.origin.name(), name }.log();
        self.visit.told = true;
        let client = self.sender();
        guesses(|guesses| guesses.wrong(client, clock::since_boot()));
        self.failed_login("535 5.7.8 Authentication failed: wrong user name or password");
    }

    fn failed_login(&mut self, reply: &str) {
        self.failed_logins = self.failed_logins.saturating_add(1);
        if self.failed_logins < FAILURES {
            self.reply(reply);
        } else {
            self.reply("421 4.7.0 Too many failed logins");
            self.ending = true;
        }
    }

    /// The reply to mail without a login, where one is required (RFC 4954 section 6).
    pub(super) fn login_missing(&self) -> Option<String> {
        let missing = self.rules.listener.auth == AuthMode::Required && self.login.is_none();
        // A client that could not log in temporarily may try everything again.
        missing.then(|| self.login_later.unwrap_or("530 5.7.0 Authentication required").to_string())
    }

    /// The reply to an envelope sender that the user may not use.
    pub(super) fn sender_forbidden(&self, from: &str) -> Option<String> {
        let user = self.user.as_ref().filter(|user| !may_send_as(user, from))?;
        Some(format!("550 5.7.1 User '{}' is not allowed to send as <{from}> (list sender)", shown(&user.username)))
    }
}

/// An unpredictable challenge (RFC 2195 section 2). `None` if the system provides no random numbers.
fn challenge(hostname: &str) -> Option<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).ok()?;
    Some(format!("<{:x}@{hostname}>", u64::from_be_bytes(random)))
}

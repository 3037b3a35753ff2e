// SPDX-License-Identifier: Apache-2.0
//! The logins that providers offer (RFC 4954), from the server's side.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use super::record::Login;
use super::session::Session;
use super::wire::End;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Never standardised; draft-murchison-sasl-login.
    Login,
    /// RFC 2195.
    CramMd5,
    /// Google's and Microsoft's OAuth 2.0 mechanism; the token is compared with the password, or with those in the settings.
    XOauth2,
    /// RFC 7628.
    OAuthBearer,
}

/// Access tokens that are good, and those that were shown. A clone names the same ones.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<Mutex<(BTreeSet<String>, BTreeSet<String>)>>);

impl Tokens {
    /// This one is good from now on.
    pub fn add(&self, token: &str) {
        self.lock().0.insert(token.to_owned());
    }

    /// None is good any more.
    pub fn clear(&self) {
        self.lock().0.clear();
    }

    /// Somebody has tried to log in with this one.
    pub fn was_shown(&self, token: &str) -> bool {
        self.lock().1.contains(token)
    }

    fn has(&self, token: &str) -> bool {
        let mut tokens = self.lock();
        tokens.1.insert(token.to_owned());
        tokens.0.contains(token)
    }

    fn lock(&self) -> MutexGuard<'_, (BTreeSet<String>, BTreeSet<String>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mechanism {
    /// Its name in EHLO and AUTH.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::CramMd5 => "CRAM-MD5",
            Mechanism::XOauth2 => "XOAUTH2",
            Mechanism::OAuthBearer => "OAUTHBEARER",
        }
    }

    pub(super) fn of(name: &str) -> Option<Mechanism> {
        [Mechanism::Plain, Mechanism::Login, Mechanism::CramMd5, Mechanism::XOauth2, Mechanism::OAuthBearer]
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

/// How the exchange of a login went.
pub(super) enum Exchange {
    /// User and secret are there; the flag says whether they are the right ones.
    Done(Login),
    /// The client sent something else; this is the reply.
    Broken(&'static str),
}

impl Session {
    /// Does all of the exchange but the last reply. `initial` is the initial response, not decoded yet.
    pub(super) async fn exchange(&mut self, mechanism: Mechanism, initial: Option<&str>) -> Result<Exchange, End> {
        match mechanism {
            Mechanism::Plain => self.plain(initial).await,
            Mechanism::Login => self.login(initial).await,
            Mechanism::CramMd5 => self.cram_md5(initial).await,
            Mechanism::XOauth2 => self.xoauth2(initial).await,
            Mechanism::OAuthBearer => self.oauthbearer(initial).await,
        }
    }

    async fn plain(&mut self, initial: Option<&str>) -> Result<Exchange, End> {
        let Some(response) = self.response("", initial).await? else {
            return Ok(BAD_BASE64);
        };
        let mut parts = response.split(|byte| *byte == 0);
        let (Some(_), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            self.complain("AUTH PLAIN: the response is not authzid NUL user NUL password");
            return Ok(Exchange::Broken("501 5.5.2 Not a PLAIN response"));
        };
        Ok(self.judge(Mechanism::Plain, user, password))
    }

    async fn login(&mut self, initial: Option<&str>) -> Result<Exchange, End> {
        let Some(user) = self.response("VXNlcm5hbWU6", initial).await? else {
            return Ok(BAD_BASE64);
        };
        let Some(password) = self.response("UGFzc3dvcmQ6", None).await? else {
            return Ok(BAD_BASE64);
        };
        Ok(self.judge(Mechanism::Login, &user, &password))
    }

    async fn cram_md5(&mut self, initial: Option<&str>) -> Result<Exchange, End> {
        if initial.is_some() {
            // RFC 4954 section 4: the server speaks first in this mechanism.
            self.complain("AUTH CRAM-MD5 with an initial response");
            return Ok(Exchange::Broken("501 5.7.0 CRAM-MD5 takes no initial response"));
        }
        let challenge = format!("<{}.1@provider.example>", self.id());
        let Some(response) = self.response(&STANDARD.encode(&challenge), None).await? else {
            return Ok(BAD_BASE64);
        };
        let response = String::from_utf8_lossy(&response).into_owned();
        let Some((user, digest)) = response.rsplit_once(' ') else {
            self.complain("AUTH CRAM-MD5: the response is not user, blank, digest");
            return Ok(Exchange::Broken("501 5.5.2 Not a CRAM-MD5 response"));
        };
        let accepted = match &self.settings.login {
            Some((right_user, password)) => {
                let mut mac = Hmac::<Md5>::new_from_slice(password.as_bytes()).expect("a key of any length");
                mac.update(challenge.as_bytes());
                let right: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                user == right_user && digest == right
            }
            None => true,
        };
        let mechanism = Mechanism::CramMd5.name().to_owned();
        Ok(Exchange::Done(Login { mechanism, user: user.to_owned(), secret: digest.to_owned(), accepted }))
    }

    async fn xoauth2(&mut self, initial: Option<&str>) -> Result<Exchange, End> {
        let Some(response) = self.response("", initial).await? else {
            return Ok(BAD_BASE64);
        };
        let text = String::from_utf8_lossy(&response).into_owned();
        let parts = text
            .strip_prefix("user=")
            .and_then(|rest| rest.strip_suffix("\x01\x01"))
            .and_then(|rest| rest.split_once("\x01auth=Bearer "));
        let Some((user, token)) = parts else {
            self.complain("AUTH XOAUTH2: the response is not user=…^Aauth=Bearer …^A^A");
            return Ok(Exchange::Broken("501 5.5.2 Not an XOAUTH2 response"));
        };
        let exchange = self.judge_token(Mechanism::XOauth2, user, token);
        if let Exchange::Done(Login { accepted: false, .. }) = exchange {
            // The error comes as a challenge, which the client has to answer with an empty line.
            let why = STANDARD.encode(r#"{"status":"401","schemes":"bearer"}"#);
            if self.response(&why, None).await? != Some(Vec::new()) {
                self.complain("AUTH XOAUTH2: the error was not answered with an empty line");
            }
        }
        Ok(exchange)
    }

    async fn oauthbearer(&mut self, initial: Option<&str>) -> Result<Exchange, End> {
        let Some(response) = self.response("", initial).await? else {
            return Ok(BAD_BASE64);
        };
        let text = String::from_utf8_lossy(&response).into_owned();
        let fields: Vec<&str> = text.split('\x01').collect();
        let [name, host, port, token, "", ""] = fields[..] else {
            self.complain("AUTH OAUTHBEARER: the response is not what RFC 7628 section 3.1 says");
            return Ok(Exchange::Broken("501 5.5.2 Not an OAUTHBEARER response"));
        };
        let name = name.strip_prefix("n,a=").and_then(|name| name.strip_suffix(','));
        let token = token.strip_prefix("auth=Bearer ");
        let (Some(name), Some(token), true) = (name, token, host.starts_with("host=") && port.starts_with("port="))
        else {
            self.complain("AUTH OAUTHBEARER: a field is not what RFC 7628 section 3.1 says");
            return Ok(Exchange::Broken("501 5.5.2 Not an OAUTHBEARER response"));
        };
        let user = name.replace("=2C", ",").replace("=3D", "=");
        let exchange = self.judge_token(Mechanism::OAuthBearer, &user, token);
        if let Exchange::Done(Login { accepted: false, .. }) = exchange {
            let why = STANDARD.encode(r#"{"status":"invalid_token"}"#);
            if self.response(&why, None).await? != Some(vec![1]) {
                self.complain("AUTH OAUTHBEARER: the error was not answered with ^A (RFC 7628 section 3.2.3)");
            }
        }
        Ok(exchange)
    }

    fn judge_token(&self, mechanism: Mechanism, user: &str, token: &str) -> Exchange {
        let (Some(tokens), Some((right_user, _))) = (&self.settings.tokens, &self.settings.login) else {
            return self.judge(mechanism, user.as_bytes(), token.as_bytes());
        };
        let (name, accepted) = (mechanism.name().to_owned(), user == right_user && tokens.has(token));
        Exchange::Done(Login { mechanism: name, user: user.to_owned(), secret: token.to_owned(), accepted })
    }

    /// What the client answers to this challenge: none if it gave up (`*`) or it is not base64.
    async fn response(&mut self, challenge: &str, initial: Option<&str>) -> Result<Option<Vec<u8>>, End> {
        let encoded = match initial {
            Some("=") => String::new(), // RFC 4954 section 4: an empty initial response
            Some(initial) => initial.to_owned(),
            None => {
                self.say(&format!("334 {challenge}")).await?;
                let line = self.command_line("the response to AUTH").await?;
                self.note("C: (response to AUTH)");
                String::from_utf8_lossy(&line).into_owned()
            }
        };
        if encoded == "*" {
            return Ok(None);
        }
        let decoded = STANDARD.decode(&encoded).ok();
        if decoded.is_none() {
            self.complain("the response to AUTH is not base64");
        }
        Ok(decoded)
    }

    fn judge(&self, mechanism: Mechanism, user: &[u8], secret: &[u8]) -> Exchange {
        let accepted = match &self.settings.login {
            Some((right_user, right_secret)) => user == right_user.as_bytes() && secret == right_secret.as_bytes(),
            None => true,
        };
        Exchange::Done(Login {
            mechanism: mechanism.name().to_owned(),
            user: String::from_utf8_lossy(user).into_owned(),
            secret: String::from_utf8_lossy(secret).into_owned(),
            accepted,
        })
    }
}

const BAD_BASE64: Exchange = Exchange::Broken("501 5.5.2 Cannot decode that");

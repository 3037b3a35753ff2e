// SPDX-License-Identifier: Apache-2.0
//! The token endpoint (RFC 6749 section 3.2): requests to it, and the meaning of its replies.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::Later;
use super::http::{self, Form, value_of};
use crate::config::{Account, OAuth};
use crate::net::http::Answer;
use crate::net::{Trouble, TroubleKind};
use crate::push::url::Url;
use crate::secrets::Secret;

/// Maximum length of a token in bytes: it has to fit, encoded, into an AUTH line (RFC 4954 section 4).
pub const TOKEN_LIMIT: usize = 8 << 10;
/// Lifetime of a token if the server does not specify it: an hour is what all servers use.
const USUAL_LIFE: Duration = Duration::from_secs(3600);
/// Upper limit for the lifetime, so that a server's typing error does not result in a token valid for years.
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);
/// Maximum number of characters shown of a server's explanation.
const SHOWN: usize = 200;

/// The tokens that a server issues.
#[derive(Debug)]
pub struct Tokens {
    /// For the mail server.
    pub access: Secret,
    /// For the next access token, if it differs from the old one.
    pub refresh: Option<Secret>,
    /// When it was requested, by the monotonic clock: its lifetime cannot have started earlier.
    pub asked: Instant,
    /// The lifetime of the access token.
    pub life: Duration,
}

/// A refusal by the server (RFC 6749 section 5.2, RFC 8628 section 3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRefusal {
    /// Such as `invalid_grant`.
    pub code: String,
    /// The server's explanation, in one line; may be empty.
    pub text: String,
}

/// A connection to the login server of one account.
pub struct Server<'a> {
    account: &'a Account,
    /// How the account gets its tokens.
    pub oauth: &'a OAuth,
    connector: TlsConnector,
}

impl<'a> Server<'a> {
    /// Prepares requests.
    ///
    /// # Errors
    /// If the account uses a password, or if there is no authority to trust.
    pub fn of(account: &'a Account) -> Later<'a, Result<Self, Trouble>> {
        Box::pin(async move {
            let Some(oauth) = &account.oauth else {
                let text = format!(
                    "account '{}' uses a password, not an OAuth login: option auth is not 'xoauth2'",
                    account.name
                );
                return Err(Trouble::new(TroubleKind::Setup, text));
            };
            let copy = account.clone();
            let connector = super::away(move || http::connector(&copy)).await;
            let connector =
                connector.ok_or_else(|| Trouble::new(TroubleKind::Setup, "the program is shutting down"))??;
            Ok(Self { account, oauth, connector })
        })
    }

    /// Posts `form` to `address` with the client's ID and secret. Returns the server's answer.
    ///
    /// # Errors
    /// If the answer cannot be used, in words.
    pub fn ask<'b>(&'b self, address: &'b str, form: Form) -> Later<'b, Result<Result<Value, TokenRefusal>, Trouble>> {
        Box::pin(async move {
            let OAuth { client_id, client_secret, .. } = self.oauth;
            let form = form.add("client_id", client_id).add("client_secret", client_secret.expose());
            let answer = http::post(address, &form, &self.connector, self.account.timeout).await?;
            let name = Url::parse(address).map(|url| url.host.to_string()).unwrap_or_default();
            read(&answer, &name).map(|said| said.map_err(|refusal| refusal.without_secrets(form.text())))
        })
    }

    /// Requests tokens; `form` contains the grant.
    ///
    /// # Errors
    /// If the reply cannot be used, in words.
    pub fn tokens(&self, form: Form) -> Later<'_, Result<Result<Tokens, TokenRefusal>, Trouble>> {
        Box::pin(async move {
            let asked = Instant::now();
            match self.ask(&self.oauth.token_url, form).await? {
                Ok(said) => tokens(said, asked).map(Ok).ok_or_else(|| {
                    let what = format!("{} returned no usable token", self.oauth.token_url);
                    Trouble::new(TroubleKind::Setup, what).remedy("check option token_url")
                }),
                Err(refusal) => Ok(Err(refusal)),
            }
        })
    }

    /// A refusal that ends the request, in words.
    pub fn trouble(&self, refusal: &TokenRefusal) -> Trouble {
        let TokenRefusal { code, text } = refusal;
        let account = &self.account.name;
        let (kind, remedy) = match code.as_str() {
            "slow_down" | "temporarily_unavailable" | "server_error" => {
                (TroubleKind::Busy, "this is usually temporary".into())
            }
            "invalid_client" | "unauthorized_client" => {
                (TroubleKind::Login, format!("check options client_id and client_secret of account '{account}'"))
            }
            "invalid_scope" => (TroubleKind::Login, format!("check option scope of account '{account}'")),
            // RFC 6749 section 5.2: expired, revoked, or issued to another client. Others are Microsoft's codes for a
            // person who has to sign in again.
            _ => (TroubleKind::Login, format!("sign in again: smtprelay login {account}")),
        };
        let gap = if text.is_empty() { "" } else { ": " };
        let what = format!("the login server refused account '{account}' ({code}{gap}{text})");
        Trouble::new(kind, what).remedy(remedy)
    }
}

impl TokenRefusal {
    /// If a server repeats what it was sent, our secrets are removed from its text, so that they do not get into the
    /// log.
    fn without_secrets(mut self, form: &str) -> Self {
        for name in ["refresh_token", "client_secret", "device_code", "code", "code_verifier"] {
            if let Some(secret) = value_of(form, name) {
                self.text = self.text.replace(secret.as_str(), "…");
                self.code = self.code.replace(secret.as_str(), "…");
            }
        }
        self
    }
}

/// Whether this can be a token (RFC 6749 appendix A): nothing that could end a line or a field.
pub fn is_token(text: &str) -> bool {
    (1..=TOKEN_LIMIT).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Takes a text out of a reply, so that no copy of it stays behind.
pub fn take(said: &mut Value, name: &str) -> Option<String> {
    match said.get_mut(name).map(Value::take) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// A number of seconds; some servers send it as a text.
pub fn seconds(said: &Value, name: &str) -> Option<Duration> {
    let value = said.get(name)?;
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))?;
    Some(Duration::from_secs(number))
}

/// The first line of a server's text, truncated.
pub fn shown(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

fn tokens(mut said: Value, asked: Instant) -> Option<Tokens> {
    let mut token = |name| take(&mut said, name).map(Secret::new).filter(|token| is_token(token.expose()));
    let (access, refresh) = (token("access_token")?, token("refresh_token"));
    let life = seconds(&said, "expires_in").unwrap_or(USUAL_LIFE).min(LONGEST_LIFE);
    Some(Tokens { access, refresh, asked, life })
}

/// The meaning of a reply: an object (RFC 6749 section 5.1), or a refusal (section 5.2).
fn read(answer: &Answer, host: &str) -> Result<Result<Value, TokenRefusal>, Trouble> {
    let said: Option<Value> = serde_json::from_slice(&answer.body).ok().filter(Value::is_object);
    let refused = said.as_ref().and_then(|said| said.get("error")).and_then(Value::as_str);
    // A server that is out of order may name any error (Google: `internal_failure`). Only these are known to be about the
    // request, or to be temporary.
    const KNOWN: [&str; 4] = ["slow_down", "authorization_pending", "temporarily_unavailable", "server_error"];
    let failing = matches!(answer.status, 429 | 500..=599);
    let refused = refused.filter(|code| !failing || KNOWN.contains(code));
    match (answer.status, said.as_ref(), refused) {
        (200..=299, Some(_), None) => Ok(Ok(said.unwrap_or_default())),
        (_, Some(said), Some(code)) => {
            let text = said.get("error_description").and_then(Value::as_str).unwrap_or_default();
            Ok(Err(TokenRefusal { code: shown(code), text: shown(text) }))
        }
        (status, ..) if failing => {
            let text = format!("the login server {host} is out of order (HTTP {status})");
            Err(Trouble::new(TroubleKind::Busy, text).remedy("this is usually temporary"))
        }
        (status, ..) => {
            let text = format!("the login server {host} sent a reply without tokens (HTTP {status})");
            Err(Trouble::new(TroubleKind::Unreachable, text).remedy("check the OAuth addresses of the account"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn said(status: u16, body: &str) -> Result<Result<Value, TokenRefusal>, Trouble> {
        read(&Answer { status, body: Zeroizing::new(body.into()), retry_after: None }, "login.example")
    }

    fn given(body: &str) -> Option<Tokens> {
        said(200, body).ok()?.ok().and_then(|said| tokens(said, Instant::now()))
    }

    #[test]
    fn tokens_are_taken_from_what_servers_say() {
        let both =
            given(r#"{"token_type":"Bearer","access_token":"ya29.a0","expires_in":3599,"refresh_token":"1//0"}"#)
                .unwrap();
        assert_eq!((both.access.expose(), both.life.as_secs()), ("ya29.a0", 3599));
        assert_eq!(both.refresh.unwrap().expose(), "1//0");
        assert!(!format!("{:?}", given(r#"{"access_token":"hunter2"}"#)).contains("hunter2"));
        for (expires, life) in [
            ("", 3600),
            (",\"expires_in\":\"60\"", 60),
            (",\"expires_in\":0", 0),
            (",\"expires_in\":-1", 3600),
            (",\"expires_in\":1e99", 3600),
            (",\"expires_in\":99999999999", 86_400),
        ] {
            assert_eq!(
                given(&format!(r#"{{"access_token":"a"{expires}}}"#)).unwrap().life.as_secs(),
                life,
                "{expires}"
            );
        }
    }

    #[test]
    fn what_can_be_no_token_is_none() {
        let long = "x".repeat(TOKEN_LIMIT + 1);
        for token in ["", "a b", "a\\r\\nMAIL", "a\\u0001", "ä", long.as_str()] {
            assert!(given(&format!(r#"{{"access_token":"{token}"}}"#)).is_none(), "{token}");
        }
        assert!(given("{}").is_none());
        assert!(given(r#"{"access_token":1}"#).is_none());
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        let refusal =
            said(400, "{\"error\":\"invalid_grant\",\"error_description\":\"AADSTS70000: gone.\\r\\nTrace ID: 1\"}");
        let refusal = refusal.unwrap().unwrap_err();
        assert_eq!((refusal.code.as_str(), refusal.text.as_str()), ("invalid_grant", "AADSTS70000: gone."));
        // Some servers refuse with 200.
        assert!(said(200, r#"{"error":"invalid_grant"}"#).unwrap().is_err());
        for (status, body, kind) in [
            (200, "<html>", TroubleKind::Unreachable),
            (200, "[]", TroubleKind::Unreachable),
            (302, "", TroubleKind::Unreachable),
            (404, "{}", TroubleKind::Unreachable),
            (429, "", TroubleKind::Busy),
            (503, "<html>", TroubleKind::Busy),
            // Whatever a server that is out of order says about it, nobody has to sign in again.
            (500, r#"{"error":"internal_failure","error_description":"Backend Error"}"#, TroubleKind::Busy),
            (503, r#"{"error":"invalid_request"}"#, TroubleKind::Busy),
            (429, r#"{"error":"rate_limit_exceeded"}"#, TroubleKind::Busy),
        ] {
            assert_eq!(said(status, body).unwrap_err().kind, kind, "{status} {body}");
        }
        // In a device flow this is a reply to the question.
        assert_eq!(said(429, r#"{"error":"slow_down"}"#).unwrap().unwrap_err().code, "slow_down");
    }

    #[test]
    fn a_server_that_repeats_secrets_gets_none_into_the_log() {
        let form = Form::new().add("refresh_token", "1//a+b").add("client_secret", "hush");
        let refusal =
            TokenRefusal { code: "bad hush".into(), text: "1//a+b of hush".into() }.without_secrets(form.text());
        assert_eq!(refusal, TokenRefusal { code: "bad …".into(), text: "… of …".into() });
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_said_has_a_meaning(status in 100..600u16, body: String, text: String) {
            let _ = said(status, &body).map(|said| said.map(|said| tokens(said, Instant::now())));
            assert!(shown(&text).chars().count() <= SHOWN && !shown(&text).contains(['\r', '\n']));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Sends one message through a channel: as an HTTPS request with its subject and the beginning of its text. One request
//! for all recipients that take this way: who gets it is part of the channel, not of the message.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::auth::no_password;
use super::connection::{Patience, connected, done, found};
use super::trace::{Trace, TraceStep};
use super::verdict::{Judged, Outcome, Verdict};
use crate::config::channel::{Content, Method};
use crate::config::{Account, Channel, Keyword};
use crate::message::{Encode, encoded, header, text};
use crate::net::http::{Answer, Exchange, HttpStep, exchange};
use crate::net::tls::{self, PORT_AND_TLS};
use crate::net::{Explanation, Trouble, TroubleKind};
use crate::push::short::{shortened, title};
use crate::push::template::{self, Place, Values};
use crate::push::url::Url;
use crate::queue::{Progress, SpoolError, Stored};
use crate::report::TlsFacts;
use crate::report::letter::{one_line, readable, readable_subject, when};
use crate::secrets::MASK;
use crate::system::lock;

/// Bytes of a body that are searched for its text: encoded text is up to three times as long, and HTML longer.
const RAW_LIMIT: usize = 48 << 10;
/// Bytes of what a server says about a refusal that are shown.
const SAID: usize = 200;

/// What is known of a message apart from its content.
pub struct About<'a> {
    /// Its ID in the queue.
    pub id: &'a str,
    /// The name of the device that it comes from.
    pub device: &'a str,
    /// When it was accepted, in seconds since 1970.
    pub arrived: i64,
}

/// Sends `stored` through the channel `account`, to all pending recipients. Never fails as a whole: the result is in the
/// outcome. `trace` gets each step.
pub async fn send(
    account: &Account,
    mut stored: Stored,
    about: About<'_>,
    connector: &TlsConnector,
    trace: Option<&Trace>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(channel) = account.channel.as_deref() else { return outcome };
    // An observer is shown the steps before the request.
    if account.misses_password() && trace.is_none() {
        outcome.trouble = Some(no_password(account));
        return outcome;
    }
    let beginning = match beginning(&mut stored).await {
        Ok(beginning) => beginning,
        Err(error) => {
            if let SpoolError::Damaged(reason) = &error {
                outcome.damaged = Some(reason.clone());
            }
            return rest(outcome, &stored, &Verdict::Deferred(error.to_string().into()));
        }
    };
    let request = Request::new(account, channel, &stored, &about, beginning);
    let judged = request.send(account, channel, connector, trace, &mut outcome).await;
    match judged {
        Judged::Account(trouble) => {
            outcome.trouble = Some(trouble);
            outcome
        }
        Judged::Message(verdict) => rest(outcome, &stored, &verdict),
    }
}

/// The outcome with this verdict for all pending recipients.
fn rest(mut outcome: Outcome, stored: &Stored, verdict: &Verdict) -> Outcome {
    let recipients = stored.state.recipients.iter().enumerate();
    let waiting = recipients.filter(|(_, recipient)| recipient.progress == Progress::Waiting);
    outcome.results.extend(waiting.map(|(index, _)| (index, verdict.clone())));
    outcome
}

/// The beginning of the body, and whether there is more. All of it is read, in pieces, since only its end shows that it
/// is what was accepted.
async fn beginning(stored: &mut Stored) -> Result<(Vec<u8>, bool), SpoolError> {
    let (mut raw, mut more) = (Vec::new(), false);
    loop {
        let chunk = stored.next().await?;
        if chunk.is_empty() {
            return Ok((raw, more));
        }
        let room = RAW_LIMIT.saturating_sub(raw.len());
        more |= chunk.len() > room;
        raw.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
    }
}

/// `text` as Slack requires it, where the channel says so.
fn marked(channel: &Channel, text: &str) -> String {
    match channel.entities {
        true => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        false => text.to_string(),
    }
}

/// A request with its secrets.
struct Request {
    address: Zeroizing<String>,
    fields: Zeroizing<String>,
    body: Zeroizing<String>,
}

impl Request {
    fn new(
        account: &Account,
        channel: &Channel,
        stored: &Stored,
        about: &About<'_>,
        (raw, more): (Vec<u8>, bool),
    ) -> Self {
        let coded = stored.meta.form.encode != Encode::QuotedPrintable;
        let text = text::readable(&stored.header, &raw, coded);
        // The rest of the body is only text if the beginning ends with it.
        let text = marked(channel, if text.is_empty() { "(no text)" } else { &text });
        let text = shortened(&text, channel.text, channel.unit, more && text.len() > RAW_LIMIT / 4);
        let subject = readable_subject(&stored.header);
        let subject = one_line(subject.trim(), subject.len());
        let subject = marked(channel, if subject.is_empty() { "(no subject)" } else { &subject });
        let subject = title(&subject, channel.title, channel.unit);
        let from = header::find(&stored.header, "From").map(|field| readable(&encoded::decode(&field.unfolded())));
        let from = from.map(|from| one_line(from.trim(), channel.title)).filter(|from| !from.is_empty());
        let from = marked(channel, &from.unwrap_or_else(|| stored.meta.envelope.from.clone()));
        let device = marked(channel, about.device);
        let time = when(about.arrived).unwrap_or_default();
        let token = account.password.expose();
        let values: Values<'_> =
            [&subject, &text, &from, &device, about.id, &time, &channel.to, channel.priority.word(), token];
        let mut fields = Zeroizing::new(String::with_capacity(4 << 10));
        for field in &channel.headers {
            if !token.is_empty() || !template::has(field, "token") {
                fields.push_str(&template::fill(field, Place::Header, &values));
                fields.push_str("\r\n");
            }
        }
        let (place, kind) = match channel.content {
            Content::Json => (Place::Json, "application/json"),
            Content::Form => (Place::Form, "application/x-www-form-urlencoded"),
        };
        if !channel.body.is_empty() {
            fields.extend(["Content-Type: ", kind, "\r\n"]);
        }
        let body = template::fill(&channel.body, place, &values);
        Self { address: channel.address(&values, &account.password), fields, body }
    }

    /// Sends it, and says what the answer means.
    async fn send(
        &self,
        account: &Account,
        channel: &Channel,
        connector: &TlsConnector,
        trace: Option<&Trace>,
        outcome: &mut Outcome,
    ) -> Judged {
        let Some(url) = Url::parse(&self.address) else {
            let what = format!("the address of channel '{}' is not a URL", account.name);
            return Judged::Account(Trouble::new(TroubleKind::Setup, what).remedy(&channel.help));
        };
        let (sent, secured) = (AtomicBool::new(false), Mutex::new(None::<TlsFacts>));
        let observer = |step: HttpStep<'_>| match step {
            HttpStep::Found(addresses) => done(trace, TraceStep::Dns, || found(&account.host, addresses)),
            HttpStep::Connected => done(trace, TraceStep::Tcp, || connected(account)),
            HttpStep::Secured(stream) => {
                let facts = tls::facts(Some(stream), account);
                done(trace, TraceStep::Tls, || facts.to_string());
                *lock(&secured) = Some(facts);
            }
            HttpStep::Sent => sent.store(true, Ordering::Relaxed),
        };
        let connect_time = Patience(account.timeout).connection();
        let request = Exchange { who: "", url, connector, connect_time, status_only: true, observer: &observer };
        let method = channel.method.word();
        if let Some(trace) = trace {
            trace.note(&format!("{method} to {}, {} bytes of body", account.host, self.body.len()));
        }
        let exchanged = timeout(account.timeout, exchange(request, method, &self.fields, self.body.as_bytes())).await;
        outcome.tls = lock(&secured).take();
        outcome.text_sent = sent.load(Ordering::Relaxed);
        let trouble = match exchanged {
            Ok(Ok(answer)) => {
                let judged = judge(&answer, account, channel, self);
                if let Some(trace) = trace {
                    trace.received(said(&answer, account, self).as_bytes());
                }
                return judged;
            }
            Ok(Err(trouble)) => of_channel(trouble),
            Err(_) => {
                let what = format!("{} did not answer within {} s", account.host, account.timeout.as_secs());
                Trouble::new(TroubleKind::Unreachable, what)
                    .remedy("if this persists, check the uplink and option timeout")
            }
        };
        if !outcome.text_sent {
            return Judged::Account(trouble);
        }
        // It may have arrived; the same request with PUT would have no further effect.
        outcome.doubtful = channel.method != Method::Put;
        Judged::Message(Verdict::Deferred(trouble.why))
    }
}

/// Trouble of a connection, with the options of a channel in its remedy.
fn of_channel(mut trouble: Trouble) -> Trouble {
    let remedy = &mut trouble.why.remedy;
    *remedy = remedy.replace(PORT_AND_TLS, "check option url").replace("option host", "option url");
    trouble
}

/// What the server said: status and reason, without secrets.
fn said(answer: &Answer, account: &Account, request: &Request) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    // The names under which services give a reason: Telegram, Gotify, Discord and Teams, ntfy and Matrix, Pushover.
    let named =
        ["description", "errorDescription", "message", "error"].iter().find_map(|name| json.get(*name)?.as_str());
    let reason = named.or_else(|| json.pointer("/errors/0")?.as_str());
    let reason = match (reason, json.is_null()) {
        (Some(reason), _) => reason,
        (None, true) => body.trim(),
        (None, false) => "",
    };
    let mut reason = one_line(reason, SAID);
    let target = Url::parse(&request.address).map(|url| url.target).filter(|target| target.len() > 1);
    for secret in [Some(account.password.expose()), target].into_iter().flatten().filter(|secret| !secret.is_empty()) {
        reason = reason.replace(secret, MASK);
    }
    let gap = if reason.is_empty() { "" } else { ": " };
    format!("HTTP {}{gap}{reason}", answer.status)
}

/// How long the server asks to wait: in a header field, or as Telegram, Discord and Matrix say it in the body.
fn asked_to_wait(answer: &Answer) -> Option<Duration> {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let named = |path: &str| json.pointer(path).and_then(Value::as_f64);
    let seconds = || named("/parameters/retry_after").or_else(|| named("/retry_after"));
    let in_body = || seconds().or_else(|| Some(named("/retry_after_ms")? / 1000.0));
    let asked = answer.retry_after.or_else(|| Duration::try_from_secs_f64(in_body()?).ok())?;
    // Up to the next whole second, so that it is not asked a moment too early.
    Some(Duration::from_secs(asked.as_secs().saturating_add(u64::from(asked.subsec_nanos() > 0))))
}

/// What an answer means.
fn judge(answer: &Answer, account: &Account, channel: &Channel, request: &Request) -> Judged {
    let (host, said) = (&account.host, said(answer, account, request));
    let trouble = |kind, what: &str, remedy: &str| {
        let trouble = Trouble::new(kind, format!("{host} {what}: {said}")).remedy(remedy);
        Judged::Account(Trouble { after: asked_to_wait(answer), ..trouble })
    };
    match answer.status {
        200..=299 => Judged::Message(Verdict::Delivered(format!("HTTP {}", answer.status))),
        300..=399 => trouble(TroubleKind::Setup, "answers with a redirect, which is not followed", "check option url"),
        401 | 403 => {
            let remedy = format!("check the token of channel '{}': {}", account.name, channel.help);
            Judged::Account(
                Trouble::new(TroubleKind::Login, format!("{host} refused the token: {said}")).remedy(remedy),
            )
        }
        // The address is the same for all messages, so that they would all fail.
        404 | 410 if template::is_fixed(&channel.address) => {
            let remedy = format!("check the settings of channel '{}': {}", account.name, channel.help);
            let what = format!("{host} does not know the address of the channel: {said}");
            Judged::Account(Trouble::new(TroubleKind::Login, what).remedy(remedy))
        }
        429 => trouble(TroubleKind::Quota, "is limiting the rate of this channel", ""),
        408 | 425 | 500..=599 => trouble(TroubleKind::Busy, "accepts no messages now", "this is temporary"),
        _ => {
            let what = format!("{host} refused it: {said}");
            let remedy = format!("check the settings of channel '{}'", account.name);
            Judged::Message(Verdict::Failed(Explanation::new(what, remedy)))
        }
    }
}

#[cfg(test)]
mod tests;

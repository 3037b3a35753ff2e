// SPDX-License-Identifier: Apache-2.0
//! Sends one message through a channel: as an HTTPS request with its subject, the beginning of its text, and its first
//! picture where the service takes one. One request for all recipients that take this way: who gets it is part of the
//! channel, not of the message.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::auth::no_password;
use super::connection::{Patience, connected, done, found};
use super::trace::{Trace, TraceStep};
use super::verdict::{Judged, Outcome, Verdict};
use crate::config::channel::Method;
use crate::config::{Account, Channel, Keyword};
use crate::message::html;
use crate::message::picture::{Finder, Picture};
use crate::net::http::{Answer, Body, Exchange, HttpStep, Pieces, exchange};
use crate::net::tls::{self, PORT_AND_TLS};
use crate::net::{Explanation, Trouble, TroubleKind};
use crate::push::template;
use crate::push::url::Url;
use crate::queue::{Progress, SpoolError, Stored};
use crate::report::TlsFacts;
use crate::report::letter::one_line;
use crate::secrets::MASK;
use crate::system::lock;

mod request;
mod upload;

use request::{Dress, Facts, Request};
use upload::Upload;

/// Bytes of a body that are searched for its text: encoded text is up to three times as long, and HTML longer.
const RAW_LIMIT: usize = 48 << 10;
/// Statuses that refuse a request with a picture where the same message may pass without it: malformed (also a picture
/// that cannot be used, or that this chat does not allow), too large, of the wrong type, not processable, and with too
/// long header fields, which only such a request has. None of them accepts the message.
const PICTURE_REFUSED: [u16; 5] = [400, 413, 415, 422, 431];
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
    let wants_picture = channel.picture && channel.with_picture.is_some();
    let reading = match Reading::of(&mut stored, wants_picture).await {
        Ok(reading) => reading,
        Err(error) => {
            if let SpoolError::Damaged(reason) = &error {
                outcome.damaged = Some(reason.clone());
            }
            return rest(outcome, &stored, &Verdict::Deferred(error.to_string().into()));
        }
    };
    let waiting: Vec<usize> = stored.state.waiting().map(|(index, _)| index).collect();
    let sender = Sender { account, channel, connector, trace, waiting: &waiting };
    let judged = sender.send(&mut stored, &about, &reading, &mut outcome).await;
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

/// What one reading of the whole body shows: only its end shows that it is what was accepted.
#[derive(Default)]
struct Reading {
    /// The beginning of the body.
    raw: Vec<u8>,
    /// Whether there is more.
    more: bool,
    /// Its first picture, if one is wanted.
    picture: Option<Picture>,
}

impl Reading {
    /// Reads `stored` in pieces.
    async fn of(stored: &mut Stored, picture: bool) -> Result<Self, SpoolError> {
        let (mut this, mut nothing) = (Self::default(), Vec::new());
        let mut finder = picture.then(|| Finder::new(&stored.header));
        loop {
            let chunk = stored.next().await?;
            if chunk.is_empty() {
                this.picture = finder.and_then(|mut finder| finder.finish(&mut nothing));
                return Ok(this);
            }
            if let Some(finder) = &mut finder {
                finder.push(&chunk, &mut nothing);
            }
            let room = RAW_LIMIT.saturating_sub(this.raw.len());
            this.more |= chunk.len() > room;
            this.raw.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        }
    }
}

/// What sends the requests of a channel.
struct Sender<'a> {
    account: &'a Account,
    channel: &'a Channel,
    connector: &'a TlsConnector,
    trace: Option<&'a Trace>,
    /// The recipients that it is for, by their index in the envelope.
    waiting: &'a [usize],
}

impl Sender<'_> {
    /// Sends the message, with its picture if there is one and the service takes it.
    async fn send(&self, stored: &mut Stored, about: &About<'_>, reading: &Reading, outcome: &mut Outcome) -> Judged {
        let facts = Facts { account: self.account, channel: self.channel, about, reading };
        let Some((taken, picture)) = self.channel.with_picture.as_ref().zip(reading.picture) else {
            return self.exchange(&Request::new(&facts, stored, Dress::Text("")), None, outcome).await.0;
        };
        let why = if !picture.is_whole {
            "its base64 is not valid".to_string()
        } else if picture.size > taken.limit {
            format!("{} MB", picture.size.div_ceil(1_000_000))
        } else {
            let request = Request::new(&facts, stored, Dress::Picture(taken, &picture));
            let mut upload = Upload::new(stored, &picture);
            match self.exchange(&request, Some(&mut upload), outcome).await {
                (judged, None) => return judged,
                (_, Some(why)) => why,
            }
        };
        // The service has not accepted the request with the picture, so nothing arrives twice.
        let hint = format!("picture not sent: {why}");
        if let Some(trace) = self.trace {
            trace.note(&hint);
        }
        match self.exchange(&Request::new(&facts, stored, Dress::Text(&hint)), None, outcome).await.0 {
            Judged::Message(Verdict::Delivered(said)) => Judged::Message(Verdict::Delivered(format!("{said}; {hint}"))),
            other => other,
        }
    }

    /// Sends `request`, and says what the answer means. Also says why the message should be sent once more without the
    /// picture, where the service has certainly not accepted this request.
    async fn exchange(
        &self,
        request: &Request,
        mut upload: Option<&mut Upload<'_>>,
        outcome: &mut Outcome,
    ) -> (Judged, Option<String>) {
        let Self { account, channel, connector, trace, waiting } = *self;
        let Some(url) = Url::parse(&request.address) else {
            let what = format!("the address of channel '{}' is not a URL", account.name);
            return (Judged::Account(Trouble::new(TroubleKind::Setup, what).remedy(&channel.help)), None);
        };
        let (sent, begun, moved) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        let secured = Mutex::new(None::<TlsFacts>);
        let observer = |step: HttpStep<'_>| match step {
            HttpStep::Found(addresses) => done(trace, TraceStep::Dns, || found(&account.host, addresses)),
            HttpStep::Connected => done(trace, TraceStep::Tcp, || connected(account)),
            HttpStep::Secured(stream) => {
                let facts = tls::facts(Some(stream), account);
                done(trace, TraceStep::Tls, || facts.to_string());
                *lock(&secured) = Some(facts);
            }
            HttpStep::Piece => {
                begun.store(true, Ordering::Relaxed);
                moved.store(true, Ordering::Relaxed);
            }
            HttpStep::Sent => {
                sent.store(true, Ordering::Relaxed);
                moved.fetch_or(begun.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        };
        let patience = Patience(account.timeout);
        let connect_time = patience.connection();
        let exchanging = Exchange { who: "", url, connector, connect_time, status_only: true, observer: &observer };
        let method = channel.method.word();
        if let Some(trace) = trace {
            let picture = upload.as_ref().map(|upload| format!(" and a picture of {} bytes", upload.size()));
            let size = request.body.len() + request.tail.len();
            let picture = picture.unwrap_or_default();
            trace.note(&format!("{method} to {}, {size} bytes of body{picture}", account.host));
        }
        let (exchanged, limit) = {
            let pieces = upload.as_deref_mut().map(|upload| upload as &mut dyn Pieces);
            let body = Body { head: request.body.as_bytes(), pieces, tail: request.tail.as_bytes() };
            let mut exchanged = exchange(exchanging, method, &request.fields, body);
            let mut limit = account.timeout;
            loop {
                match timeout(limit, &mut exchanged).await {
                    // A slow uplink may take long for a picture, as long as it takes some of it each time. What the
                    // kernel holds at its end takes a while, too, and giving up then sends it twice.
                    Err(_) if moved.swap(false, Ordering::Relaxed) => {
                        limit = if sent.load(Ordering::Relaxed) { patience.end() } else { limit };
                    }
                    ended => break (ended, limit),
                }
            }
        };
        outcome.tls = lock(&secured).take();
        outcome.text_sent = sent.load(Ordering::Relaxed);
        let trouble = match exchanged {
            Ok(Ok(answer)) => {
                if let Some(trace) = trace {
                    trace.received(said(&answer, account, request).as_bytes());
                }
                let spoiled = upload.is_some() && PICTURE_REFUSED.contains(&answer.status);
                let why = spoiled.then(|| format!("HTTP {}", answer.status));
                return (judge(&answer, account, channel, request), why);
            }
            Ok(Err(trouble)) => of_channel(trouble),
            Err(_) => {
                let what = format!("{} did not answer within {} s", account.host, limit.as_secs());
                Trouble::new(TroubleKind::Unreachable, what)
                    .remedy("if this persists, check the uplink and option timeout")
            }
        };
        if !outcome.text_sent {
            // Without its end the service cannot have accepted it.
            let why = match upload {
                Some(upload) if upload.has_failed() => Some("it could not be read again".to_string()),
                Some(_) if begun.load(Ordering::Relaxed) => Some("the connection was lost".to_string()),
                _ => None,
            };
            return (Judged::Account(trouble), why);
        }
        // It may have arrived; the same request with PUT would have no further effect.
        if channel.method != Method::Put {
            outcome.doubtful = waiting.to_vec();
        }
        (Judged::Message(Verdict::Deferred(trouble.into_why())), None)
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
    let page;
    let reason = match (reason, json.is_null()) {
        (Some(reason), _) => reason,
        // A page for people, as a proxy answers in front of a server that is down.
        (None, true) if body.trim_start().starts_with('<') => {
            page = html::text(&body);
            page.trim()
        }
        (None, true) => body.trim(),
        (None, false) => "",
    };
    // A remedy follows.
    let mut reason = one_line(reason.trim_end_matches('.'), SAID);
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
        Judged::Account(trouble.after(asked_to_wait(answer)))
    };
    let login = |what, remedy| Judged::Account(Trouble::new(TroubleKind::Login, what).remedy(remedy));
    let token = format!("check the token of channel '{}': {}", account.name, channel.help);
    match answer.status {
        200..=299 => Judged::Message(Verdict::Delivered(format!("HTTP {}", answer.status))),
        300..=399 => trouble(TroubleKind::Setup, "answers with a redirect, which is not followed", "check option url"),
        401 => login(format!("{host} refused the token: {said}"), token),
        // The token may be right, but not for this topic or room.
        403 => {
            let what = format!("{host} does not permit this channel to send: {said}");
            let target = format!("check the token and option to of channel '{}': {}", account.name, channel.help);
            login(what, if channel.to.is_empty() { token } else { target })
        }
        // Address and method are the same for all messages, so that they would all fail.
        404 | 405 | 410 if template::is_fixed(&channel.address) => {
            let remedy = format!("check the settings of channel '{}': {}", account.name, channel.help);
            let what = format!("{host} does not know the address of the channel: {said}");
            login(what, remedy)
        }
        429 => trouble(TroubleKind::Rate, "is limiting the rate of this channel", ""),
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

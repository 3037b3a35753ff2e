// SPDX-License-Identifier: Apache-2.0
//! A single test mail that bypasses the queue: sent like all mail, with an observer.

use std::time::Duration;

use tokio::time::timeout;

use super::channel;
use super::connection::{Connection, connect};
use super::trace::{StepProgress, Trace, TraceStep};
use super::transaction::send;
use super::verdict::{Outcome, Verdict};
use crate::config::{Account, TlsMode};
use crate::message::{Envelope, Facts, Repair, date, is_address};
use crate::net::tls;
use crate::net::{Trouble, TroubleKind};
use crate::queue::{Marks, Meta, Stored};
use crate::report::TlsFacts;
use crate::report::letter::{Head, fill, part};
use crate::system::{clock, interfaces, lock, random_id, task};

/// The time limit for a whole test.
pub const LIMIT: Duration = Duration::from_secs(180);
/// How long the provider may take for a reply: a person is waiting for the result.
const REPLY: Duration = Duration::from_secs(60);
/// How long QUIT may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// The result of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// How the connection was encrypted, if it got that far.
    pub tls: Option<TlsFacts>,
    /// Why it failed, with the remedy.
    pub failed: Option<String>,
}

/// Whether certificates are verified for an account, and with them the time.
pub fn judges_certificates(account: &Account) -> bool {
    account.tls != TlsMode::None && account.verify && account.fingerprint.is_none()
}

/// Why nothing is sent while the clock is wrong.
pub fn clock_trouble() -> Trouble {
    const NTP: &str = "check that NTP works";
    let what = "the clock of this router is not set, so certificates cannot be verified and dates would be wrong";
    Trouble::new(TroubleKind::Clock, what).remedy(NTP)
}

/// Sends a test mail to `to` through `account`; `hostname` is our own. `trace` shows the progress. Takes [`LIMIT`] at
/// most.
pub async fn run(account: &Account, hostname: &str, to: &str, trace: &Trace) -> Tested {
    let patient = Account { timeout: account.timeout.min(REPLY), ..account.clone() };
    let work: task::Boxed<Tested> = Box::pin({
        let (hostname, to, trace) = (hostname.to_string(), to.to_string(), trace.clone());
        async move { walk(&patient, &hostname, &to, &trace).await }
    });
    match timeout(LIMIT, work).await {
        Ok(tested) => tested,
        Err(_) => {
            let reason = format!("the test was aborted after {} s", LIMIT.as_secs());
            ended(trace, &Trouble::new(TroubleKind::Unreachable, reason))
        }
    }
}

async fn walk(account: &Account, hostname: &str, to: &str, trace: &Trace) -> Tested {
    trace.begin(TraceStep::Clock);
    match (clock::is_set(), judges_certificates(account)) {
        (true, _) => trace.done(TraceStep::Clock, format!("the clock is set: {}", date::rfc5322(clock::now()))),
        (false, true) => return ended(trace, &clock_trouble()),
        (false, false) => trace.skip(
            TraceStep::Clock,
            "the clock of this router is not set; this account needs no certificate, so mail is sent anyway",
        ),
    }
    let routed = task::blocking(interfaces::has_default_route).await.unwrap_or(false);
    if routed {
        trace.done(TraceStep::Uplink, "this router has a route to the internet (default route)");
    } else {
        // The provider may be a server in this local network: the next steps decide.
        trace.begin(TraceStep::Dns);
    }
    let prepared = match account.tls {
        TlsMode::None => None,
        _ => {
            let preparing = account.clone();
            match task::blocking(move || tls::judged(&preparing)).await {
                Some(Ok(prepared)) => Some(prepared),
                Some(Err(trouble)) => {
                    for step in [TraceStep::Dns, TraceStep::Tcp] {
                        trace.skip(step, "skipped, because TLS cannot be set up");
                    }
                    return ended(trace, &trouble);
                }
                None => return ended(trace, &Trouble::new(TroubleKind::Setup, "the program is shutting down")),
            }
        }
    };
    let connector = prepared.as_ref().map(|(connector, _)| connector);
    if let Some((connector, judge)) = prepared.as_ref().filter(|_| account.channel.is_some()) {
        let stored = match letter(account, hostname, to) {
            Ok(stored) => stored,
            Err(text) => return unwritten(None, text, trace),
        };
        let about = channel::About { id: "test", device: hostname, arrived: clock::now() };
        let outcome = channel::send(account, stored, about, connector, Some(trace)).await;
        if !routed {
            judge_uplink(trace, &account.host);
        }
        if outcome.trouble.as_ref().is_some_and(|trouble| trouble.kind == TroubleKind::Tls) {
            trace.presented(lock(&judge.rejected).clone());
        }
        let unanswered = outcome.results.iter().any(|(_, verdict)| matches!(verdict, Verdict::Deferred(_)));
        if unanswered {
            trace.skip(TraceStep::Login, "skipped, because there was no answer");
        } else if outcome.trouble.is_none() && account.password.is_empty() {
            trace.skip(TraceStep::Login, "no token is used for this channel");
        } else if outcome.trouble.is_none() {
            trace.done(TraceStep::Login, format!("{} accepted the token", account.host));
        }
        return concluded(outcome, account, to, trace);
    }
    let connected = connect(account, hostname, connector, Some(trace)).await;
    if !routed {
        judge_uplink(trace, &account.host);
    }
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(trouble) => {
            if let Some((_, judge)) = prepared.filter(|_| trouble.kind == TroubleKind::Tls) {
                trace.presented(lock(&judge.rejected).clone());
            }
            return ended(trace, &trouble);
        }
    };
    let tested = hand_over(&mut connection, account, hostname, to, trace).await;
    connection.client.timeout = GOODBYE;
    connection.client.quit().await;
    tested
}

/// Without a default route: whether one is needed becomes clear when the host is reached, or is not.
fn judge_uplink(trace: &Trace, host: &str) {
    match trace.progress(TraceStep::Tcp) {
        StepProgress::Skipped => {
            trace.skip(TraceStep::Uplink, "there is no default route; whether one is needed was not tested")
        }
        StepProgress::Ok => {
            trace.skip(TraceStep::Uplink, format!("there is no default route; {host} is reachable without one"))
        }
        _ => trace.fail(
            TraceStep::Uplink,
            "this router has no route to the internet (no default route)",
            "check the WAN connection of this router",
        ),
    }
}

fn ended(trace: &Trace, trouble: &Trouble) -> Tested {
    trace.end(trouble);
    Tested { tls: None, failed: Some(trouble.why.to_string()) }
}

async fn hand_over(connection: &mut Connection, account: &Account, hostname: &str, to: &str, trace: &Trace) -> Tested {
    let tls = Some(connection.tls.clone());
    let stored = match letter(account, hostname, to) {
        Ok(stored) => stored,
        Err(text) => return unwritten(tls, text, trace),
    };
    let (outcome, _) = send(connection, stored, account).await;
    concluded(Outcome { tls, ..outcome }, account, to, trace)
}

/// There is no test mail.
fn unwritten(tls: Option<TlsFacts>, text: String, trace: &Trace) -> Tested {
    trace.fail(TraceStep::Accepted, &text, "");
    Tested { tls, failed: Some(text) }
}

/// The result of an attempt.
fn concluded(outcome: Outcome, account: &Account, to: &str, trace: &Trace) -> Tested {
    let Outcome { mut results, trouble, tls, .. } = outcome;
    if let Some(trouble) = trouble {
        return Tested { tls, ..ended(trace, &trouble) };
    }
    let failed = match results.pop().map(|(_, verdict)| verdict) {
        Some(Verdict::Delivered(reply)) => {
            let what = match account.channel {
                Some(_) => "the message".to_string(),
                None => format!("the mail for {to}"),
            };
            trace.done(TraceStep::Accepted, format!("{} accepted {what}: {reply}", account.host));
            None
        }
        Some(Verdict::Deferred(why) | Verdict::Failed(why)) => Some(why),
        None => Some(format!("{} closed the connection before it accepted the mail", account.host).into()),
    };
    if let Some(why) = &failed {
        trace.fail(TraceStep::Accepted, &why.what, &why.remedy);
    }
    Tested { tls, failed: failed.map(|why| why.to_string()) }
}

/// The test mail, which states its purpose.
fn letter(account: &Account, hostname: &str, to: &str) -> Result<Stored, String> {
    let now = clock::now();
    let from = match is_address(&account.from) {
        true => account.from.clone(),
        false => format!("postmaster@{hostname}"),
    };
    let subject = format!("smtprelay test: account {}, {hostname}, {}", account.name, date::rfc5322(now));
    let head = Head { hostname, from: &from, to: &[to.to_string()], subject: &subject, automatic: "auto-generated" };
    let mut text = String::new();
    for paragraph in [
        format!("This is a test mail from smtprelay, the mail gateway on {hostname}. It was requested there."),
        format!(
            "It was sent through the account \"{}\" ({}, port {}). Mail from the devices behind this gateway can be sent this way.",
            account.name, account.host, account.port
        ),
        "No reply is needed.".to_string(),
    ] {
        if !text.is_empty() {
            text.push('\n');
        }
        fill(&mut text, "", &paragraph);
    }
    let envelope = Envelope { smtputf8: !to.is_ascii() || !from.is_ascii(), from: from.clone(), to: vec![to.into()] };
    let id = random_id().map_err(|error| error.to_string())?;
    let facts = Facts {
        envelope: &envelope,
        id: &id,
        hostname,
        helo: hostname,
        client: None,
        protocol: "local",
        now,
        fallback_from: &account.from,
    };
    let (mut body, mut repair) = (Vec::new(), Repair::new());
    repair.push(&[head.text().into_bytes(), part("plain", &text)].concat(), &mut body);
    let repaired =
        repair.finish(&facts, &mut body).map_err(|refusal| format!("the test mail cannot be created: {refusal}"))?;
    let (client, form) = ("local".to_string(), repaired.form);
    let meta = Meta { envelope, form, arrived: now, client, notice: false, undated: None, marks: Marks::default() };
    Ok(Stored::in_memory(repaired.header, body, meta))
}

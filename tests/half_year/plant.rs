// SPDX-License-Identifier: Apache-2.0
//! What the plant's devices and its provider do, whatever the gateway runs on.

use std::time::Duration;

use super::mails::{GONE, Mail, OPS};
use super::plan::Trouble;
use super::support::client::{Client, Reply};
use super::support::provider::{Fault, Provider, Settings, Step, Times};

/// 2027-03-01 00:00 UTC.
pub const MIDNIGHT: i64 = 1_803_859_200;

/// A number from the environment.
pub fn number_or(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// Makes the provider slow now and then, if `SMTPRELAY_SLOW` says so: by so many seconds on each twentieth connection.
pub fn slow(settings: &mut Settings) {
    let seconds = number_or("SMTPRELAY_SLOW", 0);
    settings.slow = (seconds > 0).then(|| (20, Duration::from_secs(seconds)));
}

/// What the gateway says about its queue.
pub struct Queue {
    /// Messages in it.
    pub total: usize,
    /// Those that are being sent, recorded or moved right now.
    pub sending: usize,
    /// Those that are sent as soon as there is a connection.
    pub due: usize,
    /// Whether an account is paused, so that nothing comes of these before its next attempt.
    pub paused: bool,
    /// In how many seconds the next one of the others is due.
    pub next: Option<i64>,
}

impl Queue {
    /// Whether a delivery is in flight: time must not be set forward then, or a provider on a slow machine would seem to be one
    /// that does not answer.
    pub fn is_in_flight(&self) -> bool {
        self.sending > 0 || self.due > 0 && !self.paused
    }
}

/// A delivery that is in flight ends in this time: the gateway itself does not wait for longer.
pub const IN_FLIGHT: Duration = Duration::from_secs(1200);

/// A mail that a device could not get rid of, and tries again.
pub struct Kept {
    pub kind: Mail,
    pub number: usize,
    pub text: String,
}

/// Sends a mail after EHLO and returns the reply that decided about it: a full disk may come before the text.
pub async fn say(device: &mut Client, kind: Mail, text: &str) -> Reply {
    let mut lines = vec![format!("MAIL FROM:<{}> SIZE={}", kind.sender(), text.len())];
    lines.extend(kind.recipients().iter().map(|to| format!("RCPT TO:<{to}>")));
    lines.push("DATA".to_owned());
    for line in lines {
        let reply = device.command(&line).await;
        if !matches!(reply.code, 250 | 354) {
            device.dialogue(&[("RSET", 250)]).await;
            return reply;
        }
    }
    device.write(text.as_bytes()).await.expect("send the text");
    device.command(".").await
}

/// Begins a mail after EHLO, and leaves in the middle of it.
pub async fn abort(mut device: Client) {
    // A full disk may refuse it sooner.
    if device.command("MAIL FROM:<printer@example.com>").await.code == 250
        && device.command(&format!("RCPT TO:<{OPS}>")).await.code == 250
        && device.command("DATA").await.code == 354
    {
        device.write(b"Subject: never complete\r\n\r\nfirst page\r\n").await.expect("send a part");
    }
}

/// One mailbox is closed.
pub fn refuse_gone(provider: &Provider) {
    let reply = Fault::Reply("550 5.1.1 No such user".to_owned());
    provider.set_fault(Step::Rcpt(GONE.to_owned()), reply, Times::Always);
}

/// Another certificate, also while the provider is down.
pub async fn renew(provider: &mut Provider, troubles: &[Trouble]) {
    let down = troubles.iter().any(|trouble| matches!(trouble, Trouble::Down | Trouble::FlashFull));
    provider.renew_certificate().await;
    if down {
        provider.stop().await;
    }
}

/// Writes the samples where `SMTPRELAY_SAMPLES` wants them.
pub fn save(table: impl FnOnce() -> String) {
    if let Some(path) = std::env::var_os("SMTPRELAY_SAMPLES") {
        std::fs::write(path, table()).expect("write the samples");
    }
}

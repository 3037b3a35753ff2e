// SPDX-License-Identifier: Apache-2.0
//! The mail after a boot of the router (`notify_boot`): it waits for clock and uplink, and reports what is known.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

use crate::VERSION;
use crate::config::{Relay, Settings};
use crate::intake::{Behalf, Desk, IntakeError};
use crate::message::{Envelope, is_address};
use crate::report::Event;
use crate::report::letter::{Head, counted, duration, fill, one_line, part, when};
use crate::system::json::json;
use crate::system::{clock, interfaces, publish};

/// In `safe_spool` (otherwise in `spool`): what the last run knew when it ended.
const STOPPED: &str = "last_stop";
/// In `spool`: the last boot of the router that has been announced.
const ANNOUNCED: &str = "announced";
/// How often to check whether clock and uplink are available.
const LOOK: Duration = Duration::from_secs(5);
/// How long to wait for the uplink before the mail is queued anyway.
const PATIENCE: Duration = Duration::from_secs(600);

/// What an earlier run left behind: the last one before this boot of the router. Later runs do not change it, so that
/// the mail is correct even if the program was restarted before it could be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastRun {
    /// When it ended cleanly, in seconds since 1970.
    stopped: Option<i64>,
    /// The boot of the router during which it ended; `None` if nothing is known.
    boot: Option<String>,
    /// The boot of the router that was announced last.
    announced: Option<String>,
}

fn stop_file(relay: &Relay) -> PathBuf {
    relay.safe_spool.as_ref().unwrap_or(&relay.spool).join(STOPPED)
}

fn read(path: &Path) -> Option<String> {
    // A few bytes that we have written; anything else is ignored.
    fs::metadata(path).ok().filter(|file| file.len() < 4096).and_then(|_| fs::read_to_string(path).ok())
}

/// The file of the last run: `boot` is the boot during which it ran and `at` the time of its clean shutdown; `before`
/// is the same for the last run before that boot.
fn read_stop(path: &Path) -> Value {
    read(path).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

impl LastRun {
    /// Reads what the last run left, and removes the mark of a clean shutdown: this run has not ended cleanly yet.
    pub fn read(relay: &Relay) -> Self {
        let path = stop_file(relay);
        let mut last = read_stop(&path);
        let same_boot = last.get("boot").and_then(Value::as_str) == Some(clock::boot());
        let ended = last.get("at").is_some();
        let before = match same_boot {
            true => last.get_mut("before").map(Value::take).unwrap_or_default(),
            false => json!({ "boot": last.get("boot"), "at": last.get("at") }),
        };
        if !same_boot || ended {
            write(&path, &json!({ "boot": clock::boot(), "before": before }).to_string());
        }
        let boot = before.get("boot").and_then(Value::as_str).map(str::to_string);
        let stopped = before.get("at").and_then(Value::as_i64);
        Self { stopped, boot, announced: read(&relay.spool.join(ANNOUNCED)) }
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = publish::replace(path, text.as_bytes(), 0o600) {
        Event::SpoolTrouble { id: String::new(), reason: format!("cannot write {}: {error}", path.display()) }.log();
    }
}

/// Leaves the mark of a clean shutdown.
pub fn stopped(relay: &Relay) {
    let path = stop_file(relay);
    let before = read_stop(&path).get_mut("before").map(Value::take);
    write(&path, &json!({ "at": clock::now(), "boot": clock::boot(), "before": before }).to_string());
}

/// Queues the mail once after each boot of the router, if it is enabled. `waiting` is the content of the queue at the
/// start: messages and bytes.
pub async fn run(settings: watch::Receiver<Arc<Settings>>, desk: Desk, last: LastRun, waiting: (usize, u64)) {
    let current = settings.borrow().clone();
    if !current.relay.notify_boot || last.announced.as_deref() == Some(clock::boot()) {
        return;
    }
    let started = Instant::now();
    while !(clock::is_set() && (interfaces::has_default_route() || started.elapsed() > PATIENCE)) {
        tokio::time::sleep(LOOK).await;
    }
    loop {
        let current = settings.borrow().clone();
        match announce(&current, &desk, &last, waiting).await {
            Ok(()) => break write(&current.relay.spool.join(ANNOUNCED), clock::boot()),
            Err(error) => {
                Event::Advice { text: format!("the boot notification cannot be queued: {error}") }.log();
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn announce(settings: &Settings, desk: &Desk, last: &LastRun, waiting: (usize, u64)) -> Result<(), IntakeError> {
    let from = settings.accounts.first().map(|account| account.from.clone()).unwrap_or_default();
    let hostname = settings.relay.hostname();
    let Some(to) = settings.relay.admin.clone().or(Some(from.clone())).filter(|to| is_address(to)) else {
        Event::Advice { text: "notify_boot is enabled, but it has no recipient: set option admin".into() }.log();
        return Ok(());
    };
    let from = settings.own_address(&hostname);
    let facts = BootFacts {
        pstore_has_dump: fs::read_dir("/sys/fs/pstore").is_ok_and(|mut files| files.next().is_some()),
        remembers: last.boot.is_some(),
        stopped_in_order: last.stopped,
        boot_id_changed: last.boot.as_deref() != Some(clock::boot()),
        clock: clock::now(),
    };
    let addresses: Vec<_> = interfaces::addresses().unwrap_or_default();
    let addresses: Vec<_> =
        addresses.into_iter().filter(|a| !a.ip.is_loopback()).map(|a| (a.interface, a.ip)).collect();
    let mail = BootMail {
        hostname: &hostname,
        from: &from,
        to: &to,
        version: VERSION,
        booted_at: clock::at_uptime(0),
        reason: &boot_reason(&facts),
        uptime: clock::uptime(),
        addresses: &addresses,
        waiting,
        oldest: None,
        last_stop: last.stopped,
    };
    let text = mail.text();
    let envelope = Envelope { from: from.clone(), to: vec![to.clone()], smtputf8: !to.is_ascii() };
    let id = desk.post(&text, envelope, Behalf::default(), (&hostname, &from)).await?;
    Event::Notified { id, about: "start".into(), to }.log();
    Ok(())
}

/// Addresses that are listed.
const ADDRESSES_SHOWN: usize = 32;

/// The content of a boot mail.
#[derive(Debug, Clone, Copy)]
pub struct BootMail<'a> {
    /// Our own host name.
    pub hostname: &'a str,
    /// The sender.
    pub from: &'a str,
    /// The recipient.
    pub to: &'a str,
    /// Version of the program.
    pub version: &'a str,
    /// When the kernel started, seconds since 1970.
    pub booted_at: i64,
    /// Reason: [`boot_reason`].
    pub reason: &'a str,
    /// Seconds since the kernel started.
    pub uptime: u64,
    /// Interface names and addresses.
    pub addresses: &'a [(String, IpAddr)],
    /// Messages that were queued, and their bytes.
    pub waiting: (usize, u64),
    /// When the oldest of them was accepted, seconds since 1970.
    pub oldest: Option<i64>,
    /// When the program last ended cleanly; seconds since 1970.
    pub last_stop: Option<i64>,
}

impl BootMail<'_> {
    /// The mail, which is normalized like any other.
    pub fn text(&self) -> Vec<u8> {
        let subject = format!("Started: {}", one_line(self.hostname, 120));
        let head = Head {
            hostname: self.hostname,
            from: self.from,
            to: &[self.to.to_string()],
            subject: &subject,
            automatic: "auto-generated",
        };
        [head.text().into_bytes(), part("plain", &self.words())].concat()
    }

    fn words(&self) -> String {
        let mut out = String::new();
        let at = when(self.booted_at).map(|date| format!(" on {date}")).unwrap_or_default();
        let host = one_line(self.hostname, 255);
        fill(&mut out, "", &format!("The mail gateway {host} started{at}, {} ago.", duration(self.uptime)));
        out.push('\n');
        fill(&mut out, "", &format!("Reason: {}", one_line(self.reason, 600)));
        if let Some(stop) = self.last_stop.and_then(when) {
            fill(&mut out, "", &format!("The gateway had been shut down cleanly on {stop}."));
        }
        out.push('\n');
        let (messages, bytes) = self.waiting;
        let oldest = self.oldest.and_then(when).map(|date| format!("; the oldest is from {date}")).unwrap_or_default();
        let queue = match messages {
            0 => "No messages were queued.".into(),
            1 => format!("1 message was queued, {}{oldest}.", size(bytes)),
            _ => format!("{messages} messages were queued, {} in total{oldest}.", size(bytes)),
        };
        fill(&mut out, "", &queue);
        if !self.addresses.is_empty() {
            out.push_str("\nAddresses:\n");
        }
        for (interface, ip) in self.addresses.iter().take(ADDRESSES_SHOWN) {
            let _ = writeln!(out, "  {}  {ip}", one_line(interface, 32));
        }
        if self.addresses.len() > ADDRESSES_SHOWN {
            let _ = writeln!(out, "  and {} more", self.addresses.len() - ADDRESSES_SHOWN);
        }
        let _ = writeln!(out, "\nsmtprelay {}", one_line(self.version, 64));
        out
    }
}

/// What is known about the last run and the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootFacts {
    /// Whether the kernel left a crash dump in `/sys/fs/pstore`.
    pub pstore_has_dump: bool,
    /// Whether there is a record of the last run. Without `safe_spool` a reboot loses it.
    pub remembers: bool,
    /// When the last run ended cleanly, seconds since 1970; `None` when it did not.
    pub stopped_in_order: Option<i64>,
    /// Whether the kernel has started since the last run (`/proc/sys/kernel/random/boot_id` differs).
    pub boot_id_changed: bool,
    /// The current time, seconds since 1970.
    pub clock: i64,
}

/// Why the program starts now, in one sentence.
pub fn boot_reason(facts: &BootFacts) -> String {
    match facts {
        // A dump may be years old: it is ignored if the last run is known to have ended cleanly.
        BootFacts { pstore_has_dump: true, stopped_in_order: None, boot_id_changed: true, .. } => {
            "kernel crash: see /sys/fs/pstore".into()
        }
        BootFacts { remembers: false, .. } => {
            "unknown: there is no record of the last run (first start, or no safe_spool)".into()
        }
        BootFacts { boot_id_changed: false, stopped_in_order: None, .. } => {
            "the gateway crashed or was killed and was restarted; the router kept running".into()
        }
        BootFacts { boot_id_changed: false, .. } => "the gateway was restarted; the router kept running".into(),
        BootFacts { stopped_in_order: None, .. } => {
            "power failure or system hang: the gateway had not been shut down".into()
        }
        BootFacts { stopped_in_order: Some(at), clock, .. } => match when(*at) {
            // A stop in the future was recorded by a clock that was wrong, or the current one is wrong.
            Some(date) if at <= clock => format!("clean restart at {date}"),
            _ => "clean restart, at an unknown time because the clock was wrong".into(),
        },
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => counted(bytes, "byte"),
        10_240..10_485_760 => format!("{} KB", bytes >> 10),
        _ => format!("{} MB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: BootFacts = BootFacts {
        pstore_has_dump: false,
        remembers: true,
        stopped_in_order: None,
        boot_id_changed: true,
        clock: 1_800_000_100,
    };

    #[test]
    fn every_reason() {
        let order = Some(1_800_000_000);
        for (facts, reason) in [
            (FACTS, "power failure or system hang: the gateway had not been shut down"),
            (BootFacts { pstore_has_dump: true, ..FACTS }, "kernel crash: see /sys/fs/pstore"),
            (BootFacts { pstore_has_dump: true, remembers: false, ..FACTS }, "kernel crash: see /sys/fs/pstore"),
            (
                BootFacts { pstore_has_dump: true, stopped_in_order: order, ..FACTS },
                "clean restart at Fri, 15 Jan 2027 08:00:00 +0000",
            ),
            (
                BootFacts { stopped_in_order: order, clock: 1_790_000_000, ..FACTS },
                "clean restart, at an unknown time because the clock was wrong",
            ),
            (
                BootFacts { stopped_in_order: Some(1000), ..FACTS },
                "clean restart, at an unknown time because the clock was wrong",
            ),
            (
                BootFacts { remembers: false, ..FACTS },
                "unknown: there is no record of the last run (first start, or no safe_spool)",
            ),
            (
                BootFacts { boot_id_changed: false, stopped_in_order: order, ..FACTS },
                "the gateway was restarted; the router kept running",
            ),
            (
                BootFacts { boot_id_changed: false, pstore_has_dump: true, ..FACTS },
                "the gateway crashed or was killed and was restarted; the router kept running",
            ),
        ] {
            assert_eq!(boot_reason(&facts), reason, "{facts:?}");
        }
    }

    #[test]
    fn the_mail_says_it_all() {
        let addresses = [("br-lan".to_string(), "192.168.1.1".parse().unwrap())];
        let mail = BootMail {
            hostname: "gw.example",
            from: "me@example.com",
            to: "admin@example.com",
            version: "1.2.3",
            booted_at: 1_800_000_000,
            reason: "the power failed",
            uptime: 95,
            addresses: &addresses,
            waiting: (3, 20_480),
            oldest: Some(1_799_999_000),
            last_stop: None,
        };
        let text = String::from_utf8(mail.text()).unwrap();
        for part in [
            "Subject: Started: gw.example\r\nAuto-Submitted: auto-generated\r\n",
            "started on Fri, 15 Jan 2027 08:00:00 +0000",
            ", 1\r\nminute 35 seconds ago.\r\n",
            "\r\nReason: the power failed\r\n",
            "3 messages were queued, 20 KB in total; the oldest is from Fri, 15 Jan 2027\r\n07:43:20 +0000.\r\n",
            "\r\n  br-lan  192.168.1.1\r\n",
            "\r\nsmtprelay 1.2.3\r\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let many = vec![("wan6".to_string(), "2001:db8::1".parse().unwrap()); 40];
        let mail = BootMail { addresses: &many, waiting: (0, 0), booted_at: 0, last_stop: Some(1_800_000_000), ..mail };
        let text = String::from_utf8(mail.text()).unwrap();
        assert!(
            text.contains("  and 8 more\r\n") && text.contains("No messages were queued.") && !text.contains("1970")
        );
        assert!(text.contains("shut down cleanly on Fri, 15 Jan 2027"), "{text}");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The mail after a start of the router, with the reason for the start.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::letter::{Head, counted, fill, one_line, part, when};

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

/// `3 days 4 hours`, `2 minutes`: the two largest units.
fn duration(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let words: Vec<_> = parts.iter().skip_while(|(n, _)| *n == 0).take(2).filter(|(n, _)| *n > 0).collect();
    let words: Vec<_> = words.into_iter().map(|(n, unit)| counted(*n, unit)).collect();
    if words.is_empty() { "0 seconds".into() } else { words.join(" ") }
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

    #[test]
    fn durations_in_words() {
        for (seconds, words) in
            [(0, "0 seconds"), (61, "1 minute 1 second"), (3600, "1 hour"), (270_059, "3 days 3 hours")]
        {
            assert_eq!(duration(seconds), words);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The section `device`: how a device is recognised, and the settings for it.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use super::escalation;
use super::pattern::{Pattern, is_local_name, report_domains};
use super::reader::{Keyword, Notation, Problem, Reader, Severity};
use crate::message::is_one_address;
use crate::system::leases::Mac;

/// Name of the section that applies to all devices without a section of their own.
pub const DEFAULT_DEVICE: &str = "default";
/// Units of `option rate`.
const PERIODS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
/// The largest number in a rate.
const COUNT_LIMIT: u32 = 100_000;

/// The treatment of messages of a device that exceeds its rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OverRate {
    /// They are collected and sent as one mail per interval.
    #[default]
    Digest,
    /// They are queued until the rate permits them.
    Defer,
    /// They are not accepted.
    Reject,
}

impl Keyword for OverRate {
    const WORDS: &'static [(&'static str, Self)] =
        &[("digest", Self::Digest), ("defer", Self::Defer), ("reject", Self::Reject)];
}

/// How many messages a device may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages per period, and at once; at least 1.
    pub count: u32,
    /// The period: a second, minute, hour or day.
    pub period: Duration,
}

impl Rate {
    /// Parses `20/h`: a number from 1 and one of s, m, h, d.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, period) = text.split_once('/')?;
        let count = count.trim_end();
        let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        let count = count.parse().ok().filter(|n| digits && (1..=COUNT_LIMIT).contains(n))?;
        let (_, seconds) = PERIODS.iter().find(|(unit, _)| *unit == period.trim_start())?;
        Some(Self { count, period: Duration::from_secs(*seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = PERIODS.iter().find(|(_, seconds)| *seconds == self.period.as_secs()).map_or("s", |(unit, _)| unit);
        write!(f, "{}/{unit}", self.count)
    }
}

impl Notation for Option<Rate> {
    fn form(&self) -> String {
        "a number of messages per s, m, h or d, such as 20/h".into()
    }

    fn set(&mut self, text: &str) -> bool {
        *self = Rate::parse(text);
        self.is_some()
    }

    fn text(&self) -> String {
        self.map(|rate| rate.to_string()).unwrap_or_default()
    }
}

/// A rewrite of recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Which recipients are replaced.
    pub old: Pattern,
    /// The new recipient: an address, or a name that an alias resolves.
    pub new: String,
}

impl Rewrite {
    /// Parses a pattern and a new recipient, separated by blanks.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let rewrite = Self { old: Pattern::parse(words.next()?)?, new: recipient(words.next()?)? };
        words.next().is_none().then_some(rewrite)
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.old, self.new)
    }
}

/// A section `device`: how it is recognised, and the settings for its mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// The name of the section.
    pub name: String,
    /// Its addresses, or networks including all members.
    pub ips: Vec<IpNet>,
    /// Its MAC addresses.
    pub macs: Vec<Mac>,
    /// The host names that it sends with DHCP requests.
    pub hosts: Vec<String>,
    /// The name that its mail carries in From.
    pub display: Option<String>,
    /// The accounts for its mail, first choice first; empty: the general ones.
    pub accounts: Vec<String>,
    /// As in a route: mail may take the channels only after this time; zero: at once.
    pub after: Duration,
    /// The recipients of its mail, whatever the device specifies; empty: as specified.
    pub recipients: Vec<String>,
    /// The allowed recipients; empty: all.
    pub allow_recipients: Vec<Pattern>,
    /// Which recipients are replaced by others; the first match applies.
    pub rewrites: Vec<Rewrite>,
    /// Its rate limit; `None`: unlimited.
    pub rate: Option<Rate>,
    /// The treatment of messages beyond it.
    pub over_rate: OverRate,
    /// Time between two digests.
    pub digest_every: Duration,
    /// A longer silence of the device is reported; zero: none is.
    pub expect_every: Duration,
}

impl Device {
    /// The section with this name, with its defaults.
    pub fn new(name: String) -> Self {
        Self { name, digest_every: Duration::from_secs(900), ..Self::default() }
    }

    /// Whether this is the section for all devices without one of their own.
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_DEVICE
    }

    /// The display name of its mail; the devices of `default` share none.
    pub fn name_in_mail(&self) -> Option<&str> {
        self.display.as_deref().or_else(|| (!self.is_default()).then_some(self.name.as_str()))
    }

    /// Whether its silence is to be reported. The section for all other devices stands for none in particular, and one
    /// without any address is never recognised.
    pub fn is_expected(&self) -> bool {
        let recognised = !(self.ips.is_empty() && self.macs.is_empty() && self.hosts.is_empty());
        !self.expect_every.is_zero() && recognised && !self.is_default()
    }

    /// Its name for display: the display name, else the name of its section.
    pub fn title(&self) -> &str {
        self.display.as_deref().unwrap_or(&self.name)
    }
}

/// Checks that the options of the section fit together.
pub(super) fn fits_together(device: &Device, read: &mut Reader) {
    if device.name.is_empty() {
        read.problem(Severity::Error, "a device needs a name: write config device 'pump_house'");
    }
    let named = !(device.ips.is_empty() && device.macs.is_empty() && device.hosts.is_empty());
    if device.is_default() && named {
        let text = "device 'default' applies to all devices without a section: its ip, mac and host have no effect";
        read.problem(Severity::Warning, text);
    }
    if !device.is_default() && !named {
        let text = format!("device '{}' has no ip, mac or host: it is never recognised", device.name);
        read.problem(Severity::Warning, text);
    }
    if !device.after.is_zero() {
        escalation::too_short(device.after, read);
    }
    if device.is_default() && !device.expect_every.is_zero() {
        let text = "option expect_every has no effect in device 'default', which stands for many: write a section for each device that is expected to send";
        read.warn("expect_every", text);
    }
    let limited = !device.allow_recipients.is_empty() || !device.rewrites.is_empty();
    if limited && !device.recipients.is_empty() {
        let text = "list recipient sets who gets all mail: allow_recipient and rewrite have no effect with it";
        read.warn("recipient", text);
    }
    report_domains("allow_recipient", &device.allow_recipients, read);
    report_domains("rewrite", device.rewrites.iter().map(|rewrite| &rewrite.old), read);
    for name in ["over_rate", "digest_every"] {
        let set = read.text(name).is_some();
        if set && read.text("rate").is_none() {
            read.warn(name, format!("option {name} has no effect without option rate"));
        } else if set && name == "digest_every" && device.over_rate != OverRate::Digest {
            read.warn(name, "option digest_every has an effect only with over_rate 'digest'");
        }
    }
}

/// Finds identifiers that two devices claim: the same one, or an address in a network of an earlier section, whose rules
/// then apply. An address before its network is an exception, and meant.
pub(super) fn check(devices: &[(u32, Device)], problems: &mut Vec<Problem>) {
    for (at, (line, device)) in devices.iter().enumerate() {
        let mut problem = |severity, text| problems.push(Problem { line: *line, severity, text });
        for (before_line, before) in devices.iter().take(at).filter(|(_, before)| !before.is_default()) {
            let covers = |ip: &&IpNet| before.ips.iter().any(|net| net.contains(*ip));
            let mut twice: Vec<String> = device.ips.iter().filter(covers).map(ToString::to_string).collect();
            twice.extend(device.macs.iter().filter(|mac| before.macs.contains(mac)).map(ToString::to_string));
            let same = |host: &&String| before.hosts.iter().any(|other| other.eq_ignore_ascii_case(host));
            twice.extend(device.hosts.iter().filter(same).cloned());
            if !twice.is_empty() {
                let text = format!(
                    "{} already belongs to device '{}' of line {before_line}: the first one is used",
                    twice.join(", "),
                    before.name
                );
                problem(Severity::Warning, text);
            }
        }
    }
}

/// What [`recipient`] accepts, for error messages.
pub(super) const RECIPIENT_FORM: &str =
    "a mail address such as ops@example.com, or the name of an alias, without a star";

/// An address, or a name that an alias or `option admin` resolves.
pub(super) fn recipient(text: &str) -> Option<String> {
    let fits = is_one_address(text) || is_local_name(text) && !text.contains('*');
    fits.then(|| text.to_string())
}

/// A host name as devices send it with DHCP.
pub(super) fn host(text: &str) -> Option<String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (text.len() <= 255 && text.bytes().all(fine)).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates() {
        assert_eq!(Rate::parse("20/h"), Some(Rate { count: 20, period: Duration::from_secs(3600) }));
        assert_eq!(Rate::parse("5 / m").map(|r| r.to_string()).as_deref(), Some("5/m"));
        for wrong in ["", "20", "/h", "0/h", "-1/h", "+1/h", "20/w", "20/2h", "1.5/h", "100001/d", "99999999999/d"] {
            assert_eq!(Rate::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn rates_read_back(count in 1..=COUNT_LIMIT, unit in 0..PERIODS.len()) {
            let rate = Rate { count, period: Duration::from_secs(PERIODS[unit].1) };
            prop_assert_eq!(Rate::parse(&rate.to_string()), Some(rate));
        }

        #[test]
        fn any_text_can_be_read(text in "\\PC{0,30}") {
            if let Some(rate) = Rate::parse(&text) {
                prop_assert!(rate.count >= 1);
            }
            if let Some(read) = Rewrite::parse(&text) {
                prop_assert_eq!(Rewrite::parse(&read.to_string()), Some(read));
            }
        }
    }
}

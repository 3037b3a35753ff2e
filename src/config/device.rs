// SPDX-License-Identifier: Apache-2.0
//! The section `device`: how a device is recognised, and the settings for it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::pattern::{PATTERN_FORM, Pattern, is_local_name};
use super::reader::{Problem, Reader, Severity};
use super::uci::Section;
use super::units;
use crate::message::is_address;
use crate::system::leases::Mac;

/// Name of the section that applies to all devices without a section of their own.
pub const DEFAULT_DEVICE: &str = "default";
/// The default interval of digests.
pub const DIGEST_EVERY: Duration = Duration::from_secs(900);
/// The minimum and maximum time between two digests.
const DIGEST_RANGE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(7 * 86_400));
/// Keywords of `option over_rate`.
pub const OVER_RATES: [(&str, OverRate); 3] =
    [("digest", OverRate::Digest), ("defer", OverRate::Defer), ("reject", OverRate::Reject)];
/// Units of `option rate`.
const PERIODS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
/// The largest number in a rate.
const COUNT_LIMIT: u32 = 100_000;

/// The treatment of messages of a device that exceeds its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverRate {
    /// They are collected and sent as one mail per interval.
    Digest,
    /// They are queued until the rate permits them.
    Defer,
    /// They are not accepted.
    Reject,
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

/// A rewrite of recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Which recipients are replaced.
    pub old: Pattern,
    /// The new recipient: an address, or a name that an alias resolves.
    pub new: String,
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.old, self.new)
    }
}

/// A section `device`: how it is recognised, and the settings for its mail.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

impl Device {
    /// Whether this is the section for all devices without one of their own.
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_DEVICE
    }

    /// The display name of its mail; the devices of `default` share none.
    pub fn name_in_mail(&self) -> Option<&str> {
        self.display.as_deref().or_else(|| (!self.is_default()).then_some(self.name.as_str()))
    }

    /// Its name for display: the display name, else the name of its section.
    pub fn title(&self) -> &str {
        self.display.as_deref().unwrap_or(&self.name)
    }
}

/// Reads a section `device`.
pub(super) fn read(section: &Section, problems: &mut Vec<Problem>) -> Device {
    let mut read = Reader::new(section, problems);
    let network = |text: &str| text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let device = Device {
        name: section.name.clone().unwrap_or_default(),
        ips: read.each("ip", "an address or a network such as 192.168.1.20 or 192.168.1.0/28", |text| {
            network(text).map(|net| net.trunc())
        }),
        macs: read.each("mac", "a MAC address such as 00:11:22:aa:bb:cc", Mac::parse),
        hosts: read.each("host", "a host name", |text| is_host(text).then(|| text.to_string())),
        display: read.text("name"),
        accounts: read.list("account"),
        recipients: read.each("recipient", "a mail address such as ops@example.com", recipient),
        allow_recipients: read.each("allow_recipient", PATTERN_FORM, Pattern::parse),
        rewrites: read.each("rewrite", "a pattern and a new address, such as '*@plant.local ops@example.com'", rewrite),
        rate: rate(&mut read),
        over_rate: read.choice("over_rate", OverRate::Digest, &OVER_RATES),
        digest_every: read.duration("digest_every", DIGEST_EVERY, DIGEST_RANGE.0),
    };
    if device.digest_every > DIGEST_RANGE.1 {
        let text = format!("option digest_every is more than {}", units::format_duration(DIGEST_RANGE.1));
        read.error("digest_every", text);
    }
    fits_together(&device, &mut read);
    read.finish();
    device
}

fn fits_together(device: &Device, read: &mut Reader) {
    let line = read.line();
    if device.name.is_empty() {
        read.problem(Severity::Error, line, "a device needs a name: write config device 'pump_house'");
    }
    let named = !(device.ips.is_empty() && device.macs.is_empty() && device.hosts.is_empty());
    if device.is_default() && named {
        let text = "device 'default' applies to all devices without a section: its ip, mac and host have no effect";
        read.problem(Severity::Warning, line, text);
    }
    if !device.is_default() && !named {
        let text = format!("device '{}' has no ip, mac or host: it is never recognised", device.name);
        read.problem(Severity::Warning, line, text);
    }
    let limited = !device.allow_recipients.is_empty() || !device.rewrites.is_empty();
    if limited && !device.recipients.is_empty() {
        let text = "list recipient sets who gets all mail: allow_recipient and rewrite have no effect with it";
        read.warn("recipient", text);
    }
    for name in ["over_rate", "digest_every"] {
        let set = read.text(name).is_some();
        if set && read.text("rate").is_none() {
            read.warn(name, format!("option {name} has no effect without option rate"));
        } else if set && name == "digest_every" && device.over_rate != OverRate::Digest {
            read.warn(name, "option digest_every has an effect only with over_rate 'digest'");
        }
    }
}

/// Finds identifiers that two devices claim.
pub(super) fn check(devices: &[(u32, Device)], problems: &mut Vec<Problem>) {
    for (at, (line, device)) in devices.iter().enumerate() {
        let mut problem = |severity, text| problems.push(Problem { line: *line, severity, text });
        for (before_line, before) in devices.iter().take(at) {
            let mut twice: Vec<String> =
                device.ips.iter().filter(|ip| before.ips.contains(ip)).map(ToString::to_string).collect();
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

fn rate(read: &mut Reader) -> Option<Rate> {
    let text = read.text("rate")?;
    let rate = Rate::parse(&text);
    if rate.is_none() {
        read.error("rate", format!("option rate '{text}' is not a number of messages per s, m, h or d, such as 20/h"));
    }
    rate
}

/// An address, or a name that an alias or `option admin` resolves.
pub(super) fn recipient(text: &str) -> Option<String> {
    (is_address(text) || is_local_name(text)).then(|| text.to_string())
}

fn rewrite(text: &str) -> Option<Rewrite> {
    let mut words = text.split_ascii_whitespace();
    let rewrite = Rewrite { old: Pattern::parse(words.next()?)?, new: recipient(words.next()?)? };
    words.next().is_none().then_some(rewrite)
}

fn is_host(text: &str) -> bool {
    text.len() <= 255 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
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
            if let Some(read) = rewrite(&text) {
                prop_assert_eq!(rewrite(&read.to_string()), Some(read));
            }
        }
    }
}

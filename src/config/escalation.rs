// SPDX-License-Identifier: Apache-2.0
//! Section `escalation`: which messages have to get through, and who gets them next while they have not.

use std::time::Duration;

use super::reader::{Keyword, Problem, Reader, Severity};
use super::settings::{Account, Route, Settings};
use super::uci::{Package, Section};

/// Maximum number of steps.
const STEP_LIMIT: usize = 16;
/// Below this, mail that leaves at its first attempt would be escalated as well.
const SHORTEST: Duration = Duration::from_secs(10);

/// Which priority a message must have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Any, or none.
    #[default]
    Any,
    /// One that its header marks as high.
    High,
}

impl Keyword for Wanted {
    const WORDS: &'static [(&'static str, Self)] = &[("high", Self::High)];
}

/// A section `escalation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// The name of the section.
    pub name: String,
    /// Names of sections `device`; empty: all, and clients without one.
    pub devices: Vec<String>,
    /// Texts one of which is in the subject; empty: any subject.
    pub subjects: Vec<String>,
    /// The priority in the header.
    pub priority: Wanted,
    /// How long each step, and the mail before the first one, has.
    pub after: Duration,
    /// Names of the accounts and channels that get the message, in this order.
    pub accounts: Vec<String>,
}

impl Escalation {
    /// The section with this name, with its defaults.
    pub fn new(name: String) -> Self {
        let (devices, subjects, accounts) = Default::default();
        Self { name, devices, subjects, priority: Wanted::Any, after: Duration::from_secs(600), accounts }
    }
}

/// A time of `option after` that is set, but too short to be meant.
pub(super) fn too_short(after: Duration, read: &mut Reader) {
    if after < SHORTEST {
        read.error("after", "option after is not at least 10s: mail needs some seconds to leave");
    }
}

/// One section `escalation`; `None` if it is not used.
pub(super) fn read(section: &Section, accounts: &[Account], problems: &mut Vec<Problem>) -> Option<Escalation> {
    let mut read = Reader::new(section, problems);
    let enabled = read.enabled();
    let mut escalation = Escalation::new(section.name.clone().unwrap_or_default());
    read.fill(super::options::escalation(&mut escalation));
    too_short(escalation.after, &mut read);
    if escalation.name.is_empty() {
        read.problem(Severity::Error, "an escalation needs a name: write config escalation 'alarm'");
    }
    let steps = &escalation.accounts;
    if steps.is_empty() {
        let text = "an escalation needs list account: the accounts and channels that get the message, in their order";
        read.problem(Severity::Error, text);
    }
    if steps.len() > STEP_LIMIT {
        read.error("account", format!("list account has more than {STEP_LIMIT} steps"));
    }
    for (at, name) in steps.iter().enumerate() {
        if steps.iter().take(at).any(|before| before == name) {
            read.error("account", format!("list account '{name}' is a step twice: each step gets a message once"));
        } else if enabled && !accounts.iter().any(|account| account.name == *name) {
            let text =
                format!("list account '{name}': no enabled account or channel has this name; the step is skipped");
            read.warn("account", text);
        }
    }
    read.finish();
    enabled.then_some(escalation)
}

/// Finds what does not fit to other sections.
pub(super) fn check(package: &Package, settings: &Settings, problems: &mut Vec<Problem>) {
    let devices: Vec<&str> = package.of_kind("device").filter_map(|section| section.name.as_deref()).collect();
    // Mail that takes nothing but the step's account anyway gains nothing by it.
    let mut general = settings.accounts.iter().filter(|account| account.general);
    let only = general.next().filter(|_| general.next().is_none() && settings.routes.is_empty());
    for section in package.of_kind("escalation") {
        let mut read = Reader::new(section, problems);
        for name in read.list("device").iter().filter(|name| !devices.contains(&name.as_str())) {
            let text = format!("list device '{name}' is not the name of a section 'device' and matches no mail");
            read.warn("device", text);
        }
        let steps = read.list("account");
        if let Some(name) = only.map(|account| &account.name).filter(|name| steps.contains(name)) {
            let text =
                format!("list account '{name}': mail takes this account anyway, so the step brings it nowhere else");
            read.warn("account", text);
        }
    }
    for device in settings.devices.iter().filter(|device| !device.after.is_zero()) {
        let is_it = |section: &&Section| section.name.as_ref() == Some(&device.name);
        let Some(section) = package.of_kind("device").find(is_it) else { continue };
        let mut read = Reader::new(section, problems);
        if device.accounts.is_empty() {
            read.warn("after", "option after has no effect without list account");
        } else if !is_mixed(&device.accounts, &settings.accounts) {
            read.warn("after", DELAYED);
        }
    }
}

/// The time `after` of a route: whether it is long enough, and whether anything can leave before.
pub(super) fn judge(route: &Route, accounts: &[Account], read: &mut Reader) {
    if route.after.is_zero() {
        return;
    }
    too_short(route.after, read);
    if route.recipients.is_empty() && !is_mixed(&route.accounts, accounts) {
        read.warn("after", DELAYED);
    }
}

const DELAYED: &str = "option after only delays this mail: all recipients of a message take the same accounts, so nothing \
                       can leave before; name an account for mail and a channel, or set list recipient";

/// Whether some of these send mail and others are channels: then `after` delays the channels only.
pub fn is_mixed(names: &[String], accounts: &[Account]) -> bool {
    let used = || accounts.iter().filter(|account| names.contains(&account.name));
    used().any(|account| account.channel.is_some()) && used().any(|account| account.channel.is_none())
}

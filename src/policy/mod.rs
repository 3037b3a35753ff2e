// SPDX-License-Identifier: Apache-2.0
//! What applies to the mail of one device: who receives it, how much of it may be sent, and under which name. Pure
//! functions of the settings; nothing here reads files or waits.
//!
//! | part | decides |
//! |---|---|
//! | [`Policies::device`] | which `device` section applies to a client |
//! | [`Policies::may`], [`Policies::recipients`] | the recipients: rewritten, aliases resolved, allowed, fixed |
//! | [`Policies::told`] | who may be notified by mail about its messages |
//! | [`Rates`] | whether another message may pass now |
//! | [`Alarms`] | which section `escalation` applies to a message |
//! | [`named`] | the header with the device's name in From |
//!
//! The message that collects what a device sends over its rate limit is `crate::digest`.

mod alarm;
mod name;
mod rate;

use std::fmt;
use std::net::IpAddr;

use crate::config::alias::{DEPTH_LIMIT, is_itself, lookup};
use crate::config::{Alias, Device, Settings};
use crate::message::is_address;
use crate::system::leases::Mac;

pub use alarm::Alarms;
pub use name::named;
pub use rate::{Counts, RateOutcome, Rates};

/// Maximum number of recipients of one message after all aliases are resolved.
const EXPANDED_LIMIT: usize = 1000;

/// Why a device may not send to a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientRefusal {
    /// It is not in `list allow_recipient`.
    NotAllowed {
        /// The recipient that is refused, aliases resolved.
        address: String,
        /// The display name of the device.
        device: String,
    },
    /// It has no domain, and neither an alias nor `option admin` defines its meaning.
    Unknown {
        /// The name given by the device.
        name: String,
    },
    /// More than a thousand, aliases resolved.
    TooMany,
}

impl RecipientRefusal {
    /// The SMTP reply (RFC 5321 section 4.2.3, RFC 3463 section 3.8).
    pub fn reply(&self) -> String {
        let code = match self {
            Self::NotAllowed { .. } => "550 5.7.1",
            Self::Unknown { .. } => "550 5.1.3",
            Self::TooMany => "452 4.5.3",
        };
        format!("{code} {self}")
    }
}

impl fmt::Display for RecipientRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { address, device } => {
                write!(f, "{device} is not allowed to send to {address} (list allow_recipient in its 'device' section)")
            }
            Self::Unknown { name } => {
                write!(f, "'{name}' has no domain, matches no alias, and option admin is not set")
            }
            Self::TooMany => write!(f, "the aliases expand to more than {EXPANDED_LIMIT} recipients"),
        }
    }
}

impl std::error::Error for RecipientRefusal {}

/// The `device` and `alias` sections, prepared for lookups.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    devices: Vec<Device>,
    aliases: Vec<Alias>,
    admin: Option<String>,
}

impl Policies {
    /// The policies in `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self {
            devices: settings.devices.clone(),
            aliases: settings.aliases.clone(),
            admin: settings.relay.admin.clone(),
        }
    }

    /// Whether [`Self::device`] can make use of a MAC address or host name: if not, they need not be looked up.
    pub fn needs_identity(&self) -> bool {
        self.devices.iter().any(|device| !(device.macs.is_empty() && device.hosts.is_empty()))
    }

    /// The section that applies to the client at `ip`: the first that names its address, MAC address or host name, else
    /// `default`, if there is one.
    pub fn device(&self, ip: IpAddr, mac: Option<Mac>, host: Option<&str>) -> Option<&Device> {
        let ip = ip.to_canonical();
        let named = |device: &&Device| {
            device.ips.iter().any(|net| net.contains(&ip))
                || mac.is_some_and(|mac| device.macs.contains(&mac))
                || host.is_some_and(|host| device.hosts.iter().any(|name| name.eq_ignore_ascii_case(host)))
        };
        let own = self.devices.iter().filter(|device| !device.is_default()).find(named);
        own.or_else(|| self.devices.iter().find(|device| device.is_default()))
    }

    /// The section called `name`, for messages that were queued before a change of the settings.
    pub fn device_named(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// Who receives a message that `device` addresses to `named`: each recipient is rewritten, then aliases are
    /// resolved, then the result is checked against what the device is allowed. Fixed recipients replace all of them.
    /// Each address occurs once, in order of first appearance.
    ///
    /// # Errors
    /// If one of them cannot be sent to. The whole message has to be refused then, since it gets one reply.
    pub fn recipients(&self, device: Option<&Device>, named: &[String]) -> Result<Vec<String>, RecipientRefusal> {
        if let Some(device) = device.filter(|device| !device.recipients.is_empty()) {
            return self.resolved(&device.recipients);
        }
        let found = self.meant(device, named)?;
        if let Some(device) = device.filter(|device| !device.allow_recipients.is_empty()) {
            let allowed = |address: &String| device.allow_recipients.iter().any(|pattern| pattern.matches(address));
            all(&found, allowed, device)?;
        }
        Ok(found)
    }

    /// Who may be notified about a message by `sender`, as given by the device: treated as if it were a recipient of
    /// the device's mail. Where the recipients are fixed, it has to be one of these. `name` is the section that applied
    /// to the device when the message was accepted, `client` its address.
    ///
    /// # Errors
    /// If the device may not send to the sender, or its section no longer exists, so that its permissions are unknown.
    pub fn told(&self, name: Option<&str>, client: &str, sender: &str) -> Result<Vec<String>, RecipientRefusal> {
        let device = match name {
            Some(name) => {
                let gone = || RecipientRefusal::NotAllowed { address: sender.to_string(), device: name.to_string() };
                Some(self.device_named(name).ok_or_else(gone)?)
            }
            // No section applied then; by its address one may apply now.
            None => client.parse().ok().and_then(|ip| self.device(ip, None, None)),
        };
        let sender = [sender.to_string()];
        let Some(device) = device.filter(|device| !device.recipients.is_empty()) else {
            return self.recipients(device, &sender);
        };
        let (found, fixed) = (self.meant(Some(device), &sender)?, self.resolved(&device.recipients)?);
        all(&found, |address| fixed.iter().any(|known| known.eq_ignore_ascii_case(address)), device)?;
        Ok(found)
    }

    /// Whom `named` refers to when `device` uses it: each rewritten, then aliases resolved.
    fn meant(&self, device: Option<&Device>, named: &[String]) -> Result<Vec<String>, RecipientRefusal> {
        let rewrites = device.map_or(&[][..], |device| &device.rewrites);
        self.resolved(named.iter().map(|address| {
            let rewrite = rewrites.iter().find(|rewrite| rewrite.old.matches(address));
            rewrite.map_or(address, |rewrite| &rewrite.new)
        }))
    }

    /// The addresses that the names stand for.
    fn resolved<'a>(&'a self, names: impl IntoIterator<Item = &'a String>) -> Result<Vec<String>, RecipientRefusal> {
        let mut expansion = Expansion { policies: self, seen: Vec::new(), found: Vec::new() };
        for name in names {
            expansion.resolve(name, DEPTH_LIMIT)?;
        }
        Ok(expansion.found)
    }

    /// Whether `device` may use `address` as a recipient: for the reply to RCPT, before all of them are known.
    ///
    /// # Errors
    /// As for [`Self::recipients`].
    pub fn may(&self, device: Option<&Device>, address: &str) -> Result<(), RecipientRefusal> {
        self.recipients(device, &[address.to_string()]).map(drop)
    }
}

/// Whether `device` may send to all of `addresses`.
fn all(addresses: &[String], allowed: impl Fn(&String) -> bool, device: &Device) -> Result<(), RecipientRefusal> {
    let refused = addresses.iter().find(|address| !allowed(address));
    let not_allowed = |address: &String| RecipientRefusal::NotAllowed {
        address: address.clone(),
        device: device.title().to_string(),
    };
    refused.map_or(Ok(()), |address| Err(not_allowed(address)))
}

/// Recipients while aliases are being resolved.
struct Expansion<'a> {
    policies: &'a Policies,
    /// Aliases that have been resolved: once is enough, however many lead there.
    seen: Vec<&'a str>,
    /// The addresses so far.
    found: Vec<String>,
}

impl<'a> Expansion<'a> {
    /// Adds the addresses that `address` stands for. `depth` is how many aliases may still follow; settings with more
    /// are rejected when they are read, so that it is never exceeded.
    fn resolve(&mut self, address: &'a str, depth: usize) -> Result<(), RecipientRefusal> {
        let Some(alias) = lookup(&self.policies.aliases, address).filter(|_| depth > 0) else {
            return self.add(address);
        };
        if self.seen.iter().any(|seen| seen.eq_ignore_ascii_case(address)) {
            return Ok(());
        }
        if self.seen.len() >= EXPANDED_LIMIT {
            return Err(RecipientRefusal::TooMany);
        }
        self.seen.push(address);
        for to in &alias.to {
            if is_itself(address, to) {
                self.add(to)?;
            } else {
                self.resolve(to, depth - 1)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, address: &str) -> Result<(), RecipientRefusal> {
        // Names without a domain refer to the administrator (`postmaster` by RFC 5321 section 4.5.1).
        let address = if is_address(address) { Some(address) } else { self.policies.admin.as_deref() }
            .ok_or_else(|| RecipientRefusal::Unknown { name: address.to_string() })?;
        if self.found.iter().any(|known| known.eq_ignore_ascii_case(address)) {
            return Ok(());
        }
        if self.found.len() >= EXPANDED_LIMIT {
            return Err(RecipientRefusal::TooMany);
        }
        self.found.push(address.to_string());
        Ok(())
    }
}

#[cfg(test)]
mod tests;

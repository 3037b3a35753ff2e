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
//! | [`named`] | the header with the device's name in From |
//!
//! The message that collects what a device sends over its rate limit is `crate::digest`.

mod name;
mod rate;
mod recipients;

use std::net::IpAddr;

use crate::config::{Alias, Device, Settings};
use crate::system::leases::Mac;

pub use name::named;
pub use rate::{Counts, RateOutcome, Rates};
pub use recipients::{EXPANDED_LIMIT, RecipientRefusal};

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
}

#[cfg(test)]
mod tests;

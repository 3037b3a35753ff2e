//! What holds for the mail of one device: who gets it, how much of it, and under which name it is sent. Pure functions
//! of the settings; nothing here reads files or waits.
//!
//! | part | answers |
//! |---|---|
//! | [`Policies::device`] | which section `device` a client is |
//! | [`Policies::may`], [`Policies::recipients`] | whom its mail goes to: rewritten, aliases resolved, allowed, fixed |
//! | [`Policies::told`] | who may hear by mail of what became of its mail |
//! | [`Rates`] | whether one message more may pass now |
//! | [`named`] | the header with the device's name in From |
//!
//! The mail that collects what a device sends beyond its rate is `crate::digest`.

mod name;
mod rate;
mod recipients;

use std::net::IpAddr;

use crate::config::{Alias, Device, Settings};
use crate::system::leases::Mac;

pub use name::named;
pub use rate::{Counts, Outcome, Rates};
pub use recipients::{EXPANDED_LIMIT, Refusal};

/// The sections `device` and `alias`, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    devices: Vec<Device>,
    aliases: Vec<Alias>,
    admin: Option<String>,
}

impl Policies {
    /// What `settings` say.
    pub fn new(settings: &Settings) -> Self {
        Self {
            devices: settings.devices.clone(),
            aliases: settings.aliases.clone(),
            admin: settings.relay.admin.clone(),
        }
    }

    /// Whether [`Self::device`] can make use of a hardware address or name: without, nobody has to look for them.
    pub fn needs_identity(&self) -> bool {
        self.devices.iter().any(|device| !(device.macs.is_empty() && device.hosts.is_empty()))
    }

    /// The section of the client at `ip`: the first that names its address, hardware address or host name, else
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

    /// The section called `name`, for messages that waited through a change of the settings.
    pub fn device_named(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }
}

#[cfg(test)]
mod tests;

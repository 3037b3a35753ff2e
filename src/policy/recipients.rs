//! Whom a message goes to: what the device says, by way of its rewrites, the aliases, and what it is allowed.

use std::fmt;

use super::Policies;
use crate::config::Device;
use crate::config::alias::{DEPTH_LIMIT, is_itself, lookup};
use crate::message::is_address;

/// Recipients that one message may have when all aliases are resolved.
pub const EXPANDED_LIMIT: usize = 1000;

/// Why a device may not send to a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `list allow_recipient` does not have it.
    NotAllowed {
        /// The recipient that is refused, aliases resolved.
        address: String,
        /// What people call the device.
        device: String,
    },
    /// It has no domain, and neither an alias nor `option admin` says who is meant.
    Unknown {
        /// What the device said.
        name: String,
    },
    /// More than [`EXPANDED_LIMIT`], aliases resolved.
    TooMany,
}

impl Refusal {
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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { address, device } => {
                write!(f, "{device} may not send to {address} (list allow_recipient of its section 'device')")
            }
            Self::Unknown { name } => {
                write!(f, "'{name}' has no domain, no alias explains it, and option admin is not set")
            }
            Self::TooMany => write!(f, "the aliases make more than {EXPANDED_LIMIT} recipients of these"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Policies {
    /// Who gets a message that `device` addresses to `named`: each rewritten, then aliases resolved, then checked against
    /// what the device is allowed. With fixed recipients these get it instead, whatever it says. Each address once, in
    /// the order in which it came up.
    ///
    /// # Errors
    /// When one of them can't be sent to. The whole message has to be refused then, since it has one verdict.
    pub fn recipients(&self, device: Option<&Device>, named: &[String]) -> Result<Vec<String>, Refusal> {
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

    /// Who may be told of a message by `sender`, which the device says: as if it were a recipient of its mail. Where the
    /// recipients are fixed, it has to be one of these. `name` is the section that the device was when the message was
    /// accepted, `client` its address.
    ///
    /// # Errors
    /// When the device may not send to the sender, or its section is gone, so that nobody knows what it may.
    pub fn told(&self, name: Option<&str>, client: &str, sender: &str) -> Result<Vec<String>, Refusal> {
        let device = match name {
            Some(name) => {
                let gone = || Refusal::NotAllowed { address: sender.to_string(), device: name.to_string() };
                Some(self.device_named(name).ok_or_else(gone)?)
            }
            // It was nobody then; by its address it may be somebody now.
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

    /// Whom `named` mean when `device` says it: each rewritten, then aliases resolved.
    fn meant(&self, device: Option<&Device>, named: &[String]) -> Result<Vec<String>, Refusal> {
        let rewrites = device.map_or(&[][..], |device| &device.rewrites);
        self.resolved(named.iter().map(|address| {
            let rewrite = rewrites.iter().find(|rewrite| rewrite.old.matches(address));
            rewrite.map_or(address, |rewrite| &rewrite.new)
        }))
    }

    /// For whom the names stand.
    fn resolved<'a>(&'a self, names: impl IntoIterator<Item = &'a String>) -> Result<Vec<String>, Refusal> {
        let mut expansion = Expansion { policies: self, seen: Vec::new(), found: Vec::new() };
        for name in names {
            expansion.resolve(name, DEPTH_LIMIT)?;
        }
        Ok(expansion.found)
    }

    /// Whether `device` may name `address` as a recipient: the answer to RCPT, before all of them are known.
    ///
    /// # Errors
    /// As [`Self::recipients`].
    pub fn may(&self, device: Option<&Device>, address: &str) -> Result<(), Refusal> {
        self.recipients(device, &[address.to_string()]).map(drop)
    }
}

/// Whether `device` may send to all of `addresses`.
fn all(addresses: &[String], allowed: impl Fn(&String) -> bool, device: &Device) -> Result<(), Refusal> {
    let refused = addresses.iter().find(|address| !allowed(address));
    let not_allowed =
        |address: &String| Refusal::NotAllowed { address: address.clone(), device: device.title().to_string() };
    refused.map_or(Ok(()), |address| Err(not_allowed(address)))
}

/// Recipients while aliases are being resolved.
struct Expansion<'a> {
    policies: &'a Policies,
    /// What aliases have explained: once is enough, however many lead there.
    seen: Vec<&'a str>,
    /// The addresses so far.
    found: Vec<String>,
}

impl<'a> Expansion<'a> {
    /// Adds those for whom `address` stands. `depth` is how many aliases may still follow; the settings are checked for
    /// more when they are read, so that it never counts.
    fn resolve(&mut self, address: &'a str, depth: usize) -> Result<(), Refusal> {
        let Some(alias) = lookup(&self.policies.aliases, address).filter(|_| depth > 0) else {
            return self.add(address);
        };
        if self.seen.iter().any(|seen| seen.eq_ignore_ascii_case(address)) {
            return Ok(());
        }
        if self.seen.len() >= EXPANDED_LIMIT {
            return Err(Refusal::TooMany);
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

    fn add(&mut self, address: &str) -> Result<(), Refusal> {
        // Names without a domain mean whoever runs the gateway (`postmaster` by RFC 5321 section 4.5.1).
        let address = if is_address(address) { Some(address) } else { self.policies.admin.as_deref() }
            .ok_or_else(|| Refusal::Unknown { name: address.to_string() })?;
        if self.found.iter().any(|known| known.eq_ignore_ascii_case(address)) {
            return Ok(());
        }
        if self.found.len() >= EXPANDED_LIMIT {
            return Err(Refusal::TooMany);
        }
        self.found.push(address.to_string());
        Ok(())
    }
}

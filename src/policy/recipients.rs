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
        let mut expansion = Expansion { policies: self, seen: Vec::new(), found: Vec::new() };
        if let Some(device) = device.filter(|device| !device.recipients.is_empty()) {
            for fixed in &device.recipients {
                expansion.resolve(fixed, DEPTH_LIMIT)?;
            }
            return Ok(expansion.found);
        }
        for address in named {
            let rewrite = device.and_then(|device| device.rewrites.iter().find(|rewrite| rewrite.old.matches(address)));
            expansion.resolve(rewrite.map_or(address, |rewrite| &rewrite.new), DEPTH_LIMIT)?;
        }
        let found = expansion.found;
        if let Some(device) = device.filter(|device| !device.allow_recipients.is_empty()) {
            let allowed = |address: &&String| device.allow_recipients.iter().any(|pattern| pattern.matches(address));
            if let Some(address) = found.iter().find(|address| !allowed(address)) {
                return Err(Refusal::NotAllowed { address: address.clone(), device: device.title().to_string() });
            }
        }
        Ok(found)
    }

    /// Whether `device` may name `address` as a recipient: the answer to RCPT, before all of them are known.
    ///
    /// # Errors
    /// As [`Self::recipients`].
    pub fn may(&self, device: Option<&Device>, address: &str) -> Result<(), Refusal> {
        self.recipients(device, &[address.to_string()]).map(drop)
    }
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

// SPDX-License-Identifier: Apache-2.0
//! The section `alias`: names that stand for addresses, and whether they can be resolved.

use super::device::Device;
use super::pattern::is_local_name;
use super::reader::{Problem, Severity};
use crate::message::address::is_routed;
use crate::message::is_address;

/// The maximum length of a chain of aliases.
pub const DEPTH_LIMIT: usize = 8;

/// A section `alias`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alias {
    /// The line of the section in its file.
    pub line: u32,
    /// An address, a name without a domain such as `root`, `*@domain`, or `*` for all names without a domain.
    pub names: Vec<String>,
    /// The targets: addresses, or names of other aliases.
    pub to: Vec<String>,
}

/// What a name of an alias may be.
pub(super) fn name(text: &str) -> Option<String> {
    let plain = if text == "*" { "x" } else { text.strip_prefix("*@").map_or(text, |_| text.get(2..).unwrap_or("")) };
    let fits = match text.strip_prefix("*@") {
        Some(domain) => is_address(&format!("x@{domain}")),
        None => is_address(plain) || is_local_name(plain),
    };
    (fits && !plain.contains('*')).then(|| text.to_string())
}

/// The alias that matches `address`: an exact one before `*@domain`, and `*` only for names without domain. This is
/// case-insensitive. A local part that contains a route is in no domain.
pub fn lookup<'a>(aliases: &'a [Alias], address: &str) -> Option<&'a Alias> {
    if aliases.is_empty() {
        return None;
    }
    let find =
        |wanted: &str| aliases.iter().find(|alias| alias.names.iter().any(|name| name.eq_ignore_ascii_case(wanted)));
    let general = match address.rsplit_once('@') {
        Some(_) if is_routed(address) => None,
        Some((_, domain)) => Some(format!("*@{domain}")),
        None => Some("*".into()),
    };
    find(address).or_else(|| find(&general?))
}

/// Whether `to`, as a target of an alias for `address`, ends there: an address may stand for itself and others, or be
/// in the domain that `*@domain` matches.
pub fn is_itself(address: &str, to: &str) -> bool {
    address.eq_ignore_ascii_case(to) && is_address(to)
}

/// Finds names that are defined twice, aliases that form a loop or too long a chain, and names that no alias matches.
pub(super) fn check(aliases: &[Alias], devices: &[(u32, Device)], admin: Option<&str>, problems: &mut Vec<Problem>) {
    let mut error = |line, text| problems.push(Problem { line, severity: Severity::Error, text });
    for (at, alias) in aliases.iter().enumerate() {
        for name in &alias.names {
            let before = aliases.iter().take(at).find(|a| a.names.iter().any(|n| n.eq_ignore_ascii_case(name)));
            if let Some(before) = before {
                let text = format!(
                    "alias '{name}' is already defined in line {}: put all of its list to entries there",
                    before.line
                );
                error(alias.line, text);
            }
        }
    }
    let mut known = Vec::new();
    for alias in aliases {
        for to in &alias.to {
            let mut walk = Walk {
                aliases,
                path: vec![(alias, alias.names.first().map_or("", String::as_str))],
                known: &mut known,
            };
            if let Err((line, text)) = walk.go(to) {
                error(line, text);
                // Each further alias on the way would report the same again.
                return;
            }
        }
    }
    let unknown = |name: &str| is_local_name(name) && lookup(aliases, name).is_none() && admin.is_none();
    let text = |option: &str, name: &str| {
        format!("list {option} '{name}' has no domain, no alias matches it, and option admin is not set")
    };
    for alias in aliases {
        for to in alias.to.iter().filter(|to| unknown(to)) {
            error(alias.line, text("to", to));
        }
    }
    for (line, device) in devices {
        let all = device.recipients.iter().map(|to| ("recipient", to));
        for (option, to) in all.chain(device.rewrites.iter().map(|r| ("rewrite", &r.new))).filter(|(_, to)| unknown(to))
        {
            error(*line, text(option, to));
        }
    }
}

/// A chain of aliases.
struct Walk<'a, 'k> {
    aliases: &'a [Alias],
    /// The aliases so far, each with the address that led to it.
    path: Vec<(&'a Alias, &'a str)>,
    /// Addresses that were visited, with the number of aliases after them.
    known: &'k mut Vec<(&'a str, usize)>,
}

impl<'a> Walk<'a, '_> {
    /// How many aliases follow `address`; the error contains the line of the problem, and the problem.
    fn go(&mut self, address: &'a str) -> Result<usize, (u32, String)> {
        let Some((from, before)) = self.path.last().copied() else { return Ok(0) };
        let Some(alias) = lookup(self.aliases, address).filter(|_| !is_itself(before, address)) else { return Ok(0) };
        if let Some(start) = self.path.iter().position(|(_, passed)| passed.eq_ignore_ascii_case(address)) {
            let way = self.path.iter().skip(start).map(|(alias, name)| format!("'{name}' (line {})", alias.line));
            let way = way.collect::<Vec<_>>().join(" to ");
            return Err((from.line, format!("these aliases form a loop: {way} and back to '{address}'")));
        }
        let known = self.known.iter().find(|(name, _)| name.eq_ignore_ascii_case(address)).map(|(_, height)| *height);
        let too_deep = (from.line, format!("a chain of more than {DEPTH_LIMIT} aliases leads to '{address}'"));
        if self.path.len() + known.unwrap_or(1) > DEPTH_LIMIT {
            return Err(too_deep);
        }
        if let Some(height) = known {
            return Ok(height);
        }
        self.path.push((alias, address));
        let mut height = 1;
        for to in &alias.to {
            height = height.max(1 + self.go(to)?);
        }
        self.path.pop();
        self.known.push((address, height));
        Ok(height)
    }
}

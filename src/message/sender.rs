// SPDX-License-Identifier: Apache-2.0
//! Adapts a message to the senders that an account allows.
//!
//! Many providers accept only the account's own address as sender. A device has another one, or one that is not an
//! address at all. It is then replaced by the account's address; the device stays visible in the display name, and can
//! still be replied to if its address is reachable by mail.

use super::address::{Mailbox, for_envelope, for_header, is_address, mailboxes};
use super::encoded;
use super::header::{Field, fields, is_one_of};

/// Which senders an account may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromPolicy {
    /// Only the account's address.
    Account,
    /// Any address of the account's domain.
    Domain,
    /// Any.
    Keep,
}

/// The senders that an account allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Senders<'a> {
    /// Which addresses.
    pub policy: FromPolicy,
    /// The account's address; may be empty.
    pub address: &'a str,
    /// Whether the null sender is allowed.
    pub null: bool,
}

/// A message with an allowed sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The header, with CRLF line endings as before.
    pub header: Vec<u8>,
    /// The sender for MAIL FROM; empty for the null sender.
    pub envelope_from: String,
    /// Whether the envelope names the account's own address: if the provider rejects that sender, the fault is in the
    /// account, and not in this message.
    pub own_envelope: bool,
    /// The same for all senders: envelope, From and Sender.
    pub own_header: bool,
}

/// Maximum number of addresses in Reply-To, if From had many.
const REPLIES: usize = 10;
/// Maximum length of a word in a name that still fits on a line; longer ones are encoded, so that they can be folded.
const WORD_LIMIT: usize = 900;
/// Top-level domains that have no meaning outside a site: RFC 2606, RFC 6761, RFC 6762 appendix G, RFC 8375, and
/// `internal`, which ICANN has reserved.
const SITE_DOMAINS: &str = "local lan localdomain localhost internal intranet invalid private home corp test arpa \
    onion workgroup";

/// Adapts the senders of a message to what is `allowed`. What is already allowed stays byte for byte, so that
/// signatures remain valid. Resent fields (RFC 5322 section 3.6.6) are not touched.
///
/// The null sender stays the null sender: a bounce must not be replied to (RFC 5321 section 4.5.5). Only if the
/// provider refuses it is it replaced by the account's address: a bounce that could itself bounce to the owner's
/// mailbox is better than none; it cannot come back here and cause a loop. An envelope sender that is not an address is
/// replaced by the account's even if the policy is to keep. If the account has no address, nothing changes.
pub fn apply(header: &[u8], envelope_from: &str, allowed: Senders<'_>) -> Rewritten {
    if !is_address(allowed.address) {
        let (header, envelope_from) = (header.to_vec(), envelope_from.to_string());
        return Rewritten { header, envelope_from, own_envelope: false, own_header: false };
    }
    let keeps = match envelope_from {
        "" => allowed.null,
        from => is_address(from) && allowed.fits(from),
    };
    let envelope_from = if keeps { envelope_from } else { allowed.address };
    let header = allowed.header(header);
    let own = Senders { policy: FromPolicy::Account, ..allowed };
    let own_envelope = own.fits(envelope_from);
    let names_another = |field: Field<'_>| (field.is("From") || field.is("Sender")) && !own.field_fits(&field);
    let own_header = own_envelope && !fields(&header).any(names_another);
    Rewritten { header, envelope_from: envelope_from.to_string(), own_envelope, own_header }
}

/// Whether a message with these senders cannot be sent to a server that accepts only ASCII: the local part of the
/// envelope sender, From or Sender is not ASCII.
pub fn needs_utf8(header: &[u8], envelope_from: &str) -> bool {
    let beyond = |address: &str| for_envelope(address, false).is_none();
    let named = fields(header).filter(|field| field.is("From") || field.is("Sender"));
    beyond(envelope_from) || named.flat_map(|field| mailboxes(field.value)).any(|mailbox| beyond(&mailbox.address))
}

impl Senders<'_> {
    /// Whether the account may send as `address`. Local parts are compared case-insensitively: they could be
    /// case-sensitive (RFC 5321 section 2.4), but with no provider they are.
    fn fits(&self, address: &str) -> bool {
        match self.policy {
            FromPolicy::Account => address.eq_ignore_ascii_case(self.address),
            FromPolicy::Domain => domain(address).eq_ignore_ascii_case(domain(self.address)),
            FromPolicy::Keep => true,
        }
    }

    /// Whether all addresses of a field are allowed.
    fn field_fits(&self, field: &Field<'_>) -> bool {
        let found = mailboxes(field.value);
        !found.is_empty() && found.iter().all(|mailbox| self.fits(&mailbox.address))
    }

    fn header(&self, header: &[u8]) -> Vec<u8> {
        if self.policy == FromPolicy::Keep {
            return header.to_vec();
        }
        let from: Vec<Field<'_>> = fields(header).filter(|field| field.is("From")).collect();
        let senders: Vec<Mailbox> = from.iter().flat_map(|field| mailboxes(field.value)).collect();
        let one = self.policy == FromPolicy::Domain || senders.len() == 1;
        let from_fits = one && from.len() == 1 && from.iter().all(|field| self.field_fits(field));
        let mut from = (!from_fits).then(|| self.from(&senders));
        let answered = fields(header).any(|field| field.is("Reply-To") && !mailboxes(field.value).is_empty());
        let reply = if from_fits || answered { None } else { self.reply_to(&senders) };
        let mut out = Vec::with_capacity(header.len() + 256);
        for field in fields(header) {
            let dropped = (field.is("Sender") && !self.field_fits(&field)) || (field.is("Reply-To") && reply.is_some());
            if field.is("From") && !from_fits {
                out.extend(from.take().unwrap_or_default());
            } else if !dropped {
                out.extend_from_slice(field.raw);
            }
        }
        // If there was no From.
        out.extend(from.unwrap_or_default());
        out.extend(reply.unwrap_or_default());
        out
    }

    /// The From field that replaces one with `senders`.
    fn from(&self, senders: &[Mailbox]) -> Vec<u8> {
        let name = senders.first().map(|first| {
            if first.name.is_empty() && !first.address.eq_ignore_ascii_case(self.address) {
                first.address.clone().into_bytes()
            } else {
                first.name.clone()
            }
        });
        let mailbox = Mailbox { name: name.unwrap_or_default(), address: self.address.to_string() };
        field("From", &mailbox.write())
    }

    /// A Reply-To field for those of `senders` that are reachable by mail.
    fn reply_to(&self, senders: &[Mailbox]) -> Option<Vec<u8>> {
        let reachable = senders.iter().map(|sender| &sender.address).filter(|address| is_reachable(address));
        let list: Vec<String> = reachable.take(REPLIES).map(|address| for_header(address)).collect();
        let needed = list.iter().any(|address| !address.eq_ignore_ascii_case(self.address));
        needed.then(|| field("Reply-To", list.join(", ").as_bytes()))
    }
}

/// A whole field, in 7 bits if possible: it is not if the account's address itself is non-ASCII.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let value = [b" ", value].concat();
    let value = encoded::field_value(name.as_bytes(), &value, WORD_LIMIT).unwrap_or(value);
    [name.as_bytes(), b":", &value, b"\r\n"].concat()
}

fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// Whether mail can be sent to `address` from anywhere: it is in a domain with a dot that is not local to the site.
fn is_reachable(address: &str) -> bool {
    let Some((_, top)) = domain(address).rsplit_once('.') else { return false };
    // A top-level domain is never a number: that is an IP address.
    address.is_ascii()
        && top.bytes().any(|b| b.is_ascii_alphabetic())
        && !top.ends_with(']')
        && !is_one_of(top.as_bytes(), SITE_DOMAINS)
}

#[cfg(test)]
mod tests;

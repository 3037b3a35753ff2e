//! Fits a message to the sender that an account allows.
//!
//! Many providers take only the account's own address as sender. A device has another one, or one that is no address at
//! all. Then the account's address takes its place; the device stays visible as display name, and can still be answered
//! if its address is one that mail can reach.

use super::address::{Mailbox, for_envelope, for_header, is_address, mailboxes};
use super::encoded;
use super::header::{Field, fields};

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

/// What an account allows as sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Senders<'a> {
    /// Which addresses.
    pub policy: FromPolicy,
    /// The account's address; may be empty.
    pub address: &'a str,
    /// Whether mail may have no sender at all.
    pub null: bool,
}

/// A message with a sender that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The header, with CRLF line ends as before.
    pub header: Vec<u8>,
    /// The sender for MAIL FROM; empty for the null sender.
    pub envelope_from: String,
    /// Whether the envelope names the account's own address: what the provider has against that sender is wrong with
    /// the account, and not with this message.
    pub own_envelope: bool,
    /// The same for all: envelope, From and Sender.
    pub own_header: bool,
}

/// Addresses of Reply-To, if From had many.
const REPLIES: usize = 10;
/// Bytes of a word in a name that still fits a line; longer ones are encoded, so that they can be broken.
const WORD_LIMIT: usize = 900;
/// Top-level domains that mean nothing outside a site: RFC 2606, RFC 6761, RFC 6762 appendix G, RFC 8375, and
/// `internal`, which ICANN set aside.
const SITE_DOMAINS: [&str; 14] = [
    "local",
    "lan",
    "localdomain",
    "localhost",
    "internal",
    "intranet",
    "invalid",
    "private",
    "home",
    "corp",
    "test",
    "arpa",
    "onion",
    "workgroup",
];

/// Makes the senders of a message fit what is `allowed`. What fits already stays byte for byte, so that signatures
/// remain valid. Resent fields (RFC 5322 section 3.6.6) are not touched.
///
/// The null sender stays the null sender: a notice must not be answered (RFC 5321 section 4.5.5). Only where the
/// provider refuses it does the account's address take its place: better a notice that could bounce to the owner's
/// mailbox than none; it can't come back here and make a loop. An envelope sender that is no address becomes the
/// account's even when the policy is to keep. Without an address of the account, nothing changes.
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

/// Whether a message with these senders can't leave where only ASCII is taken: a local part of envelope, From or Sender
/// is beyond it.
pub fn needs_utf8(header: &[u8], envelope_from: &str) -> bool {
    let beyond = |address: &str| for_envelope(address, false).is_none();
    let named = fields(header).filter(|field| field.is("From") || field.is("Sender"));
    beyond(envelope_from) || named.flat_map(|field| mailboxes(field.value)).any(|mailbox| beyond(&mailbox.address))
}

impl Senders<'_> {
    /// Whether the account may send as `address`. Local parts are compared without case: they could differ by it
    /// (RFC 5321 section 2.4), but at no provider they do.
    fn fits(&self, address: &str) -> bool {
        match self.policy {
            FromPolicy::Account => address.eq_ignore_ascii_case(self.address),
            FromPolicy::Domain => domain(address).eq_ignore_ascii_case(domain(self.address)),
            FromPolicy::Keep => true,
        }
    }

    /// Whether all of a field fits.
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
        // Where there was no From.
        out.extend(from.unwrap_or_default());
        out.extend(reply.unwrap_or_default());
        out
    }

    /// The From field that takes the place of one with `senders`.
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

    /// A Reply-To field for those of `senders` that mail can reach.
    fn reply_to(&self, senders: &[Mailbox]) -> Option<Vec<u8>> {
        let reachable = senders.iter().map(|sender| &sender.address).filter(|address| is_reachable(address));
        let list: Vec<String> = reachable.take(REPLIES).map(|address| for_header(address)).collect();
        let needed = list.iter().any(|address| !address.eq_ignore_ascii_case(self.address));
        needed.then(|| field("Reply-To", list.join(", ").as_bytes()))
    }
}

/// A whole field, in 7 bits if that is possible: it isn't if the account's address itself is beyond them.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let value = [b" ", value].concat();
    let value = encoded::field_value(name.as_bytes(), &value, WORD_LIMIT).unwrap_or(value);
    [name.as_bytes(), b":", &value, b"\r\n"].concat()
}

fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// Whether the world can send mail to `address`: it is in a domain with a dot that is no name of the site.
fn is_reachable(address: &str) -> bool {
    let Some((_, top)) = domain(address).rsplit_once('.') else { return false };
    // The top level is never a number: that is an IP address.
    address.is_ascii()
        && top.bytes().any(|b| b.is_ascii_alphabetic())
        && !top.ends_with(']')
        && !SITE_DOMAINS.iter().any(|site| top.eq_ignore_ascii_case(site))
}

#[cfg(test)]
mod tests;

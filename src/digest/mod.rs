// SPDX-License-Identifier: Apache-2.0
//! One mail that replaces many: everything that a device sent beyond its rate, in readable form.
//!
//! A digest is made in two passes, so that it never keeps more of the messages than one line each. First a [`Planner`]
//! gets the header of each message and decides what goes where. Then [`Digest::steps`] lists step by step what to
//! write; where a part comes from a message, the caller reads that message again and passes it through an
//! [`Excerpt`] or a [`Part`].
//!
//! The first mail has a table of all messages and the text of each, at most [`EXCERPT_LIMIT`] bytes. Messages that are
//! not shown completely, as they are long or more than plain text, are attached in full (RFC 2046 section 5.2.1). Those
//! that do not fit into the first mail follow in further ones; a message that fits into none is sent separately.
//!
//! All lines end with CRLF and have at most 998 bytes. Texts are 8-bit; like all mail, a digest is converted for
//! providers that only accept 7 bits when it is sent.

mod collect;
mod excerpt;

use std::fmt::Write as _;

use crate::message::address::{Mailbox, for_header};
use crate::message::{BodyForm, CannotConvert, Encode, Offers, Outgoing, encoded, header};
use crate::report::letter::{ADDRESS_SHOWN, counted, one_line, when};
use crate::report::readable;

pub use collect::{Collected, Composer, carry_on, collect};
pub use excerpt::{EXCERPT_LIMIT, Excerpt};
use excerpt::{has_text, shows_all};

/// Bytes of attachments and texts in one mail, unless the caller sets another limit.
pub const DEFAULT_LIMIT: u64 = 5 << 20;
/// Recipients that the header lists; the envelope has all of them.
const RECIPIENTS_SHOWN: usize = 50;
/// Bytes of a subject in the table.
const SUBJECT_SHOWN: usize = 120;
/// The allowed form of attached messages: 8-bit, but with a header that every mail program reads.
const OFFERS: Offers = Offers { eight_bit_mime: true, smtputf8: false };

/// Messages of one digest.
const MESSAGE_LIMIT: usize = 1000;
/// Bytes of a subject that is shown in full.
const SUBJECT_LIMIT: usize = 600;
/// Bytes of the lines that each message takes in addition to its text and subject.
const FRAME: u64 = 500;

/// What all mails of a digest have in common.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// The display name of the device.
    pub device: &'a str,
    /// Address in From: the account's own.
    pub from: &'a str,
    /// The recipients of the messages, the same for all of the digest.
    pub to: &'a [String],
    /// The rate that the device exceeded, such as `20/h`.
    pub rate: &'a str,
    /// A text that occurs in none of the messages and has only letters and digits: random, at least 20 of them.
    pub boundary: &'a str,
}

/// What the planner needs to know about a message.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// When it was accepted, seconds since 1970.
    pub arrived: i64,
    /// Sender of the envelope.
    pub from: &'a str,
    /// Its header as stored, without the blank line.
    pub header: &'a [u8],
    /// Bytes of its body as stored.
    pub body_size: u64,
    /// How the body is stored.
    pub form: BodyForm,
}

/// Where a message is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// All of it in the text.
    Shown,
    /// In full in this mail (from 0), and the start of its text in the first.
    Attached(usize),
    /// Not in the digest.
    Alone,
}

/// What is kept about a message.
#[derive(Debug)]
struct Listing {
    /// When it was accepted.
    arrived: i64,
    /// Its From field.
    from: String,
    /// Its subject, readable.
    subject: String,
    /// The size of all of it.
    size: u64,
    /// Its placement.
    place: Placement,
}

/// Takes messages one by one and decides on the placement of each.
#[derive(Debug)]
pub struct Planner {
    limit: u64,
    lines: Vec<Listing>,
    /// Bytes of texts in the first mail.
    texts: u64,
}

impl Planner {
    /// For mails with at most about `limit` bytes, see [`DEFAULT_LIMIT`].
    pub fn new(limit: u64) -> Self {
        Self { limit, lines: Vec::new(), texts: 0 }
    }

    /// Whether further messages need a digest of their own.
    pub fn is_full(&self) -> bool {
        // Half of the first mail is left for attachments; otherwise they would all go into further ones.
        !self.lines.is_empty() && (self.lines.len() >= MESSAGE_LIMIT || self.texts > self.limit / 2)
    }

    /// Adds a message; its number is the number of messages before it.
    pub fn add(&mut self, facts: &Facts<'_>) {
        let subject = readable::subject(facts.header);
        let from = header::find(facts.header, "From").map(|from| readable::words(&encoded::decode(&from.unfolded())));
        let complete = subject.len() <= SUBJECT_LIMIT && shows_all(facts.header, facts.form, facts.body_size);
        let place = if complete {
            Placement::Shown
        } else if Outgoing::new(facts.header.to_vec(), facts.form, OFFERS).is_ok() {
            Placement::Attached(0)
        } else {
            Placement::Alone
        };
        let growth = if facts.form.encode == Encode::QuotedPrintable { 3 } else { 1 };
        self.lines.push(Listing {
            arrived: facts.arrived,
            from: one_line(from.as_deref().unwrap_or(facts.from), ADDRESS_SHOWN),
            subject: one_line(&subject, SUBJECT_LIMIT),
            size: facts.body_size.saturating_mul(growth).saturating_add(facts.header.len() as u64),
            place,
        });
        let text = if has_text(facts.header) { facts.body_size.min(EXCERPT_LIMIT as u64) } else { 0 };
        // Bytes over 127 may take more room as UTF-8; the subject is in the table and above the text.
        self.texts = self.texts.saturating_add(text.saturating_add(subject.len() as u64) * 2 + FRAME);
    }

    /// Assigns attachments to mails, in order.
    pub fn finish(mut self) -> Digest {
        let (mut mail, mut used) = (0, self.texts);
        for line in &mut self.lines {
            let size = line.size.saturating_add(FRAME);
            match line.place {
                Placement::Attached(_) if size > self.limit => line.place = Placement::Alone,
                Placement::Attached(_) => {
                    if used.saturating_add(size) > self.limit {
                        mail += 1;
                        used = 0;
                    }
                    used = used.saturating_add(size);
                    line.place = Placement::Attached(mail);
                }
                Placement::Shown | Placement::Alone => {}
            }
        }
        Digest { lines: self.lines, mails: mail + 1 }
    }
}

/// What is to be written next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The result of [`Digest::excerpt`] for the body of this message (counted from 0, as it was planned).
    Text(usize),
    /// The result of [`Digest::part`] for this message.
    Part(usize),
}

/// The mails of a plan.
#[derive(Debug)]
pub struct Digest {
    lines: Vec<Listing>,
    mails: usize,
}

impl Digest {
    /// How many mails there are: at least one.
    pub fn mails(&self) -> usize {
        self.mails
    }

    /// The messages that are too large to be attached, or cannot be. They have to be sent separately as they are.
    pub fn alone(&self) -> impl Iterator<Item = usize> {
        self.placed(|place| place == Placement::Alone)
    }

    /// The steps of mail number `mail` (from 0), in order. The first one ends with the header and its blank line, so
    /// that the whole can be normalized like any other message.
    pub fn steps<'a>(&'a self, mail: usize, letter: &'a Letter<'a>) -> Box<dyn Iterator<Item = Output> + Send + 'a> {
        let parts: Vec<usize> = self.placed(|place| place == Placement::Attached(mail)).collect();
        let listed: Vec<usize> = if mail == 0 { (0..self.lines.len()).collect() } else { parts.clone() };
        let shown = if mail == 0 { listed.clone() } else { Vec::new() };
        let multipart = !parts.is_empty();
        let head = self.head(mail, listed.len(), multipart, letter);
        let table = listed.into_iter().map(|index| Output::Bytes(self.row(index).into_bytes()));
        let texts = shown.into_iter().flat_map(move |index| self.message(index));
        let attached = parts.into_iter().flat_map(|index| {
            let head = format!(
                "\r\n--{}\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment; filename=\"message-{}.eml\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
                letter.boundary,
                index + 1
            );
            [Output::Bytes(head.into_bytes()), Output::Part(index)]
        });
        let end = multipart.then(|| Output::Bytes(format!("\r\n--{}--\r\n", letter.boundary).into_bytes()));
        Box::new(std::iter::once(Output::Bytes(head)).chain(table).chain(texts).chain(attached).chain(end))
    }

    /// Starts the excerpt of message `index`, which has `header` and `form` as they are stored.
    pub fn excerpt(&self, index: usize, header: &[u8], form: BodyForm) -> Excerpt {
        let whole = self.lines.get(index).is_some_and(|line| line.place == Placement::Shown);
        Excerpt::new(header, form, whole)
    }

    /// Starts message `index` as an attachment: appends its header to `out`.
    ///
    /// # Errors
    /// Not for a message whose header is the one that was planned.
    pub fn part(&self, header: Vec<u8>, form: BodyForm, out: &mut Vec<u8>) -> Result<Part, CannotConvert> {
        let outgoing = Outgoing::new(header, form, OFFERS)?;
        out.extend_from_slice(outgoing.header());
        out.extend_from_slice(b"\r\n");
        Ok(Part { outgoing })
    }

    fn placed(&self, wanted: impl Fn(Placement) -> bool) -> impl Iterator<Item = usize> {
        self.lines.iter().enumerate().filter(move |(_, line)| wanted(line.place)).map(|(index, _)| index)
    }

    /// Header and first lines of a mail with `listed` messages.
    fn head(&self, mail: usize, listed: usize, multipart: bool, letter: &Letter<'_>) -> Vec<u8> {
        let device = one_line(letter.device, 100);
        let all = self.lines.len() as u64;
        let number = if self.mails > 1 { format!(" ({} of {})", mail + 1, self.mails) } else { String::new() };
        let from = Mailbox { name: device.clone().into_bytes(), address: letter.from.to_string() }.write();
        let to: Vec<String> = letter.to.iter().take(RECIPIENTS_SHOWN).map(|address| for_header(address)).collect();
        let mut out = Vec::new();
        field(&mut out, "From", &from);
        field(&mut out, "To", to.join(", ").as_bytes());
        field(&mut out, "Subject", format!("{device}: {}{number}", counted(all, "message")).as_bytes());
        out.extend_from_slice(b"Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n");
        let boundary = letter.boundary;
        if multipart {
            let kind = format!(
                "Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--{boundary}\r\n"
            );
            out.extend_from_slice(kind.as_bytes());
        }
        out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
        out.extend_from_slice(self.opening(mail, listed, &device, letter.rate).as_bytes());
        out
    }

    fn opening(&self, mail: usize, listed: usize, device: &str, rate: &str) -> String {
        let times = || self.lines.iter().map(|line| line.arrived).filter(|at| when(*at).is_some());
        let mut out = match (times().min(), times().max()) {
            (Some(first), Some(last)) => {
                format!(
                    "{device}: {} from {} to {}.\r\n",
                    counted(self.lines.len() as u64, "message"),
                    time(first),
                    time(last)
                )
            }
            _ => format!("{device}: {}.\r\n", counted(self.lines.len() as u64, "message")),
        };
        if mail == 0 {
            let _ = write!(
                out,
                "They came faster than {} allows and are combined in this message.\r\n",
                one_line(rate, 20)
            );
            if self.mails > 1 {
                let _ = write!(
                    out,
                    "Attachments that did not fit follow in {}.\r\n",
                    counted(self.mails as u64 - 1, "further mail")
                );
            }
        } else {
            let _ =
                write!(out, "Attached to this mail, number {} of {}, are {listed} of them:\r\n", mail + 1, self.mails);
        }
        out.push_str("Times are UTC.\r\n\r\n");
        out
    }

    /// A message in the table.
    fn row(&self, index: usize) -> String {
        let Some(line) = self.lines.get(index) else { return String::new() };
        let subject = one_line(&line.subject, SUBJECT_SHOWN);
        let subject = if subject.trim().is_empty() { "(no subject)".into() } else { subject };
        format!("{:>4}  {}  {subject}\r\n", index + 1, time(line.arrived))
    }

    /// A message with its text.
    fn message(&self, index: usize) -> Vec<Output> {
        let Some(line) = self.lines.get(index) else { return Vec::new() };
        let title = format!("{} --- {} ", index + 1, time(line.arrived));
        let mut head = format!("\r\n--- {title}{}\r\n", "-".repeat(70usize.saturating_sub(title.len())));
        for (name, value) in [("From", &line.from), ("Subject", &line.subject)] {
            let _ = write!(head, "{name}: {}\r\n", one_line(value, SUBJECT_LIMIT));
        }
        let size = size(line.size);
        match line.place {
            Placement::Shown => {}
            Placement::Attached(0) => {
                let _ = write!(head, "Attached in full: message-{}.eml, {size}\r\n", index + 1);
            }
            Placement::Attached(mail) => {
                let _ = write!(
                    head,
                    "Attached in full to mail {} of {}: message-{}.eml, {size}\r\n",
                    mail + 1,
                    self.mails,
                    index + 1
                );
            }
            Placement::Alone => {
                let _ = write!(head, "Sent as a separate message: {size}\r\n");
            }
        }
        head.push_str("\r\n");
        let head = Output::Bytes(head.into_bytes());
        if line.place == Placement::Alone { vec![head] } else { vec![head, Output::Text(index)] }
    }
}

/// A message that is being added to a mail as an attachment.
#[derive(Debug)]
pub struct Part {
    outgoing: Outgoing,
}

impl Part {
    /// Takes the next bytes of the stored body and appends the resulting output.
    pub fn push(&mut self, body: &[u8], out: &mut Vec<u8>) {
        self.outgoing.push(body, out);
    }

    /// Appends the rest.
    ///
    /// # Errors
    /// When the body can't be attached; not for bodies that are stored by this program.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        self.outgoing.finish(out)
    }
}

/// A complete field, folded, in 7 bits if possible.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let value = [b" ", value].concat();
    let value = encoded::field_value(name.as_bytes(), &value, ADDRESS_SHOWN).unwrap_or(value);
    for piece in [name.as_bytes(), b":", &value, b"\r\n"] {
        out.extend_from_slice(piece);
    }
}

/// `23 Nov 2026 01:02:03`, 20 columns.
fn time(at: i64) -> String {
    when(at).and_then(|date| date.get(5..25).map(str::to_string)).unwrap_or_else(|| format!("{:<20}", "time unknown"))
}

/// A size in readable form.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} KB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests;

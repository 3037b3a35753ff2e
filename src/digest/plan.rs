// SPDX-License-Identifier: Apache-2.0
//! Decides from the headers of the messages what goes where in a digest.

use super::OFFERS;
use super::excerpt::{EXCERPT_LIMIT, has_text, shows_all};
use super::{ADDRESS_SHOWN, Digest};
use crate::message::{BodyForm, Encode, Outgoing, encoded, header};
use crate::report::letter::{one_line, readable, readable_subject};

/// Messages of one digest.
pub const MESSAGE_LIMIT: usize = 1000;
/// Bytes of a subject that is shown in full.
pub const SUBJECT_LIMIT: usize = 600;
/// Bytes of the lines that each message takes in addition to its text and subject.
const FRAME: u64 = 500;

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
pub enum Placement {
    /// All of it in the text.
    Shown,
    /// In full in this mail (from 0), and the start of its text in the first.
    Attached(usize),
    /// Not in the digest.
    Alone,
}

/// What is kept about a message.
#[derive(Debug)]
pub struct Listing {
    /// When it was accepted.
    pub arrived: i64,
    /// Its From field.
    pub from: String,
    /// Its subject, readable.
    pub subject: String,
    /// The size of all of it.
    pub size: u64,
    /// Its placement.
    pub place: Placement,
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
    /// For mails with at most about `limit` bytes, see [`super::DEFAULT_LIMIT`].
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
        let subject = readable_subject(facts.header);
        let from = header::find(facts.header, "From").map(|from| readable(&encoded::decode(&from.unfolded())));
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

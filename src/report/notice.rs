// SPDX-License-Identifier: Apache-2.0
//! The report to a sender about one message: what was not delivered, or is delayed (RFC 3464 in the frame of RFC 6522).
//!
//! Every part is ASCII with short lines, whatever the message, its addresses and the provider's reply contain: reasons
//! and headers are quoted-printable where needed, addresses beyond ASCII have the form of RFC 6533 section 3.

use std::fmt::Write as _;

use super::letter::{ADDRESS_SHOWN, Head, REASON_SHOWN, ReportKind, fill, one_line, part, readable_subject, when, who};
use crate::message::encoded;

/// Bytes of the message's header that are returned; it is cut at a line.
const HEADER_SHOWN: usize = 16 << 10;
/// Recipients that are listed; the others are only included in the total. So a report stays below 1 MB.
const RECIPIENTS_SHOWN: usize = 200;
/// Fields with the subject: its own, a second one after the repair, and the copy that some programs add to it.
const SUBJECTS: [&[u8]; 3] = [b"Subject", b"X-Original-Subject", b"Thread-Topic"];
/// Bytes of a Diagnostic-Code, on all its lines.
const DIAGNOSTIC_SHOWN: usize = 800;
/// The width at which fields of the delivery status are folded.
const FOLD_AT: usize = 76;

/// A recipient whose delivery failed or is delayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecipient {
    /// The address.
    pub recipient: String,
    /// The reason, in one plain sentence.
    pub reason: String,
    /// The reason without the gateway's advice: what the provider said, if it is the reason.
    pub said: String,
}

/// The content of a report.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// Whether the message was given up or is delayed.
    pub kind: ReportKind,
    /// Until when a delayed message is tried, seconds since 1970; `None` when that is unknown, and for failures.
    pub retry_until: Option<i64>,
    /// Whether the message is still tried for any recipient.
    pub goes_on: bool,
    /// The queue ID of the message.
    pub id: &'a str,
    /// Our own host name.
    pub hostname: &'a str,
    /// The address that the report comes from in its header.
    pub from: &'a str,
    /// The recipient.
    pub to: &'a [String],
    /// When the message was accepted, seconds since 1970.
    pub arrived: i64,
    /// Address of the device.
    pub client: &'a str,
    /// Header of the message.
    pub header: &'a [u8],
    /// Whether it may contain the subject: option `log_subject`.
    pub subjects: bool,
    /// Recipients that the report is about.
    pub failures: &'a [FailedRecipient],
}

impl Notice<'_> {
    /// The report as a message, which is normalized like any other (it has no Date and no Message-ID yet).
    pub fn text(&self) -> Vec<u8> {
        let original = self.original();
        // The ID is random, so a collision is not accidental; the header is the only part that others write.
        let mut boundary = format!("=_{}_report", self.id);
        while original.contains(&boundary) {
            boundary.push('_');
        }
        let subject = match self.kind {
            ReportKind::Failed => format!("Not delivered: mail from {}", who(self.client)),
            ReportKind::Delayed => format!("Delivery delayed: mail from {}", who(self.client)),
            ReportKind::Doubtful => format!("Delivery uncertain: mail from {}", who(self.client)),
        };
        let head = Head {
            hostname: self.hostname,
            from: self.from,
            to: self.to,
            subject: &subject,
            automatic: "auto-replied",
        };
        let frame = format!(
            "{}Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\"\r\n\r\n",
            head.text()
        );
        let status = format!("Content-Type: message/delivery-status\r\n\r\n{}", self.status());
        let (next, last) = (format!("\r\n--{boundary}\r\n"), format!("\r\n--{boundary}--\r\n"));
        let pieces: [&[u8]; 8] = [
            frame.as_bytes(),
            next.as_bytes().trim_ascii_start(),
            &part("plain", &self.words()),
            next.as_bytes(),
            status.as_bytes(),
            next.as_bytes(),
            &part("rfc822-headers", &original),
            last.as_bytes(),
        ];
        pieces.concat()
    }

    /// The readable part (RFC 6522 section 3, first part).
    fn words(&self) -> String {
        let mut out = String::new();
        let on = when(self.arrived).map(|date| format!(" on {date}")).unwrap_or_default();
        let came = match self.kind {
            ReportKind::Failed => "could not be delivered to:",
            ReportKind::Delayed => "has not been delivered yet to:",
            ReportKind::Doubtful => "may or may not have been delivered, perhaps more than once, to:",
        };
        let gateway = one_line(self.hostname, 255);
        fill(
            &mut out,
            "",
            &format!("A message that the mail gateway {gateway} accepted from {}{on} {came}", who(self.client)),
        );
        for failure in self.shown() {
            let _ = writeln!(out, "\n  {}", one_line(&failure.recipient, ADDRESS_SHOWN));
            fill(&mut out, "  ", &one_line(&failure.reason, REASON_SHOWN));
        }
        let more = self.failures.len().saturating_sub(RECIPIENTS_SHOWN);
        if more > 0 {
            let _ = writeln!(out, "\n  and {more} more recipients; see the gateway's log");
        }
        out.push('\n');
        let outlook = match (self.kind, self.retry_until.and_then(when)) {
            (ReportKind::Failed, _) => "It will not be delivered: the gateway has stopped trying.".into(),
            (ReportKind::Doubtful, _) if self.goes_on => format!(
                "Delivery to these recipients is no longer attempted; it is still attempted for the others. Ask the recipients above whether it has arrived. If not, send it again: smtprelay queue release {id}. If so, delete it once it is held, which it is when the others are finished: smtprelay queue delete {id}. If this happens again, report the replies of its server to the provider.",
                id = self.id
            ),
            (ReportKind::Doubtful, _) => format!(
                "Delivery is no longer attempted, and the message is held in the gateway's queue. Ask the recipient whether it has arrived. If so, delete it there: smtprelay queue delete {id}. If not, send it again: smtprelay queue release {id}. If this happens again, report the replies of its server to the provider.",
                id = self.id
            ),
            (ReportKind::Delayed, Some(date)) => format!(
                "The gateway will keep trying until {date}. No action is needed, and the message need not be sent again; you will be notified if delivery finally fails."
            ),
            (ReportKind::Delayed, None) => "The gateway will keep trying. No action is needed, and the message need not be sent again; you will be notified if delivery finally fails.".into(),
        };
        fill(&mut out, "", &outlook);
        out.push('\n');
        let subject = one_line(&readable_subject(self.header), REASON_SHOWN);
        if self.subjects && !subject.trim().is_empty() {
            fill(&mut out, "", &format!("Its subject is: {subject}"));
        }
        let _ = writeln!(out, "Its ID in the gateway's log is {}. Its header follows.", self.id);
        out
    }

    /// The machine-readable part (RFC 3464 section 2).
    fn status(&self) -> String {
        let mut out = String::new();
        field(&mut out, "Reporting-MTA", &format!("dns; {}", ascii(self.hostname, 255)));
        field(&mut out, "X-Queue-ID", self.id);
        if let Some(date) = when(self.arrived) {
            field(&mut out, "Arrival-Date", &date);
        }
        for failure in self.shown() {
            out.push_str("\r\n");
            field(&mut out, "Final-Recipient", &address(&failure.recipient));
            field(&mut out, "Action", if self.kind == ReportKind::Failed { "failed" } else { "delayed" });
            field(&mut out, "Status", &status(&failure.reason, self.kind));
            let (kind, text) = diagnostic(&failure.said);
            field(&mut out, "Diagnostic-Code", &format!("{kind}; {}", ascii(text, DIAGNOSTIC_SHOWN)));
            if let (ReportKind::Delayed, Some(date)) = (self.kind, self.retry_until.and_then(when)) {
                field(&mut out, "Will-Retry-Until", &date);
            }
        }
        out
    }

    /// The header of the message, at most [`HEADER_SHOWN`] bytes, as text with LF line ends.
    fn original(&self) -> String {
        let mut shown = self.header;
        if let Some(start) = self.header.get(..HEADER_SHOWN).filter(|start| start.len() < self.header.len()) {
            let whole_lines = memchr::memrchr(b'\n', start).map_or(start.len(), |at| at + 1);
            shown = start.get(..whole_lines).unwrap_or_default();
        }
        // Line by line: one line that is not UTF-8 must not turn the others into windows-1252.
        let mut text = String::with_capacity(shown.len() + 2);
        let mut left_out = false;
        for line in shown.split_inclusive(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            // A field continues on lines that begin with a blank (RFC 5322 section 2.2.3).
            if !line.starts_with(b" ") && !line.starts_with(b"\t") {
                let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii_end();
                left_out = !self.subjects && SUBJECTS.iter().any(|subject| name.eq_ignore_ascii_case(subject));
            }
            if left_out {
                continue;
            }
            // A lone CR is not allowed in mail (RFC 5322 section 2.3).
            text.push_str(&encoded::decode(line.strip_suffix(b"\r").unwrap_or(line)).replace('\r', " "));
            text.push('\n');
        }
        text
    }

    fn shown(&self) -> impl Iterator<Item = &FailedRecipient> {
        self.failures.iter().take(RECIPIENTS_SHOWN)
    }
}

/// Appends a field, folded at spaces (RFC 5322 section 2.2.3).
fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push(':');
    let mut width = name.len() + 1;
    for (index, word) in value.split_ascii_whitespace().enumerate() {
        if index > 0 && width + 1 + word.len() > FOLD_AT {
            out.push_str("\r\n");
            width = 0;
        }
        out.push(' ');
        out.push_str(word);
        width += 1 + word.len();
    }
    out.push_str("\r\n");
}

/// `text` in ASCII: other characters by their number, as RFC 6533 section 3 writes them in addresses. At most `limit`
/// bytes.
fn ascii(text: &str, limit: usize) -> String {
    escaped(text, limit, |c| !matches!(c, ' '..='~'))
}

/// `Final-Recipient` of `address`: RFC 3464 section 2.3.2, or the type of RFC 6533 section 3 for those beyond ASCII.
fn address(address: &str) -> String {
    if address.is_ascii() {
        return format!("rfc822; {}", ascii(address, ADDRESS_SHOWN));
    }
    format!("utf-8; {}", escaped(address, 900, |c| !c.is_ascii_graphic() || matches!(c, '+' | '=' | '\\')))
}

fn escaped(text: &str, limit: usize, must: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for c in text.chars() {
        let before = out.len();
        if c.is_control() {
            out.push(' ');
        } else if must(c) {
            let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
        } else {
            out.push(c);
        }
        if out.len() > limit {
            out.truncate(before);
            break;
        }
    }
    out
}

/// The SMTP reply in a reason, if there is one: where it begins, with its code.
fn reply(reason: &str) -> Option<&str> {
    // RFC 5321 section 4.2.1: the second digit is at most 5. So the ports 465 and 587 are not replies.
    let is_code = |word: &str| matches!(word.as_bytes(), [b'4' | b'5', b'0'..=b'5', b'0'..=b'9']);
    let mut rest = reason.trim_start();
    loop {
        let word = rest.split_whitespace().next()?;
        if is_code(word) {
            return Some(rest);
        }
        rest = rest.get(word.len()..)?.trim_start();
    }
}

/// Type and text of the Diagnostic-Code (RFC 3464 section 2.3.6): the provider's reply, or our own words.
fn diagnostic(reason: &str) -> (&'static str, &str) {
    reply(reason).map_or(("X-smtprelay", reason), |reply| ("smtp", reply))
}

/// The status of a recipient (RFC 3463): the code in the reason, else the general one of its class. What is still tried
/// is of class 4, whatever the reply was: a refused login is final for the login, not for the mail.
fn status(reason: &str, kind: ReportKind) -> String {
    let reply = reply(reason);
    let mut words = reply.unwrap_or(reason).split_whitespace();
    let code = match reply {
        // After the reply's code, and nowhere else: what follows is free text.
        Some(_) => words.nth(1).filter(|word| is_status(word)),
        None => words.find(|word| is_status(word)),
    };
    let class = reply.or(code).and_then(|text| text.get(..1)).unwrap_or("5");
    let class = if kind != ReportKind::Failed { "4" } else { class };
    format!("{class}.{}", code.and_then(|code| code.get(2..)).unwrap_or("0.0"))
}

/// Whether `word` is an enhanced code of a failure, such as `5.1.1` (RFC 3463 section 2).
fn is_status(word: &str) -> bool {
    let mut parts = word.split('.');
    let mut number =
        |most| parts.next().is_some_and(|p| (1..=most).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
    word.starts_with(['4', '5']) && number(1) && number(3) && number(3) && parts.next().is_none()
}

#[cfg(test)]
mod tests;

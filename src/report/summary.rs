// SPDX-License-Identifier: Apache-2.0
//! One mail that replaces many: when many messages fail or are delayed, their owner gets a readable list.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::letter::{
    ADDRESS_SHOWN, Head, REASON_SHOWN, ReportKind, counted, fill, one_line, part, readable, when, who,
};

/// Bytes that the encoded list may take. With the rest of the mail it stays below 64 KB.
const LIST_LIMIT: usize = 56 << 10;
/// Bytes of a subject in the list.
const SUBJECT_SHOWN: usize = 120;

/// One message of a summary, for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryItem {
    /// Its queue ID.
    pub id: String,
    /// When it was accepted, seconds since 1970.
    pub arrived: i64,
    /// Address of the device.
    pub client: String,
    /// Its subject as in the header, with encoded words.
    pub subject: String,
    /// The recipient of the message.
    pub recipient: String,
    /// The reason, in one plain sentence.
    pub reason: String,
}

/// The content of a summary.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a> {
    /// Our own host name.
    pub hostname: &'a str,
    /// The sender.
    pub from: &'a str,
    /// The recipient.
    pub to: &'a [String],
    /// Whether the messages were given up or are delayed.
    pub kind: ReportKind,
    /// When the first of them failed or was found delayed, seconds since 1970.
    pub since: i64,
    /// The last.
    pub until: i64,
    /// The total number.
    pub total: u64,
    /// Whether it may contain subjects: option `log_subject`.
    pub subjects: bool,
    /// The messages that are known individually.
    pub items: &'a [SummaryItem],
    /// The number of messages that are not in `items`, because they were not kept.
    pub left_out: u64,
}

impl Summary<'_> {
    /// The summary as a message, which is normalized like any other.
    pub fn text(&self) -> Vec<u8> {
        let mails = counted(self.total, "message");
        let subject = match (self.kind, self.total) {
            (ReportKind::Failed, _) => format!("{mails} not delivered"),
            (ReportKind::Doubtful, _) => format!("{mails} with uncertain delivery"),
            (ReportKind::Delayed, 1) => "1 message is delayed".into(),
            (ReportKind::Delayed, _) => format!("{mails} are delayed"),
        };
        let head = Head {
            hostname: self.hostname,
            from: self.from,
            to: self.to,
            subject: &subject,
            automatic: "auto-generated",
        };
        [head.text().into_bytes(), part("plain", &self.words(&mails))].concat()
    }

    fn words(&self, mails: &str) -> String {
        let mut out = String::new();
        let gateway = one_line(self.hostname, 255);
        let between = match (when(self.since), when(self.until)) {
            (Some(since), Some(until)) => format!(" between {since} and {until}"),
            _ => String::new(),
        };
        fill(
            &mut out,
            "",
            &match self.kind {
                ReportKind::Failed => format!("The mail gateway {gateway} failed to deliver {mails}{between}."),
                ReportKind::Doubtful => format!(
                    "The mail gateway {gateway} sent {mails} several times{between} without learning whether they were accepted. They are no longer sent to these recipients: ask them, then release the messages in the gateway's queue, or delete those that are held."
                ),
                ReportKind::Delayed => format!(
                    "On the mail gateway {gateway}, the delivery of {mails} has been delayed{between}. Delivery is still being attempted, and they need not be sent again."
                ),
            },
        );
        let listed = self.list(&mut out);
        let rest = self.left_out.saturating_add((self.items.len().saturating_sub(listed)) as u64);
        if rest > 0 {
            let event = match self.kind {
                ReportKind::Failed => "failed",
                ReportKind::Delayed => "deferred",
                ReportKind::Doubtful => "held",
            };
            let _ = writeln!(out, "\nNot listed here: {}; see event={event} in the log.", counted(rest, "message"));
        }
        out.push_str("\nThe IDs are those in the gateway's log.\n");
        out
    }

    /// Appends a paragraph for each reason, the most frequent first. Returns the number of messages in it.
    fn list(&self, out: &mut String) -> usize {
        let mut groups: BTreeMap<&str, Vec<&SummaryItem>> = BTreeMap::new();
        for item in self.items {
            groups.entry(item.reason.as_str()).or_default().push(item);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, items)| std::cmp::Reverse(items.len()));
        let (mut used, mut listed) = (0, 0);
        for (reason, items) in groups {
            let mut paragraph = format!("\n{}:\n", counted(items.len() as u64, "message"));
            fill(&mut paragraph, "", &one_line(reason, REASON_SHOWN));
            for item in items {
                line(&mut paragraph, item, self.subjects);
                used += cost(&paragraph);
                if used > LIST_LIMIT {
                    return listed;
                }
                out.push_str(&std::mem::take(&mut paragraph));
                listed += 1;
            }
        }
        listed
    }
}

fn line(out: &mut String, item: &SummaryItem, subjects: bool) {
    let time = when(item.arrived).unwrap_or_else(|| "time unknown".into());
    let _ = writeln!(out, "\n  {time}  {}  {}", who(&item.client), one_line(&item.id, 16));
    let _ = writeln!(out, "    to {}", one_line(&item.recipient, ADDRESS_SHOWN));
    if subjects {
        fill(out, "    ", &one_line(&readable(&item.subject), SUBJECT_SHOWN));
    }
}

/// The maximum number of bytes of `text` as quoted-printable, including line ends and soft breaks.
fn cost(text: &str) -> usize {
    let escaped = text.bytes().filter(|b| !matches!(b, b' '..=b'<' | b'>'..=b'~')).count();
    (text.len() + 2 * escaped) * 21 / 20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(n: usize, subject: &str, reason: &str) -> SummaryItem {
        SummaryItem {
            id: format!("ID{n:08}"),
            arrived: 1_795_395_723,
            client: "10.0.0.7".into(),
            subject: subject.into(),
            recipient: format!("r{n}@example.com"),
            reason: reason.into(),
        }
    }

    fn summary(kind: ReportKind, items: &[SummaryItem], left_out: u64) -> String {
        let summary = Summary {
            hostname: "gw.example",
            from: "me@example.com",
            to: &["admin@example.com".into()],
            kind,
            since: 1_795_395_723,
            until: 1_795_396_723,
            total: items.len() as u64 + left_out,
            subjects: true,
            items,
            left_out,
        };
        let hidden = String::from_utf8(Summary { subjects: false, ..summary }.text()).unwrap();
        for item in items.iter().filter(|item| item.subject.starts_with("Pump")) {
            assert!(!hidden.contains(&item.subject), "{hidden}");
        }
        let text = String::from_utf8(summary.text()).unwrap();
        assert!(text.is_ascii() && text.len() < 64 << 10, "{}", text.len());
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
        text
    }

    #[test]
    fn a_reason_stands_once_above_its_messages_and_the_most_frequent_comes_first() {
        let rare = item(1, "Pump 1", "mx refused it: 550 5.1.1 no such user");
        let items =
            [rare, item(2, "=?utf-8?Q?St=C3=B6rung?=", "given up after 4d"), item(3, "Pump 3", "given up after 4d")];
        let text = summary(ReportKind::Failed, &items, 14);
        assert!(text.contains("Subject: 17 messages not delivered\r\nAuto-Submitted: auto-generated\r\n"), "{text}");
        assert_eq!(text.matches("given up after 4d").count(), 1);
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is missing in\n{text}"));
        assert!(at("given up after 4d") < at("r2@example.com") && at("r3@example.com") < at("550 5.1.1"));
        assert!(at("550 5.1.1") < at("r1@example.com"));
        assert!(text.contains("    St=C3=B6rung\r\n"));
        assert!(text.contains("\r\nNot listed here: 14 messages; see event=3Dfailed in the log.\r\n"), "{text}");
        assert!(text.contains("  Mon, 23 Nov 2026 01:02:03 +0000  10.0.0.7  ID00000002\r\n"));
    }

    #[test]
    fn late_mail_is_not_called_failed() {
        let text = summary(ReportKind::Delayed, &[item(1, "x", "no connection"), item(2, "y", "no connection")], 0);
        assert!(text.contains("Subject: 2 messages are delayed\r\n") && text.contains("need not be sent again"));
        assert!(!text.contains("Not listed"));
        assert!(summary(ReportKind::Delayed, &[item(1, "x", "r")], 0).contains("Subject: 1 message is delayed\r\n"));
    }

    #[test]
    fn a_storm_is_bounded_and_what_is_left_out_is_counted() {
        let items: Vec<_> =
            (0..5000).map(|n| item(n, &"ü".repeat(500), &format!("{} {n}", "ä=".repeat(900)))).collect();
        let text = summary(ReportKind::Failed, &items, 1);
        let listed = text.matches("    to r").count();
        assert!(listed > 5, "{listed}");
        assert!(text.contains(&format!("Not listed here: {} messages", 5001 - listed)), "{text}");
        let items: Vec<_> = (0..5000).map(|n| item(n, "Pump", "given up")).collect();
        assert!(summary(ReportKind::Failed, &items, 0).matches("    to r").count() > 400);
    }

    #[test]
    fn nothing_of_a_device_gets_out_of_its_line() {
        let mut odd = item(1, "a\r\nTo: evil", "x\r\n.\r\ny");
        odd.recipient = "b\r\n@x".into();
        let text = summary(ReportKind::Failed, &[odd], 0);
        assert!(!text.contains("\r\nTo: evil") && !text.contains("\r\n.\r\n"), "{text}");
    }
}

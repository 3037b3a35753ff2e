// SPDX-License-Identifier: Apache-2.0
//! Which messages have to get through: those that a section `escalation` describes.

use crate::config::escalation::Wanted;
use crate::config::{Escalation, Settings};
use crate::message::header::{Field, fields};
use crate::report::letter::readable_subject;

/// The `escalation` sections, prepared for lookups.
#[derive(Debug, Clone, Default)]
pub struct Alarms {
    sections: Vec<Escalation>,
}

impl Alarms {
    /// Those in `settings`.
    pub fn new(settings: &Settings) -> Self {
        let mut sections = settings.escalations.clone();
        sections.iter_mut().flat_map(|section| &mut section.subjects).for_each(|text| *text = lower(text));
        Self { sections }
    }

    /// The name of the first section that a message with this header matches: of the section `device`, if any.
    pub fn of(&self, device: Option<&str>, header: &[u8]) -> Option<String> {
        if self.sections.is_empty() {
            return None;
        }
        let mut subject = None;
        let mut found = self.sections.iter().filter(|section| {
            let names = &section.devices;
            let texts = &section.subjects;
            (names.is_empty() || device.is_some_and(|device| names.iter().any(|name| name == device)))
                && (section.priority == Wanted::Any || is_high(header))
                && (texts.is_empty() || {
                    let subject = subject.get_or_insert_with(|| lower(&readable_subject(header)));
                    texts.iter().any(|text| subject.contains(text))
                })
        });
        found.next().map(|section| section.name.clone())
    }
}

/// Letter by letter, as names in domains are.
fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Whether the header marks the message as important: RFC 2156 section 5.3, RFC 4021 sections 2.1.54 and 2.1.55, and
/// what mail programs write.
fn is_high(header: &[u8]) -> bool {
    fields(header).any(|field| {
        let value = |field: &Field<'_>| field.unfolded().to_ascii_lowercase();
        if field.is("X-Priority") {
            // 1 (Highest)
            matches!(value(&field).as_slice(), [b'1' | b'2'] | [b'1' | b'2', b' ' | b'\t' | b'(', ..])
        } else if field.is("Importance") || field.is("X-MSMail-Priority") {
            value(&field) == b"high"
        } else {
            field.is("Priority") && value(&field) == b"urgent"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, uci};

    fn alarms() -> Alarms {
        let text = "config account 'a'\n option host 'h'\n option from 'a@x.org'\n\
            config escalation 'fire'\n list device 'hall'\n list subject 'FEUER'\n list subject 'Störung'\n list account 'a'\n\
            config escalation 'high'\n option priority 'high'\n list account 'a'\n\
            config escalation 'off'\n option enabled '0'\n list account 'a'\n\
            config escalation 'yard'\n list device 'yard'\n list account 'a'\n";
        Alarms::new(&load::settings(&uci::parse(text.as_bytes()).unwrap()).0)
    }

    #[test]
    fn the_first_section_whose_conditions_all_hold_applies() {
        for (device, header, expected) in [
            (Some("hall"), "Subject: Feueralarm\r\n", Some("fire")),
            (Some("hall"), "Subject: =?utf-8?q?ST=C3=96RUNG?=\r\n", Some("fire")),
            (Some("hall"), "Subject: status\r\n", None),
            (Some("hall"), "From: a@b.c\r\n", None),
            (None, "Subject: Feuer\r\n", None),
            (Some("yard"), "Subject: Feuer\r\n", Some("yard")),
            (Some("yard"), "Subject: Feuer\r\nX-Priority: 1 (Highest)\r\n", Some("high")),
            (Some("hall"), "Subject: Feuer\r\nX-Priority: 1\r\n", Some("fire")),
            (None, "X-Priority: 2\r\n", Some("high")),
            (None, "x-priority: 3\r\n", None),
            (None, "X-Priority: 10\r\n", None),
            (None, "Importance: High\r\n", Some("high")),
            (None, "Importance: low\r\n", None),
            (None, "Priority: Urgent\r\n", Some("high")),
            (None, "Priority: normal\r\n", None),
            (None, "X-MSMail-Priority: High\r\n", Some("high")),
        ] {
            assert_eq!(alarms().of(device, header.as_bytes()).as_deref(), expected, "{device:?} {header:?}");
        }
    }

    #[test]
    fn without_sections_nothing_matches() {
        assert_eq!(Alarms::default().of(Some("hall"), b"X-Priority: 1\r\n"), None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The mail about devices that have been silent for too long, and about those that have been heard again.

use std::time::Duration;

use super::letter::{Head, duration, fill, one_line, part, when};

/// Bytes of a name that is shown.
const NAME_SHOWN: usize = 120;

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceItem {
    /// Name of its section.
    pub device: String,
    /// Its name for display.
    pub name: String,
    /// Whether it is silent; otherwise it has been heard again.
    pub is_silent: bool,
    /// How often it is expected to send.
    pub every: Duration,
    /// How long it has been silent, or was.
    pub silent: Duration,
    /// When its last message before that was accepted, seconds since 1970, if known.
    pub last: Option<i64>,
}

/// The content of the mail.
#[derive(Debug, Clone, Copy)]
pub struct SilenceNotice<'a> {
    /// Our own host name.
    pub hostname: &'a str,
    /// The sender.
    pub from: &'a str,
    /// The recipient.
    pub to: &'a str,
    /// The devices, in the order in which it happened.
    pub items: &'a [SilenceItem],
    /// The number of those that are not listed.
    pub left_out: usize,
}

impl SilenceNotice<'_> {
    /// The mail, which is normalized like any other.
    pub fn text(&self) -> Vec<u8> {
        let head = Head {
            hostname: self.hostname,
            from: self.from,
            to: &[self.to.to_string()],
            subject: &self.subject(),
            automatic: "auto-generated",
        };
        [head.text().into_bytes(), part("plain", &self.words())].concat()
    }

    fn subject(&self) -> String {
        let silent = self.items.iter().filter(|item| item.is_silent).count();
        let heard = self.items.len() - silent;
        match self.items {
            [one] if self.left_out == 0 => {
                let name = one_line(&one.name, NAME_SHOWN);
                if one.is_silent { format!("Silent device: {name}") } else { format!("Heard again: {name}") }
            }
            _ if heard == 0 => format!("{silent} silent devices"),
            _ if silent == 0 => format!("{heard} devices heard again"),
            _ => format!("{silent} silent devices, {heard} heard again"),
        }
    }

    fn words(&self) -> String {
        let mut out = String::new();
        let gateway = one_line(self.hostname, 255);
        for item in self.items {
            let name = one_line(&item.name, NAME_SHOWN);
            let (every, silent) = (duration(item.every.as_secs()), duration(item.silent.as_secs()));
            let last = match item.last.and_then(when) {
                Some(date) => format!("The last message before that was accepted on {date}."),
                None => "When its last message was accepted is not known.".into(),
            };
            let text = match item.is_silent {
                true => format!(
                    "{name} has been silent for {silent}: the mail gateway {gateway} has accepted no message from it, although one is expected every {every}. {last}"
                ),
                false => format!(
                    "{name} has been heard again: the mail gateway {gateway} has accepted a message from it after {silent} of silence. {last}"
                ),
            };
            fill(&mut out, "", &text);
            out.push('\n');
        }
        if self.left_out > 0 {
            let text = format!(
                "Not listed here: {} further changes; see event=device_silent and event=device_ok in the log.",
                self.left_out
            );
            fill(&mut out, "", &text);
            out.push('\n');
        }
        if self.items.iter().any(|item| item.is_silent) {
            fill(
                &mut out,
                "",
                "Check that the device has power and network, and that its mail server is this gateway. You will be notified once more when it is heard again.",
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, is_silent: bool) -> SilenceItem {
        let (every, silent) = (Duration::from_secs(86_400), Duration::from_secs(93_600));
        SilenceItem { device: "x".into(), name: name.into(), is_silent, every, silent, last: Some(1_795_395_723) }
    }

    fn mail(items: &[SilenceItem], left_out: usize) -> String {
        let notice =
            SilenceNotice { hostname: "gw.example", from: "me@example.com", to: "admin@example.com", items, left_out };
        let text = String::from_utf8(notice.text()).unwrap();
        assert!(text.is_ascii() && text.split("\r\n").all(|line| line.len() <= 998), "{text}");
        text
    }

    #[test]
    fn one_device_stands_in_the_subject() {
        let text = mail(&[item("Pump house", true)], 0);
        assert!(text.contains("Subject: Silent device: Pump house\r\nAuto-Submitted: auto-generated\r\n"), "{text}");
        let words = text.replace("\r\n", " ");
        for part in [
            "Pump house has been silent for 1 day 2 hours: ",
            "one is expected every 1 day. ",
            "accepted on Mon, 23 Nov 2026 01:02:03 +0000.",
            "notified once more when it is heard again.",
        ] {
            assert!(words.contains(part), "{part} is missing in {words}");
        }
        let text = mail(&[SilenceItem { last: Some(1000), ..item("Pump house", false) }], 0);
        assert!(text.contains("Subject: Heard again: Pump house\r\n") && !text.contains("1970"), "{text}");
        assert!(!text.contains("Check that") && text.contains("after 1 day 2"), "{text}");
    }

    #[test]
    fn several_share_a_mail() {
        let (silent, heard) = (item("a", true), item("b", false));
        for (items, subject) in [
            (vec![silent.clone(), silent.clone()], "2 silent devices"),
            (vec![heard.clone(), heard.clone()], "2 devices heard again"),
            (vec![silent.clone(), heard, silent], "2 silent devices, 1 heard again"),
        ] {
            let text = mail(&items, 0);
            assert!(text.contains(&format!("Subject: {subject}\r\n")), "{text}");
            assert_eq!(text.matches(" for 1 day 2 hours").count() + text.matches("after 1 day 2").count(), items.len());
        }
        assert!(mail(&[item("a", true)], 7).contains("Not listed here: 7 further changes"));
    }

    #[test]
    fn nothing_of_a_name_gets_out_of_its_line() {
        let text = mail(&[item("ü\r\nTo: evil", true)], 0);
        assert!(!text.contains("\r\nTo: evil"), "{text}");
    }
}

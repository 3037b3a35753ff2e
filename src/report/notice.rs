//! The report to a sender that a message did not arrive (RFC 3464, RFC 6522).

use std::fmt::Write as _;

use crate::message::date;

/// Bytes of the failed message's header that are sent back.
const HEADER_SHOWN: usize = 16 << 10;

/// A recipient that will not get the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The address.
    pub recipient: String,
    /// Why, in one plain sentence.
    pub reason: String,
}

/// All that a report says.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// Name of the failed message in the queue.
    pub id: &'a str,
    /// Our own name.
    pub hostname: &'a str,
    /// The address that the report comes from in its header.
    pub from: &'a str,
    /// Who hears of it.
    pub to: &'a str,
    /// When the failed message was accepted, seconds since 1970.
    pub arrived: i64,
    /// Address of the device.
    pub client: &'a str,
    /// Header of the failed message.
    pub header: &'a [u8],
    /// Recipients that will not get it.
    pub failures: &'a [Failure],
}

/// The status code in a reason (RFC 3463), or the general one for "failed".
fn status(reason: &str) -> &str {
    let is_status = |word: &&str| {
        let mut parts = word.split('.');
        let number = |part: Option<&str>, most| {
            part.is_some_and(|p| (1..=most).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
        };
        word.starts_with("5.")
            && number(parts.next(), 1)
            && number(parts.next(), 3)
            && number(parts.next(), 3)
            && parts.next().is_none()
    };
    reason.split_whitespace().find(is_status).unwrap_or("5.0.0")
}

impl Notice<'_> {
    /// The report as a message, which goes through the same repair as any other (it has no Date and no Message-ID yet).
    pub fn text(&self) -> Vec<u8> {
        // Only has to differ from what stands in the parts; the id is random.
        let boundary = format!("=_{}_report", self.id);
        let mut out = String::new();
        // Writing to a String can't fail.
        let _ = self.write(&mut out, &boundary);
        let mut bytes = out.into_bytes();
        let shown = self.header.get(..HEADER_SHOWN).unwrap_or(self.header);
        bytes.extend_from_slice(shown);
        if !shown.ends_with(b"\n") {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        bytes
    }

    fn write(&self, out: &mut String, boundary: &str) -> std::fmt::Result {
        let eight_bit =
            !self.header.is_ascii() || self.failures.iter().any(|f| !f.reason.is_ascii() || !f.recipient.is_ascii());
        let encoding = if eight_bit { "8bit" } else { "7bit" };
        let arrived = date::rfc5322(self.arrived);
        write!(out, "From: \"Mail gateway {}\" <{}>\r\nTo: <{}>\r\n", self.hostname, self.from, self.to)?;
        write!(
            out,
            "Subject: Not delivered: mail from {}\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n",
            self.client
        )?;
        write!(out, "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\"\r\n")?;
        write!(out, "Content-Transfer-Encoding: {encoding}\r\n\r\n")?;
        write!(
            out,
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        )?;
        write!(
            out,
            "A message that the mail gateway {} took from {}\r\non {arrived} could not be delivered to:\r\n",
            self.hostname, self.client
        )?;
        for failure in self.failures {
            write!(out, "\r\n  {}\r\n  {}\r\n", failure.recipient, failure.reason)?;
        }
        write!(out, "\r\nIts name in the gateway's log is {}. Its header follows.\r\n", self.id)?;
        write!(out, "\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n")?;
        write!(out, "Reporting-MTA: dns; {}\r\nX-Queue-ID: {}\r\nArrival-Date: {arrived}\r\n", self.hostname, self.id)?;
        for failure in self.failures {
            write!(out, "\r\nFinal-Recipient: rfc822; {}\r\nAction: failed\r\n", failure.recipient)?;
            write!(out, "Status: {}\r\nDiagnostic-Code: smtp; {}\r\n", status(&failure.reason), failure.reason)?;
        }
        write!(
            out,
            "\r\n--{boundary}\r\nContent-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_providers_own() {
        assert_eq!(status("mx refused it: 550 5.1.1 no such user"), "5.1.1");
        assert_eq!(status("kept for 4 days"), "5.0.0");
        assert_eq!(status("version 5.x of 5.1.1.1"), "5.0.0");
    }

    #[test]
    fn a_report_has_its_three_parts() {
        let failures = [Failure { recipient: "x@y.z".into(), reason: "mx refused it: 550 5.1.1 no".into() }];
        let notice = Notice {
            id: "ABCDEFGHJK",
            hostname: "gw.example",
            from: "me@example.com",
            to: "plc@example.com",
            arrived: 1_800_000_000,
            client: "10.0.0.7",
            header: b"Subject: alarm\r\n",
            failures: &failures,
        };
        let text = String::from_utf8(notice.text()).unwrap();
        assert_eq!(text.matches("\r\n--=_ABCDEFGHJK_report").count(), 4);
        assert!(text.contains("Final-Recipient: rfc822; x@y.z\r\nAction: failed\r\nStatus: 5.1.1\r\n"));
        assert!(text.contains("\r\n\r\nSubject: alarm\r\n\r\n--=_ABCDEFGHJK_report--\r\n"));
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }
}

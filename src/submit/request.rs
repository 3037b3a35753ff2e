// SPDX-License-Identifier: Apache-2.0
//! The command line of a sendmail.
//!
//! Programs call `sendmail` with options of every version that ever existed, and `msmtp` with options for a connection
//! that does not concern them here. Options that decide who gets the mail are honoured; options that request something
//! other than sending are refused, so that nothing is sent by mistake; all others are ignored.

use crate::message::address::envelope;

/// Whose options are parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A line with a single dot ends the message, unless `-i` says otherwise.
    Sendmail,
    /// The message ends at end of input.
    Msmtp,
}

/// A message to send.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `-f`: the envelope sender.
    pub from: Option<String>,
    /// Recipients named on the command line.
    pub to: Vec<String>,
    /// `-t`: recipients are also read from the header.
    pub header_recipients: bool,
    /// A line with a single dot ends the message.
    pub dot_ends: bool,
}

/// Long options of msmtp (its manual, section "Options") whose value is the next argument unless it is joined by `=`.
const WITH_VALUE: &[&str] = &[
    "account",
    "aliases",
    "auto-from-domain",
    "domain",
    "dsn-notify",
    "dsn-return",
    "file",
    "from",
    "from-full-name",
    "host",
    "logfile",
    "logfile-time-format",
    "maildomain",
    "passwordeval",
    "port",
    "protocol",
    "proxy-host",
    "proxy-port",
    "socket",
    "source-ip",
    "timeout",
    "tls-cert-file",
    "tls-crl-file",
    "tls-fingerprint",
    "tls-host-override",
    "tls-key-file",
    "tls-min-dh-prime-bits",
    "tls-priorities",
    "tls-trust-file",
    "user",
];

impl Request {
    /// Parses the arguments after the program name. A value may be joined to its option.
    ///
    /// # Errors
    /// If an option lacks its value or requests something other than sending, or an argument is not a list of
    /// addresses.
    pub fn parse(arguments: &[String], style: Style) -> Result<Self, String> {
        let mut request = Self { dot_ends: style == Style::Sendmail, ..Self::default() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(option) = argument.strip_prefix('-').filter(|o| !o.is_empty()) else {
                request.to.extend(envelope::addresses(argument.as_bytes())?);
                continue;
            };
            if option == "-" {
                for argument in rest {
                    request.to.extend(envelope::addresses(argument.as_bytes())?);
                }
                break;
            }
            if let Some(long) = option.strip_prefix('-') {
                request.long(long, &mut rest)?;
                continue;
            }
            let (letter, joined) = option.split_at_checked(1).unwrap_or((option, ""));
            let mut value = || match joined {
                "" => rest.next().cloned().ok_or(format!("option -{letter} needs a value")),
                joined => Ok(joined.to_string()),
            };
            match letter {
                "t" => request.header_recipients = true,
                "i" => request.dot_ends = false,
                "f" | "r" => request.from = Some(sender(&value()?)?),
                "o" if joined == "i" => request.dot_ends = false,
                // `-oem`, `-om`: always joined. The others take a value that does not matter here.
                "o" => {}
                "F" | "N" | "R" | "V" | "X" | "L" | "B" | "h" | "p" | "A" | "O" | "C" | "a" => drop(value()?),
                "b" if matches!(joined, "" | "m") => {}
                // msmtp's "pretend" and "serverinfo".
                "b" | "P" | "S" => return Err(format!("option -{option} is not supported by smtprelay")),
                _ => {}
            }
        }
        Ok(request)
    }

    fn long<'a>(&mut self, option: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<(), String> {
        let (name, joined) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let value = match joined {
            None if WITH_VALUE.contains(&name) => {
                Some(rest.next().ok_or(format!("option --{name} needs a value"))?.as_str())
            }
            joined => joined,
        };
        match name {
            "from" => self.from = value.map(sender).transpose()?,
            "read-recipients" => self.header_recipients = true,
            "pretend" | "serverinfo" | "rmqs" | "configure" => {
                return Err(format!("option --{name} is not supported by smtprelay"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The envelope sender in `text`; empty for the null sender. What is not an address is passed to the gateway as it is,
/// which replaces it with the account's: that is not a reason to lose mail.
fn sender(text: &str) -> Result<String, String> {
    match envelope::addresses(text.as_bytes()).as_deref() {
        Ok([]) => Ok(String::new()),
        Ok([first, others @ ..]) if others.iter().all(|other| other.eq_ignore_ascii_case(first)) => Ok(first.clone()),
        Ok(_) => Err(format!("more than one sender: {text}")),
        Err(_) => Ok(text.trim_matches(['<', '>']).chars().filter(|c| !c.is_control()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(ToString::to_string).collect()
    }

    fn parse(arguments: &[&str]) -> Request {
        Request::parse(&strings(arguments), Style::Sendmail).unwrap()
    }

    fn msmtp(arguments: &[&str]) -> Request {
        Request::parse(&strings(arguments), Style::Msmtp).unwrap()
    }

    #[test]
    fn options_of_msmtp() {
        let plain = msmtp(&["ops@x.y"]);
        assert_eq!((plain.to.as_slice(), plain.dot_ends), (&["ops@x.y".to_string()][..], false));
        for arguments in [
            &["-a", "adb_notify", "ops@x.y"][..],
            &["--debug", "-a", "adb_notify", "ops@x.y"],
            &["--timeout=10", "-a", "ban_notify", "ops@x.y"],
            &["--timeout", "10", "-d", "-aban_notify", "--", "ops@x.y"],
            &["--account", "trm_notify", "--file=/etc/msmtprc", "--tls=on", "--tls", "--auth", "ops@x.y"],
            &["-C", "/etc/msmtprc", "--read-envelope-from", "--host", "mail.example", "--port", "587", "ops@x.y"],
            &["--syslog", "--set-from-header=on", "--user", "me", "--passwordeval", "cat /secret", "ops@x.y"],
        ] {
            assert_eq!(msmtp(arguments), plain, "{arguments:?}");
            assert_eq!(parse(arguments), Request { dot_ends: true, ..msmtp(arguments) }, "{arguments:?}");
        }
        let request = msmtp(&["--read-recipients", "--from=<a@b.c>", "--", "--odd@y.z"]);
        assert!(request.header_recipients);
        assert_eq!((request.from.as_deref(), request.to), (Some("a@b.c"), strings(&["--odd@y.z"])));
        assert_eq!(msmtp(&["-t", "--from", "a@b.c"]).from.as_deref(), Some("a@b.c"));
    }

    #[test]
    fn what_is_not_sending_is_refused() {
        for arguments in [
            &["-bs"][..],
            &["-f"],
            &["-a"],
            &["--account"],
            &["-P", "ops@x.y"],
            &["--pretend", "ops@x.y"],
            &["-S"],
            &["--serverinfo", "--host=x"],
        ] {
            assert!(Request::parse(&strings(arguments), Style::Sendmail).is_err(), "{arguments:?}");
            assert!(Request::parse(&strings(arguments), Style::Msmtp).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn arguments_as_programs_give_them() {
        let request = parse(&["-t", "-oi", "-f", "a@b.c", "x@y.z"]);
        assert_eq!(request.from.as_deref(), Some("a@b.c"));
        assert_eq!(request.to, ["x@y.z"]);
        assert!(request.header_recipients && !request.dot_ends);
        let request = parse(&["-i", "-fa@b.c", "-FCron Daemon", "-oem", "-bm", "--", "-odd@y.z"]);
        assert_eq!((request.from.as_deref(), request.to), (Some("a@b.c"), vec!["-odd@y.z".to_string()]));
        assert_eq!(parse(&["-f", "<>", "root,ops@x.y"]).to, ["root", "ops@x.y"]);
        let request = parse(&["-f", "<>", "\"Ops, Night\" <night@x.y>", "Day <day@x.y>, a@b.c d@e.f"]);
        assert_eq!(request.to, ["night@x.y", "day@x.y", "a@b.c", "d@e.f"]);
        assert_eq!(request.from.as_deref(), Some(""));
        assert_eq!(parse(&["-f", "PLC 3 <plc@x.y>", "root"]).from.as_deref(), Some("plc@x.y"));
        assert_eq!(parse(&["-f", "<pump house@plant>", "root"]).from.as_deref(), Some("pump house@plant"));
        for wrong in
            [&["ops@x.y,no body@"][..], &["--", "a@b@c"], &["the night shift"], &["-f", "a@b.c, d@e.f", "root"]]
        {
            assert!(Request::parse(&strings(wrong), Style::Sendmail).is_err(), "{wrong:?}");
        }
    }
}

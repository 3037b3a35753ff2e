// SPDX-License-Identifier: Apache-2.0
//! `smtprelay send`, also invoked as `sendmail` and `msmtp`: submits mail of local programs to the gateway.
//!
//! The message goes to the running gateway over its local socket, so that it is processed like a device's. If the
//! gateway is not running, the message is written to the queue directly and is sent at the next start.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::inbound::accept::LOCAL_SOCKET;
use crate::intake::{Desk, Origin};
use crate::message::address::{self, envelope};
use crate::message::{DotStuffer, Envelope, is_address};
use crate::policy::{Alarms, Policies};
use crate::queue::{Client, Marks, Spool, SpoolLock, deserted};

/// Bytes that are searched for recipients in the header.
const HEADER_LIMIT: usize = 64 << 10;

/// The text from stdin: its line endings converted to CRLF, ended by a single dot if that was requested.
struct Source<R> {
    input: R,
    dot_ends: bool,
    pending: Vec<u8>,
    ended: bool,
}

impl<R: Read> Source<R> {
    /// The next chunk; empty at the end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.is_empty() && !self.ended {
            let mut chunk = [0; 8192];
            let read = self.input.read(&mut chunk)?;
            self.pending.extend_from_slice(chunk.get(..read).unwrap_or_default());
            if read == 0 {
                self.ended = true;
                if !self.pending.is_empty() {
                    self.pending.push(b'\n');
                }
            }
            while let Some(lf) = memchr::memchr(b'\n', &self.pending) {
                let line: Vec<u8> = self.pending.drain(..=lf).collect();
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                if self.dot_ends && text == b"." {
                    self.ended = true;
                    self.pending.clear();
                    break;
                }
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            // A line without end is passed on in chunks.
            if self.pending.len() > HEADER_LIMIT {
                out.append(&mut self.pending);
            }
        }
        Ok(out)
    }
}

/// Reads a message from `input` and submits it. Returns the gateway's reply.
///
/// # Errors
/// If there are no recipients, or the gateway does not accept the message; then it was not queued.
pub async fn send(request: Request, input: impl Read, settings: &Settings) -> Result<String> {
    let mut source = Source { input, dot_ends: request.dot_ends, pending: Vec::new(), ended: false };
    let mut head = Vec::new();
    while head.len() < HEADER_LIMIT && memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        let piece = source.next().context("cannot read the message")?;
        if piece.is_empty() {
            break;
        }
        head.extend_from_slice(&piece);
    }
    let mut to = request.to;
    let end = memchr::memmem::find(&head, b"\r\n\r\n").map_or(head.len(), |at| at + 2);
    if request.header_recipients {
        to.extend(address::recipients_of(head.get(..end).unwrap_or_default()).map_err(Fault::Data)?);
    }
    if to.is_empty() {
        let text = "no recipient: specify one on the command line, or use -t with a To field";
        bail!(if request.header_recipients { Fault::Data(text.into()) } else { Fault::Usage(text.into()) });
    }
    let from = request.from.unwrap_or_else(user_name);
    if let Some(name) = request.name
        && !has_from(head.get(..end).unwrap_or_default())
    {
        let name: String = name.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
        // A login name is not an address: the gateway adds that of the account.
        let address = if is_address(&from) { format!(" <{from}>") } else { String::new() };
        head.splice(..0, format!("From: \"{name}\"{address}\r\n").into_bytes());
    }
    match UnixStream::connect(settings.relay.spool.join(LOCAL_SOCKET)).await {
        Ok(stream) => over_socket(stream, &from, &to, head, source).await,
        Err(_) => {
            // It would not see the message before its next start.
            if let Some(text) = deserted(&settings.relay.spool) {
                bail!(text);
            }
            into_queue(settings, from, to, head, source).await
        }
    }
}

/// Whether a header, or what stands where one is expected, has a From field.
fn has_from(header: &[u8]) -> bool {
    header
        .split(|byte| *byte == b'\n')
        .any(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"from:")))
}

fn user_name() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    user.map_or_else(|| "root".to_string(), |user| user.name)
}

/// Expects a reply that begins with `code`; returns its text. `refused` is what it means if the gateway refuses for good.
async fn reply(stream: &mut BufReader<UnixStream>, code: &str, refused: fn(String) -> Fault) -> Result<String> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.context("no reply from the gateway")? == 0 {
            bail!("the gateway closed the connection");
        }
        if line.get(3..4) != Some("-") {
            break;
        }
    }
    let text = line.trim_end().to_string();
    let why = || format!("the gateway refused the message: {text}");
    match text.starts_with(code) {
        true => Ok(text),
        false if text.starts_with('5') => bail!(refused(why())),
        false => bail!(why()),
    }
}

async fn over_socket<R: Read>(
    stream: UnixStream,
    from: &str,
    to: &[String],
    head: Vec<u8>,
    mut source: Source<R>,
) -> Result<String> {
    let mut stream = BufReader::new(stream);
    reply(&mut stream, "220", Fault::Refused).await?;
    let international = if to.iter().all(|a| a.is_ascii()) { "" } else { " SMTPUTF8" };
    let refused: fn(String) -> Fault = Fault::Refused;
    let mut commands = vec![
        ("EHLO localhost".to_string(), "250", refused),
        (format!("MAIL FROM:<{from}>{international}"), "250", refused),
    ];
    commands.extend(to.iter().map(|address| (format!("RCPT TO:<{address}>"), "250", Fault::Recipient as _)));
    commands.push(("DATA".into(), "354", refused));
    for (command, code, refused) in commands {
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        reply(&mut stream, code, refused).await?;
    }
    let (mut dots, mut piece, mut wire) = (DotStuffer::new(), head, Vec::new());
    while !piece.is_empty() {
        dots.push(&piece, &mut wire);
        stream.write_all(&wire).await?;
        wire.clear();
        piece = source.next().context("cannot read the message")?;
    }
    dots.finish(&mut wire);
    stream.write_all(&wire).await?;
    let said = reply(&mut stream, "250", Fault::Refused).await?;
    let _ = stream.write_all(b"QUIT\r\n").await;
    Ok(said)
}

/// Writes the message to the queue of a gateway that is not running.
async fn into_queue<R: Read>(
    settings: &Settings,
    from: String,
    to: Vec<String>,
    head: Vec<u8>,
    mut source: Source<R>,
) -> Result<String> {
    let spool = Spool::open(&settings.relay).map_err(anyhow::Error::msg)?;
    let place = settings.relay.spool.clone();
    let taken =
        crate::system::task::blocking(move || SpoolLock::take(&place)).await.context("the program is shutting down")?;
    let Some(_lock) = taken? else {
        bail!("the gateway is starting or stopping; try again");
    };
    let (arrivals, _kept) = mpsc::unbounded_channel();
    spool.recover();
    let desk = Desk::new(Arc::clone(&spool), arrivals, mpsc::channel(1).0);
    desk.set_alarms(Alarms::new(settings));
    let limit = settings.relay.largest_message();
    let owner = Client::user(nix::unistd::getuid().as_raw());
    let mut intake = desk.begin(owner, limit).map_err(|e| anyhow!("{e}"))?;
    let mut piece = head;
    while !piece.is_empty() {
        intake.push(&piece).await.map_err(|e| anyhow!("{e}"))?;
        piece = source.next().context("cannot read the message")?;
    }
    let to = Policies::new(settings).recipients(None, &to);
    let to = to.map_err(|refusal| Fault::Recipient(refusal.to_string()))?;
    let envelope = Envelope { smtputf8: to.iter().any(|a| !a.is_ascii()), from, to };
    let marks = Marks { owner: owner.to_record(), ..Marks::default() };
    let origin = Origin { helo: "localhost".into(), protocol: "local", marks, ..Origin::default() };
    let fallback = settings.accounts.first().map(|a| a.from.clone()).unwrap_or_default();
    let hostname = settings.relay.hostname();
    let taken = intake.finish(envelope, &origin, &hostname, &fallback).await.map_err(|e| anyhow!("{e}"))?;
    Ok(format!("queued as {}; the gateway is not running, the message will be sent when it is started", taken.id))
}

/// Why a message was not submitted, unless trying again later may help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The command line is wrong.
    Usage(String),
    /// What should be an address is not one, on the command line or in the message.
    Data(String),
    /// The gateway does not accept a recipient.
    Recipient(String),
    /// The gateway does not accept the message.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Data(text) | Self::Recipient(text) | Self::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Fault {}

/// Whose options are parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Our own, `smtprelay send`: few, and nothing else. A line with a single dot ends the message, unless `-i` says
    /// otherwise.
    Own,
    /// Those of sendmail, as Sendmail, Postfix and Exim document them. The dot as above.
    Sendmail,
    /// Those of msmtp and of sendmail. The message ends at end of input.
    Msmtp,
}

/// What a sendmail was called for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Work {
    /// Send a message.
    #[default]
    Send,
    /// `-bp`: list the queue.
    List,
    /// `-q`: attempt delivery of everything now (`all`), or with `-qI` of one message.
    Retry(String),
}

/// A message to send.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub work: Work,
    /// `-f`: the envelope sender.
    pub from: Option<String>,
    /// `-F`: the name of the sender.
    pub name: Option<String>,
    /// Recipients named on the command line.
    pub to: Vec<String>,
    /// `-t`: recipients are also read from the header.
    pub header_recipients: bool,
    /// A line with a single dot ends the message.
    pub dot_ends: bool,
}

/// Long options of msmtp (its manual, section "Options") whose value is the next argument unless it is joined by `=`.
const WITH_VALUE: &str = "account aliases auto-from-domain domain dsn-notify dsn-return eval file from from-full-name host \
    logfile logfile-time-format maildomain passwordeval port protocol proxy-host proxy-port socket source-ip \
    timeout tls-cert-file tls-crl-file tls-fingerprint tls-host-override tls-key-file \
    tls-min-dh-prime-bits tls-priorities tls-trust-file user";
/// Its other long options, which may have a value joined by `=`.
const WITHOUT_VALUE: &str = "add-missing-date-header add-missing-from-header allow-from-override auth auto-from debug \
    keepbcc read-envelope-from read-recipients remove-bcc-headers set-date-header set-from-header set-msgid-header \
    syslog tls tls-certcheck tls-starttls undisclosed-recipients";

fn is_listed(list: &str, name: &str) -> bool {
    list.split(' ').any(|known| known == name)
}

impl Request {
    /// Parses the arguments after the program name. Options without a value may be joined (`-ti`), and so may a value
    /// and its option (`-fADDRESS`). What has no meaning for a gateway is let go; docs/guide/packages.md lists it.
    ///
    /// # Errors
    /// If an option is unknown, lacks its value or requests something other than sending, or if an argument is not a
    /// list of addresses.
    pub fn parse(arguments: &[String], style: Style) -> Result<Self, Fault> {
        let mut request = Self { dot_ends: style != Style::Msmtp, ..Self::default() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(option) = argument.strip_prefix('-').filter(|o| !o.is_empty()) else {
                request.add_recipients(argument)?;
                continue;
            };
            match option.strip_prefix('-') {
                Some("") => {
                    for argument in rest.by_ref() {
                        request.add_recipients(argument)?;
                    }
                }
                Some(long) if style != Style::Own => request.long(long, &mut rest)?,
                Some(long) => return Err(Fault::Usage(format!("unknown option '--{long}'"))),
                None => request.short(option, style, &mut rest)?,
            }
        }
        Ok(request)
    }

    fn add_recipients(&mut self, argument: &str) -> Result<(), Fault> {
        self.to.extend(envelope::addresses(argument.as_bytes()).map_err(Fault::Data)?);
        Ok(())
    }

    /// One argument with short options.
    fn short<'a>(
        &mut self,
        options: &str,
        style: Style,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), Fault> {
        let unsupported = |option: &str| Err(Fault::Usage(format!("option -{option} is not supported by smtprelay")));
        let mut left = options;
        while let Some(letter) = left.chars().next() {
            left = left.get(letter.len_utf8()..).unwrap_or_default();
            let joined = left;
            let mut value = || match joined {
                "" => rest.next().cloned().ok_or_else(|| Fault::Usage(format!("option -{letter} requires a value"))),
                joined => Ok(joined.to_string()),
            };
            match letter {
                't' => self.header_recipients = true,
                'i' => self.dot_ends = false,
                'f' => self.from = Some(sender(&value()?)?),
                'F' => self.name = Some(value()?),
                'o' => match (value()?.as_str(), style) {
                    ("i", _) => self.dot_ends = false,
                    (other, Style::Own) => return Err(Fault::Usage(format!("unknown option '-o{other}'"))),
                    _ => {}
                },
                other if style == Style::Own => return Err(Fault::Usage(format!("unknown option '-{other}'"))),
                'r' => self.from = Some(sender(&value()?)?),
                'b' => match value()?.as_str() {
                    "m" => {}
                    "p" => self.work = Work::List,
                    other => return unsupported(&format!("b{other}")),
                },
                // Its value is always joined: an interval, which is ours to know, or which messages.
                'q' => match joined.split_at_checked(1) {
                    Some(("I", id)) => self.work = Work::Retry(id.into()),
                    Some(("R" | "S" | "Q" | "!", _)) => return unsupported(&format!("q{joined}")),
                    _ => self.work = Work::Retry("all".into()),
                },
                'A' | 'B' | 'C' | 'D' | 'L' | 'N' | 'O' | 'R' | 'V' | 'X' | 'a' | 'd' | 'e' | 'h' | 'p' => {
                    // For msmtp, -d is --debug and has no value; for Sendmail, one that is joined.
                    if letter != 'd' {
                        drop(value()?);
                    }
                }
                'G' | 'I' | 'U' | 'm' | 'n' | 'v' | 'x' => continue,
                // msmtp's "pretend" and "serverinfo".
                'P' | 'S' => return unsupported(&letter.to_string()),
                other => return Err(Fault::Usage(format!("unknown option '-{other}'"))),
            }
            if !matches!(letter, 't' | 'i') {
                break;
            }
        }
        Ok(())
    }

    fn long<'a>(&mut self, option: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<(), Fault> {
        let (name, joined) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let value = match joined {
            None if is_listed(WITH_VALUE, name) => {
                let missing = || Fault::Usage(format!("option --{name} requires a value"));
                Some(rest.next().ok_or_else(missing)?.as_str())
            }
            joined => joined,
        };
        match name {
            "from" => self.from = value.map(sender).transpose()?,
            "from-full-name" => self.name = value.map(Into::into),
            "read-recipients" => self.header_recipients = true,
            "pretend" | "serverinfo" | "rmqs" | "configure" => {
                return Err(Fault::Usage(format!("option --{name} is not supported by smtprelay")));
            }
            name if is_listed(WITH_VALUE, name) || is_listed(WITHOUT_VALUE, name) => {}
            name => return Err(Fault::Usage(format!("unknown option '--{name}'"))),
        }
        Ok(())
    }
}

/// The envelope sender in `text`; empty for the null sender. What is not an address is passed to the gateway as it is,
/// which replaces it with the account's: that is not a reason to lose mail.
fn sender(text: &str) -> Result<String, Fault> {
    match envelope::addresses(text.as_bytes()).as_deref() {
        Ok([]) => Ok(String::new()),
        Ok([first, others @ ..]) if others.iter().all(|other| other.eq_ignore_ascii_case(first)) => Ok(first.clone()),
        Ok(_) => Err(Fault::Data(format!("more than one sender: {text}"))),
        Err(_) => Ok(text.trim_matches(['<', '>']).chars().filter(|c| !c.is_control()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], dot_ends: bool) -> Vec<u8> {
        let mut source = Source { input: text, dot_ends, pending: Vec::new(), ended: false };
        let mut all = Vec::new();
        loop {
            let piece = source.next().unwrap();
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
        }
    }

    #[test]
    fn a_lone_dot_ends_the_text_unless_told_otherwise() {
        assert_eq!(read(b"a\n.\nb\n", true), b"a\r\n");
        assert_eq!(read(b"a\n.\nb", false), b"a\r\n.\r\nb\r\n");
        assert_eq!(read(b"", true), b"");
    }

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
            &["-qRexample.com"],
            &["-bd"],
            &["-z", "ops@x.y"],
            &["-tz"],
            &["--colour", "red", "ops@x.y"],
        ] {
            assert!(Request::parse(&strings(arguments), Style::Sendmail).is_err(), "{arguments:?}");
            assert!(Request::parse(&strings(arguments), Style::Msmtp).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn our_own_takes_few_options_and_nothing_else() {
        let own = |arguments: &[&str]| Request::parse(&strings(arguments), Style::Own);
        let request = own(&["-ti", "-f", "a@b.c", "-FBackup", "x@y.z"]).unwrap();
        assert_eq!((request.name.as_deref(), request.to), (Some("Backup"), strings(&["x@y.z"])));
        assert!(request.header_recipients && !request.dot_ends);
        for wrong in [&["-a", "x"][..], &["-bp"], &["-q"], &["-oem"], &["--from", "a@b.c"], &["-r", "a@b.c"], &["-v"]] {
            assert!(matches!(own(wrong), Err(Fault::Usage(_))), "{wrong:?}");
        }
        assert!(matches!(own(&["a@@b"]), Err(Fault::Data(_))));
    }

    #[test]
    fn the_value_of_an_option_is_not_a_recipient() {
        for arguments in [
            &["-o", "i", "ops@x.y"][..],
            &["-oi", "-o", "em", "ops@x.y"],
            &["-e", "m", "-h", "5", "-i", "ops@x.y"],
            &["-X", "/tmp/log", "-p", "ESMTP", "-ivn", "ops@x.y"],
            &["-N", "never", "-R", "hdrs", "-V", "id", "-O", "a=b", "-i", "ops@x.y"],
        ] {
            let request = parse(arguments);
            assert_eq!((request.to, request.dot_ends), (strings(&["ops@x.y"]), false), "{arguments:?}");
        }
        assert_eq!(parse(&["-F", "Cron Daemon", "root"]).name.as_deref(), Some("Cron Daemon"));
        assert_eq!(parse(&["-bp"]).work, Work::List);
        assert_eq!(parse(&["-q"]).work, Work::Retry("all".into()));
        assert_eq!(parse(&["-q15m"]).work, Work::Retry("all".into()));
        assert_eq!(parse(&["-qI7YD60PAAPZ"]).work, Work::Retry("7YD60PAAPZ".into()));
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

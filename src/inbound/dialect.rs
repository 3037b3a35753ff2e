// SPDX-License-Identifier: Apache-2.0
//! The two dialects of commands. [`parse`] understands one command, however it is spelled; [`check`] refuses before
//! that what RFC 5321 does not allow, for the dialect `strict`.
//!
//! RFC 5321 section 4.1.1 defines what a command looks like; devices send something close to it. What they mean is
//! almost always clear, and refusing it helps nobody. Only one thing is never tolerated: an address that would not
//! survive as exactly one address in a command that we send.

use crate::message::address::envelope;
use crate::message::is_address;
use crate::message::tokens::{TokenKind, tokens};

/// A command with the arguments that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// HELO or EHLO with its argument, possibly empty.
    Hello {
        extended: bool,
        name: String,
    },
    /// MAIL with the sender, empty for the null sender; or the error in it.
    Mail {
        from: Result<String, String>,
        size: u64,
        smtputf8: bool,
    },
    /// RCPT with one or more recipients: some devices put all of them into one command. Or the error in any of them;
    /// then none of the addresses on the line becomes a recipient.
    Rcpt {
        to: Result<Vec<String>, String>,
    },
    /// DATA.
    Data,
    /// AUTH with the mechanism in upper case and the initial response: empty if a space follows and nothing else.
    Auth {
        mechanism: String,
        initial: Option<String>,
    },
    /// BDAT with the number of bytes that follow.
    Bdat {
        size: u64,
    },
    Rset,
    Noop,
    Quit,
    /// VRFY or EXPN.
    Verify,
    Help,
    StartTls,
    /// An empty line.
    Empty,
    /// MAIL with more than one sender, and the senders.
    ManySenders(String),
    /// Anything else.
    Unknown,
}

/// The SMTP verbs, longest first where one is a prefix of another.
const VERBS: [&str; 14] = [
    "STARTTLS", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "AUTH", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP",
];

/// Whether `text` begins with an SMTP verb, with or without something joined to it.
pub fn begins_with_verb(text: &[u8]) -> bool {
    VERBS.iter().any(|verb| text.get(..verb.len()).is_some_and(|head| head.eq_ignore_ascii_case(verb.as_bytes())))
}

/// Parses one line without its line ending.
pub fn parse(line: &[u8]) -> Command {
    let ends_blank = line.last().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    let line = line.trim_ascii();
    if line.is_empty() {
        return Command::Empty;
    }
    let found = VERBS.iter().find_map(|verb| {
        let (head, tail) = line.split_at_checked(verb.len())?;
        // `QUIT)` is a QUIT, `QUITE` is not.
        let ends = tail.first().is_none_or(|b| !b.is_ascii_alphanumeric());
        let joined = matches!(*verb, "MAIL" | "RCPT");
        (head.eq_ignore_ascii_case(verb.as_bytes()) && (ends || joined)).then_some((*verb, tail))
    });
    let Some((verb, rest)) = found else { return Command::Unknown };
    match verb {
        "EHLO" | "HELO" => Command::Hello { extended: verb == "EHLO", name: printable(rest) },
        "MAIL" => keyword(rest, b"FROM").map_or(Command::Unknown, mail),
        "RCPT" => keyword(rest, b"TO").map_or(Command::Unknown, rcpt),
        "DATA" => Command::Data,
        "AUTH" => auth(rest, ends_blank),
        "BDAT" => {
            let size = printable(rest).split(' ').next().and_then(|n| n.parse().ok());
            size.map_or(Command::Unknown, |size| Command::Bdat { size })
        }
        "RSET" => Command::Rset,
        "NOOP" => Command::Noop,
        "QUIT" => Command::Quit,
        "VRFY" | "EXPN" => Command::Verify,
        "HELP" => Command::Help,
        "STARTTLS" => Command::StartTls,
        _ => Command::Unknown,
    }
}

/// Command text that is safe to display: no control characters, at most 255 bytes.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.trim_ascii());
    text.chars()
        .filter(|c| !c.is_control())
        .scan(0, |size, c| {
            *size += c.len_utf8();
            (*size <= 255).then_some(c)
        })
        .collect()
}

/// What follows `FROM:` or `TO:`, with or without colon and spaces.
fn keyword<'a>(rest: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = rest.trim_ascii_start().split_at_checked(word.len())?;
    let tail = tail.trim_ascii_start();
    head.eq_ignore_ascii_case(word).then(|| tail.strip_prefix(b":").unwrap_or(tail).trim_ascii_start())
}

/// What follows the keyword of MAIL or RCPT.
#[derive(Default)]
struct Arguments<'a> {
    /// The path, or a list of paths.
    list: Vec<u8>,
    /// The parameters after it (RFC 5321 section 4.1.2).
    parameters: Vec<&'a [u8]>,
    /// Looks like an unknown parameter, but contains an `@`.
    doubtful: Option<&'a [u8]>,
}

/// Parameters whose value may contain an address (RFC 3461 section 4, RFC 1845 section 3). AUTH (RFC 4954 section 5)
/// belongs to MAIL only, where a second address is nobody's.
const ADDRESS_PARAMETERS: [&str; 3] = ["ORCPT", "ENVID", "TRANSID"];
/// Parameters without a value (RFC 6531 section 3.4, RFC 8689 section 3).
const FLAGS: [&str; 2] = ["SMTPUTF8", "REQUIRETLS"];

/// Separates the parameters: words of the form `KEY=value` that no comma makes an element of the list. They follow the
/// path, but the paths that devices send have no reliable end.
fn arguments(text: &[u8], of_mail: bool) -> Arguments<'_> {
    let mut arguments = Arguments::default();
    for word in words(text) {
        let before = arguments.list.trim_ascii_end().last();
        let is_element = before.is_none_or(|byte| matches!(byte, b',' | b';'));
        let one_of = |names: &[&str], name: &[u8]| names.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()));
        let key = word.iter().position(|byte| *byte == b'=').and_then(|at| word.get(..at));
        let key = key.filter(|key| !key.is_empty() && key.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-'));
        match key {
            _ if is_element => arguments.list.extend_from_slice(word),
            // With more than one address, or in the form of a list, it is not the value that the key has.
            Some(key) if !word.contains(&b'@') || one_of(&ADDRESS_PARAMETERS, key) && !is_list(word) => {
                arguments.parameters.push(word);
            }
            Some(_) => arguments.doubtful = Some(word),
            None if one_of(&FLAGS, word) || of_mail && is_unknown_flag(&arguments.list, word) => {
                arguments.parameters.push(word);
            }
            None => arguments.list.extend_from_slice(word),
        }
        arguments.list.push(b' ');
    }
    arguments
}

/// Whether the value of a parameter holds more than one address could (xtext, RFC 3461 section 4, has none of these).
/// A comma at its end separates recipients.
fn is_list(word: &[u8]) -> bool {
    let word = word.strip_suffix(b",").unwrap_or(word);
    let count = |wanted: &[u8]| word.iter().filter(|byte| wanted.contains(byte)).count();
    count(b",<>") > 0 || count(b"@") > 1
}

/// Whether `word`, behind the path in `list`, is a parameter of MAIL without a value: a path is not followed by a name.
fn is_unknown_flag(list: &[u8], word: &[u8]) -> bool {
    list.iter().any(|byte| matches!(byte, b'@' | b'>')) && word.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// Splits at spaces, except those in quotes, comments and closed angle brackets, and behind these: some devices leave
/// no space before a parameter.
fn words(text: &[u8]) -> Vec<&[u8]> {
    let mut closing = tokens(text).filter(|token| token.is(b'>')).count();
    let (mut start, mut at, mut in_angle) = (0, 0, false);
    let mut words = Vec::new();
    for token in tokens(text) {
        let end = at + token.text.len();
        match token {
            bracket if bracket.is(b'<') => in_angle = closing > 0,
            bracket if bracket.is(b'>') => {
                closing = closing.saturating_sub(1);
                in_angle = false;
                words.extend(text.get(start..end));
                start = end;
            }
            blank if blank.kind == TokenKind::Blank && !in_angle => {
                words.extend(text.get(start..at));
                start = end;
            }
            _ => {}
        }
        at = end;
    }
    words.extend(text.get(start..));
    words.retain(|word| !word.is_empty());
    words
}

/// The addresses in `list`, in characters that an envelope may contain (RFC 6531 section 3.3).
fn addresses(list: &[u8]) -> Result<Vec<String>, String> {
    std::str::from_utf8(list).map_err(|_| format!("the address is not UTF-8: {}", printable(list)))?;
    envelope::addresses(list)
}

fn mail(rest: &[u8]) -> Command {
    let Arguments { list, parameters, .. } = arguments(rest, true);
    let from = match addresses(&list) {
        Ok(all) => {
            let mut all = all.into_iter();
            let first = all.next().unwrap_or_default();
            if all.any(|other| !other.eq_ignore_ascii_case(&first)) {
                return Command::ManySenders(format!("more than one sender: {}", printable(&list)));
            }
            Ok(first)
        }
        Err(why) => Err(why),
    };
    let (mut size, mut smtputf8) = (0, from.as_ref().is_ok_and(|from| !from.is_ascii()));
    for word in parameters {
        if word.eq_ignore_ascii_case(b"SMTPUTF8") {
            smtputf8 = true;
        } else if let Some((name, value)) = word.split_at_checked(5)
            && name.eq_ignore_ascii_case(b"SIZE=")
        {
            // RFC 1870 section 4: a number of up to 20 digits; anything else is treated as unknown.
            size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).unwrap_or(0);
        }
    }
    Command::Mail { from, size, smtputf8 }
}

fn rcpt(rest: &[u8]) -> Command {
    let Arguments { list, doubtful, .. } = arguments(rest, false);
    let to = match (addresses(&list), doubtful) {
        // It could be another recipient.
        (_, Some(word)) => Err(format!("neither a recipient nor a known parameter: {}", printable(word))),
        (Ok(to), _) if to.is_empty() => Err("no recipient address in RCPT".into()),
        (to, _) => to,
    };
    Command::Rcpt { to }
}

fn auth(rest: &[u8], ends_blank: bool) -> Command {
    let text = String::from_utf8_lossy(rest);
    let mut words = text.split_whitespace();
    match words.next() {
        Some(mechanism) => {
            let initial = words.next().map(str::to_string).or_else(|| ends_blank.then(String::new));
            Command::Auth { mechanism: mechanism.to_ascii_uppercase(), initial }
        }
        None => Command::Unknown,
    }
}

/// The state of the session when a command arrives.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionState {
    /// HELO or EHLO was received.
    pub greeted: bool,
    /// It was EHLO.
    pub extended: bool,
    /// MAIL was accepted.
    pub transaction: bool,
    /// MAIL was refused, and what follows gets the same reply.
    pub refused: bool,
    /// A login was accepted.
    pub login: bool,
}

const SYNTAX: &str = "500 5.5.2 Syntax error, command unrecognized";
const ARGUMENTS: &str = "501 5.5.4 Syntax error in parameters or arguments";
const SEQUENCE: &str = "503 5.5.1 Bad sequence of commands";
const PARAMETER: &str = "555 5.5.4 Parameter not recognized";

/// The reply to a command line that ended with a bare LF (RFC 5321 section 2.3.8). It ends the session, since it is no
/// longer certain what in the rest is a command.
pub const BARE_LF: &str = "521 5.5.2 Bare <LF> received, lines must end with <CR><LF>";
/// The reply to a message with a bare CR or LF in its text.
pub const BARE_LF_IN_TEXT: &str = "550 5.6.11 Message contains a bare <CR> or <LF>";
/// The reply to a client that sends before the greeting (RFC 5321 section 3.1).
pub const TOO_EARLY: &str = "554 5.5.0 SMTP synchronization error, wait for the greeting before sending";

/// Checks a command line without its line ending.
///
/// # Errors
/// The reply to a command that is invalid or out of sequence.
pub fn check(line: &[u8], state: SessionState) -> Result<(), &'static str> {
    // Trailing spaces are to be tolerated (RFC 5321 section 4.1.1).
    let line = line.trim_ascii_end();
    let text = std::str::from_utf8(line).map_err(|_| SYNTAX)?;
    if text.chars().any(char::is_control) {
        return Err(SYNTAX);
    }
    let (verb, rest) = text.split_once(' ').map_or((text, None), |(verb, rest)| (verb, Some(rest)));
    let verb = verb.to_ascii_uppercase();
    let in_order = |fits: bool| if fits { Ok(()) } else { Err(SEQUENCE) };
    let alone = || if rest.is_none() { Ok(()) } else { Err(ARGUMENTS) };
    match verb.as_str() {
        "EHLO" | "HELO" => rest.filter(|name| is_host(name, verb == "EHLO")).map(|_| ()).ok_or(ARGUMENTS),
        "MAIL" => {
            let smtputf8 = path(rest, "FROM:", &["SIZE", "BODY", "SMTPUTF8", "AUTH"])?;
            // RFC 6531 section 3.4: an internationalized address must be announced.
            if !text.is_ascii() && !smtputf8 {
                return Err(ARGUMENTS);
            }
            in_order(state.greeted && !state.transaction)
        }
        "RCPT" => path(rest, "TO:", &[]).and_then(|_| in_order(state.transaction || state.refused)),
        // Not refused here if it is out of sequence: what follows is text all the same.
        "DATA" => alone(),
        "RSET" | "QUIT" => alone(),
        "STARTTLS" => alone().and_then(|()| in_order(state.extended && !state.transaction)),
        // RFC 4954 section 4: after EHLO, not during a mail transaction, and only once.
        "AUTH" => {
            rest.filter(|rest| rest.split(' ').count() <= 2).ok_or(ARGUMENTS)?;
            in_order(state.extended && !state.transaction && !state.login)
        }
        "VRFY" | "EXPN" => rest.map(|_| ()).ok_or(ARGUMENTS),
        // BDAT is not offered; its bytes are skipped as in the other dialect.
        "NOOP" | "HELP" | "BDAT" => Ok(()),
        _ => Err(SYNTAX),
    }
}

/// A domain, or with EHLO an address in square brackets (RFC 5321 section 4.1.1.1).
fn is_host(name: &str, literal: bool) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || !c.is_ascii())
    };
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // RFC 5321 section 4.1.3; the IPv6 form begins with a tag.
        Some(inner) => literal && inner.strip_prefix("IPv6:").unwrap_or(inner).parse::<std::net::IpAddr>().is_ok(),
        None => name.len() <= 255 && name.split('.').all(label),
    }
}

/// `FROM:<…>` or `TO:<…>` with parameters of these names. Returns whether SMTPUTF8 is among them.
fn path(rest: Option<&str>, keyword: &str, known: &[&str]) -> Result<bool, &'static str> {
    let rest = rest.ok_or(ARGUMENTS)?;
    let (head, tail) = rest.split_at_checked(keyword.len()).ok_or(ARGUMENTS)?;
    let tail = Some(tail).filter(|_| head.eq_ignore_ascii_case(keyword)).and_then(|tail| tail.strip_prefix('<'));
    let (address, parameters) = tail.and_then(closing).ok_or(ARGUMENTS)?;
    let empty = address.is_empty() && keyword == "FROM:";
    let postmaster = address.eq_ignore_ascii_case("postmaster") && keyword == "TO:";
    // A source route (RFC 5321 appendix C) is accepted here and removed later.
    let mailbox = envelope::without_route(address);
    if !empty && !postmaster && !mailbox.is_some_and(is_address) {
        return Err("501 5.1.3 Bad address syntax, expected a mail address in angle brackets");
    }
    let mut smtputf8 = false;
    if !parameters.is_empty() {
        let words = parameters.strip_prefix(' ').ok_or(ARGUMENTS)?;
        for word in words.split(' ') {
            let name = word.split('=').next().unwrap_or_default();
            if !known.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                return Err(PARAMETER);
            }
            smtputf8 |= word.eq_ignore_ascii_case("SMTPUTF8");
        }
    }
    Ok(smtputf8)
}

/// Splits at the closing bracket, ignoring quoted text.
fn closing(text: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    let at = text.find(|c| {
        let ends = c == '>' && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        ends
    })?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from(line: &str) -> String {
        match parse(line.as_bytes()) {
            Command::Mail { from: Ok(from), .. } => from,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn to(line: &str) -> Vec<String> {
        match parse(line.as_bytes()) {
            Command::Rcpt { to: Ok(to) } => to,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn senders_in_every_spelling() {
        for line in [
            "MAIL FROM:<plc@example.com>",
            "MAIL From: <plc@example.com>",
            "mail from:plc@example.com",
            "MAIL FROM plc@example.com",
            "MAILFROM:<plc@example.com>",
            "Mail From : < plc@example.com >",
            "MAIL FROM:<plc@example.com",
            "MAIL FROM:PLC 3 <plc@example.com>",
            "MAIL FROM:<PLC 3 <plc@example.com>>",
            "MAIL FROM:<@relay.example:plc@example.com>",
            "MAIL FROM:<plc@example.com> AUTH=<> FOO BODY=8BITMIME",
            "MAIL FROM:plc@example.com FOO AUTH=a@b.c",
            "MAIL FROM:<plc@example.com> FOO (c)",
            "MAIL FROM:<plc@example.com>BODY=8BITMIME",
            "MAIL FROM:<plc@example.com>FOO",
        ] {
            assert_eq!(from(line), "plc@example.com", "{line}");
        }
        assert_eq!(from("MAIL FROM:<>"), "");
        assert_eq!(from("MAIL FROM:"), "");
        assert_eq!(from("MAIL FROM:<root>"), "root");
        assert_eq!(from("MAIL FROM:<\"a b\"@example.com>"), "\"a b\"@example.com");
    }

    #[test]
    fn recipients_alone_and_in_lists() {
        assert_eq!(to("RCPT TO:<a@b.c>"), ["a@b.c"]);
        assert_eq!(to("rcpt to: a@b.c NOTIFY=NEVER"), ["a@b.c"]);
        assert_eq!(to("RCPT TO:<a@b.c>,<d@e.f>"), ["a@b.c", "d@e.f"]);
        assert_eq!(to("RCPT TO:<a@b.c;d@e.f>"), ["a@b.c", "d@e.f"]);
        assert_eq!(to("RCPT TO:<Postmaster>"), ["Postmaster"]);
        for line in [
            "RCPT TO:<a@b.c>, d@e.f",
            "RCPT TO:a@b.c d@e.f",
            "RCPT TO:<a@b.c><d@e.f>",
            "RCPT TO:<a@b.c>,<d@e.f> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y.z",
            "RCPT TO:A <a@b.c> ENVID=x@y.z, D <d@e.f> FOO=1",
            "RCPT TO:<a@b.c> TO:<d@e.f>",
        ] {
            assert_eq!(to(line), ["a@b.c", "d@e.f"], "{line}");
        }
        assert_eq!(to("RCPT TO:<a@b.c>, prvs=12=d@e.f"), ["a@b.c", "prvs=12=d@e.f"]);
        assert_eq!(to("RCPT TO:<@x.y,@z:a@b.c>"), ["a@b.c"]);
        assert_eq!(to("RCPT TO:<a@b.c.> NOTIFY=NEVER (c)"), ["a@b.c"]);
        assert_eq!(to("RCPT TO:<a@b.c NOTIFY=NEVER"), ["a@b.c"]);
        assert_eq!(to("RCPT TO:root NOTIFY=NEVER"), ["root"]);
        assert_eq!(to("RCPT TO:<a@b.c> ORCPT=rfc822;d@e.f ENVID=x@y.z AUTH=<>"), ["a@b.c"]);
        assert_eq!(to("RCPT TO:<a@b.c>NOTIFY=NEVER"), ["a@b.c"]);
        assert_eq!(to("RCPT TO:<a@b.c>ORCPT=rfc822;d@e.f"), ["a@b.c"]);
        for line in [
            "RCPT TO:<a@b.c> prvs=12=d@e.f",
            "RCPT TO:<a@b.c> X=d@e.f",
            "RCPT TO:<a@b.c>,<bad one>",
            "RCPT TO:<a@b.c> ORCPT=rfc822;d@e.f,<g@h.i>",
            "RCPT TO:<a@b.c> ORCPT=rfc822;a@b.c;g@h.i",
            "RCPT TO:<a@b.c> ORCPT=<g@h.i>",
            "RCPT TO:<a@b.c> ENVID=x,g@h.i",
            "RCPT TO:<a@b.c> AUTH=g@h.i",
            "RCPT TO:<a@b.c> root",
            "RCPT TO:a@b.c root NOTIFY=NEVER",
        ] {
            assert!(matches!(parse(line.as_bytes()), Command::Rcpt { to: Err(_) }), "{line}");
        }
    }

    #[test]
    fn more_senders_than_one() {
        for line in ["MAIL FROM:<a@b.c>,<d@e.f>", "MAIL FROM:<a@b.c> d@e.f SIZE=3", "MAIL FROM:a@b.c d@e.f"] {
            assert!(matches!(parse(line.as_bytes()), Command::ManySenders(_)), "{line}");
        }
        for line in ["MAIL FROM:a@b.c <a@b.c>", "MAIL FROM:<a@b.c> AUTH=d@e.f X=g@h.i", "MAIL FROM:<a@b.c>,<A@B.C>"] {
            assert_eq!(from(line), "a@b.c", "{line}");
        }
        assert_eq!(from("MAIL FROM:PLC <>"), "");
        assert_eq!(from("MAIL FROM:root SMTPUTF8 FOO=1"), "root");
    }

    #[test]
    fn a_sender_that_is_no_address_is_told_apart_from_none() {
        assert!(matches!(parse(b"MAIL FROM:<a b@c> SIZE=7"), Command::Mail { from: Err(_), size: 7, .. }));
    }

    #[test]
    fn parameters_of_mail() {
        let line = b"MAIL FROM:<a@b.c> size=12345 SMTPUTF8";
        assert_eq!(parse(line), Command::Mail { from: Ok("a@b.c".into()), size: 12345, smtputf8: true });
        assert!(matches!(parse(b"MAIL FROM:<a@b.c> SIZE=99999999999999999999999"), Command::Mail { size: 0, .. }));
        assert!(matches!(parse(b"MAIL FROM:<a@b.c>SIZE=7"), Command::Mail { from: Ok(_), size: 7, .. }));
    }

    #[test]
    fn addresses_that_would_become_commands_are_refused() {
        for line in [
            &b"RCPT TO:<a@b.c\r\nDATA>"[..],
            b"RCPT TO:<a b@c.d>",
            b"RCPT TO:<a@b.c\0>",
            b"RCPT TO:<a@\xff.de>",
            b"RCPT TO:<>",
        ] {
            assert!(matches!(parse(line), Command::Rcpt { to: Err(_) }), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn verbs_in_every_spelling() {
        assert_eq!(parse(b"QUIT)"), Command::Quit);
        assert_eq!(parse(b" quit "), Command::Quit);
        assert_eq!(parse(b"DaTa"), Command::Data);
        assert_eq!(parse(b"QUITE"), Command::Unknown);
        assert_eq!(parse(b""), Command::Empty);
        assert_eq!(parse(b"EHLO"), Command::Hello { extended: true, name: String::new() });
        assert_eq!(parse(b"EHLO plc@example.com"), Command::Hello { extended: true, name: "plc@example.com".into() });
        assert_eq!(parse(b"HELO my plc_3"), Command::Hello { extended: false, name: "my plc_3".into() });
        assert_eq!(
            parse(b"auth login dXNlcg=="),
            Command::Auth { mechanism: "LOGIN".into(), initial: Some("dXNlcg==".into()) }
        );
        assert_eq!(parse(b"AUTH PLAIN"), Command::Auth { mechanism: "PLAIN".into(), initial: None });
        assert_eq!(parse(b"AUTH PLAIN "), Command::Auth { mechanism: "PLAIN".into(), initial: Some(String::new()) });
        assert_eq!(parse(b"BDAT 12 LAST"), Command::Bdat { size: 12 });
        assert_eq!(parse(b"VRFY root"), Command::Verify);
    }

    proptest! {
        /// Every address on the line becomes a recipient, or the line is refused. (Except after a key that takes an
        /// address.)
        #[test]
        fn no_address_of_a_line_is_passed_over(
            parts in proptest::collection::vec(
                ("( ORCPT=x@y[,;<]|[<(\"])?", "[a-c]{1,2}@[x-z]{1,2}", "[>)\"]?", "[ ,;:<>]{1,3}", "((NOTIFY|X|size|ENVID)=[a-c,]{0,3} )?"), 1..4
            ),
        ) {
            let list = |(open, address, close, behind, parameter): &(String, String, String, String, String)| {
                format!("{open}{address}{close}{behind}{parameter}")
            };
            let line = format!("RCPT TO:{}", parts.iter().map(list).collect::<String>());
            match parse(line.as_bytes()) {
                Command::Rcpt { to: Ok(to) } => for (_, address, ..) in &parts {
                    prop_assert!(to.iter().any(|to| to.contains(address.as_str())), "{}: {:?}", line, to);
                },
                other => prop_assert_eq!(matches!(other, Command::Rcpt { to: Err(_) }), true),
            }
        }

        #[test]
        fn whatever_comes_an_address_is_safe_in_a_command(
            line in proptest::collection::vec(any::<u8>(), 0..80), verb in prop_oneof![Just("RCPT TO:"), Just("MAIL FROM:<"), Just("")]
        ) {
            let mut bytes = verb.as_bytes().to_vec();
            bytes.extend(line);
            let addresses = match parse(&bytes) {
                Command::Rcpt { to: Ok(to) } => to,
                Command::Mail { from: Ok(from), .. } => vec![from],
                _ => Vec::new(),
            };
            for address in addresses {
                prop_assert!(!address.chars().any(char::is_control));
                prop_assert!(is_address(&address) || address.is_empty() || is_address(&format!("{address}@x")), "{}", address);
            }
        }
    }

    const FRESH: SessionState =
        SessionState { greeted: false, extended: false, transaction: false, refused: false, login: false };
    const HELLO: SessionState = SessionState { greeted: true, extended: true, ..FRESH };
    const MAIL: SessionState = SessionState { transaction: true, ..HELLO };

    #[test]
    fn commands_by_the_book_pass() {
        for (line, state) in [
            ("EHLO plc.example.com", FRESH),
            ("ehlo [192.0.2.7]", FRESH),
            ("EHLO [IPv6:2001:db8::1]", FRESH),
            ("HELO plc", FRESH),
            ("NOOP", FRESH),
            ("QUIT ", FRESH),
            ("MAIL FROM:<a@b.c>", HELLO),
            ("MAIL FROM:<> SIZE=1000 BODY=8BITMIME", HELLO),
            ("MAIL FROM:<\"a > b\"@b.c>", HELLO),
            ("MAIL FROM:<ä@b.c> SMTPUTF8", HELLO),
            ("RCPT TO:<d@e.f>", MAIL),
            ("RCPT TO:<Postmaster>", MAIL),
            ("RCPT TO:<@x.y:d@e.f>", MAIL),
            ("RCPT TO:<@x.y,@[IPv6:2001:db8::1]:d@e.f>", MAIL),
            ("RCPT TO:<d@e.f>", SessionState { refused: true, ..HELLO }),
            ("DATA", MAIL),
            ("AUTH PLAIN AHVzZXIAc2VjcmV0", HELLO),
            ("STARTTLS", HELLO),
            ("VRFY root", HELLO),
        ] {
            assert_eq!(check(line.as_bytes(), state), Ok(()), "{line}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (line, state, code) in [
            ("EHLO", FRESH, "501"),
            ("EHLO my plc", FRESH, "501"),
            ("EHLO plc_3", FRESH, "501"),
            ("EHLO plc@example.com", FRESH, "501"),
            ("HELO [192.0.2.7]", FRESH, "501"),
            (" NOOP", FRESH, "500"),
            ("", FRESH, "500"),
            ("QUIT)", FRESH, "500"),
            ("QUIT now", FRESH, "501"),
            ("MAIL FROM:<a@b.c>", FRESH, "503"),
            ("MAIL FROM:<a@b.c>", MAIL, "503"),
            ("MAIL FROM: <a@b.c>", HELLO, "501"),
            ("MAIL FROM:a@b.c", HELLO, "501"),
            ("MAIL FROM:<a@b.c", HELLO, "501"),
            ("MAIL FROM <a@b.c>", HELLO, "501"),
            ("MAILFROM:<a@b.c>", HELLO, "500"),
            ("MAIL FROM:<root>", HELLO, "501"),
            ("MAIL FROM:<ä@b.c>", HELLO, "501"),
            ("MAIL FROM:<a@b.c> FOO=1", HELLO, "555"),
            ("MAIL FROM:<a@b.c>SIZE=1", HELLO, "501"),
            ("RCPT TO:<d@e.f>", HELLO, "503"),
            ("RCPT TO:<>", MAIL, "501"),
            ("RCPT TO:<d@e.f>,<g@h.i>", MAIL, "501"),
            ("RCPT TO:<d@e.f> <g@h.i>", MAIL, "555"),
            ("RCPT TO:<d@e.f> g@h.i", MAIL, "555"),
            ("RCPT TO:<d@e.f><g@h.i>", MAIL, "501"),
            ("RCPT TO:<d@e.f,g@h.i>", MAIL, "501"),
            ("RCPT TO:<g@h.i@x.y:d@e.f>", MAIL, "501"),
            ("RCPT TO:<@g@h.i:d@e.f>", MAIL, "501"),
            ("RCPT TO:<@:d@e.f>", MAIL, "501"),
            ("RCPT TO:<d@e.f.>", MAIL, "501"),
            ("RCPT TO:<d@e.f (c)>", MAIL, "501"),
            ("MAIL FROM:<a@b.c>,<d@e.f>", HELLO, "501"),
            ("RCPT TO:<d@e.f> NOTIFY=NEVER", MAIL, "555"),
            ("DATA now", MAIL, "501"),
            ("AUTH PLAIN", FRESH, "503"),
            ("AUTH PLAIN", SessionState { login: true, ..HELLO }, "503"),
            ("AUTH PLAIN", MAIL, "503"),
            ("AUTH", HELLO, "501"),
            ("STARTTLS", MAIL, "503"),
            ("GET / HTTP/1.1", FRESH, "500"),
        ] {
            let reply = check(line.as_bytes(), state).expect_err(line);
            assert!(reply.starts_with(code), "{line}: {reply}");
        }
        assert!(check(b"MAIL FROM:<a@b.c\0>", HELLO).is_err() && check(b"RCPT TO:<a@\xff.de>", MAIL).is_err());
    }

    proptest! {
        #[test]
        fn what_passes_is_understood(line in "(MAIL FROM:|RCPT TO:|EHLO |AUTH )[ -~]{0,30}") {
            let state = if line.starts_with("RCPT") { MAIL } else { HELLO };
            if check(line.as_bytes(), state).is_ok() {
                let command = parse(line.as_bytes());
                let understood = matches!(
                    command,
                    Command::Hello { .. } | Command::Mail { from: Ok(_), .. } | Command::Rcpt { to: Ok(_) } | Command::Auth { .. }
                );
                prop_assert!(understood, "{line}: {command:?}");
            }
        }
    }
}

//! Understands one command, however it is spelled.
//!
//! RFC 5321 section 4.1.1 says what a command looks like; devices say something near it. What is meant is almost always
//! plain, and refusing it helps nobody. Only one thing is never forgiven: an address that would not survive as one
//! address in a command of ours.

use crate::message::is_address;

/// A command with what matters of its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// HELO or EHLO with the name that came along, possibly empty.
    Hello {
        extended: bool,
        name: String,
    },
    /// MAIL with the sender, empty for the null sender; or what is wrong with it.
    Mail {
        from: Result<String, String>,
        size: u64,
        smtputf8: bool,
    },
    /// RCPT with one or more recipients: some devices name all in one command.
    Rcpt {
        to: Vec<String>,
    },
    /// DATA.
    Data,
    /// AUTH with mechanism in capitals and initial response.
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
    /// A recipient that can't be used, and what is wrong with it.
    BadAddress(String),
    /// Anything else.
    Unknown,
}

/// Verbs with their length, longest first where one begins another.
const VERBS: [&str; 14] = [
    "STARTTLS", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "AUTH", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP",
];

/// Whether `text` is a verb of SMTP, with or without something joined to it.
pub fn begins_with_verb(text: &[u8]) -> bool {
    VERBS.iter().any(|verb| text.get(..verb.len()).is_some_and(|head| head.eq_ignore_ascii_case(verb.as_bytes())))
}

/// Reads one line without its end.
pub fn parse(line: &[u8]) -> Command {
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
        "AUTH" => auth(rest),
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

/// Text of a command as far as it can be shown: no control characters, at most 255 bytes.
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

/// What follows `FROM:` or `TO:`, with or without colon and blanks.
fn keyword<'a>(rest: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = rest.trim_ascii_start().split_at_checked(word.len())?;
    let tail = tail.trim_ascii_start();
    head.eq_ignore_ascii_case(word).then(|| tail.strip_prefix(b":").unwrap_or(tail).trim_ascii_start())
}

/// Splits off the part in the innermost angle brackets (or the first word) from the parameters behind it. Quotes are
/// respected.
fn path(text: &[u8]) -> (&[u8], &[u8]) {
    let (mut open, mut from) = (0, 0);
    while let Some(step) = outside_quotes(text.get(from..).unwrap_or_default(), |b| matches!(b, b'<' | b'>')) {
        let at = from + step;
        from = at + 1;
        if text.get(at) == Some(&b'<') {
            open = from;
        } else if open > 0 {
            return (text.get(open..at).unwrap_or_default(), text.get(from..).unwrap_or_default());
        }
    }
    let text = text.get(open..).unwrap_or_default();
    let end = outside_quotes(text, |b| b == b' ' || b == b'\t').unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, b""))
}

fn outside_quotes(text: &[u8], wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.iter().position(|&b| {
        if escaped {
            escaped = false;
            return false;
        }
        match b {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        !quoted && wanted(b)
    })
}

/// An address as it can be used: outer blanks gone, source route gone (RFC 5321 appendix C). Or what is wrong with it.
fn address(text: &[u8]) -> Result<String, String> {
    let bad = |why: &str| format!("{why}: {}", printable(text));
    let text_utf8 = std::str::from_utf8(text).map_err(|_| bad("the address is not UTF-8"))?.trim();
    let address = match text_utf8.strip_prefix('@') {
        Some(route) => route.split_once(':').map_or(text_utf8, |(_, address)| address),
        None => text_utf8,
    };
    // A name without a domain is understood here and made an address later.
    if is_address(address) || is_address(&format!("{address}@local")) {
        Ok(address.to_string())
    } else {
        Err(bad("not a mail address"))
    }
}

fn mail(rest: &[u8]) -> Command {
    let (path, parameters) = path(rest);
    let from = match path.trim_ascii() {
        b"" => Ok(String::new()),
        path => address(path),
    };
    let (mut size, mut smtputf8) = (0, from.as_ref().is_ok_and(|from| !from.is_ascii()));
    for word in parameters.split(u8::is_ascii_whitespace) {
        if word.eq_ignore_ascii_case(b"SMTPUTF8") {
            smtputf8 = true;
        } else if let Some((name, value)) = word.split_at_checked(5)
            && name.eq_ignore_ascii_case(b"SIZE=")
        {
            // RFC 1870 section 4: a number of up to 20 digits; nonsense counts as unknown.
            size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).unwrap_or(0);
        }
    }
    Command::Mail { from, size, smtputf8 }
}

fn rcpt(rest: &[u8]) -> Command {
    let mut to = Vec::new();
    let mut left = rest;
    // `<a@b>,<c@d>` and `<a@b;c@d>` are the ways in which devices name several.
    loop {
        let (list, behind) = path(left);
        let mut list = list;
        loop {
            let cut = outside_quotes(list, |b| b == b',' || b == b';');
            let (one, tail) = cut.and_then(|cut| list.split_at_checked(cut)).unwrap_or((list, b""));
            if !one.trim_ascii().is_empty() {
                match address(one.trim_ascii()) {
                    Ok(address) => to.push(address),
                    Err(why) => return Command::BadAddress(why),
                }
            }
            match tail.get(1..) {
                Some(tail) => list = tail,
                None => break,
            }
        }
        match behind.trim_ascii_start() {
            [b',' | b';', more @ ..] => left = more,
            _ => break,
        }
    }
    if to.is_empty() { Command::BadAddress("no recipient in RCPT".into()) } else { Command::Rcpt { to } }
}

fn auth(rest: &[u8]) -> Command {
    let text = String::from_utf8_lossy(rest);
    let mut words = text.split_whitespace();
    match words.next() {
        Some(mechanism) => {
            Command::Auth { mechanism: mechanism.to_ascii_uppercase(), initial: words.next().map(str::to_string) }
        }
        None => Command::Unknown,
    }
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
            Command::Rcpt { to } => to,
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
            assert!(matches!(parse(line), Command::BadAddress(_)), "{}", String::from_utf8_lossy(line));
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
        assert_eq!(parse(b"BDAT 12 LAST"), Command::Bdat { size: 12 });
        assert_eq!(parse(b"VRFY root"), Command::Verify);
    }

    proptest! {
        #[test]
        fn whatever_comes_an_address_is_safe_in_a_command(
            line in proptest::collection::vec(any::<u8>(), 0..80), verb in prop_oneof![Just("RCPT TO:"), Just("MAIL FROM:<"), Just("")]
        ) {
            let mut bytes = verb.as_bytes().to_vec();
            bytes.extend(line);
            let addresses = match parse(&bytes) {
                Command::Rcpt { to } => to,
                Command::Mail { from: Ok(from), .. } => vec![from],
                _ => Vec::new(),
            };
            for address in addresses {
                prop_assert!(!address.chars().any(char::is_control));
                prop_assert!(outside_quotes(address.as_bytes(), |b| matches!(b, b'<' | b'>' | b' ')).is_none(), "{}", address);
            }
        }
    }
}

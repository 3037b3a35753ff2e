// SPDX-License-Identifier: Apache-2.0
//! Parses one command, however it is spelled.
//!
//! RFC 5321 section 4.1.1 defines what a command looks like; devices send something close to it. What they mean is
//! almost always clear, and refusing it helps nobody. Only one thing is never tolerated: an address that would not
//! survive as exactly one address in a command that we send.

use crate::message::address::envelope;
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

/// Parameters whose value may contain an address (RFC 3461 section 4, RFC 4954 section 5, RFC 1845 section 3).
const ADDRESS_PARAMETERS: [&str; 4] = ["ORCPT", "ENVID", "AUTH", "TRANSID"];
/// Parameters without a value (RFC 6531 section 3.4, RFC 8689 section 3).
const FLAGS: [&str; 2] = ["SMTPUTF8", "REQUIRETLS"];

/// Separates the parameters: words of the form `KEY=value` that no comma makes an element of the list. They follow the
/// path, but the paths that devices send have no reliable end.
fn arguments(text: &[u8]) -> Arguments<'_> {
    let mut arguments = Arguments::default();
    for word in words(text) {
        let before = arguments.list.trim_ascii_end().last();
        let is_element = before.is_none_or(|byte| matches!(byte, b',' | b';'));
        let one_of = |names: &[&str], name: &[u8]| names.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()));
        let key = word.iter().position(|byte| *byte == b'=').and_then(|at| word.get(..at));
        let key = key.filter(|key| !key.is_empty() && key.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-'));
        match key {
            _ if is_element => arguments.list.extend_from_slice(word),
            Some(key) if one_of(&ADDRESS_PARAMETERS, key) || !word.contains(&b'@') => arguments.parameters.push(word),
            Some(_) => arguments.doubtful = Some(word),
            None if one_of(&FLAGS, word) => arguments.parameters.push(word),
            None => arguments.list.extend_from_slice(word),
        }
        arguments.list.push(b' ');
    }
    arguments
}

/// Splits at spaces, except those in quotes, comments and closed angle brackets.
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
    let Arguments { list, parameters, .. } = arguments(rest);
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
    let Arguments { list, doubtful, .. } = arguments(rest);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::is_address;
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
        for line in ["RCPT TO:<a@b.c> prvs=12=d@e.f", "RCPT TO:<a@b.c> X=d@e.f", "RCPT TO:<a@b.c>,<bad one>"] {
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
                ("[<(\"]?", "[a-c]{1,2}@[x-z]{1,2}", "[>)\"]?", "[ ,;:<>]{1,3}", "((NOTIFY|X|size)=[a-c,]{0,3} )?"), 1..4
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
}

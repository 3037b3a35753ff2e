// SPDX-License-Identifier: Apache-2.0
//! The dialect `strict`: what RFC 5321 does not allow is refused before it is parsed any further.
//!
//! Commands that pass here are parsed by [`dialect`](super::dialect) like all others.

use crate::message::address::envelope;
use crate::message::is_address;

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

/// Detects bare CR and LF, across chunks of text.
#[derive(Debug, Default)]
pub struct LineEnds {
    after_cr: bool,
    bad: bool,
}

impl LineEnds {
    /// Examines the next chunk of the text.
    pub fn push(&mut self, text: &[u8]) {
        for &byte in text {
            self.bad |= self.after_cr != (byte == b'\n');
            self.after_cr = byte == b'\r';
        }
    }

    /// Whether a bare CR or LF was found so far.
    pub fn bad(&self) -> bool {
        self.bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn line_ends_across_pieces() {
        for (pieces, bad) in [
            (&["a\r", "\nb\r\n"][..], false),
            (&["a\n"], true),
            (&["\n"], true),
            (&["a\r", "b\r\n"], true),
            (&["a\r\r\n"], true),
            (&["", "a\r\n", ""], false),
        ] {
            let mut ends = LineEnds::default();
            pieces.iter().for_each(|piece| ends.push(piece.as_bytes()));
            assert_eq!(ends.bad(), bad, "{pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_understood(line in "(MAIL FROM:|RCPT TO:|EHLO |AUTH )[ -~]{0,30}") {
            use crate::inbound::dialect::{Command, parse};
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

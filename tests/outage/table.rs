// SPDX-License-Identifier: Apache-2.0
//! What is expected of each step × fault, as a table that people can read.

use super::run::{Cell, Expect, Way};
use super::support::provider::{Fault, Step};

/// Columns: what goes wrong. Rows: where. `data` holds for DATA in one flight with the envelope and step by step, `bdat`
/// for BDAT, `any` where no text is concerned. A server that offers CHUNKING gets no BDAT before a message by DATA.
///
/// | letter | the log says | the owner is told | the message |
/// |---|---|---|---|
/// | `p` | the account is paused, next look in 3 s | why, and that mail waits | arrives once |
/// | `l` | the account is paused, next look in 60 s | why, and that mail waits | arrives once |
/// | `w` | the message is deferred | why, and that it waits | arrives once |
/// | `w2` | as `w` | as `w` | arrives once or twice: it was accepted, but the reply was lost |
/// | `f` | the message has failed | its sender gets a notice | does not arrive |
/// | `d` | the message is delivered | | arrives once |
/// | `u` | delivered, or as `w2`: see below | | arrives once or twice |
/// | `-` | cannot happen there | | |
///
/// A close, reset or silence before the text is out is the account's trouble: one connection looks whether it is over,
/// not each message. With the text out, or a part of it, it is the message's: it may be there already, or be what the
/// server can't stand. 5xx before MAIL never returns mail: it says nothing about a message. 4xx to MAIL would be said to
/// each message, 4xx later is about this one, unless its status says that the mail system is in trouble (4.3.0).
///
/// `bye` is a reply that answers no command of ours, `again` a success that is said twice, `early` the 354 together with
/// the answer to a text that has not been sent: server and gateway are out of step, and nothing counts as success or as
/// final. One case is left: a server that was in step before says a success twice to a command that is followed by BDAT, and
/// the second one has no status that is about an address (`u`). `loose` is what RFC 5321 section 4.2 does not allow and everybody understands.
const TABLE: &str = "
step       way   refused close reset hang 4xx 430 5xx 421 421+close garbage flood lines half accept+close accept+reset bye again early loose
Connect    any   p       p     p     p    p   p   p   p   p         p       p     p     p    p            p            p   p     p     -
Handshake  any   -       p     p     p    p   p   p   p   p         p       p     p     p    p            p            p   p     p     -
Greeting   any   -       p     p     p    p   p   p   p   p         p       p     p     p    p            p            p   p     p     d
Ehlo       any   -       p     p     p    p   p   p   p   p         p       p     p     p    p            p            p   -     p     d
StartTls   any   -       p     p     p    p   p   p   p   p         p       p     p     p    p            p            p   p     p     d
EhloTls    any   -       p     p     p    p   p   p   p   p         p       p     p     p    p            p            p   -     p     d
Auth       any   -       p     p     p    p   p   l   p   p         p       p     p     p    p            p            p   p     p     d
Mail       data  -       p     p     p    p   p   f   p   p         p       p     p     p    p            p            w   w     w     d
Mail       bdat  -       w     w     w    p   p   f   p   p         w       w     w     w    w            w            w2  w2    w2    d
Rcpt       data  -       p     p     p    w   p   f   p   p         p       p     p     p    p            p            w   w     w     d
Rcpt       bdat  -       w     w     w    w   p   f   p   p         w       w     w     w    w            w            w2  u     w2    d
Data       data  -       p     p     p    w   p   f   p   p         p       p     p     p    p            p            w   w     w     d
Text       data  -       w     w     w    -   -   -   -   p         w2      w     w     -    -            -            -   -     -     -
Text       bdat  -       w     w     w    -   -   -   -   p         w2      w     w     -    -            -            -   -     -     -
Dot        data  -       w     w     w    w   p   f   p   p         w       w     w     w2   w2           w2           w2  -     w2    d
Dot        bdat  -       w     w     w    w   p   f   p   p         w       w     w     w2   w2           w2           w2  w2    w2    d
Rset       data  -       w     w     w    w   w   w   w   w         w       w     w     w    w            w            w   w     w     w
Rset       bdat  -       w     w     w    w   w   w   w   w         w       w     w     w    w            w            w   w     w     w
Quit       data  -       p     p     p    p   p   p   p   p         p       p     p     p    p            p            p   p     p     p
Quit       bdat  -       p     p     p    p   p   p   p   p         p       p     p     p    p            p            p   p     p     p
";

/// All cells of the table.
pub fn cells() -> Vec<Cell> {
    let mut lines =
        TABLE.lines().filter(|line| !line.is_empty()).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let columns = lines.next().expect("the names of the columns");
    let mut cells = Vec::new();
    for row in lines {
        assert_eq!(row.len(), columns.len(), "{row:?}");
        let ways: &[Way] = match row[1] {
            "any" => &[Way::Flight],
            "bdat" => &[Way::Bdat],
            _ => &[Way::Flight, Way::StepByStep],
        };
        for (name, expected) in columns.iter().zip(&row).skip(2) {
            let Some(expect) = expect(expected) else { continue };
            for way in ways {
                cells.push(Cell::new(step(row[0]), name, fault(name), *way, expect));
            }
        }
    }
    cells
}

fn step(name: &str) -> Step {
    match name {
        "Connect" => Step::Connect,
        "Handshake" => Step::Handshake,
        "Greeting" => Step::Greeting,
        "Ehlo" => Step::Ehlo,
        "StartTls" => Step::StartTls,
        "EhloTls" => Step::EhloTls,
        "Auth" => Step::Auth,
        "Mail" => Step::Mail,
        "Rcpt" => Step::Rcpt("ops@example.com".into()),
        "Data" => Step::Data,
        "Text" => Step::Text,
        "Dot" => Step::Dot,
        "Rset" => Step::Rset,
        "Quit" => Step::Quit,
        _ => panic!("no step {name}"),
    }
}

/// None: nothing listens.
fn fault(name: &str) -> Option<Fault> {
    Some(match name {
        "refused" => return None,
        "close" => Fault::Close,
        "reset" => Fault::Reset,
        "hang" => Fault::Hang,
        "4xx" => Fault::Reply("451 4.7.1 Not now".into()),
        "430" => Fault::Reply("451 4.3.0 Disk full".into()),
        "5xx" => Fault::Reply("550 5.7.1 Not here".into()),
        "421" => Fault::Reply("421 4.3.2 Closing".into()),
        "421+close" => Fault::CloseAfterReply("421 4.3.2 Closing".into()),
        "garbage" => Fault::Garbage,
        "flood" => Fault::Flood,
        "lines" => Fault::FloodOfLines,
        "half" => Fault::Half,
        "accept+close" => Fault::AcceptThenClose,
        "accept+reset" => Fault::AcceptThenReset,
        "bye" => Fault::Reply("221 2.0.0 Bye".into()),
        "again" => Fault::Reply("250 2.0.0 Ok\r\n250 2.0.0 Ok".into()),
        "early" => Fault::Reply("354 Go on\r\n250 2.0.0 Ok: queued".into()),
        "loose" => Fault::Loose,
        _ => panic!("no fault {name}"),
    })
}

fn expect(word: &str) -> Option<Expect> {
    Some(match word {
        "p" => Expect::Paused(3),
        "q" => Expect::Paused(30),
        "l" => Expect::Paused(60),
        "w" => Expect::Waits,
        "w2" => Expect::MayDouble,
        "f" => Expect::Failed,
        "d" => Expect::Delivered,
        "u" => Expect::Untold,
        "-" => return None,
        _ => panic!("no verdict {word}"),
    })
}

/// Replies of providers, with a verdict in the letters of the table and `q` for a limit (next look in 30 s), and words
/// that the owner reads. The sender is the account's own address.
pub fn replies() -> Vec<(Cell, &'static str)> {
    use Step::{Auth, Data, Dot, Greeting, Mail, Text};
    let rcpt = || step("Rcpt");
    [
        (Auth, "535 5.7.8 Username and Password not accepted", "l", "app password"),
        (Auth, "534 5.7.9 Application-specific password required", "l", "create an app password"),
        (
            Auth,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled",
            "l",
            "'Authenticated SMTP'",
        ),
        (Auth, "454 4.7.0 Too many login attempts, please try again later", "q", "no login is possible for a while"),
        (Auth, "454 4.7.0 Cannot authenticate due to temporary system problem", "p", "cannot verify the login now"),
        (Greeting, "421 4.7.0 Try again later, closing connection", "q", "more slowly"),
        (Greeting, "554 5.7.1 Client host [192.0.2.1] blocked using list.example", "q", "block list"),
        (Mail, "530 5.7.0 Authentication required", "l", "requires a valid login"),
        (Mail, "550 5.4.5 Daily user sending limit exceeded", "q", "within 24 hours"),
        (Mail, "550 Sender address is not allowed.", "l", "set option from"),
        (Mail, "553 5.1.7 no", "l", "set option from"),
        (Mail, "552 5.3.4 Message size exceeds fixed limit", "f", "too large"),
        (Mail, "432 4.3.2 Concurrent connections limit exceeded", "q", "connections to 1"),
        (rcpt(), "550 5.1.90 daily limit for message recipients", "q", "24 hours"),
        (rcpt(), "550 5.7.708 Access denied, traffic not accepted from this IP", "q", "5.7.708"),
        (rcpt(), "550 5.2.122 The recipient has exceeded their limit", "w", "too much mail"),
        (rcpt(), "452 4.2.2 over quota", "w", "is full"),
        (rcpt(), "552 5.2.2 over quota", "f", "is full"),
        (rcpt(), "452 4.5.3 Too many recipients", "w", "next transaction"),
        (rcpt(), "550 5.1.1 No such user", "f", "check the address in the device"),
        (Data, "451 4.7.500 Server busy", "q", "4.7.500"),
        (Dot, "554 5.2.252 SendAsDenied", "l", "set option from"),
        (Dot, "550 5.7.705 Access denied, tenant has exceeded threshold", "q", "5.7.705"),
        (Dot, "450 Mail send limit exceeded.", "q", "an hour to a day"),
        (Dot, "550 Send quota exceeded", "q", "an hour to a day"),
        (Dot, "554 5.7.1 This looks like spam", "f", "clear subject"),
        (Text, "552 5.3.4 Message size exceeds limit", "f", "too large"),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, (step, reply, verdict, words))| {
        // In the text only the last words of a server are a reply.
        let last = matches!(step, Text);
        // Before the first message there is no BDAT.
        let no_text = matches!(step, Greeting | Auth);
        let way = if last || no_text || matches!(step, Data) { Way::ALL[1 + at % 2] } else { Way::ALL[at % 3] };
        let fault = if last { Fault::CloseAfterReply(reply.into()) } else { Fault::Reply(reply.into()) };
        let expect = expect(verdict).expect("a verdict");
        (Cell { own_sender: true, ..Cell::new(step, reply, Some(fault), way, expect) }, words)
    })
    .collect()
}

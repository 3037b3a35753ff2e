// SPDX-License-Identifier: Apache-2.0
//! What devices on the LAN send, byte for byte.

/// The published sketch for a Controllino with a router as mail gateway
/// (`johanneskinzig.de/index.php/systems-engineering/35-arduino-controllino-public-mail-isp-mta-mua`), byte for byte: a piece
/// goes out when any byte has come, no reply is read, and after the last one the device closes.
pub const SKETCH: [&str; 8] = [
    "EHLO plc@example.com\r\n",
    "MAIL FROM: <plc@example.com>\r\n",
    "RCPT TO: <ops@example.com>\r\n",
    "DATA\r\n",
    "Subject: a Horse\r\n",
    "The horse does not eat cucumber salad",
    "\r\n.\r\n",
    "QUIT\r\n",
];
/// What the sketch sends when a reply begins with 4 or 5.
pub const SKETCH_GIVES_UP: &str = "QUIT)";

/// What kind of Arduino sketch the device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controllino {
    /// The text stands right behind the subject, no blank line, and the sketch says `QUIT)`.
    Classic,
    /// As `Classic`, with `auth login` and the login in base64 on lines of their own.
    Login,
    /// The subject is printed as `"Subject: …\r\n"`, so that `println` makes a blank line, and QUIT is right.
    BlankLine,
    /// The text is printed as `"…\n"`, so that `println` makes a lone LF in front of CRLF.
    LoneLf,
    /// Addresses without brackets, as in `MAIL From: plc@example.com`.
    NoBrackets,
}

impl Controllino {
    /// All of them.
    pub const ALL: [Controllino; 5] = [
        Controllino::Classic,
        Controllino::Login,
        Controllino::BlankLine,
        Controllino::LoneLf,
        Controllino::NoBrackets,
    ];
}

/// The exact bytes of the e-mail sketch that many other Arduino users start from. Each line is a
/// `client.println(…)`, which ends it with CRLF. All bytes of a conversation are in one piece here, because many
/// copies of the sketch do not wait for any reply; cut them with [`Client::write_in`](super::client::Client::write_in).
///
/// The sketch is the "Email" example of the Arduino playground (`playground.arduino.cc/Code/Email`: `MAIL From:
/// <…>` and `RCPT To: <…>` with a blank behind the colon, `auth login`, `To: You <…>`, `From: Me <…>`, `Subject:
/// Arduino email test\r\n`, lines of text, `.`, `QUIT`). The EHLO with an address and the stray bracket are what users of
/// such sketches report. Copies without the blank line, without brackets and with a lone LF are common in public sketches.
pub fn controllino(variant: Controllino) -> Vec<u8> {
    let (open, close) = if variant == Controllino::NoBrackets { ("", "") } else { ("<", ">") };
    let mut lines = vec!["EHLO plc@example.com".to_owned()];
    if variant == Controllino::Login {
        // "plc@example.com" and "secret"
        lines.extend(["auth login".to_owned(), "cGxjQGV4YW1wbGUuY29t".to_owned(), "c2VjcmV0".to_owned()]);
    }
    lines.extend([
        format!("MAIL From: {open}plc@example.com{close}"),
        format!("RCPT To: {open}ops@example.com{close}"),
        "DATA".to_owned(),
        format!("To: Ops {open}ops@example.com{close}"),
        format!("From: PLC {open}plc@example.com{close}"),
        match variant {
            Controllino::BlankLine => "Subject: Pump alarm\r\n".to_owned(),
            _ => "Subject: Pump alarm".to_owned(),
        },
        match variant {
            Controllino::LoneLf => "Pump 3 has stopped.\n".to_owned(),
            _ => "Pump 3 has stopped.".to_owned(),
        },
        "Level 4.20 m".to_owned(),
        ".".to_owned(),
        if variant == Controllino::BlankLine { "QUIT" } else { "QUIT)" }.to_owned(),
    ]);
    lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect()
}

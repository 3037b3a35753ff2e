// SPDX-License-Identifier: Apache-2.0
//! One reply of a server (RFC 5321 section 4.2): its lines combined, with its enhanced status as it was sent
//! (RFC 3463), and its meaning as the answer to a command.
//!
//! The credentials of an account are masked in what a server says: some servers repeat in a refusal what they were
//! sent.

use std::fmt;

use zeroize::Zeroizing;

use crate::config::Account;
use crate::message::base64;
use crate::oauth;
use crate::secrets::MASK;

/// Characters of a reply that are shown: the sentence around it must fit into a line of the log.
const SHOWN: usize = 400;
/// Bytes of text that are kept of one reply: the part that is matched and shown is at its start.
const TEXT_LIMIT: usize = 8 << 10;

/// What a reply answers. The same code has different meanings: 250 is success for MAIL but not for DATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpCommand {
    /// Nothing: the connection was opened.
    Greeting,
    /// EHLO and HELO.
    Hello,
    /// STARTTLS.
    StartTls,
    /// AUTH and each line of its exchange.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The final dot.
    End,
    /// RSET.
    Reset,
}

/// The meaning of a reply as the answer to its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The command succeeded; for DATA: the text may be sent.
    Yes,
    /// 334: the exchange of AUTH continues.
    Continue,
    /// 4xx or 5xx.
    No,
    /// Not a valid answer to this command. Server and gateway are out of step, so the replies that
    /// follow are meaningless.
    Odd,
}

impl SmtpCommand {
    /// The meaning of a reply with `code` to this command (RFC 5321 sections 4.2.1 and 4.3.2).
    ///
    /// An undefined code is treated by its first digit, as section 4.2.1 requires. Codes that belong to other
    /// commands are not: a server that answers MAIL with 221 or 354 is answering something else.
    pub fn answered_by(self, code: u16) -> Answer {
        let yes: &[Self] = match code {
            220 => &[Self::Greeting, Self::StartTls],
            235 => &[Self::Auth],
            252 => &[Self::Rcpt],
            354 => &[Self::Data],
            334 if self == Self::Auth => return Answer::Continue,
            // HELP, and QUIT, whose reply is not waited for.
            211 | 214 | 221 => &[],
            200..=299 => &[Self::Greeting, Self::Hello, Self::StartTls, Self::Mail, Self::Rcpt, Self::End, Self::Reset],
            400..=599 => return Answer::No,
            _ => &[],
        };
        if yes.contains(&self) { Answer::Yes } else { Answer::Odd }
    }

    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greeting => "the greeting",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "the login",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::End => "the end of the message",
            Self::Reset => "RSET",
        }
    }
}

/// A reply: code, status, text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// For example 550.
    pub code: u16,
    /// For example 5.7.708; some servers send none.
    pub status: Option<[u16; 3]>,
    /// Code, status and text in one line.
    line: String,
    /// The text to be shown, where that differs.
    shown: Option<String>,
}

/// The lines of a reply received so far.
#[derive(Debug, Default)]
pub struct Lines {
    code: Option<u16>,
    texts: Vec<String>,
    bytes: usize,
}

/// The line cannot be part of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAReply;

impl Lines {
    /// Takes the next line, with or without its end. True when it is the last one.
    ///
    /// This is more tolerant than RFC 5321 section 4.2, since real servers send it: blank lines, a code
    /// without text, a tab or nothing instead of the space, and within a reply of many lines text without a code.
    ///
    /// # Errors
    /// When the meaning of the reply cannot be determined.
    pub fn add(&mut self, line: &[u8]) -> Result<bool, NotAReply> {
        let line = line.trim_ascii_end();
        if line.is_empty() {
            return Ok(false);
        }
        let digits = line.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let (code, rest) = match (digits, line.split_first_chunk::<3>()) {
            (3, Some(([a, b, c], rest))) => {
                let digit = |byte: &u8| u16::from(byte.wrapping_sub(b'0'));
                (digit(a) * 100 + digit(b) * 10 + digit(c), rest)
            }
            _ if self.code.is_some() => {
                self.keep(line);
                return Ok(false);
            }
            _ => return Err(NotAReply),
        };
        // All lines have the same code (section 4.2.1). Of two with the same general meaning, the last one is used.
        if self.code.is_some_and(|before| before / 100 != code / 100) {
            return Err(NotAReply);
        }
        self.code = Some(code);
        let last = rest.first() != Some(&b'-');
        let text = match rest {
            [b'-' | b' ' | b'\t', text @ ..] => text,
            text => text,
        };
        self.keep(text);
        Ok(last)
    }

    fn keep(&mut self, text: &[u8]) {
        let text = text.trim_ascii();
        let room = TEXT_LIMIT.saturating_sub(self.bytes);
        let text = text.get(..room).unwrap_or(text);
        // The first line of the reply to EHLO has the name of the server, not an extension, also where that is empty.
        if !text.is_empty() || self.texts.is_empty() {
            self.bytes = self.bytes.saturating_add(text.len());
            self.texts.push(String::from_utf8_lossy(text).into_owned());
        }
    }

    /// The reply, once its last line has been added.
    pub fn reply(&self) -> Reply {
        let code = self.code.unwrap_or(0);
        let mut status = None;
        let mut line = format!("{code:03}");
        for text in &self.texts {
            let mut words = text.split_whitespace().peekable();
            // Each line may begin with the status; it is shown once.
            if let Some(found) = words.peek().and_then(|word| parse_status(word)) {
                if status.is_none() {
                    status = Some(found);
                } else if status == Some(found) {
                    words.next();
                }
            }
            for word in words {
                line.push(' ');
                line.push_str(word);
            }
        }
        Reply { code, status, line, shown: None }
    }

    /// The lines in the form of RFC 5321 section 4.2.1, for the parser of the EHLO reply.
    pub fn regular(&self) -> String {
        let code = self.code.unwrap_or(0);
        let last = self.texts.len().saturating_sub(1);
        if self.texts.is_empty() {
            return format!("{code:03} \r\n");
        }
        let line = |(at, text): (usize, &String)| format!("{code:03}{}{text}\r\n", if at == last { ' ' } else { '-' });
        self.texts.iter().enumerate().map(line).collect()
    }
}

impl Reply {
    /// Whether the status says that it is about an address (x.1.y, RFC 3463 section 3.2), as for MAIL and RCPT.
    pub fn is_about_address(&self) -> bool {
        self.status.is_some_and(|[_, subject, _]| subject == 1)
    }

    /// The same as a reply that nothing had asked for: it answers no command, whatever its code says.
    pub fn unasked(self) -> Self {
        Self { code: 0, ..self }
    }

    /// Whether nothing had asked for it.
    pub fn is_unasked(&self) -> bool {
        self.code == 0
    }

    /// The same, with the secrets of the account masked for display.
    pub fn masked(self, mask: &Mask) -> Self {
        let shown = mask.forms_in(&self.line).next().is_some().then(|| mask.apply(&self.line));
        Self { shown, ..self }
    }

    /// A reply of these lines.
    #[cfg(test)]
    pub fn from_line(text: &str) -> Self {
        let mut lines = Lines::default();
        for line in text.lines() {
            lines.add(line.as_bytes()).unwrap();
        }
        lines.reply()
    }

    /// The full text in one line. For matching, not for display.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The text after the code, in one line.
    pub fn text(&self) -> &str {
        self.line.get(3..).unwrap_or_default().trim_start()
    }

    /// Its meaning as the answer to `command`.
    pub fn answers(&self, command: SmtpCommand) -> Answer {
        command.answered_by(self.code)
    }

    /// Whether the command succeeded.
    pub fn is_yes(&self, command: SmtpCommand) -> bool {
        self.answers(command) == Answer::Yes
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A sentence continues after it.
        let line = self.shown.as_ref().unwrap_or(&self.line);
        f.write_str(&shown(line.trim_end_matches([' ', ':', ';']), SHOWN))
    }
}

/// The start of `text`, up to the length that is shown.
pub(super) fn shown(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_string() + "…",
        None => text.to_string(),
    }
}

/// `5.7.708` (RFC 3463 section 2): one digit, then twice up to three.
fn parse_status(word: &str) -> Option<[u16; 3]> {
    let number = |part: Option<&str>, most: usize| {
        let part = part.filter(|p| (1..=most).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))?;
        part.parse().ok()
    };
    let mut parts = word.split('.');
    let status = [number(parts.next(), 1)?, number(parts.next(), 3)?, number(parts.next(), 3)?];
    parts.next().is_none().then_some(status)
}

/// Bytes of the shortest secret that is searched for. A shorter one is more easily guessed than found, and masking it
/// would make texts unreadable.
const SHORTEST: usize = 4;

/// The forms in which a secret was sent, or may come back.
#[derive(Default)]
pub struct Mask(Vec<Zeroizing<String>>);

impl Mask {
    /// For the password of an account. Tokens are added when they are known.
    pub fn of(account: &Account) -> Self {
        let mut mask = Self::default();
        let (name, password) = (account.username.as_deref().unwrap_or_default(), account.password.expose());
        mask.hide(password);
        if !password.is_empty() {
            // PLAIN (RFC 4616 section 2), with and without the authorization identity.
            for before in ["", name] {
                let message = Zeroizing::new(format!("{before}\0{name}\0{password}"));
                mask.add(base64(message.as_bytes()));
            }
        }
        mask
    }

    /// Masks `secret`: literally, as in a one-line reply, in base64, and as part of a URL.
    pub fn hide(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        self.add(secret.to_string());
        self.add(secret.split_whitespace().collect::<Vec<_>>().join(" "));
        self.add(base64(secret.as_bytes()));
        self.add(oauth::encoded(secret).collect());
    }

    fn add(&mut self, form: String) {
        let form = Zeroizing::new(form);
        if form.len() < SHORTEST || self.0.contains(&form) {
            return;
        }
        self.0.push(form);
        // Secrets that contain another one go first.
        self.0.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// The forms of secrets that `text` contains. Not found by `contains`, which prepares each search at length.
    fn forms_in(&self, text: &str) -> impl Iterator<Item = &Zeroizing<String>> {
        let text = text.as_bytes();
        let begins = move |form: &[u8], at| text.get(at..).is_some_and(|rest: &[u8]| rest.starts_with(form));
        self.0.iter().filter(move |form| {
            let form = form.as_bytes();
            form.first().is_some_and(|first| memchr::memchr_iter(*first, text).any(|at| begins(form, at)))
        })
    }

    /// `text` with asterisks instead of secrets.
    pub fn apply(&self, text: &str) -> String {
        self.forms_in(text).fold(text.to_string(), |text, form| text.replace(form.as_str(), MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, uci};

    fn reply(bytes: &str) -> Reply {
        Reply::from_line(bytes)
    }

    #[test]
    fn numbers_beyond_a_byte_are_kept_wherever_they_stand() {
        let microsoft = reply("550 5.7.708 Service unavailable. Access denied\r\n");
        assert_eq!(microsoft.status, Some([5, 7, 708]));
        assert_eq!(microsoft.to_string(), "550 5.7.708 Service unavailable. Access denied");
        assert_eq!(reply("451 4.7.500 Server busy\r\n").to_string(), "451 4.7.500 Server busy");
        for many in [
            "550-5.7.515 Access denied,\r\n550 5.7.515 see https://x.example\r\n",
            "550-5.7.515 Access denied,\r\n550 see https://x.example\r\n",
            "550-Access denied,\r\n550 5.7.515 see https://x.example\r\n",
            "550-5.7.515 Access denied,\r\n550-\r\nsee\r\n\r\n550 https://x.example\r\n",
        ] {
            assert_eq!(reply(many).status, Some([5, 7, 515]), "{many}");
        }
        let secret = "hunter2";
        let mut mask = Mask::default();
        mask.hide(secret);
        let masked = reply("535 5.7.750 what is hunter2?\r\n").masked(&mask);
        assert_eq!((masked.status, masked.to_string().contains(secret)), (Some([5, 7, 750]), false));
    }

    #[test]
    fn replies_of_many_lines_and_of_none_become_one_line() {
        let google = reply("550-5.4.5 Daily user sending limit exceeded. For more\r\n550 5.4.5 see support\r\n");
        assert_eq!(google.to_string(), "550 5.4.5 Daily user sending limit exceeded. For more see support");
        assert_eq!(reply("250 ok\r\n").to_string(), "250 ok");
        assert_eq!(reply("250 ok\r\n").status, None);
        assert_eq!(reply("421\r\n").to_string(), "421");
        assert_eq!(reply("450 1.2.3.4 is slow\r\n").status, None);
        let long = reply(&format!("550 {}\r\n", "ü".repeat(500)));
        assert_eq!((long.to_string().chars().count(), long.line().chars().count()), (SHOWN + 1, 504));
    }

    /// The reply of these lines, or none.
    fn read(text: &str) -> Option<String> {
        let mut lines = Lines::default();
        for line in text.split_inclusive('\n') {
            if lines.add(line.as_bytes()).ok()? {
                return Some(lines.reply().line().to_string());
            }
        }
        None
    }

    #[test]
    fn replies_are_read_as_servers_send_them() {
        for (sent, expected) in [
            ("\r\n250 ok\r\n", "250 ok"),
            (" \r\n\n250 ok\n", "250 ok"),
            ("250\r\n", "250"),
            ("250 \r\n", "250"),
            ("250\tok\r\n", "250 ok"),
            ("250-one\r\n\r\n250\r\n", "250 one"),
            ("250-one\r\ntwo\r\n250 three\r\n", "250 one two three"),
            ("250-one\r\n251 two\r\n", "251 one two"),
            ("250-\n250-\n250 ok\n", "250 ok"),
            ("250OK\r\n", "250 OK"),
        ] {
            assert_eq!(read(sent).as_deref(), Some(expected), "{sent:?}");
        }
        for garbage in ["HTTP/1.1 200 OK\r\n", "2500 ok\r\n", "25\r\n", "-ERR\r\n", "250-ok\r\n550 no\r\n", "250-a\r\n"]
        {
            assert_eq!(read(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn success_is_what_the_command_can_be_answered_with() {
        use SmtpCommand::{Auth, Data, End, Greeting, Hello, Mail, Rcpt, Reset, StartTls};
        let all = [Greeting, Hello, StartTls, Auth, Mail, Rcpt, Data, End, Reset];
        // A letter for each: yes, continue, no, odd.
        for (code, expected) in [
            (100, "ooooooooo"),
            (150, "ooooooooo"),
            (200, "yyyoyyoyy"),
            (211, "ooooooooo"),
            (220, "yoyoooooo"),
            (221, "ooooooooo"),
            (235, "oooyooooo"),
            (250, "yyyoyyoyy"),
            (251, "yyyoyyoyy"),
            (252, "oooooyooo"),
            (299, "yyyoyyoyy"),
            (300, "ooooooooo"),
            (334, "ooocooooo"),
            (354, "ooooooyoo"),
            (399, "ooooooooo"),
            (421, "nnnnnnnnn"),
            (499, "nnnnnnnnn"),
            (554, "nnnnnnnnn"),
            (600, "ooooooooo"),
            (0, "ooooooooo"),
        ] {
            let letter = |command: SmtpCommand| match command.answered_by(code) {
                Answer::Yes => 'y',
                Answer::Continue => 'c',
                Answer::No => 'n',
                Answer::Odd => 'o',
            };
            assert_eq!(all.map(letter).iter().collect::<String>(), expected, "{code}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_server_says_can_be_shown(code in 0..1000u16, texts: Vec<String>) {
            let mut lines = Lines::default();
            for text in &texts {
                let _ = lines.add(format!("{code:03}-{text}\r\n").as_bytes());
            }
            let _ = lines.add(format!("{code:03} end").as_bytes());
            let reply = lines.reply();
            assert!(reply.to_string().chars().count() <= SHOWN + 1);
            assert!(!reply.line().contains(['\r', '\n']));
            assert!(lines.regular().lines().count() <= texts.len() + 1);
        }

        #[test]
        fn whatever_comes_is_read_without_a_fault(lines: Vec<Vec<u8>>) {
            let mut read = Lines::default();
            for line in &lines {
                let _ = read.add(line);
            }
            let _ = (read.reply(), read.regular());
        }

        #[test]
        fn a_status_is_what_rfc_3463_says(class in 0..10u16, subject in 0..1000u16, detail in 0..1000u16, rest: String) {
            let status = format!("{class}.{subject}.{detail}");
            assert_eq!(parse_status(&status), Some([class, subject, detail]));
            assert_eq!(parse_status(&format!("{status}.{rest}")), None);
            assert_eq!(parse_status(&format!("1{status}")), None);
        }
    }

    fn mask(password: &str) -> Mask {
        let text = format!(
            "config account 'a'\n option host 'mx'\n option username 'me@example.com'\n option password '{password}'\n"
        );
        Mask::of(&load::settings(&uci::parse(text.as_bytes()).unwrap()).0.accounts[0])
    }

    #[test]
    fn what_a_server_repeats_is_hidden() {
        let mask = mask("hunter2 &  co");
        for (said, shown) in [
            ("535 wrong: hunter2 &  co", "535 wrong: ********"),
            ("535 wrong: hunter2 & co!", "535 wrong: ********!"),
            ("500 what is AUTH PLAIN AG1lQGV4YW1wbGUuY29tAGh1bnRlcjIgJiAgY28=?", "500 what is AUTH PLAIN ********?"),
            ("500 aHVudGVyMiAmICBjbw==", "500 ********"),
            ("500 see https://x.example/?p=hunter2%20%26%20%20co", "500 see https://x.example/?p=********"),
            ("535 me@example.com is unknown", "535 me@example.com is unknown"),
        ] {
            assert_eq!(mask.apply(said), shown);
        }
    }

    #[test]
    fn a_secret_of_nothing_hides_nothing() {
        for password in ["", "535"] {
            assert_eq!(mask(password).apply("535 wrong"), "535 wrong");
        }
    }
}

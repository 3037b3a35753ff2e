//! One reply of a server (RFC 5321 section 4.2), with its enhanced status as it was sent (RFC 3463).

use std::fmt;

use smtp_proto::Response;

use super::mask::Mask;

/// Characters of what a server says that are shown: the sentence around it must fit into a line of the log.
const SHOWN: usize = 400;

/// A reply: code, status, text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Such as 550.
    pub code: u16,
    /// Such as 5.7.708; some servers send none.
    pub status: Option<[u16; 3]>,
    /// Code, status and text in one line.
    line: String,
    /// As it may be shown, where that is something else.
    shown: Option<String>,
}

impl Reply {
    /// `last_line` is the last line of the reply as it came. The status is taken from there: the parser of the replies
    /// has one byte for each of its numbers, and Microsoft's go beyond 255.
    pub fn new(response: &Response<String>, last_line: &str) -> Self {
        let sent = last_line.split_once([' ', '-']).filter(|(code, _)| code.parse() == Ok(response.code));
        let sent = sent.and_then(|(_, rest)| rest.split_whitespace().next()).and_then(parse_status);
        let parsed = Some(response.esc.map(u16::from)).filter(|[class, ..]| *class != 0);
        let status = sent.or(parsed);
        let text = response.message.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = match status {
            // A parser that could not read the status has left it in the text.
            Some([a, b, c]) if !text.starts_with(&format!("{a}.{b}.{c}")) => {
                format!("{} {a}.{b}.{c} {text}", response.code)
            }
            _ => format!("{} {text}", response.code),
        };
        Self { code: response.code, status, line: line.trim_end().to_string(), shown: None }
    }

    /// The same, with the secrets of the account hidden from whoever it is shown to.
    pub fn masked(self, mask: &Mask) -> Self {
        let shown = Some(mask.apply(&self.line)).filter(|shown| *shown != self.line);
        Self { shown, ..self }
    }

    /// A reply of one line, without its end.
    #[cfg(test)]
    pub fn from_line(line: &str) -> Self {
        let (code, rest) = line.split_once(' ').unwrap_or((line, ""));
        let message = match rest.split_once(' ') {
            Some((status, text)) if parse_status(status).is_some() => text,
            _ => rest,
        };
        let response = Response { code: code.parse().unwrap(), esc: [0; 3], message: message.to_string() };
        Self::new(&response, line)
    }

    /// All that was said, in one line. To be looked at, not to be shown.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// 2xx: the command did what it asks for.
    pub fn is_positive(&self) -> bool {
        (200..=299).contains(&self.code)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A sentence goes on behind it.
        let line = self.shown.as_ref().unwrap_or(&self.line);
        f.write_str(&shown(line.trim_end_matches([' ', ':', ';']), SHOWN))
    }
}

/// The beginning of `text`, as much as is shown.
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

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_proto::response::parser::ResponseReceiver;

    fn reply(bytes: &str) -> Reply {
        let response = ResponseReceiver::default().parse(&mut bytes.as_bytes().iter()).unwrap();
        Reply::new(&response, bytes.lines().last().unwrap())
    }

    #[test]
    fn numbers_beyond_a_byte_are_kept() {
        let microsoft = reply("550 5.7.708 Service unavailable. Access denied\r\n");
        assert_eq!(microsoft.status, Some([5, 7, 708]));
        assert_eq!(microsoft.to_string(), "550 5.7.708 Service unavailable. Access denied");
        assert_eq!(reply("451 4.7.500 Server busy\r\n").to_string(), "451 4.7.500 Server busy");
        assert_eq!(reply("554 5.2.252 SendAsDenied\r\n").status, Some([5, 2, 252]));
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

    proptest::proptest! {
        #[test]
        fn whatever_a_server_says_can_be_shown(code in 0..1000u16, esc: [u8; 3], text: String, last_line: String) {
            let reply = Reply::new(&Response { code, esc, message: text }, &last_line);
            assert!(reply.to_string().chars().count() <= SHOWN + 1);
            assert!(!reply.line().contains(['\r', '\n']));
        }

        #[test]
        fn a_status_is_what_rfc_3463_says(class in 0..10u16, subject in 0..1000u16, detail in 0..1000u16, rest: String) {
            let status = format!("{class}.{subject}.{detail}");
            assert_eq!(parse_status(&status), Some([class, subject, detail]));
            assert_eq!(parse_status(&format!("{status}.{rest}")), None);
            assert_eq!(parse_status(&format!("1{status}")), None);
        }
    }
}

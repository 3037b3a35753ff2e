//! Logins by devices (RFC 4954). In mode `ignore` any login is right: the network decides who may send.

/// What the session waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// The response of PLAIN or CRAM-MD5.
    Response,
    /// The name for LOGIN.
    Name,
    /// The password for LOGIN, by the name that was given.
    Password(String),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this reply and wait for a line.
    Ask(&'static str, Prompt),
    /// The login is accepted, under this name as far as it could be read.
    Accept(String),
    /// Send this reply; the dialogue is over.
    Refuse(&'static str),
}

/// Text that old clients compare literally: base64 of `Username:` and `Password:`.
const ASK_NAME: &str = "334 VXNlcm5hbWU6";
const ASK_PASSWORD: &str = "334 UGFzc3dvcmQ6";
/// A challenge for CRAM-MD5; since any answer is right it need not be secret.
const CHALLENGE: &str = "334 PHNtdHByZWxheUBsb2NhbGhvc3Q+";

/// Begins a login.
pub fn begin(mechanism: &str, initial: Option<&str>) -> Step {
    match (mechanism, initial) {
        ("PLAIN", Some(response)) => Step::Accept(name_in_plain(response)),
        ("PLAIN", None) => Step::Ask("334 ", Prompt::Response),
        // Some clients send the name along, as only other mechanisms allow.
        ("LOGIN", Some(name)) => Step::Ask(ASK_PASSWORD, Prompt::Password(readable(name))),
        ("LOGIN", None) => Step::Ask(ASK_NAME, Prompt::Name),
        ("CRAM-MD5", _) => Step::Ask(CHALLENGE, Prompt::Response),
        _ => Step::Refuse("504 5.5.4 Only PLAIN and LOGIN are known"),
    }
}

/// Takes the line that was waited for.
pub fn answer(prompt: Prompt, line: &[u8]) -> Step {
    let text = String::from_utf8_lossy(line.trim_ascii());
    if text == "*" {
        return Step::Refuse("501 5.0.0 Login cancelled");
    }
    match prompt {
        Prompt::Response => Step::Accept(name_in_plain(&text)),
        Prompt::Name => Step::Ask(ASK_PASSWORD, Prompt::Password(readable(&text))),
        Prompt::Password(name) => Step::Accept(name),
    }
}

fn decode(base64: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(u32::from(c - b'A')),
        b'a'..=b'z' => Some(u32::from(c - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(c - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bits, mut held) = (0u32, 0u32);
    let mut out = Vec::new();
    for value in base64.bytes().take(512).map_while(digit) {
        bits = bits << 6 | value;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.extend(u8::try_from(bits >> held & 0xff));
        }
    }
    out
}

/// A login name for the log: nothing but what can be read, and not much of it.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(64).collect()
}

fn readable(base64: &str) -> String {
    shown(&decode(base64))
}

/// The name in a PLAIN response: between the first and the second NUL (RFC 4616 section 2). Nothing else of it is
/// looked at, since the rest is a password.
fn name_in_plain(response: &str) -> String {
    decode(response).split(|b| *b == 0).nth(1).map(shown).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_gives_the_name_and_nothing_else() {
        // NUL user NUL secret
        assert_eq!(begin("PLAIN", Some("AHVzZXIAc2VjcmV0")), Step::Accept("user".into()));
        assert_eq!(answer(Prompt::Response, b"AHVzZXIAc2VjcmV0"), Step::Accept("user".into()));
        // A response without NULs could be a password: it is not shown.
        assert_eq!(begin("PLAIN", Some("c2VjcmV0")), Step::Accept(String::new()));
    }

    #[test]
    fn login_asks_literally_and_takes_the_name_inline() {
        assert_eq!(begin("LOGIN", None), Step::Ask("334 VXNlcm5hbWU6", Prompt::Name));
        assert_eq!(answer(Prompt::Name, b"dXNlcg=="), Step::Ask("334 UGFzc3dvcmQ6", Prompt::Password("user".into())));
        assert_eq!(begin("LOGIN", Some("dXNlcg==")), Step::Ask("334 UGFzc3dvcmQ6", Prompt::Password("user".into())));
        assert_eq!(answer(Prompt::Password("user".into()), b"anything"), Step::Accept("user".into()));
        assert!(matches!(answer(Prompt::Name, b"*"), Step::Refuse(_)));
        assert!(matches!(begin("NTLM", None), Step::Refuse(_)));
    }
}

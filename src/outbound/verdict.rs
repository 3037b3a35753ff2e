//! What an answer, a silence or a broken connection means: for one recipient, or for the whole account.

use smtp_proto::Response;

use crate::report::{Reason, TlsFacts};

/// What came of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The provider has it; its reply.
    Delivered(String),
    /// Not now; the reason.
    Deferred(Reason),
    /// Never; the reason.
    Failed(Reason),
}

/// What kind of trouble keeps all mail of an account from leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// No connection: name service, network, server not there or silent.
    Unreachable,
    /// The server could not prove who it is, or offers no protection.
    Tls,
    /// The login was refused.
    Login,
    /// The server wants no mail from this account for a while.
    Busy,
    /// The settings of the account can't work on this system.
    Setup,
    /// The clock is evidently wrong, so that nobody's certificate can be judged.
    Clock,
}

/// Why an account is paused. Its mail waits; it is never returned for this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of trouble.
    pub kind: TroubleKind,
    /// One plain sentence with its remedy.
    pub reason: Reason,
}

impl Trouble {
    /// Trouble of `kind` for `reason`.
    pub fn new(kind: TroubleKind, reason: impl Into<Reason>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

/// Everything that came of one attempt to send one message.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Index of the recipient in the envelope and what came of it. Recipients that are missing were not tried.
    pub results: Vec<(usize, Verdict)>,
    /// Why the account has to pause, if it has to.
    pub trouble: Option<Trouble>,
    /// How the connection was protected.
    pub tls: Option<TlsFacts>,
    /// Whether text of the message has left: then it may have arrived although nobody said so.
    pub text_sent: bool,
    /// The stored message itself is of no use; the reason.
    pub damaged: Option<Reason>,
}

/// A reply as one line: `550 5.1.1 no such user`.
pub fn reply_text(reply: &Response<String>) -> String {
    let [class, subject, detail] = reply.esc;
    let text = reply.message.split_whitespace().collect::<Vec<_>>().join(" ");
    match class {
        0 => format!("{} {text}", reply.code).trim_end().to_string(),
        _ => format!("{} {class}.{subject}.{detail} {text}", reply.code).trim_end().to_string(),
    }
}

/// Whether a reply is about the account and not about this message: then the message waits and the account pauses.
///
/// RFC 4954 section 6 for the logins, 421 by RFC 5321 section 4.2.1 ("closing transmission channel"); `5.4.5` is how
/// Google says that the day's quota is used up, although the code reads as final.
pub fn account_trouble(reply: &Response<String>, host: &str) -> Option<Trouble> {
    let text = reply_text(reply);
    match (reply.code, reply.esc) {
        (530 | 534 | 535 | 538, _) => Some(Trouble::new(
            TroubleKind::Login,
            format!("{host} wants another login: {text}; check username and password of the account"),
        )),
        (550 | 452, [_, 4, 5]) => Some(Trouble::new(
            TroubleKind::Busy,
            format!("the sending limit of the account at {host} is used up: {text}; mail waits until it is free again"),
        )),
        (421, _) => Some(Trouble::new(TroubleKind::Busy, format!("{host} takes no mail from here now: {text}"))),
        _ => None,
    }
}

/// What a reply to MAIL, RCPT or the message means for a recipient.
pub fn judge(reply: &Response<String>, host: &str) -> Verdict {
    let text = reply_text(reply);
    match reply.code {
        200..=299 => Verdict::Delivered(text),
        500..=599 => Verdict::Failed(format!("{host} refused it: {text}{}", hint(reply))),
        _ => Verdict::Deferred(format!("{host} said: {text}")),
    }
}

/// What to do about the refusals that happen most.
fn hint(reply: &Response<String>) -> &'static str {
    match (reply.code, reply.esc) {
        (552, _) | (_, [5, 3, 4] | [5, 2, 3]) => "; the message is too large for the provider",
        (_, [5, 1, 1]) => "; the recipient does not exist there, check the address in the device",
        (553, _) | (554, [5, 2, 252]) | (550, [5, 7, 60]) => {
            "; the provider does not allow this sender, set option from and from_policy 'account'"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, esc: [u8; 3], text: &str) -> Response<String> {
        Response { code, esc, message: text.to_string() }
    }

    #[test]
    fn temporary_and_final_replies_differ() {
        assert_eq!(
            judge(&reply(451, [4, 3, 0], "try again"), "mx"),
            Verdict::Deferred("mx said: 451 4.3.0 try again".into())
        );
        assert!(
            matches!(judge(&reply(550, [5, 1, 1], "no"), "mx"), Verdict::Failed(text) if text.contains("check the address"))
        );
        assert_eq!(judge(&reply(250, [0; 3], "ok\r\nmore"), "mx"), Verdict::Delivered("250 ok more".into()));
        // A code that is none of SMTP's is no reason to give up.
        assert!(matches!(judge(&reply(999, [0; 3], ""), "mx"), Verdict::Deferred(_)));
    }

    #[test]
    fn logins_and_quotas_concern_the_account() {
        let kind = |code, esc| account_trouble(&reply(code, esc, "x"), "mx").map(|t| t.kind);
        assert_eq!(kind(535, [5, 7, 8]), Some(TroubleKind::Login));
        assert_eq!(kind(550, [5, 4, 5]), Some(TroubleKind::Busy));
        assert_eq!(kind(421, [4, 7, 0]), Some(TroubleKind::Busy));
        assert_eq!(kind(550, [5, 1, 1]), None);
        assert_eq!(kind(451, [4, 4, 5]), None);
    }
}

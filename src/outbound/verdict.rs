// SPDX-License-Identifier: Apache-2.0
//! What a reply means: for one recipient, or for the whole account. `docs/reference/replies.md` explains it.

use super::reply::Reply;
use super::reply_table::{self, Known, Means};
use crate::net::{Explanation, Trouble, TroubleKind};
use crate::report::{Reason, TlsFacts};

/// The result for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The provider has accepted it; its reply.
    Delivered(String),
    /// Temporary failure; the reason.
    Deferred(Explanation),
    /// Permanent failure; the reason.
    Failed(Explanation),
}

impl Verdict {
    /// The sentence for the log, the journal and people.
    pub fn text(&self) -> String {
        match self {
            Self::Delivered(reply) => reply.clone(),
            Self::Deferred(why) => format!("{why}; it is deferred and will be retried"),
            Self::Failed(why) => why.to_string(),
        }
    }
}

/// The results of one attempt to send one message.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Index of the recipient in the envelope and its result. Recipients that are missing were not tried, or wait
    /// for the account: its trouble is not an attempt for them.
    pub results: Vec<(usize, Verdict)>,
    /// Why the account has to pause, if so.
    pub trouble: Option<Trouble>,
    /// How the connection was encrypted.
    pub tls: Option<TlsFacts>,
    /// Whether the provider accepted fewer recipients than there are: the others follow at once.
    pub goes_on: bool,
    /// Whether recipients were left out because the server refused many of the others: they follow at once, on a new
    /// connection.
    pub unnamed: bool,
    /// Whether a recipient is deferred because the server relays nothing to it, see `judge_relaying`.
    pub unrelayed: bool,
    /// Whether the server accepted the sender, and with it the message as one that it handles.
    pub sender_taken: bool,
    /// No reply was about the message, only about a connection that has carried others: it is to be offered again on
    /// a new one at once.
    pub again: bool,
    /// Whether text of the message was sent: if the connection is lost then, the text may be the cause.
    pub text_sent: bool,
    /// Whether its end was sent.
    pub text_ended: bool,
    /// The recipients for whom its end was sent and the result is unknown, by their index in the envelope: it may have
    /// arrived.
    pub doubtful: Vec<usize>,
    /// Whether the server's replies match our commands, where this became clear: a whole text by DATA, or a reply
    /// that is invalid.
    pub in_step: Option<bool>,
    /// The stored message itself cannot be used; the reason.
    pub damaged: Option<Reason>,
}

/// The stage of the conversation at which a reply came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Greeting, EHLO, STARTTLS: before any reply about a message.
    Opening,
    /// AUTH.
    Login,
    /// MAIL with the account's own address: an error here affects all messages.
    OwnSender,
    /// MAIL with another sender.
    Sender,
    /// RCPT, when the sender is the account's own address or not.
    Recipient { own_sender: bool },
    /// DATA and the end of the message.
    Text { own_sender: bool },
}

/// What a reply concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// The given recipient, or all of this message.
    Message(Verdict),
    /// The account: everything waits.
    Account(Trouble),
}

/// What a refusal by `host` means at `stage`. Never success: whether a reply is a refusal depends on the
/// command, see [`SmtpCommand::answered_by`](super::reply::SmtpCommand::answered_by).
pub fn judge(reply: &Reply, host: &str, stage: Stage) -> Judged {
    match reply_table::find(reply) {
        Some(row) => judge_known(reply, host, stage, row),
        None => judge_code(reply, host, stage),
    }
}

fn judge_known(reply: &Reply, host: &str, stage: Stage, row: &Known) -> Judged {
    let kind = match row.means {
        // Nobody is asked for a login after the text: Yahoo has the status of a weak one for its policy.
        Means::Login if row.is_registered() && matches!(stage, Stage::Text { .. }) => {
            return judge_code(reply, host, stage);
        }
        Means::Login => TroubleKind::Login,
        Means::Setup => TroubleKind::Setup,
        Means::Quota | Means::Throttled => TroubleKind::Quota,
        Means::Outage => TroubleKind::Busy,
        Means::Sender if stage.has_own_sender() => TroubleKind::Sender,
        Means::Waits if !stage.is_before_message() => return deferred(reply, host, row.remedy),
        // Before a message a reply cannot be about a recipient, nor can one that closes the connection: then the code
        // decides.
        Means::Recipient | Means::Waits if stage.is_before_message() => return judge_code(reply, host, stage),
        Means::Recipient if reply.code == 421 => return judge_code(reply, host, stage),
        Means::Recipient | Means::Sender | Means::Waits if is_temporary(reply) => {
            return deferred(reply, host, row.remedy);
        }
        Means::Recipient | Means::Sender | Means::Waits => return failed(reply, host, row.remedy),
    };
    let what = match row.means {
        Means::Quota => "accepts no more mail from this account for now",
        Means::Throttled => "is limiting the rate of this account",
        Means::Login if stage == Stage::Login => REFUSED_LOGIN,
        _ => "",
    };
    account(kind, host, what, reply, row.remedy)
}

/// Whether a message or recipient is to be deferred. Code and status both have a class (RFC 5321 section 4.2.1, RFC
/// 3463 section 2). Where they differ, the temporary one applies: an unnecessary attempt does less harm than a bounce
/// for mail that could have been delivered.
fn is_temporary(reply: &Reply) -> bool {
    reply.code < 500 || matches!(reply.status, Some([4, ..]))
}

/// `reply` of `host` to MAIL or RCPT, where a login is offered and the account has none.
pub(super) fn login_missing(reply: &Reply, host: &str) -> Trouble {
    let remedy = reply_table::NO_LOGIN;
    let what = format!("{host} offers a login and refuses mail from this account without one: {reply}");
    Trouble::new(TroubleKind::Login, what).remedy(remedy)
}

/// What it means for a recipient that `host` [relays nothing](reply_table::asks_for_login) to it, where the account
/// works; `login` is the advice where it has no login. Only where other mail was accepted on the same connection
/// (`proven`) is a permanent refusal final: a server may know the account by the address of the uplink, and then refuse
/// everything on another connection that took another uplink.
pub(super) fn judge_relaying(reply: &Reply, host: &str, proven: bool, login: Option<String>) -> Judged {
    match proven && !is_temporary(reply) {
        true => failed(reply, host, login.as_deref().unwrap_or(PERMANENT)),
        false => deferred(reply, host, login.as_deref().unwrap_or(STAYS)),
    }
}

/// Describes what happened at AUTH.
pub(super) const REFUSED_LOGIN: &str = "refused the login";

const LOGIN: &str = "check username and password of the account";
const PASSES: &str = "this is temporary";
const STAYS: &str = "if this persists, check the settings of the account, and ask the provider what it means";
const TURNED_AWAY: &str = "if this persists, check host and port, and ask the provider why it rejects this uplink";
const SENDER: &str = "set option from to an address of the mailbox, and from_policy 'account'";
const PERMANENT: &str = "the provider reports this as permanent";

/// What is added to a reply that no table knows, and to each reason of a kind.
pub(super) const ADVICE: [&str; 8] =
    [LOGIN, PASSES, STAYS, TURNED_AWAY, SENDER, PERMANENT, "it is deferred and will be retried", "mail waits"];

/// The meaning of the code alone.
///
/// RFC 4954 section 6 for the logins; 421 by RFC 5321 section 3.8 ("closing transmission channel"); X.3.Y of RFC 3463
/// section 3.4 is about the mail system and not about a message, except for the size in X.3.4.
fn judge_code(reply: &Reply, host: &str, stage: Stage) -> Judged {
    let system = |status: Option<[u16; 3]>| matches!(status, Some([_, 3, detail]) if detail != 4);
    // A permanent status is not described as temporary.
    let passes = if matches!(reply.status, Some([5, ..])) { STAYS } else { PASSES };
    let code = match reply.code {
        // A refused login is permanent: frequent retries lock accounts.
        code @ (500..530 | 536..600) if is_temporary(reply) && stage != Stage::Login => code - 100,
        code => code,
    };
    match code {
        400..=499 if stage == Stage::Login && matches!(reply.status, Some([5, 7, _])) => {
            account(TroubleKind::Login, host, REFUSED_LOGIN, reply, LOGIN)
        }
        500..=599 if stage == Stage::Login => account(TroubleKind::Login, host, REFUSED_LOGIN, reply, LOGIN),
        530 | 534 | 535 | 538 => account(TroubleKind::Login, host, "", reply, LOGIN),
        421 => account(TroubleKind::Busy, host, "", reply, passes),
        400..=499 if stage.is_before_message() || system(reply.status) => {
            account(TroubleKind::Busy, host, "", reply, passes)
        }
        // X.1.Y is about addresses: another sender may be accepted.
        400..=499 if stage.is_mail() && !matches!(reply.status, Some([_, 1, _] | [_, 3, 4])) => {
            account(TroubleKind::Busy, host, "", reply, passes)
        }
        _ if stage.is_before_message() => account(TroubleKind::Busy, host, "refuses this gateway", reply, TURNED_AWAY),
        // Commands in the wrong order: server and gateway are out of step.
        503 if stage.is_mail() => account(TroubleKind::Busy, host, "", reply, PASSES),
        // Wrong parameters (501, 504, 555; RFC 3463 section 3.6) and sizes (552) are caused by the message, and so is
        // what its content needs (section 3.7).
        550 | 551 | 553 | 554 if stage == Stage::OwnSender && !matches!(reply.status, Some([_, 5 | 6, _])) => {
            account(TroubleKind::Sender, host, "", reply, SENDER)
        }
        553 if stage.is_mail() => failed(reply, host, SENDER),
        500..=599 => failed(reply, host, PERMANENT),
        _ => deferred(reply, host, ""),
    }
}

impl Stage {
    fn is_before_message(self) -> bool {
        matches!(self, Self::Opening | Self::Login)
    }

    fn is_mail(self) -> bool {
        matches!(self, Self::OwnSender | Self::Sender)
    }

    fn has_own_sender(self) -> bool {
        match self {
            Self::Recipient { own_sender } | Self::Text { own_sender } => own_sender,
            Self::OwnSender | Self::Opening | Self::Login => true,
            Self::Sender => false,
        }
    }
}

/// The sentence: what happened, the server's reply, the remedy. `what` is what happened; empty: by the kind.
fn account(kind: TroubleKind, host: &str, what: &str, reply: &Reply, remedy: &str) -> Judged {
    let usual = match kind {
        TroubleKind::Login => "requires a valid login",
        TroubleKind::Sender => "does not allow the account to send from its address",
        TroubleKind::Setup | TroubleKind::Clock => "cannot be used with these settings",
        TroubleKind::Quota | TroubleKind::Rate => "accepts no more mail from this account for now",
        TroubleKind::Unreachable | TroubleKind::Tls | TroubleKind::Busy => "accepts no mail now",
    };
    let what = if what.is_empty() { usual } else { what };
    Judged::Account(Trouble::new(kind, format!("{host} {what}: {reply}")).remedy(remedy))
}

fn deferred(reply: &Reply, host: &str, remedy: &str) -> Judged {
    Judged::Message(Verdict::Deferred(Explanation::new(format!("{host} said: {reply}"), remedy)))
}

fn failed(reply: &Reply, host: &str, remedy: &str) -> Judged {
    Judged::Message(Verdict::Failed(Explanation::new(format!("{host} refused it: {reply}"), remedy)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: [Stage; 2] = [Stage::OwnSender, Stage::Sender];
    const LATER: [Stage; 2] = [Stage::Recipient { own_sender: true }, Stage::Text { own_sender: true }];
    const OPENING: [Stage; 2] = [Stage::Opening, Stage::Login];

    /// `D`elivered, deferred (`W`), `F`ailed, or the kind of trouble.
    fn short(line: &str, stage: Stage) -> String {
        match judge(&Reply::from_line(line), "mx", stage) {
            Judged::Message(Verdict::Delivered(_)) => "D".into(),
            Judged::Message(Verdict::Deferred(_)) => "W".into(),
            Judged::Message(Verdict::Failed(_)) => "F".into(),
            Judged::Account(trouble) => format!("{:?}", trouble.kind),
        }
    }

    #[test]
    fn whom_a_reply_concerns_depends_on_where_it_comes() {
        // Opening, login, MAIL with our own address, MAIL, RCPT, text.
        for (line, expected) in [
            // Replies that are not refusals are never treated as success here, nor as permanent.
            ("250 ok", "Busy Busy W W W W"),
            ("354 go on", "Busy Busy W W W W"),
            ("150 odd", "Busy Busy W W W W"),
            ("451 later", "Busy Busy Busy Busy W W"),
            ("451 4.3.0 no disk", "Busy Busy Busy Busy Busy Busy"),
            ("452 4.3.4 too big", "Busy Busy W W W W"),
            ("450 4.1.8 unknown sender", "Busy Busy W W W W"),
            ("450 4.2.0 greylisted", "Busy Busy Busy Busy W W"),
            ("421 closing", "Busy Busy Busy Busy Busy Busy"),
            ("421 4.7.0 Try again later", "Quota Quota Quota Quota Quota Quota"),
            // The connection timed out, not that to the recipient's server.
            ("421 4.4.1 timeout", "Busy Busy Busy Busy Busy Busy"),
            ("421 4.2.1 not now", "Busy Busy Busy Busy Busy Busy"),
            ("554 no service", "Busy Login Sender F F F"),
            ("500 what", "Busy Login F F F F"),
            ("503 wrong order", "Busy Login Busy Busy F F"),
            ("535 5.7.8 no", "Login Login Login Login Login Login"),
            ("530 5.7.0 Authentication required", "Login Login Login Login Login Login"),
            ("550 5.4.5 Daily limit", "Quota Quota Quota Quota Quota Quota"),
            ("550 5.7.60 send as", "Sender Sender Sender F Sender Sender"),
            ("550 5.1.1 no such user", "Busy Login F F F F"),
            // Not the sender's status: the message, not the account.
            ("554 5.5.4 Unsupported BODY type", "Busy Login F F F F"),
            ("550 5.6.7 no SMTPUTF8", "Busy Login F F F F"),
            ("550 5.5.2 syntax", "Busy Login F F F F"),
            ("554 5.6.1 media not supported", "Busy Login F F F F"),
            ("553 5.5.4 parameter", "Busy Login F F F F"),
            ("551 5.6.3 conversion", "Busy Login F F F F"),
            ("550 5.2.3 too long", "Busy Login F F F F"),
            ("554 5.3.4 too big", "Busy Login F F F F"),
            ("550 5.0.0 no", "Busy Login Sender F F F"),
            ("550 5.7.1 no", "Busy Login Sender F F F"),
            ("550 5.4.0 no", "Busy Login Sender F F F"),
            // Words that would concern the account, behind a status that concerns the message.
            ("554 5.6.0 too many messages parts", "Busy Login F F F F"),
            ("554 5.4.6 routing loop, too many messages", "Busy Login F F F F"),
            ("550 5.6.3 daily limit of conversions", "Busy Login F F F F"),
            ("550 5.6.0 authentication required field", "Busy Login F F F F"),
            ("452 4.5.3 Too many messages sent", "Quota Quota Quota Quota Quota Quota"),
            ("550 too many rcpt to", "Busy Login W W W W"),
            ("552 too big", "Busy Login F F F F"),
            ("550 5.2.122 too much", "Busy Login W W W W"),
            ("554 5.3.2 not now", "Busy Busy Busy Busy Busy Busy"),
            // Code and status of two classes: the message is deferred.
            ("550 4.7.1 later", "Busy Login Busy Busy W W"),
            ("550 4.3.0 no disk", "Busy Login Busy Busy Busy Busy"),
            ("451 5.7.1 no", "Busy Login Busy Busy W W"),
            ("451 5.1.1 gone", "Busy Busy W W W W"),
            ("550 4.1.1 gone", "Busy Login W W W W"),
            ("552 5.5.3 too many", "Busy Login W W W W"),
            ("452 5.5.3 too many", "Busy Busy W W W W"),
            ("552 4.2.2 full", "Busy Login W W W W"),
            ("451 5.7.3 STARTTLS is required to send mail", "Setup Setup Setup Setup Setup Setup"),
            ("503 5.5.1 AUTH first", "Login Login Login Login Login Login"),
            ("552 5.2.0 bare CR", "Busy Login F F F F"),
            // Statuses of a login, for a text that the server has let come so far: Yahoo uses them for its policy.
            ("554 5.7.9 policy", "Login Login Login Login Login F"),
            ("550 5.7.12 not from outside", "Login Login Login Login Login F"),
            ("451 4.7.9 policy", "Login Login Login Login Login W"),
            ("535 5.7.9 who are you", "Login Login Login Login Login Login"),
            ("999 odd", "Busy Busy W W W W"),
        ] {
            let stages = [OPENING, MAIL, LATER].concat();
            let found: Vec<String> = stages.into_iter().map(|stage| short(line, stage)).collect();
            assert_eq!(found.join(" "), expected, "{line}");
        }
        let device = Stage::Text { own_sender: false };
        assert_eq!(short("554 5.2.252 SendAsDenied", device), "F");
    }

    #[test]
    fn a_reason_says_what_was_said_what_it_means_and_what_to_do() {
        let said = |line: &str, stage| match judge(&Reply::from_line(line), "mx", stage) {
            Judged::Message(verdict) => verdict.text(),
            Judged::Account(trouble) => trouble.reason(),
        };
        assert_eq!(
            said("550 5.4.5 Daily user sending limit exceeded", Stage::Sender),
            "mx accepts no more mail from this account for now: 550 5.4.5 Daily user sending limit exceeded; the provider lifts the limit within 24 hours; send less mail or choose a larger plan; mail waits"
        );
        // A permanent error is not described as temporary.
        assert!(said("451 4.7.1 no", Stage::Sender).ends_with("; this is temporary; mail waits"));
        assert!(!said("451 5.7.1 no", Stage::Sender).contains("temporary"));
        assert!(!said("552 5.2.0 bare CR", LATER[1]).contains("large"));
        assert_eq!(
            said("550 5.1.1 gone", LATER[0]),
            "mx refused it: 550 5.1.1 gone; the recipient does not exist there; check the address in the device"
        );
        assert_eq!(
            said("451 4.7.1 greylisted", LATER[0]),
            "mx said: 451 4.7.1 greylisted; it is deferred and will be retried"
        );
    }

    #[test]
    fn a_permanent_code_with_a_temporary_meaning_never_fails_mail() {
        for row in reply_table::KNOWN {
            if matches!(row.means, Means::Recipient | Means::Sender) {
                continue;
            }
            for code in row.codes.iter().copied().chain(row.codes.is_empty().then_some(550)) {
                let status = row.status.map(|[a, b, c]| format!("{}.{b}.{c} ", a.max(4))).unwrap_or_default();
                let line = format!("{code} {status}{}", row.words.join(" "));
                for stage in [OPENING, MAIL, LATER].concat() {
                    assert_ne!(short(&line, stage), "F", "{line} at {stage:?}");
                }
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Replies of providers whose meaning is publicly documented: by the RFCs, the help pages of Google, Microsoft, Yahoo,
//! IONOS (with GMX, web.de and mail.com), Telekom, Amazon, Twilio (SendGrid) and others, and by the manuals of Postfix,
//! Exim and cPanel; or that have been posted in public. `tests/data/replies.json` has such replies with their sources.
//!
//! This is data: to add a reply, add a row. The first row that matches applies, so specific rows come
//! before general ones. `docs/reference/replies.md` shows the table.

use super::reply::Reply;
use super::verdict::ADVICE;
use crate::net::Explanation;

/// The meaning of a known reply, regardless of its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// It concerns this recipient or message, and its code is right: 4xx is deferred, 5xx fails.
    Recipient,
    /// This recipient is deferred, even when the code is permanent.
    Waits,
    /// The login is refused or missing.
    Login,
    /// The settings of the account do not fit this server.
    Setup,
    /// The account may not send from this address. For the sender address of a device it concerns only that message.
    Sender,
    /// A daily or hourly limit is reached, or the account is locked.
    Quota,
    /// Too many connections, messages or logins in a short time.
    Throttled,
    /// The provider is temporarily out of service.
    Outage,
}

/// One row of the table.
#[derive(Debug)]
pub struct Known {
    /// Codes that it is sent with; empty: any.
    pub codes: &'static [u16],
    /// Enhanced status (RFC 3463), with class 0 for any class, as in the IANA registry; `None`: any or none.
    pub status: Option<[u16; 3]>,
    /// Words that the text must contain, in lower case; empty: any text.
    pub words: &'static [&'static str],
    /// Its meaning.
    pub means: Means,
    /// The remedy.
    pub remedy: &'static str,
}

/// The first row that matches.
pub fn find(reply: &Reply) -> Option<&'static Known> {
    let text = words(reply);
    KNOWN.iter().find(|row| {
        (row.codes.is_empty() || row.codes.contains(&reply.code))
            && row.fits_status(reply.status)
            && row.words.iter().all(|word| text.contains(word))
    })
}

impl Known {
    /// Whether it is the registered meaning of a status, whatever the code and the text.
    pub fn is_registered(&self) -> bool {
        self.codes.is_empty() && self.words.is_empty()
    }

    fn fits_status(&self, said: Option<[u16; 3]>) -> bool {
        match (self.status, said) {
            (Some([0, subject, detail]), Some([_, b, c])) => (subject, detail) == (b, c),
            (Some(status), said) => said == Some(status),
            // X.6.Y is about the content, X.4.6 about a loop: words in their text say nothing about the account.
            (None, Some([_, 6, _])) => {
                !self.words.is_empty() && matches!(self.means, Means::Recipient | Means::Waits | Means::Sender)
            }
            (None, Some([_, 4, 6])) if self.means == Means::Throttled => false,
            // A code alone is the least specific: it applies if the status says nothing (RFC 3463 section 3.1, X.0.0).
            (None, said) => !self.words.is_empty() || matches!(said, None | Some([_, 0, 0])),
        }
    }
}

/// A reason without the gateway's own advice, which follows the words of the provider.
pub fn without_advice(reason: &str) -> &str {
    let rows = KNOWN.iter().map(|row| row.remedy).filter(|advice| !advice.is_empty());
    let advice = rows.chain(ADVICE).chain([NO_LOGIN]);
    let ends = advice.filter_map(|advice| {
        let place = reason.find(advice)?;
        reason.get(..place)?.strip_suffix("; ").map(str::len)
    });
    ends.min().and_then(|end| reason.get(..end)).unwrap_or(reason)
}

/// Whether the provider accepts fewer recipients at once (RFC 5321 section 4.5.3.1.10).
pub fn is_too_many(reply: &Reply) -> bool {
    reply.code >= 400 && find(reply).is_some_and(|row| row.remedy == TOO_MANY_RECIPIENTS)
}

/// Whether that is why a recipient is deferred, so that it may follow at once.
pub fn is_one_too_many(why: &Explanation) -> bool {
    why.remedy == TOO_MANY_RECIPIENTS
}

/// The words of a reply in lower case, without addresses, which are names: `daily-limit@example.com` says
/// nothing about limits.
fn words(reply: &Reply) -> String {
    let words = reply.line().split(' ').filter(|word| !word.contains('@'));
    words.collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}

/// Whether a refusal of MAIL (`is_mail`) or RCPT may mean that a login is missing, at a server that offers one to such
/// an account: whatever is not clearly about something else. Few servers say it explicitly.
pub fn may_miss_login(reply: &Reply, is_mail: bool) -> bool {
    // To a server that accepts mail only after a login, MAIL is one of too many "invalid commands".
    const SPEAKS_OF_IT: [&str; 6] = ["relay", "auth", "login", "log in", "credential", "commands"];
    let says_so = || {
        let text = words(reply);
        SPEAKS_OF_IT.iter().any(|word| text.contains(word))
    };
    match (find(reply), reply.code, reply.status) {
        // Whether a sender is allowed, or a message is spam, depends on the login; whether an address exists does not.
        (Some(row), _, status) => match row.means {
            Means::Login => true,
            Means::Sender => !matches!(status, Some([_, 1, _])),
            _ => [ADDRESS_OR_LOGIN, POLICY, SPAM].contains(&row.remedy),
        },
        // RFC 3463 section 3.8: security and policy, with a permanent class.
        (None, _, Some([5, 7, _])) => true,
        // 4xx has many reasons, most often greylisting.
        (None, 400..=499, _) => says_so(),
        // A server that knows no MAIL yet, or finds it too early.
        (None, 500 | 502 | 503, _) if is_mail => true,
        // Wrong commands and parameters, sizes.
        (None, 500..=504 | 552 | 555, _) => says_so(),
        // RFC 3463: addresses that do not exist, mailboxes, the mail system.
        (None, _, Some([_, 1, 1..=999] | [_, 2 | 3, _])) => says_so(),
        _ => true,
    }
}

/// Whether a refusal says that the server relays no mail, or none without a login: RFC 4954 section 6 for 530.
pub fn asks_for_login(reply: &Reply) -> bool {
    find(reply).map_or(reply.code == 530, |row| row.means == Means::Login && row.remedy == NO_LOGIN)
}

/// Whether a refusal may be specific to the connection, so that a new one avoids it: RFC 5321 section 3.8 (421), RFC
/// 3463 (X.5.3: too many, X.3.Y: the mail system, X.4.5: congestion), what the table knows as too much at once, and
/// whatever names the session. An unnecessary attempt on a new connection does no harm.
pub fn is_of_connection(reply: &Reply) -> bool {
    let throttled = || find(reply).is_some_and(|row| row.means == Means::Throttled);
    let named = || ["session", "this connection"].iter().any(|word| words(reply).contains(word));
    let system = matches!(reply.status, Some([_, 5, 3] | [_, 4, 5] | [_, 3, 0..=3 | 5..]));
    reply.code == 421 || system || throttled() || named()
}

type Codes = &'static [u16];
type Words = &'static [&'static str];

const fn by(codes: Codes, status: Option<[u16; 3]>, words: Words, means: Means, remedy: &'static str) -> Known {
    Known { codes, status, words, means, remedy }
}

const fn at(codes: Codes, a: u16, b: u16, c: u16, words: Words, means: Means, remedy: &'static str) -> Known {
    by(codes, Some([a, b, c]), words, means, remedy)
}

/// By a status of the IANA registry (RFC 5248), for any class and code.
const fn any(b: u16, c: u16, words: Words, means: Means, remedy: &'static str) -> Known {
    by(&[], Some([0, b, c]), words, means, remedy)
}

const fn text(codes: Codes, words: Words, means: Means, remedy: &'static str) -> Known {
    by(codes, None, words, means, remedy)
}

const SIGN_IN: &str =
    "this provider no longer accepts passwords: set auth 'xoauth2' for the account and sign in with smtprelay login";
const APP_PASSWORD: &str = "create an app password in the security settings of the mailbox and set it as the password";
const NAME_AND_PASSWORD: &str = "check username and password; many providers require an app password here";
/// The remedy where a login is missing.
pub(super) const NO_LOGIN: &str = "set username and password of the account";
const AUTHORIZATION_CODE: &str =
    "enable SMTP in the webmail and set the authorization code shown there as the password";
const OWN_NAME: &str = "set option hostname of section relay to a fully qualified name in your own domain";
const NOT_RELEASED: &str = "log in at the provider: the account or its domain must be confirmed there first";
const CONFIRM: &str = "confirm the address at the provider, or set option from to a confirmed address";
const NOT_VOUCHED: &str =
    "the sender's domain does not authorize this server (SPF, DKIM): set option from to an address of the mailbox";
const FOR_INCOMING: &str =
    "that server only accepts incoming mail for its own users: set host, username and password of your own provider";
const POLICY: &str =
    "the link in the reply explains the rule; set from_policy 'account' and set a clear subject in the device";
const STARTTLS: &str = "set tls 'starttls' (port 587) or 'implicit' (port 465) for the account";
const OWN_ADDRESS: &str = "set option from to an address of the mailbox, and from_policy 'account'";
const DAY: &str = "the provider lifts the limit within 24 hours; send less mail or choose a larger plan";
const SOME_HOURS: &str = "the provider lifts the limit after an hour to a day; send less mail or choose a larger plan";
const LOCKED: &str = "the account is blocked from sending: change its password, find out what sent so much mail, and ask the provider to unlock it";
const SLOWER: &str = "it is retried more slowly; if this persists, set option connections to 1";
const NOBODY_LOGS_IN: &str = "no login is possible for a while; check what else logs in to this mailbox";
const LATER: &str = "it is a temporary problem at the provider";
const SENT_TOO_MUCH: &str = "the recipient is receiving too much mail at the moment";
const ADDRESS_OR_LOGIN: &str = "the recipient does not exist there, or the server requires a login first: check the address, username and password";
const NO_SUCH_ADDRESS: &str = "the recipient does not exist there; check the address in the device";
const SPAM: &str = "the provider classified the message as spam: set a clear subject and normal text in the device";
const MAILBOX_FULL: &str = "the recipient's mailbox is full";
const TOO_LARGE: &str = "the message is too large for the provider; reduce the size of pictures or files in the device";
const TOO_MANY_RECIPIENTS: &str =
    "the provider accepts fewer recipients at once; the rest follow in the next transaction";
const BLOCK_LIST: &str =
    "the public address of this uplink is on a block list: use another address, or ask the named list to remove it";

const NO_SUCH_DOMAIN: &str = "the recipient's domain does not exist; check the address in the device";
const SIZE_OR_ROOM: &str = "the message is too large for the provider, or for the space left in the recipient's mailbox; reduce the size of pictures or files in the device";
const NO_ROUTE: &str = "the recipient's server cannot be reached; check the address in the device";
const LOOP: &str = "mail loop detected: the forwarding of the recipient's mail must be corrected";
const SWITCHED_OFF: &str = "the recipient's mailbox is disabled or does not accept mail";
const NOT_PROVEN: &str = "the sender's domain or this uplink could not be verified (SPF, DKIM, reverse DNS): set option from to an address of the mailbox, and from_policy 'account'";

const P: &[u16] = &[550, 552, 553, 554];

/// The table. Rows of one meaning with different texts are grouped; more specific rows come first.
pub static KNOWN: &[Known] = &[
    // Logins.
    text(&[535], &["basic authentication is disabled"], Means::Login, SIGN_IN),
    at(
        &[535],
        5,
        7,
        139,
        &[],
        Means::Login,
        "SMTP AUTH is disabled for this mailbox: ask the administrator to enable 'Authenticated SMTP' for it",
    ),
    at(&[550], 5, 7, 30, &["basic authentication"], Means::Login, SIGN_IN),
    at(&[534], 5, 7, 9, &[], Means::Login, APP_PASSWORD),
    text(&[534, 535], &["application-specific password"], Means::Login, APP_PASSWORD),
    at(
        &[534],
        5,
        7,
        14,
        &[],
        Means::Login,
        "log in once with a web browser and confirm the gateway, or use an app password",
    ),
    // Yahoo: the password of the mailbox itself.
    text(&[535], &["#auth005"], Means::Login, APP_PASSWORD),
    text(&[535], &["authorization code"], Means::Login, AUTHORIZATION_CODE),
    text(&[535], &["password is too simple"], Means::Login, "set a longer password at the provider"),
    text(
        &[535],
        &["authentication rejected"],
        Means::Login,
        "check username and password; at Comcast enable 'third-party access security' first",
    ),
    text(&[535], &["authenticate too many"], Means::Throttled, NOBODY_LOGS_IN),
    at(&[535], 5, 7, 8, &[], Means::Login, NAME_AND_PASSWORD),
    at(&[535], 5, 7, 3, &[], Means::Login, NAME_AND_PASSWORD),
    text(
        &[535],
        &["authentication credentials invalid"],
        Means::Login,
        "check username and password; at GMX and web.de enable POP3/IMAP in the webmail first, at Amazon use the SMTP credentials of the region",
    ),
    text(&[535], &["incorrect username or password"], Means::Login, NAME_AND_PASSWORD),
    text(&[535], &["invalid login or password"], Means::Login, NAME_AND_PASSWORD),
    text(&[535], &["incorrect authentication data"], Means::Login, NAME_AND_PASSWORD),
    text(&[535], &["authentication failed"], Means::Login, NAME_AND_PASSWORD),
    text(&[451], &["maximum credits exceeded"], Means::Quota, DAY),
    at(&[530], 5, 7, 57, &[], Means::Login, NO_LOGIN),
    // Both say that TLS is missing, with 4xx as well as with 5xx: this is not temporary. 454 is the answer to STARTTLS
    // when that fails temporarily (RFC 3207 section 4).
    any(7, 10, &[], Means::Setup, STARTTLS),
    any(7, 11, &[], Means::Setup, STARTTLS),
    text(&[530, 538], &["starttls"], Means::Setup, STARTTLS),
    text(&[], &["starttls", "required"], Means::Setup, STARTTLS),
    text(&[], &["starttls", "first"], Means::Setup, STARTTLS),
    text(&[], &["must issue", "starttls"], Means::Setup, STARTTLS),
    text(&[], &["requires", "starttls"], Means::Setup, STARTTLS),
    text(&[], &["tls required"], Means::Setup, STARTTLS),
    text(&[], &["encryption required"], Means::Setup, STARTTLS),
    text(&[538], &[], Means::Setup, STARTTLS),
    text(&[530], &["without ssl/tls"], Means::Setup, STARTTLS),
    text(&[530], &["from/sender name"], Means::Sender, CONFIRM),
    text(&[], &["authentication required"], Means::Login, NO_LOGIN),
    text(&[], &["authentication is required"], Means::Login, NO_LOGIN),
    text(&[], &["requires authentication"], Means::Login, NO_LOGIN),
    text(&[], &["auth required"], Means::Login, NO_LOGIN),
    text(&[], &["auth first"], Means::Login, NO_LOGIN),
    text(&[], &["auth command first"], Means::Login, NO_LOGIN),
    text(&[], &["authenticate first"], Means::Login, NO_LOGIN),
    text(&[], &["authentication first"], Means::Login, NO_LOGIN),
    text(&[], &["log in first"], Means::Login, NO_LOGIN),
    text(&[], &["login first"], Means::Login, NO_LOGIN),
    text(&[], &["must authenticate"], Means::Login, NO_LOGIN),
    text(&[], &["not authenticated"], Means::Login, NO_LOGIN),
    text(P, &["unauthenticated senders"], Means::Login, NO_LOGIN),
    text(P, &["sender address rejected: not logged in"], Means::Login, NO_LOGIN),
    // Our own host name in EHLO.
    text(&[421], &["try again later", "(ehlo)"], Means::Setup, OWN_NAME),
    text(&[501, 550, 553, 554], &["invalid helo"], Means::Setup, OWN_NAME),
    text(
        &[550],
        &["invalid credentials for relay"],
        Means::Login,
        "register the public address of this uplink with the provider, or set username and password",
    ),
    text(&[454, 421, 450, 451, 535], &["too many", "login"], Means::Throttled, NOBODY_LOGS_IN),
    text(&[454, 421], &["cannot authenticate due to temporary"], Means::Outage, LATER),
    // Replies about a recipient, though they mention limits.
    at(&[450, 550], 4, 2, 1, &["is receiving"], Means::Waits, SENT_TOO_MUCH),
    at(&[450, 550], 5, 2, 1, &["is receiving"], Means::Waits, SENT_TOO_MUCH),
    at(&[], 5, 2, 121, &[], Means::Waits, SENT_TOO_MUCH),
    at(&[], 5, 2, 122, &[], Means::Waits, SENT_TOO_MUCH),
    text(&[432], &["recipient thread limit"], Means::Waits, SENT_TOO_MUCH),
    at(&[452], 4, 5, 3, &["daily"], Means::Quota, DAY),
    text(&[452], &["too many recipients received"], Means::Throttled, SLOWER),
    // RFC 5321 section 4.5.3.1.10 is about recipients; some servers count messages with the same status.
    any(5, 3, &["too many messages"], Means::Throttled, SLOWER),
    any(5, 3, &["session limit"], Means::Throttled, SLOWER),
    // Class 5 of it is not permanent either: it concerns this transaction.
    any(5, 3, &[], Means::Waits, TOO_MANY_RECIPIENTS),
    // RFC 5321 section 4.5.3.1.10: 552 for this is an old mistake.
    text(&[452, 550, 552, 554], &["too many recipients"], Means::Waits, TOO_MANY_RECIPIENTS),
    text(&[452, 550, 552, 554], &["too many rcpt"], Means::Waits, TOO_MANY_RECIPIENTS),
    // Those of the sender, though their status is that of a full mailbox.
    text(&[], &["submission", "quota"], Means::Quota, DAY),
    text(&[], &["exceeded your", "quota"], Means::Quota, SOME_HOURS),
    any(2, 2, &[], Means::Recipient, MAILBOX_FULL),
    at(&[552], 5, 7, 0, &[], Means::Recipient, "the provider does not allow this type of attachment"),
    any(3, 4, &[], Means::Recipient, TOO_LARGE),
    any(2, 3, &[], Means::Recipient, TOO_LARGE),
    // The recipient: more specific than any word in the text.
    any(1, 1, &[], Means::Recipient, NO_SUCH_ADDRESS),
    any(1, 2, &[], Means::Recipient, NO_SUCH_DOMAIN),
    any(1, 3, &[], Means::Recipient, NO_SUCH_ADDRESS),
    any(1, 6, &[], Means::Recipient, NO_SUCH_ADDRESS),
    any(1, 10, &[], Means::Recipient, NO_SUCH_ADDRESS),
    // The sender: whatever these replies say about spam, the domain has to be verified first.
    at(&[550], 5, 7, 26, &[], Means::Sender, NOT_VOUCHED),
    any(7, 20, &[], Means::Sender, NOT_PROVEN),
    any(7, 23, &[], Means::Sender, NOT_PROVEN),
    any(7, 24, &[], Means::Sender, NOT_PROVEN),
    any(7, 25, &[], Means::Sender, NOT_PROVEN),
    any(7, 26, &[], Means::Sender, NOT_PROVEN),
    any(7, 27, &[], Means::Sender, OWN_ADDRESS),
    // Limits of the account.
    at(&[550], 5, 4, 5, &[], Means::Quota, DAY),
    at(&[450], 4, 2, 1, &["relay limit"], Means::Quota, SOME_HOURS),
    at(&[550], 5, 1, 90, &[], Means::Quota, DAY),
    at(&[], 5, 7, 232, &[], Means::Quota, DAY),
    at(&[], 5, 7, 233, &[], Means::Quota, DAY),
    at(&[550], 5, 7, 705, &[], Means::Quota, LOCKED),
    at(&[550], 5, 1, 8, &["bad outbound sender"], Means::Quota, LOCKED),
    // With class 4 they say that the domain could not be looked up now.
    at(&[], 5, 1, 7, &[], Means::Sender, OWN_ADDRESS),
    at(&[], 5, 1, 8, &[], Means::Sender, OWN_ADDRESS),
    at(&[550], 5, 7, 501, &[], Means::Quota, LOCKED),
    at(&[550], 5, 7, 502, &[], Means::Quota, LOCKED),
    at(&[550], 5, 7, 503, &[], Means::Quota, LOCKED),
    at(
        &[550],
        5,
        7,
        708,
        &[],
        Means::Quota,
        "the provider does not trust the public address of this uplink yet: ask the provider to release it, or use another uplink",
    ),
    text(&[], &["send limit exceeded"], Means::Quota, SOME_HOURS),
    text(&[], &["sending limit"], Means::Quota, SOME_HOURS),
    text(&[], &["send quota"], Means::Quota, SOME_HOURS),
    text(&[], &["sending quota"], Means::Quota, SOME_HOURS),
    text(&[], &["message count quota"], Means::Quota, SOME_HOURS),
    text(&[], &["mail limit has been reached"], Means::Quota, SOME_HOURS),
    text(&[], &["message limit", "reached"], Means::Quota, SOME_HOURS),
    text(&[], &["daily", "limit"], Means::Quota, DAY),
    text(&[], &["daily", "quota"], Means::Quota, DAY),
    text(&[454], &["throttling failure"], Means::Throttled, SLOWER),
    text(P, &["unusual sending activity"], Means::Quota, LOCKED),
    text(P, &["sending paused"], Means::Quota, LOCKED),
    text(&[421, 550, 554], &["not allowed to send:"], Means::Quota, NOT_RELEASED),
    text(&[], &["account is not yet activated"], Means::Quota, NOT_RELEASED),
    text(&[], &["hourly", "limit"], Means::Quota, SOME_HOURS),
    text(&[], &["exceeded", "per hour"], Means::Quota, SOME_HOURS),
    // Throttling.
    at(&[432], 4, 3, 2, &[], Means::Throttled, SLOWER),
    text(&[421, 450, 451], &["concurrent"], Means::Throttled, SLOWER),
    at(&[421], 4, 4, 2, &["submission rate"], Means::Throttled, SLOWER),
    at(&[], 4, 4, 5, &[], Means::Throttled, SLOWER),
    at(&[451], 4, 7, 500, &[], Means::Throttled, SLOWER),
    at(&[451], 4, 7, 650, &[], Means::Throttled, SLOWER),
    at(&[451], 4, 7, 651, &[], Means::Throttled, SLOWER),
    at(&[451], 4, 7, 0, &["temporary server error"], Means::Outage, LATER),
    at(&[421, 450, 451], 4, 7, 0, &["temporary system problem"], Means::Outage, LATER),
    at(&[421], 4, 7, 0, &["try again later"], Means::Throttled, SLOWER),
    at(&[421, 450, 451, 550], 4, 7, 0, &["unusual rate"], Means::Throttled, SLOWER),
    at(P, 5, 7, 1, &["unusual rate"], Means::Throttled, SLOWER),
    text(&[421], &["temporarily deferred"], Means::Throttled, SLOWER),
    text(&[421, 450, 451, 452, 454, 550, 554], &["rate limit"], Means::Throttled, SLOWER),
    text(&[421, 450, 451, 452, 454, 550, 554], &["too many messages"], Means::Throttled, SLOWER),
    text(&[421, 450, 451, 452, 454, 550, 554], &["too many mails"], Means::Throttled, SLOWER),
    text(&[421, 450, 451, 452, 454, 550, 554], &["too many emails"], Means::Throttled, SLOWER),
    text(&[421, 450, 451, 452, 454, 550, 554], &["too many connections"], Means::Throttled, SLOWER),
    text(&[451], &["resources temporarily"], Means::Throttled, SLOWER),
    at(&[], 5, 2, 253, &[], Means::Throttled, SLOWER),
    text(P, &["client host", "blocked"], Means::Quota, BLOCK_LIST),
    text(P, &["banned sending ip"], Means::Quota, BLOCK_LIST),
    text(P, &["spamhaus"], Means::Quota, BLOCK_LIST),
    text(P, &["send email directly to our servers"], Means::Setup, FOR_INCOMING),
    text(&[450, 550, 554], &["cannot find your hostname"], Means::Setup, FOR_INCOMING),
    text(P, &["bad dns ptr"], Means::Setup, FOR_INCOMING),
    // Out of service. RFC 3463 section 3.4: mail system full, system not accepting messages.
    any(3, 1, &[], Means::Outage, LATER),
    any(3, 2, &[], Means::Outage, LATER),
    any(3, 5, &[], Means::Outage, LATER),
    // Senders.
    at(P, 5, 2, 252, &[], Means::Sender, OWN_ADDRESS),
    at(P, 5, 7, 60, &[], Means::Sender, OWN_ADDRESS),
    at(&[550], 5, 7, 750, &[], Means::Sender, OWN_ADDRESS),
    at(&[550], 5, 7, 515, &[], Means::Sender, NOT_VOUCHED),
    text(P, &["not accepted due to domain's"], Means::Sender, NOT_VOUCHED),
    text(P, &["sendasdenied"], Means::Sender, OWN_ADDRESS),
    text(P, &["sender address", "not allowed"], Means::Sender, OWN_ADDRESS),
    text(P, &["sender address rejected"], Means::Sender, OWN_ADDRESS),
    text(P, &["not owned by"], Means::Sender, OWN_ADDRESS),
    text(P, &["mail from must equal"], Means::Sender, OWN_ADDRESS),
    text(&[501, 550, 553], &["mail from address must be same"], Means::Sender, OWN_ADDRESS),
    text(&[551], &["multiple addresses in a from"], Means::Sender, OWN_ADDRESS),
    text(P, &["not allowed in header from"], Means::Sender, OWN_ADDRESS),
    text(P, &["does not match a verified sender"], Means::Sender, CONFIRM),
    text(&[403, 550, 553], &["not authorized to send from"], Means::Sender, CONFIRM),
    text(&[553], &["relaying disallowed"], Means::Sender, OWN_ADDRESS),
    text(&[554], &["address is not verified"], Means::Sender, CONFIRM),
    // Relaying without a login.
    text(P, &["relay", "denied"], Means::Login, NO_LOGIN),
    text(&[454], &["relay access denied"], Means::Login, NO_LOGIN),
    text(P, &["relay not permitted"], Means::Login, NO_LOGIN),
    text(P, &["relaying", "not allowed"], Means::Login, NO_LOGIN),
    // The recipient and the text.
    at(&[550], 5, 4, 1, &[], Means::Recipient, NO_SUCH_ADDRESS),
    text(P, &["unknown user"], Means::Recipient, NO_SUCH_ADDRESS),
    text(P, &["user unknown"], Means::Recipient, NO_SUCH_ADDRESS),
    text(&[550], &["invalid recipient"], Means::Recipient, ADDRESS_OR_LOGIN),
    text(&[550, 552, 554], &["quota exceeded"], Means::Recipient, MAILBOX_FULL),
    text(&[550], &["failure sending mail. try again later"], Means::Waits, LATER),
    text(
        &[554],
        &["authorized recipients"],
        Means::Recipient,
        "add the recipient to the authorized recipients at the provider, or use your own domain there",
    ),
    text(P, &["not accepted for policy reasons"], Means::Recipient, POLICY),
    text(&[554], &["due to policy restrictions"], Means::Recipient, POLICY),
    text(&[550], &["due to local policy"], Means::Recipient, POLICY),
    text(&[550], &["content rejected"], Means::Recipient, SPAM),
    text(&[550, 552, 554], &["spam"], Means::Recipient, SPAM),
    text(&[552], &["size"], Means::Recipient, TOO_LARGE),
    text(&[552], &["too large"], Means::Recipient, TOO_LARGE),
    text(&[552], &["too big"], Means::Recipient, TOO_LARGE),
    // The registered meaning of a status, where the text contained nothing known.
    any(7, 8, &[], Means::Login, NAME_AND_PASSWORD),
    any(7, 9, &[], Means::Login, APP_PASSWORD),
    any(7, 12, &[], Means::Login, NAME_AND_PASSWORD),
    any(7, 13, &[], Means::Login, NOT_RELEASED),
    any(7, 28, &[], Means::Throttled, SLOWER),
    any(2, 1, &[], Means::Recipient, SWITCHED_OFF),
    any(4, 1, &[], Means::Recipient, NO_ROUTE),
    any(4, 4, &[], Means::Recipient, NO_ROUTE),
    any(4, 6, &[], Means::Recipient, LOOP),
    // RFC 5321 section 4.2.2: "exceeded storage allocation".
    text(&[552], &[], Means::Recipient, SIZE_OR_ROOM),
];

#[cfg(test)]
mod tests;

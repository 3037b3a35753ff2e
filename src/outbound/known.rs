//! Replies of providers whose meaning is publicly documented: by the RFCs, by the help pages of Google, Microsoft, Yahoo,
//! IONOS (with GMX, web.de and mail.com), Telekom and Amazon, and by the manuals of Postfix, Exim and cPanel.
//!
//! This is data: to teach the gateway a reply, add a row. The first row that fits counts, so the particular ones stand
//! before the general ones. `docs/replies.md` shows the table to people.

use super::reply::Reply;

/// What a known reply means, whatever its code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// It concerns this recipient or message, and its code is right: 4xx waits, 5xx fails.
    Recipient,
    /// This recipient has to wait, also when the code reads as final.
    Waits,
    /// The login is refused or missing.
    Login,
    /// The settings of the account don't fit this server.
    Setup,
    /// The account may not send from this address. For the sender address of a device it concerns that message alone.
    Sender,
    /// A daily or hourly limit is used up, or the account is locked.
    Quota,
    /// Too many connections, messages or logins in a short time.
    Throttled,
    /// The provider is out of order for a while.
    Outage,
}

/// One row of the table.
#[derive(Debug)]
pub struct Known {
    /// Codes that it comes with; empty: any.
    pub codes: &'static [u16],
    /// Enhanced status (RFC 3463); `None`: any or none.
    pub status: Option<[u16; 3]>,
    /// What must occur in the text, in lower case; empty: anything.
    pub words: &'static [&'static str],
    /// What it means.
    pub means: Means,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The first row that fits.
pub fn find(reply: &Reply) -> Option<&'static Known> {
    let text = reply.line().to_ascii_lowercase();
    KNOWN.iter().find(|row| {
        (row.codes.is_empty() || row.codes.contains(&reply.code))
            && row.status.is_none_or(|status| reply.status == Some(status))
            && row.words.iter().all(|word| text.contains(word))
    })
}

type Codes = &'static [u16];
type Words = &'static [&'static str];

const fn by(codes: Codes, status: Option<[u16; 3]>, words: Words, means: Means, remedy: &'static str) -> Known {
    Known { codes, status, words, means, remedy }
}

const fn at(codes: Codes, a: u16, b: u16, c: u16, words: Words, means: Means, remedy: &'static str) -> Known {
    by(codes, Some([a, b, c]), words, means, remedy)
}

const fn text(codes: Codes, words: Words, means: Means, remedy: &'static str) -> Known {
    by(codes, None, words, means, remedy)
}

const APP_PASSWORD: &str = "make an app password in the security settings of the mailbox and set it as password";
const NAME_AND_PASSWORD: &str = "check username and password; many providers want an app password here";
const NO_LOGIN: &str = "set username and password of the account";
const STARTTLS: &str = "set tls 'starttls' (port 587) or 'implicit' (port 465) for the account";
const OWN_ADDRESS: &str = "set option from to an address of the mailbox, and from_policy 'account'";
const DAY: &str = "the provider frees it within 24 hours; send less or take a larger plan";
const SOME_HOURS: &str = "the provider frees it after an hour to a day; send less or take a larger plan";
const LOCKED: &str = "the account is locked for sending: change its password, see what has sent so much, and have the provider unlock it";
const SLOWER: &str = "it is tried again more slowly; if that stays, set option connections to 1";
const LATER: &str = "it is the provider's own trouble and passes";
const SENT_TOO_MUCH: &str = "the recipient gets too much mail at the moment";
const NO_SUCH_ADDRESS: &str = "the recipient does not exist there, check the address in the device";
const MAILBOX_FULL: &str = "the mailbox of the recipient is full";
const TOO_LARGE: &str = "the message is too large for the provider; make pictures or files in the device smaller";
const TOO_MANY_RECIPIENTS: &str = "the provider takes fewer recipients at once, the rest comes in the next transaction";
const BLOCK_LIST: &str =
    "the public address of this uplink is on a block list: take another address, or ask the list named to remove it";

const P: &[u16] = &[550, 552, 553, 554];

/// The table. Rows of one meaning with different texts stand together; more particular rows come first.
pub static KNOWN: &[Known] = &[
    // Logins.
    text(
        &[535],
        &["basic authentication is disabled"],
        Means::Login,
        "this provider takes no passwords any more (only OAuth); use another provider",
    ),
    at(
        &[535],
        5,
        7,
        139,
        &[],
        Means::Login,
        "SMTP AUTH is switched off for this mailbox: have the administrator switch on 'Authenticated SMTP' for it",
    ),
    at(
        &[550],
        5,
        7,
        30,
        &[],
        Means::Login,
        "this provider takes no passwords any more (only OAuth); use another provider",
    ),
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
    at(&[535], 5, 7, 8, &[], Means::Login, NAME_AND_PASSWORD),
    at(&[535], 5, 7, 3, &[], Means::Login, NAME_AND_PASSWORD),
    text(
        &[535],
        &["authentication credentials invalid"],
        Means::Login,
        "check username and password; at GMX and web.de switch on POP3/IMAP in the webmail first",
    ),
    at(&[530], 5, 7, 57, &[], Means::Login, NO_LOGIN),
    text(&[530, 538], &["starttls"], Means::Setup, STARTTLS),
    text(&[538], &[], Means::Setup, STARTTLS),
    text(
        &[550],
        &["invalid credentials for relay"],
        Means::Login,
        "register the public address of this uplink at the provider, or set username and password",
    ),
    text(
        &[454, 421, 450, 451, 535],
        &["too many", "login"],
        Means::Throttled,
        "nobody logs in for a while; see what else logs in to this mailbox",
    ),
    text(&[454, 421], &["cannot authenticate due to temporary"], Means::Outage, LATER),
    // What concerns a recipient, though it speaks of limits.
    at(&[450, 550], 4, 2, 1, &["receiving mail"], Means::Waits, SENT_TOO_MUCH),
    at(&[450, 550], 5, 2, 1, &["receiving mail"], Means::Waits, SENT_TOO_MUCH),
    at(&[], 5, 2, 121, &[], Means::Waits, SENT_TOO_MUCH),
    at(&[], 5, 2, 122, &[], Means::Waits, SENT_TOO_MUCH),
    text(&[432], &["recipient thread limit"], Means::Waits, SENT_TOO_MUCH),
    at(&[452], 4, 5, 3, &[], Means::Waits, TOO_MANY_RECIPIENTS),
    // RFC 5321 section 4.5.3.1.10: 552 for this is an old mistake.
    text(&[452, 550, 552, 554], &["too many recipients"], Means::Waits, TOO_MANY_RECIPIENTS),
    at(&[452], 4, 2, 2, &[], Means::Recipient, MAILBOX_FULL),
    at(P, 5, 2, 2, &[], Means::Recipient, MAILBOX_FULL),
    at(&[552], 5, 7, 0, &[], Means::Recipient, "the provider forbids this kind of attachment"),
    at(&[452], 4, 3, 4, &[], Means::Recipient, TOO_LARGE),
    at(&[], 5, 3, 4, &[], Means::Recipient, TOO_LARGE),
    at(&[], 5, 2, 3, &[], Means::Recipient, TOO_LARGE),
    // Limits of the account.
    at(&[550], 5, 4, 5, &[], Means::Quota, DAY),
    at(&[450], 4, 2, 1, &["relay limit"], Means::Quota, SOME_HOURS),
    at(&[550], 5, 1, 90, &[], Means::Quota, DAY),
    at(&[], 5, 7, 232, &[], Means::Quota, DAY),
    at(&[], 5, 7, 233, &[], Means::Quota, DAY),
    at(&[550], 5, 7, 705, &[], Means::Quota, LOCKED),
    at(&[550], 5, 1, 8, &["bad outbound sender"], Means::Quota, LOCKED),
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
        "the provider does not trust the public address of this uplink yet: have the provider release it, or use another uplink",
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
    text(&[], &["hourly", "limit"], Means::Quota, SOME_HOURS),
    text(&[], &["exceeded", "per hour"], Means::Quota, SOME_HOURS),
    // Throttling.
    at(&[432], 4, 3, 2, &[], Means::Throttled, SLOWER),
    text(&[421, 450, 451], &["concurrent"], Means::Throttled, SLOWER),
    at(&[421], 4, 4, 2, &["submission rate"], Means::Throttled, SLOWER),
    at(&[], 4, 4, 5, &[], Means::Throttled, SLOWER),
    at(&[451], 4, 7, 500, &[], Means::Throttled, SLOWER),
    at(&[451], 4, 7, 650, &[], Means::Throttled, SLOWER),
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
    text(P, &["client host", "blocked"], Means::Quota, BLOCK_LIST),
    text(P, &["spamhaus"], Means::Quota, BLOCK_LIST),
    // Out of order. RFC 3463 section 3.4: mail system full, system not accepting messages.
    text(&[451], &["resources temporarily unavailable"], Means::Outage, LATER),
    at(&[], 5, 3, 1, &[], Means::Outage, LATER),
    at(&[], 5, 3, 2, &[], Means::Outage, LATER),
    // Senders.
    at(P, 5, 2, 252, &[], Means::Sender, OWN_ADDRESS),
    at(P, 5, 7, 60, &[], Means::Sender, OWN_ADDRESS),
    text(P, &["sendasdenied"], Means::Sender, OWN_ADDRESS),
    text(P, &["sender address", "not allowed"], Means::Sender, OWN_ADDRESS),
    text(P, &["sender address rejected"], Means::Sender, OWN_ADDRESS),
    text(P, &["not owned by"], Means::Sender, OWN_ADDRESS),
    text(P, &["mail from must equal"], Means::Sender, OWN_ADDRESS),
    text(&[553], &["relaying disallowed"], Means::Sender, OWN_ADDRESS),
    text(
        &[554],
        &["address is not verified"],
        Means::Sender,
        "have the address confirmed at the provider, or set option from to one that is",
    ),
    // Relaying without a login.
    text(P, &["relay", "denied"], Means::Login, NO_LOGIN),
    text(P, &["relay not permitted"], Means::Login, NO_LOGIN),
    text(P, &["relaying", "not allowed"], Means::Login, NO_LOGIN),
    // The recipient and the text.
    at(&[], 5, 1, 1, &[], Means::Recipient, NO_SUCH_ADDRESS),
    at(&[], 5, 1, 10, &[], Means::Recipient, NO_SUCH_ADDRESS),
    at(
        &[],
        5,
        1,
        2,
        &[],
        Means::Recipient,
        "the domain of the recipient does not exist, check the address in the device",
    ),
    at(&[550], 5, 4, 1, &[], Means::Recipient, NO_SUCH_ADDRESS),
    text(
        &[550, 552, 554],
        &["spam"],
        Means::Recipient,
        "the provider takes the text for spam: give the device a clear subject and a normal text",
    ),
    text(&[552], &[], Means::Recipient, TOO_LARGE),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Replies as the providers document them, and what they mean.
    #[test]
    fn documented_replies_are_known() {
        use Means::*;
        for (line, means) in [
            ("550 5.4.5 Daily user sending limit exceeded. For more information on Gmail", Some(Quota)),
            (
                "550 5.1.90 Your message can't be sent because you've reached your daily limit for recipients",
                Some(Quota),
            ),
            ("550 5.2.121 Exceeded the number of messages from a sender per hour", Some(Waits)),
            ("550 5.2.122 The recipient has exceeded their limit for the number of messages per hour", Some(Waits)),
            ("550 5.7.705 Access denied, tenant has exceeded threshold", Some(Quota)),
            ("550 5.7.708 Access denied, traffic not accepted from this IP", Some(Quota)),
            ("550 5.7.232 trial tenant has exceeded its daily limit", Some(Quota)),
            ("550 5.7.233 tenant exceeded its daily limit for external recipients", Some(Quota)),
            ("454 4.7.0 Too many login attempts, please try again later. - gsmtp", Some(Throttled)),
            ("454 4.7.0 Cannot authenticate due to temporary system problem.", Some(Outage)),
            ("421 4.7.0 Try again later, closing connection.", Some(Throttled)),
            ("421 4.7.0 Temporary System Problem. Try again later.", Some(Outage)),
            ("421 4.4.5 Server busy, try again later.", Some(Throttled)),
            ("451 4.7.500 Server busy. Please try again later", Some(Throttled)),
            ("451 4.7.650 The mail server has been temporarily rate limited", Some(Throttled)),
            ("432 4.3.2 Concurrent connections limit exceeded", Some(Throttled)),
            ("432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded", Some(Waits)),
            ("421 4.3.2 The maximum number of concurrent connections has exceeded a limit", Some(Throttled)),
            ("421 4.7.0 [TSS04] Messages temporarily deferred due to unexpected volume", Some(Throttled)),
            ("451 Resources temporarily unavailable. Please try again later [#4.16.5].", Some(Outage)),
            ("450 Mail send limit exceeded.", Some(Quota)),
            ("550 Send quota exceeded", Some(Quota)),
            ("550 5.7.1 Your mail limit has been reached.", Some(Quota)),
            ("550 Domain plant.example has exceeded the max emails per hour (200/200)", Some(Quota)),
            ("452 4.5.3 Your message has too many recipients.", Some(Waits)),
            ("552 Too many recipients", Some(Waits)),
            ("450 4.2.1 The user you are trying to contact is receiving mail too quickly.", Some(Waits)),
            ("550 5.2.1 The user you are trying to contact is receiving mail at a rate that", Some(Waits)),
            ("534 5.7.9 Application-specific password required.", Some(Login)),
            ("534 5.7.14 Please log in through your web browser", Some(Login)),
            ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled", Some(Login)),
            ("535 5.7.8 Username and Password not accepted.", Some(Login)),
            ("530 5.7.0 Must issue a STARTTLS command first", Some(Setup)),
            ("538 5.7.11 Encryption required for requested authentication mechanism", Some(Setup)),
            ("550 5.7.0 Mail relay denied", Some(Login)),
            ("554 5.7.1 <x@y.z>: Relay access denied", Some(Login)),
            ("554 5.2.252 SendAsDenied; x not allowed to send as y", Some(Sender)),
            ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", Some(Sender)),
            ("550 Sender address is not allowed.", Some(Sender)),
            ("553 5.7.1 <a@b.c>: Sender address rejected: not owned by user d", Some(Sender)),
            ("552 5.2.2 The email account that you tried to reach is over quota.", Some(Recipient)),
            ("452 4.2.2 The email account that you tried to reach is over quota.", Some(Recipient)),
            ("552 5.3.4 Message size exceeds fixed limit", Some(Recipient)),
            ("552 message size exceeds limit", Some(Recipient)),
            ("554 5.2.3 message too large for this recipient", Some(Recipient)),
            ("550 5.1.1 No such user", Some(Recipient)),
            ("554 5.3.2 System not accepting network messages", Some(Outage)),
            ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using list.example", Some(Quota)),
            ("451 4.7.1 greylisted", None),
            ("550 5.7.1 The rules forbid it", None),
            ("250 2.0.0 ok", None),
        ] {
            let found = find(&Reply::from_line(line));
            assert_eq!(found.map(|row| row.means), means, "{line}");
        }
    }

    /// The table as `docs/replies.md` shows it: rows with the same meaning and remedy in one.
    fn for_people() -> String {
        let mut rows: Vec<(Means, &str, Vec<String>)> = Vec::new();
        for known in KNOWN {
            let codes = known.codes.iter().map(u16::to_string).collect::<Vec<_>>().join("/");
            let status = known.status.map(|[a, b, c]| format!("{a}.{b}.{c}")).unwrap_or_default();
            let words: Vec<String> = known.words.iter().map(|word| format!("“{word}”")).collect();
            let reply = [codes, status, words.join(" ")].join(" ");
            let reply = reply.split_whitespace().collect::<Vec<_>>().join(" ");
            match rows.iter_mut().find(|(means, remedy, _)| (*means, *remedy) == (known.means, known.remedy)) {
                Some((.., replies)) => replies.push(reply),
                None => rows.push((known.means, known.remedy, vec![reply])),
            }
        }
        let line = |(means, remedy, replies): &(Means, &str, Vec<String>)| {
            let what = match means {
                Means::Recipient => "4xx waits, 5xx fails",
                Means::Waits => "this recipient waits",
                Means::Login => "login: pause",
                Means::Setup => "settings: pause",
                Means::Sender => "sender: pause, or fails",
                Means::Quota | Means::Throttled => "limit: pause",
                Means::Outage => "outage: pause",
            };
            format!("| {} | {what} | {remedy} |\n", replies.join("; "))
        };
        rows.iter().map(line).collect()
    }

    #[test]
    fn the_page_for_people_shows_this_table() {
        let page = include_str!("../../docs/replies.md");
        let table = for_people();
        assert!(page.contains(&table), "docs/replies.md should have these lines:\n{table}");
    }

    #[test]
    fn every_row_can_be_met_and_says_what_to_do() {
        for row in KNOWN {
            assert!(!row.remedy.is_empty() && !row.remedy.ends_with('.'), "{row:?}");
            assert!(row.words.iter().all(|word| *word == word.to_ascii_lowercase()), "{row:?}");
            assert!(row.codes.iter().all(|code| (400..600).contains(code)), "{row:?}");
            let code = row.codes.first().copied().or(row.status.map(|[class, ..]| class * 100 + 50)).unwrap_or(550);
            let status = row.status.map(|[a, b, c]| format!("{a}.{b}.{c} ")).unwrap_or_default();
            let line = format!("{code} {status}{}", row.words.join(" and "));
            let first = find(&Reply::from_line(&line)).unwrap_or_else(|| panic!("{line}"));
            assert!(std::ptr::eq(first, row), "{row:?} is hidden by {first:?}");
        }
    }
}

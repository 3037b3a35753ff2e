// SPDX-License-Identifier: Apache-2.0
//! The table compared with what providers document, with itself, with the page in the docs, and with replies of real
//! servers as posted in public: `tests/data/replies.json` has each with its source and the exact sentence that results
//! from it. New ones are added there.

use serde_json::Value;

use super::super::verdict::{Judged, Stage, Verdict, judge};
use super::*;

/// Replies as the providers document them, and what they mean.
#[test]
fn documented_replies_are_known() {
    use Means::*;
    for (line, means) in [
        ("550 5.4.5 Daily user sending limit exceeded. For more information on Gmail", Some(Quota)),
        ("550 5.1.90 Your message can't be sent because you've reached your daily limit for recipients", Some(Quota)),
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
        ("451 Resources temporarily not available - Please try again later", Some(Throttled)),
        ("451 4.7.651 The mail server has been temporarily rate limited", Some(Throttled)),
        ("451 4.7.0 Temporary server error. Please try again later. PRX4", Some(Outage)),
        ("550 5.7.606 Access denied, banned sending IP [192.0.2.1]", Some(Quota)),
        ("550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains", Some(Sender)),
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
        ("554 5.2.2 Submission quota exceeded for the sender", Some(Quota)),
        ("554 Message rejected: Sending paused for this account. For more information", Some(Quota)),
        ("550 5.7.30 Basic authentication is not supported for Client Submission.", Some(Login)),
        ("550 5.7.30 This mail has been blocked because DKIM does not pass.", None),
        ("451 4.7.1 greylisted", None),
        ("550 5.7.1 The rules forbid it", None),
        ("250 2.0.0 ok", None),
    ] {
        let found = find(&Reply::from_line(line));
        assert_eq!(found.map(|row| row.means), means, "{line}");
    }
}

/// The table as `docs/reference/replies.md` shows it: rows with the same meaning and remedy in one.
fn for_people() -> String {
    let mut rows: Vec<(Means, &str, Vec<String>)> = Vec::new();
    for known in KNOWN {
        let codes = known.codes.iter().map(u16::to_string).collect::<Vec<_>>().join("/");
        let class = |class: u16| if class == 0 { "X".into() } else { class.to_string() };
        let status = known.status.map(|[a, b, c]| format!("{}.{b}.{c}", class(a))).unwrap_or_default();
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
            Means::Recipient => "4xx is deferred, 5xx fails",
            Means::Waits => "this recipient is deferred",
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
    let page = include_str!("../../../docs/reference/replies.md");
    let table = for_people();
    assert!(page.contains(&table), "docs/reference/replies.md should have these lines:\n{table}");
}

#[test]
fn every_row_can_be_met_and_says_what_to_do() {
    for row in KNOWN {
        assert!(!row.remedy.is_empty() && !row.remedy.ends_with('.'), "{row:?}");
        assert!(row.words.iter().all(|word| *word == word.to_ascii_lowercase()), "{row:?}");
        assert!(row.codes.iter().all(|code| (400..600).contains(code)), "{row:?}");
        let classes = match row.status {
            Some([0, ..]) => vec![4, 5],
            Some([class, ..]) => vec![class],
            None => vec![5],
        };
        for class in classes {
            let code = row.codes.first().copied().unwrap_or(class * 100 + 50);
            let status = row.status.map(|[_, b, c]| format!("{class}.{b}.{c} ")).unwrap_or_default();
            let line = format!("{code} {status}{}", row.words.join(" and "));
            let first = find(&Reply::from_line(&line)).unwrap_or_else(|| panic!("{line}"));
            // Of a general status a class may have a row of its own.
            let own = |known: &Known| row.status.is_some_and(|[class, ..]| class == 0) && known.status.is_some();
            assert!(std::ptr::eq(first, row) || own(first), "{row:?} is hidden by {first:?}");
        }
    }
}

/// Replies that are distinguished by status, text and code, in this order.
#[test]
fn the_status_counts_before_the_text_and_that_before_the_code() {
    use Means::*;
    for (line, means) in [
        ("552 5.5.3 Too many recipients", Some(Waits)),
        ("552 5.5.3 Error", Some(Waits)),
        ("550 5.5.3 Error", Some(Waits)),
        ("452 4.5.3 Error", Some(Waits)),
        ("552 5.2.0 Message contains bare CR and is violating 822.bis section 2.3", None),
        ("552 5.7.0 Our system detected an illegal attachment", Some(Recipient)),
        ("552 5.6.0 Headers too large", Some(Recipient)),
        ("552 5.0.0 no", Some(Recipient)),
        ("552 no", Some(Recipient)),
        ("451 5.7.3 STARTTLS is required to send mail", Some(Setup)),
        ("554 5.7.10 Encryption needed", Some(Setup)),
        ("454 4.7.0 STARTTLS not available due to temporary reason", None),
        ("503 5.5.1 AUTH first", Some(Login)),
        ("503 This mail server requires authentication when attempting to send", Some(Login)),
        ("451 5.7.8 no", Some(Login)),
        ("503 5.5.1 Bad sequence of commands", None),
        // An address is not text.
        ("550 5.7.1 <daily-limit@example.com>: no", None),
        ("550 5.1.1 <spam@example.com> daily limit of unknown user", Some(Recipient)),
        ("450 4.1.2 <x@y.z>: Domain not found, too many messages", Some(Recipient)),
        ("554 5.4.6 Too many hops", Some(Recipient)),
    ] {
        assert_eq!(find(&Reply::from_line(line)).map(|row| row.means), means, "{line}");
    }
    for (line, many) in [
        ("552 5.5.3 x", true),
        ("452 4.5.3 x", true),
        ("550 too many rcpt to", true),
        ("452 4.5.3 Too many recipients in this session", true),
        ("452 4.5.3 Too many messages sent", false),
        ("550 5.5.3 session limit reached", false),
        ("552 5.2.0 bare CR", false),
        ("552 x", false),
    ] {
        assert_eq!(is_too_many(&Reply::from_line(line)), many, "{line}");
    }
}

/// A status of the sender's domain counts before the word spam.
#[test]
fn a_domain_that_cannot_be_verified_is_not_spam() {
    for (line, remedy) in [
        ("550 5.7.23 SPF fail, classified as spam", NOT_PROVEN),
        ("550 5.7.25 no PTR, looks like spam", NOT_PROVEN),
        ("421 4.7.26 unauthenticated, rate limited", NOT_PROVEN),
        ("550 5.7.26 unauthenticated, see the spam rules", NOT_VOUCHED),
        ("550 5.7.27 null MX, spam", OWN_ADDRESS),
        ("550 5.1.8 spam source", OWN_ADDRESS),
        ("550 5.7.1 spam", SPAM),
    ] {
        assert_eq!(find(&Reply::from_line(line)).map(|row| row.remedy), Some(remedy), "{line}");
    }
}

/// What may come from a missing login, at MAIL and at RCPT.
#[test]
fn a_missing_login_has_many_words() {
    for (line, at_mail, at_rcpt) in [
        ("553 Relaying disallowed", true, true),
        ("554 5.7.1 <plc@example.com>: Sender address rejected: Access denied", true, true),
        ("554 Message rejected due to policy restrictions", true, true),
        ("550 This looks like spam, please sign on", true, true),
        ("550 5.7.27 no", true, true),
        ("501 5.7.1 Not permitted", true, true),
        ("502 5.5.1 Not implemented", true, false),
        ("500 What?", true, false),
        ("503 Bad sequence of commands", true, true),
        ("503 Not now", true, false),
        ("421 Too many invalid commands", true, true),
        ("530 5.7.0 Authentication required", true, true),
        ("550 No", true, true),
        // Clearly about something else.
        ("421 Try later", false, false),
        ("450 4.7.1 Greylisted", false, false),
        ("550 5.1.1 No such user", false, false),
        ("553 5.1.8 <plc@nowhere>: Sender address rejected: Domain not found", false, false),
        ("501 5.5.4 Syntax", false, false),
        ("552 5.3.4 Too large", false, false),
        ("550 5.7.708 Access denied", false, false),
        ("550 5.5.3 Too many recipients", false, false),
        ("452 4.3.1 Full", false, false),
    ] {
        let reply = Reply::from_line(line);
        assert_eq!((may_miss_login(&reply, true), may_miss_login(&reply, false)), (at_mail, at_rcpt), "{line}");
    }
}

/// What a new connection may avoid.
#[test]
fn a_limit_may_be_of_the_connection() {
    for (line, expected) in [
        ("421 x", true),
        ("452 4.5.3 Too many messages sent", true),
        ("550 5.5.3 session limit reached", true),
        ("451 4.3.0 Later", true),
        ("451 4.3.2 Later", true),
        ("451 4.7.1 session quota", true),
        ("550 5.7.1 Too many messages on this connection", true),
        ("452 4.3.4 Too large", false),
        ("552 5.3.4 Too large", false),
        ("450 4.2.0 Greylisted", false),
        ("550 5.1.1 No", false),
        ("550 No", false),
    ] {
        assert_eq!(is_of_connection(&Reply::from_line(line)), expected, "{line}");
    }
}

const REPLIES: &str = include_str!("../../../tests/data/replies.json");

fn list() -> Vec<Value> {
    serde_json::from_str(REPLIES).unwrap()
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().unwrap_or_else(|| panic!("{field} of {entry}"))
}

/// The reply as received from the server.
fn reply(entry: &Value) -> Reply {
    let lines: Vec<&str> = entry["reply"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    Reply::from_line(&lines.join("\r\n"))
}

fn stage(entry: &Value) -> Stage {
    match text(entry, "stage") {
        "opening" => Stage::Opening,
        "login" => Stage::Login,
        "own_sender" => Stage::OwnSender,
        "sender" => Stage::Sender,
        "recipient" => Stage::Recipient { own_sender: false },
        "own_recipient" => Stage::Recipient { own_sender: true },
        "text" => Stage::Text { own_sender: false },
        "own_text" => Stage::Text { own_sender: true },
        other => panic!("{other}"),
    }
}

/// The result for the mail, and the sentence.
fn judged(entry: &Value) -> (String, String) {
    match judge(&reply(entry), text(entry, "host"), stage(entry)) {
        Judged::Message(verdict @ Verdict::Deferred(_)) => ("deferred".into(), verdict.text()),
        Judged::Message(verdict @ Verdict::Failed(_)) => ("failed".into(), verdict.text()),
        Judged::Message(Verdict::Delivered(text)) => ("delivered".into(), text),
        Judged::Account(trouble) => (format!("{:?}", trouble.kind).to_lowercase(), trouble.reason()),
    }
}

#[test]
fn real_replies_are_explained_in_these_words() {
    let list = list();
    let mut wrong = Vec::new();
    for entry in &list {
        let (verdict, says) = judged(entry);
        if (verdict.as_str(), says.as_str()) != (text(entry, "verdict"), text(entry, "says")) {
            wrong.push(format!("{} {}: {verdict}: {says}", text(entry, "who"), text(entry, "stage")));
        }
        assert!(text(entry, "source").starts_with("https://"), "{entry}");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), list.len(), wrong.join("\n"));
    assert!(list.len() >= 60, "{}", list.len());
}

#[test]
fn most_of_them_have_a_remedy_of_their_own_and_the_others_pass_word_by_word() {
    let (known, unknown): (Vec<Value>, Vec<Value>) =
        list().into_iter().partition(|entry| find(&reply(entry)).is_some());
    assert!(known.len() >= 60, "{}", known.len());
    for entry in &known {
        let remedy = find(&reply(entry)).unwrap().remedy;
        assert!(text(entry, "says").contains(remedy), "{entry}");
    }
    for entry in &unknown {
        // The full text is there, up to where every sentence is cut.
        let said = reply(entry).to_string();
        assert!(text(entry, "says").contains(&format!(": {said}")), "{entry}");
    }
}

proptest::proptest! {
    #[test]
    fn what_nobody_knows_passes_word_by_word(code in 400u16..600, words in "[a-z]{3,12}( [0-9a-z]{1,12}){0,8}") {
        let line = format!("{code} zqx {words}");
        for stage in [Stage::Opening, Stage::Login, Stage::OwnSender, Stage::Recipient { own_sender: true }] {
            let said = match judge(&Reply::from_line(&line), "mx", stage) {
                Judged::Message(verdict) => verdict.text(),
                Judged::Account(trouble) => trouble.reason(),
            };
            proptest::prop_assert!(said.contains(&line), "{said}");
        }
    }
}

#[test]
fn what_the_gateway_adds_to_a_reply_is_told_from_it() {
    for row in KNOWN.iter().filter(|row| !row.remedy.is_empty()) {
        let reason = format!("mx said: 451 4.7.1 one; two; {}; it is deferred and will be retried", row.remedy);
        assert_eq!(without_advice(&reason), "mx said: 451 4.7.1 one; two", "{reason}");
    }
    for plain in ["mx refused it: 550 5.1.1 no; such user", "", "mail waits"] {
        assert_eq!(without_advice(plain), plain);
    }
}

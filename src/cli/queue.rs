// SPDX-License-Identifier: Apache-2.0
//! The queue as a list: which messages, and how they are printed.

use serde_json::Value;

use super::table::{ago, bytes, count, device, local, short_subject, table};
use super::{list, text};

/// Which messages of the queue are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Address of the device, or its section.
    pub device: Option<String>,
    /// A recipient, or the domain of one.
    pub recipient: Option<String>,
    /// An account that the message may be sent through.
    pub account: Option<String>,
    /// Seconds that it has waited at least.
    pub older: Option<u64>,
    /// Seconds that it has waited at most.
    pub newer: Option<u64>,
}

impl Filter {
    /// Whether everything is listed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this message is listed. One whose file cannot be read is, unless something of it is asked for.
    pub fn admits(&self, message: &Value) -> bool {
        let same = |wanted: &String, found: &str| wanted.eq_ignore_ascii_case(found);
        let device = |wanted| ["client", "device", "section"].iter().any(|name| same(wanted, text(message, name)));
        let address = |wanted: &String, found: &str| {
            let domain = found.rsplit_once('@').map(|(_, domain)| domain).unwrap_or_default();
            same(wanted, found) || same(&wanted.trim_start_matches('@').to_string(), domain)
        };
        let recipient =
            |wanted| list(message, "recipients").iter().any(|known| address(wanted, text(known, "address")));
        let account =
            |wanted| list(message, "accounts").iter().filter_map(Value::as_str).any(|known| same(wanted, known));
        let age = message.get("age").and_then(Value::as_u64);
        self.device.as_ref().is_none_or(device)
            && self.recipient.as_ref().is_none_or(recipient)
            && self.account.as_ref().is_none_or(account)
            && self.older.is_none_or(|least| age.is_some_and(|age| age >= least))
            && self.newer.is_none_or(|most| age.is_some_and(|age| age <= most))
    }
}

/// Reasons, each of them once, with the number of messages that have it.
#[derive(Default)]
struct Reasons(Vec<(String, u64)>);

impl Reasons {
    /// The mark for this reason.
    fn mark(&mut self, reason: &str) -> String {
        if reason.is_empty() {
            return String::new();
        }
        let place = self.0.iter().position(|(known, _)| known == reason).unwrap_or_else(|| {
            self.0.push((reason.into(), 0));
            self.0.len() - 1
        });
        if let Some((_, times)) = self.0.get_mut(place) {
            *times += 1;
        }
        format!("[{}]", place + 1)
    }
}

/// The queue as a table, one line for each recipient, and the reasons below. `health` is the last line, `all` the number
/// of messages that are queued.
pub fn show(messages: &[Value], all: usize, health: &str) -> String {
    if all == 0 {
        return "Mail queue is empty\n".into();
    }
    let (mut rows, mut reasons) = (Vec::new(), Reasons::default());
    for message in messages {
        rows_of(message, &mut rows, &mut reasons);
    }
    let mut out = String::new();
    if !rows.is_empty() {
        let names = ["ID", "AGE>", "SIZE>", "SENDER", "DEVICE", "RECIPIENT", "STATE", "NEXT", "WHY", "SUBJECT"];
        // Without a subject in any row the column is left out.
        let shown = if rows.iter().any(|row| row.len() == names.len()) {
            &names[..]
        } else {
            names.split_last().map_or(&names[..], |(_, rest)| rest)
        };
        out += &table(shown, &rows);
        out.push('\n');
    }
    for (place, (reason, times)) in reasons.0.iter().enumerate() {
        let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
        out += &format!("[{}] {reason}{times}\n", place + 1);
    }
    let number = |n: usize| count(u64::try_from(n).unwrap_or(u64::MAX), "message");
    out + &match messages.len() == all {
        true => format!("{} waiting\n{health}\n", number(all)),
        false => format!("{} of {} waiting\n{health}\n", messages.len(), number(all)),
    }
}

fn rows_of(message: &Value, rows: &mut Vec<Vec<String>>, reasons: &mut Reasons) {
    let cell = |name| text(message, name).to_string();
    if message.get("error").is_some_and(Value::is_string) {
        let mut row = vec![cell("id")];
        row.resize(6, String::new());
        row.extend(["damaged".into(), String::new(), reasons.mark(text(message, "error"))]);
        rows.push(row);
        return;
    }
    let mut subject = Some(short_subject(message)).filter(|subject| !subject.is_empty());
    let age = message.get("age").and_then(Value::as_u64).map_or("unknown".into(), ago);
    let size = message.get("size").and_then(Value::as_u64).map_or(String::new(), bytes);
    let device = device(message);
    let mut head = vec![cell("id"), age, size, format!("<{}>", text(message, "from")), device];
    let (why, recipients) = (text(message, "why"), list(message, "recipients"));
    // The reason of a message is often the reply to one of its recipients; then each has its own.
    let own = recipients.iter().any(|recipient| text(recipient, "reply") == why);
    let wait = message.get("next").and_then(Value::as_u64).map(|next| format!("in {}", ago(next))).unwrap_or_default();
    let wait = match step(message) {
        Some(step) if wait.is_empty() => step,
        Some(step) => format!("{wait}, {step}"),
        None => wait,
    };
    // The same reason of several recipients is one of the message.
    let mut marks: Vec<(String, String)> = Vec::new();
    for recipient in recipients {
        let (state, reply) = (text(recipient, "state"), text(recipient, "reply"));
        let waits = state == "waiting";
        let reason = if waits && (!own || reply.is_empty()) { why } else { reply };
        let mark = match marks.iter().find(|(known, _)| known == reason) {
            Some((_, mark)) => mark.clone(),
            None => {
                let mark = reasons.mark(reason);
                marks.push((reason.into(), mark.clone()));
                mark
            }
        };
        let state = match text(message, "standing") {
            "held" if waits => "held",
            "sending" if waits => "sending",
            _ => state,
        };
        let next = if waits { wait.clone() } else { String::new() };
        let mut row = std::mem::take(&mut head);
        row.resize(5, String::new());
        row.extend([format!("<{}>", text(recipient, "address")), state.into(), next, mark]);
        row.extend(subject.take());
        rows.push(row);
    }
}

/// The step of its escalation that begins next, and when.
fn step(message: &Value) -> Option<String> {
    let step = message.get("escalation")?.get("step").filter(|step| step.is_object())?;
    let wait = step.get("next").and_then(Value::as_u64).unwrap_or_default();
    Some(format!("{} in {}", text(step, "account"), ago(wait)))
}

/// One message with its header and history, and its text if that was asked for.
pub fn message(message: &Value) -> String {
    let number = |name| message.get(name).and_then(Value::as_u64);
    let arrived = message.get("arrived").and_then(Value::as_i64).map(local).unwrap_or_default();
    let mut out = format!(
        "{}  accepted {arrived}, {}, from device {}\nsender <{}>\n",
        text(message, "id"),
        bytes(number("size").unwrap_or(0)),
        device(message),
        text(message, "from")
    );
    let recipients = list(message, "recipients");
    for recipient in recipients {
        out += &result(text(recipient, "address"), recipient);
    }
    out += &format!("{}\n", text(message, "why"));
    out.extend(number("next").map(|next| format!("next attempt in {}\n", ago(next))));
    if let Some(escalation) = message.get("escalation") {
        let tried: Vec<&str> = list(escalation, "tried").iter().filter_map(Value::as_str).collect();
        if !tried.is_empty() {
            out += &format!("escalated to {}, which has not taken it yet\n", tried.join(", "));
        }
        out.extend(step(message).map(|step| format!("next step of the escalation: {step}\n")));
    }
    out.push_str("\nHistory:\n");
    for note in list(message, "history") {
        let at = note.get("at").and_then(Value::as_i64).map(local).unwrap_or_default();
        out += &match text(note, "account") {
            "" => format!("  {at} {}\n", text(note, "what")),
            account => format!("  {at} {}, {account}: {}\n", text(note, "what"), text(note, "reply")),
        };
        for attempt in list(note, "results") {
            let place = attempt.get("recipient").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
            let address = place.and_then(|place| recipients.get(place)).map(|known| text(known, "address"));
            out += &result(address.unwrap_or_default(), attempt);
        }
    }
    let plain = |name: &str| text(message, name).replace("\r\n", "\n");
    out += &format!("\n{}\n", plain("header").trim_end());
    if message.get("body").is_some() {
        out += &format!("\n{}\n", plain("body").trim_end());
    }
    if message.get("cut") == Some(&Value::Bool(true)) {
        out.push_str("… the rest of the text is not shown\n");
    }
    out
}

fn result(address: &str, result: &Value) -> String {
    match text(result, "reply") {
        "" => format!("    <{address}> {}\n", text(result, "state")),
        reply => format!("    <{address}> {}: {reply}\n", text(result, "state")),
    }
}

/// The queue as `postqueue -j` of Postfix prints it: one object a line, with its names and their order.
pub fn postfix(messages: &[Value]) -> String {
    let mut out = String::new();
    for message in messages.iter().filter(|message| message.get("error").is_none_or(Value::is_null)) {
        let name = match text(message, "standing") {
            "held" => "hold",
            "sending" => "active",
            // Only a gateway that is running has a schedule.
            _ if message.get("held") == Some(&Value::Bool(true)) => "hold",
            _ => "deferred",
        };
        let quoted = |text: &str| Value::from(text).to_string();
        // Postfix has this in place of the null sender, and only recipients that are still waiting.
        let sender = if text(message, "from").is_empty() { "MAILER-DAEMON" } else { text(message, "from") };
        let waits = |recipient: &&Value| text(recipient, "state") == "waiting";
        let recipients: Vec<String> = list(message, "recipients")
            .iter()
            .filter(waits)
            .map(|recipient| {
                let why = if text(recipient, "reply").is_empty() { message } else { recipient };
                let why = if text(why, "reply").is_empty() { text(why, "why") } else { text(why, "reply") };
                let reason = match name {
                    "active" => String::new(),
                    _ => format!(", \"delay_reason\": {}", quoted(why)),
                };
                format!("{{\"address\": {}{reason}}}", quoted(text(recipient, "address")))
            })
            .collect();
        let number = |name| message.get(name).and_then(Value::as_i64).unwrap_or(0);
        out += &format!(
            "{{\"queue_name\": \"{name}\", \"queue_id\": {}, \"arrival_time\": {}, \"message_size\": {}, \"forced_expire\": false, \"sender\": {}, \"recipients\": [{}]}}\n",
            quoted(text(message, "id")),
            number("arrived"),
            number("size"),
            quoted(sender),
            recipients.join(", ")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages() -> Vec<Value> {
        let one = |n: u64, to: &str| {
            json!({ "id": format!("ID{n}"), "age": n * 3600, "arrived": 0, "size": 5120, "client": "10.0.0.7",
                "device": "pump", "from": "", "standing": "later", "next": 90, "accounts": ["gmail"],
                "why": "mx is away", "recipients": [{ "address": to, "state": "waiting", "reply": "mx is away" }] })
        };
        (1..=3).map(|n| one(n, if n == 3 { "b@x.org" } else { "a@example.com" })).collect()
    }

    #[test]
    fn a_reason_stands_once_and_columns_are_even() {
        let text = show(&messages(), 3, "Not relaying.");
        assert_eq!(text.matches("mx is away").count(), 1, "{text}");
        assert!(text.contains("\n[1] mx is away (3 times)\n3 messages waiting\nNot relaying.\n"), "{text}");
        let column = text.find("STATE").unwrap();
        for line in text.lines().skip(1).take(3) {
            assert_eq!(line.get(column..column + 18), Some("waiting  in 1m 30s"), "{text}");
        }
        assert!(text.contains("  2h  5 KB  <>"), "{text}");
        assert_eq!(show(&[], 0, ""), "Mail queue is empty\n");
        assert_eq!(show(&[], 3, "Relaying."), "0 of 3 messages waiting\nRelaying.\n");
    }

    #[test]
    fn what_is_asked_for_is_listed() {
        let text = |text: &str| Some(text.to_string());
        let all = messages();
        for (filter, ids) in [
            (Filter::default(), &["ID1", "ID2", "ID3"][..]),
            (Filter { device: text("PUMP"), ..Filter::default() }, &["ID1", "ID2", "ID3"]),
            (Filter { device: text("10.0.0.7"), ..Filter::default() }, &["ID1", "ID2", "ID3"]),
            (Filter { device: text("10.0.0.8"), ..Filter::default() }, &[]),
            (Filter { recipient: text("B@x.org"), ..Filter::default() }, &["ID3"]),
            (Filter { recipient: text("@example.com"), ..Filter::default() }, &["ID1", "ID2"]),
            (Filter { account: text("gmail"), older: Some(7200), ..Filter::default() }, &["ID2", "ID3"]),
            (Filter { newer: Some(3600), ..Filter::default() }, &["ID1"]),
            (Filter { account: text("other"), ..Filter::default() }, &[]),
        ] {
            let found: Vec<&str> = all.iter().filter(|m| filter.admits(m)).map(|m| super::text(m, "id")).collect();
            assert_eq!(found, ids, "{filter:?}");
        }
    }

    #[test]
    fn postfix_would_print_it_so() {
        let lines = postfix(&messages()[..1]);
        assert_eq!(
            lines,
            "{\"queue_name\": \"deferred\", \"queue_id\": \"ID1\", \"arrival_time\": 0, \"message_size\": 5120, \
             \"forced_expire\": false, \"sender\": \"MAILER-DAEMON\", \"recipients\": [{\"address\": \
             \"a@example.com\", \"delay_reason\": \"mx is away\"}]}\n"
        );
        assert!(serde_json::from_str::<Value>(&lines).is_ok());
    }
}

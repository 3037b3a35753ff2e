// SPDX-License-Identifier: Apache-2.0
//! Replies of real servers as posted in public, each with its source, and the exact sentence that results from
//! it. `tests/data/replies.json` is the list; new ones are added there.

use serde_json::Value;

use super::super::reply::Reply;
use super::super::verdict::{Judged, Stage, Verdict, judge};
use super::find;

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

// SPDX-License-Identifier: Apache-2.0
//! The data of presets: a list in JSON, in which each entry stands in a line of its own and begins with its `id`.
//!
//! So one can be added with one line, and one can be found without parsing the others: on a slow processor, parsing all
//! providers took longer than everything else that the gateway does at its start.

use serde_json::Value;

/// How the line of an entry begins.
const ID: &str = "{\"id\":\"";

/// The lines of the entries.
pub fn lines(data: &'static str) -> impl Iterator<Item = &'static str> {
    data.lines().filter(|line| line.starts_with(ID))
}

/// The entry of a line.
pub fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line.strip_suffix(',').unwrap_or(line)).ok()
}

/// All entries.
pub fn all(data: &'static str) -> impl Iterator<Item = Value> {
    lines(data).filter_map(parse)
}

/// The entry with this name.
pub fn find(data: &'static str, id: &str) -> Option<Value> {
    if id.bytes().any(|byte| byte == b'"') {
        return None;
    }
    // Compared with the beginning of each line: to look for the end of its name would prepare a search each time.
    let rest = |line: &&'static str| line.strip_prefix(ID).and_then(|rest| rest.strip_prefix(id));
    parse(data.lines().find(|line| rest(line).is_some_and(|rest| rest.starts_with('"')))?)
}

/// The text that follows `field`, until the next quotation mark; empty if there is none.
pub fn text<'a>(line: &'a str, field: &str) -> &'a str {
    let rest = line.split_once(field).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_once('"')).map(|(text, _)| text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "{\"checked\":\"2026-01-01\",\"entries\":[\n\
        {\"id\":\"a\",\"domains\":\"a.example *.b\",\"port\":25},\n\
        {\"id\":\"ab\",\"sub\":{\"id\":\"c\"}}\n]}\n";

    #[test]
    fn an_entry_is_found_by_its_whole_name() {
        let port = |id: &str| find(DATA, id).map(|entry| entry.get("port").and_then(Value::as_u64));
        assert_eq!([port("a"), port("ab")], [Some(Some(25)), Some(None)]);
        for other in ["", "b", "c", "A", "abc", "a\",\"domains", "checked"] {
            assert_eq!(port(other), None, "{other}");
        }
        assert_eq!(all(DATA).count(), 2);
    }

    #[test]
    fn texts_are_taken_from_lines() {
        let all: Vec<&str> = lines(DATA).map(|line| text(line, "\"domains\":\"")).collect();
        assert_eq!(all, ["a.example *.b", ""]);
        assert_eq!(text(DATA, "\"checked\":\""), "2026-01-01");
    }
}

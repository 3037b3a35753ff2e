// SPDX-License-Identifier: Apache-2.0
//! How facts are written for people: tables, local times, sizes, numbers of things, colours.

use std::io::IsTerminal;
use std::mem::MaybeUninit;
use std::sync::Once;

use nix::libc;
use serde_json::Value;
use smtprelay::message::date;

use super::text;

/// Characters of a subject in a table.
const SUBJECT_WIDTH: usize = 40;

/// Lines with aligned columns, headed by `names`. A name that ends with `>` has its column aligned to the right.
pub fn table(names: &[&str], rows: &[Vec<String>]) -> String {
    let wide = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = names.iter().map(|name| wide(name.trim_end_matches('>'))).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(wide(cell));
        }
    }
    let head: Vec<String> = names.iter().map(|name| name.trim_end_matches('>').to_string()).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for ((cell, width), name) in row.iter().zip(&widths).zip(names) {
            let gap = " ".repeat(width.saturating_sub(wide(cell)));
            line += &if name.ends_with('>') { format!("{gap}{cell}  ") } else { format!("{cell}{gap}  ") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// The device of a message or result: its name and its address. A gateway that is running knows the name.
pub fn device(entry: &Value) -> String {
    let client = text(entry, "client");
    match (text(entry, "device"), text(entry, "section")) {
        ("", "" | "default") => client.into(),
        ("", name) | (name, _) => format!("{name} ({client})"),
    }
}

/// The subject of a message or result, cut off so that it leaves room for the other columns; `--json` has the rest.
pub fn short_subject(entry: &Value) -> String {
    let subject = text(entry, "subject");
    let short: String = subject.chars().take(SUBJECT_WIDTH).collect();
    if short.len() < subject.len() { format!("{}…", short.trim_end()) } else { short }
}

/// `2h 5m`: the two largest units are enough for people.
pub fn ago(seconds: u64) -> String {
    const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (unit, letter) in UNITS {
        if left >= unit {
            parts.push(format!("{}{letter}", left / unit));
            left %= unit;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.get(..2).unwrap_or(&parts).join(" ") }
}

/// `3.4 KB`.
pub fn bytes(number: u64) -> String {
    let (mut tenths, mut unit) = (number.saturating_mul(10), "B");
    for next in ["KB", "MB", "GB"] {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        rest => format!("{}.{rest} {unit}", tenths / 10),
    }
}

/// `1 message`, `2 messages`.
pub fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// A time as the clock on the wall of this host shows it: `2026-11-29 20:04:22`.
pub fn local(unix: i64) -> String {
    find_zone();
    // Of 32 bits with the musl of some targets, which libc marks for that.
    #[allow(deprecated, clippy::useless_conversion)]
    let Some(time) = libc::time_t::try_from(unix).ok() else { return date::rfc5322(unix) };
    let mut broken = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call, and the result is complete if it is not null.
    let tm = unsafe {
        if libc::localtime_r(&raw const time, broken.as_mut_ptr()).is_null() {
            return date::rfc5322(unix);
        }
        broken.assume_init()
    };
    format!(
        "{}-{:02}-{:02} {:02}:{:02}:{:02}",
        i64::from(tm.tm_year) + 1900,
        tm.tm_mon + 1,
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec
    )
}

/// OpenWrt keeps the time zone in a file of its own, which a C library that is not OpenWrt's does not know.
fn find_zone() {
    const OPENWRT: &str = "/etc/TZ";
    static FOUND: Once = Once::new();
    FOUND.call_once(|| {
        let known = std::env::var_os("TZ").is_some() || std::path::Path::new("/etc/localtime").exists();
        if !known && let Ok(zone) = std::fs::read_to_string(OPENWRT) {
            // SAFETY: a command prints its result when no other thread of it reads the environment.
            unsafe { std::env::set_var("TZ", zone.trim()) };
        }
    });
}

/// Colours of a terminal.
#[derive(Clone, Copy)]
pub enum Colour {
    /// What works.
    Green,
    /// What does not.
    Red,
}

/// `text` in this colour, if stdout is a terminal that shows colours and the user wants them (<https://no-color.org>).
pub fn paint(text: &str, colour: Colour) -> String {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let plain = unwanted || !std::io::stdout().is_terminal() || std::env::var_os("TERM").is_none_or(|t| t == "dumb");
    match (plain, colour) {
        (true, _) => text.to_string(),
        (false, Colour::Green) => format!("\x1b[32m{text}\x1b[0m"),
        (false, Colour::Red) => format!("\x1b[31m{text}\x1b[0m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_even() {
        let rows = [vec!["a".into(), "5".into(), "x".into()], vec!["löng".into(), "12345".into(), "y".into()]];
        assert_eq!(table(&["ID", "SIZE>", "WHY"], &rows), "ID     SIZE  WHY\na         5  x\nlöng  12345  y\n");
        assert_eq!(table(&["ID"], &[]), "ID\n");
    }

    #[test]
    fn times_sizes_and_numbers_are_short() {
        let shown: Vec<String> = [0, 59, 61, 3600, 3661, 90_061, 864_000].map(ago).into();
        assert_eq!(shown, ["0s", "59s", "1m 1s", "1h", "1h 1m", "1d 1h", "10d"]);
        let shown: Vec<String> = [0, 1023, 1024, 3500, 16 << 20, u64::MAX].map(bytes).into();
        assert_eq!(shown[..5], ["0 B", "1023 B", "1 KB", "3.4 KB", "16 MB"]);
        assert_eq!((count(1, "message"), count(0, "message")), ("1 message".into(), "0 messages".into()));
        // In every time zone of the host that runs this.
        let shown = local(1_795_982_662);
        assert!(shown.starts_with("2026-11-") && shown.len() == 19, "{shown}");
    }
}

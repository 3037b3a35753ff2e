// SPDX-License-Identifier: Apache-2.0
//! The subject of a message as the log, the history and the lists of the queue show it: readable, on one line, short.
//!
//! The queue does not keep it in memory: it is read from the file of each message that is listed, which is opened for
//! that anyway. Ten thousand queued messages therefore take no more memory than before.

use std::sync::atomic::{AtomicBool, Ordering};

use super::letter::{one_line, readable};
use crate::message::{encoded, header};
use crate::system::{cut, is_plain};

/// Bytes of a subject that are shown, before the `…` of a truncation.
pub const SUBJECT_SHOWN: usize = 100;
/// Bytes of the field that are decoded: encoded words are at most some five times as long as their text.
const RAW_LIMIT: usize = 1000;

/// Option `log_subject`, like the level of the log once per process: events happen in every part of the program.
static SHOWN: AtomicBool = AtomicBool::new(true);

/// Sets whether subjects are shown.
pub fn show(shown: bool) {
    SHOWN.store(shown, Ordering::Relaxed);
}

/// Whether subjects are shown.
pub fn is_shown() -> bool {
    SHOWN.load(Ordering::Relaxed)
}

/// The subject in `header`; empty if there is none, or if subjects are not shown.
pub fn of(header: &[u8]) -> String {
    if is_shown() { line(header) } else { String::new() }
}

fn line(header: &[u8]) -> String {
    let Some(field) = header::find(header, "Subject") else { return String::new() };
    let text = field.unfolded();
    // Most subjects need no work.
    if text.len() <= SUBJECT_SHOWN && is_plain(&text) && !text.contains(&b'?') {
        return String::from_utf8(text).unwrap_or_default();
    }
    let text = encoded::decode(&text).into_owned();
    let text = readable(cut(&text, RAW_LIMIT));
    one_line(text.trim(), SUBJECT_SHOWN).trim().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_are_readable_and_harmless() {
        let long = "ä".repeat(SUBJECT_SHOWN);
        let folded = format!("Subject: {}\r\n", "=?utf-8?B?w6Q=?=\r\n ".repeat(500).trim_end());
        for (header, shown) in [
            ("Subject: =?utf-8?B?U3TDtnJ1bmc=?= im\r\n Werk\r\n", "Störung im Werk"),
            ("From: x\r\n", ""),
            ("Subject: Is it =?utf-8?Q?so=3F?= or not?\r\n", "Is it so? or not?"),
            ("Subject:  Tank 3  low \r\n", "Tank 3  low"),
            ("Subject:  \t \r\n", ""),
            // What a terminal, a log or another reader of lines would obey.
            ("Subject: =?utf-8?Q?=1B[2J=1B]0;x=07=0D=0Aevent=3Ddelivered=00?=\r\n", "[2J ]0;x   event=delivered"),
            ("Subject: =?utf-8?Q?a=E2=80=AEb=C2=9Bc?=\r\n", "a b c"),
            (&format!("Subject: {long}\r\n"), &format!("{}…", "ä".repeat(SUBJECT_SHOWN / 2))),
            (&folded, &format!("{}…", "ä".repeat(SUBJECT_SHOWN / 2))),
        ] {
            assert_eq!(line(header.as_bytes()), shown, "{header:?}");
        }
        assert_eq!(line(b"Subject: St\xf6rung\r\n"), "Störung");
    }

    proptest! {
        #[test]
        fn any_subject_is_one_short_line(value: Vec<u8>, words in "(=\\?utf-8\\?[QB]\\?[=0-9A-F]{0,40}\\?= ?){0,60}") {
            for header in [[b"Subject: ", value.as_slice(), b"\r\n"].concat(), format!("Subject: {words}\r\n").into()] {
                let shown = line(&header);
                prop_assert!(shown.len() <= SUBJECT_SHOWN + '…'.len_utf8());
                prop_assert!(!shown.contains(char::is_control) && !shown.contains(crate::system::is_deceptive));
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The header while it is being repaired.

use std::borrow::Cow;

use super::{FIELD_LIMIT, notes};
use crate::message::address::tokens::{self, tokens};
use crate::message::encoded::charset::{EUC_JP, GUESSED, from_iso_2022_jp};
use crate::message::encoded::{Charset, PARAMETER_FIELDS, decode, is_bare};
use crate::message::header;

/// A field of a draft.
#[derive(Debug, Clone)]
pub struct DraftField<'a> {
    /// Its name.
    pub name: Cow<'a, [u8]>,
    /// What follows the colon, including spaces and folding, without the last CRLF.
    pub value: Cow<'a, [u8]>,
    /// The charset of its text, if that was not received as UTF-8: veiled (see [`Charset::veil`]), or converted.
    pub charset: Option<Charset>,
}

impl DraftField<'_> {
    /// Whether the field is called `name`.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether the field has no value.
    pub fn is_empty(&self) -> bool {
        self.value.trim_ascii().is_empty()
    }
}

/// A header as fields that can be changed; fields that are not changed are sent as received.
#[derive(Debug)]
pub struct HeaderDraft<'a> {
    /// The fields in order.
    pub entries: Vec<DraftField<'a>>,
    /// Whether the Date is ours and not the sender's.
    pub dated: bool,
    notes: Vec<&'static str>,
}

impl<'a> HeaderDraft<'a> {
    /// Parses `header`; `None` if it has more than [`FIELD_LIMIT`] fields.
    pub fn read(header: &'a [u8]) -> Option<Self> {
        let mut draft = Self { entries: Vec::new(), dated: false, notes: Vec::new() };
        for field in header::fields(header).filter(|field| !field.name.is_empty()) {
            if draft.entries.len() == FIELD_LIMIT {
                return None;
            }
            if field.raw.get(field.name.len()) != Some(&b':') {
                draft.note(notes::NAME_BLANKS);
            }
            draft.entries.push(DraftField { name: field.name.into(), value: field.value.into(), charset: None });
        }
        Some(draft)
    }

    /// Converts all values to UTF-8: text in the `declared` charset is veiled, anything else is treated as
    /// windows-1252. From here on the original charset no longer matters.
    pub fn read_text(&mut self, declared: Option<Charset>) {
        for entry in &mut self.entries {
            let japanese = entry.value.contains(&0x1b).then(|| from_iso_2022_jp(&entry.value)).flatten();
            if let Some(text) = japanese.and_then(|euc| EUC_JP.veil(&euc)) {
                (entry.value, entry.charset) = (text.into_bytes().into(), Some(EUC_JP));
            } else if !entry.value.is_ascii() && std::str::from_utf8(&entry.value).is_err() {
                let veiled = declared.and_then(|charset| charset.veil(&entry.value));
                entry.charset = declared.filter(|_| veiled.is_some()).or(Some(GUESSED));
                entry.value = veiled.unwrap_or_else(|| decode(&entry.value).into_owned()).into_bytes().into();
            }
            // No-break spaces come from editors; between tokens they can only be meant as spaces.
            let structured = || is_bare(&entry.name) || PARAMETER_FIELDS.iter().any(|name| entry.is(name));
            if memchr::memmem::find(&entry.value, "\u{a0}".as_bytes()).is_some() && structured() {
                let with_blanks = tokens(&entry.value).flat_map(|token| match token.kind {
                    tokens::TokenKind::Quoted | tokens::TokenKind::Comment => token.text.to_vec(),
                    _ => String::from_utf8_lossy(token.text).replace('\u{a0}', " ").into_bytes(),
                });
                entry.value = with_blanks.collect::<Vec<u8>>().into();
            }
        }
    }

    /// Removes what a header must not contain: control characters, blank lines in fields, private fields. Returns
    /// whether there was a Bcc.
    pub fn tidy(&mut self) -> bool {
        for at in 0..self.entries.len() {
            let Some(entry) = self.entries.get_mut(at) else {
                continue;
            };
            let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n');
            let controls = entry.value.iter().any(is_control);
            if controls {
                entry.value.to_mut().iter_mut().filter(|byte| is_control(byte)).for_each(|byte| *byte = b' ');
            }
            let mut lines = entry.value.split_inclusive(|byte| *byte == b'\n');
            let first = lines.next().unwrap_or_default();
            let blank = lines.clone().any(|line| line.trim_ascii().is_empty());
            if blank {
                let kept = lines.filter(|line| !line.trim_ascii().is_empty());
                let value = [first].into_iter().chain(kept).collect::<Vec<_>>().concat();
                entry.value = value.strip_suffix(b"\r\n").unwrap_or(&value).to_vec().into();
            }
            if controls {
                self.note(notes::CONTROLS);
            }
            if blank {
                self.note(notes::BLANK_FOLDING);
            }
        }
        let had_bcc = self.entries.iter().any(|entry| entry.is("Bcc"));
        let before = self.entries.len();
        self.entries.retain(|entry| !["Bcc", "Resent-Bcc", "Return-Path"].iter().any(|name| entry.is(name)));
        if self.entries.len() < before {
            self.note(notes::PRIVATE);
        }
        had_bcc
    }

    /// Records a note for the log, once.
    pub fn note(&mut self, note: &'static str) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The recorded notes.
    pub fn notes(&self) -> impl Iterator<Item = &'static str> {
        self.notes.iter().copied()
    }

    /// The first field called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.is(name))
    }

    /// The positions of all fields called `name`.
    pub fn all(&self, name: &str) -> Vec<usize> {
        self.entries.iter().enumerate().filter(|(_, entry)| entry.is(name)).map(|(at, _)| at).collect()
    }

    /// The value of the first field called `name`.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.entries.iter().find(|entry| entry.is(name)).map(|entry| &*entry.value)
    }

    /// Sets the first field called `name`, or adds it at the end.
    pub fn set(&mut self, name: &'static str, text: &[u8]) {
        let value = [b" ", text].concat().into();
        match self.entries.iter_mut().find(|entry| entry.is(name)) {
            Some(entry) => (entry.value, entry.charset) = (value, None),
            None => self.entries.push(DraftField { name: name.as_bytes().into(), value, charset: None }),
        }
    }

    /// Renames the field at `at` to `X-Original-…`: out of the way, but not lost. Removes it if it is empty, which
    /// moves those after it. Returns whether it is still there.
    pub fn set_aside(&mut self, at: usize) -> bool {
        let Some(entry) = self.entries.get_mut(at) else {
            return false;
        };
        if entry.is_empty() {
            self.entries.remove(at);
            return false;
        }
        entry.name = [b"X-Original-", &*entry.name].concat().into();
        true
    }

    /// Adds all fields to `header`. Returns where in it our own Date begins, if there is one.
    pub fn write(&self, header: &mut Vec<u8>) -> Option<usize> {
        let mut date = None;
        for entry in &self.entries {
            header.extend_from_slice(&entry.name);
            header.push(b':');
            if self.dated && entry.is("Date") {
                // After the space.
                date = Some(header.len() + 1);
            }
            header.extend_from_slice(&entry.value);
            header.extend_from_slice(b"\r\n");
        }
        date
    }
}

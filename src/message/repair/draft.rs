// SPDX-License-Identifier: Apache-2.0
//! The header while it is being repaired, and what is corrected in every field: its charset, bytes that it must not
//! contain, and long lines.

use std::borrow::Cow;

use super::{FIELD_LIMIT, notes};
use crate::message::encoded::charset::{EUC_JP, GUESSED, UTF_8, from_iso_2022_jp};
use crate::message::encoded::parameters::corrected;
use crate::message::encoded::{
    ADDRESS_FIELDS, Charset, PARAMETER_FIELDS, Style, decode, field_value, is_bare, resplit, shortened, unstructured,
};
use crate::message::header::{self, is_one_of, push_field};
use crate::message::tokens::{TokenKind, ascii_blanks, is_odd_blank, tokens};

/// A field of a draft.
#[derive(Debug, Clone)]
pub struct DraftField<'a> {
    /// Its name.
    pub name: Cow<'a, [u8]>,
    /// What follows the colon, including spaces and folding, without the last CRLF.
    pub value: Cow<'a, [u8]>,
    /// The charset of its text, if that was not received as UTF-8: veiled (see [`Charset::veil`]), or converted.
    pub charset: Option<Charset<'a>>,
}

impl DraftField<'_> {
    /// Whether the field is called one of `names`, which spaces separate.
    pub fn is(&self, names: &str) -> bool {
        is_one_of(&self.name, names)
    }

    /// Whether the field has no value.
    pub fn is_empty(&self) -> bool {
        self.value.trim_ascii().is_empty()
    }

    /// The field as `X-Original-…`: out of the way, but not lost. `None` if it is empty.
    pub fn set_aside(mut self) -> Option<Self> {
        self.name = [b"X-Original-", &*self.name].concat().into();
        (!self.is_empty()).then_some(self)
    }
}

/// A header as fields that can be changed; fields that are not changed are sent as received.
#[derive(Debug)]
pub struct HeaderDraft<'a> {
    /// The fields in order.
    pub entries: Vec<DraftField<'a>>,
    /// Whether the Date is ours and not the sender's.
    pub dated: bool,
    /// The recorded notes, each once.
    pub notes: Vec<&'static str>,
}

impl<'a> HeaderDraft<'a> {
    /// Parses `header`, for which there already are `notes`; `None` if it has more than [`FIELD_LIMIT`] fields.
    pub fn read(header: &'a [u8], notes: Vec<&'static str>) -> Option<Self> {
        let mut draft = Self { entries: Vec::new(), dated: false, notes };
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
    pub fn read_text(&mut self, declared: Option<Charset<'a>>) {
        for entry in &mut self.entries {
            let japanese = entry.value.contains(&0x1b).then(|| from_iso_2022_jp(&entry.value)).flatten();
            if let Some(text) = japanese.and_then(|euc| EUC_JP.veil(&euc)) {
                (entry.value, entry.charset) = (text.into_bytes().into(), Some(EUC_JP));
            } else {
                let odd = !entry.value.is_ascii() && std::str::from_utf8(&entry.value).is_err();
                let declared = declared.filter(|charset| odd || charset.has_escapes());
                let veiled = declared.and_then(|charset| charset.veil(&entry.value));
                if odd || veiled.is_some() {
                    entry.charset = declared.filter(|_| veiled.is_some()).or(Some(GUESSED));
                    entry.value = veiled.unwrap_or_else(|| decode(&entry.value).into_owned()).into_bytes().into();
                }
            }
            // Before its commas and brackets are taken for those of the field.
            if !entry.value.is_ascii() {
                let mended = resplit(&entry.value, entry.charset.map_or(UTF_8, |charset| charset.name));
                if mended != *entry.value {
                    entry.value = mended.into();
                    notes::add(&mut self.notes, notes::EIGHT_BIT_HEADER);
                }
            }
            // No-break spaces come from editors; between tokens they can only be meant as spaces. In a name they may be
            // part of it.
            let odd = std::str::from_utf8(&entry.value).is_ok_and(|text| text.contains(is_odd_blank));
            let mut blanks = None;
            if odd && (is_bare(&entry.name) || entry.is(PARAMETER_FIELDS)) {
                let with_blanks = tokens(&entry.value).flat_map(|token| match token.kind {
                    TokenKind::Quoted | TokenKind::Comment => token.text.to_vec(),
                    _ => String::from_utf8_lossy(token.text).replace(is_odd_blank, " ").into_bytes(),
                });
                blanks = Some(with_blanks.collect());
            } else if odd && (entry.is(ADDRESS_FIELDS) || entry.is("List-Id Disposition-Notification-Options")) {
                blanks = Some(ascii_blanks(&entry.value));
            }
            if let Some(value) = blanks {
                // Some readers do not know an encoding with a space after it.
                entry.value = value.trim_ascii_end().to_vec().into();
            }
        }
    }

    /// Corrects each Content-Type whose type is known, but not written as it must be.
    pub fn content_types(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.is("Content-Type")) {
            if let Some(value) = corrected(&entry.value) {
                entry.value = [b" ", value.as_slice()].concat().into();
                notes::add(&mut self.notes, notes::CONTENT_TYPE);
            }
        }
    }

    /// Removes what a header must not contain: control characters, blank lines in fields, private fields. Returns
    /// whether there was a Bcc.
    pub fn tidy(&mut self) -> bool {
        for entry in &mut self.entries {
            let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n');
            let controls = entry.value.iter().any(is_control);
            if controls {
                notes::add(&mut self.notes, notes::CONTROLS);
                entry.value.to_mut().iter_mut().filter(|byte| is_control(byte)).for_each(|byte| *byte = b' ');
            }
            let mut lines = entry.value.split_inclusive(|byte| *byte == b'\n');
            let first = lines.next().unwrap_or_default();
            let blank = lines.clone().any(|line| line.trim_ascii().is_empty());
            if blank {
                notes::add(&mut self.notes, notes::BLANK_FOLDING);
                let kept = lines.filter(|line| !line.trim_ascii().is_empty());
                let value = [first].into_iter().chain(kept).collect::<Vec<_>>().concat();
                entry.value = value.strip_suffix(b"\r\n").unwrap_or(&value).to_vec().into();
            }
        }
        let had_bcc = self.entries.iter().any(|entry| entry.is("Bcc"));
        let before = self.entries.len();
        self.entries.retain(|entry| !entry.is("Bcc Resent-Bcc Return-Path"));
        if self.entries.len() < before {
            self.note(notes::PRIVATE);
        }
        had_bcc
    }

    /// Encodes non-ASCII text: SMTP can carry 7 bits (RFC 5322 section 2.2). With `utf8` (the client uses SMTPUTF8)
    /// UTF-8 stays (RFC 6532).
    pub fn seven_bits(&mut self, utf8: bool) {
        let mut encoded = false;
        for entry in &mut self.entries {
            if entry.value.is_ascii() || utf8 && entry.charset.is_none() {
                continue;
            }
            encoded = true;
            let label = entry.charset.map_or(UTF_8, |charset| charset.name);
            let style = Style { word_limit: usize::MAX, label };
            let value = match field_value(&entry.name, &entry.value, style) {
                Some(value) => value,
                // With SMTPUTF8 an address may be non-ASCII. Without it, no such address gets this far.
                None if utf8 && label == UTF_8 => entry.value.to_vec(),
                None => unstructured(entry.name.len() + 1, &entry.value, style),
            };
            (entry.value, entry.charset) = (value.into(), None);
        }
        if encoded {
            self.note(notes::EIGHT_BIT_HEADER);
        }
    }

    /// Folds lines over 998 bytes (RFC 5322 section 2.1.1): before spaces if that is enough, else by encoding long
    /// words.
    pub fn short_lines(&mut self) {
        let mut folded = false;
        for entry in &mut self.entries {
            if let Some((name, value)) = shortened(&entry.name, &entry.value) {
                folded = true;
                let name = name.into_owned();
                (entry.name, entry.value) = (name.into(), value.into());
            }
        }
        if folded {
            self.note(notes::LONG_HEADER_LINES);
        }
    }

    /// Records a note for the log, once.
    pub fn note(&mut self, note: &'static str) {
        notes::add(&mut self.notes, note);
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

    /// Makes sure that there is a `usable` field called `name`: `text` is added with the note `added`, or replaces one
    /// that is not usable with the note `replaced`. Returns whether it was set.
    pub fn provide(
        &mut self,
        name: &'static str,
        usable: impl Fn(&[u8]) -> bool,
        text: &[u8],
        (replaced, added): (&'static str, &'static str),
    ) -> bool {
        let note = match self.find(name) {
            Some(_) if self.value(name).is_some_and(usable) => return false,
            Some(at) => {
                self.set_aside(at);
                replaced
            }
            None => added,
        };
        self.set(name, text);
        self.note(note);
        true
    }

    /// [Sets aside](DraftField::set_aside) the field at `at`. It is removed if it is empty, which moves those after it.
    pub fn set_aside(&mut self, at: usize) {
        if at < self.entries.len()
            && let Some(entry) = self.entries.remove(at).set_aside()
        {
            self.entries.insert(at, entry);
        }
    }

    /// Adds all fields to `header`. Returns where in it our own Date begins, if there is one.
    pub fn write(&self, header: &mut Vec<u8>) -> Option<usize> {
        let mut date = None;
        for entry in &self.entries {
            if self.dated && entry.is("Date") {
                // After the colon and the space.
                date = Some(header.len() + entry.name.len() + 2);
            }
            push_field(&entry.name, &entry.value, header);
        }
        date
    }
}

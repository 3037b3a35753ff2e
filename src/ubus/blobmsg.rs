// SPDX-License-Identifier: Apache-2.0
//! blob and blobmsg, the formats of OpenWrt's libubox: converts the data on ubus to JSON values and back.
//!
//! A *blob attribute* is a word (flag, 7 bits of id, 24 bits of length), its payload, and zeros as padding to a
//! multiple of four. The length includes the word and the payload, not the padding. A *blobmsg* attribute has the flag
//! set; its id is a type, and its payload starts with a name. Everything is big endian. See `docs/reference/ubus.md`
//! for more.
//!
//! Received data is not trusted: each length is checked, nesting is limited, and nothing here panics. The caller limits
//! the number of bytes; a JSON value takes up to about ten times as many.

use serde_json::{Map, Number, Value};

/// Maximum size of a message in bytes that ubusd accepts.
pub const MESSAGE_LIMIT: usize = 1 << 20;
/// Maximum depth of nested tables and arrays, not including the outermost table.
pub const DEPTH_LIMIT: usize = 16;

/// Types of blobmsg attributes.
pub mod kind {
    /// Nothing: JSON's `null`.
    pub const UNSPEC: u8 = 0;
    /// Elements without names.
    pub const ARRAY: u8 = 1;
    /// Elements with names.
    pub const TABLE: u8 = 2;
    /// UTF-8 and a NUL.
    pub const STRING: u8 = 3;
    /// Eight bytes.
    pub const INT64: u8 = 4;
    /// Four bytes.
    pub const INT32: u8 = 5;
    /// Two bytes.
    pub const INT16: u8 = 6;
    /// One byte: a boolean.
    pub const INT8: u8 = 7;
    /// IEEE 754, eight bytes.
    pub const DOUBLE: u8 = 8;
}

/// Bytes that are not a blob, or that are nested too deeply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A value that is too large or too deeply nested for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit;

/// A blob attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type; below 128.
    pub id: u8,
    /// Whether it is a blobmsg attribute, which starts with a name.
    pub extended: bool,
    /// Its bytes, without the padding.
    pub payload: &'a [u8],
}

/// The sequence of attributes in these bytes. Ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        Some(first(bytes).map(|(attribute, rest)| {
            self.0 = rest;
            attribute
        }))
    }
}

/// The next multiple of four.
fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn first(bytes: &[u8]) -> Result<(Attribute<'_>, &[u8]), Malformed> {
    let word = u32::from_be_bytes(*bytes.first_chunk().ok_or(Malformed)?);
    let length = usize::try_from(word & 0x00ff_ffff).map_err(|_| Malformed)?;
    let payload = bytes.get(4..length).ok_or(Malformed)?;
    // The top byte.
    let [top, ..] = word.to_be_bytes();
    let attribute = Attribute { id: top & 0x7f, extended: top & 0x80 != 0, payload };
    Ok((attribute, bytes.get(padded(length)..).unwrap_or_default()))
}

/// Name and value of a blobmsg attribute.
fn named<'a>(attribute: &Attribute<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let payload = attribute.payload;
    let length = usize::from(u16::from_be_bytes(*payload.first_chunk().ok_or(Malformed)?));
    let name = payload.get(2..2 + length).ok_or(Malformed)?;
    let ended = payload.get(2 + length) == Some(&0);
    let value = payload.get(padded(2 + length + 1)..).ok_or(Malformed)?;
    if attribute.extended && ended { Ok((name, value)) } else { Err(Malformed) }
}

/// Parses the content of a table, as found in the attribute DATA of a message.
///
/// In text that is not UTF-8, invalid bytes are replaced with U+FFFD; text ends at the first NUL, as it does for
/// programs in C. Numbers that JSON does not support (infinite ones) become `null`. If several members have the same
/// name, the last one is used.
///
/// # Errors
/// See [`Malformed`].
pub fn decode(table: &[u8]) -> Result<Value, Malformed> {
    members(table, 0)
}

fn members(bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    let mut map = Map::new();
    for attribute in Attributes(bytes) {
        let attribute = attribute?;
        let (name, value) = named(&attribute)?;
        if name.is_empty() {
            return Err(Malformed);
        }
        map.insert(String::from_utf8_lossy(name).into_owned(), read(attribute.id, value, depth)?);
    }
    Ok(Value::Object(map))
}

fn items(bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    let mut items = Vec::new();
    for attribute in Attributes(bytes) {
        let attribute = attribute?;
        let (_, value) = named(&attribute)?;
        items.push(read(attribute.id, value, depth)?);
    }
    Ok(Value::Array(items))
}

fn read(id: u8, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    if depth >= DEPTH_LIMIT && matches!(id, kind::ARRAY | kind::TABLE) {
        return Err(Malformed);
    }
    Ok(match id {
        kind::UNSPEC => Value::Null,
        kind::ARRAY => items(bytes, depth + 1)?,
        kind::TABLE => members(bytes, depth + 1)?,
        kind::STRING => {
            let (_, text) = bytes.split_last().filter(|(last, _)| **last == 0).ok_or(Malformed)?;
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            Value::String(String::from_utf8_lossy(text).into_owned())
        }
        kind::INT64 => i64::from_be_bytes(exactly(bytes)?).into(),
        kind::INT32 => i32::from_be_bytes(exactly(bytes)?).into(),
        kind::INT16 => i16::from_be_bytes(exactly(bytes)?).into(),
        kind::INT8 => Value::Bool(exactly::<1>(bytes)? != [0]),
        kind::DOUBLE => Number::from_f64(f64::from_be_bytes(exactly(bytes)?)).map_or(Value::Null, Value::Number),
        _ => return Err(Malformed),
    })
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed)
}

/// The content of a table, as found in the attribute DATA of a message.
///
/// # Errors
/// See [`Unfit`]. Anything but an object is unfit as well.
pub fn encode(table: &Value) -> Result<Vec<u8>, Unfit> {
    let mut out = Writer::default();
    table.as_object().ok_or(Unfit)?.iter().for_each(|(name, value)| out.member(name, value));
    out.finish()
}

/// Writes a sequence of attributes. Errors are reported at the end, by [`Writer::finish`].
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    depth: usize,
    unfit: bool,
}

/// The start of an attribute that is still open.
#[derive(Debug)]
#[must_use = "what was opened must be closed"]
pub struct Open(usize);

impl Writer {
    /// Number of bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes everything after the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// A plain blob attribute.
    pub fn attribute(&mut self, id: u8, payload: &[u8]) {
        let open = self.start(id & 0x7f);
        self.put(payload);
        self.end(&open);
    }

    /// A member of a table; with an empty name, an item of an array.
    ///
    /// An integer gets 32 bits if it fits, otherwise 64; one that needs an unsigned 64 becomes a floating-point number.
    /// A NUL in a text becomes U+FFFD.
    pub fn member(&mut self, name: &str, value: &Value) {
        match value {
            Value::Null => self.scalar(kind::UNSPEC, name, &[]),
            Value::Bool(value) => self.scalar(kind::INT8, name, &[u8::from(*value)]),
            Value::Number(number) => match (number.as_i64().map(i32::try_from), number.as_i64()) {
                (Some(Ok(small)), _) => self.scalar(kind::INT32, name, &small.to_be_bytes()),
                (_, Some(large)) => self.scalar(kind::INT64, name, &large.to_be_bytes()),
                _ => self.scalar(kind::DOUBLE, name, &number.as_f64().unwrap_or_default().to_be_bytes()),
            },
            Value::String(text) => self.text(name, text),
            Value::Array(items) => {
                let open = self.open(kind::ARRAY, name);
                items.iter().for_each(|item| self.member("", item));
                self.close(open);
            }
            Value::Object(members) => {
                let open = self.open(kind::TABLE, name);
                for (name, value) in members {
                    // libubox rejects members without a name.
                    self.unfit |= name.is_empty();
                    self.member(name, value);
                }
                self.close(open);
            }
        }
    }

    /// Starts a table or an array; everything written until [`Writer::close`] is in it.
    pub fn open(&mut self, id: u8, name: &str) -> Open {
        self.depth += 1;
        self.unfit |= self.depth > DEPTH_LIMIT;
        self.named(id, name)
    }

    /// Closes it.
    pub fn close(&mut self, open: Open) {
        self.depth = self.depth.saturating_sub(1);
        self.end(&open);
    }

    /// The bytes.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub fn finish(self) -> Result<Vec<u8>, Unfit> {
        if self.unfit || self.bytes.len() > MESSAGE_LIMIT { Err(Unfit) } else { Ok(self.bytes) }
    }

    fn text(&mut self, name: &str, text: &str) {
        let open = self.named(kind::STRING, name);
        match text.contains('\0') {
            true => self.put(text.replace('\0', "\u{fffd}").as_bytes()),
            false => self.put(text.as_bytes()),
        }
        self.put(&[0]);
        self.end(&open);
    }

    fn scalar(&mut self, id: u8, name: &str, value: &[u8]) {
        let open = self.named(id, name);
        self.put(value);
        self.end(&open);
    }

    fn named(&mut self, id: u8, name: &str) -> Open {
        let open = self.start(id | 0x80);
        let length = u16::try_from(name.len()).unwrap_or_else(|_| {
            self.unfit = true;
            0
        });
        self.put(&length.to_be_bytes());
        self.put(name.as_bytes());
        self.put(&[0]);
        self.pad();
        open
    }

    fn start(&mut self, top: u8) -> Open {
        let at = self.bytes.len();
        self.put(&[top, 0, 0, 0]);
        Open(at)
    }

    /// Writes the length, then the padding, which is not included in it.
    fn end(&mut self, open: &Open) {
        let length = self.bytes.len().saturating_sub(open.0);
        let [_, length @ ..] = u32::try_from(length).unwrap_or_default().to_be_bytes();
        if let Some(place) = self.bytes.get_mut(open.0 + 1..open.0 + 4) {
            place.copy_from_slice(&length);
        }
        self.pad();
    }

    fn pad(&mut self) {
        let length = padded(self.bytes.len());
        self.bytes.resize(length, 0);
    }

    /// Nothing beyond the limit is stored: memory does not grow with data that cannot be sent.
    fn put(&mut self, bytes: &[u8]) {
        self.unfit |= self.bytes.len() + bytes.len() > MESSAGE_LIMIT;
        if !self.unfit {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
#[path = "blobmsg/tests.rs"]
mod tests;

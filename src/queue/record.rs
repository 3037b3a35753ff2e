// SPDX-License-Identifier: Apache-2.0
//! The format of one message on disk: version 1.
//!
//! ```text
//! offset  bytes
//!      0  8   "SMTPRLY1"
//!      8  8   length of the body
//!     16  4   length of the header
//!     20  4   length of the envelope
//!     24  4   CRC-32 of the body
//!     28  4   CRC-32 of header and envelope
//!     32  4   CRC-32 of bytes 0..32
//!     36  28  zero
//!     64      body, header (without the blank line), envelope (JSON)
//!      …      journal: one record per note, "LF, CRC-32 of the JSON in hex, space, JSON, LF"
//! ```
//! Numbers are big-endian. The body comes first because the header can only be repaired when the whole body is known;
//! so a message of any size is written once, from front to end, while it arrives. The preamble is written last, before
//! the file is synced and renamed. The [journal](super::journal) is appended to.
//!
//! What device policy says about a message: which device it belongs to, and whether it may leave at once. Written into
//! its record when it is accepted, each field only where it is set; records of earlier versions have none of them.

use std::time::Duration;

use serde_json::{Map, Value};

use super::entry::{Client, MessageId};
use crate::message::{BodyForm, Envelope};
use crate::system::checksum::Checksum;
use crate::system::json::json;

/// Length of the preamble in bytes.
pub const PREAMBLE: usize = 64;
const MAGIC: &[u8; 8] = b"SMTPRLY1";
/// Bytes of the largest header and of the largest envelope that are read back.
const PART_LIMIT: u32 = 4 << 20;

/// The fixed part at the start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// Bytes of the body.
    pub body: u64,
    /// Bytes of the header.
    pub header: u32,
    /// Bytes of the envelope.
    pub meta: u32,
    /// CRC-32 of the body.
    pub body_crc: u32,
    /// CRC-32 of header and envelope.
    pub meta_crc: u32,
}

/// Reads big-endian numbers off the front of a slice.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
}

impl Preamble {
    /// The bytes to write at offset 0.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREAMBLE);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.body.to_be_bytes());
        for number in [self.header, self.meta, self.body_crc, self.meta_crc] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&Checksum::of(&out).to_be_bytes());
        out.resize(PREAMBLE, 0);
        out
    }

    /// Reads a preamble; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let checked = bytes.get(..32).ok_or("shorter than its preamble")?;
        let mut cursor = Cursor(bytes);
        let magic: [u8; 8] = cursor.take().ok_or("shorter than its preamble")?;
        if &magic != MAGIC {
            return Err("not a message file of smtprelay");
        }
        let body = cursor.take().map(u64::from_be_bytes).ok_or("shorter than its preamble")?;
        let mut number = || cursor.u32().ok_or("shorter than its preamble");
        let (header, meta, body_crc, meta_crc, own_crc) = (number()?, number()?, number()?, number()?, number()?);
        if own_crc != Checksum::of(checked) {
            return Err("damaged preamble");
        }
        if header > PART_LIMIT || meta > PART_LIMIT {
            return Err("invalid size of header or envelope");
        }
        Ok(Self { body, header, meta, body_crc, meta_crc })
    }

    /// Offset of the journal, which is the length of a file without one. `None` when no such file can exist.
    pub fn journal_offset(&self) -> Option<u64> {
        self.body.checked_add(u64::from(self.header) + u64::from(self.meta) + PREAMBLE as u64)
    }
}

/// What is known about a message in addition to its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Sender and recipients.
    pub envelope: Envelope,
    /// The form in which the body is sent.
    pub form: BodyForm,
    /// When it was accepted: seconds since 1970 by the clock at that time.
    pub arrived: i64,
    /// Address of the device, or `local`.
    pub client: String,
    /// Whether it is a notification of ours: its own failure is never reported by mail.
    pub notice: bool,
    /// What is needed to determine later when it arrived, if the clock was evidently wrong then.
    pub undated: Option<Undated>,
    /// What device policy says about it.
    pub marks: Marks,
}

/// The time of an arrival that the clock could not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undated {
    /// The boot in which it arrived (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// Seconds since that boot at its arrival, by `CLOCK_BOOTTIME`.
    pub uptime: u64,
    /// Offsets in the stored header of our own dates (31 bytes each) that are corrected when it is sent.
    pub dates: Vec<u32>,
}

impl Undated {
    fn write(&self) -> String {
        let mut object = Object::default();
        object.text("boot", &self.boot);
        object.number("uptime", &self.uptime);
        object.list("dates", &self.dates, |date, out| out.push_str(&date.to_string()));
        object.end()
    }

    fn from_json(value: &Value) -> Option<Self> {
        let date = |at: &Value| at.as_u64().and_then(|n| u32::try_from(n).ok());
        Some(Self {
            boot: value.get("boot")?.as_str()?.to_string(),
            uptime: value.get("uptime")?.as_u64()?,
            dates: value.get("dates")?.as_array()?.iter().map(date).collect::<Option<_>>()?,
        })
    }
}

impl Meta {
    /// The client that the message belongs to.
    pub fn owner(&self) -> Client {
        match self.notice {
            true => Client::Own,
            false => {
                let known = self.marks.owner.unwrap_or_else(|| Client::at(self.client.parse().ok()));
                known.with(self.marks.device.as_deref())
            }
        }
    }

    /// The JSON that is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut object = Object::default();
        object.number("arrived", &self.arrived);
        object.text("client", &self.client);
        object.number("form", &self.form.to_code());
        object.text("from", &self.envelope.from);
        object.number("notice", &self.notice);
        object.number("smtputf8", &self.envelope.smtputf8);
        object.list("to", &self.envelope.to, |to, out| quote(to, out));
        if let Some(undated) = &self.undated {
            object.raw("undated", &undated.write());
        }
        let mut fields = Map::new();
        self.marks.add_to(&mut fields);
        fields.iter().for_each(|(name, value)| object.raw(name, &value.to_string()));
        object.end().into_bytes()
    }

    /// Reads the JSON back; `None` when it is not ours.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_string);
        let flag = |key: &str| value.get(key).and_then(Value::as_bool);
        let to = value.get("to")?.as_array()?.iter().map(|v| v.as_str().map(str::to_string)).collect::<Option<_>>()?;
        let form = value.get("form")?.as_u64().and_then(|n| u32::try_from(n).ok()).and_then(BodyForm::from_code)?;
        Some(Self {
            envelope: Envelope { from: text("from")?, to, smtputf8: flag("smtputf8")? },
            form,
            arrived: value.get("arrived")?.as_i64()?,
            client: text("client")?,
            notice: flag("notice")?,
            undated: match value.get("undated") {
                Some(undated) => Some(Undated::from_json(undated)?),
                None => None,
            },
            marks: Marks::from_json(&value)?,
        })
    }
}

/// A JSON object that is written as text: a tree of values for it, with a copy of each name and text, takes five times as many
/// instructions, and one is written for each message.
#[derive(Default)]
struct Object(String);

impl Object {
    fn raw(&mut self, name: &str, json: &str) {
        let before = if self.0.is_empty() { "{\"" } else { ",\"" };
        self.0.reserve(name.len() + json.len() + 4);
        [before, name, "\":", json].iter().for_each(|part| self.0.push_str(part));
    }

    /// A number, or true or false.
    fn number(&mut self, name: &str, number: &dyn std::fmt::Display) {
        self.raw(name, &number.to_string());
    }

    fn text(&mut self, name: &str, text: &str) {
        self.raw(name, "");
        quote(text, &mut self.0);
    }

    fn list<T>(&mut self, name: &str, all: &[T], write: fn(&T, &mut String)) {
        self.raw(name, "[");
        for (at, one) in all.iter().enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            write(one, &mut self.0);
        }
        self.0.push(']');
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Appends `text` as a JSON string. Characters that have to be escaped are rare.
fn quote(text: &str, out: &mut String) {
    match text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        true => ["\"", text, "\""].iter().for_each(|part| out.push_str(part)),
        false => out.push_str(&Value::from(text).to_string()),
    }
}

/// The marks of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Name of the section `device` that its client matches. What the section says is looked up when needed, so that
    /// a change of the settings takes effect.
    pub device: Option<String>,
    /// Name of the login with which it came, where logins are verified.
    pub login: Option<String>,
    /// What it has to wait for, since its device exceeded its rate.
    pub over: Option<Over>,
    /// What it replaces, if it is a digest.
    pub replaces: Option<Replaces>,
    /// The client that sent it, if its address alone does not tell: see [`Client::to_record`].
    pub owner: Option<Client>,
    /// Name of the section `escalation` that it matches. What the section says is looked up when needed.
    pub alarm: Option<String>,
}

/// A message beyond the rate of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// When its waiting ends, in time since the start of the system in which it was accepted; in milliseconds.
    pub until: Duration,
    /// Whether it goes into a digest then; otherwise it is sent.
    pub digest: bool,
    /// The rate, as written in the settings.
    pub rate: String,
}

/// What a digest replaces. A digest may have several mails: those with further attachments are written first,
/// and the one with `last` when all others exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replaces {
    /// The messages that are in it; for a further mail, those that are attached to it.
    pub of: Vec<MessageId>,
    /// The messages that it lists and that are sent separately.
    pub alone: Vec<MessageId>,
    /// Whether all mails of the digest are in the queue when this one is.
    pub last: bool,
}

impl Marks {
    /// Adds what is set to the fields of a record.
    pub(super) fn add_to(&self, fields: &mut Map<String, Value>) {
        let mut add = |name: &str, value: Option<Value>| value.map(|value| fields.insert(name.into(), value));
        add("device", self.device.as_deref().map(Value::from));
        add("login", self.login.as_deref().map(Value::from));
        add("over", self.over.as_ref().map(Over::to_json));
        add("replaces", self.replaces.as_ref().map(Replaces::to_json));
        add("alarm", self.alarm.as_deref().map(Value::from));
        add("owner", self.owner.and_then(Client::text).map(Value::from));
    }

    /// Reads them from the fields of a record; `None` when one cannot be read.
    pub(super) fn from_json(record: &Value) -> Option<Self> {
        /// Missing is valid, unreadable is not.
        fn field<T>(record: &Value, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
            record.get(name).map_or(Some(None), |value| read(value).map(Some))
        }
        let text = |value: &Value| value.as_str().map(str::to_string);
        Some(Self {
            device: field(record, "device", text)?,
            login: field(record, "login", text)?,
            alarm: field(record, "alarm", text)?,
            over: field(record, "over", Over::from_json)?,
            replaces: field(record, "replaces", Replaces::from_json)?,
            // No message is worth less because a version that knows other kinds of clients has written it.
            owner: record.get("owner").and_then(Value::as_str).and_then(Client::from_text),
        })
    }
}

impl Over {
    fn to_json(&self) -> Value {
        let until = u64::try_from(self.until.as_millis()).unwrap_or(u64::MAX);
        json!({ "until": until, "digest": self.digest, "rate": self.rate })
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            until: Duration::from_millis(value.get("until")?.as_u64()?),
            digest: value.get("digest")?.as_bool()?,
            rate: value.get("rate")?.as_str()?.to_string(),
        })
    }
}

impl Replaces {
    fn to_json(&self) -> Value {
        let names = |ids: &[MessageId]| ids.iter().map(|id| Value::from(id.as_str())).collect::<Vec<_>>();
        json!({ "of": names(&self.of), "alone": names(&self.alone), "last": self.last })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let names = |key: &str| {
            let names = value.get(key)?.as_array()?.iter();
            names.map(|name| name.as_str()?.parse().ok()).collect::<Option<Vec<MessageId>>>()
        };
        Some(Self { of: names("of")?, alone: names("alone")?, last: value.get("last")?.as_bool()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use serde_json::json;

    use super::*;

    fn meta() -> Meta {
        Meta {
            envelope: Envelope { from: "a@b.c".into(), to: vec!["d@e.f".into(), "g@h.i".into()], smtputf8: false },
            form: BodyForm::from_code(0).unwrap(),
            arrived: 1_800_000_000,
            client: "10.0.0.7".into(),
            notice: false,
            undated: None,
            marks: Marks::default(),
        }
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read() {
        let old = br#"{"arrived":1800000000,"client":"10.0.0.7","form":0,"from":"a@b.c","notice":false,
            "smtputf8":false,"to":["d@e.f","g@h.i"]}"#;
        assert_eq!(Meta::decode(old), Some(meta()));
        // And a message without marks is written as it was then.
        let written: Value = serde_json::from_slice(&meta().encode()).unwrap();
        assert_eq!(written, serde_json::from_slice::<Value>(old).unwrap());
    }

    #[test]
    fn meta_reads_back() {
        assert!(!String::from_utf8(meta().encode()).unwrap().contains("undated"));
        assert_eq!(Meta::decode(&meta().encode()), Some(meta()));
        assert_eq!(Meta::decode(b"{}"), None);
    }

    #[test]
    fn the_preamble_is_big_endian_on_every_machine() {
        let bytes = Preamble { body: 1, header: 2, meta: 3, body_crc: 4, meta_crc: 5 }.encode();
        assert_eq!(bytes.len(), PREAMBLE);
        assert_eq!(&bytes[..24], b"SMTPRLY1\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03");
    }

    proptest! {
        #[test]
        fn preambles_read_back_and_damage_is_seen(
            body in any::<u64>(), header in 0..PART_LIMIT, meta in 0..PART_LIMIT, crcs in any::<(u32, u32)>(),
            at in 0usize..36, flip in 1u8..
        ) {
            let preamble = Preamble { body, header, meta, body_crc: crcs.0, meta_crc: crcs.1 };
            let mut bytes = preamble.encode();
            prop_assert_eq!(Preamble::decode(&bytes), Ok(preamble));
            bytes[at] ^= flip;
            prop_assert!(Preamble::decode(&bytes).is_err());
        }

        #[test]
        fn envelopes_read_back(
            from in "\\PC*", to in proptest::collection::vec("\\PC*", 0..4), arrived in any::<i64>(), flags in any::<(bool, bool)>(),
            undated in proptest::option::of((".*", any::<u64>(), proptest::collection::vec(any::<u32>(), 0..5))),
            marks in any_marks()
        ) {
            let envelope = Envelope { from, to, smtputf8: flags.0 };
            let undated = undated.map(|(boot, uptime, dates)| Undated { boot, uptime, dates });
            let meta = Meta { envelope, arrived, notice: flags.1, undated, marks, ..meta() };
            prop_assert_eq!(Meta::decode(&meta.encode()), Some(meta));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Preamble::decode(&bytes);
            let _ = Meta::decode(&bytes);
        }
    }

    /// Any possible marks.
    fn any_marks() -> impl Strategy<Value = Marks> {
        let id = || "[0-9A-HJKMNP-TV-Z]{10}".prop_map(|text| text.parse::<MessageId>().unwrap());
        let over = (any::<u32>(), any::<bool>(), "\\PC{0,8}").prop_map(|(until, digest, rate)| Over {
            until: Duration::from_millis(until.into()),
            digest,
            rate,
        });
        let replaces = (vec(id(), 0..4), vec(id(), 0..2), any::<bool>()).prop_map(|(of, alone, last)| Replaces {
            of,
            alone,
            last,
        });
        let owner = of(any::<[u8; 6]>().prop_map(Client::Mac));
        let parts = (of("\\PC{0,9}"), of(".{0,9}"), of(over), of(replaces), owner, of("\\PC{0,9}"));
        parts.prop_map(|(device, login, over, replaces, owner, alarm)| Marks {
            device,
            login,
            over,
            replaces,
            owner,
            alarm,
        })
    }

    #[test]
    fn what_can_not_be_read_is_not_passed_over() {
        for wrong in [
            r#"{"device":7}"#,
            r#"{"over":{"until":-1,"digest":true,"rate":"1/h"}}"#,
            r#"{"over":{"until":1}}"#,
            r#"{"replaces":{"of":["short"],"alone":[],"last":true}}"#,
        ] {
            assert_eq!(Marks::from_json(&serde_json::from_str(wrong).unwrap()), None, "{wrong}");
        }
        assert_eq!(Marks::from_json(&json!({})), Some(Marks::default()));
    }
}

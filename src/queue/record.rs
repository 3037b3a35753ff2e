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
//!      …      journal: one line a delivery attempt, "CRC-32 in hex, blank, JSON, LF"
//! ```
//! Numbers are big-endian. The body comes first because the header can only be repaired when the whole body is known;
//! so a message of any size is written once, from front to end, while it arrives. The preamble is written last, before
//! the file is synced and renamed. The journal is appended to; a torn last line is ignored.

use serde_json::{Value, json};

use super::checksum::Checksum;
use crate::message::{BodyForm, Envelope};

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
            return Err("not a message of this program");
        }
        let body = cursor.take().map(u64::from_be_bytes).ok_or("shorter than its preamble")?;
        let mut number = || cursor.u32().ok_or("shorter than its preamble");
        let (header, meta, body_crc, meta_crc, own_crc) = (number()?, number()?, number()?, number()?, number()?);
        if own_crc != Checksum::of(checked) {
            return Err("damaged preamble");
        }
        if header > PART_LIMIT || meta > PART_LIMIT {
            return Err("header or envelope of impossible size");
        }
        Ok(Self { body, header, meta, body_crc, meta_crc })
    }

    /// Offset of the journal, which is the length of a file without one. `None` when no such file can exist.
    pub fn journal_offset(&self) -> Option<u64> {
        self.body.checked_add(u64::from(self.header) + u64::from(self.meta) + PREAMBLE as u64)
    }
}

/// What is known about a message beside its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Sender and recipients.
    pub envelope: Envelope,
    /// How the body leaves.
    pub form: BodyForm,
    /// When it was accepted: seconds since 1970 by the clock of then.
    pub arrived: i64,
    /// Address of the device, or `local`.
    pub client: String,
    /// Whether it is a notice of ours: its own failure is never reported by mail.
    pub notice: bool,
}

impl Meta {
    /// The JSON that is stored.
    pub fn encode(&self) -> Vec<u8> {
        json!({
            "from": self.envelope.from,
            "to": self.envelope.to,
            "smtputf8": self.envelope.smtputf8,
            "form": self.form.to_code(),
            "arrived": self.arrived,
            "client": self.client,
            "notice": self.notice,
        })
        .to_string()
        .into_bytes()
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
        })
    }
}

/// How far one recipient is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Still to be tried.
    Waiting,
    /// A provider has it.
    Delivered,
    /// It will not get there.
    Failed,
}

/// One recipient with the last thing that was said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientState {
    /// The address.
    pub address: String,
    /// How far it is.
    pub progress: Progress,
    /// The last reply or reason; empty before the first try.
    pub text: String,
}

/// One line of the journal: what an attempt brought for some of the recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When: seconds since 1970.
    pub at: i64,
    /// Index of the recipient in the envelope, and what came of it.
    pub results: Vec<(usize, Progress, String)>,
}

impl Attempt {
    /// The line to append.
    pub fn encode(&self) -> Vec<u8> {
        let results: Vec<Value> = self
            .results
            .iter()
            .map(|(index, progress, text)| {
                let letter = match progress {
                    Progress::Waiting => "W",
                    Progress::Delivered => "D",
                    Progress::Failed => "F",
                };
                json!([index, letter, text])
            })
            .collect();
        let json = json!({ "at": self.at, "r": results }).to_string();
        format!("{:08x} {json}\n", Checksum::of(json.as_bytes())).into_bytes()
    }

    /// Reads a line without its LF; `None` when it is torn.
    fn decode(line: &[u8]) -> Option<Self> {
        let (crc, json) = line.split_at_checked(9)?;
        let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.trim_end(), 16).ok()?;
        if crc != Checksum::of(json) {
            return None;
        }
        let value: Value = serde_json::from_slice(json).ok()?;
        let result = |entry: &Value| {
            let index = entry.get(0)?.as_u64().and_then(|n| usize::try_from(n).ok())?;
            let progress = match entry.get(1)?.as_str()? {
                "W" => Progress::Waiting,
                "D" => Progress::Delivered,
                "F" => Progress::Failed,
                _ => return None,
            };
            Some((index, progress, entry.get(2)?.as_str()?.to_string()))
        };
        Some(Self {
            at: value.get("at")?.as_i64()?,
            results: value.get("r")?.as_array()?.iter().map(result).collect::<Option<_>>()?,
        })
    }
}

/// Where all recipients of a message are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// In the order of the envelope.
    pub recipients: Vec<RecipientState>,
    /// How many attempts the journal knows.
    pub attempts: u32,
}

impl State {
    /// The state of a message that was never tried.
    pub fn new(envelope: &Envelope) -> Self {
        let waiting = |address: &String| RecipientState {
            address: address.clone(),
            progress: Progress::Waiting,
            text: String::new(),
        };
        Self { recipients: envelope.to.iter().map(waiting).collect(), attempts: 0 }
    }

    /// Takes over what an attempt brought. Nothing leads back from delivered or failed.
    pub fn apply(&mut self, attempt: &Attempt) {
        self.attempts = self.attempts.saturating_add(1);
        for (index, progress, text) in &attempt.results {
            if let Some(recipient) = self.recipients.get_mut(*index)
                && recipient.progress == Progress::Waiting
            {
                recipient.progress = *progress;
                recipient.text.clone_from(text);
            }
        }
    }

    /// Replays a journal up to its first torn line.
    pub fn replay(&mut self, journal: &[u8]) {
        let mut rest = journal;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let Some(attempt) = rest.get(..end).and_then(Attempt::decode) else { return };
            self.apply(&attempt);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }

    /// Whether nobody is left to be tried.
    pub fn is_done(&self) -> bool {
        self.recipients.iter().all(|r| r.progress != Progress::Waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta() -> Meta {
        Meta {
            envelope: Envelope { from: "a@b.c".into(), to: vec!["d@e.f".into(), "g@h.i".into()], smtputf8: false },
            form: BodyForm::from_code(0).unwrap(),
            arrived: 1_800_000_000,
            client: "10.0.0.7".into(),
            notice: false,
        }
    }

    #[test]
    fn meta_reads_back() {
        assert_eq!(Meta::decode(&meta().encode()), Some(meta()));
        assert_eq!(Meta::decode(b"{}"), None);
    }

    #[test]
    fn the_preamble_is_big_endian_on_every_machine() {
        let bytes = Preamble { body: 1, header: 2, meta: 3, body_crc: 4, meta_crc: 5 }.encode();
        assert_eq!(bytes.len(), PREAMBLE);
        assert_eq!(&bytes[..24], b"SMTPRLY1\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03");
    }

    #[test]
    fn a_torn_journal_line_and_what_follows_is_ignored() {
        let first = Attempt { at: 1, results: vec![(0, Progress::Delivered, "250 ok".into())] };
        let second = Attempt { at: 2, results: vec![(1, Progress::Failed, "550 no".into())] };
        let journal = [first.encode(), second.encode()].concat();
        for end in 0..=journal.len() {
            let mut state = State::new(&meta().envelope);
            state.replay(&journal[..end]);
            let whole = u32::from(end >= first.encode().len()) + u32::from(end >= journal.len());
            assert_eq!(state.attempts, whole, "cut at {end}");
        }
        let mut state = State::new(&meta().envelope);
        state.replay(&journal);
        assert!(state.is_done());
        // A late record can't bring a delivered recipient back.
        state.apply(&Attempt {
            at: 3,
            results: vec![(0, Progress::Failed, "x".into()), (9, Progress::Failed, "y".into())],
        });
        assert_eq!(state.recipients[0].progress, Progress::Delivered);
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
        fn attempts_read_back(at in any::<i64>(), text in "\\PC*", index in 0usize..3) {
            let attempt = Attempt { at, results: vec![(index, Progress::Waiting, text)] };
            let line = attempt.encode();
            prop_assert_eq!(Attempt::decode(&line[..line.len() - 1]), Some(attempt));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Preamble::decode(&bytes);
            let _ = Meta::decode(&bytes);
            let mut state = State::new(&meta().envelope);
            state.replay(&bytes);
        }
    }
}

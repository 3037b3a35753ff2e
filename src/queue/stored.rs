// SPDX-License-Identifier: Apache-2.0
//! A message while it is being sent: read from disk in chunks, checked to the last byte.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::blocking;
use super::entry::{MessageId, SpoolError};
use super::journal::{Note, State};
use super::record::{Meta, PREAMBLE, Preamble};
use crate::message::date;
use crate::system::checksum::Checksum;
use crate::system::clock;

/// Bytes read at a time.
const CHUNK: usize = 32 << 10;
/// Bytes read at first, a page: all of a small message.
const FIRST: usize = 4 << 10;
/// Bytes of journal that are read back: many times what is ever written.
const JOURNAL_LIMIT: u64 = 4 << 20;
/// Notes that are displayed.
const NOTES_SHOWN: usize = 200;

/// An open message of the queue.
pub struct Stored {
    /// Envelope and metadata.
    pub meta: Meta,
    /// The state of its recipients.
    pub state: State,
    /// Its header, without the blank line.
    pub header: Vec<u8>,
    /// Bytes of its body as stored.
    pub body_size: u64,
    body: Option<Body>,
    /// The body of a message that is small, or not in a file.
    memory: Option<InMemory>,
}

struct InMemory {
    bytes: Vec<u8>,
    /// Whether it has been read.
    read: bool,
    /// Its checksum, if it comes from a file.
    expected: Option<u32>,
}

impl InMemory {
    fn check(&self) -> Result<(), SpoolError> {
        match self.expected {
            Some(expected) if expected != Checksum::of(&self.bytes) => Err(changed()),
            _ => Ok(()),
        }
    }
}

struct Body {
    file: File,
    left: u64,
    crc: Checksum,
    expected: u32,
    started: bool,
    /// Whether the file is in memory, so that it can be read without another thread.
    at_once: bool,
}

impl Stored {
    fn new(file: File, preamble: &Preamble, header: Vec<u8>, meta: Meta, state: State) -> Self {
        let body = Body {
            file,
            left: preamble.body,
            crc: Checksum::new(),
            expected: preamble.body_crc,
            started: false,
            at_once: false,
        };
        Self { meta, state, header, body_size: preamble.body, body: Some(body), memory: None }
    }

    /// The file is on a file system in memory.
    pub(super) fn held_in_memory(mut self) -> Self {
        if let Some(body) = &mut self.body {
            body.at_once = true;
        }
        self
    }

    /// With the body that the file has.
    fn holding(mut self, bytes: Vec<u8>) -> Self {
        let expected = self.body.take().map(|body| body.expected);
        self.memory = Some(InMemory { bytes, read: false, expected });
        self
    }

    /// A small message of our own that never enters the queue.
    pub fn in_memory(header: Vec<u8>, body: Vec<u8>, meta: Meta) -> Self {
        let state = State::new(&meta.envelope);
        let body_size = body.len() as u64;
        let memory = Some(InMemory { bytes: body, read: false, expected: None });
        Self { meta, state, header, body_size, body: None, memory }
    }

    /// The next chunk of the body; empty at its end.
    ///
    /// # Errors
    /// When the disk fails, and [`SpoolError::Damaged`] instead of the end when the body is not what was accepted. The
    /// caller must not finish the message then.
    pub async fn next(&mut self) -> Result<Vec<u8>, SpoolError> {
        if let Some(memory) = &mut self.memory {
            if std::mem::replace(&mut memory.read, true) {
                return Ok(Vec::new());
            }
            let checked = memory.check().map(|()| memory.bytes.clone());
            if checked.is_err() {
                self.memory = None;
            }
            return checked;
        }
        let Some(body) = self.body.take() else {
            return Err(SpoolError::Io(std::io::Error::other("reading continued after a failure")));
        };
        let (body, chunk) = if body.at_once {
            // A large message is read in many pieces, and between them it is the turn of others.
            tokio::task::yield_now().await;
            body.next()?
        } else {
            blocking(move || body.next()).await?
        };
        self.body = Some(body);
        Ok(chunk)
    }

    /// Reads the body once more, from its start. After a failure there is nothing left to read.
    pub fn rewind(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.read = false;
        }
        if let Some(body) = &mut self.body {
            (body.left, body.crc, body.started) = (self.body_size, Checksum::new(), false);
        }
    }
}

/// Corrects the dates that the gateway wrote while its clock was wrong.
pub(super) fn correct_dates(stored: &mut Stored, known: i64) {
    let Some(undated) = &stored.meta.undated else { return };
    let arrived = match undated.boot == clock::boot() {
        true if clock::is_set() => clock::at_uptime(undated.uptime),
        _ => known,
    };
    // A clock that NTP adjusts moves a little all the time: that was close enough.
    if arrived.abs_diff(stored.meta.arrived) > clock::STEP {
        date::correct(&mut stored.header, &undated.dates, arrived);
    }
}

#[cfg(test)]
impl Stored {
    /// The whole body, read on this thread: tests that read thousands do not wait for another one each time.
    pub(super) fn read_body(mut self) -> Result<Vec<u8>, SpoolError> {
        if let Some(memory) = self.memory {
            return memory.check().map(|()| memory.bytes);
        }
        let mut all = Vec::new();
        while let Some(body) = self.body.take() {
            let (body, chunk) = body.next()?;
            self.body = (!chunk.is_empty()).then_some(body);
            all.extend(chunk);
        }
        Ok(all)
    }
}

impl Body {
    fn next(mut self) -> Result<(Self, Vec<u8>), SpoolError> {
        if !self.started {
            self.file.seek(SeekFrom::Start(PREAMBLE as u64))?;
            self.started = true;
        }
        let length = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; length];
        self.file.read_exact(&mut chunk)?;
        self.crc.update(&chunk);
        self.left = self.left.saturating_sub(length as u64);
        if chunk.is_empty() && self.crc.value() != self.expected {
            return Err(changed());
        }
        Ok((self, chunk))
    }
}

fn changed() -> SpoolError {
    SpoolError::Damaged("its content on the disk is not what was accepted".into())
}

fn read_exact(file: &mut File, length: u32) -> Result<Vec<u8>, SpoolError> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads a message's envelope, header, state and size, and checks that it is complete.
pub(super) fn inspect(path: &Path, id: &str) -> Result<(Stored, u64), SpoolError> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((read_message(file, id)?, size))
}

/// Whether a file is a complete message, with its body read to the last byte.
pub(super) fn is_whole(path: &Path, id: MessageId) -> Result<bool, SpoolError> {
    let read = || {
        let Stored { mut body, memory, .. } = read_message(File::open(path)?, id.as_str())?;
        memory.map_or(Ok(()), |memory| memory.check())?;
        while let Some(reading) = body {
            let (rest, chunk) = reading.next()?;
            body = (!chunk.is_empty()).then_some(rest);
        }
        Ok(true)
    };
    match read() {
        Err(SpoolError::Damaged(_)) => Ok(false),
        result => result,
    }
}

/// Whether these are one file, seen by two paths. An overlay shows a file of the directory below it under another device,
/// with all the rest unchanged, while a copy has an inode and a time of its own: the device alone proves nothing.
pub(super) fn is_one_file(one: &Metadata, other: &Metadata) -> bool {
    let of = |file: &Metadata| (file.ino(), file.len(), file.mtime(), file.mtime_nsec());
    of(one) == of(other)
}

/// Bytes of a message's journal.
pub(super) fn journal_length(path: &Path) -> Result<u64, SpoolError> {
    let mut file = File::open(path)?;
    let start = read_preamble(&mut file, "")?.journal_offset().unwrap_or(u64::MAX);
    Ok(file.metadata()?.len().saturating_sub(start))
}

/// Reads the newest notes of a message's journal.
pub(super) fn read_notes(mut file: File, id: &str) -> Result<Vec<Note>, SpoolError> {
    let start = read_preamble(&mut file, id)?.journal_offset().unwrap_or(u64::MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut notes: Vec<Note> = Note::read(&read_journal(&mut file)?).collect();
    Ok(notes.split_off(notes.len().saturating_sub(NOTES_SHOWN)))
}

fn read_journal(file: &mut File) -> Result<Vec<u8>, SpoolError> {
    let mut journal = Vec::new();
    file.take(JOURNAL_LIMIT).read_to_end(&mut journal)?;
    Ok(journal)
}

fn damaged(id: &str, what: &str) -> SpoolError {
    SpoolError::Damaged(format!("message {id} is damaged: {what}"))
}

fn read_preamble(file: &mut File, id: &str) -> Result<Preamble, SpoolError> {
    let mut start = [0; PREAMBLE];
    file.read_exact(&mut start).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => damaged(id, "shorter than its preamble"),
        _ => e.into(),
    })?;
    Preamble::decode(&start).map_err(|what| damaged(id, what))
}

/// The next `length` bytes of what was read of a file at once.
fn take(bytes: &mut Vec<u8>, length: u64) -> Result<Vec<u8>, SpoolError> {
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len());
    let rest = length.map(|length| bytes.split_off(length)).ok_or(ErrorKind::UnexpectedEof);
    Ok(std::mem::replace(bytes, rest.map_err(std::io::Error::from)?))
}

/// Reads everything but the body, and checks all of it. A small message is read as a whole: its body is in memory then, and
/// is checked before it is used.
pub(super) fn read_message(mut file: File, id: &str) -> Result<Stored, SpoolError> {
    let damaged = |what| damaged(id, what);
    let mut start = vec![0; FIRST];
    let read = file.read(&mut start)?;
    start.truncate(read);
    let preamble = Preamble::decode(&start).map_err(damaged)?;
    let length = file.metadata()?.len();
    preamble.journal_offset().filter(|end| *end <= length).ok_or_else(|| damaged("truncated"))?;
    let small = length == read as u64;
    let (body, header, meta, journal);
    if small {
        take(&mut start, PREAMBLE as u64)?;
        body = take(&mut start, preamble.body)?;
        header = take(&mut start, u64::from(preamble.header))?;
        meta = take(&mut start, u64::from(preamble.meta))?;
        journal = start;
    } else {
        file.seek(SeekFrom::Start(preamble.body.saturating_add(PREAMBLE as u64)))?;
        body = Vec::new();
        header = read_exact(&mut file, preamble.header)?;
        meta = read_exact(&mut file, preamble.meta)?;
        journal = read_journal(&mut file)?;
    }
    let mut crc = Checksum::new();
    crc.update(&header);
    crc.update(&meta);
    if crc.value() != preamble.meta_crc {
        return Err(damaged("wrong checksum of header or envelope"));
    }
    let meta = Meta::decode(&meta).ok_or_else(|| damaged("envelope has an unknown format"))?;
    let mut state = State::new(&meta.envelope);
    state.replay(&journal);
    let stored = Stored::new(file, &preamble, header, meta, state);
    Ok(if small { stored.holding(body) } else { stored })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::message::{BodyForm, Encode, Envelope};
    use crate::queue::Marks;

    async fn read(stored: &mut Stored) -> Result<Vec<u8>, SpoolError> {
        let mut all = Vec::new();
        loop {
            match stored.next().await? {
                chunk if chunk.is_empty() => return Ok(all),
                chunk => all.extend(chunk),
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_is_read_again_is_checked_again() {
        let body: Vec<u8> = (0..20_000u32).flat_map(u32::to_be_bytes).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; PREAMBLE]).unwrap();
        file.write_all(&body).unwrap();
        let mut crc = Checksum::new();
        crc.update(&body);
        let preamble = Preamble { body: body.len() as u64, header: 0, meta: 0, body_crc: crc.value(), meta_crc: 0 };
        let envelope = Envelope { from: "a@b.c".into(), to: vec!["d@e.f".into()], smtputf8: false };
        let form = BodyForm { eight_bit: false, encode: Encode::Verbatim };
        let (client, marks, state) = ("10.0.0.1".to_string(), Marks::default(), State::new(&envelope));
        let meta = Meta { envelope, form, arrived: 1, client, notice: false, undated: None, marks };
        let disk = file.try_clone().unwrap();
        let mut stored = Stored::new(file, &preamble, Vec::new(), meta.clone(), state);
        assert_eq!(read(&mut stored).await.unwrap(), body);
        stored.rewind();
        // Also if it was not read to its end.
        assert!(!stored.next().await.unwrap().is_empty());
        stored.rewind();
        assert_eq!(read(&mut stored).await.unwrap(), body);
        stored.rewind();
        disk.write_all_at(b"!", PREAMBLE as u64 + 70_000).unwrap();
        assert!(matches!(read(&mut stored).await, Err(SpoolError::Damaged(_))));
        stored.rewind();
        assert!(matches!(stored.next().await, Err(SpoolError::Io(_))));
        let mut own = Stored::in_memory(Vec::new(), body.clone(), meta);
        for _ in 0..2 {
            assert_eq!(read(&mut own).await.unwrap(), body);
            own.rewind();
        }
    }

    #[tokio::test]
    async fn a_small_message_is_read_at_once_and_checked_before_it_is_used() {
        let envelope = Envelope { from: "a@b.c".into(), to: vec!["d@e.f".into()], smtputf8: false };
        let form = BodyForm { eight_bit: false, encode: Encode::Verbatim };
        let (client, marks) = ("10.0.0.1".to_string(), Marks::default());
        let meta = Meta { envelope, form, arrived: 1, client, notice: false, undated: None, marks };
        let (header, envelope) = (b"Subject: x\r\n".to_vec(), meta.encode());
        let made = |body: &[u8]| {
            let mut crc = Checksum::new();
            crc.update(&header);
            crc.update(&envelope);
            let [header_length, meta_length] = [&header, &envelope].map(|part| u32::try_from(part.len()).unwrap());
            let sums = (Checksum::of(body), crc.value());
            let body_size = body.len() as u64;
            let preamble = Preamble {
                body: body_size,
                header: header_length,
                meta: meta_length,
                body_crc: sums.0,
                meta_crc: sums.1,
            };
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[preamble.encode(), body.to_vec(), header.clone(), envelope.clone()].concat()).unwrap();
            file
        };
        let open = |file: &File| {
            let mut again = file.try_clone().unwrap();
            again.rewind().unwrap();
            read_message(again, "X").unwrap()
        };
        // Below a page, exactly one, and above.
        let rest = PREAMBLE + header.len() + envelope.len();
        for (length, at_once) in
            [(0, true), (1, true), (FIRST - rest, true), (FIRST - rest + 1, false), (20_000, false)]
        {
            let body = vec![b'x'; length];
            let file = made(&body);
            let mut stored = open(&file);
            assert_eq!((&stored.header, &stored.meta, stored.body_size), (&header, &meta, length as u64));
            assert_eq!(stored.memory.is_some(), at_once, "{length}");
            for _ in 0..2 {
                assert_eq!(read(&mut stored).await.unwrap(), body);
                stored.rewind();
            }
            if length > 0 {
                file.write_all_at(b"!", PREAMBLE as u64).unwrap();
                let mut stored = open(&file);
                assert!(matches!(read(&mut stored).await, Err(SpoolError::Damaged(_))), "{length}");
                assert!(matches!(stored.next().await, Err(SpoolError::Io(_))));
            }
        }
    }
}

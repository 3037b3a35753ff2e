//! The directories of the queue and what they promise.
//!
//! A message is written to `queue/.ID.tmp`, synced where the place promises it, renamed to `queue/ID.msg`, and the
//! directory is synced. So a file with its final name is always complete, whatever happened to the power. Recovery is a
//! scan of the directory. All functions here block; callers are on a thread that may.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::draft::Draft;
use super::record::Attempt;
use super::recovery::{files_of, set_aside};
use super::stored::{Stored, read_message};
use crate::config::{Durability, Relay};

/// Messages that the queue takes at most, whatever their size: each costs memory.
pub const MESSAGE_COUNT_LIMIT: usize = 20_000;

/// Which of the two directories a message lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `spool`: a RAM disk on most routers.
    Spool,
    /// `safe_spool`: survives power loss.
    Safe,
}

/// A message in the queue, as the schedule knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// Where its file is.
    pub place: Place,
    /// When it was accepted, seconds since 1970 by the clock of then.
    pub arrived: i64,
    /// Bytes of its file.
    pub size: u64,
}

/// Why the queue could not do something.
#[derive(Debug)]
pub enum SpoolError {
    /// There is no room: limit or disk. It may be better later.
    Full(String),
    /// The disk failed otherwise.
    Io(io::Error),
    /// The file is not what it should be, and never will be.
    Damaged(String),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory | ErrorKind::FileTooLarge => {
                Self::Full(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl std::fmt::Display for SpoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(what) => write!(f, "the queue is full: {what}"),
            Self::Io(error) => write!(f, "the queue can't be read or written: {error}"),
            Self::Damaged(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for SpoolError {}

/// What the queue takes up now.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    pub(super) messages: usize,
}

pub(super) struct Directory {
    pub(super) queue: PathBuf,
    /// Whether files and directory are synced before anything is promised.
    sync: bool,
}

/// The queue on disk.
pub struct Spool {
    pub(super) spool: Directory,
    pub(super) safe: Option<Directory>,
    accept: Place,
    limit: u64,
    usage: Mutex<Usage>,
}

impl Spool {
    /// Opens the directories, making them where they are missing.
    ///
    /// # Errors
    /// When a directory can't be made.
    pub fn open(relay: &Relay) -> Result<Arc<Self>, String> {
        let always = relay.durability == Durability::Always;
        let directory = |path: &Path, sync| {
            let queue = path.join("queue");
            let make = |path: &Path, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
            // The outer directory may be passed through (it holds the socket for local mail), the mail is private.
            make(path, 0o711)
                .and_then(|()| make(&queue, 0o700))
                .map_err(|e| format!("can't make the directory {}: {e}", queue.display()))?;
            Ok::<_, String>(Directory { queue, sync })
        };
        let spool = directory(&relay.spool, always)?;
        let safe = relay.safe_spool.as_deref().map(|path| directory(path, true)).transpose()?;
        let accept = if always && safe.is_some() { Place::Safe } else { Place::Spool };
        let usage = Mutex::new(Usage::default());
        Ok(Arc::new(Self { spool, safe, accept, limit: relay.spool_limit, usage }))
    }

    pub(super) fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, place: Place) -> &Directory {
        match (place, &self.safe) {
            (Place::Safe, Some(safe)) => safe,
            _ => &self.spool,
        }
    }

    fn path(&self, place: Place, id: &str) -> PathBuf {
        self.directory(place).queue.join(format!("{id}.msg"))
    }

    /// Where new messages go.
    pub fn accept_place(&self) -> Place {
        self.accept
    }

    /// Whether there is a second, safe directory to move waiting mail to.
    pub fn can_move(&self) -> bool {
        self.safe.is_some() && self.accept == Place::Spool
    }

    /// Whether a message of `bytes` (0: unknown) would fit now.
    ///
    /// # Errors
    /// [`SpoolError::Full`] with the reason.
    pub fn room_for(&self, bytes: u64) -> Result<(), SpoolError> {
        let usage = *self.usage();
        if usage.messages >= MESSAGE_COUNT_LIMIT {
            return Err(SpoolError::Full(format!("{} messages are waiting", usage.messages)));
        }
        let free = self.limit.saturating_sub(usage.bytes);
        if free == 0 || bytes > free {
            return Err(SpoolError::Full(format!(
                "{} of {} bytes are used (option spool_limit)",
                usage.bytes, self.limit
            )));
        }
        Ok(())
    }

    /// Sets `bytes` aside for a message that is arriving.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), SpoolError> {
        self.room_for(bytes)?;
        let mut usage = self.usage();
        usage.bytes = usage.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Gives back what [`Self::reserve`] took.
    pub(super) fn release(&self, bytes: u64) {
        let mut usage = self.usage();
        usage.bytes = usage.bytes.saturating_sub(bytes);
    }

    /// Begins a message. Nothing touches the disk before there is something to write.
    ///
    /// # Errors
    /// When the queue is full or the system has no random numbers.
    pub fn draft(self: &Arc<Self>) -> Result<Draft, SpoolError> {
        self.room_for(0)?;
        Ok(Draft::new(Arc::clone(self), crate::system::random_id()?))
    }

    /// Makes the file that a draft is written to.
    pub(super) fn create(&self, id: &str) -> Result<File, SpoolError> {
        let directory = self.directory(self.accept);
        if self.path(Place::Spool, id).exists() || self.path(Place::Safe, id).exists() {
            return Err(SpoolError::Io(io::Error::from(ErrorKind::AlreadyExists)));
        }
        let path = directory.queue.join(format!(".{id}.tmp"));
        Ok(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?)
    }

    /// Removes the file of a draft that came to nothing.
    pub(super) fn discard(&self, id: &str) {
        // It may not be there; recovery removes what is left.
        let _ = fs::remove_file(self.directory(self.accept).queue.join(format!(".{id}.tmp")));
    }

    /// Puts a complete draft into the queue. When this returns, the promise of the place holds.
    pub(super) fn publish(&self, id: &str, file: &File) -> Result<(), SpoolError> {
        let directory = self.directory(self.accept);
        if directory.sync {
            file.sync_all()?;
        }
        if let Err(error) = rename_into_place(directory, id) {
            // The device hears of a failure and will come again: the message must not be there twice.
            let _ = fs::remove_file(self.path(self.accept, id));
            return Err(error);
        }
        let mut usage = self.usage();
        usage.messages = usage.messages.saturating_add(1);
        Ok(())
    }

    /// Opens a message to send it.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] when the file is not a complete message.
    pub fn open_message(&self, entry: &Entry) -> Result<Stored, SpoolError> {
        read_message(File::open(self.path(entry.place, &entry.id))?, &entry.id)
    }

    /// Appends what an attempt brought.
    ///
    /// # Errors
    /// When the disk does not take it; the caller keeps it in memory then.
    pub fn record(&self, entry: &Entry, attempt: &Attempt) -> Result<(), SpoolError> {
        let line = attempt.encode();
        let mut file = OpenOptions::new().append(true).open(self.path(entry.place, &entry.id))?;
        let before = file.seek(SeekFrom::End(0))?;
        if let Err(error) = file.write_all(&line) {
            // Half a line would hide the next whole one.
            let _ = file.set_len(before);
            return Err(error.into());
        }
        if self.directory(entry.place).sync {
            file.sync_data()?;
        }
        Ok(())
    }

    /// Takes a message that has been dealt with out of the queue.
    ///
    /// # Errors
    /// When the file can't be removed; it would come back at the next start.
    pub fn remove(&self, entry: &Entry) -> Result<(), SpoolError> {
        let directory = self.directory(entry.place);
        match fs::remove_file(self.path(entry.place, &entry.id)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        self.forget(entry.size);
        if directory.sync {
            // Otherwise a power cut would bring it back and send it twice.
            File::open(&directory.queue)?.sync_all()?;
        }
        Ok(())
    }

    fn forget(&self, size: u64) {
        let mut usage = self.usage();
        usage.bytes = usage.bytes.saturating_sub(size);
        usage.messages = usage.messages.saturating_sub(1);
    }

    /// Renames a file that can't be used to `ID.bad`, for its owner to look at.
    pub fn set_aside(&self, entry: &Entry, reason: &str) {
        self.forget(entry.size);
        set_aside(&self.path(entry.place, &entry.id), reason);
    }

    /// Moves a message from `spool` to `safe_spool`, journal and all.
    ///
    /// # Errors
    /// When there is no safe directory or it does not take the message; the message stays where it is.
    pub fn move_to_safe(&self, entry: &Entry) -> Result<Entry, SpoolError> {
        let Some(safe) = self.safe.as_ref().filter(|_| entry.place == Place::Spool) else { return Ok(entry.clone()) };
        let temporary = safe.queue.join(format!(".{}.tmp", entry.id));
        let copy = || -> Result<(), SpoolError> {
            let mut from = File::open(self.path(Place::Spool, &entry.id))?;
            let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            io::copy(&mut from, &mut to)?;
            to.sync_all()?;
            rename_into_place(safe, &entry.id)
        };
        if let Err(error) = copy() {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        // Were this to fail, recovery finds both and keeps the safe one.
        let _ = fs::remove_file(self.path(Place::Spool, &entry.id));
        Ok(Entry { place: Place::Safe, ..entry.clone() })
    }

    /// Moves everything that lies in `spool` to `safe_spool`, what nobody has in hand included. For the end of a run.
    ///
    /// # Errors
    /// The first failure; the others are moved all the same.
    pub fn move_all_to_safe(&self) -> Result<usize, SpoolError> {
        let mut moved = 0;
        let mut failure = None;
        for (name, path) in files_of(&self.spool.queue)? {
            let Some(id) = name.strip_suffix(".msg") else { continue };
            let size = fs::metadata(&path).map(|m| m.len()).unwrap_or(0);
            let entry = Entry { id: id.into(), place: Place::Spool, arrived: 0, size };
            match self.move_to_safe(&entry) {
                Ok(_) => moved += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(moved), Err)
    }
}

fn rename_into_place(directory: &Directory, id: &str) -> Result<(), SpoolError> {
    fs::rename(directory.queue.join(format!(".{id}.tmp")), directory.queue.join(format!("{id}.msg")))?;
    if directory.sync {
        File::open(&directory.queue)?.sync_all()?;
    }
    Ok(())
}

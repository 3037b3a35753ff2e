// SPDX-License-Identifier: Apache-2.0
//! A connection to ubusd: sends and receives messages, and matches answers with the requests that wait for them. Or,
//! for startup and short-lived commands, a single blocking request over a connection of its own.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::blobmsg;
use super::message::{self, Body, HEAD, MessageFields, MessageHead, attribute, kind, status};
use crate::system::lock;

/// Maximum size of a message's attributes in bytes; larger messages are read and discarded.
pub const KEPT: usize = 256 << 10;
/// Maximum number of messages that wait to be written.
pub const OUTGOING: usize = 16;
/// Maximum number of parts of an answer.
const PIECES: usize = 16;
/// Number of bytes read at once.
const PIECE: usize = 2048;
/// Timeout for the rest of a message once it has started, and for ubusd to accept one of ours.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// There is no connection, or it has been lost.
    Gone,
    /// The timeout has expired.
    Silent,
    /// The answer cannot be parsed.
    Malformed,
    /// ubusd or the object refused with this status, see [`message::status`].
    Refused(u32),
}

/// A received message; `body` is missing if it was too large.
#[derive(Debug)]
pub struct Message {
    /// Its header.
    pub head: MessageHead,
    /// Its attributes.
    pub body: Option<Vec<u8>>,
}

struct Waiting {
    seq: u16,
    pieces: Vec<Vec<u8>>,
    bytes: usize,
    done: oneshot::Sender<(u32, Vec<Vec<u8>>)>,
}

/// The sending side of a connection, shared by everything that uses it.
pub struct Link {
    out: mpsc::Sender<Vec<u8>>,
    /// Only a few at once.
    waiting: Mutex<Vec<Waiting>>,
    last: AtomicU32,
    /// Our object; 0 while it has not been published.
    pub object: AtomicU32,
    /// The anonymous object that receives notifications of others; 0 if there is none.
    pub ear: AtomicU32,
    /// Whether our notifications have subscribers.
    pub watched: AtomicBool,
}

/// Withdraws a request when it is no longer waited for.
struct Withdrawal<'a>(&'a Link, u16);

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        self.0.waiting().retain(|request| request.seq != self.1);
    }
}

impl Link {
    /// A link whose messages are taken from the receiver.
    pub fn new() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let link = Self {
            out,
            waiting: Mutex::default(),
            last: AtomicU32::new(0),
            object: AtomicU32::new(0),
            ear: AtomicU32::new(0),
            watched: AtomicBool::new(false),
        };
        (link, outgoing)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        lock(&self.waiting)
    }

    /// The number of a new request: never 0, and never that of a pending one.
    fn number(&self, waiting: &[Waiting]) -> Option<u16> {
        (0..=u16::MAX).find_map(|_| {
            let [_, _, high, low] = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1).to_be_bytes();
            let seq = u16::from_be_bytes([high, low]);
            (seq != 0 && waiting.iter().all(|request| request.seq != seq)).then_some(seq)
        })
    }

    /// Sends a message, and waits until it has been queued. False if the connection is gone.
    pub async fn send(&self, message: Vec<u8>) -> bool {
        self.out.send(message).await.is_ok()
    }

    /// Sends a message if that is possible now; it is dropped if ubusd is slow.
    pub fn offer(&self, kind: u8, peer: u32, attributes: &[u8]) {
        let seq = self.number(&self.waiting()).unwrap_or(1);
        let _ = self.out.try_send(message::message(MessageHead { kind, seq, peer }, attributes));
    }

    /// Sends a request, and returns the attributes of each part of the answer.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(
        &self,
        kind: u8,
        peer: u32,
        attributes: &[u8],
        patience: Duration,
    ) -> Result<Vec<Vec<u8>>, RequestError> {
        let (done, answer) = oneshot::channel();
        let seq = {
            let mut waiting = self.waiting();
            let seq = self.number(&waiting).ok_or(RequestError::Gone)?;
            waiting.push(Waiting { seq, pieces: Vec::new(), bytes: 0, done });
            seq
        };
        let _place = Withdrawal(self, seq);
        let message = message::message(MessageHead { kind, seq, peer }, attributes);
        let both = async {
            self.out.send(message).await.map_err(|_| RequestError::Gone)?;
            answer.await.map_err(|_| RequestError::Gone)
        };
        match tokio::time::timeout(patience, both).await.unwrap_or(Err(RequestError::Silent))? {
            (status::OK, pieces) => Ok(pieces),
            (status, _) => Err(RequestError::Refused(status)),
        }
    }

    /// The object ID of the object `path`.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn lookup(&self, path: &str, patience: Duration) -> Result<u32, RequestError> {
        object(&self.request(kind::LOOKUP, 0, &message::lookup(path), patience).await?)
    }

    /// Publishes an object, and returns its object ID.
    ///
    /// # Errors
    /// See [`RequestError`]. Status 2 also means that ubusd's ACL does not allow it.
    pub async fn add_object(&self, attributes: &[u8], patience: Duration) -> Result<u32, RequestError> {
        object(&self.request(kind::ADD_OBJECT, 0, attributes, patience).await?)
    }

    /// Calls a method of an object.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn invoke(
        &self,
        object: u32,
        method: &str,
        arguments: &Value,
        patience: Duration,
    ) -> Result<Value, RequestError> {
        let data = blobmsg::encode(arguments).map_err(|_| RequestError::Malformed)?;
        let pieces = self.request(kind::INVOKE, object, &message::invoke(object, method, &data), patience).await?;
        answer(&pieces)
    }

    /// Handles a part of an answer, or its end.
    pub fn answered(&self, message: &Message) {
        let mut waiting = self.waiting();
        let body = message.body.as_deref().unwrap_or_default();
        let Some(place) = waiting.iter().position(|request| request.seq == message.head.seq) else { return };
        if message.head.kind == kind::DATA {
            if let Some(request) = waiting.get_mut(place)
                && request.pieces.len() < PIECES
                && request.bytes + body.len() <= KEPT
            {
                request.bytes += body.len();
                request.pieces.push(body.to_vec());
            }
        } else {
            let request = waiting.swap_remove(place);
            let status = MessageFields::read(body).ok().and_then(|fields| fields.status);
            // The requester may have stopped waiting.
            let _ = request.done.send((status.unwrap_or(u32::MAX), request.pieces));
        }
    }

    /// Answers a call.
    pub async fn reply(&self, call: MessageHead, object: u32, data: Option<&[u8]>, status: u32) -> bool {
        let own = || Body::default().number(attribute::OBJID, object);
        if let Some(data) = data {
            let data = own().nested(attribute::DATA, data).finish();
            if !self.send(message::message(MessageHead { kind: kind::DATA, ..call }, &data)).await {
                return false;
            }
        }
        let end = Body::default().number(attribute::STATUS, status).number(attribute::OBJID, object).finish();
        self.send(message::message(MessageHead { kind: kind::STATUS, ..call }, &end)).await
    }
}

/// The object ID in the first part of an answer.
pub(super) fn object(pieces: &[Vec<u8>]) -> Result<u32, RequestError> {
    let first = pieces.first().and_then(|piece| MessageFields::read(piece).ok());
    first.and_then(|fields| fields.object).ok_or(RequestError::Malformed)
}

/// The first part of an answer as JSON; an empty object if there is none.
pub(super) fn answer(pieces: &[Vec<u8>]) -> Result<Value, RequestError> {
    let Some(piece) = pieces.first() else { return Ok(Value::Object(Default::default())) };
    let fields = MessageFields::read(piece).map_err(|_| RequestError::Malformed)?;
    blobmsg::decode(fields.data.unwrap_or_default()).map_err(|_| RequestError::Malformed)
}

/// Reads one message, without a timeout for its start.
///
/// # Errors
/// If the connection is gone, or if the data is not a message: the start of the next one cannot be found then.
pub async fn read(from: &mut OwnedReadHalf) -> io::Result<Message> {
    let mut first = [0; HEAD];
    from.read_exact(&mut first).await?;
    let (head, length) = message::head(&first)?;
    let rest = async {
        // Grows with the received data, not with the announced length.
        let mut body = (length <= KEPT).then(Vec::new);
        let (mut left, mut piece) = (length, [0; PIECE]);
        while left > 0 {
            let count = from.read(piece.get_mut(..left.min(PIECE)).unwrap_or_default()).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left = left.saturating_sub(count);
            if let Some(body) = &mut body {
                body.extend_from_slice(piece.get(..count).unwrap_or_default());
            }
        }
        io::Result::Ok(body)
    };
    let body = tokio::time::timeout(PATIENCE, rest).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
    Ok(Message { head, body })
}

/// Writes the messages from `outgoing`, until the connection is gone.
pub async fn write(mut to: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = outgoing.recv().await {
        let written = tokio::time::timeout(PATIENCE, to.write_all(&message)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

/// Maximum number of messages that are read before the request fails.
const MESSAGES: usize = 32;

/// Calls a method of the object `path`, with a total timeout of `patience`.
///
/// # Errors
/// See [`RequestError`].
pub fn ask(path: &str, method: &str, arguments: &Value, patience: Duration) -> Result<Value, RequestError> {
    let stream = super::connect().ok_or(RequestError::Gone)?;
    let mut talk = Talk { stream, until: Instant::now() + patience };
    let data = blobmsg::encode(arguments).map_err(|_| RequestError::Malformed)?;
    let object = object(&talk.request(1, kind::LOOKUP, 0, &message::lookup(path))?)?;
    answer(&talk.request(2, kind::INVOKE, object, &message::invoke(object, method, &data))?)
}

struct Talk {
    stream: UnixStream,
    until: Instant,
}

impl Talk {
    fn request(&mut self, seq: u16, kind: u8, peer: u32, attributes: &[u8]) -> Result<Vec<Vec<u8>>, RequestError> {
        let message = message::message(MessageHead { kind, seq, peer }, attributes);
        self.in_time()?;
        self.stream.write_all(&message).map_err(|error| trouble(&error))?;
        let mut pieces = Vec::new();
        for _ in 0..MESSAGES {
            let (head, body) = self.read()?;
            match head.kind {
                kind::DATA if head.seq == seq => pieces.push(body),
                kind::STATUS if head.seq == seq => {
                    let status = MessageFields::read(&body).ok().and_then(|fields| fields.status);
                    return match status {
                        Some(message::status::OK) => Ok(pieces),
                        Some(status) => Err(RequestError::Refused(status)),
                        None => Err(RequestError::Malformed),
                    };
                }
                // The greeting.
                _ => {}
            }
        }
        Err(RequestError::Malformed)
    }

    fn read(&mut self) -> Result<(MessageHead, Vec<u8>), RequestError> {
        let mut first = [0; HEAD];
        self.fill(&mut first)?;
        let (head, length) = message::head(&first).map_err(|_| RequestError::Malformed)?;
        if length > KEPT {
            return Err(RequestError::Malformed);
        }
        let mut body = vec![0; length];
        self.fill(&mut body)?;
        Ok((head, body))
    }

    /// Reads in pieces: a peer that sends a byte now and then does not get more time.
    fn fill(&mut self, mut place: &mut [u8]) -> Result<(), RequestError> {
        while !place.is_empty() {
            self.in_time()?;
            match self.stream.read(place) {
                Ok(0) => return Err(RequestError::Gone),
                Ok(count) => place = place.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(trouble(&error)),
            }
        }
        Ok(())
    }

    fn in_time(&self) -> Result<(), RequestError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RequestError::Silent);
        }
        let set = self.stream.set_nonblocking(false).and_then(|()| self.stream.set_read_timeout(Some(left)));
        set.and_then(|()| self.stream.set_write_timeout(Some(left))).map_err(|error| trouble(&error))
    }
}

fn trouble(error: &io::Error) -> RequestError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => RequestError::Silent,
        _ => RequestError::Gone,
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A single request over a connection of its own. Blocks, with a timeout: for startup and for short-lived commands.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::blobmsg;
use super::connection::{self, KEPT, RequestError};
use super::message::{self, HEAD, MessageFields, MessageHead, kind};

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
    let object = connection::object(&talk.request(1, kind::LOOKUP, 0, &message::lookup(path))?)?;
    connection::answer(&talk.request(2, kind::INVOKE, object, &message::invoke(object, method, &data))?)
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

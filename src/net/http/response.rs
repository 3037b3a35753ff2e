// SPDX-License-Identifier: Apache-2.0
//! A reply that is parsed as it arrives (HTTP/1.1, RFC 9112). Everything about it is limited.

use std::time::Duration;

use zeroize::Zeroizing;

/// Maximum length in bytes of a header line.
const LINE_LIMIT: usize = 8 << 10;
/// Maximum size in bytes of the header, including chunk headers and trailers.
const HEADER_LIMIT: usize = 32 << 10;
/// Maximum number of header fields.
const FIELDS_LIMIT: usize = 128;
/// Maximum size in bytes of the body: a reply with tokens has a tenth of it.
const BODY_LIMIT: usize = 32 << 10;

/// A complete reply. Its body may contain tokens, so it is wiped when dropped.
#[derive(Debug)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// How long the server asks to wait (RFC 9110 section 10.2.3), if it says so in seconds.
    pub retry_after: Option<Duration>,
}

/// What is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The status line and the fields.
    Head,
    /// This number of bytes of the body.
    Body(usize),
    /// Everything until the connection is closed (RFC 9112 section 6.3).
    UntilClosed,
    ChunkSize,
    /// This number of bytes of a chunk.
    Chunk(usize),
    /// The line end after a chunk.
    ChunkEnd,
    Trailer,
    Done,
}

/// A reply that is being read.
#[derive(Debug)]
pub struct Response {
    next: Next,
    /// The header so far, or the line of a chunk.
    lines: Zeroizing<Vec<u8>>,
    /// Where the line that has not ended yet begins in it.
    line: usize,
    /// Bytes of all lines.
    header: usize,
    status: u16,
    retry_after: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
    /// Whether the end of the body may be missing.
    status_only: bool,
}

const NOT_HTTP: &str = "something that is not HTTP";
const TOO_LONG: &str = "much more than a short reply";

impl Response {
    /// Nothing has been read yet.
    pub fn new(status_only: bool) -> Self {
        // Allocated at once, because a growing vector leaves copies of tokens behind.
        let body = Zeroizing::new(Vec::with_capacity(BODY_LIMIT));
        Self {
            next: Next::Head,
            lines: Zeroizing::default(),
            line: 0,
            header: 0,
            status: 0,
            retry_after: None,
            body,
            status_only,
        }
    }

    /// Whether the header of the final reply is complete.
    pub fn has_status(&self) -> bool {
        self.status >= 200
    }

    /// Processes the next bytes. True if the reply is complete; what follows it is ignored.
    ///
    /// # Errors
    /// What the server sent instead of a reply, in words.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<bool, &'static str> {
        while self.next != Next::Done && !bytes.is_empty() {
            let (left, after) = match self.next {
                Next::Body(left) => (left, Next::Done),
                Next::Chunk(left) => (left, Next::ChunkEnd),
                Next::UntilClosed => (usize::MAX, Next::Done),
                _ => {
                    bytes = self.take_line(bytes)?;
                    continue;
                }
            };
            let (piece, rest) = bytes.split_at(left.min(bytes.len()));
            if self.body.len() + piece.len() > BODY_LIMIT {
                if self.status_only {
                    self.next = Next::Done;
                    break;
                }
                return Err(TOO_LONG);
            }
            self.body.extend_from_slice(piece);
            self.next = match (self.next, left - piece.len()) {
                (_, 0) => after,
                (Next::Body(_), left) => Next::Body(left),
                (Next::Chunk(_), left) => Next::Chunk(left),
                (next, _) => next,
            };
            bytes = rest;
        }
        Ok(self.next == Next::Done)
    }

    /// The connection is closed, or the reply is complete.
    ///
    /// # Errors
    /// If a part is missing.
    pub fn finish(self) -> Result<Answer, &'static str> {
        match self.next {
            next if matches!(next, Next::Done | Next::UntilClosed) || (self.status_only && self.has_status()) => {
                Ok(Answer { status: self.status, body: self.body, retry_after: self.retry_after })
            }
            Next::Head if self.header == 0 => Err("nothing"),
            _ => Err("an incomplete reply"),
        }
    }

    /// Takes bytes up to the end of a line, and processes the line if it is complete.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let end = memchr::memchr(b'\n', bytes);
        let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        self.header += piece.len();
        self.lines.extend_from_slice(piece);
        if self.header > HEADER_LIMIT || self.lines.len() - self.line > LINE_LIMIT {
            return Err(TOO_LONG);
        }
        if end.is_some() {
            let lines = std::mem::take(&mut self.lines);
            self.next = match self.next {
                Next::Head => match head(&lines)? {
                    Some(Head { status, next, retry_after }) => {
                        self.status = status;
                        self.retry_after = retry_after;
                        next
                    }
                    None => {
                        self.line = lines.len();
                        self.lines = lines;
                        return Ok(rest);
                    }
                },
                next => in_chunks(next, &lines)?,
            };
            self.line = 0;
        }
        Ok(rest)
    }
}

/// What a complete header says.
struct Head {
    status: u16,
    /// What follows it (RFC 9112 section 6.3).
    next: Next,
    retry_after: Option<Duration>,
}

/// Reads a header; `None` if it is incomplete.
fn head(lines: &[u8]) -> Result<Option<Head>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_LIMIT];
    let mut head = httparse::Response::new(&mut fields);
    match head.parse(lines) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LONG),
        Err(_) => return Err(NOT_HTTP),
    }
    let status = head.code.filter(|code| (100..=599).contains(code)).ok_or(NOT_HTTP)?;
    let (mut length, mut chunked, mut retry_after) = (None, false, None);
    for field in head.headers {
        let value = std::str::from_utf8(field.value).unwrap_or_default().trim();
        if field.name.eq_ignore_ascii_case("content-length") {
            let number = Some(value).filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
            let number: usize = number.and_then(|v| v.parse().ok()).ok_or(NOT_HTTP)?;
            if length.replace(number).is_some_and(|known| known != number) {
                return Err(NOT_HTTP);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") || chunked {
                return Err("an unrequested encoding");
            }
            chunked = true;
        } else if field.name.eq_ignore_ascii_case("retry-after") {
            retry_after = value.parse().ok().map(Duration::from_secs);
        }
    }
    let next = match (status, chunked, length) {
        // An interim response (RFC 9110 section 15.2): the final one follows.
        (100..=199, ..) => Next::Head,
        (204 | 304, ..) | (_, false, Some(0)) => Next::Done,
        (_, true, _) => Next::ChunkSize,
        (_, _, Some(length)) => Next::Body(length),
        _ => Next::UntilClosed,
    };
    Ok(Some(Head { status, next, retry_after }))
}

/// What follows a line before, after or behind a chunk (RFC 9112 section 7.1).
fn in_chunks(next: Next, line: &[u8]) -> Result<Next, &'static str> {
    // A lone LF may end a line (RFC 9112 section 2.2).
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match next {
        // Hexadecimal, possibly followed by an extension.
        Next::ChunkSize => {
            let text = std::str::from_utf8(line).unwrap_or_default();
            let digits = text.split(';').next().unwrap_or_default().trim();
            let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let size = usize::from_str_radix(digits, 16).ok().filter(|_| plain).ok_or(NOT_HTTP)?;
            Ok(if size == 0 { Next::Trailer } else { Next::Chunk(size) })
        }
        Next::ChunkEnd if line.is_empty() => Ok(Next::ChunkSize),
        Next::Trailer if line.is_empty() => Ok(Next::Done),
        Next::Trailer => Ok(Next::Trailer),
        _ => Err(NOT_HTTP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The result of these bytes when they arrive in pieces of this size and the connection is closed after them.
    fn read(bytes: &[u8], piece: usize) -> Result<(u16, Vec<u8>), &'static str> {
        let mut response = Response::new(false);
        for piece in bytes.chunks(piece.max(1)) {
            if response.take(piece)? {
                break;
            }
        }
        response.finish().map(|answer| (answer.status, answer.body.to_vec()))
    }

    #[test]
    fn every_form_of_a_reply() {
        for (reply, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}behind", 200, "{}"),
            ("HTTP/1.1 400\r\ncontent-length:2\r\nContent-Length: 2\r\n\r\n{}", 400, "{}"),
            ("HTTP/1.0 200 OK\r\n\r\nuntil closed", 200, "until closed"),
            ("HTTP/1.1 204 \r\n\r\nno body", 204, ""),
            ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", 200, ""),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4;a=b\r\nWiki\r\nA \r\npedia in\r\n\r\n0\r\nX: y\r\n\r\n",
                200,
                "Wikipedia in\r\n",
            ),
        ] {
            for piece in [1, 3, 1000] {
                assert_eq!(read(reply.as_bytes(), piece), Ok((status, body.into())), "{reply}");
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let header = |field: &str| format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n{{}}");
        for (reply, why) in [
            (String::new(), "nothing"),
            ("220 mail.example ESMTP\r\n".into(), NOT_HTTP),
            ("HTTP/2 200\r\n\r\n".into(), NOT_HTTP),
            ("HTTP/1.1 999 x\r\n\r\n".into(), NOT_HTTP),
            ("HTTP/1.1 2000 x\r\n\r\n".into(), NOT_HTTP),
            ("HTTP/1.1 200 OK\r\nContent-Le".into(), "an incomplete reply"),
            (header("Content-Length: 3"), "an incomplete reply"),
            (header("Content-Length: -1"), NOT_HTTP),
            (header("Content-Length: 99999999999999999999999"), NOT_HTTP),
            (header("Content-Length: 1\r\nContent-Length: 2"), NOT_HTTP),
            (header("no colon"), NOT_HTTP),
            (header("Transfer-Encoding: gzip, chunked"), "an unrequested encoding"),
            (header("Transfer-Encoding: chunked\r\n\r\n-1"), NOT_HTTP),
            (header("Transfer-Encoding: chunked\r\n\r\n1\r\nxx"), NOT_HTTP),
            (header("Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n"), NOT_HTTP),
            (header(&format!("X: {}", "x".repeat(LINE_LIMIT))), TOO_LONG),
            (header(&"X: y\r\n".repeat(HEADER_LIMIT / 6 + 1)), TOO_LONG),
            (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(BODY_LIMIT + 1)), TOO_LONG),
            (header(&format!("Transfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(HEADER_LIMIT))), TOO_LONG),
            ("HTTP/1.1 100 Continue\r\n\r\n".repeat(HEADER_LIMIT / 20), TOO_LONG),
        ] {
            for piece in [1, 7, 100_000] {
                assert_eq!(read(reply.as_bytes(), piece), Err(why), "{:.60}", reply);
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_taken_beyond_the_bounds(bytes: Vec<u8>, piece in 1..50usize) {
            let _ = read(&bytes, piece);
            let _ = read(&[b"HTTP/1.1 200 OK\r\n", bytes.as_slice()].concat(), piece);
            let _ = read(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bytes.as_slice()].concat(), piece);
        }

        #[test]
        fn how_a_reply_is_cut_does_not_matter(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..80), 0..9),
            piece in 1..300usize,
            chunked: bool,
        ) {
            let body = chunks.concat();
            let mut reply = b"HTTP/1.1 200 OK\r\n".to_vec();
            if chunked {
                reply.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    reply.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    reply.extend_from_slice(chunk);
                    reply.extend_from_slice(b"\r\n");
                }
                reply.extend_from_slice(b"0\r\n\r\n");
            } else {
                reply.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                reply.extend_from_slice(&body);
            }
            prop_assert_eq!(read(&reply, piece), Ok((200, body.clone())));
            // No prefix of it is mistaken for the complete reply.
            for end in 0..reply.len() {
                prop_assert!(read(&reply[..end], piece).is_err(), "{}", end);
            }
        }
    }
}

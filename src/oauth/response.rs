// SPDX-License-Identifier: Apache-2.0
//! The reply of a web server (HTTP/1.1, RFC 9112), parsed as it arrives. Everything is limited.

use zeroize::Zeroizing;

/// Maximum length in bytes of a header line.
const LINE_LIMIT: usize = 8 << 10;
/// Maximum size in bytes of the header, including chunk headers and trailers.
const HEADER_LIMIT: usize = 32 << 10;
/// Maximum size in bytes of the body: a reply with tokens has a tenth of it.
pub const BODY_LIMIT: usize = 32 << 10;

/// A complete reply. Its body may contain tokens, so it is wiped when dropped.
#[derive(Debug)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

/// What is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// `HTTP/1.1 200 OK`.
    Status,
    Field,
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
    line: Zeroizing<Vec<u8>>,
    header: usize,
    status: u16,
    length: Option<usize>,
    chunked: bool,
    body: Zeroizing<Vec<u8>>,
}

type Read = Result<(), &'static str>;

const NOT_HTTP: &str = "something that is not HTTP";
const TOO_LONG: &str = "much more than a token reply";

impl Response {
    /// Nothing has been read yet.
    pub fn new() -> Self {
        Self {
            next: Next::Status,
            line: Zeroizing::new(Vec::new()),
            header: 0,
            status: 0,
            length: None,
            chunked: false,
            // Allocated at once, because a growing vector leaves copies of tokens behind.
            body: Zeroizing::new(Vec::with_capacity(BODY_LIMIT)),
        }
    }

    /// Processes the next bytes. True if the reply is complete; what follows it is ignored.
    ///
    /// # Errors
    /// What the server sent instead of a reply, in words.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<bool, &'static str> {
        while self.next != Next::Done && !bytes.is_empty() {
            bytes = match self.next {
                Next::Body(left) | Next::Chunk(left) => {
                    let (piece, rest) = bytes.split_at(left.min(bytes.len()));
                    self.keep(piece)?;
                    let left = left - piece.len();
                    self.next = match self.next {
                        Next::Body(_) if left == 0 => Next::Done,
                        Next::Body(_) => Next::Body(left),
                        _ if left == 0 => Next::ChunkEnd,
                        _ => Next::Chunk(left),
                    };
                    rest
                }
                Next::UntilClosed => {
                    self.keep(bytes)?;
                    &[]
                }
                _ => self.take_line(bytes)?,
            };
        }
        Ok(self.next == Next::Done)
    }

    /// The connection is closed, or the reply is complete.
    ///
    /// # Errors
    /// If a part is missing.
    pub fn finish(self) -> Result<Answer, &'static str> {
        match self.next {
            Next::Done | Next::UntilClosed => Ok(Answer { status: self.status, body: self.body }),
            Next::Status if self.header == 0 && self.line.is_empty() => Err("nothing"),
            _ => Err("an incomplete reply"),
        }
    }

    fn keep(&mut self, piece: &[u8]) -> Read {
        if self.body.len() + piece.len() > BODY_LIMIT {
            return Err(TOO_LONG);
        }
        self.body.extend_from_slice(piece);
        Ok(())
    }

    /// Takes bytes up to the end of a line, and processes the line if it is complete.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let end = memchr::memchr(b'\n', bytes);
        let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        self.header += piece.len();
        self.line.extend_from_slice(piece);
        if self.header > HEADER_LIMIT || self.line.len() > LINE_LIMIT {
            return Err(TOO_LONG);
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            // A lone LF may end a line (RFC 9112 section 2.2).
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            self.line_is(line.strip_suffix(b"\r").unwrap_or(line))?;
        }
        Ok(rest)
    }

    fn line_is(&mut self, line: &[u8]) -> Read {
        let text = std::str::from_utf8(line).unwrap_or_default().trim_matches([' ', '\t']);
        match self.next {
            Next::Status => {
                let rest = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "));
                let code = rest.and_then(|rest| rest.split(' ').next()).filter(|code| code.len() == 3);
                let code = code.and_then(|code| code.parse().ok()).filter(|n| (100..=599).contains(n));
                self.status = code.ok_or(NOT_HTTP)?;
                self.next = Next::Field;
            }
            Next::Field if line.is_empty() => self.next = self.after_header(),
            Next::Field => return self.field(line),
            // RFC 9112 section 7.1: hexadecimal, possibly followed by an extension.
            Next::ChunkSize => {
                let digits = text.split(';').next().unwrap_or_default().trim_end();
                let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let size = usize::from_str_radix(digits, 16).ok().filter(|_| plain).ok_or(NOT_HTTP)?;
                self.next = if size == 0 { Next::Trailer } else { Next::Chunk(size) };
            }
            Next::ChunkEnd if line.is_empty() => self.next = Next::ChunkSize,
            Next::Trailer if line.is_empty() => self.next = Next::Done,
            Next::Trailer => {}
            _ => return Err(NOT_HTTP),
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Read {
        let Some(colon) = memchr::memchr(b':', line) else { return Err(NOT_HTTP) };
        let (name, value) = line.split_at(colon);
        let value = std::str::from_utf8(value.get(1..).unwrap_or_default()).unwrap_or_default().trim();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = Some(value).filter(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
            let length: usize = length.and_then(|v| v.parse().ok()).ok_or(NOT_HTTP)?;
            if self.length.is_some_and(|known| known != length) {
                return Err(NOT_HTTP);
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") || self.chunked {
                return Err("an unrequested encoding");
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// RFC 9112 section 6.3: the length of the body.
    fn after_header(&mut self) -> Next {
        match (self.status, self.chunked, self.length) {
            // An interim response (RFC 9110 section 15.2): the final one follows.
            (100..=199, ..) => {
                (self.length, self.chunked) = (None, false);
                Next::Status
            }
            (204 | 304, ..) => Next::Done,
            (_, true, _) => Next::ChunkSize,
            (_, _, Some(0)) => Next::Done,
            (_, _, Some(length)) => Next::Body(length),
            _ => Next::UntilClosed,
        }
    }
}

impl Default for Response {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The result of these bytes when they arrive in pieces of this size and the connection is closed after them.
    fn read(bytes: &[u8], piece: usize) -> Result<(u16, Vec<u8>), &'static str> {
        let mut response = Response::new();
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

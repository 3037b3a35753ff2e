// SPDX-License-Identifier: Apache-2.0
//! The picture of a message, such as the snapshot of a camera. [`Finder`] finds and measures it in one pass over the
//! body, and decodes it in a second one, so that memory does not grow with its size.

use super::base64::{Decoder, is_digit};
use super::encoded;
use super::encoded::parameters::parameters;
use super::header::{find, push_line};
use super::parts::{Content, DELIMITER_LIMIT, Entity, HEADER_LIMIT, Position, Tree, is_header_line, make_room};
use super::text::media;

/// A picture that HTML refers to is a logo or counts readers, and not what was photographed, if it has fewer bytes.
const LITTLE: u64 = 4 << 10;
/// The kinds of pictures that all services and browsers show, each with the extension of its files.
const KINDS: [(&str, &str); 4] = [("jpeg", "jpg"), ("png", "png"), ("gif", "gif"), ("webp", "webp")];

/// A picture in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    kind: (&'static str, &'static str),
    /// Its size in bytes, decoded.
    pub size: u64,
    /// Whether its base64 can be decoded.
    pub is_whole: bool,
    /// How many parts with pictures are before it.
    part: u32,
}

impl Picture {
    /// Its media type, such as `image/jpeg`.
    pub fn media_type(&self) -> String {
        format!("image/{}", self.kind.0)
    }

    /// A file name with the right extension. Its own may contain anything, and says nothing.
    pub fn file_name(&self) -> String {
        format!("picture.{}", self.kind.1)
    }
}

/// The kind of picture that the header of a part names: by its media type, or by a file name.
fn kind(header: &[u8]) -> Option<(&'static str, &'static str)> {
    let known = |word: &str| KINDS.into_iter().find(|(subtype, extension)| word == *subtype || word == *extension);
    let media = media(header);
    if let Some(subtype) = media.strip_prefix("image/") {
        return known(subtype);
    }
    // What cannot be parsed is a file as well, if it has a file name.
    let fields = ["Content-Disposition", "Content-Type"].iter().filter_map(|name| find(header, name));
    let fields = fields.filter(|_| media.is_empty() || media == "application/octet-stream");
    let mut all = fields.flat_map(|field| parameters(field.value).collect::<Vec<_>>());
    all.find_map(|(key, value)| {
        let named = matches!(key.split('*').next(), Some("filename" | "name"));
        let name = encoded::decode(&value).to_ascii_lowercase();
        name.rsplit_once('.').filter(|_| named).and_then(|(_, extension)| known(extension))
    })
}

/// Walks through one body.
#[derive(Debug, Default)]
pub struct Finder {
    tree: Tree,
    state: State,
    /// The start of a line that has to be examined as a whole.
    held: Vec<u8>,
    /// Whether a line was started that is not a boundary, and is not complete yet.
    mid_line: bool,
    /// Parts with pictures so far.
    parts: u32,
    /// The part to decode, in the second pass.
    decoder: Option<(u32, Decoder)>,
    found: Option<Picture>,
}

#[derive(Debug, Default)]
enum State {
    /// In the header of a part, or of a message in a part.
    Header { text: Vec<u8>, in_digest: bool },
    /// In a picture.
    Picture(Tally),
    /// In anything else.
    #[default]
    Other,
}

/// What is known of a picture that has begun.
#[derive(Debug)]
struct Tally {
    kind: (&'static str, &'static str),
    part: u32,
    /// Whether HTML can refer to it (RFC 2392).
    linked: bool,
    digits: u64,
    padded: bool,
    broken: bool,
}

impl Finder {
    /// Searches the body that belongs to `header` for its first picture.
    pub fn new(header: &[u8]) -> Self {
        let mut this = Self::default();
        this.enter(header, false);
        this
    }

    /// Decodes `picture`, which was found in the same body.
    pub fn decode(header: &[u8], picture: &Picture) -> Self {
        Self { decoder: Some((picture.part, Decoder::default())), ..Self::new(header) }
    }

    /// Takes the next bytes of the body. What is decoded is appended to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.found.is_some() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut rest = &held[..];
        loop {
            let in_header = matches!(self.state, State::Header { .. });
            let limit = if in_header { HEADER_LIMIT } else { DELIMITER_LIMIT };
            if let Some((line, tail)) = memchr::memmem::find(rest, b"\r\n").and_then(|at| rest.split_at_checked(at)) {
                rest = tail.get(2..).unwrap_or_default();
                self.line(line, out);
            } else if self.mid_line || rest.len() > limit + 1 {
                if in_header {
                    self.state = State::Other;
                }
                // A CR at the end may be half of a CRLF.
                let length = rest.len() - usize::from(rest.ends_with(b"\r"));
                let Some((start, tail)) = rest.split_at_checked(length) else { break };
                self.body(start, out);
                self.mid_line = true;
                rest = tail;
                break;
            } else {
                break;
            }
        }
        let left = rest.len();
        held.drain(..held.len() - left);
        self.held = held;
    }

    /// Ends the body; returns the picture.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Option<Picture> {
        let held = std::mem::take(&mut self.held);
        if self.found.is_none() && !held.is_empty() {
            self.line(&held, out);
        }
        self.end_part();
        self.found
    }

    /// Takes a line, or the rest of one, without its CRLF.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.mid_line)
            && let Some(delimiter) = self.tree.delimiter(line)
        {
            self.end_part();
            self.state = match self.tree.pass(delimiter).0 {
                Position::Header { in_digest, .. } => State::Header { text: Vec::new(), in_digest },
                Position::Around | Position::Leaf => State::Other,
            };
            return;
        }
        let State::Header { text, in_digest } = &mut self.state else { return self.body(line, out) };
        if is_header_line(line, text.is_empty()) {
            let length = line.len() + 2;
            if text.len() + length > HEADER_LIMIT && make_room(text, length).is_none() {
                self.state = State::Other;
            } else {
                push_line(line, text);
            }
            return;
        }
        let (text, in_digest) = (std::mem::take(text), *in_digest);
        self.enter(&text, in_digest);
        // A line that is not a field ends the header like the blank line, which is missing.
        if !line.is_empty() {
            self.line(line, out);
        }
    }

    /// Starts the body that belongs to `header`.
    fn enter(&mut self, header: &[u8], in_digest: bool) {
        let content = Entity::read(header, in_digest).content;
        self.state = match self.tree.enter(&content) {
            Ok(Position::Header { in_digest, .. }) => State::Header { text: Vec::new(), in_digest },
            Ok(Position::Leaf) if content == Content::Base64 => self.picture(header),
            _ => State::Other,
        };
    }

    fn picture(&mut self, header: &[u8]) -> State {
        let Some(kind) = kind(header) else { return State::Other };
        let (part, linked) = (self.parts, find(header, "Content-ID").is_some());
        self.parts = part.saturating_add(1);
        State::Picture(Tally { kind, part, linked, digits: 0, padded: false, broken: false })
    }

    /// Takes bytes that belong to the content of a part.
    fn body(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let State::Picture(tally) = &mut self.state else { return };
        if self.found.is_some() {
            return;
        }
        for byte in bytes {
            match byte {
                b'=' => tally.padded = true,
                b' ' | b'\t' | b'\r' | b'\n' => {}
                byte if is_digit(*byte) => {
                    tally.digits = tally.digits.saturating_add(1);
                    tally.broken |= tally.padded;
                }
                _ => tally.broken = true,
            }
        }
        if let Some((part, decoder)) = &mut self.decoder
            && *part == tally.part
        {
            decoder.push(bytes, out);
        }
    }

    fn end_part(&mut self) {
        let State::Picture(tally) = std::mem::take(&mut self.state) else { return };
        let rest = tally.digits % 4;
        let size = tally.digits / 4 * 3 + rest.saturating_sub(1);
        let wanted = match &self.decoder {
            Some((part, _)) => *part == tally.part,
            None => size > 0 && !(tally.linked && size < LITTLE),
        };
        if wanted && self.found.is_none() {
            let is_whole = !tally.broken && rest != 1;
            self.found = Some(Picture { kind: tally.kind, size, is_whole, part: tally.part });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::base64::base64;
    use proptest::prelude::*;

    const MIXED: &str = "Content-Type: multipart/mixed; boundary=b\r\n";
    const JPEG: &str = "Content-Type: image/jpeg\r\nContent-Transfer-Encoding: base64\r\n";

    /// A part with these fields and this content as base64.
    fn part(fields: &str, content: &[u8]) -> String {
        let code = base64(content);
        let lines: Vec<&str> = code.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("--b\r\n{fields}\r\n{}\r\n", lines.join("\r\n"))
    }

    fn found(header: &str, body: &str, cut: usize) -> Option<(Picture, Vec<u8>)> {
        let mut finder = Finder::new(header.as_bytes());
        let mut nothing = Vec::new();
        body.as_bytes().chunks(cut).for_each(|chunk| finder.push(chunk, &mut nothing));
        let picture = finder.finish(&mut nothing)?;
        assert!(nothing.is_empty());
        let (mut second, mut out) = (Finder::decode(header.as_bytes(), &picture), Vec::new());
        body.as_bytes().chunks(cut).for_each(|chunk| second.push(chunk, &mut out));
        assert_eq!(second.finish(&mut out), Some(picture));
        Some((picture, out))
    }

    #[test]
    fn the_first_picture_is_found() {
        let text = "--b\r\nContent-Type: text/plain\r\n\r\nmotion\r\n";
        let (snap, end) = (vec![0xff; 5000], "--b--\r\n");
        let file = |kind: &str, name: &str| {
            format!(
                "Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; {name}\r\n"
            )
        };
        let linked = |id: &str| format!("{JPEG}Content-ID: <{id}>\r\n");
        let nested = format!(
            "{text}--b\r\nContent-Type: multipart/related; boundary=c\r\n\r\n--c\r\n{JPEG}\r\nAQID\r\n--c--\r\n{end}"
        );
        for (body, expected) in [
            (format!("{text}{}{}{end}", part(JPEG, &[1, 2, 3]), part(JPEG, &snap)), Some(("picture.jpg", 3))),
            (
                format!("{text}{}{end}", part(&file("application/octet-stream", "filename=\"a.b.PNG\""), b"x")),
                Some(("picture.png", 1)),
            ),
            (
                format!("{}{end}", part(&file("application/octet-stream", "filename*=utf-8''T%C3%BCr.webp"), b"xy")),
                Some(("picture.webp", 2)),
            ),
            (format!("{}{end}", part(&file("application/octet-stream", "filename=jpg"), b"x")), None),
            (format!("{}{end}", part(&file("application/pdf", "filename=a.jpg"), b"x")), None),
            (format!("{}{end}", part(&file("image/tiff", "filename=a.jpg"), b"x")), None),
            (nested, Some(("picture.jpg", 3))),
            // A logo before the snapshot.
            (
                format!("{}{}{end}", part(&linked("logo"), b"x"), part(&linked("snap"), &snap)),
                Some(("picture.jpg", 5000)),
            ),
            (format!("{}{end}", part(&linked("pixel"), b"x")), None),
            // Without an end, and without the blank line.
            (part(JPEG, &snap), Some(("picture.jpg", 5000))),
            (format!("--b\r\n{JPEG}\r\n--b--\r\n"), None),
            (text.to_string(), None),
        ] {
            let picture = found(MIXED, &body, 7);
            let seen = picture.as_ref().map(|(picture, _)| (picture.file_name(), picture.size));
            assert_eq!(seen, expected.map(|(name, size)| (name.to_string(), size)), "{body}");
            assert!(picture.is_none_or(|(picture, out)| picture.is_whole && out.len() as u64 == picture.size));
        }
        // The message is the picture; and nothing else is.
        assert_eq!(found(JPEG, "AQID", 1).unwrap().1, [1, 2, 3]);
        assert_eq!(found("Content-Type: image/jpeg\r\n", "AQID\r\n", 1), None);
        assert_eq!(found("", "--b\r\n", 1), None);
    }

    #[test]
    fn broken_base64_is_not_a_picture() {
        for (code, whole) in [
            ("AQID", true),
            ("AQI", true),
            ("AQI=", true),
            ("AQ ID\t", true),
            ("AQIDA", false),
            ("AQ=ID", false),
            ("AQ?D", false),
            ("AQI\u{e4}", false),
        ] {
            assert_eq!(found(JPEG, &format!("{code}\r\n"), 3).unwrap().0.is_whole, whole, "{code}");
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_picture() {
        // One line of base64 over 100 MB, and one with a line end each 76 bytes.
        for chunk in [vec![b'Q'; 32 << 10], format!("{}\r\n", "Q".repeat(76)).repeat(420).into_bytes()] {
            let mut finder = Finder::new(JPEG.as_bytes());
            let digits = chunk.iter().filter(|byte| **byte == b'Q').count() as u64;
            let rounds = (100 << 20) / digits;
            for _ in 0..rounds {
                finder.push(&chunk, &mut Vec::new());
                assert!(finder.held.capacity() <= chunk.len() + 2 * HEADER_LIMIT, "{}", finder.held.capacity());
            }
            let picture = finder.finish(&mut Vec::new()).unwrap();
            assert_eq!((picture.size, picture.is_whole), (digits * rounds / 4 * 3, true));
        }
    }

    proptest! {
        #[test]
        fn whatever_a_picture_is_it_arrives(content in proptest::collection::vec(any::<u8>(), 1..600), cut in 1usize..90) {
            let body = format!("before\r\n{}--b\r\n\r\nafter\r\n--b--\r\n", part(JPEG, &content));
            let (picture, out) = found(MIXED, &body, cut).unwrap();
            prop_assert!(picture.is_whole && out == content);
        }

        #[test]
        fn no_body_is_too_odd(body in "(--b|--|\r\n|\n|A|=| |Content-Type: image/png|Content-Transfer-Encoding: base64|: ){0,60}", cut in 1usize..40) {
            if let Some((picture, out)) = found(MIXED, &body, cut) {
                prop_assert!(!picture.is_whole || out.len() as u64 == picture.size);
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The parts of a body: what the header of a message or part says about its body (RFC 2045), which boundary ends what,
//! and what begins after it (RFC 2046 section 5.1).
//!
//! Receiving and sending side walk through a body with the same [`Tree`], so they agree where a part begins and whether
//! it is text.

use super::encoded::parameters::{find as parameter, media_type, parameters};
use super::header::{NAME_LIMIT, fields, find};
use super::tokens::tokens;

const ENCODING: &str = "Content-Transfer-Encoding";
/// Maximum nesting of multiparts and messages.
pub const NESTING: usize = 50;
/// Maximum size of the header of a part that is held back, in bytes. A larger one is read too, as long as what describes
/// the content fits into half of it.
pub const HEADER_LIMIT: usize = 16 << 10;
/// Maximum length of a boundary: several times what RFC 2046 section 5.1.1 allows. With [`NESTING`] it bounds the memory
/// for boundaries to 25 KB.
const BOUNDARY_LIMIT: usize = 500;
/// Maximum length of a line that is examined as a whole, since it may be a boundary followed by spaces.
pub const DELIMITER_LIMIT: usize = 1024;
/// Maximum length of the name of a charset, in bytes.
const CHARSET_LIMIT: usize = 40;
/// Maximum number of boundaries of one multipart that are looked for, if its type is named more than once.
const CANDIDATES: usize = 8;

/// The kind of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Parts between boundaries (RFC 2046 section 5.1).
    Multipart {
        /// The boundary, without hyphens.
        boundary: Vec<u8>,
        /// Whether parts without a declared type are messages (RFC 2046 section 5.1.5).
        digest: bool,
    },
    /// A message with its own header (RFC 2046 section 5.2.1).
    Message,
    /// Text, images … as they are.
    Leaf {
        /// Whether quoted-printable is suitable.
        text: bool,
    },
    /// Already quoted-printable.
    QuotedPrintable,
    /// Already base64.
    Base64,
    /// In an unknown encoding; its name.
    Encoded(String),
    /// Parts without a boundary.
    Unbounded,
}

impl Content {
    /// Whether each of its bytes matters: bare CR and LF are not line endings in it, and NUL is not padding.
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Leaf { text: false })
    }
}

/// The kind of a body, and whether its header declares it as 7-bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Its kind.
    pub content: Content,
    /// Whether it is declared as 7-bit, possibly by default (RFC 2045 section 6.1).
    pub called_7bit: bool,
}

impl Entity {
    /// Parses `header`. `in_digest` is whether it is a part of a multipart/digest.
    pub fn read(header: &[u8], in_digest: bool) -> Self {
        let kind = find(header, "Content-Type").map(|field| field.unfolded());
        let kind = kind.filter(|kind| !kind.is_empty());
        // What cannot be parsed is plain text (RFC 2045 section 5.2), unless it has a file name: then nothing says what
        // it is.
        let name = match kind.as_deref().and_then(media_type) {
            Some(name) => name,
            None if in_digest && kind.is_none() => "message/rfc822".to_string(),
            None if is_file(header) => "application/octet-stream".to_string(),
            None => "text/plain".to_string(),
        };
        let kind = kind.as_deref().unwrap_or_default();
        let encoding = find(header, ENCODING).map(|field| token(&field.unfolded())).unwrap_or_default();
        let content = if name.starts_with("multipart/") {
            match parameter(kind, "boundary") {
                Some(boundary) => Content::Multipart { boundary, digest: name == "multipart/digest" },
                None => Content::Unbounded,
            }
        } else {
            match encoding.as_str() {
                "quoted-printable" => Content::QuotedPrintable,
                "base64" => Content::Base64,
                old if is_unknown_encoding(old) => Content::Encoded(encoding.clone()),
                _ if matches!(name.as_str(), "message/rfc822" | "message/news") => Content::Message,
                // The header of a message/global may contain addresses that cannot be expressed in 7 bits; it may be
                // encoded as a whole (RFC 6532 section 3.7). Other types of message/ are text for programs.
                _ => Content::Leaf { text: is_text(&name, kind) },
            }
        };
        // What is already encoded is 7-bit. A multipart must not be labelled so (RFC 2045 section 6.4) but keeps its
        // label.
        let called_7bit = matches!(encoding.as_str(), "" | "7bit" | "7-bit" | "quoted-printable" | "base64");
        Self { content, called_7bit }
    }
}

/// Whether `header` has a file name.
pub fn is_file(header: &[u8]) -> bool {
    let has = |field: &str, name: &str| {
        let field = find(header, field);
        field.is_some_and(|field| parameters(field.value).any(|(key, _)| key.split('*').next() == Some(name)))
    };
    has("Content-Disposition", "filename") || has("Content-Type", "name")
}

/// The charset that `kind`, the value of a Content-Type, names for bytes over 127. ASCII and UTF-8 do not say what
/// other bytes are.
pub fn charset(kind: &[u8]) -> Option<Vec<u8>> {
    parameter(kind, "charset").filter(|name| !is_ascii(name) && !name.eq_ignore_ascii_case(b"utf-8"))
}

/// Whether the charset `name` is ASCII.
pub fn is_ascii(name: &[u8]) -> bool {
    ["", "us-ascii", "ascii", "ansi_x3.4-1968"].iter().any(|ascii| name.eq_ignore_ascii_case(ascii.as_bytes()))
}

/// Whether `encoding` names an encoding that is none of RFC 2045 but exists: what carries its name is not plain text.
pub fn is_unknown_encoding(encoding: &str) -> bool {
    ["x-", "uu", "yenc", "mac-"].iter().any(|start| encoding.starts_with(start) && encoding.len() > 2)
}

/// The boundary that `kind`, the value of a Content-Type, names for a multipart.
pub fn boundary(kind: &[u8]) -> Option<Vec<u8>> {
    let multipart = media_type(kind).is_some_and(|name| name.starts_with("multipart/"));
    parameter(kind, "boundary").filter(|_| multipart)
}

/// Whether a body of the type `name` consists of lines of text. In UTF-16 and UTF-32 it does not: their line endings
/// are other bytes, and quoted-printable cannot represent them (RFC 2781 section 4).
fn is_text(name: &str, kind: &[u8]) -> bool {
    let wide = || {
        let mut charset = parameter(kind, "charset").unwrap_or_default().to_ascii_lowercase();
        // Any other value is not a name, and is sent as something else.
        if charset.iter().any(|byte| !byte.is_ascii_graphic()) || charset.len() > CHARSET_LIMIT {
            return false;
        }
        charset.retain(u8::is_ascii_alphanumeric);
        let all = [&b"utf16"[..], b"utf32", b"ucs", b"iso10646ucs"];
        // Others that begin like these two are names of UTF-7.
        all.iter().any(|wide| charset.starts_with(wide)) || charset == b"unicode" || charset == b"csunicode"
    };
    if name.starts_with("text/") { !wide() } else { name.starts_with("message/") && name != "message/global" }
}

/// `header` with `encoding` as its only Content-Transfer-Encoding. A whole message also gets a MIME-Version if it has
/// none: without it the field has no meaning (RFC 2045 section 4).
pub fn relabelled(header: &[u8], encoding: &str, whole_message: bool) -> Vec<u8> {
    let line = format!("{ENCODING}: {encoding}\r\n");
    let mut out = Vec::with_capacity(header.len() + line.len());
    let mut labelled = false;
    for field in fields(header) {
        if !field.is(ENCODING) {
            out.extend_from_slice(field.raw);
        } else if !std::mem::replace(&mut labelled, true) {
            out.extend_from_slice(line.as_bytes());
        }
    }
    if whole_message && find(header, "MIME-Version").is_none() {
        out.extend_from_slice(b"MIME-Version: 1.0\r\n");
    }
    if !labelled {
        out.extend_from_slice(line.as_bytes());
    }
    out
}

/// The first word of a value, in lower case: an encoding without comments.
fn token(value: &[u8]) -> String {
    let word = tokens(value).find(|token| !token.is_filling()).map(|token| token.text).unwrap_or_default();
    String::from_utf8_lossy(word).to_ascii_lowercase()
}

/// The current position of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// In the header of a part, or of a message that is a part.
    Header {
        /// Whether a part without a declared type is a message.
        in_digest: bool,
        /// Whether it is the header of a message.
        whole_message: bool,
    },
    /// In the text around parts, which nobody reads.
    Around,
    /// In the body of a part.
    Leaf,
}

/// The open multiparts.
#[derive(Debug, Default)]
pub struct Tree {
    levels: Vec<Level>,
    /// Number of open multiparts and messages.
    nesting: usize,
    /// The boundary of the outermost multipart, once a part of it has begun.
    found: Option<Vec<u8>>,
    /// Whether that is the one of the body and not of the header.
    adopted: bool,
}

#[derive(Debug)]
struct Level {
    /// Its boundary, or the candidates until the first is found.
    boundaries: Vec<Vec<u8>>,
    digest: bool,
    nesting: usize,
    /// Whether a part has begun.
    seen: bool,
    /// Whether 8-bit bytes were replaced before that.
    lost: bool,
    /// What the body has in place of the declared boundary, see [`Tree::alias`].
    alias: Option<Vec<u8>>,
}

impl Level {
    fn new(boundaries: Vec<Vec<u8>>, digest: bool, nesting: usize) -> Self {
        Self { boundaries, digest, nesting, seen: false, lost: false, alias: None }
    }
}

/// A line that is a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiter {
    level: usize,
    candidate: usize,
    closing: bool,
}

/// Why a walk cannot enter a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Parts are nested too deeply.
    Nesting,
    /// The boundary is too long.
    Boundary,
}

impl Tree {
    /// The multipart that a message may be. `boundaries` are those named in its header.
    pub fn of_candidates(boundaries: Vec<(Vec<u8>, bool)>) -> Self {
        let mut tree = Self::default();
        let digest = boundaries.first().is_some_and(|(_, digest)| *digest);
        let short = boundaries.into_iter().map(|(boundary, _)| boundary).filter(|one| one.len() <= BOUNDARY_LIMIT);
        let boundaries: Vec<Vec<u8>> = short.take(CANDIDATES).collect();
        if !boundaries.is_empty() {
            tree.nesting = 1;
            tree.levels.push(Level::new(boundaries, digest, 1));
        }
        tree
    }

    /// Whether no multipart is open, so that no line can be a boundary.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Enters an entity with `content`; returns what comes next.
    ///
    /// # Errors
    /// If that exceeds the limits; it is then passed on as one block.
    pub fn enter(&mut self, content: &Content) -> Result<Position, Bound> {
        match content {
            Content::Multipart { boundary, digest } => {
                if boundary.len() > BOUNDARY_LIMIT {
                    return Err(Bound::Boundary);
                }
                self.deeper()?;
                self.levels.push(Level::new(vec![boundary.clone()], *digest, self.nesting));
                Ok(Position::Around)
            }
            Content::Message => {
                self.deeper()?;
                Ok(Position::Header { in_digest: false, whole_message: true })
            }
            _ => Ok(Position::Leaf),
        }
    }

    fn deeper(&mut self) -> Result<(), Bound> {
        if self.nesting >= NESTING {
            return Err(Bound::Nesting);
        }
        self.nesting += 1;
        Ok(())
    }

    /// Whether the current part belongs to a message that is a part.
    pub fn is_in_message(&self) -> bool {
        self.nesting > self.levels.len()
    }

    /// Whether `line`, given without its line ending, is a boundary (RFC 2046 section 5.1.1).
    pub fn delimiter(&self, line: &[u8]) -> Option<Delimiter> {
        let is_blank = |rest: &[u8]| rest.iter().all(|byte| matches!(byte, b' ' | b'\t'));
        let line = line.strip_prefix(b"--").filter(|line| line.len() + 2 <= DELIMITER_LIMIT)?;
        self.levels.iter().enumerate().rev().find_map(|(level, open)| {
            open.boundaries.iter().chain(&open.alias).enumerate().find_map(|(candidate, boundary)| {
                let tail = line.strip_prefix(&boundary[..])?;
                let closing = tail.strip_prefix(b"--").is_some_and(is_blank);
                (closing || is_blank(tail)).then_some(Delimiter { level, candidate, closing })
            })
        })
    }

    /// Takes the boundary of the outermost multipart from `line`, which begins with two hyphens, if it differs from the
    /// declared one in further hyphens only: some devices count the two of RFC 2046 section 5.1.1 as part of the
    /// boundary, or forget them. The declared one stays a candidate until [`Self::settle`]: the line may be a ruler in the
    /// text before the parts. Returns whether `line` can be a delimiter at all, so that it decides.
    pub fn adopt(&mut self, line: &[u8]) -> bool {
        let Some(own) = named(line) else { return false };
        if let [level] = &mut self.levels[..]
            && let [declared] = &level.boundaries[..]
            && differs(own, declared)
        {
            level.boundaries.insert(0, own.to_vec());
            self.adopted = true;
        }
        true
    }

    /// Whether `line` may be the first delimiter of an inner multipart, as [`Self::adopt`] finds it for the outermost one.
    /// Nothing is changed in a message that is a part: it may be signed.
    pub fn may_be_alias(&self, line: &[u8]) -> bool {
        let depth = self.levels.len();
        let level = self.levels.last().filter(|level| depth > 1 && level.nesting == depth && !level.seen);
        let declared = level.filter(|level| level.alias.is_none()).and_then(|level| level.boundaries.first());
        // The declared one takes its place, so a message must not grow much by that.
        declared
            .zip(named(line))
            .is_some_and(|(declared, own)| declared.len() <= 2 * own.len() && differs(own, declared))
    }

    /// A part has begun with `line`: it is a delimiter of the innermost multipart from now on, in addition to the declared one. The
    /// header of the multipart has been stored by then, so [`Self::right`] makes the delimiters fit to it.
    pub fn alias(&mut self, line: &[u8]) {
        if let Some((level, own)) = self.levels.last_mut().zip(named(line)) {
            level.alias = Some(own.to_vec());
        }
    }

    /// The line that `delimiter` has to be, if it is one of an [alias](Self::alias).
    pub fn right(&self, delimiter: Delimiter) -> Option<Vec<u8>> {
        let level = self.levels.get(delimiter.level).filter(|level| delimiter.candidate >= level.boundaries.len())?;
        let end: &[u8] = if delimiter.closing { b"--" } else { b"" };
        Some([b"--", level.boundaries.first()?.as_slice(), end].concat())
    }

    /// A part with a header has begun: the boundary that began it is that of the outermost multipart.
    pub fn settle(&mut self) {
        if let Some(level) = self.levels.first_mut() {
            level.boundaries.truncate(1);
        }
    }

    /// The boundary that was [adopted](Self::adopt).
    pub fn adopted(&self) -> Option<&[u8]> {
        self.boundary().filter(|_| self.adopted)
    }

    /// Moves past `delimiter`: ends what it ends, and returns what comes next. `true` if that ended a multipart whose
    /// text was [lost](Self::lose).
    pub fn pass(&mut self, delimiter: Delimiter) -> (Position, bool) {
        let Delimiter { level: at, candidate, closing } = delimiter;
        let (mut nesting, mut in_digest) = (self.nesting, false);
        if let Some(level) = self.levels.get_mut(at) {
            level.seen |= !closing;
            let is_adopted = at == 0 && self.adopted && candidate == 0;
            if candidate < level.boundaries.len() && !is_adopted {
                level.boundaries.swap(0, candidate);
                level.boundaries.truncate(1);
            }
            if at == 0 && self.adopted && !is_adopted {
                // The declared one is right.
                (self.adopted, self.found) = (false, None);
            }
            if at == 0 && !closing && self.found.is_none() {
                self.found = level.boundaries.first().cloned();
            }
            (nesting, in_digest) = (level.nesting, level.digest);
        }
        let lost = self.close(at + usize::from(!closing));
        self.nesting = if closing { nesting.saturating_sub(1) } else { nesting };
        (if closing { Position::Around } else { Position::Header { in_digest, whole_message: false } }, lost)
    }

    /// Ends the multiparts within the outermost `count`. Text before the first part is not worth a refusal; but if no
    /// part ever came, it was the message itself: then the result is `true`.
    pub fn close(&mut self, count: usize) -> bool {
        let lost = self.levels.iter().skip(count).any(|level| level.lost && !level.seen);
        self.levels.truncate(count);
        lost
    }

    /// Records that 8-bit bytes around parts were replaced.
    pub fn lose(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.lost |= !level.seen;
        }
    }

    /// The boundary of the outermost multipart, if a part of it has begun.
    pub fn boundary(&self) -> Option<&[u8]> {
        self.found.as_deref()
    }
}

/// The boundary of `line`, if it can be a delimiter: not a ruler of hyphens, and not a sentence.
fn named(line: &[u8]) -> Option<&[u8]> {
    let own = line.strip_prefix(b"--")?.trim_ascii_end();
    let is_boundary = own.len() <= BOUNDARY_LIMIT && own.iter().all(u8::is_ascii_graphic);
    (is_boundary && !without_hyphens(own).is_empty()).then_some(own)
}

/// Whether the boundary of the body differs from the declared one in hyphens only.
fn differs(own: &[u8], declared: &[u8]) -> bool {
    own != declared && without_hyphens(own) == without_hyphens(declared)
}

fn without_hyphens(boundary: &[u8]) -> &[u8] {
    let start = boundary.iter().position(|byte| *byte != b'-').unwrap_or(boundary.len());
    boundary.get(start..).unwrap_or_default()
}

/// Whether `line` continues the header of a part; `first` is whether it would begin it. A line that begins like a
/// boundary is never a field, whatever colons it contains.
pub fn is_header_line(line: &[u8], first: bool) -> bool {
    match line {
        [] | [b'-', b'-', ..] => false,
        [b' ' | b'\t', ..] => !first,
        _ => fields(line).next().is_some_and(|field| !field.name.is_empty() && field.name.len() <= NAME_LIMIT),
    }
}

/// Removes from the header of a part what does not describe its content, so that there is room for `length` more bytes;
/// returns that. The last field stays, since it may go on. If there still is not enough room, nothing is removed and the
/// result is `None`.
pub fn make_room(text: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    let mut all = fields(text).peekable();
    while let Some(field) = all.next() {
        let content = field.name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"Content-"));
        let to = if content || all.peek().is_none() { &mut kept } else { &mut removed };
        to.extend_from_slice(field.raw);
    }
    drop(all);
    // Half of it, so that the work for this is small compared with what was read since the last time.
    (kept.len() + length <= HEADER_LIMIT / 2).then(|| {
        *text = kept;
        removed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(header: &str) -> Content {
        Entity::read(header.as_bytes(), false).content
    }

    fn parts(boundary: &str) -> Content {
        Content::Multipart { boundary: boundary.into(), digest: false }
    }

    #[test]
    fn boundaries_are_found() {
        assert_eq!(content("Content-Type: multipart/mixed; boundary=abc\r\n"), parts("abc"));
        assert_eq!(
            content(
                "content-type: MULTIPART/x;\r\n\tcharset=\"a;boundary=b\";\r\n BOUNDARY = \"=_ (x);\\\"y \" ; z=1\r\n"
            ),
            parts("=_ (x);\"y")
        );
        assert_eq!(content("Content-Type: multipart/mixed (why) ;;boundary=----=_a=b; x\r\n"), parts("----=_a=b"));
        let digest = Content::Multipart { boundary: b"d".to_vec(), digest: true };
        assert_eq!(content("Content-Type: multipart/digest; boundary=d\r\n"), digest);
        for broken in ["", "; boundary", "; boundary=", "; boundary=\"\"", "; xboundary=a"] {
            assert!(content(&format!("Content-Type: multipart/mixed{broken}\r\n")) == Content::Unbounded, "{broken}");
        }
    }

    #[test]
    fn bodies_are_told_apart() {
        assert_eq!(content(""), Content::Leaf { text: true });
        assert_eq!(content("Content-Type:\r\n"), Content::Leaf { text: true });
        assert_eq!(
            content("Content-Type: image/jpeg\r\nContent-Transfer-Encoding: binary\r\n"),
            Content::Leaf { text: false }
        );
        for wide in ["UTF-16", "utf-16le", "utf-32", "ucs2", "UCS-4", "unicode", "csUnicode", "utf_16"] {
            assert!(content(&format!("Content-Type: text/plain; charset={wide}\r\n")).is_binary(), "{wide}");
        }
        assert!(!content("Content-Type: text/csv; charset=utf-8\r\n").is_binary());
        assert!(!content("Content-Type: text/plain; charset=unicode-1-1-utf-7\r\n").is_binary());
        for file in ["", "Content-Type:\r\n", "Content-Type: jpeg\r\n"] {
            let header = format!("{file}Content-Disposition: attachment; filename=snap.jpg\r\n");
            assert!(content(&header).is_binary(), "{file}");
        }
        assert!(content("Content-Type: jpeg; name*=utf-8''snap.jpg\r\n").is_binary());
        assert!(!content("Content-Disposition: inline\r\n").is_binary());
        assert_eq!(content("Content-Type: message/rfc822\r\n"), Content::Message);
        assert_eq!(content("Content-Type: message/global\r\n"), Content::Leaf { text: false });
        assert_eq!(content("Content-Type: message/delivery-status\r\n"), Content::Leaf { text: true });
        assert_eq!(content("Content-Transfer-Encoding: Quoted-Printable (really)\r\n"), Content::QuotedPrintable);
        assert_eq!(content("Content-Transfer-Encoding: BASE64\r\n"), Content::Base64);
        assert_eq!(content("Content-Transfer-Encoding: x-uuencode\r\n"), Content::Encoded("x-uuencode".to_string()));
        assert_eq!(Entity::read(b"", true).content, Content::Message);
        assert_eq!(Entity::read(b"Content-Type: text/plain\r\n", true).content, Content::Leaf { text: true });
        for (encoding, called) in [("7bit", true), ("8bit", false), ("binary", false), ("utf-8", false)] {
            let header = format!("Content-Transfer-Encoding: {encoding}\r\n");
            assert_eq!(Entity::read(header.as_bytes(), false).called_7bit, called);
        }
        assert!(Entity::read(b"", false).called_7bit);
    }

    #[test]
    fn labels_are_replaced_or_added() {
        let header =
            b"A: b\r\ncontent-transfer-encoding:\r\n 8bit\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: x\r\n";
        assert_eq!(
            relabelled(header, "base64", true),
            b"A: b\r\nContent-Transfer-Encoding: base64\r\nMIME-Version: 1.0\r\n"
        );
        assert_eq!(relabelled(b"A: b\r\n", "7bit", false), b"A: b\r\nContent-Transfer-Encoding: 7bit\r\n");
        let whole = b"A: b\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 7bit\r\n";
        assert_eq!(relabelled(b"A: b\r\n", "7bit", true), whole);
    }
}

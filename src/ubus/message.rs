// SPDX-License-Identifier: Apache-2.0
//! ubus messages: a header of eight bytes and one blob with the message's attributes as its children.

use std::io;

use super::blobmsg::{Attributes, MESSAGE_LIMIT, Malformed, Writer};

/// Size in bytes of the header and of the first word of the blob: they are read before the length is known.
pub const HEAD: usize = 12;

/// Message types.
pub mod kind {
    /// ubusd's greeting.
    pub const HELLO: u8 = 0;
    /// The end of an answer.
    pub const STATUS: u8 = 1;
    /// A part of an answer.
    pub const DATA: u8 = 2;
    /// Looks up an object by its path.
    pub const LOOKUP: u8 = 4;
    /// A call.
    pub const INVOKE: u8 = 5;
    /// Publishes an object.
    pub const ADD_OBJECT: u8 = 6;
    /// Subscribes to the notifications of an object.
    pub const SUBSCRIBE: u8 = 8;
    /// A notification, or information from ubusd on whether our object has subscribers.
    pub const NOTIFY: u8 = 10;
}

/// Message attributes.
pub mod attribute {
    /// The result, a number.
    pub const STATUS: u8 = 1;
    /// The path of an object.
    pub const OBJPATH: u8 = 2;
    /// The ID of an object.
    pub const OBJID: u8 = 3;
    /// The name of a method.
    pub const METHOD: u8 = 4;
    /// The methods of an object.
    pub const SIGNATURE: u8 = 6;
    /// Arguments or answer: the content of a table.
    pub const DATA: u8 = 7;
    /// The object that is subscribed to.
    pub const TARGET: u8 = 8;
    /// Whether there are subscribers.
    pub const ACTIVE: u8 = 9;
    /// No answer is wanted.
    pub const NO_REPLY: u8 = 10;
}

/// Results of a request.
pub mod status {
    /// Success.
    pub const OK: u32 = 0;
    /// The arguments cannot be parsed.
    pub const INVALID_ARGUMENT: u32 = 2;
    /// The object has no such method.
    pub const METHOD_NOT_FOUND: u32 = 3;
    /// There is no such object.
    pub const NOT_FOUND: u32 = 4;
}

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHead {
    /// See [`kind`].
    pub kind: u8,
    /// The number of the request, chosen by the requester.
    pub seq: u16,
    /// The caller, or the object that is called.
    pub peer: u32,
}

/// Parses the first bytes of a message: its header, and the number of attribute bytes that follow.
///
/// # Errors
/// If this is not ubus, or if the message is larger than allowed: the stream cannot be read any further then.
pub fn head(bytes: &[u8; HEAD]) -> io::Result<(MessageHead, usize)> {
    let [version, kind, s0, s1, p0, p1, p2, p3, blob @ ..] = *bytes;
    let head = MessageHead { kind, seq: u16::from_be_bytes([s0, s1]), peer: u32::from_be_bytes([p0, p1, p2, p3]) };
    let length = usize::try_from(u32::from_be_bytes(blob) & 0x00ff_ffff).unwrap_or(usize::MAX);
    if version != 0 || !(4..=MESSAGE_LIMIT).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "received data is not a ubus message"));
    }
    Ok((head, length - 4))
}

/// A complete message. `attributes` are as [`Body::finish`] returns them.
pub fn message(head: MessageHead, attributes: &[u8]) -> Vec<u8> {
    let MessageHead { kind, seq, peer } = head;
    let mut out = Vec::with_capacity(HEAD + attributes.len());
    out.extend_from_slice(&[0, kind]);
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&peer.to_be_bytes());
    // Never above the limit, as ensured by Body::finish.
    out.extend_from_slice(&u32::try_from(attributes.len() + 4).unwrap_or(4).to_be_bytes());
    out.extend_from_slice(attributes);
    out
}

/// Attributes of a message that is being built.
#[derive(Debug, Default)]
pub struct Body(Writer);

impl Body {
    /// A number attribute.
    pub fn number(mut self, id: u8, value: u32) -> Self {
        self.0.attribute(id, &value.to_be_bytes());
        self
    }

    /// A flag attribute.
    pub fn flag(mut self, id: u8) -> Self {
        self.0.attribute(id, &[1]);
        self
    }

    /// A text attribute.
    pub fn text(mut self, id: u8, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.0.attribute(id, &bytes);
        self
    }

    /// An attribute with children, which are passed as bytes.
    pub fn nested(mut self, id: u8, children: &[u8]) -> Self {
        self.0.attribute(id, children);
        self
    }

    /// The bytes. Empty if they are too many for a message, which ubusd answers with an error.
    pub fn finish(self) -> Vec<u8> {
        let bytes = self.0.finish().unwrap_or_default();
        if bytes.len() + 4 > MESSAGE_LIMIT { Vec::new() } else { bytes }
    }
}

/// The attributes of a message that we use; of duplicates the last one, others are ignored.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MessageFields<'a> {
    /// See [`attribute::STATUS`].
    pub status: Option<u32>,
    /// See [`attribute::OBJID`].
    pub object: Option<u32>,
    /// See [`attribute::METHOD`].
    pub method: Option<&'a str>,
    /// See [`attribute::DATA`].
    pub data: Option<&'a [u8]>,
    /// See [`attribute::ACTIVE`].
    pub active: Option<bool>,
    /// See [`attribute::NO_REPLY`].
    pub no_reply: bool,
}

impl<'a> MessageFields<'a> {
    /// Parses the attributes of a message.
    ///
    /// # Errors
    /// See [`Malformed`]. Attributes of a wrong size are treated as missing.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        for attribute in Attributes(bytes) {
            let attribute = attribute?;
            let payload = attribute.payload;
            match attribute.id {
                attribute::STATUS => fields.status = number(payload),
                attribute::OBJID => fields.object = number(payload),
                attribute::METHOD => {
                    fields.method = payload.strip_suffix(&[0]).and_then(|text| std::str::from_utf8(text).ok());
                }
                attribute::DATA => fields.data = Some(payload),
                attribute::ACTIVE => fields.active = flag(payload),
                attribute::NO_REPLY => fields.no_reply = flag(payload) == Some(true),
                _ => {}
            }
        }
        Ok(fields)
    }
}

fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

fn flag(payload: &[u8]) -> Option<bool> {
    match payload {
        [byte] => Some(*byte != 0),
        _ => None,
    }
}

/// The attributes of a lookup request for the object `path`.
pub fn lookup(path: &str) -> Vec<u8> {
    Body::default().text(attribute::OBJPATH, path).finish()
}

/// The attributes of a call. DATA is included even if it is empty: several daemons require it.
pub fn invoke(object: u32, method: &str, data: &[u8]) -> Vec<u8> {
    let body = Body::default().number(attribute::OBJID, object).text(attribute::METHOD, method);
    body.nested(attribute::DATA, data).finish()
}

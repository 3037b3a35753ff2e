// SPDX-License-Identifier: Apache-2.0
//! Messages of ubus as the tests see them: bytes as they were recorded, and what is in others.

use serde_json::Value;
use smtprelay::ubus::blobmsg::{self, Attributes};
use smtprelay::ubus::message::{self, Body, MessageHead, attribute};

/// What the real ubusd and a program said to each other. An object published there had the number [`OBJECT`].
pub mod seen {
    pub const HELLO: &str = "00000000 87b9716e 00000004";
    pub const NOT_FOUND: &str = "00010001 00000000 0000000c 01000008 00000004";
    pub const PUBLISHED: [&str; 2] = [
        "00020002 00000000 00000014 03000008 159e6cd4 05000008 9f6e475a",
        "00010002 00000000 0000000c 01000008 00000000",
    ];
    /// The attributes of a call of the method `test`.
    pub const CALL: &str = "00050002 848cd7c6 0000005c 03000008 159e6cd4 04000009 74657374 00000000
        0c000009 726f6f74 00000000 0d000009 726f6f74 00000000
        0700002c 83000013 0002746f 00000000 6140622e 64650000 87000011 00077665 72626f73 65000000 01000000";
    /// The end of an answer to it, when all went well.
    pub const ANSWERED: &str = "00010002 848cd7c6 00000014 01000008 00000000 03000008 159e6cd4";
    /// The path `smtprelay` as an attribute, and the method `status` in a signature.
    pub const PATH: &str = "0200000e 736d7470 72656c61 79000000";
    pub const STATUS_LISTED: &str = "82000010 00067374 61747573 00000000";
    /// How an event is sent: object 1, its method `send`; the data begins with the event's name, which is not ours to
    /// order.
    pub const EVENT: &str = "03000008 00000001 04000009 73656e64 00000000";
    pub const EVENT_ID: &str = "83000016 00026964 00000000 736d7470 72656c61 79000000";
    pub const EVENT_SENT: &str = "00010003 00000001 0000000c 01000008 00000000";
}

/// The object that was published when it was recorded.
pub const OBJECT: u32 = 0x159e_6cd4;
/// The program that called it then.
pub const CALLER: u32 = 0x848c_d7c6;

/// Bytes from hexadecimal digits.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits")).collect()
}

/// A recorded message with another number of the request.
pub fn numbered(recorded: &str, seq: u16) -> Vec<u8> {
    let mut bytes = hex(recorded);
    bytes[2..4].copy_from_slice(&seq.to_be_bytes());
    bytes
}

/// Whether `part`, in hexadecimal digits, is somewhere in `bytes`.
pub fn has(bytes: &[u8], part: &str) -> bool {
    let part = hex(part);
    bytes.windows(part.len()).any(|window| window == part)
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    pub head: MessageHead,
    /// The attributes as they came.
    pub body: Vec<u8>,
}

impl Message {
    /// The content of an attribute; of several the last one.
    pub fn attribute(&self, id: u8) -> Option<&[u8]> {
        Attributes(&self.body).map(|a| a.expect("an attribute")).filter(|a| a.id == id).last().map(|a| a.payload)
    }

    pub fn number(&self, id: u8) -> Option<u32> {
        self.attribute(id).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }

    pub fn text(&self, id: u8) -> Option<&str> {
        let text = self.attribute(id)?.strip_suffix(&[0]).expect("a NUL at the end");
        Some(std::str::from_utf8(text).expect("UTF-8"))
    }

    pub fn data(&self) -> Option<Value> {
        self.attribute(attribute::DATA).map(|bytes| blobmsg::decode(bytes).expect("a table"))
    }

    /// The bytes that were on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        message::message(self.head, &self.body)
    }
}

/// The beginning of a message and the bytes that follow.
pub fn head(bytes: &[u8; message::HEAD]) -> (MessageHead, usize) {
    message::head(bytes).expect("a message of ubus")
}

/// A message of these attributes.
pub fn message(kind: u8, seq: u16, peer: u32, body: Body) -> Vec<u8> {
    message::message(MessageHead { kind, seq, peer }, &body.finish())
}

/// A call of our object.
pub fn call(seq: u16, peer: u32, object: u32, method: &str, arguments: &[u8]) -> Vec<u8> {
    let body = Body::default().number(attribute::OBJID, object).text(attribute::METHOD, method);
    message(message::kind::INVOKE, seq, peer, body.nested(attribute::DATA, arguments))
}

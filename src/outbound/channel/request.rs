// SPDX-License-Identifier: Apache-2.0
//! The request that a message becomes: its address, its header fields and its body, without or with a picture.

use zeroize::Zeroizing;

use super::{About, RAW_LIMIT, Reading};
use crate::config::channel::Content;
use crate::config::services::PictureRequest;
use crate::config::{Account, Channel, Keyword};
use crate::message::picture::Picture;
use crate::message::{Encode, encoded, header, text};
use crate::push::short::{shortened, title};
use crate::push::template::{self, Place, Values};
use crate::queue::Stored;
use crate::report::letter::{one_line, readable, readable_subject, when};
use crate::system::random_id;

/// A request with its secrets.
pub struct Request {
    pub address: Zeroizing<String>,
    pub fields: Zeroizing<String>,
    /// The body; its part before the picture if there is one.
    pub body: Zeroizing<String>,
    /// Its part after the picture.
    pub tail: String,
}

/// From what all requests for one message are made.
pub struct Facts<'a> {
    pub account: &'a Account,
    pub channel: &'a Channel,
    pub about: &'a About<'a>,
    pub reading: &'a Reading,
}

/// What a request has besides the text.
#[derive(Clone, Copy)]
pub enum Dress<'a> {
    /// A last line, if it is not empty.
    Text(&'a str),
    /// A picture, as the service takes it.
    Picture(&'a PictureRequest, &'a Picture),
}

/// `text` as Slack requires it, where the channel says so.
fn marked(channel: &Channel, text: &str) -> String {
    match channel.entities {
        true => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        false => text.to_string(),
    }
}

/// Control characters that neither end a line nor align a column.
fn is_unseen(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

impl Request {
    pub fn new(facts: &Facts<'_>, stored: &Stored, dress: Dress<'_>) -> Self {
        let Facts { account, channel, about, reading } = *facts;
        let (limit, hint) = match dress {
            Dress::Text("") => (channel.text, String::new()),
            Dress::Text(hint) => (channel.text, format!("\n[{hint}]")),
            Dress::Picture(request, _) => (request.text, String::new()),
        };
        let coded = stored.meta.form.encode != Encode::QuotedPrintable;
        let mut text = text::readable(&stored.header, &reading.raw, coded);
        // No phone shows them, and each may take six bytes of JSON: ntfy limits the size of that as well.
        if text.contains(is_unseen) {
            text = text.replace(is_unseen, " ");
        }
        // ntfy, which takes the text in a header field, begins a line there and has no way of escaping it: a space of
        // no width keeps the name of a file as it is.
        if matches!(dress, Dress::Picture(request, _) if request.file.is_empty()) {
            text = text.replace("\\n", "\\\u{200b}n");
        }
        // The rest of the body is only text if the beginning ends with it.
        let text = marked(channel, if text.is_empty() { "(no text)" } else { &text });
        let more = reading.more && text.len() > RAW_LIMIT / 4;
        let text = shortened(&text, limit.saturating_sub(hint.len()), channel.unit, more);
        let text = format!("{text}{hint}");
        let subject = readable_subject(&stored.header);
        let subject = one_line(subject.trim(), subject.len());
        let subject = marked(channel, if subject.is_empty() { "(no subject)" } else { &subject });
        let subject = title(&subject, channel.title, channel.unit);
        let from = header::find(&stored.header, "From").map(|field| readable(&encoded::decode(&field.unfolded())));
        let from = from.map(|from| one_line(from.trim(), channel.title)).filter(|from| !from.is_empty());
        let from = marked(channel, &from.unwrap_or_else(|| stored.meta.envelope.from.clone()));
        let device = marked(channel, about.device);
        let time = when(about.arrived).unwrap_or_default();
        let token = account.password.expose();
        let values: Values<'_> =
            [&subject, &text, &from, &device, about.id, &time, &channel.to, channel.priority.word(), token];
        let mut fields = Zeroizing::new(String::with_capacity(16 << 10));
        for field in &channel.headers {
            if !token.is_empty() || !template::has(field, "token") {
                fields.push_str(&template::fill(field, Place::Header, &values));
                fields.push_str("\r\n");
            }
        }
        let (place, kind) = match channel.content {
            Content::Json => (Place::Json, "application/json"),
            Content::Form => (Place::Form, "application/x-www-form-urlencoded"),
        };
        let body = template::fill(&channel.body, place, &values);
        match dress {
            Dress::Text(_) => {
                if !channel.body.is_empty() {
                    fields.extend(["Content-Type: ", kind, "\r\n"]);
                }
                let address = channel.address(&values, &account.password);
                Self { address, fields, body, tail: String::new() }
            }
            Dress::Picture(request, picture) => {
                let name = picture.file_name();
                for field in &request.headers {
                    let field = field.replace("{picture}", &name);
                    fields.extend([template::fill(&field, Place::Word, &values).as_str(), "\r\n"]);
                }
                let address = channel.picture_address(request, &values, &account.password);
                if request.file.is_empty() {
                    fields.extend(["Content-Type: ", &picture.media_type(), "\r\n"]);
                    return Self { address, fields, body: Zeroizing::default(), tail: String::new() };
                }
                let parts = request.form.split('&').filter_map(|part| part.split_once('='));
                let mut parts: Vec<_> =
                    parts.map(|(name, template)| (name, "", template::fill(template, Place::Part, &values))).collect();
                if !request.json.is_empty() {
                    parts.push((&request.json, "Content-Type: application/json\r\n", body));
                }
                let (boundary, body, tail) = form(&parts, &request.file, picture);
                fields.extend(["Content-Type: multipart/form-data; boundary=", &boundary, "\r\n"]);
                Self { address, fields, body, tail }
            }
        }
    }
}

/// A form (RFC 7578) with these fields – name, header, value – and a picture in the field `file`: its boundary, what is
/// before the picture, and what follows it.
fn form(
    parts: &[(&str, &str, Zeroizing<String>)],
    file: &str,
    picture: &Picture,
) -> (String, Zeroizing<String>, String) {
    const NAMED: &str = "Content-Disposition: form-data; name=\"";
    // Nobody can write it into a message. Without random numbers nothing could be sent over TLS either.
    let boundary = format!("{}{}", random_id().unwrap_or_default(), random_id().unwrap_or_default());
    let room = parts.iter().map(|(name, header, value)| name.len() + header.len() + value.len() + 256);
    let mut body = Zeroizing::new(String::with_capacity(room.sum::<usize>() + 512));
    for (name, header, value) in parts {
        body.extend(["--", &boundary, "\r\n", NAMED, name, "\"\r\n", header, "\r\n", value, "\r\n"]);
    }
    let (name, kind) = (picture.file_name(), picture.media_type());
    body.extend(["--", &boundary, "\r\n", NAMED, file, "\"; filename=\"", &name, "\"\r\n"]);
    body.extend(["Content-Type: ", &kind, "\r\n\r\n"]);
    let tail = format!("\r\n--{boundary}--\r\n");
    (boundary, body, tail)
}

// SPDX-License-Identifier: Apache-2.0
//! Bodies in an unknown encoding that cannot be sent as they are: uuencode with a non-ASCII file name, yEnc, which is
//! 8-bit by nature.

use super::CannotConvert;
use super::coder::Coder;
use super::lines::{LONGEST, Wrap};
use crate::message::encoded::{self, parameters};
use crate::message::header::{fields, find};
use crate::message::parts::entity;

/// Writes `header` and the `body` so far in a form that can be sent. Returns the coder for the rest.
///
/// The name in the `begin` line of uuencode is moved to its MIME field (RFC 2183 section 2.3), and the encoded data
/// stays. Anything else that cannot be sent is wrapped in base64 around the old encoding, which the header keeps under
/// another name; parts without a boundary become text.
///
/// # Errors
/// If the bytes cannot be expressed in 7 bits.
pub fn convert(header: &[u8], body: Vec<u8>, whole_message: bool, out: &mut Vec<u8>) -> Result<Coder, CannotConvert> {
    let entity = entity::read(header, false);
    if let Some((ascii, name)) = without_name(&body) {
        out.extend_from_slice(&named(header, &name));
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&ascii);
        return Ok(Coder::Refuse("a part is uuencode and contains 8-bit bytes".into(), Wrap::default()));
    }
    let unbounded = entity.content == entity::Content::Unbounded;
    let aside = if unbounded { "Content-Type" } else { "Content-Transfer-Encoding" };
    let mut kept = Vec::with_capacity(header.len() + 64);
    for field in fields(header) {
        if field.is(aside) {
            kept.extend_from_slice(b"X-Original-");
        }
        kept.extend_from_slice(field.raw);
    }
    let (mut coder, name) = Coder::encoding(unbounded);
    out.extend_from_slice(&entity::relabelled(&kept, name, whole_message));
    out.extend_from_slice(b"\r\n");
    coder.push(&body, out)?;
    Ok(coder)
}

/// `body` with an ASCII name in its `begin` line, and the original name; `None` if it still cannot be sent then.
fn without_name(body: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut out, mut name) = (Vec::with_capacity(body.len()), None);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        if text.len() > LONGEST || memchr::memchr3(b'\r', b'\n', 0, text).is_some() {
            return None;
        }
        if text.is_ascii() {
            out.extend_from_slice(line);
            continue;
        }
        let rest = text.strip_prefix(b"begin ").filter(|_| name.is_none())?;
        let mode = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        name = Some(rest.get(mode + 1..).filter(|_| mode > 0)?.to_vec());
        out.extend(line.iter().map(|byte| if byte.is_ascii() { *byte } else { b'_' }));
    }
    name.map(|name| (out, name))
}

/// `header` with `name` as the file name, if it has none yet.
fn named(header: &[u8], name: &[u8]) -> Vec<u8> {
    let has = |field: &str, parameter: &str| {
        find(header, field).is_some_and(|field| {
            let mut all = parameters::pieces(field.value).into_iter().skip(1).filter_map(parameters::parameter);
            all.any(|(key, _)| key.split('*').next() == Some(parameter))
        })
    };
    if has("Content-Disposition", "filename") || has("Content-Type", "name") {
        return header.to_vec();
    }
    let name = [b" x; filename=", &crate::message::address::list::quoted(name)[..]].concat();
    let coded = encoded::field_value(b"Content-Disposition", &name, usize::MAX).unwrap_or_default();
    let coded = coded.strip_prefix(b" x").unwrap_or(&coded);
    let mut out = Vec::with_capacity(header.len() + coded.len());
    let mut done = false;
    for field in fields(header) {
        let raw = field.raw;
        if field.is("Content-Disposition") && !std::mem::replace(&mut done, true) {
            out.extend_from_slice(raw.trim_ascii_end());
            out.extend_from_slice(coded);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(raw);
        }
    }
    if !done {
        out.extend_from_slice(b"Content-Disposition: attachment");
        out.extend_from_slice(coded);
        out.extend_from_slice(b"\r\n");
    }
    out
}

// SPDX-License-Identifier: Apache-2.0
//! Address lists that become an envelope: RCPT and MAIL, arguments of `sendmail`, the fields that `sendmail -t` reads.
//!
//! A header can be repaired by leaving out what cannot be parsed. An envelope cannot: a recipient that is left out
//! silently gets no mail. So the list is parsed as tolerantly as in a header, but either with all of its addresses, or
//! not at all.

use super::is_address;
use super::list::{Element, address, bare_words, joined, only_address, split};
use crate::message::tokens::{Token, TokenKind, tokens};

/// Maximum length of the text shown in an error, in bytes.
const SHOWN: usize = 255;

/// All addresses in `text`, each as often as it occurs, in order; names without a domain (`root`) included. Display
/// names, comments and source routes (RFC 5321 appendix C) are left out; none of them may contain an `@` outside a
/// route, unless it is the address again. Only words before an address are its display name: a name behind it could be
/// another recipient.
///
/// # Errors
/// The part that cannot be parsed, if anything could be meant as an address and is not one. Nothing is to be sent then.
pub fn addresses(text: &[u8]) -> Result<Vec<String>, String> {
    match only_address(text) {
        Some(address) => Ok(vec![address.to_string()]),
        None => taken_apart(text),
    }
}

fn taken_apart(text: &[u8]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut problem = None;
    split(text, &mut |element| {
        if problem.is_none() {
            problem = read(&element, &mut found).err();
        }
    });
    problem.map_or(Ok(found), |part| Err(format!("not a mail address: {}", shown(&part))))
}

/// Adds what `element` names to `found`. The error is the part that cannot be parsed.
fn read(element: &Element<'_>, found: &mut Vec<String>) -> Result<(), Vec<u8>> {
    let mut own = Vec::new();
    let angle = element.angle.as_deref().unwrap_or_default();
    // A bracket inside which another one opens contains a name.
    if !element.nested || has_at(angle) {
        own = bracket(angle)?;
    }
    let (before, behind) = element.words.split_at_checked(element.before).unwrap_or((&element.words, &[]));
    let bracketed = !own.is_empty();
    let mut names = Vec::new();
    for (words, is_before) in [(before, true), (behind, false)] {
        let mut words = bare_words(words).into_iter().peekable();
        while let Some(word) = words.next() {
            let text = joined(word);
            let again = |known: &String| address(&text).is_some_and(|this| this.eq_ignore_ascii_case(known));
            match address(&text) {
                _ if !is_text(word) => {}
                _ if element.names_group && has_at(word) => return Err(text),
                _ if bracketed && own.iter().any(again) => {}
                // It could be a name or another recipient.
                _ if bracketed && is_before && has_at(word) => return Err(text),
                Some(address) => own.push(address),
                None if is_route(&text) && words.peek().is_some_and(|next| is_colon(next)) => {}
                None if has_at(word) => return Err(text),
                None if own.is_empty() || bracketed && is_before => names.push(text),
                None => return Err(text),
            }
        }
    }
    let all = || element.words.iter().chain(angle);
    if let Some(comment) = all().find(|token| token.kind == TokenKind::Comment && token.text.contains(&b'@')) {
        return Err(comment.text.to_vec());
    }
    if own.is_empty() && element.angle.is_none() && !element.names_group {
        match names.as_slice() {
            [] => {}
            [name] => own.push(local_name(name).ok_or_else(|| name.clone())?),
            several => return Err(several.join(&b' ')),
        }
    }
    found.append(&mut own);
    Ok(())
}

/// The content of angle brackets.
fn bracket(angle: &[Token<'_>]) -> Result<Vec<String>, Vec<u8>> {
    let colon = angle.iter().rposition(|token| token.is(b':')).map_or(0, |at| at + 1);
    let (route, rest) = angle.split_at_checked(colon).unwrap_or((&[], angle));
    let route = joined(route);
    if !route.is_empty() && route != b"mailto:" && !route.strip_suffix(b":").is_some_and(is_route) {
        return Err(joined(angle));
    }
    let words: Vec<Vec<u8>> = bare_words(rest).into_iter().map(joined).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [] if !route.is_empty() => Err(route),
        [one] => address(one).or_else(|| local_name(one)).map(|one| vec![one]).ok_or_else(|| joined(angle)),
        several => several.iter().map(|word| address(word).ok_or_else(|| several.join(&b' '))).collect(),
    }
}

/// `path`, the content of the brackets of a correct command, without its source route (RFC 5321 appendix C); `None` if
/// the route is not valid.
pub fn without_route(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    let all: Vec<Token<'_>> = tokens(path.as_bytes()).collect();
    let route: usize = all.iter().take_while(|token| !token.is(b':')).map(|token| token.text.len()).sum();
    let (route, mailbox) = path.split_at_checked(route)?;
    mailbox.strip_prefix(':').filter(|_| is_route(route.as_bytes()))
}

/// A name without a domain, as in `RCPT TO:<postmaster>`.
fn local_name(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?.trim_end_matches('.');
    let plain = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let fits = |text: &&str| is_address(&format!("{text}@x"));
    // `"root"` is root; a name that needs its quotes keeps them.
    plain.into_iter().chain([text]).find(fits).map(str::to_string)
}

/// `@a,@b`: the route before the colon (RFC 5321 section 4.1.2, A-d-l).
fn is_route(text: &[u8]) -> bool {
    let is_hop = |hop: &str| hop.strip_prefix('@').is_some_and(|domain| is_address(&format!("x@{domain}")));
    std::str::from_utf8(text).is_ok_and(|text| text.split(',').all(is_hop))
}

fn is_colon(word: &[Token<'_>]) -> bool {
    word.first().is_some_and(|token| token.is(b':'))
}

/// Whether there is an `@`, including in quotes and comments.
fn has_at(words: &[Token<'_>]) -> bool {
    words.iter().any(|token| token.text.contains(&b'@'))
}

/// Whether there is more than spaces, comments and lone specials.
fn is_text(word: &[Token<'_>]) -> bool {
    word.iter().any(|token| !token.is_filling() && (token.kind != TokenKind::Special || token.is(b'@')))
}

/// Text that is safe to display: no control characters, limited in length.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let plain = text.chars().filter(|c| !c.is_control());
    plain
        .scan(0, |size, c| {
            *size += c.len_utf8();
            (*size <= SHOWN).then_some(c)
        })
        .collect()
}

#[cfg(test)]
mod tests;

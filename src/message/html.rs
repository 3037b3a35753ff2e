// SPDX-License-Identifier: Apache-2.0
//! HTML as plain text: what a person would read, in lines. Never fails: whatever is not HTML is text.

/// Elements whose content is not text.
const HIDDEN: [&str; 5] = ["head", "script", "style", "title", "template"];
/// Elements that begin and end a line.
const LINES: &str = " address article blockquote br center dd div dl dt footer form h1 h2 h3 h4 h5 h6 header hr li main \
    ol p pre section table tr ul ";
/// Entities other than those by number; the usual ones of mail.
const ENTITIES: [(&str, char); 26] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("auml", 'ä'),
    ("ouml", 'ö'),
    ("uuml", 'ü'),
    ("Auml", 'Ä'),
    ("Ouml", 'Ö'),
    ("Uuml", 'Ü'),
    ("szlig", 'ß'),
    ("eacute", 'é'),
    ("egrave", 'è'),
    ("agrave", 'à'),
    ("ccedil", 'ç'),
    ("ntilde", 'ñ'),
    ("deg", '°'),
    ("euro", '€'),
    ("micro", 'µ'),
    ("ndash", '–'),
    ("mdash", '—'),
    ("hellip", '…'),
    ("middot", '·'),
    ("copy", '©'),
];
/// Longest tag, so that one without an end costs little.
const TAG_LIMIT: usize = 4096;
/// Longest name of an entity, or number of one.
const ENTITY_LIMIT: usize = 8;

/// The text of `html`.
pub fn text(html: &str) -> String {
    let mut out = Text { out: String::with_capacity(html.len() / 2), gap: false };
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        let (before, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push(before);
        rest = if tail.starts_with('<') { out.tag(tail) } else { out.entity(tail) };
    }
    out.push(rest);
    out.out.trim().to_string()
}

/// The text so far.
struct Text {
    out: String,
    /// Whether a space follows before the next character.
    gap: bool,
}

impl Text {
    /// Text between tags: all spaces and line breaks in a row are one space.
    fn push(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() {
                self.gap = true;
            } else {
                self.character(c);
            }
        }
    }

    fn character(&mut self, c: char) {
        if self.gap && !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push(' ');
        }
        self.gap = false;
        self.out.push(c);
    }

    fn line(&mut self) {
        self.gap = false;
        // At most one empty line.
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// Takes a tag or a comment at the beginning of `text`; returns what follows.
    fn tag<'a>(&mut self, text: &'a str) -> &'a str {
        let inner = text.strip_prefix('<').unwrap_or(text);
        if let Some(comment) = inner.strip_prefix("!--") {
            return comment.split_once("-->").map_or("", |(_, rest)| rest);
        }
        let named = inner.strip_prefix('/').unwrap_or(inner);
        if !named.starts_with(|c: char| c.is_ascii_alphabetic() || c == '!' || c == '?') {
            self.character('<');
            return inner;
        }
        let Some((tag, mut rest)) = split_tag(named) else { return "" };
        let end = tag.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(tag.len());
        let name = tag.get(..end).unwrap_or_default().to_ascii_lowercase();
        if HIDDEN.contains(&name.as_str()) && inner.len() == named.len() && !tag.ends_with('/') {
            rest = after_end(rest, &name);
        }
        if LINES.contains(&format!(" {name} ")) {
            let opens = inner.len() == named.len();
            if name == "br" || !self.out.ends_with('\n') {
                self.line();
            }
            if opens && name == "li" {
                self.out.push_str("- ");
            }
        } else if matches!(name.as_str(), "td" | "th") {
            self.gap = true;
        }
        rest
    }

    /// Takes an entity at the beginning of `text`; returns what follows.
    fn entity<'a>(&mut self, text: &'a str) -> &'a str {
        let inner = text.strip_prefix('&').unwrap_or(text);
        let end = inner.bytes().take(ENTITY_LIMIT + 1).position(|b| b == b';');
        let named = end.and_then(|end| Some((inner.get(..end)?, inner.get(end + 1..)?)));
        let known = named.and_then(|(name, rest)| Some((character(name)?, rest)));
        match known {
            Some((' ', rest)) => {
                self.gap = true;
                rest
            }
            Some((c, rest)) => {
                self.character(c);
                rest
            }
            None => {
                self.character('&');
                inner
            }
        }
    }
}

/// A tag up to its `>`, which may also stand in quoted values, and what follows; `None` if it has no end.
fn split_tag(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    let end = text.char_indices().take(TAG_LIMIT).find(|(_, c)| {
        match (quote, *c) {
            (None, '>') => return true,
            (None, '"' | '\'') => quote = Some(*c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        false
    });
    // A quotation mark without its other half is not one.
    let (at, _) = end.or_else(|| text.char_indices().take(TAG_LIMIT).find(|(_, c)| *c == '>'))?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// What follows the end tag of the element `name`; nothing if there is none.
fn after_end<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some((_, tail)) = rest.split_once("</") {
        let (is_it, after) = match tail.split_at_checked(name.len()) {
            Some((found, after)) => (found.eq_ignore_ascii_case(name), after),
            None => (false, ""),
        };
        if is_it {
            return after.split_once('>').map_or("", |(_, rest)| rest);
        }
        rest = tail;
    }
    ""
}

/// The character of an entity.
fn character(name: &str) -> Option<char> {
    let Some(number) = name.strip_prefix('#') else {
        return ENTITIES.iter().find(|(known, _)| *known == name).map(|(_, c)| *c);
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    let c = char::from_u32(code).filter(|c| !c.is_control() || c.is_whitespace())?;
    Some(if c.is_whitespace() { ' ' } else { c })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn html_as_a_person_reads_it() {
        for (html, expected) in [
            (
                "<html><head><title>x</title><style>p {}</style></head><body>\r\n<p>Motion\r\n at  <b>gate</b></p>\r\n<p>now</p></body></html>",
                "Motion at gate\nnow",
            ),
            ("a<br>b<br/><br><br><br>c", "a\nb\n\nc"),
            ("<table><tr><td>Temp</td><td>5&nbsp;&deg;C</td></tr><tr><td>ok</td></tr></table>", "Temp 5 °C\nok"),
            ("<ul><li>one<li>two</ul>", "- one\n- two"),
            ("1 &lt; 2 &amp;&amp; 3 &#62; 2 &#x26; T&uuml;r &bogus; &", "1 < 2 && 3 > 2 & Tür &bogus; &"),
            ("a <!-- <p>no</p> --> b<script>if (1 < 2) {}</script> c", "a b c"),
            ("<a href=\"https://x/?a>b\" title='\"'>link</a> 3 < 4", "link 3 < 4"),
            ("<p title=\"open>text", "text"),
            ("no html at all", "no html at all"),
            ("<style>never closed", ""),
            ("<p", ""),
        ] {
            assert_eq!(text(html), expected, "{html}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_reduced(html in "(<[a-z/!-]{0,8}[ =\"'a-z]{0,6}>?|&[a-z#0-9]{0,6};?|ü| |\n|x){0,40}") {
            let text = text(&html);
            prop_assert!(text.len() <= html.len() * 2 && !text.contains("\n\n\n"));
        }
    }
}

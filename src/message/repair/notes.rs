// SPDX-License-Identifier: Apache-2.0
//! The names of the repairs in the log. The golden tests have a case for each.

macro_rules! notes {
    ($($name:ident = $text:literal;)*) => {
        $(#[doc = $text] pub const $name: &str = $text;)*
        /// All of them.
        pub const ALL: &[&str] = &[$($text),*];
    };
}

notes! {
    LINE_ENDS = "line endings converted to CRLF";
    LAST_LINE_END = "missing final line ending added";
    NUL = "NUL bytes removed";
    CONTROLS = "control characters in the header replaced by spaces";
    LEADING_LINES = "lines before the header removed";
    LINE_IN_HEADER = "line without a colon in the header kept";
    SEPARATOR = "blank line after the header added";
    NO_HEADER = "header added to text without a header";
    NAME_BLANKS = "space before a colon removed";
    BLANK_FOLDING = "blank line within a field removed";
    PRIVATE = "Bcc and Return-Path removed";
    DOUBLED = "duplicate field removed or renamed";
    MERGED = "duplicate recipient fields merged";
    EMPTY = "empty field removed";
    ADDRESSES = "address list corrected";
    ADDRESSES_UNUSABLE = "address field without an address renamed";
    FROM_ADDED = "From added";
    FROM_REPLACED = "From without an address replaced";
    SENDER_ADDED = "Sender added";
    TO_ADDED = "To added";
    DATE_ADDED = "Date added";
    WEEKDAY = "day of the week in Date corrected";
    DATE_REPLACED = "invalid Date replaced";
    MESSAGE_ID_ADDED = "Message-ID added";
    MESSAGE_ID_REPLACED = "invalid Message-ID replaced";
    CONTENT_FIELD = "invalid content field renamed";
    CHARSET = "charset of the text set";
    TRANSFER_ENCODING = "Content-Transfer-Encoding corrected";
    MIME_VERSION = "MIME-Version added";
    LONG_TEXT_LINES = "text with lines over 998 bytes will be sent as quoted-printable";
    LONG_BODY_LINES = "parts with lines over 998 bytes will be encoded";
    BINARY = "binary parts will be sent as base64";
    EIGHT_BIT_HEADER = "8-bit text in the header encoded";
    LONG_HEADER_LINES = "long header lines folded";
}

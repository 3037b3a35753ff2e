//! What a repair is called in the log. The golden tests have a case for each.

macro_rules! notes {
    ($($name:ident = $text:literal;)*) => {
        $(#[doc = $text] pub const $name: &str = $text;)*
        /// All of them.
        pub const ALL: &[&str] = &[$($text),*];
    };
}

notes! {
    LINE_ENDS = "line ends made CRLF";
    LAST_LINE_END = "last line end added";
    NUL = "NUL bytes removed";
    CONTROLS = "control characters in the header replaced by blanks";
    LEADING_LINES = "lines before the header removed";
    LINE_IN_HEADER = "line without a colon in the header kept";
    SEPARATOR = "blank line after the header added";
    NO_HEADER = "header added to text without one";
    NAME_BLANKS = "blank before a colon removed";
    BLANK_FOLDING = "blank line within a field removed";
    PRIVATE = "Bcc and Return-Path removed";
    DOUBLED = "doubled field removed or set aside";
    MERGED = "recipients of several fields merged";
    EMPTY = "empty field removed";
    ADDRESSES = "list of addresses corrected";
    ADDRESSES_UNUSABLE = "field without an address set aside";
    FROM_ADDED = "From added";
    FROM_REPLACED = "From without an address replaced";
    SENDER_ADDED = "Sender added";
    TO_ADDED = "To added";
    DATE_ADDED = "Date added";
    WEEKDAY = "weekday of the Date corrected";
    DATE_REPLACED = "unreadable Date replaced";
    MESSAGE_ID_ADDED = "Message-ID added";
    MESSAGE_ID_REPLACED = "unusable Message-ID replaced";
    CONTENT_FIELD = "unreadable content field set aside";
    CHARSET = "charset of the text added";
    TRANSFER_ENCODING = "Content-Transfer-Encoding corrected";
    MIME_VERSION = "MIME-Version added";
    LONG_TEXT_LINES = "text with lines over 998 bytes will be sent quoted-printable";
    LONG_BODY_LINES = "parts with lines over 998 bytes will be sent encoded";
    BINARY = "binary parts will be sent base64";
    EIGHT_BIT_HEADER = "8-bit text in the header encoded";
    LONG_HEADER_LINES = "long header lines folded";
}

// SPDX-License-Identifier: Apache-2.0
//! The ID of a message: ten characters that can be read out on the phone.

use std::fmt;
use std::str::FromStr;

/// Crockford's base 32: without letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The ID of a message in the queue, which is also its file name. Small, since there is one for each queued message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 10]);

/// The given text is not a message ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message ID consists of ten digits and capital letters (without I, L, O and U)")
    }
}

impl std::error::Error for NotAnId {}

impl MessageId {
    /// Before all IDs, in their order.
    pub(super) const FIRST: Self = Self([0; 10]);
    /// After all IDs, in their order.
    pub(super) const LAST: Self = Self([u8::MAX; 10]);

    /// An ID that no other message in the queue has (50 random bits).
    ///
    /// # Errors
    /// When the system has no random numbers, which only happens early during boot.
    pub fn random() -> std::io::Result<Self> {
        Self::from_str(&crate::system::random_id()?).map_err(std::io::Error::other)
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        // It only ever contains characters of the alphabet.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let bytes: [u8; 10] = text.as_bytes().try_into().map_err(|_| NotAnId)?;
        if bytes.iter().all(|b| ALPHABET.contains(b)) { Ok(Self(bytes)) } else { Err(NotAnId) }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<str> for MessageId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

#[cfg(test)]
impl MessageId {
    /// An ID that begins like `text`, for tests.
    pub fn like(text: &str) -> Self {
        let letters = text.to_uppercase().replace(['I', 'L'], "1").replace('O', "0").replace('U', "V");
        format!("{letters:0<10}").parse().expect("letters and digits, ten at most")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_name_reads_back() {
        let id = MessageId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(&id, id.as_str());
        assert_eq!(MessageId::like("old").as_str(), "01D0000000");
    }

    proptest! {
        #[test]
        fn only_names_of_ours_are_taken(text in "\\PC{0,12}|[0-9A-Z]{10}|[0-9a-z]{10}") {
            let ours = text.len() == 10 && text.bytes().all(|b| ALPHABET.contains(&b));
            prop_assert_eq!(text.parse::<MessageId>().is_ok(), ours);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Authenticated encryption of a single file (RFC 8439, ChaCha20-Poly1305), by the implementation that TLS uses.
//!
//! ```text
//!  8 bytes    12 bytes   as long as the text   16 bytes
//!  "SMTPRLS1" nonce      encrypted text        tag
//! ```
//!
//! The nonce is random: a key would have to encrypt 2^32 files before two equal nonces become likely (NIST SP 800-38D
//! section 8.3 sets this limit for nonces of this size). The file name is authenticated together with the text, so that
//! a file cannot be substituted for another.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// The first bytes of an encrypted file; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"SMTPRLS1";
/// Length of the tag in bytes.
const TAG: usize = 16;
/// How many bytes an encrypted file is longer than its text.
pub const OVERHEAD: usize = MAGIC.len() + NONCE_LEN + TAG;
/// Length of a key in bytes.
pub const KEY: usize = 32;

/// The key of a directory.
pub struct Key(LessSafeKey);

/// `N` unpredictable bytes, or the reason why there are none.
fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, String> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| format!("the system provides no random numbers: {error}"))?;
    Ok(bytes)
}

impl Key {
    /// The bytes of a new key.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn make() -> Result<Zeroizing<[u8; KEY]>, String> {
        random()
    }

    /// The key with these bytes; `None` if they are not a key.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        UnboundKey::new(&CHACHA20_POLY1305, bytes).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Encrypts `text` for the file called `name`.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn seal(&self, name: &str, text: &[u8]) -> Result<Vec<u8>, String> {
        let nonce = *random::<NONCE_LEN>()?;
        // Everything fits from the start: growing would leave copies of the text behind in memory.
        let mut sealed = Vec::with_capacity(OVERHEAD + text.len());
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(text);
        let body = sealed.get_mut(MAGIC.len() + NONCE_LEN..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(name.as_bytes()), body);
        sealed.extend_from_slice(tag.map_err(|_| "the text is too long to be encrypted")?.as_ref());
        Ok(sealed)
    }

    /// The text of the file called `name`; `None` if it is incomplete, was modified, or belongs to another file or key.
    pub fn open(&self, name: &str, mut sealed: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = sealed.strip_prefix(MAGIC)?.first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let rest = MAGIC.len() + NONCE_LEN..;
        let aad = Aad::from(name.as_bytes());
        let length = self.0.open_within(nonce, aad, sealed.as_mut_slice(), rest).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

/// Whether this claims to be an encrypted file.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> Key {
        Key::of(&[7; KEY]).unwrap()
    }

    fn open(key: &Key, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        key.open(name, Zeroizing::new(sealed.to_vec())).map(|text| text.to_vec())
    }

    #[test]
    fn the_format_stays() {
        // Encrypted by another implementation (Python's cryptography) with the key 07…07 and the nonce 00 01 … 0b.
        let sealed = FROM_ELSEWHERE;
        let bytes: Vec<u8> =
            (0..sealed.len()).step_by(2).map(|at| u8::from_str_radix(&sealed[at..at + 2], 16).unwrap()).collect();
        assert_eq!(open(&key(), "gmail.password", &bytes).unwrap(), b"hunter2");
    }

    const FROM_ELSEWHERE: &str =
        "534d5450524c5331000102030405060708090a0b44009f5709e99dcd2c6cd704402070428433d893734a10";

    #[test]
    fn a_file_cannot_take_the_place_of_another() {
        let sealed = key().seal("gmail.password", b"hunter2").unwrap();
        assert!(is_sealed(&sealed) && sealed.len() == OVERHEAD + 7);
        assert_eq!(open(&key(), "gmail.password", &sealed).unwrap(), b"hunter2");
        assert_eq!(open(&key(), "gmx.password", &sealed), None);
        assert_eq!(open(&Key::of(&[8; KEY]).unwrap(), "gmail.password", &sealed), None);
        // Never the same twice.
        assert_ne!(key().seal("gmail.password", b"hunter2").unwrap(), sealed);
        assert_ne!(*Key::make().unwrap(), *Key::make().unwrap());
        assert!(Key::of(&[7; KEY - 1]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_and_nothing_else(text: Vec<u8>, name: String, at: usize, bit in 0..8u8, cut: usize) {
            let sealed = key().seal(&name, &text).unwrap();
            prop_assert_eq!(open(&key(), &name, &sealed), Some(text));
            let mut changed = sealed.clone();
            changed[at % sealed.len()] ^= 1 << bit;
            prop_assert_eq!(open(&key(), &name, &changed), None);
            prop_assert_eq!(open(&key(), &name, &sealed[..cut % sealed.len()]), None);
            let longer = [sealed.as_slice(), b"x"].concat();
            prop_assert_eq!(open(&key(), &name, &longer), None);
        }

        #[test]
        fn whatever_is_there_can_be_looked_at(bytes: Vec<u8>) {
            prop_assert_eq!(open(&key(), "x", &bytes), None);
            prop_assert_eq!(open(&key(), "x", &[MAGIC.as_slice(), &bytes].concat()), None);
        }
    }
}

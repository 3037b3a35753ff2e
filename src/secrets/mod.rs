// SPDX-License-Identifier: Apache-2.0
//! What the gateway keeps secret: passwords and logins of accounts, encrypted, in one directory (`option secrets`).
//!
//! ```text
//!  password ─┐
//!            ├▶ vault: name ▶ text ▶ encrypted, whole files, for their owner only
//!  oauth ────┘
//! ```
//!
//! | file | content |
//! |---|---|
//! | `key` | the key for all others, created on first use |
//! | `ACCOUNT.password` | the password of an account, see [`password`] |
//! | `ACCOUNT.token` | its login with OAuth 2.0, see [`crate::oauth::store`] |
//!
//! The key is next to what it decrypts: this keeps passwords out of published settings and out of backups of the
//! settings alone. It does not protect against anyone who may read the directory. `docs/guide/secrets.md` explains this
//! to owners.

pub mod password;
pub mod vault;

pub use vault::Vault;

use zeroize::Zeroizing;

/// Text that must not appear in a log, an error message, `show` or a core dump of a finished run.
///
/// `Debug` and `Display` print a mask, and only [`Secret::expose`] gives the text, so that each use is easy to find.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// What is printed instead of a secret.
pub const MASK: &str = "********";

impl Secret {
    /// Takes over `text`.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the login dialogue only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_its_text() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(format!("{secret} {secret:?}"), format!("{MASK} {MASK}"));
        assert_eq!(secret.expose(), "hunter2");
    }
}

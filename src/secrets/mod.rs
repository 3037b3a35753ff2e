//! What the gateway keeps to itself: passwords and logins of accounts, encrypted in one directory (`option secrets`).
//!
//! ```text
//!  password ─┐                      ┌▶ seal: the key, encryption
//!            ├▶ vault: name ▶ text ─┤
//!  oauth ────┘                      └▶ directory: whole files, for their owner only
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `key` | the key of all others, made on first use |
//! | `ACCOUNT.password` | the password of an account, see [`password`] |
//! | `ACCOUNT.token` | its login with OAuth 2.0, see [`crate::oauth::store`] |
//!
//! The key lies beside what it opens: this keeps passwords out of pasted settings and of backups of the settings alone. It
//! does not protect from whoever may read the directory. `docs/guide/secrets.md` says so to owners.

pub mod directory;
pub mod left;
pub mod password;
pub mod seal;
mod secret;
pub mod vault;

pub use secret::{MASK, Secret};
pub use vault::Vault;

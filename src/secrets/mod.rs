// SPDX-License-Identifier: Apache-2.0
//! What the gateway keeps secret: passwords and logins of accounts, encrypted, in one directory (`option secrets`).
//!
//! ```text
//!  password ─┐                      ┌▶ seal: the key, encryption
//!            ├▶ vault: name ▶ text ─┤
//!  oauth ────┘                      └▶ directory: whole files, for their owner only
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

pub mod directory;
pub mod left;
pub mod password;
pub mod seal;
mod secret;
pub mod vault;

pub use secret::{MASK, Secret};
pub use vault::Vault;

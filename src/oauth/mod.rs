// SPDX-License-Identifier: Apache-2.0
//! Logins with OAuth 2.0 tokens instead of a password (RFC 6749): for Gmail, Microsoft 365 and similar providers.
//!
//! ```text
//!  a person signs in                      a connection needs a token
//!        login ─────────────▶ store ◀──────── keeper
//!          │                                    │
//!          └──────▶ token: the server ◀─────────┘
//!                          http
//! ```
//!
//! [`login`] has the flows in which a person signs in, also as jobs for the control methods. [`store`] keeps the
//! refresh token on disk, [`keeper`] an access token in memory and renews those that no mail uses. `token` talks to the
//! server, with one HTTPS request each, by `http`.

/// A future on the heap: that halves the size of this module.
pub use crate::net::http::Later;

/// Runs `work` where it may block. `None` if the program is shutting down.
fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Later<'static, Option<T>> {
    Box::pin(crate::system::task::blocking(work))
}

mod http;
pub mod keeper;
pub mod login;
pub mod store;
mod token;

pub use http::{encoded, value_of};

// SPDX-License-Identifier: Apache-2.0
//! Logins with OAuth 2.0 tokens instead of a password (RFC 6749): for Gmail, Microsoft 365 and similar providers.
//!
//! ```text
//!  a person signs in                      a connection needs a token
//!  login ─▶ device   (RFC 8628) ─┐                 │
//!        └▶ copyback (RFC 7636) ─┴▶ store ◀──── keeper
//!                  │                               │
//!                  └────▶ token: the server ◀──────┘
//!                         form ─▶ http ─▶ response
//! ```
//!
//! [`login`] is a flow from beginning to end, [`device`] and [`copyback`] are the two flows, [`jobs`] runs them for the
//! control methods. [`store`] keeps the refresh token on disk, [`keeper`] an access token in memory and renews those
//! that no mail uses. [`token`] talks to the server, with one HTTPS request each: [`form`], [`http`],
//! [`response`].

use std::pin::Pin;

/// A future on the heap. Its code exists once in the program instead of once in everything that awaits it: that halves
/// the size of this module.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs `work` where it may block. `None` if the program is shutting down.
fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Later<'static, Option<T>> {
    Box::pin(crate::system::task::blocking(work))
}

pub mod copyback;
pub mod device;
pub mod form;
pub mod http;
pub mod jobs;
pub mod keeper;
pub mod login;
pub mod response;
pub mod store;
pub mod token;

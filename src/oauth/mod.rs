//! Logins with OAuth 2.0 tokens instead of a password (RFC 6749): for Gmail, Microsoft 365 and similar providers.
//!
//! ```text
//!  a person signs in                      a connection needs a token
//!  login ─▶ device   (RFC 8628) ─┐                 │
//!        └▶ copyback (RFC 7636) ─┴▶ store ◀──── keeper ◀── watch
//!                  │                               │
//!                  └────▶ token: the server ◀──────┘
//!                         form ─▶ http ─▶ response
//! ```
//!
//! [`login`] is a flow from beginning to end, [`device`] and [`copyback`] are the two flows, [`jobs`] runs them for the
//! control methods. [`store`] keeps the refresh token on disk, [`keeper`] an access token in memory, [`watch`] renews
//! those that no mail uses. [`token`] talks to the server, with one HTTPS request each: [`form`], [`http`],
//! [`response`].

use std::pin::Pin;

/// A future on the heap. Its code exists once in the program instead of once in everything that awaits it: that halves
/// the size of this module.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub mod copyback;
pub mod device;
mod disk;
pub mod form;
pub mod http;
pub mod jobs;
pub mod keeper;
pub mod login;
pub mod response;
pub mod store;
pub mod token;
pub mod watch;

//! From the queue to a provider: connection, login, transaction, and what the answers mean.
//!
//! [`wire`] carries lines, [`tls`] protects them, [`client`] opens and greets, `auth` logs in, [`transaction`] hands
//! over one message, [`verdict`] says what an answer means for message and account.

mod auth;
pub mod client;
pub mod tls;
pub mod transaction;
pub mod verdict;
pub mod wire;

pub use client::{Connection, connect};
pub use transaction::send;
pub use verdict::{Outcome, Trouble, Verdict};

// SPDX-License-Identifier: Apache-2.0
//! From the queue to a provider: connection, login, transaction, and what the replies mean.
//!
//! [`wire`] carries commands and replies, [`connection`] opens and greets, over TLS of [`crate::net::tls`], `auth` logs in, [`transaction`] sends the envelope of a message, `text` its text.
//! [`reply`] is a reply of the server and whether it fits the command, [`reply_table`] a table of replies with a
//! documented meaning, [`verdict`] says what a refusal means for message and account, `timeouts` how long it may take.
//! [`test_mail`] sends a test mail in the same way, and [`trace`] shows the steps to an observer.

mod auth;
pub mod connection;
pub mod reply;
pub mod reply_table;
pub mod test_mail;
mod text;
mod timeouts;
pub mod trace;
pub mod transaction;
mod transcript;
pub mod verdict;
pub mod wire;

pub use connection::{Connection, connect};
pub use trace::Trace;
pub use transaction::send;
pub use verdict::{Outcome, Verdict};

// SPDX-License-Identifier: Apache-2.0
//! From the queue to a provider: connection, login, transaction, and what the replies mean.
//!
//! [`wire`] carries commands and replies, [`connection`] opens and greets, over TLS of [`crate::net::tls`], and says
//! how long each step may take; `auth` logs in, [`transaction`] sends the envelope of a message and its text. [`reply`]
//! is a reply of the server and whether it fits the command, [`reply_table`] a table of replies with a documented
//! meaning, [`verdict`] says what a refusal means for message and account. [`test_mail`] sends a test mail in the same
//! way, [`channel`] sends a message as an HTTPS request instead, and [`trace`] shows the steps and the conversation to an observer.

mod auth;
pub mod channel;
pub mod connection;
pub mod reply;
pub mod reply_table;
pub mod test_mail;
pub mod trace;
pub mod transaction;
pub mod verdict;
pub mod wire;

pub use connection::{Connection, connect};
pub use trace::Trace;
pub use transaction::send;
pub use verdict::{Outcome, Verdict};

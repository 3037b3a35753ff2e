//! From the queue to a provider: connection, login, transaction, and what the answers mean.
//!
//! [`wire`] carries lines, [`talk`] makes commands and replies of them, [`connection`] opens and greets, over TLS of
//! [`crate::net::tls`], `auth` logs in, [`transaction`] hands over one message: `flight` its envelope, `text` its text.
//! [`reply`] is what the server says and whether that answers the command, [`reply_table`] a table of replies with a
//! documented meaning, [`verdict`] says what a refusal means for message and account, `timeouts` how long it may take.
//! [`test_mail`] goes the same way with a test mail, and [`trace`] is how somebody looks on.

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

//! From the queue to a provider: connection, login, transaction, and what the answers mean.
//!
//! [`wire`] carries lines, [`tls`] protects them, [`talk`] makes commands and replies of them, [`client`] opens and
//! greets, `auth` logs in, [`transaction`] hands over one message: `flight` its envelope, `text` its text. [`reply`] is
//! what the server says and whether that answers the command, [`known`] a table of replies with a documented meaning,
//! [`verdict`] says what a refusal means for message and account, `patience` how long it may take. [`check`] goes the same way with a test mail, and [`trace`] is how somebody looks on; [`expiry`] reads how
//! long the certificate is good.

mod auth;
pub mod check;
pub mod client;
pub mod expiry;
mod flight;
pub mod known;
mod mask;
mod patience;
pub mod reply;
pub mod talk;
mod text;
pub mod tls;
pub mod trace;
pub mod transaction;
mod transcript;
mod trust;
pub mod verdict;
pub mod wire;
mod x509;

pub use client::{Connection, connect};
pub use trace::Trace;
pub use transaction::send;
pub use verdict::{Outcome, Trouble, Verdict};

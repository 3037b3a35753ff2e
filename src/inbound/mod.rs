// SPDX-License-Identifier: Apache-2.0
//! The receiving side: connections, the tolerant dialect, and access control.
//!
//! [`listener`] follows addresses and binds them, [`accept`] admits the clients that may connect, also this host's own
//! programs, and [`shares`] says how many connections each may have. [`session`] runs the conversation, [`dialect`]
//! parses single commands and refuses what the dialect `strict` does not allow, [`other_protocol`] recognizes what is
//! not SMTP at all. [`data`] finds the end of the message text, [`connection`] carries lines and replies, encrypted
//! with the certificate that [`tls`] presents. [`logins`] has the login dialogue, verifies logins, and delays clients
//! after failed ones.

pub mod accept;
pub mod connection;
pub mod data;
pub mod dialect;
pub mod listener;
pub mod logins;
pub mod other_protocol;
pub mod session;
pub mod shares;
pub mod tls;

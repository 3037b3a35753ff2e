// SPDX-License-Identifier: Apache-2.0
//! The receiving side: connections, the tolerant dialect, and access control.
//!
//! [`listener`] follows addresses and binds them, `accept` accepts connections, [`access`] decides which
//! clients may connect, and [`shares`] how many connections each may have. [`session`] runs the conversation,
//! [`dialect`] parses single commands ([`strict`] refuses what RFC 5321 does not allow, [`other_protocol`] what is not
//! SMTP at all), [`data`] finds the end of the message text, [`connection`] carries lines and replies, and [`tls`]
//! encrypts them with a [`certificate`]. [`auth`] runs the login dialogue, [`users`] verifies the login, and
//! [`guesses`] delays clients after failed ones. [`local`] accepts mail from this host's own programs.

mod accept;
pub mod access;
pub mod auth;
pub mod certificate;
pub mod connection;
pub mod data;
pub mod dialect;
pub mod guesses;
pub mod listener;
pub mod local;
pub mod other_protocol;
pub mod session;
pub mod shares;
pub mod strict;
pub mod tls;
pub mod users;

//! What devices say: connections, the forgiving dialect, and who may say it.
//!
//! [`listener`] follows addresses, [`sockets`] binds them, `accept` accepts, [`access`] decides who may, [`shares`] how many at once, [`session`] holds the conversation, [`dialect`]
//! understands single commands ([`strict`] refuses what the book does not allow, [`other_protocol`] what is not SMTP at all), [`data`] finds the end of the text,
//! [`connection`] carries lines and replies, [`tls`] protects them with a [`certificate`]. [`auth`] holds the dialogue of a login,
//! [`users`] tells whether it is right, [`guesses`] what wrong ones cost. [`local`] takes mail of this host's own programs.

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
pub mod sockets;
pub mod strict;
pub mod tls;
pub mod users;

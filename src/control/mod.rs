//! How the running gateway is asked and steered: one set of methods, spoken as JSON.
//!
//! `api` holds the methods; those that are more than a few lines have files of their own: `devices`, `password`, `status`,
//! `test_mail`. `socket` serves them on a private unix socket, `client` is the other end of it for the command line,
//! `fd_passing` is how root hands over new settings and `reload` what is said of them, `view` says how a message looks. `ubus`
//! serves them on OpenWrt's message bus.

pub mod api;
pub mod client;
mod devices;
pub mod fd_passing;
mod password;
mod rates;
pub mod reload;
pub mod socket;
mod status;
pub mod test_mail;
pub mod ubus;
pub mod view;

pub use api::Api;

/// Name of the socket in the spool directory. Only its owner can open it.
pub const SOCKET: &str = "control.sock";

/// Bytes of the longest request.
pub const REQUEST_LIMIT: usize = 16 << 10;

/// Messages that one answer lists at most.
pub const PAGE_LIMIT: usize = 200;

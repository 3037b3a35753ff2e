//! How the running gateway is asked and steered: one set of methods, spoken as JSON.
//!
//! `api` holds the methods; those that are more than a few lines have files of their own: `devices`, `password`, `status`,
//! `test`. `socket` serves them on a private unix socket, `client` is the other end of it for the command line, `offer` is
//! how root hands over new settings, `view` says how a message looks. `ubus` serves them on OpenWrt's message bus, in the
//! format of `blobmsg`.

pub mod api;
pub mod blobmsg;
pub mod client;
mod devices;
pub mod offer;
mod password;
mod rates;
pub mod socket;
mod status;
pub mod test;
pub mod ubus;
pub mod view;

pub use api::Api;

/// Name of the socket in the spool directory. Only its owner can open it.
pub const SOCKET: &str = "control.sock";

/// Bytes of the longest request.
pub const REQUEST_LIMIT: usize = 16 << 10;

/// Messages that one answer lists at most.
pub const PAGE_LIMIT: usize = 200;

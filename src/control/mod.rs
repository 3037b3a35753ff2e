// SPDX-License-Identifier: Apache-2.0
//! How the running gateway is queried and controlled: one set of methods in JSON.
//!
//! `api` contains the methods; those with more than a few lines have files of their own: `devices`, `password`,
//! `status`, `test_mail`. `socket` serves them on a private unix socket, `client` is its other end for the command
//! line. `fd_passing` is how root hands over new settings, and `reload` how they are applied and reported; `view`
//! describes a message. `ubus` serves the methods on OpenWrt's message bus.

pub mod api;
pub mod client;
mod devices;
pub mod fd_passing;
pub mod methods;
mod password;
pub mod reload;
pub mod socket;
mod status;
pub mod test_mail;
pub mod ubus;
pub mod view;

pub use api::Api;

/// Name of the socket in the spool directory. Only its owner can open it.
pub const SOCKET: &str = "control.sock";

/// Maximum size of a request in bytes.
pub const REQUEST_LIMIT: usize = 16 << 10;

/// Maximum number of messages listed in one answer.
pub const PAGE_LIMIT: usize = 200;

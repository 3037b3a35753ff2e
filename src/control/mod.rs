// SPDX-License-Identifier: Apache-2.0
//! How the running gateway is queried and controlled: one set of methods in JSON.
//!
//! `api` contains the methods; `password` and `test_mail` are large enough for files of their own, and `views`
//! describes messages, accounts and devices. `socket` serves the methods on a private unix socket and has its other
//! end, for the command line; `ubus` serves them on OpenWrt's message bus. `reload` is how new settings reach the
//! gateway.

pub mod api;
mod password;
pub mod reload;
pub mod socket;
pub mod test_mail;
pub mod ubus;
pub mod views;

use std::fmt;

pub use api::Api;

/// Name of the socket in the spool directory. Only its owner can open it.
pub const SOCKET: &str = "control.sock";

/// Maximum size of a request in bytes.
pub const REQUEST_LIMIT: usize = 16 << 10;

/// Maximum number of messages listed in one answer.
pub const PAGE_LIMIT: usize = 200;

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentType {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Flag,
}

/// A method as it is listed.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its arguments. According to the list, all of them are optional; others are ignored.
    pub arguments: &'static [(&'static str, ArgumentType)],
}

/// The arguments of a list.
const PAGED: &[(&str, ArgumentType)] = &[("offset", ArgumentType::Number), ("limit", ArgumentType::Number)];
/// The argument of methods that change messages.
const ONE: &[(&str, ArgumentType)] = &[("id", ArgumentType::Text)];

/// Every method, in the order in which they are listed. Methods that are not listed here cannot be called.
pub const METHODS: &[Method] = &[
    Method { name: "status", arguments: &[] },
    Method { name: "queue", arguments: PAGED },
    Method { name: "message", arguments: ONE },
    Method { name: "retry", arguments: ONE },
    Method { name: "hold", arguments: ONE },
    Method { name: "release", arguments: ONE },
    Method { name: "delete", arguments: ONE },
    Method { name: "history", arguments: PAGED },
    Method { name: "devices", arguments: PAGED },
    Method { name: "log_read", arguments: &[("after", ArgumentType::Text)] },
    Method { name: "wake", arguments: &[("reason", ArgumentType::Text)] },
    Method { name: "test", arguments: &[("to", ArgumentType::Text), ("account", ArgumentType::Text)] },
    Method { name: "job", arguments: ONE },
    Method { name: "providers", arguments: &[] },
    Method { name: "set_password", arguments: &[("account", ArgumentType::Text), ("password", ArgumentType::Text)] },
    Method { name: "reload", arguments: &[] },
    Method { name: "login_start", arguments: &[("account", ArgumentType::Text)] },
    Method { name: "login_poll", arguments: &[("job", ArgumentType::Text), ("address", ArgumentType::Text)] },
];

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// There is no such method, or its parameters are wrong.
    Wrong(String),
    /// There is no such message.
    NotFound(String),
    /// The message is being sent.
    Busy(String),
    /// It is not possible now.
    Failed(String),
}

impl CallError {
    /// The kind of error, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Wrong(_) => "wrong",
            Self::NotFound(_) => "not_found",
            Self::Busy(_) => "busy",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(text) | Self::NotFound(text) | Self::Busy(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

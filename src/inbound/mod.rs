//! What devices say: connections, the forgiving dialect, and who may say it.
//!
//! [`listener`] accepts, [`access`] decides who may, [`session`] holds the conversation, [`dialect`] understands single
//! commands, [`data`] finds the end of the text, [`talk`] carries lines and replies.

pub mod access;
mod auth;
pub mod data;
pub mod dialect;
pub mod listener;
pub mod session;
pub mod talk;

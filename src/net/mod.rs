//! Connections to other hosts, before any protocol is spoken.

mod connect;

pub use connect::{Failure, connect};

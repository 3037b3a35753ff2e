// SPDX-License-Identifier: Apache-2.0
//! Connections to other hosts, below any protocol: TCP to one of the addresses of a host name, [`tls`] and what an
//! account trusts, [`http`]: one request and its reply, and [`Trouble`]: why an account cannot send at the moment.

mod connect;
pub mod http;
pub mod tls;
mod trouble;
mod trust;

pub use connect::{ConnectFailure, connect, works};
pub use trouble::{Explanation, Trouble, TroubleKind};
pub use trust::Presented;

// SPDX-License-Identifier: Apache-2.0
//! Connections to other hosts, below any protocol: TCP to one of the addresses of a host name, [`tls`] and what an
//! account trusts, [`expiry`] of certificates, and [`trouble`]: why an account cannot send at the moment.

mod connect;
pub mod expiry;
pub mod tls;
pub mod trouble;
mod trust;
mod x509;

pub use connect::{ConnectFailure, connect};
pub use trouble::{Explanation, Trouble, TroubleKind};

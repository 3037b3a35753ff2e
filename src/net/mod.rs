//! Connections to other hosts, before any protocol is spoken: TCP to one of the addresses of a name, [`tls`] and whom an
//! account trusts, [`expiry`] of certificates, and [`trouble`], why nothing can be sent for now.

mod connect;
pub mod expiry;
pub mod tls;
pub mod trouble;
mod trust;
mod x509;

pub use connect::{Failure, connect};
pub use trouble::{Trouble, TroubleKind};

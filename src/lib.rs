//! smtprelay: the mail gateway for everything on a LAN that cannot speak modern mail.
//!
//! ```text
//!  device ──TCP──▶ inbound ──▶ intake ──▶ queue ──▶ dispatch ──▶ outbound ──TLS──▶ provider
//!                  who? may     repair,    commit,    what next,    connection, login,
//!                  it? dialect  rewrite    then 250   what then     transaction, verdict
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the settings: UCI format, types, defaults, presets |
//! | [`inbound`] | sockets, sessions, the forgiving dialect, who may send |
//! | [`intake`] | the one way into the queue: [`message`] repair and [`queue`] commit together |
//! | [`message`] | pure functions from what devices send to correct mail |
//! | [`queue`] | messages on disk and in the schedule |
//! | [`dispatch`] | what is sent next and what becomes of it |
//! | [`net`] | TCP to one of the addresses of a name |
//! | [`outbound`] | one connection, one transaction, what the replies mean |
//! | [`policy`] | what holds for one device: recipients, rate, name |
//! | [`oauth`] | logins with tokens in place of a password |
//! | [`secrets`] | passwords and tokens on disk, encrypted |
//! | [`report`] | events, log lines, failure notices |
//! | [`system`] | clock, interfaces, limits, the system log |
//! | [`chronicle`], [`announce`] | keep the history, send the mail after a start of the router |
//! | [`prepare`] | what only root can do, and the end of being root |
//! | [`relay`] | puts these together and runs them |
//! | [`reload`], [`reopen`] | new settings and new addresses while it runs |
//! | [`control`] | how the running gateway is asked and steered |
//! | [`submit`] | `smtprelay send`, the sendmail replacement |
//!
//! Data flows from left to right; results come back as return values and as [`report::Event`].

pub mod announce;
pub mod chronicle;
pub mod config;
pub mod control;
pub mod dispatch;
pub mod inbound;
pub mod intake;
pub mod message;
pub mod net;
pub mod oauth;
pub mod outbound;
pub mod policy;
pub mod prepare;
pub mod queue;
pub mod relay;
pub mod reload;
pub mod reopen;
pub mod report;
pub mod secrets;
pub mod submit;
pub mod system;

/// Version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

// SPDX-License-Identifier: Apache-2.0
//! smtprelay: the mail gateway for everything on a LAN that cannot speak modern mail.
//!
//! ```text
//!  device ──TCP──▶ inbound ──▶ intake ──▶ queue ──▶ dispatch ──▶ outbound ──TLS──▶ provider
//!                  who? may     repair,    commit,    what next,    connection, login,
//!                  it? dialect  rewrite    then 250   what then     transaction, verdict
//! ```
//!
//! | room | holds | may use |
//! |---|---|---|
//! | [`message`] | pure functions from what devices send to correct mail | |
//! | [`system`] | what the operating system offers: clock, names, rights, files, its log | message |
//! | [`ubus`] | OpenWrt's message bus | system |
//! | [`report`] | events, log lines, history, notices, hook | message, system |
//! | [`secrets`] | passwords and tokens on disk, encrypted | system |
//! | [`push`] | templates of HTTPS requests, and values that fit into them | message |
//! | [`config`] | the settings: UCI format, types, defaults, presets | message, push, secrets, system |
//! | [`policy`] | what holds for one device: recipients, rate, name; what is an alarm | config, message, report, system |
//! | [`net`] | TCP to one of the addresses of a name, TLS and whom it trusts, HTTPS requests | config, message, push, report, system |
//! | [`queue`] | messages on disk and in the schedule | config, message, report, system |
//! | [`intake`] | the one way into the queue: repair and commit together | message, policy, queue, report, system |
//! | [`inbound`] | sockets, sessions, the forgiving dialect, who may send | config, intake, message, policy, queue, report, secrets, system |
//! | [`oauth`] | logins with tokens in place of a password | config, message, net, push, report, secrets, system |
//! | [`outbound`] | one connection, one transaction or request, what the replies mean | config, message, net, oauth, push, queue, report, secrets, system |
//! | [`digest`] | one mail in place of many that a device sent beyond its rate | intake, message, policy, queue, report, system |
//! | [`dispatch`] | what is sent next and what becomes of it | config, digest, intake, message, net, outbound, policy, queue, report, system |
//! | [`control`] | the methods of the running gateway, over its socket and over ubus | config, dispatch, inbound, message, oauth, outbound, policy, queue, report, secrets, system, ubus |
//! | [`daemon`] | start, run, reload, end | config, control, dispatch, inbound, intake, message, oauth, queue, report, system, ubus |
//! | [`submit`] | `smtprelay send`, the sendmail replacement | config, inbound, intake, message, policy, queue, system |
//!
//! The program's own folder `cli` reads the command line. `tests/arrows.py`, part of `make lint`, compares the last column
//! with the `use` lines, and finds circles.
//!
//! Data flows from left to right; results come back as return values and as [`report::Event`].

// A device, a provider, a file or a full disk must not be able to end the program.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod config;
pub mod control;
pub mod daemon;
pub mod digest;
pub mod dispatch;
pub mod inbound;
pub mod intake;
pub mod message;
pub mod net;
pub mod oauth;
pub mod outbound;
pub mod policy;
pub mod push;
pub mod queue;
pub mod report;
pub mod secrets;
pub mod submit;
pub mod system;
pub mod ubus;

/// Version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

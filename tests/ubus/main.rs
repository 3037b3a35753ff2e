// SPDX-License-Identifier: Apache-2.0
//! The gateway on OpenWrt's message bus.
//!
//! `recorded` always runs: against a stand-in for ubusd that speaks the messages that were recorded from the real one.
//! `real` runs against ubusd itself: `UBUSD=/sbin/ubusd UBUS=/bin/ubus cargo test --test ubus`.

#[path = "../support/mod.rs"]
mod support;

mod bus;
mod real;
mod recorded;
mod wire;

use support::relay::{Relay, RelayBuilder, Section};

/// A gateway whose provider is never there, on the bus at `socket`.
fn gateway(socket: &std::path::Path) -> RelayBuilder {
    let nowhere = Section::custom_account("provider", "127.0.0.1", 1, "none");
    let socket = socket.to_str().expect("a path in UTF-8");
    Relay::builder().durability("memory").section(nowhere).env("SMTPRELAY_UBUS", socket)
}

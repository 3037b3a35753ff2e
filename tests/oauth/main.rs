// SPDX-License-Identifier: Apache-2.0
//! Logins with tokens in place of a password: the flows with a person, tokens that end, and everything that goes wrong with
//! the login server. The servers are ours; `interop.rs` has one of others.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod crash;
mod faults;
mod flows;
mod interop;
mod time;

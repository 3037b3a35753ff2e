// SPDX-License-Identifier: Apache-2.0
//! Holds smtprelay's UCI reader against the real one, OpenWrt's libuci.
//!
//! `cargo test` in this directory makes up files, has both read them, and wants the same answer from both. It
//! builds libuci from the sources in the crate `libuci-sys`, which takes cmake, a C compiler and libclang. With
//! the environment variable `UCI_DIR` of that crate, another libuci is taken instead.

pub mod files;
pub mod libuci;
// The reader under test, straight from the main crate's source, so that none of its dependencies are needed.
#[path = "../../../src/config/uci/mod.rs"]
pub mod uci;

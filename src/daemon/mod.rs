// SPDX-License-Identifier: Apache-2.0
//! The running program: startup, changes of settings and addresses, and shutdown.
//!
//! [`startup`] does what only root can do, and then gives up root. [`run`] connects the parts and handles signals.
//! [`reload`] applies new settings, [`rebind`] new addresses, [`boot_mail`] sends the mail after a boot of the router.

pub mod boot_mail;
pub mod rebind;
pub mod reload;
pub mod run;
pub mod startup;

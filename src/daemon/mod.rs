//! The running program: start, settings and addresses that change, the end.
//!
//! [`startup`] is what only root can do, and the end of being root. [`run`] puts the parts together and obeys signals.
//! [`reload`] takes over new settings, [`rebind`] new addresses, [`boot_mail`] sends the mail after a start of the router.

pub mod boot_mail;
pub mod rebind;
pub mod reload;
pub mod run;
pub mod startup;

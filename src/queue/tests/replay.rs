// SPDX-License-Identifier: Apache-2.0
//! Every power cut: what the spool does to the disk is recorded, each prefix of it is taken as the moment of a cut, and
//! for each the possible states of the disk are created, started on and checked.
//!
//! [`model`] knows what a disk may keep, [`scenario`] what is done and promised, [`check`] whether this was kept.

mod check;
mod model;
mod scenario;

use super::super::disk::probe::{Broken, Op};
use super::*;
use check::Checker;
use scenario::Scenario;

/// States that are tried for one moment, if there are not more.
const EXHAUSTIVE: u64 = 1000;

/// States chosen at random for a moment that has more. `SMTPRELAY_STATES` sets another number.
fn drawn() -> usize {
    std::env::var("SMTPRELAY_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

fn replay(durability: Durability, broken: Option<Broken>, vfat: bool) -> Result<Checker, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let scenario = Scenario::run(&runtime, durability, broken);
    let mut checker = Checker::new(runtime, durability, vfat);
    checker.all(&scenario)?;
    Ok(checker)
}

/// Prints how many states were tried, and that none breaks a promise.
fn holds(durability: Durability, vfat: bool) {
    let checker = replay(durability, None, vfat).unwrap_or_else(|violation| panic!("{durability:?}: {violation}"));
    println!("{durability:?}{}: {checker}", if vfat { " on vfat" } else { "" });
    assert!(checker.states > 1000, "only {} states", checker.states);
}

#[test]
fn always_keeps_its_promise_at_every_power_cut() {
    holds(Durability::Always, false);
}

#[test]
fn always_keeps_its_promise_on_vfat() {
    holds(Durability::Always, true);
}

#[test]
fn deferred_keeps_its_promise_at_every_power_cut() {
    holds(Durability::Deferred, false);
}

#[test]
fn deferred_keeps_its_promise_on_vfat() {
    holds(Durability::Deferred, true);
}

#[test]
fn memory_keeps_its_promise_at_every_crash() {
    holds(Durability::Memory, false);
}

#[test]
fn a_wrong_order_is_found() {
    for (broken, vfat) in [
        (Broken::RenameFirst, false),
        (Broken::NoFileSync, false),
        (Broken::NoDirectorySync, false),
        (Broken::NoSecondSync, true),
    ] {
        for durability in [Durability::Always, Durability::Deferred] {
            let violation = replay(durability, Some(broken), vfat).err();
            println!("{broken:?}, {durability:?}: {violation:?}");
            assert!(violation.is_some(), "{broken:?} goes unnoticed with {durability:?}");
        }
    }
}

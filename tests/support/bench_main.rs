// SPDX-License-Identifier: Apache-2.0
//! The parts of `make bench` that must be quick: a load generator, a mail provider that counts, a slow line between them.
//!
//! ```text
//! bench send --port N [--sessions N] [--seconds N | --count N] [--size BYTES] [--kept yes] [--first N]
//!            [--pause MS] [--gap MS] [--list yes]
//! bench provider --port-file FILE --ca-out FILE --user NAME --password WORD [--tls implicit|none]
//! bench proxy --port-file FILE --to PORT --delay MS
//! ```
//!
//! A client in Python needed more processor time than the relays that it measured. This one uses blocking threads: for
//! at most a few hundred connections they cost less than anything else. All times are of CLOCK_MONOTONIC, in
//! nanoseconds, so that those of different processes can be compared.
#![allow(dead_code)]

#[path = "certs.rs"]
mod certs;
#[path = "bench/client.rs"]
mod client;
#[path = "bench/provider.rs"]
mod provider;
#[path = "bench/proxy.rs"]
mod proxy;

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

/// The options of a call, by name without the dashes.
pub struct Options(HashMap<String, String>);

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut all = HashMap::new();
        while let Some(name) = args.next() {
            let name = name.strip_prefix("--").ok_or_else(|| format!("{name} is not an option"))?.to_owned();
            let value = args.next().ok_or_else(|| format!("--{name} needs a value"))?;
            all.insert(name, value);
        }
        Ok(Options(all))
    }

    /// The value of an option that must be there.
    pub fn text(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("--{name} is missing"))
    }

    /// Whether the option is set to `yes`.
    pub fn yes(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value == "yes")
    }

    /// A number, if the option is there.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| format!("--{name} {value} is not a number"))
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let result = Options::read(args).and_then(|options| match task.as_str() {
        "send" => client::run(&options),
        "provider" => provider::run(&options),
        "proxy" => proxy::run(&options),
        _ => Err("usage: bench send|provider|proxy --option value …".to_owned()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench {task}: {why}");
            ExitCode::from(2)
        }
    }
}

/// Nanoseconds of the clock that all processes of this machine share and nobody sets.
pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("the time");
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// Writes a file that appears complete or not at all.
pub fn publish(path: &Path, text: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|e| format!("{}: {e}", path.display()))
}

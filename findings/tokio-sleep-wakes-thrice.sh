#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# tokio 1.54.1 (crates.io): a single sleep of 10 s wakes its thread three times.
#
# Timers stand in a wheel with levels of 64 slots: slots of 1 ms, of 64 ms, of 4.096 s, of 262 s and so on. A timer that is
# far away stands in a wide slot. The runtime sleeps until that slot begins, moves the timer into a narrower one, and sleeps
# again. So a sleep costs as many wake-ups as it passes levels: one below 64 ms, two below 4 s, three below 4 minutes. A
# program that looks after something every 10 s wakes the processor 18 times a minute for it, not 6 times. std's sleep takes
# one wake-up for each of these times.
#
# Counted are the thread's voluntary context switches (/proc/thread-self/status), each in a runtime of its own.
#
# Seen:
#	50 ms: tokio 1, std 1
#	1000 ms: tokio 2, std 1
#	10000 ms: tokio 3, std 1
#
# Needs Linux, cargo and crates.io. Ends with 0 when the behaviour is as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'END'
[package]
name = "wheel"
version = "0.0.0"
edition = "2021"

[dependencies]
tokio = { version = "=1.54.1", features = ["rt", "time"] }

[workspace]
END
cat >"$folder/src/main.rs" <<'END'
use std::time::Duration;

/// How often this thread has gone to sleep so far.
fn slept() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

fn main() {
    for time in [50, 1000, 10_000].map(Duration::from_millis) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let before = slept();
        runtime.block_on(async { tokio::time::sleep(time).await });
        let between = slept();
        std::thread::sleep(time);
        println!("{} ms: tokio {}, std {}", time.as_millis(), between - before, slept() - between);
    }
}
END
cat >"$folder/expected" <<'END'
50 ms: tokio 1, std 1
1000 ms: tokio 2, std 1
10000 ms: tokio 3, std 1
END
CARGO_TARGET_DIR=$folder/target timeout 540 cargo build --quiet --manifest-path "$folder/Cargo.toml"
timeout 120 "$folder/target/debug/wheel" >"$folder/seen"
cat "$folder/seen"
if ! diff "$folder/expected" "$folder/seen"; then
	echo 'changed: tokio 1.54.1 no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'

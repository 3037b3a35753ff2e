// SPDX-License-Identifier: Apache-2.0
//! How fast time passes on the router: as on any other while it has something to do, and in steps while it has not.

use std::fs;
use std::time::{Duration, Instant};

use super::support::log::field;
use super::{IN_FLIGHT, Queue, Router, SOON};

/// Seconds of a step while no mail waits: the timers of an idle gateway are late by as much at most.
const IDLE: i64 = 300;
/// The same while mail waits for its next attempt and nothing gets through.
const REFUSED: i64 = 120;
/// The same while mail waits for its account, and where seconds matter.
const CAREFUL: i64 = 10;
/// Real time between two looks at what the machine's processor does: more than two ticks of the kernel, so a step has taken
/// effect at the next look.
const LOOK: Duration = Duration::from_millis(10);
/// Real time after which a step is taken though the processor seems to be busy: it may only be waiting for one of the host.
const BUSY: Duration = Duration::from_millis(300);

impl Router {
    /// Lets time pass until then, in seconds since 1970.
    pub async fn until(&mut self, then: i64) {
        self.pass(then, IDLE).await;
    }

    /// Lets so many seconds pass, in small steps.
    pub async fn advance(&mut self, seconds: i64) {
        let then = self.clock.wall() + seconds;
        self.pass(then, CAREFUL).await;
    }

    async fn pass(&mut self, then: i64, most: i64) {
        loop {
            self.book();
            let step = match (self.ledger.waiting(), self.troubles.is_empty()) {
                (_, true) => self.settle().await,
                (0, false) => IDLE,
                (_, false) => REFUSED,
            };
            let left = then - self.clock.wall();
            if left <= 0 {
                return;
            }
            self.clock.forward(left.min(step).min(most));
            self.steps += 1;
            self.calm().await;
        }
    }

    /// Waits until no delivery is in flight, however slow the machine is. In how many seconds that may change.
    async fn settle(&mut self) -> i64 {
        let limit = Instant::now() + IN_FLIGHT;
        while !self.at_rest {
            let mark = self.machine.mark();
            let queue = self.queue().await;
            self.book();
            if !queue.is_in_flight() {
                self.at_rest = queue.total == 0 && self.ledger.waiting() == 0;
                return if self.at_rest { IDLE } else { queue.next.unwrap_or(CAREFUL).clamp(1, REFUSED) };
            }
            assert!(Instant::now() < limit, "a delivery does not end");
            self.machine.comes(mark, SOON, |line| field(line, "event").is_some()).await;
        }
        IDLE
    }

    async fn queue(&mut self) -> Queue {
        let said = self.command("standing").await;
        let line = said.iter().find(|line| line.starts_with("router: standing ")).expect("what the queue waits for");
        let number = |name: &str| field(line, name).and_then(|value| value.parse().ok());
        let count = |name: &str| number(name).and_then(|count: i64| usize::try_from(count).ok()).expect("a count");
        let (sending, due) = (count("sending"), count("due"));
        let next = number("next").filter(|_| due == 0);
        Queue { total: count("total"), sending, due, paused: count("paused") > 0, next }
    }

    /// Waits until the machine's processor is idle.
    async fn calm(&self) {
        let process = self.machine.process();
        let (start, mut is_calm, mut before) = (Instant::now(), false, busy(process));
        let mut at = start;
        while !is_calm && start.elapsed() < BUSY {
            tokio::time::sleep(LOOK).await;
            let now = busy(process);
            is_calm = now.saturating_sub(before) < at.elapsed().mul_f64(0.4);
            (before, at) = (now, Instant::now());
        }
    }

    /// The gateway is started again by procd, which waits for five seconds.
    pub async fn respawned(&mut self, mark: usize) {
        self.clock.forward(CAREFUL);
        assert!(
            self.machine.comes(mark, SOON, |line| line.contains("event=listening")).await,
            "it was not started again"
        );
    }
}

/// The time for which the threads of a process have run, or would have if the host had had a processor for them.
fn busy(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some(text.split_whitespace().take(2).filter_map(|one| one.parse::<u64>().ok()).sum::<u64>())
    });
    Duration::from_nanos(nanoseconds.sum())
}

// SPDX-License-Identifier: Apache-2.0
//! How fast time passes on the router: as on any other while it has something to do, and in steps while it has not.

use std::fs;
use std::time::{Duration, Instant};

use super::{Router, SOON};

/// Seconds of a step while no mail waits: the timers of an idle gateway are late by as much at most.
const IDLE: i64 = 300;
/// The same while mail waits for its next attempt and nothing gets through.
const REFUSED: i64 = 120;
/// The same while mail waits and the provider is well, and where seconds matter.
const CAREFUL: i64 = 10;
/// How much real time is given to a delivery before steps go on. Too little only costs an attempt.
const DELIVERY: Duration = Duration::from_secs(20);
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
        self.settle().await;
        loop {
            let left = then - self.clock.wall();
            if left <= 0 {
                return;
            }
            let (step, calm) = match (self.ledger.waiting(), self.troubles.is_empty()) {
                (0, _) => (IDLE, 1),
                (_, true) => (CAREFUL, 3),
                (_, false) => (REFUSED, 1),
            };
            self.clock.forward(left.min(step).min(most));
            self.steps += 1;
            self.calm(calm).await;
            if step == CAREFUL {
                self.book();
            }
        }
    }

    /// Gives mail that is under way the real time to arrive, unless something keeps it in the queue.
    async fn settle(&mut self) {
        self.book();
        let limit = Instant::now() + DELIVERY;
        while self.troubles.is_empty() && self.ledger.waiting() > 0 && Instant::now() < limit {
            let mark = self.read.0;
            self.machine.comes(mark, Duration::from_secs(1), |line| line.contains("event=removed")).await;
            self.book();
        }
    }

    /// Waits until the machine's processor has been idle at so many looks in a row.
    async fn calm(&self, looks: u32) {
        let process = self.machine.process();
        let (start, mut calm, mut before) = (Instant::now(), 0, busy(process));
        let mut at = start;
        while calm < looks && start.elapsed() < BUSY {
            tokio::time::sleep(LOOK).await;
            let now = busy(process);
            let is_calm = now.saturating_sub(before) < at.elapsed().mul_f64(0.4);
            calm = if is_calm { calm + 1 } else { 0 };
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

// SPDX-License-Identifier: Apache-2.0
//! Has root open what the gateway may not open itself: port 25 on an address that appears later, and the log socket of
//! a restarted log daemon, which a gateway in a jail cannot see.
//!
//! The init script names the networks of the listeners to procd, and procd runs a reload when one of them changes. This
//! module covers the rest: an address on an interface that netifd does not know, or a change at the moment when procd
//! learns about the networks. About the log, procd is notified only from here.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::inbound::listener::Shown;

/// How long procd has for a reload of its own.
const FIRST: Duration = Duration::from_secs(10);
/// After that procd is asked, first after this time and then less and less often.
const NEXT: Duration = Duration::from_secs(60);
/// The longest interval.
const LONGEST: Duration = Duration::from_secs(3600);

/// After this time without a lost line, logging is considered restored.
const CALM: Duration = Duration::from_secs(600);

/// The pauses before each request to procd.
fn pauses() -> impl Iterator<Item = Duration> {
    let ever_longer = |pause: &Duration| Some((*pause * 2).min(LONGEST));
    std::iter::once(FIRST).chain(std::iter::successors(Some(NEXT), ever_longer))
}

/// Requests a reload for as long as a listener lacks an address that only root can open. Ends with the listeners.
pub async fn run(listeners: watch::Receiver<Vec<Shown>>, ask: impl AsyncFn()) {
    run_with(listeners, ask, pauses).await;
}

async fn run_with<P: Iterator<Item = Duration>>(
    mut listeners: watch::Receiver<Vec<Shown>>,
    ask: impl AsyncFn(),
    pauses: impl Fn() -> P,
) {
    let lacks = |shown: &Vec<Shown>| shown.iter().any(|listener| listener.needs_root);
    while listeners.wait_for(lacks).await.is_ok() {
        for pause in pauses() {
            let settled = timeout(pause, listeners.wait_for(|shown| !lacks(shown))).await.map(|there| there.is_ok());
            match settled {
                Ok(true) => break,
                Ok(false) => return,
                Err(_) => ask().await,
            }
        }
    }
}

/// Requests a reload, which provides a new connection to the log, whenever `lost` reports that a line could not be sent
/// there. Does not end.
pub async fn run_log(lost: impl AsyncFn(), ask: impl AsyncFn()) {
    run_log_with(lost, ask, pauses).await;
}

async fn run_log_with<P: Iterator<Item = Duration>>(lost: impl AsyncFn(), ask: impl AsyncFn(), pauses: impl Fn() -> P) {
    loop {
        for pause in pauses() {
            if timeout(CALM, lost()).await.is_err() {
                break;
            }
            ask().await;
            sleep(pause).await;
            // Lines from before the new connection was there, and those of the reload itself if there is none.
            let _ = timeout(Duration::ZERO, lost()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsMode;
    use std::cell::Cell;

    fn shown(needs_root: bool) -> Vec<Shown> {
        vec![Shown { name: "lan".into(), address: None, open: !needs_root, tls: TlsMode::None, note: None, needs_root }]
    }

    #[test]
    fn procd_has_its_time_and_is_asked_ever_more_rarely() {
        let seconds: Vec<u64> = pauses().take(9).map(|pause| pause.as_secs()).collect();
        assert_eq!(seconds, [10, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[tokio::test]
    async fn it_is_asked_for_while_it_is_needed() {
        let (listeners, seen) = watch::channel(shown(true));
        let (listeners, asked) = (Cell::new(Some(listeners)), Cell::new(0));
        let ask = async || {
            asked.set(asked.get() + 1);
            let Some(sender) = listeners.take() else { return };
            match asked.get() {
                // The third reload helps; then another one is needed.
                3 => drop(sender.send_replace(shown(false))),
                // The one after it finds that the gateway has ended.
                5 => return,
                _ => drop(sender.send_replace(shown(true))),
            }
            listeners.set(Some(sender));
        };
        let again = async {
            while asked.get() < 3 {
                tokio::task::yield_now().await;
            }
            let sender = listeners.take().unwrap();
            assert!(!sender.borrow()[0].needs_root);
            sender.send_replace(shown(true));
            listeners.set(Some(sender));
        };
        tokio::join!(run_with(seen, ask, || std::iter::repeat(Duration::ZERO)), again);
        assert_eq!(asked.get(), 5);
    }

    #[tokio::test]
    async fn a_lost_line_asks_and_those_of_the_reload_do_not() {
        let (lines, asked) = (tokio::sync::Notify::new(), Cell::new(0));
        let ask = async || {
            asked.set(asked.get() + 1);
            // The messages of the reload itself are lost as well.
            lines.notify_one();
        };
        let device = async {
            for round in 1..=3 {
                lines.notify_one();
                while asked.get() < round {
                    sleep(Duration::from_millis(1)).await;
                }
                for _ in 0..10 {
                    sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(asked.get(), round);
            }
        };
        let pauses = || std::iter::repeat(Duration::ZERO);
        tokio::select! {
            () = run_log_with(async || lines.notified().await, ask, pauses) => unreachable!("it does not end"),
            () = device => {}
        }
    }
}

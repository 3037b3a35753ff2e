// SPDX-License-Identifier: Apache-2.0
//! The provider fails, at each step and in each way: nothing is lost, nothing comes twice but in the one window that
//! nobody can close, and the owner hears why.

mod run;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::sync::Arc;

use run::{Cell, Seen, Way, mail, open_way, provider, relay_to, relay_with, removed, send_from, send_to};
use support::ask::said;
use support::certs::Certs;
use support::provider::{Fault, Step, Times};
use support::relay::field;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Cells at once. Those where a server hangs only wait, and run all at the same time.
const AT_ONCE: usize = 8;

/// Under an emulator only some cells are run.
fn emulated() -> bool {
    std::env::var_os("SMTPRELAY_RUNNER").is_some_and(|runner| !runner.is_empty())
}

/// Runs cells side by side; returns what came of them in their order.
async fn run_all(cells: Vec<Cell>) -> Vec<(Cell, Seen)> {
    let (certs, places) = (Certs::new(), Arc::new(Semaphore::new(AT_ONCE)));
    let mut running = JoinSet::new();
    for (at, cell) in cells.into_iter().enumerate() {
        let (certs, places) = (certs.clone(), Arc::clone(&places));
        running.spawn(async move {
            let _place = match cell.hangs() {
                true => None,
                false => Some(places.acquire_owned().await.expect("a semaphore that stays open")),
            };
            let seen = run::run(&cell, &certs).await;
            (at, cell, seen)
        });
    }
    let (mut all, mut wrong) = (Vec::new(), 0);
    while let Some(done) = running.join_next().await {
        match done {
            Ok(done) => all.push(done),
            // What was wrong has been printed; the others are of interest as well.
            Err(_) => wrong += 1,
        }
    }
    assert_eq!(wrong, 0, "cells that are not as the table says");
    all.sort_by_key(|(at, ..)| *at);
    all.into_iter().map(|(_, cell, seen)| (cell, seen)).collect()
}

fn show(cell: &Cell, seen: &Seen) {
    let text = field(&seen.line, "text").unwrap_or_default();
    let (step, way, expect) = (format!("{:?}", cell.step), format!("{:?}", cell.way), format!("{:?}", cell.expect));
    println!("{step:<24} {:<14} {way:<10} {expect:<11} copies {}  {text}", cell.name, seen.copies);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_any_step_loses_mail() {
    let mut cells = table::cells();
    let all = cells.len();
    if emulated() {
        // Patience is measured in real time, which an emulator takes more of.
        cells = cells.into_iter().step_by(3).filter(|cell| !cell.hangs()).collect();
        println!("skipped: {} of {all} cells under an emulator", all - cells.len());
    }
    let seen = run_all(cells).await;
    seen.iter().for_each(|(cell, seen)| show(cell, seen));
    let twice = seen.iter().filter(|(_, seen)| seen.copies == 2).count();
    println!("{} cells, {twice} of them with two copies", seen.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_of_providers_are_understood_and_explained() {
    let (cells, words): (Vec<Cell>, Vec<&str>) = table::replies().into_iter().unzip();
    for ((cell, seen), words) in run_all(cells).await.iter().zip(words) {
        show(cell, seen);
        assert!(seen.line.contains(words), "{words} in {}", seen.line);
    }
}

/// Each combination of taken, deferred and refused among three recipients.
#[tokio::test]
async fn each_recipient_has_its_own_verdict_in_each_combination() {
    const FATES: [&str; 3] = ["taken", "later", "gone"];
    let certs = Certs::new();
    for way in Way::ALL {
        let provider = provider(&certs, way).await;
        let relay = relay_to(&provider, |account| account).await;
        open_way(&relay, way).await;
        let mut combinations = Vec::new();
        for number in 0..27 {
            let fates = [FATES[number / 9], FATES[number / 3 % 3], FATES[number % 3]];
            let to: Vec<String> = fates
                .iter()
                .zip(["a", "b", "c"])
                .map(|(fate, name)| format!("{name}{number}.{fate}@example.com"))
                .collect();
            for address in &to {
                if address.contains("later") {
                    let later = Fault::Reply("450 4.2.0 Greylisted".into());
                    provider.set_fault(Step::Rcpt(address.clone()), later, Times::First(1));
                } else if address.contains("gone") {
                    let gone = Fault::Reply("550 5.1.1 No such user".into());
                    provider.set_fault(Step::Rcpt(address.clone()), gone, Times::Always);
                }
            }
            let from = format!("plc{number}@example.com");
            let id = send_from(&relay, &from, &to.iter().map(String::as_str).collect::<Vec<_>>()).await;
            for (address, fate) in to.iter().zip(fates) {
                let event = ["delivered", "deferred", "failed"][FATES.iter().position(|f| *f == fate).expect("a fate")];
                let said = |line: &str| {
                    field(line, "event") == Some(event)
                        && field(line, "id") == Some(id.as_str())
                        && line.contains(&format!("to=<{address}>"))
                };
                relay.wait_log(said, run::SOON).await;
            }
            combinations.push((id, to));
        }
        said(&relay, "queue retry all").await;
        for (id, to) in &combinations {
            removed(&relay, id).await;
            for address in to {
                let copies = mail(&provider).iter().filter(|m| m.recipients.contains(address)).count();
                assert_eq!(copies, usize::from(!address.contains("gone")), "{address} {way:?}");
            }
        }
        let failed = relay.log().iter().filter(|line| field(line, "event") == Some("failed")).count();
        assert_eq!(failed, 27, "{way:?}");
        assert_eq!(provider.complaints(), Vec::<String>::new());
        println!("{way:?}: 27 combinations, 81 recipients, 27 refused, all others once");
    }
}

/// A server that says 421 to one recipient and goes on all the same: it gets no text for the others. With BDAT the text is
/// out, and what became of it counts for the recipients that it had taken before.
#[tokio::test]
async fn a_421_in_the_middle_of_a_flight_doubles_nothing() {
    let certs = Certs::new();
    for way in Way::ALL {
        let provider = provider(&certs, way).await;
        let relay = relay_to(&provider, |account| account).await;
        open_way(&relay, way).await;
        provider.set_fault(
            Step::Rcpt("b@example.com".into()),
            Fault::Reply("421 4.3.2 Closing".into()),
            Times::First(1),
        );
        provider.set_fault(Step::Rcpt("x@example.com".into()), Fault::Reply("550 5.1.1 No".into()), Times::Always);
        let to = ["x@example.com", "a@example.com", "b@example.com", "c@example.com"];
        let id = send_to(&relay, &to).await;
        relay.wait_log(|line| field(line, "event") == Some("paused"), run::SOON).await;
        removed(&relay, &id).await;
        for address in &to[1..] {
            let copies = mail(&provider).iter().filter(|m| m.recipients.iter().any(|to| to == address)).count();
            assert_eq!(copies, 1, "{address} {way:?}\n{}", provider.transcript());
        }
        // The refusal that was known already is not asked for again.
        let failed = relay.log().iter().filter(|line| field(line, "event") == Some("failed")).count();
        assert_eq!(failed, 1, "{way:?}");
    }
}

/// A flight whose sender or recipients are refused, and a server that asks for the text all the same: it gets none, and
/// both sides know where they are.
#[tokio::test]
async fn a_flight_for_nobody_leaves_the_connection_in_order() {
    let certs = Certs::new();
    for way in Way::ALL {
        for (step, reply, event) in [
            (Step::Mail, "550 5.7.1 Not from here", "failed"),
            (Step::Mail, "450 4.1.8 Unknown sender", "deferred"),
            (Step::AnyRcpt, "550 5.1.1 No such user", "failed"),
            (Step::AnyRcpt, "450 4.2.0 Greylisted", "deferred"),
        ] {
            let provider = provider(&certs, way).await;
            let relay = relay_to(&provider, |account| account.option("connections", 1)).await;
            open_way(&relay, way).await;
            provider.change(|s| s.asks_anyway = true);
            // On a connection that has carried messages a 4xx to MAIL is not believed.
            let fresh = way != Way::Bdat || !reply.starts_with('4') || step != Step::Mail;
            // This message, also on another connection, and not the notification: that would be a second refusal on this one.
            let refusals = if step == Step::Mail && fresh { 1 } else { 2 };
            provider.set_fault(step.clone(), Fault::Reply(reply.into()), Times::First(refusals));
            let id = send_to(&relay, &["a@example.com", "b@example.com"]).await;
            let line = run::verdict(&relay).await;
            assert_eq!(field(&line, "event"), Some(event), "{line}");
            if event == "failed" {
                removed(&relay, &id).await;
            }
            provider.clear_faults();
            let next = send_to(&relay, &["c@example.com"]).await;
            removed(&relay, &next).await;
            assert_eq!(
                provider.connections().len(),
                if fresh { 1 } else { 2 },
                "{step:?} {reply} {way:?}\n{}",
                provider.transcript()
            );
            assert_eq!(provider.complaints(), Vec::<String>::new(), "{step:?} {reply} {way:?}");
        }
    }
}

/// Servers end connections after some time, or after a number of messages: that is no trouble.
#[tokio::test]
async fn a_kept_connection_that_ends_is_replaced_at_once() {
    let certs = Certs::new();
    for way in Way::ALL {
        for fault in
            [Fault::CloseAfterReply("421 4.4.2 Too long idle".into()), Fault::Reply("421 Enough".into()), Fault::Close]
        {
            let provider = provider(&certs, way).await;
            if way == Way::Bdat && matches!(fault, Fault::Close) {
                continue; // the text is out, so the message waits
            }
            let relay = relay_to(&provider, |account| account.option("connections", 1)).await;
            let first = send_to(&relay, &["ops@example.com"]).await;
            removed(&relay, &first).await;
            provider.set_fault(Step::Mail, fault.clone(), Times::First(1));
            let second = send_to(&relay, &["ops@example.com"]).await;
            removed(&relay, &second).await;
            assert_eq!((mail(&provider).len(), provider.connections().len()), (2, 2), "{fault:?} {way:?}");
            let troubles = ["paused", "deferred", "failed"];
            let trouble = relay.log().into_iter().find(|l| field(l, "event").is_some_and(|e| troubles.contains(&e)));
            assert_eq!(trouble, None, "{fault:?} {way:?}");
        }
    }
}

/// What a server says of a connection on which it wants no more is nothing about the message: it is delivered at once on a
/// new one, and the number is kept to from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_a_connection_costs_no_message_its_time() {
    let certs = Certs::new();
    for way in Way::ALL {
        for (step, reply) in [
            (Step::Mail, "452 4.5.3 Too many messages sent"),
            (Step::Mail, "450 Later"),
            (Step::Mail, "451 4.3.2 Enough for this connection"),
            (Step::Mail, "421 4.7.0 Enough for this connection"),
            (Step::AnyRcpt, "452 4.3.2 Enough for this connection"),
        ] {
            let what = format!("{step:?} {reply} {way:?}");
            let provider = provider(&certs, way).await;
            // Without the rule it would wait for this.
            let relay = relay_with(&provider, |relay| relay.relay_option("retry_min", "30m")).await;
            for _ in 0..2 {
                let id = send_to(&relay, &["ops@example.com"]).await;
                removed(&relay, &id).await;
            }
            provider.set_fault(step.clone(), Fault::Reply(reply.into()), Times::First(1));
            for _ in 0..3 {
                let id = send_to(&relay, &["ops@example.com"]).await;
                removed(&relay, &id).await;
            }
            let on_each: Vec<usize> = provider.connections().iter().map(|connection| connection.messages).collect();
            assert_eq!(on_each, [2, 2, 1], "{what}\n{}", provider.transcript());
            let troubles = ["paused", "deferred", "failed"];
            let trouble = relay.log().into_iter().find(|l| field(l, "event").is_some_and(|e| troubles.contains(&e)));
            assert_eq!(trouble, None, "{what}");
        }
    }
}

/// A text that is larger than what the network takes at once: the server ends it in the middle, with or without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_text_is_cut_off() {
    let certs = Certs::new();
    let closing = |text: &str| Fault::CloseAfterReply(text.into());
    for (fault, event, words) in [
        (Fault::Close, "deferred", "will be retried"),
        (Fault::Reset, "deferred", "will be retried"),
        // Neither side reads: both only write.
        (Fault::Flood, "deferred", "did not respond for 7 s during the text of the message"),
        (Fault::Stall, "deferred", "did not respond for 7 s during the text of the message"),
        (closing("421 4.3.2 Closing"), "paused", "421 4.3.2 Closing"),
        (closing("451 4.7.1 Not now"), "deferred", "451 4.7.1 Not now"),
        (closing("552 5.3.4 Too big"), "failed", "552 5.3.4 Too big"),
        // It does not wait for the end, and goes on reading.
        (Fault::Reply("250 2.0.0 Ok: queued".into()), "deferred", "without being asked: 250 2.0.0 Ok: queued"),
        (Fault::Reply("552 5.3.4 Too big".into()), "failed", "552 5.3.4 Too big"),
    ] {
        let patient = !matches!(fault, Fault::Flood | Fault::Stall);
        if emulated() && !patient {
            println!("skipped: a server that hangs, since patience is measured in real time");
            continue;
        }
        let provider = provider(&certs, Way::Flight).await;
        provider.set_fault(Step::Text, fault.clone(), Times::First(1));
        let change = |account: support::relay::Section| if patient { account } else { account.option("timeout", 5) };
        let relay = relay_to(&provider, change).await;
        let id = run::send_large(&relay, &["ops@example.com"], 12 << 20).await;
        let line = run::verdict(&relay).await;
        assert_eq!(field(&line, "event"), Some(event), "{fault:?}: {line}");
        assert!(line.contains(words), "{fault:?}: {line}");
        said(&relay, "queue retry all").await;
        removed(&relay, &id).await;
        assert_eq!(mail(&provider).len(), usize::from(event != "failed"), "{fault:?}");
        println!("{fault:?}: {line}");
    }
}

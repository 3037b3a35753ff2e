//! What an attempt tells: about the account, the message, and how long who has to wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::delivery::{Attempted, Known};
use super::lane::Look;
use super::settle::Settle;
use super::{Dispatch, Step, jitter};
use crate::net::Trouble;
use crate::net::TroubleKind;
use crate::outbound::{Outcome, Verdict};
use crate::queue::Item;
use crate::queue::journal::Progress;
use crate::queue::schedule::backoff;

impl Dispatch {
    /// Takes the connection back for the next message, and has what came of this one written down beside it.
    pub(super) fn attempted(&mut self, attempted: Attempted) {
        let Attempted { mut item, mut outcome, known, connection, account, lane: returned } = attempted;
        let (now, generation, wakings) = (Instant::now(), returned.generation, returned.wakings);
        let look = if wakings == self.wakings { Look::Fresh } else { Look::Outdated };
        if let Some(known) = &known {
            blame(&mut item, &mut outcome, known);
        }
        if let Some(lane) = self.lanes.of(generation) {
            lane.returned(returned, connection, now);
            match &outcome.trouble {
                Some(trouble) => lane.pause(trouble, look, now),
                None if outcome.tls.is_some() => self.judge_provider(generation, &mut item, &outcome, now),
                None => {}
            }
        }
        // An attempt before its time, whoever asked for it, makes no message wait longer.
        let turns = known.as_ref().map_or(item.turns, |known| known.state.turns);
        let turns = turns.saturating_add(u32::from(!item.early)).max(1);
        let settings = self.settings.borrow().clone();
        let wait = match outcome.goes_on && has_taken(&outcome) {
            true => Duration::ZERO,
            false => backoff(turns, jitter(), settings.relay.retry_min, settings.relay.retry_max),
        };
        let (spool, routes) = (Arc::clone(&self.spool), Arc::clone(&self.ways.routes));
        let settle = Settle { spool, routes, teller: self.teller(), account, wait };
        let id = item.entry.id;
        let settled = settle.settle(item, turns, outcome, known);
        self.start(async move { Step::Settled { id, wakings, generation: Some(generation), left: settled.await } });
    }

    /// What a transaction that came to its end tells about the provider. One that puts off whatever it is given may have
    /// a trouble of its own that it does not name: then one message is tried from time to time, and all when it is taken.
    fn judge_provider(&mut self, generation: u32, item: &mut Item, outcome: &Outcome, now: Instant) {
        let Some(lane) = self.lanes.of(generation) else { return };
        lane.works();
        if outcome.doubtful {
            // Each try may be a copy: not one more than the schedule says.
            item.in_its_own_time();
        }
        let put_off = outcome.results.iter().any(|(_, verdict)| matches!(verdict, Verdict::Deferred(_)));
        if has_taken(outcome) {
            let wake = lane.taken();
            self.queues.forgive();
            if wake {
                self.queues.wake_put_off();
            }
        } else if put_off && item.may_be_providers() {
            lane.put_off(now);
        }
    }
}

/// Whether the provider took the message for somebody.
fn has_taken(outcome: &Outcome) -> bool {
    outcome.results.iter().any(|(_, verdict)| matches!(verdict, Verdict::Delivered(_)))
}

/// Trouble of the account that a message drew: the next look is with another one. If that was taken and this one draws
/// it again, it is the message's own: it waits by itself, and the others go on.
fn blame(item: &mut Item, outcome: &mut Outcome, known: &Known) {
    let concerns_mail = |t: &Trouble| matches!(t.kind, TroubleKind::Busy | TroubleKind::Quota | TroubleKind::Sender);
    if outcome.trouble.is_none() {
        return;
    }
    if !item.woken {
        item.demoted = item.demoted.saturating_add(1);
        return;
    }
    if let Some(trouble) = outcome.trouble.take_if(|trouble| concerns_mail(trouble)) {
        let waiting = known.state.recipients.iter().enumerate().filter(|(_, r)| r.progress == Progress::Waiting);
        for (index, _) in waiting {
            if !outcome.results.iter().any(|(known, _)| *known == index) {
                outcome.results.push((index, Verdict::Deferred(trouble.reason.clone())));
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! When mail is collected into a digest: mail beyond the rate of its device waits in the queue until the interval ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Dispatch, Finished};
use crate::digest::collect::{self, Collected};
use crate::digest::compose::Composer;
use crate::queue::{Item, MessageId, Sorted, blocking};

/// How late a digest may be written: the times of messages that came through a system start are less exact.
const GRACE: Duration = Duration::from_secs(2);

impl Dispatch {
    /// When the next digest is to be written.
    pub(super) fn next_digest(&self) -> Option<Instant> {
        if self.is_collecting() { None } else { self.queues.next_digest().map(|at| at + GRACE) }
    }

    /// Whether no digest may be started: some of its messages may be missing.
    fn is_collecting(&self) -> bool {
        self.collecting || self.caring.is_some() || self.recovering
    }

    /// Starts the digests that are due.
    pub(super) fn collect(&mut self) {
        let now = Instant::now();
        if self.next_digest().is_none_or(|at| at > now) {
            return;
        }
        let items = self.queues.take_digests(now);
        self.collecting = true;
        items.iter().for_each(|item| self.take_in_hand(&item.entry));
        let settings = self.settings.borrow().clone();
        let composer = Composer {
            spool: Arc::clone(&self.spool),
            desk: self.desk.clone(),
            hostname: settings.relay.hostname(),
            policies: Arc::clone(&self.ways.policies),
            addresses: self.ways.routes.addresses(&settings),
        };
        self.start(async move { Finished::Collected(collect::collect(composer, items).await) });
    }

    /// All messages of an earlier run have been loaded: digests that were interrupted are continued.
    pub(super) fn carry_on_digests(&mut self) {
        let found = std::mem::take(&mut self.replacements);
        let sorted = found.sort(|id| self.queues.get(*id).is_some());
        if sorted == Sorted::default() {
            return;
        }
        let mut take = |ids: &mut dyn Iterator<Item = &MessageId>| -> Vec<Item> {
            let taken: Vec<Item> = ids.filter_map(|id| self.queues.take(*id)).map(|(item, _)| item).collect();
            taken.iter().for_each(|item| _ = self.in_hand.insert(item.entry.id, item.entry.clone()));
            taken
        };
        let (further, last) = (take(&mut sorted.further.iter()), take(&mut sorted.last.iter()));
        let (replaced, alone) = (take(&mut sorted.replaced.iter()), take(&mut sorted.alone.iter()));
        let torn = take(&mut sorted.torn.iter());
        self.collecting = true;
        let spool = Arc::clone(&self.spool);
        self.start(async move {
            let names = [&further, &last, &replaced, &alone, &torn].into_iter().flatten().map(|item| item.entry.id);
            let taken = names.collect();
            let work = move || Ok::<_, std::io::Error>(collect::carry_on(&spool, further, last, replaced, alone, torn));
            let back = blocking(work).await.unwrap_or_default();
            Finished::Collected(Collected { taken, back })
        });
    }
}

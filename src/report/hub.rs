// SPDX-License-Identifier: Apache-2.0
//! How events get from where they happen to the observers: history, hook, control.
//!
//! The hub exists once per process, because an event can happen anywhere, on blocking threads too. It never waits: an
//! observer that is slow loses events and gets their number as soon as it has room again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::Event;
use crate::system::lock;

/// The maximum number of observers. Each uses memory for its waiting events.
pub const OBSERVER_LIMIT: usize = 4;

static HUB: Hub = Hub::new();

struct Observer {
    events: mpsc::Sender<Arc<Event>>,
    /// Events that were lost since the last one that was delivered.
    lost: u32,
}

struct Hub {
    observers: Mutex<Vec<Observer>>,
    /// Their number, so that events cost nothing without observers.
    count: AtomicUsize,
}

/// Every event from now on, in the order in which each thread saw them. At most `capacity` (at least 1) wait; when more
/// arrive they are lost, and an [`Event::Overrun`] says how many before the next one that fits.
///
/// Drop the receiver to stop. Beyond [`OBSERVER_LIMIT`] observers the returned receiver is closed.
pub fn observe(capacity: usize) -> mpsc::Receiver<Arc<Event>> {
    HUB.observe(capacity)
}

/// Passes `event` to all observers. Never waits.
pub(super) fn publish(event: &Event) {
    HUB.publish(event);
}

impl Hub {
    const fn new() -> Self {
        Self { observers: Mutex::new(Vec::new()), count: AtomicUsize::new(0) }
    }

    fn observe(&self, capacity: usize) -> mpsc::Receiver<Arc<Event>> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let mut observers = lock(&self.observers);
        observers.retain(|observer| !observer.events.is_closed());
        if observers.len() < OBSERVER_LIMIT {
            observers.push(Observer { events: sender, lost: 0 });
        }
        self.count.store(observers.len(), Ordering::Relaxed);
        receiver
    }

    fn publish(&self, event: &Event) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let event = Arc::new(event.clone());
        let mut observers = lock(&self.observers);
        observers.retain_mut(|observer| observer.pass(&event));
        self.count.store(observers.len(), Ordering::Relaxed);
    }
}

impl Observer {
    /// False when the observer is gone.
    fn pass(&mut self, event: &Arc<Event>) -> bool {
        if self.lost > 0 && self.events.try_send(Arc::new(Event::Overrun { lost: self.lost })).is_ok() {
            self.lost = 0;
        }
        // If a loss is still to be reported, a later event must not overtake it.
        let passed = if self.lost > 0 { Err(()) } else { self.events.try_send(Arc::clone(event)).map_err(|_| ()) };
        if passed.is_err() {
            self.lost = self.lost.saturating_add(1);
        }
        !self.events.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(id: usize) -> Event {
        Event::Removed { id: id.to_string() }
    }

    fn drain(receiver: &mut mpsc::Receiver<Arc<Event>>) -> Vec<Event> {
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|event| (*event).clone()).collect()
    }

    #[test]
    fn every_observer_gets_every_event() {
        let hub = Hub::new();
        hub.publish(&removed(0));
        let mut two = [hub.observe(8), hub.observe(8)];
        hub.publish(&removed(1));
        hub.publish(&removed(2));
        for receiver in &mut two {
            assert_eq!(drain(receiver), [removed(1), removed(2)]);
        }
    }

    #[test]
    fn a_slow_observer_hears_how_many_it_lost_and_disturbs_nobody() {
        let hub = Hub::new();
        let (mut slow, mut quick) = (hub.observe(2), hub.observe(100));
        (0..5).for_each(|n| hub.publish(&removed(n)));
        assert_eq!(drain(&mut slow), [removed(0), removed(1)]);
        hub.publish(&removed(5));
        assert_eq!(drain(&mut slow), [Event::Overrun { lost: 3 }, removed(5)]);
        assert_eq!(drain(&mut quick), (0..6).map(removed).collect::<Vec<_>>());
        // Room for one only: first the loss, and the event itself is lost in turn.
        let mut tiny = hub.observe(1);
        (0..3).for_each(|n| hub.publish(&removed(n)));
        assert_eq!(drain(&mut tiny), [removed(0)]);
        hub.publish(&removed(3));
        assert_eq!(drain(&mut tiny), [Event::Overrun { lost: 2 }]);
        hub.publish(&removed(4));
        assert_eq!(drain(&mut tiny), [Event::Overrun { lost: 1 }]);
    }

    #[test]
    fn there_is_an_end_to_observers_and_their_places_are_used_again() {
        let hub = Hub::new();
        let mut all: Vec<_> = (0..OBSERVER_LIMIT).map(|_| hub.observe(1)).collect();
        assert_eq!(hub.observe(1).try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        all.pop();
        hub.publish(&removed(0));
        assert_eq!(hub.count.load(Ordering::Relaxed), OBSERVER_LIMIT - 1);
        assert_eq!(hub.observe(1).try_recv(), Err(mpsc::error::TryRecvError::Empty));
    }

    #[test]
    fn events_of_all_threads_arrive() {
        let hub = Hub::new();
        let mut receiver = hub.observe(4000);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let hub = &hub;
                scope.spawn(move || (0..1000).for_each(|n| hub.publish(&removed(thread * 1000 + n))));
            }
        });
        let mut seen = drain(&mut receiver);
        seen.sort_by_key(Event::line);
        seen.dedup();
        assert_eq!(seen.len(), 4000);
    }

    #[tokio::test]
    async fn what_is_logged_is_observed() {
        let mut receiver = observe(1000);
        let mine = Event::Advice { text: "what_is_logged_is_observed".into() };
        let logged = mine.clone();
        tokio::task::spawn_blocking(move || logged.log()).await.unwrap();
        // Other tests of this process log as well.
        while *receiver.recv().await.unwrap() != mine {}
    }
}

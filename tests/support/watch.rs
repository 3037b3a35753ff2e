// SPDX-License-Identifier: Apache-2.0
//! A value that tests can wait on: each change wakes whoever waits, so nobody has to look again and again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

/// A shared value and the news that it changed.
pub struct Watched<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Watched<T> {
        Watched { shared: self.shared.clone() }
    }
}

impl<T> Watched<T> {
    /// Starts with this value.
    pub fn new(value: T) -> Watched<T> {
        Watched { shared: Arc::new(Shared { value: Mutex::new(value), changed: Notify::new() }) }
    }

    /// Looks at the value.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the value and wakes all who wait.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.shared.changed.notify_waiters();
        result
    }

    /// Waits until `look` finds what it looks for: at once if it is there already. `None` after `limit`.
    pub async fn wait<R>(&self, limit: Duration, mut look: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let wait = async {
            loop {
                // Registered before the look, so that a change in between is not missed.
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(&self.lock()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, wait).await.ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        // A test that failed while it held the lock must not hide its message behind a second panic.
        self.shared.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

//! How much the device may send (option rate in its `device` section): checked at MAIL, so that it need not send a text
//! in vain, and counted when the text is complete.

use std::sync::{MutexGuard, PoisonError};

use super::Session;
use crate::policy::{Outcome, Rates};
use crate::queue::{Marks, Over};
use crate::system::clock;

impl Session {
    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.desk.rates().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reply to MAIL if the message could not be accepted now.
    pub(super) fn over_rate(&self) -> Option<String> {
        let (device, client, now) = (self.device()?, self.origin.client?, clock::since_boot());
        let mut rates = self.rates();
        let refusal = rates.peek(device, client, now).refusal(device, now)?;
        // This is counted as well.
        rates.take(device, client, now);
        Some(refusal)
    }

    /// Counts a complete message, and marks it with what is known about its device.
    ///
    /// # Errors
    /// The reply if it cannot be accepted now.
    pub(super) fn count(&mut self) -> Result<Outcome, String> {
        let now = clock::since_boot();
        let outcome = match (self.device(), self.origin.client) {
            (Some(device), Some(client)) => self.rates().take(device, client, now),
            _ => Outcome::Pass,
        };
        let device = self.device();
        if let Some(refusal) = device.and_then(|device| outcome.refusal(device, now)) {
            return Err(refusal);
        }
        let rate = device.and_then(|device| device.rate).map(|rate| rate.to_string()).unwrap_or_default();
        let over = match outcome {
            Outcome::Pass | Outcome::Reject { .. } => None,
            Outcome::Digest { due } => Some(Over { until: due, digest: true, rate }),
            Outcome::Defer { until } => Some(Over { until, digest: false, rate }),
        };
        let device = device.map(|device| device.name.clone());
        let login = self.user.as_ref().map(|user| user.username.clone());
        self.origin.marks = Marks { device, login, over, replaces: None };
        Ok(outcome)
    }

    /// The message was not accepted after all.
    pub(super) fn give_back(&self, outcome: Outcome) {
        if let (Some(device), Some(client)) = (self.device(), self.origin.client) {
            self.rates().give_back(device, client, outcome);
        }
    }
}

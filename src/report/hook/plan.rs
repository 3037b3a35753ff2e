// SPDX-License-Identifier: Apache-2.0
//! What the hook is run for, and when.
//!
//! There are two kinds of events. A state (an account is paused or works, the queue is full or has room) is reported
//! when it differs from the last report: so whatever a script switched on is switched off again, and a state that
//! came and went between reports is not reported. Failures are events: those of one minute are reported together.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::report::Event;
use crate::report::letter::one_line;

/// The minimum interval between two reports of the same kind.
const AT_MOST_EVERY: Duration = Duration::from_secs(60);
/// Accounts that are tracked.
const ACCOUNTS: usize = 32;
/// Bytes of a value.
const VALUE: usize = 300;

/// Names and values that are passed to a script.
type Details = Vec<(&'static str, String)>;

/// The fields of an event that a script gets, and their names in its environment.
const TOLD: [(&str, &str); 6] =
    [("account", "ACCOUNT"), ("id", "ID"), ("to", "TO"), ("client", "CLIENT"), ("text", "REASON"), ("next", "NEXT")];

fn details(event: &Event) -> Details {
    let fields = event.fields().all;
    let value = |key| fields.iter().find(|(name, _)| *name == key).map(|(_, field)| field.to_string());
    TOLD.iter().filter_map(|(key, name)| Some((*name, value(*key)?))).collect()
}

/// One run of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    action: &'static str,
    details: Details,
    count: u32,
}

impl Call {
    /// Names and values for the environment: `ACTION` as all hotplug scripts know it, the rest with a prefix.
    pub(super) fn environment(&self) -> impl Iterator<Item = (String, String)> {
        let details = self.details.iter().filter(|(_, value)| !value.is_empty());
        let details = details.map(|(name, value)| (format!("SMTPRELAY_{name}"), one_line(value, VALUE)));
        let first = [("ACTION".into(), self.action.into()), ("SMTPRELAY_COUNT".into(), self.count.to_string())];
        first.into_iter().chain(details)
    }
}

/// The subject of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Account(String),
    Queue,
}

impl Subject {
    fn action(&self, trouble: bool) -> &'static str {
        match (self, trouble) {
            (Self::Account(_), true) => "paused",
            (Self::Account(_), false) => "resumed",
            (Self::Queue, true) => "queue_full",
            (Self::Queue, false) => "queue_ok",
        }
    }
}

/// A state that is either in trouble or not.
#[derive(Debug)]
struct HookState {
    subject: Subject,
    trouble: bool,
    /// The last reported state; `None` if none was since the start, so that a script may still show what an earlier run
    /// reported.
    told: Option<bool>,
    /// When trouble was last reported.
    told_at: Option<Instant>,
    /// How often trouble came since then.
    count: u32,
    details: Details,
    /// Events were lost, perhaps including the end of the trouble.
    unsure: bool,
}

impl HookState {
    fn new(subject: Subject) -> Self {
        Self { subject, trouble: false, told: None, told_at: None, count: 0, details: Vec::new(), unsure: false }
    }

    /// When this state is to be reported; `None` when it was.
    fn due(&self) -> Option<Due> {
        match (self.trouble, self.told) {
            (true, Some(true)) | (false, Some(false)) => None,
            (true, _) => Some(self.told_at.map_or(Due::Now, |at| Due::At(at + AT_MOST_EVERY))),
            // Never delayed: an LED must not blink forever.
            (false, _) => Some(Due::Now),
        }
    }

    fn call(&mut self, now: Instant) -> Call {
        self.told = Some(self.trouble);
        let (details, count) = match (self.trouble, &self.subject) {
            (true, _) => {
                self.told_at = Some(now);
                (self.details.clone(), std::mem::take(&mut self.count).max(1))
            }
            (false, Subject::Account(name)) => (vec![("ACCOUNT", name.clone())], 1),
            (false, Subject::Queue) => (Vec::new(), 1),
        };
        Call { action: self.subject.action(self.trouble), details, count }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Now,
    At(Instant),
}

impl Due {
    fn by(self, now: Instant) -> bool {
        match self {
            Self::Now => true,
            Self::At(at) => at <= now,
        }
    }
}

/// Failures that were not reported yet: the last one, and their number.
#[derive(Debug, Default)]
struct Failures {
    /// Account, details of its last failure, number of failures.
    waiting: VecDeque<(String, Details, u32)>,
    /// When each account's failures were last reported.
    told: Vec<(String, Instant)>,
}

impl Failures {
    fn due(&self, account: &str) -> Due {
        self.told.iter().find(|(name, _)| name == account).map_or(Due::Now, |(_, at)| Due::At(*at + AT_MOST_EVERY))
    }

    fn add(&mut self, account: &str, details: Details) {
        if self.waiting.len() < ACCOUNTS && !self.waiting.iter().any(|(name, ..)| name == account) {
            self.waiting.push_back((account.into(), Vec::new(), 0));
        }
        let same = self.waiting.iter().position(|(name, ..)| name == account);
        // More accounts than the settings can have share the last entry.
        let place = same.unwrap_or(ACCOUNTS - 1);
        if let Some((_, last, count)) = self.waiting.get_mut(place) {
            *last = details;
            *count = count.saturating_add(1);
        }
    }

    fn call(&mut self, now: Instant) -> Option<Call> {
        self.told.retain(|(_, at)| now.saturating_duration_since(*at) < AT_MOST_EVERY);
        let place = self.waiting.iter().position(|(account, ..)| self.due(account).by(now))?;
        let (account, details, count) = self.waiting.remove(place)?;
        self.told.push((account, now));
        Some(Call { action: "failed", details, count })
    }
}

/// The pending reports.
#[derive(Debug, Default)]
pub(super) struct Plan {
    states: Vec<HookState>,
    failures: Failures,
}

impl Plan {
    /// Takes an event.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Paused { account, .. } => self.trouble(Subject::Account(account.clone()), details(event)),
            Event::QueueFull { .. } => self.trouble(Subject::Queue, details(event)),
            Event::Resumed { account } => self.fine(Subject::Account(account.clone()), true),
            Event::QueueHasRoom => self.fine(Subject::Queue, true),
            // Mail is delivered, whatever was lost or happened before this start.
            Event::Delivered { account, .. } => self.fine(Subject::Account(account.clone()), true),
            Event::Accepted { .. } => self.fine(Subject::Queue, false),
            Event::Failed { account, .. } => self.failures.add(account, details(event)),
            Event::Overrun { .. } => self.states.iter_mut().for_each(|state| state.unsure = true),
            _ => {}
        }
    }

    /// The next run that may start now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Call> {
        let due = |state: &HookState| state.due().is_some_and(|due| due.by(now));
        match self.states.iter_mut().find(|state| due(state)) {
            Some(state) => Some(state.call(now)),
            None => self.failures.call(now),
        }
    }

    /// When [`Self::next`] has something again, if nothing happens until then.
    pub(super) fn wake(&self) -> Option<Instant> {
        let states = self.states.iter().filter_map(HookState::due);
        let failures = self.failures.waiting.iter().map(|(account, ..)| self.failures.due(account));
        let at = |due| match due {
            Due::Now => None,
            Due::At(at) => Some(at),
        };
        states.chain(failures).filter_map(at).min()
    }

    /// The state of `subject`. When there are too many, one that is not in trouble is dropped.
    fn state(&mut self, subject: Subject) -> Option<&mut HookState> {
        if let Some(place) = self.states.iter().position(|state| state.subject == subject) {
            return self.states.get_mut(place);
        }
        if self.states.len() >= ACCOUNTS {
            let quiet = self.states.iter().position(|state| !state.trouble && state.due().is_none())?;
            self.states.remove(quiet);
        }
        self.states.push(HookState::new(subject));
        self.states.last_mut()
    }

    fn trouble(&mut self, subject: Subject, details: Details) {
        if let Some(state) = self.state(subject) {
            state.trouble = true;
            state.unsure = false;
            state.details = details;
            state.count = state.count.saturating_add(1);
        }
    }

    /// `certain`: the trouble is over. Otherwise this is only likely: a small message may find room where others don't.
    fn fine(&mut self, subject: Subject, certain: bool) {
        if let Some(state) = self.state(subject)
            && (certain || state.unsure)
        {
            state.trouble = false;
            state.unsure = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "gmail";

    fn paused(reason: &str) -> Event {
        Event::Paused { account: NAME.into(), reason: reason.into(), next: Duration::from_secs(20) }
    }

    fn resumed() -> Event {
        Event::Resumed { account: NAME.into() }
    }

    fn failed(id: &str) -> Event {
        Event::Failed {
            id: id.into(),
            client: "10.0.0.7".into(),
            from: "plc@example.com".into(),
            to: "ops@example.com".into(),
            size: 1,
            account: NAME.into(),
            tls: None,
            reason: "550\r\n5.1.1".into(),
            delay: 1,
        }
    }

    /// A plan with a clock of its own: what is reported at which second.
    struct Story {
        plan: Plan,
        start: Instant,
    }

    impl Story {
        fn new() -> Self {
            Self { plan: Plan::default(), start: Instant::now() }
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }

        fn event(&mut self, second: u64, event: &Event) -> Vec<(String, u32)> {
            self.plan.take(event);
            self.told(second)
        }

        fn told(&mut self, second: u64) -> Vec<(String, u32)> {
            let now = self.at(second);
            std::iter::from_fn(|| self.plan.next(now)).map(|call| (call.action.to_string(), call.count)).collect()
        }

        fn wake(&self) -> Option<u64> {
            self.plan.wake().map(|at| (at - self.start).as_secs())
        }
    }

    fn call(action: &str, count: u32) -> Vec<(String, u32)> {
        vec![(action.to_string(), count)]
    }

    #[test]
    fn details_are_in_the_environment_and_clean() {
        let mut story = Story::new();
        story.plan.take(&failed("ID"));
        let environment: Vec<_> = story.plan.next(story.start).unwrap().environment().collect();
        let expected = [
            ("ACTION", "failed"),
            ("SMTPRELAY_COUNT", "1"),
            ("SMTPRELAY_ACCOUNT", "gmail"),
            ("SMTPRELAY_ID", "ID"),
            ("SMTPRELAY_TO", "ops@example.com"),
            ("SMTPRELAY_CLIENT", "10.0.0.7"),
            ("SMTPRELAY_REASON", "550  5.1.1"),
        ];
        assert_eq!(environment, expected.map(|(name, value)| (name.to_string(), value.to_string())));
        story.plan.take(&paused(&"\0ü\n".repeat(1000)));
        let environment: Vec<_> = story.plan.next(story.start).unwrap().environment().collect();
        assert_eq!(environment[3].0, "SMTPRELAY_REASON");
        assert!(environment[3].1.len() <= VALUE + 3 && !environment[3].1.contains(char::is_control));
        assert_eq!(environment[4], ("SMTPRELAY_NEXT".to_string(), "20".to_string()));
    }

    #[test]
    fn a_flapping_account_is_told_once_a_minute_and_always_ends_in_its_true_state() {
        let mut story = Story::new();
        assert_eq!(story.event(0, &paused("a")), call("paused", 1));
        assert_eq!(story.event(5, &resumed()), call("resumed", 1));
        assert_eq!(story.event(10, &paused("b")), []);
        assert_eq!(story.event(15, &resumed()), []);
        assert_eq!(story.event(20, &paused("c")), []);
        // Nothing more happens, and the LED is switched on anyway.
        assert_eq!((story.wake(), story.told(59), story.told(60)), (Some(60), vec![], call("paused", 2)));
        assert_eq!(story.event(61, &paused("d")), []);
        assert_eq!(story.wake(), None);
        assert_eq!(story.event(62, &resumed()), call("resumed", 1));
        assert_eq!(story.event(63, &resumed()), []);
        assert_eq!(story.event(300, &paused("e")), call("paused", 2));
    }

    #[test]
    fn accounts_do_not_disturb_each_other() {
        let mut story = Story::new();
        assert_eq!(story.event(0, &paused("a")), call("paused", 1));
        let other = Event::Paused { account: "other".into(), reason: "b".into(), next: Duration::ZERO };
        assert_eq!(story.event(1, &other), call("paused", 1));
        assert_eq!(story.event(2, &resumed()), call("resumed", 1));
    }

    #[test]
    fn a_light_of_an_earlier_run_goes_out_with_the_first_mail_that_goes_through() {
        let mut story = Story::new();
        let delivered = Event::Delivered {
            id: "ID".into(),
            client: String::new(),
            from: String::new(),
            to: String::new(),
            size: 0,
            account: NAME.into(),
            tls: None,
            reply: String::new(),
            delay: 0,
        };
        assert_eq!(story.event(0, &delivered), call("resumed", 1));
        assert_eq!(story.event(1, &delivered), []);
        assert_eq!(story.event(2, &paused("a")), call("paused", 1));
        assert_eq!(story.event(3, &delivered), call("resumed", 1));
    }

    #[test]
    fn a_full_queue_is_told_and_its_end_too_even_when_events_were_lost() {
        let mut story = Story::new();
        let full = Event::QueueFull { reason: "r".into() };
        let accepted = Event::Accepted {
            id: "ID".into(),
            client: String::new(),
            helo: String::new(),
            login: None,
            tls: None,
            from: String::new(),
            to: vec![],
            size: 0,
            repairs: vec![],
        };
        assert_eq!(story.event(0, &accepted), call("queue_ok", 1));
        assert_eq!(story.event(1, &full), call("queue_full", 1));
        assert_eq!(story.event(2, &accepted), []);
        assert_eq!(story.event(3, &Event::QueueHasRoom), call("queue_ok", 1));
        assert_eq!(story.event(70, &full), call("queue_full", 1));
        assert_eq!(story.event(71, &Event::Overrun { lost: 9 }), []);
        assert_eq!(story.event(72, &accepted), call("queue_ok", 1));
    }

    #[test]
    fn a_storm_of_failures_is_told_once_a_minute_with_its_number() {
        let mut story = Story::new();
        assert_eq!(story.event(0, &failed("1")), call("failed", 1));
        for second in 1..60 {
            assert_eq!(story.event(second, &failed("more")), []);
        }
        assert_eq!((story.wake(), story.told(60)), (Some(60), call("failed", 59)));
        assert_eq!((story.wake(), story.told(1000)), (None, vec![]));
        assert_eq!(story.event(1001, &failed("2")), call("failed", 1));
    }

    #[test]
    fn memory_is_bounded() {
        let mut plan = Plan::default();
        for n in 0..1000 {
            let account = format!("a{n}");
            let Event::Failed { id, client, from, to, size, tls, reason, delay, .. } = failed("x") else { return };
            let failed = Event::Failed { id, client, from, to, size, account: account.clone(), tls, reason, delay };
            plan.take(&failed);
            plan.take(&Event::Paused { account, reason: "r".into(), next: Duration::ZERO });
        }
        assert_eq!((plan.states.len(), plan.failures.waiting.len()), (ACCOUNTS, ACCOUNTS));
    }
}

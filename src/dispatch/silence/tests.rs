// SPDX-License-Identifier: Apache-2.0
//! Simulated months: devices of many kinds, restarts, crashes, power cuts, a disk and a queue that refuse, and wall
//! clocks that are wrong. No false alarm, none missed, one notice for each silence, few writes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;
const MONTH: u64 = 30 * DAY;

fn device(name: &str, every: u64) -> Device {
    Device {
        ips: vec!["10.0.0.7/32".parse().unwrap()],
        expect_every: Duration::from_secs(every),
        ..Device::new(name.into())
    }
}

/// What is stored about this device.
fn of(records: &Records, name: &str) -> Record {
    records.iter().find(|(known, _)| known == name).expect("a record").1
}

/// Numbers that only depend on the seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// When a device sends.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// With these gaps in seconds, from and below.
    Gaps(u64, u64),
    /// The same until a day, and never again.
    Until(u64, u64),
    Never,
}

/// What is known for certain about the report of a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    No,
    /// The power failed before the mail was on safe storage.
    Perhaps,
    Yes,
}

/// The truth about a device.
struct Truth {
    every: u64,
    habit: Habit,
    next: u64,
    /// When messages were accepted; the beginning of the watch counts as one.
    heard: Vec<u64>,
    /// Seconds of silence of earlier runs that must count at least.
    carried: u64,
    told: Told,
    /// When the mail of this run was queued.
    posted: Option<u64>,
    /// When it is tried again.
    post_at: Option<u64>,
}

/// How a run ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Orderly,
    Cut,
}

struct World {
    chance: Chance,
    start: Instant,
    now: u64,
    devices: Vec<Device>,
    truth: BTreeMap<String, Truth>,
    disk: Records,
    /// Whether disk and queue refuse now and then.
    refuses: bool,
    writes: u64,
    runs: u64,
    notices: u64,
    again: u64,
}

impl World {
    fn new(seed: u64, refuses: bool, habits: &[(&str, u64, Habit)]) -> Self {
        let truth = |(name, every, habit): &(&str, u64, Habit)| {
            let (every, habit) = (*every, *habit);
            let (heard, told) = (vec![0], Told::No);
            (name.to_string(), Truth { every, habit, next: 0, heard, carried: 0, told, posted: None, post_at: None })
        };
        let mut world = Self {
            chance: Chance(seed | 1),
            start: Instant::now(),
            now: 0,
            devices: habits.iter().map(|(name, every, _)| device(name, *every)).collect(),
            truth: habits.iter().map(truth).collect(),
            disk: Records::new(),
            refuses,
            writes: 0,
            runs: 0,
            notices: 0,
            again: 0,
        };
        let names: Vec<String> = world.truth.keys().cloned().collect();
        names.iter().for_each(|name| world.plan(name));
        world
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// When the device sends next.
    fn plan(&mut self, name: &str) {
        let (now, truth) = (self.now, self.truth.get_mut(name).unwrap());
        truth.next = match truth.habit {
            Habit::Gaps(from, below) => now + from + self.chance.below(below - from),
            Habit::Until(day, gap) if now < day * DAY => now + gap,
            Habit::Until(..) | Habit::Never => u64::MAX,
        };
    }

    /// How late the disk may be with what it has to store.
    fn slack(&self) -> u64 {
        if self.refuses { 10 * MINUTE } else { BETWEEN.as_secs() + 1 }
    }

    fn changed(&mut self, changes: Vec<Change>) {
        for change in changes {
            let (now, truth) = (self.now, self.truth.get_mut(&change.name).unwrap());
            let silent = now - truth.heard.last().unwrap();
            match change.turn {
                Turn::Silent => {
                    assert!(silent >= truth.every, "false alarm: {} after {silent} s at {now}", change.name);
                    assert_ne!(truth.told, Told::Yes, "{} is reported twice at {now}", change.name);
                    assert!(truth.posted.is_none() && truth.post_at.is_none(), "{} twice in a run", change.name);
                    truth.post_at = Some(now);
                    self.notices += 1;
                }
                Turn::Heard => {
                    assert!(silent >= truth.every, "{} was not silent at {now}", change.name);
                    self.again += 1;
                }
                Turn::Ended => panic!("nothing has changed"),
            }
        }
    }

    /// A run of the gateway of this length.
    fn run(&mut self, length: u64, end: End) {
        self.runs += 1;
        let (began, over) = (self.now, (self.now + length).min(MONTH));
        // Whatever the wall clock made of the times that are only shown.
        for (_, record) in &mut self.disk {
            record.last = [None, Some(60), Some(1_748_736_000), Some(4_000_000_000)][self.chance.below(4) as usize];
        }
        let mut silence = Silence::new(&self.devices, self.disk.clone(), self.at(began));
        loop {
            let at = self.at(self.now);
            let changes = silence.look(at);
            self.changed(changes);
            self.post(&mut silence);
            if let Some(records) = silence.take_records(at) {
                let done = !(self.refuses && self.chance.percent(20));
                if done {
                    self.disk = records.clone();
                    self.writes += 1;
                }
                silence.stored(&records, done, at);
            }
            self.check(&silence, began);
            let wake = silence.next(at).map(|at| at.saturating_duration_since(self.start));
            // Rounded up: the test counts whole seconds.
            let wake = wake.map(|wake| wake.as_secs() + u64::from(wake.subsec_nanos() > 0));
            let sends = self.truth.values().map(|truth| truth.next.min(truth.post_at.unwrap_or(u64::MAX))).min();
            let next = wake.into_iter().chain(sends).min().unwrap_or(u64::MAX).max(self.now);
            if next >= over {
                break;
            }
            self.now = next;
            self.hear(&mut silence);
        }
        self.now = over;
        self.end(&silence, began, if over == MONTH { End::Orderly } else { end });
    }

    /// Queues the mails whose time has come.
    fn post(&mut self, silence: &mut Silence) {
        let (now, at) = (self.now, self.at(self.now));
        let refuses = self.refuses && self.chance.percent(30);
        for (name, truth) in &mut self.truth {
            if truth.post_at.is_some_and(|at| at <= now) {
                truth.post_at = refuses.then_some(now + MINUTE);
                if !refuses {
                    truth.posted = Some(now);
                    silence.noticed([name.as_str()].into_iter(), at);
                }
            }
        }
    }

    /// The messages that come now.
    fn hear(&mut self, silence: &mut Silence) {
        let names: Vec<String> =
            self.truth.iter().filter(|(_, t)| t.next == self.now).map(|(n, _)| n.clone()).collect();
        for name in names {
            let change = silence.heard(&name, self.at(self.now));
            let truth = self.truth.get_mut(&name).unwrap();
            let known = truth.told == Told::Yes || truth.posted.is_some() || truth.post_at.is_some();
            assert!(change.is_some() || !known, "the end of the silence of {name} is missed");
            (truth.told, truth.posted, truth.post_at, truth.carried) = (Told::No, None, None, 0);
            self.changed(change.into_iter().collect());
            self.truth.get_mut(&name).unwrap().heard.push(self.now);
            self.plan(&name);
        }
    }

    /// Nothing is missed.
    fn check(&self, silence: &Silence, began: u64) {
        for shown in silence.expected(self.at(self.now)) {
            let truth = &self.truth[&shown.name];
            let least = truth.carried + self.now - began.max(*truth.heard.last().unwrap());
            if least >= truth.every || truth.told == Told::Yes {
                assert!(shown.overdue.is_some(), "{} is missed at {}: silent for {least} s", shown.name, self.now);
            }
            let most = Duration::from_secs(self.now - truth.heard.last().unwrap());
            assert!(shown.silent <= most, "{} is said to have been silent for {:?}", shown.name, shown.silent);
        }
    }

    fn end(&mut self, silence: &Silence, began: u64, end: End) {
        if end == End::Orderly
            && let Some(records) = silence.at_end(self.at(self.now))
        {
            self.disk = records;
            self.writes += 1;
        }
        let (now, slack) = (self.now, self.slack());
        for (name, truth) in &mut self.truth {
            let heard = *truth.heard.last().unwrap();
            let length = now - began.max(heard);
            if truth.next < u64::MAX {
                truth.next = truth.next.max(now);
            }
            match (end, truth.posted.take()) {
                (End::Orderly, Some(_)) => truth.told = Told::Yes,
                (End::Cut, Some(posted)) if now - posted >= SETTLED.as_secs() + slack => truth.told = Told::Yes,
                (End::Cut, Some(_)) => truth.told = Told::Perhaps,
                (_, None) => {}
            }
            truth.post_at = None;
            let counted = length.saturating_sub(slack);
            let quarter = (truth.every / 4).max(FIRST.as_secs());
            truth.carried += match end {
                End::Orderly => length.saturating_sub(1),
                // Nothing is stored between the last quarter and the minute after the report.
                End::Cut if truth.told == Told::Perhaps => 0,
                // What was heard in this run was not stored before a quarter of the time.
                End::Cut if heard > began => counted / quarter * quarter / 2,
                End::Cut if counted >= FIRST.as_secs() => counted / 2 - 1,
                End::Cut => 0,
            };
            // As mail of the last seconds, what was heard then is lost with the power, and so is the end of a silence.
            if end == End::Cut && heard > began && now - heard < slack && truth.heard.len() > 1 {
                truth.heard.retain(|at| *at + slack <= now || *at == 0);
                (truth.carried, truth.told) = (0, Told::Perhaps);
            }
            assert!(truth.carried <= now - truth.heard.last().unwrap(), "{name}");
        }
    }

    fn month(&mut self) {
        while self.now < MONTH {
            let length = match self.chance.below(4) {
                0 => self.chance.below(20 * MINUTE),
                1 => self.chance.below(12 * HOUR),
                _ => self.chance.below(3 * DAY),
            };
            let end = if self.chance.percent(50) { End::Orderly } else { End::Cut };
            self.run(length + 1, end);
            self.now = (self.now + 10 + self.chance.below(2 * HOUR)).min(MONTH);
            // What is sent while nobody listens is not heard.
            let missed: Vec<String> =
                self.truth.iter().filter(|(_, t)| t.next <= self.now).map(|(n, _)| n.clone()).collect();
            missed.iter().for_each(|name| self.plan(name));
        }
    }
}

const HABITS: [(&str, u64, Habit); 8] = [
    ("often", HOUR, Habit::Gaps(MINUTE, 5 * MINUTE)),
    ("hourly", DAY, Habit::Gaps(50 * MINUTE, 70 * MINUTE)),
    ("daily", 26 * HOUR, Habit::Gaps(DAY - 60, DAY + 60)),
    ("now_and_then", 6 * HOUR, Habit::Gaps(MINUTE, 15 * HOUR)),
    ("flickers", 5 * MINUTE, Habit::Gaps(MINUTE, 12 * MINUTE)),
    ("dies", DAY, Habit::Until(9, HOUR)),
    ("weekly", 8 * DAY, Habit::Gaps(7 * DAY, 10 * DAY)),
    ("dead", 2 * DAY, Habit::Never),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_month_with_reboots_has_no_false_alarm_and_none_is_missed(seed: u64, refuses: bool) {
        let mut world = World::new(seed, refuses, &HABITS);
        world.month();
        // For each device and its time three quarters, the report and its end; the restarts; and nothing by the message.
        let by_time: u64 = HABITS.iter().map(|(_, every, _)| 5 * (MONTH / every + 1)).sum();
        let by_run = world.runs * 12 * HABITS.len() as u64;
        prop_assert!(world.writes <= by_time + by_run, "{} writes in {} runs", world.writes, world.runs);
        prop_assert!(world.notices >= 2 && world.again >= 1, "{} and {}", world.notices, world.again);
        prop_assert_ne!(world.truth["dead"].told, Told::No);
        prop_assert_ne!(world.truth["dies"].told, Told::No);
    }
}

#[test]
fn however_often_the_power_fails_at_least_half_counts() {
    let mut world = World::new(7, false, &[("dead", DAY, Habit::Never)]);
    while world.truth["dead"].told == Told::No {
        world.run(21 * MINUTE, End::Cut);
        assert!(world.now < 2 * DAY + HOUR, "it was not found within two days");
    }
    // It was reported in the last minute before a power cut: again, for the mail may be lost.
    assert!(world.now >= DAY && world.notices == 1);
}

#[test]
fn a_device_that_sends_often_costs_no_write_and_a_daily_one_four_a_day() {
    let mut world = World::new(7, false, &[("often", DAY, Habit::Gaps(MINUTE, 5 * HOUR))]);
    world.run(MONTH - 1, End::Cut);
    // Two at the most before it is heard first in this run, and its end.
    assert!(world.writes <= 6, "{}", world.writes);
    let mut world = World::new(7, false, &[("daily", 26 * HOUR, Habit::Gaps(DAY, DAY + 1))]);
    world.run(MONTH - 1, End::Cut);
    assert!(world.writes <= 4 * 30 + 8, "{}", world.writes);
    assert_eq!((world.notices, world.again), (0, 0));
}

#[test]
fn each_silence_is_reported_once_and_so_is_its_end() {
    let (start, day) = (Instant::now(), Duration::from_secs(DAY));
    let mut silence = Silence::new(&[device("pump", DAY)], Records::new(), start);
    assert!(silence.heard("other", start).is_none() && silence.heard("pump", start + day / 2).is_none());
    assert_eq!(silence.look(start + day), []);
    let late = start + day / 2 + day;
    let found = silence.look(late);
    assert_eq!((found.len(), found[0].turn, found[0].silent), (1, Turn::Silent, day));
    assert_eq!(found[0].last, Some(Moment::Now(start + day / 2)));
    assert_eq!(silence.look(late + day), []);
    assert_eq!(silence.next(late), None, "nobody was notified, so there is nothing to remember");
    silence.noticed(["pump", "gone"].into_iter(), late);
    assert_eq!(silence.next(late), Some(late + SETTLED));
    let records = silence.take_records(late + SETTLED).unwrap();
    assert!(of(&records, "pump").told);
    silence.stored(&records, true, late + SETTLED);
    assert_eq!(silence.next(late + SETTLED), None);
    // A reboot.
    let boot = late + 2 * day;
    let mut silence = Silence::new(&[device("pump", DAY)], records, boot);
    assert_eq!((silence.look(boot + day), silence.next(boot)), (Vec::new(), None));
    assert!(silence.expected(boot)[0].overdue.is_some());
    let heard = silence.heard("pump", boot + day).unwrap();
    assert_eq!((heard.turn, heard.silent), (Turn::Heard, day + SETTLED + day));
    assert_eq!(silence.take_records(boot + day), Some(Records::new()));
    assert_eq!(silence.heard("pump", boot + day), None);
}

#[test]
fn the_settings_may_change_at_any_time() {
    let (start, day) = (Instant::now(), Duration::from_secs(DAY));
    let both = [device("pump", DAY), device("boiler", DAY)];
    let mut silence = Silence::new(&both, Records::new(), start);
    let late = start + day;
    assert_eq!(silence.look(late).len(), 2);
    silence.noticed(["pump", "boiler"].into_iter(), late);
    let records = silence.take_records(late + SETTLED).unwrap();
    silence.stored(&records, true, late + SETTLED);
    // One has more time now, the other is gone; a third is new.
    let later = late + 2 * SETTLED;
    let gone = silence.renew(&[device("pump", 2 * DAY), device("lift", HOUR)], later);
    assert_eq!(
        gone.iter().map(|change| (change.turn, change.name.as_str())).collect::<Vec<_>>(),
        [(Turn::Ended, "boiler")]
    );
    let more = silence.look(later);
    assert_eq!(
        more.iter().map(|change| (change.turn, change.name.as_str())).collect::<Vec<_>>(),
        [(Turn::Ended, "pump")]
    );
    let records = silence.take_records(later).unwrap();
    assert_eq!(records.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["pump"]);
    assert!(!of(&records, "pump").told, "it is reported when the new time has passed");
    silence.stored(&records, true, later);
    assert_eq!(silence.look(later + Duration::from_secs(HOUR))[0].name, "lift");
    // The same while the gateway was stopped: what is left of it is removed.
    let silent = Record { silent: day, told: true, ..Record::default() };
    let stored = vec![("pump".into(), silent), ("gone".into(), silent)];
    let mut silence = Silence::new(&[device("pump", 2 * DAY)], stored, start);
    assert_eq!(silence.look(start)[0].turn, Turn::Ended);
    assert_eq!(silence.take_records(start).unwrap().len(), 1);
    // Nothing is expected of anybody.
    let mut silence = Silence::new(&[], vec![("gone".into(), silent)], start);
    assert_eq!(silence.take_records(start), Some(Records::new()));
    silence.stored(&Records::new(), true, start);
    assert_eq!((silence.next(start), silence.take_records(start), silence.at_end(start)), (None, None, None));
}

#[test]
fn a_disk_that_refuses_is_asked_again_after_a_minute() {
    let start = Instant::now();
    let mut silence = Silence::new(&[device("pump", DAY)], Records::new(), start);
    let due = silence.next(start).unwrap();
    assert_eq!(due, start + FIRST);
    let records = silence.take_records(due).unwrap();
    assert_eq!((silence.take_records(due), silence.next(due)), (None, Some(start + Duration::from_secs(DAY))));
    silence.stored(&records, false, due);
    assert_eq!((silence.take_records(due), silence.next(due)), (None, Some(due + RETRY)));
    let again = silence.take_records(due + RETRY).unwrap();
    assert_eq!(of(&again, "pump").silent, FIRST + RETRY);
}

#[test]
fn what_is_stored_together_with_another_device_does_not_delay_the_next_time() {
    let start = Instant::now();
    let mut silence = Silence::new(&[device("pump", DAY)], Records::new(), start);
    let at = |seconds| start + Duration::from_secs(seconds);
    for (stored, next) in [(100, 600), (405, 810), (2000, 4000), (10 * HOUR, 16 * HOUR)] {
        let records = silence.records(at(stored), false);
        assert_eq!(of(&records, "pump").silent, Duration::from_secs(stored));
        silence.stored(&records, true, at(stored));
        assert_eq!(silence.next(at(stored)), Some(at(next)), "{stored}");
    }
}

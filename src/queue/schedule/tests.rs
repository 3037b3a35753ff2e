// SPDX-License-Identifier: Apache-2.0
//! What leaves when, in what order, and that nothing is lost on the way.

use proptest::prelude::*;

use super::*;
use crate::queue::{Entry, Place, Plan, Rest, Step};

/// Nothing is reserved.
const ALL: Reserve = Reserve { clients: Vec::new(), most: 0 };

fn client(n: u8) -> Client {
    Client::V4([10, 0, 0, n])
}

#[test]
fn clients_take_turns_and_each_sends_its_oldest_first() {
    let mut turns = Turns::default();
    for (n, arrived) in [(1, 5), (1, 3), (1, 4), (2, 9), (3, 7), (3, 8)] {
        turns.set.insert((client(n), 0, arrived, 0, MessageId::FIRST));
    }
    assert_eq!(turns.first_of(client(1)).map(|turn| turn.2), Some(3));
    assert_eq!(turns.first_of(client(4)), None);
    let order: Vec<i64> = std::iter::from_fn(|| turns.take(&|_| true).map(|turn| turn.2)).collect();
    assert_eq!(order, [3, 9, 7, 4, 8, 5]);
    // A new client waits one round at most, whichever was served before.
    turns.set.insert((client(3), 0, 1, 0, MessageId::FIRST));
    turns.set.insert((client(3), 0, 2, 0, MessageId::FIRST));
    assert_eq!(turns.take(&|_| true).map(|turn| turn.0), Some(client(3)));
    turns.set.insert((client(1), 0, 9, 0, MessageId::FIRST));
    assert_eq!(turns.take(&|_| true).map(|turn| turn.0), Some(client(1)));
    assert_eq!(turns.set.len(), 1);
}

fn id(name: &str) -> MessageId {
    format!("{name:0>10}").parse().unwrap()
}

fn item(name: &str, arrived: i64, now: Instant) -> Item {
    from(7, name, arrived, now)
}

/// A message of device `number`.
fn from(number: u8, name: &str, arrived: i64, now: Instant) -> Item {
    let client = Client::V4([10, 0, 0, number]);
    Item::new(Entry { id: id(name), client, place: Place::Spool, arrived, size: 1 }, now)
}

fn name(item: &Item) -> String {
    item.entry.id.to_string().trim_start_matches('0').to_string()
}

fn order(schedule: &mut Schedule, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| schedule.take_due(0, now, &ALL).map(|item| name(&item))).collect()
}

#[test]
fn the_oldest_goes_first_whatever_the_order_of_waking() {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    schedule.add(item("NEW", 30, now));
    schedule.put_back(item("AGED", 10, now), Some(now));
    schedule.put_back(item("NEXT", 5, now), Some(now + Duration::from_secs(60)));
    assert_eq!(order(&mut schedule, now), ["AGED", "NEW"]);
    assert_eq!(schedule.next_time(0), Some(now + Duration::from_secs(60)));
    schedule.wake_all();
    assert!(schedule.has_due(0, now));
    assert_eq!(order(&mut schedule, now), ["NEXT"]);
    assert!(schedule.is_empty());
}

#[test]
fn new_alarms_share_the_way_with_a_backlog() {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    for n in 0..6 {
        schedule.add(item(&format!("AGED{n}"), n, now));
    }
    schedule.add_fresh(item("FRESH1", 100, now), now);
    schedule.add_fresh(item("FRESH2", 101, now), now);
    let order = order(&mut schedule, now + Duration::from_secs(1));
    assert_eq!(order, ["FRESH1", "AGED0", "FRESH2", "AGED1", "AGED2", "AGED3", "AGED4", "AGED5"]);
}

#[test]
fn what_came_more_than_a_minute_ago_is_not_new() {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    schedule.add_fresh(item("PAST", 100, now), now);
    schedule.add(item("AGED", 1, now));
    assert_eq!(order(&mut schedule, now + FRESH), ["AGED", "PAST"]);
}

#[test]
fn what_the_account_fell_over_comes_last_until_the_account_works() {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    schedule.add(Item { demoted: 2, ..item("A", 1, now) });
    schedule.add(Item { demoted: 1, ..item("B", 2, now) });
    schedule.add(item("C", 3, now));
    assert_eq!(schedule.take_due(0, now, &ALL).map(|item| name(&item)).as_deref(), Some("C"));
    schedule.forgive();
    let first = schedule.take_due(0, now, &ALL).unwrap();
    assert_eq!((name(&first).as_str(), first.demoted, first.woken), ("A", 0, true));
}

#[test]
fn held_messages_stay_until_released() {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    schedule.put_back(Item { held: true, ..item("KEPT", 1, now) }, Some(now));
    schedule.wake_all();
    assert!(schedule.take_due(0, now, &ALL).is_none());
    assert!(schedule.take_probe(0).is_none());
    assert_eq!((schedule.len(), schedule.held()), (1, 1));
    let (held, at) = schedule.take(id("KEPT")).unwrap();
    schedule.put_back(Item { held: false, ..held }, at);
    assert_eq!(order(&mut schedule, now), ["KEPT"]);
}

#[test]
fn probes_take_the_oldest_and_come_to_an_end() {
    let now = Instant::now();
    let later = now + Duration::from_secs(3600);
    let mut schedule = Schedule::default();
    schedule.put_back(item("B", 2, now), Some(later));
    schedule.put_back(item("A", 1, now), Some(later));
    let mut tried = Vec::new();
    while let Some(item) = schedule.take_probe(0) {
        tried.push(name(&item));
        schedule.put_back(item, Some(later));
    }
    let limit = usize::try_from(PROBE_LIMIT).unwrap();
    assert_eq!(tried, [vec!["A"; limit], vec!["B"; limit]].concat());
    assert!(!schedule.has_probe(0));
}

#[test]
fn messages_are_taken_out_by_age_and_put_back_as_they_were() {
    let now = Instant::now();
    let later = now + Duration::from_secs(9);
    let mut schedule = Schedule::default();
    schedule.put_back(item("B", 2, now), Some(later));
    schedule.add(item("A", 1, now));
    schedule.add(item("C", 3, now));
    let two: Vec<MessageId> = schedule.listed(None).map(|(item, _)| item.entry.id).take(2).collect();
    let taken: Vec<_> = two.into_iter().filter_map(|id| schedule.take(id)).collect();
    assert_eq!(
        taken.iter().map(|(item, at)| (name(item), *at)).collect::<Vec<_>>(),
        [("A".to_string(), None), ("B".to_string(), Some(later))]
    );
    taken.into_iter().for_each(|(item, at)| schedule.put_back(item, at));
    assert_eq!(schedule.len(), 3);
    assert_eq!(schedule.next_time(0), Some(later));
}

#[test]
fn waiting_times_double_up_to_the_last() {
    let (first, last) = (Duration::from_secs(30), Duration::from_secs(3600));
    let seconds: Vec<u64> = (1..=9).map(|n| backoff(n, 0, first, last).as_secs()).collect();
    assert_eq!(seconds, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    assert_eq!(backoff(u32::MAX, 0, first, last).as_secs(), 3600);
    let least = backoff(1, 255, first, last).as_millis();
    assert!((27_000..27_010).contains(&least), "{least}");
}

#[test]
fn what_rests_waits_for_its_time_whatever_wakes_the_others() {
    let now = Instant::now();
    let after = |seconds| now + Duration::from_secs(seconds);
    let resting = |name: &str, arrived, seconds, digest| Item {
        rest: Some(Rest { until: after(seconds), digest, failed: 0 }),
        ..item(name, arrived, now)
    };
    let mut schedule = Schedule::default();
    schedule.add_fresh(resting("B", 2, 60, false), now);
    schedule.put_back(resting("A", 1, 30, false), Some(now));
    schedule.put_back(resting("D", 4, 10, true), None);
    schedule.put_back(resting("C", 3, 10, true), None);
    schedule.wake_all();
    schedule.wake_put_off();
    assert!(schedule.take_due(0, now, &ALL).is_none() && schedule.take_probe(0).is_none() && !schedule.has_due(0, now));
    assert_eq!((schedule.len(), schedule.resting()), (4, 4));
    assert_eq!((schedule.next_time(0), schedule.next_digest()), (Some(after(30)), Some(after(10))));
    assert!(schedule.take_digests(after(9)).is_empty());
    let taken = schedule.take_digests(after(10));
    assert_eq!(taken.iter().map(name).collect::<Vec<_>>(), ["C", "D"]);
    assert_eq!(order(&mut schedule, after(59)), ["A"]);
    // Held and released, it still rests.
    let (held, at) = schedule.take(id("B")).unwrap();
    schedule.put_back(Item { held: true, ..held }, at);
    assert_eq!((schedule.held(), schedule.resting()), (1, 0));
    assert!(order(&mut schedule, after(60)).is_empty());
    let (released, at) = schedule.take(id("B")).unwrap();
    schedule.put_back(Item { held: false, ..released }, at);
    assert_eq!(order(&mut schedule, after(60)), ["B"]);
}

/// A backlog of one device, and an alarm of another that is not new any more.
fn backlog(put: impl Fn(&mut Schedule, Item)) -> Schedule {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    for n in 0..2000 {
        put(&mut schedule, from(1, &format!("A{n:04}"), n, now));
    }
    put(&mut schedule, from(2, "A1ARM", 5000, now));
    schedule
}

#[test]
fn what_is_reserved_for_others_is_left_to_them() {
    let (now, mut schedule) = (Instant::now(), Schedule::new(1));
    let sized = |number, name, size| {
        let item = from(number, name, 1, now);
        Item { entry: Entry { size, ..item.entry.clone() }, ..item }
    };
    schedule.add_fresh(sized(1, "B1G", 1000), now);
    schedule.add(sized(2, "SMA11", 10));
    let busy = |most| Reserve { clients: vec![client(1), client(2)], most };
    assert!(schedule.take_due(0, now, &busy(0)).is_none() && schedule.take_fresh(0, now, &busy(0)).is_none());
    assert_eq!(schedule.take_due(0, now, &busy(10)).map(|item| name(&item)).as_deref(), Some("SMA11"));
    assert!((0..2).all(|_| schedule.take_due(0, now, &busy(10)).is_none()));
    schedule.add(sized(3, "A1ARM", 5000));
    assert_eq!(schedule.take_due(0, now, &busy(0)).map(|item| name(&item)).as_deref(), Some("A1ARM"));
    assert_eq!(order(&mut schedule, now), ["B1G"]);
    // So are steps, and recipients on another route.
    for item in [from(1, "B1G", 1, now), from(3, "A1ARM", 1, now)] {
        let plan = Plan { steps: vec![Step::new(1)], ..Plan::default() };
        schedule.add(Item { plan: Some(Box::new(plan)), ..item });
    }
    let taken = schedule.take_step(1, now, &busy(0)).map(|(item, _)| name(&item));
    assert_eq!((taken.as_deref(), schedule.take_step(1, now, &busy(0))), (Some("A1ARM"), None));
    assert!(schedule.take_step(1, now, &ALL).is_some());
}

/// How many messages leave up to the alarm.
fn turns_of_the_alarm(mut next: impl FnMut() -> Option<Item>) -> usize {
    1 + std::iter::from_fn(|| next().filter(|item| name(item) != "A1ARM")).count()
}

#[test]
fn the_backlog_of_one_device_holds_up_no_other() {
    let now = Instant::now();
    let later = now + Duration::from_secs(3600);
    let mut due = backlog(|schedule, item| schedule.add(item));
    assert_eq!(turns_of_the_alarm(|| due.take_due(0, now, &ALL)), 2, "after a restart");
    let mut fresh = backlog(|schedule, item| schedule.add_fresh(item, now));
    assert!(turns_of_the_alarm(|| fresh.take_due(0, now, &ALL)) <= 4, "all of it has just come in");
    let mut fresh = backlog(|schedule, item| schedule.add_fresh(item, now));
    assert!(turns_of_the_alarm(|| fresh.take_fresh(0, now, &ALL)) <= 2, "while the queue is being read");
    let mut deferred = backlog(|schedule, item| schedule.put_back(item, Some(later)));
    let mut probed = backlog(|schedule, item| schedule.put_back(item, Some(later)));
    assert!(turns_of_the_alarm(|| probed.take_probe(0)) <= 2, "one at a time, while the account is in doubt");
    deferred.wake_all();
    while deferred.advance(now) {}
    assert!(turns_of_the_alarm(|| deferred.take_due(0, now, &ALL)) <= 2, "deferred, and woken");
    let mut deferred = backlog(|schedule, item| schedule.put_back(item, Some(later)));
    while deferred.advance(later) {}
    assert!(turns_of_the_alarm(|| deferred.take_due(0, later, &ALL)) <= 2, "deferred, and its time has come");
    let mut demoted = backlog(|schedule, item| schedule.add(Item { demoted: 1, ..item }));
    assert!(turns_of_the_alarm(|| demoted.take_due(0, now, &ALL)) <= 2, "the account fell into trouble over all of it");
}

#[test]
fn a_flood_leaves_each_device_a_place_among_the_new_ones() {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    for n in 0..3000 {
        schedule.add_fresh(from(1, &format!("A{n:04}"), n, now), now);
    }
    // An old backlog of its own, and something new.
    for n in 0..50 {
        schedule.add(from(2, &format!("B{n:04}"), n, now));
    }
    schedule.add_fresh(from(2, "NEW", 9000, now), now);
    let order = order(&mut schedule, now);
    let place = order.iter().position(|name| name == "NEW");
    assert!(place.is_some_and(|place| place < 8), "{place:?}");
    assert_eq!(order.len(), 3051);
}

#[test]
fn what_concerns_all_is_done_in_pieces() {
    let now = Instant::now();
    let later = now + Duration::from_secs(60);
    let mut schedule = Schedule::new(3);
    for n in 0..1000u16 {
        let item = Item { route: n % 4, ..item(&format!("{n:04}"), i64::from(n), now) };
        schedule.put_back(item, Some(later));
    }
    schedule.wake_all();
    // Route 3 is not one of these three, so its messages are added to the first.
    let pieces = std::iter::from_fn(|| schedule.advance(now).then_some(())).count();
    assert!((0..=4).contains(&pieces), "{pieces}");
    assert_eq!([0, 1, 2].map(|route| (schedule.has_due(route, now), schedule.next_time(route))), [(true, None); 3]);
    assert_eq!(std::iter::from_fn(|| schedule.take_due(0, now, &ALL)).count(), 500);
    assert!(schedule.is_idle(0) && !schedule.is_idle(1));
    let positions = |schedule: &Schedule, behind| {
        schedule.listed(behind).map(|(item, _)| (item.entry.arrived, item.entry.id)).take(3).collect::<Vec<_>>()
    };
    let first = positions(&schedule, None);
    assert_eq!(first.iter().map(|(arrived, _)| *arrived).collect::<Vec<_>>(), [1, 2, 5]);
    // It continues there, whether the message is still in the queue or not.
    schedule.take(first[2].1);
    assert_eq!(positions(&schedule, first.last().copied())[0].0, 6);
}

#[test]
fn a_clock_that_is_set_gives_all_their_true_time() {
    let now = Instant::now();
    let later = now + Duration::from_secs(60);
    let mut schedule = Schedule::default();
    for n in 0..600 {
        let early = item(&format!("{n:04}"), 100 + n, now);
        schedule.put_back(Item { uptime: Some(clock::uptime()), ..early }, (n % 2 == 0).then_some(later));
    }
    schedule.redate();
    // One that is taken out early has its true time as well.
    let last = schedule.take(id("0599")).unwrap().0;
    assert!(last.undated && last.entry.arrived >= clock::EARLIEST);
    while schedule.advance(now) {}
    assert!(schedule.behind(None).all(|(item, _)| item.undated && item.entry.arrived >= clock::EARLIEST));
    assert_eq!((schedule.len(), schedule.behind(None).filter(|(_, at)| *at == Some(later)).count()), (599, 300));
}

/// What can be done to a schedule.
#[derive(Debug, Clone)]
enum Deed {
    Add { route: u16, client: u8, demoted: u32, held: bool },
    Fresh { route: u16, client: u8 },
    Later { route: u16, client: u8, seconds: u64, probes: u32 },
    Rest { digest: bool, seconds: u64 },
    TakeDue(u16),
    TakeFresh(u16),
    TakeProbe(u16),
    Take(usize),
    WakeAll,
    Forgive,
    WakePutOff,
    Redate,
    Advance(u64),
    Digests(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    let (route, client) = (0u16..3, 0u8..4);
    let place = (route.clone(), client);
    prop_oneof![
        (place.clone(), 0u32..2, any::<bool>()).prop_map(|((route, client), demoted, held)| Deed::Add {
            route,
            client,
            demoted,
            held
        }),
        place.clone().prop_map(|(route, client)| Deed::Fresh { route, client }),
        (place, 0u64..90, 59u32..=60).prop_map(|((route, client), seconds, probes)| Deed::Later {
            route,
            client,
            seconds,
            probes
        }),
        (any::<bool>(), 0u64..90).prop_map(|(digest, seconds)| Deed::Rest { digest, seconds }),
        route.clone().prop_map(Deed::TakeDue),
        route.clone().prop_map(Deed::TakeFresh),
        route.prop_map(Deed::TakeProbe),
        any::<usize>().prop_map(Deed::Take),
        Just(Deed::WakeAll),
        Just(Deed::Forgive),
        Just(Deed::WakePutOff),
        Just(Deed::Redate),
        (0u64..90).prop_map(Deed::Advance),
        (0u64..90).prop_map(Deed::Digests),
    ]
}

proptest! {
    /// Whatever is done, each message exists once and can be found, and nothing stays when all have been taken.
    #[test]
    fn no_message_is_lost_or_doubled(deeds in proptest::collection::vec(deed(), 0..60)) {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut schedule = Schedule::new(2);
        let (mut number, mut there) = (0, BTreeSet::new());
        for deed in deeds {
            number += 1;
            let new = |client| from(client, &number.to_string(), number, now);
            let mut gone = Vec::new();
            match deed {
                Deed::Add { route, client, demoted, held } => {
                    schedule.add(Item { route, demoted, held, ..new(client) });
                    there.insert(id(&number.to_string()));
                }
                Deed::Fresh { route, client } => {
                    schedule.add_fresh(Item { route, ..new(client) }, now);
                    there.insert(id(&number.to_string()));
                }
                Deed::Later { route, client, seconds, probes } => {
                    schedule.put_back(Item { route, probes, ..new(client) }, Some(after(seconds)));
                    there.insert(id(&number.to_string()));
                }
                Deed::Rest { digest, seconds } => {
                    let rest = Some(Rest { until: after(seconds), digest, failed: 0 });
                    schedule.add(Item { rest, ..new(1) });
                    there.insert(id(&number.to_string()));
                }
                Deed::TakeDue(route) => gone.extend(schedule.take_due(route, now, &ALL)),
                Deed::TakeFresh(route) => gone.extend(schedule.take_fresh(route, now, &ALL)),
                Deed::TakeProbe(route) => gone.extend(schedule.take_probe(route)),
                Deed::Take(at) => {
                    let known = at.checked_rem(there.len()).and_then(|at| there.iter().nth(at)).copied();
                    gone.extend(known.map(|id| schedule.take(id).unwrap().0));
                }
                Deed::WakeAll => schedule.wake_all(),
                Deed::Forgive => schedule.forgive(),
                Deed::WakePutOff => schedule.wake_put_off(),
                Deed::Redate => schedule.redate(),
                Deed::Advance(seconds) => _ = schedule.advance(after(seconds)),
                Deed::Digests(seconds) => gone.extend(schedule.take_digests(after(seconds))),
            }
            for item in gone {
                prop_assert!(there.remove(&item.entry.id), "{} came twice", name(&item));
            }
            prop_assert_eq!(schedule.len(), there.len());
            prop_assert_eq!(schedule.listed(None).count(), there.len());
            prop_assert!(there.iter().all(|id| schedule.get(*id).is_some()));
            let held = schedule.behind(None).filter(|(item, _)| item.held).count();
            let resting = schedule.behind(None).filter(|(item, _)| !item.held && item.rest.is_some()).count();
            prop_assert_eq!((schedule.held(), schedule.resting()), (held, resting));
        }
        schedule.wake_all();
        while schedule.advance(after(3600)) {}
        schedule.advance(after(3600));
        let held: Vec<MessageId> =
            schedule.behind(None).filter(|(item, _)| item.held).map(|(item, _)| item.entry.id).collect();
        let kept = held.iter().filter_map(|id| schedule.take(*id)).count();
        let digests = schedule.take_digests(after(3600)).len();
        let due = (0..2).map(|route| std::iter::from_fn(|| schedule.take_due(route, now, &ALL)).count()).sum::<usize>();
        prop_assert_eq!(kept + digests + due, there.len());
        prop_assert!(schedule.is_empty() && schedule.is_idle(0) && schedule.is_idle(1));
        prop_assert!(!schedule.has_due(0, now) && !schedule.has_probe(0) && schedule.next_digest().is_none());
    }
}

/// A message with steps on these routes.
fn planned(name: &str, now: Instant, moment: Option<Duration>, steps: &[(u16, Option<Duration>)]) -> Item {
    let step =
        |(route, wait): &(u16, Option<Duration>)| Step { route: *route, turns: 0, turn: wait.map(|at| now + at) };
    let steps = steps.iter().map(step).collect();
    let plan = Plan { moment: moment.map(|at| now + at), steps, ..Plan::default() };
    Item { plan: Some(Box::new(plan)), ..item(name, 1, now) }
}

#[test]
fn a_message_is_in_the_queues_of_its_steps_as_long_as_it_is_in_its_own() {
    let (now, seconds) = (Instant::now(), Duration::from_secs);
    let mut schedule = Schedule::new(3);
    schedule.add(planned("A", now, Some(seconds(9)), &[(1, None), (2, Some(seconds(5)))]));
    assert!(schedule.has_step(1, now) && !schedule.has_step(2, now) && !schedule.has_step(0, now));
    assert_eq!(
        (schedule.is_idle(1), schedule.next_time(2), schedule.next_moment()),
        (false, Some(now + seconds(5)), Some(now + seconds(9)))
    );
    // Whoever takes it takes it from all of them.
    let (taken, _) = schedule.take_step(1, now, &ALL).unwrap();
    assert!(order(&mut schedule, now).is_empty() && schedule.is_idle(1) && schedule.is_idle(2));
    assert!(!schedule.has_step(2, now + seconds(6)) && schedule.take_moment(now + seconds(60)).is_none());
    schedule.put_back(taken, Some(now + seconds(70)));
    let (taken, at) = schedule.take_step(2, now + seconds(5), &ALL).unwrap();
    assert_eq!(at, Some(now + seconds(70)), "it keeps its own time");
    // What wakes the others wakes steps.
    schedule.put_back(taken, None);
    assert!(schedule.take_step(2, now, &ALL).is_none());
    schedule.wake_all();
    assert!(schedule.has_step(2, now));
    let (taken, _) = schedule.take_step(2, now, &ALL).unwrap();
    schedule.put_back(taken, None);
    assert_eq!(order(&mut schedule, now), ["A"]);
    assert!((0..3).all(|route| schedule.is_idle(route)) && schedule.next_moment().is_none());
}

#[test]
fn plans_rest_while_a_message_is_held_or_rests() {
    let (now, moment) = (Instant::now(), Some(Duration::ZERO));
    let steps: &[(u16, Option<Duration>)] = &[(0, None)];
    let rest = Rest { until: now + Duration::from_secs(9), digest: false, failed: 0 };
    let held = Item { held: true, ..planned("A", now, moment, steps) };
    let rests = Item { rest: Some(rest), ..planned("B", now, moment, steps) };
    let mut schedule = Schedule::default();
    for item in [held.clone(), rests] {
        schedule.add(item);
        assert!(schedule.next_moment().is_none() && !schedule.has_step(0, now));
    }
    schedule.advance(now + Duration::from_secs(9));
    assert_eq!(schedule.take_moment(now).map(|(item, _)| name(&item)).as_deref(), Some("B"));
    // The gateway itself holds it, since it may not have arrived.
    let mut unsure = held;
    unsure.plan.as_mut().unwrap().despite_hold = true;
    schedule.add(unsure);
    assert!(schedule.has_step(0, now) && order(&mut schedule, now).is_empty());
    let waits = Plan { waits: true, ..Plan::default() };
    schedule.add(Item { plan: Some(Box::new(waits)), ..item("C", 1, now) });
    schedule.wake_all();
    assert!(order(&mut schedule, now).is_empty());
}

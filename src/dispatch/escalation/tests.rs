// SPDX-License-Identifier: Apache-2.0
//! Who gets what, as a table: the state of the provider, the time, and the state of each channel. The journal is written
//! and read back at each step, as after a crash.

use super::*;
use crate::config::{load, uci};
use crate::dispatch::delivery::{Ways, choose_recipients};
use crate::message::{BodyForm, Encode, Envelope};
use crate::queue::{Client, Entry, Marks, MessageId, Place, Stored};

const SETTINGS: &str = "
config account 'mail'\n option host 'x.org'\n option from 'a@x.org'\n
config account 'lte'\n option host 'y.org'\n option from 'a@y.org'\n option default '0'\n
config channel 'phone'\n option service 'ntfy'\n option to 'x'\n
config channel 'siren'\n option service 'ntfy'\n option to 'y'\n
config route\n list account 'phone'\n list recipient 'late@x.org'\n option after '1m'\n
config route\n list account 'mail'\n list account 'phone'\n list recipient 'both@x.org'\n option after '1m'\n
config escalation 'alarm'\n option after '1m'\n list account 'phone'\n list account 'lte'\n list account 'siren'\n";

fn routes(text: &str) -> (Routes, Vec<String>) {
    let settings = load::settings(&uci::parse(text.as_bytes()).unwrap()).0;
    (Routes::new(&settings), settings.accounts.iter().map(|account| account.name.clone()).collect())
}

fn meta(to: &[&str], alarm: Option<&str>) -> Meta {
    Meta {
        envelope: Envelope {
            from: "plc@x.org".into(),
            to: to.iter().map(|to| (*to).to_string()).collect(),
            smtputf8: false,
        },
        form: BodyForm { eight_bit: false, encode: Encode::Verbatim },
        arrived: 0,
        client: "10.0.0.7".into(),
        notice: false,
        undated: None,
        marks: Marks { alarm: alarm.map(Into::into), ..Marks::default() },
    }
}

/// What an account does with the messages that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    /// It takes them.
    Up,
    /// It takes them from this second on.
    From(u64),
    /// It cannot be reached.
    Down,
    /// It refuses them for good.
    Refuses,
    /// It never says whether it took them.
    Silent,
}

impl Is {
    fn verdict(self, second: u64) -> Option<Progress> {
        match self {
            Self::Up => Some(Progress::Delivered),
            Self::From(from) if second >= from => Some(Progress::Delivered),
            Self::Refuses => Some(Progress::Failed),
            Self::From(_) | Self::Down | Self::Silent => None,
        }
    }
}

/// A message and everything that was delivered: `account@second` for each message that was taken.
struct World {
    routes: Routes,
    names: Vec<String>,
    meta: Meta,
    journal: Vec<u8>,
    said: Vec<String>,
}

impl World {
    fn state(&self) -> State {
        let mut state = State::new(&self.meta.envelope);
        state.replay(&self.journal);
        state
    }

    fn note(&mut self, note: Note) {
        self.journal.extend(note.encode());
    }

    fn step(&mut self, account: &str, progress: StepProgress) {
        let (account, text) = (account.to_string(), String::new());
        self.note(Note::Step(StepNote { at: 0, account, progress, text }));
    }

    fn first(&self, route: RouteId) -> String {
        self.names[self.routes.accounts(route)[0]].clone()
    }

    /// Ten minutes, one second at a time.
    fn run(mut self, accounts: &[(&str, Is)]) -> String {
        let is = |name: &str| accounts.iter().find(|(known, _)| *known == name).map_or(Is::Up, |(_, is)| *is);
        let mut begun = None;
        for second in 0..600 {
            let (state, tried) = (self.state(), Duration::from_secs(second));
            let since = begun.map(|at| Duration::from_secs(second - at));
            let seen = outlook(&self.routes, &self.meta, &state, tried, since);
            for index in &seen.spared {
                self.said.push(format!("spared@{second}"));
                let results = vec![(*index, Progress::Delivered, String::new())];
                self.note(Note::Attempt(Attempt { at: 0, early: true, results }));
            }
            if let Some(account) = &seen.begins {
                begun = Some(second);
                self.step(account, StepProgress::Begun);
            }
            // Its own way, and those of other recipients.
            for route in seen.route.into_iter().chain(seen.sides) {
                let places = self.routes.accounts(route).to_vec();
                let mut tries = places.iter().map(|place| self.names[*place].clone());
                let verdict = tries.find_map(|name| Some((is(&name).verdict(second)?, name)));
                if let Some((progress, name)) = verdict {
                    let rest = rest_is_delivered(&self.routes, &self.meta, &state);
                    let serves = |address: &str| self.routes.serve(&self.meta, address, route, tried, rest);
                    let served = state.waiting().filter(|(_, recipient)| serves(&recipient.address));
                    let results: Vec<_> = served.map(|(index, _)| (index, progress, String::new())).collect();
                    assert!(!results.is_empty(), "an attempt for nobody");
                    let what = if progress == Progress::Delivered { "" } else { "!" };
                    self.said.push(format!("{name}{what}@{second}"));
                    self.note(Note::Attempt(Attempt { at: 0, early: true, results }));
                }
            }
            // Steps, with what is known by now.
            for route in outlook(&self.routes, &self.meta, &self.state(), tried, begun.map(|_| Duration::ZERO)).steps {
                let name = self.first(route);
                match is(&name).verdict(second) {
                    Some(Progress::Delivered) => {
                        self.said.push(format!("step {name}@{second}"));
                        self.step(&name, StepProgress::Taken);
                        break;
                    }
                    Some(_) => {
                        self.said.push(format!("step {name}!@{second}"));
                        self.step(&name, StepProgress::Failed);
                    }
                    None if is(&name) == Is::Silent => self.step(&name, StepProgress::Doubtful),
                    None => {}
                }
            }
            let since = begun.map(|at| Duration::from_secs(second - at));
            if outlook(&self.routes, &self.meta, &self.state(), tried, since).is_over {
                self.said.push(format!("over@{second}"));
                break;
            }
        }
        self.said.join(" ")
    }
}

fn world(to: &[&str], alarm: Option<&str>) -> World {
    let (routes, names) = routes(SETTINGS);
    World { routes, names, meta: meta(to, alarm), journal: Vec::new(), said: Vec::new() }
}

#[test]
fn who_gets_an_alarm() {
    use Is::{Down, From, Refuses, Silent, Up};
    for (provider, phone, lte, siren, expected) in [
        // Nothing is wrong.
        (Up, Up, Up, Up, "mail@0 over@0"),
        // Late, but in time.
        (From(59), Up, Up, Up, "mail@59 over@59"),
        // Too late: the first step has it, and the mail leaves as usual.
        (From(300), Up, Up, Up, "step phone@60 mail@300 over@300"),
        // The first step is tried until it works; the second has begun before, and is not needed if that comes first.
        (From(300), From(90), Up, Up, "step phone@90 mail@300 over@300"),
        (From(300), Down, Up, Up, "step lte@120 mail@300 over@300"),
        (From(300), From(130), From(140), Up, "step phone@130 mail@300 over@300"),
        (From(300), Down, Down, Up, "step siren@180 mail@300 over@300"),
        // The mail leaves after steps have begun that nobody took: they end.
        (From(100), Down, Up, Up, "mail@100 over@100"),
        (From(200), Down, Down, Down, "mail@200 over@200"),
        (Down, Down, Down, Down, ""),
        (Down, Down, Down, From(500), "step siren@500"),
        // A step that is refused, or whose result is never known, does not delay those that follow, nor hurry them.
        (From(300), Refuses, Up, Up, "step phone!@60 step lte@120 mail@300 over@300"),
        (From(300), Silent, Up, Up, "step lte@120 mail@300 over@300"),
        // When the mail is refused there is nothing to wait for.
        (Refuses, Up, Up, Up, "mail!@0 step phone@1 over@1"),
        (Refuses, Refuses, Up, Up, "mail!@0 step phone!@1 step lte@2 over@2"),
        (Refuses, Refuses, Refuses, Refuses, "mail!@0 step phone!@1 step lte!@2 step siren!@3 over@3"),
        (Refuses, From(90), Down, Up, "mail!@0 step phone@90 over@90"),
        (Refuses, Down, Down, Up, "mail!@0 step siren@180 over@180"),
    ] {
        let accounts = [("mail", provider), ("phone", phone), ("lte", lte), ("siren", siren)];
        let said = world(&["ops@x.org"], Some("alarm")).run(&accounts);
        assert_eq!(said, expected, "{accounts:?}");
        // Nobody gets anything twice.
        let mut names: Vec<&str> = said.split(' ').filter_map(|word| word.split('@').next()).collect();
        names.retain(|name| *name != "step");
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{said}");
    }
    // Other mail is not escalated, nor that of a section that no longer exists.
    for alarm in [None, Some("gone")] {
        assert_eq!(world(&["ops@x.org"], alarm).run(&[("mail", From(300))]), "mail@300 over@300");
    }
}

#[test]
fn who_gets_what_has_not_left_by_mail_in_time() {
    use Is::{Down, From, Refuses, Up};
    for (to, provider, phone, expected) in [
        // The rest has left: nothing is sent.
        (&["ops@x.org", "late@x.org"][..], Up, Up, "mail@0 spared@60 over@60"),
        (&["late@x.org", "ops@x.org"], From(59), Up, "mail@59 spared@60 over@60"),
        (&["ops@x.org", "late@x.org"], From(90), Up, "phone@60 mail@90 over@90"),
        (&["ops@x.org", "late@x.org"], Refuses, Up, "mail!@0 phone@60 over@60"),
        // The mail leaves while the channel is down: nothing is needed any more.
        (&["ops@x.org", "late@x.org"], From(90), Down, "mail@90 spared@91 over@91"),
        // There is no rest that could leave before.
        (&["late@x.org"], Up, Up, "phone@60 over@60"),
        // An account and a channel in one route.
        (&["both@x.org"], Up, Up, "mail@0 over@0"),
        (&["both@x.org"], From(59), Up, "mail@59 over@59"),
        (&["both@x.org"], Down, Up, "phone@60 over@60"),
        (&["both@x.org"], From(100), From(70), "phone@70 over@70"),
        (&["both@x.org", "ops@x.org"], From(100), Up, "phone@60 mail@100 over@100"),
    ] {
        let said = world(to, None).run(&[("mail", provider), ("phone", phone)]);
        assert_eq!(said, expected, "{to:?} {provider:?} {phone:?}");
    }
}

#[test]
fn after_a_long_time_without_power_each_step_gets_its_time() {
    let world = world(&["ops@x.org"], Some("alarm"));
    let seconds = Duration::from_secs;
    let seen = |state: &State, begun| outlook(&world.routes, &world.meta, state, seconds(86_400), begun);
    let mut state = world.state();
    assert_eq!(seen(&state, None).begins.as_deref(), Some("phone"));
    let text = String::new();
    state.apply(&Note::Step(StepNote { at: 0, account: "phone".into(), progress: StepProgress::Begun, text }));
    let next = seen(&state, Some(seconds(10)));
    assert_eq!((next.begins, next.next, next.next_step.as_deref()), (None, Some(seconds(50)), Some("lte")));
}

fn item() -> Item {
    let id = MessageId::like("a");
    Item::new(Entry { id, client: Client::Own, place: Place::Spool, arrived: 0, size: 1 }, Instant::now())
}

#[test]
fn a_run_that_did_not_see_a_step_begin_knows_when_from_the_journal() {
    let step = |account: &str, at| {
        let (account, text) = (account.to_string(), String::new());
        Note::Step(StepNote { at, account, progress: StepProgress::Begun, text })
    };
    let ago = |notes: &[Note]| {
        let world = world(&["ops@x.org"], Some("alarm"));
        let mut state = world.state();
        notes.iter().for_each(|note| state.apply(note));
        let mut item = item();
        world.routes.place(&mut item, &world.meta, &state);
        let begun = item.plan.and_then(|plan| plan.begun);
        begun.map(|at| at.elapsed().as_secs())
    };
    let wall = clock::now();
    assert_eq!(ago(&[]), None);
    let minute = ago(&[step("phone", wall - 3600), step("lte", wall - 60)]);
    assert!(minute.is_some_and(|ago| (60..65).contains(&ago)), "{minute:?}");
    // What follows says nothing about when it began.
    let text = "450 later".to_string();
    let doubt = Note::Step(StepNote { at: wall, account: "lte".into(), progress: StepProgress::Doubtful, text });
    assert!(ago(&[step("lte", wall - 60), doubt]).is_some_and(|ago| ago >= 60));
    // A clock that was not set then, or runs behind now.
    assert_eq!((ago(&[step("lte", 1000)]), ago(&[step("lte", wall + 3600)])), (Some(0), Some(0)));
}

#[test]
fn a_plan_is_made_for_alarms_and_for_routes_with_a_time_only() {
    let (routes, _) = routes(SETTINGS);
    for (to, alarm, moment, waits) in [
        ("ops@x.org", None, false, false),
        ("ops@x.org", Some("alarm"), true, false),
        ("late@x.org", None, true, true),
        ("both@x.org", None, true, false),
    ] {
        let (meta, mut item) = (meta(&[to], alarm), item());
        routes.place(&mut item, &meta, &State::new(&meta.envelope));
        let plan = item.plan.map(|plan| (plan.moment.is_some(), plan.waits));
        assert_eq!(plan, (moment || waits).then_some((moment, waits)), "{to} {alarm:?}");
    }
    // Without either, nothing is looked at.
    let plain = self::routes("config account 'mail'\n option host 'x.org'\n option from 'a@x.org'\n").0;
    assert!(!plain.are_timed() && plain.is_single());
}

#[test]
fn a_mail_step_takes_the_recipients_of_mail_and_no_names_of_channels() {
    let (routes, _) = routes(SETTINGS);
    let meta = meta(&["ops@x.org", "late@x.org", "duty@x.org", "old@x.org"], Some("alarm"));
    let mut stored = Stored::in_memory(Vec::new(), Vec::new(), meta);
    let step = |is_channel| StepJob { route: 0, escalates: true, is_channel, at: None };
    stored.state.recipients[2].progress = Progress::Failed;
    stored.state.recipients[3].progress = Progress::Delivered;
    let left = |stored: &Stored| stored.state.waiting().map(|(index, _)| index).collect::<Vec<_>>();
    let mut other = Stored::in_memory(Vec::new(), Vec::new(), stored.meta.clone());
    other.state = stored.state.clone();
    for_step(&stored.meta, &mut stored.state, &routes, |route| routes.is_mail(route), &step(false));
    assert_eq!(left(&stored), [0, 2]);
    for_step(&other.meta, &mut other.state, &routes, |route| routes.is_mail(route), &step(true));
    assert_eq!(left(&other), [0, 1, 2]);
}

#[test]
fn the_route_of_a_recipient_in_doubt_is_not_tried() {
    let (routes, _) = routes(SETTINGS);
    let meta = meta(&["ops@x.org", "late@x.org"], None);
    let mut state = State::new(&meta.envelope);
    let look = |state: &State| outlook(&routes, &meta, state, Duration::from_secs(120), None);
    let before = look(&state);
    assert_eq!((before.route.is_some(), before.sides.len()), (true, 1));
    (0..3).for_each(|at| state.apply(&Note::Doubt(at, Some(vec![0]))));
    let after = look(&state);
    assert_eq!((after.route, after.sides), (Some(before.sides[0]), vec![]));
    assert!(!state.held && !after.is_over);
}

/// That it may have been delivered to one recipient does not count as delivered for a route with `after`.
#[test]
fn a_recipient_in_doubt_does_not_spare_those_that_wait_for_its_delivery() {
    let settings = load::settings(&uci::parse(SETTINGS.as_bytes()).unwrap()).0;
    let ways = Ways::new(&settings);
    let mut stored = Stored::in_memory(Vec::new(), Vec::new(), meta(&["ops@x.org", "late@x.org"], None));
    (0..3).for_each(|at| stored.state.apply(&Note::Doubt(at, Some(vec![0]))));
    let next = outlook(&ways.routes, &stored.meta, &stored.state, Duration::from_secs(120), None);
    let mut item = Item { route: next.route.unwrap(), ..item() };
    item.entry.arrived = clock::now() - 120;
    choose_recipients(&stored.meta, &mut stored.state, &ways, &item, None);
    let left: Vec<usize> = stored.state.waiting().map(|(index, _)| index).collect();
    assert_eq!(left, [1]);
}

/// Two routes, each with an account of its own.
const TWO_ROUTES: &str = "config account 'a'\n option host 'x.org'\n option from 'a@x.org'\n
config account 'b'\n option host 'y.org'\n option from 'a@y.org'\n option default '0'\n
config route\n list account 'b'\n list recipient 'b@x.org'\n";

/// Whether a message in this state is due in each of the nine routes, a step of it included.
fn due(item: Item) -> usize {
    let mut schedule = crate::queue::Schedule::new(9);
    schedule.put_back(item, None);
    let now = Instant::now();
    (0..9).filter(|route| schedule.has_due(*route, now) || schedule.has_step(*route, now)).count()
}

/// Recipients in doubt are waited for; the administrator's hold is about all of them.
#[test]
fn a_message_that_is_in_doubt_for_some_recipients_can_be_held() {
    let (routes, _) = routes(TWO_ROUTES);
    let meta = meta(&["a1@x.org", "a2@x.org", "b@x.org"], None);
    let mut state = State::new(&meta.envelope);
    (0..3).for_each(|at| state.apply(&Note::Doubt(at, Some(vec![0]))));
    assert!(state.is_doubtful() && !state.held);
    let mut item = Item { doubtful: true, ..item() };
    routes.place(&mut item, &meta, &state);
    assert_eq!((due(item.clone()), due(Item { held: true, ..item })), (2, 0));
}

#[test]
fn what_was_in_doubt_is_due_after_its_release_on_all_of_its_routes() {
    for (settings, to, alarm, expected) in
        [(SETTINGS, &["ops@x.org"][..], Some("alarm"), 1), (TWO_ROUTES, &["a1@x.org", "b@x.org"], None, 2)]
    {
        let (routes, _) = routes(settings);
        let meta = meta(to, alarm);
        let mut state = State::new(&meta.envelope);
        (0..3).for_each(|at| state.apply(&Note::Doubt(at, Some(vec![0]))));
        let mut item = Item { held: state.held, doubtful: true, ..item() };
        routes.place(&mut item, &meta, &state);
        item.release(Instant::now());
        assert!(due(item.clone()) > 0 && item.plan.as_ref().is_some_and(|plan| plan.moment.is_some()));
        // Its plan is looked at.
        state.apply(&Note::Released(1));
        routes.place(&mut item, &meta, &state);
        assert_eq!(due(item), expected);
    }
}

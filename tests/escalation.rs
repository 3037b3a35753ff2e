// SPDX-License-Identifier: Apache-2.0
//! Alarms that must get through: who gets them when the mail does not leave, each step once; and routes that are only
//! used for what has not left by mail. In simulated time.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use support::ask::{SOON, hello, json as asked, queue, queue_until, said, send};
use support::disk::wait_for_files;
use support::provider::{Fault, Gate, Provider, Step, Times, TlsMode};
use support::push_server::{PushServer, Says};
use support::push_services::anything;
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::TimeWarp;

const MINUTE: Duration = Duration::from_secs(60);
/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;
/// Longer than an answer of a provider takes on a busy machine, in real time.
const QUIET: Duration = Duration::from_millis(100);
const OPS: &[&str] = &["ops@example.com"];
const PHONE: &str = "phone@channel.invalid";

/// Two providers and two channels, and the relay between them and a device.
struct World {
    time: TimeWarp,
    mail: Provider,
    lte: Provider,
    phone: PushServer,
    siren: PushServer,
    relay: Relay,
}

fn channel(name: &str, server: &PushServer) -> Section {
    Section::new("channel", name)
        .option("service", "custom")
        .option("url", format!("{}/{name}", server.url()))
        .option("token", "s3cret")
        .list("header", "Authorization: Bearer {token}")
        .option("body", r#"{"title":"{subject}","id":"{id}"}"#)
        .option("ca_file", server.ca_file())
        // Time passes while the answer is held back.
        .option("timeout", "10m")
}

fn alarm() -> Section {
    let steps = Section::new("escalation", "alarm").list("account", "phone").list("account", "lte");
    steps.list("account", "siren").list("subject", "alarm").option("after", "1m")
}

impl World {
    /// None, with the reason printed, where there is no simulated time.
    async fn start(change: impl FnOnce(RelayBuilder) -> RelayBuilder) -> Option<World> {
        let time = TimeWarp::new(NOON)?;
        let provider = || Provider::builder().tls(TlsMode::None);
        let (mail, lte) = (provider().start().await, provider().start().await);
        let (phone, siren) = (PushServer::start(anything).await, PushServer::start(anything).await);
        let account = |name, provider| Section::account(name, provider).option("from_policy", "keep");
        let builder = Relay::builder()
            .durability("always")
            .relay_option("admin", "admin@example.com")
            .section(account("mail", &mail))
            .section(account("lte", &lte).option("default", "0"))
            .section(channel("phone", &phone))
            .section(channel("siren", &siren));
        let relay = time.around(change(builder)).start().await;
        time.rule(&relay).then_some(World { time, mail, lte, phone, siren, relay })
    }

    async fn pass(&self, time: Duration) {
        self.time.advance(time, QUIET).await;
    }

    async fn restart(&mut self) {
        self.relay.restart().await;
        assert!(self.time.rule(&self.relay));
    }

    /// Names and accounts of the events about steps, in their order: `escalated phone`.
    fn story(&self) -> Vec<String> {
        let names = ["escalated", "step_taken", "step_failed", "spared"];
        let told = self.relay.log().into_iter().filter_map(|line| {
            let name = field(&line, "event").filter(|name| names.contains(name))?;
            Some(format!("{name} {}", field(&line, "account").or(field(&line, "to")).unwrap_or_default()))
        });
        told.collect()
    }

    /// How many messages each has: mail, lte, phone, siren. Notifications are left out.
    fn have(&self) -> [usize; 4] {
        let mails = |provider: &Provider| {
            provider.messages().iter().filter(|message| message.header("Auto-Submitted").is_none()).count()
        };
        let accepted = |server: &PushServer| titles(server).len();
        [mails(&self.mail), mails(&self.lte), accepted(&self.phone), accepted(&self.siren)]
    }
}

/// The titles of all requests.
fn titles(server: &PushServer) -> Vec<String> {
    server.asked().iter().map(|asked| asked.json()["title"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn mail_that_leaves_in_time_is_not_escalated_and_other_mail_never() {
    let Some(world) = World::start(|relay| relay.section(alarm())).await else { return };
    send(&world.relay, OPS, "Alarm: pump 1").await;
    world.pass(5 * MINUTE).await;
    assert_eq!(world.have(), [1, 0, 0, 0]);
    world.mail.stop().await;
    send(&world.relay, OPS, "status").await;
    world.pass(5 * MINUTE).await;
    assert_eq!((world.have(), world.story()), ([1, 0, 0, 0], vec![]));
}

#[tokio::test]
async fn the_first_step_takes_an_alarm_and_the_mail_leaves_later() {
    let Some(world) = World::start(|relay| relay.section(alarm())).await else { return };
    world.mail.stop().await;
    let id = send(&world.relay, OPS, "=?utf-8?q?ALARM:_Pumpe_st=C3=B6rt?=").await;
    world.pass(30 * Duration::from_secs(1)).await;
    assert_eq!(world.have(), [0, 0, 0, 0]);
    let queued = queue_until(&world.relay, |all| all[0]["escalation"].is_object()).await;
    assert_eq!(queued[0]["escalation"]["step"]["account"], json!("phone"));
    let next = queued[0]["escalation"]["step"]["next"].as_u64().expect("seconds");
    assert!((1..=31).contains(&next), "{next}");
    assert!(said(&world.relay, "queue").await.contains("phone in "));
    assert!(said(&world.relay, &format!("queue show {id}")).await.contains("next step of the escalation: phone in "));
    world.pass(MINUTE).await;
    assert_eq!(titles(&world.phone), ["ALARM: Pumpe stört"]);
    // Later steps do not begin.
    world.pass(10 * MINUTE).await;
    assert_eq!(
        (world.have(), world.story()),
        ([0, 0, 1, 0], vec!["escalated phone".into(), "step_taken phone".into()])
    );
    let line = world.relay.wait_log(|line| field(line, "event") == Some("escalated"), SOON).await;
    assert!(line.contains(&format!("id={id} step=1 account=phone text=\"not delivered after 60 s\"")), "{line}");
    let shown = said(&world.relay, &format!("queue show {id}")).await;
    assert!(shown.contains("escalated, phone: not delivered after 60 s"), "{shown}");
    assert!(shown.contains("step taken, phone: HTTP 200"), "{shown}");
    let history = asked(&world.relay, "history").await;
    assert_eq!(history["entries"][0]["account"], json!("phone"), "{history}");
    world.mail.restart().await;
    world.pass(MINUTE).await;
    wait_for_files(&world.relay.spool(), 0).await;
    wait_for_files(&world.relay.safe_spool(), 0).await;
    assert_eq!(world.have(), [1, 0, 1, 0]);
}

#[tokio::test]
async fn the_next_step_begins_at_its_time_and_the_first_that_succeeds_ends_the_others() {
    let Some(mut world) = World::start(|relay| relay.section(alarm())).await else { return };
    world.mail.stop().await;
    // The token of the channel is wrong: it pauses, and is tried now and then.
    world.phone.script(std::iter::repeat_n(Says::Status(401, "", ""), 50));
    send(&world.relay, OPS, "alarm").await;
    world.pass(MINUTE + MINUTE / 2).await;
    assert_eq!(world.story(), ["escalated phone"]);
    let queued = queue(&world.relay).await;
    assert_eq!(queued[0]["escalation"]["step"]["account"], json!("lte"), "{queued:?}");
    assert_eq!(queued[0]["escalation"]["tried"], json!(["phone"]), "{queued:?}");
    world.pass(MINUTE).await;
    // Another provider has delivered it to the same recipients: nothing is left.
    assert_eq!(world.story(), ["escalated phone", "escalated lte", "step_taken lte"]);
    assert_eq!(world.lte.messages()[0].recipients, OPS);
    wait_for_files(&world.relay.spool(), 0).await;
    wait_for_files(&world.relay.safe_spool(), 0).await;
    world.relay.configure("channel", "phone", |section| section.option("token", "r1ght"));
    world.relay.sighup();
    world.mail.restart().await;
    world.pass(10 * MINUTE).await;
    let [mail, lte, _, siren] = world.have();
    assert_eq!((mail, lte, siren), (0, 1, 0));
    assert!(world.phone.asked().iter().all(|asked| asked.field("authorization") == "Bearer s3cret"));
}

#[tokio::test]
async fn what_is_refused_for_good_goes_to_the_next_at_once_or_at_its_time() {
    let Some(world) = World::start(|relay| relay.section(alarm())).await else { return };
    // The mail is refused: nothing is left that could deliver it.
    world.mail.set_fault(Step::Rcpt(OPS[0].into()), Fault::Reply("550 5.1.1 no such user".into()), Times::First(1));
    send(&world.relay, OPS, "alarm 1").await;
    world.pass(Duration::from_secs(20)).await;
    assert_eq!((world.have(), titles(&world.phone)), ([0, 0, 1, 0], vec!["alarm 1".into()]));
    wait_for_files(&world.relay.spool(), 0).await;
    wait_for_files(&world.relay.safe_spool(), 0).await;
    // Its sender, or the owner, was told all the same.
    assert_eq!(world.mail.messages().len(), 1);
    // The step is refused, and the mail is still tried.
    world.mail.stop().await;
    world.phone.script([Says::Status(422, "", r#"{"error":"too long"}"#)]);
    send(&world.relay, OPS, "alarm 2").await;
    world.pass(MINUTE + MINUTE / 2).await;
    assert_eq!(world.have(), [0, 0, 2, 0]);
    world.pass(MINUTE).await;
    assert_eq!(world.have(), [0, 1, 2, 0]);
    let expected = [
        "escalated phone",
        "step_taken phone",
        "escalated phone",
        "step_failed phone",
        "escalated lte",
        "step_taken lte",
    ];
    assert_eq!(world.story(), expected);
}

#[tokio::test]
async fn a_provider_that_defers_and_channels_that_are_down_end_with_the_last_step() {
    let Some(world) = World::start(|relay| relay.section(alarm())).await else { return };
    world.mail.set_fault(Step::Rcpt(OPS[0].into()), Fault::Reply("450 4.2.0 greylisted".into()), Times::Always);
    world.phone.stop().await;
    world.lte.stop().await;
    send(&world.relay, OPS, "alarm").await;
    world.pass(4 * MINUTE).await;
    assert_eq!(world.have(), [0, 0, 0, 1]);
    // They come back: the alarm has been taken.
    world.phone.resume();
    world.lte.restart().await;
    world.pass(5 * MINUTE).await;
    assert_eq!(world.have(), [0, 0, 0, 1]);
    assert_eq!(world.story(), ["escalated phone", "escalated lte", "escalated siren", "step_taken siren"]);
    world.mail.clear_faults();
    said(&world.relay, "wake test").await;
    wait_for_files(&world.relay.safe_spool(), 0).await;
    assert_eq!(world.have(), [1, 0, 0, 1]);
}

#[tokio::test]
async fn a_restart_neither_repeats_a_step_nor_forgets_one() {
    let Some(mut world) = World::start(|relay| relay.section(alarm())).await else { return };
    world.mail.stop().await;
    world.phone.stop().await;
    send(&world.relay, OPS, "alarm").await;
    world.pass(MINUTE + MINUTE / 2).await;
    world.relay.kill9();
    world.restart().await;
    world.phone.resume();
    said(&world.relay, "wake test").await;
    world.relay.wait_log(|line| field(line, "event") == Some("step_taken"), SOON).await;
    world.pass(10 * MINUTE).await;
    world.relay.sigterm();
    world.relay.wait_exit().await;
    world.restart().await;
    world.pass(10 * MINUTE).await;
    assert_eq!(
        (world.have(), world.story()),
        ([0, 0, 1, 0], vec!["escalated phone".into(), "step_taken phone".into()])
    );
    // On hold nothing begins.
    let id = send(&world.relay, OPS, "alarm 2").await;
    queue_until(&world.relay, |all| all.len() == 2 && all.iter().all(|one| one["standing"] != "sending")).await;
    said(&world.relay, &format!("queue hold {id}")).await;
    world.pass(10 * MINUTE).await;
    assert_eq!(world.have(), [0, 0, 1, 0]);
    said(&world.relay, &format!("queue release {id}")).await;
    world.relay.wait_lines(|line| field(line, "event") == Some("step_taken"), 2, SOON).await;
    assert_eq!(world.have(), [0, 0, 2, 0]);
}

#[tokio::test]
async fn after_a_power_cut_each_step_gets_its_time_whatever_restarts_or_changes_meanwhile() {
    let Some(mut world) = World::start(|relay| relay.section(alarm())).await else { return };
    world.mail.stop().await;
    world.phone.stop().await;
    world.lte.set_fault(Step::Rcpt(OPS[0].into()), Fault::Reply("450 4.2.0 later".into()), Times::Always);
    send(&world.relay, OPS, "alarm").await;
    world.relay.kill9();
    world.time.reboot();
    world.time.set_wall(NOON + 3600);
    world.restart().await;
    world.relay.wait_log(|line| field(line, "event") == Some("escalated"), SOON).await;
    world.pass(MINUTE / 4).await;
    // Other routes, and another start.
    let route = |to: &'static str| move |section: Section| section.list("recipient", to).list("account", "lte");
    world.relay.configure("route", "one", route("*@one.example"));
    world.relay.sighup();
    world.pass(MINUTE / 4).await;
    world.relay.kill9();
    world.restart().await;
    world.pass(MINUTE / 4).await;
    assert_eq!(world.story(), ["escalated phone"]);
    world.pass(MINUTE / 2).await;
    assert_eq!(world.story(), ["escalated phone", "escalated lte"]);
    // A step that was deferred keeps waiting for its own time.
    let tries = |world: &World| {
        let is_try = |line: &String| field(line, "event") == Some("deferred") && field(line, "account") == Some("lte");
        world.relay.log().iter().filter(|line| is_try(line)).count()
    };
    let before = tries(&world);
    assert_eq!(before, 1);
    world.relay.configure("route", "two", route("*@two.example"));
    world.relay.sighup();
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(tries(&world), before);
    world.pass(MINUTE).await;
    assert!(tries(&world) > before);
    assert_eq!(world.story(), ["escalated phone", "escalated lte", "escalated siren", "step_taken siren"]);
}

#[tokio::test]
async fn killed_while_steps_are_on_their_way_nothing_is_lost() {
    let Some(mut world) = World::start(|relay| relay.section(alarm())).await else { return };
    world.mail.stop().await;
    world.lte.stop().await;
    world.siren.stop().await;
    const ROUNDS: usize = 6;
    const EACH: usize = 4;
    let mut promised = Vec::new();
    for round in 0..ROUNDS {
        let gate = Gate::closed();
        let before = world.phone.asked().len();
        world.phone.script([Says::Hold(gate.clone())]);
        for number in 0..EACH {
            let title = format!("alarm {round}-{number}");
            send(&world.relay, OPS, &title).await;
            promised.push(title);
        }
        // What a kill has interrupted is due again later, so the second request of a round may need its time as well.
        let begun = async |count: usize| {
            let there = || world.phone.asked().len() >= before + count;
            let passed = world.time.advance_until(3 * MINUTE, Duration::from_secs(10), QUIET, there).await;
            assert!(passed.is_some(), "step {count} has not begun");
        };
        begun(1).await;
        if round % 2 == 1 {
            gate.open();
            begun(2).await;
        }
        world.relay.kill9();
        gate.open();
        world.restart().await;
    }
    world.mail.restart().await;
    said(&world.relay, "wake test").await;
    world.pass(10 * MINUTE).await;
    wait_for_files(&world.relay.safe_spool(), 0).await;
    let count = |titles: Vec<String>| {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        titles.into_iter().for_each(|title| *found.entry(title).or_default() += 1);
        found
    };
    let mails = count(world.mail.messages().iter().filter_map(|mail| mail.header("Subject")).collect());
    let pushed = count(titles(&world.phone));
    let twice: usize = pushed.values().map(|count| count - 1).sum();
    println!("{} promised, {} mails, {} pushed, {twice} of them once more", promised.len(), mails.len(), pushed.len());
    let lost: Vec<_> = promised.iter().filter(|title| mails.get(*title) != Some(&1)).collect();
    assert!(lost.is_empty(), "not once by mail: {lost:?}");
    // One request is on its way at a time.
    assert!(twice <= ROUNDS, "{pushed:?}");
    // A step begins once, however often the program is killed.
    let begun = count(
        world
            .relay
            .log()
            .into_iter()
            .filter(|line| field(line, "event") == Some("escalated"))
            .map(|line| {
                format!("{} {}", field(&line, "id").unwrap_or_default(), field(&line, "account").unwrap_or_default())
            })
            .collect(),
    );
    assert!(begun.values().all(|times| *times == 1), "{begun:?}");
}

#[tokio::test]
async fn a_route_with_a_time_gets_only_what_has_not_left_by_mail() {
    let route = |account: &[&str], recipient: &str| {
        let section = Section::new("route", &format!("to_{}", account.len())).list("recipient", recipient);
        account.iter().fold(section.option("after", "1m"), |section, name| section.list("account", name))
    };
    let world = World::start(|relay| {
        relay.section(route(&["phone"], PHONE)).section(route(&["mail", "phone"], "both@example.com"))
    });
    let Some(world) = world.await else { return };
    let all: &[&str] = &["ops@example.com", PHONE];
    send(&world.relay, all, "fine").await;
    world.pass(2 * MINUTE).await;
    assert_eq!((world.have(), world.story()), ([1, 0, 0, 0], vec![format!("spared <{PHONE}>")]));
    wait_for_files(&world.relay.safe_spool(), 0).await;
    world.mail.stop().await;
    send(&world.relay, all, "late").await;
    send(&world.relay, &["both@example.com"], "both").await;
    world.pass(MINUTE / 2).await;
    assert_eq!(world.have(), [1, 0, 0, 0]);
    world.pass(MINUTE).await;
    let mut pushed = titles(&world.phone);
    pushed.sort();
    assert_eq!(pushed, ["both", "late"]);
    // An account that works, and defers this message.
    world.mail.restart().await;
    world.mail.set_fault(Step::Rcpt("both@example.com".into()), Fault::Reply("450 4.2.0 later".into()), Times::Always);
    send(&world.relay, &["both@example.com"], "deferred").await;
    world.pass(2 * MINUTE).await;
    assert_eq!(titles(&world.phone).last().map(String::as_str), Some("deferred"));
    world.mail.stop().await;
    send(&world.relay, OPS, "stays").await;
    // Nobody else is in this message: it only waits.
    let mut device = hello(&world.relay).await;
    assert_eq!(device.send("plc@example.com", &[PHONE], "Subject: alone\r\n\r\nx\r\n").await.code, 250);
    let why = "only used for what has not left by mail in time";
    let waits = |one: &Value| one["standing"] == "later" && one["why"].as_str().is_some_and(|text| text.contains(why));
    let queued = queue_until(&world.relay, |all| all.len() == 2 && all.iter().any(waits)).await;
    // It cannot be asked for before, and nothing else is claimed.
    let id = queued.iter().find(|one| waits(one)).and_then(|one| one["id"].as_str()).expect("an ID");
    let asked = world.relay.command(&["queue", "retry", id]).await;
    let error = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.code() == Some(66) && error.contains("may not be sent yet (option after)"), "{asked:?}");
    let all = said(&world.relay, "queue retry all").await;
    assert!(all.ends_with(", 1 not to be sent yet (option after)\n"), "{all}");
    world.pass(2 * MINUTE).await;
    assert_eq!(titles(&world.phone).len(), 4);
    world.mail.restart().await;
    world.pass(MINUTE).await;
    wait_for_files(&world.relay.safe_spool(), 0).await;
    assert_eq!(world.have(), [3, 0, 4, 0]);
}

#[tokio::test]
async fn a_recipient_on_another_route_does_not_wait_for_a_paused_account() {
    let push = Section::new("route", "push").list("account", "phone").list("recipient", PHONE);
    let Some(world) = World::start(|relay| relay.section(push)).await else { return };
    world.mail.stop().await;
    send(&world.relay, &["ops@example.com", PHONE], "both").await;
    assert_eq!(world.phone.wait(1).await.len(), 1);
    world.pass(MINUTE).await;
    world.mail.restart().await;
    world.pass(MINUTE).await;
    wait_for_files(&world.relay.safe_spool(), 0).await;
    assert_eq!(world.have(), [1, 0, 1, 0]);
}

#[tokio::test]
async fn check_says_what_cannot_be_meant() {
    let check = async |section: Section| {
        let provider = Provider::builder().start().await;
        let relay = Relay::builder().section(Section::account("mail", &provider)).section(section).prepare();
        let ran = relay.command(&["check"]).await;
        (ran.status.success(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let escalation = || Section::new("escalation", "alarm");
    let step = || escalation().list("account", "mail");
    let route = || Section::new("route", "r").list("account", "mail");
    for (section, valid, text) in [
        (escalation(), false, "an escalation needs list account"),
        (step().list("account", "mail"), false, "list account 'mail' is a step twice"),
        (step().option("after", "5s"), false, "option after is not at least 10s"),
        (step().option("priority", "low"), false, "option priority 'low' is not one of high"),
        (step().list("account", "pager"), true, "no enabled account or channel has this name; the step is skipped"),
        (step(), true, "mail takes this account anyway"),
        (step().list("device", "hall"), true, "list device 'hall' is not the name of a section 'device'"),
        (route().option("after", "5s"), false, "option after is not at least 10s"),
        (route().option("after", "10m"), true, "option after only delays this mail"),
        (Section::new("device", "d").list("ip", "10.0.0.1").option("after", "10m"), true, "without list account"),
    ] {
        let (success, said) = check(section).await;
        assert!(success == valid && said.contains(text), "{text}: {said}");
    }
}

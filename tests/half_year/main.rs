// SPDX-License-Identifier: Apache-2.0
//! Half a year in simulated time: 20 mails per day, a provider that fails, reboots, reloads, a renewed certificate, full
//! disks. Nothing grows, and every mail is accounted for.
//!
//! `cargo test` runs twelve days of it, with each kind of event. `SMTPRELAY_DAYS=180` (`make half-year`) runs all of it,
//! `SMTPRELAY_SEED` draws other times, `SMTPRELAY_SAMPLES` names a file for the samples as CSV.

#[path = "../support/mod.rs"]
mod support;

mod ledger;
mod mails;
mod plan;
mod plant;
mod samples;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ledger::{Ledger, name};
use mails::{Mail, PHONE, STORM};
use plan::{Act, DAY, HOUR, MINUTE, Random, Trouble};
use plant::{IN_FLIGHT, Kept, MIDNIGHT, Queue, number_or, say};
use samples::{Found, Sample};
use support::ask::{self, run};
use support::client::Client;
use support::disk::SmallDisk;
use support::provider::{Fault, Provider, Step, Times, TlsMode};
use support::push_server::PushServer;
use support::push_services::anything;
use support::relay::{Relay, Section, field};
use support::timewarp::{Names, TimeWarp};

/// In real time, for what takes seconds at most.
const SOON: Duration = Duration::from_secs(120);
/// Seconds of a step of simulated time while mail waits for its account, or for what only the gateway knows.
const CAREFUL: i64 = 10;
/// Real time without an event before time jumps: longer than an answer takes on a busy machine while mail is under way, and
/// hardly any when a connection is only kept for the next mail. A jump goes no further than five seconds, since the gateway
/// looks at the clock so often; so an answer may be late many times over before it is too late.
const BUSY: Duration = Duration::from_millis(30);
/// The same while no mail gets through: an answer that comes too late changes nothing then.
const REFUSED: Duration = Duration::from_millis(8);
const IDLE: Duration = Duration::from_millis(4);
/// Size of the RAM disk and of the flash in kB, and what the queue may take of it.
const DISK: usize = 16 << 10;
const SPOOL_LIMIT: &str = "10M";

/// A folder on a small disk where that can be mounted, or else anywhere.
struct Store {
    disk: Option<SmallDisk>,
    /// Where it is without a disk of its own.
    folder: tempfile::TempDir,
}

impl Store {
    fn new() -> Store {
        let folder = tempfile::Builder::new().prefix("smtprelay-half-year-").tempdir().expect("a temp folder");
        Store { disk: SmallDisk::mount(DISK), folder }
    }

    fn path(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.folder.path(), SmallDisk::path).join("spool")
    }

    /// The IDs of the messages in it.
    fn ids(&self) -> impl Iterator<Item = String> {
        let files = fs::read_dir(self.path().join("queue")).into_iter().flatten().flatten();
        files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".msg").map(str::to_owned))
    }

    fn fill(&self) {
        if let Some(disk) = &self.disk {
            disk.leave(0);
        }
    }

    fn clear(&self) {
        if let Some(disk) = &self.disk {
            disk.clear();
        }
    }
}

/// The plant, its gateway, and everything outside.
struct World {
    time: TimeWarp,
    provider: Provider,
    phone: PushServer,
    relay: Relay,
    ram: Store,
    flash: Store,
    random: Random,
    ledger: Ledger,
    /// Numbers of mails given so far.
    numbers: usize,
    kept: Vec<Kept>,
    /// How often a device had to keep its mail.
    refused: usize,
    /// What is wrong at the moment.
    troubles: Vec<Trouble>,
    /// Connections on which nothing is said.
    mute: Vec<Client>,
    /// When the process was started.
    born: i64,
    /// Lines of the log and pushes that are in the ledger.
    read: (usize, usize),
    /// How often the settings were changed.
    changes: usize,
    /// What happened since the last sample, and the lines of the log until then.
    events: Vec<&'static str>,
    logged: usize,
    samples: Vec<Sample>,
}

impl World {
    /// None, with the reason printed, where there is no simulated time.
    async fn start(seed: u64) -> Option<World> {
        let time = TimeWarp::new(MIDNIGHT)?;
        let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").with(plant::slow).start().await;
        let phone = PushServer::start(anything).await;
        let (ram, flash) = (Store::new(), Store::new());
        let account = Section::account("provider", &provider).option("host", "localhost").option("from_policy", "keep");
        let device = |name: &str, mail: Mail| Section::new("device", name).list("ip", address(mail));
        let builder = Relay::builder()
            .relay_option("hostname", "gw.example")
            .relay_option("admin", "admin@example.com")
            .relay_option("notify_boot", "1")
            .relay_option("spool_limit", SPOOL_LIMIT)
            .relay_option("spool", ram.path().display())
            .relay_option("safe_spool", flash.path().display())
            .section(account)
            .section(
                Section::new("channel", "phone")
                    .option("service", "custom")
                    .option("url", format!("{}/alarm", phone.url()))
                    .option("body", r#"{"title":"{subject}","id":"{id}"}"#)
                    .option("ca_file", phone.ca_file()),
            )
            .section(Section::new("route", "to_phone").list("recipient", PHONE).list("account", "phone"))
            .section(device("plc", Mail::Alarm).option("expect_every", "36h"))
            .section(device("camera", Mail::Picture))
            .section(
                device("sensor", Mail::Storm)
                    .option("rate", "2/h")
                    .option("over_rate", "digest")
                    .option("digest_every", "15m"),
            );
        let relay = time.around(builder).start().await;
        if !time.rule(&relay) {
            return None;
        }
        let world = World {
            time,
            provider,
            phone,
            relay,
            ram,
            flash,
            random: Random(seed ^ 1),
            ledger: Ledger::default(),
            numbers: 0,
            kept: Vec::new(),
            refused: 0,
            troubles: Vec::new(),
            mute: Vec::new(),
            born: MIDNIGHT,
            read: (0, 0),
            changes: 0,
            events: Vec::new(),
            logged: 0,
            samples: Vec::new(),
        };
        plant::refuse_gone(&world.provider);
        Some(world)
    }

    fn queued(&self) -> usize {
        self.ram.ids().chain(self.flash.ids()).count()
    }

    /// Lets so many seconds pass, up to the next attempt for which the gateway waits, and so on.
    async fn advance(&self, seconds: i64) {
        let end = self.time.now() + length(seconds);
        loop {
            let (step, quiet) = match (self.queued(), self.troubles.is_empty()) {
                (0, _) => (None, IDLE),
                (_, true) => (self.settle().await, BUSY),
                (_, false) => (None, REFUSED),
            };
            let left = end.saturating_sub(self.time.now());
            if left.is_zero() {
                return;
            }
            self.time.advance(step.map_or(left, |step| left.min(length(step))), quiet).await;
        }
    }

    /// Waits until no delivery is in flight. In how many seconds that may change; none if nothing is in the queue.
    async fn settle(&self) -> Option<i64> {
        let delivery = async {
            loop {
                let mark = self.relay.mark();
                let queue = self.queue().await;
                if !queue.is_in_flight() {
                    return (queue.total > 0).then(|| queue.next.map_or(CAREFUL, |next| next.max(1)));
                }
                self.relay.wait_log_from(mark, |line| field(line, "event").is_some(), IN_FLIGHT).await;
            }
        };
        tokio::time::timeout(IN_FLIGHT, delivery).await.expect("a delivery that ends")
    }

    async fn queue(&self) -> Queue {
        let queue = ask::queue(&self.relay).await;
        let those = |standing: &str| queue.iter().filter(|one| one["standing"] == standing).count();
        let (sending, due) = (those("sending"), those("due"));
        let paused = sending == 0 && due > 0 && {
            let status = ask::json(&self.relay, "status").await;
            status["accounts"].as_array().expect("a list").iter().any(|account| !account["paused"].is_null())
        };
        let next = queue.iter().filter_map(|one| one["next"].as_i64()).min();
        Queue { total: queue.len(), sending, due, paused, next: next.filter(|_| due == 0) }
    }

    /// Lets time pass until then, in seconds since the beginning.
    async fn until(&self, at: i64) {
        let left = MIDNIGHT + at - self.time.wall();
        if left > 0 {
            self.advance(left).await;
        }
    }

    /// Takes everything that was logged and that arrived into the ledger.
    fn book(&mut self) {
        let lines = self.relay.log_from(self.read.0);
        self.read.0 += lines.len();
        self.ledger.log(&lines);
        self.ledger.provider(&self.provider.take_messages());
        let pushes = self.phone.asked();
        for push in &pushes[self.read.1..] {
            self.ledger.push(push.json()["title"].as_str().expect("a title"));
        }
        self.read.1 = pushes.len();
    }

    async fn act(&mut self, act: Act, at: i64) {
        self.events.extend(act.name());
        match act {
            Act::Send(Mail::Storm) => {
                for _ in 0..STORM {
                    self.send(Mail::Storm).await;
                }
            }
            Act::Send(mail) => self.send(mail).await,
            Act::Abort => self.abort().await,
            Act::Silence => self.mute.push(Client::greeted_from(host(9), self.relay.addr()).await),
            Act::Begin(trouble) => self.begin(trouble).await,
            Act::End(trouble) => self.end(trouble).await,
            Act::Renew => plant::renew(&mut self.provider, &self.troubles).await,
            Act::Kill => self.kill().await,
            Act::Reboot => {
                self.relay.sigterm();
                self.relay.wait_exit().await;
                self.boot().await;
            }
            Act::PowerCut => {
                // Mail that waits is on the flash by then.
                self.advance(2 * MINUTE).await;
                self.kill9();
                self.boot().await;
            }
            Act::Settings => self.change_settings().await,
            Act::Reconnect => self.reconnect().await,
            Act::Sample => self.sample(at),
        }
        self.book();
    }

    /// A new mail of this kind.
    async fn send(&mut self, kind: Mail) {
        let number = self.numbers;
        self.numbers += 1;
        let text = kind.text(&name(number), &mut self.random);
        self.offer(Kept { kind, number, text }).await;
    }

    async fn offer(&mut self, mail: Kept) {
        let number = mail.number;
        let mut device = Client::greeted_from(address(mail.kind), self.relay.addr()).await;
        device.set_limit(SOON);
        device.dialogue(&[("EHLO device", 250)]).await;
        let reply = say(&mut device, mail.kind, &mail.text).await;
        match reply.code {
            250 => {
                let id = reply.text().rsplit(' ').next().expect("an ID").to_owned();
                self.ledger.accept(mail.number, &id, mail.kind);
            }
            452 if self.troubles.contains(&Trouble::SpoolFull) => {
                self.refused += 1;
                self.kept.push(mail);
            }
            _ => panic!("{:?}: {reply:?}", mail.kind),
        }
        // Some say QUIT, and some just close.
        if number.is_multiple_of(2) {
            device.dialogue(&[("QUIT", 221)]).await;
        }
    }

    async fn abort(&mut self) {
        let mut device = Client::greeted_from(host(7), self.relay.addr()).await;
        device.command("EHLO printer").await;
        plant::abort(device).await;
    }

    async fn begin(&mut self, trouble: Trouble) {
        let disks = self.ram.disk.is_some() && self.flash.disk.is_some();
        if matches!(trouble, Trouble::FlashFull | Trouble::SpoolFull) && !disks {
            println!("skipped: {trouble:?}");
            return;
        }
        let later = || Fault::Reply("451 4.3.0 Try again later".to_owned());
        let set = |step, fault| self.provider.set_fault(step, fault, Times::Always);
        match trouble {
            Trouble::Down => self.provider.stop().await,
            Trouble::Mail451 => set(Step::Mail, later()),
            Trouble::Rcpt451 => set(Step::AnyRcpt, later()),
            Trouble::Dot451 => set(Step::Dot, later()),
            Trouble::Busy => {
                set(Step::Greeting, Fault::CloseAfterReply("421 4.3.2 Too many connections".to_owned()));
                // Those that are open end as well.
                self.provider.restart().await;
            }
            Trouble::NoName => {
                self.time.set_names(Names::Fail);
                self.provider.restart().await;
            }
            Trouble::FlashFull => {
                self.provider.stop().await;
                self.flash.fill();
            }
            Trouble::SpoolFull => self.ram.fill(),
        }
        self.troubles.push(trouble);
    }

    async fn end(&mut self, trouble: Trouble) {
        if !self.troubles.contains(&trouble) {
            return;
        }
        match trouble {
            Trouble::Down => self.provider.restart().await,
            Trouble::NoName => self.time.set_names(Names::Real),
            Trouble::FlashFull => {
                self.flash.clear();
                // Mail that waits is moved there.
                self.advance(15 * MINUTE).await;
                assert_eq!(self.ram.ids().count(), 0, "mail stays in the RAM disk though the flash has room");
                self.provider.restart().await;
            }
            Trouble::SpoolFull => self.ram.clear(),
            _ => {
                self.provider.clear_faults();
                plant::refuse_gone(&self.provider);
            }
        }
        self.troubles.retain(|one| *one != trouble);
        for mail in std::mem::take(&mut self.kept) {
            self.offer(mail).await;
        }
    }

    async fn kill(&mut self) {
        // In real time, so that they are under way.
        for _ in 0..3 {
            let number = self.numbers;
            self.numbers += 1;
            let mut device = Client::greeted_from(address(Mail::Alarm), self.relay.addr()).await;
            device.dialogue(&[("EHLO device", 250)]).await;
            let text = Mail::Alarm.text(&name(number), &mut self.random);
            let reply = say(&mut device, Mail::Alarm, &text).await;
            assert_eq!(reply.code, 250, "{reply:?}");
            let id = reply.text().rsplit(' ').next().expect("an ID").to_owned();
            self.ledger.accept(number, &id, Mail::Alarm);
        }
        self.kill9();
        self.run().await;
    }

    fn kill9(&mut self) {
        self.relay.kill9();
        self.book();
        let queue = self.ram.ids().chain(self.flash.ids()).collect();
        self.ledger.killed(&queue);
    }

    /// The router starts, with an empty RAM disk.
    async fn boot(&mut self) {
        fs::remove_dir_all(self.ram.path()).expect("empty the RAM disk");
        self.time.reboot();
        self.run().await;
    }

    async fn run(&mut self) {
        self.mute.clear();
        self.relay.restart().await;
        assert!(self.time.rule(&self.relay));
        self.born = self.time.wall();
    }

    async fn change_settings(&mut self) {
        let turn = self.changes;
        self.changes += 1;
        let relay = &mut self.relay;
        match turn % 4 {
            0 => relay.configure("relay", "main", |section| section.option("retry_max", "50m")),
            1 => relay.configure("device", "visitor", |section| section.list("ip", host(10)).option("rate", "9/h")),
            2 => {
                relay.configure("relay", "main", |section| section.option("retry_max", "1h").option("log_subject", "1"))
            }
            _ => relay.take_away("device", "visitor"),
        }
        let mark = relay.mark();
        relay.sighup();
        relay.wait_log_from(mark, |line| field(line, "event") == Some("reloaded"), SOON).await;
    }

    /// As `reload` of the init script, which procd runs when an interface comes up, and as the hotplug script.
    async fn reconnect(&self) {
        // 75: something is missing that may be there a moment later.
        for (command, codes) in
            [("check", [0, 75]), ("reload", [0, 0]), ("check", [0, 75]), ("wake uplink-wan", [0, 0])]
        {
            let ran = run(&self.relay, command).await;
            assert!(codes.contains(&ran.code), "{command}: {ran:?}");
        }
        run(&self.relay, "jail-mounts").await;
    }

    fn sample(&mut self, at: i64) {
        self.book();
        let day = |seconds: i64| seconds as f64 / DAY as f64;
        let night = at % DAY == 3 * HOUR;
        let log = self.read.0 - self.logged;
        self.logged = self.read.0;
        self.samples.push(Sample {
            day: day(self.time.wall() - MIDNIGHT),
            at_rest: night && self.troubles.is_empty() && self.queued() == 0,
            age: day(self.time.wall() - self.born),
            spool: Found::below(&self.ram.path()),
            safe: Found::below(&self.flash.path()),
            secrets: Found::below(&self.relay.dir().join("secrets")),
            accepted: self.ledger.accepted(),
            arrived: self.ledger.arrived(),
            log,
            events: std::mem::take(&mut self.events),
            ..Sample::of(&self.relay)
        });
        // Not before: who is silent has been sent away by the gateway.
        self.mute.clear();
    }
}

fn length(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).expect("time to come"))
}

fn host(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

fn address(mail: Mail) -> IpAddr {
    host(mail.host())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_grows_and_every_mail_is_accounted_for() {
    let days = i64::try_from(number_or("SMTPRELAY_DAYS", 12)).expect("a number of days");
    let seed = number_or("SMTPRELAY_SEED", 1803);
    let began = std::time::Instant::now();
    let Some(mut world) = World::start(seed).await else { return };
    for (at, act) in plan::plan(days, seed) {
        world.until(at).await;
        world.act(act, at).await;
        if act == Act::Sample && at % DAY == 3 * HOUR {
            plant::save(|| samples::table(&world.samples));
        }
    }
    // What is left, within the longest pause between two attempts.
    for _ in 0..70 {
        if world.queued() == 0 {
            break;
        }
        world.advance(MINUTE).await;
    }
    world.book();
    plant::save(|| samples::table(&world.samples));
    let took = began.elapsed();
    println!("SMTPRELAY_DAYS={days} SMTPRELAY_SEED={seed}: {took:.1?}, time jumped {} times", world.time.jumps());
    println!("events: {:?}", world.ledger.events);
    assert_eq!(world.queued(), 0, "mail is left");
    let total = world.ledger.close();
    println!(
        "{} mails accepted, {} delivered, {} of them more than once, {} pushes; {} recipients failed, each reported; {} \
         digests, {} reports; {} times a device had to keep its mail",
        total.accepted,
        total.delivered,
        total.doubled,
        total.pushed,
        total.failed,
        world.ledger.digests,
        world.ledger.reports,
        world.refused
    );
    assert_eq!(world.provider.complaints(), Vec::<String>::new());
    for event in ["set_aside", "unreported", "crashed", "reload_refused"] {
        assert_eq!(world.ledger.events.get(event), None, "event={event}");
    }
    samples::check(&world.samples, if days < 60 { 3.0 } else { 12.0 });
}

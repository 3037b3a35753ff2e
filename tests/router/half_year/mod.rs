// SPDX-License-Identifier: Apache-2.0
//! Half a year on the router: the plan, the mails and the books of `tests/half_year`, the installed package on a machine whose
//! flash wears.
//!
//! `make half-year-router` runs it: `SMTPRELAY_DAYS` sets another length, `SMTPRELAY_SEED` draws other times,
//! `SMTPRELAY_DURABILITY` is that of the gateway, and `SMTPRELAY_SAMPLES` names a file for the samples as CSV.

mod held;
#[path = "../../half_year/ledger.rs"]
mod ledger;
#[allow(dead_code)] // all devices have one address here: that of the machine around the router
#[path = "../../half_year/mails.rs"]
mod mails;
mod pace;
#[path = "../../half_year/plan.rs"]
mod plan;
#[path = "../../half_year/plant.rs"]
mod plant;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use held::Held;
use ledger::{Ledger, name};
use mails::{Mail, PHONE, STORM};
use plan::{Act, DAY, HOUR, MINUTE, Random, Trouble};
use plant::{IN_FLIGHT, Kept, MIDNIGHT, Queue, number_or, say};

use super::SOON;
use super::machine::{Clock, Machine, System};
use super::support;
use super::wear::{Wear, wear};
use support::client::Client;
use support::log::field;
use support::provider::{Fault, Provider, Step, Times, TlsMode};
use support::push_server::PushServer;
use support::push_services::anything;

/// What the RAM disk holds. A router has no more to spare.
const RAM_DISK: &str = "10M";
/// More than the flash holds. JFFS2 ends a long write earlier now and then, with an I/O error, and takes a little more
/// afterwards.
const FILL_FLASH: &str = "head -c 16777216 /dev/urandom >/etc/filler; head -c 262144 /dev/urandom >>/etc/filler";
/// More than the RAM disk holds.
const FILL_RAM: &str = "head -c 16777216 /dev/zero >/tmp/filler";
/// KB that are free at most on what is full.
const FULL: u64 = 128;
/// On these days of each fortnight nobody sends anything: the plant is closed.
const CLOSED: (i64, i64) = (14, 5);
/// After half a minute at most, mail that has waited for 45 s is moved to the flash; in steps of the clock.
const MOVED: i64 = 2 * MINUTE;

/// The plant, its router, and everything outside.
struct Router {
    machine: Machine,
    clock: Clock,
    provider: Provider,
    phone: PushServer,
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
    /// Lines of the console and pushes that are in the ledger.
    read: (usize, usize),
    /// How often the settings were changed.
    changes: usize,
    /// What happened since the last look; lines of the log until then, mails accepted, and what happened to the
    /// flash, which was like this when it was seen last.
    events: Vec<&'static str>,
    logged: usize,
    accepted: usize,
    wear: Wear,
    flash: Vec<u8>,
    looks: Vec<Held>,
    /// How often the clock was set forward.
    steps: usize,
    /// The queue was seen empty, and nothing has happened since.
    at_rest: bool,
}

fn settings(provider: &Provider, phone: &PushServer, durability: &str) -> String {
    let more = format!(
        "option enabled '1'\n\toption durability '{durability}'\n\toption hostname 'gw.example'\n\
         \toption admin 'admin@example.com'\n\toption notify_boot '1'\n\toption retry_max '1h'"
    );
    let url = phone.url().replace("127.0.0.1", "localhost");
    super::settings(provider).replacen("option enabled '1'", &more, 1)
        + "\toption from_policy 'keep'\n"
        + &format!(
            "config channel 'phone'\n\toption service 'custom'\n\toption url '{url}/alarm'\n\
             \toption body '{{\"title\":\"{{subject}}\",\"id\":\"{{id}}\"}}'\n\toption ca_file '/etc/powercut/ca.pem'\n\
             config route 'to_phone'\n\tlist recipient '{PHONE}'\n\tlist account 'phone'\n"
        )
}

impl Router {
    /// None, with the reason printed, without a machine.
    async fn start(seed: u64, durability: &str) -> Option<Router> {
        let Some(kit) = super::kit() else {
            println!("skipped: ROUTER_VM does not name a virtual machine (make half-year-router)");
            return None;
        };
        let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").with(plant::slow).start().await;
        let phone = PushServer::start_with(anything, provider.certs()).await;
        let (settings, ca) = (settings(&provider, &phone, durability), provider.certs().ca_file());
        let mut machine = Machine::router_with_clock(kit.as_ref(), &settings, &ca, System::Jffs2, MIDNIGHT);
        machine.boot().await;
        let (clock, flash) = (machine.clock(), machine.flash());
        let mut router = Router {
            machine,
            clock,
            provider,
            phone,
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
            accepted: 0,
            wear: Wear::default(),
            flash,
            looks: Vec::new(),
            steps: 0,
            at_rest: false,
        };
        plant::refuse_gone(&router.provider);
        router.booted().await;
        Some(router)
    }

    /// Types in a command that has to succeed.
    async fn command(&mut self, command: &str) -> Vec<String> {
        let (code, said) = self.machine.run(command, SOON).await;
        assert_eq!(code, 0, "{command}: {said:?}");
        said
    }

    /// The IDs of the messages in the queue: in the RAM disk, and on the flash.
    fn ids(said: &[String]) -> (HashSet<String>, HashSet<String>) {
        let files = said.iter().filter_map(|line| line.strip_prefix("router: queued ")?.strip_suffix(".msg"));
        let (ram, flash): (Vec<_>, Vec<_>) = files.partition(|file| file.starts_with("/var/"));
        let id = |file: &&str| file.rsplit('/').next().unwrap_or_default().to_owned();
        (ram.iter().map(id).collect(), flash.iter().map(id).collect())
    }

    /// Takes everything that was logged and that arrived into the ledger.
    fn book(&mut self) {
        let lines = self.machine.lines_from(self.read.0);
        self.read.0 += lines.len();
        self.logged += lines.iter().filter(|line| field(line, "event").is_some()).count();
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
        self.at_rest &= matches!(act, Act::Sample);
        match act {
            Act::Send(Mail::Storm) => {
                for _ in 0..STORM {
                    self.send(Mail::Storm).await;
                }
            }
            Act::Send(mail) => self.send(mail).await,
            Act::Abort => plant::abort(super::greeted(&self.machine).await).await,
            Act::Silence => self.mute.push(Client::greeted(self.machine.addr()).await),
            Act::Begin(trouble) => self.begin(trouble).await,
            Act::End(trouble) => self.end(trouble).await,
            Act::Renew => plant::renew(&mut self.provider, &self.troubles).await,
            Act::Kill => self.kill().await,
            Act::Reboot => {
                let now = self.clock.wall();
                let said = self.machine.shut_down("stop; off", SOON).await;
                assert!(
                    said.iter().any(|line| line == "router: the gateway ended with exit code 0"),
                    "{}",
                    said.join("\n")
                );
                self.boot(now).await;
            }
            Act::PowerCut => self.cut().await,
            Act::Settings => self.change_settings().await,
            Act::Reconnect => _ = self.command("reconnect").await,
            Act::Sample => self.look(at).await,
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
        let mut device = super::greeted(&self.machine).await;
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

    async fn begin(&mut self, trouble: Trouble) {
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
                self.forget_names().await;
                self.provider.restart().await;
            }
            Trouble::FlashFull => {
                self.provider.stop().await;
                self.fill(FILL_FLASH, "/").await;
                self.worn();
            }
            Trouble::SpoolFull => {
                self.fill(FILL_RAM, "/tmp").await;
            }
        }
        self.troubles.push(trouble);
    }

    /// Types in what fills the file system of this folder to the end.
    async fn fill(&mut self, command: &str, folder: &str) {
        let (_, said) = self.machine.run(&format!("{command}; df -Pk {folder}"), SOON).await;
        let free =
            said.iter().find_map(|line| line.strip_suffix(folder)?.split_whitespace().nth(3)?.parse::<u64>().ok());
        assert!(free.is_some_and(|free| free <= FULL), "{folder} is not full: {said:?}");
    }

    /// Adds what happened to the flash. What is written and erased again in between would not be seen.
    fn worn(&mut self) {
        let flash = self.machine.flash();
        self.wear += wear(&self.flash, &flash);
        self.flash = flash;
    }

    /// The provider's name is in a file of the router, which is hidden.
    async fn forget_names(&mut self) {
        self.command("echo '127.0.0.1 router' >/tmp/hosts && mount -o bind /tmp/hosts /etc/hosts").await;
    }

    async fn end(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Down => self.provider.restart().await,
            Trouble::NoName => _ = self.command("umount /etc/hosts").await,
            Trouble::FlashFull => {
                self.worn();
                self.command("rm /etc/filler").await;
                // Mail that waits is moved there.
                self.advance(15 * MINUTE).await;
                let (ram, _) = Router::ids(&self.command("queued").await);
                assert!(ram.is_empty(), "mail stays in the RAM disk though the flash has room: {ram:?}");
                self.provider.restart().await;
            }
            Trouble::SpoolFull => _ = self.command("rm /tmp/filler").await,
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

    /// The gateway is killed while mail is under way.
    async fn kill(&mut self) {
        for _ in 0..3 {
            self.send(Mail::Alarm).await;
        }
        let mark = self.machine.mark();
        let said = self.command("read -r pid <$PIDFILE; kill -KILL \"$pid\"; queued").await;
        self.book();
        let (ram, flash) = Router::ids(&said);
        self.ledger.killed(&ram.into_iter().chain(flash).collect());
        self.respawned(mark).await;
        self.mute.clear();
        self.born = self.clock.wall();
    }

    /// The power fails: what is in the RAM disk is gone, and mail that was older than a minute is on the flash.
    async fn cut(&mut self) {
        self.advance(MOVED).await;
        let (_, flash) = Router::ids(&self.command("queued").await);
        let now = self.clock.wall();
        self.machine.cut();
        self.book();
        self.ledger.killed(&flash);
        self.boot(now).await;
    }

    async fn boot(&mut self, now: i64) {
        self.book();
        self.mute.clear();
        self.machine.begin_at(now + 30);
        self.machine.boot().await;
        self.clock = self.machine.clock();
        self.born = self.clock.wall();
        self.booted().await;
        if self.troubles.contains(&Trouble::NoName) {
            self.forget_names().await;
        }
    }

    async fn booted(&mut self) {
        // Neither are tasks stuck that have waited for some ticks.
        let quiet = "echo 0 >/proc/sys/kernel/hung_task_timeout_secs";
        self.command(&format!("mount -o remount,size={RAM_DISK} /tmp && {quiet}")).await;
    }

    async fn change_settings(&mut self) {
        let (from, to) = [("1h", "50m"), ("50m", "1h")][self.changes % 2];
        self.changes += 1;
        let mark = self.machine.mark();
        self.command(&format!("sed -i \"s/retry_max '{from}'/retry_max '{to}'/\" /etc/config/smtprelay && reconnect"))
            .await;
        let came = self.machine.comes(mark, SOON, |line| field(line, "event") == Some("reloaded")).await;
        assert!(came, "the new settings were not read");
    }

    /// What gateway and flash hold now.
    async fn look(&mut self, at: i64) {
        let said = self.command("held; queued").await;
        self.book();
        let value = |name: &str| -> u64 {
            let found = said.iter().filter(|line| line.starts_with("router: ")).find_map(|line| field(line, name));
            found.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {said:?}"))
        };
        let night = at % DAY == 3 * HOUR;
        let last = self.looks.iter().rfind(|look| look.at_rest).map(|look| look.descriptors);
        if night && last.is_some_and(|last| value("descriptors") != last) {
            // For whoever has to find out which it is.
            let which = "ls -l /proc/$pid/fd; cat /proc/net/tcp";
            println!("descriptors before day {}:\n{}", at / DAY, self.command(which).await.join("\n"));
        }
        let (ram, safe) = Router::ids(&said);
        let well = self.troubles.is_empty() && ram.is_empty() && safe.is_empty();
        let usual = well && self.events.is_empty() && self.looks.last().is_none_or(|last| last.well);
        self.worn();
        let day = |seconds: i64| seconds as f64 / DAY as f64;
        self.looks.push(Held {
            day: day(self.clock.wall() - MIDNIGHT),
            at_rest: night && well,
            well,
            usual,
            idle: usual && self.ledger.accepted() == self.accepted,
            age: day(self.clock.wall() - self.born),
            rss: value("rss"),
            private: value("private"),
            anonymous: value("anonymous"),
            descriptors: value("descriptors"),
            threads: value("threads"),
            spool: (value("spool_files"), value("spool_bytes")),
            safe: (value("safe_files"), value("safe_bytes")),
            free: value("flash"),
            wear: std::mem::take(&mut self.wear),
            accepted: self.ledger.accepted(),
            arrived: self.ledger.arrived(),
            log: self.logged,
            events: std::mem::take(&mut self.events),
        });
        (self.accepted, self.logged) = (self.ledger.accepted(), 0);
        // Not before: who is silent has been sent away by the gateway.
        self.mute.clear();
    }
}

/// Whether this is done here: two looks per day are enough, and on some days the plant is closed.
fn is_done(at: i64, act: Act) -> bool {
    match act {
        Act::Sample => matches!(at % DAY / HOUR, 3 | 15),
        Act::Send(_) | Act::Abort | Act::Silence => at / DAY % CLOSED.0 != CLOSED.1,
        _ => true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make half-year-router"]
async fn nothing_grows_on_a_router_and_every_mail_is_accounted_for() {
    let days = i64::try_from(number_or("SMTPRELAY_DAYS", 180)).expect("a number of days");
    let seed = number_or("SMTPRELAY_SEED", 1803);
    let durability = std::env::var("SMTPRELAY_DURABILITY").unwrap_or_else(|_| "deferred".to_owned());
    let began = Instant::now();
    let Some(mut router) = Router::start(seed, &durability).await else { return };
    for (at, act) in plan::plan(days, seed).into_iter().filter(|(at, act)| is_done(*at, *act)) {
        router.until(MIDNIGHT + at).await;
        router.act(act, at).await;
        if act == Act::Sample {
            plant::save(|| held::table(&router.looks));
            if at % DAY == 3 * HOUR {
                println!("day {}: {:.0?}", at / DAY, began.elapsed());
            }
        }
    }
    // What is left, within the longest pause between two attempts.
    for _ in 0..70 {
        if router.ledger.waiting() == 0 {
            break;
        }
        router.advance(MINUTE).await;
    }
    router.book();
    plant::save(|| held::table(&router.looks));
    let took: Duration = began.elapsed();
    println!(
        "SMTPRELAY_DAYS={days} SMTPRELAY_SEED={seed} {durability}: {took:.0?}, the clock was set forward {} times, {} boots",
        router.steps,
        router.machine.boots.len()
    );
    println!("events: {:?}", router.ledger.events);
    let total = router.ledger.close();
    println!(
        "{} mails accepted, {} delivered, {} of them more than once, {} pushes; {} recipients failed, each reported; {} \
         reports; {} times a device had to keep its mail",
        total.accepted,
        total.delivered,
        total.doubled,
        total.pushed,
        total.failed,
        router.ledger.reports,
        router.refused
    );
    assert_eq!(router.provider.complaints(), Vec::<String>::new());
    for event in ["set_aside", "unreported", "crashed", "reload_refused"] {
        assert_eq!(router.ledger.events.get(event), None, "event={event}");
    }
    held::check(&router.looks, if days < 60 { 3.0 } else { 12.0 }, &durability);
    router.machine.shut_down("stop; off", SOON).await;
}

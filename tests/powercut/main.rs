// SPDX-License-Identifier: Apache-2.0
//! What a power cut leaves: the gateway runs in a virtual machine, and the machine is killed in the middle of a load.
//!
//! `scripts/powercut.sh` makes kernel and initramfs of a computer and names their folder in `POWERCUT_VM`;
//! `scripts/router.sh` makes those of a router and names theirs in `ROUTER_VM`. Without them there is nothing to run. docs/developer/testing.md says what this proves and what not.

mod load;
mod machine;
#[path = "../support/mod.rs"]
mod support;
mod tally;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use load::{Dice, LATE, Load};
use machine::{Machine, System, damage_by_a_cut};
use support::log::field;
use support::provider::{Fault, Provider, Record, Step, Times, TlsMode};
use support::push_server::PushServer;
use support::push_services::anything;
use tally::Tally;
use tokio::sync::Semaphore;

const SOON: Duration = Duration::from_secs(240);
/// Connections to the provider: as many messages can be under way at a cut, and come again.
const CONNECTIONS: usize = 3;
/// What `deferred` may lose: mail younger than this.
const YOUNG: Duration = Duration::from_secs(60);

/// The folder with kernel and initramfs of the machine that has this file system.
fn kit(system: System) -> Option<PathBuf> {
    let (variable, target) = match system.is_on_flash() {
        true => ("ROUTER_VM", "test-router"),
        false => ("POWERCUT_VM", "test-powercut"),
    };
    let kit = std::env::var_os(variable).map(PathBuf::from);
    if kit.is_none() {
        println!("skipped: {variable} does not name a virtual machine (make {target})");
    }
    kit
}

/// The number of cuts on a file system: the usual one, or what `POWERCUT_CUTS` says.
fn cuts(usual: usize) -> usize {
    number("POWERCUT_CUTS").unwrap_or(usual)
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A new seed, or the one in `POWERCUT_SEED`; printed, so that the run can be repeated.
fn seed(test: &str) -> u64 {
    let named = std::env::var("POWERCUT_SEED").ok().map(|seed| seed.parse().expect("POWERCUT_SEED is a number"));
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let seed = named.unwrap_or_else(now);
    println!("{test}: POWERCUT_SEED={seed}");
    seed
}

/// Prints a row of the table in docs/developer/testing.md, "What the power cuts showed".
fn row(system: System, durability: &str, figures: &Outcome) {
    let Outcome { cuts, accepted, safe, safe_lost, lost, doubled, set_aside } = figures;
    println!(
        "| file system | durability | cuts | accepted | had to survive | of these lost | others lost | delivered twice | set aside |\n\
         | {} | `{durability}` | {cuts} | {accepted} | {safe} | {safe_lost} | {lost} | {doubled} | {set_aside} |",
        system.label()
    );
}

async fn provider() -> Provider {
    Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await
}

/// A machine whose gateway sends to this provider, and whose disk has this file system.
fn machine(kit: &std::path::Path, provider: &Provider, durability: &str, spool: &str, system: System) -> Machine {
    Machine::new(kit, &settings(provider, durability, spool), &provider.certs().ca_file(), system)
}

/// The settings of its gateway.
fn settings(provider: &Provider, durability: &str, spool: &str) -> String {
    let port = provider.port();
    format!(
        "config relay 'main'\n\toption user 'root'\n\toption spool '{spool}'\n\toption safe_spool '/safe'\n\
         \toption durability '{durability}'\n\toption spool_limit '64M'\n\
         config listener 'lan'\n\tlist address '0.0.0.0'\n\toption port '25'\n\tlist allow '10.0.2.0/24'\n\
         config account 'provider'\n\toption provider 'custom'\n\toption host 'localhost'\n\toption port '{port}'\n\
         \toption tls 'implicit'\n\toption ca_file '/etc/powercut/ca.pem'\n\toption username 'u'\n\
         \toption password 'p'\n\toption from 'relay@provider.example'\n\toption from_policy 'keep'\n\
         \toption connections '{CONNECTIONS}'\n"
    )
}

/// Makes one of the recipients wait.
fn late(provider: &Provider) {
    let fault = Fault::Reply("451 4.7.1 Not now".into());
    provider.set_fault(Step::Rcpt(LATE.into()), fault, Times::Always);
}

/// The number of messages that the provider has seen, when it has read all that was on its way at the cut.
async fn seen(provider: &Provider) -> usize {
    let quiet = |record: &Record| {
        record.connections.iter().all(|connection| connection.closed).then_some(record.attempts.len())
    };
    provider.wait_until("the end of all connections", SOON, quiet).await
}

/// Boots with a provider that takes everything, and waits until the queue that was found is empty.
async fn boot_and_drain(machine: &mut Machine, provider: &Provider) {
    provider.clear_faults();
    provider.restart().await;
    machine.boot().await;
    let recovered = |line: &String| {
        let line = Some(line).filter(|line| field(line, "event") == Some("recovered"))?;
        field(line, "messages")?.parse().ok()
    };
    let said = machine.said();
    let count: usize = said.iter().find_map(recovered).unwrap_or(0);
    // What turns out to be damaged is set aside in place of being delivered; what was found so before is not counted.
    let is_damaged = |line: &str| field(line, "event") == Some("set_aside");
    let before = said.iter().take_while(|line| recovered(line).is_none()).filter(|line| is_damaged(line)).count();
    let is_done = |line: &str| field(line, "event") == Some("removed") || is_damaged(line);
    machine.wait_for_count("removed", before + count, SOON, is_done).await;
}

/// Seconds per boot and what the check of the file system said, for the record.
fn about(machine: &Machine) -> String {
    let mean = machine.boots.iter().sum::<f64>() / machine.boots.len() as f64;
    let most = machine.boots.iter().copied().fold(0.0, f64::max);
    let clean = machine.checks.iter().filter(|said| *said == "clean").count();
    let dirty: Vec<&String> = machine.checks.iter().filter(|said| *said != "clean").collect();
    let mut text = format!(
        "{} boots of {mean:.1} s (at most {most:.1}), file system clean after {clean} of {} cuts",
        machine.boots.len(),
        machine.checks.len()
    );
    dirty.iter().for_each(|said| text.push_str(&format!("\n{said}")));
    text
}

/// What the provider does while mail comes in.
#[derive(Clone, Copy, Debug)]
enum Mood {
    /// Refuses connections: the queue is long at the cut.
    Refuses,
    /// Lets one of the recipients wait: messages are delivered in part at the cut.
    InPart,
    /// Takes everything: messages are on their way at the cut.
    Takes,
    /// Puts some messages off whole.
    Defers,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn always_loses_nothing() {
    always(System::Ext4, cuts(12)).await;
}

/// What OpenWrt's ext4 images are. Nothing checks it before it is mounted. By hand: what a cut damages there stays damaged, and
/// nobody can promise what the kernel does with it after the next ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "docs/developer/testing.md"]
async fn always_loses_nothing_without_a_journal() {
    always(System::Plain, cuts(4)).await;
}

/// The file systems of USB sticks and of routers with large flash. None may be checked or mended before it is mounted, but for
/// those that can be damaged by the cut itself ([`damage_by_a_cut`]): when one has become read-only, and exFAT before its
/// queue is emptied as well. On vfat that may be one cut of four, or of ten: more would be a step that is missing. What such
/// an exFAT was given since it was checked last may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn always_loses_nothing_on_vfat() {
    always(System::Vfat, cuts(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn always_loses_nothing_on_exfat() {
    always(System::Exfat, cuts(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn always_loses_nothing_on_f2fs() {
    always(System::F2fs, cuts(2)).await;
}

/// The flash of a router.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn always_loses_nothing_on_jffs2() {
    always(System::Jffs2, cuts(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn always_loses_nothing_on_ubifs() {
    always(System::Ubifs, cuts(4)).await;
}

/// One machine and these cuts of its power.
async fn always(system: System, cuts: usize) {
    let Some(kit) = kit(system) else { return };
    let mut dice = Dice(seed("always"));
    let provider = provider().await;
    let mut machine = machine(&kit, &provider, "always", "/spool", system);
    let mut tally = Tally::default();
    // What exFAT has been given since it was checked last, if a cut has damaged it in that time.
    let (mut checked, mut at_risk) = (0, HashSet::new());
    for cut in 0..cuts {
        let start = Instant::now();
        let mood = [Mood::Refuses, Mood::InPart, Mood::Takes, Mood::Defers][cut % 4];
        provider.clear_faults();
        provider.restart().await;
        match mood {
            Mood::Refuses => provider.stop().await,
            Mood::InPart => late(&provider),
            Mood::Takes => {}
            Mood::Defers => provider.set_fault(Step::Dot, Fault::Reply("451 4.3.0 Later".into()), Times::First(20)),
        }
        // What the cuts before have left in the queue goes out beside the new mail.
        machine.boot().await;
        let moment = 30 + usize::try_from(dice.below(150)).expect("a small number");
        let load = Load::start(machine.addr(), &format!("c{cut}"), usize::MAX, &mut dice).await;
        load.wait(moment).await;
        // Not always just after a 250: somewhere in what the disk does for the next ones.
        tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
        let said = machine.cut();
        let heard = load.finish_anyhow().await;
        let accepted = heard.promises.len();
        tally.promises.extend(heard.promises);
        tally.cut(&said, seen(&provider).await);
        // What was accepted until the kernel gave up has to be there all the same, but for exFAT.
        let damage = damage_by_a_cut(system);
        let is_damaged = damage.is_some_and(|words| said.iter().any(|line| line.contains(words)));
        // Without a journal the maps of the file system are wrong after a cut: an inode that is in use is not taken again, and
        // that is an error.
        let unsound = system == System::Plain;
        assert!(is_damaged || unsound || heard.refusals.is_empty(), "refused on {system:?}: {:?}", heard.refusals);
        if is_damaged {
            println!("always on {system:?}, cut {}: the file system became read-only: {:?}", cut + 1, heard.refusals);
            tally.gave_up();
            machine.mend();
            if system == System::Exfat {
                at_risk.extend(tally.promises[checked..].iter().map(|promise| promise.name.clone()));
                checked = tally.promises.len();
            }
        }
        let waiting = tally.missing(&provider.record()).len();
        println!(
            "always on {system:?}, cut {}: provider {mood:?}, {accepted} accepted, {} refused, {waiting} wait, boot {:.1} s, round {:.1} s",
            cut + 1,
            heard.refusals.len(),
            machine.boots.last().copied().unwrap_or_default(),
            start.elapsed().as_secs_f64()
        );
        if cut % 4 == 3 || cut + 1 == cuts {
            if system == System::Exfat {
                machine.mend();
                checked = tally.promises.len();
            }
            boot_and_drain(&mut machine, &provider).await;
            let record = provider.record();
            let mut lost = tally.missing(&record);
            lost.retain(|promise| !at_risk.contains(&promise.name));
            assert!(lost.is_empty(), "lost: {lost:?}");
            tally.cut(&machine.cut(), seen(&provider).await);
        }
    }
    // Nothing that was done comes back.
    boot_and_drain(&mut machine, &provider).await;
    tally.cut(&machine.cut(), seen(&provider).await);
    let record = provider.record();
    let doubled = tally.doubled(&record);
    let (others, lost): (Vec<_>, Vec<_>) =
        tally.missing(&record).into_iter().partition(|promise| at_risk.contains(&promise.name));
    row(
        system,
        "always",
        &Outcome {
            cuts,
            accepted: tally.promises.len(),
            safe: tally.promises.len() - at_risk.len(),
            safe_lost: lost.len(),
            lost: others.len(),
            doubled: doubled.total(),
            set_aside: tally.set_aside,
        },
    );
    println!(
        "always on {system:?}: {} cuts in the middle of a load, {} accepted, 0 lost, {} arrived whose 250 the cut kept back, {} doubled \
         (taken by the provider and not yet written down at the cut; at most {} at one cut, {CONNECTIONS} connections), \
         {} damaged files put aside; {}",
        cuts,
        tally.promises.len(),
        tally.unpromised(&record),
        doubled.total(),
        doubled.most(),
        tally.set_aside,
        about(&machine)
    );
    assert!(doubled.most() <= CONNECTIONS, "more came again than can have been under way: {doubled:?}");
    assert!(system != System::Vfat || tally.given_up() <= cuts.div_ceil(10), "damaged by {} cuts", tally.given_up());
    assert!(tally.promises.len() >= (cuts - tally.given_up()) * 30, "hardly anything was accepted before the cuts");
    assert_eq!(record.complaints, [""; 0]);
}

/// A channel at this server.
fn channel(name: &str, server: &PushServer) -> String {
    let url = server.url().replace("127.0.0.1", "localhost");
    format!(
        "config channel '{name}'\n\toption service 'custom'\n\toption url '{url}/{name}'\n\
         \toption body '{{\"title\":\"{{subject}}\"}}'\n\toption ca_file '/etc/powercut/ca.pem'\n"
    )
}

/// How often each message has come to a channel.
fn pushed(server: &PushServer) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    for asked in server.asked() {
        *found.entry(asked.json()["title"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    found
}

/// Some recipients are reached through a channel, and what the provider does not take within seconds is escalated to another
/// one: mail is on its way to all three at the cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn always_loses_nothing_with_channels() {
    let Some(kit) = kit(System::Ext4) else { return };
    let cuts = cuts(6);
    let mut dice = Dice(seed("channels"));
    let provider = provider().await;
    let certs = provider.certs();
    let (phone, siren) = (PushServer::start_with(anything, certs).await, PushServer::start_with(anything, certs).await);
    let more = format!(
        "config route\n\tlist recipient '{LATE}'\n\tlist account 'phone'\n\
         config escalation 'all'\n\toption after '10s'\n\tlist account 'siren'\n"
    );
    let all =
        [settings(&provider, "always", "/spool"), channel("phone", &phone), channel("siren", &siren), more].concat();
    let mut machine = Machine::new(&kit, &all, &certs.ca_file(), System::Ext4);
    let (mut tally, mut late, mut escalated) = (Tally::default(), Vec::new(), HashMap::<String, usize>::new());
    let mut count = |said: &[String]| {
        for line in said.iter().filter(|line| field(line, "event") == Some("escalated")) {
            *escalated.entry(field(line, "id").unwrap_or_default().to_owned()).or_default() += 1;
        }
    };
    for cut in 0..cuts {
        provider.restart().await;
        // A message that a recipient of the channel has is not escalated: his channel is down as well then.
        let refuses = cut % 3 != 1;
        if refuses {
            provider.stop().await;
            phone.stop().await;
        }
        machine.boot().await;
        // An emulated machine has no time for requests while it is flooded.
        let each = if refuses { 2 } else { usize::MAX };
        let load = Load::start(machine.addr(), &format!("c{cut}"), each, &mut dice).await;
        load.wait(30 + usize::try_from(dice.below(40)).expect("a small number")).await;
        let begun = siren.asked().len();
        if refuses {
            siren.wait(begun + 2 + usize::try_from(dice.below(10)).expect("a small number")).await;
            if cut % 3 == 2 {
                phone.resume();
                phone.wait(phone.asked().len() + 1).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
        let said = machine.cut();
        count(&said);
        let mut promises = load.finish().await;
        for promise in &mut promises {
            let before = promise.recipients.len();
            promise.recipients.retain(|recipient| *recipient != LATE);
            late.extend((promise.recipients.len() < before).then(|| promise.name.clone()));
        }
        println!(
            "with channels, cut {}: {} accepted, {} escalated so far",
            cut + 1,
            promises.len(),
            siren.asked().len()
        );
        tally.promises.extend(promises);
        tally.cut(&said, seen(&provider).await);
        if refuses && cut % 3 == 0 {
            phone.resume();
        }
    }
    boot_and_drain(&mut machine, &provider).await;
    let said = machine.cut();
    count(&said);
    tally.cut(&said, seen(&provider).await);
    let record = provider.record();
    let lost = tally.missing(&record);
    assert!(lost.is_empty(), "lost: {lost:?}");
    let (phone, siren) = (pushed(&phone), pushed(&siren));
    let lost: Vec<&String> = late.iter().filter(|name| !phone.contains_key(*name)).collect();
    assert!(lost.is_empty(), "lost on the way to the channel: {lost:?}");
    let twice = |found: &HashMap<String, usize>| found.values().map(|count| count - 1).sum::<usize>();
    let doubled = tally.doubled(&record);
    println!(
        "with channels: {cuts} cuts, {} accepted and 0 lost, {} of them for a channel; {} escalated; doubled: {} by mail, {} through \
         the channel, {} as a step (at most {CONNECTIONS}, 1 and 1 at each cut); {}",
        tally.promises.len(),
        late.len(),
        siren.len(),
        doubled.total(),
        twice(&phone),
        twice(&siren),
        about(&machine)
    );
    assert!(doubled.most() <= CONNECTIONS, "more came again than can have been under way: {doubled:?}");
    assert!(twice(&phone) <= cuts && twice(&siren) <= cuts, "{phone:?} {siren:?}");
    assert!(escalated.values().all(|times| *times == 1), "a step began twice: {escalated:?}");
    assert!(!siren.is_empty(), "nothing was escalated");
    assert_eq!(record.complaints, [""; 0]);
}

/// When the power is cut with `deferred`.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The provider is down; some of the mail has been moved to the disk, some has not.
    AmidTheMove,
    /// The provider is down; all older mail has been moved, younger mail comes in.
    AfterTheMove,
    /// As `AfterTheMove`, but the older mail was delivered to some of its recipients before it was moved.
    AfterPart,
}

/// In this order.
const MOMENTS: [Moment; 3] = [Moment::AfterTheMove, Moment::AmidTheMove, Moment::AfterPart];
/// Machines that wait for their minute side by side, unless `POWERCUT_MACHINES` says another number.
const MACHINES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deferred_loses_only_the_youngest() {
    deferred_on(&[(System::Ext4, 3), (System::Vfat, 1), (System::F2fs, 0), (System::Exfat, 0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deferred_loses_only_the_youngest_on_a_router() {
    deferred_on(&[(System::Jffs2, 1), (System::Ubifs, 1)]).await;
}

/// These file systems, each with its usual number of cuts or that in `POWERCUT_CUTS`; each cut is one of a new machine.
/// Side by side, because nearly all of their time is the minute of waiting.
async fn deferred_on(systems: &[(System, usize)]) {
    let seed = seed("deferred");
    let machines = number("POWERCUT_MACHINES").unwrap_or(MACHINES);
    let (mut runs, room) = (Vec::new(), Arc::new(Semaphore::new(machines)));
    let most = systems.iter().map(|(_, usual)| cuts(*usual)).max().unwrap_or(0);
    // In turn: a run that is stopped has seen all of them.
    for (cut, moment) in MOMENTS.into_iter().cycle().take(most).enumerate() {
        for &(system, _) in systems.iter().filter(|(_, usual)| cut < cuts(*usual)) {
            let Some(kit) = kit(system) else { return };
            let (room, dice) = (Arc::clone(&room), Dice(seed ^ cut as u64));
            let run = async move {
                let _place = room.acquire().await.expect("a place for a machine");
                deferred(kit, moment, system, dice).await
            };
            runs.push((system, tokio::spawn(run)));
        }
    }
    let mut totals: Vec<(System, Outcome)> = systems.iter().map(|(system, _)| (*system, Outcome::default())).collect();
    for (system, run) in runs {
        match run.await {
            Ok(outcome) => totals.iter_mut().filter(|(of, _)| *of == system).for_each(|(_, sum)| sum.add(&outcome)),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
    for (system, sum) in totals.iter().filter(|one| one.1.cuts > 0) {
        row(*system, "deferred", sum);
    }
}

/// Figures of cuts.
#[derive(Default)]
struct Outcome {
    cuts: usize,
    accepted: usize,
    /// What the durability promises to keep: with `deferred` what was moved to the disk, or delivered, before the cut.
    safe: usize,
    safe_lost: usize,
    /// Others that were lost.
    lost: usize,
    doubled: usize,
    set_aside: usize,
}

impl Outcome {
    fn add(&mut self, other: &Outcome) {
        self.cuts += other.cuts;
        self.accepted += other.accepted;
        self.safe += other.safe;
        self.safe_lost += other.safe_lost;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.set_aside += other.set_aside;
    }
}

/// The id of a message of which this line of the console says that it is no longer in the RAM disk.
fn left_ram(line: &str) -> Option<&str> {
    let removed = Some(line).filter(|line| field(line, "event") == Some("removed")).and_then(|line| field(line, "id"));
    removed.or_else(|| line.strip_prefix("powercut: gone ")?.strip_suffix(".msg"))
}

/// One cut.
async fn deferred(kit: PathBuf, moment: Moment, system: System, mut dice: Dice) -> Outcome {
    let provider = provider().await;
    let mut machine = machine(&kit, &provider, "deferred", "/spool", system);
    let mut tally = Tally::default();
    match moment {
        Moment::AmidTheMove | Moment::AfterTheMove => provider.stop().await,
        Moment::AfterPart => late(&provider),
    }
    machine.boot().await;
    let older = Load::start(machine.addr(), "older", 2, &mut dice).await.finish().await;
    let younger = match moment {
        Moment::AmidTheMove => {
            let some = usize::try_from(dice.below(older.len() as u64 / 2)).expect("a small number");
            machine.wait_for_count("moved to the disk", some + 1, SOON, |line| left_ram(line).is_some()).await;
            tokio::time::sleep(Duration::from_millis(dice.below(100))).await;
            None
        }
        Moment::AfterTheMove | Moment::AfterPart => {
            let ids: Vec<&str> = older.iter().map(|promise| promise.id.as_str()).collect();
            machine.wait_for_each("moved to the disk, or delivered", &ids, SOON, left_ram).await;
            let younger = Load::start(machine.addr(), "younger", usize::MAX, &mut dice).await;
            younger.wait(50 + usize::try_from(dice.below(100)).expect("a small number")).await;
            Some(younger)
        }
    };
    let cut_at = Instant::now();
    let said = machine.cut();
    let older_count = older.len();
    tally.promises = older;
    if let Some(younger) = younger {
        tally.promises.extend(younger.finish().await);
    }
    tally.cut(&said, seen(&provider).await);
    let moved: HashSet<&str> = said.iter().filter_map(|line| left_ram(line)).collect();

    boot_and_drain(&mut machine, &provider).await;
    let record = provider.record();
    let lost = tally.missing(&record);
    for promise in &lost {
        let trace = || said.iter().filter(|line| line.contains(&promise.id)).cloned().collect::<Vec<_>>().join("\n");
        assert!(!moved.contains(promise.id.as_str()), "{promise:?} was on the disk, and is lost\n{}", trace());
    }
    let safe = tally.promises.iter().filter(|promise| moved.contains(promise.id.as_str())).count();
    let age = |at: Instant| cut_at.saturating_duration_since(at);
    let oldest = lost.iter().map(|promise| age(promise.at)).max().unwrap_or_default();
    let doubled = tally.doubled(&record);
    let damaged = |line: &&String| field(line, "event") == Some("set_aside");
    let set_aside = tally.set_aside + machine.said().iter().filter(damaged).count();
    println!(
        "deferred on {system:?}, cut {moment:?}: {older_count} older and {} younger accepted, {} moved or delivered before the cut: \
         0 of these lost; {} others lost, the oldest {:.1} s old: not moved yet, as the promise allows; {} doubled, \
         {set_aside} damaged files put aside; {}",
        tally.promises.len() - older_count,
        safe,
        lost.len(),
        oldest.as_secs_f64(),
        doubled.total(),
        about(&machine)
    );
    if !matches!(moment, Moment::AmidTheMove) {
        let old: Vec<_> = lost.iter().filter(|promise| age(promise.at) >= YOUNG).collect();
        assert!(old.is_empty(), "older than {YOUNG:?} and lost: {old:?}");
        assert!(!lost.is_empty(), "the RAM disk has survived: this was no power cut");
    }
    assert!(doubled.most() <= CONNECTIONS, "more came again than can have been under way: {doubled:?}");
    assert_eq!(record.complaints, [""; 0]);
    let (accepted, safe_lost) = (tally.promises.len(), 0);
    Outcome { cuts: 1, accepted, safe, safe_lost, lost: lost.len(), doubled: doubled.total(), set_aside }
}

/// The check of the check: mail on the same disk that nobody has synced does not survive.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_synced_is_lost() {
    unsynced(System::Ext4).await;
}

/// By hand, for the table: the kernel writes most of it of its own accord here, so that one day nothing may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "docs/developer/testing.md"]
async fn what_is_not_synced_is_lost_on_vfat() {
    unsynced(System::Vfat).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_synced_is_lost_on_f2fs() {
    unsynced(System::F2fs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_synced_is_lost_on_exfat() {
    unsynced(System::Exfat).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_synced_is_lost_on_ubifs() {
    unsynced(System::Ubifs).await;
}

/// JFFS2 writes at once: it can't show that something is synced, and a test on it alone would prove nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_synced_is_kept_on_jffs2() {
    unsynced(System::Jffs2).await;
}

/// A cut with the durability that does not sync, and the queue on the disk all the same.
async fn unsynced(system: System) {
    let Some(kit) = kit(system) else { return };
    let mut dice = Dice(seed("memory"));
    let provider = provider().await;
    provider.stop().await;
    let mut machine = machine(&kit, &provider, "memory", "/safe/unsynced", system);
    let mut tally = Tally::default();
    machine.boot().await;
    let load = Load::start(machine.addr(), "unsynced", usize::MAX, &mut dice).await;
    load.wait(100).await;
    let said = machine.cut();
    tally.promises = load.finish().await;
    tally.cut(&said, seen(&provider).await);
    // Nothing was synced, the chains of clusters of these neither: the gateway could not make its folder.
    if matches!(system, System::Exfat | System::Vfat) {
        machine.mend();
    }
    boot_and_drain(&mut machine, &provider).await;
    let record = provider.record();
    let lost = tally.missing(&record).len();
    let damaged = |line: &&String| field(line, "event") == Some("set_aside");
    let figures = Outcome {
        cuts: 1,
        accepted: tally.promises.len(),
        safe: 0,
        safe_lost: 0,
        lost,
        doubled: tally.doubled(&record).total(),
        set_aside: tally.set_aside + machine.said().iter().filter(damaged).count(),
    };
    row(system, "memory", &figures);
    println!("memory on {system:?}: {}", about(&machine));
    assert_eq!(lost > 0, system != System::Jffs2, "{system:?} is not what it was taken for, or this was no power cut");
}

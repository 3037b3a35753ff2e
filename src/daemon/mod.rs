// SPDX-License-Identifier: Apache-2.0
//! The running program: startup, changes of settings and addresses, and shutdown.
//!
//! [`startup`] does what only root can do, and then gives up root. [`run`] connects the parts and handles signals.
//! [`reload`] applies new settings and has root open what the gateway may not open itself, [`boot_mail`] sends the mail
//! after a boot of the router.

pub mod boot_mail;
pub mod reload;
pub mod startup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::boot_mail::LastRun;
use self::reload::SettingsKeeper;
use self::startup::Prepared;
use crate::VERSION;
use crate::config::Settings;
use crate::control::reload::ReloadDesk;
use crate::control::{self, Api};
use crate::dispatch::{Dispatch, Inputs};
use crate::inbound::accept::{LOCAL_SOCKET, open_local, run_local};
use crate::inbound::listener::Listeners;
use crate::intake::Desk;
use crate::oauth;
use crate::queue::{Found, Item, Meta, Spool, State, blocking};
use crate::report::{self, Event, Hook, history, observe};
use crate::system::task::{self, spawn};
use crate::system::{clock, logging};
use crate::ubus::daemons;

/// Orders that may wait for the dispatcher.
const ORDERS: usize = 16;
/// Orders about the settings that may wait.
const RELOADS: usize = 4;
/// Events that may wait for the hook.
const HOOK_EVENTS: usize = 512;
/// Messages that were begun since the dispatcher last looked.
const EXPECTED: usize = 16;
/// Messages of an earlier run that are read at once.
const READ_AT_ONCE: usize = 64;

/// How long a shutdown waits for a login that is being renewed: the new token must reach the disk.
const LOGIN_PATIENCE: Duration = Duration::from_secs(3);

/// What the owner should know about the settings, in addition to warnings about single lines.
fn advise(settings: &Settings) {
    if settings.relay.safe_spool.is_none() {
        Event::Advice { text: settings.relay.promise() }.log();
    }
}

/// Runs until SIGTERM or SIGINT. SIGHUP reloads the settings, if the program still has the right to read them.
///
/// # Errors
/// If the program cannot start; the reason names the setting to change.
pub async fn run(prepared: Prepared) -> Result<()> {
    let Prepared { file, settings, sum, warnings, advice, spool, lock: _lock, sockets, hook, ubus } = prepared;
    // Before anything else: an early SIGHUP would terminate a program that does not handle it yet.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (history, events) = history::open(&settings.relay.spool);
    let hook = match (hook, settings.relay.hook.clone()) {
        (Some(helper), Some(program)) => Some(Hook::by(helper, program)),
        // Without root it can still be tried.
        (_, program) => program.map(Hook::new),
    };
    let hook = hook.map(|hook| spawn(hook.run(observe(HOOK_EVENTS))));
    let last_run = LastRun::read(&settings.relay);
    let found = {
        let spool = Arc::clone(&spool);
        task::blocking(move || spool.scan()).await.context("reading the queue")?
    };
    if !found.is_empty() {
        Event::Recovered { messages: found.len(), bytes: found.iter().map(|f| f.size).sum() }.log();
    }
    advice.into_iter().for_each(|text| Event::Advice { text }.log());
    advise(&settings);
    let waiting = (found.len(), found.iter().map(|f| f.size).sum());

    let (arrivals_in, arrivals) = mpsc::unbounded_channel();
    let (expected_in, expected) = mpsc::channel(EXPECTED);
    let (orders_in, orders) = mpsc::channel(ORDERS);
    let (recovered_in, recovered) = mpsc::channel(1);
    let (stop_intake, intake_stopped) = watch::channel(false);
    let (stop_dispatch, stop) = watch::channel(false);
    let desk = Desk::new(Arc::clone(&spool), arrivals_in, expected_in);
    let directory = settings.relay.spool.clone();
    // Devices come first: a gateway without its local sockets is still useful.
    let local = open_local(&directory).map_err(|error| without("smtprelay send", &error)).ok();
    let asking = control::socket::open(&directory).map_err(|error| without("smtprelay queue", &error)).ok();
    let (publish, current) = watch::channel(Arc::new(settings));
    let sockets = Arc::new(sockets);
    let listeners = Listeners::open(current.clone(), desk.clone(), intake_stopped.clone(), Arc::clone(&sockets));
    // Not before: whoever reads this may connect.
    Event::Started { version: VERSION }.log();
    let keeper = SettingsKeeper::new((file, sum), warnings, publish.clone(), sockets);
    let (reloads_in, mut reloads) = mpsc::channel(RELOADS);
    let reload = ReloadDesk { orders: reloads_in, standing: keeper.standing(), listeners: listeners.shown() };
    let api = Api::new(publish, Arc::clone(&spool), orders_in, Arc::clone(&history), reload);
    let api = Arc::new(api.with_rates(Arc::clone(desk.rates())));
    let ubus = spawn(control::ubus::run(ubus, Arc::clone(&api), stop.clone()));
    let idle = || spawn(async {});
    let control = asking.map_or_else(idle, |socket| spawn(control::socket::run(socket, api, stop.clone())));
    let repeats = spawn(report::repeats::run(stop.clone()));
    let chronicle = spawn(history::run(Arc::clone(&history), events, directory.clone(), stop.clone()));
    let announcing = spawn(boot_mail::run(current.clone(), desk.clone(), last_run, waiting));
    oauth::keeper::begin(current.clone(), stop.clone());
    let dispatch = Dispatch::new(current.clone(), Arc::clone(&spool), desk.clone());
    let dispatch = spawn(dispatch.run(Inputs { arrivals, expected, recovered, orders, stop }));
    let reading = spawn(read_queue(Arc::clone(&spool), found, recovered_in));
    spawn(reload::ask_for_sockets(listeners.shown(), notify_procd));
    spawn(reload::ask_for_log(logging::lost, notify_procd));
    let listeners = spawn(listeners.run());
    let local = local.map_or_else(idle, |socket| spawn(run_local(socket, current.clone(), desk, intake_stopped)));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Errors are in the log.
            _ = hangup.recv() => drop(keeper.read().await),
            Some(order) = reloads.recv() => keeper.obey(order).await,
        }
    }
    // First stop accepting mail, then store what has been accepted.
    announcing.abort();
    reading.abort();
    stop_intake.send_replace(true);
    let _ = tokio::join!(listeners, local);
    stop_dispatch.send_replace(true);
    let _ = dispatch.await;
    let (_, waiting, _) = spool.usage_now();
    oauth::keeper::settle(LOGIN_PATIENCE).await;
    Event::Stopped { waiting }.log();
    let _ = tokio::join!(chronicle, control, ubus, repeats);
    let relay = current.borrow().relay.clone();
    let _ = task::blocking(move || {
        let _ = std::fs::remove_file(directory.join(LOCAL_SOCKET));
        let _ = std::fs::remove_file(directory.join(control::SOCKET));
        boot_mail::stopped(&relay);
    })
    .await;
    hook.inspect(|hook| hook.abort());
    Ok(())
}

fn without(what: &str, error: &str) {
    Event::Advice { text: format!("{what} cannot reach this gateway: {error}") }.log();
}

/// Without procd, the log already says what is missing and what to do, and its lines go to stdout and stderr
/// permanently.
async fn notify_procd() {
    let _ = task::blocking(daemons::settings_changed).await;
}

/// Reads what an earlier run left, and passes it to the dispatcher in batches. Devices can send meanwhile.
async fn read_queue(spool: Arc<Spool>, found: Vec<Found>, to: mpsc::Sender<Vec<(Item, Meta, State)>>) {
    let now = Instant::now();
    for piece in found.chunks(READ_AT_ONCE) {
        let (spool, piece) = (Arc::clone(&spool), piece.to_vec());
        let read = blocking(move || {
            let read = piece.into_iter().filter_map(|found| spool.inspect(found));
            Ok::<_, std::io::Error>(
                read.map(|(entry, meta, state)| {
                    let same_boot = meta.undated.as_ref().filter(|undated| undated.boot == clock::boot());
                    let uptime = same_boot.map(|undated| undated.uptime);
                    let (held, doubtful, turns) = (state.held, state.is_doubtful(), state.turns);
                    let released = state.released.map(clock::moment_of).map(Box::new);
                    let mut item = Item { uptime, held, released, doubtful, turns, ..Item::new(entry, now) };
                    if state.doubts() > 0 {
                        item.in_its_own_time();
                    }
                    (item.resting(&meta, &state, now), meta, state)
                })
                .collect(),
            )
        });
        // The pool refuses work only during shutdown; then everything is found at the next start.
        let Ok(items) = read.await else { return };
        if to.send(items).await.is_err() {
            return;
        }
    }
}

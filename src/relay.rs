//! The running program: puts the parts together, obeys signals, ends in order.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::VERSION;
use crate::config::{self, Durability, Settings};
use crate::dispatch::Dispatch;
use crate::inbound::listener::{Listeners, open_local, run_local};
use crate::intake::Desk;
use crate::queue::Spool;
use crate::report::Event;
use crate::system;

/// Keeps two programs from working on one queue; given up when dropped, or when the process ends however it may.
pub struct SpoolLock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// Takes the queue for this process alone. `None` when another one has it.
///
/// # Errors
/// When the lock file can't be made.
pub fn lock(spool: &Path) -> Result<Option<SpoolLock>> {
    let path = spool.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("can't make {}", path.display()))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok().map(SpoolLock))
}

/// What the owner should know about the settings, beside what is wrong in single lines.
fn advise(settings: &Settings) {
    let mut advice = Vec::new();
    let relay = &settings.relay;
    if relay.safe_spool.is_none() && relay.durability == Durability::Deferred {
        advice.push(format!(
            "no safe_spool is set: mail that waits in {} is lost at a reboot if that is a RAM disk; set safe_spool to a directory on flash or USB",
            relay.spool.display()
        ));
    }
    if settings.accounts.len() > 1 {
        let used = settings.accounts.first().map(|a| a.name.as_str()).unwrap_or_default();
        advice.push(format!("this version sends everything through the first account, '{used}'"));
    }
    advice.into_iter().for_each(|text| Event::Advice { text }.log());
}

/// Runs until SIGTERM or SIGINT. SIGHUP reads the settings in `file` again.
///
/// # Errors
/// When the program can't start; the reason names the setting to change.
pub async fn run(file: PathBuf, settings: Settings) -> Result<()> {
    // Before anything else: a reload that comes early would end a program that does not know the signal.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    system::raise_open_files();
    let spool = Spool::open(&settings.relay).map_err(|e| anyhow!("{e}; check options spool and safe_spool"))?;
    let Some(_lock) = lock(&settings.relay.spool)? else {
        bail!("another smtprelay works on {} already", settings.relay.spool.display());
    };
    let recovered = {
        let spool = Arc::clone(&spool);
        tokio::task::spawn_blocking(move || spool.recover()).await.context("reading the queue")?
    };
    Event::Started { version: VERSION }.log();
    if !recovered.is_empty() {
        Event::Recovered { messages: recovered.len(), bytes: recovered.iter().map(|e| e.size).sum() }.log();
    }
    advise(&settings);

    let (arrivals_in, arrivals) = mpsc::unbounded_channel();
    let (stop_intake, intake_stopped) = watch::channel(false);
    let (stop_dispatch, dispatch_stopped) = watch::channel(false);
    let desk = Desk::new(Arc::clone(&spool), arrivals_in);
    // Devices come first: a gateway without its local socket is still a gateway.
    let local = match open_local(&settings.relay.spool) {
        Ok(local) => Some(local),
        Err(error) => {
            Event::Advice { text: format!("smtprelay send will not reach this gateway: {error}") }.log();
            None
        }
    };
    let socket = settings.relay.spool.join(crate::inbound::listener::LOCAL_SOCKET);
    let (publish, current) = watch::channel(Arc::new(settings));

    let listeners = Listeners::open(current.clone(), desk.clone(), intake_stopped.clone())
        .map_err(|e| anyhow!("{e} (section listener)"))?;
    let dispatch = Dispatch::new(current.clone(), spool, desk.clone(), recovered);
    let dispatch = tokio::spawn(dispatch.run(arrivals, dispatch_stopped));
    let listeners = tokio::spawn(listeners.run());
    let local = tokio::spawn(async move {
        if let Some(local) = local {
            run_local(local, current, desk, intake_stopped).await;
        }
    });
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&file, &publish),
        }
    }
    // First nothing more comes in, then what has come in is put into safety.
    stop_intake.send_replace(true);
    let _ = tokio::join!(listeners, local);
    let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(socket)).await;
    stop_dispatch.send_replace(true);
    let waiting = dispatch.await.unwrap_or(0);
    Event::Stopped { waiting }.log();
    Ok(())
}

/// Takes over new settings; bad ones change nothing.
fn reload(file: &Path, publish: &watch::Sender<Arc<Settings>>) {
    match config::load(file) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                Event::Advice { text: config::describe(file, warning) }.log();
            }
            let (old, new) = (&publish.borrow().relay.clone(), &loaded.settings.relay);
            if (&old.spool, &old.safe_spool, old.durability) != (&new.spool, &new.safe_spool, new.durability) {
                Event::Advice {
                    text: "new values of spool, safe_spool and durability hold from the next start on".into(),
                }
                .log();
            }
            log::set_max_level(new.log_level);
            publish.send_replace(Arc::new(loaded.settings));
            Event::Reloaded.log();
        }
        Err(error) => Event::ReloadRefused { reason: error.to_string().replace('\n', "; ") }.log(),
    }
}

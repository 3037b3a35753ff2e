// SPDX-License-Identifier: Apache-2.0
//! A script of the administrator's for when mail cannot be used for alerts: `PROGRAM smtprelay` with everything in its
//! environment, so that it can blink an LED or push a message elsewhere.
//!
//! `plan`, which is pure, decides what is run when; here it is run: one at a time, killed after 30 s. If the gateway
//! has given up root, [`helper`] runs it.

pub mod helper;
mod plan;

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::helper::Helper;
use self::plan::{Call, Plan};
use super::Event;
use crate::system::task;

/// What runs the scripts in `/etc/hotplug.d/smtprelay` on OpenWrt.
pub const DEFAULT_PROGRAM: &str = "/sbin/hotplug-call";

/// How long one run may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long a killed program may take to exit.
const BURIAL: Duration = Duration::from_secs(5);
/// The whole environment in addition to the event: nothing of the gateway's own environment gets to a script.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the administrator's script for events that need attention.
pub struct Hook {
    program: PathBuf,
    /// The helper that runs it, if not this process.
    helper: Option<Helper>,
    plan: Plan,
    time_limit: Duration,
    /// Whether a program that cannot be run was reported.
    complained: bool,
}

impl Hook {
    /// A hook that runs `program`. If there is no such file, nothing happens.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let (program, plan) = (program.into(), Plan::default());
        Self { program, helper: None, plan, time_limit: TIME_LIMIT, complained: false }
    }

    /// A hook whose `program` is run by `helper`, which was started for it.
    pub fn by(helper: Helper, program: impl Into<PathBuf>) -> Self {
        Self { helper: Some(helper), ..Self::new(program) }
    }

    /// Runs the program for events until `events` ends. Call [`super::observe`] for the events before anything
    /// can happen. When this is dropped, a running program is killed.
    pub async fn run(mut self, mut events: mpsc::Receiver<Arc<Event>>) {
        let mut running: Option<JoinHandle<Result<(), String>>> = None;
        let mut abort = AbortOnDrop(None);
        let helper = match self.helper.take().map(Helper::connect).transpose() {
            Ok(helper) => helper.map(|helper| Arc::new(tokio::sync::Mutex::new(helper))),
            Err(error) => return self.complain(Err(error.to_string())),
        };
        loop {
            if running.is_none()
                && let Some(call) = self.plan.next(Instant::now())
            {
                let (helper, program, limit) = (helper.clone(), self.program.clone(), self.time_limit);
                let work: task::Boxed<Result<(), String>> = Box::pin(async move {
                    match helper {
                        Some(helper) => helper.lock().await.run(&call).await,
                        None => run_program(program, call, limit).await,
                    }
                });
                let task = tokio::spawn(work);
                abort = AbortOnDrop(Some(task.abort_handle()));
                running = Some(task);
            }
            let wake = if running.is_some() { None } else { self.plan.wake() };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.plan.take(&event),
                    None => break,
                },
                ended = finished(&mut running) => {
                    running = None;
                    self.complain(ended);
                }
                () = sleep_until(wake) => {}
            }
        }
        // A running program may finish; what would have to wait is not worth delaying the end.
        if let Some(task) = running {
            let _ = task.await;
        }
        drop(abort);
    }

    /// Reports once why nothing can be run.
    fn complain(&mut self, ended: Result<(), String>) {
        if let Err(reason) = ended
            && !std::mem::replace(&mut self.complained, true)
        {
            Event::Advice { text: format!("the hook {}: {reason}", self.program.display()) }.log();
        }
    }
}

struct AbortOnDrop(Option<tokio::task::AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn finished(running: &mut Option<JoinHandle<Result<(), String>>>) -> Result<(), String> {
    match running {
        // A task that panics ends the process, see main.rs.
        Some(task) => task.await.unwrap_or(Ok(())),
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Runs the program to its end or to `limit`. The exit code is ignored.
async fn run_program(program: PathBuf, call: Call, limit: Duration) -> Result<(), String> {
    // Before the child exists, so that its end cannot be missed.
    let mut ended = signal(SignalKind::child()).map_err(|e| format!("cannot wait for programs: {e}"))?;
    let started = task::blocking(move || Group::start(&program, call.environment())).await;
    let mut group = match started {
        Some(Ok(Some(group))) => group,
        Some(Ok(None)) | None => return Ok(()),
        Some(Err(error)) => return Err(format!("cannot be run: {error}")),
    };
    if tokio::time::timeout(limit, group.end(&mut ended)).await.is_ok() {
        return Ok(());
    }
    group.kill();
    // A killed program exits at once, unless it hangs in the kernel: then it stays until the end.
    let _ = tokio::time::timeout(BURIAL, group.end(&mut ended)).await;
    Err(too_long(limit))
}

fn too_long(limit: Duration) -> String {
    format!("did not end within {} s and was killed", limit.as_secs())
}

/// A running program with all processes that it started. Processes it leaves running when it exits normally continue.
struct Group(Child);

impl Group {
    /// Blocks for as long as the system takes to start a process. `None` when the program does not exist.
    fn start<N: AsRef<OsStr>>(
        program: &Path,
        environment: impl Iterator<Item = (N, N)>,
    ) -> std::io::Result<Option<Self>> {
        let started = Command::new(program)
            .arg("smtprelay")
            .env_clear()
            .env("PATH", OsStr::new(PATH))
            .envs(environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match started {
            Ok(child) => Ok(Some(Self(child))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the program has exited. An error of try_wait means that there is nothing to wait for.
    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits until the program has exited. `signals` reports that some child did, and has to be older than this one.
    async fn end(&mut self, signals: &mut Signals) {
        // No more signals: the runtime ends.
        while !self.has_ended() && signals.recv().await.is_some() {}
    }

    /// Waits until a killed program is gone, and reaps it; false when it still exists. Blocks.
    fn goes_within(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !self.has_ended() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn kill(&mut self) {
        // Not reaped yet, so the number is still that of our own child.
        if matches!(self.0.try_wait(), Ok(None))
            && let Ok(leader) = i32::try_from(self.0.id())
        {
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
#[path = "hook/tests.rs"]
mod tests;

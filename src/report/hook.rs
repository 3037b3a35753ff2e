// SPDX-License-Identifier: Apache-2.0
//! A script of the administrator's for when mail cannot be used for alerts: `PROGRAM smtprelay` with everything in its
//! environment, so that it can blink an LED or push a message elsewhere.
//!
//! `Plan`, which is pure, decides what is run when. A state (an account is paused or works, the queue is full or has
//! room) is reported when it differs from the last report: so whatever a script switched on is switched off again, and
//! a state that came and went between reports is not reported. Failures are events: those of one minute are reported
//! together.
//!
//! [`Hook`] runs the script: one at a time, killed after 30 s. A script that blinks an LED or restarts a modem needs
//! root, which a gateway must not have. So a gateway that gives up root first starts a process that keeps it
//! ([`Helper`], [`serve`]): it runs only the program that the settings specified at the start, only with the names of
//! `TOLD` in its environment, one at a time, and ends when the gateway does. A request to it is one line, `NAME=value`
//! separated by NULs; the answer is one line, empty or an error.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Event, StepResult};
use crate::report::letter::one_line;
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
    /// Whether a program that cannot be run was reported.
    complained: bool,
}

impl Hook {
    /// A hook that runs `program`. If there is no such file, nothing happens.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), helper: None, plan: Plan::default(), complained: false }
    }

    /// A hook whose `program` is run by `helper`, which was started for it.
    pub fn by(helper: Helper, program: impl Into<PathBuf>) -> Self {
        Self { helper: Some(helper), ..Self::new(program) }
    }

    /// Runs the program for events until `events` ends. Call [`super::observe`] for the events before anything
    /// can happen. When this is dropped, a running program is killed.
    pub async fn run(mut self, mut events: mpsc::Receiver<Arc<Event>>) {
        let mut running: Option<Run> = None;
        let helper = match self.helper.take().map(Helper::connect).transpose() {
            Ok(helper) => helper.map(|helper| Arc::new(tokio::sync::Mutex::new(helper))),
            Err(error) => return self.complain(Err(error.to_string())),
        };
        loop {
            if running.is_none()
                && let Some(call) = self.plan.next(Instant::now())
            {
                let (helper, program) = (helper.clone(), self.program.clone());
                let work: task::Boxed<Result<(), String>> = Box::pin(async move {
                    match helper {
                        Some(helper) => helper.lock().await.run(&call).await,
                        None => run_program(program, call, TIME_LIMIT).await,
                    }
                });
                running = Some(Run(tokio::spawn(work)));
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
                () = task::sleep_until(wake) => {}
            }
        }
        // A running program may finish; what would have to wait is not worth delaying the end.
        if running.is_some() {
            let _ = finished(&mut running).await;
        }
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

/// A run in progress, which ends when this is dropped.
struct Run(JoinHandle<Result<(), String>>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn finished(running: &mut Option<Run>) -> Result<(), String> {
    match running {
        // A task that panics ends the process, see main.rs.
        Some(run) => (&mut run.0).await.unwrap_or(Ok(())),
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

/// Bytes of a request: nine values of 300 bytes, and their names.
const REQUEST_LIMIT: u64 = 4 << 10;
/// Bytes of an answer.
const ANSWER_LIMIT: u64 = 1 << 10;
/// How often it checks whether the script or the gateway has ended.
const LOOK: Duration = Duration::from_millis(100);
/// The command line argument that makes the program this process.
pub const COMMAND: &str = "hook-runner";

/// The gateway's end.
pub struct Helper {
    stream: UnixStream,
    /// Waited for when this is dropped, which ends the process.
    child: Child,
}

impl Helper {
    /// Starts the process that runs `program`. It inherits nothing but its end of the conversation: the settings with
    /// their passwords are not in its memory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("smtprelay")
            .arg(COMMAND)
            .arg(program)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals from a terminal to the gateway are not for this process: it ends when the gateway has ended.
            .process_group(0)
            .spawn()?;
        Ok(Self { stream, child })
    }

    /// Prepares it for the runtime.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn connect(self) -> io::Result<Connected> {
        self.stream.set_nonblocking(true)?;
        let stream = tokio::io::BufReader::new(tokio::net::UnixStream::from_std(self.stream)?);
        Ok(Connected { stream, child: self.child })
    }
}

/// [`Helper`] on the runtime.
pub struct Connected {
    stream: tokio::io::BufReader<tokio::net::UnixStream>,
    child: Child,
}

impl Connected {
    /// Runs the program, to its end.
    ///
    /// # Errors
    /// When it could not be run or timed out.
    async fn run(&mut self, call: &Call) -> Result<(), String> {
        let words: Vec<String> = call.environment().map(|(name, value)| format!("{name}={value}")).collect();
        let request = format!("{}\n", words.join("\0"));
        let mut answer = String::new();
        let talk = async {
            self.stream.get_mut().write_all(request.as_bytes()).await?;
            (&mut self.stream).take(ANSWER_LIMIT).read_line(&mut answer).await
        };
        match talk.await {
            Ok(1..) if answer == "\n" => Ok(()),
            Ok(1..) => Err(answer.trim_end().to_string()),
            Ok(0) => {
                let _ = self.child.try_wait();
                Err("the process that runs it has exited; it is started again with the gateway".into())
            }
            Err(error) => Err(format!("the process that runs it cannot be reached: {error}")),
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        // Reaps it if it has ended; one that still runs is reaped by init.
        let _ = self.child.try_wait();
    }
}

/// The other end: runs `program` on each request on `stream`, until the gateway is gone. Keeps the privileges it was
/// started with.
///
/// # Errors
/// When the conversation breaks.
pub fn serve(program: &Path, stream: UnixStream) -> io::Result<()> {
    serve_within(program, stream, TIME_LIMIT)
}

fn serve_within(program: &Path, stream: UnixStream, limit: Duration) -> io::Result<()> {
    // For `ps` and `top`, which would call it `exe`.
    let _ = nix::sys::prctl::set_name(c"smtprelay-hook");
    let mut stream = BufReader::new(stream);
    let mut runs = Runs { limit, unburied: Vec::new() };
    loop {
        let mut line = Vec::new();
        stream.get_ref().set_read_timeout(None)?;
        if (&mut stream).take(REQUEST_LIMIT).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let answer = match environment(&line) {
            Some(environment) => runs.run(program, &environment, stream.get_mut())?,
            None => "the gateway requested something other than a hook".into(),
        };
        stream.get_mut().write_all(format!("{}\n", answer.replace('\n', " ")).as_bytes())?;
    }
}

/// The requested run; `None` when it is not a hook.
fn environment(line: &[u8]) -> Option<Vec<(&str, &str)>> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let fine = |(name, value): &(&str, &str)| is_told(name) && !value.chars().any(char::is_control);
    text.split('\0').map(|pair| pair.split_once('=').filter(fine)).collect()
}

/// How long the program may run, and what is left of runs that were killed and did not exit at once.
struct Runs {
    limit: Duration,
    unburied: Vec<Group>,
}

impl Runs {
    /// Runs the program once. An error is one of the conversation: then the process ends.
    fn run(&mut self, program: &Path, environment: &[(&str, &str)], gateway: &mut UnixStream) -> io::Result<String> {
        self.unburied.retain_mut(|group| !group.has_ended());
        let mut group = match Group::start(program, environment.iter().copied()) {
            Ok(Some(group)) => group,
            Ok(None) => return Ok(String::new()),
            Err(error) => return Ok(format!("cannot be run: {error}")),
        };
        let started = Instant::now();
        gateway.set_read_timeout(Some(LOOK))?;
        while !group.has_ended() {
            if started.elapsed() >= self.limit {
                group.kill();
                if !group.goes_within(BURIAL) {
                    self.unburied.push(group);
                }
                return Ok(too_long(self.limit));
            }
            // Waits for a moment, and notices when the gateway has ended. It sends nothing now.
            match gateway.read(&mut [0]) {
                Ok(_) => return Err(ErrorKind::BrokenPipe.into()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(String::new())
    }
}

/// The minimum interval between two reports of the same kind.
const AT_MOST_EVERY: Duration = Duration::from_secs(60);
/// Accounts that are tracked.
const ACCOUNTS: usize = 32;
/// Accounts and devices whose state is tracked.
const SUBJECTS: usize = ACCOUNTS + 256;
/// Bytes of a value.
const VALUE: usize = 300;

/// Names and values that are passed to a script.
type Details = Vec<(&'static str, String)>;

/// The names in the environment of a script, except for PATH and ACTION, begin with this.
const PREFIX: &str = "SMTPRELAY_";
/// The fields of an event that a script gets, and their names in its environment.
const TOLD: [(&str, &str); 8] = [
    ("account", "ACCOUNT"),
    ("id", "ID"),
    ("to", "TO"),
    ("client", "CLIENT"),
    ("subject", "SUBJECT"),
    ("device", "DEVICE"),
    ("text", "REASON"),
    ("next", "NEXT"),
];

/// Whether a script may have this name in its environment.
fn is_told(name: &str) -> bool {
    let own = name.strip_prefix(PREFIX);
    name == "ACTION" || own.is_some_and(|own| own == "COUNT" || TOLD.iter().any(|(_, told)| *told == own))
}

fn details(event: &Event) -> Details {
    let fields = event.fields().all;
    let value = |key| fields.iter().find(|(name, _)| *name == key).map(|(_, field)| field.to_string());
    TOLD.iter().filter_map(|(key, name)| Some((*name, value(*key)?))).collect()
}

/// One run of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    action: &'static str,
    details: Details,
    count: u32,
}

impl Call {
    /// Names and values for the environment: `ACTION` as all hotplug scripts know it, the rest with a prefix.
    fn environment(&self) -> impl Iterator<Item = (String, String)> {
        let details = self.details.iter().filter(|(_, value)| !value.is_empty());
        let details = details.map(|(name, value)| (format!("{PREFIX}{name}"), one_line(value, VALUE)));
        let first = [("ACTION".into(), self.action.into()), (format!("{PREFIX}COUNT"), self.count.to_string())];
        first.into_iter().chain(details)
    }
}

/// The subject of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Account(String),
    /// A section `device`.
    Device(String),
    Queue,
}

impl Subject {
    fn action(&self, trouble: bool) -> &'static str {
        match (self, trouble) {
            (Self::Account(_), true) => "paused",
            (Self::Account(_), false) => "resumed",
            (Self::Device(_), true) => "device_silent",
            (Self::Device(_), false) => "device_ok",
            (Self::Queue, true) => "queue_full",
            (Self::Queue, false) => "queue_ok",
        }
    }
}

/// A state that is either in trouble or not.
#[derive(Debug)]
struct HookState {
    subject: Subject,
    trouble: bool,
    /// The last reported state; `None` if none was since the start, so that a script may still show what an earlier run
    /// reported.
    told: Option<bool>,
    /// When trouble was last reported.
    told_at: Option<Instant>,
    /// How often trouble came since then.
    count: u32,
    details: Details,
    /// Events were lost, perhaps including the end of the trouble.
    unsure: bool,
}

impl HookState {
    fn new(subject: Subject) -> Self {
        Self { subject, trouble: false, told: None, told_at: None, count: 0, details: Vec::new(), unsure: false }
    }

    /// When this state is to be reported; `None` when it was.
    fn due(&self) -> Option<Due> {
        match (self.trouble, self.told) {
            (true, Some(true)) | (false, Some(false)) => None,
            (true, _) => Some(self.told_at.map_or(Due::Now, |at| Due::At(at + AT_MOST_EVERY))),
            // Never delayed: an LED must not blink forever.
            (false, _) => Some(Due::Now),
        }
    }

    fn call(&mut self, now: Instant) -> Call {
        self.told = Some(self.trouble);
        let (details, count) = match (self.trouble, &self.subject) {
            (true, _) => {
                self.told_at = Some(now);
                (self.details.clone(), std::mem::take(&mut self.count).max(1))
            }
            (false, Subject::Account(name)) => (vec![("ACCOUNT", name.clone())], 1),
            (false, Subject::Device(_)) => (self.details.clone(), 1),
            (false, Subject::Queue) => (Vec::new(), 1),
        };
        Call { action: self.subject.action(self.trouble), details, count }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Now,
    At(Instant),
}

impl Due {
    fn by(self, now: Instant) -> bool {
        match self {
            Self::Now => true,
            Self::At(at) => at <= now,
        }
    }
}

/// Failures that were not reported yet: the last one, and their number.
#[derive(Debug, Default)]
struct Failures {
    /// Account, details of its last failure, number of failures.
    waiting: VecDeque<(String, Details, u32)>,
    /// When each account's failures were last reported.
    told: Vec<(String, Instant)>,
}

impl Failures {
    fn due(&self, account: &str) -> Due {
        self.told.iter().find(|(name, _)| name == account).map_or(Due::Now, |(_, at)| Due::At(*at + AT_MOST_EVERY))
    }

    fn add(&mut self, account: &str, details: Details) {
        if self.waiting.len() < ACCOUNTS && !self.waiting.iter().any(|(name, ..)| name == account) {
            self.waiting.push_back((account.into(), Vec::new(), 0));
        }
        let same = self.waiting.iter().position(|(name, ..)| name == account);
        // More accounts than the settings can have share the last entry.
        let place = same.unwrap_or(ACCOUNTS - 1);
        if let Some((_, last, count)) = self.waiting.get_mut(place) {
            *last = details;
            *count = count.saturating_add(1);
        }
    }

    fn call(&mut self, action: &'static str, now: Instant) -> Option<Call> {
        self.told.retain(|(_, at)| now.saturating_duration_since(*at) < AT_MOST_EVERY);
        let place = self.waiting.iter().position(|(account, ..)| self.due(account).by(now))?;
        let (account, details, count) = self.waiting.remove(place)?;
        self.told.push((account, now));
        Some(Call { action, details, count })
    }
}

/// The pending reports.
#[derive(Debug, Default)]
struct Plan {
    states: Vec<HookState>,
    failures: Failures,
    /// Steps of escalations that have begun.
    steps: Failures,
}

impl Plan {
    /// Takes an event.
    fn take(&mut self, event: &Event) {
        match event {
            Event::Paused { account, .. } => self.trouble(Subject::Account(account.clone()), details(event)),
            Event::QueueFull { .. } => self.trouble(Subject::Queue, details(event)),
            Event::Resumed { account } => self.fine(Subject::Account(account.clone()), true),
            Event::QueueHasRoom => self.fine(Subject::Queue, true),
            Event::DeviceSilent { device, .. } => self.trouble(Subject::Device(device.clone()), details(event)),
            Event::DeviceOk { device, .. } => {
                let subject = Subject::Device(device.clone());
                self.fine(subject.clone(), true);
                if let Some(state) = self.states.iter_mut().find(|state| state.subject == subject) {
                    state.details = details(event);
                }
            }
            // Mail is delivered, whatever was lost or happened before this start.
            Event::Delivered { account, .. } => self.fine(Subject::Account(account.clone()), true),
            Event::Step { account, result: StepResult::Begun, .. } => self.steps.add(account, details(event)),
            Event::Step { account, result: StepResult::Taken, .. } => {
                self.fine(Subject::Account(account.clone()), true)
            }
            Event::Accepted { device, .. } => {
                self.fine(Subject::Queue, false);
                let is_it = |state: &&mut HookState| matches!(&state.subject, Subject::Device(name) if device.as_ref() == Some(name));
                if let Some(state) = self.states.iter_mut().find(is_it).filter(|state| state.unsure) {
                    (state.trouble, state.unsure) = (false, false);
                }
            }
            Event::Failed { account, .. } => self.failures.add(account, details(event)),
            Event::Overrun { .. } => self.states.iter_mut().for_each(|state| state.unsure = true),
            _ => {}
        }
    }

    /// The next run that may start now.
    fn next(&mut self, now: Instant) -> Option<Call> {
        let due = |state: &HookState| state.due().is_some_and(|due| due.by(now));
        match self.states.iter_mut().find(|state| due(state)) {
            Some(state) => Some(state.call(now)),
            None => self.failures.call("failed", now).or_else(|| self.steps.call("escalated", now)),
        }
    }

    /// When [`Self::next`] has something again, if nothing happens until then.
    fn wake(&self) -> Option<Instant> {
        let states = self.states.iter().filter_map(HookState::due);
        let due = |news: &Failures| news.waiting.iter().map(|(account, ..)| news.due(account)).collect::<Vec<Due>>();
        let failures = [due(&self.failures), due(&self.steps)].into_iter().flatten();
        let at = |due| match due {
            Due::Now => None,
            Due::At(at) => Some(at),
        };
        states.chain(failures).filter_map(at).min()
    }

    /// The state of `subject`. When there are too many, one that is not in trouble is dropped.
    fn state(&mut self, subject: Subject) -> Option<&mut HookState> {
        if let Some(place) = self.states.iter().position(|state| state.subject == subject) {
            return self.states.get_mut(place);
        }
        if self.states.len() >= SUBJECTS {
            let quiet = self.states.iter().position(|state| !state.trouble && state.due().is_none())?;
            self.states.remove(quiet);
        }
        self.states.push(HookState::new(subject));
        self.states.last_mut()
    }

    fn trouble(&mut self, subject: Subject, details: Details) {
        if let Some(state) = self.state(subject) {
            state.trouble = true;
            state.unsure = false;
            state.details = details;
            state.count = state.count.saturating_add(1);
        }
    }

    /// `certain`: the trouble is over. Otherwise this is only likely: a small message may find room where others don't.
    fn fine(&mut self, subject: Subject, certain: bool) {
        if let Some(state) = self.state(subject)
            && (certain || state.unsure)
        {
            state.trouble = false;
            state.unsure = false;
        }
    }
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0

use std::os::unix::fs::PermissionsExt;

use tokio::time::timeout;

use super::*;

fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("hook");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

const LONG: Duration = Duration::from_secs(60);

/// A named pipe, open for reading and for writing: so opening it never blocks.
fn pipe(path: &Path) -> std::fs::File {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::File::options().read(true).write(true).open(path).unwrap()
}

fn paused(account: &str) -> Arc<Event> {
    Arc::new(Event::Paused {
        account: account.into(),
        reason: "no 'uplink'; $(x)".into(),
        next: Duration::from_secs(3),
    })
}

#[tokio::test]
async fn the_program_hears_everything_in_its_environment_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    // Standard output is closed to it, so it writes into a file.
    let program = script(dir.path(), &format!("{{ echo \"$@\"; env | grep -v ^_= | sort; }} >>{}", said.display()));
    let (sender, events) = mpsc::channel(8);
    sender.send(paused("gmail")).await.unwrap();
    drop(sender);
    Hook::new(program).run(events).await;
    let said = std::fs::read_to_string(said).unwrap();
    let told: Vec<_> = said
        .lines()
        .filter(|line| !line.starts_with("PWD=") && !line.starts_with("SHLVL=") && !line.starts_with("OLDPWD="))
        .collect();
    assert_eq!(
        told,
        [
            "smtprelay",
            "ACTION=paused",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "SMTPRELAY_ACCOUNT=gmail",
            "SMTPRELAY_COUNT=1",
            "SMTPRELAY_NEXT=3",
            "SMTPRELAY_REASON=no 'uplink'; $(x)",
        ]
    );
}

#[tokio::test]
async fn one_runs_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    let said = pipe(&dir.path().join("said"));
    // A second one at the same time would find the directory.
    let text = format!(
        "mkdir {path}/busy || echo twice >>{path}/said\nsleep 0.1\nrmdir {path}/busy\necho $SMTPRELAY_ACCOUNT >>{path}/said"
    );
    let program = script(dir.path(), &text);
    let (sender, events) = mpsc::channel(8);
    let running = tokio::spawn(Hook::new(program).run(events));
    for account in ["a", "b", "c"] {
        sender.send(paused(account)).await.unwrap();
    }
    let said = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(said).lines().map(Result::unwrap);
        (0..3).map(|_| lines.next().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(timeout(LONG, said).await.unwrap().unwrap(), ["a", "b", "c"]);
    drop(sender);
    running.await.unwrap();
}

/// A script that hangs with a child process. Whichever of them lives keeps the pipe `alive` open.
fn hanging(dir: &Path) -> (PathBuf, std::fs::File) {
    let path = dir.join("alive");
    let alive = pipe(&path);
    (script(dir, &format!("exec 9>{}\nsleep 1000 &\necho started >&9\nwait", path.display())), alive)
}

fn call() -> Call {
    let mut plan = Plan::default();
    plan.take(&paused("a"));
    plan.next(Instant::now()).unwrap()
}

/// Waits until no process but this one has the pipe open.
async fn all_are_gone(dir: &Path, alive: std::fs::File) {
    let mut reader = std::fs::File::open(dir.join("alive")).unwrap();
    drop(alive);
    let end = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()).unwrap());
    timeout(LONG, end).await.expect("something still runs").unwrap();
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let (program, alive) = hanging(dir.path());
    let result = run_program(program, call(), Duration::from_millis(200)).await;
    assert_eq!(result, Err("did not end within 0 s and was killed".into()));
    all_are_gone(dir.path(), alive).await;
}

#[tokio::test]
async fn no_program_outlives_the_hook() {
    let dir = tempfile::tempdir().unwrap();
    let (program, mut alive) = hanging(dir.path());
    let (sender, events) = mpsc::channel(8);
    let hook = tokio::spawn(Hook::new(program).run(events));
    sender.send(paused("a")).await.unwrap();
    let started = tokio::task::spawn_blocking(move || {
        let mut said = [0; 8];
        alive.read_exact(&mut said).unwrap();
        (alive, said)
    });
    let (alive, said) = timeout(LONG, started).await.unwrap().unwrap();
    assert_eq!(said, *b"started\n");
    hook.abort();
    all_are_gone(dir.path(), alive).await;
}

#[tokio::test]
async fn without_the_program_nothing_happens_and_one_that_cannot_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = run_program(dir.path().join("missing"), call(), TIME_LIMIT).await;
    assert_eq!(missing, Ok(()));
    let error = run_program(dir.path().to_path_buf(), call(), TIME_LIMIT).await.unwrap_err();
    assert!(error.starts_with("cannot be run: "), "{error}");
}

/// The process that runs `program`, which the gateway at the other end of the stream has sent this request.
fn requested(
    program: PathBuf,
    request: &[u8],
    limit: Duration,
) -> (UnixStream, std::thread::JoinHandle<io::Result<()>>) {
    let (mut gateway, theirs) = UnixStream::pair().unwrap();
    let helper = std::thread::spawn(move || serve_within(&program, theirs, limit));
    gateway.write_all(request).unwrap();
    (gateway, helper)
}

fn answer(gateway: &UnixStream) -> String {
    let mut answer = String::new();
    BufReader::new(gateway).read_line(&mut answer).unwrap();
    answer
}

/// The output of a script that was run with this request; and the answer to the gateway.
fn told(text: &str, request: &[u8]) -> (Option<String>, String) {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let program = script(dir.path(), &text.replace("SAID", said.to_str().unwrap()));
    let (gateway, helper) = requested(program, request, TIME_LIMIT);
    let answer = answer(&gateway);
    drop(gateway);
    helper.join().unwrap().unwrap();
    (std::fs::read_to_string(said).ok(), answer)
}

#[test]
fn it_runs_the_program_with_what_it_is_told() {
    let script =
        "{ echo \"$0 $*\"; env | grep -v '^_=\\|^PWD=\\|^SHLVL=\\|^OLDPWD=' | sort; } | sed 's,.*/hook,hook,' >SAID";
    let (said, answer) = told(script, b"ACTION=paused\0SMTPRELAY_REASON=no 'uplink'; $(x) = y\0SMTPRELAY_COUNT=1\n");
    assert_eq!(answer, "\n");
    assert_eq!(
        said.unwrap(),
        "hook smtprelay\nACTION=paused\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nSMTPRELAY_COUNT=1\nSMTPRELAY_REASON=no 'uplink'; $(x) = y\n"
    );
}

#[test]
fn it_does_nothing_else() {
    for request in [
        &b"LD_PRELOAD=/tmp/x.so\n"[..],
        b"ACTION=paused\0PATH=/tmp\n",
        b"ACTION=paused\0SMTPRELAY_OTHER=1\n",
        b"ACTION=a\rb\n",
        b"ACTION\n",
        b"\n",
        b"ACTION=\xff\n",
    ] {
        let (said, answer) = told("echo run >SAID", request);
        assert_eq!(
            (said, answer.as_str()),
            (None, "the gateway requested something other than a hook\n"),
            "{request:?}"
        );
    }
}

#[test]
fn a_program_that_is_not_there_is_no_trouble() {
    let (gateway, helper) = requested("/no/such/program".into(), b"ACTION=paused\n", TIME_LIMIT);
    assert_eq!(answer(&gateway), "\n");
    drop(gateway);
    helper.join().unwrap().unwrap();
}

#[test]
fn the_script_ends_with_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    nix::unistd::mkfifo(&said, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let program = script(dir.path(), &format!("echo begun >{}\nsleep 1000", said.display()));
    let (gateway, helper) = requested(program, b"ACTION=paused\n", TIME_LIMIT);
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "begun\n");
    drop(gateway);
    // It would run for a thousand seconds otherwise.
    assert_eq!(helper.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_program_that_was_killed_is_no_zombie() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let program = script(dir.path(), &format!("echo $$ >{}\nexec sleep 1000", said.display()));
    let (gateway, helper) = requested(program, b"ACTION=paused\n", Duration::from_secs(3));
    assert_eq!(answer(&gateway), "did not end within 3 s and was killed\n");
    let process = std::fs::read_to_string(&said).unwrap();
    assert!(!Path::new("/proc").join(process.trim()).exists(), "{process}");
    drop(gateway);
    helper.join().unwrap().unwrap();
}

const NAME: &str = "gmail";

fn pause(reason: &str) -> Event {
    Event::Paused { account: NAME.into(), reason: reason.into(), next: Duration::from_secs(20) }
}

fn resumed() -> Event {
    Event::Resumed { account: NAME.into() }
}

/// A message of the device with this section was accepted.
fn accepted(device: Option<&str>) -> Event {
    Event::Accepted {
        id: "ID".into(),
        client: String::new(),
        helo: String::new(),
        device: device.map(String::from),
        title: String::new(),
        login: None,
        tls: None,
        from: String::new(),
        to: vec![],
        size: 0,
        subject: String::new(),
        repairs: vec![],
    }
}

fn failed(id: &str) -> Event {
    Event::Failed {
        id: id.into(),
        client: "10.0.0.7".into(),
        from: "plc@example.com".into(),
        to: "ops@example.com".into(),
        size: 1,
        subject: String::new(),
        account: NAME.into(),
        tls: None,
        reason: "550\r\n5.1.1".into(),
        delay: 1,
    }
}

/// A plan with a clock of its own: what is reported at which second.
struct Story {
    plan: Plan,
    start: Instant,
}

impl Story {
    fn new() -> Self {
        Self { plan: Plan::default(), start: Instant::now() }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn event(&mut self, second: u64, event: &Event) -> Vec<(String, u32)> {
        self.plan.take(event);
        self.told(second)
    }

    fn told(&mut self, second: u64) -> Vec<(String, u32)> {
        let now = self.at(second);
        std::iter::from_fn(|| self.plan.next(now)).map(|call| (call.action.to_string(), call.count)).collect()
    }

    fn wake(&self) -> Option<u64> {
        self.plan.wake().map(|at| (at - self.start).as_secs())
    }
}

fn runs(action: &str, count: u32) -> Vec<(String, u32)> {
    vec![(action.to_string(), count)]
}

#[test]
fn details_are_in_the_environment_and_clean() {
    let mut story = Story::new();
    story.plan.take(&failed("ID"));
    let environment: Vec<_> = story.plan.next(story.start).unwrap().environment().collect();
    let expected = [
        ("ACTION", "failed"),
        ("SMTPRELAY_COUNT", "1"),
        ("SMTPRELAY_ACCOUNT", "gmail"),
        ("SMTPRELAY_ID", "ID"),
        ("SMTPRELAY_TO", "ops@example.com"),
        ("SMTPRELAY_CLIENT", "10.0.0.7"),
        ("SMTPRELAY_REASON", "550  5.1.1"),
    ];
    assert_eq!(environment, expected.map(|(name, value)| (name.to_string(), value.to_string())));
    story.plan.take(&pause(&"\0ü\n".repeat(1000)));
    let environment: Vec<_> = story.plan.next(story.start).unwrap().environment().collect();
    assert_eq!(environment[3].0, "SMTPRELAY_REASON");
    assert!(environment[3].1.len() <= VALUE + 3 && !environment[3].1.contains(char::is_control));
    assert_eq!(environment[4], ("SMTPRELAY_NEXT".to_string(), "20".to_string()));
}

#[test]
fn a_flapping_account_is_told_once_a_minute_and_always_ends_in_its_true_state() {
    let mut story = Story::new();
    assert_eq!(story.event(0, &pause("a")), runs("paused", 1));
    assert_eq!(story.event(5, &resumed()), runs("resumed", 1));
    assert_eq!(story.event(10, &pause("b")), []);
    assert_eq!(story.event(15, &resumed()), []);
    assert_eq!(story.event(20, &pause("c")), []);
    // Nothing more happens, and the LED is switched on anyway.
    assert_eq!((story.wake(), story.told(59), story.told(60)), (Some(60), vec![], runs("paused", 2)));
    assert_eq!(story.event(61, &pause("d")), []);
    assert_eq!(story.wake(), None);
    assert_eq!(story.event(62, &resumed()), runs("resumed", 1));
    assert_eq!(story.event(63, &resumed()), []);
    assert_eq!(story.event(300, &pause("e")), runs("paused", 2));
}

#[test]
fn accounts_do_not_disturb_each_other() {
    let mut story = Story::new();
    assert_eq!(story.event(0, &pause("a")), runs("paused", 1));
    let other = Event::Paused { account: "other".into(), reason: "b".into(), next: Duration::ZERO };
    assert_eq!(story.event(1, &other), runs("paused", 1));
    assert_eq!(story.event(2, &resumed()), runs("resumed", 1));
}

#[test]
fn a_light_of_an_earlier_run_goes_out_with_the_first_mail_that_goes_through() {
    let mut story = Story::new();
    let delivered = Event::Delivered {
        id: "ID".into(),
        client: String::new(),
        from: String::new(),
        to: String::new(),
        size: 0,
        subject: String::new(),
        account: NAME.into(),
        tls: None,
        reply: String::new(),
        delay: 0,
    };
    assert_eq!(story.event(0, &delivered), runs("resumed", 1));
    assert_eq!(story.event(1, &delivered), []);
    assert_eq!(story.event(2, &pause("a")), runs("paused", 1));
    assert_eq!(story.event(3, &delivered), runs("resumed", 1));
}

#[test]
fn a_full_queue_is_told_and_its_end_too_even_when_events_were_lost() {
    let mut story = Story::new();
    let full = Event::QueueFull { reason: "r".into() };
    let accepted = accepted(None);
    assert_eq!(story.event(0, &accepted), runs("queue_ok", 1));
    assert_eq!(story.event(1, &full), runs("queue_full", 1));
    assert_eq!(story.event(2, &accepted), []);
    assert_eq!(story.event(3, &Event::QueueHasRoom), runs("queue_ok", 1));
    assert_eq!(story.event(70, &full), runs("queue_full", 1));
    assert_eq!(story.event(71, &Event::Overrun { lost: 9 }), []);
    assert_eq!(story.event(72, &accepted), runs("queue_ok", 1));
}

#[test]
fn a_silent_device_is_told_and_its_end_too_even_when_that_event_was_lost() {
    let silent = |device: &str| Event::DeviceSilent {
        device: device.into(),
        name: "Pump".into(),
        last: Some(1_800_000_000),
        reason: "silent".into(),
    };
    let ok = |device: &str, heard| Event::DeviceOk {
        device: device.into(),
        name: "Pump".into(),
        heard,
        reason: "over".into(),
    };
    let mut plan = Plan::default();
    let now = Instant::now();
    let told = |plan: &mut Plan, event: &Event| {
        plan.take(event);
        plan.next(now).map(|call| call.environment().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
    };
    let expected = |action: &str, reason: &str| {
        let device = "SMTPRELAY_DEVICE=pump".to_string();
        let first = [format!("ACTION={action}"), "SMTPRELAY_COUNT=1".into()];
        Some(first.into_iter().chain([device, format!("SMTPRELAY_REASON={reason}")]).collect::<Vec<_>>())
    };
    // Of an earlier run.
    assert_eq!(told(&mut plan, &ok("pump", true)), expected("device_ok", "over"));
    assert_eq!(told(&mut plan, &silent("pump")), expected("device_silent", "silent"));
    assert_eq!(told(&mut plan, &ok("pump", false)), expected("device_ok", "over"));
    let mut story = Story::new();
    assert_eq!(story.event(0, &silent("a")), runs("device_silent", 1));
    assert_eq!(story.event(1, &Event::Overrun { lost: 9 }), []);
    assert_eq!(story.event(2, &accepted(Some("b"))), runs("queue_ok", 1));
    assert_eq!(story.event(3, &accepted(Some("a"))), runs("device_ok", 1));
}

#[test]
fn a_storm_of_failures_is_told_once_a_minute_with_its_number() {
    let mut story = Story::new();
    assert_eq!(story.event(0, &failed("1")), runs("failed", 1));
    for second in 1..60 {
        assert_eq!(story.event(second, &failed("more")), []);
    }
    assert_eq!((story.wake(), story.told(60)), (Some(60), runs("failed", 59)));
    assert_eq!((story.wake(), story.told(1000)), (None, vec![]));
    assert_eq!(story.event(1001, &failed("2")), runs("failed", 1));
}

#[test]
fn steps_of_escalations_are_told_apart_from_failures() {
    let step = |result| {
        let (id, account, to, text) = ("ID".into(), "phone".into(), String::new(), "not delivered after 600 s".into());
        Event::Step { id, step: 1, account, to, result, text }
    };
    let mut story = Story::new();
    assert_eq!(story.event(0, &step(StepResult::Begun)), runs("escalated", 1));
    assert_eq!(story.event(1, &failed("1")), runs("failed", 1));
    assert_eq!(story.event(2, &step(StepResult::Begun)), []);
    assert_eq!(story.event(3, &step(StepResult::Taken)), runs("resumed", 1));
    assert_eq!((story.wake(), story.told(60)), (Some(60), runs("escalated", 1)));
}

#[test]
fn memory_is_bounded() {
    let mut plan = Plan::default();
    for n in 0..1000 {
        let account = format!("a{n}");
        let Event::Failed { id, client, from, to, size, subject, tls, reason, delay, .. } = failed("x") else { return };
        let failed =
            Event::Failed { id, client, from, to, size, subject, account: account.clone(), tls, reason, delay };
        plan.take(&failed);
        plan.take(&Event::Paused { account, reason: "r".into(), next: Duration::ZERO });
    }
    assert_eq!((plan.states.len(), plan.failures.waiting.len()), (SUBJECTS, ACCOUNTS));
}

// SPDX-License-Identifier: Apache-2.0

use std::io::{BufRead, BufReader, Read};
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

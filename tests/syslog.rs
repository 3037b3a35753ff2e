// SPDX-License-Identifier: Apache-2.0
//! The log as a log daemon gets it: one datagram a line on `/dev/log`, in the form that OpenWrt's logd cuts up.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::relay::{Relay, Section};

/// The program, which ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn log_daemon(dev: &Path) -> UnixDatagram {
    let daemon = UnixDatagram::bind(dev.join("log")).unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    daemon
}

/// The program, to be started in a mount namespace of its own after `mounts`.
fn program(mounts: &str, arguments: &str) -> Command {
    let program = std::env::var("SMTPRELAY_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_smtprelay").into());
    let runner = std::env::var("SMTPRELAY_RUNNER").unwrap_or_default();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{mounts} && exec {runner} {program} {arguments}")]);
    command
}

/// The lines of an output of the program, as they come.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

/// Waits for a line with `wanted` in it.
fn line_with(lines: &Receiver<String>, wanted: &str) -> String {
    loop {
        let line = lines.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("no line with {wanted}"));
        if line.contains(wanted) {
            break line;
        }
    }
}

/// ujail shows `/dev/log` by a bind mount of the socket: in there it stays the one that it was.
#[test]
fn a_jail_gets_the_log_of_a_new_log_daemon_by_a_reload() {
    if !nix::unistd::geteuid().is_root() || Command::new("unshare").arg("--version").output().is_err() {
        println!("skipped: needs root and unshare");
        return;
    }
    let relay = Relay::builder().section(Section::custom_account("provider", "127.0.0.1", 1, "implicit")).prepare();
    let (dev, jail) = (relay.dir().join("dev"), relay.dir().join("jail"));
    std::fs::create_dir(&dev).unwrap();
    std::fs::create_dir(&jail).unwrap();
    std::fs::write(jail.join("log"), "").unwrap();
    let daemon = log_daemon(&dev);
    let (dev_path, jail_path, config) = (dev.display(), jail.display(), relay.config_path());
    let jailed = format!("mount --bind {dev_path}/log {jail_path}/log && mount --rbind {jail_path} /dev");
    let child = program(&jailed, &format!("run --config {}", config.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let out = lines(running.0.stdout.take().unwrap());
    let err = lines(running.0.stderr.take().unwrap());
    let mut buffer = [0; 2048];
    let mut wait_for = |daemon: &UnixDatagram, wanted: &str| loop {
        let length = daemon.recv(&mut buffer).expect("a line in the log");
        let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if line.contains(wanted) {
            break line;
        }
    };
    wait_for(&daemon, "event=listening");
    let id = Pid::from_raw(i32::try_from(running.0.id()).unwrap());
    let reload = || {
        let real = format!("mount --bind {dev_path} /dev");
        program(&real, &format!("reload --config {}", config.display())).status().unwrap()
    };
    let good = std::fs::read_to_string(&config).unwrap();
    let mut daemon = Some(daemon);
    // Twice: what was handed over is as old as any other the next time.
    for _ in 0..2 {
        daemon.take();
        std::fs::remove_file(dev.join("log")).unwrap();
        let next = log_daemon(&dev);
        // Out of sight. Each line goes to where procd gives it its level.
        kill(id, Signal::SIGHUP).unwrap();
        assert!(line_with(&out, "event=reloaded").starts_with("smtprelay: info: "));
        std::fs::write(&config, "nonsense\n").unwrap();
        kill(id, Signal::SIGHUP).unwrap();
        assert!(line_with(&err, "event=reload_refused").starts_with("smtprelay: error: "));
        std::fs::write(&config, &good).unwrap();
        assert!(reload().success());
        let line = wait_for(&next, "event=reloaded");
        assert!(line.starts_with("<22>") && line.contains(" smtprelay["), "{line}");
        daemon = Some(next);
    }
    // Settings that can't be used bring it as well.
    daemon.take();
    std::fs::remove_file(dev.join("log")).unwrap();
    let last = log_daemon(&dev);
    std::fs::write(&config, format!("{good}\nconfig listener 'odd'\n\toption port 'nonsense'\n")).unwrap();
    assert!(!reload().success());
    let line = wait_for(&last, "event=reload_refused");
    assert!(line.contains(" smtprelay["), "{line}");
}

#[test]
fn lines_go_to_the_log_daemon() {
    let relay = Relay::builder().section(Section::custom_account("provider", "127.0.0.1", 1, "implicit")).prepare();
    // A `/dev` of its own, seen by the program alone, with a log daemon of ours in it.
    let dev = relay.dir().join("dev");
    std::fs::create_dir(&dev).unwrap();
    let daemon = log_daemon(&dev);
    let program = std::env::var("SMTPRELAY_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_smtprelay").into());
    let runner = std::env::var("SMTPRELAY_RUNNER").unwrap_or_default();
    let script = format!(
        "mount --bind {} /dev && exec {runner} {program} run --config {}",
        dev.display(),
        relay.config_path().display()
    );
    let child = Command::new("unshare").args(["--mount", "sh", "-c", &script]).stderr(Stdio::null()).spawn();
    let Ok(child) = child else {
        println!("skipped: unshare is not installed");
        return;
    };
    let running = Running(child);
    let mut line = [0; 2048];
    let mut next = |daemon: &UnixDatagram| {
        daemon.recv(&mut line).ok().map(|length| String::from_utf8_lossy(&line[..length]).into_owned())
    };
    let Some(first) = next(&daemon) else {
        assert!(!nix::unistd::geteuid().is_root(), "nothing came to the log");
        println!("skipped: only root can have a /dev of its own");
        return;
    };
    // Mail facility (2), level info (6): 2 * 8 + 6. No host name between time and tag.
    let head = format!(" smtprelay[{}]: event=", running.0.id());
    assert!(first.starts_with("<22>") && first.contains(&head), "{first}");
    assert_eq!(first.as_bytes()[19], b' ', "{first}");
    loop {
        let line = next(&daemon).expect("a line about listening");
        if line.contains("event=listening") {
            break;
        }
        assert!(!line.contains('\n'));
    }
    // Another log daemon, as after a restart of logd.
    drop(daemon);
    std::fs::remove_file(dev.join("log")).unwrap();
    let daemon = log_daemon(&dev);
    kill(Pid::from_raw(i32::try_from(running.0.id()).unwrap()), Signal::SIGHUP).unwrap();
    let again = next(&daemon).expect("a line about the reload");
    assert!(again.starts_with("<22>") && again.contains(&head), "{again}");
}

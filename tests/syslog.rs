//! The log as a log daemon gets it: one datagram a line on `/dev/log`, in the form that OpenWrt's logd cuts up.

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
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

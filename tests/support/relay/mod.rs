// SPDX-License-Identifier: Apache-2.0
//! Runs the real `smtprelay` program, with a configuration and a spool of its own.
//!
//! Which program: the one that cargo built for the tests, or the one that `SMTPRELAY_BIN` names (an installed
//! package, another architecture). `SMTPRELAY_RUNNER` is put in front, split at blanks: `SMTPRELAY_RUNNER="qemu-mips
//! -L /some/root"` tests a MIPS program.

mod config;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::log::ProcessLog;
use super::watch::Watched;

pub use super::log::field;
pub use config::{ACCOUNT_FROM, RelayBuilder, Section};

/// How long the program may take to start or to stop. Long: it may run under an emulator on a busy machine.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// A command that asks and is answered.
pub struct Conversation {
    child: tokio::process::Child,
    out: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
}

impl Conversation {
    /// Types this in.
    pub async fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        tokio::io::AsyncWriteExt::write_all(stdin, text.as_bytes()).await.expect("a command that reads");
    }

    /// The next line that fits.
    pub async fn line(&mut self, fits: impl Fn(&str) -> bool) -> String {
        let found = async {
            loop {
                match self.out.next_line().await.expect("its output") {
                    Some(line) if fits(&line) => return line,
                    Some(_) => {}
                    None => panic!("the command ended without the line"),
                }
            }
        };
        tokio::time::timeout(START_LIMIT, found).await.expect("a line in time")
    }
}

/// The program, running or not. It is killed when this is dropped, and its folder removed.
pub struct Relay {
    dir: TempDir,
    sections: Vec<Section>,
    env: Vec<(String, String)>,
    child: Option<Child>,
    log: ProcessLog,
    address: Option<SocketAddr>,
}

impl Relay {
    /// A listener on a free port of 127.0.0.1 that takes mail from this machine, and no account.
    pub fn builder() -> RelayBuilder {
        RelayBuilder::new()
    }

    /// Where it listens. Another port after each start.
    pub fn addr(&self) -> SocketAddr {
        self.address.expect("a relay that has been started")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a relay that is running").id()
    }

    /// The folder with everything of this relay.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("smtprelay.conf")
    }

    /// The spool, if the test named no other.
    pub fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// The spool that survives power loss, if the test named no other.
    pub fn safe_spool(&self) -> PathBuf {
        self.dir.path().join("safe")
    }

    /// Changes a section of the configuration file; a missing one is added. The program does not know of it before
    /// it is told.
    pub fn configure(&mut self, kind: &str, name: &str, change: impl FnOnce(Section) -> Section) {
        let at = self.sections.iter().position(|section| section.kind == kind && section.name == name);
        let section = at.map(|at| self.sections[at].clone()).unwrap_or_else(|| Section::new(kind, name));
        let section = change(section);
        match at {
            Some(at) => self.sections[at] = section,
            None => self.sections.push(section),
        }
        self.write_config();
    }

    /// Takes a section out of the configuration file. The program does not know of it before it is told.
    pub fn take_away(&mut self, kind: &str, name: &str) {
        let before = self.sections.len();
        self.sections.retain(|section| section.kind != kind || section.name != name);
        assert!(self.sections.len() < before, "there is no {kind} {name}");
        self.write_config();
    }

    /// Runs `smtprelay ARGS --config FILE` to its end, with this as its input.
    pub async fn command_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = tokio::process::Command::from(self.program());
        command.args(args).arg("--config").arg(self.config_path()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let mut stdin = child.stdin.take().expect("a pipe");
        let feed = async move {
            // It may well end without reading.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input).await;
        };
        let run = async { tokio::join!(feed, child.wait_with_output()).1 };
        match tokio::time::timeout(START_LIMIT, run).await {
            Ok(output) => output.expect("the output of a command"),
            Err(_) => panic!("smtprelay {args:?} did not end within {START_LIMIT:?}\n{}", self.log),
        }
    }

    /// Starts `smtprelay ARGS --config FILE`, for a conversation.
    pub fn interactive(&self, args: &[&str]) -> Conversation {
        let mut command = tokio::process::Command::from(self.program());
        command.args(args).arg("--config").arg(self.config_path()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let out = child.stdout.take().expect("a pipe");
        Conversation { child, out: tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out)) }
    }

    /// Runs `smtprelay ARGS --config FILE` to its end.
    pub async fn command(&self, args: &[&str]) -> Output {
        self.command_with_input(args, b"").await
    }

    /// All lines of the log so far, of all runs.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// The lines of the log that came after [`Relay::mark`].
    pub fn log_from(&self, mark: usize) -> Vec<String> {
        self.log.lines_from(mark)
    }

    /// The first line of the current run's log that fits, seen already or still to come. Panics with the log if
    /// there is none within `limit`, or if the program ends before.
    pub async fn wait_log(&self, fits: impl Fn(&str) -> bool, limit: Duration) -> String {
        self.wait_log_from(self.log.run_start(), fits, limit).await
    }

    /// As [`Relay::wait_log`], but looks only at lines that come after [`Relay::mark`].
    pub async fn wait_log_from(&self, mark: usize, fits: impl Fn(&str) -> bool, limit: Duration) -> String {
        match self.log.wait(mark, fits, limit).await {
            Ok(line) => line,
            Err(why) => panic!("a line is missing in the log of the relay: {why}\n{}", self.log),
        }
    }

    /// Waits until so many lines of all runs fit, and returns all that do then: the program's words come to us behind
    /// what it does. Panics with the log if there are not so many within `limit`.
    pub async fn wait_lines(&self, fits: impl Fn(&str) -> bool, count: usize, limit: Duration) -> Vec<String> {
        let mut mark = 0;
        loop {
            let found: Vec<String> = self.log().into_iter().filter(|line| fits(line)).collect();
            if found.len() >= count {
                return found;
            }
            self.wait_log_from(mark, &fits, limit).await;
            mark = self.mark();
        }
    }

    /// How far the log has come in simulated time. See [`super::timewarp::TimeWarp`].
    pub fn told_until(&self) -> Watched<i64> {
        self.log.reached()
    }

    /// A place in the log: the number of lines so far.
    pub fn mark(&self) -> usize {
        self.log.mark()
    }

    /// Kills it, as a power cut or the out-of-memory killer would, and waits until it is gone.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.log.finish();
        }
    }

    /// Asks it to end. See [`Relay::wait_exit`].
    pub fn sigterm(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Asks it to read its settings again.
    pub fn sighup(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Waits until it has ended by itself. Panics with the log if that takes too long.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        if !self.log.wait_end(START_LIMIT).await {
            panic!("the relay did not end within {START_LIMIT:?}\n{}", self.log);
        }
        let mut child = self.child.take().expect("a relay that was running");
        child.wait().expect("its exit status")
    }

    /// Ends it in good order (if it runs) and starts it again with the same spool and the configuration as it is
    /// now. It may get another port.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.sigterm();
            self.wait_exit().await;
        }
        self.spawn();
        self.wait_until_listening().await;
    }

    /// Starts it and does not wait for anything.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the relay runs already");
        let mut command = self.program();
        command.args(["run", "--foreground", "--config"]).arg(self.config_path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        self.log.follow(&mut child);
        self.child = Some(child);
    }

    /// Waits until the log says where it listens: `event=listening address=… port=…`.
    pub async fn wait_until_listening(&mut self) {
        let line = self.wait_log(|line| field(line, "event") == Some("listening"), START_LIMIT).await;
        let address = field(&line, "address").and_then(|address| address.trim_matches(['[', ']']).parse().ok());
        let port = field(&line, "port").and_then(|port| port.parse().ok());
        let (Some(address), Some(port)) = (address, port) else { panic!("no address= and port= in {line:?}") };
        let address: IpAddr = address;
        self.address = Some(SocketAddr::new(address, port));
    }

    fn write_config(&self) {
        let mut text = String::new();
        for section in &self.sections {
            section.render(&mut text);
        }
        // As a new file, because the program may be reading the old one.
        let new = self.dir.path().join("smtprelay.conf.new");
        fs::write(&new, text).expect("write the configuration");
        fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).expect("close the configuration to others");
        fs::rename(&new, self.config_path()).expect("rename the configuration");
    }

    /// The program, for a start of another kind than those above.
    pub fn program(&self) -> Command {
        let bin = std::env::var_os("SMTPRELAY_BIN")
            .or_else(|| option_env!("CARGO_BIN_EXE_smtprelay").map(Into::into))
            .expect("SMTPRELAY_BIN, or a test that cargo built the program for");
        let runner = std::env::var("SMTPRELAY_RUNNER").unwrap_or_default();
        let mut words = runner.split_whitespace();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(bin);
                command
            }
            None => Command::new(bin),
        };
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("send {signal}: {error}"));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- log of the relay\n{}\n---", self.log);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The hook of a gateway that is not root: a separate process, started before root is given up, with a single purpose.
//!
//! A script that blinks an LED or restarts a modem needs root, which the gateway must not have. So this process keeps
//! it: it runs only the program that the settings specified at the start, only with the names of `NAMES` in its
//! environment, one at a time, and ends when the gateway does.
//!
//! A request is one line, `NAME=value` separated by NULs; the answer is one line, empty or an error.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use super::{BURIAL, Call, Group, TIME_LIMIT, too_long};

/// The allowed environment of the script, in addition to PATH.
const NAMES: [&str; 8] = [
    "ACTION",
    "SMTPRELAY_COUNT",
    "SMTPRELAY_ACCOUNT",
    "SMTPRELAY_REASON",
    "SMTPRELAY_NEXT",
    "SMTPRELAY_ID",
    "SMTPRELAY_TO",
    "SMTPRELAY_CLIENT",
];
/// Bytes of a request: eight values of 300 bytes, and their names.
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
    pub(super) async fn run(&mut self, call: &Call) -> Result<(), String> {
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
    let word = |word: &'_ str| -> Option<(usize, usize)> {
        let at = word.find('=')?;
        let fine = NAMES.contains(&word.get(..at)?) && !word.chars().any(char::is_control);
        fine.then_some((at, at + 1))
    };
    text.split('\0')
        .map(|pair| word(pair).and_then(|(end, begin)| Some((pair.get(..end)?, pair.get(begin..)?))))
        .collect()
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

#[cfg(test)]
#[path = "helper_tests.rs"]
mod tests;

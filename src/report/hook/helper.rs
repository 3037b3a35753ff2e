//! The hook of a gateway that is not root: a process of its own, started before root is given up, that can do one thing.
//!
//! A script that blinks an LED or restarts a modem needs root, the gateway must not have it. So this process keeps it: it
//! runs the program that the settings named at the start, never another one, with the names of `NAMES` in its
//! environment, never others, one at a time, and ends when the gateway does.
//!
//! A request is one line, `NAME=value` between NULs; the answer is one line, empty or what went wrong.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use super::{BURIAL, Call, Group, TIME_LIMIT, too_long};

/// What may stand in the environment of the script, beside PATH.
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
/// How often it is looked whether the script has ended, or the gateway.
const LOOK: Duration = Duration::from_millis(100);
/// The word on the command line that makes the program this process.
pub const COMMAND: &str = "hook-runner";

/// The gateway's end.
pub struct Helper {
    stream: UnixStream,
    /// Waited for when this is dropped, which ends it.
    child: Child,
}

impl Helper {
    /// Starts the process that runs `program`. It inherits nothing but its end of the conversation: the settings with
    /// their passwords are not in its memory.
    ///
    /// # Errors
    /// When it can't be started.
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
            // What a terminal sends to the gateway is not for this one: it ends when the gateway has.
            .process_group(0)
            .spawn()?;
        Ok(Self { stream, child })
    }

    /// Makes it ready for the runtime.
    ///
    /// # Errors
    /// Of the system.
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
    /// Has the program run, to its end.
    ///
    /// # Errors
    /// When it could not be run or took too long.
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
                Err("the process that runs it has ended; it comes back with the next start of the gateway".into())
            }
            Err(error) => Err(format!("the process that runs it can't be reached: {error}")),
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        // Takes away what is left of one that has ended; one that still runs is the system's to bury.
        let _ = self.child.try_wait();
    }
}

/// The other end: runs `program` as it is told to on `stream`, until there is nobody to tell. Keeps the rights that it was
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
            None => "the gateway asked for something else than a hook".into(),
        };
        stream.get_mut().write_all(format!("{}\n", answer.replace('\n', " ")).as_bytes())?;
    }
}

/// What a request asks for; `None` when that is not a hook.
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

/// How long the program may take, and what is left of runs that were killed and did not go at once.
struct Runs {
    limit: Duration,
    unburied: Vec<Group>,
}

impl Runs {
    /// Runs the program once. The error is that of the conversation: then there is nothing more to do.
    fn run(&mut self, program: &Path, environment: &[(&str, &str)], gateway: &mut UnixStream) -> io::Result<String> {
        self.unburied.retain_mut(|group| !group.has_ended());
        let mut group = match Group::start(program, environment.iter().copied()) {
            Ok(Some(group)) => group,
            Ok(None) => return Ok(String::new()),
            Err(error) => return Ok(format!("can't be run: {error}")),
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
            // Waits for a moment, and hears when the gateway has ended. It has nothing to say now.
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

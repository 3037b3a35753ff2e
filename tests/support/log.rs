// SPDX-License-Identifier: Apache-2.0
//! What a program under test says, line by line.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::thread::JoinHandle;
use std::time::Duration;

use super::watch::Watched;

/// The lines that a program wrote to standard output and standard error, over all of its runs.
pub struct ProcessLog {
    state: Watched<State>,
    /// Up to which moment of simulated time all is in the lines. See `tests/timewarp/timewarp.c`.
    reached: Watched<i64>,
    /// The readers of the current run.
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    /// Where the lines of the current run begin.
    run: usize,
    /// How many readers of the current run go on.
    open: usize,
}

/// Why a line did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The program has ended without it.
    Ended,
    /// The time is over.
    TimedOut(Duration),
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Ended => out.write_str("the program has ended"),
            Missing::TimedOut(limit) => write!(out, "waited for {limit:?}"),
        }
    }
}

impl ProcessLog {
    /// An empty one.
    pub fn new() -> ProcessLog {
        ProcessLog { state: Watched::new(State::default()), reached: Watched::new(0), readers: Vec::new() }
    }

    /// Begins a new run: reads both outputs of the child, which have to be pipes.
    pub fn follow(&mut self, child: &mut Child) {
        self.finish();
        self.state.change(|state| {
            state.run = state.lines.len();
            state.open = 2;
        });
        let stdout = child.stdout.take().expect("a pipe for standard output");
        let stderr = child.stderr.take().expect("a pipe for standard error");
        self.readers = [Box::new(stdout) as Box<dyn Read + Send>, Box::new(stderr)]
            .map(|stream| read(stream, self.state.clone(), self.reached.clone()))
            .into();
    }

    /// The moment of simulated time, in nanoseconds, up to which all that the program said is in the lines.
    pub fn reached(&self) -> Watched<i64> {
        self.reached.clone()
    }

    /// Takes in what the program wrote before it was killed, so that it is not taken for words of the next run.
    pub fn finish(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.state.read(|state| state.lines.clone())
    }

    /// The lines from `mark` on.
    pub fn lines_from(&self, mark: usize) -> Vec<String> {
        self.state.read(|state| state.lines.get(mark..).unwrap_or_default().to_vec())
    }

    /// The number of lines so far.
    pub fn mark(&self) -> usize {
        self.state.read(|state| state.lines.len())
    }

    /// The number of lines of earlier runs.
    pub fn run_start(&self) -> usize {
        self.state.read(|state| state.run)
    }

    /// The first line from `mark` on that fits, seen already or still to come.
    pub async fn wait(&self, mark: usize, fits: impl Fn(&str) -> bool, limit: Duration) -> Result<String, Missing> {
        let look = |state: &State| {
            let line = state.lines.iter().skip(mark).find(|line| fits(line)).cloned();
            line.map(Ok).or((state.open == 0).then_some(Err(Missing::Ended)))
        };
        self.state.wait(limit, look).await.unwrap_or(Err(Missing::TimedOut(limit)))
    }

    /// Waits until the program says nothing more, because it has ended. False after `limit`.
    pub async fn wait_end(&self, limit: Duration) -> bool {
        self.state.wait(limit, |state| (state.open == 0).then_some(())).await.is_some()
    }
}

impl Default for ProcessLog {
    fn default() -> ProcessLog {
        ProcessLog::new()
    }
}

impl fmt::Display for ProcessLog {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.lines().join("\n"))
    }
}

/// The value of `name=value` in a log line. A value in double quotes may contain blanks; the quotes stay away.
pub fn field<'line>(line: &'line str, name: &str) -> Option<&'line str> {
    let start = line.match_indices(name).find_map(|(at, _)| {
        let before = line[..at].chars().next_back();
        let behind = line[at + name.len()..].strip_prefix('=')?;
        before.is_none_or(char::is_whitespace).then_some(behind)
    })?;
    match start.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => start.split_whitespace().next(),
    }
}

/// What the library of simulated time says on its own behalf.
const REACHED: &str = "timewarp: reached ";

/// Collects lines until the stream ends. A thread, so that it works while the test's runtime is busy or gone.
fn read(stream: impl Read + Send + 'static, state: Watched<State>, reached: Watched<i64>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            match text.strip_prefix(REACHED) {
                Some(horizon) => reached.change(|reached| *reached = horizon.parse().expect("a number")),
                None => state.change(|state| state.lines.push(text)),
            }
            line.clear();
        }
        state.change(|state| state.open -= 1);
    })
}

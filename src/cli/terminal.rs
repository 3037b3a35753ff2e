// SPDX-License-Identifier: Apache-2.0
//! Reads a line that must not be visible: from a terminal without echo, or from a pipe.
//!
//! While the terminal does not echo, the signals that would end or stop the program are blocked and polled together
//! with the input, so that the echo is restored before they take effect.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::read;
use smtprelay::secrets::Secret;
use smtprelay::secrets::password::LIMIT;
use zeroize::Zeroizing;

/// Signals that end or stop a program that reads from a terminal.
const SIGNALS: [Signal; 5] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];
/// Bytes that are read: the longest password with its line ending, and one byte to detect a longer one.
const ROOM: usize = LIMIT + 3;

/// A terminal with echo disabled. It is restored on drop.
struct Silence {
    before: Termios,
    mask: SigSet,
}

impl Silence {
    fn begin(signals: &SigSet) -> io::Result<Self> {
        let mask = signals.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        let before = match tcgetattr(io::stdin()) {
            Ok(before) => before,
            Err(error) => {
                let _ = mask.thread_set_mask();
                return Err(error.into());
            }
        };
        let silence = Self { before, mask };
        let mut silent = silence.before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        // Only the line ending is echoed.
        silent.local_flags.insert(LocalFlags::ECHONL);
        // What was typed ahead was visible: it is discarded.
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(silence)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.before);
        let _ = self.mask.thread_set_mask();
    }
}

/// Prompts for a line with `prompt` and reads it without echo.
///
/// # Errors
/// If the terminal is gone, or ends without a line.
pub fn hidden(prompt: &str) -> io::Result<Secret> {
    let signals: SigSet = SIGNALS.into_iter().collect();
    loop {
        let silence = Silence::begin(&signals)?;
        let signal = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let mut terminal = io::stderr().lock();
        terminal.write_all(prompt.as_bytes()).and_then(|()| terminal.flush())?;
        let read = read_line(Some(&signal));
        drop(silence);
        match read? {
            Read::Line(line) => return Ok(line),
            Read::Signal(number) => {
                let _ = terminal.write_all(b"\n");
                if let Ok(signal) = Signal::try_from(number) {
                    // This ends the process; only after a stop does it continue, and then it prompts again.
                    raise(signal)?;
                }
            }
        }
    }
}

/// The first line of standard input, without its line ending.
///
/// # Errors
/// If it cannot be read.
pub fn line() -> io::Result<Secret> {
    match read_line(None)? {
        Read::Line(line) => Ok(line),
        Read::Signal(_) => Ok(Secret::default()),
    }
}

enum Read {
    Line(Secret),
    /// A signal that ends or stops the process.
    Signal(i32),
}

/// Reads up to a line ending, the end of input or the maximum length of a password.
fn read_line(signal: Option<&SignalFd>) -> io::Result<Read> {
    let stdin = io::stdin();
    // Allocated in full: growing would leave copies behind.
    let mut line = Zeroizing::new([0; ROOM]);
    let mut length = 0;
    while let Some(room) = line.get_mut(length..).filter(|room| !room.is_empty()) {
        if let Some(number) = signal.map(wait).transpose()?.flatten() {
            return Ok(Read::Signal(number));
        }
        let count = match read(&stdin, room) {
            Err(Errno::EINTR) => continue,
            count => count?,
        };
        let end = room.get(..count).unwrap_or_default().contains(&b'\n');
        length += count;
        if end || count == 0 {
            break;
        }
    }
    let line = line.get(..length).unwrap_or_default();
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| io::Error::other("it is not valid UTF-8"))?;
    Ok(Read::Line(Secret::new(text.to_string())))
}

/// Waits for input; a signal that arrives first is returned.
fn wait(signal: &SignalFd) -> io::Result<Option<i32>> {
    let stdin = io::stdin();
    loop {
        let mut both = [PollFd::new(signal.as_fd(), PollFlags::POLLIN), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut both, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            polled => polled?,
        };
        return Ok(signal.read_signal()?.and_then(|info| i32::try_from(info.ssi_signo).ok()));
    }
}

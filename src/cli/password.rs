// SPDX-License-Identifier: Apache-2.0
//! `smtprelay password ACCOUNT`: stores the password of an account encrypted, whether or not the gateway is running.
//!
//! The line with the password must not be visible: it is read from a terminal without echo, or from a pipe. While the
//! terminal does not echo, the signals that would end or stop the program are blocked and polled together with the
//! input, so that the echo is restored before they take effect.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::read;
use smtprelay::config::{self, Relay, stored};
use smtprelay::control::socket::{CallFailure, ControlClient};
use smtprelay::secrets::Secret;
use smtprelay::secrets::password::{LIMIT, PasswordFile, check};
use smtprelay::secrets::vault::remove_left;
use smtprelay::system::json::json;
use zeroize::Zeroizing;

use super::reload::spool_in_use;
use super::{Failure, complain, exit, finish};

/// Prompts for the password of the account called `name` and stores it, or with `delete` removes the stored one.
pub fn password(name: &str, delete: bool, file: &Path, json: bool) -> ExitCode {
    let done = change(name, delete, file);
    finish(done.map(|text| match json {
        true => format!("{}\n", json!({ "account": name, "stored": !delete, "text": text.trim_end() })),
        false => text,
    }))
}

/// Prompts for `what`, such as the password of an account, which must not be empty.
pub fn required(what: &str) -> Result<Secret, Failure> {
    let missing = || (exit::USAGE, "no password was entered; nothing was changed".to_string());
    enter(what)?.ok_or_else(missing)
}

/// How a prompt names the password of the account called `name`.
pub fn of_account(name: &str) -> String {
    format!("Password of account '{name}'")
}

/// Stores a password of the account called `name`, or with `None` removes the stored one.
pub fn store(name: &str, entered: Option<Secret>, file: &Path) -> Result<String, Failure> {
    keep(name, file, false, |_| Ok(entered))
}

fn change(name: &str, delete: bool, file: &Path) -> Result<String, Failure> {
    const REMOVES: &str = " (leave empty to remove the stored one)";
    keep(name, file, delete, |name| match delete {
        true => Ok(None),
        // A script whose variable is empty does not intend to remove the password.
        false => enter(&format!("{}{REMOVES}", of_account(name))).map_err(|(code, text)| match code {
            exit::USAGE if !std::io::stdin().is_terminal() => {
                (code, format!("{text}; use --delete to remove a stored password"))
            }
            _ => (code, text),
        }),
    })
}

/// Stores what `enter` returns for the account called `name`.
fn keep(
    name: &str,
    file: &Path,
    delete: bool,
    enter: impl FnOnce(&str) -> Result<Option<Secret>, Failure>,
) -> Result<String, Failure> {
    let usage = |text: String| (exit::USAGE, text);
    let failed = |text: String| (1, text);
    // Settings that are not valid yet may lack just this password.
    let (relay, logins) = config::outline(file).map_err(|error| failed(error.to_string()))?;
    let Some(login) = logins.iter().find(|login| login.account == name) else {
        if delete && remove_left(&relay.secrets, name).map_err(failed)? {
            return Ok(format!("removed the stored secrets of account '{name}', which is no longer in the settings\n"));
        }
        let names: Vec<&str> = logins.iter().map(|login| login.account.as_str()).collect();
        let (file, names) = (file.display(), names.join(", "));
        return Err(usage(format!("no account is named '{name}' in {file}; accounts: {names}")));
    };
    if login.tokens && !delete {
        return Err(usage(format!("account '{name}' uses OAuth tokens, not a password: run 'smtprelay login {name}'")));
    }
    if !relay.secrets.is_absolute() {
        return Err(usage(format!("option secrets in {} must be an absolute path", file.display())));
    }
    let place = PasswordFile::of(&relay.secrets, name).map_err(|error| usage(error.to_string()))?;
    let entered = enter(name)?;
    let mut text = match &entered {
        Some(password) => {
            place.save(password).map_err(failed)?;
            format!("the password of account '{name}' is stored encrypted in {}\n", place.path().display())
        }
        None if place.remove().map_err(failed)? => {
            format!("the stored password of account '{name}' has been removed\n")
        }
        None => return Ok(format!("no password is stored for account '{name}'\n")),
    };
    // It is stored, and perhaps others can read it there.
    let drives = config::advice::drives(&relay);
    let about = format!("option secrets '{}'", relay.secrets.display());
    drives.iter().filter(|drive| entered.is_some() && drive.text.starts_with(&about)).for_each(|d| complain(&d.text));
    // Or the gateway cannot.
    config::advice::secrets(&relay).iter().filter(|_| entered.is_some()).for_each(|text| complain(text));
    if !login.tokens {
        text += &tell(&relay, login, entered.as_ref(), file);
    }
    Ok(text)
}

/// What was entered at the prompt `what`; `None` if nothing was.
fn enter(what: &str) -> Result<Option<Secret>, Failure> {
    let failed = |error: std::io::Error| (1, format!("cannot read the password: {error}"));
    if !std::io::stdin().is_terminal() {
        let password = line().map_err(failed)?;
        return match check(password.expose()) {
            Ok(()) => Ok(Some(password)),
            Err(text) => Err((exit::USAGE, format!("{text}; nothing was changed"))),
        };
    }
    let first = hidden(&format!("{what}: ")).map_err(failed)?;
    if first.is_empty() {
        return Ok(None);
    }
    check(first.expose()).map_err(|text| (exit::USAGE, format!("{text}; nothing was changed")))?;
    match hidden("Repeat password: ").map_err(failed)? == first {
        true => Ok(Some(first)),
        false => Err((exit::USAGE, "the passwords do not match; nothing was changed".into())),
    }
}

/// Makes the running gateway use it at once. Returns what to report about that.
fn tell(relay: &Relay, login: &stored::AccountLogin, password: Option<&Secret>, file: &Path) -> String {
    let name = &login.account;
    if login.written.is_some() {
        return format!(
            "option password of account '{name}' in {} still takes precedence; remove it: uci delete smtprelay.{name}.password; uci commit smtprelay; service smtprelay reload\n",
            file.display()
        );
    }
    let later =
        |why: &str| format!("the running gateway could not be notified: {why}; run 'service smtprelay reload'\n");
    let mut client = match ControlClient::connect(&spool_in_use(&relay.spool, file)) {
        Ok(Some(client)) => client,
        Ok(None) => return String::new(),
        Err(text) => return later(&text),
    };
    let text = password.map(Secret::expose).unwrap_or_default();
    match client.call("set_password", json!({ "account": name, "password": text })) {
        Ok(_) if password.is_some() => "the gateway now uses it\n".into(),
        Ok(_) => "the gateway no longer uses it\n".into(),
        Err(CallFailure { text, .. }) => later(&text),
    }
}

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
fn hidden(prompt: &str) -> io::Result<Secret> {
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
fn line() -> io::Result<Secret> {
    Ok(match read_line(None)? {
        Read::Line(line) => line,
        Read::Signal(_) => Secret::default(),
    })
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

// SPDX-License-Identifier: Apache-2.0
//! From arguments to a command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::test_mail::Test;
use smtprelay::message::is_address;
use smtprelay::report::hook;
use smtprelay::submit::{Request, Style};
use smtprelay::{VERSION, config};

const HELP: &str = "\
smtprelay: mail gateway for devices that do not support modern mail providers
usage: smtprelay COMMAND [--config FILE]
  run [--foreground]   relay mail; with --foreground, log to stderr instead of syslog
  reload               make the running gateway apply the current settings; open connections are kept
  check                check the settings: exit code 0 if they are valid
  show                 print the effective settings, including defaults, with passwords masked
  status [--json]      show the current state: accounts, queue, what a power cut would lose
  queue [--json]       list the queued messages and why they are waiting
  queue show ID [--json]
                       show one message: its header and all delivery attempts
  queue retry ID|all   attempt delivery now
  queue hold ID|all    hold until released
  queue release ID|all  release held messages and attempt delivery now
  queue delete ID|all  delete without sending a bounce
  providers [NAME] [--json]
                       list the known mail providers, or everything that is known about one
  history [--json]     show the latest delivery results
  devices [--json]     list the devices that have sent mail or tried to
  wake [REASON]        external conditions have changed (uplink, clock): attempt all deliveries now
  test [ACCOUNT] RCPT [--verbose] [--json]
                       send a test mail at once and show each step; with --verbose, show the SMTP transcript
  password ACCOUNT [--delete]
                       store the password of an account encrypted: prompt for it, or read one line from stdin
  login ACCOUNT        sign in to the provider, for an account with auth 'xoauth2'
  send [OPTIONS] [RECIPIENT...]
                       send the message on stdin, like sendmail:
                         -t       read the recipients from the header
                         -f ADDR  set the envelope sender
                         -i, -oi  a single dot does not end the message
  --config FILE        settings file, default /etc/config/smtprelay
  --version, --help    print the version, or this help
Invoked as sendmail or msmtp it sends, as mailq or postqueue -p it lists the queue, as postqueue -f it retries all messages.
Signals: SIGHUP reloads the settings (only if the gateway can still read them: use reload), SIGTERM shuts down cleanly.
Exit codes: 0 success, 1 failure, 64 usage error, 66 no such message, 69 gateway not running, 75 temporary failure.
";

/// A query to the running gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    Status,
    /// List the queue.
    Queue,
    /// Show one message.
    Show(String),
    /// `retry`, `hold`, `release` or `delete` one message or all.
    Change {
        method: &'static str,
        id: String,
    },
    History,
    Devices,
    Wake(String),
}

pub enum Command {
    Run {
        foreground: bool,
    },
    /// For the init script.
    JailMounts,
    Reload,
    Check,
    Show,
    Ask {
        question: Question,
        json: bool,
    },
    Login(String),
    Test(Test),
    Send(Request),
}

/// What was requested: a command with its settings file, or only a text to print.
pub enum Asked {
    Do(Command, PathBuf),
    /// Store a password: this does not require valid settings.
    Password {
        account: String,
        delete: bool,
        file: PathBuf,
    },
    /// Be the process that runs this program, the hook.
    Hook(PathBuf),
    Print(String),
}

/// Parses the arguments.
///
/// # Errors
/// What is wrong with them.
pub fn parse(arguments: Vec<OsString>) -> Result<Asked, String> {
    let called = arguments.first().map(|name| Path::new(name).file_name().unwrap_or_default().to_os_string());
    let default = PathBuf::from(config::DEFAULT_FILE);
    let list = || Command::Ask { question: Question::Queue, json: false };
    match called.as_deref().and_then(|name| name.to_str()) {
        // mailq has accepted all kinds of options over time, and none of them has a meaning here.
        Some("mailq") => return Ok(Asked::Do(list(), settings_file(&arguments, default)?.1)),
        Some("postqueue") => {
            let (words, file) = settings_file(&arguments, default)?;
            return Ok(Asked::Do(postqueue(&words)?, file));
        }
        Some("sendmail") => return parse_send(&arguments, default, Style::Sendmail),
        Some("msmtp") => return parse_send(&arguments, default, Style::Msmtp),
        _ => {}
    }
    if arguments.get(1).is_some_and(|command| command == "send") {
        return parse_send(arguments.get(1..).unwrap_or_default(), default, Style::Sendmail);
    }
    parse_own(arguments, default)
}

fn parse_own(arguments: Vec<OsString>, mut file: PathBuf) -> Result<Asked, String> {
    let mut parser = lexopt::Parser::from_iter(arguments);
    let (mut words, mut foreground, mut json) = (Vec::new(), false, false);
    let (mut verbose, mut delete) = (false, false);
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        use lexopt::prelude::*;
        match argument {
            Long("config") | Short('c') => file = parser.value().map_err(|e| e.to_string())?.into(),
            Long("foreground") => foreground = true,
            Long("json") => json = true,
            Long("verbose") | Short('v') => verbose = true,
            Long("delete") => delete = true,
            Long("version") | Short('V') => return Ok(Asked::Print(format!("smtprelay {VERSION}\n"))),
            Long("help") | Short('h') => return Ok(Asked::Print(HELP.into())),
            Value(word) => words.push(word.into_string().map_err(|word| format!("not UTF-8: {}", word.display()))?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let command = match words.as_slice() {
        ["run"] => Command::Run { foreground },
        // Not meant for users, so not in the help.
        [hook::COMMAND, program] => return Ok(Asked::Hook((*program).into())),
        ["jail-mounts"] => Command::JailMounts,
        ["reload"] => Command::Reload,
        ["check"] => Command::Check,
        ["show"] => Command::Show,
        ["providers"] => return super::providers::providers(None, json).map(Asked::Print),
        ["providers", name] => return super::providers::providers(Some(name), json).map(Asked::Print),
        ["test", to] | ["test", _, to] if !is_address(to) => {
            return Err(format!("'{to}' is not a mail address: test requires the recipient of the test mail"));
        }
        ["test", account @ .., to] if account.len() < 2 => {
            Command::Test(Test { account: account.concat(), to: (*to).into(), verbose, json })
        }
        ["test"] => return Err("test requires the recipient of the test mail".into()),
        ["login", account] => Command::Login((*account).into()),
        ["password", _] if json || foreground => return Err("password supports only --delete".into()),
        ["password", account] => return Ok(Asked::Password { account: (*account).into(), delete, file }),
        ["password"] => return Err("password requires an account name".into()),
        // A word on the command line is visible to all users.
        ["password", ..] => return Err("password takes only an account name, and prompts for the password".into()),
        ["login"] => return Err("login requires an account name".into()),
        ["help"] => return Ok(Asked::Print(HELP.into())),
        [] => return Err("no command given".into()),
        words => Command::Ask { question: question(words)?, json },
    };
    match &command {
        _ if delete => Err("--delete is only valid with password".into()),
        Command::Run { .. } if json => Err("run does not support --json".into()),
        Command::Reload | Command::Check | Command::Show | Command::Login(_) if json => {
            Err("--json is only valid with status, queue, history, devices, providers and test".into())
        }
        Command::Run { .. } => Ok(Asked::Do(command, file)),
        Command::Test(_) if !foreground => Ok(Asked::Do(command, file)),
        _ if verbose => Err("--verbose is only valid with test".into()),
        _ if foreground => Err("--foreground is only valid with run".into()),
        _ => Ok(Asked::Do(command, file)),
    }
}

fn change(method: &'static str, id: &str) -> Question {
    Question::Change { method, id: id.into() }
}

fn question(words: &[&str]) -> Result<Question, String> {
    Ok(match words {
        ["status"] => Question::Status,
        ["queue"] | ["queue", "list"] => Question::Queue,
        ["queue", "show", id] => Question::Show((*id).into()),
        ["queue", "show"] => return Err("queue show requires a message ID".into()),
        ["queue", "retry", id] => change("retry", id),
        ["queue", "hold", id] => change("hold", id),
        ["queue", "release", id] => change("release", id),
        ["queue", "delete", id] => change("delete", id),
        ["queue", method @ ("retry" | "hold" | "release" | "delete")] => {
            return Err(format!("queue {method} requires a message ID or all"));
        }
        ["history"] => Question::History,
        ["devices"] => Question::Devices,
        ["wake"] => Question::Wake("asked".into()),
        ["wake", reason] => Question::Wake((*reason).into()),
        words => return Err(format!("unknown command {}", words.join(" "))),
    })
}

/// The arguments after the name of a program that has options of its own, and `--config FILE`, which is ours.
fn settings_file(arguments: &[OsString], mut file: PathBuf) -> Result<(Vec<String>, PathBuf), String> {
    let mut rest = Vec::new();
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--config") => file = arguments.next().ok_or("--config requires a file name")?.into(),
            Some(text) => rest.push(text.to_string()),
            None => return Err(format!("not UTF-8: {}", argument.display())),
        }
    }
    Ok((rest, file))
}

/// The options of Postfix's postqueue that have a meaning here.
fn postqueue(words: &[String]) -> Result<Command, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (question, json) = match words.as_slice() {
        ["-p"] => (Question::Queue, false),
        ["-j"] => (Question::Queue, true),
        ["-f"] => (change("retry", "all"), false),
        ["-i", id] => (change("retry", id), false),
        _ => {
            return Err(
                "postqueue -p lists the queue, -j lists it as JSON, -f retries all messages, -i ID retries one message"
                    .into(),
            );
        }
    };
    Ok(Command::Ask { question, json })
}

/// `sendmail` and `msmtp`, whose options follow their own rules. The first argument is the name.
fn parse_send(arguments: &[OsString], file: PathBuf, style: Style) -> Result<Asked, String> {
    let (mut rest, file) = settings_file(arguments, file)?;
    match rest.first().map(String::as_str) {
        Some("--version") => return Ok(Asked::Print(format!("smtprelay {VERSION}\n"))),
        Some("--help") => return Ok(Asked::Print(HELP.into())),
        _ => {}
    }
    let all = rest.len();
    rest.retain(|word| word != "-bp");
    let command = match rest.len() < all {
        true => Command::Ask { question: Question::Queue, json: false },
        false => Command::Send(Request::parse(&rest, style)?),
    };
    Ok(Asked::Do(command, file))
}

//! From arguments to a command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::test_mail::Test;
use smtprelay::message::is_address;
use smtprelay::report::hook::helper;
use smtprelay::submit::{Request, Style};
use smtprelay::{VERSION, config};

const HELP: &str = "\
smtprelay: mail gateway for devices that cannot speak modern mail
usage: smtprelay COMMAND [--config FILE]
  run [--foreground]   relay mail; with --foreground log to stderr instead of syslog
  reload               have the running gateway take over the settings as they are now; open connections stay
  check                check the settings: exit code 0 when they can be used
  show                 print the effective settings, defaults filled in, passwords masked
  status [--json]      how things are: account, queue, what a power cut would lose
  queue [--json]       list the mail that waits, and why
  queue show ID [--json]
                       one message: its header and every try so far
  queue retry ID|all   try now
  queue hold ID|all    keep back until released
  queue release ID|all
  queue delete ID|all  remove without a notice to anybody
  providers [NAME] [--json]
                       mail providers that are known, or all that is known about one
  history [--json]     the last verdicts
  devices [--json]     who sent, or tried to
  wake [REASON]        something outside has changed (uplink, clock): try everything now
  test [ACCOUNT] RCPT [--verbose] [--json]
                       send one test mail at once and show each step; --verbose: and all that was said
  password ACCOUNT [--delete]
                       store the password of an account encrypted: asks for it, or reads a line from stdin
  login ACCOUNT        sign in with the provider, for an account with auth 'xoauth2'
  send [OPTIONS] [RECIPIENT...]
                       send the message on stdin, like sendmail:
                         -t       recipients are in the header
                         -f ADDR  envelope sender
                         -i, -oi  a lone dot does not end the message
  --config FILE        settings, default /etc/config/smtprelay
  --version, --help
Called as sendmail or msmtp it sends, as mailq or postqueue -p it lists the queue, as postqueue -f it tries everything.
Signals: SIGHUP reads the settings again (only where the gateway still may: use reload), SIGTERM ends in order.
Exit codes: 0 done, 1 failed, 64 wrong command line, 66 no such message, 69 the gateway does not run, 75 not now.
";

/// Something to ask the running gateway.
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

/// What was asked for: a command with its settings file, or only a text to print.
pub enum Asked {
    Do(Command, PathBuf),
    /// Store a password: this does not need settings that can be used.
    Password {
        account: String,
        delete: bool,
        file: PathBuf,
    },
    /// Be the process that runs the hook, this program.
    Hook(PathBuf),
    Print(String),
}

/// Reads the arguments.
///
/// # Errors
/// What is wrong with them.
pub fn parse(arguments: Vec<OsString>) -> Result<Asked, String> {
    let called = arguments.first().map(|name| Path::new(name).file_name().unwrap_or_default().to_os_string());
    let default = PathBuf::from(config::DEFAULT_FILE);
    let list = || Command::Ask { question: Question::Queue, json: false };
    match called.as_deref().and_then(|name| name.to_str()) {
        // mailq has taken options of all kinds in its time, and none of them means anything here.
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
        // Not for people, so not in the help.
        [helper::COMMAND, program] => return Ok(Asked::Hook((*program).into())),
        ["jail-mounts"] => Command::JailMounts,
        ["reload"] => Command::Reload,
        ["check"] => Command::Check,
        ["show"] => Command::Show,
        ["providers"] => return super::providers::providers(None, json).map(Asked::Print),
        ["providers", name] => return super::providers::providers(Some(name), json).map(Asked::Print),
        ["test", to] | ["test", _, to] if !is_address(to) => {
            return Err(format!("'{to}' is no mail address: test needs who is to get the mail"));
        }
        ["test", account @ .., to] if account.len() < 2 => {
            Command::Test(Test { account: account.concat(), to: (*to).into(), verbose, json })
        }
        ["test"] => return Err("test needs who is to get the mail".into()),
        ["login", account] => Command::Login((*account).into()),
        ["password", _] if json || foreground => return Err("password has only --delete".into()),
        ["password", account] => return Ok(Asked::Password { account: (*account).into(), delete, file }),
        ["password"] => return Err("password needs the name of an account".into()),
        // A word on the command line can be seen by all.
        ["password", ..] => return Err("password takes the name of an account alone, and asks for the password".into()),
        ["login"] => return Err("login needs the name of an account".into()),
        ["help"] => return Ok(Asked::Print(HELP.into())),
        [] => return Err("no command".into()),
        words => Command::Ask { question: question(words)?, json },
    };
    match &command {
        _ if delete => Err("--delete belongs behind password".into()),
        Command::Run { .. } if json => Err("run has no --json".into()),
        Command::Reload | Command::Check | Command::Show | Command::Login(_) if json => {
            Err("only status, queue, history, devices, providers and test have --json".into())
        }
        Command::Run { .. } => Ok(Asked::Do(command, file)),
        Command::Test(_) if !foreground => Ok(Asked::Do(command, file)),
        _ if verbose => Err("--verbose belongs behind test".into()),
        _ if foreground => Err("--foreground belongs behind run".into()),
        _ => Ok(Asked::Do(command, file)),
    }
}

fn question(words: &[&str]) -> Result<Question, String> {
    Ok(match words {
        ["status"] => Question::Status,
        ["queue"] | ["queue", "list"] => Question::Queue,
        ["queue", "show", id] => Question::Show((*id).into()),
        ["queue", method @ ("retry" | "hold" | "release" | "delete"), id] => {
            let method = match *method {
                "retry" => "retry",
                "hold" => "hold",
                "release" => "release",
                _ => "delete",
            };
            Question::Change { method, id: (*id).into() }
        }
        ["queue", method @ ("show" | "retry" | "hold" | "release" | "delete")] => {
            return Err(format!(
                "queue {method} needs the ID of a message{}",
                if *method == "show" { "" } else { ", or all" }
            ));
        }
        ["history"] => Question::History,
        ["devices"] => Question::Devices,
        ["wake"] => Question::Wake("asked".into()),
        ["wake", reason] => Question::Wake((*reason).into()),
        words => return Err(format!("unknown command {}", words.join(" "))),
    })
}

/// The arguments behind the name of a program that has options of its own, and `--config FILE`, which is ours.
fn settings_file(arguments: &[OsString], mut file: PathBuf) -> Result<(Vec<String>, PathBuf), String> {
    let mut rest = Vec::new();
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--config") => file = arguments.next().ok_or("--config needs a file")?.into(),
            Some(text) => rest.push(text.to_string()),
            None => return Err(format!("not UTF-8: {}", argument.display())),
        }
    }
    Ok((rest, file))
}

/// The options of Postfix's postqueue that have a meaning here.
fn postqueue(words: &[String]) -> Result<Command, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let retry = |id: &str| Question::Change { method: "retry", id: id.into() };
    let (question, json) = match words.as_slice() {
        ["-p"] => (Question::Queue, false),
        ["-j"] => (Question::Queue, true),
        ["-f"] => (retry("all"), false),
        ["-i", id] => (retry(id), false),
        _ => {
            return Err(
                "postqueue -p lists the queue, -j lists it as JSON, -f tries everything, -i ID one message".into()
            );
        }
    };
    Ok(Command::Ask { question, json })
}

/// `sendmail` and `msmtp`, whose options have rules of their own. The first argument is the name.
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

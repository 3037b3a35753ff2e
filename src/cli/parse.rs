// SPDX-License-Identifier: Apache-2.0
//! From arguments to a command.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use super::queue::Filter;
use super::setup::Setup;
use super::test_mail::Test;
use super::{Failure, exit, usage};
use smtprelay::config::units;
use smtprelay::message::is_one_address;
use smtprelay::report::hook;
use smtprelay::submit::{Fault, Request, Style, Work};
use smtprelay::{VERSION, config};

/// A query to the running gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    Status {
        /// As a monitoring plugin.
        check: bool,
        /// For Prometheus.
        prometheus: bool,
    },
    /// List the queue.
    Queue(Filter),
    /// The queue as Postfix prints it: a JSON object a line.
    PostfixQueue,
    /// Show one message.
    Show {
        id: String,
        body: bool,
    },
    /// `retry`, `hold`, `release` or `delete` one message or all.
    Change {
        method: &'static str,
        id: String,
        /// Whether deleting everything need not be confirmed.
        sure: bool,
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
    Ask(Question),
    Login(String),
    Test(Test),
    Setup(Setup),
    Send(Request),
}

/// What was requested: a command with its settings file, or what needs none.
pub enum Asked {
    Do {
        command: Command,
        file: PathBuf,
        json: bool,
    },
    /// Store a password: this does not require valid settings.
    Password {
        account: String,
        delete: bool,
        file: PathBuf,
        json: bool,
    },
    /// The gateway's lines in the system log.
    Log {
        id: Option<String>,
        follow: bool,
    },
    /// Become the script that reads the settings of another relay, with these arguments.
    Import(Vec<OsString>),
    /// Be the process that runs this program, the hook.
    Hook(PathBuf),
    Print(String),
}

/// Options without a value, and those with one. Which command takes which is in its help.
const FLAGS: [&str; 10] =
    ["body", "check", "delete", "follow", "foreground", "help", "json", "prometheus", "verbose", "yes"];
const VALUES: [&str; 11] =
    ["account", "client-id", "config", "device", "host", "newer", "older", "port", "provider", "recipient", "tls"];

/// Parses the arguments.
///
/// # Errors
/// What is wrong with them.
pub fn parse(arguments: Vec<OsString>) -> Result<Asked, Failure> {
    let called = arguments.first().map(|name| Path::new(name).file_name().unwrap_or_default().to_os_string());
    let rest = arguments.get(1..).unwrap_or_default();
    match called.as_deref().and_then(|name| name.to_str()) {
        // mailq has accepted all kinds of options over time, and none of them has a meaning here.
        Some("mailq") => return Ok(ask(all_messages(), settings_file(rest)?.1)),
        Some("postqueue") => {
            let (words, file) = settings_file(rest)?;
            return Ok(ask(postqueue(&words)?, file));
        }
        Some("sendmail") => return send(rest, Style::Sendmail),
        Some("msmtp") => return send(rest, Style::Msmtp),
        _ => {}
    }
    if let Some(place) = command_place(rest) {
        let mut words = rest.to_vec();
        match words.remove(place).to_str() {
            Some("send") => return send(&words, Style::Own),
            Some("import") => return import(words),
            _ => {}
        }
    }
    own(arguments)
}

/// Where the command is: behind the settings file, which may come first.
fn command_place(arguments: &[OsString]) -> Option<usize> {
    let mut place = 0;
    loop {
        let argument = arguments.get(place)?.to_str()?;
        place += match argument {
            "-c" | "--config" => 2,
            joined if joined.starts_with("--config=") || joined.starts_with("-c") => 1,
            _ => return Some(place),
        };
    }
}

fn usage_error(text: impl Into<String>) -> Failure {
    (exit::USAGE, format!("{}; try 'smtprelay help'", text.into()))
}

/// An error of a command, whose help says more.
fn misused(command: &str, text: impl Into<String>) -> Failure {
    (exit::USAGE, format!("{}; try 'smtprelay help {command}'", text.into()))
}

fn unknown_option(option: &str) -> Failure {
    let suggestion = usage::suggestion(option, FLAGS.into_iter().chain(VALUES).chain(["version"]));
    let suggestion = suggestion.replace(" '", " '--");
    usage_error(format!("unknown option '--{option}'{suggestion}"))
}

/// The options that were given.
#[derive(Default)]
struct Given {
    flags: Vec<&'static str>,
    values: BTreeMap<&'static str, OsString>,
    words: Vec<String>,
}

impl Given {
    fn read(arguments: Vec<OsString>) -> Result<Self, Failure> {
        let mut parser = lexopt::Parser::from_iter(arguments);
        let mut given = Self::default();
        while let Some(argument) = parser.next().map_err(|error| usage_error(error.to_string()))? {
            use lexopt::prelude::*;
            let name = match argument {
                Value(word) => {
                    let word = word.into_string();
                    given.words.push(word.map_err(|word| usage_error(format!("not UTF-8: {}", word.display())))?);
                    continue;
                }
                Short('V') | Long("version") => {
                    given.words.insert(0, "version".into());
                    continue;
                }
                Short('h') => "help",
                Short('c') => "config",
                Short('v') => "verbose",
                Short('f') => "follow",
                Short(other) => return Err(usage_error(format!("unknown option '-{other}'"))),
                Long(name) => {
                    FLAGS.into_iter().chain(VALUES).find(|known| *known == name).ok_or_else(|| unknown_option(name))?
                }
            };
            if FLAGS.contains(&name) {
                given.flags.push(name);
            } else {
                let value = parser.value().map_err(|error| usage_error(error.to_string()))?;
                given.values.insert(name, value);
            }
        }
        Ok(given)
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// That this command takes all of the options.
    fn fit(&self, command: &str) -> Result<(), Failure> {
        let names = self.flags.iter().chain(self.values.keys()).filter(|name| **name != "config");
        for name in names {
            if !usage::allows(command, &format!("--{name}")) {
                return Err(misused(command, format!("option --{name} is not valid with {command}")));
            }
        }
        Ok(())
    }
}

fn own(arguments: Vec<OsString>) -> Result<Asked, Failure> {
    let given = Given::read(arguments)?;
    let file = given.values.get("config").map_or_else(|| PathBuf::from(config::DEFAULT_FILE), PathBuf::from);
    let words: Vec<&str> = given.words.iter().map(String::as_str).collect();
    let json = given.has("json");
    if given.has("help") || words.first() == Some(&"help") {
        let words = words.strip_prefix(&["help"]).unwrap_or(&words);
        return help(words);
    }
    let commands = usage::names();
    let two = words.get(..2).map(|two| two.join(" ")).filter(|two| commands.contains(&two.as_str()));
    let name = match (two, words.first()) {
        (Some(two), _) => two,
        (None, Some(first)) => first.to_string(),
        (None, None) => return Err(usage_error("no command given")),
    };
    match words.as_slice() {
        // Not meant for users, so not in the help.
        [hook::COMMAND, program] => return Ok(Asked::Hook((*program).into())),
        ["jail-mounts"] => return Ok(Asked::Do { command: Command::JailMounts, file, json: false }),
        _ if !commands.contains(&name.as_str()) => return Err(unknown_command(&words, &commands)),
        _ => given.fit(&name)?,
    }
    let misused = |text: &str| misused(&name, text);
    let command = match words.as_slice() {
        ["version", ..] if json => return Ok(Asked::Print(format!("{{\"version\":\"{VERSION}\"}}\n"))),
        ["version", ..] => return Ok(Asked::Print(format!("smtprelay {VERSION}\n"))),
        ["run"] => Command::Run { foreground: given.has("foreground") },
        ["reload"] => Command::Reload,
        ["check"] => Command::Check,
        ["show"] => Command::Show,
        ["providers"] => return super::providers::providers(None, json).map(Asked::Print),
        ["providers", name] => return super::providers::providers(Some(name), json).map(Asked::Print),
        ["services"] => return Ok(Asked::Print(super::providers::services(json))),
        ["test", to] | ["test", _, to] if !is_one_address(to) => {
            return Err((
                exit::DATA,
                format!("'{to}' is not a mail address: test requires the recipient of the test mail"),
            ));
        }
        ["test", account @ .., to] if account.len() < 2 => {
            let verbose = given.has("verbose");
            Command::Test(Test { account: account.concat(), to: (*to).into(), verbose, json })
        }
        ["test"] => return Err(misused("test requires the recipient of the test mail")),
        ["setup", address] if !is_one_address(address) => {
            return Err((exit::DATA, format!("'{address}' is not a mail address: setup requires yours")));
        }
        ["setup", address] => {
            let port = given.text("port").map(|port| port.parse::<NonZeroU16>().map(NonZeroU16::get)).transpose();
            let (host, tls) = (given.text("host"), given.text("tls"));
            // What the settings would refuse as well, but with a line of a file that is not written.
            if host.as_deref().is_some_and(|host| !config::is_server(host)) {
                return Err(misused("--host requires a host name without a port, which is --port"));
            }
            if tls.as_deref().is_some_and(|mode| !matches!(mode, "implicit" | "starttls")) {
                return Err(misused("--tls requires implicit or starttls"));
            }
            Command::Setup(Setup {
                address: (*address).into(),
                account: given.text("account"),
                provider: given.text("provider"),
                host,
                port: port.map_err(|_| misused("--port requires a number from 1 to 65535"))?,
                tls,
                client_id: given.text("client-id"),
            })
        }
        ["setup"] => return Err(misused("setup requires your mail address")),
        ["login", account] => Command::Login((*account).into()),
        ["login"] => return Err(misused("login requires an account name")),
        ["password", account] => {
            return Ok(Asked::Password { account: (*account).into(), delete: given.has("delete"), file, json });
        }
        ["password"] => return Err(misused("password requires an account name")),
        // A word on the command line is visible to all users.
        ["password", ..] => {
            return Err(misused("password takes only an account name, and prompts for the password"));
        }
        ["log"] => return Ok(Asked::Log { id: None, follow: given.has("follow") }),
        ["log", id] => return Ok(Asked::Log { id: Some(id.to_ascii_uppercase()), follow: given.has("follow") }),
        words => Command::Ask(question(words, &given).map_err(|text| misused(&text))?),
    };
    Ok(Asked::Do { command, file, json })
}

fn help(words: &[&str]) -> Result<Asked, Failure> {
    if words.is_empty() {
        return Ok(Asked::Print(usage::HELP.into()));
    }
    // The longest name that fits: what follows are its arguments.
    let two = words.get(..2).and_then(|two| usage::of(&two.join(" ")));
    let found = two.or_else(|| usage::of(words.first()?));
    found.map(Asked::Print).ok_or_else(|| unknown_command(words, &usage::names()))
}

fn unknown_command(words: &[&str], commands: &[&str]) -> Failure {
    let first = words.first().copied().unwrap_or_default();
    let suggestion = usage::suggestion(first, commands.iter().copied());
    usage_error(format!("unknown command '{first}'{suggestion}"))
}

fn question(words: &[&str], given: &Given) -> Result<Question, String> {
    let change =
        |method, id: &str| Question::Change { method, id: id.into(), sure: given.has("yes") || given.has("json") };
    Ok(match words {
        ["status"] if given.has("prometheus") && (given.has("check") || given.has("json")) => {
            return Err("--prometheus is a format of its own, without --check and --json".into());
        }
        ["status"] => Question::Status { check: given.has("check"), prometheus: given.has("prometheus") },
        ["queue"] | ["queue", "list"] => Question::Queue(filter(given)?),
        ["queue", "show", id] => Question::Show { id: (*id).into(), body: given.has("body") },
        ["queue", "retry", id] => change("retry", id),
        ["queue", "hold", id] => change("hold", id),
        ["queue", "release", id] => change("release", id),
        ["queue", "delete", id] => change("delete", id),
        ["queue", "show"] => return Err("queue show requires a message ID".into()),
        ["queue", method @ ("retry" | "hold" | "release" | "delete")] => {
            return Err(format!("queue {method} requires a message ID or all"));
        }
        ["queue", other, ..] => {
            let suggestion = usage::suggestion(other, ["list", "show", "retry", "hold", "release", "delete"]);
            return Err(format!("there is no command 'queue {other}'{suggestion}"));
        }
        ["history"] => Question::History,
        ["devices"] => Question::Devices,
        ["wake"] => Question::Wake("asked".into()),
        ["wake", reason] => Question::Wake((*reason).into()),
        words => return Err(format!("'{}' is one word too many", words.last().copied().unwrap_or_default())),
    })
}

fn filter(given: &Given) -> Result<Filter, String> {
    let age = |name: &str| match given.text(name) {
        None => Ok(None),
        Some(text) => match units::parse_duration(&text) {
            Some(age) if !text.is_empty() => Ok(Some(age.as_secs())),
            _ => Err(format!("--{name} '{text}' is not {}", units::DURATION_FORM)),
        },
    };
    Ok(Filter {
        device: given.text("device"),
        recipient: given.text("recipient"),
        account: given.text("account"),
        older: age("older")?,
        newer: age("newer")?,
    })
}

fn ask(question: Question, file: PathBuf) -> Asked {
    Asked::Do { command: Command::Ask(question), file, json: false }
}

fn all_messages() -> Question {
    Question::Queue(Filter::default())
}

/// The arguments of a program that has options of its own, and the settings file: `--config FILE` or `-c FILE`.
fn settings_file(arguments: &[OsString]) -> Result<(Vec<String>, PathBuf), Failure> {
    let (mut rest, mut file) = (Vec::new(), PathBuf::from(config::DEFAULT_FILE));
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            // What follows are addresses.
            Some("--") => {
                rest.push("--".into());
                for word in arguments.by_ref() {
                    rest.push(word.to_str().ok_or_else(|| usage_error("not UTF-8"))?.into());
                }
            }
            Some(option @ ("--config" | "-c")) => {
                let name: &OsStr =
                    arguments.next().ok_or_else(|| usage_error(format!("{option} requires a file name")))?;
                file = name.into();
            }
            Some(text) => match text.strip_prefix("--config=") {
                Some(name) => file = name.into(),
                None => rest.push(text.into()),
            },
            None => return Err(usage_error(format!("not UTF-8: {}", argument.display()))),
        }
    }
    Ok((rest, file))
}

/// The options of Postfix's postqueue that have a meaning here.
fn postqueue(words: &[String]) -> Result<Question, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let retry = |id: &str| Question::Change { method: "retry", id: id.into(), sure: true };
    Ok(match words.as_slice() {
        ["-p"] => all_messages(),
        ["-j"] => Question::PostfixQueue,
        ["-f"] => retry("all"),
        ["-i", id] => retry(id),
        [joined] if joined.len() > 2 && joined.starts_with("-i") => retry(joined.get(2..).unwrap_or_default()),
        _ => {
            return Err(usage_error(
                "postqueue -p lists the queue, -j lists it as JSON, -f retries all messages, -i ID retries one message",
            ));
        }
    })
}

/// The script checks its options itself.
fn import(arguments: Vec<OsString>) -> Result<Asked, Failure> {
    match arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        true => help(&["import"]),
        false => Ok(Asked::Import(arguments)),
    }
}

/// `send`, `sendmail` and `msmtp`, whose options follow their own rules.
fn send(arguments: &[OsString], style: Style) -> Result<Asked, Failure> {
    let (rest, file) = settings_file(arguments)?;
    match rest.first().map(String::as_str) {
        Some("--version") => return Ok(Asked::Print(format!("smtprelay {VERSION}\n"))),
        Some("--help") if style == Style::Own => return help(&["send"]),
        Some("--help") => return Ok(Asked::Print(usage::HELP.into())),
        _ => {}
    }
    let (rest, json) = match style {
        Style::Own => {
            let words = rest.iter().position(|word| word == "--").unwrap_or(rest.len());
            let is_json = |(place, word): &(usize, &String)| *place < words && *word == "--json";
            let json = rest.iter().enumerate().any(|word| is_json(&word));
            (rest.iter().enumerate().filter(|word| !is_json(word)).map(|(_, word)| word.clone()).collect(), json)
        }
        _ => (rest, false),
    };
    let request = Request::parse(&rest, style).map_err(|fault| match fault {
        Fault::Usage(text) => misused("send", text),
        Fault::Data(text) | Fault::Recipient(text) | Fault::Refused(text) => (exit::DATA, text),
    })?;
    Ok(match request.work {
        Work::Send => Asked::Do { command: Command::Send(request), file, json },
        Work::List => ask(all_messages(), file),
        Work::Retry(id) => ask(Question::Change { method: "retry", id, sure: true }, file),
    })
}

//! The command line.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use smtprelay::config::{self, Loaded, Settings};
use smtprelay::queue::Spool;
use smtprelay::queue::record::Progress;
use smtprelay::submit::{self, Request};
use smtprelay::system::logging::{self, Target};
use smtprelay::{VERSION, relay};

const HELP: &str = "\
smtprelay: mail gateway for devices that cannot speak modern mail

usage: smtprelay COMMAND [--config FILE]

  run [--foreground]   relay mail; with --foreground log to stderr instead of syslog
  check                check the settings: exit code 0 when they can be used
  show                 print the effective settings, defaults filled in, passwords masked
  queue                list the mail that waits
  send [OPTIONS] [RECIPIENT...]
                       send the message on stdin, like sendmail:
                         -t       recipients are in the header
                         -f ADDR  envelope sender
                         -i, -oi  a lone dot does not end the message

  --config FILE        settings, default /etc/config/smtprelay
  --version, --help

Called as sendmail it sends, called as mailq it lists the queue.
Signals: SIGHUP reads the settings again, SIGTERM ends in order.
";

/// Exit codes of sysexits.h, which callers of a sendmail look at.
const USAGE: u8 = 64;
const TEMPORARY: u8 = 75;

enum Command {
    Run { foreground: bool },
    Check,
    Show,
    Queue,
    Send(Request),
}

/// What was asked for: a command with its settings file, or only a text to print.
enum Asked {
    Do(Command, PathBuf),
    Print(String),
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args_os().collect()) {
        Ok(asked) => asked,
        Err(error) => {
            complain(&format!("{error}\ntry smtprelay --help"));
            return ExitCode::from(USAGE);
        }
    };
    match asked {
        Asked::Print(text) => print(&text),
        Asked::Do(command, file) => execute(command, &file),
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Asked, String> {
    let called = arguments.first().map(|name| Path::new(name).file_name().unwrap_or_default().to_os_string());
    let default = PathBuf::from(config::DEFAULT_FILE);
    match called.as_deref().and_then(|name| name.to_str()) {
        Some("mailq") => return Ok(Asked::Do(Command::Queue, default)),
        Some("sendmail") => return parse_send(arguments.get(1..).unwrap_or_default(), default),
        _ => {}
    }
    if arguments.get(1).is_some_and(|command| command == "send") {
        return parse_send(arguments.get(2..).unwrap_or_default(), default);
    }
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut command = None;
    let mut file = default;
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        use lexopt::prelude::*;
        match argument {
            Long("config") | Short('c') => file = parser.value().map_err(|e| e.to_string())?.into(),
            Long("foreground") => match &mut command {
                Some(Command::Run { foreground }) => *foreground = true,
                _ => return Err("--foreground belongs behind run".into()),
            },
            Long("version") | Short('V') => return Ok(Asked::Print(format!("smtprelay {VERSION}\n"))),
            Long("help") | Short('h') => return Ok(Asked::Print(HELP.into())),
            Value(word) if command.is_none() => {
                command = Some(match word.to_str() {
                    Some("run") => Command::Run { foreground: false },
                    Some("check") => Command::Check,
                    Some("show") => Command::Show,
                    Some("queue") => Command::Queue,
                    Some("help") => return Ok(Asked::Print(HELP.into())),
                    _ => return Err(format!("unknown command {}", word.display())),
                });
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    command.map(|command| Asked::Do(command, file)).ok_or_else(|| "no command".into())
}

/// Arguments of sendmail have rules of their own; only `--config FILE` is ours.
fn parse_send(arguments: &[OsString], mut file: PathBuf) -> Result<Asked, String> {
    let mut rest = Vec::new();
    let mut list = false;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--config") => file = arguments.next().ok_or("--config needs a file")?.into(),
            Some("-bp") => list = true,
            Some(text) => rest.push(text.to_string()),
            None => return Err(format!("not UTF-8: {}", argument.display())),
        }
    }
    let command = if list { Command::Queue } else { Command::Send(Request::parse(&rest)?) };
    Ok(Asked::Do(command, file))
}

fn execute(command: Command, file: &Path) -> ExitCode {
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error.to_string());
            if let Command::Run { foreground } = command {
                // Nobody sees stderr of a service.
                start_log(foreground, log::LevelFilter::Info);
                log::error!(target: "smtprelay", "event=not_started text=\"{}\"", error.to_string().replace('"', "'"));
                log::logger().flush();
            }
            return ExitCode::FAILURE;
        }
    };
    match command {
        Command::Run { foreground } => run(file, loaded, foreground),
        Command::Check => {
            loaded.warnings.iter().for_each(|w| complain(&config::describe(file, w)));
            print(&format!("{}: the settings can be used\n", file.display()))
        }
        Command::Show => print(&config::show(&loaded.settings)),
        Command::Queue => queue(&loaded.settings),
        Command::Send(request) => send(request, &loaded.settings),
    }
}

fn complain(text: &str) {
    // There is nobody to tell when stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn start_log(foreground: bool, level: log::LevelFilter) {
    logging::init(if foreground { Target::Stderr } else { Target::Syslog }, level);
}

/// One thread for everything that waits, a few for disks and the name service.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    const BLOCKING_THREADS: usize = 8;
    const STACK: usize = 512 << 10;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS).thread_stack_size(STACK).build()
}

fn run(file: &Path, loaded: Loaded, foreground: bool) -> ExitCode {
    start_log(foreground, loaded.settings.relay.log_level);
    for warning in &loaded.warnings {
        log::warn!(target: "smtprelay", "event=advice text=\"{}\"", config::describe(file, warning).replace('"', "'"));
    }
    if !loaded.settings.relay.enabled {
        log::info!(target: "smtprelay", "event=not_started text=\"option enabled of section relay is 0\"");
        log::logger().flush();
        return ExitCode::SUCCESS;
    }
    end_on_panic();
    let result = match runtime() {
        Ok(runtime) => {
            let result = runtime.block_on(relay::run(file.to_path_buf(), loaded.settings));
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            result
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = &result {
        log::error!(target: "smtprelay", "event=not_started text=\"{}\"", format!("{error:#}").replace('"', "'"));
    }
    log::logger().flush();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A fault in one task ends the process, however it was compiled: it is started again and finds everything in the queue,
/// while a half-dead program would accept mail and send none.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |fault| {
        log::error!(target: "smtprelay", "event=crashed text=\"{}\"", fault.to_string().replace('"', "'"));
        log::logger().flush();
        print(fault);
        std::process::abort();
    }));
}

fn send(request: Request, settings: &Settings) -> ExitCode {
    let sent = match runtime() {
        Ok(runtime) => runtime.block_on(submit::send(request, std::io::stdin().lock(), settings)),
        Err(error) => Err(error.into()),
    };
    match sent {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("smtprelay: not sent: {error:#}"));
            ExitCode::from(TEMPORARY)
        }
    }
}

/// Lists the queue: a block a message, as mailq does.
fn queue(settings: &Settings) -> ExitCode {
    let listed = match Spool::list(&settings.relay) {
        Ok(listed) => listed,
        Err(error) => {
            complain(&format!("smtprelay: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if listed.is_empty() {
        return print("Mail queue is empty\n");
    }
    let mut text = String::new();
    let mut unreadable = false;
    for (id, message) in &listed {
        match message {
            Ok((meta, state, size)) => {
                let arrived = smtprelay::message::date::rfc5322(meta.arrived);
                text.push_str(&format!(
                    "{id}  {size} bytes  {arrived}  <{}>  via {}\n",
                    meta.envelope.from, meta.client
                ));
                for recipient in &state.recipients {
                    let progress = match recipient.progress {
                        Progress::Waiting => "waits",
                        Progress::Delivered => "delivered",
                        Progress::Failed => "failed",
                    };
                    text.push_str(&format!("    <{}> {progress}", recipient.address));
                    if !recipient.text.is_empty() {
                        text.push_str(&format!(": {}", recipient.text));
                    }
                    text.push('\n');
                }
            }
            Err(error) => {
                unreadable = true;
                text.push_str(&format!("{id}  {error}\n"));
            }
        }
    }
    text.push_str(&format!(
        "{} waiting\n",
        if listed.len() == 1 { "1 message".into() } else { format!("{} messages", listed.len()) }
    ));
    let printed = print(&text);
    if unreadable { ExitCode::FAILURE } else { printed }
}

//! The command line.

mod commands;

use std::path::Path;
use std::process::ExitCode;

use commands::{Asked, Command, ask, complain, exit, login, parse, password, print, test, wait_for};
use smtprelay::config::{self, Loaded, Settings, Severity};
use smtprelay::relay;
use smtprelay::submit::{self, Request};
use smtprelay::system::logging::{self, Target};

fn main() -> ExitCode {
    let asked = match parse(std::env::args_os().collect()) {
        Ok(asked) => asked,
        Err(error) => {
            complain(&format!("{error}\ntry smtprelay --help"));
            return ExitCode::from(exit::USAGE);
        }
    };
    match asked {
        Asked::Print(text) => print(&text),
        Asked::Password { account, delete, file } => password(&account, delete, &file),
        Asked::Do(command, file) => execute(command, &file),
    }
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
        Command::Ask { question, json } => ask(&question, json, &loaded.settings),
        Command::Login(account) => login(&account, &loaded.settings, runtime()),
        Command::Test(what) => test(&what, &loaded.settings, runtime()),
        Command::Send(request) => send(request, &loaded.settings),
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
        let level = if warning.severity == Severity::Note { log::Level::Info } else { log::Level::Warn };
        log::log!(target: "smtprelay", level, "event=advice text=\"{}\"", config::describe(file, warning).replace('"', "'"));
    }
    if !loaded.settings.relay.enabled {
        log::info!(target: "smtprelay", "event=not_started text=\"option enabled of section relay is 0\"");
        log::logger().flush();
        return ExitCode::SUCCESS;
    }
    end_on_panic();
    let result = match runtime() {
        Ok(runtime) => {
            let result = wait_for(&runtime, relay::run(file.to_path_buf(), loaded.settings));
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
        Ok(runtime) => wait_for(&runtime, submit::send(request, std::io::stdin().lock(), settings)),
        Err(error) => Err(error.into()),
    };
    match sent {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("smtprelay: not sent: {error:#}"));
            ExitCode::from(exit::TEMPORARY)
        }
    }
}

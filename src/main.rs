// SPDX-License-Identifier: Apache-2.0
//! The command line.

// A device, a provider, a file or a full disk must not be able to end the program.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod cli;

#[global_allocator]
static HEAP: smtprelay::system::heap::Heap = smtprelay::system::heap::Heap;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use cli::{
    Asked, Command, ask, ask_running_only, check, complain, exit, fail, fail_in_json, import, login, mounts,
    new_runtime, parse, password, print, reload, setup, show_log, spool_in_use, spool_of, test, wait_for,
};
use smtprelay::config::{self, ConfigError, Loaded, Severity};
use smtprelay::daemon;
use smtprelay::daemon::startup::prepare;
use smtprelay::inbound::accept::LOCAL_SOCKET;
use smtprelay::report::hook;
use smtprelay::submit::{self, Fault, Request};
use smtprelay::system;
use smtprelay::system::logging::{self, Target};

fn main() -> ExitCode {
    // Before anything is opened or started.
    system::keep_descriptors();
    system::crash::report();
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.iter().any(|argument| argument == "--json") {
        fail_in_json();
    }
    match parse(arguments) {
        Err(failure) => fail(failure),
        Ok(Asked::Print(text)) => print(&text),
        Ok(Asked::Password { account, delete, file, json }) => password(&account, delete, &file, json),
        Ok(Asked::Log { id, follow }) => show_log(id.as_deref(), follow),
        Ok(Asked::Do { command, file, json }) => execute(command, &file, json),
        Ok(Asked::Import(arguments)) => import(arguments),
        Ok(Asked::Hook(program)) => run_hooks(&program),
    }
}

/// The gateway is connected to standard input.
fn run_hooks(program: &Path) -> ExitCode {
    let input = std::io::stdin().as_fd().try_clone_to_owned();
    match input.and_then(|input| hook::serve(program, input.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn execute(command: Command, file: &Path, json: bool) -> ExitCode {
    match &command {
        Command::Reload => return reload(file, json),
        Command::Check => return check(file, json),
        Command::Setup(wanted) => return setup(wanted, file, new_runtime()),
        _ => {}
    }
    let mut loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => return without_settings(command, file, json, &error),
    };
    smtprelay::report::subject::show(loaded.settings.relay.log_subject);
    if matches!(command, Command::Ask(_) | Command::Login(_) | Command::Test(_) | Command::Send(_)) {
        // A gateway that is running keeps its directory until its next start.
        loaded.settings.relay.spool = spool_in_use(&loaded.settings.relay.spool, file);
    }
    match command {
        Command::Run { foreground } => run(file, loaded, foreground),
        // Handled above: they report more about settings that are not valid.
        Command::Reload | Command::Check | Command::Setup(_) => ExitCode::FAILURE,
        Command::JailMounts => mounts(file, &loaded.settings),
        Command::Show if json => print(&cli::settings_as_json(&config::show(&loaded.settings))),
        Command::Show => print(&config::show(&loaded.settings)),
        Command::Ask(question) => ask(&question, json, &loaded.settings, file),
        Command::Login(account) => login(&account, &loaded.settings, new_runtime()),
        Command::Test(what) => test(&what, &loaded.settings, file, new_runtime()),
        Command::Send(request) => send(request, &loaded.settings, json),
    }
}

/// What can be done although the settings are not valid.
fn without_settings(command: Command, file: &Path, json: bool, error: &ConfigError) -> ExitCode {
    match command {
        Command::Send(request) => send_blindly(request, file, json, error),
        Command::Run { foreground } => {
            complain(&error.to_string());
            // The stderr of a service is not visible.
            logging::init(open_log(foreground), log::LevelFilter::Info);
            log::error!(target: "smtprelay", "event=not_started text=\"{}\"", error.to_string().replace('"', "'"));
            log::logger().flush();
            ExitCode::FAILURE
        }
        Command::Ask(question) => {
            let spool = spool_of(file, error);
            let running = ask_running_only(&question, json, &spool, file);
            if running.is_some() {
                complain(&error.to_string());
            }
            running.unwrap_or_else(|| fail((1, error.to_string())))
        }
        _ => fail((1, error.to_string())),
    }
}

fn open_log(foreground: bool) -> logging::Opened {
    logging::open(if foreground { Target::Stderr } else { Target::Syslog })
}

fn run(file: &Path, loaded: Loaded, foreground: bool) -> ExitCode {
    let (log, level) = (open_log(foreground), loaded.settings.relay.log_level);
    if !loaded.settings.relay.enabled {
        logging::init(log, level);
        log::info!(target: "smtprelay", "event=not_started text=\"option enabled in section relay is 0\"");
        log::logger().flush();
        return ExitCode::SUCCESS;
    }
    let warnings: Vec<_> = loaded.warnings.iter().map(|w| (w.severity, config::describe(file, w))).collect();
    let prepared = prepare(file, loaded);
    // Logging has a thread of its own, so it is started only after privileges have been dropped.
    logging::init(log, level);
    for (severity, text) in warnings {
        let level = if severity == Severity::Note { log::Level::Info } else { log::Level::Warn };
        log::log!(target: "smtprelay", level, "event=advice text=\"{}\"", text.replace('"', "'"));
    }
    #[cfg(not(panic = "immediate-abort"))]
    end_on_panic();
    let result = prepared.and_then(|prepared| {
        let runtime = new_runtime()?;
        let result = wait_for(&runtime, daemon::run(prepared));
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        result
    });
    if let Err(error) = &result {
        log::error!(target: "smtprelay", "event=not_started text=\"{}\"", format!("{error:#}").replace('"', "'"));
    }
    log::logger().flush();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A panic in one task ends the process, however it was compiled: procd restarts it and it finds everything in the
/// queue, whereas a half-dead program would accept mail and send none. In the packages there is no text to log:
/// [`system::crash`].
#[cfg(not(panic = "immediate-abort"))]
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |fault| {
        log::error!(target: "smtprelay", "event=crashed text=\"{}\"", fault.to_string().replace('"', "'"));
        log::logger().flush();
        print(fault);
        std::process::abort();
    }));
}

/// Sends although the settings are not valid: a running gateway continues with its previous ones. Only root may read
/// them, while every user may send; a user who may not read them looks for the gateway at its default location.
fn send_blindly(request: Request, file: &Path, json: bool, error: &ConfigError) -> ExitCode {
    let closed = std::fs::File::open(file).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    let nothing = config::uci::Package { sections: Vec::new() };
    let (mut settings, _) = config::load::settings(&nothing);
    settings.relay.spool = spool_of(file, error);
    if !closed {
        complain(&error.to_string());
    }
    if !settings.relay.spool.join(LOCAL_SOCKET).exists() {
        let text = "not sent: the gateway is not running (or it runs with another configuration)";
        return fail((exit::TEMPORARY, text.into()));
    }
    send(request, &settings, json)
}

fn send(request: Request, settings: &config::Settings, json: bool) -> ExitCode {
    let sent = match new_runtime() {
        Ok(runtime) => wait_for(&runtime, submit::send(request, std::io::stdin().lock(), settings)),
        Err(error) => Err(error.into()),
    };
    match sent {
        Ok(reply) if json => print(&cli::sent_as_json(&reply)),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let code = match error.downcast_ref::<Fault>() {
                Some(Fault::Usage(_)) => exit::USAGE,
                Some(Fault::Data(_)) => exit::DATA,
                Some(Fault::Recipient(_)) => exit::NO_HOST,
                Some(Fault::Refused(_)) => exit::UNAVAILABLE,
                None => exit::TEMPORARY,
            };
            fail((code, format!("not sent: {error:#}")))
        }
    }
}
